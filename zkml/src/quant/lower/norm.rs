//! Differences that are never tensors: x − m, where m is constant along the axes that x is reduced or divided over.
//!
//! A normalisation takes the mean away from every element, sums the squares and divides by one number per row. Written out,
//! Σ (x − m)² = Σ x² − 2m·Σ x + n·m² and (x − m)·r = x·r − m·r, exactly: everything besides x has one element per row.

use crate::onnx::{Node, ValueId};
use crate::qir::{TensorId, Term};

use super::super::builder::{Acc, hull};
use super::{Lower, Outcome, Val};

/// Least number of elements: sums of squares are wide, and want limbs that a circuit for few elements is too short for.
const MANY: usize = 1 << 10;

/// `a·x + b·m`, with m of fewer elements.
#[derive(Clone, Copy)]
pub(super) struct Difference {
    x: TensorId,
    a: i64,
    m: TensorId,
    b: i64,
    scale: i32,
}

impl Lower<'_> {
    /// An accumulator as a difference.
    fn as_difference(&self, acc: &Acc) -> Option<Difference> {
        let [Term::Scale { x, coeff: a }, Term::Scale { x: m, coeff: b }] = acc.terms[..] else {
            return None;
        };
        let len = |id: TensorId| self.b.program.tensor(id).len();
        let (x, a, m, b) = if len(x) < len(m) { (m, b, x, a) } else { (x, a, m, b) };
        let rows = self.b.shape(x) == acc.shape && self.b.shape(m).len() == acc.shape.len();
        let worth = len(x) >= MANY && 2 * len(m) <= len(x);
        (acc.constant == 0 && rows && worth).then_some(Difference { x, a, m, b, scale: acc.scale })
    }

    /// The square of a value, where it is a difference that only a sum over the axes of its m reads.
    pub(super) fn squared_difference(&self, out: ValueId, v: ValueId) -> Option<Acc> {
        let Some(Val::Pending(acc)) = &self.vals[v.index()] else { return None };
        let d = self.as_difference(acc)?;
        if self.uses[out.index()] != 1 || self.is_output[out.index()] || self.is_output[v.index()] {
            return None;
        }
        let reader = self.model.nodes.iter().find(|n| n.inputs.contains(&Some(out)))?;
        let summed = self.summed(reader)?;
        let shapes = self.b.shape(d.x).iter().zip(self.b.shape(d.m)).enumerate();
        let along = shapes.into_iter().all(|(i, (&x, &m))| if summed.contains(&i) { m == 1 } else { m == x });
        let square = |c: i64, d: i64| c.checked_mul(d);
        let terms = vec![
            Term::Product { a: d.x, b: d.x, coeff: square(d.a, d.a)? },
            Term::Product { a: d.x, b: d.m, coeff: square(d.a, d.b)?.checked_mul(2)? },
            Term::Product { a: d.m, b: d.m, coeff: square(d.b, d.b)? },
        ];
        along.then(|| Acc { shape: acc.shape.clone(), terms, constant: 0, scale: 2 * d.scale })
    }

    /// The axes that a node sums over.
    fn summed(&self, n: &Node) -> Option<Vec<usize>> {
        let v = n.input(0)?;
        matches!(n.op.as_str(), "ReduceMean" | "ReduceSum").then(|| self.axes(n, self.shape(v).len()).ok())?
    }

    /// Σ over axes of what [`Lower::squared_difference`] made.
    pub(super) fn sum_of_squares(
        &mut self,
        pending: &Acc,
        axes: &[usize],
        shape: &[usize],
        squares: impl Fn(&mut Self, TensorId, i64) -> Outcome<Acc>,
    ) -> Outcome<Option<Acc>> {
        let [
            Term::Product { a: x, b: x2, coeff: first },
            Term::Product { a: x3, b: m, coeff: second },
            Term::Product { a: m2, b: m3, coeff: third },
        ] = pending.terms[..]
        else {
            return Ok(None);
        };
        if x != x2 || x != x3 || m != m2 || m != m3 || pending.constant != 0 {
            return Ok(None);
        }
        let count: usize = axes.iter().map(|&a| self.b.shape(x)[a]).product();
        let scale = self.b.scale(x);
        let sum = Acc {
            shape: shape.to_vec(),
            terms: vec![Term::Sum { x, axes: axes.to_vec(), coeff: 1 }],
            constant: 0,
            scale,
        };
        let sum = self.exact(&sum)?;
        let m = self.b.reshape(m, shape.to_vec())?;
        let mut total = squares(self, x, first)?;
        let (_, most) = self.b.bounds(&total);
        let labels: Vec<u8> = (0..shape.len() as u8).collect();
        let third = third.checked_mul(count as i64).ok_or_else(|| "a factor is too large".to_owned())?;
        for (a, b, coeff) in [(m, sum, second), (m, m, third)] {
            total.terms.push(Term::Einsum {
                a,
                b,
                a_axes: labels.clone(),
                b_axes: labels.clone(),
                out_axes: labels.clone(),
                coeff,
            });
        }
        total.scale = pending.scale;
        // A sum of squares is not negative, which interval arithmetic cannot see; the range check says so.
        let (_, top) = hull(0, most.saturating_mul(2));
        let id = self.b.enforce(&total, (0, top))?;
        Ok(Some(self.b.acc(id)))
    }

    /// A difference times a tensor with one element per row.
    pub(super) fn scaled_difference(&mut self, acc: &Acc, factor: TensorId) -> Outcome<Option<Acc>> {
        let Some(d) = self.as_difference(acc) else { return Ok(None) };
        let same = self.b.shape(d.m) == self.b.shape(factor);
        if !same {
            return Ok(None);
        }
        let scale = d.scale + self.b.scale(factor);
        let shape = self.b.shape(d.m).to_vec();
        let moved =
            Acc { shape, terms: vec![Term::Product { a: d.m, b: factor, coeff: d.b }], constant: 0, scale };
        let moved = self.exact(&moved)?;
        let terms = vec![Term::Product { a: d.x, b: factor, coeff: d.a }, Term::Scale { x: moved, coeff: 1 }];
        Ok(Some(Acc { shape: acc.shape.clone(), terms, constant: 0, scale }))
    }
}
