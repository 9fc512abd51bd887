//! The backend itself: which devices there are, and what an open one offers.

use std::sync::{Arc, OnceLock, PoisonError};

use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::MemoryInfo;
use parhelion_backend_api::{Backend, DeviceInfo, Error, Knob, Msm, Ntt, Provider, SpaceId, Unavailable};

use crate::NAME;
use crate::buffer::DeviceSpace;
use crate::device::{Device, guarded};
use crate::error::Failure;
use crate::ffi::{Part, RawDevice};
use crate::library::{CPU, Library};
use crate::msm::IcicleMsm;
use crate::ntt::IcicleNtt;
use crate::options::{IcicleOptions, KNOBS};
use crate::session::Session;

/// One device of the library.
#[derive(Clone, Debug)]
struct Found {
    library: &'static Library,
    kind: String,
    id: i32,
    info: DeviceInfo,
}

/// The Icicle backend.
///
/// Its devices are numbered in the order in which they are found, accelerators first: `icicle:0` is the first GPU.
#[derive(Debug)]
pub struct IcicleBackend {
    options: Result<IcicleOptions, String>,
    found: OnceLock<Result<Vec<Found>, String>>,
}

impl Default for IcicleBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl IcicleBackend {
    /// The backend as the environment sets it up; see [`IcicleOptions`]. The library is loaded by the first probe.
    pub fn new() -> Self {
        IcicleBackend { options: IcicleOptions::from_env(), found: OnceLock::new() }
    }

    /// The backend with given settings.
    pub fn with_options(options: IcicleOptions) -> Self {
        IcicleBackend { options: Ok(options), found: OnceLock::new() }
    }

    fn options(&self) -> Result<&IcicleOptions, String> {
        self.options.as_ref().map_err(Clone::clone)
    }

    fn found(&self) -> Result<&[Found], String> {
        let found = self.found.get_or_init(|| {
            let options = self.options()?.clone();
            // Drivers have been seen to hang while they load.
            guarded(options.timeout, "loading Icicle", move || find(&options))?
        });
        found.as_deref().map_err(Clone::clone)
    }
}

/// Loads the library and lists its devices. To be called on a thread that is not used for anything else: it changes the thread's device.
fn find(options: &IcicleOptions) -> Result<Vec<Found>, String> {
    let library = Library::load(options)?;
    let registered = library.kinds()?;
    let wanted = |kind: &String| match &options.devices {
        Some(kinds) => kinds.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind)),
        None => kind != CPU,
    };
    let (mut found, mut why) = (Vec::new(), Vec::new());
    for kind in registered.iter().filter(|kind| wanted(kind)) {
        let lacks_all =
            match (library.lacks(kind, Part::Curve, options), library.lacks(kind, Part::Field, options)) {
                (Some(curve), Some(field)) => Some(format!("{kind}: {curve}; {field}")),
                _ => None,
            };
        let session = Session::start(library, kind, 0, options.ntt_log_n);
        match (lacks_all, session.and_then(|session| session.device_count())) {
            (Some(lacks), _) => why.push(lacks),
            (None, Err(failure)) => why.push(format!("{kind}: {failure}")),
            (None, Ok(count)) if count < 1 => why.push(format!("{kind}: no device")),
            (None, Ok(count)) => {
                for id in 0..count {
                    let Ok(index) = u16::try_from(found.len()) else { break };
                    let memory = Session::start(library, kind, id, options.ntt_log_n)
                        .ok()
                        .and_then(|session| session.memory());
                    let info = DeviceInfo {
                        backend: NAME,
                        space: SpaceId { name: NAME, index },
                        name: format!("{kind} {id}"),
                        driver: library.driver(),
                        memory: memory.map_or_else(MemoryInfo::default, |(total, free)| MemoryInfo {
                            total: Some(total),
                            free: Some(free),
                        }),
                        simulated: kind == CPU,
                    };
                    found.push(Found { library, kind: kind.clone(), id, info });
                }
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let registered = if registered.is_empty() { "nothing".into() } else { registered.join(", ") };
    let asked = match &options.devices {
        Some(kinds) => format!("PARHELION_ICICLE_DEVICE asks for {}", kinds.join(", ")),
        None => "its CPU device is offered only where PARHELION_ICICLE_DEVICE names it".into(),
    };
    let why = if why.is_empty() { asked } else { why.join("; ") };
    let backends = match options.backend_dir() {
        Some(dir) => format!("backends under {}", dir.display()),
        None => "no backend directory (ICICLE_BACKEND_INSTALL_DIR)".into(),
    };
    Err(format!("{} registers {registered} ({backends}): {why}", library.driver()))
}

impl Backend for IcicleBackend {
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

    fn open(&self, device: &DeviceInfo) -> Result<Provider, Error> {
        let no_such = |why: String| Error::Invalid { what: "device", why };
        let found = self.found().map_err(no_such)?;
        let options = self.options().map_err(no_such)?;
        let Some(Found { library, kind, id, info }) =
            found.iter().find(|found| found.info.space == device.space && device.backend == NAME)
        else {
            let why = format!("{} on {} is not a device of the backend {NAME}", device.backend, device.space);
            return Err(no_such(why));
        };
        let open = share(library, kind, *id, info.space, options).map_err(Failure::touched)?;
        let offer = |part| match library.lacks(kind, part, options) {
            None => true,
            Some(why) => {
                tracing::warn!("{NAME}: {kind} offers less than it could: {why}");
                false
            }
        };
        let msm = offer(Part::Curve).then(|| -> Arc<dyn Msm<G1Affine>> {
            Arc::new(IcicleMsm::new(open.clone(), kind, options.precompute))
        });
        let ntt = offer(Part::Field).then(|| -> Arc<dyn Ntt<Fr>> { Arc::new(IcicleNtt::new(open.clone())) });
        // Icicle has no evaluation of programs with rotations, no running product and no division by a linear factor; what it has moves a
        // column for one multiplication per element, which the host's own memory is faster for.
        Ok(Provider::new(info.clone(), Arc::new(DeviceSpace(open))).offer_some(msm).offer_some(ntt))
    }
}

/// The device that is open already, or a new one where there is none or it has been lost.
fn share(
    library: &'static Library,
    kind: &str,
    id: i32,
    space: SpaceId,
    options: &IcicleOptions,
) -> Result<Arc<Device>, Failure> {
    let raw = RawDevice::new(kind, id).ok_or(Failure::TooLarge { what: "the name of the device" })?;
    {
        let state = library.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = state.devices.iter().filter(|(device, _)| *device == raw);
        let usable = |device: &Arc<Device>| {
            device.lost().is_none() && device.space() == space && device.timeout() == options.timeout
        };
        if let Some(device) = open.filter_map(|(_, device)| device.upgrade()).find(usable) {
            return Ok(device);
        }
    }
    let device = Device::open(library, kind, id, space, options)?;
    let mut state = library.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.devices.retain(|(_, device)| device.strong_count() > 0);
    state.devices.push((raw, Arc::downgrade(&device)));
    Ok(device)
}
