//! How many cosets each term of the numerator is evaluated on.
//!
//! A term of degree d in the columns has degree at most d·(n − 1). Divided by X^n − 1, which it is a multiple of, it is below
//! (d − 1)·n, so that d − 1 cosets of size n determine its part of h. Only the terms of the highest degree need all D cosets; the
//! columns that no such term reads are not transformed to the later ones. The price is a sum of their own for the terms of each class,
//! with an inverse transform per coset, and the memory of what comes of it: few classes, which gain more than they cost, are the best.

use std::collections::{BTreeMap, HashMap};

use halo2_axiom::plonk::{ConstraintSystem, Expression};
use halo2curves::bn256::Fr;

use super::constraints::Group;
use super::{Key, permutation_set};

/// What a call costs beside its rows, in steps times rows.
const CALL: usize = 1 << 13;

/// A class must save this part of the whole, for the memory that it takes.
const LEAST_GAIN: usize = 16;

/// Degree of a group's terms in the columns.
pub(super) fn degree(cs: &ConstraintSystem<Fr>, group: Group) -> usize {
    let most = |expressions: &[Expression<Fr>]| expressions.iter().map(Expression::degree).max().unwrap_or(0);
    match group {
        Group::Gate(index) => most(cs.gates()[index].polynomials()),
        Group::PermutationEnds => 3,
        Group::PermutationSet(set) => {
            let (columns, size) = (cs.permutation().get_columns().len(), permutation_set(cs));
            2 + columns.saturating_sub(set * size).min(size)
        }
        // l_active·z(ωX)·(a' + β)·(s' + γ), and the same with the expressions in the place of a' and s'.
        Group::Lookup(index) => {
            let lookup = &cs.lookups()[index];
            (2 + most(lookup.input_expressions()) + most(lookup.table_expressions())).max(4)
        }
    }
}

/// Steps and columns of the terms, by the number of cosets that they need.
#[derive(Debug, Default)]
pub(super) struct Work {
    steps: BTreeMap<usize, usize>,
    columns: HashMap<Key, usize>,
}

impl Work {
    /// Adds terms that need `cosets`.
    pub(super) fn add(&mut self, cosets: usize, steps: usize, columns: &[Key]) {
        *self.steps.entry(cosets).or_default() += steps;
        for key in columns.iter().filter(|key| **key != Key::Sum) {
            let most = self.columns.entry(*key).or_default();
            *most = (*most).max(cosets);
        }
    }

    /// The numbers of cosets on which terms are evaluated, ascending up to `all`: each term on the least of them that
    /// suffices. A transform of 2^k elements counts as k steps.
    pub(super) fn classes(&self, k: u32, all: usize) -> Vec<usize> {
        let mut weights = self.steps.clone();
        for cosets in self.columns.values() {
            *weights.entry(*cosets).or_default() += k as usize;
        }
        weights.entry(all).or_default();
        let whole = all * weights.values().sum::<usize>();
        let each = k as usize + all + (CALL >> k);
        // For the terms up to a need: the least cost, if the class of that need is there, and the class before it.
        let mut best: Vec<(usize, usize, Option<usize>)> = Vec::new();
        let needs: Vec<(usize, usize)> = weights.into_iter().take_while(|(need, _)| *need <= all).collect();
        for (at, (need, _)) in needs.iter().enumerate() {
            let own = if *need == all { 0 } else { need * each + whole / LEAST_GAIN };
            let from = |before: Option<usize>| {
                let terms: usize =
                    needs[before.map_or(0, |b| b + 1)..=at].iter().map(|(_, weight)| weight).sum();
                (before.map_or(0, |b| best[b].1) + need * terms + own, before)
            };
            let (cost, before) = (0..at)
                .map(Some)
                .map(from)
                .fold(from(None), |least, next| if next.0 < least.0 { next } else { least });
            best.push((*need, cost, before));
        }
        let mut classes = Vec::new();
        let mut at = best.len().checked_sub(1);
        while let Some(i) = at {
            classes.push(best[i].0);
            at = best[i].2;
        }
        classes.reverse();
        classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(terms: &[(usize, usize, usize)]) -> Work {
        let mut work = Work::default();
        let mut column = 0;
        for (cosets, steps, columns) in terms {
            let keys: Vec<Key> = (column..column + columns).map(Key::Advice).collect();
            column += columns;
            work.add(*cosets, *steps, &keys);
        }
        work
    }

    #[test]
    fn terms_of_one_degree_are_one_class() {
        assert_eq!(work(&[(4, 1000, 50)]).classes(16, 4), [4]);
        assert_eq!(work(&[]).classes(16, 4), [4]);
        // A minimum degree above that of all terms: the pieces beyond are zero.
        assert_eq!(work(&[(2, 10, 3)]).classes(16, 4).last(), Some(&4));
    }

    #[test]
    fn a_class_must_gain() {
        let some = work(&[(2, 700, 20), (4, 1000, 200)]);
        assert_eq!(some.classes(16, 4), [2, 4]);
        let little = work(&[(2, 40, 1), (4, 1000, 200)]);
        assert_eq!(little.classes(16, 4), [4]);
        let short = work(&[(2, 70, 4), (4, 60, 4)]);
        assert_eq!(
            (short.classes(16, 4), short.classes(4, 4)),
            (vec![2, 4], vec![4]),
            "calls cost at few rows"
        );
    }

    #[test]
    fn no_choice_of_classes_is_cheaper() {
        let terms: Vec<_> = (1..=8).map(|need| (need, 37 * (need * need * 5 % 11), need * 3 % 4)).collect();
        let work = work(&terms);
        let (k, all) = (14, 8);
        let cost = |classes: &[usize]| {
            let on = |need: usize| *classes.iter().find(|c| **c >= need).unwrap();
            let whole = all * terms.iter().map(|(_, steps, columns)| steps + columns * k).sum::<usize>();
            let terms: usize =
                terms.iter().map(|(need, steps, columns)| on(*need) * (steps + columns * k)).sum();
            let own = classes.iter().filter(|c| **c < all);
            terms + own.map(|c| c * (k + all) + whole / LEAST_GAIN).sum::<usize>()
        };
        let chosen = work.classes(k as u32, all);
        for set in 0..1u32 << (all - 1) {
            let classes: Vec<usize> = (1..=all).filter(|c| *c == all || set >> (c - 1) & 1 == 1).collect();
            assert!(cost(&chosen) <= cost(&classes), "{chosen:?} is worse than {classes:?}");
        }
        assert!(chosen.len() > 1);
    }

    #[test]
    fn a_shared_column_counts_where_it_is_needed_longest() {
        let mut work = Work::default();
        work.add(2, 10, &[Key::Advice(0), Key::Sum]);
        work.add(3, 10, &[Key::Advice(0)]);
        work.add(1, 10, &[Key::Advice(0)]);
        assert_eq!(work.columns, HashMap::from([(Key::Advice(0), 3)]));
    }
}
