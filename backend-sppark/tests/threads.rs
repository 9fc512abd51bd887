//! One context for the life of the process, used from every kind of thread at once, also while the device dies or stops answering.
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
#[path = "common/foreign.rs"]
mod foreign;
#[path = "../../prover/tests/common/service.rs"]
mod service;

use std::time::{Duration, Instant};

use ff::Field;
use foreign::on_pthread;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Buffer, Ref, RefMut};
use parhelion_backend_api::{Backend, NttPlan, Provider};
use parhelion_backend_cpu::CpuBackend;
use parhelion_backend_sppark::{SpparkBackend, SpparkOptions};
use parhelion_dispatch::{Checks, Policy, Settings};
use parhelion_prover::Engine;
use rayon::prelude::*;
use service::{EVERYWHERE, Service, from_everywhere, within};

const LIMIT: Duration = Duration::from_secs(120);

fn cpu() -> Provider {
    let cpu = CpuBackend::new();
    let devices = Backend::probe(&cpu).unwrap();
    cpu.open(&devices[0]).unwrap()
}

/// The emulated device, if this build has one.
fn emulated(timeout: Duration) -> Option<(SpparkBackend, Provider)> {
    let backend = SpparkBackend::emulated(SpparkOptions { timeout, ..SpparkOptions::default() });
    let devices = backend.probe().map_err(|why| eprintln!("skipped: {why}")).ok()?;
    let provider = backend.open(&devices[0]).unwrap();
    Some((backend, provider))
}

fn service(provider: Provider) -> &'static Service {
    let policy = Policy { checks: Checks::FULL, ..Policy::prefer(["sppark", "cpu"]) };
    let engine = Engine::new(vec![cpu(), provider]);
    let engine = engine.configure(Settings { policy, ..Settings::default() }).unwrap();
    Service::new(6, engine, &Engine::new(vec![cpu()]))
}

#[test]
fn one_context_serves_every_kind_of_thread() {
    let Some((_, provider)) = emulated(LIMIT) else { return };
    let service = service(provider);
    within(LIMIT, move || {
        assert_eq!(from_everywhere(service, on_pthread), EVERYWHERE);
    });
    assert!(service.engine.devices().iter().all(|device| device.quarantined.is_none()));
    let ran: Vec<_> = service.engine.ledger().totals().map(|(_, backend, _)| backend).collect();
    assert!(ran.is_empty(), "proofs have ledgers of their own: {ran:?}");
}

/// Failures in the middle of it all: a lost device, a failed call, a device that stops answering.
#[test]
fn a_device_that_goes_in_the_middle_costs_no_proof() {
    for (code, reason) in [(2, "injected"), (4, "injected"), (5, "did not end within")] {
        let Some((backend, provider)) = emulated(Duration::from_millis(700)) else { return };
        let service = service(provider);
        service.serve();
        backend.inject(1500, code).unwrap();
        within(LIMIT, move || {
            assert_eq!(from_everywhere(service, on_pthread), EVERYWHERE, "{code}");
        });
        let why = service.engine.devices().into_iter().find_map(|device| device.quarantined);
        assert!(why.as_ref().is_some_and(|why| why.contains(reason)), "{code}: {why:?}");
        within(LIMIT, move || {
            assert_eq!(from_everywhere(service, on_pthread), EVERYWHERE, "{code}");
        });
    }
}

/// A device that stops answering at any step is given up within the limit; later calls do not wait at all, and neither does closing it.
#[test]
fn a_device_that_hangs_is_given_up_in_time() {
    let limit = Duration::from_millis(200);
    let mut hung = 0;
    for after in (1..40).step_by(3) {
        let Some((backend, provider)) = emulated(limit) else { return };
        let queue = provider.space.queue().unwrap();
        let ntt = provider.ntt::<Fr>().unwrap();
        let input: Vec<Fr> = (0..1u64 << 14).map(Fr::from).collect();
        let transform = |column: &mut [Fr]| {
            let plan = NttPlan::forward(14).on_coset(Fr::from(5));
            ntt.ntt_batch(&queue, &plan, &mut [RefMut::host(column)])
        };
        backend.inject(after, 5).unwrap();
        let (mut column, start) = (input.clone(), Instant::now());
        let Err(error) = transform(&mut column) else { break };
        hung += 1;
        assert!(error.to_string().contains("device lost"), "{error}");
        assert_eq!(column, input, "operands are given back as they were");
        assert!(start.elapsed() >= limit, "given up too early");
        // The limit is for the device: not for the host, which may be busy.
        assert!(transform(&mut column).is_err());
        assert!(provider.space.alloc(&queue, 64, "after the end").is_err());
        drop(provider);
        // Opened again, it is another context.
        let again = backend.open(&backend.probe().unwrap()[0]).unwrap();
        let (queue, ntt) = (again.space.queue().unwrap(), again.ntt::<Fr>().unwrap());
        let plan = NttPlan::forward(14);
        ntt.ntt_batch(&queue, &plan, &mut [RefMut::host(&mut column)]).unwrap();
        assert_ne!(column, input);
    }
    assert!(hung >= 3, "the device hung {hung} times");
}

/// Groups of columns whose copies and transforms overlap come out as they would one by one, in and out of place, from the host and from the device.
#[test]
fn overlapping_copies_do_not_mix_columns() {
    let Some((_, provider)) = emulated(LIMIT) else { return };
    let (queue, ntt) = (provider.space.queue().unwrap(), provider.ntt::<Fr>().unwrap());
    let log_n = 15;
    let plan = NttPlan::forward(log_n).on_coset(Fr::from(5));
    let column =
        |seed: u64| -> Vec<Fr> { (0..1u64 << log_n).map(|i| Fr::from(i * i + seed * 0x9e37_79b9)).collect() };
    let input: Vec<Vec<Fr>> = (0..11).map(column).collect();
    let cpu = cpu();
    let mut expected = input.clone();
    let mut refs: Vec<_> = expected.iter_mut().map(|column| RefMut::host(column)).collect();
    cpu.ntt::<Fr>().unwrap().ntt_batch(&cpu.space.queue().unwrap(), &plan, &mut refs).unwrap();
    for _ in 0..2 {
        let mut found = input.clone();
        let mut refs: Vec<_> = found.iter_mut().map(|column| RefMut::host(column)).collect();
        ntt.ntt_batch(&queue, &plan, &mut refs).unwrap();
        assert!(found == expected, "in place");
        let from: Vec<_> = input.iter().map(|column| Ref::host(column)).collect();
        let mut found = vec![vec![Fr::ZERO; 1 << log_n]; input.len()];
        let mut refs: Vec<_> = found.iter_mut().map(|column| RefMut::host(column)).collect();
        ntt.ntt_batch_into(&queue, &plan, &from, &mut refs).unwrap();
        assert!(found == expected, "out of place");
        // To columns on the device, which are then overwritten from the host and transformed again.
        let alloc = || Buffer::<Fr>::alloc(provider.space.as_ref(), &queue, 1 << log_n, "column").unwrap();
        let mut there: Vec<_> = input.iter().map(|_| alloc()).collect();
        let mut refs: Vec<_> = there.iter_mut().map(Buffer::as_mut).collect();
        ntt.ntt_batch_into(&queue, &plan, &from, &mut refs).unwrap();
        ntt.ntt_batch_into(&queue, &plan, &from[..5], &mut refs[6..]).unwrap();
        drop(refs);
        for (i, column) in there.iter().enumerate() {
            let values = column.to_host(provider.space.as_ref(), &queue).unwrap();
            assert!(values == expected[if i < 6 { i } else { i - 6 }], "column {i} on the device");
        }
    }
}

/// Large columns are copied by several threads while the context is held. On a pool's own threads that would end in a deadlock: a worker that waits for
/// its share takes up the next task, which wants the context.
#[test]
fn large_copies_inside_a_pool_end() {
    let Some((_, provider)) = emulated(LIMIT) else { return };
    let one = provider.clone();
    within(LIMIT, move || {
        let queue = one.space.queue().unwrap();
        let ntt = one.ntt::<Fr>().unwrap();
        let plan = NttPlan::forward(16);
        let mut columns: Vec<Vec<Fr>> = (0..12u64).map(|i| vec![Fr::from(i); 1 << 16]).collect();
        columns.par_iter_mut().for_each(|column| {
            // Parallel work of its own, so that workers steal.
            column.par_iter_mut().for_each(|value| *value += Fr::ONE);
            ntt.ntt_batch(&queue, &plan, &mut [RefMut::host(column)]).unwrap();
        });
        for (i, column) in (0..).zip(&columns) {
            assert_eq!(column[0], Fr::from((i + 1) << 16));
            assert!(column[1..].iter().all(|value| bool::from(value.is_zero())));
        }
    });
    drop(provider);
}
