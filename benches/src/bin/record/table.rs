//! The record as a readable table.

use std::fmt::Write;
use std::time::Duration;

use crate::machine;
use crate::measure::Sample;
use crate::roofline::{self, Rates};

/// What is asked of an operation: at least this ratio on vectors, and 1.2 of the same operations on the portable path.
fn target(sample: &Sample) -> Option<f64> {
    if sample.is_memory() {
        return Some(0.7);
    }
    let is = |name: &str| sample.op == name || sample.op.starts_with(&format!("{name},"));
    let vectors = match (sample.op.as_str(), sample.against.as_str()) {
        ("msm", "arkworks") => Some(6.0),
        ("msm", _) => Some(3.0),
        _ if is("msm") => Some(3.5),
        ("ntt" | "intt" | "coset-x4", _) => Some(4.0),
        _ if is("h(X)") && sample.op.ends_with("wide") => Some(4.0),
        _ if is("prove") => Some(4.0),
        _ if is("keygen") => Some(3.0),
        _ => None,
    };
    if sample.isa == "scalar" { vectors.map(|_| 1.2) } else { vectors }
}

pub(crate) fn markdown(samples: &[Sample], isas: &[String], took: Duration, quick: bool) -> String {
    let mut text = String::from("# CPU backend against its peers\n\n");
    if quick {
        text.push_str("**A quick run: sizes and times mean nothing.**\n\n");
    }
    for (what, value) in machine::describe() {
        let _ = writeln!(text, "- {what}: {value}");
    }
    let _ = writeln!(text, "- the whole record took {:.0} s", took.as_secs_f64());
    text.push_str(
        "\nMedians of interleaved runs in one process, every run in `runs.csv`. Ratio: theirs / ours for times, ours / theirs for memory. \
         Peak memory: a process per side that loads the same key and reference string; the high-water mark of the resident set from \
         then to the end of the proof. h(X): from the challenge y to the first commitment to a piece, less interpolation of advice and \
         commitments, which are measured apart.\n",
    );
    for isa in isas {
        let of =
            |machine: bool| samples.iter().filter(move |s| s.isa == *isa && s.against.is_empty() == machine);
        let _ = writeln!(text, "\n## {isa}\n");
        for sample in of(true) {
            let name = sample.op.strip_prefix("machine: ").unwrap_or(&sample.op);
            let _ = writeln!(
                text,
                "- {name}: {:.2} {}",
                sample.ours.first().copied().unwrap_or(f64::NAN),
                sample.unit
            );
        }
        text.push_str("\n| operation | log n | against | runs | ours | theirs | ratio | asked | | of the floor |\n|---|---|---|---|---|---|---|---|---|---|\n");
        let rates = Rates::of(of(true));
        for sample in of(false) {
            let (ours, theirs, ratio) = sample.medians();
            let met = |asked: f64| if sample.is_memory() { ratio <= asked } else { ratio >= asked };
            let (asked, verdict) = target(sample).map_or_else(Default::default, |asked| {
                let sign = if sample.is_memory() { "≤" } else { "≥" };
                (format!("{sign} {asked:.1}"), if met(asked) { "met" } else { "**missed**" })
            });
            // How many times the floor of `docs/roofline.md` it took, and what sets the floor.
            let floor = rates.zip(roofline::cost(&sample.op, sample.log_n)).map_or_else(
                String::new,
                |(rates, cost)| {
                    let (floor, by_memory) = rates.floor_ms(cost);
                    format!("{:.1}×{}", ours / floor, if by_memory { " (memory)" } else { "" })
                },
            );
            let Sample { op, log_n, against, unit, .. } = sample;
            let _ = writeln!(
                text,
                "| {op} | {log_n} | {against} | {} | {ours:.2} {unit} | {theirs:.2} {unit} | {ratio:.2} | {asked} | {verdict} | {floor} |",
                sample.ours.len()
            );
        }
    }
    text
}
