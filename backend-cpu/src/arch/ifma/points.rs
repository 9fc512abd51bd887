//! Affine additions, eight pairs at a time, with one shared inversion per lane.

use std::arch::x86_64::*;

use ff::Field;
use halo2curves::bn256::{Fq, Fr, G1Affine};

use super::Token;
use super::field::{FqModulus, FrModulus, Modulus, V8, transpose_pairs, untranspose_pairs};
use crate::arch::generic::ScalarPoints;
use crate::arch::points::{NEGATE, Pair, Points};

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
    special: Vec<Special>,
}

/// A pair that the common formula does not fit.
struct Special {
    to: u32,
    a: G1Affine,
    b: G1Affine,
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

    fn from_affine(self, point: &G1Affine) -> Packed {
        if point.y == Fq::ZERO {
            return Self::IDENTITY;
        }
        let sixteen = Fq::from(16);
        Packed { x: words(point.x * sixteen), y: words(point.y * sixteen) }
    }

    fn to_affine(self, point: &Packed) -> G1Affine {
        to_affine(point)
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

fn to_affine(point: &Packed) -> G1Affine {
    if IfmaPoints::is_identity(point) {
        return ScalarPoints::IDENTITY;
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
        let (from, to) =
            unsafe { (&*scalars.as_ptr().add(i).cast(), &mut *out.as_mut_ptr().add(i).cast()) };
        V8::<FrModulus>::load_shifted(from).mul(one).store(to);
    }
    ScalarPoints.canonical(&scalars[whole..], &mut out[whole..]);
}

/// The operands of eight pairs, the last pair standing in for those beyond the end.
struct Operands {
    a: [*const u64; 8],
    b: [*const u64; 8],
    negate_a: __mmask8,
    negate_b: __mmask8,
}

/// # Safety
/// Operands of `pairs` are in bounds of `src`; `pairs` holds one to eight.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn operands(src: *const Packed, pairs: &[Pair]) -> Operands {
    let mut out =
        Operands { a: [std::ptr::null(); 8], b: [std::ptr::null(); 8], negate_a: 0, negate_b: 0 };
    for lane in 0..8 {
        let pair = &pairs[lane.min(pairs.len() - 1)];
        // SAFETY: in bounds by the caller's contract.
        unsafe {
            out.a[lane] = src.add((pair.a & !NEGATE) as usize).cast();
            out.b[lane] = src.add((pair.b & !NEGATE) as usize).cast();
        }
        out.negate_a |= (((pair.a & NEGATE) >> 31) as u8) << lane;
        out.negate_b |= (((pair.b & NEGATE) >> 31) as u8) << lane;
    }
    out
}

/// Elements of four words at eight places, as vectors of words.
///
/// # Safety
/// 32 bytes are readable at each of `from`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn gather(from: &[*const u64; 8]) -> [__m512i; 4] {
    let mut z = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        // SAFETY: in bounds by the caller's contract; unaligned loads.
        let (low, high) =
            unsafe { (_mm256_loadu_si256(from[2 * i].cast()), _mm256_loadu_si256(from[2 * i + 1].cast())) };
        z[i] = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    }
    transpose_pairs(z)
}

/// ±y, at most 2p; limbs are not normalised.
///
/// # Safety
/// As [`operands`]: the pointers are to readable [`Packed`] points.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn load_y(from: &[*const u64; 8], negate: __mmask8) -> V {
    // SAFETY: y follows the four words of x.
    let y = V::from_words(unsafe { gather(&from.map(|p| p.add(4))) });
    V::zero().sub_lazy::<2>(y).or_in(!negate, y)
}

/// Distance in vectors at which points are prefetched.
const AHEAD: usize = 4;

/// # Safety
/// The instructions exist; the contract of [`Points::add_pairs`].
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn add_pairs(src: *const Packed, dst: *mut Packed, pairs: &[Pair], workspace: &mut Workspace) {
    if pairs.is_empty() {
        return;
    }
    let Workspace { prefix, masks, special } = workspace;
    prefix.clear();
    masks.clear();
    special.clear();
    let one = V::splat([1, 0, 0, 0, 0]);
    let mut product = one;
    for (i, chunk) in pairs.chunks(8).enumerate() {
        for pair in pairs.get((i + AHEAD) * 8..).unwrap_or(&[]).iter().take(8) {
            // SAFETY: in bounds by the caller's contract.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(src.add((pair.a & !NEGATE) as usize).cast());
                _mm_prefetch::<_MM_HINT_T0>(src.add((pair.b & !NEGATE) as usize).cast());
            }
        }
        // SAFETY: in bounds by the caller's contract.
        let ops = unsafe { operands(src, chunk) };
        // SAFETY: as above.
        let (xa, xb) = unsafe { (gather(&ops.a), gather(&ops.b)) };
        let identities = _mm512_movepi64_mask(_mm512_or_si512(xa[3], xb[3]));
        let mut dx = V::from_words(xb).sub_lazy::<2>(V::from_words(xa)).carry();
        // In (0, 4p), so it is zero in the field only if it is p, 2p or 3p; the low limb alone decides with few false alarms.
        let low = |k: u64| _mm512_set1_epi64((FqModulus::P[0].wrapping_mul(k) & ((1 << 52) - 1)).cast_signed());
        let equal = (1..=3).fold(0, |mask, k| mask | _mm512_cmpeq_epi64_mask(dx.l[0], low(k)));
        let mask = identities | equal;
        if mask != 0 {
            for (lane, pair) in chunk.iter().enumerate() {
                if mask >> lane & 1 == 1 {
                    let operand = |o: u32| {
                        // SAFETY: in bounds by the caller's contract.
                        let point = to_affine(unsafe { &*src.add((o & !NEGATE) as usize) });
                        if o & NEGATE == 0 { point } else { -point }
                    };
                    special.push(Special { to: pair.to, a: operand(pair.a), b: operand(pair.b) });
                }
            }
            dx = dx.or_in(mask, one);
        }
        prefix.push(product);
        masks.push(mask);
        product = product.mul(dx);
    }
    // Products are of non-zero elements: the lanes that could be zero are patched.
    let mut inverse = invert_lanes(product);
    for (i, chunk) in pairs.chunks(8).enumerate().rev() {
        // SAFETY: in bounds by the caller's contract.
        let ops = unsafe { operands(src, chunk) };
        // SAFETY: as above.
        let (xa, xb) = unsafe { (V::from_words(gather(&ops.a)), V::from_words(gather(&ops.b))) };
        let mut dx = xb.sub_lazy::<2>(xa).carry();
        if masks[i] != 0 {
            dx = dx.or_in(masks[i], one);
        }
        let inverted = inverse.mul(prefix[i]);
        inverse = inverse.mul(dx);
        // SAFETY: as above.
        let (ya, yb) = unsafe { (load_y(&ops.a, ops.negate_a), load_y(&ops.b, ops.negate_b)) };
        let slope = yb.sub_lazy::<2>(ya).carry().mul(inverted);
        // λ² − xa − xb + 4p, below 6p.
        let x = slope.square().sub_lazy::<2>(xa).sub_lazy::<2>(xb).carry().reduce();
        // λ(xa − x) − ya + 2p, below 4p.
        let y = slope.mul(xa.sub_lazy::<2>(x).carry()).sub_lazy::<2>(ya).carry().reduce();
        let (x, y) = (untranspose_pairs(x.to_words()), untranspose_pairs(y.to_words()));
        for (lane, pair) in chunk.iter().enumerate() {
            let (x, y) = (x[lane / 2], y[lane / 2]);
            let point = if lane % 2 == 0 {
                _mm512_shuffle_i64x2::<0b01_00_01_00>(x, y)
            } else {
                _mm512_shuffle_i64x2::<0b11_10_11_10>(x, y)
            };
            // SAFETY: in bounds by the caller's contract; `Packed` is 64 bytes, aligned to 64.
            unsafe { _mm512_store_si512(dst.add(pair.to as usize).cast(), point) };
        }
    }
    if !special.is_empty() {
        let operands: Vec<G1Affine> = special.iter().flat_map(|s| [s.a, s.b]).collect();
        let pairs: Vec<Pair> =
            (0..special.len() as u32).map(|i| Pair { a: 2 * i, b: 2 * i + 1, to: i }).collect();
        let mut sums = vec![ScalarPoints::IDENTITY; special.len()];
        // SAFETY: `operands` has two entries per pair, `sums` one.
        unsafe {
            ScalarPoints.add_pairs(operands.as_ptr(), sums.as_mut_ptr(), &pairs, &mut Default::default());
        }
        for (s, sum) in special.iter().zip(&sums) {
            // SAFETY: in bounds by the caller's contract.
            unsafe { *dst.add(s.to as usize) = IfmaPoints::from_affine(IfmaPoints(Token(())), sum) };
        }
    }
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
