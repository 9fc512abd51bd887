//! What a proof cost: time per stage, and what the engine ran where and why.

use std::fmt;
use std::time::{Duration, Instant};

use parhelion_dispatch::Ledger;

use crate::memory::MemoryReport;

/// A stage of a proof, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// The circuit assigns its witness.
    Synthesis,
    /// Advice columns are committed.
    CommitAdvice,
    /// Lookups are compressed, permuted and committed.
    Lookups,
    /// Running products of permutations and lookups, and the mask, are built and committed.
    Products,
    /// Columns become polynomials.
    Interpolate,
    /// h(X) is evaluated on the parts of the extended domain and interpolated.
    Quotient,
    /// The pieces of h(X) are committed.
    CommitQuotient,
    /// Polynomials are evaluated at the challenge's rotations.
    Evaluate,
    /// The openings are combined and proved.
    Open,
    /// The finished proof is verified.
    Verify,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 10] = [
        Stage::Synthesis,
        Stage::CommitAdvice,
        Stage::Lookups,
        Stage::Products,
        Stage::Interpolate,
        Stage::Quotient,
        Stage::CommitQuotient,
        Stage::Evaluate,
        Stage::Open,
        Stage::Verify,
    ];

    /// The lower-case name used in reports and traces.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Synthesis => "synthesis",
            Stage::CommitAdvice => "commit_advice",
            Stage::Lookups => "lookups",
            Stage::Products => "products",
            Stage::Interpolate => "interpolate",
            Stage::Quotient => "quotient",
            Stage::CommitQuotient => "commit_quotient",
            Stage::Evaluate => "evaluate",
            Stage::Open => "open",
            Stage::Verify => "verify",
        }
    }
}

/// What one proof cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProofReport {
    /// Wall time of each stage, in the order of [`Stage::ALL`]; zero for a stage that did not run.
    pub stages: Vec<(Stage, Duration)>,
    /// Wall time of the whole.
    pub total: Duration,
    /// Whether the proof was verified before it was returned.
    pub verified: bool,
    /// What memory was planned, and what the process came to.
    pub memory: MemoryReport,
    /// What the engine ran for this proof, where, and why there.
    pub ledger: Ledger,
}

impl ProofReport {
    /// Wall time of a stage.
    pub fn stage(&self, stage: Stage) -> Duration {
        self.stages.iter().filter(|(s, _)| *s == stage).map(|(_, t)| *t).sum()
    }
}

impl fmt::Display for ProofReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (stage, time) in &self.stages {
            writeln!(f, "{:<16} {:>10.3} ms", stage.name(), time.as_secs_f64() * 1e3)?;
        }
        write!(f, "{:<16} {:>10.3} ms", "total", self.total.as_secs_f64() * 1e3)
    }
}

/// Adds wall time to one stage at a time.
pub(crate) struct Clock {
    start: Instant,
    since: Instant,
    stage: Stage,
    totals: [Duration; Stage::ALL.len()],
}

impl Clock {
    pub(crate) fn start(stage: Stage) -> Self {
        let now = Instant::now();
        Clock { start: now, since: now, stage, totals: Default::default() }
    }

    /// Ends the present stage and begins another.
    pub(crate) fn enter(&mut self, stage: Stage) {
        let now = Instant::now();
        let spent = now - self.since;
        tracing::debug!(target: "parhelion::stage", stage = self.stage.name(), ms = spent.as_secs_f64() * 1e3);
        self.totals[self.stage as usize] += spent;
        (self.since, self.stage) = (now, stage);
    }

    pub(crate) fn finish(mut self, verified: bool, memory: MemoryReport, ledger: Ledger) -> ProofReport {
        self.enter(self.stage);
        ProofReport {
            stages: Stage::ALL.into_iter().zip(self.totals).collect(),
            total: self.start.elapsed(),
            verified,
            memory,
            ledger,
        }
    }
}
