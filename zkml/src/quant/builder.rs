//! Programs under construction: tensors, views, accumulators.
//!
//! An [`Acc`] is a linear operation that is not rounded yet. Sums, scalings and contractions pile up in one accumulator for as long as a
//! single consumer wants them, so that bias, residual and scale cost no cells and one rounding serves them all.

use std::sync::Arc;

use crate::exec::{accumulator_bounds, reachable_bounds};
use crate::onnx::{broadcast, broadcast_map};
use crate::qir::{Activation, Op, OpKind, Pick, Program, Role, Tensor, TensorId, Term};

use super::error::QuantError;

/// Elements of a layer over inputs whose range check admits more than calibration saw.
const FEW: usize = 256;

/// Greatest magnitude that a tensor's bounds may have here; the executor's limit is 2^62.
const MAX_BOUND: i128 = (1 << 61) - 1;

/// A sum that is not rounded yet: `(constant + Σ terms) / 2^scale`.
#[derive(Clone, Debug)]
pub(super) struct Acc {
    pub shape: Vec<usize>,
    pub terms: Vec<Term>,
    pub constant: i64,
    pub scale: i32,
}

impl Acc {
    /// Whether a term is a product of two tensors, element by element.
    pub(super) fn has_product(&self) -> bool {
        self.terms.iter().any(|t| matches!(t, Term::Product { .. }))
    }

    /// Whether a term is a contraction, whose shape is fixed.
    pub(super) fn has_contraction(&self) -> bool {
        self.terms.iter().any(|t| !matches!(t, Term::Product { .. } | Term::Scale { .. }))
    }

    /// The tensor that the accumulator is, when it is just that.
    pub(super) fn as_tensor(&self) -> Option<TensorId> {
        match (self.terms.as_slice(), self.constant) {
            ([Term::Scale { x, coeff: 1 }], 0) => Some(*x),
            _ => None,
        }
    }

    fn factor(&self, c: i64) -> Option<Acc> {
        let mut out = self.clone();
        out.constant = out.constant.checked_mul(c)?;
        for t in &mut out.terms {
            let (Term::Einsum { coeff, .. }
            | Term::Conv { coeff, .. }
            | Term::SumPool { coeff, .. }
            | Term::Sum { coeff, .. }
            | Term::Scale { coeff, .. }
            | Term::Product { coeff, .. }) = t;
            *coeff = coeff.checked_mul(c)?;
        }
        Some(out)
    }
}

/// How an accumulator becomes a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounding {
    /// Fraction bits to keep at most.
    pub frac: i32,
    /// Whether negative values become zero.
    pub relu: bool,
    /// Bounds on the real value before the activation, as calibrated with headroom: enforced where arithmetic does not imply them.
    pub range: Option<(f64, f64)>,
}

pub(super) struct Builder {
    pub program: Program,
    /// Name that new operations and tensors get.
    pub layer: String,
    /// Whether range checks admit everything that inputs within their bounds can lead to, instead of what calibration saw.
    pub cover: bool,
    /// Layers that inputs within their bounds can drive out of range.
    pub restricted: std::collections::BTreeSet<String>,
    used: std::collections::HashMap<String, usize>,
    /// Inputs, and rearrangements of them.
    given: std::collections::HashSet<TensorId>,
}

/// 2^n as a number.
pub(super) fn exp2(n: i32) -> f64 {
    f64::from(n).exp2()
}

/// Least power-of-two hull `[−2^b, 2^b − 1]` (or `[0, 2^b − 1]` where nothing is negative) that contains an interval.
pub(super) fn hull(lo: i128, hi: i128) -> (i128, i128) {
    let mut top = 1i128;
    while top - 1 < hi || (lo < 0 && -top > lo) {
        top <<= 1;
    }
    (if lo < 0 { -top } else { 0 }, top - 1)
}

impl Builder {
    pub(super) fn new(cover: bool) -> Self {
        Builder {
            program: Program::default(),
            layer: String::new(),
            cover,
            restricted: Default::default(),
            used: Default::default(),
            given: Default::default(),
        }
    }

    pub(super) fn fail(&self, reason: impl Into<String>) -> QuantError {
        QuantError::Layer { layer: self.layer.clone(), reason: reason.into() }
    }

    pub(super) fn shape(&self, id: TensorId) -> &[usize] {
        &self.program.tensor(id).shape
    }

    pub(super) fn scale(&self, id: TensorId) -> i32 {
        self.program.tensor(id).scale
    }

    fn unique(&mut self) -> String {
        let n = self.used.entry(self.layer.clone()).or_insert(0);
        *n += 1;
        if *n == 1 { self.layer.clone() } else { format!("{}#{n}", self.layer) }
    }

    fn push(
        &mut self,
        shape: Vec<usize>,
        (lo, hi): (i128, i128),
        scale: i32,
        role: Role,
        data: Option<Arc<[i64]>>,
    ) -> Result<TensorId, QuantError> {
        if lo < -MAX_BOUND || hi > MAX_BOUND {
            return Err(
                self.fail(format!("values may reach [{lo}, {hi}] at {scale} fraction bits: too wide"))
            );
        }
        let name = self.unique();
        let id = TensorId(self.program.tensors.len() as u32);
        self.program.tensors.push(Tensor { name, shape, lo: lo as i64, hi: hi as i64, scale, role, data });
        Ok(id)
    }

    pub(super) fn input(
        &mut self,
        name: &str,
        shape: &[usize],
        bounds: (i128, i128),
        scale: i32,
    ) -> Result<TensorId, QuantError> {
        self.layer = name.to_owned();
        let id = self.push(shape.to_vec(), bounds, scale, Role::Input, None)?;
        self.program.inputs.push(id);
        self.given.insert(id);
        Ok(id)
    }

    /// Data that is a weight or part of the structure.
    pub(super) fn data(
        &mut self,
        shape: Vec<usize>,
        values: Vec<i64>,
        scale: i32,
        role: Role,
    ) -> Result<TensorId, QuantError> {
        let lo = i128::from(values.iter().copied().min().unwrap_or(0));
        let hi = i128::from(values.iter().copied().max().unwrap_or(0));
        // The exact range of private weights is nobody's business.
        let bounds = if role == Role::Param { hull(lo.min(-1), hi) } else { (lo, hi) };
        self.push(shape, bounds, scale, role, Some(values.into()))
    }

    pub(super) fn op(
        &mut self,
        kind: OpKind,
        shape: Vec<usize>,
        bounds: (i128, i128),
        scale: i32,
    ) -> Result<TensorId, QuantError> {
        if shape.contains(&0) {
            // There is nothing to compute.
            return self.push(shape, (0, 0), scale, Role::Constant, Some(Arc::from([])));
        }
        let id = self.push(shape, bounds, scale, Role::Node, None)?;
        if let OpKind::View { sources, .. } = &kind
            && sources.iter().all(|s| self.given.contains(s))
        {
            self.given.insert(id);
        }
        let name = self.program.tensor(id).name.clone();
        self.program.ops.push(Op { name, kind, outputs: vec![id] });
        Ok(id)
    }

    /// A sort: values and indices.
    pub(super) fn sort(&mut self, x: TensorId, descending: bool) -> Result<(TensorId, TensorId), QuantError> {
        let t = self.program.tensor(x).clone();
        let last = t.shape.last().copied().unwrap_or(1) as i128;
        let bounds = (t.lo.into(), t.hi.into());
        let values = self.push(t.shape.clone(), bounds, t.scale, Role::Node, None)?;
        let indices = self.push(t.shape, (0, (last - 1).max(0)), 0, Role::Node, None)?;
        let name = self.program.tensor(values).name.clone();
        self.program.ops.push(Op {
            name,
            kind: OpKind::Sort { x, descending },
            outputs: vec![values, indices],
        });
        Ok((values, indices))
    }

    /// A view; all sources must have the scale that is given.
    pub(super) fn view(
        &mut self,
        sources: Vec<TensorId>,
        picks: Vec<Pick>,
        shape: Vec<usize>,
        scale: i32,
    ) -> Result<TensorId, QuantError> {
        let mut bounds: Option<(i128, i128)> = None;
        for p in &picks {
            let (lo, hi) = match *p {
                Pick::Const(c) => (c, c),
                Pick::Of { source, .. } => {
                    let t = self.program.tensor(sources[source as usize]);
                    (t.lo, t.hi)
                }
            };
            let (lo, hi) = (i128::from(lo), i128::from(hi));
            bounds = Some(bounds.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
        }
        let (sources, picks) = self.without_empty(sources, picks);
        self.op(OpKind::View { sources, picks: picks.into() }, shape, bounds.unwrap_or((0, 0)), scale)
    }

    /// The sources of a view that have elements, and the picks from them.
    fn without_empty(&self, sources: Vec<TensorId>, mut picks: Vec<Pick>) -> (Vec<TensorId>, Vec<Pick>) {
        let full = |id: &TensorId| !self.program.tensor(*id).is_empty();
        if sources.iter().all(full) {
            return (sources, picks);
        }
        let at: Vec<u32> = sources.iter().map(|id| u32::from(full(id))).collect();
        let before = |source: u32| at.iter().take(source as usize).sum();
        for pick in &mut picks {
            if let Pick::Of { source, .. } = pick {
                *source = before(*source);
            }
        }
        (sources.into_iter().filter(full).collect(), picks)
    }

    /// The same elements in another shape of the same length.
    pub(super) fn reshape(&mut self, x: TensorId, shape: Vec<usize>) -> Result<TensorId, QuantError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let scale = self.scale(x);
        let picks =
            (0..self.program.tensor(x).len()).map(|i| Pick::Of { source: 0, index: i as u32 }).collect();
        self.view(vec![x], picks, shape, scale)
    }

    /// A tensor broadcast to a shape.
    pub(super) fn expand(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId, QuantError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        match broadcast_map(self.shape(x), shape) {
            None => self.reshape(x, shape.to_vec()),
            Some(map) => {
                let scale = self.scale(x);
                let picks = map.into_iter().map(|i| Pick::Of { source: 0, index: i as u32 }).collect();
                self.view(vec![x], picks, shape.to_vec(), scale)
            }
        }
    }

    pub(super) fn acc(&self, x: TensorId) -> Acc {
        let t = self.program.tensor(x);
        Acc { shape: t.shape.clone(), terms: vec![Term::Scale { x, coeff: 1 }], constant: 0, scale: t.scale }
    }

    /// Least and greatest accumulator.
    pub(super) fn bounds(&self, a: &Acc) -> (i128, i128) {
        accumulator_bounds(&self.program, &a.terms, a.constant)
    }

    /// The accumulator at a scale that is no lower than its own.
    pub(super) fn rescale(&self, a: &Acc, scale: i32) -> Result<Acc, QuantError> {
        let by = scale - a.scale;
        if a.terms.is_empty() && a.constant == 0 {
            return Ok(Acc { scale, ..a.clone() });
        }
        let factor = if (0..62).contains(&by) { a.factor(1 << by) } else { None };
        let mut out =
            factor.ok_or_else(|| self.fail(format!("scale 2^{} does not reach 2^{scale}", a.scale)))?;
        out.scale = scale;
        Ok(out)
    }

    /// `a + b`, broadcast. The caller has made sure that the terms may stand in one operation.
    pub(super) fn add(&self, a: &Acc, b: &Acc) -> Result<Acc, QuantError> {
        let scale = a.scale.max(b.scale);
        let (mut a, b) = (self.rescale(a, scale)?, self.rescale(b, scale)?);
        a.shape = broadcast(&a.shape, &b.shape).map_err(|e| self.fail(e.to_string()))?;
        a.constant =
            a.constant.checked_add(b.constant).ok_or_else(|| self.fail("a constant is too large"))?;
        for t in b.terms {
            // Equal tensors share a term: x − x + … stays narrow.
            let merged = a.terms.iter_mut().any(|s| match (s, &t) {
                (Term::Scale { x, coeff }, Term::Scale { x: y, coeff: d }) if x == y => {
                    coeff.checked_add(*d).map(|sum| *coeff = sum).is_some()
                }
                _ => false,
            });
            if !merged {
                a.terms.push(t);
            }
        }
        a.terms.retain(|t| !matches!(t, Term::Scale { coeff: 0, .. }));
        Ok(a)
    }

    pub(super) fn neg(&self, a: &Acc) -> Result<Acc, QuantError> {
        a.factor(-1).ok_or_else(|| self.fail("a factor is too large"))
    }

    /// `a` times an integer.
    pub(super) fn times(&self, a: &Acc, c: i64) -> Result<Acc, QuantError> {
        a.factor(c).ok_or_else(|| self.fail("a factor is too large"))
    }

    /// A real number as `q / 2^frac` to `bits` significant bits, with q odd; nothing for zero and what is not finite.
    pub(super) fn factor(c: f64, bits: i32) -> Option<(i64, i32)> {
        if !c.is_finite() || c == 0.0 {
            return None;
        }
        let mut frac = bits - 1 - c.abs().log2().floor() as i32;
        let mut q = (c * exp2(frac)).round();
        while q % 2.0 == 0.0 && q != 0.0 {
            q /= 2.0;
            frac -= 1;
        }
        Some((q as i64, frac))
    }

    /// `a` times a real number, to `bits` significant bits; powers of two are exact and only move the scale.
    pub(super) fn multiply(&self, a: &Acc, c: f64, bits: i32) -> Result<Acc, QuantError> {
        if !c.is_finite() {
            return Err(self.fail(format!("the factor {c} is not finite")));
        }
        let Some((q, frac)) = Self::factor(c, bits) else {
            return Ok(Acc { terms: vec![], constant: 0, scale: 0, shape: a.shape.clone() });
        };
        let mut out = self.times(a, q)?;
        out.scale += frac;
        Ok(out)
    }

    /// Bits of the greatest factor of an accumulator, and of its constant.
    pub(super) fn factors(a: &Acc) -> i32 {
        let coefficients = a.terms.iter().map(|t| match t {
            Term::Einsum { coeff, .. }
            | Term::Conv { coeff, .. }
            | Term::SumPool { coeff, .. }
            | Term::Sum { coeff, .. }
            | Term::Scale { coeff, .. }
            | Term::Product { coeff, .. } => *coeff,
        });
        let most = coefficients.chain([a.constant]).map(i64::unsigned_abs).max().unwrap_or(0);
        64 - most.leading_zeros() as i32
    }

    /// Bits of the greatest magnitude that an accumulator may reach.
    pub(super) fn width(&self, a: &Acc) -> i32 {
        let (lo, hi) = self.bounds(a);
        128 - lo.unsigned_abs().max(hi.unsigned_abs()).leading_zeros() as i32
    }

    /// `a` plus a real number, exact to half a unit of the scale, which is raised to `frac` for numbers that need it.
    pub(super) fn offset(&self, a: &Acc, c: f64, frac: i32) -> Result<Acc, QuantError> {
        let exact = |s: i32| (c * exp2(s)).fract() == 0.0;
        let out = if a.scale >= frac || exact(a.scale) { a.clone() } else { self.rescale(a, frac)? };
        let q = (c * exp2(out.scale)).round();
        if q.abs() >= exp2(61) || !q.is_finite() {
            return Err(self.fail(format!("the constant {c} is too large")));
        }
        let constant =
            out.constant.checked_add(q as i64).ok_or_else(|| self.fail("a constant is too large"))?;
        Ok(Acc { constant, ..out })
    }

    /// Rounds an accumulator to a tensor.
    pub(super) fn round(&mut self, a: &Acc, r: Rounding) -> Result<TensorId, QuantError> {
        if let (Some(x), false) = (a.as_tensor(), r.relu)
            && self.shape(x) == a.shape
            && a.scale == self.scale(x)
        {
            return Ok(x);
        }
        let shift = (a.scale - r.frac).clamp(0, 60);
        let scale = a.scale - shift;
        let (lo, hi) = self.bounds(a);
        let half = if shift == 0 { 0 } else { 1i128 << (shift - 1) };
        // Bounds saturate.
        let rounded = |x: i128| x.saturating_add(half) >> shift;
        let implied = (rounded(lo), rounded(hi));
        let (low, high) = reachable_bounds(&self.program, &a.terms, a.constant);
        let reachable = (rounded(low), rounded(high));
        let (a_terms, few) = (&a.terms, a.shape.iter().product::<usize>() <= FEW);
        let wanted = match r.range {
            Some(_) if self.cover => Some(hull(reachable.0, reachable.1)),
            range => range.map(|(a, b)| self.covered(a_terms, few, real_hull(a, b, scale), reachable)),
        };
        let free = shift == 0 && !r.relu;
        if free {
            let wide = implied.0 < -MAX_BOUND || implied.1 > MAX_BOUND;
            return match wanted {
                Some(w) if wide => {
                    self.restrict(reachable, w);
                    self.enforce(a, w)
                }
                _ => self.linear(a, 0, implied, Activation::None),
            };
        }
        let pre = match wanted {
            // Intersect, but keep the hull's shape: few distinct ranges share tables.
            Some(w) => {
                let i = hull(implied.0, implied.1);
                (w.0.max(i.0), w.1.min(i.1))
            }
            None => hull(implied.0, implied.1),
        };
        if pre.0 > pre.1 {
            return Err(self.fail("the calibrated range contradicts the bounds of the operands"));
        }
        self.restrict(reachable, pre);
        self.linear(a, shift as u32, pre, if r.relu { Activation::Relu } else { Activation::None })
    }

    /// A calibrated range, with all that the inputs within theirs can lead to where a layer reads nothing else and that is not much more.
    fn covered(
        &self,
        terms: &[Term],
        few: bool,
        wanted: (i128, i128),
        reachable: (i128, i128),
    ) -> (i128, i128) {
        /// Bits that the range check of such a layer may have more.
        const MORE: i32 = 1;
        let known = |id: &TensorId| self.given.contains(id) || self.program.tensor(*id).data.is_some();
        let over_inputs = terms.iter().all(|t| match t {
            Term::Einsum { a, b, .. } | Term::Product { a, b, .. } => known(a) && known(b),
            Term::Conv { x, w, .. } => known(x) && known(w),
            Term::SumPool { x, .. } | Term::Sum { x, .. } | Term::Scale { x, .. } => known(x),
        });
        let (lo, hi) = hull(reachable.0.min(wanted.0), reachable.1.max(wanted.1));
        if over_inputs && few && lo >= wanted.0 << MORE && hi < (wanted.1 + 1) << MORE {
            (lo, hi)
        } else {
            wanted
        }
    }

    /// An accumulator, or a tensor, with at most so many fraction bits, over all that it may be.
    pub(super) fn coarsen(&mut self, a: &Acc, frac: i32) -> Result<TensorId, QuantError> {
        let shift = a.scale - frac;
        if shift <= 0 {
            return self.round(a, Rounding { frac, relu: false, range: None });
        }
        let (lo, hi) = self.bounds(a);
        let shift = shift.min(60);
        let rounded = |x: i128| x.saturating_add(1 << (shift - 1)) >> shift;
        self.linear(a, shift as u32, hull(rounded(lo), rounded(hi)), Activation::None)
    }

    /// Notes that the current layer admits less than it may be given.
    pub(super) fn restrict(&mut self, reachable: (i128, i128), admitted: (i128, i128)) {
        if reachable.0 < admitted.0 || reachable.1 > admitted.1 {
            self.restricted.insert(self.layer.clone());
        }
    }

    /// [`Builder::enforce`] of a range that inputs within their bounds may leave: not a fact, but a condition.
    pub(super) fn demand(&mut self, a: &Acc, bounds: (i128, i128)) -> Result<TensorId, QuantError> {
        let reachable = reachable_bounds(&self.program, &a.terms, a.constant);
        self.restrict(reachable, bounds);
        self.enforce(a, bounds)
    }

    /// The accumulator at its own scale with a range check, whatever its operands imply: doubled and halved, so that the check exists.
    pub(super) fn enforce(&mut self, a: &Acc, bounds: (i128, i128)) -> Result<TensorId, QuantError> {
        let doubled = self.times(a, 2)?;
        let mut out = doubled;
        out.scale += 1;
        self.linear(&out, 1, bounds, Activation::None)
    }

    /// Rounds to `frac` fraction bits with bounds of the caller's, before the activation: for facts that interval arithmetic cannot see.
    pub(super) fn round_within(
        &mut self,
        a: &Acc,
        frac: i32,
        relu: bool,
        bounds: (i128, i128),
    ) -> Result<TensorId, QuantError> {
        let shift = (a.scale - frac).clamp(0, 60);
        if shift == 0 && !relu {
            return self.enforce(a, bounds);
        }
        self.linear(a, shift as u32, bounds, if relu { Activation::Relu } else { Activation::None })
    }

    fn linear(
        &mut self,
        a: &Acc,
        shift: u32,
        pre: (i128, i128),
        activation: Activation,
    ) -> Result<TensorId, QuantError> {
        if pre.0 < -MAX_BOUND || pre.1 > MAX_BOUND {
            return Err(self.fail(format!("values may reach [{}, {}]: too wide", pre.0, pre.1)));
        }
        let bounds = match activation {
            Activation::None => pre,
            Activation::Relu => (pre.0.max(0), pre.1.max(0)),
        };
        let kind = OpKind::Linear {
            terms: a.terms.clone(),
            constant: a.constant,
            shift,
            pre_lo: pre.0 as i64,
            pre_hi: pre.1 as i64,
            activation,
        };
        self.op(kind, a.shape.clone(), bounds, a.scale - shift as i32)
    }

    /// Tightens the bounds of an input that its consumer restricts anyway.
    pub(super) fn tighten_input(&mut self, x: TensorId, lo: i64, hi: i64) -> bool {
        let t = &mut self.program.tensors[x.0 as usize];
        if t.role != Role::Input {
            return false;
        }
        t.lo = t.lo.max(lo);
        t.hi = t.hi.min(hi);
        t.lo <= t.hi
    }
}

/// Power-of-two hull of a real interval at a scale.
pub(super) fn real_hull(lo: f64, hi: f64, scale: i32) -> (i128, i128) {
    let at = |v: f64| (v * exp2(scale)).clamp(-exp2(61), exp2(61)) as i128;
    hull(at(lo.min(0.0)), at(hi.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hulls_are_powers_of_two() {
        assert_eq!(hull(-5, 3), (-8, 7));
        assert_eq!(hull(-8, 7), (-8, 7));
        assert_eq!(hull(0, 8), (0, 15));
        assert_eq!(hull(-1, 0), (-1, 0));
        assert_eq!(real_hull(-1.0, 0.5, 2), (-4, 3));
    }
}
