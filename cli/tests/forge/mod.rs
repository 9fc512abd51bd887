//! Somebody who can make any file, and commands on what they make.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::sync::Arc;

use ff::FromUniformBytes;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_prover::{KeygenOptions, PreparedKey, ProveOptions, ProvingKey, keys, prove};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::machine::{ModelCircuit, Visibility};
use parhelion_zkml::session::{
    self, Cache, Kind, Options, Prepared, ProofFile, Session, Settings, Witness, digest, digest_hex,
    scalar_to_hex, to_hex,
};
use rand_core::OsRng;
use serde_json::Value;

use crate::build::{Builder, FLOAT};
use crate::common::{Scratch, errors, parhelion, succeeds};

pub(crate) fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

pub(crate) fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(args)).unwrap()
}

/// A model of one layer, y = x·W, with weights times a factor.
pub(crate) fn layer(factor: f32) -> Vec<u8> {
    let weights: Vec<f32> = (0..12).map(|i| factor * (((i * 7 % 12) as f32 / 6.0 - 1.0) * 0.9)).collect();
    let model = Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4, 3], &weights);
    model.node("MatMul", &["x", "w"], &["y"], &[]).bytes()
}

pub(crate) const INPUT: &str = r#"{"input_data": [[0.5, -0.25, 0.75, 0.125]]}"#;

/// A model with its input in a directory, and commands on them.
pub(crate) struct Case {
    pub(crate) scratch: Scratch,
    pub(crate) model: String,
    pub(crate) input: String,
}

impl Case {
    pub(crate) fn new(name: &str, model: &[u8], input: &str) -> Self {
        let scratch = Scratch::new(name);
        let model = text(scratch.write("model.onnx", model));
        let input = text(scratch.write("input.json", input));
        Case { scratch, model, input }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        text(self.scratch.path(name))
    }

    pub(crate) fn setup(&self, out: &str, visibility: &str) -> Value {
        let out = self.path(out);
        let args = ["setup", &self.model, "--input", &self.input, "--visibility", visibility];
        json(&[&args[..], &["--out", &out, "--json"]].concat())
    }

    pub(crate) fn prove(&self, out: &str, more: &[&str]) -> Value {
        let out = self.path(out);
        json(&[&["prove", &self.model, "--input", &self.input, "--out", &out, "--json"][..], more].concat())
    }

    /// The exit code of `verify`, what it wrote, and its errors.
    pub(crate) fn verify(&self, proof: &str, more: &[&str]) -> (i32, String, String) {
        let proof = self.path(proof);
        let output = parhelion([&["verify", &proof][..], more].concat());
        let said = errors(&output);
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), said)
    }

    /// The report of a `verify` that succeeds.
    pub(crate) fn verdict(&self, proof: &str, more: &[&str]) -> Value {
        let (code, out, said) = self.verify(proof, &[more, &["--json"]].concat());
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&out).unwrap()
    }

    /// `verify` refuses with these words, whatever is accepted unpinned.
    pub(crate) fn refuses(&self, proof: &str, more: &[&str], words: &[&str]) {
        let (code, out, said) = self.verify(proof, &[more, &["--unpinned"]].concat());
        assert_eq!((code, out.as_str()), (1, ""), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no `{word}` in {said}"));
    }
}

/// The value that binds a proof, from its definition.
pub(crate) fn binding(statement: &str, context: &[u8]) -> Fr {
    let mut state = blake2b_simd::Params::new().hash_length(64).to_state();
    state
        .update(b"parhelion binding")
        .update(&1u32.to_le_bytes())
        .update(statement.as_bytes())
        .update(context);
    Fr::from_uniform_bytes(state.finalize().as_array())
}

/// The digest of a statement, from its definition.
pub(crate) fn statement(circuit: &[u8], vk: &[u8], s_g2: &str) -> String {
    let (circuit, vk) = (digest_hex(&[circuit]), digest_hex(&[vk]));
    let lengths = [circuit.len(), vk.len(), s_g2.len()].map(|n| (n as u64).to_le_bytes());
    let version = 1u32.to_le_bytes();
    let parts: [&[u8]; 8] = [
        b"parhelion statement",
        &version,
        &lengths[0],
        circuit.as_bytes(),
        &lengths[1],
        vk.as_bytes(),
        &lengths[2],
        s_g2.as_bytes(),
    ];
    to_hex(&digest(&parts))
}

/// Somebody who makes any file: a prepared model with a run of it.
pub(crate) struct Forger {
    pub(crate) prepared: Prepared,
    pub(crate) witness: Witness,
    pub(crate) circuit: Vec<u8>,
    pub(crate) settings: Settings,
    pub(crate) dir: PathBuf,
}

impl Forger {
    /// Over an honest proof's files.
    pub(crate) fn new(case: &Case, proof: &str, visibility: &str) -> Self {
        let engine = parhelion_backends::default_engine().unwrap().clone();
        let mut session = Session::new(engine, Cache::none());
        let dir = case.scratch.path(proof);
        let calibration =
            session::read_json(&dir.join(session::CALIBRATION_JSON), Kind::Calibration).unwrap();
        let options = Options {
            visibility: visibility.parse::<Visibility>().unwrap(),
            calibration: Some(Arc::new(calibration)),
            ..Options::default()
        };
        let imported = session.import(case.model.as_ref(), &options.import).unwrap();
        let input = session.input(&imported, case.input.as_ref(), Surplus::Refuse).unwrap();
        let prepared = session.prepare(imported, std::slice::from_ref(&input), &options).unwrap();
        let witness = session.witness(&prepared.quantised, &input).unwrap();
        let settings = session::read_json(&dir.join(session::SETTINGS_JSON), Kind::Settings).unwrap();
        let circuit = session::read_binary(&dir.join(session::CIRCUIT_BIN), Kind::Circuit).unwrap();
        Forger { prepared, witness, circuit, settings, dir }
    }

    pub(crate) fn scale(&self) -> i32 {
        let program = self.prepared.quantised.program();
        program.tensor(program.outputs[0]).scale
    }

    pub(crate) fn keygen(&self, circuit: ModelCircuit) -> ProvingKey {
        let engine = parhelion_backends::default_engine().unwrap();
        let srs = session::development_srs(self.prepared.k()).unwrap();
        parhelion_prover::keygen(engine, &srs, &circuit, KeygenOptions::default()).unwrap()
    }

    /// Files that belong together: circuit, key and a proof under it, with the public values changed.
    pub(crate) fn write(&self, circuit: &[u8], scale: i32, pk: ProvingKey, change: impl Fn(&mut [Fr])) {
        let model = ModelCircuit::with_trace(&self.prepared.plan, &self.witness.trace.values).unwrap();
        self.write_run(circuit, scale, pk, model, change);
    }

    /// The same for a run of the forger's choice.
    pub(crate) fn write_run(
        &self,
        circuit: &[u8],
        scale: i32,
        pk: ProvingKey,
        model: ModelCircuit,
        change: impl Fn(&mut [Fr]),
    ) {
        let mut vk = Vec::new();
        keys::write_vk(pk.get_vk(), &mut vk).unwrap();
        let statement = statement(circuit, &vk, &self.settings.srs.s_g2);
        let engine = parhelion_backends::default_engine().unwrap();
        let srs = session::development_srs(self.prepared.k()).unwrap();
        let key = PreparedKey::new(engine, &srs, pk).unwrap();
        let mut instance = model.instances().concat();
        change(&mut instance);
        instance.push(binding(&statement, b""));
        let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(Vec::new());
        let options = ProveOptions::default().verify(false);
        let columns: [&[Fr]; 1] = [&instance];
        prove(engine, &key, &[model.advice_only()], &[&columns], OsRng, &mut transcript, options).unwrap();
        session::write_binary(&self.dir.join(session::CIRCUIT_BIN), Kind::Circuit, circuit).unwrap();
        session::write_atomic(&self.dir.join(session::VK_BIN), &[&vk]).unwrap();
        let settings = Settings {
            statement: statement.clone(),
            circuit_hash: digest_hex(&[circuit]),
            vk_hash: digest_hex(&[&vk]),
            ..self.settings.clone()
        };
        session::write_json(&self.dir.join(session::SETTINGS_JSON), Kind::Settings, &settings).unwrap();
        let path = self.dir.join(session::PROOF_JSON);
        let mut file: ProofFile = session::read_json(&path, Kind::Proof).unwrap();
        let element = |v: &Fr| {
            let whole = |v: &Fr| i64::from_str_radix(&scalar_to_hex(v)[48..], 16).unwrap();
            if scalar_to_hex(v).starts_with("000000") { whole(v) } else { -whole(&-*v) }
        };
        let outputs = file.outputs.concat().len();
        file.outputs =
            vec![instance[..outputs].iter().map(|v| session::real_text(element(v), scale)).collect()];
        file.statement = statement;
        file.proof = to_hex(&transcript.finalize());
        file.instances = vec![instance.iter().map(scalar_to_hex).collect()];
        session::write_json(&path, Kind::Proof, &file).unwrap();
    }
}

/// Everything but nothing refuses a forgery.
pub(crate) fn only_unpinned(case: &Case, proof: &str, honest: &str, keys: &str) {
    let (code, out, said) = case.verify(proof, &[]);
    assert_eq!(code, 3, "{said}");
    assert!(out.contains("UNPINNED"), "{out}");
    case.refuses(proof, &["--statement", honest], &["the statement is not the one that was named"]);
    case.refuses(proof, &["--setup", keys], &["does not belong"]);
    case.refuses(proof, &["--model", &case.model], &["the statement is not that of the ONNX file"]);
}
