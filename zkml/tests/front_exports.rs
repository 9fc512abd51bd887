//! What exporters and optimisers write, against the operators that it stands for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64};
use parhelion_zkml::machine::{PlanOptions, Visibility, mock, plan};
use parhelion_zkml::onnx::{DType, ImportOptions, Model, TensorF, import};
use parhelion_zkml::quant::{QuantError, QuantOptions, quantise};
use parhelion_zkml::{exec, float};

fn read(b: &Builder) -> Model {
    import(&b.bytes(), &ImportOptions::default()).unwrap()
}

fn floats(shape: &[usize], data: Vec<f64>) -> TensorF {
    TensorF::float(shape.to_vec(), DType::F32, data).unwrap()
}

/// Numbers between −1 and 1 that are all different.
fn spread(shape: &[usize]) -> TensorF {
    let n: usize = shape.iter().product();
    floats(shape, (0..n).map(|i| ((i * 37 + 11) % 97) as f64 / 48.0 - 1.0).collect())
}

fn close(got: &[TensorF], want: &[TensorF], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert_eq!((&g.shape, g.dtype), (&w.shape, w.dtype));
        for (g, w) in g.to_f64().iter().zip(w.to_f64()) {
            assert!((g - w).abs() <= tolerance, "{g} instead of {w}");
        }
    }
}

/// The model in floats and in integers is `want`, and the circuit holds.
fn gives(b: &Builder, inputs: &[TensorF], want: &[TensorF], tolerance: f64) {
    let m = read(b);
    close(&float::run(&m, inputs).unwrap(), want, 1e-6);
    let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    close(&q.decode_outputs(&trace), want, tolerance);
    let plan = plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
    mock(&plan, &trace.values).unwrap();
}

/// The model is another one.
fn is(b: &Builder, plain: &Builder, inputs: &[TensorF]) {
    gives(b, inputs, &float::run(&read(plain), inputs).unwrap(), 1e-3);
}

fn inputs(shapes: &[&[i64]]) -> Builder {
    let mut b = Builder::new();
    b.opset = 23;
    for (name, shape) in ["x", "y", "z"].into_iter().zip(shapes) {
        b = b.input(name, FLOAT, shape);
    }
    b
}

#[test]
fn attention_is_what_it_consists_of() {
    let n = f32::NEG_INFINITY;
    // Two heads over one head of keys, causal.
    let fused = inputs(&[&[1, 2, 3, 4], &[1, 1, 3, 4], &[1, 1, 3, 4]]).output("o").node(
        "Attention",
        &["x", "y", "z"],
        &["o"],
        &[("is_causal", A::Int(1))],
    );
    let plain = inputs(&[&[1, 2, 3, 4], &[1, 1, 3, 4], &[1, 1, 3, 4]])
        .floats("half", &[], &[0.5])
        .floats("mask", &[3, 3], &[0.0, n, n, 0.0, 0.0, n, 0.0, 0.0, 0.0])
        .node("Transpose", &["y"], &["t"], &[("perm", A::Ints(&[0, 1, 3, 2]))])
        .node("MatMul", &["x", "t"], &["s"], &[])
        .node("Mul", &["s", "half"], &["h"], &[])
        .node("Add", &["h", "mask"], &["m"], &[])
        .node("Softmax", &["m"], &["p"], &[("axis", A::Int(-1))])
        .node("MatMul", &["p", "z"], &["o"], &[])
        .output("o");
    is(&fused, &plain, &[spread(&[1, 2, 3, 4]), spread(&[1, 1, 3, 4]), spread(&[1, 1, 3, 4])]);
}

#[test]
fn a_rotary_embedding_turns_pairs() {
    let b = inputs(&[&[1, 1, 2, 4]])
        .floats("c", &[1, 2, 2], &[1.0, 1.0, 0.0, 0.6])
        .floats("s", &[1, 2, 2], &[0.0, 0.0, 1.0, 0.8])
        .output("o");
    let halves = b.clone().node("RotaryEmbedding", &["x", "c", "s"], &["o"], &[]);
    let pairs = b.node("RotaryEmbedding", &["x", "c", "s"], &["o"], &[("interleaved", A::Int(1))]);
    let x = [floats(&[1, 1, 2, 4], vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.5, -0.5, 1.0])];
    let want = floats(&[1, 1, 2, 4], vec![0.1, 0.2, 0.3, 0.4, 0.5, -0.5, 0.5, 1.0]);
    gives(&halves, &x, &[want], 1e-3);
    let want = floats(&[1, 1, 2, 4], vec![0.1, 0.2, 0.3, 0.4, -0.5, 0.5, -1.1, 0.2]);
    gives(&pairs, &x, &[want], 1e-3);
}

/// Softmax of the input plus a mask, with zeros in place of what is not a number: as transformers export attention.
fn guarded(mask: &[f32]) -> Builder {
    inputs(&[&[2, 3]])
        .floats("mask", &[2, 3], mask)
        .floats("zero", &[], &[0.0])
        .node("Add", &["x", "mask"], &["m"], &[])
        .node("Softmax", &["m"], &["p"], &[("axis", A::Int(-1))])
        .node("IsNaN", &["p"], &["bad"], &[])
        .node("Where", &["bad", "zero", "p"], &["o"], &[])
        .output("o")
}

#[test]
fn no_value_is_not_a_number() {
    let n = f32::NEG_INFINITY;
    let plain = inputs(&[&[2, 3]])
        .floats("mask", &[2, 3], &[0.0, n, n, 0.0, 0.0, n])
        .node("Add", &["x", "mask"], &["m"], &[])
        .node("Softmax", &["m"], &["o"], &[("axis", A::Int(-1))])
        .output("o");
    is(&guarded(&[0.0, n, n, 0.0, 0.0, n]), &plain, &[spread(&[2, 3])]);
    // A row that is masked throughout would be zeros in floats, and something else in integers.
    let m = read(&guarded(&[0.0, n, n, n, n, n]));
    let refused = quantise(&m, &[vec![spread(&[2, 3])]], &QuantOptions::default()).unwrap_err();
    assert!(
        !matches!(refused, QuantError::Unsupported(_)) && refused.to_string().contains("NaN"),
        "{refused}"
    );
}

#[test]
fn messages_are_added_where_a_computed_index_says() {
    let index = TensorF::int(vec![3, 1], DType::I64, vec![2, 0, 2]).unwrap();
    let b = inputs(&[&[3, 2], &[3, 2]]).input("i", INT64, &[3, 1]).output("o");
    let nd = b.clone().node("ScatterND", &["x", "i", "y"], &["o"], &[("reduction", A::Str("add"))]);
    let data = floats(&[3, 2], vec![0.5, 0.25, -0.5, 0.125, 0.0, 1.0]);
    let updates = floats(&[3, 2], vec![0.25, 0.5, 1.0, -1.0, 0.125, 0.25]);
    let want = floats(&[3, 2], vec![1.5, -0.75, -0.5, 0.125, 0.375, 1.75]);
    gives(&nd, &[data.clone(), updates.clone(), index], &[want], 1e-3);
    let b = inputs(&[&[3, 2], &[2, 2]]).input("i", INT64, &[2, 2]).output("o");
    let elements = b.node("ScatterElements", &["x", "i", "y"], &["o"], &[("reduction", A::Str("add"))]);
    let index = TensorF::int(vec![2, 2], DType::I64, vec![2, 0, 2, -1]).unwrap();
    let updates = floats(&[2, 2], vec![0.25, 0.5, 1.0, -1.0]);
    let want = floats(&[3, 2], vec![0.5, 0.75, -0.5, 0.125, 1.25, 0.0]);
    gives(&elements, &[data, updates, index], &[want], 1e-3);
}

#[test]
fn averages_of_quantised_values_are_quantised() {
    let zero = |mut b: Builder| {
        b.graph.initializer.push(parhelion_zkml::onnx::proto::TensorProto {
            name: "z".into(),
            data_type: 2,
            int32_data: vec![3],
            ..Default::default()
        });
        b
    };
    let b = zero(inputs(&[&[1, 2, 3, 3]]))
        .floats("s", &[], &[0.003_891])
        .floats("r", &[], &[0.002_177])
        .node("Sigmoid", &["x"], &["a"], &[])
        .node("QuantizeLinear", &["a", "s", "z"], &["b"], &[])
        .node("DequantizeLinear", &["b", "s", "z"], &["c"], &[])
        .node("GlobalAveragePool", &["c"], &["d"], &[])
        .node("QuantizeLinear", &["d", "r", "z"], &["e"], &[])
        .node("DequantizeLinear", &["e", "r", "z"], &["o"], &[])
        .output("o");
    let x = [spread(&[1, 2, 3, 3])];
    let want = float::run(&read(&b), &x).unwrap();
    // One step of the second scale.
    gives(&b, &x, &want, 0.002_2);
}

#[test]
fn fusions_are_taken_apart() {
    let w: Vec<f32> = (0..12).map(|i| ((i * 5 + 2) % 7) as f32 / 4.0 - 0.75).collect();
    let b = inputs(&[&[1, 2, 5]]).floats("w", &[2, 2, 3], &w).output("o");
    let fused = b.clone().node(
        "com.microsoft::FusedConv",
        &["x", "w"],
        &["o"],
        &[
            ("activation", A::Str("Clip")),
            ("activation_params", A::Floats(&[0.0, 0.5])),
            ("pads", A::Ints(&[1, 1])),
        ],
    );
    let plain = b
        .floats("lo", &[], &[0.0])
        .floats("hi", &[], &[0.5])
        .node("Conv", &["x", "w"], &["c"], &[("pads", A::Ints(&[1, 1]))])
        .node("Clip", &["c", "lo", "hi"], &["o"], &[]);
    is(&fused, &plain, &[spread(&[1, 2, 5])]);

    let b = inputs(&[&[2, 3], &[4, 3]]).output("o");
    let fused = b.clone().node(
        "com.microsoft::FusedMatMul",
        &["x", "y"],
        &["o"],
        &[("transB", A::Int(1)), ("alpha", A::Float(0.5))],
    );
    let plain = b.node("Gemm", &["x", "y"], &["o"], &[("transB", A::Int(1)), ("alpha", A::Float(0.5))]);
    is(&fused, &plain, &[spread(&[2, 3]), spread(&[4, 3])]);

    let b = inputs(&[&[2, 4], &[2, 4]]).floats("g", &[4], &w[..4]).floats("h", &[4], &w[4..8]).output("o");
    let fused = b.clone().node(
        "com.microsoft::SkipLayerNormalization",
        &["x", "y", "g", "h"],
        &["o"],
        &[("epsilon", A::Float(1e-5))],
    );
    let plain = b.node("Add", &["x", "y"], &["s"], &[]).node(
        "LayerNormalization",
        &["s", "g", "h"],
        &["o"],
        &[("epsilon", A::Float(1e-5))],
    );
    is(&fused, &plain, &[spread(&[2, 4]), spread(&[2, 4])]);

    let b = inputs(&[&[2, 4]]).floats("g", &[4], &w[..4]).output("o");
    let fused = b.clone().node("com.microsoft::BiasGelu", &["x", "g"], &["o"], &[]);
    let plain = b.node("Add", &["x", "g"], &["s"], &[]).node("Gelu", &["s"], &["o"], &[]);
    is(&fused, &plain, &[spread(&[2, 4])]);
}
