//! Cells, and the values of the first phase.
//!
//! The first phase follows from the integer trace, element by element, each by its template's own formulas; a value outside its range is
//! reported in the model's names.

use std::collections::HashMap;
use std::sync::Arc;

use ff::{Field, PrimeField};
use halo2_axiom::halo2curves::bn256::Fr;
use rayon::prelude::*;

use crate::qir::Program;

use super::layout::{Cell, Col, Layout, operand_source};
use super::lowered::Src;
use super::num::{fr, isqrt};
use super::plan::ProveError;
use super::sites::{Site, on};
use super::table::Section;
use super::template::{Def, Spec, Var};
use super::values::Values;

/// Columns with values, each as long as the usable rows. Those of the first phase are shared by their clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) unit: Arc<Vec<Vec<Fr>>>,
    pub(crate) store: Arc<Vec<Vec<Fr>>>,
    pub(crate) multiplicity: Arc<Vec<Vec<Fr>>>,
    pub(crate) hash: Arc<Vec<Vec<Fr>>>,
    pub(crate) committed: Arc<Vec<Vec<Fr>>>,
    pub(crate) phi: Vec<Vec<Fr>>,
    pub(crate) junk: Vec<Fr>,
    pub(crate) bulk: Vec<Fr>,
    pub(crate) lanes: [Vec<Fr>; 2],
    pub(crate) a: Vec<Fr>,
    pub(crate) b: Vec<Fr>,
    pub(crate) acc: Vec<Fr>,
    pub(crate) constants: Vec<Fr>,
    pub(crate) instance: Vec<Fr>,
}

impl Columns {
    /// A column.
    pub(crate) fn column(&self, col: Col) -> &[Fr] {
        let none: &[Fr] = &[];
        match col {
            Col::Unit(i) => self.unit.get(i as usize).map_or(none, Vec::as_slice),
            Col::Store(i) => self.store.get(i as usize).map_or(none, Vec::as_slice),
            Col::Multiplicity(i) => self.multiplicity.get(i as usize).map_or(none, Vec::as_slice),
            Col::Hash(i) => self.hash.get(i as usize).map_or(none, Vec::as_slice),
            Col::Committed(i) => self.committed.get(i as usize).map_or(none, Vec::as_slice),
            Col::Phi(i) => self.phi.get(i as usize).map_or(none, Vec::as_slice),
            Col::Lane(i) => self.lanes.get(i as usize).map_or(none, Vec::as_slice),
            Col::Junk => &self.junk,
            Col::Bulk => &self.bulk,
            Col::A => &self.a,
            Col::B => &self.b,
            Col::Acc => &self.acc,
            Col::Const => &self.constants,
            Col::Instance => &self.instance,
        }
    }

    /// The value of a cell; zero where nothing is assigned.
    pub(crate) fn get(&self, cell: Cell) -> Fr {
        self.column(cell.col).get(cell.row as usize).copied().unwrap_or(Fr::ZERO)
    }

    /// Changes a cell.
    pub(crate) fn set(&mut self, cell: Cell, value: Fr) {
        let column = match cell.col {
            Col::Unit(i) => Arc::make_mut(&mut self.unit).get_mut(i as usize),
            Col::Store(i) => Arc::make_mut(&mut self.store).get_mut(i as usize),
            Col::Multiplicity(i) => Arc::make_mut(&mut self.multiplicity).get_mut(i as usize),
            Col::Hash(i) => Arc::make_mut(&mut self.hash).get_mut(i as usize),
            Col::Committed(i) => Arc::make_mut(&mut self.committed).get_mut(i as usize),
            Col::Phi(i) => self.phi.get_mut(i as usize),
            Col::Lane(i) => self.lanes.get_mut(i as usize),
            Col::Junk => Some(&mut self.junk),
            Col::Bulk => Some(&mut self.bulk),
            Col::A => Some(&mut self.a),
            Col::B => Some(&mut self.b),
            Col::Acc => Some(&mut self.acc),
            Col::Const => Some(&mut self.constants),
            Col::Instance => Some(&mut self.instance),
        };
        if let Some(slot) = column.and_then(|c| c.get_mut(cell.row as usize)) {
            *slot = value;
        }
    }

    /// The value of a source.
    pub(crate) fn source(&self, layout: &Layout, src: Src) -> Fr {
        match src {
            Src::Const(c) => fr(c.into()),
            Src::Cell { tensor, index } => match layout.home(tensor, index) {
                Some(cell) => self.get(cell),
                None => Fr::ZERO,
            },
        }
    }
}

/// Cells and lookups of some elements.
#[derive(Default)]
struct Filled {
    cells: Vec<(Cell, Fr)>,
    uses: Vec<(Section, usize)>,
    vars: Vec<i128>,
}

/// Evaluates a strip's template, element by element.
struct Filler<'a> {
    layout: &'a Layout,
    values: &'a Values,
    at: usize,
    acc: &'a [i128],
    reads: &'a [HashMap<i128, u64>],
}

impl Filler<'_> {
    fn fill(
        &self,
        to: &mut Filled,
        slot: u32,
        element: Option<u32>,
        repeated: bool,
    ) -> Result<(), ProveError> {
        let strip = &self.layout.lowered.strips[self.at];
        let placed = self.layout.placed(self.at);
        let tables = &self.layout.sized.tables;
        let out_of = |value: i128, lo: i128, hi: i128| ProveError::OutOfRange {
            layer: strip.name.clone(),
            element: element.unwrap_or(0) as usize,
            value,
            lo,
            hi,
        };
        let position = |section: Section, value: i128| {
            let first = i128::from(tables.first(section));
            let last = first + tables.rows(section) as i128 - 1;
            tables.position(section, value).ok_or_else(|| out_of(value, first, last))
        };
        let vars = &mut to.vars;
        vars.clear();
        for def in &placed.template.defs {
            let var = |v: &Var| vars[*v as usize];
            let value: i128 = match def {
                Def::Wire(w) | Def::Given(w) => {
                    element.map_or(0, |e| self.values.get(operand_source(&strip.operands, *w, e)).into())
                }
                Def::Acc => element.and_then(|e| self.acc.get(e as usize)).copied().unwrap_or(0),
                Def::Quad(q) => {
                    q.eval(vars).ok_or_else(|| ProveError::Overflow { layer: strip.name.clone() })?
                }
                Def::Shr(x, s) => var(x) >> s,
                Def::Limb(x, shift, 0) => var(x) >> shift,
                Def::Limb(x, shift, bits) => (var(x) >> shift) & ((1 << bits) - 1),
                Def::Positive(x) => (var(x) >= 0).into(),
                Def::Relu(x) => var(x).max(0),
                Def::Table(section, x, out) => {
                    let entry = tables.entry(*section, position(*section, var(x))?);
                    (if *out == 0 { entry.0 } else { entry.1 }).into()
                }
                Def::DivFloor(x, y) if var(y) >= 1 => var(x).div_euclid(var(y)),
                Def::DivFloor(_, y) => return Err(out_of(var(y), 1, i64::MAX.into())),
                Def::Sqrt(x) if var(x) >= 0 => isqrt(var(x)),
                Def::Sqrt(x) => return Err(out_of(var(x), 0, i64::MAX.into())),
                Def::Reads(id, key) if !repeated => {
                    let reads = self.reads.get(*id as usize);
                    reads.and_then(|r| r.get(&var(key))).copied().unwrap_or(0).into()
                }
                Def::Reads(..) => 0,
            };
            vars.push(value);
        }
        if let (Some(e), false) = (element, repeated) {
            for (&v, &tensor) in placed.template.outs.iter().zip(&strip.outs) {
                let got = i128::from(self.values.get(Src::Cell { tensor, index: e }));
                if got != vars[v as usize] {
                    let (layer, computed) = (strip.name.clone(), vars[v as usize]);
                    return Err(ProveError::Mismatch { layer, element: e as usize, got, computed });
                }
            }
        }
        for &(v, section) in &placed.template.ranges {
            to.uses.push((section, position(section, vars[v as usize])?));
        }
        for f in &placed.template.fns {
            if !matches!(f.section, Section::Dynamic { .. }) {
                to.uses.push((f.section, position(f.section, vars[f.key as usize])?));
            }
        }
        for (unit, places) in placed.packed.places.iter().enumerate() {
            for place in places {
                let cell = self.layout.slot_cell(self.at, slot, unit as u16, place.position);
                to.cells.push((cell, fr(vars[place.var as usize])));
            }
        }
        Ok(())
    }
}

/// The first phase.
pub(crate) fn first(
    p: &Program,
    layout: &Layout,
    trace: &[Option<Arc<[i64]>>],
) -> Result<Columns, ProveError> {
    let values = Values::new(p, layout, trace)?;
    let rows = layout.usable();
    let tables = &layout.sized.tables;
    let mut columns = Columns {
        unit: Arc::new(vec![
            vec![Fr::ZERO; rows];
            layout.sized.shape.cells() as usize * layout.units() as usize
        ]),
        store: Arc::new(vec![vec![Fr::ZERO; rows]; layout.sized.choice.store as usize]),
        multiplicity: Arc::new(vec![vec![Fr::ZERO; rows]; layout.multiplicities()]),
        constants: layout.constants.iter().map(|&c| fr(c.into())).collect(),
        instance: layout.lowered.public.iter().map(|&src| fr(values.get(src).into())).collect(),
        ..Columns::default()
    };
    let mut counts: HashMap<Section, Vec<u64>> =
        tables.sections().map(|s| (s, vec![0; tables.rows(s)])).collect();
    let reads = dynamic_reads(layout, &values);
    for (at, strip) in layout.lowered.strips.iter().enumerate() {
        let acc = match &strip.accumulate {
            Some(a) => values.accumulators(p, a.op, &a.terms)?,
            None => Vec::new(),
        };
        let filler = Filler { layout, values: &values, at, acc: &acc, reads: &reads };
        // Idle units of a folded strip have an accumulator of zero and no operands, those of a gathered row are zero; others repeat the first
        // element.
        let again = if strip.accumulate.is_some() || strip.spec == Spec::Gathered { None } else { Some(0) };
        let elements = strip.slots.par_iter().enumerate().map(|(e, &slot)| (slot, Some(e as u32), false));
        let idle = layout.idle[at].par_iter().map(|&slot| (slot, again, true));
        let done: Vec<Filled> = elements
            .chain(idle)
            .fold(
                || Ok(Filled::default()),
                |filled: Result<Filled, ProveError>, (slot, element, repeated)| {
                    let mut filled = filled?;
                    filler.fill(&mut filled, slot, element, repeated)?;
                    Ok(filled)
                },
            )
            .collect::<Result<_, _>>()?;
        for filled in done {
            for (cell, value) in filled.cells {
                columns.set(cell, value);
            }
            for (section, position) in filled.uses {
                if let Some(counts) = counts.get_mut(&section) {
                    counts[position] += 1;
                }
            }
        }
    }
    let (hash, digests) = layout.hash.witness(&layout.lowered.hashes, rows, |src| values.get(src));
    columns.hash = Arc::new(hash);
    columns.instance.extend(digests);
    let committed = layout.sized.committed_columns(&layout.lowered);
    columns.committed = Arc::new(vec![vec![Fr::ZERO; rows]; committed]);
    for at in 0..layout.lowered.committed.len() {
        for (cell, src) in layout.committed_cells(at) {
            columns.set(cell, fr(values.get(src).into()));
        }
    }
    store(p, layout, &values, &mut columns, &mut counts)?;
    let multiplicities = Arc::make_mut(&mut columns.multiplicity);
    for run in &layout.table_runs {
        let Some(counts) = counts.get(&run.section) else { continue };
        let rows = multiplicities[run.set].iter_mut().skip(run.row);
        rows.zip(&counts[run.from..run.from + run.len]).for_each(|(m, &count)| *m = Fr::from(count));
    }
    row_counts(layout, &mut columns);
    Ok(columns)
}

/// How often each row that is looked up whole is read, by the numbers in the cells.
pub(crate) fn row_counts(layout: &Layout, columns: &mut Columns) {
    let Some(col) = layout.folded_multiplicity() else { return };
    for table in &layout.lowered.row_tables {
        let mut counts: HashMap<[u8; 32], u64> = HashMap::new();
        for &src in table.reads.iter().filter(|_| on(Site::RowUse)) {
            *counts.entry(columns.source(layout, src).to_repr()).or_default() += 1;
        }
        for (number, &row) in table.entries.iter().enumerate() {
            let count = counts.get(&Fr::from(number as u64).to_repr()).copied().unwrap_or(0);
            columns.set(Cell { col, row }, Fr::from(count));
        }
    }
}

/// How often each key of each dynamic table is read.
fn dynamic_reads(layout: &Layout, values: &Values) -> Vec<HashMap<i128, u64>> {
    let mut reads = vec![HashMap::new(); layout.lowered.dynamics as usize];
    for (at, strip) in layout.lowered.strips.iter().enumerate() {
        let Spec::Read { dynamic, width } = strip.spec else { continue };
        let mut count = |element: u32, times: u64| {
            let part = |w: u16| i128::from(values.get(operand_source(&strip.operands, w, element)));
            *reads[dynamic as usize].entry(part(0) * i128::from(width) + part(1)).or_insert(0) += times;
        };
        (0..strip.elements).for_each(|e| count(e, 1));
        if !layout.idle[at].is_empty() {
            count(0, layout.idle[at].len() as u64);
        }
    }
    reads
}

fn store(
    p: &Program,
    layout: &Layout,
    values: &Values,
    columns: &mut Columns,
    counts: &mut HashMap<Section, Vec<u64>>,
) -> Result<(), ProveError> {
    let limbs = layout.sized.store_limbs;
    let bits = layout.sized.choice.store_limb;
    let tables = &layout.sized.tables;
    let mut used: HashMap<Section, u64> = HashMap::new();
    let stored = Arc::make_mut(&mut columns.store);
    for (at, bulk) in layout.lowered.bulks.iter().enumerate() {
        let tensor = bulk.tensor;
        for (j, index) in bulk.elements.iter().enumerate() {
            let (row, column) = layout.bulk_cell(at, j);
            let value = i128::from(values.get(Src::Cell { tensor, index }));
            for i in 0..limbs {
                let top = i + 1 == limbs;
                let limb = value >> (i * bits);
                let limb = if top { limb } else { limb & ((1 << bits) - 1) };
                if let Some((low, high)) = layout.sized.store_section {
                    let section = if top { high } else { low };
                    let position = tables.position(section, limb).ok_or_else(|| ProveError::OutOfRange {
                        layer: p.tensors[tensor as usize].name.clone(),
                        element: index as usize,
                        value,
                        lo: layout.lowered.store_bounds.0.into(),
                        hi: layout.lowered.store_bounds.1.into(),
                    })?;
                    if let Some(counts) = counts.get_mut(&section) {
                        counts[position] += 1;
                    }
                    *used.entry(section).or_default() += 1;
                }
                stored[column as usize + i as usize][row as usize] = fr(limb);
            }
        }
    }
    // Every other cell of the store is zero, on every active row, and looked up as well.
    if let Some((low, high)) = layout.sized.store_section {
        let active = layout.usable() as u64 - 1;
        let groups = u64::from(layout.sized.choice.store / limbs);
        for (section, columns) in [(low, u64::from(limbs - 1)), (high, 1)] {
            let cells = active * groups * columns;
            let idle = if low == high { 0 } else { cells - used.get(&section).copied().unwrap_or(0) };
            if let (Some(counts), Some(zero)) = (counts.get_mut(&section), tables.position(section, 0)) {
                counts[zero] += idle;
            }
        }
        if low == high {
            let cells = active * u64::from(layout.sized.choice.store);
            if let (Some(counts), Some(zero)) = (counts.get_mut(&low), tables.position(low, 0)) {
                counts[zero] += cells - used.get(&low).copied().unwrap_or(0);
            }
        }
    }
    Ok(())
}

/// Fixed values of the store.
pub(crate) fn fixed_store(p: &Program, layout: &Layout) -> Vec<Vec<Fr>> {
    let mut columns = vec![vec![Fr::ZERO; layout.usable()]; layout.sized.choice.store as usize];
    for (at, bulk) in layout.lowered.bulks.iter().enumerate() {
        let tensor = bulk.tensor;
        for (j, index) in bulk.elements.iter().enumerate() {
            let (row, column) = layout.bulk_cell(at, j);
            let data = p.tensors[tensor as usize].data.as_deref().unwrap_or_default();
            columns[column as usize][row as usize] =
                fr(data.get(index as usize).copied().unwrap_or(0).into());
        }
    }
    columns
}
