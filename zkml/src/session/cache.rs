//! The key cache: a directory whose entries are named by what they are made from.
//!
//! An entry's name is a digest of everything that decides its contents, so an entry is never stale and never invalidated. Every entry carries a
//! checksum of its own, which its reader verifies; what does not verify is made again. Entries are written whole or not at all, so any number of processes may share the directory, and a run
//! that was killed resumes with what it had finished.
//!
//! The directory is `$PARHELION_CACHE`, else `$XDG_CACHE_HOME/parhelion`, else `$HOME/.cache/parhelion`. It may be deleted at any time.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::FileError;
use super::seal::{digest_hex, read_limited, write_atomic};

const LIMIT: u64 = 1 << 40;

/// A directory of files that check themselves.
#[derive(Clone, Debug)]
pub struct Cache {
    root: Option<PathBuf>,
}

impl Cache {
    /// At the place that the environment says; a cache that keeps nothing when it says none.
    pub fn from_env() -> Self {
        let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = set("PARHELION_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("parhelion")))
            .or_else(|| set("HOME").map(|d| d.join(".cache").join("parhelion")));
        Cache { root }
    }

    /// In a directory, which is made when something is stored.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Cache { root: Some(root.into()) }
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Cache { root: None }
    }

    /// The directory.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Where an entry is, whether it exists or not.
    pub fn path(&self, folder: &str, name: &str) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(folder).join(name))
    }

    /// The name of an entry that is made from `parts`: each is length-prefixed, so no two lists share a name.
    pub fn name(parts: &[&[u8]]) -> String {
        let lengths: Vec<[u8; 8]> = parts.iter().map(|p| (p.len() as u64).to_le_bytes()).collect();
        let all: Vec<&[u8]> = lengths.iter().zip(parts).flat_map(|(l, p)| [&l[..], p]).collect();
        digest_hex(&all)
    }

    /// The bytes of an entry, or none. The caller verifies them, and calls [`Cache::discard`] when they are damaged.
    pub fn get(&self, folder: &str, name: &str) -> Option<Vec<u8>> {
        let path = self.path(folder, name)?;
        match read_limited(&path, LIMIT) {
            Ok(bytes) => Some(bytes),
            Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::warn!("cache: {e}");
                None
            }
        }
    }

    /// Removes an entry whose contents turned out not to be usable.
    pub fn discard(&self, folder: &str, name: &str) {
        if let Some(path) = self.path(folder, name) {
            // Another process may have been first.
            let _ = fs::remove_file(path);
        }
    }

    /// Stores an entry. A cache that cannot be written costs time, not correctness: one warning.
    pub fn put(&self, folder: &str, name: &str, bytes: &[u8]) {
        let Some(path) = self.path(folder, name) else { return };
        if let Err(e) = write_atomic(&path, &[bytes]) {
            tracing::warn!("not cached: {e}");
        }
        if let Some(parent) = path.parent() {
            sweep(parent);
        }
    }
}

/// Removes temporary files that a killed writer left more than an hour ago.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| SystemTime::now().duration_since(t).ok())
            .is_some_and(|age| age > Duration::from_secs(3600));
        if old && name.starts_with('.') && name.ends_with(".tmp") {
            // Another process may have been first.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_finds_and_discards() {
        let root = env::temp_dir().join(format!("parhelion-cache-{}", std::process::id()));
        let cache = Cache::at(&root);
        let name = Cache::name(&[b"model", b"settings"]);
        assert!(cache.get("keys", &name).is_none());
        cache.put("keys", &name, b"payload");
        assert_eq!(cache.get("keys", &name).as_deref(), Some(&b"payload"[..]));
        cache.discard("keys", &name);
        assert!(cache.get("keys", &name).is_none());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_after_a_while() {
        let root = env::temp_dir().join(format!("parhelion-sweep-{}", std::process::id()));
        let cache = Cache::at(&root);
        cache.put("keys", "a", b"1");
        let (old, new) = (root.join("keys/.b.1.0.tmp"), root.join("keys/.c.1.0.tmp"));
        for path in [&old, &new] {
            fs::write(path, b"half").unwrap();
        }
        let past = SystemTime::now() - Duration::from_secs(7200);
        fs::File::options().write(true).open(&old).unwrap().set_modified(past).unwrap();
        cache.put("keys", "d", b"2");
        assert_eq!((old.exists(), new.exists()), (false, true));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn names_do_not_collide_by_concatenation() {
        assert_ne!(Cache::name(&[b"ab", b"c"]), Cache::name(&[b"a", b"bc"]));
        assert_ne!(Cache::name(&[b"ab"]), Cache::name(&[b"ab", b""]));
    }

    #[test]
    fn a_cache_without_a_place_keeps_nothing() {
        let cache = Cache::none();
        cache.put("keys", "x", b"payload");
        assert!(cache.get("keys", "x").is_none());
    }
}
