//! ONNX models written in a test.

use parhelion_zkml::onnx::proto::{
    AttributeProto, Dimension, DimensionValue as Value, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};
use prost::Message;

/// Code of `float32`.
pub(crate) const FLOAT: i32 = 1;
/// Code of `uint8`.
pub(crate) const UINT8: i32 = 2;
/// Code of `int8`.
pub(crate) const INT8: i32 = 3;
/// Code of `int64`.
pub(crate) const INT64: i32 = 7;

/// A model under construction.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) graph: GraphProto,
    pub(crate) opset: i64,
    pub(crate) functions: Vec<FunctionProto>,
}

/// An attribute's value.
pub(crate) enum A<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Floats(&'a [f32]),
    Strs(&'a [&'a str]),
    Str(&'a str),
    Graph(GraphProto),
    Tensor(TensorProto),
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            graph: GraphProto { name: "test".into(), ..Default::default() },
            opset: 17,
            functions: Vec::new(),
        }
    }

    pub(crate) fn input(mut self, name: &str, dtype: i32, shape: &[i64]) -> Self {
        self.graph.input.push(value(name, dtype, shape));
        self
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph.output.push(ValueInfoProto { name: name.into(), ..Default::default() });
        self
    }

    pub(crate) fn floats(mut self, name: &str, shape: &[i64], data: &[f32]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: shape.to_vec(),
            data_type: FLOAT,
            raw_data: data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Default::default()
        });
        self
    }

    /// An initialiser of 8-bit integers: of [`INT8`] or [`UINT8`].
    pub(crate) fn bytes8(mut self, name: &str, dtype: i32, shape: &[i64], data: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: shape.to_vec(),
            data_type: dtype,
            raw_data: data.iter().map(|&v| v as u8).collect(),
            ..Default::default()
        });
        self
    }

    pub(crate) fn ints(mut self, name: &str, data: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: vec![data.len() as i64],
            data_type: INT64,
            int64_data: data.to_vec(),
            ..Default::default()
        });
        self
    }

    /// A constant of any element type, by the bytes of its elements.
    pub(crate) fn raw(mut self, name: &str, dtype: i32, shape: &[i64], bytes: &[u8]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: shape.to_vec(),
            data_type: dtype,
            raw_data: bytes.to_vec().into(),
            ..Default::default()
        });
        self
    }

    /// An operator; of another domain where that stands before its name, as in `domain::Operator`.
    pub(crate) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attrs: &[(&str, A<'_>)],
    ) -> Self {
        let attribute = attrs
            .iter()
            .map(|(name, v)| {
                let mut a = AttributeProto { name: (*name).into(), ..Default::default() };
                match v {
                    A::Int(i) => (a.r#type, a.i) = (2, *i),
                    A::Float(f) => (a.r#type, a.f) = (1, *f),
                    A::Ints(v) => (a.r#type, a.ints) = (7, v.to_vec()),
                    A::Floats(v) => (a.r#type, a.floats) = (6, v.to_vec()),
                    A::Strs(v) => {
                        (a.r#type, a.strings) = (8, v.iter().map(|s| s.as_bytes().to_vec().into()).collect());
                    }
                    A::Graph(g) => (a.r#type, a.g) = (5, Some(g.clone())),
                    A::Tensor(t) => (a.r#type, a.t) = (4, Some(t.clone())),
                    A::Str(s) => (a.r#type, a.s) = (3, s.as_bytes().to_vec().into()),
                }
                a
            })
            .collect();
        let (domain, op) = op.split_once("::").unwrap_or(("", op));
        self.graph.node.push(NodeProto {
            domain: domain.into(),
            name: format!("{op}_{}", self.graph.node.len()),
            op_type: op.into(),
            input: inputs.iter().map(|s| (*s).into()).collect(),
            output: outputs.iter().map(|s| (*s).into()).collect(),
            attribute,
        });
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let opsets = vec![opset("", self.opset), opset("ai.onnx.ml", 3), opset("com.microsoft", 1)];
        let model = ModelProto {
            ir_version: 8,
            opset_import: opsets,
            graph: Some(self.graph.clone()),
            functions: self.functions.clone(),
        };
        model.encode_to_vec()
    }
}

/// A tensor's declaration; negative dimensions are symbolic.
pub(crate) fn value(name: &str, dtype: i32, shape: &[i64]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|&d| Dimension {
            value: Some(if d < 0 { Value::DimParam("batch".into()) } else { Value::DimValue(d) }),
        })
        .collect();
    let tensor = TensorType { elem_type: dtype, shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor) });
    ValueInfoProto { name: name.into(), r#type }
}
