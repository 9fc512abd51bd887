//! Number-theoretic transforms against the formula and against halo2-axiom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{elements, on_every_isa, rng, uniform};
use ff::{Field, PrimeField, WithSmallOrderMulGroup};
use halo2_axiom::arithmetic::best_fft;
use halo2_axiom::poly::EvaluationDomain;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::ntt::root_of_unity;
use parhelion_backend_api::{Direction, Error, Ntt, NttPlan, Queue};

fn in_place(ntt: &dyn Ntt<Fr>, queue: &Queue, plan: NttPlan<Fr>, columns: &[Vec<Fr>]) -> Vec<Vec<Fr>> {
    let mut columns = columns.to_vec();
    let mut refs: Vec<_> = columns.iter_mut().map(|c| RefMut::host(c)).collect();
    ntt.ntt_batch(queue, &plan, &mut refs).unwrap();
    columns
}

fn horner(coefficients: &[Fr], x: Fr) -> Fr {
    coefficients.iter().rev().fold(Fr::ZERO, |acc, c| acc * x + c)
}

#[test]
fn small_sizes_match_the_formula() {
    let zeta = <Fr as WithSmallOrderMulGroup<3>>::ZETA;
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        for log_n in 0..=8u32 {
            let n = 1 << log_n;
            let omega: Fr = root_of_unity(log_n).unwrap();
            let shifts = [
                None,
                Some(Fr::ONE),
                Some(zeta),
                Some(zeta * root_of_unity::<Fr>(log_n + 2).unwrap()),
                Some(Fr::from(5)),
            ];
            for shift in shifts {
                let input: Vec<_> = (0..3).map(|i| elements(&mut rng(i + u64::from(log_n)), n)).collect();
                let mut plan = NttPlan::forward(log_n);
                plan.coset = shift;
                let output = in_place(ntt.as_ref(), queue, plan, &input);
                for (a, b) in input.iter().zip(&output) {
                    let mut x = shift.unwrap_or(Fr::ONE);
                    for value in b {
                        assert_eq!(*value, horner(a, x), "log_n {log_n} shift {shift:?}");
                        x *= omega;
                    }
                }
                plan.direction = Direction::Inverse;
                assert_eq!(
                    in_place(ntt.as_ref(), queue, plan, &output),
                    input,
                    "log_n {log_n} shift {shift:?}"
                );
            }
        }
    });
}

#[test]
fn every_size_matches_halo2() {
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        for log_n in 1..=17u32 {
            let domain = EvaluationDomain::<Fr>::new(2, log_n);
            let input = elements(&mut rng(u64::from(log_n)), 1 << log_n);
            let mut expected = input.clone();
            best_fft(&mut expected, domain.get_omega(), log_n, domain.get_fft_data(1 << log_n), false);
            let columns = vec![input.clone(); 1 + (log_n as usize) % 4];
            let got = in_place(ntt.as_ref(), queue, NttPlan::forward(log_n), &columns);
            assert!(got.iter().all(|c| *c == expected), "forward {log_n}");
            let expected = domain.lagrange_to_coeff(domain.lagrange_from_vec(input));
            let got = in_place(ntt.as_ref(), queue, NttPlan::inverse(log_n), &columns);
            assert!(got.iter().all(|c| c[..] == expected[..]), "inverse {log_n}");
        }
    });
}

#[test]
fn coset_parts_match_halo2() {
    let zeta = <Fr as WithSmallOrderMulGroup<3>>::ZETA;
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        for log_n in 1..=12u32 {
            let domain = EvaluationDomain::<Fr>::new(5, log_n);
            let parts = 1usize << (domain.extended_k() - domain.k());
            let poly = domain.coeff_from_vec(elements(&mut rng(u64::from(log_n)), 1 << log_n));
            let mut shift = zeta;
            for part in 0..parts {
                let expected = domain
                    .coeff_to_extended_part(poly.clone(), domain.get_extended_omega().pow([part as u64]));
                let plan = NttPlan::forward(log_n).on_coset(shift);
                let got = in_place(ntt.as_ref(), queue, plan, &[poly.to_vec()]);
                assert_eq!(got[0][..], expected[..], "k {log_n} part {part}");
                let mut into = vec![Fr::ONE; 1 << log_n];
                ntt.ntt_batch_into(queue, &plan, &[Ref::host(&poly)], &mut [RefMut::host(&mut into)])
                    .unwrap();
                assert_eq!(into, got[0]);
                shift *= domain.get_extended_omega();
            }
        }
    });
}

#[test]
fn padding_equals_explicit_zeros() {
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        let coset = Some(<Fr as WithSmallOrderMulGroup<3>>::ZETA);
        for log_n in [0u32, 1, 2, 3, 5, 6, 9, 10, 11, 13, 14, 16] {
            let n = 1usize << log_n;
            let mut lengths = vec![0, 1, n / 8, n / 4, n / 4 + 1, n / 2, n / 2 + 1, n - 1, n];
            lengths.retain(|l| *l <= n);
            lengths.dedup();
            for coset in [None, coset] {
                let mut plan = NttPlan::forward(log_n);
                plan.coset = coset;
                let from: Vec<_> = lengths.iter().map(|l| elements(&mut rng(*l as u64), *l)).collect();
                let padded: Vec<_> = from
                    .iter()
                    .map(|v| v.iter().copied().chain(std::iter::repeat(Fr::ZERO)).take(n).collect())
                    .collect::<Vec<Vec<_>>>();
                let expected = in_place(ntt.as_ref(), queue, plan, &padded);
                let mut to = vec![vec![-Fr::ONE; n]; from.len()];
                let refs: Vec<_> = from.iter().map(|c| Ref::host(c)).collect();
                let mut outs: Vec<_> = to.iter_mut().map(|c| RefMut::host(c)).collect();
                ntt.ntt_batch_into(queue, &plan, &refs, &mut outs).unwrap();
                assert!(to == expected, "log_n {log_n} coset {coset:?}");
            }
        }
    });
}

#[test]
fn inverse_on_padded_plan_is_the_in_place_inverse() {
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        let plan = NttPlan::inverse(6).on_coset(Fr::from(3));
        let input = uniform(&mut rng(1), 64);
        let expected = in_place(ntt.as_ref(), queue, plan, std::slice::from_ref(&input));
        let mut to = vec![Fr::ZERO; 64];
        ntt.ntt_batch_into(queue, &plan, &[Ref::host(&input)], &mut [RefMut::host(&mut to)]).unwrap();
        assert_eq!(to, expected[0]);
    });
}

#[test]
fn wrong_arguments_are_typed_errors() {
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        let mut short = vec![Fr::ONE; 7];
        let err = ntt.ntt_batch(queue, &NttPlan::forward(3), &mut [RefMut::host(&mut short)]).unwrap_err();
        assert!(matches!(err, Error::Length { expected: 8, found: 7, .. }), "{err}");
        assert_eq!(short, vec![Fr::ONE; 7]);
        let err = ntt.ntt_batch(queue, &NttPlan::forward(Fr::S + 1), &mut []).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{err}");
        let plan = NttPlan::forward(3).on_coset(Fr::ZERO);
        let err = ntt.ntt_batch(queue, &plan, &mut [RefMut::host(&mut [Fr::ONE; 8])]).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{err}");
        let err = ntt.ntt_batch_into(queue, &NttPlan::forward(3), &[Ref::host(&short)], &mut []).unwrap_err();
        assert!(matches!(err, Error::Length { .. }), "{err}");
        let long = vec![Fr::ONE; 9];
        let err = ntt
            .ntt_batch_into(
                queue,
                &NttPlan::forward(3),
                &[Ref::host(&long)],
                &mut [RefMut::host(&mut [Fr::ONE; 8])],
            )
            .unwrap_err();
        assert!(matches!(err, Error::Length { .. }), "{err}");
    });
}

#[test]
#[ignore = "large sizes: cargo test --release -p parhelion-backend-cpu --test ntt -- --ignored"]
fn a_million_points() {
    on_every_isa(|provider, queue| {
        let ntt = provider.ntt::<Fr>().unwrap();
        for log_n in 18..=21u32 {
            let domain = EvaluationDomain::<Fr>::new(2, log_n);
            let input = elements(&mut rng(u64::from(log_n)), 1 << log_n);
            let mut expected = input.clone();
            best_fft(&mut expected, domain.get_omega(), log_n, domain.get_fft_data(1 << log_n), false);
            let got = in_place(ntt.as_ref(), queue, NttPlan::forward(log_n), std::slice::from_ref(&input));
            assert!(got[0] == expected, "forward {log_n}");
            let back = in_place(ntt.as_ref(), queue, NttPlan::inverse(log_n), &got);
            assert!(back[0] == input, "inverse {log_n}");
        }
    });
}
