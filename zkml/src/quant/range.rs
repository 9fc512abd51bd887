//! Ranges of values over the calibration data.

use rayon::prelude::*;

use crate::float;
use crate::onnx::{Data, Model, TensorF, ValueId};

use super::error::QuantError;
use super::mask::{LARGE, Masks};

/// Least and greatest observed value of every tensor of a model.
#[derive(Clone)]
pub(super) struct Ranges {
    seen: Vec<Option<(f64, f64)>>,
    /// Least magnitude that is not zero, down to the next power of two.
    least: Vec<Option<f64>>,
    /// Whether a value took the place of minus or plus infinity.
    infinite: Vec<(bool, bool)>,
    /// A power of two beyond every number that was seen.
    beyond: f64,
    masks: Masks,
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
    /// Least magnitude that is not zero, down to the next power of two; nothing where all are zero.
    pub least: Option<f64>,
    /// Whether minus infinity, or a mask's number in its place, was among the values.
    pub below: bool,
    /// The same for plus infinity.
    pub above: bool,
}

/// What was seen of one value, before it is known whether masks made some of it.
#[derive(Clone, Copy, Default)]
struct Seen {
    all: Option<(f64, f64)>,
    /// Without the numbers that masks use.
    small: Option<(f64, f64)>,
    least: Option<f64>,
    infinite: (bool, bool),
    large: (bool, bool),
}

fn joined(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> Option<(f64, f64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

impl Seen {
    fn add(&mut self, v: f64) {
        if v.is_infinite() {
            self.infinite = (self.infinite.0 || v < 0.0, self.infinite.1 || v > 0.0);
        } else {
            self.all = joined(self.all, Some((v, v)));
        }
        if v.abs() < LARGE {
            self.small = joined(self.small, Some((v, v)));
        } else {
            self.large = (self.large.0 || v < 0.0, self.large.1 || v > 0.0);
        }
        if v != 0.0 && v.is_finite() {
            self.least = Some(self.least.map_or(v.abs(), |l| l.min(v.abs())));
        }
    }

    fn of(t: &TensorF) -> Seen {
        let mut seen = Seen::default();
        match &t.data {
            Data::I(v) => v.iter().for_each(|&v| {
                let v = t.dtype.real(v);
                seen.all = joined(seen.all, Some((v, v)));
            }),
            Data::F(v) => v.iter().for_each(|&v| seen.add(v)),
        }
        seen
    }

    fn merge(self, b: Seen) -> Seen {
        let or = |a: (bool, bool), b: (bool, bool)| (a.0 || b.0, a.1 || b.1);
        Seen {
            all: joined(self.all, b.all),
            small: joined(self.small, b.small),
            least: match (self.least, b.least) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            infinite: or(self.infinite, b.infinite),
            large: or(self.large, b.large),
        }
    }
}

impl Ranges {
    /// Runs the float model on every sample.
    pub(super) fn measure(model: &Model, samples: &[Vec<TensorF>]) -> Result<Ranges, QuantError> {
        let parts = samples.par_iter().enumerate().map(|(sample, inputs)| {
            let values =
                float::run_all(model, inputs).map_err(|source| QuantError::Calibration { sample, source })?;
            (0..model.values.len())
                .map(|i| {
                    let Some(t) = values.get(ValueId(i as u32)) else { return Ok(Seen::default()) };
                    if let Data::F(v) = &t.data
                        && let Some(bad) = v.iter().find(|v| v.is_nan())
                        && model.values[i].constant.is_none()
                    {
                        return Err(QuantError::NotFinite {
                            layer: model.values[i].name.clone(),
                            value: bad.to_string(),
                            sample,
                        });
                    }
                    Ok(Seen::of(t))
                })
                .collect::<Result<Vec<Seen>, QuantError>>()
        });
        let nothing = || Ok(vec![Seen::default(); model.values.len()]);
        let seen =
            parts.reduce(nothing, |a, b| Ok(a?.into_iter().zip(b?).map(|(a, b)| a.merge(b)).collect()))?;
        let masks = Masks::find(model, &|v| seen[v.index()].all, &|v| seen[v.index()].small);
        Ok(Self::resolve(seen, masks))
    }

    /// Takes out of the ranges what masks have made.
    fn resolve(seen: Vec<Seen>, masks: Masks) -> Ranges {
        let masked: Vec<bool> = (0..seen.len()).map(|i| masks.masked(ValueId(i as u32))).collect();
        let pairs = || seen.iter().zip(&masked);
        let ranges: Vec<Option<(f64, f64)>> =
            pairs().map(|(s, m)| if *m { s.small } else { s.all }).collect();
        let most = ranges.iter().flatten().fold(0.0, |m: f64, (lo, hi)| m.max(lo.abs()).max(hi.abs()));
        Ranges {
            seen: ranges,
            beyond: (16.0 * most).log2().ceil().clamp(0.0, 60.0).exp2(),
            least: seen.iter().map(|s| s.least.map(|l| l.log2().floor().exp2())).collect(),
            infinite: pairs().map(|(s, m)| if *m { s.large } else { s.infinite }).collect(),
            masks,
        }
    }

    /// Ranges as they were measured before, of the same model.
    pub(super) fn restore(model: &Model, list: &[ValueRange]) -> Result<Ranges, QuantError> {
        // Constants speak for themselves.
        let constant = |v: &crate::onnx::Value| v.constant.as_deref().map(Seen::of).unwrap_or_default();
        let mut seen: Vec<Seen> = model.values.iter().map(constant).collect();
        for r in list {
            let at = r.value as usize;
            let same = model.values.get(at).is_some_and(|v| v.name == r.name && v.constant.is_none());
            let ordered = r.lo.is_finite() && r.hi.is_finite() && r.lo <= r.hi;
            let positive = r.least.is_none_or(|l| l.is_finite() && l > 0.0);
            if !(same && ordered && positive) {
                return Err(QuantError::Ranges { name: r.name.clone() });
            }
            let (range, flags) = (Some((r.lo, r.hi)), (r.below, r.above));
            seen[at] = Seen { all: range, small: range, least: r.least, infinite: flags, large: flags };
        }
        let masks = Masks::find(model, &|v| seen[v.index()].all, &|v| seen[v.index()].small);
        Ok(Self::resolve(seen, masks))
    }

    /// What [`Ranges::restore`] takes: powers of two.
    pub(super) fn list(&self, model: &Model) -> Vec<ValueRange> {
        let range = |(i, v): (usize, &crate::onnx::Value)| {
            let (lo, hi) = self.observed(ValueId(i as u32)).filter(|_| v.constant.is_none())?;
            let (below, above) = self.infinite[i];
            let least = self.least[i];
            Some(ValueRange { value: i as u32, name: v.name.clone(), lo, hi, least, below, above })
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

    /// Greatest observed magnitude; nothing where a value was never anything but zero.
    pub(super) fn magnitude(&self, v: ValueId) -> Option<f64> {
        self.observed(v).map(|(lo, hi)| lo.abs().max(hi.abs())).filter(|m| *m > 0.0)
    }

    /// Least observed magnitude that is not zero, down to the next power of two.
    pub(super) fn least(&self, v: ValueId) -> Option<f64> {
        self.least.get(v.index()).copied().flatten()
    }

    /// What masks have made.
    pub(super) fn masks(&self) -> &Masks {
        &self.masks
    }

    /// A power of two beyond every number that was seen: what an infinity is where it is compared with numbers.
    pub(super) fn beyond(&self) -> f64 {
        self.beyond.max(self.masks.fill())
    }

    /// Range that is allowed for: the observed magnitude times the headroom, at least `floor`, to both sides.
    pub(super) fn allowed(&self, v: ValueId, headroom: f64, floor: f64) -> Option<(f64, f64)> {
        let (lo, hi) = self.observed(v)?;
        let m = (lo.abs().max(hi.abs()) * headroom).max(floor);
        let (below, above) = self.infinite[v.index()];
        let fill = self.masks.fill();
        Some((if below { -m - fill } else { -m }, if above { m + fill } else { m }))
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
