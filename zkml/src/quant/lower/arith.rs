//! Sums, products, quotients, and what is piecewise linear.

use crate::onnx::{DType, Node, ValueId};
use crate::qir::{OpKind, TensorId};

use super::super::builder::{Acc, Rounding, exp2, real_hull};
use super::super::scale;
use super::decide::Whole;
use super::{Lower, Outcome, Refusal};

/// Significant bits of a real factor.
const FACTOR_BITS: i32 = 16;
/// Bits of a shifted integer before it is brought back into its type.
const SHIFTED_BITS: i64 = 58;

impl Lower<'_> {
    pub(super) fn arithmetic(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let a = self.need(n, 0)?;
        let acc = match n.op.as_str() {
            "Add" | "Sub" => {
                let b = self.need(n, 1)?;
                self.add_values(a, b, n.op == "Sub")?
            }
            "Neg" => {
                let x = self.acc(a)?;
                self.b.neg(&x)?
            }
            "Mul" => {
                let b = self.need(n, 1)?;
                match (a == b).then(|| self.squared_difference(out, a)).flatten() {
                    Some(acc) => acc,
                    None => self.mul_values(a, b)?,
                }
            }
            "Div" => return self.divide(out, a, self.need(n, 1)?),
            "Mod" => self.modulo(n, a)?,
            "Pow" => return self.power(n, out, a),
            "Sqrt" => {
                let id = self.sqrt(a)?;
                return self.set_tensor(out, id);
            }
            "Reciprocal" => {
                let one = Acc { shape: self.shape(a).to_vec(), terms: vec![], constant: 1, scale: 0 };
                let q = self.quotient(out, &one, a)?;
                return self.set_tensor(out, q);
            }
            "Relu" => {
                let x = self.acc(a)?;
                let mut frac = self.frac(out);
                // A tensor that is hardly finer stays as it is: that is exact, and cheaper than a rounding.
                if x.as_tensor().is_some() && x.scale <= frac + 2 {
                    frac = frac.max(x.scale);
                }
                let range = self.range(a);
                let id = self.relu(&x, frac, range)?;
                return self.set_tensor(out, id);
            }
            "LeakyRelu" => {
                // αx + (1 − α)·max(x, 0)
                let alpha = n.attrs.float_or("alpha", 0.01)?;
                let x = self.tensor(a)?;
                let x = self.b.acc(x);
                let r = self.relu(&x, x.scale, None)?;
                let r = self.b.acc(r);
                let low = self.b.multiply(&x, alpha, FACTOR_BITS)?;
                let high = self.b.multiply(&r, 1.0 - alpha, FACTOR_BITS)?;
                self.aligned(low, high)?
            }
            "PRelu" => {
                // max(x, 0) + slope·(x − max(x, 0))
                let x = self.tensor(a)?;
                let shape = self.shape(out).to_vec();
                let x = self.b.expand(x, &shape)?;
                let x = self.b.acc(x);
                let r = self.relu(&x, x.scale, None)?;
                let r = self.b.acc(r);
                let negative = self.b.add(&x, &self.b.neg(&r)?)?;
                let slope = self.need(n, 1)?;
                let low = match self.single(slope) {
                    Some(s) => self.b.multiply(&negative, s, FACTOR_BITS)?,
                    None => {
                        let (m, s) = (self.exact(&negative)?, self.tensor(slope)?);
                        self.product(m, s)?
                    }
                };
                self.b.add(&r, &low)?
            }
            "Abs" => {
                // 2·max(x, 0) − x
                let x = self.tensor(a)?;
                let x = self.b.acc(x);
                let r = self.relu(&x, x.scale, None)?;
                let twice = self.b.times(&self.b.acc(r), 2)?;
                self.b.add(&twice, &self.b.neg(&x)?)?
            }
            "Max" | "Min" if self.neutral(n, 0, 1) => self.acc(a)?,
            "Max" | "Min" if self.neutral(n, 1, 0) => {
                let b = self.need(n, 1)?;
                self.acc(b)?
            }
            "Max" | "Min" => {
                // b + max(a − b, 0) and a − max(a − b, 0)
                let b = self.need(n, 1)?;
                let difference = self.add_values(a, b, true)?;
                let frac = if self.is_float(out) { self.bits(out).max(self.act) } else { self.act };
                let r = self.relu(&difference, frac, None)?;
                let r = self.b.acc(r);
                if n.op == "Max" {
                    let b = self.acc_of(b)?;
                    self.b.add(&b, &r)?
                } else {
                    let a = self.acc_of(a)?;
                    self.b.add(&a, &self.b.neg(&r)?)?
                }
            }
            "Clip" => self.clip(n, out, a)?,
            "Sign" => self.sign(a)?,
            "Floor" => {
                let x = self.acc(a)?;
                self.whole_edges(a, &x, Whole::Floor);
                self.floor(&x)?
            }
            "Ceil" => {
                let x = self.acc(a)?;
                self.whole_edges(a, &x, Whole::Ceil);
                let f = self.floor(&self.b.neg(&x)?)?;
                self.b.neg(&f)?
            }
            "Round" => {
                let x = self.acc(a)?;
                self.half_edges(&x);
                let x = self.snapped(x)?;
                self.round_even(&x)?
            }
            _ => self.bit_shift(n, a)?,
        };
        self.set_acc(out, acc)
    }

    /// A value as an accumulator of one tensor or a constant: to be used twice.
    pub(super) fn acc_of(&mut self, v: ValueId) -> Outcome<Acc> {
        if self.constant(v).is_some() {
            return self.constant_acc(v, self.act);
        }
        let id = self.tensor(v)?;
        Ok(self.b.acc(id))
    }

    pub(super) fn add_values(&mut self, a: ValueId, b: ValueId, subtract: bool) -> Outcome<Acc> {
        // The variable operand decides how precise a constant has to be.
        let (x, y) = match (self.constant(a).is_some(), self.constant(b).is_some()) {
            (false, true) => {
                let x = self.acc(a)?;
                let y = self.summand(b, &x)?;
                (x, y)
            }
            (true, false) => {
                let y = self.acc(b)?;
                (self.summand(a, &y)?, y)
            }
            _ => (self.acc(a)?, self.acc(b)?),
        };
        let y = if subtract { self.b.neg(&y)? } else { y };
        self.sum(x, Some(a), y, Some(b))
    }

    /// A constant that is added to an accumulator.
    fn summand(&mut self, c: ValueId, x: &Acc) -> Outcome<Acc> {
        let scale = x.scale.max(self.act);
        if self.weighted(x) { self.bias_acc(c, scale) } else { self.constant_acc(c, scale) }
    }

    pub(super) fn mul_values(&mut self, a: ValueId, b: ValueId) -> Outcome<Acc> {
        for (x, c) in [(a, b), (b, a)] {
            if let Some(factor) = self.single_int(c) {
                let acc = self.acc(x)?;
                let shape =
                    crate::onnx::broadcast(self.shape(x), self.shape(c)).map_err(|e| e.to_string())?;
                if factor == 0 {
                    return Ok(Acc { shape, terms: vec![], constant: 0, scale: 0 });
                }
                let acc = if acc.shape == shape { acc } else { self.spread_to(acc, &shape)? };
                return Ok(self.b.times(&acc, factor)?);
            }
            if let Some(c_value) = self.single(c) {
                let acc = self.acc(x)?;
                let shape =
                    crate::onnx::broadcast(self.shape(x), self.shape(c)).map_err(|e| e.to_string())?;
                let acc = if acc.shape == shape { acc } else { self.spread_to(acc, &shape)? };
                return if c_value.fract() == 0.0 && c_value.abs() < exp2(31) && c_value != 0.0 {
                    Ok(self.b.times(&acc, c_value as i64)?)
                } else {
                    self.scaled_by(acc, Some(x), c_value, FACTOR_BITS + 2)
                };
            }
        }
        let (x, y) = (self.tensor(a)?, self.tensor(b)?);
        self.product(x, y)
    }

    /// An accumulator with a broadcast shape.
    fn spread_to(&mut self, acc: Acc, shape: &[usize]) -> Outcome<Acc> {
        let acc = if acc.has_contraction() { self.settle(acc, None)? } else { acc };
        Ok(Acc { shape: shape.to_vec(), ..acc })
    }

    /// ⌊x⌋ with scale 0, where what is within the roundings of a whole number is that number.
    pub(super) fn floor(&mut self, x: &Acc) -> Outcome<Acc> {
        let near = self.near_whole(x);
        let constant = x.constant.checked_add(near).ok_or_else(|| "a constant is too large".to_owned())?;
        self.floor_exactly(&Acc { constant, ..x.clone() })
    }

    /// ⌊x⌋ of the integers as they are.
    pub(super) fn floor_exactly(&mut self, x: &Acc) -> Outcome<Acc> {
        if x.scale <= 0 {
            return Ok(x.clone());
        }
        let down = Acc {
            constant: x
                .constant
                .checked_sub(1 << (x.scale - 1))
                .ok_or_else(|| "a constant is too large".to_owned())?,
            ..x.clone()
        };
        let id = self.b.round(&down, Rounding { frac: 0, relu: false, range: None })?;
        self.slack.decided(id);
        Ok(self.b.acc(id))
    }

    /// x rounded to the nearest integer, ties to even, with scale 0.
    pub(super) fn round_even(&mut self, x: &Acc) -> Outcome<Acc> {
        if x.scale <= 0 {
            return Ok(x.clone());
        }
        // With p the parity of ⌊x⌋: ⌊x + ½ − (1 − p)·ulp⌋ sends a tie down where ⌊x⌋ is even and up where it is odd.
        let whole = self.exact(x)?;
        let whole = self.b.acc(whole);
        let floor = self.floor_exactly(&whole)?;
        let halved = Acc { scale: floor.scale + 1, ..floor.clone() };
        let pair = self.floor_exactly(&halved)?;
        let twice = self.b.times(&pair, 2)?;
        let mut parity = self.b.add(&floor, &self.b.neg(&twice)?)?;
        let p = self.exact(&parity)?;
        parity = self.b.acc(p);
        // One unit of the operand, not one whole.
        parity.scale = x.scale;
        let mut sum = self.b.add(&whole, &parity)?;
        sum.constant -= 1;
        let id = self.b.round(&sum, Rounding { frac: 0, relu: false, range: None })?;
        self.slack.decided(id);
        Ok(self.b.acc(id))
    }

    /// A constant of one element that is infinite.
    fn infinite(&self, v: ValueId) -> Option<f64> {
        self.constant(v)?.single().filter(|c| c.is_infinite())
    }

    /// Whether operand `c` of a maximum or minimum is an infinity that never decides, so that the other one, `x`, is the result.
    fn neutral(&self, n: &Node, x: usize, c: usize) -> bool {
        let least = if n.op == "Max" { f64::NEG_INFINITY } else { f64::INFINITY };
        let (a, b) = (n.input(x), n.input(c).filter(|&b| self.infinite(b) == Some(least)));
        a.zip(n.output(0)).is_some_and(|(a, out)| b.is_some() && self.shape(a) == self.shape(out))
    }

    fn clip(&mut self, n: &Node, out: ValueId, a: ValueId) -> Outcome<Acc> {
        if !self.is_float(a) {
            return self.clip_integers(n, a);
        }
        let mut bound = |i: usize, name: &str| -> Outcome<Option<f64>> {
            match n.input(i) {
                Some(v) => {
                    // An infinite bound is none, whatever number stands for infinity elsewhere.
                    let infinite = self.infinite(v);
                    let c = infinite.or_else(|| self.single(v));
                    Ok(Some(c.ok_or_else(|| format!("`{name}` is not a constant scalar"))?))
                }
                None => Ok(n.attrs.float(name)?),
            }
        };
        let (lo, hi) = (bound(1, "min")?, bound(2, "max")?);
        let mut x = self.acc(a)?;
        let unit = exp2(-x.scale);
        let range = self.range(a);
        let frac = self.frac(out);
        if let (Some(lo), Some(hi)) = (lo, hi)
            && lo > hi
        {
            let none = Acc { shape: x.shape, terms: vec![], constant: 0, scale: 0 };
            return Ok(self.b.offset(&none, hi, frac)?);
        }
        // Bounds that the operand cannot pass are none.
        let (min, max) = self.b.bounds(&x);
        let lo = lo.filter(|&v| v > min as f64 * unit);
        let hi = hi.filter(|&v| v < max as f64 * unit);
        let shifted = |r: Option<(f64, f64)>, by: f64| r.map(|(a, b)| (a - by.abs(), b + by.abs()));
        if let Some(lo) = lo {
            let above = self.offset_by(&x, -lo, frac)?;
            let r = self.relu(&above, frac, shifted(range, lo))?;
            x = self.offset_by(&self.b.acc(r), lo, frac)?;
        }
        if let Some(hi) = hi {
            let below = self.offset_by(&self.b.neg(&x)?, hi, frac)?;
            let r = self.relu(&below, frac, shifted(range, hi))?;
            x = self.offset_by(&self.b.neg(&self.b.acc(r))?, hi, frac)?;
        }
        Ok(x)
    }

    fn power(&mut self, n: &Node, out: ValueId, a: ValueId) -> Outcome<()> {
        let e = self.need(n, 1)?;
        let e = self
            .single(e)
            .ok_or_else(|| "neither the base nor the exponent is a constant scalar".to_owned())?;
        if !self.is_float(a) {
            let acc = self.integer_power(a, e)?;
            return self.set_acc(out, acc);
        }
        if e == 0.5 {
            let id = self.sqrt(a)?;
            return self.set_tensor(out, id);
        }
        if e == -1.0 || e == -0.5 {
            let one = Acc { shape: self.shape(a).to_vec(), terms: vec![], constant: 1, scale: 0 };
            if e == -1.0 {
                let q = self.quotient(out, &one, a)?;
                return self.set_tensor(out, q);
            }
            let mut root = self.sqrt(a)?;
            let t = self.b.program.tensor(root);
            let (lo, hi, scale) = (t.lo, t.hi, t.scale);
            if let Some((least, _)) = self.ranges.observed(a).filter(|r| lo < 1 && r.0 > 0.0) {
                let least = (least / self.options.headroom).sqrt() * exp2(scale);
                root = self.b.demand(&self.b.acc(root), ((least.floor() as i128).max(1), hi.into()))?;
            }
            let q = self.quotient_of(out, &one, root)?;
            return self.set_tensor(out, q);
        }
        if e == 0.0 {
            return self
                .set_acc(out, Acc { shape: self.shape(a).to_vec(), terms: vec![], constant: 1, scale: 0 });
        }
        if e == 1.0 {
            let x = self.acc(a)?;
            return self.set_acc(out, x);
        }
        if !(e.fract() == 0.0 && (2.0..=16.0).contains(&e)) {
            return Err(format!("there is no table for the exponent {e} over this range").into());
        }
        if e == 2.0
            && let Some(acc) = self.squared_difference(out, a)
        {
            return self.set_acc(out, acc);
        }
        let x = self.tensor(a)?;
        let m = self.range(a).map_or(1.0, |(lo, hi)| lo.abs().max(hi.abs()));
        let seen = self.magnitude(a).unwrap_or(1.0);
        let mut power = x;
        let mut bits = (e as u32).leading_zeros() + 1;
        let mut done = 1;
        // Square and multiply from the top bit; the last product is left to the reader to round.
        let mut acc = self.b.acc(x);
        while bits < 32 {
            let odd = (e as u32) << bits >> 31 == 1;
            bits += 1;
            for times_x in [false, true] {
                if times_x && !odd {
                    continue;
                }
                if acc.as_tensor() != Some(power) {
                    let r = m.powi(done);
                    let frac = scale::fitting(seen.powi(done), self.act);
                    power = self.b.round(&acc, Rounding { frac, relu: false, range: Some((-r, r)) })?;
                }
                done = if times_x { done + 1 } else { done * 2 };
                acc = self.product(power, if times_x { x } else { power })?;
            }
        }
        self.set_acc(out, acc)
    }

    fn divide(&mut self, out: ValueId, a: ValueId, b: ValueId) -> Outcome<()> {
        if !self.is_float(out) {
            let acc = self.integer_quotient(a, b)?;
            return self.set_acc(out, acc);
        }
        if let Some(c) = self.constant(b) {
            if c.to_f64().contains(&0.0) {
                return Err("a constant divisor is zero".to_owned().into());
            }
            if let Some(d) = self.single(b) {
                let x = self.acc(a)?;
                let shape = self.shape(out).to_vec();
                let x = if x.shape == shape { x } else { self.spread_to(x, &shape)? };
                let acc = self.scaled_by(x, Some(a), 1.0 / d, FACTOR_BITS + 4)?;
                return self.set_acc(out, acc);
            }
            let inverse: Vec<f64> = c.to_f64().into_iter().map(|v| 1.0 / v).collect();
            let t = crate::onnx::TensorF::float(c.shape.clone(), DType::F64, inverse)
                .map_err(|e| e.to_string())?;
            // As a single divisor: a factor of too few bits moves quotients over whole numbers.
            let scale = self.bias_scale(&t.to_f64());
            let q = super::quantise(&t, scale, f64::round);
            let inverse = self.b.data(t.shape, q, scale, crate::qir::Role::Param)?;
            let x = self.tensor(a)?;
            let acc = self.product(x, inverse)?;
            return self.set_acc(out, acc);
        }
        let num = self.acc(a)?;
        let shape = self.shape(out).to_vec();
        let num = if num.shape == shape { num } else { self.spread_to(num, &shape)? };
        let q = self.shared_quotient(out, &num, self.bits(a), b)?;
        self.set_acc(out, q)
    }

    /// `num / den`, rounded to nearest.
    fn quotient(&mut self, out: ValueId, num: &Acc, den: ValueId) -> Outcome<TensorId> {
        let (num, den) = self.positive_divisor(num, den)?;
        self.quotient_of(out, &num, den)
    }

    /// The quotient as an accumulator. Where a divisor serves several numerators, its reciprocal is cheaper than as many divisions.
    fn shared_quotient(&mut self, out: ValueId, num: &Acc, keep: i32, den: ValueId) -> Outcome<Acc> {
        let count = |s: &[usize]| s.iter().product::<usize>();
        let (num, den_id) = self.positive_divisor(num, den)?;
        if count(&num.shape) < 2 * count(self.b.shape(den_id)) {
            let q = self.quotient_of(out, &num, den_id)?;
            return Ok(self.b.acc(q));
        }
        // Eighteen significant bits of the least reciprocal that calibration saw, on top of the magnitude of the numerator.
        let most = self.ranges.observed(den).map_or(1.0, |(lo, hi)| lo.abs().max(hi.abs()));
        let most = 18 + scale::exponent(most);
        let frac = most.max(self.act.min(most + 6)).min(56 - self.b.scale(den_id));
        let inverse = self.reciprocal(den_id, frac)?;
        if num.scale <= keep + 4
            && let Some(acc) = self.scaled_difference(&num, inverse)?
        {
            return Ok(acc);
        }
        let x = self
            .b
            .round(&num, Rounding { frac: keep.max(num.scale.min(keep + 4)), relu: false, range: None })?;
        let x = self.b.expand(x, &num.shape)?;
        self.product(x, inverse)
    }

    /// 1 / den for a divisor that is at least one unit, rounded to nearest.
    pub(super) fn reciprocal(&mut self, den: TensorId, frac: i32) -> Outcome<TensorId> {
        let shape = self.b.shape(den).to_vec();
        let want = frac + self.b.scale(den) + 1;
        if want >= 60 {
            return Err(format!("a reciprocal of {frac} fraction bits does not fit").into());
        }
        // ⌊(2^want + den) / 2·den⌋
        let half = Acc { scale: want, ..self.b.acc(den) };
        let one = Acc { shape: shape.clone(), terms: vec![], constant: 1 << want, scale: want };
        let num = self.b.add(&one, &half)?;
        let num = self.exact(&num)?;
        let two = self.b.times(&self.b.acc(den), 2)?;
        let two = self.exact(&two)?;
        self.div(num, two, shape, frac)
    }

    /// A divisor of at least one unit, with the numerator that goes with it.
    fn positive_divisor(&mut self, num: &Acc, den: ValueId) -> Outcome<(Acc, TensorId)> {
        // Sixteen significant bits of the smallest divisor.
        let least = self.ranges.observed(den).map_or(1.0, |(lo, hi)| {
            if lo > 0.0 {
                lo
            } else if hi < 0.0 {
                -hi
            } else {
                self.ranges.least(den).unwrap_or(1.0)
            }
        });
        let most = self.magnitude(den).map_or(0, scale::exponent);
        let frac =
            (16 - least.log2().floor() as i32).max(self.bits(den)).min((38 - most).max(self.bits(den)));
        let den_id = self.tensor_at(den, Some(frac))?;
        let t = self.b.program.tensor(den_id);
        let (lo, hi, scale) = (t.lo, t.hi, t.scale);
        if lo >= 1 {
            return Ok((num.clone(), den_id));
        }
        let (seen_lo, seen_hi) =
            self.ranges.observed(den).ok_or_else(|| "the divisor has no calibrated range".to_owned())?;
        let h = self.options.headroom;
        if seen_lo > 0.0 {
            let floor = ((seen_lo / h * exp2(scale)).floor() as i128).max(1);
            let bounded = self.b.demand(&self.b.acc(den_id), (floor, hi.into()))?;
            return Ok((num.clone(), bounded));
        }
        if seen_hi < 0.0 {
            let floor = ((-seen_hi / h * exp2(scale)).floor() as i128).max(1);
            let negated = self.b.neg(&self.b.acc(den_id))?;
            let bounded = self.b.demand(&negated, (floor, -i128::from(lo)))?;
            return Ok((self.b.neg(num)?, bounded));
        }
        // Both signs: |den| in the denominator, its sign in the numerator.
        let d = self.b.acc(den_id);
        let positive = self.step(&d)?;
        let mut sign = self.b.times(&self.b.acc(positive), 2)?;
        sign.constant -= 1;
        let sign = self.exact(&sign)?;
        let magnitude = self.product(sign, den_id)?;
        let bounded = self.b.demand(&magnitude, (1, i128::from(hi).max(-i128::from(lo))))?;
        let n = self.exact(num)?;
        Ok((self.product(sign, n)?, bounded))
    }

    /// `num / den` for a divisor that is at least one unit, rounded to nearest: ⌊(2·num + den) / 2·den⌋.
    pub(super) fn quotient_of(&mut self, out: ValueId, num: &Acc, den: TensorId) -> Outcome<TensorId> {
        let frac = self.frac(out);
        let shape = num.shape.clone();
        // num·2^k / den has frac fraction bits for k = frac + scale(den) − scale(num).
        let want = frac + self.b.scale(den) + 1;
        let num = if num.scale > want {
            let id = self.b.coarsen(num, want)?;
            self.b.acc(id)
        } else {
            num.clone()
        };
        let mut num = self.b.rescale(&num, want)?;
        if num.has_contraction() {
            let id = self.exact(&num)?;
            num = self.b.acc(id);
        }
        let half = Acc { scale: want, ..self.b.acc(den) };
        let num = self.b.add(&num, &half)?;
        let num = Acc { shape: shape.clone(), ..num };
        let num = self.exact(&num)?;
        let two = self.b.times(&self.b.acc(den), 2)?;
        let two = self.exact(&two)?;
        self.div(num, two, shape, frac)
    }

    /// The floored quotient of tensors.
    pub(super) fn div(
        &mut self,
        num: TensorId,
        den: TensorId,
        shape: Vec<usize>,
        scale: i32,
    ) -> Outcome<TensorId> {
        let (n, d) = (self.b.program.tensor(num), self.b.program.tensor(den));
        if d.lo < 1 {
            return Err(format!("the divisor `{}` may be {}", d.name, d.lo).into());
        }
        let q = |a: i64, b: i64| i128::from(a.div_euclid(b));
        let all = [q(n.lo, d.lo), q(n.lo, d.hi), q(n.hi, d.lo), q(n.hi, d.hi)];
        let bounds = (all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0));
        Ok(self.b.op(OpKind::Div { num, den }, shape, bounds, scale)?)
    }

    /// Integer division towards zero.
    fn integer_quotient(&mut self, a: ValueId, b: ValueId) -> Outcome<Acc> {
        let shape = crate::onnx::broadcast(self.shape(a), self.shape(b)).map_err(|e| e.to_string())?;
        let (x, d) = self.signed_divisor(a, b, &shape)?;
        if self.b.program.tensor(x).lo >= 0 {
            let q = self.div(x, d, shape, 0)?;
            return Ok(self.b.acc(q));
        }
        // ⌊max(x, 0)/d⌋ − ⌊max(−x, 0)/d⌋
        let x = self.b.acc(x);
        let up = self.relu(&x, 0, None)?;
        let down = self.b.add(&self.b.acc(up), &self.b.neg(&x)?)?;
        let down = self.exact(&down)?;
        // max(−x, 0) is not negative, which interval arithmetic cannot see.
        let bound = i128::from(self.b.program.tensor(down).hi);
        let down = self.b.enforce(&self.b.acc(down), (0, bound))?;
        let up = self.div(up, d, shape.clone(), 0)?;
        let down = self.div(down, d, shape, 0)?;
        Ok(self.b.add(&self.b.acc(up), &self.b.neg(&self.b.acc(down))?)?)
    }

    /// Integer operands of a division, with the signs of the divisor moved to the numerator: what divides is at least one.
    fn signed_divisor(&mut self, a: ValueId, b: ValueId, shape: &[usize]) -> Outcome<(TensorId, TensorId)> {
        let x = self.tensor(a)?;
        let x = self.b.expand(x, shape)?;
        let Some(c) = self.constant(b).cloned() else {
            let d = self.tensor(b)?;
            let t = self.b.program.tensor(d);
            let (lo, hi) = (t.lo, t.hi);
            if lo >= 1 {
                return Ok((x, d));
            }
            let seen = self.ranges.observed(b);
            if lo >= 0 || seen.is_some_and(|(least, _)| least >= 1.0) {
                return Ok((x, self.b.demand(&self.b.acc(d), (1, hi.into()))?));
            }
            let positive = self.step(&self.b.acc(d))?;
            let mut sign = self.b.times(&self.b.acc(positive), 2)?;
            sign.constant -= 1;
            let sign = self.exact(&sign)?;
            let size = self.product(sign, d)?;
            let size = self.b.demand(&size, (1, i128::from(hi).max(-i128::from(lo))))?;
            let x = self.product(x, sign)?;
            return Ok((self.exact(&x)?, size));
        };
        let d = c.to_i64();
        if d.contains(&0) {
            return Err("a constant divisor is zero".to_owned().into());
        }
        let why = "a divisor of integers";
        if d.iter().all(|d| *d > 0) {
            return Ok((x, self.plain(b, why)?));
        }
        self.reveal(b, why);
        let role = crate::qir::Role::Constant;
        let signs = self.b.data(c.shape.clone(), d.iter().map(|d| d.signum()).collect(), 0, role)?;
        let sizes = self.b.data(c.shape, d.iter().map(|d| d.saturating_abs()).collect(), 0, role)?;
        let x = self.product(x, signs)?;
        Ok((self.exact(&x)?, sizes))
    }

    fn modulo(&mut self, n: &Node, a: ValueId) -> Outcome<Acc> {
        // x − d·(x / d), with the quotient rounded towards zero as in C, or downwards.
        let b = self.need(n, 1)?;
        if self.is_float(a) {
            return Err("of real numbers".to_owned().into());
        }
        let shape = crate::onnx::broadcast(self.shape(a), self.shape(b)).map_err(|e| e.to_string())?;
        let q = if n.attrs.int_or("fmod", 0)? != 0 {
            let q = self.integer_quotient(a, b)?;
            self.exact(&q)?
        } else {
            let (num, den) = self.signed_divisor(a, b, &shape)?;
            self.div(num, den, shape.clone(), 0)?
        };
        let d = self.plain(b, "a divisor of integers")?;
        let back = self.product(q, d)?;
        let x = self.tensor(a)?;
        let r = self.b.add(&self.b.acc(x), &self.b.neg(&back)?)?;
        Ok(Acc { shape, ..r })
    }

    fn bit_shift(&mut self, n: &Node, a: ValueId) -> Outcome<Acc> {
        let by = self.need(n, 1)?;
        let left = n.attrs.str("direction")? == Some("LEFT");
        let constant = self.constant(by).cloned().ok_or_else(|| "the distance is not constant".to_owned())?;
        let mut distances = constant.to_i64();
        // Past the width of the type, all bits leave.
        let width = match self.model.value(a).dtype {
            DType::U8 | DType::I8 => 8,
            DType::U16 | DType::I16 => 16,
            DType::U32 | DType::I32 => 32,
            _ => 64,
        };
        distances.iter_mut().filter(|d| !(0..width).contains(*d)).for_each(|d| *d = width);
        let x = self.acc_of(a)?;
        let (lo, hi) = self.b.bounds(&x);
        let bits = i64::from(128 - lo.unsigned_abs().max(hi.unsigned_abs()).leading_zeros());
        self.reveal(by, "a distance of a shift");
        let gone = |d: i64| d == width && left;
        if !left {
            // As many bits as there are leave only the sign.
            distances.iter_mut().for_each(|d| *d = (*d).min(bits));
        }
        if distances.iter().all(|d| gone(*d)) {
            let shape = crate::onnx::broadcast(self.shape(a), &constant.shape).map_err(|e| e.to_string())?;
            return Ok(Acc { shape, terms: vec![], constant: 0, scale: 0 });
        }
        if left && distances.iter().any(|d| !gone(*d) && bits + d > SHIFTED_BITS) {
            return self.shift_low_bits(x, &constant.shape, &distances, width);
        }
        if let [by] = distances[..] {
            return if left {
                Ok(self.b.times(&x, 1 << by)?)
            } else {
                self.floor_exactly(&Acc { scale: by as i32, ..x })
            };
        }
        let powers = distances.iter().map(|&d| if gone(d) { 0 } else { 1i64 << d }).collect();
        let powers = self.b.data(constant.shape.clone(), powers, 0, crate::qir::Role::Constant)?;
        let shape = crate::onnx::broadcast(self.shape(a), &constant.shape).map_err(|e| e.to_string())?;
        let x = self.exact(&x)?;
        let x = self.b.expand(x, &shape)?;
        if left {
            return self.product(x, powers);
        }
        let q = self.div(x, powers, shape, 0)?;
        Ok(self.b.acc(q))
    }

    /// x shifted to the left, of what stays within the width: `(x mod 2^(width − by)) · 2^by`.
    fn shift_low_bits(&mut self, x: Acc, of: &[usize], distances: &[i64], width: i64) -> Outcome<Acc> {
        let shape = crate::onnx::broadcast(&x.shape, of).map_err(|e| e.to_string())?;
        if width > SHIFTED_BITS {
            return Err("bits of 64-bit integers leave".to_owned().into());
        }
        let role = crate::qir::Role::Constant;
        let ends = distances.iter().map(|d| 1i64 << (width - d)).collect();
        let powers = distances.iter().map(|d| if *d == width { 0 } else { 1i64 << d }).collect();
        let ends = self.b.data(of.to_vec(), ends, 0, role)?;
        let powers = self.b.data(of.to_vec(), powers, 0, role)?;
        let x = self.exact(&x)?;
        let x = self.b.expand(x, &shape)?;
        let turns = self.div(x, ends, shape.clone(), 0)?;
        let back = self.product(turns, ends)?;
        let low = self.b.add(&self.b.acc(x), &self.b.neg(&back)?)?;
        // What is left is below the greatest end, which interval arithmetic cannot see.
        let most = distances.iter().map(|d| (1i128 << (width - d)) - 1).max().unwrap_or(0);
        let low = self.b.enforce(&low, (0, most))?;
        let shifted = self.product(low, powers)?;
        let id = self.b.enforce(&shifted, (0, (1i128 << width) - 1))?;
        Ok(self.b.acc(id))
    }

    /// ⌊√x⌋ with guard bits, and with the significant bits that the least root needs.
    pub(super) fn sqrt(&mut self, a: ValueId) -> Outcome<TensorId> {
        /// Bits of a radicand.
        const ROOM: i32 = 60;
        let mut x = self.acc(a)?;
        let seen = self.magnitude(a).map_or(1.0, f64::sqrt);
        let least = self.ranges.least(a).map_or(1.0, f64::sqrt);
        let guarded = scale::fitting(seen, self.act + 3).max(11 - scale::exponent(least));
        // What the operand may be: what arithmetic says, or what the range check will.
        let implied = self.b.width(&x) - x.scale;
        let range = self.range(a);
        let allowed = range.map_or(implied, |(_, hi)| scale::exponent(hi) + 1);
        let most = (ROOM - implied.min(allowed)).div_euclid(2);
        // A radicand that is hardly finer stays as it is: that is exact, and cheaper than a rounding.
        let own = (x.scale + 1).div_euclid(2);
        let fine = own > guarded && own <= guarded + 2 && own <= (ROOM - implied).div_euclid(2);
        let root_frac = if fine { own } else { guarded.min(most) };
        let want = 2 * root_frac;
        if x.scale > want {
            let id = if x.as_tensor().is_some() {
                self.b.coarsen(&x, want)?
            } else {
                self.b.round(&x, Rounding { frac: want, relu: false, range })?
            };
            x = self.b.acc(id);
        } else if let Some((_, hi)) = range.filter(|_| implied + want > ROOM + 1) {
            let (_, top) = real_hull(0.0, hi, x.scale);
            let id = self.b.demand(&x, (0, top))?;
            x = self.b.acc(id);
        }
        if self.b.bounds(&x).0 < 0 {
            let id = self.exact(&x)?;
            let hi = self.b.program.tensor(id).hi;
            let id = self.b.demand(&self.b.acc(id), (0, hi.into()))?;
            x = self.b.acc(id);
        }
        let x = self.b.rescale(&x, want)?;
        let id = self.exact(&x)?;
        let t = self.b.program.tensor(id);
        if t.lo < 0 {
            return Err(Refusal::Unsupported("the operand may be negative".into()));
        }
        let bounds = (t.lo.isqrt().into(), t.hi.isqrt().into());
        let shape = t.shape.clone();
        Ok(self.b.op(OpKind::Sqrt { x: id }, shape, bounds, root_frac)?)
    }
}
