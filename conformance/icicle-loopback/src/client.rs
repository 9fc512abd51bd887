//! Installing a copy of the library and controlling it.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Why there is no loopback library.
#[derive(Debug)]
pub enum LoopbackError {
    /// The shared library of this crate is not where cargo builds it.
    NotBuilt(PathBuf),
    /// It cannot be copied.
    Copy(std::io::Error),
    /// It cannot be loaded.
    Load(libloading::Error),
}

impl std::fmt::Display for LoopbackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoopbackError::NotBuilt(near) => {
                write!(f, "no shared library of parhelion-icicle-loopback near {}", near.display())
            }
            LoopbackError::Copy(error) => write!(f, "copying the loopback library: {error}"),
            LoopbackError::Load(error) => write!(f, "loading the loopback library: {error}"),
        }
    }
}

impl std::error::Error for LoopbackError {}

impl From<std::io::Error> for LoopbackError {
    fn from(error: std::io::Error) -> Self {
        LoopbackError::Copy(error)
    }
}

/// An installed copy, removed when dropped. Copies share nothing.
#[derive(Debug)]
pub struct Loopback {
    root: PathBuf,
    library: libloading::Library,
}

/// The shared library that cargo built together with this crate.
fn built() -> Result<PathBuf, LoopbackError> {
    let exe = std::env::current_exe()?;
    let name = libloading::library_filename("parhelion_icicle_loopback");
    let mut dir = exe.parent();
    // Tests are in `deps`, examples in `examples`, binaries above them.
    while let Some(here) = dir {
        for candidate in [here.join(&name), here.join("deps").join(&name)] {
            if candidate.is_file() {
                return Ok(candidate);
            }
        }
        if here.file_name().is_some_and(|name| name == "target") {
            break;
        }
        dir = here.parent();
    }
    Err(LoopbackError::NotBuilt(exe))
}

impl Loopback {
    /// Installs a copy as Icicle installs itself: front end, and the backend of a `CUDA` device.
    ///
    /// # Errors
    /// [`LoopbackError`].
    pub fn install() -> Result<Self, LoopbackError> {
        Self::install_parts(&["device", "field_bn254", "curve_bn254"])
    }

    /// Installs a copy whose `CUDA` backend has only some of its three files.
    ///
    /// # Errors
    /// [`LoopbackError`].
    pub fn install_parts(backend: &[&str]) -> Result<Self, LoopbackError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("parhelion-loopback-{}-{number}", std::process::id()));
        let (lib, cuda) = (root.join("lib"), root.join("lib/backend/cuda"));
        std::fs::create_dir_all(&cuda)?;
        let first = lib.join(libloading::library_filename("icicle_device"));
        std::fs::copy(built()?, &first)?;
        // The dynamic linker knows a library by its file, so all names are one instance.
        for part in ["field_bn254", "curve_bn254"] {
            std::fs::hard_link(&first, lib.join(libloading::library_filename(format!("icicle_{part}"))))?;
        }
        for part in backend {
            let name = libloading::library_filename(format!("icicle_backend_cuda_{part}"));
            std::fs::hard_link(&first, cuda.join(name))?;
        }
        // SAFETY: the library is this crate's own; its initialisers do nothing.
        let library = unsafe { libloading::Library::new(&first) }.map_err(LoopbackError::Load)?;
        Ok(Loopback { root, library })
    }

    /// The directory of the front end.
    pub fn library_dir(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// The directory of the device backends.
    pub fn backend_dir(&self) -> PathBuf {
        self.root.join("lib/backend")
    }

    /// The directory that holds both.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a command of the table in the crate's documentation and returns its counter, 0 for none, -1 for a command that
    /// is not one.
    pub fn control(&self, command: &str) -> i64 {
        type Control = unsafe extern "C" fn(*const c_char) -> i64;
        let Ok(command) = CString::new(command) else { return -1 };
        // SAFETY: the symbol is this crate's own, of this type; the string lives until the call returns.
        unsafe {
            match self.library.get::<Control>(b"loopback_control\0") {
                Ok(control) => control(command.as_ptr()),
                Err(_) => -1,
            }
        }
    }

    /// What would have thrown, or was computed on the wrong device, since the last reset.
    pub fn violations(&self) -> String {
        type Violations = unsafe extern "C" fn(*mut c_char, usize) -> usize;
        let mut text = vec![0u8; 1 << 16];
        // SAFETY: the symbol is this crate's own, of this type; it writes at most as many bytes as it is told.
        let len = unsafe {
            match self.library.get::<Violations>(b"loopback_violations\0") {
                Ok(violations) => violations(text.as_mut_ptr().cast(), text.len()),
                Err(_) => 0,
            }
        };
        String::from_utf8_lossy(text.get(..len).unwrap_or_default()).into_owned()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // The files may go: what is loaded stays mapped.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
