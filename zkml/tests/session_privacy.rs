//! What a verifier gets does not depend on what is private: weights of the same ranges, and inputs under a setup from public samples.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "this file uses its part")]
#[path = "front_common/build.rs"]
mod build;

#[path = "machine_common/second.rs"]
mod second;

#[path = "front_common/weighted.rs"]
mod weighted;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use build::{Builder, FLOAT};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::onnx::{operators, operators_of};
use parhelion_zkml::quant::calibrate::{Calibration, RangeEntry};
use parhelion_zkml::session::{self, Cache, Keys, Kind, Options, Prepared, Session, Setup};
use serde_json::Value;
use weighted::{CASES, Make, WITHOUT, Weights, sample};

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

/// Sets a variant of a model up; with a calibration, its ranges are from there.
fn setup(
    dir: &Path,
    (name, make): (&str, Make),
    variant: u64,
    visibility: &str,
    calibration: Option<Arc<Calibration>>,
) -> (Prepared, Keys, PathBuf) {
    let model = dir.join(format!("{variant}.onnx"));
    std::fs::write(&model, make(&mut Weights(variant)).bytes()).unwrap();
    let mut session = session();
    let options = Options { visibility: visibility.parse().unwrap(), calibration, ..Options::default() };
    let imported = session.import(&model, &options.import).unwrap_or_else(|e| panic!("{name}: {e}"));
    let samples = vec![sample(&imported.model)];
    let prepared = session.prepare(imported, &samples, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
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
    for (i, &(name, make)) in CASES.iter().enumerate() {
        let visibilities = [
            ("params=private,output=private", &[][..]),
            ("params=hashed,output=private", &["params_digest"]),
            ("params=committed,output=private", &[]),
        ];
        // Digests and commitments are of tensors, whatever reads them.
        for (visibility, without) in visibilities.into_iter().take(if i < 2 { 3 } else { 1 }) {
            let scratch = Scratch::new(&format!("case-{i}"));
            let (prepared, _, first) = setup(&scratch.0, (name, make), 1, visibility, None);
            let calibration = prepared.quantised.calibration.clone();
            let (other, _, second) = setup(&scratch.0, (name, make), 2, visibility, Some(calibration));
            assert_ne!(prepared.quantised.program_hash, other.quantised.program_hash, "{name}");
            for file in FILES {
                assert!(told(&first, file, &[]) == told(&second, file, &[]), "{name}: {file}");
            }
            let settings = |dir| told(dir, session::SETTINGS_JSON, without);
            assert!(settings(&first) == settings(&second), "{name}: settings");
            // Nothing of the verifier's names the file.
            let hash = other.quantised.imported.hash.as_bytes();
            for file in [session::SETTINGS_JSON, session::CALIBRATION_JSON, session::CIRCUIT_BIN] {
                let bytes = told(&second, file, &[]);
                assert!(!bytes.windows(hash.len()).any(|w| w == hash), "{name}: {file}");
            }
        }
    }
}

#[test]
fn every_operator_has_a_case_or_carries_no_weights() {
    let others = ["ai.onnx.ml", "com.microsoft"].into_iter().flat_map(operators_of);
    let table: BTreeSet<&str> = operators().chain(others).map(|o| o.name).collect();
    let with: BTreeSet<&str> = CASES.iter().map(|(name, _)| name.split(' ').next().unwrap()).collect();
    let without: BTreeSet<&str> = WITHOUT.iter().copied().collect();
    for name in &table {
        let (with, without) = (with.contains(name), without.contains(name));
        assert!(with != without, "{name}: a case of its weights, or a reason for none, and not both");
    }
    assert!(without.is_subset(&table), "{:?}", without.difference(&table));
}

#[test]
fn other_inputs_under_a_setup_give_the_same_files() {
    let scratch = Scratch::new("inputs");
    let (_, _, keys) = setup(&scratch.0, CASES[0], 1, "output=private", None);
    let mut dirs = Vec::new();
    for (i, values) in
        ["[[0.5, -0.25, 0.75, 0.125, 0.5, 0, -0.5, 0.25]]", "[[0.1, 0.2, -0.3, 0.7, 0.9, -0.9, 0.3, 0]]"]
            .iter()
            .enumerate()
    {
        let mut session = session();
        let input = scratch.0.join("other.json");
        std::fs::write(&input, format!(r#"{{"input_data": {values}}}"#)).unwrap();
        let imported = session.import(&scratch.0.join("1.onnx"), &Default::default()).unwrap();
        let input = session.input(&imported, &input, Surplus::Refuse).unwrap();
        let (prepared, keys) = session.resume(imported, Setup::read(&keys).unwrap(), None).unwrap();
        let witness = session.witness(&prepared.quantised, &input).unwrap();
        let proof = session.prove(&prepared, &keys, &witness).unwrap();
        session.verify(&keys, &proof).unwrap();
        second::accepts(&keys, &proof);
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
        // All that a file says of a value: whoever adds to it has to say what it tells of samples.
        for RangeEntry { value: _, name, lo, hi, least, below: _, above: _ } in &calibration.ranges {
            for end in [lo, hi].into_iter().chain(least) {
                let number: f64 = end.trim_start_matches(['<', '>']).parse().unwrap();
                assert!(number == 0.0 || number.abs().log2().fract() == 0.0, "{name}: {end}");
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

/// Divisors whose least magnitude is a power of two: the samples themselves are within what their ranges admit.
#[test]
fn a_divisor_at_the_end_of_its_range_is_proven() {
    for sum in [4.0f64, 1.0, 0.25, -4.0, -1.0, 3.0] {
        let b = Builder::new().input("x", FLOAT, &[1, 4]).output("y").ints("axes", &[1]);
        let b = b.node("ReduceSum", &["x", "axes"], &["s"], &[]).node("Div", &["x", "s"], &["y"], &[]);
        let scratch = Scratch::new(&format!("divisor{sum}"));
        let (model, input) = (scratch.0.join("model.onnx"), scratch.0.join("input.json"));
        std::fs::write(&model, b.bytes()).unwrap();
        let quarter = sum / 4.0;
        std::fs::write(&input, format!(r#"{{"input_data": [{:?}]}}"#, [quarter; 4])).unwrap();
        let mut session = session();
        let imported = session.import(&model, &Default::default()).unwrap();
        let input = session.input(&imported, &input, Surplus::Refuse).unwrap();
        let prepared = session.prepare(imported, std::slice::from_ref(&input), &Options::default()).unwrap();
        let witness = session.witness(&prepared.quantised, &input).unwrap();
        session.mock(&prepared, &witness).unwrap_or_else(|e| panic!("{sum}: {e}"));
        let worst = prepared.quantised.max_abs_error(&witness, &input).unwrap();
        assert!(worst < 1e-3, "{sum}: off by {worst}");
    }
}
