//! Every environment variable that the engine reads, in one typed table, beside those that backends declare.
//!
//! A variable is declared in [`KNOBS`] with its type, default and meaning, parsed once into [`Knobs`], and printed with what it
//! resolved to. A backend's are declared by the backend ([`parhelion_backend_api::Backend::knobs`]). A value that does not parse is an error that names the variable and the value: a typo is never a silent
//! default. An unset or empty variable is its default.
//!
//! Some variables belong to other projects whose users should find that they still work. ezkl chooses its GPU by the *presence*
//! of `ENABLE_ICICLE_GPU`, with the size threshold `ICICLE_SMALL_K`; distributed-zkml opts into GPU transforms by `HALO2_USE_GPU_NTT`
//! and prints transform statistics by `HALO2_FFT_STATS`. Parhelion's own variables win over them.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use parhelion_backend_api::hal::Op;
use parhelion_backend_api::knob::{parse_bytes, parse_count, parse_log2, parse_switch, parse_word};
use parhelion_backend_api::{Knob, KnobKind};

use crate::policy::{Checks, Choice, Name, Policy, Preference, Thresholds};

/// Variables of this project that other rooms read: the key cache and model-suite's Python (command line), `create_proof`'s own check (prover),
/// data for tests.
const ELSEWHERE: [&str; 4] = ["PARHELION_CACHE", "PARHELION_PYTHON", "PARHELION_VERIFY", "PARHELION_SHARED"];

/// Every environment variable that the engine reads, in the order in which reports list them.
pub const KNOBS: &[Knob] = &[
    Knob {
        name: "PARHELION_BACKEND",
        kind: KnobKind::Backends,
        default: "auto",
        doc: "which backends compute: a single name forces, a list prefers in order and `auto` in it stands for all others",
    },
    Knob {
        name: "PARHELION_MIN_K",
        kind: KnobKind::Log2,
        default: "none",
        doc: "operations shorter than 2^k stay on the host",
    },
    Knob {
        name: "PARHELION_MIN_BATCH",
        kind: KnobKind::Count,
        default: "none",
        doc: "operations on fewer columns stay on the host",
    },
    Knob {
        name: "PARHELION_MSM_MIN_K",
        kind: KnobKind::Log2,
        default: "PARHELION_MIN_K",
        doc: "the same for multi-scalar multiplications",
    },
    Knob {
        name: "PARHELION_NTT_MIN_K",
        kind: KnobKind::Log2,
        default: "PARHELION_MIN_K",
        doc: "the same for transforms",
    },
    Knob {
        name: "PARHELION_QUOTIENT_MIN_K",
        kind: KnobKind::Log2,
        default: "PARHELION_MIN_K",
        doc: "the same for the evaluation of constraints",
    },
    Knob {
        name: "PARHELION_POLY_MIN_K",
        kind: KnobKind::Log2,
        default: "PARHELION_MIN_K",
        doc: "the same for polynomial operations",
    },
    Knob {
        name: "PARHELION_TABLE",
        kind: KnobKind::Path,
        default: "none",
        doc: "cost table that `tune` has written for this machine",
    },
    Knob {
        name: "PARHELION_MEMORY",
        kind: KnobKind::Bytes,
        default: "what the device has",
        doc: "upper bound of the memory that a proof takes beside key and reference string, and of any one operation",
    },
    Knob {
        name: "PARHELION_CHECK",
        kind: KnobKind::Word(&["off", "cheap", "full"]),
        default: "cheap",
        doc: "which results of accelerators are verified on the host",
    },
    Knob {
        name: "PARHELION_READMIT",
        kind: KnobKind::Count,
        default: "600",
        doc: "seconds after which a quarantined device is examined, twice as long after each failure; 0 for never",
    },
    Knob {
        name: "PARHELION_TRACE",
        kind: KnobKind::Path,
        default: "none",
        doc: "file that receives every operation as a Chrome trace",
    },
    Knob {
        name: "ENABLE_ICICLE_GPU",
        kind: KnobKind::Presence,
        default: "unset",
        doc: "ezkl: when set, whatever its value, Icicle is preferred above ICICLE_SMALL_K",
    },
    Knob {
        name: "ICICLE_SMALL_K",
        kind: KnobKind::Log2,
        default: "8",
        doc: "ezkl: with ENABLE_ICICLE_GPU, lengths up to 2^k stay on the host",
    },
    Knob {
        name: "HALO2_FFT_STATS",
        kind: KnobKind::Switch,
        default: "0",
        doc: "distributed-zkml: one line on standard error for every transform",
    },
    Knob {
        name: "HALO2_USE_GPU_NTT",
        kind: KnobKind::Switch,
        default: "0",
        doc: "distributed-zkml: transforms of 2^16 and more prefer an accelerator",
    },
];

/// Length from which distributed-zkml sends transforms to its GPU.
const HALO2_GPU_NTT_MIN_K: u32 = 16;

/// A variable whose value does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} = {value:?}: {why}")]
pub struct KnobError {
    /// Name of the variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

/// What the variables resolve to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knobs {
    /// `PARHELION_BACKEND`.
    pub backend: Option<Choice>,
    /// `PARHELION_MIN_K`, `PARHELION_MIN_BATCH` and the thresholds of each operation.
    pub thresholds: Thresholds,
    /// `PARHELION_TABLE`.
    pub table: Option<PathBuf>,
    /// `PARHELION_MEMORY`, in bytes.
    pub memory: Option<u64>,
    /// `PARHELION_CHECK`.
    pub checks: Checks,
    /// `PARHELION_READMIT`, in seconds.
    pub readmit: Option<usize>,
    /// `PARHELION_TRACE`.
    pub trace: Option<PathBuf>,
    /// `ENABLE_ICICLE_GPU`.
    pub enable_icicle_gpu: bool,
    /// `ICICLE_SMALL_K`.
    pub icicle_small_k: Option<u32>,
    /// `HALO2_FFT_STATS`.
    pub fft_stats: bool,
    /// `HALO2_USE_GPU_NTT`.
    pub use_gpu_ntt: bool,
    backends: Vec<Knob>,
    raw: Vec<(&'static str, String)>,
}

/// One knob with what it resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The declaration.
    pub knob: Knob,
    /// The value that was set, or `None` for the default.
    pub set: Option<String>,
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Knob { name, kind, default, doc } = self.knob;
        match &self.set {
            Some(value) => write!(f, "{name} = {value}")?,
            None => write!(f, "{name} (default: {default})")?,
        }
        write!(f, "  [{kind}] {doc}")
    }
}

impl Knobs {
    /// Reads the environment of the process: the engine's variables, and those that `backends` declare, which are only looked at here and read
    /// by their backend. Others that begin with `PARHELION_` get a warning, since they are likely misspelt.
    ///
    /// # Errors
    /// [`KnobError`] for the first value that does not parse.
    pub fn from_env(backends: &[Knob]) -> Result<Self, KnobError> {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("PARHELION_") && !is_declared(&name, backends) {
                tracing::warn!("{name} is not a variable of the engine or of a backend of this build");
            }
        }
        Self::from_source(backends, |name| std::env::var_os(name))
    }

    /// Reads variables from any source: a map in tests, command-line overrides over the environment.
    ///
    /// # Errors
    /// As [`Knobs::from_env`].
    pub fn from_source(
        backends: &[Knob],
        mut get: impl FnMut(&str) -> Option<OsString>,
    ) -> Result<Self, KnobError> {
        let mut knobs = Knobs { backends: backends.to_vec(), ..Knobs::default() };
        let engines = KNOBS.iter().map(|knob| (knob, true));
        for (knob, own) in engines.chain(backends.iter().map(|knob| (knob, false))) {
            let Some(value) = get(knob.name) else { continue };
            let value = value.into_string().map_err(|value| KnobError {
                name: knob.name,
                value: value.to_string_lossy().into_owned(),
                why: "not valid Unicode".into(),
            })?;
            if value.trim().is_empty() && knob.kind != KnobKind::Presence {
                continue;
            }
            let parsed = if own { knobs.set(knob, value.trim()) } else { knob.check(value.trim()) };
            parsed.map_err(|why| KnobError { name: knob.name, value: value.clone(), why })?;
            knobs.raw.push((knob.name, value));
        }
        Ok(knobs)
    }

    fn set(&mut self, knob: &Knob, value: &str) -> Result<(), String> {
        match knob.name {
            "PARHELION_BACKEND" => self.backend = Some(value.parse()?),
            "PARHELION_MIN_K" => self.thresholds.min_k = Some(parse_log2(value)?),
            "PARHELION_MIN_BATCH" => self.thresholds.min_batch = Some(parse_count(value)?),
            "PARHELION_MSM_MIN_K" => self.thresholds.set_op(Op::MSM, parse_log2(value)?),
            "PARHELION_NTT_MIN_K" => self.thresholds.set_op(Op::NTT, parse_log2(value)?),
            "PARHELION_QUOTIENT_MIN_K" => self.thresholds.set_op(Op::QUOTIENT, parse_log2(value)?),
            "PARHELION_POLY_MIN_K" => self.thresholds.set_op(Op::POLY, parse_log2(value)?),
            "PARHELION_TABLE" => self.table = Some(value.into()),
            "PARHELION_MEMORY" => self.memory = Some(parse_bytes(value)?),
            "PARHELION_CHECK" => {
                self.checks = match parse_word(knob.kind, value)? {
                    "off" => Checks::OFF,
                    "full" => Checks::FULL,
                    _ => Checks::CHEAP,
                }
            }
            "PARHELION_READMIT" => self.readmit = Some(parse_count(value)?),
            "PARHELION_TRACE" => self.trace = Some(value.into()),
            "ENABLE_ICICLE_GPU" => self.enable_icicle_gpu = true,
            "ICICLE_SMALL_K" => self.icicle_small_k = Some(parse_log2(value)?),
            "HALO2_FFT_STATS" => self.fft_stats = parse_switch(value)?,
            "HALO2_USE_GPU_NTT" => self.use_gpu_ntt = parse_switch(value)?,
            _ => return Err("declared, but nothing reads it".into()),
        }
        Ok(())
    }

    /// Every knob with what it resolved to, in the order of [`KNOBS`], then those of backends.
    pub fn resolved(&self) -> Vec<Resolved> {
        let set = |name| self.raw.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        let all = KNOBS.iter().chain(&self.backends);
        all.map(|knob| Resolved { knob: *knob, set: set(knob.name) }).collect()
    }

    /// The policy that the variables ask for.
    pub fn policy(&self) -> Policy {
        let mut policy = Policy {
            thresholds: self.thresholds.clone(),
            checks: self.checks,
            memory: self.memory,
            ..Policy::default()
        };
        if let Some(seconds) = self.readmit {
            policy.readmit = (seconds > 0).then(|| Duration::from_secs(seconds as u64));
        }
        if let Some(choice) = &self.backend {
            policy.choice = choice.clone();
            return policy;
        }
        if self.enable_icicle_gpu {
            policy.choice = Choice::Prefer(Preference { names: vec![Name::new("icicle")], others: true });
            // ezkl's GPU takes lengths *above* 2^ICICLE_SMALL_K.
            let min_k = self.icicle_small_k.unwrap_or(8).saturating_add(1);
            policy.thresholds.min_k.get_or_insert(min_k);
        }
        if self.use_gpu_ntt {
            policy.accelerate.push(Op::NTT);
            if policy.thresholds.op(Op::NTT).is_none() {
                policy.thresholds.set_op(Op::NTT, HALO2_GPU_NTT_MIN_K);
            }
        }
        policy
    }
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resolved().iter().try_for_each(|resolved| writeln!(f, "{resolved}"))
    }
}

/// Whether somebody reads a variable.
fn is_declared(name: &str, backends: &[Knob]) -> bool {
    KNOBS.iter().chain(backends).any(|knob| knob.name == name) || ELSEWHERE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(set: &[(&str, &str)]) -> Result<Knobs, KnobError> {
        Knobs::from_source(&[], |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn every_declared_knob_is_read() {
        for knob in KNOBS {
            let value = match knob.kind {
                KnobKind::Backends => "cpu",
                KnobKind::Log2 | KnobKind::Count | KnobKind::Bytes => "7",
                KnobKind::Path => "some/where",
                KnobKind::Switch | KnobKind::Presence => "1",
                KnobKind::Word(words) => words[words.len() - 1],
            };
            let set = knobs(&[(knob.name, value)]).unwrap();
            assert_ne!(
                set,
                Knobs { raw: set.raw.clone(), ..Knobs::default() },
                "{} has no effect",
                knob.name
            );
            let line = set.resolved().into_iter().find(|r| r.knob.name == knob.name).unwrap();
            assert_eq!(line.set.as_deref(), Some(value));
        }
        assert!(knobs(&[]).unwrap().resolved().iter().all(|r| r.set.is_none()));
    }

    #[test]
    fn a_value_that_does_not_parse_names_the_variable_and_the_value() {
        for (name, value) in [
            ("PARHELION_BACKEND", "cpu,,icicle"),
            ("PARHELION_BACKEND", "CPU!"),
            ("PARHELION_MIN_K", "many"),
            ("PARHELION_MIN_K", "64"),
            ("PARHELION_MSM_MIN_K", "-1"),
            ("PARHELION_MIN_BATCH", "1.5"),
            ("PARHELION_MEMORY", "8X"),
            ("PARHELION_MEMORY", "lots"),
            ("PARHELION_MEMORY", "-1G"),
            ("PARHELION_MEMORY", "99999999999T"),
            ("PARHELION_CHECK", "maybe"),
            ("HALO2_USE_GPU_NTT", "2"),
        ] {
            let error = knobs(&[(name, value)]).unwrap_err();
            assert_eq!((error.name, error.value.as_str()), (name, value));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(value), "{text}");
        }
    }

    #[test]
    fn knobs_of_backends_are_declared_checked_and_listed() {
        const SIZE: Knob =
            Knob { name: "PARHELION_DEVICE_SIZE", kind: KnobKind::Bytes, default: "1G", doc: "its size" };
        let read =
            |value: &str| Knobs::from_source(&[SIZE], |name| (name == SIZE.name).then(|| value.into()));
        assert!(is_declared(SIZE.name, &[SIZE]) && !is_declared(SIZE.name, &[]));
        let listed = read("2G").unwrap().resolved();
        assert_eq!(listed.last().map(|r| (r.knob.name, r.set.as_deref())), Some((SIZE.name, Some("2G"))));
        assert_eq!(read("large").unwrap_err().name, SIZE.name);
    }

    #[test]
    fn a_single_name_forces_and_a_list_prefers() {
        assert_eq!(knobs(&[("PARHELION_BACKEND", "auto")]).unwrap().backend, Some(Choice::Auto));
        let forced = knobs(&[("PARHELION_BACKEND", "cuda:1")]).unwrap().backend;
        assert_eq!(forced, Some(Choice::Force(Name::indexed("cuda", 1))));
        let Some(Choice::Prefer(list)) = knobs(&[("PARHELION_BACKEND", "a, b,auto")]).unwrap().backend else {
            panic!("a list prefers");
        };
        assert_eq!(list, Preference { names: vec![Name::new("a"), Name::new("b")], others: true });
    }

    #[test]
    fn ezkl_and_distributed_zkml_find_their_variables() {
        let policy = knobs(&[("ENABLE_ICICLE_GPU", "false")]).unwrap().policy();
        assert!(matches!(&policy.choice, Choice::Prefer(p) if p.names == [Name::new("icicle")] && p.others));
        assert_eq!(policy.thresholds.min_k, Some(9), "lengths above 2^8");

        let policy = knobs(&[("ENABLE_ICICLE_GPU", ""), ("ICICLE_SMALL_K", "2")]).unwrap().policy();
        assert_eq!(policy.thresholds.min_k, Some(3));

        let policy = knobs(&[("ICICLE_SMALL_K", "2")]).unwrap().policy();
        assert_eq!(policy, Policy::default(), "a threshold of ezkl's GPU means nothing without it");

        let own = knobs(&[("ENABLE_ICICLE_GPU", "1"), ("PARHELION_BACKEND", "cpu")]).unwrap().policy();
        assert_eq!(own.choice, Choice::Force(Name::new("cpu")), "Parhelion's own variable wins");

        let policy = knobs(&[("HALO2_USE_GPU_NTT", "1")]).unwrap().policy();
        assert_eq!((policy.accelerate.as_slice(), policy.thresholds.op(Op::NTT)), (&[Op::NTT][..], Some(16)));
    }
}
