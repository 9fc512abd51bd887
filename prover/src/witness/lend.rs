//! Cells that are lent to the circuit while it is synthesized.
//!
//! `Assignment::assign_advice` returns a reference whose lifetime the caller names freely, so no safe code can return
//! one short of leaking memory. Upstream returns a pointer into its columns; here values are appended to chunks that
//! never move and never change, which rules out two of the three ways to misuse such a reference (a cell that is
//! assigned again, a column that is moved). The third is left, as in upstream: a circuit that hides a reference and
//! reads it after `synthesize` has returned.
//!
//! The store of a column is the column: a cell is the place of its value, so that nothing is held twice, and the last
//! assignment of a cell wins. Nor does a value that is no fraction take the room of one. [`Assigned`] is 72 bytes, of
//! which the variant without a denominator uses the first 40; the rest is padding, of any content. Chunks are filled from
//! their end downwards, so that the padding of a value is the beginning of those that were written, and lent, before it:
//! memory that is under a reference is read by several, and never written again.

use std::mem::MaybeUninit;

use ff::Field;
use halo2_axiom::plonk::Assigned;
use halo2curves::bn256::Fr;
use rayon::prelude::*;

use crate::field;

/// What memory is counted in: no field of a value is aligned to more.
type Word = MaybeUninit<u64>;

/// Words of a value.
const VALUE: usize = size_of::<Assigned<Fr>>() / size_of::<Word>();

/// Words that a value without a denominator uses: all, where the compiler lays it out otherwise than expected.
const PLAIN: usize = if plain_values_come_first() { 1 + size_of::<Fr>() / size_of::<Word>() } else { VALUE };

/// Values of a chunk: large enough for an allocator to give the memory back when it is freed.
const CHUNK: usize = 1 << 12;

/// Whether the variants are told apart by the first word, and the one scalar of [`Assigned::Trivial`] comes right after it.
const fn plain_values_come_first() -> bool {
    const WORD: usize = size_of::<Word>();
    const SCALAR: usize = size_of::<Fr>();
    const fn is_at(offset: usize, value: &Assigned<Fr>, scalar: &Fr) -> bool {
        let (value, scalar) =
            (std::ptr::from_ref(value).cast::<u8>(), std::ptr::from_ref(scalar).cast::<u8>());
        // SAFETY: both point into the value, of which the scalar is a part.
        #[expect(unsafe_code, reason = "there is no other way to ask for the layout of an enum")]
        unsafe {
            scalar.offset_from(value) == offset as isize
        }
    }
    let (plain, fraction) = (Assigned::Trivial(Fr::ZERO), Assigned::Rational(Fr::ZERO, Fr::ZERO));
    // A fraction's scalars have no invalid patterns to tell variants apart by: they leave the first word alone to do it.
    let first_word_tells = match &fraction {
        Assigned::Rational(a, b) => {
            (is_at(WORD, &fraction, a) && is_at(WORD + SCALAR, &fraction, b))
                || (is_at(WORD, &fraction, b) && is_at(WORD + SCALAR, &fraction, a))
        }
        _ => false,
    };
    let scalar_is_next = match &plain {
        Assigned::Trivial(a) => is_at(WORD, &plain, a),
        _ => false,
    };
    first_word_tells
        && scalar_is_next
        && align_of::<Assigned<Fr>>() == align_of::<Word>()
        && size_of::<Assigned<Fr>>() == WORD + 2 * SCALAR
}

/// Memory that is filled from its end, and never moved.
#[derive(Debug)]
struct Chunk {
    /// Of length 0: what is used is in its spare room.
    words: Vec<Word>,
    /// Words from here on are used, or left for the padding of the first value.
    from: usize,
}

impl Chunk {
    fn new(len: usize) -> Self {
        Chunk { words: Vec::with_capacity(len), from: len.saturating_sub(VALUE - PLAIN) }
    }

    /// The place of a new value; `None` if the chunk is full.
    fn push(&mut self, value: &Assigned<Fr>) -> Option<usize> {
        let words = if matches!(value, Assigned::Rational(..)) { VALUE } else { PLAIN };
        let at = self.from.checked_sub(words)?;
        // SAFETY: `at + words` is `from`, which is at most the capacity. Only words below `from` are written, and none of those is part
        // of a value that was given before. `as_mut_ptr` makes no reference to the words that are lent. `value` has at least `words`
        // words; it does not overlap what is written, which nobody has a reference to.
        #[expect(unsafe_code, reason = "values overlap in their padding")]
        unsafe {
            let value = std::ptr::from_ref(value).cast::<Word>();
            self.words.as_mut_ptr().add(at).copy_from_nonoverlapping(value, words);
        }
        self.from = at;
        Some(at)
    }
}

/// An append-only store of values other than zero.
#[derive(Debug)]
pub(super) struct Lender {
    chunks: Vec<Chunk>,
    /// Words of a chunk.
    len: usize,
}

/// One more than the number of words before a value, over all chunks; 0 for zero.
type Place = u32;

impl Lender {
    /// For a column of `rows` cells.
    pub(super) fn new(rows: usize) -> Self {
        Lender { chunks: Vec::new(), len: rows.clamp(1, CHUNK) * PLAIN + (VALUE - PLAIN) }
    }

    /// Stores a value; `None` when there are too many for a [`Place`].
    fn push(&mut self, value: &Assigned<Fr>) -> Option<Place> {
        if matches!(value, Assigned::Zero) {
            return Some(0);
        }
        let at = match self.chunks.last_mut().and_then(|chunk| chunk.push(value)) {
            Some(at) => at,
            None => {
                self.chunks.push(Chunk::new(self.len));
                self.chunks.last_mut()?.push(value)?
            }
        };
        Place::try_from((self.chunks.len() - 1) * self.len + at + 1).ok()
    }

    /// The value at a place that [`Lender::push`] gave.
    fn get<'v>(&self, place: Place) -> &'v Assigned<Fr> {
        let Some(words) = (place as usize).checked_sub(1) else { return &Assigned::Zero };
        let (chunk, at) = (&self.chunks[words / self.len], words % self.len);
        assert!(at >= chunk.from && at + VALUE <= self.len, "a place that was given");
        // SAFETY: a value was written here, up to where its variant's fields end; from there on is padding, and the block reaches as far.
        // It is the heap block of a `Vec` that is never grown, so it is not moved or freed while `self` lives, and nothing in it is
        // written again once it is below a value that was given. `self` outlives the synthesis that reads the reference (`collect`
        // drops it after `FloorPlanner::synthesize` returns), which is the contract of `Assignment::assign_advice`.
        #[expect(unsafe_code, reason = "the trait's signature promises an unbounded lifetime")]
        unsafe {
            &*chunk.words.as_ptr().add(at).cast()
        }
    }

    /// Stores a value and lends it; `None` when there is no more room.
    pub(super) fn lend<'v>(&mut self, value: &Assigned<Fr>) -> Option<&'v Assigned<Fr>> {
        let place = self.push(value)?;
        Some(self.get(place))
    }
}

/// A column under assignment, zero at first.
#[derive(Debug)]
pub(super) struct Cells {
    places: Vec<Place>,
    values: Lender,
}

impl Cells {
    /// A column of `rows` cells.
    pub(super) fn new(rows: usize) -> Self {
        Cells { places: vec![0; rows], values: Lender::new(rows) }
    }

    /// Sets a cell and lends its value; `None` when there is no such row, or no room for so many assignments.
    pub(super) fn set<'v>(&mut self, row: usize, value: &Assigned<Fr>) -> Option<&'v Assigned<Fr>> {
        let cell = self.places.get_mut(row)?;
        *cell = self.values.push(value)?;
        Some(self.values.get(*cell))
    }

    /// The values, fractions resolved, and the store, which must live as long as the circuit may read what it was lent; a zero
    /// denominator gives zero, as in halo2.
    pub(super) fn resolve(self) -> (Vec<Fr>, Lender) {
        let Cells { places, values } = self;
        let get = |place: &Place| values.get(*place);
        let mut column: Vec<Fr> = places.par_iter().map(|place| get(place).numerator()).collect();
        if places.par_iter().any(|place| get(place).denominator().is_some()) {
            let denominator = |place: &Place| get(place).denominator().unwrap_or(Fr::ONE);
            let mut denominators: Vec<Fr> = places.par_iter().map(denominator).collect();
            field::batch_invert(&mut denominators);
            column.par_iter_mut().zip(&denominators).for_each(|(x, y)| *x *= y);
        }
        (column, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_a_denominator_are_stored_without_one() {
        assert_eq!((PLAIN, VALUE), (5, 9));
    }

    #[test]
    fn lent_values_stay_while_others_are_appended() {
        let mut lender = Lender::new(usize::MAX);
        let value = |i: u64| match i % 5 {
            0 => Assigned::Zero,
            1 | 3 => Assigned::Rational(Fr::from(i), Fr::from(i + 7)),
            _ => Assigned::Trivial(Fr::from(i)),
        };
        let same = |a: &Assigned<Fr>, b: &Assigned<Fr>| match (a, b) {
            (Assigned::Zero, Assigned::Zero) => true,
            (Assigned::Trivial(a), Assigned::Trivial(b)) => a == b,
            (Assigned::Rational(a, b), Assigned::Rational(c, d)) => a == c && b == d,
            _ => false,
        };
        let count = 3 * CHUNK as u64;
        let lent: Vec<&Assigned<Fr>> = (0..count).map(|i| lender.lend(&value(i)).unwrap()).collect();
        assert!((0..).zip(lent).all(|(i, lent)| same(lent, &value(i))));
        assert!(lender.chunks.len() > 2);
    }

    #[test]
    fn the_last_assignment_of_a_cell_wins() {
        let mut column = Cells::new(5);
        let six_thirds = Assigned::Rational(Fr::from(6), Fr::from(3));
        assert!(column.set(0, &six_thirds).is_some());
        assert!(column.set(1, &six_thirds).is_some());
        assert!(column.set(1, &Assigned::Trivial(Fr::from(7))).is_some());
        assert!(column.set(2, &Assigned::Rational(Fr::from(6), Fr::ZERO)).is_some());
        assert!(column.set(3, &six_thirds).is_some());
        assert!(column.set(3, &Assigned::Zero).is_some());
        assert!(column.set(5, &Assigned::Zero).is_none(), "there are five rows");
        let (values, _) = column.resolve();
        assert_eq!(values, [Fr::from(2), Fr::from(7), Fr::ZERO, Fr::ZERO, Fr::ZERO]);
    }

    #[test]
    fn columns_of_any_length() {
        for rows in [1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let mut column = Cells::new(rows);
            // From the last row to the first, so that places and rows run against each other.
            for row in (0..rows).rev() {
                column.set(row, &Assigned::Trivial(Fr::from(row as u64 + 1)));
            }
            let (values, _) = column.resolve();
            assert!((1..).zip(&values).all(|(i, value)| *value == Fr::from(i)), "{rows} rows");
        }
    }
}
