//! One file per command.

mod accuracy;
mod calibrate;
mod common;
mod devices;
mod explain;
mod hash;
mod inspect;
mod link;
mod mock;
mod prove;
mod setup;
mod srs;
mod tune;
mod verify;
mod witness;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::{Engine, Policy};
use parhelion_zkml::session::Cache;

use crate::args::{Cli, Command, Global};
use crate::bench;
use crate::ui;

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let global = &cli.global;
    global.memory.into_iter().for_each(common::limit_memory);
    match &cli.command {
        Command::Verify(args) => return verify::run(args, || Ok((engine(global)?, cache(global)))),
        Command::Link(args) => return link::run(args),
        Command::Prove(args) => prove::run(args, &engine(global)?, cache(global)),
        Command::Hash(args) => hash::run(args, &engine(global)?, cache(global)),
        Command::Setup(args) => setup::run(args, &engine(global)?, cache(global)),
        Command::Witness(args) => witness::run(args, &engine(global)?, cache(global)),
        Command::Mock(args) => mock::run(args, &engine(global)?, cache(global)),
        Command::Inspect(args) => inspect::run(args, &engine(global)?, cache(global)),
        Command::Calibrate(args) => calibrate::run(args, &engine(global)?, cache(global)),
        Command::Accuracy(args) => accuracy::run(args, &engine(global)?, cache(global)),
        Command::Devices(args) => devices::run(args, &engine(global)?),
        Command::Explain(args) => explain::run(args, &engine(global)?),
        Command::Tune(args) => tune::run(args, &engine(global)?),
        Command::Srs(args) => srs::run(args),
        Command::Bench(args) => bench::run(args, &engine(global)?),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "parhelion", &mut text);
            ui::raw(&text);
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The process-wide engine, with the backends that the command line names.
fn engine(global: &Global) -> Result<Engine<G1Affine>> {
    let engine = parhelion_backends::default_engine()?.with_ledger();
    let Some(names) = global.backend.as_ref().filter(|n| !n.is_empty()) else { return Ok(engine) };
    let choice = names.parse().map_err(anyhow::Error::msg).with_context(|| format!("--backend {names}"))?;
    let policy = Policy { choice, ..engine.settings().policy.clone() };
    engine.with_policy(policy).with_context(|| format!("--backend {names}"))
}

fn cache(global: &Global) -> Cache {
    match &global.cache {
        _ if global.no_cache => Cache::none(),
        Some(dir) if !dir.is_empty() => Cache::at(dir),
        _ => Cache::from_env(),
    }
}
