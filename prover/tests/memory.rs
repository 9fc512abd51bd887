//! `PARHELION_MEMORY`: any budget gives the same proof or a typed error.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::circuits::{Shape, Wide};
use common::{Blake2b, both, engine, rng, srs};
use halo2_axiom::transcript::TranscriptWriterBuffer;
use parhelion_prover::dispatch::Policy;
use parhelion_prover::{
    Error, KeygenOptions, MemoryReport, Multiopen, PreparedKey, ProofTranscript, ProveOptions, Seeded,
    keygen, prove,
};

const CIRCUIT: Wide =
    Wide { k: 12, shape: Shape { advice: 12, fixed: 6, degree: 5, lookups: 2, copied: 12 } };

/// Two proofs with one prepared key under a budget.
fn proofs(budget: Option<u64>, circuits: &[Wide]) -> Result<[(Vec<u8>, MemoryReport); 2], Error> {
    let engine = engine().with_policy(Policy { memory: budget, ..Policy::default() })?;
    let srs = srs(CIRCUIT.k);
    let key =
        PreparedKey::new(&engine, &srs, keygen(common::engine(), &srs, &CIRCUIT, KeygenOptions::default())?)?;
    let instances: Vec<&[&[_]]> = circuits.iter().map(|_| &[][..]).collect();
    let run = || -> Result<(Vec<u8>, MemoryReport), Error> {
        let mut choices = Seeded([9; 32]);
        let options = ProveOptions::default().choices(&mut choices);
        let mut transcript = Blake2b::init(Vec::new());
        let report = prove(&engine, &key, circuits, &instances, rng(), &mut transcript, options)?;
        let (bytes, blake2b) = (transcript.finalize(), ProofTranscript::Blake2b);
        both(key.verifier_params(), key.vk(), &instances, &bytes, blake2b, Multiopen::Shplonk)?;
        Ok((bytes, report.memory))
    };
    Ok([run()?, run()?])
}

#[test]
fn every_budget_gives_the_same_bytes() {
    for circuits in [&[CIRCUIT][..], &[CIRCUIT; 2]] {
        let [(bytes, free), _] = proofs(None, circuits).unwrap();
        assert_eq!((free.budget, free.cached), (None, 0));
        // So little that the plan must be the smallest, and so much that the key's cosets are kept.
        let Err(Error::Memory { needed, budget: 1 }) = proofs(Some(1), circuits) else {
            panic!("one byte is no budget");
        };
        // Between that and plenty there is no budget that a proof of as many circuits does not fit.
        for more in [1 << 16, 1 << 18, 1 << 19, 1 << 20, 1 << 21] {
            let [more, _] = proofs(Some(needed + more), circuits).unwrap();
            assert!(more.0 == bytes, "a budget changes the proof");
        }
        let [tight, again] = proofs(Some(needed), circuits).unwrap();
        assert!(tight.1.held + tight.1.workspace <= needed && tight.1.cached == 0, "{:?}", tight.1);
        assert!(tight.0 == bytes && again.0 == bytes, "a tight budget changes the proof");
        let [first, second] = proofs(Some(1 << 30), circuits).unwrap();
        assert!(first.1.cached > 0 && first.1.held == free.held, "{:?}", first.1);
        assert!(first.0 == bytes && second.0 == bytes, "kept cosets change the proof");
    }
}

#[test]
fn one_byte_less_than_the_floor_is_refused() {
    let Err(Error::Memory { needed, .. }) = proofs(Some(0), &[CIRCUIT]) else { panic!("nothing fits") };
    match proofs(Some(needed - 1), &[CIRCUIT]) {
        Err(Error::Memory { needed: again, budget }) => assert_eq!((again, budget), (needed, needed - 1)),
        other => panic!("{:?}", other.map(|p| p[0].1)),
    }
}
