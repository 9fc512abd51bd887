//! What can be wrong with a model file.

use std::fmt;

use super::shapes::TakenList;
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

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn known_names(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        format!("there are no {what}")
    } else {
        format!("the {what} are {}", quoted(names))
    }
}

fn bind_advice(inputs: &[String]) -> String {
    let name = inputs.first().map_or("NAME", String::as_str);
    format!(
        "--constant {name}=VALUE makes the input a constant, and then only the branch that is taken counts"
    )
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
    /// A list of the input file from which the lengths of open axes do not follow.
    #[error("input `{name}`: {reason}")]
    List {
        /// Name of the input.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An input file with too few lists.
    #[error("the model has {expected} input(s), the file has {got}")]
    ListCount {
        /// Inputs of the model.
        expected: usize,
        /// Lists in the file.
        got: usize,
    },
    /// An option gives a length to a dimension that no input has.
    #[error("no input has a dimension `{name}`; {}", known_names("named dimensions", known))]
    UnknownDim {
        /// The name.
        name: String,
        /// Names that there are.
        known: Vec<String>,
    },
    /// An option is about an input that the model does not have.
    #[error("{option}: no input is called `{name}`; {}", known_names("inputs", known))]
    UnknownInput {
        /// The option.
        option: &'static str,
        /// The name.
        name: String,
        /// Names that there are.
        known: Vec<String>,
    },
    /// A branch that does not fit, of an If whose condition depends on inputs.
    #[error(
        "If `{node}`: the condition depends on {}, so both branches have to fit, and `{branch}` does not: {source}; {}",
        quoted(inputs),
        bind_advice(inputs)
    )]
    Branch {
        /// Name of the If.
        node: String,
        /// `then_branch` or `else_branch`.
        branch: &'static str,
        /// Inputs that the condition depends on.
        inputs: Vec<String>,
        /// What is wrong in the branch.
        source: Box<ImportError>,
    },
    /// The graph does not fit the lengths that open axes got.
    #[error("{source}; {taken}")]
    Lengths {
        /// What does not fit.
        source: Box<ImportError>,
        /// The lengths, and where they come from.
        taken: TakenList,
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
