//! The halo2 circuit of a plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ff::Field;
use halo2_axiom::circuit::{Cell as HaloCell, Layouter, Region, SimpleFloorPlanner, Value};
use halo2_axiom::halo2curves::bn256::Fr;
use halo2_axiom::plonk::{Advice, Circuit, Column, ConstraintSystem, Error, Fixed};

use crate::qir::Program;

use super::commitment::{self, OpeningSecret, Tail};
use super::config::{MachineConfig, StoreColumn, TableKey};
use super::late::{self, ChallengeValues};
use super::layout::{Cell, Col, Layout};
use super::num::fr;
use super::plan::{Plan, ProveError};
use super::sites::{Site, on};
use super::witness::{self, Columns};

/// Parameters of the circuit's configuration: the layout.
#[derive(Clone, Debug, Default)]
pub struct MachineParams(pub(crate) Option<Arc<Layout>>);

/// Changes to cells of the first phase, or of a later one, for tests of soundness: what a cheating prover might write.
#[derive(Clone, Debug, Default)]
pub struct Overrides(pub(crate) BTreeMap<Cell, Fr>);

impl Overrides {
    /// Writes `value` to a cell in place of the honest one.
    pub fn set(&mut self, cell: Cell, value: Fr) {
        self.0.insert(cell, value);
    }
}

/// A plan as a circuit, with or without a witness.
#[derive(Clone, Debug)]
pub struct ModelCircuit {
    layout: Arc<Layout>,
    program: Arc<Program>,
    /// The first phase.
    first: Option<Arc<Columns>>,
    /// All columns so far.
    state: Arc<Mutex<Option<Columns>>>,
    overrides: Overrides,
    /// Blinding of committed columns, once it is decided.
    tails: Option<Arc<Vec<Tail>>>,
    /// Whether fixed values and copies are left out, which a prover has from its key.
    advice_only: bool,
}

impl ModelCircuit {
    /// The circuit without a witness, for key generation.
    pub fn new(plan: &Plan) -> Self {
        ModelCircuit {
            layout: Arc::clone(plan.layout()),
            program: Arc::clone(plan.shared_program()),
            first: None,
            state: Arc::default(),
            overrides: Overrides::default(),
            tails: None,
            advice_only: false,
        }
    }

    /// The same for a prover, which takes fixed values and copies from its key.
    #[must_use]
    pub fn advice_only(self) -> Self {
        ModelCircuit { advice_only: true, ..self }
    }

    /// The circuit with the witness that follows from the values of the program's tensors.
    ///
    /// # Errors
    ///
    /// [`ProveError`]: a tensor is missing, or a value is outside its range.
    pub fn with_trace(plan: &Plan, trace: &[Option<Arc<[i64]>>]) -> Result<Self, ProveError> {
        let mut circuit = Self::new(plan);
        circuit.first = Some(Arc::new(witness::first(plan.program(), plan.layout(), trace)?));
        Ok(circuit)
    }

    /// The same with committed tensors blinded by a secret, so that their commitments are those of [`commitment::commit`]. A circuit that
    /// is proved without gets a secret that nobody keeps.
    #[must_use]
    pub fn sealed(mut self, secret: &OpeningSecret) -> Self {
        let Some(first) = &mut self.first else { return self };
        let columns = Arc::make_mut(first);
        let mut tails = Vec::new();
        for at in 0..self.layout.lowered.committed.len() {
            let elements: Vec<Fr> =
                self.layout.committed_cells(at).iter().map(|&(cell, _)| columns.get(cell)).collect();
            let from = self.layout.committed_column(at);
            let sealed = commitment::seal(&elements, self.layout.sized.choice.k, secret);
            for (column, (values, tail)) in
                Arc::make_mut(&mut columns.committed).iter_mut().skip(from).zip(sealed)
            {
                *column = values;
                tails.push(tail);
            }
        }
        self.tails = Some(Arc::new(tails));
        self
    }

    /// The bytes of halo2's blinding rows of committed columns; none before [`ModelCircuit::sealed`] unless there are no such columns.
    pub(crate) fn tails(&self) -> Option<Vec<[u8; 64]>> {
        match &self.tails {
            Some(tails) => Some(tails.concat()),
            None => self.layout.lowered.committed.is_empty().then(Vec::new),
        }
    }

    /// The same with changed cells, for tests of soundness.
    pub fn with_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }

    pub(crate) fn with_first(self, first: Columns) -> Self {
        ModelCircuit { first: Some(Arc::new(first)), state: Arc::default(), tails: None, ..self }
    }

    /// The instance.
    pub fn instances(&self) -> Vec<Vec<Fr>> {
        vec![self.first.as_ref().map(|first| first.instance.clone()).unwrap_or_default()]
    }

    fn apply(&self, columns: &mut Columns) {
        for (&cell, &value) in &self.overrides.0 {
            columns.set(cell, value);
        }
    }

    /// Name of an operation.
    pub(crate) fn op_name(&self, op: u32) -> Option<String> {
        self.program.ops.get(op as usize).map(|op| op.name.clone())
    }

    /// Name of a tensor of the program.
    pub(crate) fn tensor_name(&self, tensor: u32) -> Option<String> {
        self.program.tensors.get(tensor as usize).map(|t| t.name.clone())
    }

    /// All fixed values that are not zero.
    pub(crate) fn fixed(&self, config: &MachineConfig, set: &mut dyn FnMut(Column<Fixed>, usize, Fr)) {
        let layout = &self.layout;
        let mut put = |column: Column<Fixed>, row: usize, value: Fr| {
            if !bool::from(value.is_zero()) {
                set(column, row, value);
            }
        };
        for (row, &kind) in layout.row_kinds.iter().enumerate() {
            if let Some(values) = layout.unit_field.values.get(kind as usize) {
                config.unit_fixed.iter().zip(values).for_each(|(&c, &v)| put(c, row, v));
            }
        }
        for (row, &kind) in layout.bulk_kinds.iter().enumerate() {
            let values = &layout.bulk_field.values[kind as usize];
            config.bulk_fixed.iter().zip(values).for_each(|(&c, &v)| put(c, row, v));
        }
        for (row, &kind) in layout.scalar_kinds.iter().enumerate() {
            let values = &layout.scalar_field.values[kind as usize];
            config.scalar_fixed.iter().zip(values).for_each(|(&c, &v)| put(c, row, v));
        }
        for (row, &kind) in layout.hash.kinds.iter().enumerate() {
            let values = &layout.hash.field.values[kind as usize];
            config.hash_fixed.iter().zip(values).for_each(|(&c, &v)| put(c, row, v));
        }
        let tables = &layout.sized.tables;
        for run in &layout.table_runs {
            let columns = &config.tables[run.set];
            let (tag, first) = (Fr::from(tables.tag(run.section)), i128::from(tables.first(run.section)));
            for (row, position) in (run.row..).zip(run.from..run.from + run.len) {
                if let TableKey::Columns { tag: tags, input } = columns.key {
                    put(tags, row, tag);
                    put(input, row, fr(first + position as i128));
                }
                let (out, second) = tables.entry(run.section, position);
                columns.output.into_iter().for_each(|c| put(c, row, fr(out.into())));
                columns.second.into_iter().for_each(|c| put(c, row, fr(second.into())));
            }
        }
        if let Some(index) = config.row_numbers {
            (0..layout.usable() - 1).for_each(|row| put(index, row, Fr::from(row as u64)));
        }
        for (row, &c) in layout.constants.iter().enumerate() {
            config.constants.into_iter().for_each(|column| put(column, row, fr(c.into())));
        }
        let last = layout.usable() - 1;
        (0..last).for_each(|row| put(config.active, row, Fr::ONE));
        for (row, site) in [(0, Site::LookupFirst), (last, Site::LookupLast)] {
            if on(site) {
                put(config.edge, row, Fr::ONE);
            }
        }
        if layout.lowered.store_fixed {
            for (column, values) in config.store.iter().zip(witness::fixed_store(&self.program, layout)) {
                if let StoreColumn::Fixed(column) = column {
                    values.into_iter().enumerate().for_each(|(row, v)| put(*column, row, v));
                }
            }
        }
    }

    fn copies(&self, region: &mut Region<'_, Fr>, config: &MachineConfig) -> Result<(), Error> {
        let halo = |cell: Cell| -> Result<HaloCell, Error> {
            Ok(HaloCell { row_offset: cell.row as usize, column: config.copied(cell)? })
        };
        for &(x, y) in &self.layout.copies {
            region.constrain_equal(halo(x)?, halo(y)?);
        }
        Ok(())
    }

    fn advice(region: &mut Region<'_, Fr>, column: Option<Column<Advice>>, values: &[Fr]) {
        if let Some(column) = column {
            for (row, &value) in values.iter().enumerate() {
                if !bool::from(value.is_zero()) {
                    region.assign_advice(column, row, Value::known(value));
                }
            }
        }
    }

    /// The second phase, and the third where there is one, from the columns before it.
    pub(crate) fn second(&self, columns: &mut Columns, ch: &ChallengeValues) {
        late::junk(&self.program, &self.layout, columns, ch.tau);
        if !self.layout.three_phases() {
            late::fold(&self.layout, columns, ch);
        }
        late::lookups(&self.layout, columns, ch);
        self.apply(columns);
    }

    pub(crate) fn third(&self, columns: &mut Columns, ch: &ChallengeValues) {
        if self.layout.three_phases() {
            late::fold(&self.layout, columns, ch);
            late::late_lookups(&self.layout, columns, ch);
            self.apply(columns);
        }
    }

    pub(crate) fn start(&self) -> Option<Columns> {
        let mut columns = self.first.as_deref()?.clone();
        self.apply(&mut columns);
        Some(columns)
    }
}

fn known(value: Value<Fr>) -> Option<Fr> {
    let mut out = None;
    value.map(|v| out = Some(v));
    out
}

impl Circuit<Fr> for ModelCircuit {
    type Config = MachineConfig;
    type FloorPlanner = SimpleFloorPlanner;
    type Params = MachineParams;

    fn without_witnesses(&self) -> Self {
        ModelCircuit { first: None, state: Arc::default(), ..self.clone() }
    }

    fn params(&self) -> MachineParams {
        MachineParams(Some(Arc::clone(&self.layout)))
    }

    fn configure_with_params(meta: &mut ConstraintSystem<Fr>, params: MachineParams) -> MachineConfig {
        match params.0 {
            Some(layout) => MachineConfig::new(meta, &layout),
            None => Self::configure(meta),
        }
    }

    #[expect(
        clippy::panic,
        reason = "halo2's trait has no error here, and every prover calls configure_with_params"
    )]
    fn configure(_: &mut ConstraintSystem<Fr>) -> MachineConfig {
        panic!("ModelCircuit is configured by its parameters")
    }

    fn synthesize(&self, config: MachineConfig, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        layouter.assign_region(
            || "machine",
            |mut region| {
                if !self.advice_only {
                    self.fixed(&config, &mut |column, row, value| {
                        region.assign_fixed(column, row, value);
                    });
                    self.copies(&mut region, &config)?;
                }
                let mut state = self.state.lock().map_err(|_| Error::Synthesis)?;
                let put = |region: &mut Region<'_, Fr>, columns: &Columns, chosen: &dyn Fn(Col) -> bool| {
                    let all = (0..columns.unit.len() as u16)
                        .map(Col::Unit)
                        .chain((0..columns.store.len() as u16).map(Col::Store))
                        .chain((0..columns.multiplicity.len() as u16).map(Col::Multiplicity))
                        .chain((0..columns.hash.len() as u16).map(Col::Hash))
                        .chain((0..columns.committed.len() as u16).map(Col::Committed))
                        .chain((0..columns.phi.len() as u16).map(Col::Phi))
                        .chain([Col::Junk, Col::Bulk, Col::Lane(0), Col::Lane(1), Col::A, Col::B, Col::Acc]);
                    for col in all.filter(|&c| chosen(c)) {
                        Self::advice(region, config.advice(col), columns.column(col));
                    }
                };
                let first = |c: Col| c.is_first();
                let late_phi = self.layout.late_phi().map(|i| Col::Phi(i as u16));
                let middle = |c: Col| matches!(c, Col::Phi(_) | Col::Junk) && Some(c) != late_phi;
                let saved = state.take();
                let Some(mut columns) = saved.or_else(|| self.start()) else { return Ok(()) };
                let Some(challenges) = &config.challenges else {
                    put(&mut region, &columns, &first);
                    return Ok(());
                };
                let read = |region: &Region<'_, Fr>| {
                    let get = |c| known(region.get_challenge(c));
                    Some(ChallengeValues {
                        alpha: get(challenges.alpha)?,
                        beta: get(challenges.beta)?,
                        gamma: get(challenges.gamma)?,
                        tau: get(challenges.tau)?,
                        rho: get(challenges.rho).unwrap_or(Fr::ZERO),
                    })
                };
                let third = self.layout.three_phases();
                // A prover that commits phase by phase within one synthesis gives the challenges at once; others call again.
                if read(&region).is_none() {
                    put(&mut region, &columns, &first);
                    region.next_phase();
                    if read(&region).is_none() {
                        *state = Some(columns);
                        return Ok(());
                    }
                }
                if columns.phi.is_empty() && columns.acc.is_empty()
                    || known(region.get_challenge(challenges.rho)).is_none()
                {
                    let ch = read(&region).ok_or(Error::Synthesis)?;
                    self.second(&mut columns, &ch);
                    put(&mut region, &columns, &|c| middle(c) || (!third && !first(c)));
                    if !third {
                        return Ok(());
                    }
                    region.next_phase();
                    if known(region.get_challenge(challenges.rho)).is_none() {
                        *state = Some(columns);
                        return Ok(());
                    }
                }
                let ch = read(&region).ok_or(Error::Synthesis)?;
                self.third(&mut columns, &ch);
                put(&mut region, &columns, &|c| !first(c) && !middle(c));
                Ok(())
            },
        )
    }
}
