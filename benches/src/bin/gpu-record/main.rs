//! `gpu-record`: is an accelerator right, and how fast is it, next to the CPU backend of the same machine.
//!
//! One command, `gpu-record`, does everything in the order of [`plan`]: the conformance suite, byte identity of proofs, multiplications and
//! transforms of growing length with and without transfers, whole proofs, and, with `--peer`, proofs in turn with another prover's. Every figure goes to a CSV file as soon as it is
//! there, and a Markdown table is made of the file at the end. Where time is short, `--seconds` stops in good order between two figures, and the same
//! command goes on where it stopped. The program needs no toolchain where it runs.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../../../../cli/src/bench/circuit.rs"]
mod circuit;
#[path = "../../../../prover/tests/common/circuits.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the prover's test circuits, of which this uses some"
)]
mod circuits;
mod operations;
mod peer;
mod proofs;
mod record;
mod suite;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use parhelion_backend_api::Provider;

use record::{Figure, Record};

/// What to do; everything by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    All,
    Conformance,
    Identity,
    Msm,
    Ntt,
    Proof,
    /// Proofs in turn with the program of `--peer`.
    Peer,
    /// Only write the table again.
    Report,
}

/// Checks and times an accelerator against the CPU backend.
#[derive(Debug, Parser)]
struct Args {
    /// What to do.
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// The backend to record.
    #[arg(long, default_value = "sppark")]
    backend: String,
    /// Where the record goes.
    #[arg(long, default_value = "benches/record")]
    out: PathBuf,
    /// Name of the record's files; by default the backend's and the device's.
    #[arg(long)]
    name: Option<String>,
    /// Shortest and longest multiplication and transform, as log₂.
    #[arg(long, default_value_t = 16)]
    from: u32,
    #[arg(long, default_value_t = 24)]
    to: u32,
    /// log₂ of the rows of the proofs.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 18, 20, 22])]
    k: Vec<u32>,
    /// Runs of each measurement, after one that does not count.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Begin no measurement after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// A program that proves with halo2-axiom-gpu on the same card (`benches/peer-gpu`).
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Measure again what the record already has.
    #[arg(long)]
    again: bool,
}

/// A step that gives some figures.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Conformance,
    Identity,
    Msm(u32),
    Ntt(u32),
    Proof(u32),
    Peer(u32),
}

impl Step {
    /// What its figures are named by.
    fn key(&self) -> String {
        match self {
            Step::Conformance => "conformance".into(),
            Step::Identity => "identity".into(),
            Step::Msm(log_n) => format!("msm-{log_n}"),
            Step::Ntt(log_n) => format!("ntt-{log_n}"),
            Step::Proof(k) => format!("proof-{k}"),
            Step::Peer(k) => format!("peer-{k}"),
        }
    }
}

/// Everything that was asked for, correctness first.
fn plan(args: &Args) -> Vec<Step> {
    let want = |what| args.what == what || args.what == What::All;
    let mut steps = Vec::new();
    steps.extend(want(What::Conformance).then_some(Step::Conformance));
    steps.extend(want(What::Identity).then_some(Step::Identity));
    let lengths = || (args.from..=args.to).step_by(2);
    if want(What::Ntt) {
        steps.extend(lengths().map(Step::Ntt));
    }
    if want(What::Msm) {
        steps.extend(lengths().map(Step::Msm));
    }
    if want(What::Proof) {
        steps.extend(args.k.iter().copied().map(Step::Proof));
    }
    if want(What::Peer) && args.peer.is_some() {
        steps.extend(args.k.iter().copied().map(Step::Peer));
    }
    steps
}

/// The first device of a backend.
fn open(name: &str) -> Result<Provider> {
    let all = parhelion_backends::all();
    let Some(backend) = all.iter().find(|backend| backend.name() == name) else {
        let names: Vec<_> = all.iter().map(|backend| backend.name()).collect();
        bail!("this build has no backend {name}; it has {}", names.join(", "));
    };
    let devices = backend.probe()?;
    let device = devices.first().context("no device")?;
    backend.open(device).with_context(|| format!("{name}: {}", device.name))
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let args = Args::parse();
    if args.what == What::Peer && args.peer.is_none() {
        bail!("--peer names the program to compare with");
    }
    let start = Instant::now();
    let provider = open(&args.backend)?;
    let cpu = open("cpu")?;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| record::slug(&format!("{} {}", args.backend, provider.info.name)));
    let mut record = Record::open(&args.out, &name, &provider.info)?;
    println!("{}: {}; {} threads", args.backend, provider.info.name, rayon::current_num_threads());
    let (mut left, mut failed) = (Vec::new(), Vec::new());
    for step in if args.what == What::Report { Vec::new() } else { plan(&args) } {
        if record.has(&step.key()) && !args.again {
            continue;
        }
        if args.seconds.is_some_and(|most| start.elapsed() > Duration::from_secs(most)) {
            left.push(step.key());
            continue;
        }
        println!("{}", step.key());
        let figures: Result<Vec<Figure>> = match step {
            Step::Conformance => suite::conformance(&args.backend),
            Step::Identity => suite::identity(&cpu, &provider, &args.backend),
            Step::Msm(log_n) => operations::msm(&cpu, &provider, log_n, args.runs),
            Step::Ntt(log_n) => operations::ntt(&cpu, &provider, log_n, args.runs),
            Step::Proof(k) => proofs::proof(&cpu, &provider, &args.backend, k, args.runs.min(3)),
            Step::Peer(k) => {
                let program = args.peer.as_deref().context("--peer names the program")?;
                peer::against(program, &cpu, &provider, &args.backend, k, args.runs.min(3))
            }
        };
        match figures {
            Ok(figures) => {
                for figure in &figures {
                    println!("  {figure}");
                }
                record.add(&step.key(), &figures)?;
            }
            // A step that fails is not recorded; the others go on.
            Err(error) => {
                println!("  FAILED: {error:#}");
                failed.push(step.key());
            }
        }
    }
    let table = record.write_table()?;
    println!("{}", table.display());
    if !left.is_empty() {
        println!("not done yet, run again: {}", left.join(", "));
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
mod tests {
    use super::*;
    use parhelion_backend_api::Backend;
    use parhelion_backend_cpu::CpuBackend;
    use parhelion_conformance::Remote;

    #[test]
    fn every_step_runs_on_a_device_with_memory_of_its_own() {
        let cpu = open("cpu").unwrap();
        let remote = Remote::new(CpuBackend::new());
        let info = Backend::probe(&remote).unwrap().remove(0);
        let device = remote.open(&info).unwrap();
        let figures = operations::msm(&cpu, &device, 6, 1).unwrap();
        assert!(
            figures.iter().any(|figure| figure.variant.ends_with("resident") && figure.backend == "remote")
        );
        let figures = operations::ntt(&cpu, &device, 6, 1).unwrap();
        assert_eq!(figures.len(), 3 * 3);
        assert_eq!(suite::identity(&cpu, &device, "remote").unwrap().len(), 4);
        let figures = proofs::proof(&cpu, &device, "remote", 8, 1).unwrap();
        assert!(figures.iter().any(|figure| figure.note.contains("same bytes")), "{figures:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let program = std::env::temp_dir().join(format!("parhelion-peer-{}", std::process::id()));
            let write = |text: &str| {
                std::fs::write(&program, text).unwrap();
                std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
            };
            write("#!/bin/sh\necho ready\nwhile read line; do echo \"12.5 $1\"; done\n");
            let figures = peer::against(&program, &cpu, &device, "remote", 8, 2).unwrap();
            assert_eq!((figures[0].runs.as_slice(), figures[1].runs.len()), ([12.5, 12.5].as_slice(), 2));
            assert!(figures[1].note.contains("theirs 8"), "{figures:?}");
            write("#!/bin/sh\necho no card\n");
            assert!(peer::against(&program, &cpu, &device, "remote", 8, 2).is_err());
            write("#!/bin/sh\necho ready\nexit 3\n");
            assert!(peer::against(&program, &cpu, &device, "remote", 8, 2).is_err());
            std::fs::remove_file(&program).unwrap();
        }
        let figures = suite::conformance("cpu").unwrap();
        assert!(figures.iter().all(|figure| figure.note.contains("clauses hold")), "{figures:?}");
    }

    #[test]
    fn the_plan_is_what_was_asked_for() {
        let plan = |args: &[&str]| -> Vec<String> {
            let args = Args::parse_from([&["gpu-record"], args].concat());
            plan(&args).iter().map(Step::key).collect()
        };
        assert_eq!(plan(&["msm", "--from", "16", "--to", "20"]), ["msm-16", "msm-18", "msm-20"]);
        assert_eq!(plan(&["proof", "--k", "16,22"]), ["proof-16", "proof-22"]);
        assert_eq!(plan(&[]).len(), 2 + 5 + 5 + 4);
        assert_eq!(plan(&["peer", "--peer", "p", "--k", "16"]), ["peer-16"]);
        assert!(open("abacus").is_err());
    }
}
