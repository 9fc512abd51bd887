//! Multi-scalar multiplication.

use std::sync::Arc;

use ff::{Field, PrimeField};
use group::Group;
use parhelion_backend_api::hal::{Queue, Ref, as_bytes};
use parhelion_backend_api::{Bases, Curve, Msm, MsmShape, Reuse, ScalarKind};

use super::{Alien, Expect, Subject, alien, lengths, ok, refs, refused};
use crate::Naive;
use crate::inputs::{bases, columns, known_points, normalise, random, rng};

/// The operation, its shape being supported.
fn op<C: Curve>(subject: &Subject<C>, len: usize, batch: usize) -> Option<Arc<dyn Msm<C>>> {
    let msm = subject.provider.msm::<C>()?;
    msm.supports(&MsmShape { len, batch, scalars: ScalarKind::Full }).is_yes().then_some(msm)
}

fn compute<C: Curve>(
    subject: &Subject<C>,
    msm: &dyn Msm<C>,
    bases: &[C],
    scalars: &[Vec<C::ScalarExt>],
    kind: ScalarKind,
) -> Vec<C::CurveExt> {
    // What is prepared for long use may hold more than the bases.
    let [once, often] = [Reuse::Once, Reuse::Often].map(|reuse| {
        let prepared = ok("prepare", msm.prepare(&subject.queue, bases, reuse));
        assert_eq!(prepared.len(), bases.len());
        assert_eq!(prepared.space(), subject.space(), "handles live in the provider's space");
        let mut out = vec![C::CurveExt::generator(); scalars.len()];
        ok("msm", msm.msm_batch(&subject.queue, &prepared, &refs(scalars), kind, &mut out));
        out
    });
    assert_eq!(once, often, "prepared for one use and for many");
    once
}

fn expected<C: Curve>(bases: &[C], scalars: &[Vec<C::ScalarExt>]) -> Vec<C::CurveExt> {
    let queue = Queue::host();
    let prepared: Bases<C> = ok("naive", Msm::<C>::prepare(&Naive, &queue, bases, Reuse::Once));
    let mut out = vec![C::CurveExt::identity(); scalars.len()];
    ok("naive", Naive.msm_batch(&queue, &prepared, &refs(scalars), ScalarKind::Full, &mut out));
    out
}

/// `Σ_j scalars[j] · known[j] · G`.
fn known<C: Curve>(scalars: &[C::ScalarExt], known: &[C::ScalarExt]) -> C::CurveExt {
    let sum: C::ScalarExt = scalars.iter().zip(known).map(|(s, k)| *s * k).sum();
    C::CurveExt::generator() * sum
}

/// Results are the sums of the definition, for lengths empty, single, powers of two and next to them.
pub fn matches_the_definition<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(1);
    for len in lengths(subject.sizes.msm_definition) {
        let Some(msm) = op(subject, len, 1) else { continue };
        let points = known_points::<C>(len, &mut rng).0;
        let scalars = [random(len, &mut rng)];
        let found = compute(subject, msm.as_ref(), &points, &scalars, ScalarKind::Full);
        assert_eq!(found, expected(&points, &scalars), "length {len}");
    }
}

/// Results are right for columns of known multiples of the generator, up to the largest length.
pub fn matches_known_multiples<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(2);
    let (points, multiples) = known_points::<C>(subject.sizes.msm_known, &mut rng);
    for len in lengths(subject.sizes.msm_known) {
        let Some(msm) = op(subject, len, 1) else { continue };
        for (name, column) in columns::<C::ScalarExt>(len, &mut rng) {
            let expected = known::<C>(&column, &multiples);
            let found = compute(subject, msm.as_ref(), &points[..len], &[column], ScalarKind::Full);
            assert_eq!(found, [expected], "{name}, length {len}");
        }
    }
}

/// Equal, opposite and identity bases, alone and mixed, with every adversarial column.
pub fn takes_any_bases<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(3);
    for len in [1, 2, 3, 8, subject.sizes.msm_definition] {
        let columns = columns::<C::ScalarExt>(len, &mut rng);
        let (names, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let Some(msm) = op(subject, len, columns.len()) else { continue };
        for (name, points) in bases::<C>(len, &mut rng) {
            let found = compute(subject, msm.as_ref(), &points, &columns, ScalarKind::Full);
            for ((found, expected), column) in found.iter().zip(expected(&points, &columns)).zip(&names) {
                assert_eq!(*found, expected, "bases: {name}; scalars: {column}; length {len}");
            }
        }
    }
}

/// Columns of one batch may have different lengths, zero included, and be shorter than the bases.
pub fn takes_unequal_columns<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(4);
    let len = subject.sizes.msm_known;
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let scalars: Vec<Vec<C::ScalarExt>> =
        [len, 0, 1, len / 2, 3, len - 1].iter().map(|n| random(*n, &mut rng)).collect();
    let Some(msm) = op(subject, len, scalars.len()) else { return };
    let found = compute(subject, msm.as_ref(), &points, &scalars, ScalarKind::Full);
    for (found, column) in found.iter().zip(&scalars) {
        assert_eq!(*found, known::<C>(column, &multiples), "a column of {}", column.len());
    }
}

/// An empty batch, empty columns and empty bases give nothing, and the identity.
pub fn takes_nothing<C: Curve>(subject: &Subject<C>) {
    let Some(msm) = op(subject, 0, 1) else { return };
    let points = known_points::<C>(4, &mut rng(5)).0;
    assert!(compute(subject, msm.as_ref(), &points, &[], ScalarKind::Full).is_empty());
    for points in [&points[..], &[]] {
        let found = compute(subject, msm.as_ref(), points, &[vec![], vec![]], ScalarKind::Full);
        assert_eq!(found, [C::CurveExt::identity(); 2]);
    }
}

/// A promise about magnitudes that the scalars keep does not change the result, at the edges of every width.
pub fn keeps_to_promises<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(6);
    let len = subject.sizes.msm_known;
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let two_to = |bits: u16| C::ScalarExt::from(2).pow_vartime([u64::from(bits)]);
    for bits in [1u16, 2, 3, 7, 8, 12, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 200, 252] {
        let below = |i: usize, rng: &mut rand_chacha::ChaCha20Rng| match i % 4 {
            0 => two_to(bits) - C::ScalarExt::ONE,
            1 => C::ScalarExt::ZERO,
            2 => two_to(bits - 1),
            _ => truncate(C::ScalarExt::random(rng), bits),
        };
        let unsigned: Vec<_> = (0..len).map(|i| below(i, &mut rng)).collect();
        let signed: Vec<_> =
            unsigned.iter().enumerate().map(|(i, s)| if i % 3 == 0 { -*s } else { *s }).collect();
        for (kind, column) in
            [(ScalarKind::Unsigned { bits }, unsigned), (ScalarKind::Signed { bits }, signed)]
        {
            let Some(msm) = subject.provider.msm::<C>() else { return };
            if !msm.supports(&MsmShape { len, batch: 2, scalars: kind }).is_yes() {
                continue;
            }
            let expected = known::<C>(&column, &multiples);
            let found = compute(subject, msm.as_ref(), &points, &[column, vec![]], kind);
            assert_eq!(found, [expected, C::CurveExt::identity()], "{kind:?}");
        }
    }
}

/// The value modulo 2^`bits`.
fn truncate<F: PrimeField>(value: F, bits: u16) -> F {
    let repr = value.to_repr();
    (0..bits as usize).rev().fold(F::ZERO, |sum, bit| {
        let set = repr.as_ref().get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        sum.double() + if set { F::ONE } else { F::ZERO }
    })
}

/// The columns of a batch do not influence each other: the batch equals its columns one by one.
pub fn batches_like_single_calls<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(7);
    let len = subject.sizes.msm_known / 2;
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let (_, columns): (Vec<_>, Vec<_>) = columns::<C::ScalarExt>(len, &mut rng).into_iter().unzip();
    let Some(msm) = op(subject, len, columns.len()) else { return };
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Often));
    let mut batch = vec![C::CurveExt::identity(); columns.len()];
    ok("msm", msm.msm_batch(&subject.queue, &prepared, &refs(&columns), ScalarKind::Full, &mut batch));
    for (column, batch) in columns.iter().zip(batch) {
        assert_eq!(batch, known::<C>(column, &multiples));
        let single = msm.msm(&subject.queue, &prepared, Ref::host(column), ScalarKind::Full);
        assert_eq!(ok("msm", single), batch);
    }
}

/// Handles prepared for one use and for many give the same points, call after call, while another handle is alive.
pub fn keeps_handles_alive<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(8);
    let len = subject.sizes.msm_known;
    let Some(msm) = op(subject, len, 1) else { return };
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let often = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Often));
    let other = ok("prepare", msm.prepare(&subject.queue, &points[1..], Reuse::Once));
    drop(points);
    for _ in 0..3 {
        let column: Vec<C::ScalarExt> = random(len, &mut rng);
        let found = msm.msm(&subject.queue, &often, Ref::host(&column), ScalarKind::Full);
        assert_eq!(ok("msm", found), known::<C>(&column, &multiples));
        let found = msm.msm(&subject.queue, &other.clone(), Ref::host(&column[1..]), ScalarKind::Full);
        assert_eq!(ok("msm", found), known::<C>(&column[1..], &multiples[1..]));
    }
}

/// Wrong lengths are `Length`, and the output stays as it was.
pub fn refuses_wrong_lengths<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(9);
    let Some(msm) = op(subject, 5, 2) else { return };
    let points = known_points::<C>(4, &mut rng).0;
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Once));
    let marker = C::CurveExt::generator().double();
    for (name, lengths, outs) in [
        ("a column longer than the bases", vec![4, 5], 2),
        ("an output too few", vec![4, 4], 1),
        ("an output too many", vec![4], 2),
        ("an output for nothing", vec![], 1),
    ] {
        let scalars: Vec<Vec<C::ScalarExt>> = lengths.iter().map(|n| random(*n, &mut rng)).collect();
        let mut out = vec![marker; outs];
        let result = msm.msm_batch(&subject.queue, &prepared, &refs(&scalars), ScalarKind::Full, &mut out);
        refused(name, result, Expect::Length);
        assert!(out.iter().all(|point| *point == marker), "{name}: the output was written");
    }
}

/// Handles and buffers of nobody are `WrongSpace`, and the output stays as it was.
pub fn refuses_foreign_operands<C: Curve>(subject: &Subject<C>) {
    let Some(msm) = op(subject, 4, 1) else { return };
    let points = known_points::<C>(4, &mut rng(10)).0;
    let scalars = [random(4, &mut rng(11))];
    let mut out = [C::CurveExt::generator()];
    let foreign = Bases::<C>::new(Arc::new(Alien(0)), 4);
    let result = msm.msm_batch(&subject.queue, &foreign, &refs(&scalars), ScalarKind::Full, &mut out);
    refused("foreign bases", result, Expect::WrongSpace);
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Once));
    let buffer = alien::<C::ScalarExt>(4);
    let result = msm.msm_batch(&subject.queue, &prepared, &[buffer.as_ref()], ScalarKind::Full, &mut out);
    refused("foreign scalars", result, Expect::WrongSpace);
    assert_eq!(out, [C::CurveExt::generator()]);
}

/// Scalars may be in buffers of the provider's space, mixed with host columns.
pub fn reads_resident_scalars<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(12);
    let len = subject.sizes.msm_known;
    let Some(msm) = op(subject, len, 3) else { return };
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let columns: Vec<Vec<C::ScalarExt>> = (0..3).map(|i| random(len - i, &mut rng)).collect();
    let buffers: Vec<_> = columns.iter().map(|column| subject.upload(column)).collect();
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Once));
    let mixed = [buffers[0].as_ref(), Ref::host(&columns[1]), buffers[2].as_ref()];
    let mut out = vec![C::CurveExt::identity(); 3];
    ok("msm", msm.msm_batch(&subject.queue, &prepared, &mixed, ScalarKind::Full, &mut out));
    for ((out, column), buffer) in out.iter().zip(&columns).zip(&buffers) {
        assert_eq!(*out, known::<C>(column, &multiples));
        super::same("the scalars after the call", &subject.download(buffer), column);
    }
}

/// Scalars may be slices of buffers of the provider's space.
pub fn reads_slices<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(15);
    let len = subject.sizes.msm_known.min(1000);
    let Some(msm) = op(subject, len, 2) else { return };
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let columns: Vec<Vec<C::ScalarExt>> = (0..2).map(|i| random(len - i, &mut rng)).collect();
    let within: Vec<_> = columns.iter().map(|column| subject.upload_within(column)).collect();
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Once));
    let slices: Vec<_> = within.iter().map(super::Within::as_ref).collect();
    let mut out = vec![C::CurveExt::identity(); 2];
    ok("msm", msm.msm_batch(&subject.queue, &prepared, &slices, ScalarKind::Full, &mut out));
    assert_eq!(out, columns.iter().map(|column| known::<C>(column, &multiples)).collect::<Vec<_>>());
}

/// The result is complete on return: operands may be overwritten at once, and asking again gives the same point, byte for byte.
pub fn completes_and_repeats<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(13);
    let len = subject.sizes.msm_known;
    let Some(msm) = op(subject, len, 1) else { return };
    let (points, multiples) = known_points::<C>(len, &mut rng);
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Often));
    let column: Vec<C::ScalarExt> = random(len, &mut rng);
    let mut first = None;
    for _ in 0..3 {
        let mut operand = column.clone();
        let found = ok("msm", msm.msm(&subject.queue, &prepared, Ref::host(&operand), ScalarKind::Full));
        operand.fill(C::ScalarExt::ZERO);
        assert_eq!(found, known::<C>(&column, &multiples));
        let bytes = as_bytes(&normalise::<C>(&[found])).to_vec();
        assert_eq!(*first.get_or_insert_with(|| bytes.clone()), bytes);
    }
}

/// Calls from several threads, each with its own columns over the same handle, do not interfere.
pub fn works_from_many_threads<C: Curve>(subject: &Subject<C>) {
    let len = subject.sizes.msm_known / 2;
    let Some(msm) = op(subject, len, 2) else { return };
    let (points, multiples) = known_points::<C>(len, &mut rng(14));
    let prepared = ok("prepare", msm.prepare(&subject.queue, &points, Reuse::Often));
    std::thread::scope(|scope| {
        for thread in 0..subject.sizes.threads {
            let (msm, prepared, multiples) = (&msm, &prepared, &multiples);
            scope.spawn(move || {
                let mut rng = rng(100 + thread as u64);
                for _ in 0..4 {
                    let columns = [random(len, &mut rng), random(len / 2, &mut rng)];
                    let mut out = vec![C::CurveExt::identity(); 2];
                    let operands = refs(&columns);
                    ok("msm", msm.msm_batch(&subject.queue, prepared, &operands, ScalarKind::Full, &mut out));
                    assert_eq!(out, columns.map(|column| known::<C>(&column, multiples)));
                }
            });
        }
    });
}
