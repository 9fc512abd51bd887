//! Comparisons, booleans, selection and casts.

use crate::onnx::{DType, Node, ValueId};
use crate::qir::{Role, Term};

use super::super::builder::{Acc, exp2};
use super::{Lower, Outcome, Refusal, finite};

impl Lower<'_> {
    pub(super) fn comparison(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let a = self.need(n, 0)?;
        let acc = match n.op.as_str() {
            "Not" => self.complement(a)?,
            "And" | "Or" | "Xor" => {
                let (x, y) = (self.tensor(a)?, self.tensor(self.need(n, 1)?)?);
                let both = self.product(x, y)?;
                if n.op == "And" {
                    both
                } else {
                    let sum = self.b.add(&self.b.acc(x), &self.b.acc(y))?;
                    let both = self.b.times(&both, if n.op == "Or" { -1 } else { -2 })?;
                    self.b.add(&sum, &both)?
                }
            }
            "Where" => return self.select(n, out, a),
            "Cast" | "CastLike" => return self.cast(n, out, a),
            "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => {
                let b = self.need(n, 1)?;
                let strict = !n.op.ends_with("OrEqual");
                let id = if n.op.starts_with("Less") {
                    self.ordered(a, b, strict)?
                } else {
                    self.ordered(b, a, strict)?
                };
                return self.set_tensor(out, id);
            }
            _ => {
                // Equal: a ≥ b and b ≥ a.
                let b = self.need(n, 1)?;
                let up = self.difference(a, b, f64::round)?;
                let (up, down) = (self.step(&up)?, self.step(&self.b.neg(&up)?)?);
                let mut both = self.b.add(&self.b.acc(up), &self.b.acc(down))?;
                both.constant -= 1;
                both
            }
        };
        self.set_acc(out, acc)
    }

    fn complement(&mut self, a: ValueId) -> Outcome<Acc> {
        let x = self.acc(a)?;
        Ok(self.b.offset(&self.b.neg(&x)?, 1.0, 0)?)
    }

    /// 1 where a < b (or a ≤ b), exactly on the integers that stand for the variable operand.
    fn ordered(&mut self, a: ValueId, b: ValueId, strict: bool) -> Outcome<crate::qir::TensorId> {
        // A constant is rounded so that the comparison of integers decides as the comparison of numbers would:
        // x < c where x ≤ ⌈c⌉ − 1, x ≤ c where x ≤ ⌊c⌋, and mirrored on the other side.
        let round: fn(f64) -> f64 = match (self.constant(b).is_some(), strict) {
            (true, true) | (false, false) => f64::ceil,
            _ => f64::floor,
        };
        let mut d = self.difference(b, a, round)?;
        if strict {
            d.constant -= 1;
        }
        self.step(&d)
    }

    /// `a − b` with a constant operand rounded at the other's scale.
    fn difference(&mut self, a: ValueId, b: ValueId, round: fn(f64) -> f64) -> Outcome<Acc> {
        let (x, y) = match (self.constant(a).is_some(), self.constant(b).is_some()) {
            (true, _) => {
                let y = self.acc(b)?;
                (self.threshold(a, y.scale, round)?, y)
            }
            (_, true) => {
                let x = self.acc(a)?;
                let y = self.threshold(b, x.scale, round)?;
                (x, y)
            }
            _ => (self.acc(a)?, self.acc(b)?),
        };
        let y = self.b.neg(&y)?;
        let sum = self.sum(x, Some(a), y, Some(b))?;
        if sum.has_contraction() {
            return self.settle(sum, None);
        }
        Ok(sum)
    }

    /// A constant at exactly a scale.
    fn threshold(&mut self, v: ValueId, scale: i32, round: fn(f64) -> f64) -> Outcome<Acc> {
        let Some(c) = self.constant(v) else { return self.acc(v) };
        let q: Vec<i64> = c.to_f64().into_iter().map(|x| round(finite(x) * exp2(scale)) as i64).collect();
        if let [one] = q[..] {
            return Ok(Acc { shape: c.shape.clone(), terms: vec![], constant: one, scale });
        }
        let role = if c.dtype.is_float() { Role::Param } else { Role::Constant };
        let id = self.b.data(c.shape.clone(), q, scale, role)?;
        Ok(self.b.acc(id))
    }

    /// cond·a + (1 − cond)·b
    fn select(&mut self, n: &Node, out: ValueId, cond: ValueId) -> Outcome<()> {
        if self.constant(cond).is_some() {
            return self.movement(n);
        }
        let (a, b) = (self.need(n, 1)?, self.need(n, 2)?);
        let shape = self.shape(out).to_vec();
        let c = self.tensor(cond)?;
        let mut total: Option<Acc> = None;
        for (v, sign) in [(a, 1), (b, -1)] {
            let part = match self.single(v) {
                Some(x) => {
                    let zero = Acc { shape: vec![], terms: vec![], constant: 0, scale: 0 };
                    let k = self.b.offset(&zero, x, self.act)?;
                    Acc {
                        shape: shape.clone(),
                        terms: vec![Term::Scale { x: c, coeff: k.constant }],
                        constant: 0,
                        scale: k.scale,
                    }
                }
                None => {
                    let x = self.tensor(v)?;
                    self.product(c, x)?
                }
            };
            let part = self.b.times(&part, sign)?;
            total = Some(match total {
                None => part,
                Some(t) => self.b.add(&t, &part)?,
            });
        }
        let otherwise = match self.constant(b) {
            Some(_) => self.constant_acc(b, self.act)?,
            None => {
                let id = self.tensor(b)?;
                self.b.acc(id)
            }
        };
        let total = total.ok_or_else(|| Refusal::Unsupported("no branches".into()))?;
        let acc = self.b.add(&total, &otherwise)?;
        let acc = Acc { shape, ..acc };
        self.set_acc(out, acc)
    }

    fn cast(&mut self, n: &Node, out: ValueId, a: ValueId) -> Outcome<()> {
        let to = self.model.value(out).dtype;
        let from = self.model.value(a).dtype;
        debug_assert!(n.op.starts_with("Cast"));
        let x = self.acc(a)?;
        let acc = if to.is_float() || from == DType::Bool {
            x
        } else if to == DType::Bool {
            // Not zero.
            let id = self.exact(&x)?;
            let x = self.b.acc(id);
            let (up, down) = (self.step(&x)?, self.step(&self.b.neg(&x)?)?);
            let both = self.b.add(&self.b.acc(up), &self.b.acc(down))?;
            self.b.offset(&self.b.neg(&both)?, 2.0, 0)?
        } else if from.is_float() {
            self.truncate(&x)?
        } else {
            if let (Some((lo, hi)), (a, b)) = (to.int_bounds(), self.b.bounds(&x))
                && (a < lo.into() || b > hi.into())
            {
                let id = self.b.demand(&x, (a.max(lo.into()), b.min(hi.into())))?;
                let x = self.b.acc(id);
                return self.set_acc(out, x);
            }
            x
        };
        self.set_acc(out, acc)
    }

    /// Rounding towards zero.
    fn truncate(&mut self, x: &Acc) -> Outcome<Acc> {
        if x.scale <= 0 {
            return Ok(x.clone());
        }
        if self.b.bounds(x).0 >= 0 {
            return self.floor(x);
        }
        let id = self.exact(x)?;
        let x = self.b.acc(id);
        let up = self.relu(&x, x.scale, None)?;
        let up = self.b.acc(up);
        let down = self.b.add(&up, &self.b.neg(&x)?)?;
        let (up, down) = (self.floor(&up)?, self.floor(&down)?);
        Ok(self.b.add(&up, &self.b.neg(&down)?)?)
    }
}
