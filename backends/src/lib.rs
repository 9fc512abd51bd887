//! Every Parhelion backend behind one additive cargo feature each, and the default engine.
//!
//! This is the only crate that names backends, and [`default_engine`] holds the only static above the backends: open devices, their prepared
//! bases and compiled programs live from the first proof to the end of the process, usable from every thread.
//!
//! | feature | backend | needs at build time |
//! |---|---|---|
//! | `cpu` (default) | `cpu` | nothing |
//! | `icicle` | `icicle` | nothing: Icicle is found at run time, see `docs/gpu.md` |
//! | `sppark` | `sppark` | a CUDA compiler, which `scripts/cuda-toolkit.sh` gets from PyPI |
#![forbid(unsafe_code)]

mod open;

use std::fmt;
use std::sync::{Arc, OnceLock};

use halo2curves::bn256::G1Affine;
use parhelion_backend_api::{Backend, DeviceInfo, Knob, Unavailable};
use parhelion_dispatch::{Engine, KnobError, Knobs, TableError};

pub use open::{engine, open};

/// Gives memory that was freed, and that the allocator keeps for later, back to the system, where that can be asked for.
pub fn release_memory() {
    #[cfg(feature = "cpu")]
    parhelion_backend_cpu::release_memory();
}

/// Why there is no engine.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable does not parse.
    #[error(transparent)]
    Knob(#[from] KnobError),
    /// A backend is named that this build does not have.
    #[error("backend `{name}` is not in this build, which has: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A backend is named that has no device here.
    #[error("backend `{}` cannot be used: {}", .0.backend, .0.why)]
    Unavailable(Unavailable),
    /// The cost table cannot be read.
    #[error(transparent)]
    Table(#[from] Arc<TableError>),
    /// The trace file cannot be created.
    #[error("trace file {path}: {source}")]
    Trace {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The engine refuses its settings.
    #[error(transparent)]
    Settings(Arc<parhelion_backend_api::Error>),
    /// No backend has a device here.
    #[error("no backend can be used: {0}")]
    Nothing(String),
    /// The engine of the process was asked for, or set, before.
    #[error("the engine of the process is open already")]
    AlreadyOpen,
}

/// Every backend of this build, host first.
pub fn all() -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "cpu")]
        Box::new(parhelion_backend_cpu::CpuBackend::new()),
        #[cfg(feature = "icicle")]
        Box::new(parhelion_backend_icicle::IcicleBackend::new()),
        #[cfg(feature = "sppark")]
        Box::new(parhelion_backend_sppark::SpparkBackend::new()),
    ]
}

/// An engine over what is here, set up by the environment; see [`parhelion_dispatch::KNOBS`].
///
/// # Errors
/// [`Error`]: a variable that does not parse, a backend that is named and cannot be used, a table or a trace file that cannot be
/// opened.
pub fn engine_from_env() -> Result<Engine<G1Affine>, Error> {
    let backends = all();
    engine(&backends, &Knobs::from_env(&knobs_of(&backends))?)
}

/// The environment variables of every backend of this build.
pub fn knobs() -> Vec<Knob> {
    knobs_of(&all())
}

fn knobs_of(backends: &[Box<dyn Backend>]) -> Vec<Knob> {
    backends.iter().flat_map(|backend| backend.knobs()).copied().collect()
}

static ENGINE: OnceLock<Result<Engine<G1Affine>, Error>> = OnceLock::new();

/// Makes `engine` the engine of the process, so that whatever proves with [`default_engine`], the drop-in `create_proof` above all, uses a backend
/// or a policy of the caller's own instead of what the environment says.
///
/// # Errors
/// [`Error::AlreadyOpen`] after the first proof, or after another call; the engine of the process stays what it was.
pub fn set_default_engine(engine: Engine<G1Affine>) -> Result<(), Error> {
    ENGINE.set(Ok(engine)).map_err(|_| Error::AlreadyOpen)
}

/// The engine of the process, opened from the environment at the first call unless [`set_default_engine`] came before. A failure is as permanent as a
/// success.
///
/// # Errors
/// As [`engine_from_env`].
pub fn default_engine() -> Result<&'static Engine<G1Affine>, Error> {
    ENGINE.get_or_init(engine_from_env).as_ref().map_err(Error::clone)
}

/// What one backend found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of the backend.
    pub backend: &'static str,
    /// Its devices, or why it has none.
    pub devices: Result<Vec<DeviceInfo>, Unavailable>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.devices {
            Ok(devices) => devices.iter().try_for_each(|device| {
                let DeviceInfo { backend, space, name, driver, simulated, .. } = device;
                let simulated = if *simulated { "; simulated" } else { "" };
                writeln!(f, "{backend} ({space}): {name}; {driver}{simulated}")
            }),
            Err(unavailable) => writeln!(f, "{unavailable}"),
        }
    }
}

/// The devices of every backend of this build, without opening any.
pub fn devices() -> Vec<Found> {
    all().iter().map(|backend| Found { backend: backend.name(), devices: backend.probe() }).collect()
}
