//! Which operators are supported, and what of their operands must be known when the model is imported.

/// One supported operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpInfo {
    /// Name.
    pub name: &'static str,
    /// Operands that decide the shape of the result, so that they must not depend on an input of the model.
    pub structural: &'static [usize],
}

const fn op(name: &'static str) -> OpInfo {
    OpInfo { name, structural: &[] }
}

const fn shaped(name: &'static str, structural: &'static [usize]) -> OpInfo {
    OpInfo { name, structural }
}

/// ONNX's own domain, in alphabetical order.
const ONNX: &[OpInfo] = &[
    op("Abs"),
    op("Acos"),
    op("Acosh"),
    op("Add"),
    op("And"),
    op("ArgMax"),
    op("ArgMin"),
    op("Asin"),
    op("Asinh"),
    op("Atan"),
    op("Atanh"),
    op("AveragePool"),
    op("BatchNormalization"),
    op("BitShift"),
    op("Cast"),
    op("CastLike"),
    op("Ceil"),
    op("Celu"),
    op("Clip"),
    op("Concat"),
    op("Constant"),
    shaped("ConstantOfShape", &[0]),
    op("Conv"),
    op("ConvInteger"),
    op("ConvTranspose"),
    op("Cos"),
    op("Cosh"),
    shaped("CumSum", &[1]),
    op("DepthToSpace"),
    shaped("DequantizeLinear", &[1, 2]),
    op("Div"),
    shaped("Dropout", &[1, 2]),
    op("Einsum"),
    op("Elu"),
    op("Equal"),
    op("Erf"),
    op("Exp"),
    shaped("Expand", &[1]),
    op("EyeLike"),
    op("Flatten"),
    op("Floor"),
    op("GRU"),
    op("Gather"),
    op("GatherElements"),
    op("GatherND"),
    op("Gelu"),
    op("Gemm"),
    op("GlobalAveragePool"),
    op("GlobalMaxPool"),
    op("Greater"),
    op("GreaterOrEqual"),
    op("GroupNormalization"),
    op("HardSigmoid"),
    op("HardSwish"),
    op("Identity"),
    op("If"),
    op("InstanceNormalization"),
    op("LSTM"),
    op("LayerNormalization"),
    op("LeakyRelu"),
    op("Less"),
    op("LessOrEqual"),
    op("Log"),
    op("LogSoftmax"),
    op("Loop"),
    op("MatMul"),
    op("MatMulInteger"),
    op("Max"),
    op("MaxPool"),
    op("Mean"),
    op("MeanVarianceNormalization"),
    op("Min"),
    op("Mish"),
    op("Mod"),
    op("Mul"),
    op("Neg"),
    op("NonZero"),
    op("Not"),
    shaped("OneHot", &[1, 2]),
    op("Or"),
    op("PRelu"),
    shaped("Pad", &[1, 3]),
    op("Pow"),
    shaped("QLinearConv", &[1, 2, 3, 4, 5, 6, 7, 8]),
    shaped("QLinearMatMul", &[1, 2, 3, 4, 5, 6, 7]),
    shaped("QuantizeLinear", &[1, 2]),
    op("RMSNormalization"),
    op("RNN"),
    shaped("Range", &[0, 1, 2]),
    op("Reciprocal"),
    shaped("ReduceL1", &[1]),
    shaped("ReduceL2", &[1]),
    shaped("ReduceLogSum", &[1]),
    shaped("ReduceLogSumExp", &[1]),
    shaped("ReduceMax", &[1]),
    shaped("ReduceMean", &[1]),
    shaped("ReduceMin", &[1]),
    shaped("ReduceProd", &[1]),
    shaped("ReduceSum", &[1]),
    shaped("ReduceSumSquare", &[1]),
    op("Relu"),
    shaped("Reshape", &[1]),
    shaped("Resize", &[1, 2, 3]),
    op("Round"),
    op("Scan"),
    op("ScatterElements"),
    op("ScatterND"),
    op("Selu"),
    op("Shape"),
    op("Sigmoid"),
    op("Sign"),
    op("Sin"),
    op("Sinh"),
    op("Size"),
    shaped("Slice", &[1, 2, 3, 4]),
    op("Softmax"),
    op("Softplus"),
    op("Softsign"),
    op("SpaceToDepth"),
    shaped("Split", &[1]),
    op("Sqrt"),
    shaped("Squeeze", &[1]),
    op("Sub"),
    op("Sum"),
    op("Tan"),
    op("Tanh"),
    op("ThresholdedRelu"),
    shaped("Tile", &[1]),
    shaped("TopK", &[1]),
    op("Transpose"),
    shaped("Trilu", &[1]),
    shaped("Unsqueeze", &[1]),
    shaped("Upsample", &[1]),
    op("Where"),
    op("Xor"),
];

/// The operator, where it is supported.
pub(crate) fn lookup(domain: &str, name: &str) -> Option<&'static OpInfo> {
    if !matches!(domain, "" | "ai.onnx") {
        return None;
    }
    ONNX.binary_search_by(|o| o.name.cmp(name)).ok().map(|i| &ONNX[i])
}

/// Whether an operator of a domain (empty for ONNX's own) is supported in at least one form.
pub fn is_supported(domain: &str, name: &str) -> bool {
    lookup(domain, name).is_some()
}

/// The names of all supported operators.
pub fn supported_ops() -> impl Iterator<Item = &'static str> {
    ONNX.iter().map(|o| o.name)
}

/// A rewrite of an unsupported operator, where one is known.
pub(crate) fn hint(domain: &str, name: &str) -> Option<&'static str> {
    Some(match name {
        "If" | "Loop" | "Scan" => "export with trip counts that do not depend on data, on fixed shapes",
        "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Multinomial"
        | "Bernoulli" => "make the random values an input of the model",
        "NonMaxSuppression" | "RoiAlign" | "Unique" | "Compress" => {
            "cut the graph before this node: its result has a shape that depends on data"
        }
        "TreeEnsembleClassifier"
        | "TreeEnsembleRegressor"
        | "LinearClassifier"
        | "LinearRegressor"
        | "SVMClassifier"
        | "SVMRegressor"
        | "Scaler"
        | "Normalizer" => "convert with hummingbird-ml (backend \"torch\") and export that",
        _ if domain == "com.microsoft" => {
            "export without ONNX Runtime's graph optimisations, or set the optimisation level to basic"
        }
        _ if !matches!(domain, "" | "ai.onnx") => {
            "inline model-local functions with onnx.inliner.inline_local_functions"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(ONNX.is_sorted_by(|a, b| a.name < b.name));
        assert!(is_supported("", "Conv") && is_supported("ai.onnx", "Xor") && !is_supported("", "Conv2"));
    }
}
