//! Multi-scalar multiplication against the formula and against halo2-axiom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{elements, on_every_isa, points, rng, uniform};
use ff::Field;
use group::{Curve, Group};
use halo2_axiom::arithmetic::best_multiexp;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::Ref;
use parhelion_backend_api::{Backend, Error, Provider, Queue, Reuse, ScalarKind};
use parhelion_backend_cpu::{CpuBackend, Isa};
use proptest::prelude::*;
use rand_core::RngCore;

fn formula(scalars: &[Fr], bases: &[G1Affine]) -> G1 {
    scalars.iter().zip(bases).map(|(s, b)| b * s).sum()
}

fn run(provider: &Provider, queue: &Queue, bases: &[G1Affine], columns: &[Vec<Fr>]) -> Vec<G1> {
    let msm = provider.msm::<G1Affine>().unwrap();
    let mut out = vec![G1::generator(); columns.len()];
    for reuse in [Reuse::Once, Reuse::Often] {
        let prepared = msm.prepare(queue, bases, reuse).unwrap();
        let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
        let mut again = vec![G1::generator(); columns.len()];
        msm.msm_batch(queue, &prepared, &refs, ScalarKind::Full, &mut again).unwrap();
        if reuse == Reuse::Often {
            assert_eq!(affine(&out), affine(&again));
        }
        out = again;
    }
    out
}

/// Budgets for multiples of 300 bases: none, too little for one level, one level, some, all that could be used.
const BUDGETS: [u64; 5] = [0, 300 * 64 - 1, 300 * 64, 300 * 64 * 5, 1 << 30];

/// Runs a test once per instruction set and budget.
fn on_every_budget(test: impl Fn(&Provider, &Queue)) {
    for isa in Isa::available() {
        for bytes in BUDGETS {
            let backend = CpuBackend::with_isa(isa).unwrap().with_precompute(bytes);
            assert_eq!(backend.precompute(), Ok(bytes));
            let provider = backend.open(&backend.probe().unwrap()[0]).unwrap();
            let queue = provider.space.queue().unwrap();
            // No bases at all have no multiples.
            assert_eq!(affine(&run(&provider, &queue, &[], &[vec![]])), [G1Affine::default()]);
            test(&provider, &queue);
        }
    }
}

fn affine(points: &[G1]) -> Vec<G1Affine> {
    points.iter().map(Curve::to_affine).collect()
}

#[test]
fn every_small_length() {
    let bases = points(1, 70);
    let columns: Vec<_> = (0..70).map(|n| elements(&mut rng(n as u64), n)).collect();
    let expected: Vec<_> = columns.iter().map(|column| formula(column, &bases)).collect();
    on_every_isa(|provider, queue| {
        for (column, expected) in columns.iter().zip(&expected) {
            let got = run(provider, queue, &bases, std::slice::from_ref(column));
            assert_eq!(affine(&got), affine(&[*expected]), "length {}", column.len());
        }
        assert_eq!(affine(&run(provider, queue, &bases, &columns)), affine(&expected));
    });
}

#[test]
fn powers_of_two_and_their_neighbours() {
    let bases = points(2, 4200);
    on_every_isa(|provider, queue| {
        for log_n in 0..=12u32 {
            for n in [(1usize << log_n) - 1, 1 << log_n, (1 << log_n) + 1] {
                let column = elements(&mut rng(n as u64), n);
                let got = run(provider, queue, &bases, std::slice::from_ref(&column));
                let expected = if n == 0 { G1::identity() } else { best_multiexp(&column, &bases[..n]) };
                assert_eq!(affine(&got), affine(&[expected]), "length {n}");
            }
        }
    });
}

#[test]
fn adversarial_columns_of_one_batch() {
    let n = 700;
    let bases = points(3, n);
    let mut r = rng(3);
    let full = Fr::random(&mut r);
    let columns = vec![
        vec![Fr::ZERO; n],
        vec![Fr::ONE; n],
        vec![-Fr::ONE; n],
        vec![full; n],
        vec![Fr::from(0x8000); n],
        (0..n).map(|i| Fr::from(i as u64 & 1)).collect(),
        (0..n).map(|i| Fr::from(i as u64)).collect(),
        (0..n).map(|i| -Fr::from(i as u64)).collect(),
        (0..n).map(|_| Fr::from(u64::from(r.next_u32() as u16))).collect(),
        (0..n).map(|_| Fr::from(r.next_u64())).collect(),
        (0..n).map(|_| Fr::from_raw([r.next_u64(), r.next_u64(), 0, 0])).collect(),
        (0..n).map(|_| -Fr::from_raw([r.next_u64(), r.next_u64(), r.next_u64(), 0])).collect(),
        (0..256).map(|i| Fr::from(2).pow([i])).collect(),
        (0..256).map(|i| -Fr::from(2).pow([i])).collect(),
        (0..254).map(|i| Fr::from(2).pow([i]) - Fr::ONE).collect(),
        (0..n).map(|i| if i == n - 1 { full } else { Fr::ZERO }).collect(),
        uniform(&mut r, n),
        elements(&mut r, n - 1),
        vec![],
        vec![full],
        // The eigenvalue of the endomorphism and its neighbours.
        vec![<Fr as ff::WithSmallOrderMulGroup<3>>::ZETA; 9],
        vec![<Fr as ff::WithSmallOrderMulGroup<3>>::ZETA.square() - Fr::ONE; 9],
    ];
    let expected: Vec<_> = columns.iter().map(|column| formula(column, &bases).to_affine()).collect();
    on_every_budget(|provider, queue| {
        let got = run(provider, queue, &bases, &columns);
        for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
            assert_eq!(got.to_affine(), *expected, "column {i}");
        }
    });
}

#[test]
fn degenerate_bases() {
    let n = 300;
    let mut r = rng(4);
    let distinct = points(4, n);
    let p = distinct[0];
    let sets: Vec<Vec<G1Affine>> = vec![
        vec![G1Affine::default(); n],
        vec![p; n],
        (0..n).map(|i| if i % 2 == 0 { p } else { -p }).collect(),
        (0..n).map(|i| if i % 3 == 0 { G1Affine::default() } else { distinct[i] }).collect(),
        (0..n).map(|i| distinct[i / 7]).collect(),
        // P, 2P, 3P, …: sums of pairs meet other points.
        (1..=n as u64).map(|i| (G1::generator() * Fr::from(i)).to_affine()).collect(),
    ];
    let columns = vec![
        vec![Fr::ONE; n],
        uniform(&mut r, n),
        (0..n).map(|i| Fr::from(i as u64 % 5)).collect(),
        vec![Fr::random(&mut r); n],
        elements(&mut r, n),
    ];
    let expected: Vec<Vec<_>> =
        sets.iter().map(|bases| columns.iter().map(|c| formula(c, bases).to_affine()).collect()).collect();
    on_every_budget(|provider, queue| {
        for (set, (bases, expected)) in sets.iter().zip(&expected).enumerate() {
            let got = run(provider, queue, bases, &columns);
            for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
                assert_eq!(got.to_affine(), *expected, "bases {set} column {i}");
            }
        }
    });
}

#[test]
fn promises_about_magnitude_are_usable() {
    let n = 1000;
    let bases = points(5, n);
    on_every_isa(|provider, queue| {
        let msm = provider.msm::<G1Affine>().unwrap();
        let prepared = msm.prepare(queue, &bases, Reuse::Once).unwrap();
        for bits in [0u16, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200, 253] {
            let magnitude: Vec<Fr> = (0..n)
                .map(|_| {
                    let mut words = [0; 4];
                    for (i, w) in words.iter_mut().enumerate() {
                        let keep = i64::from(bits) - 64 * i as i64;
                        *w = match keep {
                            ..=0 => 0,
                            1..=63 => word(i) & ((1 << keep) - 1),
                            _ => word(i),
                        };
                    }
                    Fr::from_raw(words)
                })
                .collect();
            let signed: Vec<Fr> =
                magnitude.iter().enumerate().map(|(i, m)| if i % 3 == 0 { -*m } else { *m }).collect();
            for (column, kind) in [
                (&magnitude, ScalarKind::Unsigned { bits }),
                (&magnitude, ScalarKind::Full),
                (&signed, ScalarKind::Signed { bits }),
                (&signed, ScalarKind::Full),
            ] {
                let got = msm.msm(queue, &prepared, Ref::host(column), kind).unwrap();
                assert_eq!(got.to_affine(), best_multiexp(column, &bases).to_affine(), "{kind:?}");
            }
        }
    });
}

/// A fixed stream of words: the magnitudes need no statistical quality.
fn word(i: usize) -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let x = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(i as u64);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

#[test]
fn one_bucket_takes_more_than_a_group() {
    // Segments longer than what is summed at once are cut, twice here.
    let n = 70_000;
    let bases = points(8, n);
    let columns =
        [vec![Fr::ONE; n], vec![-Fr::from(3); n], (0..n).map(|i| Fr::from(1 + (i as u64 & 1))).collect()];
    let expected: Vec<_> = columns.iter().map(|c: &Vec<Fr>| best_multiexp(c, &bases).to_affine()).collect();
    on_every_isa(|provider, queue| {
        assert_eq!(affine(&run(provider, queue, &bases, &columns)), expected);
    });
}

#[test]
fn a_budget_is_shared_and_given_back() {
    let bases = points(9, 600);
    let mut r = rng(9);
    let columns = [uniform(&mut r, 600), elements(&mut r, 599), elements(&mut r, 17), vec![]];
    let expected: Vec<_> = columns.iter().map(|c| formula(c, &bases).to_affine()).collect();
    for isa in Isa::available() {
        // Enough for a few levels of one table, so that the tables differ.
        let backend = CpuBackend::with_isa(isa).unwrap().with_precompute(600 * 64 * 4);
        let provider = backend.open(&backend.probe().unwrap()[0]).unwrap();
        let queue = provider.space.queue().unwrap();
        let msm = provider.msm::<G1Affine>().unwrap();
        for _ in 0..3 {
            let tables: Vec<_> = (0..3).map(|_| msm.prepare(&queue, &bases, Reuse::Often).unwrap()).collect();
            for table in &tables {
                let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
                let mut out = vec![G1::generator(); columns.len()];
                msm.msm_batch(&queue, table, &refs, ScalarKind::Full, &mut out).unwrap();
                assert_eq!(affine(&out), expected);
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let n = 20_000;
    let bases = points(10, n);
    let mut r = rng(10);
    // A column alone is divided; a batch is not. One column has a bucket that takes everything.
    let batches = [
        vec![uniform(&mut r, n)],
        vec![elements(&mut r, n)],
        vec![vec![-Fr::ONE; n]],
        (0..9).map(|i| elements(&mut r, 100 + 301 * i)).collect(),
    ];
    let expected: Vec<Vec<_>> = batches
        .iter()
        .map(|b| b.iter().map(|c| best_multiexp(c, &bases[..c.len()]).to_affine()).collect())
        .collect();
    for threads in [1, 2, 3, 7, 16, 64] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in Isa::available() {
            for bytes in [0, 8 << 20] {
                let backend = CpuBackend::with_isa(isa).unwrap().with_precompute(bytes);
                let provider = backend.open(&backend.probe().unwrap()[0]).unwrap();
                let queue = provider.space.queue().unwrap();
                let msm = provider.msm::<G1Affine>().unwrap();
                pool.install(|| {
                    let prepared = msm.prepare(&queue, &bases, Reuse::Often).unwrap();
                    for (columns, expected) in batches.iter().zip(&expected) {
                        let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
                        let mut out = vec![G1::generator(); columns.len()];
                        msm.msm_batch(&queue, &prepared, &refs, ScalarKind::Full, &mut out).unwrap();
                        assert_eq!(
                            affine(&out),
                            *expected,
                            "{threads} threads, {bytes} bytes, {}",
                            isa.name()
                        );
                    }
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the budget, the length of the bases, the length of the column and the width of its scalars.
    #[test]
    fn multiples_of_bases_change_nothing(
        seed in any::<u64>(), len in 0usize..400, used in 0usize..400, bits in 1u32..=256, levels in 0u64..40,
    ) {
        let bases: Vec<_> = points(seed, len)
            .into_iter()
            .enumerate()
            .map(|(i, p)| if (seed >> (i % 64)) & 7 == 7 { G1Affine::default() } else { p })
            .collect();
        let mut r = rng(seed);
        let scalar = |r: &mut rand_chacha::ChaCha20Rng| {
            let mut words: [u64; 4] = std::array::from_fn(|_| r.next_u64());
            for (i, word) in words.iter_mut().enumerate() {
                let keep = bits.saturating_sub(64 * i as u32).min(64);
                *word = if keep == 0 { 0 } else { *word >> (64 - keep) };
            }
            // Not below r for the widest: any word is a Montgomery form, the sign is random.
            let s = Fr::from_raw(words);
            if r.next_u32() & 1 == 0 { s } else { -s }
        };
        let column: Vec<Fr> = (0..used.min(len)).map(|_| scalar(&mut r)).collect();
        let expected = formula(&column, &bases).to_affine();
        for isa in Isa::available() {
            let backend = CpuBackend::with_isa(isa).unwrap().with_precompute(levels * 64 * len as u64);
            let provider = backend.open(&backend.probe().unwrap()[0]).unwrap();
            let queue = provider.space.queue().unwrap();
            let got = run(&provider, &queue, &bases, std::slice::from_ref(&column));
            prop_assert_eq!(got[0].to_affine(), expected);
        }
    }
}

#[test]
fn wrong_arguments_are_typed_errors() {
    let bases = points(6, 8);
    on_every_isa(|provider, queue| {
        let msm = provider.msm::<G1Affine>().unwrap();
        let prepared = msm.prepare(queue, &bases, Reuse::Once).unwrap();
        let long = vec![Fr::ONE; 9];
        let err = msm.msm(queue, &prepared, Ref::host(&long), ScalarKind::Full).unwrap_err();
        assert!(matches!(err, Error::Length { expected: 8, found: 9, .. }), "{err}");
        let mut out = [];
        let err = msm
            .msm_batch(queue, &prepared, &[Ref::host(&long[..8])], ScalarKind::Full, &mut out)
            .unwrap_err();
        assert!(matches!(err, Error::Length { .. }), "{err}");
    });
}

#[test]
#[ignore = "a million terms, about 20 s on two cores: cargo test --release -p parhelion-backend-cpu --test msm -- --ignored"]
fn a_million_terms() {
    let n = 1 << 14;
    let bases = points(7, n);
    let columns: Vec<Vec<Fr>> =
        (0..64)
            .map(|seed: u64| {
                if seed.is_multiple_of(2) { uniform(&mut rng(seed), n) } else { elements(&mut rng(seed), n) }
            })
            .collect();
    let expected: Vec<_> = columns.iter().map(|c| best_multiexp(c, &bases).to_affine()).collect();
    for isa in Isa::available() {
        // Bases that are used often get multiples.
        let backend = CpuBackend::with_isa(isa).unwrap().with_precompute(64 << 20);
        let provider = backend.open(&backend.probe().unwrap()[0]).unwrap();
        let queue = provider.space.queue().unwrap();
        assert_eq!(affine(&run(&provider, &queue, &bases, &columns)), expected);
    }
}
