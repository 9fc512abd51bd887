//! The search.
//!
//! Precision has few knobs that matter for the whole model (fraction bits of activations, inputs and outputs, bits of weights), and one per tensor. The search
//! lowers the common ones together until the bound breaks, then moves each by itself as long as the predicted cost falls,
//! then lowers single tensors, and at last gives back every bit that costs nothing. Each circuit is tried once; a caller
//! that kept the trials of a search that was cut short hands them in and goes on from there.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::evaluate::{Sample, score, size};
use super::{
    CalibrateError, Calibrated, Calibration, Frame, Goal, Histogram, Metric, Samples, Score, Size, Trial,
};
use crate::float;
use crate::machine::PlanError;
use crate::onnx::{DType, Data, Model, TensorF};
use crate::quant::range::default_samples;
use crate::quant::{QuantError, QuantOptions, Quantiser};

/// One sample in so many takes no part in the search.
const HELD_OUT: usize = 4;
/// Least number of samples from which some are held out.
const ENOUGH: usize = 16;
/// Samples that single trials are run on; the outcome is checked on all.
const SEARCHED: usize = 384;
/// Samples that histograms and errors of layers are from.
const SHOWN: usize = 64;
/// Tensors that get a scale of their own, most cells first.
const OWN_SCALES: usize = 24;
/// How often ranges are widened until samples that took no part run.
const WIDENINGS: usize = 6;
/// A cost that is lower by less is the same.
const SAME: f64 = 0.002;

/// Searches for the cheapest circuit that keeps the goal.
///
/// `known` are trials of an earlier search with the same model, samples, goal and frame; they are not repeated. `observe` sees every trial with its number and
/// the greatest number of trials, and stops the search by returning `false`.
///
/// # Errors
///
/// See [`CalibrateError`].
pub fn calibrate(
    model: &Model,
    samples: &Samples,
    goal: &Goal,
    frame: &Frame,
    known: &[Trial],
    observe: &mut dyn FnMut(&Trial, usize, usize) -> bool,
) -> Result<Calibrated, CalibrateError> {
    check(samples, goal)?;
    let defaults;
    let inputs = if samples.inputs.is_empty() {
        defaults = default_samples(model);
        &defaults
    } else {
        &samples.inputs
    };
    let labels = samples.labels.as_deref();
    let run = |i: usize| {
        let input = &inputs[i];
        let output =
            float::run(model, input).map_err(|source| QuantError::Calibration { sample: i, source })?;
        Ok(Sample { input, output, label: labels.and_then(|l| l.get(i).copied()) })
    };
    let hold = inputs.len() >= ENOUGH;
    let part = |held: bool| -> Result<Vec<Sample<'_>>, QuantError> {
        let mine = |i: &usize| (hold && i % HELD_OUT == HELD_OUT - 1) == held;
        let list: Vec<usize> = (0..inputs.len()).filter(mine).collect();
        list.into_par_iter().map(run).collect()
    };
    let (own, held) = (part(false)?, part(true)?);
    let ranged: Vec<Vec<TensorF>> = own.iter().map(|s| s.input.to_vec()).chain(variations(&own)).collect();
    let quantiser = Quantiser::new(model, &ranged)?;
    let mut s = Search { quantiser: &quantiser, goal, frame, own: &own, trials: Vec::new(), known, observe };
    let chosen = s.run()?;
    let trials = s.trials;

    let baseline = chosen.baseline;
    let mut options = chosen.options;
    let mut draft = quantiser.draft(&options)?;
    // What the search did not see must run too.
    for _ in 0..WIDENINGS {
        if held.is_empty() || score(&draft.quantised, &held).failed == 0 {
            break;
        }
        options.headroom *= 1.5;
        draft = quantiser.draft(&options)?;
    }
    let shown: Vec<Vec<TensorF>> = own.iter().take(SHOWN).map(|s| s.input.to_vec()).collect();
    quantiser.fill_report(&mut draft, &shown)?;
    let (size, plan) = size(&draft.quantised, frame)?;
    let score_own = score(&draft.quantised, &own);
    let held_out = (!held.is_empty()).then(|| score(&draft.quantised, &held));
    let loss = score_own.loss(goal.metric);
    let calibration = Calibration::new(goal, &options, quantiser.ranges(), own.len(), loss);
    let histograms = histograms(&quantiser, &shown);
    Ok(Calibrated {
        options,
        quantised: draft.quantised,
        calibration,
        score: score_own,
        held_out,
        size,
        plan,
        baseline,
        trials,
        histograms,
    })
}

fn check(samples: &Samples, goal: &Goal) -> Result<(), CalibrateError> {
    if !(goal.budget.is_finite() && goal.budget >= 0.0) {
        return Err(CalibrateError::Goal(format!("the budget {} is not a bound", goal.budget)));
    }
    if goal.metric == Metric::Top1 && goal.budget > 100.0 {
        return Err(CalibrateError::Goal("top-1 has 100 points".into()));
    }
    if goal.trials == 0 || goal.cover_cost < 1.0 {
        return Err(CalibrateError::Goal("at least one trial, at no less than its cost".into()));
    }
    match &samples.labels {
        Some(l) if l.len() != samples.inputs.len() => {
            Err(CalibrateError::Labels { samples: samples.inputs.len(), labels: l.len() })
        }
        _ => Ok(()),
    }
}

/// Inputs around the samples: brighter and darker ones, mirrored values, the ends of the range. They widen ranges, and are not judged.
fn variations(samples: &[Sample<'_>]) -> Vec<Vec<TensorF>> {
    let Some(first) = samples.first() else { return Vec::new() };
    let mut ends = vec![(0f64, 0f64); first.input.len()];
    for s in samples {
        for (e, t) in ends.iter_mut().zip(s.input) {
            for i in 0..t.len() {
                *e = (e.0.min(t.at(i)), e.1.max(t.at(i)));
            }
        }
    }
    let map = |s: &Sample<'_>, f: &dyn Fn(f64, (f64, f64), usize) -> f64| -> Vec<TensorF> {
        s.input
            .iter()
            .zip(&ends)
            .map(|(t, &e)| match &t.data {
                Data::F(v) => {
                    let data = v.iter().enumerate().map(|(i, &x)| t.dtype.round(f(x, e, i))).collect();
                    TensorF { data: Data::F(data), ..t.clone() }
                }
                // Classes, masks and indices have no neighbours.
                Data::I(_) => t.clone(),
            })
            .collect()
    };
    if first.input.iter().all(|t| !t.dtype.is_float() || t.dtype == DType::Bool) {
        return Vec::new();
    }
    let spread = |i: usize, seed: f64| ((i as f64 + seed) * 0.618_033_988_749_895).fract();
    let mut out = Vec::new();
    for (n, s) in samples.iter().step_by(samples.len().div_ceil(16)).enumerate() {
        let seed = 1.0 + n as f64 * 0.37;
        out.push(map(s, &|x, e, _| (1.25 * x).clamp(e.0, e.1)));
        out.push(map(s, &|x, e, _| e.0 + e.1 - x));
        out.push(map(s, &|x, e, i| (x + (spread(i, seed) - 0.5) * 0.25 * (e.1 - e.0)).clamp(e.0, e.1)));
        out.push(map(s, &|_, e, i| if spread(i, seed) > 0.5 { e.1 } else { e.0 }));
    }
    out.push(map(first, &|_, e, _| e.1));
    out.push(map(first, &|_, e, _| e.0));
    out
}

/// Distribution of every float value over samples.
fn histograms(quantiser: &Quantiser, samples: &[Vec<TensorF>]) -> Vec<Histogram> {
    let model = &quantiser.rewritten;
    let ranges = quantiser.ranges();
    let empty = || ranges.iter().map(|r| Histogram::new(&r.name, r.lo, r.hi)).collect::<Vec<_>>();
    let one = |input: &Vec<TensorF>| {
        let mut list = empty();
        if let Ok(values) = float::run_all(model, input) {
            for (h, r) in list.iter_mut().zip(&ranges) {
                if let Some(t) = values.get(crate::onnx::ValueId(r.value)) {
                    h.add(t);
                }
            }
        }
        list
    };
    samples.par_iter().map(one).reduce(empty, |mut a, b| {
        a.iter_mut().zip(&b).for_each(|(a, b)| a.merge(b));
        a
    })
}

struct Search<'a> {
    quantiser: &'a Quantiser,
    goal: &'a Goal,
    frame: &'a Frame,
    own: &'a [Sample<'a>],
    trials: Vec<Trial>,
    known: &'a [Trial],
    observe: &'a mut dyn FnMut(&Trial, usize, usize) -> bool,
}

struct Chosen {
    options: QuantOptions,
    baseline: (Score, Size),
}

/// One of the numbers that hold for the whole model.
#[derive(Clone, Copy, PartialEq)]
enum Knob {
    Activation,
    Weight,
    Input,
    Output,
}

impl Knob {
    const ALL: [Knob; 4] = [Knob::Activation, Knob::Weight, Knob::Input, Knob::Output];

    fn moved(self, o: &QuantOptions, by: i32) -> QuantOptions {
        let mut o = o.clone();
        let (bits, least) = match self {
            Knob::Activation => (&mut o.activation_bits, 2),
            Knob::Weight => (&mut o.weight_bits, 4),
            Knob::Input => (&mut o.input_bits, 2),
            Knob::Output => (&mut o.output_bits, 2),
        };
        *bits = (*bits as i32 + by).clamp(least, 24) as u32;
        o
    }
}

impl Search<'_> {
    fn run(&mut self) -> Result<Chosen, CalibrateError> {
        let base = QuantOptions { saturate: true, ..QuantOptions::default() };
        let first = self.full(&base)?;
        let (Some(score), Some(size)) = (first.score, first.size) else {
            // Say why: the errors are not kept in trials.
            let q = self.quantiser.quantise(&base)?;
            super::evaluate::size(&q, self.frame)?;
            return Err(CalibrateError::Goal("the model does not run on its own samples".into()));
        };
        let baseline = (score, size);
        let mut best = match self.within(&first) {
            true => (base.clone(), size.cost),
            false => self.sharpen(&base, score.loss(self.goal.metric))?,
        };
        best = self.lower_together(best)?;
        best = self.walk(best)?;
        best = self.single_tensors(best)?;
        best = self.cover(best)?;
        let options = self.give_back(best)?;
        Ok(Chosen { options, baseline })
    }

    fn within(&self, t: &Trial) -> bool {
        t.score.is_some_and(|s| keeps(&s, self.goal))
    }

    fn exhausted(&self) -> bool {
        self.trials.len() >= self.goal.trials
    }

    /// Whether only the trial of [`Search::cover`] is left.
    fn nearly_exhausted(&self) -> bool {
        self.trials.len() + 1 >= self.goal.trials
    }

    /// A trial with its cost, whatever its score.
    fn full(&mut self, options: &QuantOptions) -> Result<Trial, CalibrateError> {
        self.attempt(options, true)
    }

    /// A trial with its cost if its score keeps the goal.
    fn trial(&mut self, options: &QuantOptions) -> Result<Trial, CalibrateError> {
        self.attempt(options, false)
    }

    fn attempt(&mut self, options: &QuantOptions, always: bool) -> Result<Trial, CalibrateError> {
        let complete = |s: &Self, t: &&Trial| {
            t.options == *options && (t.size.is_some() || !(always || s.within(t)) || t.score.is_none())
        };
        if let Some(t) = self.trials.iter().find(|t| complete(self, t)) {
            return Ok(t.clone());
        }
        let trial = match self.known.iter().find(|t| complete(self, t)) {
            Some(t) => t.clone(),
            None => self.measure(options, always)?,
        };
        self.trials.push(trial.clone());
        if !(self.observe)(&trial, self.trials.len(), self.goal.trials) {
            return Err(CalibrateError::Interrupted);
        }
        Ok(trial)
    }

    fn measure(&self, options: &QuantOptions, always: bool) -> Result<Trial, CalibrateError> {
        let none = Trial { options: options.clone(), score: None, size: None };
        // A model that does not quantise at these numbers is a trial that failed; that it does not at all is found at the start.
        let Ok(q) = self.quantiser.quantise(options) else { return Ok(none) };
        let few = &self.own[..self.own.len().min(SEARCHED)];
        let mut found = Some(score(&q, few));
        let keeps = |s: &Option<Score>| s.is_some_and(|s| keeps(&s, self.goal));
        if keeps(&found) && few.len() < self.own.len() {
            found = Some(score(&q, self.own));
        }
        let cost = if found.is_some() && (always || keeps(&found)) {
            match size(&q, self.frame) {
                Ok((size, _)) => Some(size),
                Err(PlanError::Internal(why)) => return Err(PlanError::Internal(why).into()),
                Err(_) => None,
            }
        } else {
            None
        };
        Ok(Trial { score: found, size: cost, ..none })
    }

    /// The cost of options that keep the goal.
    fn cost(&mut self, options: &QuantOptions) -> Result<Option<f64>, CalibrateError> {
        let t = self.trial(options)?;
        Ok(t.size.filter(|_| self.within(&t)).map(|s| s.cost))
    }

    /// More bits until the goal is kept.
    fn sharpen(&mut self, base: &QuantOptions, loss: f64) -> Result<(QuantOptions, f64), CalibrateError> {
        let mut best = loss;
        for by in 1..=8 {
            let o = shifted(base, by);
            let t = self.trial(&o)?;
            if let Some(size) = t.size.filter(|_| self.within(&t)) {
                return Ok((o, size.cost));
            }
            best = t.score.map_or(best, |s| best.min(s.loss(self.goal.metric)));
            if o == shifted(base, by + 1) {
                break;
            }
        }
        Err(CalibrateError::Unreachable { metric: self.goal.metric, budget: self.goal.budget, best })
    }

    /// The common bits down together, by bisection.
    fn lower_together(&mut self, best: (QuantOptions, f64)) -> Result<(QuantOptions, f64), CalibrateError> {
        let (mut good, mut bad) = (0, 16);
        let mut found = best.clone();
        while bad - good > 1 && !self.nearly_exhausted() {
            let middle = (good + bad) / 2;
            let o = shifted(&best.0, -middle);
            match self.cost(&o)? {
                Some(cost) => {
                    good = middle;
                    if cost <= found.1 * (1.0 + SAME) {
                        found = (o, cost);
                    }
                }
                None => bad = middle,
            }
        }
        Ok(found)
    }

    /// Each knob by itself, for as long as the cost falls.
    fn walk(&mut self, mut best: (QuantOptions, f64)) -> Result<(QuantOptions, f64), CalibrateError> {
        loop {
            let mut next: Option<(QuantOptions, f64)> = None;
            for knob in Knob::ALL {
                for by in [-1, -2, -3] {
                    let mut candidates = vec![knob.moved(&best.0, by)];
                    if by == -2 {
                        // A bit less here may need one more there.
                        let low = knob.moved(&best.0, by);
                        candidates.extend(Knob::ALL.iter().filter(|k| **k != knob).map(|k| k.moved(&low, 1)));
                    }
                    for o in candidates {
                        if self.nearly_exhausted() {
                            return Ok(next.unwrap_or(best));
                        }
                        if let Some(cost) = self.cost(&o)?
                            && cost < next.as_ref().map_or(best.1, |n| n.1) * (1.0 - SAME)
                        {
                            next = Some((o, cost));
                        }
                    }
                }
            }
            match next {
                Some(n) => best = n,
                None => return Ok(best),
            }
        }
    }

    /// Scales of single tensors, widest first: those of large magnitude do not need the fraction bits of the small.
    fn single_tensors(
        &mut self,
        mut best: (QuantOptions, f64),
    ) -> Result<(QuantOptions, f64), CalibrateError> {
        let Ok(q) = self.quantiser.quantise(&best.0) else { return Ok(best) };
        let mut list: Vec<(String, u32, usize)> = q
            .report
            .iter()
            .filter(|r| r.scale > 0 && !q.program.inputs.contains(&r.tensor))
            .map(|r| (r.name.clone(), r.scale as u32, q.program.tensor(r.tensor).len()))
            .collect();
        list.sort_by_key(|(_, _, cells)| std::cmp::Reverse(*cells));
        // All at once first: by the magnitude that each reaches.
        let bits = best.0.activation_bits as i32;
        let by_range: BTreeMap<String, u32> = q
            .report
            .iter()
            .filter(|r| r.scale > 0 && !q.program.inputs.contains(&r.tensor))
            .filter_map(|r| {
                let (lo, hi) = r.observed?;
                let m = lo.abs().max(hi.abs());
                let over = if m > 0.0 { m.log2().ceil().max(0.0) as i32 } else { 0 };
                (over > 0).then(|| (r.name.clone(), (bits - over).clamp(0, 24) as u32))
            })
            .collect();
        if !by_range.is_empty() && !self.nearly_exhausted() {
            let o = QuantOptions { scales: by_range, ..best.0.clone() };
            if let Some(cost) = self.cost(&o)?
                && cost < best.1 * (1.0 - SAME)
            {
                best = (o, cost);
            }
        }
        for (name, scale, _) in list.into_iter().take(OWN_SCALES) {
            let own = best.0.scales.get(&name).copied().unwrap_or(scale.min(24));
            for by in 1..=3 {
                if self.nearly_exhausted() || own < by {
                    break;
                }
                let mut o = best.0.clone();
                o.scales.insert(name.clone(), own - by);
                match self.cost(&o)? {
                    Some(cost) if cost < best.1 * (1.0 - SAME) => best = (o, cost),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        Ok(best)
    }

    /// Range checks that no input fails, where they cost little.
    fn cover(&mut self, best: (QuantOptions, f64)) -> Result<(QuantOptions, f64), CalibrateError> {
        let o = QuantOptions { cover: true, ..best.0.clone() };
        Ok(match self.cost(&o)? {
            Some(cost) if cost <= best.1 * self.goal.cover_cost => (o, cost),
            _ => best,
        })
    }

    /// Bits that cost nothing.
    fn give_back(&mut self, best: (QuantOptions, f64)) -> Result<QuantOptions, CalibrateError> {
        let (mut options, cost) = best;
        for knob in Knob::ALL {
            for _ in 0..3 {
                if self.exhausted() {
                    return Ok(options);
                }
                let o = knob.moved(&options, 1);
                match self.cost(&o)? {
                    Some(c) if c <= cost * (1.0 + SAME) && o != options => options = o,
                    _ => break,
                }
            }
        }
        Ok(options)
    }
}

fn keeps(score: &Score, goal: &Goal) -> bool {
    score.failed == 0 && score.loss(goal.metric) <= goal.budget
}

/// All knobs by the same number of bits.
fn shifted(o: &QuantOptions, by: i32) -> QuantOptions {
    Knob::ALL.iter().fold(o.clone(), |o, k| k.moved(&o, by))
}
