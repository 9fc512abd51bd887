//! Columns, rows, fixed values and copies of a lowered program.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use serde::{Deserialize, Serialize};

use super::commitment;
use super::copies::copies;
use super::factor::{Factored, factor};
use super::lowered::{Base, Home, Lowered, Mul, Operand, Ref, Src};
use super::num::fr;
use super::pack::{Packed, UnitShape};
use super::place::Figures;
use super::plan::PlanError;
use super::poseidon::gadget::{COLUMNS as HASH_COLUMNS, HashLayout, HashSize};
use super::sites::{Site, on};
use super::table::{Run, Section, Tables};
use super::template::{Quad, Template};

/// The numbers that the planner chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// log₂ of the number of rows.
    pub k: u32,
    /// Width of a limb.
    pub limb: u32,
    /// Work units per row.
    pub units: u32,
    /// Range-checked cells of a unit.
    pub ranges: u16,
    /// Plain cells of a unit.
    pub plain: u16,
    /// Store columns.
    pub store: u32,
    /// Width of a limb of a stored weight.
    pub store_limb: u32,
    /// Lookup lanes of one running sum; its argument has degree `lanes + 2`.
    pub lanes: u16,
}

/// A column of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Col {
    /// Cell `position` of unit `unit` is column `unit · cells + position`.
    Unit(u16),
    /// Weights.
    Store(u16),
    /// Multiplicities of a set of table columns.
    Multiplicity(u16),
    /// Cell `position` of digest lane `lane` is column `lane · 10 + position`.
    Hash(u16),
    /// A committed tensor.
    Committed(u16),
    /// Unwanted coefficients of convolutions.
    Junk,
    /// Running sum over the store and the junk.
    Bulk,
    /// Running sum over ports and cells of units.
    Lane(u8),
    /// Operands and result of scalar rows.
    A,
    /// Second operand.
    B,
    /// Result.
    Acc,
    /// Running sum of lookups.
    Phi(u16),
    /// Constants.
    Const,
    /// Public values.
    Instance,
}

impl Col {
    /// Whether a column belongs to the first phase.
    pub fn is_first(self) -> bool {
        matches!(self, Col::Unit(_) | Col::Store(_) | Col::Multiplicity(_) | Col::Hash(_) | Col::Committed(_))
    }
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// Column.
    pub col: Col,
    /// Row.
    pub row: u32,
}

/// A monomial in the cells of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mono {
    One,
    Lin(u16),
    Quad(u16, u16),
}

/// A coefficient of a unit row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UnitSlot {
    Eq(u8, Mono),
    Port(u8, Base, u32, Mono),
    Mul(u8, Base, u32),
    RangeOn(u16),
    RangeTag(u16),
    FnOn,
    FnTag,
    FnProvides,
}

/// A coefficient of a row of the store or the junk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BulkSlot {
    Store,
    /// The first weights of a row only.
    Part(u16),
    Junk,
    Tau,
    Rho,
}

/// A coefficient of a scalar row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScalarSlot {
    One,
    Rho,
    Tau,
    Product,
    Linear,
    Constant,
    ConstantRho,
    ConstantTau,
    Zero,
    /// The result is an entry of a table of rows.
    Entry,
    /// The result is a use of one.
    Use,
    Tag,
}

/// What a sweep does at a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SweepRow {
    /// Position of the cell that is summed; none for the port.
    pub(crate) cell: Option<u16>,
    pub(crate) base: Base,
    pub(crate) step: u32,
    pub(crate) mul: Option<(Base, u32)>,
}

/// What the units of a row do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowKind {
    pub(crate) spec: u32,
    pub(crate) unit: u16,
    pub(crate) sweeps: [Option<SweepRow>; 2],
}

/// A template on units.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) template: Template,
    pub(crate) packed: Packed,
}

/// Counts of a candidate, before anything is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Sized {
    pub(crate) choice: Choice,
    /// Cells of a unit that take part in copies.
    pub(crate) equal: usize,
    pub(crate) shape: UnitShape,
    pub(crate) placed: Arc<Vec<Placed>>,
    pub(crate) spec_of: Arc<Vec<u32>>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) store_section: Option<(Section, Section)>,
    pub(crate) store_limbs: u32,
    pub(crate) unit_rows: usize,
    pub(crate) bulk_rows: usize,
    pub(crate) table_entries: usize,
    pub(crate) table_sets: usize,
    /// Fixed columns of all sets.
    pub(crate) table_columns: usize,
    pub(crate) figures: Figures,
    /// Cells of units that are assigned.
    pub(crate) cells: usize,
    pub(crate) hash: HashSize,
}

/// A lane of the lookup argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupLane {
    Range {
        unit: u16,
        index: u16,
    },
    Function {
        unit: u16,
    },
    Store {
        column: u16,
    },
    Table {
        set: u16,
    },
    /// Results of scalar rows.
    Folded,
}

/// Rows at the end that carry blinding: no column is queried at more than three points.
pub(crate) const BLINDED: usize = 6;

impl Sized {
    /// Rows that may hold cells.
    pub(crate) fn usable(&self) -> usize {
        (1usize << self.choice.k) - BLINDED
    }

    /// Columns of committed tensors.
    pub(crate) fn committed_columns(&self, l: &Lowered) -> usize {
        l.committed.iter().map(|c| commitment::columns(c.sources.len(), self.choice.k)).sum()
    }

    /// Columns of digests and committed tensors.
    pub(crate) fn extra_columns(&self, l: &Lowered) -> usize {
        self.hash.lanes * HASH_COLUMNS + self.committed_columns(l)
    }

    pub(crate) fn lanes(&self, l: &Lowered) -> Vec<LookupLane> {
        let mut lanes = Vec::new();
        for unit in 0..self.choice.units as u16 {
            if self.shape.function {
                lanes.push(LookupLane::Function { unit });
            }
            let used = |i: u16| {
                self.placed.iter().any(|p| p.packed.codes.iter().any(|c| c.ranges[i as usize].is_some()))
            };
            lanes.extend(
                (0..self.shape.ranges).filter(|&i| used(i)).map(|index| LookupLane::Range { unit, index }),
            );
        }
        if !l.store_fixed && on(Site::StoreLane) {
            lanes.extend((0..self.choice.store as u16).map(|column| LookupLane::Store { column }));
        }
        lanes.extend((0..self.table_sets as u16).map(|set| LookupLane::Table { set }));
        // The last one: its running sum may have to wait for a later phase.
        lanes.extend((!l.row_tables.is_empty()).then_some(LookupLane::Folded));
        lanes
    }

    /// Weights per store row.
    pub(crate) fn per_row(&self) -> usize {
        (self.choice.store / self.store_limbs.max(1)).max(1) as usize
    }
}

/// Columns, rows, fixed values and copies.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) sized: Sized,
    pub(crate) lowered: Lowered,
    pub(crate) lanes: Vec<LookupLane>,
    /// First row of each strip.
    pub(crate) strip_rows: Vec<u32>,
    pub(crate) bulk_rows: Vec<u32>,
    pub(crate) junk_rows: Vec<u32>,
    pub(crate) kinds: Vec<RowKind>,
    /// Kind of each row of units.
    pub(crate) row_kinds: Vec<u32>,
    pub(crate) unit_field: Factored<UnitSlot>,
    pub(crate) bulk_field: Factored<BulkSlot>,
    pub(crate) bulk_kinds: Vec<u16>,
    pub(crate) scalar_field: Factored<ScalarSlot>,
    pub(crate) scalar_kinds: Vec<u32>,
    pub(crate) hash: HashLayout,
    pub(crate) constants: Vec<i64>,
    pub(crate) copies: Vec<(Cell, Cell)>,
    /// Columns that take part in copies.
    pub(crate) equal: Vec<Col>,
    /// Slots of each strip that no element has.
    pub(crate) idle: Vec<Vec<u32>>,
    pub(crate) has_b: bool,
    /// Where the entries of tables stand, by set and row.
    pub(crate) table_runs: Vec<Run>,
    /// Instance rows.
    pub(crate) instance: usize,
    /// Bulk segment and position of the elements of stored weights that convolutions use; no segment is `u32::MAX`.
    stored: HashMap<u32, Vec<(u32, u32)>>,
}

impl Layout {
    pub(crate) fn usable(&self) -> usize {
        self.sized.usable()
    }

    pub(crate) fn units(&self) -> u32 {
        self.sized.choice.units
    }

    pub(crate) fn placed(&self, strip: usize) -> &Placed {
        &self.sized.placed[self.sized.spec_of[strip] as usize]
    }

    /// Rows of one unit of a strip's template.
    pub(crate) fn depth(&self, strip: usize) -> u32 {
        self.lowered.strips[strip].span / self.units()
    }

    pub(crate) fn slot_row(&self, strip: usize, slot: u32, unit: u16) -> u32 {
        let depth = self.depth(strip);
        self.strip_rows[strip] + u32::from(unit) * depth + (depth - 1 - slot / self.units())
    }

    pub(crate) fn slot_cell(&self, strip: usize, slot: u32, unit: u16, position: u16) -> Cell {
        let lane = (slot % self.units()) as u16;
        Cell {
            col: Col::Unit(lane * self.sized.shape.cells() + position),
            row: self.slot_row(strip, slot, unit),
        }
    }

    /// The cell of an element.
    pub(crate) fn home(&self, tensor: u32, index: u32) -> Option<Cell> {
        let Home::Strip { strip, out } = self.lowered.homes.get(tensor as usize)? else { return None };
        let placed = self.placed(*strip as usize);
        let var = *placed.template.outs.get(*out as usize)?;
        let (unit, position) = placed.packed.homes[var as usize]?;
        let slot = *self.lowered.strips[*strip as usize].slots.get(index as usize)?;
        Some(self.slot_cell(*strip as usize, slot, unit, position))
    }

    /// The cell of a scalar operand.
    pub(crate) fn reference(&self, r: Ref) -> Option<Cell> {
        match r {
            Ref::Value(Src::Cell { tensor, index }) => self.home(tensor, index),
            Ref::Value(Src::Const(_)) => None,
            Ref::Sweep(s) => {
                let sweep = &self.lowered.sweeps[s as usize];
                let unit = self.sweep_unit(sweep.strip as usize, sweep.out);
                let row = self.slot_row(sweep.strip as usize, sweep.from, unit) + 1;
                Some(Cell { col: Col::Lane(sweep.lane), row })
            }
            Ref::Bulk(b) => {
                let rows =
                    self.lowered.bulks[b as usize].elements.len().div_ceil(self.sized.per_row()) as u32;
                Some(Cell { col: Col::Bulk, row: self.bulk_rows[b as usize] + rows })
            }
            Ref::Junk(j) => {
                let rows = self.lowered.junks[j as usize].positions;
                Some(Cell { col: Col::Bulk, row: self.junk_rows[j as usize] + rows })
            }
            Ref::Row(r) => Some(Cell { col: Col::Acc, row: r + 1 }),
        }
    }

    fn sweep_unit(&self, strip: usize, out: Option<u16>) -> u16 {
        let placed = self.placed(strip);
        match out {
            None => placed.packed.port_unit.unwrap_or(0),
            Some(out) => placed.packed.homes[placed.template.outs[out as usize] as usize].map_or(0, |h| h.0),
        }
    }

    /// Where element `j` of a bulk segment stands: row, and first column.
    pub(crate) fn bulk_cell(&self, bulk: usize, j: usize) -> (u32, u16) {
        let per_row = self.sized.per_row();
        let rows = self.lowered.bulks[bulk].elements.len().div_ceil(per_row) as u32;
        let row = self.bulk_rows[bulk] + rows - 1 - (j / per_row) as u32;
        (row, ((j % per_row) as u32 * self.sized.store_limbs) as u16)
    }

    pub(crate) fn junk_row(&self, junk: usize, position: u32) -> u32 {
        self.junk_rows[junk] + self.lowered.junks[junk].positions - 1 - position
    }

    /// Row and first column of a stored weight, known where the circuit has convolutions or tells of its weights.
    pub(crate) fn stored(&self, tensor: u32, index: u32) -> Option<(u32, u16)> {
        let &(bulk, j) = self.stored.get(&tensor)?.get(index as usize)?;
        (bulk != u32::MAX).then(|| self.bulk_cell(bulk as usize, j as usize))
    }

    /// Follows aliases.
    pub(crate) fn resolve(&self, src: Src) -> Src {
        match src {
            Src::Cell { tensor, index } => match self.lowered.homes.get(tensor as usize) {
                Some(Home::Alias(sources)) => sources.get(index as usize).copied().unwrap_or(src),
                _ => src,
            },
            constant => constant,
        }
    }

    pub(crate) fn three_phases(&self) -> bool {
        !self.lowered.junks.is_empty()
    }

    /// Lookup lanes of one running sum.
    pub(crate) fn group(&self) -> usize {
        usize::from(self.sized.choice.lanes.max(1))
    }

    pub(crate) fn phis(&self) -> usize {
        self.lanes.len().div_ceil(self.group())
    }

    /// The running sum that waits for results of scalar rows, which in three phases are of the last.
    pub(crate) fn late_phi(&self) -> Option<usize> {
        let waits = self.three_phases() && !self.lowered.row_tables.is_empty();
        waits.then(|| self.phis().saturating_sub(1))
    }

    /// Columns of multiplicities.
    pub(crate) fn multiplicities(&self) -> usize {
        self.sized.table_sets + usize::from(!self.lowered.row_tables.is_empty())
    }

    /// The column of multiplicities of rows that are looked up whole: a row's stands beside its scalar row.
    pub(crate) fn folded_multiplicity(&self) -> Option<Col> {
        (!self.lowered.row_tables.is_empty()).then_some(Col::Multiplicity(self.sized.table_sets as u16))
    }

    pub(crate) fn sweeping(&self, lane: u8) -> bool {
        self.lowered.sweeps.iter().any(|s| s.lane == lane)
    }

    pub(crate) fn bulking(&self) -> bool {
        !self.lowered.bulks.is_empty() || !self.lowered.junks.is_empty()
    }

    /// First column of a committed tensor.
    pub(crate) fn committed_column(&self, at: usize) -> usize {
        let k = self.sized.choice.k;
        self.lowered.committed[..at].iter().map(|c| commitment::columns(c.sources.len(), k)).sum()
    }

    /// Cells and sources of a committed tensor.
    pub(crate) fn committed_cells(&self, at: usize) -> Vec<(Cell, Src)> {
        let capacity = commitment::column_capacity(self.sized.choice.k).max(1);
        let first = self.committed_column(at);
        let each = self.lowered.committed[at].sources.iter().enumerate();
        each.map(|(i, &src)| {
            let col = Col::Committed((first + i / capacity) as u16);
            (Cell { col, row: (i % capacity) as u32 }, src)
        })
        .collect()
    }

    /// Every table entry: its section, its position there, and the multiplicity of its row.
    pub(crate) fn table_entries(&self) -> impl Iterator<Item = (Section, usize, Cell)> + '_ {
        self.table_runs.iter().flat_map(|run| {
            let cell = |i| Cell { col: Col::Multiplicity(run.set as u16), row: (run.row + i) as u32 };
            (0..run.len).map(move |i| (run.section, run.from + i, cell(i)))
        })
    }

    /// The entry at a row of a set, if there is one.
    pub(crate) fn table_entry(&self, set: u16, row: usize) -> Option<(Section, usize)> {
        let at = self.table_runs.partition_point(|run| (run.set, run.row) <= (set.into(), row));
        let run = self.table_runs.get(at.checked_sub(1)?)?;
        (run.set == usize::from(set) && row < run.row + run.len)
            .then(|| (run.section, run.from + row - run.row))
    }
}

/// Whether the numbers of columns and rows are within the widths of [`Col`] and [`Cell`].
fn counted(l: &Lowered, s: &Sized) -> Result<(), PlanError> {
    let units = s.choice.units as usize * usize::from(s.shape.cells());
    let codes = s.placed.iter().map(|p| p.packed.codes.len()).max().unwrap_or(0);
    for (what, count, most) in [
        ("columns of units", units, u16::MAX.into()),
        ("store columns", s.choice.store as usize, u16::MAX.into()),
        ("sets of tables", s.table_sets, u16::MAX.into()),
        ("columns of digests", s.hash.lanes * HASH_COLUMNS, u16::MAX.into()),
        ("columns of committed tensors", s.committed_columns(l), u16::MAX.into()),
        ("rows of one element", codes, u16::MAX.into()),
        ("rows", s.unit_rows.max(s.bulk_rows).max(l.scalars.len()), u32::MAX as usize),
        ("public values", l.public.len() + l.hashes.len(), u32::MAX as usize),
    ] {
        if count > most {
            return Err(PlanError::Unsupported(format!("{count} {what}; at most {most}")));
        }
    }
    Ok(())
}

/// Lays a candidate out.
pub(crate) fn lay_out(lowered: Lowered, sized: Sized) -> Result<Layout, PlanError> {
    counted(&lowered, &sized)?;
    let mut layout = outline(lowered, sized);
    copies(&mut layout)?;
    Ok(layout)
}

/// All but the copies.
pub(crate) fn outline(lowered: Lowered, sized: Sized) -> Layout {
    let lanes = sized.lanes(&lowered);
    let mut layout = Layout {
        lanes,
        strip_rows: Vec::new(),
        bulk_rows: Vec::new(),
        junk_rows: Vec::new(),
        kinds: Vec::new(),
        row_kinds: vec![u32::MAX; sized.unit_rows],
        unit_field: factor(&[]),
        bulk_field: factor(&[]),
        bulk_kinds: Vec::new(),
        scalar_field: factor(&[]),
        scalar_kinds: Vec::new(),
        hash: HashLayout::new(&lowered.hashes, sized.hash),
        constants: Vec::new(),
        copies: Vec::new(),
        equal: Vec::new(),
        idle: Vec::new(),
        has_b: lowered.scalars.iter().any(|r| r.b.is_some()),
        table_runs: sized.tables.runs(sized.usable() - 1),
        instance: lowered.public.len() + lowered.hashes.len(),
        stored: HashMap::new(),
        sized,
        lowered,
    };
    let mut row = 0;
    for strip in 0..layout.lowered.strips.len() {
        layout.strip_rows.push(row);
        row += layout.depth(strip) * layout.placed(strip).packed.codes.len() as u32;
        let s = &layout.lowered.strips[strip];
        let mut taken = vec![false; s.span as usize];
        s.slots.iter().for_each(|&slot| taken[slot as usize] = true);
        layout.idle.push((0..s.span).filter(|&slot| !taken[slot as usize]).collect());
    }
    let per_row = layout.sized.per_row();
    let mut row = 0;
    for bulk in &layout.lowered.bulks {
        layout.bulk_rows.push(row);
        row += bulk.elements.len().div_ceil(per_row) as u32;
    }
    for junk in &layout.lowered.junks {
        layout.junk_rows.push(row);
        row += junk.positions;
    }
    if layout.three_phases() || layout.lowered.store_told {
        for (at, bulk) in layout.lowered.bulks.iter().enumerate() {
            let places = layout.stored.entry(bulk.tensor).or_default();
            for (j, index) in bulk.elements.iter().enumerate() {
                if places.len() <= index as usize {
                    places.resize(index as usize + 1, (u32::MAX, 0));
                }
                places[index as usize] = (at as u32, j as u32);
            }
        }
    }
    unit_rows(&mut layout);
    bulk_rows(&mut layout);
    scalar_rows(&mut layout);
    layout
}

fn unit_rows(layout: &mut Layout) {
    let units = layout.units();
    let mut sweeps: HashMap<u32, [Option<SweepRow>; 2]> = HashMap::new();
    for sweep in &layout.lowered.sweeps {
        let strip = sweep.strip as usize;
        let unit = layout.sweep_unit(strip, sweep.out);
        let placed = layout.placed(strip);
        let cell = sweep.out.and_then(|out| placed.packed.homes[placed.template.outs[out as usize] as usize]);
        let rows = (sweep.to / units - sweep.from / units) as usize + 1;
        for r in 0..rows {
            let row = layout.slot_row(strip, sweep.from + r as u32 * units, unit);
            let mul = if r + 1 == rows { None } else { Some((sweep.base, sweep.jumps[r])) };
            let mul = mul.map(|(base, jump)| if jump == 0 { (Base::One, 0) } else { (base, jump) });
            let (base, step) = if units == 1 { (Base::One, 0) } else { (sweep.base, sweep.step) };
            sweeps.entry(row).or_default()[sweep.lane as usize] =
                Some(SweepRow { cell: cell.map(|c| c.1), base, step, mul });
        }
    }
    let mut known: HashMap<RowKind, u32> = HashMap::new();
    for strip in 0..layout.lowered.strips.len() {
        let spec = layout.sized.spec_of[strip];
        let codes = layout.placed(strip).packed.codes.len();
        for unit in 0..codes as u16 {
            for depth in 0..layout.depth(strip) {
                let row = layout.strip_rows[strip] + u32::from(unit) * layout.depth(strip) + depth;
                let kind = RowKind { spec, unit, sweeps: sweeps.get(&row).copied().unwrap_or_default() };
                let at = *known.entry(kind.clone()).or_insert_with(|| {
                    layout.kinds.push(kind);
                    layout.kinds.len() as u32 - 1
                });
                layout.row_kinds[row as usize] = at;
            }
        }
    }
    let vectors: Vec<BTreeMap<UnitSlot, Fr>> = layout.kinds.iter().map(|k| unit_vector(layout, k)).collect();
    layout.unit_field = factor(&vectors);
}

/// An expression as monomials.
pub(crate) fn terms(q: &Quad) -> Vec<(Mono, Fr)> {
    let mut out = vec![(Mono::One, fr(q.constant))];
    out.extend(q.lin.iter().map(|&(c, v)| (Mono::Lin(v), fr(c))));
    out.extend(q.quad.iter().map(|&(c, a, b)| (Mono::Quad(a, b), fr(c))));
    out
}

fn unit_vector(layout: &Layout, kind: &RowKind) -> BTreeMap<UnitSlot, Fr> {
    let code = &layout.sized.placed[kind.spec as usize].packed.codes[kind.unit as usize];
    let tables = &layout.sized.tables;
    let mut v = BTreeMap::new();
    for (i, eq) in code.eqs.iter().enumerate() {
        v.extend(terms(eq).into_iter().map(|(m, c)| (UnitSlot::Eq(i as u8, m), c)));
    }
    for (lane, sweep) in kind.sweeps.iter().enumerate() {
        let Some(s) = sweep else { continue };
        let lane = lane as u8;
        match (s.cell, &code.port) {
            (Some(cell), _) => {
                v.insert(UnitSlot::Port(lane, s.base, s.step, Mono::Lin(cell)), Fr::ONE);
            }
            (None, Some(port)) => {
                v.extend(terms(port).into_iter().map(|(m, c)| (UnitSlot::Port(lane, s.base, s.step, m), c)));
            }
            (None, None) => {}
        }
        if let Some((base, jump)) = s.mul {
            v.insert(UnitSlot::Mul(lane, base, jump), Fr::ONE);
        }
    }
    for (i, range) in code.ranges.iter().enumerate() {
        if let Some(section) = range {
            v.insert(UnitSlot::RangeOn(i as u16), Fr::ONE);
            v.insert(UnitSlot::RangeTag(i as u16), Fr::from(tables.tag(*section)));
        }
    }
    if let Some(lane) = code.function {
        v.insert(UnitSlot::FnTag, Fr::from(tables.tag(lane.section)));
        v.insert(if lane.provides { UnitSlot::FnProvides } else { UnitSlot::FnOn }, Fr::ONE);
    }
    v
}

fn bulk_rows(layout: &mut Layout) {
    let one = Fr::ONE;
    // Store start, store, junk start, junk, and their unused kin; then the starts of store segments whose first row has padding that counts.
    let mut kinds: Vec<BTreeMap<BulkSlot, Fr>> = vec![
        [(BulkSlot::Store, one)].into(),
        [(BulkSlot::Store, one), (BulkSlot::Tau, one)].into(),
        [(BulkSlot::Junk, one)].into(),
        [(BulkSlot::Junk, one), (BulkSlot::Rho, one)].into(),
        [].into(),
        [(BulkSlot::Rho, one)].into(),
    ];
    let whole = kinds.len() - 1;
    let per_row = layout.sized.per_row();
    kinds.extend((1..per_row as u16).map(|weights| [(BulkSlot::Part(weights), one)].into()));
    let mut rows: Vec<u16> = Vec::with_capacity(layout.sized.bulk_rows);
    for bulk in &layout.lowered.bulks {
        let (count, left) = (bulk.elements.len().div_ceil(per_row), bulk.elements.len() % per_row);
        let counts = bulk.exact && !layout.lowered.store_fixed;
        let first = if counts && left > 0 && on(Site::StorePart) { (whole + left) as u16 } else { 0 };
        rows.extend((0..count).map(|r| if r > 0 { 1 } else { first }));
    }
    for junk in &layout.lowered.junks {
        for position in (0..junk.positions as usize).rev() {
            let first = position + 1 == junk.positions as usize;
            let wanted = junk.wanted[position] && on(Site::JunkPlaces);
            rows.push(match (wanted, first) {
                (false, true) => 2,
                (false, false) => 3,
                (true, true) => 4,
                (true, false) => 5,
            });
        }
    }
    let used: BTreeSet<u16> = rows.iter().copied().collect();
    let used: Vec<BTreeMap<BulkSlot, Fr>> = (0..)
        .zip(kinds)
        .map(|(kind, slots)| if used.contains(&kind) { slots } else { BTreeMap::new() })
        .collect();
    layout.bulk_field = factor(&used);
    layout.bulk_kinds = rows;
}

fn scalar_rows(layout: &mut Layout) {
    let mut known: BTreeMap<Vec<(ScalarSlot, i128)>, u32> = BTreeMap::new();
    let mut vectors = Vec::new();
    let tables = Arc::clone(&layout.sized.tables);
    for row in &layout.lowered.scalars {
        let mut v: Vec<(ScalarSlot, i128)> = Vec::new();
        match row.mul {
            Mul::Zero => {}
            Mul::One => v.push((ScalarSlot::One, 1)),
            Mul::Rho => v.push((ScalarSlot::Rho, 1)),
            Mul::Tau => v.push((ScalarSlot::Tau, 1)),
        }
        for (slot, value) in [
            (ScalarSlot::Product, row.product),
            (ScalarSlot::Linear, row.linear),
            (ScalarSlot::Constant, row.constant),
            (ScalarSlot::ConstantRho, row.rho),
            (ScalarSlot::ConstantTau, row.tau),
            (ScalarSlot::Zero, row.zero.into()),
            (ScalarSlot::Entry, row.folded.is_some_and(|f| f.entry).into()),
            (ScalarSlot::Use, row.folded.is_some_and(|f| !f.entry).into()),
            (ScalarSlot::Tag, row.folded.map_or(0, |f| tables.tag(Section::Folded { id: f.table })).into()),
        ] {
            if value != 0 {
                v.push((slot, value));
            }
        }
        let at = *known.entry(v.clone()).or_insert_with(|| {
            vectors.push(v.into_iter().map(|(slot, c)| (slot, fr(c))).collect::<BTreeMap<_, _>>());
            vectors.len() as u32 - 1
        });
        layout.scalar_kinds.push(at);
    }
    layout.scalar_field = factor(&vectors);
}

/// Operand values of an element: `None` where it is idle.
pub(crate) fn operand_source(operands: &[Operand], w: u16, element: u32) -> Src {
    operands.get(w as usize).map_or(Src::Const(0), |o| o.at(element))
}
