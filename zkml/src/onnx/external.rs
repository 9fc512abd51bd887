//! Tensors whose values are in files beside the model.
//!
//! A model names such a file by a path relative to its own folder. A path that leaves the folder, by its text or by a link, is refused before anything is
//! opened: a model file must not make its reader read other files. Values are read tensor by tensor, and digested as they are
//! read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use blake2b_simd::{Params, State};

use super::error::ImportError;
use super::proto::TensorProto;

/// The files beside a model.
pub(super) struct External {
    dir: Option<PathBuf>,
    state: RefCell<Reading>,
}

struct Reading {
    files: HashMap<String, (File, u64)>,
    digest: Option<State>,
}

impl External {
    /// Files in a folder; without one, there are none.
    pub(super) fn new(dir: Option<&Path>) -> Self {
        let dir = dir.map(|d| if d.as_os_str().is_empty() { PathBuf::from(".") } else { d.to_owned() });
        External { dir, state: RefCell::new(Reading { files: HashMap::new(), digest: None }) }
    }

    /// Digest of all that was read, in the order of reading; `None` when nothing was.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        let state = self.state.borrow();
        let hash = state.digest.as_ref()?.finalize();
        hash.as_bytes().first_chunk::<32>().copied()
    }

    /// The bytes of a tensor, `wanted` of them.
    pub(super) fn read(
        &self,
        p: &TensorProto,
        name: &str,
        wanted: Option<usize>,
    ) -> Result<Vec<u8>, ImportError> {
        let entry = |key: &str| p.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let location = entry("location").unwrap_or_default();
        let bad = |reason: String| ImportError::External {
            name: name.to_owned(),
            location: location.to_owned(),
            reason,
        };
        let number = |key: &str| {
            entry(key)
                .map(|v| v.parse::<u64>().map_err(|_| bad(format!("{key} `{v}` is not a number"))))
                .transpose()
        };
        let wanted = wanted.ok_or_else(|| bad("the tensor is too large".into()))?;
        let offset = number("offset")?.unwrap_or(0);
        if let Some(length) = number("length")?
            && length != wanted as u64
        {
            return Err(bad(format!("its length is given as {length} bytes, its shape needs {wanted}")));
        }
        let mut state = self.state.borrow_mut();
        if !state.files.contains_key(location) {
            let file = self.open(location).map_err(bad)?;
            state.files.insert(location.to_owned(), file);
        }
        let Some((file, len)) = state.files.get_mut(location) else {
            return Err(bad("was not opened".into()));
        };
        // Checked before anything is allocated.
        if offset.checked_add(wanted as u64).is_none_or(|end| end > *len) {
            return Err(bad(format!("bytes {offset} to {offset} + {wanted} of a file of {len}")));
        }
        let mut bytes = vec![0; wanted];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| bad(e.to_string()))?;
        let digest = state.digest.get_or_insert_with(|| Params::new().hash_length(32).to_state());
        digest.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        digest.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        Ok(bytes)
    }

    fn open(&self, location: &str) -> Result<(File, u64), String> {
        let Some(dir) = &self.dir else {
            return Err("the model was not read from a folder".into());
        };
        let path = Path::new(location);
        let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !inside {
            return Err("the path does not stay in the model's folder".into());
        }
        let root = dir.canonicalize().map_err(|e| e.to_string())?;
        let path = root.join(path).canonicalize().map_err(|e| e.to_string())?;
        if !path.starts_with(&root) {
            return Err("the path leads out of the model's folder".into());
        }
        let file = File::open(&path).map_err(|e| e.to_string())?;
        let meta = file.metadata().map_err(|e| e.to_string())?;
        if !meta.is_file() {
            return Err("is not a file".into());
        }
        Ok((file, meta.len()))
    }
}
