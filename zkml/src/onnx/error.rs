//! What can be wrong with a model file.

use std::fmt;

use super::tensor::ShapeError;

/// A node that cannot be proven, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the node in the file, or of its first output where it has none.
    pub node: String,
    /// Operator.
    pub op: String,
    /// Operator domain; empty for ONNX's own.
    pub domain: String,
    /// Why it is not supported.
    pub reason: String,
    /// A rewrite that is, where one is known.
    pub hint: Option<String>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { &self.domain };
        write!(f, "{} `{}` ({domain}): {}", self.op, self.node, self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Nodes, one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedList(pub Vec<Unsupported>);

impl fmt::Display for UnsupportedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|u| write!(f, "\n  {u}"))
    }
}

/// Why a file was not imported.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// The file is larger than the limit.
    #[error("the model has {len} bytes; the limit is {limit}")]
    TooManyBytes {
        /// Bytes of the file.
        len: usize,
        /// Limit.
        limit: usize,
    },
    /// The file has more nodes than the limit.
    #[error("the model has {len} nodes; the limit is {limit}")]
    TooManyNodes {
        /// Nodes of the file.
        len: usize,
        /// Limit.
        limit: usize,
    },
    /// The tensors together have more elements than the limit.
    #[error("the tensors have more than {limit} elements in all, at `{at}`")]
    TooManyElements {
        /// Limit.
        limit: usize,
        /// Tensor or node that went past it.
        at: String,
    },
    /// Not a protobuf message of the ONNX schema.
    #[error("not an ONNX model: {0}")]
    Malformed(String),
    /// The protobuf parser panicked.
    #[error("the ONNX parser gave up on this file")]
    ParserPanic,
    /// No graph in the file.
    #[error("the file has no graph")]
    NoGraph,
    /// The graph computes nothing.
    #[error("the graph has no output")]
    NoOutputs,
    /// A tensor of the file that is not usable.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Values in another file that is not there, not readable, too short, or not beside the model.
    #[error("tensor `{name}` keeps its data in the file `{location}`: {reason}")]
    External {
        /// Tensor.
        name: String,
        /// Path of the other file, as the model gives it.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// An input of the graph that is not usable.
    #[error("input `{name}`: {reason}")]
    Input {
        /// Name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A node reads a tensor that nothing defines.
    #[error("node `{node}` reads `{tensor}`, which nothing defines")]
    MissingTensor {
        /// Node.
        node: String,
        /// Tensor.
        tensor: String,
    },
    /// An output of the graph that nothing defines.
    #[error("output `{0}` is not computed by the graph")]
    MissingOutput(String),
    /// Two definitions of one tensor.
    #[error("tensor `{0}` is defined twice")]
    Redefined(String),
    /// Nodes that wait for one another.
    #[error("the graph has a cycle through node `{0}`")]
    Cycle(String),
    /// A node whose attributes or operands contradict the standard.
    #[error("{op} `{node}`: {reason}")]
    Node {
        /// Node.
        node: String,
        /// Operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// Nodes that are legal ONNX but cannot be proven: all of them.
    #[error("unsupported nodes:{0}")]
    Unsupported(UnsupportedList),
    /// A shape is out of bounds.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}
