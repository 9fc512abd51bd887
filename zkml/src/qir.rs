//! The quantised intermediate representation: a model as a sequence of exactly defined integer operations.
//!
//! This is *the statement*. The integer executor computes it without any circuit, the circuit constrains it cell by cell, and the two
//! agree exactly, always. Everything that is approximate (rounding to scales, tables for functions) has happened before: the
//! importer chose the integers, and their distance from the float model is reported, not proven.
//!
//! # Conventions
//!
//! - A tensor is row-major (last axis fastest). An element is an integer within `[lo, hi]` of its tensor; the real number that it stands
//!   for is `element / 2^scale`.
//! - Operations are listed in an order in which every operand is computed before it is used. Every tensor is an input, carries data, or
//!   is the output of exactly one operation.
//! - Broadcasting is NumPy's: shapes are aligned at the last axis, and an axis of length 1 (or a missing one) repeats.
//! - Division and shifts round towards minus infinity; roundings to nearest are written out as an added half.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Index of a tensor in [`Program::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TensorId(pub u32);

/// Where a tensor's values come from; decides its visibility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Given by the prover, subject to the visibility of inputs.
    Input,
    /// A weight of the model (carries data), subject to the visibility of parameters.
    Param,
    /// Part of the model's structure (carries data): always public, always fixed.
    Constant,
    /// Computed by an operation.
    Node,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Name in the ONNX file, with a suffix for values that exist only here.
    pub name: String,
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Least possible element.
    pub lo: i64,
    /// Greatest possible element.
    pub hi: i64,
    /// Real value = element / 2^scale.
    pub scale: i32,
    /// Where the values come from.
    pub role: Role,
    /// The values of a [`Role::Param`] or [`Role::Constant`].
    pub data: Option<Arc<[i64]>>,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One element of a [`OpKind::View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pick {
    /// Element `index` (flat) of `sources[source]`.
    Of {
        /// Index into the sources.
        source: u32,
        /// Flat index into that tensor.
        index: u32,
    },
    /// A public constant.
    Const(i64),
}

/// Geometry of a convolution or pooling over `n` spatial axes. Output length of an axis:
/// `(in + pad_begin + pad_end − dilation·(kernel − 1) − 1) / stride + 1`; padding is with zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Kernel lengths.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Zero padding before each axis.
    pub pads_begin: Vec<usize>,
    /// Zero padding after each axis.
    pub pads_end: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
}

/// A summand of the accumulator of [`OpKind::Linear`]. Every term is an exact integer tensor of the output's shape, multiplied by
/// `coeff`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Term {
    /// `coeff · Σ_{contracted} a·b`: a sum of products. `a_axes[i]` is the label of axis i of `a`; labels that are not in `out_axes` are
    /// summed over. Labels are unique within each list; equal labels have equal lengths; every output label occurs in `a` or `b`.
    Einsum {
        /// Left operand.
        a: TensorId,
        /// Right operand.
        b: TensorId,
        /// Labels of the axes of `a`.
        a_axes: Vec<u8>,
        /// Labels of the axes of `b`.
        b_axes: Vec<u8>,
        /// Labels of the axes of the output.
        out_axes: Vec<u8>,
        /// Factor.
        coeff: i64,
    },
    /// `coeff · conv(x, w)`: x is `[N, C, spatial…]`, w is `[O, C/groups, kernel…]`, the output `[N, O, spatial…]`, cross-correlation as in ONNX.
    Conv {
        /// Input.
        x: TensorId,
        /// Kernel.
        w: TensorId,
        /// Geometry.
        window: Window,
        /// Number of groups.
        groups: usize,
        /// Factor.
        coeff: i64,
    },
    /// `coeff · Σ_{window} x`, per channel: x is `[N, C, spatial…]`. With `coeff` and the shift of the operation it is an average pool.
    SumPool {
        /// Input.
        x: TensorId,
        /// Geometry.
        window: Window,
        /// Factor.
        coeff: i64,
    },
    /// `coeff · Σ_{axes} x`; the output keeps the other axes in order (with length-1 axes allowed anywhere by reshaping).
    Sum {
        /// Input.
        x: TensorId,
        /// Axes that are summed over.
        axes: Vec<usize>,
        /// Factor.
        coeff: i64,
    },
    /// `coeff · x`, broadcast to the output's shape.
    Scale {
        /// Input.
        x: TensorId,
        /// Factor.
        coeff: i64,
    },
    /// `coeff · a · b`, element-wise, broadcast to the output's shape.
    Product {
        /// Left operand.
        a: TensorId,
        /// Right operand.
        b: TensorId,
        /// Factor.
        coeff: i64,
    },
}

/// What [`OpKind::Linear`] applies last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(v, 0).
    Relu,
}

/// An exactly defined integer operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OpKind {
    /// Rearrangement without arithmetic: `out[i]` is element `picks[i]`. Reshape, Transpose, Slice, Concat, Pad, Expand, Split, Gather with a
    /// constant index, nearest Resize. Costs no cells of its own.
    View {
        /// Tensors that are picked from.
        sources: Vec<TensorId>,
        /// One per output element.
        picks: Arc<[Pick]>,
    },
    /// `v = ⌊(constant + Σ terms + half) / 2^shift⌋`, where `half = 2^(shift−1)` (0 when shift = 0), then the activation. `v` is within
    /// `[pre_lo, pre_hi]`, which the executor checks and the circuit range-checks when shift > 0 or there is an activation.
    Linear {
        /// Summands.
        terms: Vec<Term>,
        /// Added to every accumulator.
        constant: i64,
        /// Number of bits dropped.
        shift: u32,
        /// Least possible v.
        pre_lo: i64,
        /// Greatest possible v.
        pre_hi: i64,
        /// Applied to v.
        activation: Activation,
    },
    /// `out = table[x − lo(x)]`; the table has `hi(x) − lo(x) + 1` entries.
    Lookup {
        /// Input.
        x: TensorId,
        /// The function's values.
        table: Arc<[i64]>,
    },
    /// Piecewise linear: with `key = ⌊x / 2^step⌋`, `rem = x − key·2^step`, i = key − `first_key`:
    /// `out = ⌊(values[i]·2^step + slopes[i]·rem + half) / 2^(step + guard)⌋`, `half = 2^(step + guard − 1)`. `values` are in units of the output's
    /// scale + `guard`.
    Interpolate {
        /// Input.
        x: TensorId,
        /// log₂ of the distance of two knots, ≥ 1.
        step: u32,
        /// Extra bits of precision of the tables.
        guard: u32,
        /// Key of the first table entry: ⌊lo(x) / 2^step⌋.
        first_key: i64,
        /// Value at each knot.
        values: Arc<[i64]>,
        /// Difference to the next knot.
        slopes: Arc<[i64]>,
    },
    /// `out = 1` where x ≥ 0, else 0.
    Step {
        /// Input.
        x: TensorId,
    },
    /// `out = ⌊num / den⌋`, element-wise, `den` broadcast to the shape of `num`; lo(den) ≥ 1.
    Div {
        /// Numerator.
        num: TensorId,
        /// Denominator.
        den: TensorId,
    },
    /// `out = ⌊√x⌋`, lo(x) ≥ 0.
    Sqrt {
        /// Input.
        x: TensorId,
    },
    /// Maximum over the last axis, which the output lacks.
    Max {
        /// Input.
        x: TensorId,
    },
    /// Index of the maximum over the last axis, which the output lacks.
    ArgMax {
        /// Input.
        x: TensorId,
        /// Whether ties go to the last index (ONNX `select_last_index`), else to the first.
        last: bool,
    },
    /// Stable sort of the last axis: `outputs[0]` the values, `outputs[1]` the indices they came from. Equal values keep their order of index, in both
    /// directions.
    Sort {
        /// Input.
        x: TensorId,
        /// Greatest first.
        descending: bool,
    },
    /// `out[i, …] = data[index[i], …]` along axis 0 of `data`, for an index that is itself computed or private; every index is within `data`.
    Gather {
        /// Table of rows.
        data: TensorId,
        /// Row numbers; lo ≥ 0, hi < data.shape\[0\].
        index: TensorId,
    },
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// Name of the ONNX node, with a suffix where a node became several operations.
    pub name: String,
    /// What it computes.
    pub kind: OpKind,
    /// What it defines: one tensor, but for [`OpKind::Sort`].
    pub outputs: Vec<TensorId>,
}

/// A whole model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// Operations in order.
    pub ops: Vec<Op>,
    /// The model's inputs, in the file's order.
    pub inputs: Vec<TensorId>,
    /// The model's outputs, in the file's order. May be inputs, constants or views.
    pub outputs: Vec<TensorId>,
}

impl Program {
    /// The tensor of an id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }
}
