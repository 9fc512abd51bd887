//! The exported symbols: Icicle's, and two to control the library by.
//!
//! Signatures, and the meaning of every argument, are Icicle's.
//!
//! # Safety
//!
//! As in C: pointers are valid for what the arguments say.
#![allow(
    clippy::missing_safety_doc,
    missing_docs,
    reason = "said once for all symbols, in the module's documentation"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

use ff::Field;
use group::Group;
use halo2curves::bn256::{Fq, Fr, G1};

use crate::compute;
use crate::state::{Kind, Name, State, code, current, set_current, with};

#[repr(C)]
#[derive(Debug)]
pub struct Device {
    kind: [u8; 64],
    id: i32,
}

#[repr(C)]
#[derive(Debug)]
pub struct MsmConfig {
    stream: *mut c_void,
    precompute_factor: i32,
    c: i32,
    bitsize: i32,
    batch_size: i32,
    are_points_shared_in_batch: bool,
    are_scalars_on_device: bool,
    are_scalars_montgomery_form: bool,
    are_points_on_device: bool,
    are_points_montgomery_form: bool,
    are_results_on_device: bool,
    is_async: bool,
    ext: *mut c_void,
}

#[repr(C)]
#[derive(Debug)]
pub struct NttConfig {
    stream: *mut c_void,
    coset_gen: [u64; 4],
    batch_size: i32,
    columns_batch: bool,
    ordering: i32,
    are_inputs_on_device: bool,
    are_outputs_on_device: bool,
    is_async: bool,
    ext: *mut c_void,
}

#[repr(C)]
#[derive(Debug)]
pub struct VecOpsConfig {
    stream: *mut c_void,
    is_a_on_device: bool,
    is_b_on_device: bool,
    is_result_on_device: bool,
    is_async: bool,
    batch_size: i32,
    columns_batch: bool,
    ext: *mut c_void,
}

/// What a call wrote, for faults to spoil.
enum Output {
    Nothing,
    /// Device memory: address and words.
    Device(usize, usize),
    /// Host memory: address and words.
    Host(*mut u64, usize),
    /// Projective points in host memory: address and number.
    Points(*mut u64, usize),
}

fn throws(state: &mut State, why: &str) -> i32 {
    state.violate(format!("T5: {why} throws an exception"));
    code::UNKNOWN_ERROR
}

/// Runs a call on the thread's device, with whatever fault is due.
fn on_device(call: &'static str, f: impl FnOnce(&mut State, &Name) -> Result<Output, i32>) -> c_int {
    enum Outcome {
        Done(c_int),
        Sleep(std::time::Duration),
    }
    let outcome = with(|state| {
        let fault = state.enter(call);
        if state.is_lost() {
            let code = if call == "icicle_device_synchronize" {
                code::SYNCHRONIZATION_FAILED
            } else {
                code::UNKNOWN_ERROR
            };
            return Outcome::Done(code);
        }
        let device = match current() {
            Some(device) => device,
            None => {
                state.violate(format!("T4: {call} on a thread that never set a device runs on the CPU"));
                if state.strict {
                    return Outcome::Done(code::INVALID_DEVICE);
                }
                Name::cpu()
            }
        };
        match fault {
            Some(Kind::Fail(code)) => return Outcome::Done(code),
            Some(Kind::Hang(time)) => return Outcome::Sleep(time),
            Some(Kind::Corrupt(_)) | None => {}
        }
        match f(state, &device) {
            Err(code) => Outcome::Done(code),
            Ok(output) => {
                if let Some(Kind::Corrupt(seed)) = fault {
                    spoil(state, output, seed, &device);
                }
                Outcome::Done(0)
            }
        }
    });
    match outcome {
        Outcome::Done(code) => code,
        // Not while holding the state: other threads go on, as they would.
        Outcome::Sleep(time) => {
            std::thread::sleep(time);
            code::UNKNOWN_ERROR
        }
    }
}

/// Changes one place of a result. Scalars stay below the modulus; points become other points, or no points.
fn spoil(state: &mut State, output: Output, seed: u64, device: &Name) {
    let place = |len: usize| (seed >> 8) as usize % len.max(1);
    match output {
        Output::Nothing => {}
        Output::Device(address, words) => {
            let at = address + place(words) / 4 * 32;
            if let Ok(mut old) = state.read(at, 1, device) {
                old[0] ^= 1 << (seed % 60);
                let _ = state.write(at, &old, device);
            }
        }
        Output::Host(words, len) if len > 0 => {
            // SAFETY: the caller of the call that wrote them gave this many words.
            let words = unsafe { std::slice::from_raw_parts_mut(words, len) };
            words[place(len) / 4 * 4] ^= 1 << (seed % 60);
        }
        Output::Points(words, count) if count > 0 => {
            // SAFETY: as above, 12 words for each point.
            let words = unsafe { std::slice::from_raw_parts_mut(words, count * 12) };
            let at = place(count) * 12;
            match seed % 3 {
                0 => words[at] ^= 1 << (seed >> 3 & 63),
                1 => words[at..at + 12].copy_from_slice(&compute::projective(&G1::identity(), 1)),
                _ => {
                    let point = G1::generator() * Fr::from(seed | 1);
                    words[at..at + 12].copy_from_slice(&compute::projective(&point, 7));
                }
            }
        }
        Output::Host(..) | Output::Points(..) => {}
    }
}

/// The device that a structure names.
unsafe fn name(device: *const Device) -> Name {
    // SAFETY: by the contract of the symbols.
    let device = unsafe { &*device };
    let end = device.kind.iter().position(|byte| *byte == 0).unwrap_or(64);
    Name { kind: String::from_utf8_lossy(&device.kind[..end]).into_owned(), id: device.id }
}

fn registered(state: &State, kind: &str) -> bool {
    kind == "CPU" || (kind == "CUDA" && state.cuda)
}

/// Words of an operand on the device, or on the host where the configuration says so.
unsafe fn operand(
    state: &mut State,
    address: *const c_void,
    words: usize,
    on_device: bool,
    device: &Name,
) -> Result<Vec<u64>, i32> {
    let tracked = state.find(address as usize, 1).is_some();
    if tracked != on_device {
        state.violate(format!("T5: an operand at {address:?} is said to be on the device: {on_device}"));
        return Err(code::INVALID_POINTER);
    }
    if on_device {
        state.read(address as usize, words, device)
    } else {
        // SAFETY: by the contract of the symbols.
        Ok(unsafe { std::slice::from_raw_parts(address.cast::<u64>(), words) }.to_vec())
    }
}

/// Runs a control command: see the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loopback_control(command: *const c_char) -> i64 {
    // SAFETY: by the contract of the symbols.
    let command = unsafe { CStr::from_ptr(command) }.to_string_lossy().into_owned();
    with(|state| state.control(&command))
}

/// Writes the violations so far, one per line; returns the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loopback_violations(out: *mut c_char, size: usize) -> usize {
    let text = with(|state| state.violations());
    let len = text.len().min(size);
    // SAFETY: by the contract of the symbols, `size` bytes are writable.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), out.cast(), len) };
    len
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_load_backend(path: *const c_char, _recursive: bool) -> c_int {
    fn holds_cuda(dir: &Path) -> bool {
        let Ok(entries) = std::fs::read_dir(dir) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().contains("icicle_backend_cuda_device")
                || (entry.path().is_dir() && holds_cuda(&entry.path()))
        })
    }
    // SAFETY: by the contract of the symbols.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let cuda = holds_cuda(Path::new(&path));
    with(|state| {
        let _ = state.enter("icicle_load_backend");
        state.cuda |= cuda;
    });
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_registered_devices(out: *mut c_char, size: usize) -> c_int {
    let names = with(|state| if state.cuda { "CPU,CUDA\0" } else { "CPU\0" });
    if names.len() > size {
        return code::OUT_OF_MEMORY;
    }
    // SAFETY: by the contract of the symbols, and checked above.
    unsafe { std::ptr::copy_nonoverlapping(names.as_ptr(), out.cast(), names.len()) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_is_device_available(device: *const Device) -> c_int {
    // SAFETY: by the contract of the symbols.
    let name = unsafe { name(device) };
    with(|state| if registered(state, &name.kind) { 0 } else { code::INVALID_DEVICE })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_set_device(device: *const Device) -> c_int {
    // SAFETY: by the contract of the symbols.
    let name = unsafe { name(device) };
    let code = with(|state| {
        if let Some(Kind::Fail(code)) = state.enter("icicle_set_device") {
            return code;
        }
        if !registered(state, &name.kind) {
            return throws(state, "setting a device that is not registered");
        }
        let count = if name.is_cpu() { 1 } else { state.cuda_devices };
        if (0..count).contains(&name.id) { 0 } else { code::INVALID_DEVICE }
    });
    if code == 0 {
        set_current(name);
    }
    code
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_active_device(device: *mut Device) -> c_int {
    let name = current().unwrap_or_else(Name::cpu);
    let mut kind = [0; 64];
    kind[..name.kind.len()].copy_from_slice(name.kind.as_bytes());
    // SAFETY: by the contract of the symbols.
    unsafe { device.write(Device { kind, id: name.id }) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_device_count(count: *mut c_int) -> c_int {
    on_device("icicle_get_device_count", |state, device| {
        let devices = if device.is_cpu() { 1 } else { state.cuda_devices };
        // SAFETY: by the contract of the symbols.
        unsafe { count.write(devices) };
        Ok(Output::Nothing)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_available_memory(total: *mut usize, free: *mut usize) -> c_int {
    on_device("icicle_get_available_memory", |state, device| {
        if device.is_cpu() {
            return Err(code::API_NOT_IMPLEMENTED);
        }
        let left = state.total.saturating_sub(state.used());
        // SAFETY: by the contract of the symbols.
        unsafe {
            total.write(state.total as usize);
            free.write(left as usize);
        }
        Ok(Output::Nothing)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_malloc(out: *mut *mut c_void, size: usize) -> c_int {
    on_device("icicle_malloc", |state, device| {
        let address = state.allocate(device.clone(), size)?;
        // SAFETY: by the contract of the symbols.
        unsafe { out.write(address as *mut c_void) };
        Ok(Output::Nothing)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_free(address: *mut c_void) -> c_int {
    on_device("icicle_free", |state, _| match state.memory.remove(&(address as usize)) {
        Some(_) => Ok(Output::Nothing),
        None => {
            state.violate(format!("T5: freeing {address:?}, which is not an allocation"));
            Err(code::INVALID_DEVICE)
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_memset(address: *mut c_void, value: c_int, size: usize) -> c_int {
    on_device("icicle_memset", |state, device| {
        let words = vec![u64::from_ne_bytes([value as u8; 8]); size / 8];
        state.write(address as usize, &words, device)?;
        Ok(Output::Device(address as usize, words.len()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_copy(to: *mut c_void, from: *const c_void, size: usize) -> c_int {
    on_device("icicle_copy", |state, device| {
        let words = state.read(from as usize, size / 8, device)?;
        state.write(to as usize, &words, device)?;
        Ok(Output::Device(to as usize, words.len()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_copy_to_host(to: *mut c_void, from: *const c_void, size: usize) -> c_int {
    on_device("icicle_copy_to_host", |state, device| {
        let words = state.read(from as usize, size.div_ceil(8), device)?;
        // SAFETY: by the contract of the symbols; `words` holds at least `size` bytes.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), to.cast(), size) };
        Ok(Output::Host(to.cast(), size / 8))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_copy_to_device(to: *mut c_void, from: *const c_void, size: usize) -> c_int {
    on_device("icicle_copy_to_device", |state, device| {
        let mut words = state.read(to as usize, size.div_ceil(8), device)?;
        // SAFETY: by the contract of the symbols; `words` holds at least `size` bytes.
        unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), words.as_mut_ptr().cast(), size) };
        state.write(to as usize, &words, device)?;
        Ok(Output::Device(to as usize, size / 8))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn icicle_device_synchronize() -> c_int {
    on_device("icicle_device_synchronize", |_, _| Ok(Output::Nothing))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_ntt_init_domain(root: *const [u64; 4], _config: *const c_void) -> c_int {
    // SAFETY: by the contract of the symbols.
    let limbs = unsafe { *root };
    on_device("bn254_ntt_init_domain", |state, device| {
        let Some(root) = compute::from_standard::<Fr>(&limbs) else {
            return Err(throws(state, "a root that is not below the modulus"));
        };
        if state.domains.contains_key(device) {
            // A second initialisation does nothing, whatever it asks for.
            return Ok(Output::Nothing);
        }
        let mut power = root;
        let Some(log_n) = (0..=28).find(|_| {
            let found = power == Fr::ONE;
            power = power.square();
            found
        }) else {
            return Err(throws(state, "a root of no power of two"));
        };
        let bytes = 32u64 << log_n;
        if !device.is_cpu() && state.used() + bytes > state.total {
            return Err(code::OUT_OF_MEMORY);
        }
        state.domains.insert(device.clone(), (root, log_n));
        Ok(Output::Nothing)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn bn254_ntt_release_domain() -> c_int {
    on_device("bn254_ntt_release_domain", |state, device| {
        state.domains.remove(device);
        Ok(Output::Nothing)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_ntt(
    input: *const c_void,
    size: c_int,
    direction: c_int,
    config: *const NttConfig,
    output: *mut c_void,
) -> c_int {
    // SAFETY: by the contract of the symbols.
    let config = unsafe { &*config };
    on_device("bn254_ntt", |state, device| {
        let n = size as usize;
        if size < 1 || !n.is_power_of_two() {
            return Err(throws(state, "a transform of a length that is not a power of two"));
        }
        let log_n = n.ilog2();
        let Some((root, log_max)) = state.domains.get(device).copied().filter(|(_, max)| *max >= log_n)
        else {
            return Err(throws(state, "a transform beyond the domain"));
        };
        if config.coset_gen != [1, 0, 0, 0] {
            state.violate("T11: coset_gen computes its powers serially in every call");
            return Err(code::INVALID_ARGUMENT);
        }
        if config.columns_batch || config.ordering != 0 || config.batch_size < 1 {
            return Err(code::INVALID_ARGUMENT);
        }
        let words = n * config.batch_size as usize * 4;
        // SAFETY: by the contract of the symbols.
        let words = unsafe { operand(state, input, words, config.are_inputs_on_device, device) }?;
        let root = (log_n..log_max).fold(root, |root, _| root.square());
        let mut data = compute::montgomery::<Fr>(&words);
        if !compute::transform(&mut data, log_n, root, direction == 1) {
            return Err(code::UNKNOWN_ERROR);
        }
        state.write(output as usize, &compute::words(&data), device)?;
        Ok(Output::Device(output as usize, words.len()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_vector_mul(
    a: *const c_void,
    b: *const c_void,
    size: u64,
    config: *const VecOpsConfig,
    output: *mut c_void,
) -> c_int {
    // SAFETY: by the contract of the symbols.
    let config = unsafe { &*config };
    on_device("bn254_vector_mul", |state, device| {
        let words = size as usize * 4 * config.batch_size as usize;
        // SAFETY: by the contract of the symbols.
        let (a, b) = unsafe {
            (
                operand(state, a, words, config.is_a_on_device, device)?,
                operand(state, b, words, config.is_b_on_device, device)?,
            )
        };
        // The product of standard forms: one factor is taken out of Montgomery form by the multiplication.
        let mut product = compute::montgomery::<Fr>(&a);
        for (a, b) in product.iter_mut().zip(b.chunks_exact(4)) {
            let Some(b) = compute::from_standard::<Fr>(b) else { return Err(code::INVALID_ARGUMENT) };
            *a *= b;
        }
        state.write(output as usize, &compute::words(&product), device)?;
        Ok(Output::Device(output as usize, words))
    })
}

/// Converts elements, in place or not; `None` where one is not below the modulus.
fn convert<F: ff::PrimeField<Repr: Default> + parhelion_backend_api::hal::DeviceRepr>(
    words: &[u64],
    into_montgomery: bool,
) -> Option<Vec<u64>> {
    if into_montgomery {
        let values: Option<Vec<F>> = words.chunks_exact(4).map(compute::from_standard::<F>).collect();
        Some(compute::words(&values?))
    } else {
        Some(compute::montgomery::<F>(words).iter().flat_map(compute::to_standard).collect())
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_scalar_convert_montgomery(
    input: *const c_void,
    size: u64,
    into: bool,
    config: *const VecOpsConfig,
    output: *mut c_void,
) -> c_int {
    // SAFETY: by the contract of the symbols.
    let config = unsafe { &*config };
    on_device("bn254_scalar_convert_montgomery", |state, device| {
        // SAFETY: by the contract of the symbols.
        let words = unsafe { operand(state, input, size as usize * 4, config.is_a_on_device, device) }?;
        let words = convert::<Fr>(&words, into).ok_or(code::INVALID_ARGUMENT)?;
        state.write(output as usize, &words, device)?;
        Ok(Output::Device(output as usize, words.len()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_affine_convert_montgomery(
    input: *const c_void,
    size: u64,
    into: bool,
    config: *const VecOpsConfig,
    output: *mut c_void,
) -> c_int {
    // SAFETY: by the contract of the symbols.
    let config = unsafe { &*config };
    on_device("bn254_affine_convert_montgomery", |state, device| {
        // SAFETY: by the contract of the symbols.
        let words = unsafe { operand(state, input, size as usize * 8, config.is_a_on_device, device) }?;
        let words = convert::<Fq>(&words, into).ok_or(code::INVALID_ARGUMENT)?;
        state.write(output as usize, &words, device)?;
        Ok(Output::Device(output as usize, words.len()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_msm(
    scalars: *const c_void,
    bases: *const c_void,
    size: c_int,
    config: *const MsmConfig,
    results: *mut c_void,
) -> c_int {
    // SAFETY: by the contract of the symbols.
    let config = unsafe { &*config };
    on_device("bn254_msm", |state, device| {
        let (Ok(n), Ok(batch)) = (usize::try_from(size), usize::try_from(config.batch_size)) else {
            return Err(code::INVALID_ARGUMENT);
        };
        let factor = usize::try_from(config.precompute_factor).unwrap_or(0);
        if n == 0 || batch == 0 || factor == 0 || config.are_results_on_device {
            return Err(code::INVALID_ARGUMENT);
        }
        if config.c < 1 || config.c > 22 {
            state.violate("T8: a multiplication without a window width of its own");
            return Err(code::INVALID_ARGUMENT);
        }
        let what = compute::Msm {
            n,
            batch,
            window: config.c as u32,
            precompute: factor,
            bits: config.bitsize as u32,
            scalars_montgomery: config.are_scalars_montgomery_form,
            // The CPU device ignores the flag; so does CUDA for precomputed bases.
            points_montgomery: config.are_points_montgomery_form && !device.is_cpu() && factor == 1,
            points_shared: config.are_points_shared_in_batch,
        };
        let points = if what.points_shared { n } else { n * batch } * factor;
        // SAFETY: by the contract of the symbols.
        let (scalars, bases) = unsafe {
            (
                operand(state, scalars, n * batch * 4, config.are_scalars_on_device, device)?,
                operand(state, bases, points * 8, config.are_points_on_device, device)?,
            )
        };
        if bases.chunks_exact(8).any(|words| compute::base(words, what.points_montgomery).is_none()) {
            state.violate(
                "T3: a base that is not on the curve: points in a form that the device does not read",
            );
            return Err(code::INVALID_ARGUMENT);
        }
        let words = compute::msm(&scalars, &bases, what)?;
        // SAFETY: by the contract of the symbols, there is room for `batch` points of 96 bytes.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), results.cast::<u64>(), words.len()) };
        Ok(Output::Points(results.cast(), batch))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn bn254_msm_precompute_bases(
    input: *const c_void,
    count: c_int,
    config: *const MsmConfig,
    output: *mut c_void,
) -> c_int {
    // SAFETY: by the contract of the symbols.
    let config = unsafe { &*config };
    on_device("bn254_msm_precompute_bases", |state, device| {
        let n = usize::try_from(count).map_err(|_| code::INVALID_ARGUMENT)?;
        let factor = usize::try_from(config.precompute_factor).unwrap_or(0);
        if factor == 0 || config.c < 1 {
            state.violate("T8: bases precomputed without a window width of their own");
            return Err(code::INVALID_ARGUMENT);
        }
        // SAFETY: by the contract of the symbols.
        let words = unsafe { operand(state, input, n * 8, config.are_points_on_device, device) }?;
        let montgomery = config.are_points_montgomery_form;
        let words = compute::precompute(&words, config.c as u32, factor, montgomery);
        let words = words.ok_or(code::INVALID_ARGUMENT)?;
        state.write(output as usize, &words, device)?;
        Ok(Output::Device(output as usize, words.len()))
    })
}
