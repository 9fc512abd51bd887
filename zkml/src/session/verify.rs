//! Checking a proof from files.

use std::path::{Path, PathBuf};

use ff::PrimeField;
use halo2curves::bn256::Fr;
use parhelion_prover::VerifyingKey;

use super::artefact::{
    Disclosed, Port, ProofFile, Settings, g2_from_hex, g2_to_hex, printable, real_text, scalar_from_hex,
    scalar_to_hex,
};
use super::circuit::{self, Shape};
use super::disk::read_limited;
use super::error::{FileError, SessionError};
use super::seal::{Kind, digest_hex, from_hex, read_binary, read_json, to_hex};
use super::srs::{believed, read_srs};
use super::statement::{Context, Statement, digest_of};
use super::store::{VK_LIMIT, decode};
use super::verdict::{Strength, Told, Verdict, remarks, sentence};
use crate::exec;
use crate::input::{InputError, Surplus, parse_inputs_with};
use crate::machine::commitment::of_proof;
use crate::machine::poseidon::{Segment, digest};
use crate::machine::{Part, Vis};
use crate::onnx::{Binding, DType, Model, Provenance, TakenList, Value, ValueId};
use crate::quant::{Edges, Quantised};

/// What a verifier is given.
#[derive(Clone, Debug)]
pub struct Files {
    /// The settings: which files belong together, and what their maker claims.
    pub settings: PathBuf,
    /// The circuit.
    pub circuit: PathBuf,
    /// The verifying key.
    pub vk: PathBuf,
    /// The proof.
    pub proof: PathBuf,
    /// A reference string that the statement must be under.
    pub srs: Option<PathBuf>,
}

/// What an ONNX file says of a statement, see [`super::Session::pin_model`].
#[derive(Clone, Debug)]
pub struct ModelPin {
    pub(super) statement: String,
    pub(super) model_hash: String,
    /// Digest of the hashed parameters.
    pub(super) params_digest: Option<String>,
    /// Elements of the public parameters.
    pub(super) public: Vec<Vec<i64>>,
    /// Numbers of each input that the model compares it with, which decide its rounding.
    pub(super) edges: Vec<Edges>,
}

/// What the statement is held against.
#[derive(Clone, Debug, Default)]
pub enum Pin {
    /// Nothing.
    #[default]
    Nothing,
    /// All files but the proof are from a place that the verifier trusts.
    Files,
    /// A digest that the verifier was given by somebody it trusts.
    Statement(String),
    /// The digest of the circuit with the key that was made from it, see [`super::Session::pin_circuit`].
    Circuit(String),
    /// What an ONNX file says.
    Model(ModelPin),
}

impl Pin {
    fn strength(&self) -> Strength {
        match self {
            Pin::Nothing => Strength::Unpinned,
            Pin::Files | Pin::Statement(_) => Strength::Statement,
            Pin::Circuit(_) => Strength::Rederived,
            Pin::Model(_) => Strength::Model,
        }
    }

    /// The statement that is wanted, and in whose words.
    fn wanted(&self) -> Option<(&str, &'static str)> {
        match self {
            Pin::Nothing | Pin::Files => None,
            Pin::Statement(digest) => Some((digest, "the one that was named")),
            Pin::Circuit(digest) => Some((digest, "that of the circuit and the key made from it")),
            Pin::Model(pin) => Some((&pin.statement, "that of the ONNX file and the calibration")),
        }
    }
}

/// What a verifier asks of a proof.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What the statement is held against.
    pub pin: Pin,
    /// What the proof must be for.
    pub context: Context,
    /// An input: public inputs must be its, and hashed ones have its digests. It has a list for every input of the model, or only for those. Numbers are
    /// rounded to the nearest unit; only an ONNX file says where the model's comparisons decide otherwise.
    pub input: Option<PathBuf>,
    /// Whether the reference string must be a ceremony's.
    pub require_secure: bool,
}

/// [`verify_under`] without a pin or a context: the verdict's strength is [`Strength::Unpinned`].
///
/// # Errors
/// As [`verify_under`].
pub fn verify(files: &Files, require_secure: bool) -> Result<Verdict, SessionError> {
    verify_under(files, &Terms { require_secure, ..Terms::default() })
}

/// Verifies a proof from its files.
///
/// # Errors
/// [`SessionError::File`] for a file that is missing or damaged, [`SessionError::Mismatch`] for files that do not belong together,
/// [`SessionError::OtherStatement`] for another statement than the pinned one, [`SessionError::OtherInput`] for another input, [`SessionError::Rejected`] for a proof that is not valid or is for another
/// context, [`SessionError::InsecureSrs`] when `require_secure` is set and the reference string is not from a ceremony.
pub fn verify_under(files: &Files, terms: &Terms) -> Result<Verdict, SessionError> {
    Ok(verify_statement(files, terms)?.1)
}

/// [`verify_under`], with what was proven.
pub(super) fn verify_statement(files: &Files, terms: &Terms) -> Result<(Statement, Verdict), SessionError> {
    let settings: Settings = read_json(&files.settings, Kind::Settings)?;
    let proof: ProofFile = read_json(&files.proof, Kind::Proof)?;
    settings.check()?;
    let own = files.srs.as_deref().map(read_srs).transpose()?;
    if let (Some(own), Some(path)) = (&own, &files.srs)
        && g2_to_hex(&own.s_g2()) != settings.srs.s_g2
    {
        let why = format!("the settings are under another one than {}", path.display());
        return Err(SessionError::Mismatch { what: "reference string", why });
    }
    let security = believed(&settings.srs, own.as_ref())?;
    if terms.require_secure && !security.is_secure() {
        return Err(SessionError::InsecureSrs(security, printable(&settings.srs.origin)));
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
    // Before anything is read into a circuit or planned, which costs more than any refusal should.
    held(&digest_of(&circuit_bytes, &vk_bytes, &settings.srs.s_g2), &settings, &proof, terms)?;
    let shape = read_shape(&files.circuit, &circuit_bytes)?;
    let statement = Statement::new(&shape, &circuit_bytes, &vk_bytes, &settings.srs.s_g2)?;
    let vk = circuit::read_vk(&vk_bytes, statement.k(), shape.params()?)
        .map_err(|why| FileError::malformed(&files.vk, why))?;
    let mut verdict = verify_with(&statement, &settings, &vk, &proof, terms)?;
    verdict.security = security;
    if let Some(path) = &terms.input {
        let edges = if let Pin::Model(pin) = &terms.pin { &pin.edges[..] } else { &[] };
        verdict.compared = compare_input(&statement, &verdict, edges, path)?;
    }
    Ok((statement, verdict))
}

/// A circuit as somebody sent it.
pub(super) fn read_shape(path: &Path, payload: &[u8]) -> Result<Shape, SessionError> {
    let shape: Shape = decode(path, payload)?;
    exec::check_open(shape.program()).map_err(|e| FileError::malformed(path, e))?;
    Ok(shape)
}

/// Whether a statement is the pinned one, and the one that settings and proof name.
fn held(digest: &str, settings: &Settings, file: &ProofFile, terms: &Terms) -> Result<(), SessionError> {
    let mismatch = |what, why: &str| SessionError::Mismatch { what, why: why.to_owned() };
    if let Some((wanted, whose)) = terms.pin.wanted()
        && wanted != digest
    {
        let (expected, found) = (printable(wanted), digest.to_owned());
        return Err(SessionError::OtherStatement { whose, expected, found });
    }
    if settings.statement != digest {
        return Err(mismatch("circuit, key or reference string", "the settings name another statement"));
    }
    if file.statement != digest {
        return Err(mismatch("proof", "it names another statement"));
    }
    Ok(())
}

/// [`verify_under`] from values.
pub(super) fn verify_with(
    statement: &Statement,
    settings: &Settings,
    vk: &VerifyingKey,
    file: &ProofFile,
    terms: &Terms,
) -> Result<Verdict, SessionError> {
    let mismatch = |what, why: &str| SessionError::Mismatch { what, why: why.to_owned() };
    settings.check()?;
    held(statement.digest(), settings, file, terms)?;
    if vk.get_domain().k() != statement.k() {
        return Err(mismatch("verifying key", "it is for another k"));
    }
    let security = believed(&settings.srs, None)?;
    if file.srs != settings.srs.security {
        return Err(mismatch("proof", "it names another kind of reference string"));
    }
    let bytes = from_hex(&file.proof).ok_or_else(|| mismatch("proof", "it is not hexadecimal"))?;
    let instances: Option<Vec<Vec<Fr>>> =
        file.instances.iter().map(|c| c.iter().map(|v| scalar_from_hex(v)).collect()).collect();
    let mut instances = instances.ok_or_else(|| mismatch("proof", "a public value is not canonical"))?;
    let s_g2 = g2_from_hex(&statement.s_g2)
        .ok_or_else(|| mismatch("settings", "the reference string's point is not valid"))?;
    let [column] = instances.as_slice() else {
        return Err(SessionError::Rejected(format!(
            "{} columns of public values instead of one",
            instances.len()
        )));
    };
    if column.last() != Some(&statement.binding(&terms.context)) {
        return Err(SessionError::Rejected("it is for another context".to_owned()));
    }
    circuit::verify(statement.k(), s_g2, vk, &instances, &bytes)?;
    for column in &mut instances {
        column.pop();
    }
    let (elements, mut disclosed) = public_values(statement, &instances)?;
    disclosed.extend(commitments(statement, &bytes)?);
    let params = disclosed.iter().find(|d| d.part == Part::Params && d.visibility == Vis::Hashed);
    if params.map(|d| &d.value) != settings.params_digest.as_ref() {
        let why = "the digest of the parameters is not the one in the settings".to_owned();
        return Err(SessionError::Rejected(why));
    }
    let model_bound = match &terms.pin {
        Pin::Model(pin) => bound(statement, pin, &elements, params)?,
        _ => false,
    };
    let tensors = told(statement, elements, &disclosed);
    let outputs = output_texts(&tensors);
    if outputs != file.outputs {
        return Err(mismatch("proof", "its outputs are not those of its public values"));
    }
    let model_hash = match &terms.pin {
        Pin::Model(pin) if model_bound => Some(pin.model_hash.clone()),
        _ => settings.model_hash.clone(),
    };
    Ok(Verdict {
        strength: terms.pin.strength(),
        security,
        statement: statement.digest().to_owned(),
        k: statement.k(),
        visibility: statement.visibility().clone(),
        model_bound,
        model_hash,
        ranges: settings.ranges,
        accepted_error: settings.accepted_error.clone(),
        instances,
        tensors,
        compared: Vec::new(),
        outputs,
        disclosed,
        sentence: sentence(statement, model_bound),
        remarks: remarks(statement, settings.ranges, model_bound),
    })
}

/// Whether the weights are those of an ONNX file: fixed ones are, by the statement; public and hashed ones are compared.
fn bound(
    statement: &Statement,
    pin: &ModelPin,
    elements: &[Vec<Vec<i64>>; 3],
    digest: Option<&Disclosed>,
) -> Result<bool, SessionError> {
    let [_, params, _] = elements;
    if *params != pin.public {
        return Err(SessionError::Rejected(
            "the public parameters are not those of the ONNX file".to_owned(),
        ));
    }
    if digest.map(|d| &d.value) != pin.params_digest.as_ref() {
        let why = "the digest of the parameters is not that of the ONNX file's".to_owned();
        return Err(SessionError::Rejected(why));
    }
    let known = |vis: Vis| matches!(vis, Vis::Fixed | Vis::Public | Vis::Hashed);
    Ok(statement.param_groups().iter().all(|g| known(g.visibility)))
}

/// The elements of public inputs, parameters and outputs, and the digests. Public values must be within their tensors' bounds: the circuit admits a little more, so
/// that a limb is the whole of a range.
type Public = ([Vec<Vec<i64>>; 3], Vec<Disclosed>);

fn public_values(statement: &Statement, instances: &[Vec<Fr>]) -> Result<Public, SessionError> {
    let mut values: &[Fr] = instances.first().map_or(&[], Vec::as_slice);
    let parts = statement.parts().map(|(_, ports)| public(ports));
    let hashed = statement.disclosed(Vis::Hashed);
    let expected = parts.iter().flatten().map(|p| p.len()).sum::<usize>() + hashed.len();
    if instances.len() != 1 || values.len() != expected {
        let why =
            format!("{} public values are not those of the circuit, which are {expected}", values.len());
        return Err(SessionError::Rejected(why));
    }
    let mut found: [Vec<Vec<i64>>; 3] = Default::default();
    for (lists, ports) in found.iter_mut().zip(&parts) {
        for port in ports {
            let (own, rest) = values.split_at_checked(port.len()).unwrap_or((values, &[]));
            lists.push(elements(port, own)?);
            values = rest;
        }
    }
    let disclosed = hashed.into_iter().zip(values).map(|((part, name, _), digest)| Disclosed {
        part,
        name,
        visibility: Vis::Hashed,
        value: scalar_to_hex(digest),
    });
    Ok((found, disclosed.collect()))
}

fn public(ports: &[Port]) -> Vec<&Port> {
    ports.iter().filter(|p| p.visibility == Vis::Public).collect()
}

/// Every told tensor with its numbers or its digest.
fn told(statement: &Statement, elements: [Vec<Vec<i64>>; 3], disclosed: &[Disclosed]) -> Vec<Told> {
    let mut out = Vec::new();
    for ((part, ports), lists) in statement.parts().into_iter().zip(elements) {
        let mut lists = lists.into_iter();
        for port in ports {
            let own = if port.visibility == Vis::Public { lists.next() } else { None };
            let values = own.map(|list| list.into_iter().map(|e| real_text(e, port.scale)).collect());
            out.push(Told::new(part, port, values, disclosed));
        }
    }
    out
}

/// What a proof's file says of its outputs.
pub(super) fn output_texts(tensors: &[Told]) -> Vec<Vec<String>> {
    let outputs = tensors.iter().filter(|t| t.part == Part::Output);
    if outputs.clone().all(|t| t.values.is_none()) {
        return Vec::new();
    }
    outputs.map(|t| t.values.clone().unwrap_or_default()).collect()
}

/// The commitments in a proof.
fn commitments(statement: &Statement, proof: &[u8]) -> Result<Vec<Disclosed>, SessionError> {
    let tensors = statement.disclosed(Vis::Committed);
    let lengths = tensors.iter().map(|(_, _, ports)| ports.iter().map(|p| p.len()).sum());
    let found = of_proof(proof, statement.k(), lengths)
        .ok_or_else(|| SessionError::Rejected("it is too short for its commitments".to_owned()))?;
    let all = tensors.into_iter().zip(found).map(|((part, name, _), bytes)| Disclosed {
        part,
        name,
        visibility: Vis::Committed,
        value: to_hex(bytes),
    });
    Ok(all.collect())
}

/// Public values as the elements of a tensor.
fn elements(port: &Port, values: &[Fr]) -> Result<Vec<i64>, SessionError> {
    let list: Option<Vec<i64>> = values
        .iter()
        .map(|value| signed(value).filter(|element| (port.lo..=port.hi).contains(element)))
        .collect();
    list.filter(|list| list.len() == port.len()).ok_or_else(|| {
        SessionError::Rejected(format!(
            "a public value of `{}` is outside [{}, {}]",
            printable(&port.name),
            port.lo,
            port.hi
        ))
    })
}

/// Makes sure that a verified proof's public inputs are those of a file, and that hashed ones have their digests; the names of those inputs.
fn compare_input(
    statement: &Statement,
    verdict: &Verdict,
    edges: &[Edges],
    path: &Path,
) -> Result<Vec<String>, SessionError> {
    let refuse = |source| SessionError::Input { path: path.to_owned(), source: Box::new(source) };
    let bytes = read_limited(path, super::pipeline::INPUT_LIMIT)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| refuse(InputError::Json(e.to_string())))?;
    let comparable = |port: &Port| matches!(port.visibility, Vis::Public | Vis::Hashed);
    let all: Vec<usize> = (0..statement.inputs().len()).collect();
    let told: Vec<usize> =
        all.iter().copied().filter(|&i| statement.inputs().get(i).is_some_and(comparable)).collect();
    if told.is_empty() {
        let why = "no input is public or hashed: there is nothing to compare".to_owned();
        return Err(SessionError::Mismatch { what: "input", why });
    }
    let read = |wanted: &[usize]| parse_inputs_with(text, &inputs_model(statement, wanted), Surplus::Refuse);
    let (wanted, lists) = match read(&all) {
        Ok(lists) => (all, lists),
        Err(whole) => (told.clone(), read(&told).map_err(|_| refuse(whole))?),
    };
    let mut compared = Vec::new();
    for (i, list) in wanted.into_iter().zip(lists).filter(|(i, _)| told.contains(i)) {
        let Some(port) = statement.inputs().get(i) else { continue };
        let elements = encoder(statement, edges, i).encode_inputs(&[list])?.concat();
        let found = verdict.tensors.iter().filter(|t| t.part == Part::Input).nth(i);
        let same = match port.visibility {
            Vis::Public => {
                let texts: Vec<String> = elements.iter().map(|&e| real_text(e, port.scale)).collect();
                found.and_then(|t| t.values.as_ref()) == Some(&texts)
            }
            _ => {
                let segment = Segment::new(&elements, port.lo, port.hi);
                let own = digest(&[segment])
                    .map_err(|e| SessionError::Mismatch { what: "input", why: e.to_string() })?;
                found.and_then(|t| t.digest.as_ref()) == Some(&scalar_to_hex(&own))
            }
        };
        if !same {
            let (name, path) = (printable(&port.name), path.to_owned());
            return Err(SessionError::OtherInput { name, path });
        }
        compared.push(port.name.clone());
    }
    Ok(compared)
}

/// A model that has some of a statement's inputs, and nothing else.
fn inputs_model(statement: &Statement, wanted: &[usize]) -> Model {
    let ports = wanted.iter().filter_map(|&i| statement.inputs().get(i));
    let values: Vec<Value> = ports
        .map(|p| Value {
            name: p.name.clone(),
            dtype: p.dtype.unwrap_or(DType::F32),
            shape: p.shape.clone(),
            constant: None,
            origin: Provenance::default(),
        })
        .collect();
    Model {
        name: String::new(),
        opset: 0,
        inputs: (0..values.len()).map(|i| ValueId(i as u32)).collect(),
        declared: (0..values.len()).map(|i| ValueId(i as u32)).collect(),
        binding: Binding::default(),
        taken: TakenList::default(),
        outputs: Vec::new(),
        nodes: Vec::new(),
        values,
    }
}

/// What encodes one input as the prover does.
fn encoder(statement: &Statement, edges: &[Edges], input: usize) -> Quantised {
    let one = statement.program.inputs.get(input).map(|&id| statement.program.tensor(id).clone());
    let program = crate::qir::Program {
        inputs: one.iter().map(|_| crate::qir::TensorId(0)).collect(),
        tensors: one.into_iter().collect(),
        ..Default::default()
    };
    Quantised {
        program,
        input_types: statement.inputs().get(input).and_then(|p| p.dtype).into_iter().collect(),
        output_types: Vec::new(),
        input_names: statement.inputs().get(input).map(|p| p.name.clone()).into_iter().collect(),
        output_names: Vec::new(),
        report: Vec::new(),
        saturate: statement.interface.saturate,
        restricted: Vec::new(),
        edges: edges.get(input).cloned().into_iter().collect(),
        public_numbers: Vec::new(),
    }
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
