//! `parhelion link`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use parhelion_zkml::session::{self, Context, Files, Pin, Place, Strength, Terms, Verdict, printable};
use serde_json::json;

use super::{common, verify};
use crate::args::Link;
use crate::ui;

pub(super) fn run(args: &Link) -> Result<ExitCode> {
    let places = args
        .map
        .iter()
        .map(|pair| {
            let split =
                pair.split_once('=').with_context(|| format!("--map {pair}: expected OUTPUT=INPUT"))?;
            Ok(Place { output: split.0.to_owned(), input: split.1.to_owned() })
        })
        .collect::<Result<Vec<_>>>()?;
    ui::phase("verifying");
    let side = |proof: &Path, setup: Option<&Path>, statement: &Option<String>, context: &Option<Context>| {
        let found = common::proof_files(proof)?;
        let base = setup.map_or_else(|| Ok(found.clone()), common::proof_files)?;
        let files = Files { proof: found.proof, srs: args.srs.clone(), ..base };
        let pin = match statement {
            Some(digest) => Pin::Statement(digest.clone()),
            None if setup.is_some() => Pin::Files,
            None => Pin::Nothing,
        };
        let context = context.clone().unwrap_or_default();
        Ok::<_, anyhow::Error>((
            files,
            Terms { pin, context, input: None, require_secure: args.require_secure_srs },
        ))
    };
    let from = side(&args.from, args.setup_from.as_deref(), &args.statement_from, &args.context_from)?;
    let to = side(&args.to, args.setup_to.as_deref(), &args.statement_to, &args.context_to)?;
    let (first, second, linked) = session::link((&from.0, &from.1), (&to.0, &to.1), &places)?;
    let strength = match (first.strength, second.strength) {
        (Strength::Unpinned, _) | (_, Strength::Unpinned) => Strength::Unpinned,
        (strength, _) => strength,
    };
    if args.json {
        let linked: Vec<_> = linked
            .iter()
            .map(|l| {
                json!({
                    "output": l.output, "input": l.input, "visibility": l.visibility,
                    "from": l.from, "to": l.to,
                })
            })
            .collect();
        ui::json(&json!({
            "verified": true, "linked": linked, "strength": strength,
            "strengths": [first.strength, second.strength],
            "statements": [first.statement, second.statement],
            "sentences": [first.sentence, second.sentence],
            "srs": [first.security, second.security],
            "model_hashes": [first.model_hash, second.model_hash],
        }));
        return Ok(verify::code(strength, args.unpinned));
    }
    for (which, verdict) in [("first", &first), ("second", &second)] {
        model(which, verdict);
    }
    for l in linked {
        let (output, input) = (printable(&l.output), printable(&l.input));
        ui::out(format!("output {output} of the first is input {input} of the second ({})", l.visibility));
    }
    if strength == Strength::Unpinned {
        ui::out(Strength::Unpinned.meaning());
    }
    Ok(verify::code(strength, args.unpinned))
}

fn model(which: &str, verdict: &Verdict) {
    let claimed = verdict.model_hash.as_ref();
    let claimed =
        claimed.map(|h| format!(", model {} as its maker claims", printable(h))).unwrap_or_default();
    let strength = verdict.strength.name();
    ui::out(format!("{which} proof: statement {} ({strength}){claimed}", verdict.statement));
    ui::out(format!("  proven: {}", verdict.sentence));
}
