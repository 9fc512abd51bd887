//! What the multi-scalar multiplication asks of an instruction set: affine additions, many at a time.

use halo2curves::bn256::G1Affine;

/// The bit of an operand in a [`Pair`] that asks for its negation.
pub(crate) const NEGATE: u32 = 1 << 31;

/// One addition: `dst[to] = src[a] + src[b]`, where [`NEGATE`] in `a` or `b` negates that operand.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(crate) struct Pair {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) to: u32,
}

/// Asks for the cache line at `from`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that never faults; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Affine points of G1 in the layout that one instruction set computes on.
pub(crate) trait Points: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// A point, the identity included.
    type Point: Copy + Send + Sync + std::fmt::Debug + 'static;
    /// Reusable memory of [`Points::add_pairs`].
    type Workspace: Default;
    /// The identity.
    const IDENTITY: Self::Point;
    /// Additions per vector: the granularity below which work is wasted.
    const LANES: usize;
    /// Points that are summed together: they and the workspace stay in the second-level cache, and the inversions vanish.
    const GROUP: usize;

    /// From the canonical layout.
    fn import(self, point: &G1Affine) -> Self::Point;
    /// To the canonical layout.
    fn export(self, point: &Self::Point) -> G1Affine;
    /// Whether it is the identity.
    fn is_identity(point: &Self::Point) -> bool;
    /// The inverse in the group.
    fn negate(point: &Self::Point) -> Self::Point;

    /// All additions of `pairs`, which share their inversions. Every case is handled: identities, doublings, inverses.
    ///
    /// # Safety
    /// For every pair, `a` and `b` without their [`NEGATE`] bit are in bounds of `src` and `to` is in bounds of `dst`. If `src` and
    /// `dst` overlap, no pair's `to` is an operand of another pair.
    unsafe fn add_pairs(
        self,
        src: *const Self::Point,
        dst: *mut Self::Point,
        pairs: &[Pair],
        workspace: &mut Self::Workspace,
    );

    /// Canonical values of scalars in Montgomery form.
    fn canonical(self, scalars: &[halo2curves::bn256::Fr], out: &mut [[u64; 4]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::generic::ScalarPoints;
    use ff::Field;
    use group::{Curve, Group};
    use halo2curves::bn256::{Fr, G1};
    use rand_chacha::ChaCha20Rng;
    use rand_core::{RngCore, SeedableRng};

    /// Sums of random operands from a small set rich in equal, opposite and identity points, against the group law.
    fn additions<P: Points>(points: P, batches: u64, pairs: usize) {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        for batch in 0..batches {
            let mut set: Vec<G1> = (0..512).map(|_| G1::generator() * Fr::random(&mut rng)).collect();
            let distinct = if batch % 2 == 0 { 8 } else { 500 };
            for i in distinct..512 {
                set[i] = match rng.next_u32() % 3 {
                    0 => G1::identity(),
                    1 => set[rng.next_u32() as usize % distinct],
                    _ => -set[rng.next_u32() as usize % distinct],
                };
            }
            let mut affine = vec![G1Affine::default(); set.len()];
            G1::batch_normalize(&set, &mut affine);
            let table: Vec<P::Point> = affine.iter().map(|p| points.import(p)).collect();
            for (point, p) in affine.iter().zip(&table) {
                assert_eq!(points.export(p), *point);
                assert_eq!(points.export(&P::negate(p)), -*point);
                assert_eq!(P::is_identity(p), point.y == halo2curves::bn256::Fq::ZERO);
            }
            for len in [1, 7, 8, 9, pairs] {
                let mut operand = || rng.next_u32() & (NEGATE | 511);
                let pairs: Vec<Pair> =
                    (0..len as u32).map(|to| Pair { a: operand(), b: operand(), to }).collect();
                let mut sums = vec![P::IDENTITY; len];
                // SAFETY: operands are below 512, the length of the table; `sums` has a place for each pair.
                unsafe {
                    points.add_pairs(table.as_ptr(), sums.as_mut_ptr(), &pairs, &mut Default::default());
                }
                let signed =
                    |o: u32| if o & NEGATE == 0 { set[o as usize] } else { -set[(o & !NEGATE) as usize] };
                let expected: Vec<G1> = pairs.iter().map(|p| signed(p.a) + signed(p.b)).collect();
                let mut normal = vec![G1Affine::default(); len];
                G1::batch_normalize(&expected, &mut normal);
                for (sum, expected) in sums.iter().zip(&normal) {
                    assert_eq!(points.export(sum), *expected);
                }
                // In place, as a tree: sums of sums.
                let pairs: Vec<Pair> =
                    (0..len as u32 / 2).map(|i| Pair { a: 2 * i, b: 2 * i + 1, to: 2 * i }).collect();
                let base = sums.as_mut_ptr();
                // SAFETY: operands and destinations are below the length; each belongs to one pair.
                unsafe { points.add_pairs(base, base, &pairs, &mut Default::default()) };
                for pair in &pairs {
                    let expected = expected[pair.a as usize] + expected[pair.b as usize];
                    assert_eq!(points.export(&sums[pair.to as usize]), expected.to_affine());
                }
            }
        }
    }

    fn conversions<P: Points>(points: P) {
        let mut rng = ChaCha20Rng::seed_from_u64(6);
        let mut scalars: Vec<Fr> = (0..1003).map(|_| Fr::random(&mut rng)).collect();
        scalars[..4].copy_from_slice(&[Fr::ZERO, Fr::ONE, -Fr::ONE, Fr::from(u64::MAX)]);
        let mut canonical = vec![[0; 4]; scalars.len()];
        points.canonical(&scalars, &mut canonical);
        for (scalar, words) in scalars.iter().zip(&canonical) {
            assert_eq!(Fr::from_raw(*words), *scalar);
        }
        assert_eq!(canonical[1], [1, 0, 0, 0]);
        assert_eq!(canonical[0], [0; 4]);
    }

    #[test]
    fn scalar_additions() {
        conversions(ScalarPoints);
        additions(ScalarPoints, 4, 300);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn ifma_additions() {
        if let Ok(token) = crate::arch::ifma::Token::new() {
            let points = crate::arch::ifma::IfmaPoints::new(token);
            conversions(points);
            additions(points, 4, 300);
        }
    }

    #[test]
    #[ignore = "a million additions on each instruction set: cargo test --release -p parhelion-backend-cpu --lib million -- --ignored"]
    fn a_million_additions() {
        additions(ScalarPoints, 20, 50_000);
        #[cfg(target_arch = "x86_64")]
        if let Ok(token) = crate::arch::ifma::Token::new() {
            additions(crate::arch::ifma::IfmaPoints::new(token), 20, 50_000);
        }
    }
}
