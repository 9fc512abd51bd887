//! Keys, proofs and verification.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use halo2_axiom::halo2curves::bn256::{Bn256, Fr, G1Affine};
use halo2_axiom::plonk::{self, ProvingKey, VerifyingKey};
use halo2_axiom::poly::commitment::{Params, ParamsProver};
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::multiopen::{ProverSHPLONK, VerifierSHPLONK};
use halo2_axiom::poly::kzg::strategy::SingleStrategy;
use halo2_axiom::transcript::{
    Blake2bRead, Blake2bWrite, Challenge255, TranscriptReadBuffer, TranscriptWriterBuffer,
};
use rand_core::RngCore;

use super::circuit::ModelCircuit;
use super::plan::{Plan, ProveError};

/// A proof with its public values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelProof {
    /// Transcript bytes.
    pub bytes: Vec<u8>,
    /// Public values: one column, or none.
    pub instances: Vec<Vec<Fr>>,
    /// How long each stage took.
    pub times: ProveTimes,
}

/// Times of the stages of a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProveTimes {
    /// First-phase witness.
    pub witness: Duration,
    /// Proof, with the later phases of the witness.
    pub prove: Duration,
    /// Verification before the proof is returned.
    pub verify: Duration,
}

fn plonk_error(e: impl std::fmt::Debug) -> ProveError {
    ProveError::Plonk(format!("{e:?}"))
}

/// The least SRS that a plan needs, as log₂ of its length.
pub fn required_k(plan: &Plan) -> u32 {
    plan.k()
}

fn check_k(params: &ParamsKZG<Bn256>, plan: &Plan) -> Result<(), ProveError> {
    if params.k() == plan.k() {
        return Ok(());
    }
    Err(ProveError::Plonk(format!("an SRS of 2^{} for a circuit of 2^{} rows", params.k(), plan.k())))
}

/// Makes the keys of a plan.
///
/// # Errors
///
/// [`ProveError::Plonk`] for an SRS of another size or an error of the proof system.
pub fn keygen(params: &ParamsKZG<Bn256>, plan: &Plan) -> Result<ProvingKey<G1Affine>, ProveError> {
    check_k(params, plan)?;
    let circuit = ModelCircuit::new(plan);
    let vk = plonk::keygen_vk(params, &circuit).map_err(plonk_error)?;
    plonk::keygen_pk(params, vk, &circuit).map_err(plonk_error)
}

/// Proves a trace, and verifies the proof before it is returned.
///
/// # Errors
///
/// [`ProveError`]: a trace that does not satisfy the circuit's ranges, an error of the proof system, or a proof that does not verify.
pub fn prove(
    params: &ParamsKZG<Bn256>,
    pk: &ProvingKey<G1Affine>,
    plan: &Plan,
    trace: &[Option<Arc<[i64]>>],
    rng: impl RngCore + Send + Sync,
) -> Result<ModelProof, ProveError> {
    check_k(params, plan)?;
    let start = Instant::now();
    let circuit = ModelCircuit::with_trace(plan, trace)?;
    let witness = start.elapsed();
    prove_circuit(params, pk, circuit, witness, rng)
}

/// Proves a circuit that has a witness.
///
/// # Errors
///
/// As [`prove`].
#[doc(hidden)]
pub fn prove_circuit(
    params: &ParamsKZG<Bn256>,
    pk: &ProvingKey<G1Affine>,
    circuit: ModelCircuit,
    witness: Duration,
    rng: impl RngCore + Send + Sync,
) -> Result<ModelProof, ProveError> {
    let instances = circuit.instances();
    let start = Instant::now();
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(Vec::new());
    plonk::create_proof::<KZGCommitmentScheme<Bn256>, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
        params,
        pk,
        &[circuit],
        &[&columns],
        rng,
        &mut transcript,
    )
    .map_err(plonk_error)?;
    let bytes = transcript.finalize();
    let prove = start.elapsed();
    let start = Instant::now();
    verify(params, pk.get_vk(), &bytes, &instances)?;
    let verify = start.elapsed();
    Ok(ModelProof { bytes, instances, times: ProveTimes { witness, prove, verify } })
}

/// Verifies a proof.
///
/// # Errors
///
/// [`ProveError::Rejected`] for a proof that is not one of these instances, or that has bytes beyond its end.
pub fn verify(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey<G1Affine>,
    proof: &[u8],
    instances: &[Vec<Fr>],
) -> Result<(), ProveError> {
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    let mut reader = Cursor::new(proof);
    {
        let mut transcript = Blake2bRead::<_, G1Affine, Challenge255<_>>::init(&mut reader);
        plonk::verify_proof::<KZGCommitmentScheme<Bn256>, VerifierSHPLONK<'_, Bn256>, _, _, _>(
            params.verifier_params(),
            vk,
            SingleStrategy::new(params),
            &[&columns],
            &mut transcript,
        )
        .map_err(|e| ProveError::Rejected(format!("{e:?}")))?;
    }
    let mut rest = [0u8; 1];
    match reader.read(&mut rest) {
        Ok(0) => Ok(()),
        _ => Err(ProveError::Rejected("bytes beyond the end of the proof".into())),
    }
}
