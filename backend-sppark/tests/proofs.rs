//! Whole proofs with every operation on the device, emulated and, where there is one, real: the same bytes as on the CPU, and no bad proof
//! whatever goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[path = "../../prover/tests/common/circuits.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "the prover's test circuits, of which this uses some"
)]
mod circuits;

use circuits::{Lookups, Phases, Plonk, Shape, Wide};
use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::{Backend, Op, Provider};
use parhelion_backend_cpu::CpuBackend;
use parhelion_backend_sppark::{SpparkBackend, SpparkOptions};
use parhelion_dispatch::{Checks, Policy, Settings};
use parhelion_prover::{
    Engine, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProofTranscript, ProveOptions, Seeded, Srs,
    keygen, prove, verify,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn cpu() -> Provider {
    let cpu = CpuBackend::new();
    let devices = Backend::probe(&cpu).unwrap();
    cpu.open(&devices[0]).unwrap()
}

/// The emulated device, and a card where there is one.
fn backends() -> Vec<SpparkBackend> {
    let backends = [SpparkBackend::emulated(SpparkOptions::default()), SpparkBackend::new()];
    let here: Vec<_> = backends
        .into_iter()
        .filter(|backend| backend.probe().map_err(|why| eprintln!("skipped: {why}")).is_ok())
        .collect();
    assert!(!here.is_empty() || std::env::var_os("PARHELION_REQUIRE_BACKENDS").is_none(), "required");
    here
}

fn open(backend: &SpparkBackend) -> Provider {
    backend.open(&backend.probe().unwrap()[0]).unwrap()
}

/// Everything by force on the device; the CPU is there for what has no operation.
fn forced(provider: Provider) -> Engine {
    let engine = Engine::new(vec![cpu(), provider]);
    engine.configure(Settings { policy: Policy::force("sppark"), ..Settings::default() }).unwrap()
}

/// The device first, with every check.
fn checked(provider: Provider) -> Engine {
    let policy = Policy { checks: Checks::FULL, ..Policy::prefer(["sppark", "cpu"]) };
    let engine = Engine::new(vec![cpu(), provider]);
    engine.configure(Settings { policy, ..Settings::default() }).unwrap()
}

fn proof<C: Circuit<Fr>>(
    engine: &Engine,
    srs: &Srs,
    circuit: &C,
    instances: &[&[Fr]],
    multiopen: Multiopen,
) -> (Vec<u8>, ProofReport, PreparedKey) {
    let pk = keygen(engine, srs, circuit, KeygenOptions::default()).unwrap();
    let key = PreparedKey::new(engine, srs, pk).unwrap();
    let mut transcript = Blake2bWrite::<Vec<u8>, G1Affine, Challenge255<G1Affine>>::init(Vec::new());
    let mut choices = Seeded([3; 32]);
    let options = ProveOptions::default().multiopen(multiopen).choices(&mut choices);
    let rng = ChaCha20Rng::seed_from_u64(11);
    let circuits = std::slice::from_ref(circuit);
    let report = prove(engine, &key, circuits, &[instances], rng, &mut transcript, options).unwrap();
    (transcript.finalize(), report, key)
}

fn same_bytes<C: Circuit<Fr>>(k: u32, circuit: &C, instances: &[&[Fr]]) {
    let srs = Srs::insecure_from_seed(k, 7).unwrap();
    let host = Engine::new(vec![cpu()]);
    for backend in backends() {
        let engine = forced(open(&backend));
        for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
            let (expected, ..) = proof(&host, &srs, circuit, instances, multiopen);
            let (found, report, key) = proof(&engine, &srs, circuit, instances, multiopen);
            assert!(found == expected, "proofs differ");
            assert!(report.verified);
            for op in Op::PLONK {
                assert_eq!(report.ledger.backends(op), ["sppark"], "{op}");
            }
            let transcript = ProofTranscript::Blake2b;
            verify(key.verifier_params(), key.vk(), &[instances], &found, transcript, multiopen).unwrap();
        }
        let traffic = backend.traffic();
        assert!(traffic.to_device > 0 && traffic.to_host > 0, "copies are counted");
    }
}

#[test]
fn a_plonk_proof_has_the_same_bytes() {
    let circuit = Plonk { rows: 50, start: 4 };
    same_bytes(7, &circuit, &[&[circuit.output()]]);
}

#[test]
fn a_lookup_proof_has_the_same_bytes() {
    same_bytes(7, &Lookups { rows: 60, bits: 4 }, &[]);
}

#[test]
fn a_proof_in_three_phases_has_the_same_bytes() {
    same_bytes(8, &Phases::<true> { rows: 40, inside: false }, &[]);
}

#[test]
fn a_longer_proof_has_the_same_bytes() {
    let circuit = Plonk { rows: 4000, start: 9 };
    same_bytes(12, &circuit, &[&[circuit.output()]]);
}

/// Precomputed multiples of the bases change nothing but the time.
#[test]
fn multiples_of_the_bases_give_the_same_bytes() {
    let circuit = Plonk { rows: 900, start: 9 };
    let output = [circuit.output()];
    let srs = Srs::insecure_from_seed(10, 7).unwrap();
    let host = Engine::new(vec![cpu()]);
    let (expected, ..) = proof(&host, &srs, &circuit, &[&output], Multiopen::Shplonk);
    for precompute in [2, 4, 8].map(|tables| tables * (64 << 10)) {
        let backend = SpparkBackend::emulated(SpparkOptions { precompute, ..SpparkOptions::default() });
        if backend.probe().is_err() {
            return;
        }
        let engine = forced(open(&backend));
        // The key holds the bases.
        let (found, _, _key) = proof(&engine, &srs, &circuit, &[&output], Multiopen::Shplonk);
        assert!(found == expected, "{precompute} bytes of multiples");
        let used = open(&backend).space.memory();
        let used = used.total.unwrap() - used.free.unwrap();
        assert!(used >= 2 * precompute, "both bases have their tables: {used}");
    }
}

/// The circuit that benchmarks use on an 8 GiB card, two thousand times smaller: with that much memory the columns stay, with less they are passed,
/// and the proof is the same.
#[test]
fn a_proof_fits_in_little_memory() {
    let k = 11;
    let scaled = (8u64 << 30) >> (22 - k);
    let circuit = Wide { k, shape: Shape { advice: 12, fixed: 6, degree: 5, lookups: 0, copied: 12 } };
    let srs = Srs::insecure_from_seed(k, 7).unwrap();
    let host = Engine::new(vec![cpu()]);
    let (expected, ..) = proof(&host, &srs, &circuit, &[], Multiopen::Shplonk);
    let mut stayed = Vec::new();
    for memory in [scaled / 10 * 9, scaled / 2, scaled / 4, scaled / 12] {
        let options = SpparkOptions { memory: Some(memory), ..SpparkOptions::default() };
        let backend = SpparkBackend::emulated(options);
        if backend.probe().is_err() {
            return;
        }
        let policy = Policy::prefer(["sppark", "cpu"]);
        let engine = Engine::new(vec![cpu(), open(&backend)]);
        let engine = engine.configure(Settings { policy, ..Settings::default() }).unwrap();
        let (found, report, _) = proof(&engine, &srs, &circuit, &[], Multiopen::Shplonk);
        assert!(found == expected && report.verified, "{memory} bytes");
        assert!(engine.devices().iter().all(|device| device.quarantined.is_none()));
        let uploaded: u64 = report.ledger.transfers().map(|(_, transfers)| transfers.uploaded).sum();
        stayed.push(uploaded >> (k + 5));
        println!(
            "{memory} bytes: {} columns kept, {} bytes moved by operations",
            uploaded >> (k + 5),
            report.ledger.moved()
        );
    }
    assert!(stayed[0] >= 12, "the proof's own columns stay where the plan says so: {stayed:?}");
    assert!(stayed.last() == Some(&0), "and none where there is no room: {stayed:?}");
}

/// One failure in every part of a proof, of every kind: the proof that comes out is the right one, and a lost device is in quarantine.
#[test]
fn a_failure_anywhere_in_a_proof_does_not_change_it() {
    let circuit = Plonk { rows: 20, start: 4 };
    let output = [circuit.output()];
    let srs = Srs::insecure_from_seed(6, 7).unwrap();
    let host = Engine::new(vec![cpu()]);
    let (expected, ..) = proof(&host, &srs, &circuit, &[&output], Multiopen::Shplonk);
    let Some(backend) = backends().into_iter().next() else { return };
    let mut failures = [0; 2];
    // Until a failure would come after the end of the proof.
    'steps: for after in (1..).step_by(13) {
        for (kind, code) in [2, 4].into_iter().enumerate() {
            let provider = open(&backend);
            backend.inject(after, code).unwrap();
            let engine = checked(provider);
            let (found, report, _) = proof(&engine, &srs, &circuit, &[&output], Multiopen::Shplonk);
            assert!(found == expected && report.verified, "failure {code} after {after} steps");
            let quarantined = engine.devices().iter().find_map(|device| device.quarantined.clone());
            backend.inject(0, 0).unwrap_or_default();
            let Some(why) = quarantined else { break 'steps };
            assert!(why.contains("injected"), "{why}");
            assert_eq!(code == 2, why.contains("device lost"), "{why}");
            failures[kind] += 1;
        }
    }
    assert!(failures.iter().all(|count| *count >= 15), "{failures:?}");
    println!("{failures:?} lost devices and failed calls inside whole proofs; every proof right");
}

/// A device that is lost stays lost for who has it, and opening it again gives another context.
#[test]
fn a_lost_device_can_be_opened_again() {
    let Some(backend) = backends().into_iter().next() else { return };
    let provider = open(&backend);
    let queue = provider.space.queue().unwrap();
    backend.inject(1, 2).unwrap();
    for _ in 0..2 {
        let error = provider.space.alloc(&queue, 64, "after the end").unwrap_err();
        assert!(error.to_string().contains("device lost"), "{error}");
    }
    let again = open(&backend);
    again.space.alloc(&queue, 64, "a new start").unwrap();
    assert!(provider.space.alloc(&queue, 64, "still lost").is_err());
}

/// One context per device: what several threads and several openings allocate comes from one budget.
#[test]
fn a_device_has_one_context() {
    let Some(backend) = backends().into_iter().next() else { return };
    let (first, second) = (open(&backend), open(&backend));
    let queue = first.space.queue().unwrap();
    let free = second.space.memory().free.unwrap();
    let buffer = first.space.alloc(&queue, 8 << 20, "shared").unwrap();
    assert_eq!(second.space.memory().free.unwrap(), free - (8 << 20));
    std::thread::scope(|scope| scope.spawn(|| drop(buffer)).join()).unwrap();
    assert_eq!(second.space.memory().free.unwrap(), free);
}
