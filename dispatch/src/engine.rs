//! The engine: open providers, settings, decisions.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use parhelion_backend_api::hal::{DeviceInfo, Error, Op, Result, SpaceId};
use parhelion_backend_api::{Bases, Compiled, Curve, Pieces, Program, Provider, Reuse};

use crate::cost::CostTable;
use crate::exam;
use crate::ledger::Ledger;
use crate::policy::{Choice, Policy};
use crate::query::{Candidate, Decision, Query, Reason, Rejection};
use crate::slot::{Handles, Slot};
use crate::trace::{Stage, Trace};

/// Bases on the host, prepared by each provider that uses them, once.
#[derive(Clone, Debug)]
pub struct EngineBases<C> {
    pub(crate) host: Arc<[C]>,
    pub(crate) reuse: Reuse,
    pub(crate) prepared: Arc<Handles<Bases<C>>>,
}

impl<C> EngineBases<C> {
    /// The points.
    pub fn host(&self) -> &Arc<[C]> {
        &self.host
    }
}

/// A program, compiled by each provider that runs it, once.
#[derive(Clone, Debug)]
pub struct EngineProgram<F> {
    pub(crate) program: Arc<Program<F>>,
    pub(crate) compiled: Arc<Handles<Arc<CompiledPieces<F>>>>,
}

/// A program as a provider runs it: whole, or in pieces that it can take.
#[derive(Debug)]
pub(crate) struct CompiledPieces<F> {
    pub(crate) pieces: Pieces<F>,
    /// One for each piece.
    pub(crate) programs: Vec<Compiled<F>>,
}

impl<F> EngineProgram<F> {
    /// The program as plain data.
    pub fn program(&self) -> &Program<F> {
        &self.program
    }
}

/// Bases that somebody has. The weak handle keeps the address from being used again.
#[derive(Debug)]
struct KnownBases<C> {
    host: Weak<[C]>,
    reuse: Reuse,
    prepared: Weak<Handles<Bases<C>>>,
}

/// How an engine chooses and what it writes down.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the user wants.
    pub policy: Policy,
    /// What was measured on this machine.
    pub table: Option<Arc<CostTable>>,
    /// Where operations are traced.
    pub trace: Option<Arc<Trace>>,
    /// Whether every transform is reported on standard error.
    pub fft_stats: bool,
}

/// A device of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// The device.
    pub info: DeviceInfo,
    /// The operations that it offers.
    pub ops: Vec<Op>,
    /// Whether its results need no check.
    pub trusted: bool,
    /// Why it is out until it passes an examination, if it is.
    pub quarantined: Option<String>,
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceInfo { backend, space, name, driver, memory, simulated } = &self.info;
        let ops: Vec<&str> = self.ops.iter().map(|op| op.name()).collect();
        write!(f, "{backend} ({space}): {name}; {driver}; {}", ops.join(", "))?;
        if let Some(total) = memory.total {
            write!(f, "; {} MiB", total >> 20)?;
        }
        for (word, holds) in [("simulated", *simulated), ("trusted", self.trusted)] {
            if holds {
                write!(f, "; {word}")?;
            }
        }
        self.quarantined.as_ref().map_or(Ok(()), |why| write!(f, "; quarantined: {why}"))
    }
}

impl<C: Curve> Shared<C> {
    /// The same devices with other settings.
    pub(crate) fn with_settings(&self, settings: Settings) -> Self {
        Shared {
            slots: self.slots.clone(),
            bases: self.bases.clone(),
            settings,
            epoch: self.epoch,
            warned: Mutex::default(),
        }
    }
}

/// The only thing that a prover sees. Cheap to clone; usable from any thread.
///
/// Clones and engines derived by [`Engine::with_ledger`] and [`Engine::configure`] share the open devices, their prepared
/// handles and their quarantine.
#[derive(Clone, Debug)]
pub struct Engine<C: Curve> {
    pub(crate) shared: Arc<Shared<C>>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
}

#[derive(Debug)]
pub(crate) struct Shared<C: Curve> {
    pub(crate) slots: Arc<[Slot<C>]>,
    bases: Arc<Mutex<Vec<KnownBases<C>>>>,
    pub(crate) settings: Settings,
    pub(crate) epoch: Instant,
    warned: Mutex<HashSet<(&'static str, Op, std::mem::Discriminant<Error>)>>,
}

impl<C: Curve> Engine<C> {
    /// An engine over open providers, in order of preference, with default settings. Nothing is read from the environment.
    pub fn new(providers: Vec<Provider>) -> Self {
        Engine {
            shared: Arc::new(Shared {
                slots: providers.into_iter().map(Slot::new).collect(),
                bases: Arc::default(),
                settings: Settings::default(),
                epoch: Instant::now(),
                warned: Mutex::default(),
            }),
            ledger: Arc::default(),
        }
    }

    /// An engine over the same devices with other settings and a ledger of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the policy names a backend that the engine does not have.
    pub fn configure(&self, settings: Settings) -> Result<Self> {
        let slots = &self.shared.slots;
        for name in settings.policy.names() {
            if !slots.iter().any(|slot| name.matches(&slot.provider.info)) {
                let have: Vec<String> =
                    slots.iter().map(|s| format!("{}:{}", s.name(), s.space().index)).collect();
                let why = format!("`{name}` is not among the open ones: {}", have.join(", "));
                return Err(Error::Invalid { what: "backend", why });
            }
        }
        Ok(Engine { shared: Arc::new(self.shared.with_settings(settings)), ledger: Arc::default() })
    }

    /// An engine over the same devices with another policy and a ledger of its own.
    ///
    /// # Errors
    /// As [`Engine::configure`].
    pub fn with_policy(&self, policy: Policy) -> Result<Self> {
        self.configure(Settings { policy, ..self.shared.settings.clone() })
    }

    /// The same engine with a ledger of its own: what this handle runs is recorded apart.
    pub fn with_ledger(&self) -> Self {
        Engine { shared: self.shared.clone(), ledger: Arc::default() }
    }

    /// What this handle and its clones ran so far.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the engine chooses and what it writes down.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Upper bound of temporary memory that the user set, in bytes.
    pub fn memory_budget(&self) -> Option<u64> {
        self.shared.settings.policy.memory
    }

    /// The open devices.
    pub fn devices(&self) -> Vec<DeviceStatus> {
        let trust = &self.shared.settings.policy.trust;
        let status = |slot: &Slot<C>| DeviceStatus {
            info: slot.provider.info.clone(),
            ops: slot.provider.ops().collect(),
            trusted: trust.covers(&slot.provider.info),
            quarantined: slot.quarantined(),
        };
        self.shared.slots.iter().map(status).collect()
    }

    /// Begins a stage of the caller, which ends when the value is dropped; it appears in the trace above its operations.
    pub fn stage(&self, name: &'static str) -> Stage<'_> {
        Stage {
            trace: self.shared.settings.trace.as_deref(),
            name,
            epoch: self.shared.epoch,
            start: Instant::now(),
        }
    }

    /// Takes bases; nothing is uploaded until they are used. Who gives the same allocation again, while somebody still has its bases, gets the same
    /// ones: the keys of one reference string share what devices keep of it.
    pub fn load_bases(&self, host: impl Into<Arc<[C]>>, reuse: Reuse) -> EngineBases<C> {
        let host = host.into();
        let mut known = self.shared.bases.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.prepared.strong_count() > 0);
        let same = |known: &&KnownBases<C>| known.reuse == reuse && std::ptr::eq(known.host.as_ptr(), &*host);
        if let Some(prepared) = known.iter().find(same).and_then(|known| known.prepared.upgrade()) {
            return EngineBases { host, reuse, prepared };
        }
        let prepared = Arc::default();
        known.push(KnownBases { host: Arc::downgrade(&host), reuse, prepared: Arc::downgrade(&prepared) });
        EngineBases { host, reuse, prepared }
    }

    /// Takes a program; nothing is compiled until it is used.
    pub fn load_program(&self, program: Program<C::ScalarExt>) -> EngineProgram<C::ScalarExt> {
        EngineProgram { program: Arc::new(program), compiled: Arc::default() }
    }

    /// Who would compute a call, in which order others would be tried, and why the rest would not.
    pub fn explain(&self, query: &Query) -> Decision {
        self.decide(query, |_| 0)
    }

    /// Who would compute a call.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with every backend's reason when nobody can, [`Error::OutOfMemory`] when memory is the only one.
    pub fn pick(&self, query: &Query) -> Result<Candidate> {
        let decision = self.explain(query);
        decision.chosen().cloned().ok_or_else(|| self.nobody(&decision))
    }

    /// [`Engine::explain`], where a provider also needs `handle(provider)` bytes for a prepared handle.
    pub(crate) fn decide(&self, query: &Query, handle: impl Fn(&Slot<C>) -> u64) -> Decision {
        let policy = &self.shared.settings.policy;
        let op = query.shape.op();
        let choice = policy.choice(op);
        let below = policy.thresholds.below(op, query.shape.log_n(), query.shape.batch());
        if let Some(after) = policy.readmit {
            for slot in self.shared.slots.iter() {
                slot.readmit(after, || exam::passes(slot));
            }
        }
        let mut ranked = Vec::with_capacity(self.shared.slots.len());
        let mut rejected = Vec::new();
        for (provider, slot) in self.shared.slots.iter().enumerate() {
            let info = &slot.provider.info;
            let resident = slot.space() == query.space;
            let predicted = match &self.shared.settings.table {
                Some(table) => table.predict(info, &query.shape, resident),
                None => None,
            };
            let candidate = |verdict| Candidate {
                provider,
                backend: slot.name(),
                space: slot.space(),
                predicted,
                verdict,
            };
            let named = match choice {
                Choice::Auto if info.simulated => Err(Rejection::Simulated),
                Choice::Auto => Ok(None),
                Choice::Force(name) if name.matches(info) => Ok(Some(0)),
                Choice::Force(_) => Err(Rejection::NotNamed),
                Choice::Prefer(list) => match list.names.iter().position(|name| name.matches(info)) {
                    Some(place) => Ok(Some(place)),
                    None if !list.others => Err(Rejection::NotNamed),
                    None if info.simulated => Err(Rejection::Simulated),
                    None => Ok(None),
                },
            };
            let arriving = if resident || slot.is_host() { 0 } else { query.bytes };
            let arriving = arriving.saturating_add(handle(slot));
            match named.and_then(|place| {
                slot.legal(&query.shape, arriving, policy.memory)?;
                Ok(place)
            }) {
                Ok(place) => {
                    let demoted = below.is_some() && !slot.is_host();
                    let unaccelerated = place.is_none()
                        && slot.is_host()
                        && policy.accelerate.contains(&op)
                        && below.is_none();
                    let time = predicted.unwrap_or(std::time::Duration::MAX);
                    // Equal devices stand where the first of them stands, and the least busy one computes.
                    let kind = self.shared.slots.iter().position(|other| other.is_like(slot));
                    let turn = (kind.unwrap_or(provider), !resident, slot.load(), provider);
                    let place = place.unwrap_or(usize::MAX);
                    let rank = (demoted, place, time, unaccelerated, turn);
                    ranked.push((rank, candidate(Ok(Reason::Only))));
                }
                Err(rejection) => rejected.push(candidate(Err(rejection))),
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let forced = matches!(choice, Choice::Force(_));
        let alone = ranked.len() == 1;
        let some_demoted = ranked.iter().any(|((demoted, ..), _)| *demoted);
        let mut candidates: Vec<Candidate> = ranked
            .into_iter()
            .map(|((demoted, place, ..), candidate)| {
                let reason = match &below {
                    _ if forced => Reason::Forced,
                    Some(why) if some_demoted && !demoted => Reason::Threshold(why.clone()),
                    _ if place != usize::MAX => Reason::Preferred,
                    _ if alone => Reason::Only,
                    _ if candidate.predicted.is_some() => Reason::Measured,
                    _ => Reason::Order,
                };
                Candidate { verdict: Ok(reason), ..candidate }
            })
            .collect();
        candidates.append(&mut rejected);
        Decision { query: *query, candidates }
    }

    /// The error for a call that nobody can compute.
    pub(crate) fn nobody(&self, decision: &Decision) -> Error {
        let op = decision.query.shape.op();
        let relevant = |r: &Rejection| !matches!(r, Rejection::NotNamed | Rejection::Simulated);
        let reasons: Vec<_> = decision.rejected().filter(|(_, r)| relevant(r)).collect();
        let memory = |r: &Rejection| match *r {
            Rejection::Memory { needed, free } => Some((needed, free)),
            Rejection::Budget { needed, budget } => Some((needed, budget)),
            Rejection::Buffer { needed, largest } => Some((needed, largest)),
            _ => None,
        };
        if let Some((first, (requested, free))) =
            reasons.first().and_then(|(first, rejection)| Some((first, memory(rejection)?)))
            && reasons.iter().all(|(_, rejection)| memory(rejection).is_some())
        {
            let what = "workspace and operands";
            return Error::OutOfMemory { backend: first.backend, what, requested, free: Some(free) };
        }
        let why: Vec<String> = reasons.iter().map(|(c, r)| format!("{} {r}", c.backend)).collect();
        let backend = match reasons.as_slice() {
            [(only, _)] => only.backend,
            _ => "engine",
        };
        let why = if why.is_empty() { "no backend is open".into() } else { why.join("; ") };
        Error::Unsupported { backend, op, why }
    }

    /// Warns of a failure, once per backend, operation and kind of error.
    pub(crate) fn warn_once(&self, backend: &'static str, op: Op, error: &Error) {
        let key = (backend, op, std::mem::discriminant(error));
        let mut warned = self.shared.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(key) {
            tracing::warn!("{op} falls back from {backend}: {error}");
        }
    }

    /// The slot that owns a space.
    pub(crate) fn owner(&self, space: SpaceId, name: &'static str) -> Result<&Slot<C>> {
        self.shared.slots.iter().find(|slot| slot.provider.space.id() == space).ok_or(Error::WrongSpace {
            name,
            expected: SpaceId::HOST,
            found: space,
        })
    }

    /// A trusted provider that can compute a shape on host operands.
    pub(crate) fn trusted(&self, query: &Query) -> Option<&Slot<C>> {
        let policy = &self.shared.settings.policy;
        self.shared.slots.iter().find(|slot| {
            policy.trust.covers(&slot.provider.info) && slot.legal(&query.shape, 0, policy.memory).is_ok()
        })
    }
}
