//! Operators that only move elements, and those that make constants.
//!
//! They treat elements as opaque: applied to tensors of element numbers they give the index map of the operator, which is how the
//! quantiser turns them into views.

use crate::onnx::{Attr, DType, Data, TensorF, checked_len, strides, unravel};

use super::reduce::normal_axis;
use super::{Call, OpError, Outputs};

pub(super) fn constant(c: &Call<'_>) -> Result<TensorF, OpError> {
    let a = &c.node.attrs;
    if let Some(t) = a.tensor("value")? {
        return Ok(t.as_ref().clone());
    }
    for (name, attr) in &a.0 {
        let t = match (name.as_str(), attr) {
            ("value_float", Attr::Float(v)) => TensorF::float(vec![], DType::F32, vec![*v])?,
            ("value_floats", Attr::Floats(v)) => TensorF::float(vec![v.len()], DType::F32, v.clone())?,
            ("value_int", Attr::Int(v)) => TensorF::int(vec![], DType::I64, vec![*v])?,
            ("value_ints", Attr::Ints(v)) => TensorF::ints(v.clone()),
            _ => continue,
        };
        return Ok(t);
    }
    Err(OpError::Unsupported("the value is neither a dense tensor nor numbers".into()))
}

pub(super) fn generate(c: &Call<'_>) -> Result<TensorF, OpError> {
    let a = &c.node.attrs;
    match c.node.op.as_str() {
        "Shape" => {
            let shape = &c.input(0)?.shape;
            let rank = shape.len() as i64;
            let clamp = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
            let (start, end) = (clamp(a.int_or("start", 0)?), clamp(a.int_or("end", rank)?));
            Ok(TensorF::ints(shape[start..end.max(start)].iter().map(|&d| d as i64).collect()))
        }
        "Size" => Ok(TensorF::int(vec![], DType::I64, vec![c.input(0)?.len() as i64])?),
        "ConstantOfShape" => {
            let shape = dims(&c.input(0)?.to_i64())?;
            let n = checked_len(&shape)?;
            let fill = match a.tensor("value")? {
                Some(t) => t.as_ref().clone(),
                None => TensorF::scalar(0.0),
            };
            if fill.len() != 1 {
                return Err("`value` is not one element".into());
            }
            Ok(fill.pick(shape, std::iter::repeat_n(0, n))?)
        }
        "EyeLike" => {
            let x = c.input(0)?;
            let [rows, cols] = x.shape[..] else { return Err("operand is not a matrix".into()) };
            let k = a.int_or("k", 0)?;
            let dtype = match a.int("dtype")? {
                Some(code) => i32::try_from(code).ok().and_then(DType::from_onnx).ok_or("unknown `dtype`")?,
                None => x.dtype,
            };
            let ones =
                (0..rows * cols).map(|i| i64::from((i % cols) as i64 == k.saturating_add((i / cols) as i64)));
            let t = TensorF::int(x.shape.clone(), DType::I64, ones.collect())?;
            super::elementwise::cast(&t, dtype)
        }
        _ => {
            let (start, limit, delta) = (c.input(0)?, c.input(1)?, c.input(2)?);
            let n = ((limit.at(0) - start.at(0)) / delta.at(0)).ceil().max(0.0);
            if !n.is_finite() {
                return Err("the range has no end".into());
            }
            let n = checked_len(&[n as usize])?;
            match (&start.data, &delta.data) {
                (Data::I(s), Data::I(d)) if s.len() == 1 && d.len() == 1 => {
                    let v = (0..n as i64).map(|i| s[0].wrapping_add(i.wrapping_mul(d[0]))).collect();
                    Ok(TensorF::int(vec![n], start.dtype, v)?)
                }
                _ => {
                    let at = |i: usize| start.dtype.round(start.at(0) + i as f64 * delta.at(0));
                    Ok(TensorF::float(vec![n], start.dtype, (0..n).map(at).collect())?)
                }
            }
        }
    }
}

/// Dimensions given as integers.
pub(super) fn dims(v: &[i64]) -> Result<Vec<usize>, OpError> {
    v.iter().map(|&d| usize::try_from(d).map_err(|_| OpError::Invalid(format!("dimension {d}")))).collect()
}

pub(super) fn reshape(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let a = &c.node.attrs;
    let shape = match c.node.op.as_str() {
        "Flatten" => {
            let axis = a.int_or("axis", 1)?;
            let rank = x.shape.len() as i64;
            let axis = if axis < 0 { axis + rank } else { axis };
            if !(0..=rank).contains(&axis) {
                return Err(format!("axis {axis} of {:?}", x.shape).into());
            }
            let (l, r) = x.shape.split_at(axis as usize);
            vec![l.iter().product(), r.iter().product()]
        }
        "Squeeze" => match c.ints(1, "axes")? {
            None => x.shape.iter().copied().filter(|&d| d != 1).collect(),
            Some(axes) => {
                let axes =
                    axes.iter().map(|&v| normal_axis(v, x.shape.len())).collect::<Result<Vec<_>, _>>()?;
                if let Some(&v) = axes.iter().find(|&&v| x.shape[v] != 1) {
                    return Err(format!("axis {v} of {:?} is not 1", x.shape).into());
                }
                (0..x.shape.len()).filter(|i| !axes.contains(i)).map(|i| x.shape[i]).collect()
            }
        },
        "Unsqueeze" => {
            let axes = c.ints(1, "axes")?.ok_or("`axes` is missing")?;
            let rank = x.shape.len() + axes.len();
            let axes = axes.iter().map(|&v| normal_axis(v, rank)).collect::<Result<Vec<_>, _>>()?;
            let mut rest = x.shape.iter().copied();
            let shape: Vec<usize> =
                (0..rank).map(|i| if axes.contains(&i) { 1 } else { rest.next().unwrap_or(1) }).collect();
            if rest.next().is_some() {
                return Err("an axis is given twice".into());
            }
            shape
        }
        _ => {
            let target = c.ints(1, "shape")?.ok_or("`shape` is missing")?;
            let keep_zero = a.int_or("allowzero", 0)? != 0;
            let mut open = None;
            let mut shape = Vec::with_capacity(target.len());
            for (i, &d) in target.iter().enumerate() {
                shape.push(match d {
                    -1 if open.is_none() => {
                        open = Some(i);
                        1
                    }
                    0 if !keep_zero => {
                        *x.shape.get(i).ok_or_else(|| format!("dimension {i} of {:?}", x.shape))?
                    }
                    d => usize::try_from(d).map_err(|_| format!("shape {target:?}"))?,
                });
            }
            if let Some(i) = open {
                let known = checked_len(&shape)?;
                if known == 0 || x.len() % known != 0 {
                    return Err(format!("{:?} does not reshape to {target:?}", x.shape).into());
                }
                shape[i] = x.len() / known;
            }
            shape
        }
    };
    Ok(x.reshaped(shape)?)
}

pub(super) fn transpose(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let rank = x.shape.len();
    let perm: Vec<usize> = match c.node.attrs.ints("perm")? {
        Some(p) => p.iter().map(|&v| normal_axis(v, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    permute(x, &perm)
}

/// `x` with its axes in another order.
pub(super) fn permute(x: &TensorF, perm: &[usize]) -> Result<TensorF, OpError> {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.shape.len()).collect::<Vec<_>>() {
        return Err(format!("permutation {perm:?} of {:?}", x.shape).into());
    }
    let steps = strides(&x.shape);
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p]).collect();
    let steps: Vec<usize> = perm.iter().map(|&p| steps[p]).collect();
    strided(x, shape, 0, &steps)
}

/// Elements `base + Σ index·step`; every one must be within `x`.
fn strided(x: &TensorF, shape: Vec<usize>, base: usize, steps: &[usize]) -> Result<TensorF, OpError> {
    let mut picks = vec![base];
    checked_len(&shape)?;
    for (&d, &s) in shape.iter().zip(steps) {
        picks = picks.iter().flat_map(|&p| (0..d).map(move |i| p + i * s)).collect();
    }
    Ok(x.pick(shape, picks.into_iter())?)
}

pub(super) fn concat(c: &Call<'_>) -> Result<TensorF, OpError> {
    let all = c.all()?;
    let axis = c.node.attrs.int_or("axis", 1)?;
    concat_all(&all, axis)
}

/// Tensors joined along an axis.
pub(super) fn concat_all(all: &[&TensorF], axis: i64) -> Result<TensorF, OpError> {
    let first = all.first().ok_or("has no operands")?;
    let axis = normal_axis(axis, first.shape.len())?;
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for t in all {
        let fits = t.shape.len() == shape.len()
            && t.dtype.is_float() == first.dtype.is_float()
            && (0..shape.len()).all(|d| d == axis || t.shape[d] == shape[d]);
        if !fits {
            return Err(format!("{:?} and {:?} do not join along axis {axis}", first.shape, t.shape).into());
        }
        shape[axis] += t.shape[axis];
    }
    checked_len(&shape)?;
    let outer: usize = shape[..axis].iter().product();
    fn join<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
        let mut out = Vec::new();
        for o in 0..outer {
            for (data, width) in parts {
                out.extend_from_slice(&data[o * width..(o + 1) * width]);
            }
        }
        out
    }
    let width = |t: &TensorF| t.shape[axis..].iter().product::<usize>();
    let data = if first.dtype.is_float() {
        let parts: Vec<(&[f64], usize)> = all
            .iter()
            .filter_map(|t| if let Data::F(v) = &t.data { Some((v.as_slice(), width(t))) } else { None })
            .collect();
        Data::F(join(&parts, outer))
    } else {
        let parts: Vec<(&[i64], usize)> = all
            .iter()
            .filter_map(|t| if let Data::I(v) = &t.data { Some((v.as_slice(), width(t))) } else { None })
            .collect();
        Data::I(join(&parts, outer))
    };
    Ok(TensorF::new(shape, first.dtype, data)?)
}

pub(super) fn slice(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let rank = x.shape.len();
    let starts = c.ints(1, "starts")?.ok_or("`starts` is missing")?;
    let ends = c.ints(2, "ends")?.ok_or("`ends` is missing")?;
    let axes = match c.ints(3, "axes")? {
        Some(a) => a.iter().map(|&v| normal_axis(v, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..starts.len()).collect(),
    };
    let steps = c.opt(4).map_or_else(|| vec![1; starts.len()], TensorF::to_i64);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("starts, ends, axes and steps differ in length".into());
    }
    let mut lists: Vec<Vec<usize>> = x.shape.iter().map(|&d| (0..d).collect()).collect();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let d = *x.shape.get(axis).ok_or_else(|| format!("axis {axis} of {:?}", x.shape))? as i64;
        if step == 0 {
            return Err("a step is zero".into());
        }
        let wrap = |v: i64| if v < 0 { v.saturating_add(d) } else { v };
        let (start, end) = match (step > 0, d) {
            (_, 0) => (0, 0),
            (true, _) => (wrap(start).clamp(0, d), wrap(end).clamp(0, d)),
            // Backwards, a start before the axis is its first element, where NumPy takes nothing.
            (false, _) => (wrap(start).clamp(0, d - 1), wrap(end).clamp(-1, d - 1)),
        };
        let mut list = Vec::new();
        let mut i = start;
        while (step > 0 && i < end) || (step < 0 && i > end) {
            list.push(i as usize);
            i = i.saturating_add(step);
        }
        lists[axis] = list;
    }
    select(x, &lists)
}

/// The sub-tensor of the listed positions along every axis.
fn select(x: &TensorF, lists: &[Vec<usize>]) -> Result<TensorF, OpError> {
    let steps = strides(&x.shape);
    let shape: Vec<usize> = lists.iter().map(Vec::len).collect();
    checked_len(&shape)?;
    let mut picks = vec![0usize];
    for (list, s) in lists.iter().zip(steps) {
        picks = picks.iter().flat_map(|&p| list.iter().map(move |&i| p + i * s)).collect();
    }
    Ok(x.pick(shape, picks.into_iter())?)
}

pub(super) fn split(c: &Call<'_>) -> Outputs {
    let x = c.input(0)?;
    let axis = normal_axis(c.node.attrs.int_or("axis", 0)?, x.shape.len())?;
    let d = x.shape[axis];
    let sizes = match c.ints(1, "split")? {
        Some(s) => dims(&s)?,
        None => {
            let n = match c.node.attrs.int("num_outputs")? {
                Some(n) => usize::try_from(n).map_err(|_| format!("num_outputs {n}"))?,
                None => c.node.outputs.len(),
            };
            if n == 0 || n > d.max(1) {
                return Err(format!("{n} parts of axis length {d}").into());
            }
            let size = d.div_ceil(n);
            (0..n).map(|i| size.min(d.saturating_sub(i * size))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(d) {
        return Err(format!("parts {sizes:?} of axis length {d}").into());
    }
    let mut at = 0;
    sizes
        .into_iter()
        .map(|n| {
            let list =
                |(i, &d): (usize, &usize)| if i == axis { (at..at + n).collect() } else { (0..d).collect() };
            let lists: Vec<Vec<usize>> = x.shape.iter().enumerate().map(list).collect();
            at += n;
            select(x, &lists).map(Some)
        })
        .collect()
}

pub(super) fn pad(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let rank = x.shape.len();
    let given = match c.opt(1) {
        Some(t) => t.to_i64(),
        None => match c.node.attrs.ints("pads")? {
            Some(p) => p.to_vec(),
            None => c.node.attrs.ints("paddings")?.ok_or("`pads` is missing")?.to_vec(),
        },
    };
    let axes: Vec<usize> = match c.opt(3) {
        Some(t) => t.to_i64().iter().map(|&v| normal_axis(v, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", given.len(), axes.len()).into());
    }
    let mode = c.node.attrs.str("mode")?.unwrap_or("constant").to_owned();
    let mut lists: Vec<Vec<Option<usize>>> = x.shape.iter().map(|&d| (0..d).map(Some).collect()).collect();
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (given[i], given[i + axes.len()]);
        let d = x.shape[axis] as i64;
        let len = d.checked_add(before).and_then(|n| n.checked_add(after)).filter(|n| *n >= 0);
        let len = checked_len(&[len.ok_or_else(|| format!("pads {given:?}"))? as usize])? as i64;
        let source = |k: i64| -> Option<usize> {
            let i = k.saturating_sub(before);
            if (0..d).contains(&i) {
                return Some(i as usize);
            }
            match mode.as_str() {
                _ if d == 0 => None,
                "edge" => Some(i.clamp(0, d - 1) as usize),
                "wrap" => Some(i.rem_euclid(d) as usize),
                "reflect" if d == 1 => Some(0),
                "reflect" => {
                    let period = 2 * (d - 1);
                    let r = i.rem_euclid(period);
                    Some(r.min(period - r) as usize)
                }
                _ => None,
            }
        };
        lists[axis] = (0..len).map(source).collect();
    }
    if !matches!(mode.as_str(), "constant" | "edge" | "reflect" | "wrap") {
        return Err(format!("mode `{mode}`").into());
    }
    let fill = match c.opt(2).filter(|t| !t.is_empty()) {
        Some(t) if t.dtype.is_float() == x.dtype.is_float() => t.clone(),
        Some(_) => return Err("the fill value has another type".into()),
        None if x.dtype.is_float() => TensorF::scalar(c.node.attrs.float_or("value", 0.0)?),
        None => TensorF::int(vec![], x.dtype, vec![0])?,
    };
    let steps = strides(&x.shape);
    let shape: Vec<usize> = lists.iter().map(Vec::len).collect();
    checked_len(&shape)?;
    let mut picks: Vec<Option<usize>> = vec![Some(0)];
    for (list, s) in lists.iter().zip(steps) {
        picks =
            picks.iter().flat_map(|&p| list.iter().map(move |i| p.zip(*i).map(|(p, i)| p + i * s))).collect();
    }
    let data = match (&x.data, &fill.data) {
        (Data::F(v), Data::F(f)) => Data::F(picks.iter().map(|p| p.map_or(f[0], |i| v[i])).collect()),
        (Data::I(v), Data::I(f)) => Data::I(picks.iter().map(|p| p.map_or(f[0], |i| v[i])).collect()),
        _ => return Err("the fill value has another type".into()),
    };
    Ok(TensorF::new(shape, x.dtype, data)?)
}

pub(super) fn expand(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let shape = crate::onnx::broadcast(&x.shape, &dims(&c.input(1)?.to_i64())?)?;
    Ok(x.broadcast_to(&shape)?)
}

pub(super) fn tile(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let repeats = dims(&c.input(1)?.to_i64())?;
    if repeats.len() != x.shape.len() {
        return Err(format!("{} repeats for {:?}", repeats.len(), x.shape).into());
    }
    let shape = x.shape.iter().zip(&repeats).map(|(&d, &r)| d.checked_mul(r)).collect::<Option<Vec<_>>>();
    let shape = shape.ok_or("the result is too large")?;
    checked_len(&shape)?;
    let lists: Vec<Vec<usize>> =
        x.shape.iter().zip(&shape).map(|(&d, &n)| (0..n).map(|i| i % d.max(1)).collect()).collect();
    select(x, &lists)
}

pub(super) fn trilu(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let [.., rows, cols] = x.shape[..] else { return Err("operand is not a matrix".into()) };
    let k = c.opt(1).map_or(0, |t| t.to_i64().first().copied().unwrap_or(0));
    let upper = c.node.attrs.int_or("upper", 1)? != 0;
    let keep = |i: usize| {
        let d = (i % cols) as i64 - (i / cols % rows) as i64;
        if upper { d >= k } else { d <= k }
    };
    let data = match &x.data {
        Data::F(v) => Data::F(v.iter().enumerate().map(|(i, &v)| if keep(i) { v } else { 0.0 }).collect()),
        Data::I(v) => Data::I(v.iter().enumerate().map(|(i, &v)| if keep(i) { v } else { 0 }).collect()),
    };
    Ok(TensorF::new(x.shape.clone(), x.dtype, data)?)
}

pub(super) fn depth_space(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let b = c.node.attrs.int("blocksize")?.and_then(|b| usize::try_from(b).ok());
    // Its square is divided by.
    let b = b.filter(|b| (1..=1 << 14).contains(b)).ok_or("`blocksize` is not between 1 and 2^14")?;
    let [n, ch, h, w] = x.shape[..] else { return Err("operand is not of rank 4".into()) };
    if c.node.op == "SpaceToDepth" {
        if h % b != 0 || w % b != 0 {
            return Err(format!("{h}×{w} does not divide by {b}").into());
        }
        let split = x.reshaped(vec![n, ch, h / b, b, w / b, b])?;
        let dcr = c.node.attrs.str("mode")?.unwrap_or("DCR") == "DCR";
        let t = permute(&split, if dcr { &[0, 3, 5, 1, 2, 4] } else { &[0, 1, 3, 5, 2, 4] })?;
        return Ok(t.reshaped(vec![n, ch * b * b, h / b, w / b])?);
    }
    if ch % (b * b) != 0 {
        return Err(format!("{ch} channels do not divide by {b}²").into());
    }
    let t = if c.node.attrs.str("mode")?.unwrap_or("DCR") == "DCR" {
        permute(&x.reshaped(vec![n, b, b, ch / (b * b), h, w])?, &[0, 3, 4, 1, 5, 2])?
    } else {
        permute(&x.reshaped(vec![n, ch / (b * b), b, b, h, w])?, &[0, 1, 4, 2, 5, 3])?
    };
    Ok(t.reshaped(vec![n, ch / (b * b), h * b, w * b])?)
}

/// Multi-index helper of the operators that address single elements.
pub(super) fn position(flat: usize, shape: &[usize]) -> Vec<usize> {
    unravel(flat, shape)
}
