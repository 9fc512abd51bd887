//! Numbers that stand for "never": what masks add to scores, or put in their place.
//!
//! A mask's number is infinite, or so large that nothing beside it counts, and only the order of its results is used: a softmax, an
//! exponential, the place of a maximum. There any number beyond all others serves as well. Everywhere else a number is itself.

use crate::onnx::{Model, Node, ValueId};

/// Magnitude from which a mask's number stands for infinity.
pub(super) const LARGE: f64 = 1e9;

/// Least number that takes the place of a mask's.
const LEAST_FILL: f64 = 65536.0;

/// Which values masks have made.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks {
    /// Whether some elements of a value are a mask's, of which only the order counts.
    masked: Vec<bool>,
    fill: f64,
}

/// Operators that move elements and leave them as they are.
const MOVING: &[&str] = &[
    "Cast",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Pad",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// Operators that keep the order of what they are given, or turn it around.
const ORDERED: &[&str] = &["Add", "Clip", "Div", "LeakyRelu", "Max", "Min", "Mul", "Neg", "Relu", "Sub"];

/// Operators that give the same for any number that is far enough.
const FLAT: &[&str] = &["ArgMax", "ArgMin", "Erf", "Exp", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"];

/// Operators that choose among elements.
const CHOOSING: &[&str] = &["MaxPool", "ReduceMax", "ReduceMin", "TopK"];

impl Masks {
    /// `seen` gives the finite range of a value, all numbers counted; `small` that of the numbers below [`LARGE`].
    pub(super) fn find(
        model: &Model,
        seen: &impl Fn(ValueId) -> Option<(f64, f64)>,
        small: &impl Fn(ValueId) -> Option<(f64, f64)>,
    ) -> Masks {
        let tolerant = tolerant(model, seen);
        let mut masked = vec![false; model.values.len()];
        for (m, v) in masked.iter_mut().zip(&model.values) {
            let Some(c) = v.constant.as_ref().filter(|_| v.dtype.is_float()) else { continue };
            *m = (0..c.len()).any(|i| c.at(i).abs() >= LARGE);
        }
        let mut made = vec![false; masked.len()];
        let mut spoiled = vec![false; masked.len()];
        let mut most = 0f64;
        let magnitude = |r: Option<(f64, f64)>| r.map_or(0.0, |(lo, hi)| lo.abs().max(hi.abs()));
        for n in &model.nodes {
            let operands: Vec<ValueId> = n.inputs.iter().flatten().copied().collect();
            let from_mask = operands.iter().any(|v| masked[v.index()]);
            let passes = passes(n, &masked, seen) && n.outputs.iter().flatten().all(|o| tolerant[o.index()]);
            for v in operands.iter().filter(|v| masked[v.index()]) {
                let constant = model.value(*v).constant.is_some();
                let fits = if passes || FLAT.contains(&n.op.as_str()) { true } else { !constant };
                spoiled[v.index()] |= !fits;
            }
            if !(from_mask && passes) {
                continue;
            }
            for o in n.outputs.iter().flatten() {
                masked[o.index()] = true;
                made[o.index()] = true;
                most = most.max(magnitude(small(*o)));
            }
            for v in operands.iter().filter(|v| !masked[v.index()]) {
                most = most.max(magnitude(seen(*v)));
            }
        }
        for (i, m) in masked.iter_mut().enumerate() {
            *m &= !spoiled[i];
        }
        let fill = (8.0 * most).log2().ceil().clamp(0.0, 100.0).exp2().max(LEAST_FILL);
        Masks { masked, fill }
    }

    /// Whether elements of a value may be a mask's.
    pub(super) fn masked(&self, v: ValueId) -> bool {
        self.masked.get(v.index()).copied().unwrap_or(false)
    }

    /// What takes the place of a mask's number: beyond everything that it has to beat.
    pub(super) fn fill(&self) -> f64 {
        self.fill.max(LEAST_FILL)
    }
}

/// Whether a node hands a mask's numbers on in their order.
fn passes(n: &Node, masked: &[bool], seen: &impl Fn(ValueId) -> Option<(f64, f64)>) -> bool {
    let op = n.op.as_str();
    if matches!(op, "Mul" | "Div") {
        // A factor of a mask's size is a mask only over what is zero or one.
        let flags = |v: &ValueId| seen(*v).is_some_and(|(lo, hi)| lo >= -1.0 && hi <= 1.0);
        let operands: Vec<ValueId> = n.inputs.iter().flatten().copied().collect();
        return match operands[..] {
            [a, b] if masked[b.index()] => op == "Mul" && flags(&a),
            [a, b] if masked[a.index()] => op == "Div" || flags(&b),
            _ => true,
        };
    }
    MOVING.contains(&op) || ORDERED.contains(&op) || CHOOSING.contains(&op)
}

/// Values of which only the order counts, wherever they are read.
fn tolerant(model: &Model, seen: &impl Fn(ValueId) -> Option<(f64, f64)>) -> Vec<bool> {
    let mut out = vec![true; model.values.len()];
    model.outputs.iter().for_each(|o| out[o.index()] = false);
    for (v, t) in model.values.iter().zip(&mut out) {
        *t &= v.dtype.is_float();
    }
    for n in model.nodes.iter().rev() {
        let op = n.op.as_str();
        let handed = n.outputs.iter().flatten().all(|o| out[o.index()]);
        let chosen = || {
            // What is chosen is not a mask's, as far as calibration saw.
            let first = n.output(0).and_then(seen);
            first.is_some_and(|(lo, hi)| lo > -LARGE && hi < LARGE)
        };
        for (i, v) in n.inputs.iter().enumerate() {
            let Some(v) = v else { continue };
            let fits = match op {
                "Where" if i == 0 => false,
                "Div" if i == 1 => false,
                _ if FLAT.contains(&op) => i == 0,
                _ if CHOOSING.contains(&op) => i == 0 && (handed || chosen()),
                _ => (MOVING.contains(&op) || ORDERED.contains(&op)) && handed,
            };
            out[v.index()] &= fits;
        }
    }
    out
}
