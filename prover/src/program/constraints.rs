//! The numerator of h(X): all constraints of a circuit as one program.
//!
//! halo2 combines its terms t_0 … t_{m−1} as `Σ_i y^(m−1−i)·t_i`, in this order: gates; for the permutation argument
//! `l_0·(1 − z_0)`, `l_last·(z_l² − z_l)`, the chaining of the sets, the products; for each lookup its five terms. Here terms that share
//! a fixed factor (a selector, l_0, l_last, l_active) are summed before that factor is applied, once for all of them.

use ff::{Field, PrimeField};
use halo2_axiom::plonk::{ConstraintSystem, Expression};
use halo2curves::bn256::Fr;
use parhelion_backend_api::Program;

use super::builder::{Builder, Id};
use super::{Key, last_rotation, permutation_set};
use crate::Result;

/// Terms in halo2's order, each as an optional fixed factor and the rest.
#[derive(Default)]
struct Terms(Vec<(Option<Id>, Id)>);

impl Terms {
    fn push(&mut self, factor: Id, rest: Id) {
        self.0.push((Some(factor), rest));
    }

    /// `Σ_i y^(m−1−i)·factor_i·rest_i`.
    fn combine(self, b: &mut Builder<Key>, y: Id) -> Id {
        let mut weights = Vec::with_capacity(self.0.len());
        let mut weight = b.constant(Fr::ONE);
        for _ in &self.0 {
            weights.push(weight);
            weight = b.mul(weight, y);
        }
        weights.reverse();
        let mut groups: Vec<(Option<Id>, Id)> = Vec::new();
        let zero = b.constant(Fr::ZERO);
        for ((factor, rest), weight) in self.0.into_iter().zip(weights) {
            let term = b.mul(rest, weight);
            let at = groups.iter().position(|(f, _)| *f == factor).unwrap_or_else(|| {
                groups.push((factor, zero));
                groups.len() - 1
            });
            groups[at].1 = b.add(groups[at].1, term);
        }
        groups.into_iter().fold(zero, |sum, (factor, group)| {
            let scaled = factor.map_or(group, |f| b.mul(f, group));
            b.add(sum, scaled)
        })
    }
}

/// The program with its columns, and the number of terms. Challenges: the circuit's own, y, β, γ, θ.
pub(super) fn quotient(cs: &ConstraintSystem<Fr>) -> Result<((Program<Fr>, Vec<Key>), usize)> {
    let own = cs.num_challenges();
    let mut b = Builder::new(own + 4);
    let [y, beta, gamma, theta] = [0, 1, 2, 3].map(|i| b.challenge(own + i));
    let mut terms = Terms::default();
    for gate in cs.gates() {
        for polynomial in gate.polynomials() {
            let term = split(&mut b, polynomial)?;
            terms.0.push(term);
        }
    }
    permutation(&mut b, cs, beta, gamma, &mut terms);
    for index in 0..cs.lookups().len() {
        lookup(&mut b, cs, index, [beta, gamma, theta], &mut terms)?;
    }
    let count = terms.0.len();
    let numerator = terms.combine(&mut b, y);
    Ok((b.finish(&[numerator]), count))
}

/// Takes the first fixed column out of a product.
fn split(b: &mut Builder<Key>, expression: &Expression<Fr>) -> Result<(Option<Id>, Id)> {
    let mut factors = Vec::new();
    let mut scale = Fr::ONE;
    flatten(expression, &mut factors, &mut scale);
    let selector = factors.iter().position(|f| matches!(f, Expression::Fixed(_)));
    let factor = selector.map(|i| b.expression(factors.remove(i))).transpose()?;
    let mut rest = b.constant(scale);
    for f in factors {
        let f = b.expression(f)?;
        rest = b.mul(rest, f);
    }
    Ok((factor, rest))
}

fn flatten<'e>(expression: &'e Expression<Fr>, factors: &mut Vec<&'e Expression<Fr>>, scale: &mut Fr) {
    match expression {
        Expression::Product(a, b) => {
            flatten(a, factors, scale);
            flatten(b, factors, scale);
        }
        Expression::Scaled(a, factor) => {
            *scale *= factor;
            flatten(a, factors, scale);
        }
        Expression::Negated(a) => {
            *scale = -*scale;
            flatten(a, factors, scale);
        }
        other => factors.push(other),
    }
}

fn permutation(b: &mut Builder<Key>, cs: &ConstraintSystem<Fr>, beta: Id, gamma: Id, terms: &mut Terms) {
    let columns = cs.permutation().get_columns();
    let chunk = permutation_set(cs);
    let sets = columns.len().div_ceil(chunk);
    if sets == 0 {
        return;
    }
    let [first, last, active] = [Key::First, Key::Last, Key::Active].map(|key| b.column(key, 0));
    let one = b.constant(Fr::ONE);
    let z0 = b.column(Key::PermutationProduct(0), 0);
    let starts_at_one = b.sub(one, z0);
    terms.push(first, starts_at_one);
    let z_end = b.column(Key::PermutationProduct(sets - 1), 0);
    let ends_in_a_bit = bit(b, z_end);
    terms.push(last, ends_in_a_bit);
    for set in 1..sets {
        let here = b.column(Key::PermutationProduct(set), 0);
        let before = b.column(Key::PermutationProduct(set - 1), last_rotation(cs));
        let chained = b.sub(here, before);
        terms.push(first, chained);
    }
    let point = b.point();
    let mut delta = Fr::ONE;
    for (set, chunk_columns) in columns.chunks(chunk).enumerate() {
        let mut left = b.column(Key::PermutationProduct(set), 1);
        let mut right = b.column(Key::PermutationProduct(set), 0);
        for (i, column) in chunk_columns.iter().enumerate() {
            let value = b.column(Key::from(*column), 0);
            let shifted = b.add(value, gamma);
            let sigma = b.column(Key::Sigma(set * chunk + i), 0);
            let scaled = b.mul(beta, sigma);
            let factor = b.add(shifted, scaled);
            left = b.mul(left, factor);
            let weight = b.constant(delta);
            let weight = b.mul(beta, weight);
            let identity = b.mul(weight, point);
            let factor = b.add(shifted, identity);
            right = b.mul(right, factor);
            delta *= Fr::DELTA;
        }
        let difference = b.sub(left, right);
        terms.push(active, difference);
    }
}

fn lookup(
    b: &mut Builder<Key>,
    cs: &ConstraintSystem<Fr>,
    index: usize,
    [beta, gamma, theta]: [Id; 3],
    terms: &mut Terms,
) -> Result<()> {
    let argument = &cs.lookups()[index];
    let [first, last, active] = [Key::First, Key::Last, Key::Active].map(|key| b.column(key, 0));
    let z = b.column(Key::LookupProduct(index), 0);
    let z_next = b.column(Key::LookupProduct(index), 1);
    let a = b.column(Key::PermutedInput(index), 0);
    let a_before = b.column(Key::PermutedInput(index), -1);
    let s = b.column(Key::PermutedTable(index), 0);
    let one = b.constant(Fr::ONE);

    let starts_at_one = b.sub(one, z);
    terms.push(first, starts_at_one);
    let ends_in_a_bit = bit(b, z);
    terms.push(last, ends_in_a_bit);

    let (left_a, left_s) = (b.add(a, beta), b.add(s, gamma));
    let left = b.mul(left_a, left_s);
    let left = b.mul(z_next, left);
    let input = super::factors::compressed(b, argument.input_expressions(), theta)?;
    let table = super::factors::compressed(b, argument.table_expressions(), theta)?;
    let (input, table) = (b.add(input, beta), b.add(table, gamma));
    let right = b.mul(input, table);
    let right = b.mul(z, right);
    let product = b.sub(left, right);
    terms.push(active, product);

    let difference = b.sub(a, s);
    terms.push(first, difference);
    let step = b.sub(a, a_before);
    let sorted = b.mul(difference, step);
    terms.push(active, sorted);
    Ok(())
}

/// z² − z.
fn bit(b: &mut Builder<Key>, z: Id) -> Id {
    let square = b.mul(z, z);
    b.sub(square, z)
}
