//! From buckets to a sum: Σ_b b·B_b for many bucket arrays at once.
//!
//! The usual running sum is one long chain of dependent additions. Here an array of m buckets is seen as a matrix: with
//! i = 2^h·row + column, Σ i·B_i = 2^h·Σ row·R_row + Σ column·C_column, where R and C are the sums of its rows and columns: two
//! independent affine additions per bucket, which share their inversions with those of all other arrays, and two arrays of about
//! √m entries left, treated alike.

use ff::Field;
use halo2curves::bn256::G1;

use super::buckets::{Workspace, sum_segments};
use crate::arch::points::Points;

/// Arrays of at most this length are summed one point after the other.
const LEAF: usize = 4;

/// An array whose weighted sum is wanted: 2^`shift` · Σ i·A_i, and Σ A_i too if `total`.
#[derive(Clone, Copy)]
struct Array {
    set: usize,
    shift: u32,
    total: bool,
    start: usize,
    len: usize,
}

/// `Σ_b (b + 1)·buckets[s·len + b]` for every set s of `len` buckets.
pub(crate) fn weighted_sums<P: Points>(
    points: P,
    mut table: Vec<P::Point>,
    len: usize,
    workspace: &mut Workspace<P>,
) -> Vec<G1> {
    let sets = table.len() / len;
    let mut arrays: Vec<Array> =
        (0..sets).map(|set| Array { set, shift: 0, total: true, start: set * len, len }).collect();
    let mut leaves: Vec<(u32, usize, G1)> = Vec::new();
    let mut totals = vec![G1::default(); sets];
    while !arrays.is_empty() {
        let mut next = Vec::new();
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        let live = |i: usize| !P::is_identity(&table[i]);
        for a in arrays {
            if a.len <= LEAF {
                let (total, weighted) = leaf(points, &table[a.start..a.start + a.len]);
                leaves.push((a.shift, a.set, weighted));
                if a.total {
                    totals[a.set] += total;
                }
                continue;
            }
            let h = a.len.ilog2().div_ceil(2);
            let columns = 1usize << h;
            let rows = a.len.div_ceil(columns);
            next.push(Array { shift: a.shift + h, start: ends.len(), len: rows, ..a });
            for row in 0..rows {
                let from = a.start + row * columns;
                let to = (from + columns).min(a.start + a.len);
                items.extend((from..to).filter(|i| live(*i)).map(|i| i as u32));
                ends.push(items.len() as u32);
            }
            next.push(Array { total: false, start: ends.len(), len: columns, ..a });
            for column in 0..columns {
                let from = a.start + column;
                items.extend((from..a.start + a.len).step_by(columns).filter(|i| live(*i)).map(|i| i as u32));
                ends.push(items.len() as u32);
            }
        }
        let mut sums = vec![P::IDENTITY; ends.len()];
        sum_segments(points, &table, &items, &ends, &mut sums, workspace);
        table = sums;
        arrays = next;
    }
    leaves.sort_by_key(|(shift, set, _)| (*set, std::cmp::Reverse(*shift)));
    let mut leaves = leaves.into_iter().peekable();
    totals
        .into_iter()
        .enumerate()
        .map(|(set, total)| {
            // Horner's rule from the largest shift down.
            let mut sum = G1::default();
            let mut at = 0;
            while let Some((shift, _, point)) = leaves.next_if(|(_, s, _)| *s == set) {
                (shift..at).for_each(|_| sum = double(sum));
                at = shift;
                sum += point;
            }
            (0..at).for_each(|_| sum = double(sum));
            sum + total
        })
        .collect()
}

/// Σ A_i and Σ i·A_i.
fn leaf<P: Points>(points: P, array: &[P::Point]) -> (G1, G1) {
    let (mut running, mut weighted) = (G1::default(), G1::default());
    for (i, point) in array.iter().enumerate().rev() {
        if !P::is_identity(point) {
            running += points.to_affine(point);
        }
        if i > 0 {
            weighted += running;
        }
    }
    (running, weighted)
}

/// 2P; cheaper than the general addition for the identity, which is common here.
pub(crate) fn double(point: G1) -> G1 {
    if bool::from(point.z.is_zero()) { point } else { group::Group::double(&point) }
}
