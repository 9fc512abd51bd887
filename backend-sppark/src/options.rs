//! What a user may choose, and the environment variables that choose it.

use std::ffi::OsString;
use std::time::Duration;

use parhelion_backend_api::{Knob, KnobKind, parse_bytes};

/// The environment variables of the backend.
pub(crate) const KNOBS: &[Knob] = &[
    Knob {
        name: "PARHELION_SPPARK_MEMORY",
        kind: KnobKind::Bytes,
        default: "nine tenths of what is free",
        doc: "most bytes of a card's memory to use",
    },
    Knob {
        name: "PARHELION_SPPARK_RADIX",
        kind: KnobKind::Count,
        default: "by the card",
        doc: "log2 of the radix of a pass of a transform, 1 to 4",
    },
    Knob {
        name: "PARHELION_SPPARK_TIMEOUT",
        kind: KnobKind::Count,
        default: "60",
        doc: "seconds after which a card that does not answer counts as lost",
    },
    Knob {
        name: "PARHELION_SPPARK_PRECOMPUTE",
        kind: KnobKind::Bytes,
        default: "0",
        doc: "memory of a card for multiples of the reference string, which make multi-scalar multiplications faster",
    },
];

/// Settings of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpparkOptions {
    /// Most bytes of a device's memory to use: `PARHELION_SPPARK_MEMORY`, such as `8G`. Without it, nine tenths of what is free when
    /// the device is opened.
    pub memory: Option<u64>,
    /// log₂ of the radix of a pass of a transform, 1 to 4: `PARHELION_SPPARK_RADIX`. More takes more registers and fewer passes.
    pub radix: Option<u32>,
    /// How long the host waits for the device before it counts as hanging and is given up: `PARHELION_SPPARK_TIMEOUT`, in seconds, 60 by default.
    pub timeout: Duration,
    /// Most bytes of device memory for multiples of bases that are used often, 0 for none: `PARHELION_SPPARK_PRECOMPUTE`, such as `2G`. The tables
    /// are 2, 4 or 8 times as large as the bases, whichever fits first from above.
    pub precompute: u64,
}

impl Default for SpparkOptions {
    fn default() -> Self {
        SpparkOptions { memory: None, radix: None, timeout: Duration::from_secs(60), precompute: 0 }
    }
}

impl SpparkOptions {
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
    /// As [`SpparkOptions::from_env`].
    pub fn from_source(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let text = |name: &'static str| match get(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.into_string() {
                Ok(value) => Ok(Some((name, value.trim().to_owned()))),
                Err(value) => Err(format!("{name}={}: not valid Unicode", value.to_string_lossy())),
            },
        };
        let memory = match text("PARHELION_SPPARK_MEMORY")? {
            None => None,
            Some((name, value)) => {
                let bytes = parse_bytes(&value).ok().filter(|bytes| *bytes > 0);
                Some(bytes.ok_or_else(|| format!("{name}={value}: expected bytes, such as 512M or 8G"))?)
            }
        };
        let radix = match text("PARHELION_SPPARK_RADIX")? {
            None => None,
            Some((name, value)) => match value.parse::<u32>() {
                Ok(radix @ 1..=4) => Some(radix),
                _ => return Err(format!("{name}={value}: expected an integer from 1 to 4")),
            },
        };
        let default = SpparkOptions::default();
        let timeout = match text("PARHELION_SPPARK_TIMEOUT")? {
            None => default.timeout,
            Some((name, value)) => match value.parse::<u64>() {
                Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                _ => return Err(format!("{name}={value}: expected an integer from 1 to 86400")),
            },
        };
        let precompute = match text("PARHELION_SPPARK_PRECOMPUTE")? {
            None => default.precompute,
            Some((name, value)) => parse_bytes(&value).map_err(|why| format!("{name}={value}: {why}"))?,
        };
        Ok(SpparkOptions { memory, radix, timeout, precompute })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(set: &[(&str, &str)]) -> Result<SpparkOptions, String> {
        SpparkOptions::from_source(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn variables_set_every_option() {
        let set = options(&[
            ("PARHELION_SPPARK_MEMORY", "8GiB"),
            ("PARHELION_SPPARK_RADIX", "4"),
            ("PARHELION_SPPARK_TIMEOUT", "7"),
            ("PARHELION_SPPARK_PRECOMPUTE", "1G"),
        ]);
        let timeout = Duration::from_secs(7);
        let expected = SpparkOptions { memory: Some(8 << 30), radix: Some(4), timeout, precompute: 1 << 30 };
        assert_eq!(set, Ok(expected));
        assert_eq!(options(&[("PARHELION_SPPARK_MEMORY", "")]), Ok(SpparkOptions::default()));
    }

    #[test]
    fn a_value_that_does_not_parse_is_named() {
        for (name, value) in [
            ("PARHELION_SPPARK_MEMORY", "0"),
            ("PARHELION_SPPARK_MEMORY", "much"),
            ("PARHELION_SPPARK_MEMORY", "99999999T"),
            ("PARHELION_SPPARK_RADIX", "5"),
            ("PARHELION_SPPARK_RADIX", "-1"),
            ("PARHELION_SPPARK_TIMEOUT", "0"),
            ("PARHELION_SPPARK_PRECOMPUTE", "lots"),
        ] {
            let error = options(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
