//! Scalars as signed magnitudes, sorted into classes by their size, and cut into signed digits.
//!
//! halo2 columns are mostly zeros, ones and small numbers, so a column is never treated as one kind: every scalar s becomes a
//! magnitude min(s, r − s) with a sign, zeros are dropped, and the rest falls into classes that each get their own windows.
//!
//! Digits are signed without a carry chain: with K = Σ_w 2^(c−1)·2^(cw) over all windows but the top one, the w-th window of
//! s + K, less 2^(c−1), is the w-th signed digit of s. The top one is not signed; one bit of room lets it take the carry.

use halo2curves::bn256::Fr;

use super::endomorphism::{HALF_BITS, split};
use super::table::Levels;
use crate::arch::generic::field::{FrPrime, Prime};
use crate::arch::points::{NEGATE, Points};

/// r, the order of the group.
const MODULUS: [u64; 4] = FrPrime::MODULUS;

/// Upper bounds of the classes in bits of magnitude.
const CLASS_BITS: [u32; CLASSES] = [16, 64, 254];
/// Number of classes.
pub(crate) const CLASSES: usize = 3;

/// What a chunk of a column has of one class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Number of scalars.
    pub(crate) len: usize,
    /// The bitwise or of their magnitudes.
    pub(crate) all: [u64; 4],
}

/// Where the scalars of one class in one chunk go.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) windows: Windows,
    /// Index into the bases, with [`NEGATE`] for negative scalars.
    pub(crate) index: &'a mut [u32],
    /// Digits, one row per window.
    pub(crate) digits: Vec<&'a mut [u16]>,
}

/// Scalars that are looked at together.
const STRIP: usize = 256;

fn less(a: &[u64; 4], b: &[u64; 4]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn sub(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut borrow = false;
    std::array::from_fn(|i| {
        let (x, first) = a[i].overflowing_sub(b[i]);
        let (x, second) = x.overflowing_sub(u64::from(borrow));
        borrow = first | second;
        x
    })
}

fn add(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut carry = false;
    std::array::from_fn(|i| {
        let (x, first) = a[i].overflowing_add(b[i]);
        let (x, second) = x.overflowing_add(u64::from(carry));
        carry = first | second;
        x
    })
}

/// Number of significant bits.
pub(crate) fn bits(a: &[u64; 4]) -> u32 {
    a.iter().rposition(|w| *w != 0).map_or(0, |i| 64 * i as u32 + 64 - a[i].leading_zeros())
}

/// Class, magnitude and sign of a scalar; `None` for zero.
fn class_of(value: &[u64; 4]) -> Option<(usize, [u64; 4], bool)> {
    let negated = sub(&MODULUS, value);
    let negative = less(&negated, value);
    let magnitude = if negative { negated } else { *value };
    let class = match magnitude {
        [0, 0, 0, 0] => return None,
        [w, 0, 0, 0] => usize::from(w >> CLASS_BITS[0] != 0),
        _ => 2,
    };
    Some((class, magnitude, negative))
}

/// How scalars of the last class are treated: the others are short already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Distance of a base's image from the base, if there are images: then a scalar falls into two halves.
    pub(crate) images: Option<u32>,
}

/// What `scalars` have of each class.
pub(crate) fn count<P: Points>(points: P, scalars: &[Fr], parts: Parts) -> [Count; CLASSES] {
    let mut counts = [Count::default(); CLASSES];
    let mut canonical = [[0; 4]; STRIP];
    for scalars in scalars.chunks(STRIP) {
        let canonical = &mut canonical[..scalars.len()];
        points.canonical(scalars, canonical);
        for (class, magnitude, _) in canonical.iter().filter_map(class_of) {
            counts[class].len += 1;
            counts[class].all.iter_mut().zip(&magnitude).for_each(|(all, w)| *all |= w);
        }
    }
    if parts.images.is_some() {
        let full = &mut counts[CLASSES - 1];
        full.len *= 2;
        full.all = [u64::MAX, u64::MAX >> (128 - HALF_BITS), 0, 0];
    }
    counts
}

/// Writes indices and digits of `scalars`, the first of which has base `first`. The slots have the lengths that [`count`] gave; there
/// is none for a class without scalars.
///
/// Scalars are brought to canonical form here a second time: that costs a multiplication each, and to keep the magnitudes since
/// [`count`] would cost as much memory as the scalars themselves.
pub(crate) fn fill<P: Points>(
    points: P,
    scalars: &[Fr],
    first: usize,
    slots: &mut [Option<Slot<'_>>; CLASSES],
    parts: Parts,
) {
    let mut canonical = [[0; 4]; STRIP];
    let mut strips = [[[0; 4]; 2 * STRIP]; CLASSES];
    let mut done = [0; CLASSES];
    for (strip, scalars) in scalars.chunks(STRIP).enumerate() {
        let canonical = &mut canonical[..scalars.len()];
        points.canonical(scalars, canonical);
        let mut lens = [0; CLASSES];
        for (i, value) in canonical.iter().enumerate() {
            let Some((class, magnitude, negative)) = class_of(value) else { continue };
            let Some(slot) = &mut slots[class] else { continue };
            let index = (first + strip * STRIP + i) as u32;
            if let (2, Some(image)) = (class, parts.images) {
                for (half, index) in split(&magnitude).into_iter().zip([index, index + image]) {
                    let at = lens[class];
                    slot.index[done[class] + at] =
                        if negative != (half < 0) { index | NEGATE } else { index };
                    let half = half.unsigned_abs();
                    strips[class][at] = [half as u64, (half >> 64) as u64, 0, 0];
                    lens[class] += 1;
                }
                continue;
            }
            slot.index[done[class] + lens[class]] = if negative { index | NEGATE } else { index };
            strips[class][lens[class]] = magnitude;
            lens[class] += 1;
        }
        for (class, slot) in slots.iter_mut().enumerate() {
            if let Some(slot) = slot {
                slot.windows.digits(&strips[class][..lens[class]], done[class], &mut slot.digits);
            }
            done[class] += lens[class];
        }
    }
}

/// The cost in additions of one set of m buckets and its items. l = m(1 − e^(−items/m)) buckets are hit, so that items − l additions
/// fill them and 2l reduce them; every bucket costs memory traffic worth half an addition.
fn set_cost(items: f64, buckets: f64, lanes: usize) -> f64 {
    items + buckets * (1.0 - (-items / buckets).exp()) + buckets * 0.5 + lanes as f64
}

/// How the magnitudes of one class are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Bits per window.
    pub(crate) width: u32,
    /// Number of windows.
    pub(crate) count: u32,
    /// Whether digits are signed. One window alone needs no sign.
    pub(crate) signed: bool,
    /// Number of sets of buckets: window w fills set w mod `sets`, with the bases of level ⌊w / `sets`⌋.
    pub(crate) sets: u32,
}

impl Windows {
    /// Narrowest signed window.
    pub(crate) const NARROWEST: u32 = 2;
    /// Widest window: a digit is 16 bits.
    pub(crate) const WIDEST: u32 = 16;
    /// Bits of the largest magnitude of a scalar, (r − 1)/2.
    pub(crate) const FULL: u32 = 253;

    /// The cheapest windows for `len` magnitudes of `bits` bits and bases of these levels, and their cost in additions.
    pub(crate) fn choose(len: usize, bits: u32, lanes: usize, levels: Levels) -> (Self, f64) {
        let single = (bits <= Self::WIDEST).then(|| {
            let windows = Windows { width: bits, count: 1, signed: false, sets: 1 };
            (windows, set_cost(len as f64, f64::from(1u32 << bits), lanes))
        });
        (Self::NARROWEST..=Self::WIDEST)
            .map(|width| {
                // One more bit for the sign.
                let count = (bits + 1).div_ceil(width);
                let windows = Windows { width, count, signed: true, sets: levels.sets(width, count) };
                (windows, Self::cost(len, width, count, lanes, levels))
            })
            .chain(single)
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((Windows { width: 2, count: 127, signed: true, sets: 127 }, f64::INFINITY))
    }

    /// The cost in additions of `count` signed windows of `width` bits for `len` magnitudes.
    pub(crate) fn cost(len: usize, width: u32, count: u32, lanes: usize, levels: Levels) -> f64 {
        let sets = f64::from(levels.sets(width, count));
        let items = len as f64 * f64::from(count) / sets;
        sets * set_cost(items, f64::from(1u32 << (width - 1)), lanes)
    }

    /// Buckets per window, a power of two and the largest magnitude of a digit.
    pub(crate) fn buckets(&self) -> usize {
        1 << if self.signed { self.width - 1 } else { self.width }
    }

    /// The offset K of the module's documentation.
    fn offset(&self) -> [u64; 4] {
        let mut offset = [0; 4];
        for window in 1..self.count {
            let bit = window * self.width - 1;
            offset[bit as usize / 64] |= 1 << (bit % 64);
        }
        offset
    }

    /// Writes the digits of `magnitudes`, biased to be non-negative, into one row per window, from place `from` on.
    pub(crate) fn digits(&self, magnitudes: &[[u64; 4]], from: usize, windows: &mut [&mut [u16]]) {
        const STRIP: usize = 128;
        let offset = self.offset();
        let mask = (1u64 << self.width) - 1;
        // A fifth word of zeros, so that every window reads two words.
        let mut values = [[0u64; 5]; STRIP];
        for (strip, magnitudes) in magnitudes.chunks(STRIP).enumerate() {
            for (value, magnitude) in values.iter_mut().zip(magnitudes) {
                value[..4].copy_from_slice(&add(magnitude, &offset));
            }
            let values = &values[..magnitudes.len()];
            for (window, out) in windows.iter_mut().enumerate() {
                let bit = window * self.width as usize;
                // The top window may begin beyond the last word only if nothing is left for it.
                let (word, shift) = ((bit / 64).min(4), bit % 64);
                let out = &mut out[from + strip * STRIP..][..values.len()];
                for (out, value) in out.iter_mut().zip(values) {
                    let high = value.get(word + 1).copied().unwrap_or(0);
                    let both = u128::from(value[word]) | u128::from(high) << 64;
                    *out = ((both >> shift) as u64 & mask) as u16;
                }
            }
        }
    }

    /// What the digits of a window are biased by.
    pub(crate) fn bias(&self, window: usize) -> i32 {
        if window + 1 < self.count as usize { 1 << (self.width - 1) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ digit·2^(width·window) as a sign and a magnitude modulo 2^320.
    fn recompose(windows: &Windows, digits: &[u16]) -> [u64; 5] {
        let mut sum = [0u64; 5];
        for (w, digit) in digits.iter().enumerate().rev() {
            let mut carry = 0u128;
            for word in &mut sum {
                carry += u128::from(*word) << windows.width;
                *word = carry as u64;
                carry >>= 64;
            }
            let digit = i128::from(i32::from(*digit) - windows.bias(w));
            let mut carry = digit;
            for word in &mut sum {
                carry += i128::from(*word);
                *word = carry as u64;
                carry >>= 64;
            }
        }
        sum
    }

    #[test]
    fn digits_recompose() {
        let half = sub(&MODULUS, &[1, 0, 0, 0]).map(|w| w >> 1);
        let values = [
            [1, 0, 0, 0],
            [0xffff, 0, 0, 0],
            [u64::MAX, 0, 0, 0],
            [u64::MAX, u64::MAX, u64::MAX, 0],
            half,
            [0x8000_8000_8000_8000; 4].map(|w: u64| w >> 3),
        ];
        for value in values {
            for width in 2..=16 {
                let windows =
                    Windows { width, count: (bits(&value) + 1).div_ceil(width), signed: true, sets: 1 };
                let mut columns = vec![vec![0u16; 1]; windows.count as usize];
                let mut slices: Vec<_> = columns.iter_mut().map(|c| &mut c[..]).collect();
                windows.digits(&[value], 0, &mut slices);
                let digits: Vec<_> = columns.iter().map(|c| c[0]).collect();
                assert_eq!(recompose(&windows, &digits)[..4], value, "width {width}");
                let limit = windows.buckets() as i32;
                assert!(
                    digits.iter().enumerate().all(|(w, d)| (i32::from(*d) - windows.bias(w)).abs() <= limit)
                );
            }
        }
    }

    #[test]
    fn small_scalars_take_one_window() {
        let choose = |len, bits| Windows::choose(len, bits, 8, Levels::PLAIN).0;
        assert_eq!(choose(1 << 16, 1).buckets(), 2);
        assert_eq!(choose(1 << 20, 16).count, 1);
        assert!(choose(1 << 10, 254).width < choose(1 << 20, 254).width);
    }
}
