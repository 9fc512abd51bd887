//! Is it right: the conformance suite, and proofs with the same bytes as the CPU's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, ensure};
use halo2_axiom::plonk::Circuit;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::{Op, Provider};
use parhelion_conformance::{CLAUSES, FUNCTIONS, Sizes, suite};
use parhelion_prover::{Engine, Multiopen, Srs};

use crate::circuits::{Lookups, Phases, Plonk};
use crate::proofs::{Prepared, forced};
use crate::record::Figure;

/// Runs every clause; those that fail are named.
pub(crate) fn conformance(backend: &str) -> Result<Vec<Figure>> {
    let all = parhelion_backends::all();
    let place = all.iter().position(|b| b.name() == backend).context("the backend is gone")?;
    let mut failed = Vec::new();
    for ((op, clause), function) in CLAUSES.iter().zip(FUNCTIONS) {
        let backend = parhelion_backends::all().into_iter().nth(place).context("the backend is gone")?;
        let run = || match suite::subject::<G1Affine, _>(Ok::<_, String>(Boxed(backend)), Sizes::STANDARD) {
            Some(subject) => function(&subject),
            None => failing(),
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            failed.push(format!("{op}::{clause}"));
        }
    }
    let note = match failed.len() {
        0 => format!("{} of {} clauses hold", CLAUSES.len(), CLAUSES.len()),
        n => format!("{n} of {} clauses are broken: {}", CLAUSES.len(), failed.join(" ")),
    };
    Ok(vec![Figure::answer("clauses", backend, note)])
}

#[expect(clippy::panic, reason = "clauses fail by panicking")]
fn failing() {
    panic!("no device")
}

/// A boxed backend as a backend.
#[derive(Debug)]
struct Boxed(Box<dyn parhelion_backend_api::Backend>);

impl parhelion_backend_api::Backend for Boxed {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn probe(
        &self,
    ) -> std::result::Result<Vec<parhelion_backend_api::DeviceInfo>, parhelion_backend_api::Unavailable> {
        self.0.probe()
    }
    fn open(
        &self,
        device: &parhelion_backend_api::DeviceInfo,
    ) -> std::result::Result<Provider, parhelion_backend_api::Error> {
        self.0.open(device)
    }
}

/// Proofs of several circuits, every operation by force on the accelerator, compared with the CPU's.
pub(crate) fn identity(cpu: &Provider, device: &Provider, backend: &str) -> Result<Vec<Figure>> {
    let (host, engine) = (Engine::new(vec![cpu.clone()]), forced(cpu, device, backend)?);
    let mut figures = Vec::new();
    for k in [7, 12] {
        let circuit = Plonk { rows: (1 << k) - 20, start: 4 };
        let output = [circuit.output()];
        figures.push(same(&host, &engine, backend, &format!("plonk, k = {k}"), k, &circuit, &[&output])?);
    }
    figures.push(same(&host, &engine, backend, "lookups, k = 10", 10, &Lookups { rows: 900, bits: 7 }, &[])?);
    let phases = Phases::<true> { rows: 400, inside: false };
    figures.push(same(&host, &engine, backend, "three phases, k = 10", 10, &phases, &[])?);
    Ok(figures)
}

fn same<C: Circuit<Fr>>(
    host: &Engine,
    engine: &Engine,
    backend: &str,
    name: &str,
    k: u32,
    circuit: &C,
    instances: &[&[Fr]],
) -> Result<Figure> {
    let srs = Srs::insecure_from_seed(k, 7)?;
    for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
        let (expected, _) = Prepared::new(host, &srs, circuit)?.prove(host, circuit, instances, multiopen)?;
        let (found, report) =
            Prepared::new(engine, &srs, circuit)?.prove(engine, circuit, instances, multiopen)?;
        ensure!(found == expected, "{name}: the proof differs from the CPU's");
        ensure!(report.verified, "{name}: the proof was not verified");
        for op in Op::PLONK {
            ensure!(
                report.ledger.backends(op) == [backend],
                "{name}: {op} ran on {:?}",
                report.ledger.backends(op)
            );
        }
    }
    Ok(Figure::answer(name, backend, "same bytes with SHPLONK and GWC".into()))
}
