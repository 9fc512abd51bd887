//! Resize and Upsample: nearest, linear and cubic.

use crate::onnx::{Data, TensorF, checked_len, strides};

use super::reduce::normal_axis;
use super::{Call, OpError};

/// For every axis and output position, the source positions with their weights.
pub(crate) type Mix = Vec<Vec<Vec<(usize, f64)>>>;

/// The interpolation of a node on an operand of shape `shape`.
pub(crate) fn mix(c: &Call<'_>, shape: &[usize]) -> Result<Mix, OpError> {
    let a = &c.node.attrs;
    let rank = shape.len();
    let upsample = c.node.op == "Upsample";
    let mode = a.str("mode")?.unwrap_or("nearest").to_owned();
    let (scale_at, size_at) = if upsample || c.node.version < 11 { (1, usize::MAX) } else { (2, 3) };
    let some = |i: usize| c.opt(i).filter(|t| !t.is_empty());
    let axes: Vec<usize> = match a.ints("axes")? {
        Some(v) => v.iter().map(|&d| normal_axis(d, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let mut scales = vec![1.0; rank];
    let mut sizes = shape.to_vec();
    let given = match some(scale_at) {
        Some(t) => Some(t.to_f64()),
        None => a.floats("scales")?.map(<[f64]>::to_vec),
    };
    if let Some(s) = given {
        if s.len() != axes.len() || s.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(format!("scales {s:?} for {shape:?}").into());
        }
        for (&d, s) in axes.iter().zip(s) {
            scales[d] = s;
            sizes[d] = (shape[d] as f64 * s).floor() as usize;
        }
    } else if let Some(t) = some(size_at) {
        let s = super::movement::dims(&t.to_i64())?;
        if s.len() != axes.len() {
            return Err(format!("sizes {s:?} for {shape:?}").into());
        }
        let ratios: Vec<f64> = axes.iter().zip(&s).map(|(&d, &s)| s as f64 / shape[d] as f64).collect();
        let common = match a.str("keep_aspect_ratio_policy")?.unwrap_or("stretch") {
            "stretch" => None,
            "not_larger" => ratios.iter().copied().reduce(f64::min),
            "not_smaller" => ratios.iter().copied().reduce(f64::max),
            other => return Err(format!("keep_aspect_ratio_policy `{other}`").into()),
        };
        for ((&d, s), ratio) in axes.iter().zip(s).zip(ratios) {
            scales[d] = common.unwrap_or(ratio);
            sizes[d] = common.map_or(s, |c| (c * shape[d] as f64).round() as usize);
        }
    } else {
        return Err("neither scales nor sizes are given".into());
    }
    checked_len(&sizes)?;
    // Upsample, and Resize of version 10, have neither attribute: positions are rounded down, in a shorter result up.
    let old = upsample || c.node.version < 11;
    let default = if old { "asymmetric" } else { "half_pixel" };
    let transform = a.str("coordinate_transformation_mode")?.unwrap_or(default).to_owned();
    let rounding =
        a.str("nearest_mode")?.unwrap_or(if old { "simple" } else { "round_prefer_floor" }).to_owned();
    if a.int_or("antialias", 0)? != 0 {
        return Err(OpError::Unsupported("antialias".into()));
    }
    (0..rank)
        .map(|d| {
            // The length before it was rounded down is what coordinates are computed with.
            let (n, m) = (shape[d] as f64, shape[d] as f64 * scales[d]);
            (0..sizes[d])
                .map(|i| {
                    let i = i as f64;
                    if sizes[d] == shape[d] && scales[d] == 1.0 {
                        return Ok(vec![(i as usize, 1.0)]);
                    }
                    let x = match transform.as_str() {
                        "half_pixel" => (i + 0.5) / scales[d] - 0.5,
                        "pytorch_half_pixel" if sizes[d] > 1 => (i + 0.5) / scales[d] - 0.5,
                        "pytorch_half_pixel" => 0.0,
                        "half_pixel_symmetric" => {
                            let adjust = sizes[d] as f64 / (scales[d] * n);
                            n / 2.0 * (1.0 - adjust) + (i + 0.5) / scales[d] - 0.5
                        }
                        "align_corners" if sizes[d] > 1 => i * (n - 1.0) / (m - 1.0),
                        "align_corners" => 0.0,
                        "asymmetric" => i / scales[d],
                        other => {
                            return Err(OpError::Unsupported(format!(
                                "coordinate_transformation_mode `{other}`"
                            )));
                        }
                    };
                    match mode.as_str() {
                        "nearest" => {
                            let at = match rounding.as_str() {
                                "floor" => x.floor(),
                                "simple" if scales[d] < 1.0 => x.ceil(),
                                "simple" => x.floor(),
                                "ceil" => x.ceil(),
                                "round_prefer_ceil" => (x + 0.5).floor(),
                                "round_prefer_floor" => (x - 0.5).ceil(),
                                other => return Err(format!("nearest_mode `{other}`").into()),
                            };
                            Ok(vec![(at.clamp(0.0, n - 1.0) as usize, 1.0)])
                        }
                        "linear" | "bilinear" => {
                            let x = x.clamp(0.0, n - 1.0);
                            let (lo, f) = (x.floor(), x - x.floor());
                            let mut list = vec![(lo as usize, 1.0 - f)];
                            if f > 0.0 {
                                list.push((lo as usize + 1, f));
                            }
                            Ok(list)
                        }
                        "cubic" => {
                            let k = a.float_or("cubic_coeff_a", -0.75)?;
                            let (base, f) = (x.floor(), x - x.floor());
                            let far = |t: f64| ((k * t - 5.0 * k) * t + 8.0 * k) * t - 4.0 * k;
                            let near = |t: f64| ((k + 2.0) * t - (k + 3.0)) * t * t + 1.0;
                            let weights = [far(f + 1.0), near(f), near(1.0 - f), far(2.0 - f)];
                            let exclude = a.int_or("exclude_outside", 0)? != 0;
                            let taps =
                                weights.into_iter().enumerate().map(|(i, w)| (base + i as f64 - 1.0, w));
                            let taps: Vec<(f64, f64)> =
                                taps.filter(|(p, _)| !exclude || (0.0..n).contains(p)).collect();
                            let total: f64 = taps.iter().map(|t| t.1).sum();
                            let total = if exclude { total } else { 1.0 };
                            Ok(taps
                                .iter()
                                .map(|(p, w)| (p.clamp(0.0, n - 1.0) as usize, w / total))
                                .collect())
                        }
                        other => Err(OpError::Unsupported(format!("mode `{other}`"))),
                    }
                })
                .collect()
        })
        .collect()
}

/// Source elements with weights of every output element, row-major.
pub(crate) fn combinations(mix: &Mix, shape: &[usize]) -> Vec<Vec<(usize, f64)>> {
    let steps = strides(shape);
    let mut out = vec![vec![(0usize, 1.0f64)]];
    for (axis, s) in mix.iter().zip(steps) {
        out = out
            .iter()
            .flat_map(|base| {
                axis.iter().map(move |list| {
                    base.iter()
                        .flat_map(|&(i, w)| list.iter().map(move |&(j, v)| (i + j * s, w * v)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
    }
    out
}

pub(super) fn resize(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    if x.shape.contains(&0) {
        return Err("the operand is empty".into());
    }
    let m = mix(c, &x.shape)?;
    let shape: Vec<usize> = m.iter().map(Vec::len).collect();
    let picks = combinations(&m, &x.shape);
    let data = match &x.data {
        Data::F(v) => {
            Data::F(picks.iter().map(|l| x.dtype.round(l.iter().map(|&(i, w)| v[i] * w).sum())).collect())
        }
        Data::I(v) => {
            if picks.iter().any(|l| l.len() > 1) {
                return Err("linear resize of integers".into());
            }
            Data::I(picks.iter().map(|l| l.first().map_or(0, |&(i, _)| v[i])).collect())
        }
    };
    Ok(TensorF::new(shape, x.dtype, data)?)
}
