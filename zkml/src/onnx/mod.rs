//! ONNX files as graphs with static shapes.
//!
//! [`import`] decodes a file, checks it against [`Limits`], unrolls control flow, and
//! settles everything that does not depend on the values of the inputs: symbolic dimensions are bound, every shape becomes a number,
//! and every node without a path from an input is evaluated, so that chains such as Shape → Gather → Concat → Reshape leave no
//! trace. What remains is a [`Model`]: live nodes in an order in which they can be evaluated, in the names of the file.
//!
//! A file either imports completely or is a typed error. Unsupported nodes are listed all at once. Panics of the parser stop here.

mod arity;
mod attention;
mod composite;
mod control;
mod decode;
mod error;
mod expand;
mod external;
mod fused;
mod import;
mod inline;
mod ml;
mod model;
mod operators;
pub mod proto;
mod quantised;
mod shapes;
mod support;
mod tensor;

pub use error::{ImportError, Unsupported, UnsupportedList};
pub use import::{ImportOptions, Imported, Limits, import, import_from};
pub use model::{Attr, Attrs, Integers, Model, Node, Provenance, Value, ValueId};
pub use operators::{Form, Operator};
pub use shapes::{Binding, Declared, Dim, Given, Origin, Outline, Taken, TakenList, input_shapes};
pub use support::{is_supported, operators, operators_of, supported_ops};
pub use tensor::{
    DType, Data, MAX_ELEMENTS, ShapeError, TensorF, broadcast, broadcast_map, checked_len, strides, unravel,
};
