//! The copy constraints as a permutation of cells.
//!
//! Cells that must be equal form one cycle of the permutation. Joining two cycles swaps the successors of one cell of
//! each (the halo2 book, "Permutation argument"); which cells share a cycle is tracked by a label per cell, relabelling
//! the shorter cycle.

use ff::{Field, PrimeField};
use halo2curves::bn256::Fr;
use rayon::prelude::*;

use crate::field;
use crate::{Error, Result};

/// A permutation of the cells (column, row), the identity at first. A cell is `column · n + row`.
#[derive(Debug)]
pub(super) struct Cycles {
    n: usize,
    next: Vec<u32>,
    label: Vec<u32>,
    /// Length of the cycle with a label.
    length: Vec<u32>,
}

impl Cycles {
    pub(super) fn new(columns: usize, n: usize) -> Result<Self> {
        let cells = columns.checked_mul(n).and_then(|c| u32::try_from(c).ok()).ok_or_else(|| {
            Error::Unsupported(format!("{columns} columns of {n} rows under equality constraints"))
        })?;
        let next: Vec<u32> = (0..cells).collect();
        Ok(Cycles { n, label: next.clone(), length: vec![1; next.len()], next })
    }

    /// Joins the cycles of two cells, which must exist.
    pub(super) fn join(&mut self, left: (usize, usize), right: (usize, usize)) {
        let (left, right) = (left.0 * self.n + left.1, right.0 * self.n + right.1);
        let (mut long, mut short) = (self.label[left] as usize, self.label[right] as usize);
        if long == short {
            return;
        }
        if self.length[long] < self.length[short] {
            std::mem::swap(&mut long, &mut short);
        }
        self.length[long] += self.length[short];
        let mut cell = short;
        loop {
            self.label[cell] = long as u32;
            cell = self.next[cell] as usize;
            if cell == short {
                break;
            }
        }
        self.next.swap(left, right);
    }

    /// σ: column c has at row i the value δ^c'·ω^i' of the cell (c', i') that follows (c, i).
    pub(super) fn sigma(&self, omega: Fr) -> Vec<Vec<Fr>> {
        let n = self.n;
        let omegas = field::powers(omega, Fr::ONE, n);
        let columns = self.next.len() / n.max(1);
        let deltas = field::powers(Fr::DELTA, Fr::ONE, columns);
        self.next
            .chunks(n.max(1))
            .map(|column| {
                column
                    .par_iter()
                    .map(|cell| {
                        let cell = *cell as usize;
                        deltas[cell / n] * omegas[cell % n]
                    })
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle_of(cycles: &Cycles, start: usize) -> Vec<usize> {
        let mut cycle = vec![start];
        while let Some(&last) = cycle.last() {
            let next = cycles.next[last] as usize;
            if next == start {
                break;
            }
            cycle.push(next);
        }
        cycle.sort_unstable();
        cycle
    }

    #[test]
    fn joined_cells_share_one_cycle() {
        let mut cycles = Cycles::new(3, 4).unwrap();
        cycles.join((0, 0), (1, 1));
        cycles.join((2, 3), (2, 2));
        cycles.join((1, 1), (2, 3));
        cycles.join((0, 0), (2, 2)); // already together: must not split the cycle
        assert_eq!(cycle_of(&cycles, 0), [0, 5, 10, 11]);
        assert_eq!(cycle_of(&cycles, 1), [1]);
    }

    #[test]
    fn too_many_cells_are_an_error() {
        assert!(matches!(Cycles::new(1 << 10, 1 << 28), Err(Error::Unsupported(_))));
    }
}
