//! The backend itself: which devices there are, and what an open one offers.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::MemoryInfo;
use parhelion_backend_api::{
    Backend, DeviceInfo, Error, Knob, Msm, Ntt, PolyOps, Promise, Provider, Quotient, SpaceId, Unavailable,
};

use crate::NAME;
use crate::buffer::DeviceSpace;
use crate::device::Device;
use crate::error::Failure;
use crate::ffi::{self, Api, Info, MESSAGE, code};
use crate::msm::SpparkMsm;
use crate::ntt::SpparkNtt;
use crate::options::{KNOBS, SpparkOptions};
use crate::poly::SpparkPoly;
use crate::quotient::SpparkQuotient;
use crate::session::text;

/// What the kernels are for, on a card with the memory that it takes.
const PROMISES: [Promise; 4] = Promise::plonk(26);

/// Oldest card that the kernels are for: warps whose threads go their own ways.
const OLDEST: (u32, u32) = (7, 0);

/// Bytes copied between host and devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To devices.
    pub to_device: u64,
    /// To the host.
    pub to_host: u64,
}

/// One device of the library.
#[derive(Clone, Debug)]
struct Found {
    id: i32,
    processors: u32,
    info: DeviceInfo,
}

/// The sppark backend. Its devices are `sppark:0`, `sppark:1`, …, in CUDA's order.
#[derive(Debug)]
pub struct SpparkBackend {
    options: Result<SpparkOptions, String>,
    api: Result<&'static Api, &'static str>,
    found: OnceLock<Result<Vec<Found>, String>>,
    /// Devices that somebody has open: a device has one context.
    open: Mutex<Vec<Weak<Device>>>,
}

impl Default for SpparkBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl SpparkBackend {
    /// The backend as the environment sets it up; see [`SpparkOptions`]. The driver is loaded by the first probe.
    pub fn new() -> Self {
        Self::of(SpparkOptions::from_env(), &ffi::CUDA, "this build has no kernels for CUDA: see docs/gpu.md")
    }

    /// The backend with given settings.
    pub fn with_options(options: SpparkOptions) -> Self {
        SpparkBackend { options: Ok(options), ..Self::new() }
    }

    /// The kernels as plain C++, as one simulated device of 256 MiB: a test of the kernels, not a way to compute.
    pub fn emulated(options: SpparkOptions) -> Self {
        Self::of(Ok(options), &ffi::EMULATION, "this build has no emulated kernels (feature host-emulation)")
    }

    fn of(options: Result<SpparkOptions, String>, api: &'static Option<Api>, lacking: &'static str) -> Self {
        let api = api.as_ref().ok_or(lacking);
        SpparkBackend { options, api, found: OnceLock::new(), open: Mutex::default() }
    }

    /// What has been copied so far by the devices that are open.
    pub fn traffic(&self) -> Traffic {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(Weak::upgrade).fold(Traffic::default(), |sum, device| {
            let (to_device, to_host) = device.traffic();
            Traffic { to_device: sum.to_device + to_device, to_host: sum.to_host + to_host }
        })
    }

    /// Lets the n-th step from now (an allocation, a copy, a kernel) of every open device fail, as if memory had run out (1), the device had been lost
    /// (2), or for another reason (4); with 5 it is the last that an emulated device answers to. For tests of what follows.
    ///
    /// # Errors
    /// When a device is lost already.
    pub fn inject(&self, after: u64, returned: i32) -> Result<(), Failure> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(Weak::upgrade).try_for_each(|device| device.session()?.inject(after, returned))
    }

    fn found(&self) -> Result<&[Found], String> {
        let found = self.found.get_or_init(|| {
            self.options.as_ref().map_err(Clone::clone)?;
            find(self.api?)
        });
        found.as_deref().map_err(Clone::clone)
    }
}

/// The devices of a library, without opening any.
fn find(api: &'static Api) -> Result<Vec<Found>, String> {
    let mut message = [0; MESSAGE];
    let mut count = 0;
    // SAFETY: the integer is writable, and the buffer has the length that is given.
    let returned = unsafe { (api.device_count)(&raw mut count, message.as_mut_ptr(), MESSAGE) };
    if returned != code::OK {
        return Err(text(&message));
    }
    let (mut found, mut why) = (Vec::new(), Vec::new());
    for id in 0..count {
        let mut info = Info {
            name: [0; 256],
            total: 0,
            major: 0,
            minor: 0,
            processors: 0,
            runtime: 0,
            driver: 0,
            simulated: 0,
        };
        // SAFETY: the structure is writable and as large as the library's, and the buffer has the length that is given.
        let returned = unsafe { (api.device_info)(id, &raw mut info, message.as_mut_ptr(), MESSAGE) };
        let name = text(&info.name);
        if returned != code::OK {
            why.push(format!("device {id}: {}", text(&message)));
        } else if info.simulated == 0 && (info.major, info.minor) < OLDEST {
            why.push(format!("{name}: compute capability {}.{} is below 7.0", info.major, info.minor));
        } else if let Ok(index) = u16::try_from(id) {
            found.push(Found { id, processors: info.processors, info: describe(index, name, &info) });
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(if why.is_empty() { "CUDA finds no device".into() } else { why.join("; ") })
}

fn describe(index: u16, name: String, info: &Info) -> DeviceInfo {
    let version = |number: u32| format!("{}.{}", number / 1000, number % 1000 / 10);
    let driver = if info.simulated != 0 {
        concat!("parhelion-backend-sppark ", env!("CARGO_PKG_VERSION"), ", emulated").into()
    } else {
        format!(
            "CUDA {} (driver for {}), compute capability {}.{}",
            version(info.runtime),
            version(info.driver),
            info.major,
            info.minor
        )
    };
    DeviceInfo {
        backend: NAME,
        space: SpaceId { name: NAME, index },
        name,
        driver,
        memory: MemoryInfo { total: Some(info.total), free: None },
        simulated: info.simulated != 0,
    }
}

impl Backend for SpparkBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        let found = self.found().map_err(|why| Unavailable { backend: NAME, why })?;
        Ok(found.iter().map(|device| device.info.clone()).collect())
    }

    fn knobs(&self) -> &'static [Knob] {
        KNOBS
    }

    fn promises(&self) -> &'static [Promise] {
        &PROMISES
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider, Error> {
        let no_such = |why: String| Error::Invalid { what: "device", why };
        let found = self.found().map_err(no_such)?;
        let options = self.options.as_ref().map_err(|why| no_such(why.clone()))?;
        let api = self.api.map_err(|why| no_such(why.into()))?;
        let Some(Found { id, processors, info }) =
            found.iter().find(|found| found.info.space == device.space && device.backend == NAME)
        else {
            let why = format!("{} on {} is not a device of the backend {NAME}", device.backend, device.space);
            return Err(no_such(why));
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|device| device.strong_count() > 0);
        let usable = |device: &Arc<Device>| device.space() == info.space && device.lost().is_none();
        let device = match open.iter().filter_map(Weak::upgrade).find(usable) {
            Some(device) => device,
            None => {
                let device = Device::open(api, *id, info.space, *processors, options);
                let device = device.map_err(Failure::touched)?;
                open.push(Arc::downgrade(&device));
                device
            }
        };
        Ok(Provider::new(info.clone(), Arc::new(DeviceSpace(device.clone())))
            .offer::<dyn Msm<G1Affine>>(Arc::new(SpparkMsm(device.clone())))
            .offer::<dyn Ntt<Fr>>(Arc::new(SpparkNtt(device.clone())))
            .offer::<dyn Quotient<Fr>>(Arc::new(SpparkQuotient(device.clone())))
            .offer::<dyn PolyOps<Fr>>(Arc::new(SpparkPoly(device))))
    }
}
