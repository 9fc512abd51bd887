//! What can go wrong: with a file, and with a step.

use std::io;
use std::path::{Path, PathBuf};

use parhelion_prover::srs::SrsError;

use super::accuracy::Inaccurate;
use super::artefact::Security;
use super::memory::amount;
use super::seal::Kind;
use crate::exec::ExecError;
use crate::float::FloatError;
use crate::input::InputError;
use crate::machine::{MockError, PlanError, ProveError};
use crate::onnx::ImportError;
use crate::quant::{EncodeError, QuantError};

/// A file that cannot be read, is not what it should be, or is damaged. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system's own reason: missing, no permission, disk full.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The first bytes are not those of any artefact.
    #[error("{}: not a Parhelion {expected} file", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        expected: Kind,
    },
    /// An artefact, but another one.
    #[error("{}: holds a {found}, expected a {expected}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        expected: Kind,
        /// What it says it is.
        found: String,
    },
    /// Written by another version of the format.
    #[error("{}: format {found}, this version reads format {expected}", path.display())]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// The format that this version writes and reads.
        expected: u32,
        /// The format of the file.
        found: u64,
    },
    /// Shorter or longer than it says.
    #[error("{}: {found} bytes where {expected} are needed: the file is truncated or has a tail", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Larger than anything that is sensible for this kind.
    #[error("{}: {bytes} bytes are more than the limit of {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A device, which has no end and is no file.
    #[error("{}: a device, where a file is expected", path.display())]
    Device {
        /// The path.
        path: PathBuf,
    },
    /// The contents do not match their checksum.
    #[error("{}: the checksum does not match: the file is damaged or was edited", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// Well-sealed or not, the contents do not parse.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        why: String,
    },
}

impl FileError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    }

    pub(crate) fn malformed(path: &Path, why: impl ToString) -> FileError {
        FileError::Malformed { path: path.to_owned(), why: why.to_string() }
    }
}

/// Why a step of the pipeline failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A file is missing, damaged or not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model does not import.
    #[error("{}: {source}", path.display())]
    Import {
        /// The model's file.
        path: PathBuf,
        /// The reason.
        source: ImportError,
    },
    /// The input does not fit the model.
    #[error("{}: {source}", path.display())]
    Input {
        /// The input's file.
        path: PathBuf,
        /// The reason.
        source: Box<InputError>,
    },
    /// The input is outside what the model was calibrated for.
    #[error("{0}; calibrate with an input like this one, or with several")]
    Encode(#[from] EncodeError),
    /// The model does not quantise.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The float model fails on the input.
    #[error(transparent)]
    Float(#[from] FloatError),
    /// The integers are not what the model computes.
    #[error(transparent)]
    Inaccurate(Box<Inaccurate>),
    /// The integer execution failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The circuit cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The witness does not fit the circuit, or proving failed.
    #[error(transparent)]
    Machine(#[from] ProveError),
    /// A constraint does not hold.
    #[error(transparent)]
    Mock(#[from] MockError),
    /// Proving or key generation failed.
    #[error(transparent)]
    Prover(#[from] parhelion_prover::Error),
    /// A reference string is unusable.
    #[error("{}{source}", path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default())]
    Srs {
        /// Its file, if it has one.
        path: Option<PathBuf>,
        /// The reason.
        source: SrsError,
    },
    /// A key has a sound seal but is not the key that the settings are about.
    #[error("the {what} does not belong to these settings: {why}")]
    Mismatch {
        /// Which artefact.
        what: &'static str,
        /// What differs.
        why: String,
    },
    /// The proof is not valid.
    #[error("the proof does not verify: {0}")]
    Rejected(String),
    /// A variable of the environment that changes what a circuit is.
    #[error("the environment sets {0}, which changes the degree of circuits: unset it")]
    Environment(&'static str),
    /// The circuit takes more memory than there is.
    #[error(
        "a circuit of 2^{k} rows takes about {} for {what}, and {} are left of {of}: a circuit with fewer rows needs less \
         (fewer bits, a smaller input), `inspect` says how much",
        amount(*need), amount(*room)
    )]
    Memory {
        /// Keys or a proof.
        what: &'static str,
        /// log₂ of the number of rows.
        k: u32,
        /// Bytes needed, from now on.
        need: u64,
        /// Bytes there are.
        room: u64,
        /// Who says so.
        of: String,
    },
    /// The files are of another statement than the verifier wants.
    #[error("the statement is not {whose}: expected {expected}, found {found}")]
    OtherStatement {
        /// In whose words the wanted statement is.
        whose: &'static str,
        /// Digest of the wanted statement.
        expected: String,
        /// Digest of the statement that the files are of.
        found: String,
    },
    /// The proof is about another input than the verifier's.
    #[error("input `{name}` of the proof is not the one in {}", path.display())]
    OtherInput {
        /// The input.
        name: String,
        /// The verifier's file.
        path: PathBuf,
    },
    /// An opening secret has served for as many proofs as it may.
    #[error("{}: {proofs} proofs were made under this opening secret, and more would not hide what is committed; use a new file", path.display())]
    Spent {
        /// The secret's file.
        path: PathBuf,
        /// Proofs under it.
        proofs: u32,
    },
    /// Two proofs do not share a tensor.
    #[error("output `{output}` of the first proof is not input `{input}` of the second: {why}")]
    Unlinked {
        /// Name of the output.
        output: String,
        /// Name of the input.
        input: String,
        /// What differs.
        why: String,
    },
    /// The proof is under a reference string that the caller refuses.
    #[error("the reference string is not secure ({0}): {1}")]
    InsecureSrs(Security, String),
}
