//! Number-theoretic transforms.

use std::sync::Arc;

use ff::{Field, PrimeField, WithSmallOrderMulGroup};
use parhelion_backend_api::hal::{Queue, Ref, RefMut};
use parhelion_backend_api::{Curve, Direction, Ntt, NttPlan, ntt::root_of_unity};

use super::{Expect, Subject, alien, ok, refs, refused, same};
use crate::inputs::{columns, random, rng};
use crate::{Naive, points};

type Op<C> = Arc<dyn Ntt<<C as halo2curves::CurveAffine>::ScalarExt>>;

/// The operation, if the plan is supported.
fn op<C: Curve>(subject: &Subject<C>, plan: &NttPlan<C::ScalarExt>, batch: usize) -> Option<Op<C>> {
    let ntt = subject.provider.ntt::<C::ScalarExt>()?;
    ntt.supports(&plan.shape(batch)).is_yes().then_some(ntt)
}

fn run<C: Curve>(
    subject: &Subject<C>,
    ntt: &dyn Ntt<C::ScalarExt>,
    plan: &NttPlan<C::ScalarExt>,
    columns: &mut [Vec<C::ScalarExt>],
) {
    let mut refs: Vec<RefMut<'_, C::ScalarExt>> = columns.iter_mut().map(|c| RefMut::host(c)).collect();
    ok(format_args!("{plan:?}"), ntt.ntt_batch(&subject.queue, plan, &mut refs));
}

fn expected<F: PrimeField + parhelion_backend_api::hal::DeviceRepr>(
    plan: &NttPlan<F>,
    column: &[F],
) -> Vec<F> {
    let mut column = column.to_vec();
    ok("naive", Naive.ntt_batch(&Queue::host(), plan, &mut [RefMut::host(&mut column)]));
    column
}

/// The shifts that a prover uses, and those that break implementations: none, 1, halo2's ζ and ζ², ζ·ω_ext^i, the generator, −1, any.
fn cosets<F: WithSmallOrderMulGroup<3>>(log_n: u32) -> Vec<Option<F>> {
    let extended = root_of_unity::<F>((log_n + 2).min(F::S)).unwrap_or(F::ONE);
    let parts = (0..4u64).map(|part| F::ZETA * extended.pow_vartime([part]));
    let others = [F::ONE, F::ZETA.square(), F::MULTIPLICATIVE_GENERATOR, -F::ONE, F::random(rng(99))];
    std::iter::once(None).chain(parts.chain(others).map(Some)).collect()
}

/// Results are those of the definition, in both directions, on every coset, for every adversarial column.
pub fn matches_the_definition<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(20);
    for log_n in 0..=subject.sizes.ntt_quadratic {
        let (names, input): (Vec<_>, Vec<_>) =
            columns::<C::ScalarExt>(1 << log_n, &mut rng).into_iter().unzip();
        for coset in cosets(log_n) {
            for direction in [Direction::Forward, Direction::Inverse] {
                let plan = NttPlan { log_n, direction, coset };
                let Some(ntt) = op::<C>(subject, &plan, input.len()) else { continue };
                let mut found = input.clone();
                run(subject, ntt.as_ref(), &plan, &mut found);
                // The oracle is quadratic, so it sees all columns on one coset and one column on the others.
                let all = if coset.is_none() || log_n <= 3 { input.len() } else { 1 };
                for i in 0..all {
                    let i = input.len() - 1 - i;
                    same(format_args!("{plan:?}, {}", names[i]), &found[i], &expected(&plan, &input[i]));
                }
            }
        }
    }
}

/// The domain is the one that halo2 uses: ω comes from the generator 7 of BN254's scalar field, not from 5, and evaluations are in
/// natural order. The transform of X is the domain itself.
pub fn uses_the_root_of_the_field<C: Curve>(subject: &Subject<C>) {
    for log_n in 1..=subject.sizes.ntt_linear {
        let plan = NttPlan::forward(log_n);
        let Some(ntt) = op::<C>(subject, &plan, 1) else { continue };
        let mut column = vec![C::ScalarExt::ZERO; 1 << log_n];
        column[1] = C::ScalarExt::ONE;
        let mut columns = [column];
        run(subject, ntt.as_ref(), &plan, &mut columns);
        // ω = generator^((r − 1) / 2^log_n): (r − 1) / 2^S is odd, and ROOT_OF_UNITY is the generator to that power.
        let root = C::ScalarExt::ROOT_OF_UNITY.pow_vartime([1u64 << (C::ScalarExt::S - log_n)]);
        let domain: Vec<_> =
            std::iter::successors(Some(C::ScalarExt::ONE), |x| Some(*x * root)).take(1 << log_n).collect();
        same(format_args!("the transform of X, log_n = {log_n}"), &columns[0], &domain);
    }
}

/// Large transforms of sparse polynomials have closed forms, and the inverse takes them back.
pub fn matches_closed_forms<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(21);
    for log_n in subject.sizes.ntt_quadratic..=subject.sizes.ntt_linear {
        let n = 1usize << log_n;
        for coset in [None, Some(C::ScalarExt::ZETA), Some(C::ScalarExt::random(&mut rng))] {
            let plan = NttPlan { log_n, direction: Direction::Forward, coset };
            let Some(ntt) = op::<C>(subject, &plan, 3) else { continue };
            let domain = ok("domain", points(log_n, coset.unwrap_or(C::ScalarExt::ONE)));
            let powers = [0, 1, n / 2, n - 1];
            let weights: Vec<C::ScalarExt> = random(powers.len(), &mut rng);
            let mut input = vec![C::ScalarExt::ZERO; n];
            for (power, weight) in powers.iter().zip(&weights) {
                input[*power] += weight;
            }
            let expected: Vec<C::ScalarExt> = domain
                .iter()
                .map(|x| powers.iter().zip(&weights).map(|(p, w)| *w * x.pow_vartime([*p as u64])).sum())
                .collect();
            let dense = random(n, &mut rng);
            let mut columns = [input.clone(), vec![C::ScalarExt::ONE; n], dense.clone()];
            run(subject, ntt.as_ref(), &plan, &mut columns);
            same(format_args!("sparse, {plan:?}"), &columns[0], &expected);
            let inverse = NttPlan { direction: Direction::Inverse, ..plan };
            let Some(ntt) = op::<C>(subject, &inverse, 3) else { continue };
            run(subject, ntt.as_ref(), &inverse, &mut columns);
            same(format_args!("sparse and back, {plan:?}"), &columns[0], &input);
            same(format_args!("ones and back, {plan:?}"), &columns[1], &vec![C::ScalarExt::ONE; n]);
            same(format_args!("dense and back, {plan:?}"), &columns[2], &dense);
        }
    }
}

/// Columns of a batch do not influence each other, and an empty batch is nothing.
pub fn batches_like_single_calls<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(22);
    let log_n = subject.sizes.ntt_quadratic + 1;
    let plan = NttPlan::forward(log_n).on_coset(C::ScalarExt::ZETA);
    let Some(ntt) = op::<C>(subject, &plan, 7) else { return };
    let input: Vec<Vec<C::ScalarExt>> = (0..7).map(|_| random(1 << log_n, &mut rng)).collect();
    let mut batch = input.clone();
    run(subject, ntt.as_ref(), &plan, &mut batch);
    for (column, batch) in input.into_iter().zip(batch) {
        same("a column of the batch", &batch, &expected(&plan, &column));
        let mut single = [column];
        run(subject, ntt.as_ref(), &plan, &mut single);
        same("one column alone", &single[0], &batch);
    }
    run(subject, ntt.as_ref(), &plan, &mut []);
}

/// Out of place: the same values as in place, inputs shorter than n padded with zeros, inputs left alone, old outputs ignored.
pub fn works_out_of_place<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(23);
    for log_n in [0, 1, 3, subject.sizes.ntt_quadratic] {
        let n = 1usize << log_n;
        for coset in [None, Some(C::ScalarExt::ZETA), Some(C::ScalarExt::random(&mut rng))] {
            let plan = NttPlan { log_n, direction: Direction::Forward, coset };
            let from: Vec<Vec<C::ScalarExt>> =
                [n, n - 1, n / 2, n / 4, 1.min(n), 0].iter().map(|len| random(*len, &mut rng)).collect();
            let Some(ntt) = op::<C>(subject, &plan, from.len()) else { continue };
            let before = from.clone();
            let mut to: Vec<Vec<C::ScalarExt>> = from.iter().map(|_| random(n, &mut rng)).collect();
            let mut outs: Vec<RefMut<'_, C::ScalarExt>> = to.iter_mut().map(|c| RefMut::host(c)).collect();
            ok("ntt_batch_into", ntt.ntt_batch_into(&subject.queue, &plan, &refs(&from), &mut outs));
            assert_eq!(from, before, "the input was written");
            for (mut from, to) in from.into_iter().zip(to) {
                let len = from.len();
                from.resize(n, C::ScalarExt::ZERO);
                same(format_args!("{plan:?} of {len}"), &to, &expected(&plan, &from));
            }
        }
    }
}

/// Wrong lengths are `Length`, and no column is written, those before the wrong one included.
pub fn refuses_wrong_lengths<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(24);
    let plan = NttPlan::forward(3);
    let Some(ntt) = op::<C>(subject, &plan, 2) else { return };
    for lengths in [[8, 7], [9, 8], [8, 0], [8, 16], [8, 4]] {
        let input: Vec<Vec<C::ScalarExt>> = lengths.iter().map(|n| random(*n, &mut rng)).collect();
        let mut columns = input.clone();
        let mut outs: Vec<RefMut<'_, C::ScalarExt>> = columns.iter_mut().map(|c| RefMut::host(c)).collect();
        refused("in place", ntt.ntt_batch(&subject.queue, &plan, &mut outs), Expect::Length);
        assert!(columns == input, "{lengths:?}: a column was written");
    }
    for (from, to) in [(vec![8, 9], vec![8, 8]), (vec![8], vec![8, 8]), (vec![4, 4], vec![8, 4])] {
        let from: Vec<Vec<C::ScalarExt>> = from.iter().map(|n| random(*n, &mut rng)).collect();
        let before: Vec<Vec<C::ScalarExt>> = to.iter().map(|n| random(*n, &mut rng)).collect();
        let mut to = before.clone();
        let mut outs: Vec<RefMut<'_, C::ScalarExt>> = to.iter_mut().map(|c| RefMut::host(c)).collect();
        let result = ntt.ntt_batch_into(&subject.queue, &plan, &refs(&from), &mut outs);
        refused("out of place", result, Expect::Length);
        assert!(to == before, "an output was written");
    }
}

/// A domain beyond the field's two-adicity, and a zero shift, are `Invalid`, and no column is written.
pub fn refuses_impossible_plans<C: Curve>(subject: &Subject<C>) {
    let Some(ntt) = op::<C>(subject, &NttPlan::forward(3), 1) else { return };
    let input: Vec<C::ScalarExt> = random(8, &mut rng(25));
    let two_adicity = C::ScalarExt::S;
    let zero = C::ScalarExt::ZERO;
    for direction in [Direction::Forward, Direction::Inverse] {
        for (log_n, coset) in
            [(two_adicity + 1, None), (63, None), (64, None), (200, None), (u32::MAX, None), (3, Some(zero))]
        {
            let plan = NttPlan { log_n, direction, coset };
            let mut column = input.clone();
            let result = ntt.ntt_batch(&subject.queue, &plan, &mut [RefMut::host(&mut column)]);
            refused(format_args!("{plan:?}"), result, Expect::Invalid);
            let from = [Ref::host(&input)];
            let result = ntt.ntt_batch_into(&subject.queue, &plan, &from, &mut [RefMut::host(&mut column)]);
            refused(format_args!("{plan:?} out of place"), result, Expect::Invalid);
            same("the column after a refusal", &column, &input);
        }
    }
}

/// Buffers of nobody are `WrongSpace`, and the host columns beside them stay as they were.
pub fn refuses_foreign_operands<C: Curve>(subject: &Subject<C>) {
    let plan = NttPlan::forward(3);
    let Some(ntt) = op::<C>(subject, &plan, 2) else { return };
    let input: Vec<C::ScalarExt> = random(8, &mut rng(26));
    let mut column = input.clone();
    let mut foreign = alien::<C::ScalarExt>(8);
    let mut columns = [RefMut::host(&mut column), foreign.as_mut()];
    refused("in place", ntt.ntt_batch(&subject.queue, &plan, &mut columns), Expect::WrongSpace);
    let from = [Ref::host(&input), foreign.as_ref()];
    let (mut a, mut b) = (input.clone(), input.clone());
    let mut to = [RefMut::host(&mut a), RefMut::host(&mut b)];
    let result = ntt.ntt_batch_into(&subject.queue, &plan, &from, &mut to);
    refused("out of place", result, Expect::WrongSpace);
    same("the column after a refusal", &column, &input);
    same("the output after a refusal", &a, &input);
}

/// Columns may be in buffers of the provider's space, mixed with host columns.
pub fn works_on_resident_columns<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(27);
    let log_n = subject.sizes.ntt_quadratic;
    let plan = NttPlan::forward(log_n).on_coset(C::ScalarExt::ZETA);
    let Some(ntt) = op::<C>(subject, &plan, 2) else { return };
    let input: Vec<Vec<C::ScalarExt>> = (0..2).map(|_| random(1 << log_n, &mut rng)).collect();
    let mut buffer = subject.upload(&input[0]);
    let mut column = input[1].clone();
    let mut columns = [buffer.as_mut(), RefMut::host(&mut column)];
    ok("ntt", ntt.ntt_batch(&subject.queue, &plan, &mut columns));
    same("the buffer", &subject.download(&buffer), &expected(&plan, &input[0]));
    same("the host column", &column, &expected(&plan, &input[1]));
    let from = subject.upload(&input[0][..(1 << log_n) / 2]);
    let mut to = subject.upload(&input[1]);
    let (from, outs) = ([from.as_ref()], &mut [to.as_mut()]);
    ok("ntt_batch_into", ntt.ntt_batch_into(&subject.queue, &plan, &from, outs));
    let mut padded = input[0][..(1 << log_n) / 2].to_vec();
    padded.resize(1 << log_n, C::ScalarExt::ZERO);
    same("the output buffer", &subject.download(&to), &expected(&plan, &padded));
}

/// Columns may be slices of buffers of the provider's space; what is around them stays.
pub fn works_on_slices<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(30);
    let log_n = subject.sizes.ntt_quadratic;
    let plan = NttPlan::forward(log_n).on_coset(C::ScalarExt::ZETA);
    let Some(ntt) = op::<C>(subject, &plan, 1) else { return };
    let input: Vec<C::ScalarExt> = random(1 << log_n, &mut rng);
    let mut column = subject.upload_within(&input);
    column.with(|column| ok("ntt", ntt.ntt_batch(&subject.queue, &plan, &mut [column])));
    same("in place", &subject.download_within(&column), &expected(&plan, &input));
    for len in [input.len(), input.len() / 2 + 1, 0] {
        let from = subject.upload_within(&input[..len]);
        let mut to = subject.upload_within(&input);
        to.with(|to| {
            let from = [from.as_ref()];
            ok("ntt_batch_into", ntt.ntt_batch_into(&subject.queue, &plan, &from, &mut [to]));
        });
        let mut padded = input[..len].to_vec();
        padded.resize(input.len(), C::ScalarExt::ZERO);
        same("out of place", &subject.download_within(&to), &expected(&plan, &padded));
    }
}

/// The result is complete on return and the same, limb for limb, every time.
pub fn completes_and_repeats<C: Curve>(subject: &Subject<C>) {
    let log_n = subject.sizes.ntt_linear;
    let plan = NttPlan::inverse(log_n);
    let Some(ntt) = op::<C>(subject, &plan, 2) else { return };
    let input: Vec<Vec<C::ScalarExt>> = (0..2).map(|i| random(1 << log_n, &mut rng(28 + i))).collect();
    let mut first = input.clone();
    run(subject, ntt.as_ref(), &plan, &mut first);
    for (values, coefficients) in input.iter().zip(&first) {
        // The constant coefficient is the mean of the values.
        let n = C::ScalarExt::from(1 << log_n);
        assert_eq!(coefficients[0] * n, values.iter().sum::<C::ScalarExt>());
    }
    for _ in 0..3 {
        let mut again = input.clone();
        run(subject, ntt.as_ref(), &plan, &mut again);
        for (again, first) in again.iter().zip(&first) {
            let bytes = parhelion_backend_api::hal::as_bytes;
            assert!(bytes(again) == bytes(first), "two runs differ in their limbs");
        }
    }
}

/// Calls from several threads, with different sizes at once, do not interfere.
pub fn works_from_many_threads<C: Curve>(subject: &Subject<C>) {
    if subject.provider.ntt::<C::ScalarExt>().is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for thread in 0..subject.sizes.threads {
            scope.spawn(move || {
                let mut rng = rng(200 + thread as u64);
                for round in 0..6u32 {
                    let log_n = 1 + (thread as u32 + round) % subject.sizes.ntt_quadratic;
                    let plan = NttPlan::forward(log_n).on_coset(C::ScalarExt::random(&mut rng));
                    let Some(ntt) = op::<C>(subject, &plan, 2) else { continue };
                    let input: Vec<Vec<C::ScalarExt>> =
                        (0..2).map(|_| random(1 << log_n, &mut rng)).collect();
                    let mut found = input.clone();
                    run(subject, ntt.as_ref(), &plan, &mut found);
                    for (found, input) in found.iter().zip(&input) {
                        same(format_args!("{plan:?}"), found, &expected(&plan, input));
                    }
                }
            });
        }
    });
}
