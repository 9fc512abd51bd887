//! `parhelion verify`

use anyhow::{Context, Result, ensure};
use parhelion_zkml::session::{self, Files, Security};
use serde_json::json;

use super::common;
use crate::args::Verify;
use crate::ui;

pub(super) fn run(args: &Verify) -> Result<()> {
    let found = common::proof_files(&args.proof)?;
    let files = Files {
        vk: args.vk.clone().unwrap_or(found.vk),
        circuit: args.circuit.clone().unwrap_or(found.circuit),
        settings: args.settings.clone().unwrap_or(found.settings),
        srs: args.srs.clone(),
        proof: found.proof,
    };
    let expected: Vec<(&str, &str)> = args
        .expect
        .iter()
        .map(|e| e.rsplit_once('=').with_context(|| format!("--expect {e}: expected TENSOR=HEX")))
        .collect::<Result<_>>()?;
    ui::phase("verifying");
    let start = std::time::Instant::now();
    let verdict = session::verify(&files, args.require_secure_srs)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    ensure!(!args.require_secure_srs || verdict.security.is_secure(), "the reference string is not secure");
    for (tensor, value) in expected {
        let told = verdict.disclosed.iter().find(|d| common::tensor_name(d) == tensor);
        let told = told.with_context(|| format!("the proof has no digest or commitment of `{tensor}`"))?;
        ensure!(told.value == value, "`{tensor}` is {} in the proof, expected {value}", told.value);
    }
    if args.json {
        ui::out(
            json!({
                "verified": true, "verify_ms": time, "model_hash": verdict.model_hash,
                "srs": verdict.security, "secure_srs": verdict.security.is_secure(),
                "outputs": verdict.outputs, "disclosed": verdict.disclosed,
            })
            .to_string(),
        );
        return Ok(());
    }
    ui::out(format!("verified in {}", ui::ms(time)));
    ui::out(format!("model {}", verdict.model_hash));
    for values in verdict.outputs.iter().filter(|v| !v.is_empty()) {
        let shown: Vec<&str> = values.iter().take(10).map(String::as_str).collect();
        let more = if values.len() > 10 { format!(", … ({} values)", values.len()) } else { String::new() };
        ui::out(format!("output [{}{more}]", shown.join(", ")));
    }
    common::print_disclosed(&verdict.disclosed);
    match verdict.security {
        Security::Ceremony => ui::out("reference string: of a public ceremony, recognised by its point"),
        Security::Own => ui::out("reference string: the one of --srs"),
        Security::Insecure => {
            ui::out("reference string: INSECURE, for development only: anybody could have made this proof")
        }
        Security::Claimed => ui::out(
            "reference string: of no ceremony that is known here; whoever knows its secret could have made this proof",
        ),
    }
    Ok(())
}
