//! The C interface of Icicle v3 and v4: layouts and symbols. Nothing here calls anything.
//!
//! Layouts are those of the headers `msm.h`, `ntt.h`, `vec_ops.h`, `device.h` and `errors.h`, unchanged from v3.1.0 to v4.0.0; sizes and
//! offsets are asserted below. References of C++ are pointers in the interface. Every function returns an `eIcicleError` as an
//! `int`.
//!
//! Icicle reports several mistakes by C++ exceptions, which must not reach a Rust frame: the callers of these symbols rule the
//! mistakes out beforehand.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

/// A field element: 32 bytes, little-endian limbs. Which representation it holds is the caller's business.
pub(crate) type Limbs = [u64; 4];

/// `icicle::Device`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawDevice {
    pub(crate) kind: [u8; 64],
    pub(crate) id: i32,
}

/// `icicle::MSMConfig`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct MsmConfig {
    pub(crate) stream: *mut c_void,
    pub(crate) precompute_factor: i32,
    /// Bits of a window; 0 lets the library choose, differently on every machine.
    pub(crate) c: i32,
    /// Bits of the scalars; 0 stands for the field's.
    pub(crate) bitsize: i32,
    pub(crate) batch_size: i32,
    pub(crate) are_points_shared_in_batch: bool,
    pub(crate) are_scalars_on_device: bool,
    pub(crate) are_scalars_montgomery_form: bool,
    pub(crate) are_points_on_device: bool,
    pub(crate) are_points_montgomery_form: bool,
    pub(crate) are_results_on_device: bool,
    pub(crate) is_async: bool,
    pub(crate) ext: *mut c_void,
}

/// `icicle::NTTConfig<scalar_t>`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct NttConfig {
    pub(crate) stream: *mut c_void,
    /// In standard form; 1 for none.
    pub(crate) coset_gen: Limbs,
    pub(crate) batch_size: i32,
    pub(crate) columns_batch: bool,
    /// 0: natural order on both sides.
    pub(crate) ordering: i32,
    pub(crate) are_inputs_on_device: bool,
    pub(crate) are_outputs_on_device: bool,
    pub(crate) is_async: bool,
    pub(crate) ext: *mut c_void,
}

/// `icicle::NTTInitDomainConfig`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct NttDomainConfig {
    pub(crate) stream: *mut c_void,
    pub(crate) is_async: bool,
    pub(crate) ext: *mut c_void,
}

/// `icicle::VecOpsConfig`. In v3.0 `ext` is where `columns_batch` is now, so what follows it is zeroed by name.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VecOpsConfig {
    pub(crate) stream: *mut c_void,
    pub(crate) is_a_on_device: bool,
    pub(crate) is_b_on_device: bool,
    pub(crate) is_result_on_device: bool,
    pub(crate) is_async: bool,
    pub(crate) batch_size: i32,
    pub(crate) columns_batch: bool,
    pub(crate) reserved: [u8; 7],
    pub(crate) ext: *mut c_void,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<RawDevice>() == 68 && offset_of!(RawDevice, id) == 64);

    assert!(size_of::<MsmConfig>() == 40);
    assert!(offset_of!(MsmConfig, precompute_factor) == 8 && offset_of!(MsmConfig, c) == 12);
    assert!(offset_of!(MsmConfig, bitsize) == 16 && offset_of!(MsmConfig, batch_size) == 20);
    assert!(offset_of!(MsmConfig, are_points_shared_in_batch) == 24);
    assert!(offset_of!(MsmConfig, are_scalars_on_device) == 25);
    assert!(offset_of!(MsmConfig, are_scalars_montgomery_form) == 26);
    assert!(offset_of!(MsmConfig, are_points_on_device) == 27);
    assert!(offset_of!(MsmConfig, are_points_montgomery_form) == 28);
    assert!(offset_of!(MsmConfig, are_results_on_device) == 29);
    assert!(offset_of!(MsmConfig, is_async) == 30 && offset_of!(MsmConfig, ext) == 32);

    assert!(size_of::<NttConfig>() == 64 && offset_of!(NttConfig, coset_gen) == 8);
    assert!(offset_of!(NttConfig, batch_size) == 40 && offset_of!(NttConfig, columns_batch) == 44);
    assert!(offset_of!(NttConfig, ordering) == 48 && offset_of!(NttConfig, are_inputs_on_device) == 52);
    assert!(offset_of!(NttConfig, are_outputs_on_device) == 53 && offset_of!(NttConfig, is_async) == 54);
    assert!(offset_of!(NttConfig, ext) == 56);

    assert!(size_of::<NttDomainConfig>() == 24 && offset_of!(NttDomainConfig, is_async) == 8);
    assert!(offset_of!(NttDomainConfig, ext) == 16);

    assert!(size_of::<VecOpsConfig>() == 32 && offset_of!(VecOpsConfig, is_a_on_device) == 8);
    assert!(offset_of!(VecOpsConfig, is_b_on_device) == 9);
    assert!(offset_of!(VecOpsConfig, is_result_on_device) == 10 && offset_of!(VecOpsConfig, is_async) == 11);
    assert!(offset_of!(VecOpsConfig, batch_size) == 12 && offset_of!(VecOpsConfig, columns_batch) == 16);
    assert!(offset_of!(VecOpsConfig, ext) == 24);
};

/// The three libraries of Icicle's front end for BN254.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Device,
    Field,
    Curve,
}

impl Part {
    /// In the order in which they are loaded: each one binds symbols of those before it.
    pub(crate) const ALL: [Part; 3] = [Part::Device, Part::Field, Part::Curve];

    /// The name that stands in the library's file name.
    pub(crate) fn stem(self) -> &'static str {
        match self {
            Part::Device => "device",
            Part::Field => "field_bn254",
            Part::Curve => "curve_bn254",
        }
    }
}

macro_rules! symbols {
    ($($part:ident: $name:ident($($arg:ty),*);)*) => {
        /// The functions of the C interface that this crate calls.
        #[derive(Debug)]
        pub(crate) struct Symbols {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) -> c_int,)*
        }

        impl Symbols {
            /// Finds every function; the error names the first that is missing.
            pub(crate) fn find(
                library: impl Fn(Part) -> *const libloading::Library,
            ) -> Result<Self, String> {
                Ok(Symbols {
                    $($name: {
                        // SAFETY: the pointer is of a library that the caller keeps loaded for the life of the process, and the type
                        // is that of the function in Icicle's headers.
                        let symbol = unsafe {
                            (*library(Part::$part)).get::<unsafe extern "C" fn($($arg),*) -> c_int>(
                                concat!(stringify!($name), "\0").as_bytes(),
                            )
                        };
                        *symbol.map_err(|error| format!("{}: {error}", stringify!($name)))?
                    },)*
                })
            }
        }
    };
}

symbols! {
    Device: icicle_load_backend(*const c_char, bool);
    Device: icicle_is_device_available(*const RawDevice);
    Device: icicle_get_registered_devices(*mut c_char, usize);
    Device: icicle_set_device(*const RawDevice);
    Device: icicle_get_active_device(*mut RawDevice);
    Device: icicle_get_device_count(*mut c_int);
    Device: icicle_get_available_memory(*mut usize, *mut usize);
    Device: icicle_malloc(*mut *mut c_void, usize);
    Device: icicle_free(*mut c_void);
    Device: icicle_memset(*mut c_void, c_int, usize);
    Device: icicle_copy(*mut c_void, *const c_void, usize);
    Device: icicle_copy_to_host(*mut c_void, *const c_void, usize);
    Device: icicle_copy_to_device(*mut c_void, *const c_void, usize);
    Device: icicle_device_synchronize();
    Field: bn254_ntt(*const c_void, c_int, c_int, *const NttConfig, *mut c_void);
    Field: bn254_ntt_init_domain(*const Limbs, *const NttDomainConfig);
    Field: bn254_ntt_release_domain();
    Field: bn254_vector_mul(*const c_void, *const c_void, u64, *const VecOpsConfig, *mut c_void);
    Field: bn254_scalar_convert_montgomery(*const c_void, u64, bool, *const VecOpsConfig, *mut c_void);
    Curve: bn254_msm(*const c_void, *const c_void, c_int, *const MsmConfig, *mut c_void);
    Curve: bn254_msm_precompute_bases(*const c_void, c_int, *const MsmConfig, *mut c_void);
    Curve: bn254_affine_convert_montgomery(*const c_void, u64, bool, *const VecOpsConfig, *mut c_void);
}

impl RawDevice {
    /// A device by the name that it is registered under, or `None` when the name is too long.
    pub(crate) fn new(kind: &str, id: i32) -> Option<Self> {
        let mut raw = RawDevice { kind: [0; 64], id };
        // The last byte stays zero: it ends the string.
        raw.kind[..63].get_mut(..kind.len())?.copy_from_slice(kind.as_bytes());
        Some(raw)
    }
}

impl Default for VecOpsConfig {
    /// Everything on the device, one vector, finished on return.
    fn default() -> Self {
        VecOpsConfig {
            stream: std::ptr::null_mut(),
            is_a_on_device: true,
            is_b_on_device: true,
            is_result_on_device: true,
            is_async: false,
            batch_size: 1,
            columns_batch: false,
            reserved: [0; 7],
            ext: std::ptr::null_mut(),
        }
    }
}
