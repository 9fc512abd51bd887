//! Providers for every instruction set that this machine can run, and reproducible random operands.

#![allow(dead_code, reason = "every test file uses its own part")]

use ff::Field;
use group::Curve;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::{Backend, Provider, Queue};
use parhelion_backend_cpu::{CpuBackend, Isa};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

/// Runs a test once per instruction set.
pub(crate) fn on_every_isa(test: impl Fn(&Provider, &Queue)) {
    for isa in Isa::available() {
        let backend = CpuBackend::with_isa(isa).unwrap();
        let device = backend.probe().unwrap().remove(0);
        assert_eq!(device.driver, isa.name());
        let provider = backend.open(&device).unwrap();
        let queue = provider.space.queue().unwrap();
        test(&provider, &queue);
    }
}

/// A reproducible source of operands.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Uniform field elements with the edge values sprinkled in.
pub(crate) fn elements(rng: &mut impl RngCore, n: usize) -> Vec<Fr> {
    (0..n)
        .map(|_| match rng.next_u32() % 16 {
            0 => Fr::ZERO,
            1 => Fr::ONE,
            2 => -Fr::ONE,
            3 => Fr::from(rng.next_u64()),
            4 => -Fr::from(u64::from(rng.next_u32() as u8)),
            _ => Fr::random(&mut *rng),
        })
        .collect()
}

/// Uniform field elements.
pub(crate) fn uniform(rng: &mut impl RngCore, n: usize) -> Vec<Fr> {
    (0..n).map(|_| Fr::random(&mut *rng)).collect()
}

/// `n` distinct points whose discrete logarithms form a geometric progression, fast to make.
pub(crate) fn points(seed: u64, n: usize) -> Vec<G1Affine> {
    let base = G1::generator() * Fr::random(rng(seed));
    let step = 256;
    let giants: Vec<G1> = std::iter::successors(Some(base), |p| Some(p + p)).take(n.div_ceil(step)).collect();
    let stride = G1::generator() * Fr::from(7 + seed);
    giants
        .par_iter()
        .flat_map(|giant| {
            let run: Vec<G1> = std::iter::successors(Some(*giant), |p| Some(p + stride)).take(step).collect();
            let mut out = vec![G1Affine::default(); run.len()];
            G1::batch_normalize(&run, &mut out);
            out
        })
        .collect::<Vec<_>>()
        .into_iter()
        .take(n)
        .collect()
}
