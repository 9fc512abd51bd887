//! Between the pipeline and the machine: keys as bytes, proofs, and the shape of a circuit without its weights.
//!
//! A verifier must rebuild the constraint system that a key belongs to, and must not be given private weights for it. So `circuit.bin` holds the
//! quantised model without its parameters (unless parameters are fixed, and so in the verifying key anyway), the visibility, and the planner's numbers. The
//! layout looks at the bounds of parameters and not at their values; [`check_shape`] makes sure whenever a key is made.

use std::io::{Read, Write};
use std::sync::Arc;

use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine, G2Affine};
use parhelion_prover::keys::{self, KeyError};
use parhelion_prover::{
    Engine, KeygenOptions, Multiopen, PreparedKey, ProofReport, ProofTranscript, ProveOptions, ProvingKey,
    Srs, VerifyingKey, keygen as make_keys, keygen_vk as make_vk, prove_recovering as make_proof,
    verify as check_proof,
};
use rand_core::OsRng;
use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::memory::Room;
use crate::exec::Trace;
use crate::machine::{
    self, Choice, MachineParams, ModelCircuit, OpeningSecret, Part, Plan, PlanError, PlanOptions, Vis,
    Visibility,
};
use crate::onnx::DType;
use crate::qir::{Program, Role};
use crate::quant;

/// Most elements of a program's tensors, per row of its circuit and in all; honest circuits have less than a hundred per row.
const ELEMENTS_PER_ROW: u64 = 1 << 12;
const ELEMENTS: u64 = 1 << 30;

/// An input or output as the ONNX file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
}

/// What the elements of inputs and outputs stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// By input of the program.
    pub inputs: Vec<Named>,
    /// By output of the program.
    pub outputs: Vec<Named>,
    /// Whether inputs past their range are moved to its end when they are encoded.
    pub saturate: bool,
    /// Names of constants of the model that the program holds in clear, whatever the visibility of parameters.
    pub numbers: Vec<String>,
}

impl Interface {
    /// The interface of a quantised model.
    pub fn of(model: &quant::Quantised) -> Self {
        let named = |names: &[String], types: &[DType]| {
            names.iter().zip(types).map(|(name, &dtype)| Named { name: name.clone(), dtype }).collect()
        };
        Interface {
            inputs: named(&model.input_names, &model.input_types),
            outputs: named(&model.output_names, &model.output_types),
            saturate: model.saturate,
            numbers: model.public_numbers.iter().map(|n| n.name.clone()).collect(),
        }
    }
}

/// All that a circuit's constraint system depends on, and what its public values stand for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    program: Program,
    visibility: Visibility,
    choice: Choice,
    interface: Interface,
}

impl Shape {
    /// The shape of a plan of a model.
    pub fn of(plan: &Plan, interface: Interface) -> Self {
        let mut program = plan.program().clone();
        for tensor in &mut program.tensors {
            if plan.visibility().of(Part::Params, &tensor.name) != Vis::Fixed && tensor.role == Role::Param {
                tensor.data = None;
            }
        }
        Shape { program, visibility: plan.visibility().clone(), choice: plan.report().choice, interface }
    }

    /// The model without its parameters.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Who sees what.
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// The planner's numbers.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Refuses a shape that would take more to lay out than any circuit of its rows: whoever verifies lays out what a prover gave.
    fn bounded(&self) -> Result<(), SessionError> {
        let invalid = |reason: String| PlanError::Invalid { op: "circuit".into(), reason };
        let most = ELEMENTS_PER_ROW.checked_shl(self.choice.k).unwrap_or(ELEMENTS).min(ELEMENTS);
        let mut elements = 0u64;
        for tensor in &self.program.tensors {
            let own = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
            elements = elements.saturating_add(own.unwrap_or(u64::MAX));
        }
        if elements > most {
            return Err(
                invalid(format!("{elements} elements are more than 2^{} rows hold", self.choice.k)).into()
            );
        }
        // The domain of the key: twiddle factors of the quotient's length, there and back.
        let need = (32u64 * 16).checked_shl(self.choice.k).unwrap_or(u64::MAX);
        match Room::now() {
            Some(Room { bytes: room, of }) if room < need => {
                Err(SessionError::Memory { what: "its key", k: self.choice.k, need, room, of })
            }
            _ => Ok(()),
        }
    }

    /// What inputs and outputs stand for.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The circuit.
    ///
    /// # Errors
    /// [`SessionError::Plan`]; [`SessionError::Memory`].
    pub fn plan(self) -> Result<Plan, SessionError> {
        usual_degree()?;
        self.bounded()?;
        let options = PlanOptions { choice: Some(self.choice), ..PlanOptions::default() };
        Ok(machine::plan_shared(Arc::new(self.program), &self.visibility, &options)?)
    }

    /// The circuit's parameters.
    ///
    /// # Errors
    /// [`SessionError::Plan`]; [`SessionError::Memory`].
    pub fn params(self) -> Result<MachineParams, SessionError> {
        Ok(params(&self.plan()?))
    }
}

/// halo2 cuts the degree of every circuit down to `MAX_DEGREE`, so keys, provers and verifiers that have set it differently disagree.
pub(super) fn usual_degree() -> Result<(), SessionError> {
    match std::env::var_os("MAX_DEGREE") {
        Some(set) if set != "5" => Err(SessionError::Environment("MAX_DEGREE")),
        _ => Ok(()),
    }
}

fn params(plan: &Plan) -> MachineParams {
    ModelCircuit::new(plan).params()
}

pub(super) fn keygen(engine: &Engine, srs: &Srs, plan: &Plan) -> Result<ProvingKey, SessionError> {
    Ok(make_keys(engine, srs, &ModelCircuit::new(plan), KeygenOptions::default())?)
}

/// The verifying key that follows from a plan.
pub(super) fn keygen_vk(engine: &Engine, srs: &Srs, plan: &Plan) -> Result<VerifyingKey, SessionError> {
    Ok(make_vk(engine, srs, &ModelCircuit::new(plan), KeygenOptions::default())?)
}

/// Makes sure that the shape alone gives the key's constraint system.
pub(super) fn check_shape(
    shape: Shape,
    k: u32,
    vk: &VerifyingKey,
    vk_bytes: &[u8],
) -> Result<(), SessionError> {
    let mismatch = |why: String| SessionError::Mismatch { what: "circuit", why };
    let again = read_vk(vk_bytes, k, shape.params()?).map_err(|e| mismatch(e.to_string()))?;
    // The representation digests the key with its whole constraint system.
    if again.transcript_repr() == vk.transcript_repr() {
        return Ok(());
    }
    Err(mismatch("its constraints depend on values that are not in it".to_owned()))
}

/// A proof, its public values, what it cost.
type Proven = (Vec<u8>, Vec<Vec<Fr>>, ProofReport);

pub(super) fn prove(
    engine: &Engine,
    key: &PreparedKey,
    plan: &Plan,
    trace: &Trace,
    opening: Option<&OpeningSecret>,
    binding: Fr,
) -> Result<Proven, SessionError> {
    let circuit = ModelCircuit::with_trace(plan, &trace.values)?;
    let circuit = match opening {
        Some(secret) => circuit.sealed(secret),
        None => circuit,
    };
    let mut instances = circuit.instances();
    instances.iter_mut().for_each(|column| column.push(binding));
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    let transcript = || Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(Vec::new());
    // The session verifies the finished file itself; what a device had a part in is verified here, where it can be made again without it.
    let options = ProveOptions::default().verify(false);
    let (circuit, rng) = machine::seal(circuit, OsRng);
    let (transcript, report) =
        make_proof(engine, key, &[circuit.advice_only()], &[&columns], rng, transcript, options)?;
    Ok((transcript.finalize(), instances, report))
}

pub(super) fn verify(
    k: u32,
    s_g2: G2Affine,
    vk: &VerifyingKey,
    instances: &[Vec<Fr>],
    proof: &[u8],
) -> Result<(), SessionError> {
    let params = super::srs::verifier_params(k, s_g2)?;
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    check_proof(&params, vk, &[&columns], proof, ProofTranscript::Blake2b, Multiopen::Shplonk)
        .map_err(|e| SessionError::Rejected(e.to_string()))
}

/// Writes a proving key as a stream.
pub(super) fn write_pk(pk: &ProvingKey, writer: impl Write) -> Result<(), SessionError> {
    Ok(keys::write_pk(pk, writer).map_err(parhelion_prover::Error::from)?)
}

/// Writes a prepared key as a stream.
pub(super) fn write_prepared(
    engine: &Engine,
    key: &PreparedKey,
    writer: impl Write,
) -> Result<(), SessionError> {
    Ok(key.write_pk(engine, writer).map_err(parhelion_prover::Error::from)?)
}

pub(super) fn write_vk(vk: &VerifyingKey) -> Result<Vec<u8>, SessionError> {
    let mut bytes = Vec::new();
    keys::write_vk(vk, &mut bytes).map_err(parhelion_prover::Error::from)?;
    Ok(bytes)
}

/// Reads a key of a plan from a stream.
pub(super) fn read_pk(reader: impl Read, plan: &Plan) -> Result<ProvingKey, KeyError> {
    keys::read_pk::<ModelCircuit>(reader, params(plan), plan.k())
}

/// Reads a key of a shape.
pub(super) fn read_vk(bytes: &[u8], k: u32, params: MachineParams) -> Result<VerifyingKey, KeyError> {
    keys::read_vk::<ModelCircuit>(bytes, params, k)
}
