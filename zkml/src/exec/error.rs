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
    #[error(transparent)]
    OutOfRange(#[from] Box<OutOfRange>),
    /// The program contradicts itself.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// A value outside the bounds that the circuit enforces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{layer}`: element {index:?} of `{tensor}` is {value} (about {:.6}), outside [{lo}, {hi}]; calibrate with data like this input",
    self.real()
)]
pub struct OutOfRange {
    /// Operation, in the model's names; `input` for an input.
    pub layer: String,
    /// Tensor.
    pub tensor: String,
    /// Multi-index of the element.
    pub index: Vec<usize>,
    /// Value.
    pub value: i128,
    /// Fraction bits of the value.
    pub scale: i32,
    /// Least allowed value.
    pub lo: i64,
    /// Greatest allowed value.
    pub hi: i64,
}

impl OutOfRange {
    /// The real number that the value stands for.
    pub fn real(&self) -> f64 {
        self.value as f64 / 2f64.powi(self.scale)
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
        ExecError::from(Box::new(OutOfRange {
            layer: layer.to_owned(),
            tensor: t.name.clone(),
            index: unravel(flat, &t.shape),
            value,
            scale: t.scale,
            lo,
            hi,
        }))
    }
}
