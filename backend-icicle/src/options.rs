//! What a user may choose, and the environment variables that choose it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use parhelion_backend_api::{Knob, KnobKind, parse_bytes};

/// Where Icicle installs itself unless told otherwise.
const INSTALL_DIR: &str = "/opt/icicle/lib";

/// The environment variables of the backend.
pub(crate) const KNOBS: &[Knob] = &[
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
        name: "ICICLE_BACKEND_INSTALL_DIR",
        kind: KnobKind::Path,
        default: "none",
        doc: "ezkl, Icicle: where Icicle's backend libraries are installed",
    },
];

/// Settings of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcicleOptions {
    /// Directory of `libicicle_device`, `libicicle_field_bn254` and `libicicle_curve_bn254`: `PARHELION_ICICLE_LIB`. Without it they are
    /// looked for next to and above the backend directory, in `/opt/icicle/lib`, and where the dynamic linker looks.
    pub library_dir: Option<PathBuf>,
    /// Directory of the device backends, searched recursively: `ICICLE_BACKEND_INSTALL_DIR`, as Icicle itself documents it, or else
    /// `/opt/icicle/lib/backend` where that exists.
    pub backend_dir: Option<PathBuf>,
    /// Kinds of device to offer, by Icicle's names, such as `CUDA`; `PARHELION_ICICLE_DEVICE` names one. Without it, or with `auto`,
    /// every registered kind but Icicle's own CPU, which is a correctness oracle and not an accelerator.
    pub devices: Option<Vec<String>>,
    /// How long one call may take before the device counts as lost: `PARHELION_ICICLE_TIMEOUT`, in seconds.
    pub timeout: Duration,
    /// Device memory that precomputed multiples of one set of bases may take, in bytes: `PARHELION_ICICLE_PRECOMPUTE`. Zero turns
    /// them off.
    pub precompute: u64,
    /// log₂ of the domain that an accelerator's twiddle factors are made for at first: `PARHELION_ICICLE_NTT_LOG_N`. It takes
    /// 32 bytes per element; a longer transform makes a longer domain.
    pub ntt_log_n: u32,
}

impl Default for IcicleOptions {
    fn default() -> Self {
        IcicleOptions {
            library_dir: None,
            backend_dir: None,
            devices: None,
            timeout: Duration::from_secs(300),
            precompute: 0,
            ntt_log_n: 22,
        }
    }
}

impl IcicleOptions {
    /// The settings of the process's environment.
    ///
    /// # Errors
    /// The variable that does not parse, and why, in words.
    pub fn from_env() -> Result<Self, String> {
        Self::from_source(|name| std::env::var_os(name))
    }

    /// The settings of any set of variables. Empty ones count as unset.
    ///
    /// # Errors
    /// As [`IcicleOptions::from_env`].
    pub fn from_source(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |name: &'static str| match set(name) {
            None => Ok(None),
            Some(value) => match value.into_string() {
                Ok(value) => Ok(Some((name, value.trim().to_owned()))),
                Err(value) => Err(format!("{name}={}: not valid Unicode", value.to_string_lossy())),
            },
        };
        let number = |name: &'static str, least: u64, most: u64| match text(name)? {
            None => Ok(None),
            Some((name, value)) => match value.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
                _ => Err(format!("{name}={value}: expected an integer from {least} to {most}")),
            },
        };
        let default = IcicleOptions::default();
        let devices = match text("PARHELION_ICICLE_DEVICE")? {
            Some((name, value)) if value.len() > 63 || value.contains(',') => {
                return Err(format!("{name}={value}: expected one of Icicle's names, such as CUDA"));
            }
            Some((_, value)) if value == "auto" => None,
            device => device.map(|(_, value)| vec![value]),
        };
        let precompute = match text("PARHELION_ICICLE_PRECOMPUTE")? {
            None => default.precompute,
            Some((name, value)) => parse_bytes(&value).map_err(|why| format!("{name}={value}: {why}"))?,
        };
        let ntt_log_n = number("PARHELION_ICICLE_NTT_LOG_N", 1, 28)?;
        Ok(IcicleOptions {
            library_dir: set("PARHELION_ICICLE_LIB").map(PathBuf::from),
            backend_dir: set("ICICLE_BACKEND_INSTALL_DIR").map(PathBuf::from),
            devices,
            timeout: number("PARHELION_ICICLE_TIMEOUT", 1, 86_400)?
                .map_or(default.timeout, Duration::from_secs),
            precompute,
            ntt_log_n: ntt_log_n.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.ntt_log_n),
        })
    }

    /// Where the three libraries of the front end may be, in the order in which they are tried. `None` stands for the dynamic
    /// linker's own search.
    pub(crate) fn library_dirs(&self) -> Vec<Option<PathBuf>> {
        if let Some(dir) = &self.library_dir {
            return vec![Some(dir.clone())];
        }
        let near =
            self.backend_dir.iter().flat_map(|dir| [Some(dir.clone()), dir.parent().map(PathBuf::from)]);
        near.chain([Some(PathBuf::from(INSTALL_DIR)), None])
            .filter(|dir| dir.as_ref().is_none_or(|dir| dir.is_dir()))
            .collect()
    }

    /// Where the device backends are, if anywhere.
    pub(crate) fn backend_dir(&self) -> Option<PathBuf> {
        let default = PathBuf::from(INSTALL_DIR).join("backend");
        self.backend_dir.clone().or_else(|| default.is_dir().then_some(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(set: &[(&str, &str)]) -> Result<IcicleOptions, String> {
        IcicleOptions::from_source(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn variables_set_every_option() {
        let set = options(&[
            ("PARHELION_ICICLE_LIB", "some/lib"),
            ("ICICLE_BACKEND_INSTALL_DIR", "some/backend"),
            ("PARHELION_ICICLE_DEVICE", "CUDA"),
            ("PARHELION_ICICLE_TIMEOUT", "7"),
            ("PARHELION_ICICLE_PRECOMPUTE", "1GiB"),
            ("PARHELION_ICICLE_NTT_LOG_N", "24"),
        ])
        .unwrap();
        let expected = IcicleOptions {
            library_dir: Some("some/lib".into()),
            backend_dir: Some("some/backend".into()),
            devices: Some(vec!["CUDA".into()]),
            timeout: Duration::from_secs(7),
            precompute: 1 << 30,
            ntt_log_n: 24,
        };
        assert_eq!(set, expected);
        assert_eq!(
            set.library_dirs(),
            [Some("some/lib".into())],
            "a directory that is named is the only one"
        );
        for unset in [("PARHELION_ICICLE_TIMEOUT", ""), ("PARHELION_ICICLE_DEVICE", "auto")] {
            assert_eq!(options(&[unset]), Ok(IcicleOptions::default()));
        }
    }

    #[test]
    fn a_value_that_does_not_parse_is_named() {
        for (name, value) in [
            ("PARHELION_ICICLE_TIMEOUT", "0"),
            ("PARHELION_ICICLE_TIMEOUT", "soon"),
            ("PARHELION_ICICLE_PRECOMPUTE", "-1"),
            ("PARHELION_ICICLE_NTT_LOG_N", "29"),
            ("PARHELION_ICICLE_PRECOMPUTE", "99999999T"),
            ("PARHELION_ICICLE_DEVICE", "CUDA,CPU"),
        ] {
            let error = options(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
