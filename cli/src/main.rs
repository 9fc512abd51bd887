//! `parhelion`: prove machine-learning models from the command line.
//!
//! One binary, one subcommand per step of the pipeline, and `prove`, which takes all the steps at once. Results go to standard output (a table
//! for people, one JSON object with `--json`); progress, warnings and errors go to standard error. The exit code is 0 on success, 1 when a step fails, 2
//! when the command line itself is wrong. Files are written whole or not at all.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod commands;
mod idx;
mod process;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    if let Err(e) = ui::init(&cli.global) {
        eprintln!("error: {e:#}");
        return ExitCode::FAILURE;
    }
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            ui::clear();
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
