//! The command, end to end, on the models of `examples/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Scratch, fails, repo, succeeds};
use parhelion_zkml::session;
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(args)).unwrap()
}

fn text(path: std::path::PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

fn example(name: &str) -> (String, String) {
    let file = |f: &str| text(repo(&format!("examples/{name}/{f}")));
    (file("model.onnx"), file("input.json"))
}

fn sum(v: &Value) -> f64 {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum()
}

/// Proves, checks the report, verifies what was written.
fn prove_and_verify(name: &str, more: &[&str]) -> Value {
    let (model, input) = example(name);
    let scratch = Scratch::new(&format!("e2e-{name}-{}", more.len()));
    let out = text(scratch.path("out"));
    let mut args = vec!["prove", &model, "--input", &input, "--out", &out, "--json"];
    args.extend(more);
    let report = json(&args);
    assert_eq!(report["verified"], true);
    for key in ["import", "calibrate", "plan", "keygen", "witness", "prove", "verify"] {
        assert!(report["timings_ms"][key].as_f64().unwrap() >= 0.0, "{key}");
    }
    for key in ["proof_bytes", "pk_bytes", "vk_bytes", "rows_used", "k"] {
        assert!(report[key].as_u64().unwrap() > 0, "{key}");
    }
    for key in ["advice", "phase2", "fixed"] {
        assert!(report["columns"][key].is_u64(), "{key}");
    }
    for key in ["msm", "ntt", "quotient"] {
        assert_eq!(report["backend"][key], "cpu", "{key}");
    }
    assert!(report["max_abs_error"].as_f64().unwrap() < 1e-2);
    assert_eq!(report["outputs"][0].as_array().unwrap().len(), 10);
    let mut written = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    written.sort();
    assert_eq!(
        written,
        ["calibration.json", "circuit.bin", "inputs.json", "proof.json", "settings.json", "vk.bin"]
    );
    let verdict = json(&["verify", &out, "--model", &model, "--json"]);
    assert_eq!(verdict["strength"], "model");
    assert_eq!((&verdict["verified"], &verdict["secure_srs"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(verdict["statement"], report["statement"]);
    let fixed = more.iter().any(|m| m.contains("params=fixed"));
    assert_eq!(verdict["model_bound"], fixed);
    assert_eq!(verdict["model_hash"], if fixed { report["model_hash"].clone() } else { Value::Null });
    if !more.iter().any(|m| m.contains("output=private")) {
        let proven: f64 = verdict["outputs"][0]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().parse::<f64>().unwrap())
            .sum();
        assert!((proven - sum(&report["outputs"][0])).abs() < 1e-9);
    }
    report
}

#[test]
fn digits_mlp() {
    prove_and_verify("digits-mlp", &[]);
}

#[test]
fn mnist_cnn() {
    prove_and_verify("mnist-cnn", &[]);
}

#[test]
fn every_visibility() {
    for visibility in [
        "input=public,output=public,params=private",
        "input=public,output=private,params=fixed",
        "input=private,output=public,params=fixed",
    ] {
        prove_and_verify("digits-mlp", &["--visibility", visibility]);
    }
}

#[test]
fn keys_are_made_once_and_damaged_ones_again() {
    let (model, input) = example("digits-mlp");
    let scratch = Scratch::new("cache");
    let cache = text(scratch.path("cache"));
    let args = ["prove", &model, "--input", &input, "--cache", &cache, "--json"];
    assert_eq!(json(&args)["keys_from_cache"], false);
    assert_eq!(json(&args)["keys_from_cache"], true);
    let folder = scratch.path("cache").join("keys");
    let key = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&key).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&key, bytes).unwrap();
    assert_eq!(json(&args)["keys_from_cache"], false);
    assert_eq!(json(&args)["keys_from_cache"], true);
    assert_eq!(json(&["prove", &model, "--input", &input, "--no-cache", "--json"])["keys_from_cache"], false);
}

#[test]
fn one_setup_serves_many_inputs() {
    let (model, input) = example("digits-mlp");
    let scratch = Scratch::new("setup");
    let keys = text(scratch.path("keys"));
    succeeds(["setup", &model, "--input", &input, "--out", &keys]);
    let images = std::fs::read(repo("examples/digits-mlp/input.json")).unwrap();
    let other = scratch.write("other.json", String::from_utf8(images).unwrap().replace("0.5", "0.25"));
    let mut hashes = Vec::new();
    for (i, file) in [input, text(other)].iter().enumerate() {
        let out = text(scratch.path(&format!("proof{i}")));
        succeeds(["prove", &model, "--input", file, "--setup", &keys, "--out", &out]);
        succeeds(["verify", &out, "--setup", &keys]);
        hashes.push(std::fs::read(scratch.path(&format!("proof{i}")).join("vk.bin")).unwrap());
    }
    assert_eq!(hashes[0], hashes[1]);
    // The keys are of one model.
    let (mnist, image) = example("mnist-cnn");
    fails(["prove", &mnist, "--input", &image, "--setup", &keys], &["does not belong"]);
}

#[test]
fn reference_strings() {
    let scratch = Scratch::new("strings");
    let file = |name: &str| text(scratch.path(name));
    succeeds(["srs", "gen", "--k", "12", "--out", &file("dev.srs")]);
    let check = json(&["srs", "check", &file("dev.srs"), "--json"]);
    assert_eq!((&check["k"], &check["secure"]), (&Value::from(12), &Value::Bool(false)));
    // Through halo2's format, which has no place for the origin: the development string is recognised all the same.
    let srs = session::read_srs(&scratch.path("dev.srs")).unwrap();
    let mut raw = Vec::new();
    srs.write_halo2(&mut raw, parhelion_prover::srs::PointFormat::Raw).unwrap();
    scratch.write("raw", &raw);
    succeeds(["srs", "check", &file("raw")]);
    succeeds(["srs", "import", &file("raw"), "--k", "11", "--out", &file("imported.srs")]);
    let (model, input) = example("digits-mlp");
    succeeds(["prove", &model, "--input", &input, "--srs", &file("imported.srs"), "--out", &file("proof")]);
    let verdict = json(&["verify", &file("proof"), "--unpinned", "--json"]);
    assert_eq!(verdict["srs"], "insecure");
    succeeds(["verify", &file("proof"), "--rederive", "--srs", &file("imported.srs")]);
    // A string of another secret is consistent, and is not the proof's.
    let other = parhelion_prover::Srs::insecure_from_seed(8, 7).unwrap();
    let mut bytes = Vec::new();
    other.write(&mut bytes).unwrap();
    scratch.write("other.srs", &bytes);
    succeeds(["srs", "check", &file("other.srs")]);
    fails(["verify", &file("proof"), "--srs", &file("other.srs")], &["other.srs"]);
    // Points that are no powers of one secret.
    let mut mixed = Vec::new();
    parhelion_prover::Srs::from_parts(
        8,
        other.g().to_vec(),
        Some(other.g_lagrange().to_vec()),
        other.g2(),
        srs.s_g2(),
        parhelion_prover::srs::Origin::Unknown,
    )
    .unwrap()
    .write(&mut mixed)
    .unwrap();
    scratch.write("mixed.srs", &mixed);
    fails(["srs", "check", &file("mixed.srs")], &["mixed.srs"]);
}

#[test]
fn what_is_proven_is_what_is_inspected() {
    let (model, input) = example("mnist-cnn");
    let report = json(&["inspect", &model, "--input", &input, "--json"]);
    assert_eq!(report["parameters"], 19_670);
    let layers = report["layers"].as_array().unwrap();
    for name in ["conv1", "fc1"] {
        assert!(layers.iter().any(|l| l["name"].as_str().unwrap().contains(name)), "{name}");
    }
    assert!(report["rows_used"].as_u64().unwrap() <= report["rows"].as_u64().unwrap());
    let table = succeeds(["inspect", &model, "--input", &input]);
    assert!(table.contains("share") && table.contains("19670 parameters"), "{table}");
}

#[test]
fn mock_and_witness() {
    let (model, input) = example("digits-mlp");
    let scratch = Scratch::new("witness");
    let out = text(scratch.path("witness.json"));
    assert!(succeeds(["mock", &model, "--input", &input]).contains("every constraint holds"));
    succeeds(["witness", &model, "--input", &input, "--out", &out]);
    let witness: session::WitnessFile =
        session::read_json(&scratch.path("witness.json"), session::Kind::Witness).unwrap();
    assert_eq!((witness.inputs[0].len(), witness.outputs[0].len()), (64, 10));
}

#[test]
fn digits_accuracy_is_within_half_a_point_of_float() {
    let file = |f: &str| text(repo(&format!("examples/digits-mlp/{f}")));
    let report = json(&[
        "accuracy",
        &file("model.onnx"),
        "--images",
        &file("held-out-images.idx.gz"),
        "--labels",
        &file("held-out-labels.idx.gz"),
        "--divide",
        "16",
        "--json",
    ]);
    assert_eq!(report["images"], 1000);
    let (float, integer) =
        (report["float_top1"].as_f64().unwrap(), report["quantised_top1"].as_f64().unwrap());
    assert!(float > 0.95 && (float - integer).abs() <= 0.005, "{report}");
}

#[test]
fn mnist_accuracy_is_within_half_a_point_of_float() {
    let shared = std::env::var("PARHELION_SHARED").map_or_else(|_| repo("../shared"), Into::into);
    let images = shared.join("data/mnist/t10k-images-idx3-ubyte.gz");
    if !images.is_file() {
        println!("skipped: {} is not here", images.display());
        return;
    }
    let labels = text(shared.join("data/mnist/t10k-labels-idx1-ubyte.gz"));
    let (model, _) = example("mnist-cnn");
    let images = text(images);
    let report = json(&[
        "accuracy",
        &model,
        "--images",
        &images,
        "--labels",
        &labels,
        "--range",
        "7000..8000",
        "--json",
    ]);
    let (float, integer) =
        (report["float_top1"].as_f64().unwrap(), report["quantised_top1"].as_f64().unwrap());
    assert!(float > 0.97 && (float - integer).abs() <= 0.005, "{report}");
}

#[test]
fn figures_of_benchmarks_have_their_keys() {
    for op in ["msm", "ntt", "quotient", "proof"] {
        let report =
            json(&["bench", op, "--log-n", "8", "--runs", "2", "--against", "halo2-axiom", "--json"]);
        assert_eq!((&report["op"], &report["log_n"]), (&Value::from(op), &Value::from(8)));
        let [ours, theirs, ratio] = ["ours_ms", "theirs_ms", "ratio"].map(|k| report[k].as_f64().unwrap());
        assert!(ours > 0.0 && ((theirs / ours) / ratio - 1.0).abs() < 1e-6, "{report}");
    }
}

#[test]
fn the_machine_is_described() {
    let devices = json(&["devices", "--json"]);
    assert!(devices["devices"].as_array().unwrap().iter().any(|d| d["backend"] == "cpu"));
    assert!(devices["knobs"].as_array().unwrap().iter().any(|k| k["name"] == "PARHELION_BACKEND"));
    let explained = json(&["explain", "--k", "14", "--batch", "12", "--json"]);
    assert!(explained["decisions"].as_array().unwrap().iter().all(|d| d["chosen"] == "cpu"));
    assert!(succeeds(["explain", "--k", "14"]).contains("msm full 2^14"));
    assert!(succeeds(["completions", "bash"]).contains("parhelion"));
}
