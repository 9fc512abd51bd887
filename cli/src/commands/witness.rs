//! `parhelion witness`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::session::{self, Cache, Kind, Phase};

use super::common;
use crate::args::Witness;
use crate::ui;

pub(super) fn run(args: &Witness, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let options = common::options(&args.options)?;
    let mut session = common::session(engine, cache);
    let imported = session.import_for(&args.model, &options.import, Some(&args.input))?;
    let input = session.input(&imported, &args.input, common::surplus(&args.options))?;
    let prepared = session.quantise(imported, std::slice::from_ref(&input), &options)?;
    let witness = session.witness(&prepared, &input)?;
    let accuracy = prepared.accuracy(&witness, &input)?;
    accuracy.check(options.accept_error)?;
    session::write_private(&args.out, Kind::Witness, &prepared.witness_file(&witness))?;
    let time = common::milliseconds(session.timings(), Phase::Witness);
    ui::out(format!("{}: written in {}", args.out.display(), ui::ms(time)));
    ui::out(common::difference(&accuracy));
    Ok(())
}
