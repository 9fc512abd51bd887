//! Checking a witness without a proof.
//!
//! All gates of the constraint system are evaluated on every usable row, with challenges that a verifier could have drawn, and every copy is
//! compared. What fails is named by the layer and element that the cell belongs to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ff::{Field, PrimeField};
use halo2_axiom::halo2curves::bn256::Fr;
use halo2_axiom::plonk::{ConstraintSystem, Expression};
use halo2_axiom::poly::Rotation;

use super::circuit::{ModelCircuit, Overrides};
use super::config::MachineConfig;
use super::late::ChallengeValues;
use super::layout::{Cell, Col, Layout, LookupLane};
use super::num::fr;
use super::pack::UnitShape;
use super::plan::{Plan, ProveError};
use super::poseidon::gadget::COLUMNS as HASH_COLUMNS;
use super::table::Section;
use super::witness::{Columns, row_counts};

/// What a mock run finds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MockError {
    /// There is no witness: a value is outside its range, or missing.
    #[error(transparent)]
    Witness(#[from] ProveError),
    /// A constraint does not hold.
    #[error("{layer}, element {element}: {constraint} does not hold")]
    Constraint {
        /// Kind of constraint.
        constraint: String,
        /// Operation or tensor.
        layer: String,
        /// Flat index of the element.
        element: usize,
    },
}

/// Checks all constraints of a trace's witness.
///
/// # Errors
///
/// [`MockError`] with the layer and element, in the model's names.
pub fn mock(plan: &Plan, trace: &[Option<Arc<[i64]>>]) -> Result<(), MockError> {
    let bench = Bench::new(plan, trace)?;
    match bench.violation(&[]) {
        None => Ok(()),
        Some(v) => {
            let (layer, element) = bench.describe(v.cell);
            Err(MockError::Constraint { constraint: v.constraint, layer, element })
        }
    }
}

/// A constraint that does not hold, and a cell that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Kind of constraint.
    pub constraint: String,
    /// Where.
    pub cell: Cell,
}

/// A witness whose cells may be changed, with a check that takes milliseconds: what tests of soundness run by the thousand.
///
/// A change is made as a cheating prover would: multiplicities are counted again and all later phases are computed from the changed cells.
pub struct Bench {
    circuit: ModelCircuit,
    pub(super) layout: Arc<Layout>,
    cs: ConstraintSystem<Fr>,
    columns: Vec<Option<Col>>,
    fixed: Vec<Vec<Fr>>,
    pub(super) challenges: ChallengeValues,
    pub(super) first: Columns,
    pub(super) honest: Columns,
    table: HashMap<Key, Cell>,
    near: HashMap<Cell, Vec<Cell>>,
    /// Entries by cells of the circuit: key, value and count.
    entries: Vec<(u64, [Cell; 3])>,
}

type Key = (u64, [u8; 32], [u8; 32], [u8; 32]);

fn key(tag: u64, x: Fr, y: Fr, z: Fr) -> Key {
    (tag, x.to_repr(), y.to_repr(), z.to_repr())
}

impl Bench {
    /// A witness and the means to check it.
    ///
    /// # Errors
    ///
    /// [`ProveError`] where there is no witness.
    pub fn new(plan: &Plan, trace: &[Option<Arc<[i64]>>]) -> Result<Self, ProveError> {
        let circuit = ModelCircuit::with_trace(plan, trace)?;
        let layout = Arc::clone(plan.layout());
        let mut cs = ConstraintSystem::default();
        let config = MachineConfig::new(&mut cs, &layout);
        let n = layout.usable() + 1;
        let mut fixed = vec![vec![Fr::ZERO; n]; cs.num_fixed_columns()];
        circuit.fixed(&config, &mut |column, row, value| fixed[column.index()][row] = value);
        let mut columns = vec![None; cs.num_advice_columns()];
        for col in all_advice(&layout) {
            if let Some(column) = config.advice(col) {
                columns[column.index()] = Some(col);
            }
        }
        let mut table = HashMap::new();
        let tables = &layout.sized.tables;
        for (section, position, cell) in layout.table_entries() {
            let (out, second) = tables.entry(section, position);
            let x = i128::from(tables.first(section)) + position as i128;
            let entry = key(tables.tag(section), fr(x), fr(out.into()), fr(second.into()));
            table.insert(entry, cell);
        }
        let first = circuit.start().unwrap_or_default();
        let draw = |seed: u64| Fr::from(seed).pow([0x9e37_79b9_7f4a_7c15, seed, 0x1234_5678]);
        let challenges =
            ChallengeValues { alpha: draw(3), beta: draw(5), gamma: draw(7), tau: draw(11), rho: draw(13) };
        let mut honest = first.clone();
        circuit.second(&mut honest, &challenges);
        circuit.third(&mut honest, &challenges);
        let mut near: HashMap<Cell, Vec<Cell>> = HashMap::new();
        for &(x, y) in &layout.copies {
            near.entry(x).or_default().push(y);
            near.entry(y).or_default().push(x);
        }
        let entries = provided(&layout);
        Ok(Bench { near, honest, circuit, layout, cs, columns, fixed, challenges, first, table, entries })
    }

    /// Cells of the first phase that the witness assigns, each with the layer that it belongs to.
    pub fn cells(&self) -> Vec<Cell> {
        let l = &self.layout;
        let mut out = Vec::new();
        for (strip, s) in l.lowered.strips.iter().enumerate() {
            for &slot in s.slots.iter() {
                for (unit, places) in l.placed(strip).packed.places.iter().enumerate() {
                    out.extend(places.iter().map(|p| l.slot_cell(strip, slot, unit as u16, p.position)));
                }
            }
        }
        if !l.lowered.store_fixed {
            for (bulk, b) in l.lowered.bulks.iter().enumerate() {
                for j in 0..b.elements.len() {
                    let (row, column) = l.bulk_cell(bulk, j);
                    out.extend(
                        (0..l.sized.store_limbs as u16).map(|i| Cell { col: Col::Store(column + i), row }),
                    );
                }
            }
        }
        out
    }

    /// Cells of digests, and of committed tensors up to their blinding.
    pub fn exposed_cells(&self) -> Vec<Cell> {
        let l = &self.layout;
        let committed = (0..l.lowered.committed.len()).flat_map(|at| l.committed_cells(at));
        l.hash.cells().into_iter().chain(committed.map(|(cell, _)| cell)).collect()
    }

    /// Checks with these values of τ and ρ from now on, for instance with constants, as a broken protocol would.
    pub fn set_points(&mut self, tau: Fr, rho: Fr) {
        (self.challenges.tau, self.challenges.rho) = (tau, rho);
    }

    /// Junk coefficients of convolutions.
    pub fn junk_cells(&self) -> Vec<Cell> {
        let l = &self.layout;
        let mut out = Vec::new();
        for (at, junk) in l.lowered.junks.iter().enumerate() {
            for (position, wanted) in junk.wanted.iter().enumerate() {
                if !wanted {
                    out.push(Cell { col: Col::Junk, row: l.junk_row(at, position as u32) });
                }
            }
        }
        out
    }

    /// Cells of store columns in rows of weights that no weight has, and whether the row's gate reads them all the same: where the next
    /// powers of τ are no output's, a value there breaks the identity.
    pub fn store_padding(&self) -> Vec<(Cell, bool)> {
        let l = &self.layout;
        if l.lowered.store_fixed {
            return Vec::new();
        }
        let (per_row, limbs) = (l.sized.per_row(), l.sized.store_limbs as u16);
        let mut out = Vec::new();
        for (bulk, b) in l.lowered.bulks.iter().enumerate() {
            let len = b.elements.len();
            for j in len..len.next_multiple_of(per_row) {
                let (row, column) = l.bulk_cell(bulk, j);
                out.extend((0..limbs).map(|i| (Cell { col: Col::Store(column + i), row }, !b.exact)));
            }
        }
        out
    }

    /// Operands of scalar rows.
    pub fn scalar_cells(&self) -> Vec<Cell> {
        let rows = self.layout.lowered.scalars.iter().enumerate();
        rows.flat_map(|(row, s)| {
            let cell = |col| Cell { col, row: row as u32 };
            [s.a.map(|_| cell(Col::A)), s.b.map(|_| cell(Col::B))]
        })
        .flatten()
        .collect()
    }

    /// Width of a limb.
    pub fn limb(&self) -> u32 {
        self.layout.sized.choice.limb
    }

    /// Cells of idle units.
    pub fn idle_cells(&self) -> Vec<Cell> {
        let l = &self.layout;
        let mut out = Vec::new();
        for (strip, idle) in l.idle.iter().enumerate() {
            for &slot in idle {
                for (unit, places) in l.placed(strip).packed.places.iter().enumerate() {
                    out.extend(places.iter().map(|p| l.slot_cell(strip, slot, unit as u16, p.position)));
                }
            }
        }
        out
    }

    /// Cells of the multiplicity columns that table entries have.
    pub fn multiplicities(&self) -> Vec<Cell> {
        let of_tables = self.layout.table_entries().map(|(_, _, cell)| cell);
        let folded = self.layout.folded_multiplicity().into_iter().flat_map(|col| {
            let rows = self.layout.lowered.row_tables.iter().flat_map(|table| &table.entries);
            rows.map(move |&row| Cell { col, row })
        });
        of_tables.chain(folded).collect()
    }

    /// The honest value of a cell.
    pub fn value(&self, cell: Cell) -> Fr {
        self.honest.get(cell)
    }

    /// All cells that copies tie to this one, itself included.
    pub fn class(&self, cell: Cell) -> Vec<Cell> {
        let mut out = vec![cell];
        let mut at = 0;
        while at < out.len() {
            for &next in self.near.get(&out[at]).map_or(&[][..], Vec::as_slice) {
                if !out.contains(&next) {
                    out.push(next);
                }
            }
            at += 1;
        }
        out
    }

    /// The cells of all running sums but the first of a sweep, which nothing reads.
    pub fn sum_cells(&self) -> Vec<Cell> {
        let rows = self.layout.usable() as u32;
        let phis = (0..self.layout.phis() as u16).map(|i| (Col::Phi(i), 0));
        let sweeps = [Col::Bulk, Col::Lane(0), Col::Lane(1), Col::Acc].into_iter().map(|col| (col, 1));
        phis.chain(sweeps)
            .filter(|&(col, _)| !self.honest.column(col).is_empty())
            .flat_map(|(col, first)| (first..rows).map(move |row| Cell { col, row }))
            .collect()
    }

    /// The cell of an element of a tensor of the program.
    pub fn element(&self, tensor: u32, index: u32) -> Option<Cell> {
        match self.layout.resolve(super::lowered::Src::Cell { tensor, index }) {
            super::lowered::Src::Cell { tensor, index } => self.layout.home(tensor, index),
            super::lowered::Src::Const(_) => None,
        }
    }

    /// The same changes as a circuit for the real prover.
    pub fn forge(&self, changes: &[(Cell, Fr)]) -> ModelCircuit {
        let mut late = Overrides::default();
        for &(cell, value) in changes.iter().filter(|(c, _)| !c.col.is_first() && c.col != Col::Instance) {
            late.set(cell, value);
        }
        self.circuit.clone().with_first(self.changed(changes)).with_overrides(late)
    }

    fn changed(&self, changes: &[(Cell, Fr)]) -> Columns {
        let mut columns = self.first.clone();
        for &(cell, value) in changes.iter().filter(|(c, _)| c.col.is_first() || c.col == Col::Instance) {
            columns.set(cell, value);
        }
        self.recount(&mut columns);
        let counts = |cell: &Cell| {
            matches!(cell.col, Col::Multiplicity(_)) || self.entries.iter().any(|(_, c)| c[2] == *cell)
        };
        for &(cell, value) in changes.iter().filter(|(c, _)| counts(c)) {
            columns.set(cell, value);
        }
        columns
    }

    /// Whether changed cells satisfy all constraints.
    pub fn accepts(&self, changes: &[(Cell, Fr)]) -> bool {
        self.violation(changes).is_none()
    }

    /// All columns with changed cells.
    pub(super) fn late(&self, changes: &[(Cell, Fr)]) -> Columns {
        let mut columns = self.changed(changes);
        let late = |columns: &mut Columns| {
            for &(cell, value) in changes.iter().filter(|(c, _)| !c.col.is_first()) {
                columns.set(cell, value);
            }
        };
        self.circuit.second(&mut columns, &self.challenges);
        late(&mut columns);
        self.circuit.third(&mut columns, &self.challenges);
        late(&mut columns);
        columns
    }

    /// A constraint that changed cells violate.
    pub fn violation(&self, changes: &[(Cell, Fr)]) -> Option<Violation> {
        let columns = self.late(changes);
        for &(x, y) in &self.layout.copies {
            if columns.get(x) != columns.get(y) {
                let cell = if matches!(x.col, Col::Unit(_)) { x } else { y };
                return Some(Violation { constraint: "a copy".into(), cell });
            }
        }
        self.gates(&columns)
    }

    fn gates(&self, columns: &Columns) -> Option<Violation> {
        let advice: Vec<&[Fr]> =
            self.columns.iter().map(|c| c.map_or(&[][..], |c| columns.column(c))).collect();
        let values = [
            self.challenges.alpha,
            self.challenges.beta,
            self.challenges.gamma,
            self.challenges.tau,
            self.challenges.rho,
        ];
        let at = |column: &[Fr], row: usize, rotation: Rotation| {
            let row = row as i64 + i64::from(rotation.0);
            usize::try_from(row).ok().and_then(|r| column.get(r)).copied().unwrap_or(Fr::ZERO)
        };
        for gate in self.cs.gates() {
            for poly in gate.polynomials() {
                for row in 0..self.layout.usable() {
                    let value = evaluate(poly, &|e| match e {
                        Query::Fixed(c, r) => at(&self.fixed[c], row, r),
                        Query::Advice(c, r) => at(advice[c], row, r),
                        Query::Challenge(c) => values[c],
                    });
                    if !bool::from(value.is_zero()) {
                        let cell = match gate.name() {
                            "scalar" => Cell { col: Col::Acc, row: row as u32 },
                            "lookup" | "lookup sum" => {
                                self.bad_lookup(columns).unwrap_or(Cell { col: Col::Phi(0), row: row as u32 })
                            }
                            "digest" => Cell { col: Col::Hash(0), row: row as u32 },
                            "store sweep" => Cell { col: Col::Bulk, row: row as u32 },
                            _ => Cell { col: Col::Unit(0), row: row as u32 },
                        };
                        return Some(Violation { constraint: gate.name().into(), cell });
                    }
                }
            }
        }
        None
    }

    /// Keys and values of the entries that cells of the circuit provide.
    #[cfg(test)]
    pub(super) fn entries(&self) -> Vec<(Fr, Fr)> {
        self.entries.iter().map(|(_, [x, y, _])| (self.first.get(*x), self.first.get(*y))).collect()
    }

    /// Every use of a lookup: its cell and tuple.
    fn uses(&self, columns: &Columns, mut each: impl FnMut(Cell, Key, bool)) {
        let l = &self.layout;
        let tables = &l.sized.tables;
        let cells = l.sized.shape.cells();
        for lane in &l.lanes {
            match *lane {
                LookupLane::Store { column } => {
                    let limbs = l.sized.store_limbs as u16;
                    let Some((low, high)) = l.sized.store_section else { continue };
                    let tag = tables.tag(if column % limbs == limbs - 1 { high } else { low });
                    for row in 0..l.usable() - 1 {
                        let cell = Cell { col: Col::Store(column), row: row as u32 };
                        each(cell, key(tag, columns.get(cell), Fr::ZERO, Fr::ZERO), false);
                    }
                }
                LookupLane::Table { .. } | LookupLane::Folded => {}
                LookupLane::Range { unit, .. } | LookupLane::Function { unit } => {
                    for (row, &kind) in l.row_kinds.iter().enumerate() {
                        let Some(kind) = l.kinds.get(kind as usize) else { continue };
                        let code = &l.sized.placed[kind.spec as usize].packed.codes[kind.unit as usize];
                        let cell = |p: u16| Cell { col: Col::Unit(unit * cells + p), row: row as u32 };
                        match *lane {
                            LookupLane::Range { index, .. } => {
                                if let Some(section) = code.ranges[index as usize] {
                                    let c = cell(l.sized.shape.range_at() + index);
                                    let tuple = key(tables.tag(section), columns.get(c), Fr::ZERO, Fr::ZERO);
                                    each(c, tuple, false);
                                }
                            }
                            _ => {
                                let Some(lane) = code.function else { continue };
                                if lane.provides {
                                    continue;
                                }
                                let dynamic = matches!(lane.section, Section::Dynamic { .. });
                                let second = if l.sized.shape.second {
                                    columns.get(cell(UnitShape::SECOND))
                                } else {
                                    Fr::ZERO
                                };
                                let (x, y) =
                                    (columns.get(cell(UnitShape::KEY)), columns.get(cell(UnitShape::VALUE)));
                                let tuple = key(tables.tag(lane.section), x, y, second);
                                each(cell(UnitShape::KEY), tuple, dynamic);
                            }
                        }
                    }
                }
            }
        }
    }

    fn recount(&self, columns: &mut Columns) {
        let mut counts: HashMap<Cell, u64> = HashMap::new();
        let mut reads: HashMap<Key, u64> = HashMap::new();
        self.uses(columns, |_, tuple, dynamic| match (dynamic, self.table.get(&tuple)) {
            (true, _) => *reads.entry(tuple).or_default() += 1,
            (false, Some(&at)) => *counts.entry(at).or_default() += 1,
            (false, None) => {}
        });
        for &(tag, [x, y, count]) in &self.entries {
            // The first of equal entries takes all reads.
            let reads = reads.remove(&key(tag, columns.get(x), columns.get(y), Fr::ZERO));
            columns.set(count, Fr::from(reads.unwrap_or(0)));
        }
        for column in Arc::make_mut(&mut columns.multiplicity) {
            column.iter_mut().for_each(|m| *m = Fr::ZERO);
        }
        for (cell, count) in counts {
            columns.set(cell, Fr::from(count));
        }
        row_counts(&self.layout, columns);
    }

    fn bad_lookup(&self, columns: &Columns) -> Option<Cell> {
        let mut found = None;
        let entry = |&(tag, [x, y, _]): &(u64, [Cell; 3])| key(tag, columns.get(x), columns.get(y), Fr::ZERO);
        let entries: HashSet<Key> = self.entries.iter().map(entry).collect();
        self.uses(columns, |cell, tuple, dynamic| {
            let known = if dynamic { entries.contains(&tuple) } else { self.table.contains_key(&tuple) };
            if found.is_none() && !known {
                found = Some(cell);
            }
        });
        found
    }

    /// Layer and element of a cell.
    pub fn describe(&self, cell: Cell) -> (String, usize) {
        let l = &self.layout;
        match cell.col {
            Col::Unit(column) => {
                let strip = l.strip_rows.partition_point(|&first| first <= cell.row).saturating_sub(1);
                let depth = l.depth(strip).max(1);
                let within = cell.row.saturating_sub(l.strip_rows[strip]) % depth;
                let lane = u32::from(column) / u32::from(l.sized.shape.cells().max(1));
                let slot = (depth - 1 - within) * l.units() + lane;
                let s = &l.lowered.strips[strip];
                let element = s.slots.iter().position(|&x| x == slot).unwrap_or(0);
                (s.name.clone(), element)
            }
            Col::Acc | Col::A | Col::B => {
                let op = l.lowered.scalars.get(cell.row as usize).map(|r| r.op);
                let name = op.and_then(|op| self.circuit.op_name(op));
                (name.unwrap_or_else(|| "scalars".into()), 0)
            }
            Col::Store(_) | Col::Bulk | Col::Junk => {
                let bulk = l.bulk_rows.partition_point(|&first| first <= cell.row).saturating_sub(1);
                let bulk = l.lowered.bulks.get(bulk);
                let name = bulk.and_then(|b| self.circuit.tensor_name(b.tensor));
                (name.unwrap_or_else(|| "store".into()), bulk.map_or(0, |b| b.elements.first() as usize))
            }
            Col::Hash(_) => {
                let hash = l.hash.at_row(cell.row as usize).and_then(|h| l.lowered.hashes.get(h));
                (hash.map_or("digest".into(), |h| format!("digest of {}", h.name)), 0)
            }
            Col::Committed(column) => {
                let all = 0..l.lowered.committed.len();
                let at = all.rev().find(|&at| l.committed_column(at) <= usize::from(column)).unwrap_or(0);
                let name = l.lowered.committed.get(at).map_or("tensor", |c| c.name.as_str());
                (format!("committed {name}"), cell.row as usize)
            }
            col => (format!("{col:?}"), cell.row as usize),
        }
    }
}

/// Tag, and cells of key, value and count, of every entry that units provide.
fn provided(l: &Layout) -> Vec<(u64, [Cell; 3])> {
    let shape = l.sized.shape;
    let mut out = Vec::new();
    for (row, &kind) in l.row_kinds.iter().enumerate() {
        let Some(kind) = l.kinds.get(kind as usize) else { continue };
        let code = &l.sized.placed[kind.spec as usize].packed.codes[kind.unit as usize];
        let Some(lane) = code.function.filter(|lane| lane.provides) else { continue };
        for unit in 0..l.units() as u16 {
            let cell = |p: u16| Cell { col: Col::Unit(unit * shape.cells() + p), row: row as u32 };
            let cells = [UnitShape::KEY, UnitShape::VALUE, shape.count_at()].map(cell);
            out.push((l.sized.tables.tag(lane.section), cells));
        }
    }
    out
}

fn all_advice(l: &Layout) -> Vec<Col> {
    let units = l.sized.shape.cells() * l.units() as u16;
    let mut out: Vec<Col> = (0..units).map(Col::Unit).collect();
    out.extend((0..l.sized.choice.store as u16).map(Col::Store));
    out.extend((0..l.multiplicities() as u16).map(Col::Multiplicity));
    out.extend((0..l.sized.hash.lanes * HASH_COLUMNS).map(|c| Col::Hash(c as u16)));
    out.extend((0..l.sized.committed_columns(&l.lowered)).map(|c| Col::Committed(c as u16)));
    out.extend((0..l.phis() as u16).map(Col::Phi));
    out.extend([Col::Junk, Col::Bulk, Col::Lane(0), Col::Lane(1), Col::A, Col::B, Col::Acc]);
    out
}

enum Query {
    Fixed(usize, Rotation),
    Advice(usize, Rotation),
    Challenge(usize),
}

fn evaluate(e: &Expression<Fr>, get: &dyn Fn(Query) -> Fr) -> Fr {
    e.evaluate(
        &|c| c,
        &|_| Fr::ZERO,
        &|q| get(Query::Fixed(q.column_index(), q.rotation())),
        &|q| get(Query::Advice(q.column_index(), q.rotation())),
        &|_| Fr::ZERO,
        &|c| get(Query::Challenge(c.index())),
        &|x| -x,
        &|x, y| x + y,
        &|x, y| x * y,
        &|x, c| x * c,
    )
}
