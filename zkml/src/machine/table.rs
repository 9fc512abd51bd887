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
        let columns = |s: &Section| match *s {
            Section::Range { .. } | Section::Dynamic { .. } | Section::Folded { .. } => 0,
            s => 1 + usize::from(self.second(s)),
        };
        [2, 1, 0].into_iter().flat_map(move |n| self.needed.iter().copied().filter(move |s| columns(s) == n))
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

    /// Which of the sets of `per_set` rows hold outputs, and which second outputs.
    pub(crate) fn outputs(&self, per_set: usize, sets: usize) -> Vec<(bool, bool)> {
        let mut out = vec![(false, false); sets];
        let mut at = 0;
        for section in self.sections() {
            let rows = self.rows(section);
            let second = self.second(section);
            if rows > 0 && !matches!(section, Section::Range { .. }) {
                for set in out.iter_mut().take((at + rows - 1) / per_set + 1).skip(at / per_set) {
                    *set = (true, set.1 || second);
                }
            }
            at += rows;
        }
        out
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
