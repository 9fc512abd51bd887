//! Which file of a directory holds what.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::artefact::Settings;
use super::circuit::{self, Shape};
use super::error::{FileError, SessionError};
use super::pipeline::{Keys, Prepared, Proof, Session, Witness};
use super::seal::{
    Kind, digest_state, read_binary, read_json, read_limited, to_hex, write_atomic, write_binary, write_json,
};
use crate::onnx::Binding;
use crate::{exec, quant};

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
/// Name of what a setup has decided about the model's inputs.
pub const INPUTS_JSON: &str = "inputs.json";
/// Name of the quantised model.
pub const MODEL_BIN: &str = "model.bin";

/// Most bytes of a key.
pub(super) const KEY_LIMIT: u64 = 1 << 40;

/// What [`Session::write_setup`] writes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The settings.
    pub settings: Settings,
    /// The quantised model.
    pub model: quant::Quantised,
    /// The planner's numbers.
    pub shape: Shape,
    /// The proving key, serialised.
    pub pk: Vec<u8>,
}

impl Setup {
    /// Reads a directory.
    ///
    /// # Errors
    /// [`SessionError::File`]; [`SessionError::Exec`] when the quantised model is not consistent.
    pub fn read(dir: &Path) -> Result<Self, SessionError> {
        let settings = read_json(&dir.join(SETTINGS_JSON), Kind::Settings)?;
        let path = dir.join(MODEL_BIN);
        let model: quant::Quantised = decode(&path, &read_binary(&path, Kind::Model)?)?;
        exec::check(&model.program).map_err(|e| FileError::malformed(&path, e))?;
        let path = dir.join(CIRCUIT_BIN);
        let shape: Shape = decode(&path, &read_binary(&path, Kind::Circuit)?)?;
        let pk = read_limited(&dir.join(PK_BIN), KEY_LIMIT)?;
        Ok(Setup { settings, model, shape, pk })
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
    /// Writes settings, keys and quantised model into a directory.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn write_setup(&self, dir: &Path, prepared: &Prepared, keys: &Keys) -> Result<(), SessionError> {
        let model = encode("quantised model", &*prepared.quantised.model)?;
        write_binary(&dir.join(MODEL_BIN), Kind::Model, &model)?;
        write_json(&dir.join(INPUTS_JSON), Kind::Inputs, &prepared.quantised.imported.model.binding)?;
        write_atomic(&dir.join(PK_BIN), &[&circuit::write_pk(keys.pk())?])?;
        self.write_keys(dir, prepared, keys)
    }

    fn write_keys(&self, dir: &Path, prepared: &Prepared, keys: &Keys) -> Result<(), SessionError> {
        let shape = encode("circuit", &Shape::of(&prepared.plan))?;
        write_binary(&dir.join(CIRCUIT_BIN), Kind::Circuit, &shape)?;
        write_atomic(&dir.join(VK_BIN), &[keys.vk_bytes()])?;
        write_json(&dir.join(SETTINGS_JSON), Kind::Settings, keys.settings())?;
        Ok(())
    }

    /// Writes what a verifier needs, and the witness, into a directory; the proof last.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn write_proof(
        &self,
        dir: &Path,
        prepared: &Prepared,
        keys: &Keys,
        witness: &Witness,
        proof: &Proof,
    ) -> Result<(), SessionError> {
        write_json(&dir.join(WITNESS_JSON), Kind::Witness, &prepared.quantised.witness_file(witness))?;
        self.write_keys(dir, prepared, keys)?;
        write_json(&dir.join(PROOF_JSON), Kind::Proof, &proof.file)?;
        Ok(())
    }
}
