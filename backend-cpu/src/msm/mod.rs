//! Multi-scalar multiplication: Pippenger's bucket method with signed digits and affine buckets.
//!
//! A column goes through four steps. Its scalars are sorted into classes by magnitude ([`scalars`]); each class gets its own
//! windows. Per window, references to bases are sorted by digit. The sums of all buckets are computed by trees of affine additions
//! that share their inversions ([`buckets`]), and so are the weighted sums of the buckets ([`reduce`]). Last, what is left of all
//! windows is combined by doublings. Tasks are ranges of windows of a class of a column, so a batch fills the threads whatever its shape.

mod buckets;
mod reduce;
mod scalars;

use std::any::Any;
use std::sync::Arc;

use group::Group;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Prepared, Ref};
use parhelion_backend_api::msm::check_batch;
use parhelion_backend_api::{Bases, Error, Msm, MsmShape, Op, Queue, Reuse, ScalarKind, SpaceId, Support};
use rayon::prelude::*;

use crate::arch::Kernels;
use crate::arch::generic::ScalarPoints;
#[cfg(target_arch = "x86_64")]
use crate::arch::ifma::IfmaPoints;
use crate::arch::points::{NEGATE, Points};
use crate::memory::room;
use crate::{Isa, IsaError, NAME, parallel};
use buckets::sum_segments;
use reduce::Term;
use scalars::{CLASSES, Part, Windows, bits, classify};

/// Scalars per task of the classification.
const CHUNK: usize = 1 << 13;
/// Magnitude, digits and sorted references of a scalar.
const BYTES_PER_SCALAR: usize = 80;
/// Scalars up to which one thread does all.
const SERIAL: usize = 1 << 8;
/// Most items that a task aims at.
const TASK: usize = 1 << 17;
/// Fewest items that a task aims at: enough for its fixed costs to vanish.
const SMALL_TASK: usize = 1 << 12;

/// Multi-scalar multiplication on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuMsm {
    kernels: Kernels,
}

impl CpuMsm {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuMsm { kernels: Kernels::new(isa)? })
    }
}

/// Bases in the layout of one instruction set.
#[derive(Debug)]
struct CpuBases<P: Points> {
    points: Vec<P::Point>,
}

impl<P: Points> Prepared for CpuBases<P> {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Msm<G1Affine> for CpuMsm {
    fn supports(&self, shape: &MsmShape) -> Support {
        if shape.len < NEGATE as usize {
            Support::Yes
        } else {
            Support::No(format!("{} scalars exceed the limit of 2^31", shape.len))
        }
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        shape.len.max(wave()).min(shape.len.saturating_mul(shape.batch)) as u64 * BYTES_PER_SCALAR as u64
    }

    fn prepare(&self, _: &Queue, bases: &[G1Affine], _: Reuse) -> Result<Bases<G1Affine>, Error> {
        if bases.len() >= NEGATE as usize {
            return Err(Error::Unsupported {
                backend: NAME,
                op: Op::Msm,
                why: format!("{} bases exceed the limit of 2^31", bases.len()),
            });
        }
        match self.kernels {
            Kernels::Scalar => prepare(ScalarPoints, bases),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => prepare(IfmaPoints::new(token), bases),
        }
    }

    fn msm_batch(
        &self,
        _: &Queue,
        bases: &Bases<G1Affine>,
        scalars: &[Ref<'_, Fr>],
        _: ScalarKind,
        out: &mut [G1],
    ) -> Result<(), Error> {
        check_batch(bases.len(), scalars, out.len())?;
        let columns = scalars.iter().map(Ref::as_host).collect::<Result<Vec<_>, _>>()?;
        match self.kernels {
            Kernels::Scalar => msm_batch(ScalarPoints, bases, &columns, out),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => msm_batch(IfmaPoints::new(token), bases, &columns, out),
        }
    }
}

fn prepare<P: Points>(points: P, bases: &[G1Affine]) -> Result<Bases<G1Affine>, Error> {
    let mut converted = room(bases.len(), "bases")?;
    converted.par_extend(bases.par_iter().with_min_len(1024).map(|base| points.import(base)));
    Ok(Bases::new(Arc::new(CpuBases::<P> { points: converted }), bases.len()))
}

/// One class of one column, with its digits: window w of item i is `digits[w·len + i]`.
struct Class {
    column: usize,
    windows: Windows,
    index: Vec<u32>,
    digits: Vec<u16>,
}

fn msm_batch<P: Points>(
    points: P,
    bases: &Bases<G1Affine>,
    columns: &[&[Fr]],
    out: &mut [G1],
) -> Result<(), Error> {
    let bases = &bases.downcast::<CpuBases<P>>(SpaceId::HOST)?.points;
    let (mut columns, mut out) = (columns, out);
    while !columns.is_empty() {
        let mut total = 0;
        let fits = columns.iter().take_while(|column| {
            total += column.len();
            total <= wave()
        });
        let count = fits.count().max(1);
        let (now, later) = columns.split_at(count);
        let (now_out, later_out) = out.split_at_mut(count);
        // A part may fail to be allocated even so, but not for want of this much.
        let scalars = now.iter().map(|column| column.len()).sum::<usize>();
        drop(room::<u8>(scalars.saturating_mul(BYTES_PER_SCALAR), "msm workspace")?);
        msm_wave(points, bases, now, now_out);
        (columns, out) = (later, later_out);
    }
    Ok(())
}

/// Scalars that are worked on at a time: it bounds the memory, yet fills the threads.
fn wave() -> usize {
    (rayon::current_num_threads() << 16).max(1 << 19)
}

fn msm_wave<P: Points>(points: P, bases: &[P::Point], columns: &[&[Fr]], out: &mut [G1]) {
    let parallel = columns.iter().map(|column| column.len()).sum::<usize>() > SERIAL;
    let chunks: Vec<(usize, usize, &[Fr])> = columns
        .iter()
        .enumerate()
        .flat_map(|(c, column)| column.chunks(CHUNK).enumerate().map(move |(i, chunk)| (c, i * CHUNK, chunk)))
        .collect();
    let parts = parallel::map(parallel, &chunks, |(_, first, chunk)| classify(points, chunk, *first));
    // The parts of each class of each column.
    let mut cuts: Vec<(usize, Vec<Part>)> = Vec::new();
    for ((column, first, _), parts) in chunks.iter().zip(parts) {
        if *first == 0 {
            cuts.extend((0..CLASSES).map(|_| (*column, Vec::new())));
        }
        let last = cuts.len() - CLASSES;
        cuts[last..].iter_mut().zip(parts).for_each(|((_, class), part)| class.push(part));
    }
    cuts.retain(|(_, parts)| parts.iter().any(|part| !part.index.is_empty()));
    let classes = parallel::map(parallel, &cuts, |(column, parts)| cut::<P>(*column, parts));
    drop(cuts);
    // Ranges of windows of a class, of about equal loads.
    let load = |class: &Class| class.index.len() + 2 * class.windows.buckets();
    let total: usize = classes.iter().map(|class| load(class) * class.windows.count as usize).sum();
    let target = (total / (4 * rayon::current_num_threads())).clamp(SMALL_TASK, TASK);
    let tasks: Vec<(usize, std::ops::Range<usize>)> = classes
        .iter()
        .enumerate()
        .flat_map(|(c, class)| {
            let count = class.windows.count as usize;
            let step = (target / load(class)).clamp(1, count);
            (0..count).step_by(step).map(move |first| (c, first..(first + step).min(count)))
        })
        .collect();
    let terms = parallel::map(parallel, &tasks, |(c, windows)| {
        window_terms(points, bases, &classes[*c], windows.clone())
    });
    let mut per_column: Vec<Vec<Term<P>>> = columns.iter().map(|_| Vec::new()).collect();
    for ((class, _), terms) in tasks.iter().zip(terms) {
        per_column[classes[*class].column].extend(terms);
    }
    for (out, sum) in out.iter_mut().zip(parallel::map(parallel, &per_column, |terms| combine(points, terms)))
    {
        *out = sum;
    }
}

/// Σ 2^shift·point, by Horner's rule.
fn combine<P: Points>(points: P, terms: &[Term<P>]) -> G1 {
    let mut terms: Vec<&Term<P>> = terms.iter().collect();
    terms.sort_unstable_by_key(|term| std::cmp::Reverse(term.shift));
    let mut sum = G1::default();
    let mut at = terms.first().map_or(0, |term| term.shift);
    for term in terms {
        (term.shift..at).for_each(|_| sum = sum.double());
        at = term.shift;
        sum += points.export(&term.point);
    }
    (0..at).fold(sum, |sum, _| sum.double())
}

/// Chooses the windows of a class and computes its digits.
fn cut<P: Points>(column: usize, parts: &[Part]) -> Class {
    let len = parts.iter().map(|part| part.index.len()).sum();
    let all = parts.iter().fold([0u64; 4], |all, part| std::array::from_fn(|i| all[i] | part.all[i]));
    let windows = Windows::choose(len, bits(&all), P::LANES);
    let index = parts.iter().flat_map(|part| part.index.iter().copied()).collect();
    let mut digits = vec![0u16; len * windows.count as usize];
    // One slice per part and window.
    let mut rows: Vec<&mut [u16]> = digits.chunks_mut(len.max(1)).collect();
    let mut slices: Vec<Vec<&mut [u16]>> = Vec::with_capacity(parts.len());
    for part in parts {
        let mut mine = Vec::with_capacity(rows.len());
        for row in &mut rows {
            let (head, tail) = std::mem::take(row).split_at_mut(part.index.len());
            mine.push(head);
            *row = tail;
        }
        slices.push(mine);
    }
    let digits_of = |(slices, part): (&mut Vec<&mut [u16]>, &Part)| windows.digits(&part.magnitude, slices);
    if parts.len() > 1 {
        slices.par_iter_mut().zip(parts).for_each(digits_of);
    } else {
        slices.iter_mut().zip(parts).for_each(digits_of);
    }
    Class { column, windows, index, digits }
}

/// The terms of some windows of a class.
fn window_terms<P: Points>(
    points: P,
    bases: &[P::Point],
    class: &Class,
    range: std::ops::Range<usize>,
) -> Vec<Term<P>> {
    let buckets = class.windows.buckets();
    let len = class.index.len();
    // A digit's magnitude is at most the number of buckets, a power of two: that one takes the place of zero, which needs none.
    let mask = buckets - 1;
    let segments = buckets * range.len();
    // Counting sort: `ends` holds first the counts, then the running starts, which the scatter turns into ends.
    let mut ends = vec![0u32; segments];
    let windows =
        || range.clone().map(|w| (class.windows.bias(w), &class.digits[w * len..(w + 1) * len])).enumerate();
    for (w, (bias, digits)) in windows() {
        let counts = &mut ends[w * buckets..(w + 1) * buckets];
        for digit in digits {
            let magnitude = (i32::from(*digit) - bias).unsigned_abs() as usize;
            counts[magnitude & mask] += u32::from(magnitude != 0);
        }
    }
    let mut total = 0;
    for end in &mut ends {
        total += std::mem::replace(end, total);
    }
    let mut items = vec![0u32; total as usize];
    for (w, (bias, digits)) in windows() {
        let starts = &mut ends[w * buckets..(w + 1) * buckets];
        for (digit, index) in digits.iter().zip(&class.index) {
            let digit = i32::from(*digit) - bias;
            if digit != 0 {
                let at = &mut starts[digit.unsigned_abs() as usize & mask];
                items[*at as usize] = if digit < 0 { index ^ NEGATE } else { *index };
                *at += 1;
            }
        }
    }
    let mut sums = vec![P::IDENTITY; segments];
    sum_segments(points, bases, &items, &ends, &mut sums);
    reduce::terms(points, sums, buckets, range.map(|w| w as u32 * class.windows.width))
}
