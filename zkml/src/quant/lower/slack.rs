//! How far integers may be from the real numbers that they stand for, by roundings alone.
//!
//! A decision falls where a number passes a threshold. Numbers that are equal to it in the model should be so in integers, although each of them was
//! rounded: decisions therefore take differences within the roundings for none. Sums of products and tables start anew with the rounding of
//! their own result: nothing that they compute meets a threshold exactly but by accident.

use std::collections::HashMap;

use crate::qir::{OpKind, Program, Role, TensorId, Term};

use super::super::builder::{Acc, exp2};

/// Significant bits of a factor from which on it may be a rounded one.
const ROUNDED_FACTOR_BITS: u32 = 12;
/// Fraction bits up to which a constant is taken to be exact.
const EXACT_BITS: i32 = 10;

/// Roundings of the tensors of a program under construction, in units of each.
#[derive(Default)]
pub(super) struct Slack {
    units: HashMap<TensorId, f64>,
    done: usize,
}

/// Roundings of an accumulator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    /// In units of its scale.
    pub units: f64,
    /// Relative to its value, on top.
    pub relative: f64,
}

impl Slack {
    /// Takes in what was added to the program.
    pub(super) fn update(&mut self, p: &Program) {
        for op in &p.ops[self.done.min(p.ops.len())..] {
            for (k, &out) in op.outputs.iter().enumerate() {
                let units = self.op(p, &op.kind, out, k);
                self.units.entry(out).or_insert(units);
            }
        }
        self.done = p.ops.len();
    }

    /// Rounding of a tensor; of data, half a unit where they have fractions.
    pub(super) fn of(&self, p: &Program, id: TensorId) -> f64 {
        let t = p.tensor(id);
        let data = matches!(t.role, Role::Param | Role::Constant);
        let fallback = if data && t.scale <= 0 { 0.0 } else { 0.5 };
        self.units.get(&id).copied().unwrap_or(fallback)
    }

    /// Rounding of an accumulator before it is rounded itself.
    pub(super) fn spread(&self, p: &Program, a: &Acc) -> Spread {
        self.sum(p, &a.terms, a.constant, a.scale).unwrap_or(Spread { units: 0.5, relative: 0.0 })
    }

    /// `None` for what starts anew.
    fn sum(&self, p: &Program, terms: &[Term], constant: i64, scale: i32) -> Option<Spread> {
        let mut s = Spread::default();
        let most = |id: TensorId| {
            let t = p.tensor(id);
            t.lo.unsigned_abs().max(t.hi.unsigned_abs()) as f64
        };
        for term in terms {
            let (units, coeff, inherent) = match term {
                Term::Scale { x, coeff } => (self.of(p, *x), *coeff, p.tensor(*x).scale),
                Term::Product { a, b, coeff } => {
                    let (ea, eb) = (self.of(p, *a), self.of(p, *b));
                    (most(*a) * eb + most(*b) * ea, *coeff, p.tensor(*a).scale + p.tensor(*b).scale)
                }
                Term::Einsum { a, b, coeff, .. } | Term::Conv { x: a, w: b, coeff, .. } => {
                    if self.of(p, *a) + self.of(p, *b) > 0.0 {
                        return None;
                    }
                    (0.0, *coeff, p.tensor(*a).scale + p.tensor(*b).scale)
                }
                Term::SumPool { x, coeff, .. } | Term::Sum { x, coeff, .. } => {
                    if self.of(p, *x) > 0.0 {
                        return None;
                    }
                    (0.0, *coeff, p.tensor(*x).scale)
                }
            };
            s.units += units * coeff.unsigned_abs() as f64;
            let odd = coeff.unsigned_abs() >> coeff.trailing_zeros().min(63);
            if scale > inherent && 64 - odd.leading_zeros() >= ROUNDED_FACTOR_BITS {
                s.relative = s.relative.max(0.5 / odd as f64);
            }
        }
        let fraction = scale - constant.trailing_zeros().min(63) as i32;
        if constant != 0 && scale > 0 && fraction > EXACT_BITS {
            s.units += 0.5;
        }
        Some(s)
    }

    /// Notes that a tensor holds whole numbers, whatever they were rounded from.
    pub(super) fn decided(&mut self, id: TensorId) {
        self.units.insert(id, 0.0);
    }

    fn op(&self, p: &Program, kind: &OpKind, out: TensorId, k: usize) -> f64 {
        let scale = |id: &TensorId| p.tensor(*id).scale;
        match kind {
            OpKind::View { sources, .. } => sources.iter().map(|s| self.of(p, *s)).fold(0.0, f64::max),
            OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, .. } => {
                let Some(sum) = self.sum(p, terms, *constant, scale(&out) + *shift as i32) else {
                    return 0.5;
                };
                let most = pre_lo.unsigned_abs().max(pre_hi.unsigned_abs()) as f64;
                let dropped = (1u64 << (*shift).min(63)) - 1;
                let divides = |v: i64| v.unsigned_abs() & dropped == 0;
                let rounds = !(divides(*constant) && terms.iter().all(|t| divides(coefficient(t))));
                sum.units * exp2(-(*shift as i32)) + sum.relative * most + if rounds { 0.5 } else { 0.0 }
            }
            OpKind::Lookup { x, table } => {
                if self.of(p, *x) == 0.0 && scale(x) <= 0 && scale(&out) <= 0 {
                    return 0.0;
                }
                let steepest = table.windows(2).map(|w| w[1].abs_diff(w[0])).max().unwrap_or(0) as f64;
                0.5 + (steepest * self.of(p, *x)).min(64.0)
            }
            OpKind::Interpolate { .. } | OpKind::Sqrt { .. } => 1.0,
            OpKind::Div { num, den } => {
                let whole = self.of(p, *num) + self.of(p, *den) == 0.0;
                if whole && scale(num) <= 0 && scale(den) <= 0 { 0.0 } else { 1.0 }
            }
            OpKind::Step { .. } | OpKind::ArgMax { .. } => 0.0,
            OpKind::Max { x } => self.of(p, *x),
            OpKind::Sort { x, .. } => {
                if k == 0 {
                    self.of(p, *x)
                } else {
                    0.0
                }
            }
            OpKind::Gather { data, .. } => self.of(p, *data),
        }
    }
}

fn coefficient(t: &Term) -> i64 {
    let (Term::Einsum { coeff, .. }
    | Term::Conv { coeff, .. }
    | Term::SumPool { coeff, .. }
    | Term::Sum { coeff, .. }
    | Term::Scale { coeff, .. }
    | Term::Product { coeff, .. }) = t;
    *coeff
}
