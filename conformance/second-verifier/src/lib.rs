//! What snark-verifier's native verifier says of a proof.
//!
//! It shares curve arithmetic, constraint systems and halo2's transcripts with the prover, and nothing else: it works out the protocol from the verifying
//! key, reads the proof, evaluates the constraints and checks the openings with code of its own. Every test that makes a proof asks it too.

use std::io::Read;

use halo2_axiom::plonk::VerifyingKey;
use halo2_axiom::poly::commitment::ParamsProver;
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2_axiom::transcript as halo2;
use halo2_axiom::transcript::TranscriptReadBuffer;
use halo2curves::bn256::{Bn256, Fr, G1Affine, G2Affine};
use snark_verifier::Error;
use snark_verifier::loader::native::{self, NativeLoader};
use snark_verifier::pcs::kzg::{Bdfg21, Gwc19, KzgAs, KzgDecidingKey};
use snark_verifier::system::halo2::transcript::halo2::PoseidonTranscript;
use snark_verifier::system::halo2::{Config, compile};
use snark_verifier::util::transcript::{Transcript, TranscriptRead};
use snark_verifier::verifier::SnarkVerifier;
use snark_verifier::verifier::plonk::{PlonkProtocol, PlonkVerifier};

/// The hash that challenges come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hash {
    /// halo2's default.
    #[default]
    Blake2b,
    /// For verifiers on Ethereum.
    Keccak256,
    /// For verifiers in circuits: snark-verifier's own, of width 3 with 8 full and 57 partial rounds.
    Poseidon,
}

/// How polynomials are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// Boneh, Drake, Fisch, Gabizon 2021: halo2's SHPLONK.
    #[default]
    Shplonk,
    /// Gabizon, Williamson, Ciobotaru 2019.
    Gwc,
}

/// Why a proof is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// Instances that the key has no columns for.
    #[error("{found} columns of instances, where the key has {expected}")]
    Columns {
        /// Columns of the key.
        expected: usize,
        /// Columns that were given for one of the circuits.
        found: usize,
    },
    /// A key whose proofs it cannot read: halo2 cuts the quotient as for a permutation, also where the circuit has none and its gates are of lower degree.
    #[error("a quotient of {halo2} pieces, where snark-verifier expects {expected}")]
    Pieces {
        /// Pieces in halo2's proofs.
        halo2: usize,
        /// Pieces that follow from the constraints.
        expected: usize,
    },
    /// Bytes after the proof.
    #[error("{0} bytes after the proof")]
    Trailing(usize),
    /// What snark-verifier refuses.
    #[error("snark-verifier: {0:?}")]
    Invalid(Error),
}

/// Verifies a proof under a key and a reference string's `[τ]G2`: `instances` has, for every circuit of the proof, its columns of field elements.
///
/// # Errors
/// [`Refusal`].
pub fn verify(
    s_g2: G2Affine,
    vk: &VerifyingKey<G1Affine>,
    instances: &[Vec<Vec<Fr>>],
    proof: &[u8],
    (hash, opening): (Hash, Opening),
) -> Result<(), Refusal> {
    let expected = vk.cs().num_instance_columns();
    if let Some(columns) = instances.iter().find(|columns| columns.len() != expected) {
        return Err(Refusal::Columns { expected, found: columns.len() });
    }
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    // Only k is read of it.
    let any = ParamsKZG::<Bn256>::new(1);
    let params = any.from_parts(vk.get_domain().k(), vec![g1], Some(Vec::new()), g2, s_g2);
    let lengths = instances.first().map(|columns| columns.iter().map(Vec::len).collect());
    let config = Config::kzg().with_num_proof(instances.len()).with_num_instance(lengths.unwrap_or_default());
    let protocol = compile(&params, vk, config);
    let (halo2, expected) = (vk.cs().degree().saturating_sub(1), protocol.quotient.num_chunk());
    if halo2 != expected {
        return Err(Refusal::Pieces { halo2, expected });
    }
    let key = KzgDecidingKey::new(g1, g2, s_g2);
    let instances = instances.concat();
    let mut rest = proof;
    match hash {
        Hash::Blake2b => {
            let mut read = halo2::Blake2bRead::<_, _, halo2::Challenge255<_>>::init(&mut rest);
            check(opening, &key, &protocol, &instances, &mut read)
        }
        Hash::Keccak256 => {
            let mut read = Keccak(halo2::Keccak256Read::<_, _, halo2::Challenge255<_>>::init(&mut rest));
            check(opening, &key, &protocol, &instances, &mut read)
        }
        Hash::Poseidon => {
            type Poseidon<R> = PoseidonTranscript<G1Affine, NativeLoader, R, 3, 2, 8, 57>;
            check(opening, &key, &protocol, &instances, &mut Poseidon::new::<0>(&mut rest))
        }
    }
    .map_err(Refusal::Invalid)?;
    if rest.is_empty() { Ok(()) } else { Err(Refusal::Trailing(rest.len())) }
}

fn check(
    opening: Opening,
    key: &KzgDecidingKey<Bn256>,
    protocol: &PlonkProtocol<G1Affine>,
    instances: &[Vec<Fr>],
    transcript: &mut impl TranscriptRead<G1Affine, NativeLoader>,
) -> Result<(), Error> {
    match opening {
        Opening::Shplonk => {
            check_as::<PlonkVerifier<KzgAs<Bn256, Bdfg21>>>(key, protocol, instances, transcript)
        }
        Opening::Gwc => check_as::<PlonkVerifier<KzgAs<Bn256, Gwc19>>>(key, protocol, instances, transcript),
    }
}

fn check_as<V>(
    key: &V::VerifyingKey,
    protocol: &V::Protocol,
    instances: &[Vec<Fr>],
    transcript: &mut impl TranscriptRead<G1Affine, NativeLoader>,
) -> Result<(), Error>
where
    V: SnarkVerifier<G1Affine, NativeLoader>,
{
    let proof = V::read_proof(key, protocol, instances, transcript)?;
    V::verify(key, protocol, instances, &proof).map(|_| ())
}

/// halo2's Keccak transcript, which snark-verifier reads none of its own format for.
struct Keccak<R: Read>(halo2::Keccak256Read<R, G1Affine, halo2::Challenge255<G1Affine>>);

fn failed(e: std::io::Error) -> Error {
    Error::Transcript(e.kind(), e.to_string())
}

impl<R: Read> Transcript<G1Affine, NativeLoader> for Keccak<R> {
    fn loader(&self) -> &NativeLoader {
        &native::LOADER
    }

    fn squeeze_challenge(&mut self) -> Fr {
        *halo2::Transcript::squeeze_challenge_scalar::<Fr>(&mut self.0)
    }

    fn common_ec_point(&mut self, point: &G1Affine) -> Result<(), Error> {
        halo2::Transcript::common_point(&mut self.0, *point).map_err(failed)
    }

    fn common_scalar(&mut self, scalar: &Fr) -> Result<(), Error> {
        halo2::Transcript::common_scalar(&mut self.0, *scalar).map_err(failed)
    }
}

impl<R: Read> TranscriptRead<G1Affine, NativeLoader> for Keccak<R> {
    fn read_scalar(&mut self) -> Result<Fr, Error> {
        halo2::TranscriptRead::read_scalar(&mut self.0).map_err(failed)
    }

    fn read_ec_point(&mut self) -> Result<G1Affine, Error> {
        halo2::TranscriptRead::read_point(&mut self.0).map_err(failed)
    }
}
