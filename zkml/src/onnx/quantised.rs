//! Quantised operators of `com.microsoft`.
//!
//! Static ones are the operator between a dequantiser and a quantiser, which lowering makes one rounding of integers. Dynamic ones quantise with the
//! range of what they are given, exactly as the runtime does; of the recurrent one only the weights are what they are there.

use super::composite::dynamic_quantise;
use super::control::{Stop, Unroll};
use super::fused::{kept, quantise, real};
use super::model::{Attr, Attrs, ValueId};

/// Gemm of quantised operands, with a bias in units of the product of their scales.
pub(super) fn gemm(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let a = real(u, 0)?;
    let transposed = u.integer("transB", 0)? != 0;
    let mut axis = Attrs::default();
    axis.set("axis", Attr::Int(i64::from(!transposed)));
    let inputs = vec![Some(u.operand(3)?), Some(u.operand(4)?), u.node.input(5)];
    let b = u.emit_with("DequantizeLinear", inputs, axis)?;
    let mut inputs = vec![Some(a), Some(b)];
    if let Some(c) = u.node.input(6) {
        let (sa, sb) = (u.operand(1)?, u.operand(4)?);
        let unit = u.op("Mul", &[sa, sb])?;
        let mut axis = Attrs::default();
        axis.set("axis", Attr::Int(-1));
        let bias = u.emit_with("DequantizeLinear", vec![Some(c), Some(unit)], axis)?;
        let alpha = u.float("alpha", 1.0)?;
        inputs.push(Some(if alpha == 1.0 {
            bias
        } else {
            let alpha = u.number(alpha)?;
            u.op("Mul", &[bias, alpha])?
        }));
    }
    let attrs = kept(u, &["alpha", "transA", "transB"]);
    let y = u.emit_with("Gemm", inputs, attrs)?;
    if u.node.input(7).is_some() { quantise(u, y, 7) } else { Ok(y) }
}

/// Operands of scales of their own side by side, in one scale.
pub(super) fn concat(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let axis = u.integer("axis", 0)?;
    let mut parts = Vec::new();
    for k in (2..u.node.inputs.len()).step_by(3) {
        parts.push(real(u, k)?);
    }
    let y = u.concat(&parts, axis)?;
    quantise(u, y, 0)
}

pub(super) fn softmax(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = real(u, 0)?;
    let (shape, _) = u.dims(x)?;
    let axis = u.integer("axis", -1)?;
    let axis = crate::float::normal_axis(axis, shape.len()).map_err(|e| u.wrong(e))?;
    let y = if u.integer("opset", 13)? < 13 && axis + 1 != shape.len() {
        // The operand is a matrix, whose rows are the axes from this one on.
        let rows: usize = shape[..axis].iter().product();
        let columns: usize = shape[axis..].iter().product();
        let flat = u.reshape(x, &[rows, columns])?;
        let y = u.emit("Softmax", &[flat], &[("axis", Attr::Int(1))], None)?;
        u.reshape(y, &shape)?
    } else {
        u.emit("Softmax", &[x], &[("axis", Attr::Int(axis as i64))], None)?
    };
    quantise(u, y, 3)
}

/// Integers times integers, times the scales of both, plus a bias.
fn rescaled(
    u: &mut Unroll<'_, '_, '_>,
    operands: [Option<ValueId>; 4],
    scales: [ValueId; 2],
    bias: Option<ValueId>,
) -> Result<ValueId, Stop> {
    let y = u.emit_with("MatMulInteger", operands.to_vec(), Attrs::default())?;
    let y = u.emit("Cast", &[y], &[("to", Attr::Int(1))], None)?;
    let unit = u.op("Mul", &scales)?;
    let y = u.op("Mul", &[y, unit])?;
    match bias {
        Some(b) => u.op("Add", &[y, b]),
        None => Ok(y),
    }
}

/// Operands: a, b, scale of a, scale of b, zero point of a, zero point of b, bias.
pub(super) fn scaled_product(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let operands = [Some(u.operand(0)?), Some(u.operand(1)?), u.node.input(4), u.node.input(5)];
    let scales = [u.operand(2)?, u.operand(3)?];
    rescaled(u, operands, scales, u.node.input(6))
}

/// Operands: a in floats, b, scale of b, zero point of b, bias.
pub(super) fn dynamic_product(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let a = u.operand(0)?;
    let d = dynamic_quantise(u, a)?;
    let operands = [Some(d.q), Some(u.operand(1)?), Some(d.zero), u.node.input(3)];
    let scales = [d.scale, u.operand(2)?];
    rescaled(u, operands, scales, u.node.input(4))
}

/// An LSTM whose weights are integers, with rows and columns exchanged.
///
/// Operands: x, w, r, b, lengths, states, peepholes as LSTM's; then scale and zero point of w, and of r.
pub(super) fn lstm(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let mut inputs = u.node.inputs.clone();
    inputs.truncate(8);
    for (k, scale) in [(1, 8), (2, 10)] {
        let (w, s, z) = (u.operand(k)?, u.operand(scale)?, u.node.input(scale + 1));
        let (shape, _) = u.dims(w)?;
        let [directions, _, columns] = shape[..] else {
            return Err(u.wrong(format!("weights of shape {shape:?}")));
        };
        // One scale per direction, or per column of each.
        let spread = |v: ValueId, u: &mut Unroll<'_, '_, '_>| -> Result<ValueId, Stop> {
            let n: usize = u.dims(v)?.0.iter().product();
            match n {
                1 => u.reshape(v, &[1, 1, 1]),
                n if n == directions => u.reshape(v, &[n, 1, 1]),
                n if n == directions * columns => u.reshape(v, &[directions, 1, columns]),
                n => Err(u.wrong(format!("{n} scales for weights of shape {shape:?}"))),
            }
        };
        let float = [("to", Attr::Int(1))];
        let mut y = u.emit("Cast", &[w], &float, None)?;
        if let Some(z) = z {
            let z = u.emit("Cast", &[z], &float, None)?;
            let z = spread(z, u)?;
            y = u.op("Sub", &[y, z])?;
        }
        let s = spread(s, u)?;
        let y = u.op("Mul", &[y, s])?;
        inputs[k] = Some(u.transpose(y, &[0, 2, 1])?);
    }
    let names = [
        "activations",
        "activation_alpha",
        "activation_beta",
        "clip",
        "direction",
        "hidden_size",
        "input_forget",
    ];
    let attrs = kept(u, &names);
    u.emit_all("LSTM", inputs, attrs, 3)
}
