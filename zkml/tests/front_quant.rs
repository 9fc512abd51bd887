//! Small models of every kind of layer: the integer executor against the float one, on inputs that calibration did not see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT};
use parhelion_zkml::onnx::{DType, Data, ImportOptions, Model, TensorF, import};
use parhelion_zkml::qir::{OpKind, Term};
use parhelion_zkml::quant::{QuantOptions, Quantised, quantise};
use parhelion_zkml::{exec, float};

/// A sequence of numbers in [−1, 1], the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn list(&mut self, n: usize, scale: f64) -> Vec<f32> {
        (0..n).map(|_| (self.next() * scale) as f32).collect()
    }

    fn inputs(&mut self, m: &Model) -> Vec<TensorF> {
        m.input_values()
            .map(|v| {
                let n = v.shape.iter().product();
                TensorF::float(
                    v.shape.clone(),
                    DType::F32,
                    self.list(n, 1.0).into_iter().map(f64::from).collect(),
                )
                .unwrap()
            })
            .collect()
    }
}

/// Quantises on eight samples and compares on sixteen others; the result is the quantised model.
fn near(b: &Builder, tolerance: f64) -> Quantised {
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let samples: Vec<_> = (0..8).map(|_| numbers.inputs(&m)).collect();
    let q = quantise(&m, &samples, &QuantOptions::default()).unwrap();
    for _ in 0..16 {
        let x = numbers.inputs(&m);
        let want = float::run(&m, &x).unwrap();
        let trace = exec::run(&q.program, &q.encode_inputs(&x).unwrap()).unwrap();
        for (g, w) in q.decode_outputs(&trace).iter().zip(&want) {
            assert_eq!(g.shape, w.shape);
            for (g, w) in g.to_f64().iter().zip(w.to_f64()) {
                assert!((g - w).abs() <= tolerance, "{g} instead of {w}");
            }
        }
    }
    q
}

fn count(q: &Quantised, kind: impl Fn(&OpKind) -> bool) -> usize {
    q.program.ops.iter().filter(|o| kind(&o.kind)).count()
}

fn linears(q: &Quantised) -> usize {
    count(q, |k| matches!(k, OpKind::Linear { .. }))
}

#[test]
fn a_layer_is_one_operation() {
    let mut n = Numbers(7);
    let b = Builder::new()
        .input("x", FLOAT, &[1, 6])
        .floats("w", &[6, 5], &n.list(30, 0.7))
        .floats("b", &[5], &n.list(5, 0.3))
        .floats("r", &[1, 5], &n.list(5, 0.3))
        .node("MatMul", &["x", "w"], &["a"], &[])
        .node("Add", &["a", "b"], &["c"], &[])
        .node("Add", &["c", "r"], &["d"], &[])
        .node("Relu", &["d"], &["y"], &[])
        .output("y");
    let q = near(&b, 1e-4);
    assert_eq!(q.program.ops.len(), 1);
}

#[test]
fn normalisation_moves_into_the_convolution() {
    let mut n = Numbers(11);
    let b = Builder::new()
        .input("x", FLOAT, &[1, 2, 6, 6])
        .floats("w", &[4, 1, 3, 3], &n.list(36, 0.4))
        .floats("s", &[4], &[0.5, 1.5, -0.75, 2.0])
        .floats("t", &[4], &n.list(4, 0.5))
        .floats("m", &[4], &n.list(4, 0.2))
        .floats("v", &[4], &[0.5, 1.0, 0.25, 2.0])
        .node(
            "Conv",
            &["x", "w"],
            &["a"],
            &[("group", A::Int(2)), ("pads", A::Ints(&[1; 4])), ("strides", A::Ints(&[2, 2]))],
        )
        .node("BatchNormalization", &["a", "s", "t", "m", "v"], &["c"], &[])
        .node("Relu", &["c"], &["d"], &[])
        .node(
            "MaxPool",
            &["d"],
            &["e"],
            &[
                ("kernel_shape", A::Ints(&[2, 2])),
                ("pads", A::Ints(&[0, 0, 1, 1])),
                ("strides", A::Ints(&[2, 2])),
            ],
        )
        .node("AveragePool", &["d"], &["f"], &[("kernel_shape", A::Ints(&[3, 3]))])
        .node("GlobalAveragePool", &["d"], &["g"], &[])
        .output("e")
        .output("f")
        .output("g");
    let q = near(&b, 1.5e-4);
    let convs =
        |k: &OpKind| matches!(k, OpKind::Linear { terms, .. } if matches!(terms[0], Term::Conv { .. }));
    assert_eq!(count(&q, convs), 1);
    // Convolution and two averages: nothing of the normalisation is left.
    assert_eq!(linears(&q), 3);
}

#[test]
fn transposed_convolutions() {
    let mut n = Numbers(13);
    let b = Builder::new()
        .input("x", FLOAT, &[1, 2, 4, 3])
        .floats("w", &[2, 3, 3, 2], &n.list(36, 0.4))
        .floats("b", &[3], &n.list(3, 0.4))
        .node(
            "ConvTranspose",
            &["x", "w", "b"],
            &["y"],
            &[
                ("strides", A::Ints(&[2, 3])),
                ("pads", A::Ints(&[1, 0, 0, 1])),
                ("output_padding", A::Ints(&[1, 0])),
            ],
        )
        .output("y");
    near(&b, 1e-4);
}

#[test]
fn functions_become_one_table_each() {
    // x·sigmoid(x), and the tanh approximation of GELU written out.
    let b = Builder::new()
        .input("x", FLOAT, &[1, 9])
        .floats("c", &[], &[0.044_715])
        .floats("k", &[], &[0.797_884_6])
        .floats("half", &[], &[0.5])
        .floats("one", &[], &[1.0])
        .floats("three", &[], &[3.0])
        .node("Sigmoid", &["x"], &["s"], &[])
        .node("Mul", &["x", "s"], &["silu"], &[])
        .node("Pow", &["x", "three"], &["x3"], &[])
        .node("Mul", &["x3", "c"], &["cx3"], &[])
        .node("Add", &["x", "cx3"], &["u"], &[])
        .node("Mul", &["u", "k"], &["ku"], &[])
        .node("Tanh", &["ku"], &["t"], &[])
        .node("Add", &["t", "one"], &["t1"], &[])
        .node("Mul", &["x", "t1"], &["xt"], &[])
        .node("Mul", &["xt", "half"], &["gelu"], &[])
        .output("silu")
        .output("gelu");
    let q = near(&b, 5e-5);
    assert_eq!(q.program.ops.len(), 2);
    for (op, tolerance) in [
        ("Tanh", 5e-5),
        ("Erf", 5e-5),
        ("Exp", 2e-4),
        ("Softplus", 5e-5),
        ("Mish", 5e-5),
        ("Sin", 5e-5),
        ("Selu", 8e-5),
    ] {
        let b = Builder::new().input("x", FLOAT, &[1, 9]).node(op, &["x"], &["y"], &[]).output("y");
        near(&b, tolerance);
    }
}

#[test]
fn piecewise_linear_functions_are_exact_to_a_unit() {
    for (op, attrs) in [
        ("LeakyRelu", vec![("alpha", A::Float(0.1))]),
        ("Abs", vec![]),
        ("HardSigmoid", vec![]),
        ("Clip", vec![("min", A::Float(-0.3)), ("max", A::Float(0.4))]),
        ("Neg", vec![]),
        ("Sign", vec![]),
        ("Softsign", vec![]),
    ] {
        let mut b = Builder::new().input("x", FLOAT, &[1, 9]).node(op, &["x"], &["y"], &attrs).output("y");
        if op == "Clip" {
            b.opset = 6;
        }
        near(&b, 4e-5);
    }
}

#[test]
fn attention_with_a_mask() {
    let mut n = Numbers(17);
    let mask: Vec<f32> = (0..16).map(|i| if i % 4 > i / 4 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let b = Builder::new()
        .input("x", FLOAT, &[4, 6])
        .floats("wq", &[6, 6], &n.list(36, 0.8))
        .floats("wk", &[6, 6], &n.list(36, 0.8))
        .floats("mask", &[4, 4], &mask)
        .floats("scale", &[], &[2.449_49])
        .floats("gamma", &[6], &n.list(6, 1.0))
        .floats("beta", &[6], &n.list(6, 1.0))
        .node("LayerNormalization", &["x", "gamma", "beta"], &["ln"], &[])
        .node("MatMul", &["ln", "wq"], &["q"], &[])
        .node("MatMul", &["ln", "wk"], &["k"], &[])
        .node("Transpose", &["k"], &["kt"], &[("perm", A::Ints(&[1, 0]))])
        .node("MatMul", &["q", "kt"], &["s"], &[])
        .node("Div", &["s", "scale"], &["d"], &[])
        .node("Add", &["d", "mask"], &["m"], &[])
        .node("Softmax", &["m"], &["p"], &[("axis", A::Int(-1))])
        .node("MatMul", &["p", "x"], &["y"], &[])
        .output("y");
    near(&b, 2e-3);
}

#[test]
fn recurrent_layers_share_their_weights() {
    let mut n = Numbers(19);
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let (hidden, inputs) = (3usize, 2usize);
        let b = Builder::new()
            .input("x", FLOAT, &[5, 1, 2])
            .floats("w", &[1, (gates * hidden) as i64, 2], &n.list(gates * hidden * inputs, 0.6))
            .floats("r", &[1, (gates * hidden) as i64, 3], &n.list(gates * hidden * hidden, 0.6))
            .floats("b", &[1, (2 * gates * hidden) as i64], &n.list(2 * gates * hidden, 0.3))
            .node(op, &["x", "w", "r", "b"], &["y", "h"], &[("hidden_size", A::Int(3))])
            .output("y")
            .output("h");
        let q = near(&b, 2e-4);
        let weights: usize = q
            .program
            .tensors
            .iter()
            .filter(|t| t.role == parhelion_zkml::qir::Role::Param)
            .map(|t| t.len())
            .sum();
        // Input and state biases may be added up; nothing is there once per step.
        assert!(weights <= gates * hidden * (inputs + hidden + 2), "{op}: {weights}");
    }
}

#[test]
fn selections_and_orders_are_exact() {
    let b = Builder::new()
        .input("x", FLOAT, &[2, 6])
        .ints("k", &[3])
        .node("TopK", &["x", "k"], &["v", "i"], &[])
        .node("ArgMax", &["x"], &["a"], &[("axis", A::Int(1))])
        .node("ReduceMin", &["x"], &["m"], &[("keepdims", A::Int(0))])
        .node("GatherElements", &["x", "i"], &["g"], &[("axis", A::Int(1))])
        .output("v")
        .output("i")
        .output("a")
        .output("m")
        .output("g");
    // Half a unit of the input; the places are equal, as no two inputs are that near.
    near(&b, 1e-5);
}

#[test]
fn precision_follows_the_options() {
    let mut n = Numbers(23);
    let b = Builder::new()
        .input("x", FLOAT, &[1, 8])
        .floats("w", &[8, 8], &n.list(64, 0.5))
        .node("MatMul", &["x", "w"], &["a"], &[])
        .node("Tanh", &["a"], &["t"], &[])
        .node("MatMul", &["t", "w"], &["y"], &[])
        .output("y");
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let x = n.inputs(&m);
    let want = float::run(&m, &x).unwrap()[0].to_f64();
    let error = |bits: u32| {
        let o = QuantOptions {
            activation_bits: bits,
            input_bits: bits,
            weight_bits: bits + 2,
            ..Default::default()
        };
        let q = quantise(&m, std::slice::from_ref(&x), &o).unwrap();
        let trace = exec::run(&q.program, &q.encode_inputs(&x).unwrap()).unwrap();
        let got = q.decode_outputs(&trace)[0].to_f64();
        got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max)
    };
    let (coarse, fine) = (error(8), error(16));
    assert!(fine < 1e-4 && fine * 16.0 < coarse, "{fine:e} and {coarse:e}");
}

/// A function far past where it is straight keeps its middle; a quotient by values of both signs has no pole to approximate.
#[test]
fn wide_ranges_and_poles_have_a_form() {
    let x = [-262_000.0, -3.5, -1.0, -0.25, 0.0, 0.75, 2.0, 71_356.0];
    let inputs = [TensorF::new(vec![8], DType::F32, Data::F(x.to_vec())).unwrap()];
    for op in ["Softplus", "Elu", "Celu", "Erf"] {
        let b = Builder::new().input("x", FLOAT, &[8]).node(op, &["x"], &["y"], &[]).output("y");
        let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
        let want = float::run(&m, &inputs).unwrap()[0].to_f64();
        let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
        let trace = exec::run(&q.program, &q.encode_inputs(&inputs).unwrap()).unwrap();
        for (g, w) in q.decode_outputs(&trace)[0].to_f64().iter().zip(want) {
            assert!((g - w).abs() <= 1e-2 + w.abs() * 1e-4, "{op}: {g} instead of {w}");
        }
    }
    let inputs = [TensorF::new(vec![4], DType::F32, Data::F(vec![-3.0, -0.5, 0.25, 40.0])).unwrap()];
    let b = Builder::new()
        .input("x", FLOAT, &[4])
        .floats("c", &[], &[7.0])
        .node("Div", &["c", "x"], &["a"], &[])
        .node("Reciprocal", &["x"], &["b"], &[])
        .node("Add", &["a", "b"], &["y"], &[])
        .output("y");
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(&inputs).unwrap()).unwrap();
    for (g, w) in q.decode_outputs(&trace)[0].to_f64().iter().zip([-8.0 / 3.0, -16.0, 32.0, 0.2]) {
        assert!((g - w).abs() <= 1e-3, "{g} instead of {w}");
    }
}
