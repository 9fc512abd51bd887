//! Fraction bits and ranges of values.
//!
//! Within a window of magnitudes every tensor has the same fraction bits. Below it numbers keep their significant bits by more fraction bits, and a range
//! that is smaller by as much; above it by fewer, down to negative ones.

use crate::onnx::{Model, TensorF, ValueId};

use super::range::Ranges;
use super::{QuantOptions, builder::exp2, demand};

/// log₂ of the magnitudes between which fraction bits stay the same.
const SMALL: i32 = -5;
const LARGE: i32 = 11;
/// log₂ of the magnitude that numbers below the window are brought to.
const BROUGHT: i32 = -3;
/// The same for values of which only the order counts: a softmax reads their differences, however large they are.
const LARGE_ORDER: i32 = 24;
/// Fraction bits that a demand has to add to be worth a scale of its own.
const WORTH: i32 = 2;

/// log₂ of a magnitude, up to the next whole number.
pub(super) fn exponent(m: f64) -> i32 {
    if m > 0.0 && m.is_finite() { (m.log2().ceil() as i32).clamp(-160, 256) } else { 0 }
}

/// Fraction bits for numbers of a magnitude, where those of ordinary magnitude have `bits`.
pub(super) fn fitting(m: f64, bits: i32) -> i32 {
    let e = exponent(m);
    if m <= 0.0 { bits } else { bits + raised(e) - (e - LARGE).max(0) }
}

/// Fraction bits that numbers of an exponent have more than those within the window: an even number, so that layers share shifts.
fn raised(e: i32) -> i32 {
    if e < SMALL { (BROUGHT - e) & !1 } else { 0 }
}

/// Scales and ranges of a model's values.
pub(super) struct Scales<'m> {
    model: &'m Model,
    ranges: &'m Ranges,
    options: &'m QuantOptions,
    demands: Vec<Option<i32>>,
    /// Magnitude up to which the argument of a function that levels off is allowed for.
    level: Vec<f64>,
}

impl<'m> Scales<'m> {
    pub(super) fn new(model: &'m Model, ranges: &'m Ranges, options: &'m QuantOptions) -> Self {
        Scales { model, ranges, options, demands: demand::find(model, ranges), level: level(model) }
    }

    /// Greatest magnitude that calibration saw; nothing where a value was never anything but zero.
    pub(super) fn magnitude(&self, v: ValueId) -> Option<f64> {
        self.ranges.magnitude(v)
    }

    /// Fraction bits of a value, where values of ordinary magnitude have `bits`.
    pub(super) fn bits(&self, v: ValueId, bits: i32) -> i32 {
        if let Some(&own) = self.options.scales.get(&self.model.value(v).name) {
            return own as i32;
        }
        // Integers are exact, however large.
        let real = self.model.value(v).dtype.is_float();
        let Some(m) = self.magnitude(v).filter(|_| real) else { return bits };
        let e = exponent(m);
        let fits = if self.ranges.masks().masked(v) {
            bits + raised(e) - (e - LARGE_ORDER).max(0)
        } else {
            fitting(m, bits)
        };
        match self.demands[v.index()] {
            Some(asked) if asked >= fits + WORTH => asked,
            _ => fits,
        }
    }

    /// Range that is allowed for a value.
    pub(super) fn range(&self, v: ValueId) -> Option<(f64, f64)> {
        let m = self.magnitude(v);
        // A small range for small numbers: as many bits as others have.
        let small = m.filter(|m| exponent(*m) < SMALL).map(|m| exp2(exponent(m) - BROUGHT));
        let floor = small.unwrap_or(1.0).min(1.0) * self.options.min_range;
        self.ranges.allowed(v, self.options.headroom, floor.max(self.level[v.index()]))
    }
}

/// Arguments of functions from which on their tables are a small part of a circuit.
const MANY: usize = 1 << 9;

/// How far the arguments of functions that level off are allowed for: where they are level to less than a unit, unless tables of that size would
/// be most of the circuit.
fn level(model: &Model) -> Vec<f64> {
    let mut out = vec![0f64; model.values.len()];
    let size = |n: &crate::onnx::Node| n.input(0).map_or(0, |v| model.value(v).shape.iter().product());
    let flat = |n: &&crate::onnx::Node| matches!(n.op.as_str(), "Sigmoid" | "Tanh" | "Erf");
    let many = model.nodes.iter().filter(flat).map(size).sum::<usize>() >= MANY;
    // The next power of two is a unit above.
    let most = if many { 0.999 } else { 0.0 };
    for n in &model.nodes {
        let bound = |i: usize, name: &str| {
            let c = n.input(i).and_then(|v| model.value(v).constant.as_deref()).and_then(TensorF::single);
            c.or(n.attrs.float(name).ok().flatten()).filter(|c| c.abs() <= 64.0)
        };
        let level = match n.op.as_str() {
            "Sigmoid" => 16.0 * most,
            "Tanh" => 8.0 * most,
            "Erf" => 4.0 * most,
            "Clip" => match (bound(1, "min"), bound(2, "max")) {
                (Some(lo), Some(hi)) => lo.abs().max(hi.abs()) * 0.999,
                _ => continue,
            },
            _ => continue,
        };
        // Inputs have ranges of their own, which tables cover.
        if let Some(v) = n.input(0).filter(|v| !model.inputs.contains(v)) {
            out[v.index()] = out[v.index()].max(level);
        }
    }
    out
}

/// Bits that a weight tensor needs beyond the usual ones, for a few of its elements are far greater than the rest.
pub(super) fn spread(values: &[f64]) -> i32 {
    /// log₂ of the greatest element over the median up to which nothing is lost.
    const USUAL: f64 = 6.0;
    const MOST: i32 = 12;
    let mut sizes: Vec<f64> = values.iter().map(|v| v.abs()).filter(|v| *v > 0.0).collect();
    let Some(max) = sizes.iter().copied().reduce(f64::max).filter(|_| sizes.len() >= 8) else { return 0 };
    let middle = sizes.len() / 2;
    let (_, median, _) = sizes.select_nth_unstable_by(middle, f64::total_cmp);
    if !max.is_finite() {
        return 0;
    }
    let excess = (max / *median).log2() - USUAL;
    if excess <= 0.0 { 0 } else { (excess.ceil() as i32).clamp(0, MOST) }
}
