//! Whole proofs, key generation and h(X) against halo2-axiom's own, interleaved, as JSON lines of medians.
//!
//! ```text
//! cargo run --release -p parhelion-prover --example paired_proof -- [ROUNDS] [SHAPE…] [--stages] [--peak]
//! ```
//!
//! Shapes: `wide-K` (12 advice and 6 fixed columns, degree 5), `lookups-K`, `permutation-K`, with K = log₂ of the rows;
//! without any, a selection. `ratio` is theirs / ours. `--peak` measures the peak memory of one proof instead, each side in
//! a process of its own (Linux); with `PEAK_STAGES` set, also of every stage of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement, not a library"
)]

#[path = "../../tests/common/circuits.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
mod circuits;
mod peak;
mod proofs;

use proofs::{round2, shape};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if peak::is_child(&args) {
        return;
    }
    let [stages, peaks] = ["--stages", "--peak"].map(|flag| args.iter().any(|a| a == flag));
    let rounds = args.iter().find_map(|a| a.parse().ok()).unwrap_or(5);
    let mut shapes: Vec<&str> =
        args.iter().map(String::as_str).filter(|a| a.contains('-') && !a.starts_with('-')).collect();
    if shapes.is_empty() {
        shapes = vec!["wide-12", "wide-15", "lookups-14", "permutation-14"];
    }
    let engine = parhelion_backends::default_engine().expect("an engine");
    for name in shapes {
        let Some(circuit) = shape(name) else {
            println!("{{\"error\": \"unknown shape {name}\"}}");
            continue;
        };
        if peaks {
            let [ours, theirs] = peak::compare(name, circuit);
            println!(
                "{}",
                serde_json::json!({
                    "op": "peak-rss", "shape": name, "log_n": circuit.k,
                    "ours_mb": round2(ours.peak_mb), "theirs_mb": round2(theirs.peak_mb),
                    "ours_before_mb": round2(ours.before_mb), "theirs_before_mb": round2(theirs.before_mb),
                    "ratio": round2(ours.peak_mb / theirs.peak_mb),
                })
            );
            continue;
        }
        let (rows, report) = proofs::paired(engine, circuit, rounds, true);
        for row in rows {
            let [ours, theirs] = [row.ours, row.theirs].map(|mut times| {
                times.sort_by(f64::total_cmp);
                times[times.len() / 2]
            });
            println!(
                "{}",
                serde_json::json!({
                    "op": row.op, "shape": name, "log_n": circuit.k, "rounds": rounds,
                    "ours_ms": round2(ours), "theirs_ms": round2(theirs), "ratio": round2(theirs / ours),
                })
            );
        }
        if let Some(report) = report.filter(|_| stages) {
            println!("{report}");
        }
    }
}
