//! Evaluation of programs.

use std::sync::Arc;

use ff::{Field, PrimeField, WithSmallOrderMulGroup};
use parhelion_backend_api::hal::{DeviceRepr, Queue, Ref, RefMut};
use parhelion_backend_api::ntt::root_of_unity;
use parhelion_backend_api::{Compiled, Curve, Domain, Program, Quotient, QuotientShape, Source, Step};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::{Alien, Expect, Subject, alien, ok, refs, refused, same};
use crate::Naive;
use crate::inputs::{columns, random, rng};

type Op<C> = Arc<dyn Quotient<<C as halo2curves::CurveAffine>::ScalarExt>>;

fn op<C: Curve>(subject: &Subject<C>, program: &Program<C::ScalarExt>, log_n: u32) -> Option<Op<C>> {
    let quotient = subject.provider.quotient::<C::ScalarExt>()?;
    let shape = QuotientShape {
        log_n,
        columns: program.columns as usize,
        steps: program.steps.len(),
        registers: program.registers as usize,
    };
    quotient.supports(&shape).is_yes().then_some(quotient)
}

/// The domains that a prover evaluates over: the original one, and parts of the extended one.
fn domain<F: WithSmallOrderMulGroup<3>>(log_n: u32, part: Option<u64>) -> Domain<F> {
    let omega = ok("omega", root_of_unity::<F>(log_n));
    let shift = match part {
        None => F::ONE,
        Some(part) => F::ZETA * ok("omega", root_of_unity::<F>(log_n + 2)).pow_vartime([part]),
    };
    Domain { log_n, omega, shift }
}

fn evaluate<F: PrimeField + DeviceRepr>(
    quotient: &dyn Quotient<F>,
    queue: &Queue,
    program: &Program<F>,
    domain: &Domain<F>,
    columns: &[Vec<F>],
    challenges: &[F],
) -> Vec<Vec<F>> {
    let compiled = ok("compile", quotient.compile(queue, program));
    let mut out = vec![vec![F::ONE; 1 << domain.log_n]; program.results.len()];
    let mut outs: Vec<RefMut<'_, F>> = out.iter_mut().map(|column| RefMut::host(column)).collect();
    ok("evaluate", quotient.evaluate(queue, &compiled, domain, &refs(columns), challenges, &mut outs));
    out
}

fn agrees<C: Curve>(
    subject: &Subject<C>,
    what: &str,
    program: &Program<C::ScalarExt>,
    domain: &Domain<C::ScalarExt>,
    columns: &[Vec<C::ScalarExt>],
    challenges: &[C::ScalarExt],
) {
    let Some(quotient) = op(subject, program, domain.log_n) else { return };
    let found = evaluate(quotient.as_ref(), &subject.queue, program, domain, columns, challenges);
    let expected = evaluate(&Naive, &Queue::host(), program, domain, columns, challenges);
    for (result, (found, expected)) in found.iter().zip(&expected).enumerate() {
        same(format_args!("{what}, result {result}, log_n = {}", domain.log_n), found, expected);
    }
}

/// A program that `Program::check` accepts, of `steps` steps per row.
fn random_program<F: PrimeField>(rng: &mut ChaCha20Rng, steps: usize) -> Program<F> {
    let pick = |rng: &mut ChaCha20Rng, n: usize| (rng.next_u32() as usize % n.max(1)) as u32;
    let mut program = Program {
        constants: vec![F::ZERO, F::ONE, -F::ONE, F::from(7), F::random(&mut *rng)],
        rotations: vec![0, 1, -1, 2, -3, 5, 1 << 20, -(1 << 20) - 1],
        columns: 1 + pick(rng, 6),
        challenges: 1 + pick(rng, 4),
        uniform_registers: 1 + pick(rng, 3),
        // Few registers, so that they are written again and again.
        registers: 1 + pick(rng, 6),
        ..Program::default()
    };
    let (mut uniform, mut rows): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
    for _ in 0..pick(rng, 6) {
        let mut source = || match rng.next_u32() % 3 {
            0 => Source::Constant(pick(rng, program.constants.len())),
            1 if !uniform.is_empty() => Source::Uniform(uniform[pick(rng, uniform.len()) as usize]),
            _ => Source::Challenge(pick(rng, program.challenges as usize)),
        };
        let (a, b, c) = (source(), source(), source());
        let dst = pick(rng, program.uniform_registers as usize);
        program.uniform.push(step(rng, dst, a, b, c));
        uniform.push(dst);
    }
    let source = |rng: &mut ChaCha20Rng, rows: &[u32]| match rng.next_u32() % 8 {
        0 => Source::Constant(pick(rng, 5)),
        1 => Source::Challenge(pick(rng, program.challenges as usize)),
        2 if !uniform.is_empty() => Source::Uniform(uniform[pick(rng, uniform.len()) as usize]),
        3 => Source::Point,
        4 | 5 if !rows.is_empty() => Source::Register(rows[pick(rng, rows.len()) as usize]),
        _ => Source::Column { column: pick(rng, program.columns as usize), rotation: pick(rng, 8) },
    };
    let mut steps_of_row = vec![];
    for _ in 0..steps {
        let (a, b, c) = (source(rng, &rows), source(rng, &rows), source(rng, &rows));
        let dst = pick(rng, program.registers as usize);
        steps_of_row.push(step(rng, dst, a, b, c));
        rows.push(dst);
    }
    program.results = (0..pick(rng, 4)).map(|_| source(rng, &rows)).collect();
    program.results.extend(rows.last().map(|last| Source::Register(*last)));
    program.steps = steps_of_row;
    program
}

fn step(rng: &mut ChaCha20Rng, dst: u32, a: Source, b: Source, c: Source) -> Step {
    match rng.next_u32() % 7 {
        0 => Step::Add { dst, a, b },
        1 => Step::Sub { dst, a, b },
        2 => Step::Mul { dst, a, b },
        3 => Step::MulAdd { dst, a, b, c },
        4 => Step::Square { dst, a },
        5 => Step::Double { dst, a },
        _ => Step::Negate { dst, a },
    }
}

/// Random programs have the values of their definition: rotations that wrap, negative ones, registers written again, uniform
/// steps, results of every kind.
///
/// # Panics
/// With a program as short as it still fails.
pub fn matches_the_definition<C: Curve>(subject: &Subject<C>) {
    if subject.provider.quotient::<C::ScalarExt>().is_none() {
        return;
    }
    let config = Config { cases: subject.sizes.cases, failure_persistence: None, ..Config::default() };
    let strategy = (0..u64::MAX, 0..60usize, 0..=subject.sizes.program.min(7));
    let result = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
    .run(&strategy, |(seed, steps, log_n)| {
        let mut rng = rng(seed);
        let program = random_program::<C::ScalarExt>(&mut rng, steps);
        program.check().map_err(|e| TestCaseError::fail(e.to_string()))?;
        let columns: Vec<Vec<_>> = (0..program.columns).map(|_| random(1 << log_n, &mut rng)).collect();
        let challenges = random(program.challenges as usize, &mut rng);
        let domain = domain(log_n, seed.is_multiple_of(2).then_some(seed % 4));
        let Some(quotient) = op(subject, &program, log_n) else { return Ok(()) };
        let run = |quotient: &dyn Quotient<C::ScalarExt>, queue: &Queue| {
            evaluate(quotient, queue, &program, &domain, &columns, &challenges)
        };
        if run(quotient.as_ref(), &subject.queue) != run(&Naive, &Queue::host()) {
            return Err(TestCaseError::fail(format!("{program:?}")));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A long program over many columns and rows, on every part of the extended domain, gives the values of its definition.
pub fn evaluates_large_programs<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(30);
    let log_n = subject.sizes.program;
    let mut program = random_program::<C::ScalarExt>(&mut rng, 400);
    program.registers += 200;
    for register in 0..200 {
        let dst = program.registers - 1 - register;
        let a = Source::Column { column: register % program.columns, rotation: register % 8 };
        program.steps.push(Step::MulAdd { dst, a, b: Source::Challenge(0), c: Source::Point });
        program.results.extend((register % 40 == 0).then_some(Source::Register(dst)));
    }
    let columns: Vec<Vec<_>> = (0..program.columns).map(|_| random(1 << log_n, &mut rng)).collect();
    let challenges = random(program.challenges as usize, &mut rng);
    for part in [None, Some(0), Some(3)] {
        agrees(subject, "large", &program, &domain(log_n, part), &columns, &challenges);
    }
}

/// Rotations are cyclic: ±1 at the ends, whole turns, and the extremes of their type, on domains down to one row.
pub fn wraps_rotations<C: Curve>(subject: &Subject<C>) {
    let rotations = vec![0, 1, -1, 7, -7, 8, -8, 1000, i32::MAX, i32::MIN, i32::MIN + 1];
    let read = |rotation: usize| Source::Column { column: 0, rotation: rotation as u32 };
    let program = Program::<C::ScalarExt> {
        results: (0..rotations.len()).map(read).collect(),
        rotations: rotations.clone(),
        columns: 1,
        ..Program::default()
    };
    for log_n in 0..=subject.sizes.program.min(5) {
        let n = 1i64 << log_n;
        let index: Vec<C::ScalarExt> = (0..n as u64).map(C::ScalarExt::from).collect();
        let Some(quotient) = op(subject, &program, log_n) else { continue };
        let domain = domain(log_n, Some(1));
        let found = evaluate(quotient.as_ref(), &subject.queue, &program, &domain, &[index], &[]);
        for (rotation, found) in rotations.iter().zip(found) {
            let row = |i: i64| C::ScalarExt::from((i + i64::from(*rotation)).rem_euclid(n) as u64);
            same(
                format_args!("rotation {rotation} of {n} rows"),
                &found,
                &(0..n).map(row).collect::<Vec<_>>(),
            );
        }
    }
}

/// Every kind of source may be a result by itself, twice too; without results, steps or columns there is nothing to do.
pub fn returns_sources<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(31);
    let log_n = subject.sizes.program.min(4);
    let dst = 0;
    let program = Program {
        constants: vec![C::ScalarExt::from(5)],
        rotations: vec![0],
        columns: 1,
        challenges: 1,
        uniform: vec![
            Step::Add { dst, a: Source::Constant(0), b: Source::Challenge(0) },
            Step::Square { dst, a: Source::Uniform(0) },
        ],
        uniform_registers: 1,
        steps: vec![
            Step::Mul { dst, a: Source::Point, b: Source::Uniform(0) },
            Step::Add { dst, a: Source::Register(0), b: Source::Register(0) },
        ],
        registers: 1,
        results: vec![
            Source::Register(0),
            Source::Constant(0),
            Source::Challenge(0),
            Source::Uniform(0),
            Source::Point,
            Source::Column { column: 0, rotation: 0 },
            Source::Register(0),
        ],
    };
    for (name, column) in columns::<C::ScalarExt>(1 << log_n, &mut rng) {
        agrees(subject, name, &program, &domain(log_n, Some(2)), &[column], &[C::ScalarExt::from(3)]);
    }
    let nothing = Program::<C::ScalarExt>::default();
    agrees(subject, "nothing", &nothing, &domain(log_n, None), &[], &[]);
    let point = Program::<C::ScalarExt> { results: vec![Source::Point], ..Program::default() };
    for log_n in 0..=log_n {
        agrees(subject, "the points", &point, &domain(log_n, Some(1)), &[], &[]);
    }
}

/// A program that `Program::check` refuses is `Invalid`.
pub fn refuses_bad_programs<C: Curve>(subject: &Subject<C>) {
    let step = |a| vec![Step::Square { dst: 0, a }];
    let good = Program::<C::ScalarExt> { registers: 1, uniform_registers: 1, ..Program::default() };
    let Some(quotient) = op(subject, &good, 3) else { return };
    for (name, program) in [
        ("no such constant", Program { steps: step(Source::Constant(0)), ..good.clone() }),
        ("no such challenge", Program { steps: step(Source::Challenge(0)), ..good.clone() }),
        (
            "no such column",
            Program { steps: step(Source::Column { column: 0, rotation: 0 }), ..good.clone() },
        ),
        ("a register before it is written", Program { steps: step(Source::Register(0)), ..good.clone() }),
        ("a uniform before it is written", Program { steps: step(Source::Uniform(0)), ..good.clone() }),
        ("a point in the uniform part", Program { uniform: step(Source::Point), ..good.clone() }),
        ("no such destination", Program { registers: 0, steps: step(Source::Point), ..good.clone() }),
        ("no such result", Program { results: vec![Source::Register(0)], ..good }),
    ] {
        refused(name, quotient.compile(&subject.queue, &program), Expect::Invalid);
    }
}

/// A small program over two columns and a challenge, with its operands.
type Small<F> = (Program<F>, [Vec<F>; 2], [F; 1]);

fn small<F: PrimeField>(rng: &mut ChaCha20Rng) -> Small<F> {
    let column = |column| Source::Column { column, rotation: column };
    let program = Program {
        rotations: vec![0, -1],
        columns: 2,
        challenges: 1,
        steps: vec![Step::MulAdd { dst: 0, a: column(0), b: column(1), c: Source::Challenge(0) }],
        registers: 1,
        results: vec![Source::Register(0), column(1)],
        ..Program::default()
    };
    (program, [random(8, rng), random(8, rng)], [F::random(rng)])
}

/// Wrong numbers and lengths of columns, challenges and outputs are `Length`, and no output is written.
pub fn refuses_wrong_lengths<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(32);
    let (program, columns, challenges) = small::<C::ScalarExt>(&mut rng);
    let Some(quotient) = op(subject, &program, 3) else { return };
    let compiled = ok("compile", quotient.compile(&subject.queue, &program));
    let domain = domain(3, None);
    for (name, lengths, given, outs) in [
        ("a column too short", vec![8, 7], 1, vec![8, 8]),
        ("a column too long", vec![9, 8], 1, vec![8, 8]),
        ("a column too few", vec![8], 1, vec![8, 8]),
        ("a column too many", vec![8, 8, 8], 1, vec![8, 8]),
        ("a challenge too few", vec![8, 8], 0, vec![8, 8]),
        ("a challenge too many", vec![8, 8], 2, vec![8, 8]),
        ("an output too few", vec![8, 8], 1, vec![8]),
        ("an output too many", vec![8, 8], 1, vec![8, 8, 8]),
        ("an output too short", vec![8, 8], 1, vec![8, 4]),
        ("an output too long", vec![8, 8], 1, vec![8, 16]),
    ] {
        let operands: Vec<Vec<C::ScalarExt>> = lengths.iter().map(|n| random(*n, &mut rng)).collect();
        let given: Vec<C::ScalarExt> = random(given, &mut rng);
        let before: Vec<Vec<C::ScalarExt>> = outs.iter().map(|n| random(*n, &mut rng)).collect();
        let mut out = before.clone();
        let mut outs: Vec<RefMut<'_, _>> = out.iter_mut().map(|c| RefMut::host(c)).collect();
        let result =
            quotient.evaluate(&subject.queue, &compiled, &domain, &refs(&operands), &given, &mut outs);
        refused(name, result, Expect::Length);
        assert_eq!(out, before, "{name}: an output was written");
    }
    let far = Domain { log_n: C::ScalarExt::S + 1, ..domain };
    let result = quotient.evaluate(&subject.queue, &compiled, &far, &refs(&columns), &challenges, &mut []);
    refused("a domain beyond the two-adicity", result, Expect::Invalid);
}

/// Programs and buffers of nobody are `WrongSpace`, and no output is written.
pub fn refuses_foreign_operands<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(33);
    let (program, columns, challenges) = small::<C::ScalarExt>(&mut rng);
    let Some(quotient) = op(subject, &program, 3) else { return };
    let compiled = ok("compile", quotient.compile(&subject.queue, &program));
    let domain = domain(3, None);
    let before: Vec<Vec<C::ScalarExt>> = (0..2).map(|_| random(8, &mut rng)).collect();
    let mut out = before.clone();
    let mut outs: Vec<RefMut<'_, _>> = out.iter_mut().map(|c| RefMut::host(c)).collect();
    let foreign = Compiled::new(Arc::new(Alien(0)));
    let operands = refs(&columns);
    let result = quotient.evaluate(&subject.queue, &foreign, &domain, &operands, &challenges, &mut outs);
    refused("a foreign program", result, Expect::WrongSpace);
    let buffer = alien::<C::ScalarExt>(8);
    let mixed = [operands[0], buffer.as_ref()];
    let result = quotient.evaluate(&subject.queue, &compiled, &domain, &mixed, &challenges, &mut outs);
    refused("a foreign column", result, Expect::WrongSpace);
    let mut buffer = alien::<C::ScalarExt>(8);
    let mut outs = [RefMut::host(&mut out[0]), buffer.as_mut()];
    let result = quotient.evaluate(&subject.queue, &compiled, &domain, &operands, &challenges, &mut outs);
    refused("a foreign output", result, Expect::WrongSpace);
    assert_eq!(out, before, "an output was written");
}

/// Columns and outputs may be in buffers of the provider's space, mixed with host memory.
pub fn works_on_resident_columns<C: Curve>(subject: &Subject<C>) {
    let (program, columns, challenges) = small::<C::ScalarExt>(&mut rng(34));
    let Some(quotient) = op(subject, &program, 3) else { return };
    let domain = domain(3, Some(1));
    let expected = evaluate(&Naive, &Queue::host(), &program, &domain, &columns, &challenges);
    let compiled = ok("compile", quotient.compile(&subject.queue, &program));
    let resident = subject.upload(&columns[0]);
    let mixed = [resident.as_ref(), Ref::host(&columns[1])];
    let mut buffer = subject.upload(&columns[1]);
    let mut out = vec![C::ScalarExt::ZERO; 8];
    let mut outs = [buffer.as_mut(), RefMut::host(&mut out)];
    ok("evaluate", quotient.evaluate(&subject.queue, &compiled, &domain, &mixed, &challenges, &mut outs));
    same("the buffer", &subject.download(&buffer), &expected[0]);
    same("the host output", &out, &expected[1]);
    same("the resident operand after the call", &subject.download(&resident), &columns[0]);
}

/// Columns and outputs may be slices of buffers of the provider's space; what is around them stays.
pub fn works_on_slices<C: Curve>(subject: &Subject<C>) {
    let (program, columns, challenges) = small::<C::ScalarExt>(&mut rng(36));
    let Some(quotient) = op(subject, &program, 3) else { return };
    let domain = domain(3, Some(1));
    let expected = evaluate(&Naive, &Queue::host(), &program, &domain, &columns, &challenges);
    let compiled = ok("compile", quotient.compile(&subject.queue, &program));
    let within: Vec<_> = columns.iter().map(|column| subject.upload_within(column)).collect();
    let slices: Vec<_> = within.iter().map(super::Within::as_ref).collect();
    let (mut a, mut b) = (subject.upload_within(&columns[1]), subject.upload_within(&columns[0]));
    a.with(|mut a| {
        b.with(|mut b| {
            let mut outs = [a.reborrow(), b.reborrow()];
            let done = quotient.evaluate(&subject.queue, &compiled, &domain, &slices, &challenges, &mut outs);
            ok("evaluate", done);
        });
    });
    same("the first output", &subject.download_within(&a), &expected[0]);
    same("the second output", &subject.download_within(&b), &expected[1]);
}

/// One compiled program serves many calls, from several threads, with different domains and challenges.
pub fn works_from_many_threads<C: Curve>(subject: &Subject<C>) {
    let program = random_program::<C::ScalarExt>(&mut rng(35), 30);
    let Some(quotient) = op(subject, &program, 4) else { return };
    let compiled = ok("compile", quotient.compile(&subject.queue, &program));
    std::thread::scope(|scope| {
        for thread in 0..subject.sizes.threads {
            let (quotient, compiled, program) = (&quotient, &compiled, &program);
            scope.spawn(move || {
                let mut rng = rng(300 + thread as u64);
                for round in 0..6 {
                    let log_n = round % (subject.sizes.program.min(6) + 1);
                    let domain = domain(log_n, Some(u64::from(round % 4)));
                    let columns: Vec<Vec<C::ScalarExt>> =
                        (0..program.columns).map(|_| random(1 << log_n, &mut rng)).collect();
                    let challenges = random(program.challenges as usize, &mut rng);
                    let expected = evaluate(&Naive, &Queue::host(), program, &domain, &columns, &challenges);
                    let mut out =
                        expected.iter().map(|c| vec![C::ScalarExt::ZERO; c.len()]).collect::<Vec<_>>();
                    let mut outs: Vec<RefMut<'_, _>> = out.iter_mut().map(|c| RefMut::host(c)).collect();
                    let operands = refs(&columns);
                    let done = quotient.evaluate(
                        &subject.queue,
                        compiled,
                        &domain,
                        &operands,
                        &challenges,
                        &mut outs,
                    );
                    ok("evaluate", done);
                    assert_eq!(out, expected);
                }
            });
        }
    });
}
