//! Faults of the library, seen through the engine: whatever happens, the result is right.
//!
//! `cargo test --release -p parhelion-backend-icicle --test engine -- --nocapture` prints the counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Fixture;
use ff::Field;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Backend, Direction, NttPlan, Provider, Reuse, ScalarKind};
use parhelion_backend_cpu::CpuBackend;
use parhelion_conformance::inputs::{known_points, random, rng};
use parhelion_dispatch::{Checks, Engine, Policy, Settings};
use rand_core::RngCore;

const FAULTS: u64 = 10_000;

fn cpu() -> Provider {
    let cpu = CpuBackend::new();
    let devices = Backend::probe(&cpu).unwrap();
    cpu.open(&devices[0]).unwrap()
}

fn engine(icicle: &Provider, cpu: &Provider) -> Engine<G1Affine> {
    let policy = Policy { checks: Checks::FULL, ..Policy::prefer(["icicle", "cpu"]) };
    let settings = Settings { policy, ..Settings::default() };
    Engine::new(vec![icicle.clone(), cpu.clone()]).configure(settings).unwrap()
}

/// Ten thousand failing, lying and dying calls; no wrong result.
#[test]
fn ten_thousand_faults_and_no_wrong_result() {
    let fixture = Fixture::with(&["CUDA"], |options| options.timeout = Duration::from_secs(20)).unwrap();
    let (cpu, mut icicle) = (cpu(), fixture.open());
    let control = |command: &str| {
        let answer = fixture.library.control(command);
        assert!(answer >= 0, "{command}");
        answer as u64
    };
    let mut rng = rng(1);
    let (points, multiples) = known_points::<G1Affine>(8, &mut rng);
    let points: Arc<[G1Affine]> = points.into();
    let scalars: Vec<Vec<Fr>> = [8, 5].iter().map(|n| random(*n, &mut rng)).collect();
    let products: Vec<G1> = scalars
        .iter()
        .map(|s| G1Affine::generator() * s.iter().zip(&multiples).map(|(a, b)| a * b).sum::<Fr>())
        .collect();
    let plan = NttPlan::<Fr>::forward(3).on_coset(Fr::from(5));
    let coefficients: Vec<Fr> = random(8, &mut rng);
    let mut values = coefficients.clone();
    engine(&icicle, &cpu).ntt_batch(&plan, &mut [RefMut::host(&mut values)]).unwrap();
    let inverse = NttPlan { direction: Direction::Inverse, ..plan };

    let msm_calls =
        ["icicle_malloc", "icicle_copy_to_device", "bn254_affine_convert_montgomery", "bn254_msm"];
    let ntt_calls =
        ["icicle_malloc", "icicle_copy_to_device", "bn254_ntt", "bn254_vector_mul", "icicle_copy_to_host"];
    // (returned an error, gave a wrong result, lost the device)
    let mut counts = [0u64; 3];
    let mut quarantined = 0u64;
    for round in 0..FAULTS {
        let msm = rng.next_u32().is_multiple_of(2);
        let calls: &[&str] = if msm { &msm_calls } else { &ntt_calls };
        let call = calls[rng.next_u32() as usize % calls.len()];
        let before = control("injected");
        let lies = call != "icicle_malloc";
        if round % 400 == 399 {
            control(&format!("lose {}", rng.next_u32() % 3));
            counts[2] += 1;
        } else if lies && rng.next_u32().is_multiple_of(2) {
            control(&format!("corrupt {call} 0 {}", rng.next_u64() >> 1));
            counts[1] += 1;
        } else {
            control(&format!("fail {call} 0 {}", 1 + rng.next_u32() % 15));
            counts[0] += 1;
        }
        let engine = engine(&icicle, &cpu);
        if msm {
            let bases = engine.load_bases(points.clone(), Reuse::Once);
            let columns: Vec<Ref<'_, Fr>> = scalars.iter().map(|s| Ref::host(s)).collect();
            let mut out = vec![G1::default(); 2];
            engine.msm_batch(&bases, &columns, ScalarKind::Full, &mut out).unwrap();
            assert_eq!(out, products, "round {round}, {call}");
        } else if rng.next_u32().is_multiple_of(2) {
            let mut column = coefficients.clone();
            engine.ntt_batch(&plan, &mut [RefMut::host(&mut column)]).unwrap();
            assert_eq!(column, values, "round {round}, {call}");
        } else {
            let mut column = vec![Fr::ZERO; 8];
            engine.ntt_batch_into(&inverse, &[Ref::host(&values)], &mut [RefMut::host(&mut column)]).unwrap();
            assert_eq!(column, coefficients, "round {round}, {call}");
        }
        assert_eq!(control("injected"), before + 1, "round {round}: the fault in {call} did not happen");
        quarantined += engine.devices().iter().filter(|device| device.quarantined.is_some()).count() as u64;
        if round % 400 == 399 {
            assert!(engine.devices()[0].quarantined.is_some(), "a lost device is not in quarantine");
            let injected = control("injected");
            control("reset");
            assert!(injected > 0);
            icicle = fixture.open();
        }
    }
    assert_eq!(fixture.library.violations(), "");
    println!(
        "{FAULTS} faults: {} error codes, {} wrong results, {} lost devices; {quarantined} quarantines; 0 wrong results returned",
        counts[0], counts[1], counts[2]
    );
}
