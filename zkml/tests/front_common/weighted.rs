//! Models of operators that carry weights, for tests of what files tell of them.
//!
//! Each is built from a source of weights, whose seeds give different ones within the same ranges.

use parhelion_zkml::onnx::proto::TensorProto;
use parhelion_zkml::onnx::{DType, Data, Model, TensorF};

use super::build::{A, Builder, FLOAT, INT8, INT64, UINT8};

/// Numbers that look random, of which the first is the greatest, so that ranges are the same for every seed.
pub(crate) struct Weights(pub(crate) u64);

impl Weights {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Magnitudes between 0.65 and 1 times the greatest, so that parts of a tensor have the same ranges too.
    pub(crate) fn floats(&mut self, n: usize, top: f32) -> Vec<f32> {
        let mut one = |i| {
            let r = self.next();
            let sign = if r.is_multiple_of(2) { 1.0 } else { -1.0 };
            if i == 0 { top } else { sign * top * (0.65 + 0.35 * (r / 2 % 10_007) as f32 / 10_007.0) }
        };
        (0..n).map(&mut one).collect()
    }

    fn positive(&mut self, n: usize, top: f32) -> Vec<f32> {
        self.floats(n, top).into_iter().map(f32::abs).collect()
    }

    pub(crate) fn ints(&mut self, n: usize, lo: i64, hi: i64) -> Vec<i64> {
        let span = (hi - lo + 1) as u64;
        (0..n).map(|i| if i == 0 { hi } else { lo + (self.next() % span) as i64 }).collect()
    }
}

/// A model's maker.
pub(crate) type Make = fn(&mut Weights) -> Builder;

pub(crate) fn x(dims: &[i64]) -> Builder {
    Builder::new().input("x", FLOAT, dims).output("y")
}

fn ml(op: &str, attrs: &[(&str, A<'_>)]) -> Builder {
    x(&[2, 3]).node(&format!("ai.onnx.ml::{op}"), &["x"], &["y"], attrs)
}

fn quantised(w: &mut Weights, op: &str, shape: &[i64], channels: usize) -> Builder {
    let n = shape.iter().product::<i64>() as usize;
    x(if op == "QLinearConv" { &[1, 2, 4, 4] } else { &[2, 4] })
        .floats("sx", &[], &[0.03])
        .bytes8("zx", UINT8, &[], &[120])
        .bytes8("w", INT8, shape, &w.ints(n, -127, 127))
        .floats("sw", &[channels as i64], &w.positive(channels, 0.02))
        .bytes8("zw", INT8, &[channels as i64], &vec![0; channels])
        .floats("sy", &[], &[0.05])
        .bytes8("zy", UINT8, &[], &[110])
        .node("QuantizeLinear", &["x", "sx", "zx"], &["q"], &[])
        .node(op, &["q", "sx", "zx", "w", "sw", "zw", "sy", "zy"], &["r"], &[])
        .node("DequantizeLinear", &["r", "sy", "zy"], &["y"], &[])
}

fn recurrent(w: &mut Weights, op: &str, gates: i64) -> Builder {
    let (hidden, width) = (2, 3);
    let n = (gates * hidden) as usize;
    x(&[2, 1, width])
        .floats("w", &[1, gates * hidden, width], &w.floats(n * width as usize, 0.9))
        .floats("r", &[1, gates * hidden, hidden], &w.floats(n * hidden as usize, 0.9))
        .floats("b", &[1, 2 * gates * hidden], &[w.floats(n, 0.4), vec![0.0; n]].concat())
        .node(op, &["x", "w", "r", "b"], &["y"], &[("hidden_size", A::Int(hidden))])
}

fn compared(w: &mut Weights, op: &str) -> Builder {
    let b = x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node(op, &["x", "w"], &["b"], &[]);
    b.node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
}

/// `q`: an input of two rows of four, quantised.
fn quantised_input() -> Builder {
    let b = x(&[2, 4]).floats("sx", &[], &[0.03]).bytes8("zx", UINT8, &[], &[120]);
    b.node("QuantizeLinear", &["x", "sx", "zx"], &["q"], &[])
}

/// A node whose quantised result is the output.
fn quantised_output(b: Builder, op: &str, inputs: &[&str]) -> Builder {
    let b = b.floats("sy", &[], &[0.05]).bytes8("zy", UINT8, &[], &[110]);
    b.node(op, inputs, &["r"], &[]).node("DequantizeLinear", &["r", "sy", "zy"], &["y"], &[])
}

fn pointwise(w: &mut Weights, op: &str) -> Builder {
    let b = quantised_input().bytes8("w", UINT8, &[4], &w.ints(4, 0, 255));
    let b = b.floats("sw", &[], &[0.03]).bytes8("zw", UINT8, &[], &[128]);
    quantised_output(b, op, &["q", "sx", "zx", "w", "sw", "zw", "sy", "zy"])
}

fn packed(dtype: i32, values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = match dtype {
        UINT8 => values.iter().map(|&v| v as u8).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: dtype,
        raw_data: raw.into(),
        ..Default::default()
    }
}

/// Models with one operator, or few, that carry weights.
pub(crate) const CASES: &[(&str, Make)] = &[
    ("MatMul", |w| {
        x(&[2, 4]).floats("w", &[4, 3], &w.floats(12, 0.9)).node("MatMul", &["x", "w"], &["y"], &[])
    }),
    ("Gemm", |w| {
        x(&[2, 4]).floats("w", &[3, 4], &w.floats(12, 0.9)).floats("b", &[3], &w.floats(3, 0.9)).node(
            "Gemm",
            &["x", "w", "b"],
            &["y"],
            &[("transB", A::Int(1))],
        )
    }),
    ("two layers", |w| {
        x(&[1, 4])
            .floats("w", &[4, 6], &w.floats(24, 0.9))
            .floats("b", &[6], &w.floats(6, 0.9))
            .floats("u", &[6, 3], &w.floats(18, 0.9))
            .node("MatMul", &["x", "w"], &["h"], &[])
            .node("Add", &["h", "b"], &["g"], &[])
            .node("Tanh", &["g"], &["t"], &[])
            .node("MatMul", &["t", "u"], &["y"], &[])
    }),
    ("logistic regression", |w| {
        let bias = w.floats(2, 0.9)[1..].to_vec();
        x(&[2, 4])
            .floats("w", &[4, 1], &w.floats(4, 0.9))
            .floats("b", &[1], &bias)
            .node("MatMul", &["x", "w"], &["s"], &[])
            .node("Add", &["s", "b"], &["t"], &[])
            .node("Sigmoid", &["t"], &["y"], &[])
    }),
    ("one weight, one bias", |w| {
        let (a, b) = (w.floats(2, 0.9)[1], w.floats(2, 0.9)[1]);
        x(&[1, 1]).floats("w", &[1, 1], &[a]).floats("b", &[1], &[b]).node(
            "Gemm",
            &["x", "w", "b"],
            &["y"],
            &[],
        )
    }),
    ("Conv", |w| {
        x(&[1, 2, 4, 4])
            .floats("w", &[3, 2, 3, 3], &w.floats(54, 0.4))
            .floats("b", &[3], &w.floats(3, 0.4))
            .node("Conv", &["x", "w", "b"], &["y"], &[])
    }),
    ("Conv with one channel", |w| {
        let b = w.floats(2, 0.4)[1];
        x(&[1, 1, 4, 4]).floats("w", &[1, 1, 2, 2], &w.floats(4, 0.4)).floats("b", &[1], &[b]).node(
            "Conv",
            &["x", "w", "b"],
            &["y"],
            &[],
        )
    }),
    ("ConvTranspose", |w| {
        x(&[1, 2, 3, 3]).floats("w", &[2, 3, 2, 2], &w.floats(24, 0.4)).node(
            "ConvTranspose",
            &["x", "w"],
            &["y"],
            &[],
        )
    }),
    ("Einsum", |w| {
        x(&[2, 4]).floats("w", &[4, 3], &w.floats(12, 0.9)).node(
            "Einsum",
            &["x", "w"],
            &["y"],
            &[("equation", A::Str("ij,jk->ik"))],
        )
    }),
    ("MatMulInteger", |w| {
        x(&[2, 4])
            .floats("sx", &[], &[0.03])
            .bytes8("zx", UINT8, &[], &[120])
            .bytes8("w", INT8, &[4, 3], &w.ints(12, -127, 127))
            .bytes8("zw", INT8, &[], &[5])
            .node("QuantizeLinear", &["x", "sx", "zx"], &["q"], &[])
            .node("MatMulInteger", &["q", "w", "zx", "zw"], &["y"], &[])
    }),
    ("ConvInteger", |w| {
        x(&[1, 2, 4, 4])
            .floats("sx", &[], &[0.03])
            .bytes8("zx", UINT8, &[], &[120])
            .bytes8("w", UINT8, &[3, 2, 2, 2], &w.ints(24, 0, 255))
            .bytes8("zw", UINT8, &[], &[128])
            .node("QuantizeLinear", &["x", "sx", "zx"], &["q"], &[])
            .node("ConvInteger", &["q", "w", "zx", "zw"], &["y"], &[])
    }),
    ("QLinearMatMul", |w| quantised(w, "QLinearMatMul", &[4, 3], 3)),
    ("QLinearConv", |w| quantised(w, "QLinearConv", &[3, 2, 2, 2], 3)),
    ("Add", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Add", &["x", "w"], &["y"], &[])),
    ("Sub from", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Sub", &["w", "x"], &["y"], &[])),
    ("Mul", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Mul", &["x", "w"], &["y"], &[])),
    ("Div", |w| x(&[2, 4]).floats("w", &[4], &w.positive(4, 0.9)).node("Div", &["x", "w"], &["y"], &[])),
    ("Max", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Max", &["x", "w"], &["y"], &[])),
    ("PRelu", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("PRelu", &["x", "w"], &["y"], &[])),
    ("Greater", |w| {
        x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Greater", &["x", "w"], &["b"], &[]).node(
            "Cast",
            &["b"],
            &["y"],
            &[("to", A::Int(1))],
        )
    }),
    ("Where", |w| {
        x(&[2, 4])
            .floats("zero", &[], &[0.0])
            .floats("w", &[4], &w.floats(4, 0.9))
            .node("Greater", &["x", "zero"], &["b"], &[])
            .node("Where", &["b", "x", "w"], &["y"], &[])
    }),
    ("Concat", |w| {
        x(&[2, 4]).floats("w", &[2, 4], &w.floats(8, 0.9)).node(
            "Concat",
            &["x", "w"],
            &["y"],
            &[("axis", A::Int(0))],
        )
    }),
    ("Concat of integers", |w| {
        Builder::new().input("x", INT64, &[4]).output("y").ints("w", &w.ints(4, 0, 9)).node(
            "Concat",
            &["x", "w"],
            &["y"],
            &[("axis", A::Int(0))],
        )
    }),
    ("ScatterElements", |w| {
        x(&[2]).floats("w", &[4], &w.floats(4, 0.9)).ints("i", &[1, 3]).node(
            "ScatterElements",
            &["w", "i", "x"],
            &["y"],
            &[],
        )
    }),
    ("Gather", |w| {
        Builder::new().input("x", INT64, &[3]).output("y").floats("w", &[5, 2], &w.floats(10, 0.9)).node(
            "Gather",
            &["w", "x"],
            &["y"],
            &[],
        )
    }),
    ("Gather of integers", |w| {
        Builder::new().input("x", INT64, &[3]).output("y").ints("w", &w.ints(5, -100, 100)).node(
            "Gather",
            &["w", "x"],
            &["y"],
            &[],
        )
    }),
    ("Add of integers", |w| {
        Builder::new().input("x", INT64, &[5]).output("y").ints("w", &w.ints(5, -100, 100)).node(
            "Add",
            &["x", "w"],
            &["y"],
            &[],
        )
    }),
    ("BatchNormalization", |w| {
        x(&[1, 3, 4])
            .floats("s", &[3], &w.positive(3, 0.9))
            .floats("b", &[3], &w.floats(3, 0.9))
            .floats("m", &[3], &w.floats(3, 0.01))
            .floats("v", &[3], &[0.9; 3])
            .node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"], &[])
    }),
    ("LayerNormalization", |w| {
        x(&[2, 4]).floats("s", &[4], &w.floats(4, 0.9)).floats("b", &[4], &w.floats(4, 0.9)).node(
            "LayerNormalization",
            &["x", "s", "b"],
            &["y"],
            &[],
        )
    }),
    ("InstanceNormalization", |w| {
        x(&[1, 2, 4]).floats("s", &[2], &w.floats(2, 0.9)).floats("b", &[2], &w.floats(2, 0.9)).node(
            "InstanceNormalization",
            &["x", "s", "b"],
            &["y"],
            &[],
        )
    }),
    ("LSTM", |w| recurrent(w, "LSTM", 4)),
    ("GRU", |w| recurrent(w, "GRU", 3)),
    ("RNN", |w| recurrent(w, "RNN", 1)),
    ("Scaler", |w| {
        ml("Scaler", &[("offset", A::Floats(&w.floats(3, 0.9))), ("scale", A::Floats(&w.floats(3, 0.9)))])
    }),
    ("LinearRegressor", |w| {
        let coefficients = w.floats(3, 0.9);
        let intercept = [w.floats(2, 0.4)[1]];
        ml(
            "LinearRegressor",
            &[("coefficients", A::Floats(&coefficients)), ("intercepts", A::Floats(&intercept))],
        )
    }),
    ("TreeEnsembleRegressor", |w| {
        let thresholds = [w.floats(2, 0.9)[1], w.floats(2, 0.9)[1], 0.0, 0.0, 0.0];
        let leaves = w.floats(3, 0.9);
        ml(
            "TreeEnsembleRegressor",
            &[
                ("nodes_treeids", A::Ints(&[0; 5])),
                ("nodes_nodeids", A::Ints(&[0, 1, 2, 3, 4])),
                ("nodes_featureids", A::Ints(&[0, 1, 0, 0, 0])),
                ("nodes_truenodeids", A::Ints(&[1, 3, 0, 0, 0])),
                ("nodes_falsenodeids", A::Ints(&[2, 4, 0, 0, 0])),
                ("nodes_values", A::Floats(&thresholds)),
                ("nodes_modes", A::Strs(&["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"])),
                ("target_treeids", A::Ints(&[0; 3])),
                ("target_nodeids", A::Ints(&[2, 3, 4])),
                ("target_ids", A::Ints(&[0; 3])),
                ("target_weights", A::Floats(&leaves)),
            ],
        )
    }),
    ("Min", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Min", &["x", "w"], &["y"], &[])),
    ("Mean", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Mean", &["x", "w"], &["y"], &[])),
    ("Sum", |w| x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9)).node("Sum", &["x", "w"], &["y"], &[])),
    ("Mod", |w| {
        let b = Builder::new().input("x", INT64, &[5]).output("y");
        b.ints("w", &w.ints(5, 0, 100)).ints("n", &[7]).node("Add", &["x", "w"], &["s"], &[]).node(
            "Mod",
            &["s", "n"],
            &["y"],
            &[],
        )
    }),
    ("Less", |w| compared(w, "Less")),
    ("LessOrEqual", |w| compared(w, "LessOrEqual")),
    ("GreaterOrEqual", |w| compared(w, "GreaterOrEqual")),
    ("Equal", |w| {
        let b = Builder::new().input("x", INT64, &[5]).output("y").ints("w", &w.ints(5, 0, 7));
        b.node("Equal", &["x", "w"], &["b"], &[]).node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
    }),
    ("GatherElements", |w| {
        Builder::new().input("x", INT64, &[3]).output("y").floats("w", &[5], &w.floats(5, 0.9)).node(
            "GatherElements",
            &["w", "x"],
            &["y"],
            &[],
        )
    }),
    ("GatherND", |w| {
        Builder::new().input("x", INT64, &[3, 1]).output("y").floats("w", &[5, 2], &w.floats(10, 0.9)).node(
            "GatherND",
            &["w", "x"],
            &["y"],
            &[],
        )
    }),
    ("ScatterND", |w| {
        let b = x(&[2]).floats("w", &[4], &w.floats(4, 0.9));
        let indices: Vec<u8> = [1i64, 3].iter().flat_map(|i| i.to_le_bytes()).collect();
        b.raw("i", INT64, &[2, 1], &indices).node("ScatterND", &["w", "i", "x"], &["y"], &[])
    }),
    ("GroupNormalization", |w| {
        let mut b = x(&[1, 4, 3]).floats("s", &[4], &w.floats(4, 0.9)).floats("b", &[4], &w.floats(4, 0.9));
        b.opset = 21;
        b.node("GroupNormalization", &["x", "s", "b"], &["y"], &[("num_groups", A::Int(2))])
    }),
    ("RMSNormalization", |w| {
        let mut b = x(&[2, 4]).floats("s", &[4], &w.floats(4, 0.9));
        b.opset = 23;
        b.node("RMSNormalization", &["x", "s"], &["y"], &[])
    }),
    ("RotaryEmbedding", |w| {
        let mut b = x(&[1, 1, 2, 4]).floats("c", &[1, 2, 2], &w.floats(4, 0.9));
        b.opset = 23;
        b.floats("s", &[1, 2, 2], &w.floats(4, 0.9)).node("RotaryEmbedding", &["x", "c", "s"], &["y"], &[])
    }),
    ("Attention", |w| {
        let mut b = x(&[1, 1, 3, 4]).floats("k", &[1, 1, 3, 4], &w.floats(12, 0.9));
        b.opset = 23;
        b.floats("v", &[1, 1, 3, 4], &w.floats(12, 0.9)).node("Attention", &["x", "k", "v"], &["y"], &[])
    }),
    ("DequantizeLinear", |w| {
        x(&[2, 4])
            .bytes8("w", INT8, &[4, 3], &w.ints(12, -127, 127))
            .floats("sw", &[3], &w.positive(3, 0.02))
            .bytes8("zw", INT8, &[3], &[0; 3])
            .node("DequantizeLinear", &["w", "sw", "zw"], &["f"], &[("axis", A::Int(1))])
            .node("MatMul", &["x", "f"], &["y"], &[])
    }),
    ("DynamicQuantizeLinear", |w| {
        x(&[2, 4])
            .bytes8("w", INT8, &[4, 3], &w.ints(12, -127, 127))
            .bytes8("zw", INT8, &[], &[0])
            .floats("sw", &[], &[0.01])
            .node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"], &[])
            .node("MatMulInteger", &["q", "w", "z", "zw"], &["i"], &[])
            .node("Cast", &["i"], &["f"], &[("to", A::Int(1))])
            .node("Mul", &["s", "sw"], &["t"], &[])
            .node("Mul", &["f", "t"], &["y"], &[])
    }),
    ("ArrayFeatureExtractor", |w| {
        Builder::new().input("x", INT64, &[2]).output("y").floats("w", &[2, 5], &w.floats(10, 0.9)).node(
            "ai.onnx.ml::ArrayFeatureExtractor",
            &["w", "x"],
            &["y"],
            &[],
        )
    }),
    ("LabelEncoder", |w| {
        let values = w.floats(3, 0.9);
        Builder::new().input("x", INT64, &[3]).output("y").node(
            "ai.onnx.ml::LabelEncoder",
            &["x"],
            &["y"],
            &[("keys_int64s", A::Ints(&[0, 1, 2])), ("values_floats", A::Floats(&values))],
        )
    }),
    ("LinearClassifier", |w| {
        let (coefficients, intercepts) = (w.floats(9, 0.9), w.floats(3, 0.9));
        x(&[2, 3]).node(
            "ai.onnx.ml::LinearClassifier",
            &["x"],
            &["label", "y"],
            &[
                ("coefficients", A::Floats(&coefficients)),
                ("intercepts", A::Floats(&intercepts)),
                ("classlabels_ints", A::Ints(&[0, 1, 2])),
            ],
        )
    }),
    ("SVMRegressor", |w| {
        // Squares of their lengths, which the kernel subtracts, have one range too.
        let vectors: Vec<f32> = w.floats(6, 0.9).iter().map(|v| v.signum() * 0.85 + v / 10.0).collect();
        let (coefficients, rho) = (w.floats(2, 0.9), [w.floats(2, 0.4)[1]]);
        ml(
            "SVMRegressor",
            &[
                ("kernel_type", A::Str("RBF")),
                ("kernel_params", A::Floats(&[0.5, 0.0, 3.0])),
                ("coefficients", A::Floats(&coefficients)),
                ("support_vectors", A::Floats(&vectors)),
                ("n_supports", A::Int(2)),
                ("rho", A::Floats(&rho)),
            ],
        )
    }),
    ("SVMClassifier", |w| {
        let (vectors, coefficients, rho) = (w.floats(6, 0.9), w.floats(2, 0.9), [w.floats(2, 0.4)[1]]);
        x(&[2, 3]).node(
            "ai.onnx.ml::SVMClassifier",
            &["x"],
            &["label", "y"],
            &[
                ("kernel_type", A::Str("LINEAR")),
                ("kernel_params", A::Floats(&[0.5, 0.0, 3.0])),
                ("coefficients", A::Floats(&coefficients)),
                ("support_vectors", A::Floats(&vectors)),
                ("vectors_per_class", A::Ints(&[1, 1])),
                ("classlabels_ints", A::Ints(&[0, 1])),
                ("rho", A::Floats(&rho)),
            ],
        )
    }),
    ("TreeEnsembleClassifier", |w| {
        let thresholds = [w.floats(2, 0.9)[1], w.floats(2, 0.9)[1], 0.0, 0.0, 0.0];
        let leaves = w.positive(6, 0.9);
        x(&[2, 3]).node(
            "ai.onnx.ml::TreeEnsembleClassifier",
            &["x"],
            &["label", "y"],
            &[
                ("nodes_treeids", A::Ints(&[0; 5])),
                ("nodes_nodeids", A::Ints(&[0, 1, 2, 3, 4])),
                ("nodes_featureids", A::Ints(&[0, 1, 0, 0, 0])),
                ("nodes_truenodeids", A::Ints(&[1, 3, 0, 0, 0])),
                ("nodes_falsenodeids", A::Ints(&[2, 4, 0, 0, 0])),
                ("nodes_values", A::Floats(&thresholds)),
                ("nodes_modes", A::Strs(&["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"])),
                ("class_treeids", A::Ints(&[0; 6])),
                ("class_nodeids", A::Ints(&[2, 2, 3, 3, 4, 4])),
                ("class_ids", A::Ints(&[0, 1, 0, 1, 0, 1])),
                ("class_weights", A::Floats(&leaves)),
                ("classlabels_int64s", A::Ints(&[0, 1])),
            ],
        )
    }),
    ("TreeEnsemble", |w| {
        let leaves = w.floats(3, 0.9);
        let splits = [w.floats(2, 0.9)[1], w.floats(2, 0.9)[1]];
        ml(
            "TreeEnsemble",
            &[
                ("n_targets", A::Int(1)),
                ("aggregate_function", A::Int(1)),
                ("tree_roots", A::Ints(&[0])),
                ("nodes_modes", A::Tensor(packed(UINT8, &[0.0, 0.0]))),
                ("nodes_featureids", A::Ints(&[0, 1])),
                ("nodes_splits", A::Tensor(packed(FLOAT, &splits))),
                ("nodes_truenodeids", A::Ints(&[0, 1])),
                ("nodes_trueleafs", A::Ints(&[1, 1])),
                ("nodes_falsenodeids", A::Ints(&[1, 2])),
                ("nodes_falseleafs", A::Ints(&[0, 1])),
                ("leaf_targetids", A::Ints(&[0, 0, 0])),
                ("leaf_weights", A::Tensor(packed(FLOAT, &leaves))),
            ],
        )
    }),
    ("BiasGelu", |w| {
        let b = x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9));
        b.node("com.microsoft::BiasGelu", &["x", "w"], &["y"], &[])
    }),
    ("FastGelu", |w| {
        let b = x(&[2, 4]).floats("w", &[4], &w.floats(4, 0.9));
        b.node("com.microsoft::FastGelu", &["x", "w"], &["y"], &[])
    }),
    ("FusedConv", |w| {
        let b = x(&[1, 2, 4, 4]).floats("w", &[3, 2, 3, 3], &w.floats(54, 0.4));
        b.floats("b", &[3], &w.floats(3, 0.4)).node(
            "com.microsoft::FusedConv",
            &["x", "w", "b"],
            &["y"],
            &[("activation", A::Str("Relu"))],
        )
    }),
    ("FusedGemm", |w| {
        let b = x(&[2, 4]).floats("w", &[4, 3], &w.floats(12, 0.9)).floats("b", &[3], &w.floats(3, 0.9));
        b.node("com.microsoft::FusedGemm", &["x", "w", "b"], &["y"], &[("activation", A::Str("Relu"))])
    }),
    ("FusedMatMul", |w| {
        let b = x(&[2, 4]).floats("w", &[3, 4], &w.floats(12, 0.9));
        b.node("com.microsoft::FusedMatMul", &["x", "w"], &["y"], &[("transB", A::Int(1))])
    }),
    ("DynamicQuantizeMatMul", |w| {
        x(&[2, 4])
            .bytes8("w", INT8, &[4, 3], &w.ints(12, -127, 127))
            .floats("sw", &[3], &w.positive(3, 0.02))
            .bytes8("zw", INT8, &[3], &[0; 3])
            .floats("b", &[3], &w.floats(3, 0.9))
            .node("com.microsoft::DynamicQuantizeMatMul", &["x", "w", "sw", "zw", "b"], &["y"], &[])
    }),
    ("MatMulIntegerToFloat", |w| {
        quantised_input()
            .bytes8("w", INT8, &[4, 3], &w.ints(12, -127, 127))
            .floats("sw", &[], &[0.01])
            .bytes8("zw", INT8, &[], &[0])
            .floats("b", &[3], &w.floats(3, 0.9))
            .node(
                "com.microsoft::MatMulIntegerToFloat",
                &["q", "w", "sx", "sw", "zx", "zw", "b"],
                &["y"],
                &[],
            )
    }),
    ("QGemm", |w| {
        let bias: Vec<u8> = w.ints(3, -900, 900).iter().flat_map(|&v| (v as i32).to_le_bytes()).collect();
        quantised_output(
            quantised_input()
                .bytes8("w", INT8, &[4, 3], &w.ints(12, -127, 127))
                .floats("sw", &[], &[0.01])
                .bytes8("zw", INT8, &[], &[0])
                .raw("b", 6, &[3], &bias),
            "com.microsoft::QGemm",
            &["q", "sx", "zx", "w", "sw", "zw", "b", "sy", "zy"],
        )
    }),
    ("QLinearAdd", |w| pointwise(w, "com.microsoft::QLinearAdd")),
    ("QLinearMul", |w| pointwise(w, "com.microsoft::QLinearMul")),
    ("QLinearConcat", |w| {
        let b = quantised_input().bytes8("w", UINT8, &[2, 4], &w.ints(8, 0, 255));
        let b = b.floats("sw", &[], &[0.03]).bytes8("zw", UINT8, &[], &[128]);
        let b = b.floats("sy", &[], &[0.05]).bytes8("zy", UINT8, &[], &[110]);
        b.node(
            "com.microsoft::QLinearConcat",
            &["sy", "zy", "q", "sx", "zx", "w", "sw", "zw"],
            &["r"],
            &[("axis", A::Int(0))],
        )
        .node("DequantizeLinear", &["r", "sy", "zy"], &["y"], &[])
    }),
    ("DynamicQuantizeLSTM", |w| {
        let (hidden, width) = (2i64, 3i64);
        let n = 4 * hidden;
        x(&[2, 1, width])
            .bytes8("w", INT8, &[1, width, n], &w.ints((n * width) as usize, -127, 127))
            .bytes8("r", INT8, &[1, hidden, n], &w.ints((n * hidden) as usize, -127, 127))
            .floats("b", &[1, 2 * n], &[w.floats(n as usize, 0.4), vec![0.0; n as usize]].concat())
            .floats("sw", &[1], &[0.01])
            .bytes8("zw", INT8, &[1], &[0])
            .node(
                "com.microsoft::DynamicQuantizeLSTM",
                &["x", "w", "r", "b", "", "", "", "", "sw", "zw", "sw", "zw"],
                &["y"],
                &[("hidden_size", A::Int(hidden))],
            )
    }),
    ("SkipLayerNormalization", |w| {
        let b = x(&[1, 2, 4]).floats("skip", &[1, 2, 4], &w.floats(8, 0.9));
        let b = b.floats("g", &[4], &w.floats(4, 0.9)).floats("b", &[4], &w.floats(4, 0.9));
        b.node("com.microsoft::SkipLayerNormalization", &["x", "skip", "g", "b"], &["y"], &[])
    }),
    ("SkipSimplifiedLayerNormalization", |w| {
        let b =
            x(&[1, 2, 4]).floats("skip", &[1, 2, 4], &w.floats(8, 0.9)).floats("g", &[4], &w.floats(4, 0.9));
        b.node("com.microsoft::SkipSimplifiedLayerNormalization", &["x", "skip", "g"], &["y"], &[])
    }),
];

/// Operators that carry no weights: functions of values of the circuit, with shapes, indices, flags and single numbers beside them, which are public by
/// [`parhelion_zkml::quant::Quantised::public_numbers`] or say where elements are.
pub(crate) const WITHOUT: &[&str] = &[
    // Functions of one value.
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "QLinearLeakyRelu",
    "QLinearSigmoid",
    "QuantizeLinear",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Binarizer",
    // Flags and distances.
    "And",
    "BitShift",
    "Or",
    "Xor",
    // Where elements are.
    "Constant",
    "ConstantOfShape",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "EyeLike",
    "FeatureVectorizer",
    "Flatten",
    "NonZero",
    "Pad",
    "Range",
    "Reshape",
    "Resize",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Upsample",
    "ZipMap",
    // Functions of a row or a window of one tensor.
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "CumSum",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Hardmax",
    "LRN",
    "LogSoftmax",
    "LpNormalization",
    "LpPool",
    "MaxPool",
    "MeanVarianceNormalization",
    "Normalizer",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearSoftmax",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Softmax",
    "TopK",
    // Powers of which one side is a single number, categories, and what stands for them or for what is missing.
    "Imputer",
    "Pow",
    "OneHot",
    "OneHotEncoder",
    // Bodies, whose operators carry them.
    "If",
    "Loop",
    "Scan",
];

/// An input of a model: integers from 0 to 4, numbers below 1.
pub(crate) fn sample(model: &Model) -> Vec<TensorF> {
    let mut w = Weights(99);
    let input = |v: &parhelion_zkml::onnx::Value| {
        let n = v.shape.iter().product();
        let data = if v.dtype == DType::I64 {
            Data::I(w.ints(n, 0, 4))
        } else {
            Data::F(w.floats(n, 0.95).into_iter().map(f64::from).collect())
        };
        TensorF::new(v.shape.clone(), v.dtype, data).unwrap()
    };
    model.input_values().map(input).collect()
}
