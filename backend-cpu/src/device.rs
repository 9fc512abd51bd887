//! The backend itself: one device, the machine's processor.

use std::sync::Arc;

use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{HostSpace, MemoryInfo};
use parhelion_backend_api::{
    Backend, DeviceInfo, Error, Knob, KnobKind, Msm, Ntt, PolyOps, Promise, Provider, Quotient, SpaceId,
};

use crate::{CpuMsm, CpuNtt, CpuPoly, CpuQuotient, Isa, IsaError, NAME, PrecomputeError};

/// Every shape, up to the two-adicity of the field.
const PROMISES: [Promise; 4] = Promise::plonk(28);

const KNOBS: &[Knob] = &[
    Knob {
        name: "PARHELION_CPU_ISA",
        kind: KnobKind::Word(&["auto", "scalar", "ifma"]),
        default: "auto",
        doc: "instruction set of the CPU backend",
    },
    Knob {
        name: "PARHELION_CPU_PRECOMPUTE",
        kind: KnobKind::Bytes,
        default: "0",
        doc: "memory for multiples of the reference string, which make multi-scalar multiplications on the CPU faster",
    },
];

/// The CPU backend. Its one device is the processor, its space the host's memory; every operation is offered.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend {
    isa: Option<Isa>,
    precompute: Option<u64>,
}

impl CpuBackend {
    /// The backend with the instruction set that `PARHELION_CPU_ISA` asks for, or else the fastest, and the memory for multiples of bases
    /// that `PARHELION_CPU_PRECOMPUTE` allows, or else none. The variables are read when a device is probed or opened.
    pub const fn new() -> Self {
        CpuBackend { isa: None, precompute: None }
    }

    /// The backend with a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn with_isa(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuBackend { isa: Some(isa.check()?), ..CpuBackend::new() })
    }

    /// The same with up to `bytes` of memory for multiples of bases, whatever `PARHELION_CPU_PRECOMPUTE` says: all bases that one open
    /// device prepares for long use ([`Reuse::Often`](parhelion_backend_api::Reuse)) share them. Multi-scalar multiplications then need
    /// fewer additions; results are the same. A table that would save too little is not made.
    #[must_use]
    pub const fn with_precompute(self, bytes: u64) -> Self {
        CpuBackend { precompute: Some(bytes), ..self }
    }

    /// The instruction set that devices are opened with.
    ///
    /// # Errors
    /// [`IsaError`] when `PARHELION_CPU_ISA` is not a name or asks for what this machine cannot run.
    pub fn isa(&self) -> Result<Isa, IsaError> {
        self.isa.map_or_else(Isa::from_env, Ok)
    }

    /// Bytes for multiples of bases.
    ///
    /// # Errors
    /// [`PrecomputeError`] when `PARHELION_CPU_PRECOMPUTE` is not a number of bytes.
    pub fn precompute(&self) -> Result<u64, PrecomputeError> {
        self.precompute.map_or_else(PrecomputeError::bytes_from_env, Ok)
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, parhelion_backend_api::Unavailable> {
        let unavailable = |why| parhelion_backend_api::Unavailable { backend: NAME, why };
        let isa = self.isa().map_err(|error| unavailable(error.to_string()))?;
        self.precompute().map_err(|error| unavailable(error.to_string()))?;
        Ok(vec![DeviceInfo {
            backend: NAME,
            space: SpaceId::HOST,
            name: format!("{} ({} threads)", std::env::consts::ARCH, rayon::current_num_threads()),
            driver: isa.name().to_owned(),
            memory: MemoryInfo::default(),
            simulated: false,
        }])
    }

    fn knobs(&self) -> &'static [Knob] {
        KNOBS
    }

    fn promises(&self) -> &'static [Promise] {
        &PROMISES
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider, Error> {
        if device.backend != NAME || device.space != SpaceId::HOST {
            return Err(Error::Invalid {
                what: "device",
                why: format!("{} on {} is not a device of the backend {NAME}", device.backend, device.space),
            });
        }
        let isa = self.isa()?;
        Ok(Provider::new(device.clone(), Arc::new(HostSpace))
            .offer::<dyn Msm<G1Affine>>(Arc::new(CpuMsm::new(isa)?.with_precompute(self.precompute()?)))
            .offer::<dyn Ntt<Fr>>(Arc::new(CpuNtt::new(isa)?))
            .offer::<dyn Quotient<Fr>>(Arc::new(CpuQuotient::new(isa)?))
            .offer::<dyn PolyOps<Fr>>(Arc::new(CpuPoly::new(isa)?)))
    }
}
