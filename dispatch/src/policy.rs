//! What the user wants: which backends, from which size on, with which checks.
//!
//! Legality is a fact about a backend and a shape; policy is a wish. The two never mix: a policy only orders or excludes what is
//! legal.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use parhelion_backend_api::hal::{DeviceInfo, Op, SpaceId};

/// A backend by name, or one of its devices: `cuda`, `cuda:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    backend: String,
    index: Option<u16>,
}

impl Name {
    /// Any device of a backend.
    pub fn new(backend: impl Into<String>) -> Self {
        Name { backend: backend.into(), index: None }
    }

    /// One device of a backend.
    pub fn indexed(backend: impl Into<String>, index: u16) -> Self {
        Name { backend: backend.into(), index: Some(index) }
    }

    /// The backend's name.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Whether it names this device.
    pub fn matches(&self, info: &DeviceInfo) -> bool {
        self.backend == info.backend && self.index.is_none_or(|index| index == info.space.index)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}:{index}", self.backend),
            None => f.write_str(&self.backend),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (backend, index) = match text.split_once(':') {
            Some((backend, index)) => {
                let index = index.parse().map_err(|_| format!("`{index}` is not a device index"))?;
                (backend, Some(index))
            }
            None => (text, None),
        };
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if backend.is_empty() || !backend.chars().all(legal) {
            return Err(format!("`{text}` is not the name of a backend"));
        }
        Ok(Name { backend: backend.into(), index })
    }
}

/// Backends in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// The names, most preferred first.
    pub names: Vec<Name>,
    /// Whether backends that are not named come after them; without, they are excluded.
    pub others: bool,
}

/// Which backends may compute, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By measurement where there is a table, in the engine's order where there is none. Never a simulated device.
    #[default]
    Auto,
    /// In a given order.
    Prefer(Preference),
    /// This one or an error.
    Force(Name),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        match words.as_slice() {
            ["auto"] => Ok(Choice::Auto),
            [name] => Ok(Choice::Force(name.parse()?)),
            [names @ .., last] => {
                let others = *last == "auto";
                let names = if others { names } else { words.as_slice() };
                let names = names.iter().map(|name| match *name {
                    "auto" => Err("`auto` stands for all others, so it comes last".to_string()),
                    name => name.parse(),
                });
                Ok(Choice::Prefer(Preference { names: names.collect::<Result<_, _>>()?, others }))
            }
            [] => Err("no backend is named".into()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Force(name) => write!(f, "{name}"),
            Choice::Prefer(Preference { names, others }) => {
                let mut words: Vec<String> = names.iter().map(Name::to_string).collect();
                words.extend(others.then(|| "auto".into()));
                f.write_str(&words.join(","))
            }
        }
    }
}

/// Sizes under which operations stay on the host. They win over tables and preferences, but not over [`Choice::Force`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Least log₂ of the length, for all operations.
    pub min_k: Option<u32>,
    /// Least number of columns, for all operations.
    pub min_batch: Option<usize>,
    /// Least log₂ of the length for single operations, over [`Thresholds::min_k`].
    pub per_op: BTreeMap<Op, u32>,
}

impl Thresholds {
    /// Sets the least log₂ of the length for one operation, over [`Thresholds::min_k`].
    pub fn set_op(&mut self, op: Op, min_k: u32) {
        self.per_op.insert(op, min_k);
    }

    /// The least log₂ of the length that was set for this one operation.
    pub fn op(&self, op: Op) -> Option<u32> {
        self.per_op.get(&op).copied()
    }

    /// Why a call of this size stays on the host, if it does.
    pub fn below(&self, op: Op, log_n: u32, batch: usize) -> Option<String> {
        if let Some(min) = self.op(op).or(self.min_k).filter(|min| log_n < *min) {
            return Some(format!("2^{log_n} is below the threshold 2^{min}"));
        }
        let min = self.min_batch.filter(|min| batch < *min)?;
        Some(format!("a batch of {batch} is below the threshold {min}"))
    }
}

/// Which results of untrusted providers are verified on the host before they are used.
///
/// Every check is probabilistic over fresh random field elements, with an error below 2^−120, except for
/// [`Checks::recompute`], which is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Multi-scalar multiplications of at least so many columns: a random linear combination of the results against one
    /// trusted multiplication of the combined scalars. It costs one column.
    pub msm_from_batch: Option<usize>,
    /// Transforms: both sides evaluated at a random point. It costs a few multiplications per element.
    pub ntt: bool,
    /// Everything else by computing it again on a trusted provider: for diagnosis and tests.
    pub recompute: bool,
}

impl Checks {
    /// No result is verified; a wrong one surfaces when the proof is verified before it is returned.
    pub const OFF: Checks = Checks { msm_from_batch: None, ntt: false, recompute: false };
    /// What costs little: transforms, and multiplications in batches of eight and more.
    pub const CHEAP: Checks = Checks { msm_from_batch: Some(8), ntt: true, recompute: false };
    /// Everything.
    pub const FULL: Checks = Checks { msm_from_batch: Some(1), ntt: true, recompute: true };
}

impl Default for Checks {
    fn default() -> Self {
        Checks::CHEAP
    }
}

/// The backends of this project that compute in host memory.
const OWN: [&str; 2] = ["cpu", "naive"];

/// Whose results need no check and whose failures leave operands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The processor and the definitions of the conformance crate, by their names, in host memory. Whoever composes an engine of backends of
    /// others says whom they trust by [`Trust::Named`]: no backend can claim it by where it computes.
    #[default]
    Own,
    /// These backends.
    Named(Vec<String>),
    /// No provider.
    Nobody,
}

impl Trust {
    /// Whether a device is trusted.
    pub fn covers(&self, info: &DeviceInfo) -> bool {
        match self {
            Trust::Own => info.space == SpaceId::HOST && !info.simulated && OWN.contains(&info.backend),
            Trust::Named(names) => names.iter().any(|name| name == info.backend),
            Trust::Nobody => false,
        }
    }
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which backends, for every operation without a choice of its own.
    pub choice: Choice,
    /// Which backends, for single operations.
    pub per_op: BTreeMap<Op, Choice>,
    /// Sizes under which the host computes.
    pub thresholds: Thresholds,
    /// Operations that prefer an accelerator above their threshold where nothing has been measured.
    pub accelerate: Vec<Op>,
    /// Upper bound of the temporary memory of one operation, in bytes.
    pub memory: Option<u64>,
    /// Which results are verified.
    pub checks: Checks,
    /// Whose results need no check.
    pub trust: Trust,
    /// How long a quarantined device is out before it is examined, and how much longer after each failure; `None` for ever. An examination asks for
    /// a few known answers of every operation.
    pub readmit: Option<Duration>,
    /// Whether columns are passed to every operation anew where they could stay on a device: to measure what that costs.
    pub passing: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            choice: Choice::default(),
            per_op: BTreeMap::new(),
            thresholds: Thresholds::default(),
            accelerate: Vec::new(),
            memory: None,
            checks: Checks::default(),
            trust: Trust::default(),
            readmit: Some(Duration::from_secs(600)),
            passing: false,
        }
    }
}

impl Policy {
    /// The policy that forces one backend for everything.
    pub fn force(backend: impl Into<String>) -> Self {
        Policy { choice: Choice::Force(Name::new(backend)), ..Policy::default() }
    }

    /// The policy that prefers backends in this order and excludes all others.
    pub fn prefer<S: Into<String>>(backends: impl IntoIterator<Item = S>) -> Self {
        let names = backends.into_iter().map(Name::new).collect();
        Policy { choice: Choice::Prefer(Preference { names, others: false }), ..Policy::default() }
    }

    /// The choice that holds for an operation.
    pub fn choice(&self, op: Op) -> &Choice {
        self.per_op.get(&op).unwrap_or(&self.choice)
    }

    /// Every name that occurs in a choice.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.choice).chain(self.per_op.values()).flat_map(|choice| match choice {
            Choice::Auto => &[][..],
            Choice::Prefer(preference) => &preference.names,
            Choice::Force(name) => std::slice::from_ref(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_round_trip_through_their_text() {
        for text in ["auto", "cpu", "cuda:3", "a,b", "a,b:0,auto", "fpga-sim"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for text in ["", ",", "a,", "auto,a", "Cuda", "a b", "cuda:x", ":1", "cuda:70000"] {
            assert!(text.parse::<Choice>().is_err(), "{text:?} is accepted");
        }
    }

    #[test]
    fn the_threshold_of_an_operation_wins_over_the_common_one() {
        let mut thresholds = Thresholds { min_k: Some(12), min_batch: Some(2), ..Thresholds::default() };
        thresholds.set_op(Op::NTT, 4);
        assert!(thresholds.below(Op::MSM, 11, 9).is_some_and(|why| why.contains("2^12")));
        assert_eq!(thresholds.below(Op::MSM, 12, 2), None);
        assert_eq!(thresholds.below(Op::NTT, 4, 2), None);
        assert!(thresholds.below(Op::NTT, 20, 1).is_some_and(|why| why.contains("batch of 1")));
    }
}
