//! What the explicit functions accept and refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::circuits::*;
use common::{Blake2b, both, engine, key, proof, rng, srs};
use halo2_axiom::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_axiom::plonk::{Advice, Assigned, Circuit, Column, ConstraintSystem, Error as PlonkError};
use halo2_axiom::poly::Rotation;
use halo2_axiom::transcript::TranscriptWriterBuffer;
use halo2curves::bn256::Fr;
use parhelion_prover::{
    Error, KeygenOptions, Multiopen, PreparedKey, ProofTranscript, ProveOptions, Seeded, Stage,
    VerifyOptions, keygen, prove, verify, verify_with,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// One advice column whose cells a test chooses; `bound` turns on a lookup of the column in the fixed values 0..4.
#[derive(Clone, Debug)]
struct Cells {
    cells: Vec<(usize, Option<u64>)>,
}

impl Circuit<Fr> for Cells {
    type Config = Column<Advice>;
    type FloorPlanner = SimpleFloorPlanner;
    type Params = ();

    fn without_witnesses(&self) -> Self {
        Cells { cells: Vec::new() }
    }

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Self::Config {
        let column = meta.advice_column();
        let fixed = meta.fixed_column();
        meta.lookup_any("below four", |meta| {
            let a = meta.query_advice(column, Rotation::cur());
            let on = meta.query_fixed(fixed, Rotation::cur());
            // The fixed column is all zero, so the table is {0} and every input is 0·a.
            vec![(on.clone() * a, on)]
        });
        column
    }

    fn synthesize(&self, column: Self::Config, mut layouter: impl Layouter<Fr>) -> Result<(), PlonkError> {
        layouter.assign_region(
            || "cells",
            |mut region| {
                for (row, value) in &self.cells {
                    let value =
                        value.map_or_else(Value::unknown, |v| Value::known(Assigned::from(Fr::from(v))));
                    region.assign_advice(column, *row, value);
                }
                Ok(())
            },
        )
    }
}

fn plonk() -> (Plonk, [Fr; 1]) {
    let circuit = Plonk { rows: 20, start: 3 };
    let output = [circuit.output()];
    (circuit, output)
}

#[test]
fn three_phases_with_either_way_of_advancing() {
    for inside in [true, false] {
        for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
            let circuit = Phases::<true> { rows: 20, inside };
            let key = key(6, &circuit);
            let options = ProveOptions::default().multiopen(multiopen);
            let (bytes, report) = proof(&key, circuit, &[], options).unwrap();
            assert!(report.verified);
            both(key.verifier_params(), key.vk(), &[&[]], &bytes, ProofTranscript::Blake2b, multiopen)
                .unwrap();
        }
    }
}

#[test]
fn two_phases_without_advancing_inside() {
    let circuit = Phases::<false> { rows: 20, inside: false };
    proof(&key(6, &circuit), circuit, &[], ProveOptions::default()).unwrap();
}

#[test]
fn several_circuits_with_instances_verify() {
    let circuits = [Plonk { rows: 20, start: 3 }, Plonk { rows: 20, start: 3 }];
    let outputs = [circuits[0].output()];
    let key = key(6, &circuits[0]);
    let instances: [&[&[Fr]]; 2] = [&[&outputs], &[&outputs]];
    let mut transcript = Blake2b::init(Vec::new());
    prove(engine(), &key, &circuits, &instances, rng(), &mut transcript, ProveOptions::default()).unwrap();
    let bytes = transcript.finalize();
    let (params, vk) = (key.verifier_params(), key.vk());
    both(params, vk, &instances, &bytes, ProofTranscript::Blake2b, Multiopen::Shplonk).unwrap();
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    let circuit = Lookups { rows: 40, bits: 4 };
    let key = key(6, &circuit);
    let run = |seed: u8| {
        let mut choices = Seeded([seed; 32]);
        proof(&key, circuit.clone(), &[], ProveOptions::default().choices(&mut choices)).unwrap().0
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let entropy = || proof(&key, circuit.clone(), &[], ProveOptions::default()).unwrap().0;
    assert_ne!(entropy(), entropy());
}

#[test]
fn the_report_accounts_for_the_whole() {
    let (circuit, output) = plonk();
    let (_, report) = proof(&key(6, &circuit), circuit, &[&output], ProveOptions::default()).unwrap();
    let stages: std::time::Duration = report.stages.iter().map(|(_, time)| *time).sum();
    assert!(stages <= report.total && report.total - stages < std::time::Duration::from_millis(5));
    assert!(report.stage(Stage::Verify) > std::time::Duration::ZERO);
    assert!(report.to_string().lines().count() == Stage::ALL.len() + 1);
}

#[test]
fn a_false_statement_is_rejected_before_it_is_returned() {
    let (circuit, output) = plonk();
    let key = key(6, &circuit);
    let wrong = [output[0] + Fr::one()];
    let outcome = proof(&key, circuit.clone(), &[&wrong], ProveOptions::default());
    assert!(matches!(outcome, Err(Error::Rejected(_))), "{outcome:?}");
    // Without the check the bytes exist, and the verifier refuses them.
    let (bytes, report) = proof(&key, circuit, &[&wrong], ProveOptions::default().verify(false)).unwrap();
    assert!(!report.verified);
    let verdict = verify(
        key.verifier_params(),
        key.vk(),
        &[&[&wrong]],
        &bytes,
        ProofTranscript::Blake2b,
        Multiopen::Shplonk,
    );
    assert!(matches!(verdict, Err(Error::Rejected(_))));
}

#[test]
fn statements_that_do_not_fit_the_key_are_refused() {
    let (circuit, output) = plonk();
    let key = key(6, &circuit);
    let options = ProveOptions::default;
    let outcome = proof(&key, circuit.clone(), &[], options());
    assert!(matches!(outcome, Err(Error::Count { expected: 1, found: 0, .. })), "{outcome:?}");
    let long = vec![output[0]; 60];
    let outcome = proof(&key, circuit.clone(), &[&long], options());
    assert!(matches!(outcome, Err(Error::InstanceTooLong { column: 0, found: 60, .. })), "{outcome:?}");
    let mut transcript = Blake2b::init(Vec::new());
    let outcome =
        prove(engine(), &key, std::slice::from_ref(&circuit), &[], rng(), &mut transcript, options());
    assert!(matches!(outcome, Err(Error::Count { .. })), "{outcome:?}");
    let outcome = prove::<_, _, _, Plonk>(engine(), &key, &[], &[], rng(), &mut transcript, options());
    assert!(matches!(outcome, Err(Error::Count { .. })), "{outcome:?}");
    let pk = key.pk().clone();
    assert!(matches!(PreparedKey::new(engine(), &srs(5), pk), Err(Error::WrongSize { key: 6, srs: 5 })));
    // The right witness under a key of another circuit of the same shape of columns does not verify.
    let other = Plonk { rows: 20, start: 4 };
    let outcome = proof(&key, other, &[&output], options());
    assert!(matches!(outcome, Err(Error::Rejected(_))), "{outcome:?}");
}

#[test]
fn circuits_that_do_not_fit_are_refused() {
    let keys = |k, circuit: &Plonk| keygen(engine(), &srs(k), circuit, KeygenOptions::default());
    let circuit = Plonk { rows: 40, start: 3 };
    assert!(matches!(keys(2, &circuit), Err(Error::TooFewRows { k: 2, .. })));
    let outcome = keys(5, &circuit);
    assert!(matches!(outcome, Err(Error::OutOfBounds { .. })), "{outcome:?}");
}

#[test]
fn witnesses_that_do_not_fit_are_refused() {
    let good = Cells { cells: vec![(0, Some(3)), (9, Some(5))] };
    let key = key(4, &good);
    proof(&key, good, &[], ProveOptions::default()).unwrap();
    let outcome = proof(&key, Cells { cells: vec![(2, None)] }, &[], ProveOptions::default());
    assert!(matches!(outcome, Err(Error::MissingWitness { column: 0, row: 2 })), "{outcome:?}");
    for row in [10, 15, 16, usize::MAX] {
        let outcome = proof(&key, Cells { cells: vec![(row, Some(1))] }, &[], ProveOptions::default());
        assert!(matches!(outcome, Err(Error::OutOfBounds { .. })), "row {row}: {outcome:?}");
    }
}

#[test]
fn a_lookup_input_outside_its_table_is_named() {
    let circuit = Lookups { rows: 40, bits: 4 };
    let key = key(6, &circuit);
    // Values of a table of 5 bits do not fit the key's of 4.
    let outcome = proof(&key, Lookups { rows: 40, bits: 5 }, &[], ProveOptions::default());
    match outcome {
        Err(Error::NotInTable { name, circuit: 0, lookup: 0, missing }) => {
            assert_eq!(name, "range");
            assert!(missing > 0);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_circuits_with_phases_are_not_supported() {
    let circuit = Phases::<false> { rows: 5, inside: true };
    let key = key(5, &circuit);
    let mut transcript = Blake2b::init(Vec::new());
    let circuits = [circuit.clone(), circuit];
    let outcome =
        prove(engine(), &key, &circuits, &[&[], &[]], rng(), &mut transcript, ProveOptions::default());
    assert!(matches!(outcome, Err(Error::Unsupported(_))), "{outcome:?}");
}

#[test]
fn damaged_proofs_are_rejected_without_panic() {
    let circuit = Lookups { rows: 40, bits: 4 };
    let key = key(6, &circuit);
    for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
        let options = ProveOptions::default().multiopen(multiopen);
        let (bytes, _) = proof(&key, circuit.clone(), &[], options).unwrap();
        let check = |bytes: &[u8]| {
            both(key.verifier_params(), key.vk(), &[&[]], bytes, ProofTranscript::Blake2b, multiopen)
        };
        check(&bytes).unwrap();
        let mut random = ChaCha20Rng::seed_from_u64(5);
        for _ in 0..100 {
            let cut = random.next_u32() as usize % bytes.len();
            assert!(check(&bytes[..cut]).is_err(), "accepted {cut} bytes of {}", bytes.len());
            let mut flipped = bytes.clone();
            flipped[random.next_u32() as usize % bytes.len()] ^= 1 << (random.next_u32() % 8);
            assert!(check(&flipped).is_err());
        }
        assert!(check(&[bytes.as_slice(), &[0]].concat()).is_err(), "a trailing byte is accepted");
        let keccak = ProofTranscript::Keccak256;
        assert!(verify(key.verifier_params(), key.vk(), &[&[]], &bytes, keccak, multiopen).is_err());
    }
}

#[test]
fn a_proof_has_one_encoding() {
    let (circuit, output) = plonk();
    let key = key(6, &circuit);
    let (bytes, _) = proof(&key, circuit, &[&output], ProveOptions::default()).unwrap();
    let (params, vk) = (key.verifier_params(), key.vk());
    let check = |bytes: &[u8], options| verify_with(params, vk, &[&[&output]], bytes, options);
    check(&bytes, VerifyOptions::default()).unwrap();

    // The first message is a commitment; the decoder does not look at the flag of the identity.
    let mut flagged = bytes.clone();
    flagged[31] |= 0x80;
    assert!(matches!(check(&flagged, VerifyOptions::default()), Err(Error::Rejected(_))));
    check(&flagged, VerifyOptions::default().canonical(false)).unwrap();

    // No other encoding of a point or scalar of this proof passes, whatever the demand.
    for at in (31..bytes.len()).step_by(32) {
        for bit in [0x80, 0x40, 0x20] {
            let mut other = bytes.clone();
            other[at] ^= bit;
            assert!(check(&other, VerifyOptions::default()).is_err(), "byte {at}, bit {bit:#x}");
        }
    }
    let longer = [&bytes[..], &[0; 32]].concat();
    assert!(check(&longer, VerifyOptions::default().canonical(false)).is_err());
}
