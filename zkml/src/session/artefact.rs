//! What the files of a proof hold.
//!
//! Real numbers appear as decimal strings, field elements as 64 hexadecimal digits of the canonical value, most significant first: one spelling
//! per value, and no rounding on the way.

use halo2curves::bn256::{Fr, G2Affine};
use serde::{Deserialize, Serialize};

use ff::PrimeField;

use super::error::SessionError;
use super::seal::{Kind, digest_hex, from_hex, seal_json, to_hex};
use crate::machine::poseidon::width;
use crate::machine::{Exposure, Part, Vis, Visibility};
use crate::onnx::checked_len;
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
    /// The ports of tensors that are private as far as is known.
    pub fn of(program: &Program, ids: &[TensorId]) -> Vec<Port> {
        Port::seen(program, ids.iter().map(|&id| (id, Vis::Private)))
    }

    /// The ports of tensors with their visibility.
    pub fn seen(program: &Program, ids: impl IntoIterator<Item = (TensorId, Vis)>) -> Vec<Port> {
        let one = |(id, visibility): (TensorId, Vis)| {
            let t = program.tensor(id);
            let (name, shape) = (t.name.clone(), t.shape.clone());
            Port { name, shape, scale: t.scale, lo: t.lo, hi: t.hi, visibility }
        };
        ids.into_iter().map(one).collect()
    }

    /// Inputs, parameters that a verifier learns something about, and outputs.
    pub(super) fn all(program: &Program, exposure: &Exposure) -> [Vec<Port>; 3] {
        let pairs =
            |ids: &[TensorId], vis: &[Vis]| ids.iter().copied().zip(vis.iter().copied()).collect::<Vec<_>>();
        let told = |vis: Vis| matches!(vis, Vis::Public | Vis::Hashed | Vis::Committed);
        [
            Port::seen(program, pairs(&program.inputs, &exposure.inputs)),
            Port::seen(program, exposure.params.iter().copied().filter(|(_, vis)| told(*vis))),
            Port::seen(program, pairs(&program.outputs, &exposure.outputs)),
        ]
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
}

/// What is proven, and how: everything a verifier must know besides the key and the proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Digest of the ONNX file.
    pub model_hash: String,
    /// Digest of the quantised model.
    pub program_hash: String,
    /// Digest of `circuit.bin`'s payload: the quantised model without its parameters (unless they are fixed), and the layout.
    pub circuit_hash: String,
    /// Digest of the verifying key's payload.
    pub vk_hash: String,
    /// Who sees what.
    pub visibility: Visibility,
    /// The model's inputs.
    pub inputs: Vec<Port>,
    /// Parameters that are public, hashed or committed, in the model's order.
    pub params: Vec<Port>,
    /// The model's outputs.
    pub outputs: Vec<Port>,
    /// Digest of the hashed parameters.
    pub params_digest: Option<String>,
    /// log₂ of the number of rows.
    pub k: u32,
    /// The reference string.
    pub srs: SrsMark,
}

impl Settings {
    /// Makes sure that every tensor has a number of elements and a unit.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        for port in [&self.inputs, &self.params, &self.outputs].into_iter().flatten() {
            let wrong =
                |why| SessionError::Mismatch { what: "settings", why: format!("`{}`: {why}", port.name) };
            checked_len(&port.shape).map_err(|e| wrong(e.to_string()))?;
            if port.scale.unsigned_abs() > MAX_SCALE {
                return Err(wrong(format!("a scale of {}", port.scale)));
            }
        }
        Ok(())
    }

    /// Digest of the contents: what a proof names.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn hash(&self) -> Result<String, SessionError> {
        let text = seal_json(Kind::Settings, self)
            .map_err(|why| SessionError::Mismatch { what: "settings", why })?;
        Ok(digest_hex(&[text.as_bytes()]))
    }
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

impl Settings {
    /// Hashed or committed tensors in the order of the instance or the proof, each with its ports: one, or all parameters.
    pub(super) fn disclosed(&self, wanted: Vis) -> Vec<(Part, String, Vec<&Port>)> {
        let mut out = Vec::new();
        for (part, ports) in
            [(Part::Input, &self.inputs), (Part::Params, &self.params), (Part::Output, &self.outputs)]
        {
            let members = ports.iter().filter(|p| p.visibility == wanted);
            match part {
                Part::Params => {
                    let members: Vec<&Port> = members.collect();
                    if !members.is_empty() {
                        out.push((part, part.name().to_owned(), members));
                    }
                }
                _ => out.extend(members.map(|p| (part, p.name.clone(), vec![p]))),
            }
        }
        out
    }
}

/// A proof with its public values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFile {
    /// Version of this crate that wrote it.
    pub version: String,
    /// Digest of the ONNX file.
    pub model_hash: String,
    /// Digest of the settings.
    pub settings_hash: String,
    /// How far the reference string is trusted.
    pub srs: Security,
    /// The proof.
    pub proof: String,
    /// The public values, one list per instance column.
    pub instances: Vec<Vec<String>>,
    /// The outputs as real numbers, an empty list for one that is not public; no lists where none is.
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

/// The real number that an element stands for, in the shortest spelling that reads back as the same `f64`.
pub fn real_text(element: i64, scale: i32) -> String {
    format!("{:?}", element as f64 * (-f64::from(scale)).exp2())
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
        assert_eq!(real_text(5, -2), "20.0");
    }
}
