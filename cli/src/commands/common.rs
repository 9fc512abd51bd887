//! What several commands share: options from arguments, progress, the way from a model to a circuit.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, ensure};
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::Op;
use parhelion_dispatch::{Engine, Ledger};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::machine::{Part, Vis, Visibility};
use parhelion_zkml::onnx::ImportOptions;
use parhelion_zkml::quant::QuantOptions;
use parhelion_zkml::quant::calibrate::Calibration;
use parhelion_zkml::session::{
    self, Accuracy, Cache, Disclosed, Files, Kind, Options, Phase, Session, Timings, read_json,
};
use serde_json::{Value, json};

use crate::args::{InputOptions, ModelOptions, SurplusArg};
use crate::ui;

/// `--memory`, which holds for every session of the process.
static MEMORY: OnceLock<u64> = OnceLock::new();

/// Lets sessions take so much memory.
pub(super) fn limit_memory(bytes: u64) {
    // The command line is read once.
    let _ = MEMORY.set(bytes);
}

/// A session that tells the progress line where it is.
pub(super) fn session(engine: &Engine<G1Affine>, cache: Cache) -> Session {
    let session = Session::new(engine.clone(), cache);
    let session = match MEMORY.get() {
        Some(&bytes) => session.with_memory(bytes),
        None => session,
    };
    session.on_phase(|phase| {
        ui::phase(match phase {
            Phase::Import => "importing the model",
            Phase::Calibrate => "choosing scales",
            Phase::Plan => "planning the circuit",
            Phase::Srs => "reference string",
            Phase::Keygen => "keys",
            Phase::Witness => "witness",
            Phase::Prove => "proving",
            Phase::Verify => "verifying",
        });
    })
}

/// An option `NAME=VALUE`; the name may have an equals sign in it.
fn assignment<'a>(option: &str, text: &'a str, value: &str) -> Result<(&'a str, &'a str)> {
    let parts = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    parts.with_context(|| format!("{option} {text}: expected NAME={value}"))
}

pub(super) fn import_options(args: &InputOptions) -> Result<ImportOptions> {
    let mut import = ImportOptions::default();
    let length = |option: &str, text: &str, value: &str| -> Result<usize> {
        let n =
            value.trim().parse().with_context(|| format!("{option} {text}: `{value}` is not a length"))?;
        ensure!(n > 0, "{option} {text}: a length is at least 1");
        Ok(n)
    };
    let twice = |option: &str, name: &str| anyhow!("{option}: `{name}` is given twice");
    for text in &args.variables {
        let (name, value) = assignment("--variable", text, "N")?;
        let n = length("--variable", text, value)?;
        ensure!(import.dims.insert(name.to_owned(), n).is_none(), twice("--variable", name));
    }
    for text in &args.shapes {
        let (name, value) = assignment("--shape", text, "N,N,…")?;
        let value = value.trim_matches(['[', ']', ' ']);
        let axes = value.split([',', 'x', '×']).filter(|_| !value.is_empty());
        let shape = axes.map(|n| length("--shape", text, n)).collect::<Result<Vec<_>>>()?;
        ensure!(import.shapes.insert(name.to_owned(), shape).is_none(), twice("--shape", name));
    }
    for text in &args.constants {
        let (name, value) = assignment("--constant", text, "VALUE")?;
        let value = value.trim().to_owned();
        ensure!(import.constants.insert(name.to_owned(), value).is_none(), twice("--constant", name));
    }
    Ok(import)
}

pub(super) fn options(args: &ModelOptions) -> Result<Options> {
    let import = import_options(&args.inputs)?;
    let mut quant = QuantOptions::default();
    if let Some(bits) = args.activation_bits {
        quant.activation_bits = bits;
    }
    if let Some(bits) = args.input_bits {
        quant.input_bits = bits;
    }
    if let Some(bits) = args.output_bits {
        quant.output_bits = bits;
    }
    if let Some(bits) = args.weight_bits {
        quant.weight_bits = bits;
    }
    if let Some(headroom) = args.headroom {
        quant.headroom = headroom;
    }
    let calibration = match &args.settings {
        Some(path) => Some(Arc::new(read_json::<Calibration>(path, Kind::Calibration)?)),
        None => None,
    };
    let min_k = args.min_k.unwrap_or(Options::default().min_k);
    if let Some(min_k) = args.min_k {
        ensure!(min_k <= args.max_k, "--min-k {min_k} is above --max-k {}", args.max_k);
    }
    let visibility = visibility(&args.visibility)?;
    let (max_k, proof_bytes) = (args.max_k, args.proof_bytes);
    let calibrated = calibration.as_ref().and_then(|c| c.accepted_error.as_deref()).map(|text| {
        text.parse::<f64>().map_err(|_| anyhow!("--settings: the accepted error `{text}` is not a number"))
    });
    let accept_error = args.accept_error.map_or_else(|| calibrated.transpose(), |part| Ok(Some(part)))?;
    if let Some(part) = accept_error {
        ensure!(
            part.is_finite() && part >= 0.0,
            "--accept-error {part}: a part of the largest value, such as 0.05"
        );
    }
    let own_input = false;
    // Whoever says how many bits numbers have gets them.
    let given = [args.activation_bits, args.input_bits, args.output_bits, args.weight_bits];
    let refine = given.iter().all(Option::is_none);
    Ok(Options {
        import,
        quant,
        visibility,
        min_k,
        max_k,
        proof_bytes,
        calibration,
        accept_error,
        refine,
        own_input,
    })
}

/// `input=private,output=public,params=fixed,params.NAME=hashed`; what is left out keeps its default.
pub(super) fn visibility(text: &str) -> Result<Visibility> {
    text.parse().map_err(|e: String| anyhow!("--visibility {text}: {e}"))
}

/// What happens to input lists that the model does not take.
pub(super) fn surplus(args: &ModelOptions) -> Surplus {
    match args.surplus {
        SurplusArg::Refuse => Surplus::Refuse,
        SurplusArg::Ignore => Surplus::Ignore,
    }
}

/// A path in JSON, which has no place for one that is not Unicode: such bytes are replaced.
pub(super) fn shown(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// The files of a proof: those in a directory, or those beside a proof file.
pub(super) fn proof_files(path: &Path) -> Result<Files> {
    // Else the error would be about a file that nobody named.
    std::fs::metadata(path).with_context(|| path.display().to_string())?;
    let proof = if path.is_dir() { path.join(session::PROOF_JSON) } else { path.to_owned() };
    let beside = |name: &str| proof.parent().unwrap_or(Path::new("")).join(name);
    Ok(Files {
        settings: beside(session::SETTINGS_JSON),
        circuit: beside(session::CIRCUIT_BIN),
        vk: beside(session::VK_BIN),
        srs: None,
        proof,
    })
}

/// What encoding has moved to the end of its range, where it has moved something.
pub(super) fn saturation(elements: usize) -> Option<String> {
    let are = if elements == 1 { "element of the input is" } else { "elements of the input are" };
    (elements > 0).then(|| {
        format!(
            "{elements} {are} past the calibrated range: the statement is about the end of the range instead"
        )
    })
}

/// What is said of the largest difference from the float model.
pub(super) fn difference(accuracy: &Accuracy) -> String {
    format!(
        "largest difference from the float model: {:.2e}, {:.3} % of the output's largest value",
        accuracy.max_abs_error(),
        100.0 * accuracy.share()
    )
}

/// `params`, `input.NAME`, `output.NAME`.
pub(super) fn tensor_name(d: &Disclosed) -> String {
    match d.part {
        Part::Params => d.part.name().to_owned(),
        part => format!("{part}.{}", d.name),
    }
}

/// Digests and commitments, one line each.
pub(super) fn print_disclosed(disclosed: &[Disclosed]) {
    for d in disclosed {
        let what = if d.visibility == Vis::Committed { "commitment" } else { "digest" };
        ui::out(format!("{what} of {}: {}", session::printable(&tensor_name(d)), d.value));
    }
}

pub(super) fn milliseconds(timings: &Timings, phase: Phase) -> f64 {
    timings.get(phase).as_secs_f64() * 1e3
}

pub(super) fn timings_json(timings: &Timings) -> Value {
    let entries = Phase::ALL.map(|p| (p.name().to_owned(), json!(milliseconds(timings, p))));
    Value::Object(entries.into_iter().collect())
}

/// Which backend ran which operation, most time first.
pub(super) fn backends_json(ledger: &Ledger) -> Value {
    let entries = Op::PLONK.map(|op| (op.name().to_owned(), json!(ledger.backends(op).join(","))));
    Value::Object(entries.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visibility_is_parsed_strictly() {
        let v = visibility("params=fixed, input=public").unwrap();
        assert_eq!((v.input, v.output, v.params), (Vis::Public, Vis::Public, Vis::Fixed));
        for bad in ["inputs=public", "input", "input=secret", "input=public;output=private"] {
            let e = visibility(bad).unwrap_err().to_string();
            assert!(e.contains(bad), "{e}");
        }
    }
}
