//! Bases as they are kept: in the layout of one instruction set, and optionally with multiples of theirs.
//!
//! Level j of a table holds 2^(stride·j)·P_i for every base P_i. With windows of c bits, where S·c = stride, window w of a scalar is
//! window w mod S with the bases of level ⌊w/S⌋. So S sets of buckets serve all W windows: there are fewer buckets to sum up, which
//! moves the best width up and the number of windows down. What that saves, for ⌈W/S⌉ times the
//! memory, is in `docs/roofline.md`; it is done only where a budget allows it.
//!
//! The first thing that memory is spent on are the images of the bases under the endomorphism ([`super::endomorphism`]): they cost one
//! product each instead of a hundred doublings, and halve the number of windows as a level does. Each level then has images of its own.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::Prepared;
use parhelion_backend_api::{Error, SpaceId};
use rayon::prelude::*;

use super::endomorphism::{HALF_BITS, image};
use super::scalars::Windows;
use crate::arch::points::{NEGATE, Pair, Points};
use crate::ffi::prefer_huge_pages;
use crate::memory::room;

/// Points whose multiples are computed together.
const CHUNK: usize = 1 << 11;

/// Numbers of bases whose images need no budget. Beyond, vectors gain nothing from images (`docs/roofline.md`); below, calls gain some hundredths
/// of a millisecond, and what the images of both forms of a reference string take is felt in a proof of that size: 4 % of its peak at 2^12.
const FREE_IMAGES: RangeInclusive<usize> = 1 << 13..=1 << 15;

/// Which multiples a table holds: 2^(stride·j) times each base for j < count, and perhaps λ times those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Bits from one level to the next.
    pub(crate) stride: u32,
    /// Number of levels, 1 or more.
    pub(crate) count: u32,
    /// Whether a level's points are followed by their images.
    pub(crate) images: bool,
}

impl Levels {
    /// The bases alone.
    pub(crate) const PLAIN: Levels = Levels { stride: 256, count: 1, images: false };

    /// Rows of points, each as long as the bases.
    fn rows(self) -> u32 {
        self.count * self.halves() as u32
    }

    /// Into how many parts a full scalar falls.
    pub(crate) fn halves(self) -> usize {
        if self.images { 2 } else { 1 }
    }

    /// Bits of the magnitudes of these parts.
    pub(crate) fn part_bits(self) -> u32 {
        if self.images { HALF_BITS } else { Windows::FULL }
    }

    /// How many sets of buckets `windows` windows of `width` bits need.
    pub(crate) fn sets(self, width: u32, windows: u32) -> u32 {
        if self.count == 1 || !self.stride.is_multiple_of(width) {
            return windows;
        }
        let sets = self.stride / width;
        if windows > sets * self.count { windows } else { sets.min(windows) }
    }

    /// The levels that make columns of `len` full scalars cheapest, given room for `spare` points beside the bases; more than
    /// one only if `more`. A row of points must be worth its memory: what saves less than one part in fifty is not done.
    fn choose(len: usize, lanes: usize, spare: u64, more: bool) -> Self {
        if len == 0 {
            return Levels::PLAIN;
        }
        let each = len as u64;
        let most = (spare / each + 1).min((u64::from(NEGATE) - 1) / each);
        let (_, plain) = Windows::choose(len, Windows::FULL, lanes, Levels::PLAIN);
        let mut best = (plain * 0.98, Levels::PLAIN);
        for images in [true, false] {
            let one = Levels { images, ..Levels::PLAIN };
            for width in Windows::NARROWEST..=Windows::WIDEST {
                let windows = (one.part_bits() + 1).div_ceil(width);
                for sets in 1..=windows {
                    let levels = Levels { stride: sets * width, count: windows.div_ceil(sets), images };
                    let fits = u64::from(levels.rows()) <= most && (more || levels.count == 1);
                    if fits && levels.rows() > 1 {
                        let cost = Windows::cost(len * levels.halves(), width, windows, lanes, levels);
                        // The larger the table, the slower the gathering; and doublings must be earned.
                        let doublings = if images && levels.count == 1 { 1.0 } else { 1.02 };
                        let cost = cost * (doublings + 0.002 * f64::from(levels.rows()));
                        if cost < best.0 {
                            best = (cost, levels);
                        }
                    }
                }
            }
        }
        best.1
    }
}

/// Memory for multiples of all bases of one device.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    total: u64,
    used: AtomicU64,
}

impl Budget {
    /// Of `total` bytes.
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Budget { total, used: AtomicU64::new(0) })
    }

    fn left(&self) -> u64 {
        self.total.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// `bytes` of what is left, until the share is dropped.
    fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.total);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Share { budget: self.clone(), bytes })
    }
}

/// A part of a budget.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bases, level after level.
#[derive(Debug)]
pub(crate) struct Table<P: Points> {
    points: Vec<P::Point>,
    /// Number of bases.
    len: usize,
    levels: Levels,
    _share: Share,
}

impl<P: Points> Prepared for Table<P> {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<P: Points> Table<P> {
    /// `bases` with as many multiples as pay and fit into `budget`; of few bases that are used often (`free_images`), at least the
    /// images.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn new(
        points: P,
        bases: &[G1Affine],
        budget: &Arc<Budget>,
        free_images: bool,
    ) -> Result<Self, Error> {
        let len = bases.len();
        let (levels, share) = loop {
            let spare = budget.left() / size_of::<P::Point>() as u64;
            let mut levels = Levels::choose(len, P::LANES, spare, true);
            let mut beside = (u64::from(levels.rows()) - 1) * (len * size_of::<P::Point>()) as u64;
            if free_images && levels == Levels::PLAIN && FREE_IMAGES.contains(&len) {
                (levels, beside) = (Levels::choose(len, P::LANES, len as u64, false), 0);
            }
            // Another table may have taken it in the meantime.
            if let Some(share) = budget.take(beside) {
                break (levels, share);
            }
        };
        let total = len.saturating_mul(levels.rows() as usize);
        let mut table = room(total, "bases")?;
        prefer_huge_pages(&mut table);
        table.par_extend(bases.par_iter().with_min_len(1024).map(|base| points.import(base)));
        if levels.images {
            table.par_extend(bases.par_iter().with_min_len(1024).map(|base| points.import(&image(base))));
        }
        if levels.count > 1 {
            let level = table.len();
            table.resize(total, P::IDENTITY);
            multiply(points, &mut table, level, levels);
        }
        Ok(Table { points: table, len, levels, _share: share })
    }

    /// The points: base i of level j at j·[`Table::level`] + i, its image [`Table::len`] places on.
    pub(crate) fn points(&self) -> &[P::Point] {
        &self.points
    }

    /// Number of bases.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Points of a level.
    pub(crate) fn level(&self) -> usize {
        self.len * self.levels.halves()
    }

    /// Which multiples there are.
    pub(crate) fn levels(&self) -> Levels {
        self.levels
    }
}

/// Fills in the levels of `len` points above the first one.
fn multiply<P: Points>(points: P, table: &mut [P::Point], len: usize, levels: Levels) {
    let mut rows: Vec<_> = table.chunks_mut(len).map(|level| level.chunks_mut(CHUNK)).collect();
    let chunks: Vec<Vec<&mut [P::Point]>> =
        (0..len.div_ceil(CHUNK)).map(|_| rows.iter_mut().filter_map(Iterator::next).collect()).collect();
    chunks.into_par_iter().with_max_len(1).for_each(|rows| {
        let mut rows = rows.into_iter();
        let Some(bases) = rows.next() else { return };
        let mut now = bases.to_vec();
        let pairs: Vec<Pair> = (0..now.len() as u32).map(|i| Pair { a: i, b: i, to: i }).collect();
        let mut workspace = P::Workspace::default();
        for row in rows {
            for _ in 0..levels.stride {
                let base = now.as_mut_ptr();
                // SAFETY: operands and destinations count the points of `now`; each belongs to one pair.
                unsafe { points.add_pairs(base, base, &pairs, &mut workspace) };
            }
            row.copy_from_slice(&now);
        }
    });
}
