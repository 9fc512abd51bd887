//! Eight field elements at a time in AVX-512 IFMA: five limbs of 52 bits, one vector per limb.
//!
//! # Representation
//!
//! An element is an integer x < 2^260 in five limbs of radix 2^52, lane i of limb j belonging to element i. It stands for a residue modulo
//! p; the representative is not unique. [`V8::mul`] computes `a·b·2^−260 mod p`. Its operands need limbs below 2^52 (*normalised*) and
//! values below 2^260; its result is normalised and below a·b/2^260 + p: less than 2p if a·b < 84p².
//!
//! Sums and differences leave limbs unnormalised (signed, a few bits wider); [`V8::carry`] normalises them. Bounds are the caller's duty and
//! are stated where values are stored.
//!
//! # Crossing the boundary of R = 2^256
//!
//! At the trait boundary an element is `x·2^256 mod p` in four 64-bit words. With B a boundary form, `mul(A, w·2^260 mod p) = A·w`: a
//! product with a constant kept in 2^260 form stays in boundary form, so transforms need no conversion at all. For two boundary forms,
//! `mul(A, 16·B) = A·B·2^256·…` is the boundary form of the product, because 16·2^256 = 2^260: [`V8::load_shifted`] multiplies by 16 for free
//! while it splits words into limbs.

use core::arch::x86_64::*;
use core::marker::PhantomData;

const MASK: i64 = (1 << 52) - 1;

/// A prime modulus below 2^254.
pub(crate) trait Modulus: Copy + 'static {
    /// p in words of 64 bits.
    const WORDS: [u64; 4];
    /// p in limbs of 52 bits.
    const P: [u64; 5];
    /// −p⁻¹ mod 2^52.
    const N0: u64;
}

/// Limbs of 52 bits from words of 64.
pub(crate) const fn split(w: [u64; 4]) -> [u64; 5] {
    let m = MASK as u64;
    [
        w[0] & m,
        ((w[0] >> 52) | (w[1] << 12)) & m,
        ((w[1] >> 40) | (w[2] << 24)) & m,
        ((w[2] >> 28) | (w[3] << 36)) & m,
        w[3] >> 16,
    ]
}

const fn neg_inv52(p0: u64) -> u64 {
    // Newton's iteration doubles the number of correct bits: 3, 6, 12, 24, 48, 96.
    let mut x = p0.wrapping_mul(3) ^ 2;
    let mut i = 0;
    while i < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(p0.wrapping_mul(x)));
        i += 1;
    }
    x.wrapping_neg() & (MASK as u64)
}

/// The scalar field of BN254.
#[derive(Clone, Copy)]
pub(crate) struct FrModulus;
const FR: [u64; 4] = [0x43e1f593f0000001, 0x2833e84879b97091, 0xb85045b68181585d, 0x30644e72e131a029];
impl Modulus for FrModulus {
    const WORDS: [u64; 4] = FR;
    const P: [u64; 5] = split(FR);
    const N0: u64 = neg_inv52(FR[0]);
}

/// The base field of BN254.
#[derive(Clone, Copy)]
pub(crate) struct FqModulus;
const FQ: [u64; 4] = [0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029];
impl Modulus for FqModulus {
    const WORDS: [u64; 4] = FQ;
    const P: [u64; 5] = split(FQ);
    const N0: u64 = neg_inv52(FQ[0]);
}

/// Eight residues modulo `M`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct V8<M> {
    pub(crate) l: [__m512i; 5],
    _m: PhantomData<M>,
}

/// Limbs of k·p.
const fn multiple<M: Modulus>(k: u64) -> [u64; 5] {
    let mut out = [0u64; 5];
    let mut carry = 0u128;
    let mut i = 0;
    while i < 5 {
        let t = (M::P[i] as u128) * (k as u128) + carry;
        out[i] = (t as u64) & (MASK as u64);
        carry = t >> 52;
        i += 1;
    }
    out
}

/// Limb i of the largest multiple of p that is at most t·2^253, at [i][t].
const fn steps<M: Modulus>() -> [[u64; 8]; 5] {
    let mut out = [[0; 8]; 5];
    let mut t = 1;
    while t < 8 {
        // t·2^253 is bit 45 of the top limb and no other; p has lower limbs, so comparing top limbs decides.
        let mut k = 0;
        while multiple::<M>(k + 1)[4] < (t as u64) << 45 {
            k += 1;
        }
        let mut i = 0;
        while i < 5 {
            out[i][t] = multiple::<M>(k)[i];
            i += 1;
        }
        t += 1;
    }
    out
}

macro_rules! simd {
    ($(#[$attr:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$attr])*
        #[inline]
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
        $vis fn $($rest)*
    };
}

impl<M: Modulus> V8<M> {
    simd! {
    /// From limbs.
    pub(crate) fn from_limbs(l: [__m512i; 5]) -> Self {
        V8 { l, _m: PhantomData }
    }}

    simd! {
    /// Eight copies of one element given in limbs.
    pub(crate) fn splat(x: [u64; 5]) -> Self {
        Self::from_limbs([
            _mm512_set1_epi64(x[0] as i64),
            _mm512_set1_epi64(x[1] as i64),
            _mm512_set1_epi64(x[2] as i64),
            _mm512_set1_epi64(x[3] as i64),
            _mm512_set1_epi64(x[4] as i64),
        ])
    }}

    simd! {
    /// Eight zeros.
    pub(crate) fn zero() -> Self {
        Self::from_limbs([_mm512_setzero_si512(); 5])
    }}

    simd! {
    /// Four vectors of words, word j of element i in lane i of vector j, to normalised limbs: the same integers, below 2^256.
    pub(crate) fn from_words(w: [__m512i; 4]) -> Self {
        let m = _mm512_set1_epi64(MASK);
        Self::from_limbs([
            _mm512_and_si512(w[0], m),
            _mm512_and_si512(_mm512_shrdi_epi64::<52>(w[0], w[1]), m),
            _mm512_and_si512(_mm512_shrdi_epi64::<40>(w[1], w[2]), m),
            _mm512_and_si512(_mm512_shrdi_epi64::<28>(w[2], w[3]), m),
            _mm512_srli_epi64::<16>(w[3]),
        ])
    }}

    simd! {
    /// As [`V8::from_words`], times 16: below 2^260, and below 16p for canonical words.
    pub(crate) fn from_words_shifted(w: [__m512i; 4]) -> Self {
        let m = _mm512_set1_epi64(MASK);
        Self::from_limbs([
            _mm512_and_si512(_mm512_slli_epi64::<4>(w[0]), m),
            _mm512_and_si512(_mm512_shrdi_epi64::<48>(w[0], w[1]), m),
            _mm512_and_si512(_mm512_shrdi_epi64::<36>(w[1], w[2]), m),
            _mm512_and_si512(_mm512_shrdi_epi64::<24>(w[2], w[3]), m),
            _mm512_srli_epi64::<12>(w[3]),
        ])
    }}

    simd! {
    /// Normalised limbs, value below 2^256, to words.
    pub(crate) fn to_words(self) -> [__m512i; 4] {
        let l = self.l;
        [
            _mm512_or_si512(l[0], _mm512_slli_epi64::<52>(l[1])),
            _mm512_or_si512(_mm512_srli_epi64::<12>(l[1]), _mm512_slli_epi64::<40>(l[2])),
            _mm512_or_si512(_mm512_srli_epi64::<24>(l[2]), _mm512_slli_epi64::<28>(l[3])),
            _mm512_or_si512(_mm512_srli_epi64::<36>(l[3]), _mm512_slli_epi64::<16>(l[4])),
        ]
    }}

    simd! {
    /// Eight consecutive elements of four words.
    pub(crate) fn load(from: &[[u64; 4]; 8]) -> Self {
        Self::from_words(load_transposed(from))
    }}

    simd! {
    /// Eight consecutive elements of four words, times 16.
    pub(crate) fn load_shifted(from: &[[u64; 4]; 8]) -> Self {
        Self::from_words_shifted(load_transposed(from))
    }}

    simd! {
    /// Eight elements of four words, `stride` elements apart.
    ///
    /// # Panics
    /// When the last one is out of bounds.
    pub(crate) fn load_strided(from: &[[u64; 4]], stride: usize) -> Self {
        Self::from_words(load_strided(from, stride))
    }}

    simd! {
    /// As [`V8::load_strided`], times 16.
    ///
    /// # Panics
    /// When the last one is out of bounds.
    pub(crate) fn load_strided_shifted(from: &[[u64; 4]], stride: usize) -> Self {
        Self::from_words_shifted(load_strided(from, stride))
    }}

    simd! {
    /// As [`V8::store`], to places `stride` elements apart.
    ///
    /// # Panics
    /// When the last one is out of bounds.
    pub(crate) fn store_strided(self, to: &mut [[u64; 4]], stride: usize) {
        assert!(7 * stride < to.len(), "eight places");
        for (i, pair) in untranspose_pairs(self.to_words()).into_iter().enumerate() {
            // SAFETY: 7·stride is in bounds; unaligned stores of 32 bytes.
            unsafe {
                let to = to.as_mut_ptr();
                _mm256_storeu_si256(to.add(2 * i * stride).cast(), _mm512_castsi512_si256(pair));
                _mm256_storeu_si256(
                    to.add((2 * i + 1) * stride).cast(),
                    _mm512_extracti64x4_epi64::<1>(pair),
                );
            }
        }
    }}

    simd! {
    /// Stores canonical elements; the value must be normalised and below 2^256, and canonical if the caller needs that: see
    /// [`V8::canonical`].
    pub(crate) fn store(self, to: &mut [[u64; 4]; 8]) {
        store_transposed(self.to_words(), to);
    }}

    simd! {
    /// Limb-wise sum, not normalised.
    pub(crate) fn add_lazy(self, o: Self) -> Self {
        let (a, b) = (self.l, o.l);
        Self::from_limbs([
            _mm512_add_epi64(a[0], b[0]),
            _mm512_add_epi64(a[1], b[1]),
            _mm512_add_epi64(a[2], b[2]),
            _mm512_add_epi64(a[3], b[3]),
            _mm512_add_epi64(a[4], b[4]),
        ])
    }}

    simd! {
    /// Limb-wise `self − o + k·p`, not normalised; the value is non-negative when o ≤ k·p.
    pub(crate) fn sub_lazy<const K: u64>(self, o: Self) -> Self {
        let (a, b) = (self.l, o.l);
        let kp = const { multiple::<M>(K) };
        let f = |i: usize| _mm512_add_epi64(_mm512_sub_epi64(a[i], b[i]), _mm512_set1_epi64(kp[i] as i64));
        Self::from_limbs([f(0), f(1), f(2), f(3), f(4)])
    }}

    simd! {
    /// Propagates (signed) carries: limbs 0–3 below 2^52, limb 4 takes the rest. The value must be in [0, 2^260).
    pub(crate) fn carry(self) -> Self {
        let m = _mm512_set1_epi64(MASK);
        let mut l = self.l;
        l[1] = _mm512_add_epi64(l[1], _mm512_srai_epi64::<52>(l[0]));
        l[0] = _mm512_and_si512(l[0], m);
        l[2] = _mm512_add_epi64(l[2], _mm512_srai_epi64::<52>(l[1]));
        l[1] = _mm512_and_si512(l[1], m);
        l[3] = _mm512_add_epi64(l[3], _mm512_srai_epi64::<52>(l[2]));
        l[2] = _mm512_and_si512(l[2], m);
        l[4] = _mm512_add_epi64(l[4], _mm512_srai_epi64::<52>(l[3]));
        l[3] = _mm512_and_si512(l[3], m);
        Self::from_limbs(l)
    }}

    simd! {
    /// `self − k·p` where that is non-negative, else `self`. Operand and result normalised.
    pub(crate) fn reduce_once<const K: u64>(self) -> Self {
        let kp = const { multiple::<M>(K) };
        let f = |i: usize| _mm512_sub_epi64(self.l[i], _mm512_set1_epi64(kp[i] as i64));
        let d = Self::from_limbs([f(0), f(1), f(2), f(3), f(4)]).carry();
        let negative = _mm512_movepi64_mask(d.l[4]);
        let g = |i: usize| _mm512_mask_mov_epi64(d.l[i], negative, self.l[i]);
        Self::from_limbs([g(0), g(1), g(2), g(3), g(4)])
    }}

    simd! {
    /// A representative below 2p of a normalised value below 2^260.
    ///
    /// The quotient is estimated from the top limb: with d = ⌊p / 2^208⌋ + 1 and ⌊2^97 / d⌋ in 52 bits, the estimate is the true quotient
    /// or one less.
    pub(crate) fn reduce(self) -> Self {
        let zero = _mm512_setzero_si512();
        let inv = const { ((1u128 << 97) / (M::P[4] as u128 + 1)) as u64 };
        let q = _mm512_srli_epi64::<45>(_mm512_madd52hi_epu64(zero, self.l[4], _mm512_set1_epi64(inv as i64)));
        let p = |i: usize| _mm512_set1_epi64(M::P[i] as i64);
        // q < 2^7, so the high halves matter.
        let lo = |i: usize| _mm512_madd52lo_epu64(zero, q, p(i));
        let hi = |i: usize| _mm512_madd52hi_epu64(lo(i + 1), q, p(i));
        let l = self.l;
        Self::from_limbs([
            _mm512_sub_epi64(l[0], lo(0)),
            _mm512_sub_epi64(l[1], hi(0)),
            _mm512_sub_epi64(l[2], hi(1)),
            _mm512_sub_epi64(l[3], hi(2)),
            _mm512_sub_epi64(l[4], hi(3)),
        ])
        .carry()
    }}

    simd! {
    /// `self`, with `other` in the lanes whose words are all zero.
    pub(crate) fn nonzero_or(self, words: &[[u64; 4]; 8], other: Self) -> Self {
        let w = load_transposed(words);
        let any = _mm512_or_si512(_mm512_or_si512(w[0], w[1]), _mm512_or_si512(w[2], w[3]));
        let zero = _mm512_testn_epi64_mask(any, any);
        let f = |i: usize| _mm512_mask_mov_epi64(self.l[i], zero, other.l[i]);
        Self::from_limbs([f(0), f(1), f(2), f(3), f(4)])
    }}

    simd! {
    /// A representative below p + 2^253 < 1.67p of a value below 8·2^253 < 5.29p, whose limbs need not be normalised.
    ///
    /// The multiple of p to subtract is looked up by the top limb before the carries have reached it: they change it by a few units,
    /// far less than the distance of any entry of the table from its bound.
    pub(crate) fn shrink(self) -> Self {
        let step = _mm512_srli_epi64::<45>(self.l[4]);
        let steps = const { steps::<M>() };
        let f = |i: usize| {
            // SAFETY: eight words.
            let table = unsafe { _mm512_loadu_si512(steps[i].as_ptr().cast()) };
            _mm512_sub_epi64(self.l[i], _mm512_permutexvar_epi64(step, table))
        };
        Self::from_limbs([f(0), f(1), f(2), f(3), f(4)]).carry()
    }}

    simd! {
    /// `self`, with `other` in the lanes of `mask`.
    pub(crate) fn or_in(self, mask: __mmask8, other: Self) -> Self {
        let f = |i: usize| _mm512_mask_mov_epi64(self.l[i], mask, other.l[i]);
        Self::from_limbs([f(0), f(1), f(2), f(3), f(4)])
    }}

    simd! {
    /// The canonical representative of a normalised value below 2p.
    pub(crate) fn canonical(self) -> Self {
        self.reduce_once::<1>()
    }}

    simd! {
    /// `a·b·2^−260 mod p`: operands normalised, below 2^260; result normalised, below a·b/2^260 + p: less than 2p if a·b < 84p².
    ///
    /// Row by row, each followed by one step of Montgomery's reduction, so that eleven sums suffice and nothing spills; low and
    /// high halves of the limb products have separate sums, which makes many short chains (Gueron and Krasnov, "Software
    /// implementation of modular exponentiation, using advanced vector instructions architectures").
    pub(crate) fn mul(self, o: Self) -> Self {
        let zero = _mm512_setzero_si512();
        let mask = _mm512_set1_epi64(MASK);
        let n0 = _mm512_set1_epi64(M::N0 as i64);
        let (mut low, mut high) = ([zero; 6], [zero; 6]);
        for b in o.l {
            for j in 0..5 {
                low[j] = _mm512_madd52lo_epu64(low[j], self.l[j], b);
                high[j + 1] = _mm512_madd52hi_epu64(high[j + 1], self.l[j], b);
            }
            let column = _mm512_add_epi64(low[0], high[0]);
            let q = _mm512_madd52lo_epu64(zero, column, n0);
            // The low limb of column + q·p is zero, so what it passes on is ⌈column / 2^52⌉: no need to compute it.
            let carry = _mm512_srli_epi64::<52>(_mm512_add_epi64(column, mask));
            for j in 0..5 {
                let p = _mm512_set1_epi64(M::P[j] as i64);
                if j > 0 {
                    low[j] = _mm512_madd52lo_epu64(low[j], q, p);
                }
                high[j + 1] = _mm512_madd52hi_epu64(high[j + 1], q, p);
            }
            low[1] = _mm512_add_epi64(low[1], carry);
            low = [low[1], low[2], low[3], low[4], zero, zero];
            high = [high[1], high[2], high[3], high[4], high[5], zero];
        }
        let mut carry = zero;
        let mut l = [zero; 5];
        for i in 0..5 {
            let column = _mm512_add_epi64(_mm512_add_epi64(low[i], high[i]), carry);
            carry = _mm512_srli_epi64::<52>(column);
            l[i] = if i < 4 { _mm512_and_si512(column, mask) } else { column };
        }
        Self::from_limbs(l)
    }}

    simd! {
    /// `a²·2^−260 mod p`, bounds as [`V8::mul`].
    pub(crate) fn square(self) -> Self {
        let zero = _mm512_setzero_si512();
        let (mut low, mut high) = ([zero; 10], [zero; 10]);
        for i in 0..5 {
            for j in i + 1..5 {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], self.l[j], self.l[i]);
                high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], self.l[j], self.l[i]);
            }
        }
        for i in 1..9 {
            low[i] = _mm512_add_epi64(low[i], low[i]);
            high[i] = _mm512_add_epi64(high[i], high[i]);
        }
        for i in 0..5 {
            low[2 * i] = _mm512_madd52lo_epu64(low[2 * i], self.l[i], self.l[i]);
            high[2 * i + 1] = _mm512_madd52hi_epu64(high[2 * i + 1], self.l[i], self.l[i]);
        }
        Self::reduce_columns(low, high)
    }}

    simd! {
    /// Montgomery's reduction of `Σ (low[i] + high[i])·2^(52i)`.
    fn reduce_columns(mut low: [__m512i; 10], mut high: [__m512i; 10]) -> Self {
        let zero = _mm512_setzero_si512();
        let mask = _mm512_set1_epi64(MASK);
        let n0 = _mm512_set1_epi64(M::N0 as i64);
        let mut carry = zero;
        for i in 0..5 {
            let column = _mm512_add_epi64(_mm512_add_epi64(low[i], high[i]), carry);
            let q = _mm512_madd52lo_epu64(zero, column, n0);
            // The low limb of column + q·p is zero, so what it passes on is ⌈column / 2^52⌉: no need to compute it.
            carry = _mm512_srli_epi64::<52>(_mm512_add_epi64(column, mask));
            for j in 0..5 {
                let p = _mm512_set1_epi64(M::P[j] as i64);
                if j > 0 {
                    low[i + j] = _mm512_madd52lo_epu64(low[i + j], q, p);
                }
                high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], q, p);
            }
        }
        let mut l = [zero; 5];
        for i in 0..5 {
            let column = _mm512_add_epi64(_mm512_add_epi64(low[5 + i], high[5 + i]), carry);
            carry = _mm512_srli_epi64::<52>(column);
            l[i] = if i < 4 { _mm512_and_si512(column, mask) } else { column };
        }
        Self::from_limbs(l)
    }}
}

simd! {
/// Eight elements of four words to four vectors, word j of element i in lane i of vector j.
pub(crate) fn load_transposed(from: &[[u64; 4]; 8]) -> [__m512i; 4] {
    // SAFETY: reads 8 × 32 bytes, the whole array, unaligned.
    let v = unsafe {
        let p = from.as_ptr().cast::<__m512i>();
        [
            _mm512_loadu_si512(p),
            _mm512_loadu_si512(p.add(1)),
            _mm512_loadu_si512(p.add(2)),
            _mm512_loadu_si512(p.add(3)),
        ]
    };
    transpose_pairs(v)
}}

simd! {
fn load_strided(from: &[[u64; 4]], stride: usize) -> [__m512i; 4] {
    assert!(7 * stride < from.len(), "eight places");
    let pair = |i: usize| {
        // SAFETY: 7·stride is in bounds; unaligned loads of 32 bytes.
        let (low, high) = unsafe {
            let from = from.as_ptr();
            (
                _mm256_loadu_si256(from.add(2 * i * stride).cast()),
                _mm256_loadu_si256(from.add((2 * i + 1) * stride).cast()),
            )
        };
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    };
    transpose_pairs([pair(0), pair(1), pair(2), pair(3)])
}}

simd! {
/// Four vectors of two elements each to vectors of words.
pub(crate) fn transpose_pairs(v: [__m512i; 4]) -> [__m512i; 4] {
    // v0 = a0..a3 b0..b3, v1 = c d, v2 = e f, v3 = g h; collect the words pairwise, then join halves.
    let lo = _mm512_set_epi64(13, 9, 5, 1, 12, 8, 4, 0);
    let hi = _mm512_set_epi64(15, 11, 7, 3, 14, 10, 6, 2);
    // a0 b0 c0 d0 | a1 b1 c1 d1
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
}}

simd! {
/// The inverse of [`load_transposed`].
pub(crate) fn store_transposed(w: [__m512i; 4], to: &mut [[u64; 4]; 8]) {
    let v = untranspose_pairs(w);
    // SAFETY: writes 8 × 32 bytes, the whole array, unaligned.
    unsafe {
        let p = to.as_mut_ptr().cast::<__m512i>();
        _mm512_storeu_si512(p, v[0]);
        _mm512_storeu_si512(p.add(1), v[1]);
        _mm512_storeu_si512(p.add(2), v[2]);
        _mm512_storeu_si512(p.add(3), v[3]);
    }
}}

simd! {
/// The inverse of [`transpose_pairs`].
pub(crate) fn untranspose_pairs(w: [__m512i; 4]) -> [__m512i; 4] {
    let x = _mm512_shuffle_i64x2::<0x44>(w[0], w[1]);
    let y = _mm512_shuffle_i64x2::<0xee>(w[0], w[1]);
    let z = _mm512_shuffle_i64x2::<0x44>(w[2], w[3]);
    let u = _mm512_shuffle_i64x2::<0xee>(w[2], w[3]);
    // x = a0 b0 c0 d0 a1 b1 c1 d1, z = a2 b2 c2 d2 a3 b3 c3 d3
    let first = _mm512_set_epi64(13, 9, 5, 1, 12, 8, 4, 0);
    let second = _mm512_set_epi64(15, 11, 7, 3, 14, 10, 6, 2);
    [
        _mm512_permutex2var_epi64(x, first, z),
        _mm512_permutex2var_epi64(x, second, z),
        _mm512_permutex2var_epi64(y, first, u),
        _mm512_permutex2var_epi64(y, second, u),
    ]
}}

#[cfg(test)]
mod tests {
    use super::*;
    use ff::Field;
    use halo2curves::bn256::{Fq, Fr};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    type Eight = [[u64; 4]; 8];

    /// The words of the eight canonical results of every operation, for operands whose words are given.
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
    fn operations<M: Modulus>(a: &Eight, b: &Eight) -> [Eight; 7] {
        let (x, y) = (V8::<M>::load(a), V8::<M>::load(b));
        let shifted = V8::<M>::load_shifted(b);
        // Within bounds, far from reduced: x + 7(y − y + 8p) and the like.
        let wide = x.add_lazy(y).sub_lazy::<16>(y).carry();
        let mut out = [[[0; 4]; 8]; 7];
        x.mul(shifted).canonical().store(&mut out[0]);
        V8::<M>::load_shifted(a)
            .square()
            .mul(V8::splat(split(two_256::<M>())))
            .canonical()
            .store(&mut out[1]);
        x.add_lazy(y).carry().reduce().canonical().store(&mut out[2]);
        x.sub_lazy::<1>(y).carry().reduce().canonical().store(&mut out[3]);
        wide.mul(shifted).reduce().canonical().store(&mut out[4]);
        wide.sub_lazy::<64>(y).carry().reduce().canonical().store(&mut out[5]);
        x.sub_lazy::<4>(y).shrink().canonical().store(&mut out[6]);
        out
    }

    /// 2^256 modulo p.
    fn two_256<M: Modulus>() -> [u64; 4] {
        // 2^256 − 5p: p is a little more than 2^256 / 5.3.
        let mut rest = [0u64; 4];
        for _ in 0..5 {
            let mut borrow = false;
            for (word, p) in rest.iter_mut().zip(M::WORDS) {
                let (x, first) = word.overflowing_sub(p);
                let (x, second) = x.overflowing_sub(u64::from(borrow));
                *word = x;
                borrow = first | second;
            }
        }
        rest
    }

    macro_rules! check {
        ($field:ty, $modulus:ty, $rng:expr, $rounds:expr) => {
            // SAFETY: one `[u64; 4]` each, as `parhelion-hal` asserts.
            let words = |x: $field| unsafe { std::mem::transmute::<$field, [u64; 4]>(x) };
            let edges =
                [<$field>::ZERO, <$field>::ONE, -<$field>::ONE, <$field>::from(16), -<$field>::from(16)];
            for round in 0..$rounds {
                let mut draw = |i: usize| match round {
                    0..25 if i == 0 => edges[round / 5],
                    0..25 if i == 1 => edges[round % 5],
                    _ => <$field>::random(&mut $rng),
                };
                let a: [$field; 8] = std::array::from_fn(|_| draw(0));
                let b: [$field; 8] = std::array::from_fn(|_| draw(1));
                // SAFETY: the caller found the instructions.
                let got = unsafe { operations::<$modulus>(&a.map(words), &b.map(words)) };
                for i in 0..8 {
                    let (a, b) = (a[i], b[i]);
                    let expected = [a * b, a.square(), a + b, a - b, a * b, a - b, a - b];
                    assert_eq!(got.map(|o| o[i]), expected.map(words));
                }
            }
        };
    }

    fn rounds(rounds: usize) {
        if super::super::Token::new().is_err() {
            return;
        }
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        check!(Fr, FrModulus, rng, rounds);
        check!(Fq, FqModulus, rng, rounds);
    }

    #[test]
    fn lanes_agree_with_the_curve_library() {
        rounds(400);
    }

    #[test]
    #[ignore = "a million products in each field: cargo test --release -p parhelion-backend-cpu --lib million -- --ignored"]
    fn a_million_products() {
        rounds(125_000);
    }
}
