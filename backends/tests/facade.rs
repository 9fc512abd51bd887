//! From knobs to an engine, with backends that are and are not here.

use std::collections::HashMap;

use halo2curves::bn256::G1Affine;
use parhelion_backend_api::{Backend, DeviceInfo, Direction, Provider, Unavailable, hal};
use parhelion_backends::{Error, all, default_engine, devices, engine};
use parhelion_conformance::{Naive, Remote};
use parhelion_dispatch::{Engine, KNOBS, Knobs, Query};

/// A backend whose library is not installed.
#[derive(Debug)]
struct Missing;

impl Backend for Missing {
    fn name(&self) -> &'static str {
        "missing"
    }
    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        Err(Unavailable { backend: "missing", why: "libmissing.so.1 not found".into() })
    }
    fn open(&self, _: &DeviceInfo) -> Result<Provider, hal::Error> {
        Err(hal::Error::DeviceLost { backend: "missing", why: "libmissing.so.1 not found".into() })
    }
}

/// A backend whose device does not open.
#[derive(Debug)]
struct Broken;

impl Backend for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        Ok(vec![DeviceInfo { backend: "broken", ..Naive::device() }])
    }
    fn open(&self, _: &DeviceInfo) -> Result<Provider, hal::Error> {
        Err(hal::Error::DeviceLost { backend: "broken", why: "it does not open".into() })
    }
}

fn build(set: &[(&str, &str)]) -> Result<Engine<G1Affine>, Error> {
    let set: HashMap<&str, &str> = set.iter().copied().collect();
    let knobs =
        Knobs::from_source(&parhelion_backends::knobs(), |name| set.get(name).map(|value| value.into()))?;
    let backends: Vec<Box<dyn Backend>> =
        vec![Box::new(Missing), Box::new(Broken), Box::new(Remote::new(Naive)), Box::new(Naive)];
    engine(&backends, &knobs)
}

fn names(engine: &Engine<G1Affine>) -> Vec<&'static str> {
    engine.devices().iter().map(|device| device.info.backend).collect()
}

#[test]
fn without_knobs_everything_that_opens_is_open_host_first() {
    assert_eq!(names(&build(&[]).unwrap()), ["naive", "remote"]);
}

#[test]
fn a_forced_backend_must_be_here() {
    let engine = build(&[("PARHELION_BACKEND", "remote")]).unwrap();
    assert_eq!(names(&engine), ["naive", "remote"], "the host stays, to check results");
    let query = Query::ntt(4, 1, Direction::Forward, false);
    assert_eq!(engine.explain(&query).legal().map(|c| c.backend).collect::<Vec<_>>(), ["remote"]);

    let error = build(&[("PARHELION_BACKEND", "missing")]).unwrap_err();
    assert!(matches!(&error, Error::Unavailable(u) if u.why == "libmissing.so.1 not found"), "{error}");
    let error = build(&[("PARHELION_BACKEND", "broken")]).unwrap_err();
    assert!(error.to_string().contains("does not open"), "{error}");
    let error = build(&[("PARHELION_BACKEND", "remote:5")]).unwrap_err();
    assert!(error.to_string().contains("no device remote:5"), "{error}");
    let error = build(&[("PARHELION_BACKEND", "cuda")]).unwrap_err();
    assert!(
        matches!(&error, Error::Unknown { name, known } if name == "cuda" && known.contains("remote")),
        "{error}"
    );
}

#[test]
fn a_preference_drops_what_is_not_here_but_not_what_does_not_exist() {
    let engine = build(&[("PARHELION_BACKEND", "missing,remote,naive")]).unwrap();
    let query = Query::ntt(4, 1, Direction::Forward, false);
    let order: Vec<_> = engine.explain(&query).legal().map(|c| c.backend).collect();
    assert_eq!(order, ["remote", "naive"]);
    assert!(matches!(build(&[("PARHELION_BACKEND", "missing,broken")]), Err(Error::Unavailable(_))));
    assert!(matches!(build(&[("PARHELION_BACKEND", "remote,cuda")]), Err(Error::Unknown { .. })));
}

#[test]
fn ezkls_switch_without_icicle_leaves_the_cpu_in_charge() {
    let engine = build(&[("ENABLE_ICICLE_GPU", "1"), ("ICICLE_SMALL_K", "4")]).unwrap();
    let query = Query::ntt(10, 1, Direction::Forward, false);
    assert_eq!(engine.pick(&query).unwrap().backend, "naive");
}

#[test]
fn bad_values_and_files_are_errors_that_name_them() {
    for (name, value) in [
        ("PARHELION_MIN_K", "twelve"),
        ("PARHELION_TABLE", "/nowhere/table.json"),
        ("PARHELION_TRACE", "/nowhere/trace.json"),
        ("PARHELION_BACKEND", "a b"),
    ] {
        let text = build(&[(name, value)]).unwrap_err().to_string();
        assert!(text.contains(value), "{text}");
    }
    let empty: Vec<Box<dyn Backend>> = vec![Box::new(Missing)];
    let error = engine::<G1Affine>(&empty, &Knobs::default()).unwrap_err();
    assert!(matches!(&error, Error::Nothing(why) if why.contains("libmissing")), "{error}");
}

#[test]
fn knobs_reach_the_engine() {
    let engine = build(&[
        ("PARHELION_MEMORY", "3M"),
        ("PARHELION_MSM_MIN_K", "9"),
        ("PARHELION_CHECK", "full"),
        ("HALO2_FFT_STATS", "1"),
    ])
    .unwrap();
    assert_eq!(engine.memory_budget(), Some(3 << 20));
    let settings = engine.settings();
    assert_eq!(settings.policy.thresholds.op(hal::Op::MSM), Some(9));
    assert_eq!(settings.policy.checks, parhelion_dispatch::Checks::FULL);
    assert!(settings.fft_stats);
}

#[cfg(feature = "cpu")]
#[test]
fn the_default_engine_is_one_and_has_the_cpu() {
    assert!(all().iter().any(|backend| backend.name() == "cpu"));
    assert!(devices().iter().any(|found| found.devices.as_ref().is_ok_and(|d| d[0].backend == "cpu")));
    if KNOBS.iter().any(|knob| knob.name.starts_with("PARHELION") && std::env::var_os(knob.name).is_some()) {
        println!("skipped: the environment sets a knob");
        return;
    }
    let first: *const Engine<G1Affine> = default_engine().unwrap();
    let again = std::thread::spawn(|| std::ptr::from_ref(default_engine().unwrap()) as usize).join().unwrap();
    assert_eq!(first as usize, again);
    let cpu = default_engine().unwrap().devices().remove(0);
    assert!(cpu.info.backend == "cpu" && cpu.trusted && cpu.ops.len() == 4, "{cpu}");
}
