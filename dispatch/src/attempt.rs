//! One call, tried on one candidate after another until its result can be returned.
//!
//! The columns that a call writes are its `outs`. A call in place reads them too, so before an untrusted provider gets them a
//! host copy is kept: it restores the operands after a failure that is not covered by the failure rule, and it is what the
//! result is checked against.

use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, Instant};

use ff::Field;
use parhelion_backend_api::Curve;
use parhelion_backend_api::hal::{
    DeviceRepr, Error, Op, Place, Queue, Ref, RefMut, Result, SpaceId, as_bytes, as_bytes_mut,
};
use serde_json::json;

use crate::engine::Engine;
use crate::ledger::Record;
use crate::query::{Candidate, Decision, Query, Reason};
use crate::slot::Slot;

/// Whether a call reads the columns that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outs {
    /// It does.
    InPlace,
    /// Their content before the call does not matter.
    Fresh,
}

/// What a call costs besides its computation.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    moved: Cell<u64>,
    prepare: Cell<Duration>,
}

impl Extra {
    fn move_bytes(&self, bytes: usize) {
        self.moved.set(self.moved.get().saturating_add(bytes as u64));
    }

    /// Accounts for the preparation of a handle.
    pub(crate) fn prepared<T>(&self, (handle, took): (T, Duration)) -> T {
        self.prepare.set(self.prepare.get() + took);
        handle
    }
}

/// Where a call failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Moving an operand out of, or into, the space that it lives in: no other candidate can help.
    Moving(Error),
    /// In the provider.
    Provider(Error),
}

impl Fault {
    fn into_error(self) -> Error {
        match self {
            Fault::Moving(error) | Fault::Provider(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Provider(error)
    }
}

/// A result that did not pass its check.
#[derive(Debug)]
struct WrongResult(Op);

impl fmt::Display for WrongResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the result of the {} did not pass its check", self.0)
    }
}

impl StdError for WrongResult {}

/// Every candidate failed.
#[derive(Debug)]
struct Exhausted(Vec<String>);

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every backend failed: {}", self.0.join("; "))
    }
}

impl StdError for Exhausted {}

/// Verifies a result: the kept operands, the written columns, the returned value.
pub(crate) type Check<'a, F, R> = &'a dyn Fn(&[Vec<F>], &[Cow<'_, [F]>], &R) -> Result<bool>;

/// One call: what it asks, what it writes, how its result is checked.
pub(crate) struct Call<'a, F: Clone, R> {
    pub(crate) query: Query,
    pub(crate) outs: Outs,
    /// Whether the cheap check applies to this call.
    pub(crate) checked: bool,
    /// The cheap check, if the operation has one.
    pub(crate) check: Option<Check<'a, F, R>>,
}

impl<C: Curve> Engine<C> {
    /// Tries the legal candidates in order.
    pub(crate) fn run<R: PartialEq>(
        &self,
        call: &Call<'_, C::ScalarExt, R>,
        handle: impl Fn(&Slot<C>) -> u64,
        outs: &mut [RefMut<'_, C::ScalarExt>],
        mut f: impl FnMut(
            &Slot<C>,
            &Queue,
            &mut [RefMut<'_, C::ScalarExt>],
            &Extra,
        ) -> std::result::Result<R, Fault>,
    ) -> Result<R> {
        let policy = &self.shared.settings.policy;
        let op = call.query.shape.op();
        let decision = self.decide(&call.query, handle);
        let mut kept: Option<Vec<Vec<C::ScalarExt>>> = None;
        let mut failed: Vec<(&Candidate, Error)> = Vec::new();
        for candidate in decision.legal() {
            let Some(slot) = self.shared.slots.get(candidate.provider) else { continue };
            // Another thread may have quarantined it since the decision.
            if slot.quarantined().is_some() {
                continue;
            }
            let trusted = policy.trust.covers(&slot.provider.info);
            if call.outs == Outs::InPlace && !trusted && kept.is_none() {
                kept = self.copies(outs, policy.checks.recompute)?;
            }
            let extra = Extra::default();
            let _running = slot.running();
            let mut start = Instant::now();
            let mut result = self.attempt(slot, call.outs, outs, &extra, &mut f);
            if matches!(&result, Err(Fault::Provider(Error::OutOfMemory { .. }))) && slot.make_room(u64::MAX)
            {
                start = Instant::now();
                result = self.attempt(slot, call.outs, outs, &extra, &mut f);
            }
            let duration = start.elapsed().saturating_sub(extra.prepare.get());
            let (error, quarantine) = match result {
                Ok(value) => {
                    let checking = Instant::now();
                    let verdict = if trusted {
                        Ok(true)
                    } else {
                        self.verify(call, outs, kept.as_deref(), &value, &extra, &mut f)
                    };
                    match verdict {
                        Ok(true) => {
                            let reason = reason(candidate, &failed);
                            if !slot.is_host() && slot.space() != call.query.space {
                                extra.move_bytes(call.query.bytes as usize);
                            }
                            let check = checking.elapsed();
                            self.record(slot, &call.query, start, duration, check, &extra, reason);
                            return Ok(value);
                        }
                        Ok(false) => {
                            let source = Box::new(WrongResult(op));
                            (Error::Backend { backend: slot.name(), source }, true)
                        }
                        // The result may be right, but nobody can tell.
                        Err(error) => (error, false),
                    }
                }
                Err(Fault::Moving(error)) => return Err(error),
                Err(Fault::Provider(error)) if trusted && error.is_caller_fault() => return Err(error),
                // An untrusted provider that blames the caller is not believed: if it is right, the next candidate says so too.
                Err(Fault::Provider(error)) if error.is_caller_fault() => {
                    (Error::Backend { backend: slot.name(), source: Box::new(error) }, true)
                }
                Err(Fault::Provider(error)) => {
                    let quarantine = !error.try_elsewhere();
                    (error, quarantine)
                }
            };
            if quarantine {
                slot.quarantine(error.to_string());
            }
            if !error.try_elsewhere() && call.outs == Outs::InPlace && !restore(outs, kept.as_deref()) {
                return Err(error);
            }
            if candidate.verdict == Ok(Reason::Forced) {
                return Err(error);
            }
            self.warn_once(slot.name(), op, &error);
            failed.push((candidate, error));
        }
        Err(self.exhausted(&decision, failed))
    }

    /// One call on one provider, with operands brought to where it can read them.
    fn attempt<R>(
        &self,
        slot: &Slot<C>,
        mode: Outs,
        outs: &mut [RefMut<'_, C::ScalarExt>],
        extra: &Extra,
        f: &mut impl FnMut(
            &Slot<C>,
            &Queue,
            &mut [RefMut<'_, C::ScalarExt>],
            &Extra,
        ) -> std::result::Result<R, Fault>,
    ) -> std::result::Result<R, Fault> {
        let queue = slot.queue()?;
        let mut staged = outs
            .iter()
            .map(|out| {
                let foreign = out.space() != SpaceId::HOST && out.space() != slot.space();
                Ok(match (foreign, mode) {
                    (false, _) => None,
                    (true, Outs::InPlace) => Some(self.download(&out.as_ref(), extra)?),
                    (true, Outs::Fresh) => Some(zeros(out.len())?),
                })
            })
            .collect::<Result<Vec<Option<Vec<C::ScalarExt>>>>>()
            .map_err(Fault::Moving)?;
        let value = {
            let mut refs = outs
                .iter_mut()
                .zip(&mut staged)
                .map(|(out, staged)| match staged {
                    Some(staged) => Ok(RefMut::host(staged)),
                    None if out.space() == SpaceId::HOST => out.as_host().map(RefMut::host),
                    None => Ok(out.reborrow()),
                })
                .collect::<Result<Vec<_>>>()
                .map_err(Fault::Moving)?;
            f(slot, &queue, &mut refs, extra)?
        };
        for (out, staged) in outs.iter_mut().zip(&staged) {
            if let Some(staged) = staged {
                self.hand_back(staged, out, extra).map_err(Fault::Moving)?;
            }
        }
        Ok(value)
    }

    /// Whether the result of an untrusted provider holds, as far as the policy wants to know.
    fn verify<R: PartialEq>(
        &self,
        call: &Call<'_, C::ScalarExt, R>,
        outs: &[RefMut<'_, C::ScalarExt>],
        kept: Option<&[Vec<C::ScalarExt>]>,
        value: &R,
        extra: &Extra,
        f: &mut impl FnMut(
            &Slot<C>,
            &Queue,
            &mut [RefMut<'_, C::ScalarExt>],
            &Extra,
        ) -> std::result::Result<R, Fault>,
    ) -> Result<bool> {
        let recompute = self.shared.settings.policy.checks.recompute;
        if !recompute && (!call.checked || outs.iter().any(|out| out.space() != SpaceId::HOST)) {
            return Ok(true);
        }
        if call.outs == Outs::InPlace && kept.is_none() {
            return Ok(true);
        }
        let views: Vec<Cow<'_, [C::ScalarExt]>> =
            outs.iter().map(|out| self.view(&out.as_ref(), extra)).collect::<Result<_>>()?;
        if let Some(check) = call.check.filter(|_| call.checked) {
            return check(kept.unwrap_or_default(), &views, value);
        }
        if !recompute {
            return Ok(true);
        }
        let Some(slot) = self.trusted(&call.query) else {
            let why = "no trusted backend can verify the result".into();
            return Err(Error::Unsupported { backend: "engine", op: call.query.shape.op(), why });
        };
        let mut again = match kept {
            Some(kept) => kept.to_vec(),
            None => outs.iter().map(|out| zeros(out.len())).collect::<Result<Vec<_>>>()?,
        };
        let expected = {
            let mut refs: Vec<RefMut<'_, C::ScalarExt>> =
                again.iter_mut().map(|column| RefMut::host(column)).collect();
            f(slot, &slot.queue()?, &mut refs, extra).map_err(Fault::into_error)?
        };
        Ok(expected == *value && again.iter().zip(&views).all(|(a, b)| a[..] == b[..]))
    }

    /// Host copies of columns, or `None` when one lives on a device and is not worth the transfer.
    fn copies(
        &self,
        outs: &[RefMut<'_, C::ScalarExt>],
        always: bool,
    ) -> Result<Option<Vec<Vec<C::ScalarExt>>>> {
        if !always && outs.iter().any(|out| out.space() != SpaceId::HOST) {
            return Ok(None);
        }
        let extra = Extra::default();
        outs.iter()
            .map(|out| {
                let out = out.as_ref();
                let mut copy = zeros(out.len())?;
                copy.copy_from_slice(&self.view(&out, &extra)?);
                Ok(copy)
            })
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Operands where a provider can read them: as they are, as host slices, or as host copies of what is on another device.
    pub(crate) fn bring<'a>(
        &self,
        slot: &Slot<C>,
        refs: &[Ref<'a, C::ScalarExt>],
        extra: &Extra,
    ) -> std::result::Result<Vec<Operand<'a, C::ScalarExt>>, Fault> {
        refs.iter()
            .map(|r| match r.space() {
                SpaceId::HOST => r.as_host().map(|slice| Operand::Here(Ref::host(slice))),
                space if space == slot.space() => Ok(Operand::Here(*r)),
                _ => self.download(r, extra).map(Operand::Copy),
            })
            .collect::<Result<_>>()
            .map_err(Fault::Moving)
    }

    /// The values on the host, copied only when they are not there.
    pub(crate) fn view<'a>(
        &self,
        r: &Ref<'a, C::ScalarExt>,
        extra: &Extra,
    ) -> Result<Cow<'a, [C::ScalarExt]>> {
        match r.space() {
            SpaceId::HOST => r.as_host().map(Cow::Borrowed),
            _ => self.download(r, extra).map(Cow::Owned),
        }
    }

    fn download(&self, r: &Ref<'_, C::ScalarExt>, extra: &Extra) -> Result<Vec<C::ScalarExt>> {
        let mut copy = zeros(r.len())?;
        match r.place() {
            Place::Device { raw, start, len } => {
                let owner = self.owner(raw.space(), raw.name())?;
                let at = (start * size_of::<C::ScalarExt>()) as u64;
                let done = owner.provider.space.download(&owner.queue()?, raw, at, as_bytes_mut(&mut copy));
                self.blame(owner, done)?;
                extra.move_bytes(len * size_of::<C::ScalarExt>());
            }
            _ => copy.copy_from_slice(r.as_host()?),
        }
        Ok(copy)
    }

    fn hand_back(
        &self,
        from: &[C::ScalarExt],
        to: &mut RefMut<'_, C::ScalarExt>,
        extra: &Extra,
    ) -> Result<()> {
        match to.device() {
            Some((raw, start, _)) => {
                let owner = self.owner(raw.space(), raw.name())?;
                let at = (start * size_of::<C::ScalarExt>()) as u64;
                extra.move_bytes(size_of_val(from));
                let done = owner.provider.space.upload(&owner.queue()?, as_bytes(from), raw, at);
                self.blame(owner, done)
            }
            None => {
                to.as_host()?.copy_from_slice(from);
                Ok(())
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record")]
    fn record(
        &self,
        slot: &Slot<C>,
        query: &Query,
        start: Instant,
        duration: Duration,
        check: Duration,
        extra: &Extra,
        reason: Reason,
    ) {
        let settings = &self.shared.settings;
        let start = start.duration_since(self.shared.epoch);
        let shape = query.shape;
        let (prepare, moved) = (extra.prepare.get(), extra.moved.get());
        if let Some(trace) = &settings.trace {
            let args = json!({
                "backend": slot.name(),
                "space": slot.space().to_string(),
                "bytes_moved": moved,
                "reason": reason.to_string(),
            });
            if !prepare.is_zero() {
                trace.event("prepare", shape.op().name(), start, prepare, &args);
            }
            trace.event(&shape.to_string(), shape.op().name(), start + prepare, duration, &args);
        }
        if settings.fft_stats && shape.op() == Op::NTT {
            let ms = duration.as_secs_f64() * 1e3;
            eprintln!(
                "fft: {} log_n={} batch={} backend={} ms={ms:.3}",
                shape.variant(),
                shape.log_n(),
                shape.batch(),
                slot.name()
            );
        }
        let (backend, space) = (slot.name(), slot.space());
        let record = Record { shape, backend, space, start, duration, prepare, check, moved, reason };
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(record);
    }

    fn exhausted(&self, decision: &Decision, mut failed: Vec<(&Candidate, Error)>) -> Error {
        if failed.len() <= 1 {
            return failed.pop().map_or_else(|| self.nobody(decision), |(_, error)| error);
        }
        let all_untouched = failed.iter().all(|(_, error)| error.try_elsewhere());
        let why: Vec<String> = failed.iter().map(|(_, error)| error.to_string()).collect();
        if all_untouched {
            let op = decision.query.shape.op();
            return Error::Unsupported { backend: "engine", op, why: why.join("; ") };
        }
        Error::Backend { backend: "engine", source: Box::new(Exhausted(why)) }
    }
}

/// An operand where a provider can read it.
#[derive(Debug)]
pub(crate) enum Operand<'a, F> {
    /// It can be read where it is.
    Here(Ref<'a, F>),
    /// A host copy.
    Copy(Vec<F>),
}

impl<F: DeviceRepr> Operand<'_, F> {
    pub(crate) fn as_ref(&self) -> Ref<'_, F> {
        match self {
            Operand::Here(r) => *r,
            Operand::Copy(copy) => Ref::host(copy),
        }
    }
}

fn reason(candidate: &Candidate, failed: &[(&Candidate, Error)]) -> Reason {
    match (failed.last(), &candidate.verdict) {
        (Some((from, error)), _) => Reason::Fallback { from: from.backend, why: error.to_string() },
        (None, Ok(reason)) => reason.clone(),
        // Legal candidates are those without a rejection.
        (None, Err(_)) => Reason::Order,
    }
}

/// Puts back what was kept; whether there was anything to put back.
fn restore<F: DeviceRepr>(outs: &mut [RefMut<'_, F>], kept: Option<&[Vec<F>]>) -> bool {
    let Some(kept) = kept else { return false };
    outs.iter_mut().zip(kept).all(|(out, kept)| match out.as_host() {
        Ok(out) => {
            out.copy_from_slice(kept);
            true
        }
        Err(_) => false,
    })
}

/// A host column of zeros, or a typed error when there is no room.
pub(crate) fn zeros<F: Field>(len: usize) -> Result<Vec<F>> {
    let mut column = Vec::new();
    column.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        backend: "host",
        what: "column",
        requested: (len as u64).saturating_mul(size_of::<F>() as u64),
        free: None,
    })?;
    column.resize(len, F::ZERO);
    Ok(column)
}
