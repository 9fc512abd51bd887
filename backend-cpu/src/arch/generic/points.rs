//! Affine additions with one shared inversion (Montgomery's trick), one at a time.
//!
//! The loops are compiled twice on x86-64: for any processor, and for those with BMI2, whose multiplication leaves the flags alone and has its
//! result in any two registers. It is the same Rust, and the same results.

use ff::{Field, PrimeField};
use halo2curves::bn256::{Fq, Fr, G1Affine};

use super::field::{FqPrime, Words, canonical_mod, mul_mod, sub_once};
use crate::arch::points::{NEGATE, Pair, Points, prefetch};

/// The portable kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarPoints;

/// A point in one cache line; the identity is (0, 0).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line {
    x: Words,
    y: Words,
}

/// Denominators' running product before each pair.
#[derive(Default)]
pub(crate) struct Workspace {
    prefix: Vec<Words>,
}

/// The Montgomery words of a coordinate.
fn words(x: Fq) -> Words {
    // SAFETY: `Fq` is one `[u64; 4]`, as `parhelion-hal` asserts of its size and alignment.
    unsafe { std::mem::transmute::<Fq, Words>(x) }
}

/// The coordinate with these canonical Montgomery words.
fn coordinate(w: Words) -> Fq {
    // SAFETY: as in `words`; any words are a memory-safe value, and these are canonical.
    unsafe { std::mem::transmute::<Words, Fq>(w) }
}

const ZERO: Words = [0; 4];

#[inline(always)]
fn is_zero(w: &Words) -> bool {
    w[0] | w[1] | w[2] | w[3] == 0
}

/// −y if `operand` asks for it, at most p; without a branch, because signs are random.
#[inline(always)]
fn signed(y: &Words, operand: u32) -> Words {
    let negated = sub_once::<FqPrime>(&ZERO, y);
    let mask = 0u64.wrapping_sub(u64::from(operand >> 31));
    std::array::from_fn(|i| y[i] ^ ((y[i] ^ negated[i]) & mask))
}

/// Distance in pairs at which points are prefetched.
const AHEAD: usize = 16;

#[inline(always)]
fn prefetch_pair(src: *const Line, pair: Option<&Pair>) {
    if let Some(pair) = pair {
        prefetch(src.wrapping_add((pair.a & !NEGATE) as usize));
        prefetch(src.wrapping_add((pair.b & !NEGATE) as usize));
    }
}

/// What a sum is, where the common formula does not fit.
enum Rare {
    /// This point: one operand is the identity, or they are opposite.
    Known(Line),
    /// Twice the first operand; with 2y.
    Double(Words),
}

/// Looks closely at two operands that have equal x, or one of which has x = 0, as the identity has. `None` if they are an ordinary pair.
#[cold]
#[inline(never)]
fn rare(a: &Line, ya: &Words, b: &Line, yb: &Words) -> Option<Rare> {
    // No point of the curve has y = 0: its order is odd.
    if is_zero(&a.y) {
        return Some(Rare::Known(Line { x: b.x, y: if is_zero(&b.y) { ZERO } else { *yb } }));
    }
    if is_zero(&b.y) {
        return Some(Rare::Known(Line { x: a.x, y: *ya }));
    }
    match (a.x == b.x, ya == yb) {
        (false, _) => None,
        (true, true) => Some(Rare::Double(words(coordinate(*ya).double()))),
        (true, false) => Some(Rare::Known(ScalarPoints::IDENTITY)),
    }
}

/// [`Points::add_pairs`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn add_pairs(src: *const Line, dst: *mut Line, pairs: &[Pair], prefix: &mut Vec<Words>) {
    let load = |operand: u32| {
        // SAFETY: in bounds by the caller's contract.
        unsafe { &*src.add((operand & !NEGATE) as usize) }
    };
    prefix.clear();
    prefix.reserve(pairs.len());
    // Values below 2p throughout, never zero.
    let mut product = words(Fq::ONE);
    for (i, pair) in pairs.iter().enumerate() {
        prefetch_pair(src, pairs.get(i + AHEAD));
        let (a, b) = (load(pair.a), load(pair.b));
        prefix.push(product);
        let mut denominator = sub_once::<FqPrime>(&b.x, &a.x);
        if a.x == b.x || is_zero(&a.x) || is_zero(&b.x) {
            match rare(a, &signed(&a.y, pair.a), b, &signed(&b.y, pair.b)) {
                None => {}
                Some(Rare::Known(_)) => continue,
                Some(Rare::Double(twice)) => denominator = twice,
            }
        }
        product = mul_mod::<FqPrime>(&product, &denominator);
    }
    // A product of non-zero elements.
    let mut inverse = words(coordinate(canonical_mod::<FqPrime>(&product)).invert().unwrap_or(Fq::ZERO));
    for (i, (pair, before)) in pairs.iter().zip(prefix.iter()).enumerate().rev() {
        prefetch_pair(src, pairs.get(i.wrapping_sub(AHEAD)));
        let (a, b) = (load(pair.a), load(pair.b));
        let (ya, yb) = (signed(&a.y, pair.a), signed(&b.y, pair.b));
        let mut denominator = sub_once::<FqPrime>(&b.x, &a.x);
        let mut numerator = sub_once::<FqPrime>(&yb, &ya);
        if a.x == b.x || is_zero(&a.x) || is_zero(&b.x) {
            match rare(a, &ya, b, &yb) {
                None => {}
                Some(Rare::Known(point)) => {
                    // SAFETY: in bounds by the caller's contract.
                    unsafe { *dst.add(pair.to as usize) = point };
                    continue;
                }
                Some(Rare::Double(twice)) => {
                    let square = coordinate(a.x).square();
                    (denominator, numerator) = (twice, words(square.double() + square));
                }
            }
        }
        let inverted = mul_mod::<FqPrime>(&inverse, before);
        inverse = mul_mod::<FqPrime>(&inverse, &denominator);
        let slope = mul_mod::<FqPrime>(&numerator, &inverted);
        // λ² − xa − xb + 2p, below 4p.
        let x = mul_mod::<FqPrime>(&slope, &slope);
        let x = canonical_mod::<FqPrime>(&sub_once::<FqPrime>(&sub_once::<FqPrime>(&x, &a.x), &b.x));
        let y = mul_mod::<FqPrime>(&slope, &sub_once::<FqPrime>(&a.x, &x));
        let y = canonical_mod::<FqPrime>(&sub_once::<FqPrime>(&y, &ya));
        // SAFETY: in bounds by the caller's contract.
        unsafe { *dst.add(pair.to as usize) = Line { x, y } };
    }
}

/// [`add_pairs`] for processors with BMI2.
///
/// # Safety
/// BMI2 exists; the contract of [`Points::add_pairs`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi2")]
unsafe fn add_pairs_bmi2(src: *const Line, dst: *mut Line, pairs: &[Pair], prefix: &mut Vec<Words>) {
    // SAFETY: the caller's contract.
    unsafe { add_pairs(src, dst, pairs, prefix) }
}

impl Points for ScalarPoints {
    type Point = Line;
    type Workspace = Workspace;
    const IDENTITY: Line = Line { x: ZERO, y: ZERO };
    const LANES: usize = 1;
    const GROUP: usize = 1 << 12;

    fn import(self, point: &G1Affine) -> Line {
        Line { x: words(point.x), y: words(point.y) }
    }

    fn export(self, point: &Line) -> G1Affine {
        G1Affine { x: coordinate(point.x), y: coordinate(point.y) }
    }

    fn is_identity(point: &Line) -> bool {
        is_zero(&point.y)
    }

    fn negate(point: &Line) -> Line {
        Line { x: point.x, y: words(-coordinate(point.y)) }
    }

    unsafe fn add_pairs(self, src: *const Line, dst: *mut Line, pairs: &[Pair], workspace: &mut Workspace) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("bmi2") {
            // SAFETY: just detected; the rest is the caller's contract.
            return unsafe { add_pairs_bmi2(src, dst, pairs, &mut workspace.prefix) };
        }
        // SAFETY: the caller's contract.
        unsafe { add_pairs(src, dst, pairs, &mut workspace.prefix) }
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
