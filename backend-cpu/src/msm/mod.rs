//! Multi-scalar multiplication: Pippenger's bucket method with signed digits and affine buckets.
//!
//! A column goes through four steps. Its scalars are sorted into classes by magnitude ([`scalars`]); each class gets its own
//! windows. Per window, references to bases are sorted by digit. The sums of all buckets are computed by trees of affine additions
//! that share their inversions ([`buckets`]), and so are the weighted sums of the buckets ([`reduce`]). Last, the windows are
//! combined by doublings. Tasks are ranges of windows of a class of a column, so a batch fills the threads whatever its shape.

mod buckets;
mod reduce;
mod scalars;

use std::any::Any;
use std::sync::Arc;

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
use crate::{Isa, IsaError, NAME};
use buckets::{Workspace, sum_segments};
use scalars::{CLASSES, Part, Windows, bits, classify};

/// Scalars per task of the classification.
const CHUNK: usize = 1 << 13;
/// Items that a task aims at: enough for its fixed costs to vanish, few enough to balance.
const TASK: usize = 1 << 16;

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
        // Magnitude, digits and sorted references of every scalar.
        shape.len as u64 * shape.batch as u64 * 80
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
    let mut converted = Vec::new();
    let bytes = bases.len() * size_of::<P::Point>();
    converted.try_reserve_exact(bases.len()).map_err(|_| Error::OutOfMemory {
        backend: NAME,
        what: "bases",
        requested: bytes as u64,
        free: None,
    })?;
    converted.par_extend(bases.par_iter().with_min_len(1024).map(|base| points.from_affine(base)));
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
    let bases = bases.downcast::<CpuBases<P>>(SpaceId::HOST)?;
    let parts: Vec<Vec<[Part; CLASSES]>> = columns
        .par_iter()
        .map(|column| {
            column
                .par_chunks(CHUNK)
                .enumerate()
                .map(|(i, chunk)| classify(points, chunk, i * CHUNK))
                .collect()
        })
        .collect();
    let classes: Vec<Class> = parts
        .into_par_iter()
        .enumerate()
        .flat_map(|(column, mut parts)| {
            let mut classes: [Vec<Part>; CLASSES] = Default::default();
            for part in &mut parts {
                for (class, part) in classes.iter_mut().zip(part) {
                    class.push(std::mem::take(part));
                }
            }
            classes
                .into_par_iter()
                .filter(|parts| parts.iter().any(|part| !part.index.is_empty()))
                .map(move |parts| cut::<P>(column, &parts))
        })
        .collect();
    let tasks: Vec<(usize, std::ops::Range<usize>)> = classes
        .iter()
        .enumerate()
        .flat_map(|(c, class)| {
            let count = class.windows.count as usize;
            let load = class.index.len() + 2 * class.windows.buckets();
            let step = (TASK / load).clamp(1, count);
            (0..count).step_by(step).map(move |first| (c, first..(first + step).min(count)))
        })
        .collect();
    let sums: Vec<Vec<G1>> = tasks
        .par_iter()
        .with_max_len(1)
        .map_init(Workspace::default, |workspace, (c, windows)| {
            window_sums(points, &bases.points, &classes[*c], windows.clone(), workspace)
        })
        .collect();
    let mut per_class: Vec<Vec<G1>> = vec![Vec::new(); classes.len()];
    for ((class, _), sums) in tasks.iter().zip(sums) {
        per_class[*class].extend(sums);
    }
    let totals: Vec<G1> = per_class
        .par_iter()
        .zip(&classes)
        .map(|(sums, class)| {
            sums.iter().rev().fold(G1::default(), |acc, sum| {
                (0..class.windows.width).fold(acc, |acc, _| reduce::double(acc)) + sum
            })
        })
        .collect();
    out.fill(G1::default());
    for (class, total) in classes.iter().zip(totals) {
        out[class.column] += total;
    }
    Ok(())
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
    slices
        .par_iter_mut()
        .zip(parts)
        .for_each(|(slices, part)| windows.digits(&part.magnitude, slices));
    Class { column, windows, index, digits }
}

/// The sums of some windows of a class.
fn window_sums<P: Points>(
    points: P,
    bases: &[P::Point],
    class: &Class,
    range: std::ops::Range<usize>,
    workspace: &mut Workspace<P>,
) -> Vec<G1> {
    let buckets = class.windows.buckets();
    let len = class.index.len();
    let segments = buckets * range.len();
    // Counting sort: `ends` holds first the counts, then the running starts, which the scatter turns into ends.
    let mut ends = vec![0u32; segments];
    let windows = || {
        range.clone().map(|w| (class.windows.bias(w), &class.digits[w * len..(w + 1) * len])).enumerate()
    };
    for (w, (bias, digits)) in windows() {
        let counts = &mut ends[w * buckets..(w + 1) * buckets];
        for digit in digits {
            let magnitude = (i32::from(*digit) - bias).unsigned_abs() as usize;
            if magnitude > 0 {
                counts[magnitude - 1] += 1;
            }
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
            let magnitude = digit.unsigned_abs() as usize;
            if magnitude > 0 {
                let at = &mut starts[magnitude - 1];
                items[*at as usize] = if digit < 0 { index ^ NEGATE } else { *index };
                *at += 1;
            }
        }
    }
    let mut sums = vec![P::IDENTITY; segments];
    sum_segments(points, bases, &items, &ends, &mut sums, workspace);
    reduce::weighted_sums(points, sums, buckets, workspace)
}
