//! Program evaluation against a row-by-row reading of the trait's definition.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{elements, on_every_isa, rng, uniform};
use ff::{Field, WithSmallOrderMulGroup};
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::ntt::root_of_unity;
use parhelion_backend_api::{Domain, Error, Program, Source, Step};
use proptest::prelude::*;
use rand_core::RngCore;

/// The definition, row by row.
fn formula(p: &Program<Fr>, domain: &Domain<Fr>, columns: &[Vec<Fr>], challenges: &[Fr]) -> Vec<Vec<Fr>> {
    let n = 1usize << domain.log_n;
    let uniforms = p.uniforms(challenges);
    let mut out = vec![vec![Fr::ZERO; n]; p.results.len()];
    for i in 0..n {
        let point = domain.shift * domain.omega.pow([i as u64]);
        let mut registers = vec![Fr::ZERO; p.registers as usize];
        let read = |registers: &[Fr], source: Source| match source {
            Source::Constant(c) => p.constants[c as usize],
            Source::Challenge(c) => challenges[c as usize],
            Source::Uniform(u) => uniforms[u as usize],
            Source::Register(r) => registers[r as usize],
            Source::Column { column, rotation } => {
                let shifted = i as i64 + i64::from(p.rotations[rotation as usize]);
                columns[column as usize][shifted.rem_euclid(n as i64) as usize]
            }
            Source::Point => point,
        };
        for step in &p.steps {
            let value = step.value(|s| read(&registers, s));
            registers[step.dst() as usize] = value;
        }
        for (out, result) in out.iter_mut().zip(&p.results) {
            out[i] = read(&registers, *result);
        }
    }
    out
}

/// A random program that `check` accepts.
fn program(rng: &mut impl RngCore, steps: usize, rotations: Vec<i32>) -> Program<Fr> {
    let mut p = Program {
        constants: vec![Fr::ZERO, Fr::ONE, -Fr::ONE, Fr::random(&mut *rng)],
        rotations,
        columns: 4,
        challenges: 2,
        uniform: vec![
            Step::Mul { dst: 0, a: Source::Challenge(0), b: Source::Challenge(1) },
            Step::MulAdd { dst: 1, a: Source::Uniform(0), b: Source::Constant(3), c: Source::Challenge(1) },
            Step::Negate { dst: 2, a: Source::Uniform(1) },
        ],
        uniform_registers: 3,
        registers: 6,
        ..Program::default()
    };
    let mut written: Vec<u32> = Vec::new();
    for _ in 0..steps {
        let mut source = || match rng.next_u32() % 12 {
            0 => Source::Constant(rng.next_u32() % 4),
            1 => Source::Challenge(rng.next_u32() % 2),
            2 => Source::Uniform(rng.next_u32() % 3),
            3 => Source::Point,
            4..=6 if !p.rotations.is_empty() => Source::Column {
                column: rng.next_u32() % 4,
                rotation: rng.next_u32() % p.rotations.len() as u32,
            },
            _ if !written.is_empty() => Source::Register(written[rng.next_u32() as usize % written.len()]),
            _ => Source::Constant(3),
        };
        let (a, b, c) = (source(), source(), source());
        let dst = rng.next_u32() % 6;
        p.steps.push(match rng.next_u32() % 9 {
            0 | 1 => Step::Add { dst, a, b },
            2 | 3 => Step::Sub { dst, a, b },
            4 => Step::Mul { dst, a, b },
            5 => Step::MulAdd { dst, a, b, c },
            6 => Step::Square { dst, a },
            7 => Step::Double { dst, a },
            _ => Step::Negate { dst, a },
        });
        if !written.contains(&dst) {
            written.push(dst);
        }
    }
    p.results = written.iter().map(|r| Source::Register(*r)).collect();
    p.results.extend([Source::Point, Source::Constant(2), Source::Uniform(1), Source::Challenge(0)]);
    if !p.rotations.is_empty() {
        p.results.push(Source::Column { column: 1, rotation: 0 });
    }
    p.check().unwrap();
    p
}

fn agree(p: &Program<Fr>, log_n: u32, seed: u64) {
    let mut r = rng(seed);
    let n = 1usize << log_n;
    let columns: Vec<_> = (0..4).map(|_| elements(&mut r, n)).collect();
    let challenges = uniform(&mut r, 2);
    let domain = Domain {
        log_n,
        omega: root_of_unity(log_n).unwrap(),
        shift: if seed.is_multiple_of(2) { Fr::ONE } else { <Fr as WithSmallOrderMulGroup<3>>::ZETA },
    };
    let expected = formula(p, &domain, &columns, &challenges);
    on_every_isa(|provider, queue| {
        let quotient = provider.quotient::<Fr>().unwrap();
        let compiled = quotient.compile(queue, p).unwrap();
        let mut out = vec![vec![Fr::ONE; n]; p.results.len()];
        let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
        let mut outs: Vec<_> = out.iter_mut().map(|c| RefMut::host(c)).collect();
        quotient.evaluate(queue, &compiled, &domain, &refs, &challenges, &mut outs).unwrap();
        for (o, (got, expected)) in out.iter().zip(&expected).enumerate() {
            assert!(got == expected, "result {o}, log_n {log_n}, {}", provider.info.driver);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_programs_match_the_formula(seed in any::<u64>(), log_n in 0u32..9, steps in 0usize..120) {
        let mut r = rng(seed);
        let rotations = vec![0, 1, -1, (r.next_u32() % 600) as i32 - 300];
        agree(&program(&mut r, steps, rotations), log_n, seed);
    }
}

#[test]
fn rotations_wrap_around_in_both_directions() {
    for log_n in [0u32, 1, 2, 3, 4, 6, 8] {
        let n = 1i32 << log_n;
        let rotations = vec![
            0,
            1,
            -1,
            2,
            -3,
            7,
            -7,
            8,
            -8,
            9,
            n - 1,
            -(n - 1),
            n,
            -n,
            n + 1,
            3 * n + 5,
            -3 * n - 5,
            i32::MAX,
            i32::MIN,
        ];
        let mut p = Program { rotations, columns: 4, challenges: 2, ..Program::default() };
        p.results = (0..p.rotations.len() as u32)
            .map(|rotation| Source::Column { column: rotation % 4, rotation })
            .collect();
        agree(&p, log_n, u64::from(log_n));
        p.registers = 2;
        p.constants = vec![Fr::from(3)];
        for rotation in 0..p.rotations.len() as u32 {
            let a = Source::Column { column: 0, rotation };
            let b = Source::Column { column: 1, rotation };
            p.steps.push(if rotation == 0 {
                Step::Mul { dst: 0, a, b }
            } else {
                Step::MulAdd { dst: 0, a, b, c: Source::Register(0) }
            });
        }
        p.results = vec![Source::Register(0)];
        agree(&p, log_n, u64::from(log_n) + 1);
    }
}

#[test]
fn long_chains_of_additions_keep_their_value() {
    // Far more additions than any lazily reduced representation holds.
    let mut p = Program { columns: 4, challenges: 2, rotations: vec![0], registers: 2, ..Program::default() };
    let col = |column| Source::Column { column, rotation: 0 };
    p.steps.push(Step::Add { dst: 0, a: col(0), b: col(1) });
    p.steps.push(Step::Sub { dst: 1, a: col(2), b: col(3) });
    for i in 0..400 {
        let (a, b) = (Source::Register(0), Source::Register(1));
        p.steps.push(match i % 5 {
            0 => Step::Double { dst: 0, a },
            1 => Step::Add { dst: 1, a, b },
            2 => Step::Sub { dst: 0, a: b, b: a },
            3 => Step::Negate { dst: 1, a: b },
            _ => Step::Sub { dst: 1, a, b },
        });
    }
    p.steps.push(Step::Mul { dst: 0, a: Source::Register(0), b: Source::Register(1) });
    p.results = vec![Source::Register(0), Source::Register(1)];
    agree(&p, 5, 1);
}

#[test]
fn large_domains_are_covered_to_the_last_row() {
    let mut r = rng(9);
    agree(&program(&mut r, 40, vec![0, 1, -1, 5]), 13, 9);
}

#[test]
fn wrong_arguments_are_typed_errors() {
    on_every_isa(|provider, queue| {
        let quotient = provider.quotient::<Fr>().unwrap();
        let bad = Program { results: vec![Source::Register(0)], ..Program::<Fr>::default() };
        assert!(matches!(quotient.compile(queue, &bad), Err(Error::Invalid { .. })));
        let good = Program {
            columns: 1,
            rotations: vec![0],
            results: vec![Source::Column { column: 0, rotation: 0 }],
            ..Program::<Fr>::default()
        };
        let compiled = quotient.compile(queue, &good).unwrap();
        let domain = Domain { log_n: 2, omega: root_of_unity(2).unwrap(), shift: Fr::ONE };
        let column = vec![Fr::ONE; 4];
        let mut out = vec![Fr::ZERO; 4];
        let err = quotient
            .evaluate(
                queue,
                &compiled,
                &domain,
                &[Ref::host(&column[..3])],
                &[],
                &mut [RefMut::host(&mut out)],
            )
            .unwrap_err();
        assert!(matches!(err, Error::Length { expected: 4, found: 3, .. }), "{err}");
        let err = quotient
            .evaluate(queue, &compiled, &domain, &[], &[], &mut [RefMut::host(&mut out)])
            .unwrap_err();
        assert!(matches!(err, Error::Length { .. }), "{err}");
        let err = quotient
            .evaluate(
                queue,
                &compiled,
                &domain,
                &[Ref::host(&column)],
                &[],
                &mut [RefMut::host(&mut out[..2])],
            )
            .unwrap_err();
        assert!(matches!(err, Error::Length { .. }), "{err}");
    });
}
