//! Keys, proofs and verification.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halo2_axiom::halo2curves::bn256::{Bn256, Fr, G1Affine};
use halo2_axiom::plonk::VerifyingKey;
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2_axiom::transcript::{
    Blake2bWrite, Challenge255, EncodedChallenge, Keccak256Write, TranscriptWrite, TranscriptWriterBuffer,
};
use parhelion_prover::{
    Engine, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProofTranscript, ProveOptions, Srs,
};
use rand_core::RngCore;

use super::circuit::ModelCircuit;
use super::commitment::{OpeningSecret, SealedRng};
use super::plan::{Plan, ProveError};

/// A proof with its public values.
#[derive(Clone, Debug)]
pub struct ModelProof {
    /// Transcript bytes.
    pub bytes: Vec<u8>,
    /// Public values: one column, or none.
    pub instances: Vec<Vec<Fr>>,
    /// Time of the first phase's witness.
    pub witness: Duration,
    /// Times of the proof's stages, and what ran where.
    pub report: ProofReport,
}

fn plonk_error(e: parhelion_prover::Error) -> ProveError {
    match e {
        parhelion_prover::Error::Rejected(reason) => ProveError::Rejected(reason),
        e => ProveError::Plonk(e.to_string()),
    }
}

/// Makes the keys of a plan.
///
/// # Errors
///
/// [`ProveError::Plonk`] for a reference string of another size or an error of the engine.
pub fn keygen(engine: &Engine, srs: &Srs, plan: &Plan) -> Result<PreparedKey, ProveError> {
    let circuit = ModelCircuit::new(plan);
    let pk =
        parhelion_prover::keygen(engine, srs, &circuit, KeygenOptions::default()).map_err(plonk_error)?;
    PreparedKey::new(engine, srs, pk).map_err(plonk_error)
}

/// Proves a trace, and verifies the proof before it is returned.
///
/// # Errors
///
/// [`ProveError`]: a trace that does not satisfy the circuit's ranges, an error of the engine, or a proof that does not verify.
pub fn prove(
    engine: &Engine,
    key: &PreparedKey,
    plan: &Plan,
    trace: &[Option<Arc<[i64]>>],
    transcript: ProofTranscript,
    rng: impl RngCore,
) -> Result<ModelProof, ProveError> {
    let start = Instant::now();
    let circuit = ModelCircuit::with_trace(plan, trace)?;
    let witness = start.elapsed();
    let proof = prove_circuit(engine, key, circuit, transcript, rng)?;
    Ok(ModelProof { witness, ..proof })
}

/// Proves a circuit that has a witness.
///
/// # Errors
///
/// As [`prove`].
pub fn prove_circuit(
    engine: &Engine,
    key: &PreparedKey,
    circuit: ModelCircuit,
    transcript: ProofTranscript,
    rng: impl RngCore,
) -> Result<ModelProof, ProveError> {
    let instances = circuit.instances();
    let (bytes, report) = match transcript {
        ProofTranscript::Blake2b => {
            let mut t = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(Vec::new());
            let report = prove_with(engine, key, circuit, &mut t, rng)?;
            (t.finalize(), report)
        }
        ProofTranscript::Keccak256 => {
            let mut t = Keccak256Write::<_, G1Affine, Challenge255<_>>::init(Vec::new());
            let report = prove_with(engine, key, circuit, &mut t, rng)?;
            (t.finalize(), report)
        }
        other => return Err(ProveError::Plonk(format!("transcript {other:?} is not known here"))),
    };
    Ok(ModelProof { bytes, instances, witness: Duration::ZERO, report })
}

/// A circuit whose committed tensors are blinded, by a secret that nobody keeps if by no other, and the generator for its proof.
pub(crate) fn seal<R: RngCore>(circuit: ModelCircuit, mut rng: R) -> (ModelCircuit, SealedRng<R>) {
    let (circuit, tails) = match circuit.tails() {
        Some(tails) => (circuit, tails),
        None => {
            let circuit = circuit.sealed(&OpeningSecret::random(&mut rng));
            let tails = circuit.tails().unwrap_or_default();
            (circuit, tails)
        }
    };
    (circuit, SealedRng::new(rng, tails))
}

/// Proves a circuit that has a witness into any transcript, for instance one of a recursive verifier.
///
/// # Errors
///
/// As [`prove`].
pub fn prove_with<E, T>(
    engine: &Engine,
    key: &PreparedKey,
    circuit: ModelCircuit,
    transcript: &mut T,
    mut rng: impl RngCore,
) -> Result<ProofReport, ProveError>
where
    E: EncodedChallenge<G1Affine>,
    T: TranscriptWrite<G1Affine, E>,
{
    let instances = circuit.instances();
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    let (circuit, rng) = seal(circuit, &mut rng);
    parhelion_prover::prove(
        engine,
        key,
        &[circuit.advice_only()],
        &[&columns],
        rng,
        transcript,
        ProveOptions::default(),
    )
    .map_err(plonk_error)
}

/// Verifies a proof with halo2's own verifier.
///
/// # Errors
///
/// [`ProveError::Rejected`] for bytes that are not a proof of these instances.
pub fn verify(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey<G1Affine>,
    proof: &[u8],
    instances: &[Vec<Fr>],
    transcript: ProofTranscript,
) -> Result<(), ProveError> {
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    parhelion_prover::verify(params, vk, &[&columns], proof, transcript, Multiopen::Shplonk)
        .map_err(plonk_error)
}
