//! Operators that are written as others: functions of the model, norms, dynamic quantisation, trees of version 5.
//!
//! `data/composite.jsonl` holds random models with ONNX Runtime's results; `front_composite.py` writes it, and larger ones, which
//! `PARHELION_COMPOSITE` names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its counts"
)]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT8, INT64, UINT8};
use front_common::tensor as listed;
use parhelion_zkml::machine::{PlanOptions, Visibility, mock, plan};
use parhelion_zkml::onnx::proto::{
    AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use parhelion_zkml::onnx::{DType, Data, ImportError, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::session::from_hex;
use parhelion_zkml::{exec, float};
use serde_json::Value;

fn floats(shape: &[usize], data: &[f64]) -> TensorF {
    TensorF::new(shape.to_vec(), DType::F32, Data::F(data.to_vec())).unwrap()
}

/// The outputs in integers, which a circuit holds for, and which the float executor is near.
fn run(b: &Builder, inputs: &[TensorF], tolerance: f64) -> Vec<Vec<f64>> {
    let model = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let exact = float::run(&model, inputs).unwrap();
    let q = quantise(&model, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    let got = q.decode_outputs(&trace);
    for (g, e) in got.iter().zip(&exact) {
        assert_eq!(g.shape, e.shape);
        for (g, e) in g.to_f64().into_iter().zip(e.to_f64()) {
            assert!((g - e).abs() <= tolerance, "{g} instead of {e}");
        }
    }
    let plan = plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
    mock(&plan, &trace.values).unwrap();
    got.iter().map(TensorF::to_f64).collect()
}

fn near(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= tolerance, "{got:?} instead of {want:?}");
    }
}

fn call(op: &str, input: &[&str], output: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let list = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect();
    NodeProto {
        input: list(input),
        output: list(output),
        op_type: op.into(),
        attribute,
        ..Default::default()
    }
}

fn refers(name: &str, to: &str) -> AttributeProto {
    AttributeProto { name: name.into(), ref_attr_name: to.into(), r#type: 1, ..Default::default() }
}

fn function(name: &str, input: &[&str], output: &[&str], node: Vec<NodeProto>) -> FunctionProto {
    let list = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect();
    FunctionProto {
        name: name.into(),
        domain: "mine".into(),
        input: list(input),
        output: list(output),
        node,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..Default::default()
    }
}

#[test]
fn functions_of_a_model_are_called() {
    let mut b = Builder::new()
        .input("x", FLOAT, &[1, 3])
        .output("y")
        .node("mine::Twice", &["x"], &["t"], &[("slope", A::Float(0.25))])
        .node("mine::Twice", &["t"], &["y"], &[]);
    let mut leaky = function(
        "Leaky",
        &["a"],
        &["b"],
        vec![call("LeakyRelu", &["a"], &["b"], vec![refers("alpha", "slope")])],
    );
    leaky.attribute.push("slope".into());
    let own = |node: NodeProto| NodeProto { domain: "mine".into(), ..node };
    let twice = vec![
        call("Add", &["x", "x"], &["s"], vec![]),
        own(call("Leaky", &["s"], &["y"], vec![refers("slope", "slope")])),
    ];
    b.functions = vec![leaky, function("Twice", &["x"], &["y"], twice)];
    // −1 → −2 → −0.5 with slope 0.25; then −1 → −0.01 with the operator's own slope.
    let y = run(&b, &[floats(&[1, 3], &[-1.0, 0.5, 2.0])], 1e-3);
    near(&y[0], &[-0.01, 2.0, 8.0], 1e-3);
    let forever = vec![own(call("Twice", &["x"], &["y"], vec![]))];
    b.functions[1].node = forever;
    let e = import(&b.bytes(), &ImportOptions::default()).unwrap_err();
    assert!(matches!(&e, ImportError::Node { reason, .. } if reason.contains("calls itself")), "{e}");
}

#[test]
fn norms_divide_and_nothing_stays_nothing() {
    let b = Builder::new().input("x", FLOAT, &[2, 2]).output("y").node(
        "LpNormalization",
        &["x"],
        &["y"],
        &[("axis", A::Int(1)), ("p", A::Int(2))],
    );
    let y = run(&b, &[floats(&[2, 2], &[3.0, -4.0, 0.0, 0.0])], 1e-3);
    near(&y[0], &[0.6, -0.8, 0.0, 0.0], 1e-3);
}

#[test]
fn the_first_of_the_greatest_is_hard() {
    let b = Builder::new().input("x", FLOAT, &[2, 3]).output("y").node(
        "Hardmax",
        &["x"],
        &["y"],
        &[("axis", A::Int(-1))],
    );
    let y = run(&b, &[floats(&[2, 3], &[1.0, 2.0, 2.0, 0.5, -1.0, 0.25])], 0.0);
    assert_eq!(y[0], [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn means_of_integers_are_cut_towards_zero() {
    let b = Builder::new().input("x", INT64, &[2, 3]).output("y").node(
        "ReduceMean",
        &["x"],
        &["y"],
        &[("axes", A::Ints(&[1])), ("keepdims", A::Int(0))],
    );
    let x = TensorF::new(vec![2, 3], DType::I64, Data::I(vec![1, 2, 5, -1, -2, -5])).unwrap();
    assert_eq!(run(&b, &[x], 0.0)[0], [2.0, -2.0]);
}

#[test]
fn activations_are_read_in_any_case() {
    let w = [0.5f32, -0.5, 0.25, 0.75];
    let make = |names: &[&str]| {
        Builder::new()
            .input("x", FLOAT, &[2, 1, 1])
            .output("y")
            .floats("w", &[1, 4, 1], &w)
            .floats("r", &[1, 4, 1], &w)
            .node(
                "LSTM",
                &["x", "w", "r"],
                &["y"],
                &[("hidden_size", A::Int(1)), ("activations", A::Strs(names))],
            )
    };
    let x = [floats(&[2, 1, 1], &[0.5, -1.0])];
    assert_eq!(
        run(&make(&["sigmoid", "tanh", "TANH"]), &x, 1e-3),
        run(&make(&["Sigmoid", "Tanh", "Tanh"]), &x, 1e-3)
    );
}

#[test]
fn ranges_of_their_own_quantise() {
    // The range is [−1, 1.55], so the scale 0.01 and the zero point 100.
    let b = Builder::new().input("x", FLOAT, &[4]).output("q").output("s").output("z").node(
        "DynamicQuantizeLinear",
        &["x"],
        &["q", "s", "z"],
        &[],
    );
    let y = run(&b, &[floats(&[4], &[-1.0, 1.55, 0.25, 0.0])], 1e-3);
    near(&y[0], &[0.0, 255.0, 125.0, 100.0], 0.0);
    near(&y[2], &[100.0], 0.0);
    near(&y[1], &[0.01], 1e-4);
}

#[test]
fn quantised_parts_join_in_one_scale() {
    let b = Builder::new()
        .input("a", UINT8, &[1, 2])
        .input("b", UINT8, &[1, 2])
        .output("y")
        .floats("s1", &[], &[0.1])
        .floats("s2", &[], &[0.3])
        .bytes8("z1", UINT8, &[], &[10])
        .bytes8("z2", UINT8, &[], &[0])
        .node(
            "com.microsoft::QLinearConcat",
            &["s1", "z1", "a", "s1", "z1", "b", "s2", "z2"],
            &["y"],
            &[("axis", A::Int(1))],
        );
    let byte = |v: [i64; 2]| TensorF::new(vec![1, 2], DType::U8, Data::I(v.to_vec())).unwrap();
    // b is 0.9 and 76.5: 19, and 775 past the end.
    assert_eq!(run(&b, &[byte([3, 250]), byte([3, 255])], 0.0)[0], [3.0, 250.0, 19.0, 255.0]);
}

#[test]
fn residuals_between_quantised_tensors_saturate() {
    let b = Builder::new()
        .input("a", INT8, &[4])
        .input("b", INT8, &[4])
        .output("y")
        .floats("s", &[], &[0.5])
        .floats("t", &[], &[0.25])
        .bytes8("z", INT8, &[], &[3])
        .node("DequantizeLinear", &["a", "s", "z"], &["p"], &[])
        .node("DequantizeLinear", &["b", "t", "z"], &["q"], &[])
        .node("Add", &["p", "q"], &["r"], &[])
        .node("QuantizeLinear", &["r", "s", "z"], &["y"], &[]);
    let byte = |v: [i64; 4]| TensorF::new(vec![4], DType::I8, Data::I(v.to_vec())).unwrap();
    // (a − 3) + (b − 3)/2, halves to even, + 3.
    let y = run(&b, &[byte([127, -128, 10, 11]), byte([127, -128, 4, 4])], 0.0);
    assert_eq!(y[0], [127.0, -128.0, 11.0, 11.0]);
}

fn tensor(dtype: i32, ints: &[i64]) -> TensorProto {
    let raw: Vec<u8> = match dtype {
        UINT8 => ints.iter().map(|&v| v as u8).collect(),
        _ => ints.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    TensorProto {
        dims: vec![ints.len() as i64],
        data_type: dtype,
        raw_data: raw.into(),
        ..Default::default()
    }
}

fn numbers(v: &[f32]) -> TensorProto {
    let raw: Vec<u8> = v.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto { dims: vec![v.len() as i64], data_type: FLOAT, raw_data: raw.into(), ..Default::default() }
}

#[test]
fn trees_of_version_five() {
    // Node 0: x₀ ≤ 1 ? leaf 0 : node 1; node 1: x₁ ∈ {2, 5} ? leaf 1 : leaf 2. The second tree is a leaf.
    let attrs: &[(&str, A<'_>)] = &[
        ("n_targets", A::Int(2)),
        ("aggregate_function", A::Int(1)),
        ("tree_roots", A::Ints(&[0, 2])),
        ("nodes_modes", A::Tensor(tensor(UINT8, &[0, 6, 0]))),
        ("nodes_featureids", A::Ints(&[0, 1, 0])),
        ("nodes_splits", A::Tensor(numbers(&[1.0, 0.0, 0.0]))),
        ("nodes_truenodeids", A::Ints(&[0, 1, 3])),
        ("nodes_trueleafs", A::Ints(&[1, 1, 1])),
        ("nodes_falsenodeids", A::Ints(&[1, 2, 3])),
        ("nodes_falseleafs", A::Ints(&[0, 1, 1])),
        ("membership_values", A::Tensor(numbers(&[2.0, 5.0, f32::NAN]))),
        ("leaf_targetids", A::Ints(&[0, 1, 0, 1])),
        ("leaf_weights", A::Tensor(numbers(&[1.5, -2.0, 0.5, 0.25]))),
    ];
    let b = Builder::new().input("x", FLOAT, &[4, 2]).output("y").node(
        "ai.onnx.ml::TreeEnsemble",
        &["x"],
        &["y"],
        attrs,
    );
    let y = run(&b, &[floats(&[4, 2], &[0.5, 0.0, 3.0, 2.0, 3.0, 5.0, 3.0, 4.0])], 1e-3);
    near(&y[0], &[1.5, 0.25, 0.0, -1.75, 0.0, -1.75, 0.5, 0.25], 1e-3);
}

/// How far results may be from ONNX Runtime's: in floats, in real numbers of the circuit, in steps of quantised ones.
fn tolerances(kind: &str) -> (f64, f64, f64) {
    match kind {
        // The runtime rounds the operands of every step to eight bits, the float executor does not.
        "dynamic_lstm" => (2e-2, 2e-2, 0.0),
        // The step itself is computed: where a number is near the middle of two integers, its last bit decides.
        "dynamic_quantize" => (1e-5, 1e-3, 1.0),
        "dynamic_product" => (2e-2, 2e-2, 0.0),
        _ => (1e-5, 1e-3, 0.0),
    }
}

#[test]
fn results_are_those_of_onnx_runtime() {
    let text = match std::env::var_os("PARHELION_COMPOSITE") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("data/composite.jsonl").to_owned(),
    };
    let (mut failures, mut kinds) = (Vec::new(), std::collections::BTreeMap::<String, usize>::new());
    for line in text.lines() {
        let v: Value = serde_json::from_str(line).unwrap();
        let name = v["name"].as_str().unwrap();
        let kind = name.rsplit_once('-').unwrap().0;
        let list = |key: &str| v[key].as_array().unwrap().iter().map(listed).collect::<Vec<_>>();
        match agrees(
            &from_hex(v["model"].as_str().unwrap()).unwrap(),
            &list("inputs"),
            &list("outputs"),
            kind,
        ) {
            Ok(()) => *kinds.entry(kind.to_owned()).or_default() += 1,
            Err(e) => failures.push(format!("{name}: {e}")),
        }
    }
    println!("{kinds:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(kinds.len(), 24);
}

fn agrees(bytes: &[u8], inputs: &[TensorF], outputs: &[TensorF], kind: &str) -> Result<(), String> {
    let (exact, near, steps) = tolerances(kind);
    let model = import(bytes, &ImportOptions::default()).map_err(|e| e.to_string())?;
    let off = |got: &[TensorF], near: f64| {
        for (k, (g, w)) in got.iter().zip(outputs).enumerate() {
            if (&g.shape, g.dtype) != (&w.shape, w.dtype) {
                return Err(format!(
                    "output {k}: {:?} of {} for {:?} of {}",
                    g.shape, g.dtype, w.shape, w.dtype
                ));
            }
            let most = w.to_f64().iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            let allowed = if w.dtype.is_float() { near * most } else { steps };
            for (i, (g, w)) in g.to_f64().into_iter().zip(w.to_f64()).enumerate() {
                if g != w && ((g - w).abs() > allowed || g.is_nan()) {
                    return Err(format!("output {k}, element {i}: {g} instead of {w}"));
                }
            }
        }
        if got.len() == outputs.len() { Ok(()) } else { Err(format!("{} outputs", got.len())) }
    };
    let real = float::run(&model, inputs).map_err(|e| e.to_string())?;
    off(&real, exact).map_err(|e| format!("in floats, {e}"))?;
    let q = quantise(&model, &[inputs.to_vec()], &QuantOptions::default()).map_err(|e| e.to_string())?;
    let encoded = q.encode_inputs(inputs).map_err(|e| e.to_string())?;
    let trace = exec::run(&q.program, &encoded).map_err(|e| e.to_string())?;
    off(&q.decode_outputs(&trace), near).map_err(|e| format!("in integers, {e}"))?;
    let options = PlanOptions { units: Some(1), ..PlanOptions::default() };
    let plan = plan(&q.program, &Visibility::default(), &options).map_err(|e| e.to_string())?;
    mock(&plan, &trace.values).map_err(|e| format!("the circuit: {e}"))
}
