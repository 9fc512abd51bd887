//! `parhelion bench`: one operation, timed against halo2-axiom's own on the same data.
//!
//! Runs are interleaved (ours, theirs, ours, …) after one warm-up of each, so that other load on the machine hits both alike; medians are
//! reported. Every result is compared with the peer's: a figure for a wrong answer is an error, not a figure.

mod circuit;
mod proof;
mod stopwatch;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ff::Field;
use group::Group;
use halo2_axiom::arithmetic::best_multiexp;
use halo2_axiom::poly::EvaluationDomain;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{NttPlan, Reuse, ScalarKind};
use parhelion_dispatch::Engine;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::json;

use crate::args::{Bench, BenchOp};
use crate::ui;

/// Seconds of one run each, as milliseconds.
#[derive(Debug, Default)]
struct Samples {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Samples {
    /// Alternates `ours` and `theirs`, each of which says how long its run took (ms), after one unrecorded run of each.
    fn interleave(
        runs: u32,
        mut ours: impl FnMut() -> Result<f64>,
        mut theirs: Option<impl FnMut() -> Result<f64>>,
    ) -> Result<Samples> {
        let mut samples = Samples::default();
        for run in 0..=runs {
            ui::phase(format!("run {run} of {runs}"));
            let time = ours()?;
            if run > 0 {
                samples.ours.push(time);
            }
            if let Some(theirs) = &mut theirs {
                let time = theirs()?;
                if run > 0 {
                    samples.theirs.push(time);
                }
            }
        }
        Ok(samples)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// How long `f` takes, in milliseconds, and what it gives.
fn timed<T>(f: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = f();
    (start.elapsed().as_secs_f64() * 1e3, value)
}

pub(crate) fn run(args: &Bench, engine: &Engine<G1Affine>) -> Result<()> {
    let samples = match args.op {
        BenchOp::Msm => msm(args, engine),
        BenchOp::Ntt => ntt(args, engine),
        BenchOp::Quotient | BenchOp::Proof => proof::run(args, engine),
    }?;
    let ours = median(&samples.ours).context("no runs")?;
    let theirs = median(&samples.theirs);
    let ratio = theirs.map(|t| t / ours);
    if args.json {
        ui::out(
            json!({
                "op": args.op.name(), "log_n": args.log_n, "runs": args.runs,
                "ours_ms": ours, "theirs_ms": theirs, "ratio": ratio,
                "threads": rayon::current_num_threads(),
            })
            .to_string(),
        );
        return Ok(());
    }
    let mut table = ui::Table::new([args.op.name(), "2^n", "ours", "halo2-axiom", "ratio"]);
    let or_dash = |v: Option<String>| v.unwrap_or_else(|| "–".into());
    table.row([
        format!("median of {}", args.runs),
        args.log_n.to_string(),
        ui::ms(ours),
        or_dash(theirs.map(ui::ms)),
        or_dash(ratio.map(|r| format!("{r:.2}×"))),
    ]);
    table.print();
    Ok(())
}

/// `n` points whose discrete logarithms nobody needs: multiples of the generator in arithmetic progression of a random step.
fn points(n: usize, rng: &mut ChaCha20Rng) -> Vec<G1Affine> {
    use group::Curve;
    use rayon::prelude::*;
    let step = G1Affine::generator() * Fr::random(&mut *rng);
    let chunk = 1 << 12;
    let projective: Vec<G1> = (0..n.div_ceil(chunk))
        .into_par_iter()
        .flat_map_iter(|c| {
            let mut point = step * Fr::from((c * chunk + 1) as u64);
            (0..chunk.min(n - c * chunk)).map(move |_| {
                let this = point;
                point += step;
                this
            })
        })
        .collect();
    let mut affine = vec![G1Affine::default(); n];
    G1::batch_normalize(&projective, &mut affine);
    affine
}

fn msm(args: &Bench, engine: &Engine<G1Affine>) -> Result<Samples> {
    let n = 1usize << args.log_n;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    ui::phase("points");
    let host = points(n, &mut rng);
    let scalars: Vec<Fr> = (0..n).map(|_| Fr::random(&mut rng)).collect();
    let bases = engine.load_bases(host.clone(), Reuse::Often);
    let mut found = [G1::identity()];
    let mut expected = None;
    let ours = || {
        let (time, result) =
            timed(|| engine.msm_batch(&bases, &[Ref::host(&scalars)], ScalarKind::Full, &mut found));
        result?;
        Ok(time)
    };
    let theirs = args.against.map(|_| {
        || {
            let (time, sum) = timed(|| best_multiexp(&scalars, &host));
            expected = Some(sum);
            Ok(time)
        }
    });
    let samples = Samples::interleave(args.runs, ours, theirs)?;
    ensure!(expected.is_none_or(|e| e == found[0]), "our sum differs from halo2-axiom's");
    Ok(samples)
}

fn ntt(args: &Bench, engine: &Engine<G1Affine>) -> Result<Samples> {
    let n = 1usize << args.log_n;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let values: Vec<Fr> = (0..n).map(|_| Fr::random(&mut rng)).collect();
    let domain = EvaluationDomain::<Fr>::new(2, args.log_n);
    let mut found = Vec::new();
    let mut expected = Vec::new();
    let ours = || {
        let mut column = values.clone();
        let (time, result) =
            timed(|| engine.ntt_batch(&NttPlan::inverse(args.log_n), &mut [RefMut::host(&mut column)]));
        result?;
        found = column;
        Ok(time)
    };
    let theirs = args.against.map(|_| {
        || {
            let column = domain.lagrange_from_vec(values.clone());
            let (time, poly) = timed(|| domain.lagrange_to_coeff(column));
            expected = poly.to_vec();
            Ok(time)
        }
    });
    let samples = Samples::interleave(args.runs, ours, theirs)?;
    ensure!(expected.is_empty() || expected == found, "our transform differs from halo2-axiom's");
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn points_are_distinct_multiples() {
        let points = points(5000, &mut ChaCha20Rng::seed_from_u64(7));
        let step = points[1] - points[0];
        assert_eq!(G1::from(points[4097]), G1::from(points[4096]) + step);
    }
}
