//! One open provider inside an engine: its queue, its health, what is legal on it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use parhelion_backend_api::hal::{Error, Op, Queue, Result, SpaceId, Support};
use parhelion_backend_api::{Curve, Msm, Ntt, PolyOps, Provider, Quotient};

use crate::kept::Kept;
use crate::once::Once;
use crate::query::{Rejection, Shape};

/// A provider that an engine holds. Shared by every engine that was derived from the same one, so that quarantine and
/// prepared handles are shared too.
#[derive(Debug)]
pub(crate) struct Slot<C: Curve> {
    pub(crate) provider: Provider<C>,
    queue: OnceLock<Queue>,
    /// What the device keeps and can do without.
    pub(crate) kept: Kept<C::ScalarExt>,
    quarantine: OnceLock<String>,
    token: Token,
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
    pub(crate) fn new(provider: Provider<C>) -> Self {
        Slot {
            provider,
            queue: OnceLock::new(),
            kept: Kept::default(),
            quarantine: OnceLock::new(),
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

    /// Takes the provider out for the rest of the process; the first reason stays.
    pub(crate) fn quarantine(&self, why: String) {
        if self.quarantine.set(why).is_ok() {
            let why = self.quarantined().unwrap_or_default();
            tracing::warn!("{} ({}) is quarantined: {why}", self.name(), self.space());
        }
    }

    pub(crate) fn quarantined(&self) -> Option<&str> {
        self.quarantine.get().map(String::as_str)
    }

    fn offered<T: Clone>(&self, op: Op, offer: &Option<T>) -> Result<T> {
        offer.clone().ok_or_else(|| Error::Unsupported {
            backend: self.name(),
            op,
            why: Rejection::NotOffered.to_string(),
        })
    }

    pub(crate) fn msm(&self) -> Result<Arc<dyn Msm<C>>> {
        self.offered(Op::Msm, &self.provider.msm)
    }

    pub(crate) fn ntt(&self) -> Result<Arc<dyn Ntt<C::ScalarExt>>> {
        self.offered(Op::Ntt, &self.provider.ntt)
    }

    pub(crate) fn quotient(&self) -> Result<Arc<dyn Quotient<C::ScalarExt>>> {
        self.offered(Op::Quotient, &self.provider.quotient)
    }

    pub(crate) fn poly(&self) -> Result<Arc<dyn PolyOps<C::ScalarExt>>> {
        self.offered(Op::Poly, &self.provider.poly)
    }

    /// Whether the provider can compute this shape when `arriving` bytes of operands have to be brought to it.
    pub(crate) fn legal(
        &self,
        shape: &Shape,
        arriving: u64,
        budget: Option<u64>,
    ) -> std::result::Result<(), Rejection> {
        if let Some(why) = self.quarantined() {
            return Err(Rejection::Quarantined(why.into()));
        }
        let answer = match shape {
            Shape::Msm(s) => self.provider.msm.as_ref().map(|p| (p.supports(s), p.workspace(s))),
            Shape::Ntt(s) => self.provider.ntt.as_ref().map(|p| (p.supports(s), p.workspace(s))),
            Shape::Quotient(s) => self.provider.quotient.as_ref().map(|p| (p.supports(s), p.workspace(s))),
            Shape::Poly { log_n, batch, .. } => {
                self.provider.poly.as_ref().map(|p| (p.supports(*log_n, *batch), 0))
            }
        };
        let (support, workspace) = answer.ok_or(Rejection::NotOffered)?;
        if let Support::No(why) = support {
            return Err(Rejection::Unsupported(why));
        }
        if let Some(budget) = budget.filter(|budget| workspace > *budget) {
            return Err(Rejection::Budget { needed: workspace, budget });
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
