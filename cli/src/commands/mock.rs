//! `parhelion mock`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::exec::ExecError;
use parhelion_zkml::machine::{MockError, ProveError};
use parhelion_zkml::quant::{EncodeError, QuantError};
use parhelion_zkml::session::{Cache, SessionError};
use serde_json::{Value, json};

use super::common;
use crate::args::Mock;
use crate::ui;

pub(super) fn run(args: &Mock, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let outcome = check(args, engine, cache);
    match &outcome {
        Ok(k) if args.json => {
            ui::out(json!({"model": common::shown(&args.model), "holds": true, "k": k}).to_string())
        }
        Ok(k) => ui::out(format!("every constraint holds (k = {k})")),
        Err(e) if args.json => {
            let fault = e.downcast_ref::<SessionError>().and_then(fault);
            let report = json!({"model": common::shown(&args.model), "holds": false, "fault": fault, "error": format!("{e:#}")});
            ui::out(report.to_string());
        }
        Err(_) => {}
    }
    outcome.map(|_| ())
}

fn check(args: &Mock, engine: &Engine<G1Affine>, cache: Cache) -> Result<u32> {
    let options = common::options(&args.options)?;
    let mut session = common::session(engine, cache);
    let imported = session.import_for(&args.model, &options.import, Some(&args.input))?;
    let input = session.input(&imported, &args.input, common::surplus(&args.options))?;
    let sample = match &args.calibrate_with {
        Some(file) => session.input(&imported, file, common::surplus(&args.options))?,
        None => input.clone(),
    };
    let prepared = session.prepare(imported, &[sample], &options)?;
    let witness = session.witness(&prepared.quantised, &input)?;
    session.mock(&prepared, &witness)?;
    Ok(prepared.k())
}

/// Where a statement does not hold, in the model's names: layer, element and bound.
fn fault(error: &SessionError) -> Option<Value> {
    match error {
        SessionError::Encode(EncodeError::Range { name, index, value, lo, hi }) => Some(json!({
            "kind": "input range", "layer": name, "tensor": name, "element": index,
            "real": {"value": value, "lo": lo, "hi": hi},
        })),
        SessionError::Exec(e) | SessionError::Quant(QuantError::Run { source: e, .. }) => left_range(e),
        SessionError::Machine(e) | SessionError::Mock(MockError::Witness(e)) => unproven(e),
        SessionError::Mock(MockError::Constraint { constraint, layer, element }) => {
            Some(json!({"kind": constraint, "layer": layer, "element": element}))
        }
        _ => None,
    }
}

fn left_range(error: &ExecError) -> Option<Value> {
    let ExecError::OutOfRange(o) = error else { return None };
    let unit = o.real() / o.value as f64;
    Some(json!({
        "kind": "range", "layer": o.layer, "tensor": o.tensor, "element": o.index,
        "value": integer(o.value), "lo": o.lo, "hi": o.hi,
        "real": {"value": o.real(), "lo": o.lo as f64 * unit, "hi": o.hi as f64 * unit},
    }))
}

fn unproven(error: &ProveError) -> Option<Value> {
    match error {
        ProveError::OutOfRange { layer, element, value, lo, hi } => Some(json!({
            "kind": "range", "layer": layer, "element": element,
            "value": integer(*value), "lo": integer(*lo), "hi": integer(*hi),
        })),
        ProveError::Mismatch { layer, element, got, computed } => Some(json!({
            "kind": "value", "layer": layer, "element": element,
            "value": integer(*got), "computed": integer(*computed),
        })),
        _ => None,
    }
}

/// A number where JSON has one of its size, else its digits.
fn integer(v: i128) -> Value {
    i64::try_from(v).map_or_else(|_| Value::from(v.to_string()), Value::from)
}
