//! Comparisons, roundings and trees at the numbers where they change: every answer is ONNX Runtime's, in single precision.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64};
use parhelion_zkml::machine::{self, PlanOptions, Visibility};
use parhelion_zkml::onnx::proto::TensorProto;
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

/// Code of `float64`.
const DOUBLE: i32 = 11;

/// A tree for each threshold: how many are at least as great as the feature.
fn stumps(dtype: i32, thresholds: &[f64]) -> Builder {
    let n = thresholds.len() as i64;
    let each = |list: [i64; 3]| (0..n).flat_map(|_| list).collect::<Vec<_>>();
    let trees: Vec<i64> = (0..n).flat_map(|t| [t; 3]).collect();
    let leaves: Vec<i64> = (0..n).flat_map(|t| [t; 2]).collect();
    let modes: Vec<&str> = (0..n).flat_map(|_| ["BRANCH_LEQ", "LEAF", "LEAF"]).collect();
    let values: Vec<f64> = thresholds.iter().flat_map(|&t| [t, 0.0, 0.0]).collect();
    let singles: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let weights: Vec<f32> = (0..n).flat_map(|_| [1.0, 0.0]).collect();
    let ends: Vec<i64> = (0..n).flat_map(|_| [1, 2]).collect();
    let targets = vec![0; weights.len()];
    let (ids, features, yes, no) = (each([0, 1, 2]), each([0, 0, 0]), each([1, 0, 0]), each([2, 0, 0]));
    let values = if dtype == DOUBLE {
        let tensor = TensorProto {
            dims: vec![3 * n],
            data_type: DOUBLE,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        };
        ("nodes_values_as_tensor", A::Tensor(tensor))
    } else {
        ("nodes_values", A::Floats(&singles))
    };
    Builder::new()
        .input("x", dtype, &[1, 1])
        .node(
            "ai.onnx.ml::TreeEnsembleRegressor",
            &["x"],
            &["y"],
            &[
                ("n_targets", A::Int(1)),
                ("nodes_treeids", A::Ints(&trees)),
                ("nodes_nodeids", A::Ints(&ids)),
                ("nodes_featureids", A::Ints(&features)),
                ("nodes_modes", A::Strs(&modes)),
                values,
                ("nodes_truenodeids", A::Ints(&yes)),
                ("nodes_falsenodeids", A::Ints(&no)),
                ("target_treeids", A::Ints(&leaves)),
                ("target_nodeids", A::Ints(&ends)),
                ("target_ids", A::Ints(&targets)),
                ("target_weights", A::Floats(&weights)),
            ],
        )
        .output("y")
}

#[test]
fn trees_tell_thresholds_apart_that_no_scale_does() {
    // What LightGBM writes around zero, and neighbours in double precision.
    let tiny = [-1e-35, 1e-35, 0.5];
    for x in [0.0, -1e-35, 1e-35, 1e-30, -1e-30, 0.5, 0.25, -3.0] {
        let x = f64::from(x as f32);
        let want = [tiny.iter().filter(|t| x <= f64::from(**t as f32)).count() as f64];
        let input = TensorF::float(vec![1, 1], DType::F32, vec![x]).unwrap();
        same(&stumps(FLOAT, &tiny), &[input], &want);
    }
    let near = [0.7, 0.7f64.next_up(), 0.7f64.next_up().next_up(), 0.8];
    for x in [near[0].next_down(), near[0], near[1], near[2], near[2].next_up(), 0.75, 0.8, 0.9] {
        let want = [near.iter().filter(|t| x <= **t).count() as f64];
        let input = TensorF::float(vec![1, 1], DType::F64, vec![x]).unwrap();
        same(&stumps(DOUBLE, &near), &[input], &want);
    }
}

#[test]
fn what_is_rounded_to_single_precision_is_compared_there() {
    let t = 0.1f32;
    for x in [0.1, f64::from(t), f64::from(t.next_up()), f64::from(t.next_down()), 0.100_000_001] {
        for op in ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"] {
            let b = Builder::new()
                .input("x", DOUBLE, &[1])
                .floats("t", &[1], &[t])
                .node("Cast", &["x"], &["s"], &[("to", A::Int(1))])
                .node(op, &["s", "t"], &["b"], &[])
                .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
                .output("y");
            let input = TensorF::float(vec![1], DType::F64, vec![x]).unwrap();
            same(&b, &[input], &[holds(op, x as f32, t)]);
        }
    }
}

#[test]
fn infinite_bounds_bound_nothing() {
    let x = [3e6f32, -3e6, 0.5, 70_000.0];
    let lists = |b: Builder| {
        b.input("x", FLOAT, &[4]).floats("lo", &[], &[f32::NEG_INFINITY]).floats("hi", &[], &[f32::INFINITY])
    };
    let input = || floats(&x);
    let own: Vec<f64> = x.iter().map(|&v| v.into()).collect();
    for (op, operands) in [
        ("Clip", vec!["x", "lo", "hi"]),
        ("Max", vec!["x", "lo"]),
        ("Min", vec!["x", "hi"]),
        ("Max", vec!["lo", "x"]),
    ] {
        let b = lists(Builder::new()).node(op, &operands, &["y"], &[]).output("y");
        same(&b, &[input()], &own);
    }
    for (op, bound, want) in
        [("Less", "hi", 1.0), ("Greater", "hi", 0.0), ("GreaterOrEqual", "lo", 1.0), ("Equal", "lo", 0.0)]
    {
        let b = lists(Builder::new())
            .node(op, &["x", bound], &["b"], &[])
            .node("Cast", &["b"], &["y"], &[("to", A::Int(1))])
            .output("y");
        same(&b, &[input()], &[want; 4]);
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
