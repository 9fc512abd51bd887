//! Columns that stay on a device between operations.
//!
//! An operation on host columns moves them there and back. A caller that runs many operations over the same columns asks once where
//! they would be at home ([`Engine::residence`]), brings them there, and runs the operations on an engine that prefers that
//! device ([`Engine::at`]). What it moves is counted like everything else.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use parhelion_backend_api::Curve;
use parhelion_backend_api::hal::{
    Buffer, Error, Op, Place, Ref, RefMut, Result, SpaceId, as_bytes, as_bytes_mut,
};

use crate::engine::Engine;
use crate::policy::{Choice, Name, Preference, Thresholds};
use crate::query::{Candidate, Query, Shape};
use crate::slot::Slot;

/// A device on which columns can stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residence {
    backend: &'static str,
    space: SpaceId,
}

impl Residence {
    /// The backend's name.
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// The space of the device's memory.
    pub fn space(&self) -> SpaceId {
        self.space
    }
}

impl<C: Curve> Engine<C> {
    /// The device, other than the host, that would compute all of the `deciding` shapes over operands that are already in its memory,
    /// and that can compute the `others`: small operations that do not decide where columns are, but run where they are.
    pub fn residence(&self, deciding: &[Shape], others: &[Shape]) -> Option<Residence> {
        let mut devices = self.shared.slots.iter().filter(|slot| !slot.is_host());
        let slot = devices.find(|slot| {
            let decide =
                |shape: &Shape| self.explain(&Query { shape: *shape, space: slot.space(), bytes: 0 });
            let is_it = |c: &Candidate| c.backend == slot.name() && c.space == slot.space();
            deciding.iter().all(|shape| decide(shape).chosen().is_some_and(is_it))
                && others.iter().all(|shape| decide(shape).legal().any(is_it))
        })?;
        (!deciding.is_empty()).then(|| Residence { backend: slot.name(), space: slot.space() })
    }

    /// The same engine, with the same ledger, where transforms, programs and polynomial operations of any size prefer a device. Choices
    /// that force a backend stay.
    pub fn at(&self, residence: &Residence) -> Self {
        let mut settings = self.shared.settings.clone();
        let policy = &mut settings.policy;
        let names = vec![Name::indexed(residence.backend, residence.space.index)];
        for op in [Op::Ntt, Op::Quotient, Op::Poly] {
            if !matches!(policy.choice(op), Choice::Force(_)) {
                let preference = Preference { names: names.clone(), others: true };
                policy.per_op.insert(op, Choice::Prefer(preference));
            }
        }
        let msm = policy.thresholds.op(Op::Msm).or(policy.thresholds.min_k);
        let per_op: BTreeMap<Op, u32> = msm.into_iter().map(|min_k| (Op::Msm, min_k)).collect();
        policy.thresholds = Thresholds { per_op, ..Thresholds::default() };
        Engine { shared: Arc::new(self.shared.with_settings(settings)), ledger: self.ledger.clone() }
    }

    /// Whether a failure of an operation is final because the user forced a backend.
    pub fn is_forced(&self, op: Op) -> bool {
        matches!(self.shared.settings.policy.choice(op), Choice::Force(_))
    }

    /// Bytes that are free there, where known.
    pub fn free_bytes(&self, residence: &Residence) -> Option<u64> {
        self.resident(residence).ok()?.provider.space.memory().free
    }

    /// `len` scalars of unspecified content.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or the device's own.
    pub fn alloc(
        &self,
        residence: &Residence,
        len: usize,
        name: &'static str,
    ) -> Result<Buffer<C::ScalarExt>> {
        let slot = self.resident(residence)?;
        self.blame(slot, Buffer::alloc(slot.provider.space.as_ref(), &slot.queue()?, len, name))
    }

    /// A copy of host values.
    ///
    /// # Errors
    /// As [`Engine::alloc`].
    pub fn upload(
        &self,
        residence: &Residence,
        values: &[C::ScalarExt],
        name: &'static str,
    ) -> Result<Buffer<C::ScalarExt>> {
        let mut buffer = self.alloc(residence, values.len(), name)?;
        self.write(&mut buffer.as_mut(), 0, values)?;
        Ok(buffer)
    }

    /// Overwrites elements from index `at` on.
    ///
    /// # Errors
    /// [`Error::Length`] when they do not fit, or the device's own.
    pub fn write(&self, to: &mut RefMut<'_, C::ScalarExt>, at: usize, values: &[C::ScalarExt]) -> Result<()> {
        let (len, end) = (to.len(), at.saturating_add(values.len()));
        if end > len {
            return Err(Error::Length { what: "written elements", expected: len, found: end });
        }
        if let Ok(slice) = to.as_host() {
            slice[at..end].copy_from_slice(values);
            return Ok(());
        }
        let Some((raw, start, _)) = to.device() else { return Ok(()) };
        let slot = self.owner(raw.space(), raw.name())?;
        let begin = Instant::now();
        let offset = ((start + at) * size_of::<C::ScalarExt>()) as u64;
        let done = slot.provider.space.upload(&slot.queue()?, as_bytes(values), raw, offset);
        self.blame(slot, done)?;
        self.transferred(slot.space(), size_of_val(values), 0, begin);
        Ok(())
    }

    /// Copies all elements to the host.
    ///
    /// # Errors
    /// [`Error::Length`], or the device's own.
    pub fn read(&self, from: &Ref<'_, C::ScalarExt>, to: &mut [C::ScalarExt]) -> Result<()> {
        Error::check_len("read elements", from.len(), to.len())?;
        let Place::Device { raw, start, .. } = from.place() else {
            to.copy_from_slice(from.as_host()?);
            return Ok(());
        };
        let slot = self.owner(raw.space(), raw.name())?;
        let begin = Instant::now();
        let offset = (start * size_of::<C::ScalarExt>()) as u64;
        let done = slot.provider.space.download(&slot.queue()?, raw, offset, as_bytes_mut(to));
        self.blame(slot, done)?;
        self.transferred(slot.space(), 0, size_of_val(&*to), begin);
        Ok(())
    }

    /// Takes a device out for the rest of the process, because what it computed was found to be wrong.
    pub fn quarantine(&self, residence: &Residence, why: &str) {
        if let Ok(slot) = self.resident(residence) {
            slot.quarantine(why.to_owned());
        }
    }

    fn resident(&self, residence: &Residence) -> Result<&Slot<C>> {
        let mut slots = self.shared.slots.iter();
        let found = slots.find(|s| s.space() == residence.space && s.name() == residence.backend);
        found.ok_or(Error::WrongSpace { name: "residence", expected: residence.space, found: SpaceId::HOST })
    }

    /// A device that fails at a copy is out; one that has no room is not.
    pub(crate) fn blame<T>(&self, slot: &Slot<C>, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && !error.try_elsewhere()
            && !error.is_caller_fault()
        {
            slot.quarantine(error.to_string());
        }
        result
    }

    fn transferred(&self, space: SpaceId, up: usize, down: usize, begin: Instant) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.add_transfer(space, up as u64, down as u64, begin.elapsed());
    }
}
