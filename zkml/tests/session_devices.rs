//! A session on a device that lies or fails: the proof that comes out is right, and the device is left out from then on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "machine_common/second.rs"]
mod second;

use std::path::{Path, PathBuf};

use parhelion_backend_api::{Backend, Provider};
use parhelion_conformance::{Fault, FaultKind, Faulty, Remote};
use parhelion_prover::Engine;
use parhelion_prover::dispatch::{Checks, Policy, Settings};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::session::{Cache, Options, Session};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits-mlp").join(name)
}

fn open(backend: &impl Backend) -> Provider {
    backend.open(&backend.probe().unwrap()[0]).unwrap()
}

fn host() -> Box<dyn Backend> {
    parhelion_backends::all().into_iter().find(|backend| backend.name() == "cpu").unwrap()
}

/// Proves the digits example with a fault at one of the device's calls while proving. Whether it happened, and whether the device was quarantined.
fn prove(checks: Checks, kind: FaultKind, at: u64) -> (bool, bool) {
    let device = Faulty::new(Remote::new(host()), "device");
    let control = device.control();
    let engine = Engine::new(vec![open(&device), open(&host())]);
    let policy = Policy { checks, ..Policy::default() };
    let engine = engine.configure(Settings { policy, ..Settings::default() }).unwrap();
    let mut session = Session::new(engine.clone(), Cache::none());
    let options = Options::default();
    let imported = session.import(&example("model.onnx"), &options.import).unwrap();
    let input = session.input(&imported, &example("input.json"), Surplus::Refuse).unwrap();
    let prepared = session.prepare(imported, std::slice::from_ref(&input), &options).unwrap();
    let srs = session.srs(None, prepared.k()).unwrap();
    let keys = session.keys(&prepared, &srs).unwrap();
    let witness = session.witness(&prepared.quantised, &input).unwrap();
    control.schedule(vec![Fault::nth(kind, at)]);
    let proof = session
        .prove(&prepared, &keys, &witness)
        .unwrap_or_else(|e| panic!("{kind:?} at {at}: {e:?}; {:?}", engine.devices()));
    session.verify(&keys, &proof).unwrap();
    second::accepts(&keys, &proof);
    let quarantined = engine.devices().iter().any(|device| device.quarantined.is_some());
    (control.injected() > 0, quarantined)
}

#[test]
fn a_device_that_lies_or_fails_costs_no_proof() {
    let mut convicted = 0;
    for at in [0, 1, 2, 3, 5, 8, 13, 21] {
        let (injected, quarantined) = prove(Checks::OFF, FaultKind::Flip(at * 5), at);
        assert!(injected || !quarantined, "at {at}");
        convicted += u32::from(quarantined);
    }
    assert!(convicted >= 4, "{convicted} of 8 lies were found out");
    for at in [1, 6] {
        assert_eq!(prove(Checks::FULL, FaultKind::Zero, at), (true, true), "at {at}");
        assert_eq!(prove(Checks::OFF, FaultKind::DeviceLost, at), (true, true), "at {at}");
        assert_eq!(prove(Checks::OFF, FaultKind::Blame, at), (true, true), "at {at}");
        assert_eq!(prove(Checks::OFF, FaultKind::OutOfMemory, at), (true, false), "at {at}");
    }
}
