//! Values of the cells.
//!
//! The first phase follows from the integer trace, element by element, each by its template's own formulas; a value outside its range is
//! reported in the model's names. The later phases follow from the first and the challenges alone, cell by cell as the gates define them, so
//! whatever the first phase holds, the rest is the best that a prover could do with it.

use std::collections::HashMap;
use std::sync::Arc;

use ff::{BatchInvert, Field};
use halo2_axiom::halo2curves::bn256::Fr;

use crate::qir::{OpKind, Program, Role, TensorId, Term};

use super::contraction::{positions, strides};
use super::layout::{BulkSlot, Cell, Col, LANES, Layout, LookupLane, Mono, ScalarSlot, UnitSlot, operand_source};
use super::lower::{broadcast, sum_targets};
use super::lowered::{Base, Ref, Src, Virtual};
use super::num::{fr, isqrt};
use super::pack::UnitShape;
use super::plan::ProveError;
use super::table::Section;
use super::template::{Def, Spec};

/// Values of the challenges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChallengeValues {
    pub(crate) alpha: Fr,
    pub(crate) beta: Fr,
    pub(crate) gamma: Fr,
    pub(crate) tau: Fr,
    pub(crate) rho: Fr,
}

impl ChallengeValues {
    fn base(&self, base: Base) -> Fr {
        match base {
            Base::One => Fr::ONE,
            Base::Rho => self.rho,
            Base::Tau => self.tau,
        }
    }
}

/// Columns with values, each as long as the usable rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) unit: Vec<Vec<Fr>>,
    pub(crate) store: Vec<Vec<Fr>>,
    pub(crate) multiplicity: Vec<Vec<Fr>>,
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
            Col::Unit(i) => self.unit.get_mut(i as usize),
            Col::Store(i) => self.store.get_mut(i as usize),
            Col::Multiplicity(i) => self.multiplicity.get_mut(i as usize),
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

/// Values of every tensor, those of the circuit only included.
pub(crate) struct Values {
    tensors: Vec<Option<Arc<[i64]>>>,
}

impl Values {
    fn get(&self, src: Src) -> i64 {
        match src {
            Src::Const(c) => c,
            Src::Cell { tensor, index } => self
                .tensors
                .get(tensor as usize)
                .and_then(|t| t.as_ref())
                .and_then(|t| t.get(index as usize))
                .copied()
                .unwrap_or(0),
        }
    }

    fn tensor(&self, id: TensorId) -> &[i64] {
        self.tensors.get(id.0 as usize).and_then(|t| t.as_deref()).unwrap_or_default()
    }

    /// Completes a trace of the program's tensors.
    pub(crate) fn new(p: &Program, layout: &Layout, trace: &[Option<Arc<[i64]>>]) -> Result<Self, ProveError> {
        let mut values = Values { tensors: Vec::with_capacity(layout.lowered.homes.len()) };
        for (i, t) in p.tensors.iter().enumerate() {
            let found = t.data.clone().or_else(|| trace.get(i).cloned().flatten());
            let found = found.ok_or_else(|| ProveError::MissingTensor { tensor: t.name.clone() })?;
            if found.len() != t.len() {
                return Err(ProveError::WrongLength { tensor: t.name.clone(), got: found.len(), expected: t.len() });
            }
            if t.role == Role::Input {
                if let Some(at) = found.iter().position(|v| !(t.lo..=t.hi).contains(v)) {
                    let (layer, value) = (t.name.clone(), found[at].into());
                    return Err(ProveError::OutOfRange { layer, element: at, value, lo: t.lo.into(), hi: t.hi.into() });
                }
            }
            values.tensors.push(Some(found));
        }
        for v in &layout.lowered.virtuals {
            let found = values.virtual_tensor(p, v)?;
            values.tensors.push(Some(found.into()));
        }
        Ok(values)
    }

    fn virtual_tensor(&self, p: &Program, v: &Virtual) -> Result<Vec<i64>, ProveError> {
        Ok(match v {
            Virtual::PrefixMax { x, n } => {
                let mut out = Vec::with_capacity(x.len());
                for row in x.chunks(*n as usize) {
                    let mut best = self.get(row[0]);
                    for &src in &row[1..] {
                        best = best.max(self.get(src));
                        out.push(best);
                    }
                }
                out
            }
            Virtual::PrefixArg { x, n, last } => {
                let mut out = Vec::with_capacity(x.len());
                for row in x.chunks(*n as usize) {
                    let (mut best, mut at) = (self.get(row[0]), 0);
                    for (j, &src) in row.iter().enumerate().skip(1) {
                        let v = self.get(src);
                        if v > best || (*last && v == best) {
                            (best, at) = (v, j as i64);
                        }
                        out.push(at);
                    }
                }
                out
            }
            Virtual::SortKey { values, indices, bits, descending } => {
                let (x, i) = (self.tensor(TensorId(*values)), self.tensor(TensorId(*indices)));
                let sign = if *descending { -1 } else { 1 };
                x.iter().zip(i).map(|(x, i)| sign * (x << bits) + i).collect()
            }
            Virtual::Term { op, term } => self
                .accumulators(p, *op, &[*term])?
                .into_iter()
                .map(|v| {
                    i64::try_from(v).map_err(|_| ProveError::Overflow { layer: p.ops[*op as usize].name.clone() })
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// The sums of some terms of a Linear, by output element.
    fn accumulators(&self, p: &Program, op: u32, chosen: &[u32]) -> Result<Vec<i128>, ProveError> {
        let op = &p.ops[op as usize];
        let OpKind::Linear { terms, .. } = &op.kind else { return Ok(Vec::new()) };
        let shape = &p.tensor(op.outputs[0]).shape;
        let mut out = vec![0i128; shape.iter().product()];
        for &i in chosen {
            match &terms[i as usize] {
                Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } => {
                    self.einsum(p, (*a, a_axes), (*b, b_axes), out_axes, *coeff, &mut out);
                }
                Term::Conv { x, w, window, groups, coeff } => {
                    let (xs, ws) = (&p.tensor(*x).shape, &p.tensor(*w).shape);
                    let taps = taps(&xs[2..], &shape[2..], window);
                    let (area, pixels) = (xs[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
                    let size: usize = ws[2..].iter().product();
                    let per_group = ws[0] / groups;
                    let (x, w) = (self.tensor(*x), self.tensor(*w));
                    for n in 0..xs[0] {
                        for o in 0..ws[0] {
                            let to = &mut out[(n * ws[0] + o) * pixels..][..pixels];
                            for c in 0..ws[1] {
                                let channel = o / per_group * ws[1] + c;
                                let image = &x[(n * xs[1] + channel) * area..][..area];
                                let kernel = &w[(o * ws[1] + c) * size..][..size];
                                for (sum, taps) in to.iter_mut().zip(taps.chunks(size)) {
                                    let dot: i128 = taps
                                        .iter()
                                        .zip(kernel)
                                        .filter(|(t, _)| **t != usize::MAX)
                                        .map(|(&t, &k)| i128::from(image[t]) * i128::from(k))
                                        .sum();
                                    *sum += dot * i128::from(*coeff);
                                }
                            }
                        }
                    }
                }
                Term::SumPool { x, window, coeff } => {
                    let xs = &p.tensor(*x).shape;
                    let taps = taps(&xs[2..], &shape[2..], window);
                    let (area, pixels) = (xs[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
                    let size: usize = window.kernel.iter().product();
                    for (image, to) in self.tensor(*x).chunks(area.max(1)).zip(out.chunks_mut(pixels.max(1))) {
                        for (sum, taps) in to.iter_mut().zip(taps.chunks(size)) {
                            let total: i128 =
                                taps.iter().filter(|t| **t != usize::MAX).map(|&t| i128::from(image[t])).sum();
                            *sum += total * i128::from(*coeff);
                        }
                    }
                }
                Term::Sum { x, axes, coeff } => {
                    let targets = sum_targets(&p.tensor(*x).shape, axes);
                    for (&v, &target) in self.tensor(*x).iter().zip(&targets) {
                        out[target as usize] += i128::from(v) * i128::from(*coeff);
                    }
                }
                Term::Scale { x, coeff } => {
                    let map = broadcast(shape, &p.tensor(*x).shape);
                    let x = self.tensor(*x);
                    out.iter_mut().zip(map).for_each(|(o, i)| *o += i128::from(x[i as usize]) * i128::from(*coeff));
                }
                Term::Product { a, b, coeff } => {
                    let (ma, mb) = (broadcast(shape, &p.tensor(*a).shape), broadcast(shape, &p.tensor(*b).shape));
                    let (a, b) = (self.tensor(*a), self.tensor(*b));
                    for ((o, i), j) in out.iter_mut().zip(ma).zip(mb) {
                        *o += i128::from(a[i as usize]) * i128::from(b[j as usize]) * i128::from(*coeff);
                    }
                }
            }
        }
        Ok(out)
    }

    fn einsum(
        &self,
        p: &Program,
        (a, a_axes): (TensorId, &[u8]),
        (b, b_axes): (TensorId, &[u8]),
        out_axes: &[u8],
        coeff: i64,
        out: &mut [i128],
    ) {
        let (a_shape, b_shape) = (&p.tensor(a).shape, &p.tensor(b).shape);
        let (a_steps, b_steps) = (strides(a_shape), strides(b_shape));
        let mut labels: Vec<u8> = out_axes.to_vec();
        labels.extend(a_axes.iter().chain(b_axes).filter(|l| !out_axes.contains(l)));
        let mut seen = Vec::new();
        labels.retain(|l| if seen.contains(l) { false } else { seen.push(*l); true });
        let find = |axes: &[u8], shape: &[usize], steps: &[usize], label: u8| {
            axes.iter().position(|&l| l == label).map(|i| (shape[i], steps[i]))
        };
        let mut shape = Vec::new();
        let mut steps: Vec<[usize; 2]> = Vec::new();
        for &label in &labels {
            let (x, y) = (find(a_axes, a_shape, &a_steps, label), find(b_axes, b_shape, &b_steps, label));
            shape.push(x.or(y).map_or(1, |s| s.0));
            steps.push([x.map_or(0, |s| s.1), y.map_or(0, |s| s.1)]);
        }
        let kept = out_axes.len();
        let outer = super::contraction::offsets(&shape[..kept], &steps[..kept]);
        let inner = super::contraction::offsets(&shape[kept..], &steps[kept..]);
        let (a, b) = (self.tensor(a), self.tensor(b));
        for (sum, [oa, ob]) in out.iter_mut().zip(outer) {
            let dot: i128 =
                inner.iter().map(|&[ia, ib]| i128::from(a[oa + ia]) * i128::from(b[ob + ib])).sum();
            *sum += dot * i128::from(coeff);
        }
    }
}

/// Input element of each kernel element at each output element, `usize::MAX` in the padding.
fn taps(input: &[usize], output: &[usize], window: &crate::qir::Window) -> Vec<usize> {
    let rank = input.len();
    let index = |shape: &[usize], mut flat: usize| -> Vec<usize> {
        let mut out = vec![0; rank];
        for d in (0..rank).rev() {
            out[d] = flat % shape[d];
            flat /= shape[d];
        }
        out
    };
    let (pixels, size) = (output.iter().product::<usize>(), window.kernel.iter().product::<usize>());
    let kernel: Vec<Vec<usize>> = (0..size).map(|k| index(&window.kernel, k)).collect();
    let mut out = Vec::with_capacity(pixels * size);
    for p in 0..pixels {
        let o = index(output, p);
        for k in &kernel {
            let mut flat = Some(0);
            for d in 0..rank {
                let at = (o[d] * window.strides[d] + k[d] * window.dilations[d]).checked_sub(window.pads_begin[d]);
                flat = match (flat, at) {
                    (Some(flat), Some(at)) if at < input[d] => Some(flat * input[d] + at),
                    _ => None,
                };
            }
            out.push(flat.unwrap_or(usize::MAX));
        }
    }
    out
}

/// The first phase.
pub(crate) fn first(p: &Program, layout: &Layout, trace: &[Option<Arc<[i64]>>]) -> Result<Columns, ProveError> {
    let values = Values::new(p, layout, trace)?;
    let rows = layout.usable();
    let tables = &layout.sized.tables;
    let mut columns = Columns {
        unit: vec![vec![Fr::ZERO; rows]; layout.sized.shape.cells() as usize * layout.units() as usize],
        store: vec![vec![Fr::ZERO; rows]; layout.sized.choice.store as usize],
        multiplicity: vec![vec![Fr::ZERO; rows]; layout.sized.table_sets],
        constants: layout.constants.iter().map(|&c| fr(c.into())).collect(),
        instance: layout.lowered.public.iter().map(|&src| fr(values.get(src).into())).collect(),
        ..Columns::default()
    };
    let mut counts: HashMap<Section, Vec<u64>> = tables.sections().map(|s| (s, vec![0; tables.rows(s)])).collect();
    let reads = dynamic_reads(layout, &values);
    for (at, strip) in layout.lowered.strips.iter().enumerate() {
        let placed = layout.placed(at);
        let acc = match &strip.accumulate {
            Some(a) => values.accumulators(p, a.op, &a.terms)?,
            None => Vec::new(),
        };
        let mut cells = vec![0i128; placed.template.defs.len()];
        let mut fill = |slot: u32, element: Option<u32>, repeated: bool| -> Result<(), ProveError> {
            let shown = element.unwrap_or(0) as usize;
            let out_of = |value: i128, lo: i128, hi: i128| ProveError::OutOfRange {
                layer: strip.name.clone(),
                element: shown,
                value,
                lo,
                hi,
            };
            let overflow = || ProveError::Overflow { layer: strip.name.clone() };
            for v in 0..placed.template.defs.len() {
                let value: i128 = match &placed.template.defs[v] {
                    Def::Wire(w) | Def::Given(w) => {
                        element.map_or(0, |e| values.get(operand_source(&strip.operands, *w, e)).into())
                    }
                    Def::Acc => element.and_then(|e| acc.get(e as usize)).copied().unwrap_or(0),
                    Def::Quad(q) => q.eval(&cells).ok_or_else(overflow)?,
                    Def::Shr(x, s) => cells[*x as usize] >> s,
                    Def::Limb(x, shift, 0) => cells[*x as usize] >> shift,
                    Def::Limb(x, shift, bits) => (cells[*x as usize] >> shift) & ((1 << bits) - 1),
                    Def::Positive(x) => (cells[*x as usize] >= 0).into(),
                    Def::Relu(x) => cells[*x as usize].max(0),
                    Def::Table(section, x, out) => {
                        let key = cells[*x as usize];
                        let first = i128::from(tables.first(*section));
                        let position = tables
                            .position(*section, key)
                            .ok_or_else(|| out_of(key, first, first + tables.rows(*section) as i128 - 1))?;
                        let entry = tables.entry(*section, position);
                        (if *out == 0 { entry.0 } else { entry.1 }).into()
                    }
                    Def::DivFloor(x, y) => {
                        let (x, y) = (cells[*x as usize], cells[*y as usize]);
                        if y < 1 {
                            return Err(out_of(y, 1, i128::from(i64::MAX)));
                        }
                        x.div_euclid(y)
                    }
                    Def::Sqrt(x) => {
                        let x = cells[*x as usize];
                        if x < 0 {
                            return Err(out_of(x, 0, i128::from(i64::MAX)));
                        }
                        isqrt(x)
                    }
                    Def::Reads(id, key) if !repeated => {
                        let key = cells[*key as usize];
                        reads.get(*id as usize).and_then(|r| r.get(&key)).copied().unwrap_or(0).into()
                    }
                    Def::Reads(..) => 0,
                };
                cells[v] = value;
            }
            for (v, section) in &placed.template.ranges {
                let value = cells[*v as usize];
                let first = i128::from(tables.first(*section));
                let position = tables
                    .position(*section, value)
                    .ok_or_else(|| out_of(value, first, first + tables.rows(*section) as i128 - 1))?;
                if let Some(counts) = counts.get_mut(section) {
                    counts[position] += 1;
                }
            }
            for f in &placed.template.fns {
                let (Some(counts), false) = (counts.get_mut(&f.section), matches!(f.section, Section::Dynamic { .. }))
                else {
                    continue;
                };
                let key = cells[f.key as usize];
                let first = i128::from(tables.first(f.section));
                let position = tables
                    .position(f.section, key)
                    .ok_or_else(|| out_of(key, first, first + tables.rows(f.section) as i128 - 1))?;
                counts[position] += 1;
            }
            for (unit, places) in placed.packed.places.iter().enumerate() {
                for place in places {
                    let cell = layout.slot_cell(at, slot, unit as u16, place.position);
                    columns.set(cell, fr(cells[place.var as usize]));
                }
            }
            Ok(())
        };
        for (element, &slot) in strip.slots.iter().enumerate() {
            fill(slot, Some(element as u32), false)?;
        }
        for &slot in &layout.idle[at] {
            fill(slot, if strip.accumulate.is_some() { None } else { Some(0) }, true)?;
        }
    }
    store(p, layout, &values, &mut columns, &mut counts)?;
    for (at, (section, position)) in layout.table_entries().enumerate() {
        let (set, row) = layout.table_cell(at);
        let count = counts.get(&section).map_or(0, |c| c[position]);
        columns.multiplicity[set as usize][row as usize] = Fr::from(count);
    }
    Ok(columns)
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
    for (at, bulk) in layout.lowered.bulks.iter().enumerate() {
        for (j, &(tensor, index)) in bulk.elements.iter().enumerate() {
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
                columns.store[column as usize + i as usize][row as usize] = fr(limb);
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
        for (j, &(tensor, index)) in bulk.elements.iter().enumerate() {
            let (row, column) = layout.bulk_cell(at, j);
            let data = p.tensors[tensor as usize].data.as_deref().unwrap_or_default();
            columns[column as usize][row as usize] = fr(data.get(index as usize).copied().unwrap_or(0).into());
        }
    }
    columns
}

/// The junk column: unwanted coefficients, folded over output channels by τ.
pub(crate) fn junk(p: &Program, layout: &Layout, columns: &mut Columns, tau: Fr) {
    columns.junk = if layout.three_phases() { vec![Fr::ZERO; layout.usable()] } else { Vec::new() };
    for (at, junk) in layout.lowered.junks.iter().enumerate() {
        let op = &p.ops[junk.op as usize];
        let OpKind::Linear { terms, .. } = &op.kind else { continue };
        let (x, w, window, groups, coeff) = match &terms[junk.term as usize] {
            Term::Conv { x, w, window, groups, coeff } => (*x, Some(*w), window, *groups, *coeff),
            Term::SumPool { x, window, coeff } => (*x, None, window, 1, *coeff),
            _ => continue,
        };
        let (xs, ys) = (&p.tensor(x).shape, &p.tensor(op.outputs[0]).shape);
        let Ok(places) = positions(&xs[2..], &ys[2..], window) else { continue };
        let area = places.input.len();
        let size = places.kernel.len();
        let powers: Vec<Fr> =
            std::iter::successors(Some(Fr::ONE), |x| Some(*x * tau)).take(ys[1].max(xs[1])).collect();
        let mut full = vec![Fr::ZERO; places.total as usize];
        for c in 0..xs[1] {
            let kernel: Vec<Fr> = match w {
                None => vec![powers[c]; size],
                Some(w) => {
                    let ws = &p.tensor(w).shape;
                    let (per_group, inputs) = (ws[0] / groups, ws[1]);
                    let group = c / inputs;
                    (0..size)
                        .map(|k| {
                            (0..per_group)
                                .map(|o| {
                                    let o = group * per_group + o;
                                    let index = ((o * inputs + c % inputs) * size + k) as u32;
                                    weight(layout, columns, w, index) * powers[o]
                                })
                                .sum()
                        })
                        .collect()
                }
            };
            let from = (junk.batch as usize * xs[1] + c) * area;
            for i in 0..area {
                let src = layout.resolve(Src::Cell { tensor: x.0, index: (from + i) as u32 });
                let v = columns.source(layout, src);
                if bool::from(v.is_zero()) {
                    continue;
                }
                for (k, &factor) in kernel.iter().enumerate() {
                    let position = (places.input[i] + places.kernel[k]) as usize;
                    if !junk.wanted[position] {
                        full[position] += v * factor;
                    }
                }
            }
        }
        let coeff = fr(coeff.into());
        for (position, value) in full.into_iter().enumerate() {
            columns.junk[layout.junk_row(at, position as u32) as usize] = value * coeff;
        }
    }
}

fn weight(layout: &Layout, columns: &Columns, tensor: TensorId, index: u32) -> Fr {
    match layout.stored(tensor.0, index) {
        Some((row, column)) => (0..layout.sized.store_limbs)
            .map(|i| {
                let cell = Cell { col: Col::Store(column + i as u16), row };
                columns.get(cell) * Fr::from(2).pow([u64::from(i * layout.sized.choice.store_limb)])
            })
            .sum(),
        None => columns.source(layout, layout.resolve(Src::Cell { tensor: tensor.0, index })),
    }
}

fn combine<K: Ord>(field: &super::factor::Factored<K>, kind: usize) -> Vec<(&K, Fr)> {
    let values = &field.values[kind];
    field
        .slots
        .iter()
        .map(|(slot, combo)| (slot, combo.iter().map(|&(c, x)| values[c] * x).sum::<Fr>()))
        .filter(|(_, x)| !bool::from(x.is_zero()))
        .collect()
}

fn mono(columns: &Columns, first: u16, mono: Mono, row: usize) -> Fr {
    let cell = |p: u16| columns.unit[(first + p) as usize][row];
    match mono {
        Mono::One => Fr::ONE,
        Mono::Lin(p) => cell(p),
        Mono::Quad(p, r) => cell(p) * cell(r),
    }
}

/// The sweeps and scalar rows, from everything before.
pub(crate) fn fold(layout: &Layout, columns: &mut Columns, ch: &ChallengeValues) {
    let rows = layout.usable();
    let units = layout.units() as u16;
    let cells = layout.sized.shape.cells();
    for lane in 0..2u8 {
        if !layout.sweeping(lane) {
            continue;
        }
        type Steps = (Fr, Vec<(Mono, Fr, Fr)>);
        let kinds: Vec<Steps> = (0..layout.kinds.len())
            .map(|kind| {
                let (mut mul, mut port) = (Fr::ZERO, Vec::new());
                for (slot, x) in combine(&layout.unit_field, kind) {
                    match *slot {
                        UnitSlot::Mul(l, base, jump) if l == lane => {
                            mul += x * ch.base(base).pow([u64::from(jump)]);
                        }
                        UnitSlot::Port(l, base, step, m) if l == lane => {
                            port.push((m, x, ch.base(base).pow([u64::from(step)])));
                        }
                        _ => {}
                    }
                }
                (mul, port)
            })
            .collect();
        let mut u = vec![Fr::ZERO; rows];
        for row in 0..rows - 1 {
            let Some(&kind) = layout.row_kinds.get(row) else { break };
            let Some((mul, port)) = kinds.get(kind as usize) else { continue };
            let mut next = u[row] * mul;
            for &(m, x, weight) in port {
                let mut total = Fr::ZERO;
                for unit in (0..units).rev() {
                    total = total * weight + mono(columns, unit * cells, m, row);
                }
                next += x * total;
            }
            u[row + 1] = next;
        }
        columns.lanes[lane as usize] = u;
    }
    if layout.bulking() {
        let per_row = layout.sized.per_row();
        let limbs = layout.sized.store_limbs as usize;
        let shift = Fr::from(1u64 << layout.sized.choice.store_limb.min(63));
        let tau_row = ch.tau.pow([per_row as u64]);
        let kinds: Vec<Vec<(BulkSlot, Fr)>> = (0..layout.bulk_field.values.len())
            .map(|kind| combine(&layout.bulk_field, kind).into_iter().map(|(s, x)| (*s, x)).collect())
            .collect();
        let mut u = vec![Fr::ZERO; rows];
        for row in 0..rows - 1 {
            let Some(&kind) = layout.bulk_kinds.get(row) else { break };
            let mut next = Fr::ZERO;
            for &(slot, x) in &kinds[kind as usize] {
                next += x * match slot {
                    BulkSlot::Tau => tau_row * u[row],
                    BulkSlot::Rho => ch.rho * u[row],
                    BulkSlot::Junk => columns.junk[row],
                    BulkSlot::Store => (0..per_row).rev().fold(Fr::ZERO, |sum, j| {
                        let weight = (0..limbs)
                            .rev()
                            .fold(Fr::ZERO, |w, i| w * shift + columns.store[j * limbs + i][row]);
                        sum * ch.tau + weight
                    }),
                };
            }
            u[row + 1] = next;
        }
        columns.bulk = u;
    }
    if layout.lowered.scalars.is_empty() {
        return;
    }
    columns.a = vec![Fr::ZERO; rows];
    columns.b = if layout.has_b { vec![Fr::ZERO; rows] } else { Vec::new() };
    columns.acc = vec![Fr::ZERO; rows];
    let kinds: Vec<Vec<(ScalarSlot, Fr)>> = (0..layout.scalar_field.values.len())
        .map(|kind| combine(&layout.scalar_field, kind).into_iter().map(|(s, x)| (*s, x)).collect())
        .collect();
    for (row, scalar) in layout.lowered.scalars.iter().enumerate() {
        let operand = |r: Option<Ref>, columns: &Columns| match r {
            None => Fr::ZERO,
            Some(Ref::Value(src)) => columns.source(layout, src),
            Some(r) => layout.reference(r).map_or(Fr::ZERO, |cell| columns.get(cell)),
        };
        let (a, b) = (operand(scalar.a, columns), operand(scalar.b, columns));
        columns.a[row] = a;
        if layout.has_b {
            columns.b[row] = b;
        }
        let acc = columns.acc[row];
        let mut next = Fr::ZERO;
        for &(slot, x) in &kinds[layout.scalar_kinds[row] as usize] {
            next += x * match slot {
                ScalarSlot::One => acc,
                ScalarSlot::Rho => ch.rho * acc,
                ScalarSlot::Tau => ch.tau * acc,
                ScalarSlot::Product => a * b,
                ScalarSlot::Linear => a,
                ScalarSlot::Constant => Fr::ONE,
                ScalarSlot::ConstantRho => ch.rho,
                ScalarSlot::ConstantTau => ch.tau,
                ScalarSlot::Zero => Fr::ZERO,
            };
        }
        columns.acc[row + 1] = next;
    }
}

/// Numerator and denominator of a lane at a row.
pub(crate) struct LaneKinds {
    range: Vec<Vec<(Fr, Fr)>>,
    function: Vec<(Fr, Fr, Fr)>,
}

impl LaneKinds {
    pub(crate) fn new(layout: &Layout) -> Self {
        let mut range = Vec::new();
        let mut function = Vec::new();
        for kind in 0..layout.kinds.len() {
            let mut ranges = vec![(Fr::ZERO, Fr::ZERO); layout.sized.shape.ranges as usize];
            let mut f = (Fr::ZERO, Fr::ZERO, Fr::ZERO);
            for (slot, x) in combine(&layout.unit_field, kind) {
                match *slot {
                    UnitSlot::RangeOn(i) => ranges[i as usize].0 = x,
                    UnitSlot::RangeTag(i) => ranges[i as usize].1 = x,
                    UnitSlot::FnOn => f.0 = x,
                    UnitSlot::FnTag => f.1 = x,
                    UnitSlot::FnProvides => f.2 = x,
                    _ => {}
                }
            }
            range.push(ranges);
            function.push(f);
        }
        LaneKinds { range, function }
    }
}

/// The running sums of the lookup argument.
pub(crate) fn lookups(layout: &Layout, columns: &mut Columns, ch: &ChallengeValues) {
    let rows = layout.usable();
    let kinds = LaneKinds::new(layout);
    let tables = &layout.sized.tables;
    let shape = layout.sized.shape;
    let cells = shape.cells();
    let beta2 = ch.beta.square();
    let mut entries = vec![vec![ch.alpha; rows]; layout.sized.table_sets];
    for (at, (section, position)) in layout.table_entries().enumerate() {
        let (set, row) = layout.table_cell(at);
        let (out, second) = tables.entry(section, position);
        let x = i128::from(tables.first(section)) + position as i128;
        entries[set as usize][row as usize] = ch.alpha
            + ch.gamma * Fr::from(tables.tag(section))
            + fr(x)
            + ch.beta * fr(out.into())
            + beta2 * fr(second.into());
    }
    let (low, high) = layout
        .sized
        .store_section
        .map_or((Fr::ZERO, Fr::ZERO), |(low, high)| (Fr::from(tables.tag(low)), Fr::from(tables.tag(high))));
    let mut phi = Vec::with_capacity(layout.phis());
    for lanes in layout.lanes.chunks(LANES) {
        let mut steps: Vec<Fr> = Vec::with_capacity((rows - 1) * lanes.len());
        let mut tops: Vec<Fr> = Vec::with_capacity((rows - 1) * lanes.len());
        for row in 0..rows - 1 {
            let kind = layout.row_kinds.get(row).copied().unwrap_or(u32::MAX) as usize;
            for lane in lanes {
                let (n, d) = match *lane {
                    LookupLane::Range { unit, index } => {
                        let (on, tag) = kinds.range.get(kind).map_or((Fr::ZERO, Fr::ZERO), |r| r[index as usize]);
                        let x = columns.unit[(unit * cells + shape.range_at() + index) as usize][row];
                        (on, ch.alpha + ch.gamma * tag + x)
                    }
                    LookupLane::Function { unit } => {
                        let (on, tag, provides) = kinds.function.get(kind).copied().unwrap_or_default();
                        let cell = |p: u16| columns.unit[(unit * cells + p) as usize][row];
                        let mut d = ch.alpha + ch.gamma * tag + cell(UnitShape::KEY) + ch.beta * cell(UnitShape::VALUE);
                        if shape.second {
                            d += beta2 * cell(UnitShape::SECOND);
                        }
                        let given = if shape.count { provides * cell(shape.count_at()) } else { Fr::ZERO };
                        (on - given, d)
                    }
                    LookupLane::Store { column } => {
                        let limbs = layout.sized.store_limbs as u16;
                        let tag = if column % limbs == limbs - 1 { high } else { low };
                        (Fr::ONE, ch.alpha + ch.gamma * tag + columns.store[column as usize][row])
                    }
                    LookupLane::Table { set } => {
                        (-columns.multiplicity[set as usize][row], entries[set as usize][row])
                    }
                };
                tops.push(n);
                steps.push(d);
            }
        }
        steps.iter_mut().batch_invert();
        let mut sums = Vec::with_capacity(rows);
        let mut sum = Fr::ZERO;
        sums.push(sum);
        for (n, d) in tops.chunks(lanes.len()).zip(steps.chunks(lanes.len())) {
            sum += n.iter().zip(d).map(|(n, d)| *n * d).sum::<Fr>();
            sums.push(sum);
        }
        phi.push(sums);
    }
    columns.phi = phi;
}
