//! Why a run failed.

use crate::onnx::unravel;
use crate::qir::Tensor;

use super::check::CheckError;

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// Wrong number of inputs.
    #[error("the program has {expected} inputs, {got} were given")]
    InputCount {
        /// Inputs of the program.
        expected: usize,
        /// Inputs given.
        got: usize,
    },
    /// Wrong number of elements.
    #[error("input `{name}` has {expected} elements, {got} were given")]
    InputLength {
        /// Name of the input.
        name: String,
        /// Elements of the input.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// A value outside the bounds that the circuit enforces.
    #[error(
        "`{layer}`: element {index:?} of `{tensor}` is {value} (about {real:.6}), outside [{lo}, {hi}]; calibrate with data like this input"
    )]
    OutOfRange {
        /// Operation, in the model's names; `input` for an input.
        layer: String,
        /// Tensor.
        tensor: String,
        /// Multi-index of the element.
        index: Vec<usize>,
        /// Value.
        value: i128,
        /// The real number that it stands for, to six digits.
        real: Real,
        /// Least allowed value.
        lo: i64,
        /// Greatest allowed value.
        hi: i64,
    },
    /// The program contradicts itself.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// A real number in an error; equal when its bits are.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl std::fmt::Display for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ExecError {
    pub(super) fn out_of_range(
        layer: &str,
        t: &Tensor,
        flat: usize,
        value: i128,
        lo: i64,
        hi: i64,
    ) -> ExecError {
        ExecError::OutOfRange {
            layer: layer.to_owned(),
            tensor: t.name.clone(),
            index: unravel(flat, &t.shape),
            value,
            real: Real(value as f64 / 2f64.powi(t.scale)),
            lo,
            hi,
        }
    }
}
