//! A record of soundness: mutants of every cell of every operation against the statement's constraints, and random ones against the real prover
//! and verifier.
//!
//! `cargo run --release -p parhelion-zkml --example mutations -- [NAME]` prints a table; with a name also writes `NAME.md` and `NAME.json`. It ends with
//! an error if any mutant is accepted. A minute or two.

#![expect(clippy::print_stdout, reason = "the table is what the command is for")]

#[path = "../tests/machine_common/mod.rs"]
mod machine_common;

use std::fmt::Write;
use std::process::ExitCode;

use machine_common::mutants::{case, end_to_end, mutate, programs};
use parhelion_zkml::machine::{PlanOptions, Visibility, plan};
use serde_json::json;

/// Mutants of each program for the real verifier.
const REAL: usize = 60;

fn main() -> ExitCode {
    let name = std::env::args().nth(1);
    let mut table = String::from(
        "| operation | units per row | cells | mutants | least values per cell | survive | through the real verifier | accepted |\n|---|---|---|---|---|---|---|---|\n",
    );
    let (mut rows, mut totals) = (Vec::new(), [0usize; 4]);
    for (op, p) in programs() {
        for units in [1u32, 2] {
            let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
            if plan(&p, &Visibility::default(), &options).is_err() {
                continue;
            }
            let done = mutate(&case(&p, Visibility::default(), units), 1);
            // An accepted one ends the program here.
            let real = if units == 1 { end_to_end(op, &p, REAL) } else { 0 };
            let survive = done.survivors.len();
            let _ = writeln!(
                table,
                "| {op} | {units} | {} | {} | {} | {survive} | {real} | 0 |",
                done.cells, done.tried, done.least
            );
            for (total, x) in totals.iter_mut().zip([done.cells, done.tried, survive, real]) {
                *total += x;
            }
            rows.push(json!({
                "operation": op, "units": units, "cells": done.cells, "mutants": done.tried,
                "least_values_per_cell": done.least, "survivors": done.survivors, "real": real,
            }));
            eprintln!("{op}, {units} units: {} mutants, {survive} survive, {real} real", done.tried);
        }
    }
    let [cells, mutants, survive, real] = totals;
    let _ = writeln!(table, "| all | | {cells} | {mutants} | | {survive} | {real} | 0 |");
    println!("{table}");
    if let Some(name) = name {
        let about = "Every cell that is assigned (units, store, multiplicities, junk, scalar rows, running sums), with all its copies, is given other values; later phases are \
            computed from the changed cells. Random ones of them go through the real prover and halo2's verifier.";
        let record = json!({
            "command": "cargo run --release -p parhelion-zkml --example mutations",
            "cells": cells, "mutants": mutants, "survive": survive, "real": real, "accepted": 0, "operations": rows,
        });
        let text = format!(
            "# Mutants of every operation\n\n`cargo run --release -p parhelion-zkml --example mutations`\n\n{about}\n\n{table}"
        );
        let written = std::fs::write(format!("{name}.md"), text)
            .and_then(|()| std::fs::write(format!("{name}.json"), format!("{record:#}\n")));
        if let Err(e) = written {
            eprintln!("{name}: {e}");
            return ExitCode::FAILURE;
        }
    }
    if survive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
