//! Paired timings against halo2-axiom: every line of output is one JSON object with the medians of interleaved runs.
//!
//! ```text
//! cargo run --release -p parhelion-backend-cpu --example paired -- [msm|ntt|quotient|poly|all] [MIN_LOG_N] [MAX_LOG_N] [RUNS]
//! ```
//!
//! `PARHELION_CPU_ISA` chooses the instruction set, `RAYON_NUM_THREADS` the threads of both sides. `ratio` is theirs / ours.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reports to standard output and may stop"
)]

mod kernels;

use kernels::{Bench, Mix, Row};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let op = args.first().map_or("all", String::as_str);
    let number = |i: usize, default: u32| args.get(i).map_or(Ok(default), |a| a.parse());
    let (min, max, runs) = (number(1, 14)?, number(2, 18)?, number(3, 5)?);
    let print = |isa: &str, row: Row| {
        let (ours_ms, theirs_ms, ratio) = row.medians();
        println!(
            "{}",
            serde_json::json!({
                "op": row.op, "log_n": row.log_n, "isa": isa, "threads": rayon::current_num_threads(),
                "ours_ms": ours_ms, "theirs_ms": theirs_ms, "ratio": ratio,
            })
        );
    };
    let bench = Bench::new(runs as usize, &print)?;
    let msm = |bench: &Bench<'_>, log_n: u32| {
        let mut kinds = vec![
            Mix { op: "msm", count: 1, scalar: &kernels::uniform },
            Mix { op: "msm-mix", count: 1, scalar: &kernels::mixed },
            Mix { op: "msm-16bit", count: 1, scalar: &kernels::small },
            Mix { op: "msm-bit", count: 1, scalar: &kernels::bit },
        ];
        if log_n <= 15 {
            kinds.push(Mix { op: "msm-batch-16", count: 16, scalar: &kernels::uniform });
        }
        bench.msm(log_n, &kinds);
    };
    for (name, run) in [
        ("msm", &msm as &dyn Fn(&Bench<'_>, u32)),
        ("ntt", &|bench: &Bench<'_>, log_n| bench.ntt(log_n)),
        ("quotient", &|bench: &Bench<'_>, log_n| bench.quotient(log_n)),
        ("poly", &|bench: &Bench<'_>, log_n| bench.poly(log_n)),
    ] {
        if op == name || op == "all" {
            (min..=max).step_by(2).for_each(|log_n| run(&bench, log_n));
        }
    }
    Ok(())
}
