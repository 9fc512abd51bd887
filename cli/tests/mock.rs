//! `parhelion mock`: what does not hold is named, as text and as JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Scratch, errors, parhelion, repo, succeeds};
use serde_json::{Value, json};

fn text(path: std::path::PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs `mock` on inputs that differ from those that ranges are chosen with; the fault, which text and JSON agree on.
fn fault(name: &str, sample: f64, input: f64, n: usize, headroom: &str) -> Value {
    let scratch = Scratch::new(&format!("mock-{name}-{input}"));
    let model = text(repo(&format!("examples/{name}/model.onnx")));
    let file =
        |file: &str, v: f64| text(scratch.write(file, json!({"input_data": [vec![v; n]]}).to_string()));
    let (with, given) = (file("sample.json", sample), file("input.json", input));
    let args =
        ["mock", &model, "--calibrate-with", &with, "--input", &given, "--headroom", headroom, "--json"];
    let output = parhelion(args);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["holds"], false);
    let fault = report["fault"].clone();
    let said = errors(&parhelion(&args[..args.len() - 1]));
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    for key in ["layer", "element", "value", "lo", "hi"] {
        let field = if fault[key].is_null() { &fault["real"][key] } else { &fault[key] };
        let word = field.as_str().map_or_else(|| field.to_string().replace(',', ", "), str::to_owned);
        assert!(said.contains(word.trim_end_matches(".0")), "no {key} `{word}` in: {said}");
    }
    fault
}

fn outside(v: &Value) -> bool {
    let at = |key: &str| v[key].as_f64().unwrap();
    at("value") < at("lo") || at("value") > at("hi")
}

#[test]
fn an_input_past_its_range_is_named() {
    let fault = fault("digits-mlp", 0.5, 900.0, 64, "2");
    assert_eq!((&fault["kind"], &fault["layer"]), (&json!("input range"), &json!("image")));
    assert_eq!(fault["element"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap()).sum::<u64>(), 0);
    assert!(outside(&fault["real"]), "{fault}");
}

#[test]
fn a_dense_layer_past_its_range_is_named() {
    // Ranges are chosen with a black image, so that the first layer sees its biases alone.
    let fault = fault("digits-mlp", 0.0, 1.0, 64, "1");
    assert_eq!(fault["kind"], "range");
    assert!(["fc1", "relu1"].contains(&fault["layer"].as_str().unwrap()), "{fault}");
    assert_eq!(fault["element"].as_array().unwrap().len(), 2);
    assert!(outside(&fault) && outside(&fault["real"]), "{fault}");
}

#[test]
fn a_convolution_past_its_range_is_named() {
    let fault = fault("mnist-cnn", 0.0, 1.0, 784, "1");
    assert_eq!(fault["kind"], "range");
    let layers = ["conv1", "relu1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2", "logits"];
    assert!(layers.contains(&fault["layer"].as_str().unwrap()), "{fault}");
    assert!(outside(&fault) && outside(&fault["real"]), "{fault}");
}

#[test]
fn a_statement_that_holds_says_so() {
    let file = |f: &str| text(repo(&format!("examples/digits-mlp/{f}")));
    let said = succeeds(["mock", &file("model.onnx"), "--input", &file("input.json"), "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["holds"], true);
    assert!(report["k"].as_u64().unwrap() >= 5);
}
