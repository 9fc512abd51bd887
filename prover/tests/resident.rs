//! Columns that stay on a device: the same bytes, few copies, and a device that fails anywhere costs nothing but time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::circuits::{Lookups, Phases, Plonk, Shape, Wide};
use common::{Blake2b, both, rng, srs};
use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::TranscriptWriterBuffer;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::Op;
use parhelion_backend_api::{Backend, Provider};
use parhelion_conformance::{Fault, FaultKind, Faulty, FaultyControl, Naive, Remote};
use parhelion_prover::dispatch::{Checks, Policy, Settings};
use parhelion_prover::{
    Engine, Error, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProofTranscript, ProveOptions,
    ProvingKey, Seeded, keygen, prove, prove_recovering,
};

fn open(backend: &impl Backend) -> Provider {
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
        let key = job.key(common::engine());
        job.expected = job.run(&key, common::engine()).unwrap().0;
        let columns = [job.instance.as_slice()];
        let columns: &[&[Fr]] = if job.instance.is_empty() { &[] } else { &columns };
        let instances = vec![columns; job.circuits.len()];
        let (params, blake2b) = (key.verifier_params(), ProofTranscript::Blake2b);
        both(params, key.vk(), &instances, &job.expected, blake2b, multiopen).unwrap();
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

    /// The same, made again without the device when it is wrong.
    fn recover(
        &self,
        key: &PreparedKey,
        engine: &Engine,
        verify: bool,
    ) -> Result<(Vec<u8>, ProofReport), Error> {
        let columns = [self.instance.as_slice()];
        let columns: &[&[Fr]] = if self.instance.is_empty() { &[] } else { &columns };
        let instances = vec![columns; self.circuits.len()];
        let mut choices = Seeded([5; 32]);
        let options = ProveOptions::default().multiopen(self.multiopen).choices(&mut choices).verify(verify);
        let transcript = || Blake2b::init(Vec::new());
        let (transcript, report) =
            prove_recovering(engine, key, &self.circuits, &instances, rng(), transcript, options)?;
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
        for op in Op::PLONK {
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
    let kinds = [FaultKind::OutOfMemory, FaultKind::DeviceLost, FaultKind::Crash, FaultKind::Blame];
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

/// With every check, wrong results are found where they are made; without any, when the proof is verified, which also finds out who is to blame. Either
/// way the right proof comes out where the caller lets it be made again.
#[test]
fn wrong_results_never_leave() {
    let job = plonk(Multiopen::Shplonk);
    for checks in [Checks::FULL, Checks::OFF] {
        let mut faulty = 0;
        for at in 0..80 {
            let lying = || {
                let (engine, control) = device(1 << 30);
                control.schedule(vec![Fault::nth(FaultKind::Flip(at * 7), at)]);
                let policy = Policy { checks, ..Policy::default() };
                engine.configure(Settings { policy, ..Settings::default() }).unwrap()
            };
            let engine = lying();
            let key = job.key(&engine);
            match job.run(&key, &engine) {
                Ok((bytes, _)) => assert!(bytes == job.expected, "a wrong proof at {at}"),
                Err(error) => {
                    assert!(checks == Checks::OFF, "{at}: {error}");
                    let Error::Faulty { backends, .. } = &error else { panic!("{at}: {error}") };
                    assert_eq!(backends, "device");
                    assert!(engine.devices()[0].quarantined.is_some(), "at {at}");
                    faulty += 1;
                    // The next proof does without.
                    let (bytes, report) = job.run(&key, &engine).unwrap();
                    assert!(bytes == job.expected && report.ledger.backends(Op::NTT) == ["naive"]);
                }
            }
            let engine = lying();
            let (bytes, report) = job.recover(&job.key(&engine), &engine, false).unwrap();
            assert!(bytes == job.expected && report.verified, "at {at}");
        }
        assert_eq!(faulty > 12, checks == Checks::OFF, "{faulty} wrong proofs");
    }
}

/// A witness that breaks a constraint is nobody's fault.
#[test]
fn a_wrong_witness_does_not_convict_a_device() {
    let mut job = plonk(Multiopen::Shplonk);
    job.instance[0] += Fr::one();
    let (engine, _) = device(1 << 30);
    let key = job.key(&engine);
    assert!(matches!(job.run(&key, &engine), Err(Error::Rejected(_))));
    assert!(matches!(job.recover(&key, &engine, true), Err(Error::Rejected(_))));
    assert!(engine.devices().iter().all(|device| device.quarantined.is_none()));
}

/// Two keys on a device that has room for one at a time: copies of one give way to the other's, and every proof is right and stays on the device.
#[test]
fn keys_give_way_to_each_other() {
    let (plonk, lookups) = (plonk(Multiopen::Shplonk), Lookups { rows: 30, bits: 4 });
    let lookups = Job::new(6, &[lookups], Vec::new(), Multiopen::Shplonk);
    // The least memory with which a key's columns stay from one proof to the next, and what both keys take.
    let stays = |job: &dyn Fn(&Engine) -> [u64; 2], columns: u64| {
        let [first, again] = job(&device(columns * (32 << 6)).0);
        again < first
    };
    fn uploads<C: Circuit<Fr> + Clone>(job: &Job<C>, engine: &Engine) -> [u64; 2] {
        let key = job.key(engine);
        [0; 2].map(|_| {
            let (bytes, report) = job.run(&key, engine).unwrap();
            assert!(bytes == job.expected);
            copied(&report, job.k)[0]
        })
    }
    let least = (20..400).step_by(4).find(|columns| {
        stays(&|engine| uploads(&plonk, engine), *columns)
            && stays(&|engine| uploads(&lookups, engine), *columns)
    });
    let least = least.expect("no memory is enough");
    // Some more, for the programs of both.
    let (engine, control) = device((least + 6) * (32 << 6));
    let (first, second) = (plonk.key(&engine), lookups.key(&engine));
    let mut brought = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        let (bytes, report) = plonk.run(&first, &engine).unwrap();
        assert!(bytes == plonk.expected);
        assert_eq!(report.ledger.backends(Op::QUOTIENT), ["device"]);
        brought[0].push(copied(&report, 6)[0]);
        let (bytes, report) = lookups.run(&second, &engine).unwrap();
        assert!(bytes == lookups.expected);
        assert_eq!(report.ledger.backends(Op::QUOTIENT), ["device"]);
        brought[1].push(copied(&report, 6)[0]);
    }
    assert_eq!(control.injected(), 0);
    assert!(engine.devices().iter().all(|device| device.quarantined.is_none()));
    // Something was given up, and brought again.
    let alone = [uploads(&plonk, &device(1 << 30).0), uploads(&lookups, &device(1 << 30).0)];
    assert!((0..2).any(|i| brought[i][2] > alone[i][1]), "nothing was evicted: {brought:?}, alone {alone:?}");
    // Where there is room for both, each is brought once.
    let (engine, _) = device(1 << 30);
    let (first, second) = (plonk.key(&engine), lookups.key(&engine));
    for (of_plonk, of_lookups) in alone[0].into_iter().zip(alone[1]) {
        let (_, report) = plonk.run(&first, &engine).unwrap();
        assert_eq!(copied(&report, 6)[0], of_plonk);
        let (_, report) = lookups.run(&second, &engine).unwrap();
        assert_eq!(copied(&report, 6)[0], of_lookups);
    }
}

/// The bases of a reference string are brought once, however many keys there are.
#[test]
fn keys_of_one_string_share_its_bases() {
    let job = plonk(Multiopen::Shplonk);
    let (engine, control) = device(1 << 30);
    let srs = srs(6);
    let keys = [0; 3].map(|_| PreparedKey::new(&engine, &srs, job.pk.clone()).unwrap());
    let mut prepared = Vec::new();
    for key in &keys {
        assert!(job.run(key, &engine).unwrap().0 == job.expected);
        prepared.push(control.prepared());
    }
    let programs = prepared[1] - prepared[0];
    assert_eq!(prepared[2] - prepared[1], programs);
    assert_eq!(prepared[0], programs + 2, "two bases, once");
}

#[test]
fn a_forced_device_that_fails_is_an_error() {
    let job = plonk(Multiopen::Shplonk);
    let (engine, control) = device(1 << 30);
    let engine = engine.with_policy(Policy::force("device")).unwrap();
    let key = job.key(&engine);
    assert!(job.run(&key, &engine).unwrap().0 == job.expected);
    control.schedule(vec![Fault::nth(FaultKind::Crash, 0).of(Op::QUOTIENT)]);
    assert!(matches!(job.run(&key, &engine), Err(Error::Engine(_))));
}
