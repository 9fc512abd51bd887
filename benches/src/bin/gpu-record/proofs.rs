//! Whole proofs.

use std::time::Instant;

use anyhow::{Result, ensure};
use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::{Op, Provider};
use parhelion_dispatch::{Checks, Policy, Settings};
use parhelion_prover::{
    Engine, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProveOptions, Seeded, Srs, keygen, prove,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::circuit::Mixed;
use crate::record::Figure;

/// Every operation by force on the accelerator.
pub(crate) fn forced(cpu: &Provider, device: &Provider, backend: &str) -> Result<Engine> {
    let engine = Engine::new(vec![cpu.clone(), device.clone()]);
    Ok(engine.configure(Settings { policy: Policy::force(backend), ..Settings::default() })?)
}

/// A key that an engine has prepared.
pub(crate) struct Prepared(pub(crate) PreparedKey);

impl Prepared {
    pub(crate) fn new<C: Circuit<Fr>>(engine: &Engine, srs: &Srs, circuit: &C) -> Result<Self> {
        let pk = keygen(engine, srs, circuit, KeygenOptions::default())?;
        Ok(Prepared(PreparedKey::new(engine, srs, pk)?))
    }

    /// A proof with fixed randomness.
    pub(crate) fn prove<C: Circuit<Fr>>(
        &self,
        engine: &Engine,
        circuit: &C,
        instances: &[&[Fr]],
        multiopen: Multiopen,
    ) -> Result<(Vec<u8>, ProofReport)> {
        let mut transcript = Blake2bWrite::<Vec<u8>, G1Affine, Challenge255<G1Affine>>::init(Vec::new());
        let mut choices = Seeded([3; 32]);
        let options = ProveOptions::default().multiopen(multiopen).choices(&mut choices);
        let rng = ChaCha20Rng::seed_from_u64(11);
        let circuits = std::slice::from_ref(circuit);
        let report = prove(engine, &self.0, circuits, &[instances], rng, &mut transcript, options)?;
        Ok((transcript.finalize(), report))
    }
}

/// The circuit of `parhelion bench proof` with 2^k rows: twelve narrow and six wide columns, degree 5; with columns that stay on the device, and with
/// columns that are passed to every operation. The first proof, which brings bases and key, is noted and does not count.
pub(crate) fn proof(
    cpu: &Provider,
    device: &Provider,
    backend: &str,
    k: u32,
    runs: u32,
) -> Result<Vec<Figure>> {
    let srs = Srs::insecure_from_seed(k, 7)?;
    let circuit = Mixed::new(k);
    let host = Engine::new(vec![cpu.clone()]);
    let pk = keygen(&host, &srs, &circuit, KeygenOptions::default())?;
    let both = Engine::new(vec![cpu.clone(), device.clone()]);
    let mixed = |passing| {
        let policy = Policy { checks: Checks::OFF, passing, ..Policy::prefer([backend, "cpu"]) };
        both.configure(Settings { policy, ..Settings::default() })
    };
    let mut figures = Vec::new();
    let mut expected: Option<Vec<u8>> = None;
    const STAYING: &str = "12 + 6 columns";
    const PASSING: &str = "12 + 6 columns, passed at every use";
    let engines =
        [("cpu", STAYING, host), (backend, STAYING, mixed(false)?), (backend, PASSING, mixed(true)?)];
    for (name, variant, engine) in engines {
        let key = Prepared(PreparedKey::new(&engine, &srs, pk.clone())?);
        let mut times = Vec::new();
        let (mut note, mut first) = (String::new(), 0.0);
        for run in 0..=runs {
            let start = Instant::now();
            let (found, report) = key.prove(&engine, &circuit, &[], Multiopen::Shplonk)?;
            let time = start.elapsed().as_secs_f64() * 1e3;
            ensure!(
                *expected.get_or_insert_with(|| found.clone()) == found,
                "the proof differs from the CPU's"
            );
            if run > 0 {
                times.push(time);
            } else {
                first = time;
            }
            if name != "cpu" {
                let stages = report.stages.iter().filter(|(_, t)| t.as_millis() > 0);
                let stages =
                    stages.map(|(stage, t)| format!("{} {:.0}", stage.name(), t.as_secs_f64() * 1e3));
                let ops = Op::PLONK.map(|op| format!("{op} on {}", report.ledger.backends(op).join("+")));
                note = format!(
                    "same bytes; first {first:.0} ms; {} MiB moved; {}; {}",
                    report.ledger.moved() >> 20,
                    ops.join(" "),
                    stages.collect::<Vec<_>>().join(" ")
                );
            }
        }
        figures.push(Figure { variant: variant.into(), backend: name.into(), runs: times, note });
    }
    // Both ways of the device beside the same proof on the host.
    if let Some(cpu) = figures.first().cloned() {
        figures.push(Figure { variant: PASSING.into(), ..cpu });
    }
    Ok(figures)
}
