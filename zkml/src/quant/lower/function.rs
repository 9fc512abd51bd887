//! Functions by tables.

use crate::onnx::{Node, ValueId};
use crate::qir::{OpKind, TensorId};

use super::super::builder::{Acc, Rounding, exp2, real_hull};
use super::super::tables::{self, Table};
use super::{Lower, Outcome};

/// Greatest number of pieces of a function.
const MAX_PIECES: usize = 24;
/// Extra fraction bits of the pieces of a function.
const PIECE_BITS: i32 = 3;

impl Lower<'_> {
    /// The tensor that a value is lowered as a function of, if it is: the start of its chain where one table serves, else the node's own operand.
    pub(super) fn function_root(&self, v: ValueId, node: &Node) -> Option<ValueId> {
        let root = self.clusters.root(v)?;
        let dynamic: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|&i| self.constant(i).is_none()).collect();
        let own = match dynamic[..] {
            [one] => Some(one),
            [a, b] if a == b => Some(a),
            _ => None,
        };
        if own == Some(root) || self.one_table_serves(v, root) {
            return Some(root);
        }
        own.filter(|_| self.clusters.is_tabled(node))
    }

    /// Whether a single table approximates a chain well over the range that is allowed for its start.
    fn one_table_serves(&self, v: ValueId, root: ValueId) -> bool {
        let Some((lo, hi)) = self.range(root) else { return false };
        let (lo, hi) = real_hull(lo, hi, self.act);
        let (Ok(lo), Ok(hi)) = (i64::try_from(lo), i64::try_from(hi)) else { return false };
        let f = |p: &[f64]| self.clusters.sample(root, v, p);
        if tables::hopeless(&f, (lo, hi), self.act, self.act, 1.7, self.limits) {
            return false;
        }
        tables::build(&f, TensorId(0), (lo, hi), self.act, self.act, 0.5, self.limits)
            .is_some_and(|t| t.error <= 1.7)
    }

    /// A node that needs a table although its chain is not one: reported as such.
    pub(super) fn tabled(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let x = self.need(n, 0)?;
        if n.inputs.len() > 1 || !self.is_float(x) || !self.is_float(out) {
            return Err("the operator has no integer form for these operands".to_owned().into());
        }
        self.function(out, x)
    }

    /// A value as a function of another.
    pub(super) fn function(&mut self, v: ValueId, root: ValueId) -> Outcome<()> {
        let x = self.tensor(root)?;
        let frac = self.frac(v);
        let tolerance =
            if self.is_output[v.index()] { (0.25 * exp2(frac - self.act)).max(0.25) } else { 0.5 };
        let t = self.b.program.tensor(x);
        let (lo, hi, scale, shape) = (t.lo, t.hi, t.scale, t.shape.clone());
        let clusters = &self.clusters;
        let f = |p: &[f64]| clusters.sample(root, v, p);
        if let Some(t) = tables::build(&f, x, (lo, hi), scale, frac, tolerance, self.limits)
            && t.error <= 2.0 * tolerance + 0.7
        {
            let id = self.b.op(t.kind, shape, (t.lo, t.hi), frac)?;
            return self.set_tensor(v, id);
        }
        // Where the function ends inside the range, the range ends too.
        let (lo, hi, x) = match self.domain(&f, root, (lo, hi), scale)? {
            d if d == (lo, hi) => (lo, hi, x),
            (a, b) => (a, b, self.b.demand(&self.b.acc(x), (a.into(), b.into()))?),
        };
        let clusters = &self.clusters;
        let f = |p: &[f64]| clusters.sample(root, v, p);
        if let Some(t) = tables::build(&f, x, (lo, hi), scale, frac, tolerance, self.limits)
            && t.error <= 2.0 * tolerance + 0.7
        {
            let id = self.b.op(t.kind, shape, (t.lo, t.hi), frac)?;
            return self.set_tensor(v, id);
        }
        let acc = self.pieces(v, root, x, (lo, hi), scale, frac + PIECE_BITS, tolerance)?;
        self.set_acc(v, acc)
    }

    /// The part of a range on which a function is finite: around what calibration saw.
    fn domain(
        &self,
        f: &tables::Sampler<'_>,
        root: ValueId,
        (lo, hi): (i64, i64),
        scale: i32,
    ) -> Outcome<(i64, i64)> {
        let finite = |lo: i64, hi: i64| {
            let n = 256;
            let points: Vec<f64> = (0..=n)
                .map(|i| {
                    (lo as f64 + ((hi - lo) as f64 * f64::from(i) / f64::from(n)).floor()) * exp2(-scale)
                })
                .chain((lo.max(-4)..=hi.min(4)).map(|v| v as f64 * exp2(-scale)))
                .collect();
            let values = f(&points);
            values.len() == points.len() && values.iter().all(|v| v.is_finite() && v.abs() < exp2(40))
        };
        if finite(lo, hi) {
            return Ok((lo, hi));
        }
        let (a, b) = self
            .ranges
            .observed(root)
            .ok_or_else(|| "the function is not finite over its range".to_owned())?;
        let h = self.options.headroom;
        for m in [h, 1.0 + (h - 1.0) / 2.0, 1.25, 1.1, 1.02, 1.0] {
            let low = if a > 0.0 { a / m } else { a * m };
            let high = if b > 0.0 { b * m } else { b / m };
            let from = ((low * exp2(scale)).floor() as i64).max(lo);
            let to = ((high * exp2(scale)).ceil() as i64).min(hi);
            // Rounding outwards may step over the edge of the domain.
            for (from, to) in [(from, to), (from + 1, to), (from, to - 1), (from + 1, to - 1)] {
                if from < to && finite(from, to) {
                    return Ok((from, to));
                }
            }
        }
        Err("the function is not finite over the calibrated range".to_owned().into())
    }

    /// A function over pieces of its range, each with a table of its own: Σ over pieces of f's change on the piece, where the argument is clamped to
    /// the piece. With u the distance from the start of a piece of length L, w = max(L − u, 0) is what is left of the piece, and the
    /// next piece starts at u − (L − w).
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one operation, taken apart by its match arm"
    )]
    fn pieces(
        &mut self,
        v: ValueId,
        root: ValueId,
        x: TensorId,
        (lo, hi): (i64, i64),
        scale: i32,
        frac: i32,
        tolerance: f64,
    ) -> Outcome<Acc> {
        let tolerance = tolerance * exp2(PIECE_BITS);
        let clusters = &self.clusters;
        let limits = self.limits;
        let at = |p: i64| {
            clusters.sample(root, v, &[p as f64 * exp2(-scale)]).first().copied().unwrap_or(f64::NAN)
        };
        let piece = |from: i64, to: i64, base: f64| -> Option<Table> {
            let g = |w: &[f64]| -> Vec<f64> {
                let points: Vec<f64> = w.iter().map(|w| to as f64 * exp2(-scale) - w).collect();
                clusters.sample(root, v, &points).into_iter().map(|y| y - base).collect()
            };
            tables::build(&g, TensorId(0), (0, to - from), scale, frac, tolerance, limits)
        };
        let mut todo = vec![(lo, hi)];
        let mut done: Vec<(i64, i64, Table)> = Vec::new();
        while let Some((from, to)) = todo.pop() {
            let base = if from == lo { 0.0 } else { at(from) };
            let table = piece(from, to, base)
                .ok_or_else(|| "the function is not finite over its range".to_owned())?;
            let full = done.len() + todo.len() + 2 > MAX_PIECES;
            if table.error <= 2.0 * tolerance + 0.7 || full || to - from < 8 {
                done.push((from, to, table));
            } else {
                let middle = from + (to - from) / 2;
                todo.push((middle, to));
                todo.push((from, middle));
            }
        }
        let mut u = self.b.offset(&self.b.acc(x), -(lo as f64) * exp2(-scale), scale)?;
        let shape = u.shape.clone();
        let mut total: Option<Acc> = None;
        let count = done.len();
        for (i, (from, to, mut table)) in done.into_iter().enumerate() {
            let length = (to - from) as f64 * exp2(-scale);
            let left = self.b.offset(&self.b.neg(&u)?, length, scale)?;
            let id = if i + 1 == count && i == 0 {
                self.exact(&left)?
            } else {
                self.piece_rest(&left, to - from)?
            };
            match &mut table.kind {
                OpKind::Lookup { x, .. } | OpKind::Interpolate { x, .. } => *x = id,
                _ => {}
            }
            let part = self.b.op(table.kind, shape.clone(), (table.lo, table.hi), frac)?;
            let part = self.b.acc(part);
            total = Some(match total {
                None => part,
                Some(t) => self.b.add(&t, &part)?,
            });
            let next = self.b.add(&u, &self.b.acc(id))?;
            u = self.b.offset(&next, -length, scale)?;
            // Interval arithmetic forgets that what is left is never negative; a cell of its own does not.
            let (low, high) = self.b.bounds(&u);
            if i + 1 < count && (low < 0 || u.terms.len() > 2) {
                let id = self.b.enforce(&u, (0, high.min(i128::from(hi - to))))?;
                u = self.b.acc(id);
            }
        }
        total.ok_or_else(|| "the function has an empty range".to_owned().into())
    }

    /// max(left, 0), which is at most the length of the piece.
    fn piece_rest(&mut self, left: &Acc, length: i64) -> Outcome<TensorId> {
        let (low, _) = self.b.bounds(left);
        let range = (low as f64 * exp2(-left.scale), length as f64 * exp2(-left.scale));
        let id = self.b.round(left, Rounding { frac: left.scale, relu: low < 0, range: Some(range) })?;
        let t = self.b.program.tensor(id);
        if t.lo == 0 && t.hi == length {
            return Ok(id);
        }
        Ok(self.b.enforce(&self.b.acc(id), (0, length.into()))?)
    }
}
