//! Points as bytes, and the two constructors of halo2's parameters that need an existing one.

use std::sync::OnceLock;

use ff::PrimeField;
use group::GroupEncoding;
use group::prime::PrimeCurveAffine;
use halo2_axiom::halo2curves::serde::SerdeObject;
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::CurveAffine;
use halo2curves::bn256::{Bn256, Fq, Fr, G1Affine, G2Affine};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;

use super::{PointFormat, SrsError};

/// Bytes of an uncompressed G1 point.
pub(super) const G1_RAW: usize = 64;
/// Bytes of an uncompressed G2 point.
pub(super) const G2_RAW: usize = 128;

/// Some parameters, for upstream's constructor, which is a method.
pub(super) fn seed_params() -> &'static ParamsKZG<Bn256> {
    static SEED: OnceLock<ParamsKZG<Bn256>> = OnceLock::new();
    SEED.get_or_init(|| ParamsKZG::setup(1, ChaCha20Rng::from_seed([0; 32])))
}

pub(super) fn verifier_params(k: u32, g0: G1Affine, g2: G2Affine, s_g2: G2Affine) -> ParamsKZG<Bn256> {
    seed_params().from_parts(k, vec![g0], Some(vec![]), g2, s_g2)
}

/// Uncompressed, Montgomery, little-endian.
pub(super) fn raw<P: SerdeObject>(point: &P) -> Vec<u8> {
    point.to_raw_bytes()
}

/// Uncompressed points, on the curve and in the subgroup (G1 has cofactor 1), coordinates canonical.
pub(super) fn g1_from_raw(bytes: &[u8], what: &'static str) -> Result<Vec<G1Affine>, SrsError> {
    parse(bytes, G1_RAW, what, |chunk| {
        <G1Affine as SerdeObject>::from_raw_bytes(chunk).filter(|p| bool::from(p.is_on_curve()))
    })
}

/// As [`g1_from_raw`] without any check.
pub(super) fn g1_from_trusted(bytes: &[u8]) -> Vec<G1Affine> {
    bytes.par_chunks_exact(G1_RAW).map(<G1Affine as SerdeObject>::from_raw_bytes_unchecked).collect()
}

/// Compressed points.
pub(super) fn g1_from_compressed(bytes: &[u8], what: &'static str) -> Result<Vec<G1Affine>, SrsError> {
    parse(bytes, PointFormat::Compressed.g1_bytes(), what, |chunk| {
        let mut repr = <G1Affine as GroupEncoding>::Repr::default();
        repr.as_mut().copy_from_slice(chunk);
        Option::from(G1Affine::from_bytes(&repr))
    })
}

fn parse<P: Send>(
    bytes: &[u8],
    size: usize,
    what: &'static str,
    point: impl Fn(&[u8]) -> Option<P> + Sync,
) -> Result<Vec<P>, SrsError> {
    bytes
        .par_chunks_exact(size)
        .enumerate()
        .map(|(index, chunk)| point(chunk).ok_or(SrsError::BadPoint { what, index }))
        .collect()
}

/// One G2 point; G2 has a cofactor, so membership of the subgroup is checked too.
pub(super) fn g2(bytes: &[u8], format: PointFormat, what: &'static str) -> Result<G2Affine, SrsError> {
    let bad = SrsError::BadPoint { what, index: 0 };
    let point = match format {
        PointFormat::Compressed => {
            let mut repr = <G2Affine as GroupEncoding>::Repr::default();
            if repr.as_ref().len() != bytes.len() || !canonical(bytes) {
                return Err(bad);
            }
            repr.as_mut().copy_from_slice(bytes);
            Option::from(G2Affine::from_bytes(&repr))
        }
        _ => <G2Affine as SerdeObject>::from_raw_bytes(bytes),
    };
    point.filter(in_subgroup).ok_or(bad)
}

/// Whether both halves of a compressed abscissa are below the modulus: upstream's decoder panics where one is not.
fn canonical(bytes: &[u8]) -> bool {
    let (halves, rest) = bytes.as_chunks::<32>();
    let last = halves.len().saturating_sub(1);
    let below = |(i, half): (usize, &[u8; 32])| {
        let mut half = *half;
        if i == last {
            // The flags.
            half[31] &= 0x3f;
        }
        bool::from(Fq::from_repr(half).is_some())
    };
    rest.is_empty() && halves.iter().enumerate().all(below)
}

fn in_subgroup(point: &G2Affine) -> bool {
    // r·P = (r − 1)·P + P.
    bool::from(point.is_on_curve())
        && bool::from(group::Group::is_identity(&(point.to_curve() * -Fr::one() + point.to_curve())))
}
