//! The lookup argument: inputs and tables compressed by θ, then permuted so that equal inputs are adjacent and each run
//! of equal inputs begins beside its table entry (the halo2 book, "Lookup argument").
//!
//! The distinct inputs may come in any order ([`Choices::order`](crate::Choices::order)). Once it is fixed, so is
//! everything else: the entries of the table that no run begins with fill the rest, in ascending order.

use halo2curves::bn256::Fr;
use halo2curves::ff::PrimeField;
use parhelion_backend_api::hal::Ref;
use rayon::prelude::*;

use crate::products::pair;
use crate::program::{Key, Programs};
use crate::resident::Values;
use crate::session::Session;
use crate::{Error, Result};

/// One lookup of one circuit, by value on the domain.
#[derive(Debug, Default)]
pub(crate) struct Permuted {
    pub(crate) input: Values,
    pub(crate) table: Values,
}

/// Compresses, permutes and blinds every lookup of a circuit. `first` is the number of lookups before it in the proof.
pub(crate) fn permute_all<'c>(
    session: &mut Session<'_>,
    programs: &Programs,
    column: impl Fn(&Session<'_>, Key) -> Ref<'c, Fr>,
    challenges: &[Fr],
    circuit: usize,
) -> Result<Vec<Permuted>> {
    let (usable, n) = (session.usable_rows(), session.n());
    let count = session.cs().lookups().len();
    let mut all = Vec::with_capacity(count);
    for (lookup, compress) in programs.compress.iter().enumerate() {
        let [input, table] = session.attempt(&mut (), |session, ()| {
            let [input, table] = pair(session.evaluate(compress, |key| column(session, key), challenges)?)?;
            Ok([session.to_host(input)?, session.to_host(table)?])
        })?;
        let runs = Runs::new(&input[..usable], &table[..usable]).map_err(|missing| {
            let name = session.cs().lookups().get(lookup).map_or("", |l| l.name()).to_owned();
            Error::NotInTable { name, circuit, lookup, missing }
        })?;
        drop((input, table));
        let mut order = runs.distinct.clone();
        session.choices.order(circuit * count + lookup, &mut order);
        let (mut input, mut table) = runs.lay_out(&order, n)?;
        for column in [&mut input, &mut table] {
            for _ in usable..n {
                let blinding = session.draw();
                column.push(blinding);
            }
        }
        // One blinding factor per column, as the protocol draws them; KZG commitments have no use for it.
        session.draw();
        session.draw();
        all.push(Permuted { input: session.settle(input)?, table: session.settle(table)? });
    }
    Ok(all)
}

/// A canonical value, most significant limb first, so that the derived order is the numerical one.
type Canonical = [u64; 4];

fn canonical(value: &Fr) -> Canonical {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().rev().zip(value.to_repr().as_ref().chunks_exact(8)) {
        *limb = bytes.iter().rev().fold(0, |l, b| l << 8 | u64::from(*b));
    }
    limbs
}

fn scalar(value: &Canonical) -> Fr {
    let [d, c, b, a] = *value;
    Fr::from_raw([a, b, c, d])
}

fn sorted(values: &[Fr]) -> Vec<Canonical> {
    let mut keys: Vec<Canonical> = values.par_iter().map(canonical).collect();
    keys.par_sort_unstable();
    keys
}

/// The inputs of a lookup, grouped.
struct Runs {
    /// Distinct inputs, ascending.
    distinct: Vec<Fr>,
    /// How often each occurs.
    counts: Vec<usize>,
    /// What is left of the table when each distinct input has taken one entry, ascending.
    left: Vec<Fr>,
    rows: usize,
}

impl Runs {
    /// Fails with the number of distinct inputs that are not in the table.
    fn new(inputs: &[Fr], table: &[Fr]) -> Result<Self, usize> {
        let (inputs, table) = rayon::join(|| sorted(inputs), || sorted(table));
        let mut distinct: Vec<Canonical> = Vec::new();
        let mut counts: Vec<usize> = Vec::new();
        for run in inputs.chunk_by(|a, b| a == b) {
            distinct.extend(run.first());
            counts.push(run.len());
        }
        let mut left = Vec::with_capacity(table.len().saturating_sub(distinct.len()));
        let mut wanted = distinct.iter().peekable();
        let mut missing = 0;
        for entry in &table {
            while wanted.next_if(|w| *w < entry).is_some() {
                missing += 1;
            }
            if wanted.next_if(|w| *w == entry).is_none() {
                left.push(*entry);
            }
        }
        missing += wanted.count();
        if missing > 0 {
            return Err(missing);
        }
        let scalars = |keys: Vec<Canonical>| keys.par_iter().map(scalar).collect();
        Ok(Runs { distinct: scalars(distinct), counts, left: scalars(left), rows: inputs.len() })
    }

    /// The permuted columns for an order of the distinct inputs, with room for n values.
    fn lay_out(&self, order: &[Fr], n: usize) -> Result<(Vec<Fr>, Vec<Fr>)> {
        let mut input = Vec::with_capacity(n);
        let mut table = Vec::with_capacity(n);
        let mut left = self.left.iter();
        let mut seen = vec![false; self.distinct.len()];
        for (i, value) in order.iter().enumerate() {
            // In ascending order, the default, nothing has to be searched.
            let at = match self.distinct.get(i) {
                Some(same) if same == value => Some(i),
                _ => self.distinct.binary_search_by_key(&canonical(value), canonical).ok(),
            };
            let fresh = at.filter(|at| !std::mem::replace(&mut seen[*at], true));
            let at = fresh.ok_or_else(|| Error::Unsupported("an order of other lookup inputs".into()))?;
            let count = self.counts[at];
            input.extend(std::iter::repeat_n(*value, count));
            table.push(*value);
            table.extend(left.by_ref().take(count - 1));
        }
        if input.len() == self.rows && table.len() == self.rows {
            Ok((input, table))
        } else {
            Err(Error::Unsupported("an order without all lookup inputs".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fr(values: &[u64]) -> Vec<Fr> {
        values.iter().map(|v| Fr::from(*v)).collect()
    }

    /// What the argument's constraints demand of the permuted columns.
    fn check(inputs: &[Fr], table: &[Fr], a: &[Fr], s: &[Fr]) {
        let same = |x: &[Fr], y: &[Fr]| sorted(x) == sorted(y);
        assert!(same(inputs, a) && same(table, s));
        assert_eq!(a[0], s[0]);
        assert!((1..a.len()).all(|i| a[i] == s[i] || a[i] == a[i - 1]));
    }

    #[test]
    fn known_answer() {
        let runs = Runs::new(&fr(&[5, 1, 5, 5]), &fr(&[1, 2, 5, 2])).unwrap();
        assert_eq!(runs.distinct, fr(&[1, 5]));
        let (a, s) = runs.lay_out(&runs.distinct, 4).unwrap();
        assert_eq!((a, s), (fr(&[1, 5, 5, 5]), fr(&[1, 5, 2, 2])));
        let (a, s) = runs.lay_out(&fr(&[5, 1]), 4).unwrap();
        assert_eq!((a, s), (fr(&[5, 5, 5, 1]), fr(&[5, 2, 2, 1])));
    }

    #[test]
    fn what_is_not_in_the_table_is_counted() {
        assert_eq!(Runs::new(&fr(&[0, 3, 9, 9]), &fr(&[1, 2, 3, 4])).err(), Some(2));
    }

    #[test]
    fn a_wrong_order_is_refused() {
        let runs = Runs::new(&fr(&[5, 1, 5, 5]), &fr(&[1, 2, 5, 2])).unwrap();
        for order in [&[5, 5][..], &[5], &[5, 2], &[1, 5, 1]] {
            assert!(runs.lay_out(&fr(order), 4).is_err(), "{order:?}");
        }
    }

    proptest! {
        #[test]
        fn permuted_columns_satisfy_the_argument(
            table in prop::collection::vec(any::<u64>().prop_map(|v| -Fr::from(v % 40)), 1..80),
            picks in prop::collection::vec(any::<usize>(), 80),
            reverse in any::<bool>(),
        ) {
            let inputs: Vec<Fr> = picks[..table.len()].iter().map(|p| table[p % table.len()]).collect();
            let runs = Runs::new(&inputs, &table).unwrap();
            let mut order = runs.distinct.clone();
            if reverse {
                order.reverse();
            }
            let (a, s) = runs.lay_out(&order, table.len()).unwrap();
            check(&inputs, &table, &a, &s);
        }
    }
}
