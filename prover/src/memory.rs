//! How much memory a proof takes, and how it keeps within a budget.
//!
//! The memory of a proof has three parts, counted in columns of n scalars beside the key and the reference string:
//!
//! - **held**: what the protocol needs from the commitments to the openings: advice, instance, permuted columns and
//!   running products of every circuit, the mask, and the pieces of h(X);
//! - **workspace**: what a stage takes and gives back. The largest is that of h(X): the columns on the present coset that the
//!   program at hand and later ones read, the sums, and the result of the program. How many those are follows from how the
//!   numerator is divided into programs, and terms of low degree into classes;
//! - **cache**: the key's columns on every coset, kept from proof to proof, which saves their transforms.
//!
//! `PARHELION_MEMORY` (the engine's memory budget) bounds their sum. Without a budget nothing is cached and the numerator is
//! divided as far as that costs next to no time. With one, what is fastest and fits is chosen: the numerator is divided further
//! when it must be, commitments take fewer columns at a time, and what is left over goes to the cache. A budget that
//! not even the smallest plan fits is [`Error::Memory`], before anything is computed.
//!
//! The estimate covers columns, commitments and transforms; the circuit's own memory during synthesis is not known to
//! the prover. While the circuit assigns them, cells take 44 bytes each, or 76 if their value is a fraction.
//!
//! What a stage has freed goes back to the system before the stages that need other sizes: after the advice is committed, before
//! columns are interpolated, and before the pieces of h(X) are committed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use halo2_axiom::plonk::ConstraintSystem;
use halo2curves::bn256::Fr;

use crate::program::{Key, Programs};
use crate::{Engine, Error, Result};

/// Bytes per scalar of a commitment: its digits, and references sorted by them.
const COMMIT_BYTES: u64 = 64;
/// Scalars of one commitment call at most: a batch of this size already fills any device.
const COMMIT_SCALARS: usize = 1 << 18;
/// Scalars of one commitment call per thread of the host that keep it busy.
const COMMIT_SCALARS_PER_THREAD: usize = 1 << 12;

/// What a proof's memory was planned to be, and what the process came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryReport {
    /// `PARHELION_MEMORY`, in bytes, if it was set.
    pub budget: Option<u64>,
    /// Bytes that the proof holds from the commitments to the openings, beside key and reference string.
    pub held: u64,
    /// Bytes that the largest stage takes beside those.
    pub workspace: u64,
    /// Bytes of the key's columns on all cosets that are kept for the next proof.
    pub cached: u64,
    /// The largest resident set that the process has had so far, in bytes; `None` where the system does not tell.
    pub peak_rss: Option<u64>,
}

/// What one proof does about its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    budget: Option<u64>,
    held: u64,
    workspace: u64,
    cached: u64,
    /// Columns of 2^k scalars that one commitment call takes.
    pub(crate) commit_columns: usize,
}

/// What a plan depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) k: u32,
    /// Columns that a proof of one circuit holds.
    pub(crate) per_circuit: usize,
    /// Columns that every proof holds: the mask and the pieces.
    pub(crate) shared: usize,
    /// Columns on one coset that are there at once at most.
    pub(crate) live: usize,
    /// Columns of the classes of lower degree: their sum, and what comes of it on each of their cosets.
    pub(crate) classes: usize,
    /// Columns of the key on one coset, and the number of cosets.
    pub(crate) key: (usize, usize),
}

impl Needs {
    pub(crate) fn new(cs: &ConstraintSystem<Fr>, k: u32, sets: usize, live: usize, cosets: usize) -> Self {
        let sigma = cs.permutation().get_columns().len();
        Needs {
            k,
            per_circuit: cs.num_advice_columns() + cs.num_instance_columns() + 3 * cs.lookups().len() + sets,
            shared: 1 + cosets,
            live,
            classes: 0,
            key: (cs.num_fixed_columns() + sigma + 3, cosets),
        }
    }

    fn column(&self) -> u64 {
        (size_of::<Fr>() as u64) << self.k
    }

    /// The fastest plan within a budget; as an error, the bytes that the smallest one takes.
    pub(crate) fn plan(&self, budget: Option<u64>, circuits: usize) -> Result<Plan, u64> {
        let n = 1usize << self.k;
        let threads = rayon::current_num_threads();
        let held = (self.per_circuit * circuits + self.shared) as u64 * self.column();
        // Of the pieces only what is not yet computed is free during h(X); a transform takes a column per thread at most.
        let transform = if self.k >= 16 { 1 } else { threads.min(self.live.max(1)) };
        // Columns of the key that one circuit is done with stay for the next.
        let live = self.live + if circuits > 1 { self.key.0 } else { 0 };
        let quotient = (live + self.classes + 2 + transform) as u64 * self.column();
        let commit = |columns: usize| columns as u64 * n as u64 * COMMIT_BYTES;
        // Two columns hide the uneven ends of a call; more only take memory, unless they are short for the threads.
        let wanted = COMMIT_SCALARS.min((2 * n).max(threads * COMMIT_SCALARS_PER_THREAD)) / n;
        let least = held + quotient.max(commit(1));
        let Some(budget) = budget else {
            let workspace = quotient.max(commit(wanted.max(1)));
            return Ok(Plan { budget, held, workspace, cached: 0, commit_columns: wanted.max(1) });
        };
        if least > budget {
            return Err(least);
        }
        let room = budget - held;
        let commit_columns = wanted.min((room / commit(1)) as usize).max(1);
        let workspace = quotient.max(commit(commit_columns));
        let cached = (self.key.0 * self.key.1) as u64 * self.column();
        let cached = if cached <= room - workspace { cached } else { 0 };
        Ok(Plan { budget: Some(budget), held, workspace, cached, commit_columns })
    }

    /// Columns of the quotient's workspace that its form decides upon.
    pub(crate) fn workspace(&self) -> usize {
        self.live + self.classes
    }
}

impl Plan {
    /// The plan of a proof.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn new(engine: &Engine, programs: &Programs, circuits: usize) -> Result<Self> {
        let budget = engine.memory_budget();
        let plan = programs.numerator(budget, circuits).needs.plan(budget, circuits);
        plan.map_err(|needed| Error::Memory { budget: budget.unwrap_or(u64::MAX), needed })
    }

    /// For commitments outside of a proof.
    pub(crate) fn commit_columns(engine: &Engine, k: u32) -> usize {
        let needs = Needs { k, per_circuit: 0, shared: 0, live: 0, classes: 0, key: (0, 0) };
        needs.plan(engine.memory_budget(), 0).map_or(1, |plan| plan.commit_columns)
    }

    pub(crate) fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// Whether the key's columns on the cosets are kept.
    pub(crate) fn caches(&self) -> bool {
        self.cached > 0
    }

    pub(crate) fn report(&self) -> MemoryReport {
        let Plan { budget, held, workspace, cached, .. } = *self;
        MemoryReport { budget, held, workspace, cached, peak_rss: peak_rss() }
    }
}

/// Gives memory that was freed back to the system, between phases that need memory of different sizes: the allocator would keep it, and
/// could not always use it for what comes next.
pub(crate) fn release() {
    #[cfg(feature = "default-engine")]
    parhelion_backends::release_memory();
}

/// The high-water mark of the resident set, from Linux.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A key's columns on the cosets, by column and number of the coset, shared by all proofs of the key.
#[derive(Clone, Debug, Default)]
pub(crate) struct CosetCache {
    columns: Arc<Mutex<CosetColumns>>,
}

type CosetColumns = HashMap<(Key, usize), Arc<Vec<Fr>>>;

impl CosetCache {
    pub(crate) fn get(&self, key: Key, coset: usize) -> Option<Arc<Vec<Fr>>> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).get(&(key, coset)).cloned()
    }

    pub(crate) fn put(&self, key: Key, coset: usize, values: Vec<Fr>) -> Arc<Vec<Fr>> {
        let values = Arc::new(values);
        let mut columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        columns.entry((key, coset)).or_insert(values).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { k: 16, per_circuit: 20, shared: 5, live: 12, classes: 0, key: (20, 4) };

    #[test]
    fn the_floor_is_exact() {
        let Err(floor) = NEEDS.plan(Some(0), 1) else { panic!("nothing fits in nothing") };
        // 25 columns held; 12 live, the sum, a result and a transform's scratch beside them.
        assert_eq!(floor, (25 + 15) * (32 << 16));
        assert_eq!(NEEDS.plan(Some(floor - 1), 1).err(), Some(floor));
        let plan = NEEDS.plan(Some(floor), 1).unwrap();
        assert_eq!((plan.held + plan.workspace, plan.cached), (floor, 0));
        let classes = Needs { classes: 3, ..NEEDS };
        assert_eq!(classes.plan(Some(floor), 1).err(), Some(floor + 3 * (32 << 16)));
    }

    #[test]
    fn a_larger_budget_goes_to_the_cache_and_never_beyond_it() {
        for mb in (90..400).step_by(7) {
            let budget = mb << 20;
            let plan = NEEDS.plan(Some(budget), 1).unwrap();
            assert!(plan.held + plan.workspace + plan.cached <= budget, "{mb} MiB");
        }
        assert!(NEEDS.plan(Some(1 << 30), 1).unwrap().caches());
        assert!(!NEEDS.plan(None, 1).unwrap().caches(), "nobody asked for it");
    }

    #[test]
    fn every_circuit_counts() {
        let held = |circuits| NEEDS.plan(None, circuits).unwrap().held;
        assert_eq!(held(3) - held(2), 20 * (32 << 16));
    }
}
