//! The float and the integer executor against ONNX Runtime's outputs on the shared example models.

mod front_common;

use front_common::{ReferenceModel, reference_models};
use parhelion_zkml::float;

/// Largest difference relative to the magnitude of the reference.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    got.iter().zip(want).map(|(g, w)| (g - w).abs() / scale).fold(0.0, f64::max)
}

#[test]
fn the_float_executor_agrees_with_onnx_runtime() {
    let Some(models) = reference_models() else { return };
    let (mut compared, mut failures) = (0, Vec::new());
    for ReferenceModel { name, model, inputs, outputs } in models {
        let (model, inputs) = match (model, inputs) {
            (Ok(m), Some(Ok(i))) => (m, i),
            (Err(e), _) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
            (_, i) => {
                failures.push(format!("{name}: {i:?}"));
                continue;
            }
        };
        match float::run(&model, &inputs) {
            Err(e) => failures.push(format!("{name}: {e}")),
            Ok(got) => {
                compared += 1;
                for (g, w) in got.iter().zip(&outputs) {
                    if g.shape != w.shape {
                        failures.push(format!("{name}: shape {:?} instead of {:?}", g.shape, w.shape));
                    }
                    let d = distance(&g.to_f64(), &w.data);
                    if d.is_nan() || d > 2e-6 {
                        failures.push(format!("{name}: differs by {d:e}"));
                    }
                }
            }
        }
    }
    println!("{compared} models compared");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
