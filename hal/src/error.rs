//! The one error type of the operation traits.

use crate::{Op, SpaceId};

/// Result of an operation of a backend.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a backend and cannot be foreseen by its caller.
///
/// The failure rule (crate docs) divides these in two: see [`Error::try_elsewhere`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device or the host has no room for `what`. No operand has been written.
    #[error("{backend}: out of memory: {requested} bytes for {what}{}", free.map(|f| format!(" ({f} bytes free)")).unwrap_or_default())]
    OutOfMemory {
        /// Name of the backend.
        backend: &'static str,
        /// The buffer or workspace that was asked for.
        what: &'static str,
        /// Size that was asked for, in bytes.
        requested: u64,
        /// Free bytes at that time, where the device can tell.
        free: Option<u64>,
    },
    /// The backend does not offer the operation for these operands. No operand has been written.
    #[error("{backend}: {op} is not supported: {why}")]
    Unsupported {
        /// Name of the backend.
        backend: &'static str,
        /// The operation.
        op: Op,
        /// The reason, in words that help a user choose another backend.
        why: String,
    },
    /// The device is gone; every buffer in its space is lost.
    #[error("{backend}: device lost: {why}")]
    DeviceLost {
        /// Name of the backend.
        backend: &'static str,
        /// What the driver said.
        why: String,
    },
    /// A handle or a buffer of another backend was passed.
    #[error("`{name}` lives in {found}, but {expected} is needed")]
    WrongSpace {
        /// Name of the buffer or handle.
        name: &'static str,
        /// The space that the callee works in.
        expected: SpaceId,
        /// The space that the operand is in.
        found: SpaceId,
    },
    /// An operand has the wrong number of elements.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// The operand.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// An argument is outside what the operation is defined for.
    #[error("{what}: {why}")]
    Invalid {
        /// The argument.
        what: &'static str,
        /// Why it is refused.
        why: String,
    },
    /// Any other failure inside the backend.
    #[error("{backend}: {source}")]
    Backend {
        /// Name of the backend.
        backend: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the operands are untouched and the same call may be made on another backend.
    pub fn try_elsewhere(&self) -> bool {
        matches!(self, Error::Unsupported { .. } | Error::OutOfMemory { .. })
    }

    /// Whether the caller is at fault: no other backend would accept the call either.
    pub fn is_caller_fault(&self) -> bool {
        matches!(self, Error::Length { .. } | Error::Invalid { .. } | Error::WrongSpace { .. })
    }

    /// An [`Error::Length`] unless `found == expected`.
    pub fn check_len(what: &'static str, expected: usize, found: usize) -> Result<()> {
        if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
    }
}
