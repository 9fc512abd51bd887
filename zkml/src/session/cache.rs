//! The key cache: a directory whose entries are named by what they are made from.
//!
//! An entry's name is a digest of everything that decides its contents, so an entry is never stale and never invalidated. Every entry carries a
//! checksum of its own, which its reader verifies; what does not verify is made again. Entries are written whole or not at all, so any number of processes may share the directory, and a run
//! that was killed resumes with what it had finished.
//!
//! The directory is `$PARHELION_CACHE`, else `$XDG_CACHE_HOME/parhelion`, else `$HOME/.cache/parhelion`. It may be deleted at any time.
//!
//! # Trust
//!
//! A checksum says nothing about who wrote an entry. So the directory is made for its owner alone; one that belongs to somebody else, or that
//! others may write to, is not used, nor is such an entry. Whoever reads a key also compares it with the circuit that it is for: see
//! [`Session::keys`](super::Session::keys).

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::disk::{Access, sweep, write_with};
use super::error::FileError;
use super::seal::digest_hex;

/// A directory of files that check themselves.
#[derive(Clone, Debug)]
pub struct Cache {
    root: Option<PathBuf>,
    /// Whether the directory is this user's alone, once somebody asked.
    private: Arc<OnceLock<bool>>,
}

impl Cache {
    /// At the place that the environment says; a cache that keeps nothing when it says none.
    pub fn from_env() -> Self {
        let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = set("PARHELION_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("parhelion")))
            .or_else(|| set("HOME").map(|d| d.join(".cache").join("parhelion")));
        Cache { root, private: Arc::default() }
    }

    /// In a directory, which is made when something is stored.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Cache { root: Some(root.into()), private: Arc::default() }
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Cache { root: None, private: Arc::default() }
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

    /// An entry as a stream, or none. The caller verifies what it reads, and calls [`Cache::discard`] when it is damaged.
    pub fn open(&self, folder: &str, name: &str) -> Option<File> {
        let path = self.path(folder, name)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cache: {}", FileError::io(&path)(e));
                }
                return None;
            }
        };
        if !self.usable(folder) {
            return None;
        }
        match file.metadata() {
            Ok(m) if m.is_file() => match intruder(&m) {
                None => Some(file),
                Some(why) => {
                    tracing::warn!("cache: {}: {why}; not used", path.display());
                    None
                }
            },
            Ok(_) => {
                tracing::warn!("cache: {}: not a file", path.display());
                None
            }
            Err(e) => {
                tracing::warn!("cache: {}", FileError::io(&path)(e));
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

    /// Stores an entry that `body` writes. A cache that cannot be written costs time, not correctness: one warning.
    pub fn put<E: From<FileError> + std::fmt::Display>(
        &self,
        folder: &str,
        name: &str,
        body: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) {
        let Some(path) = self.path(folder, name) else { return };
        if let Some(parent) = path.parent() {
            if let Err(e) = make_private(parent) {
                tracing::warn!("not cached: {}", FileError::io(parent)(e));
                return;
            }
            if !self.usable(folder) {
                return;
            }
            sweep(parent);
        }
        if let Err(e) = write_with(&path, Access::Owner, body) {
            tracing::warn!("not cached: {e}");
        }
    }

    /// Whether nobody else can have put anything into a folder.
    fn usable(&self, folder: &str) -> bool {
        let Some(root) = &self.root else { return false };
        *self.private.get_or_init(|| is_private(root)) && is_private(&root.join(folder))
    }
}

/// Makes a directory and what is missing above it, for this user alone.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn is_private(dir: &Path) -> bool {
    let why = match fs::metadata(dir) {
        Ok(m) if !m.is_dir() => "not a directory".to_owned(),
        Ok(m) => match intruder(&m) {
            None => return true,
            Some(why) => why,
        },
        Err(e) => e.to_string(),
    };
    tracing::warn!("the cache is not used: {}: {why}; delete it, or take the right away", dir.display());
    false
}

/// Who else could have written what this is the metadata of.
#[cfg(unix)]
fn intruder(m: &fs::Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let own = own_uid();
    if own != Some(m.uid()) {
        return Some(format!("it belongs to user {}, not to this one", m.uid()));
    }
    // Group and others.
    (m.mode() & 0o022 != 0).then(|| format!("others may write to it (mode {:o})", m.mode() & 0o777))
}

#[cfg(not(unix))]
fn intruder(_: &fs::Metadata) -> Option<String> {
    None
}

/// The user that this process makes files as.
#[cfg(unix)]
fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    static UID: OnceLock<Option<u32>> = OnceLock::new();
    *UID.get_or_init(|| {
        if let Ok(m) = fs::metadata("/proc/self") {
            return Some(m.uid());
        }
        // Where there is no such file system: the owner of a file that is new.
        let path = env::temp_dir().join(format!(".parhelion.owner.{}.tmp", std::process::id()));
        let uid = File::options().write(true).create_new(true).open(&path).and_then(|f| f.metadata());
        // Its name is this process's own.
        let _ = fs::remove_file(path);
        uid.ok().map(|m| m.uid())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn put(cache: &Cache, name: &str, bytes: &[u8]) {
        cache.put::<FileError>("keys", name, |file| {
            file.write_all(bytes).map_err(FileError::io(Path::new(name)))
        });
    }

    fn get(cache: &Cache, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        cache.open("keys", name)?.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    fn scratch(name: &str) -> PathBuf {
        let root = env::temp_dir().join(format!("parhelion-cache-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        root
    }

    #[test]
    fn stores_finds_and_discards() {
        let root = scratch("stores");
        let cache = Cache::at(&root);
        let name = Cache::name(&[b"model", b"settings"]);
        assert!(get(&cache, &name).is_none());
        put(&cache, &name, b"payload");
        assert_eq!(get(&cache, &name).as_deref(), Some(&b"payload"[..]));
        cache.discard("keys", &name);
        assert!(get(&cache, &name).is_none());
        fs::remove_dir_all(root).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let root = scratch("private");
        put(&Cache::at(&root), "a", b"1");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let (folder, file) = (root.join("keys"), root.join("keys/a"));
        assert_eq!([mode(&root), mode(&folder), mode(&file)], [0o700, 0o700, 0o600]);
        for path in [&root, &folder, &file] {
            let before = mode(path);
            for open in [0o020, 0o002] {
                chmod(path, before | open);
                assert_eq!(get(&Cache::at(&root), "a"), None, "{} {open:o}", path.display());
            }
            if path != &file {
                put(&Cache::at(&root), "b", b"2");
                assert!(!root.join("keys/b").exists());
            }
            chmod(path, before);
        }
        assert_eq!(get(&Cache::at(&root), "a").as_deref(), Some(&b"1"[..]));
        // A directory that anybody may read, as an earlier version made it, is good.
        chmod(&root, 0o755);
        assert!(get(&Cache::at(&root), "a").is_some());
        fs::remove_dir_all(root).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_belongs_to_somebody_else_is_not_used() {
        let root = scratch("owner");
        put(&Cache::at(&root), "a", b"1");
        // Only the superuser can give a directory away.
        if std::os::unix::fs::chown(&root, Some(12_345), None).is_ok() {
            assert_eq!(get(&Cache::at(&root), "a"), None);
        }
        let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap());
        std::os::unix::fs::chown(&root, Some(own), None).unwrap();
        assert!(get(&Cache::at(&root), "a").is_some());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_after_a_while() {
        let root = scratch("sweep");
        let cache = Cache::at(&root);
        put(&cache, "a", b"1");
        let (old, new) = (root.join("keys/.b.1.0.tmp"), root.join("keys/.c.1.0.tmp"));
        for path in [&old, &new] {
            fs::write(path, b"half").unwrap();
        }
        let past = SystemTime::now() - Duration::from_secs(7200);
        fs::File::options().write(true).open(&old).unwrap().set_modified(past).unwrap();
        put(&cache, "d", b"2");
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
        put(&cache, "x", b"payload");
        assert!(get(&cache, "x").is_none());
    }
}
