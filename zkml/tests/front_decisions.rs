//! Comparisons, roundings and trees at the numbers where they change: every answer is ONNX Runtime's, in single precision.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64};
use parhelion_zkml::machine::{self, PlanOptions, Visibility};
use parhelion_zkml::onnx::{DType, Data, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float};

/// The output in integers, and by the float model, for one input.
fn answers(b: &Builder, inputs: &[TensorF]) -> (Vec<f64>, Vec<f64>) {
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    let trace = exec::run_checked(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    let float = float::run(&m, inputs).unwrap();
    (q.decode_outputs(&trace)[0].to_f64(), float[0].to_f64())
}

fn floats(v: &[f32]) -> TensorF {
    TensorF::float(vec![v.len()], DType::F32, v.iter().map(|&v| v.into()).collect()).unwrap()
}

fn ints(v: &[i64]) -> TensorF {
    TensorF { shape: vec![v.len()], dtype: DType::I64, data: Data::I(v.to_vec()) }
}

fn same(b: &Builder, inputs: &[TensorF], want: &[f64]) {
    let (integers, float) = answers(b, inputs);
    assert_eq!(float, want, "the float model");
    assert_eq!(integers, want, "the integers");
}

fn decimals() -> Vec<f32> {
    (-20..40).map(|i| format!("{}", f64::from(i) / 10.0).parse().unwrap()).collect()
}

/// `x op k`, as a real number.
fn comparison(op: &str, x: &[f32], k: &[f32], constant_first: bool) -> Builder {
    let n = x.len() as i64;
    let operands = if constant_first { ["k", "x"] } else { ["x", "k"] };
    Builder::new()
        .input("x", FLOAT, &[n])
        .floats("k", &[k.len() as i64], k)
        .node(op, &operands, &["b"], &[])
        .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
        .output("y")
}

fn holds(op: &str, a: f32, b: f32) -> f64 {
    f64::from(u8::from(match op {
        "Less" => a < b,
        "LessOrEqual" => a <= b,
        "Greater" => a > b,
        "GreaterOrEqual" => a >= b,
        _ => a == b,
    }))
}

const COMPARISONS: [&str; 5] = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"];

#[test]
fn a_decimal_equals_itself_and_its_neighbours_do_not() {
    let k = decimals();
    let above: Vec<f32> = k.iter().map(|v| v.next_up()).collect();
    let below: Vec<f32> = k.iter().map(|v| v.next_down()).collect();
    for op in COMPARISONS {
        for x in [&k, &above, &below] {
            for first in [false, true] {
                let pairs = x.iter().zip(&k);
                let want: Vec<f64> =
                    pairs.map(|(&x, &k)| if first { holds(op, k, x) } else { holds(op, x, k) }).collect();
                same(&comparison(op, x, &k, first), &[floats(x)], &want);
            }
        }
        let want: Vec<f64> = k.iter().map(|&x| holds(op, x, 0.7)).collect();
        same(&comparison(op, &k, &[0.7], false), &[floats(&k)], &want);
    }
}

#[test]
fn the_circuit_decides_alike() {
    for (op, c) in [("Floor", 10.0), ("Ceil", 100.0), ("Round", 5.0)] {
        proven(&rounding(op, 60, c), &[floats(&decimals())]);
    }
    for op in COMPARISONS {
        proven(&comparison(op, &decimals(), &decimals(), false), &[floats(&decimals())]);
    }
}

/// Checks every constraint of the circuit.
fn proven(b: &Builder, inputs: &[TensorF]) {
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    let trace = exec::run_checked(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    let plan = machine::plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
    machine::mock(&plan, &trace.values).unwrap();
}

#[test]
fn thresholds_finer_than_the_scale_are_told_apart() {
    let x = [0.5, 0.500_001, 0.500_000_5, 0.500_002];
    let k = [0.500_001, 0.500_001, 0.500_001, 0.500_001_5];
    let tiny = [0.0, 1e-7, 1e-6, 2e-6, -1e-7, 1.0];
    // Two thresholds within one unit of the scale of inputs, for one element.
    let close = |op: &str| {
        Builder::new()
            .input("x", FLOAT, &[4])
            .floats("k", &[2, 1], &[0.500_001, 0.500_002])
            .node(op, &["x", "k"], &["b"], &[])
            .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
            .output("y")
    };
    for op in COMPARISONS {
        let want: Vec<f64> = x.iter().zip(&k).map(|(&x, &k)| holds(op, x, k)).collect();
        same(&comparison(op, &x, &k, false), &[floats(&x)], &want);
        let want: Vec<f64> = tiny.iter().map(|&x| holds(op, x, 1e-6)).collect();
        same(&comparison(op, &tiny, &[1e-6], false), &[floats(&tiny)], &want);
        let between = [0.5, 0.500_001, 0.500_001_5, 0.500_002];
        let of = |k: f32| between.map(|x| holds(op, x, k));
        let want = [of(0.500_001), of(0.500_002)].concat();
        same(&close(op), &[floats(&between)], &want);
    }
}

#[test]
fn thresholds_past_every_value_decide_all() {
    let x = [1.0, 3.0, -5.0];
    for op in COMPARISONS {
        for k in [1e20, -1e20, 3e38, f32::INFINITY, f32::NEG_INFINITY, 1e9, -70000.0] {
            let want: Vec<f64> = x.iter().map(|&x| holds(op, x, k)).collect();
            same(&comparison(op, &x, &[k], false), &[floats(&x)], &want);
        }
    }
}

#[test]
fn inputs_are_compared_with_each_other() {
    let x = decimals();
    let mut z = x.clone();
    z.rotate_left(1);
    for op in COMPARISONS {
        for z in [&z, &x] {
            let b = Builder::new()
                .input("x", FLOAT, &[x.len() as i64])
                .input("z", FLOAT, &[x.len() as i64])
                .node(op, &["x", "z"], &["b"], &[])
                .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
                .output("y");
            let want: Vec<f64> = x.iter().zip(z).map(|(&x, &z)| holds(op, x, z)).collect();
            same(&b, &[floats(&x), floats(z)], &want);
        }
    }
}

#[test]
fn computed_values_meet_their_thresholds() {
    let x: Vec<f32> = (-20i16..40).map(f32::from).collect();
    let k: Vec<f32> = x.iter().map(|x| x * 0.1).collect();
    for op in COMPARISONS {
        let b = Builder::new()
            .input("x", FLOAT, &[x.len() as i64])
            .floats("c", &[], &[0.1])
            .floats("k", &[k.len() as i64], &k)
            .node("Mul", &["x", "c"], &["p"], &[])
            .node(op, &["p", "k"], &["b"], &[])
            .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
            .output("y");
        let want: Vec<f64> = k.iter().map(|&k| holds(op, k, k)).collect();
        same(&b, &[floats(&x)], &want);
        let b = Builder::new()
            .input("x", FLOAT, &[x.len() as i64])
            .floats("c", &[], &[0.1])
            .floats("k", &[], &[0.3])
            .node("Mul", &["x", "c"], &["p"], &[])
            .node(op, &["p", "k"], &["b"], &[])
            .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
            .output("y");
        let want: Vec<f64> = x.iter().map(|&x| holds(op, x * 0.1, 0.3)).collect();
        same(&b, &[floats(&x)], &want);
    }
}

#[test]
fn integers_are_compared_with_fractions_exactly() {
    let x = [1, 2, 3, 4, -2, -3];
    let k = [2.5, 2.5, 2.5, 4.0, -2.5, -2.5];
    for op in COMPARISONS {
        let b = Builder::new()
            .input("x", INT64, &[6])
            .floats("k", &[6], &k)
            .node("Cast", &["x"], &["f"], &[("to", A::Int(1))])
            .node(op, &["f", "k"], &["b"], &[])
            .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
            .output("y");
        let want: Vec<f64> = x.iter().zip(&k).map(|(&x, &k)| holds(op, x as f32, k)).collect();
        same(&b, &[ints(&x)], &want);
        let b = Builder::new()
            .input("x", FLOAT, &[3])
            .floats("k", &[], &[2.5])
            .node("Floor", &["x"], &["f"], &[])
            .node(op, &["f", "k"], &["b"], &[])
            .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
            .output("y");
        let x = [2.2, 3.7, 2.5];
        same(&b, &[floats(&x)], &x.map(|x: f32| holds(op, x.floor(), 2.5)));
    }
}

/// `op(x · c)`.
fn rounding(op: &str, n: usize, c: f32) -> Builder {
    Builder::new()
        .input("x", FLOAT, &[n as i64])
        .floats("c", &[], &[c])
        .node("Mul", &["x", "c"], &["p"], &[])
        .node(op, &["p"], &["y"], &[])
        .output("y")
}

#[test]
fn roundings_agree_beside_whole_numbers() {
    let whole: Vec<f32> = (-3i8..4).map(f32::from).collect();
    let mut x: Vec<f32> = whole.iter().flat_map(|v| [*v, v.next_up(), v.next_down()]).collect();
    x.extend(whole.iter().flat_map(|v| [v + 0.5, (v + 0.5).next_up(), (v + 0.5).next_down()]));
    x.extend(decimals());
    let n = x.len() as i64;
    for (op, f) in [
        ("Floor", f32::floor as fn(f32) -> f32),
        ("Ceil", f32::ceil),
        ("Round", f32::round_ties_even),
        ("Sign", |v| if v == 0.0 { 0.0 } else { v.signum() }),
    ] {
        let b = Builder::new().input("x", FLOAT, &[n]).node(op, &["x"], &["y"], &[]).output("y");
        let want: Vec<f64> = x.iter().map(|&v| f64::from(f(v)) + 0.0).collect();
        let (integers, float) = answers(&b, &[floats(&x)]);
        assert_eq!(integers, want, "{op}");
        assert_eq!(float.iter().map(|v| v + 0.0).collect::<Vec<_>>(), want, "{op}");
    }
    // 0.7 · 10 is 7 in single precision, although 0.7 is less than seven tenths.
    let tenths = decimals();
    for c in [10.0, 100.0, 5.0, 0.1, 3.0] {
        for (op, f) in [("Floor", f32::floor as fn(f32) -> f32), ("Ceil", f32::ceil)] {
            let want: Vec<f64> = tenths.iter().map(|&v| f64::from(f(v * c)) + 0.0).collect();
            let (integers, _) = answers(&rounding(op, tenths.len(), c), &[floats(&tenths)]);
            assert_eq!(integers, want, "{op} of x · {c}");
        }
    }
}

#[test]
fn trees_take_the_side_of_their_thresholds() {
    for (mode, holds) in [
        ("BRANCH_LEQ", (|x, t| x <= t) as fn(f32, f32) -> bool),
        ("BRANCH_LT", |x, t| x < t),
        ("BRANCH_GTE", |x, t| x >= t),
        ("BRANCH_GT", |x, t| x > t),
        ("BRANCH_EQ", |x, t| x == t),
        ("BRANCH_NEQ", |x, t| x != t),
    ] {
        for t in [0.1f32, 0.7, 1.3, -0.6] {
            let x = [t, t.next_up(), t.next_down(), 0.0];
            let b = Builder::new()
                .input("x", FLOAT, &[4, 1])
                .node(
                    "ai.onnx.ml::TreeEnsembleRegressor",
                    &["x"],
                    &["y"],
                    &[
                        ("n_targets", A::Int(1)),
                        ("nodes_treeids", A::Ints(&[0, 0, 0])),
                        ("nodes_nodeids", A::Ints(&[0, 1, 2])),
                        ("nodes_featureids", A::Ints(&[0, 0, 0])),
                        ("nodes_modes", A::Strs(&[mode, "LEAF", "LEAF"])),
                        ("nodes_values", A::Floats(&[t, 0.0, 0.0])),
                        ("nodes_truenodeids", A::Ints(&[1, 0, 0])),
                        ("nodes_falsenodeids", A::Ints(&[2, 0, 0])),
                        ("target_treeids", A::Ints(&[0, 0])),
                        ("target_nodeids", A::Ints(&[1, 2])),
                        ("target_ids", A::Ints(&[0, 0])),
                        ("target_weights", A::Floats(&[10.0, 20.0])),
                    ],
                )
                .output("y");
            let input = floats(&x).reshaped(vec![4, 1]).unwrap();
            let want = x.map(|x| if holds(x, t) { 10.0 } else { 20.0 });
            same(&b, &[input], &want);
        }
    }
}

#[test]
fn clip_takes_the_upper_bound_where_the_bounds_cross() {
    for x in [1.0f32, 60.0, 200.0] {
        let b = Builder::new()
            .input("x", FLOAT, &[1])
            .floats("lo", &[], &[100.0])
            .floats("hi", &[], &[50.0])
            .node("Clip", &["x", "lo", "hi"], &["y"], &[])
            .output("y");
        same(&b, &[floats(&[x])], &[50.0]);
    }
}

#[test]
fn resize_of_version_10_rounds_down() {
    let x: Vec<f32> = (0u8..5).map(f32::from).collect();
    let mut b = Builder::new()
        .input("x", FLOAT, &[1, 1, 1, 5])
        .floats("s", &[4], &[1.0, 1.0, 1.0, 1.5])
        .node("Resize", &["x", "s"], &["y"], &[("mode", A::Str("nearest"))])
        .output("y");
    b.opset = 10;
    let input = floats(&x).reshaped(vec![1, 1, 1, 5]).unwrap();
    same(&b, &[input], &[0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
}
