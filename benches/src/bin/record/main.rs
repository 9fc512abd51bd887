//! The CPU backend against its peers: every row of the acceptance table, on both instruction sets, as a dated record.
//!
//! ```text
//! cargo run --release -p parhelion-benches --features arkworks --bin record -- --out benches/record/DATE-HARDWARE [--quick] [--only TEXT]
//! ```
//!
//! Writes `runs.csv`, every run of both sides, and `README.md`, a table of medians with the hardware and all versions. Both
//! sides run in the same process, alternately, on the same inputs; only peak memory is measured in a process per side. Each
//! instruction set is measured in a child process of its own, because a process chooses it once. Without the feature
//! `arkworks` its rows are left out, and the table says so.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement, not a library: what fails shall stop it"
)]

#[cfg(feature = "arkworks")]
mod arkworks;
#[path = "../../../../prover/tests/common/circuits.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the prover's tests")]
mod circuits;
#[path = "../../../../backend-cpu/examples/paired/kernels.rs"]
#[allow(dead_code, reason = "shared with the backend's example")]
mod kernels;
mod machine;
mod measure;
#[path = "../../../../prover/examples/paired_proof/peak.rs"]
#[allow(dead_code, reason = "shared with the prover's example")]
mod peak;
mod profile;
#[path = "../../../../prover/examples/paired_proof/proofs.rs"]
#[allow(dead_code, reason = "shared with the prover's example")]
mod proofs;
mod roofline;
mod table;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Parser;

use measure::{Plan, Sample};

#[derive(Parser)]
#[command(about = "Records the CPU backend against halo2-axiom and arkworks")]
struct Args {
    /// Directory for `runs.csv` and `README.md`; the name says date and hardware.
    #[arg(long)]
    out: PathBuf,
    /// Small sizes and few runs: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only measurements whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Only this instruction set.
    #[arg(long, value_parser = ["ifma", "scalar"])]
    isa: Option<String>,
    /// Internal: measure in this process and print samples.
    #[arg(long, hide = true)]
    measure: bool,
}

fn main() {
    let raw: Vec<String> = std::env::args().skip(1).collect();
    if peak::is_child(&raw) {
        return;
    }
    let args = Args::parse();
    let plan = Plan { quick: args.quick, only: args.only.clone() };
    if args.measure {
        return measure::all(&plan);
    }
    std::fs::create_dir_all(&args.out).expect("the directory can be made");
    let mut isas = machine::instruction_sets();
    if let Some(only) = &args.isa {
        isas.retain(|isa| isa == only);
    }
    let started = std::time::Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    for isa in &isas {
        samples.extend(child(isa, &args, started));
    }
    let mut csv = String::from("isa,operation,against,log_n,unit,run,ours,theirs\n");
    samples.iter().for_each(|sample| csv.push_str(&sample.csv()));
    std::fs::write(args.out.join("runs.csv"), csv).expect("the record can be written");
    let text = table::markdown(&samples, &isas, started.elapsed(), args.quick);
    std::fs::write(args.out.join("README.md"), &text).expect("the record can be written");
    println!("{text}");
}

/// Measures with one instruction set, in a process of its own.
fn child(isa: &str, args: &Args, started: std::time::Instant) -> Vec<Sample> {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--measure").arg("--out").arg(&args.out).env("PARHELION_CPU_ISA", isa).stdout(Stdio::piped());
    if args.quick {
        command.arg("--quick");
    }
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    let mut child = command.spawn().expect("a child process");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut samples = Vec::new();
    for line in out.lines() {
        let line = line.expect("text");
        let sample: Sample = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
        eprintln!("[{:>5.0} s] {isa}: {}", started.elapsed().as_secs_f64(), sample.line());
        samples.push(sample);
    }
    assert!(child.wait().expect("a child process").success(), "measuring with {isa} failed");
    samples
}
