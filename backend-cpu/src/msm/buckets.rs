//! Sums of segments: the one heavy loop of a multi-scalar multiplication.
//!
//! Items (signed references to points) sorted by bucket form segments; every segment is summed by a tree of affine additions whose
//! inversions are shared by all additions of a level. No two additions of a level touch the same point, so there are no
//! conflicts to schedule around, and a segment of any length (a column of ones is one single segment) has the same cost per item.

use rayon::prelude::*;

use crate::arch::points::{NEGATE, Pair, Points};

/// Reusable memory of one thread.
struct Workspace<P: Points> {
    points: P::Workspace,
    pairs: Vec<Pair>,
    scratch: Vec<P::Point>,
    active: Vec<Active>,
}

impl<P: Points> Default for Workspace<P> {
    fn default() -> Self {
        Workspace { points: Default::default(), pairs: Vec::new(), scratch: Vec::new(), active: Vec::new() }
    }
}

/// A segment under summation: `len` points from `start` on, one stride apart.
#[derive(Clone, Copy)]
struct Active {
    segment: u32,
    start: u32,
    len: u32,
}

/// What is summed together: whole segments that follow each other, or a piece of one.
struct Group<'a, T> {
    /// Where items of the first segment start, and where those of each segment end.
    start: u32,
    ends: &'a [u32],
    out: &'a mut [T],
}

/// `out[s] = Σ table[i]` over the items i of segment s, `items[ends[s − 1]..ends[s]]`; on all threads if `parallel`.
///
/// # Panics
/// When an item or an end is out of bounds.
pub(crate) fn sum_segments<P: Points>(
    points: P,
    table: &[P::Point],
    items: &[u32],
    ends: &[u32],
    out: &mut [P::Point],
    parallel: bool,
) {
    assert_eq!(ends.len(), out.len(), "one end per segment");
    let start_of = |segment: usize| if segment == 0 { 0 } else { ends[segment - 1] };
    let long = |segment: usize| (ends[segment] - start_of(segment)) as usize > P::GROUP;
    // Segments too long for one group are cut; the sums of their pieces are summed in turn.
    let mut cuts: Vec<(usize, Vec<u32>)> = Vec::new();
    for segment in (0..ends.len()).filter(|s| long(*s)) {
        let pieces = (start_of(segment)..ends[segment]).step_by(P::GROUP).skip(1).chain([ends[segment]]);
        cuts.push((segment, pieces.collect()));
    }
    let mut partial = vec![P::IDENTITY; cuts.iter().map(|(_, pieces)| pieces.len()).sum()];
    let mut groups: Vec<Group<'_, P::Point>> = Vec::new();
    let mut rest = &mut partial[..];
    for (segment, pieces) in &cuts {
        let mut start = start_of(*segment);
        for end in pieces {
            let (out, tail) = std::mem::take(&mut rest).split_at_mut(1);
            rest = tail;
            groups.push(Group { start, ends: std::slice::from_ref(end), out });
            start = *end;
        }
    }
    let mut rest = &mut *out;
    let mut first = 0;
    while first < ends.len() {
        let start = start_of(first);
        let mut last = first;
        while last < ends.len() && (ends[last] - start) as usize <= P::GROUP {
            last += 1;
        }
        // A long segment stands alone; its sum comes from its pieces.
        let count = (last - first).max(1);
        let (out, tail) = std::mem::take(&mut rest).split_at_mut(count);
        rest = tail;
        if last > first && ends[last - 1] > start {
            groups.push(Group { start, ends: &ends[first..last], out });
        } else {
            out.fill(P::IDENTITY);
        }
        first += count;
    }
    if !parallel || groups.len() <= 2 {
        let mut workspace = Workspace::default();
        groups.iter_mut().for_each(|group| sum_group(points, table, items, group, &mut workspace));
    } else {
        groups.par_iter_mut().with_max_len(8).for_each_init(Workspace::default, |workspace, group| {
            sum_group(points, table, items, group, workspace);
        });
    }
    drop(groups);
    if cuts.is_empty() {
        return;
    }
    let items: Vec<u32> = (0..partial.len() as u32).collect();
    let mut end = 0;
    let ends: Vec<u32> = cuts
        .iter()
        .map(|(_, pieces)| {
            end += pieces.len() as u32;
            end
        })
        .collect();
    let mut sums = vec![P::IDENTITY; cuts.len()];
    sum_segments(points, &partial, &items, &ends, &mut sums, parallel);
    for ((segment, _), sum) in cuts.iter().zip(sums) {
        out[*segment] = sum;
    }
}

/// Sums the segments of one group.
fn sum_group<P: Points>(
    points: P,
    table: &[P::Point],
    items: &[u32],
    group: &mut Group<'_, P::Point>,
    workspace: &mut Workspace<P>,
) {
    let Workspace { points: inner, pairs, scratch, active } = workspace;
    pairs.clear();
    active.clear();
    let mut start = group.start as usize;
    let mut at = 0u32;
    // At most one half place per segment more than half of the items.
    let total = group.ends.last().map_or(0, |end| *end as usize - start);
    let places = (total + group.ends.len()).div_ceil(2);
    if scratch.len() < places {
        scratch.resize(places, P::IDENTITY);
    }
    for (segment, end) in group.ends.iter().enumerate() {
        let items = &items[start..*end as usize];
        start = *end as usize;
        if items.is_empty() {
            group.out[segment] = P::IDENTITY;
            continue;
        }
        active.push(Active { segment: segment as u32, start: at, len: items.len().div_ceil(2) as u32 });
        let (twos, one) = items.as_chunks::<2>();
        for [a, b] in twos {
            assert!(((a & !NEGATE).max(b & !NEGATE) as usize) < table.len(), "item out of bounds");
            pairs.push(Pair { a: *a, b: *b, to: at });
            at += 1;
        }
        if let [item] = one {
            let point = &table[(item & !NEGATE) as usize];
            scratch[at as usize] = if item & NEGATE == 0 { *point } else { P::negate(point) };
            at += 1;
        }
    }
    assert!(at as usize <= scratch.len(), "a place for every pair");
    // SAFETY: operands are asserted to be in bounds of `table`; `to` counts places, which are asserted to be in bounds of `scratch`,
    // which is distinct from `table`.
    unsafe { points.add_pairs(table.as_ptr(), scratch.as_mut_ptr(), pairs, inner) };
    let mut stride = 1u32;
    loop {
        pairs.clear();
        active.retain_mut(|a| {
            if a.len == 1 {
                group.out[a.segment as usize] = scratch[a.start as usize];
                return false;
            }
            for i in 0..a.len / 2 {
                let left = a.start + 2 * i * stride;
                pairs.push(Pair { a: left, b: left + stride, to: left });
            }
            a.len = a.len.div_ceil(2);
            true
        });
        if pairs.is_empty() {
            break;
        }
        let base = scratch.as_mut_ptr();
        // SAFETY: every segment occupies its own `len · stride` places of `scratch`, so operands are in bounds and no pair writes
        // what another one reads.
        unsafe { points.add_pairs(base, base, pairs, inner) };
        stride *= 2;
    }
}
