//! Records how large the scalars are that a zkML proof commits to, for the benchmark of multi-scalar multiplications on them.
//!
//! ```text
//! cargo run --release -p parhelion-benches --bin column-profile -- MODEL.onnx INPUT.json [MODEL INPUT …] > benches/data/zkml-columns.json
//! ```
//!
//! Every commitment of the proofs counts: witness columns, running products, pieces of h(X), openings. Only counts are kept, no
//! scalars.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use ff::PrimeField;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Error, Queue, Ref, Support};
use parhelion_backend_api::{Backend, Bases, Msm, MsmShape, Reuse, ScalarKind};
use parhelion_backend_cpu::CpuBackend;
use parhelion_prover::Engine;
use parhelion_zkml::input::Surplus;
use parhelion_zkml::session::{Cache, Options, Session};
use serde::Serialize;

/// Counts of scalars s by the bits of min(s, r − s), with the sign that attains it.
#[derive(Debug, Serialize)]
struct Counts {
    models: Vec<String>,
    columns: u64,
    positive: Vec<u64>,
    negative: Vec<u64>,
}

/// A multi-scalar multiplication that looks at its scalars while it is told to.
#[derive(Debug)]
struct Recorder {
    inner: Arc<dyn Msm<G1Affine>>,
    counts: Mutex<Counts>,
    on: AtomicBool,
}

fn bits(x: &Fr) -> usize {
    let repr = x.to_repr();
    let bytes = repr.as_ref();
    bytes.iter().rposition(|b| *b != 0).map_or(0, |i| 8 * i + 8 - bytes[i].leading_zeros() as usize)
}

impl Msm<G1Affine> for Recorder {
    fn supports(&self, shape: &MsmShape) -> Support {
        self.inner.supports(shape)
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        self.inner.workspace(shape)
    }

    fn prepare(&self, queue: &Queue, bases: &[G1Affine], reuse: Reuse) -> Result<Bases<G1Affine>, Error> {
        self.inner.prepare(queue, bases, reuse)
    }

    fn msm_batch(
        &self,
        queue: &Queue,
        bases: &Bases<G1Affine>,
        scalars: &[Ref<'_, Fr>],
        kind: ScalarKind,
        out: &mut [G1],
    ) -> Result<(), Error> {
        if self.on.load(Ordering::Relaxed) {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            for column in scalars {
                counts.columns += 1;
                for scalar in column.as_host()? {
                    let (here, there) = (bits(scalar), bits(&-scalar));
                    if here <= there {
                        counts.positive[here] += 1;
                    } else {
                        counts.negative[there] += 1;
                    }
                }
            }
        }
        self.inner.msm_batch(queue, bases, scalars, kind, out)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(
        !args.is_empty() && args.len().is_multiple_of(2),
        "usage: column-profile MODEL INPUT [MODEL INPUT …]"
    );
    let backend = CpuBackend::new();
    let device = backend.probe()?.into_iter().next().context("no processor")?;
    let provider = backend.open(&device)?;
    let recorder = Arc::new(Recorder {
        inner: provider.msm().context("the CPU offers every operation")?,
        counts: Mutex::new(Counts {
            models: Vec::new(),
            columns: 0,
            positive: vec![0; 255],
            negative: vec![0; 255],
        }),
        on: AtomicBool::new(false),
    });
    let provider = provider.offer::<dyn Msm<G1Affine>>(recorder.clone());
    let engine = Engine::new(vec![provider]);
    let (pairs, _) = args.as_chunks::<2>();
    for [model, input] in pairs {
        let mut session = Session::new(engine.clone(), Cache::none());
        let options = Options::default();
        let imported = session.import(Path::new(model), &options.import)?;
        let values = session.input(&imported, Path::new(input), Surplus::Ignore)?;
        let prepared = session.prepare(imported, std::slice::from_ref(&values), &options)?;
        let srs = session.srs(None, prepared.k())?;
        let keys = session.keys(&prepared, &srs)?;
        let witness = session.witness(&prepared.quantised, &values)?;
        recorder.on.store(true, Ordering::Relaxed);
        session.prove(&prepared, &keys, &witness)?;
        recorder.on.store(false, Ordering::Relaxed);
        let path = Path::new(model);
        let folder = path
            .parent()
            .and_then(Path::file_name)
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        eprintln!("{folder}: k = {}", prepared.k());
        recorder
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .models
            .push(format!("{folder}, k = {}", prepared.k()));
    }
    let counts = recorder.counts.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", serde_json::to_string(&*counts)?);
    Ok(())
}
