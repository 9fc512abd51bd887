//! Digests, commitments and links between proofs, as the command makes and checks them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::{Scratch, errors, fails, parhelion, repo, succeeds};
use parhelion_zkml::session::{self, Kind, ProofFile, Settings};
use serde_json::Value;

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(args)).unwrap()
}

fn digits(file: &str) -> String {
    text(repo(&format!("examples/digits-mlp/{file}")))
}

/// The value of a tensor's digest or commitment in a report.
fn told<'a>(report: &'a Value, part: &str, visibility: &str) -> &'a str {
    let all = report["disclosed"].as_array().unwrap();
    let one = all.iter().find(|d| d["part"] == part && d["visibility"] == visibility);
    one.unwrap_or_else(|| panic!("no {visibility} {part} in {report}"))["value"].as_str().unwrap()
}

#[test]
fn digests_are_computed_checked_and_bound() {
    let (model, input) = (digits("model.onnx"), digits("input.json"));
    let scratch = Scratch::new("hashed");
    let out = text(scratch.path("out"));
    let all = "input=hashed/public,output=hashed,params=hashed";
    succeeds(["prove", &model, "--input", &input, "--visibility", all, "--out", &out]);
    let proof = json(&["verify", &out, "--unpinned", "--json"]);
    let alone = json(&["hash", &model, "--input", &input, "--json"]);
    for part in ["input", "output", "params"] {
        assert_eq!(told(&proof, part, "hashed"), told(&alone, part, "hashed"), "{part}");
    }
    let settings: Settings = session::read_json(&scratch.path("out/settings.json"), Kind::Settings).unwrap();
    assert_eq!(settings.params_digest.as_deref(), Some(told(&proof, "params", "hashed")));

    let expected = format!("params={}", told(&proof, "params", "hashed"));
    assert!(succeeds(["verify", &out, "--unpinned", "--expect", &expected]).contains("digest of params"));
    let other = format!("params={}", told(&proof, "output", "hashed"));
    fails(["verify", &out, "--expect", &other], &["params", "expected"]);
    fails(["verify", &out, "--expect", "input.tokens=00"], &["input.tokens"]);

    // Somebody who can recompute seals: another digest in the proof, and other weights promised by the settings.
    let path = scratch.path("out/proof.json");
    let honest: ProofFile = session::read_json(&path, Kind::Proof).unwrap();
    for at in 0..3 {
        let mut file = honest.clone();
        let digit = if file.instances[0][at].ends_with('0') { "1" } else { "0" };
        file.instances[0][at].replace_range(63.., digit);
        session::write_json(&path, Kind::Proof, &file).unwrap();
        fails(["verify", &out], &["does not verify"]);
    }
    let mut promised = settings.clone();
    promised.params_digest = Some("0".repeat(64));
    let file = honest.clone();
    session::write_json(&path, Kind::Proof, &file).unwrap();
    session::write_json(&scratch.path("out/settings.json"), Kind::Settings, &promised).unwrap();
    fails(["verify", &out], &["digest of the parameters"]);
}

/// Scales that leave the digits model's scores with the 14 fraction bits that they are told to have.
const COARSE: [&str; 6] = ["--activation-bits", "8", "--weight-bits", "8", "--output-bits", "14"];

/// A model on the digits model's scores: outputs and inputs of one scale, one k and one secret.
struct Chain {
    scratch: Scratch,
}

impl Chain {
    fn path(&self, name: &str) -> String {
        text(self.scratch.path(name))
    }

    fn new(name: &str, visibility: &str) -> Self {
        let chain = Chain { scratch: Scratch::new(name) };
        let report = chain.first("a", &digits("input.json"), visibility, "secret");
        chain.scratch.write("scores.json", format!(r#"{{"input_data": [{}]}}"#, report["outputs"][0]));
        chain
    }

    fn first(&self, out: &str, input: &str, visibility: &str, secret: &str) -> Value {
        let visibility = format!("output={visibility}");
        let (model, out, secret) = (digits("model.onnx"), self.path(out), self.path(secret));
        let more = ["--min-k", "11", "--visibility", &visibility, "--opening", &secret];
        json(&[&["prove", &model, "--input", input, "--out", &out, "--json"][..], &COARSE, &more].concat())
    }

    fn second(&self, out: &str, scores: &str, visibility: &str, secret: &str) -> Value {
        let visibility = format!("input={visibility}");
        let model = text(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/total.onnx"));
        let (out, scores, secret) = (self.path(out), self.path(scores), self.path(secret));
        let more = ["--input-bits", "14", "--min-k", "11", "--visibility", &visibility, "--opening", &secret];
        json(&[&["prove", &model, "--input", &scores, "--out", &out, "--json"][..], &more].concat())
    }
}

#[test]
fn two_proofs_share_a_committed_tensor() {
    let chain = Chain::new("committed", "committed");
    let (a, b) = (chain.path("a"), chain.path("b"));
    let second = chain.second("b", "scores.json", "committed", "secret");
    assert_eq!(second["verified"], true);
    let link = json(&["link", &a, &b, "--unpinned", "--json"]);
    assert_eq!(
        (&link["verified"], &link["linked"][0]["visibility"]),
        (&Value::Bool(true), &"committed".into())
    );
    assert!(succeeds(["link", &a, &b, "--unpinned"]).contains("is input scores"));
    let first = json(&["verify", &a, "--unpinned", "--json"]);
    assert_eq!(told(&first, "output", "committed"), told(&second, "input", "committed"));
    assert!(first["outputs"].as_array().unwrap().is_empty());
    // The same commitment without a circuit.
    let secret = chain.path("secret");
    let (model, input, k) = (digits("model.onnx"), digits("input.json"), first["k"].to_string());
    let more = ["--opening", &secret, "--k", &k, "--json"];
    let alone = json(&[&["hash", &model, "--input", &input][..], &COARSE, &more].concat());
    assert_eq!(told(&first, "output", "committed"), told(&alone, "output", "committed"));

    // Another secret, another tensor, another visibility: not linked.
    chain.second("c", "scores.json", "committed", "other-secret");
    fails(["link", &a, &chain.path("c")], &["scores", "value differs"]);
    let scores = std::fs::read_to_string(chain.path("scores.json")).unwrap();
    let mut lists: Value = serde_json::from_str(&scores).unwrap();
    lists["input_data"][0][0] = Value::from(lists["input_data"][0][0].as_f64().unwrap() / 2.0);
    chain.scratch.write("half.json", lists.to_string());
    chain.second("d", "half.json", "committed", "secret");
    fails(["link", &a, &chain.path("d")], &["value differs"]);
    chain.second("e", "scores.json", "public", "secret");
    fails(["link", &a, &chain.path("e")], &["visibility differs"]);
    fails(["link", &a, &b, "--map", "nothing=scores"], &["nothing"]);
    fails(["link", &a, &b, "--require-secure-srs"], &["not secure"]);
    // The proofs that have commitments are counted, and so many are enough.
    let kept = std::fs::read_to_string(&secret).unwrap();
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!((lines[0].len(), lines[1], lines.len()), (64, "proofs 03", 2));
    let spent = chain.scratch.write("spent", format!("{}\nproofs 64\n", lines[0]));
    let more = ["--visibility", "output=committed", "--opening", spent.to_str().unwrap()];
    fails([&["prove", &model, "--input", &input][..], &more].concat(), &["64 proofs", "opening secret"]);
    succeeds(["prove", &model, "--input", &input, "--opening", spent.to_str().unwrap()]);
    chain.scratch.write("secret", "short");
    fails(["prove", &model, "--input", &input, "--opening", &secret], &["opening secret"]);
}

#[test]
fn public_tensors_link_too() {
    let chain = Chain::new("public-link", "public");
    chain.second("b", "scores.json", "public", "secret");
    let (a, b) = (chain.path("a"), chain.path("b"));
    assert!(succeeds(["link", &a, &b, "--unpinned"]).contains("(public)"));
}

#[test]
fn a_visibility_for_nothing_names_what_there_is() {
    let (model, input) = (digits("model.onnx"), digits("input.json"));
    let mock = |visibility: &str| parhelion(["mock", &model, "--input", &input, "--visibility", visibility]);
    let said = errors(&mock("input.tokens=public"));
    assert!(said.contains("tokens") && said.contains("there are"), "{said}");
    fails(["mock", &model, "--input", &input, "--visibility", "output=fixed"], &["outputs cannot be fixed"]);
    fails(
        ["mock", &model, "--input", &input, "--visibility", "params.*=hashed/private/0"],
        &["digest is always public"],
    );
    fails(["mock", &model, "--input", &input, "--visibility", "weights=hashed"], &["weights"]);
    assert!(mock("params=fixed,params.*bias*=hashed").status.success());
}

#[test]
fn mock_names_what_is_out_of_range() {
    let scratch = Scratch::new("mock-range");
    let (model, input) = (digits("model.onnx"), digits("input.json"));
    let mut lists: Value = serde_json::from_str(&std::fs::read_to_string(&input).unwrap()).unwrap();
    let list = lists["input_data"][0].as_array_mut().unwrap();
    let nested = list.iter().any(Value::is_array);
    if nested {
        list[0].as_array_mut().unwrap()[5] = Value::from(900.0);
    } else {
        list[5] = Value::from(900.0);
    }
    let wild = text(scratch.write("wild.json", lists.to_string()));
    fails(
        ["mock", &model, "--input", &wild, "--calibrate-with", &input],
        &["element", "5", "900", "range ["],
    );
    // Within the inputs' range, and too much for a layer.
    lists["input_data"][0] = Value::from(vec![1.0; 64]);
    let bright = text(scratch.write("bright.json", lists.to_string()));
    let more = ["--headroom", "1.01"];
    let args = ["mock", &model, "--input", &bright, "--calibrate-with", &input];
    let output = parhelion(args.into_iter().chain(more));
    let said = errors(&output);
    assert!(!said.contains("panicked"), "{said}");
    if !output.status.success() {
        assert!(said.contains("element") && said.contains('['), "{said}");
    }
}

#[test]
fn surplus_inputs_are_refused_or_ignored_as_told() {
    let scratch = Scratch::new("surplus");
    let (model, input) = (digits("model.onnx"), digits("input.json"));
    let mut lists: Value = serde_json::from_str(&std::fs::read_to_string(&input).unwrap()).unwrap();
    lists["input_data"].as_array_mut().unwrap().push(Value::from(vec![1, 2]));
    let path = text(scratch.write("surplus.json", lists.to_string()));
    fails(["mock", &model, "--input", &path], &["1 input", "2"]);
    succeeds(["mock", &model, "--input", &path, "--surplus", "ignore"]);
}

#[test]
fn a_table_is_measured_and_checked() {
    let scratch = Scratch::new("tune");
    let table = text(scratch.path("costs.json"));
    let said = succeeds(["tune", "--max-log-n", "8", "--out", &table]);
    assert!(said.contains("points in") && said.contains("PARHELION_TABLE"), "{said}");
    let with = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_parhelion"))
            .args(args)
            .env("PARHELION_TABLE", &table)
            .output()
            .unwrap()
    };
    let check = with(&["tune", "--check", "--max-regret", "1000", "--samples", "4", "--max-log-n", "8"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.status.success() && said.contains("regret over 4 samples: mean"),
        "{said}{}",
        errors(&check)
    );
    let explained = with(&["explain", "--k", "8", "--batch", "4", "--json"]);
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let msm = &explained["decisions"][0]["candidates"][0];
    assert!(msm["predicted_ms"].as_f64().unwrap() > 0.0, "{msm}");
    assert!(!msm["why"].as_str().unwrap().is_empty());
    fails(["tune", "--check"], &["no table"]);
    fails(["tune", "--check", "--max-regret", "0.5"], &["0.5"]);
    assert_eq!(parhelion(["tune", "--max-regret", "2"]).status.code(), Some(2));
}
