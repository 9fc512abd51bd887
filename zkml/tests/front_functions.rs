//! Functions that end inside the range of their argument, and constants that are outputs: what they cost, and that they are right.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{Builder, FLOAT};
use parhelion_zkml::machine::{Bench, Col, PlanOptions, Vis, Visibility, plan};
use parhelion_zkml::onnx::{DType, ImportOptions, Model, TensorF, import};
use parhelion_zkml::qir::{OpKind, Program, Role};
use parhelion_zkml::quant::{QuantOptions, Quantised, quantise};
use parhelion_zkml::{exec, float};

fn unary(op: &str, n: usize) -> Model {
    let b = Builder::new().input("x", FLOAT, &[1, n as i64]).node(op, &["x"], &["y"], &[]).output("y");
    import(&b.bytes(), &ImportOptions::default()).unwrap()
}

fn row(x: &[f64]) -> Vec<TensorF> {
    vec![
        TensorF::float(vec![1, x.len()], DType::F32, x.iter().map(|&v| f64::from(v as f32)).collect())
            .unwrap(),
    ]
}

fn set_up(m: &Model, x: &[f64]) -> Quantised {
    quantise(m, &[row(x)], &QuantOptions::default()).unwrap()
}

fn tables(p: &Program) -> usize {
    p.ops.iter().filter(|op| matches!(op.kind, OpKind::Lookup { .. } | OpKind::Interpolate { .. })).count()
}

/// The greatest difference from the float model.
fn off(q: &Quantised, m: &Model, x: &[f64]) -> f64 {
    let want = float::run(m, &row(x)).unwrap()[0].to_f64();
    let trace = exec::run_checked(&q.program, &q.encode_inputs(&row(x)).unwrap()).unwrap();
    let got = q.decode_outputs(&trace)[0].to_f64();
    got.iter().zip(want).fold(0.0, |m, (g, w)| f64::max(m, (g - w).abs()))
}

/// Functions with a vertical tangent at an end of their domain, and samples whose values say that they stay away from it.
const AWAY: &[(&str, [f64; 4])] = &[
    ("Acos", [0.79, 0.8, 0.82, 0.84]),
    ("Asin", [0.6, 0.65, 0.7, 0.8]),
    ("Asin", [-0.8, -0.7, -0.65, -0.6]),
    ("Atanh", [0.55, 0.6, 0.65, 0.7]),
    ("Acosh", [1.7, 1.8, 1.9, 1.95]),
];

#[test]
fn functions_that_stay_away_from_their_ends_are_one_table() {
    for (op, x) in AWAY {
        let m = unary(op, 4);
        let q = set_up(&m, x);
        assert_eq!(tables(&q.program), 1, "{op}");
        let off = off(&q, &m, x);
        // Half a unit of the argument at these slopes, and what the table adds.
        assert!(off <= 2e-4, "{op}: off by {off:.1e}");
    }
}

#[test]
fn functions_are_right_at_the_ends_of_their_domains() {
    for (op, x) in
        [("Acos", [1.0, -1.0, 0.5, 0.0]), ("Asin", [1.0, -1.0, 0.5, 0.0]), ("Acosh", [1.0, 2.0, 1.5, 4.0])]
    {
        let m = unary(op, 4);
        let q = set_up(&m, &x);
        let off = off(&q, &m, &x);
        assert!(off <= 1e-3, "{op}: off by {off:.1e}");
    }
}

/// A part of a range that is chosen by what calibration saw tells no more of it than powers of two.
#[test]
fn parts_of_ranges_tell_powers_of_two() {
    let (m, x) = (unary("Acos", 4), [0.79, 0.8, 0.82, 0.84]);
    let near = set_up(&m, &x);
    let other = set_up(&m, &[0.6, 0.7, 0.75, 0.81]);
    assert_eq!(near.program, other.program);
    // What one was set up on, the other accepts.
    assert!(off(&near, &m, &[0.6, 0.7, 0.75, 0.81]) < 2e-4);
}

/// A constant that is an output, and nothing else, needs no lookups: the verifier compares what it sees with its bounds.
#[test]
fn constant_outputs_are_cells_of_the_instance() {
    let b = Builder::new().input("x", FLOAT, &[1, 2]).node("Relu", &["x"], &["r"], &[]).output("r");
    let with = b.clone().ints("c", &[0, 2, 4, 6, 8]).node("Identity", &["c"], &["y"], &[]).output("y");
    let q = |b: &Builder| {
        let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
        quantise(&m, &[row(&[0.5, -0.25])], &QuantOptions::default()).unwrap()
    };
    let (without, with) = (q(&b), q(&with));
    let visibility = Visibility::new(Vis::Private, Vis::Public, Vis::Private);
    let planned = |q: &Quantised| plan(&q.program, &visibility, &PlanOptions::default()).unwrap();
    let found = planned(&with);
    assert_eq!(found.report().table_entries, planned(&without).report().table_entries);
    let at = with.program.tensors.iter().position(|t| t.role == Role::Param).unwrap();
    let trace = exec::run(&with.program, &with.encode_inputs(&row(&[0.5, -0.25])).unwrap()).unwrap();
    let bench = Bench::new(&found, &trace.values).unwrap();
    for index in 0..5 {
        let cell = bench.element(at as u32, index).unwrap();
        assert!(bench.class(cell).iter().any(|c| c.col == Col::Instance));
        let other = bench.value(cell) + bench.value(cell) + halo2_axiom::halo2curves::bn256::Fr::one();
        assert!(!bench.accepts(&[(cell, other)]), "an element of the output, changed alone");
    }
}
