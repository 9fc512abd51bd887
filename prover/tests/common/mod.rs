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
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_prover::{
    Engine, Error, KeygenOptions, PreparedKey, ProofReport, ProveOptions, Srs, keygen, prove,
};
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
    Ok((transcript.finalize(), report))
}
