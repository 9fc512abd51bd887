//! Values that a circuit is lent while it is synthesized.
//!
//! `Assignment::assign_advice` returns a reference whose lifetime the caller names freely, so no safe code can return
//! one short of leaking memory. Upstream returns a pointer into its columns; here values are appended to chunks that
//! never move and never change, which rules out two of the three ways to misuse such a reference (a cell that is
//! assigned again, a column that is moved). The third is left, as in upstream: a circuit that hides a reference and
//! reads it after `synthesize` has returned.

use halo2_axiom::plonk::Assigned;
use halo2curves::bn256::Fr;

/// Large enough for an allocator to give the memory back when it is freed.
const CHUNK: usize = 1 << 12;

/// An append-only store.
#[derive(Debug, Default)]
pub(super) struct Lender {
    chunks: Vec<Vec<Assigned<Fr>>>,
}

impl Lender {
    /// Stores a value and lends it.
    pub(super) fn lend<'v>(&mut self, value: Assigned<Fr>) -> &'v Assigned<Fr> {
        if matches!(value, Assigned::Zero) {
            return &Assigned::Zero;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        chunk.push(value);
        let lent: *const Assigned<Fr> = &chunk[chunk.len() - 1];
        // SAFETY: the value lies in the heap block of a `Vec` that is never grown past its capacity, so the block is not moved
        // or freed while `self` lives, and no element is written again after it is pushed. `self` outlives the synthesis that
        // reads the reference (`collect` drops it after `FloorPlanner::synthesize` returns), which is the contract of
        // `Assignment::assign_advice`.
        #[expect(unsafe_code, reason = "the trait's signature promises an unbounded lifetime")]
        unsafe {
            &*lent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_values_stay_while_others_are_appended() {
        let mut lender = Lender::default();
        let lent: Vec<&Assigned<Fr>> =
            (0..3 * CHUNK as u64).map(|i| lender.lend(Assigned::Trivial(Fr::from(i)))).collect();
        assert!(lent.iter().enumerate().all(|(i, v)| v.evaluate() == Fr::from(i as u64)));
    }
}
