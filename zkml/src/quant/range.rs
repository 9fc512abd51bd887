//! Ranges of values over the calibration data.

use rayon::prelude::*;

use crate::float;
use crate::onnx::{Data, Model, TensorF, ValueId};

use super::error::QuantError;

/// Least and greatest observed value of every tensor of a model.
#[derive(Clone)]
pub(super) struct Ranges {
    seen: Vec<Option<(f64, f64)>>,
    /// Whether a value took the place of minus or plus infinity.
    infinite: Vec<(bool, bool)>,
}

/// The range that calibration saw of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueRange {
    /// Its number in the rewritten graph.
    pub value: u32,
    /// Its name.
    pub name: String,
    /// Least.
    pub lo: f64,
    /// Greatest.
    pub hi: f64,
    /// Whether minus infinity, or a mask's number in its place, was among the values.
    pub below: bool,
    /// The same for plus infinity.
    pub above: bool,
}

/// Magnitudes from which a value stands for infinity, as in masks.
pub(super) const INFINITE: f64 = 1e9;

/// What stands in for infinity where a constant is infinite or a mask's large number.
pub(super) const FILL: f64 = 65536.0;

impl Ranges {
    /// Runs the float model on every sample.
    pub(super) fn measure(model: &Model, samples: &[Vec<TensorF>]) -> Result<Ranges, QuantError> {
        let parts = samples.par_iter().enumerate().map(|(sample, inputs)| {
            let mut ranges = vec![None; model.values.len()];
            let mut infinite = vec![(false, false); model.values.len()];
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
                    Data::I(v) => v.iter().for_each(|&v| add(t.dtype.real(v))),
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
            Ok(Ranges { seen: ranges, infinite })
        });
        let nothing = || {
            Ok(Ranges {
                seen: vec![None; model.values.len()],
                infinite: vec![(false, false); model.values.len()],
            })
        };
        parts.reduce(nothing, |a, b| Ok(a?.merge(b?)))
    }

    fn merge(mut self, other: Ranges) -> Ranges {
        for (a, b) in self.seen.iter_mut().zip(other.seen) {
            *a = match (*a, b) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            };
        }
        for (a, b) in self.infinite.iter_mut().zip(other.infinite) {
            *a = (a.0 || b.0, a.1 || b.1);
        }
        self
    }

    /// Ranges as they were measured before, of the same model.
    pub(super) fn restore(model: &Model, list: &[ValueRange]) -> Result<Ranges, QuantError> {
        let mut ranges = Ranges {
            seen: vec![None; model.values.len()],
            infinite: vec![(false, false); model.values.len()],
        };
        for r in list {
            let at = r.value as usize;
            let same = model.values.get(at).is_some_and(|v| v.name == r.name && v.constant.is_none());
            let ordered = r.lo.is_finite() && r.hi.is_finite() && r.lo <= r.hi;
            if !(same && ordered) {
                return Err(QuantError::Ranges { name: r.name.clone() });
            }
            ranges.seen[at] = Some((r.lo, r.hi));
            ranges.infinite[at] = (r.below, r.above);
        }
        // Constants speak for themselves.
        for (i, v) in model.values.iter().enumerate() {
            let Some(c) = &v.constant else { continue };
            let finite = (0..c.len()).map(|k| c.at(k)).filter(|v| v.abs() < INFINITE);
            ranges.seen[i] = finite.map(|v| (v, v)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            ranges.infinite[i] =
                ((0..c.len()).any(|k| c.at(k) <= -INFINITE), (0..c.len()).any(|k| c.at(k) >= INFINITE));
        }
        Ok(ranges)
    }

    /// What [`Ranges::restore`] takes: powers of two.
    pub(super) fn list(&self, model: &Model) -> Vec<ValueRange> {
        let range = |(i, v): (usize, &crate::onnx::Value)| {
            let (lo, hi) = self.observed(ValueId(i as u32)).filter(|_| v.constant.is_none())?;
            let (below, above) = self.infinite[i];
            Some(ValueRange { value: i as u32, name: v.name.clone(), lo, hi, below, above })
        };
        model.values.iter().enumerate().filter_map(range).collect()
    }

    /// Observed range, its ends moved outwards to powers of two: what a circuit tells of samples and weights is no more than that.
    pub(super) fn observed(&self, v: ValueId) -> Option<(f64, f64)> {
        self.exact(v).map(|(lo, hi)| (-outwards(-lo), outwards(hi)))
    }

    /// Observed range to the last digit: for reports, never for a circuit.
    pub(super) fn exact(&self, v: ValueId) -> Option<(f64, f64)> {
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

/// An upper end moved up to a power of two, or to just below one that it does not reach.
pub(super) fn outwards(end: f64) -> f64 {
    // Clearing the fraction leaves the power of two at or below; there is none below the normal numbers.
    let floor = |m: f64| f64::from_bits(m.to_bits() & !((1 << 52) - 1));
    if end < 0.0 {
        return -floor(-end);
    }
    let below = floor(end);
    if below == end { end } else { (2.0 * below).max(f64::MIN_POSITIVE).next_down() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_move_outwards_to_powers_of_two() {
        assert_eq!(outwards(0.0), 0.0);
        assert_eq!(outwards(1.0), 1.0);
        assert_eq!(outwards(1.5), 2f64.next_down());
        assert_eq!(outwards(-1.5), -1.0);
        assert_eq!(outwards(-0.25), -0.25);
    }

    proptest! {
        #[test]
        fn moving_again_moves_nothing(v in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
            let once = outwards(v);
            prop_assert!(once >= v && once.is_finite());
            prop_assert_eq!(outwards(once), once);
            // An open end is the number just below a power of two.
            let power = if once.to_bits().trailing_zeros() >= 52 { once } else { once.next_up() };
            prop_assert_eq!(power.to_bits() & ((1 << 52) - 1), 0);
        }
    }
}
