//! What a verifier gets does not depend on what is private: weights of the same ranges, and inputs under a setup from public samples.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "this file uses its part")]
#[path = "front_common/build.rs"]
mod build;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use build::{A, Builder, FLOAT, INT64};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::quant::calibrate::Calibration;
use parhelion_zkml::session::{self, Cache, Keys, Kind, Options, Prepared, Session, Setup};
use serde_json::Value;

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("parhelion-privacy-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn session() -> Session {
    Session::new(parhelion_backends::default_engine().unwrap().clone(), Cache::none())
}

/// `n` numbers of both signs below 1, the largest above 1/2 for both variants.
fn weights(n: usize, variant: u32) -> Vec<f32> {
    let at = |i: usize| ((i as f32 + 1.0) * 0.618_034).fract() * 1.8 - 0.9;
    let shrunk = |v: f32| if variant == 0 { v } else { v * 0.875 + 0.003 };
    (0..n).map(|i| if i == 0 { 0.96875 - variant as f32 / 64.0 } else { shrunk(at(i)) }).collect()
}

/// One operator with weights.
struct Case {
    name: &'static str,
    model: fn(u32) -> Builder,
    input: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "MatMul",
        model: |v| {
            let b =
                Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4, 3], &weights(12, v));
            b.node("MatMul", &["x", "w"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "Gemm",
        model: |v| {
            let b =
                Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4, 3], &weights(12, v));
            b.floats("c", &[3], &weights(3, v)).node(
                "Gemm",
                &["x", "w", "c"],
                &["y"],
                &[("alpha", A::Float(0.5))],
            )
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "Conv",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[1, 1, 4, 4]).output("y");
            let b = b.floats("w", &[2, 1, 3, 3], &weights(18, v)).floats("c", &[2], &weights(2, v));
            b.node("Conv", &["x", "w", "c"], &["y"], &[])
        },
        input: "[[0.1,0.2,0.3,0.4,-0.1,-0.2,-0.3,-0.4,0.5,0.6,0.7,0.8,0.9,-0.9,0.8,0.1]]",
    },
    Case {
        name: "ConvTranspose",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[1, 1, 2, 2]).output("y");
            b.floats("w", &[1, 2, 2, 2], &weights(8, v)).node("ConvTranspose", &["x", "w"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "LSTM",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[2, 1, 2]).output("y");
            let b = b.floats("w", &[1, 8, 2], &weights(16, v)).floats("r", &[1, 8, 2], &weights(16, v));
            let b = b.floats("b", &[1, 16], &weights(16, v));
            b.node("LSTM", &["x", "w", "r", "b"], &["y"], &[("hidden_size", A::Int(2))])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "GRU",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[2, 1, 2]).output("y");
            let b = b.floats("w", &[1, 6, 2], &weights(12, v)).floats("r", &[1, 6, 2], &weights(12, v));
            b.node("GRU", &["x", "w", "r"], &["y"], &[("hidden_size", A::Int(2))])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "Gather",
        model: |v| {
            let b = Builder::new().input("i", INT64, &[3]).output("y").floats("w", &[5, 2], &weights(10, v));
            b.node("Gather", &["w", "i"], &["y"], &[])
        },
        input: "[[0, 4, 2]]",
    },
    Case {
        name: "Add",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4], &weights(4, v));
            b.node("Add", &["x", "w"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "Mul",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4], &weights(4, v));
            b.node("Mul", &["x", "w"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "PRelu",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4], &weights(4, v));
            b.node("PRelu", &["x", "w"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "LayerNormalization",
        model: |v| {
            let b = Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4], &weights(4, v));
            b.floats("b", &[4], &weights(4, v)).node("LayerNormalization", &["x", "w", "b"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
    Case {
        name: "two layers",
        model: |v| {
            let b =
                Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4, 6], &weights(24, v));
            let b = b.floats("b", &[6], &weights(6, v)).floats("u", &[6, 3], &weights(18, v));
            let b = b.node("MatMul", &["x", "w"], &["h"], &[]).node("Add", &["h", "b"], &["g"], &[]);
            b.node("Tanh", &["g"], &["t"], &[]).node("MatMul", &["t", "u"], &["y"], &[])
        },
        input: "[[0.5, -0.25, 0.75, 0.125]]",
    },
];

/// Sets a variant of a model up; with a calibration, its ranges are from there.
fn setup(
    dir: &Path,
    case: &Case,
    variant: u32,
    visibility: &str,
    calibration: Option<Arc<Calibration>>,
) -> (Prepared, Keys, PathBuf) {
    let (model, input) = (dir.join(format!("{variant}.onnx")), dir.join("input.json"));
    std::fs::write(&model, (case.model)(variant).bytes()).unwrap();
    std::fs::write(&input, format!(r#"{{"input_data": {}}}"#, case.input)).unwrap();
    let mut session = session();
    let options = Options { visibility: visibility.parse().unwrap(), calibration, ..Options::default() };
    let imported = session.import(&model, &options.import).unwrap();
    let samples = vec![session.input(&imported, &input, Surplus::Refuse).unwrap()];
    let prepared =
        session.prepare(imported, &samples, &options).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let srs = session.srs(None, prepared.k()).unwrap();
    let keys = session.keys(&prepared, &srs).unwrap();
    let out = dir.join(format!("keys-{variant}"));
    session.write_setup(&out, &prepared, &keys).unwrap();
    (prepared, keys, out)
}

/// A file of a verifier's; of JSON only what is no digest or proof of something private.
fn told(dir: &Path, name: &str, without: &[&str]) -> Vec<u8> {
    let bytes = std::fs::read(dir.join(name)).unwrap();
    if without.is_empty() {
        return bytes;
    }
    let mut value: Value = serde_json::from_slice(&bytes).unwrap();
    for member in without.iter().chain(&["checksum"]) {
        value.as_object_mut().unwrap().remove(*member);
    }
    value.to_string().into_bytes()
}

const FILES: [&str; 4] =
    [session::CIRCUIT_BIN, session::VK_BIN, session::CALIBRATION_JSON, session::INPUTS_JSON];

#[test]
fn other_weights_of_the_same_ranges_give_the_same_files() {
    for (i, case) in CASES.iter().enumerate() {
        let visibilities = [
            ("params=private,output=private", &[][..]),
            ("params=hashed,output=private", &["params_digest"]),
            ("params=committed,output=private", &[]),
        ];
        // Digests and commitments are of tensors, whatever reads them.
        for (visibility, without) in visibilities.into_iter().take(if i < 2 { 3 } else { 1 }) {
            let scratch = Scratch::new(&case.name.replace(' ', "-"));
            let (prepared, _, first) = setup(&scratch.0, case, 0, visibility, None);
            let calibration = prepared.quantised.calibration.clone();
            let (other, _, second) = setup(&scratch.0, case, 1, visibility, Some(calibration));
            assert_ne!(prepared.quantised.program_hash, other.quantised.program_hash, "{}", case.name);
            for name in FILES {
                assert!(told(&first, name, &[]) == told(&second, name, &[]), "{}: {name}", case.name);
            }
            let settings = |dir| told(dir, session::SETTINGS_JSON, without);
            assert!(settings(&first) == settings(&second), "{}: settings", case.name);
            // Nothing of the verifier's names the file.
            let hash = other.quantised.imported.hash.as_bytes();
            for name in [session::SETTINGS_JSON, session::CALIBRATION_JSON, session::CIRCUIT_BIN] {
                let bytes = told(&second, name, &[]);
                assert!(!bytes.windows(hash.len()).any(|w| w == hash), "{}: {name}", case.name);
            }
        }
    }
}

#[test]
fn other_inputs_under_a_setup_give_the_same_files() {
    let case = &CASES[0];
    let scratch = Scratch::new("inputs");
    let (_, _, keys) = setup(&scratch.0, case, 0, "output=private", None);
    let mut dirs = Vec::new();
    for (i, values) in ["[[0.5, -0.25, 0.75, 0.125]]", "[[0.1, 0.2, -0.3, 0.7]]"].iter().enumerate() {
        let mut session = session();
        let input = scratch.0.join("other.json");
        std::fs::write(&input, format!(r#"{{"input_data": {values}}}"#)).unwrap();
        let imported = session.import(&scratch.0.join("0.onnx"), &Default::default()).unwrap();
        let input = session.input(&imported, &input, Surplus::Refuse).unwrap();
        let (prepared, keys) = session.resume(imported, Setup::read(&keys).unwrap(), None).unwrap();
        let witness = session.witness(&prepared.quantised, &input).unwrap();
        let proof = session.prove(&prepared, &keys, &witness).unwrap();
        session.verify(&keys, &proof).unwrap();
        let out = scratch.0.join(format!("proof-{i}"));
        session.write_proof(&out, &prepared, &keys, &proof).unwrap();
        let mut names: Vec<String> =
            std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let expected = [
            session::CALIBRATION_JSON,
            session::CIRCUIT_BIN,
            session::INPUTS_JSON,
            session::PROOF_JSON,
            session::SETTINGS_JSON,
            session::VK_BIN,
        ];
        assert_eq!(names, expected);
        dirs.push(out);
    }
    for name in FILES.iter().chain(&[session::SETTINGS_JSON]) {
        assert!(told(&dirs[0], name, &[]) == told(&dirs[1], name, &[]), "{name}");
    }
    let proof = |dir: &Path| told(dir, session::PROOF_JSON, &["proof"]);
    assert_eq!(proof(&dirs[0]), proof(&dirs[1]));
    assert_ne!(told(&dirs[0], session::PROOF_JSON, &[]), told(&dirs[1], session::PROOF_JSON, &[]));
}

#[test]
fn ranges_of_samples_are_powers_of_two() {
    // A divisor's least value decides a bound, an exponential's ends a table.
    let b = Builder::new().input("x", FLOAT, &[1, 4]).output("y").ints("axes", &[1]);
    let b = b.node("ReduceSum", &["x", "axes"], &["s"], &[]).node("Div", &["x", "s"], &["y"], &[]);
    let scratch = Scratch::new("powers");
    let model = scratch.0.join("model.onnx");
    std::fs::write(&model, b.bytes()).unwrap();
    let mut circuits = Vec::new();
    for values in ["[[1.17, 1.9, 1.5, 1.6066]]", "[[1.3, 1.1, 1.8, 1.2]]"] {
        let mut session = session();
        let input = scratch.0.join("input.json");
        std::fs::write(&input, format!(r#"{{"input_data": {values}}}"#)).unwrap();
        let options = Options { own_input: true, ..Options::default() };
        let imported = session.import(&model, &options.import).unwrap();
        let input = session.input(&imported, &input, Surplus::Refuse).unwrap();
        let prepared = session.prepare(imported, &[input], &options).unwrap();
        let path = scratch.0.join("calibration.json");
        session::write_json(&path, Kind::Calibration, &*prepared.quantised.calibration).unwrap();
        let calibration: Calibration = session::read_json(&path, Kind::Calibration).unwrap();
        for range in &calibration.ranges {
            for end in [&range.lo, &range.hi] {
                let number: f64 = end.trim_start_matches(['<', '>']).parse().unwrap();
                assert!(number == 0.0 || number.abs().log2().fract() == 0.0, "{}: {end}", range.name);
            }
        }
        circuits.push(postcard::to_stdvec(&prepared.shape()).unwrap());
    }
    assert!(circuits[0] == circuits[1], "the circuit tells of an input more than powers of two");
}

#[test]
fn a_visibility_of_parameters_needs_some() {
    let scratch = Scratch::new("none");
    let (model, input) = (scratch.0.join("m.onnx"), scratch.0.join("input.json"));
    let b = Builder::new().input("x", FLOAT, &[1, 2]).output("y").node("Add", &["x", "x"], &["y"], &[]);
    std::fs::write(&model, b.bytes()).unwrap();
    std::fs::write(&input, r#"{"input_data": [[0.5, -0.25]]}"#).unwrap();
    for (visibility, refused) in [
        ("params=hashed", true),
        ("params=committed", true),
        ("params=public", true),
        ("params=private", false),
    ] {
        let mut session = session();
        let options = Options { visibility: visibility.parse().unwrap(), ..Options::default() };
        let imported = session.import(&model, &options.import).unwrap();
        let samples = vec![session.input(&imported, &input, Surplus::Refuse).unwrap()];
        match session.prepare(imported, &samples, &options) {
            Ok(_) => assert!(!refused, "{visibility}"),
            Err(e) => assert!(refused && e.to_string().contains("no parameters"), "{visibility}: {e}"),
        }
    }
}
