//! Nodes that other nodes take the place of when a file is imported, and what their expansions are written with.

use super::attention;
use super::composite;
use super::control::{Stop, Unroll};
use super::fused;
use super::ml;
use super::model::{Attr, ValueId};
use super::tensor::{DType, TensorF};

/// Whether an operator is replaced by others.
pub(super) fn expands(domain: &str, op: &str) -> bool {
    match domain {
        "" => matches!(op, "Attention" | "RotaryEmbedding") || composite::expands(op),
        ml::DOMAIN | fused::DOMAIN => true,
        _ => false,
    }
}

/// The results of the operators that replace a node, in the order of its outputs.
pub(super) fn expand(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    match (u.node.domain.as_str(), u.node.op.as_str()) {
        (ml::DOMAIN, _) => ml::expand(u),
        (fused::DOMAIN, _) => fused::expand(u),
        (_, "Attention") => attention::attention(u),
        (_, "RotaryEmbedding") => attention::rotary(u).map(|y| vec![y]),
        _ => composite::expand(u),
    }
}

/// Helpers of the expansions.
impl Unroll<'_, '_, '_> {
    pub(super) fn operand(&self, i: usize) -> Result<ValueId, Stop> {
        self.node.input(i).ok_or_else(|| self.wrong(format!("operand {i} is missing")))
    }

    /// An operator with one result.
    pub(super) fn op(&mut self, op: &str, inputs: &[ValueId]) -> Result<ValueId, Stop> {
        self.emit(op, inputs, &[], None)
    }

    pub(super) fn ints(&mut self, v: Vec<i64>) -> ValueId {
        self.structure(TensorF::ints(v))
    }

    /// A constant of single-precision numbers, which has to be of a length that the limits allow.
    pub(super) fn floats(&mut self, shape: &[usize], data: Vec<f64>) -> Result<ValueId, Stop> {
        self.reals(shape, DType::F32, data)
    }

    /// [`Unroll::floats`] in another precision.
    pub(super) fn reals(&mut self, shape: &[usize], dtype: DType, data: Vec<f64>) -> Result<ValueId, Stop> {
        self.b.count(data.len(), &self.node.name.clone())?;
        let data = data.into_iter().map(|v| dtype.round(v)).collect();
        let t = TensorF::float(shape.to_vec(), dtype, data).map_err(|e| self.wrong(e.to_string()))?;
        Ok(self.constant(t))
    }

    pub(super) fn number(&mut self, v: f64) -> Result<ValueId, Stop> {
        self.floats(&[], vec![v])
    }

    pub(super) fn dims(&self, v: ValueId) -> Result<(Vec<usize>, DType), Stop> {
        // A value that has not been settled has been reported.
        self.shape(v).ok_or_else(|| Stop::Refused("its operand is not known".into()))
    }

    pub(super) fn cast(&mut self, v: ValueId, to: DType) -> Result<ValueId, Stop> {
        let code = match to {
            DType::F32 => 1,
            _ => 7,
        };
        match self.shape(v) {
            Some((_, dtype)) if dtype == to => Ok(v),
            _ => self.emit("Cast", &[v], &[("to", Attr::Int(code))], None),
        }
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: &[i64]) -> Result<ValueId, Stop> {
        self.emit("Transpose", &[x], &[("perm", Attr::Ints(perm.to_vec()))], None)
    }

    pub(super) fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, Stop> {
        let dims = self.ints(shape.iter().map(|&d| d as i64).collect());
        self.emit("Reshape", &[x, dims], &[("allowzero", Attr::Int(1))], None)
    }

    pub(super) fn concat(&mut self, parts: &[ValueId], axis: i64) -> Result<ValueId, Stop> {
        self.emit("Concat", parts, &[("axis", Attr::Int(axis))], None)
    }

    /// Numbers of an attribute, or of the tensor that newer versions allow in its place.
    pub(super) fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>, Stop> {
        let tensor = self.node.attrs.tensor(&format!("{name}_as_tensor")).map_err(|e| self.wrong(e))?;
        if let Some(t) = tensor {
            return Ok(Some(t.to_f64()));
        }
        Ok(self.node.attrs.floats(name).map_err(|e| self.wrong(e))?.map(<[f64]>::to_vec))
    }

    pub(super) fn integers(&self, name: &str) -> Result<Option<Vec<i64>>, Stop> {
        Ok(self.node.attrs.ints(name).map_err(|e| self.wrong(e))?.map(<[i64]>::to_vec))
    }

    pub(super) fn text(&self, name: &str, default: &'static str) -> Result<String, Stop> {
        Ok(self.node.attrs.str(name).map_err(|e| self.wrong(e))?.unwrap_or(default).to_owned())
    }

    pub(super) fn integer(&self, name: &str, default: i64) -> Result<i64, Stop> {
        self.node.attrs.int_or(name, default).map_err(|e| self.wrong(e))
    }

    pub(super) fn float(&self, name: &str, default: f64) -> Result<f64, Stop> {
        self.node.attrs.float_or(name, default).map_err(|e| self.wrong(e))
    }
}
