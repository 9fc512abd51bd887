//! Inputs that were findings once, and the seeds, through the entry points of the fuzzer.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says at which input"
)]

use std::path::PathBuf;

use parhelion_fuzz::Target;

fn regressions(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/regressions")).join(target.name());
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

fn replay(target: Target) {
    for (i, seed) in target.seeds().iter().enumerate() {
        println!("{} seed {i}", target.name());
        target.run(seed);
    }
    for (path, bytes) in regressions(target) {
        println!("{}", path.display());
        target.run(&bytes);
    }
}

#[test]
fn onnx() {
    replay(Target::Onnx);
}

#[test]
fn settings() {
    replay(Target::Settings);
}

#[test]
fn input() {
    replay(Target::Input);
}

#[test]
fn proof() {
    replay(Target::Proof);
}

#[test]
fn keys() {
    replay(Target::Keys);
}
