//! Fraction bits that readers of a value need, beyond those that fit its magnitude.
//!
//! A logarithm, a reciprocal or a root of small numbers is as precise as these are relative to themselves, not to the greatest beside them. From there
//! the demand goes backwards through what keeps errors as they are, through factors, squares and matrix products.

use crate::onnx::{Model, Node, ValueId};

use super::range::Ranges;

/// Significant bits of the least number under a logarithm, a root or a fraction bar.
const SIGNIFICANT: i32 = 9;

/// Most bits of a tensor that a demand may lead to.
const MAX_WIDTH: i32 = 40;

/// Operators whose result is off by no more than their operands are.
const KEEPING: &[&str] = &[
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "LeakyRelu",
    "Max",
    "MaxPool",
    "Min",
    "Neg",
    "Pad",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "AveragePool",
];

/// The fraction bits that every value's readers ask for, where they ask.
pub(super) fn find(model: &Model, ranges: &Ranges) -> Vec<Option<i32>> {
    let mut bits: Vec<Option<i32>> = vec![None; model.values.len()];
    for n in model.nodes.iter().rev() {
        let wanted = n.outputs.iter().flatten().filter_map(|o| bits[o.index()]).max();
        for (i, v) in n.inputs.iter().enumerate() {
            let Some(v) =
                v.filter(|v| model.value(*v).constant.is_none() && model.value(*v).dtype.is_float())
            else {
                continue;
            };
            let Some(asked) = asked(model, ranges, n, i, v, wanted) else { continue };
            let width = ranges.magnitude(v).map_or(0, |m| m.log2().ceil() as i32);
            let asked = asked.min(MAX_WIDTH - width);
            let slot = &mut bits[v.index()];
            *slot = Some(slot.map_or(asked, |b| b.max(asked)));
        }
    }
    bits
}

/// What a node asks of one operand.
fn asked(model: &Model, ranges: &Ranges, n: &Node, i: usize, v: ValueId, wanted: Option<i32>) -> Option<i32> {
    let relative = || {
        let least = ranges.least(v)?;
        let (lo, hi) = ranges.observed(v)?;
        // Of numbers of both signs the least says nothing: they pass through zero.
        (lo >= 0.0 || hi <= 0.0).then(|| SIGNIFICANT - least.log2().floor() as i32)
    };
    let constant = |k: usize| n.input(k).and_then(|c| model.value(c).constant.as_deref());
    let factor = |c: f64| if c == 0.0 { 0 } else { c.abs().log2().ceil() as i32 };
    let op = n.op.as_str();
    match op {
        "Log" | "Sqrt" | "Reciprocal" => relative(),
        "Div" if i == 1 => relative(),
        "Div" => wanted.zip(constant(1)?.single()).map(|(w, c)| w + factor(1.0 / c)),
        "Pow" if i == 0 => {
            let e = constant(1)?.single()?;
            match wanted {
                Some(w) if e == 2.0 => Some(squared(w)),
                _ if e < 0.0 || e.fract() != 0.0 => relative(),
                _ => None,
            }
        }
        "Mul" if n.input(0) == n.input(1) => wanted.map(squared),
        "Mul" => wanted.zip(constant(1 - i)).map(|(w, c)| w + factor(most(&c.to_f64()))),
        "MatMul" | "Gemm" | "Conv" if i == 0 => {
            let c = constant(1)?;
            let values = c.to_f64();
            // Errors of many operands add up like the sides of a box.
            let outputs = if op == "Conv" { c.shape.first() } else { c.shape.last() };
            let outputs = outputs.copied().unwrap_or(1).max(1) as f64;
            let norm = (values.iter().map(|v| v * v).sum::<f64>() / outputs).sqrt();
            wanted.map(|w| w + factor(norm))
        }
        _ if KEEPING.contains(&op) => wanted,
        _ => None,
    }
}

/// Fraction bits of a number whose square has `wanted`: the square's least is some significant bits above its unit.
fn squared(wanted: i32) -> i32 {
    (wanted + SIGNIFICANT).div_euclid(2) + 1
}

fn most(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}
