//! Operators of ONNX's own domain that are written as others when a model is imported.

use super::control::{Stop, Unroll};
use super::model::{Attr, Attrs, ValueId};
use super::tensor::TensorF;

/// Whether an operator is written as others here.
pub(super) fn expands(op: &str) -> bool {
    matches!(
        op,
        "DynamicQuantizeLinear"
            | "GlobalLpPool"
            | "Hardmax"
            | "LRN"
            | "LpNormalization"
            | "LpPool"
            | "Shrink"
            | "Swish"
    )
}

/// The results of the operators that replace a node, in the order of its outputs.
pub(super) fn expand(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let one = |v: ValueId| vec![v];
    match u.node.op.as_str() {
        "DynamicQuantizeLinear" => {
            let x = u.operand(0)?;
            dynamic_quantise(u, x).map(|d| vec![d.q, d.scale, d.zero])
        }
        "GlobalLpPool" => global_lp_pool(u).map(one),
        "Hardmax" => hardmax(u).map(one),
        "LRN" => local_response(u).map(one),
        "LpNormalization" => lp_normalisation(u).map(one),
        "LpPool" => lp_pool(u).map(one),
        "Shrink" => shrink(u).map(one),
        "Swish" => swish(u).map(one),
        op => Err(Stop::Refused(format!("{op} is not read"))),
    }
}

impl Unroll<'_, '_, '_> {
    /// A number that the architecture says, of the type of another value.
    pub(super) fn like(&mut self, v: ValueId, x: f64) -> Result<ValueId, Stop> {
        let (_, dtype) = self.dims(v)?;
        let t = if dtype.is_float() {
            TensorF::float(vec![], dtype, vec![dtype.round(x)])
        } else {
            TensorF::int(vec![], dtype, vec![dtype.wrap(x as i64)])
        };
        let t = t.map_err(|e| self.wrong(e.to_string()))?;
        Ok(self.structure(t))
    }

    /// A reduction over axes, which are kept.
    fn reduced(&mut self, op: &str, x: ValueId, axes: Vec<i64>, keep: bool) -> Result<ValueId, Stop> {
        let axes = self.ints(axes);
        self.emit(op, &[x, axes], &[("keepdims", Attr::Int(keep.into()))], None)
    }

    fn axis(&self, default: i64, rank: usize) -> Result<usize, Stop> {
        let axis = self.integer("axis", default)?;
        crate::float::normal_axis(axis, rank).map_err(|e| self.wrong(e))
    }
}

/// A tensor quantised with the scale and zero point of its own range.
pub(super) struct Dynamic {
    pub(super) q: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero: ValueId,
}

/// As the standard defines it: the range is that of the elements and zero, in 255 steps.
pub(super) fn dynamic_quantise(u: &mut Unroll<'_, '_, '_>, x: ValueId) -> Result<Dynamic, Stop> {
    let rank = u.dims(x)?.0.len();
    let all: Vec<i64> = (0..rank as i64).collect();
    let nothing = u.like(x, 0.0)?;
    let most = u.reduced("ReduceMax", x, all.clone(), false)?;
    let most = u.op("Max", &[most, nothing])?;
    let least = u.reduced("ReduceMin", x, all, false)?;
    let least = u.op("Min", &[least, nothing])?;
    let range = u.op("Sub", &[most, least])?;
    let steps = u.like(x, 255.0)?;
    let scale = u.op("Div", &[range, steps])?;
    // x / scale as x · 255 / range: the quotient of what is not rounded yet.
    let below = u.op("Neg", &[least])?;
    let below = u.op("Div", &[below, scale])?;
    let below = u.op("Round", &[below])?;
    let zero = u.op("Clip", &[below, nothing, steps])?;
    let y = u.op("Div", &[x, scale])?;
    let y = u.op("Round", &[y])?;
    let y = u.op("Add", &[y, zero])?;
    let y = u.op("Clip", &[y, nothing, steps])?;
    let byte = [("to", Attr::Int(2))];
    let q = u.emit("Cast", &[y], &byte, None)?;
    let zero = u.emit("Cast", &[zero], &byte, None)?;
    Ok(Dynamic { q, scale, zero })
}

/// The norm of order `p` over axes, which are kept.
fn norm(u: &mut Unroll<'_, '_, '_>, x: ValueId, axes: Vec<i64>, p: i64) -> Result<ValueId, Stop> {
    match p {
        1 => u.reduced("ReduceL1", x, axes, true),
        2 => u.reduced("ReduceL2", x, axes, true),
        3..=16 => {
            let (power, root) = (u.like(x, p as f64)?, u.like(x, 1.0 / p as f64)?);
            let y = u.op("Abs", &[x])?;
            let y = u.op("Pow", &[y, power])?;
            let y = u.reduced("ReduceSum", y, axes, true)?;
            u.op("Pow", &[y, root])
        }
        _ => Err(Stop::Refused(format!("the norm of order {p}"))),
    }
}

fn lp_normalisation(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let axis = u.axis(-1, u.dims(x)?.0.len())?;
    let p = u.integer("p", 2)?;
    let norm = norm(u, x, vec![axis as i64], p)?;
    // Where all elements are zero, so is the result.
    let (nothing, one) = (u.like(x, 0.0)?, u.like(x, 1.0)?);
    let gone = u.op("Equal", &[norm, nothing])?;
    let norm = u.op("Where", &[gone, one, norm])?;
    u.op("Div", &[x, norm])
}

fn global_lp_pool(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let axes = (2..u.dims(x)?.0.len() as i64).collect();
    let p = u.integer("p", 2)?;
    norm(u, x, axes, p)
}

fn lp_pool(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let p = u.integer("p", 2)?;
    if u.integer("ceil_mode", 0)? != 0 {
        return Err(Stop::Refused("with `ceil_mode`".into()));
    }
    let power = match p {
        1 => u.op("Abs", &[x])?,
        2 => u.op("Mul", &[x, x])?,
        3..=16 => {
            let y = u.op("Abs", &[x])?;
            let p = u.like(x, p as f64)?;
            u.op("Pow", &[y, p])?
        }
        _ => return Err(Stop::Refused(format!("the norm of order {p}"))),
    };
    let kernel = u.integers("kernel_shape")?.ok_or_else(|| u.wrong("has no `kernel_shape`"))?;
    let names = ["auto_pad", "dilations", "kernel_shape", "pads", "strides"];
    let kept = u.node.attrs.0.iter().filter(|(k, _)| names.contains(&k.as_str()));
    let mut attrs = Attrs(kept.map(|(k, v)| (k.clone(), v.clone())).collect());
    attrs.set("count_include_pad", Attr::Int(1));
    let mean = u.emit_with("AveragePool", vec![Some(power)], attrs)?;
    let size = kernel.iter().try_fold(1i64, |n, &k| n.checked_mul(k));
    let size = size.ok_or_else(|| u.wrong("its window is too large"))?;
    let size = u.like(x, size as f64)?;
    let sum = u.op("Mul", &[mean, size])?;
    match p {
        1 => Ok(sum),
        2 => u.op("Sqrt", &[sum]),
        _ => {
            let root = u.like(x, 1.0 / p as f64)?;
            u.op("Pow", &[sum, root])
        }
    }
}

/// Each element over a power of the squares of its neighbours among the channels.
fn local_response(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let (shape, _) = u.dims(x)?;
    let Some(&channels) = shape.get(1) else { return Err(u.wrong("an operand without channels")) };
    let size = usize::try_from(u.integer("size", 0)?).ok().filter(|&n| n > 0);
    let size = size.ok_or_else(|| u.wrong("`size` is not positive"))?;
    let (before, after) = ((size - 1) / 2, size / 2);
    let squares = u.op("Mul", &[x, x])?;
    let mut pads = vec![0i64; 2 * shape.len()];
    (pads[1], pads[shape.len() + 1]) = (before as i64, after as i64);
    let pads = u.ints(pads);
    let wide = u.op("Pad", &[squares, pads])?;
    let axis = u.ints(vec![1]);
    let mut sum: Option<ValueId> = None;
    for k in 0..size.min(channels + before + after) {
        let (from, to) = (u.ints(vec![k as i64]), u.ints(vec![(k + channels) as i64]));
        let part = u.op("Slice", &[wide, from, to, axis])?;
        sum = Some(match sum {
            None => part,
            Some(s) => u.op("Add", &[s, part])?,
        });
    }
    let sum = sum.ok_or_else(|| u.wrong("`size` is not positive"))?;
    let alpha = u.float("alpha", 1e-4)? / size as f64;
    let (alpha, bias) = (u.like(x, alpha)?, u.like(x, u.float("bias", 1.0)?)?);
    let power = u.like(x, -u.float("beta", 0.75)?)?;
    let y = u.op("Mul", &[sum, alpha])?;
    let y = u.op("Add", &[y, bias])?;
    let y = u.op("Pow", &[y, power])?;
    u.op("Mul", &[x, y])
}

/// One where the first of the greatest elements is, else zero.
fn hardmax(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let mut x = u.operand(0)?;
    let (shape, dtype) = u.dims(x)?;
    let old = u.node.version < 13;
    let mut axis = u.axis(if old { 1 } else { -1 }, shape.len())?;
    if old {
        // The operand is a matrix, whose rows are the axes from this one on.
        let rows: usize = shape[..axis].iter().product();
        let columns: usize = shape[axis..].iter().product();
        x = u.reshape(x, &[rows, columns])?;
        axis = 1;
    }
    let depth = u.dims(x)?.0.get(axis).copied().unwrap_or(1);
    let attrs = [("axis", Attr::Int(axis as i64)), ("keepdims", Attr::Int(0))];
    let best = u.emit("ArgMax", &[x], &attrs, None)?;
    let depth = u.ints(vec![depth as i64]);
    let values = if dtype.is_float() {
        TensorF::float(vec![2], dtype, vec![0.0, 1.0])
    } else {
        TensorF::int(vec![2], dtype, vec![0, 1])
    };
    let values = values.map_err(|e| u.wrong(e.to_string()))?;
    let values = u.structure(values);
    let y = u.emit("OneHot", &[best, depth, values], &[("axis", Attr::Int(axis as i64))], None)?;
    if old { u.reshape(y, &shape) } else { Ok(y) }
}

fn shrink(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    if !u.dims(x)?.1.is_float() {
        return Err(Stop::Refused("of integers".into()));
    }
    let (bias, bound) = (u.float("bias", 0.0)?, u.float("lambd", 0.5)?);
    let (low, high, nothing) = (u.like(x, -bound)?, u.like(x, bound)?, u.like(x, 0.0)?);
    let bias = u.like(x, bias)?;
    let below = u.op("Less", &[x, low])?;
    let above = u.op("Greater", &[x, high])?;
    let raised = u.op("Add", &[x, bias])?;
    let lowered = u.op("Sub", &[x, bias])?;
    let y = u.op("Where", &[above, lowered, nothing])?;
    u.op("Where", &[below, raised, y])
}

fn swish(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let alpha = u.float("alpha", 1.0)?;
    let mut s = x;
    if alpha != 1.0 {
        let alpha = u.like(x, alpha)?;
        s = u.op("Mul", &[x, alpha])?;
    }
    let s = u.op("Sigmoid", &[s])?;
    u.op("Mul", &[x, s])
}
