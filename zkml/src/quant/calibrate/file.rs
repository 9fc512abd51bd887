//! Settings as a file: enough to quantise the model the same way again, without the samples.
//!
//! Real numbers are decimal strings in the shortest spelling that reads back as the same number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Goal, Metric};
use crate::onnx::Model;
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
    /// Least.
    pub lo: String,
    /// Greatest.
    pub hi: String,
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
            ranges: ranges
                .into_iter()
                .map(|r| RangeEntry {
                    value: r.value,
                    name: r.name,
                    lo: text(r.lo),
                    hi: text(r.hi),
                    below: r.below,
                    above: r.above,
                })
                .collect(),
        }
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
        let ranges = self
            .ranges
            .iter()
            .map(|r| {
                let number = |s: &str| s.parse().map_err(|_| QuantError::Ranges { name: r.name.clone() });
                Ok(ValueRange {
                    value: r.value,
                    name: r.name.clone(),
                    lo: number(&r.lo)?,
                    hi: number(&r.hi)?,
                    below: r.below,
                    above: r.above,
                })
            })
            .collect::<Result<Vec<_>, QuantError>>()?;
        Quantiser::with_ranges(model, &ranges)?.quantise(&self.options()?)
    }
}
