//! ONNX's own quantised operators, with their integers.

use crate::onnx::{Node, TensorF, ValueId};
use crate::qir::Role;

use super::super::builder::{Acc, Rounding};
use super::{Lower, Outcome};

/// Significant bits of a requantisation factor.
const FACTOR_BITS: i32 = 24;

/// Bits of a product that is still rounded to even.
const ROOM: i32 = 56;

impl Lower<'_> {
    pub(super) fn quantized(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let a = self.need(n, 0)?;
        let constant = |s: &Self, i: usize| n.input(i).and_then(|v| s.constant(v)).cloned();
        let acc = match n.op.as_str() {
            "QuantizeLinear" => {
                let scale = constant(self, 1).ok_or_else(|| "the scale is not constant".to_owned())?;
                let inverse: Vec<f64> = scale.to_f64().iter().map(|s| 1.0 / s).collect();
                let x = self.acc(a)?;
                let x = self.narrowed(x)?;
                let x = self.scaled(n, x, &inverse, a)?;
                let axis = self.quantised_axis(n, a)?;
                self.saturate(x, constant(self, 2).as_ref(), axis, out)?
            }
            "DequantizeLinear" => {
                let scale = constant(self, 1).ok_or_else(|| "the scale is not constant".to_owned())?;
                let axis = self.quantised_axis(n, a)?;
                let x = self.centred(a, n.input(2), axis)?;
                let x = self.b.acc(x);
                self.scaled(n, x, &scale.to_f64(), a)?
            }
            op => {
                let b = self.need(n, 3)?;
                let matmul = op == "QLinearMatMul";
                let b_axis = if matmul { self.shape(b).len().saturating_sub(1) } else { 0 };
                let x = self.centred(a, n.input(2), 0)?;
                let w = self.centred(b, n.input(5), b_axis)?;
                let acc = if matmul { self.matmul(x, w)? } else { self.conv(n, x, w, n.input(8))? };
                let of = |i: usize| constant(self, i).ok_or_else(|| "a scale is not constant".to_owned());
                let (sa, sb, sy) = (of(1)?, of(4)?, of(6)?);
                let factors: Vec<f64> = sb.to_f64().iter().map(|b| sa.at(0) * b / sy.at(0)).collect();
                let axis = if matmul { acc.shape.len().saturating_sub(1) } else { 1 };
                let acc = self.factors(acc, &factors, axis)?;
                self.saturate(acc, constant(self, 7).as_ref(), axis, out)?
            }
        };
        self.set_acc(out, acc)
    }

    fn quantised_axis(&self, n: &Node, v: ValueId) -> Outcome<usize> {
        let rank = self.shape(v).len();
        if rank == 0 {
            return Ok(0);
        }
        let axis = n.attrs.int_or("axis", 1)?;
        Ok(crate::float::normal_axis(axis, rank).unwrap_or(0))
    }

    fn scaled(&mut self, n: &Node, x: Acc, factors: &[f64], v: ValueId) -> Outcome<Acc> {
        let axis = self.quantised_axis(n, v)?;
        self.factors(x, factors, axis)
    }

    /// The accumulator with room for a factor: averages of numbers that are scaled already have more bits than any quotient of them needs.
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

    /// The accumulator times one factor, or one per position of an axis.
    fn factors(&mut self, x: Acc, factors: &[f64], axis: usize) -> Outcome<Acc> {
        if let [one] = factors {
            return Ok(self.b.multiply(&x, *one, FACTOR_BITS)?);
        }
        let mut shape = vec![1; x.shape.len()];
        shape[axis] = factors.len();
        let m = factors.iter().fold(0f64, |m, f| m.max(f.abs()));
        let bits = FACTOR_BITS - 1 - m.log2().floor() as i32;
        let q = factors.iter().map(|f| (f * super::exp2(bits)).round() as i64).collect();
        let f = self.b.data(shape, q, bits, Role::Constant)?;
        let id = self.exact(&x)?;
        self.product(id, f)
    }

    /// Rounded to nearest even, moved by the zero point and clamped to the type of the result.
    fn saturate(&mut self, x: Acc, zero: Option<&TensorF>, axis: usize, out: ValueId) -> Outcome<Acc> {
        let zeros = zero.map(|z| z.to_i64()).unwrap_or_default();
        let dtype = self.model.value(out).dtype;
        let (lo, hi) = dtype.int_bounds().ok_or_else(|| format!("quantised type {dtype}"))?;
        let r = self.round_even(&x)?;
        let first = zeros.first().copied().unwrap_or(0);
        let mut y = if zeros.iter().all(|z| *z == first) {
            self.b.offset(&r, first as f64, 0)?
        } else {
            let mut shape = vec![1; r.shape.len()];
            shape[axis] = zeros.len();
            let z = self.b.data(shape, zeros, 0, Role::Constant)?;
            self.b.add(&r, &self.b.acc(z))?
        };
        let (min, max) = self.b.bounds(&y);
        if min < lo.into() {
            let above = self.b.offset(&y, -(lo as f64), 0)?;
            let id = self.relu(&above, 0, None)?;
            y = self.b.offset(&self.b.acc(id), lo as f64, 0)?;
        }
        if max > hi.into() {
            let below = self.b.offset(&self.b.neg(&y)?, hi as f64, 0)?;
            let id = self.relu(&below, 0, None)?;
            y = self.b.offset(&self.b.neg(&self.b.acc(id))?, hi as f64, 0)?;
        }
        Ok(y)
    }
}
