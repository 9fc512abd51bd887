//! Columns and points that break implementations.

use ff::{Field, PrimeField};
use group::{Curve as _, Group};
use parhelion_backend_api::Curve;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// A generator with a fixed seed: the suite asks every backend the same questions.
pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// `len` uniform field elements.
pub fn random<F: Field>(len: usize, rng: &mut impl RngCore) -> Vec<F> {
    (0..len).map(|_| F::random(&mut *rng)).collect()
}

/// Columns of `len` elements that kernels get wrong, each with its name.
pub fn columns<F: PrimeField>(len: usize, rng: &mut impl RngCore) -> Vec<(&'static str, Vec<F>)> {
    let two_to = |bits: u64| F::from(2).pow_vartime([bits]);
    let last = len.saturating_sub(1);
    let at = |place: usize, value: F| -> Vec<F> {
        (0..len).map(|i| if i == place { value } else { F::ZERO }).collect()
    };
    let each = |f: &mut dyn FnMut(usize) -> F| (0..len).map(f).collect::<Vec<F>>();
    let same = F::random(&mut *rng);
    vec![
        ("all zero", vec![F::ZERO; len]),
        ("all one", vec![F::ONE; len]),
        ("all r - 1", vec![-F::ONE; len]),
        ("all equal", vec![same; len]),
        ("zero or one", each(&mut |_| F::from(u64::from(rng.next_u32() & 1)))),
        ("one or minus one", each(&mut |i| if i % 3 == 0 { -F::ONE } else { F::ONE })),
        ("a few values many times", each(&mut |i| F::from(i as u64 % 3) * same)),
        ("the first only", at(0, same)),
        ("the last only", at(last, same)),
        ("its own index", each(&mut |i| F::from(i as u64))),
        ("powers of two", each(&mut |i| two_to(i as u64 % u64::from(F::NUM_BITS)))),
        ("one less than powers of two", each(&mut |i| two_to(i as u64 % u64::from(F::NUM_BITS)) - F::ONE)),
        ("minus powers of two", each(&mut |i| -two_to(i as u64 % u64::from(F::NUM_BITS)))),
        ("half of r", vec![F::from(2).invert().unwrap_or(F::ONE); len]),
        ("16 bits", each(&mut |_| F::from(u64::from(rng.next_u32() as u16)))),
        ("64 bits", each(&mut |_| F::from(rng.next_u64()))),
        (
            "signed 16 bits",
            each(&mut |i| {
                let value = F::from(u64::from(rng.next_u32() as u16));
                if i % 2 == 0 { value } else { -value }
            }),
        ),
        ("mostly zero", each(&mut |i| if i % 17 == 5 { F::random(&mut *rng) } else { F::ZERO })),
        ("uniform", random(len, rng)),
    ]
}

/// `len` distinct points, with the scalars that they are multiples of the generator by.
pub fn known_points<C: Curve>(len: usize, rng: &mut impl RngCore) -> (Vec<C>, Vec<C::ScalarExt>) {
    // An arithmetic progression needs one addition per point.
    let (first, step) = (C::ScalarExt::random(&mut *rng), C::ScalarExt::random(&mut *rng));
    let step_point = C::CurveExt::generator() * step;
    let scalars: Vec<C::ScalarExt> =
        std::iter::successors(Some(first), |s| Some(*s + step)).take(len).collect();
    let points: Vec<C::CurveExt> =
        std::iter::successors(Some(C::CurveExt::generator() * first), |p| Some(*p + step_point))
            .take(len)
            .collect();
    (normalise(&points), scalars)
}

/// Affine points.
pub fn normalise<C: Curve>(points: &[C::CurveExt]) -> Vec<C> {
    let mut affine = vec![C::identity(); points.len()];
    C::CurveExt::batch_normalize(points, &mut affine);
    affine
}

/// Sets of `len` bases that formulas get wrong, each with its name.
pub fn bases<C: Curve>(len: usize, rng: &mut impl RngCore) -> Vec<(&'static str, Vec<C>)> {
    let points = known_points::<C>(len, rng).0;
    let each = |f: &dyn Fn(usize) -> C| (0..len).map(f).collect::<Vec<C>>();
    let first = points.first().copied().unwrap_or_else(C::identity);
    vec![
        ("distinct", points.clone()),
        ("all the same", each(&|_| first)),
        ("pairs", each(&|i| points[i / 2])),
        ("a point and its negative", each(&|i| if i % 2 == 0 { points[i / 2] } else { -points[i / 2] })),
        ("all the identity", each(&|_| C::identity())),
        ("the identity first", each(&|i| if i == 0 { C::identity() } else { points[i] })),
        ("every third the identity", each(&|i| if i % 3 == 0 { C::identity() } else { points[i] })),
        ("the generator and its double", {
            let g = C::CurveExt::generator();
            let two: Vec<C> = normalise(&[g, g.double()]);
            each(&|i| two[i % 2])
        }),
    ]
}
