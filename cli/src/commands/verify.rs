//! `parhelion verify`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::machine::{Part, Vis};
use parhelion_zkml::onnx::ImportOptions;
use parhelion_zkml::quant::calibrate::Calibration;
use parhelion_zkml::session::{
    self, CALIBRATION_JSON, Cache, Files, Kind, Pin, Security, Session, Strength, Terms, Told, Verdict,
    printable, read_json, setup_binding,
};
use serde_json::json;

use super::common;
use crate::args::Verify;
use crate::ui;

/// Exit code of a proof that verifies and whose statement is held against nothing.
pub(super) const UNPINNED: u8 = 3;

/// What makes keys: started where it is needed only.
type Machinery = (Engine<G1Affine>, Cache);

pub(super) fn run(args: &Verify, machinery: impl FnOnce() -> Result<Machinery>) -> Result<ExitCode> {
    let found = common::proof_files(&args.proof)?;
    let trusted = args.setup.as_deref().map(common::proof_files).transpose()?;
    let base = trusted.unwrap_or_else(|| found.clone());
    let files = Files {
        vk: args.vk.clone().unwrap_or(base.vk),
        circuit: args.circuit.clone().unwrap_or(base.circuit),
        settings: args.settings.clone().unwrap_or(base.settings),
        srs: args.srs.clone(),
        proof: found.proof,
    };
    let expected: Vec<(&str, &str)> = args
        .expect
        .iter()
        .map(|e| e.rsplit_once('=').with_context(|| format!("--expect {e}: expected TENSOR=HEX")))
        .collect::<Result<_>>()?;
    let terms = Terms {
        pin: pin(args, &files, machinery)?,
        context: args.context.clone().unwrap_or_default(),
        input: args.input.clone(),
        require_secure: args.require_secure_srs,
    };
    ui::phase("verifying");
    let start = std::time::Instant::now();
    let verdict = session::verify_under(&files, &terms)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    if let Some(wanted) = &args.statement {
        ensure!(
            *wanted == verdict.statement,
            "the statement is not the one that was named: expected {wanted}, found {}",
            verdict.statement
        );
    }
    for (tensor, value) in expected {
        let told = verdict.disclosed.iter().find(|d| common::tensor_name(d) == tensor);
        let told = told.with_context(|| format!("the proof has no digest or commitment of `{tensor}`"))?;
        ensure!(told.value == value, "`{tensor}` is {} in the proof, expected {value}", told.value);
    }
    if args.json {
        ui::json(&report(&verdict, time));
    } else {
        print(&verdict, time);
        if verdict.strength == Strength::Unpinned && !args.unpinned {
            ui::out(
                "pin it with --model, --statement, --setup or --rederive; --unpinned accepts it as it is",
            );
        }
    }
    Ok(code(verdict.strength, args.unpinned))
}

/// What the statement is held against: the strongest of what was given.
fn pin(args: &Verify, files: &Files, machinery: impl FnOnce() -> Result<Machinery>) -> Result<Pin> {
    if args.model.is_none() && !args.rederive {
        return Ok(match &args.statement {
            Some(digest) => Pin::Statement(digest.clone()),
            None if args.setup.is_some() || args.settings.is_some() => Pin::Files,
            None => Pin::Nothing,
        });
    }
    let (engine, cache) = machinery()?;
    let mut session = common::session(&engine, cache);
    let derived = match &args.model {
        None => session.pin_circuit(files)?,
        Some(model) => pin_model(args, files, model, &mut session)?,
    };
    // A circuit that rederives its key is anybody's; a named statement says whose.
    match (&args.statement, derived) {
        (Some(digest), Pin::Circuit(rederived)) => {
            ensure!(
                *digest == rederived,
                "the statement is not that of the circuit and the key made from it: expected {digest}, found {rederived}"
            );
            Ok(Pin::Statement(digest.clone()))
        }
        (_, derived) => Ok(derived),
    }
}

fn pin_model(args: &Verify, files: &Files, model: &Path, session: &mut Session) -> Result<Pin> {
    let beside = || files.settings.with_file_name(CALIBRATION_JSON);
    let path = args.calibration.clone().unwrap_or_else(beside);
    let calibration = Arc::new(read_json::<Calibration>(&path, Kind::Calibration)?);
    // Shapes and constants of inputs are part of what is compared.
    let mut import = ImportOptions::default();
    import.bind(&setup_binding(files.settings.parent().unwrap_or(Path::new("")))?)?;
    let imported = session.import(model, &import)?;
    Ok(session.pin_model(imported, &calibration, files)?)
}

pub(super) fn code(strength: Strength, accepted: bool) -> ExitCode {
    if strength == Strength::Unpinned && !accepted { ExitCode::from(UNPINNED) } else { ExitCode::SUCCESS }
}

fn report(verdict: &Verdict, time: f64) -> serde_json::Value {
    json!({
        "verified": true, "verify_ms": time, "strength": verdict.strength, "statement": verdict.statement,
        "k": verdict.k, "visibility": verdict.visibility.to_string(),
        "sentence": verdict.sentence, "remarks": verdict.remarks,
        "model_hash": verdict.model_hash, "model_bound": verdict.model_bound,
        "srs": verdict.security, "secure_srs": verdict.security.is_secure(),
        "ranges": verdict.ranges, "accepted_error": verdict.accepted_error,
        "ports": verdict.tensors, "compared_inputs": verdict.compared,
        "outputs": verdict.outputs, "disclosed": verdict.disclosed,
    })
}

fn print(verdict: &Verdict, time: f64) {
    ui::out(format!("verified in {}", ui::ms(time)));
    ui::out(verdict.strength.meaning());
    ui::out(format!("proven: {}", verdict.sentence));
    ui::out(format!("statement {}", verdict.statement));
    verdict.tensors.iter().for_each(|t| ui::out(tensor(t)));
    common::print_disclosed(&verdict.disclosed);
    match (&verdict.model_hash, verdict.model_bound) {
        (Some(hash), true) => {
            ui::out(format!("model {} (bound: its weights are those of your file)", printable(hash)))
        }
        (Some(hash), false) => ui::out(format!("model {} (claimed by the proof's maker)", printable(hash))),
        (None, _) => ui::out("model: not named, since its weights are not shown"),
    }
    for name in &verdict.compared {
        ui::out(format!("input `{}` is the one in your file", printable(name)));
    }
    verdict.remarks.iter().for_each(|remark| ui::out(format!("note: {remark}")));
    if let Some(error) = &verdict.accepted_error {
        ui::out(format!(
            "note: the maker accepted a difference of {} from the float model",
            printable(error)
        ));
    }
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
}

/// One line on a tensor.
fn tensor(t: &Told) -> String {
    let what = if t.part == Part::Params { "weights" } else { t.part.name() };
    let dtype = t.dtype.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
    let head = format!("{what} `{}` {}{dtype} {:?}", printable(&t.name), t.visibility, t.shape);
    match &t.values {
        Some(values) => {
            let shown: Vec<&str> = values.iter().take(10).map(String::as_str).collect();
            let more =
                if values.len() > 10 { format!(", … ({} values)", values.len()) } else { String::new() };
            format!("{head} = [{}{more}]", shown.join(", "))
        }
        None if t.visibility == Vis::Private => head,
        None => format!("{head}, see below"),
    }
}
