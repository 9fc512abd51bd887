//! Which commitment schemes the drop-in functions know.

use std::hash::Hash;

use ff::{FromUniformBytes, WithSmallOrderMulGroup};
use halo2_axiom::plonk::{self, Circuit, Error, ProvingKey, VerifyingKey};
use halo2_axiom::poly::commitment::{CommitmentScheme, Params, Prover};
use halo2_axiom::poly::ipa::commitment::{IPACommitmentScheme, ParamsIPA};
use halo2_axiom::poly::ipa::multiopen::ProverIPA;
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::multiopen::{ProverGWC, ProverSHPLONK};
use halo2_axiom::transcript::{Challenge255, EncodedChallenge, TranscriptWrite};
use halo2curves::CurveAffine;
use halo2curves::bn256::{Bn256, Fr, G1Affine};
use rand_core::{OsRng, RngCore};

use super::cache;
use crate::channel::{self, Message, Recorder};
use crate::options::{Entropy, Multiopen};
use crate::prove::Job;
use crate::redo;

/// Opening provers that [`create_proof`](super::create_proof) accepts.
#[diagnostic::on_unimplemented(
    message = "parhelion-prover proves with KZG on BN254 (ProverSHPLONK<Bn256>, ProverGWC<Bn256>) and passes ProverIPA on to halo2-axiom; `{Self}` is neither",
    note = "generic code adds the bound `P: parhelion_prover::plonk::ProveWith<'params, Scheme>`; for other schemes call halo2-axiom itself"
)]
pub trait ProveWith<'params, Scheme: CommitmentScheme>: Prover<'params, Scheme> {
    /// What [`create_proof`](super::create_proof) calls.
    ///
    /// # Errors
    /// As there.
    fn create_proof_with<'a, E, R, T, ConcreteCircuit>(
        params: &'params Scheme::ParamsProver,
        pk: &ProvingKey<Scheme::Curve>,
        circuits: &[ConcreteCircuit],
        instances: &[&[&'a [Scheme::Scalar]]],
        rng: R,
        transcript: &'a mut T,
    ) -> Result<(), Error>
    where
        E: EncodedChallenge<Scheme::Curve>,
        R: RngCore + 'a,
        T: TranscriptWrite<Scheme::Curve, E>,
        ConcreteCircuit: Circuit<Scheme::Scalar>;
}

impl<'params> ProveWith<'params, KZGCommitmentScheme<Bn256>> for ProverSHPLONK<'params, Bn256> {
    fn create_proof_with<'a, E, R, T, ConcreteCircuit>(
        params: &'params ParamsKZG<Bn256>,
        pk: &ProvingKey<G1Affine>,
        circuits: &[ConcreteCircuit],
        instances: &[&[&'a [Fr]]],
        rng: R,
        transcript: &'a mut T,
    ) -> Result<(), Error>
    where
        E: EncodedChallenge<G1Affine>,
        R: RngCore + 'a,
        T: TranscriptWrite<G1Affine, E>,
        ConcreteCircuit: Circuit<Fr>,
    {
        kzg(Multiopen::Shplonk, params, pk, circuits, instances, rng, transcript)
    }
}

impl<'params> ProveWith<'params, KZGCommitmentScheme<Bn256>> for ProverGWC<'params, Bn256> {
    fn create_proof_with<'a, E, R, T, ConcreteCircuit>(
        params: &'params ParamsKZG<Bn256>,
        pk: &ProvingKey<G1Affine>,
        circuits: &[ConcreteCircuit],
        instances: &[&[&'a [Fr]]],
        rng: R,
        transcript: &'a mut T,
    ) -> Result<(), Error>
    where
        E: EncodedChallenge<G1Affine>,
        R: RngCore + 'a,
        T: TranscriptWrite<G1Affine, E>,
        ConcreteCircuit: Circuit<Fr>,
    {
        kzg(Multiopen::Gwc, params, pk, circuits, instances, rng, transcript)
    }
}

impl<'params, C> ProveWith<'params, IPACommitmentScheme<C>> for ProverIPA<'params, C>
where
    C: CurveAffine,
    C::ScalarExt: Hash + WithSmallOrderMulGroup<3>,
{
    fn create_proof_with<'a, E, R, T, ConcreteCircuit>(
        params: &'params ParamsIPA<C>,
        pk: &ProvingKey<C>,
        circuits: &[ConcreteCircuit],
        instances: &[&[&'a [C::ScalarExt]]],
        rng: R,
        transcript: &'a mut T,
    ) -> Result<(), Error>
    where
        E: EncodedChallenge<C>,
        R: RngCore + 'a,
        T: TranscriptWrite<C, E>,
        ConcreteCircuit: Circuit<C::ScalarExt>,
    {
        plonk::create_proof::<IPACommitmentScheme<C>, ProverIPA<'params, C>, E, R, T, ConcreteCircuit>(
            params, pk, circuits, instances, rng, transcript,
        )
    }
}

fn kzg<E, R, T, ConcreteCircuit>(
    multiopen: Multiopen,
    params: &ParamsKZG<Bn256>,
    pk: &ProvingKey<G1Affine>,
    circuits: &[ConcreteCircuit],
    instances: &[&[&[Fr]]],
    mut rng: R,
    transcript: &mut T,
) -> Result<(), Error>
where
    E: EncodedChallenge<G1Affine>,
    R: RngCore,
    T: TranscriptWrite<G1Affine, E>,
    ConcreteCircuit: Circuit<Fr>,
{
    let engine = cache::engine()?.with_ledger();
    let bases = cache::bases(&engine, params)?;
    let programs = cache::programs(&engine, pk)?;
    let job = Job { engine: &engine, bases: &bases, programs: &programs, pk, multiopen };
    let mut recorder = Recorder::<E, T>::new(transcript);
    let verify =
        |record: &[Message]| channel::verify_record(params, pk.get_vk(), instances, record, multiopen);
    let proved = job.run(circuits, instances, &mut rng, &mut recorder, &mut Entropy).and_then(|_| {
        // What a device had a part in is verified in any case.
        let wanted = cache::verify_wanted()? || engine.has_untrusted(&engine.ledger());
        if wanted { verify(&recorder.into_record()) } else { Ok(()) }
    });
    let blamed = proved.map_err(|error| {
        redo::blame(&engine, error, |trusted| {
            let job = Job { engine: trusted, ..job };
            let mut nowhere = redo::nowhere();
            let mut recorder = Recorder::<Challenge255<G1Affine>, _>::new(&mut nowhere);
            job.run(circuits, instances, &mut OsRng, &mut recorder, &mut Entropy)?;
            verify(&recorder.into_record())
        })
    });
    Ok(blamed?)
}

/// Parameters that the key generating functions accept.
#[diagnostic::on_unimplemented(
    message = "parhelion-prover makes keys for KZG on BN254 (ParamsKZG<Bn256>) and passes ParamsIPA on to halo2-axiom; `{Self}` is neither",
    note = "generic code adds the bound `P: parhelion_prover::plonk::KeygenWith<'params, C>`; for other schemes call halo2-axiom itself"
)]
pub trait KeygenWith<'params, C: CurveAffine>: Params<'params, C> {
    /// What [`keygen_vk_custom`](super::keygen_vk_custom) calls.
    ///
    /// # Errors
    /// As there.
    fn keygen_vk_with<ConcreteCircuit: Circuit<C::Scalar>>(
        &self,
        circuit: &ConcreteCircuit,
        compress_selectors: bool,
    ) -> Result<VerifyingKey<C>, Error>
    where
        C::Scalar: FromUniformBytes<64>;

    /// What [`keygen_pk_impl`](super::keygen_pk_impl) calls.
    ///
    /// # Errors
    /// As there.
    fn keygen_pk_with<ConcreteCircuit: Circuit<C::Scalar>>(
        &self,
        vk: Option<VerifyingKey<C>>,
        circuit: &ConcreteCircuit,
        compress_selectors: bool,
    ) -> Result<ProvingKey<C>, Error>
    where
        C::Scalar: FromUniformBytes<64>;
}

impl KeygenWith<'_, G1Affine> for ParamsKZG<Bn256> {
    fn keygen_vk_with<ConcreteCircuit: Circuit<Fr>>(
        &self,
        circuit: &ConcreteCircuit,
        compress_selectors: bool,
    ) -> Result<VerifyingKey<G1Affine>, Error> {
        let engine = cache::engine()?;
        let bases = cache::bases(engine, self)?;
        Ok(crate::keygen::keygen_vk_with(engine, &bases, circuit, compress_selectors)?)
    }

    fn keygen_pk_with<ConcreteCircuit: Circuit<Fr>>(
        &self,
        vk: Option<VerifyingKey<G1Affine>>,
        circuit: &ConcreteCircuit,
        compress_selectors: bool,
    ) -> Result<ProvingKey<G1Affine>, Error> {
        let engine = cache::engine()?;
        let bases = cache::bases(engine, self)?;
        Ok(crate::keygen::keygen_pk_with(engine, &bases, vk, circuit, compress_selectors)?)
    }
}

impl<'params, C: CurveAffine> KeygenWith<'params, C> for ParamsIPA<C> {
    fn keygen_vk_with<ConcreteCircuit: Circuit<C::Scalar>>(
        &self,
        circuit: &ConcreteCircuit,
        compress_selectors: bool,
    ) -> Result<VerifyingKey<C>, Error>
    where
        C::Scalar: FromUniformBytes<64>,
    {
        plonk::keygen_vk_custom(self, circuit, compress_selectors)
    }

    fn keygen_pk_with<ConcreteCircuit: Circuit<C::Scalar>>(
        &self,
        vk: Option<VerifyingKey<C>>,
        circuit: &ConcreteCircuit,
        compress_selectors: bool,
    ) -> Result<ProvingKey<C>, Error>
    where
        C::Scalar: FromUniformBytes<64>,
    {
        plonk::keygen_pk_impl(self, vk, circuit, compress_selectors)
    }
}
