//! What the library computes, in the forms that Icicle computes it in.

use std::sync::OnceLock;

use ff::{Field, PrimeField};
use group::{Curve, Group};
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use parhelion_backend_api::hal::{DeviceRepr, Ref, RefMut, as_bytes, as_bytes_mut};
use parhelion_backend_api::{Backend, Direction, NttPlan, Provider, Reuse, ScalarKind, ntt};
use parhelion_backend_cpu::CpuBackend;

use crate::state::code;

/// The backend that computes.
fn provider() -> Option<&'static Provider> {
    static PROVIDER: OnceLock<Option<Provider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            let cpu = CpuBackend::new();
            cpu.open(cpu.probe().ok()?.first()?).ok()
        })
        .as_ref()
}

/// Words as values in Montgomery form.
pub(crate) fn montgomery<T: DeviceRepr + Default>(words: &[u64]) -> Vec<T> {
    let mut values = vec![T::default(); size_of_val(words) / size_of::<T>()];
    as_bytes_mut(&mut values).copy_from_slice(as_bytes(words));
    values
}

/// Values in Montgomery form as words.
pub(crate) fn words<T: DeviceRepr>(values: &[T]) -> Vec<u64> {
    let bytes = as_bytes(values).chunks_exact(8);
    bytes.map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))).collect()
}

/// A field element from standard form; `None` when it is not below the modulus.
pub(crate) fn from_standard<F: PrimeField<Repr: Default>>(limbs: &[u64]) -> Option<F> {
    let mut repr = F::Repr::default();
    for (bytes, limb) in repr.as_mut().chunks_exact_mut(8).zip(limbs) {
        bytes.copy_from_slice(&limb.to_le_bytes());
    }
    F::from_repr(repr).into()
}

/// A field element in standard form.
pub(crate) fn to_standard<F: PrimeField>(value: &F) -> [u64; 4] {
    let repr = value.to_repr();
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(repr.as_ref().chunks_exact(8)) {
        *limb = bytes.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    limbs
}

/// Bits from `from` on, at most `count`, of a number below 2^256.
fn bits(limbs: &[u64; 4], from: u32, count: u32) -> [u64; 4] {
    let bit = |i: u32| i < 256 && limbs[i as usize / 64] >> (i % 64) & 1 == 1;
    let mut out = [0u64; 4];
    for i in (0..count.min(256)).filter(|i| bit(from + i)) {
        out[i as usize / 64] |= 1 << (i % 64);
    }
    out
}

/// What a multiplication is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msm {
    pub(crate) n: usize,
    pub(crate) batch: usize,
    pub(crate) window: u32,
    pub(crate) precompute: usize,
    pub(crate) bits: u32,
    pub(crate) scalars_montgomery: bool,
    pub(crate) points_montgomery: bool,
    pub(crate) points_shared: bool,
}

/// Windows of one share of a scalar, in bits: how far apart precomputed multiples are.
pub(crate) fn shift(window: u32, precompute: usize) -> u32 {
    window * (254u32.div_ceil(window)).div_ceil(precompute as u32)
}

/// A base as the library reads it.
pub(crate) fn base(words: &[u64], in_montgomery_form: bool) -> Option<G1Affine> {
    let (x, y) = if in_montgomery_form {
        let coordinates = montgomery::<Fq>(words);
        (coordinates[0], coordinates[1])
    } else {
        (from_standard::<Fq>(&words[..4])?, from_standard::<Fq>(&words[4..8])?)
    };
    if x == Fq::ZERO && y == Fq::ZERO {
        return Some(G1Affine::default());
    }
    G1Affine::from_xy(x, y).into()
}

/// `batch` results in homogeneous coordinates and standard form, 12 words each.
pub(crate) fn msm(scalars: &[u64], bases: &[u64], what: Msm) -> Result<Vec<u64>, i32> {
    let mut out = Vec::with_capacity(what.batch * 12);
    let mut points = Vec::with_capacity(bases.len() / 8);
    for words in bases.chunks_exact(8) {
        points.push(base(words, what.points_montgomery).ok_or(code::INVALID_ARGUMENT)?);
    }
    let share = if what.precompute > 1 { shift(what.window, what.precompute) } else { 256 };
    let provider = provider().ok_or(code::UNKNOWN_ERROR)?;
    let (msm, queue) =
        (provider.msm::<G1Affine>().ok_or(code::UNKNOWN_ERROR)?, parhelion_backend_api::Queue::host());
    for (i, column) in scalars.chunks_exact(what.n * 4).enumerate() {
        let first = if what.points_shared { 0 } else { i * what.n * what.precompute };
        let bases = &points[first..first + what.n * what.precompute];
        let mut shares = Vec::with_capacity(bases.len());
        for limbs in column.chunks_exact(4) {
            let scalar = if what.scalars_montgomery {
                to_standard(&montgomery::<Fr>(limbs)[0])
            } else {
                [limbs[0], limbs[1], limbs[2], limbs[3]]
            };
            let scalar = bits(&scalar, 0, if what.bits == 0 { 256 } else { what.bits });
            for j in 0..what.precompute as u32 {
                let share = bits(&scalar, j * share, share);
                shares.push(from_standard::<Fr>(&share).ok_or(code::INVALID_ARGUMENT)?);
            }
        }
        let prepared = msm.prepare(&queue, bases, Reuse::Once).map_err(|_| code::UNKNOWN_ERROR)?;
        let result = msm
            .msm(&queue, &prepared, Ref::host(&shares), ScalarKind::Full)
            .map_err(|_| code::UNKNOWN_ERROR)?;
        out.extend(projective(&result, i as u64 + 2));
    }
    Ok(out)
}

/// A point with a third coordinate that is not one.
pub(crate) fn projective(point: &G1, z: u64) -> Vec<u64> {
    if bool::from(point.is_identity()) {
        return [[0; 4], [1, 0, 0, 0], [0; 4]].concat();
    }
    let (affine, z) = (point.to_affine(), Fq::from(z));
    [affine.x * z, affine.y * z, z].iter().flat_map(to_standard).collect()
}

/// `precompute` multiples of every base, one base after another, in standard form.
pub(crate) fn precompute(bases: &[u64], window: u32, factor: usize, montgomery: bool) -> Option<Vec<u64>> {
    let shift = shift(window, factor);
    let mut out = Vec::with_capacity(bases.len() * factor);
    for words in bases.chunks_exact(8) {
        let mut point: G1 = base(words, montgomery)?.into();
        for _ in 0..factor {
            let affine = point.to_affine();
            out.extend(to_standard(&affine.x));
            out.extend(to_standard(&affine.y));
            for _ in 0..shift {
                point = point.double();
            }
        }
    }
    Some(out)
}

/// Transforms of columns of length 2^`log_n` with a given root, in any representation. False when nothing can compute.
pub(crate) fn transform(data: &mut [Fr], log_n: u32, root: Fr, inverse: bool) -> bool {
    if ntt::root_of_unity::<Fr>(log_n).is_ok_and(|halo2| halo2 == root) {
        let direction = if inverse { Direction::Inverse } else { Direction::Forward };
        let plan = NttPlan { log_n, direction, coset: None };
        let mut columns: Vec<RefMut<'_, Fr>> = data.chunks_exact_mut(1 << log_n).map(RefMut::host).collect();
        let queue = parhelion_backend_api::Queue::host();
        let ntt = provider().and_then(|provider| provider.ntt::<Fr>());
        return ntt.is_some_and(|ntt| ntt.ntt_batch(&queue, &plan, &mut columns).is_ok());
    }
    // Somebody else's root gives somebody else's order of evaluations.
    let root = if inverse { root.invert().unwrap_or(Fr::ONE) } else { root };
    let scale = Fr::from(1 << log_n).invert().unwrap_or(Fr::ONE);
    for column in data.chunks_exact_mut(1 << log_n) {
        let input = column.to_vec();
        let mut x = Fr::ONE;
        for out in column.iter_mut() {
            *out = input.iter().rev().fold(Fr::ZERO, |sum, a| sum * x + a);
            if inverse {
                *out *= scale;
            }
            x *= root;
        }
    }
    true
}
