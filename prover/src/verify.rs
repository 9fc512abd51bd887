//! Verification of proof bytes with halo2's verifier, for the explicit functions.

use halo2_axiom::plonk::verify_proof;
use halo2_axiom::poly::commitment::{Params, Verifier};
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::msm::DualMSM;
use halo2_axiom::poly::kzg::multiopen::{VerifierGWC, VerifierSHPLONK};
use halo2_axiom::poly::kzg::strategy::{GuardKZG, SingleStrategy};
use halo2_axiom::transcript::{
    Blake2bRead, Challenge255, EncodedChallenge, Keccak256Read, TranscriptRead, TranscriptReadBuffer,
};
use halo2curves::bn256::{Bn256, Fr, G1Affine};

use crate::{Error, Multiopen, Result, VerifyingKey};

/// A transcript that halo2 itself can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProofTranscript {
    /// halo2's default.
    #[default]
    Blake2b,
    /// For verifiers on Ethereum.
    Keccak256,
}

/// How a proof is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The transcript; Blake2b unless told.
    pub transcript: ProofTranscript,
    /// The opening proof; [`Multiopen::Shplonk`] unless told.
    pub multiopen: Multiopen,
    /// Whether points must be in their canonical encoding; on unless told.
    ///
    /// The curve's decoder ignores the flag of the identity on other points, so upstream's verifier accepts several encodings of one
    /// proof. Where the bytes of a proof name it (a nullifier, a cache, a signature over it) that is malleability.
    pub canonical: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions { transcript: ProofTranscript::Blake2b, multiopen: Multiopen::Shplonk, canonical: true }
    }
}

impl VerifyOptions {
    /// With the given transcript.
    pub fn transcript(self, transcript: ProofTranscript) -> Self {
        VerifyOptions { transcript, ..self }
    }

    /// With the given opening proof.
    pub fn multiopen(self, multiopen: Multiopen) -> Self {
        VerifyOptions { multiopen, ..self }
    }

    /// With or without the demand for canonical encodings.
    pub fn canonical(self, canonical: bool) -> Self {
        VerifyOptions { canonical, ..self }
    }
}

/// Whether no point of a proof carries the flag of the identity without being it. Scalars never have that bit: the modulus is
/// below 2^254. What is otherwise not canonical, the decoder refuses.
fn is_canonical(proof: &[u8]) -> bool {
    let (chunks, rest) = proof.as_chunks::<32>();
    let flagged = |chunk: &[u8; 32]| chunk.last().is_some_and(|top| top & 0x80 != 0);
    let identity =
        |chunk: &[u8; 32]| matches!(chunk.split_last(), Some((0x80, x)) if x.iter().all(|b| *b == 0));
    rest.is_empty() && chunks.iter().all(|chunk| !flagged(chunk) || identity(chunk))
}

/// Verifies proof bytes: one proof has one encoding, so bytes after it and points that are not canonically encoded are refused.
///
/// # Errors
/// As [`verify_with`].
pub fn verify(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    proof: &[u8],
    transcript: ProofTranscript,
    multiopen: Multiopen,
) -> Result<()> {
    let options = VerifyOptions::default().transcript(transcript).multiopen(multiopen);
    verify_with(params, vk, instances, proof, options)
}

/// Verifies proof bytes. Bytes after the proof are always refused.
///
/// # Errors
/// [`Error::WrongSize`] when key and parameters have different k, [`Error::Count`] and [`Error::InstanceTooLong`] for
/// instances that do not fit the key, [`Error::Rejected`] for everything else that is not a proof of the statement.
pub fn verify_with(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    proof: &[u8],
    options: VerifyOptions,
) -> Result<()> {
    let VerifyOptions { transcript, multiopen, canonical } = options;
    if canonical && !is_canonical(proof) {
        return Err(Error::Rejected("a point is not in its canonical encoding".to_owned()));
    }
    let k = vk.get_domain().k();
    if params.k() != k {
        return Err(Error::WrongSize { key: k, srs: params.k() });
    }
    let usable = (1usize << k) - (vk.cs().blinding_factors() + 1);
    for columns in instances {
        let expected = vk.cs().num_instance_columns();
        if columns.len() != expected {
            return Err(Error::Count { what: "instance columns", expected, found: columns.len() });
        }
        let long = columns.iter().position(|values| values.len() > usable);
        if let Some(column) = long {
            return Err(Error::InstanceTooLong { column, found: columns[column].len(), usable });
        }
    }
    let mut rest = proof;
    match transcript {
        ProofTranscript::Blake2b => {
            let mut t = Blake2bRead::<_, G1Affine, Challenge255<_>>::init(&mut rest);
            with(params, vk, instances, &mut t, multiopen)?;
        }
        ProofTranscript::Keccak256 => {
            let mut t = Keccak256Read::<_, G1Affine, Challenge255<_>>::init(&mut rest);
            with(params, vk, instances, &mut t, multiopen)?;
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Error::Rejected(format!("{} bytes follow the proof", rest.len())))
    }
}

fn with<E: EncodedChallenge<G1Affine>>(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    transcript: &mut impl TranscriptRead<G1Affine, E>,
    multiopen: Multiopen,
) -> Result<()> {
    match multiopen {
        Multiopen::Shplonk => with_scheme::<VerifierSHPLONK<'_, Bn256>, E>(params, vk, instances, transcript),
        Multiopen::Gwc => with_scheme::<VerifierGWC<'_, Bn256>, E>(params, vk, instances, transcript),
    }
}

/// halo2's verifier with one opening scheme; `Ok` only when the final pairing check passed.
pub(crate) fn with_scheme<'p, V, E>(
    params: &'p ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    transcript: &mut impl TranscriptRead<G1Affine, E>,
) -> Result<()>
where
    E: EncodedChallenge<G1Affine>,
    V: Verifier<
            'p,
            KZGCommitmentScheme<Bn256>,
            MSMAccumulator = DualMSM<'p, Bn256>,
            Guard = GuardKZG<'p, Bn256>,
        >,
{
    let strategy = SingleStrategy::new(params);
    verify_proof::<KZGCommitmentScheme<Bn256>, V, _, _, _>(params, vk, strategy, instances, transcript)
        .map_err(|e| Error::Rejected(e.to_string()))
}
