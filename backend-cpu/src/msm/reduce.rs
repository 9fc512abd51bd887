//! From buckets to few points: Σ_b b·B_b for many bucket arrays at once, as Σ_e 2^e·L_e.
//!
//! The usual running sum is one long chain of dependent additions. Here an array of m buckets is seen as a matrix: with
//! i = 2^h·row + column, Σ i·B_i = 2^h·Σ row·R_row + Σ column·C_column, where R and C are the sums of its rows and columns: two
//! independent affine additions per bucket, which share their inversions with those of all other arrays, and two arrays of about
//! √m entries left. They are treated alike until two entries are left, of which the second is one of the L_e.

use super::buckets::sum_segments;
use crate::arch::points::Points;

/// An array whose weighted sum 2^`shift` · Σ i·A_i is wanted. Its length is a power of two.
#[derive(Clone, Copy)]
struct Array {
    shift: u32,
    start: usize,
    len: usize,
}

/// A term 2^`shift`·`point`.
pub(crate) struct Term<P: Points> {
    pub(crate) shift: u32,
    pub(crate) point: P::Point,
}

/// Terms whose sum is `Σ_s 2^(shift_s) Σ_b b·table[s·len + b]` over the sets s of `len` buckets, a power of two, where b = 0 stands for
/// `len`.
pub(crate) fn terms<P: Points>(
    points: P,
    mut table: Vec<P::Point>,
    len: usize,
    shifts: impl Iterator<Item = u32>,
    parallel: bool,
) -> Vec<Term<P>> {
    let mut out = Vec::new();
    let mut emit = |shift: u32, point: &P::Point| {
        if !P::is_identity(point) {
            out.push(Term { shift, point: *point });
        }
    };
    let mut arrays: Vec<Array> =
        shifts.enumerate().map(|(set, shift)| Array { shift, start: set * len, len }).collect();
    for a in &arrays {
        emit(a.shift + len.ilog2(), &table[a.start]);
    }
    loop {
        let mut next = Vec::new();
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        let live = |i: usize| !P::is_identity(&table[i]);
        for a in arrays {
            if a.len <= 2 {
                if a.len == 2 {
                    emit(a.shift, &table[a.start + 1]);
                }
                continue;
            }
            let h = a.len.ilog2() / 2;
            let columns = 1usize << h;
            let rows = a.len >> h;
            let range = a.start..a.start + a.len;
            // Row 0 and column 0 have weight zero.
            next.push(Array { shift: a.shift + h, start: ends.len(), len: rows });
            ends.push(items.len() as u32);
            for row in 1..rows {
                items.extend(
                    range.clone().skip(row * columns).take(columns).filter(|i| live(*i)).map(|i| i as u32),
                );
                ends.push(items.len() as u32);
            }
            next.push(Array { shift: a.shift, start: ends.len(), len: columns });
            ends.push(items.len() as u32);
            for column in 1..columns {
                let every = range.clone().skip(column).step_by(columns);
                items.extend(every.filter(|i| live(*i)).map(|i| i as u32));
                ends.push(items.len() as u32);
            }
        }
        if next.is_empty() {
            return out;
        }
        let mut sums = vec![P::IDENTITY; ends.len()];
        sum_segments(points, &table, &items, &ends, &mut sums, parallel);
        table = sums;
        arrays = next;
    }
}
