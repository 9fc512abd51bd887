//! `parhelion mock`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::session::Cache;

use super::common;
use crate::args::Mock;
use crate::ui;

pub(super) fn run(args: &Mock, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let options = common::options(&args.options)?;
    let mut session = common::session(engine, cache);
    let imported = session.import(&args.model, &options.import)?;
    let input = session.input(&imported, &args.input, common::surplus(&args.options))?;
    let sample = match &args.calibrate_with {
        Some(file) => session.input(&imported, file, common::surplus(&args.options))?,
        None => input.clone(),
    };
    let prepared = session.prepare(imported, &[sample], &options)?;
    let witness = session.witness(&prepared.quantised, &input)?;
    session.mock(&prepared, &witness)?;
    ui::out(format!("every constraint holds (k = {})", prepared.k()));
    Ok(())
}
