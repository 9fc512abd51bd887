//! Affine additions with one shared inversion (Montgomery's trick), one at a time.

use ff::{Field, PrimeField};
use halo2curves::bn256::{Fq, Fr, G1Affine};

use crate::arch::points::{NEGATE, Pair, Points};

/// The portable kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarPoints;

/// Denominators' running product before each pair, and each pair's denominator: zero if the sum needs none.
#[derive(Default)]
pub(crate) struct Workspace {
    prefix: Vec<(Fq, Fq)>,
}

fn is_zero(x: &Fq) -> bool {
    *x == Fq::ZERO
}

/// # Safety
/// `operand` without its [`NEGATE`] bit is in bounds of `src`.
unsafe fn load(src: *const G1Affine, operand: u32) -> G1Affine {
    // SAFETY: in bounds by the caller's contract.
    let point = unsafe { *src.add((operand & !NEGATE) as usize) };
    if operand & NEGATE == 0 { point } else { ScalarPoints::negate(&point) }
}

impl Points for ScalarPoints {
    type Point = G1Affine;
    type Workspace = Workspace;
    const IDENTITY: G1Affine = G1Affine { x: Fq::ZERO, y: Fq::ZERO };
    const LANES: usize = 1;

    fn from_affine(self, point: &G1Affine) -> G1Affine {
        *point
    }

    fn to_affine(self, point: &G1Affine) -> G1Affine {
        *point
    }

    // No point of the curve has y = 0: its order is odd.
    fn is_identity(point: &G1Affine) -> bool {
        is_zero(&point.y)
    }

    fn negate(point: &G1Affine) -> G1Affine {
        G1Affine { x: point.x, y: -point.y }
    }

    unsafe fn add_pairs(
        self,
        src: *const G1Affine,
        dst: *mut G1Affine,
        pairs: &[Pair],
        workspace: &mut Workspace,
    ) {
        let prefix = &mut workspace.prefix;
        prefix.clear();
        let mut product = Fq::ONE;
        for pair in pairs {
            // SAFETY: in bounds by the caller's contract.
            let (a, b) = unsafe { (load(src, pair.a), load(src, pair.b)) };
            let mut denominator =
                if Self::is_identity(&a) || Self::is_identity(&b) { Fq::ZERO } else { b.x - a.x };
            if is_zero(&denominator) && !Self::is_identity(&a) && a == b {
                denominator = a.y.double();
            }
            prefix.push((product, denominator));
            if !is_zero(&denominator) {
                product *= denominator;
            }
        }
        // A product of non-zero elements.
        let mut inverse = product.invert().unwrap_or(Fq::ZERO);
        for (pair, (before, denominator)) in pairs.iter().zip(prefix.iter()).rev() {
            // SAFETY: in bounds by the caller's contract.
            let (a, b) = unsafe { (load(src, pair.a), load(src, pair.b)) };
            let sum = if is_zero(denominator) {
                match (Self::is_identity(&a), Self::is_identity(&b)) {
                    (true, _) => b,
                    (_, true) => a,
                    _ => Self::IDENTITY,
                }
            } else {
                let inverted = inverse * before;
                inverse *= denominator;
                let numerator = if a.x == b.x {
                    let square = a.x.square();
                    square.double() + square
                } else {
                    b.y - a.y
                };
                let slope = numerator * inverted;
                let x = slope.square() - a.x - b.x;
                G1Affine { x, y: slope * (a.x - x) - a.y }
            };
            // SAFETY: in bounds by the caller's contract.
            unsafe { *dst.add(pair.to as usize) = sum };
        }
    }

    fn canonical(self, scalars: &[Fr], out: &mut [[u64; 4]]) {
        for (scalar, out) in scalars.iter().zip(out) {
            let repr = scalar.to_repr();
            for (word, bytes) in out.iter_mut().zip(repr.as_ref().chunks_exact(8)) {
                let mut le = [0; 8];
                le.copy_from_slice(bytes);
                *word = u64::from_le_bytes(le);
            }
        }
    }
}
