//! One device for the life of the process, used from every kind of thread at once, also while it dies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[path = "../../prover/tests/common/circuits.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "the prover's test circuits, of which this uses some"
)]
mod circuits;
mod common;
#[path = "common/foreign.rs"]
mod foreign;
#[path = "../../prover/tests/common/service.rs"]
mod service;

use std::time::Duration;

use common::Fixture;
use foreign::on_pthread;
use parhelion_backend_api::{Backend, Provider};
use parhelion_backend_cpu::CpuBackend;
use parhelion_dispatch::{Checks, Policy, Settings};
use parhelion_prover::Engine;
use service::{EVERYWHERE, Service, from_everywhere, within};

fn cpu() -> Provider {
    let cpu = CpuBackend::new();
    let devices = Backend::probe(&cpu).unwrap();
    cpu.open(&devices[0]).unwrap()
}

fn service(fixture: &Fixture) -> &'static Service {
    let policy = Policy { checks: Checks::FULL, ..Policy::prefer(["icicle", "cpu"]) };
    let engine = Engine::new(vec![cpu(), fixture.open()]);
    let engine = engine.configure(Settings { policy, ..Settings::default() }).unwrap();
    Service::new(6, engine, &Engine::new(vec![cpu()]))
}

const LIMIT: Duration = Duration::from_secs(120);

/// A thread without a device would be refused: Icicle itself would silently compute on its slow CPU device.
#[test]
fn one_device_serves_every_kind_of_thread() {
    let fixture = Fixture::cuda().unwrap();
    assert_eq!(fixture.library.control("strict 1"), 0);
    let service = service(&fixture);
    within(LIMIT, move || {
        for _ in 0..2 {
            assert_eq!(from_everywhere(service, on_pthread), EVERYWHERE);
        }
    });
    assert_eq!(fixture.library.violations(), "");
    assert!(service.engine.devices().iter().all(|device| device.quarantined.is_none()));
    assert!(fixture.library.control("calls bn254_msm") > i64::from(EVERYWHERE));
}

/// In the middle of it all the device is lost, or a call hangs: every proof is right, the device is in quarantine, and the next proofs do without.
#[test]
fn a_device_that_goes_in_the_middle_costs_no_proof() {
    for (fault, reason) in [
        ("lose 200", "icicle_"),
        ("hang bn254_msm 40 4000", "did not return"),
        ("hang bn254_ntt 30 4000", "did not return"),
    ] {
        let fixture =
            Fixture::with(&["CUDA"], |options| options.timeout = Duration::from_millis(1500)).unwrap();
        assert_eq!(fixture.library.control("strict 1"), 0);
        let service = service(&fixture);
        service.serve();
        assert_eq!(fixture.library.control(fault), 0);
        within(LIMIT, move || {
            assert_eq!(from_everywhere(service, on_pthread), EVERYWHERE, "{fault}");
        });
        let why = service.engine.devices().into_iter().find_map(|device| device.quarantined);
        assert!(why.as_ref().is_some_and(|why| why.contains(reason)), "{fault}: {why:?}");
        assert_eq!(fixture.library.violations(), "");
        let calls = fixture.library.control("calls bn254_msm");
        within(LIMIT, move || {
            assert_eq!(from_everywhere(service, on_pthread), EVERYWHERE);
        });
        assert_eq!(fixture.library.control("calls bn254_msm"), calls, "a lost device is used again");
    }
}
