//! Tables for functions of one variable.

use std::sync::Arc;

use crate::qir::OpKind;
use crate::qir::TensorId;

use super::builder::exp2;

/// A function of many points at once.
pub(super) type Sampler<'a> = dyn Fn(&[f64]) -> Vec<f64> + 'a;

/// A table with what it is known to give.
pub(super) struct Table {
    pub kind: OpKind,
    pub lo: i128,
    pub hi: i128,
    /// Largest deviation from the function, in units of the output.
    pub error: f64,
}

/// Sizes of tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableLimits {
    /// Entries of a direct table.
    pub lookup: i64,
    /// Knots of a piecewise linear one.
    pub knots: i64,
}

/// Points inside a segment at which interpolation is compared with the function.
const PROBES: usize = 8;
/// Greatest result, in units of the output.
const MAX_VALUE: f64 = (1u64 << 50) as f64;

/// A table of `f` on `[lo, hi] / 2^x_scale` with results of `out_scale` fraction bits: direct where it is small, else piecewise linear with
/// the widest distance of knots whose error stays below `tolerance` units, else the narrowest that the limits allow. `None` where the
/// function is not finite somewhere.
pub(super) fn build(
    f: &Sampler<'_>,
    x: TensorId,
    (lo, hi): (i64, i64),
    x_scale: i32,
    out_scale: i32,
    tolerance: f64,
    limits: TableLimits,
) -> Option<Table> {
    if hi - lo < limits.lookup {
        let points: Vec<f64> = (lo..=hi).map(|v| v as f64 * exp2(-x_scale)).collect();
        let values = scaled(f, &points, out_scale)?;
        let table: Vec<i64> = values.iter().map(|v| v.round() as i64).collect();
        let (lo, hi) = extent(&table);
        return Some(Table { kind: OpKind::Lookup { x, table: table.into() }, lo, hi, error: 0.5 });
    }
    let mut best: Option<(u32, Fit)> = None;
    let widest = 63 - (hi - lo).leading_zeros();
    for step in (1..=widest).rev() {
        if (hi >> step) - (lo >> step) + 1 > limits.knots {
            break;
        }
        let fit = fit(f, (lo, hi), step, x_scale, out_scale)?;
        let good = fit.error <= tolerance;
        best = Some((step, fit));
        if good {
            break;
        }
    }
    let (step, fit) = best?;
    let guard = 3u32;
    let g = f64::from(1u32 << guard);
    let values: Arc<[i64]> = fit.values.iter().map(|v| (v * g).round() as i64).collect();
    let slopes: Arc<[i64]> = fit.slopes.iter().map(|v| (v * g).round() as i64).collect();
    let half = 1i128 << (step + guard - 1);
    let last = (1i128 << step) - 1;
    let (mut min, mut max) = (i128::MAX, i128::MIN);
    for (&v, &s) in values.iter().zip(slopes.iter()) {
        for rem in [0, last] {
            let y = ((i128::from(v) << step) + i128::from(s) * rem + half) >> (step + guard);
            (min, max) = (min.min(y), max.max(y));
        }
    }
    let kind = OpKind::Interpolate { x, step, guard, first_key: lo >> step, values, slopes };
    Some(Table { kind, lo: min, hi: max, error: fit.error + 0.5 + 0.13 })
}

/// Pieces that [`hopeless`] looks at.
const SAMPLED: i64 = 32;

/// Whether a few pieces of the finest table that the limits allow show already that its error is above `most`.
pub(super) fn hopeless(
    f: &Sampler<'_>,
    (lo, hi): (i64, i64),
    x_scale: i32,
    out_scale: i32,
    most: f64,
    limits: TableLimits,
) -> bool {
    if hi - lo < limits.lookup {
        return false;
    }
    let widest = 63 - (hi - lo).leading_zeros();
    let finest = (1..=widest).find(|step| (hi >> step) - (lo >> step) < limits.knots);
    let Some(step) = finest else { return false };
    let keys = (hi >> step) - (lo >> step) + 1;
    (0..SAMPLED).any(|i| {
        let key = (lo >> step) + keys * i / SAMPLED;
        let piece = ((key << step).max(lo), ((key << step) + (1 << step) - 1).min(hi));
        match fit(f, piece, step, x_scale, out_scale) {
            Some(fit) => fit.error + 0.5 > most,
            None => true,
        }
    })
}

struct Fit {
    values: Vec<f64>,
    slopes: Vec<f64>,
    error: f64,
}

/// The secant of every segment, moved by half of its greatest deviation: the best line for a function that bends one way.
fn fit(f: &Sampler<'_>, (lo, hi): (i64, i64), step: u32, x_scale: i32, out_scale: i32) -> Option<Fit> {
    let keys = (lo >> step)..=(hi >> step);
    let width = 1i64 << step;
    let mut points = Vec::new();
    for k in keys.clone() {
        // Only what the input can be: a knot outside may be where the function is not defined.
        let (from, to) = ((k << step).max(lo), ((k << step) + width).min(hi));
        let span = (to - from) as f64;
        points.extend((0..=PROBES).map(|i| {
            let at = from as f64 + (span * i as f64 / PROBES as f64).floor();
            at * exp2(-x_scale)
        }));
    }
    let samples = scaled(f, &points, out_scale)?;
    let (mut values, mut slopes, mut error) = (Vec::new(), Vec::new(), 0f64);
    for (k, (y, x)) in keys.zip(samples.chunks_exact(PROBES + 1).zip(points.chunks_exact(PROBES + 1))) {
        let run = (x[PROBES] - x[0]) * exp2(x_scale);
        let slope = if run == 0.0 { 0.0 } else { (y[PROBES] - y[0]) / run };
        let deviations = x.iter().zip(y).map(|(at, v)| v - (y[0] + slope * (at - x[0]) * exp2(x_scale)));
        let (mut a, mut b) = (0f64, 0f64);
        deviations.for_each(|d| (a, b) = (a.min(d), b.max(d)));
        error = error.max((b - a) / 2.0);
        let knot = (k << step) as f64;
        values.push(y[0] + (a + b) / 2.0 - slope * (x[0] * exp2(x_scale) - knot));
        slopes.push(slope * width as f64);
    }
    Some(Fit { values, slopes, error })
}

fn scaled(f: &Sampler<'_>, points: &[f64], out_scale: i32) -> Option<Vec<f64>> {
    let v: Vec<f64> = f(points).into_iter().map(|v| v * exp2(out_scale)).collect();
    (v.len() == points.len() && v.iter().all(|v| v.is_finite() && v.abs() < MAX_VALUE)).then_some(v)
}

fn extent(v: &[i64]) -> (i128, i128) {
    (v.iter().min().map_or(0, |v| (*v).into()), v.iter().max().map_or(0, |v| (*v).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TableLimits = TableLimits { lookup: 1 << 10, knots: 1 << 10 };

    fn value(kind: &OpKind, v: i64) -> i64 {
        match kind {
            OpKind::Lookup { table, .. } => table[(v + 512) as usize],
            OpKind::Interpolate { step, guard, first_key, values, slopes, .. } => {
                let key = v >> step;
                let i = (key - first_key) as usize;
                let acc = (values[i] << step) + slopes[i] * (v - (key << step)) + (1 << (step + guard - 1));
                acc >> (step + guard)
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_sigmoid_is_exact_to_a_unit() {
        let f = |x: &[f64]| x.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect::<Vec<_>>();
        let (lo, hi) = (-(1i64 << 17), (1 << 17) - 1);
        let t = build(&f, TensorId(0), (lo, hi), 14, 14, 0.5, LIMITS).unwrap();
        assert!(t.error < 1.2);
        for v in (lo..=hi).step_by(37) {
            let want = f(&[v as f64 / 16384.0])[0] * 16384.0;
            assert!((value(&t.kind, v) as f64 - want).abs() <= t.error, "at {v}");
        }
        assert!(t.lo >= -1 && t.hi <= 16385);
    }

    #[test]
    fn small_domains_are_looked_up() {
        let f = |x: &[f64]| x.iter().map(|x| x * x).collect::<Vec<_>>();
        let t = build(&f, TensorId(0), (-512, 511), 9, 9, 0.5, LIMITS).unwrap();
        assert!(matches!(t.kind, OpKind::Lookup { .. }));
        assert_eq!(value(&t.kind, -512), 512);
    }

    #[test]
    fn poles_have_no_table() {
        let f = |x: &[f64]| x.iter().map(|x| 1.0 / x).collect::<Vec<_>>();
        assert!(build(&f, TensorId(0), (-(1 << 12), 1 << 12), 12, 12, 0.5, LIMITS).is_none());
    }
}
