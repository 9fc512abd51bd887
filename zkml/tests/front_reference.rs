//! The float and the integer executor against ONNX Runtime's outputs on the shared example models.

mod front_common;

use std::collections::HashMap;
use std::time::Instant;

use front_common::{ReferenceModel, reference_models, shared};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float};

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

/// Greatest error of ezkl on each model, by name, where the table has one.
fn baseline() -> HashMap<String, f64> {
    let Some(text) = shared().and_then(|d| std::fs::read_to_string(d.join("baselines/ezkl.csv")).ok()) else {
        return HashMap::new();
    };
    let rows = text.lines().skip(1).map(|l| l.split(',').collect::<Vec<_>>());
    rows.filter_map(|r| Some((r[0].to_owned(), r.get(11)?.parse().ok()?))).collect()
}

#[test]
fn the_integer_executor_stays_near_the_reference() {
    let Some(models) = reference_models() else { return };
    let baseline = baseline();
    let (mut ran, mut both, mut better, mut failures) = (0, 0, 0, Vec::new());
    for ReferenceModel { name, model, inputs, outputs } in models {
        let (Ok(model), Some(Ok(inputs))) = (model, inputs) else { continue };
        let start = Instant::now();
        let result = quantise(&model, std::slice::from_ref(&inputs), &QuantOptions::default())
            .map_err(|e| e.to_string())
            .and_then(|q| {
                let calibrated = start.elapsed();
                let encoded = q.encode_inputs(&inputs).map_err(|e| e.to_string())?;
                let start = Instant::now();
                let trace = exec::run(&q.program, &encoded).map_err(|e| e.to_string())?;
                Ok((q, trace, calibrated, start.elapsed()))
            });
        let (q, trace, calibrated, run) = match result {
            Ok(r) => r,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        ran += 1;
        let decoded = q.decode_outputs(&trace);
        let mut worst = 0f64;
        for (g, w) in decoded.iter().zip(&outputs) {
            assert_eq!(g.shape, w.shape, "{name}");
            for (g, w) in g.to_f64().iter().zip(&w.data) {
                worst = worst.max((g - w).abs());
            }
        }
        let peer = baseline.get(&name).copied();
        if let Some(p) = peer {
            both += 1;
            // The peer's figures are rounded to three digits.
            better += i32::from(worst <= p * 1.005);
        }
        let cells: usize = q.program.tensors.iter().map(|t| t.len()).sum();
        println!(
            "{name:28} error {worst:9.2e} {} {:9.2e}  ops {:5} elements {cells:8} quantise {calibrated:?} run {run:?}",
            if peer.is_some_and(|p| worst > p * 1.005) { "> ezkl" } else { "      " },
            peer.unwrap_or(f64::NAN),
            q.program.ops.len(),
        );
        if worst.is_nan() || worst > 2e-3 {
            failures.push(format!("{name}: error {worst:e}"));
        }
    }
    println!("{ran} models ran, {better} of {both} no further from the reference than ezkl");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if std::env::var_os("PARHELION_MODEL").is_none() {
        assert!(better * 10 >= both * 9, "{better} of {both}");
    }
}
