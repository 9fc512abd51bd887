//! `parhelion link`

use anyhow::{Context, Result};
use parhelion_zkml::session;
use serde_json::json;

use super::common;
use crate::args::Link;
use crate::ui;

pub(super) fn run(args: &Link) -> Result<()> {
    let pairs = args
        .map
        .iter()
        .map(|pair| {
            let split =
                pair.split_once('=').with_context(|| format!("--map {pair}: expected OUTPUT=INPUT"))?;
            Ok((split.0.to_owned(), split.1.to_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    ui::phase("verifying");
    let (from, to) = (common::proof_files(&args.from)?, common::proof_files(&args.to)?);
    let (first, second, linked) = session::link(&from, &to, &pairs, args.require_secure_srs)?;
    if args.json {
        let linked: Vec<_> = linked
            .iter()
            .map(|l| json!({"output": l.output, "input": l.input, "visibility": l.visibility}))
            .collect();
        ui::out(
            json!({
                "verified": true, "linked": linked, "srs": [first.security, second.security],
                "model_hashes": [first.model_hash, second.model_hash],
            })
            .to_string(),
        );
        return Ok(());
    }
    for l in linked {
        ui::out(format!("output {} is input {} ({})", l.output, l.input, l.visibility));
    }
    Ok(())
}
