//! Chooses, per operation, which backend computes; falls back, quarantines, checks and reports.
//!
//! # Design choices
//!
//! - **Legality, policy and measurement are three things.** A provider says what is legal ([`Rejection`]), the user says what is
//!   wanted ([`Policy`]), a table says what was measured ([`CostTable`]). The policy and the table only order what is legal;
//!   [`Engine::explain`] shows all three for any call.
//! - **Force means error, auto means next candidate.** A forced backend that cannot compute is an error that says why. Otherwise the
//!   next candidate computes, one warning per cause is logged, and the [`Ledger`] names the backend that really ran.
//! - **Failures.** After `Unsupported` and `OutOfMemory` the operands are untouched and the call moves on. After any other error of
//!   an untrusted provider its results mean nothing: it is quarantined until it passes an examination and the call is made again on the next
//!   candidate, from a host copy of what the call overwrites. No copy is kept for trusted providers, which compute in host
//!   memory, nor of operands that live on a device: there the error is returned and the caller restarts its stage from host
//!   data.
//! - **A wrong answer does not leave.** Results of untrusted providers are verified as [`Checks`] says; one that fails
//!   quarantines its provider and is computed again.
//! - **Arguments are checked once, here**, before any provider sees them, so that a caller's mistake is the same typed error
//!   whichever backend would have computed, and leaves its operands untouched.
//! - **The environment is read in one place**, [`Knobs::from_env`], and only when asked.
#![forbid(unsafe_code)]

mod attempt;
mod check;
mod cost;
mod engine;
mod exam;
mod kept;
mod knobs;
mod ledger;
mod once;
mod ops;
mod policy;
mod query;
mod residence;
mod slot;
mod trace;
mod tune;
mod workload;

use parhelion_backend_api::hal::Error;

pub use cost::{CostTable, Point, Provenance, Series, TableError};
pub use engine::{DeviceStatus, Engine, EngineBases, EngineProgram, Settings};
pub use kept::Owner;
pub use knobs::{KNOBS, KnobError, Knobs, Resolved};
pub use ledger::{Ledger, Record, Total, Transfers};
pub use once::Once;
pub use parhelion_backend_api::{Knob, KnobKind, parse_bytes};
pub use parhelion_backend_api::{PolyCall, PolyShape};
pub use policy::{Checks, Choice, Name, Policy, Preference, Thresholds, Trust};
pub use query::{Candidate, Decision, Query, Reason, Rejection, Shape};
pub use residence::{Residence, Work};
pub use trace::{Stage, Trace};
pub use tune::{Progress, Regret, Sample, TunePlan, tune, tune_check};
pub use workload::Workload;

/// Result of an operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;
