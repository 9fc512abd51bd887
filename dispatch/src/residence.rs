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

use crate::engine::{Engine, EngineBases};
use crate::kept::Owner;
use crate::ledger::Ledger;
use crate::policy::{Choice, Name, Preference, Thresholds};
use crate::query::{Candidate, Query, Reason, Shape};
use crate::slot::Slot;

/// Operations over columns that would stay on a device, and how often each is called.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work<'a> {
    /// What decides where the columns are.
    pub deciding: &'a [(Shape, usize)],
    /// What runs where they are.
    pub others: &'a [(Shape, usize)],
    /// What reads them and may run anywhere, since the host has copies.
    pub anywhere: &'a [(Shape, usize)],
    /// Bytes that are brought there or back.
    pub moved: u64,
}

/// A device on which columns can stay.
#[derive(Clone, Debug)]
pub struct Residence {
    backend: &'static str,
    space: SpaceId,
    /// While it lives, the device counts as busy.
    _resident: Arc<()>,
}

impl PartialEq for Residence {
    fn eq(&self, other: &Self) -> bool {
        (self.backend, self.space) == (other.backend, other.space)
    }
}

impl Eq for Residence {}

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
    /// The device, other than the host, that would compute all of the `deciding` shapes of some work over operands that are already in its memory, and
    /// that can compute the `others`: small operations that do not decide where columns are, but run where they are.
    ///
    /// Where the work was measured on both sides, the device must also be faster at all of it together than the host, small operations and copies
    /// included, unless the user asks for it by name.
    pub fn residence(&self, work: &Work<'_>) -> Option<Residence> {
        if self.shared.settings.policy.passing {
            return None;
        }
        let mut devices: Vec<&Slot<C>> = self.shared.slots.iter().filter(|slot| !slot.is_host()).collect();
        // Of equal devices the least busy one; a stable sort keeps the order of different ones.
        let kind = |slot: &Slot<C>| self.shared.slots.iter().position(|other| other.is_like(slot));
        devices.sort_by_key(|slot| (kind(slot), slot.load()));
        let slot = devices.into_iter().find(|slot| {
            let decide =
                |shape: &Shape| self.explain(&Query { shape: *shape, space: slot.space(), bytes: 0 });
            let is_it = |c: &&Candidate| c.backend == slot.name() && c.space == slot.space();
            let chosen = |shape: &Shape| decide(shape).chosen().filter(is_it).cloned();
            let named = |c: &Candidate| matches!(c.verdict, Ok(Reason::Forced | Reason::Preferred));
            let choices: Vec<_> = work.deciding.iter().map(|(shape, _)| chosen(shape)).collect();
            choices.iter().all(Option::is_some)
                && work.others.iter().all(|(shape, _)| decide(shape).legal().any(|c| is_it(&c)))
                && (choices.iter().flatten().all(named) || self.pays(slot, work))
        })?;
        (!work.deciding.is_empty()).then(|| Residence {
            backend: slot.name(),
            space: slot.space(),
            _resident: slot.resident(),
        })
    }

    /// Whether some work, copies included, takes a device less time than the host, as far as that was measured.
    fn pays(&self, slot: &Slot<C>, work: &Work<'_>) -> bool {
        let Some(table) = &self.shared.settings.table else { return true };
        let time = |slot: &Slot<C>, shape: &Shape, resident| {
            table.predict(&slot.provider.info, shape, resident).map(|time| time.as_secs_f64())
        };
        let total = |slot: &Slot<C>, calls: &[(Shape, usize)]| {
            let mut times = calls.iter().map(|(shape, times)| Some(time(slot, shape, true)? * *times as f64));
            times.try_fold(0.0, |sum, time| Some(sum + time?))
        };
        let hosts = self.shared.slots.iter().filter(|slot| slot.is_host() && slot.quarantined().is_none());
        let least = |calls| hosts.clone().filter_map(|slot| total(slot, calls)).reduce(f64::min);
        let own = [work.deciding, work.others].map(|calls| Some((least(calls)?, total(slot, calls)?)));
        let [Some(deciding), Some(others)] = own else { return true };
        let anywhere = least(work.anywhere);
        let there = total(slot, work.anywhere).filter(|_| slot.provider.msm::<C>().is_some()).or(anywhere);
        let host = deciding.0 + others.0 + anywhere.unwrap_or(0.0);
        let device = deciding.1 + others.1 + there.filter(|_| anywhere.is_some()).unwrap_or(0.0);
        // A transform of host columns is one of resident ones and two copies.
        let per_byte = work.deciding.iter().find_map(|(shape, _)| {
            let Shape::Ntt(ntt) = shape else { return None };
            let copies = time(slot, shape, false)? - time(slot, shape, true)?;
            let bytes =
                (2 * ntt.batch.max(1) * size_of::<C::ScalarExt>()) as f64 * f64::from(ntt.log_n).exp2();
            Some(copies.max(0.0) / bytes)
        });
        let copies = per_byte.unwrap_or(0.0) * work.moved as f64;
        tracing::debug!(target: "parhelion::resident", device = slot.name(), host, device, copies, "predicted seconds");
        device + copies <= host
    }

    /// The same engine, with the same ledger, where transforms, programs and polynomial operations of any size prefer a device. Choices
    /// that force a backend stay.
    pub fn at(&self, residence: &Residence) -> Self {
        let mut settings = self.shared.settings.clone();
        let policy = &mut settings.policy;
        let names = vec![Name::indexed(residence.backend, residence.space.index)];
        for op in [Op::NTT, Op::QUOTIENT, Op::POLY] {
            if !matches!(policy.choice(op), Choice::Force(_)) {
                let preference = Preference { names: names.clone(), others: true };
                policy.per_op.insert(op, Choice::Prefer(preference));
            }
        }
        let msm = policy.thresholds.op(Op::MSM).or(policy.thresholds.min_k);
        let per_op: BTreeMap<Op, u32> = msm.into_iter().map(|min_k| (Op::MSM, min_k)).collect();
        policy.thresholds = Thresholds { per_op, ..Thresholds::default() };
        Engine { shared: Arc::new(self.shared.with_settings(settings)), ledger: self.ledger.clone() }
    }

    /// Whether a failure of an operation is final because the user forced a backend.
    pub fn is_forced(&self, op: Op) -> bool {
        matches!(self.shared.settings.policy.choice(op), Choice::Force(_))
    }

    /// Bytes that are free there, or that [`Engine::keep`] would give up, where known.
    pub fn free_bytes(&self, residence: &Residence) -> Option<u64> {
        self.resident(residence).ok()?.free()
    }

    /// Bytes that operations of these shapes take there at most, one at a time, beside their operands, with what is not prepared yet of these bases.
    pub fn workspace(&self, residence: &Residence, shapes: &[Shape], bases: &[&EngineBases<C>]) -> u64 {
        let Ok(slot) = self.resident(residence) else { return 0 };
        let provider = &slot.provider;
        let workspace = |shape: &Shape| match shape {
            Shape::Msm(shape) => provider.msm::<C>().map_or(0, |msm| msm.workspace(shape)),
            Shape::Ntt(shape) => provider.ntt::<C::ScalarExt>().map_or(0, |ntt| ntt.workspace(shape)),
            Shape::Quotient(shape) => provider.quotient::<C::ScalarExt>().map_or(0, |q| q.workspace(shape)),
            Shape::Poly(shape) => provider.poly::<C::ScalarExt>().map_or(0, |poly| poly.workspace(shape)),
        };
        let unprepared = bases.iter().filter(|bases| !bases.prepared.ready(slot));
        let points = unprepared.map(|bases| bases.host.len() as u64).fold(0, u64::saturating_add);
        let most = shapes.iter().map(workspace).max().unwrap_or(0);
        most.saturating_add(points.saturating_mul(size_of::<C>() as u64))
    }

    /// A copy of host values that stays there for the next who asks for the same name of the same owner, for as long as nobody needs the room.
    /// Values of one name are the same for ever.
    ///
    /// # Errors
    /// As [`Engine::upload`].
    pub fn keep(
        &self,
        residence: &Residence,
        owner: &Owner,
        name: u64,
        values: &[C::ScalarExt],
        what: &'static str,
    ) -> Result<Arc<Buffer<C::ScalarExt>>> {
        let slot = self.resident(residence)?;
        if let Some(kept) = slot.kept.get(owner, name) {
            return Ok(kept);
        }
        // Not under a lock: a copy takes its time.
        let buffer = self.upload(residence, values, what)?;
        Ok(slot.kept.put(owner, name, buffer))
    }

    /// Bytes that are kept there.
    pub fn kept_bytes(&self, residence: &Residence) -> u64 {
        self.resident(residence).map_or(0, |slot| slot.kept.bytes())
    }

    /// `len` scalars of unspecified content. What is kept gives way.
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
        let queue = slot.queue()?;
        let alloc = || Buffer::alloc(slot.provider.space.as_ref(), &queue, len, name);
        let made = match alloc() {
            Err(Error::OutOfMemory { .. })
                if slot.make_room((len as u64).saturating_mul(size_of::<C::ScalarExt>() as u64)) =>
            {
                alloc()
            }
            made => made,
        };
        self.blame(slot, made)
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

    /// Takes a device out, until it passes an examination, because what it computed was found to be wrong.
    pub fn quarantine(&self, residence: &Residence, why: &str) {
        if let Ok(slot) = self.resident(residence) {
            slot.quarantine(why.to_owned());
        }
    }

    /// The untrusted devices that are not out and that computed something of a ledger, or hold something of it.
    fn suspects(&self, ledger: &Ledger) -> impl Iterator<Item = &Slot<C>> {
        let trust = &self.shared.settings.policy.trust;
        let took_part = |slot: &&Slot<C>| {
            ledger.records().iter().any(|r| r.space == slot.space() && r.backend == slot.name())
                || ledger.transfers().any(|(space, _)| space == slot.space())
        };
        let untrusted = self.shared.slots.iter().filter(|slot| !trust.covers(&slot.provider.info));
        let suspects: Vec<_> = untrusted.filter(took_part).collect();
        suspects.into_iter()
    }

    /// Whether an untrusted device took part in what a ledger holds.
    pub fn has_untrusted(&self, ledger: &Ledger) -> bool {
        self.suspects(ledger).next().is_some()
    }

    /// The same devices, with a ledger of its own, where only trusted ones compute. `None` when there are none, or when the user forces another for
    /// some operation.
    pub fn without_untrusted(&self) -> Option<Self> {
        let mut settings = self.shared.settings.clone();
        let policy = &mut settings.policy;
        let trusted = |slot: &&Slot<C>| policy.trust.covers(&slot.provider.info);
        let slots: Vec<&Slot<C>> = self.shared.slots.iter().filter(trusted).collect();
        let forced_elsewhere = |choice: &Choice| match choice {
            Choice::Force(name) => !slots.iter().any(|slot| name.matches(&slot.provider.info)),
            _ => false,
        };
        if slots.is_empty() || Op::PLONK.into_iter().any(|op| forced_elsewhere(policy.choice(op))) {
            return None;
        }
        let names = slots.iter().map(|slot| Name::indexed(slot.name(), slot.space().index)).collect();
        policy.choice = Choice::Prefer(Preference { names, others: false });
        policy.per_op.clear();
        Some(Engine { shared: Arc::new(self.shared.with_settings(settings)), ledger: Arc::default() })
    }

    /// Takes out, until they pass an examination, every untrusted device that computed something of a ledger: what came of it was found to be wrong, and
    /// nobody knows whose part was. Their backends; none when everything was computed by trusted ones.
    pub fn quarantine_untrusted(&self, ledger: &Ledger, why: &str) -> Vec<&'static str> {
        let guilty = self.suspects(ledger).filter(|slot| slot.quarantined().is_none());
        guilty.inspect(|slot| slot.quarantine(why.to_owned())).map(Slot::name).collect()
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
