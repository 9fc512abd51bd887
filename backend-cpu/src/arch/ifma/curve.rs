//! Affine additions of BN254 G1 points, eight at a time, one field inversion for a whole batch.
//!
//! Coordinates are kept in 2^260 form as four words, x below 2p and y below 4p, so that no addition ends in a full reduction. A slope's
//! denominators are multiplied up lane by lane (Montgomery's trick), the eight products are inverted together, and the way back gives
//! each inverse for two products. An addition costs six products.
//!
//! A denominator is zero when the operands have equal x: a doubling or a cancellation. That shows as a zero in the running product; then,
//! and only then, the batch is searched and those pairs take the complete formulas.

use core::arch::x86_64::*;

use halo2curves::CurveAffine;
use halo2curves::bn256::{Fq, G1, G1Affine};
use halo2curves::ff::Field;
use halo2curves::group::Curve;
use halo2curves::group::prime::PrimeCurveAffine;
use parhelion_hal::{as_bytes, as_bytes_mut};

use super::field::{FqModulus, V8, split};

type V = V8<FqModulus>;

/// An affine point other than the identity, in the representation above: x, then y.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Point([u64; 8]);

fn to_words(x: &Fq) -> [u64; 4] {
    let mut out = [0; 4];
    for (word, bytes) in out.iter_mut().zip(as_bytes(std::slice::from_ref(x)).chunks_exact(8)) {
        *word = u64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
    }
    out
}

/// The element of any four words below 2^256, read as boundary form.
fn from_words(w: &[u64]) -> Fq {
    // Subtract p while it fits: at most five times.
    let mut w: [u64; 4] = std::array::from_fn(|i| w[i]);
    const P: [u64; 4] = [0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029];
    loop {
        let mut borrow = false;
        let mut d = [0; 4];
        for i in 0..4 {
            let (x, b1) = w[i].overflowing_sub(P[i]);
            let (x, b2) = x.overflowing_sub(u64::from(borrow));
            d[i] = x;
            borrow = b1 | b2;
        }
        if borrow {
            break;
        }
        w = d;
    }
    let mut out = [Fq::ZERO];
    for (bytes, word) in as_bytes_mut(&mut out).chunks_exact_mut(8).zip(&w) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    out[0]
}

impl Point {
    /// From a point that is not the identity.
    pub(crate) fn new(p: &G1Affine) -> Self {
        let sixteen = Fq::from(16);
        let (x, y) = (to_words(&(p.x * sixteen)), to_words(&(p.y * sixteen)));
        Point([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]])
    }

    /// The point as the curve library has it. `sixteenth` is 1/16.
    pub(crate) fn to_affine(self, sixteenth: &Fq) -> G1Affine {
        let (x, y) = (from_words(&self.0[..4]) * sixteenth, from_words(&self.0[4..]) * sixteenth);
        // Both coordinates come from additions of points on the curve.
        G1Affine { x, y }
    }
}

/// 1/16, for [`Point::to_affine`].
pub(crate) fn sixteenth() -> Fq {
    Fq::TWO_INV.square().square()
}

use halo2curves::ff::PrimeField;

/// `buckets[bucket] += ±points[point]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// Index of the bucket, which holds a point.
    pub(crate) bucket: u32,
    /// Index of the point in the low 31 bits; the top bit negates it.
    pub(crate) point: u32,
}

/// The top bit of [`Pair::point`].
pub(crate) const NEGATIVE: u32 = 1 << 31;

/// Memory of [`add_batch`] between calls.
#[derive(Default)]
pub(crate) struct Scratch {
    prefix: Vec<V>,
    delta: Vec<V>,
    special: Vec<usize>,
}

/// Adds every pair's point to its bucket. Buckets that became the identity are appended to `emptied`; their content is unspecified.
///
/// # Safety
/// The CPU has the instruction set of [`super::field`]. All bucket indices are different and in range, all point indices in range.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
pub(crate) unsafe fn add_batch(
    buckets: &mut [Point],
    points: &[Point],
    pairs: &[Pair],
    scratch: &mut Scratch,
    emptied: &mut Vec<u32>,
) {
    if pairs.is_empty() {
        return;
    }
    debug_assert!(pairs.iter().all(|p| {
        (p.bucket as usize) < buckets.len() && ((p.point & !NEGATIVE) as usize) < points.len()
    }));
    let groups = pairs.len().div_ceil(8);
    let one = V::splat(split(to_words(&Fq::from(16))));
    scratch.prefix.clear();
    scratch.delta.clear();
    scratch.special.clear();
    let mut acc = one;
    for g in 0..groups {
        // SAFETY: indices are in range, by contract.
        let delta = unsafe { delta(buckets, points, pairs, g, one) };
        scratch.prefix.push(acc);
        scratch.delta.push(delta);
        acc = acc.mul(delta);
    }
    let mut lanes = [[0; 4]; 8];
    acc.canonical().store(&mut lanes);
    if lanes.contains(&[0; 4]) {
        acc = one;
        for g in 0..groups {
            let delta = &mut scratch.delta[g];
            let mut words = [[0; 4]; 8];
            delta.reduce().canonical().store(&mut words);
            let zero = (0..8).filter(|lane| words[*lane] == [0; 4]);
            scratch.special.extend(zero.map(|lane| g * 8 + lane));
            *delta = delta.nonzero_or(&words, one);
            scratch.prefix[g] = acc;
            acc = acc.mul(*delta);
        }
        acc.canonical().store(&mut lanes);
    }
    // The specials' results, before their buckets are overwritten.
    let special: Vec<(u32, Option<Point>)> = scratch
        .special
        .iter()
        .map(|i| {
            let (pair, sixteenth) = (pairs[*i], sixteenth());
            let p = points[(pair.point & !NEGATIVE) as usize].to_affine(&sixteenth);
            let p = if pair.point & NEGATIVE != 0 { -p } else { p };
            let sum: G1 = buckets[pair.bucket as usize].to_affine(&sixteenth).to_curve() + p;
            let sum = sum.to_affine();
            (pair.bucket, (!bool::from(sum.is_identity())).then(|| Point::new(&sum)))
        })
        .collect();

    // 1/product of each lane, from one inversion. Lanes hold 16·(boundary form of y).
    let mut values: [Fq; 8] = std::array::from_fn(|i| from_words(&lanes[i]));
    let mut total = Fq::ONE;
    let prefixes: [Fq; 8] = std::array::from_fn(|i| {
        let before = total;
        total *= values[i];
        before
    });
    // No lane is zero: deltas that were are replaced by one.
    let mut inverse = total.invert().unwrap_or(Fq::ONE) * Fq::from(256);
    for i in (0..8).rev() {
        let value = inverse * prefixes[i];
        inverse *= values[i];
        values[i] = value;
    }
    for (lane, value) in lanes.iter_mut().zip(&values) {
        *lane = to_words(value);
    }
    let mut inverse = V::load(&lanes);
    for g in (0..groups).rev() {
        let slope = inverse.mul(scratch.prefix[g]);
        inverse = inverse.mul(scratch.delta[g]);
        // SAFETY: indices are in range, by contract.
        unsafe { finish(buckets, points, pairs, g, slope) };
    }
    for (bucket, point) in special {
        match point {
            Some(point) => buckets[bucket as usize] = point,
            None => emptied.push(bucket),
        }
    }
}

/// The eight pairs of group g; lanes beyond the end repeat the last pair.
#[inline(always)]
fn lane(pairs: &[Pair], g: usize, i: usize) -> Pair {
    pairs[(g * 8 + i).min(pairs.len() - 1)]
}

/// x₂ − x₁, below 4p; one in lanes beyond the end.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn delta(buckets: &[Point], points: &[Point], pairs: &[Pair], g: usize, one: V) -> V {
    // Only the x halves: 256-bit loads, two lanes a vector.
    let half = |p: *const Point| -> __m256i {
        // SAFETY: the first 32 bytes of a live point.
        unsafe { _mm256_load_si256(p.cast()) }
    };
    // SAFETY: in range, by the caller's contract.
    let bucket = |i: usize| half(unsafe { buckets.as_ptr().add(lane(pairs, g, i).bucket as usize) });
    // SAFETY: in range, by the caller's contract.
    let point = |i: usize| half(unsafe { points.as_ptr().add((lane(pairs, g, i).point & !NEGATIVE) as usize) });
    let join = |a: __m256i, b: __m256i| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
    let x1 = V::from_words(transpose([
        join(bucket(0), bucket(1)),
        join(bucket(2), bucket(3)),
        join(bucket(4), bucket(5)),
        join(bucket(6), bucket(7)),
    ]));
    let x2 = V::from_words(transpose([
        join(point(0), point(1)),
        join(point(2), point(3)),
        join(point(4), point(5)),
        join(point(6), point(7)),
    ]));
    let d = x2.sub_lazy::<2>(x1).carry();
    let live = pairs.len() - g * 8;
    if live >= 8 {
        return d;
    }
    let dead = !0u8 << live;
    let f = |i: usize| _mm512_mask_mov_epi64(d.l[i], dead, one.l[i]);
    V::from_limbs([f(0), f(1), f(2), f(3), f(4)])
}

/// The sums of group g, given 1/(x₂ − x₁).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn finish(buckets: &mut [Point], points: &[Point], pairs: &[Pair], g: usize, inverse: V) {
    let mut negative = 0u8;
    let mut a = [_mm512_setzero_si512(); 8];
    let mut b = [_mm512_setzero_si512(); 8];
    for i in 0..8 {
        let pair = lane(pairs, g, i);
        negative |= u8::from(pair.point & NEGATIVE != 0) << i;
        // SAFETY: in range, by the caller's contract; points are 64 bytes, aligned.
        unsafe {
            a[i] = _mm512_load_si512(buckets.as_ptr().add(pair.bucket as usize).cast());
            b[i] = _mm512_load_si512(points.as_ptr().add((pair.point & !NEGATIVE) as usize).cast());
        }
    }
    let (a, b) = (transpose8(a), transpose8(b));
    let x1 = V::from_words([a[0], a[1], a[2], a[3]]);
    let y1 = V::from_words([a[4], a[5], a[6], a[7]]);
    let x2 = V::from_words([b[0], b[1], b[2], b[3]]);
    let y2 = V::from_words([b[4], b[5], b[6], b[7]]);
    // ±y₂ − y₁ + 8p, in (0, 12p).
    let minus = V::zero().sub_lazy::<4>(y2);
    let f = |i: usize| _mm512_mask_mov_epi64(y2.l[i], negative, minus.l[i]);
    let dy = V::from_limbs([f(0), f(1), f(2), f(3), f(4)]).sub_lazy::<4>(y1).carry();
    let slope = dy.mul(inverse);
    // λ² − x₁ − x₂ + 4p, below 6p.
    let x3 = slope.square().sub_lazy::<2>(x1).sub_lazy::<2>(x2).carry().reduce();
    // λ(x₁ − x₃) − y₁ + 4p would be below 6p, too wide for four words.
    let y3 = slope.mul(x1.sub_lazy::<2>(x3).carry()).sub_lazy::<4>(y1).carry().reduce();
    let (x, y) = (x3.to_words(), y3.to_words());
    let rows = transpose8([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]]);
    let live = (pairs.len() - g * 8).min(8);
    for (i, row) in rows.iter().enumerate().take(live) {
        // SAFETY: in range, by the caller's contract.
        unsafe {
            _mm512_store_si512(buckets.as_mut_ptr().add(lane(pairs, g, i).bucket as usize).cast(), *row);
        }
    }
}

/// Eight elements, two to a vector, to word vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn transpose(v: [__m512i; 4]) -> [__m512i; 4] {
    let lo = _mm512_set_epi64(13, 9, 5, 1, 12, 8, 4, 0);
    let hi = _mm512_set_epi64(15, 11, 7, 3, 14, 10, 6, 2);
    let x = _mm512_permutex2var_epi64(v[0], lo, v[1]);
    let y = _mm512_permutex2var_epi64(v[2], lo, v[3]);
    let z = _mm512_permutex2var_epi64(v[0], hi, v[1]);
    let w = _mm512_permutex2var_epi64(v[2], hi, v[3]);
    [
        _mm512_shuffle_i64x2::<0x44>(x, y),
        _mm512_shuffle_i64x2::<0xee>(x, y),
        _mm512_shuffle_i64x2::<0x44>(z, w),
        _mm512_shuffle_i64x2::<0xee>(z, w),
    ]
}

/// The transpose of an 8 × 8 matrix of words; its own inverse.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn transpose8(r: [__m512i; 8]) -> [__m512i; 8] {
    let (mut s, mut t) = ([r[0]; 8], [r[0]; 8]);
    for i in 0..4 {
        s[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
    }
    // s[2i + h], 128-bit lane l = column 2l + h of rows 2i, 2i + 1.
    for h in 0..2 {
        t[h] = _mm512_shuffle_i64x2::<0x88>(s[h], s[2 + h]);
        t[2 + h] = _mm512_shuffle_i64x2::<0xdd>(s[h], s[2 + h]);
        t[4 + h] = _mm512_shuffle_i64x2::<0x88>(s[4 + h], s[6 + h]);
        t[6 + h] = _mm512_shuffle_i64x2::<0xdd>(s[4 + h], s[6 + h]);
    }
    // t[h]: columns h, 4 + h of rows 0..4; t[2 + h]: columns 2 + h, 6 + h; t[4..8]: the same of rows 4..8.
    let mut out = [r[0]; 8];
    for h in 0..2 {
        out[h] = _mm512_shuffle_i64x2::<0x88>(t[h], t[4 + h]);
        out[4 + h] = _mm512_shuffle_i64x2::<0xdd>(t[h], t[4 + h]);
        out[2 + h] = _mm512_shuffle_i64x2::<0x88>(t[2 + h], t[6 + h]);
        out[6 + h] = _mm512_shuffle_i64x2::<0xdd>(t[2 + h], t[6 + h]);
    }
    out
}
