//! The operators of ONNX's own domain that are supported: since which version, how they are arithmetised, with which limits.
//!
//! `docs/operators.md` is written from this table.

/// How an operator becomes constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Known when the model is imported.
    Constant,
    /// An index map.
    Wiring,
    /// A sum of products, rounded once.
    Linear,
    /// A contraction at random points.
    Contraction,
    /// A function of one value.
    Table,
    /// A quotient with its remainder.
    Quotient,
    /// Maxima and sorts.
    Order,
    /// Comparisons, booleans and choices.
    Decision,
    /// A row that a value picks.
    Index,
    /// Written as other operators.
    Composite,
    /// Written out step by step.
    Unrolled,
}

impl Form {
    /// All forms, in the order in which the documentation explains them.
    pub const ALL: [Form; 11] = [
        Form::Constant,
        Form::Wiring,
        Form::Linear,
        Form::Contraction,
        Form::Table,
        Form::Quotient,
        Form::Order,
        Form::Decision,
        Form::Index,
        Form::Composite,
        Form::Unrolled,
    ];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Form::Constant => "constant",
            Form::Wiring => "wiring",
            Form::Linear => "sum",
            Form::Contraction => "contraction",
            Form::Table => "table",
            Form::Quotient => "quotient",
            Form::Order => "order",
            Form::Decision => "decision",
            Form::Index => "index",
            Form::Composite => "composite",
            Form::Unrolled => "unrolled",
        }
    }

    /// What the circuit has of it.
    pub fn meaning(self) -> &'static str {
        match self {
            Form::Constant => "evaluated when the model is imported; no trace in the circuit",
            Form::Wiring => "an index map from elements to cells; no cells, no constraints",
            Form::Linear => {
                "one integer sum per element, exact, rounded once at its end: quotient and remainder are range-checked; \
                 `max(·, 0)` is part of it"
            }
            Form::Contraction => {
                "one polynomial identity at random points ρ and τ that are drawn after the operands are committed, in place of \
                 the products; every weight is one cell; the result is rounded once, as a sum is"
            }
            Form::Table => {
                "a lookup of (argument, value): a direct table over a narrow range, else linear interpolation between knots; \
                 chains of element-wise operators share one table"
            }
            Form::Quotient => {
                "quotient (or root) and remainder, both range-checked, the remainder strictly below the divisor"
            }
            Form::Order => {
                "differences are range-checked and one of them is zero; sorts are permutations by a product at a random \
                 point; ties as ONNX resolves them"
            }
            Form::Decision => {
                "the sign of a difference as a range-checked bit, and sums and products with it"
            }
            Form::Index => "a lookup of (index, value) in the rows of the operand",
            Form::Composite => "rewritten as the operators that it consists of, before ranges are measured",
            Form::Unrolled => "every step is written out over the same weight cells",
        }
    }
}

/// One supported operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// Name.
    pub name: &'static str,
    /// First version of ONNX's operator set whose form of it is read.
    pub since: i64,
    /// How it becomes constraints.
    pub form: Form,
    /// What is not supported, or has to be known when the model is imported; empty where there is nothing to say.
    pub limits: &'static str,
    /// Operands that decide the shape of the result, so that they must not depend on an input of the model.
    pub(crate) structural: &'static [usize],
}

/// Operators that older operator sets define in a form that is not read, in alphabetical order.
const REFORMED: &[&str] = &[
    "Add",
    "And",
    "BatchNormalization",
    "Cast",
    "Concat",
    "Div",
    "Equal",
    "GRU",
    "Gemm",
    "Greater",
    "LSTM",
    "Less",
    "Mul",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "RNN",
    "Reshape",
    "Scan",
    "Split",
    "Sub",
    "Tile",
    "Upsample",
    "Xor",
];

impl Operator {
    /// Whether the operator means something else, or has other operands, before [`Operator::since`].
    pub fn reformed(&self) -> bool {
        REFORMED.binary_search(&self.name).is_ok()
    }
}

const fn op(name: &'static str, since: i64, form: Form, limits: &'static str) -> Operator {
    Operator { name, since, form, limits, structural: &[] }
}

const fn shaped(structural: &'static [usize], operator: Operator) -> Operator {
    Operator { structural, ..operator }
}

/// All of them, in alphabetical order.
pub(super) const OPERATORS: &[Operator] = &[
    op("Abs", 1, Form::Linear, ""),
    op("Acos", 7, Form::Table, "only of real numbers"),
    op("Acosh", 9, Form::Table, "only of real numbers"),
    op("Add", 7, Form::Linear, ""),
    op("And", 7, Form::Decision, ""),
    op("ArgMax", 1, Form::Order, ""),
    op("ArgMin", 1, Form::Order, ""),
    op("Asin", 7, Form::Table, "only of real numbers"),
    op("Asinh", 9, Form::Table, "only of real numbers"),
    op("Atan", 7, Form::Table, "only of real numbers"),
    op("Atanh", 9, Form::Table, "only of real numbers"),
    op(
        "Attention",
        23,
        Form::Composite,
        "lengths of keys are constants; a query that sees no key gives zeros",
    ),
    op("AveragePool", 1, Form::Contraction, ""),
    op("BatchNormalization", 7, Form::Composite, "inference only"),
    op("BitShift", 11, Form::Linear, "distances are constants"),
    op("Cast", 6, Form::Decision, "to numbers and booleans"),
    op("CastLike", 15, Form::Decision, "as Cast"),
    op("Ceil", 1, Form::Linear, ""),
    op("Celu", 12, Form::Table, "only of real numbers"),
    op("Clip", 1, Form::Linear, ""),
    op("Concat", 4, Form::Wiring, ""),
    op("Constant", 1, Form::Constant, "dense tensors and numbers"),
    shaped(&[0], op("ConstantOfShape", 9, Form::Constant, "the shape is a constant")),
    op("Conv", 1, Form::Contraction, "any rank, stride, padding, dilation and number of groups"),
    op("ConvInteger", 10, Form::Contraction, "zero points are constants"),
    op("ConvTranspose", 1, Form::Contraction, ""),
    op("Cos", 7, Form::Table, "only of real numbers"),
    op("Cosh", 9, Form::Table, "only of real numbers"),
    shaped(&[1], op("CumSum", 11, Form::Linear, "the axis is a constant")),
    op("DepthToSpace", 1, Form::Wiring, ""),
    shaped(
        &[1, 2],
        op(
            "DequantizeLinear",
            10,
            Form::Linear,
            "scales and zero points are constants, per tensor or per axis, not in blocks",
        ),
    ),
    op("Div", 7, Form::Quotient, ""),
    shaped(&[1, 2], op("Dropout", 1, Form::Wiring, "inference only")),
    op("DynamicQuantizeLinear", 11, Form::Composite, ""),
    op("Einsum", 12, Form::Contraction, "any equation; of more than two operands, one by one"),
    op("Elu", 1, Form::Table, "only of real numbers"),
    op("Equal", 7, Form::Decision, ""),
    op("Erf", 9, Form::Table, "only of real numbers"),
    op("Exp", 1, Form::Table, "only of real numbers"),
    shaped(&[1], op("Expand", 8, Form::Wiring, "the shape is a constant")),
    op("EyeLike", 9, Form::Constant, ""),
    op("Flatten", 1, Form::Wiring, ""),
    op("Floor", 1, Form::Linear, ""),
    op("GRU", 7, Form::Unrolled, "no clipping, no parameters of activations, sequences of full length"),
    op("Gather", 1, Form::Index, "a constant index is wiring"),
    op("GatherElements", 11, Form::Index, "a constant index is wiring"),
    op("GatherND", 11, Form::Index, "a constant index is wiring"),
    op("Gelu", 20, Form::Table, "only of real numbers"),
    op("Gemm", 7, Form::Contraction, ""),
    op("GlobalAveragePool", 1, Form::Linear, ""),
    op("GlobalLpPool", 2, Form::Composite, ""),
    op("GlobalMaxPool", 1, Form::Order, ""),
    op("Greater", 7, Form::Decision, ""),
    op("GreaterOrEqual", 12, Form::Decision, ""),
    op("GroupNormalization", 18, Form::Composite, ""),
    op("HardSigmoid", 1, Form::Composite, ""),
    op("HardSwish", 14, Form::Table, "only of real numbers"),
    op("Hardmax", 1, Form::Order, ""),
    op("Identity", 1, Form::Wiring, ""),
    op(
        "If",
        1,
        Form::Unrolled,
        "the condition is a constant, or both branches are computed and one is chosen",
    ),
    op("InstanceNormalization", 1, Form::Composite, ""),
    op("IsInf", 10, Form::Constant, "of constants"),
    op(
        "IsNaN",
        9,
        Form::Constant,
        "no value of a circuit is not-a-number, and no sample of calibration may lead to one: false",
    ),
    op("LRN", 1, Form::Composite, ""),
    op("LSTM", 7, Form::Unrolled, "as GRU"),
    op("LayerNormalization", 17, Form::Composite, "without the statistics as outputs"),
    op("LeakyRelu", 1, Form::Linear, ""),
    op("Less", 7, Form::Decision, ""),
    op("LessOrEqual", 12, Form::Decision, ""),
    op("Log", 1, Form::Table, "of positive real numbers"),
    op("LogSoftmax", 1, Form::Composite, ""),
    op("Loop", 1, Form::Unrolled, "the trip count and the condition do not depend on data"),
    op("LpNormalization", 1, Form::Composite, "orders 1 to 16"),
    op("LpPool", 2, Form::Composite, "orders 1 to 16; without `ceil_mode`"),
    op("MatMul", 1, Form::Contraction, ""),
    op("MatMulInteger", 10, Form::Contraction, "zero points are constants"),
    op("Max", 1, Form::Order, ""),
    op("MaxPool", 1, Form::Order, "without the indices as output"),
    op("Mean", 1, Form::Linear, ""),
    op("MeanVarianceNormalization", 9, Form::Composite, ""),
    op("Min", 1, Form::Order, ""),
    op("Mish", 18, Form::Table, "only of real numbers"),
    op("Mod", 10, Form::Quotient, "of integers"),
    op("Mul", 7, Form::Linear, ""),
    op("Neg", 1, Form::Linear, ""),
    op("NonZero", 9, Form::Constant, "of constants: the shape of the result depends on the values"),
    op("Not", 1, Form::Decision, ""),
    shaped(&[1, 2], op("OneHot", 9, Form::Index, "depth and values are constants")),
    op("Or", 7, Form::Decision, ""),
    op("PRelu", 7, Form::Linear, ""),
    shaped(&[1, 3], op("Pad", 2, Form::Wiring, "constant, reflect, edge and wrap; the pads are constants")),
    op("Pow", 7, Form::Table, "base or exponent is a constant; of a tensor of exponents at most 16 distinct"),
    shaped(
        &[1, 2, 3, 4, 5, 6, 7, 8],
        op(
            "QLinearConv",
            10,
            Form::Contraction,
            "scales and zero points are constants; weights per tensor or per channel",
        ),
    ),
    shaped(
        &[1, 2, 3, 4, 5, 6, 7],
        op("QLinearMatMul", 10, Form::Contraction, "as QLinearConv; weights per tensor or per column"),
    ),
    shaped(
        &[1, 2],
        op("QuantizeLinear", 10, Form::Linear, "as DequantizeLinear; rounds half to even, saturates"),
    ),
    op("RMSNormalization", 23, Form::Composite, ""),
    op("RNN", 7, Form::Unrolled, "as GRU"),
    shaped(&[0, 1, 2], op("Range", 11, Form::Constant, "of constants")),
    op("Reciprocal", 1, Form::Quotient, "not of zero"),
    shaped(&[1], op("ReduceL1", 1, Form::Composite, "axes are constants")),
    shaped(&[1], op("ReduceL2", 1, Form::Composite, "axes are constants")),
    shaped(&[1], op("ReduceLogSum", 1, Form::Composite, "axes are constants")),
    shaped(&[1], op("ReduceLogSumExp", 1, Form::Composite, "axes are constants")),
    shaped(&[1], op("ReduceMax", 1, Form::Order, "axes are constants; not of nothing")),
    shaped(&[1], op("ReduceMean", 1, Form::Linear, "axes are constants")),
    shaped(&[1], op("ReduceMin", 1, Form::Order, "as ReduceMax")),
    shaped(&[1], op("ReduceProd", 1, Form::Composite, "axes are constants")),
    shaped(&[1], op("ReduceSum", 1, Form::Linear, "axes are constants")),
    shaped(&[1], op("ReduceSumSquare", 1, Form::Composite, "axes are constants")),
    op("Relu", 1, Form::Linear, ""),
    shaped(&[1], op("Reshape", 5, Form::Wiring, "the shape is a constant")),
    shaped(
        &[1, 2, 3],
        op("Resize", 10, Form::Linear, "nearest (wiring), linear, cubic; not antialiased, without regions"),
    ),
    op("RotaryEmbedding", 23, Form::Composite, ""),
    op("Round", 11, Form::Linear, ""),
    op("Scan", 9, Form::Unrolled, ""),
    op("ScatterElements", 11, Form::Index, "a constant index is wiring"),
    op("ScatterND", 11, Form::Index, "a constant index is wiring"),
    op("Selu", 1, Form::Table, "only of real numbers"),
    op("Shape", 1, Form::Constant, ""),
    op("Shrink", 9, Form::Decision, "only of real numbers"),
    op("Sigmoid", 1, Form::Table, "only of real numbers"),
    op("Sign", 9, Form::Decision, ""),
    op("Sin", 7, Form::Table, "only of real numbers"),
    op("Sinh", 9, Form::Table, "only of real numbers"),
    op("Size", 1, Form::Constant, ""),
    shaped(&[1, 2, 3, 4], op("Slice", 1, Form::Wiring, "bounds are constants")),
    op("Softmax", 1, Form::Composite, ""),
    op("Softplus", 1, Form::Table, "only of real numbers"),
    op("Softsign", 1, Form::Table, "only of real numbers"),
    op("SpaceToDepth", 1, Form::Wiring, ""),
    shaped(&[1], op("Split", 2, Form::Wiring, "lengths are constants")),
    op("Sqrt", 1, Form::Quotient, "of non-negative values"),
    shaped(&[1], op("Squeeze", 1, Form::Wiring, "")),
    op("Sub", 7, Form::Linear, ""),
    op("Sum", 1, Form::Linear, ""),
    op("Swish", 24, Form::Table, "only of real numbers"),
    op("Tan", 7, Form::Table, "only of real numbers"),
    op("Tanh", 1, Form::Table, "only of real numbers"),
    op("ThresholdedRelu", 10, Form::Decision, ""),
    shaped(&[1], op("Tile", 6, Form::Wiring, "repeats are constants")),
    shaped(&[1], op("TopK", 1, Form::Order, "k is a constant")),
    op("Transpose", 1, Form::Wiring, ""),
    shaped(&[1], op("Trilu", 14, Form::Wiring, "the diagonal is a constant")),
    shaped(&[1], op("Unsqueeze", 1, Form::Wiring, "")),
    shaped(&[1], op("Upsample", 7, Form::Linear, "as Resize")),
    op("Where", 9, Form::Decision, ""),
    op("Xor", 7, Form::Decision, ""),
];
