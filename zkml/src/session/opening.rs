//! Digests and commitments without a circuit: what a third party compares a proof with.

use std::io::Read;
use std::path::Path;

use halo2curves::bn256::Fr;
use parhelion_prover::Srs;
use rand_core::OsRng;

use super::artefact::{Disclosed, scalar_to_hex};
use super::error::{FileError, SessionError};
use super::pipeline::Witness;
use super::seal::{from_hex, to_hex};
use crate::machine::commitment::commit;
use crate::machine::poseidon::{Segment, digest};
use crate::machine::{Exposure, OpeningSecret, Part, Vis};
use crate::qir::{Program, TensorId};

const SECRET_LIMIT: u64 = 1 << 10;

/// Reads an opening secret, 64 hexadecimal digits, or makes one where the file does not exist. The file is readable for its owner only.
///
/// # Errors
/// [`SessionError::File`].
pub fn opening_secret(path: &Path) -> Result<OpeningSecret, SessionError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    match std::fs::File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(SECRET_LIMIT).read_to_string(&mut text).map_err(io)?;
            let bytes = from_hex(text.trim()).and_then(|b| b.try_into().ok());
            let why = "not an opening secret: 64 hexadecimal digits";
            Ok(OpeningSecret::new(bytes.ok_or_else(|| FileError::malformed(path, why))?))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            use std::io::Write;
            let secret = OpeningSecret::random(OsRng);
            let mut options = std::fs::File::options();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(path).map_err(io)?;
            let written = writeln!(file, "{}", to_hex(&secret.to_bytes())).and_then(|()| file.sync_all());
            written.map_err(|e| {
                // Half a secret would be read as a damaged one.
                let _ = std::fs::remove_file(path);
                io(e)
            })?;
            Ok(secret)
        }
        Err(e) => Err(io(e).into()),
    }
}

fn data(program: &Program, id: TensorId) -> &[i64] {
    program.tensor(id).data.as_deref().unwrap_or_default()
}

fn hash(segments: &[Segment<'_>]) -> Result<Fr, SessionError> {
    digest(segments).map_err(|e| SessionError::Mismatch { what: "tensor", why: e.to_string() })
}

fn params(exposure: &Exposure, wanted: impl Fn(Vis) -> bool) -> Vec<TensorId> {
    exposure.params.iter().filter(|(_, vis)| wanted(*vis)).map(|(id, _)| *id).collect()
}

fn digest_of(program: &Program, ids: &[TensorId]) -> Result<Fr, SessionError> {
    let segment =
        |&id: &TensorId| Segment::new(data(program, id), program.tensor(id).lo, program.tensor(id).hi);
    hash(&ids.iter().map(segment).collect::<Vec<_>>())
}

/// The digest of the hashed parameters, if there are any.
pub(super) fn params_digest(program: &Program, exposure: &Exposure) -> Result<Option<String>, SessionError> {
    let ids = params(exposure, |vis| vis == Vis::Hashed);
    if ids.is_empty() {
        return Ok(None);
    }
    Ok(Some(scalar_to_hex(&digest_of(program, &ids)?)))
}

/// The digests of all inputs and outputs of a run, and of the parameters: of those that are hashed, else of all.
///
/// # Errors
/// [`SessionError::Mismatch`] for elements outside their tensors' bounds.
pub fn digests(
    program: &Program,
    exposure: &Exposure,
    witness: &Witness,
) -> Result<Vec<Disclosed>, SessionError> {
    let mut out = Vec::new();
    let mut put = |part, name: &str, digest: Fr| {
        let value = scalar_to_hex(&digest);
        out.push(Disclosed { part, name: name.to_owned(), visibility: Vis::Hashed, value });
    };
    let one = |id: TensorId, values: &[i64]| {
        let t = program.tensor(id);
        hash(&[Segment::new(values, t.lo, t.hi)])
    };
    for (&id, values) in program.inputs.iter().zip(&witness.inputs) {
        put(Part::Input, &program.tensor(id).name, one(id, values)?);
    }
    let hashed = params(exposure, |vis| vis == Vis::Hashed);
    let ids = if hashed.is_empty() { params(exposure, |_| true) } else { hashed };
    if !ids.is_empty() {
        put(Part::Params, Part::Params.name(), digest_of(program, &ids)?);
    }
    for (&id, values) in program.outputs.iter().zip(witness.trace.outputs(program)) {
        put(Part::Output, &program.tensor(id).name, one(id, values)?);
    }
    Ok(out)
}

/// The commitments of all inputs and outputs of a run, and of the parameters (of those that are committed, else of all), under a reference
/// string of the circuit's k.
pub fn commitments(
    program: &Program,
    exposure: &Exposure,
    witness: &Witness,
    srs: &Srs,
    secret: &OpeningSecret,
) -> Vec<Disclosed> {
    let mut out = Vec::new();
    let mut put = |part, name: &str, values: &[i64]| {
        let value = to_hex(&commit(srs, values, secret));
        out.push(Disclosed { part, name: name.to_owned(), visibility: Vis::Committed, value });
    };
    for (&id, values) in program.inputs.iter().zip(&witness.inputs) {
        put(Part::Input, &program.tensor(id).name, values);
    }
    let committed = params(exposure, |vis| vis == Vis::Committed);
    let ids = if committed.is_empty() { params(exposure, |_| true) } else { committed };
    if !ids.is_empty() {
        let all: Vec<i64> = ids.iter().flat_map(|&id| data(program, id)).copied().collect();
        put(Part::Params, Part::Params.name(), &all);
    }
    for (&id, values) in program.outputs.iter().zip(witness.trace.outputs(program)) {
        put(Part::Output, &program.tensor(id).name, values);
    }
    out
}
