//! `model-suite DIR`: proves every model of a directory and says how it went.
//!
//! A model is a folder with `network.onnx`, `input.json` and, for the error, `reference.json` (the float outputs). Each runs in a process of its
//! own, so that a crash or a lack of memory costs that model only. With `--ezkl`, ezkl (from the active Python) runs on the same model on the same
//! machine, its proofs alternating with ours.
#![forbid(unsafe_code)]

mod child;
mod process;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use process::{Fault, Worker};
use report::Outcome;

#[derive(Debug, Parser)]
#[command(version, about = "Proves every model of a directory and says how it went")]
struct Args {
    /// Directory of model folders, or one model folder
    dir: PathBuf,
    /// A JSON list on standard output
    #[arg(long)]
    json: bool,
    /// Also run ezkl, from the active Python
    #[arg(long)]
    ezkl: bool,
    /// Python to run ezkl with
    #[arg(long, value_name = "PROGRAM", default_value = "python3", env = "PARHELION_PYTHON")]
    python: PathBuf,
    /// Models whose name contains this (repeatable)
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Models to leave out, by exact name (repeatable)
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// Seconds that one step of one model may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Proofs of each model by each prover; medians are reported
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    proofs: u32,
    /// Exit with a failure unless this many models verify
    #[arg(long, value_name = "N")]
    require: Option<usize>,
    /// Prove one model and speak the worker protocol (internal)
    #[arg(long, hide = true)]
    child: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = if args.child { child::run(&args.dir, args.proofs) } else { suite(&args) };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The model folders, sorted by name.
fn models(args: &Args) -> Result<Vec<(String, PathBuf)>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if args.dir.join("network.onnx").is_file() {
        return Ok(vec![(name(&args.dir), args.dir.clone())]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&args.dir).with_context(|| args.dir.display().to_string())? {
        let path = entry?.path();
        let wanted = args.filter.is_empty() || args.filter.iter().any(|f| name(&path).contains(f));
        if path.join("network.onnx").is_file() && wanted && !args.skip.contains(&name(&path)) {
            found.push((name(&path), path));
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{}: no folder with a network.onnx", args.dir.display());
    Ok(found)
}

fn suite(args: &Args) -> Result<bool> {
    let models = models(args)?;
    let scratch = std::env::temp_dir().join(format!("parhelion-model-suite-{}", std::process::id()));
    let driver = scratch.join("ezkl_driver.py");
    if args.ezkl {
        std::fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
        std::fs::write(&driver, include_str!("../../../ezkl_driver.py"))
            .with_context(|| driver.display().to_string())?;
    }
    let mut outcomes = Vec::new();
    for (i, (name, path)) in models.iter().enumerate() {
        eprintln!("[{}/{}] {name}", i + 1, models.len());
        let outcome = one(args, name, path, &scratch, &driver);
        eprintln!("        {}", outcome.summary());
        outcomes.push(outcome);
    }
    if args.ezkl {
        // What stays behind is in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&scratch);
    }
    report::print(&outcomes, args.json)?;
    let verified = outcomes.iter().filter(|o| o.verified).count();
    Ok(args.require.is_none_or(|n| verified >= n))
}

fn one(args: &Args, name: &str, path: &Path, scratch: &Path, driver: &Path) -> Outcome {
    let limit = Duration::from_secs(args.timeout);
    let mut outcome = Outcome { name: name.to_owned(), ..Outcome::default() };
    let ours = std::env::current_exe().map_err(|e| Fault::Start(e.to_string())).and_then(|exe| {
        let mut command = Command::new(exe);
        command.arg("--child").arg("--proofs").arg(args.proofs.to_string()).arg(path);
        Worker::start(command, limit)
    });
    let mut ours = match ours {
        Ok(worker) => worker,
        Err(e) => {
            outcome.failed(e);
            return outcome;
        }
    };
    let ready = ours.ready();
    let mut theirs = args.ezkl.then(|| {
        let mut command = Command::new(&args.python);
        command.arg(driver).arg(path).arg(scratch).arg("--proofs").arg(args.proofs.to_string());
        Worker::start(command, limit).and_then(|mut worker| worker.ready().map(|()| worker))
    });
    let mut fault = ready.err();
    for _ in 0..args.proofs {
        if fault.is_none() {
            fault = ours.proof().err();
        }
        if let Some(Ok(worker)) = &mut theirs
            && let Err(e) = worker.proof()
        {
            theirs = Some(Err(e));
        }
    }
    match fault.map_or_else(|| ours.finish(), Err) {
        Ok(value) => outcome.take_ours(value, ours.peak_rss_mb()),
        Err(e) => {
            outcome.peak_rss_mb = ours.peak_rss_mb();
            outcome.failed(e);
        }
    }
    match theirs.map(|t| t.and_then(|mut worker| worker.finish())) {
        Some(Ok(value)) => outcome.take_ezkl(&value),
        Some(Err(e)) => outcome.ezkl_error = Some(e.to_string()),
        None => {}
    }
    outcome
}
