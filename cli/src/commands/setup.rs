//! `parhelion setup`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::session::{Cache, PK_BIN, PROVER_JSON};
use serde_json::json;

use super::common;
use crate::args::Setup;
use crate::ui;

pub(super) fn run(args: &Setup, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let options = common::options(&args.options)?;
    let mut session = common::session(engine, cache);
    let imported = session.import_for(&args.model, &options.import, args.input.as_deref())?;
    let samples = match &args.input {
        Some(path) => vec![session.input(&imported, path, common::surplus(&args.options))?],
        None => Vec::new(),
    };
    let prepared = session.prepare(imported, &samples, &options)?;
    let accuracy = session.accuracy(&prepared.quantised, &samples)?;
    accuracy.check(options.accept_error)?;
    let srs = session.srs(args.srs.as_deref(), prepared.k())?;
    let mut keys = session.keys(&prepared, &srs)?;
    keys.accept_error(options.accept_error.map(|part| part.to_string()));
    session.write_setup(&args.out, &prepared, &keys)?;
    let settings = keys.settings();
    if args.json {
        ui::json(&json!({
            "model": common::shown(&args.model), "model_hash": prepared.quantised.imported.hash, "k": prepared.k(),
            "statement": settings.statement, "vk_hash": settings.vk_hash, "circuit_hash": settings.circuit_hash,
            "visibility": prepared.visibility.to_string(),
            "timings_ms": common::timings_json(session.timings()),
            "pk_bytes": keys.pk_len(), "vk_bytes": keys.vk_bytes().len(),
            "srs": settings.srs.security, "out": common::shown(&args.out),
            "max_abs_error": (!samples.is_empty()).then(|| accuracy.max_abs_error()), "accuracy": accuracy,
            "accepted_error": settings.accepted_error,
        }));
        return Ok(());
    }
    ui::out(format!(
        "k = {}, proving key {}, verifying key {}; written to {}",
        prepared.k(),
        ui::bytes(keys.pk_len()),
        ui::bytes(keys.vk_bytes().len() as u64),
        args.out.display()
    ));
    if samples.is_empty() {
        ui::out(
            "error: unknown, for ranges are from stand-ins; --input FILE, with an input like those to come, sets ranges by it and measures the error",
        );
    } else {
        ui::out(common::difference(&accuracy));
    }
    ui::out(format!("statement {}", settings.statement));
    ui::out(format!("{PK_BIN} and {PROVER_JSON} are the prover's; everything else is for verifiers"));
    Ok(())
}
