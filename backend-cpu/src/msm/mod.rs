//! Multi-scalar multiplication: Pippenger's bucket method with signed digits and affine buckets.
//!
//! A column goes through four steps. Its scalars are sorted into classes by magnitude ([`scalars`]); each class gets its own
//! windows. Per window, references to bases are sorted by digit ([`sort`]); if multiples of the bases are there, several windows share
//! one set of buckets ([`table`]). The sums of all buckets are computed by trees of affine additions that share their inversions
//! ([`buckets`]), and so are the weighted sums of the buckets ([`reduce`]). Last, what is left of all sets is combined by doublings.
//! A batch fills the threads whatever its shape ([`plan`]).

mod buckets;
mod endomorphism;
mod plan;
mod reduce;
mod scalars;
mod sort;
mod table;

use std::sync::Arc;

use group::Group;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::Ref;
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
use plan::{Plan, Task};
use reduce::Term;
use scalars::{CLASSES, Count, Parts, Slot, Windows, bits, count, fill};
use sort::sort;
use table::{Budget, Levels, Table};

/// Scalars per task of the classification.
const CHUNK: usize = 1 << 13;
/// Index, digits and sorted references of a scalar.
const BYTES_PER_SCALAR: usize = 64;
/// Scalars up to which one thread does all.
const SERIAL: usize = 1 << 8;
/// Multi-scalar multiplication on the processor.
#[derive(Clone, Debug)]
pub struct CpuMsm {
    kernels: Kernels,
    budget: Arc<Budget>,
}

impl CpuMsm {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuMsm { kernels: Kernels::new(isa)?, budget: Arc::default() })
    }

    /// With `bytes` of memory for multiples of bases that are prepared to be used often. All such bases share it, the first first, and
    /// give their part back when they are dropped. None is used without this.
    #[must_use]
    pub fn with_precompute(self, bytes: u64) -> Self {
        CpuMsm { budget: Budget::new(bytes), ..self }
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

    fn prepare(&self, _: &Queue, bases: &[G1Affine], reuse: Reuse) -> Result<Bases<G1Affine>, Error> {
        if bases.len() >= NEGATE as usize {
            return Err(Error::Unsupported {
                backend: NAME,
                op: Op::MSM,
                why: format!("{} bases exceed the limit of 2^31", bases.len()),
            });
        }
        let (budget, often) = match reuse {
            Reuse::Once => (Arc::default(), false),
            Reuse::Often => (self.budget.clone(), true),
        };
        match self.kernels {
            Kernels::Scalar => prepare(ScalarPoints, bases, &budget, often),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => prepare(IfmaPoints::new(token), bases, &budget, often),
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

fn prepare<P: Points>(
    points: P,
    bases: &[G1Affine],
    budget: &Arc<Budget>,
    often: bool,
) -> Result<Bases<G1Affine>, Error> {
    Ok(Bases::new(Arc::new(Table::new(points, bases, budget, often)?), bases.len()))
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
    let bases = bases.downcast::<Table<P>>(SpaceId::HOST)?;
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

fn msm_wave<P: Points>(points: P, bases: &Table<P>, columns: &[&[Fr]], out: &mut [G1]) {
    let parallel = columns.iter().map(|column| column.len()).sum::<usize>() > SERIAL;
    let chunks: Vec<Chunk<'_>> = columns
        .iter()
        .enumerate()
        .flat_map(|(c, column)| column.chunks(CHUNK).enumerate().map(move |(i, chunk)| (c, i * CHUNK, chunk)))
        .collect();
    let parts = Parts { images: bases.levels().images.then_some(bases.len() as u32) };
    let counts = parallel::map(parallel, &chunks, |(_, _, chunk)| count(points, chunk, parts));
    let mut classes = allocate::<P>(columns.len(), &chunks, &counts, bases.levels());
    let mut jobs = jobs(&chunks, &counts, &mut classes);
    let job = |(first, chunk, slots): &mut Job<'_>| fill(points, chunk, *first, slots, parts);
    if parallel && jobs.len() > 1 {
        jobs.par_iter_mut().with_max_len(1).for_each(job);
    } else {
        jobs.iter_mut().for_each(job);
    }
    drop(jobs);
    classes.retain(|class| !class.index.is_empty());
    let shapes: Vec<_> = classes.iter().map(|class| (class.index.len(), class.windows)).collect();
    let plan = Plan::new(&shapes, if parallel { rayon::current_num_threads() } else { 1 });
    let terms = parallel::map(parallel, &plan.tasks, |task| {
        set_terms(points, bases, &classes[task.class], task, &plan)
    });
    let mut per_column: Vec<Vec<Term<P>>> = columns.iter().map(|_| Vec::new()).collect();
    for (task, terms) in plan.tasks.iter().zip(terms) {
        per_column[classes[task.class].column].extend(terms);
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

/// A chunk of a column: number of the column, index of its first scalar, its scalars.
type Chunk<'a> = (usize, usize, &'a [Fr]);

/// What one task fills: index of the first scalar, scalars, and a place for each class.
type Job<'a> = (usize, &'a [Fr], [Option<Slot<'a>>; CLASSES]);

/// The classes of all columns, [`CLASSES`] each, with their windows chosen and their memory taken.
fn allocate<P: Points>(
    columns: usize,
    chunks: &[Chunk<'_>],
    counts: &[[Count; CLASSES]],
    levels: Levels,
) -> Vec<Class> {
    let mut totals = vec![[Count::default(); CLASSES]; columns];
    for ((column, _, _), counts) in chunks.iter().zip(counts) {
        for (total, count) in totals[*column].iter_mut().zip(counts) {
            total.len += count.len;
            total.all.iter_mut().zip(&count.all).for_each(|(all, w)| *all |= w);
        }
    }
    let class = |column: usize, total: &Count| {
        let windows = Windows::choose(total.len, bits(&total.all), P::LANES, levels).0;
        let digits = vec![0; total.len * windows.count as usize];
        Class { column, windows, index: vec![0; total.len], digits }
    };
    totals.iter().enumerate().flat_map(|(c, total)| total.iter().map(move |t| class(c, t))).collect()
}

/// Divides the memory of the classes among the chunks.
fn jobs<'a>(chunks: &[Chunk<'a>], counts: &[[Count; CLASSES]], classes: &'a mut [Class]) -> Vec<Job<'a>> {
    // What is left of each class: its indices, and the rows of its digits.
    let mut left: Vec<Slot<'a>> = classes
        .iter_mut()
        .map(|class| Slot {
            windows: class.windows,
            digits: class.digits.chunks_mut(class.index.len().max(1)).collect(),
            index: &mut class.index,
        })
        .collect();
    let mut take = |class: usize, count: &Count| {
        if count.len == 0 {
            return None;
        }
        let slot = &mut left[class];
        let (index, rest) = std::mem::take(&mut slot.index).split_at_mut(count.len);
        slot.index = rest;
        let digits = slot.digits.iter_mut().map(|row| {
            let (head, rest) = std::mem::take(row).split_at_mut(count.len);
            *row = rest;
            head
        });
        Some(Slot { windows: slot.windows, index, digits: digits.collect() })
    };
    let job = |((column, first, chunk), counts): (&Chunk<'a>, &[Count; CLASSES])| {
        (*first, *chunk, std::array::from_fn(|class| take(column * CLASSES + class, &counts[class])))
    };
    chunks.iter().zip(counts).map(job).collect()
}

/// The terms of some sets of buckets of a class.
fn set_terms<P: Points>(
    points: P,
    bases: &Table<P>,
    class: &Class,
    Task { sets, .. }: &Task,
    plan: &Plan,
) -> Vec<Term<P>> {
    let (items, ends) = sort(class, sets.clone(), bases.level(), plan.pieces(class.index.len()));
    let mut sums = vec![P::IDENTITY; ends.len()];
    sum_segments(points, bases.points(), &items, &ends, &mut sums, plan.divide);
    drop((items, ends));
    let Windows { width, .. } = class.windows;
    reduce::terms(
        points,
        sums,
        class.windows.buckets(),
        sets.clone().map(|set| set as u32 * width),
        plan.divide,
    )
}
