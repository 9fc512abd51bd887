//! Which weights live in store columns.
//!
//! A weight that is nothing but a coefficient of polynomials has no cell among the units: it stands in a column of the store, which is
//! range-checked whole and swept once. Every weight of a large model passes through here, so polynomials are kept as [`Elements`] and the
//! weights that they cover as one bit each.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::qir::{Role, TensorId, Term};

use super::identity::Wanted;
use super::lower::Lowerer;
use super::lowered::{Bulk, Elements, Home, Operand, Src};
use super::num::hull;
use super::plan::PlanError;
use super::poseidon::width;
use super::template::Spec;
use super::visibility::Vis;

/// Widest weight that a store column may hold whole.
const STORE_BITS: u32 = 18;

/// What the store holds: polynomials, the least and greatest weight, and whether any of it is hashed or committed.
pub(super) struct Stored {
    pub(super) bulks: Vec<Bulk>,
    pub(super) bounds: (i64, i64),
    pub(super) told: bool,
}

/// Polynomials over weights, of which no two share an element.
#[derive(Default)]
struct Segments {
    all: Vec<Bulk>,
    /// Polynomial by tensor and first element.
    by_first: HashMap<(u32, u32), usize>,
    /// Elements of each tensor that a polynomial has.
    taken: HashMap<u32, Vec<u64>>,
}

impl Segments {
    fn last(&self) -> Option<&Elements> {
        self.all.last().map(|bulk| &bulk.elements)
    }

    /// Whether the polynomial is there, or could be added.
    fn add(&mut self, tensor: u32, elements: Cow<'_, Elements>, exact: bool) -> bool {
        if let Some(&at) = self.by_first.get(&(tensor, elements.first())) {
            let known = &mut self.all[at];
            known.exact |= exact;
            return known.elements.same(&elements);
        }
        let taken = self.taken.entry(tensor).or_default();
        let place = |index: u32| (index as usize / 64, 1u64 << (index % 64));
        let free = |index: u32| {
            let (word, bit) = place(index);
            taken.get(word).is_none_or(|word| word & bit == 0)
        };
        if !elements.iter().all(free) {
            return false;
        }
        for index in elements.iter() {
            let (word, bit) = place(index);
            if taken.len() <= word {
                taken.resize(word + 1, 0);
            }
            taken[word] |= bit;
        }
        self.by_first.insert((tensor, elements.first()), self.all.len());
        self.all.push(Bulk { tensor, elements: elements.into_owned(), exact });
        true
    }
}

impl Lowerer<'_> {
    /// Decides which weights live in the store, and imports or fixes the others.
    pub(super) fn place_weights(&mut self) -> Result<Stored, PlanError> {
        let mut wired: BTreeSet<u32> = BTreeSet::new();
        let is_weight = |tensor: u32| {
            self.p
                .tensors
                .get(tensor as usize)
                .is_some_and(|t| matches!(t.role, Role::Param | Role::Constant))
        };
        let mut wire = |src: Src| {
            if let Src::Cell { tensor, .. } = src
                && is_weight(tensor)
            {
                wired.insert(tensor);
            }
        };
        for strip in &self.strips {
            for operand in &strip.operands {
                match operand {
                    Operand::Own(tensor) => wire(Src::Cell { tensor: *tensor, index: 0 }),
                    Operand::Each(sources) => sources.iter().copied().for_each(&mut wire),
                }
            }
        }
        for sort in &self.sorts {
            sort.x.iter().copied().for_each(&mut wire);
        }
        for (_, index, _) in self.row_tables.iter().flat_map(|table| &table.reads) {
            self.sources(*index).into_iter().for_each(&mut wire);
        }
        // The verifier compares what it sees of the outputs with their bounds.
        let mut shown: BTreeSet<u32> = BTreeSet::new();
        for (&out, &vis) in self.p.outputs.iter().zip(&self.exposure.outputs) {
            for src in self.sources(out) {
                match src {
                    Src::Cell { tensor, .. } if vis == Vis::Public && is_weight(tensor) => {
                        shown.insert(tensor);
                    }
                    _ => wire(src),
                }
            }
        }
        for task in &self.tasks {
            for term in self.frame(task).1 {
                if let Term::Sum { x, .. } | Term::Scale { x, .. } = term {
                    self.sources(*x).into_iter().for_each(&mut wire);
                }
            }
        }
        // A weight is stored where every polynomial that touches it is over consecutive powers of τ, and two of them are equal or disjoint.
        let mut list = Segments::default();
        let mut fold = |wanted: &Wanted<'_>| {
            if wanted.alias.is_none() {
                if is_weight(wanted.tensor)
                    && !(wanted.powers
                        && list.add(wanted.tensor, Cow::Borrowed(wanted.elements), wanted.exact))
                {
                    wired.insert(wanted.tensor);
                }
                return;
            }
            let touched: Vec<(u32, u32)> = wanted
                .sources()
                .filter_map(|s| match s {
                    Src::Cell { tensor, index } if is_weight(tensor) => Some((tensor, index)),
                    _ => None,
                })
                .collect();
            let Some(&(first, _)) = touched.first() else { return };
            let own = wanted.powers
                && touched.len() == wanted.elements.len()
                && touched.iter().all(|t| t.0 == first);
            let fits = own && {
                let indices: Vec<u32> = touched.iter().map(|t| t.1).collect();
                let elements = Elements::of(&indices, list.last());
                list.add(first, Cow::Owned(elements), wanted.exact)
            };
            if !fits {
                wired.extend(touched.iter().map(|t| t.0));
            }
        };
        for task in &self.tasks {
            self.wanted(task, &mut fold);
        }
        for table in &self.row_tables {
            self.rows_of(table.data, table.width, &mut fold);
        }
        let mut bounds = (0i64, 0i64);
        let fixed = self.exposure.all_fixed;
        let mut covered: BTreeMap<u32, usize> = BTreeMap::new();
        list.all.iter().for_each(|s| *covered.entry(s.tensor).or_insert(0) += s.elements.len());
        wired.extend(shown.iter().copied().filter(|tensor| covered.contains_key(tensor)));
        let storable = |tensor: u32, vis: Vis| {
            let constant = self.p.tensors[tensor as usize].role == Role::Constant;
            !wired.contains(&tensor)
                && (fixed || (!constant && matches!(vis, Vis::Private | Vis::Hashed | Vis::Committed)))
                && covered.contains_key(&tensor)
        };
        // The range that the store checks, if everything is in it that could be.
        let (mut lo, mut hi) = (0, 0);
        for &tensor in covered.keys() {
            if storable(tensor, self.exposure.param(TensorId(tensor))) {
                let t = &self.p.tensors[tensor as usize];
                (lo, hi) = (t.lo.min(lo), t.hi.max(hi));
            }
        }
        let (signed, bits) = hull(lo.into(), hi.into());
        let mut store_told = false;
        for tensor in 0..self.p.tensors.len() as u32 {
            let t = &self.p.tensors[tensor as usize];
            let constant = t.role == Role::Constant;
            if !is_weight(tensor) {
                continue;
            }
            let vis = self.exposure.param(TensorId(tensor));
            let told = matches!(vis, Vis::Hashed | Vis::Committed);
            // What is copied elsewhere is one cell, and what is hashed is within its width.
            let exact = vis != Vis::Hashed || bits + u32::from(!signed) <= width(t.lo, t.hi);
            let whole = bits <= STORE_BITS && covered.get(&tensor) == Some(&t.len());
            if storable(tensor, vis) && (!told || (exact && whole)) {
                self.homes[tensor as usize] = Home::Store;
                bounds = (bounds.0.min(t.lo), bounds.1.max(t.hi));
                store_told |= told;
            } else if constant || vis == Vis::Fixed {
                let data = t.data.as_deref().unwrap_or_default();
                self.homes[tensor as usize] = Home::Alias(data.iter().map(|&c| Src::Const(c)).collect());
            } else if vis != Vis::Private || wired.contains(&tensor) || covered.contains_key(&tensor) {
                self.import(tensor, vis);
            } else if shown.contains(&tensor) {
                let (name, n) = (t.name.clone(), t.len());
                self.strip(None, &name, Spec::Gathered, vec![Operand::Own(tensor)], vec![tensor], n);
            }
        }
        list.all.retain(|bulk| matches!(self.homes[bulk.tensor as usize], Home::Store));
        // Aliases may have named weights that are constants now.
        for i in 0..self.homes.len() {
            if let Home::Alias(sources) = &self.homes[i] {
                let sources: Arc<[Src]> = sources.iter().map(|&s| self.resolve(s)).collect();
                self.homes[i] = Home::Alias(sources);
            }
        }
        for i in 0..self.strips.len() {
            for j in 0..self.strips[i].operands.len() {
                if let Operand::Each(sources) = &self.strips[i].operands[j] {
                    let sources: Arc<[Src]> = sources.iter().map(|&s| self.resolve(s)).collect();
                    self.strips[i].operands[j] = Operand::Each(sources);
                }
            }
        }
        Ok(Stored { bulks: list.all, bounds, told: store_told })
    }
}
