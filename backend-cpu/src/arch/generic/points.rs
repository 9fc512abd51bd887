//! Affine additions with one shared inversion (Montgomery's trick), one at a time.

use ff::{Field, PrimeField};
use halo2curves::bn256::{Fq, Fr, G1Affine};

use super::field::{FqPrime, Words, canonical_mod, mul_mod, sub_once};
use crate::arch::points::{NEGATE, Pair, Points, prefetch};

/// The portable kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarPoints;

/// Denominators' running product before each pair, and each pair's denominator: zero if the sum needs none.
#[derive(Default)]
pub(crate) struct Workspace {
    prefix: Vec<(Words, Words)>,
}

/// The Montgomery words of a coordinate.
fn words(x: Fq) -> Words {
    // SAFETY: `Fq` is one `[u64; 4]`, as `parhelion-hal` asserts of its size and alignment.
    unsafe { std::mem::transmute::<Fq, Words>(x) }
}

/// The coordinate with these Montgomery words, which are below 4p.
fn coordinate(w: &Words) -> Fq {
    // SAFETY: as in `words`; any words are a memory-safe value, and these are canonical.
    unsafe { std::mem::transmute::<Words, Fq>(canonical_mod::<FqPrime>(w)) }
}

/// Distance in pairs at which points are prefetched.
const AHEAD: usize = 8;

fn prefetch_pair(src: *const G1Affine, pair: Option<&Pair>) {
    if let Some(pair) = pair {
        prefetch(src.wrapping_add((pair.a & !NEGATE) as usize));
        prefetch(src.wrapping_add((pair.b & !NEGATE) as usize));
    }
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

    fn import(self, point: &G1Affine) -> G1Affine {
        *point
    }

    fn export(self, point: &G1Affine) -> G1Affine {
        *point
    }

    // No point of the curve has y = 0: its order is odd.
    fn is_identity(point: &G1Affine) -> bool {
        point.y == Fq::ZERO
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
        // Values below 2p throughout, zero only where stated.
        let mut product = words(Fq::ONE);
        for (i, pair) in pairs.iter().enumerate() {
            prefetch_pair(src, pairs.get(i + AHEAD));
            // SAFETY: in bounds by the caller's contract.
            let (a, b) = unsafe { (load(src, pair.a), load(src, pair.b)) };
            let denominator = if a.x != b.x && !Self::is_identity(&a) && !Self::is_identity(&b) {
                sub_once::<FqPrime>(&words(b.x), &words(a.x))
            } else if a == b && !Self::is_identity(&a) {
                words(a.y.double())
            } else {
                [0; 4]
            };
            prefix.push((product, denominator));
            if denominator != [0; 4] {
                product = mul_mod::<FqPrime>(&product, &denominator);
            }
        }
        // A product of non-zero elements.
        let mut inverse = words(coordinate(&product).invert().unwrap_or(Fq::ZERO));
        for (i, (pair, (before, denominator))) in pairs.iter().zip(prefix.iter()).enumerate().rev() {
            prefetch_pair(src, pairs.get(i.wrapping_sub(AHEAD)));
            // SAFETY: in bounds by the caller's contract.
            let (a, b) = unsafe { (load(src, pair.a), load(src, pair.b)) };
            let sum = if *denominator == [0; 4] {
                match (Self::is_identity(&a), Self::is_identity(&b)) {
                    (true, _) => b,
                    (_, true) => a,
                    _ => Self::IDENTITY,
                }
            } else {
                let inverted = mul_mod::<FqPrime>(&inverse, before);
                inverse = mul_mod::<FqPrime>(&inverse, denominator);
                let (ax, ay, bx) = (words(a.x), words(a.y), words(b.x));
                let numerator = if a.x == b.x {
                    let square = a.x.square();
                    words(square.double() + square)
                } else {
                    sub_once::<FqPrime>(&words(b.y), &ay)
                };
                let slope = mul_mod::<FqPrime>(&numerator, &inverted);
                // λ² − xa − xb + 2p, below 4p.
                let x = mul_mod::<FqPrime>(&slope, &slope);
                let x = coordinate(&sub_once::<FqPrime>(&sub_once::<FqPrime>(&x, &ax), &bx));
                let y = mul_mod::<FqPrime>(&slope, &sub_once::<FqPrime>(&ax, &words(x)));
                G1Affine { x, y: coordinate(&sub_once::<FqPrime>(&y, &ay)) }
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
