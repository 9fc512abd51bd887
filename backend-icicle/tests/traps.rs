//! The ways in which a halo2 backend over Icicle goes wrong without notice, each as a case. Numbers are those of `docs/gpu.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use common::Fixture;
use ff::{Field, PrimeField, WithSmallOrderMulGroup};
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Direction, MsmShape, NttPlan, NttShape, Provider, Queue, Reuse, ScalarKind};
use parhelion_conformance::inputs::{bases, columns, known_points, random, rng};
use parhelion_conformance::{Naive, horner};

fn transform(provider: &Provider, plan: &NttPlan<Fr>, input: &[Fr]) -> Vec<Fr> {
    let mut column = input.to_vec();
    let queue = provider.space.queue().unwrap();
    let ntt = provider.ntt::<Fr>().unwrap();
    ntt.ntt_batch(&queue, plan, &mut [RefMut::host(&mut column)]).unwrap();
    column
}

fn powers(x: Fr, n: usize) -> Vec<Fr> {
    std::iter::successors(Some(Fr::ONE), |power| Some(*power * x)).take(n).collect()
}

/// T1: the domain is that of generator 7, not of Icicle's built-in generator 5.
#[test]
fn t01_the_root_is_halo2s() {
    for fixture in [Fixture::cuda().unwrap(), Fixture::cpu().unwrap()] {
        let provider = fixture.open();
        for log_n in 1..=13 {
            let omega = (log_n..Fr::S).fold(Fr::ROOT_OF_UNITY, |root, _| root.square());
            let mut delta = vec![Fr::ZERO; 1 << log_n];
            delta[1] = Fr::ONE;
            assert_eq!(transform(&provider, &NttPlan::forward(log_n), &delta), powers(omega, 1 << log_n));
        }
        assert_eq!(fixture.library.violations(), "");
    }
}

/// T2 and T11: cosets of ζ are scaled by resident powers, uploaded once, never by `coset_gen`.
#[test]
fn t02_t11_cosets_of_zeta_are_scaled_by_resident_powers() {
    let fixture = Fixture::cuda().unwrap();
    let provider = fixture.open();
    let log_n = 5;
    let extended = (log_n + 2..Fr::S).fold(Fr::ROOT_OF_UNITY, |root, _| root.square());
    let omega = extended.square().square();
    let input: Vec<Fr> = random(1 << log_n, &mut rng(1));
    for part in 0..4u64 {
        let g = Fr::ZETA * extended.pow_vartime([part]);
        let plan = NttPlan::forward(log_n).on_coset(g);
        let found = transform(&provider, &plan, &input);
        for (i, found) in found.iter().enumerate() {
            assert_eq!(*found, horner(&input, g * omega.pow_vartime([i as u64])), "part {part}, row {i}");
        }
        let back = NttPlan { direction: Direction::Inverse, ..plan };
        assert_eq!(transform(&provider, &back, &found), input);
    }
    let uploads = fixture.library.control("calls bn254_scalar_convert_montgomery");
    assert_eq!(uploads, 8, "one vector of powers per shift and direction");
    for part in 0..4u64 {
        let plan = NttPlan::forward(log_n).on_coset(Fr::ZETA * extended.pow_vartime([part]));
        transform(&provider, &plan, &input);
    }
    assert_eq!(
        fixture.library.control("calls bn254_scalar_convert_montgomery"),
        uploads,
        "they are resident"
    );
    assert_eq!(fixture.library.violations(), "");
}

fn products(fixture: &Fixture, reuse: Reuse) {
    let provider = fixture.open();
    let queue = provider.space.queue().unwrap();
    let msm = provider.msm::<G1Affine>().unwrap();
    let mut rng = rng(2);
    let (points, multiples) = known_points::<G1Affine>(300, &mut rng);
    let prepared = msm.prepare(&queue, &points, reuse).unwrap();
    for len in [1, 2, 37, 300] {
        for (name, column) in columns::<Fr>(len, &mut rng) {
            let sum: Fr = column.iter().zip(&multiples).map(|(a, b)| a * b).sum();
            let found = msm.msm(&queue, &prepared, Ref::host(&column), ScalarKind::Full).unwrap();
            assert_eq!(found, G1Affine::generator() * sum, "{name}, {len}");
        }
    }
    assert_eq!(fixture.library.violations(), "");
}

/// T3: points in Montgomery form are never passed to a multiplication; the CPU device would not notice.
#[test]
fn t03_bases_are_converted_before_they_are_used() {
    for fixture in [Fixture::cpu().unwrap(), Fixture::cuda().unwrap()] {
        products(&fixture, Reuse::Once);
        assert_eq!(fixture.library.control("calls bn254_affine_convert_montgomery"), 1, "once per handle");
    }
}

/// T4: whoever calls, the library is called on a thread that has set its device.
#[test]
fn t04_every_thread_computes_on_the_device() {
    let fixture = Fixture::cuda().unwrap();
    let provider = fixture.open();
    let input: Vec<Fr> = random(64, &mut rng(3));
    let expected = transform(&provider, &NttPlan::forward(6), &input);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(transform(&provider, &NttPlan::forward(6), &input), expected));
        }
    });
    rayon::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|_| assert_eq!(transform(&provider, &NttPlan::forward(6), &input), expected));
        }
    });
    assert_eq!(fixture.library.violations(), "");
}

/// T5: nothing that throws is called: sizes beyond limits are refused, domains grow first.
#[test]
fn t05_what_would_throw_is_ruled_out() {
    let fixture = Fixture::cuda().unwrap();
    let provider = fixture.open();
    let ntt = provider.ntt::<Fr>().unwrap();
    let shape = |log_n| NttShape { log_n, batch: 1, direction: Direction::Forward, coset: false };
    assert!(ntt.supports(&shape(28)).is_yes() && !ntt.supports(&shape(29)).is_yes());
    let msm = provider.msm::<G1Affine>().unwrap();
    let shape = |len| MsmShape { len, batch: 1, scalars: ScalarKind::Full };
    assert!(msm.supports(&shape(i32::MAX as usize)).is_yes());
    assert!(!msm.supports(&shape(i32::MAX as usize + 1)).is_yes());
    let one = vec![Fr::ONE; 1 << 14];
    // Twice the domain that the device starts with.
    assert_eq!(transform(&provider, &NttPlan::inverse(14), &one)[..2], [Fr::ONE, Fr::ZERO]);
    assert_eq!(transform(&provider, &NttPlan::inverse(0), &[Fr::from(7)]), [Fr::from(7)]);
    assert_eq!(fixture.library.violations(), "");
}

/// T7: identity bases, (0, 0), count for nothing wherever they are.
#[test]
fn t07_identity_bases_count_for_nothing() {
    for reuse in [Reuse::Once, Reuse::Often] {
        let fixture = Fixture::with(&["CUDA"], |options| options.precompute = 1 << 20).unwrap();
        let provider = fixture.open();
        let queue = provider.space.queue().unwrap();
        let msm = provider.msm::<G1Affine>().unwrap();
        let mut rng = rng(4);
        let scalars: Vec<Fr> = random(12, &mut rng);
        for (name, points) in bases::<G1Affine>(12, &mut rng) {
            let prepared = msm.prepare(&queue, &points, reuse).unwrap();
            let found = msm.msm(&queue, &prepared, Ref::host(&scalars), ScalarKind::Full).unwrap();
            let host = Queue::host();
            let naive =
                parhelion_backend_api::Msm::<G1Affine>::prepare(&Naive, &host, &points, reuse).unwrap();
            let expected: G1 = parhelion_backend_api::Msm::<G1Affine>::msm(
                &Naive,
                &host,
                &naive,
                Ref::host(&scalars),
                ScalarKind::Full,
            )
            .unwrap();
            assert_eq!(found, expected, "{name}, {reuse:?}");
        }
    }
}

/// T8: bases precomputed for a window are used with that window, on columns of any length.
#[test]
fn t08_precomputed_bases_keep_their_window() {
    for (budget, factor) in [(3 * 64 * 300, 2), (4 * 64 * 300, 4), (1 << 20, 8)] {
        let fixture = Fixture::with(&["CUDA"], |options| options.precompute = budget).unwrap();
        products(&fixture, Reuse::Often);
        assert_eq!(fixture.library.control("calls bn254_msm_precompute_bases"), 1, "factor {factor}");
    }
    let fixture = Fixture::with(&["CUDA"], |options| options.precompute = 64 * 300).unwrap();
    products(&fixture, Reuse::Often);
    assert_eq!(fixture.library.control("calls bn254_msm_precompute_bases"), 0, "over the budget");
}

/// T9: scalars and columns cross in Montgomery form: nothing is converted per call.
#[test]
fn t09_nothing_is_converted_per_call() {
    let fixture = Fixture::cuda().unwrap();
    products(&fixture, Reuse::Once);
    let provider = fixture.open();
    let input: Vec<Fr> = random(32, &mut rng(5));
    let values = transform(&provider, &NttPlan::forward(5), &input);
    assert_eq!(transform(&provider, &NttPlan::inverse(5), &values), input);
    assert_eq!(fixture.library.control("calls bn254_scalar_convert_montgomery"), 0);
}

/// T12: the domain is initialised once for all sizes within it, and released before it grows.
#[test]
fn t12_the_domain_is_initialised_once_and_grows_by_release() {
    let fixture = Fixture::cuda().unwrap();
    let provider = fixture.open();
    let calls = |name: &str| fixture.library.control(&format!("calls {name}"));
    for log_n in [3, 12, 1, 7] {
        transform(&provider, &NttPlan::forward(log_n), &vec![Fr::ONE; 1 << log_n]);
    }
    assert_eq!((calls("bn254_ntt_init_domain"), calls("bn254_ntt_release_domain")), (1, 0));
    transform(&provider, &NttPlan::forward(13), &vec![Fr::ONE; 1 << 13]);
    transform(&provider, &NttPlan::forward(4), &[Fr::ONE; 16]);
    assert_eq!((calls("bn254_ntt_init_domain"), calls("bn254_ntt_release_domain")), (2, 1));
    // A second provider on the same library shares the domain, as the library does.
    let other = common::backend(&fixture.library, &["CUDA"], |options| options.timeout *= 2);
    let device = parhelion_backend_api::Backend::probe(&other).unwrap().remove(0);
    let provider = parhelion_backend_api::Backend::open(&other, &device).unwrap();
    transform(&provider, &NttPlan::forward(13), &vec![Fr::ONE; 1 << 13]);
    assert_eq!((calls("bn254_ntt_init_domain"), calls("bn254_ntt_release_domain")), (2, 1));
    assert_eq!(fixture.library.violations(), "");
}
