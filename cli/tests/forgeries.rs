//! Forgeries with the files that a verifier gets, through the command: each is refused, or told for what it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../zkml/tests/front_common/build.rs"]
#[allow(dead_code, reason = "this file uses its part")]
mod build;
mod common;
mod forge;

use std::sync::Arc;

use build::{A, Builder, FLOAT, INT8, UINT8};
use common::{errors, fails, parhelion, succeeds};
use ff::Field;
use forge::{Case, Forger, INPUT, json, layer, text};
use halo2curves::bn256::Fr;
use parhelion_prover::keys;
use parhelion_zkml::exec;
use parhelion_zkml::machine::{Bench, Choice, ModelCircuit, PlanOptions, Visibility, plan};
use parhelion_zkml::qir::{Program, Role};
use parhelion_zkml::session::{self, Interface, Kind, ProofFile, Settings};
use serde_json::Value;

/// Code of `bool`.
const BOOL: i32 = 9;

#[test]
fn a_flag_of_three_has_no_proof() {
    let model = Builder::new().input("c", BOOL, &[1, 4]).output("y");
    let model = model.node("Cast", &["c"], &["y"], &[("to", A::Int(1))]).bytes();
    let case = Case::new("flag", &model, r#"{"input_data": [[false, true, true, false]]}"#);
    case.setup("keys", "output=public");
    let keys = case.path("keys");
    case.prove("proof", &["--setup", &keys]);
    let forger = Forger::new(&case, "proof", "output=public");
    let plan = &forger.prepared.plan;
    let bench = Bench::new(plan, &forger.witness.trace.values).unwrap();
    let input = forger.prepared.quantised.program().inputs[0].0;
    let flag = bench.element(input, 0).unwrap();
    let minus = -Fr::ONE;
    // Another flag, with all its copies and the public value: nothing but the bounds of a flag stands against it.
    for (value, code) in [(1, 0), (0, 0), (2, 1), (3, 1), (7, 1), (15, 1), (-1, 1)] {
        let value = if value < 0 { minus } else { Fr::from(value as u64) };
        let changes: Vec<_> = bench.class(flag).into_iter().map(|cell| (cell, value)).collect();
        assert_eq!(bench.accepts(&changes), code == 0, "{value:?}");
        let key = forger.keygen(ModelCircuit::new(plan));
        forger.write_run(&forger.circuit, forger.scale(), key, bench.forge(&changes), |_| ());
        for pin in [&["--setup", &keys][..], &["--model", &case.model], &["--unpinned"]] {
            let (found, _, said) = case.verify("proof", pin);
            assert_eq!(found, code, "{value:?} {pin:?}: {said}");
        }
    }
}

#[test]
fn weights_that_nobody_sees_are_not_said_to_be_the_models() {
    let case = Case::new("zeros", &layer(1.0), INPUT);
    for visibility in ["params=private", "params=hashed"] {
        case.setup("keys", visibility);
        let keys = case.path("keys");
        let honest = case.prove("proof", &["--setup", &keys]);
        let forger = Forger::new(&case, "proof", visibility);
        // All weights zero, under the honest key.
        let mut program = forger.prepared.quantised.program().clone();
        for tensor in program.tensors.iter_mut().filter(|t| t.role == Role::Param) {
            tensor.data = tensor.data.as_ref().map(|d| Arc::from(vec![0; d.len()]));
        }
        let trace = exec::run(&program, &forger.witness.inputs).unwrap();
        let choice = Some(forger.prepared.plan.report().choice);
        let options = PlanOptions { choice, ..PlanOptions::default() };
        let zeros = plan(&program, &visibility.parse().unwrap(), &options).unwrap();
        let model = ModelCircuit::with_trace(&zeros, &trace.values).unwrap();
        let key = forger.keygen(ModelCircuit::new(&forger.prepared.plan));
        forger.write_run(&forger.circuit, forger.scale(), key, model, |_| ());
        if visibility == "params=hashed" {
            for pin in [&["--setup", &keys][..], &["--model", &case.model], &[]] {
                case.refuses("proof", pin, &["digest of the parameters"]);
            }
            continue;
        }
        for pin in [&["--setup", &keys][..], &["--model", &case.model]] {
            let verdict = case.verdict("proof", pin);
            assert_eq!(verdict["statement"], honest["statement"]);
            assert_eq!((&verdict["model_bound"], &verdict["model_hash"]), (&false.into(), &Value::Null));
            assert!(verdict["sentence"].as_str().unwrap().contains("some weights of this architecture"));
            assert!(verdict["remarks"].to_string().contains("which weights is not proven"), "{verdict}");
            let hash = session::digest_hex(&[&std::fs::read(&case.model).unwrap()]);
            assert!(!case.verify("proof", pin).1.contains(&hash));
        }
    }
}

#[test]
fn weights_are_not_said_to_be_in_a_key_that_has_none() {
    let case = Case::new("visibility", &layer(1.0), INPUT);
    let honest = case.setup("keys", "params=private")["statement"].as_str().unwrap().to_owned();
    let keys = case.path("keys");
    case.prove("proof", &["--setup", &keys]);
    let forger = Forger::new(&case, "proof", "params=private");
    type Parts = (Program, Visibility, Choice, Interface);
    let mut parts: Parts = postcard::from_bytes(&forger.circuit).unwrap();
    parts.1 = "params=fixed".parse().unwrap();
    parts.0.tensors.clone_from(&forger.prepared.quantised.program().tensors);
    let circuit = postcard::to_stdvec(&parts).unwrap();
    let key = forger.keygen(ModelCircuit::new(&forger.prepared.plan));
    forger.write(&circuit, forger.scale(), key, |_| ());
    case.refuses("proof", &["--statement", &honest], &["the statement is not the one that was named"]);
    case.refuses("proof", &["--setup", &keys], &["does not belong"]);
    case.refuses("proof", &["--model", &case.model], &[]);
    case.refuses("proof", &["--rederive"], &[]);
}

#[test]
fn the_pin_is_compared_before_the_circuit_is_read() {
    let case = Case::new("cheap", &layer(1.0), INPUT);
    let honest = case.setup("keys", "params=private")["statement"].as_str().unwrap().to_owned();
    case.prove("proof", &["--setup", &case.path("keys")]);
    // Files that name each other, with a circuit that is none.
    let dir = case.scratch.path("proof");
    session::write_binary(&dir.join(session::CIRCUIT_BIN), Kind::Circuit, b"no circuit").unwrap();
    let path = dir.join(session::SETTINGS_JSON);
    let mut settings: Settings = session::read_json(&path, Kind::Settings).unwrap();
    settings.circuit_hash = session::digest_hex(&[b"no circuit"]);
    session::write_json(&path, Kind::Settings, &settings).unwrap();
    case.refuses("proof", &["--statement", &honest], &["the statement is not the one that was named"]);
    let vk = std::fs::read(dir.join(session::VK_BIN)).unwrap();
    settings.statement = forge::statement(b"no circuit", &vk, &settings.srs.s_g2);
    session::write_json(&path, Kind::Settings, &settings).unwrap();
    case.refuses("proof", &[], &["proof", "names another statement"]);
    let path = dir.join(session::PROOF_JSON);
    let mut proof: ProofFile = session::read_json(&path, Kind::Proof).unwrap();
    proof.statement.clone_from(&settings.statement);
    session::write_json(&path, Kind::Proof, &proof).unwrap();
    case.refuses("proof", &[], &["circuit.bin"]);
}

#[test]
fn integer_weights_are_not_in_the_verifiers_files() {
    let weights: Vec<i64> = (0..48).map(|i| (i * 37 + 11) % 255 - 127).collect();
    let model = Builder::new()
        .input("x", FLOAT, &[1, 12])
        .output("y")
        .floats("s", &[], &[0.05])
        .bytes8("z", UINT8, &[], &[120])
        .bytes8("w", INT8, &[12, 4], &weights)
        .bytes8("zw", INT8, &[], &[0])
        .node("QuantizeLinear", &["x", "s", "z"], &["q"], &[])
        .node("MatMulInteger", &["q", "w", "z", "zw"], &["y"], &[])
        .bytes();
    let numbers: Vec<String> = (0..12).map(|i| format!("{}", (i * 10 - 58) as f32 / 100.0)).collect();
    let input = format!(r#"{{"input_data": [[{}]]}}"#, numbers.join(","));
    let case = Case::new("int8", &model, &input);
    for visibility in ["params=private", "params=hashed", "params=committed"] {
        case.prove("proof", &["--visibility", visibility]);
        let verdict = case.verdict("proof", &["--unpinned"]);
        let told = verdict["disclosed"].as_array().unwrap();
        assert_eq!(told.iter().any(|d| d["part"] == "params"), visibility != "params=private", "{verdict}");
        // As bytes, and as the circuit's file writes integers.
        let bytes: Vec<u8> = weights.iter().map(|&w| w as u8).collect();
        let varints = postcard::to_stdvec(&weights).unwrap()[1..].to_vec();
        for name in [session::CIRCUIT_BIN, session::VK_BIN, session::SETTINGS_JSON, session::CALIBRATION_JSON]
        {
            let file = std::fs::read(case.scratch.path("proof").join(name)).unwrap();
            for part in [&bytes[..16], &varints[..16]] {
                assert!(!file.windows(16).any(|w| w == part), "{visibility}: weights in {name}");
            }
        }
    }
    // Where they are to be seen, they are: the test finds what it looks for.
    case.prove("proof", &["--visibility", "params=fixed"]);
    let file = std::fs::read(case.scratch.path("proof").join(session::CIRCUIT_BIN)).unwrap();
    let varints = postcard::to_stdvec(&weights).unwrap()[1..].to_vec();
    assert!(file.windows(16).any(|w| w == &varints[..16]));
}

#[test]
fn a_setup_does_not_take_a_poisoned_key() {
    let case = Case::new("poison", &layer(1.0), INPUT);
    let cache = case.path("cache");
    let setup = |out: &str| {
        let out = case.path(out);
        json(&["--cache", &cache, "setup", &case.model, "--input", &case.input, "--out", &out, "--json"])
    };
    let honest = setup("first");
    case.prove("proof", &["--setup", &case.path("first")]);
    let forger = Forger::new(&case, "proof", "params=private");
    let folder = case.scratch.path("cache").join("keys");
    let entry = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = Vec::new();
    let zero = forger.keygen(ModelCircuit::new(&forger.prepared.plan).advice_only());
    keys::write_pk(&zero, &mut bytes).unwrap();
    assert_ne!(std::fs::read(&entry).unwrap(), bytes);
    std::fs::write(&entry, &bytes).unwrap();
    assert_eq!(setup("second")["statement"], honest["statement"]);
    let files = ["first", "second"].map(|dir| case.scratch.path(dir));
    for name in [session::VK_BIN, session::SETTINGS_JSON, session::CIRCUIT_BIN, session::PK_BIN] {
        let [first, second] = files.each_ref().map(|dir| std::fs::read(dir.join(name)).unwrap());
        assert!(first == second, "{name}");
    }
}

#[test]
fn numbers_that_stand_in_the_circuit_are_named() {
    let model = Builder::new()
        .input("x", FLOAT, &[1, 4])
        .output("y")
        .floats("factor", &[], &[0.37])
        .floats("w", &[4, 2], &[0.1, 0.2, 0.3, 0.4, -0.1, -0.2, -0.3, -0.4])
        .floats("bias", &[1], &[0.731_234_5])
        .node("Mul", &["x", "factor"], &["a"], &[])
        .node("MatMul", &["a", "w"], &["m"], &[])
        .node("Add", &["m", "bias"], &["y"], &[])
        .bytes();
    let case = Case::new("numbers", &model, INPUT);
    case.prove("proof", &[]);
    let (_, said, _) = case.verify("proof", &[]);
    let line = said.lines().find(|l| l.contains("constants of the model in the circuit, public"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("`factor`") && !line.contains("`w`") && !line.contains("`bias`"), "{line}");
    // They are in the statement: whoever leaves them out has another one.
    let keys = case.path("keys");
    case.setup("keys", "params=private");
    case.prove("proof", &["--setup", &keys]);
    let forger = Forger::new(&case, "proof", "params=private");
    type Parts = (Program, Visibility, Choice, Interface);
    let mut parts: Parts = postcard::from_bytes(&forger.circuit).unwrap();
    assert_eq!(parts.3.numbers, ["factor"]);
    parts.3.numbers.clear();
    let circuit = postcard::to_stdvec(&parts).unwrap();
    let key = forger.keygen(ModelCircuit::new(&forger.prepared.plan));
    forger.write(&circuit, forger.scale(), key, |_| ());
    case.refuses("proof", &["--setup", &keys], &["does not belong"]);
}

#[test]
fn links_are_between_the_statements_that_are_named() {
    let case = Case::new("linked", &layer(1.0), INPUT);
    let keys = case.path("first-keys");
    let coarse = ["--input-bits", "8", "--activation-bits", "8", "--weight-bits", "12"];
    let setup = ["setup", &case.model, "--input", &case.input, "--out", &keys, "--json"];
    let first = json(&[&setup[..], &coarse].concat());
    let proven = case.prove("first", &["--setup", &case.path("first-keys")]);
    // A second model on what the first gives.
    let next = Builder::new().input("h", FLOAT, &[1, 3]).output("z").floats(
        "u",
        &[3, 2],
        &[0.5, -0.25, 0.75, 1.0, -1.0, 0.125],
    );
    let next = text(case.scratch.write("next.onnx", next.node("MatMul", &["h", "u"], &["z"], &[]).bytes()));
    let scores =
        case.scratch.write("scores.json", format!(r#"{{"input_data": [{}]}}"#, proven["outputs"][0]));
    let scale = Forger::new(&case, "first", "output=public").scale().to_string();
    let (scores, second) = (text(scores), case.path("second"));
    let prove = ["prove", &next, "--input", &scores, "--visibility", "input=public", "--input-bits", &scale];
    let second = json(&[&prove[..], &["--out", &second, "--json"]].concat());
    let (a, b) = (case.path("first"), case.path("second"));
    let of = |v: &Value| v["statement"].as_str().unwrap().to_owned();
    let (from, to) = (of(&first), of(&second));
    let link = |more: &[&str]| parhelion([&["link", &a, &b][..], more].concat()).status.code();
    assert_eq!(link(&["--statement-from", &from, "--statement-to", &to]), Some(0));
    assert_eq!(link(&[]), Some(3));
    assert_eq!(link(&["--statement-from", &from]), Some(3));
    // Another statement on either side.
    fails(["link", &a, &b, "--statement-from", &to, "--statement-to", &to], &["the statement is not"]);
    fails(["link", &a, &b, "--statement-from", &from, "--statement-to", &from], &["the statement is not"]);
    // A first side without constraints.
    let forger = Forger::new(&case, "first", "output=public");
    let zero = forger.keygen(ModelCircuit::new(&forger.prepared.plan).advice_only());
    forger.write(&forger.circuit, forger.scale(), zero, |_| ());
    assert_eq!(link(&[]), Some(3));
    fails(["link", &a, &b, "--statement-from", &from, "--statement-to", &to], &["the statement is not"]);
    let out = parhelion(["link", &a, &b, "--setup-from", &case.path("first-keys"), "--unpinned"]);
    assert_eq!(out.status.code(), Some(1), "{}", errors(&out));
    succeeds(["link", &a, &b, "--unpinned"]);
}

#[test]
fn a_hash_of_settings_does_not_steer_the_terminal() {
    let case = Case::new("hash", &layer(1.0), INPUT);
    case.prove("proof", &["--visibility", "params=fixed"]);
    let path = case.scratch.path("proof").join(session::SETTINGS_JSON);
    let honest: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let evil = "0\nreference string: perpetual powers of tau, checked\u{1b}[2J";
    for member in ["model_hash", "statement", "circuit_hash", "vk_hash"] {
        let mut settings: Settings = session::read_json(&path, Kind::Settings).unwrap();
        match member {
            "model_hash" => settings.model_hash = Some(evil.into()),
            "statement" => settings.statement = evil.into(),
            "circuit_hash" => settings.circuit_hash = evil.into(),
            _ => settings.vk_hash = evil.into(),
        }
        session::write_json(&path, Kind::Settings, &settings).unwrap();
        let (code, out, said) = case.verify("proof", &["--unpinned"]);
        assert_eq!((code, out.as_str()), (1, ""), "{member}");
        assert!(!said.contains('\u{1b}') && !said.contains("\nreference string"), "{member}: {said:?}");
        std::fs::write(&path, honest.to_string()).unwrap();
    }
}
