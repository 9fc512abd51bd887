//! Models with many parameters: imported, quantised and planned within a bound on memory.
//!
//! One test per process may run, since the kernel tells the greatest memory of a process and not of a thread; the large model is
//!
//! ```sh
//! cargo test --release -p parhelion-zkml --test large_models -- --ignored --nocapture
//! ```
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its figures"
)]

mod front_common;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use front_common::build::{A, Builder, FLOAT};
use parhelion_zkml::machine::{PlanOptions, PlanReport};
use parhelion_zkml::onnx::proto::{StringStringEntryProto, TensorProto};
use parhelion_zkml::session::{Cache, Options, Session};

/// Greatest resident memory of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Layers of `n` × `n` weights with bias and ReLU. The weights are in a file beside the model and never in memory here.
fn write(dir: &Path, layers: usize, n: usize) {
    let mut weights = BufWriter::new(std::fs::File::create(dir.join("weights.bin")).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * (3.0 / n as f32).sqrt()
    };
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let mut model = Builder::new().input("x", FLOAT, &[1, n as i64]);
    let mut x = "x".to_owned();
    for layer in 0..layers {
        for _ in 0..n * n {
            weights.write_all(&next().to_le_bytes()).unwrap();
        }
        let (w, b, y) = (format!("w{layer}"), format!("b{layer}"), format!("y{layer}"));
        model.graph.initializer.push(TensorProto {
            name: w.clone(),
            dims: vec![n as i64; 2],
            data_type: FLOAT,
            data_location: 1,
            external_data: vec![
                entry("location", "weights.bin".into()),
                entry("offset", (4 * n * n * layer).to_string()),
                entry("length", (4 * n * n).to_string()),
            ],
            ..Default::default()
        });
        let bias: Vec<f32> = (0..n).map(|_| next()).collect();
        let (z, transposed) = (format!("z{layer}"), i64::from(layer % 2 == 0));
        model = model
            .floats(&b, &[n as i64], &bias)
            .node("Gemm", &[&x, &w, &b], &[&z], &[("transB", A::Int(transposed))])
            .node("Relu", &[&z], &[&y], &[]);
        x = y;
    }
    weights.flush().unwrap();
    std::fs::write(dir.join("model.onnx"), model.output(&x).bytes()).unwrap();
}

/// Imports, quantises and plans; the report, and the bytes of memory that it took at most.
fn plan(layers: usize, n: usize) -> (PlanReport, u64) {
    let dir = Folder(std::env::temp_dir().join(format!("parhelion-large-{}-{n}", std::process::id())));
    std::fs::create_dir_all(&dir.0).unwrap();
    write(&dir.0, layers, n);
    let before = peak();
    let started = Instant::now();
    let mut session = Session::new(parhelion_backends::default_engine().unwrap().clone(), Cache::none());
    let options = Options { max_k: 26, ..Options::default() };
    let imported = session.import(&dir.0.join("model.onnx"), &options.import).unwrap();
    assert_eq!(imported.model.parameter_count(), layers * n * (n + 1));
    let prepared = session.prepare(imported, &[], &options).unwrap();
    let report = prepared.plan.report();
    let memory = peak() - before;
    println!(
        "{} parameters: {} MiB, {:.1} bytes per parameter, {:.1} s; k = {}, {} columns, predicted {:.0} s and {} bytes of proof",
        layers * n * (n + 1),
        memory >> 20,
        memory as f64 / (layers * n * (n + 1)) as f64,
        started.elapsed().as_secs_f64(),
        report.k,
        report.advice + report.late,
        report.cost / 1e3,
        report.counts.proof_bytes(),
    );
    // What a verifier does before it reads the key: the constraint system from the shape alone.
    let shape = prepared.shape();
    drop(prepared);
    let started = Instant::now();
    shape.params().unwrap();
    println!(
        "constraint system from the shape: {:.2} s, {} MiB",
        started.elapsed().as_secs_f64(),
        peak() >> 20
    );
    assert_eq!(report.stored_weights, layers * n * n, "every weight is one cell of the store");
    assert!(report.cost > 0.0 && report.k <= PlanOptions::default().max_k.max(26));
    (report, memory)
}

#[test]
fn memory_is_linear_in_the_parameters() {
    // The float model and the integers are eight bytes per parameter each.
    let (layers, n) = (6, 900);
    let (_, memory) = plan(layers, n);
    let each = memory as f64 / (layers * n * n) as f64;
    assert!(each <= 36.0, "{each:.1} bytes per parameter");
}

#[test]
#[ignore = "400 MB of weights and half a minute: --ignored --nocapture, alone"]
fn a_hundred_million_parameters_within_four_gigabytes() {
    let (_, memory) = plan(12, 2900);
    assert!(memory <= 4_000_000_000, "{memory} bytes");
}
