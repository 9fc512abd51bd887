//! Our proofs and keys are halo2-axiom's, byte for byte.
//!
//! For every circuit, transcript and opening scheme: upstream's own prover runs with a seeded generator and its two
//! random choices recorded (`common/upstream.rs`); ours runs with the same generator and these choices; the bytes are
//! compared, and the proof is verified by upstream's verifier. Keys are compared in every format.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::circuits::*;
use common::upstream::{self, Gwc, OpeningProver, Shplonk};
use common::{both, engine, other, rng, srs};
use halo2_axiom::SerdeFormat;
use halo2_axiom::plonk::{self, Circuit};
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2_axiom::transcript::{
    Blake2bWrite, Challenge255, EncodedChallenge, Keccak256Write, TranscriptWrite, TranscriptWriterBuffer,
};
use halo2curves::bn256::{Bn256, Fr, G1Affine};
use parhelion_prover::{
    KeygenOptions, Multiopen, PreparedKey, ProofTranscript, ProveOptions, ProvingKey, keygen, keygen_vk,
    prove,
};
use parhelion_second_verifier::Hash;
use snark_verifier::loader::native::NativeLoader;
use snark_verifier::system::halo2::transcript::halo2::{ChallengeScalar, PoseidonTranscript};

/// A transcript that can be begun and ended.
trait Conversation: TranscriptWrite<G1Affine, Self::Challenge> + Sized {
    type Challenge: EncodedChallenge<G1Affine>;
    const READABLE: Option<ProofTranscript>;
    fn begin() -> Self;
    fn end(self) -> Vec<u8>;
}

impl Conversation for Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>> {
    type Challenge = Challenge255<G1Affine>;
    const READABLE: Option<ProofTranscript> = Some(ProofTranscript::Blake2b);
    fn begin() -> Self {
        Self::init(Vec::new())
    }
    fn end(self) -> Vec<u8> {
        self.finalize()
    }
}

impl Conversation for Keccak256Write<Vec<u8>, G1Affine, Challenge255<G1Affine>> {
    type Challenge = Challenge255<G1Affine>;
    const READABLE: Option<ProofTranscript> = Some(ProofTranscript::Keccak256);
    fn begin() -> Self {
        Self::init(Vec::new())
    }
    fn end(self) -> Vec<u8> {
        self.finalize()
    }
}

type Poseidon = PoseidonTranscript<G1Affine, NativeLoader, Vec<u8>, 3, 2, 8, 57>;

impl Conversation for Poseidon {
    type Challenge = ChallengeScalar<G1Affine>;
    const READABLE: Option<ProofTranscript> = None;
    fn begin() -> Self {
        Self::new::<0>(Vec::new())
    }
    fn end(self) -> Vec<u8> {
        self.finalize()
    }
}

struct Case {
    params: ParamsKZG<Bn256>,
    key: PreparedKey,
}

/// Both keys of both provers, compared in every format.
fn keys<C: Circuit<Fr>>(k: u32, circuit: &C, compress: bool) -> Case {
    let srs = srs(k);
    let params = srs.to_params();
    let options = if compress { KeygenOptions::compressed() } else { KeygenOptions::default() };
    let ours = keygen(engine(), &srs, circuit, options).unwrap();
    let vk = plonk::keygen_vk_custom(&params, circuit, compress).unwrap();
    let theirs: ProvingKey = plonk::keygen_pk(&params, vk.clone(), circuit).unwrap();
    for format in [SerdeFormat::Processed, SerdeFormat::RawBytes] {
        assert!(ours.to_bytes(format) == theirs.to_bytes(format), "proving keys differ");
        let alone = keygen_vk(engine(), &srs, circuit, options).unwrap();
        assert_eq!(alone.to_bytes(format), vk.to_bytes(format), "verifying keys differ");
    }
    assert_eq!(ours.get_vk().transcript_repr(), theirs.get_vk().transcript_repr());
    Case { params, key: PreparedKey::new(engine(), &srs, ours).unwrap() }
}

impl Case {
    fn compare<T: Conversation, P: for<'p> OpeningProver<'p>>(
        &self,
        multiopen: Multiopen,
        circuits: &[impl Circuit<Fr>],
        instances: &[&[&[Fr]]],
    ) {
        let mut theirs = T::begin();
        let mut choices = upstream::prove::<P, T::Challenge, T, _>(
            &self.params,
            self.key.pk(),
            circuits,
            instances,
            rng(),
            &mut theirs,
        )
        .unwrap();
        let theirs = theirs.end();
        let mut ours = T::begin();
        let options = ProveOptions::default().multiopen(multiopen).choices(&mut choices);
        let report = prove(engine(), &self.key, circuits, instances, rng(), &mut ours, options).unwrap();
        assert!(report.verified);
        let ours = ours.end();
        let equal = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        assert!(ours == theirs, "proofs differ from byte {equal} of {} on", theirs.len());
        match T::READABLE {
            Some(transcript) => {
                both(&self.params, self.key.vk(), instances, &ours, transcript, multiopen).unwrap();
            }
            None => {
                let (params, vk) = (&self.params, self.key.vk());
                let theirs = other(params, vk, instances, &ours, Hash::Poseidon, multiopen);
                theirs.transpose().unwrap();
            }
        }
    }

    fn compare_all(&self, circuits: &[impl Circuit<Fr>], instances: &[&[&[Fr]]]) {
        type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;
        type Keccak = Keccak256Write<Vec<u8>, G1Affine, Challenge255<G1Affine>>;
        self.compare::<Blake2b, Shplonk>(Multiopen::Shplonk, circuits, instances);
        self.compare::<Blake2b, Gwc>(Multiopen::Gwc, circuits, instances);
        self.compare::<Keccak, Shplonk>(Multiopen::Shplonk, circuits, instances);
        self.compare::<Keccak, Gwc>(Multiopen::Gwc, circuits, instances);
        self.compare::<Poseidon, Shplonk>(Multiopen::Shplonk, circuits, instances);
        self.compare::<Poseidon, Gwc>(Multiopen::Gwc, circuits, instances);
    }
}

fn check(k: u32, circuit: impl Circuit<Fr>, instances: &[&[Fr]]) {
    keys(k, &circuit, false).compare_all(&[circuit], &[instances]);
}

#[test]
fn standard_plonk() {
    let circuit = Plonk { rows: 40, start: 5 };
    let output = [circuit.output()];
    check(6, circuit, &[&output]);
}

#[test]
fn standard_plonk_at_the_smallest_size() {
    let circuit = Plonk { rows: 3, start: 9 };
    let output = [circuit.output()];
    check(4, circuit, &[&output]);
}

#[test]
fn standard_plonk_of_many_rows() {
    let circuit = Plonk { rows: 8000, start: 2 };
    let output = [circuit.output()];
    let case = keys(13, &circuit, false);
    let circuits = [circuit];
    case.compare::<Poseidon, Shplonk>(Multiopen::Shplonk, &circuits, &[&[&output]]);
    type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;
    case.compare::<Blake2b, Gwc>(Multiopen::Gwc, &circuits, &[&[&output]]);
}

#[test]
fn several_lookups_and_tables_with_selectors() {
    check(7, Lookups { rows: 100, bits: 5 }, &[]);
}

#[test]
fn lookups_that_fill_the_table() {
    check(6, Lookups { rows: 57, bits: 5 }, &[]);
}

#[test]
fn two_phases_with_a_challenge() {
    check(6, Phases::<false> { rows: 30, inside: true }, &[]);
}

#[test]
fn several_instance_columns() {
    let values: Vec<Vec<Fr>> = vec![
        (0..10u64).map(|i| Fr::from(i * 3)).collect(),
        (0..11u64).map(|i| -Fr::from(i)).collect(),
        vec![-Fr::from(1)],
    ];
    let columns: Vec<&[Fr]> = values.iter().map(Vec::as_slice).collect();
    check(5, Instances { values: values.clone() }, &columns);
}

#[test]
fn several_circuits_in_one_proof() {
    let circuits =
        [Lookups { rows: 40, bits: 4 }, Lookups { rows: 33, bits: 4 }, Lookups { rows: 1, bits: 4 }];
    keys(6, &circuits[0], false).compare_all(&circuits, &[&[], &[], &[]]);
}

#[test]
fn several_circuits_with_permutations() {
    let circuits = [Degree::<4>, Degree::<4>];
    keys(5, &circuits[0], false).compare_all(&circuits, &[&[], &[]]);
}

#[test]
fn nothing_at_all() {
    check(4, Empty, &[]);
}

#[test]
fn no_advice() {
    check(4, NoAdvice, &[&[Fr::from(0), Fr::from(1)]]);
}

#[test]
fn far_rotations() {
    check(6, Rotations { rows: 40 }, &[]);
}

#[test]
fn degrees_from_three_to_nine() {
    check(5, Degree::<3>, &[]);
    check(5, Degree::<4>, &[]);
    check(5, Degree::<5>, &[]);
    check(5, Degree::<6>, &[]);
    check(5, Degree::<7>, &[]);
    check(5, Degree::<8>, &[]);
    check(5, Degree::<9>, &[]);
}

#[test]
fn selectors_compressed_and_not() {
    check(5, Selectors, &[]);
    keys(5, &Selectors, true).compare_all(&[Selectors], &[&[]]);
    let lookups = Lookups { rows: 30, bits: 4 };
    keys(6, &lookups, true).compare_all(&[lookups], &[&[]]);
}

#[test]
fn a_wide_circuit() {
    let shape = Shape { advice: 12, fixed: 6, degree: 5, lookups: 3, copied: 12 };
    check(9, Wide { k: 9, shape }, &[]);
}

/// From k = 13 on h(X) is evaluated by several programs.
#[test]
fn wide_circuits_whose_constraints_are_divided() {
    type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;
    let shape = Shape { advice: 5, fixed: 4, degree: 4, lookups: 2, copied: 5 };
    let circuit = Wide { k: 13, shape };
    let case = keys(13, &circuit, false);
    case.compare::<Blake2b, Shplonk>(Multiopen::Shplonk, &[circuit, circuit], &[&[], &[]]);
}

/// Terms of low degree are evaluated on fewer cosets, by one program per class and by several.
#[test]
fn gates_of_several_degrees() {
    type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;
    for (k, rows) in [(10, 900), (12, 4000)] {
        let circuits = [3, 8].map(|start| Mixed { rows, start });
        let case = keys(k, &circuits[0], false);
        case.compare::<Blake2b, Shplonk>(Multiopen::Shplonk, &circuits, &[&[], &[]]);
        case.compare::<Poseidon, Gwc>(Multiopen::Gwc, &circuits[1..], &[&[]]);
    }
}

#[test]
fn a_halo2_base_range_circuit() {
    use halo2_base::gates::circuit::builder::BaseCircuitBuilder;
    use halo2_base::gates::{GateInstructions, RangeInstructions};

    let k = 9;
    let build = || {
        let mut builder =
            BaseCircuitBuilder::<Fr>::new(false).use_k(k).use_lookup_bits(8).use_instance_columns(1);
        let range = builder.range_chip();
        let ctx = builder.main(0);
        let values: Vec<_> = (0..60u64).map(|i| ctx.load_witness(Fr::from(i * i))).collect();
        for value in &values {
            range.range_check(ctx, *value, 16);
        }
        let sum = range.gate().sum(ctx, values);
        let (quotient, _) = range.div_mod(ctx, sum, 97u64, 20);
        builder.assigned_instances[0].push(quotient);
        builder.calculate_params(Some(9));
        builder
    };
    let sum: u64 = (0..60u64).map(|i| i * i).sum();
    let instance = [Fr::from(sum / 97)];
    let case = keys(k as u32, &build(), false);
    case.compare_all(&[build()], &[&[&instance]]);
}

#[test]
#[ignore = "a minute at k = 18: run with --ignored"]
fn a_wide_circuit_at_k_18() {
    let shape = Shape { advice: 6, fixed: 3, degree: 5, lookups: 2, copied: 6 };
    let circuit = Wide { k: 18, shape };
    type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;
    keys(18, &circuit, false).compare::<Blake2b, Shplonk>(Multiopen::Shplonk, &[circuit], &[&[]]);
}
