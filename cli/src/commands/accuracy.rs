//! `parhelion accuracy`
//!
//! Top-1 of the float model and of the quantised one, in the integers that the circuit proves, on labelled images.

use anyhow::{Context, Result, ensure};
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::Engine;
use parhelion_zkml::onnx::{Data, Model, TensorF};
use parhelion_zkml::session::{Cache, Imported, Quantised};
use parhelion_zkml::{exec, float};
use rayon::prelude::*;
use serde_json::json;

use super::common;
use crate::args::Accuracy;
use crate::idx::Idx;
use crate::ui;

/// What one image gave.
struct Scored {
    float: bool,
    integer: bool,
    same: bool,
    error: f64,
}

pub(super) fn run(args: &Accuracy, engine: &Engine<G1Affine>, cache: Cache) -> Result<()> {
    let options = common::options(&args.options)?;
    ensure!(args.divide.is_finite() && args.divide != 0.0, "--divide {}: not a divisor", args.divide);
    let images = Idx::read(&args.images)?;
    let labels = Idx::read(&args.labels)?;
    ensure!(
        images.items() == labels.items(),
        "{} has {} images, {} has {} labels",
        args.images.display(),
        images.items(),
        args.labels.display(),
        labels.items()
    );
    let range = match &args.range {
        Some(text) => parse_range(text, images.items())?,
        None => 0..images.items(),
    };
    let mut session = common::session(engine, cache);
    let imported = session.import(&args.model, &options.import)?;
    let classes = scores(&imported.model)?;
    for i in range.clone() {
        let label = labels.item(i).first().copied().context("no label")?;
        ensure!(
            usize::from(label) < classes,
            "{}, label {i}: {label} is not one of {classes} classes",
            args.labels.display()
        );
    }
    let input = |i: usize| image(&imported, images.item(i), args.divide);
    let samples: Vec<Vec<TensorF>> =
        range.clone().take(args.calibrate.max(1)).map(input).collect::<Result<_>>()?;
    let quantised = session.quantise(imported.clone(), &samples, &options)?;
    ui::phase("running");
    let scored: Vec<Scored> = range
        .clone()
        .into_par_iter()
        .map(|i| {
            let label = labels.item(i).first().copied().context("no label")?;
            score(&quantised, &input(i)?, usize::from(label)).with_context(|| format!("image {i}"))
        })
        .collect::<Result<_>>()?;
    let n = scored.len() as f64;
    let share = |f: fn(&Scored) -> bool| scored.iter().filter(|s| f(s)).count() as f64 / n;
    let (float, integer, same) = (share(|s| s.float), share(|s| s.integer), share(|s| s.same));
    let error = scored.iter().map(|s| s.error).fold(0.0, f64::max);
    if args.json {
        ui::out(
            json!({
                "model": common::shown(&args.model), "images": scored.len(), "first": range.start, "last": range.end - 1,
                "float_top1": float, "quantised_top1": integer, "same_answer": same, "max_abs_error": error,
            })
            .to_string(),
        );
        return Ok(());
    }
    let mut table =
        ui::Table::new(["images", "float top-1", "quantised top-1", "same answer", "largest error"]);
    let percent = |v: f64| format!("{:.2} %", 100.0 * v);
    table.row([
        scored.len().to_string(),
        percent(float),
        percent(integer),
        percent(same),
        format!("{error:.1e}"),
    ]);
    table.print();
    Ok(())
}

/// Number of scores that the answer is the greatest of.
pub(super) fn scores(model: &Model) -> Result<usize> {
    Ok(model.output_values().next().context("the model has no output")?.shape.iter().product())
}

pub(super) fn parse_range(text: &str, items: usize) -> Result<std::ops::Range<usize>> {
    let (from, to) = text.split_once("..").with_context(|| format!("--range {text}: expected FROM..TO"))?;
    let number = |s: &str| s.trim().parse::<usize>().with_context(|| format!("--range {text}"));
    let range = number(from)?..number(to)?;
    ensure!(!range.is_empty() && range.end <= items, "--range {text}: there are {items} images");
    Ok(range)
}

fn image(imported: &Imported, bytes: &[u8], divide: f64) -> Result<Vec<TensorF>> {
    let value = imported.model.input_values().next().context("the model has no input")?;
    ensure!(
        imported.model.inputs.len() == 1,
        "the model has {} inputs, not one",
        imported.model.inputs.len()
    );
    ensure!(
        bytes.len() == value.shape.iter().product::<usize>(),
        "an image has {} pixels, input `{}` has shape {:?}",
        bytes.len(),
        value.name,
        value.shape
    );
    let data = bytes.iter().map(|&b| value.dtype.round(f64::from(b) / divide)).collect();
    Ok(vec![TensorF { shape: value.shape.clone(), dtype: value.dtype, data: Data::F(data) }])
}

fn score(quantised: &Quantised, input: &[TensorF], label: usize) -> Result<Scored> {
    let reference = float::run(&quantised.imported.model, input)?;
    let reference = reference.first().context("the model has no output")?.to_f64();
    let elements = quantised.model.encode_inputs(input)?;
    let trace = exec::run_checked(quantised.program(), &elements)?;
    let found = quantised.model.decode_outputs(&trace);
    let found = found.first().context("the model has no output")?.to_f64();
    let error = found.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (a, b) = (argmax(&reference), argmax(&found));
    Ok(Scored { float: a == Some(label), integer: b == Some(label), same: a == b, error })
}

fn argmax(values: &[f64]) -> Option<usize> {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().position(|&v| v == best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_within_the_images() {
        assert_eq!(parse_range("7000..9000", 10_000).unwrap(), 7000..9000);
        for bad in ["", "1", "5..5", "9..3", "0..11", "a..3"] {
            assert!(parse_range(bad, 10).is_err(), "{bad}");
        }
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[]), None);
    }
}
