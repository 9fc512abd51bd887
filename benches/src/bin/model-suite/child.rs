//! The worker: one model, from the file to verified proofs, in the line protocol of [`crate::process`].

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::machine::PlanError;
use parhelion_zkml::onnx::ImportError;
use parhelion_zkml::quant::QuantError;
use parhelion_zkml::session::{Cache, Options, Phase, Session, SessionError};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Reference {
    outputs: Vec<ReferenceOutput>,
}

#[derive(Deserialize)]
struct ReferenceOutput {
    data: Vec<Value>,
}

/// Proves one model `proofs` times. What the model lacks is a result, not a failure of the worker.
#[expect(clippy::print_stdout, reason = "the line protocol")]
pub(crate) fn run(dir: &Path, proofs: u32) -> Result<bool> {
    let result = prove(dir, proofs).or_else(|e| {
        let unsupported = e.downcast_ref::<SessionError>().map(unsupported).unwrap_or_default();
        Ok::<_, anyhow::Error>(json!({
            "verified": false, "error": format!("{e:#}"), "unsupported": unsupported,
        }))
    })?;
    println!("{result}");
    Ok(true)
}

fn unsupported(error: &SessionError) -> Vec<String> {
    let list = match error {
        SessionError::Import { source: ImportError::Unsupported(list), .. } => list,
        SessionError::Quant(QuantError::Unsupported(list)) => list,
        SessionError::Plan(PlanError::Unsupported(what)) => return vec![what.clone()],
        _ => return Vec::new(),
    };
    list.0.iter().map(ToString::to_string).collect()
}

#[expect(clippy::print_stdout, reason = "the line protocol")]
fn prove(dir: &Path, proofs: u32) -> Result<Value> {
    let engine = parhelion_backends::default_engine()?.clone();
    let mut session = Session::new(engine, Cache::none());
    let options = Options::default();
    let input = dir.join("input.json");
    let imported = session.import_for(&dir.join("network.onnx"), &options.import, Some(&input))?;
    // Files beside ezkl's examples hold data for inputs that the exporter dropped.
    let input = session.input(&imported, &input, Surplus::Ignore)?;
    let prepared = session.prepare(imported, std::slice::from_ref(&input), &options)?;
    let srs = session.srs(None, prepared.k())?;
    let keys = session.keys(&prepared, &srs)?;
    let witness = session.witness(&prepared.quantised, &input)?;
    println!("ready");

    let mut lines = std::io::stdin().lock().lines();
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..proofs {
        if lines.next().is_none() {
            break;
        }
        let start = Instant::now();
        last = Some(session.prove(&prepared, &keys, &witness)?);
        let time = start.elapsed().as_secs_f64() * 1e3;
        println!("{time:.3}");
        times.push(time);
    }
    let proof = last.context("no proof was asked for")?;
    session.verify(&keys, &proof)?;

    let timings = session.timings();
    let ms = |phase| timings.get(phase).as_secs_f64() * 1e3;
    let outputs = prepared.quantised.outputs(&witness);
    Ok(json!({
        "verified": true, "k": prepared.k(), "rows_used": prepared.rows_used(),
        "prove_ms": times, "keygen_ms": ms(Phase::Keygen), "witness_ms": ms(Phase::Witness),
        "verify_ms": ms(Phase::Verify), "proof_bytes": proof.bytes.len(), "pk_bytes": keys.pk_len(),
        "max_abs_error": error(&dir.join("reference.json"), &outputs)?,
    }))
}

/// The largest difference from the float reference, if there is one.
fn error(path: &Path, outputs: &[Vec<f64>]) -> Result<Option<f64>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let reference: Reference = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    anyhow::ensure!(
        reference.outputs.len() == outputs.len(),
        "{}: {} outputs, the model has {}",
        path.display(),
        reference.outputs.len(),
        outputs.len()
    );
    let mut worst = 0f64;
    for (expected, found) in reference.outputs.iter().zip(outputs) {
        anyhow::ensure!(
            expected.data.len() == found.len(),
            "{}: an output of {} values, the model's has {}",
            path.display(),
            expected.data.len(),
            found.len()
        );
        for (value, found) in expected.data.iter().zip(found) {
            let value = match value {
                Value::Bool(b) => f64::from(u8::from(*b)),
                other => other.as_f64().context("a reference value is not a number")?,
            };
            worst = worst.max((value - found).abs());
        }
    }
    Ok(Some(worst))
}
