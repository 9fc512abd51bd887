//! Settings as a file: enough to quantise the model the same way again, without the samples.
//!
//! Real numbers are decimal strings in the shortest spelling that reads back as the same number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Goal, Metric};
use crate::onnx::Model;
use crate::quant::range::outwards;
use crate::quant::{QuantError, QuantOptions, Quantised, Quantiser, ValueRange};

/// Version of the layout; a reader takes its own only.
const VERSION: u32 = 1;

/// Calibrated settings of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version of this layout.
    pub version: u32,
    /// Version of this crate that wrote it; quantisation may differ between versions.
    pub written_by: String,
    /// Digest of the ONNX file.
    pub model_hash: String,
    /// What was asked for.
    pub metric: Metric,
    /// How much of it could be lost.
    pub budget: String,
    /// How much of it is lost on the samples.
    pub loss: String,
    /// Samples that ranges and losses are from.
    pub samples: usize,
    /// Fraction bits of activations.
    pub activation_bits: u32,
    /// Fraction bits of inputs.
    pub input_bits: u32,
    /// Fraction bits of outputs.
    pub output_bits: u32,
    /// Bits of a weight.
    pub weight_bits: u32,
    /// Allowed magnitude over the calibrated one.
    pub headroom: String,
    /// Least magnitude that is allowed for.
    pub min_range: String,
    /// Entries of a direct table.
    pub max_lookup: u32,
    /// Knots of a piecewise linear one.
    pub max_knots: u32,
    /// Fraction bits of single values.
    pub scales: BTreeMap<String, u32>,
    /// Whether every input can be proven.
    pub cover: bool,
    /// Whether inputs past their range are moved to its end.
    pub saturate: bool,
    /// Difference from the float model that its metric allows, as a part of an output's largest value; nothing where none beyond the usual one is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_error: Option<String>,
    /// Ranges of the values.
    pub ranges: Vec<RangeEntry>,
}

/// The range of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeEntry {
    /// Number of the value.
    pub value: u32,
    /// Its name.
    pub name: String,
    /// Least: a power of two, after `>` where it is not reached.
    pub lo: String,
    /// Greatest: a power of two, after `<` where it is not reached.
    pub hi: String,
    /// Least magnitude that is not zero, down to the next power of two; nothing where all are zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<String>,
    /// Whether minus infinity was among the values.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub below: bool,
    /// Whether plus infinity was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub above: bool,
}

fn text(v: f64) -> String {
    format!("{v:?}")
}

/// An end of a range: `<16.0` and `>-16.0` are the numbers next to a power of two.
fn end_text(v: f64) -> String {
    let power = |v: f64| v.to_bits().trailing_zeros() >= 52;
    match v {
        v if v == 0.0 || power(v) => text(v),
        v if v > 0.0 && power(v.next_up()) => format!("<{}", text(v.next_up())),
        v if v < 0.0 && power(v.next_down()) => format!(">{}", text(v.next_down())),
        v => text(v),
    }
}

/// Reads [`end_text`], or any other number.
fn end(text: &str) -> Option<f64> {
    let number = |t: &str| t.parse::<f64>().ok();
    match (text.strip_prefix('<'), text.strip_prefix('>')) {
        (Some(t), _) => number(t).map(f64::next_down),
        (_, Some(t)) => number(t).map(f64::next_up),
        _ => number(text),
    }
}

impl Calibration {
    pub(super) fn new(
        goal: &Goal,
        options: &QuantOptions,
        ranges: Vec<ValueRange>,
        samples: usize,
        loss: f64,
    ) -> Self {
        Calibration {
            version: VERSION,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            model_hash: String::new(),
            metric: goal.metric,
            budget: text(goal.budget),
            loss: text(loss),
            samples,
            activation_bits: options.activation_bits,
            input_bits: options.input_bits,
            output_bits: options.output_bits,
            weight_bits: options.weight_bits,
            headroom: text(options.headroom),
            min_range: text(options.min_range),
            max_lookup: options.max_lookup,
            max_knots: options.max_knots,
            scales: options.scales.clone(),
            cover: options.cover,
            saturate: options.saturate,
            accepted_error: None,
            ranges: ranges
                .into_iter()
                .map(|r| RangeEntry {
                    value: r.value,
                    name: r.name,
                    lo: end_text(r.lo),
                    hi: end_text(r.hi),
                    least: r.least.map(text),
                    below: r.below,
                    above: r.above,
                })
                .collect(),
        }
    }

    /// Options and ranges without anything about samples: a file that others may have. It names no model.
    pub fn public(options: &QuantOptions, ranges: Vec<ValueRange>) -> Self {
        Calibration::new(&Goal::new(Metric::MaxAbs, 0.0), options, ranges, 0, 0.0)
    }

    /// The same without what it tells of samples and model, its ranges widened to powers of two.
    ///
    /// # Errors
    ///
    /// [`QuantError::Ranges`] for an end of a range that is no number, [`QuantError::Option`] as [`Calibration::options`].
    pub fn published(&self) -> Result<Self, QuantError> {
        let mut ranges = self.value_ranges()?;
        for r in &mut ranges {
            (r.lo, r.hi) = (-outwards(-r.lo), outwards(r.hi));
        }
        Ok(Calibration::public(&self.options()?, ranges))
    }

    /// The options.
    ///
    /// # Errors
    ///
    /// [`QuantError::Option`] for a number that is none, or for a file of another version.
    pub fn options(&self) -> Result<QuantOptions, QuantError> {
        if self.version != VERSION || self.written_by != env!("CARGO_PKG_VERSION") {
            return Err(QuantError::Option {
                name: "settings",
                reason: format!(
                    "were written by version {} (layout {}); calibrate again with this one, {} (layout {VERSION})",
                    self.written_by,
                    self.version,
                    env!("CARGO_PKG_VERSION")
                ),
            });
        }
        let number = |name: &'static str, s: &str| {
            s.parse::<f64>()
                .map_err(|_| QuantError::Option { name, reason: format!("`{s}` is not a number") })
        };
        Ok(QuantOptions {
            activation_bits: self.activation_bits,
            input_bits: self.input_bits,
            output_bits: self.output_bits,
            weight_bits: self.weight_bits,
            headroom: number("headroom", &self.headroom)?,
            min_range: number("min_range", &self.min_range)?,
            max_lookup: self.max_lookup,
            max_knots: self.max_knots,
            scales: self.scales.clone(),
            cover: self.cover,
            saturate: self.saturate,
        })
    }

    /// The model in the integers that were chosen.
    ///
    /// # Errors
    ///
    /// [`QuantError`]; settings of another model are [`QuantError::Ranges`] if not noticed before by their digest.
    pub fn quantise(&self, model: &Model) -> Result<Quantised, QuantError> {
        Quantiser::with_ranges(model, &self.value_ranges()?)?.quantise(&self.options()?)
    }

    fn value_ranges(&self) -> Result<Vec<ValueRange>, QuantError> {
        let one = |r: &RangeEntry| {
            let number = |s: &str| end(s).ok_or_else(|| QuantError::Ranges { name: r.name.clone() });
            Ok(ValueRange {
                value: r.value,
                name: r.name.clone(),
                lo: number(&r.lo)?,
                hi: number(&r.hi)?,
                least: r.least.as_deref().map(number).transpose()?,
                below: r.below,
                above: r.above,
            })
        };
        self.ranges.iter().map(one).collect()
    }
}
