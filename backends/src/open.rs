//! From backends and knobs to an engine.

use std::sync::Arc;

use parhelion_backend_api::hal::SpaceId;
use parhelion_backend_api::{Backend, Curve, DeviceInfo, Provider, Unavailable};
use parhelion_dispatch::{Choice, CostTable, Engine, Knobs, Name, Policy, Settings, Trace};

use crate::Error;

/// Opens what a policy may use: devices of the host always, since thresholds, checks and fallbacks need them; others if the policy
/// does not exclude them; simulated ones if it names them. Host devices come first: without a measurement an accelerator
/// is used when it is asked for.
///
/// The second value says what could not be opened, and why.
pub fn open(backends: &[Box<dyn Backend>], policy: &Policy) -> (Vec<Provider>, Vec<Unavailable>) {
    let choices = || std::iter::once(&policy.choice).chain(policy.per_op.values());
    let named = |info: &DeviceInfo| policy.names().any(|name| name.matches(info));
    let open_to_all = choices().any(|choice| match choice {
        Choice::Auto => true,
        Choice::Prefer(preference) => preference.others,
        Choice::Force(_) => false,
    });
    let wanted =
        |info: &DeviceInfo| named(info) || (!info.simulated && (open_to_all || info.space == SpaceId::HOST));
    let (mut providers, mut failed) = (Vec::new(), Vec::new());
    for backend in backends {
        match backend.probe() {
            Ok(devices) => {
                for device in devices.iter().filter(|device| wanted(device)) {
                    match backend.open(device) {
                        Ok(provider) => providers.push(provider),
                        Err(error) => {
                            failed.push(Unavailable { backend: backend.name(), why: error.to_string() });
                        }
                    }
                }
            }
            Err(unavailable) => failed.push(unavailable),
        }
    }
    providers.sort_by_key(|provider| provider.info.space != SpaceId::HOST);
    (providers, failed)
}

/// An engine over backends, set up by knobs.
///
/// A name that the user wrote must exist, and a forced one must have a device; a preferred one without a device is dropped with a
/// warning, as is the preference that another project's variable implies.
///
/// # Errors
/// See [`Error`].
pub fn engine<C: Curve>(backends: &[Box<dyn Backend>], knobs: &Knobs) -> Result<Engine<C>, Error> {
    let mut policy = knobs.policy();
    if knobs.backend.is_some() {
        for name in policy.names() {
            if !backends.iter().any(|backend| backend.name() == name.backend()) {
                let known: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
                return Err(Error::Unknown { name: name.to_string(), known: known.join(", ") });
            }
        }
    }
    let (providers, failed) = open(backends, &policy);
    let here = |name: &Name| providers.iter().any(|provider| name.matches(&provider.info));
    let why = |name: &Name| -> String {
        let reasons = failed.iter().filter(|u| u.backend == name.backend());
        let reasons: Vec<&str> = reasons.map(|u| u.why.as_str()).collect();
        if !reasons.is_empty() {
            reasons.join("; ")
        } else if backends.iter().any(|backend| backend.name() == name.backend()) {
            format!("no device {name}")
        } else {
            "not in this build".into()
        }
    };
    match &mut policy.choice {
        Choice::Auto => {}
        Choice::Force(name) => {
            if !here(name) {
                return Err(unavailable(backends, name, why(name)));
            }
        }
        Choice::Prefer(preference) => {
            for name in preference.names.iter().filter(|name| !here(name)) {
                tracing::warn!("the preferred backend {name} cannot be used: {}", why(name));
            }
            let last = preference.names.last().cloned();
            preference.names.retain(here);
            if let (Some(name), true, false) = (last, preference.names.is_empty(), preference.others) {
                return Err(unavailable(backends, &name, why(&name)));
            }
        }
    }
    if providers.is_empty() {
        let why: Vec<String> = failed.iter().map(Unavailable::to_string).collect();
        return Err(Error::Nothing(if why.is_empty() {
            "this build has none".into()
        } else {
            why.join("; ")
        }));
    }
    for unavailable in &failed {
        tracing::debug!("{unavailable}");
    }
    let table = match &knobs.table {
        Some(path) => Some(Arc::new(CostTable::read(path).map_err(Arc::new)?)),
        None => None,
    };
    let trace = match &knobs.trace {
        Some(path) => Some(Arc::new(Trace::create(path).map_err(|source| Error::Trace {
            path: path.display().to_string(),
            source: Arc::new(source),
        })?)),
        None => None,
    };
    let settings = Settings { policy, table, trace, fft_stats: knobs.fft_stats };
    Engine::new(providers).configure(settings).map_err(|error| Error::Settings(Arc::new(error)))
}

fn unavailable(backends: &[Box<dyn Backend>], name: &Name, why: String) -> Error {
    match backends.iter().find(|backend| backend.name() == name.backend()) {
        Some(backend) => Error::Unavailable(Unavailable { backend: backend.name(), why }),
        None => Error::Unknown { name: name.to_string(), known: why },
    }
}
