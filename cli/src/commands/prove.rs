//! `parhelion prove`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::Op;
use parhelion_dispatch::Engine;
use parhelion_zkml::session::{
    Cache, Kind, OpeningFile, Options, Phase, Security, Setup, printable, setup_binding, write_private,
};
use serde_json::{Value, json};

use super::common;
use crate::args::Prove;
use crate::{process, ui};

pub(super) fn run(args: &Prove, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let mut session = common::session(engine, cache);
    if let Some(file) = &args.opening {
        session = session.with_opening_file(OpeningFile::open(file)?);
    }
    if let Some(context) = &args.context {
        session = session.with_context(context.clone());
    }
    let setup = args.setup.as_deref().map(Setup::read).transpose()?;
    // Without a setup there is nothing but the input to take ranges from.
    let mut options = Options { own_input: true, ..common::options(&args.options)? };
    if let Some(dir) = &args.setup {
        options.import.bind(&setup_binding(dir)?)?;
    }
    let imported = session.import_for(&args.model, &options.import, Some(&args.input))?;
    let input = session.input(&imported, &args.input, common::surplus(&args.options))?;
    let (prepared, mut keys) = match setup {
        Some(setup) => session.resume(imported, setup, args.srs.as_deref())?,
        None => {
            let prepared = session.prepare(imported, std::slice::from_ref(&input), &options)?;
            let srs = session.srs(args.srs.as_deref(), prepared.k())?;
            let keys = session.keys(&prepared, &srs)?;
            (prepared, keys)
        }
    };
    let saturated = prepared.quantised.model.saturated(&input);
    let witness = session.witness(&prepared.quantised, &input)?;
    let accuracy = prepared.quantised.accuracy(&witness, &input)?;
    // What the setup accepted is accepted here.
    let accepted =
        options.accept_error.map(|part| part.to_string()).or(keys.settings().accepted_error.clone());
    accuracy.check(accepted.as_deref().and_then(|part| part.parse().ok()))?;
    keys.accept_error(accepted);
    let proof = session.prove(&prepared, &keys, &witness)?;
    let verdict = session.verify(&keys, &proof)?;
    if let Some(dir) = &args.out {
        session.write_proof(dir, &prepared, &keys, &proof)?;
    }
    if let Some(file) = &args.witness {
        write_private(file, Kind::Witness, &prepared.quantised.witness_file(&witness))?;
    }

    let timings = session.timings();
    let report = prepared.plan.report();
    let texts = prepared.quantised.output_texts(&witness);
    let names: Vec<&str> = keys.statement().outputs().iter().map(|p| p.name.as_str()).collect();
    if args.json {
        ui::json(&json!({
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
            "statement": verdict.statement, "sentence": verdict.sentence, "remarks": verdict.remarks,
            "ranges": verdict.ranges, "output_names": names,
            "outputs": numbers(&texts), "max_abs_error": accuracy.max_abs_error(), "accuracy": accuracy, "saturated_inputs": saturated,
            "verified": true,
        }));
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
                    who(Op::MSM),
                    who(Op::NTT),
                    who(Op::QUOTIENT)
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
    for (port, values) in keys.statement().outputs().iter().zip(&texts) {
        let shown: Vec<String> = values.iter().take(10).map(|v| rounded(v)).collect();
        let more = if values.len() > 10 { format!(", … ({} values)", values.len()) } else { String::new() };
        ui::out(format!("{} = [{}{more}]", printable(&port.name), shown.join(", ")));
    }
    common::print_disclosed(&verdict.disclosed);
    ui::out(common::difference(&accuracy));
    if let Some(note) = common::saturation(saturated) {
        ui::out(note);
    }
    if let Some(mb) = process::peak_rss_mb() {
        ui::out(format!("peak memory: {mb:.0} MiB"));
    }
    ui::out(format!("proven: {}", verdict.sentence));
    ui::out(format!("statement {}", verdict.statement));
    verdict.remarks.iter().for_each(|remark| ui::out(format!("note: {remark}")));
    match &args.out {
        Some(dir) => ui::out(format!("verified; written to {}", dir.display())),
        None => ui::out("verified; nothing written (--out DIR keeps the proof)"),
    }
    Ok(())
}

/// Numbers as JSON has them: integers whole, others as the nearest `f64`.
fn numbers(texts: &[Vec<String>]) -> Value {
    let number = |text: &String| match text.parse::<i64>() {
        Ok(whole) => json!(whole),
        Err(_) => text.parse::<f64>().map_or_else(|_| json!(text), |real| json!(real)),
    };
    texts.iter().map(|list| list.iter().map(number).collect::<Value>()).collect()
}

/// A number for people: integers whole, others to five digits.
fn rounded(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(v) if text.contains(['.', 'e']) => {
            if v == 0.0 || v.abs() >= 1e-3 {
                format!("{v:.5}")
            } else {
                format!("{v:.4e}")
            }
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_stay_whole() {
        let texts = ["9007199254740993", "0.5", "-3"].map(str::to_owned).to_vec();
        assert_eq!(numbers(&[texts]).to_string(), "[[9007199254740993,0.5,-3]]");
        assert_eq!(rounded("9007199254740993"), "9007199254740993");
        assert_eq!(rounded("0.123456789"), "0.12346");
        assert_eq!(rounded("1e-7"), "1.0000e-7");
    }
}
