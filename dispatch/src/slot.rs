//! One open provider inside an engine: its queue, its health, what is legal on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use parhelion_backend_api::hal::{Capability, Error, Queue, Result, SpaceId, Support};
use parhelion_backend_api::{Curve, Msm, Ntt, PolyOps, Provider, Quotient, QuotientShape};

use crate::kept::Kept;
use crate::once::Once;
use crate::query::{Rejection, Shape};

/// A provider that an engine holds. Shared by every engine that was derived from the same one, so that quarantine and
/// prepared handles are shared too.
#[derive(Debug)]
pub(crate) struct Slot<C: Curve> {
    pub(crate) provider: Provider,
    queue: OnceLock<Queue>,
    /// What the device keeps and can do without.
    pub(crate) kept: Kept<C::ScalarExt>,
    quarantine: Mutex<Quarantine>,
    /// Calls that run now.
    calls: AtomicUsize,
    /// One for each residence that lives here, and this one.
    residents: Arc<()>,
    token: Token,
}

/// Why a provider is out, and until when.
#[derive(Debug, Default)]
struct Quarantine {
    why: Option<String>,
    /// When it was put out, or failed its last examination.
    since: Option<Instant>,
    /// Examinations that it failed, and times that it came back in vain.
    strikes: u32,
}

/// A call that runs on a slot.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The identity of a slot: equal only to itself and its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Token(Arc<()>);

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<C: Curve> Slot<C> {
    pub(crate) fn new(provider: Provider) -> Self {
        Slot {
            provider,
            queue: OnceLock::new(),
            kept: Kept::default(),
            quarantine: Mutex::default(),
            calls: AtomicUsize::new(0),
            residents: Arc::default(),
            token: Token::default(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.provider.info.backend
    }

    pub(crate) fn space(&self) -> SpaceId {
        self.provider.info.space
    }

    pub(crate) fn is_host(&self) -> bool {
        self.space() == SpaceId::HOST
    }

    /// The provider's queue, opened at the first call.
    pub(crate) fn queue(&self) -> Result<Queue> {
        if let Some(queue) = self.queue.get() {
            return Ok(queue.clone());
        }
        let queue = self.provider.space.queue()?;
        Ok(self.queue.get_or_init(|| queue).clone())
    }

    /// Takes the provider out, until it passes an examination; the first reason stays.
    pub(crate) fn quarantine(&self, why: String) {
        let mut quarantine = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        if quarantine.why.is_none() {
            tracing::warn!("{} ({}) is quarantined: {why}", self.name(), self.space());
            quarantine.why = Some(why);
            quarantine.since = Some(Instant::now());
        }
    }

    pub(crate) fn quarantined(&self) -> Option<String> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).why.clone()
    }

    /// Examines the provider again where it has been out for long enough: `after`, twice as long after each failure and each return in vain.
    pub(crate) fn readmit(&self, after: Duration, examine: impl FnOnce() -> std::result::Result<(), String>) {
        let mut quarantine = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = after.saturating_mul(1u32.checked_shl(quarantine.strikes).unwrap_or(u32::MAX));
        let due = quarantine.since.is_some_and(|since| since.elapsed() >= wait);
        if quarantine.why.is_none() || !due {
            return;
        }
        quarantine.strikes = quarantine.strikes.saturating_add(1);
        match examine() {
            Ok(()) => {
                tracing::warn!(
                    "{} ({}) has passed an examination and computes again",
                    self.name(),
                    self.space()
                );
                quarantine.why = None;
            }
            Err(why) => {
                tracing::warn!("{} ({}) stays in quarantine: {why}", self.name(), self.space());
                quarantine.since = Some(Instant::now());
            }
        }
    }

    /// Counts a call while the value lives.
    pub(crate) fn running(&self) -> Running<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Running(&self.calls)
    }

    /// Calls that run now, and columns that live here: how busy the device is.
    pub(crate) fn load(&self) -> usize {
        self.calls.load(Ordering::Relaxed) + Arc::strong_count(&self.residents) - 1
    }

    /// A mark that somebody's columns live here.
    pub(crate) fn resident(&self) -> Arc<()> {
        self.residents.clone()
    }

    /// Whether another slot is the same kind of device: equal cards of one backend.
    pub(crate) fn is_like(&self, other: &Slot<C>) -> bool {
        let (a, b) = (&self.provider.info, &other.provider.info);
        a.backend == b.backend && a.name == b.name && a.space.name == b.space.name
    }

    fn offered<T: Capability + ?Sized>(&self) -> Result<Arc<T>> {
        self.provider.get().ok_or_else(|| Error::Unsupported {
            backend: self.name(),
            op: T::OP,
            why: Rejection::NotOffered.to_string(),
        })
    }

    pub(crate) fn msm(&self) -> Result<Arc<dyn Msm<C>>> {
        self.offered()
    }

    pub(crate) fn ntt(&self) -> Result<Arc<dyn Ntt<C::ScalarExt>>> {
        self.offered()
    }

    pub(crate) fn quotient(&self) -> Result<Arc<dyn Quotient<C::ScalarExt>>> {
        self.offered()
    }

    pub(crate) fn poly(&self) -> Result<Arc<dyn PolyOps<C::ScalarExt>>> {
        self.offered()
    }

    /// Whether the provider can compute this shape when `arriving` bytes of operands have to be brought to it.
    pub(crate) fn legal(
        &self,
        shape: &Shape,
        arriving: u64,
        budget: Option<u64>,
    ) -> std::result::Result<(), Rejection> {
        if let Some(why) = self.quarantined() {
            return Err(Rejection::Quarantined(why));
        }
        let answer = match shape {
            Shape::Msm(s) => self.provider.msm::<C>().map(|p| (p.supports(s), p.workspace(s))),
            Shape::Ntt(s) => self.provider.ntt::<C::ScalarExt>().map(|p| (p.supports(s), p.workspace(s))),
            Shape::Quotient(s) => self.provider.quotient::<C::ScalarExt>().map(|p| {
                // What is beyond the limits runs in pieces that are within them.
                let limits = p.limits();
                let piece = QuotientShape {
                    columns: s.columns.min(limits.columns),
                    steps: s.steps.min(limits.steps),
                    registers: s.registers.min(limits.registers),
                    ..*s
                };
                (p.supports(&piece), p.workspace(&piece))
            }),
            Shape::Poly(s) => self.provider.poly::<C::ScalarExt>().map(|p| (p.supports(s), p.workspace(s))),
        };
        let (support, workspace) = answer.ok_or(Rejection::NotOffered)?;
        if let Support::No(why) = support {
            return Err(Rejection::Unsupported(why));
        }
        if let Some(budget) = budget.filter(|budget| workspace > *budget) {
            return Err(Rejection::Budget { needed: workspace, budget });
        }
        let element = size_of::<C::ScalarExt>() as u64;
        let column = 1u64.checked_shl(shape.log_n()).and_then(|n| n.checked_mul(element)).unwrap_or(u64::MAX);
        if let Some(largest) = self.provider.space.limits().largest_buffer.filter(|most| column > *most) {
            return Err(Rejection::Buffer { needed: column, largest });
        }
        let needed = workspace.saturating_add(arriving);
        match self.free() {
            Some(free) if needed > free => Err(Rejection::Memory { needed, free }),
            _ => Ok(()),
        }
    }

    /// Bytes that are free, or can be made so, where known.
    pub(crate) fn free(&self) -> Option<u64> {
        Some(self.provider.space.memory().free?.saturating_add(self.kept.evictable()))
    }

    /// Makes room for `bytes` bytes; whether something has been given up for it.
    pub(crate) fn make_room(&self, bytes: u64) -> bool {
        let free = self.provider.space.memory().free.unwrap_or(0);
        let freed = self.kept.evict(bytes.saturating_sub(free));
        if freed > 0 {
            tracing::debug!(target: "parhelion::resident", device = self.name(), freed, "evicted");
        }
        freed > 0
    }
}

/// Handles that providers prepared from one thing, each made once.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    slots: Mutex<Vec<(Token, Arc<Once<T>>)>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Handles { slots: Mutex::default() }
    }
}

impl<T: Clone + Send> Handles<T> {
    /// The handle of a slot, and how long it took to get it. Threads that ask for the same one while it is being made wait for it; threads that
    /// ask for another do not.
    pub(crate) fn get<C: Curve>(
        &self,
        slot: &Slot<C>,
        make: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(T, Duration)> {
        let once = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            match slots.iter().find(|(token, _)| *token == slot.token) {
                Some((_, once)) => once.clone(),
                None => {
                    let once = Arc::default();
                    slots.push((slot.token.clone(), Arc::clone(&once)));
                    once
                }
            }
        };
        once.get_or_make(make)
    }

    /// Whether a slot's handle is ready, or being made.
    pub(crate) fn ready<C: Curve>(&self, slot: &Slot<C>) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().find(|(token, _)| *token == slot.token).is_some_and(|(_, once)| once.is_underway())
    }
}
