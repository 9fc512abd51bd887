//! Reductions over axes.

use std::cmp::Ordering;

use crate::onnx::{DType, Data, TensorF, strides, unravel};

use super::{Call, OpError};

/// An axis that may count from the end.
pub(crate) fn normal_axis(axis: i64, rank: usize) -> Result<usize, String> {
    let a = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(a).ok().filter(|&a| a < rank).ok_or_else(|| format!("axis {axis} of rank {rank}"))
}

/// The axes of a reduction, sorted; `None` where the operator leaves its operand as it is.
pub(crate) fn axes_of(c: &Call<'_>, rank: usize) -> Result<Option<Vec<usize>>, OpError> {
    let axes = c.ints(1, "axes")?.unwrap_or_default();
    if axes.is_empty() {
        let noop = c.node.attrs.int_or("noop_with_empty_axes", 0)? != 0;
        return Ok((!noop).then(|| (0..rank).collect()));
    }
    let mut axes = axes.iter().map(|&a| normal_axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(Some(axes))
}

/// Elements grouped by the axes that stay: the shape that is left and, for each of its elements, the flat indices that fall on it.
pub(super) fn grouped(shape: &[usize], axes: &[usize], keep: bool) -> (Vec<usize>, Vec<Vec<usize>>) {
    let full: Vec<usize> = (0..shape.len()).map(|d| if axes.contains(&d) { 1 } else { shape[d] }).collect();
    let steps: Vec<usize> =
        strides(&full).into_iter().enumerate().map(|(d, s)| if axes.contains(&d) { 0 } else { s }).collect();
    let mut groups = vec![Vec::new(); full.iter().product()];
    for i in 0..shape.iter().product::<usize>() {
        let at = unravel(i, shape);
        groups[at.iter().zip(&steps).map(|(a, s)| a * s).sum::<usize>()].push(i);
    }
    let out =
        if keep { full } else { (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect() };
    (out, groups)
}

pub(super) fn reduce(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let keep = c.node.attrs.int_or("keepdims", 1)? != 0;
    let op = c.node.op.as_str();
    let axes = match axes_of(c, x.shape.len())? {
        Some(a) => a,
        None if op == "ReduceSum" => return Ok(x.clone()),
        None => vec![],
    };
    let (shape, groups) = grouped(&x.shape, &axes, keep);
    let data = match &x.data {
        Data::F(v) => Data::F(
            groups
                .iter()
                .map(|g| {
                    let it = g.iter().map(|&i| v[i]);
                    x.dtype.round(match op {
                        "ReduceSum" => it.sum(),
                        "ReduceMean" => it.sum::<f64>() / g.len() as f64,
                        "ReduceMax" => it.fold(f64::NEG_INFINITY, f64::max),
                        "ReduceMin" => it.fold(f64::INFINITY, f64::min),
                        "ReduceProd" => it.product(),
                        "ReduceL1" => it.map(f64::abs).sum(),
                        "ReduceL2" => it.map(|v| v * v).sum::<f64>().sqrt(),
                        "ReduceSumSquare" => it.map(|v| v * v).sum(),
                        "ReduceLogSum" => it.sum::<f64>().ln(),
                        _ => {
                            let m = it.clone().fold(f64::NEG_INFINITY, f64::max);
                            let m = if m.is_finite() { m } else { 0.0 };
                            it.map(|v| (v - m).exp()).sum::<f64>().ln() + m
                        }
                    })
                })
                .collect(),
        ),
        Data::I(v) => {
            let f = |g: &Vec<usize>| -> Option<i64> {
                let it = g.iter().map(|&i| v[i]);
                Some(x.dtype.wrap(match op {
                    "ReduceSum" => it.fold(0, i64::wrapping_add),
                    "ReduceMean" => it.fold(0, i64::wrapping_add).checked_div(g.len() as i64)?,
                    "ReduceMax" => it.max_by_key(|v| x.dtype.order_key(*v))?,
                    "ReduceMin" => it.min_by_key(|v| x.dtype.order_key(*v))?,
                    "ReduceProd" => it.fold(1, i64::wrapping_mul),
                    "ReduceL1" => it.fold(0, |a, v| a.wrapping_add(v.wrapping_abs())),
                    "ReduceSumSquare" => it.fold(0, |a, v| a.wrapping_add(v.wrapping_mul(v))),
                    _ => return None,
                }))
            };
            let v = groups.iter().map(f).collect::<Option<Vec<_>>>();
            Data::I(v.ok_or_else(|| format!("{op} of these integers"))?)
        }
    };
    Ok(TensorF::new(shape, x.dtype, data)?)
}

pub(super) fn arg(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let axis = normal_axis(c.node.attrs.int_or("axis", 0)?, x.shape.len())?;
    let keep = c.node.attrs.int_or("keepdims", 1)? != 0;
    let last = c.node.attrs.int_or("select_last_index", 0)? != 0;
    let is_max = c.node.op == "ArgMax";
    let (shape, groups) = grouped(&x.shape, &[axis], keep);
    let order = |a: usize, b: usize| match &x.data {
        Data::F(v) => v[a].partial_cmp(&v[b]),
        Data::I(v) => Some(x.dtype.order_key(v[a]).cmp(&x.dtype.order_key(v[b]))),
    };
    let wanted = if is_max { Ordering::Greater } else { Ordering::Less };
    let data = groups
        .iter()
        .map(|g| {
            let mut best = 0;
            for k in 1..g.len() {
                let found = order(g[k], g[best]);
                if found == Some(wanted) || (last && found == Some(Ordering::Equal)) {
                    best = k;
                }
            }
            best as i64
        })
        .collect();
    Ok(TensorF::int(shape, DType::I64, data)?)
}

pub(super) fn cumsum(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let axis = c.input(1)?.to_i64().first().copied().ok_or("`axis` is missing")?;
    let axis = normal_axis(axis, x.shape.len())?;
    let exclusive = c.node.attrs.int_or("exclusive", 0)? != 0;
    let reverse = c.node.attrs.int_or("reverse", 0)? != 0;
    let (_, groups) = grouped(&x.shape, &[axis], true);
    let mut out = x.clone();
    for mut g in groups {
        if reverse {
            g.reverse();
        }
        match (&mut out.data, &x.data) {
            (Data::F(o), Data::F(v)) => {
                let mut acc = 0.0;
                for i in g {
                    let before = acc;
                    acc += v[i];
                    o[i] = x.dtype.round(if exclusive { before } else { acc });
                }
            }
            (Data::I(o), Data::I(v)) => {
                let mut acc = 0i64;
                for i in g {
                    let before = acc;
                    acc = acc.wrapping_add(v[i]);
                    o[i] = x.dtype.wrap(if exclusive { before } else { acc });
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

pub(super) fn softmax(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let rank = x.shape.len();
    let old = c.node.version < 13;
    let axis = normal_axis(c.node.attrs.int_or("axis", if old { 1 } else { -1 })?, rank)?;
    // Before version 13 the operand counts as a matrix, split at the axis.
    let axes: Vec<usize> = if old { (axis..rank).collect() } else { vec![axis] };
    let (_, groups) = grouped(&x.shape, &axes, true);
    let Data::F(v) = &x.data else { return Err("softmax of integers".into()) };
    let mut out = vec![0.0; v.len()];
    for g in groups {
        let m = g.iter().map(|&i| v[i]).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = g.iter().map(|&i| (v[i] - m).exp()).sum();
        for i in g {
            let p = if c.node.op == "Softmax" { (v[i] - m).exp() / total } else { v[i] - m - total.ln() };
            out[i] = x.dtype.round(p);
        }
    }
    Ok(TensorF::float(x.shape.clone(), x.dtype, out)?)
}
