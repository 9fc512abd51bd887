//! What a circuit's synthesis says about its fixed columns, selectors and copy constraints.

use std::ops::Range;

use halo2_axiom::circuit::Value;
use halo2_axiom::plonk::{
    Advice, Any, Assigned, Assignment, Challenge, Column, ConstraintSystem, Error as PlonkError, Fixed,
    Instance, Selector,
};
use halo2curves::bn256::Fr;

use super::cycles::Cycles;
use crate::columns::FractionColumn;
use crate::{Error, Result};

/// Collects fixed columns, selectors and copies. Errors of functions that cannot return one are kept for the end.
#[derive(Debug)]
pub(super) struct Assembly {
    k: u32,
    usable: Range<usize>,
    fixed: Vec<FractionColumn>,
    selectors: Vec<Vec<bool>>,
    columns: Vec<Column<Any>>,
    cycles: Cycles,
    error: Option<Error>,
}

/// What the synthesis said.
pub(super) struct Assembled {
    pub(super) fixed: Vec<Vec<Fr>>,
    pub(super) selectors: Vec<Vec<bool>>,
    pub(super) cycles: Cycles,
}

impl Assembly {
    pub(super) fn new(k: u32, cs: &ConstraintSystem<Fr>) -> Result<Self> {
        let n = 1usize << k;
        let columns = cs.permutation().get_columns();
        Ok(Assembly {
            k,
            usable: 0..n - (cs.blinding_factors() + 1),
            fixed: (0..cs.num_fixed_columns()).map(|_| FractionColumn::new(n)).collect(),
            selectors: vec![vec![false; n]; cs.num_selectors()],
            cycles: Cycles::new(columns.len(), n)?,
            columns,
            error: None,
        })
    }

    pub(super) fn finish(self) -> Result<Assembled> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Assembled {
                fixed: self.fixed.into_iter().map(FractionColumn::resolve).collect(),
                selectors: self.selectors,
                cycles: self.cycles,
            }),
        }
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    fn outside(&self, column: &'static str, index: usize, row: usize) -> Error {
        Error::OutOfBounds { column, index, row, usable: self.usable.end }
    }

    fn rows(&self, row: usize) -> Result<(), PlonkError> {
        if self.usable.contains(&row) {
            Ok(())
        } else {
            Err(PlonkError::NotEnoughRowsAvailable { current_k: self.k })
        }
    }
}

impl Assignment<Fr> for Assembly {
    fn enter_region<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn annotate_column<A, AR>(&mut self, _: A, _: Column<Any>)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
    }

    fn exit_region(&mut self) {}

    fn enable_selector<A, AR>(&mut self, _: A, selector: &Selector, row: usize) -> Result<(), PlonkError>
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.rows(row)?;
        let cell = self.selectors.get_mut(selector.index()).and_then(|s| s.get_mut(row));
        *cell.ok_or(PlonkError::BoundsFailure)? = true;
        Ok(())
    }

    fn query_instance(&self, _: Column<Instance>, row: usize) -> Result<Value<Fr>, PlonkError> {
        self.rows(row)?;
        Ok(Value::unknown())
    }

    fn assign_advice<'v>(
        &mut self,
        _: Column<Advice>,
        _: usize,
        _: Value<Assigned<Fr>>,
    ) -> Value<&'v Assigned<Fr>> {
        Value::unknown()
    }

    fn assign_fixed(&mut self, column: Column<Fixed>, row: usize, to: Assigned<Fr>) {
        let inside =
            self.usable.contains(&row) && self.fixed.get_mut(column.index()).is_some_and(|c| c.set(row, &to));
        if !inside {
            self.fail(self.outside("fixed", column.index(), row));
        }
    }

    fn copy(&mut self, left: Column<Any>, left_row: usize, right: Column<Any>, right_row: usize) {
        for (column, row) in [(left, left_row), (right, right_row)] {
            if !self.usable.contains(&row) {
                return self.fail(self.outside("copied", column.index(), row));
            }
        }
        let position = |column| self.columns.iter().position(|c| *c == column);
        match (position(left), position(right)) {
            (Some(l), Some(r)) => self.cycles.join((l, left_row), (r, right_row)),
            (l, _) => {
                let missing = if l.is_none() { left } else { right };
                self.fail(Error::Circuit(PlonkError::ColumnNotInPermutation(missing)));
            }
        }
    }

    fn fill_from_row(
        &mut self,
        column: Column<Fixed>,
        row: usize,
        to: Value<Assigned<Fr>>,
    ) -> Result<(), PlonkError> {
        self.rows(row)?;
        let mut value = None;
        to.map(|v| value = Some(v));
        let value = value.ok_or(PlonkError::Synthesis)?;
        let end = self.usable.end;
        self.fixed.get_mut(column.index()).ok_or(PlonkError::BoundsFailure)?.fill(row..end, &value);
        Ok(())
    }

    fn get_challenge(&self, _: Challenge) -> Value<Fr> {
        Value::unknown()
    }

    fn push_namespace<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn pop_namespace(&mut self, _: Option<String>) {}
}
