//! Integers of declared width: two's complement, powers, bounds.

use crate::onnx::{DType, Node, ValueId};
use crate::qir::OpKind;

use super::super::builder::Acc;
use super::{Lower, Outcome, Val};

/// Operators whose results past their type ONNX leaves open, and runtimes do not agree on.
const OPEN: &[&str] = &["ReduceSum", "ReduceMean", "AveragePool"];

/// Greatest exponent that is computed by multiplications.
const MAX_EXPONENT: f64 = 16.0;

impl Lower<'_> {
    /// Brings integers that arithmetic may have taken out of their type back into it, as two's complement does. What may leave 64 bits, or
    /// has no defined result, is a range check that the layer is named by.
    pub(super) fn wrap_outputs(&mut self, n: &Node) -> Outcome<()> {
        for &v in n.outputs.iter().flatten() {
            let dtype = self.model.value(v).dtype;
            let Some((lo, hi)) = dtype.int_bounds().filter(|_| dtype != DType::Bool) else { continue };
            let acc = match &self.vals[v.index()] {
                Some(Val::Pending(acc)) => acc.clone(),
                Some(Val::Tensor(id)) => self.b.acc(*id),
                Some(Val::Scaled(_)) | None => continue,
            };
            let (least, most) = self.b.bounds(&acc);
            if acc.scale != 0 || (least >= lo.into() && most <= hi.into()) {
                continue;
            }
            let id = match dtype {
                DType::I64 | DType::U64 => {
                    let bounds = (least.max(lo.into()), most.min(hi.into()));
                    self.b.demand(&acc, bounds)?
                }
                _ if OPEN.contains(&n.op.as_str()) => {
                    self.b.demand(&acc, (least.max(lo.into()), most.min(hi.into())))?
                }
                _ => self.wrapped(&acc, lo, hi)?,
            };
            self.set(v, Val::Tensor(id));
        }
        Ok(())
    }

    /// `acc − m·⌊(acc − lo) / m⌋` with m = hi − lo + 1, a power of two.
    fn wrapped(&mut self, acc: &Acc, lo: i64, hi: i64) -> Outcome<crate::qir::TensorId> {
        let m = hi - lo + 1;
        let x = self.exact(acc)?;
        let x = self.b.acc(x);
        let mut above = Acc { scale: m.trailing_zeros() as i32, ..x.clone() };
        above.constant -= lo;
        let turns = self.floor(&above)?;
        let back = self.b.times(&turns, -m)?;
        let sum = self.b.add(&x, &back)?;
        // What is left is within the type, which interval arithmetic cannot see.
        Ok(self.b.enforce(&sum, (lo.into(), hi.into()))?)
    }

    /// Bounds of an integer Clip, applied to the operand: the lower one first.
    pub(super) fn clip_integers(&mut self, n: &Node, a: ValueId) -> Outcome<Acc> {
        let mut bound = |i: usize, name: &str| -> Outcome<Option<i64>> {
            let Some(v) = n.input(i) else { return Ok(None) };
            let c = self.single_int(v).ok_or_else(|| format!("`{name}` is not a constant scalar"))?;
            Ok(Some(c))
        };
        let (lo, hi) = (bound(1, "min")?, bound(2, "max")?);
        let mut x = self.acc(a)?;
        if let (Some(lo), Some(hi)) = (lo, hi)
            && lo > hi
        {
            return Ok(Acc { terms: vec![], constant: hi, ..x });
        }
        let (min, max) = self.b.bounds(&x);
        let moved = |acc: Acc, by: i64| -> Outcome<Acc> {
            let constant = acc.constant.checked_add(by).ok_or_else(|| "a bound is too large".to_owned())?;
            Ok(Acc { constant, ..acc })
        };
        let negative = |v: i64| v.checked_neg().ok_or_else(|| "a bound is too large".to_owned());
        if let Some(lo) = lo.filter(|&v| i128::from(v) > min) {
            if i128::from(lo) >= max {
                x = Acc { terms: vec![], constant: lo, ..x };
            } else {
                let above = moved(x, negative(lo)?)?;
                let r = self.relu(&above, 0, None)?;
                x = moved(self.b.acc(r), lo)?;
            }
        }
        if let Some(hi) = hi.filter(|&v| i128::from(v) < max) {
            if i128::from(hi) <= min {
                return Ok(Acc { terms: vec![], constant: hi, ..x });
            }
            let below = moved(self.b.neg(&x)?, hi)?;
            let r = self.relu(&below, 0, None)?;
            x = moved(self.b.neg(&self.b.acc(r))?, hi)?;
        }
        Ok(x)
    }

    /// A power of integers: exact, the fraction cut off.
    pub(super) fn integer_power(&mut self, a: ValueId, e: f64) -> Outcome<Acc> {
        let shape = self.shape(a).to_vec();
        let dtype = self.model.value(a).dtype;
        if e == 0.0 {
            return Ok(Acc { shape, terms: vec![], constant: 1, scale: 0 });
        }
        if e == 1.0 {
            return self.acc(a);
        }
        let x = self.tensor(a)?;
        if e.fract() == 0.0 && (2.0..=MAX_EXPONENT).contains(&e) {
            let mut acc = self.product(x, x)?;
            for _ in 2..e as u32 {
                let so_far = self.exact(&acc)?;
                acc = self.product(so_far, x)?;
            }
            // Runtimes wrap squares and cubes; higher powers are real ones that do not fit.
            if e > 3.0
                && let Some((lo, hi)) = dtype.int_bounds()
                && (self.b.bounds(&acc).0 < lo.into() || self.b.bounds(&acc).1 > hi.into())
            {
                let (least, most) = self.b.bounds(&acc);
                let id = self.b.demand(&acc, (least.max(lo.into()), most.min(hi.into())))?;
                acc = self.b.acc(id);
            }
            return Ok(acc);
        }
        // Zero and negative numbers have no such power, unless calibration saw them.
        let seen = self.ranges.observed(a).map_or(0.0, |(lo, _)| lo);
        let least = if e < 0.0 { 1 } else { 0 };
        let t = self.b.program.tensor(x);
        let (lo, hi) = (t.lo, t.hi);
        let whole = e.fract() == 0.0;
        if seen < least as f64 && !(whole && e > 0.0) {
            return Err(format!("the power {e} of integers below {least}").into());
        }
        let x = if seen >= least as f64 && lo < least {
            self.b.demand(&self.b.acc(x), (least.into(), hi.into()))?
        } else {
            x
        };
        if e == 0.5 {
            let bounds = (self.b.program.tensor(x).lo.isqrt(), hi.isqrt());
            let id = self.b.op(OpKind::Sqrt { x }, shape, (bounds.0.into(), bounds.1.into()), 0)?;
            self.slack.decided(id);
            return Ok(self.b.acc(id));
        }
        if e < 0.0 && self.b.program.tensor(x).lo >= 1 {
            // One stays one, and everything greater is less than one.
            let rest = self.b.neg(&self.b.acc(x))?;
            let one = self.step(&Acc { constant: 1, ..rest })?;
            return Ok(self.b.acc(one));
        }
        let t = self.b.program.tensor(x);
        let (lo, hi) = (t.lo, t.hi);
        if hi.abs_diff(lo) >= self.limits.lookup as u64 {
            return Err(format!("there is no table for the power {e} of integers in [{lo}, {hi}]").into());
        }
        let table: Vec<i64> = (lo..=hi).map(|v| dtype.truncate((v as f64).powf(e))).collect();
        let (least, most) = (table.iter().min().copied(), table.iter().max().copied());
        let bounds = (least.unwrap_or(0).into(), most.unwrap_or(0).into());
        let id = self.b.op(OpKind::Lookup { x, table: table.into() }, shape, bounds, 0)?;
        Ok(self.b.acc(id))
    }
}
