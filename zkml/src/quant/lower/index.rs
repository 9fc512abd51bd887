//! Elements by index: views where the index is constant, selections where it is computed.

use crate::float;
use crate::onnx::{Node, TensorF, ValueId, strides, unravel};
use crate::qir::{OpKind, Pick, Role, TensorId};

use super::super::builder::Acc;
use super::{Lower, Outcome};

impl Lower<'_> {
    pub(super) fn index(&mut self, n: &Node) -> Outcome<()> {
        let index_at = if n.op == "OneHot" { 0 } else { 1 };
        let index = self.need(n, index_at)?;
        let constant = self.constant(index).is_some();
        let plain = n.attrs.str("reduction")?.unwrap_or("none") == "none";
        if constant && n.op != "OneHot" && plain {
            return self.movement(n);
        }
        match n.op.as_str() {
            "Gather" => self.gather(n, index),
            "GatherElements" => self.gather_elements(n, index),
            "GatherND" => self.gather_nd(n, index),
            "OneHot" => self.one_hot(n, index),
            "ScatterElements" if plain => self.scatter_elements(n, index),
            _ => Err("with a computed index, or with a reduction".to_owned().into()),
        }
    }

    /// An index tensor with bounds `[0, n)`; indices from the end are turned around where calibration saw any.
    fn index_tensor(&mut self, v: ValueId, n: usize) -> Outcome<TensorId> {
        let id = self.tensor(v)?;
        let negative = self.ranges.observed(v).is_some_and(|(lo, _)| lo < 0.0);
        self.bounded_index(id, n, negative)
    }

    fn bounded_index(&mut self, id: TensorId, n: usize, negative: bool) -> Outcome<TensorId> {
        let top = n as i64 - 1;
        let within =
            |s: &Self, id: TensorId| s.b.program.tensor(id).lo >= 0 && s.b.program.tensor(id).hi <= top;
        if within(self, id) {
            return Ok(id);
        }
        if negative {
            // i + n·[i < 0]
            let x = self.b.acc(id);
            let below = self.step(&x)?;
            let mut shift = self.b.times(&self.b.acc(below), -(n as i64))?;
            shift.constant += n as i64;
            let sum = self.b.add(&x, &shift)?;
            return Ok(self.b.demand(&sum, (0, top.into()))?);
        }
        if self.tighten(id, top) && within(self, id) {
            return Ok(id);
        }
        Ok(self.b.demand(&self.b.acc(id), (0, top.into()))?)
    }

    /// Restricts an input, or a view of inputs, to `[0, top]`: an index outside is an error of the input.
    fn tighten(&mut self, id: TensorId, top: i64) -> bool {
        if self.b.tighten_input(id, 0, top) {
            return true;
        }
        let Some(op) = self.b.program.ops.iter().rev().find(|o| o.outputs.contains(&id)) else {
            return false;
        };
        let OpKind::View { sources, picks } = op.kind.clone() else { return false };
        // Elements that are no index here have bounds of their own.
        for (k, &s) in sources.iter().enumerate() {
            let mut free = vec![true; self.b.program.tensor(s).len()];
            for p in picks.iter() {
                if let Pick::Of { source, index } = *p
                    && source as usize == k
                    && let Some(f) = free.get_mut(index as usize)
                {
                    *f = false;
                }
            }
            if free.contains(&true) && free.contains(&false) {
                return false;
            }
        }
        let mut bounds: Option<(i64, i64)> = None;
        for (k, &s) in sources.iter().enumerate() {
            let used = picks.iter().any(|p| matches!(p, Pick::Of { source, .. } if *source as usize == k));
            let t = self.b.program.tensor(s);
            if used && (t.lo < 0 || t.hi > top) && !self.tighten(s, top) {
                return false;
            }
        }
        for p in picks.iter() {
            let (lo, hi) = match *p {
                Pick::Const(c) => (c, c),
                Pick::Of { source, .. } => {
                    let t = self.b.program.tensor(sources[source as usize]);
                    (t.lo, t.hi)
                }
            };
            bounds = Some(bounds.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
        }
        let Some((lo, hi)) = bounds else { return false };
        let t = &mut self.b.program.tensors[id.0 as usize];
        (t.lo, t.hi) = (lo, hi);
        true
    }

    /// Rows of `data` by a bounded index.
    fn rows(&mut self, data: TensorId, index: TensorId) -> Outcome<TensorId> {
        let shape: Vec<usize> = self.b.shape(index).iter().chain(&self.b.shape(data)[1..]).copied().collect();
        let t = self.b.program.tensor(data);
        let (bounds, scale) = ((t.lo.into(), t.hi.into()), t.scale);
        Ok(self.b.op(OpKind::Gather { data, index }, shape, bounds, scale)?)
    }

    fn gather(&mut self, n: &Node, index: ValueId) -> Outcome<()> {
        let (out, v) = (self.out(n)?, self.need(n, 0)?);
        let data = self.tensor(v)?;
        let rank = self.b.shape(data).len();
        let axis = float::normal_axis(n.attrs.int_or("axis", 0)?, rank)?;
        let i = self.index_tensor(index, self.b.shape(data)[axis])?;
        let mut perm: Vec<usize> = vec![axis];
        perm.extend((0..rank).filter(|&d| d != axis));
        let data = self.permute(data, &perm)?;
        let rows = self.rows(data, i)?;
        // [index…, before…, after…] becomes [before…, index…, after…].
        let k = self.b.shape(i).len();
        let perm: Vec<usize> = (k..k + axis).chain(0..k).chain(k + axis..k + rank - 1).collect();
        let id = self.permute(rows, &perm)?;
        self.set_tensor(out, id)
    }

    fn gather_elements(&mut self, n: &Node, index: ValueId) -> Outcome<()> {
        let (out, v) = (self.out(n)?, self.need(n, 0)?);
        let data = self.tensor(v)?;
        let shape = self.b.shape(data).to_vec();
        let axis = float::normal_axis(n.attrs.int_or("axis", 0)?, shape.len())?;
        let steps = strides(&shape);
        let i = self.index_tensor(index, shape[axis])?;
        let index_shape = self.b.shape(i).to_vec();
        let base: Vec<i64> = (0..index_shape.iter().product())
            .map(|flat| {
                let at = unravel(flat, &index_shape);
                (0..at.len()).filter(|&d| d != axis).map(|d| at[d] * steps[d]).sum::<usize>() as i64
            })
            .collect();
        let base = self.b.data(index_shape, base, 0, Role::Constant)?;
        let flat = self.b.add(&self.b.times(&self.b.acc(i), steps[axis] as i64)?, &self.b.acc(base))?;
        let flat = self.exact(&flat)?;
        let len: usize = shape.iter().product();
        let flat = self.bounded_index(flat, len, false)?;
        let data = self.b.reshape(data, vec![len])?;
        let id = self.rows(data, flat)?;
        self.set_tensor(out, id)
    }

    fn gather_nd(&mut self, n: &Node, index: ValueId) -> Outcome<()> {
        let (out, v) = (self.out(n)?, self.need(n, 0)?);
        let data = self.tensor(v)?;
        let shape = self.b.shape(data).to_vec();
        let batch = n.attrs.int_or("batch_dims", 0)?.max(0) as usize;
        let index_id = self.tensor(index)?;
        let index_shape = self.b.shape(index_id).to_vec();
        let Some((&depth, lead)) = index_shape.split_last() else {
            return Err("the indices are a scalar".to_owned().into());
        };
        let lead = lead.to_vec();
        let count: usize = lead.iter().product();
        let width: usize = shape[batch + depth..].iter().product();
        // Row numbers: Σ index_j · stride_j in units of rows, plus the batch's start.
        let row_shape = &shape[..batch + depth];
        let steps = strides(row_shape);
        let negative = self.ranges.observed(index).is_some_and(|(lo, _)| lo < 0.0);
        let per_batch: usize = lead[batch.min(lead.len())..].iter().product();
        let batch_step: usize = row_shape[batch..].iter().product();
        let base: Vec<i64> = (0..count).map(|k| (k / per_batch.max(1) * batch_step) as i64).collect();
        let base = self.b.data(lead.clone(), base, 0, Role::Constant)?;
        let mut row = self.b.acc(base);
        for j in 0..depth {
            let picks = (0..count).map(|k| Pick::Of { source: 0, index: (k * depth + j) as u32 }).collect();
            let part = self.b.view(vec![index_id], picks, lead.clone(), 0)?;
            let part = self.component(part, index_id, j, depth)?;
            let part = self.bounded_index(part, shape[batch + j], negative)?;
            row = self.b.add(&row, &self.b.times(&self.b.acc(part), steps[batch + j] as i64)?)?;
        }
        let row = self.exact(&row)?;
        let rows: usize = row_shape.iter().product();
        let row = self.bounded_index(row, rows, false)?;
        let mut wide = vec![rows];
        wide.extend((shape.len() > batch + depth).then_some(width));
        let data = self.b.reshape(data, wide)?;
        let id = self.rows(data, row)?;
        let result = self.shape(out).to_vec();
        let id = self.b.reshape(id, result)?;
        self.set_tensor(out, id)
    }

    /// One component of an index tensor, seen through the view that joined it with others, so that each keeps its own bounds.
    fn component(&mut self, part: TensorId, whole: TensorId, j: usize, depth: usize) -> Outcome<TensorId> {
        let Some(op) = self.b.program.ops.iter().rev().find(|o| o.outputs.contains(&whole)) else {
            return Ok(part);
        };
        let OpKind::View { sources, picks } = op.kind.clone() else { return Ok(part) };
        let own: Vec<Pick> = picks.iter().skip(j).step_by(depth).copied().collect();
        let shape = self.b.shape(part).to_vec();
        // The first view of this component is replaced: it is the last operation.
        if self.b.program.ops.last().is_some_and(|o| o.outputs.contains(&part)) {
            self.b.program.ops.pop();
            self.b.program.tensors.pop();
        }
        Ok(self.b.view(sources, own, shape, 0)?)
    }

    /// 1 where the index (with a last axis of length 1) is the position along the last axis.
    fn hot(&mut self, index: TensorId, depth: usize) -> Outcome<Acc> {
        let mut shape = self.b.shape(index).to_vec();
        shape.push(1);
        let i = self.b.reshape(index, shape)?;
        let positions = self.b.data(vec![depth], (0..depth as i64).collect(), 0, Role::Constant)?;
        let d = self.b.add(&self.b.acc(i), &self.b.neg(&self.b.acc(positions))?)?;
        let (up, down) = (self.step(&d)?, self.step(&self.b.neg(&d)?)?);
        let mut both = self.b.add(&self.b.acc(up), &self.b.acc(down))?;
        both.constant -= 1;
        Ok(both)
    }

    fn one_hot(&mut self, n: &Node, index: ValueId) -> Outcome<()> {
        let out = self.out(n)?;
        let values = self.need(n, 2)?;
        let Some(&[off, on]) =
            self.constant(values).map(TensorF::to_f64).as_deref().and_then(|v| v.first_chunk::<2>())
        else {
            return Err("the values are not constant".to_owned().into());
        };
        let rank = self.shape(out).len();
        let axis = float::normal_axis(n.attrs.int_or("axis", -1)?, rank)?;
        let depth = self.shape(out)[axis];
        let mut i = self.tensor(index)?;
        // Indices out of range give a row without a hit, as in ONNX; those from the end are turned around.
        if self.ranges.observed(index).is_some_and(|(lo, _)| lo < 0.0) {
            let x = self.b.acc(i);
            let below = self.step(&x)?;
            let mut shift = self.b.times(&self.b.acc(below), -(depth as i64))?;
            shift.constant += depth as i64;
            let sum = self.b.add(&x, &shift)?;
            i = self.exact(&sum)?;
        }
        let hot = self.hot(i, depth)?;
        let scaled = if on - off == 1.0 { hot } else { self.b.multiply(&hot, on - off, 16)? };
        let acc = self.b.offset(&scaled, off, self.act)?;
        if axis + 1 == rank {
            return self.set_acc(out, acc);
        }
        let id = self.exact(&acc)?;
        let mut perm: Vec<usize> = (0..rank - 1).collect();
        perm.insert(axis, rank - 1);
        let id = self.permute(id, &perm)?;
        self.set_tensor(out, id)
    }

    /// Updates one after the other along the axis: out ← out + hot·(update − out).
    fn scatter_elements(&mut self, n: &Node, index: ValueId) -> Outcome<()> {
        let (out, v, u) = (self.out(n)?, self.need(n, 0)?, self.need(n, 2)?);
        let (mut data, mut updates) = (self.tensor(v)?, self.tensor(u)?);
        let scale = self.b.scale(data).max(self.b.scale(updates));
        for id in [&mut data, &mut updates] {
            if self.b.scale(*id) < scale {
                let lifted = self.b.rescale(&self.b.acc(*id), scale)?;
                *id = self.exact(&lifted)?;
            }
        }
        let shape = self.b.shape(data).to_vec();
        let rank = shape.len();
        let axis = float::normal_axis(n.attrs.int_or("axis", 0)?, rank)?;
        let i = self.index_tensor(index, shape[axis])?;
        let (data, i, updates) =
            (self.axis_last(data, axis)?, self.axis_last(i, axis)?, self.axis_last(updates, axis)?);
        let lines = self.b.shape(data)[..rank - 1].to_vec();
        let depth = shape[axis];
        let (index_shape, count) = (self.b.shape(i).to_vec(), self.b.shape(i)[rank - 1]);
        let index_lines = &index_shape[..rank - 1];
        let steps = strides(&index_shape);
        let total: usize = lines.iter().product();
        let mut current = data;
        for k in 0..count {
            // Lines that the indices do not reach keep their elements: index −1 hits nothing.
            let mut reached = Vec::with_capacity(total);
            for line in 0..total {
                let at = unravel(line, &lines);
                let inside = at.iter().zip(index_lines).all(|(a, d)| a < d);
                let flat = at.iter().zip(&steps).map(|(a, s)| a * s).sum::<usize>() + k;
                reached.push(inside.then_some(flat));
            }
            let of = |p: &Option<usize>, other: i64| match p {
                Some(i) => Pick::Of { source: 0, index: *i as u32 },
                None => Pick::Const(other),
            };
            let ik = self.b.view(vec![i], reached.iter().map(|p| of(p, -1)).collect(), lines.clone(), 0)?;
            let uk = self.b.view(
                vec![updates],
                reached.iter().map(|p| of(p, 0)).collect(),
                lines.clone(),
                scale,
            )?;
            let mut wide = lines.clone();
            wide.push(1);
            let uk = self.b.reshape(uk, wide)?;
            let hot = self.hot(ik, depth)?;
            let hot = self.exact(&hot)?;
            let add = self.product(hot, uk)?;
            let remove = self.b.neg(&self.product(hot, current)?)?;
            let next = self.b.add(&self.b.acc(current), &self.b.add(&add, &remove)?)?;
            // The result is one of the two, which interval arithmetic cannot see.
            let (a, b) = (self.b.program.tensor(current), self.b.program.tensor(updates));
            let bounds = (i128::from(a.lo.min(b.lo)), i128::from(a.hi.max(b.hi)));
            current = self.b.enforce(&next, bounds)?;
        }
        let mut back: Vec<usize> = (0..rank - 1).collect();
        back.insert(axis, rank - 1);
        let id = self.permute(current, &back)?;
        self.set_tensor(out, id)
    }
}
