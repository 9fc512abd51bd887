//! References to bases, sorted by bucket: a counting sort, in pieces if there are threads to spare.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::Class;
use crate::arch::points::NEGATE;

/// Items sorted by segment, and where each segment ends. Segment (s, b) is bucket b of the s-th of `sets`.
///
/// A digit's magnitude is at most the number of buckets, a power of two: that one takes the place of zero, which needs none. `level`
/// is the number of points of a level.
pub(crate) fn sort(class: &Class, sets: Range<usize>, level: usize, pieces: usize) -> (Vec<u32>, Vec<u32>) {
    let len = class.index.len();
    let buckets = class.windows.buckets();
    let mask = buckets - 1;
    let segments = buckets * sets.len();
    // Position of the set, first point of the level and number of every window.
    let windows: Vec<(usize, usize, usize)> = sets
        .clone()
        .enumerate()
        .flat_map(|(at, set)| {
            let every = (set..class.windows.count as usize).step_by(class.windows.sets as usize);
            every.enumerate().map(move |(above, window)| (at, above * level, window))
        })
        .collect();
    let piece = len.div_ceil(pieces.max(1)).max(1);
    let digits = |window: usize, piece: &Range<usize>| &class.digits[window * len..][piece.clone()];
    let ranges: Vec<Range<usize>> =
        (0..len).step_by(piece).map(|first| first..(first + piece).min(len)).collect();
    // First the counts of every piece, then its running starts, which the scatter turns into ends.
    let mut starts: Vec<Vec<u32>> = vec![Vec::new(); ranges.len().max(1)];
    let count = |(starts, range): (&mut Vec<u32>, &Range<usize>)| {
        *starts = vec![0u32; segments];
        for (at, _, window) in &windows {
            let counts = &mut starts[at * buckets..(at + 1) * buckets];
            let bias = class.windows.bias(*window);
            for digit in digits(*window, range) {
                let magnitude = (i32::from(*digit) - bias).unsigned_abs() as usize;
                counts[magnitude & mask] += u32::from(magnitude != 0);
            }
        }
    };
    if let [range] = &ranges[..] {
        count((&mut starts[0], range));
    } else {
        starts.par_iter_mut().zip(&ranges).with_max_len(1).for_each(count);
    }
    let mut total = 0;
    if let [ends] = &mut starts[..] {
        ends.resize(segments, 0);
        for end in ends {
            total += std::mem::replace(end, total);
        }
    } else {
        for segment in 0..segments {
            for starts in &mut starts {
                total += std::mem::replace(&mut starts[segment], total);
            }
        }
    }
    let mut items = vec![0u32; total as usize];
    // Pieces write to places of their own; relaxed stores say so to the compiler at no cost.
    let places = atomics(&mut items);
    let scatter = |(starts, range): (&mut Vec<u32>, &Range<usize>)| {
        for (at, base, window) in &windows {
            let starts = &mut starts[at * buckets..(at + 1) * buckets];
            let bias = class.windows.bias(*window);
            for (digit, index) in digits(*window, range).iter().zip(&class.index[range.clone()]) {
                let digit = i32::from(*digit) - bias;
                if digit != 0 {
                    let at = &mut starts[digit.unsigned_abs() as usize & mask];
                    let index = index + *base as u32;
                    places[*at as usize]
                        .store(if digit < 0 { index ^ NEGATE } else { index }, Ordering::Relaxed);
                    *at += 1;
                }
            }
        }
    };
    if let [range] = &ranges[..] {
        scatter((&mut starts[0], range));
    } else {
        starts.par_iter_mut().zip(&ranges).with_max_len(1).for_each(scatter);
    }
    // The last piece ends where the segment does.
    (items, starts.pop().unwrap_or_default())
}

/// The same places, writable by several threads.
fn atomics(values: &mut [u32]) -> &[AtomicU32] {
    let (start, len) = (values.as_mut_ptr().cast::<AtomicU32>(), values.len());
    // SAFETY: the two types have the same size, alignment and validity, and the exclusive borrow lasts as long as the result.
    unsafe { std::slice::from_raw_parts(start, len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msm::scalars::Windows;

    #[test]
    fn pieces_do_not_change_the_order() {
        for (sets, levels) in [(5, 1), (3, 2), (2, 3), (1, 5)] {
            let windows = Windows { width: 4, count: 5, signed: true, sets };
            for len in [0usize, 1, 37, 500] {
                let class = Class {
                    column: 0,
                    windows,
                    index: (0..len as u32).map(|i| if i % 3 == 0 { i | NEGATE } else { i }).collect(),
                    digits: (0..len * 5).map(|i| (i * i % 15) as u16).collect(),
                };
                let all = 0..sets as usize;
                let (items, ends) = sort(&class, all.clone(), 1000, 1);
                assert_eq!(ends.len(), 8 * sets as usize);
                assert!(items.iter().all(|item| (item & !NEGATE) as usize <= (levels - 1) * 1000 + len));
                // Every digit but the zeros is one item, in its segment.
                let mut expected = vec![Vec::new(); ends.len()];
                for window in 0..5usize {
                    for i in 0..len {
                        let digit = i32::from(class.digits[window * len + i]) - windows.bias(window);
                        if digit != 0 {
                            let item = class.index[i] + (window / sets as usize * 1000) as u32;
                            expected[window % sets as usize * 8 + digit.unsigned_abs() as usize % 8]
                                .push(if digit < 0 { item ^ NEGATE } else { item });
                        }
                    }
                }
                let mut start = 0;
                for (segment, (end, expected)) in ends.iter().zip(&expected).enumerate() {
                    assert_eq!(&items[start as usize..*end as usize], expected, "segment {segment}");
                    start = *end;
                }
                for pieces in [2, 3, 7, 64] {
                    let (mut again, again_ends) = sort(&class, all.clone(), 1000, pieces);
                    assert_eq!(again_ends, ends);
                    let mut items = items.clone();
                    // Within a segment pieces come before levels.
                    let mut start = 0;
                    for end in &ends {
                        items[start as usize..*end as usize].sort_unstable();
                        again[start as usize..*end as usize].sort_unstable();
                        start = *end;
                    }
                    assert_eq!(again, items, "{pieces} pieces");
                }
            }
        }
    }
}
