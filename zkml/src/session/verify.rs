//! Checking a proof from files.

use std::path::PathBuf;

use ff::PrimeField;
use halo2curves::bn256::Fr;
use parhelion_prover::VerifyingKey;

use super::artefact::{
    Disclosed, Port, ProofFile, Security, Settings, g2_from_hex, g2_to_hex, real_text, scalar_from_hex,
    scalar_to_hex,
};
use super::circuit::{self, Shape};
use super::disk::read_limited;
use super::error::{FileError, SessionError};
use super::seal::{Kind, digest_hex, from_hex, read_binary, read_json, to_hex};
use super::srs::{believed, read_srs};
use super::store::{VK_LIMIT, decode};
use crate::exec;
use crate::machine::commitment::of_proof;
use crate::machine::{Part, Vis};

/// What a verified proof says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// How far the reference string is to be trusted.
    pub security: Security,
    /// Digest of the ONNX file that the settings name.
    pub model_hash: String,
    /// The public values.
    pub instances: Vec<Vec<Fr>>,
    /// The outputs as real numbers, recomputed from the public values; an empty list for one that is not public.
    pub outputs: Vec<Vec<String>>,
    /// Digests and commitments of tensors.
    pub disclosed: Vec<Disclosed>,
}

/// What a verifier is given.
#[derive(Clone, Debug)]
pub struct Files {
    /// The settings, from a place that the verifier trusts.
    pub settings: PathBuf,
    /// The circuit's shape; the settings name its digest.
    pub circuit: PathBuf,
    /// The verifying key; the settings name its digest.
    pub vk: PathBuf,
    /// The proof.
    pub proof: PathBuf,
    /// A reference string that the settings must be under.
    pub srs: Option<PathBuf>,
}

/// Verifies a proof from its files.
///
/// # Errors
/// [`SessionError::File`] for a file that is missing or damaged, [`SessionError::Mismatch`] for files that do not belong together,
/// [`SessionError::Rejected`] for a proof that is not valid, [`SessionError::InsecureSrs`] when `require_secure` is set and the reference string is
/// not from a ceremony.
pub fn verify(files: &Files, require_secure: bool) -> Result<Verdict, SessionError> {
    let settings: Settings = read_json(&files.settings, Kind::Settings)?;
    let proof: ProofFile = read_json(&files.proof, Kind::Proof)?;
    let own = files.srs.as_deref().map(read_srs).transpose()?;
    if let (Some(own), Some(path)) = (&own, &files.srs)
        && g2_to_hex(&own.s_g2()) != settings.srs.s_g2
    {
        let why = format!("the settings are under another one than {}", path.display());
        return Err(SessionError::Mismatch { what: "reference string", why });
    }
    let security = believed(&settings.srs, own.as_ref())?;
    if require_secure && !security.is_secure() {
        return Err(SessionError::InsecureSrs(security, settings.srs.origin));
    }
    let named = |what: &'static str, path: &PathBuf, bytes: &[u8], digest: &str| {
        if digest_hex(&[bytes]) == digest {
            return Ok(());
        }
        let why = format!("{} is not the one that {} names", path.display(), files.settings.display());
        Err(SessionError::Mismatch { what, why })
    };
    let vk_bytes = read_limited(&files.vk, VK_LIMIT)?;
    named("verifying key", &files.vk, &vk_bytes, &settings.vk_hash)?;
    let circuit_bytes = read_binary(&files.circuit, Kind::Circuit)?;
    named("circuit", &files.circuit, &circuit_bytes, &settings.circuit_hash)?;
    let shape: Shape = decode(&files.circuit, &circuit_bytes)?;
    exec::check_open(shape.program()).map_err(|e| FileError::malformed(&files.circuit, e))?;
    let vk = circuit::read_vk(&vk_bytes, settings.k, shape.params()?)
        .map_err(|why| FileError::malformed(&files.vk, why))?;
    let verdict = verify_with(&settings, &vk, &vk_bytes, &proof)?;
    Ok(Verdict { security, ..verdict })
}

/// [`verify`] from values.
pub(super) fn verify_with(
    settings: &Settings,
    vk: &VerifyingKey,
    vk_bytes: &[u8],
    file: &ProofFile,
) -> Result<Verdict, SessionError> {
    let mismatch = |what, why: &str| SessionError::Mismatch { what, why: why.to_owned() };
    settings.check()?;
    if digest_hex(&[vk_bytes]) != settings.vk_hash {
        return Err(mismatch("verifying key", "its digest differs"));
    }
    if file.settings_hash != settings.hash()? || file.model_hash != settings.model_hash {
        return Err(mismatch("proof", "it names other settings"));
    }
    if vk.get_domain().k() != settings.k {
        return Err(mismatch("verifying key", "it is for another k"));
    }
    let security = believed(&settings.srs, None)?;
    if file.srs != settings.srs.security {
        return Err(mismatch("proof", "it names another kind of reference string"));
    }
    let bytes = from_hex(&file.proof).ok_or_else(|| mismatch("proof", "it is not hexadecimal"))?;
    let instances: Option<Vec<Vec<Fr>>> =
        file.instances.iter().map(|c| c.iter().map(|v| scalar_from_hex(v)).collect()).collect();
    let instances = instances.ok_or_else(|| mismatch("proof", "a public value is not canonical"))?;
    let s_g2 = g2_from_hex(&settings.srs.s_g2)
        .ok_or_else(|| mismatch("settings", "the reference string's point is not valid"))?;
    circuit::verify(settings.k, s_g2, vk, &instances, &bytes)?;
    let (outputs, mut disclosed) = public_values(settings, &instances)?;
    disclosed.extend(commitments(settings, &bytes)?);
    if outputs != file.outputs {
        return Err(mismatch("proof", "its outputs are not those of its public values"));
    }
    Ok(Verdict { security, model_hash: settings.model_hash.clone(), instances, outputs, disclosed })
}

/// What the instance says: public outputs as real numbers, and digests. Public inputs and outputs must be within their tensors' bounds: the circuit
/// admits a little more, so that a limb is the whole of a range.
fn public_values(
    settings: &Settings,
    instances: &[Vec<Fr>],
) -> Result<(Vec<Vec<String>>, Vec<Disclosed>), SessionError> {
    let values: &[Fr] = instances.first().map_or(&[], Vec::as_slice);
    let public =
        |ports: &'_ [Port]| ports.iter().filter(|p| p.visibility == Vis::Public).cloned().collect::<Vec<_>>();
    let count = |ports: &[Port]| ports.iter().map(Port::len).sum::<usize>();
    let hashed = settings.disclosed(Vis::Hashed);
    let [inputs, params, outputs] =
        [&settings.inputs, &settings.params, &settings.outputs].map(|p| public(p));
    let expected = count(&inputs) + count(&params) + count(&outputs) + hashed.len();
    if instances.len() > 1 || values.len() != expected {
        let why =
            format!("{} public values are not those of the settings, which are {expected}", values.len());
        return Err(SessionError::Rejected(why));
    }
    let (own, rest) = values.split_at_checked(count(&inputs)).unwrap_or_default();
    elements(&inputs, own)?;
    let (own, rest) = rest.split_at_checked(count(&params)).unwrap_or_default();
    elements(&params, own)?;
    let (own, digests) = rest.split_at_checked(count(&outputs)).unwrap_or_default();
    let mut found = elements(&outputs, own)?.into_iter();
    let mut real = Vec::new();
    for port in settings.outputs.iter().filter(|_| !outputs.is_empty()) {
        let own = if port.visibility == Vis::Public { found.next().unwrap_or_default() } else { Vec::new() };
        real.push(own.into_iter().map(|e| real_text(e, port.scale)).collect());
    }
    let disclosed: Vec<Disclosed> = hashed
        .into_iter()
        .zip(digests)
        .map(|((part, name, _), digest)| Disclosed {
            part,
            name,
            visibility: Vis::Hashed,
            value: scalar_to_hex(digest),
        })
        .collect();
    let params = disclosed.iter().find(|d| d.part == Part::Params).map(|d| &d.value);
    if params != settings.params_digest.as_ref() {
        let why = "the digest of the parameters is not the one in the settings".to_owned();
        return Err(SessionError::Rejected(why));
    }
    Ok((real, disclosed))
}

/// The commitments in a proof.
fn commitments(settings: &Settings, proof: &[u8]) -> Result<Vec<Disclosed>, SessionError> {
    let tensors = settings.disclosed(Vis::Committed);
    let lengths = tensors.iter().map(|(_, _, ports)| ports.iter().map(|p| p.len()).sum());
    let found = of_proof(proof, settings.k, lengths)
        .ok_or_else(|| SessionError::Rejected("it is too short for its commitments".to_owned()))?;
    let all = tensors.into_iter().zip(found).map(|((part, name, _), bytes)| Disclosed {
        part,
        name,
        visibility: Vis::Committed,
        value: to_hex(bytes),
    });
    Ok(all.collect())
}

/// Public values as the elements of tensors, in order.
fn elements(ports: &[Port], mut values: &[Fr]) -> Result<Vec<Vec<i64>>, SessionError> {
    let mut lists = Vec::with_capacity(ports.len());
    for port in ports {
        let (own, rest) = values.split_at_checked(port.len()).unwrap_or((values, &[]));
        values = rest;
        let list: Option<Vec<i64>> = own
            .iter()
            .map(|value| signed(value).filter(|element| (port.lo..=port.hi).contains(element)))
            .collect();
        let list = list.filter(|list| list.len() == port.len()).ok_or_else(|| {
            SessionError::Rejected(format!(
                "a public value of `{}` is outside [{}, {}]",
                port.name, port.lo, port.hi
            ))
        })?;
        lists.push(list);
    }
    Ok(lists)
}

/// The integer of small magnitude that a scalar stands for.
fn signed(value: &Fr) -> Option<i64> {
    fn small(value: &Fr) -> Option<i64> {
        let repr = value.to_repr();
        let (low, high) = repr.as_ref().split_first_chunk::<8>()?;
        high.iter().all(|b| *b == 0).then(|| i64::try_from(u64::from_le_bytes(*low)).ok())?
    }
    small(value).or_else(|| small(&-*value).map(|v| -v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_signed_integers() {
        for v in [0i64, 1, -1, 1 << 40, -(1 << 61)] {
            let magnitude = Fr::from(v.unsigned_abs());
            let scalar = if v < 0 { -magnitude } else { magnitude };
            assert_eq!(signed(&scalar), Some(v));
        }
        assert_eq!(signed(&(Fr::from(u64::MAX) * Fr::from(5))), None);
    }
}
