//! `parhelion`: prove machine-learning models from the command line.
//!
//! One binary, one subcommand per step of the pipeline, and `prove`, which takes all the steps at once. Results go to standard output (a table
//! for people, one JSON object with `--json`); progress, warnings and errors go to standard error. The exit code is 0 on success, 1 when a step fails, 2
//! when the command line itself is wrong, 3 when a proof verifies and nothing says whose statement it is. Files are written whole or not at all.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod commands;
mod idx;
mod process;
mod ui;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
            // Help that cannot be printed is no success; a reader that went away is told nothing.
            return match e.print() {
                Ok(()) => code,
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    let outcome = process::prepare().and_then(|cap| {
        ui::init(&cli.global)?;
        cap.into_iter().for_each(|warning| tracing::warn!("{warning}"));
        commands::run(cli)
    });
    match outcome.and_then(|code| Ok((code, ui::finish()?))) {
        Ok((code, true)) => code,
        Ok((_, false)) => ExitCode::FAILURE,
        Err(e) => {
            ui::clear();
            // Nobody is left to tell when this fails too.
            let _ = writeln!(std::io::stderr(), "error: {}", described(&e));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once: many errors have the text of their cause in their own.
fn described(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn causes_are_said_once() {
        let inner = || Err::<(), _>(std::io::Error::other("disk on fire"));
        let e = inner().context("a.json").unwrap_err();
        assert_eq!(super::described(&e), "a.json: disk on fire");
        let e = inner().context("a.json: disk on fire").unwrap_err();
        assert_eq!(super::described(&e), "a.json: disk on fire");
    }
}
