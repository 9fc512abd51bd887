//! If, Loop and Scan become the nodes that they run; tensors in files beside the model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64, value};
use parhelion_zkml::onnx::proto::{GraphProto, StringStringEntryProto};
use parhelion_zkml::onnx::{DType, ImportError, ImportOptions, Model, TensorF, import, import_from};
use parhelion_zkml::qir::Role;
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float};

const BOOL: i32 = 9;

fn load(b: &Builder) -> Result<Model, ImportError> {
    import(&b.bytes(), &ImportOptions::default())
}

fn floats(shape: &[usize], v: &[f64]) -> TensorF {
    TensorF::float(shape.to_vec(), DType::F32, v.to_vec()).unwrap()
}

/// Float results, after checking that the integers agree with them.
fn run(m: &Model, inputs: &[TensorF]) -> Vec<f64> {
    let want = float::run(m, inputs).unwrap();
    let q = quantise(m, std::slice::from_ref(&inputs.to_vec()), &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(inputs).unwrap()).unwrap();
    for (g, w) in q.decode_outputs(&trace).iter().zip(&want) {
        for (g, w) in g.to_f64().iter().zip(w.to_f64()) {
            assert!((g - w).abs() < 1e-3, "{g} instead of {w}");
        }
    }
    want.iter().flat_map(TensorF::to_f64).collect()
}

/// A body: `out = op(x, operand)` where `x` is a value around it.
fn branch(op: &str, operand: f32) -> GraphProto {
    Builder::new().floats("c", &[1], &[operand]).node(op, &["x", "c"], &["r"], &[]).output("r").graph
}

#[test]
fn branches_are_chosen_or_selected() {
    let branches =
        [("then_branch", A::Graph(branch("Add", 2.0))), ("else_branch", A::Graph(branch("Mul", 3.0)))];
    let constant = |c: i64| {
        let mut b =
            Builder::new().input("x", FLOAT, &[2]).node("If", &["cond"], &["y"], &branches).output("y");
        b = b.ints("cond", &[c]);
        b.graph.initializer[0].data_type = BOOL;
        b.graph.initializer[0].int64_data.clear();
        b.graph.initializer[0].int32_data = vec![c as i32];
        b
    };
    let x = floats(&[2], &[1.0, -1.0]);
    let chosen = load(&constant(1)).unwrap();
    assert_eq!(run(&chosen, std::slice::from_ref(&x)), [3.0, 1.0]);
    assert!(chosen.nodes.iter().all(|n| n.op != "Mul" && n.op != "Where"));
    assert_eq!(run(&load(&constant(0)).unwrap(), std::slice::from_ref(&x)), [3.0, -3.0]);
    let dynamic = Builder::new()
        .input("x", FLOAT, &[2])
        .floats("zero", &[], &[0.0])
        .ints("axes", &[0])
        .node("ReduceSum", &["x", "axes"], &["s"], &[("keepdims", A::Int(0))])
        .node("Greater", &["s", "zero"], &["cond"], &[])
        .node("If", &["cond"], &["y"], &branches)
        .output("y");
    let m = load(&dynamic).unwrap();
    assert_eq!(run(&m, &[floats(&[2], &[1.0, 0.5])]), [3.0, 2.5]);
    assert_eq!(run(&m, &[floats(&[2], &[-1.0, 0.5])]), [-3.0, 1.5]);
}

/// h' = relu(x·w + h); stacks h'.
fn cell(step_inputs: &[(&str, i32, &[i64])], state: &str, x: &str) -> Builder {
    let mut b = Builder::new().floats("w", &[2, 2], &[0.5, -0.25, 0.125, 1.0]);
    for (name, dtype, shape) in step_inputs {
        b.graph.input.push(value(name, *dtype, shape));
    }
    b.node("MatMul", &[x, "w"], &["xw"], &[])
        .node("Add", &["xw", state], &["sum"], &[])
        .node("Relu", &["sum"], &["h_new"], &[])
        .node("Identity", &["h_new"], &["stacked"], &[])
}

#[test]
fn a_scan_unrolls_over_one_copy_of_its_weights() {
    let body =
        cell(&[("h", FLOAT, &[1, 2]), ("xt", FLOAT, &[1, 2])], "h", "xt").output("h_new").output("stacked");
    let b = Builder::new()
        .input("x", FLOAT, &[3, 1, 2])
        .floats("h0", &[1, 2], &[0.0, 0.5])
        .node(
            "Scan",
            &["h0", "x"],
            &["h", "all"],
            &[("body", A::Graph(body.graph.clone())), ("num_scan_inputs", A::Int(1))],
        )
        .output("h")
        .output("all");
    let m = load(&b).unwrap();
    let x = floats(&[3, 1, 2], &[1.0, 2.0, -1.0, 0.5, 0.25, 0.0]);
    let got = run(&m, std::slice::from_ref(&x));
    assert_eq!(got, [0.4375, 2.9375, 0.75, 2.25, 0.3125, 3.0, 0.4375, 2.9375]);
    let q = quantise(&m, &[vec![x]], &QuantOptions::default()).unwrap();
    let weights = q.program.tensors.iter().filter(|t| t.role == Role::Param && t.shape == [2, 2]);
    assert_eq!(weights.count(), 1);
    let backwards = Builder::new()
        .input("x", FLOAT, &[3, 1, 2])
        .floats("h0", &[1, 2], &[0.0, 0.5])
        .node(
            "Scan",
            &["h0", "x"],
            &["h", "all"],
            &[
                ("body", A::Graph(body.graph)),
                ("num_scan_inputs", A::Int(1)),
                ("scan_input_directions", A::Ints(&[1])),
                ("scan_output_directions", A::Ints(&[1])),
            ],
        )
        .output("all");
    let got = run(&load(&backwards).unwrap(), &[floats(&[3, 1, 2], &[0.25, 0.0, -1.0, 0.5, 1.0, 2.0])]);
    assert_eq!(got, [0.4375, 2.9375, 0.3125, 3.0, 0.75, 2.25]);
}

#[test]
fn loops_run_as_often_as_they_say() {
    let body = cell(&[("i", INT64, &[]), ("go", BOOL, &[]), ("h", FLOAT, &[1, 2])], "h", "x")
        .node("Identity", &["go"], &["go_on"], &[])
        .output("go_on")
        .output("h_new")
        .output("stacked");
    let mut b = Builder::new()
        .input("x", FLOAT, &[1, 2])
        .ints("trips", &[3])
        .floats("h0", &[1, 2], &[0.0, 0.5])
        .node("Loop", &["trips", "", "h0"], &["h", "all"], &[("body", A::Graph(body.graph.clone()))])
        .output("h")
        .output("all");
    b.graph.initializer[0].dims.clear();
    let got = run(&load(&b).unwrap(), &[floats(&[1, 2], &[1.0, 2.0])]);
    assert_eq!(got[..2], [2.25, 5.75]);
    assert_eq!(got[2..], [0.75, 2.25, 1.5, 4.0, 2.25, 5.75]);
    // A trip count that is an input is named as what it is.
    let dynamic = Builder::new()
        .input("x", FLOAT, &[1, 2])
        .input("trips", INT64, &[])
        .floats("h0", &[1, 2], &[0.0, 0.5])
        .node("Loop", &["trips", "", "h0"], &["h", "all"], &[("body", A::Graph(body.graph))])
        .output("h");
    let Err(ImportError::Unsupported(list)) = load(&dynamic) else { panic!("was imported") };
    assert!(list.0[0].reason.contains("trip count"), "{}", list.0[0]);
}

#[test]
fn a_loop_that_stops_early_keeps_its_state() {
    // Doubles h while it is below the limit that the input gives, at most five times.
    let mut body = Builder::new().node("Add", &["h", "h"], &["h_new"], &[]).node(
        "Less",
        &["h_new", "limit"],
        &["go_on"],
        &[],
    );
    for (name, dtype) in [("i", INT64), ("go", BOOL), ("h", FLOAT)] {
        body.graph.input.push(value(name, dtype, &[]));
    }
    let body = body.output("go_on").output("h_new").graph;
    let mut b = Builder::new()
        .input("limit", FLOAT, &[])
        .ints("trips", &[5])
        .floats("h0", &[], &[1.0])
        .node("Loop", &["trips", "", "h0"], &["h"], &[("body", A::Graph(body))])
        .output("h");
    b.graph.initializer[0].dims.clear();
    let m = load(&b).unwrap();
    for (limit, want) in [(0.5, 2.0), (5.0, 8.0), (100.0, 32.0)] {
        assert_eq!(run(&m, &[floats(&[], &[limit])]), [want], "limit {limit}");
    }
}

#[test]
fn bodies_that_never_end_or_nest_are_bounded() {
    let mut inner = Builder::new().node("Identity", &["go"], &["go_on"], &[]);
    for (name, dtype) in [("i", INT64), ("go", BOOL)] {
        inner.graph.input.push(value(name, dtype, &[]));
    }
    let endless = Builder::new()
        .input("x", FLOAT, &[1])
        .node("Loop", &["", ""], &[], &[("body", A::Graph(inner.output("go_on").graph))])
        .node("Relu", &["x"], &["y"], &[])
        .output("y");
    assert!(matches!(load(&endless), Err(ImportError::TooManyNodes { .. })));
}

/// A model whose weights are in `weights.bin` of a folder, at an offset.
fn external(location: &str, offset: usize) -> Builder {
    let mut b = Builder::new()
        .input("x", FLOAT, &[1, 2])
        .floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .node("MatMul", &["x", "w"], &["y"], &[])
        .output("y");
    let w = &mut b.graph.initializer[0];
    w.raw_data = Default::default();
    w.data_location = 1;
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    w.external_data = vec![entry("location", location.into()), entry("offset", offset.to_string())];
    b
}

#[test]
fn weights_beside_the_model_are_read_and_digested() {
    let dir = tempdir("external");
    let mut file = vec![7u8; 4];
    file.extend([1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(dir.join("weights.bin"), &file).unwrap();
    let read = |b: &Builder| import_from(b.bytes().into(), Some(&dir), &ImportOptions::default());
    let m = read(&external("weights.bin", 4)).unwrap();
    assert_eq!(float::run(&m.model, &[floats(&[1, 2], &[1.0, 10.0])]).unwrap()[0].to_f64(), [31.0, 42.0]);
    let digest = m.external.unwrap();
    file[4] ^= 1;
    std::fs::write(dir.join("weights.bin"), &file).unwrap();
    assert_ne!(read(&external("weights.bin", 4)).unwrap().external.unwrap(), digest);
    let refused = |b: &Builder| match read(b) {
        Err(ImportError::External { name, location, reason }) => {
            assert_eq!(name, "w");
            (location, reason)
        }
        other => panic!("{other:?}"),
    };
    assert!(refused(&external("weights.bin", 5)).1.contains("of a file of 20"));
    assert!(refused(&external("weights.bin", usize::MAX)).1.contains("of a file of 20"));
    refused(&external("missing.bin", 0));
    std::fs::write(dir.join("../parhelion-outside.bin"), &file).unwrap();
    for path in ["../parhelion-outside.bin", "sub/../../parhelion-outside.bin", "/etc/hostname", "", "."] {
        let (location, reason) = refused(&external(path, 0));
        assert_eq!(location, path);
        assert!(reason.contains("folder") || reason.contains("not a file"), "{path}: {reason}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.join("../parhelion-outside.bin"), dir.join("link.bin")).unwrap();
        assert!(refused(&external("link.bin", 0)).1.contains("leads out"));
    }
    assert!(matches!(load(&external("weights.bin", 4)), Err(ImportError::External { .. })));
    std::fs::remove_file(dir.join("../parhelion-outside.bin")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

fn tempdir(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("parhelion-{name}-{}", std::process::id())).join("model");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
