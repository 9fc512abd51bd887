//! Keys on disk.

/// Why a key file is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("key: {0}")]
    Io(#[from] std::io::Error),
    /// The file is not of the expected format, is damaged, or belongs to another circuit.
    #[error("key: {0}")]
    Malformed(String),
}
