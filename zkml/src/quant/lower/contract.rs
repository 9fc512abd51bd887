//! Contractions: matrix products, convolutions, sums and means.

use crate::float;
use crate::onnx::{Node, TensorF, ValueId, checked_len, unravel};
use crate::qir::{Pick, TensorId, Term, Window};

use super::super::builder::{Acc, Rounding};
use super::{Lower, Outcome, Refusal};

/// Significant bits of a factor of a whole matrix product.
const FACTOR_BITS: i32 = 18;
/// Significant bits of the reciprocal of a mean.
const MEAN_BITS: i32 = 18;

impl Lower<'_> {
    pub(super) fn contraction(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let acc = match n.op.as_str() {
            "MatMul" | "MatMulInteger" => {
                let (a, b) = (self.need(n, 0)?, self.need(n, 1)?);
                let za = n.input(2).filter(|_| n.op == "MatMulInteger");
                let zb = n.input(3).filter(|_| n.op == "MatMulInteger");
                let row = self.shape(a).len().saturating_sub(2);
                let col = self.shape(b).len().saturating_sub(1);
                let x = self.centred(a, za, row)?;
                let y = self.centred(b, zb, col)?;
                self.matmul(x, y)?
            }
            "Gemm" => self.gemm(n)?,
            "Einsum" => self.einsum(n)?,
            "Conv" | "ConvInteger" => {
                let (x, w) = (self.need(n, 0)?, self.need(n, 1)?);
                let integer = n.op == "ConvInteger";
                let x = self.centred(x, n.input(2).filter(|_| integer), 1)?;
                let w = self.centred(w, n.input(3).filter(|_| integer), 0)?;
                let bias = n.input(2).filter(|_| !integer);
                self.conv(n, x, w, bias)?
            }
            "ConvTranspose" => self.conv_transpose(n)?,
            "AveragePool" => self.average_pool(n)?,
            _ => self.reduce_sum(n, out)?,
        };
        self.set_acc(out, acc)
    }

    /// A tensor less its zero point. Of a constant the difference is the parameter.
    pub(super) fn centred(&mut self, v: ValueId, zero: Option<ValueId>, axis: usize) -> Outcome<TensorId> {
        let Some(zero) = zero else { return self.tensor(v) };
        let mut shape = vec![1; self.shape(v).len()];
        let Some(z) = self.constant(zero) else {
            // A computed zero point is one number, or one per index of the axis.
            let z = self.tensor(zero)?;
            if let Some(length) = self.b.shape(z).first().copied().filter(|&n| n > 1) {
                shape[axis] = length;
            }
            let z = self.b.reshape(z, shape)?;
            let x = self.tensor(v)?;
            let d = self.b.add(&self.b.acc(x), &self.b.neg(&self.b.acc(z))?)?;
            return self.exact(&d);
        };
        let z = z.to_i64();
        if z.iter().all(|&z| z == 0) {
            return self.tensor(v);
        }
        if z.len() > 1 {
            shape[axis] = z.len();
        }
        if let Some(c) = self.constant(v) {
            let at = |k: usize| z[k / c.shape[axis + 1..].iter().product::<usize>().max(1) % z.len()];
            let at = |k: usize| if z.len() == 1 { z[0] } else { at(k) };
            let q = c.to_i64().iter().enumerate().map(|(k, &w)| w - at(k)).collect();
            let layer = std::mem::replace(&mut self.b.layer, self.model.value(v).name.clone());
            let id = self.b.data(c.shape.clone(), q, 0, self.role(v));
            self.b.layer = layer;
            return Ok(id?);
        }
        self.reveal(zero, "a zero point of an activation");
        let x = self.tensor(v)?;
        let x = self.b.acc(x);
        let d = if let [z] = z[..] {
            self.b.offset(&x, -(z as f64), 0)?
        } else {
            let z = self.b.data(shape, z, 0, crate::qir::Role::Constant)?;
            self.b.add(&x, &self.b.neg(&self.b.acc(z))?)?
        };
        self.exact(&d)
    }

    /// Σ over the labels that the result lacks. Axes of length 1 broadcast.
    fn contract(&mut self, a: TensorId, la: &[u16], b: TensorId, lb: &[u16], lo: &[u16]) -> Outcome<Acc> {
        let length = |s: &Self, id: TensorId, l: &[u16], label: u16| {
            l.iter().position(|&x| x == label).map(|i| s.b.shape(id)[i])
        };
        let mut dropped = Vec::with_capacity(2);
        for (mine, labels, other, other_labels) in [(a, la, b, lb), (b, lb, a, la)] {
            let (mut shape, mut left) = (Vec::new(), Vec::new());
            for (&d, &l) in self.b.shape(mine).iter().zip(labels) {
                if d != 1 || length(self, other, other_labels, l).is_none_or(|e| e == 1) {
                    shape.push(d);
                    left.push(l);
                }
            }
            dropped.push((shape, left));
        }
        let (Some((sb, lb)), Some((sa, la))) = (dropped.pop(), dropped.pop()) else {
            return Err("no operands".to_owned().into());
        };
        let (a, b) = (self.b.reshape(a, sa)?, self.b.reshape(b, sb)?);
        let shape = lo
            .iter()
            .map(|&l| length(self, a, &la, l).or_else(|| length(self, b, &lb, l)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| "a label of the result is in no operand".to_owned())?;
        // The program's labels are bytes: number the distinct ones.
        let mut names: Vec<u16> = la.iter().chain(&lb).copied().collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > 255 {
            return Err("too many axes".to_owned().into());
        }
        let code = |l: &[u16]| -> Vec<u8> {
            l.iter().map(|x| names.iter().position(|n| n == x).unwrap_or(0) as u8).collect()
        };
        let scale = self.b.scale(a) + self.b.scale(b);
        let term = Term::Einsum { a, b, a_axes: code(&la), b_axes: code(&lb), out_axes: code(lo), coeff: 1 };
        Ok(Acc { shape, terms: vec![term], constant: 0, scale })
    }

    /// NumPy's matmul.
    pub(super) fn matmul(&mut self, a: TensorId, b: TensorId) -> Outcome<Acc> {
        let (ra, rb) = (self.b.shape(a).len(), self.b.shape(b).len());
        if ra == 0 || rb == 0 {
            return Err("product of a scalar".to_owned().into());
        }
        const ROW: u16 = 1000;
        const INNER: u16 = 1001;
        const COL: u16 = 1002;
        // Batch axes are numbered from the right.
        let batch = |r: usize| (0..r.saturating_sub(2)).map(move |i| (r - 2 - i) as u16).collect::<Vec<_>>();
        let (mut la, mut lb) = (batch(ra), batch(rb));
        if ra > 1 {
            la.push(ROW);
        }
        la.push(INNER);
        lb.push(INNER);
        if rb > 1 {
            lb.push(COL);
        }
        let mut lo = batch(ra.max(rb));
        if ra > 1 {
            lo.push(ROW);
        }
        if rb > 1 {
            lo.push(COL);
        }
        self.contract(a, &la, b, &lb, &lo)
    }

    fn gemm(&mut self, n: &Node) -> Outcome<Acc> {
        let (a, b) = (self.need(n, 0)?, self.need(n, 1)?);
        let (ta, tb) = (n.attrs.int_or("transA", 0)? != 0, n.attrs.int_or("transB", 0)? != 0);
        let (x, y) = (self.tensor(a)?, self.tensor(b)?);
        let la = if ta { [1, 0] } else { [0, 1] };
        let lb = if tb { [2, 1] } else { [1, 2] };
        let mut acc = self.contract(x, &la, y, &lb, &[0, 2])?;
        let alpha = n.attrs.float_or("alpha", 1.0)?;
        if alpha != 1.0 {
            acc = self.scaled_by(acc, None, alpha, FACTOR_BITS)?;
        }
        let beta = n.attrs.float_or("beta", 1.0)?;
        if let Some(c) = n.input(2) {
            let bias = match self.constant(c) {
                Some(_) => self.bias_acc(c, acc.scale)?,
                None => self.acc(c)?,
            };
            let bias = if beta == 1.0 { bias } else { self.scaled_by(bias, Some(c), beta, FACTOR_BITS)? };
            acc = self.sum(acc, n.output(0), bias, Some(c))?;
        }
        Ok(acc)
    }

    fn einsum(&mut self, n: &Node) -> Outcome<Acc> {
        let equation = n.attrs.str("equation")?.ok_or_else(|| "`equation` is missing".to_owned())?;
        let operands: Vec<ValueId> = n.inputs.iter().flatten().copied().collect();
        let ranks: Vec<usize> = operands.iter().map(|&v| self.shape(v).len()).collect();
        let (lists, out) = float::einsum_labels(equation, &ranks)?;
        let mut ids = Vec::with_capacity(operands.len());
        let mut labels: Vec<Vec<u16>> = Vec::with_capacity(operands.len());
        for (v, list) in operands.iter().zip(&lists) {
            let (id, list) = self.diagonal(*v, list)?;
            ids.push(id);
            labels.push(list);
        }
        let out: Vec<u16> = out.into_iter().map(u16::from).collect();
        let (mut id, mut own) = (ids[0], labels[0].clone());
        if ids.len() == 1 {
            // A product with one: a sum over axes and a transposition.
            let one = self.b.data(vec![], vec![1], 0, crate::qir::Role::Constant)?;
            return self.contract(id, &own, one, &[], &out);
        }
        for k in 1..ids.len() {
            let rest: Vec<u16> = labels[k + 1..].concat();
            let last = k + 1 == ids.len();
            let target: Vec<u16> = if last {
                out.clone()
            } else {
                let mut t: Vec<u16> = own.iter().chain(&labels[k]).copied().collect();
                t.sort_unstable();
                t.dedup();
                t.retain(|l| rest.contains(l) || out.contains(l));
                t
            };
            let acc = self.contract(id, &own, ids[k], &labels[k], &target)?;
            if last {
                return Ok(acc);
            }
            let frac = self.fitting(&acc);
            id = self.b.round(&acc, Rounding { frac, relu: false, range: None })?;
            own = target;
        }
        Err("no operands".to_owned().into())
    }

    /// An operand of an einsum with its repeated labels taken along their diagonal.
    fn diagonal(&mut self, v: ValueId, list: &[u8]) -> Outcome<(TensorId, Vec<u16>)> {
        let id = self.tensor(v)?;
        let labels: Vec<u16> = list.iter().copied().map(u16::from).collect();
        let mut distinct = labels.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() == labels.len() {
            return Ok((id, labels));
        }
        let full = self.b.shape(id).to_vec();
        let shape: Vec<usize> =
            distinct.iter().map(|l| labels.iter().position(|x| x == l).map_or(1, |i| full[i])).collect();
        let steps = crate::onnx::strides(&full);
        let count: usize = shape.iter().product();
        let picks = (0..count)
            .map(|flat| {
                let at = unravel(flat, &shape);
                let index: usize = labels
                    .iter()
                    .zip(&steps)
                    .map(|(l, s)| distinct.iter().position(|d| d == l).map_or(0, |p| at[p] * s))
                    .sum();
                Pick::Of { source: 0, index: index as u32 }
            })
            .collect();
        let scale = self.b.scale(id);
        Ok((self.b.view(vec![id], picks, shape, scale)?, distinct))
    }

    pub(super) fn conv(&mut self, n: &Node, x: TensorId, w: TensorId, bias: Option<ValueId>) -> Outcome<Acc> {
        let (xs, ws) = (self.b.shape(x).to_vec(), self.b.shape(w).to_vec());
        let groups = n.attrs.int_or("group", 1)?.max(1) as usize;
        let g = geometry(float::auto_pads(n, &xs[2..], &ws[2..]))?;
        let window = Window {
            kernel: g.kernel,
            strides: g.strides,
            pads_begin: g.begin,
            pads_end: g.end,
            dilations: g.dilations,
        };
        let mut shape = vec![xs[0], ws[0]];
        shape.extend(&g.output);
        let scale = self.b.scale(x) + self.b.scale(w);
        let acc =
            Acc { shape, terms: vec![Term::Conv { x, w, window, groups, coeff: 1 }], constant: 0, scale };
        self.add_bias(acc, bias)
    }

    fn add_bias(&mut self, acc: Acc, bias: Option<ValueId>) -> Outcome<Acc> {
        let Some(v) = bias else { return Ok(acc) };
        let mut shape = vec![1; acc.shape.len()];
        shape[1] = acc.shape[1];
        let b = match self.constant(v) {
            Some(c) => {
                let scale = self.bias_scale(&self.scaled_numbers(v, c)).min(acc.scale);
                self.constant_tensor(v, scale)?
            }
            None => self.tensor(v)?,
        };
        let b = self.b.reshape(b, shape)?;
        let bias = self.b.acc(b);
        self.aligned(acc, bias)
    }

    /// A convolution of the operand with zeros between its elements, with the kernel turned around.
    fn conv_transpose(&mut self, n: &Node) -> Outcome<Acc> {
        let (xv, wv) = (self.need(n, 0)?, self.need(n, 1)?);
        let (x, w) = (self.tensor(xv)?, self.tensor(wv)?);
        let (xs, ws) = (self.b.shape(x).to_vec(), self.b.shape(w).to_vec());
        let groups = n.attrs.int_or("group", 1)?.max(1) as usize;
        let g = geometry(float::conv_transpose_geometry(n, &xs[2..], &ws[2..]))?;
        let rank = g.kernel.len();
        // Full padding is d·(k − 1); the node's pads take from it, or cut elements where they are larger.
        let mut spread = xs[..2].to_vec();
        let mut before = Vec::with_capacity(rank);
        for d in 0..rank {
            let full = g.dilations[d] * (g.kernel[d] - 1);
            // Length that the unit-stride convolution has to see.
            spread.push(g.output[d] + full);
            before.push(full as i64 - g.begin[d] as i64);
        }
        // Pads may cut what dilations spread.
        let total = checked_len(&spread).map_err(|e| e.to_string())?;
        let steps = crate::onnx::strides(&xs);
        let picks = (0..total)
            .map(|flat| {
                let at = unravel(flat, &spread);
                let mut index = at[0] * steps[0] + at[1] * steps[1];
                for d in 0..rank {
                    let p = at[2 + d] as i64 - before[d];
                    let stride = g.strides[d] as i64;
                    if p < 0 || p % stride != 0 || p / stride >= xs[2 + d] as i64 {
                        return Pick::Const(0);
                    }
                    index += (p / stride) as usize * steps[2 + d];
                }
                Pick::Of { source: 0, index: index as u32 }
            })
            .collect();
        let scale = self.b.scale(x);
        let spread = self.b.view(vec![x], picks, spread, scale)?;
        // [C, O/groups, k…] becomes [O, C/groups, k… reversed].
        let (cg, og) = (ws[0] / groups, ws[1]);
        let kernel: usize = ws[2..].iter().product();
        let mut turned = vec![og * groups, cg];
        turned.extend(&ws[2..]);
        let picks = (0..turned.iter().product::<usize>())
            .map(|flat| {
                let (o, c, q) = (flat / kernel / cg, flat / kernel % cg, flat % kernel);
                let (group, o) = (o / og, o % og);
                let index = ((group * cg + c) * og + o) * kernel + (kernel - 1 - q);
                Pick::Of { source: 0, index: index as u32 }
            })
            .collect();
        let scale = self.b.scale(w);
        let turned = self.b.view(vec![w], picks, turned, scale)?;
        let window = Window {
            kernel: g.kernel.clone(),
            strides: vec![1; rank],
            pads_begin: vec![0; rank],
            pads_end: vec![0; rank],
            dilations: g.dilations.clone(),
        };
        let mut shape = vec![xs[0], og * groups];
        shape.extend(&g.output);
        let scale = self.b.scale(spread) + scale;
        let term = Term::Conv { x: spread, w: turned, window, groups, coeff: 1 };
        self.add_bias(Acc { shape, terms: vec![term], constant: 0, scale }, n.input(2))
    }

    fn average_pool(&mut self, n: &Node) -> Outcome<Acc> {
        let v = self.need(n, 0)?;
        let x = self.tensor(v)?;
        let xs = self.b.shape(x).to_vec();
        if xs.contains(&0) {
            return Err("the operand has no elements".to_owned().into());
        }
        let kernel: Vec<usize> =
            n.attrs.ints("kernel_shape")?.unwrap_or(&[]).iter().map(|&k| k.max(0) as usize).collect();
        let g = geometry(float::auto_pads(n, &xs[2..], &kernel))?;
        let size: usize = kernel.iter().product();
        let padded = g.begin.iter().chain(&g.end).any(|&p| p > 0);
        let acc = self.window_sum(n, x)?;
        if !padded {
            return self.scaled_by(acc, None, 1.0 / size as f64, MEAN_BITS);
        }
        // How much a mean of ones gives tells how many elements every window counts.
        let ones = TensorF::float(xs.clone(), crate::onnx::DType::F64, vec![1.0; xs.iter().product()]);
        let ones = ones.map_err(|e| e.to_string())?;
        let counted = float::eval(n, &[Some(&ones)]).ok().and_then(|mut r| r.swap_remove(0));
        let counted = counted.ok_or_else(|| "the window does not fit".to_owned())?.to_f64();
        // Σ ones = mean · count, and the sum of ones is what the window really covers.
        let covered: Vec<f64> = self.covered(&g, &xs);
        let positions: usize = g.output.iter().product();
        let inverse: Vec<f64> = (0..positions).map(|p| counted[p] / covered[p].max(1.0)).collect();
        if inverse.iter().all(|v| (v - inverse[0]).abs() < 1e-12) {
            return self.scaled_by(acc, None, inverse[0], MEAN_BITS);
        }
        let sums = self.exact(&acc)?;
        let mut dims = vec![1, 1];
        dims.extend(&g.output);
        let bits = MEAN_BITS;
        let q = inverse.iter().map(|v| (v * super::exp2(bits)).round() as i64).collect();
        let factors = self.b.data(dims, q, bits, crate::qir::Role::Constant)?;
        self.product(sums, factors)
    }

    /// The sums of the elements under every window of a pool.
    pub(super) fn window_sum(&mut self, n: &Node, x: TensorId) -> Outcome<Acc> {
        let xs = self.b.shape(x).to_vec();
        let kernel: Vec<usize> =
            n.attrs.ints("kernel_shape")?.unwrap_or(&[]).iter().map(|&k| k.max(0) as usize).collect();
        let g = geometry(float::auto_pads(n, &xs[2..], &kernel))?;
        let mut shape = xs[..2].to_vec();
        shape.extend(&g.output);
        let window = Window {
            kernel,
            strides: g.strides,
            pads_begin: g.begin,
            pads_end: g.end,
            dilations: g.dilations,
        };
        let scale = self.b.scale(x);
        Ok(Acc { shape, terms: vec![Term::SumPool { x, window, coeff: 1 }], constant: 0, scale })
    }

    /// Number of elements of the operand under every window.
    fn covered(&self, g: &float::Pooling, xs: &[usize]) -> Vec<f64> {
        (0..g.output.iter().product())
            .map(|p| {
                let at = unravel(p, &g.output);
                (0..g.kernel.len())
                    .map(|d| {
                        (0..g.kernel[d])
                            .filter(|k| {
                                let i = at[d] * g.strides[d] + k * g.dilations[d];
                                i >= g.begin[d] && i - g.begin[d] < xs[2 + d]
                            })
                            .count() as f64
                    })
                    .product()
            })
            .collect()
    }

    fn reduce_sum(&mut self, n: &Node, out: ValueId) -> Outcome<Acc> {
        let v = self.need(n, 0)?;
        let xs = self.shape(v).to_vec();
        let axes = self.axes(n, xs.len())?;
        let shape = self.shape(out).to_vec();
        let count: usize = axes.iter().map(|&a| xs[a]).product();
        let pending = self.acc(v)?;
        // Σ a·b is a contraction: the products are never cells.
        let squares = match pending.terms.as_slice() {
            [Term::Product { a, b, coeff }]
                if pending.constant == 0 && self.b.shape(*a) == xs && self.b.shape(*b) == xs =>
            {
                Some((*a, *b, *coeff))
            }
            _ => None,
        };
        let keep = n.attrs.int_or("keepdims", 1)? != 0;
        let contracted = |l: &mut Self, a: TensorId, b: TensorId, coeff: i64, scale: i32| -> Outcome<Acc> {
            // Axes of length 1 that the result keeps are new labels of both operands.
            let mut wide = xs.clone();
            let mut labels: Vec<u8> = (0..xs.len() as u8).collect();
            let mut out_axes = Vec::with_capacity(shape.len());
            for d in 0..xs.len() {
                if !axes.contains(&d) {
                    out_axes.push(d as u8);
                } else if keep {
                    let l = labels.len() as u8;
                    wide.push(1);
                    labels.push(l);
                    out_axes.push(l);
                }
            }
            let x = l.b.reshape(a, wide.clone())?;
            let y = if a == b { x } else { l.b.reshape(b, wide)? };
            let term = Term::Einsum { a: x, b: y, a_axes: labels.clone(), b_axes: labels, out_axes, coeff };
            Ok(Acc { shape: shape.clone(), terms: vec![term], constant: 0, scale })
        };
        let differences = self.sum_of_squares(&pending, &axes, &shape, |l, x, coeff| {
            contracted(l, x, x, coeff, pending.scale)
        })?;
        let mut acc = match (squares, differences) {
            (_, Some(acc)) => acc,
            (Some((a, b, coeff)), None) => contracted(self, a, b, coeff, pending.scale)?,
            (None, None) => {
                let x = self.tensor(v)?;
                let scale = self.b.scale(x);
                Acc { shape: shape.clone(), terms: vec![Term::Sum { x, axes, coeff: 1 }], constant: 0, scale }
            }
        };
        if n.op == "ReduceMean" {
            if !self.is_float(v) {
                return Err("mean of integers".to_owned().into());
            }
            let bits = MEAN_BITS + (count as f64).log2().ceil() as i32;
            acc = self.scaled_by(acc, None, 1.0 / count as f64, bits.min(30))?;
        }
        Ok(acc)
    }

    /// The axes of a reduction.
    pub(super) fn axes(&self, n: &Node, rank: usize) -> Outcome<Vec<usize>> {
        let operands: Vec<Option<&TensorF>> =
            n.inputs.iter().map(|v| v.and_then(|v| self.model.value(v).constant.as_deref())).collect();
        let call = float::Call { node: n, inputs: &operands };
        let axes = float::axes_of(&call, rank).map_err(|e| {
            let (float::OpError::Invalid(s) | float::OpError::Unsupported(s)) = e;
            s
        })?;
        Ok(axes.unwrap_or_default())
    }
}

pub(super) fn geometry(g: Result<float::Pooling, float::OpError>) -> Outcome<float::Pooling> {
    g.map_err(|e| {
        let (float::OpError::Invalid(s) | float::OpError::Unsupported(s)) = e;
        Refusal::Unsupported(s)
    })
}
