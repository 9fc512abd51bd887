//! Files that notice when they are damaged, and that are never half there.
//!
//! **Binary** artefacts (quantised models, circuits) are `magic · kind · format · length · payload · BLAKE2b-256 of all before`. **JSON**
//! artefacts (settings, witness, proof) are one compact object with the members `kind`, `format` and `checksum`, the last over the canonical text of the
//! others: keys sorted, no white space. So a proof may pass through a tool that formats JSON and still be read, but no change of its
//! meaning goes unseen. Sealed JSON has no floating-point numbers: a number has one spelling then.
//!
//! The checksum guards against accidents. Against an adversary the verifier checks the *contents*: a proof file with a
//! recomputed checksum is still only as good as its proof.
//!
//! Files are written whole or not at all: see [`super::disk`].

use std::fmt;
use std::path::Path;

use blake2b_simd::Params;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::disk::{Access, Staged, read_limited, write_atomic, write_with};
use super::error::FileError;

/// Version of the layout of artefacts; a reader takes its own only.
pub const FORMAT: u32 = 3;

const MAGIC: &[u8; 8] = b"PARHELIA";
const HEADER: usize = 8 + 4 + 4 + 8;
const DIGEST: usize = 32;
const JSON_LIMIT: u64 = 2 << 30;
const BINARY_LIMIT: u64 = 1 << 40;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A quantised model: [`crate::qir::Program`].
    Model,
    /// A circuit's shape: [`super::Shape`].
    Circuit,
    /// What is proven: [`super::Settings`].
    Settings,
    /// The values of a model's tensors.
    Witness,
    /// A proof with its public values.
    Proof,
    /// Scales and ranges: [`crate::quant::calibrate::Calibration`].
    Calibration,
    /// Shapes and constants of a model's inputs: [`crate::onnx::Binding`].
    Inputs,
    /// What only the prover keeps: [`super::ProverNotes`].
    Prover,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Model,
        Kind::Circuit,
        Kind::Settings,
        Kind::Witness,
        Kind::Proof,
        Kind::Calibration,
        Kind::Inputs,
        Kind::Prover,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "quantised model",
            Kind::Circuit => "circuit",
            Kind::Settings => "settings",
            Kind::Witness => "witness",
            Kind::Proof => "proof",
            Kind::Calibration => "calibration",
            Kind::Inputs => "inputs",
            Kind::Prover => "prover",
        }
    }

    fn tag(self) -> [u8; 4] {
        match self {
            Kind::Model => *b"MODL",
            Kind::Circuit => *b"CIRC",
            Kind::Settings => *b"SETT",
            Kind::Witness => *b"WITN",
            Kind::Proof => *b"PROF",
            Kind::Calibration => *b"CALB",
            Kind::Inputs => *b"INPT",
            Kind::Prover => *b"PROV",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// BLAKE2b with 32 bytes of output.
pub fn digest(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut state = digest_state();
    for part in parts {
        state.update(part);
    }
    let mut out = [0; DIGEST];
    out.copy_from_slice(state.finalize().as_bytes());
    out
}

/// The state of [`digest`] before its first byte.
pub(super) fn digest_state() -> blake2b_simd::State {
    Params::new().hash_length(DIGEST).to_state()
}

/// [`digest`] as 64 lower-case hexadecimal digits.
pub fn digest_hex(parts: &[&[u8]]) -> String {
    to_hex(&digest(parts))
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut s, b| {
        // Writing to a String cannot fail.
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// Strict lower-case hexadecimal, without a prefix.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    fn digit(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        }
    }
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[hi, lo]| Some(digit(hi)? << 4 | digit(lo)?)).collect()
}

/// What stands before and after the payload of a binary artefact.
fn seal_binary(kind: Kind, payload: &[u8]) -> (Vec<u8>, [u8; DIGEST]) {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&kind.tag());
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let checksum = digest(&[&header, payload]);
    (header, checksum)
}

/// Seals `payload` as a binary artefact.
///
/// # Errors
/// [`FileError::Io`].
pub fn write_binary(path: &Path, kind: Kind, payload: &[u8]) -> Result<(), FileError> {
    let (header, checksum) = seal_binary(kind, payload);
    write_atomic(path, &[&header, payload, &checksum])
}

/// [`write_binary`] as one of several files.
pub(super) fn put_binary(
    files: &mut Staged,
    name: &str,
    kind: Kind,
    payload: &[u8],
) -> Result<(), FileError> {
    let (header, checksum) = seal_binary(kind, payload);
    files.put(name, Access::Default, &[&header, payload, &checksum])
}

/// Reads a binary artefact and checks its seal; returns the payload.
///
/// # Errors
/// Any [`FileError`].
pub fn read_binary(path: &Path, kind: Kind) -> Result<Vec<u8>, FileError> {
    let mut bytes = read_limited(path, BINARY_LIMIT)?;
    let found = bytes.len() as u64;
    let not_ours = || FileError::NotOurs { path: path.to_owned(), expected: kind };
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(not_ours)?;
    if magic != MAGIC {
        return Err(not_ours());
    }
    let truncated = |expected: u64| FileError::Length { path: path.to_owned(), expected, found };
    let shortest = (HEADER + DIGEST) as u64;
    let (tag, rest) = rest.split_first_chunk::<4>().ok_or_else(|| truncated(shortest))?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(|| truncated(shortest))?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| truncated(shortest))?;
    if *tag != kind.tag() {
        let found = match Kind::ALL.into_iter().find(|k| k.tag() == *tag) {
            Some(k) => k.to_string(),
            None => "file of an unknown kind".into(),
        };
        return Err(FileError::WrongKind { path: path.to_owned(), expected: kind, found });
    }
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(FileError::WrongFormat { path: path.to_owned(), expected: FORMAT, found: format.into() });
    }
    let announced = u64::from_le_bytes(*length).saturating_add(shortest);
    if announced != found {
        return Err(truncated(announced));
    }
    let (payload, checksum) = rest.split_last_chunk::<DIGEST>().ok_or_else(|| truncated(shortest))?;
    let end = HEADER + payload.len();
    if digest(&[&bytes[..end]]) != *checksum {
        return Err(FileError::Checksum { path: path.to_owned() });
    }
    bytes.truncate(end);
    bytes.drain(..HEADER);
    Ok(bytes)
}

fn canonical(object: &Map<String, Value>) -> String {
    // Sorted here and not by the map, whose order depends on a feature that any crate of a build may switch on.
    fn sorted(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                out.push('{');
                for (key, value) in entries {
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    sorted(value, out);
                    out.push(',');
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for value in items {
                    sorted(value, out);
                    out.push(',');
                }
                out.push(']');
            }
            leaf => out.push_str(&leaf.to_string()),
        }
    }
    let mut out = String::new();
    sorted(&Value::Object(object.clone()), &mut out);
    out
}

/// The sealed JSON text of a value that serialises to an object without floating-point numbers.
///
/// # Errors
/// The serialiser's, in words.
pub fn seal_json<T: Serialize>(kind: Kind, value: &T) -> Result<String, String> {
    let Value::Object(mut object) = serde_json::to_value(value).map_err(|e| e.to_string())? else {
        return Err(format!("a {kind} is an object"));
    };
    object.insert("kind".into(), kind.name().into());
    object.insert("format".into(), FORMAT.into());
    let checksum = digest_hex(&[canonical(&object).as_bytes()]);
    object.insert("checksum".into(), checksum.into());
    Ok(Value::Object(object).to_string())
}

/// Writes a JSON artefact.
///
/// # Errors
/// [`FileError::Io`], [`FileError::Malformed`] when the value does not serialise.
pub fn write_json<T: Serialize>(path: &Path, kind: Kind, value: &T) -> Result<(), FileError> {
    let text = seal_json(kind, value).map_err(|why| FileError::malformed(path, why))?;
    write_atomic(path, &[text.as_bytes()])
}

/// [`write_json`] as one of several files.
pub(super) fn put_json<T: Serialize>(
    files: &mut Staged,
    name: &str,
    kind: Kind,
    access: Access,
    value: &T,
) -> Result<(), FileError> {
    let text = seal_json(kind, value).map_err(|why| FileError::malformed(Path::new(name), why))?;
    files.put(name, access, &[text.as_bytes()])
}

/// [`write_json`] into a file that only its owner can read.
///
/// # Errors
/// As [`write_json`].
pub fn write_private<T: Serialize>(path: &Path, kind: Kind, value: &T) -> Result<(), FileError> {
    let text = seal_json(kind, value).map_err(|why| FileError::malformed(path, why))?;
    write_with(path, Access::Owner, |file| file.write_all(text.as_bytes()).map_err(FileError::io(path)))
}

/// Reads a JSON artefact and checks its seal.
///
/// # Errors
/// Any [`FileError`].
pub fn read_json<T: DeserializeOwned>(path: &Path, kind: Kind) -> Result<T, FileError> {
    let bytes = read_limited(path, JSON_LIMIT)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| FileError::malformed(path, e))?;
    let not_ours = || FileError::NotOurs { path: path.to_owned(), expected: kind };
    let Value::Object(mut object) = value else { return Err(not_ours()) };
    let checksum = object.remove("checksum").ok_or_else(not_ours)?;
    match object.get("kind").and_then(Value::as_str) {
        None => return Err(not_ours()),
        Some(k) if k != kind.name() => {
            return Err(FileError::WrongKind { path: path.to_owned(), expected: kind, found: k.to_owned() });
        }
        Some(_) => {}
    }
    match object.get("format").and_then(Value::as_u64) {
        None => return Err(not_ours()),
        Some(found) if found != u64::from(FORMAT) => {
            return Err(FileError::WrongFormat { path: path.to_owned(), expected: FORMAT, found });
        }
        Some(_) => {}
    }
    if checksum.as_str() != Some(&digest_hex(&[canonical(&object).as_bytes()])) {
        return Err(FileError::Checksum { path: path.to_owned() });
    }
    object.remove("kind");
    object.remove("format");
    serde_json::from_value(Value::Object(object)).map_err(|e| FileError::malformed(path, e))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        numbers: Vec<i64>,
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("parhelion-seal-{}-{name}", std::process::id()))
    }

    #[test]
    fn digest_is_blake2b() {
        // RFC 7693's parameters with a 32-byte output; the empty string's known answer.
        assert_eq!(digest_hex(&[]), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    }

    #[test]
    fn hexadecimal_is_strict() {
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        for bad in ["0", "0F", "0x00", "zz", " 00", "é"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let path = scratch("kinds");
        write_binary(&path, Kind::Model, b"x").unwrap();
        let e = read_binary(&path, Kind::Circuit).unwrap_err();
        assert!(matches!(e, FileError::WrongKind { .. }), "{e}");
        write_json(&path, Kind::Proof, &Sample { name: "a".into(), numbers: vec![] }).unwrap();
        let e = read_json::<Sample>(&path, Kind::Settings).unwrap_err();
        assert!(matches!(e, FileError::WrongKind { .. }), "{e}");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = scratch("dir");
        let path = dir.join("a");
        write_atomic(&path, &[b"old"]).unwrap();
        // A directory cannot be replaced by a file.
        fs::create_dir_all(dir.join("b/c")).unwrap();
        assert!(write_atomic(&dir.join("b"), &[b"new"]).is_err());
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_dir_all(dir).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn binary_notices_every_change(payload: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let path = scratch("binary");
            write_binary(&path, Kind::Model, &payload).unwrap();
            prop_assert_eq!(&read_binary(&path, Kind::Model).unwrap(), &payload);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[at.index(good.len())] ^= flip;
            fs::write(&path, &bad).unwrap();
            prop_assert!(read_binary(&path, Kind::Model).is_err());
            fs::write(&path, &good[..at.index(good.len())]).unwrap();
            prop_assert!(read_binary(&path, Kind::Model).is_err());
            fs::remove_file(&path).unwrap();
        }

        #[test]
        fn json_notices_every_change(
            name: String, numbers: Vec<i64>, at: prop::sample::Index, flip in 1u8..
        ) {
            let path = scratch("json");
            let value = Sample { name, numbers };
            write_json(&path, Kind::Proof, &value).unwrap();
            prop_assert_eq!(&read_json::<Sample>(&path, Kind::Proof).unwrap(), &value);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[at.index(good.len())] ^= flip;
            fs::write(&path, &bad).unwrap();
            // A change that goes unseen must not change the value: an escape in a string has two spellings.
            if let Ok(read) = read_json::<Sample>(&path, Kind::Proof) {
                prop_assert_eq!(&read, &value);
            }
            fs::write(&path, &good[..at.index(good.len())]).unwrap();
            prop_assert!(read_json::<Sample>(&path, Kind::Proof).is_err());
            fs::remove_file(&path).unwrap();
        }
    }
}
