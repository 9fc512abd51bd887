//! Single operations, with and without transfers. Every result is compared with the CPU's before its time counts.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ff::{Field, PrimeField};
use group::{Curve, Group};
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Buffer, Queue, Ref, RefMut};
use parhelion_backend_api::{NttPlan, Provider, Reuse, ScalarKind};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::record::Figure;

fn elapsed(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Times `f`, after one run that does not count.
fn times(runs: u32, mut f: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    f()?;
    (0..runs).map(|_| f()).collect()
}

fn figure(variant: &str, provider: &Provider, runs: Vec<f64>) -> Figure {
    Figure { variant: variant.into(), backend: provider.info.backend.into(), runs, note: String::new() }
}

/// Multiples of the generator in arithmetic progression.
fn points(n: usize) -> Vec<G1Affine> {
    let step = G1::generator() * Fr::from(0x1234_5678_9abc_def1);
    let chunk = 1 << 12;
    let parts: Vec<Vec<G1Affine>> = (0..n.div_ceil(chunk))
        .into_par_iter()
        .map(|c| {
            let count = chunk.min(n - c * chunk);
            let first = step * Fr::from((c * chunk + 1) as u64);
            let sums: Vec<G1> = std::iter::successors(Some(first), |p| Some(p + step)).take(count).collect();
            let mut affine = vec![G1Affine::default(); count];
            G1::batch_normalize(&sums, &mut affine);
            affine
        })
        .collect();
    parts.concat()
}

fn column(n: usize, value: impl Fn(&mut ChaCha20Rng) -> Fr + Sync) -> Vec<Fr> {
    let mut column = vec![Fr::ZERO; n];
    column.par_chunks_mut(1 << 12).enumerate().for_each(|(c, chunk)| {
        let mut rng = ChaCha20Rng::seed_from_u64(c as u64);
        chunk.iter_mut().for_each(|slot| *slot = value(&mut rng));
    });
    column
}

/// Columns as provers have them, and their names.
fn columns(n: usize) -> Vec<(&'static str, Vec<Fr>)> {
    let mix = |rng: &mut ChaCha20Rng| match rng.next_u32() % 10 {
        0..6 => Fr::from(u64::from(rng.next_u32() & 1)),
        6..9 => Fr::from(u64::from(rng.next_u32() as u16)),
        _ => Fr::random(rng),
    };
    vec![
        ("uniform", column(n, |rng| Fr::random(rng))),
        ("16 bits", column(n, |rng| Fr::from(u64::from(rng.next_u32() as u16)))),
        ("zero or one", column(n, |rng| Fr::from(u64::from(rng.next_u32() & 1)))),
        ("60 % bits 30 % words", column(n, mix)),
    ]
}

/// Multiplications of 2^`log_n` scalars over resident bases: scalars on the host, and on the device.
pub(crate) fn msm(cpu: &Provider, device: &Provider, log_n: u32, runs: u32) -> Result<Vec<Figure>> {
    let n = 1usize << log_n;
    let (bases, columns) = (points(n), columns(n));
    let mut figures = Vec::new();
    let mut expected = Vec::new();
    for provider in [cpu, device] {
        let msm = provider.msm::<G1Affine>().context("no multiplication")?;
        let (space, queue) = (provider.space.as_ref(), provider.space.queue()?);
        let prepared = msm.prepare(&queue, &bases, Reuse::Often)?;
        for (i, (name, column)) in columns.iter().enumerate() {
            let mut run = |scalars: Ref<'_, Fr>| {
                let start = Instant::now();
                let found = msm.msm(&queue, &prepared, scalars, ScalarKind::Full)?;
                let time = elapsed(start);
                let found = found.to_affine();
                if expected.len() == i {
                    expected.push(found);
                }
                ensure!(expected.get(i) == Some(&found), "{name}: the result differs from the CPU's");
                Ok(time)
            };
            figures.push(figure(name, provider, times(runs, || run(Ref::host(column)))?));
            if space.id() != parhelion_backend_api::SpaceId::HOST {
                let resident = Buffer::from_host(space, &queue, column, "scalars")?;
                let runs = times(runs, || run(resident.as_ref()))?;
                figures.push(figure(&format!("{name}, resident"), provider, runs));
            }
        }
    }
    // A commitment phase: many columns at once.
    if log_n <= 18 {
        let batch: Vec<Ref<'_, Fr>> = (0..16).map(|i| Ref::host(&columns[i % columns.len()].1)).collect();
        for provider in [cpu, device] {
            let msm = provider.msm::<G1Affine>().context("no multiplication")?;
            let queue = provider.space.queue()?;
            let prepared = msm.prepare(&queue, &bases, Reuse::Often)?;
            let mut out = vec![G1::identity(); batch.len()];
            let runs = times(runs, || {
                let start = Instant::now();
                msm.msm_batch(&queue, &prepared, &batch, ScalarKind::Full, &mut out)?;
                Ok(elapsed(start))
            })?;
            for (i, found) in out.iter().enumerate() {
                ensure!(expected.get(i % columns.len()) == Some(&found.to_affine()), "the batch differs");
            }
            figures.push(figure("batch of 16, mixed", provider, runs));
        }
    }
    Ok(figures)
}

/// How many transforms of a resident column are timed as one, since a call returns before the device is done.
const CHAIN: u32 = 10;

/// Transforms of 2^`log_n` elements: of a host column, and of a resident one.
pub(crate) fn ntt(cpu: &Provider, device: &Provider, log_n: u32, runs: u32) -> Result<Vec<Figure>> {
    let input = column(1 << log_n, |rng| Fr::random(rng));
    let mut figures = Vec::new();
    let plans = [
        ("forward", NttPlan::forward(log_n)),
        ("inverse", NttPlan::inverse(log_n)),
        ("coset", NttPlan::forward(log_n).on_coset(Fr::MULTIPLICATIVE_GENERATOR)),
    ];
    for (name, plan) in plans {
        let mut expected: Option<Vec<Fr>> = None;
        for provider in [cpu, device] {
            let ntt = provider.ntt::<Fr>().context("no transform")?;
            let (space, queue): (_, Queue) = (provider.space.as_ref(), provider.space.queue()?);
            let mut values = input.clone();
            let samples = times(runs, || {
                values.copy_from_slice(&input);
                let start = Instant::now();
                ntt.ntt_batch(&queue, &plan, &mut [RefMut::host(&mut values)])?;
                Ok(elapsed(start))
            })?;
            ensure!(expected.get_or_insert_with(|| values.clone()) == &values, "{name}: the result differs");
            figures.push(figure(name, provider, samples));
            if space.id() != parhelion_backend_api::SpaceId::HOST {
                let mut buffer = Buffer::from_host(space, &queue, &input, "column")?;
                // Waits for what is pending.
                let last = Buffer::from_host(space, &queue, &[0u64], "mark")?;
                let samples = times(runs, || {
                    last.to_host(space, &queue)?;
                    let start = Instant::now();
                    for _ in 0..CHAIN {
                        ntt.ntt_batch(&queue, &plan, &mut [buffer.as_mut()])?;
                    }
                    last.to_host(space, &queue)?;
                    Ok(elapsed(start) / f64::from(CHAIN))
                })?;
                figures.push(figure(&format!("{name}, resident"), provider, samples));
            }
        }
    }
    Ok(figures)
}
