//! What the integration tests share: an engine, circuits, and upstream's prover with its two random choices recorded.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by test binaries, each of which uses its own part"
)]

pub mod circuits;
pub mod upstream;

use halo2_axiom::plonk::Circuit;
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Bn256, Fr, G1Affine};
use parhelion_prover::{
    Engine, Error, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProofTranscript, ProveOptions, Srs,
    VerifyingKey, keygen, prove, verify,
};
use parhelion_second_verifier::{self as second, Hash, Opening, Refusal};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;

pub fn engine() -> &'static Engine {
    parhelion_backends::default_engine().expect("an engine")
}

pub fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(42)
}

pub fn srs(k: u32) -> Srs {
    Srs::insecure_from_seed(k, 7).expect("a string")
}

/// Keys of a circuit, ready for the engine.
pub fn key<C: Circuit<Fr>>(k: u32, circuit: &C) -> PreparedKey {
    let srs = srs(k);
    let pk = keygen(engine(), &srs, circuit, KeygenOptions::default()).expect("keys");
    PreparedKey::new(engine(), &srs, pk).expect("a prepared key")
}

/// A proof through the explicit function with Blake2b.
pub fn proof<C: Circuit<Fr>>(
    key: &PreparedKey,
    circuit: C,
    instances: &[&[Fr]],
    options: ProveOptions<'_>,
) -> Result<(Vec<u8>, ProofReport), Error> {
    let mut transcript = Blake2b::init(Vec::new());
    let report = prove(engine(), key, &[circuit], &[instances], rng(), &mut transcript, options)?;
    let bytes = transcript.finalize();
    // Its options are gone; whichever opening it has, the two agree.
    for multiopen in [Multiopen::Shplonk, Multiopen::Gwc] {
        let _ =
            both(key.verifier_params(), key.vk(), &[instances], &bytes, ProofTranscript::Blake2b, multiopen);
    }
    Ok((bytes, report))
}

/// What the second verifier says of a proof, if it can read proofs of such keys.
pub fn other(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    proof: &[u8],
    hash: Hash,
    multiopen: Multiopen,
) -> Option<Result<(), Refusal>> {
    let owned: Vec<Vec<Vec<Fr>>> =
        instances.iter().map(|columns| columns.iter().map(|c| c.to_vec()).collect()).collect();
    let opening = if multiopen == Multiopen::Gwc { Opening::Gwc } else { Opening::Shplonk };
    match second::verify(params.s_g2(), vk, &owned, proof, (hash, opening)) {
        // Without permutation and lookups only.
        Err(Refusal::Pieces { .. }) if vk.cs().permutation().get_columns().is_empty() => None,
        verdict => Some(verdict),
    }
}

/// Verifies a proof by halo2's verifier and by the second one, which agree.
pub fn both(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    proof: &[u8],
    transcript: ProofTranscript,
    multiopen: Multiopen,
) -> Result<(), Error> {
    let ours = verify(params, vk, instances, proof, transcript, multiopen);
    let hash = if transcript == ProofTranscript::Keccak256 { Hash::Keccak256 } else { Hash::Blake2b };
    let theirs = other(params, vk, instances, proof, hash, multiopen);
    if let Some(theirs) = theirs {
        assert_eq!(ours.is_ok(), theirs.is_ok(), "halo2: {ours:?}, snark-verifier: {theirs:?}");
    }
    ours
}
