//! The programs of a proving key: everything that is evaluated row by row, over the original domain or over a part of
//! the extended one.

mod builder;
mod classes;
mod constraints;
mod factors;
mod schedule;

use std::collections::BTreeSet;

use halo2_axiom::plonk::{Any, Column, ConstraintSystem, Expression};
use halo2curves::bn256::Fr;
use parhelion_dispatch::EngineProgram;

use self::builder::{Builder, Id};
use crate::memory::{CosetCache, Needs};
use crate::resident::KeyMirror;
use crate::{Engine, Error, Result};

/// From this k on, the numerator of h(X) is evaluated by several programs, which need fewer columns at a time. Below,
/// the memory is not worth the calls.
const SPLIT_FROM: u32 = 11;

/// Gates join a program while it reads no more columns than this, or than either reads alone: fewer calls, and more
/// shared subexpressions.
const COLUMNS: usize = 8;

/// A column that a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Fixed(usize),
    Advice(usize),
    Instance(usize),
    /// σ polynomial of the i-th column under the permutation argument.
    Sigma(usize),
    /// Running product of the i-th set of the permutation argument.
    PermutationProduct(usize),
    /// Compressed input and table of a lookup, before permuting.
    CompressedInput(usize),
    CompressedTable(usize),
    /// a', s' and z of a lookup.
    PermutedInput(usize),
    PermutedTable(usize),
    LookupProduct(usize),
    /// What the programs of the numerator that ran before gave.
    Sum,
    /// 1 at the first row, at the last usable row, and at the active rows.
    First,
    Last,
    Active,
}

impl From<Column<Any>> for Key {
    fn from(column: Column<Any>) -> Self {
        match column.column_type() {
            Any::Advice(_) => Key::Advice(column.index()),
            Any::Fixed => Key::Fixed(column.index()),
            Any::Instance => Key::Instance(column.index()),
        }
    }
}

/// A program with the columns that a call passes, in order.
#[derive(Clone, Debug)]
pub(crate) struct KeyProgram {
    pub(crate) program: EngineProgram<Fr>,
    pub(crate) columns: Vec<Key>,
}

/// A program of the numerator.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) program: KeyProgram,
    /// On how many cosets it runs, which determine its terms. Parts of one class, which have the same number, have one sum.
    pub(crate) cosets: usize,
}

/// The numerator of h(X): all terms, combined by powers of y; each program adds to the sum of those of its class before it. Challenges: the
/// circuit's own, then y, β, γ, θ.
#[derive(Clone, Debug)]
pub(crate) struct Numerator {
    pub(crate) parts: Vec<Part>,
    /// The memory of a proof.
    pub(crate) needs: Needs,
}

/// The programs of a constraint system. Challenges of each, in order: see the fields.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Numerators that take more memory than the last one, the fastest first.
    faster: Vec<Numerator>,
    leanest: Numerator,
    /// Input and table of each lookup, compressed by powers of θ. Challenges: the circuit's own, then θ.
    pub(crate) compress: Vec<KeyProgram>,
    /// Numerator and denominator of the factors of each permutation set. Challenges: β, γ.
    pub(crate) permutation: Vec<KeyProgram>,
    /// Numerator and denominator of the factors of one lookup, whose index in its columns is 0. Challenges: β, γ.
    pub(crate) lookup: Option<KeyProgram>,
    /// The key's columns on the cosets, where the memory budget allows.
    pub(crate) cosets: CosetCache,
    /// The key's columns on devices.
    pub(crate) mirror: KeyMirror,
}

impl Programs {
    /// For a circuit of 2^k rows.
    pub(crate) fn new(engine: &Engine, cs: &ConstraintSystem<Fr>, k: u32) -> Result<Self> {
        let load = |(program, columns)| KeyProgram { program: engine.load_program(program), columns };
        let lookups = cs.lookups().len();
        let compress =
            (0..lookups).map(|lookup| factors::compress(cs, lookup)).collect::<Result<Vec<_>>>()?;
        let sets = cs.permutation().get_columns().len().div_ceil(permutation_set(cs));
        let cosets = cs.degree() - 1;
        let budget = engine.memory_budget();
        // The fastest first.
        let unsplit = (k < SPLIT_FROM).then_some((usize::MAX, true));
        let forms = unsplit.into_iter().chain([(COLUMNS, true), (COLUMNS, false), (1, false)]);
        // Without a budget the fastest is taken.
        let mut forms = forms.take(if budget.is_none() { 1 } else { usize::MAX });
        let numerator = |(columns, by_degree)| -> Result<Numerator> {
            let parts = constraints::quotient(cs, k, columns, by_degree)?;
            let mut needs = Needs::new(cs, k, sets, 0, cosets);
            needs.live = schedule::peak(parts.iter().map(|part| part.columns.as_slice()));
            let own: BTreeSet<usize> = parts.iter().map(|part| part.cosets).filter(|c| *c < cosets).collect();
            needs.classes = own.iter().map(|cosets| cosets + 1).sum();
            let load = |part: constraints::Part| Part {
                program: load((part.program, part.columns)),
                cosets: part.cosets,
            };
            Ok(Numerator { parts: parts.into_iter().map(load).collect(), needs })
        };
        let mut leanest = numerator(forms.next().unwrap_or((COLUMNS, true)))?;
        let mut faster = Vec::new();
        for form in forms {
            let next = numerator(form)?;
            if next.needs.workspace() < leanest.needs.workspace() {
                faster.push(std::mem::replace(&mut leanest, next));
            }
        }
        Ok(Programs {
            faster,
            leanest,
            compress: compress.into_iter().map(load).collect(),
            permutation: (0..sets).map(|set| load(factors::permutation(cs, set))).collect(),
            lookup: (lookups > 0).then(|| load(factors::lookup())),
            cosets: CosetCache::default(),
            mirror: KeyMirror::default(),
        })
    }

    /// The fastest numerator with which a proof of so many circuits keeps within a budget, or else the leanest.
    pub(crate) fn numerator(&self, budget: Option<u64>, circuits: usize) -> &Numerator {
        let fits = |numerator: &&Numerator| numerator.needs.plan(budget, circuits).is_ok();
        self.faster.iter().find(fits).unwrap_or(&self.leanest)
    }
}

/// Number of columns that one set of the permutation argument holds.
pub(crate) fn permutation_set(cs: &ConstraintSystem<Fr>) -> usize {
    // `degree` is at least 3 for every constraint system: the permutation argument's own terms have it.
    cs.degree().saturating_sub(2).max(1)
}

/// Rotation at which the running products end.
pub(crate) fn last_rotation(cs: &ConstraintSystem<Fr>) -> i32 {
    -((cs.blinding_factors() + 1) as i32)
}

impl Builder<Key> {
    /// A halo2 expression; the circuit's challenges come first among the program's.
    fn expression(&mut self, expression: &Expression<Fr>) -> Result<Id> {
        Ok(match expression {
            Expression::Constant(value) => self.constant(*value),
            Expression::Selector(_) => {
                return Err(Error::Unsupported("a constraint system with virtual selectors".into()));
            }
            Expression::Fixed(q) => self.column(Key::Fixed(q.column_index()), q.rotation().0),
            Expression::Advice(q) => self.column(Key::Advice(q.column_index()), q.rotation().0),
            Expression::Instance(q) => self.column(Key::Instance(q.column_index()), q.rotation().0),
            Expression::Challenge(c) => self.challenge(c.index()),
            Expression::Negated(a) => {
                let a = self.expression(a)?;
                self.negate(a)
            }
            Expression::Sum(a, b) => {
                let (a, b) = (self.expression(a)?, self.expression(b)?);
                self.add(a, b)
            }
            Expression::Product(a, b) => {
                let (a, b) = (self.expression(a)?, self.expression(b)?);
                self.mul(a, b)
            }
            Expression::Scaled(a, factor) => {
                let (a, factor) = (self.expression(a)?, self.constant(*factor));
                self.mul(a, factor)
            }
        })
    }
}
