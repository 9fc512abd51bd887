//! The statement: all that a proof means, under one digest.
//!
//! `statement = BLAKE2b-256("parhelion statement" · version · circuit · vk · [τ]G2)`, where `circuit` and `vk` are the digests of `circuit.bin`'s payload
//! (program, visibilities, the planner's numbers, names and types of inputs and outputs) and of `vk.bin`. Whatever is shown of a proof is read
//! from these two files, so one digest pins it.
//!
//! A proof is bound to its statement and to a *context* (a chain, a request, a nonce): the instance ends with
//! `BLAKE2b-512("parhelion binding" · version · statement · context)` as a field element. No constraint reads it, but every challenge depends on it, so a
//! proof does not verify for another statement or purpose.

use std::collections::BTreeSet;
use std::fmt;

use ff::FromUniformBytes;
use halo2curves::bn256::Fr;

use super::artefact::{Port, printable};
use super::circuit::{Interface, Named, Shape};
use super::error::SessionError;
use super::seal::{digest, digest_hex, from_hex, to_hex};
use crate::machine::{Exposure, Part, Vis, Visibility};
use crate::qir::{Program, Role, TensorId};

/// Version of what circuits and keys mean; another one gives other statements.
const VERSION: u32 = 1;

/// What a proof is for, beside its statement: bytes that prover and verifier agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(Vec<u8>);

impl Context {
    /// These bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Context(bytes.into())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for Context {
    type Err = String;

    /// Bytes in hexadecimal after `0x`, or else the text itself.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("0x") {
            None => Ok(Context(text.as_bytes().to_vec())),
            Some(digits) => from_hex(&digits.to_ascii_lowercase())
                .map(Context)
                .ok_or_else(|| format!("`{}` is not hexadecimal", printable(text))),
        }
    }
}

/// The parameters of one visibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamGroup {
    /// Who sees them.
    pub visibility: Vis,
    /// Their names.
    pub names: Vec<String>,
}

/// What is proven, read from a circuit and its verifying key.
#[derive(Clone, Debug)]
pub struct Statement {
    digest: String,
    pub(super) s_g2: String,
    pub(super) program: Program,
    pub(super) interface: Interface,
    visibility: Visibility,
    k: u32,
    inputs: Vec<Port>,
    params: Vec<Port>,
    outputs: Vec<Port>,
    groups: Vec<ParamGroup>,
    numbers: Vec<String>,
}

impl Statement {
    /// The statement of a circuit, given also as the payload that its digest is over, of a key's bytes and of a reference string's `[τ]G2`.
    ///
    /// # Errors
    /// [`SessionError::Mismatch`] for a circuit whose inputs and outputs have no names, elements or units; [`SessionError::Plan`] for visibilities that no
    /// circuit has.
    pub(super) fn new(shape: &Shape, payload: &[u8], vk: &[u8], s_g2: &str) -> Result<Self, SessionError> {
        let (program, visibility, interface) = (shape.program(), shape.visibility(), shape.interface());
        let exposure = Exposure::of(program, visibility)?;
        let inputs = ports(program, &program.inputs, &interface.inputs, &exposure.inputs)?;
        let outputs = ports(program, &program.outputs, &interface.outputs, &exposure.outputs)?;
        let told = |vis: Vis| matches!(vis, Vis::Public | Vis::Hashed | Vis::Committed);
        let params = exposure.params.iter().filter(|(_, vis)| told(*vis));
        let params: Vec<Port> = params.map(|&(id, vis)| Port::new(program, id, None, vis)).collect();
        params.iter().try_for_each(Port::check)?;
        let mut groups: Vec<ParamGroup> = Vec::new();
        for &(id, visibility) in &exposure.params {
            let name = program.tensor(id).name.clone();
            match groups.iter_mut().find(|g| g.visibility == visibility) {
                Some(group) => group.names.push(name),
                None => groups.push(ParamGroup { visibility, names: vec![name] }),
            }
        }
        let constants = program.tensors.iter().filter(|t| t.role == Role::Constant && !t.is_empty());
        let named: BTreeSet<&String> = interface.numbers.iter().collect();
        let others = constants.map(|t| &t.name).filter(|name| !named.contains(name));
        let numbers = interface.numbers.iter().chain(others).cloned().collect();
        Ok(Statement {
            digest: digest_of(payload, vk, s_g2),
            s_g2: s_g2.to_owned(),
            visibility: visibility.clone(),
            k: shape.choice().k,
            inputs,
            params,
            outputs,
            groups,
            numbers,
            interface: interface.clone(),
            program: program.clone(),
        })
    }

    /// The digest, 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Who sees what.
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// log₂ of the number of rows.
    pub fn k(&self) -> u32 {
        self.k
    }

    /// The model's inputs, in the file's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Parameters that are public, hashed or committed, in the model's order.
    pub fn params(&self) -> &[Port] {
        &self.params
    }

    /// The model's outputs, in the file's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// All parameters by visibility.
    pub fn param_groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    /// Names of the model's numbers that stand in the circuit in clear, whatever the visibility of parameters.
    pub fn public_numbers(&self) -> &[String] {
        &self.numbers
    }

    /// Inputs, told parameters and outputs.
    pub(super) fn parts(&self) -> [(Part, &[Port]); 3] {
        [(Part::Input, &self.inputs), (Part::Params, &self.params), (Part::Output, &self.outputs)]
    }

    /// The value that ends the instance of a proof for this context.
    pub(super) fn binding(&self, context: &Context) -> Fr {
        let mut state = blake2b_simd::Params::new().hash_length(64).to_state();
        state.update(b"parhelion binding").update(&VERSION.to_le_bytes());
        state.update(self.digest.as_bytes()).update(context.bytes());
        Fr::from_uniform_bytes(state.finalize().as_array())
    }

    /// Hashed or committed tensors in the order of the instance or the proof, each with its ports: one, or all parameters.
    pub(super) fn disclosed(&self, wanted: Vis) -> Vec<(Part, String, Vec<&Port>)> {
        let mut out = Vec::new();
        for (part, ports) in self.parts() {
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

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digest)
    }
}

/// The digest of the statement of a circuit's payload, a key's bytes and a reference string's `[τ]G2`, none of which it looks into.
pub(super) fn digest_of(circuit: &[u8], vk: &[u8], s_g2: &str) -> String {
    let (circuit_hash, vk_hash) = (digest_hex(&[circuit]), digest_hex(&[vk]));
    let parts = [&circuit_hash, &vk_hash, s_g2].map(str::as_bytes);
    let lengths = parts.map(|p| (p.len() as u64).to_le_bytes());
    let version = VERSION.to_le_bytes();
    let mut all: Vec<&[u8]> = vec![b"parhelion statement", &version];
    all.extend(lengths.iter().zip(parts).flat_map(|(l, p)| [&l[..], p]));
    to_hex(&digest(&all))
}

fn ports(
    program: &Program,
    ids: &[TensorId],
    named: &[Named],
    visibility: &[Vis],
) -> Result<Vec<Port>, SessionError> {
    if named.len() != ids.len() {
        let why = format!("{} names for {} inputs or outputs", named.len(), ids.len());
        return Err(SessionError::Mismatch { what: "circuit", why });
    }
    let all = ids.iter().zip(named).zip(visibility);
    let ports: Vec<Port> = all.map(|((&id, named), &vis)| Port::new(program, id, Some(named), vis)).collect();
    ports.iter().try_for_each(Port::check)?;
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_text_or_hexadecimal() {
        let read = |text: &str| text.parse::<Context>();
        assert_eq!(read("0x00fF").unwrap().bytes(), [0, 255]);
        assert_eq!(read("request 7").unwrap().bytes(), b"request 7");
        assert_eq!(read("deadbeef").unwrap().bytes(), b"deadbeef");
        assert!(read("0x0").is_err() && read("0xzz").is_err());
    }
}
