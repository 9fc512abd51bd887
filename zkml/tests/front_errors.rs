//! What the importer, the input reader and the quantiser say about bad files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64, value};
use parhelion_zkml::exec::{self, ExecError};
use parhelion_zkml::float;
use parhelion_zkml::input::{InputError, Surplus, parse_inputs, parse_inputs_with};
use parhelion_zkml::onnx::{DType, ImportError, ImportOptions, Limits, Model, TensorF, import};
use parhelion_zkml::quant::{EncodeError, QuantError, QuantOptions, quantise};
use proptest::prelude::*;

fn mlp() -> Builder {
    Builder::new()
        .input("x", FLOAT, &[-1, 3])
        .floats("w", &[2, 3], &[0.5, -1.0, 0.25, 1.5, 0.125, -0.75])
        .floats("b", &[2], &[0.1, -0.2])
        .node("Gemm", &["x", "w", "b"], &["h"], &[("transB", A::Int(1))])
        .node("Relu", &["h"], &["y"], &[])
        .output("y")
}

fn load(b: &Builder) -> Result<Model, ImportError> {
    import(&b.bytes(), &ImportOptions::default())
}

fn model() -> Model {
    load(&mlp()).unwrap()
}

#[test]
fn files_that_are_not_models() {
    let import = |b: &[u8]| import(b, &ImportOptions::default());
    assert!(matches!(import(b""), Err(ImportError::Malformed(_))));
    assert!(matches!(import(b"this is not a model at all"), Err(ImportError::Malformed(_))));
    // A message with nothing but a version.
    assert_eq!(import(&[0x08, 0x08]), Err(ImportError::NoGraph));
    let mut b = mlp();
    b.graph.output.clear();
    assert_eq!(load(&b), Err(ImportError::NoOutputs));
}

#[test]
fn limits_hold() {
    let with = |limits| import(&mlp().bytes(), &ImportOptions { limits, ..Default::default() });
    let d = Limits::default();
    assert!(matches!(with(Limits { bytes: 10, ..d }), Err(ImportError::TooManyBytes { limit: 10, .. })));
    assert_eq!(with(Limits { nodes: 1, ..d }), Err(ImportError::TooManyNodes { len: 2, limit: 1 }));
    assert!(matches!(with(Limits { elements: 7, ..d }), Err(ImportError::TooManyElements { limit: 7, .. })));
    let huge =
        Builder::new().input("x", FLOAT, &[1 << 40, 1 << 40]).node("Relu", &["x"], &["y"], &[]).output("y");
    assert!(matches!(load(&huge), Err(ImportError::Input { .. })));
    let grown = Builder::new()
        .input("x", FLOAT, &[1])
        .ints("shape", &[1 << 20, 1 << 20])
        .node("Expand", &["x", "shape"], &["y"], &[])
        .output("y");
    assert!(matches!(load(&grown), Err(ImportError::Node { .. })));
    // A few bytes that ask for as many elements as one tensor may have: refused before they are made.
    let asked = Builder::new()
        .input("x", FLOAT, &[1, 1, 2, 2])
        .floats("none", &[0], &[])
        .ints("sizes", &[1, 1, 1 << 14, 1 << 14])
        .node("Resize", &["x", "none", "none", "sizes"], &["y"], &[("mode", A::Str("linear"))])
        .output("y");
    let tight = ImportOptions { limits: Limits { elements: 1 << 15, ..d }, ..Default::default() };
    assert!(matches!(import(&asked.bytes(), &tight), Err(ImportError::Node { op, .. }) if op == "Resize"));
}

#[test]
fn graphs_that_do_not_hang_together() {
    let missing =
        Builder::new().input("x", FLOAT, &[1]).node("Add", &["x", "nothing"], &["y"], &[]).output("y");
    assert!(matches!(load(&missing), Err(ImportError::MissingTensor { tensor, .. }) if tensor == "nothing"));
    assert_eq!(load(&mlp().output("z")), Err(ImportError::MissingOutput("z".into())));
    let twice = mlp().node("Relu", &["h"], &["y"], &[]);
    assert_eq!(load(&twice), Err(ImportError::Redefined("y".into())));
    let cycle = Builder::new()
        .input("x", FLOAT, &[1])
        .node("Add", &["x", "b"], &["a"], &[])
        .node("Relu", &["a"], &["b"], &[])
        .output("b");
    assert!(matches!(load(&cycle), Err(ImportError::Cycle(_))));
    let mut text = mlp();
    text.graph.input[0] = value("x", 8, &[1]);
    assert!(matches!(load(&text), Err(ImportError::Input { name, .. }) if name == "x"));
}

#[test]
fn tensors_that_do_not_fit_their_shape() {
    let mut short = mlp();
    let raw = &mut short.graph.initializer[0].raw_data;
    *raw = raw.slice(..raw.len() - 1);
    assert!(matches!(load(&short), Err(ImportError::Tensor { name, .. }) if name == "w"));
    let mut negative = mlp();
    negative.graph.initializer[0].dims = vec![-2, -3];
    assert!(matches!(load(&negative), Err(ImportError::Tensor { name, .. }) if name == "w"));
    let mut outside = mlp();
    outside.graph.initializer[0].data_location = 1;
    assert!(matches!(load(&outside), Err(ImportError::External { name, .. }) if name == "w"));
}

#[test]
fn nodes_that_contradict_the_standard() {
    let shapes = Builder::new()
        .input("x", FLOAT, &[2, 3])
        .floats("w", &[2, 2], &[1.0; 4])
        .node("MatMul", &["x", "w"], &["y"], &[])
        .output("y");
    assert!(matches!(load(&shapes), Err(ImportError::Node { op, .. }) if op == "MatMul"));
    let attribute = Builder::new()
        .input("x", FLOAT, &[2])
        .node("Flatten", &["x"], &["y"], &[("axis", A::Float(1.0))])
        .output("y");
    assert!(matches!(load(&attribute), Err(ImportError::Node { op, .. }) if op == "Flatten"));
    let operands = Builder::new().input("x", FLOAT, &[2]).node("Add", &["x"], &["y"], &[]).output("y");
    assert!(matches!(load(&operands), Err(ImportError::Node { op, .. }) if op == "Add"));
}

/// Numbers that are legal where they stand, and that arithmetic with them must survive.
#[test]
fn numbers_at_the_ends_of_their_range() {
    let x = |shape: &[i64]| Builder::new().input("x", FLOAT, shape);
    let refused = |b: Builder, wanted: &str| {
        let found = load(&b.output("y"));
        assert!(matches!(&found, Err(ImportError::Node { op, .. }) if op == wanted), "{wanted}: {found:?}");
    };
    for block in [0, -1, 1 << 32, 1 << 62, i64::MAX] {
        let block = [("blocksize", A::Int(block))];
        refused(x(&[1, 4, 2, 2]).node("DepthToSpace", &["x"], &["y"], &block), "DepthToSpace");
        refused(x(&[1, 4, 0, 0]).node("SpaceToDepth", &["x"], &["y"], &block), "SpaceToDepth");
    }
    let groups = [("num_groups", A::Int(1))];
    let scaled = |b: Builder| b.floats("s", &[1], &[1.0]);
    refused(
        scaled(x(&[4])).node("GroupNormalization", &["x", "s", "s"], &["y"], &groups),
        "GroupNormalization",
    );
    refused(
        scaled(x(&[4])).node("InstanceNormalization", &["x", "s", "s"], &["y"], &[]),
        "InstanceNormalization",
    );
    let kernel = x(&[1, 0, 2]).floats("w", &[0, 3, 1], &[]);
    refused(
        kernel.node("ConvTranspose", &["x", "w"], &["y"], &[("group", A::Int(i64::MAX))]),
        "ConvTranspose",
    );
    // Many steps without inputs, for a state that is not.
    let cell = x(&[1 << 20, 1 << 8, 0]).floats("w", &[1, 64, 0], &[]).floats("r", &[1, 64, 64], &[0.0; 4096]);
    refused(cell.node("RNN", &["x", "w", "r"], &["y"], &[("hidden_size", A::Int(64))]), "RNN");
    let scale = Builder::new().input("x", INT64, &[2]).ints("s", &[1]);
    refused(scale.node("DequantizeLinear", &["x", "s"], &["y"], &[]), "DequantizeLinear");
    // All of the operand is cut off, and what follows repeats its last element.
    let pads = x(&[3]).ints("p", &[i64::MIN, i64::MAX]);
    let pads = load(&pads.node("Pad", &["x", "p"], &["y"], &[("mode", A::Str("edge"))]).output("y")).unwrap();
    let input = TensorF::float(vec![3], DType::F32, vec![1.0, 2.0, 3.0]).unwrap();
    assert_eq!(float::run(&pads, &[input]).unwrap()[0].to_f64(), [3.0, 3.0]);
    // What a file may ask of the quantiser beyond the tensors that it has.
    let quantised = |b: Builder| quantise(&load(&b.output("y")).unwrap(), &[], &QuantOptions::default());
    let far = 1 << 40;
    let dilations = [("dilations", A::Ints(&[far])), ("pads", A::Ints(&[far - 1, 0]))];
    let spread = x(&[1, 1, 2]).floats("w", &[1, 1, 2], &[1.0, 2.0]);
    let spread = spread.node("ConvTranspose", &["x", "w"], &["y"], &dilations);
    assert!(matches!(quantised(spread), Err(QuantError::Unsupported { .. } | QuantError::Layer { .. })));
    let sum = x(&[1 << 20]).ints("axis", &[0]).node("CumSum", &["x", "axis"], &["y"], &[]);
    assert!(matches!(quantised(sum), Err(QuantError::Layer { .. })));
    let nothing = x(&[0, 1, 2, 2]);
    let window = [("kernel_shape", A::Ints(&[2, 2])), ("pads", A::Ints(&[1, 1, 1, 1]))];
    assert!(quantised(nothing.node("AveragePool", &["x"], &["y"], &window)).is_err());
    for k in [i64::MIN, i64::MAX] {
        let eye = load(&x(&[2, 2]).node("EyeLike", &["x"], &["y"], &[("k", A::Int(k))]).output("y")).unwrap();
        let input = TensorF::zeros(vec![2, 2], DType::F32).unwrap();
        assert_eq!(float::run(&eye, &[input]).unwrap()[0].to_f64(), [0.0; 4]);
    }
}

#[test]
fn unsupported_nodes_are_listed_together() {
    let b = Builder::new()
        .input("x", FLOAT, &[2])
        .input("n", INT64, &[1])
        .node("NonMaxSuppression", &["x", "x"], &["a"], &[])
        .node("Relu", &["a"], &["after"], &[])
        .node("Reshape", &["x", "n"], &["b"], &[])
        .node("FromTheFuture", &["x"], &["c"], &[])
        .output("after")
        .output("b")
        .output("c");
    let Err(ImportError::Unsupported(list)) = load(&b) else { panic!("imported") };
    let ops: Vec<&str> = list.0.iter().map(|u| u.op.as_str()).collect();
    assert_eq!(ops, ["NonMaxSuppression", "Reshape", "FromTheFuture"]);
    assert!(list.0[0].hint.is_some());
    assert!(list.0[1].reason.contains("`n`"));
    let text = ImportError::Unsupported(list).to_string();
    assert!(text.contains("NonMaxSuppression_0") && text.contains("FromTheFuture_3"));
}

#[test]
fn inputs_that_do_not_fit() {
    let m = model();
    let parse = |s: &str| parse_inputs(s, &m);
    assert!(matches!(parse("{"), Err(InputError::Json(_))));
    assert_eq!(parse("{}"), Err(InputError::NoData));
    assert_eq!(parse(r#"{"input_data": []}"#), Err(InputError::Count { expected: 1, got: 0 }));
    let two = r#"{"input_data": [[1, 2, 3], [4]]}"#;
    assert_eq!(parse(two), Err(InputError::Count { expected: 1, got: 2 }));
    assert_eq!(parse_inputs_with(two, &m, Surplus::Ignore).unwrap()[0].to_f64(), [1.0, 2.0, 3.0]);
    assert!(matches!(parse(r#"{"input_data": [[1, 2]]}"#), Err(InputError::Length { got: 2, .. })));
    assert!(matches!(parse(r#"{"input_data": [[[1], [2], [3]]]}"#), Err(InputError::Shape { .. })));
    assert_eq!(parse(r#"{"input_data": [[[1, 2, 3.5]]]}"#).unwrap()[0].to_f64(), [1.0, 2.0, 3.5]);
    for bad in ["NaN", "Infinity", "1e999"] {
        assert!(parse(&format!(r#"{{"input_data": [[1, 2, {bad}]]}}"#)).is_err(), "{bad}");
    }
    for bad in ["null", "\"nan\"", "\"-inf\"", "\"one\"", "1e39", "{}"] {
        let e = parse(&format!(r#"{{"input_data": [[1, 2, {bad}]]}}"#));
        assert!(matches!(e, Err(InputError::Element { index: 2, .. })), "{bad}: {e:?}");
    }
    let ints = Builder::new().input("n", INT64, &[1]).node("Neg", &["n"], &["y"], &[]).output("y");
    let ints = load(&ints).unwrap();
    assert!(matches!(parse_inputs(r#"{"input_data": [[1.5]]}"#, &ints), Err(InputError::Element { .. })));
    assert_eq!(parse_inputs(r#"{"input_data": [[true]]}"#, &ints).unwrap()[0].to_i64(), [1]);
}

#[test]
fn values_outside_the_calibrated_range() {
    let m = model();
    let sample = parse_inputs(r#"{"input_data": [[0.5, -0.25, 1.0]]}"#, &m).unwrap();
    let q = quantise(&m, std::slice::from_ref(&sample), &QuantOptions::default()).unwrap();
    let far = parse_inputs(r#"{"input_data": [[0.5, 100, 1.0]]}"#, &m).unwrap();
    let Err(EncodeError::Range { name, index, value, .. }) = q.encode_inputs(&far) else { panic!("encoded") };
    assert_eq!((name.as_str(), index, value), ("x", vec![0, 1], 100.0));
    let Err(ExecError::OutOfRange(e)) = exec::run(&q.program, &[vec![0, 1 << 40, 0]]) else { panic!("ran") };
    assert_eq!((e.layer.as_str(), e.index, e.value), ("input", vec![0, 1], 1 << 40));
    assert_eq!(exec::run(&q.program, &[]), Err(ExecError::InputCount { expected: 1, got: 0 }));
    assert!(matches!(exec::run(&q.program, &[vec![0]]), Err(ExecError::InputLength { .. })));
    // Every input within its range, but the layer outside: the error has the layer's name.
    let t = q.program.tensor(q.program.inputs[0]);
    let extreme = vec![vec![t.hi, t.lo, t.hi]];
    if let Err(e) = exec::run(&q.program, &extreme) {
        assert!(matches!(e, ExecError::OutOfRange(e) if e.layer.starts_with("Relu")));
    }
}

#[test]
fn options_are_checked() {
    let m = model();
    for options in [
        QuantOptions { activation_bits: 0, ..Default::default() },
        QuantOptions { weight_bits: 40, ..Default::default() },
        QuantOptions { headroom: f64::NAN, ..Default::default() },
        QuantOptions { headroom: 0.5, ..Default::default() },
        QuantOptions { max_knots: 0, ..Default::default() },
    ] {
        assert!(matches!(quantise(&m, &[], &options), Err(QuantError::Option { .. })), "{options:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Damaged files are imported or refused, and never anything else.
    #[test]
    fn damaged_files_do_not_panic(at in 0usize..1000, bit in 0u8..8, cut in 0usize..1000, flip in any::<bool>()) {
        let mut bytes = mlp().bytes();
        if flip {
            let i = at % bytes.len();
            bytes[i] ^= 1 << bit;
        } else {
            bytes.truncate(cut % bytes.len());
        }
        let limits = Limits { elements: 1 << 22, ..Limits::default() };
        if let Ok(m) = import(&bytes, &ImportOptions { limits, ..Default::default() }) {
            let _ = quantise(&m, &[], &QuantOptions::default());
        }
    }

    /// Damaged inputs are parsed or refused.
    #[test]
    fn damaged_inputs_do_not_panic(at in 0usize..100, byte in any::<u8>()) {
        let mut text = br#"{"input_data": [[0.5, -0.25, 1e0]], "other": null}"#.to_vec();
        let i = at % text.len();
        text[i] = byte;
        let _ = parse_inputs(&String::from_utf8_lossy(&text), &model());
    }
}

#[test]
fn damaged_example_models_do_not_panic() {
    let Some(models) = front_common::shared().map(|d| d.join("models/ezkl-examples")) else { return };
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    for name in ["1l_average", "lstm", "hummingbird_decision_tree", "4l_relu_conv_fc", "layernorm"] {
        let bytes = std::fs::read(models.join(name).join("network.onnx")).unwrap();
        let limits = Limits { elements: 1 << 22, ..Limits::default() };
        let options = ImportOptions { limits, ..Default::default() };
        for k in 0..200 {
            let mut b = bytes.clone();
            if k % 2 == 0 {
                b.truncate(next(bytes.len()));
            } else {
                let i = next(b.len());
                b[i] ^= 1 << next(8);
            }
            if let Ok(m) = import(&b, &options) {
                let _ = quantise(&m, &[], &QuantOptions::default());
            }
        }
    }
}
