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
//! The [`Statement`] is one digest over the circuit (program, visibilities, names), its verifying key and `[τ]G2`; everything that is shown of a proof is
//! read from those, and a proof is bound to it. [`Settings`] say which files belong together, and what their maker claims. A verdict is worth what
//! the statement was held against, see [`Pin`]: an ONNX file, a digest from somebody trusted, the circuit, or nothing.
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
mod refine;
mod seal;
mod srs;
mod stages;
mod statement;
mod store;
mod verdict;
mod verify;

pub use accuracy::{Accuracy, Difference, Inaccurate, LEAD, LIMIT, LayerError, OutputError, Top1};
pub use artefact::{
    Disclosed, Port, ProofFile, ProverNotes, RangeSource, Security, Settings, SrsMark, WitnessFile,
    printable, real_text, scalar_from_hex, scalar_to_hex,
};
pub use cache::Cache;
pub use circuit::{Interface, Named, Shape};
pub use disk::{Access, Staged, open_limited, read_limited, write_atomic, write_with};
pub use error::{FileError, SessionError};
pub use link::{Linked, Place, link};
pub use memory::{Need, Room};
pub use opening::{MOST_PROOFS, OpeningFile, commitments, digests, opening_secret};
pub use pipeline::Session;
pub use seal::{
    FORMAT, Kind, digest, digest_hex, from_hex, read_binary, read_json, seal_json, to_hex, write_binary,
    write_json, write_private,
};
pub use srs::{believed, development_srs, load_srs, read_srs, security_of, srs_mark};
pub use stages::{Imported, Keys, Options, Phase, Prepared, Proof, Quantised, Timings, Witness};
pub use statement::{Context, ParamGroup, Statement};
pub use store::{
    CALIBRATION_JSON, CIRCUIT_BIN, INPUTS_JSON, PK_BIN, PROOF_JSON, PROVER_JSON, SETTINGS_JSON, Setup,
    VK_BIN, WITNESS_JSON, setup_binding,
};
pub use verdict::{Strength, Told, Verdict};
pub use verify::{Files, ModelPin, Pin, Terms, verify, verify_under};
