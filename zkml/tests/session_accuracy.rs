//! A run that is not what the model computes is refused, and says where it went wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT};
use front_common::shared;
use parhelion_zkml::input::Surplus;
use parhelion_zkml::onnx::{DType, ImportOptions, TensorF};
use parhelion_zkml::quant::QuantOptions;
use parhelion_zkml::session::{Accuracy, Cache, Options, Session, SessionError};

fn session() -> Session {
    Session::new(parhelion_backends::default_engine().unwrap().clone(), Cache::none())
}

/// The comparison of a model on its only sample, with so many bits.
fn measured(b: &Builder, input: &[f64], options: &Options) -> Accuracy {
    let path = std::env::temp_dir().join(format!(
        "parhelion-accuracy-{}-{:?}.onnx",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, b.bytes()).unwrap();
    let mut session = session();
    let imported = session.import(&path, &ImportOptions::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let sample = vec![TensorF::float(vec![input.len()], DType::F32, input.to_vec()).unwrap()];
    let quantised = session.quantise(imported, std::slice::from_ref(&sample), options).unwrap();
    session.accuracy(&quantised, &[sample]).unwrap()
}

fn bits(activation: u32, input: u32) -> Options {
    let quant = QuantOptions {
        activation_bits: activation,
        input_bits: input,
        output_bits: activation.max(2),
        ..QuantOptions::default()
    };
    Options { quant, refine: false, ..Options::default() }
}

/// A function that coarse numbers lose, and a product that only passes it on.
fn chain() -> Builder {
    Builder::new()
        .input("x", FLOAT, &[4])
        .floats("w", &[4, 2], &[1.0, 0.5, 0.25, -1.0, 0.5, 0.5, 1.0, 2.0])
        .node("Tanh", &["x"], &["t"], &[])
        .node("MatMul", &["t", "w"], &["y"], &[])
        .output("y")
}

#[test]
fn too_coarse_numbers_are_refused_with_the_layer() {
    let x = [0.021, 0.033, -0.027, 0.012];
    let fine = measured(&chain(), &x, &Options::default());
    fine.check(None).unwrap();
    assert!(fine.layers.iter().any(|l| l.value == "t" && l.rounding > 0.0), "{fine:?}");
    let coarse = measured(&chain(), &x, &bits(5, 16));
    let error = coarse.check(None).unwrap_err();
    let SessionError::Inaccurate(inaccurate) = &error else { unreachable!("{error}") };
    let (layer, _) = inaccurate.layer.as_ref().unwrap();
    assert_eq!(layer.value, "t", "{error}");
    let said = error.to_string();
    for part in ["output `y`", "Layer `", "--accept-error", "calibrate"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    coarse.check(Some(coarse.share())).unwrap();
    coarse.check(Some(coarse.share() / 2.0)).unwrap_err();
    let json = serde_json::to_value(&coarse).unwrap();
    assert!(json["layers"][0]["max_abs_error"].is_number() && json["outputs"][0]["share"].is_number());
}

#[test]
fn numbers_get_finer_where_the_samples_need_it() {
    let x = [0.021, 0.033, -0.027, 0.012];
    let coarse = bits(5, 16);
    measured(&chain(), &x, &coarse).check(None).unwrap_err();
    let refined = measured(&chain(), &x, &Options { refine: true, ..coarse.clone() });
    refined.check(None).unwrap();
    assert!(refined.layers.iter().any(|l| l.value == "t" && l.scale >= 18), "{refined:?}");
    // What is accepted asks for nothing finer, and what is fine enough stays.
    let accepting = Options { refine: true, accept_error: Some(2.0), ..coarse };
    assert!(measured(&chain(), &x, &accepting).share() > 0.01);
    let plain = measured(&chain(), &x, &Options { refine: false, ..Options::default() });
    assert_eq!(measured(&chain(), &x, &Options::default()), plain);
}

#[test]
fn what_the_float_model_makes_infinite_is_no_number() {
    let b = Builder::new()
        .input("x", FLOAT, &[2])
        .floats("c", &[2], &[f32::NEG_INFINITY, 0.0])
        .node("Add", &["x", "c"], &["y"], &[])
        .output("y");
    let path = std::env::temp_dir().join(format!("parhelion-infinite-{}.onnx", std::process::id()));
    std::fs::write(&path, b.bytes()).unwrap();
    let mut session = session();
    let imported = session.import(&path, &ImportOptions::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let sample = vec![TensorF::float(vec![2], DType::F32, vec![1.0, 2.0]).unwrap()];
    // Refused before, or by the comparison.
    if let Ok(q) = session.quantise(imported, std::slice::from_ref(&sample), &Options::default()) {
        let accuracy = session.accuracy(&q, &[sample]).unwrap();
        assert_eq!(accuracy.max_abs_error(), f64::INFINITY);
        accuracy.check(None).unwrap_err();
        accuracy.check(Some(1.0)).unwrap_err();
    }
}

#[test]
fn softmax_keeps_its_greatest_score() {
    let b = Builder::new()
        .input("x", FLOAT, &[4])
        .node("Softmax", &["x"], &["y"], &[("axis", A::Int(0))])
        .output("y");
    measured(&b, &[0.1, 0.100_001, 0.1, -1.0], &Options::default()).check(None).unwrap();
}

#[test]
fn no_example_of_ezkl_is_refused() {
    let Some(root) = shared().map(|s| s.join("models/ezkl-examples")) else { return };
    // Large ones take minutes without telling more.
    let large = ["nanoGPT", "mobilenet", "stable_diffusion", "reducel1_fp16"];
    let mut refused = Vec::new();
    let mut session = session();
    for entry in std::fs::read_dir(&root).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let file = dir.join("network.onnx");
        if large.contains(&name.as_str()) || std::fs::metadata(&file).map_or(true, |m| m.len() > 4 << 20) {
            continue;
        }
        let imported = session.import(&file, &ImportOptions::default()).unwrap();
        let sample = session.input(&imported, &dir.join("input.json"), Surplus::Ignore).unwrap();
        let quantised =
            session.quantise(imported, std::slice::from_ref(&sample), &Options::default()).unwrap();
        if let Err(e) = session.accuracy(&quantised, &[sample]).unwrap().check(None) {
            refused.push(format!("{name}: {e}"));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
