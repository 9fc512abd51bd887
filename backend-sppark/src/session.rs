//! The calls of the kernels, made safe: on a context that is held, on memory whose bounds are known.

use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError};

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{as_bytes, as_bytes_mut};

use crate::buffer::Slice;
use crate::device::{Counters, Held};
use crate::error::Failure;
use crate::ffi::{
    Api, Column, Evaluate, Limbs, MESSAGE, Points, ProgramCode, STAGING_BYTES, STAGING_SLOTS, Term,
    Transform, code,
};

/// Bytes of a scalar.
pub(crate) const SCALAR: u64 = 32;
/// Bytes of an affine point.
pub(crate) const POINT: u64 = 64;
/// Limbs of a sum of points: X, Y, ZZ, ZZZ with x = X/ZZ, y = Y/ZZZ.
pub(crate) const SUM: usize = 4;
/// Slots that copies to the device go through; the others are for copies to the host, which go on meanwhile.
const SLOTS_UP: u32 = STAGING_SLOTS / 2;
/// Copies below this size do not pay for staging.
const STAGED_FROM: usize = 256 << 10;
/// Bytes that a thread copies at a time, and most threads that do.
const CHUNK: usize = 1 << 20;
const COPIERS: usize = 4;

/// The limbs of a field element.
pub(crate) fn limbs(value: &Fr) -> Limbs {
    let mut limb = [0; 4];
    as_bytes_mut(&mut limb).copy_from_slice(as_bytes(std::slice::from_ref(value)));
    Limbs { limb }
}

/// The field element of limbs that a kernel computed.
pub(crate) fn element(limbs: &Limbs) -> Fr {
    let mut value = Fr::default();
    as_bytes_mut(std::slice::from_mut(&mut value)).copy_from_slice(as_bytes(&limbs.limb));
    value
}

/// The message that a function left.
pub(crate) fn text(message: &[u8]) -> String {
    let end = message.iter().position(|byte| *byte == 0).unwrap_or(message.len());
    String::from_utf8_lossy(message.get(..end).unwrap_or_default()).into_owned()
}

/// The context of a device, held: nobody else calls while this lives.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    api: &'static Api,
    held: Held<'a>,
    counters: &'a Counters,
}

impl<'a> Session<'a> {
    pub(crate) fn new(api: &'static Api, held: Held<'a>, counters: &'a Counters) -> Self {
        Session { api, held, counters }
    }

    fn context(&self) -> *mut c_void {
        self.held.context()
    }

    fn check(&self, call: &'static str, returned: i32) -> Result<(), Failure> {
        if returned == code::OK {
            return Ok(());
        }
        let mut message = [0; MESSAGE];
        // SAFETY: the context is open, and held by this session; the buffer has the length that is given.
        unsafe { (self.api.message)(self.context(), message.as_mut_ptr(), MESSAGE) };
        let failure = Failure::from_code(call, returned, text(&message));
        if let Failure::Lost(why) = &failure {
            self.held.lose(why);
        }
        Err(failure)
    }

    /// (all, free) bytes of the budget.
    pub(crate) fn memory(&self) -> Result<(u64, u64), Failure> {
        let (mut total, mut free) = (0, 0);
        // SAFETY: the context is open and held; both integers are writable.
        let returned = unsafe { (self.api.memory)(self.context(), &raw mut total, &raw mut free) };
        self.check("memory", returned).map(|()| (total, free))
    }

    pub(crate) fn tune(&self, radix: u32) -> Result<(), Failure> {
        // SAFETY: the context is open and held.
        self.check("tune", unsafe { (self.api.tune)(self.context(), radix) })
    }

    /// Lets the n-th step from now fail. For tests.
    pub(crate) fn inject(&self, after: u64, returned: i32) -> Result<(), Failure> {
        // SAFETY: the context is open and held.
        self.check("inject", unsafe { (self.api.inject)(self.context(), after, returned) })
    }

    pub(crate) fn alloc(&self, bytes: u64) -> Result<u64, Failure> {
        let mut address = 0;
        // SAFETY: the context is open and held; the integer is writable.
        let returned = unsafe { (self.api.alloc)(self.context(), bytes, &raw mut address) };
        self.check("alloc", returned)?;
        if address == 0 {
            Err(Failure::Malformed { call: "alloc", what: "a null address" })
        } else {
            Ok(address)
        }
    }

    /// Frees what [`Session::alloc`] gave, after the work that is pending. The one caller is what collects the addresses of dropped owners.
    pub(crate) fn release(&self, address: u64) -> Result<(), Failure> {
        // SAFETY: the context is open and held; the owner of the address is gone, and an address that the context does not know is ignored.
        self.check("release", unsafe { (self.api.release)(self.context(), address) })
    }

    fn stage(&self, slot: u32, len: usize) -> Result<*mut u8, Failure> {
        let mut address = std::ptr::null_mut();
        // SAFETY: the context is open and held; the pointer is writable.
        let returned = unsafe { (self.api.stage)(self.context(), slot, &raw mut address) };
        self.check("stage", returned)?;
        if address.is_null() || len > STAGING_BYTES {
            return Err(Failure::Malformed { call: "stage", what: "no staging memory" });
        }
        Ok(address)
    }

    /// Copies host bytes to the device. They have been read when the call returns.
    pub(crate) fn upload(&self, from: &[u8], to: &Slice<'_>) -> Result<(), Failure> {
        to.expect(from.len() as u64)?;
        self.counters.to_device.fetch_add(from.len() as u64, Ordering::Relaxed);
        if from.len() < STAGED_FROM {
            // SAFETY: the context is open and held; both ranges have this many bytes, the device's by `Slice`.
            let returned =
                unsafe { (self.api.upload)(self.context(), to.address(), from.as_ptr(), from.len() as u64) };
            return self.check("upload", returned);
        }
        let mut at = to.address();
        for (i, piece) in from.chunks(STAGING_BYTES).enumerate() {
            let slot = i as u32 % SLOTS_UP;
            let staging = self.stage(slot, piece.len())?;
            // SAFETY: a slot has `STAGING_BYTES` bytes, nobody but the holder of the context uses it, and `stage` has waited for the copy out
            // of it.
            let staging = unsafe { std::slice::from_raw_parts_mut(staging, piece.len()) };
            copy(piece, staging);
            // SAFETY: the context is open and held; the slot holds this many bytes, and the device's range, a part of `to`, too.
            let returned = unsafe { (self.api.stage_out)(self.context(), slot, at, piece.len() as u64) };
            self.check("upload", returned)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies device bytes to the host, after the work that is pending.
    pub(crate) fn download(&self, from: &Slice<'_>, to: &mut [u8]) -> Result<(), Failure> {
        from.expect(to.len() as u64)?;
        self.counters.to_host.fetch_add(to.len() as u64, Ordering::Relaxed);
        if to.len() < STAGED_FROM {
            // SAFETY: the context is open and held; both ranges have this many bytes, the device's by `Slice`; the call waits for the copy.
            let returned = unsafe {
                (self.api.download)(self.context(), to.as_mut_ptr(), from.address(), to.len() as u64)
            };
            return self.check("download", returned);
        }
        let request = |slot: u32, piece: usize, len: usize| {
            // The slot may still be on its way out.
            self.stage(slot, len)?;
            let at = from.address() + (piece * STAGING_BYTES) as u64;
            // SAFETY: the context is open and held; the device's range is a part of `from`, and the slot has room for it.
            let returned = unsafe { (self.api.stage_in)(self.context(), slot, at, len as u64) };
            self.check("download", returned)
        };
        const SLOTS_DOWN: usize = (STAGING_SLOTS - SLOTS_UP) as usize;
        let slot = |piece: usize| SLOTS_UP + (piece % SLOTS_DOWN) as u32;
        let lens: Vec<usize> = to.chunks(STAGING_BYTES).map(<[u8]>::len).collect();
        for (piece, len) in lens.iter().enumerate().take(SLOTS_DOWN) {
            request(slot(piece), piece, *len)?;
        }
        for (piece, to) in to.chunks_mut(STAGING_BYTES).enumerate() {
            let staging = self.stage(slot(piece), to.len())?;
            // SAFETY: a slot has `STAGING_BYTES` bytes, nobody but the holder of the context uses it, and `stage` has waited for the copy into it.
            copy(unsafe { std::slice::from_raw_parts(staging, to.len()) }, to);
            let next = piece + SLOTS_DOWN;
            if let Some(len) = lens.get(next) {
                request(slot(next), next, *len)?;
            }
        }
        Ok(())
    }

    /// Transforms columns into columns of 2^`log_n` elements; the two may be the same.
    pub(crate) fn ntt(&self, plan: &Transform, from: &[Slice<'_>], to: &[Slice<'_>]) -> Result<(), Failure> {
        let n = SCALAR.checked_shl(plan.log_n).filter(|_| plan.log_n <= 28).unwrap_or(u64::MAX);
        to.iter().try_for_each(|to| to.expect(n))?;
        if from.len() != to.len() || from.iter().any(|from| from.bytes() > n) {
            return Err(Failure::Failed { call: "ntt", why: "columns of different lengths".into() });
        }
        let (from, to) = (columns(from), addresses(to));
        let batch = count("ntt", to.len())?;
        // SAFETY: the context is open and held; the plan and both lists live until the call returns and have `batch` entries; every `from` has as
        // many elements as it says, at most n, and every `to` has n.
        let returned =
            unsafe { (self.api.ntt)(self.context(), &raw const *plan, from.as_ptr(), to.as_ptr(), batch) };
        self.check("ntt", returned)
    }

    /// `tables` tables of `len` points, the first of which is there already.
    fn points(memory: &Slice<'_>, (tables, shift): (u32, u32)) -> Result<Points, Failure> {
        let len = memory.bytes() / POINT / u64::from(tables.max(1));
        memory.expect(len * POINT * u64::from(tables))?;
        Ok(Points { address: memory.address(), len, tables, shift })
    }

    /// Fills all tables of multiples after the first.
    pub(crate) fn multiples(&self, memory: &Slice<'_>, cut: (u32, u32)) -> Result<(), Failure> {
        let points = Self::points(memory, cut)?;
        // SAFETY: the context is open and held; the structure lives until the call returns; the memory holds as many points as it says.
        self.check("multiples", unsafe { (self.api.multiples)(self.context(), &raw const points) })
    }

    /// Sums of multiples of bases, in the coordinates of [`SUM`].
    pub(crate) fn msm(
        &self,
        bases: &Slice<'_>,
        cut: (u32, u32),
        scalars: &[Slice<'_>],
    ) -> Result<Vec<[Limbs; SUM]>, Failure> {
        let points = Self::points(bases, cut)?;
        let most = points.len * SCALAR;
        if scalars.iter().any(|column| column.bytes() > most) {
            return Err(Failure::Failed { call: "msm", why: "a column is longer than the bases".into() });
        }
        let columns = columns(scalars);
        let batch = count("msm", columns.len())?;
        let mut sums = vec![[Limbs::default(); SUM]; columns.len()];
        // SAFETY: the context is open and held; the memory of the bases has as many points as the structure says; the list has `batch` entries, each
        // of as many scalars as it says, not more than there are bases;
        // the output has room for `batch` sums.
        let returned = unsafe {
            (self.api.msm)(
                self.context(),
                &raw const points,
                columns.as_ptr(),
                batch,
                sums.as_mut_ptr().cast(),
            )
        };
        self.check("msm", returned).map(|()| sums)
    }

    /// Evaluates a program over 2^`log_n` rows. `code` names memory that `program` keeps.
    pub(crate) fn evaluate(
        &self,
        code: &ProgramCode,
        uniforms: &[Limbs],
        columns: &[Slice<'_>],
        out: &[Slice<'_>],
        log_n: u32,
        point: (Limbs, Limbs),
    ) -> Result<(), Failure> {
        let n = SCALAR.checked_shl(log_n).filter(|_| log_n <= 28).unwrap_or(u64::MAX);
        columns.iter().chain(out).try_for_each(|column| column.expect(n))?;
        if out.len() != code.result_count as usize {
            return Err(Failure::Failed { call: "evaluate", why: "wrong number of outputs".into() });
        }
        let (columns, out) = (addresses(columns), addresses(out));
        let (omega, shift) = point;
        // SAFETY: the context is open and held; all lists have the lengths that are given and live until the call returns; columns and outputs have
        // 2^log_n elements; the program's operands are within its lists, which `compile` has checked.
        let returned = unsafe {
            (self.api.evaluate)(
                self.context(),
                &raw const *code,
                uniforms.as_ptr(),
                count("evaluate", uniforms.len())?,
                columns.as_ptr(),
                count("evaluate", columns.len())?,
                out.as_ptr(),
                log_n,
                &raw const omega,
                &raw const shift,
            )
        };
        self.check("evaluate", returned)
    }

    /// `out[i] = Σ factor · term[i]`.
    pub(crate) fn combine(&self, terms: &[(Limbs, Slice<'_>)], out: &Slice<'_>) -> Result<(), Failure> {
        let terms: Vec<Term> = terms
            .iter()
            .map(|(factor, term)| Term {
                address: term.address(),
                len: term.bytes() / SCALAR,
                factor: *factor,
            })
            .collect();
        // SAFETY: the context is open and held; the list has the length that is given; terms and output have as many elements as they say.
        let returned = unsafe {
            let number = count("combine", terms.len())?;
            (self.api.combine)(self.context(), terms.as_ptr(), number, out.address(), out.bytes() / SCALAR)
        };
        self.check("combine", returned)
    }

    /// Values of polynomials at points.
    pub(crate) fn horner(&self, queries: &[(Slice<'_>, Limbs)]) -> Result<Vec<Fr>, Failure> {
        let queries: Vec<Evaluate> = queries
            .iter()
            .map(|(poly, x)| Evaluate { address: poly.address(), len: poly.bytes() / SCALAR, x: *x })
            .collect();
        let mut out = vec![Limbs::default(); queries.len()];
        // SAFETY: the context is open and held; both lists have the length that is given; polynomials have as many elements as they say.
        let returned = unsafe {
            let number = count("horner", queries.len())?;
            (self.api.horner)(self.context(), queries.as_ptr(), number, out.as_mut_ptr())
        };
        self.check("horner", returned)?;
        Ok(out.iter().map(element).collect())
    }

    /// Divides by X − root, in place.
    pub(crate) fn divide(&self, poly: &Slice<'_>, root: Limbs) -> Result<(), Failure> {
        // SAFETY: the context is open and held; the range has this many elements; the root lives until the call returns.
        let returned = unsafe {
            (self.api.divide)(self.context(), poly.address(), poly.bytes() / SCALAR, &raw const root)
        };
        self.check("divide", returned)
    }

    /// Inverts every element but zeros.
    pub(crate) fn invert(&self, values: &Slice<'_>) -> Result<(), Failure> {
        // SAFETY: the context is open and held; the range has this many elements.
        let returned =
            unsafe { (self.api.invert)(self.context(), values.address(), values.bytes() / SCALAR) };
        self.check("invert", returned)
    }

    /// `a[i] ← a[i] · b[i]`.
    pub(crate) fn multiply(&self, a: &Slice<'_>, b: &Slice<'_>) -> Result<(), Failure> {
        b.expect(a.bytes())?;
        // SAFETY: the context is open and held; both ranges have this many elements.
        let returned =
            unsafe { (self.api.multiply)(self.context(), a.address(), b.address(), a.bytes() / SCALAR) };
        self.check("multiply", returned)
    }

    /// The exclusive running product, in place, and the product of all.
    pub(crate) fn accumulate(&self, values: &Slice<'_>, first: Limbs) -> Result<Fr, Failure> {
        let mut total = Limbs::default();
        // SAFETY: the context is open and held; the range has this many elements; both values live until the call returns.
        let returned = unsafe {
            let len = values.bytes() / SCALAR;
            (self.api.accumulate)(self.context(), values.address(), len, &raw const first, &raw mut total)
        };
        self.check("accumulate", returned).map(|()| element(&total))
    }
}

fn columns(slices: &[Slice<'_>]) -> Vec<Column> {
    slices.iter().map(|slice| Column { address: slice.address(), len: slice.bytes() / SCALAR }).collect()
}

fn addresses(slices: &[Slice<'_>]) -> Vec<u64> {
    slices.iter().map(Slice::address).collect()
}

fn count(call: &'static str, len: usize) -> Result<u32, Failure> {
    u32::try_from(len).map_err(|_| Failure::Failed { call, why: "too many operands".into() })
}

/// Copies, on several threads where it is worth it: one does not saturate memory.
///
/// Not on rayon's: the context is held, and a worker that waits takes up other tasks, which may want the context, too.
fn copy(from: &[u8], to: &mut [u8]) {
    static THREADS: OnceLock<usize> = OnceLock::new();
    let threads = || std::thread::available_parallelism().map_or(1, usize::from).min(COPIERS);
    let threads = (*THREADS.get_or_init(threads)).min(to.len().div_ceil(CHUNK));
    let parts = Mutex::new(to.chunks_mut(CHUNK).zip(from.chunks(CHUNK)));
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((to, from)) = next() {
            to.copy_from_slice(from);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be had leaves its share to the others.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}
