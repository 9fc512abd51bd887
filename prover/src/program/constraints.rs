//! The numerator of h(X): all constraints of a circuit as one program or, to need fewer columns at a time, as a sequence.
//!
//! halo2 combines its terms t_0 … t_{m−1} as `Σ_i y^(m−1−i)·t_i`, in this order: gates; for the permutation argument
//! `l_0·(1 − z_0)`, `l_last·(z_l² − z_l)`, the chaining of the sets, the products; for each lookup its five terms. Here
//! terms that share a fixed factor (a selector, l_0, l_last, l_active) are summed before that factor is applied, once
//! for all of them.

use ff::{Field, PrimeField};
use halo2_axiom::plonk::{ConstraintSystem, Expression};
use halo2curves::bn256::Fr;
use parhelion_backend_api::Program;

use super::builder::{Builder, Id};
use super::{Key, last_rotation, permutation_set, schedule};
use crate::Result;

/// Terms as an optional fixed factor and the rest, in halo2's order from a position on.
struct Terms {
    position: usize,
    terms: Vec<(usize, Option<Id>, Id)>,
}

impl Terms {
    fn push(&mut self, factor: impl Into<Option<Id>>, rest: Id) {
        self.terms.push((self.position, factor.into(), rest));
        self.position += 1;
    }

    /// `sum + Σ_i y^(m−1−i)·factor_i·rest_i` for the terms i of the m of the whole.
    fn combine(self, b: &mut Builder<Key>, sum: Id, y: Id, m: usize) -> Id {
        let mut groups: Vec<(Option<Id>, Id)> = Vec::new();
        let zero = b.constant(Fr::ZERO);
        for (position, factor, rest) in self.terms {
            let weight = power(b, y, m - 1 - position);
            let term = b.mul(rest, weight);
            let at = groups.iter().position(|(f, _)| *f == factor).unwrap_or_else(|| {
                groups.push((factor, zero));
                groups.len() - 1
            });
            groups[at].1 = b.add(groups[at].1, term);
        }
        groups.into_iter().fold(sum, |sum, (factor, group)| {
            let scaled = factor.map_or(group, |f| b.mul(f, group));
            b.add(sum, scaled)
        })
    }
}

/// `base^exponent`, by squaring; uniform, so it costs nothing per row.
fn power(b: &mut Builder<Key>, base: Id, exponent: usize) -> Id {
    if exponent == 0 {
        return b.constant(Fr::ONE);
    }
    let half = power(b, base, exponent / 2);
    let square = b.mul(half, half);
    if exponent % 2 == 1 { b.mul(square, base) } else { square }
}

/// Terms that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Gate(usize),
    /// The terms that tie the running products of the permutation argument to their ends and to each other.
    PermutationEnds,
    /// The products of one set.
    PermutationSet(usize),
    Lookup(usize),
}

/// A group with the position of its first term.
pub(super) type Placed = (Group, usize);

/// All groups in halo2's order, and the number of terms.
fn groups(cs: &ConstraintSystem<Fr>) -> (Vec<Placed>, usize) {
    let sets = cs.permutation().get_columns().len().div_ceil(permutation_set(cs));
    let gates = cs.gates().iter().enumerate().map(|(i, gate)| (Group::Gate(i), gate.polynomials().len()));
    let ends = (sets > 0).then_some((Group::PermutationEnds, sets + 1));
    let products = (0..sets).map(|set| (Group::PermutationSet(set), 1));
    let lookups = (0..cs.lookups().len()).map(|index| (Group::Lookup(index), 5));
    let mut position = 0;
    let placed = gates.chain(ends).chain(products).chain(lookups).map(|(group, terms)| {
        position += terms;
        (group, position - terms)
    });
    let placed = placed.collect();
    (placed, position)
}

/// The programs whose calls, one after the other, give the numerator; each adds to [`Key::Sum`], and the first one
/// multiplies it by y^m before, which puts the circuits of a proof in their order. One program when `columns` is
/// `usize::MAX`; else several, of about that many columns each, so that fewer are needed at a time. Challenges: the circuit's own, y, β, γ, θ.
pub(super) fn quotient(cs: &ConstraintSystem<Fr>, columns: usize) -> Result<Vec<(Program<Fr>, Vec<Key>)>> {
    let (all, m) = groups(cs);
    let parts = match columns {
        usize::MAX => vec![all],
        columns => schedule::split(all, columns, |groups| Ok(program(cs, groups, m, false)?.1))?,
    };
    parts.iter().enumerate().map(|(i, groups)| program(cs, groups, m, i == 0)).collect()
}

fn program(
    cs: &ConstraintSystem<Fr>,
    groups: &[Placed],
    m: usize,
    first: bool,
) -> Result<(Program<Fr>, Vec<Key>)> {
    let own = cs.num_challenges();
    let mut b = Builder::new(own + 4);
    let [y, beta, gamma, theta] = [0, 1, 2, 3].map(|i| b.challenge(own + i));
    let mut terms = Terms { position: 0, terms: Vec::new() };
    for (group, position) in groups {
        terms.position = *position;
        match *group {
            Group::Gate(index) => {
                for polynomial in cs.gates()[index].polynomials() {
                    let (factor, rest) = split_factor(&mut b, polynomial)?;
                    terms.push(factor, rest);
                }
            }
            Group::PermutationEnds => permutation_ends(&mut b, cs, &mut terms),
            Group::PermutationSet(set) => permutation(&mut b, cs, set, beta, gamma, &mut terms),
            Group::Lookup(index) => lookup(&mut b, cs, index, [beta, gamma, theta], &mut terms)?,
        }
    }
    let mut sum = b.column(Key::Sum, 0);
    if first {
        let weight = power(&mut b, y, m);
        sum = b.mul(sum, weight);
    }
    let sum = terms.combine(&mut b, sum, y, m);
    Ok(b.finish(&[sum]))
}

/// Takes the first fixed column out of a product.
fn split_factor(b: &mut Builder<Key>, expression: &Expression<Fr>) -> Result<(Option<Id>, Id)> {
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

fn permutation_ends(b: &mut Builder<Key>, cs: &ConstraintSystem<Fr>, terms: &mut Terms) {
    let sets = cs.permutation().get_columns().len().div_ceil(permutation_set(cs));
    let [first, last] = [Key::First, Key::Last].map(|key| b.column(key, 0));
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
}

fn permutation(
    b: &mut Builder<Key>,
    cs: &ConstraintSystem<Fr>,
    set: usize,
    beta: Id,
    gamma: Id,
    terms: &mut Terms,
) {
    let (columns, size) = (cs.permutation().get_columns(), permutation_set(cs));
    let active = b.column(Key::Active, 0);
    let point = b.point();
    let mut delta = Fr::DELTA.pow_vartime([(set * size) as u64]);
    let mut left = b.column(Key::PermutationProduct(set), 1);
    let mut right = b.column(Key::PermutationProduct(set), 0);
    for (i, column) in columns.iter().enumerate().skip(set * size).take(size) {
        let value = b.column(Key::from(*column), 0);
        let shifted = b.add(value, gamma);
        let sigma = b.column(Key::Sigma(i), 0);
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
