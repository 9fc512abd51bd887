//! The steps, in order.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parhelion_prover::srs::Srs;
use parhelion_prover::{Engine, PreparedKey, ProvingKey};
use prost::bytes::Bytes;

use super::accuracy::Accuracy;
use super::artefact::{ProofFile, RangeSource, Settings, g2_to_hex, scalar_to_hex};
use super::cache::Cache;
use super::circuit;
use super::disk::{Once, open_limited};
use super::error::{FileError, SessionError};
use super::memory::{self, Room};
use super::opening::{self, OpeningFile};
use super::refine;
use super::seal::{Kind, digest_hex, read_binary, read_json, to_hex};
use super::srs::{development_srs, load_srs, srs_mark};
use super::stages::{
    Imported, Keys, Options, Phase, Prepared, Proof, Quantised, Timings, VERSION, Witness, real_outputs,
};
use super::statement::{Context, Statement};
use super::store::{self, Setup};
use super::verdict::Verdict;
use super::verify::{Files, ModelPin, Pin, Terms, read_shape, verify_with};
use crate::exec;
use crate::input::{self, InputError, Surplus, parse_inputs_with};
use crate::machine::{self, Exposure, OpeningSecret, PlanError, PlanOptions, Vis, Visibility};
use crate::onnx::{self, ImportError, ImportOptions, TensorF};
use crate::qir::Role;
use crate::quant::calibrate::Calibration;

const MODEL_LIMIT: u64 = 4 << 30;
pub(super) const INPUT_LIMIT: u64 = 1 << 30;
const PK_LIMIT: u64 = 1 << 40;

/// The steps, timed. See the module's documentation.
pub struct Session {
    engine: Engine,
    cache: Cache,
    observer: Box<dyn Fn(Phase)>,
    timings: Timings,
    opening: Option<OpeningSecret>,
    once: RefCell<Once>,
    memory: Option<u64>,
    opening_file: Option<OpeningFile>,
    context: Context,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("cache", &self.cache)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session on an engine, with keys kept in a cache.
    pub fn new(engine: Engine, cache: Cache) -> Self {
        Session {
            engine,
            cache,
            observer: Box::new(|_| {}),
            timings: Timings::default(),
            opening: None,
            once: RefCell::default(),
            memory: None,
            opening_file: None,
            context: Context::default(),
        }
    }

    /// Blinds committed tensors by a secret, so that other proofs can have the same commitments; without, every proof has its own.
    pub fn with_opening(mut self, secret: OpeningSecret) -> Self {
        self.opening = Some(secret);
        self
    }

    /// [`Session::with_opening`] with the secret of a file, in which every proof that has commitments is counted.
    pub fn with_opening_file(mut self, file: OpeningFile) -> Self {
        self.opening = Some(file.secret());
        self.opening_file = Some(file);
        self
    }

    /// Proofs are for this context, and verify for no other.
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Takes at most so many bytes of memory, in place of what the system says that there is.
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Refuses a circuit that is predicted to take more memory than there is: the system would end the process halfway.
    fn make_sure_of_memory(&self, prepared: &Prepared, proofs_only: bool) -> Result<(), SessionError> {
        let need = prepared.memory();
        let (what, need) = match proofs_only || need.prove >= need.keygen {
            true => ("a proof", need.prove),
            false => ("its keys", need.keygen),
        };
        let room = match self.memory {
            Some(bytes) => {
                let bytes = bytes.saturating_sub(memory::resident().unwrap_or(0));
                Some(Room { bytes, of: "what --memory allows".to_owned() })
            }
            None => Room::now(),
        };
        match room {
            Some(Room { bytes, of }) if bytes < need => {
                Err(SessionError::Memory { what, k: prepared.k(), need, room: bytes, of })
            }
            _ => Ok(()),
        }
    }

    /// Calls `observer` at the beginning of every step.
    pub fn on_phase(mut self, observer: impl Fn(Phase) + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// How long each step took so far.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Forgets the times.
    pub fn reset_timings(&mut self) {
        self.timings = Timings::default();
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A file's bytes; a pipe, which several steps want, is read by the first of them.
    fn once(&self, path: &Path, limit: u64) -> Result<Bytes, FileError> {
        self.once.borrow_mut().read(path, limit)
    }

    fn step<T>(
        &mut self,
        phase: Phase,
        work: impl FnOnce(&mut Self) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        (self.observer)(phase);
        tracing::debug!(phase = phase.name(), "begin");
        let start = Instant::now();
        let result = work(self);
        self.timings.add(phase, start.elapsed());
        result
    }

    /// Reads a model.
    ///
    /// # Errors
    /// [`SessionError::File`], [`SessionError::Import`].
    pub fn import(&mut self, path: &Path, options: &ImportOptions) -> Result<Imported, SessionError> {
        self.step(Phase::Import, |s| {
            let bytes = s.once(path, MODEL_LIMIT)?;
            let imported = onnx::import_from(bytes.clone(), path.parent(), options)
                .map_err(|source| SessionError::Import { path: path.to_owned(), source })?;
            let hash = match &imported.external {
                None => digest_hex(&[&bytes]),
                Some(external) => digest_hex(&[&bytes, external]),
            };
            Ok(Imported { hash, model: Arc::new(imported.model) })
        })
    }

    /// Reads a model whose symbolic dimensions are as long as the lists of an input file, unless the options bind them.
    ///
    /// # Errors
    /// As [`Session::import`]; what is wrong with the input is left to [`Session::input`].
    pub fn import_for(
        &mut self,
        path: &Path,
        options: &ImportOptions,
        input: Option<&Path>,
    ) -> Result<Imported, SessionError> {
        let Some(input) = input else { return self.import(path, options) };
        let refuse = |source| SessionError::Input { path: input.to_owned(), source: Box::new(source) };
        let bytes = self.once(input, INPUT_LIMIT)?;
        let given = input::text(&bytes).and_then(input::outline).map_err(refuse)?;
        let options = ImportOptions { given: Some(given), ..options.clone() };
        self.import(path, &options).map_err(|e| match e {
            SessionError::Import { source: ImportError::List { name, reason }, .. } => {
                refuse(InputError::Axes { name, reason })
            }
            SessionError::Import { source: ImportError::ListCount { expected, got }, .. } => {
                refuse(InputError::Count { expected, got })
            }
            other => other,
        })
    }

    /// Reads an input.
    ///
    /// # Errors
    /// [`SessionError::File`], [`SessionError::Input`].
    pub fn input(
        &self,
        imported: &Imported,
        path: &Path,
        surplus: Surplus,
    ) -> Result<Vec<TensorF>, SessionError> {
        let refuse = |source| SessionError::Input { path: path.to_owned(), source: Box::new(source) };
        let bytes = self.once(path, INPUT_LIMIT)?;
        let text = input::text(&bytes).map_err(refuse)?;
        parse_inputs_with(text, &imported.model, surplus).map_err(refuse)
    }

    /// Quantises a model for inputs like the given ones, or as a calibration of it says.
    ///
    /// # Errors
    /// [`SessionError::Quant`]; [`SessionError::Mismatch`] when the calibration is of another model.
    pub fn quantise(
        &mut self,
        imported: Imported,
        samples: &[Vec<TensorF>],
        options: &Options,
    ) -> Result<Quantised, SessionError> {
        self.step(Phase::Calibrate, |_| {
            let Some(given) = &options.calibration else {
                return refine::quantise(imported, samples, options);
            };
            calibrated(imported, given, RangeSource::Samples)
        })
    }

    /// Places a quantised model's values in cells.
    ///
    /// # Errors
    /// [`SessionError::Machine`].
    pub fn plan(
        &mut self,
        quantised: Quantised,
        visibility: Visibility,
        limits: &PlanOptions,
    ) -> Result<Prepared, SessionError> {
        self.step(Phase::Plan, |_| {
            let some = quantised.program().tensors.iter().any(|t| t.role == Role::Param);
            if !some && visibility.params != Vis::Private {
                return Err(PlanError::NoParameters(visibility.params).into());
            }
            let plan = machine::plan(quantised.program(), &visibility, limits)?;
            Ok(Prepared { quantised, visibility, plan: Arc::new(plan) })
        })
    }

    /// [`Session::quantise`] and [`Session::plan`].
    ///
    /// # Errors
    /// As theirs.
    pub fn prepare(
        &mut self,
        imported: Imported,
        samples: &[Vec<TensorF>],
        options: &Options,
    ) -> Result<Prepared, SessionError> {
        let quantised = self.quantise(imported, samples, options)?;
        let prepared = self.plan(quantised, options.visibility.clone(), &options.plan())?;
        let bytes = prepared.plan.report().counts.proof_bytes();
        if let Some(wanted) = options.proof_bytes.filter(|wanted| (1..bytes).contains(wanted)) {
            tracing::warn!("no circuit found has a proof of {wanted} bytes; this one's has {bytes}");
        }
        Ok(prepared)
    }

    /// The reference string for a circuit of 2^k rows: from a file, else the development one.
    ///
    /// # Errors
    /// [`SessionError::File`], [`SessionError::Srs`].
    pub fn srs(&mut self, path: Option<&Path>, k: u32) -> Result<Srs, SessionError> {
        self.step(Phase::Srs, |s| {
            let srs = load_srs(path, k, &s.cache)?;
            if srs.is_insecure() {
                tracing::info!("development reference string: proofs under it convince nobody");
            }
            Ok(srs)
        })
    }

    /// Both keys, from the cache or made.
    ///
    /// # Errors
    /// [`SessionError::Prover`], [`SessionError::Machine`].
    pub fn keys(&mut self, prepared: &Prepared, srs: &Srs) -> Result<Keys, SessionError> {
        self.step(Phase::Keygen, |s| {
            circuit::usual_degree()?;
            s.make_sure_of_memory(prepared, false)?;
            let mark = srs_mark(srs)?;
            let shape = prepared.shape();
            let payload = store::encode("circuit", &shape)?;
            let circuit_hash = digest_hex(&[&payload]);
            let name = Cache::name(&[
                VERSION.as_bytes(),
                prepared.quantised.imported.hash.as_bytes(),
                prepared.quantised.program_hash.as_bytes(),
                circuit_hash.as_bytes(),
                mark.digest.as_bytes(),
                &machine::layout_digest(&prepared.plan).map_err(parhelion_prover::Error::from)?,
            ]);
            let cached = s.cached_key(&name, prepared, srs)?;
            let from_cache = cached.is_some();
            let pk = match cached {
                Some(pk) => pk,
                None => {
                    let pk = circuit::keygen(&s.engine, srs, &prepared.plan)?;
                    s.cache.put("keys", &name, |file| circuit::write_pk(&pk, file));
                    pk
                }
            };
            let vk = circuit::write_vk(pk.get_vk())?;
            let statement = Statement::new(&shape, &payload, &vk, &mark.s_g2)?;
            circuit::check_shape(shape, prepared.k(), pk.get_vk(), &vk)?;
            let program = prepared.quantised.program();
            let exposure = Exposure::of(program, &prepared.visibility)?;
            let shown = exposure.params.iter().all(|(_, vis)| matches!(vis, Vis::Fixed | Vis::Public));
            let all_public = exposure.inputs.iter().all(|vis| *vis == Vis::Public);
            let ranges = match prepared.quantised.ranges {
                RangeSource::PrivateInput if all_public => RangeSource::PublicInput,
                other => other,
            };
            let settings = Settings {
                version: VERSION.to_owned(),
                statement: statement.digest().to_owned(),
                circuit_hash,
                vk_hash: digest_hex(&[&vk]),
                params_digest: opening::params_digest(program, &exposure)?,
                // A digest of weights that nobody sees could be checked by guessing.
                model_hash: shown.then(|| prepared.quantised.imported.hash.clone()),
                ranges,
                accepted_error: None,
                srs: mark,
            };
            let key = PreparedKey::new(&s.engine, srs, pk)?;
            Ok(Keys { key, settings, statement, vk: vk.into(), from_cache })
        })
    }

    /// A key of the cache, if its verifying key is the one that follows from the circuit: whoever could write into the cache could otherwise
    /// choose what a setup is a setup of.
    fn cached_key(
        &self,
        name: &str,
        prepared: &Prepared,
        srs: &Srs,
    ) -> Result<Option<ProvingKey>, SessionError> {
        let Some(file) = self.cache.open("keys", name) else { return Ok(None) };
        let why = match circuit::read_pk(file, &prepared.plan) {
            Err(e) => e.to_string(),
            Ok(pk) => {
                let vk = circuit::keygen_vk(&self.engine, srs, &prepared.plan)?;
                if circuit::write_vk(&vk)? == circuit::write_vk(pk.get_vk())?
                    && vk.transcript_repr() == pk.get_vk().transcript_repr()
                {
                    return Ok(Some(pk));
                }
                "it is not the key of this circuit".to_owned()
            }
        };
        tracing::warn!("cached key made again: {why}");
        self.cache.discard("keys", name);
        Ok(None)
    }

    /// The model of a setup, quantised again as its calibration says.
    ///
    /// # Errors
    /// [`SessionError::Mismatch`] for another model or another outcome than the setup's, [`SessionError::Quant`].
    pub fn quantised(
        &mut self,
        imported: Imported,
        setup: &Setup,
    ) -> Result<(Quantised, Visibility), SessionError> {
        same("model", &setup.notes.model_hash, &imported.hash)?;
        let source = setup.settings.ranges;
        let quantised = self.step(Phase::Calibrate, |_| calibrated(imported, &setup.calibration, source))?;
        same("quantised model", &setup.notes.program_hash, &quantised.program_hash)?;
        Ok((quantised, setup.shape.visibility().clone()))
    }

    /// Circuit and keys as [`Session::write_setup`] wrote them, for the model that they were made for. The model is quantised again; nothing of the setup
    /// is executed.
    ///
    /// # Errors
    /// [`SessionError::Mismatch`] when the files do not belong together or to this model; [`SessionError::File`].
    pub fn resume(
        &mut self,
        imported: Imported,
        setup: Setup,
        srs: Option<&Path>,
    ) -> Result<(Prepared, Keys), SessionError> {
        let (quantised, visibility) = self.quantised(imported, &setup)?;
        let Setup { settings, shape, pk: pk_file, .. } = setup;
        settings.check()?;
        let limits = PlanOptions { choice: Some(shape.choice()), ..PlanOptions::default() };
        let prepared = self.plan_again(quantised, visibility, &limits)?;
        let payload = store::encode("circuit", &prepared.shape())?;
        same("circuit", &settings.circuit_hash, &digest_hex(&[&payload]))?;
        let srs = self.srs(srs, prepared.k())?;
        let mark = srs_mark(&srs)?;
        same("reference string", &settings.srs.digest, &mark.digest)?;
        same("reference string", &settings.srs.s_g2, &mark.s_g2)?;
        let exposure = Exposure::of(prepared.quantised.program(), &prepared.visibility)?;
        if settings.params_digest != opening::params_digest(prepared.quantised.program(), &exposure)? {
            let why = "the digest of the parameters is another one".to_owned();
            return Err(SessionError::Mismatch { what: "model", why });
        }
        let keys = self.step(Phase::Keygen, |s| {
            circuit::usual_degree()?;
            s.make_sure_of_memory(&prepared, true)?;
            let (file, _) = open_limited(&pk_file, PK_LIMIT)?;
            let pk = circuit::read_pk(file, &prepared.plan)
                .map_err(|e| SessionError::Mismatch { what: "proving key", why: e.to_string() })?;
            let vk = circuit::write_vk(pk.get_vk())?;
            same("proving key", &settings.vk_hash, &digest_hex(&[&vk]))?;
            let statement = Statement::new(&prepared.shape(), &payload, &vk, &mark.s_g2)?;
            same("settings", &settings.statement, statement.digest())?;
            let key = PreparedKey::new(&s.engine, &srs, pk)?;
            Ok(Keys { key, settings, statement, vk: vk.into(), from_cache: true })
        })?;
        Ok((prepared, keys))
    }

    /// The statement of a circuit's file with the key that is made from it, under the reference string of `files` or the development one.
    ///
    /// # Errors
    /// [`SessionError::File`], [`SessionError::Plan`], [`SessionError::Prover`], [`SessionError::Srs`].
    pub fn pin_circuit(&mut self, files: &Files) -> Result<Pin, SessionError> {
        let payload = read_binary(&files.circuit, Kind::Circuit)?;
        let shape = read_shape(&files.circuit, &payload)?;
        let srs = self.own_srs(files, shape.choice().k)?;
        let plan = shape.clone().plan()?;
        let vk = circuit::write_vk(&circuit::keygen_vk(&self.engine, &srs, &plan)?)?;
        let statement = Statement::new(&shape, &payload, &vk, &g2_to_hex(&srs.s_g2()))?;
        Ok(Pin::Circuit(statement.digest().to_owned()))
    }

    /// The statement of an ONNX file that is quantised as a calibration says, with the visibilities and the layout of a circuit's file and nothing else of
    /// it, under the reference string of `files` or the development one.
    ///
    /// # Errors
    /// As [`Session::pin_circuit`] and [`Session::quantise`].
    pub fn pin_model(
        &mut self,
        imported: Imported,
        calibration: &Calibration,
        files: &Files,
    ) -> Result<Pin, SessionError> {
        let theirs = read_shape(&files.circuit, &read_binary(&files.circuit, Kind::Circuit)?)?;
        let quantised =
            self.step(Phase::Calibrate, |_| calibrated(imported, calibration, RangeSource::Samples))?;
        let limits = PlanOptions { choice: Some(theirs.choice()), ..PlanOptions::default() };
        let prepared = self.plan_again(quantised, theirs.visibility().clone(), &limits)?;
        let srs = self.own_srs(files, prepared.k())?;
        let shape = prepared.shape();
        let payload = store::encode("circuit", &shape)?;
        let vk = circuit::write_vk(&circuit::keygen_vk(&self.engine, &srs, &prepared.plan)?)?;
        let statement = Statement::new(&shape, &payload, &vk, &g2_to_hex(&srs.s_g2()))?;
        let program = prepared.quantised.program();
        let exposure = Exposure::of(program, &prepared.visibility)?;
        let public = exposure.params.iter().filter(|(_, vis)| *vis == Vis::Public);
        let data = |id| program.tensor(id).data.as_deref().unwrap_or_default().to_vec();
        Ok(Pin::Model(ModelPin {
            statement: statement.digest().to_owned(),
            model_hash: prepared.quantised.imported.hash.clone(),
            params_digest: opening::params_digest(program, &exposure)?,
            public: public.map(|&(id, _)| data(id)).collect(),
            edges: prepared.quantised.model.edges.clone(),
        }))
    }

    /// A model in a layout that was chosen for a circuit which may be another model's.
    fn plan_again(
        &mut self,
        quantised: Quantised,
        visibility: Visibility,
        limits: &PlanOptions,
    ) -> Result<Prepared, SessionError> {
        self.plan(quantised, visibility, limits).map_err(|e| match e {
            SessionError::Plan(e) => SessionError::Mismatch {
                what: "circuit",
                why: format!("its layout does not hold this model: {e}"),
            },
            other => other,
        })
    }

    /// The verifier's own string, or the development one where the statement is under that.
    fn own_srs(&mut self, files: &Files, k: u32) -> Result<Srs, SessionError> {
        if files.srs.is_none() {
            let settings: Settings = read_json(&files.settings, Kind::Settings)?;
            if settings.srs.s_g2 != g2_to_hex(&development_srs(1)?.s_g2()) {
                let why = "they are under another one than the development string; give your own file of it";
                return Err(SessionError::Mismatch { what: "reference string", why: why.to_owned() });
            }
        }
        self.srs(files.srs.as_deref(), k)
    }

    /// Runs the model in integers.
    ///
    /// # Errors
    /// [`SessionError::Exec`] when a value is outside what the circuit was calibrated for.
    pub fn witness(&mut self, quantised: &Quantised, input: &[TensorF]) -> Result<Witness, SessionError> {
        self.step(Phase::Witness, |_| {
            let inputs = quantised.model.encode_inputs(input)?;
            let trace = exec::run_checked(quantised.program(), &inputs)?;
            Ok(Witness { inputs, trace: Arc::new(trace) })
        })
    }

    /// Runs the model in integers on samples and says how far the worst is from the float model.
    ///
    /// # Errors
    /// As [`Session::witness`] and [`Quantised::accuracy`].
    pub fn accuracy(
        &mut self,
        quantised: &Quantised,
        samples: &[Vec<TensorF>],
    ) -> Result<Accuracy, SessionError> {
        let mut worst = Accuracy::default();
        for input in samples {
            let witness = self.witness(quantised, input)?;
            worst = worst.worst(quantised.accuracy(&witness, input)?);
        }
        Ok(worst)
    }

    /// Checks every constraint of the circuit for a witness.
    ///
    /// # Errors
    /// [`SessionError::Machine`] with the constraint that fails and its layer.
    pub fn mock(&mut self, prepared: &Prepared, witness: &Witness) -> Result<(), SessionError> {
        self.step(Phase::Prove, |_| Ok(machine::mock(&prepared.plan, &witness.trace.values)?))
    }

    /// Proves.
    ///
    /// # Errors
    /// [`SessionError::Prover`], [`SessionError::Machine`].
    pub fn prove(
        &mut self,
        prepared: &Prepared,
        keys: &Keys,
        witness: &Witness,
    ) -> Result<Proof, SessionError> {
        self.step(Phase::Prove, |s| {
            let statement = &keys.statement;
            if let Some(file) = &s.opening_file
                && !statement.disclosed(Vis::Committed).is_empty()
            {
                file.count_proof()?;
            }
            let binding = statement.binding(&s.context);
            let (bytes, instances, report) = circuit::prove(
                &s.engine,
                &keys.key,
                &prepared.plan,
                &witness.trace,
                s.opening.as_ref(),
                binding,
            )?;
            let mut outputs = real_outputs(prepared.quantised.program(), witness);
            let shown = |vis: Vis| vis == Vis::Public;
            let hidden = statement.outputs().iter().map(|p| !shown(p.visibility));
            outputs.iter_mut().zip(hidden).filter(|(_, hidden)| *hidden).for_each(|(v, _)| v.clear());
            if !statement.outputs().iter().any(|p| shown(p.visibility)) {
                outputs.clear();
            }
            let file = ProofFile {
                version: VERSION.to_owned(),
                statement: statement.digest().to_owned(),
                srs: keys.settings.srs.security,
                proof: to_hex(&bytes),
                instances: instances.iter().map(|c| c.iter().map(scalar_to_hex).collect()).collect(),
                outputs,
            };
            Ok(Proof { file, bytes, instances, report })
        })
    }

    /// Verifies a proof as whoever receives it would: from settings, serialised key and proof file.
    ///
    /// # Errors
    /// [`SessionError::Rejected`], [`SessionError::Mismatch`].
    pub fn verify(&mut self, keys: &Keys, proof: &Proof) -> Result<Verdict, SessionError> {
        self.step(Phase::Verify, |s| {
            // Whoever made the keys knows what they are of.
            let terms = Terms { pin: Pin::Files, context: s.context.clone(), ..Terms::default() };
            verify_with(&keys.statement, &keys.settings, keys.vk(), &proof.file, &terms)
        })
    }
}

/// A model in the integers of a calibration.
fn calibrated(
    imported: Imported,
    given: &Calibration,
    source: RangeSource,
) -> Result<Quantised, SessionError> {
    // A calibration for others names no model.
    if !given.model_hash.is_empty() && given.model_hash != imported.hash {
        return Err(SessionError::Mismatch {
            what: "model",
            why: format!("the calibration is of {}, this is {}", given.model_hash, imported.hash),
        });
    }
    let public = given.published()?;
    let model = public.quantise(&imported.model)?;
    Quantised::new(imported, model, public, source)
}

fn same(what: &'static str, expected: &str, found: &str) -> Result<(), SessionError> {
    let why = || format!("expected {expected}, found {found}");
    (expected == found).then_some(()).ok_or_else(|| SessionError::Mismatch { what, why: why() })
}
