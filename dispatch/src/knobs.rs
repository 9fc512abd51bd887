//! Every environment variable that Parhelion reads, in one typed table.
//!
//! A variable is declared in [`KNOBS`] with its type, default and meaning, parsed once into [`Knobs`], and printed with what it
//! resolved to. A value that does not parse is an error that names the variable and the value: a typo is never a silent
//! default. An unset or empty variable is its default.
//!
//! Some variables belong to other projects whose users should find that they still work. ezkl chooses its GPU by the *presence*
//! of `ENABLE_ICICLE_GPU`, with the size threshold `ICICLE_SMALL_K`; distributed-zkml opts into GPU transforms by `HALO2_USE_GPU_NTT`
//! and prints transform statistics by `HALO2_FFT_STATS`. Parhelion's own variables win over them.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use parhelion_backend_api::hal::Op;

use crate::policy::{Checks, Choice, Name, Policy, Preference, Thresholds};

/// The type of a knob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnobKind {
    /// `auto`, one backend (`cuda` or `cuda:1`), or a comma-separated preference list.
    Backends,
    /// The base-2 logarithm of a length.
    Log2,
    /// A non-negative integer.
    Count,
    /// A number of bytes, with an optional suffix K, M, G or T (powers of 1024).
    Bytes,
    /// A path.
    Path,
    /// `1`, `true`, `on`, `yes` or `0`, `false`, `off`, `no`.
    Switch,
    /// Set or unset; the value is not looked at.
    Presence,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl fmt::Display for KnobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KnobKind::Backends => f.write_str("auto | NAME[:INDEX] | list"),
            KnobKind::Log2 => f.write_str("log2"),
            KnobKind::Count => f.write_str("count"),
            KnobKind::Bytes => f.write_str("bytes"),
            KnobKind::Path => f.write_str("path"),
            KnobKind::Switch => f.write_str("switch"),
            KnobKind::Presence => f.write_str("set | unset"),
            KnobKind::Word(words) => f.write_str(&words.join(" | ")),
        }
    }
}

/// Variables of this project that other rooms read: the key cache and model-suite's Python (command line), `create_proof`'s own check (prover),
/// data for tests.
const ELSEWHERE: [&str; 4] = ["PARHELION_CACHE", "PARHELION_PYTHON", "PARHELION_VERIFY", "PARHELION_SHARED"];

/// One declared environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    /// Name of the variable.
    pub name: &'static str,
    /// Type of its value.
    pub kind: KnobKind,
    /// What it is when unset, in words.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every environment variable that Parhelion reads, in the order in which reports list them.
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
        name: "PARHELION_TRACE",
        kind: KnobKind::Path,
        default: "none",
        doc: "file that receives every operation as a Chrome trace",
    },
    Knob {
        name: "PARHELION_CPU_ISA",
        kind: KnobKind::Word(&["auto", "scalar", "ifma"]),
        default: "auto",
        doc: "instruction set of the CPU backend",
    },
    Knob {
        name: "PARHELION_CPU_PRECOMPUTE",
        kind: KnobKind::Bytes,
        default: "0",
        doc: "memory for multiples of the reference string, which make multi-scalar multiplications on the CPU faster",
    },
    Knob {
        name: "PARHELION_ICICLE_LIB",
        kind: KnobKind::Path,
        default: "searched",
        doc: "directory of Icicle's front-end libraries",
    },
    Knob {
        name: "PARHELION_ICICLE_DEVICE",
        kind: KnobKind::Word(&["auto", "CUDA", "METAL", "VULKAN", "CPU"]),
        default: "auto",
        doc: "kind of Icicle's devices to offer; `auto` is every kind but its own slow CPU",
    },
    Knob {
        name: "PARHELION_ICICLE_TIMEOUT",
        kind: KnobKind::Count,
        default: "300",
        doc: "seconds after which a call of Icicle counts as hanging and its device as lost",
    },
    Knob {
        name: "PARHELION_ICICLE_PRECOMPUTE",
        kind: KnobKind::Bytes,
        default: "0",
        doc: "device memory for precomputed multiples of one set of bases",
    },
    Knob {
        name: "PARHELION_ICICLE_NTT_LOG_N",
        kind: KnobKind::Log2,
        default: "22",
        doc: "log2 of the length that Icicle's twiddle factors are made for at first",
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
        name: "ICICLE_BACKEND_INSTALL_DIR",
        kind: KnobKind::Path,
        default: "none",
        doc: "ezkl, Icicle: where Icicle's backend libraries are installed",
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
    /// `PARHELION_TRACE`.
    pub trace: Option<PathBuf>,
    /// `PARHELION_CPU_ISA`.
    pub cpu_isa: Option<String>,
    /// `PARHELION_CPU_PRECOMPUTE`, in bytes.
    pub cpu_precompute: Option<u64>,
    /// `PARHELION_ICICLE_LIB`.
    pub icicle_lib: Option<PathBuf>,
    /// `PARHELION_ICICLE_DEVICE`.
    pub icicle_device: Option<String>,
    /// `PARHELION_ICICLE_TIMEOUT`, in seconds.
    pub icicle_timeout: Option<usize>,
    /// `PARHELION_ICICLE_PRECOMPUTE`, in bytes.
    pub icicle_precompute: Option<u64>,
    /// `PARHELION_ICICLE_NTT_LOG_N`.
    pub icicle_ntt_log_n: Option<u32>,
    /// `ENABLE_ICICLE_GPU`.
    pub enable_icicle_gpu: bool,
    /// `ICICLE_SMALL_K`.
    pub icicle_small_k: Option<u32>,
    /// `ICICLE_BACKEND_INSTALL_DIR`.
    pub icicle_backend_install_dir: Option<PathBuf>,
    /// `HALO2_FFT_STATS`.
    pub fft_stats: bool,
    /// `HALO2_USE_GPU_NTT`.
    pub use_gpu_ntt: bool,
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
    /// Reads the environment of the process. Variables that begin with `PARHELION_` and are not declared get a warning, since
    /// they are likely misspelt.
    ///
    /// # Errors
    /// [`KnobError`] for the first value that does not parse.
    pub fn from_env() -> Result<Self, KnobError> {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let declared = KNOBS.iter().any(|k| k.name == name) || ELSEWHERE.contains(&&*name);
            if name.starts_with("PARHELION_") && !declared {
                tracing::warn!("{name} is not a variable that the engine knows");
            }
        }
        Self::from_source(|name| std::env::var_os(name))
    }

    /// Reads variables from any source: a map in tests, command-line overrides over the environment.
    ///
    /// # Errors
    /// As [`Knobs::from_env`].
    pub fn from_source(mut get: impl FnMut(&str) -> Option<OsString>) -> Result<Self, KnobError> {
        let mut knobs = Knobs::default();
        for knob in KNOBS {
            let Some(value) = get(knob.name) else { continue };
            let value = value.into_string().map_err(|value| KnobError {
                name: knob.name,
                value: value.to_string_lossy().into_owned(),
                why: "not valid Unicode".into(),
            })?;
            if value.trim().is_empty() && knob.kind != KnobKind::Presence {
                continue;
            }
            knobs.set(knob, value.trim()).map_err(|why| KnobError {
                name: knob.name,
                value: value.clone(),
                why,
            })?;
            knobs.raw.push((knob.name, value));
        }
        Ok(knobs)
    }

    fn set(&mut self, knob: &Knob, value: &str) -> Result<(), String> {
        match knob.name {
            "PARHELION_BACKEND" => self.backend = Some(value.parse()?),
            "PARHELION_MIN_K" => self.thresholds.min_k = Some(parse_log2(value)?),
            "PARHELION_MIN_BATCH" => self.thresholds.min_batch = Some(parse_count(value)?),
            "PARHELION_MSM_MIN_K" => self.thresholds.set_op(Op::Msm, parse_log2(value)?),
            "PARHELION_NTT_MIN_K" => self.thresholds.set_op(Op::Ntt, parse_log2(value)?),
            "PARHELION_QUOTIENT_MIN_K" => self.thresholds.set_op(Op::Quotient, parse_log2(value)?),
            "PARHELION_POLY_MIN_K" => self.thresholds.set_op(Op::Poly, parse_log2(value)?),
            "PARHELION_TABLE" => self.table = Some(value.into()),
            "PARHELION_MEMORY" => self.memory = Some(parse_bytes(value)?),
            "PARHELION_CHECK" => {
                self.checks = match parse_word(knob, value)? {
                    "off" => Checks::OFF,
                    "full" => Checks::FULL,
                    _ => Checks::CHEAP,
                }
            }
            "PARHELION_TRACE" => self.trace = Some(value.into()),
            "PARHELION_CPU_ISA" => self.cpu_isa = Some(parse_word(knob, value)?.to_owned()),
            "PARHELION_CPU_PRECOMPUTE" => self.cpu_precompute = Some(parse_bytes(value)?),
            "PARHELION_ICICLE_LIB" => self.icicle_lib = Some(value.into()),
            "PARHELION_ICICLE_DEVICE" => self.icicle_device = Some(parse_word(knob, value)?.to_owned()),
            "PARHELION_ICICLE_TIMEOUT" => self.icicle_timeout = Some(parse_count(value)?),
            "PARHELION_ICICLE_PRECOMPUTE" => self.icicle_precompute = Some(parse_bytes(value)?),
            "PARHELION_ICICLE_NTT_LOG_N" => self.icicle_ntt_log_n = Some(parse_log2(value)?),
            "ENABLE_ICICLE_GPU" => self.enable_icicle_gpu = true,
            "ICICLE_SMALL_K" => self.icicle_small_k = Some(parse_log2(value)?),
            "ICICLE_BACKEND_INSTALL_DIR" => self.icicle_backend_install_dir = Some(value.into()),
            "HALO2_FFT_STATS" => self.fft_stats = parse_switch(value)?,
            "HALO2_USE_GPU_NTT" => self.use_gpu_ntt = parse_switch(value)?,
            _ => return Err("declared, but nothing reads it".into()),
        }
        Ok(())
    }

    /// Every knob with what it resolved to, in the order of [`KNOBS`].
    pub fn resolved(&self) -> Vec<Resolved> {
        let set = |name| self.raw.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        KNOBS.iter().map(|knob| Resolved { knob: *knob, set: set(knob.name) }).collect()
    }

    /// The policy that the variables ask for.
    pub fn policy(&self) -> Policy {
        let mut policy = Policy {
            thresholds: self.thresholds.clone(),
            checks: self.checks,
            memory: self.memory,
            ..Policy::default()
        };
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
            policy.accelerate.push(Op::Ntt);
            if policy.thresholds.op(Op::Ntt).is_none() {
                policy.thresholds.set_op(Op::Ntt, HALO2_GPU_NTT_MIN_K);
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

fn parse_log2(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(k) if k <= 63 => Ok(k),
        _ => Err("expected an integer from 0 to 63".into()),
    }
}

fn parse_count(value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| "expected a non-negative integer".into())
}

fn parse_switch(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err("expected 1 or 0".into()),
    }
}

fn parse_word<'a>(knob: &Knob, value: &'a str) -> Result<&'a str, String> {
    match knob.kind {
        KnobKind::Word(words) if !words.contains(&value) => Err(format!("expected {}", words.join(", "))),
        _ => Ok(value),
    }
}

/// `4096`, `64K`, `512M`, `8G`, `8GiB`, `1.5G`: bytes in powers of 1024.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_bytes(value: &str) -> Result<u64, String> {
    let wrong = || "expected bytes, such as 4096, 512M or 8G".to_string();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = value[digits.len()..].to_ascii_uppercase();
    let shift = match suffix.strip_suffix("IB").or(suffix.strip_suffix('B')).unwrap_or(&suffix) {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = digits.trim().parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(|| "more than 2^64 bytes".into());
    }
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << shift) as f64;
    // 2^63 bounds what a double holds without surprises in the conversion.
    if number.is_finite() && number >= 0.0 && bytes < 9.2e18 { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(set: &[(&str, &str)]) -> Result<Knobs, KnobError> {
        Knobs::from_source(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
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
            ("PARHELION_CPU_ISA", "sse2"),
            ("PARHELION_CPU_PRECOMPUTE", "some"),
            ("HALO2_USE_GPU_NTT", "2"),
        ] {
            let error = knobs(&[(name, value)]).unwrap_err();
            assert_eq!((error.name, error.value.as_str()), (name, value));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(value), "{text}");
        }
    }

    #[test]
    fn bytes_have_suffixes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 64 << 10),
            ("512m", 512 << 20),
            ("8G", 8 << 30),
            ("8GiB", 8 << 30),
            ("8GB", 8 << 30),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
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
        assert_eq!((policy.accelerate.as_slice(), policy.thresholds.op(Op::Ntt)), (&[Op::Ntt][..], Some(16)));
    }
}
