//! Plans and witnesses of the shared example models.
//!
//! `cargo test --release -p parhelion-zkml --test machine_examples -- --ignored --nocapture` prints a row per model; `MODEL=name` runs one, and
//! `PROVE=1` proves as well, `UNITS=n` and `CHOICE=json` decide for the planner, `LAYERS=1` shows the rows of every layer.

mod front_common;
mod machine_common;

use std::time::Instant;

use front_common::{ReferenceModel, reference_models};
use machine_common::{engine, rng, second, srs};
use parhelion_prover::ProofTranscript;
use parhelion_zkml::exec;
use parhelion_zkml::machine::{Bench, PlanOptions, Visibility, keygen, plan, prove};
use parhelion_zkml::qir::OpKind;
use parhelion_zkml::quant::{QuantOptions, quantise};

#[test]
#[ignore = "needs the shared models and half a minute: cargo test --release -p parhelion-zkml --test machine_examples -- --ignored --nocapture"]
fn every_example_has_a_plan_whose_constraints_hold() {
    let Some(models) = reference_models() else { return };
    let only = std::env::var("MODEL").ok();
    let units = std::env::var("UNITS").ok().and_then(|u| u.parse().ok());
    let choice = std::env::var("CHOICE").ok().and_then(|c| serde_json::from_str(&c).ok());
    let options = PlanOptions { units, choice, ..PlanOptions::default() };
    let (mut done, mut failures) = (0, Vec::new());
    for ReferenceModel { name, model, inputs, .. } in models {
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (Ok(model), Some(Ok(inputs))) = (model, inputs) else { continue };
        let Ok(q) = quantise(&model, std::slice::from_ref(&inputs), &QuantOptions::default()) else {
            continue;
        };
        let encoded = q.encode_inputs(&inputs).unwrap();
        let Ok(trace) = exec::run(&q.program, &encoded) else { continue };
        let start = Instant::now();
        let plan = match plan(&q.program, &Visibility::default(), &options) {
            Ok(plan) => plan,
            Err(e) => {
                println!("{name:28} NO PLAN {e}");
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let planned = start.elapsed();
        let report = plan.report();
        println!(
            "{name:28} k {:2} advice {:3}+{:2} fixed {:3} equal {:2} rows {}/{}/{} tables {} of {} plan {planned:?} {:?}",
            report.k,
            report.advice,
            report.late,
            report.fixed,
            report.equality,
            report.unit_rows,
            report.bulk_rows,
            report.scalar_rows,
            report.table_entries,
            report.usable_rows,
            report.choice,
        );
        if std::env::var("LAYERS").is_ok() {
            for l in report.layers.iter().filter(|l| l.share > 0.002 || l.scalar_rows > 300) {
                println!(
                    "    {:40} {:8} elements {:8} cells {:8} rows {:5.1} % scalars {}",
                    l.name,
                    l.elements,
                    l.cells,
                    l.rows,
                    100.0 * l.share,
                    l.scalar_rows
                );
            }
        }
        if report.k <= 16 || only.is_some() {
            match Bench::new(&plan, &trace.values) {
                Ok(bench) => {
                    if let Some(v) = bench.violation(&[]) {
                        let (layer, element) = bench.describe(v.cell);
                        failures.push(format!("{name}: {} at {layer}, element {element}", v.constraint));
                        for op in q.program.ops.iter().filter(|op| op.name == layer) {
                            if let OpKind::Linear { terms, .. } = &op.kind {
                                println!(
                                    "    {layer}: {terms:?} to {:?}",
                                    q.program.tensor(op.outputs[0]).shape
                                );
                            }
                        }
                    }
                }
                Err(e) => failures.push(format!("{name}: {e}")),
            }
        }
        if std::env::var("PROVE").is_ok() {
            let start = Instant::now();
            let key = keygen(engine(), &srs(plan.k()), &plan).unwrap();
            let made = start.elapsed();
            match prove(engine(), &key, &plan, &trace.values, ProofTranscript::Blake2b, rng(1)) {
                Ok(proof) => {
                    assert!(second::both(&key, &proof.bytes, &proof.instances), "{name}");
                    println!(
                        "    keys {made:?} witness {:?} proof {} B, predicted {}\n{}",
                        proof.witness,
                        proof.bytes.len(),
                        report.counts.proof_bytes(),
                        proof.report
                    );
                    let stages: Vec<(&str, f64)> =
                        proof.report.stages.iter().map(|(s, t)| (s.name(), t.as_secs_f64() * 1e3)).collect();
                    println!(
                        "{}",
                        serde_json::json!({"model": name, "counts": report.counts, "predicted": report.predicted,
                        "witness": proof.witness.as_secs_f64() * 1e3, "stages": stages, "choice": report.choice})
                    );
                }
                Err(e) => failures.push(format!("{name}: {e}")),
            }
        }
        done += 1;
    }
    println!("{done} models, {} fail", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
