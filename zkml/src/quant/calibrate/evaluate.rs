//! One circuit: how it does on the samples, and what it costs.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Frame, Score, Size};
use crate::exec;
use crate::machine::{PlanError, PlanOptions, PlanReport, plan_shared};
use crate::onnx::TensorF;
use crate::quant::Quantised;

/// A sample with the float model's results.
pub(super) struct Sample<'a> {
    pub(super) input: &'a [TensorF],
    pub(super) output: Vec<TensorF>,
    pub(super) label: Option<i64>,
}

/// What one sample adds to a score.
#[derive(Clone, Copy, Default)]
struct Part {
    answers: usize,
    float: usize,
    integer: usize,
    max_abs: f64,
    squares: f64,
    elements: usize,
}

/// Runs a quantised model on samples.
pub(super) fn score(q: &Quantised, samples: &[Sample<'_>]) -> Score {
    let parts: Vec<Option<Part>> = samples.par_iter().map(|s| part(q, s)).collect();
    let failed = parts.iter().filter(|p| p.is_none()).count();
    let total = parts.into_iter().flatten().fold(Part::default(), |a, b| Part {
        answers: a.answers + b.answers,
        float: a.float + b.float,
        integer: a.integer + b.integer,
        max_abs: a.max_abs.max(b.max_abs),
        squares: a.squares + b.squares,
        elements: a.elements + b.elements,
    });
    let percent = |n: usize| 100.0 * n as f64 / total.answers.max(1) as f64;
    Score {
        samples: samples.len(),
        failed,
        float_top1: percent(total.float),
        top1: percent(total.integer),
        max_abs: total.max_abs,
        mse: total.squares / total.elements.max(1) as f64,
    }
}

fn part(q: &Quantised, s: &Sample<'_>) -> Option<Part> {
    let encoded = q.encode_inputs(s.input).ok()?;
    let trace = exec::run_checked(&q.program, &encoded).ok()?;
    let found = q.decode_outputs(&trace);
    let mut part = Part::default();
    for (g, w) in found.iter().zip(&s.output) {
        for i in 0..w.len().min(g.len()) {
            let d = (g.at(i) - w.at(i)).abs();
            if w.at(i).is_finite() {
                part.max_abs = part.max_abs.max(d);
                part.squares += d * d;
                part.elements += 1;
            }
        }
    }
    let (want, got) = (answers(s.output.first()?), answers(found.first()?));
    part.answers = want.len();
    let right = |answer: &i64, i: usize| s.label.map_or(want.get(i) == Some(answer), |l| l == *answer);
    part.float = want.iter().enumerate().filter(|(i, a)| right(a, *i)).count();
    part.integer = got.iter().enumerate().filter(|(i, a)| right(a, *i)).count();
    Some(part)
}

/// The answer of every row of the first output: the index of its greatest element, or the number itself where the model gives classes.
fn answers(t: &TensorF) -> Vec<i64> {
    let width = t.shape.last().copied().unwrap_or(1);
    if !t.dtype.is_float() {
        return t.to_i64();
    }
    let v = t.to_f64();
    if width <= 1 {
        return v.iter().map(|v| v.round() as i64).collect();
    }
    let best = |row: &[f64]| {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter().position(|&v| v == top).unwrap_or(0) as i64
    };
    v.chunks(width).map(best).collect()
}

/// What a circuit for a quantised model costs.
pub(super) fn size(q: &Quantised, frame: &Frame) -> Result<(Size, PlanReport), PlanError> {
    let options = PlanOptions { max_k: frame.max_k, ..PlanOptions::default() };
    let plan = plan_shared(Arc::new(q.program.clone()), &frame.visibility, &options)?;
    let report = plan.report();
    Ok((Size::of(&report), report))
}
