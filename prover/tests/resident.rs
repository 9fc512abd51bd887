//! Columns that stay on a device: the same bytes, few copies, and a device that fails anywhere costs nothing but time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::circuits::{Lookups, Phases, Plonk, Shape, Wide};
use common::{Blake2b, rng, srs};
use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::TranscriptWriterBuffer;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::Op;
use parhelion_backend_api::{Backend, Provider};
use parhelion_conformance::{Fault, FaultKind, Faulty, FaultyControl, Naive, Remote};
use parhelion_prover::dispatch::{Checks, Policy, Settings};
use parhelion_prover::{
    Engine, Error, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProveOptions, ProvingKey, Seeded,
    keygen, prove,
};

fn open(backend: &impl Backend<G1Affine>) -> Provider<G1Affine> {
    backend.open(&backend.probe().unwrap()[0]).unwrap()
}

/// A device of `memory` bytes that fails on schedule, before the host.
fn device(memory: u64) -> (Engine, Arc<FaultyControl>) {
    let faulty = Faulty::new(Remote::new(Naive).with_memory(memory), "device");
    let control = faulty.control();
    (Engine::new(vec![open(&faulty), open(&Naive)]), control)
}

struct Job<C> {
    circuits: Vec<C>,
    instance: Vec<Fr>,
    k: u32,
    pk: Arc<ProvingKey>,
    expected: Vec<u8>,
    multiopen: Multiopen,
}

impl<C: Circuit<Fr> + Clone> Job<C> {
    fn new(k: u32, circuits: &[C], instance: Vec<Fr>, multiopen: Multiopen) -> Self {
        let pk = keygen(common::engine(), &srs(k), &circuits[0], KeygenOptions::default()).unwrap();
        let (circuits, pk) = (circuits.to_vec(), Arc::new(pk));
        let mut job = Job { circuits, instance, k, pk, expected: Vec::new(), multiopen };
        job.expected = job.run(&job.key(common::engine()), common::engine()).unwrap().0;
        job
    }

    fn key(&self, engine: &Engine) -> PreparedKey {
        PreparedKey::new(engine, &srs(self.k), self.pk.clone()).unwrap()
    }

    fn run(&self, key: &PreparedKey, engine: &Engine) -> Result<(Vec<u8>, ProofReport), Error> {
        let columns = [self.instance.as_slice()];
        let columns: &[&[Fr]] = if self.instance.is_empty() { &[] } else { &columns };
        let instances = vec![columns; self.circuits.len()];
        let mut choices = Seeded([5; 32]);
        let options = ProveOptions::default().multiopen(self.multiopen).choices(&mut choices);
        let mut transcript = Blake2b::init(Vec::new());
        let report = prove(engine, key, &self.circuits, &instances, rng(), &mut transcript, options)?;
        Ok((transcript.finalize(), report))
    }

    /// The proof is the right one; the report says what was copied.
    fn check(&self, engine: &Engine) -> ProofReport {
        let (bytes, report) = self.run(&self.key(engine), engine).unwrap();
        assert!(bytes == self.expected, "the proof differs");
        assert!(report.verified);
        report
    }
}

fn plonk(multiopen: Multiopen) -> Job<Plonk> {
    let circuit = Plonk { rows: 20, start: 4 };
    let output = vec![circuit.output()];
    Job::new(6, &[circuit], output, multiopen)
}

/// Columns that were brought to the device outside of operations.
fn copied(report: &ProofReport, k: u32) -> [u64; 2] {
    let column = 32u64 << k;
    let all = report.ledger.transfers().map(|(_, t)| [t.uploaded / column, t.downloaded / column]);
    all.fold([0, 0], |[u, d], [up, down]| [u + up, d + down])
}

#[test]
fn everything_stays_where_there_is_room() {
    for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
        let job = plonk(multiopen);
        let (engine, control) = device(1 << 30);
        let key = job.key(&engine);
        let (first, report) = job.run(&key, &engine).unwrap();
        assert!(first == job.expected);
        for op in Op::ALL {
            assert_eq!(report.ledger.backends(op), ["device"], "{op}");
        }
        // Each column of the proof and each form of each column of the key goes up once; running products and pieces come
        // down once. No operation moves another one.
        let moved: u64 = report.ledger.totals().map(|(.., total)| total.moved).sum();
        assert_eq!(moved, 0, "{}", report.ledger);
        let cs = job.pk.get_vk().cs();
        let key_columns = (cs.num_fixed_columns() + cs.permutation().get_columns().len()) as u64;
        let own = (cs.num_advice_columns() + cs.num_instance_columns()) as u64;
        let [up, down] = copied(&report, job.k);
        assert_eq!(up, 2 * key_columns + 3 + own + 1, "{}", report.ledger);
        assert!(down > 0 && down < own + 10, "{}", report.ledger);
        // The key is there already.
        let (again, report) = job.run(&key, &engine).unwrap();
        assert!(again == job.expected);
        assert_eq!(copied(&report, job.k)[0], own + 1, "{}", report.ledger);
        assert_eq!(control.injected(), 0);
    }
}

#[test]
fn circuits_of_every_kind_give_the_same_bytes() {
    let (engine, _) = device(1 << 30);
    Job::new(7, &[Lookups { rows: 60, bits: 4 }], Vec::new(), Multiopen::Shplonk).check(&engine);
    Job::new(8, &[Phases::<true> { rows: 40, inside: false }], Vec::new(), Multiopen::Gwc).check(&engine);
    let wide = Wide { k: 6, shape: Shape { advice: 5, fixed: 3, degree: 5, lookups: 0, copied: 4 } };
    Job::new(6, &[wide, wide], Vec::new(), Multiopen::Shplonk).check(&engine);
}

/// From a device with no room at all to one with room for everything.
#[test]
fn every_amount_of_memory_gives_the_same_bytes() {
    let job = plonk(Multiopen::Shplonk);
    let mut kept = [false; 2];
    for columns in (0..160).step_by(4) {
        let (engine, _) = device(columns * (32 << job.k));
        let report = job.check(&engine);
        kept[usize::from(copied(&report, job.k)[0] > 0)] = true;
    }
    assert_eq!(kept, [true; 2], "columns never stayed, or always");
}

/// A failure at every call of every operation, the kinds taking turns.
#[test]
fn a_device_may_fail_anywhere() {
    let job = plonk(Multiopen::Shplonk);
    let kinds = [FaultKind::OutOfMemory, FaultKind::DeviceLost, FaultKind::Crash];
    for (first, kind) in (0..).zip(kinds) {
        let mut injected = 0;
        for at in (first..).step_by(kinds.len()) {
            let (engine, control) = device(1 << 30);
            control.schedule(vec![Fault::nth(kind, at)]);
            job.check(&engine);
            if control.injected() == 0 {
                break;
            }
            injected += control.injected();
            let out = engine.devices().iter().any(|d| d.quarantined.is_some());
            assert_eq!(out, kind != FaultKind::OutOfMemory, "{kind:?} at {at}");
        }
        assert!(injected > 12, "{kind:?} happened {injected} times");
    }
}

#[test]
fn an_allocation_may_fail_anywhere() {
    let job = plonk(Multiopen::Gwc);
    for at in 0..60 {
        let (engine, control) = device(1 << 30);
        control.fail_allocation(at);
        job.check(&engine);
    }
}

/// With every check, wrong results are found where they are made; without any, when the proof is verified.
#[test]
fn wrong_results_never_leave() {
    let job = plonk(Multiopen::Shplonk);
    for (checks, least) in [(Checks::FULL, 1), (Checks::OFF, 0)] {
        let mut right = 0;
        for at in 0..80 {
            let (engine, control) = device(1 << 30);
            let engine = engine
                .configure(Settings { policy: Policy { checks, ..Policy::default() }, ..Settings::default() })
                .unwrap();
            control.schedule(vec![Fault::nth(FaultKind::Flip(at * 7), at)]);
            match job.run(&job.key(&engine), &engine) {
                Ok((bytes, _)) => {
                    assert!(bytes == job.expected, "a wrong proof at {at}");
                    right += 1;
                }
                Err(error) => {
                    assert!(checks == Checks::OFF && matches!(error, Error::Rejected(_)), "{at}: {error}");
                }
            }
        }
        assert!(right >= least * 80, "{right} proofs");
    }
}

#[test]
fn a_forced_device_that_fails_is_an_error() {
    let job = plonk(Multiopen::Shplonk);
    let (engine, control) = device(1 << 30);
    let engine = engine.with_policy(Policy::force("device")).unwrap();
    let key = job.key(&engine);
    assert!(job.run(&key, &engine).unwrap().0 == job.expected);
    control.schedule(vec![Fault::nth(FaultKind::Crash, 0).of(Op::Quotient)]);
    assert!(matches!(job.run(&key, &engine), Err(Error::Engine(_))));
}
