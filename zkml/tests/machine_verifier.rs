//! A verifier of another code base says the same as halo2's of every program and visibility, in one phase and in three, and of what is no proof.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod machine_common;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use machine_common::mutants::programs;
use machine_common::{engine, random_inputs, rng, second, srs};
use parhelion_prover::ProofTranscript;
use parhelion_zkml::exec;
use parhelion_zkml::machine::{PlanOptions, Vis, Visibility, keygen, plan, prove};

#[test]
fn a_second_verifier_agrees() {
    let all = |vis| Visibility::new(vis, vis, vis);
    let visibilities = [
        Visibility::default(),
        all(Vis::Hashed),
        all(Vis::Committed),
        Visibility::new(Vis::Public, Vis::Public, Vis::Fixed),
    ];
    let mut phases = std::collections::BTreeSet::new();
    for (at, (name, p)) in programs().into_iter().enumerate() {
        // Each program once as it is by default, and with one other visibility.
        for visibility in [&visibilities[0], &visibilities[1 + at % 3]] {
            let plan = plan(&p, visibility, &PlanOptions::default()).unwrap();
            let key = keygen(engine(), &srs(plan.k()), &plan).unwrap();
            let trace = exec::run(&p, &random_inputs(&p, &mut rng(8))).unwrap();
            let made = prove(engine(), &key, &plan, &trace.values, ProofTranscript::Blake2b, rng(9)).unwrap();
            phases.insert(key.vk().cs().advice_column_phase().into_iter().max());
            assert!(second::both(&key, &made.bytes, &made.instances), "{name}, {visibility}");
            for i in 0..made.instances.concat().len().min(3) {
                let mut instances = made.instances.clone();
                instances[0][i] += Fr::ONE;
                assert!(!second::both(&key, &made.bytes, &instances), "{name}, public value {i}");
            }
            // A commitment, an evaluation, the opening.
            for at in [3, made.bytes.len() / 2, made.bytes.len() - 40] {
                let mut bytes = made.bytes.clone();
                bytes[at] ^= 4;
                assert!(!second::both(&key, &bytes, &made.instances), "{name}, byte {at}");
            }
            let longer = [&made.bytes[..], &[0; 32]].concat();
            assert!(!second::both(&key, &longer, &made.instances), "{name}, bytes after it");
        }
    }
    assert!(phases.len() > 1 && phases.contains(&Some(2)), "phases of the proofs: {phases:?}");
}
