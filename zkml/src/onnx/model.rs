//! The graph in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shapes::{Binding, TakenList};
use super::tensor::{DType, TensorF};

/// Index of a value in [`Model::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// Integer.
    Int(i64),
    /// Single-precision number, widened.
    Float(f64),
    /// Text.
    Str(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Single-precision numbers, widened.
    Floats(Vec<f64>),
    /// Texts.
    Strs(Vec<String>),
    /// Tensor.
    Tensor(Arc<TensorF>),
    /// Anything else: subgraphs, sparse tensors, types.
    Other(&'static str),
}

/// The attributes of a node by name, with typed access.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs(pub BTreeMap<String, Attr>);

impl Attrs {
    /// Integer attribute; an error where the attribute is of another type.
    pub fn int(&self, name: &str) -> Result<Option<i64>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Int(v)) => Ok(Some(*v)),
            Some(_) => Err(format!("attribute `{name}` is not an integer")),
        }
    }

    /// Integer attribute with a default.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// Number attribute.
    pub fn float(&self, name: &str) -> Result<Option<f64>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Float(v)) => Ok(Some(*v)),
            Some(_) => Err(format!("attribute `{name}` is not a number")),
        }
    }

    /// Number attribute with a default.
    pub fn float_or(&self, name: &str, default: f64) -> Result<f64, String> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// Text attribute.
    pub fn str(&self, name: &str) -> Result<Option<&str>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Str(v)) => Ok(Some(v)),
            Some(_) => Err(format!("attribute `{name}` is not a text")),
        }
    }

    /// List of integers.
    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(format!("attribute `{name}` is not a list of integers")),
        }
    }

    /// List of numbers.
    pub fn floats(&self, name: &str) -> Result<Option<&[f64]>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Floats(v)) => Ok(Some(v)),
            Some(_) => Err(format!("attribute `{name}` is not a list of numbers")),
        }
    }

    /// List of texts.
    pub fn strs(&self, name: &str) -> Result<Option<&[String]>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Strs(v)) => Ok(Some(v)),
            Some(_) => Err(format!("attribute `{name}` is not a list of texts")),
        }
    }

    /// Tensor attribute.
    pub fn tensor(&self, name: &str) -> Result<Option<&Arc<TensorF>>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attr::Tensor(v)) => Ok(Some(v)),
            Some(_) => Err(format!("attribute `{name}` is not a tensor")),
        }
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: Attr) {
        self.0.insert(name.to_owned(), value);
    }
}

/// A tensor of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name in the file.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// The value, where it does not depend on the inputs.
    pub constant: Option<Arc<TensorF>>,
    /// Where a constant comes from.
    pub origin: Provenance,
}

/// Where a constant comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Whether the architecture alone says the value: axes, positions, masks of an expansion; never what a file stores.
    pub structural: bool,
    /// The integers that it was dequantised from.
    pub integers: Option<Arc<Integers>>,
}

/// A tensor `(q − zero) · scale` by its integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    /// The integers, of the shape of the value.
    pub q: Arc<TensorF>,
    /// One number, or one per index of `axis`.
    pub scale: Arc<TensorF>,
    /// As `scale`; nothing is 0.
    pub zero: Option<Arc<TensorF>>,
    /// The axis along which scales and zero points vary.
    pub axis: usize,
}

/// An operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name in the file; of the first output where the file has none.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Operator domain; empty for ONNX's own.
    pub domain: String,
    /// Version of the operator set that the domain is imported at.
    pub version: i64,
    /// Operands; `None` where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Results; `None` where an optional one is not wanted.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes.
    pub attrs: Attrs,
}

impl Node {
    /// The operand at a position, where it is given.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// The result at a position, where it is wanted.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }
}

/// An imported model: static shapes, constants folded, dead nodes gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Name of the graph.
    pub name: String,
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// Inputs that the caller gives, in the file's order.
    pub inputs: Vec<ValueId>,
    /// All inputs of the file in its order: `inputs`, and those that are constants.
    pub declared: Vec<ValueId>,
    /// Shapes that the file leaves open, and inputs that are constants.
    pub binding: Binding,
    /// Lengths that open axes got.
    pub taken: TakenList,
    /// Outputs in the file's order. May be inputs or constants.
    pub outputs: Vec<ValueId>,
    /// Nodes that depend on an input and that an output depends on, each after those that it reads.
    pub nodes: Vec<Node>,
    /// All values, live or not.
    pub values: Vec<Value>,
}

impl Model {
    /// The value of an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The inputs in order.
    pub fn input_values(&self) -> impl Iterator<Item = &Value> {
        self.inputs.iter().map(|&id| self.value(id))
    }

    /// The outputs in order.
    pub fn output_values(&self) -> impl Iterator<Item = &Value> {
        self.outputs.iter().map(|&id| self.value(id))
    }

    /// Number of elements of the float constants that live nodes read.
    pub fn parameter_count(&self) -> usize {
        let mut seen = vec![false; self.values.len()];
        for id in self.nodes.iter().flat_map(|n| n.inputs.iter().flatten()) {
            seen[id.index()] = true;
        }
        self.values
            .iter()
            .zip(seen)
            .filter(|(v, live)| *live && v.dtype.is_float())
            .filter_map(|(v, _)| v.constant.as_ref())
            .map(|t| t.len())
            .sum()
    }
}
