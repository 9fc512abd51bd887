//! ONNX's own quantised operators.

use crate::onnx::{DType, TensorF};

use super::linalg::{centred, conv_values, product};
use super::reduce::normal_axis;
use super::{Call, OpError, special};

/// Value of a scalar or per-axis parameter for flat element `k`.
fn along(t: &TensorF, shape: &[usize], axis: usize, k: usize) -> f64 {
    if t.len() == 1 {
        return t.at(0);
    }
    let inner: usize = shape[axis + 1..].iter().product();
    t.at(k / inner.max(1) % t.len())
}

/// A parameter is one number, or one per index of an axis.
fn fits(t: &TensorF, shape: &[usize], axis: usize) -> Result<(), OpError> {
    if t.len() == 1 || shape.get(axis) == Some(&t.len()) {
        return Ok(());
    }
    Err(format!("{} scales or zero points for axis {axis} of {shape:?}", t.len()).into())
}

/// The axis of scale and zero point, which are checked against it.
fn axis_for(c: &Call<'_>, scale: &TensorF, shape: &[usize]) -> Result<usize, OpError> {
    let zero = c.opt(2).unwrap_or(scale);
    if scale.len() == 1 && zero.len() == 1 {
        return Ok(0);
    }
    let axis = normal_axis(c.node.attrs.int_or("axis", 1)?, shape.len())?;
    if scale.shape.len() > 1 || c.node.attrs.int_or("block_size", 0)? != 0 {
        return Err(OpError::Unsupported("blocked quantisation".into()));
    }
    fits(scale, shape, axis)?;
    fits(zero, shape, axis)?;
    Ok(axis)
}

/// ⌊v⌉ + zero, saturated to the type.
fn saturate(v: f64, zero: f64, dtype: DType) -> Result<i64, OpError> {
    let (lo, hi) =
        dtype.int_bounds().ok_or_else(|| OpError::Unsupported(format!("quantised type {dtype}")))?;
    Ok((special::round(v) + zero).clamp(lo as f64, hi as f64) as i64)
}

pub(super) fn quantized(c: &Call<'_>) -> Result<TensorF, OpError> {
    match c.node.op.as_str() {
        "QuantizeLinear" => {
            let (x, scale) = (c.input(0)?, c.input(1)?);
            let axis = axis_for(c, scale, &x.shape)?;
            let dtype = match c.opt(2) {
                Some(z) => z.dtype,
                None => match c.node.attrs.int_or("output_dtype", 0)? {
                    0 => DType::U8,
                    code => {
                        i32::try_from(code).ok().and_then(DType::from_onnx).ok_or("unknown output_dtype")?
                    }
                },
            };
            let zero = |k: usize| c.opt(2).map_or(0.0, |z| along(z, &x.shape, axis, k));
            let v = x.to_f64();
            let q = (0..v.len())
                .map(|k| saturate(x.dtype.round(v[k] / along(scale, &x.shape, axis, k)), zero(k), dtype));
            let q = q.collect::<Result<Vec<_>, _>>()?;
            Ok(TensorF::int(x.shape.clone(), dtype, q)?)
        }
        "DequantizeLinear" => {
            let (x, scale) = (c.input(0)?, c.input(1)?);
            let axis = axis_for(c, scale, &x.shape)?;
            let v = x.to_f64();
            let r = (0..v.len())
                .map(|k| {
                    let zero = c.opt(2).map_or(0.0, |z| along(z, &x.shape, axis, k));
                    scale.dtype.round((v[k] - zero) * along(scale, &x.shape, axis, k))
                })
                .collect();
            Ok(TensorF::float(x.shape.clone(), scale.dtype, r)?)
        }
        op => {
            // Operands a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero [, bias].
            let (a, b) = (c.input(0)?, c.input(3)?);
            let (sa, sb, sy, zy) = (c.input(1)?, c.input(4)?, c.input(6)?, c.input(7)?);
            if sa.len() != 1 || sy.len() != 1 || zy.len() != 1 {
                return Err(OpError::Unsupported("activation scales per axis".into()));
            }
            let matmul = op == "QLinearMatMul";
            let b_axis = if matmul { b.shape.len().saturating_sub(1) } else { 0 };
            let x = centred(a, c.opt(2), 0)?;
            let w = centred(b, c.opt(5), b_axis)?;
            let (shape, acc) = if matmul {
                product(&a.shape, &x, &b.shape, &w)?
            } else {
                let bias = c.opt(8).map(TensorF::to_f64);
                conv_values(c.node, &a.shape, &x, &b.shape, &w, bias.as_deref())?
            };
            let out_axis = if matmul { shape.len().saturating_sub(1) } else { 1 };
            fits(sb, &shape, out_axis)?;
            let q = acc
                .iter()
                .enumerate()
                .map(|(k, &v)| {
                    let m = sa.at(0) * along(sb, &shape, out_axis, k) / sy.at(0);
                    saturate(DType::F32.round(v * DType::F32.round(m)), zy.at(0), zy.dtype)
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok(TensorF::int(shape, zy.dtype, q)?)
        }
    }
}
