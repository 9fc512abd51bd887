//! Lazily reduced arithmetic of both fields on four words of 64 bits, in Montgomery form with R = 2^256.
//!
//! p < 2^254, so values below 4p fit; products of a value below 4p and one below p are below 2p without a final subtraction.

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{as_bytes, as_bytes_mut};

/// Four words, least significant first.
pub(crate) type Words = [u64; 4];

/// A prime below 2^254.
pub(crate) trait Prime {
    /// It.
    const MODULUS: Words;
    /// Twice it.
    const TWICE: Words = [
        Self::MODULUS[0] << 1,
        Self::MODULUS[1] << 1 | Self::MODULUS[0] >> 63,
        Self::MODULUS[2] << 1 | Self::MODULUS[1] >> 63,
        Self::MODULUS[3] << 1 | Self::MODULUS[2] >> 63,
    ];
    /// −1/p modulo 2^64.
    const INVERSE: u64 = {
        // Newton's iteration doubles the number of correct bits.
        let mut x = 1u64;
        let mut i = 0;
        while i < 6 {
            x = x.wrapping_mul(2u64.wrapping_sub(Self::MODULUS[0].wrapping_mul(x)));
            i += 1;
        }
        x.wrapping_neg()
    };
}

/// Of the scalar field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrPrime;

impl Prime for FrPrime {
    const MODULUS: Words =
        [0x43e1_f593_f000_0001, 0x2833_e848_79b9_7091, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];
}

/// Of the base field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FqPrime;

impl Prime for FqPrime {
    const MODULUS: Words =
        [0x3c20_8c16_d87c_fd47, 0x9781_6a91_6871_ca8d, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];
}

/// The Montgomery words of an element.
pub(crate) fn words(x: Fr) -> Words {
    let mut out = [0; 4];
    for (word, bytes) in out.iter_mut().zip(as_bytes(std::slice::from_ref(&x)).as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    out
}

/// The element with these canonical Montgomery words.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only vectors need it"))]
pub(crate) fn element(w: &Words) -> Fr {
    let mut out = [Fr::zero()];
    for (bytes, word) in as_bytes_mut(&mut out).as_chunks_mut::<8>().0.iter_mut().zip(w) {
        *bytes = word.to_le_bytes();
    }
    out[0]
}

/// The Montgomery words of a slice of elements.
pub(crate) fn as_words(values: &[Fr]) -> &[Words] {
    // SAFETY: `Fr` is one `[u64; 4]`, as `parhelion-hal` asserts of its size and alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// The Montgomery words of a slice of elements; what is written must be canonical.
pub(crate) fn as_words_mut(values: &mut [Fr]) -> &mut [Words] {
    // SAFETY: as in `as_words`; any words are a memory-safe value.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

#[inline(always)]
fn mac(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let t = u128::from(a) + u128::from(b) * u128::from(c) + u128::from(carry);
    (t as u64, (t >> 64) as u64)
}

/// a·b/2^256, below a·b/2^256 + p. One operand is below 4p, the other below p (or both below 2p).
#[inline(always)]
pub(crate) fn mul_mod<P: Prime>(a: &Words, b: &Words) -> Words {
    let mut t = [0u64; 4];
    for word in b {
        let (low, mut c) = mac(t[0], a[0], *word, 0);
        let m = low.wrapping_mul(P::INVERSE);
        let (_, mut d) = mac(low, m, P::MODULUS[0], 0);
        for j in 1..4 {
            let (x, carry) = mac(t[j], a[j], *word, c);
            c = carry;
            let (y, carry) = mac(x, m, P::MODULUS[j], d);
            d = carry;
            t[j - 1] = y;
        }
        // No overflow: the top word of p is below 2^62.
        t[3] = c + d;
    }
    t
}

/// [`mul_mod`] in the scalar field.
#[inline(always)]
pub(crate) fn mul(a: &Words, b: &Words) -> Words {
    mul_mod::<FrPrime>(a, b)
}

#[inline(always)]
fn add_words(a: &Words, b: &Words) -> Words {
    let (r0, c) = a[0].overflowing_add(b[0]);
    let (r1, c) = carrying(a[1], b[1], c);
    let (r2, c) = carrying(a[2], b[2], c);
    let (r3, _) = carrying(a[3], b[3], c);
    [r0, r1, r2, r3]
}

#[inline(always)]
fn carrying(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (x, first) = a.overflowing_add(b);
    let (x, second) = x.overflowing_add(u64::from(carry));
    (x, first | second)
}

#[inline(always)]
fn borrowing(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let (x, first) = a.overflowing_sub(b);
    let (x, second) = x.overflowing_sub(u64::from(borrow));
    (x, first | second)
}

#[inline(always)]
fn sub_words(a: &Words, b: &Words) -> (Words, bool) {
    let (r0, c) = a[0].overflowing_sub(b[0]);
    let (r1, c) = borrowing(a[1], b[1], c);
    let (r2, c) = borrowing(a[2], b[2], c);
    let (r3, c) = borrowing(a[3], b[3], c);
    ([r0, r1, r2, r3], c)
}

#[inline(always)]
fn less_if_possible(a: &Words, k: &Words) -> Words {
    let (reduced, borrow) = sub_words(a, k);
    let keep = 0u64.wrapping_sub(u64::from(borrow));
    std::array::from_fn(|i| reduced[i] ^ ((reduced[i] ^ a[i]) & keep))
}

/// a + b without reduction: the sum must be below 2^256.
#[inline(always)]
pub(crate) fn add(a: &Words, b: &Words) -> Words {
    add_words(a, b)
}

/// a − b + 2p for b at most 2p.
#[inline(always)]
pub(crate) fn sub(a: &Words, b: &Words) -> Words {
    sub_mod::<FrPrime>(a, b)
}

/// [`sub`] in any field.
#[inline(always)]
pub(crate) fn sub_mod<P: Prime>(a: &Words, b: &Words) -> Words {
    add_words(a, &sub_words(&P::TWICE, b).0)
}

/// a − b + p for b at most p.
#[inline(always)]
pub(crate) fn sub_once<P: Prime>(a: &Words, b: &Words) -> Words {
    add_words(a, &sub_words(&P::MODULUS, b).0)
}

/// Brings a value below 4p below 2p.
#[inline(always)]
pub(crate) fn reduce(a: &Words) -> Words {
    less_if_possible(a, &FrPrime::TWICE)
}

/// The canonical representative of a value below 4p.
#[inline(always)]
pub(crate) fn canonical(a: &Words) -> Words {
    canonical_mod::<FrPrime>(a)
}

/// [`canonical`] in any field.
#[inline(always)]
pub(crate) fn canonical_mod<P: Prime>(a: &Words) -> Words {
    less_if_possible(&less_if_possible(a, &P::TWICE), &P::MODULUS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff::{Field, PrimeField};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn check(a: Fr, b: Fr) {
        let (u, v) = (words(a), words(b));
        assert_eq!(element(&canonical(&mul(&u, &v))), a * b);
        assert_eq!(element(&canonical(&add(&u, &v))), a + b);
        assert_eq!(element(&canonical(&sub(&u, &v))), a - b);
        // Almost 4p.
        let wide = sub(&add(&u, &v), &v);
        assert_eq!(element(&canonical(&mul(&wide, &v))), a * b);
        assert_eq!(element(&canonical(&reduce(&wide))), a);
    }

    #[test]
    fn edges_agree_with_the_curve_library() {
        let edges = [
            Fr::ZERO,
            Fr::ONE,
            -Fr::ONE,
            Fr::from(2),
            -Fr::from(2),
            Fr::from(u64::MAX),
            Fr::ROOT_OF_UNITY,
            // Small and large as Montgomery words.
            element(&[1, 0, 0, 0]),
            element(&[
                FrPrime::MODULUS[0] - 1,
                FrPrime::MODULUS[1],
                FrPrime::MODULUS[2],
                FrPrime::MODULUS[3],
            ]),
            element(&[u64::MAX, u64::MAX, u64::MAX, FrPrime::MODULUS[3] - 1]),
        ];
        edges.iter().for_each(|a| edges.iter().for_each(|b| check(*a, *b)));
    }

    #[test]
    fn random_elements_agree_with_the_curve_library() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        (0..2_000).for_each(|_| check(Fr::random(&mut rng), Fr::random(&mut rng)));
    }

    #[test]
    #[ignore = "a million products: cargo test --release -p parhelion-backend-cpu --lib million -- --ignored"]
    fn a_million_products() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        (0..1_000_000).for_each(|_| check(Fr::random(&mut rng), Fr::random(&mut rng)));
    }
}
