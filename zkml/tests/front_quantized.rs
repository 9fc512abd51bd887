//! ONNX's quantised operators against ONNX Runtime, bit by bit.
//!
//! `data/quantized.jsonl` holds random models with ONNX Runtime's results; `front_quantized.py` writes it, and larger ones, which
//! `PARHELION_QUANTIZED` names. ONNX Runtime multiplies sums by their scale in single precision, so where the exact product is within
//! 2^-15 of a tie between two integers, it may round to the other one; nothing else may differ.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its counts"
)]

mod machine_common;

use machine_common::{engine, rng, second, srs};
use parhelion_prover::ProofTranscript;
use parhelion_zkml::machine::{PlanOptions, Visibility, keygen, plan, prove};
use parhelion_zkml::onnx::{DType, Data, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, Quantised, quantise};
use parhelion_zkml::session::from_hex;
use parhelion_zkml::{exec, machine};
use serde_json::Value;

struct Case {
    name: String,
    model: Vec<u8>,
    inputs: Vec<TensorF>,
    output: TensorF,
}

fn tensor(v: &Value) -> TensorF {
    let shape = v["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let data = v["data"].as_array().unwrap();
    let dtype = match v["dtype"].as_str().unwrap() {
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "int32" => DType::I32,
        "float32" => DType::F32,
        other => panic!("{other}"),
    };
    let data = if dtype.is_float() {
        Data::F(data.iter().map(|x| x.as_f64().unwrap()).collect())
    } else {
        Data::I(data.iter().map(|x| x.as_i64().unwrap()).collect())
    };
    TensorF::new(shape, dtype, data).unwrap()
}

fn cases() -> Vec<Case> {
    let text = match std::env::var_os("PARHELION_QUANTIZED") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("data/quantized.jsonl").to_owned(),
    };
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|v| Case {
            name: v["name"].as_str().unwrap().to_owned(),
            model: from_hex(v["model"].as_str().unwrap()).unwrap(),
            inputs: v["inputs"].as_array().unwrap().iter().map(tensor).collect(),
            output: tensor(&v["output"]),
        })
        .collect()
}

fn run(case: &Case) -> (Quantised, exec::Trace) {
    let model = import(&case.model, &ImportOptions::default()).unwrap();
    let q = quantise(&model, std::slice::from_ref(&case.inputs), &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(&case.inputs).unwrap()).unwrap();
    (q, trace)
}

#[test]
fn integers_are_those_of_onnx_runtime() {
    let (mut elements, mut different) = (0usize, 0usize);
    for case in cases() {
        let (q, trace) = run(&case);
        let got = &q.decode_outputs(&trace)[0];
        assert_eq!((&got.shape, got.dtype), (&case.output.shape, case.output.dtype), "{}", case.name);
        for (i, (g, w)) in got.to_f64().into_iter().zip(case.output.to_f64()).enumerate() {
            elements += 1;
            if g != w {
                println!("{}, element {i}: {g} instead of {w}", case.name);
                different += 1;
                assert!((g - w).abs() <= 1.0, "{}", case.name);
            }
        }
    }
    println!("{} of {elements} elements are bit-equal", elements - different);
    // Ties of the exact product are rare: those committed have none.
    assert!(different * 10_000 <= elements, "{different} of {elements}");
}

#[test]
fn results_are_proven() {
    let mut proven = std::collections::BTreeSet::new();
    for case in cases() {
        let op = case.name.split('-').next().unwrap().to_owned();
        if !proven.insert(op) {
            continue;
        }
        let (q, trace) = run(&case);
        let plan = plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
        machine::mock(&plan, &trace.values).unwrap();
        let (srs, random) = (srs(plan.k()), rng(7));
        let key = keygen(engine(), &srs, &plan).unwrap();
        let proof = prove(engine(), &key, &plan, &trace.values, ProofTranscript::Blake2b, random).unwrap();
        assert!(second::both(&key, &proof.bytes, &proof.instances));
    }
    assert_eq!(proven.len(), 6);
}
