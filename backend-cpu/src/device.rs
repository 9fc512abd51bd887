//! The backend itself: one device, the machine's processor.

use std::sync::Arc;

use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::{HostSpace, MemoryInfo};
use parhelion_backend_api::{Backend, DeviceInfo, Error, Provider, SpaceId};

use crate::{CpuMsm, CpuNtt, CpuPoly, CpuQuotient, Isa, IsaError, NAME};

/// The CPU backend. Its one device is the processor, its space the host's memory; every operation is offered.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend {
    isa: Option<Isa>,
}

impl CpuBackend {
    /// The backend with the instruction set that `PARHELION_CPU_ISA` asks for, or else the fastest. The variable is read when a
    /// device is probed or opened.
    pub const fn new() -> Self {
        CpuBackend { isa: None }
    }

    /// The backend with a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn with_isa(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuBackend { isa: Some(isa.check()?) })
    }

    /// The instruction set that devices are opened with.
    ///
    /// # Errors
    /// [`IsaError`] when `PARHELION_CPU_ISA` is not a name or asks for what this machine cannot run.
    pub fn isa(&self) -> Result<Isa, IsaError> {
        self.isa.map_or_else(Isa::from_env, Ok)
    }
}

impl Backend<G1Affine> for CpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, parhelion_backend_api::Unavailable> {
        let isa = self
            .isa()
            .map_err(|error| parhelion_backend_api::Unavailable { backend: NAME, why: error.to_string() })?;
        Ok(vec![DeviceInfo {
            backend: NAME,
            space: SpaceId::HOST,
            name: format!("{} ({} threads)", std::env::consts::ARCH, rayon::current_num_threads()),
            driver: isa.name().to_owned(),
            memory: MemoryInfo::default(),
            simulated: false,
        }])
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider<G1Affine>, Error> {
        if device.backend != NAME || device.space != SpaceId::HOST {
            return Err(Error::Invalid {
                what: "device",
                why: format!("{} on {} is not a device of the backend {NAME}", device.backend, device.space),
            });
        }
        let isa = self.isa()?;
        Ok(Provider {
            info: device.clone(),
            space: Arc::new(HostSpace),
            msm: Some(Arc::new(CpuMsm::new(isa)?)),
            ntt: Some(Arc::new(CpuNtt::new(isa)?)),
            quotient: Some(Arc::new(CpuQuotient::new(isa)?)),
            poly: Some(Arc::new(CpuPoly::new(isa)?)),
        })
    }
}
