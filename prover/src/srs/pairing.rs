//! Consistency of a string by random linear combinations and pairings.

use ff::Field;
use group::Curve;
use halo2_axiom::arithmetic::best_multiexp;
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fr, G1Affine, G2Affine, pairing};
use parhelion_backend_api::ntt::root_of_unity;
use rand_core::OsRng;
use rayon::prelude::*;

use super::{Srs, SrsError, refuse_guessable};
use crate::field;

pub(super) fn check(srs: &Srs) -> Result<(), SrsError> {
    for (what, points) in [("g", srs.g()), ("g_lagrange", srs.g_lagrange())] {
        let bad = points.par_iter().position_first(|p| !bool::from(p.is_on_curve()));
        if let Some(index) = bad {
            return Err(SrsError::BadPoint { what, index });
        }
    }
    if srs.g2 != G2Affine::generator() {
        return Err(SrsError::Inconsistent("the G2 base is not the generator"));
    }
    refuse_guessable(&srs.s_g2)?;
    if srs.g.first() != Some(&G1Affine::generator()) {
        return Err(SrsError::Inconsistent("the first power is not the generator of G1"));
    }
    powers(&srs.g, srs.g2, srs.s_g2)?;
    lagrange(srs)
}

/// `g[i + 1] = τ·g[i]` for every i.
pub(super) fn powers(g: &[G1Affine], g2: G2Affine, s_g2: G2Affine) -> Result<(), SrsError> {
    let Some((_, tail)) = g.split_first() else { return Ok(()) };
    if tail.is_empty() {
        return Ok(());
    }
    let weights = random(tail.len());
    let low = best_multiexp(&weights, &g[..tail.len()]).to_affine();
    let high = best_multiexp(&weights, tail).to_affine();
    if pairing(&high, &g2) == pairing(&low, &s_g2) {
        Ok(())
    } else {
        Err(SrsError::Inconsistent("the points of G1 are not the powers of the secret in G2"))
    }
}

/// A random polynomial has the same commitment in both bases. Its evaluations are found by Horner's rule at a random
/// choice of a geometric polynomial: p(X) = Σ ρ^j X^j has p(ω^i) = (ρ^n − 1) / (ρ·ω^i − 1).
fn lagrange(srs: &Srs) -> Result<(), SrsError> {
    let n = 1usize << srs.k;
    let rho = Fr::random(OsRng);
    let omega = root_of_unity::<Fr>(srs.k).map_err(|e| SrsError::Malformed(e.to_string()))?;
    let coefficients = field::powers(rho, Fr::ONE, n);
    let mut values: Vec<Fr> = field::powers(omega, rho, n).par_iter().map(|x| x - Fr::ONE).collect();
    field::batch_invert(&mut values);
    let scale = rho.pow_vartime([n as u64]) - Fr::ONE;
    values.par_iter_mut().for_each(|v| *v *= scale);
    if best_multiexp(&coefficients, &srs.g) == best_multiexp(&values, &srs.g_lagrange) {
        Ok(())
    } else {
        Err(SrsError::Inconsistent("the Lagrange basis does not belong to the powers"))
    }
}

fn random(n: usize) -> Vec<Fr> {
    field::random_from_seed(field::os_seed(), n)
}
