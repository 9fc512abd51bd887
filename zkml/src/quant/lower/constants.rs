//! Constants of the file as tensors and accumulators: their scales, their integers, their roles.

use crate::onnx::{Data, TensorF, ValueId};
use crate::qir::{Role, TensorId};

use super::super::builder::{Acc, exp2};
use super::super::error::QuantError;
use super::super::scale;
use super::{FEW_WEIGHTS, INTEGERS, Lower, Outcome, SINGLE_BITS, shifted};

impl Lower<'_> {
    /// A constant as an accumulator of at most so many fraction bits.
    pub(super) fn constant_acc(&mut self, v: ValueId, max_scale: i32) -> Outcome<Acc> {
        let Some(c) = self.constant(v) else { return self.acc(v) };
        let shape = c.shape.clone();
        if let Some(x) = self.single_int(v) {
            return Ok(Acc { shape, terms: vec![], constant: x, scale: 0 });
        }
        if let Some(x) = self.single(v) {
            let zero = Acc { shape, terms: vec![], constant: 0, scale: 0 };
            return self.constant_at(&zero, x, max_scale);
        }
        let scale =
            if c.dtype.is_float() { self.bias_scale(&self.scaled_numbers(v, c)).min(max_scale) } else { 0 };
        let id = self.constant_tensor(v, scale)?;
        Ok(self.b.acc(id))
    }

    /// A number at no more fraction bits than its own, and no more than fit.
    pub(super) fn constant_at(&mut self, zero: &Acc, x: f64, max_scale: i32) -> Outcome<Acc> {
        let most = 44 - scale::exponent(x.abs());
        if x != 0.0 && most < zero.scale {
            let coarse = Acc { scale: most, ..zero.clone() };
            return Ok(self.b.offset(&coarse, x, most)?);
        }
        Ok(self.b.offset(zero, x, max_scale.min(most))?)
    }

    /// A constant that is added to a contraction of weights: a parameter, even if it is a single number.
    pub(super) fn bias_acc(&mut self, v: ValueId, max_scale: i32) -> Outcome<Acc> {
        let Some(c) = self.constant(v) else { return self.acc(v) };
        if self.role(v) != Role::Param {
            return self.constant_acc(v, max_scale);
        }
        let scale =
            if c.dtype.is_float() { self.bias_scale(&self.scaled_numbers(v, c)).min(max_scale) } else { 0 };
        let id = self.constant_tensor(v, scale)?;
        Ok(self.b.acc(id))
    }

    /// Fraction bits of a tensor that is added: more than of a weight, for there are few of them and nothing averages their errors.
    pub(super) fn bias_scale(&self, c: &[f64]) -> i32 {
        match self.weight_scale(c) {
            0 => 0,
            s => (s + 6).min(24.max(s)),
        }
    }

    /// Fraction bits at which a weight tensor fits its bits; even, so that layers share shifts. Where there are few weights, that is one bit
    /// more rather than one less: they cost little, and their errors do not average out.
    pub(super) fn weight_scale(&self, values: &[f64]) -> i32 {
        // Numbers that every scale holds exactly need no more bits than they have.
        if values.iter().all(|v| v.fract() == 0.0 && v.abs() < INTEGERS) {
            return 0;
        }
        let m = values.iter().map(|v| v.abs()).fold(0.0, f64::max);
        if m == 0.0 {
            return 0;
        }
        let e = scale::exponent(m * (1.0 + 1e-9));
        let s = self.options.weight_bits as i32 - 1 - e + scale::spread(values);
        let odd = s.rem_euclid(2);
        let s = if values.len() <= FEW_WEIGHTS { s + odd } else { s - odd };
        // Single precision has no more bits than these.
        s.max((SINGLE_BITS - e).min(0)).min((SINGLE_BITS - e).max(SINGLE_BITS))
    }

    /// A constant as a tensor at a scale, in the role that [`Lower::role`] gives it.
    pub(super) fn constant_tensor(&mut self, v: ValueId, scale: i32) -> Result<TensorId, QuantError> {
        self.constant_as(v, scale, self.role(v))
    }

    /// A constant as a tensor at a scale.
    pub(super) fn constant_as(&mut self, v: ValueId, scale: i32, role: Role) -> Result<TensorId, QuantError> {
        let value = self.model.value(v);
        let Some(c) = &value.constant else { return Err(self.b.fail("not a constant")) };
        let key = (std::sync::Arc::as_ptr(c).addr(), scale, role);
        if let Some(&id) = self.data.get(&key) {
            return Ok(id);
        }
        let layer = std::mem::replace(&mut self.b.layer, value.name.clone());
        let q = self.quantised(v, c, scale);
        let id = self.b.data(c.shape.clone(), q, scale, role);
        self.b.layer = layer;
        let id = id?;
        self.data.insert(key, id);
        Ok(id)
    }

    /// The integers of a constant at a scale.
    pub(super) fn quantised(&self, v: ValueId, c: &TensorF, scale: i32) -> Vec<i64> {
        match &c.data {
            Data::I(d) => d.iter().map(|&x| shifted(x, scale)).collect(),
            Data::F(_) => self.numbers(v, c).into_iter().map(|x| (x * exp2(scale)).round() as i64).collect(),
        }
    }

    /// The numbers of a constant that decide its scale: all but a mask's.
    pub(super) fn scaled_numbers(&self, v: ValueId, c: &TensorF) -> Vec<f64> {
        let (masked, fill) = (self.ranges.masks().masked(v), self.ranges.masks().fill());
        let mut numbers = self.numbers(v, c);
        numbers.retain(|x| !masked || x.abs() < fill);
        numbers
    }

    /// The numbers of a constant.
    pub(super) fn numbers(&self, v: ValueId, c: &TensorF) -> Vec<f64> {
        c.to_f64().into_iter().map(|x| self.number(v, x)).collect()
    }
}
