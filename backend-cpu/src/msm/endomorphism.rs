//! The endomorphism of BN254, and scalars of half the length.
//!
//! With β a cube root of one modulo p, (x, y) ↦ (βx, y) multiplies points by λ, a cube root of one modulo r. A scalar m is k₁ + k₂·λ
//! with k₁ and k₂ of about √r, because (m, 0) less the nearest point of the lattice {(a, b) : a + bλ = 0 mod r} is short (Gallant,
//! Lambert and Vanstone, "Faster point multiplication on elliptic curves with efficient endomorphisms"). The lattice has the basis (A, B),
//! (C, −A) with A = 2u + 1, B = 6u² + 4u + 1, C = 6u² + 2u, where u is the parameter of the curve. A² + BC = r, so the coordinates
//! of (m, 0) are mA/r and mB/r.

use ff::WithSmallOrderMulGroup;
use halo2curves::bn256::{Fq, G1Affine};

/// Bits of the magnitudes of both halves.
pub(crate) const HALF_BITS: u32 = 127;

const U: u128 = 4_965_661_367_192_848_881;
const A: u128 = 2 * U + 1;
const B: u128 = 6 * U * U + 4 * U + 1;
const C: u128 = 6 * U * U + 2 * U;
/// A·2^254/r and B·2^254/r, rounded.
const A_SCALED: u128 = 0xb647_48cb_b1f8_2cf6;
const B_SCALED: u128 = 0x9333_bc05_29dc_f4b4_94e6_3f40_c03f_d959;

/// λ·P.
pub(crate) fn image(point: &G1Affine) -> G1Affine {
    G1Affine { x: point.x * Fq::ZETA, y: point.y }
}

/// m·g/2^254, rounded. The product must be below 2^381.
#[inline(always)]
fn scale(m: &[u64; 4], g: u128) -> u128 {
    let (low, high) = (u128::from(g as u64), g >> 64);
    // m·g in words, of which those below the fourth are only carried on.
    let mut words = [0u64; 6];
    for (i, m) in m.iter().enumerate() {
        let m = u128::from(*m);
        let t = m * low + u128::from(words[i]);
        words[i] = t as u64;
        let t = m * high + u128::from(words[i + 1]) + (t >> 64);
        words[i + 1] = t as u64;
        words[i + 2] = (t >> 64) as u64;
    }
    let top = u128::from(words[4]) | u128::from(words[5]) << 64;
    // Bits 253 and up, rounded to bits 254 and up.
    ((top << 3 | u128::from(words[3] >> 61)) + 1) >> 1
}

/// k₁ and k₂ with k₁ + k₂·λ = m modulo r, both below 2^[`HALF_BITS`] in magnitude, for m below 2^253.
///
/// The roundings of the constants cost less than m·2^−255 ≤ 1/4, so the coordinates in the lattice are off by at most 3/4, and
/// |k₁| ≤ 3/4·(A + C), |k₂| ≤ 3/4·(A + B), both below 2^127. So arithmetic modulo 2^128 suffices.
#[inline(always)]
pub(crate) fn split(m: &[u64; 4]) -> [i128; 2] {
    let (first, second) = (scale(m, A_SCALED), scale(m, B_SCALED));
    let low = u128::from(m[0]) | u128::from(m[1]) << 64;
    let k1 = low.wrapping_sub(first.wrapping_mul(A)).wrapping_sub(second.wrapping_mul(C));
    let k2 = second.wrapping_mul(A).wrapping_sub(first.wrapping_mul(B));
    [k1.cast_signed(), k2.cast_signed()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::generic::field::{FrPrime, Prime};
    use ff::{Field, PrimeField};
    use group::Curve;
    use halo2curves::bn256::{Fr, G1};
    use rand_chacha::ChaCha20Rng;
    use rand_core::{RngCore, SeedableRng};

    fn element(k: i128) -> Fr {
        let magnitude = Fr::from_u128(k.unsigned_abs());
        if k < 0 { -magnitude } else { magnitude }
    }

    fn check(m: &[u64; 4]) {
        let [k1, k2] = split(m);
        assert_eq!(element(k1) + element(k2) * Fr::ZETA, Fr::from_raw(*m), "{m:x?}");
        // 2^126.4, by the documentation of `split`.
        let bound = (A + B) / 4 * 3 + 3;
        assert!(
            k1.unsigned_abs() <= bound && k2.unsigned_abs() <= bound && bound >> HALF_BITS == 0,
            "{m:x?}"
        );
    }

    #[test]
    fn constants_follow_from_the_curve() {
        let g = G1::generator();
        assert_eq!(image(&g.to_affine()), (g * Fr::ZETA).to_affine());
        assert_eq!(image(&G1Affine::default()), G1Affine::default());
        assert_eq!(Fr::ZETA.square() + Fr::ZETA + Fr::ONE, Fr::ZERO);
        // Both vectors are in the lattice, and they generate it: their determinant is −r.
        let [a, b, c] = [A, B, C].map(Fr::from_u128);
        assert_eq!(a + b * Fr::ZETA, Fr::ZERO);
        assert_eq!(c - a * Fr::ZETA, Fr::ZERO);
        assert_eq!(a.square() + b * c, Fr::ZERO);
        // B and C have 127 bits, so A² + BC is below 2r, and it is a multiple of r.
        assert!((A >> 64, B >> 127, C >> 127) == (0, 0, 0) && FrPrime::MODULUS[3] >> 61 == 1);
        // With the scaled constants r·x_scaled = 2^254·x up to r/2: so m = r gives the exact coordinates.
        for (scaled, exact) in [(A_SCALED, A), (B_SCALED, B)] {
            assert_eq!(scale(&FrPrime::MODULUS, scaled), exact);
        }
    }

    #[test]
    fn edges_split() {
        let half =
            [0xa1f0_fac9_f800_0000, 0x9419_f424_3cdc_b848, 0xdc28_22db_40c0_ac2e, 0x1832_2739_7098_d014];
        let lambda: [u64; 4] = {
            let mut words = [[0; 4]];
            crate::arch::points::Points::canonical(
                crate::arch::generic::ScalarPoints,
                &[Fr::ZETA],
                &mut words,
            );
            words[0]
        };
        let near = |words: [u64; 4]| {
            (0..5u64).flat_map(move |i| {
                let below = words[0].checked_sub(i).map(|w| [w, words[1], words[2], words[3]]);
                let above = words[0].checked_add(i).map(|w| [w, words[1], words[2], words[3]]);
                [below, above].into_iter().flatten()
            })
        };
        let powers = (0..253).map(|bit| {
            let mut words = [0u64; 4];
            words[bit / 64] = 1 << (bit % 64);
            words
        });
        // Multiples of the lattice's basis, and points between them, where rounding is a toss.
        let lattice =
            (1..200u64).map(|i| [i.wrapping_mul(A as u64), ((A * u128::from(i)) >> 64) as u64, 0, 0]);
        let wide = |x: u128| [x as u64, (x >> 64) as u64, 0, 0];
        let edges = [[0; 4], [u64::MAX, 0, 0, 0], [u64::MAX; 4].map(|w| w >> 3), half, lambda]
            .into_iter()
            .chain([wide(A / 2), wide(B / 2), wide(C / 2), wide(B), wide(C), wide(u128::MAX)])
            .chain(powers)
            .chain(lattice);
        edges.flat_map(near).filter(|m| m[3] >> 61 == 0).for_each(|m| check(&m));
    }

    fn random(seed: u64, cases: u64) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for case in 0..cases {
            // All lengths, every second one full.
            let drop = if case % 2 == 0 { 3 } else { 3 + rng.next_u32() % 253 };
            let mut m: [u64; 4] = std::array::from_fn(|_| rng.next_u64());
            for (i, word) in m.iter_mut().enumerate() {
                let keep = (256 - drop).saturating_sub(64 * i as u32).min(64);
                *word = if keep == 0 { 0 } else { *word >> (64 - keep) };
            }
            check(&m);
        }
    }

    #[test]
    fn random_scalars_split() {
        random(1, 20_000);
    }

    #[test]
    #[ignore = "a million scalars: cargo test --release -p parhelion-backend-cpu --lib million -- --ignored"]
    fn a_million_scalars() {
        random(2, 1_500_000);
    }
}
