//! What a proof of a circuit costs: its bytes exactly, its time from the rates of a prover's operations.
//!
//! A proof is a few kinds of work, each proportional to something that a layout knows: cells that are assigned, elements that are committed
//! (by the width of their values), transforms of columns to the D = degree − 1 cosets of the quotient and back, multiplications of the
//! quotient's program, evaluations and combinations for the opening. [`Rates`] are the times of one of each; the default ones are a least
//! squares fit to the stages of proofs of the example models on two cores with AVX-512 IFMA. What the planner needs of them is their ratios.

use serde::{Deserialize, Serialize};

use super::factor::Factored;
use super::layout::{Layout, LookupLane, Mono, Sized, UnitSlot};
use super::lowered::Lowered;
use super::poseidon::gadget::COLUMNS as HASH_COLUMNS;

/// Fixed columns of digests, columns of a lane that are opened at two rows, and multiplications of its gates.
const HASH_FIXED: usize = 13;
const HASH_ROTATED: usize = 5;
const HASH_PRODUCTS: usize = 150;

/// What a proof is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// log₂ of the number of rows.
    pub k: u32,
    /// Degree of the constraint system.
    pub degree: usize,
    /// Cells of the first phase that are assigned.
    pub narrow_cells: usize,
    /// Cells of the later phases that are assigned.
    pub full_cells: usize,
    /// Advice columns of the first phase.
    pub first: usize,
    /// Advice columns of the later phases.
    pub late: usize,
    /// Advice columns that are opened at a row and the next one.
    pub rotated: usize,
    /// Fixed columns.
    pub fixed: usize,
    /// Columns of the permutation argument.
    pub equality: usize,
    /// Instance columns.
    pub instances: usize,
    /// Multiplications per row of the gates.
    pub products: usize,
}

impl Counts {
    /// Of a layout.
    pub(crate) fn of(layout: &Layout) -> Self {
        let (l, s) = (&layout.lowered, &layout.sized);
        let fixed = layout.unit_field.columns
            + layout.bulk_field.columns
            + layout.scalar_field.columns
            + layout.hash.field.columns
            + usize::from(!layout.constants.is_empty());
        let units = s.choice.units as usize;
        let work = |field: &Factored<UnitSlot>| -> usize {
            let one = |(slot, combo): (&UnitSlot, &Vec<_>)| {
                let times = |mono: &Mono| units * (1 + usize::from(matches!(mono, Mono::Quad(..))));
                combo.len()
                    + match slot {
                        UnitSlot::Eq(_, mono) => (units - 1) * combo.len() + times(mono),
                        UnitSlot::Port(.., mono) => times(mono),
                        _ => 1,
                    }
            };
            field.slots.iter().map(one).sum()
        };
        let lanes = [layout.sweeping(0), layout.sweeping(1)];
        let quadratic =
            layout.unit_field.slots.keys().any(|s| matches!(s, UnitSlot::Port(.., Mono::Quad(..))));
        let equality = if layout.equal.is_empty() { equality(l, s, lanes) } else { layout.equal.len() };
        let work = work(&layout.unit_field);
        Self::assemble(l, s, &layout.lanes, lanes, fixed, quadratic, equality, work)
    }

    /// Of a candidate, before it is laid out.
    pub(crate) fn estimate(l: &Lowered, s: &Sized) -> Self {
        let f = s.figures;
        let units = s.choice.units as usize;
        let scalars = !l.scalars.is_empty();
        let fixed = f.codes
            + usize::from(!l.sweeps.is_empty())
            + 2 * usize::from(!l.bulks.is_empty())
            + 2 * usize::from(!l.junks.is_empty())
            + if scalars { 7 } else { 0 }
            + if l.row_tables.is_empty() { 0 } else { 2 }
            + if s.hash.lanes > 0 { HASH_FIXED } else { 0 }
            + 1;
        let lanes = l.totals.swept;
        let work = (1 + units) * f.monomials.0 + units * (f.monomials.1 + f.ports.0 + f.ports.1) + f.codes;
        let equality = equality(l, s, lanes);
        Self::assemble(l, s, &s.lanes(l), lanes, fixed, f.ports.1 > 0, equality, work)
    }

    #[expect(clippy::too_many_arguments, reason = "what an exact count and an estimate differ in")]
    fn assemble(
        l: &Lowered,
        s: &Sized,
        lookups: &[LookupLane],
        lanes: [bool; 2],
        fixed: usize,
        quadratic_port: bool,
        equality: usize,
        work: usize,
    ) -> Self {
        let group = usize::from(s.choice.lanes.max(1));
        let n = s.usable();
        let units = s.choice.units as usize;
        let phis = lookups.len().div_ceil(group);
        let bulk = usize::from(!l.bulks.is_empty() || !l.junks.is_empty());
        let junk = usize::from(!l.junks.is_empty());
        let scalars = usize::from(!l.scalars.is_empty());
        let second = usize::from(l.totals.second);
        let swept = lanes.iter().filter(|l| **l).count();
        let store = s.choice.store as usize;
        let (advice_store, fixed_store) = if l.store_fixed { (0, store) } else { (store, 0) };
        let weights = l.totals.weights;
        let degrees = [
            if phis > 0 { 2 + group.min(lookups.len()) } else { 3 },
            if quadratic_port && swept > 0 { 4 } else { 3 },
            if second > 0 || s.hash.lanes > 0 { 4 } else { 3 },
        ];
        let exposed = s.extra_columns(l);
        let folded = usize::from(!l.row_tables.is_empty());
        let hash = s.hash.lanes * s.hash.rows * HASH_COLUMNS;
        let arguments = 5 * lookups.len();
        Counts {
            k: s.choice.k,
            degree: degrees.into_iter().max().unwrap_or(3),
            narrow_cells: s.cells + weights * s.store_limbs.max(1) as usize * usize::from(!l.store_fixed),
            full_cells: phis * n
                + hash
                + s.bulk_rows * bulk
                + l.totals.junk
                + swept * s.unit_rows
                + l.scalars.len() * (2 * scalars + second),
            first: units * s.shape.cells() as usize + advice_store + s.table_sets + exposed + folded,
            late: phis + junk + bulk + swept + 2 * scalars + second,
            rotated: phis + bulk + swept + scalars + s.hash.lanes * HASH_ROTATED,
            fixed: fixed + fixed_store + s.table_columns + 2,
            equality,
            instances: usize::from(l.public.len() + l.hashes.len() > 0),
            products: work + arguments + 2 * store + 3 * swept + 12 * scalars + s.hash.lanes * HASH_PRODUCTS,
        }
    }

    /// Running products of the permutation argument.
    pub fn running_products(&self) -> usize {
        self.equality.div_ceil(self.degree.max(3) - 2)
    }

    /// Length of a proof with the SHPLONK opening.
    pub fn proof_bytes(&self) -> usize {
        let advice = self.first + self.late;
        let running = self.running_products();
        let commitments = advice + running + 1 + (self.degree.max(2) - 1) + 2;
        let evaluations =
            advice + self.rotated + self.fixed + self.equality + 1 + (3 * running).saturating_sub(1);
        32 * (commitments + evaluations)
    }
}

/// Times of a prover's operations, in picoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Computing and assigning a cell of the first phase.
    pub narrow_cell: u64,
    /// Computing and assigning a cell of a later phase.
    pub full_cell: u64,
    /// Committing to an element of a few bits.
    pub narrow: u64,
    /// Committing to an element of full width.
    pub full: u64,
    /// One layer of a transform, per element.
    pub butterfly: u64,
    /// One multiplication of the quotient's program, per row of a coset.
    pub product: u64,
    /// Evaluating a polynomial at a point and combining it for the opening, per coefficient.
    pub opening: u64,
    /// What each commitment costs however short it is.
    pub column: u64,
    /// What the opening of each column costs however short it is.
    pub evaluation: u64,
    /// What each proof costs.
    pub proof: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            narrow_cell: 130_000,
            full_cell: 300_000,
            narrow: 60_000,
            full: 600_000,
            butterfly: 2_500,
            product: 3_000,
            opening: 6_000,
            column: 500_000_000,
            evaluation: 30_000_000,
            proof: 5_000_000_000,
        }
    }
}

/// Predicted times of a proof, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Assigning the cells.
    pub synthesis: f64,
    /// Committing to advice columns.
    pub commit: f64,
    /// The permutation argument and the mask.
    pub permutation: f64,
    /// Columns to polynomials.
    pub interpolation: f64,
    /// The quotient.
    pub quotient: f64,
    /// Commitments of the quotient.
    pub commit_quotient: f64,
    /// Evaluations and the opening.
    pub opening: f64,
    /// What does not depend on the size.
    pub constant: f64,
}

impl Prediction {
    /// The whole.
    pub fn total(&self) -> f64 {
        self.synthesis
            + self.commit
            + self.permutation
            + self.interpolation
            + self.quotient
            + self.commit_quotient
            + self.opening
            + self.constant
    }
}

impl Rates {
    /// Predicts the time of a proof.
    pub fn predict(&self, c: &Counts) -> Prediction {
        let n = (1u64 << c.k) as f64;
        let log = f64::from(c.k);
        let ms = |count: f64, rate: u64| count * rate as f64 / 1e9;
        let (narrow_cells, full_cells) = (c.narrow_cells as f64, c.full_cells as f64);
        let running = c.running_products() as f64;
        let advice = (c.first + c.late) as f64;
        let cosets = (c.degree.max(2) - 1) as f64;
        let columns = advice + running + c.instances as f64;
        let all = columns + c.fixed as f64 + c.equality as f64 + 3.0;
        // Per running product: the factors of its columns, their quotient, and the product.
        let factors = 2.0 * c.equality as f64 + 4.0 * running;
        let transform = n * log;
        Prediction {
            synthesis: ms(narrow_cells, self.narrow_cell) + ms(full_cells, self.full_cell),
            commit: ms(narrow_cells, self.narrow) + ms(full_cells, self.full) + ms(advice, self.column),
            permutation: ms((running + 1.0) * n, self.full)
                + ms(running + 1.0, self.column)
                + ms(4.0 * factors * n, self.product),
            interpolation: ms(columns * transform, self.butterfly),
            quotient: cosets
                * (ms((all + 1.0) * transform, self.butterfly)
                    + ms(n * (c.products as f64 + 3.0 * c.equality as f64), self.product)),
            commit_quotient: ms(cosets * n, self.full) + ms(cosets, self.column),
            opening: ms(n * all, self.opening)
                + ms(all, self.evaluation)
                + ms(2.0 * n, self.full)
                + ms(2.0, self.column),
            constant: ms(1.0, self.proof),
        }
    }
}

/// Columns of the permutation argument, before copies are known.
fn equality(l: &Lowered, s: &Sized, lanes: [bool; 2]) -> usize {
    let bulk = usize::from(!l.bulks.is_empty() || !l.junks.is_empty());
    let swept = lanes.iter().filter(|l| **l).count();
    let scalars = 2 * usize::from(!l.scalars.is_empty()) + usize::from(l.totals.second);
    let constants = 1;
    let instance = usize::from(l.public.len() + l.hashes.len() > 0);
    let units = s.choice.units as usize * s.equal;
    let store = if l.store_told { s.choice.store as usize } else { 0 };
    units + bulk + swept + scalars + constants + instance + store + s.extra_columns(l)
}
