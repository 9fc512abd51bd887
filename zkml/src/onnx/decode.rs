//! Protobuf messages to plain data: tensors, attributes, types.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes;

use super::error::ImportError;
use super::external::External;
use super::model::{Attr, Attrs};
use super::proto::{AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::tensor::{DType, Data, TensorF, checked_len};

/// `TensorProto.data_location` of values in another file.
const EXTERNAL: i32 = 1;

/// Parses the protobuf message; raw data stay slices of `bytes`.
pub(super) fn parse(bytes: Bytes) -> Result<ModelProto, ImportError> {
    match catch_unwind(AssertUnwindSafe(|| ModelProto::decode(bytes))) {
        Ok(Ok(model)) => Ok(model),
        Ok(Err(e)) => Err(ImportError::Malformed(e.to_string())),
        Err(_) => Err(ImportError::ParserPanic),
    }
}

/// The values of a tensor message.
pub(super) fn tensor(
    p: &TensorProto,
    fallback_name: &str,
    external: &External,
) -> Result<TensorF, ImportError> {
    let name = if p.name.is_empty() { fallback_name } else { &p.name };
    let bad = |reason: String| ImportError::Tensor { name: name.to_owned(), reason };
    let dtype = DType::from_onnx(p.data_type)
        .ok_or_else(|| bad(format!("element type {} is not numeric", p.data_type)))?;
    let shape = p
        .dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| bad(format!("dimension {d} is negative"))))
        .collect::<Result<Vec<_>, _>>()?;
    let n = checked_len(&shape).map_err(|e| bad(e.to_string()))?;
    let elsewhere = p.data_location == EXTERNAL || !p.external_data.is_empty();
    let data = if elsewhere {
        raw(&external.read(p, name, n.checked_mul(dtype.file_bytes()))?, dtype)
    } else if !p.raw_data.is_empty() {
        raw(&p.raw_data, dtype)
    } else {
        typed(p, dtype)
    };
    if data.len() != n {
        return Err(bad(format!("shape {shape:?} needs {n} elements, the file has {}", data.len())));
    }
    TensorF::new(shape, dtype, data).map_err(|e| bad(e.to_string()))
}

fn raw(bytes: &[u8], dtype: DType) -> Data {
    fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|c| f(*c)).collect()
    }
    match dtype {
        DType::F32 => Data::F(each(bytes, |b| f32::from_le_bytes(b).into())),
        DType::F64 => Data::F(each(bytes, f64::from_le_bytes)),
        DType::F16 => Data::F(each(bytes, |b| half(u16::from_le_bytes(b)))),
        DType::Bf16 => Data::F(each(bytes, |b| bfloat(u16::from_le_bytes(b)))),
        DType::Bool => Data::I(bytes.iter().map(|&b| i64::from(b != 0)).collect()),
        DType::U8 => Data::I(bytes.iter().map(|&b| b.into()).collect()),
        DType::I8 => Data::I(each(bytes, |b| i8::from_le_bytes(b).into())),
        DType::U16 => Data::I(each(bytes, |b| u16::from_le_bytes(b).into())),
        DType::I16 => Data::I(each(bytes, |b| i16::from_le_bytes(b).into())),
        DType::U32 => Data::I(each(bytes, |b| u32::from_le_bytes(b).into())),
        DType::I32 => Data::I(each(bytes, |b| i32::from_le_bytes(b).into())),
        DType::I64 => Data::I(each(bytes, i64::from_le_bytes)),
        DType::U64 => Data::I(each(bytes, |b| u64::from_le_bytes(b) as i64)),
    }
}

fn typed(p: &TensorProto, dtype: DType) -> Data {
    match dtype {
        DType::F32 => Data::F(p.float_data.iter().map(|&x| x.into()).collect()),
        DType::F64 => Data::F(p.double_data.clone()),
        DType::F16 => Data::F(p.int32_data.iter().map(|&x| half(x as u16)).collect()),
        DType::Bf16 => Data::F(p.int32_data.iter().map(|&x| bfloat(x as u16)).collect()),
        DType::I64 => Data::I(p.int64_data.clone()),
        DType::U32 | DType::U64 => Data::I(p.uint64_data.iter().map(|&x| dtype.wrap(x as i64)).collect()),
        _ => Data::I(p.int32_data.iter().map(|&x| dtype.wrap(x.into())).collect()),
    }
}

/// The value of an IEEE half.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 31);
    let fraction = f64::from(bits & 1023);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    }
}

/// The value of a bfloat16.
fn bfloat(bits: u16) -> f64 {
    f32::from_bits(u32::from(bits) << 16).into()
}

/// The attributes of a node.
pub(super) fn attributes(
    node: &NodeProto,
    node_name: &str,
    external: &External,
) -> Result<Attrs, ImportError> {
    let bad =
        |reason: String| ImportError::Node { node: node_name.to_owned(), op: node.op_type.clone(), reason };
    let mut out = BTreeMap::new();
    for a in &node.attribute {
        if !a.ref_attr_name.is_empty() {
            return Err(bad(format!("attribute `{}` refers to a function's parameter", a.name)));
        }
        let value = attribute(a, node_name, external).map_err(|e| match e {
            Ok(e) => e,
            Err(reason) => bad(reason),
        })?;
        if out.insert(a.name.clone(), value).is_some() {
            return Err(bad(format!("attribute `{}` is given twice", a.name)));
        }
    }
    Ok(Attrs(out))
}

fn attribute(
    a: &AttributeProto,
    node: &str,
    external: &External,
) -> Result<Attr, Result<ImportError, String>> {
    let text = |s: &[u8]| {
        String::from_utf8(s.to_vec()).map_err(|_| Err(format!("attribute `{}` is not UTF-8", a.name)))
    };
    Ok(match a.r#type {
        1 => Attr::Float(a.f.into()),
        2 => Attr::Int(a.i),
        3 => Attr::Str(text(&a.s)?),
        4 => {
            let t = a.t.as_ref().ok_or_else(|| Err(format!("attribute `{}` has no tensor", a.name)))?;
            Attr::Tensor(Arc::new(tensor(t, node, external).map_err(Ok)?))
        }
        5 => Attr::Other("graph"),
        6 => Attr::Floats(a.floats.iter().map(|&x| x.into()).collect()),
        7 => Attr::Ints(a.ints.clone()),
        8 => Attr::Strs(a.strings.iter().map(|s| text(s)).collect::<Result<_, _>>()?),
        // Files of the first IR version leave the type out: the field that is filled decides.
        0 if !a.ints.is_empty() => Attr::Ints(a.ints.clone()),
        0 if !a.floats.is_empty() => Attr::Floats(a.floats.iter().map(|&x| x.into()).collect()),
        0 if !a.s.is_empty() => Attr::Str(text(&a.s)?),
        0 if a.t.is_some() => {
            let t = a.t.as_ref().ok_or_else(|| Err(format!("attribute `{}` has no tensor", a.name)))?;
            Attr::Tensor(Arc::new(tensor(t, node, external).map_err(Ok)?))
        }
        0 if a.f != 0.0 => Attr::Float(a.f.into()),
        0 => Attr::Int(a.i),
        9 => Attr::Other("tensors"),
        10 => Attr::Other("graphs"),
        11 | 12 => Attr::Other("sparse tensor"),
        13 | 14 => Attr::Other("type"),
        t => return Err(Err(format!("attribute `{}` has the unknown type {t}", a.name))),
    })
}

/// Element type of a graph input.
pub(super) fn input_dtype(info: &ValueInfoProto) -> Result<DType, ImportError> {
    let bad = |reason: String| ImportError::Input { name: info.name.clone(), reason };
    let Some(t) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return Err(bad("is not a tensor".into()));
    };
    DType::from_onnx(t.elem_type).ok_or_else(|| bad(format!("element type {} is not numeric", t.elem_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_floats_decode() {
        assert_eq!(half(0x3c00), 1.0);
        assert_eq!(half(0xc000), -2.0);
        assert_eq!(half(0x0001), 2f64.powi(-24));
        assert_eq!(half(0x7c00), f64::INFINITY);
        assert!(half(0x7e00).is_nan());
        assert_eq!(bfloat(0x3fc0), 1.5);
    }
}
