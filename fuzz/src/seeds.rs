//! Small ONNX models: one or more per operator, written here.

use parhelion_zkml::onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};
use prost::Message;

const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT64: i32 = 7;
const BOOL: i32 = 9;

/// An attribute's value.
#[derive(Clone, Debug)]
pub(crate) enum Attr {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(&'static [f32]),
    Texts(&'static [&'static str]),
    Text(&'static str),
    Graph(GraphProto),
}

pub(crate) fn attribute(name: &str, value: Attr) -> AttributeProto {
    let mut a = AttributeProto { name: name.to_owned(), ..Default::default() };
    match value {
        Attr::Int(i) => (a.r#type, a.i) = (2, i),
        Attr::Float(f) => (a.r#type, a.f) = (1, f),
        Attr::Ints(v) => (a.r#type, a.ints) = (7, v),
        Attr::Floats(v) => (a.r#type, a.floats) = (6, v.to_vec()),
        Attr::Texts(v) => {
            (a.r#type, a.strings) = (8, v.iter().map(|s| s.as_bytes().to_vec().into()).collect());
        }
        Attr::Text(s) => (a.r#type, a.s) = (3, s.as_bytes().to_vec().into()),
        Attr::Graph(g) => (a.r#type, a.g) = (5, Some(g)),
    }
    a
}

pub(crate) fn declare(name: &str, dtype: i32, shape: &[i64]) -> ValueInfoProto {
    let length = |&d: &i64| Dimension {
        value: Some(match d {
            ..0 => DimensionValue::DimParam("N".into()),
            _ => DimensionValue::DimValue(d),
        }),
    };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(length).collect() });
    let r#type = Some(TypeProto { tensor_type: Some(TensorType { elem_type: dtype, shape }) });
    ValueInfoProto { name: name.to_owned(), r#type }
}

/// Values that are neither all equal nor large.
fn floats(name: &str, shape: &[i64]) -> TensorProto {
    let n: i64 = shape.iter().product();
    let data = (0..n).map(|i| ((i * 7 + 3) % 11 - 5) as f32 / 8.0).collect();
    TensorProto {
        name: name.to_owned(),
        dims: shape.to_vec(),
        data_type: FLOAT,
        float_data: data,
        ..Default::default()
    }
}

fn ints(name: &str, data: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![data.len() as i64],
        data_type: INT64,
        int64_data: data.to_vec(),
        ..Default::default()
    }
}

fn scalar(name: &str, dtype: i32, value: f32) -> TensorProto {
    let mut t = TensorProto { name: name.to_owned(), data_type: dtype, ..Default::default() };
    match dtype {
        FLOAT => t.float_data = vec![value],
        INT64 => t.int64_data = vec![value as i64],
        _ => t.int32_data = vec![value as i32],
    }
    t
}

/// A graph of one node, or a chain.
#[derive(Clone, Debug, Default)]
struct Sketch(GraphProto);

impl Sketch {
    fn x(mut self, dtype: i32, shape: &[i64]) -> Self {
        let name = ["x", "y", "z", "u", "v"][self.0.input.len() % 5];
        self.0.input.push(declare(name, dtype, shape));
        self
    }

    fn constant(mut self, t: TensorProto) -> Self {
        self.0.initializer.push(t);
        self
    }

    /// A node on all inputs and constants that are not used yet, whose outputs are the graph's; of another domain as `domain::Operator`.
    fn op(mut self, op: &str, outputs: usize, attributes: &[(&str, Attr)]) -> Self {
        let used: Vec<String> = self.0.node.iter().flat_map(|n| n.input.clone()).collect();
        let mut input: Vec<String> = self.0.output.drain(..).map(|o| o.name).collect();
        let all = self.0.input.iter().map(|i| &i.name).chain(self.0.initializer.iter().map(|t| &t.name));
        input.extend(all.filter(|n| !used.contains(n)).cloned());
        let at = self.0.node.len();
        let output: Vec<String> = (0..outputs).map(|i| format!("o{at}_{i}")).collect();
        self.0.output = output.iter().map(|n| ValueInfoProto { name: n.clone(), r#type: None }).collect();
        let (domain, op) = op.split_once("::").unwrap_or(("", op));
        self.0.node.push(NodeProto {
            domain: domain.to_owned(),
            name: format!("{op}_{at}"),
            op_type: op.to_owned(),
            input,
            output,
            attribute: attributes.iter().map(|(n, a)| attribute(n, a.clone())).collect(),
        });
        self
    }

    fn model(self, opset: i64) -> ModelProto {
        let opset = OperatorSetIdProto { domain: String::new(), version: opset };
        ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(self.0), functions: vec![] }
    }
}

fn sketch() -> Sketch {
    Sketch(GraphProto { name: "g".into(), ..Default::default() })
}

/// Operators that are replaced by others when a file is imported.
fn domains() -> Vec<Sketch> {
    use Attr::{Float, Floats, Int, Ints, Text, Texts};
    let x = |shape: &[i64]| sketch().x(FLOAT, shape);
    let tree = |prefix: &str| {
        let mut attributes = vec![
            ("nodes_treeids", Ints(vec![0; 5])),
            ("nodes_nodeids", Ints(vec![0, 1, 2, 3, 4])),
            ("nodes_featureids", Ints(vec![0, 0, 2, 0, 0])),
            ("nodes_truenodeids", Ints(vec![1, 0, 3, 0, 0])),
            ("nodes_falsenodeids", Ints(vec![2, 0, 4, 0, 0])),
            ("nodes_values", Floats(&[0.25, 0.0, -0.5, 0.0, 0.0])),
            ("nodes_modes", Texts(&["BRANCH_LEQ", "LEAF", "BRANCH_GT", "LEAF", "LEAF"])),
        ];
        let ids = Ints(vec![0, 1, 0]);
        attributes.extend(match prefix {
            "class" => [
                ("class_treeids", Ints(vec![0; 3])),
                ("class_nodeids", Ints(vec![1, 3, 4])),
                ("class_ids", ids),
                ("class_weights", Floats(&[0.5, 1.0, -0.25])),
            ],
            _ => [
                ("target_treeids", Ints(vec![0; 3])),
                ("target_nodeids", Ints(vec![1, 3, 4])),
                ("target_ids", ids),
                ("target_weights", Floats(&[0.5, 1.0, -0.25])),
            ],
        });
        attributes
    };
    let mut classes = tree("class");
    classes.extend([("classlabels_int64s", Ints(vec![3, 1])), ("post_transform", Text("LOGISTIC"))]);
    let mut targets = tree("target");
    targets.push(("n_targets", Int(2)));
    let linear = [
        ("coefficients", Floats(&[0.5, 0.25, -1.0, 1.0, 0.0, 0.125])),
        ("intercepts", Floats(&[0.5, -0.5])),
        ("classlabels_ints", Ints(vec![0, 1])),
        ("targets", Int(2)),
    ];
    let vectors = [
        ("kernel_type", Text("RBF")),
        ("kernel_params", Floats(&[0.5, 0.0, 3.0])),
        ("support_vectors", Floats(&[0.5, 0.25, -1.0, 1.0, 0.0, 0.125])),
        ("coefficients", Floats(&[1.0, -0.5])),
        ("vectors_per_class", Ints(vec![1, 1])),
        ("classlabels_ints", Ints(vec![0, 1])),
        ("n_supports", Int(2)),
        ("rho", Floats(&[0.125])),
    ];
    let mut all = vec![
        x(&[2, 3]).op("ai.onnx.ml::TreeEnsembleClassifier", 2, &classes),
        x(&[2, 3]).op("ai.onnx.ml::TreeEnsembleRegressor", 1, &targets),
        x(&[2, 3]).op("ai.onnx.ml::LinearClassifier", 2, &linear),
        x(&[2, 3]).op("ai.onnx.ml::LinearRegressor", 1, &linear),
        x(&[2, 3]).op("ai.onnx.ml::SVMClassifier", 2, &vectors),
        x(&[2, 3]).op("ai.onnx.ml::SVMRegressor", 1, &vectors),
        x(&[2, 3]).op("ai.onnx.ml::Scaler", 1, &[("offset", Floats(&[0.5])), ("scale", Floats(&[2.0]))]),
        x(&[2, 3]).op("ai.onnx.ml::Normalizer", 1, &[("norm", Text("L1"))]),
        x(&[2, 3]).op("ai.onnx.ml::Imputer", 1, &[("imputed_value_floats", Floats(&[0.5]))]),
        x(&[2, 3]).op("ai.onnx.ml::Binarizer", 1, &[]),
        x(&[2, 3]).x(FLOAT, &[2, 1]).op("ai.onnx.ml::FeatureVectorizer", 1, &[]),
        x(&[2, 3]).constant(ints("i", &[2, 0])).op("ai.onnx.ml::ArrayFeatureExtractor", 1, &[]),
        sketch().x(INT64, &[2]).op("ai.onnx.ml::OneHotEncoder", 1, &[("cats_int64s", Ints(vec![0, 1]))]),
        sketch().x(INT64, &[2]).op(
            "ai.onnx.ml::LabelEncoder",
            1,
            &[("keys_int64s", Ints(vec![0, 1])), ("values_floats", Floats(&[0.5, 2.0]))],
        ),
        x(&[1, 2, 4]).constant(floats("w", &[2, 2, 3])).op(
            "com.microsoft::FusedConv",
            1,
            &[("activation", Text("Relu"))],
        ),
        x(&[2, 3]).constant(floats("w", &[3, 2])).op(
            "com.microsoft::FusedGemm",
            1,
            &[("activation", Text("LeakyRelu")), ("activation_alpha", Float(0.5))],
        ),
        x(&[2, 3]).x(FLOAT, &[2, 3]).op(
            "com.microsoft::FusedMatMul",
            1,
            &[("transB", Int(1)), ("alpha", Float(0.5))],
        ),
        x(&[2, 3]).x(FLOAT, &[2, 3]).constant(floats("g", &[3])).op(
            "com.microsoft::SkipLayerNormalization",
            1,
            &[],
        ),
        x(&[1, 4, 4]).x(FLOAT, &[1, 3, 2]).x(FLOAT, &[1, 3, 2]).op(
            "Attention",
            1,
            &[("q_num_heads", Int(2)), ("kv_num_heads", Int(1)), ("is_causal", Int(1))],
        ),
        x(&[1, 2, 3, 4]).constant(floats("c", &[1, 3, 2])).constant(floats("s", &[1, 3, 2])).op(
            "RotaryEmbedding",
            1,
            &[],
        ),
    ];
    for op in ["BiasGelu", "QuickGelu", "Gelu"] {
        all.push(x(&[2, 3]).op(&format!("com.microsoft::{op}"), 1, &[]));
    }
    all
}

/// All sketches.
fn sketches() -> Vec<Sketch> {
    use Attr::{Float, Graph, Int, Ints, Text};
    let x = |shape: &[i64]| sketch().x(FLOAT, shape);
    let mut all = domains();
    for op in [
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Ceil",
        "Celu",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Flatten",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "MeanVarianceNormalization",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shape",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Size",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Transpose",
        "Squeeze",
        "ArgMax",
        "ArgMin",
        "NonZero",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "EyeLike",
        "Dropout",
        "Hardmax",
        "LpNormalization",
        "Shrink",
        "Swish",
    ] {
        all.push(x(&[2, 3]).op(op, 1, &[]));
    }
    all.push(x(&[2, 3]).op("DynamicQuantizeLinear", 3, &[]));
    all.push(x(&[1, 2, 4]).op("GlobalLpPool", 1, &[]));
    all.push(x(&[1, 2, 4]).op("LpPool", 1, &[("kernel_shape", Ints(vec![2]))]));
    all.push(x(&[1, 2, 4]).op("LRN", 1, &[("size", Int(3))]));
    for op in [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Max",
        "Min",
        "Mean",
        "Sum",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "PRelu",
    ] {
        all.push(x(&[2, 3]).x(FLOAT, &[3]).op(op, 1, &[]));
        all.push(x(&[2, 3]).constant(floats("c", &[2, 1])).op(op, 1, &[]));
        all.push(sketch().x(INT64, &[2]).x(INT64, &[2]).op(op, 1, &[]));
    }
    for op in ["And", "Or", "Xor"] {
        all.push(sketch().x(BOOL, &[2, 2]).x(BOOL, &[2]).op(op, 1, &[]));
    }
    all.push(sketch().x(BOOL, &[2]).op("Not", 1, &[]));
    all.push(sketch().x(BOOL, &[3]).x(FLOAT, &[2, 3]).x(FLOAT, &[1]).op("Where", 1, &[]));
    all.push(sketch().x(UINT8, &[2]).x(UINT8, &[2]).op("BitShift", 1, &[("direction", Text("LEFT"))]));
    all.push(sketch().x(INT64, &[3]).x(INT64, &[3]).op("Mod", 1, &[("fmod", Int(0))]));
    all.push(x(&[2, 3]).op("Cast", 1, &[("to", Int(7))]));
    all.push(x(&[2, 3]).constant(scalar("like", INT64, 1.0)).op("CastLike", 1, &[]));
    all.push(x(&[2, 3]).constant(scalar("lo", FLOAT, -0.5)).constant(scalar("hi", FLOAT, 0.5)).op(
        "Clip",
        1,
        &[],
    ));
    all.push(x(&[2, 3]).x(FLOAT, &[2, 1]).op("Concat", 1, &[("axis", Int(1))]));
    let value =
        |t: TensorProto| AttributeProto { name: "value".into(), r#type: 4, t: Some(t), ..Default::default() };
    let mut constant = x(&[2, 3]).op("Constant", 1, &[]).op("Add", 1, &[]);
    if let Some(n) = constant.0.node.first_mut() {
        n.input.clear();
        n.attribute.push(value(floats("", &[3])));
    }
    all.push(constant);
    all.push(x(&[2, 3]).constant(ints("shape", &[2, 3])).op("ConstantOfShape", 1, &[]));
    if let Some(n) = all.last_mut().and_then(|s| s.0.node.first_mut()) {
        n.input.remove(0);
    }
    let window = |k: i64| {
        vec![
            ("kernel_shape", Ints(vec![k, k])),
            ("strides", Ints(vec![2, 1])),
            ("pads", Ints(vec![1, 0, 1, 1])),
        ]
    };
    all.push(x(&[1, 2, 5, 5]).constant(floats("w", &[3, 2, 3, 3])).constant(floats("b", &[3])).op(
        "Conv",
        1,
        &window(3),
    ));
    all.push(x(&[1, 2, 5]).constant(floats("w", &[2, 1, 3])).op(
        "Conv",
        1,
        &[("group", Int(2)), ("dilations", Ints(vec![2]))],
    ));
    all.push(x(&[1, 2, 3, 3]).constant(floats("w", &[2, 1, 2, 2])).op(
        "ConvTranspose",
        1,
        &[("strides", Ints(vec![2, 2]))],
    ));
    for op in ["MaxPool", "AveragePool"] {
        all.push(x(&[1, 2, 5, 5]).op(op, 1, &window(3)));
        all.push(x(&[1, 1, 4, 4]).op(
            op,
            1,
            &[("kernel_shape", Ints(vec![2, 2])), ("ceil_mode", Int(1)), ("auto_pad", Text("SAME_UPPER"))],
        ));
    }
    for op in ["GlobalAveragePool", "GlobalMaxPool"] {
        all.push(x(&[1, 2, 3, 3]).op(op, 1, &[]));
    }
    let norm = |s: Sketch| s.constant(floats("scale", &[2])).constant(floats("bias", &[2]));
    all.push(norm(x(&[1, 2, 3])).constant(floats("mean", &[2])).constant(ones("var", 2)).op(
        "BatchNormalization",
        1,
        &[("epsilon", Float(1e-3))],
    ));
    all.push(norm(x(&[1, 2, 3])).op("InstanceNormalization", 1, &[("epsilon", Float(1e-3))]));
    all.push(norm(x(&[1, 2, 3])).op("GroupNormalization", 1, &[("num_groups", Int(2))]));
    all.push(norm(x(&[1, 3, 2])).op("LayerNormalization", 1, &[("axis", Int(-1))]));
    all.push(x(&[1, 3, 2]).constant(floats("scale", &[2])).op("RMSNormalization", 1, &[]));
    all.push(x(&[2, 3]).constant(floats("w", &[3, 2])).constant(floats("b", &[2])).op(
        "Gemm",
        1,
        &[("alpha", Float(0.5)), ("transB", Int(0))],
    ));
    all.push(x(&[2, 3]).constant(floats("w", &[3, 2])).op("MatMul", 1, &[]));
    all.push(x(&[2, 2, 3]).x(FLOAT, &[3, 2]).op("MatMul", 1, &[]));
    all.push(x(&[2, 3]).x(FLOAT, &[3, 2]).op("Einsum", 1, &[("equation", Text("ij,jk->ik"))]));
    all.push(x(&[2, 3]).constant(ints("axis", &[1])).op("CumSum", 1, &[("exclusive", Int(1))]));
    all.push(x(&[1, 4, 1, 2]).op("DepthToSpace", 1, &[("blocksize", Int(2)), ("mode", Text("CRD"))]));
    all.push(x(&[1, 1, 2, 4]).op("SpaceToDepth", 1, &[("blocksize", Int(2))]));
    all.push(x(&[1, 3]).constant(ints("shape", &[2, 3])).op("Expand", 1, &[]));
    all.push(x(&[3, 2]).constant(ints("i", &[2, 0])).op("Gather", 1, &[("axis", Int(0))]));
    all.push(x(&[3, 2]).x(INT64, &[2]).op("Gather", 1, &[]));
    all.push(x(&[2, 2]).constant(TensorProto { dims: vec![1, 2], ..ints("i", &[0, 1]) }).op(
        "GatherElements",
        1,
        &[],
    ));
    all.push(x(&[2, 2]).constant(TensorProto { dims: vec![2, 1], ..ints("i", &[0, 1]) }).op(
        "GatherND",
        1,
        &[],
    ));
    all.push(x(&[3]).constant(ints("i", &[1, 0])).constant(floats("u", &[2])).op("ScatterElements", 1, &[]));
    all.push(
        x(&[4])
            .constant(TensorProto { dims: vec![2, 1], ..ints("i", &[3, 0]) })
            .constant(floats("u", &[2]))
            .op("ScatterND", 1, &[]),
    );
    all.push(
        sketch().x(INT64, &[3]).constant(scalar("depth", INT64, 4.0)).constant(floats("values", &[2])).op(
            "OneHot",
            1,
            &[],
        ),
    );
    all.push(x(&[1, 2, 3]).constant(ints("pads", &[0, 1, 0, 0, 1, 2])).op(
        "Pad",
        1,
        &[("mode", Text("reflect"))],
    ));
    all.push(
        x(&[4])
            .constant(ints("starts", &[1]))
            .constant(ints("ends", &[9]))
            .constant(ints("axes", &[0]))
            .constant(ints("steps", &[2]))
            .op("Slice", 1, &[]),
    );
    all.push(x(&[4, 2]).constant(ints("parts", &[1, 3])).op("Split", 2, &[("axis", Int(0))]));
    all.push(x(&[2, 3]).constant(ints("shape", &[3, -1])).op("Reshape", 1, &[]));
    all.push(x(&[2, 3]).constant(ints("axes", &[0])).op("Unsqueeze", 1, &[]));
    all.push(x(&[2, 1]).constant(ints("times", &[1, 3])).op("Tile", 1, &[]));
    all.push(x(&[2, 4]).constant(ints("k", &[2])).op("TopK", 2, &[("largest", Int(1))]));
    all.push(x(&[3, 3]).constant(scalar("k", INT64, 1.0)).op("Trilu", 1, &[("upper", Int(0))]));
    let mut resize =
        x(&[1, 1, 2, 2]).constant(ints("sizes", &[1, 1, 4, 3])).op("Resize", 1, &[("mode", Text("linear"))]);
    if let Some(n) = resize.0.node.first_mut() {
        n.input = ["x", "", "", "sizes"].map(str::to_owned).to_vec();
    }
    all.push(resize);
    let mut range = x(&[3])
        .constant(scalar("a", FLOAT, 0.0))
        .constant(scalar("b", FLOAT, 3.0))
        .constant(scalar("c", FLOAT, 1.0))
        .op("Range", 1, &[])
        .op("Add", 1, &[]);
    if let [first, second] = &mut range.0.node[..] {
        first.input = ["a", "b", "c"].map(str::to_owned).to_vec();
        second.input = ["x", "o0_0"].map(str::to_owned).to_vec();
    }
    all.push(range);
    let affine = |s: Sketch, n: &str| {
        s.constant(scalar(&format!("{n}s"), FLOAT, 0.25)).constant(scalar(&format!("{n}z"), UINT8, 3.0))
    };
    all.push(affine(x(&[2, 2]), "q").op("QuantizeLinear", 1, &[]));
    all.push(affine(sketch().x(UINT8, &[2, 2]), "q").op("DequantizeLinear", 1, &[]));
    let bytes = |name: &str, shape: &[i64]| {
        let n: i64 = shape.iter().product();
        TensorProto {
            name: name.to_owned(),
            dims: shape.to_vec(),
            data_type: UINT8,
            int32_data: (1..=n as i32).collect(),
            ..Default::default()
        }
    };
    all.push(
        affine(affine(affine(sketch().x(UINT8, &[2, 2]), "a").constant(bytes("b", &[2, 2])), "b"), "y").op(
            "QLinearMatMul",
            1,
            &[],
        ),
    );
    all.push(
        affine(
            affine(affine(sketch().x(UINT8, &[1, 1, 3, 3]), "a").constant(bytes("b", &[1, 1, 2, 2])), "b"),
            "y",
        )
        .op("QLinearConv", 1, &[]),
    );
    all.push(sketch().x(UINT8, &[2, 2]).constant(bytes("b", &[2, 2])).op("MatMulInteger", 1, &[]));
    all.push(sketch().x(UINT8, &[1, 1, 3, 3]).constant(bytes("b", &[1, 1, 2, 2])).op("ConvInteger", 1, &[]));
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        all.push(
            x(&[2, 1, 2])
                .constant(floats("w", &[1, gates * 2, 2]))
                .constant(floats("r", &[1, gates * 2, 2]))
                .op(op, 1, &[("hidden_size", Int(2))]),
        );
    }
    // Control flow.
    let body = |input: Vec<ValueInfoProto>, node: NodeProto, output: &[&str]| GraphProto {
        name: "body".into(),
        input,
        node: vec![node],
        output: output.iter().map(|n| ValueInfoProto { name: (*n).to_owned(), r#type: None }).collect(),
        ..Default::default()
    };
    let node = |op: &str, input: &[&str], output: &str| NodeProto {
        name: format!("{op}_inner"),
        op_type: op.to_owned(),
        input: input.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    };
    let yes = body(vec![], node("Relu", &["x"], "p"), &["p"]);
    let no = body(vec![], node("Neg", &["x"], "q"), &["q"]);
    let mut branch = sketch().x(FLOAT, &[2]).x(BOOL, &[]).op(
        "If",
        1,
        &[("then_branch", Graph(yes)), ("else_branch", Graph(no))],
    );
    if let Some(n) = branch.0.node.first_mut() {
        n.input = vec!["y".into()];
    }
    all.push(branch);
    let step = body(
        vec![declare("i", INT64, &[]), declare("c", BOOL, &[]), declare("s", FLOAT, &[2])],
        node("Relu", &["s"], "t"),
        &["c", "t", "t"],
    );
    let mut repeat = sketch()
        .x(FLOAT, &[2])
        .constant(scalar("n", INT64, 2.0))
        .constant(scalar("go", BOOL, 1.0))
        .op("Loop", 2, &[("body", Graph(step))]);
    if let Some(n) = repeat.0.node.first_mut() {
        n.input = ["n", "go", "x"].map(str::to_owned).to_vec();
    }
    all.push(repeat);
    let step = body(
        vec![declare("s", FLOAT, &[2]), declare("e", FLOAT, &[2])],
        node("Add", &["s", "e"], "t"),
        &["t", "t"],
    );
    all.push(sketch().x(FLOAT, &[2]).x(FLOAT, &[3, 2]).op(
        "Scan",
        2,
        &[("body", Graph(step)), ("num_scan_inputs", Int(1))],
    ));
    // Chains, as networks are.
    all.push(
        x(&[1, 4])
            .constant(floats("w", &[4, 3]))
            .op("MatMul", 1, &[])
            .constant(floats("b", &[3]))
            .op("Add", 1, &[])
            .op("Relu", 1, &[])
            .op("Softmax", 1, &[]),
    );
    all.push(
        x(&[-1, 1, 4, 4])
            .constant(floats("w", &[2, 1, 3, 3]))
            .op("Conv", 1, &[])
            .op("Relu", 1, &[])
            .op("MaxPool", 1, &[("kernel_shape", Ints(vec![2, 2]))])
            .op("Flatten", 1, &[]),
    );
    all.push(x(&[2, 3]).op("Shape", 1, &[]).op("Identity", 1, &[]));
    all
}

fn ones(name: &str, n: i64) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![n],
        data_type: FLOAT,
        float_data: vec![1.0; n as usize],
        ..Default::default()
    }
}

/// The models as files, in two operator sets.
pub fn models() -> Vec<Vec<u8>> {
    let sketches = sketches();
    let files = sketches.into_iter().flat_map(|s| [s.clone().model(18), s.model(11)]);
    files.map(|m| m.encode_to_vec()).collect()
}

/// A perceptron of two layers with one input of shape \[1, 3\].
pub(crate) fn perceptron() -> Vec<u8> {
    let layers = sketch()
        .x(FLOAT, &[1, 3])
        .constant(floats("w", &[3, 2]))
        .op("MatMul", 1, &[])
        .constant(floats("b", &[2]))
        .op("Add", 1, &[])
        .op("Relu", 1, &[]);
    layers.model(17).encode_to_vec()
}

/// Models with inputs of every kind.
pub(crate) fn interfaces() -> Vec<Vec<u8>> {
    let all = [
        sketch().x(FLOAT, &[2, 3]).op("Relu", 1, &[]),
        sketch().x(FLOAT, &[2]).x(INT64, &[2]).op("Gather", 1, &[]),
        sketch().x(INT64, &[3]).x(INT64, &[1]).op("Add", 1, &[]),
        sketch().x(UINT8, &[2, 1]).op("Identity", 1, &[]),
        sketch().x(BOOL, &[1, 2, 1]).op("Not", 1, &[]),
        sketch().x(10, &[]).op("Neg", 1, &[]),
        sketch().x(16, &[1]).op("Abs", 1, &[]),
        sketch().x(11, &[2]).op("Identity", 1, &[]),
        sketch().x(13, &[2]).op("Identity", 1, &[]),
        sketch().x(FLOAT, &[0, 2]).op("Identity", 1, &[]),
        sketch().constant(floats("c", &[2])).op("Identity", 1, &[]),
    ];
    all.map(|s| s.model(18).encode_to_vec()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Reached, run};
    use parhelion_zkml::onnx::supported_ops;
    use std::collections::BTreeSet;

    #[test]
    fn every_operator_has_a_seed_and_most_seeds_reach_a_circuit() {
        let sketches = sketches();
        let ops: BTreeSet<String> =
            sketches.iter().flat_map(|s| s.0.node.iter().map(|n| n.op_type.clone())).collect();
        // Upsample is an old name of Resize.
        let missing: Vec<&str> =
            supported_ops().filter(|op| !ops.contains(*op) && *op != "Upsample").collect();
        assert!(missing.is_empty(), "{missing:?}");
        let files = models();
        let checked = files.iter().filter(|f| run(f) == Reached::Checked).count();
        assert!(checked * 2 > files.len(), "{checked} of {}", files.len());
    }
}
