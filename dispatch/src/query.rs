//! Questions to the engine and its answers, with reasons.

use std::fmt;
use std::time::Duration;

use parhelion_backend_api::hal::{Op, SpaceId};
use parhelion_backend_api::{Direction, MsmShape, NttShape, PolyShape, QuotientShape, ScalarKind};

/// What a call computes, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A multi-scalar multiplication.
    Msm(MsmShape),
    /// A transform.
    Ntt(NttShape),
    /// The evaluation of a program.
    Quotient(QuotientShape),
    /// A polynomial operation.
    Poly(PolyShape),
}

/// log₂, rounded up; 0 for 0.
pub(crate) fn log2_ceil(len: usize) -> u32 {
    len.checked_next_power_of_two().map_or(usize::BITS, usize::trailing_zeros)
}

impl Shape {
    /// The operation.
    pub fn op(&self) -> Op {
        match self {
            Shape::Msm(_) => Op::MSM,
            Shape::Ntt(_) => Op::NTT,
            Shape::Quotient(_) => Op::QUOTIENT,
            Shape::Poly(_) => Op::POLY,
        }
    }

    /// log₂ of the length, rounded up.
    pub fn log_n(&self) -> u32 {
        match self {
            Shape::Msm(shape) => log2_ceil(shape.len),
            Shape::Ntt(shape) => shape.log_n,
            Shape::Quotient(shape) => shape.log_n,
            Shape::Poly(shape) => shape.log_n,
        }
    }

    /// Number of columns.
    pub fn batch(&self) -> usize {
        match self {
            Shape::Msm(shape) => shape.batch,
            Shape::Ntt(shape) => shape.batch,
            Shape::Quotient(shape) => shape.columns,
            Shape::Poly(shape) => shape.batch,
        }
    }

    /// What multiplies the cost of one row: the number of columns, or the number of steps of a program.
    pub fn width(&self) -> usize {
        match self {
            Shape::Quotient(shape) => shape.steps,
            _ => self.batch(),
        }
    }

    /// The kind of work inside the operation, as tables and reports name it.
    pub fn variant(&self) -> String {
        match self {
            Shape::Msm(MsmShape { scalars, .. }) => match scalars {
                ScalarKind::Full => "full".into(),
                ScalarKind::Unsigned { bits } => format!("u{bits}"),
                ScalarKind::Signed { bits } => format!("s{bits}"),
            },
            Shape::Ntt(shape) => match (shape.direction, shape.coset) {
                (Direction::Forward, false) => "forward".into(),
                (Direction::Forward, true) => "forward-coset".into(),
                (Direction::Inverse, false) => "inverse".into(),
                (Direction::Inverse, true) => "inverse-coset".into(),
            },
            Shape::Quotient(_) => "program".into(),
            Shape::Poly(shape) => shape.call.name().into(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} 2^{} × {}", self.op(), self.variant(), self.log_n(), self.batch())?;
        match self {
            Shape::Quotient(shape) => write!(f, " ({} steps)", shape.steps),
            _ => Ok(()),
        }
    }
}

/// A call that somebody is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// What it computes.
    pub shape: Shape,
    /// Where its operands are.
    pub space: SpaceId,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Query {
    /// A call on host operands of 32-byte elements.
    pub fn host(shape: Shape) -> Self {
        let n = 1u64.checked_shl(shape.log_n()).unwrap_or(u64::MAX);
        let bytes = n.saturating_mul(shape.batch() as u64).saturating_mul(32);
        Query { shape, space: SpaceId::HOST, bytes }
    }

    /// A multi-scalar multiplication of `batch` host columns of `len` scalars.
    pub fn msm(len: usize, batch: usize, scalars: ScalarKind) -> Self {
        Query::host(Shape::Msm(MsmShape { len, batch, scalars }))
    }

    /// A transform of `batch` host columns of 2^`log_n` elements.
    pub fn ntt(log_n: u32, batch: usize, direction: Direction, coset: bool) -> Self {
        Query::host(Shape::Ntt(NttShape { log_n, batch, direction, coset }))
    }
}

/// Why a candidate cannot, or must not, compute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The backend does not offer the operation at all.
    NotOffered,
    /// It does not offer this shape.
    Unsupported(String),
    /// The device has too little free memory.
    Memory {
        /// Bytes for workspace and operands.
        needed: u64,
        /// Free bytes of the device.
        free: u64,
    },
    /// One column is more than the device's largest buffer.
    Buffer {
        /// Bytes of a column.
        needed: u64,
        /// Bytes of the largest buffer.
        largest: u64,
    },
    /// The workspace exceeds the user's budget.
    Budget {
        /// Bytes of workspace.
        needed: u64,
        /// The budget.
        budget: u64,
    },
    /// It failed before, and is out until it passes an examination.
    Quarantined(String),
    /// Simulators and software rasterisers are used only when named.
    Simulated,
    /// The policy names others.
    NotNamed,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::NotOffered => f.write_str("does not offer the operation"),
            Rejection::Unsupported(why) => write!(f, "does not support the shape: {why}"),
            Rejection::Memory { needed, free } => write!(f, "needs {needed} bytes and has {free} free"),
            Rejection::Buffer { needed, largest } => {
                write!(f, "a column of {needed} bytes is above the largest buffer of {largest}")
            }
            Rejection::Budget { needed, budget } => {
                write!(f, "needs {needed} bytes of workspace, over the budget of {budget}")
            }
            Rejection::Quarantined(why) => write!(f, "is quarantined: {why}"),
            Rejection::Simulated => f.write_str("is simulated, and only used when named"),
            Rejection::NotNamed => f.write_str("is not named by the policy"),
        }
    }
}

/// Why a candidate is where it is in the order, or why it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody else could.
    Only,
    /// By its predicted time.
    Measured,
    /// By the engine's order, since its times are unknown here.
    Order,
    /// The policy prefers it.
    Preferred,
    /// The policy forces it.
    Forced,
    /// The call is below a threshold, so the host computes.
    Threshold(String),
    /// A better candidate failed.
    Fallback {
        /// The backend that failed last.
        from: &'static str,
        /// How.
        why: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Only => f.write_str("the only candidate"),
            Reason::Measured => f.write_str("by predicted time"),
            Reason::Order => f.write_str("by order, not measured"),
            Reason::Preferred => f.write_str("preferred"),
            Reason::Forced => f.write_str("forced"),
            Reason::Threshold(why) => f.write_str(why),
            Reason::Fallback { from, why } => write!(f, "fallback from {from}: {why}"),
        }
    }
}

/// One provider's part in a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Index of the provider in the engine.
    pub provider: usize,
    /// Name of its backend.
    pub backend: &'static str,
    /// The space that it computes in.
    pub space: SpaceId,
    /// Predicted time, where the table knows the device.
    pub predicted: Option<Duration>,
    /// Whether it may compute, and why it stands where it stands.
    pub verdict: Result<Reason, Rejection>,
}

/// The answer to a [`Query`]: the candidates that may compute, in the order in which they are tried, then the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The question.
    pub query: Query,
    /// The answer.
    pub candidates: Vec<Candidate>,
}

impl Decision {
    /// The candidate that is tried first.
    pub fn chosen(&self) -> Option<&Candidate> {
        self.candidates.first().filter(|candidate| candidate.verdict.is_ok())
    }

    /// The candidates that may compute, in order.
    pub fn legal(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.verdict.is_ok())
    }

    /// Those that may not, with the reason.
    pub fn rejected(&self) -> impl Iterator<Item = (&Candidate, &Rejection)> {
        self.candidates.iter().filter_map(|c| Some((c, c.verdict.as_ref().err()?)))
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.query.shape, self.query.space)?;
        for (place, candidate) in self.candidates.iter().enumerate() {
            let Candidate { backend, space, predicted, verdict, .. } = candidate;
            let name = format!("{backend} ({space})");
            let time = predicted.map_or("-".into(), |t| format!("{:.3} ms", t.as_secs_f64() * 1e3));
            match verdict {
                Ok(reason) => writeln!(f, "  {}. {name:<24} {time:>14}  {reason}", place + 1)?,
                Err(rejection) => writeln!(f, "  -  {name:<24} {time:>14}  {rejection}")?,
            }
        }
        if self.candidates.is_empty() {
            writeln!(f, "  no backend")?;
        }
        Ok(())
    }
}
