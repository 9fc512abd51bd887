//! Networks that `onnxruntime.quantization` has quantised: the integers of every layer against ONNX Runtime's.
//!
//! `front_qdq.py` writes `data/qdq.jsonl`, and others, which `PARHELION_QDQ` names. ONNX Runtime multiplies in single precision. Where the exact
//! number of a layer is within 1e-4 of the middle of two integers, its roundings decide: the runtime's own optimised and plain kernels
//! disagree there too. The data lists these elements; every other one has to be equal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its counts"
)]

mod front_common;

use parhelion_zkml::exec;
use parhelion_zkml::machine::{PlanOptions, Visibility, mock, plan};
use parhelion_zkml::onnx::{DType, Data, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::session::from_hex;
use serde_json::Value;

fn cases() -> Vec<Value> {
    let text = match std::env::var_os("PARHELION_QDQ") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("data/qdq.jsonl").to_owned(),
    };
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn input(case: &Value) -> Vec<TensorF> {
    let shape = case["input"]["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize);
    let data = case["input"]["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
    vec![TensorF::new(shape.collect(), DType::F32, Data::F(data.collect())).unwrap()]
}

fn integers(values: &Value) -> Vec<i64> {
    values.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

#[test]
fn every_layer_has_the_integers_of_onnx_runtime() {
    let (mut elements, mut ties, mut turned, mut behind) = (0, 0, 0, 0);
    let mut failures = Vec::new();
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let bytes = from_hex(case["model"].as_str().unwrap()).unwrap();
        let model = import(&bytes, &ImportOptions::default()).unwrap();
        let x = input(&case);
        let q = quantise(&model, std::slice::from_ref(&x), &QuantOptions::default()).unwrap();
        let trace = exec::run(&q.program, &q.encode_inputs(&x).unwrap()).unwrap();
        // Once a tie has turned, what follows has other operands than the runtime's.
        let mut same = true;
        for (got, want) in q.decode_outputs(&trace).iter().zip(case["outputs"].as_array().unwrap()) {
            let (layer, near) = (want["name"].as_str().unwrap(), integers(&want["ties"]));
            let want = integers(&want["data"]);
            assert_eq!(got.len(), want.len(), "{name}, {layer}");
            if !same {
                behind += want.len();
                continue;
            }
            ties += near.len();
            for (i, (g, w)) in got.to_i64().into_iter().zip(want).enumerate() {
                elements += 1;
                if g == w {
                    continue;
                }
                (same, turned) = (false, turned + 1);
                if (g - w).abs() > 1 || !near.contains(&(i as i64)) {
                    failures.push(format!("{name}, {layer}, element {i}: {g} instead of {w}"));
                }
            }
        }
        let plan = plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
        mock(&plan, &trace.values).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    }
    println!("{elements} integers compared, {turned} of {ties} near a tie differ, {behind} come after one");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(behind * 5 <= elements && turned <= ties, "{behind} of {elements} were not compared");
}
