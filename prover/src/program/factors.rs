//! Programs over the original domain: lookups compressed, and the factors of the grand products.

use ff::{Field, PrimeField};
use halo2_axiom::plonk::{ConstraintSystem, Expression};
use halo2curves::bn256::Fr;
use parhelion_backend_api::Program;

use super::builder::{Builder, Id};
use super::{Key, permutation_set};
use crate::Result;

/// `Σ_i θ^(m−1−i)·e_i`.
pub(super) fn compressed(b: &mut Builder<Key>, expressions: &[Expression<Fr>], theta: Id) -> Result<Id> {
    let terms = expressions.iter().map(|e| b.expression(e)).collect::<Result<Vec<_>>>()?;
    Ok(b.horner(&terms, theta))
}

/// Results: input and table of one lookup. Challenges: the circuit's own, θ.
pub(super) fn compress(cs: &ConstraintSystem<Fr>, lookup: usize) -> Result<(Program<Fr>, Vec<Key>)> {
    let mut b = Builder::new(cs.num_challenges() + 1);
    let theta = b.challenge(cs.num_challenges());
    let argument = &cs.lookups()[lookup];
    let input = compressed(&mut b, argument.input_expressions(), theta)?;
    let table = compressed(&mut b, argument.table_expressions(), theta)?;
    Ok(b.finish(&[input, table]))
}

/// Results: numerator and denominator of one set. Challenges: β, γ.
pub(super) fn permutation(cs: &ConstraintSystem<Fr>, set: usize) -> (Program<Fr>, Vec<Key>) {
    let (columns, size) = (cs.permutation().get_columns(), permutation_set(cs));
    let mut b = Builder::new(2);
    let (beta, gamma, point) = (b.challenge(0), b.challenge(1), b.point());
    let one = b.constant(Fr::ONE);
    let (mut numerator, mut denominator) = (one, one);
    let mut delta = Fr::DELTA.pow_vartime([(set * size) as u64]);
    for (i, column) in columns.iter().enumerate().skip(set * size).take(size) {
        let value = b.column(Key::from(*column), 0);
        let shifted = b.add(value, gamma);
        let weight = b.constant(delta);
        let weight = b.mul(beta, weight);
        let identity = b.mul(weight, point);
        let factor = b.add(shifted, identity);
        numerator = b.mul(numerator, factor);
        let sigma = b.column(Key::Sigma(i), 0);
        let scaled = b.mul(beta, sigma);
        let factor = b.add(shifted, scaled);
        denominator = b.mul(denominator, factor);
        delta *= Fr::DELTA;
    }
    b.finish(&[numerator, denominator])
}

/// Results: `(A + β)(S + γ)` and `(A' + β)(S' + γ)`. Challenges: β, γ.
pub(super) fn lookup() -> (Program<Fr>, Vec<Key>) {
    let mut b = Builder::new(2);
    let (beta, gamma) = (b.challenge(0), b.challenge(1));
    let mut pair = |a: Key, s: Key| {
        let (a, s) = (b.column(a, 0), b.column(s, 0));
        let (a, s) = (b.add(a, beta), b.add(s, gamma));
        b.mul(a, s)
    };
    let numerator = pair(Key::CompressedInput(0), Key::CompressedTable(0));
    let denominator = pair(Key::PermutedInput(0), Key::PermutedTable(0));
    b.finish(&[numerator, denominator])
}
