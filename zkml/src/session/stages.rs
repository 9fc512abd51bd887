//! What the steps take and what they give: options, times, models, keys, proofs.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use halo2curves::bn256::Fr;
use parhelion_prover::keys::pk_len;
use parhelion_prover::{Engine, PreparedKey, ProofReport, ProvingKey, VerifyingKey};

use super::accuracy::Accuracy;
use super::artefact::{ProofFile, ProverNotes, RangeSource, Settings, WitnessFile, real_text};
use super::circuit::{self, Interface, Shape};
use super::error::SessionError;
use super::memory::Need;
use super::statement::Statement;
use super::store;
use crate::exec::Trace;
use crate::machine::{Plan, PlanOptions, Visibility};
use crate::onnx::{ImportOptions, Model, TensorF};
use crate::qir::Program;
use crate::quant::calibrate::Calibration;
use crate::quant::{self, QuantOptions};

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A step of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the model.
    Import,
    /// Choosing scales, from floats to integers.
    Calibrate,
    /// Placing values in cells.
    Plan,
    /// Making or reading the reference string.
    Srs,
    /// Making or reading the keys.
    Keygen,
    /// Running the model in integers.
    Witness,
    /// Proving.
    Prove,
    /// Verifying.
    Verify,
}

impl Phase {
    /// All steps, in order.
    pub const ALL: [Phase; 8] = [
        Phase::Import,
        Phase::Calibrate,
        Phase::Plan,
        Phase::Srs,
        Phase::Keygen,
        Phase::Witness,
        Phase::Prove,
        Phase::Verify,
    ];

    /// The lower-case name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Import => "import",
            Phase::Calibrate => "calibrate",
            Phase::Plan => "plan",
            Phase::Srs => "srs",
            Phase::Keygen => "keygen",
            Phase::Witness => "witness",
            Phase::Prove => "prove",
            Phase::Verify => "verify",
        }
    }
}

/// How long each step took so far.
#[derive(Clone, Debug, Default)]
pub struct Timings([Duration; Phase::ALL.len()]);

impl Timings {
    /// Time in a step; zero when it was not taken.
    pub fn get(&self, phase: Phase) -> Duration {
        self.0.get(phase as usize).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, phase: Phase, time: Duration) {
        if let Some(total) = self.0.get_mut(phase as usize) {
            *total += time;
        }
    }

    /// Time in all steps.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

/// How a model becomes a circuit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limits and symbolic dimensions.
    pub import: ImportOptions,
    /// Scales.
    pub quant: QuantOptions,
    /// Who sees what.
    pub visibility: Visibility,
    /// The circuit has at least 2^`min_k` rows: proofs share commitments where they have the same number of rows.
    pub min_k: u32,
    /// The circuit has at most 2^`max_k` rows.
    pub max_k: u32,
    /// Wanted length of a proof in bytes: the fastest circuit within it, or the shortest proof there is, whatever it costs in time; 0 is the fastest circuit
    /// whatever its proof. By default the planner weighs both, see [`PlanOptions::target_proof_bytes`].
    pub proof_bytes: Option<usize>,
    /// Scales and ranges of an earlier calibration, in place of `quant` and the samples.
    pub calibration: Option<Arc<Calibration>>,
    /// Largest difference from the float model that is accepted, see [`Accuracy::check`](super::Accuracy::check).
    pub accept_error: Option<f64>,
    /// Whether numbers get more bits than `quant` says where the samples are not what the model says.
    pub refine: bool,
    /// Whether the samples are the input that is proven, so that the circuit tells of it; the settings and the verdict say so.
    pub own_input: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            import: ImportOptions::default(),
            quant: QuantOptions::default(),
            visibility: Visibility::default(),
            min_k: PlanOptions::default().min_k,
            max_k: 22,
            proof_bytes: None,
            calibration: None,
            accept_error: None,
            refine: true,
            own_input: false,
        }
    }
}

impl Options {
    /// Limits and preferences of the planner.
    pub fn plan(&self) -> PlanOptions {
        let limits = PlanOptions { min_k: self.min_k, max_k: self.max_k, ..PlanOptions::default() };
        match self.proof_bytes {
            None => limits,
            Some(0) => PlanOptions { target_proof_bytes: None, ..limits },
            Some(bytes) => PlanOptions {
                target_proof_bytes: Some(bytes),
                // The same for every circuit, and more than any of them takes, so that length decides.
                proof_patience: u32::MAX,
                proof_patience_ms: 100_000_000,
                ..limits
            },
        }
    }
}

/// A model as the file says it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Digest of the file.
    pub hash: String,
    /// The graph.
    pub model: Arc<Model>,
}

/// A model in integers.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The float model.
    pub imported: Imported,
    /// The integers.
    pub model: Arc<quant::Quantised>,
    /// Digest of the integer program.
    pub program_hash: String,
    /// Options and ranges that make the same program of the same model, and tell nothing else.
    pub calibration: Arc<Calibration>,
    /// Where the ranges are from; a private input is not told from a public one yet.
    pub ranges: RangeSource,
}

impl Quantised {
    pub(super) fn new(
        imported: Imported,
        model: quant::Quantised,
        calibration: Calibration,
        ranges: RangeSource,
    ) -> Result<Self, SessionError> {
        let program_hash = store::encoded_digest("quantised model", &model.program)?;
        let calibration = Arc::new(calibration);
        Ok(Quantised { imported, model: Arc::new(model), program_hash, calibration, ranges })
    }

    /// The statement, in exact integers.
    pub fn program(&self) -> &Program {
        &self.model.program
    }

    /// The outputs as real numbers.
    pub fn outputs(&self, witness: &Witness) -> Vec<Vec<f64>> {
        self.model.decode_outputs(&witness.trace).iter().map(TensorF::to_f64).collect()
    }

    /// The outputs as decimal numbers, exactly.
    pub fn output_texts(&self, witness: &Witness) -> Vec<Vec<String>> {
        real_outputs(self.program(), witness)
    }

    /// How far a run is from the float model.
    ///
    /// # Errors
    /// [`SessionError::Float`] when the float model fails on the input.
    pub fn accuracy(&self, witness: &Witness, input: &[TensorF]) -> Result<Accuracy, SessionError> {
        Accuracy::measure(self, witness, input)
    }

    /// The largest difference of an output from the float model's; infinite where only one of them is finite.
    ///
    /// # Errors
    /// [`SessionError::Float`] when the float model fails on the input.
    pub fn max_abs_error(&self, witness: &Witness, input: &[TensorF]) -> Result<f64, SessionError> {
        Ok(self.accuracy(witness, input)?.max_abs_error())
    }

    /// What only the prover keeps of a setup.
    pub(super) fn notes(&self) -> ProverNotes {
        ProverNotes {
            version: VERSION.to_owned(),
            model_hash: self.imported.hash.clone(),
            program_hash: self.program_hash.clone(),
        }
    }

    /// What a witness file holds.
    pub fn witness_file(&self, witness: &Witness) -> WitnessFile {
        WitnessFile {
            version: VERSION.to_owned(),
            model_hash: self.imported.hash.clone(),
            program_hash: self.program_hash.clone(),
            inputs: witness.inputs.clone(),
            outputs: witness.trace.outputs(self.program()).map(<[i64]>::to_vec).collect(),
            output_values: real_outputs(self.program(), witness),
        }
    }
}

/// A model as a circuit.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The statement.
    pub quantised: Quantised,
    /// Who sees what.
    pub visibility: Visibility,
    /// Where everything is.
    pub plan: Arc<Plan>,
}

impl Prepared {
    /// log₂ of the number of rows.
    pub fn k(&self) -> u32 {
        self.plan.k()
    }

    /// Memory that keys and proofs take, beside what the process holds already.
    pub fn memory(&self) -> Need {
        Need::of(&self.plan.report().counts)
    }

    /// The circuit without private values: what a verifier has of it.
    pub fn shape(&self) -> Shape {
        Shape::of(&self.plan, Interface::of(&self.quantised.model))
    }

    /// Rows up to the last one that holds something.
    pub fn rows_used(&self) -> usize {
        let report = self.plan.report();
        [report.unit_rows, report.bulk_rows, report.scalar_rows, report.instance]
            .into_iter()
            .max()
            .unwrap_or(0)
    }
}

/// Both keys, and what they are keys of.
#[derive(Clone, Debug)]
pub struct Keys {
    pub(super) key: PreparedKey,
    pub(super) settings: Settings,
    pub(super) statement: Statement,
    pub(super) vk: Arc<[u8]>,
    pub(super) from_cache: bool,
}

impl Keys {
    /// What the keys are about.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What proofs under them say.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Records the difference from the float model that the maker accepts, as a part of the largest output.
    pub fn accept_error(&mut self, share: Option<String>) {
        self.settings.accepted_error = share;
    }

    /// The verifying key, serialised.
    pub fn vk_bytes(&self) -> &[u8] {
        &self.vk
    }

    /// The verifying key.
    pub fn vk(&self) -> &VerifyingKey {
        self.key.vk()
    }

    /// The proving key.
    pub fn pk(&self) -> &ProvingKey {
        self.key.pk()
    }

    /// Length of the proving key, serialised.
    pub fn pk_len(&self) -> u64 {
        pk_len(self.key.vk())
    }

    /// Writes the proving key as a stream.
    pub(super) fn write_pk(&self, engine: &Engine, writer: impl Write) -> Result<(), SessionError> {
        circuit::write_prepared(engine, &self.key, writer)
    }

    /// Whether they were read and not made.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }
}

/// All values of a run.
#[derive(Clone, Debug)]
pub struct Witness {
    /// The inputs' elements.
    pub inputs: Vec<Vec<i64>>,
    /// Every tensor's elements.
    pub trace: Arc<Trace>,
}

/// A finished proof.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What is written.
    pub file: ProofFile,
    /// The proof itself.
    pub bytes: Vec<u8>,
    /// The public values.
    pub instances: Vec<Vec<Fr>>,
    /// What it cost.
    pub report: ProofReport,
}

/// Outputs as the real numbers that they stand for.
pub(super) fn real_outputs(program: &Program, witness: &Witness) -> Vec<Vec<String>> {
    let values = witness.trace.outputs(program);
    let scales = program.outputs.iter().map(|&id| program.tensor(id).scale);
    values.zip(scales).map(|(v, scale)| v.iter().map(|&e| real_text(e, scale)).collect()).collect()
}
