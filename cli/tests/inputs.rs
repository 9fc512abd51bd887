//! Inputs that a model file leaves open, by the command: lists, options, constants, and what a setup remembers of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "every test file uses its part")]
mod common;

use std::path::Path;

use common::{Scratch, parhelion};

/// A field of a protobuf message: its number, and bytes or a number.
fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(value.len() as u64));
    out.extend(value);
    out
}

fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v > 127 {
        out.push(v as u8 | 128);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

/// A tensor's declaration; dimensions are names, or numbers.
fn value(name: &str, dtype: u64, dims: &[&str]) -> Vec<u8> {
    let dim = |d: &&str| bytes(1, &d.parse().map_or_else(|_| bytes(2, d.as_bytes()), |n| int(1, n)));
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = bytes(1, &[int(1, dtype), bytes(2, &shape)].concat());
    [bytes(1, name.as_bytes()), bytes(2, &tensor)].concat()
}

fn node(op: &str, name: &str, inputs: &[&str], output: &str, attribute: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i.as_bytes())).collect();
    out.extend([bytes(2, output.as_bytes()), bytes(3, name.as_bytes()), bytes(4, op.as_bytes())].concat());
    out.extend(if attribute.is_empty() { Vec::new() } else { bytes(5, attribute) });
    bytes(1, &out)
}

/// `out/y = relu(x · sr)` for `x` of shape `[batch, t]` and an integer `sr`.
fn model() -> Vec<u8> {
    let to = [bytes(1, b"to"), int(3, 1), int(20, 2)].concat();
    let graph = [
        node("Cast", "cast", &["sr"], "rate", &to),
        node("Mul", "scale", &["x", "rate"], "scaled", &[]),
        node("Relu", "head", &["scaled"], "out/y", &[]),
        bytes(2, b"g"),
        bytes(11, &value("x", 1, &["batch", "t"])),
        bytes(11, &value("sr", 7, &[])),
        bytes(12, &value("out/y", 1, &[])),
    ];
    [int(1, 8), bytes(8, &int(2, 17)), bytes(7, &graph.concat())].concat()
}

/// Runs the command without a cache; standard output, or standard error where it fails.
fn run(words: &[&str], paths: &[(&str, &Path)]) -> Result<String, String> {
    let mut all: Vec<std::ffi::OsString> = vec!["--no-cache".into(), "--quiet".into()];
    all.extend(words.iter().map(Into::into));
    all.extend(paths.iter().flat_map(|(option, path)| {
        let option = (!option.is_empty()).then(|| (*option).into());
        option.into_iter().chain([path.as_os_str().to_owned()])
    }));
    let out = parhelion(all);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

fn refused(result: Result<String, String>, says: &[&str]) {
    let e = result.unwrap_err();
    assert!(says.iter().all(|s| e.contains(s)), "{e}");
}

#[test]
fn a_setup_remembers_shapes_and_constants() {
    let s = Scratch::new("inputs-setup");
    let m = s.write("m.onnx", model());
    let nested = s.write("nested.json", r#"{"input_data": [[[0.5, -1.0, 1.0], [0.25, 0.0, -0.5]]]}"#);
    let flat = s.write("flat.json", "\u{feff}{\"input_data\": {\"x\": [0.5, -1, 1, 0.25, 0, 0.75]}}");
    let other = s.write("other.json", r#"{"input_data": [[[0.5, -1.0], [0.25, 0.0], [0.1, 0.2]]]}"#);
    let eight = s.write("eight.json", r#"{"input_data": [[0.5, -1.0, 1.0, 0.25, 0.0, -0.5], 8]}"#);
    let keys = s.path("keys");
    run(&["setup", "--constant", "sr=4"], &[("", &m), ("--input", &nested), ("--out", &keys)]).unwrap();
    let prove = |words: &[&str], input: &Path| {
        let words = [&["prove", "--json"], words].concat();
        run(&words, &[("", &m), ("--input", input), ("--setup", &keys)])
    };
    for input in [&nested, &flat] {
        let json: serde_json::Value = serde_json::from_str(&prove(&[], input).unwrap()).unwrap();
        assert_eq!(json["verified"], true);
    }
    refused(prove(&[], &other), &["`x`", "axis 0", "option"]);
    refused(prove(&[], &eight), &["`sr`", "constant"]);
    refused(prove(&["--constant", "sr=5"], &nested), &["`sr`", "4", "5"]);
    refused(prove(&["--constant", "x=5"], &nested), &["`x`"]);
    refused(prove(&["--shape", "x=3,2"], &flat), &["`x`", "[3, 2]"]);
}

#[test]
fn options_name_what_there_is() {
    let s = Scratch::new("inputs-options");
    let m = s.write("m.onnx", model());
    let flat = s.write("flat.json", r#"{"input_data": [[0.5, -1.0, 1.0, 0.25, 0.0, -0.5], 2]}"#);
    let witness = |words: &[&str]| {
        let out = s.path("w.json");
        let words = [&["witness"], words].concat();
        run(&words, &[("", &m), ("--input", &flat), ("--out", &out)])
            .map(|_| std::fs::read_to_string(&out).unwrap())
    };
    for words in [
        &[][..],
        &["--shape", "x=2,3"],
        &["--shape", "x=[3, 2]"],
        &["--variable", "t=3"],
        &["--constant", "sr=2"],
    ] {
        let w: serde_json::Value = serde_json::from_str(&witness(words).unwrap()).unwrap();
        assert_eq!(w["outputs"][0].as_array().unwrap().len(), 6, "{words:?}");
    }
    refused(witness(&["--variable", "bacth=2"]), &["`bacth`", "`batch`, `t`"]);
    refused(witness(&["--shape", "y=2,3"]), &["`y`", "`x`, `sr`"]);
    refused(witness(&["--shape", "x=2,0"]), &["at least 1"]);
    refused(witness(&["--shape", "x=2,a"]), &["`a`"]);
    refused(witness(&["--shape", "x=2,3", "--shape", "x=3,2"]), &["twice"]);
    refused(witness(&["--constant", "rate=2"]), &["`rate`", "`x`, `sr`"]);
    refused(witness(&["--constant", "sr=3"]), &["`sr`"]);
    refused(witness(&["--constant", "sr"]), &["NAME=VALUE"]);
    refused(witness(&["--variable", "t=4"]), &["6 elements", "`t` is 4 by option"]);
}

/// The graph's own names, not those of its nodes.
#[test]
fn outputs_are_named_by_the_graph() {
    let s = Scratch::new("inputs-names");
    let m = s.write("m.onnx", model());
    let flat = s.write("flat.json", r#"{"input_data": [[0.5, -1.0], 2]}"#);
    let prove = |visibility: &str| {
        let words = ["prove", "--json", "--constant", "sr=2", "--visibility", visibility];
        run(&words, &[("", &m), ("--input", &flat)])
    };
    let json: serde_json::Value = serde_json::from_str(&prove("output.out/y=hashed").unwrap()).unwrap();
    assert_eq!(json["disclosed"][0]["name"], "out/y");
    refused(prove("output.head=hashed"), &["`head`", "out/y"]);
}
