//! The pipeline from an ONNX file to a verified proof, and the files along it.
//!
//! ```text
//! import ─► calibrate ─► plan ─► keys ─► witness ─► prove ─► verify ─► files
//! ```
//!
//! A [`Session`] takes the steps, times them, and tells an observer where it is. Each step returns what the next one needs, so a caller stops where
//! it likes: `inspect` after planning, `mock` after the witness. Keys and reference strings come from a [`Cache`] when they are there.
//!
//! # What binds what
//!
//! The *statement* is the quantised model. Its digest, the digest of the ONNX file, of the verifying key and of the reference string are in the [`Settings`]; a
//! proof names the digest of its settings. [`verify()`] takes settings, key and proof, checks these digests against each other and then the
//! proof against the key. Whoever verifies must have settings and key from a place they trust, or make them again: every step up to the keys is
//! deterministic.
//!
//! # Nothing half-written
//!
//! A step that fails writes nothing. Files are written when everything has succeeded, each whole or not at all, the proof last.

mod accuracy;
mod artefact;
mod cache;
mod circuit;
mod disk;
mod error;
mod link;
mod memory;
mod opening;
mod pipeline;
mod seal;
mod srs;
mod store;
mod verify;

pub use accuracy::{Accuracy, Difference, Inaccurate, LEAD, LIMIT, LayerError, OutputError, Top1};
pub use artefact::{
    Disclosed, Port, ProofFile, Security, Settings, SrsMark, WitnessFile, real_text, scalar_from_hex,
    scalar_to_hex,
};
pub use cache::Cache;
pub use circuit::Shape;
pub use disk::{Access, Staged, open_limited, read_limited, write_atomic, write_with};
pub use error::{FileError, SessionError};
pub use link::{Linked, link};
pub use memory::{Need, Room};
pub use opening::{commitments, digests, opening_secret};
pub use pipeline::{Imported, Keys, Options, Phase, Prepared, Proof, Quantised, Session, Timings, Witness};
pub use seal::{
    FORMAT, Kind, digest, digest_hex, from_hex, read_binary, read_json, seal_json, to_hex, write_binary,
    write_json,
};
pub use srs::{believed, development_srs, load_srs, read_srs, security_of, srs_mark};
pub use store::{
    CIRCUIT_BIN, INPUTS_JSON, MODEL_BIN, PK_BIN, PROOF_JSON, SETTINGS_JSON, Setup, VK_BIN, WITNESS_JSON,
    setup_binding,
};
pub use verify::{Files, Verdict, verify};
