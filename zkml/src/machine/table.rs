//! The sections of the lookup tables.
//!
//! All lookups of a circuit share one logUp sum over tuples `(tag, in, out, second)`. A section is a set of tuples under one tag. The tag
//! enters the denominators with a challenge of its own, so that no value, however wide, reaches another section.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sites::{Site, on};

/// A set of tuples under one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Section {
    /// `[0, 2^bits)`, or `[−2^(bits−1), 2^(bits−1))`.
    Range { signed: bool, bits: u32 },
    /// `(x, 1 where x ≥ 0)` over the signed range.
    Sign { bits: u32 },
    /// `(x, max(x, 0))` over the signed range.
    Relu { bits: u32 },
    /// A function of the model.
    Function { table: u32 },
    /// Entries provided by cells of the circuit itself.
    Dynamic { id: u32 },
    /// Rows of a table of the circuit itself, each folded into one value with its number.
    Folded { id: u32 },
}

/// A function given by its values at consecutive integers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    pub(crate) first: i64,
    pub(crate) values: Arc<[i64]>,
    pub(crate) second: Option<Arc<[i64]>>,
}

/// Consecutive entries of a section in consecutive rows of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) section: Section,
    /// Position of the first entry in its section.
    pub(crate) from: usize,
    pub(crate) len: usize,
    pub(crate) set: usize,
    /// Row of the first entry.
    pub(crate) row: usize,
}

/// A set of table columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// The section that fills the set, and the position of the first entry: tag and inputs need no columns of their own.
    pub(crate) whole: Option<(Section, usize)>,
    /// Whether the set has a column of outputs.
    pub(crate) output: bool,
    /// Whether it has a column of second outputs.
    pub(crate) second: bool,
}

/// The functions of a model and the sections that its circuit uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) functions: Arc<Vec<Function>>,
    needed: BTreeSet<Section>,
}

impl Tables {
    pub(crate) fn new(functions: Arc<Vec<Function>>) -> Self {
        Tables { functions, needed: BTreeSet::new() }
    }

    pub(crate) fn need(&mut self, section: Section) {
        self.needed.insert(section);
    }

    /// In the order of their rows: those with second outputs, those with outputs, the rest, so that as few sets as can be have such columns.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Section> + '_ {
        [2, 1, 0]
            .into_iter()
            .flat_map(move |n| self.needed.iter().copied().filter(move |s| self.outputs(*s) == n))
    }

    /// Number of outputs of a section.
    fn outputs(&self, section: Section) -> usize {
        match section {
            Section::Range { .. } | Section::Dynamic { .. } | Section::Folded { .. } => 0,
            s => 1 + usize::from(self.second(s)),
        }
    }

    fn second(&self, section: Section) -> bool {
        matches!(section, Section::Function { table }
            if self.functions.get(table as usize).is_some_and(|f| f.second.is_some()))
    }

    /// Tag of a needed section; 0 belongs to no section.
    pub(crate) fn tag(&self, section: Section) -> u64 {
        let at = self.needed.iter().position(|&s| s == section);
        at.filter(|_| on(Site::LookupTag)).map_or(0, |at| at as u64 + 1)
    }

    /// Number of fixed rows of a section.
    pub(crate) fn rows(&self, section: Section) -> usize {
        match section {
            Section::Range { bits, .. } | Section::Sign { bits } | Section::Relu { bits } => 1 << bits,
            Section::Function { table } => self.functions.get(table as usize).map_or(0, |f| f.values.len()),
            Section::Dynamic { .. } | Section::Folded { .. } => 0,
        }
    }

    /// Where all entries stand in sets of `per_set` rows: what fills sets alone comes first, then the rest of every section.
    pub(crate) fn runs(&self, per_set: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut set = 0;
        for section in self.sections() {
            for i in 0..self.rows(section) / per_set {
                runs.push(Run { section, from: i * per_set, len: per_set, set, row: 0 });
                set += 1;
            }
        }
        let mut row = 0;
        for section in self.sections() {
            let rows = self.rows(section);
            let mut from = rows - rows % per_set;
            while from < rows {
                let len = (rows - from).min(per_set - row);
                runs.push(Run { section, from, len, set, row });
                (from, row) = (from + len, row + len);
                if row == per_set {
                    (set, row) = (set + 1, 0);
                }
            }
        }
        runs
    }

    /// Number of sets of `per_set` rows, and of their fixed columns: one for the numbers of the rows where sections fill sets, two of keys for
    /// every other set, and those of outputs.
    pub(crate) fn columns(&self, per_set: usize) -> (usize, usize) {
        let (mut whole, mut rest, mut sets, mut columns) = (0, 0, 0, 0);
        for section in self.sections() {
            let (rows, outputs) = (self.rows(section), self.outputs(section));
            whole += rows / per_set;
            columns += rows / per_set * outputs;
            rest += rows % per_set;
            // The first section of a set has the most outputs.
            columns += (rest.div_ceil(per_set) - sets) * (2 + outputs);
            sets = rest.div_ceil(per_set);
        }
        (whole + sets, columns + usize::from(whole > 0))
    }

    /// What the sets of `per_set` rows hold.
    pub(crate) fn sets(&self, runs: &[Run], per_set: usize) -> Vec<Set> {
        let mut sets: Vec<Set> = Vec::new();
        for run in runs {
            if sets.len() <= run.set {
                sets.push(Set::default());
            }
            let Some(set) = sets.last_mut() else { continue };
            let outputs = self.outputs(run.section);
            (set.output, set.second) = (set.output || outputs > 0, set.second || outputs > 1);
            set.whole = (run.len == per_set).then_some((run.section, run.from));
        }
        sets
    }

    /// Least input of a section.
    pub(crate) fn first(&self, section: Section) -> i64 {
        match section {
            Section::Range { signed: false, .. } | Section::Dynamic { .. } | Section::Folded { .. } => 0,
            Section::Range { bits, .. } | Section::Sign { bits } | Section::Relu { bits } => {
                -(1i64 << (bits - 1))
            }
            Section::Function { table } => self.functions.get(table as usize).map_or(0, |f| f.first),
        }
    }

    /// Outputs at the `at`-th input of a section.
    pub(crate) fn entry(&self, section: Section, at: usize) -> (i64, i64) {
        let x = self.first(section) + at as i64;
        match section {
            Section::Range { .. } | Section::Dynamic { .. } | Section::Folded { .. } => (0, 0),
            Section::Sign { .. } => ((x >= 0).into(), 0),
            Section::Relu { .. } => (x.max(0), 0),
            Section::Function { table } => self.functions.get(table as usize).map_or((0, 0), |f| {
                let second = f.second.as_ref().and_then(|s| s.get(at)).copied();
                (f.values.get(at).copied().unwrap_or(0), second.unwrap_or(0))
            }),
        }
    }

    /// Position of an input in its section.
    pub(crate) fn position(&self, section: Section, x: i128) -> Option<usize> {
        let at = x.checked_sub(self.first(section).into())?;
        usize::try_from(at).ok().filter(|&at| at < self.rows(section))
    }

    /// Whether any section has a second output.
    pub(crate) fn has_second(&self) -> bool {
        self.needed.iter().any(|s| self.second(*s))
    }

    /// Whether any section has an output.
    pub(crate) fn has_output(&self) -> bool {
        self.needed.iter().any(|s| !matches!(s, Section::Range { .. } | Section::Folded { .. }))
    }

    /// Whether any section is provided by cells.
    pub(crate) fn has_dynamic(&self) -> bool {
        self.needed.iter().any(|s| matches!(s, Section::Dynamic { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry stands in one row of a set, the counts are those of the sets, and sections fill as many sets as they can.
    #[test]
    fn entries_have_a_row_each() {
        let function = |n: i64, pair: bool| {
            let values: Arc<[i64]> = (0..n).collect();
            Function { first: -3, values: values.clone(), second: pair.then_some(values) }
        };
        let functions = Arc::new(vec![function(40, true), function(7, false), function(33, true)]);
        let mut tables = Tables::new(functions);
        for table in 0..3 {
            tables.need(Section::Function { table });
        }
        for bits in [1, 3, 5, 6] {
            tables.need(Section::Range { signed: bits % 2 == 0, bits });
        }
        tables.need(Section::Sign { bits: 4 });
        let all: usize = tables.sections().map(|s| tables.rows(s)).sum();
        for per_set in 1..=all + 1 {
            let runs = tables.runs(per_set);
            let sets = tables.sets(&runs, per_set);
            let mut places: Vec<(usize, usize)> =
                runs.iter().flat_map(|r| (r.row..r.row + r.len).map(|row| (r.set, row))).collect();
            let mut entries: Vec<(Section, usize)> =
                runs.iter().flat_map(|r| (r.from..r.from + r.len).map(|at| (r.section, at))).collect();
            assert!(places.is_sorted() && places.iter().all(|p| p.1 < per_set && p.0 < sets.len()));
            places.dedup();
            entries.sort_unstable();
            entries.dedup();
            assert_eq!((places.len(), entries.len()), (all, all));
            let columns =
                |s: &Set| 2 * usize::from(s.whole.is_none()) + usize::from(s.output) + usize::from(s.second);
            let shared = usize::from(sets.iter().any(|s| s.whole.is_some()));
            let counted = (sets.len(), shared + sets.iter().map(columns).sum::<usize>());
            assert_eq!(tables.columns(per_set), counted);
            assert_eq!(sets.len(), all.div_ceil(per_set));
            for section in tables.sections() {
                let filled = sets.iter().filter(|s| s.whole.is_some_and(|w| w.0 == section)).count();
                assert!(filled >= tables.rows(section) / per_set);
            }
        }
    }
}
