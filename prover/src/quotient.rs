//! h(X): the combined constraints divided by X^n − 1.
//!
//! h has degree below D·n, with D = degree of the constraint system − 1, so D cosets of size n determine it: one coset
//! after the other, columns are transformed, the programs are run, and the result is transformed back. Memory is that
//! of one coset, and of one coset only the columns that the program at hand and later ones read. (Upstream evaluates on
//! the next power of two of cosets, and keeps all columns of one.) Terms of lower degree are determined by fewer cosets, and are
//! evaluated on no more where that gains: h is the sum of the quotients of the classes, see `program::classes`.
//!
//! On the coset g_p·⟨ω⟩, X^n is the constant c_p = g_p^n. With h = Σ_j X^(jn)·h_j, deg h_j < n, the inverse transform
//! on that coset therefore gives r_p = Σ_j c_p^j·h_j, times c_p − 1 as long as nothing was divided. The h_j are the solution of that
//! system, D × D for the class of the highest degree and smaller for the others, and their sums over the classes the pieces that are
//! committed: the same linear combinations for every coefficient.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Domain, NttPlan};

use crate::memory::CosetCache;
use crate::program::{Key, Part, Programs};
use crate::resident::Column;
use crate::session::Session;
use crate::{Error, Result};

/// The pieces h_0 … h_{D−1}, n coefficients each. `poly` gives the coefficients of a circuit's column; `challenges` are
/// those of [`Programs::quotient`].
pub(crate) fn quotient<'c>(
    session: &Session<'_>,
    programs: &Programs,
    circuits: usize,
    poly: impl Fn(usize, Key) -> Ref<'c, Fr>,
    challenges: &[Fr],
) -> Result<Vec<Column>> {
    let (domain, k, n) = (session.domain(), session.k(), session.n());
    let cosets = domain.get_quotient_poly_degree();
    let numerator = programs.numerator(session.plan.budget(), circuits);
    let classes: BTreeSet<usize> = numerator.parts.iter().map(|part| part.cosets).chain([cosets]).collect();
    let mut columns = Cosets::default();
    let mut remainders = Vec::new();
    // Class and coset of each remainder.
    let mut places = Vec::new();
    let mut shifts = Vec::new();
    let mut shift = domain.g_coset;
    for coset in 0..cosets {
        let rows = Domain { log_n: k, omega: domain.get_omega(), shift };
        let mut sums: HashMap<usize, Column> = HashMap::new();
        let schedule = Schedule::new(&numerator.parts, circuits, coset);
        for (circuit, at, needed, spent) in &schedule.calls {
            let Part { program, cosets: class } = &numerator.parts[*at];
            let cache =
                (session.plan.caches() && session.resident.is_none()).then_some((&programs.cosets, coset));
            columns.transform(session, shift, needed, |key| poly(*circuit, key), cache)?;
            let mut values = columns.take(session)?;
            let sum = sums.remove(class).map_or_else(|| session.zeros(), Ok)?;
            let operands: Vec<_> = program
                .columns
                .iter()
                .map(|key| match key {
                    Key::Sum => sum.as_ref(),
                    key => columns.get(*key),
                })
                .collect();
            let out = &mut [values.as_mut()];
            session.engine().evaluate(&program.program, &rows, &operands, challenges, out)?;
            columns.give(sum);
            sums.insert(*class, values);
            spent.iter().for_each(|key| columns.drop(*key));
        }
        let plan = NttPlan::inverse(k).on_coset(shift);
        let live = classes.range(coset + 1..);
        let mut made = Vec::new();
        for class in live {
            made.push(sums.remove(class).map_or_else(|| session.zeros(), Ok)?);
            places.push((*class, coset));
        }
        let mut refs: Vec<_> = made.iter_mut().map(Column::as_mut).collect();
        session.engine().ntt_batch(&plan, &mut refs)?;
        drop(refs);
        let stays = session.resident.as_ref().is_some_and(|resident| resident.columns);
        for sum in made {
            remainders.push(if stays { sum } else { Column::Host(session.to_host(sum)?) });
        }
        shifts.push(shift);
        shift *= domain.get_extended_omega();
    }
    drop(columns);
    let weights = weights(&shifts, n, &places)
        .ok_or_else(|| Error::Unsupported("cosets that do not determine the quotient".into()))?;
    solve(session, &weights, remainders)
}

/// Rows that are solved for at a time.
const BLOCK: usize = 1 << 14;

/// The pieces from the remainders, of which there are no fewer.
fn solve(session: &Session<'_>, weights: &[Vec<Fr>], remainders: Vec<Column>) -> Result<Vec<Column>> {
    if remainders.iter().all(|column| matches!(column, Column::Host(_))) {
        let mut columns =
            remainders.into_iter().map(|column| session.to_host(column)).collect::<Result<Vec<Vec<Fr>>>>()?;
        solve_in_place(session, weights, &mut columns)?;
        columns.truncate(weights.len());
        return Ok(columns.into_iter().map(Column::Host).collect());
    }
    let pieces = weights.iter().map(|row| {
        let terms: Vec<_> = terms(row, &remainders).map(|(w, r)| (w, r.as_ref())).collect();
        let mut piece = session.column()?;
        session.engine().linear_combination(&terms, piece.as_mut())?;
        Ok(piece)
    });
    pieces.collect()
}

/// The remainders that a row of the weights reads.
fn terms<'r, T>(row: &'r [Fr], remainders: &'r [T]) -> impl Iterator<Item = (Fr, &'r T)> {
    row.iter().copied().zip(remainders).filter(|(weight, _)| *weight != Fr::ZERO)
}

/// Replaces the first remainders by the pieces, block by block, so that there is no second set of columns.
fn solve_in_place(session: &Session<'_>, weights: &[Vec<Fr>], columns: &mut [Vec<Fr>]) -> Result<()> {
    // On the host, whatever the device: the columns are there.
    let engine = session.engine;
    let block = BLOCK.min(session.n());
    let mut solved = vec![vec![Fr::ZERO; block]; weights.len()];
    for start in (0..session.n()).step_by(block) {
        for (row, out) in weights.iter().zip(&mut solved) {
            let terms: Vec<_> =
                terms(row, columns).map(|(w, r)| (w, Ref::host(&r[start..start + block]))).collect();
            engine.linear_combination(&terms, RefMut::host(out))?;
        }
        for (column, solved) in columns.iter_mut().zip(&solved) {
            column[start..start + block].copy_from_slice(solved);
        }
    }
    Ok(())
}

/// Which program runs when on a coset: circuit, index of the program, the columns that must be transformed for it,
/// and those that no later call reads.
struct Schedule {
    calls: Vec<(usize, usize, Vec<Key>, Vec<Key>)>,
}

impl Schedule {
    fn new(parts: &[Part], circuits: usize, coset: usize) -> Self {
        let run = |at: &usize| parts[*at].cosets > coset;
        let mut calls: Vec<(usize, usize, Vec<Key>, Vec<Key>)> = (0..circuits)
            .flat_map(|circuit| {
                (0..parts.len()).filter(run).map(move |at| (circuit, at, Vec::new(), Vec::new()))
            })
            .collect();
        // A column is named by itself and, unless all circuits share it, by its circuit.
        let name = |circuit: usize, key: Key| (if is_shared(key) { 0 } else { circuit }, key);
        let mut last = HashMap::new();
        for (call, (circuit, at, needed, _)) in calls.iter_mut().enumerate() {
            for key in parts[*at].program.columns.iter().filter(|key| **key != Key::Sum) {
                if last.insert(name(*circuit, *key), call).is_none() {
                    needed.push(*key);
                }
            }
        }
        for ((_, key), call) in last {
            calls[call].3.push(key);
        }
        Schedule { calls }
    }
}

/// Columns on the present coset, and buffers to reuse.
#[derive(Default)]
struct Cosets {
    live: HashMap<Key, Live>,
    spare: Vec<Column>,
}

/// A column on the present coset.
enum Live {
    Own(Column),
    /// Of the key, kept from proof to proof.
    Cached(Arc<Vec<Fr>>),
}

impl Cosets {
    /// A buffer of any content.
    fn take(&mut self, session: &Session<'_>) -> Result<Column> {
        self.spare.pop().map_or_else(|| session.column(), Ok)
    }

    fn give(&mut self, buffer: Column) {
        self.spare.push(buffer);
    }

    fn get(&self, key: Key) -> Ref<'_, Fr> {
        match self.live.get(&key) {
            Some(Live::Own(column)) => column.as_ref(),
            Some(Live::Cached(values)) => Ref::host(values),
            None => Ref::host(&[]),
        }
    }

    fn drop(&mut self, key: Key) {
        if let Some(Live::Own(values)) = self.live.remove(&key) {
            self.spare.push(values);
        }
    }

    /// Makes `keys` live; `cache` is where the key's own columns are kept, with the number of the coset.
    fn transform<'c>(
        &mut self,
        session: &Session<'_>,
        shift: Fr,
        keys: &[Key],
        poly: impl Fn(Key) -> Ref<'c, Fr>,
        cache: Option<(&CosetCache, usize)>,
    ) -> Result<()> {
        let mut missing = Vec::with_capacity(keys.len());
        for key in keys {
            match cache.filter(|_| is_shared(*key)).and_then(|(cache, coset)| cache.get(*key, coset)) {
                Some(values) => drop(self.live.insert(*key, Live::Cached(values))),
                None => missing.push(*key),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut buffers = missing.iter().map(|_| self.take(session)).collect::<Result<Vec<Column>>>()?;
        let from: Vec<_> = missing.iter().map(|key| poly(*key)).collect();
        let mut to: Vec<_> = buffers.iter_mut().map(Column::as_mut).collect();
        session.engine().ntt_batch_into(&NttPlan::forward(session.k()).on_coset(shift), &from, &mut to)?;
        drop(to);
        for (key, column) in missing.into_iter().zip(buffers) {
            let live = match (cache.filter(|_| is_shared(key)), column) {
                (Some((cache, coset)), Column::Host(values)) => Live::Cached(cache.put(key, coset, values)),
                (_, column) => Live::Own(column),
            };
            self.live.insert(key, live);
        }
        Ok(())
    }
}

/// Whether a column is the same for every circuit of a proof.
fn is_shared(key: Key) -> bool {
    matches!(key, Key::Fixed(_) | Key::Sigma(_) | Key::First | Key::Last | Key::Active)
}

/// The pieces' weights for remainders of several classes, each given by its number of cosets and its own coset.
fn weights(shifts: &[Fr], n: usize, places: &[(usize, usize)]) -> Option<Vec<Vec<Fr>>> {
    let mut of_class: HashMap<usize, Vec<Vec<Fr>>> = HashMap::new();
    for (class, _) in places {
        if !of_class.contains_key(class) {
            of_class.insert(*class, pieces_from_remainders(shifts.get(..*class)?, n)?);
        }
    }
    let weight = |piece: usize, (class, coset): &(usize, usize)| {
        of_class[class].get(piece).map_or(Fr::ZERO, |row| row[*coset])
    };
    Some((0..shifts.len()).map(|piece| places.iter().map(|place| weight(piece, place)).collect()).collect())
}

/// The matrix W with `h_j = Σ_p W[j][p]·r_p`: the inverse of the Vandermonde matrix of the c_p, its columns divided by
/// c_p − 1. `None` when a c_p is 1 or occurs twice.
fn pieces_from_remainders(shifts: &[Fr], n: usize) -> Option<Vec<Vec<Fr>>> {
    let points: Vec<Fr> = shifts.iter().map(|s| s.pow_vartime([n as u64])).collect();
    let mut weights = vec![Vec::with_capacity(points.len()); points.len()];
    for (p, point) in points.iter().enumerate() {
        // Column p holds the coefficients of the Lagrange polynomial of c_p: Π_{q≠p} (X − c_q)/(c_p − c_q).
        let mut basis = vec![Fr::ONE];
        let mut scale = point - Fr::ONE;
        for (_, other) in points.iter().enumerate().filter(|(q, _)| *q != p) {
            basis.insert(0, Fr::ZERO);
            for i in 1..basis.len() {
                let carried = basis[i] * other;
                basis[i - 1] -= carried;
            }
            scale *= point - other;
        }
        let scale: Fr = Option::from(scale.invert())?;
        for (row, coefficient) in weights.iter_mut().zip(basis) {
            row.push(coefficient * scale);
        }
    }
    Some(weights)
}

#[cfg(test)]
mod tests {
    use halo2_axiom::arithmetic::eval_polynomial;

    use super::*;

    #[test]
    fn pieces_are_recovered_from_remainders() {
        let n = 8;
        let shifts: Vec<Fr> = (3..7).map(Fr::from).collect();
        let pieces: Vec<Vec<Fr>> =
            (0..4u64).map(|j| (0..n as u64).map(|i| Fr::from(i * i + 17 * j + 1)).collect()).collect();
        let remainders: Vec<Vec<Fr>> = shifts
            .iter()
            .map(|s| {
                let c = s.pow_vartime([n as u64]);
                (0..n)
                    .map(|i| {
                        let column: Vec<Fr> = pieces.iter().map(|p| p[i]).collect();
                        eval_polynomial(&column, c) * (c - Fr::ONE)
                    })
                    .collect()
            })
            .collect();
        let weights = pieces_from_remainders(&shifts, n).unwrap();
        for (row, piece) in weights.iter().zip(&pieces) {
            let got: Vec<Fr> =
                (0..n).map(|i| row.iter().zip(&remainders).map(|(w, r)| w * r[i]).sum()).collect();
            assert_eq!(&got, piece);
        }
        // A class of two cosets beside: h = h_0 + X^n·h_1, in the first two pieces.
        let small: Vec<Vec<Fr>> =
            (0..2u64).map(|j| (0..n as u64).map(|i| Fr::from(7 * i + j * i * i + 3)).collect()).collect();
        let places = [(4, 0), (2, 0), (4, 1), (2, 1), (4, 2), (4, 3)];
        let at = |(class, coset): &(usize, usize)| -> Vec<Fr> {
            if *class == 4 {
                return remainders[*coset].clone();
            }
            let c = shifts[*coset].pow_vartime([n as u64]);
            (0..n).map(|i| (small[0][i] + c * small[1][i]) * (c - Fr::ONE)).collect()
        };
        let all: Vec<Vec<Fr>> = places.iter().map(at).collect();
        let rows = super::weights(&shifts, n, &places).unwrap();
        assert_eq!(rows.len(), 4);
        for (j, row) in rows.iter().enumerate() {
            for i in 0..n {
                let got: Fr = terms(row, &all).map(|(w, r)| w * r[i]).sum();
                let own = small.get(j).map_or(Fr::ZERO, |piece| piece[i]);
                assert_eq!(got, pieces[j][i] + own);
            }
        }
        assert!(pieces_from_remainders(&[Fr::from(3), Fr::from(3)], n).is_none());
        assert!(pieces_from_remainders(&[Fr::ONE], n).is_none());
    }
}
