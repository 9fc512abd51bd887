//! Operators of `ai.onnx.ml` against ONNX Runtime, and what of them is refused.
//!
//! `data/ml.jsonl` holds random models with ONNX Runtime's results; `front_ml.py` writes it, and larger ones, which `PARHELION_ML` names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its counts"
)]

mod front_common;

use front_common::build::{A, Builder, FLOAT};
use parhelion_zkml::machine::{PlanOptions, Visibility, mock, plan};
use parhelion_zkml::onnx::{DType, Data, ImportError, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::session::from_hex;
use parhelion_zkml::{exec, float};
use serde_json::Value;

fn tensor(v: &Value) -> TensorF {
    let shape = v["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let data = v["data"].as_array().unwrap();
    match v["dtype"].as_str().unwrap() {
        "int64" => {
            let data = data.iter().map(|x| x.as_i64().unwrap()).collect();
            TensorF::new(shape, DType::I64, Data::I(data)).unwrap()
        }
        "float32" => {
            let data = data.iter().map(|x| x.as_f64().unwrap()).collect();
            TensorF::new(shape, DType::F32, Data::F(data)).unwrap()
        }
        other => panic!("{other}"),
    }
}

fn worst(got: &[TensorF], want: &[TensorF], name: &str) -> f64 {
    assert_eq!(got.len(), want.len(), "{name}");
    let mut worst = 0f64;
    for (g, w) in got.iter().zip(want) {
        assert_eq!((&g.shape, g.dtype), (&w.shape, w.dtype), "{name}");
        for (g, w) in g.to_f64().into_iter().zip(w.to_f64()) {
            worst = worst.max((g - w).abs());
        }
    }
    worst
}

#[test]
fn results_are_those_of_onnx_runtime() {
    let text = match std::env::var_os("PARHELION_ML") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("data/ml.jsonl").to_owned(),
    };
    let mut count = 0;
    for line in text.lines() {
        let v: Value = serde_json::from_str(line).unwrap();
        let name = v["name"].as_str().unwrap();
        let list = |key: &str| v[key].as_array().unwrap().iter().map(tensor).collect::<Vec<_>>();
        let (inputs, outputs) = (list("inputs"), list("outputs"));
        let model =
            import(&from_hex(v["model"].as_str().unwrap()).unwrap(), &ImportOptions::default()).unwrap();
        let exact = worst(&float::run(&model, &inputs).unwrap(), &outputs, name);
        assert!(exact < 1e-5, "{name}: the float executor is {exact} off");
        let q = quantise(&model, std::slice::from_ref(&inputs), &QuantOptions::default()).unwrap();
        let trace = exec::run(&q.program, &q.encode_inputs(&inputs).unwrap()).unwrap();
        let error = worst(&q.decode_outputs(&trace), &outputs, name);
        assert!(error < 1e-3, "{name}: the integer executor is {error} off");
        let plan = plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
        mock(&plan, &trace.values).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        count += 1;
    }
    println!("{count} models agree");
    assert!(count >= 25);
}

/// A regressor of one tree over two features; the lists of its nodes are changed by the test.
fn tree(nodes: [&[i64]; 4], modes: &[&str], leaves: &[i64]) -> Builder {
    let zeros = vec![0; modes.len()];
    let values = vec![0.5f32; modes.len()];
    let weights = vec![1.0f32; leaves.len()];
    let [ids, features, yes, no] = nodes;
    let attrs: &[(&str, A<'_>)] = &[
        ("nodes_treeids", A::Ints(&zeros)),
        ("nodes_nodeids", A::Ints(ids)),
        ("nodes_featureids", A::Ints(features)),
        ("nodes_truenodeids", A::Ints(yes)),
        ("nodes_falsenodeids", A::Ints(no)),
        ("nodes_values", A::Floats(&values)),
        ("nodes_modes", A::Strs(modes)),
        ("target_treeids", A::Ints(&zeros[..leaves.len()])),
        ("target_nodeids", A::Ints(leaves)),
        ("target_ids", A::Ints(&zeros[..leaves.len()])),
        ("target_weights", A::Floats(&weights)),
    ];
    Builder::new().input("x", FLOAT, &[1, 2]).output("y").node(
        "ai.onnx.ml::TreeEnsembleRegressor",
        &["x"],
        &["y"],
        attrs,
    )
}

#[test]
fn trees_that_are_none_are_errors() {
    let modes = ["BRANCH_LEQ", "LEAF", "LEAF"];
    let good = tree([&[0, 1, 2], &[1, 0, 0], &[1, 0, 0], &[2, 0, 0]], &modes, &[1, 2]);
    let import = |b: &Builder| import(&b.bytes(), &ImportOptions::default());
    import(&good).unwrap();
    for (bad, says) in [
        (tree([&[0, 1, 2], &[2, 0, 0], &[1, 0, 0], &[2, 0, 0]], &modes, &[1, 2]), "feature 2 of 2"),
        (tree([&[0, 1, 2], &[-1, 0, 0], &[1, 0, 0], &[2, 0, 0]], &modes, &[1, 2]), "feature -1 of 2"),
        (tree([&[0, 1, 2], &[1, 0, 0], &[1, 0, 0], &[1, 0, 0]], &modes, &[1, 2]), "two parents"),
        (tree([&[0, 1, 2], &[1, 0, 0], &[1, 0, 0], &[9, 0, 0]], &modes, &[1, 2]), "does not exist"),
        (tree([&[0, 1, 1], &[1, 0, 0], &[1, 0, 0], &[1, 0, 0]], &modes, &[1]), "given twice"),
        (tree([&[0, 1, 2], &[1, 0, 0], &[0, 0, 0], &[2, 0, 0]], &modes, &[1, 2]), "cycle"),
        (tree([&[0, 1, 2], &[1, 0, 0], &[1, 0, 0], &[2, 0, 0]], &modes, &[0]), "is no leaf"),
        (tree([&[0, 1, 2], &[1, 0, 0], &[1, 0, 0], &[2, 0, 0]], &["LEAF"; 3], &[1]), "two roots"),
        (
            tree([&[0, 1, 2], &[1, 0, 0], &[1, 0, 0], &[2, 0, 0]], &["BRANCH_LEQ", "LEAF", "TWIG"], &[1]),
            "unknown mode",
        ),
        (tree([&[0, 1], &[1, 0], &[1, 0], &[2, 0]], &modes, &[1]), "different lengths"),
    ] {
        let e = import(&bad).unwrap_err();
        assert!(matches!(e, ImportError::Node { .. }) && e.to_string().contains(says), "{e} is not {says}");
    }
}

#[test]
fn labels_that_are_texts_are_refused_with_what_to_do() {
    let attrs: &[(&str, A<'_>)] = &[
        ("coefficients", A::Floats(&[1.0, 2.0])),
        ("intercepts", A::Floats(&[0.5])),
        ("classlabels_strings", A::Strs(&["no", "yes"])),
    ];
    let b = Builder::new().input("x", FLOAT, &[1, 2]).output("label").output("scores").node(
        "ai.onnx.ml::LinearClassifier",
        &["x"],
        &["label", "scores"],
        attrs,
    );
    let e = import(&b.bytes(), &ImportOptions::default()).unwrap_err();
    assert!(matches!(&e, ImportError::Unsupported(list) if list.0.len() == 1), "{e}");
    assert!(e.to_string().contains("train with integers as labels"), "{e}");
}
