//! The functions behind [`crate::plonk`]: upstream's signatures on the default engine.

mod cache;
mod schemes;

use std::hash::Hash;

use ff::{FromUniformBytes, WithSmallOrderMulGroup};
use halo2_axiom::plonk::{Circuit, Error, ProvingKey, VerifyingKey};
use halo2_axiom::poly::commitment::CommitmentScheme;
use halo2_axiom::transcript::{EncodedChallenge, TranscriptWrite};
use halo2curves::CurveAffine;
use rand_core::RngCore;

pub use self::schemes::{KeygenWith, ProveWith};

/// `halo2_axiom::plonk::create_proof` on the default engine; see [`crate::plonk`] for what differs.
///
/// # Errors
/// halo2's own; [`Error::Transcript`] also carries what has no variant there, such as an engine that failed, with its text.
pub fn create_proof<
    'params,
    'a,
    Scheme: CommitmentScheme,
    P: ProveWith<'params, Scheme>,
    E: EncodedChallenge<Scheme::Curve>,
    R: RngCore + 'a,
    T: TranscriptWrite<Scheme::Curve, E>,
    ConcreteCircuit: Circuit<Scheme::Scalar>,
>(
    params: &'params Scheme::ParamsProver,
    pk: &ProvingKey<Scheme::Curve>,
    circuits: &[ConcreteCircuit],
    instances: &[&[&'a [Scheme::Scalar]]],
    rng: R,
    transcript: &'a mut T,
) -> Result<(), Error>
where
    Scheme::Scalar: Hash + WithSmallOrderMulGroup<3>,
    <Scheme as CommitmentScheme>::ParamsProver: Sync,
{
    P::create_proof_with(params, pk, circuits, instances, rng, transcript)
}

/// `halo2_axiom::plonk::keygen_vk` on the default engine: selectors are not compressed.
///
/// # Errors
/// As [`create_proof`].
pub fn keygen_vk<'params, C, P, ConcreteCircuit>(
    params: &P,
    circuit: &ConcreteCircuit,
) -> Result<VerifyingKey<C>, Error>
where
    C: CurveAffine,
    P: KeygenWith<'params, C> + Sync,
    ConcreteCircuit: Circuit<C::Scalar>,
    C::Scalar: FromUniformBytes<64>,
{
    keygen_vk_custom(params, circuit, false)
}

/// `halo2_axiom::plonk::keygen_vk_custom` on the default engine.
///
/// # Errors
/// As [`create_proof`].
pub fn keygen_vk_custom<'params, C, P, ConcreteCircuit>(
    params: &P,
    circuit: &ConcreteCircuit,
    compress_selectors: bool,
) -> Result<VerifyingKey<C>, Error>
where
    C: CurveAffine,
    P: KeygenWith<'params, C> + Sync,
    ConcreteCircuit: Circuit<C::Scalar>,
    C::Scalar: FromUniformBytes<64>,
{
    params.keygen_vk_with(circuit, compress_selectors)
}

/// `halo2_axiom::plonk::keygen_pk` on the default engine.
///
/// # Errors
/// As [`create_proof`].
pub fn keygen_pk<'params, C, P, ConcreteCircuit>(
    params: &P,
    vk: VerifyingKey<C>,
    circuit: &ConcreteCircuit,
) -> Result<ProvingKey<C>, Error>
where
    C: CurveAffine,
    C::Scalar: FromUniformBytes<64>,
    P: KeygenWith<'params, C> + Sync,
    ConcreteCircuit: Circuit<C::Scalar>,
{
    let compress_selectors = vk.compress_selectors();
    keygen_pk_impl(params, Some(vk), circuit, compress_selectors)
}

/// `halo2_axiom::plonk::keygen_pk2` on the default engine: both keys from one synthesis.
///
/// # Errors
/// As [`create_proof`].
pub fn keygen_pk2<'params, C, P, ConcreteCircuit>(
    params: &P,
    circuit: &ConcreteCircuit,
    compress_selectors: bool,
) -> Result<ProvingKey<C>, Error>
where
    C: CurveAffine,
    C::Scalar: FromUniformBytes<64>,
    P: KeygenWith<'params, C> + Sync,
    ConcreteCircuit: Circuit<C::Scalar>,
{
    keygen_pk_impl(params, None, circuit, compress_selectors)
}

/// `halo2_axiom::plonk::keygen_pk_impl` on the default engine.
///
/// # Errors
/// As [`create_proof`].
pub fn keygen_pk_impl<'params, C, P, ConcreteCircuit>(
    params: &P,
    vk: Option<VerifyingKey<C>>,
    circuit: &ConcreteCircuit,
    compress_selectors: bool,
) -> Result<ProvingKey<C>, Error>
where
    C: CurveAffine,
    C::Scalar: FromUniformBytes<64>,
    P: KeygenWith<'params, C> + Sync,
    ConcreteCircuit: Circuit<C::Scalar>,
{
    params.keygen_pk_with(vk, circuit, compress_selectors)
}
