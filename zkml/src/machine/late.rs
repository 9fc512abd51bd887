//! The later phases, from the first and the challenges alone, cell by cell as the gates define them: whatever the first phase holds, the rest
//! is the best that a prover could do with it.

use ff::{BatchInvert, Field};
use halo2_axiom::halo2curves::bn256::Fr;
use rayon::prelude::*;

use crate::qir::{OpKind, Program, TensorId, Term};

use super::contraction::positions;
use super::layout::{BulkSlot, Cell, Col, Layout, LookupLane, Mono, ScalarSlot, UnitSlot};
use super::lowered::{Base, Ref, Src};
use super::num::fr;
use super::pack::UnitShape;
use super::table::Section;
use super::witness::Columns;

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
        let channels = {
            let columns = &*columns;
            let (powers, places) = (&powers, &places);
            (0..xs[1]).into_par_iter().fold(
                move || vec![Fr::ZERO; places.total as usize],
                move |mut full, c| {
                    let kernel: Vec<Fr> = match w {
                        None => vec![powers[c]; size],
                        Some(w) => {
                            let ws = &p.tensor(w).shape;
                            let (per_group, inputs) = (ws[0] / groups, ws[1]);
                            let group = c / inputs;
                            let folded = |k: usize| {
                                (0..per_group)
                                    .map(|o| {
                                        let o = group * per_group + o;
                                        let index = ((o * inputs + c % inputs) * size + k) as u32;
                                        weight(layout, columns, w, index) * powers[o]
                                    })
                                    .sum()
                            };
                            (0..size).map(folded).collect()
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
                    full
                },
            )
        };
        let full = channels.reduce(
            || vec![Fr::ZERO; places.total as usize],
            |mut x, y| {
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
                x
            },
        );
        let coeff = fr(coeff.into());
        for (position, value) in full.into_iter().enumerate() {
            columns.junk[layout.junk_row(at, position as u32) as usize] = value * coeff;
        }
    }
}

fn weight(layout: &Layout, columns: &Columns, tensor: TensorId, index: u32) -> Fr {
    let src = layout.resolve(Src::Cell { tensor: tensor.0, index });
    let stored = match src {
        Src::Cell { tensor, index } => layout.stored(tensor, index),
        Src::Const(_) => None,
    };
    let Some((row, column)) = stored else { return columns.source(layout, src) };
    let shift = Fr::from(1u64 << layout.sized.choice.store_limb.min(63));
    (0..layout.sized.store_limbs as u16)
        .rev()
        .fold(Fr::ZERO, |sum, i| sum * shift + columns.get(Cell { col: Col::Store(column + i), row }))
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
        let steps: Vec<(Fr, Fr)> = {
            let columns = &*columns;
            layout
                .row_kinds
                .par_iter()
                .enumerate()
                .map(|(row, &kind)| {
                    let Some((mul, port)) = kinds.get(kind as usize) else { return (Fr::ZERO, Fr::ZERO) };
                    let mut sum = Fr::ZERO;
                    for &(m, x, weight) in port {
                        let mut total = Fr::ZERO;
                        for unit in (0..units).rev() {
                            total = total * weight + mono(columns, unit * cells, m, row);
                        }
                        sum += x * total;
                    }
                    (*mul, sum)
                })
                .collect()
        };
        let mut u = vec![Fr::ZERO; rows];
        for (row, (mul, sum)) in steps.into_iter().enumerate().take(rows - 1) {
            u[row + 1] = u[row] * mul + sum;
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
        let steps: Vec<(Fr, Fr)> = {
            let columns = &*columns;
            let weights = |row: usize, count: usize| {
                (0..count).rev().fold(Fr::ZERO, |sum, j| {
                    let limbs = (j * limbs..(j + 1) * limbs).rev();
                    let weight = limbs.fold(Fr::ZERO, |w, i| w * shift + columns.store[i][row]);
                    sum * ch.tau + weight
                })
            };
            let one = |(row, &kind): (usize, &u16)| {
                let (mut mul, mut sum) = (Fr::ZERO, Fr::ZERO);
                for &(slot, x) in &kinds[kind as usize] {
                    match slot {
                        BulkSlot::Tau => mul += x * tau_row,
                        BulkSlot::Rho => mul += x * ch.rho,
                        BulkSlot::Junk => sum += x * columns.junk[row],
                        BulkSlot::Store => sum += x * weights(row, per_row),
                        BulkSlot::Part(count) => sum += x * weights(row, usize::from(count)),
                    }
                }
                (mul, sum)
            };
            layout.bulk_kinds.par_iter().enumerate().map(one).collect()
        };
        let mut u = vec![Fr::ZERO; rows];
        for (row, (mul, sum)) in steps.into_iter().enumerate().take(rows - 1) {
            u[row + 1] = u[row] * mul + sum;
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
                ScalarSlot::Zero | ScalarSlot::Entry | ScalarSlot::Use | ScalarSlot::Tag => Fr::ZERO,
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

/// The running sums of the lookup argument; the one that waits for scalar rows is zero.
pub(crate) fn lookups(layout: &Layout, columns: &mut Columns, ch: &ChallengeValues) {
    let groups: Vec<&[LookupLane]> = layout.lanes.chunks(layout.group()).collect();
    let early = layout.late_phi().unwrap_or(groups.len());
    columns.phi = running_sums(layout, columns, ch, &groups[..early]);
    columns.phi.resize(groups.len(), vec![Fr::ZERO; layout.usable()]);
}

/// The running sum that waits for scalar rows.
pub(crate) fn late_lookups(layout: &Layout, columns: &mut Columns, ch: &ChallengeValues) {
    let Some(at) = layout.late_phi() else { return };
    let groups: Vec<&[LookupLane]> = layout.lanes.chunks(layout.group()).skip(at).collect();
    for (i, sum) in running_sums(layout, columns, ch, &groups).into_iter().enumerate() {
        columns.phi[at + i] = sum;
    }
}

fn running_sums(
    layout: &Layout,
    columns: &Columns,
    ch: &ChallengeValues,
    groups: &[&[LookupLane]],
) -> Vec<Vec<Fr>> {
    let rows = layout.usable();
    let kinds = LaneKinds::new(layout);
    let tables = &layout.sized.tables;
    let shape = layout.sized.shape;
    let cells = shape.cells();
    let beta2 = ch.beta.square();
    let entry = |set: u16, row: usize| {
        let Some((section, position)) = layout.table_entry(set, row) else { return ch.alpha };
        let (out, second) = tables.entry(section, position);
        let x = i128::from(tables.first(section)) + position as i128;
        let mut d = ch.alpha + ch.gamma * Fr::from(tables.tag(section)) + fr(x);
        if out != 0 {
            d += ch.beta * fr(out.into());
        }
        if second != 0 {
            d += beta2 * fr(second.into());
        }
        d
    };
    let (low, high) = layout
        .sized
        .store_section
        .map_or((Fr::ZERO, Fr::ZERO), |(low, high)| (Fr::from(tables.tag(low)), Fr::from(tables.tag(high))));
    let tagged = |tag: Fr| ch.alpha + ch.gamma * tag;
    // Per kind of row: whether the lane is on, and the constant part of its denominator.
    let ranges: Vec<Vec<(Fr, Fr)>> =
        kinds.range.iter().map(|r| r.iter().map(|&(on, tag)| (on, tagged(tag))).collect()).collect();
    let functions: Vec<(Fr, Fr, Fr)> =
        kinds.function.iter().map(|&(on, tag, provides)| (on, tagged(tag), provides)).collect();
    let stores = [tagged(low), tagged(high)];
    let idle: Vec<Option<Fr>> = stores.iter().map(|d| Option::from(d.invert())).collect();
    let one = |lanes: &&[LookupLane]| {
        let mut sums = vec![Fr::ZERO; rows];
        let mut uses: Vec<(u32, Fr)> = Vec::new();
        let mut denominators: Vec<Fr> = Vec::new();
        let mut put = |row: usize, n: Fr, d: Fr| {
            if !bool::from(n.is_zero()) {
                uses.push((row as u32, n));
                denominators.push(d);
            }
        };
        for lane in *lanes {
            match *lane {
                LookupLane::Folded => {
                    let counts = layout.folded_multiplicity().map_or(&[][..], |c| columns.column(c));
                    for (row, scalar) in layout.lowered.scalars.iter().enumerate() {
                        let Some(f) = scalar.folded else { continue };
                        let tag = tagged(Fr::from(tables.tag(Section::Folded { id: f.table })));
                        let n = if f.entry { -counts[row] } else { Fr::ONE };
                        put(row, n, tag + columns.acc[row + 1]);
                    }
                }
                LookupLane::Range { unit, index } => {
                    let cells = &columns.unit[(unit * cells + shape.range_at() + index) as usize];
                    for (row, &kind) in layout.row_kinds.iter().enumerate().take(rows - 1) {
                        let Some(&(on, d)) = ranges.get(kind as usize).and_then(|r| r.get(index as usize))
                        else {
                            continue;
                        };
                        put(row, on, d + cells[row]);
                    }
                }
                LookupLane::Function { unit } => {
                    for (row, &kind) in layout.row_kinds.iter().enumerate().take(rows - 1) {
                        let Some(&(on, tag, provides)) = functions.get(kind as usize) else { continue };
                        let cell = |p: u16| columns.unit[(unit * cells + p) as usize][row];
                        let n = on - provides * cell(shape.count_at());
                        if bool::from(n.is_zero()) {
                            continue;
                        }
                        let mut d = tag + cell(UnitShape::KEY) + ch.beta * cell(UnitShape::VALUE);
                        if shape.second {
                            d += beta2 * cell(UnitShape::SECOND);
                        }
                        put(row, n, d);
                    }
                }
                LookupLane::Store { column } => {
                    let limbs = layout.sized.store_limbs as u16;
                    let top = usize::from(column % limbs == limbs - 1);
                    for (row, &x) in columns.store[column as usize].iter().enumerate().take(rows - 1) {
                        match idle[top] {
                            // What is not used is zero, in every row.
                            Some(inverse) if bool::from(x.is_zero()) => sums[row + 1] += inverse,
                            _ => put(row, Fr::ONE, stores[top] + x),
                        }
                    }
                }
                LookupLane::Table { set } => {
                    for (row, &m) in columns.multiplicity[set as usize].iter().enumerate().take(rows - 1) {
                        if !bool::from(m.is_zero()) {
                            put(row, -m, entry(set, row));
                        }
                    }
                }
            }
        }
        denominators.iter_mut().batch_invert();
        for ((row, n), inverse) in uses.into_iter().zip(denominators) {
            sums[row as usize + 1] += if n == Fr::ONE { inverse } else { n * inverse };
        }
        let mut sum = Fr::ZERO;
        for x in &mut sums {
            sum += *x;
            *x = sum;
        }
        sums
    };
    groups.par_iter().map(one).collect()
}
