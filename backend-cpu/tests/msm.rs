//! Multi-scalar multiplication against the formula and against halo2-axiom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{elements, on_every_isa, points, rng, uniform};
use ff::Field;
use group::{Curve, Group};
use halo2_axiom::arithmetic::best_multiexp;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::Ref;
use parhelion_backend_api::{Error, Provider, Queue, Reuse, ScalarKind};
use rand_core::RngCore;

fn formula(scalars: &[Fr], bases: &[G1Affine]) -> G1 {
    scalars.iter().zip(bases).map(|(s, b)| b * s).sum()
}

fn run(provider: &Provider<G1Affine>, queue: &Queue, bases: &[G1Affine], columns: &[Vec<Fr>]) -> Vec<G1> {
    let msm = provider.msm.as_deref().unwrap();
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
    on_every_isa(|provider, queue| {
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
    on_every_isa(|provider, queue| {
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
        let msm = provider.msm.as_deref().unwrap();
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
fn wrong_arguments_are_typed_errors() {
    let bases = points(6, 8);
    on_every_isa(|provider, queue| {
        let msm = provider.msm.as_deref().unwrap();
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
#[ignore = "about a minute: cargo test --release -p parhelion-backend-cpu --test msm -- --ignored"]
fn a_million_terms() {
    let n = 1 << 14;
    let bases = points(7, n);
    on_every_isa(|provider, queue| {
        let columns: Vec<Vec<Fr>> = (0..64)
            .map(|seed: u64| {
                if seed.is_multiple_of(2) { uniform(&mut rng(seed), n) } else { elements(&mut rng(seed), n) }
            })
            .collect();
        let got = run(provider, queue, &bases, &columns);
        for (column, got) in columns.iter().zip(&got) {
            assert_eq!(got.to_affine(), best_multiexp(column, &bases).to_affine());
        }
    });
}
