//! Comparisons, booleans, selection and casts.

use crate::onnx::{DType, Data, Node, TensorF, ValueId};
use crate::qir::{Role, Term};

use super::super::builder::{Acc, exp2};
use super::cuts::Turn;
use super::decide::Whole;
use super::{Lower, Outcome, Refusal};

/// A comparison of the first operand with the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Order {
    fn of(op: &str) -> Order {
        match op {
            "Less" => Order::Less,
            "LessOrEqual" => Order::LessOrEqual,
            "Greater" => Order::Greater,
            "GreaterOrEqual" => Order::GreaterOrEqual,
            _ => Order::Equal,
        }
    }

    /// The comparison of the second operand with the first.
    fn mirrored(self) -> Order {
        match self {
            Order::Less => Order::Greater,
            Order::LessOrEqual => Order::GreaterOrEqual,
            Order::Equal => Order::Equal,
            Order::GreaterOrEqual => Order::LessOrEqual,
            Order::Greater => Order::Less,
        }
    }
}

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
            op => {
                let b = self.need(n, 1)?;
                self.compared(Order::of(op), a, b)?
            }
        };
        self.set_acc(out, acc)
    }

    fn complement(&mut self, a: ValueId) -> Outcome<Acc> {
        let x = self.acc(a)?;
        Ok(self.b.offset(&self.b.neg(&x)?, 1.0, 0)?)
    }

    /// 1 where the comparison holds. Values that differ by no more than what they were rounded by count as equal; those that are exact are
    /// compared as the real numbers that they are.
    fn compared(&mut self, order: Order, a: ValueId, b: ValueId) -> Outcome<Acc> {
        match (self.constant(a).cloned(), self.constant(b).cloned()) {
            (None, Some(c)) => {
                let role = self.threshold_role(b);
                self.against(order, a, &c, role)
            }
            (Some(c), None) => {
                let role = self.threshold_role(a);
                self.against(order.mirrored(), b, &c, role)
            }
            _ => self.between(order, a, b),
        }
    }

    /// The role of a constant that values are compared with; a single one becomes part of the program.
    fn threshold_role(&mut self, v: ValueId) -> Role {
        if self.constant(v).is_some_and(|c| c.len() == 1) {
            self.reveal(v, "a threshold, which becomes an offset of the program");
        }
        self.role(v)
    }

    /// A comparison with a constant.
    fn against(&mut self, order: Order, v: ValueId, c: &TensorF, role: Role) -> Outcome<Acc> {
        let mut x = self.acc(v)?;
        if x.has_contraction() {
            x = self.settle(x, Some(v))?;
        }
        let slack = self.spread(&x);
        let exact = slack.units == 0.0 && slack.relative == 0.0;
        let plain = x.as_tensor().is_some();
        if let (Some(id), false) = (x.as_tensor(), exact) {
            self.edges.thresholds(id, self.b.shape(id), c);
            if self.model.value(v).dtype == DType::F32 && self.doubles {
                self.edges.single(id);
            }
        }
        let mantissa = exp2(-self.model.value(v).dtype.mantissa_bits());
        let (min, max) = self.b.bounds(&x);
        let own = x.as_tensor().filter(|_| !exact && !self.images.is_empty());
        let input = own.and_then(|id| super::super::edges::input_of(&self.b.program, id));
        let image = |t: f64| {
            let at = (input?, x.scale, t.to_bits());
            self.images.get(&at).map(|&image| i128::from(image))
        };
        // The least element that counts as equal or greater, and the greatest that counts as equal or less.
        let end = |i: usize| -> Option<(i128, i128)> {
            if let Data::I(c) = &c.data {
                let at = i128::from(*c.get(i)?) << x.scale.clamp(0, 62);
                return Some((at, at));
            }
            if let Some(image) = image(c.at(i)) {
                return Some((image, image));
            }
            let at = c.at(i) * exp2(x.scale);
            if at.is_nan() {
                return None;
            }
            if exact {
                return Some((at.ceil() as i128, at.floor() as i128));
            }
            let tied = if plain {
                slack.units - 0.5
            } else {
                let constant = if at.fract() == 0.0 { 0.0 } else { 0.5 };
                slack.units + constant + (slack.relative + mantissa) * at.abs()
            };
            let (at, tied) = (at.round() as i128, tied.max(0.0).floor() as i128);
            Some((at.saturating_sub(tied), at.saturating_add(tied)))
        };
        let ends: Option<Vec<(i128, i128)>> = (0..c.len()).map(end).collect();
        let ends = ends.ok_or_else(|| "a constant is not a number".to_owned())?;
        // Past the operand's bounds, one threshold is like another.
        let within = |v: i128| v.clamp(min.saturating_sub(1), max.saturating_add(1));
        let least: Vec<i128> = ends.iter().map(|e| within(e.0)).collect();
        let most: Vec<i128> = ends.iter().map(|e| within(e.1)).collect();
        if !exact && !plain {
            let turn = |at: f64, i: usize| {
                let equal = Turn { at, strict: false, element: least[i] };
                match order {
                    Order::Less | Order::GreaterOrEqual => vec![equal],
                    Order::LessOrEqual | Order::Greater => {
                        vec![Turn { strict: true, element: most[i] + 1, ..equal }]
                    }
                    Order::Equal => vec![equal, Turn { strict: true, element: most[i] + 1, ..equal }],
                }
            };
            let turns: Vec<Vec<Turn>> = (0..c.len()).map(|i| turn(c.at(i), i)).collect();
            self.cut(v, &x, &c.shape, &turns);
        }
        let shape = crate::onnx::broadcast(&x.shape, &c.shape).map_err(|e| e.to_string())?;
        let above = |s: &mut Self, at: &[i128], x: &Acc| -> Outcome<Acc> {
            let t = s.threshold(at, c, x.scale, role)?;
            let d = s.sum(x.clone(), None, s.b.neg(&t)?, None)?;
            Ok(Acc { shape: shape.clone(), ..d })
        };
        let moved = |list: &[i128], by: i128| list.iter().map(|v| within(v + by)).collect::<Vec<_>>();
        Ok(match order {
            // x ≥ t
            Order::GreaterOrEqual => {
                let d = above(self, &least, &x)?;
                self.decision(&d)?
            }
            Order::Greater => {
                let d = above(self, &moved(&most, 1), &x)?;
                self.decision(&d)?
            }
            // t ≥ x
            Order::LessOrEqual => {
                let d = above(self, &most, &x)?;
                self.decision(&self.b.neg(&d)?)?
            }
            Order::Less => {
                let d = above(self, &moved(&least, -1), &x)?;
                self.decision(&self.b.neg(&d)?)?
            }
            Order::Equal => {
                let up = above(self, &least, &x)?;
                let down = if least == most { up.clone() } else { above(self, &most, &x)? };
                let (up, down) = (self.decision(&up)?, self.decision(&self.b.neg(&down)?)?);
                let mut both = self.b.add(&up, &down)?;
                both.constant -= 1;
                both
            }
        })
    }

    /// A comparison of two computed values.
    fn between(&mut self, order: Order, a: ValueId, b: ValueId) -> Outcome<Acc> {
        let (x, y) = (self.acc(a)?, self.acc(b)?);
        let tied = self.tied(a, &x, &y);
        let y = self.b.neg(&y)?;
        let mut d = self.sum(x, Some(a), y, Some(b))?;
        let mut tied = (tied * exp2(d.scale)).floor().clamp(0.0, exp2(40)) as i64;
        if d.has_contraction() {
            (d, tied) = (self.settle(d, None)?, 0);
        }
        let past = |s: &Self, d: &Acc, by: i64| -> Outcome<Acc> {
            let constant = d.constant.checked_add(by).ok_or_else(|| s.b.fail("a constant is too large"))?;
            Ok(Acc { constant, ..d.clone() })
        };
        let opposite = self.b.neg(&d)?;
        Ok(match order {
            Order::GreaterOrEqual => {
                let d = past(self, &d, tied)?;
                self.decision(&d)?
            }
            Order::Greater => {
                let d = past(self, &d, -tied - 1)?;
                self.decision(&d)?
            }
            Order::LessOrEqual => {
                let d = past(self, &opposite, tied)?;
                self.decision(&d)?
            }
            Order::Less => {
                let d = past(self, &opposite, -tied - 1)?;
                self.decision(&d)?
            }
            Order::Equal => {
                let (up, down) = (past(self, &d, tied)?, past(self, &opposite, tied)?);
                let (up, down) = (self.decision(&up)?, self.decision(&down)?);
                let mut both = self.b.add(&up, &down)?;
                both.constant -= 1;
                both
            }
        })
    }

    /// Greatest difference of two operands that roundings explain. Equal numbers that are rounded once, at one scale, stay equal.
    fn tied(&mut self, v: ValueId, x: &Acc, y: &Acc) -> f64 {
        let (sx, sy) = (self.spread(x), self.spread(y));
        let (ux, uy) = (exp2(-x.scale), exp2(-y.scale));
        let rounded = x.as_tensor().is_some() && y.as_tensor().is_some() && x.scale == y.scale;
        let units = sx.units * ux + sy.units * uy - if rounded { ux } else { 0.0 };
        if rounded || units <= 0.0 && sx.relative + sy.relative == 0.0 {
            return units.max(0.0);
        }
        let most = self.ranges.observed(v).map_or(0.0, |(lo, hi)| lo.abs().max(hi.abs()));
        let mantissa = exp2(-self.model.value(v).dtype.mantissa_bits());
        units + (sx.relative + sy.relative + mantissa) * most
    }

    /// [`Lower::step`] as an accumulator.
    fn decision(&mut self, d: &Acc) -> Outcome<Acc> {
        let id = self.step(d)?;
        Ok(self.b.acc(id))
    }

    /// Thresholds as an accumulator.
    fn threshold(&mut self, at: &[i128], like: &TensorF, scale: i32, role: Role) -> Outcome<Acc> {
        let too_large = || Refusal::Unsupported("a threshold is too large".into());
        let at: Option<Vec<i64>> = at.iter().map(|&v| i64::try_from(v).ok()).collect();
        let at = at.ok_or_else(too_large)?;
        if let [one] = at[..] {
            return Ok(Acc { shape: like.shape.clone(), terms: vec![], constant: one, scale });
        }
        let id = self.b.data(like.shape.clone(), at, scale, role)?;
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
            let part = match (self.single_int(v), self.single(v)) {
                (Some(coeff), _) => Acc {
                    shape: shape.clone(),
                    terms: vec![Term::Scale { x: c, coeff }],
                    constant: 0,
                    scale: 0,
                },
                (None, Some(x)) => {
                    let zero = Acc { shape: vec![], terms: vec![], constant: 0, scale: 0 };
                    let k = self.constant_at(&zero, x, self.bits(out).max(self.act))?;
                    Acc {
                        shape: shape.clone(),
                        terms: vec![Term::Scale { x: c, coeff: k.constant }],
                        constant: 0,
                        scale: k.scale,
                    }
                }
                (None, None) => {
                    let x = self.tensor(v)?;
                    self.product(c, x)?
                }
            };
            let part = self.b.times(&part, sign)?;
            total = Some(match total {
                None => part,
                Some(t) => self.aligned(t, part)?,
            });
        }
        let otherwise = match self.constant(b) {
            Some(_) => self.constant_acc(b, self.bits(out).max(self.act))?,
            None => {
                let id = self.tensor(b)?;
                self.b.acc(id)
            }
        };
        let total = total.ok_or_else(|| Refusal::Unsupported("no branches".into()))?;
        let acc = self.aligned(total, otherwise)?;
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
            let zero = TensorF::zeros(vec![], from).map_err(|e| e.to_string())?;
            let is_zero = self.against(Order::Equal, a, &zero, Role::Constant)?;
            self.b.offset(&self.b.neg(&is_zero)?, 1.0, 0)?
        } else if from.is_float() {
            self.whole_edges(a, &x, Whole::Truncate);
            let whole = self.truncate(&x)?;
            // Numbers past int32 have no result in ONNX; narrower types take the low bits.
            match (to, self.b.bounds(&whole)) {
                (DType::I32 | DType::U64, (lo, hi)) => {
                    let (least, most) = to.int_bounds().unwrap_or((i64::MIN, i64::MAX));
                    let (least, most) = (i128::from(least), i128::from(most));
                    if lo >= least && hi <= most {
                        whole
                    } else {
                        let id = self.b.demand(&whole, (lo.max(least), hi.min(most)))?;
                        self.b.acc(id)
                    }
                }
                _ => whole,
            }
        } else {
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
        // What is within the roundings of a whole number is that number, on both sides of zero.
        let tied = self.near_whole(x);
        let id = self.exact(x)?;
        let x = self.b.acc(id);
        let up = self.relu(&x, x.scale, None)?;
        let up = self.b.acc(up);
        let mut down = self.b.add(&up, &self.b.neg(&x)?)?;
        let mut up = up;
        (up.constant, down.constant) = (up.constant + tied, down.constant + tied);
        let (up, down) = (self.floor_exactly(&up)?, self.floor_exactly(&down)?);
        Ok(self.b.add(&up, &self.b.neg(&down)?)?)
    }
}
