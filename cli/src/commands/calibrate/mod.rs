//! `parhelion calibrate`
//!
//! The trials of a search are kept in the output directory while it runs; a search that was cut short goes on where it stopped, if model, samples and goal are
//! the same.

mod data;
mod npy;
mod page;
mod svg;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::onnx::TensorF;
use parhelion_zkml::quant::calibrate::{
    Calibrated, Frame, Goal, Metric, Samples, Score, Size, Trial, calibrate,
};
use parhelion_zkml::session::{
    self, Accuracy, Cache, Kind, Options, digest_hex, read_limited, write_atomic, write_json,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::common;
use crate::args::{Calibrate, MetricArg};
use crate::ui;

const CALIBRATION_JSON: &str = "calibration.json";
const REPORT_JSON: &str = "report.json";
const REPORT_HTML: &str = "report.html";
const TRIALS_JSON: &str = "trials.json";

/// Most bytes of the kept trials.
const LIMIT: u64 = 1 << 30;

/// Trials that are kept between runs.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Digest of everything that a trial depends on.
    search: String,
    trials: Vec<Trial>,
}

pub(super) fn run(args: &Calibrate, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let metric = match args.metric {
        MetricArg::Top1 => Metric::Top1,
        MetricArg::MaxAbs => Metric::MaxAbs,
        MetricArg::Mse => Metric::Mse,
    };
    let budget = args.budget.unwrap_or(match metric {
        Metric::Top1 => 0.5,
        Metric::MaxAbs => 1e-3,
        Metric::Mse => 1e-6,
    });
    let goal =
        Goal { trials: args.trials as usize, cover_cost: args.cover_cost, ..Goal::new(metric, budget) };
    let frame = Frame { visibility: common::visibility(&args.visibility)?, max_k: args.max_k };
    let mut session = common::session(engine, cache);
    let mut import = common::import_options(&args.inputs)?;
    import.given = data::outline(args)?;
    let imported = session.import(&args.model, &import)?;
    ui::phase("reading samples");
    let samples = data::load(args, &imported.model)?;
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let kept_at = args.out.join(TRIALS_JSON);
    let search = search_digest(&imported.hash, &samples, &goal, &frame);
    let known = if args.fresh { Vec::new() } else { kept(&kept_at, &search)? };
    if !known.is_empty() {
        tracing::info!("going on after {} trials", known.len());
    }
    ui::phase("measuring ranges");
    let mut kept = Kept { search, trials: Vec::new() };
    let mut failure = None;
    let mut observe = |trial: &Trial, n: usize, of: usize| {
        ui::progress(n, of, describe(trial, metric));
        kept.trials.push(trial.clone());
        // Trials of the earlier run are in the file already.
        if n <= known.len() {
            return true;
        }
        let written = serde_json::to_vec(&kept)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Ok(write_atomic(&kept_at, &[&bytes])?));
        failure = written.err();
        failure.is_none()
    };
    let outcome = calibrate(&imported.model, &samples, &goal, &frame, &known, &mut observe);
    if let Some(e) = failure {
        return Err(e);
    }
    let mut calibrated = outcome?;
    calibrated.calibration.model_hash.clone_from(&imported.hash);
    let settings =
        Options { calibration: Some(Arc::new(calibrated.calibration.clone())), ..Options::default() };
    let quantised = session.quantise(imported.clone(), &[], &settings)?;
    calibrated.calibration.accepted_error = accepted(&session.accuracy(&quantised, &samples.inputs)?);
    write_json(&args.out.join(CALIBRATION_JSON), Kind::Calibration, &calibrated.calibration)?;
    let report = report(args, &imported.hash, &goal, &calibrated);
    write_atomic(&args.out.join(REPORT_JSON), &[serde_json::to_string_pretty(&report)?.as_bytes()])?;
    let page = page::page(&args.model.display().to_string(), &goal, &calibrated);
    write_atomic(&args.out.join(REPORT_HTML), &[page.as_bytes()])?;
    // Everything is written: the next search starts afresh.
    fs::remove_file(&kept_at).with_context(|| kept_at.display().to_string())?;
    if args.json {
        ui::out(report.to_string());
    } else {
        print(args, &goal, &calibrated);
    }
    Ok(())
}

/// What settings accept, where a metric allows more than runs may be off by default: twice the greatest difference of the samples.
fn accepted(accuracy: &Accuracy) -> Option<String> {
    let share = accuracy.share();
    (share.is_finite() && accuracy.check(None).is_err())
        .then(|| format!("{:.3}", (2.0 * share).max(session::LIMIT)))
}

/// What a trial depends on.
fn search_digest(model: &str, samples: &Samples, goal: &Goal, frame: &Frame) -> String {
    let goal = format!("{} {:?} {frame:?}", goal.metric.name(), goal.budget);
    let labels = format!("{:?}", samples.labels);
    let bytes = |t: &TensorF| t.to_f64().into_iter().flat_map(f64::to_le_bytes).collect::<Vec<u8>>();
    let values: Vec<u8> = samples.inputs.iter().flatten().flat_map(bytes).collect();
    let version = env!("CARGO_PKG_VERSION");
    digest_hex(&[version.as_bytes(), model.as_bytes(), goal.as_bytes(), labels.as_bytes(), &values])
}

/// The trials of an earlier run of the same search.
fn kept(path: &Path, search: &str) -> Result<Vec<Trial>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = read_limited(path, LIMIT)?;
    Ok(match serde_json::from_slice::<Kept>(&bytes) {
        Ok(kept) if kept.search == search => kept.trials,
        Ok(_) => Vec::new(),
        Err(e) => {
            tracing::warn!("{}: not read, the search starts afresh: {e}", path.display());
            Vec::new()
        }
    })
}

/// A loss in its own unit.
fn loss(metric: Metric, v: f64) -> String {
    match metric {
        Metric::Top1 => format!("{v:.2} points"),
        _ => format!("{v:.1e}"),
    }
}

fn describe(t: &Trial, metric: Metric) -> String {
    let o = &t.options;
    let bits = format!("{}/{}/{}/{} bits", o.input_bits, o.activation_bits, o.weight_bits, o.output_bits);
    let score = t.score.map_or("does not run".to_owned(), |s| loss(metric, s.loss(metric)));
    let size = t.size.map_or(String::new(), |s| format!(", k = {}, {} rows", s.k, s.rows));
    format!("{bits}: {score}{size}")
}

fn score_json(s: &Score) -> Value {
    json!({
        "samples": s.samples, "failed": s.failed, "float_top1": s.float_top1, "top1": s.top1,
        "max_abs_error": s.max_abs, "mse": s.mse,
    })
}

fn size_json(s: &Size) -> Value {
    json!({"k": s.k, "rows": s.rows, "advice": s.advice, "cost": s.cost})
}

fn report(args: &Calibrate, hash: &str, goal: &Goal, c: &Calibrated) -> Value {
    let layers: Vec<Value> = c
        .quantised
        .report
        .iter()
        .map(|r| {
            json!({
                "name": r.name, "scale": r.scale, "bits": r.bits, "observed": r.observed,
                "max_abs_error": r.max_abs_error,
            })
        })
        .collect();
    let trials: Vec<Value> = c
        .trials
        .iter()
        .map(|t| {
            json!({
                "options": t.options, "score": t.score.as_ref().map(score_json),
                "size": t.size.as_ref().map(size_json),
            })
        })
        .collect();
    let (score, size) = &c.baseline;
    json!({
        "model": common::shown(&args.model), "model_hash": hash, "metric": goal.metric.name(), "budget": goal.budget,
        "loss": c.score.loss(goal.metric), "options": c.options, "score": score_json(&c.score),
        "held_out": c.held_out.as_ref().map(score_json), "size": size_json(&c.size),
        "default": {"score": score_json(score), "size": size_json(size)},
        "rows_saved": size.rows as i64 - c.size.rows as i64, "cost_ratio": c.size.cost / size.cost,
        "every_input_provable": c.quantised.restricted.is_empty(), "restricted_layers": c.quantised.restricted,
        "layers": layers, "plan": c.plan, "histograms": c.histograms, "trials": trials,
        "out": common::shown(&args.out),
    })
}

fn print(args: &Calibrate, goal: &Goal, c: &Calibrated) {
    let (score, size) = &c.baseline;
    let mut table = ui::Table::new(["", "default", "calibrated"]);
    let bits = |i: u32, a: u32, w: u32, o: u32| format!("{i} / {a} / {w} / {o}");
    let o = &c.options;
    let d = parhelion_zkml::quant::QuantOptions::default();
    table.row([
        "bits of inputs / activations / weights / outputs".to_owned(),
        bits(d.input_bits, d.activation_bits, d.weight_bits, d.output_bits),
        bits(o.input_bits, o.activation_bits, o.weight_bits, o.output_bits),
    ]);
    table.row(["k".to_owned(), size.k.to_string(), c.size.k.to_string()]);
    table.row(["rows".to_owned(), size.rows.to_string(), c.size.rows.to_string()]);
    table.row(["columns".to_owned(), size.advice.to_string(), c.size.advice.to_string()]);
    table.row(["predicted cost".to_owned(), "1.00".to_owned(), format!("{:.2}", c.size.cost / size.cost)]);
    table.row([
        format!("loss ({})", goal.metric.name()),
        loss(goal.metric, score.loss(goal.metric)),
        loss(goal.metric, c.score.loss(goal.metric)),
    ]);
    if let Some(h) = &c.held_out {
        let text = loss(goal.metric, h.loss(goal.metric));
        table.row(["  on samples that took no part".to_owned(), String::new(), text]);
    }
    table.print();
    ui::out("");
    ui::out(match c.quantised.restricted.len() {
        0 => "every input can be proven; elements past their range are moved to its end".to_owned(),
        n => format!(
            "{n} layers check a range with a margin of {} over the samples; inputs beyond are refused by name",
            c.options.headroom
        ),
    });
    ui::out(format!("{} trials; written to {}", c.trials.len(), args.out.display()));
    ui::out(format!(
        "next: parhelion setup {} --settings {} --out DIR",
        args.model.display(),
        args.out.join(CALIBRATION_JSON).display()
    ));
}
