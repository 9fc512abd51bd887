//! The reference executor: ONNX operators on numbers, as ONNX Runtime computes them.
//!
//! Values are `f64`, rounded to single precision after every operator whose result ONNX declares as such, so that comparisons and
//! roundings fall where ONNX Runtime's do; sums inside an operator keep double precision. Integers are exact and wrap at their declared
//! width. The executor folds constants at import, measures ranges at calibration, samples functions for their tables, and is the oracle
//! that quantised results are compared with.

mod elementwise;
mod index;
mod linalg;
mod movement;
mod norm;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
mod special;

use std::sync::Arc;

use crate::onnx::{DType, Model, Node, ShapeError, TensorF, ValueId};

pub(crate) use linalg::{Pooling, auto_pads, conv_transpose_geometry, einsum_labels};
pub(crate) use recurrent::activation_names;
pub(crate) use reduce::{axes_of, normal_axis};
pub(crate) use resize::{combinations, mix};
pub(crate) use special::round as round_even;

/// Why an operator was not evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpError {
    /// The node contradicts the standard.
    Invalid(String),
    /// The node is legal, but in a form that is not supported.
    Unsupported(String),
}

impl From<String> for OpError {
    fn from(s: String) -> OpError {
        OpError::Invalid(s)
    }
}

impl From<&str> for OpError {
    fn from(s: &str) -> OpError {
        OpError::Invalid(s.to_owned())
    }
}

impl From<ShapeError> for OpError {
    fn from(e: ShapeError) -> OpError {
        OpError::Invalid(e.to_string())
    }
}

/// Result of an operator: one tensor per output, `None` for those that it does not compute.
pub(crate) type Outputs = Result<Vec<Option<TensorF>>, OpError>;

/// A node with its operands.
pub(crate) struct Call<'a> {
    pub node: &'a Node,
    pub inputs: &'a [Option<&'a TensorF>],
}

impl<'a> Call<'a> {
    /// An operand that must be given.
    pub(crate) fn input(&self, i: usize) -> Result<&'a TensorF, OpError> {
        self.opt(i).ok_or_else(|| OpError::Invalid(format!("operand {i} is missing")))
    }

    /// An optional operand.
    pub(crate) fn opt(&self, i: usize) -> Option<&'a TensorF> {
        self.inputs.get(i).copied().flatten()
    }

    /// The integers of an operand, or of the attribute that older versions have in its place.
    pub(crate) fn ints(&self, i: usize, attr: &str) -> Result<Option<Vec<i64>>, OpError> {
        match self.opt(i) {
            Some(t) => Ok(Some(t.to_i64())),
            None => Ok(self.node.attrs.ints(attr)?.map(<[i64]>::to_vec)),
        }
    }

    /// All operands, none of which may be left out.
    pub(crate) fn all(&self) -> Result<Vec<&'a TensorF>, OpError> {
        if self.inputs.is_empty() {
            return Err("has no operands".into());
        }
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }
}

/// Evaluates one node.
pub(crate) fn eval(node: &Node, inputs: &[Option<&TensorF>]) -> Outputs {
    let call = Call { node, inputs };
    let one = |t: Result<TensorF, OpError>| t.map(|t| vec![Some(t)]);
    match node.op.as_str() {
        "Constant" => one(movement::constant(&call)),
        "Identity" => one(call.input(0).cloned()),
        "Dropout" => dropout(&call),
        "Shape" | "Size" | "ConstantOfShape" | "Range" | "EyeLike" => one(movement::generate(&call)),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => one(movement::reshape(&call)),
        "Transpose" => one(movement::transpose(&call)),
        "Concat" => one(movement::concat(&call)),
        "Slice" => one(movement::slice(&call)),
        "Split" => movement::split(&call),
        "Pad" => one(movement::pad(&call)),
        "Expand" => one(movement::expand(&call)),
        "Tile" => one(movement::tile(&call)),
        "Trilu" => one(movement::trilu(&call)),
        "DepthToSpace" | "SpaceToDepth" => one(movement::depth_space(&call)),
        "Gather" => one(index::gather(&call)),
        "GatherElements" => one(index::gather_elements(&call)),
        "GatherND" => one(index::gather_nd(&call)),
        "ScatterElements" => one(index::scatter_elements(&call)),
        "ScatterND" => one(index::scatter_nd(&call)),
        "OneHot" => one(index::one_hot(&call)),
        "NonZero" => one(index::non_zero(&call)),
        "TopK" => index::top_k(&call),
        "MatMul" | "MatMulInteger" => one(linalg::matmul(&call)),
        "Gemm" => one(linalg::gemm(&call)),
        "Einsum" => one(linalg::einsum(&call)),
        "Conv" | "ConvInteger" => one(linalg::conv(&call)),
        "ConvTranspose" => one(linalg::conv_transpose(&call)),
        "MaxPool" | "AveragePool" => one(linalg::pool(&call)),
        "GlobalAveragePool" | "GlobalMaxPool" => one(linalg::global_pool(&call)),
        "ArgMax" | "ArgMin" => one(reduce::arg(&call)),
        "CumSum" => one(reduce::cumsum(&call)),
        "Softmax" | "LogSoftmax" => one(reduce::softmax(&call)),
        op if op.starts_with("Reduce") => one(reduce::reduce(&call)),
        "BatchNormalization"
        | "InstanceNormalization"
        | "LayerNormalization"
        | "GroupNormalization"
        | "RMSNormalization"
        | "MeanVarianceNormalization" => norm::normalise(&call),
        "LSTM" | "GRU" | "RNN" => recurrent::recurrent(&call),
        "QuantizeLinear" | "DequantizeLinear" | "QLinearMatMul" | "QLinearConv" => {
            one(quantized::quantized(&call))
        }
        "Resize" | "Upsample" => one(resize::resize(&call)),
        _ => one(elementwise::elementwise(&call)),
    }
}

/// Dropout at inference: the operand, and a mask that keeps everything.
fn dropout(c: &Call<'_>) -> Outputs {
    let x = c.input(0)?;
    if c.opt(2).is_some_and(|t| t.at(0) != 0.0) && c.opt(1).is_none_or(|r| r.at(0) != 0.0) {
        return Err(OpError::Unsupported("training mode".into()));
    }
    let mask = TensorF::int(x.shape.clone(), DType::Bool, vec![1; x.len()])?;
    Ok(vec![Some(x.clone()), Some(mask)])
}

/// Why the reference executor stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloatError {
    /// Wrong number of inputs.
    #[error("the model has {expected} inputs, {got} were given")]
    InputCount {
        /// Inputs of the model.
        expected: usize,
        /// Inputs given.
        got: usize,
    },
    /// An input of the wrong shape.
    #[error("input `{name}` has shape {expected:?}, {got:?} was given")]
    InputShape {
        /// Name.
        name: String,
        /// Shape in the model.
        expected: Vec<usize>,
        /// Shape given.
        got: Vec<usize>,
    },
    /// A node that these values do not suit.
    #[error("{op} `{node}`: {reason}")]
    Node {
        /// Name.
        node: String,
        /// Operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
}

/// The values of all tensors of a model for one input.
#[derive(Clone, Debug)]
pub struct Values(Vec<Option<Arc<TensorF>>>);

impl Values {
    /// The value of a tensor; `None` where no live node computes it.
    pub fn get(&self, id: ValueId) -> Option<&Arc<TensorF>> {
        self.0.get(id.index()).and_then(Option::as_ref)
    }
}

/// Evaluates a model and keeps every value.
///
/// # Errors
///
/// Inputs of the wrong number or shape, or data that a node cannot be applied to, such as an index out of range.
pub fn run_all(model: &Model, inputs: &[TensorF]) -> Result<Values, FloatError> {
    if inputs.len() != model.inputs.len() {
        return Err(FloatError::InputCount { expected: model.inputs.len(), got: inputs.len() });
    }
    let mut values: Vec<Option<Arc<TensorF>>> = model.values.iter().map(|v| v.constant.clone()).collect();
    for (&id, t) in model.inputs.iter().zip(inputs) {
        let v = model.value(id);
        if v.shape != t.shape {
            return Err(FloatError::InputShape {
                name: v.name.clone(),
                expected: v.shape.clone(),
                got: t.shape.clone(),
            });
        }
        values[id.index()] = Some(Arc::new(t.clone()));
    }
    for node in &model.nodes {
        let operands: Vec<Option<&TensorF>> =
            node.inputs.iter().map(|v| v.and_then(|v| values[v.index()].as_deref())).collect();
        let results = eval(node, &operands).map_err(|e| {
            let (OpError::Invalid(reason) | OpError::Unsupported(reason)) = e;
            FloatError::Node { node: node.name.clone(), op: node.op.clone(), reason }
        })?;
        for (out, t) in node.outputs.iter().zip(results) {
            if let (Some(out), Some(t)) = (out, t) {
                values[out.index()] = Some(Arc::new(t));
            }
        }
    }
    Ok(Values(values))
}

/// Evaluates a model; the outputs in order.
///
/// # Errors
///
/// As [`run_all`].
pub fn run(model: &Model, inputs: &[TensorF]) -> Result<Vec<TensorF>, FloatError> {
    let values = run_all(model, inputs)?;
    model
        .outputs
        .iter()
        .map(|&id| {
            values.get(id).map(|t| t.as_ref().clone()).ok_or_else(|| FloatError::Node {
                node: model.value(id).name.clone(),
                op: "output".into(),
                reason: "was not computed".into(),
            })
        })
        .collect()
}
