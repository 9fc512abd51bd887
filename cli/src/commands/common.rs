//! What several commands share: options from arguments, progress, the way from a model to a circuit.

use anyhow::{Context, Result, bail, ensure};
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::Op;
use parhelion_dispatch::{Engine, Ledger};
use parhelion_zkml::machine::{Vis, Visibility};
use parhelion_zkml::onnx::ImportOptions;
use parhelion_zkml::quant::QuantOptions;
use parhelion_zkml::session::{Cache, Options, Phase, Session, Timings};
use serde_json::{Value, json};

use crate::args::ModelOptions;
use crate::ui;

/// A session that tells the progress line where it is.
pub(super) fn session(engine: &Engine<G1Affine>, cache: Cache) -> Session {
    Session::new(engine.clone(), cache).on_phase(|phase| {
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

pub(super) fn options(args: &ModelOptions) -> Result<Options> {
    let mut import = ImportOptions::default();
    for variable in &args.variables {
        let (name, value) =
            variable.split_once('=').with_context(|| format!("--variable {variable}: expected NAME=N"))?;
        let value: usize =
            value.parse().with_context(|| format!("--variable {variable}: `{value}` is not a length"))?;
        ensure!(value > 0, "--variable {variable}: a length is at least 1");
        import.dims.insert(name.to_owned(), value);
    }
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
    Ok(Options { import, quant, visibility: visibility(&args.visibility)?, max_k: args.max_k })
}

/// `input=private,output=public,params=fixed`; parts that are left out keep their defaults.
pub(super) fn visibility(text: &str) -> Result<Visibility> {
    let mut visibility = Visibility::default();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let parsed = part.split_once('=').and_then(|(name, kind)| {
            let kind = match kind.trim() {
                "private" => Vis::Private,
                "public" => Vis::Public,
                "fixed" => Vis::Fixed,
                _ => return None,
            };
            Some((name.trim(), kind))
        });
        match parsed {
            Some(("input", kind)) => visibility.input = kind,
            Some(("output", kind)) => visibility.output = kind,
            Some(("params", kind)) => visibility.params = kind,
            _ => bail!(
                "--visibility {text}: `{part}` is not input, output or params = public, private or fixed"
            ),
        }
    }
    Ok(visibility)
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
    let entries = Op::ALL.map(|op| (op.name().to_owned(), json!(ledger.backends(op).join(","))));
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
