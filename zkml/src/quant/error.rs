//! Why a model was not quantised.

use crate::exec::{CheckError, ExecError};
use crate::float::FloatError;
use crate::onnx::UnsupportedList;

/// Why a model was not quantised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// A layer that does not fit the number range, or whose operands contradict it.
    #[error("`{layer}`: {reason}")]
    Layer {
        /// Layer, in the model's names.
        layer: String,
        /// What is wrong.
        reason: String,
    },
    /// Nodes that have no integer form: all of them.
    #[error("nodes without an integer form:{0}")]
    Unsupported(UnsupportedList),
    /// The float model fails on the calibration data.
    #[error("calibration sample {sample}: {source}")]
    Calibration {
        /// Index of the sample.
        sample: usize,
        /// Why.
        source: FloatError,
    },
    /// The float model computes something that is not a number on the calibration data.
    #[error("`{layer}` computes {value} on calibration sample {sample}")]
    NotFinite {
        /// Layer, in the model's names.
        layer: String,
        /// The value.
        value: String,
        /// Index of the sample.
        sample: usize,
    },
    /// Ranges that are not of this model, or not finite.
    #[error("the calibrated range of `{name}` does not belong to this model")]
    Ranges {
        /// Value.
        name: String,
    },
    /// The options contradict themselves.
    #[error("option `{name}`: {reason}")]
    Option {
        /// Option.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The quantised program fails on the calibration data.
    #[error("calibration sample {sample} does not run in integers: {source}")]
    Run {
        /// Index of the sample.
        sample: usize,
        /// Why.
        source: ExecError,
    },
    /// The program that came out is not consistent.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// Why values were not encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// Wrong number of inputs.
    #[error("the program has {expected} inputs, {got} were given")]
    Count {
        /// Inputs of the program.
        expected: usize,
        /// Inputs given.
        got: usize,
    },
    /// Wrong shape.
    #[error("input `{name}` has shape {expected:?}, {got:?} was given")]
    Shape {
        /// Name.
        name: String,
        /// Shape in the program.
        expected: Vec<usize>,
        /// Shape given.
        got: Vec<usize>,
    },
    /// A value outside the range that was calibrated.
    #[error("input `{name}`, element {index:?}: {value} is outside the calibrated range [{lo}, {hi}]")]
    Range {
        /// Name.
        name: String,
        /// Multi-index.
        index: Vec<usize>,
        /// Value.
        value: f64,
        /// Least allowed value.
        lo: f64,
        /// Greatest allowed value.
        hi: f64,
    },
}
