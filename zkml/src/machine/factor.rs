//! Fixed columns from coefficient vectors.
//!
//! Every kind of row has a vector of coefficients, one per slot (a monomial of an equation, a lane's tag, a multiplier …). The machine does not
//! spend a fixed column on every slot: a column exists for each slot of a basis, and the other slots are combinations of few of them. A
//! model of two instructions has two selectors, however many coefficients they have.

use std::collections::BTreeMap;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;

/// How many basis columns a slot may combine before it becomes one itself: every term costs a product per row of the quotient, a column several
/// transforms and an evaluation in the proof.
const TERMS: usize = 16;

/// Slots as combinations of columns.
#[derive(Clone, Debug)]
pub(crate) struct Factored<K> {
    /// Each slot with its combination of columns.
    pub(crate) slots: BTreeMap<K, Vec<(usize, Fr)>>,
    /// Number of columns.
    pub(crate) columns: usize,
    /// Values of the columns, by kind of row.
    pub(crate) values: Vec<Vec<Fr>>,
}

/// Factors the vectors of all kinds of rows.
pub(crate) fn factor<K: Ord + Clone>(kinds: &[BTreeMap<K, Fr>]) -> Factored<K> {
    let mut keys: BTreeMap<K, usize> = BTreeMap::new();
    for kind in kinds {
        for (key, value) in kind {
            if !bool::from(value.is_zero()) {
                keys.insert(key.clone(), 0);
            }
        }
    }
    for (at, index) in keys.values_mut().enumerate() {
        *index = at;
    }
    let width = keys.len();
    let dense: Vec<Vec<Fr>> = kinds
        .iter()
        .map(|kind| {
            let mut row = vec![Fr::ZERO; width];
            for (key, value) in kind {
                if let Some(&at) = keys.get(key) {
                    row[at] = *value;
                }
            }
            row
        })
        .collect();
    let (echelon, pivots) = reduce(dense.clone(), width);
    // The pivot slots are the first columns; a slot that would combine too many gets its own.
    let mut columns: Vec<usize> = pivots.clone();
    let mut combos: Vec<Vec<(usize, Fr)>> = vec![Vec::new(); width];
    for slot in 0..width {
        let combo: Vec<(usize, Fr)> = (0..pivots.len())
            .filter(|&r| !bool::from(echelon[r][slot].is_zero()))
            .map(|r| (r, echelon[r][slot]))
            .collect();
        if combo.len() <= TERMS {
            combos[slot] = combo;
            continue;
        }
        let same = columns
            .iter()
            .enumerate()
            .skip(pivots.len())
            .find_map(|(c, &other)| ratio(&dense, slot, other).map(|ratio| (c, ratio)));
        combos[slot] = match same {
            Some(found) => vec![found],
            None => {
                columns.push(slot);
                vec![(columns.len() - 1, Fr::ONE)]
            }
        };
    }
    // Pivots that nothing combines any more stay: they are slots themselves.
    let values = dense.iter().map(|row| columns.iter().map(|&c| row[c]).collect()).collect();
    let slots = keys.into_iter().map(|(key, at)| (key, std::mem::take(&mut combos[at]))).collect();
    Factored { slots, columns: columns.len(), values }
}

/// The factor between two slots, where they are proportional.
fn ratio(rows: &[Vec<Fr>], slot: usize, other: usize) -> Option<Fr> {
    let mut found: Option<Fr> = None;
    for row in rows {
        match (Option::<Fr>::from(row[other].invert()), found) {
            (None, _) if bool::from(row[slot].is_zero()) => {}
            (None, _) => return None,
            (Some(inverse), None) => found = Some(row[slot] * inverse),
            (Some(inverse), Some(ratio)) if row[slot] * inverse == ratio => {}
            _ => return None,
        }
    }
    found
}

/// Reduced row echelon form: its non-zero rows and their pivots.
fn reduce(mut rows: Vec<Vec<Fr>>, width: usize) -> (Vec<Vec<Fr>>, Vec<usize>) {
    let mut pivots = Vec::new();
    let mut top = 0;
    for column in 0..width {
        let Some(found) = (top..rows.len()).find(|&r| !bool::from(rows[r][column].is_zero())) else {
            continue;
        };
        rows.swap(top, found);
        let inverse = Option::<Fr>::from(rows[top][column].invert()).unwrap_or(Fr::ONE);
        rows[top].iter_mut().for_each(|x| *x *= inverse);
        let pivot = rows[top].clone();
        for (r, row) in rows.iter_mut().enumerate() {
            let factor = row[column];
            if r != top && !bool::from(factor.is_zero()) {
                row.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
            }
        }
        pivots.push(column);
        top += 1;
    }
    rows.truncate(top);
    (rows, pivots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_recovered() {
        let f = |x: u64| Fr::from(x);
        let kinds: Vec<BTreeMap<u8, Fr>> = vec![
            [(0, f(1)), (1, f(5)), (2, f(7))].into(),
            [(0, f(1)), (1, f(5)), (3, f(2)), (4, f(9))].into(),
            [(2, f(1)), (4, f(1)), (5, f(3))].into(),
            [(0, f(4)), (5, f(8)), (6, f(11)), (7, f(2)), (4, f(6))].into(),
        ];
        let field = factor(&kinds);
        assert!(field.columns <= 7);
        for (kind, values) in kinds.iter().zip(&field.values) {
            for (slot, combo) in &field.slots {
                let got: Fr = combo.iter().map(|&(c, x)| values[c] * x).sum();
                assert_eq!(got, kind.get(slot).copied().unwrap_or(Fr::ZERO), "slot {slot}");
            }
        }
    }

    #[test]
    fn one_instruction_is_one_column() {
        let kinds: Vec<BTreeMap<u8, Fr>> = vec![(0..20).map(|i| (i, Fr::from(u64::from(i) + 1))).collect()];
        assert_eq!(factor(&kinds).columns, 1);
    }
}
