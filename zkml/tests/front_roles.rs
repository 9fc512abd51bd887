//! What the verifier's files are functions of: other weights within the same ranges give the same bytes.
//!
//! Each case is a model with one operator that carries weights. It is built twice with different weights; the ranges of the first serve both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT8, INT64, UINT8};
use parhelion_zkml::machine::{PlanOptions, Visibility, plan};
use parhelion_zkml::onnx::{DType, Data, ImportOptions, Model, TensorF, import};
use parhelion_zkml::qir::{Program, Role};
use parhelion_zkml::quant::{QuantOptions, Quantised, Quantiser, quantise};

/// Numbers that look random, of which the first is the greatest, so that ranges are the same for every seed.
struct Weights(u64);

impl Weights {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Magnitudes between 0.65 and 1 times the greatest, so that parts of a tensor have the same ranges too.
    fn floats(&mut self, n: usize, top: f32) -> Vec<f32> {
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

    fn ints(&mut self, n: usize, lo: i64, hi: i64) -> Vec<i64> {
        let span = (hi - lo + 1) as u64;
        (0..n).map(|i| if i == 0 { hi } else { lo + (self.next() % span) as i64 }).collect()
    }
}

type Make = fn(&mut Weights) -> Builder;

fn x(dims: &[i64]) -> Builder {
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

const CASES: &[(&str, Make)] = &[
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
];

fn sample(model: &Model) -> Vec<TensorF> {
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

/// What the verifier gets of a circuit.
fn bytes(program: &Program) -> Vec<u8> {
    let plan = plan(program, &Visibility::default(), &PlanOptions::default()).unwrap();
    let mut program = plan.program().clone();
    program.tensors.iter_mut().filter(|t| t.role == Role::Param).for_each(|t| t.data = None);
    postcard::to_stdvec(&(program, plan.report().choice)).unwrap()
}

fn read(b: &Builder) -> Model {
    import(&b.bytes(), &ImportOptions::default()).unwrap()
}

fn pair(make: Make) -> [Quantised; 2] {
    let options = QuantOptions::default();
    let first = read(&make(&mut Weights(1)));
    let quantiser = Quantiser::new(&first, &[sample(&first)]).unwrap();
    let second = Quantiser::with_ranges(&read(&make(&mut Weights(2))), &quantiser.ranges()).unwrap();
    [quantiser.quantise(&options).unwrap(), second.quantise(&options).unwrap()]
}

#[test]
fn other_weights_within_the_same_ranges_give_the_same_circuit() {
    let mut leaking = Vec::new();
    for (name, make) in CASES {
        let [a, b] = pair(*make);
        let params = |q: &Quantised| {
            let all = q.program.tensors.iter().filter(|t| t.role == Role::Param);
            all.map(|t| (t.name.clone(), t.data.clone())).collect::<Vec<_>>()
        };
        assert_ne!(params(&a), params(&b), "{name}: the weights are the same, or no parameters");
        for t in a.program.tensors.iter().filter(|t| t.role == Role::Param) {
            let power = |v: i64| v == 0 || v.unsigned_abs().is_power_of_two();
            assert!(power(t.lo) && power(t.hi + 1), "{name}: `{}` is in [{}, {}]", t.name, t.lo, t.hi);
        }
        if bytes(&a.program) != bytes(&b.program) {
            let tensors = a.program.tensors.iter().zip(&b.program.tensors).find(|(s, t)| {
                (s.lo, s.hi, s.scale, &s.shape) != (t.lo, t.hi, t.scale, &t.shape)
                    || (s.role != Role::Param && s.data != t.data)
            });
            let ops = a.program.ops.iter().zip(&b.program.ops).find(|(s, t)| s != t);
            leaking.push(format!("{name}: {:?} {ops:?}", tensors.map(|(s, t)| (&s.name, &t.name))));
        }
    }
    assert!(leaking.is_empty(), "{}", leaking.join("\n"));
}

#[test]
fn numbers_that_cannot_be_hidden_are_listed() {
    let b = x(&[2, 4])
        .floats("factor", &[], &[0.37])
        .floats("step", &[1], &[1.25])
        .floats("w", &[4, 2], &[0.1, 0.2, 0.3, 0.4, -0.1, -0.2, -0.3, -0.4])
        .floats("b", &[1], &[0.5])
        .node("Mul", &["x", "factor"], &["a"], &[])
        .node("MatMul", &["a", "w"], &["m"], &[])
        .node("Add", &["m", "b"], &["n"], &[])
        .node("Sub", &["n", "step"], &["c"], &[])
        .node("Relu", &["c"], &["y"], &[]);
    let q = quantise(&read(&b), &[], &QuantOptions::default()).unwrap();
    let names: Vec<&str> = q.public_numbers.iter().map(|p| p.name.as_str()).collect();
    assert!(names.contains(&"factor") && !names.contains(&"w") && !names.contains(&"b"), "{names:?}");
}
