//! Whether a device that failed can be trusted with work again: a few known answers of everything that it offers.

use ff::{Field, PrimeField};
use group::{Curve as _, Group};
use parhelion_backend_api::hal::{Buffer, Ref, RefMut, Result};
use parhelion_backend_api::{
    Curve, Domain, MsmShape, NttPlan, Program, QuotientShape, Reuse, ScalarKind, Source, Step, ntt,
};

use crate::slot::Slot;

const LOG_N: u32 = 5;
const N: usize = 1 << LOG_N;

/// What is asked, in words, and whether the answer is right.
type Question<C> = (&'static str, fn(&Slot<C>) -> Result<bool>);

/// Asks the questions.
///
/// # Errors
/// What failed, in words.
pub(crate) fn passes<C: Curve>(slot: &Slot<C>) -> std::result::Result<(), String> {
    let questions: [Question<C>; 5] = [
        ("a copy there and back", copies),
        ("a multi-scalar multiplication", multiplies),
        ("a transform", transforms),
        ("a program", evaluates),
        ("a polynomial operation", combines),
    ];
    questions.iter().try_for_each(|(what, ask)| match ask(slot) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{what} gives a wrong answer")),
        Err(error) => Err(format!("{what} fails: {error}")),
    })
}

/// Values that look like nothing in particular, the same every time.
fn column<F: PrimeField>(seed: u64) -> Vec<F> {
    let ratio = F::MULTIPLICATIVE_GENERATOR.pow_vartime([0x9e37_79b9_7f4a_7c15 ^ seed]);
    std::iter::successors(Some(ratio), |value| Some(*value * ratio)).take(N).collect()
}

fn resident<C: Curve>(slot: &Slot<C>, values: &[C::ScalarExt]) -> Result<Buffer<C::ScalarExt>> {
    Buffer::from_host(slot.provider.space.as_ref(), &slot.queue()?, values, "examination")
}

fn copies<C: Curve>(slot: &Slot<C>) -> Result<bool> {
    let values = column::<C::ScalarExt>(1);
    let buffer = resident(slot, &values)?;
    Ok(buffer.to_host(slot.provider.space.as_ref(), &slot.queue()?)? == values)
}

fn multiplies<C: Curve>(slot: &Slot<C>) -> Result<bool> {
    let Some(msm) = slot.provider.msm::<C>() else { return Ok(true) };
    if !msm.supports(&MsmShape { len: N, batch: 1, scalars: ScalarKind::Full }).is_yes() {
        return Ok(true);
    }
    let (multiples, scalars) = (column::<C::ScalarExt>(2), column::<C::ScalarExt>(3));
    let generator = C::CurveExt::generator();
    let projective: Vec<C::CurveExt> = multiples.iter().map(|m| generator * m).collect();
    let mut points = vec![C::identity(); N];
    C::CurveExt::batch_normalize(&projective, &mut points);
    let queue = slot.queue()?;
    let bases = msm.prepare(&queue, &points, Reuse::Once)?;
    let found = msm.msm(&queue, &bases, Ref::host(&scalars), ScalarKind::Full)?;
    let expected: C::ScalarExt = multiples.iter().zip(&scalars).map(|(m, s)| *m * s).sum();
    Ok(found == generator * expected)
}

fn transforms<C: Curve>(slot: &Slot<C>) -> Result<bool> {
    let Some(ntt) = slot.provider.ntt::<C::ScalarExt>() else { return Ok(true) };
    let shift = C::ScalarExt::MULTIPLICATIVE_GENERATOR;
    let plan = NttPlan::forward(LOG_N).on_coset(shift);
    if !ntt.supports(&plan.shape(1)).is_yes() {
        return Ok(true);
    }
    let coefficients = column::<C::ScalarExt>(4);
    let mut found = coefficients.clone();
    ntt.ntt_batch(&slot.queue()?, &plan, &mut [RefMut::host(&mut found)])?;
    let omega: C::ScalarExt = ntt::root_of_unity(LOG_N)?;
    let points = std::iter::successors(Some(shift), |x| Some(*x * omega));
    Ok(points.zip(&found).all(|(x, value)| horner(&coefficients, x) == *value))
}

fn evaluates<C: Curve>(slot: &Slot<C>) -> Result<bool> {
    let Some(quotient) = slot.provider.quotient::<C::ScalarExt>() else { return Ok(true) };
    let shape = QuotientShape { log_n: LOG_N, columns: 2, steps: 1, registers: 1 };
    if !quotient.supports(&shape).is_yes() {
        return Ok(true);
    }
    let read = |column, rotation| Source::Column { column, rotation };
    let program = Program {
        rotations: vec![0, 1],
        columns: 2,
        challenges: 1,
        steps: vec![Step::MulAdd { dst: 0, a: read(0, 1), b: Source::Challenge(0), c: read(1, 0) }],
        registers: 1,
        results: vec![Source::Register(0)],
        ..Program::default()
    };
    let (a, b) = (column::<C::ScalarExt>(5), column::<C::ScalarExt>(6));
    let (challenge, queue) = (a[7], slot.queue()?);
    let compiled = quotient.compile(&queue, &program)?;
    let omega = ntt::root_of_unity(LOG_N)?;
    let domain = Domain { log_n: LOG_N, omega, shift: C::ScalarExt::ONE };
    let mut found = vec![C::ScalarExt::ZERO; N];
    let columns = [Ref::host(&a), Ref::host(&b)];
    quotient.evaluate(&queue, &compiled, &domain, &columns, &[challenge], &mut [RefMut::host(&mut found)])?;
    Ok((0..N).all(|i| found[i] == a[(i + 1) % N] * challenge + b[i]))
}

fn combines<C: Curve>(slot: &Slot<C>) -> Result<bool> {
    let Some(poly) = slot.provider.poly::<C::ScalarExt>() else { return Ok(true) };
    let (a, b, queue) = (column::<C::ScalarExt>(8), column::<C::ScalarExt>(9), slot.queue()?);
    let (x, mut sum, mut value) = (a[3], vec![C::ScalarExt::ZERO; N], [C::ScalarExt::ZERO]);
    poly.linear_combination(&queue, &[(x, Ref::host(&a)), (b[1], Ref::host(&b))], RefMut::host(&mut sum))?;
    poly.evaluate_batch(&queue, &[Ref::host(&sum)], &[(0, x)], &mut value)?;
    Ok((0..N).all(|i| sum[i] == a[i] * x + b[i] * b[1]) && value[0] == horner(&sum, x))
}

fn horner<F: Field>(coefficients: &[F], x: F) -> F {
    coefficients.iter().rev().fold(F::ZERO, |value, coefficient| value * x + coefficient)
}
