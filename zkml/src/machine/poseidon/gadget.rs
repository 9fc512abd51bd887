//! Digests in the circuit: rows, gates and witness.
//!
//! A *lane* is ten columns, `s₀ … s₄` and `q₀ … q₄`. A *block* is one permutation with all that it absorbs, on consecutive rows of one lane:
//!
//! | rows | cells | into the next row |
//! |---|---|---|
//! | packing, per message | nine digits in `s₁ … s₄, q₀ … q₄` | `s₀' = [not the first]·s₀ + Σ 2^(width·i)·digit + offset` |
//! | absorption | state before in `q`, messages in `s₁ … s₄` | `sᵢ' = qᵢ + [i > 0]·sᵢ + constant` |
//! | each full round | inputs of the S-boxes in `s`, `qᵢ = sᵢ²` | `s' = M·(qᵢ²·sᵢ) + constant` |
//! | three partial rounds | `s`; `q₁`, `q₃` the inputs of the second and third S-box; `q₀ = s₀²`, `q₂ = q₁²`, `q₄ = q₃²` | linear in the three outputs and `s₁ … s₄` |
//! | output | state after in `s` | |
//!
//! Digits are copies of the elements' own cells, messages of packing results, states before of states after: the chain of blocks that is a sponge
//! may lie anywhere. Elements are range-checked where they live, exactly to their width or less, so a message has one reading. Constants are added
//! on the way into a row; selectors never multiply more than a fourth of the degree that the lookup argument has anyway.
//!
//! All lanes of a row do the same, so blocks are sorted by what they absorb; lanes without a block compute a permutation that nobody looks at. The
//! number of lanes is the least with which everything fits the rows that there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use rayon::prelude::*;

use super::super::factor::{Factored, factor};
use super::super::layout::{Cell, Col};
use super::super::lowered::Src;
use super::super::num::fr;
use super::super::sites::{Site, on};
use super::digest::offset;
use super::{
    FULL, PARTIAL, PER_ROW, RATE, State, WIDTH, absorbed, add, constants, initial, packed_len, per_element,
    times,
};

/// Columns of a lane.
pub(crate) const COLUMNS: usize = 2 * WIDTH;
/// Digits of a packing row.
const DIGITS: usize = COLUMNS - 1;
const ROUND_ROWS: usize = FULL + PARTIAL / PER_ROW;
/// More lanes than this and the circuit gets more rows instead.
const MAX_LANES: usize = 24;

/// Tensors under one digest: width and elements of each.
#[derive(Clone, Debug)]
pub(crate) struct Hashed {
    /// In the model's names.
    pub(crate) name: String,
    pub(crate) segments: Vec<(u32, Arc<[Src]>)>,
}

/// A coefficient of a row. Selectors come first, so that they are columns of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HashSlot {
    Full,
    Partial,
    Absorb,
    Pack,
    /// Multiplies the message so far.
    Again,
    /// Multiplies a digit.
    Digit(u8),
    /// Added to an element of the next state.
    Into(u8),
    /// Added to the input of the second or third S-box of a partial row.
    Inner(u8),
}

/// What a block absorbs: the width of each of its messages, 0 where there is none, and the hash that it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    widths: [u32; RATE],
    first: Option<u32>,
}

/// What a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Code {
    Pack { bits: u32, row: u8 },
    Absorb { first: Option<u32> },
    Round(u8),
    Output,
}

fn packing_rows(bits: u32) -> usize {
    if bits == 0 { 0 } else { per_element(bits).div_ceil(DIGITS) }
}

impl Shape {
    fn codes(&self) -> Vec<Code> {
        let packing = self
            .widths
            .iter()
            .flat_map(|&bits| (0..packing_rows(bits) as u8).map(move |row| Code::Pack { bits, row }));
        let rounds = (0..ROUND_ROWS as u8).map(Code::Round);
        packing.chain([Code::Absorb { first: self.first }]).chain(rounds).chain([Code::Output]).collect()
    }

    fn rows(&self) -> usize {
        self.widths.iter().map(|&bits| packing_rows(bits)).sum::<usize>() + 1 + ROUND_ROWS + 1
    }

    /// Row of the absorption.
    fn absorption(&self) -> usize {
        self.rows() - ROUND_ROWS - 2
    }
}

/// Width, segment and number within the segment of every message of a hash.
fn messages(h: &Hashed) -> Vec<(u32, usize, usize)> {
    let each = h.segments.iter().enumerate();
    each.flat_map(|(at, (bits, x))| (0..packed_len(x.len(), *bits)).map(move |m| (*bits, at, m))).collect()
}

fn shapes(at: usize, h: &Hashed) -> Vec<Shape> {
    let messages = messages(h);
    (0..absorbed(messages.len()))
        .map(|block| Shape {
            widths: std::array::from_fn(|i| messages.get(block * RATE + i).map_or(0, |m| m.0)),
            first: (block == 0).then_some(at as u32),
        })
        .collect()
}

/// Number of lanes and rows that the digests of a circuit take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HashSize {
    pub(crate) lanes: usize,
    pub(crate) rows: usize,
}

/// Counts of blocks of each shape: all that the size depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashCount(BTreeMap<Shape, usize>);

impl HashCount {
    pub(crate) fn new(hashes: &[Hashed]) -> Self {
        let mut count = BTreeMap::new();
        for (at, h) in hashes.iter().enumerate() {
            shapes(at, h).into_iter().for_each(|s| *count.entry(s).or_insert(0) += 1);
        }
        HashCount(count)
    }

    /// The fewest lanes with which everything fits this many rows; `None` where none do.
    pub(crate) fn fit(&self, available: usize) -> Option<HashSize> {
        if self.0.is_empty() {
            return Some(HashSize::default());
        }
        (1..=MAX_LANES).find_map(|lanes| {
            let rows = self.0.iter().map(|(shape, n)| n.div_ceil(lanes) * shape.rows()).sum();
            (rows <= available).then_some(HashSize { lanes, rows })
        })
    }
}

/// A block of a hash.
#[derive(Clone, Copy, Debug)]
struct Block {
    shape: Shape,
    lane: usize,
    row: usize,
}

/// Where digests are computed.
#[derive(Clone, Debug)]
pub(crate) struct HashLayout {
    pub(crate) size: HashSize,
    /// Blocks of each hash, in order.
    blocks: Vec<Vec<Block>>,
    /// Lanes without a block.
    idle: Vec<Block>,
    pub(crate) field: Factored<HashSlot>,
    /// Kind of each row.
    pub(crate) kinds: Vec<u32>,
}

fn lane_cell(lane: usize, position: usize, row: usize) -> Cell {
    Cell { col: Col::Hash((lane * COLUMNS + position) as u16), row: row as u32 }
}

/// Column of a digit.
pub(crate) fn digit_position(digit: usize) -> usize {
    digit + 1
}

impl HashLayout {
    pub(crate) fn new(hashes: &[Hashed], size: HashSize) -> Self {
        let mut by_shape: BTreeMap<Shape, Vec<(usize, usize)>> = BTreeMap::new();
        let mut blocks: Vec<Vec<Option<Block>>> = Vec::new();
        for (at, h) in hashes.iter().enumerate() {
            let shapes = shapes(at, h);
            blocks.push(vec![None; shapes.len()]);
            for (block, shape) in shapes.into_iter().enumerate() {
                by_shape.entry(shape).or_default().push((at, block));
            }
        }
        let (mut idle, mut codes, mut row) = (Vec::new(), Vec::new(), 0);
        for (shape, members) in by_shape {
            for group in members.chunks(size.lanes.max(1)) {
                for lane in 0..size.lanes {
                    let block = Block { shape, lane, row };
                    match group.get(lane) {
                        Some(&(at, n)) => blocks[at][n] = Some(block),
                        None => idle.push(block),
                    }
                }
                codes.extend(shape.codes());
                row += shape.rows();
            }
        }
        let mut known: BTreeMap<Code, u32> = BTreeMap::new();
        let mut vectors = Vec::new();
        let kinds = codes
            .iter()
            .map(|&code| {
                *known.entry(code).or_insert_with(|| {
                    vectors.push(vector(code, hashes));
                    vectors.len() as u32 - 1
                })
            })
            .collect();
        let blocks = blocks.into_iter().map(|b| b.into_iter().flatten().collect()).collect();
        HashLayout { size, blocks, idle, field: factor(&vectors), kinds }
    }

    /// Whether a row packs digits.
    #[cfg(test)]
    pub(crate) fn packs(&self, row: usize) -> bool {
        let within = |b: &&Block| (b.row..b.row + b.shape.absorption()).contains(&row);
        self.blocks.iter().flatten().any(|b| within(&b))
    }

    /// The cell of a digest.
    pub(crate) fn digest(&self, hash: usize) -> Option<Cell> {
        let last = self.blocks.get(hash)?.last()?;
        Some(lane_cell(last.lane, 1, last.row + last.shape.rows() - 1))
    }

    /// The hash that a row is about.
    pub(crate) fn at_row(&self, row: usize) -> Option<usize> {
        self.blocks.iter().position(|b| b.iter().any(|b| (b.row..b.row + b.shape.rows()).contains(&row)))
    }

    /// Every cell of the lanes that has a part in a digest.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let mut out = Vec::new();
        for block in self.blocks.iter().flatten() {
            for (i, code) in block.shape.codes().into_iter().enumerate() {
                // What the row before packs is in `s₀`; the first row of a block has none before.
                let first = usize::from(i == 0);
                let positions: Vec<usize> = match code {
                    Code::Pack { bits, row } => {
                        let used = (per_element(bits) - DIGITS * usize::from(row)).min(DIGITS);
                        (first..=used).collect()
                    }
                    Code::Absorb { .. } => (first..COLUMNS).collect(),
                    Code::Round(_) => (0..COLUMNS).collect(),
                    Code::Output => (0..WIDTH).collect(),
                };
                out.extend(positions.into_iter().map(|p| lane_cell(block.lane, p, block.row + i)));
            }
        }
        out
    }

    /// All copies: pairs of a cell of a lane and another cell, a source outside, or zero.
    pub(crate) fn copies(&self, hashes: &[Hashed]) -> Vec<(Cell, Tied)> {
        let mut out = Vec::new();
        for (h, blocks) in hashes.iter().zip(&self.blocks) {
            let messages = messages(h);
            for (n, block) in blocks.iter().enumerate() {
                let at = |position: usize, row: usize| lane_cell(block.lane, position, block.row + row);
                let absorption = block.shape.absorption();
                let mut row = 0;
                for i in 0..RATE {
                    let message = at(i + 1, absorption);
                    let Some(&(bits, segment, number)) = messages.get(n * RATE + i) else {
                        out.push((message, Tied::Zero));
                        continue;
                    };
                    let (per, values) = (per_element(bits), &h.segments[segment].1);
                    for digit in 0..per {
                        let cell = at(digit_position(digit % DIGITS), row + digit / DIGITS);
                        let src = values.get(number * per + digit);
                        out.push((cell, src.map_or(Tied::Zero, |&s| Tied::Source(s))));
                    }
                    row += packing_rows(bits);
                    out.push((message, Tied::Cell(at(0, row))));
                }
                for i in 0..WIDTH {
                    let before = at(WIDTH + i, absorption);
                    out.push((
                        before,
                        match n.checked_sub(1).and_then(|p| blocks.get(p)) {
                            None => Tied::Zero,
                            Some(p) => Tied::Cell(lane_cell(p.lane, i, p.row + p.shape.rows() - 1)),
                        },
                    ));
                }
            }
        }
        out
    }

    /// Cells of a digest with one of them changed and all after it as the gates ask for: rows of the `n`-th block of a hash, positions, and
    /// the digest that comes out.
    #[cfg(test)]
    pub(crate) fn forged(
        &self,
        hashes: &[Hashed],
        (hash, n): (usize, usize),
        value: impl Fn(Src) -> i64,
        write: impl Fn(usize, usize, Fr) -> Fr,
    ) -> (Vec<(Cell, Fr)>, Fr) {
        let (h, messages) = (&hashes[hash], messages(&hashes[hash]));
        let (mut out, mut state) = (Vec::new(), [Fr::ZERO; WIDTH]);
        for (at, block) in self.blocks[hash].iter().enumerate() {
            let digits: [Vec<Fr>; RATE] = std::array::from_fn(|i| {
                messages.get(at * RATE + i).map_or(Vec::new(), |&(bits, segment, number)| {
                    let (per, values) = (per_element(bits), &h.segments[segment].1);
                    let one = |d| values.get(number * per + d).map_or(Fr::ZERO, |&s| fr(value(s).into()));
                    (0..per).map(one).collect()
                })
            });
            let change = |row, position, x| if at == n { write(row, position, x) } else { x };
            let rows = filled(&block.shape, &digits, &state, hashes, change);
            for (i, cells) in rows.iter().enumerate() {
                let own = cells.iter().enumerate();
                out.extend(own.map(|(p, &x)| (lane_cell(block.lane, p, block.row + i), x)));
            }
            state.copy_from_slice(&rows[rows.len() - 1][..WIDTH]);
        }
        (out, state[1])
    }

    /// Rows and positions of the `n`-th block of a hash.
    #[cfg(test)]
    pub(crate) fn shape(&self, hash: usize) -> (usize, usize) {
        (self.blocks[hash].len(), self.blocks[hash][0].shape.rows())
    }

    /// The columns of all lanes, from the elements' values.
    pub(crate) fn witness(
        &self,
        hashes: &[Hashed],
        usable: usize,
        value: impl Fn(Src) -> i64 + Sync,
    ) -> (Vec<Vec<Fr>>, Vec<Fr>) {
        let mut columns = vec![vec![Fr::ZERO; usable]; self.size.lanes * COLUMNS];
        let mut digests = Vec::with_capacity(hashes.len());
        let mut put = |block: &Block, rows: Vec<[Fr; COLUMNS]>| {
            for (i, cells) in rows.into_iter().enumerate() {
                for (p, x) in cells.into_iter().enumerate() {
                    if let Some(slot) =
                        columns.get_mut(block.lane * COLUMNS + p).and_then(|c| c.get_mut(block.row + i))
                    {
                        *slot = x;
                    }
                }
            }
        };
        let zero = [Fr::ZERO; WIDTH];
        for (at, (h, blocks)) in hashes.iter().zip(&self.blocks).enumerate() {
            let messages = messages(h);
            let digits: Vec<[Vec<Fr>; RATE]> = (0..blocks.len())
                .into_par_iter()
                .map(|n| {
                    std::array::from_fn(|i| {
                        messages.get(n * RATE + i).map_or(Vec::new(), |&(bits, segment, number)| {
                            let (per, values) = (per_element(bits), &h.segments[segment].1);
                            let one =
                                |d| values.get(number * per + d).map_or(Fr::ZERO, |&s| fr(value(s).into()));
                            (0..per).map(one).collect()
                        })
                    })
                })
                .collect();
            // The states are a chain; the rows of a block follow from its own.
            let separator = separator(h);
            let mut state = zero;
            let mut before = Vec::with_capacity(blocks.len());
            for (block, digits) in blocks.iter().zip(&digits) {
                before.push(state);
                state = add(&state, &absorption(&block.shape, digits));
                if block.shape.first == Some(at as u32) {
                    state = add(&state, &separator);
                }
                super::permute(&mut state);
            }
            digests.push(state[1]);
            let rows: Vec<_> = blocks
                .par_iter()
                .zip(&digits)
                .zip(&before)
                .map(|((block, digits), before)| fill(&block.shape, digits, before, hashes))
                .collect();
            blocks.iter().zip(rows).for_each(|(block, rows)| put(block, rows));
        }
        let nothing: [Vec<Fr>; RATE] = Default::default();
        let mut filled: BTreeMap<Shape, Vec<[Fr; COLUMNS]>> = BTreeMap::new();
        for block in &self.idle {
            let rows = filled
                .entry(block.shape)
                .or_insert_with(|| fill(&block.shape, &nothing, &zero, hashes))
                .clone();
            put(block, rows);
        }
        (columns, digests)
    }
}

/// What a cell of a lane is a copy of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tied {
    Zero,
    Source(Src),
    Cell(Cell),
}

fn separator(h: &Hashed) -> State {
    initial(h.segments.iter().map(|(bits, x)| (*bits, x.len())))
}

fn message(bits: u32, digits: &[Fr]) -> Fr {
    let base = fr(1 << bits);
    digits.iter().rev().fold(Fr::ZERO, |sum, d| sum * base + d) + offset(bits)
}

fn absorption(shape: &Shape, digits: &[Vec<Fr>; RATE]) -> State {
    std::array::from_fn(|i| match i.checked_sub(1).map(|i| (shape.widths[i], &digits[i])) {
        Some((bits, digits)) if bits > 0 => message(bits, digits),
        _ => Fr::ZERO,
    })
}

/// The coefficients of a row.
fn vector(code: Code, hashes: &[Hashed]) -> BTreeMap<HashSlot, Fr> {
    let one = Fr::ONE;
    let into = |state: &State| {
        state.iter().enumerate().map(|(i, &x)| (HashSlot::Into(i as u8), x)).collect::<Vec<_>>()
    };
    let c = constants();
    let mut v = BTreeMap::new();
    match code {
        Code::Pack { .. } if !on(Site::DigestPack) => {}
        Code::Absorb { .. } if !on(Site::DigestAbsorb) => {}
        Code::Pack { bits, row } => {
            v.insert(HashSlot::Pack, one);
            let before = DIGITS * usize::from(row);
            let used = (per_element(bits) - before).min(DIGITS);
            let base = fr(1 << bits);
            let mut factor = base.pow([before as u64]);
            for digit in 0..used {
                v.insert(HashSlot::Digit(digit as u8), factor);
                factor *= base;
            }
            if row > 0 {
                v.insert(HashSlot::Again, one);
            }
            if before + used == per_element(bits) {
                v.insert(HashSlot::Into(0), offset(bits));
            }
        }
        Code::Absorb { first } => {
            v.insert(HashSlot::Absorb, one);
            let separator = first.and_then(|h| hashes.get(h as usize)).map_or([Fr::ZERO; WIDTH], separator);
            v.extend(into(&add(&c.into[0], &separator)));
        }
        Code::Round(r) => {
            let r = usize::from(r);
            let half = FULL / 2;
            let inner = r.checked_sub(half).and_then(|p| c.inner.get(p));
            if on(if inner.is_some() { Site::DigestNextPartial } else { Site::DigestNextFull }) {
                v.extend(into(&c.into[r + 1]));
            }
            match inner {
                Some(inner) => {
                    v.insert(HashSlot::Partial, one);
                    v.extend(inner.iter().enumerate().map(|(i, &x)| (HashSlot::Inner(i as u8), x)));
                }
                None => {
                    v.insert(HashSlot::Full, one);
                }
            }
        }
        Code::Output => {}
    }
    v
}

/// The rows of a block.
fn fill(shape: &Shape, digits: &[Vec<Fr>; RATE], before: &State, hashes: &[Hashed]) -> Vec<[Fr; COLUMNS]> {
    filled(shape, digits, before, hashes, |_, _, x| x)
}

/// The same, with cells that `write` may change: it has the row, the position and the value that the gates ask for, and everything after is computed
/// from what it gives.
fn filled(
    shape: &Shape,
    digits: &[Vec<Fr>; RATE],
    before: &State,
    hashes: &[Hashed],
    write: impl Fn(usize, usize, Fr) -> Fr,
) -> Vec<[Fr; COLUMNS]> {
    let c = constants();
    let zero = [Fr::ZERO; COLUMNS];
    let mut rows: Vec<[Fr; COLUMNS]> = Vec::with_capacity(shape.rows());
    // What the packing row before leaves in s₀.
    let mut result = Fr::ZERO;
    let mut absorbed = [Fr::ZERO; WIDTH];
    let mut open = None;
    for (i, (&bits, digits)) in shape.widths.iter().zip(digits).enumerate() {
        let base = fr(1 << bits.min(MAX_SHIFT));
        for row in 0..packing_rows(bits) {
            let at = rows.len();
            let mut cells = zero;
            cells[0] = write(at, 0, result);
            if let Some(message) = open.take() {
                absorbed[message] = cells[0];
            }
            let mut sum = if row == 0 { Fr::ZERO } else { cells[0] };
            let mut factor = base.pow([(DIGITS * row) as u64]);
            for digit in 0..DIGITS {
                let x = digits.get(DIGITS * row + digit).copied().unwrap_or(Fr::ZERO);
                let x = write(at, digit_position(digit), x);
                cells[digit_position(digit)] = x;
                sum += factor * x;
                factor *= base;
            }
            result = if row + 1 == packing_rows(bits) { sum + offset(bits) } else { sum };
            rows.push(cells);
        }
        if packing_rows(bits) > 0 {
            open = Some(i + 1);
        }
    }
    let separator = shape.first.and_then(|h| hashes.get(h as usize)).map_or([Fr::ZERO; WIDTH], separator);
    let at = rows.len();
    let mut cells = zero;
    cells[0] = write(at, 0, result);
    if let Some(message) = open {
        absorbed[message] = cells[0];
    }
    absorbed.iter_mut().enumerate().skip(1).for_each(|(i, x)| *x = write(at, i, *x));
    let before: State = std::array::from_fn(|i| write(at, WIDTH + i, before[i]));
    cells[1..WIDTH].copy_from_slice(&absorbed[1..]);
    cells[WIDTH..].copy_from_slice(&before);
    rows.push(cells);
    let mut s = add(&add(&before, &absorbed), &add(&c.into[0], &separator));
    for r in 0..ROUND_ROWS {
        let at = rows.len();
        let mut cells = zero;
        s = std::array::from_fn(|i| write(at, i, s[i]));
        cells[..WIDTH].copy_from_slice(&s);
        let next = match r.checked_sub(FULL / 2).and_then(|p| c.inner.get(p)) {
            None => {
                let squares: State = std::array::from_fn(|i| write(at, WIDTH + i, s[i].square()));
                cells[WIDTH..].copy_from_slice(&squares);
                times(&c.mds, &std::array::from_fn(|i| squares[i].square() * s[i]))
            }
            Some(inner) => {
                let mut form = [Fr::ZERO; PER_ROW + RATE];
                form[PER_ROW..].copy_from_slice(&s[1..]);
                let mut x = s[0];
                for round in 0..PER_ROW {
                    let square = write(at, WIDTH + 2 * round, x.square());
                    cells[WIDTH + 2 * round] = square;
                    form[round] = square.square() * x;
                    if let Some((linear, constant)) = c.partial.inner.get(round).zip(inner.get(round)) {
                        x = linear.iter().zip(&form).map(|(a, b)| *a * b).sum::<Fr>() + constant;
                        x = write(at, WIDTH + 2 * round + 1, x);
                        cells[WIDTH + 2 * round + 1] = x;
                    }
                }
                c.partial.next.each_ref().map(|row| row.iter().zip(&form).map(|(a, b)| *a * b).sum())
            }
        };
        rows.push(cells);
        s = add(&next, &c.into[r + 1]);
    }
    let at = rows.len();
    let mut cells = zero;
    s = std::array::from_fn(|i| write(at, i, s[i]));
    cells[..WIDTH].copy_from_slice(&s);
    rows.push(cells);
    rows
}

/// Widths are at most 64 bits.
const MAX_SHIFT: u32 = super::MAX_BITS;

#[cfg(test)]
mod tests {
    use super::super::{Segment, digest};
    use super::*;

    fn hashed(values: &[i64], bits: u32) -> Hashed {
        let sources = values.iter().map(|&v| Src::Const(v)).collect();
        Hashed { name: "x".into(), segments: vec![(bits, sources)] }
    }

    fn constant(src: Src) -> i64 {
        match src {
            Src::Const(c) => c,
            Src::Cell { .. } => 0,
        }
    }

    #[test]
    fn rows_compute_the_digest() {
        for (len, bits) in [(0, 8), (1, 64), (3, 16), (61, 16), (200, 8), (29, 32)] {
            let values: Vec<i64> = (0..len).map(|i| i * 91 % 127 - 60).collect();
            let hashes = [hashed(&values, bits), hashed(&[5], 8)];
            let size = HashCount::new(&hashes).fit(4000).unwrap();
            let layout = HashLayout::new(&hashes, size);
            let (columns, digests) = layout.witness(&hashes, 4000, constant);
            let expected = digest(&[Segment { values: &values, bits }]).unwrap();
            assert_eq!(digests[0], expected);
            for (at, expected) in digests.iter().enumerate() {
                let cell = layout.digest(at).unwrap();
                let Col::Hash(column) = cell.col else { panic!("a digest is in a lane") };
                assert_eq!(columns[column as usize][cell.row as usize], *expected, "{len} {bits} {at}");
            }
            assert_eq!(layout.kinds.len(), size.rows);
        }
    }

    #[test]
    fn lanes_follow_from_rows() {
        let count = HashCount::new(&[hashed(&[0; 4000], 16)]);
        let narrow = count.fit(8000).unwrap();
        assert_eq!(narrow.lanes, 1);
        let wide = count.fit(1000).unwrap();
        assert!(wide.lanes > 2 && wide.rows <= 1000);
        assert_eq!(count.fit(40), None);
        assert_eq!(HashCount::new(&[]).fit(0), Some(HashSize::default()));
    }
}
