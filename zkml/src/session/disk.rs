//! Files whole or not at all, several of them together, and reads that end.
//!
//! A regular file is written beside its place under a temporary name, flushed, and renamed; the new file has the mode of the one that it
//! replaces. A path that leads through a link is written where the link leads, and a device or a pipe is written into: neither is replaced.
//! [`Staged`] does this for the files of a directory: they are replaced together when all of them are written, or none is.
//!
//! A read takes a file once, from start to end, so pipes can be read; its limit holds whatever length the system reports.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prost::bytes::Bytes;

use super::error::FileError;

/// Removes the temporary file unless it was renamed.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Temporary {
    /// A name beside `path`, of this process alone.
    fn beside(path: &Path) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Temporary(Some(parent(path).join(format!(".parhelion.{}.{serial}.tmp", std::process::id()))))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(self.path(), to)?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // A file that cannot be removed has a name that nothing reads.
            let _ = fs::remove_file(path);
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Who may read a file that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// As the system's mask says.
    Default,
    /// Its owner alone; also where the file is there already.
    Owner,
}

/// Where a path is written.
enum Place {
    /// A file that is replaced, or made.
    File(PathBuf),
    /// Something that only takes bytes: a device, a pipe.
    Stream,
}

/// Follows links; what they lead to need not exist.
fn place(path: &Path) -> Result<Place, FileError> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        // What `/dev/stdout` and its like lead to is somebody's open file, not a name to put a new file under.
        if at.starts_with("/dev/fd") || at.starts_with("/proc") {
            return Ok(Place::Stream);
        }
        match fs::symlink_metadata(&at) {
            Ok(m) if m.is_symlink() => {
                at = parent(&at).join(fs::read_link(&at).map_err(FileError::io(path))?);
            }
            Ok(m) if m.is_file() => return Ok(Place::File(at)),
            Ok(m) if m.is_dir() => {
                return Err(FileError::io(path)(io::Error::from(io::ErrorKind::IsADirectory)));
            }
            Ok(_) => return Ok(Place::Stream),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Place::File(at)),
            Err(e) => return Err(FileError::io(path)(e)),
        }
    }
    Err(FileError::io(path)(io::Error::other("too many links")))
}

/// The temporary file of `target`, with the mode that the finished file is to have.
fn create(temporary: &Temporary, target: &Path, access: Access) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let file = options.open(temporary.path())?;
    if access == Access::Default
        && let Ok(old) = fs::metadata(target)
    {
        file.set_permissions(old.permissions())?;
    }
    Ok(file)
}

/// Writes a file whole or not at all by `body`; missing parent directories are made.
///
/// # Errors
/// [`FileError::Io`] for the file, or `body`'s own.
pub fn write_with<E: From<FileError>>(
    path: &Path,
    access: Access,
    body: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let target = match place(path)? {
        Place::File(target) => target,
        Place::Stream => {
            let mut file = File::options().write(true).open(path).map_err(FileError::io(path))?;
            body(&mut file)?;
            return Ok(file.flush().map_err(FileError::io(path))?);
        }
    };
    make_parent(&target)?;
    let temporary = Temporary::beside(&target);
    let mut file = create(&temporary, &target, access).map_err(FileError::io(path))?;
    body(&mut file)?;
    file.sync_all().map_err(FileError::io(path))?;
    drop(file);
    Ok(temporary.rename(&target).map_err(FileError::io(path))?)
}

fn make_parent(target: &Path) -> Result<(), FileError> {
    fs::create_dir_all(parent(target)).map_err(FileError::io(parent(target)))
}

/// Writes a file whole or not at all. Missing parent directories are made.
///
/// # Errors
/// [`FileError::Io`].
pub fn write_atomic(path: &Path, parts: &[&[u8]]) -> Result<(), FileError> {
    write_with(path, Access::Default, |file| {
        parts.iter().try_for_each(|part| file.write_all(part)).map_err(FileError::io(path))
    })
}

/// Files of a directory that are replaced together.
///
/// All of them are written under temporary names first; [`Staged::commit`] then renames them in their order. A failure before that leaves the
/// directory as it was, and removes it if it was made for them.
#[derive(Debug)]
pub struct Staged {
    dir: PathBuf,
    /// The directories that were made, the outermost first.
    made: Vec<PathBuf>,
    files: Vec<(Temporary, PathBuf)>,
    obsolete: Vec<PathBuf>,
}

impl Staged {
    /// In a directory, which is made where it is missing.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(dir: &Path) -> Result<Self, FileError> {
        let missing = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists());
        let mut made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        made.reverse();
        fs::create_dir_all(dir).map_err(FileError::io(dir))?;
        sweep(dir);
        Ok(Staged { dir: dir.to_owned(), made, files: Vec::new(), obsolete: Vec::new() })
    }

    /// Writes one of the files by `body`.
    ///
    /// # Errors
    /// [`FileError::Io`], or `body`'s own.
    pub fn write<E: From<FileError>>(
        &mut self,
        name: &str,
        access: Access,
        body: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.dir.join(name);
        let target = match place(&path)? {
            Place::File(target) => target,
            // Nothing can be kept back from a stream.
            Place::Stream => return write_with(&path, access, body),
        };
        make_parent(&target)?;
        let temporary = Temporary::beside(&target);
        let mut file = create(&temporary, &target, access).map_err(FileError::io(&path))?;
        body(&mut file)?;
        file.sync_all().map_err(FileError::io(&path))?;
        self.files.push((temporary, target));
        Ok(())
    }

    /// Writes one of the files from bytes.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn put(&mut self, name: &str, access: Access, parts: &[&[u8]]) -> Result<(), FileError> {
        let path = self.dir.join(name);
        self.write(name, access, |file| {
            parts.iter().try_for_each(|part| file.write_all(part)).map_err(FileError::io(&path))
        })
    }

    /// Lets a file go when the others come: one that is of no use beside them.
    pub fn remove(&mut self, name: &str) {
        self.obsolete.push(self.dir.join(name));
    }

    /// Puts all files in their places.
    ///
    /// # Errors
    /// [`FileError::Io`] when a file cannot be renamed; what depends on the others, which comes last, is then gone rather than wrong.
    pub fn commit(mut self) -> Result<(), FileError> {
        let last = self.files.last().map(|(_, target)| target.clone());
        for path in self.obsolete.drain(..).chain(last.filter(|_| self.files.len() > 1)) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(FileError::io(&path)(e)),
                _ => {}
            }
        }
        for (temporary, target) in self.files.drain(..) {
            temporary.rename(&target).map_err(FileError::io(&target))?;
        }
        self.made.clear();
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.files.clear();
        for dir in self.made.iter().rev() {
            // A directory that something else has put a file into stays.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Removes temporary files that a killed writer left more than an hour ago.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with('.') && name.ends_with(".tmp")) {
            continue;
        }
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| SystemTime::now().duration_since(t).ok())
            .is_some_and(|age| age > Duration::from_secs(3600));
        if old {
            // Another process may have been first.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Opens a file for reading: a regular one, a pipe or a terminal.
fn open(path: &Path) -> Result<File, FileError> {
    let file = File::open(path).map_err(FileError::io(path))?;
    let kind = file.metadata().map_err(FileError::io(path))?.file_type();
    if kind.is_dir() {
        return Err(FileError::io(path)(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_block_device() || (kind.is_char_device() && !file.is_terminal()) {
            return Err(FileError::Device { path: path.to_owned() });
        }
    }
    Ok(file)
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`FileError::Io`], [`FileError::TooLarge`], [`FileError::Device`].
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = open(path)?;
    let told = file.metadata().map_err(FileError::io(path))?.len();
    let too_large = |bytes| FileError::TooLarge { path: path.to_owned(), bytes, limit };
    if told > limit {
        return Err(too_large(told));
    }
    let mut bytes = Vec::new();
    let room = |e: std::collections::TryReserveError| FileError::malformed(path, e);
    bytes.try_reserve_exact(usize::try_from(told).unwrap_or(usize::MAX)).map_err(room)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Opens a file of at most `limit` bytes to be read as a stream; its length.
///
/// # Errors
/// As [`read_limited`].
pub fn open_limited(path: &Path, limit: u64) -> Result<(BufReader<File>, u64), FileError> {
    let file = open(path)?;
    let bytes = file.metadata().map_err(FileError::io(path))?.len();
    if bytes > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes, limit });
    }
    Ok((BufReader::new(file), bytes))
}

/// What was read from paths that can be read only once.
#[derive(Debug, Default)]
pub(super) struct Once(HashMap<PathBuf, Bytes>);

impl Once {
    /// [`read_limited`]; a pipe gives what it gave the first time.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> Result<Bytes, FileError> {
        if let Some(bytes) = self.0.get(path) {
            return Ok(bytes.clone());
        }
        let regular = fs::metadata(path).is_ok_and(|m| m.is_file());
        let bytes = Bytes::from(read_limited(path, limit)?);
        if !regular {
            self.0.insert(path.to_owned(), bytes.clone());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("parhelion-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_link_is_followed_and_modes_are_kept() {
        let dir = scratch("link");
        fs::create_dir(dir.join("real")).unwrap();
        fs::write(dir.join("real/file"), "old").unwrap();
        fs::set_permissions(dir.join("real/file"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("real/file", dir.join("link")).unwrap();
        symlink("link", dir.join("second")).unwrap();
        symlink("real/made", dir.join("dangling")).unwrap();
        write_atomic(&dir.join("second"), &[b"n", b"ew"]).unwrap();
        write_atomic(&dir.join("dangling"), &[b"made"]).unwrap();
        assert_eq!(fs::read(dir.join("real/file")).unwrap(), b"new");
        assert_eq!(mode(&dir.join("real/file")), 0o600);
        assert_eq!(fs::read(dir.join("real/made")).unwrap(), b"made");
        for link in ["link", "second", "dangling"] {
            assert!(fs::symlink_metadata(dir.join(link)).unwrap().is_symlink(), "{link}");
        }
        symlink("loop", dir.join("loop")).unwrap();
        assert!(write_atomic(&dir.join("loop"), &[b"x"]).is_err());
        write_with::<FileError>(&dir.join("secret"), Access::Owner, |_| Ok(())).unwrap();
        assert_eq!(mode(&dir.join("secret")), 0o600);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_device_is_written_into() {
        use std::os::unix::fs::FileTypeExt;
        write_atomic(Path::new("/dev/null"), &[b"gone"]).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(write_atomic(Path::new("/dev/full"), &[b"no room"]).is_err());
        let dir = scratch("device");
        symlink("/dev/null", dir.join("null")).unwrap();
        write_atomic(&dir.join("null"), &[b"gone"]).unwrap();
        assert_eq!(names(&dir), ["null"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pipe_is_written_into_and_read_once() {
        let dir = scratch("pipe");
        let pipe = dir.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let writer = pipe.clone();
        let thread = std::thread::spawn(move || write_atomic(&writer, &[b"through"]).unwrap());
        let mut once = Once::default();
        assert_eq!(&once.read(&pipe, 100).unwrap()[..], b"through");
        thread.join().unwrap();
        assert_eq!(&once.read(&pipe, 100).unwrap()[..], b"through");
        let writer = pipe.clone();
        let thread = std::thread::spawn(move || {
            // The reader leaves before the end.
            let _ = write_atomic(&writer, &[&[7; 1 << 20]]);
        });
        assert!(matches!(read_limited(&pipe, 1000), Err(FileError::TooLarge { .. })));
        thread.join().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn endless_devices_are_refused() {
        for path in ["/dev/zero", "/dev/urandom", "/dev/null"] {
            let e = read_limited(Path::new(path), 1 << 40).unwrap_err();
            assert!(matches!(e, FileError::Device { .. }), "{e}");
            assert!(open_limited(Path::new(path), 1 << 40).is_err());
        }
    }

    #[test]
    fn staged_files_come_together_or_not_at_all() {
        let dir = scratch("staged");
        let out = dir.join("a/b");
        let fill = |last: &[u8]| {
            let mut staged = Staged::new(&out).unwrap();
            staged.put("key", Access::Default, &[b"new key"]).unwrap();
            staged.put("proof", Access::Owner, &[last]).unwrap();
            staged
        };
        drop(fill(b"1"));
        assert!(names(&dir).is_empty(), "the directories that were made are gone");
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("key"), "old key").unwrap();
        fs::write(out.join("witness"), "old witness").unwrap();
        drop(fill(b"2"));
        assert_eq!(fs::read(out.join("key")).unwrap(), b"old key");
        assert_eq!(names(&out), ["key", "witness"]);
        let mut staged = fill(b"3");
        staged.remove("witness");
        staged.commit().unwrap();
        assert_eq!(names(&out), ["key", "proof"]);
        assert_eq!(fs::read(out.join("key")).unwrap(), b"new key");
        assert_eq!(mode(&out.join("proof")), 0o600);
        // Something that cannot be replaced is found before anything is.
        fs::remove_file(out.join("proof")).unwrap();
        fs::create_dir(out.join("proof")).unwrap();
        let mut staged = Staged::new(&out).unwrap();
        staged.put("key", Access::Default, &[b"newer key"]).unwrap();
        assert!(staged.put("proof", Access::Default, &[b"4"]).is_err());
        drop(staged);
        assert_eq!(fs::read(out.join("key")).unwrap(), b"new key");
        fs::remove_dir_all(dir).unwrap();
    }
}
