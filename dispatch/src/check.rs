//! Verification of results by less work than computing them.
//!
//! **Multi-scalar multiplication.** With random r_i, `Σ_i r_i · out[i] = Σ_j (Σ_i r_i · s[i][j]) · B[j]`: one multiplication of the
//! combined scalars on a trusted provider, whatever the number of columns. A wrong result passes with probability 2^−128.
//!
//! **Transforms.** With random r_c and z, the combined coefficient column is evaluated at z by Horner's rule, the combined value
//! column by the barycentric formula `p(g·w) = (wⁿ − 1)/n · Σ_i v[i] · ωⁱ / (w − ωⁱ)`, w = z/g. A wrong result passes with
//! probability below n · 2^−250 + 2^−128. (Schwartz–Zippel, on the difference of the two sides.)

use std::borrow::Cow;

use ff::{Field, PrimeField};
use group::Group;
use parhelion_backend_api::hal::Result;
use parhelion_backend_api::{Curve, Direction, NttPlan, ntt};
use rand_core::{OsRng, RngCore};
use rayon::prelude::*;

use crate::attempt::zeros;

/// Elements that one task works on.
const CHUNK: usize = 1 << 12;

fn random_128<F: PrimeField>() -> F {
    let mut bytes = [0u8; 16];
    OsRng.fill_bytes(&mut bytes);
    F::from_u128(u128::from_le_bytes(bytes))
}

/// `Σ_c weights[c] · columns[c]`, columns padded with zeros to `len`.
fn combine<F: PrimeField>(weights: &[F], columns: &[Cow<'_, [F]>], len: usize) -> Result<Vec<F>> {
    let mut sum = zeros::<F>(len)?;
    sum.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, sum)| {
        for (weight, column) in weights.iter().zip(columns) {
            let column = column.get(chunk * CHUNK..).unwrap_or_default();
            for (sum, value) in sum.iter_mut().zip(column) {
                *sum += *weight * value;
            }
        }
    });
    Ok(sum)
}

/// Whether `out[i] = Σ_j scalars[i][j] · bases[j]`, given a trusted multiplication over the same bases.
pub(crate) fn msm_holds<C: Curve>(
    scalars: &[Cow<'_, [C::ScalarExt]>],
    out: &[C::CurveExt],
    trusted: impl FnOnce(&[C::ScalarExt]) -> Result<C::CurveExt>,
) -> Result<bool> {
    let weights: Vec<C::ScalarExt> = scalars.iter().map(|_| random_128()).collect();
    let len = scalars.iter().map(|column| column.len()).max().unwrap_or(0);
    let expected = trusted(&combine(&weights, scalars, len)?)?;
    let found = out.iter().zip(&weights).fold(C::CurveExt::identity(), |sum, (out, w)| sum + *out * *w);
    Ok(expected == found)
}

/// Whether `after` is the transform of `before`.
pub(crate) fn ntt_holds<F: PrimeField>(
    plan: &NttPlan<F>,
    before: &[Cow<'_, [F]>],
    after: &[Cow<'_, [F]>],
) -> Result<bool> {
    let (coefficients, values) = match plan.direction {
        Direction::Forward => (before, after),
        Direction::Inverse => (after, before),
    };
    let n = 1usize << plan.log_n;
    let weights: Vec<F> = before.iter().map(|_| random_128()).collect();
    let coefficients = combine(&weights, coefficients, n)?;
    let values = combine(&weights, values, n)?;
    let omega = ntt::root_of_unity::<F>(plan.log_n)?;
    // The formula has poles on the domain, which a random point meets with probability n / r.
    let (w, scale) = loop {
        let w = F::random(OsRng);
        let vanishing = w.pow_vartime([n as u64]) - F::ONE;
        if !bool::from(vanishing.is_zero()) {
            let inverse = F::from(n as u64).invert().unwrap_or(F::ZERO);
            break (w, vanishing * inverse);
        }
    };
    let z = w * plan.coset.unwrap_or(F::ONE);
    let polynomial = coefficients
        .par_chunks(CHUNK)
        .enumerate()
        .map(|(chunk, part)| {
            let value = part.iter().rev().fold(F::ZERO, |sum, c| sum * z + c);
            value * z.pow_vartime([(chunk * CHUNK) as u64])
        })
        .reduce(|| F::ZERO, |a, b| a + b);
    let barycentric = values
        .par_chunks(CHUNK)
        .enumerate()
        .map(|(chunk, part)| {
            let first = omega.pow_vartime([(chunk * CHUNK) as u64]);
            barycentric_sum(part, first, omega, w)
        })
        .reduce(|| F::ZERO, |a, b| a + b);
    Ok(polynomial == scale * barycentric)
}

/// `Σ_i values[i] · x_i / (w − x_i)` over `x_i = first · ω^i`, with one inversion.
fn barycentric_sum<F: Field>(values: &[F], first: F, omega: F, w: F) -> F {
    let points = std::iter::successors(Some(first), |x| Some(*x * omega)).take(values.len());
    // (x, product of the denominators before x)
    let mut before = Vec::with_capacity(values.len());
    let mut product = F::ONE;
    for x in points {
        before.push((x, product));
        product *= w - x;
    }
    // No denominator is zero: w is not on the domain.
    let mut inverse = product.invert().unwrap_or(F::ZERO);
    let mut sum = F::ZERO;
    for ((x, before), value) in before.into_iter().zip(values).rev() {
        sum += *value * x * before * inverse;
        inverse *= w - x;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff::WithSmallOrderMulGroup;
    use halo2curves::bn256::Fr;

    fn transform(plan: &NttPlan<Fr>, a: &[Fr]) -> Vec<Fr> {
        let omega = ntt::root_of_unity::<Fr>(plan.log_n).unwrap();
        let g = plan.coset.unwrap_or(Fr::ONE);
        let points = std::iter::successors(Some(g), |x| Some(*x * omega)).take(a.len());
        points.map(|x| a.iter().rev().fold(Fr::ZERO, |sum, c| sum * x + c)).collect()
    }

    #[test]
    fn a_transform_passes_and_any_single_wrong_value_does_not() {
        for coset in [None, Some(Fr::ZETA), Some(Fr::from(7))] {
            for log_n in [0, 1, 4, 6] {
                let plan = NttPlan { log_n, direction: Direction::Forward, coset };
                let inverse = NttPlan { direction: Direction::Inverse, ..plan };
                let a: Vec<Vec<Fr>> =
                    (0..3).map(|_| (0..1 << log_n).map(|_| Fr::random(OsRng)).collect()).collect();
                let b: Vec<Vec<Fr>> = a.iter().map(|a| transform(&plan, a)).collect();
                let cow =
                    |columns: &[Vec<Fr>]| columns.iter().map(|c| Cow::Owned(c.clone())).collect::<Vec<_>>();
                assert!(ntt_holds(&plan, &cow(&a), &cow(&b)).unwrap());
                assert!(ntt_holds(&inverse, &cow(&b), &cow(&a)).unwrap());
                for column in 0..3 {
                    for row in 0..1 << log_n {
                        let mut wrong = b.clone();
                        wrong[column][row] += Fr::ONE;
                        assert!(!ntt_holds(&plan, &cow(&a), &cow(&wrong)).unwrap());
                        assert!(!ntt_holds(&inverse, &cow(&wrong), &cow(&a)).unwrap());
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_beyond_the_first_count() {
        let plan = NttPlan::<Fr>::forward(13);
        let n = 1 << 13;
        // X^(n−1) has the values ω^−i.
        let mut a = vec![Fr::ZERO; n];
        a[n - 1] = Fr::ONE;
        let omega = ntt::root_of_unity::<Fr>(13).unwrap().invert().unwrap();
        let b: Vec<Fr> = std::iter::successors(Some(Fr::ONE), |x| Some(*x * omega)).take(n).collect();
        assert!(ntt_holds(&plan, &[Cow::Borrowed(&a)], &[Cow::Borrowed(&b)]).unwrap());
        let mut wrong = b.clone();
        wrong[n - 1] += Fr::ONE;
        assert!(!ntt_holds(&plan, &[Cow::Borrowed(&a)], &[Cow::Borrowed(&wrong)]).unwrap());
    }
}
