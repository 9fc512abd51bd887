//! Inputs and outputs are called what the graph calls them, whatever their values share inside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use std::collections::HashSet;

use front_common::build::{A, Builder, FLOAT};
use parhelion_zkml::exec;
use parhelion_zkml::float;
use parhelion_zkml::machine::{self, Exposure, PlanOptions, Vis, Visibility};
use parhelion_zkml::onnx::{DType, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, Quantised, quantise};

/// The model in integers, after a run whose circuit holds and whose outputs are the float model's.
fn checked(b: &Builder, visibility: &str) -> Quantised {
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let inputs: Vec<TensorF> = m
        .input_values()
        .map(|v| {
            let n: usize = v.shape.iter().product();
            let data = (0..n).map(|i| i as f64 / 2.0 - 1.0).collect();
            TensorF::float(v.shape.clone(), DType::F32, data).unwrap()
        })
        .collect();
    let q = quantise(&m, std::slice::from_ref(&inputs), &QuantOptions::default()).unwrap();
    let trace = exec::run_checked(&q.program, &q.encode_inputs(&inputs).unwrap()).unwrap();
    let wanted = float::run(&m, &inputs).unwrap();
    for (f, w) in q.decode_outputs(&trace).iter().zip(&wanted) {
        assert_eq!(f.shape, w.shape);
        f.to_f64()
            .iter()
            .zip(w.to_f64())
            .for_each(|(f, w)| assert!((f - w).abs() < 1e-3, "{f} instead of {w}"));
    }
    let visibility: Visibility = visibility.parse().unwrap();
    let plan = machine::plan(&q.program, &visibility, &PlanOptions::default()).unwrap();
    machine::mock(&plan, &trace.values).unwrap();
    let names: HashSet<&str> = q.program.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names.len(), q.program.tensors.len(), "two tensors have one name");
    q
}

fn names(q: &Quantised) -> (Vec<&str>, Vec<&str>) {
    let of = |ids: &[parhelion_zkml::qir::TensorId]| {
        ids.iter().map(|&id| q.program.tensors[id.0 as usize].name.as_str()).collect()
    };
    (of(&q.program.inputs), of(&q.program.outputs))
}

fn x() -> Builder {
    Builder::new().input("x", FLOAT, &[4])
}

/// Operators that make tensors in every way there is.
#[test]
fn outputs_are_not_called_by_their_node() {
    let w = |b: Builder| b.floats("w", &[4, 4], &[0.25; 16]);
    let models = [
        x().node("Relu", &["x"], &["out"], &[]),
        x().node("Sigmoid", &["x"], &["out"], &[]),
        x().node("Softmax", &["x"], &["out"], &[]),
        x().node("Identity", &["x"], &["out"], &[]),
        x().node("Neg", &["x"], &["out"], &[]),
        x().node("ArgMax", &["x"], &["out"], &[]),
        x().node("ReduceMax", &["x"], &["out"], &[]),
        x().node("Floor", &["x"], &["out"], &[]),
        x().node("Mul", &["x", "x"], &["out"], &[]),
        x().ints("two", &[2, 2]).node("Reshape", &["x", "two"], &["out"], &[]),
        w(x()).node("MatMul", &["x", "w"], &["out"], &[]),
        w(x()).node("MatMul", &["x", "w"], &["h"], &[]).node("Relu", &["h"], &["out"], &[]),
        w(x()).node("MatMul", &["x", "w"], &["h"], &[]).node("Identity", &["h"], &["out"], &[]),
        x().ints("k", &[2]).node("TopK", &["x", "k"], &["out", "at"], &[]).output("at"),
    ];
    for b in models {
        let op = b.graph.node.last().unwrap().op_type.clone();
        let q = checked(&b.output("out"), "output.out=hashed");
        let (inputs, outputs) = names(&q);
        assert_eq!((inputs, *outputs.last().unwrap()), (vec!["x"], "out"), "{op}");
    }
}

#[test]
fn outputs_that_share_a_value_have_names_and_visibilities_of_their_own() {
    let b = x()
        .node("Relu", &["x"], &["a"], &[])
        .node("Identity", &["a"], &["b"], &[])
        .node("Identity", &["b"], &["c"], &[])
        .node("Identity", &["x"], &["same"], &[])
        .floats("constant", &[2], &[0.5, -3.0])
        .node("Identity", &["constant"], &["d"], &[]);
    let b = ["c", "a", "b", "same", "x", "a", "d", "constant"].iter().fold(b, |b, o| b.output(o));
    let q = checked(&b, "output.b=hashed,output.c=private,output.same=committed,input=hashed");
    assert_eq!(names(&q), (vec!["x"], vec!["c", "a", "b", "same", "x", "a", "d", "constant"]));
    let rules = "output=public,output.b=hashed,output.c=private".parse().unwrap();
    let e = Exposure::of(&q.program, &rules).unwrap();
    assert_eq!(e.outputs[..4], [Vis::Private, Vis::Public, Vis::Hashed, Vis::Public]);
}

#[test]
fn inputs_keep_their_names_behind_nodes_that_do_nothing() {
    for op in ["Identity", "Dropout", "Cast"] {
        let attrs: &[(&str, A<'_>)] = if op == "Cast" { &[("to", A::Int(1))] } else { &[] };
        let mut b = Builder::new().input("enc/x", FLOAT, &[3]).node(op, &["enc/x"], &["y"], attrs);
        b.graph.node[0].name = "enc".into();
        let q = checked(&b.node("Relu", &["y"], &["z"], &[]).output("z"), "input.enc/x=public");
        assert_eq!(names(&q), (vec!["enc/x"], vec!["z"]), "{op}");
    }
}

/// Tensors inside give way where they have the name of an output.
#[test]
fn names_inside_do_not_take_those_of_outputs() {
    let mut b =
        x().node("Relu", &["x"], &["h"], &[]).node("Neg", &["h"], &["y"], &[]).output("y").output("h");
    b.graph.node[0].name = "y".into();
    b.graph.node[1].name = "h".into();
    assert_eq!(names(&checked(&b, "")), (vec!["x"], vec!["y", "h"]));
    let mut b = x()
        .node("Sigmoid", &["x"], &["h"], &[])
        .node("Softmax", &["h"], &["y#2"], &[])
        .node("Relu", &["x"], &["y"], &[])
        .output("y")
        .output("y#2");
    b.graph.node.iter_mut().for_each(|n| n.name = "y".into());
    assert_eq!(names(&checked(&b, "")), (vec!["x"], vec!["y", "y#2"]));
}
