//! `parhelion setup`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::session::Cache;
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
    let keys = session.keys(&prepared, &srs)?;
    session.write_setup(&args.out, &prepared, &keys)?;
    let settings = keys.settings();
    if args.json {
        ui::out(
            json!({
                "model": common::shown(&args.model), "model_hash": settings.model_hash, "k": settings.k,
                "timings_ms": common::timings_json(session.timings()),
                "pk_bytes": keys.pk_len(), "vk_bytes": keys.vk_bytes().len(),
                "srs": settings.srs.security, "out": common::shown(&args.out),
                "max_abs_error": (!samples.is_empty()).then(|| accuracy.max_abs_error()), "accuracy": accuracy,
            })
            .to_string(),
        );
        return Ok(());
    }
    ui::out(format!(
        "k = {}, proving key {}, verifying key {}; written to {}",
        settings.k,
        ui::bytes(keys.pk_len()),
        ui::bytes(keys.vk_bytes().len() as u64),
        args.out.display()
    ));
    if samples.is_empty() {
        ui::out(
            "how far the circuit is from the float model shows with an input like those to come: --input FILE",
        );
    } else {
        ui::out(common::difference(&accuracy));
    }
    Ok(())
}
