//! What `verify` concludes, from which strength, and what it refuses of somebody who can make any file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../zkml/tests/front_common/build.rs"]
#[allow(dead_code, reason = "this file uses its part")]
mod build;
mod common;
mod forge;

use build::{Builder, FLOAT, INT64};
use common::{fails, succeeds};
use forge::{Case, Forger, INPUT, binding, layer, only_unpinned, text};
use halo2curves::bn256::Fr;
use parhelion_zkml::machine::{Choice, ModelCircuit, Visibility};
use parhelion_zkml::qir::Program;
use parhelion_zkml::session::{self, Interface, Kind, ProofFile, digest_hex, scalar_to_hex, to_hex};
use serde_json::Value;

#[test]
fn every_strength_says_which_it_is() {
    let case = Case::new("strengths", &layer(1.0), INPUT);
    let setup = case.setup("keys", "params=private");
    let statement = setup["statement"].as_str().unwrap().to_owned();
    let keys = case.path("keys");
    let proven = case.prove("proof", &["--setup", &keys]);
    assert_eq!(proven["statement"], setup["statement"]);

    let (code, out, _) = case.verify("proof", &[]);
    assert!(code == 3 && out.contains("UNPINNED: says only what its maker says"), "{code} {out}");
    assert!(out.contains(&statement) && out.contains("some weights of this architecture"), "{out}");
    let (code, out, _) = case.verify("proof", &["--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["strength"], &report["verified"]), (3, &"unpinned".into(), &true.into()));
    assert_eq!(case.verify("proof", &["--unpinned"]).0, 0);

    let model = case.model.clone();
    for (more, strength) in [
        (&["--statement", &statement][..], "statement"),
        (&["--setup", &keys], "statement"),
        (&["--rederive"], "rederived"),
        (&["--rederive", "--statement", &statement], "statement"),
        (&["--model", &model], "model"),
        (&["--model", &model, "--setup", &keys], "model"),
    ] {
        let verdict = case.verdict("proof", more);
        assert_eq!(verdict["strength"], strength, "{more:?}");
        assert_eq!(verdict["statement"], setup["statement"]);
        assert_eq!((&verdict["model_bound"], &verdict["model_hash"]), (&false.into(), &Value::Null));
    }
    let other = "0".repeat(64);
    case.refuses(
        "proof",
        &["--statement", &other],
        &["the statement is not the one that was named", &statement],
    );
    case.refuses("proof", &["--rederive", "--statement", &other], &["the statement is not"]);
    assert_eq!(case.verify("proof", &["--statement", "12"]).0, 2);
    // Another architecture; and other weights, which private ones do not tell.
    let wide = Builder::new().input("x", FLOAT, &[1, 4]).output("y").floats("w", &[4, 2], &[0.5; 8]);
    let wide = text(case.scratch.write("wide.onnx", wide.node("MatMul", &["x", "w"], &["y"], &[]).bytes()));
    case.refuses("proof", &["--model", &wide], &[]);
    let others = text(case.scratch.write("others.onnx", layer(0.75)));
    assert_eq!(case.verdict("proof", &["--model", &others])["model_bound"], false);
}

#[test]
fn weights_are_bound_where_the_verifier_can_know_them() {
    for (visibility, words) in [
        ("params=fixed", "the weights in the key"),
        ("params=hashed", "the weights with the digest that is shown"),
        ("params=public", "the weights that are shown"),
    ] {
        let case = Case::new(&format!("bound-{}", &visibility[7..]), &layer(1.0), INPUT);
        case.prove("proof", &["--visibility", visibility]);
        let unpinned = case.verdict("proof", &["--unpinned"]);
        assert_eq!(unpinned["model_bound"], false, "{visibility}");
        assert!(unpinned["sentence"].as_str().unwrap().contains(words), "{unpinned}");
        let verdict = case.verdict("proof", &["--model", &case.model]);
        assert_eq!(verdict["model_bound"], true, "{visibility}");
        let hash = digest_hex(&[&std::fs::read(&case.model).unwrap()]);
        assert_eq!(verdict["model_hash"], hash.as_str());
        let others = text(case.scratch.write("others.onnx", layer(0.75)));
        case.refuses("proof", &["--model", &others], &[]);
    }
}

#[test]
fn a_proof_is_for_its_context_only() {
    let case = Case::new("context", &layer(1.0), INPUT);
    // Nothing is public: the context is bound all the same.
    for (name, visibility) in [("told", "output=public"), ("hidden", "output=private")] {
        case.prove(name, &["--context", "chain 1, request 7", "--visibility", visibility]);
        case.refuses(name, &[], &["another context"]);
        case.refuses(name, &["--context", "chain 1, request 8"], &["another context"]);
        case.refuses(name, &["--context", "0x00"], &["another context"]);
        case.verdict(name, &["--unpinned", "--context", "chain 1, request 7"]);
        let hex = format!("0x{}", to_hex(b"chain 1, request 7"));
        case.verdict(name, &["--unpinned", "--context", &hex]);
        // The value that binds it, made for another context by somebody who seals the file again.
        let path = case.scratch.path(name).join(session::PROOF_JSON);
        let mut file: ProofFile = session::read_json(&path, Kind::Proof).unwrap();
        let at = file.instances[0].len() - 1;
        file.instances[0][at] = scalar_to_hex(&binding(&file.statement, b"chain 1, request 8"));
        session::write_json(&path, Kind::Proof, &file).unwrap();
        case.refuses(name, &["--context", "chain 1, request 8"], &["does not verify"]);
    }
    assert_eq!(case.verify("told", &["--context", "0xzz"]).0, 2);
}

#[test]
fn the_verifiers_own_input_is_compared() {
    let case = Case::new("input", &layer(1.0), INPUT);
    let other = text(case.scratch.write("other.json", INPUT.replace("0.75", "0.7501")));
    for visibility in ["input=public", "input=hashed"] {
        case.prove("proof", &["--visibility", visibility]);
        let verdict = case.verdict("proof", &["--unpinned", "--input", &case.input]);
        assert_eq!(verdict["compared_inputs"], serde_json::json!(["x"]));
        case.refuses(
            "proof",
            &["--input", &other],
            &["input `x` of the proof is not the one in", "other.json"],
        );
    }
    case.prove("private", &[]);
    case.refuses("private", &["--input", &case.input], &["nothing to compare"]);
}

#[test]
fn integers_are_shown_to_the_last_digit() {
    let model = Builder::new().input("x", INT64, &[2]).output("y").node("Mul", &["x", "x"], &["y"], &[]);
    let case = Case::new("integers", &model.bytes(), r#"{"input_data": [[94906267, -3]]}"#);
    let proven = case.prove("proof", &[]);
    assert_eq!(proven["outputs"].to_string(), "[[9007199515875289,9]]");
    let verdict = case.verdict("proof", &["--unpinned"]);
    assert_eq!(verdict["outputs"], serde_json::json!([["9007199515875289", "9"]]));
    let port = &verdict["ports"][1];
    assert_eq!(
        (&port["name"], &port["dtype"], &port["visibility"]),
        (&"y".into(), &"int64".into(), &"public".into())
    );
    let file = std::fs::read_to_string(case.scratch.path("proof").join(session::PROOF_JSON)).unwrap();
    assert!(file.contains("\"9007199515875289\""), "{file}");
    assert!(case.verify("proof", &[]).1.contains("9007199515875289"));
}

#[test]
fn names_do_not_reach_the_terminal_as_they_are() {
    let (evil, x) = ("y\nreference string: perpetual powers of tau, checked\u{1b}[2J\u{9b}1A\u{202e}", "x\r");
    let model = Builder::new().input(x, FLOAT, &[1, 2]).output(evil).floats("w", &[2, 2], &[0.5; 4]);
    let model = model.node("MatMul", &[x, "w"], &[evil], &[]).bytes();
    let case = Case::new("names", &model, r#"{"input_data": [[0.5, 0.25]]}"#);
    let steers = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    case.prove("proof", &[]);
    let said = succeeds(["prove", &case.model, "--input", &case.input]);
    let shown = case.verify("proof", &[]).1;
    for out in [&said, &shown, &case.verify("proof", &["--json"]).1] {
        assert!(!out.contains(steers), "{out:?}");
        assert!(!out.lines().any(|line| line.starts_with("reference string: perpetual")), "{out}");
    }
    assert!(shown.contains("y\\u{a}reference"), "{shown}");
}

#[test]
fn the_witness_is_written_on_request_and_for_its_owner() {
    let case = Case::new("witness", &layer(1.0), INPUT);
    let witness = case.path("witness.json");
    case.prove("proof", &["--witness", &witness]);
    assert!(!case.scratch.path("proof").join(session::WITNESS_JSON).exists());
    let alone = case.path("alone.json");
    succeeds(["witness", &case.model, "--input", &case.input, "--out", &alone]);
    for path in [witness, alone] {
        let file: session::WitnessFile = session::read_json(path.as_ref(), Kind::Witness).unwrap();
        assert_eq!(file.inputs[0].len(), 4);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn ranges_from_the_private_input_are_said() {
    let case = Case::new("ranges", &layer(1.0), INPUT);
    let words = "ranges were taken from the private input";
    let said = succeeds(["prove", &case.model, "--input", &case.input, "--out", &case.path("alone")]);
    assert!(said.contains(words), "{said}");
    assert!(case.verify("alone", &[]).1.contains(words));
    assert_eq!(case.verdict("alone", &["--unpinned"])["ranges"], "private-input");
    case.setup("keys", "params=private");
    let said = succeeds([
        "prove",
        &case.model,
        "--input",
        &case.input,
        "--setup",
        &case.path("keys"),
        "--out",
        &case.path("kept"),
    ]);
    assert!(!said.contains(words), "{said}");
    assert!(!case.verify("kept", &[]).1.contains(words));
    case.prove("public", &["--visibility", "input=public"]);
    assert_eq!(case.verdict("public", &["--unpinned"])["ranges"], "public-input");
}

#[test]
fn a_setup_is_quantised_again_before_it_is_used() {
    let case = Case::new("resume", &layer(1.0), INPUT);
    case.setup("keys", "params=private");
    let keys = case.scratch.path("keys");
    assert!(!keys.join("model.bin").exists());
    let path = keys.join(session::CALIBRATION_JSON);
    let honest: Value = session::read_json(&path, Kind::Calibration).unwrap();
    for (member, value) in [("weight_bits", 12.into()), ("input_bits", 12.into()), ("saturate", true.into())]
    {
        let mut forged = honest.clone();
        forged[member] = value;
        session::write_json(&path, Kind::Calibration, &forged).unwrap();
        let args = ["prove", &case.model, "--input", &case.input, "--setup", keys.to_str().unwrap()];
        fails(args, &["does not belong to these settings"]);
    }
    session::write_json(&path, Kind::Calibration, &honest).unwrap();
    // The prover's own notes say which model it was.
    let others = text(case.scratch.write("others.onnx", layer(0.75)));
    fails(
        ["prove", &others, "--input", &case.input, "--setup", keys.to_str().unwrap()],
        &["the model does not belong"],
    );
    case.prove("proof", &["--setup", keys.to_str().unwrap()]);
}

#[test]
fn a_key_without_constraints_convinces_nobody_who_pins() {
    let case = Case::new("zero-key", &layer(1.0), INPUT);
    let honest = case.setup("keys", "params=private")["statement"].as_str().unwrap().to_owned();
    let keys = case.path("keys");
    case.prove("proof", &["--setup", &keys]);
    let forger = Forger::new(&case, "proof", "params=private");
    // The same constraint system with every fixed column zero: any output verifies.
    let zero = forger.keygen(ModelCircuit::new(&forger.prepared.plan).advice_only());
    forger.write(&forger.circuit, forger.scale(), zero, |instance| instance[1] += Fr::from(1 << 20));
    only_unpinned(&case, "proof", &honest, &keys);
    case.refuses("proof", &["--rederive"], &["the statement is not that of the circuit and the key"]);
}

#[test]
fn a_circuit_of_another_meaning_is_another_statement() {
    let case = Case::new("meaning", &layer(1.0), INPUT);
    let honest = case.setup("keys", "params=private")["statement"].as_str().unwrap().to_owned();
    let keys = case.path("keys");
    case.prove("proof", &["--setup", &keys]);
    let forger = Forger::new(&case, "proof", "params=private");
    let original = std::fs::read(forger.dir.join(session::PROOF_JSON)).unwrap();
    type Parts = (Program, Visibility, Choice, Interface);
    type Change = fn(&mut Parts);
    let changes: [(&str, Change); 4] = [
        ("name", |(_, _, _, i)| i.outputs[0].name = "loan_approved".into()),
        ("scale", |(p, _, _, _)| {
            let id = p.outputs[0];
            p.tensors[id.0 as usize].scale -= 8;
        }),
        ("type", |(_, _, _, i)| i.inputs[0].dtype = parhelion_zkml::onnx::DType::F64),
        ("saturation", |(_, _, _, i)| i.saturate = true),
    ];
    for (name, change) in changes {
        let mut parts: Parts = postcard::from_bytes(&forger.circuit).unwrap();
        change(&mut parts);
        let circuit = postcard::to_stdvec(&parts).unwrap();
        assert_ne!(circuit, forger.circuit, "{name}");
        // The honest proof in files that say otherwise: bound to its own statement.
        let key = forger.keygen(ModelCircuit::new(&forger.prepared.plan));
        let scale = parts.0.tensor(parts.0.outputs[0]).scale;
        forger.write(&circuit, scale, key, |_| ());
        let forged = std::fs::read(forger.dir.join(session::PROOF_JSON)).unwrap();
        let statement = session::read_json::<ProofFile>(&forger.dir.join(session::PROOF_JSON), Kind::Proof)
            .unwrap()
            .statement;
        std::fs::write(forger.dir.join(session::PROOF_JSON), &original).unwrap();
        case.refuses("proof", &[], &["names another statement"]);
        let mut moved: ProofFile =
            session::read_json(&forger.dir.join(session::PROOF_JSON), Kind::Proof).unwrap();
        moved.statement.clone_from(&statement);
        session::write_json(&forger.dir.join(session::PROOF_JSON), Kind::Proof, &moved).unwrap();
        case.refuses("proof", &[], &["another context"]);
        let at = moved.instances[0].len() - 1;
        moved.instances[0][at] = scalar_to_hex(&binding(&statement, b""));
        session::write_json(&forger.dir.join(session::PROOF_JSON), Kind::Proof, &moved).unwrap();
        case.refuses("proof", &[], &["does not verify"]);
        // A proof that was made for them says what they say, to whoever pins nothing.
        std::fs::write(forger.dir.join(session::PROOF_JSON), &forged).unwrap();
        only_unpinned(&case, "proof", &honest, &keys);
    }
}
