//! Rows of a table by a computed index.
//!
//! - A table of fixed values is a function of `index·width + column`, and read element by element.
//! - A wide row is looked up whole: folded at τ into one value, whose first coefficient is the row's number. Its elements need no keys and no
//!   lookups, and weights that nothing else reads stay in the store.
//! - A narrow row's elements are each an entry of a table that cells provide.
//!
//! The folded form is sound because a fold is a polynomial in τ whose coefficients, like the multiplicities, are committed before α, γ and τ
//! are drawn. `Σ 1/(α + γ·tag + fold)` over the uses equals the sum over the entries as rational functions then, so every use is an entry
//! coefficient by coefficient; entries differ in their number.

use std::sync::Arc;

use crate::qir::{OpKind, Role, TensorId};

use super::fold::{Chain, Exps, Folder};
use super::identity::{Wanted, runs};
use super::lower::{Lowerer, reads};
use super::lowered::{Elements, Folded, Mul, Operand, Ref, RowTable, Src};
use super::plan::PlanError;
use super::table::Function;
use super::template::{Affine, Spec};
use super::visibility::Vis;

/// Elements from which on a row is looked up whole.
const WIDE: usize = 4;

/// A table whose rows are looked up whole, by all that read it.
pub(super) struct Rows {
    pub(super) op: u32,
    pub(super) data: TensorId,
    pub(super) width: usize,
    /// Operation, index and result of each.
    pub(super) reads: Vec<(u32, TensorId, TensorId)>,
}

impl Lowerer<'_> {
    pub(super) fn gather(&mut self, at: u32, data: TensorId, index: TensorId) {
        let op = &self.p.ops[at as usize];
        let (out, name) = (op.outputs[0].0, op.name.clone());
        let t = self.p.tensor(data);
        let rows = t.shape.first().copied().unwrap_or(1);
        let width = t.len() / rows.max(1);
        let n = self.p.tensor(index).len() * width;
        let whole = width >= WIDE;
        if whole && (self.exposure.all_fixed && !self.read_otherwise(data) || self.values(data).is_none()) {
            let read = (at, index, TensorId(out));
            match self.row_tables.iter_mut().find(|table| table.data == data) {
                Some(table) => table.reads.push(read),
                None => self.row_tables.push(Rows { op: at, data, width, reads: vec![read] }),
            }
            let given = vec![Operand::Own(out)];
            self.strip(Some(at), &name, Spec::Gathered, given, vec![out], n);
            return;
        }
        let which: Arc<[Src]> = self.sources(index).into();
        let rows = Operand::Each((0..n).map(|e| which[e / width.max(1)]).collect());
        let columns = Operand::Each((0..n).map(|e| Src::Const((e % width.max(1)) as i64)).collect());
        if let Some(values) = self.values(data) {
            let table = self.function(Function { first: 0, values: values.into(), second: None });
            let (x, operands) = match width {
                1 => (Affine::cell(), vec![rows]),
                _ => (Affine { scales: vec![width as i64, 1], constant: 0 }, vec![rows, columns]),
            };
            self.strip(Some(at), &name, Spec::Lookup { x, table }, operands, vec![out], n);
            return;
        }
        let entries: Arc<[Src]> = self.sources(data).into();
        let id = self.dynamics;
        self.dynamics += 1;
        let keys = (0..entries.len() as i64).map(Src::Const).collect();
        let count = entries.len();
        let provided = vec![Operand::Each(keys), Operand::Each(entries)];
        self.strip(Some(at), &name, Spec::Provide { dynamic: id }, provided, vec![], count);
        let operands = vec![rows, columns, Operand::Own(out)];
        self.strip(Some(at), &name, Spec::Read { dynamic: id, width: width as i64 }, operands, vec![out], n);
    }

    /// The elements of a tensor, where they are part of the circuit.
    fn values(&self, id: TensorId) -> Option<Vec<i64>> {
        let value = |src: Src| match src {
            Src::Const(c) => Some(c),
            Src::Cell { tensor, index } => {
                let t = self.p.tensors.get(tensor as usize)?;
                let fixed = match t.role {
                    Role::Constant => true,
                    Role::Param => self.exposure.param(TensorId(tensor)) == Vis::Fixed,
                    Role::Input | Role::Node => false,
                };
                t.data.as_ref().filter(|_| fixed)?.get(index as usize).copied()
            }
        };
        self.sources(id).into_iter().map(value).collect()
    }

    /// Whether anything but gathers of its rows reads a table.
    fn read_otherwise(&self, data: TensorId) -> bool {
        let mut roots = vec![data];
        roots.extend(self.sources(data).into_iter().filter_map(|src| match src {
            Src::Cell { tensor, .. } => Some(TensorId(tensor)),
            Src::Const(_) => None,
        }));
        roots.dedup();
        self.p.outputs.iter().any(|id| roots.contains(id))
            || self.p.ops.iter().any(|op| match &op.kind {
                OpKind::View { .. } if op.outputs.contains(&data) => false,
                OpKind::Gather { data: own, index } => {
                    *own != data && roots.contains(own) || roots.contains(index)
                }
                kind => reads(kind).iter().any(|id| roots.contains(id)),
            })
    }

    /// Visits the rows of a tensor, as polynomials over its elements.
    pub(super) fn rows_of(&self, id: TensorId, width: usize, visit: &mut dyn FnMut(&Wanted<'_>)) {
        let (tensor, alias) = (id.0, self.alias(id));
        for elements in &runs(self.p.tensor(id).len(), width) {
            visit(&Wanted { tensor, alias, elements, powers: true, exact: true });
        }
    }

    /// Emits the entries and the uses of all tables of rows.
    pub(super) fn folded_rows(&self, f: &mut Folder) -> Result<Vec<RowTable>, PlanError> {
        let mut tables = Vec::with_capacity(self.row_tables.len());
        for (at, rows) in self.row_tables.iter().enumerate() {
            let exps: Vec<Exps> = (0..rows.width as u32).map(|j| (j, 0)).collect();
            let data = if f.in_store(rows.data.0) { None } else { Some(self.resolved(rows.data)) };
            let one = |f: &mut Folder, number: Src, row: Ref, entry: bool, op: u32| {
                let mut chain = Chain::default();
                chain.add(Mul::One, 1, row, op);
                chain.add(Mul::Tau, 1, Ref::Value(number), op);
                f.emit_folded(chain, Folded { table: at as u32, entry })
            };
            let mut entries = Vec::new();
            let all: Vec<Elements> = runs(self.p.tensor(rows.data).len(), rows.width);
            for (number, elements) in all.iter().enumerate() {
                let row = match &data {
                    None => f.stored(rows.data.0, elements, &exps)?,
                    Some(all) => f.poly(&super::contraction::pick(all, elements), &exps, rows.op)?,
                };
                entries.push(one(f, Src::Const(number as i64), row, true, rows.op));
            }
            let mut numbers = Vec::new();
            for &(op, index, out) in &rows.reads {
                let index = self.resolved(index);
                let cells = self.sources(out);
                for (&number, row) in index.iter().zip(cells.chunks(rows.width)) {
                    let row = f.gathered(row, op)?;
                    one(f, number, row, false, op);
                }
                numbers.extend(index);
            }
            tables.push(RowTable { entries, reads: numbers });
        }
        Ok(tables)
    }
}
