//! Digests and commitments without a circuit: what a third party compares a proof with.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use halo2curves::bn256::Fr;
use parhelion_prover::Srs;
use rand_core::OsRng;

use super::artefact::{Disclosed, scalar_to_hex};
use super::error::{FileError, SessionError};
use super::seal::{from_hex, to_hex};
use super::stages::{Quantised, Witness};
use crate::machine::commitment::commit;
use crate::machine::poseidon::{Segment, digest};
use crate::machine::{Exposure, OpeningSecret, Part, Vis};
use crate::qir::{Program, TensorId};

const SECRET_LIMIT: u64 = 1 << 10;

/// Proofs that one opening secret is good for: each opens a committed column at a point, and 64 elements blind it.
pub const MOST_PROOFS: u32 = 64;

/// A file with an opening secret, 64 hexadecimal digits, and the number of proofs that were made under it.
#[derive(Clone, Debug)]
pub struct OpeningFile {
    path: PathBuf,
    secret: OpeningSecret,
}

impl OpeningFile {
    /// Reads a file, or makes one where there is none. It is readable for its owner only.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn open(path: &Path) -> Result<Self, SessionError> {
        let io = FileError::io(path);
        let secret = match File::open(path) {
            Ok(mut file) => read_secret(&mut file, path)?.0,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => make_secret(path)?,
            Err(e) => return Err(io(e).into()),
        };
        Ok(OpeningFile { path: path.to_owned(), secret })
    }

    /// The secret.
    pub fn secret(&self) -> OpeningSecret {
        self.secret.clone()
    }

    /// Proofs that were made so far.
    ///
    /// # Errors
    /// [`SessionError::File`].
    pub fn proofs(&self) -> Result<u32, SessionError> {
        let mut file = File::open(&self.path).map_err(FileError::io(&self.path))?;
        Ok(read_secret(&mut file, &self.path)?.1)
    }

    /// Counts a proof before it is made, so that none goes uncounted.
    ///
    /// # Errors
    /// [`SessionError::Spent`] where there were [`MOST_PROOFS`]; [`SessionError::File`], also for a file that has another secret by now.
    pub(super) fn count_proof(&self) -> Result<(), SessionError> {
        let io = |source| FileError::Io { path: self.path.clone(), source };
        let mut file = File::options().read(true).write(true).open(&self.path).map_err(io)?;
        // Released when the file is closed.
        file.lock().map_err(io)?;
        let (secret, proofs) = read_secret(&mut file, &self.path)?;
        if secret.to_bytes() != self.secret.to_bytes() {
            return Err(FileError::malformed(&self.path, "the secret was replaced meanwhile").into());
        }
        if proofs >= MOST_PROOFS {
            return Err(SessionError::Spent { path: self.path.clone(), proofs });
        }
        // The text keeps its length, so that no write leaves half of it.
        let text = secret_text(&secret, proofs + 1);
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(text.as_bytes()));
        written.and_then(|()| file.set_len(text.len() as u64)).and_then(|()| file.sync_all()).map_err(io)?;
        Ok(())
    }
}

/// [`OpeningFile::open`] for its secret alone.
///
/// # Errors
/// [`SessionError::File`].
pub fn opening_secret(path: &Path) -> Result<OpeningSecret, SessionError> {
    Ok(OpeningFile::open(path)?.secret)
}

fn secret_text(secret: &OpeningSecret, proofs: u32) -> String {
    format!("{}\nproofs {proofs:02}\n", to_hex(&secret.to_bytes()))
}

/// The secret, and the number of proofs: none where the file does not say one.
fn read_secret(file: &mut File, path: &Path) -> Result<(OpeningSecret, u32), SessionError> {
    let mut text = String::new();
    file.take(SECRET_LIMIT).read_to_string(&mut text).map_err(FileError::io(path))?;
    let why = "not an opening secret: 64 hexadecimal digits, and `proofs N`";
    let refuse = || FileError::malformed(path, why);
    let mut lines = text.split_whitespace();
    let bytes = lines.next().and_then(from_hex).and_then(|b| b.try_into().ok()).ok_or_else(refuse)?;
    let proofs = match (lines.next(), lines.next(), lines.next()) {
        (None, ..) => 0,
        (Some("proofs"), Some(n), None) => n.parse().map_err(|_| refuse())?,
        _ => return Err(refuse().into()),
    };
    Ok((OpeningSecret::new(bytes), proofs))
}

fn make_secret(path: &Path) -> Result<OpeningSecret, SessionError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let secret = OpeningSecret::random(OsRng);
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io)?;
    let text = secret_text(&secret, 0);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|e| {
        // Half a secret would be read as a damaged one.
        let _ = std::fs::remove_file(path);
        io(e)
    })?;
    Ok(secret)
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
    quantised: &Quantised,
    exposure: &Exposure,
    witness: &Witness,
) -> Result<Vec<Disclosed>, SessionError> {
    let (program, names) = (quantised.program(), &quantised.model);
    let mut out = Vec::new();
    let mut put = |part, name: &str, digest: Fr| {
        let value = scalar_to_hex(&digest);
        out.push(Disclosed { part, name: name.to_owned(), visibility: Vis::Hashed, value });
    };
    let one = |id: TensorId, values: &[i64]| {
        let t = program.tensor(id);
        hash(&[Segment::new(values, t.lo, t.hi)])
    };
    for ((&id, name), values) in program.inputs.iter().zip(&names.input_names).zip(&witness.inputs) {
        put(Part::Input, name, one(id, values)?);
    }
    let hashed = params(exposure, |vis| vis == Vis::Hashed);
    let ids = if hashed.is_empty() { params(exposure, |_| true) } else { hashed };
    if !ids.is_empty() {
        put(Part::Params, Part::Params.name(), digest_of(program, &ids)?);
    }
    let outputs = witness.trace.outputs(program);
    for ((&id, name), values) in program.outputs.iter().zip(&names.output_names).zip(outputs) {
        put(Part::Output, name, one(id, values)?);
    }
    Ok(out)
}

/// The commitments of all inputs and outputs of a run, and of the parameters (of those that are committed, else of all), under a reference
/// string of the circuit's k.
pub fn commitments(
    quantised: &Quantised,
    exposure: &Exposure,
    witness: &Witness,
    srs: &Srs,
    secret: &OpeningSecret,
) -> Vec<Disclosed> {
    let (program, names) = (quantised.program(), &quantised.model);
    let mut out = Vec::new();
    let mut put = |part, name: &str, values: &[i64]| {
        let value = to_hex(&commit(srs, values, secret));
        out.push(Disclosed { part, name: name.to_owned(), visibility: Vis::Committed, value });
    };
    for (name, values) in names.input_names.iter().zip(&witness.inputs) {
        put(Part::Input, name, values);
    }
    let committed = params(exposure, |vis| vis == Vis::Committed);
    let ids = if committed.is_empty() { params(exposure, |_| true) } else { committed };
    if !ids.is_empty() {
        let all: Vec<i64> = ids.iter().flat_map(|&id| data(program, id)).copied().collect();
        put(Part::Params, Part::Params.name(), &all);
    }
    for (name, values) in names.output_names.iter().zip(witness.trace.outputs(program)) {
        put(Part::Output, name, values);
    }
    out
}
