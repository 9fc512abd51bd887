//! What the files of a proof hold.
//!
//! Real numbers appear as decimal strings, field elements as 64 hexadecimal digits of the canonical value, most significant first: one spelling
//! per value, and no rounding on the way.

use halo2curves::bn256::{Fr, G2Affine};
use serde::{Deserialize, Serialize};

use ff::PrimeField;

use super::circuit::Named;
use super::error::SessionError;
use super::seal::{from_hex, to_hex};
use crate::machine::poseidon::width;
use crate::machine::{Part, Vis};
use crate::onnx::{DType, checked_len};
use crate::qir::{Program, TensorId};

/// Greatest magnitude of a scale: the units from there on are no `f64`.
const MAX_SCALE: u32 = 1000;

/// How far a reference string is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Its secret is known: proofs convince nobody.
    Insecure,
    /// A public ceremony's, recognised by its `[τ]G2`.
    Ceremony,
    /// The verifier's own file.
    Own,
    /// Whatever its file says that it is: a claim.
    Claimed,
}

impl Security {
    /// Whether a verifier need not take anybody's word for it.
    pub fn is_secure(self) -> bool {
        matches!(self, Security::Ceremony | Security::Own)
    }
}

impl std::fmt::Display for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Security::Insecure => "insecure",
            Security::Ceremony => "of a ceremony",
            Security::Own => "the verifier's own",
            Security::Claimed => "claimed",
        })
    }
}

/// Which reference string an artefact is under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SrsMark {
    /// How far it is trusted.
    pub security: Security,
    /// The ceremony's name, or why there is none.
    pub origin: String,
    /// Digest of the string at this k.
    pub digest: String,
    /// `[τ]G2`, uncompressed: all that a verifier needs of the string.
    pub s_g2: String,
}

/// One input, output or parameter of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name in the ONNX file.
    pub name: String,
    /// Element type in the ONNX file; none for a parameter.
    pub dtype: Option<DType>,
    /// Shape.
    pub shape: Vec<usize>,
    /// Real value = element / 2^scale.
    pub scale: i32,
    /// Least element.
    pub lo: i64,
    /// Greatest element.
    pub hi: i64,
    /// Who sees it.
    pub visibility: Vis,
}

impl Port {
    /// A tensor of a program, as an input or output of the ONNX file or as a parameter.
    pub(super) fn new(program: &Program, id: TensorId, named: Option<&Named>, visibility: Vis) -> Port {
        let t = program.tensor(id);
        let name = named.map_or(&t.name, |n| &n.name).clone();
        let dtype = named.map(|n| n.dtype);
        Port { name, dtype, shape: t.shape.clone(), scale: t.scale, lo: t.lo, hi: t.hi, visibility }
    }

    /// The ports of tensors that are private as far as is known.
    pub fn of(program: &Program, ids: &[TensorId]) -> Vec<Port> {
        Port::seen(program, ids.iter().map(|&id| (id, Vis::Private)))
    }

    /// The ports of tensors with their visibility.
    pub fn seen(program: &Program, ids: impl IntoIterator<Item = (TensorId, Vis)>) -> Vec<Port> {
        ids.into_iter().map(|(id, vis)| Port::new(program, id, None, vis)).collect()
    }

    /// Width of an element in a digest, in bits.
    pub fn width(&self) -> u32 {
        width(self.lo, self.hi)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that there is a number of elements, and a unit.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let wrong = |why| SessionError::Mismatch {
            what: "circuit",
            why: format!("`{}`: {why}", printable(&self.name)),
        };
        checked_len(&self.shape).map_err(|e| wrong(e.to_string()))?;
        if self.scale.unsigned_abs() > MAX_SCALE {
            return Err(wrong(format!("a scale of {}", self.scale)));
        }
        Ok(())
    }
}

/// Where the ranges of a circuit are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeSource {
    /// Samples, or a calibration that was made of some.
    Samples,
    /// The private input that is proven: the circuit's bounds are powers of two that depend on it.
    PrivateInput,
    /// The public input that is proven.
    PublicInput,
    /// Evenly spread values.
    Default,
}

/// What a maker says of a circuit: which files belong together, and claims that nothing proves. What is proven is in the circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Digest of the statement, see [`super::Statement`].
    pub statement: String,
    /// Digest of `circuit.bin`'s payload: the quantised model without its parameters (unless they are fixed), and the layout.
    pub circuit_hash: String,
    /// Digest of the verifying key's payload.
    pub vk_hash: String,
    /// Digest of the hashed parameters.
    pub params_digest: Option<String>,
    /// Digest of the ONNX file; none where it would be a digest of parameters that are not shown.
    pub model_hash: Option<String>,
    /// Where the ranges are from.
    pub ranges: RangeSource,
    /// Difference from the float model that was accepted, as a part of the largest output; none where the default bound holds.
    pub accepted_error: Option<String>,
    /// The reference string.
    pub srs: SrsMark,
}

impl Settings {
    /// Makes sure that every digest is one.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let always = [&self.statement, &self.circuit_hash, &self.vk_hash, &self.srs.digest];
        let told = [&self.params_digest, &self.model_hash].into_iter().flatten();
        if always.into_iter().chain(told).all(|h| is_digest(h)) {
            return Ok(());
        }
        let why = "a digest is not 64 hexadecimal digits".to_owned();
        Err(SessionError::Mismatch { what: "settings", why })
    }
}

/// Whether a text is 64 lower-case hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && from_hex(text).is_some()
}

/// What only the prover keeps of a setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProverNotes {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Digest of the ONNX file.
    pub model_hash: String,
    /// Digest of the quantised model, parameters included.
    pub program_hash: String,
}

/// What a proof says about a tensor, or about all parameters of one kind, without saying the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disclosed {
    /// The group.
    pub part: Part,
    /// Its name in the ONNX file; that of the group for parameters.
    pub name: String,
    /// [`Vis::Hashed`] or [`Vis::Committed`].
    pub visibility: Vis,
    /// The digest, as a field element; or the commitments of its columns, 64 digits each, as in the proof.
    pub value: String,
}

/// A proof with its public values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFile {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Digest of the statement that is proven.
    pub statement: String,
    /// How far the reference string is trusted.
    pub srs: Security,
    /// The proof.
    pub proof: String,
    /// The public values and digests, and last the value that binds the proof to its statement and context.
    pub instances: Vec<Vec<String>>,
    /// The outputs as decimal numbers, an empty list for one that is not public; no lists where none is.
    pub outputs: Vec<Vec<String>>,
}

/// The integer values of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessFile {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Digest of the ONNX file.
    pub model_hash: String,
    /// Digest of the quantised model.
    pub program_hash: String,
    /// Every input's elements.
    pub inputs: Vec<Vec<i64>>,
    /// Every output's elements.
    pub outputs: Vec<Vec<i64>>,
    /// Outputs as real numbers.
    pub output_values: Vec<Vec<String>>,
}

/// 64 hexadecimal digits, most significant first.
pub fn scalar_to_hex(value: &Fr) -> String {
    let mut bytes = value.to_repr();
    bytes.as_mut().reverse();
    to_hex(bytes.as_ref())
}

/// Reads [`scalar_to_hex`]; `None` for anything but a canonical value.
pub fn scalar_from_hex(text: &str) -> Option<Fr> {
    let mut bytes: [u8; 32] = from_hex(text)?.try_into().ok()?;
    bytes.reverse();
    Fr::from_repr(bytes).into_option()
}

/// The number that an element stands for, exactly: an integer where the scale leaves no fraction, else the shortest spelling that reads back as
/// the same `f64` where that is the number itself.
pub fn real_text(element: i64, scale: i32) -> String {
    if scale <= 0 {
        let shift = scale.unsigned_abs();
        if shift <= 64 {
            return (i128::from(element) << shift).to_string();
        }
    } else if element.unsigned_abs() >= 1 << 53 && scale <= 64 {
        return fraction_text(element, scale.unsigned_abs());
    }
    format!("{:?}", element as f64 * (-f64::from(scale)).exp2())
}

/// All decimal digits of `element / 2^bits`, at most 64 bits.
fn fraction_text(element: i64, bits: u32) -> String {
    let magnitude = u128::from(element.unsigned_abs());
    let mask = (1u128 << bits) - 1;
    let mut rest = magnitude & mask;
    let mut text = format!("{}{}.", if element < 0 { "-" } else { "" }, magnitude >> bits);
    loop {
        rest *= 10;
        text.push(char::from(b'0' + (rest >> bits) as u8));
        rest &= mask;
        if rest == 0 {
            return text;
        }
    }
}

/// A name for people: what could steer a terminal, break a line or reverse its direction is spelled out.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '\\' => out.push_str("\\\\"),
            c if steers => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// A point of G2 as its uncompressed bytes.
pub(super) fn g2_to_hex(point: &G2Affine) -> String {
    use halo2_axiom::SerdeCurveAffine;
    let mut bytes = Vec::new();
    // Writing to a vector does not fail.
    let _ = point.write(&mut bytes, halo2_axiom::SerdeFormat::RawBytes);
    to_hex(&bytes)
}

/// Reads [`g2_to_hex`]; `None` for anything but a point of the prime-order subgroup.
pub(super) fn g2_from_hex(text: &str) -> Option<G2Affine> {
    use group::cofactor::CofactorGroup;
    use halo2_axiom::SerdeCurveAffine;
    let bytes = from_hex(text)?;
    let point = G2Affine::read(&mut bytes.as_slice(), halo2_axiom::SerdeFormat::RawBytes).ok()?;
    let whole = g2_to_hex(&point) == text;
    let in_subgroup: bool = halo2curves::bn256::G2::from(point).is_torsion_free().into();
    (whole && in_subgroup).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff::Field;

    #[test]
    fn scalars_have_one_spelling() {
        let minus_one = scalar_to_hex(&-Fr::ONE);
        assert_eq!(minus_one, "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000000");
        assert_eq!(scalar_from_hex(&minus_one), Some(-Fr::ONE));
        let modulus = "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001";
        assert_eq!(scalar_from_hex(modulus), None);
        assert_eq!(scalar_from_hex("01"), None);
    }

    #[test]
    fn g2_points_are_checked() {
        let text = g2_to_hex(&G2Affine::generator());
        assert_eq!(g2_from_hex(&text), Some(G2Affine::generator()));
        let mut other = text.clone().into_bytes();
        other[5] = if other[5] == b'0' { b'1' } else { b'0' };
        assert_eq!(g2_from_hex(std::str::from_utf8(&other).unwrap()), None);
        assert_eq!(g2_from_hex(&text[..text.len() - 2]), None);
    }

    #[test]
    fn reals_are_exact() {
        assert_eq!(real_text(3, 1), "1.5");
        assert_eq!(real_text(-1, 13), "-0.0001220703125");
        assert_eq!(real_text(5, -2), "20");
        assert_eq!(real_text(9_007_199_254_740_993, 0), "9007199254740993");
        assert_eq!(real_text(i64::MIN, 0), "-9223372036854775808");
        assert_eq!(real_text(-9_007_199_254_740_993, 1), "-4503599627370496.5");
        assert_eq!(
            real_text((1 << 60) + 1, 60),
            "1.000000000000000000867361737988403547205962240695953369140625"
        );
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("input/x:0 é"), "input/x:0 é");
        assert_eq!(printable("a\n\x1b[2Jb\u{9b}"), "a\\u{a}\\u{1b}[2Jb\\u{9b}");
        assert_eq!(printable("a\u{202e}b\\u{a}"), "a\\u{202e}b\\\\u{a}");
    }
}
