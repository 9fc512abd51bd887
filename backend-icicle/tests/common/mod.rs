//! A backend on a copy of the loopback library of its own.
#![allow(dead_code, reason = "every test file uses a part")]

use std::time::Duration;

use parhelion_backend_api::{Backend, DeviceInfo, Error, Provider, Unavailable};
use parhelion_backend_icicle::{IcicleBackend, IcicleOptions};
use parhelion_icicle_loopback::{Loopback, LoopbackError};

/// A backend and the library that it talks to.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) library: Loopback,
    pub(crate) backend: IcicleBackend,
}

impl Fixture {
    /// The `CUDA` device of a fresh copy.
    pub(crate) fn cuda() -> Result<Self, LoopbackError> {
        Self::with(&["CUDA"], |_| {})
    }

    /// The `CPU` device of a fresh copy.
    pub(crate) fn cpu() -> Result<Self, LoopbackError> {
        Self::with(&["CPU"], |_| {})
    }

    /// Devices of a fresh copy, with other settings than the default.
    pub(crate) fn with(
        devices: &[&str],
        set: impl FnOnce(&mut IcicleOptions),
    ) -> Result<Self, LoopbackError> {
        let library = Loopback::install()?;
        let backend = backend(&library, devices, set);
        Ok(Fixture { library, backend })
    }

    /// The first device, open.
    pub(crate) fn open(&self) -> Provider {
        let devices = self.backend.probe().unwrap();
        self.backend.open(&devices[0]).unwrap()
    }
}

/// Another backend on the same library.
pub(crate) fn backend(
    library: &Loopback,
    devices: &[&str],
    set: impl FnOnce(&mut IcicleOptions),
) -> IcicleBackend {
    let mut options = IcicleOptions {
        library_dir: Some(library.library_dir()),
        backend_dir: Some(library.backend_dir()),
        devices: Some(devices.iter().map(|kind| (*kind).to_owned()).collect()),
        timeout: Duration::from_secs(60),
        ntt_log_n: 12,
        ..IcicleOptions::default()
    };
    set(&mut options);
    IcicleBackend::with_options(options)
}

impl Backend for Fixture {
    fn name(&self) -> &'static str {
        self.backend.name()
    }
    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        self.backend.probe()
    }
    fn open(&self, device: &DeviceInfo) -> Result<Provider, Error> {
        self.backend.open(device)
    }
}
