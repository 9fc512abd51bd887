//! `parhelion verify`

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use parhelion_zkml::session::{self, Files, Security};
use serde_json::json;

use crate::args::Verify;
use crate::ui;

pub(super) fn run(args: &Verify) -> Result<()> {
    let dir = args.proof.is_dir();
    let proof = if dir { args.proof.join(session::PROOF_JSON) } else { args.proof.clone() };
    let beside = |given: &Option<PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| proof.parent().unwrap_or(Path::new("")).join(name))
    };
    let files = Files {
        vk: beside(&args.vk, session::VK_BIN),
        circuit: beside(&args.circuit, session::CIRCUIT_BIN),
        settings: beside(&args.settings, session::SETTINGS_JSON),
        srs: args.srs.clone(),
        proof,
    };
    ui::phase("verifying");
    let start = std::time::Instant::now();
    let verdict = session::verify(&files, args.require_secure_srs)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    ensure!(
        !args.require_secure_srs || verdict.security == Security::Ceremony,
        "the reference string is not secure"
    );
    if args.json {
        ui::out(
            json!({
                "verified": true, "verify_ms": time, "model_hash": verdict.model_hash,
                "srs": verdict.security, "secure_srs": verdict.security == Security::Ceremony,
                "outputs": verdict.outputs,
            })
            .to_string(),
        );
        return Ok(());
    }
    ui::out(format!("verified in {}", ui::ms(time)));
    ui::out(format!("model {}", verdict.model_hash));
    for values in &verdict.outputs {
        let shown: Vec<&str> = values.iter().take(10).map(String::as_str).collect();
        let more = if values.len() > 10 { format!(", … ({} values)", values.len()) } else { String::new() };
        ui::out(format!("output [{}{more}]", shown.join(", ")));
    }
    match verdict.security {
        Security::Ceremony => {}
        Security::Insecure => {
            ui::out("reference string: INSECURE, for development only: anybody could have made this proof")
        }
        Security::Unrecorded => ui::out("reference string: of unrecorded origin"),
    }
    Ok(())
}
