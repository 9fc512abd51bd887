//! The numerator of h(X): all constraints of a circuit as one program or, to need fewer columns at a time, as a sequence.
//!
//! halo2 combines its terms t_0 … t_{m−1} as `Σ_i y^(m−1−i)·t_i`, in this order: gates; for the permutation argument
//! `l_0·(1 − z_0)`, `l_last·(z_l² − z_l)`, the chaining of the sets, the products; for each lookup its five terms. Here
//! terms that share a fixed factor (a selector, l_0, l_last, l_active) are summed before that factor is applied, once
//! for all of them.

use std::collections::BTreeSet;

use ff::{Field, PrimeField};
use halo2_axiom::plonk::{ConstraintSystem, Expression};
use halo2curves::bn256::Fr;
use parhelion_backend_api::Program;

use super::builder::{Builder, Id};
use super::{Key, classes, last_rotation, permutation_set, schedule};
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

/// A group with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) group: Group,
    /// Of its first term.
    pub(super) position: usize,
    /// On how many cosets it is evaluated.
    pub(super) cosets: usize,
}

/// A program of the numerator, before it is loaded.
pub(super) struct Part {
    pub(super) program: Program<Fr>,
    pub(super) columns: Vec<Key>,
    pub(super) cosets: usize,
}

/// All groups in halo2's order, each on as many cosets as it needs, and the number of terms.
fn groups(cs: &ConstraintSystem<Fr>) -> (Vec<Placed>, usize) {
    let sets = cs.permutation().get_columns().len().div_ceil(permutation_set(cs));
    let gates = cs.gates().iter().enumerate().map(|(i, gate)| (Group::Gate(i), gate.polynomials().len()));
    let ends = (sets > 0).then_some((Group::PermutationEnds, sets + 1));
    let products = (0..sets).map(|set| (Group::PermutationSet(set), 1));
    let lookups = (0..cs.lookups().len()).map(|index| (Group::Lookup(index), 5));
    let mut position = 0;
    let placed = gates.chain(ends).chain(products).chain(lookups).map(|(group, terms)| {
        position += terms;
        let cosets = classes::degree(cs, group).saturating_sub(1).max(1);
        Placed { group, position: position - terms, cosets }
    });
    let placed = placed.collect();
    (placed, position)
}

/// The programs whose calls, one after the other, give the numerator; each adds to [`Key::Sum`] of its class, and the first one of the
/// class multiplies it by y^m before, which puts the circuits of a proof in their order. One program per class when `columns` is
/// `usize::MAX`; else several, of about that many columns each, so that fewer are needed at a time. One class unless `by_degree`.
/// Challenges: the circuit's own, y, β, γ, θ.
pub(super) fn quotient(
    cs: &ConstraintSystem<Fr>,
    k: u32,
    columns: usize,
    by_degree: bool,
) -> Result<Vec<Part>> {
    let (mut all, m) = groups(cs);
    let cosets = cs.degree() - 1;
    let mut classes = vec![cosets];
    if by_degree && all.iter().any(|placed| placed.cosets < cosets) {
        let mut work = classes::Work::default();
        for placed in &all {
            let (program, columns) = program(cs, std::slice::from_ref(placed), m, false)?;
            work.add(placed.cosets, program.steps.len(), &columns);
        }
        classes = work.classes(k, cosets);
    }
    for placed in &mut all {
        placed.cosets = classes.iter().copied().find(|class| *class >= placed.cosets).unwrap_or(cosets);
    }
    let parts = match columns {
        usize::MAX => {
            let of = |class: &usize| all.iter().copied().filter(|placed| placed.cosets == *class).collect();
            classes.iter().map(of).filter(|part: &Vec<Placed>| !part.is_empty()).collect()
        }
        columns => schedule::split(all, columns, |groups| Ok(program(cs, groups, m, false)?.1))?,
    };
    let mut begun = BTreeSet::new();
    let part = |groups: &Vec<Placed>| {
        let cosets = groups.first().map_or(cosets, |placed| placed.cosets);
        let (program, columns) = program(cs, groups, m, begun.insert(cosets))?;
        Ok(Part { program, columns, cosets })
    };
    parts.iter().map(part).collect()
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
    for placed in groups {
        terms.position = placed.position;
        match placed.group {
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

#[cfg(test)]
mod tests {
    use halo2_axiom::poly::Rotation;

    use super::*;

    /// Gates `on·(b − a)` over 40 pairs of columns, one of degree 7, and a lookup of a pair.
    fn several_degrees() -> ConstraintSystem<Fr> {
        let mut cs = ConstraintSystem::default();
        let columns: Vec<_> = (0..42).map(|_| cs.advice_column()).collect();
        let on = cs.fixed_column();
        cs.set_minimum_degree(7);
        for (i, pair) in columns.windows(2).enumerate() {
            cs.create_gate("power", |meta| {
                let on = meta.query_fixed(on, Rotation::cur());
                let [a, b] = [pair[0], pair[1]].map(|column| meta.query_advice(column, Rotation::cur()));
                let power = (0..if i == 0 { 5 } else { 0 }).fold(a.clone(), |p, _| p * a.clone());
                vec![on * (b - power)]
            });
        }
        let table = cs.lookup_table_column();
        cs.lookup("pair", |meta| vec![(meta.query_advice(columns[0], Rotation::cur()), table)]);
        cs
    }

    #[test]
    fn terms_run_on_the_cosets_of_their_class() {
        let cs = several_degrees();
        let degrees = [Group::Gate(0), Group::Gate(1), Group::Lookup(0)].map(|g| classes::degree(&cs, g));
        assert_eq!((degrees, cs.degree()), ([7, 2, 4], 7));
        for columns in [usize::MAX, 8, 1] {
            let parts = quotient(&cs, 14, columns, true).unwrap();
            let low = parts.iter().filter(|part| part.cosets < 6).count();
            assert!(low > 0 && low < parts.len(), "{low} of {} programs", parts.len());
            // Every term is in a program that reads what the term reads, of a class that suffices for it.
            let gates = |column| parts.iter().filter(move |part| part.columns.contains(&Key::Advice(column)));
            assert!(gates(0).any(|part| part.cosets == 6) && gates(30).all(|part| part.cosets < 6));
            assert!(
                parts.iter().all(|part| part.cosets >= 3 || !part.columns.contains(&Key::LookupProduct(0)))
            );
            let one = quotient(&cs, 14, columns, false).unwrap();
            assert!(one.iter().all(|part| part.cosets == 6));
        }
    }
}
