//! Upstream's `create_proof`, unmodified, with what it leaves to chance on record.
//!
//! Two things in an upstream proof do not come from the caller's generator: the mask polynomial and the order of
//! distinct lookup inputs. Both are committed through the parameters, which are a type parameter of `create_proof`:
//! parameters that record what they commit see both.

use std::io;
use std::sync::{Arc, Mutex};

use halo2_axiom::plonk::{Circuit, Error, ProvingKey, create_proof};
use halo2_axiom::poly::commitment::{Blind, CommitmentScheme, Params, ParamsProver, ParamsVerifier, Prover};
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::msm::MSMKZG;
use halo2_axiom::poly::{Coeff, LagrangeCoeff, Polynomial, ProverQuery};
use halo2_axiom::transcript::{EncodedChallenge, TranscriptWrite};
use halo2curves::bn256::{Bn256, Fr, G1, G1Affine};
use parhelion_prover::Choices;
use rand_core::RngCore;

#[derive(Clone, Debug, Default)]
struct Log {
    lagrange: Vec<Vec<Fr>>,
    coeff: Vec<Vec<Fr>>,
}

#[derive(Clone, Debug)]
pub struct Recording {
    params: ParamsKZG<Bn256>,
    log: Arc<Mutex<Log>>,
}

impl<'p> Params<'p, G1Affine> for Recording {
    type MSM = MSMKZG<Bn256>;

    fn k(&self) -> u32 {
        self.params.k()
    }

    fn n(&self) -> u64 {
        self.params.n()
    }

    fn downsize(&mut self, k: u32) {
        self.params.downsize(k);
    }

    fn empty_msm(&'p self) -> Self::MSM {
        self.params.empty_msm()
    }

    fn commit_lagrange(&self, poly: &Polynomial<Fr, LagrangeCoeff>, r: Blind<Fr>) -> G1 {
        self.log.lock().unwrap().lagrange.push(poly.values().to_vec());
        self.params.commit_lagrange(poly, r)
    }

    fn write<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        self.params.write(writer)
    }

    fn read<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Ok(Recording { params: Params::read(reader)?, log: Arc::default() })
    }
}

impl<'p> ParamsProver<'p, G1Affine> for Recording {
    type ParamsVerifier = Recording;

    fn new(k: u32) -> Self {
        Recording { params: ParamsProver::new(k), log: Arc::default() }
    }

    fn commit(&self, poly: &Polynomial<Fr, Coeff>, r: Blind<Fr>) -> G1 {
        self.log.lock().unwrap().coeff.push(poly.values().to_vec());
        self.params.commit(poly, r)
    }

    fn get_g(&self) -> &[G1Affine] {
        self.params.get_g()
    }

    fn verifier_params(&'p self) -> &'p Recording {
        self
    }
}

impl ParamsVerifier<'_, G1Affine> for Recording {}

#[derive(Debug)]
pub struct RecordingScheme;

impl CommitmentScheme for RecordingScheme {
    type Scalar = Fr;
    type Curve = G1Affine;
    type ParamsProver = Recording;
    type ParamsVerifier = Recording;

    fn new_params(k: u32) -> Recording {
        ParamsProver::new(k)
    }

    fn read_params<R: io::Read>(reader: &mut R) -> io::Result<Recording> {
        Params::read(reader)
    }
}

/// One of upstream's opening provers under the recording scheme.
pub struct Via<P>(P);

impl<'p, P: Prover<'p, KZGCommitmentScheme<Bn256>>> Prover<'p, RecordingScheme> for Via<P> {
    const QUERY_INSTANCE: bool = P::QUERY_INSTANCE;

    fn new(params: &'p Recording) -> Self {
        Via(P::new(&params.params))
    }

    fn create_proof<'com, E, T, R, I>(&self, rng: R, transcript: &mut T, queries: I) -> io::Result<()>
    where
        E: EncodedChallenge<G1Affine>,
        T: TranscriptWrite<G1Affine, E>,
        I: IntoIterator<Item = ProverQuery<'com, G1Affine>> + Clone,
        R: RngCore,
    {
        self.0.create_proof(rng, transcript, queries)
    }
}

/// The choices of one upstream proof.
#[derive(Clone, Debug)]
pub struct Recorded {
    mask: Vec<Fr>,
    orders: Vec<Vec<Fr>>,
}

impl Choices for Recorded {
    fn mask(&mut self, n: usize) -> Vec<Fr> {
        assert_eq!(self.mask.len(), n);
        self.mask.clone()
    }

    fn order(&mut self, lookup: usize, distinct: &mut [Fr]) {
        distinct.copy_from_slice(&self.orders[lookup]);
    }
}

/// Runs upstream's prover into `transcript` and gives back what it chose.
pub fn prove<P, E, T, C>(
    params: &ParamsKZG<Bn256>,
    pk: &ProvingKey<G1Affine>,
    circuits: &[C],
    instances: &[&[&[Fr]]],
    rng: impl RngCore,
    transcript: &mut T,
) -> Result<Recorded, Error>
where
    P: for<'p> OpeningProver<'p>,
    E: EncodedChallenge<G1Affine>,
    T: TranscriptWrite<G1Affine, E>,
    C: Circuit<Fr>,
{
    let recording = Recording { params: params.clone(), log: Arc::default() };
    P::run::<E, T, C>(&recording, pk, circuits, instances, rng, transcript)?;
    let log = recording.log.lock().unwrap();
    let cs = pk.get_vk().cs();
    let usable = (1usize << pk.get_vk().get_domain().k()) - (cs.blinding_factors() + 1);
    let advice = circuits.len() * cs.num_advice_columns();
    let permuted = log.lagrange.iter().skip(advice).take(2 * circuits.len() * cs.lookups().len());
    let orders = permuted
        .step_by(2)
        .map(|column| {
            let mut order = column[..usable].to_vec();
            order.dedup();
            order
        })
        .collect();
    Ok(Recorded { mask: log.coeff[0].clone(), orders })
}

/// Names an opening prover whatever the lifetime of its parameters.
pub trait OpeningProver<'p> {
    fn run<E, T, C>(
        params: &'p Recording,
        pk: &ProvingKey<G1Affine>,
        circuits: &[C],
        instances: &[&[&[Fr]]],
        rng: impl RngCore,
        transcript: &mut T,
    ) -> Result<(), Error>
    where
        E: EncodedChallenge<G1Affine>,
        T: TranscriptWrite<G1Affine, E>,
        C: Circuit<Fr>;
}

macro_rules! opening {
    ($name:ident, $prover:ident) => {
        pub struct $name;

        impl<'p> OpeningProver<'p> for $name {
            fn run<E, T, C>(
                params: &'p Recording,
                pk: &ProvingKey<G1Affine>,
                circuits: &[C],
                instances: &[&[&[Fr]]],
                rng: impl RngCore,
                transcript: &mut T,
            ) -> Result<(), Error>
            where
                E: EncodedChallenge<G1Affine>,
                T: TranscriptWrite<G1Affine, E>,
                C: Circuit<Fr>,
            {
                type P<'p> = Via<halo2_axiom::poly::kzg::multiopen::$prover<'p, Bn256>>;
                create_proof::<RecordingScheme, P<'p>, E, _, T, C>(
                    params, pk, circuits, instances, rng, transcript,
                )
            }
        }
    };
}

opening!(Shplonk, ProverSHPLONK);
opening!(Gwc, ProverGWC);
