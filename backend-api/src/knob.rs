//! Environment variables, as the crates that read them declare them.

use std::fmt;

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

impl Knob {
    /// Whether a value is of the knob's type.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            KnobKind::Backends | KnobKind::Path | KnobKind::Presence => Ok(()),
            KnobKind::Log2 => parse_log2(value).map(drop),
            KnobKind::Count => parse_count(value).map(drop),
            KnobKind::Bytes => parse_bytes(value).map(drop),
            KnobKind::Switch => parse_switch(value).map(drop),
            KnobKind::Word(_) => parse_word(self.kind, value).map(drop),
        }
    }
}

/// A base-2 logarithm.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_log2(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(k) if k <= 63 => Ok(k),
        _ => Err("expected an integer from 0 to 63".into()),
    }
}

/// A non-negative integer.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_count(value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| "expected a non-negative integer".into())
}

/// `1`, `true`, `on`, `yes`, or `0`, `false`, `off`, `no`.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_switch(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err("expected 1 or 0".into()),
    }
}

/// One of the words of a [`KnobKind::Word`].
///
/// # Errors
/// The words.
pub fn parse_word(kind: KnobKind, value: &str) -> Result<&str, String> {
    match kind {
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
}
