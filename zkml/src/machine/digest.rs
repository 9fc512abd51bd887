//! A digest of a laid-out circuit: its gates, every fixed value and every copy.
//!
//! Two layouts with one digest have one verifying key. It names cached keys, so a key of a layout that differs in anything, also by another
//! version of this program, is not found.

use halo2_axiom::halo2curves::bn256::Fr;
use halo2_axiom::plonk::{Any, Column, ConstraintSystem, Error};

use blake2b_simd::{Params, State};
use ff::PrimeField;

use super::circuit::ModelCircuit;
use super::config::MachineConfig;
use super::layout::{Cell, Col};
use super::plan::Plan;

impl MachineConfig {
    /// The column of a cell that takes part in copies.
    ///
    /// # Errors
    /// [`Error::Synthesis`] when the configuration has no such column: a copy that is left out would be a constraint less.
    pub(crate) fn copied(&self, cell: Cell) -> Result<Column<Any>, Error> {
        let column: Option<Column<Any>> = match cell.col {
            Col::Const => self.constants.map(Into::into),
            Col::Instance => Some(self.instance.into()),
            col => self.advice(col).map(Into::into),
        };
        column.ok_or(Error::Synthesis)
    }
}

/// The digest of a plan's layout.
///
/// # Errors
/// [`Error::Synthesis`] when a copy is of a column that the configuration does not have.
pub(crate) fn layout_digest(plan: &Plan) -> Result<[u8; 32], Error> {
    let circuit = ModelCircuit::new(plan);
    let layout = plan.layout();
    let mut cs = ConstraintSystem::default();
    let config = MachineConfig::new(&mut cs, layout);
    let mut state = Params::new().hash_length(32).personal(b"parhelion-layout").to_state();
    state.update(&plan.k().to_le_bytes());
    let gates = format!("{:?}", cs.pinned());
    number(&mut state, gates.len());
    state.update(gates.as_bytes());
    circuit.fixed(&config, &mut |column, row, value: Fr| {
        number(&mut state, column.index());
        number(&mut state, row);
        state.update(value.to_repr().as_ref());
    });
    // No column has this index: fixed values end here.
    number(&mut state, usize::MAX);
    for pair in &layout.copies {
        for cell in [pair.0, pair.1] {
            let column = config.copied(cell)?;
            let kind: u8 = match column.column_type() {
                Any::Advice(_) => 0,
                Any::Fixed => 1,
                Any::Instance => 2,
            };
            state.update(&[kind]);
            number(&mut state, column.index());
            state.update(&cell.row.to_le_bytes());
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(state.finalize().as_bytes());
    Ok(out)
}

fn number(state: &mut State, n: usize) {
    state.update(&(n as u64).to_le_bytes());
}
