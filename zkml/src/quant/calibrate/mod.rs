//! Calibration: the cheapest circuit that keeps a model as good as the user says.
//!
//! Ranges come from samples, and from variations of them; then fraction bits and ranges are searched for the circuit that the planner predicts to be cheapest,
//! among those whose results stay within a bound on the task's own metric: points of top-1, the greatest error, or the mean
//! squared one, always against the float model on the same samples. Every circuit that is tried is a real one: quantised, planned,
//! and run on the samples.
//!
//! # What a calibrated model does with inputs that calibration did not see
//!
//! - An input element past its range is moved to the end of the range when it is encoded ([`QuantOptions::saturate`]); the proof is then about
//!   that input. The range is the magnitude that the samples reach, times the headroom, up to the next power of two.
//! - With [`QuantOptions::cover`], every range check inside the model admits what inputs within their ranges can lead to at all, by interval
//!   arithmetic over the weights. Then no input fails. The search takes it where it costs little
//!   ([`Goal::cover_cost`]); deep networks, whose intervals grow from layer to layer, get margins instead.
//! - Margins: a range check admits the values that the samples and their variations lead to, times the headroom, up to the next power of two.
//!   An input beyond is refused by name before anything is proven. [`Quantised::restricted`](super::Quantised::restricted) lists the layers
//!   that have such a check.
//!
//! A part of the samples takes no part in the search; what it gives is reported beside the rest.

mod evaluate;
mod file;
mod histogram;
mod search;

use serde::{Deserialize, Serialize};

use super::{QuantError, QuantOptions, Quantised};
use crate::machine::{PlanError, PlanReport, Visibility};
use crate::onnx::TensorF;

pub use file::{Calibration, RangeEntry};
pub use histogram::Histogram;
pub use search::calibrate;

/// What a model is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Points of top-1 that the integers lose against the float model. Without labels, the share of samples, in points, where their answers differ.
    Top1,
    /// Greatest deviation of an output element.
    MaxAbs,
    /// Mean squared deviation of the output elements.
    Mse,
}

impl Metric {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Top1 => "top1",
            Metric::MaxAbs => "max-abs",
            Metric::Mse => "mse",
        }
    }
}

/// What calibration is after.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What counts.
    pub metric: Metric,
    /// How much of it may be lost.
    pub budget: f64,
    /// Greatest number of circuits that are tried.
    pub trials: usize,
    /// How much more a circuit may cost, as a factor, if no input can fail in it.
    pub cover_cost: f64,
}

impl Goal {
    /// A goal with the default effort.
    pub fn new(metric: Metric, budget: f64) -> Self {
        Goal { metric, budget, trials: 120, cover_cost: 1.25 }
    }
}

/// Samples with what is known about them.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// One list of inputs per sample; none stand for evenly spread values.
    pub inputs: Vec<Vec<TensorF>>,
    /// The right answer of every sample, for [`Metric::Top1`].
    pub labels: Option<Vec<i64>>,
}

/// How a quantised model did on some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Samples.
    pub samples: usize,
    /// Samples that a range check refuses.
    pub failed: usize,
    /// Top-1 of the float model in percent; agreement with itself, 100, without labels.
    pub float_top1: f64,
    /// Top-1 of the integers in percent; agreement with the float model without labels.
    pub top1: f64,
    /// Greatest deviation of an output element.
    pub max_abs: f64,
    /// Mean squared deviation of the output elements.
    pub mse: f64,
}

impl Score {
    /// What was lost, in the metric's own unit.
    pub fn loss(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Top1 => (self.float_top1 - self.top1).max(0.0),
            Metric::MaxAbs => self.max_abs,
            Metric::Mse => self.mse,
        }
    }
}

/// What a circuit costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// log₂ of the number of rows.
    pub k: u32,
    /// Rows that hold something.
    pub rows: usize,
    /// Advice columns, of all phases.
    pub advice: usize,
    /// The planner's prediction, in its own unit.
    pub cost: f64,
}

impl Size {
    fn of(report: &PlanReport) -> Self {
        let rows = [report.unit_rows, report.bulk_rows, report.scalar_rows, report.instance];
        Size {
            k: report.k,
            rows: rows.into_iter().max().unwrap_or(0),
            advice: report.advice + report.late,
            cost: report.cost,
        }
    }
}

/// A circuit that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its numbers.
    pub options: QuantOptions,
    /// How it did; nothing where it could not be quantised or run.
    pub score: Option<Score>,
    /// What it costs; nothing where that was not asked, or where it could not be planned.
    pub size: Option<Size>,
}

/// The outcome of a calibration.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The numbers that were chosen.
    pub options: QuantOptions,
    /// The quantised model, with the error of every tensor over the samples.
    pub quantised: Quantised,
    /// The settings, for a file; the model's digest is filled in by whoever read the model.
    pub calibration: Calibration,
    /// How it does on the samples of the search.
    pub score: Score,
    /// How it does on the samples that took no part; nothing where there are too few.
    pub held_out: Option<Score>,
    /// What it costs.
    pub size: Size,
    /// Rows, cells and lookups of every layer.
    pub plan: PlanReport,
    /// The default options: how they do, and what they cost.
    pub baseline: (Score, Size),
    /// All circuits that were tried, in order.
    pub trials: Vec<Trial>,
    /// Distribution of every tensor's values over the samples.
    pub histograms: Vec<Histogram>,
}

/// What is fixed from the start.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Who sees what: it decides the circuit's size.
    pub visibility: Visibility,
    /// The circuit has at most 2^`max_k` rows.
    pub max_k: u32,
}

/// Why a model was not calibrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The goal cannot be meant.
    #[error("{0}")]
    Goal(String),
    /// As many labels as samples are needed.
    #[error("{samples} samples come with {labels} labels")]
    Labels {
        /// Samples.
        samples: usize,
        /// Labels.
        labels: usize,
    },
    /// The model does not quantise at all.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The most precise circuit has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No circuit keeps the bound.
    #[error("no circuit keeps {metric} within {budget}; the most precise one loses {best}", metric = .metric.name())]
    Unreachable {
        /// Metric.
        metric: Metric,
        /// Bound.
        budget: f64,
        /// Least loss.
        best: f64,
    },
    /// The caller wants no more.
    #[error("calibration was interrupted; what was tried is kept")]
    Interrupted,
}
