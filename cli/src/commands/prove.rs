//! `parhelion prove`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::Op;
use parhelion_dispatch::Engine;
use parhelion_zkml::session::{Cache, Phase, Security, Setup, opening_secret, setup_binding};
use serde_json::json;

use super::common;
use crate::args::Prove;
use crate::{process, ui};

pub(super) fn run(args: &Prove, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let mut session = common::session(engine, cache);
    if let Some(file) = &args.opening {
        session = session.with_opening(opening_secret(file)?);
    }
    let mut options = common::options(&args.options)?;
    if let Some(dir) = &args.setup {
        options.import.bind(&setup_binding(dir)?)?;
    }
    let imported = session.import_for(&args.model, &options.import, Some(&args.input))?;
    let input = session.input(&imported, &args.input, common::surplus(&args.options))?;
    let (prepared, keys) = match &args.setup {
        Some(dir) => session.resume(imported, Setup::read(dir)?, args.srs.as_deref())?,
        None => {
            let prepared = session.prepare(imported, std::slice::from_ref(&input), &options)?;
            let srs = session.srs(args.srs.as_deref(), prepared.k())?;
            let keys = session.keys(&prepared, &srs)?;
            (prepared, keys)
        }
    };
    let witness = session.witness(&prepared.quantised, &input)?;
    let accuracy = prepared.quantised.accuracy(&witness, &input)?;
    accuracy.check(options.accept_error)?;
    let proof = session.prove(&prepared, &keys, &witness)?;
    let verdict = session.verify(&keys, &proof)?;
    if let Some(dir) = &args.out {
        session.write_proof(dir, &prepared, &keys, &witness, &proof)?;
    }

    let timings = session.timings();
    let report = prepared.plan.report();
    let outputs = prepared.quantised.outputs(&witness);
    if args.json {
        ui::out(
            json!({
                "model": common::shown(&args.model), "model_hash": prepared.quantised.imported.hash, "k": prepared.k(),
                "columns": {"advice": report.advice, "phase2": report.late, "fixed": report.fixed},
                "rows_used": prepared.rows_used(),
                "timings_ms": common::timings_json(timings),
                "proof_bytes": proof.bytes.len(), "pk_bytes": keys.pk_len(), "vk_bytes": keys.vk_bytes().len(),
                "keys_from_cache": keys.from_cache(),
                "peak_rss_mb": process::peak_rss_mb(),
                "backend": common::backends_json(&proof.report.ledger),
                "srs": keys.settings().srs.security,
                "visibility": prepared.visibility.to_string(), "disclosed": verdict.disclosed,
                "outputs": outputs, "max_abs_error": accuracy.max_abs_error(), "accuracy": accuracy, "verified": true,
            })
            .to_string(),
        );
        return Ok(());
    }
    let mut table = ui::Table::new(["phase", "time", ""]);
    for phase in Phase::ALL {
        let note = match phase {
            Phase::Plan => format!(
                "k = {}, {} of {} rows, {} advice + {} later-phase + {} fixed columns",
                prepared.k(),
                prepared.rows_used(),
                1u64 << prepared.k(),
                report.advice,
                report.late,
                report.fixed
            ),
            Phase::Srs if keys.settings().srs.security == Security::Insecure => {
                "INSECURE: development only".to_owned()
            }
            Phase::Keygen => format!(
                "{} proving, {} verifying{}",
                ui::bytes(keys.pk_len()),
                ui::bytes(keys.vk_bytes().len() as u64),
                if keys.from_cache() { ", from the cache" } else { "" }
            ),
            Phase::Prove => {
                let ledger = &proof.report.ledger;
                let who = |op| format!("{op} on {}", ledger.backends(op).join(","));
                format!(
                    "{}; {}, {}, {}",
                    ui::bytes(proof.bytes.len() as u64),
                    who(Op::Msm),
                    who(Op::Ntt),
                    who(Op::Quotient)
                )
            }
            Phase::Verify => "ok".to_owned(),
            _ => String::new(),
        };
        table.row([phase.name().to_owned(), ui::ms(common::milliseconds(timings, phase)), note]);
    }
    table.row(["total".to_owned(), ui::ms(timings.total().as_secs_f64() * 1e3), String::new()]);
    table.print();
    ui::out("");
    for (port, values) in keys.settings().outputs.iter().zip(&outputs) {
        let shown: Vec<String> = values.iter().take(10).map(|v| format!("{v:.5}")).collect();
        let more = if values.len() > 10 { format!(", … ({} values)", values.len()) } else { String::new() };
        ui::out(format!("{} = [{}{more}]", port.name, shown.join(", ")));
    }
    common::print_disclosed(&verdict.disclosed);
    ui::out(common::difference(&accuracy));
    if let Some(mb) = process::peak_rss_mb() {
        ui::out(format!("peak memory: {mb:.0} MiB"));
    }
    match &args.out {
        Some(dir) => ui::out(format!("verified; written to {}", dir.display())),
        None => ui::out("verified; nothing written (--out DIR keeps the proof)"),
    }
    Ok(())
}
