//! Operators that move elements become views.
//!
//! The reference executor applies an operator to tensors of element numbers, and what comes out is the index map.

use crate::float;
use crate::onnx::{DType, Data, Node, TensorF, ValueId, checked_len, unravel};
use crate::qir::{OpKind, Pick, Role, TensorId};

use super::super::builder::{Rounding, exp2};
use super::super::mask::LARGE;
use super::contract::geometry;
use super::{Lower, Outcome};

/// Operands whose elements a node moves; the others say where to.
fn movers(op: &str) -> &'static [usize] {
    match op {
        "Concat" => &[],
        "Pad" | "ScatterElements" | "ScatterND" => &[0, 2],
        "Where" => &[1, 2],
        _ => &[0],
    }
}

impl Lower<'_> {
    pub(super) fn movement(&mut self, n: &Node) -> Outcome<()> {
        let moved: Vec<usize> =
            if n.op == "Concat" { (0..n.inputs.len()).collect() } else { movers(&n.op).to_vec() };
        let moved: Vec<usize> = moved.into_iter().filter(|&k| n.input(k).is_some()).collect();
        // All sources share one scale: the finest.
        let mut finest: Option<i32> = None;
        let mut sources: Vec<(usize, TensorId)> = Vec::new();
        for &k in &moved {
            let Some(v) = n.input(k) else { continue };
            if self.constant(v).is_none() && !self.shape(v).contains(&0) {
                let id = self.tensor(v)?;
                let own = self.b.scale(id);
                finest = Some(finest.map_or(own, |f| f.max(own)));
                sources.push((k, id));
            }
        }
        let scale = finest.unwrap_or(0);
        for (_, id) in &mut sources {
            if self.b.scale(*id) < scale {
                let lifted = self.b.rescale(&self.b.acc(*id), scale)?;
                *id = self.b.round(&lifted, Rounding { frac: scale, relu: false, range: None })?;
            }
        }
        // Numbers 1, 2, … stand for elements; 0 is what an operator fills in; negative ones are constants.
        let mut tags: Vec<Option<TensorF>> = vec![None; n.inputs.len()];
        let mut first = 1i64;
        let mut starts = Vec::new();
        let mut ids = Vec::new();
        let mut fills: Vec<i64> = Vec::new();
        for &k in &moved {
            let Some(v) = n.input(k) else { continue };
            let shape = self.shape(v).to_vec();
            let len: usize = shape.iter().product();
            let constant = self.constant(v);
            let data = match constant {
                _ if len == 0 => vec![],
                Some(c) if self.is_filler(v, c) => {
                    self.reveal(v, "fills a tensor up");
                    let start = fills.len() as i64;
                    let float = c.dtype.is_float();
                    let own = self.quantised(v, c, if float { scale } else { 0 });
                    fills.extend(own.into_iter().map(|q| if float { q } else { q << scale.max(0) }));
                    (0..len as i64).map(|i| -1 - start - i).collect()
                }
                _ => {
                    let id = match sources.iter().find(|(s, _)| *s == k) {
                        Some((_, id)) => *id,
                        None => self.constant_tensor(v, scale)?,
                    };
                    starts.push(first);
                    ids.push(id);
                    let data = (first..first + len as i64).collect();
                    first += len as i64;
                    data
                }
            };
            tags[k] = Some(TensorF { shape, dtype: DType::I64, data: Data::I(data) });
        }
        let mut node = n.clone();
        if n.op == "Pad" && n.input(2).is_none() {
            let fill = n.attrs.float_or("value", 0.0)?;
            if fill != 0.0 {
                fills.push((fill * exp2(scale)).round() as i64);
                node.inputs.resize(3.max(n.inputs.len()), None);
                tags.resize(node.inputs.len(), None);
                tags[2] = Some(TensorF {
                    shape: vec![],
                    dtype: DType::I64,
                    data: Data::I(vec![-(fills.len() as i64)]),
                });
            }
        }
        let operands: Vec<Option<&TensorF>> = (0..node.inputs.len())
            .map(|k| tags[k].as_ref().or_else(|| node.inputs[k].and_then(|v| self.constant(v))))
            .collect();
        let results = float::eval(&node, &operands).map_err(|e| {
            let (float::OpError::Invalid(s) | float::OpError::Unsupported(s)) = e;
            s
        })?;
        for (out, t) in n.outputs.iter().zip(results) {
            let (Some(out), Some(t)) = (out, t) else { continue };
            let id = self.view_of_tags(&t, &ids, &starts, &fills, scale)?;
            self.set_tensor(*out, id)?;
        }
        Ok(())
    }

    /// Whether the elements of a constant that moves are part of the structure: one number, zeros, masks.
    fn is_filler(&self, v: ValueId, c: &TensorF) -> bool {
        let uniform = || (1..c.len()).all(|i| c.at(i) == c.at(0));
        let nothing = || c.at(0) == 0.0 || c.at(0).abs() >= LARGE;
        c.len() == 1 || self.role(v) == Role::Constant || (nothing() && uniform())
    }

    /// The view that a tensor of element numbers describes.
    fn view_of_tags(
        &mut self,
        t: &TensorF,
        ids: &[TensorId],
        starts: &[i64],
        fills: &[i64],
        scale: i32,
    ) -> Outcome<TensorId> {
        let picks: Vec<Pick> = t
            .to_i64()
            .into_iter()
            .map(|tag| match tag {
                0 => Pick::Const(0),
                tag if tag < 0 => Pick::Const(fills[(-1 - tag) as usize]),
                tag => {
                    let source = starts.partition_point(|&s| s <= tag) - 1;
                    Pick::Of { source: source as u32, index: (tag - starts[source]) as u32 }
                }
            })
            .collect();
        if let [id] = ids {
            let whole = self.b.shape(*id) == t.shape
                && picks
                    .iter()
                    .enumerate()
                    .all(|(i, p)| matches!(p, Pick::Of { index, .. } if *index as usize == i));
            if whole {
                return Ok(*id);
            }
        }
        Ok(self.b.view(ids.to_vec(), picks, t.shape.clone(), scale)?)
    }

    /// `x` with an axis moved to the end.
    pub(super) fn axis_last(&mut self, x: TensorId, axis: usize) -> Outcome<TensorId> {
        let rank = self.b.shape(x).len();
        let mut perm: Vec<usize> = (0..rank).filter(|&d| d != axis).collect();
        perm.push(axis);
        self.permute(x, &perm)
    }

    /// `x` with its axes in another order.
    pub(super) fn permute(&mut self, x: TensorId, perm: &[usize]) -> Outcome<TensorId> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(x);
        }
        let full = self.b.shape(x).to_vec();
        let steps = crate::onnx::strides(&full);
        let shape: Vec<usize> = perm.iter().map(|&p| full[p]).collect();
        let picks = (0..shape.iter().product::<usize>())
            .map(|flat| {
                let at = unravel(flat, &shape);
                let index: usize = at.iter().zip(perm).map(|(a, &p)| a * steps[p]).sum();
                Pick::Of { source: 0, index: index as u32 }
            })
            .collect();
        let scale = self.b.scale(x);
        Ok(self.b.view(vec![x], picks, shape, scale)?)
    }

    /// Maxima, minima, their places, and sorts.
    pub(super) fn order(&mut self, n: &Node) -> Outcome<()> {
        let v = self.need(n, 0)?;
        match n.op.as_str() {
            "MaxPool" => {
                let x = self.tensor(v)?;
                let windows = self.windows(n, x)?;
                let shape = self.b.shape(windows)[..self.b.shape(windows).len() - 1].to_vec();
                let id = self.maximum(windows, shape)?;
                let out = self.out(n)?;
                self.set_tensor(out, id)
            }
            "ReduceMax" | "ReduceMin" => {
                let out = self.out(n)?;
                let shape = self.shape(out).to_vec();
                let x = if n.op == "ReduceMax" { self.tensor(v)? } else { self.negated(v)? };
                let full = self.b.shape(x).to_vec();
                let axes = self.axes(n, full.len())?;
                let mut perm: Vec<usize> = (0..full.len()).filter(|d| !axes.contains(d)).collect();
                let mut lead: Vec<usize> = perm.iter().map(|&d| full[d]).collect();
                perm.extend(&axes);
                let x = self.permute(x, &perm)?;
                lead.push(axes.iter().map(|&d| full[d]).product());
                let x = self.b.reshape(x, lead.clone())?;
                lead.pop();
                let m = self.maximum(x, lead)?;
                let m = self.b.reshape(m, shape)?;
                if n.op == "ReduceMax" {
                    return self.set_tensor(out, m);
                }
                let acc = self.b.neg(&self.b.acc(m))?;
                self.set_acc(out, acc)
            }
            "ArgMax" | "ArgMin" => {
                let out = self.out(n)?;
                let x = if n.op == "ArgMax" { self.tensor(v)? } else { self.negated(v)? };
                let rank = self.b.shape(x).len();
                let axis = float::normal_axis(n.attrs.int_or("axis", 0)?, rank)?;
                let x = self.axis_last(x, axis)?;
                let shape = self.b.shape(x).to_vec();
                let last = n.attrs.int_or("select_last_index", 0)? != 0;
                let bounds = (0, shape[rank - 1] as i128 - 1);
                let id = self.b.op(OpKind::ArgMax { x, last }, shape[..rank - 1].to_vec(), bounds, 0)?;
                let shape = self.shape(out).to_vec();
                let id = self.b.reshape(id, shape)?;
                self.set_tensor(out, id)
            }
            _ => {
                let x = self.tensor(v)?;
                let rank = self.b.shape(x).len();
                let axis = float::normal_axis(n.attrs.int_or("axis", -1)?, rank)?;
                let largest = n.attrs.int_or("largest", 1)? != 0;
                let x = self.axis_last(x, axis)?;
                let (values, indices) = self.b.sort(x, largest)?;
                let mut back: Vec<usize> = (0..rank - 1).collect();
                back.insert(axis, rank - 1);
                for (out, sorted) in [(n.output(0), values), (n.output(1), indices)] {
                    let Some(out) = out else { continue };
                    let k = self.shape(out)[axis];
                    let full = self.b.shape(sorted).to_vec();
                    let mut head = full.clone();
                    head[rank - 1] = k;
                    let picks = (0..head.iter().product::<usize>())
                        .map(|i| Pick::Of {
                            source: 0,
                            index: (i / k.max(1) * full[rank - 1] + i % k.max(1)) as u32,
                        })
                        .collect();
                    let scale = self.b.scale(sorted);
                    let head = self.b.view(vec![sorted], picks, head, scale)?;
                    let id = self.permute(head, &back)?;
                    self.set_tensor(out, id)?;
                }
                Ok(())
            }
        }
    }

    fn negated(&mut self, v: ValueId) -> Outcome<TensorId> {
        let x = self.tensor(v)?;
        let acc = self.b.neg(&self.b.acc(x))?;
        self.exact(&acc)
    }

    /// Maximum over the last axis.
    pub(super) fn maximum(&mut self, x: TensorId, shape: Vec<usize>) -> Outcome<TensorId> {
        if self.b.shape(x).last() == Some(&1) {
            return Ok(self.b.reshape(x, shape)?);
        }
        if self.b.shape(x).last() == Some(&0) {
            return Err("the maximum of nothing".to_owned().into());
        }
        let t = self.b.program.tensor(x);
        let (bounds, scale) = ((t.lo.into(), t.hi.into()), t.scale);
        Ok(self.b.op(OpKind::Max { x }, shape, bounds, scale)?)
    }

    /// The elements under every window as a last axis; padding repeats an element of the window.
    fn windows(&mut self, n: &Node, x: TensorId) -> Outcome<TensorId> {
        let xs = self.b.shape(x).to_vec();
        let kernel: Vec<usize> =
            n.attrs.ints("kernel_shape")?.unwrap_or(&[]).iter().map(|&k| k.max(0) as usize).collect();
        let g = geometry(float::auto_pads(n, &xs[2..], &kernel))?;
        let size: usize = kernel.iter().product();
        let area: usize = xs[2..].iter().product();
        let positions: usize = g.output.iter().product();
        let mut table: Vec<Vec<usize>> = Vec::with_capacity(positions);
        for p in 0..positions {
            let at = unravel(p, &g.output);
            let mut list: Vec<usize> = (0..size)
                .filter_map(|q| {
                    let k = unravel(q, &kernel);
                    (0..kernel.len()).try_fold(0usize, |flat, d| {
                        let i = (at[d] * g.strides[d] + k[d] * g.dilations[d]).checked_sub(g.begin[d])?;
                        (i < xs[2 + d]).then(|| flat * xs[2 + d] + i)
                    })
                })
                .collect();
            let first = *list.first().ok_or_else(|| "a window lies in the padding".to_owned())?;
            list.resize(size, first);
            table.push(list);
        }
        let total = checked_len(&[xs[0], xs[1], positions, size]).map_err(|e| e.to_string())?;
        let mut picks = Vec::with_capacity(total);
        for plane in 0..xs[0] * xs[1] {
            for i in table.iter().flatten() {
                picks.push(Pick::Of { source: 0, index: (plane * area + i) as u32 });
            }
        }
        let mut shape = xs[..2].to_vec();
        shape.extend(&g.output);
        shape.push(size);
        let scale = self.b.scale(x);
        Ok(self.b.view(vec![x], picks, shape, scale)?)
    }

    pub(super) fn resize(&mut self, n: &Node) -> Outcome<()> {
        let (out, v) = (self.out(n)?, self.need(n, 0)?);
        let operands: Vec<Option<&TensorF>> =
            n.inputs.iter().map(|v| v.and_then(|v| self.model.value(v).constant.as_deref())).collect();
        let call = float::Call { node: n, inputs: &operands };
        let mix = float::mix(&call, self.shape(v)).map_err(|e| {
            let (float::OpError::Invalid(s) | float::OpError::Unsupported(s)) = e;
            s
        })?;
        let lists = float::combinations(&mix, self.shape(v));
        let width = lists.iter().map(Vec::len).max().unwrap_or(1);
        if width <= 1 {
            return self.movement(n);
        }
        // Linear: up to `width` neighbours of every element, weighted.
        let x = self.tensor(v)?;
        let shape = self.shape(out).to_vec();
        let mut wide = shape.clone();
        wide.push(width);
        let bits = 14;
        let (mut picks, mut weights) = (Vec::new(), Vec::new());
        for l in &lists {
            for k in 0..width {
                let (i, w) =
                    l.get(k).or(l.first()).map_or((0, 0.0), |&(i, w)| (i, if k < l.len() { w } else { 0.0 }));
                picks.push(Pick::Of { source: 0, index: i as u32 });
                weights.push((w * exp2(bits)).round() as i64);
            }
        }
        let scale = self.b.scale(x);
        let near = self.b.view(vec![x], picks, wide.clone(), scale)?;
        let weights = self.b.data(wide, weights, bits, Role::Constant)?;
        let labels: Vec<u8> = (0..=shape.len() as u8).collect();
        let term = crate::qir::Term::Einsum {
            a: near,
            b: weights,
            a_axes: labels.clone(),
            out_axes: labels[..shape.len()].to_vec(),
            b_axes: labels,
            coeff: 1,
        };
        self.set_acc(
            out,
            super::super::builder::Acc { shape, terms: vec![term], constant: 0, scale: scale + bits },
        )
    }
}
