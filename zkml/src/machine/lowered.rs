//! A program as strips of elements, sweeps over them and rows of scalar arithmetic: everything but widths, columns and rows.
//!
//! - A *strip* is a run of equal elements (one template) in a fixed order of *slots*. Slots lie in rows from the last to the first, so that a
//!   running sum going down the rows is a polynomial whose coefficient of `base^j` is the j-th slot.
//! - A *sweep* is such a sum over an interval of slots, of a port's value or of an output cell.
//! - *Bulk* segments are sums over weights that live in store columns and nowhere else.
//! - The *scalar rows* combine the ends of sweeps, cells and powers of the challenges; a row flagged zero is an identity of the statement.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commitment::Committed;
use super::fold::Folder;
use super::poseidon::gadget::Hashed;
use super::table::Function;
use super::template::Spec;

/// A value: an element of a tensor that has cells, or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Src {
    Cell { tensor: u32, index: u32 },
    Const(i64),
}

/// Operand of every element of a strip.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    /// Element e of this tensor.
    Own(u32),
    /// One source per element.
    Each(Arc<[Src]>),
}

impl Operand {
    pub(crate) fn at(&self, element: u32) -> Src {
        match self {
            Operand::Own(tensor) => Src::Cell { tensor: *tensor, index: element },
            Operand::Each(sources) => sources.get(element as usize).copied().unwrap_or(Src::Const(0)),
        }
    }
}

/// The witness of a swept strip's accumulators.
#[derive(Clone, Debug)]
pub(crate) struct Accumulate {
    /// Operation and its terms that are folded.
    pub(crate) op: u32,
    pub(crate) terms: Vec<u32>,
}

/// A run of equal elements.
#[derive(Clone, Debug)]
pub(crate) struct Strip {
    /// Operation that it belongs to; none for imports and copies.
    pub(crate) op: Option<u32>,
    /// What it holds, in the model's names.
    pub(crate) name: String,
    pub(crate) spec: Spec,
    pub(crate) operands: Vec<Operand>,
    /// Tensors whose elements the template's outputs are.
    pub(crate) outs: Vec<u32>,
    pub(crate) elements: u32,
    /// Slot of each element.
    pub(crate) slots: Arc<[u32]>,
    /// Number of slots, a multiple of the number of units.
    pub(crate) span: u32,
    pub(crate) accumulate: Option<Accumulate>,
}

/// A challenge that sweeps multiply by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) enum Base {
    One,
    Rho,
    Tau,
}

/// A running sum over slots `from ..= to` of a strip.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    pub(crate) strip: u32,
    /// 0: over the port, 1: over an output cell.
    pub(crate) lane: u8,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Output of the template that is summed; none for the port.
    pub(crate) out: Option<u16>,
    pub(crate) base: Base,
    /// Exponent step within a row.
    pub(crate) step: u32,
    /// Exponent step from each row of the sweep to the one that holds lower exponents; the first belongs to the row of `from`.
    pub(crate) jumps: Arc<[u32]>,
}

/// Elements of one tensor in order: flat indices `base + offsets[j]`, modulo 2^32. The rows of a matrix share their offsets, so that a
/// large model's weights are not listed one by one.
#[derive(Clone, Debug)]
pub(crate) struct Elements {
    base: u32,
    offsets: Arc<[u32]>,
}

impl Elements {
    /// Elements at the same distances as `offsets`, the first of which is 0.
    pub(crate) fn at(base: u32, offsets: &Arc<[u32]>) -> Self {
        Elements { base, offsets: Arc::clone(offsets) }
    }

    /// Any list of flat indices; `like` are offsets that are shared where they fit.
    pub(crate) fn of(list: &[u32], like: Option<&Elements>) -> Self {
        let base = list.first().copied().unwrap_or(0);
        let offsets = || list.iter().map(|index| index.wrapping_sub(base));
        match like {
            Some(like) if offsets().eq(like.offsets.iter().copied()) => Elements::at(base, &like.offsets),
            _ => Elements { base, offsets: offsets().collect() },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The flat index of the first element.
    pub(crate) fn first(&self) -> u32 {
        self.offsets.first().map_or(self.base, |offset| self.base.wrapping_add(*offset))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.offsets.iter().map(|offset| self.base.wrapping_add(*offset))
    }

    /// Whether the lists are equal.
    pub(crate) fn same(&self, other: &Elements) -> bool {
        let shared = self.base == other.base && Arc::ptr_eq(&self.offsets, &other.offsets);
        shared || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

/// A polynomial over weights in the store: `Σ_j τ^j w_j`.
#[derive(Clone, Debug)]
pub(crate) struct Bulk {
    pub(crate) tensor: u32,
    pub(crate) elements: Elements,
    /// Whether the next powers of τ are outputs' as well, so that what pads its first row must not be read.
    pub(crate) exact: bool,
}

/// The unwanted coefficients of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct Junk {
    pub(crate) op: u32,
    pub(crate) term: u32,
    pub(crate) batch: u32,
    /// Number of coefficients.
    pub(crate) positions: u32,
    /// Whether each is an output.
    pub(crate) wanted: Arc<[bool]>,
}

/// An operand of the scalar rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ref {
    Value(Src),
    Sweep(u32),
    Bulk(u32),
    Junk(u32),
    /// Result of a scalar row.
    Row(u32),
}

/// What a scalar row multiplies the result before it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mul {
    Zero,
    One,
    Rho,
    Tau,
}

/// What the result of a scalar row is in the lookup argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Folded {
    /// Table of rows.
    pub(crate) table: u32,
    /// Whether it is an entry, as often as its multiplicity says, or a use.
    pub(crate) entry: bool,
}

/// A table whose rows are looked up whole.
#[derive(Clone, Debug)]
pub(crate) struct RowTable {
    /// Scalar row of each entry, by its number.
    pub(crate) entries: Vec<u32>,
    /// Numbers that are read.
    pub(crate) reads: Vec<Src>,
}

/// `next = mul·acc + product·a·b + linear·a + constant + rho·ρ`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarRow {
    pub(crate) mul: Mul,
    pub(crate) product: i128,
    pub(crate) linear: i128,
    pub(crate) constant: i128,
    pub(crate) rho: i128,
    pub(crate) tau: i128,
    pub(crate) a: Option<Ref>,
    pub(crate) b: Option<Ref>,
    /// The result is zero.
    pub(crate) zero: bool,
    /// The result is an entry or a use of a table.
    pub(crate) folded: Option<Folded>,
    /// Operation that it belongs to.
    pub(crate) op: u32,
}

/// Where a tensor's elements are.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// Cells of a strip; the number is that of the template's output.
    Strip { strip: u32, out: u16 },
    /// Elements of other tensors, or constants.
    Alias(Arc<[Src]>),
    /// Weights in store columns.
    Store,
    /// Nowhere.
    None,
}

/// A tensor of the circuit that the program does not have.
#[derive(Clone, Debug)]
pub(crate) enum Virtual {
    /// Running maximum of rows of `n`: `n − 1` values per row.
    PrefixMax { x: Arc<[Src]>, n: u32 },
    /// Its index.
    PrefixArg { x: Arc<[Src]>, n: u32, last: bool },
    /// `±value·2^bits + index`.
    SortKey { values: u32, indices: u32, bits: u32, descending: bool },
    /// A sum of operands, each times a factor.
    Sum { op: u32, parts: Arc<[(i64, Operand)]> },
    /// A term of a [`crate::qir::OpKind::Linear`] on its own.
    Term { op: u32, term: u32 },
}

/// Everything but widths, columns and rows.
#[derive(Clone, Debug)]
pub(crate) struct Lowered {
    pub(crate) units: u32,
    pub(crate) strips: Vec<Strip>,
    pub(crate) homes: Vec<Home>,
    pub(crate) virtuals: Vec<Virtual>,
    pub(crate) functions: Arc<Vec<Function>>,
    /// Number of dynamic tables.
    pub(crate) dynamics: u32,
    pub(crate) sweeps: Vec<Sweep>,
    pub(crate) bulks: Vec<Bulk>,
    pub(crate) junks: Vec<Junk>,
    pub(crate) scalars: Vec<ScalarRow>,
    /// Tables whose rows are looked up whole.
    pub(crate) row_tables: Vec<RowTable>,
    /// Public values, in the order of the instance.
    pub(crate) public: Vec<Src>,
    /// Digests, in the order of the instance, after the public values.
    pub(crate) hashes: Vec<Hashed>,
    /// Tensors in columns of their own, in the order of the columns.
    pub(crate) committed: Vec<Committed>,
    /// Least and greatest weight in the store.
    pub(crate) store_bounds: (i64, i64),
    /// Whether the store's columns are fixed.
    pub(crate) store_fixed: bool,
    /// Whether weights in the store are hashed or committed, and so copied from it.
    pub(crate) store_told: bool,
    pub(crate) totals: Totals,
}

/// What layouts of any width cost by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Weights in the store.
    pub(crate) weights: usize,
    /// Lengths of the store's segments, and how many have each.
    pub(crate) segments: BTreeMap<usize, usize>,
    /// Coefficients of convolutions that no output needs.
    pub(crate) junk: usize,
    /// Whether any scalar row has a second operand.
    pub(crate) second: bool,
    /// Whether any sweep is over ports, and whether any is over outputs.
    pub(crate) swept: [bool; 2],
}

impl Totals {
    pub(crate) fn of(f: &Folder, junks: &[Junk]) -> Self {
        let mut segments: BTreeMap<usize, usize> = BTreeMap::new();
        f.bulks.iter().for_each(|b| *segments.entry(b.elements.len()).or_default() += 1);
        Totals {
            weights: segments.iter().map(|(length, times)| length * times).sum(),
            segments,
            junk: junks.iter().map(|j| j.positions as usize).sum(),
            second: f.scalars.iter().any(|r| r.b.is_some()),
            swept: [0, 1].map(|lane| f.sweeps.iter().any(|s| s.lane == lane)),
        }
    }

    /// Rows of the store for this many weights in each.
    pub(crate) fn bulk_rows(&self, per_row: usize) -> usize {
        self.segments.iter().map(|(length, times)| length.div_ceil(per_row) * times).sum()
    }
}

impl Lowered {
    /// Number of sources that operands and aliases list.
    pub(crate) fn sources(&self) -> usize {
        let operands = self.strips.iter().flat_map(|s| &s.operands).map(|o| match o {
            Operand::Own(_) => 0,
            Operand::Each(sources) => sources.len(),
        });
        let aliases = self.homes.iter().map(|h| if let Home::Alias(sources) = h { sources.len() } else { 0 });
        operands.chain(aliases).sum()
    }

    /// Drops what only copies and witnesses need: most of the memory of a large program.
    pub(crate) fn forget_sources(&mut self) {
        self.strips.iter_mut().for_each(|s| s.operands.clear());
        self.homes.iter_mut().filter(|h| matches!(h, Home::Alias(_))).for_each(|h| *h = Home::None);
    }
}
