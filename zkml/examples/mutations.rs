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

use machine_common::mutants::{
    Outcome, case, case_of, end_to_end, end_to_end_exposed, mutate, mutate_exposed, mutate_padding, programs,
    stores,
};
use parhelion_zkml::machine::{PlanOptions, Vis, Visibility, plan};
use serde_json::json;

/// Mutants of each program for the real verifier.
const REAL: usize = 60;

/// The program whose tensors are hashed and committed.
const EXPOSED: &str = "einsum";

struct Record {
    table: String,
    rows: Vec<serde_json::Value>,
    totals: [usize; 4],
}

impl Record {
    fn add(&mut self, op: &str, units: u32, done: &Outcome, real: usize) {
        let survive = done.survivors.len();
        let _ = writeln!(
            self.table,
            "| {op} | {units} | {} | {} | {} | {survive} | {real} | 0 |",
            done.cells, done.tried, done.least
        );
        for (total, x) in self.totals.iter_mut().zip([done.cells, done.tried, survive, real]) {
            *total += x;
        }
        self.rows.push(json!({
            "operation": op, "units": units, "cells": done.cells, "mutants": done.tried,
            "least_values_per_cell": done.least, "survivors": done.survivors, "real": real,
        }));
        eprintln!("{op}, {units} units: {} mutants, {survive} survive, {real} real", done.tried);
    }
}

fn main() -> ExitCode {
    let name = std::env::args().nth(1);
    let mut record = Record {
        table: String::from(
            "| operation | units per row | cells | mutants | least values per cell | survive | through the real verifier | accepted |\n|---|---|---|---|---|---|---|---|\n",
        ),
        rows: Vec::new(),
        totals: [0; 4],
    };
    let all = programs();
    for (op, p) in &all {
        for units in [1u32, 2] {
            let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
            if plan(p, &Visibility::default(), &options).is_err() {
                continue;
            }
            let done = mutate(&case(p, Visibility::default(), units), 1);
            // An accepted one ends the program here.
            let real = if units == 1 { end_to_end(op, p, REAL) } else { 0 };
            record.add(op, units, &done, real);
        }
    }
    for (op, p, visibility, choice) in stores() {
        let options = PlanOptions { choice: Some(choice), ..PlanOptions::default() };
        let case = case_of(&p, visibility, &options);
        let mut done = mutate(&case, 1);
        let padding = mutate_padding(&case);
        done.cells += padding.cells;
        done.tried += padding.tried;
        done.least = done.least.min(padding.least);
        done.survivors.extend(padding.survivors);
        let name = format!("{op}, {} store columns with padding, hashed weights", choice.store);
        record.add(&name, case.plan.report().choice.units, &done, 0);
    }
    for (op, p) in all.iter().filter(|(op, _)| *op == EXPOSED) {
        for vis in [Vis::Hashed, Vis::Committed] {
            let visibility = Visibility::new(vis, vis, vis);
            let done = mutate_exposed(&case(p, visibility.clone(), 1), 1);
            let name = format!("{op}, all {vis}: digests and committed tensors");
            let real = end_to_end_exposed(&name, p, visibility, REAL);
            record.add(&name, 1, &done, real);
        }
    }
    let Record { mut table, rows, totals } = record;
    let [cells, mutants, survive, real] = totals;
    let _ = writeln!(table, "| all | | {cells} | {mutants} | | {survive} | {real} | 0 |");
    println!("{table}");
    if let Some(name) = name {
        let about = "Every cell that is assigned (units, store, multiplicities, junk, scalar rows, running sums, padding of the store that a gate reads; for hashed and committed tensors those of the digests and of the committed columns), with all its copies, is given other values; later phases are \
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
