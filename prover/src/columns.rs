//! Columns under assignment: cells hold fractions, because circuits defer inversions, and one batch inversion resolves
//! a column.
//!
//! Nearly all cells of real circuits have no denominator, so a column of denominators exists only once it is needed.

use ff::Field;
use halo2_axiom::plonk::Assigned;
use halo2curves::bn256::Fr;
use rayon::prelude::*;

use crate::field;

/// A column of 2^k cells, zero at first.
#[derive(Debug)]
pub(crate) struct FractionColumn {
    numerators: Vec<Fr>,
    /// Empty, or one denominator per cell.
    denominators: Vec<Fr>,
}

impl FractionColumn {
    pub(crate) fn new(n: usize) -> Self {
        FractionColumn { numerators: vec![Fr::ZERO; n], denominators: Vec::new() }
    }

    /// Sets a cell; `false` when there is no such row.
    pub(crate) fn set(&mut self, row: usize, value: &Assigned<Fr>) -> bool {
        let Some(cell) = self.numerators.get_mut(row) else { return false };
        match *value {
            Assigned::Zero => *cell = Fr::ZERO,
            Assigned::Trivial(x) => *cell = x,
            Assigned::Rational(x, y) => {
                *cell = x;
                if self.denominators.is_empty() {
                    self.denominators = vec![Fr::ONE; self.numerators.len()];
                }
                self.denominators[row] = y;
                return true;
            }
        }
        if let Some(d) = self.denominators.get_mut(row) {
            *d = Fr::ONE;
        }
        true
    }

    /// Sets every cell of a range of rows.
    pub(crate) fn fill(&mut self, rows: std::ops::Range<usize>, value: &Assigned<Fr>) {
        for row in rows {
            self.set(row, value);
        }
    }

    /// The values; a zero denominator gives zero, as in halo2.
    pub(crate) fn resolve(self) -> Vec<Fr> {
        let FractionColumn { mut numerators, mut denominators } = self;
        if !denominators.is_empty() {
            field::batch_invert(&mut denominators);
            numerators.par_iter_mut().zip(&denominators).for_each(|(x, y)| *x *= y);
        }
        numerators
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_assignment_of_a_cell_wins() {
        let mut column = FractionColumn::new(4);
        assert!(column.set(0, &Assigned::Rational(Fr::from(6), Fr::from(3))));
        assert!(column.set(1, &Assigned::Rational(Fr::from(6), Fr::from(3))));
        assert!(column.set(1, &Assigned::Trivial(Fr::from(7))));
        assert!(column.set(2, &Assigned::Rational(Fr::from(6), Fr::ZERO)));
        assert!(!column.set(4, &Assigned::Zero));
        assert_eq!(column.resolve(), [Fr::from(2), Fr::from(7), Fr::ZERO, Fr::ZERO]);
    }
}
