//! Which file of a directory holds what.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::artefact::{ProofFile, ProverNotes, Settings};
use super::circuit::Shape;
use super::disk::{Access, Staged};
use super::error::{FileError, SessionError};
use super::pipeline::Session;
use super::seal::{Kind, digest_state, put_binary, put_json, read_binary, read_json, to_hex};
use super::stages::{Keys, Prepared, Proof};
use super::verify::read_shape;
use crate::onnx::Binding;
use crate::quant::calibrate::Calibration;

/// Name of the settings.
pub const SETTINGS_JSON: &str = "settings.json";
/// Name of the proof.
pub const PROOF_JSON: &str = "proof.json";
/// Name of the witness.
pub const WITNESS_JSON: &str = "witness.json";
/// Name of the verifying key.
pub const VK_BIN: &str = "vk.bin";
/// Name of the circuit's shape.
pub const CIRCUIT_BIN: &str = "circuit.bin";
/// Name of the proving key.
pub const PK_BIN: &str = "pk.bin";
/// Name of what was decided about the model's inputs.
pub const INPUTS_JSON: &str = "inputs.json";
/// Name of the options and ranges that make the circuit of the model.
pub const CALIBRATION_JSON: &str = "calibration.json";
/// Name of what only the prover keeps.
pub const PROVER_JSON: &str = "prover.json";

/// Most bytes of a verifying key: a quarter of a million columns.
pub(super) const VK_LIMIT: u64 = 1 << 24;

/// What [`Session::write_setup`] writes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The settings.
    pub settings: Settings,
    /// Options and ranges.
    pub calibration: Calibration,
    /// The circuit.
    pub shape: Shape,
    /// What only the prover keeps.
    pub notes: ProverNotes,
    /// The proving key's file, which is read as a stream.
    pub pk: PathBuf,
}

impl Setup {
    /// Reads a directory.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn read(dir: &Path) -> Result<Self, SessionError> {
        let settings = read_json(&dir.join(SETTINGS_JSON), Kind::Settings)?;
        let calibration = read_json(&dir.join(CALIBRATION_JSON), Kind::Calibration)?;
        let path = dir.join(CIRCUIT_BIN);
        let shape = read_shape(&path, &read_binary(&path, Kind::Circuit)?)?;
        let notes = read_json(&dir.join(PROVER_JSON), Kind::Prover)?;
        let pk = dir.join(PK_BIN);
        Ok(Setup { settings, calibration, shape, notes, pk })
    }
}

/// Shapes and constants of the model's inputs, as the setup in a directory has them.
///
/// # Errors
/// [`SessionError::File`].
pub fn setup_binding(dir: &Path) -> Result<Binding, SessionError> {
    Ok(read_json(&dir.join(INPUTS_JSON), Kind::Inputs)?)
}

/// A value's bytes: what its digest is over.
pub(super) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, SessionError> {
    postcard::to_stdvec(value).map_err(|e| SessionError::Mismatch { what, why: e.to_string() })
}

/// The digest of [`encode`], which is never in memory whole.
pub(super) fn encoded_digest<T: Serialize>(what: &'static str, value: &T) -> Result<String, SessionError> {
    let mut state = std::io::BufWriter::with_capacity(1 << 16, digest_state());
    let bad = |why: String| SessionError::Mismatch { what, why };
    postcard::to_io(value, &mut state).map_err(|e| bad(e.to_string()))?;
    let state = state.into_inner().map_err(|e| bad(e.to_string()))?;
    Ok(to_hex(state.finalize().as_bytes()))
}

/// Reads [`encode`]; every byte must belong to the value.
pub(super) fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, FileError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(FileError::malformed(path, format!("{} bytes follow the value", rest.len()))),
        Err(e) => Err(FileError::malformed(path, e)),
    }
}

impl Session {
    /// Writes settings, circuit, calibration and keys into a directory, and what only the prover keeps.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn write_setup(&self, dir: &Path, prepared: &Prepared, keys: &Keys) -> Result<(), SessionError> {
        let mut files = Staged::new(dir)?;
        put_json(&mut files, PROVER_JSON, Kind::Prover, Access::Owner, &prepared.quantised.notes())?;
        files.write(PK_BIN, Access::Default, |file| keys.write_pk(self.engine(), file))?;
        self.put_keys(&mut files, prepared, keys)?;
        self.drop_obsolete(&mut files, dir, keys);
        Ok(files.commit()?)
    }

    fn put_keys(&self, files: &mut Staged, prepared: &Prepared, keys: &Keys) -> Result<(), SessionError> {
        let shape = encode("circuit", &prepared.shape())?;
        put_binary(files, CIRCUIT_BIN, Kind::Circuit, &shape)?;
        files.put(VK_BIN, Access::Default, &[keys.vk_bytes()])?;
        let calibration = &*prepared.quantised.calibration;
        put_json(files, CALIBRATION_JSON, Kind::Calibration, Access::Default, calibration)?;
        let binding = &prepared.quantised.imported.model.binding;
        put_json(files, INPUTS_JSON, Kind::Inputs, Access::Default, binding)?;
        put_json(files, SETTINGS_JSON, Kind::Settings, Access::Default, keys.settings())?;
        Ok(())
    }

    /// Lets a proof go that is not of these keys: beside them it would not verify, and nobody could tell why.
    fn drop_obsolete(&self, files: &mut Staged, dir: &Path, keys: &Keys) {
        let path = dir.join(PROOF_JSON);
        let Ok(proof) = read_json::<ProofFile>(&path, Kind::Proof) else { return };
        if keys.statement().digest() != proof.statement {
            tracing::warn!("{}: of other keys than the new ones; removed", path.display());
            files.remove(PROOF_JSON);
            files.remove(WITNESS_JSON);
        }
    }

    /// Writes what a verifier needs into a directory; the proof last.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn write_proof(
        &self,
        dir: &Path,
        prepared: &Prepared,
        keys: &Keys,
        proof: &Proof,
    ) -> Result<(), SessionError> {
        let mut files = Staged::new(dir)?;
        self.put_keys(&mut files, prepared, keys)?;
        put_json(&mut files, PROOF_JSON, Kind::Proof, Access::Default, &proof.file)?;
        Ok(files.commit()?)
    }
}
