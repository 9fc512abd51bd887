//! `parhelion hash`
//!
//! The digests (and, under a secret, the commitments) that a proof about this model and input shows, without a circuit.

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::machine::Exposure;
use parhelion_zkml::session::{self, Cache, Setup, opening_secret, setup_binding};
use serde_json::json;

use super::common;
use crate::args::Hash;
use crate::ui;

pub(super) fn run(args: &Hash, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let mut options = common::options(&args.options)?;
    let mut session = common::session(engine, cache);
    let setup = args.setup.as_deref().map(Setup::read).transpose()?;
    if let Some(dir) = &args.setup {
        options.import.bind(&setup_binding(dir)?)?;
    }
    let imported = session.import_for(&args.model, &options.import, Some(&args.input))?;
    let input = session.input(&imported, &args.input, common::surplus(&args.options))?;
    let quantised = match &setup {
        Some(setup) => {
            let (quantised, visibility) = session.quantised(imported, setup)?;
            options.visibility = visibility;
            quantised
        }
        None => session.quantise(imported, std::slice::from_ref(&input), &options)?,
    };
    let program = quantised.program();
    let witness = session.witness(&quantised, &input)?;
    let exposure = Exposure::of(program, &options.visibility)?;
    let mut disclosed = session::digests(&quantised, &exposure, &witness)?;
    if let (Some(file), Some(k)) = (&args.opening, args.k) {
        let srs = session.srs(args.srs.as_deref(), k)?;
        let secret = opening_secret(file)?;
        disclosed.extend(session::commitments(&quantised, &exposure, &witness, &srs, &secret));
    }
    if args.json {
        ui::json(&json!({"model": common::shown(&args.model), "disclosed": disclosed}));
        return Ok(());
    }
    common::print_disclosed(&disclosed);
    Ok(())
}
