//! Quantised models keep a model's answers whatever the magnitudes, the functions, and the factors in it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64};
use parhelion_zkml::onnx::{DType, ImportOptions, Model, TensorF, import};
use parhelion_zkml::quant::{QuantError, QuantOptions, Quantised, quantise};
use parhelion_zkml::{exec, float};

/// Numbers in [−1, 1), the same on every machine.
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
}

fn model(b: &Builder) -> Model {
    import(&b.bytes(), &ImportOptions::default()).unwrap()
}

fn tensor(shape: &[usize], data: Vec<f64>) -> TensorF {
    TensorF::float(shape.to_vec(), DType::F32, data.into_iter().map(|v| f64::from(v as f32)).collect())
        .unwrap()
}

/// `n` numbers from `lo` to `hi`.
fn spread(lo: f64, hi: f64, n: usize) -> Vec<f64> {
    (0..n).map(|i| lo + (hi - lo) * i as f64 / (n - 1) as f64).collect()
}

/// The greatest difference of an output from the float model, as a share of the output's greatest magnitude.
fn share(q: &Quantised, m: &Model, inputs: &[TensorF]) -> f64 {
    let want = float::run(m, inputs).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    let mut worst = 0f64;
    for (g, w) in q.decode_outputs(&trace).iter().zip(&want) {
        let (g, w) = (g.to_f64(), w.to_f64());
        let most = w.iter().fold(0f64, |m, v| m.max(v.abs()));
        let off = g.iter().zip(&w).fold(0f64, |m, (g, w)| m.max((g - w).abs()));
        worst = worst.max(if most > 0.0 { off / most } else { off });
    }
    worst
}

/// [`share`] of a model that was set up on the input alone, with the default options.
fn alone(b: &Builder, inputs: &[TensorF]) -> f64 {
    let m = model(b);
    let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    share(&q, &m, inputs)
}

fn check(what: &str, off: f64, limit: f64) {
    assert!(off <= limit, "{what}: off by {off:.2e} of the greatest value, more than {limit:.0e}");
}

fn unary(op: &str, n: i64) -> Builder {
    Builder::new().input("x", FLOAT, &[1, n]).node(op, &["x"], &["y"], &[]).output("y")
}

fn silu(factor: f32) -> Builder {
    Builder::new()
        .input("x", FLOAT, &[1, 257])
        .floats("c", &[], &[factor])
        .node("Mul", &["x", "c"], &["u"], &[])
        .node("Sigmoid", &["u"], &["s"], &[])
        .node("Mul", &["x", "s"], &["y"], &[])
        .output("y")
}

fn gelu() -> Builder {
    Builder::new()
        .input("x", FLOAT, &[1, 257])
        .floats("k", &[], &[std::f32::consts::SQRT_2])
        .floats("one", &[], &[1.0])
        .floats("half", &[], &[0.5])
        .node("Div", &["x", "k"], &["u"], &[])
        .node("Erf", &["u"], &["e"], &[])
        .node("Add", &["e", "one"], &["e1"], &[])
        .node("Mul", &["x", "e1"], &["xe"], &[])
        .node("Mul", &["xe", "half"], &["y"], &[])
        .output("y")
}

/// The greatest difference itself.
fn difference(b: &Builder, inputs: &[TensorF]) -> f64 {
    let m = model(b);
    let most = float::run(&m, inputs).unwrap()[0].to_f64().iter().fold(0f64, |m, v| m.max(v.abs()));
    alone(b, inputs) * most
}

#[test]
fn activations_keep_their_shape_over_wide_ranges() {
    for range in [8.0, 16.5, 33.0, 256.0] {
        let x = tensor(&[1, 257], spread(-range, range, 257));
        for (what, b) in [
            ("hard swish", unary("HardSwish", 257)),
            ("mish", unary("Mish", 257)),
            ("silu", silu(1.0)),
            ("quick gelu", silu(1.702)),
            ("gelu", gelu()),
            ("softplus", unary("Softplus", 257)),
            ("elu", unary("Elu", 257)),
            ("tanh", unary("Tanh", 257)),
            ("sigmoid", unary("Sigmoid", 257)),
        ] {
            let off = difference(&b, std::slice::from_ref(&x));
            assert!(off <= 4e-4, "{what} over ±{range} is off by {off}");
        }
    }
}

#[test]
fn functions_of_few_elements_keep_their_shape() {
    let x = tensor(&[1, 5], vec![-40.0, -1.0, -0.3, 2.0, 40.0]);
    for op in ["HardSwish", "Mish", "Softplus", "Elu", "Tanh", "Sigmoid", "Erf"] {
        let off = difference(&unary(op, 5), std::slice::from_ref(&x));
        assert!(off <= 4e-4, "{op} is off by {off}");
    }
}

#[test]
fn periods_are_taken_off() {
    for (range, limit) in [(3.0, 1e-4), (30.0, 1e-4), (100.0, 2e-4), (1000.0, 5e-4), (1e4, 1e-3)] {
        let x = tensor(&[1, 301], spread(-range, range * 0.99, 301));
        for op in ["Sin", "Cos"] {
            check(&format!("{op} over ±{range}"), alone(&unary(op, 301), std::slice::from_ref(&x)), limit);
        }
    }
    for k in 1..8 {
        let factor = std::f32::consts::PI * (1 << k) as f32;
        let b = Builder::new()
            .input("x", FLOAT, &[1, 129])
            .floats("c", &[], &[factor])
            .node("Mul", &["x", "c"], &["u"], &[])
            .node("Cos", &["u"], &["y"], &[])
            .output("y");
        let x = tensor(&[1, 129], spread(-1.0, 1.0, 129));
        check(&format!("cos(2^{k}·πx)"), alone(&b, &[x]), 5e-3);
    }
}

#[test]
fn steep_functions_are_near_everywhere() {
    for (op, lo, hi, limit) in [
        ("Cosh", -10.0, 10.0, 1e-3),
        ("Sinh", -10.0, 10.0, 1e-3),
        ("Exp", -30.0, 30.0, 1e-3),
        ("Exp", -700.0, 5.0, 1e-3),
        ("Exp", -3.0, 14.0, 1e-3),
        ("Tan", -1.5, 1.5, 2e-3),
        ("Log", 1e-6, 10.0, 2e-3),
        ("Log", 1e-3, 1e6, 1e-3),
        ("Log", 1e-7, 1e-5, 1e-3),
        ("Reciprocal", 1e-5, 1e-2, 2e-3),
        ("Reciprocal", 1e4, 1e7, 2e-3),
        ("Sqrt", 1e-8, 1e-5, 2e-3),
        ("Sqrt", 0.0, 1e9, 1e-3),
    ] {
        let x = if lo > 0.0 {
            let (a, b): (f64, f64) = (f64::ln(lo), f64::ln(hi));
            spread(a, b, 61).into_iter().map(f64::exp).collect()
        } else {
            spread(lo, hi, 61)
        };
        check(&format!("{op} over [{lo}, {hi}]"), alone(&unary(op, 61), &[tensor(&[1, 61], x)]), limit);
    }
    let x = vec![0.0, 0.1, -0.1, 10.0, -10.0];
    let off = difference(&unary("Cosh", 5), &[tensor(&[1, 5], x)]);
    assert!(off < 10.0, "cosh(0) beside cosh(10) is off by {off}");
}

#[test]
fn chains_of_factors_keep_their_bits() {
    let x = || tensor(&[1, 3], vec![1.0, -2.0, 0.7]);
    for count in [3, 5, 8, 16, 40] {
        for factor in [1.1f32, 0.9, 0.013, 3.7, 1e-3] {
            let mut b = Builder::new().input("x", FLOAT, &[1, 3]).floats("c", &[], &[factor]);
            let mut last = "x".to_owned();
            for i in 0..count {
                let next = format!("p{i}");
                let op = if i % 3 == 2 && factor > 0.5 { "Div" } else { "Mul" };
                b = b.node(op, &[&last, "c"], &[&next], &[]);
                last = next;
            }
            // Single precision has no smaller numbers.
            if f64::from(factor).powi(count) > 1e-30 {
                check(&format!("{count} factors of {factor}"), alone(&b.output(&last), &[x()]), 1e-3);
            }
        }
    }
}

#[test]
fn any_mix_of_factors_keeps_its_bits() {
    let mut n = Numbers(0x5eed);
    for case in 0..24 {
        let mut b = Builder::new().input("x", FLOAT, &[1, 4, 3, 3]);
        let mut last = "x".to_owned();
        for i in 0..3 + case % 9 {
            let (next, c) = (format!("p{i}"), format!("c{i}"));
            let factor = (0.8 + 0.5 * n.next().abs()) as f32;
            b = b.floats(&c, &[], &[factor]);
            b = match (n.next() * 4.0 + 4.0) as usize {
                0 | 1 => b.node("Mul", &[&last, &c], &[&next], &[]),
                2 => b.node("Div", &[&last, &c], &[&next], &[]),
                3 => b.node("Mean", &[&last, &last, "x"], &[&next], &[]),
                4 => b.node("LeakyRelu", &[&last], &[&next], &[("alpha", A::Float(factor * 0.1))]),
                5 => {
                    let (u, w) = (format!("u{i}"), format!("w{i}"));
                    b.node("Mul", &[&last, &c], &[&u], &[]).node("Mul", &["x", &c], &[&w], &[]).node(
                        "Add",
                        &[&u, &w],
                        &[&next],
                        &[],
                    )
                }
                6 => {
                    let u = format!("u{i}");
                    b.node("HardSigmoid", &[&last], &[&u], &[]).node("Mul", &[&u, &last], &[&next], &[])
                }
                _ => {
                    let u = format!("u{i}");
                    b.node("GlobalAveragePool", &[&last], &[&u], &[]).node("Add", &[&u, &last], &[&next], &[])
                }
            };
            last = next;
        }
        let x = tensor(&[1, 4, 3, 3], n.list(36, 2.0).into_iter().map(f64::from).collect());
        check(&format!("mix {case}"), alone(&b.output(&last), &[x]), 2e-3);
    }
}

/// Models in which magnitudes matter, over an input of 4 × 16.
fn layers() -> Vec<(&'static str, Builder)> {
    let mut n = Numbers(31);
    let start = || Builder::new().input("x", FLOAT, &[4, 16]);
    let reduce = |op: &str| {
        start().node(op, &["x"], &["y"], &[("axes", A::Ints(&[1])), ("keepdims", A::Int(1))]).output("y")
    };
    let w = n.list(16 * 8, 0.4);
    vec![
        (
            "LayerNormalization",
            start()
                .floats("g", &[16], &n.list(16, 1.0))
                .floats("b", &[16], &n.list(16, 1.0))
                .node("LayerNormalization", &["x", "g", "b"], &["y"], &[("epsilon", A::Float(1e-20))])
                .output("y"),
        ),
        ("ReduceL2", reduce("ReduceL2")),
        ("ReduceL1", reduce("ReduceL1")),
        ("ReduceSumSquare", reduce("ReduceSumSquare")),
        ("ReduceMean", reduce("ReduceMean")),
        (
            "two products",
            start()
                .floats("w", &[16, 8], &w)
                .floats("v", &[8, 16], &w)
                .node("MatMul", &["x", "w"], &["a"], &[])
                .node("Relu", &["a"], &["r"], &[])
                .node("MatMul", &["r", "v"], &["y"], &[])
                .output("y"),
        ),
        (
            "variance",
            reduce("ReduceMean")
                .node("Sub", &["x", "y"], &["d"], &[])
                .node("Mul", &["d", "d"], &["s"], &[])
                .node("ReduceMean", &["s"], &["v"], &[("axes", A::Ints(&[1])), ("keepdims", A::Int(1))])
                .node("Sqrt", &["v"], &["sd"], &[])
                .node("Div", &["d", "sd"], &["z"], &[])
                .output("z"),
        ),
        ("l2 normalisation", reduce("ReduceL2").node("Div", &["x", "y"], &["z"], &[]).output("z")),
        (
            "softmax",
            start()
                .floats("c", &[], &[0.3])
                .node("Mul", &["x", "c"], &["u"], &[])
                .node("Softmax", &["u"], &["y"], &[])
                .output("y"),
        ),
    ]
}

#[test]
fn magnitudes_decide_scales() {
    for magnitude in [1e-7, 1e-5, 1e-4, 1e-2, 1.0, 100.0, 1e4, 1e5, 1e7, 1e10] {
        let mut n = Numbers(77);
        let x: Vec<f64> = (0..64).map(|_| n.next() * magnitude).collect();
        for (what, b) in layers() {
            if what == "softmax" && magnitude > 1e6 {
                continue;
            }
            let off = alone(&b, &[tensor(&[4, 16], x.clone())]);
            check(&format!("{what} of numbers near {magnitude}"), off, 3e-3);
        }
    }
}

#[test]
fn constants_of_any_size_are_themselves() {
    let x = || tensor(&[1, 3], vec![1.5, -0.75, 0.25]);
    for c in [1e-12f32, 3e-6, 1.6e9, 1e20, -2.5e12, 65_537.0] {
        let start = || Builder::new().input("x", FLOAT, &[1, 3]).floats("c", &[1, 1], &[c]);
        for op in ["Mul", "Add", "Sub", "Div"] {
            check(
                &format!("{op} {c}"),
                alone(&start().node(op, &["x", "c"], &["y"], &[]).output("y"), &[x()]),
                1e-3,
            );
        }
        let w = start().floats("w", &[3, 2], &[c, 2.0 * c, c, -c, 0.5 * c, c]);
        check(
            &format!("weights of {c}"),
            alone(&w.node("MatMul", &["x", "w"], &["y"], &[]).output("y"), &[x()]),
            1e-3,
        );
    }
}

#[test]
fn infinite_weights_are_refused_by_name() {
    let b = Builder::new()
        .input("x", FLOAT, &[1, 2])
        .floats("kernel", &[2, 2], &[1.0, f32::INFINITY, 0.5, 2.0])
        .node("MatMul", &["x", "kernel"], &["a"], &[])
        .node("Sigmoid", &["a"], &["y"], &[])
        .output("y");
    let m = model(&b);
    let x = tensor(&[1, 2], vec![1.0, 2.0]);
    let error = quantise(&m, &[vec![x]], &QuantOptions::default()).unwrap_err();
    assert!(matches!(&error, QuantError::Layer { layer, .. } if layer == "kernel"), "{error}");
}

#[test]
fn masks_are_masks_whatever_they_hide() {
    for filler in [f32::NEG_INFINITY, -1e9, f32::MIN, -65_504.0] {
        for magnitude in [1.0, 1e3, 1e5, 1e7] {
            let x = tensor(&[1, 4], vec![-2.0 * magnitude, -magnitude, 0.5 * magnitude, -1.5 * magnitude]);
            if f64::from(filler).abs() < 4.0 * magnitude {
                continue;
            }
            let b = Builder::new()
                .input("x", FLOAT, &[1, 4])
                .floats("mask", &[1, 4], &[0.0, 0.0, filler, 0.0])
                .node("Add", &["x", "mask"], &["s"], &[])
                .node("ArgMax", &["s"], &["i"], &[("axis", A::Int(1))])
                .node("Softmax", &["s"], &["p"], &[("axis", A::Int(1))])
                .output("i")
                .output("p");
            let off = alone(&b, &[x]);
            check(&format!("a mask of {filler} over numbers near {magnitude}"), off, 1e-3);
        }
    }
}

#[test]
fn one_outlier_costs_nothing() {
    let mut n = Numbers(5);
    for outlier in [8.0, 55.0, 400.0, 3000.0] {
        let mut w = n.list(32 * 32, 0.1);
        w[37] = outlier;
        let b = Builder::new()
            .input("x", FLOAT, &[1, 32])
            .floats("w", &[32, 32], &w)
            .node("MatMul", &["x", "w"], &["y"], &[])
            .output("y");
        let m = model(&b);
        let x = tensor(&[1, 32], n.list(32, 2.0).into_iter().map(f64::from).collect());
        let q = quantise(&m, &[vec![x.clone()]], &QuantOptions::default()).unwrap();
        let want = float::run(&m, std::slice::from_ref(&x)).unwrap()[0].to_f64();
        let trace = exec::run(&q.program, &q.encode_inputs(&[x]).unwrap()).unwrap();
        let got = q.decode_outputs(&trace)[0].to_f64();
        // Column 5 has the outlier; the others are as precise as without it.
        let off = (0..32).filter(|c| *c != 5).fold(0f64, |m, c| m.max((got[c] - want[c]).abs()));
        assert!(off <= 3e-3, "beside {outlier}: off by {off}");
    }
}

#[test]
fn small_powers_reach_their_logarithm() {
    let mut n = Numbers(9);
    for magnitude in [1.0, 0.02, 1e-3] {
        let b = Builder::new()
            .input("x", FLOAT, &[1, 1, 64])
            .floats("w", &[8, 1, 16], &n.list(128, 0.5))
            .floats("floor", &[], &[1e-6])
            .node("Conv", &["x", "w"], &["a"], &[("strides", A::Ints(&[8]))])
            .node("Mul", &["a", "a"], &["p"], &[])
            .node("Clip", &["p", "floor"], &["c"], &[])
            .node("Log", &["c"], &["y"], &[])
            .output("y");
        let x = tensor(&[1, 1, 64], n.list(64, magnitude).into_iter().map(f64::from).collect());
        check(&format!("log-power of numbers near {magnitude}"), alone(&b, &[x]), 5e-3);
    }
}

#[test]
fn gates_take_more_than_calibration_saw() {
    let mut n = Numbers(21);
    let w = n.list(4 * 32 * 6, 0.9);
    let r = n.list(4 * 32 * 32, 0.12);
    let b = Builder::new()
        .input("x", FLOAT, &[5, 1, 6])
        .floats("w", &[1, 128, 6], &w)
        .floats("r", &[1, 128, 32], &r)
        .node("LSTM", &["x", "w", "r"], &["y", "h"], &[("hidden_size", A::Int(32))])
        .output("h");
    let m = model(&b);
    let sample =
        |n: &mut Numbers, m: f64| tensor(&[5, 1, 6], n.list(30, m).into_iter().map(f64::from).collect());
    let q = quantise(&m, &[vec![sample(&mut n, 0.4)]], &QuantOptions::default()).unwrap();
    for magnitude in [0.0, 0.1, 0.4, 0.9] {
        let x = sample(&mut n, magnitude);
        check(&format!("a sequence near {magnitude}"), share(&q, &m, &[x]), 5e-3);
    }
}

#[test]
fn identifiers_are_exact() {
    let b = Builder::new()
        .input("x", INT64, &[1, 2])
        .ints("c", &[1_600_000_000])
        .node("Add", &["x", "c"], &["y"], &[])
        .output("y");
    let m = model(&b);
    let x = TensorF::int(vec![1, 2], DType::I64, vec![1, 7]).unwrap();
    let q = quantise(&m, &[vec![x.clone()]], &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(&[x]).unwrap()).unwrap();
    assert_eq!(q.decode_outputs(&trace)[0].to_i64(), [1_600_000_001, 1_600_000_007]);
}
