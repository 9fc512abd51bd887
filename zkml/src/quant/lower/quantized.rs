//! ONNX's own quantised operators, with their integers.

use crate::onnx::{DType, Node, ValueId};
use crate::qir::{OpKind, Role, TensorId};

use super::super::builder::{Acc, Rounding, exp2, hull};
use super::scaled::{FACTOR_BITS, Part, product, scales};
use super::{Lower, Outcome};

/// Scales up to which a sum of several parts may meet a tie that is one in real numbers too.
const DYADIC: i32 = 20;

impl Lower<'_> {
    pub(super) fn quantized(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let a = self.need(n, 0)?;
        let acc = match n.op.as_str() {
            "QuantizeLinear" => self.quantise_value(n, out, a)?,
            "DequantizeLinear" => return self.dequantise(n, out, a),
            op => {
                let b = self.need(n, 3)?;
                let matmul = op == "QLinearMatMul";
                let b_axis = if matmul { self.shape(b).len().saturating_sub(1) } else { 0 };
                let x = self.centred(a, n.input(2), 0)?;
                let w = self.centred(b, n.input(5), b_axis)?;
                let acc = if matmul { self.matmul(x, w)? } else { self.conv(n, x, w, n.input(8))? };
                let of = |i: usize| scales(n.input(i).and_then(|v| self.constant(v)));
                let (sa, sb, sy, zy) = (of(1)?, of(4)?, of(6)?, of(7)?);
                for k in [1, 4, 6, 7] {
                    if let Some(v) = n.input(k).filter(|_| k != 4 || sb.len() == 1) {
                        self.reveal(v, "a scale or zero point of a quantised operator");
                    }
                }
                let [sa, sy] = [sa[0], sy[0]];
                let factor = sb.iter().map(|&b| DType::F32.round(product(sa, b) / sy)).collect();
                let axis = if matmul { acc.shape.len().saturating_sub(1) } else { 1 };
                let dtype = self.model.value(out).dtype;
                let range = dtype.int_bounds().ok_or_else(|| format!("quantised type {dtype}"))?;
                let shape = acc.shape.clone();
                self.requantise(vec![Part { acc, factor, axis }], shape, &[zy[0] as i64], 0, range)?
            }
        };
        self.set_acc(out, acc)
    }

    pub(super) fn quantised_axis(&self, n: &Node, v: ValueId) -> Outcome<usize> {
        let rank = self.shape(v).len();
        if rank == 0 {
            return Ok(0);
        }
        let axis = n.attrs.int_or("axis", 1)?;
        Ok(crate::float::normal_axis(axis, rank).unwrap_or(0))
    }

    /// The accumulator times one factor, or one per position of an axis.
    pub(super) fn factors(&mut self, x: Acc, factors: &[f64], axis: usize) -> Outcome<Acc> {
        if let [one] = factors {
            return self.factor(&x, *one);
        }
        let mut shape = vec![1; x.shape.len()];
        shape[axis] = factors.len();
        // Every factor keeps all bits of single precision, as far as 31 bits hold the greatest.
        let bits_for = |f: f64| FACTOR_BITS - 1 - f.log2().floor() as i32;
        let sizes = || factors.iter().map(|f| f.abs()).filter(|f| *f > 0.0);
        let least = sizes().fold(f64::INFINITY, f64::min);
        let most = sizes().fold(0.0, f64::max);
        if most == 0.0 {
            return Ok(Acc { terms: vec![], constant: 0, scale: 0, ..x });
        }
        let bits = bits_for(least).min(bits_for(most) + 31 - FACTOR_BITS).clamp(0, 56);
        let q = factors.iter().map(|f| (f * exp2(bits)).round() as i64).collect();
        let f = self.b.data(shape, q, bits, Role::Param)?;
        let id = self.exact(&x)?;
        self.product(id, f)
    }

    /// The accumulator times a number of single precision, exactly.
    fn factor(&self, x: &Acc, f: f64) -> Outcome<Acc> {
        if f == 0.0 {
            return Ok(Acc { terms: vec![], constant: 0, scale: 0, shape: x.shape.clone() });
        }
        if !f.is_finite() {
            return Err(format!("the scale {f} is not finite").into());
        }
        // A rounding drops at most 60 bits; what a scale as small as that multiplies is nothing.
        let mut frac = (FACTOR_BITS - 1 - f.abs().log2().floor() as i32).min(60 - x.scale);
        let mut q = (f * exp2(frac)).round();
        if q == 0.0 {
            return Ok(Acc { terms: vec![], constant: 0, scale: 0, shape: x.shape.clone() });
        }
        while q % 2.0 == 0.0 {
            q /= 2.0;
            frac -= 1;
        }
        let mut y = self.b.times(x, q as i64)?;
        y.scale += frac;
        if y.scale < 0 {
            let up = 1i64.checked_shl(y.scale.unsigned_abs()).filter(|_| y.scale > -60);
            y = self.b.times(&y, up.ok_or_else(|| format!("the scale {f} is too large"))?)?;
            y.scale = 0;
        }
        Ok(y)
    }

    /// The sum of the parts, rounded to nearest even, moved by the zero point and clamped.
    pub(super) fn requantise(
        &mut self,
        mut parts: Vec<Part>,
        shape: Vec<usize>,
        zero: &[i64],
        axis: usize,
        range: (i64, i64),
    ) -> Outcome<Acc> {
        let by_axis = parts.iter().any(|p| p.factor.len() > 1);
        let several = parts.len() > 1;
        // Whether the sum can be an odd number of halves. An integer times an odd factor is one only from half the divisor on; sums of unlike
        // factors are one by accident, which single precision does not see either.
        let mut ties = false;
        let mut total: Option<Acc> = None;
        for p in &mut parts {
            if several && by_axis && p.factor.len() == 1 && p.acc.has_contraction() {
                let id = self.exact(&p.acc)?;
                p.acc = self.b.acc(id);
            }
            let (lo, hi) = self.b.bounds(&p.acc);
            let most = lo.unsigned_abs().max(hi.unsigned_abs());
            let part = self.factors(p.acc.clone(), &p.factor, p.axis)?;
            let reach = |scale: i32| scale > 0 && (scale > 120 || most >> (scale - 1) != 0);
            ties |= match &p.factor[..] {
                [_] if several => part.scale > 0 && part.scale <= DYADIC,
                [_] => reach(part.scale),
                all => all.iter().any(|&f| {
                    self.factor(&p.acc, f).is_ok_and(|one| reach(one.scale) && one.scale <= DYADIC)
                }),
            };
            total = Some(match total {
                None => part,
                Some(t) => self.b.add(&t, &part)?,
            });
        }
        let mut y = total.ok_or_else(|| "an empty sum".to_owned())?;
        y.shape = shape;
        if y.scale < 0 {
            y = self.b.rescale(&y, 0)?;
        }
        if ties {
            y = self.round_even(&y)?;
        }
        let first = zero.first().copied().unwrap_or(0);
        if zero.iter().all(|z| *z == first) {
            let moved = i128::from(first) << y.scale;
            let moved = i64::try_from(moved + i128::from(y.constant));
            y.constant = moved.map_err(|_| "a zero point is too large".to_owned())?;
        } else {
            let mut dims = vec![1; y.shape.len()];
            dims[axis] = zero.len();
            let z = self.b.data(dims, zero.to_vec(), 0, Role::Constant)?;
            let z = self.b.rescale(&self.b.acc(z), y.scale)?;
            if y.has_contraction() {
                let id = self.exact(&y)?;
                y = self.b.acc(id);
            }
            y = self.b.add(&y, &z)?;
        }
        self.clamped(&y, range, first)
    }

    /// The accumulator rounded to an integer and clamped to `[lo, hi]`: a tensor of what is above the zero point, where a table gives it.
    fn clamped(&mut self, y: &Acc, (lo, hi): (i64, i64), zero: i64) -> Outcome<Acc> {
        let half = if y.scale == 0 { 0 } else { 1i128 << (y.scale - 1) };
        let rounded = |v: i128| v.saturating_add(half) >> y.scale;
        let (a, b) = self.b.bounds(y);
        let (a, b) = (rounded(a), rounded(b));
        let (below, above) = (a < lo.into(), b > hi.into());
        let whole = Rounding { frac: 0, relu: false, range: None };
        if !below && !above {
            if y.scale == 0 {
                return Ok(y.clone());
            }
            let id = self.b.round(y, whole)?;
            return Ok(self.b.acc(id));
        }
        let (from, to) = hull(a, b);
        let elements: usize = y.shape.iter().product();
        // A table is a price for the whole circuit: many elements have to share it.
        let limit = (4 * elements as i64).clamp(1 << 9, self.limits.lookup.max(1 << 9));
        if to - from < limit.into() {
            let v = self.b.round(y, whole)?;
            let id = self.clamp_table(v, (lo, hi), zero)?;
            return Ok(self.b.offset(&self.b.acc(id), zero as f64, 0)?);
        }
        // max(hi − v, 0) is how far below the top, of which no more than hi − lo counts.
        let mut y = y.clone();
        if above {
            let down = self.b.offset(&self.b.neg(&y)?, hi as f64, 0)?;
            let id = self.relu(&down, 0, None)?;
            y = self.b.offset(&self.b.neg(&self.b.acc(id))?, hi as f64, 0)?;
        }
        if below {
            let up = self.b.offset(&y, -(lo as f64), 0)?;
            // Nothing is above the top any more, whatever the hull of a range admits.
            let (from, _) = self.b.bounds(&up);
            let id = match above && up.scale == 0 {
                true => self.b.round_within(&up, 0, true, (from, i128::from(hi) - i128::from(lo)))?,
                false => self.relu(&up, 0, None)?,
            };
            y = self.b.offset(&self.b.acc(id), lo as f64, 0)?;
        }
        Ok(y)
    }

    fn clamp_table(&mut self, x: TensorId, (lo, hi): (i64, i64), zero: i64) -> Outcome<TensorId> {
        let t = self.b.program.tensor(x);
        let (shape, table) = (t.shape.clone(), (t.lo..=t.hi).map(|v| v.clamp(lo, hi) - zero).collect());
        let bounds = (i128::from(lo) - i128::from(zero), i128::from(hi) - i128::from(zero));
        Ok(self.b.op(OpKind::Lookup { x, table }, shape, bounds, 0)?)
    }
}
