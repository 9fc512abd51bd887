//! What is wrong with a witness is said in the model's names: the layer, the element, the bound.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod front_common;

use std::collections::BTreeSet;
use std::sync::Arc;

use front_common::build::{A, Builder, FLOAT};
use halo2curves::bn256::Fr;
use parhelion_zkml::exec::{self, ExecError, Trace};
use parhelion_zkml::machine::{
    Bench, MockError, Plan, PlanError, PlanOptions, ProveError, Visibility, mock, plan,
};
use parhelion_zkml::onnx::{DType, ImportOptions, TensorF, import};
use parhelion_zkml::qir::{OpKind, Role};
use parhelion_zkml::quant::{QuantOptions, Quantised, quantise};

fn tensor(shape: &[usize], data: Vec<f64>) -> TensorF {
    TensorF::float(shape.to_vec(), DType::F32, data).unwrap()
}

/// A plan and a trace of a model with inputs `x` (and `y`) of one shape.
fn planned(b: &Builder, inputs: &[TensorF]) -> (Quantised, Plan, Trace) {
    let model = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let q = quantise(&model, &[inputs.to_vec()], &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    let plan = plan(&q.program, &Visibility::default(), &PlanOptions::default()).unwrap();
    mock(&plan, &trace.values).unwrap();
    (q, plan, trace)
}

fn ramp(n: usize) -> Vec<f64> {
    (0..n).map(|i| ((i as f64 + 1.0) * 0.618_033_988_7).fract() * 1.6 - 0.8).collect()
}

/// Layer and element that an error names.
fn named(e: &MockError) -> (String, usize) {
    match e {
        MockError::Constraint { layer, element, .. }
        | MockError::Witness(
            ProveError::OutOfRange { layer, element, .. } | ProveError::Mismatch { layer, element, .. },
        ) => (layer.clone(), *element),
        other => panic!("{other}"),
    }
}

/// Changes every computed tensor in turn; each time the operation that computes it, or one that reads it, must be named.
fn every_operation_is_named(b: &Builder, inputs: &[TensorF]) -> BTreeSet<&'static str> {
    let (q, plan, trace) = planned(b, inputs);
    let p = &q.program;
    let bench = Bench::new(&plan, &trace.values).unwrap();
    let mut kinds = BTreeSet::new();
    for op in &p.ops {
        let kind = match &op.kind {
            OpKind::View { .. } => continue,
            OpKind::Linear { .. } => "linear",
            OpKind::Lookup { .. } => "lookup",
            OpKind::Interpolate { .. } => "interpolate",
            OpKind::Step { .. } => "step",
            OpKind::Div { .. } => "div",
            OpKind::Sqrt { .. } => "sqrt",
            OpKind::Max { .. } => "max",
            OpKind::ArgMax { .. } => "argmax",
            OpKind::Sort { .. } => "sort",
            OpKind::Gather { .. } => "gather",
        };
        kinds.insert(kind);
        let out = op.outputs[0];
        let n = p.tensor(out).len();
        for element in [0, n / 2, n - 1] {
            for change in [1i64, -3, 1 << 40] {
                let mut values = trace.values.clone();
                let mut changed = values[out.0 as usize].as_deref().unwrap().to_vec();
                changed[element] += change;
                values[out.0 as usize] = Some(Arc::from(changed));
                let Err(e) = mock(&plan, &values) else {
                    // The circuit computes it again: what a prover could change is a cell, if it has one.
                    let Some(cell) = bench.element(out.0, element as u32) else { continue };
                    let forged = [(cell, bench.value(cell) + Fr::from(3))];
                    let violation = bench.violation(&forged).unwrap_or_else(|| {
                        panic!("{kind} `{}`, element {element} was forged, and everything holds", op.name)
                    });
                    let (layer, _) = bench.describe(violation.cell);
                    assert!(!layer.is_empty() && !violation.constraint.is_empty());
                    continue;
                };
                let (layer, at) = named(&e);
                let text = e.to_string();
                assert!(text.contains(&layer) && text.contains("element"), "{text}");
                let readers: Vec<&str> = p
                    .ops
                    .iter()
                    .filter(|o| format!("{:?}", o.kind).contains(&format!("{out:?}")))
                    .map(|o| o.name.as_str())
                    .collect();
                if layer == op.name {
                    let rows = p.tensor(out).shape.last().copied().unwrap_or(1);
                    let near = kind == "sort" || at.abs_diff(element) <= rows;
                    assert!(near, "{kind} `{}`: element {at} instead of {element}: {text}", op.name);
                } else {
                    let short = layer.split('#').next().unwrap_or(&layer);
                    let known = readers.iter().any(|r| *r == layer || r.starts_with(short));
                    assert!(known, "{kind} `{}` changed, `{layer}` named (read by {readers:?})", op.name);
                }
            }
        }
    }
    kinds
}

#[test]
fn a_wrong_value_is_named_by_its_layer() {
    let x = [tensor(&[1, 8], ramp(8))];
    let mut kinds = BTreeSet::new();
    let base = || Builder::new().input("x", FLOAT, &[1, 8]).output("y");
    let w = ramp(64).into_iter().map(|v| v as f32).collect::<Vec<_>>();
    for b in [
        base().floats("w", &[8, 8], &w).node("MatMul", &["x", "w"], &["h"], &[]).node(
            "Relu",
            &["h"],
            &["y"],
            &[],
        ),
        base().node("Sigmoid", &["x"], &["y"], &[]),
        base().node("Softmax", &["x"], &["y"], &[("axis", A::Int(-1))]),
        base().node("Mul", &["x", "x"], &["s"], &[]).node("Sqrt", &["s"], &["y"], &[]),
        base().ints("axes", &[1]).node("ReduceMax", &["x", "axes"], &["y"], &[]),
        base().node("ArgMax", &["x"], &["y"], &[("axis", A::Int(1))]),
        base().ints("k", &[3]).node("TopK", &["x", "k"], &["y", "i"], &[]).output("i"),
        base().floats("c", &[8], &[0.1; 8]).node("Greater", &["x", "c"], &["g"], &[]).node(
            "Where",
            &["g", "x", "c"],
            &["y"],
            &[],
        ),
    ] {
        let mut b = b;
        b.opset = if b.graph.node[0].op_type == "ReduceMax" { 18 } else { 17 };
        kinds.extend(every_operation_is_named(&b, &x));
    }
    let image = [tensor(&[1, 2, 6, 6], ramp(72))];
    let conv = Builder::new()
        .input("x", FLOAT, &[1, 2, 6, 6])
        .floats("w", &[3, 2, 3, 3], &w[..54])
        .node("Conv", &["x", "w"], &["h"], &[("pads", A::Ints(&[1, 1, 1, 1]))])
        .node("MaxPool", &["h"], &["y"], &[("kernel_shape", A::Ints(&[2, 2])), ("strides", A::Ints(&[2, 2]))])
        .output("y");
    kinds.extend(every_operation_is_named(&conv, &image));
    for kind in ["linear", "max", "argmax", "sort", "sqrt", "div", "step"] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
    assert!(kinds.contains("lookup") || kinds.contains("interpolate"), "{kinds:?}");
}

#[test]
fn a_weight_past_its_range_is_named() {
    let w: Vec<f32> = ramp(24).into_iter().map(|v| v as f32).collect();
    let b = Builder::new()
        .input("x", FLOAT, &[1, 4])
        .floats("dense.weight", &[4, 6], &w)
        .node("MatMul", &["x", "dense.weight"], &["y"], &[])
        .output("y");
    let (q, ..) = planned(&b, &[tensor(&[1, 4], ramp(4))]);
    let at = q.program.tensors.iter().position(|t| t.role == Role::Param).unwrap();
    for element in [0, 13, 23] {
        let mut p = q.program.clone();
        let mut weights = p.tensors[at].data.as_deref().unwrap().to_vec();
        weights[element] = p.tensors[at].hi + 1;
        p.tensors[at].data = Some(Arc::from(weights));
        match plan(&p, &Visibility::default(), &PlanOptions::default()).unwrap_err() {
            PlanError::Invalid { op, reason } => {
                assert_eq!(op, "dense.weight");
                assert!(reason.contains("bounds"), "{reason}");
            }
            other => panic!("{other}"),
        }
        assert!(exec::check(&p).unwrap_err().to_string().contains("dense.weight"));
    }
}

/// Calibrates on one sample and runs another, which leaves the range of a layer; the error.
fn leaves(b: &Builder, sample: &[TensorF], input: &[TensorF]) -> exec::OutOfRange {
    let model = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let options = QuantOptions { headroom: 1.0, min_range: 1.0, ..QuantOptions::default() };
    let q = quantise(&model, &[sample.to_vec()], &options).unwrap();
    match exec::run(&q.program, &q.encode_inputs(input).unwrap()).unwrap_err() {
        ExecError::OutOfRange(o) => *o,
        other => panic!("{other}"),
    }
}

#[test]
fn an_input_past_a_layers_range_names_layer_element_and_bound() {
    // Signs that cancel in the sample and add up in the input.
    let signs = |n: usize| (0..n).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect::<Vec<f64>>();
    let cancel = |shape: &[usize]| tensor(shape, signs(shape.iter().product()));
    let ones = |shape: &[usize]| tensor(shape, vec![1.0; shape.iter().product()]);
    let odd = [0.7f32; 16];
    let dense = Builder::new().input("x", FLOAT, &[1, 16]).floats("w", &[16, 1], &odd);
    let dense =
        dense.node("MatMul", &["x", "w"], &["dense"], &[]).node("Relu", &["dense"], &["y"], &[]).output("y");
    let conv = Builder::new().input("x", FLOAT, &[1, 1, 4, 4]).floats("w", &[1, 1, 2, 2], &odd[..4]);
    let conv =
        conv.node("Conv", &["x", "w"], &["conv"], &[]).node("Relu", &["conv"], &["y"], &[]).output("y");
    for (b, shape, layers) in
        [(dense, vec![1, 16], ["MatMul_0", "Relu_1"]), (conv, vec![1, 1, 4, 4], ["Conv_0", "Relu_1"])]
    {
        let o = leaves(&b, &[cancel(&shape)], &[ones(&shape)]);
        assert!(layers.contains(&o.layer.as_str()), "{o}");
        assert!(o.value > o.hi.into() || o.value < o.lo.into(), "{o}");
        assert!(o.index.iter().all(|&i| i == 0), "the first element that leaves the range: {o}");
        let text = o.to_string();
        for word in [o.layer.as_str(), &o.value.to_string(), &format!("[{}, {}]", o.lo, o.hi)] {
            assert!(text.contains(word), "no {word} in: {text}");
        }
    }
}
