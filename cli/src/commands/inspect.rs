//! `parhelion inspect`

use std::collections::HashMap;

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::input::Surplus;
use parhelion_zkml::machine::{Exposure, Vis};
use parhelion_zkml::qir::{Activation, Op, OpKind, Tensor, TensorId, Term};
use parhelion_zkml::session::{Accuracy, Cache, Port};
use serde_json::{Value, json};

use super::common;
use crate::args::Inspect;
use crate::{process, ui};

/// What is told about one layer.
struct Line {
    name: String,
    op: String,
    shape: String,
    scale: Option<i32>,
    bounds: String,
    cells: usize,
    rows: usize,
    lookups: usize,
    scalar_rows: usize,
    weights: usize,
    share: f64,
    predicted: f64,
    measured: Option<f64>,
}

pub(super) fn run(args: &Inspect, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let options = common::options(&args.options)?;
    let mut session = common::session(engine, cache);
    let imported = session.import_for(&args.model, &options.import, args.input.as_deref())?;
    let samples = match &args.input {
        Some(path) => vec![session.input(&imported, path, Surplus::Refuse)?],
        None => Vec::new(),
    };
    let parameters = imported.model.parameter_count();
    let prepared = session.prepare(imported, &samples, &options)?;
    let accuracy = session.accuracy(&prepared.quantised, &samples)?;
    let report = prepared.plan.report();
    let program = prepared.quantised.program();
    let exposure = Exposure::of(program, &prepared.visibility)?;
    let ports =
        |ids: &[TensorId], seen: &[Vis]| Port::seen(program, ids.iter().copied().zip(seen.iter().copied()));
    let memory = prepared.memory();
    let measured = match samples.first().filter(|_| args.measure) {
        Some(input) => {
            let srs = session.srs(None, prepared.k())?;
            let keys = session.keys(&prepared, &srs)?;
            let witness = session.witness(&prepared.quantised, input)?;
            let proof = session.prove(&prepared, &keys, &witness)?;
            session.verify(&keys, &proof)?;
            Some((report.measured(&proof.report), proof.report))
        }
        None => None,
    };
    // The first of each name.
    let ops: HashMap<&str, &Op> = program.ops.iter().rev().map(|op| (op.name.as_str(), op)).collect();
    let tensors: HashMap<&str, &Tensor> =
        program.tensors.iter().rev().map(|t| (t.name.as_str(), t)).collect();
    let lines: Vec<Line> = report
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| {
            let op = ops.get(layer.name.as_str()).copied();
            let tensor = match op.and_then(|op| op.outputs.first()) {
                Some(&id) => Some(program.tensor(id)),
                None => tensors.get(layer.name.as_str()).copied(),
            };
            Line {
                name: layer.name.clone(),
                op: op.map_or("import".to_owned(), |op| describe(&op.kind)),
                shape: tensor.map(|t| shape(&t.shape)).unwrap_or_default(),
                scale: tensor.map(|t| t.scale),
                bounds: tensor.map(|t| format!("[{}, {}]", t.lo, t.hi)).unwrap_or_default(),
                cells: layer.cells,
                rows: layer.rows,
                lookups: layer.lookups,
                scalar_rows: layer.scalar_rows,
                weights: layer.weights,
                share: layer.share,
                predicted: layer.share * report.cost,
                measured: measured.as_ref().and_then(|(times, _)| times.get(at).copied()),
            }
        })
        .collect();
    if args.json {
        let layers: Vec<Value> = lines
            .iter()
            .map(|l| {
                json!({
                    "name": l.name, "op": l.op, "shape": l.shape, "scale": l.scale, "bounds": l.bounds,
                    "cells": l.cells, "rows": l.rows, "lookups": l.lookups, "scalar_rows": l.scalar_rows,
                    "weights": l.weights,
                    "share": l.share, "predicted_ms": l.predicted, "measured_ms": l.measured,
                })
            })
            .collect();
        ui::out(
            json!({
                "model": common::shown(&args.model), "parameters": parameters, "k": report.k,
                "columns": {"advice": report.advice, "phase2": report.late, "fixed": report.fixed,
                    "permutation": report.equality},
                "rows_used": prepared.rows_used(), "rows": 1u64 << report.k, "table_entries": report.table_entries,
                "stored_weights": report.stored_weights, "instance": report.instance,
                "inputs": ports(&program.inputs, &exposure.inputs),
                "outputs": ports(&program.outputs, &exposure.outputs),
                "accuracy": (!samples.is_empty()).then_some(&accuracy),
                "layers": layers, "predicted_ms": report.cost, "predicted": report.predicted,
                "predicted_memory_bytes": {"keys": memory.keygen, "proof": memory.prove, "peak": memory.peak()},
                "proof_bytes": report.counts.proof_bytes(), "degree": report.counts.degree,
                "measured_ms": measured.as_ref().map(|(_, proof)| proof.total.as_secs_f64() * 1e3),
                "timings_ms": common::timings_json(session.timings()), "peak_rss_mb": process::peak_rss_mb(),
            })
            .to_string(),
        );
        return Ok(());
    }
    let mut table = ui::Table::new([
        "layer",
        "operation",
        "shape",
        "scale",
        "cells",
        "rows",
        "lookups",
        "weights",
        "share",
        "predicted",
        if measured.is_some() { "measured" } else { "" },
    ]);
    for l in &lines {
        table.row([
            l.name.clone(),
            l.op.clone(),
            l.shape.clone(),
            l.scale.map_or(String::new(), |s| s.to_string()),
            l.cells.to_string(),
            l.rows.to_string(),
            l.lookups.to_string(),
            l.weights.to_string(),
            format!("{:.1} %", 100.0 * l.share),
            format!("{:.1} ms", l.predicted),
            l.measured.map_or(String::new(), |t| format!("{t:.1} ms")),
        ]);
    }
    table.print();
    ui::out("");
    ui::out(format!("{parameters} parameters, {} of them in store columns", report.stored_weights));
    ui::out(format!(
        "k = {}: {} of {} rows used; {} advice, {} later-phase, {} fixed columns, {} in the permutation; {} table entries",
        report.k,
        prepared.rows_used(),
        1u64 << report.k,
        report.advice,
        report.late,
        report.fixed,
        report.equality,
        report.table_entries,
    ));
    ui::out(format!(
        "memory: about {} to make keys, {} to prove",
        ui::bytes(memory.keygen),
        ui::bytes(memory.prove)
    ));
    ui::out(format!(
        "predicted: {:.0} ms on two cores, a proof of {} bytes; quotient {:.0} ms, commitments {:.0} ms",
        report.cost,
        report.counts.proof_bytes(),
        report.predicted.quotient,
        report.predicted.commit + report.predicted.permutation + report.predicted.commit_quotient,
    ));
    if let Some((_, proof)) = &measured {
        ui::out(format!("measured: {:.0} ms", proof.total.as_secs_f64() * 1e3));
    }
    let took = session.timings().total().as_secs_f64();
    let memory =
        process::peak_rss_mb().map_or(String::new(), |mb| format!(", {mb:.0} MiB of memory at most"));
    ui::out(format!("all of this took {took:.1} s{memory}"));
    errors(&accuracy);
    interface("input", &Port::of(program, &program.inputs));
    interface("output", &Port::of(program, &program.outputs));
    Ok(())
}

/// How far each layer is from the float model, over the input that was given.
fn errors(accuracy: &Accuracy) {
    if accuracy.layers.is_empty() {
        return;
    }
    ui::out("");
    let mut table =
        ui::Table::new(["layer", "value", "scale", "rounding", "saturated", "error", "of the largest value"]);
    for l in &accuracy.layers {
        table.row([
            l.layer.clone(),
            l.value.clone(),
            l.scale.to_string(),
            format!("{:.1e}", l.rounding),
            l.saturated.to_string(),
            format!("{:.1e}", l.difference.max_abs_error),
            format!("{:.4} %", 100.0 * l.difference.share),
        ]);
    }
    table.print();
    ui::out("");
    ui::out(common::difference(accuracy));
}

fn interface(what: &str, ports: &[Port]) {
    for port in ports {
        ui::out(format!(
            "{what} {}: {}, scale 2^{}, elements in [{}, {}]",
            port.name,
            shape(&port.shape),
            port.scale,
            port.lo,
            port.hi
        ));
    }
}

fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

fn describe(kind: &OpKind) -> String {
    match kind {
        OpKind::View { .. } => "view".into(),
        OpKind::Linear { terms, shift, activation, .. } => {
            let mut words: Vec<&str> = terms
                .iter()
                .map(|t| match t {
                    Term::Einsum { .. } => "matmul",
                    Term::Conv { .. } => "conv",
                    Term::SumPool { .. } => "sum-pool",
                    Term::Sum { .. } => "sum",
                    Term::Scale { .. } => "scale",
                    Term::Product { .. } => "product",
                })
                .collect();
            words.dedup();
            let mut text = words.join("+");
            if *shift > 0 {
                text += &format!(" >>{shift}");
            }
            if *activation == Activation::Relu {
                text += " relu";
            }
            text
        }
        OpKind::Lookup { table, .. } => format!("table of {}", table.len()),
        OpKind::Interpolate { values, .. } => format!("interpolation of {}", values.len()),
        OpKind::Step { .. } => "step".into(),
        OpKind::Div { .. } => "div".into(),
        OpKind::Sqrt { .. } => "sqrt".into(),
        OpKind::Max { .. } => "max".into(),
        OpKind::ArgMax { .. } => "argmax".into(),
        OpKind::Sort { .. } => "sort".into(),
        OpKind::Gather { .. } => "gather".into(),
    }
}
