//! A verifier of another code base is asked about every proof.
#![allow(dead_code, reason = "each test binary uses its own part")]

use halo2_axiom::halo2curves::bn256::{Fr, G2Affine};
use halo2_axiom::plonk::VerifyingKey;
use halo2_axiom::{SerdeCurveAffine, SerdeFormat};
use parhelion_prover::{PreparedKey, ProofTranscript};
use parhelion_second_verifier::{Hash, Opening, Refusal, verify};
use parhelion_zkml::machine;
use parhelion_zkml::session::{Keys, Proof, from_hex};

type Vk = VerifyingKey<halo2_axiom::halo2curves::bn256::G1Affine>;

/// What it says of a proof of one circuit.
pub(crate) fn second(s_g2: G2Affine, vk: &Vk, proof: &[u8], instances: &[Vec<Fr>]) -> Result<(), Refusal> {
    verify(s_g2, vk, &[instances.to_vec()], proof, (Hash::Blake2b, Opening::Shplonk))
}

/// Whether both verifiers accept a proof of a machine's circuit; they must agree.
pub(crate) fn both(key: &PreparedKey, proof: &[u8], instances: &[Vec<Fr>]) -> bool {
    let params = key.verifier_params();
    let ours = machine::verify(params, key.vk(), proof, instances, ProofTranscript::Blake2b);
    let theirs = second(params.s_g2(), key.vk(), proof, instances);
    assert_eq!(ours.is_ok(), theirs.is_ok(), "halo2: {ours:?}, snark-verifier: {theirs:?}");
    ours.is_ok()
}

/// A reference string's point as artefacts write it.
pub(crate) fn point(hex: &str) -> G2Affine {
    G2Affine::read(&mut from_hex(hex).unwrap().as_slice(), SerdeFormat::RawBytes).unwrap()
}

/// Makes sure that it accepts a session's proof, and neither with another value nor without the last byte.
pub(crate) fn accepts(keys: &Keys, proof: &Proof) {
    let s_g2 = point(&keys.settings().srs.s_g2);
    second(s_g2, keys.vk(), &proof.bytes, &proof.instances).unwrap();
    let mut other = proof.instances.clone();
    other[0][0] += Fr::one();
    assert!(second(s_g2, keys.vk(), &proof.bytes, &other).is_err());
    assert!(second(s_g2, keys.vk(), &proof.bytes[..proof.bytes.len() - 1], &proof.instances).is_err());
}
