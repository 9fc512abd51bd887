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
    let columns_ref = &*columns;
    let one = |lanes: &[LookupLane]| {
        let columns = columns_ref;
        let mut steps: Vec<Fr> = Vec::with_capacity((rows - 1) * lanes.len());
        let mut tops: Vec<Fr> = Vec::with_capacity((rows - 1) * lanes.len());
        let kinds_of_rows = layout.row_kinds.iter().copied().chain(std::iter::repeat(u32::MAX));
        for (row, kind) in kinds_of_rows.take(rows - 1).enumerate() {
            let kind = kind as usize;
            for lane in lanes {
                let (n, d) = match *lane {
                    LookupLane::Range { unit, index } => {
                        let (on, tag) =
                            kinds.range.get(kind).map_or((Fr::ZERO, Fr::ZERO), |r| r[index as usize]);
                        let x = columns.unit[(unit * cells + shape.range_at() + index) as usize][row];
                        (on, ch.alpha + ch.gamma * tag + x)
                    }
                    LookupLane::Function { unit } => {
                        let (on, tag, provides) = kinds.function.get(kind).copied().unwrap_or_default();
                        let cell = |p: u16| columns.unit[(unit * cells + p) as usize][row];
                        let mut d = ch.alpha
                            + ch.gamma * tag
                            + cell(UnitShape::KEY)
                            + ch.beta * cell(UnitShape::VALUE);
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
        sums
    };
    columns.phi = layout.lanes.par_chunks(layout.group()).map(one).collect();
}
