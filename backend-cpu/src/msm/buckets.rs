//! Sums of segments: the one heavy loop of a multi-scalar multiplication.
//!
//! Items (signed references to points) sorted by bucket form segments; every segment is summed by a tree of affine additions whose
//! inversions are shared by all additions of a level. No two additions of a level touch the same point, so there are no
//! conflicts to schedule around, and a segment of any length (a column of ones is one single segment) has the same cost per item.

use crate::arch::points::{NEGATE, Pair, Points};

/// Items that are summed together: their points and the workspace stay in the second-level cache.
const GROUP: usize = 1 << 13;

/// Reusable memory of one thread.
pub(crate) struct Workspace<P: Points> {
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

/// A segment under summation: `len` points from `start` on, `stride` apart.
#[derive(Clone, Copy)]
struct Active {
    segment: u32,
    start: u32,
    len: u32,
}

/// `out[s] = Σ table[i]` over the items i of segment s, `items[ends[s − 1]..ends[s]]`.
///
/// # Panics
/// When an item or an end is out of bounds.
pub(crate) fn sum_segments<P: Points>(
    points: P,
    table: &[P::Point],
    items: &[u32],
    ends: &[u32],
    out: &mut [P::Point],
    workspace: &mut Workspace<P>,
) {
    assert_eq!(ends.len(), out.len(), "one end per segment");
    out.fill(P::IDENTITY);
    // Partial sums of segments that were cut.
    let mut partial: Vec<P::Point> = Vec::new();
    let mut owner: Vec<u32> = Vec::new();
    let mut group: Vec<(u32, u32, u32)> = Vec::new();
    let mut in_group = 0;
    let mut start = 0u32;
    for (segment, end) in ends.iter().enumerate() {
        let cut = (*end - start) as usize > GROUP;
        while start < *end {
            let take = ((*end - start) as usize).min(GROUP - in_group) as u32;
            // A segment is cut only if it cannot fit in any group.
            let take = if cut || take == *end - start { take } else { 0 };
            if take > 0 {
                group.push((segment as u32, start, start + take));
                in_group += take as usize;
                start += take;
            }
            if take == 0 || in_group == GROUP {
                sum_group(points, table, items, &group, workspace, |segment, sum| {
                    place::<P>(ends, segment, sum, out, &mut partial, &mut owner);
                });
                group.clear();
                in_group = 0;
            }
        }
    }
    sum_group(points, table, items, &group, workspace, |segment, sum| {
        place::<P>(ends, segment, sum, out, &mut partial, &mut owner);
    });
    if partial.is_empty() {
        return;
    }
    let mut order: Vec<u32> = (0..owner.len() as u32).collect();
    order.sort_by_key(|i| owner[*i as usize]);
    let mut segments: Vec<u32> = Vec::new();
    let mut ends: Vec<u32> = Vec::new();
    for (at, i) in order.iter().enumerate() {
        let segment = owner[*i as usize];
        if segments.last() != Some(&segment) {
            segments.push(segment);
            ends.push(0);
        }
        if let Some(end) = ends.last_mut() {
            *end = at as u32 + 1;
        }
    }
    let mut sums = vec![P::IDENTITY; segments.len()];
    sum_segments(points, &partial, &order, &ends, &mut sums, workspace);
    for (segment, sum) in segments.iter().zip(sums) {
        out[*segment as usize] = sum;
    }
}

/// Puts the sum of a whole segment where it belongs, and that of a part of a segment aside.
fn place<P: Points>(
    ends: &[u32],
    segment: u32,
    sum: P::Point,
    out: &mut [P::Point],
    partial: &mut Vec<P::Point>,
    owner: &mut Vec<u32>,
) {
    let start = if segment == 0 { 0 } else { ends[segment as usize - 1] };
    if (ends[segment as usize] - start) as usize > GROUP {
        partial.push(sum);
        owner.push(segment);
    } else {
        out[segment as usize] = sum;
    }
}

/// Sums the items of each (segment, start, end), at most [`GROUP`] in all.
fn sum_group<P: Points>(
    points: P,
    table: &[P::Point],
    items: &[u32],
    group: &[(u32, u32, u32)],
    workspace: &mut Workspace<P>,
    mut done: impl FnMut(u32, P::Point),
) {
    let Workspace { points: inner, pairs, scratch, active } = workspace;
    pairs.clear();
    active.clear();
    scratch.clear();
    let room: usize = group.iter().map(|(_, start, end)| ((end - start) as usize).div_ceil(2)).sum();
    scratch.resize(room, P::IDENTITY);
    let mut at = 0u32;
    for (segment, start, end) in group {
        let items = &items[*start as usize..*end as usize];
        let len = items.len().div_ceil(2) as u32;
        active.push(Active { segment: *segment, start: at, len });
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
    // SAFETY: operands are asserted to be in bounds of `table`; `to` counts up to `room`, the length of `scratch`, which is
    // distinct from `table`.
    unsafe { points.add_pairs(table.as_ptr(), scratch.as_mut_ptr(), pairs, inner) };
    let mut stride = 1u32;
    loop {
        pairs.clear();
        active.retain_mut(|a| {
            if a.len == 1 {
                done(a.segment, scratch[a.start as usize]);
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
