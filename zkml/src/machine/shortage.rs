//! What a program needs that no layout within the limits gives: rows, columns, memory, and which layers take them.

use std::collections::HashMap;
use std::fmt;

use crate::qir::{OpKind, Program, Role};
use crate::session::Need;

use super::cost::Counts;
use super::layout::{BLINDED, Sized};
use super::lowered::{Lowered, Strip};
use super::plan::{MAX_K, PlanError};

/// Elements from which on a program is refused by their number alone, since lowering it takes long.
const COUNTED: u64 = 1 << 22;

/// Layers that are named.
const NAMED: usize = 3;

/// Why no layout fits, and what would.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// log₂ of the number of rows that is allowed.
    pub max_k: u32,
    /// Rows that are needed: at least these, where no layout was looked at.
    pub rows: u64,
    /// log₂ of the number of rows that fits, where a layout was found.
    pub k: Option<u32>,
    /// Columns of that layout.
    pub columns: usize,
    /// Bytes of memory that its keys and proofs take.
    pub bytes: u64,
    /// What takes the most rows, greatest first: names and rows.
    pub layers: Vec<(String, u64)>,
}

impl std::error::Error for Shortage {}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no layout fits 2^{} rows", self.max_k)?;
        if self.rows > 0 {
            write!(f, ": at least {} are needed", self.rows)?;
        }
        for (at, (name, rows)) in self.layers.iter().enumerate() {
            write!(f, "{}{name} {rows}", if at == 0 { " (" } else { ", " })?;
        }
        if !self.layers.is_empty() {
            write!(f, ")")?;
        }
        if let Some(k) = self.k {
            if k > MAX_K {
                return write!(f, "; 2^{k} rows would fit, and no circuit has more than 2^{MAX_K}");
            }
            let gigabytes = self.bytes.div_ceil(1 << 30);
            write!(
                f,
                "; 2^{k} fit (--max-k {k}): {} columns, about {gigabytes} GiB of memory",
                self.columns
            )?;
        }
        Ok(())
    }
}

impl From<Shortage> for PlanError {
    fn from(shortage: Shortage) -> Self {
        PlanError::TooLarge(Box::new(shortage))
    }
}

/// The layers of the most rows, those of one name together.
fn greatest(rows: impl IntoIterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut by_name: HashMap<String, u64> = HashMap::new();
    rows.into_iter().for_each(|(name, rows)| *by_name.entry(name).or_default() += rows);
    let mut all: Vec<(String, u64)> = by_name.into_iter().collect();
    all.sort_by(|x, y| y.1.cmp(&x.1).then_with(|| x.0.cmp(&y.0)));
    all.truncate(NAMED);
    all
}

impl Shortage {
    /// Nothing is known but the limit.
    pub(super) fn unknown(max_k: u32) -> Self {
        Shortage { max_k, rows: 0, k: None, columns: 0, bytes: 0, layers: Vec::new() }
    }

    /// Of a program that no layout of any number of rows was found for.
    pub(super) fn beyond(l: &Lowered, max_k: u32) -> Self {
        let rows = |s: &Strip| u64::from(s.span / l.units);
        Shortage {
            rows: l.strips.iter().map(rows).sum(),
            layers: greatest(l.strips.iter().map(|s| (s.name.clone(), rows(s)))),
            ..Self::unknown(max_k)
        }
    }

    /// Of a layout that needs more rows than are allowed.
    pub(super) fn of(l: &Lowered, sized: &Sized, max_k: u32) -> Self {
        let units = l.units as usize;
        let codes = |at: usize| sized.placed[sized.spec_of[at] as usize].packed.codes.len();
        let strips = l.strips.iter().enumerate();
        let unit_rows = strips.map(|(at, s)| (s.name.clone(), (s.span as usize / units * codes(at)) as u64));
        let others = [
            (sized.unit_rows, None),
            (sized.bulk_rows, Some("stored weights")),
            (l.scalars.len(), Some("sums of folded rows")),
            (l.public.len() + l.hashes.len(), Some("public values")),
        ];
        let (rows, name) = others.into_iter().max_by_key(|(rows, _)| *rows).unwrap_or_default();
        let layers = match name {
            None => greatest(unit_rows),
            Some(name) => vec![(name.to_owned(), rows as u64)],
        };
        let counts = Counts::estimate(l, sized);
        let columns = counts.first + counts.late + counts.fixed + counts.equality + counts.running_products();
        Shortage {
            max_k,
            rows: (rows + 1 + BLINDED) as u64,
            k: Some(sized.choice.k),
            columns,
            bytes: Need::of(&counts).peak(),
            layers,
        }
    }
}

/// A bound on rows by the number of elements alone.
pub(super) struct Bound {
    elements: u64,
    shortage: Shortage,
}

impl Bound {
    /// Of a program that may be too large.
    pub(super) fn of(program: &Program, max_k: u32) -> Option<Self> {
        // A view has no cells, a sum may have none, and of a maximum's row one element is free.
        let own = program.ops.iter().filter_map(|op| {
            let len = |id: &crate::qir::TensorId| program.tensor(*id).len() as u64;
            let out = op.outputs.first().map_or(0, len);
            let elements = match &op.kind {
                OpKind::View { .. } => 0,
                OpKind::Linear { shift: 0, .. } => 0,
                OpKind::Max { x } | OpKind::ArgMax { x, .. } => len(x) - out,
                _ => out,
            };
            (elements > 0).then(|| (op.name.clone(), elements))
        });
        let given = program.tensors.iter().filter(|t| t.role == Role::Input);
        let layers: Vec<(String, u64)> = own.chain(given.map(|t| (t.name.clone(), t.len() as u64))).collect();
        let elements = layers.iter().map(|(_, n)| n).sum();
        let many = elements > COUNTED;
        many.then(|| Bound {
            elements,
            shortage: Shortage { layers: greatest(layers), ..Shortage::unknown(max_k) },
        })
    }

    /// Refuses what needs more rows than are allowed, with this many elements in each.
    pub(super) fn check(mut self, units: u32) -> Result<(), PlanError> {
        let rows = self.elements / u64::from(units);
        if rows >> self.shortage.max_k == 0 {
            return Ok(());
        }
        self.shortage.rows = rows;
        self.shortage.layers.iter_mut().for_each(|(_, n)| *n /= u64::from(units));
        Err(self.shortage.into())
    }
}
