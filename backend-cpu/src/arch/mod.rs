//! The instruction sets, and the choice between them.

pub(crate) mod generic;
#[cfg(target_arch = "x86_64")]
pub(crate) mod ifma;
pub(crate) mod points;

use crate::IsaError;

/// An instruction set that kernels are written for. A closed set: each value names one complete set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust on 64-bit words.
    Scalar,
    /// AVX-512 with IFMA and VBMI2 (Ice Lake, Zen 4 and later): eight field elements at a time, five limbs of 52 bits.
    Ifma,
}

/// The knob that forces an instruction set.
pub(crate) const KNOB: &str = "PARHELION_CPU_ISA";

impl Isa {
    /// The name used in the knob `PARHELION_CPU_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Ifma => "ifma",
        }
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Ifma => {
                #[cfg(target_arch = "x86_64")]
                {
                    is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512ifma")
                        && is_x86_feature_detected!("avx512vbmi2")
                }
                #[cfg(not(target_arch = "x86_64"))]
                {
                    false
                }
            }
        }
    }

    /// The fastest that this machine can run.
    pub fn best() -> Self {
        if Isa::Ifma.is_available() { Isa::Ifma } else { Isa::Scalar }
    }

    /// Every instruction set that this machine can run, portable first.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Scalar, Isa::Ifma].into_iter().filter(|isa| isa.is_available())
    }

    /// `self`, if this machine can run it.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`].
    pub fn check(self) -> Result<Self, IsaError> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(IsaError::Unavailable { name: self.name(), lacks: "AVX-512 F, DQ, BW, VL, IFMA and VBMI2" })
        }
    }

    /// The instruction set that the value of the knob asks for; `None` or `auto` is the fastest.
    ///
    /// # Errors
    /// [`IsaError`] for an unknown name, or one that this machine cannot run.
    pub fn parse(value: Option<&str>) -> Result<Self, IsaError> {
        match value {
            None | Some("auto") => Ok(Isa::best()),
            Some("scalar") => Ok(Isa::Scalar),
            Some("ifma") => Isa::Ifma.check(),
            Some(other) => Err(IsaError::Unknown { variable: KNOB, value: other.to_owned() }),
        }
    }

    /// The instruction set that the environment asks for.
    ///
    /// # Errors
    /// As [`Isa::parse`].
    pub fn from_env() -> Result<Self, IsaError> {
        let value = std::env::var_os(KNOB).map(|value| value.to_string_lossy().into_owned());
        Isa::parse(value.as_deref())
    }
}

/// An instruction set that is known to be there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kernels {
    /// [`Isa::Scalar`].
    Scalar,
    /// [`Isa::Ifma`].
    #[cfg(target_arch = "x86_64")]
    Ifma(ifma::Token),
}

impl Kernels {
    /// The kernels of an instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`].
    pub(crate) fn new(isa: Isa) -> Result<Self, IsaError> {
        match isa.check()? {
            #[cfg(target_arch = "x86_64")]
            Isa::Ifma => ifma::Token::new().map(Kernels::Ifma),
            _ => Ok(Kernels::Scalar),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knob_is_parsed_strictly() {
        assert_eq!(Isa::parse(None), Ok(Isa::best()));
        assert_eq!(Isa::parse(Some("auto")), Ok(Isa::best()));
        assert_eq!(Isa::parse(Some("scalar")), Ok(Isa::Scalar));
        assert_eq!(Isa::parse(Some("ifma")).is_ok(), Isa::Ifma.is_available());
        for wrong in ["", "avx2", "IFMA", "scalar "] {
            assert!(matches!(Isa::parse(Some(wrong)), Err(IsaError::Unknown { .. })), "{wrong:?}");
        }
    }
}
