//! `parhelion explain`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::{Direction, QuotientShape, ScalarKind};
use parhelion_dispatch::{Decision, Engine, PolyCall, PolyShape, Query, Shape};
use serde_json::json;

use crate::args::Explain;
use crate::ui;

pub(crate) fn run(args: &Explain, engine: &Engine<G1Affine>) -> Result<()> {
    let (k, batch) = (args.k, args.batch);
    let mut queries = vec![
        Query::msm(1 << k, batch, ScalarKind::Full),
        Query::msm(1 << k, batch, ScalarKind::Unsigned { bits: 16 }),
        Query::ntt(k, batch, Direction::Inverse, false),
        Query::ntt(k, batch, Direction::Forward, true),
        // A program of the size that a circuit with this many columns has.
        Query::host(Shape::Quotient(QuotientShape {
            log_n: k,
            columns: batch,
            steps: 16 * batch,
            registers: 16,
        })),
    ];
    queries.extend(PolyCall::ALL.map(|call| Query::host(Shape::Poly(PolyShape { call, log_n: k, batch }))));
    let decisions: Vec<Decision> = queries.iter().map(|q| engine.explain(q)).collect();
    if args.json {
        let decisions: Vec<_> = decisions
            .iter()
            .map(|d| {
                let candidates: Vec<_> = d
                    .candidates
                    .iter()
                    .map(|c| {
                        json!({
                            "backend": c.backend, "space": c.space.to_string(),
                            "predicted_ms": c.predicted.map(|t| t.as_secs_f64() * 1e3),
                            "legal": c.verdict.is_ok(),
                            "why": c.verdict.as_ref().map_or_else(ToString::to_string, ToString::to_string),
                        })
                    })
                    .collect();
                json!({
                    "op": d.query.shape.op().name(), "variant": d.query.shape.variant(),
                    "chosen": d.chosen().map(|c| c.backend), "candidates": candidates,
                })
            })
            .collect();
        ui::out(json!({"k": k, "batch": batch, "decisions": decisions}).to_string());
        return Ok(());
    }
    for decision in decisions {
        ui::out(decision.to_string().trim_end());
    }
    Ok(())
}
