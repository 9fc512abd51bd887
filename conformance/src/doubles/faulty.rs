//! A backend that fails on schedule.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ff::{Field, PrimeField};
use group::Group;
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::{DeviceInfo, DeviceRepr, Error, Op, RefMut, Result, as_bytes_mut};
use parhelion_backend_api::{Backend, Curve, Provider, Unavailable};
use parhelion_dispatch::{PolyCall, PolyShape, Shape};

use super::intercept::{Event, Hook, intercept};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// `OutOfMemory`, operands untouched.
    OutOfMemory,
    /// `Unsupported`, operands untouched.
    Unsupported,
    /// `DeviceLost`, operands scribbled over, and every later call fails the same way.
    DeviceLost,
    /// `Backend`, operands scribbled over; later calls work.
    Crash,
    /// `Invalid`, as if the caller had made a mistake, operands scribbled over; later calls work.
    Blame,
    /// Success, with one bit of one limb of the result flipped (a point gets a wrong summand). The number chooses which.
    Flip(u64),
    /// Success, with the result all zero. What stays on the device is out of reach: the next result that does not is zero in its place.
    Zero,
}

/// A fault and when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How the call goes wrong.
    pub kind: FaultKind,
    /// The calls counted: one operation, or all of them.
    pub op: Option<Op>,
    /// The first call that goes wrong, counted from 0.
    pub at: u64,
    /// How many calls in a row go wrong.
    pub times: u64,
}

impl Fault {
    /// The n-th call of any operation, counted from 0.
    pub fn nth(kind: FaultKind, at: u64) -> Self {
        Fault { kind, op: None, at, times: 1 }
    }

    /// Every call.
    pub fn always(kind: FaultKind) -> Self {
        Fault { kind, op: None, at: 0, times: u64::MAX }
    }

    /// The same fault in calls of one operation only.
    pub fn of(self, op: Op) -> Self {
        Fault { op: Some(op), ..self }
    }
}

/// What a [`Faulty`] backend will do, and what it has done; shared with every provider that it opened.
#[derive(Debug, Default)]
pub struct FaultyControl {
    faults: Mutex<Vec<Fault>>,
    calls: [AtomicU64; 4],
    prepared: AtomicU64,
    allocations: AtomicU64,
    failing_allocation: Mutex<Option<u64>>,
    injected: AtomicU64,
    lost: AtomicBool,
}

fn slot(op: Op) -> usize {
    Op::PLONK.iter().position(|o| *o == op).unwrap_or(0)
}

impl FaultyControl {
    /// Replaces the schedule, forgets a lost device and counts from 0 again.
    pub fn schedule(&self, faults: Vec<Fault>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
        self.calls.iter().for_each(|calls| calls.store(0, Ordering::Relaxed));
        self.lost.store(false, Ordering::Relaxed);
    }

    /// Fails the n-th allocation from now with `OutOfMemory`, counted from 0.
    pub fn fail_allocation(&self, n: u64) {
        let next = self.allocations.load(Ordering::Relaxed) + n;
        *self.failing_allocation.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    /// Number of calls of an operation, failed ones included.
    pub fn calls(&self, op: Op) -> u64 {
        self.calls[slot(op)].load(Ordering::Relaxed)
    }

    /// Number of handles that were prepared.
    pub fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Number of faults that have happened.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    /// Counts a call and returns what happens to it.
    fn next(&self, op: Op) -> Option<FaultKind> {
        let total: u64 = self.calls.iter().map(|calls| calls.load(Ordering::Relaxed)).sum();
        let of_op = self.calls[slot(op)].fetch_add(1, Ordering::Relaxed);
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = |fault: &&Fault| {
            let n = match fault.op {
                Some(o) if o != op => return false,
                Some(_) => of_op,
                None => total,
            };
            n >= fault.at && n - fault.at < fault.times
        };
        let kind = faults.iter().find(hit).map(|fault| fault.kind);
        if kind.is_some() {
            self.injected.fetch_add(1, Ordering::Relaxed);
        }
        kind
    }
}

/// What happens to the results of the call that this thread is in.
#[derive(Debug)]
struct FaultHook {
    name: &'static str,
    control: Arc<FaultyControl>,
    pending: Mutex<Vec<(std::thread::ThreadId, FaultKind)>>,
}

impl FaultHook {
    fn spoil(&self) -> Option<FaultKind> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let me = std::thread::current().id();
        let found = pending.iter().position(|(id, _)| *id == me)?;
        Some(pending.swap_remove(found).1)
    }

    fn spoil_later(&self, kind: FaultKind) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.push((std::thread::current().id(), kind));
    }

    fn lost(&self) -> Error {
        Error::DeviceLost { backend: self.name, why: "injected".into() }
    }
}

fn scribble<F: PrimeField + DeviceRepr>(columns: &mut [RefMut<'_, F>]) {
    for column in columns {
        // Columns on the device go with the device.
        if let Ok(values) = column.as_host() {
            values.iter_mut().step_by(2).for_each(|value| *value = F::from(0xdead));
        }
    }
}

impl<C: Curve> Hook<C> for FaultHook {
    fn before(&self, event: Event, columns: &mut [RefMut<'_, C::ScalarExt>]) -> Result<()> {
        let op = match event {
            Event::Alloc => {
                let n = self.control.allocations.fetch_add(1, Ordering::Relaxed);
                let failing = self.control.failing_allocation.lock().unwrap_or_else(PoisonError::into_inner);
                if *failing == Some(n) {
                    let (backend, what) = (self.name, "injected");
                    return Err(Error::OutOfMemory { backend, what, requested: 0, free: Some(0) });
                }
                return Ok(());
            }
            Event::Prepare(op) => {
                self.control.prepared.fetch_add(1, Ordering::Relaxed);
                op
            }
            Event::Run(shape) => shape.op(),
        };
        if self.control.lost.load(Ordering::Relaxed) {
            scribble(columns);
            return Err(self.lost());
        }
        let Event::Run(_) = event else { return Ok(()) };
        let (backend, what) = (self.name, "injected");
        match self.control.next(op) {
            None => Ok(()),
            Some(FaultKind::OutOfMemory) => {
                Err(Error::OutOfMemory { backend, what, requested: 1 << 40, free: Some(0) })
            }
            Some(FaultKind::Unsupported) => Err(Error::Unsupported { backend, op, why: what.into() }),
            Some(FaultKind::DeviceLost) => {
                self.control.lost.store(true, Ordering::Relaxed);
                scribble(columns);
                Err(self.lost())
            }
            Some(FaultKind::Crash) => {
                scribble(columns);
                Err(Error::Backend { backend, source: "injected".into() })
            }
            Some(FaultKind::Blame) => {
                scribble(columns);
                Err(Error::Invalid { what, why: "as if it were the caller's fault".into() })
            }
            Some(kind @ (FaultKind::Flip(_) | FaultKind::Zero)) => {
                self.spoil_later(kind);
                Ok(())
            }
        }
    }

    fn columns(&self, event: Event, columns: &mut [RefMut<'_, C::ScalarExt>]) -> Result<()> {
        let Some(kind) = self.spoil() else { return Ok(()) };
        let returns_too = matches!(
            event,
            Event::Run(Shape::Poly(PolyShape { call: PolyCall::RunningProduct | PolyCall::Scan, .. }))
        );
        match kind {
            FaultKind::Flip(which) if returns_too && which >> 63 == 1 => self.spoil_later(kind),
            FaultKind::Flip(which) => {
                let column = which as usize % columns.len().max(1);
                match columns.get_mut(column).map(RefMut::as_host) {
                    Some(Ok(values)) if !values.is_empty() => {
                        let row = (which >> 8) as usize % values.len();
                        flip(&mut values[row..=row], which >> 32);
                    }
                    // A column that stays on the device is out of reach: the next result that is not is spoiled in its place.
                    Some(Err(_)) => self.spoil_later(kind),
                    _ => {}
                }
            }
            _ => {
                let mut later = returns_too;
                for column in columns {
                    match column.as_host() {
                        Ok(values) => values.fill(C::ScalarExt::ZERO),
                        Err(_) => later = true,
                    }
                }
                if later {
                    self.spoil_later(kind);
                }
            }
        }
        Ok(())
    }

    fn points(&self, _: Event, points: &mut [C::CurveExt]) {
        match self.spoil() {
            Some(FaultKind::Flip(which)) => {
                let at = which as usize % points.len().max(1);
                if let Some(point) = points.get_mut(at) {
                    *point += C::CurveExt::generator();
                }
            }
            Some(_) => points.fill(C::CurveExt::identity()),
            None => {}
        }
    }

    fn scalars(&self, _: Event, scalars: &mut [C::ScalarExt]) {
        match self.spoil() {
            Some(FaultKind::Flip(which)) if !scalars.is_empty() => {
                let at = which as usize % scalars.len();
                flip(&mut scalars[at..=at], which >> 32);
            }
            Some(_) => scalars.fill(C::ScalarExt::ZERO),
            None => {}
        }
    }
}

/// Flips one bit of one limb, not the topmost bits: the value stays below 2^(8·size).
fn flip<F: DeviceRepr>(value: &mut [F], which: u64) {
    let bytes = as_bytes_mut(value);
    let byte = (which >> 3) as usize % (bytes.len() - 1);
    bytes[byte] ^= 1 << (which & 7);
}

/// A backend that works, except where the schedule says otherwise.
#[derive(Clone, Debug)]
pub struct Faulty<B> {
    inner: B,
    name: &'static str,
    control: Arc<FaultyControl>,
}

impl<B> Faulty<B> {
    /// A backend under another name that works until it is told otherwise.
    pub fn new(inner: B, name: &'static str) -> Self {
        Faulty { inner, name, control: Arc::default() }
    }

    /// A backend with a schedule.
    pub fn with(inner: B, name: &'static str, faults: Vec<Fault>) -> Self {
        let faulty = Self::new(inner, name);
        faulty.control.schedule(faults);
        faulty
    }

    /// The schedule and the counters.
    pub fn control(&self) -> Arc<FaultyControl> {
        self.control.clone()
    }
}

impl<B: Backend> Backend for Faulty<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        let rename = |info: DeviceInfo| DeviceInfo { backend: self.name, ..info };
        Ok(self.inner.probe()?.into_iter().map(rename).collect())
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider> {
        let device = DeviceInfo { backend: self.inner.name(), ..device.clone() };
        let hook = FaultHook { name: self.name, control: self.control.clone(), pending: Mutex::default() };
        Ok(intercept::<G1Affine, _>(self.inner.open(&device)?, self.name, &Arc::new(hook)))
    }
}
