//! Polynomial operations.

use std::sync::Arc;

use ff::{Field, PrimeField};
use parhelion_backend_api::hal::{Queue, Ref, RefMut};
use parhelion_backend_api::{Curve, PolyCall, PolyOps, PolyShape, Recurrence};

use super::{Expect, Subject, alien, lengths, ok, refused, same};
use crate::inputs::{columns, random, rng};
use crate::{Naive, horner};

type Op<C> = Arc<dyn PolyOps<<C as halo2curves::CurveAffine>::ScalarExt>>;

fn op<C: Curve>(subject: &Subject<C>, call: PolyCall, len: usize, batch: usize) -> Option<Op<C>> {
    let poly = subject.provider.poly::<C::ScalarExt>()?;
    let log_n = len.next_power_of_two().trailing_zeros();
    poly.supports(&PolyShape { call, log_n, batch }).is_yes().then_some(poly)
}

/// The operation, if it supports every call on some operands.
fn all<C: Curve>(subject: &Subject<C>, len: usize, batch: usize) -> Option<Op<C>> {
    PolyCall::ALL.into_iter().map(|call| op(subject, call, len, batch)).collect::<Option<Vec<_>>>()?.pop()
}

/// Runs an in-place operation on the subject and on the oracle, for every adversarial column of every length.
fn in_place<C: Curve>(
    subject: &Subject<C>,
    call: PolyCall,
    seed: u64,
    f: impl Fn(&dyn PolyOps<C::ScalarExt>, &Queue, RefMut<'_, C::ScalarExt>) -> C::ScalarExt,
) {
    let mut rng = rng(seed);
    for len in lengths(subject.sizes.poly) {
        let Some(poly) = op(subject, call, len, 1) else { continue };
        for (name, column) in columns::<C::ScalarExt>(len, &mut rng) {
            let (mut found, mut expected) = (column.clone(), column);
            let returned = f(poly.as_ref(), &subject.queue, RefMut::host(&mut found));
            let oracle = f(&Naive, &Queue::host(), RefMut::host(&mut expected));
            same(format_args!("{name}, length {len}"), &found, &expected);
            assert_eq!(returned, oracle, "{name}, length {len}: the returned value");
        }
    }
}

/// Roots that divisions get wrong: 0, ±1, and any.
fn roots<F: PrimeField>() -> [F; 4] {
    [F::ZERO, F::ONE, -F::ONE, F::random(rng(40))]
}

/// `p = q·(X − root) + p(root)`, the highest coefficient of the result being zero.
pub fn divides<C: Curve>(subject: &Subject<C>) {
    for root in roots() {
        in_place(subject, PolyCall::Divide, 41, |poly, queue, column| {
            ok("divide_by_linear", poly.divide_by_linear(queue, column, root));
            C::ScalarExt::ZERO
        });
    }
    let mut rng = rng(42);
    for len in lengths(subject.sizes.poly) {
        let Some(poly) = op(subject, PolyCall::Divide, len, 1) else { continue };
        let (p, root) = (random::<C::ScalarExt>(len, &mut rng), C::ScalarExt::random(&mut rng));
        let mut q = p.clone();
        ok("divide_by_linear", poly.divide_by_linear(&subject.queue, RefMut::host(&mut q), root));
        assert!(q.last().is_none_or(|top| bool::from(top.is_zero())), "the highest coefficient stays");
        let x = C::ScalarExt::random(&mut rng);
        assert_eq!(horner(&p, x), horner(&q, x) * (x - root) + horner(&p, root), "length {len}");
    }
}

/// Inverses, zeros staying zeros wherever they are.
pub fn inverts<C: Curve>(subject: &Subject<C>) {
    in_place(subject, PolyCall::Invert, 43, |poly, queue, column| {
        ok("batch_invert", poly.batch_invert(queue, column));
        C::ScalarExt::ZERO
    });
}

/// The exclusive running product and the total, zeros included.
pub fn accumulates_products<C: Curve>(subject: &Subject<C>) {
    for first in roots() {
        in_place(subject, PolyCall::RunningProduct, 44, |poly, queue, column| {
            ok("running_product", poly.running_product(queue, column, first))
        });
    }
}

/// The exclusive affine scan and its end: with factors, with summands, with both and with neither; operands of unequal length are `Length`.
pub fn scans<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(51);
    for len in lengths(subject.sizes.poly) {
        let Some(poly) = op(subject, PolyCall::Scan, len, 1) else { continue };
        let given: Vec<C::ScalarExt> = random(len, &mut rng);
        for (name, column) in columns::<C::ScalarExt>(len, &mut rng) {
            let (a, b) = (Some(Ref::host(&column)), Some(Ref::host(&given)));
            for (factors, summands) in [(a, b), (b, a), (a, None), (None, a), (None, None)] {
                let first = C::ScalarExt::random(&mut rng);
                let recurrence = Recurrence { first, factors, summands };
                let (mut found, mut expected) = (given.clone(), given.clone());
                let last = ok("scan", poly.scan(&subject.queue, &recurrence, RefMut::host(&mut found)));
                let oracle = ok("scan", Naive.scan(&Queue::host(), &recurrence, RefMut::host(&mut expected)));
                same(format_args!("{name}, length {len}"), &found, &expected);
                assert_eq!(last, oracle, "{name}, length {len}: the last value");
            }
        }
    }
    let Some(poly) = op(subject, PolyCall::Scan, 8, 1) else { return };
    let (short, before) = (random::<C::ScalarExt>(7, &mut rng), random::<C::ScalarExt>(8, &mut rng));
    for (factors, summands) in [(Some(Ref::host(&short)), None), (None, Some(Ref::host(&short)))] {
        let mut out = before.clone();
        let recurrence = Recurrence { first: C::ScalarExt::ONE, factors, summands };
        let result = poly.scan(&subject.queue, &recurrence, RefMut::host(&mut out));
        refused("operands of 7 for an output of 8", result, Expect::Length);
        same("the output after a refusal", &out, &before);
    }
}

/// Products, element by element; factors of unequal length are `Length`, and nothing is written.
pub fn multiplies<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(45);
    for len in lengths(subject.sizes.poly) {
        let Some(poly) = op(subject, PolyCall::Multiply, len, 1) else { continue };
        let b: Vec<C::ScalarExt> = random(len, &mut rng);
        for (name, a) in columns::<C::ScalarExt>(len, &mut rng) {
            let mut found = a.clone();
            ok("multiply", poly.multiply(&subject.queue, RefMut::host(&mut found), Ref::host(&b)));
            let expected: Vec<C::ScalarExt> = a.iter().zip(&b).map(|(a, b)| *a * b).collect();
            same(format_args!("{name}, length {len}"), &found, &expected);
        }
    }
    let Some(poly) = op(subject, PolyCall::Multiply, 8, 1) else { return };
    for (len, other) in [(8, 7), (7, 8), (8, 0), (0, 8)] {
        let (before, b) = (random::<C::ScalarExt>(len, &mut rng), random(other, &mut rng));
        let mut a = before.clone();
        let result = poly.multiply(&subject.queue, RefMut::host(&mut a), Ref::host(&b));
        refused(format_args!("{len} by {other}"), result, Expect::Length);
        same("the factor after a refusal", &a, &before);
    }
}

/// Sums of weighted terms: none, one and many, of any length up to the output's; the old output is ignored.
pub fn combines<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(46);
    for len in lengths(subject.sizes.poly) {
        for terms in [0, 1, 2, 3, 17] {
            let Some(poly) = op(subject, PolyCall::LinearCombination, len, terms) else { continue };
            let polys: Vec<Vec<C::ScalarExt>> =
                (0..terms).map(|t| random(if t % 3 == 2 { len / (t + 1) } else { len }, &mut rng)).collect();
            let weights: Vec<C::ScalarExt> = (0..terms)
                .map(|t| match t % 5 {
                    1 => C::ScalarExt::ONE,
                    3 => C::ScalarExt::ZERO,
                    4 => -C::ScalarExt::ONE,
                    _ => C::ScalarExt::random(&mut rng),
                })
                .collect();
            let terms: Vec<_> = weights.iter().copied().zip(polys.iter().map(|p| Ref::host(p))).collect();
            let combine = |poly: &dyn PolyOps<C::ScalarExt>, queue: &Queue| {
                let mut out = vec![C::ScalarExt::from(9); len];
                ok("linear_combination", poly.linear_combination(queue, &terms, RefMut::host(&mut out)));
                out
            };
            let found = combine(poly.as_ref(), &subject.queue);
            let expected = combine(&Naive, &Queue::host());
            same(format_args!("{} terms of {len}", polys.len()), &found, &expected);
        }
    }
    let Some(poly) = op(subject, PolyCall::LinearCombination, 8, 2) else { return };
    let (long, short) = (random::<C::ScalarExt>(9, &mut rng), random(8, &mut rng));
    let mut out = short.clone();
    let terms = [(C::ScalarExt::ONE, Ref::host(&short)), (C::ScalarExt::ONE, Ref::host(&long))];
    let result = poly.linear_combination(&subject.queue, &terms, RefMut::host(&mut out));
    refused("a term longer than the output", result, Expect::Length);
    same("the output after a refusal", &out, &short);
}

/// Evaluations of several polynomials of different lengths, several points each, in any order.
pub fn evaluates<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(47);
    let lengths = lengths(subject.sizes.poly);
    let polys: Vec<Vec<C::ScalarExt>> = lengths.iter().map(|len| random(*len, &mut rng)).collect();
    let max = subject.sizes.poly;
    let shared = C::ScalarExt::random(&mut rng);
    let mut queries: Vec<(usize, C::ScalarExt)> = vec![];
    for p in (0..polys.len()).rev().chain(0..polys.len()) {
        queries.extend(roots().map(|x| (p, x)));
        queries.push((p, shared));
    }
    let Some(poly) = op(subject, PolyCall::Evaluate, max, queries.len()) else { return };
    let operands = super::refs(&polys);
    let mut out = vec![C::ScalarExt::ONE; queries.len()];
    ok("evaluate_batch", poly.evaluate_batch(&subject.queue, &operands, &queries, &mut out));
    for ((p, x), found) in queries.iter().zip(&out) {
        assert_eq!(*found, horner(&polys[*p], *x), "length {}", polys[*p].len());
    }
    ok("no queries", poly.evaluate_batch(&subject.queue, &operands, &[], &mut []));
    ok("no polynomials", poly.evaluate_batch(&subject.queue, &[], &[], &mut []));
    let x = C::ScalarExt::ONE;
    for (name, queries, outs, expected) in [
        ("an index out of range", vec![(0, x), (polys.len(), x)], 2, Expect::Invalid),
        ("the largest index", vec![(usize::MAX, x)], 1, Expect::Invalid),
        ("an output too few", vec![(0, x), (0, x)], 1, Expect::Length),
        ("an output too many", vec![(0, x)], 2, Expect::Length),
    ] {
        let before: Vec<C::ScalarExt> = random(outs, &mut rng);
        let mut out = before.clone();
        let result = poly.evaluate_batch(&subject.queue, &operands, &queries, &mut out);
        refused(name, result, expected);
        same(name, &out, &before);
    }
}

/// Buffers of nobody are `WrongSpace`, and host operands beside them stay as they were.
pub fn refuses_foreign_operands<C: Curve>(subject: &Subject<C>) {
    let Some(poly) = all(subject, 8, 2) else { return };
    let queue = &subject.queue;
    let values: Vec<C::ScalarExt> = random(8, &mut rng(48));
    let mut host = values.clone();
    let mut foreign = alien::<C::ScalarExt>(8);
    let x = C::ScalarExt::from(3);
    let refuse = |what, result| refused(what, result, Expect::WrongSpace);
    refuse("divide", poly.divide_by_linear(queue, foreign.as_mut(), x));
    refuse("invert", poly.batch_invert(queue, foreign.as_mut()));
    refuse("product", poly.running_product(queue, foreign.as_mut(), x).map(|_| ()));
    refuse("multiply into", poly.multiply(queue, foreign.as_mut(), Ref::host(&values)));
    refuse("multiply by", poly.multiply(queue, RefMut::host(&mut host), foreign.as_ref()));
    let terms = [(x, Ref::host(&values)), (x, foreign.as_ref())];
    refuse("combine", poly.linear_combination(queue, &terms, RefMut::host(&mut host)));
    let terms = [(x, Ref::host(&values))];
    refuse("combine into", poly.linear_combination(queue, &terms, alien(8).as_mut()));
    let mut out = [x, x];
    let polys = [Ref::host(&values), foreign.as_ref()];
    refuse("evaluate", poly.evaluate_batch(queue, &polys, &[(0, x), (1, x)], &mut out));
    let by = Recurrence { first: x, factors: Some(foreign.as_ref()), summands: None };
    refuse("scan of", poly.scan(queue, &by, RefMut::host(&mut host)).map(|_| ()));
    let by = Recurrence { first: x, factors: None, summands: Some(Ref::host(&values)) };
    refuse("scan into", poly.scan(queue, &by, alien(8).as_mut()).map(|_| ()));
    same("the column after refusals", &host, &values);
    same("the values after a refusal", &out, &[x, x]);
}

/// A polynomial operation in place.
type Run<'a, F> = &'a dyn Fn(&dyn PolyOps<F>, &Queue, RefMut<'_, F>);

/// Operands may be in buffers of the provider's space, mixed with host memory.
pub fn works_on_resident_columns<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(49);
    let len = subject.sizes.poly.min(1000);
    let Some(poly) = all(subject, len, 2) else { return };
    let (queue, x) = (&subject.queue, C::ScalarExt::from(3));
    let (a, b) = (random::<C::ScalarExt>(len, &mut rng), random::<C::ScalarExt>(len, &mut rng));
    let on_device = subject.upload(&b);
    let oracle = |f: Run<'_, C::ScalarExt>| {
        let mut column = a.clone();
        f(&Naive, &Queue::host(), RefMut::host(&mut column));
        column
    };
    let cases: [(&str, Run<'_, C::ScalarExt>); 3] = [
        ("divide", &|poly, queue, column| ok("divide", poly.divide_by_linear(queue, column, x))),
        ("invert", &|poly, queue, column| ok("invert", poly.batch_invert(queue, column))),
        ("product", &|poly, queue, column| {
            ok("product", poly.running_product(queue, column, x));
        }),
    ];
    for (name, f) in cases {
        let mut buffer = subject.upload(&a);
        f(poly.as_ref(), queue, buffer.as_mut());
        same(name, &subject.download(&buffer), &oracle(f));
    }
    let mut buffer = subject.upload(&a);
    ok("multiply", poly.multiply(queue, buffer.as_mut(), Ref::host(&b)));
    ok("multiply", poly.multiply(queue, buffer.as_mut(), on_device.as_ref()));
    let expected: Vec<C::ScalarExt> = a.iter().zip(&b).map(|(a, b)| *a * b * b).collect();
    same("multiply", &subject.download(&buffer), &expected);
    let terms = [(x, Ref::host(&a)), (-x, on_device.as_ref())];
    ok("combine", poly.linear_combination(queue, &terms, buffer.as_mut()));
    let expected: Vec<C::ScalarExt> = a.iter().zip(&b).map(|(a, b)| (*a - b) * x).collect();
    same("combine", &subject.download(&buffer), &expected);
    let mut out = [x; 2];
    let polys = [Ref::host(&a), on_device.as_ref()];
    ok("evaluate", poly.evaluate_batch(queue, &polys, &[(1, x), (0, x)], &mut out));
    same("evaluate", &out, &[horner(&b, x), horner(&a, x)]);
    let recurrence =
        Recurrence { first: x, factors: Some(on_device.as_ref()), summands: Some(Ref::host(&a)) };
    let last = ok("scan", poly.scan(queue, &recurrence, buffer.as_mut()));
    let mut expected = a.clone();
    let factors = Some(Ref::host(&b));
    let oracle = Recurrence { factors, ..recurrence };
    let oracle = ok("scan", Naive.scan(&Queue::host(), &oracle, RefMut::host(&mut expected)));
    same("scan", &subject.download(&buffer), &expected);
    assert_eq!(last, oracle, "the last value of a scan");
}

/// An operation on the operands of the subject, and on the same ones on the host.
type Pair<'a, F> = (&'static str, Run<'a, F>, Run<'a, F>);

/// Operands may be slices of buffers of the provider's space; what is around them stays.
pub fn works_on_slices<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(52);
    let len = subject.sizes.poly.min(1000);
    let Some(poly) = all(subject, len, 2) else { return };
    let (queue, x) = (&subject.queue, C::ScalarExt::from(3));
    let (a, b) = (random::<C::ScalarExt>(len, &mut rng), random::<C::ScalarExt>(len, &mut rng));
    let operand = subject.upload_within(&b);
    let terms = [(x, Ref::host(&a)), (-x, operand.as_ref())];
    let host = [(x, Ref::host(&a)), (-x, Ref::host(&b))];
    let recurrence = Recurrence { first: x, factors: Some(operand.as_ref()), summands: None };
    let known = Recurrence { factors: Some(Ref::host(&b)), ..recurrence };
    let cases: [Pair<'_, C::ScalarExt>; 6] = [
        (
            "divide",
            &|poly, queue, column| ok("divide", poly.divide_by_linear(queue, column, x)),
            &|poly, queue, column| ok("divide", poly.divide_by_linear(queue, column, x)),
        ),
        (
            "invert",
            &|poly, queue, column| ok("invert", poly.batch_invert(queue, column)),
            &|poly, queue, column| ok("invert", poly.batch_invert(queue, column)),
        ),
        (
            "product",
            &|poly, queue, column| {
                ok("product", poly.running_product(queue, column, x));
            },
            &|poly, queue, column| {
                ok("product", poly.running_product(queue, column, x));
            },
        ),
        (
            "multiply",
            &|poly, queue, column| ok("multiply", poly.multiply(queue, column, operand.as_ref())),
            &|poly, queue, column| ok("multiply", poly.multiply(queue, column, Ref::host(&b))),
        ),
        (
            "combine",
            &|poly, queue, column| ok("combine", poly.linear_combination(queue, &terms, column)),
            &|poly, queue, column| ok("combine", poly.linear_combination(queue, &host, column)),
        ),
        (
            "scan",
            &|poly, queue, column| {
                ok("scan", poly.scan(queue, &recurrence, column));
            },
            &|poly, queue, column| {
                ok("scan", poly.scan(queue, &known, column));
            },
        ),
    ];
    for (name, found, expected) in cases {
        let mut column = subject.upload_within(&a);
        column.with(|column| found(poly.as_ref(), queue, column));
        let mut oracle = a.clone();
        expected(&Naive, &Queue::host(), RefMut::host(&mut oracle));
        same(name, &subject.download_within(&column), &oracle);
    }
    let mut out = [x; 1];
    ok("evaluate", poly.evaluate_batch(queue, &[operand.as_ref()], &[(0, x)], &mut out));
    same("evaluate", &out, &[horner(&b, x)]);
}

/// Calls from several threads do not interfere.
pub fn works_from_many_threads<C: Curve>(subject: &Subject<C>) {
    let len = subject.sizes.poly / 2;
    let Some(poly) = all(subject, len, 1) else { return };
    std::thread::scope(|scope| {
        for thread in 0..subject.sizes.threads {
            let poly = &poly;
            scope.spawn(move || {
                let mut rng = rng(400 + thread as u64);
                for round in 0..6 {
                    let values: Vec<C::ScalarExt> = random(len - round, &mut rng);
                    let mut found = values.clone();
                    ok("invert", poly.batch_invert(&subject.queue, RefMut::host(&mut found)));
                    ok(
                        "multiply",
                        poly.multiply(&subject.queue, RefMut::host(&mut found), Ref::host(&values)),
                    );
                    same("a value by its inverse", &found, &vec![C::ScalarExt::ONE; len - round]);
                }
            });
        }
    });
}
