//! Softmax: e = exp(x − max) by a table that ends where e rounds to zero, and e / Σ e.
//!
//! What a mask sends to −∞ has no part in a row. Elements that are one constant, as a mask with a finite filler leaves them, have one
//! exponential and one probability per row for all of them.

use std::collections::BTreeMap;

use crate::float;
use crate::onnx::Node;
use crate::qir::{OpKind, Pick, Role, TensorId, Term};

use super::super::builder::{Acc, exp2};
use super::super::tables::{self, TableLimits, Tolerance};
use super::{Lower, Outcome};

/// Sides of the squares that share constants as a whole or not at all: sweeps along rows and columns then begin and end at multiples of
/// it, whatever the shape of the mask.
const TILE: usize = 8;

/// How many maxima of different lengths rows are sorted into before lengths are rounded up.
const LENGTHS: usize = 8;

/// Which exponentials there are, and which of them every element of the rows has.
struct Elements {
    /// Flat index of an element of the rows for each exponential; those that stand for several come last.
    of: Vec<usize>,
    /// How many of them stand for themselves alone.
    own: usize,
    /// Exponential of each element of the rows; none where it is zero.
    at: Vec<Option<usize>>,
}

impl Elements {
    fn new(constants: &[Option<i64>], limit: i64, rows: usize, width: usize) -> Self {
        let masked = |i: usize| constants[i].is_some_and(|c| c <= limit);
        let shared = shared(constants, limit, rows, width);
        let mut of: Vec<usize> = (0..rows * width).filter(|&i| !masked(i) && !shared[i]).collect();
        let own = of.len();
        let mut at = vec![None; rows * width];
        of.iter().enumerate().for_each(|(k, &i)| at[i] = Some(k));
        for r in 0..rows {
            let mut known: BTreeMap<Option<i64>, usize> = BTreeMap::new();
            for i in (r * width..(r + 1) * width).filter(|&i| shared[i]) {
                let k = *known.entry(constants[i]).or_insert_with(|| {
                    of.push(i);
                    of.len() - 1
                });
                at[i] = Some(k);
            }
        }
        Elements { of, own, at }
    }
}

/// The elements of squares in which every element is a constant that is not masked, and there are several of it in its row.
fn shared(constants: &[Option<i64>], limit: i64, rows: usize, width: usize) -> Vec<bool> {
    let mut out = vec![false; constants.len()];
    for top in (0..rows).step_by(TILE) {
        let bottom = (top + TILE).min(rows);
        for left in (0..width).step_by(TILE) {
            let right = (left + TILE).min(width);
            let tile = || (top..bottom).flat_map(|r| (left..right).map(move |j| r * width + j));
            // A row of one element has nobody to share with.
            if right - left > 1 && tile().all(|i| constants[i].is_some_and(|c| c > limit)) {
                tile().for_each(|i| out[i] = true);
            }
        }
    }
    out
}

impl Lower<'_> {
    /// Softmax over an axis; before version 13, over everything from the axis on.
    pub(super) fn softmax(&mut self, n: &Node) -> Outcome<()> {
        let (out, v) = (self.out(n)?, self.need(n, 0)?);
        let full = self.shape(v).to_vec();
        let rank = full.len();
        let old = n.version < 13;
        let axis = float::normal_axis(n.attrs.int_or("axis", if old { 1 } else { -1 })?, rank)?;
        let x = self.tensor(v)?;
        // Before version 13 everything from the axis on is one row.
        let perm: Vec<usize> =
            if old { (0..rank).collect() } else { (0..rank).filter(|&d| d != axis).chain([axis]).collect() };
        let mut back = vec![0; rank];
        perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
        let x = self.permute(x, &perm)?;
        let moved = self.b.shape(x).to_vec();
        let width: usize = if old { full[axis..].iter().product() } else { full[axis] };
        let rows = full.iter().product::<usize>() / width.max(1);
        let x = self.b.reshape(x, vec![rows, width])?;
        let frac = self.frac(out).min(self.bits(out).max(self.act) + 1);
        let p = self.softmax_rows(x, rows, width, frac)?;
        let p = self.b.reshape(p, moved)?;
        let p = self.permute(p, &back)?;
        self.set_tensor(out, p)
    }

    fn softmax_rows(&mut self, x: TensorId, rows: usize, width: usize, frac: i32) -> Outcome<TensorId> {
        let scale = self.b.scale(x);
        let limit = (-self.ranges.masks().fill() * exp2(scale)) as i64;
        let elements = Elements::new(&self.constants(x), limit, rows, width);
        let n = elements.of.len();
        let m = self.row_maxima(x, &elements, rows, width)?;
        // Flat lists of the elements, and of the row that each is in.
        let pick = |i: usize| Pick::Of { source: 0, index: i as u32 };
        let of_rows = || elements.of.iter().map(|&i| pick(i / width)).collect();
        let xs = self.b.view(vec![x], elements.of.iter().map(|&i| pick(i)).collect(), vec![n], scale)?;
        let ms = self.b.view(vec![m], of_rows(), vec![n], scale)?;
        let e_frac = self.act + 1;
        let difference = self.b.add(&self.b.acc(xs), &self.b.neg(&self.b.acc(ms))?)?;
        let e = self.exponential(&difference, n, e_frac)?;
        // Every row's exponentials, each as often as it stands for an element.
        let picks = elements.at.iter().map(|k| match *k {
            Some(k) if k < elements.own => pick(k),
            _ => Pick::Const(0),
        });
        let e_rows = self.b.view(vec![e], picks.collect(), vec![rows, width], e_frac)?;
        let mut sum = Acc {
            shape: vec![rows],
            terms: vec![Term::Sum { x: e_rows, axes: vec![1], coeff: 1 }],
            constant: 0,
            scale: e_frac,
        };
        for part in self.repeated(e, &elements, rows, width, e_frac)? {
            sum = self.b.add(&sum, &self.b.acc(part))?;
        }
        // The greatest element alone contributes about one.
        let (_, top) = self.b.bounds(&sum);
        let least = (exp2(e_frac) * 0.75) as i128;
        let total = self.b.enforce(&sum, (least, top))?;
        let inverse = self.reciprocal(total, frac + 5)?;
        let inverses = self.b.view(vec![inverse], of_rows(), vec![n], frac + 5)?;
        // A probability is at most one, to half a unit of the exponential and of the reciprocal.
        let p = self.product(e, inverses)?;
        let p = self.b.round_within(&p, frac, false, (0, (exp2(frac) * 1.02) as i128))?;
        if n == rows * width && elements.own == n {
            return Ok(self.b.reshape(p, vec![rows, width])?);
        }
        let picks = elements.at.iter().map(|k| k.map_or(Pick::Const(0), pick)).collect();
        Ok(self.b.view(vec![p], picks, vec![rows, width], frac)?)
    }

    /// The greatest element of every row, among those that differ.
    fn row_maxima(
        &mut self,
        x: TensorId,
        elements: &Elements,
        rows: usize,
        width: usize,
    ) -> Outcome<TensorId> {
        let mut lists: Vec<Vec<usize>> = vec![Vec::new(); rows];
        elements.of.iter().for_each(|&i| lists[i / width].push(i));
        if lists.iter().any(Vec::is_empty) {
            return Err("a row is masked entirely".to_owned().into());
        }
        let mut lengths: Vec<usize> = lists.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let step = if lengths.len() > LENGTHS { width.div_ceil(LENGTHS) } else { 1 };
        let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (r, list) in lists.iter().enumerate() {
            classes.entry(list.len().next_multiple_of(step).min(width)).or_default().push(r);
        }
        let scale = self.b.scale(x);
        let mut maxima = Vec::with_capacity(classes.len());
        let mut picks = vec![Pick::Const(0); rows];
        for (length, members) in classes {
            let mut chosen = Vec::with_capacity(members.len() * length);
            for (at, &r) in members.iter().enumerate() {
                // A shorter row repeats an element of its own.
                let list = lists[r].iter().chain(std::iter::repeat(&lists[r][0])).take(length);
                chosen.extend(list.map(|&i| Pick::Of { source: 0, index: i as u32 }));
                picks[r] = Pick::Of { source: maxima.len() as u32, index: at as u32 };
            }
            let these = self.b.view(vec![x], chosen, vec![members.len(), length], scale)?;
            maxima.push(self.maximum(these, vec![members.len()])?);
        }
        match maxima[..] {
            [all] => Ok(all),
            _ => Ok(self.b.view(maxima, picks, vec![rows], scale)?),
        }
    }

    /// exp of differences that are never positive.
    fn exponential(&mut self, difference: &Acc, n: usize, e_frac: i32) -> Outcome<TensorId> {
        // exp(−D) is half a unit.
        let d = (f64::from(e_frac + 1) * std::f64::consts::LN_2).ceil();
        let scale = difference.scale;
        let above = self.b.offset(difference, d, scale)?;
        let (low, high) = self.b.bounds(&above);
        let f = |p: &[f64]| p.iter().map(|w| (w - d).min(0.0).exp()).collect::<Vec<_>>();
        // A table over all that the difference may be, zero far below, has more entries but saves a cell and a lookup of every element.
        if scale <= self.act
            && let (Ok(low), Ok(high)) = (i64::try_from(low), i64::try_from(high))
        {
            let limits = TableLimits { knots: self.limits.knots.max(n as i64 / 2), ..self.limits };
            let table =
                tables::build(&f, TensorId(0), (low, high), scale, e_frac, Tolerance::units(0.5), limits);
            if let Some(table) = table.filter(|t| t.error <= 1.2 && t.rows() <= n / 2) {
                let whole = self.exact(&above)?;
                let bounds = (table.lo, table.hi);
                return Ok(self.b.op(table.of(whole), vec![n], bounds, e_frac)?);
            }
        }
        // x − max is never positive, which interval arithmetic cannot see; the range check says so.
        let w_frac = self.act.min(scale);
        let top = (d * exp2(w_frac)) as i128;
        let w = self.b.round_within(&above, w_frac, true, (low >> (scale - w_frac), top))?;
        let t = self.b.program.tensor(w);
        let limits = TableLimits { knots: self.limits.knots.max(1 << 10), ..self.limits };
        let table = tables::build(&f, w, (t.lo, t.hi), t.scale, e_frac, Tolerance::units(0.5), limits)
            .ok_or_else(|| "the exponential is not finite".to_owned())?;
        Ok(self.b.op(table.kind, vec![n], (table.lo, table.hi), e_frac)?)
    }

    /// What the exponentials that stand for several elements add to the sums of the rows.
    fn repeated(
        &mut self,
        e: TensorId,
        elements: &Elements,
        rows: usize,
        width: usize,
        scale: i32,
    ) -> Outcome<Vec<TensorId>> {
        let mut counts = vec![0i64; elements.of.len()];
        elements.at.iter().flatten().for_each(|&k| counts[k] += 1);
        let mut of_row: Vec<Vec<usize>> = vec![Vec::new(); rows];
        (elements.own..elements.of.len()).for_each(|k| of_row[elements.of[k] / width].push(k));
        let most = of_row.iter().map(Vec::len).max().unwrap_or(0);
        let mut parts = Vec::with_capacity(most);
        for rank in 0..most {
            let chosen = || of_row.iter().map(|list| list.get(rank));
            let pick =
                |k: Option<&usize>| k.map_or(Pick::Const(0), |&k| Pick::Of { source: 0, index: k as u32 });
            let picked = self.b.view(vec![e], chosen().map(pick).collect(), vec![rows], scale)?;
            let times = chosen().map(|k| k.map_or(0, |&k| counts[k])).collect();
            let times = self.b.data(vec![rows], times, 0, Role::Constant)?;
            let product = self.product(picked, times)?;
            parts.push(self.exact(&product)?);
        }
        Ok(parts)
    }

    /// The value of every element that is a constant of the structure.
    fn constants(&self, x: TensorId) -> Vec<Option<i64>> {
        let t = self.b.program.tensor(x);
        let mut out = vec![None; t.len()];
        let producer = self.b.program.ops.iter().rev().find(|o| o.outputs.contains(&x));
        if let Some(OpKind::View { sources, picks }) = producer.map(|o| &o.kind) {
            let inner: Vec<Vec<Option<i64>>> = sources.iter().map(|&s| self.constants(s)).collect();
            for (o, p) in out.iter_mut().zip(picks.iter()) {
                *o = match *p {
                    Pick::Const(c) => Some(c),
                    Pick::Of { source, index } => inner[source as usize][index as usize],
                };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A causal mask of 16 rows with this filler.
    fn causal(filler: i64) -> Vec<Option<i64>> {
        (0..256).map(|i| (i % 16 > i / 16).then_some(filler)).collect()
    }

    #[test]
    fn a_finite_filler_has_one_exponential_per_row() {
        let e = Elements::new(&causal(-10), -1000, 16, 16);
        // Rows 0 … 7 share their last eight columns.
        assert_eq!((e.own, e.of.len()), (256 - 64, 256 - 64 + 8));
        for r in 0..8 {
            assert!((8..16).all(|j| e.at[r * 16 + j] == Some(e.own + r)));
        }
        assert!(
            (0..256).filter(|i| i % 16 < 8 || i / 16 >= 8).all(|i| e.at[i].is_some_and(|k| e.of[k] == i))
        );
    }

    #[test]
    fn infinity_has_none() {
        let e = Elements::new(&causal(-1000), -1000, 16, 16);
        assert_eq!((e.own, e.of.len()), (136, 136));
        assert!((0..256).all(|i| e.at[i].is_none() == (i % 16 > i / 16)));
    }
}
