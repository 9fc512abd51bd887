//! Which constants are weights and which are structure, by what reads them.
//!
//! A constant that arithmetic reads is a parameter, whatever its type. What only says where elements are (indices, positions) and what the
//! architecture alone determines (masks, triangles) is part of the structure. Numbers that become coefficients of the program cannot be hidden,
//! and are listed by name.

use crate::onnx::{DType, Model, Node, ValueId};
use crate::qir::{Role, TensorId};

use super::{Lower, Outcome};

/// Whether an operand says where elements are.
fn is_index(n: &Node, operand: usize) -> bool {
    match n.op.as_str() {
        "Gather" | "GatherElements" | "GatherND" | "ScatterElements" | "ScatterND" => operand == 1,
        "OneHot" => operand < 2,
        _ => false,
    }
}

/// Operators that pass indices on: what a row of indices holds says where elements are too.
fn passes(n: &Node) -> bool {
    matches!(
        n.op.as_str(),
        "Add"
            | "Sub"
            | "Mul"
            | "Neg"
            | "Cast"
            | "Clip"
            | "Concat"
            | "Expand"
            | "Flatten"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Identity"
            | "Mod"
            | "Pad"
            | "Reshape"
            | "Slice"
            | "Split"
            | "Squeeze"
            | "Tile"
            | "Transpose"
            | "Unsqueeze"
            | "Where"
    )
}

/// The values that every reader uses to say where elements are.
pub(super) fn structural(model: &Model) -> Vec<bool> {
    let mut read = vec![false; model.values.len()];
    let mut all = vec![true; model.values.len()];
    for o in &model.outputs {
        (read[o.index()], all[o.index()]) = (true, false);
    }
    for n in model.nodes.iter().rev() {
        let outs: Vec<ValueId> = n.outputs.iter().flatten().copied().collect();
        let index = passes(n)
            && outs.iter().all(|o| read[o.index()] && all[o.index()] && !model.value(*o).dtype.is_float());
        for (k, v) in n.inputs.iter().enumerate() {
            let Some(v) = v else { continue };
            read[v.index()] = true;
            all[v.index()] &= index || is_index(n, k);
        }
    }
    read.into_iter().zip(all).map(|(read, all)| read && all).collect()
}

impl Lower<'_> {
    /// The role of a constant that arithmetic reads.
    pub(super) fn role(&self, v: ValueId) -> Role {
        let value = self.model.value(v);
        // Booleans choose between paths; they carry no magnitudes that a model learns.
        if value.dtype == DType::Bool || value.origin.structural || self.structural[v.index()] {
            Role::Constant
        } else {
            Role::Param
        }
    }

    /// A value as a tensor whose elements, where it is a constant, the program holds in clear.
    pub(super) fn plain(&mut self, v: ValueId, why: &'static str) -> Outcome<TensorId> {
        if self.constant(v).is_none() {
            return self.tensor(v);
        }
        self.reveal(v, why);
        Ok(self.constant_as(v, 0, Role::Constant)?)
    }

    /// Notes that the program holds a constant of the file in clear.
    pub(super) fn reveal(&mut self, v: ValueId, why: &'static str) {
        let value = self.model.value(v);
        if value.constant.is_some() && !value.origin.structural {
            self.public.entry(value.name.clone()).or_insert(why);
        }
    }
}
