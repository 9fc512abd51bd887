//! Errors of this backend's own: everything else is [`parhelion_backend_api::Error`].

use parhelion_backend_api::Error;

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The name is not one that this backend knows.
    #[error("{variable}={value}: unknown instruction set; known are `auto`, `scalar`, `ifma`")]
    Unknown {
        /// The environment variable that holds it.
        variable: &'static str,
        /// What it holds.
        value: String,
    },
    /// The machine lacks it.
    #[error("instruction set `{name}` is not available here: the processor or the build lacks {lacks}")]
    Unavailable {
        /// The instruction set.
        name: &'static str,
        /// The missing features.
        lacks: &'static str,
    },
}

/// The variable that bounds the memory for multiples of bases.
const PRECOMPUTE: &str = "PARHELION_CPU_PRECOMPUTE";

/// A value of `PARHELION_CPU_PRECOMPUTE` that is not a number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PRECOMPUTE}={value}: expected bytes, such as 4096, 512M or 8G")]
pub struct PrecomputeError {
    /// The value.
    pub value: String,
}

impl PrecomputeError {
    /// The bytes that the environment asks for: none if it says nothing.
    pub(crate) fn bytes_from_env() -> Result<u64, Self> {
        std::env::var_os(PRECOMPUTE).map_or(Ok(0), |value| Self::bytes(&value.to_string_lossy()))
    }

    /// `4096`, `64K`, `512M`, `8G`, `8GiB`, `1.5G`: bytes in powers of 1024. Nothing is none.
    fn bytes(value: &str) -> Result<u64, Self> {
        let text = value.trim();
        if text.is_empty() {
            return Ok(0);
        }
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[number.len()..].to_ascii_uppercase();
        let shift = match unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit) {
            "" => Some(0),
            "K" => Some(10),
            "M" => Some(20),
            "G" => Some(30),
            "T" => Some(40),
            _ => None,
        };
        let fraction = |shift: u32| {
            let bytes = number.trim().parse::<f64>().ok()? * (1u64 << shift) as f64;
            // What a double holds without surprises in the conversion.
            (0.0..9e18).contains(&bytes).then_some(bytes as u64)
        };
        let bytes = shift.and_then(|shift: u32| match number.trim().parse::<u64>() {
            Ok(number) => number.checked_mul(1 << shift),
            Err(_) => fraction(shift),
        });
        bytes.ok_or_else(|| PrecomputeError { value: value.to_owned() })
    }
}

impl From<PrecomputeError> for Error {
    fn from(error: PrecomputeError) -> Self {
        Error::Invalid { what: "memory for multiples of bases", why: error.to_string() }
    }
}

impl From<IsaError> for Error {
    fn from(error: IsaError) -> Self {
        Error::Invalid { what: "instruction set", why: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_parsed_strictly() {
        for (text, bytes) in [
            ("", 0),
            (" ", 0),
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            (" 2GiB ", 2 << 30),
            ("1tb", 1 << 40),
        ] {
            assert_eq!(PrecomputeError::bytes(text), Ok(bytes), "{text:?}");
        }
        for text in ["-1", "many", "8X", "1.5.G", "99999999T", "G", "0x10", "1 0"] {
            let error = PrecomputeError::bytes(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
