//! Affine additions, eight pairs at a time, with one shared inversion per lane.

use std::arch::x86_64::*;

use ff::Field;
use halo2curves::bn256::{Fq, Fr, G1Affine};

use super::Token;
use super::field::{FqModulus, FrModulus, Modulus, V8, transpose_pairs, untranspose_pairs};
use crate::arch::generic::ScalarPoints;
use crate::arch::points::{NEGATE, Pair, Points, prefetch};

/// The kernels; a value exists only where the instructions do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IfmaPoints(Token);

impl IfmaPoints {
    /// The kernels.
    pub(crate) fn new(token: Token) -> Self {
        IfmaPoints(token)
    }
}

/// x·2^260 and y·2^260, both below 2p; the identity has the top bit of x set. One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Packed {
    x: [u64; 4],
    y: [u64; 4],
}

const FLAG: u64 = 1 << 63;

type V = V8<FqModulus>;

/// Running products of denominators before each vector, and the lanes that need another formula.
#[derive(Default)]
pub(crate) struct Workspace {
    prefix: Vec<V>,
    masks: Vec<u8>,
}

/// The element whose Montgomery limbs (R = 2^256) are these; below 2p.
fn fq(mut words: [u64; 4]) -> Fq {
    let mut reduced = [0u64; 4];
    let mut borrow = false;
    for i in 0..4 {
        let (x, first) = words[i].overflowing_sub(FqModulus::WORDS[i]);
        let (x, second) = x.overflowing_sub(u64::from(borrow));
        reduced[i] = x;
        borrow = first | second;
    }
    if !borrow {
        words = reduced;
    }
    // SAFETY: `Fq` is one `[u64; 4]` (`parhelion-hal` asserts its size), and the words are below the modulus.
    unsafe { std::mem::transmute::<[u64; 4], Fq>(words) }
}

fn words(x: Fq) -> [u64; 4] {
    // SAFETY: as in `fq`.
    unsafe { std::mem::transmute::<Fq, [u64; 4]>(x) }
}

impl Points for IfmaPoints {
    type Point = Packed;
    type Workspace = Workspace;
    const IDENTITY: Packed = Packed { x: [0, 0, 0, FLAG], y: [0; 4] };
    const LANES: usize = 8;
    const GROUP: usize = 1 << 13;

    fn import(self, point: &G1Affine) -> Packed {
        if point.y == Fq::ZERO {
            return Self::IDENTITY;
        }
        let sixteen = Fq::from(16);
        Packed { x: words(point.x * sixteen), y: words(point.y * sixteen) }
    }

    fn export(self, point: &Packed) -> G1Affine {
        export(point)
    }

    fn is_identity(point: &Packed) -> bool {
        point.x[3] & FLAG != 0
    }

    fn negate(point: &Packed) -> Packed {
        if Self::is_identity(point) { *point } else { Packed { x: point.x, y: words(-fq(point.y)) } }
    }

    unsafe fn add_pairs(
        self,
        src: *const Packed,
        dst: *mut Packed,
        pairs: &[Pair],
        workspace: &mut Workspace,
    ) {
        // SAFETY: a value of this type proves that the instructions are there; the rest is the caller's contract.
        unsafe { add_pairs(src, dst, pairs, workspace) }
    }

    fn canonical(self, scalars: &[Fr], out: &mut [[u64; 4]]) {
        assert_eq!(scalars.len(), out.len(), "one output per scalar");
        // SAFETY: a value of this type proves that the instructions are there; the lengths agree.
        unsafe { canonical_scalars(scalars, out) }
    }
}

fn export(point: &Packed) -> G1Affine {
    if IfmaPoints::is_identity(point) {
        return G1Affine { x: Fq::ZERO, y: Fq::ZERO };
    }
    const SIXTEENTH: Fq = Fq::from_raw([
        0x71d2_4ecc_d9c6_4e78,
        0xa538_cbf1_cac0_01ef,
        0x77ad_2736_a8d8_c1b4,
        0x1b38_6c20_9eab_ea17,
    ]);
    G1Affine { x: fq(point.x) * SIXTEENTH, y: fq(point.y) * SIXTEENTH }
}

/// Canonical values; `out` is as long as `scalars`.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn canonical_scalars(scalars: &[Fr], out: &mut [[u64; 4]]) {
    let whole = scalars.len() / 8 * 8;
    // 16·(a·2^256)·1/2^260 = a; the result is at most p, and p only for a multiple of p other than zero: it is canonical.
    let one = V8::<FrModulus>::splat([1, 0, 0, 0, 0]);
    for i in (0..whole).step_by(8) {
        // SAFETY: i + 8 is at most both lengths; `Fr` is one `[u64; 4]`.
        let (from, to) = unsafe { (&*scalars.as_ptr().add(i).cast(), &mut *out.as_mut_ptr().add(i).cast()) };
        V8::<FrModulus>::load_shifted(from).mul(one).store(to);
    }
    ScalarPoints.canonical(&scalars[whole..], &mut out[whole..]);
}

/// The operands of eight pairs: bytes from the first point, those of `a` first, and which are negated.
struct Operands {
    offsets: [u64; 16],
    negate: __mmask16,
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn operands(pairs: &[Pair; 8]) -> Operands {
    // SAFETY: eight pairs of 16 bytes each, whose padding is not looked at.
    let (first, second) = unsafe {
        (_mm512_loadu_si512(pairs.as_ptr().cast()), _mm512_loadu_si512(pairs.as_ptr().add(4).cast()))
    };
    // a0..a7 b0..b7.
    let pick = _mm512_set_epi32(29, 25, 21, 17, 13, 9, 5, 1, 28, 24, 20, 16, 12, 8, 4, 0);
    let all = _mm512_permutex2var_epi32(first, pick, second);
    let negate = _mm512_movepi32_mask(all);
    let index = _mm512_and_si512(all, _mm512_set1_epi32((!NEGATE).cast_signed()));
    let offset = |half: __m256i| _mm512_slli_epi64::<6>(_mm512_cvtepu32_epi64(half));
    let mut offsets = [0; 16];
    // SAFETY: sixteen words of 64 bits.
    unsafe {
        let to = offsets.as_mut_ptr();
        _mm512_storeu_si512(to.cast(), offset(_mm512_castsi512_si256(index)));
        _mm512_storeu_si512(to.add(8).cast(), offset(_mm512_extracti64x4_epi64::<1>(index)));
    }
    Operands { offsets, negate }
}

/// The words of x of eight points.
///
/// # Safety
/// A point is at each of `offsets` bytes from `src`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn load_x(src: *const Packed, offsets: &[u64]) -> [__m512i; 4] {
    let mut z = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        // SAFETY: in bounds by the caller's contract; points are aligned to 64 bytes.
        let (low, high) = unsafe {
            let base: *const u8 = src.cast();
            let (low, high) = (base.add(offsets[2 * i] as usize), base.add(offsets[2 * i + 1] as usize));
            (_mm256_load_si256(low.cast()), _mm256_load_si256(high.cast()))
        };
        z[i] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    }
    transpose_pairs(z)
}

/// x and ±y of eight points; limbs of ±y, at most 2p, are not normalised.
///
/// # Safety
/// As [`load_x`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn load(src: *const Packed, offsets: &[u64], negate: __mmask8) -> (V, V) {
    let (mut x, mut y) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
    for i in 0..4 {
        // SAFETY: in bounds by the caller's contract; points are 64 bytes, aligned to 64.
        let (first, second) = unsafe {
            let base: *const u8 = src.cast();
            let (first, second) = (base.add(offsets[2 * i] as usize), base.add(offsets[2 * i + 1] as usize));
            (_mm512_load_si512(first.cast()), _mm512_load_si512(second.cast()))
        };
        x[i] = _mm512_shuffle_i64x2::<0b01_00_01_00>(first, second);
        y[i] = _mm512_shuffle_i64x2::<0b11_10_11_10>(first, second);
    }
    let y = V::from_words(transpose_pairs(y));
    (V::from_words(transpose_pairs(x)), V::zero().sub_lazy::<2>(y).or_in(!negate, y))
}

/// Distance in vectors at which points are prefetched.
const AHEAD: usize = 4;

fn prefetch_vector(src: *const Packed, pairs: &[Pair; 8]) {
    for pair in pairs {
        prefetch(src.wrapping_add((pair.a & !NEGATE) as usize));
        prefetch(src.wrapping_add((pair.b & !NEGATE) as usize));
    }
}

/// # Safety
/// The instructions exist; the contract of [`Points::add_pairs`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn add_pairs(src: *const Packed, dst: *mut Packed, pairs: &[Pair], workspace: &mut Workspace) {
    if pairs.is_empty() {
        return;
    }
    let Workspace { prefix, masks } = workspace;
    prefix.clear();
    masks.clear();
    let one = V::splat([1, 0, 0, 0, 0]);
    let mut product = one;
    // The last pair stands in for those beyond the end.
    let (whole, rest) = pairs.as_chunks::<8>();
    let mut last = [Pair::default(); 8];
    if let Some(pair) = rest.last() {
        last.fill(*pair);
        last[..rest.len()].copy_from_slice(rest);
    }
    let vector = |i: usize| whole.get(i).unwrap_or(&last);
    let vectors = pairs.len().div_ceil(8);
    for i in 0..vectors {
        // SAFETY: in bounds by the caller's contract.
        let (xa, xb) = unsafe {
            prefetch_vector(src, whole.get(i + AHEAD).unwrap_or(&last));
            let ops = operands(vector(i));
            (load_x(src, &ops.offsets[..8]), load_x(src, &ops.offsets[8..]))
        };
        let identities = _mm512_movepi64_mask(_mm512_or_si512(xa[3], xb[3]));
        let mut dx = V::from_words(xb).sub_lazy::<2>(V::from_words(xa)).carry();
        // In (0, 4p), so it is zero in the field only if it is p, 2p or 3p; the low limb alone decides with few false alarms.
        let low =
            |k: u64| _mm512_set1_epi64((FqModulus::P[0].wrapping_mul(k) & ((1 << 52) - 1)).cast_signed());
        let equal = (1..=3).fold(0, |mask, k| mask | _mm512_cmpeq_epi64_mask(dx.l[0], low(k)));
        let mask = identities | equal;
        if mask != 0 {
            // SAFETY: in bounds by the caller's contract.
            let ((xa, ya), (xb, yb)) = unsafe { both(src, &operands(vector(i))) };
            dx = special(xa, ya, xb, yb, mask).denominator(dx);
        }
        prefix.push(product);
        masks.push(mask);
        product = product.mul(dx);
    }
    // Products are of non-zero elements: the lanes that could be zero are patched.
    let mut inverse = invert_lanes(product);
    for i in (0..vectors).rev() {
        // SAFETY: in bounds by the caller's contract.
        unsafe {
            prefetch_vector(src, vector(i.saturating_sub(AHEAD)));
            inverse = finish(src, dst, vector(i), (pairs.len() - i * 8).min(8), prefix[i], masks[i], inverse);
        }
    }
}

/// Lanes that the common formula does not fit, with what they need instead.
struct Special {
    /// Equal points.
    double: __mmask8,
    /// The sum is the other operand.
    a_identity: __mmask8,
    b_identity: __mmask8,
    /// Opposite points.
    cancel: __mmask8,
    /// 2y and 3x², for doublings.
    twice_y: V,
    numerator: V,
}

/// Looks closely at the lanes of `mask`, which have an identity or seem to have equal x.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn special(xa: V, ya: V, xb: V, yb: V, mask: __mmask8) -> Special {
    // The flag of the identity, where from_words leaves it.
    let flag = _mm512_set1_epi64(1 << 47);
    let a_identity = _mm512_test_epi64_mask(xa.l[4], flag);
    let b_identity = _mm512_test_epi64_mask(xb.l[4], flag) & !a_identity;
    let zero = |a: V| {
        let c = a.reduce().canonical().l;
        let any =
            _mm512_or_si512(_mm512_or_si512(c[0], c[1]), _mm512_or_si512(_mm512_or_si512(c[2], c[3]), c[4]));
        _mm512_testn_epi64_mask(any, any)
    };
    let equal = zero(xb.sub_lazy::<2>(xa).carry()) & mask & !a_identity & !b_identity;
    let twice_y = ya.add_lazy(yb).carry();
    let cancel = equal & zero(twice_y);
    let square = xa.square();
    Special {
        double: equal & !cancel,
        a_identity,
        b_identity,
        cancel,
        twice_y,
        numerator: square.add_lazy(square).add_lazy(square).carry(),
    }
}

impl Special {
    /// x₂ − x₁ with these lanes replaced by their denominators, one where there is none.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
    fn denominator(&self, dx: V) -> V {
        let none = self.a_identity | self.b_identity | self.cancel;
        dx.or_in(self.double, self.twice_y).or_in(none, V::splat([1, 0, 0, 0, 0]))
    }
}

/// Both operands of eight pairs.
///
/// # Safety
/// As [`load_x`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn both(src: *const Packed, ops: &Operands) -> ((V, V), (V, V)) {
    // SAFETY: by the caller's contract.
    unsafe {
        (
            load(src, &ops.offsets[..8], ops.negate as u8),
            load(src, &ops.offsets[8..], (ops.negate >> 8) as u8),
        )
    }
}

/// The first `live` sums of a vector, given the inverse of the product of all denominators up to it; returns that of all before it.
///
/// # Safety
/// As [`add_pairs`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn finish(
    src: *const Packed,
    dst: *mut Packed,
    pairs: &[Pair; 8],
    live: usize,
    prefix: V,
    mask: u8,
    inverse: V,
) -> V {
    // SAFETY: in bounds by the caller's contract.
    let ((xa, ya), (xb, yb)) = unsafe { both(src, &operands(pairs)) };
    let mut dx = xb.sub_lazy::<2>(xa).carry();
    let mut dy = yb.sub_lazy::<2>(ya).carry();
    let mut rare = None;
    if mask != 0 {
        let special = special(xa, ya, xb, yb, mask);
        dx = special.denominator(dx);
        dy = dy.or_in(special.double, special.numerator);
        rare = Some(special);
    }
    let slope = dy.mul(inverse.mul(prefix));
    let square = slope.square();
    let inverse = inverse.mul(dx);
    // λ² − xa − xb + 4p, below 6p.
    let mut x = square.sub_lazy::<2>(xa).sub_lazy::<2>(xb).shrink();
    // λ(xa − x) − ya + 2p, below 4p.
    let mut y = slope.mul(xa.sub_lazy::<2>(x).carry()).sub_lazy::<2>(ya).shrink();
    if let Some(special) = rare {
        x = x.or_in(special.a_identity, xb).or_in(special.b_identity, xa);
        y = y.or_in(special.a_identity, yb.carry()).or_in(special.b_identity, ya.carry());
        x = x.or_in(special.cancel, V::splat([0, 0, 0, 0, 1 << 47]));
    }
    let (x, y) = (untranspose_pairs(x.to_words()), untranspose_pairs(y.to_words()));
    for (lane, pair) in pairs.iter().enumerate().take(live) {
        let (x, y) = (x[lane / 2], y[lane / 2]);
        let point = if lane % 2 == 0 {
            _mm512_shuffle_i64x2::<0b01_00_01_00>(x, y)
        } else {
            _mm512_shuffle_i64x2::<0b11_10_11_10>(x, y)
        };
        // SAFETY: in bounds by the caller's contract; `Packed` is 64 bytes, aligned to 64.
        unsafe { _mm512_store_si512(dst.add(pair.to as usize).cast(), point) };
    }
    inverse
}

/// The inverses, in the same form, of eight elements none of which is zero.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn invert_lanes(a: V) -> V {
    let mut lanes = [[0u64; 4]; 8];
    a.canonical().store(&mut lanes);
    // Read with R = 2^256, these are 16·a; inverses get 256 = 16² to be 16·a⁻¹ again.
    let values = lanes.map(fq);
    let mut prefix = [Fq::ONE; 8];
    for i in 1..8 {
        prefix[i] = prefix[i - 1] * values[i - 1];
    }
    let mut inverse = (prefix[7] * values[7]).invert().unwrap_or(Fq::ZERO) * Fq::from(256);
    for i in (0..8).rev() {
        lanes[i] = words(inverse * prefix[i]);
        inverse *= values[i];
    }
    V::load(&lanes)
}
