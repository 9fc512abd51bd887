//! Whole proofs with commitments and transforms on the device: the same bytes as on the CPU, and no bad proof whatever goes wrong.
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
mod common;

use circuits::{Lookups, Phases, Plonk};
use common::Fixture;
use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::{Backend, Op, Provider};
use parhelion_backend_cpu::CpuBackend;
use parhelion_backend_icicle::{IcicleBackend, IcicleOptions};
use parhelion_dispatch::{Checks, Choice, Name, Policy, Settings};
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

/// Commitments and transforms by force on the device, the rest on the CPU.
fn forced(icicle: Provider) -> Engine {
    let mut policy = Policy::default();
    for op in [Op::MSM, Op::NTT] {
        policy.per_op.insert(op, Choice::Force(Name::new("icicle")));
    }
    let engine = Engine::new(vec![cpu(), icicle]);
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
    let report =
        prove(engine, &key, std::slice::from_ref(circuit), &[instances], rng, &mut transcript, options)
            .unwrap();
    (transcript.finalize(), report, key)
}

fn same_bytes<C: Circuit<Fr>>(k: u32, circuit: &C, instances: &[&[Fr]]) {
    for device in [Fixture::cuda().unwrap(), Fixture::cpu().unwrap()] {
        same_bytes_on(device.open(), k, circuit, instances);
        assert_eq!(device.library.violations(), "");
    }
}

fn same_bytes_on<C: Circuit<Fr>>(icicle: Provider, k: u32, circuit: &C, instances: &[&[Fr]]) {
    let srs = Srs::insecure_from_seed(k, 7).unwrap();
    let (host, engine) = (Engine::new(vec![cpu()]), forced(icicle));
    for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
        let (expected, ..) = proof(&host, &srs, circuit, instances, multiopen);
        let (found, report, key) = proof(&engine, &srs, circuit, instances, multiopen);
        assert!(found == expected, "proofs differ");
        assert!(report.verified);
        for op in [Op::MSM, Op::NTT] {
            assert_eq!(report.ledger.backends(op), ["icicle"], "{op}");
        }
        verify(key.verifier_params(), key.vk(), &[instances], &found, ProofTranscript::Blake2b, multiopen)
            .unwrap();
    }
}

/// On a real library, where `PARHELION_ICICLE_LIB` names one.
#[test]
fn a_real_library_gives_the_same_bytes() {
    if std::env::var_os("PARHELION_ICICLE_LIB").is_none() {
        eprintln!("skipped: PARHELION_ICICLE_LIB is not set");
        return;
    }
    let options = IcicleOptions::from_env().unwrap();
    let devices = options.devices.clone().or_else(|| Some(vec!["CPU".into()]));
    let backend = IcicleBackend::with_options(IcicleOptions { devices, ..options });
    let provider = || backend.open(&backend.probe().unwrap()[0]).unwrap();
    let plonk = Plonk { rows: 50, start: 4 };
    same_bytes_on(provider(), 7, &plonk, &[&[plonk.output()]]);
    same_bytes_on(provider(), 7, &Lookups { rows: 60, bits: 4 }, &[]);
    same_bytes_on(provider(), 8, &Phases::<true> { rows: 40, inside: false }, &[]);
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

/// One fault in every place of a proof: the proof that comes out is the right one.
#[test]
fn a_fault_anywhere_in_a_proof_does_not_change_it() {
    let circuit = Plonk { rows: 20, start: 4 };
    let output = [circuit.output()];
    let srs = Srs::insecure_from_seed(6, 7).unwrap();
    let host = Engine::new(vec![cpu()]);
    let (expected, ..) = proof(&host, &srs, &circuit, &[&output], Multiopen::Shplonk);
    let fixture = Fixture::cuda().unwrap();
    let mut faults = 0;
    for call in ["bn254_msm", "bn254_ntt", "icicle_copy_to_host", "icicle_copy_to_device", "icicle_malloc"] {
        for at in (0..40).step_by(3) {
            for fault in
                [format!("fail {call} {at} {}", 1 + at % 14), format!("corrupt {call} {at} {}", at * 977 + 1)]
            {
                assert_eq!(fixture.library.control("reset"), 0);
                assert_eq!(fixture.library.control(&fault), 0);
                let policy = Policy { checks: Checks::FULL, ..Policy::prefer(["icicle", "cpu"]) };
                let engine = Engine::new(vec![fixture.open(), cpu()]);
                let engine = engine.configure(Settings { policy, ..Settings::default() }).unwrap();
                let (found, report, _) = proof(&engine, &srs, &circuit, &[&output], Multiopen::Shplonk);
                assert!(found == expected && report.verified, "{fault}");
                faults += fixture.library.control("injected");
            }
        }
    }
    assert!(faults >= 60, "only {faults} faults happened");
    println!("{faults} faults inside whole proofs; every proof right");
}
