//! Integers with the real factor that they stand for: what is between DequantizeLinear and QuantizeLinear.
//!
//! A dequantised tensor is `(q − zero) · factor` with a factor that is no power of two. Sums of products of such tensors are sums of products of their
//! integers, and the factors multiply; so a convolution between two quantised tensors is one contraction of integers and one rounding, as in ONNX
//! Runtime's own integer operators. Whatever has no such form asks for the real number.

use crate::onnx::{DType, Node, TensorF, ValueId};
use crate::qir::{TensorId, Term};

use super::super::builder::{Acc, Rounding, exp2};
use super::{Lower, Outcome, Val};

/// Significant bits of a factor: those of single precision.
pub(super) const FACTOR_BITS: i32 = 24;

/// A summand: integers times a factor, or one factor per index of an axis.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub acc: Acc,
    pub factor: Vec<f64>,
    pub axis: usize,
}

/// A sum of scaled integers, clamped.
#[derive(Clone, Debug)]
pub(super) struct Scaled {
    pub shape: Vec<usize>,
    pub parts: Vec<Part>,
    /// Bounds that the number is clamped to.
    pub clip: (f64, f64),
}

/// No bounds.
const FREE: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// A product of single-precision numbers.
pub(super) fn product(a: f64, b: f64) -> f64 {
    DType::F32.round(a * b)
}

impl Scaled {
    fn one(acc: Acc, factor: Vec<f64>, axis: usize) -> Scaled {
        Scaled { shape: acc.shape.clone(), parts: vec![Part { acc, factor, axis }], clip: FREE }
    }

    fn is_free(&self) -> bool {
        self.clip == FREE
    }
}

impl Lower<'_> {
    /// The scaled integers that a value is, where it is some.
    fn scaled(&mut self, v: ValueId) -> Outcome<Option<Scaled>> {
        if let Some(Val::Scaled(s)) = &self.vals[v.index()] {
            return Ok(Some(s.as_ref().clone()));
        }
        if let Some(s) = self.kept.get(&v) {
            return Ok(Some(s.as_ref().clone()));
        }
        let Some((id, factor, axis)) = self.integers(v)? else { return Ok(None) };
        let acc = self.b.acc(id);
        Ok(Some(Scaled::one(acc, factor, axis)))
    }

    /// The integers of a dequantised constant, less their zero point, with its scales.
    fn integers(&mut self, v: ValueId) -> Outcome<Option<(TensorId, Vec<f64>, usize)>> {
        let Some(integers) = self.model.value(v).origin.integers.clone() else { return Ok(None) };
        if self.constant(v).is_none() || integers.scale.shape.len() > 1 {
            return Ok(None);
        }
        let key = (std::sync::Arc::as_ptr(&integers).addr(), i32::MIN, self.role(v));
        let id = match self.data.get(&key) {
            Some(&id) => id,
            None => {
                let (q, axis) = (&integers.q, integers.axis);
                let inner: usize = q.shape.get(axis + 1..).unwrap_or(&[]).iter().product();
                let zero = |k: usize| match &integers.zero {
                    None => 0,
                    Some(z) if z.len() == 1 => z.to_i64()[0],
                    Some(z) => z.to_i64()[k / inner.max(1) % z.len()],
                };
                let data = q.to_i64().into_iter().enumerate().map(|(k, w)| w - zero(k)).collect();
                let layer = std::mem::replace(&mut self.b.layer, self.model.value(v).name.clone());
                let id = self.b.data(q.shape.clone(), data, 0, self.role(v));
                self.b.layer = layer;
                let id = id?;
                self.data.insert(key, id);
                id
            }
        };
        Ok(Some((id, integers.scale.to_f64(), integers.axis)))
    }

    /// A dequantised tensor.
    pub(super) fn dequantise(&mut self, n: &Node, out: ValueId, q: ValueId) -> Outcome<()> {
        let scale = self.need(n, 1)?;
        let factor = self.constant(scale).ok_or_else(|| "the scale is not constant".to_owned())?.to_f64();
        self.reveal(scale, "a scale of an activation");
        let axis = self.quantised_axis(n, q)?;
        let mut acc = self.acc(q)?;
        if let Some(zero) = n.input(2) {
            let z = self.constant(zero).ok_or_else(|| "a zero point is not constant".to_owned())?.to_i64();
            self.reveal(zero, "a zero point of an activation");
            acc = if z.iter().all(|v| *v == z[0]) {
                self.b.offset(&acc, -(z.first().copied().unwrap_or(0) as f64), 0)?
            } else {
                let mut shape = vec![1; acc.shape.len()];
                shape[axis] = z.len();
                let z = self.b.data(shape, z, 0, crate::qir::Role::Constant)?;
                self.b.add(&acc, &self.b.neg(&self.b.acc(z))?)?
            };
        }
        self.set(out, Val::Scaled(Box::new(Scaled::one(acc, factor, axis))));
        Ok(())
    }

    /// The real number that scaled integers stand for.
    pub(super) fn real(&mut self, v: ValueId, s: &Scaled) -> Outcome<Acc> {
        let mut total: Option<Acc> = None;
        for p in &s.parts {
            let part = self.factors(p.acc.clone(), &p.factor, p.axis)?;
            total = Some(match total {
                None => part,
                Some(t) => self.sum(t, None, part, None)?,
            });
        }
        let mut y = total.ok_or_else(|| "an empty sum".to_owned())?;
        y.shape.clone_from(&s.shape);
        let (frac, range) = (self.frac(v).max(self.act), self.range(v));
        if s.clip.0.is_finite() {
            let above = self.b.offset(&y, -s.clip.0, frac)?;
            let id = self.relu(&above, frac, if s.clip.0 == 0.0 { range } else { None })?;
            y = self.b.offset(&self.b.acc(id), s.clip.0, frac)?;
        }
        if s.clip.1.is_finite() {
            let below = self.b.offset(&self.b.neg(&y)?, s.clip.1, frac)?;
            let id = self.relu(&below, frac, None)?;
            y = self.b.offset(&self.b.neg(&self.b.acc(id))?, s.clip.1, frac)?;
        }
        Ok(y)
    }

    /// The integers of a sum of one part without bounds and with one factor, as a tensor.
    fn plain_integers(&mut self, s: &Scaled) -> Outcome<Option<(TensorId, f64)>> {
        let ([part], true) = (s.parts.as_slice(), s.is_free()) else { return Ok(None) };
        let [factor] = part.factor[..] else { return Ok(None) };
        if part.acc.scale != 0 {
            return Ok(None);
        }
        let id = self.exact_once(&part.acc)?;
        Ok(Some((id, factor)))
    }

    /// An accumulator of one tensor as a tensor: the same whenever it is asked for.
    fn exact_once(&mut self, a: &Acc) -> Outcome<TensorId> {
        let [Term::Scale { x, coeff: 1 }] = a.terms[..] else { return self.exact(a) };
        if self.b.shape(x) != a.shape {
            return self.exact(a);
        }
        if let Some(&id) = self.shifted.get(&(x, a.constant)) {
            return Ok(id);
        }
        let id = self.exact(a)?;
        self.shifted.insert((x, a.constant), id);
        Ok(id)
    }

    /// Lowers a node between quantised tensors to integers; false where it has no such form.
    pub(super) fn on_integers(&mut self, n: &Node) -> Outcome<bool> {
        let scaled = |s: &Self, v: &ValueId| {
            matches!(s.vals[v.index()], Some(Val::Scaled(_))) || s.kept.contains_key(v)
        };
        if !n.inputs.iter().flatten().any(|v| scaled(self, v)) {
            return Ok(false);
        }
        let Some(out) = n.output(0) else { return Ok(false) };
        let result = match n.op.as_str() {
            "Conv" | "MatMul" | "Gemm" => self.integer_contraction(n)?,
            "Add" | "Sub" => self.integer_sum(n)?,
            "Mul" => self.integer_product(n)?,
            "Relu" | "Clip" => self.integer_clip(n)?,
            "ReduceMean" | "ReduceSum" | "AveragePool" => self.integer_mean(n, out)?,
            "MaxPool" | "ReduceMax" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose"
            | "Slice" | "Split" | "Expand" | "Tile" | "DepthToSpace" | "SpaceToDepth" | "Concat"
            | "Gather" => {
                return self.integer_movement(n);
            }
            _ => None,
        };
        let Some(result) = result else { return Ok(false) };
        self.set(out, Val::Scaled(Box::new(result)));
        Ok(true)
    }

    /// Weights of a contraction: integers with their scales, or a float constant as it is.
    fn weights(&mut self, v: ValueId) -> Outcome<Option<(TensorId, Vec<f64>, usize)>> {
        if let Some(found) = self.integers(v)? {
            return Ok(Some(found));
        }
        if self.constant(v).is_some() {
            return Ok(Some((self.tensor(v)?, vec![1.0], 0)));
        }
        let Some(s) = self.scaled(v)? else { return Ok(None) };
        Ok(self.plain_integers(&s)?.map(|(id, factor)| (id, vec![factor], 0)))
    }

    fn integer_contraction(&mut self, n: &Node) -> Outcome<Option<Scaled>> {
        let (a, b) = (self.need(n, 0)?, self.need(n, 1)?);
        let Some(x) = self.scaled(a)? else { return Ok(None) };
        // The axis of the weights that is an axis of the result, and which.
        let rank = self.shape(b).len();
        let flipped = n.attrs.int_or("transB", 0)? != 0;
        let plain_gemm = n.op != "Gemm"
            || (n.attrs.float_or("alpha", 1.0)? == 1.0
                && n.attrs.float_or("beta", 1.0)? == 1.0
                && n.attrs.int_or("transA", 0)? == 0);
        let own = match n.op.as_str() {
            "Conv" => 0,
            "Gemm" => usize::from(!flipped),
            _ => rank.saturating_sub(1),
        };
        if !plain_gemm {
            return Ok(None);
        }
        let Some((x, fx)) = self.plain_integers(&x)? else { return Ok(None) };
        let Some((w, fw, axis)) = self.weights(b)? else { return Ok(None) };
        if fw.len() > 1 && (axis != own || (n.op == "MatMul" && rank != 2)) {
            return Ok(None);
        }
        if fw.len() == 1 && self.model.value(b).origin.integers.is_some() {
            self.reveal(b, "its scale (not its integers) is part of a factor of the program");
        }
        let acc = match n.op.as_str() {
            "Conv" => self.conv(n, x, w, None)?,
            "Gemm" => self.rows_by_columns(x, w, flipped)?,
            _ => self.matmul(x, w)?,
        };
        let factor: Vec<f64> = fw.iter().map(|&f| product(fx, f)).collect();
        let channel = if n.op == "Conv" { 1 } else { acc.shape.len().saturating_sub(1) };
        let mut result = Scaled::one(acc, factor, channel);
        if n.op != "MatMul"
            && let Some(bias) = n.input(2)
        {
            self.integer_bias(&mut result, bias, channel)?;
        }
        Ok(Some(result))
    }

    /// A bias in units of the product of the scales joins the sum; another is a summand of its own.
    fn integer_bias(&mut self, s: &mut Scaled, bias: ValueId, channel: usize) -> Outcome<()> {
        let part = &mut s.parts[0];
        let mut shape = vec![1; s.shape.len()];
        let length: usize = self.model.value(bias).shape.iter().product();
        shape[channel] = length;
        if length != 1 && length != s.shape[channel] {
            return Err("a bias of another length".to_owned().into());
        }
        if let Some((id, fb, _)) = self.integers(bias)? {
            let same = |k: usize| {
                let (b, f) = (fb[k % fb.len()], part.factor[k % part.factor.len()]);
                (b - f).abs() <= f.abs() * exp2(-20)
            };
            if (0..fb.len().max(part.factor.len())).all(same) {
                let id = self.b.reshape(id, shape)?;
                part.acc = self.b.add(&part.acc, &self.b.acc(id))?;
                return Ok(());
            }
        }
        let id = self.tensor(bias)?;
        let id = self.b.reshape(id, shape)?;
        s.parts.push(Part { acc: self.b.acc(id), factor: vec![1.0], axis: 0 });
        Ok(())
    }

    fn integer_sum(&mut self, n: &Node) -> Outcome<Option<Scaled>> {
        let (a, b) = (self.need(n, 0)?, self.need(n, 1)?);
        let Some(mut x) = self.summand_of(a)? else { return Ok(None) };
        let Some(y) = self.summand_of(b)? else { return Ok(None) };
        let shape = crate::onnx::broadcast(&x.shape, &y.shape).map_err(|e| e.to_string())?;
        // What is broadcast has to stay a tensor of its own shape: contractions cannot be.
        for s in [&x, &y] {
            if s.shape != shape && s.parts.iter().any(|p| p.acc.has_contraction() || p.factor.len() > 1) {
                return Ok(None);
            }
        }
        let sign = if n.op == "Sub" { -1.0 } else { 1.0 };
        let negated =
            y.parts.into_iter().map(|p| Part { factor: p.factor.iter().map(|f| f * sign).collect(), ..p });
        x.parts.extend(negated);
        x.shape = shape;
        if x.parts.len() > 4 {
            return Ok(None);
        }
        Ok(Some(x))
    }

    /// Scaled integers without bounds, or a float constant.
    fn summand_of(&mut self, v: ValueId) -> Outcome<Option<Scaled>> {
        if let Some(s) = self.scaled(v)? {
            if s.is_free() {
                return Ok(Some(s));
            }
            // max(x, 0) of one part is that of its integers.
            if let ([part], (0.0, hi)) = (s.parts.as_slice(), s.clip)
                && hi == f64::INFINITY
                && part.factor.iter().all(|f| *f > 0.0)
            {
                let id = self.relu(&part.acc.clone(), part.acc.scale, None)?;
                return Ok(Some(Scaled::one(self.b.acc(id), part.factor.clone(), part.axis)));
            }
            return Ok(None);
        }
        if self.constant(v).is_none() {
            return Ok(None);
        }
        let acc = self.constant_acc(v, self.act)?;
        Ok(Some(Scaled::one(acc, vec![1.0], 0)))
    }

    fn integer_product(&mut self, n: &Node) -> Outcome<Option<Scaled>> {
        let (a, b) = (self.need(n, 0)?, self.need(n, 1)?);
        for (x, c) in [(a, b), (b, a)] {
            if self.constant(c).is_some_and(|c| c.len() == 1) {
                let Some(mut s) = self.scaled(x)?.filter(Scaled::is_free) else { return Ok(None) };
                let Some(c) = self.single(c) else { return Ok(None) };
                s.parts.iter_mut().for_each(|p| p.factor.iter_mut().for_each(|f| *f = product(*f, c)));
                return Ok(Some(s));
            }
        }
        let (Some(x), Some(y)) = (self.scaled(a)?, self.scaled(b)?) else { return Ok(None) };
        let Some((x, fx)) = self.plain_integers(&x)? else { return Ok(None) };
        let Some((y, fy)) = self.plain_integers(&y)? else { return Ok(None) };
        Ok(Some(Scaled::one(self.product(x, y)?, vec![product(fx, fy)], 0)))
    }

    fn integer_clip(&mut self, n: &Node) -> Outcome<Option<Scaled>> {
        let Some(mut s) = self.scaled(self.need(n, 0)?)? else { return Ok(None) };
        let (mut lo, mut hi) = (0.0, f64::INFINITY);
        if n.op == "Clip" {
            let bound = |l: &mut Self, i: usize, name: &str, none: f64| -> Outcome<Option<f64>> {
                match n.input(i) {
                    Some(v) => Ok(l.single(v)),
                    None => Ok(Some(n.attrs.float(name)?.unwrap_or(none))),
                }
            };
            let (low, high) = (bound(self, 1, "min", FREE.0)?, bound(self, 2, "max", FREE.1)?);
            let (Some(low), Some(high)) = (low, high) else { return Ok(None) };
            (lo, hi) = (low, high);
        }
        if lo > hi || s.clip.0 > hi || s.clip.1 < lo {
            return Ok(None);
        }
        s.clip = (s.clip.0.max(lo), s.clip.1.min(hi));
        Ok(Some(s))
    }

    fn integer_mean(&mut self, n: &Node, out: ValueId) -> Outcome<Option<Scaled>> {
        let v = self.need(n, 0)?;
        let Some(s) = self.scaled(v)? else { return Ok(None) };
        let xs = self.shape(v).to_vec();
        if n.op == "AveragePool" {
            let kernel = n.attrs.ints("kernel_shape")?.unwrap_or(&[]).to_vec();
            let size: i64 = kernel.iter().product();
            let pads = n.attrs.ints("pads")?.unwrap_or(&[]).iter().any(|&p| p != 0);
            let auto = n.attrs.str("auto_pad")?.is_some_and(|a| !matches!(a, "NOTSET" | "VALID"));
            let whole = n.attrs.int_or("count_include_pad", 0)? != 0;
            if auto || (pads && !whole) || n.attrs.int_or("ceil_mode", 0)? != 0 || size <= 0 {
                return Ok(None);
            }
            let Some((x, f)) = self.plain_integers(&s)? else { return Ok(None) };
            let acc = self.window_sum(n, x)?;
            return Ok(Some(Scaled::one(acc, vec![DType::F32.round(f / size as f64)], 0)));
        }
        let Some((x, f)) = self.plain_integers(&s)? else { return Ok(None) };
        let axes = self.axes(n, xs.len())?;
        let count: usize = if n.op == "ReduceMean" { axes.iter().map(|&a| xs[a]).product() } else { 1 };
        if count == 0 {
            return Ok(None);
        }
        let shape = self.shape(out).to_vec();
        let acc = Acc { shape, terms: vec![Term::Sum { x, axes, coeff: 1 }], constant: 0, scale: 0 };
        Ok(Some(Scaled::one(acc, vec![DType::F32.round(f / count as f64)], 0)))
    }

    /// Elements that move, or of which one is the greatest: the same for integers with one positive factor.
    fn integer_movement(&mut self, n: &Node) -> Outcome<bool> {
        let moved: Vec<ValueId> = match n.op.as_str() {
            "Concat" => n.inputs.iter().flatten().copied().collect(),
            "Gather" if self.constant(self.need(n, 1)?).is_none() => return Ok(false),
            _ => vec![self.need(n, 0)?],
        };
        if n.op == "MaxPool" && n.output(1).is_some() {
            return Ok(false);
        }
        let mut found = Vec::with_capacity(moved.len());
        let mut common: Option<f64> = None;
        for &v in &moved {
            let Some(s) = self.scaled(v)? else { return Ok(false) };
            let Some((id, f)) = self.plain_integers(&s)? else { return Ok(false) };
            if *common.get_or_insert(f) != f || f <= 0.0 || self.constant(v).is_some() {
                return Ok(false);
            }
            found.push(id);
        }
        let Some(factor) = common else { return Ok(false) };
        // The operator is lowered on the integers in place of the numbers.
        let kept: Vec<Option<Val>> = moved.iter().map(|v| self.vals[v.index()].clone()).collect();
        for (v, id) in moved.iter().zip(&found) {
            self.vals[v.index()] = Some(Val::Tensor(*id));
        }
        let done =
            if matches!(n.op.as_str(), "MaxPool" | "ReduceMax") { self.order(n) } else { self.movement(n) };
        for (v, val) in moved.iter().zip(kept) {
            self.vals[v.index()] = val;
        }
        done?;
        for out in n.outputs.iter().flatten() {
            let acc = match &self.vals[out.index()] {
                Some(Val::Tensor(id)) => self.b.acc(*id),
                Some(Val::Pending(acc)) => acc.clone(),
                _ => continue,
            };
            self.set(*out, Val::Scaled(Box::new(Scaled::one(acc, vec![factor], 0))));
        }
        Ok(true)
    }

    /// A quantised tensor: the sum over a scale, rounded to nearest even, moved by the zero point and clamped.
    pub(super) fn quantise_value(&mut self, n: &Node, out: ValueId, x: ValueId) -> Outcome<Acc> {
        let scale = self.need(n, 1)?;
        let sy = self.constant(scale).ok_or_else(|| "the scale is not constant".to_owned())?.to_f64();
        self.reveal(scale, "a scale of an activation");
        let zero = match n.input(2) {
            None => vec![0],
            Some(z) => {
                self.reveal(z, "a zero point of an activation");
                self.constant(z).ok_or_else(|| "a zero point is not constant".to_owned())?.to_i64()
            }
        };
        let axis = self.quantised_axis(n, x)?;
        let s = match self.scaled(x)? {
            Some(s) if sy.len() == 1 && (s.is_free() || zero.len() == 1) => s,
            _ => {
                let acc = self.acc(x)?;
                let acc = self.narrowed(acc)?;
                Scaled::one(acc, vec![1.0], 0)
            }
        };
        let dtype = self.model.value(out).dtype;
        let (lo, hi) = dtype.int_bounds().ok_or_else(|| format!("quantised type {dtype}"))?;
        let (mut lo, mut hi) = (lo, hi);
        if let ([sy], [zero]) = (&sy[..], &zero[..]) {
            // Quantisation is monotone: bounds on the number are bounds on the integer.
            let at = |v: f64| crate::float::round_even(DType::F32.round(v / sy)) + *zero as f64;
            if s.clip.0.is_finite() {
                lo = lo.max(at(s.clip.0).min(hi as f64) as i64);
            }
            if s.clip.1.is_finite() {
                hi = hi.min(at(s.clip.1).max(lo as f64) as i64);
            }
        }
        let mut parts = s.parts;
        for p in &mut parts {
            p.factor = match (&p.factor[..], &sy[..]) {
                (f, [sy]) => f.iter().map(|f| DType::F32.round(f / sy)).collect(),
                ([f], _) => {
                    p.axis = axis;
                    sy.iter().map(|sy| DType::F32.round(f / sy)).collect()
                }
                _ => return Err("scales per axis of a number that has some".to_owned().into()),
            };
        }
        self.requantise(parts, s.shape, &zero, axis, (lo, hi))
    }

    /// The product of a matrix with another, which may be transposed.
    fn rows_by_columns(&mut self, x: TensorId, w: TensorId, flipped: bool) -> Outcome<Acc> {
        if !flipped {
            return self.matmul(x, w);
        }
        let w = self.permute(w, &[1, 0])?;
        self.matmul(x, w)
    }

    /// An accumulator with room for a factor: averages of numbers that are scaled already have more bits than any quotient of them needs.
    fn narrowed(&mut self, x: Acc) -> Outcome<Acc> {
        let (lo, hi) = self.b.bounds(&x);
        let bits = 128 - lo.unsigned_abs().max(hi.unsigned_abs()).leading_zeros() as i32;
        let excess = bits + FACTOR_BITS - ROOM;
        if excess <= 0 {
            return Ok(x);
        }
        let id = self.b.round(&x, Rounding { frac: x.scale - excess, relu: false, range: None })?;
        Ok(self.b.acc(id))
    }
}

/// Bits of a product that is still rounded to even.
const ROOM: i32 = 56;

/// The scales of a constant operand.
pub(super) fn scales(c: Option<&TensorF>) -> Outcome<Vec<f64>> {
    Ok(c.ok_or_else(|| "a scale is not constant".to_owned())?.to_f64())
}
