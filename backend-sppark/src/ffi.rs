//! The C interface of the kernels, `kernels/api.h`: layouts and symbols. Nothing here calls anything.
//!
//! `tests/signatures.rs` compares the declarations with the header and with the symbols of the libraries; the sizes and offsets of
//! structures are asserted on this side below and follow on the other from fields of fixed width without padding.

use std::ffi::c_void;
use std::mem::offset_of;

/// Bytes of the message of a failure.
pub(crate) const MESSAGE: usize = 512;
/// Page-locked buffers of a context.
pub(crate) const STAGING_SLOTS: u32 = 8;
/// Bytes of each.
pub(crate) const STAGING_BYTES: usize = 8 << 20;

/// Return codes.
pub(crate) mod code {
    pub(crate) const OK: i32 = 0;
    pub(crate) const OUT_OF_MEMORY: i32 = 1;
    pub(crate) const LOST: i32 = 2;
    pub(crate) const INVALID: i32 = 3;
}

/// A field element, Montgomery limbs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limbs {
    pub(crate) limb: [u64; 4],
}

/// What a device says about itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    pub(crate) name: [u8; 256],
    pub(crate) total: u64,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) processors: u32,
    pub(crate) runtime: u32,
    pub(crate) driver: u32,
    pub(crate) simulated: u32,
}

/// Field elements on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) address: u64,
    pub(crate) len: u64,
}

/// Bases on the device: `tables` times as many points as `len`, table j being the first one's multiples by 2^(shift·j).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) tables: u32,
    pub(crate) shift: u32,
}

/// A transform.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transform {
    pub(crate) root: Limbs,
    pub(crate) shift: Limbs,
    pub(crate) shift_inverse: Limbs,
    pub(crate) size_inverse: Limbs,
    pub(crate) log_n: u32,
    pub(crate) inverse: u32,
    pub(crate) coset: u32,
    pub(crate) root_log: u32,
}

/// A program on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramCode {
    pub(crate) code: u64,
    pub(crate) steps: u64,
    pub(crate) accesses: u64,
    pub(crate) access_count: u32,
    pub(crate) registers: u32,
    pub(crate) uses_point: u32,
    pub(crate) result_count: u32,
    pub(crate) results: u64,
}

/// A polynomial and a point to evaluate it at.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluate {
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) x: Limbs,
}

/// A term of a linear combination.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) factor: Limbs,
}

const _: () = {
    assert!(size_of::<Limbs>() == 32);
    assert!(
        size_of::<Info>() == 256 + 8 + 24
            && offset_of!(Info, major) == 264
            && offset_of!(Info, simulated) == 284
    );
    assert!(size_of::<Points>() == 24 && offset_of!(Points, tables) == 16);
    assert!(size_of::<Column>() == 16 && offset_of!(Column, len) == 8);
    assert!(
        size_of::<Transform>() == 144
            && offset_of!(Transform, log_n) == 128
            && offset_of!(Transform, root_log) == 140
    );
    assert!(size_of::<ProgramCode>() == 48 && offset_of!(ProgramCode, access_count) == 24);
    assert!(offset_of!(ProgramCode, result_count) == 36 && offset_of!(ProgramCode, results) == 40);
    assert!(size_of::<Evaluate>() == 48 && offset_of!(Evaluate, x) == 16);
    assert!(size_of::<Term>() == 48 && offset_of!(Term, factor) == 16);
};

macro_rules! interface {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The functions of one library.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Api {
            $(pub(crate) $name: unsafe extern "C" fn($($type),*) -> i32,)*
        }

        #[cfg(feature = "cuda")]
        mod cuda {
            use super::*;

            unsafe extern "C" {
                $(#[link_name = concat!("parhelion_cuda_", stringify!($name))]
                pub(super) fn $name($($argument: $type),*) -> i32;)*
            }
        }

        #[cfg(feature = "host-emulation")]
        mod emulation {
            use super::*;

            unsafe extern "C" {
                $(#[link_name = concat!("parhelion_emulation_", stringify!($name))]
                pub(super) fn $name($($argument: $type),*) -> i32;)*
            }
        }

        /// The kernels for cards, where this build has them.
        #[cfg(feature = "cuda")]
        pub(crate) static CUDA: Option<Api> = Some(Api { $($name: cuda::$name,)* });
        #[cfg(not(feature = "cuda"))]
        pub(crate) static CUDA: Option<Api> = None;

        /// The kernels as plain C++, where this build has them.
        #[cfg(feature = "host-emulation")]
        pub(crate) static EMULATION: Option<Api> = Some(Api { $($name: emulation::$name,)* });
        #[cfg(not(feature = "host-emulation"))]
        pub(crate) static EMULATION: Option<Api> = None;
    };
}

interface! {
    fn device_count(count: *mut i32, message: *mut u8, room: usize);
    fn device_info(device: i32, info: *mut Info, message: *mut u8, room: usize);
    fn open(device: i32, budget: u64, limit: u64, context: *mut *mut c_void, message: *mut u8, room: usize);
    fn close(context: *mut c_void);
    fn message(context: *mut c_void, message: *mut u8, room: usize);
    fn memory(context: *mut c_void, total: *mut u64, free: *mut u64);
    fn tune(context: *mut c_void, radix: u32);
    fn inject(context: *mut c_void, after: u64, code: i32);
    fn alloc(context: *mut c_void, bytes: u64, address: *mut u64);
    fn release(context: *mut c_void, address: u64);
    fn upload(context: *mut c_void, to: u64, from: *const u8, bytes: u64);
    fn download(context: *mut c_void, to: *mut u8, from: u64, bytes: u64);
    fn stage(context: *mut c_void, slot: u32, address: *mut *mut u8);
    fn stage_out(context: *mut c_void, slot: u32, to: u64, bytes: u64);
    fn stage_in(context: *mut c_void, slot: u32, from: u64, bytes: u64);
    fn ntt(context: *mut c_void, plan: *const Transform, from: *const Column, to: *const u64, batch: u32);
    fn multiples(context: *mut c_void, bases: *const Points);
    fn msm(context: *mut c_void, bases: *const Points, columns: *const Column, batch: u32, out: *mut Limbs);
    fn evaluate(context: *mut c_void, program: *const ProgramCode, uniforms: *const Limbs, uniform_count: u32, columns: *const u64, column_count: u32, out: *const u64, log_n: u32, omega: *const Limbs, shift: *const Limbs);
    fn combine(context: *mut c_void, terms: *const Term, count: u32, out: u64, len: u64);
    fn horner(context: *mut c_void, queries: *const Evaluate, count: u32, out: *mut Limbs);
    fn divide(context: *mut c_void, poly: u64, len: u64, root: *const Limbs);
    fn invert(context: *mut c_void, values: u64, len: u64);
    fn multiply(context: *mut c_void, a: u64, b: u64, len: u64);
    fn accumulate(context: *mut c_void, values: u64, len: u64, first: *const Limbs, total: *mut Limbs);
}
