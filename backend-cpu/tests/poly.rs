//! Polynomial operations against their definitions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{elements, on_every_isa, rng};
use ff::Field;
use halo2_axiom::arithmetic::{eval_polynomial, kate_division};
use halo2curves::bn256::Fr;
use parhelion_backend_api::Error;
use parhelion_backend_api::hal::{Ref, RefMut};

const LENGTHS: [usize; 17] = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 255, 1024, 1025, 4096, 5000, 20_000];

#[test]
fn linear_combination() {
    on_every_isa(|provider, queue| {
        let poly = provider.poly::<Fr>().unwrap();
        for n in LENGTHS {
            let mut r = rng(n as u64);
            for terms in [0usize, 1, 2, 3, 7, 40] {
                let polys: Vec<_> = (0..terms).map(|t| elements(&mut r, n.saturating_sub(t * t))).collect();
                let scalars = elements(&mut r, terms);
                let mut expected = vec![Fr::ZERO; n];
                for (s, p) in scalars.iter().zip(&polys) {
                    expected.iter_mut().zip(p).for_each(|(e, v)| *e += *s * v);
                }
                let terms: Vec<_> = scalars.iter().copied().zip(polys.iter().map(|p| Ref::host(p))).collect();
                let mut out = vec![-Fr::ONE; n];
                poly.linear_combination(queue, &terms, RefMut::host(&mut out)).unwrap();
                assert!(out == expected, "length {n}, {} terms", terms.len());
            }
        }
        let long = vec![Fr::ONE; 3];
        let mut out = vec![Fr::ZERO; 2];
        let err = poly
            .linear_combination(queue, &[(Fr::ONE, Ref::host(&long))], RefMut::host(&mut out))
            .unwrap_err();
        assert!(matches!(err, Error::Length { expected: 2, found: 3, .. }), "{err}");
    });
}

#[test]
fn evaluations() {
    on_every_isa(|provider, queue| {
        let poly = provider.poly::<Fr>().unwrap();
        let polys: Vec<_> = LENGTHS.iter().map(|n| elements(&mut rng(*n as u64), *n)).collect();
        let refs: Vec<_> = polys.iter().map(|p| Ref::host(p)).collect();
        let points = elements(&mut rng(1), 6);
        let queries: Vec<_> = (0..polys.len()).flat_map(|p| points.iter().map(move |x| (p, *x))).collect();
        let mut out = vec![Fr::ONE; queries.len()];
        poly.evaluate_batch(queue, &refs, &queries, &mut out).unwrap();
        for ((p, x), got) in queries.iter().zip(&out) {
            let expected = polys[*p].iter().rev().fold(Fr::ZERO, |acc, c| acc * x + c);
            assert_eq!(*got, expected, "length {}", polys[*p].len());
        }
        let mut one = [Fr::ONE];
        poly.evaluate_batch(queue, &refs, &[(16, points[0])], &mut one).unwrap();
        assert_eq!(one[0], eval_polynomial(&polys[16], points[0]));
        let err = poly.evaluate_batch(queue, &refs, &[(17, points[0])], &mut one).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{err}");
        let err = poly.evaluate_batch(queue, &refs, &[], &mut one).unwrap_err();
        assert!(matches!(err, Error::Length { .. }), "{err}");
    });
}

#[test]
fn division_by_linear() {
    on_every_isa(|provider, queue| {
        let poly = provider.poly::<Fr>().unwrap();
        for n in LENGTHS {
            let p = elements(&mut rng(n as u64), n);
            for root in elements(&mut rng(2), 5).into_iter().chain([Fr::ZERO]) {
                let mut q = p.clone();
                poly.divide_by_linear(queue, RefMut::host(&mut q), root).unwrap();
                if n > 0 {
                    let mut expected = kate_division(&p, root);
                    expected.push(Fr::ZERO);
                    assert!(q == expected, "length {n}");
                }
            }
        }
    });
}

#[test]
fn inverses_products_and_running_products() {
    on_every_isa(|provider, queue| {
        let poly = provider.poly::<Fr>().unwrap();
        for n in LENGTHS {
            let mut r = rng(n as u64);
            for values in [elements(&mut r, n), vec![Fr::ZERO; n], vec![Fr::ONE; n]] {
                let mut inverse = values.clone();
                poly.batch_invert(queue, RefMut::host(&mut inverse)).unwrap();
                for (v, i) in values.iter().zip(&inverse) {
                    assert_eq!(*i, v.invert().unwrap_or(Fr::ZERO), "length {n}");
                }
                let other = elements(&mut r, n);
                let mut product = values.clone();
                poly.multiply(queue, RefMut::host(&mut product), Ref::host(&other)).unwrap();
                assert!(product.iter().zip(values.iter().zip(&other)).all(|(p, (a, b))| *p == *a * b));
                for first in [Fr::ONE, Fr::from(7), Fr::ZERO] {
                    let mut running = values.clone();
                    let last = poly.running_product(queue, RefMut::host(&mut running), first).unwrap();
                    let mut acc = first;
                    for (got, v) in running.iter().zip(&values) {
                        assert_eq!(*got, acc, "length {n}");
                        acc *= v;
                    }
                    assert_eq!(last, acc);
                }
            }
        }
        let err =
            poly.multiply(queue, RefMut::host(&mut [Fr::ONE; 3]), Ref::host(&[Fr::ONE; 2])).unwrap_err();
        assert!(matches!(err, Error::Length { expected: 3, found: 2, .. }), "{err}");
    });
}
