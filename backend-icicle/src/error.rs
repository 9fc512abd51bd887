//! What Icicle reports, and what it means to the engine.

use parhelion_backend_api::{Error, Op};

use crate::NAME;

/// `eIcicleError`, success left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IcicleError {
    /// 1
    #[error("the device is invalid")]
    InvalidDevice,
    /// 2
    #[error("out of memory")]
    OutOfMemory,
    /// 3
    #[error("a pointer is invalid")]
    InvalidPointer,
    /// 4
    #[error("an allocation failed")]
    AllocationFailed,
    /// 5
    #[error("a deallocation failed")]
    DeallocationFailed,
    /// 6
    #[error("a copy failed")]
    CopyFailed,
    /// 7
    #[error("synchronisation failed")]
    SynchronizationFailed,
    /// 8
    #[error("a stream could not be created")]
    StreamCreationFailed,
    /// 9
    #[error("a stream could not be destroyed")]
    StreamDestructionFailed,
    /// 10
    #[error("not implemented for this device")]
    ApiNotImplemented,
    /// 11
    #[error("an argument is invalid")]
    InvalidArgument,
    /// 12
    #[error("the backend library could not be loaded")]
    BackendLoadFailed,
    /// 13
    #[error("the licence check failed (ICICLE_LICENSE names a licence server or file)")]
    LicenseCheck,
    /// 14
    #[error("an unknown error occurred")]
    Unknown,
    /// A code that no version on record has.
    #[error("undocumented error code {0}")]
    Undocumented(i32),
}

impl IcicleError {
    /// The error of a return code, or `Ok` for success.
    ///
    /// # Errors
    /// Every code but 0.
    pub fn check(code: i32) -> Result<(), Self> {
        Err(match code {
            0 => return Ok(()),
            1 => IcicleError::InvalidDevice,
            2 => IcicleError::OutOfMemory,
            3 => IcicleError::InvalidPointer,
            4 => IcicleError::AllocationFailed,
            5 => IcicleError::DeallocationFailed,
            6 => IcicleError::CopyFailed,
            7 => IcicleError::SynchronizationFailed,
            8 => IcicleError::StreamCreationFailed,
            9 => IcicleError::StreamDestructionFailed,
            10 => IcicleError::ApiNotImplemented,
            11 => IcicleError::InvalidArgument,
            12 => IcicleError::BackendLoadFailed,
            13 => IcicleError::LicenseCheck,
            14 => IcicleError::Unknown,
            other => IcicleError::Undocumented(other),
        })
    }
}

/// Why a call of the library did not give a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The library returned an error.
    #[error("{call}: {error}")]
    Returned {
        /// The function.
        call: &'static str,
        /// What it returned.
        error: IcicleError,
    },
    /// The device has no room.
    #[error("no room for {bytes} bytes ({what})")]
    Memory {
        /// What they are for.
        what: &'static str,
        /// How many were asked for.
        bytes: u64,
    },
    /// The device does not answer any more.
    #[error("{0}")]
    Lost(String),
    /// The library returned success and something that is not a value of the type.
    #[error("{call} returned {what}")]
    Malformed {
        /// The function.
        call: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A size exceeds what the C interface can express.
    #[error("{what} exceeds the limits of Icicle's interface")]
    TooLarge {
        /// The argument.
        what: &'static str,
    },
}

impl Failure {
    /// Whether it may be a symptom of a device that is gone, which a later call tells.
    pub(crate) fn is_suspicious(&self) -> bool {
        match self {
            Failure::Returned { error, .. } => {
                !matches!(error, IcicleError::ApiNotImplemented | IcicleError::LicenseCheck)
            }
            _ => false,
        }
    }

    /// The error of the operation traits, given that no operand of the caller has been written.
    pub(crate) fn untouched(self, op: Op) -> Error {
        match self {
            Failure::Returned { call, error: error @ IcicleError::ApiNotImplemented } => {
                Error::Unsupported { backend: NAME, op, why: format!("{call}: {error}") }
            }
            Failure::Returned { call, error: IcicleError::OutOfMemory | IcicleError::AllocationFailed } => {
                Error::OutOfMemory { backend: NAME, what: call, requested: 0, free: None }
            }
            Failure::Memory { what, bytes } => {
                Error::OutOfMemory { backend: NAME, what, requested: bytes, free: None }
            }
            Failure::Lost(why) => Error::DeviceLost { backend: NAME, why },
            Failure::TooLarge { .. } => Error::Unsupported { backend: NAME, op, why: self.to_string() },
            other => Error::Backend { backend: NAME, source: Box::new(other) },
        }
    }

    /// The error of the operation traits when some operand of the caller has been written: the call cannot be retried as it is.
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
    fn every_code_has_a_meaning_of_its_own() {
        assert_eq!(IcicleError::check(0), Ok(()));
        let mut words: Vec<String> =
            (1..=15).map(|code| IcicleError::check(code).unwrap_err().to_string()).collect();
        assert_eq!(IcicleError::check(-3), Err(IcicleError::Undocumented(-3)));
        words.sort();
        words.dedup();
        assert_eq!(words.len(), 15);
    }

    #[test]
    fn only_what_left_operands_alone_may_be_retried_elsewhere() {
        for code in 1..=14 {
            let failure = || Failure::Returned { call: "f", error: IcicleError::check(code).unwrap_err() };
            assert_eq!(failure().untouched(Op::MSM).try_elsewhere(), matches!(code, 2 | 4 | 10), "{code}");
            assert!(!failure().touched().try_elsewhere(), "{code}");
        }
        assert!(!Failure::Memory { what: "x", bytes: 1 }.touched().try_elsewhere());
        let lost = Failure::Lost("gone".into()).untouched(Op::NTT);
        assert!(matches!(lost, Error::DeviceLost { .. }));
    }
}
