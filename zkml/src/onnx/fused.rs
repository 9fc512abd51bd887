//! Operators of `com.microsoft` that ONNX Runtime's optimiser and its quantiser write: each becomes the operators that it was fused from.

use super::control::{Stop, Unroll};
use super::model::{Attr, Attrs, ValueId};
use super::operators::{Form, Operator};
use super::quantised;

/// The domain.
pub(super) const DOMAIN: &str = "com.microsoft";

const fn op(name: &'static str, form: Form, limits: &'static str) -> Operator {
    Operator { name, since: 1, form, limits, structural: &[] }
}

/// What is read of the domain, in alphabetical order.
pub(super) const OPERATORS: &[Operator] = &[
    op("BiasGelu", Form::Table, ""),
    op("DequantizeLinear", Form::Linear, "as ONNX's"),
    op(
        "DynamicQuantizeLSTM",
        Form::Unrolled,
        "as LSTM of the dequantised weights: what the runtime rounds in between is not rounded",
    ),
    op("DynamicQuantizeMatMul", Form::Contraction, ""),
    op("FastGelu", Form::Table, ""),
    op("FusedConv", Form::Contraction, ""),
    op("FusedGemm", Form::Contraction, ""),
    op("FusedMatMul", Form::Contraction, "batches are not transposed"),
    op("Gelu", Form::Table, ""),
    op("MatMulIntegerToFloat", Form::Contraction, ""),
    op("QGemm", Form::Contraction, "as QLinearMatMul"),
    op("QLinearAdd", Form::Linear, "as QLinearMatMul"),
    op("QLinearAveragePool", Form::Contraction, "channels first; as QLinearMatMul"),
    op("QLinearConcat", Form::Wiring, "as QLinearMatMul"),
    op("QLinearGlobalAveragePool", Form::Linear, "channels first; as QLinearMatMul"),
    op("QLinearLeakyRelu", Form::Linear, "as QLinearMatMul"),
    op("QLinearMul", Form::Linear, "as QLinearMatMul"),
    op("QLinearSigmoid", Form::Table, "as QLinearMatMul"),
    op("QLinearSoftmax", Form::Composite, "as QLinearMatMul"),
    op("QuantizeLinear", Form::Linear, "as ONNX's"),
    op("QuickGelu", Form::Table, ""),
    op("SkipLayerNormalization", Form::Composite, "without the statistics as outputs"),
    op("SkipSimplifiedLayerNormalization", Form::Composite, "without the statistics as outputs"),
];

/// The operator, where it is supported.
pub(super) fn lookup(name: &str) -> Option<&'static Operator> {
    OPERATORS.binary_search_by(|o| o.name.cmp(name)).ok().and_then(|i| OPERATORS.get(i))
}

/// The operators that replace a node: the results, in the order of its outputs.
pub(super) fn expand(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let one = |v: ValueId| vec![v];
    match u.node.op.as_str() {
        "BiasGelu" | "FastGelu" | "Gelu" => gelu(u).map(one),
        "DequantizeLinear" | "QuantizeLinear" => {
            let (op, inputs, attrs) = (u.node.op.clone(), u.node.inputs.clone(), u.node.attrs.clone());
            u.emit_with(&op, inputs, attrs).map(one)
        }
        "DynamicQuantizeLSTM" => quantised::lstm(u),
        "DynamicQuantizeMatMul" => quantised::dynamic_product(u).map(one),
        "MatMulIntegerToFloat" => quantised::scaled_product(u).map(one),
        "FusedConv" => convolution(u).map(one),
        "FusedGemm" => {
            let (inputs, attrs) = (u.node.inputs.clone(), kept(u, &["alpha", "beta", "transA", "transB"]));
            let y = u.emit_with("Gemm", inputs, attrs)?;
            let params = (u.float("activation_alpha", 0.0)?, u.float("activation_beta", 0.0)?);
            activate(u, y, Some(params)).map(one)
        }
        "FusedMatMul" => product(u).map(one),
        "QGemm" => quantised::gemm(u).map(one),
        "QLinearConcat" => quantised::concat(u).map(one),
        "QLinearSoftmax" => quantised::softmax(u).map(one),
        "QLinearAdd" | "QLinearMul" => {
            let (a, b) = (real(u, 0)?, real(u, 3)?);
            let op = u.node.op.trim_start_matches("QLinear").to_owned();
            let y = u.op(&op, &[a, b])?;
            quantise(u, y, 6).map(one)
        }
        "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearAveragePool" | "QLinearGlobalAveragePool" => {
            if u.integer("channels_last", 0)? != 0 {
                return Err(Stop::Refused("with channels last".into()));
            }
            let x = real(u, 0)?;
            let mut attrs = u.node.attrs.clone();
            attrs.0.remove("channels_last");
            let op = u.node.op.trim_start_matches("QLinear").to_owned();
            let y = u.emit_with(&op, vec![Some(x)], attrs)?;
            quantise(u, y, 3).map(one)
        }
        "QuickGelu" => {
            let x = u.operand(0)?;
            let alpha = u.float("alpha", 1.702)?;
            let alpha = u.number(alpha)?;
            let s = u.op("Mul", &[x, alpha])?;
            let s = u.op("Sigmoid", &[s])?;
            u.op("Mul", &[x, s]).map(one)
        }
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip_normalisation(u),
        op => Err(Stop::Refused(format!("{op} is not read"))),
    }
}

/// The attributes of these names.
pub(super) fn kept(u: &Unroll<'_, '_, '_>, names: &[&str]) -> Attrs {
    let all = u.node.attrs.0.iter().filter(|(k, _)| names.contains(&k.as_str()));
    Attrs(all.map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn gelu(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let mut x = u.operand(0)?;
    if let Some(bias) = u.node.input(1) {
        x = u.op("Add", &[x, bias])?;
    }
    let kind = if u.node.op == "FastGelu" { "tanh" } else { "none" };
    u.emit("Gelu", &[x], &[("approximate", Attr::Str(kind.into()))], None)
}

/// The activation that an operator was fused with.
fn activate(u: &mut Unroll<'_, '_, '_>, y: ValueId, params: Option<(f64, f64)>) -> Result<ValueId, Stop> {
    let kind = u.text("activation", "")?;
    let given = u.numbers("activation_params")?;
    let listed = given.map(|p| (p.first().copied().unwrap_or(0.0), p.get(1).copied().unwrap_or(0.0)));
    let (a, b) = listed.or(params).unwrap_or((0.0, 0.0));
    match kind.as_str() {
        "" => Ok(y),
        "Relu" | "Tanh" | "Sigmoid" => u.op(&kind, &[y]),
        "LeakyRelu" => u.emit("LeakyRelu", &[y], &[("alpha", Attr::Float(a))], None),
        "HardSigmoid" => {
            u.emit("HardSigmoid", &[y], &[("alpha", Attr::Float(a)), ("beta", Attr::Float(b))], None)
        }
        "Clip" => {
            let (a, b) = (u.number(a)?, u.number(b)?);
            u.op("Clip", &[y, a, b])
        }
        other => Err(Stop::Refused(format!("fused with {other}"))),
    }
}

/// A convolution, a sum with the fourth operand, an activation.
fn convolution(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let names = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    let (inputs, attrs) = (u.node.inputs.iter().copied().take(3).collect(), kept(u, &names));
    let mut y = u.emit_with("Conv", inputs, attrs)?;
    if let Some(z) = u.node.input(3) {
        y = u.op("Add", &[y, z])?;
    }
    activate(u, y, None)
}

fn product(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    if u.integer("transBatchA", 0)? != 0 || u.integer("transBatchB", 0)? != 0 {
        return Err(Stop::Refused("with batches transposed".into()));
    }
    let mut operands = Vec::new();
    for (i, name) in [(0, "transA"), (1, "transB")] {
        let x = u.operand(i)?;
        let rank = u.dims(x)?.0.len();
        if u.integer(name, 0)? != 0 && rank >= 2 {
            let mut perm: Vec<i64> = (0..rank as i64).collect();
            perm.swap(rank - 1, rank - 2);
            operands.push(u.transpose(x, &perm)?);
        } else {
            operands.push(x);
        }
    }
    let y = u.op("MatMul", &operands)?;
    let alpha = u.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return Ok(y);
    }
    let alpha = u.number(alpha)?;
    u.op("Mul", &[y, alpha])
}

/// The numbers that a quantised operand stands for; its scale and zero point follow it.
pub(super) fn real(u: &mut Unroll<'_, '_, '_>, i: usize) -> Result<ValueId, Stop> {
    let inputs = vec![Some(u.operand(i)?), Some(u.operand(i + 1)?), u.node.input(i + 2)];
    u.emit_with("DequantizeLinear", inputs, Attrs::default())
}

pub(super) fn quantise(u: &mut Unroll<'_, '_, '_>, y: ValueId, i: usize) -> Result<ValueId, Stop> {
    let inputs = vec![Some(y), Some(u.operand(i)?), u.node.input(i + 1)];
    u.emit_with("QuantizeLinear", inputs, Attrs::default())
}

/// The normalised sum of two tensors, and the sum itself as the fourth result.
fn skip_normalisation(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    if u.node.output(1).is_some() || u.node.output(2).is_some() {
        return Err(Stop::Refused("its statistics are outputs".into()));
    }
    let simplified = u.node.op == "SkipSimplifiedLayerNormalization";
    let (x, skip, scale) = (u.operand(0)?, u.operand(1)?, u.operand(2)?);
    let mut sum = u.op("Add", &[x, skip])?;
    if let Some(bias) = u.node.input(if simplified { 3 } else { 4 }) {
        sum = u.op("Add", &[sum, bias])?;
    }
    let epsilon = u.float("epsilon", 1e-12)?;
    let attrs = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(epsilon))];
    let mut inputs = vec![sum, scale];
    let op = if simplified {
        "RMSNormalization"
    } else {
        inputs.extend(u.node.input(3));
        "LayerNormalization"
    };
    let y = u.emit(op, &inputs, &attrs, None)?;
    Ok(vec![y, sum, sum, sum])
}
