//! Normalisations.

use crate::onnx::TensorF;

use super::reduce::{grouped, normal_axis};
use super::{Call, OpError, Outputs};

pub(super) fn normalise(c: &Call<'_>) -> Outputs {
    let y = normalised(c)?;
    let mut out = vec![Some(y)];
    if c.node.op == "LayerNormalization" && c.node.outputs.len() > 1 {
        // Mean and reciprocal of the standard deviation, with axes kept.
        let x = c.input(0)?;
        let axis = normal_axis(c.node.attrs.int_or("axis", -1)?, x.shape.len())?;
        let axes: Vec<usize> = (axis..x.shape.len()).collect();
        let eps = c.node.attrs.float_or("epsilon", 1e-5)?;
        let (shape, groups) = grouped(&x.shape, &axes, true);
        let stats = groups.iter().map(|g| {
            let n = g.len() as f64;
            let mean = g.iter().map(|&i| x.at(i)).sum::<f64>() / n;
            let var = g.iter().map(|&i| (x.at(i) - mean).powi(2)).sum::<f64>() / n;
            (x.dtype.round(mean), x.dtype.round(1.0 / (var + eps).sqrt()))
        });
        let (mean, inverse) = stats.unzip();
        out.push(Some(TensorF::float(shape.clone(), x.dtype, mean)?));
        out.push(Some(TensorF::float(shape, x.dtype, inverse)?));
    }
    out.resize(c.node.outputs.len().max(out.len()), None);
    Ok(out)
}

fn normalised(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let rank = x.shape.len();
    let a = &c.node.attrs;
    if !x.dtype.is_float() || rank == 0 {
        return Err(format!("operand of type {} and shape {:?}", x.dtype, x.shape).into());
    }
    if c.node.op != "LayerNormalization" && c.node.outputs.iter().skip(1).any(Option::is_some) {
        return Err(OpError::Unsupported("statistics of a normalisation are wanted as outputs".into()));
    }
    if rank < 2 && matches!(c.node.op.as_str(), "InstanceNormalization" | "GroupNormalization") {
        return Err(format!("operand of shape {:?} has no channels", x.shape).into());
    }
    let channels = if rank > 1 { x.shape[1] } else { 1 };
    let inner: usize = x.shape.iter().skip(2).product();
    let v = x.to_f64();
    let per_channel = |i: usize, k: usize| -> Result<f64, OpError> {
        let t = c.input(i)?;
        if t.len() != channels {
            return Err(format!("operand {i} has {} values for {channels} channels", t.len()).into());
        }
        Ok(t.at(k / inner.max(1) % channels))
    };
    let out: Vec<f64> = match c.node.op.as_str() {
        "BatchNormalization" => {
            if a.int_or("training_mode", 0)? != 0 {
                return Err(OpError::Unsupported("training mode".into()));
            }
            let eps = a.float_or("epsilon", 1e-5)?;
            (0..v.len())
                .map(|k| {
                    let (s, b) = (per_channel(1, k)?, per_channel(2, k)?);
                    let (m, var) = (per_channel(3, k)?, per_channel(4, k)?);
                    Ok((v[k] - m) / (var + eps).sqrt() * s + b)
                })
                .collect::<Result<_, OpError>>()?
        }
        "InstanceNormalization" => {
            let eps = a.float_or("epsilon", 1e-5)?;
            let axes: Vec<usize> = (2..rank).collect();
            let n = standard(&v, grouped(&x.shape, &axes, true).1, eps, true);
            (0..v.len())
                .map(|k| Ok(n[k] * per_channel(1, k)? + per_channel(2, k)?))
                .collect::<Result<_, OpError>>()?
        }
        "GroupNormalization" => {
            let eps = a.float_or("epsilon", 1e-5)?;
            let groups = a.int("num_groups")?.and_then(|g| usize::try_from(g).ok()).filter(|&g| g > 0);
            let groups =
                groups.filter(|g| channels % g == 0).ok_or("`num_groups` does not divide the channels")?;
            let split: Vec<usize> = [x.shape[0], groups, channels / groups]
                .into_iter()
                .chain(x.shape[2..].iter().copied())
                .collect();
            let axes: Vec<usize> = (2..split.len()).collect();
            let n = standard(&v, grouped(&split, &axes, true).1, eps, true);
            let scale = |i: usize, k: usize| -> Result<f64, OpError> {
                let t = c.input(i)?;
                if t.len() == groups && c.node.version < 21 {
                    return Ok(t.at(k / inner.max(1) % channels / (channels / groups)));
                }
                per_channel(i, k)
            };
            (0..v.len()).map(|k| Ok(n[k] * scale(1, k)? + scale(2, k)?)).collect::<Result<_, OpError>>()?
        }
        "MeanVarianceNormalization" => {
            let axes = a.ints("axes")?.unwrap_or(&[0, 2, 3]);
            let axes = axes.iter().map(|&d| normal_axis(d, rank)).collect::<Result<Vec<_>, _>>()?;
            standard(&v, grouped(&x.shape, &axes, true).1, 1e-9, true)
        }
        op => {
            let eps = a.float_or("epsilon", 1e-5)?;
            let axis = normal_axis(a.int_or("axis", -1)?, rank)?;
            let axes: Vec<usize> = (axis..rank).collect();
            let n = standard(&v, grouped(&x.shape, &axes, true).1, eps, op == "LayerNormalization");
            let scale = c.input(1)?.broadcast_to(&x.shape)?;
            let bias = c.opt(2).map(|b| b.broadcast_to(&x.shape)).transpose()?;
            (0..v.len()).map(|k| n[k] * scale.at(k) + bias.as_ref().map_or(0.0, |b| b.at(k))).collect()
        }
    };
    Ok(TensorF::float(x.shape.clone(), x.dtype, out.into_iter().map(|v| x.dtype.round(v)).collect())?)
}

/// (x − mean) / √(variance + ε) per group; without `centre`, x / √(mean square + ε).
fn standard(v: &[f64], groups: Vec<Vec<usize>>, eps: f64, centre: bool) -> Vec<f64> {
    let mut out = vec![0.0; v.len()];
    for g in groups {
        let n = g.len() as f64;
        let mean = if centre { g.iter().map(|&i| v[i]).sum::<f64>() / n } else { 0.0 };
        let var = g.iter().map(|&i| (v[i] - mean).powi(2)).sum::<f64>() / n;
        let s = (var + eps).sqrt();
        g.iter().for_each(|&i| out[i] = (v[i] - mean) / s);
    }
    out
}
