//! Good files to begin with: small models, their keys, proofs and reference strings, made once per process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parhelion_prover::srs::Srs;
use parhelion_zkml::machine::{Vis, Visibility};
use parhelion_zkml::onnx::{ImportOptions, Model, TensorF, import};
use parhelion_zkml::quant::QuantOptions;
use parhelion_zkml::quant::calibrate::{self, Calibration, Frame, Goal, Metric, Samples};
use parhelion_zkml::session::{
    CALIBRATION_JSON, CIRCUIT_BIN, Cache, Files, Imported, Kind, Options, PK_BIN, PROOF_JSON, PROVER_JSON,
    Prepared, ProofFile, ProverNotes, SETTINGS_JSON, Session, Settings, VK_BIN, development_srs, read_binary,
    read_json,
};

use crate::seeds;

/// Everything about one proven model.
pub struct Fixture {
    /// Where its files are.
    pub dir: PathBuf,
    /// The model.
    pub imported: Imported,
    /// The circuit.
    pub prepared: Prepared,
    /// The input that was proven.
    pub input: Vec<TensorF>,
    /// The settings.
    pub settings: Settings,
    /// The proof.
    pub proof: ProofFile,
    /// Payload of the circuit's file.
    pub circuit: Vec<u8>,
    /// The setup's calibration.
    pub calibration: Calibration,
    /// What only the prover keeps.
    pub notes: ProverNotes,
    /// The verifying key's file.
    pub vk: Vec<u8>,
    /// The proving key's file.
    pub pk: Vec<u8>,
    /// The reference string.
    pub srs: Srs,
}

impl Fixture {
    /// The files that a verifier gets.
    pub fn files(&self) -> Files {
        let at = |name: &str| self.dir.join(name);
        Files {
            settings: at(SETTINGS_JSON),
            circuit: at(CIRCUIT_BIN),
            vk: at(VK_BIN),
            proof: at(PROOF_JSON),
            srs: None,
        }
    }
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A session on the default engine that keeps nothing.
///
/// # Panics
/// Without a backend.
#[expect(clippy::expect_used, reason = "the CPU is always there")]
pub fn session() -> Session {
    Session::new(parhelion_backends::default_engine().expect("the CPU backend starts").clone(), Cache::none())
}

/// A directory of this process.
pub fn scratch() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| std::env::temp_dir().join(format!("parhelion-fuzz-{}", std::process::id())))
}

/// The statements: a perceptron with every kind of visibility.
fn visibilities() -> [Visibility; 3] {
    [
        Visibility::default(),
        Visibility { input: Vis::Hashed, output: Vis::Public, params: Vis::Committed, tensors: Vec::new() },
        Visibility { input: Vis::Public, output: Vis::Committed, params: Vis::Hashed, tensors: Vec::new() },
    ]
}

/// One of the fixtures.
///
/// # Panics
/// When it cannot be made.
#[expect(clippy::expect_used, reason = "nothing works without the fixtures")]
pub fn get(which: u8) -> &'static Fixture {
    static ALL: [OnceLock<Fixture>; 3] = [const { OnceLock::new() }; 3];
    let index = usize::from(which) % ALL.len();
    ALL[index].get_or_init(|| make(index).expect("the fixture is made"))
}

fn make(index: usize) -> Result<Fixture, parhelion_zkml::session::SessionError> {
    let dir = scratch().join(index.to_string());
    let source = dir.join("model.onnx");
    parhelion_zkml::session::write_atomic(&source, &[&seeds::perceptron()])?;
    let mut session = session();
    // Few bits make few rows.
    let quant = QuantOptions {
        activation_bits: 4,
        input_bits: 4,
        output_bits: 4,
        weight_bits: 4,
        max_lookup: 1 << 4,
        max_knots: 1 << 3,
        ..QuantOptions::default()
    };
    let options = Options { quant, visibility: visibilities()[index].clone(), ..Options::default() };
    let imported = session.import(&source, &options.import)?;
    let input = TensorF::zeros(vec![1, 3], parhelion_zkml::onnx::DType::F32).into_iter().collect::<Vec<_>>();
    let prepared = session.prepare(imported.clone(), std::slice::from_ref(&input), &options)?;
    let srs = session.srs(None, prepared.k())?;
    let keys = session.keys(&prepared, &srs)?;
    let witness = session.witness(&prepared.quantised, &input)?;
    let proof = session.prove(&prepared, &keys, &witness)?;
    session.write_setup(&dir, &prepared, &keys)?;
    session.write_proof(&dir, &prepared, &keys, &proof)?;
    let read = |name: &str| parhelion_zkml::session::read_limited(&dir.join(name), 1 << 30);
    Ok(Fixture {
        settings: read_json(&dir.join(SETTINGS_JSON), Kind::Settings)?,
        proof: read_json(&dir.join(PROOF_JSON), Kind::Proof)?,
        circuit: read_binary(&dir.join(CIRCUIT_BIN), Kind::Circuit)?,
        calibration: read_json(&dir.join(CALIBRATION_JSON), Kind::Calibration)?,
        notes: read_json(&dir.join(PROVER_JSON), Kind::Prover)?,
        vk: read(VK_BIN)?,
        pk: read(PK_BIN)?,
        dir,
        imported,
        prepared,
        input,
        srs,
    })
}

/// The models that inputs are read for: floats, integers, booleans, several inputs, none.
///
/// # Panics
/// When one does not import.
#[expect(clippy::expect_used, reason = "nothing works without the fixtures")]
pub fn models() -> &'static [Arc<Model>] {
    static MODELS: OnceLock<Vec<Arc<Model>>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let read = |bytes: &Vec<u8>| import(bytes, &ImportOptions::default()).map(Arc::new);
        seeds::interfaces().iter().map(|b| read(b).expect("the model imports")).collect()
    })
}

/// A calibration of the first fixture's model.
///
/// # Panics
/// When it cannot be made.
#[expect(clippy::expect_used, reason = "nothing works without the fixtures")]
pub fn calibration() -> &'static Calibration {
    static ONE: OnceLock<Calibration> = OnceLock::new();
    ONE.get_or_init(|| {
        let fixture = get(0);
        let goal = Goal { trials: 1, ..Goal::new(Metric::MaxAbs, 1.0) };
        let model = &fixture.imported.model;
        let frame = Frame { visibility: Visibility::default(), max_k: 12 };
        let found = calibrate::calibrate(model, &Samples::default(), &goal, &frame, &[], &mut |_, _, _| true);
        let mut calibration = found.expect("the model is calibrated").calibration;
        calibration.model_hash = fixture.imported.hash.clone();
        calibration
    })
}

/// A reference string of 2^k powers.
///
/// # Panics
/// When k is too large.
#[expect(clippy::expect_used, reason = "the callers' k are constants")]
pub fn srs(k: u32) -> Srs {
    development_srs(k).expect("k is small")
}
