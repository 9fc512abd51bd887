//! Finding and loading Icicle.
//!
//! The three libraries of the front end are opened in the order device, field, curve, all with global symbols: the device
//! backends, which Icicle opens itself, register themselves through C++ symbols of the front end. Icicle reports success even when
//! a backend fails to load, and a call of an operation that nobody registered throws a C++ exception; so afterwards every
//! backend file of an accelerator is opened once more, which tells whether it is there and else why not.
//!
//! Libraries stay loaded for the life of the process: drivers do not survive being unloaded.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, Weak};

use crate::device::Device;
use crate::error::IcicleError;
use crate::ffi::{Part, RawDevice, Symbols};
use crate::options::IcicleOptions;

/// Icicle's own CPU device, registered by the front end itself.
pub(crate) const CPU: &str = "CPU";

/// A loaded front end.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) symbols: Symbols,
    /// Where it was found, for reports.
    pub(crate) path: String,
    version: &'static str,
    /// What the library holds once per process and device, mirrored.
    pub(crate) state: Mutex<State>,
}

/// State of the C library that outlives every handle of this crate.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// log₂ of the domain that is initialised on a device, by device.
    pub(crate) domains: BTreeMap<(String, i32), u32>,
    pub(crate) devices: Vec<(RawDevice, Weak<Device>)>,
}

/// The front ends of the process, by path. A C library has one state per process, and so has this: whoever loads the same files gets the
/// same front end.
static LIBRARIES: Mutex<Vec<&'static Library>> = Mutex::new(Vec::new());

impl Library {
    /// Loads the front end and the device backends.
    pub(crate) fn load(options: &IcicleOptions) -> Result<&'static Library, String> {
        let mut tried = Vec::new();
        for dir in options.library_dirs() {
            match open_parts(dir.as_deref()) {
                Ok(parts) => return Self::from_parts(parts, dir.as_deref(), options),
                Err(why) => tried.push(why),
            }
        }
        Err(format!("{} (PARHELION_ICICLE_LIB names the directory of Icicle's libraries)", tried.join("; ")))
    }

    fn from_parts(
        parts: [libloading::Library; 3],
        dir: Option<&Path>,
        options: &IcicleOptions,
    ) -> Result<&'static Library, String> {
        let path = dir.map_or_else(
            || "the system's library path".to_owned(),
            |dir| dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf()).display().to_string(),
        );
        let loaded = |libraries: &[&'static Library]| libraries.iter().find(|l| l.path == path).copied();
        let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = loaded(&libraries) {
            return Ok(library);
        }
        // Never unloaded: see the module's documentation.
        let parts: &'static [libloading::Library; 3] = Box::leak(Box::new(parts));
        let [device, field, curve] = parts;
        let symbols = Symbols::find(|part| match part {
            Part::Device => device,
            Part::Field => field,
            Part::Curve => curve,
        })?;
        let version = version(field, curve);
        if let Some(dir) = options.backend_dir() {
            load_backends(&symbols, &dir)?;
        }
        let library: &'static Library =
            Box::leak(Box::new(Library { symbols, path, version, state: Mutex::default() }));
        libraries.push(library);
        Ok(library)
    }

    /// What to call it in reports.
    pub(crate) fn driver(&self) -> String {
        format!("Icicle {} in {}", self.version, self.path)
    }

    /// The kinds of device that are registered, accelerators first.
    pub(crate) fn kinds(&self) -> Result<Vec<String>, String> {
        let mut names = vec![0u8; 4096];
        // SAFETY: the buffer is as long as is said, and the function writes a string that ends within it.
        let code =
            unsafe { (self.symbols.icicle_get_registered_devices)(names.as_mut_ptr().cast(), names.len()) };
        IcicleError::check(code).map_err(|error| format!("icicle_get_registered_devices: {error}"))?;
        let end = names.iter().position(|byte| *byte == 0).unwrap_or(0);
        let names = String::from_utf8_lossy(names.get(..end).unwrap_or_default()).into_owned();
        let mut kinds: Vec<String> =
            names.split(',').map(|kind| kind.trim().to_owned()).filter(|kind| !kind.is_empty()).collect();
        kinds.sort_by_key(|kind| (kind == CPU, kind.clone()));
        Ok(kinds)
    }

    /// Why the operations of a part cannot be called on a kind of device, if they cannot.
    pub(crate) fn lacks(&self, kind: &str, part: Part, options: &IcicleOptions) -> Option<String> {
        if kind == CPU {
            return None;
        }
        let Some(dir) = options.backend_dir() else {
            return Some("no directory of device backends is known (ICICLE_BACKEND_INSTALL_DIR)".into());
        };
        let mut files = Vec::new();
        find_backends(&dir, &mut files, 0);
        let wanted = format!("icicle_backend_{}_{}", kind.to_ascii_lowercase(), part.stem());
        let file = files.iter().find(|file| {
            file.file_stem().is_some_and(|stem| stem.to_string_lossy().to_ascii_lowercase().contains(&wanted))
        });
        match file {
            None => Some(format!("no lib{wanted} under {}", dir.display())),
            Some(file) => match open(file, false) {
                Ok(library) => {
                    // It is loaded by Icicle already; the second handle keeps it so.
                    std::mem::forget(library);
                    None
                }
                Err(error) => Some(format!("{} cannot be loaded: {error}", file.display())),
            },
        }
    }
}

/// The version by which functions there are: the interface has no function that tells it.
fn version(field: &libloading::Library, curve: &libloading::Library) -> &'static str {
    let has = |library: &libloading::Library, name: &[u8]| {
        // SAFETY: the address is only compared with null, never called or read.
        unsafe { library.get::<*const ()>(name).is_ok() }
    };
    if has(curve, b"bn254_projective_eq\0") {
        "v4"
    } else if has(field, b"bn254_vector_inv\0") {
        "v3.7 or later"
    } else {
        "v3"
    }
}

fn open_parts(dir: Option<&Path>) -> Result<[libloading::Library; 3], String> {
    let open_part = |part: Part| {
        let name = libloading::library_filename(format!("icicle_{}", part.stem()));
        let path = dir.map_or_else(|| PathBuf::from(&name), |dir| dir.join(&name));
        open(&path, true)
    };
    let [device, field, curve] = Part::ALL;
    Ok([open_part(device)?, open_part(field)?, open_part(curve)?])
}

#[cfg(unix)]
fn open(path: &Path, global: bool) -> Result<libloading::Library, String> {
    use libloading::os::unix;
    let scope = if global { unix::RTLD_GLOBAL } else { unix::RTLD_LOCAL };
    // SAFETY: the initialisers of a library that the user installed and named run with the user's rights, as they would by linking
    // it. Nothing of it is called here.
    let library = unsafe { unix::Library::open(Some(path), unix::RTLD_LAZY | scope) };
    library.map(Into::into).map_err(|error| error.to_string())
}

#[cfg(not(unix))]
fn open(path: &Path, _: bool) -> Result<libloading::Library, String> {
    Err(format!("{}: Icicle exists for Linux and macOS only", path.display()))
}

fn load_backends(symbols: &Symbols, dir: &Path) -> Result<(), String> {
    let path = CString::new(dir.as_os_str().as_encoded_bytes())
        .map_err(|_| format!("{}: the path holds a zero byte", dir.display()))?;
    if !dir.is_dir() {
        return Err(format!("ICICLE_BACKEND_INSTALL_DIR: {} is not a directory", dir.display()));
    }
    // SAFETY: the path is a string that ends in a zero byte and lives until the call returns.
    let code = unsafe { (symbols.icicle_load_backend)(path.as_ptr(), true) };
    IcicleError::check(code).map_err(|error| format!("icicle_load_backend({}): {error}", dir.display()))
}

/// The libraries under a directory that Icicle would load.
fn find_backends(dir: &Path, found: &mut Vec<PathBuf>, depth: usize) {
    // Installations nest three deep; the bound ends cycles of links.
    if depth > 8 {
        return;
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            find_backends(&path, found, depth + 1);
        } else if path.extension().is_some_and(|e| e == std::env::consts::DLL_EXTENSION) {
            found.push(path);
        }
    }
}
