//! What the kernels report, and what it means to the engine.

use parhelion_backend_api::{Error, Op};

use crate::NAME;
use crate::ffi::code;

/// Why a call of the kernels did not give a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The device has no room, or its budget is spent.
    #[error("no room for {what}")]
    Memory {
        /// What it was wanted for.
        what: String,
    },
    /// The device does not answer any more.
    #[error("{0}")]
    Lost(String),
    /// The call was refused or failed.
    #[error("{call}: {why}")]
    Failed {
        /// The function.
        call: &'static str,
        /// What the library or the driver said.
        why: String,
    },
    /// The call returned success and something that is not a value of the type.
    #[error("{call} returned {what}")]
    Malformed {
        /// The function.
        call: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Failure {
    /// The failure of a return code other than success.
    pub(crate) fn from_code(call: &'static str, returned: i32, why: String) -> Self {
        match returned {
            code::OUT_OF_MEMORY => Failure::Memory { what: why },
            code::LOST => Failure::Lost(format!("{call}: {why}")),
            code::INVALID => Failure::Failed { call, why: format!("refused: {why}") },
            _ => Failure::Failed { call, why },
        }
    }

    /// The error of the operation traits, given that no operand of the caller has been written.
    pub(crate) fn untouched(self, op: Op) -> Error {
        match self {
            // What there is no room for is known by name only here.
            Failure::Memory { .. } => {
                Error::OutOfMemory { backend: NAME, what: op.name(), requested: 0, free: None }
            }
            other => other.touched(),
        }
    }

    /// The error of the operation traits when some operand of the caller may have been written: the call cannot be retried as it is.
    pub(crate) fn touched(self) -> Error {
        match self {
            Failure::Lost(why) => Error::DeviceLost { backend: NAME, why },
            other => Error::Backend { backend: NAME, source: Box::new(other) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_memory_that_left_operands_alone_may_be_retried_elsewhere() {
        for returned in 1..6 {
            let failure = || Failure::from_code("f", returned, "words".into());
            assert_eq!(
                failure().untouched(Op::NTT).try_elsewhere(),
                returned == code::OUT_OF_MEMORY,
                "{returned}"
            );
            assert!(!failure().touched().try_elsewhere(), "{returned}");
            assert!(failure().to_string().contains("words"), "{returned}");
        }
        let lost = Failure::from_code("f", code::LOST, "gone".into()).untouched(Op::MSM);
        assert!(matches!(lost, Error::DeviceLost { .. }));
    }
}
