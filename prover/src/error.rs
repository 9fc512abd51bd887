//! The one error type of the explicit functions.

use std::io;

use halo2_axiom::plonk;
use parhelion_backend_api::hal;

/// Result of the explicit functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why no proof, key or verdict was produced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine had no backend that could do it, or the last one failed.
    #[error(transparent)]
    Engine(#[from] hal::Error),
    /// The circuit's own configuration or synthesis failed, with halo2's error.
    #[error("circuit: {0}")]
    Circuit(plonk::Error),
    /// The transcript refused a point or a scalar.
    #[error("transcript: {0}")]
    Transcript(#[from] io::Error),
    /// There are not as many instance lists as circuits, or not as many columns as the key has.
    #[error("{what}: expected {expected}, found {found}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many are needed.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An instance column is longer than the usable rows.
    #[error("instance column {column} has {found} values, but the circuit has {usable} usable rows")]
    InstanceTooLong {
        /// Index of the column.
        column: usize,
        /// Number of values.
        found: usize,
        /// Number of usable rows.
        usable: usize,
    },
    /// The circuit needs more rows than 2^k.
    #[error("the circuit needs at least {needed} rows, but k = {k} gives {}", 1u64 << k)]
    TooFewRows {
        /// Rows that the circuit needs at least.
        needed: usize,
        /// log₂ of the rows that there are.
        k: u32,
    },
    /// A cell outside the usable rows or columns was assigned, copied or queried.
    #[error("{column} column {index}, row {row} is outside the circuit ({usable} usable rows)")]
    OutOfBounds {
        /// Kind of column.
        column: &'static str,
        /// Index of the column.
        index: usize,
        /// The row.
        row: usize,
        /// Number of usable rows.
        usable: usize,
    },
    /// A witness value is unknown although its phase is being committed.
    #[error("advice column {column}, row {row} has no value")]
    MissingWitness {
        /// Index of the column.
        column: usize,
        /// The row.
        row: usize,
    },
    /// An input of a lookup is not in its table: the witness does not satisfy the circuit.
    #[error(
        "lookup `{name}` (circuit {circuit}, argument {lookup}): {missing} distinct inputs are not in the table"
    )]
    NotInTable {
        /// Name of the lookup.
        name: String,
        /// Index of the circuit.
        circuit: usize,
        /// Index of the lookup argument.
        lookup: usize,
        /// How many distinct inputs are missing.
        missing: usize,
    },
    /// The structured reference string and the key are for different sizes.
    #[error("the key is for k = {key}, the structured reference string for k = {srs}")]
    WrongSize {
        /// k of the key.
        key: u32,
        /// k of the reference string.
        srs: u32,
    },
    /// `PARHELION_MEMORY` is less than the smallest plan for a proof of this key takes.
    #[error(
        "a proof of this key takes at least {needed} bytes beside key and reference string, but PARHELION_MEMORY is {budget}"
    )]
    Memory {
        /// The budget, in bytes.
        budget: u64,
        /// What is needed at least, in bytes.
        needed: u64,
    },
    /// Something that halo2 allows and this prover does not.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The finished proof does not verify: the witness does not satisfy the circuit, or a backend computed wrongly.
    #[error("the proof does not verify ({0}): the witness breaks a constraint, or a backend is faulty")]
    Rejected(String),
    /// The proof was wrong, and one by trusted backends alone is right: devices computed wrongly. They are in quarantine now.
    #[error(
        "the proof was wrong ({why}) because of {backends}, in quarantine from now on; it can be made again"
    )]
    Faulty {
        /// Their backends.
        backends: String,
        /// What was wrong with the proof.
        why: String,
    },
    /// The structured reference string is unusable.
    #[error(transparent)]
    Srs(#[from] crate::srs::SrsError),
    /// A key file is unusable.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
}

impl From<plonk::Error> for Error {
    fn from(error: plonk::Error) -> Self {
        Error::Circuit(error)
    }
}

/// For the drop-in functions, whose error type is halo2's: the closest variant, or [`plonk::Error::Transcript`] around this
/// error, so that its text is not lost.
impl From<Error> for plonk::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Circuit(e) => e,
            Error::Transcript(e) => plonk::Error::Transcript(e),
            Error::Count { .. } => plonk::Error::InvalidInstances,
            Error::InstanceTooLong { .. } => plonk::Error::InstanceTooLarge,
            Error::TooFewRows { k, .. } => plonk::Error::NotEnoughRowsAvailable { current_k: k },
            Error::MissingWitness { .. } => plonk::Error::Synthesis,
            Error::NotInTable { .. } | Error::Rejected(_) => plonk::Error::ConstraintSystemFailure,
            Error::OutOfBounds { .. } => plonk::Error::BoundsFailure,
            other => plonk::Error::Transcript(io::Error::other(other)),
        }
    }
}
