//! What goes wrong in the library, and what comes out of the backend: typed errors, untouched operands, no leak, no hang.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Fixture, backend};
use ff::Field;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Buffer, Ref, RefMut};
use parhelion_backend_api::{Backend, Bases, Error, NttPlan, Provider, Queue, Reuse, ScalarKind};
use parhelion_conformance::inputs::{known_points, random, rng};
use parhelion_icicle_loopback::Loopback;

struct Open {
    fixture: Fixture,
    provider: Provider,
    queue: Queue,
    bases: Bases<G1Affine>,
    scalars: Vec<Fr>,
    product: G1,
}

impl Open {
    fn new(set: impl FnOnce(&mut parhelion_backend_icicle::IcicleOptions)) -> Self {
        let fixture = Fixture::with(&["CUDA"], set).unwrap();
        let provider = fixture.open();
        let queue = provider.space.queue().unwrap();
        let mut rng = rng(1);
        let (points, multiples) = known_points::<G1Affine>(20, &mut rng);
        let bases = provider.msm::<G1Affine>().unwrap().prepare(&queue, &points, Reuse::Often).unwrap();
        let scalars: Vec<Fr> = random(20, &mut rng);
        let sum: Fr = scalars.iter().zip(&multiples).map(|(a, b)| a * b).sum();
        Open { fixture, provider, queue, bases, scalars, product: G1Affine::generator() * sum }
    }

    fn msm(&self) -> Result<G1, Error> {
        let msm = self.provider.msm::<G1Affine>().unwrap();
        msm.msm(&self.queue, &self.bases, Ref::host(&self.scalars), ScalarKind::Full)
    }

    fn ntt(&self, column: &mut [Fr]) -> Result<(), Error> {
        let plan = NttPlan::forward(column.len().ilog2()).on_coset(Fr::from(5));
        self.provider.ntt::<Fr>().unwrap().ntt_batch(&self.queue, &plan, &mut [RefMut::host(column)])
    }

    /// Number of allocations, after the frees that are pending.
    fn live(&self) -> i64 {
        self.provider.space.memory();
        self.control("live")
    }

    fn control(&self, command: &str) -> i64 {
        let answer = self.fixture.library.control(command);
        assert!(answer >= 0, "{command}");
        answer
    }
}

/// Every code of every call on the way is an error of the right kind, after which the device still works and operands are as they were.
#[test]
fn every_error_code_is_a_typed_error_and_leaves_operands_alone() {
    let open = Open::new(|_| {});
    let input: Vec<Fr> = random(16, &mut rng(2));
    let mut expected = input.clone();
    open.ntt(&mut expected).unwrap();
    let memory = open.live();
    for code in 1..=15 {
        for call in ["icicle_malloc", "icicle_copy_to_device", "bn254_msm"] {
            open.control(&format!("fail {call} 0 {code}"));
            let error = open.msm().unwrap_err();
            let oom = matches!(error, Error::OutOfMemory { .. });
            let unsupported = matches!(error, Error::Unsupported { .. });
            let backend = matches!(error, Error::Backend { .. });
            assert_eq!(
                (oom, unsupported, backend),
                (code == 2 || code == 4, code == 10, ![2, 4, 10].contains(&code)),
                "{call} {code}: {error}"
            );
            assert!(oom || error.to_string().contains(call), "{error} does not name {call}");
            assert_eq!(open.msm().unwrap(), open.product, "after {call} {code}");
        }
        for call in
            ["icicle_malloc", "icicle_copy_to_device", "bn254_ntt", "bn254_vector_mul", "icicle_copy_to_host"]
        {
            open.control(&format!("fail {call} 0 {code}"));
            let mut column = input.clone();
            let error = open.ntt(&mut column).unwrap_err();
            assert_eq!(error.try_elsewhere(), [2, 4, 10].contains(&code), "{call} {code}: {error}");
            assert_eq!(column, input, "{call} {code} wrote to its operand");
            open.ntt(&mut column).unwrap();
            assert_eq!(column, expected, "after {call} {code}");
        }
    }
    assert_eq!(open.live(), memory, "failures leak device memory");
    assert_eq!(open.fixture.library.violations(), "");
}

#[test]
fn a_failed_preparation_gives_no_handle_and_no_leak() {
    let open = Open::new(|options| options.precompute = 1 << 20);
    let points = known_points::<G1Affine>(9, &mut rng(3)).0;
    let memory = open.live();
    let msm = open.provider.msm::<G1Affine>().unwrap();
    for call in [
        "icicle_malloc",
        "icicle_copy_to_device",
        "bn254_affine_convert_montgomery",
        "bn254_msm_precompute_bases",
    ] {
        for code in [2, 6, 13, 14] {
            open.control(&format!("fail {call} 0 {code}"));
            let error = msm.prepare(&open.queue, &points, Reuse::Often).unwrap_err();
            assert_eq!(error.try_elsewhere(), code == 2, "{call} {code}: {error}");
        }
    }
    // Frees are ordered after the work that is pending; this is more work.
    assert_eq!(open.msm().unwrap(), open.product);
    assert_eq!(open.live(), memory);
}

#[test]
fn a_lost_device_is_lost_at_once_and_for_good() {
    for call in 0..12 {
        let open = Open::new(|_| {});
        let input: Vec<Fr> = random(8, &mut rng(4));
        let mut column = input.clone();
        open.control(&format!("lose {call}"));
        let errors: Vec<Error> =
            (0..8).filter_map(|_| open.ntt(&mut column).err().or_else(|| open.msm().err())).collect();
        assert!(!errors.is_empty(), "{call}");
        assert!(errors.iter().all(|e| matches!(e, Error::DeviceLost { .. })), "{call}: {errors:?}");
        open.control("reset");
        let error = open.msm().unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "a lost device came back: {error}");
        assert!(Buffer::<Fr>::alloc(open.provider.space.as_ref(), &open.queue, 4, "x").is_err());
        // Opened again, it is another device.
        let again = open.fixture.open();
        let queue = again.space.queue().unwrap();
        let bases = open.bases.clone();
        let foreign = again.msm::<G1Affine>().unwrap().msm(&queue, &bases, Ref::host(&[]), ScalarKind::Full);
        assert!(matches!(foreign, Err(Error::WrongSpace { .. })), "{foreign:?}");
    }
}

#[test]
fn a_call_that_hangs_loses_the_device_in_time_and_gives_operands_back() {
    let open = Open::new(|options| options.timeout = Duration::from_millis(1500));
    assert_eq!(open.msm().unwrap(), open.product);
    open.control("hang bn254_ntt 0 6000");
    let input: Vec<Fr> = random(8, &mut rng(5));
    let mut column = input.clone();
    let start = Instant::now();
    let error = open.ntt(&mut column).unwrap_err();
    assert!(matches!(&error, Error::DeviceLost { why, .. } if why.contains("bn254_ntt")), "{error}");
    assert_eq!(column, input);
    drop(column);
    // Nobody waits for the thread that hangs.
    assert!(matches!(open.msm().unwrap_err(), Error::DeviceLost { .. }));
    assert!(start.elapsed() < Duration::from_millis(6000), "{:?}", start.elapsed());
}

#[test]
fn waiting_for_others_does_not_count_as_hanging() {
    let open = Open::new(|options| options.timeout = Duration::from_millis(2500));
    for i in 0..4 {
        // Four times 0.9 s one after another, each within its own limit.
        open.control(&format!("hang bn254_ntt {i} 900"));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut column: Vec<Fr> = random(8, &mut rng(6));
                let error = open.ntt(&mut column).unwrap_err();
                assert!(matches!(error, Error::Backend { .. }), "{error}");
            });
        }
    });
    assert_eq!(open.msm().unwrap(), open.product);
}

#[test]
fn a_result_that_is_no_point_is_an_error() {
    let open = Open::new(|_| {});
    let mut refused = 0;
    for seed in (0..600).step_by(3) {
        open.control(&format!("corrupt bn254_msm 0 {seed}"));
        match open.msm() {
            Err(Error::Backend { .. }) => refused += 1,
            other => panic!("a flipped bit of a coordinate gave {other:?}"),
        }
    }
    assert_eq!(refused, 200);
    assert_eq!(open.msm().unwrap(), open.product);
}

#[test]
fn buffers_are_freed_after_pending_work() {
    let open = Open::new(|_| {});
    let before = open.live();
    for _ in 0..100 {
        let buffer =
            Buffer::from_host(open.provider.space.as_ref(), &open.queue, &[Fr::ONE; 64], "resident").unwrap();
        let msm = open.provider.msm::<G1Affine>().unwrap();
        let result = msm.msm(&open.queue, &open.bases, Ref::host(&open.scalars), ScalarKind::Full).unwrap();
        assert_eq!(result, open.product);
        drop(buffer);
    }
    assert_eq!(open.msm().unwrap(), open.product);
    assert_eq!(open.live(), before);
}

#[test]
fn a_probe_says_why_there_is_no_device() {
    let why = |backend: &dyn Backend| backend.probe().unwrap_err().to_string();

    let nowhere = std::env::temp_dir().join("parhelion-no-icicle-here");
    let library = Loopback::install().unwrap();
    let absent = backend(&library, &["CUDA"], |options| options.library_dir = Some(nowhere.clone()));
    let text = why(&absent);
    assert!(text.contains("libicicle_device") && text.contains("PARHELION_ICICLE_LIB"), "{text}");

    let unregistered = Loopback::install_parts(&[]).unwrap();
    let text = why(&backend(&unregistered, &["CUDA"], |_| {}));
    assert!(text.contains("registers CPU") && text.contains("asks for CUDA"), "{text}");
    let text = why(&backend(&unregistered, &[], |options| options.devices = None));
    assert!(text.contains("CPU device is offered only where"), "{text}");

    let device_only = Loopback::install_parts(&["device"]).unwrap();
    let text = why(&backend(&device_only, &["CUDA"], |_| {}));
    assert!(text.contains("no libicicle_backend_cuda_curve_bn254"), "{text}");

    let none = Loopback::install().unwrap();
    none.control("devices 0");
    let text = why(&backend(&none, &["CUDA"], |_| {}));
    assert!(text.contains("CUDA"), "{text}");

    let missing = backend(&library, &["CUDA"], |options| options.backend_dir = Some(nowhere));
    assert!(why(&missing).contains("is not a directory"));
}

#[test]
fn an_operation_whose_library_is_missing_is_not_offered() {
    let library = Loopback::install_parts(&["device", "curve_bn254"]).unwrap();
    let backend = backend(&library, &["CUDA"], |_| {});
    let provider = backend.open(&backend.probe().unwrap()[0]).unwrap();
    assert!(provider.msm::<G1Affine>().is_some() && provider.ntt::<Fr>().is_none());
    assert_eq!(library.violations(), "");
}

#[test]
fn accelerators_come_first_and_the_cpu_device_only_when_named() {
    let library = Loopback::install().unwrap();
    library.control("devices 2");
    let names = |devices: Option<Vec<String>>| -> Vec<(String, bool, u16)> {
        let backend = backend(&library, &[], |options| options.devices = devices);
        backend.probe().unwrap().iter().map(|d| (d.name.clone(), d.simulated, d.space.index)).collect()
    };
    let cuda = [("CUDA 0".to_owned(), false, 0), ("CUDA 1".to_owned(), false, 1)];
    assert_eq!(names(None), cuda);
    let all = names(Some(vec!["cpu".into(), "cuda".into()]));
    assert_eq!(all[..2], cuda);
    assert_eq!(all[2], ("CPU 0".to_owned(), true, 2), "slow: for whoever asks for it by name");
}
