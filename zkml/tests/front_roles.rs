//! What the verifier's files are functions of: other weights within the same ranges give the same bytes.
//!
//! Each case is a model with one operator that carries weights. It is built twice with different weights; the ranges of the first serve both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod front_common;
#[allow(dead_code, reason = "this file uses its part")]
#[path = "front_common/weighted.rs"]
mod weighted;

use front_common::build::{self, A};
use parhelion_zkml::machine::{PlanOptions, Visibility, plan};
use parhelion_zkml::onnx::{ImportOptions, Model, import};
use parhelion_zkml::qir::{Program, Role};
use parhelion_zkml::quant::{QuantOptions, Quantised, Quantiser, quantise};
use weighted::{CASES, Make, Weights, sample, x};

/// What the verifier gets of a circuit.
fn bytes(program: &Program) -> Vec<u8> {
    let plan = plan(program, &Visibility::default(), &PlanOptions::default()).unwrap();
    let mut program = plan.program().clone();
    program.tensors.iter_mut().filter(|t| t.role == Role::Param).for_each(|t| t.data = None);
    postcard::to_stdvec(&(program, plan.report().choice)).unwrap()
}

fn read(b: &front_common::build::Builder) -> Model {
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
        let [a, b] = match std::panic::catch_unwind(|| pair(*make)) {
            Ok(pair) => pair,
            Err(_) => {
                leaking.push(format!("{name}: no model"));
                continue;
            }
        };
        let params = |q: &Quantised| {
            let all = q.program.tensors.iter().filter(|t| t.role == Role::Param);
            all.map(|t| (t.name.clone(), t.data.clone())).collect::<Vec<_>>()
        };
        if params(&a) == params(&b) {
            leaking.push(format!("{name}: the weights are the same, or no parameters"));
        }
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

/// A tree of one split has one threshold: a number, and so in the circuit.
#[test]
fn a_single_threshold_is_listed() {
    let b = x(&[2, 3]).node(
        "ai.onnx.ml::TreeEnsembleRegressor",
        &["x"],
        &["y"],
        &[
            ("nodes_treeids", A::Ints(&[0; 3])),
            ("nodes_nodeids", A::Ints(&[0, 1, 2])),
            ("nodes_featureids", A::Ints(&[0; 3])),
            ("nodes_truenodeids", A::Ints(&[1, 0, 0])),
            ("nodes_falsenodeids", A::Ints(&[2, 0, 0])),
            ("nodes_values", A::Floats(&[0.37, 0.0, 0.0])),
            ("nodes_modes", A::Strs(&["BRANCH_LEQ", "LEAF", "LEAF"])),
            ("target_treeids", A::Ints(&[0; 2])),
            ("target_nodeids", A::Ints(&[1, 2])),
            ("target_ids", A::Ints(&[0; 2])),
            ("target_weights", A::Floats(&[0.5, -0.75])),
        ],
    );
    let q = quantise(&read(&b), &[], &QuantOptions::default()).unwrap();
    assert!(!q.public_numbers.is_empty(), "a threshold that the circuit holds in clear is not named");
}
