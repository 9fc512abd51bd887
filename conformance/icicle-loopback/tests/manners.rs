//! The library has the manners that it is there for: what a careless caller gets wrong comes out wrong, or is written down.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};

use ff::{Field, PrimeField};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{as_bytes, as_bytes_mut};
use parhelion_icicle_loopback::Loopback;

/// The symbols by address: the structures are bytes here, laid out by hand.
struct Raw {
    library: libloading::Library,
    loopback: Loopback,
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Raw {
    fn new() -> Self {
        let loopback = Loopback::install().unwrap();
        let path = loopback.library_dir().join(libloading::library_filename("icicle_device"));
        // SAFETY: the loopback library's initialisers do nothing.
        let library = unsafe { libloading::Library::new(path) }.unwrap();
        Raw { library, loopback }
    }

    fn set_device(&self, kind: &[u8]) -> c_int {
        let mut device = [0u32; 17];
        let name: Vec<u8> = kind.iter().copied().chain([0; 64]).take(64).collect();
        for (word, bytes) in device.iter_mut().zip(name.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
        // SAFETY: the symbol takes a pointer to 68 bytes, which these are.
        unsafe {
            let set: libloading::Symbol<'_, unsafe extern "C" fn(*const c_void) -> c_int> =
                self.library.get(b"icicle_set_device").unwrap();
            set(device.as_ptr().cast())
        }
    }

    fn upload(&self, bytes: &[u8]) -> *mut c_void {
        let mut address: *mut c_void = std::ptr::null_mut();
        // SAFETY: the symbols take these arguments; the source is as long as is said.
        unsafe {
            let malloc: libloading::Symbol<'_, unsafe extern "C" fn(*mut *mut c_void, usize) -> c_int> =
                self.library.get(b"icicle_malloc").unwrap();
            assert_eq!(malloc(&raw mut address, bytes.len()), 0);
            let copy: libloading::Symbol<
                '_,
                unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int,
            > = self.library.get(b"icicle_copy_to_device").unwrap();
            assert_eq!(copy(address, bytes.as_ptr().cast(), bytes.len()), 0);
        }
        address
    }

    fn download(&self, address: *mut c_void, n: usize) -> Vec<Fr> {
        let mut values = vec![Fr::ZERO; n];
        let bytes = as_bytes_mut(&mut values);
        // SAFETY: the symbol takes these arguments; the target is as long as is said.
        unsafe {
            let copy: libloading::Symbol<
                '_,
                unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int,
            > = self.library.get(b"icicle_copy_to_host").unwrap();
            assert_eq!(copy(bytes.as_mut_ptr().cast(), address, bytes.len()), 0);
        }
        values
    }

    fn init_domain(&self, root: Fr) -> c_int {
        let limbs = root.to_repr();
        let mut words = [0u64; 4];
        as_bytes_mut(&mut words).copy_from_slice(limbs.as_ref());
        // SAFETY: the symbol takes a pointer to 32 bytes and one that it does not read.
        unsafe {
            let init: libloading::Symbol<'_, unsafe extern "C" fn(*const u64, *const c_void) -> c_int> =
                self.library.get(b"bn254_ntt_init_domain").unwrap();
            init(words.as_ptr(), std::ptr::null())
        }
    }

    fn ntt(&self, data: *mut c_void, n: c_int, coset: u64) -> c_int {
        let mut config = [0u64; 8];
        config[1] = coset;
        // batch_size at byte 40, the device flags at 52 and 53.
        config[5] = 1;
        config[6] = 0x0101 << 32;
        // SAFETY: the symbol takes these arguments and a pointer to 64 bytes.
        unsafe {
            let ntt: libloading::Symbol<
                '_,
                unsafe extern "C" fn(*const c_void, c_int, c_int, *const c_void, *mut c_void) -> c_int,
            > = self.library.get(b"bn254_ntt").unwrap();
            ntt(data, n, 0, config.as_ptr().cast(), data)
        }
    }

    fn msm(&self, scalars: *mut c_void, bases: *mut c_void, montgomery: bool) -> c_int {
        let mut config = [0u64; 5];
        // precompute_factor and c; bitsize and batch_size; flags 24..32.
        config[1] = 1 | 8 << 32;
        config[2] = 1 << 32;
        let flags = [1, 1, 1, 1, u8::from(montgomery), 0, 0, 0];
        config[3] = u64::from_ne_bytes(flags);
        let mut result = [0u64; 12];
        // SAFETY: the symbol takes these arguments, a pointer to 40 bytes and one to room for 96.
        unsafe {
            let msm: libloading::Symbol<
                '_,
                unsafe extern "C" fn(
                    *const c_void,
                    *const c_void,
                    c_int,
                    *const c_void,
                    *mut c_void,
                ) -> c_int,
            > = self.library.get(b"bn254_msm").unwrap();
            msm(scalars, bases, 1, config.as_ptr().cast(), result.as_mut_ptr().cast())
        }
    }
}

fn root(log_n: u32, generator: Fr) -> Fr {
    (log_n..Fr::S).fold(generator, |root, _| root.square())
}

#[test]
fn a_root_of_another_generator_permutes_evaluations() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Icicle's own root, of generator 5, is this power of halo2's, of generator 7. It is 1 modulo 32: short transforms agree.
    let other = Fr::ROOT_OF_UNITY.pow_vartime([0x0326_26e1_u64]);
    let delta: Vec<Fr> = (0..64).map(|i| Fr::from(u64::from(i == 1))).collect();
    let mut results = Vec::new();
    for generator in [Fr::ROOT_OF_UNITY, other] {
        let raw = Raw::new();
        assert_eq!(raw.set_device(b"CPU"), 0);
        assert_eq!(raw.init_domain(root(8, generator)), 0);
        let data = raw.upload(as_bytes(&delta));
        assert_eq!(raw.ntt(data, 64, 1), 0);
        let values = raw.download(data, 64);
        assert_eq!(values[1], root(6, generator));
        assert_eq!(raw.loopback.violations(), "");
        results.push(values);
    }
    assert_ne!(results[0], results[1]);
    let mut sorted = results.clone();
    sorted.iter_mut().for_each(|values| values.sort());
    assert_eq!(sorted[0], sorted[1], "the same evaluations in another order");
}

#[test]
fn what_would_throw_or_run_elsewhere_is_written_down() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let raw = Raw::new();
    assert_ne!(raw.set_device(b"CUDA"), 0);
    assert!(raw.loopback.violations().contains("T5: setting a device that is not registered"));
    raw.loopback.control("reset");

    // On a thread of its own: this one may have a device.
    let raw = &raw;
    std::thread::scope(|scope| {
        scope.spawn(move || raw.upload(&[0; 32]) as usize);
    });
    assert!(raw.loopback.violations().contains("T4: icicle_malloc"), "{}", raw.loopback.violations());
    raw.loopback.control("reset");
    assert_eq!(raw.loopback.control("strict 1"), 0);
    std::thread::scope(|scope| {
        let refused = scope.spawn(move || std::panic::catch_unwind(|| raw.upload(&[0; 32]) as usize));
        assert!(refused.join().unwrap().is_err(), "a thread without a device is refused");
    });
    assert_eq!(raw.loopback.control("strict 0"), 0);
    raw.loopback.control("reset");

    assert_eq!(raw.set_device(b"CPU"), 0);
    let data = raw.upload(&[0; 32 * 64]);
    assert_ne!(raw.ntt(data, 16, 1), 0);
    assert!(raw.loopback.violations().contains("T5: a transform beyond the domain"));
    raw.loopback.control("reset");

    assert_eq!(raw.init_domain(root(4, Fr::ROOT_OF_UNITY)), 0);
    assert_eq!(raw.init_domain(root(6, Fr::ROOT_OF_UNITY)), 0, "T12: success, and nothing done");
    assert_ne!(raw.ntt(data, 64, 1), 0);
    assert!(raw.loopback.violations().contains("T5: a transform beyond the domain"));
    raw.loopback.control("reset");

    assert_ne!(raw.ntt(data, 16, 5), 0);
    assert!(raw.loopback.violations().contains("T11"));
}

#[test]
fn points_in_montgomery_form_are_not_what_the_cpu_device_reads() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let raw = Raw::new();
    assert_eq!(raw.set_device(b"CPU"), 0);
    let scalars = raw.upload(as_bytes(&[Fr::from(3)]));
    let bases = raw.upload(as_bytes(&[G1Affine::generator()]));
    for flag in [true, false] {
        raw.loopback.control("reset");
        assert_ne!(raw.msm(scalars, bases, flag), 0);
        assert!(raw.loopback.violations().contains("T3"), "{}", raw.loopback.violations());
    }
}

#[test]
fn copies_of_the_library_share_nothing() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (first, second) = (Raw::new(), Raw::new());
    assert_eq!(first.set_device(b"CPU"), 0);
    assert_eq!(second.set_device(b"CPU"), 0);
    first.upload(&[1; 64]);
    assert_eq!((first.loopback.control("live"), second.loopback.control("live")), (1, 0));
    assert_eq!(first.loopback.control("nonsense"), -1);
    assert_eq!(first.loopback.control("fail bn254_msm soon 1"), -1);
}
