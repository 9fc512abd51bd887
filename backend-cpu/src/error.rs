//! Errors of this backend's own: everything else is [`parhelion_backend_api::Error`].

use parhelion_backend_api::Error;

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The name is not one that this backend knows.
    #[error("{variable}={value}: unknown instruction set; known are `auto`, `scalar`, `ifma`")]
    Unknown {
        /// The environment variable that holds it.
        variable: &'static str,
        /// What it holds.
        value: String,
    },
    /// The machine lacks it.
    #[error("instruction set `{name}` is not available here: the processor or the build lacks {lacks}")]
    Unavailable {
        /// The instruction set.
        name: &'static str,
        /// The missing features.
        lacks: &'static str,
    },
}

impl From<IsaError> for Error {
    fn from(error: IsaError) -> Self {
        Error::Invalid { what: "instruction set", why: error.to_string() }
    }
}
