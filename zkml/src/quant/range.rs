//! Ranges of values over the calibration data.

use crate::float;
use crate::onnx::{Data, Model, TensorF, ValueId};

use super::error::QuantError;

/// Least and greatest observed value of every tensor of a model.
pub(super) struct Ranges {
    seen: Vec<Option<(f64, f64)>>,
    /// Whether a value took the place of minus or plus infinity.
    infinite: Vec<(bool, bool)>,
}

/// Magnitudes from which a value stands for infinity, as in masks.
pub(super) const INFINITE: f64 = 1e9;

/// What stands in for infinity where a constant is infinite or a mask's large number.
pub(super) const FILL: f64 = 65536.0;

impl Ranges {
    /// Runs the float model on every sample.
    pub(super) fn measure(model: &Model, samples: &[Vec<TensorF>]) -> Result<Ranges, QuantError> {
        let mut ranges = vec![None; model.values.len()];
        let mut infinite = vec![(false, false); model.values.len()];
        for (sample, inputs) in samples.iter().enumerate() {
            let values =
                float::run_all(model, inputs).map_err(|source| QuantError::Calibration { sample, source })?;
            for (i, slot) in ranges.iter_mut().enumerate() {
                let Some(t) = values.get(ValueId(i as u32)) else { continue };
                let constant = model.values[i].constant.is_some();
                let mut add = |v: f64| {
                    let (lo, hi) = slot.unwrap_or((v, v));
                    *slot = Some((lo.min(v), hi.max(v)));
                };
                match &t.data {
                    Data::I(v) => v.iter().for_each(|&v| add(v as f64)),
                    Data::F(v) => {
                        if let Some(bad) = v.iter().find(|v| v.is_nan())
                            && !constant
                        {
                            return Err(QuantError::NotFinite {
                                layer: model.values[i].name.clone(),
                                value: bad.to_string(),
                                sample,
                            });
                        }
                        // Infinities and the large numbers that masks use in their place say nothing about precision.
                        v.iter().filter(|v| v.abs() < INFINITE).for_each(|&v| add(v));
                        infinite[i].0 |= v.iter().any(|v| *v <= -INFINITE);
                        infinite[i].1 |= v.iter().any(|v| *v >= INFINITE);
                    }
                }
            }
        }
        Ok(Ranges { seen: ranges, infinite })
    }

    /// Observed range.
    pub(super) fn observed(&self, v: ValueId) -> Option<(f64, f64)> {
        self.seen.get(v.index()).copied().flatten()
    }

    /// Range that is allowed for: the observed magnitude times the headroom, at least `floor`, to both sides.
    pub(super) fn allowed(&self, v: ValueId, headroom: f64, floor: f64) -> Option<(f64, f64)> {
        let (lo, hi) = self.observed(v)?;
        let m = (lo.abs().max(hi.abs()) * headroom).max(floor);
        let (below, above) = self.infinite[v.index()];
        Some((if below { -m - FILL } else { -m }, if above { m + FILL } else { m }))
    }
}

/// Inputs for a model without calibration data: zeros, and values spread evenly over [0, 1] and [−1, 1].
pub(super) fn default_samples(model: &Model) -> Vec<Vec<TensorF>> {
    let make = |kind: usize| {
        model
            .input_values()
            .map(|v| {
                let n: usize = v.shape.iter().product();
                // A full-period sequence: spread evenly, the same on every machine.
                let unit = |i: usize| ((i as f64 + 1.0) * 0.618_033_988_749_895).fract();
                let data = if v.dtype.is_float() {
                    Data::F(
                        (0..n)
                            .map(|i| {
                                v.dtype.round(match kind {
                                    0 => 0.0,
                                    1 => unit(i),
                                    _ => 2.0 * unit(i) - 1.0,
                                })
                            })
                            .collect(),
                    )
                } else {
                    let bit = |i: usize| i64::from(kind > 0 && unit(i) > 0.5);
                    Data::I((0..n).map(bit).collect())
                };
                TensorF { shape: v.shape.clone(), dtype: v.dtype, data }
            })
            .collect()
    };
    (0..3).map(make).collect()
}
