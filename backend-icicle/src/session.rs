//! The calls of the library, made safe: on one thread that has set its device, on memory whose bounds are known, with arguments for which
//! Icicle does not throw.

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::PoisonError;

use ff::PrimeField;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::as_bytes;
use parhelion_backend_api::ntt::root_of_unity;

use crate::buffer::Slice;
use crate::error::{Failure, IcicleError};
use crate::ffi::{Limbs, MsmConfig, NttConfig, NttDomainConfig, RawDevice, VecOpsConfig};
use crate::library::{CPU, Library};

/// Bytes of a scalar.
pub(crate) const SCALAR: u64 = 32;
/// Bytes of an affine point.
pub(crate) const POINT: u64 = 64;

/// A projective point as the library returns it: homogeneous coordinates in standard form.
pub(crate) type Projective = [Limbs; 3];

/// The address of device memory. Never dereferenced here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(usize);

/// How a multiplication is to be computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MsmParameters {
    pub(crate) window: i32,
    pub(crate) precompute: i32,
    /// Bits of the scalars, 0 for all.
    pub(crate) bits: i32,
}

/// The thread that a device belongs to. Not `Send`: Icicle's current device is a property of the thread.
#[derive(Debug)]
pub(crate) struct Session {
    library: &'static Library,
    device: RawDevice,
    kind: String,
    ntt_log_n: u32,
    _thread: PhantomData<Cell<*const ()>>,
}

fn check(call: &'static str, code: i32) -> Result<(), Failure> {
    IcicleError::check(code).map_err(|error| Failure::Returned { call, error })
}

fn int(what: &'static str, value: u64) -> Result<i32, Failure> {
    i32::try_from(value).map_err(|_| Failure::TooLarge { what })
}

/// A length or an offset that the caller has computed wrongly: a typed error rather than memory that is not there.
fn expect(holds: bool, call: &'static str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Returned { call, error: IcicleError::InvalidArgument }) }
}

impl Session {
    /// Makes a device the current one of this thread.
    pub(crate) fn start(
        library: &'static Library,
        kind: &str,
        id: i32,
        ntt_log_n: u32,
    ) -> Result<Self, Failure> {
        let device = RawDevice::new(kind, id).ok_or(Failure::TooLarge { what: "the name of the device" })?;
        let symbols = &library.symbols;
        // A kind that nobody registered would throw.
        // SAFETY: the device is a valid structure that lives until the call returns.
        check("icicle_is_device_available", unsafe {
            (symbols.icicle_is_device_available)(&raw const device)
        })?;
        // SAFETY: as above.
        check("icicle_set_device", unsafe { (symbols.icicle_set_device)(&raw const device) })?;
        let mut active = RawDevice { kind: [0; 64], id: -1 };
        // SAFETY: the structure is writable and as large as the library expects.
        check("icicle_get_active_device", unsafe { (symbols.icicle_get_active_device)(&raw mut active) })?;
        let length = |raw: &RawDevice| raw.kind.iter().position(|byte| *byte == 0).unwrap_or(0);
        let same =
            active.id == id && active.kind.get(..length(&active)) == device.kind.get(..length(&device));
        if !same {
            return Err(Failure::Lost(format!("the thread's device is not {kind}:{id} after setting it")));
        }
        Ok(Session { library, device, kind: kind.to_owned(), ntt_log_n, _thread: PhantomData })
    }

    /// How many devices of this kind there are.
    pub(crate) fn device_count(&self) -> Result<i32, Failure> {
        let mut count = 0;
        // SAFETY: the integer is writable.
        let code = unsafe { (self.library.symbols.icicle_get_device_count)(&raw mut count) };
        check("icicle_get_device_count", code).map(|()| count)
    }

    /// (all, free) bytes, where the device can tell.
    pub(crate) fn memory(&self) -> Option<(u64, u64)> {
        let (mut total, mut free) = (0usize, 0usize);
        // SAFETY: both integers are writable.
        let code =
            unsafe { (self.library.symbols.icicle_get_available_memory)(&raw mut total, &raw mut free) };
        (code == 0).then_some((total as u64, free as u64))
    }

    /// Waits for all work. It fails when the device is gone.
    pub(crate) fn synchronize(&self) -> Result<(), Failure> {
        // SAFETY: no arguments; this thread has a device.
        check("icicle_device_synchronize", unsafe { (self.library.symbols.icicle_device_synchronize)() })
    }

    /// A failure, found to be a lost device if that is what it is.
    pub(crate) fn diagnose(&self, failure: Failure) -> Failure {
        if failure.is_suspicious()
            && let Err(second) = self.synchronize()
        {
            return Failure::Lost(format!("{failure}; then {second}"));
        }
        failure
    }

    /// Allocates. Zero bytes are one, so that every address is a device address.
    pub(crate) fn alloc(&self, bytes: u64, what: &'static str) -> Result<Address, Failure> {
        let memory = || Failure::Memory { what, bytes };
        let size = usize::try_from(bytes.max(1)).map_err(|_| memory())?;
        // The libraries add to sizes without looking.
        if size > isize::MAX as usize / 2 {
            return Err(memory());
        }
        let mut address: *mut c_void = std::ptr::null_mut();
        // SAFETY: the pointer to write to is valid.
        let code = unsafe { (self.library.symbols.icicle_malloc)(&raw mut address, size) };
        match check("icicle_malloc", code) {
            Ok(()) if address.is_null() => {
                Err(Failure::Malformed { call: "icicle_malloc", what: "a null pointer" })
            }
            Ok(()) => Ok(Address(address as usize)),
            Err(Failure::Returned {
                error: IcicleError::OutOfMemory | IcicleError::AllocationFailed,
                ..
            }) => Err(memory()),
            Err(failure) => Err(failure),
        }
    }

    /// Frees what [`Session::alloc`] gave.
    ///
    /// The one caller is the destructor of the allocation's only owner.
    pub(crate) fn free(&self, address: Address) -> Result<(), Failure> {
        // SAFETY: the address was given by `icicle_malloc` and its only owner is being dropped; work on it is finished, since every
        // call of this crate is synchronous.
        check("icicle_free", unsafe { (self.library.symbols.icicle_free)(address.0 as *mut c_void) })
    }

    fn raw(slice: &Slice<'_>) -> *mut c_void {
        // In bounds: `Slice` checks it when it is made.
        (slice.base().0 + slice.at() as usize) as *mut c_void
    }

    /// Copies host bytes to the device.
    pub(crate) fn upload(&self, from: &[u8], to: &Slice<'_>) -> Result<(), Failure> {
        const CALL: &str = "icicle_copy_to_device";
        expect(from.len() as u64 == to.bytes(), CALL)?;
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: both ranges are valid for this many bytes: the host's by its type, the device's by `Slice`.
        let code = unsafe {
            (self.library.symbols.icicle_copy_to_device)(Self::raw(to), from.as_ptr().cast(), from.len())
        };
        check(CALL, code)
    }

    /// Copies device bytes to the host.
    pub(crate) fn download(&self, from: &Slice<'_>, to: &mut [u8]) -> Result<(), Failure> {
        const CALL: &str = "icicle_copy_to_host";
        expect(to.len() as u64 == from.bytes(), CALL)?;
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: as in `upload`; the host range is borrowed uniquely.
        let code = unsafe {
            (self.library.symbols.icicle_copy_to_host)(to.as_mut_ptr().cast(), Self::raw(from), to.len())
        };
        check(CALL, code)
    }

    /// Copies on the device.
    pub(crate) fn copy(&self, from: &Slice<'_>, to: &Slice<'_>) -> Result<(), Failure> {
        const CALL: &str = "icicle_copy";
        expect(from.bytes() == to.bytes(), CALL)?;
        if from.bytes() == 0 {
            return Ok(());
        }
        // SAFETY: both ranges are valid device memory; callers copy between different allocations.
        let code = unsafe {
            (self.library.symbols.icicle_copy)(Self::raw(to), Self::raw(from), from.bytes() as usize)
        };
        check(CALL, code)
    }

    /// Fills with zero bytes.
    pub(crate) fn zero(&self, slice: &Slice<'_>) -> Result<(), Failure> {
        if slice.bytes() == 0 {
            return Ok(());
        }
        // SAFETY: the range is valid device memory of the current device.
        let code =
            unsafe { (self.library.symbols.icicle_memset)(Self::raw(slice), 0, slice.bytes() as usize) };
        check("icicle_memset", code)
    }

    /// `a[i] ← a[i] · factors[i]`, the factors in standard form, so that `a` keeps its representation.
    pub(crate) fn scale(&self, a: &Slice<'_>, factors: &Slice<'_>) -> Result<(), Failure> {
        const CALL: &str = "bn254_vector_mul";
        expect(a.bytes() == factors.bytes() && a.bytes() > 0, CALL)?;
        let config = VecOpsConfig::default();
        // SAFETY: both ranges hold this many elements; the operation is element by element, so it works in place.
        let code = unsafe {
            let a = Self::raw(a);
            (self.library.symbols.bn254_vector_mul)(
                a.cast_const(),
                Self::raw(factors).cast_const(),
                factors.bytes() / SCALAR,
                &raw const config,
                a,
            )
        };
        check(CALL, code)
    }

    /// Scalars from Montgomery to standard form, in place.
    pub(crate) fn scalars_to_standard(&self, scalars: &Slice<'_>) -> Result<(), Failure> {
        let config = VecOpsConfig::default();
        // SAFETY: the range holds this many elements; the operation is element by element.
        let code = unsafe {
            let data = Self::raw(scalars);
            (self.library.symbols.bn254_scalar_convert_montgomery)(
                data.cast_const(),
                scalars.bytes() / SCALAR,
                false,
                &raw const config,
                data,
            )
        };
        check("bn254_scalar_convert_montgomery", code)
    }

    /// Affine points from Montgomery to standard form, in place. (0, 0) stays (0, 0).
    pub(crate) fn points_to_standard(&self, points: &Slice<'_>) -> Result<(), Failure> {
        let config = VecOpsConfig::default();
        // SAFETY: the range holds this many points; the operation is point by point.
        let code = unsafe {
            let data = Self::raw(points);
            (self.library.symbols.bn254_affine_convert_montgomery)(
                data.cast_const(),
                points.bytes() / POINT,
                false,
                &raw const config,
                data,
            )
        };
        check("bn254_affine_convert_montgomery", code)
    }

    /// Makes the domain long enough for transforms of length 2^`log_n`.
    ///
    /// The library keeps one domain per device, and a second initialisation does nothing while there is one; so it is released
    /// first. A transform beyond the domain would throw.
    fn ensure_domain(&self, log_n: u32) -> Result<(), Failure> {
        let key = (self.kind.clone(), self.device.id);
        let mut state = self.library.state.lock().unwrap_or_else(PoisonError::into_inner);
        let present = state.domains.get(&key).copied();
        if present.is_some_and(|present| present >= log_n) {
            return Ok(());
        }
        if present.is_some() {
            state.domains.remove(&key);
            // SAFETY: no arguments; this thread has a device, and no transform is running on it.
            check("bn254_ntt_release_domain", unsafe { (self.library.symbols.bn254_ntt_release_domain)() })?;
        }
        // The CPU device computes its table serially.
        let first = if self.kind == CPU { self.ntt_log_n.min(16) } else { self.ntt_log_n };
        let roomy = log_n.max(first).max(1);
        let made = match self.init_domain(roomy) {
            Err(Failure::Returned {
                error: IcicleError::OutOfMemory | IcicleError::AllocationFailed,
                ..
            }) if roomy > log_n.max(1) => self.init_domain(log_n.max(1)).map(|()| log_n.max(1)),
            other => other.map(|()| roomy),
        }?;
        state.domains.insert(key, made);
        Ok(())
    }

    fn init_domain(&self, log_n: u32) -> Result<(), Failure> {
        let too_large = |_| Failure::TooLarge { what: "the length of the domain" };
        let root: Limbs = limbs(&root_of_unity::<Fr>(log_n).map_err(too_large)?);
        let config =
            NttDomainConfig { stream: std::ptr::null_mut(), is_async: false, ext: std::ptr::null_mut() };
        // SAFETY: both structures live until the call returns. The root has order 2^log_n, so the library does not throw.
        let code =
            unsafe { (self.library.symbols.bn254_ntt_init_domain)(&raw const root, &raw const config) };
        check("bn254_ntt_init_domain", code)
    }

    /// Transforms `batch` columns of length 2^`log_n`, one after another, in place. Linear, so the representation is kept.
    pub(crate) fn ntt(
        &self,
        columns: &Slice<'_>,
        log_n: u32,
        batch: usize,
        inverse: bool,
    ) -> Result<(), Failure> {
        const CALL: &str = "bn254_ntt";
        let n =
            1u64.checked_shl(log_n).filter(|_| log_n <= Fr::S).ok_or(Failure::TooLarge { what: "log_n" })?;
        expect((batch as u64).checked_mul(n * SCALAR) == Some(columns.bytes()) && batch > 0, CALL)?;
        if log_n == 0 {
            return Ok(());
        }
        self.ensure_domain(log_n)?;
        let config = NttConfig {
            stream: std::ptr::null_mut(),
            coset_gen: [1, 0, 0, 0],
            batch_size: int("the number of columns", batch as u64)?,
            columns_batch: false,
            ordering: 0,
            are_inputs_on_device: true,
            are_outputs_on_device: true,
            is_async: false,
            ext: std::ptr::null_mut(),
        };
        // SAFETY: the range holds `batch` columns of n elements, input and output may be the same, the length is a power of two within
        // the domain, and the configuration lives until the call returns.
        let code = unsafe {
            let data = Self::raw(columns);
            (self.library.symbols.bn254_ntt)(
                data.cast_const(),
                int("the length of a column", n)?,
                i32::from(inverse),
                &raw const config,
                data,
            )
        };
        check(CALL, code)
    }

    fn msm_config(batch: i32, parameters: MsmParameters) -> MsmConfig {
        MsmConfig {
            stream: std::ptr::null_mut(),
            precompute_factor: parameters.precompute,
            c: parameters.window,
            bitsize: parameters.bits,
            batch_size: batch,
            are_points_shared_in_batch: true,
            are_scalars_on_device: true,
            are_scalars_montgomery_form: true,
            are_points_on_device: true,
            // The CPU device of v3.9 and later ignores a `true`, CUDA ignores it for precomputed points: standard form works everywhere.
            are_points_montgomery_form: false,
            are_results_on_device: false,
            is_async: false,
            ext: std::ptr::null_mut(),
        }
    }

    /// `batch` multiplications of `n` scalars each, in Montgomery form, over the first n bases, in standard form.
    pub(crate) fn msm(
        &self,
        scalars: &Slice<'_>,
        bases: &Slice<'_>,
        batch: usize,
        parameters: MsmParameters,
    ) -> Result<Vec<Projective>, Failure> {
        const CALL: &str = "bn254_msm";
        expect(batch > 0 && parameters.precompute >= 1, CALL)?;
        let n = scalars.bytes() / SCALAR / batch as u64;
        let needed = n.checked_mul(POINT * parameters.precompute as u64);
        expect(n > 0 && n * batch as u64 * SCALAR == scalars.bytes(), CALL)?;
        expect(needed.is_some_and(|needed| needed <= bases.bytes()), CALL)?;
        if parameters.precompute > 1
            && let Some((_, free)) = self.memory()
        {
            // CUDA throws when the buckets for a fixed window do not fit into 0.7 of what is free.
            let windows = 254u64.div_ceil(parameters.window as u64);
            let buckets = (384 * windows.div_ceil(parameters.precompute as u64)) << parameters.window;
            if buckets > free / 10 * 6 {
                return Err(Failure::Memory { what: "buckets", bytes: buckets });
            }
        }
        let config = Self::msm_config(int("the number of columns", batch as u64)?, parameters);
        // What a library that writes nothing leaves behind is not on the curve.
        let mut results: Vec<Projective> = vec![[[u64::MAX; 4]; 3]; batch];
        // SAFETY: the ranges hold n · batch scalars and at least n · precompute bases, the results `batch` points of 96 bytes.
        let code = unsafe {
            (self.library.symbols.bn254_msm)(
                Self::raw(scalars).cast_const(),
                Self::raw(bases).cast_const(),
                int("the number of scalars", n)?,
                &raw const config,
                results.as_mut_ptr().cast(),
            )
        };
        check(CALL, code).map(|()| results)
    }

    /// Multiples of `bases` for [`Session::msm`] with the same parameters.
    pub(crate) fn precompute(
        &self,
        bases: &Slice<'_>,
        out: &Slice<'_>,
        parameters: MsmParameters,
    ) -> Result<(), Failure> {
        const CALL: &str = "bn254_msm_precompute_bases";
        let factor = u64::try_from(parameters.precompute).unwrap_or(0);
        expect(factor > 0 && bases.bytes().checked_mul(factor) == Some(out.bytes()), CALL)?;
        let config = Self::msm_config(1, parameters);
        // CUDA says by this flag where the output is to be.
        let config = MsmConfig { are_results_on_device: true, ..config };
        // SAFETY: `out` holds `factor` points for each of `bases`; they are different allocations.
        let code = unsafe {
            (self.library.symbols.bn254_msm_precompute_bases)(
                Self::raw(bases).cast_const(),
                int("the number of bases", bases.bytes() / POINT)?,
                &raw const config,
                Self::raw(out),
            )
        };
        check(CALL, code)
    }
}

/// The standard form of a scalar.
pub(crate) fn limbs(scalar: &Fr) -> Limbs {
    let repr = scalar.to_repr();
    let bytes: &[u8] = repr.as_ref();
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = bytes.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    limbs
}

/// Bytes of staging words.
pub(crate) fn bytes_of(words: &[u64]) -> &[u8] {
    as_bytes(words)
}
