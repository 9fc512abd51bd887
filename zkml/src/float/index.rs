//! Operators that address elements by index.

use std::cmp::Ordering;

use crate::onnx::{DType, Data, TensorF, checked_len, strides};

use super::movement::position;
use super::reduce::normal_axis;
use super::{Call, OpError, Outputs};

/// An index that may count from the end.
fn wrap(i: i64, d: usize) -> Result<usize, OpError> {
    let w = if i < 0 { i.saturating_add(d as i64) } else { i };
    usize::try_from(w)
        .ok()
        .filter(|&w| w < d)
        .ok_or_else(|| OpError::Invalid(format!("index {i} of an axis of length {d}")))
}

pub(super) fn gather(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let axis = normal_axis(c.node.attrs.int_or("axis", 0)?, x.shape.len())?;
    let d = x.shape[axis];
    let index_values = index.to_i64().iter().map(|&i| wrap(i, d)).collect::<Result<Vec<_>, _>>()?;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let shape: Vec<usize> =
        x.shape[..axis].iter().chain(&index.shape).chain(&x.shape[axis + 1..]).copied().collect();
    let n = checked_len(&shape)?;
    let mut picks = Vec::with_capacity(n);
    for o in 0..outer {
        for &i in &index_values {
            let base = (o * d + i) * inner;
            picks.extend(base..base + inner);
        }
    }
    Ok(x.pick(shape, picks.into_iter())?)
}

pub(super) fn gather_elements(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let axis = normal_axis(c.node.attrs.int_or("axis", 0)?, x.shape.len())?;
    let picks = element_targets(&x.shape, index, axis)?;
    Ok(x.pick(index.shape.clone(), picks.into_iter())?)
}

/// For every element of an index tensor, the flat element of a tensor that it addresses along `axis`.
fn element_targets(shape: &[usize], index: &TensorF, axis: usize) -> Result<Vec<usize>, OpError> {
    let fits =
        index.shape.len() == shape.len() && (0..shape.len()).all(|d| d == axis || index.shape[d] <= shape[d]);
    if !fits {
        return Err(format!("indices {:?} for {shape:?}", index.shape).into());
    }
    let steps = strides(shape);
    index
        .to_i64()
        .iter()
        .enumerate()
        .map(|(flat, &i)| {
            let mut at = position(flat, &index.shape);
            at[axis] = wrap(i, shape[axis])?;
            Ok(at.iter().zip(&steps).map(|(a, s)| a * s).sum())
        })
        .collect()
}

/// Flat offsets of the slices that the last axis of `index` addresses, with the length of a slice.
fn slices(shape: &[usize], index: &TensorF, batch: usize) -> Result<(Vec<usize>, usize), OpError> {
    let Some((&depth, lead)) = index.shape.split_last() else {
        return Err("the indices are a scalar".into());
    };
    if batch + depth > shape.len() || batch > lead.len() || shape[..batch] != lead[..batch] {
        return Err(format!("indices {:?} for {shape:?}", index.shape).into());
    }
    let steps = strides(shape);
    let width: usize = shape[batch + depth..].iter().product();
    let batch_steps: usize = shape[batch..].iter().product();
    let per_batch: usize = lead[batch..].iter().product();
    let values = index.to_i64();
    let count: usize = lead.iter().product();
    let offsets = (0..count)
        .map(|k| {
            let mut at = k / per_batch.max(1) * batch_steps;
            for j in 0..depth {
                at += wrap(values[k * depth + j], shape[batch + j])? * steps[batch + j];
            }
            Ok(at)
        })
        .collect::<Result<Vec<_>, OpError>>()?;
    Ok((offsets, width))
}

pub(super) fn gather_nd(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, index) = (c.input(0)?, c.input(1)?);
    let batch =
        usize::try_from(c.node.attrs.int_or("batch_dims", 0)?).map_err(|_| "batch_dims is negative")?;
    let (offsets, width) = slices(&x.shape, index, batch)?;
    let depth = index.shape.last().copied().unwrap_or(0);
    let lead = &index.shape[..index.shape.len() - 1];
    let shape: Vec<usize> = lead.iter().chain(&x.shape[batch + depth..]).copied().collect();
    checked_len(&shape)?;
    Ok(x.pick(shape, offsets.into_iter().flat_map(|o| o..o + width))?)
}

fn combine(c: &Call<'_>, x: &TensorF, targets: &[usize], updates: &TensorF) -> Result<TensorF, OpError> {
    let reduction = c.node.attrs.str("reduction")?.unwrap_or("none").to_owned();
    if !matches!(reduction.as_str(), "none" | "add" | "mul" | "max" | "min") {
        return Err(format!("reduction `{reduction}`").into());
    }
    let mut out = x.clone();
    match (&mut out.data, &updates.data) {
        (Data::F(v), Data::F(u)) => {
            for (&t, &u) in targets.iter().zip(u) {
                v[t] = x.dtype.round(match reduction.as_str() {
                    "add" => v[t] + u,
                    "mul" => v[t] * u,
                    "max" => v[t].max(u),
                    "min" => v[t].min(u),
                    _ => u,
                });
            }
        }
        (Data::I(v), Data::I(u)) => {
            for (&t, &u) in targets.iter().zip(u) {
                v[t] = x.dtype.wrap(match reduction.as_str() {
                    "add" => v[t].wrapping_add(u),
                    "mul" => v[t].wrapping_mul(u),
                    "max" if x.dtype.order_key(v[t]) > x.dtype.order_key(u) => v[t],
                    "min" if x.dtype.order_key(v[t]) < x.dtype.order_key(u) => v[t],
                    _ => u,
                });
            }
        }
        _ => return Err(format!("updates of type {} for {}", updates.dtype, x.dtype).into()),
    }
    Ok(out)
}

pub(super) fn scatter_elements(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, index, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let axis = normal_axis(c.node.attrs.int_or("axis", 0)?, x.shape.len())?;
    if updates.shape != index.shape {
        return Err(format!("updates {:?} for indices {:?}", updates.shape, index.shape).into());
    }
    combine(c, x, &element_targets(&x.shape, index, axis)?, updates)
}

pub(super) fn scatter_nd(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, index, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let (offsets, width) = slices(&x.shape, index, 0)?;
    if updates.len() != offsets.len() * width {
        return Err(format!("updates {:?} for indices {:?}", updates.shape, index.shape).into());
    }
    let targets: Vec<usize> = offsets.into_iter().flat_map(|o| o..o + width).collect();
    combine(c, x, &targets, updates)
}

pub(super) fn one_hot(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (index, depth, values) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let depth = depth.single().filter(|d| *d >= 1.0).ok_or("`depth` is not a positive scalar")? as usize;
    if values.len() != 2 {
        return Err("`values` is not a pair".into());
    }
    let axis = normal_axis(c.node.attrs.int_or("axis", -1)?, index.shape.len() + 1)?;
    let mut shape = index.shape.clone();
    shape.insert(axis, depth);
    let n = checked_len(&shape)?;
    let steps = strides(&index.shape);
    let index_values = index.to_i64();
    let picks = (0..n).map(|flat| {
        let mut at = position(flat, &shape);
        let k = at.remove(axis) as i64;
        let i = index_values[at.iter().zip(&steps).map(|(a, s)| a * s).sum::<usize>()];
        let i = if i < 0 { i.saturating_add(depth as i64) } else { i };
        usize::from(i == k)
    });
    Ok(values.pick(shape.clone(), picks)?)
}

pub(super) fn non_zero(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let hits: Vec<Vec<usize>> =
        (0..x.len()).filter(|&i| x.at(i) != 0.0).map(|i| position(i, &x.shape)).collect();
    let data = (0..x.shape.len()).flat_map(|d| hits.iter().map(move |h| h[d] as i64)).collect();
    Ok(TensorF::int(vec![x.shape.len(), hits.len()], DType::I64, data)?)
}

pub(super) fn top_k(c: &Call<'_>) -> Outputs {
    let x = c.input(0)?;
    let k = match c.opt(1) {
        Some(t) => t.to_i64().first().copied(),
        None => c.node.attrs.int("k")?,
    };
    let axis = normal_axis(c.node.attrs.int_or("axis", -1)?, x.shape.len())?;
    let d = x.shape[axis];
    let k = k.and_then(|k| usize::try_from(k).ok()).filter(|k| *k <= d);
    let k = k.ok_or_else(|| format!("`k` is missing or past the length {d}"))?;
    let largest = c.node.attrs.int_or("largest", 1)? != 0;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let mut shape = x.shape.clone();
    shape[axis] = k;
    let n = checked_len(&shape)?;
    let (mut picks, mut indices) = (vec![0usize; n], vec![0i64; n]);
    for o in 0..x.shape[..axis].iter().product::<usize>() {
        for i in 0..inner {
            let at = |j: usize| (o * d + j) * inner + i;
            let mut order: Vec<usize> = (0..d).collect();
            order.sort_by(|&a, &b| {
                let by = match &x.data {
                    Data::F(v) => v[at(a)].partial_cmp(&v[at(b)]).unwrap_or(Ordering::Equal),
                    Data::I(v) => x.dtype.order_key(v[at(a)]).cmp(&x.dtype.order_key(v[at(b)])),
                };
                if largest { by.reverse() } else { by }
            });
            for (j, &s) in order.iter().take(k).enumerate() {
                picks[(o * k + j) * inner + i] = at(s);
                indices[(o * k + j) * inner + i] = s as i64;
            }
        }
    }
    let values = x.pick(shape.clone(), picks.into_iter())?;
    Ok(vec![Some(values), Some(TensorF::int(shape, DType::I64, indices)?)])
}
