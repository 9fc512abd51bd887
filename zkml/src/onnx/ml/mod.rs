//! Operators of `ai.onnx.ml`, as the converters of scikit-learn, LightGBM and XGBoost write them: each becomes operators of ONNX's own domain when
//! the model is imported.
//!
//! What a tree compares with, the values of its leaves and the coefficients of linear models become float constants, so they are parameters
//! of the model and private by default; the shape of a tree and the features that it reads are structure, and so public.
//! A map from classes to probabilities (ZipMap) is its tensor of probabilities, in the order of the classes.

mod ensemble;
mod linear;
mod trees;

use std::sync::Arc;

use super::control::{Stop, Unroll};
use super::error::ImportError;
use super::model::{Attr, ValueId};
use super::operators::{Form, Operator};
use super::tensor::{DType, TensorF, checked_len};

/// The domain.
pub(super) const DOMAIN: &str = "ai.onnx.ml";

const fn op(name: &'static str, form: Form, limits: &'static str) -> Operator {
    Operator { name, since: 1, form, limits, structural: &[] }
}

/// What is read of the domain, in alphabetical order.
pub(super) const OPERATORS: &[Operator] = &[
    op("ArrayFeatureExtractor", Form::Index, "a constant index is wiring"),
    op("Binarizer", Form::Decision, ""),
    op("FeatureVectorizer", Form::Wiring, ""),
    op("Imputer", Form::Decision, "not-a-number is never missing, for no input can hold it"),
    op("LabelEncoder", Form::Decision, "from numbers to numbers"),
    op("LinearClassifier", Form::Contraction, "labels are integers; as TreeEnsembleRegressor"),
    op("LinearRegressor", Form::Contraction, "as TreeEnsembleRegressor"),
    op("Normalizer", Form::Composite, ""),
    op("OneHotEncoder", Form::Decision, "of numbers"),
    op("SVMClassifier", Form::Composite, "of two classes, without probabilities; labels are integers"),
    op("SVMRegressor", Form::Composite, ""),
    op("Scaler", Form::Linear, ""),
    op("TreeEnsemble", Form::Decision, "as TreeEnsembleRegressor; sets of members too"),
    op("TreeEnsembleClassifier", Form::Decision, "labels are integers; as TreeEnsembleRegressor"),
    op("TreeEnsembleRegressor", Form::Decision, "sums and averages; NONE, SOFTMAX and LOGISTIC"),
    op("ZipMap", Form::Wiring, "the map becomes the tensor of its values"),
];

/// The operator, where it is supported.
pub(super) fn lookup(name: &str) -> Option<&'static Operator> {
    OPERATORS.binary_search_by(|o| o.name.cmp(name)).ok().and_then(|i| OPERATORS.get(i))
}

/// The operators that replace a node: the results, in the order of its outputs.
pub(super) fn expand(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let one = |v: ValueId| vec![v];
    match u.node.op.as_str() {
        "ArrayFeatureExtractor" => extract(u).map(one),
        "Binarizer" => binarize(u).map(one),
        "FeatureVectorizer" => vectorize(u).map(one),
        "Imputer" => impute(u).map(one),
        "LabelEncoder" => encode(u).map(one),
        "LinearClassifier" => linear::classifier(u),
        "LinearRegressor" => linear::regressor(u).map(one),
        "Normalizer" => normalize(u).map(one),
        "OneHotEncoder" => one_hot(u).map(one),
        "SVMClassifier" => linear::svm_classifier(u),
        "SVMRegressor" => linear::svm_regressor(u).map(one),
        "Scaler" => scale(u).map(one),
        "TreeEnsemble" => ensemble::ensemble(u).map(one),
        "TreeEnsembleClassifier" => trees::classifier(u),
        "TreeEnsembleRegressor" => trees::regressor(u).map(one),
        "ZipMap" => u.operand(0).map(one),
        op => Err(Stop::Refused(format!("{op} is not read"))),
    }
}

/// Helpers of the expansions.
impl Unroll<'_, '_, '_> {
    /// The features of each sample: single precision, one row per sample.
    fn features(&mut self, i: usize) -> Result<(ValueId, usize), Stop> {
        let x = self.operand(i)?;
        let x = self.cast(x, DType::F32)?;
        self.rows(x)
    }

    /// The features of each sample as trees compare them: in double precision where they are given in it.
    fn compared(&mut self, i: usize) -> Result<(ValueId, usize), Stop> {
        let x = self.operand(i)?;
        let x = if self.dims(x)?.1 == DType::F64 { x } else { self.cast(x, DType::F32)? };
        self.rows(x)
    }

    /// One row per sample.
    fn rows(&mut self, x: ValueId) -> Result<(ValueId, usize), Stop> {
        let (shape, _) = self.dims(x)?;
        match shape[..] {
            [_, n] => Ok((x, n)),
            [n] => {
                let dims = self.ints(vec![1, n as i64]);
                Ok((self.op("Reshape", &[x, dims])?, n))
            }
            _ => Err(self.wrong(format!("features of shape {shape:?}, not one row per sample"))),
        }
    }

    /// The labels of a classifier.
    fn labels(&self, attribute: &str) -> Result<Vec<i64>, Stop> {
        for a in [attribute, "classlabels_int64s", "classlabels_ints"] {
            if let Some(labels) = self.integers(a)? {
                return Ok(labels);
            }
        }
        Err(Stop::Refused("the labels of its classes are texts; train with integers as labels".into()))
    }

    /// Scores after the transformation that the attribute `post_transform` names.
    fn transform(&mut self, scores: ValueId) -> Result<ValueId, Stop> {
        match self.text("post_transform", "NONE")?.as_str() {
            "NONE" => Ok(scores),
            "SOFTMAX" => self.emit("Softmax", &[scores], &[("axis", Attr::Int(-1))], None),
            "LOGISTIC" => self.op("Sigmoid", &[scores]),
            other => Err(Stop::Refused(format!("the transformation {other} of scores"))),
        }
    }

    /// The label of the greatest score of each row.
    fn best(&mut self, scores: ValueId, labels: &[i64]) -> Result<ValueId, Stop> {
        let attrs = [("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))];
        let best = self.emit("ArgMax", &[scores], &attrs, None)?;
        if labels.iter().copied().eq(0..labels.len() as i64) {
            return Ok(best);
        }
        let labels = self.ints(labels.to_vec());
        self.emit("Gather", &[labels, best], &[("axis", Attr::Int(0))], None)
    }

    /// The second of two labels where one score per row is above a threshold, else the first.
    fn above(&mut self, score: ValueId, threshold: f64, labels: [i64; 2]) -> Result<ValueId, Stop> {
        let threshold = self.number(threshold)?;
        let positive = self.op("Greater", &[score, threshold])?;
        let flat = self.ints(vec![-1]);
        let positive = self.op("Reshape", &[positive, flat])?;
        if labels == [0, 1] {
            return self.cast(positive, DType::I64);
        }
        let [no, yes] = labels.map(|l| TensorF::int(vec![], DType::I64, vec![l]).map_err(ImportError::from));
        let (no, yes) = (self.constant(no?), self.constant(yes?));
        self.op("Where", &[positive, yes, no])
    }

    /// Two columns side by side.
    fn beside(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, Stop> {
        self.emit("Concat", &[a, b], &[("axis", Attr::Int(1))], None)
    }

    /// Some columns of a matrix.
    fn columns(&mut self, x: ValueId, which: &[usize]) -> Result<ValueId, Stop> {
        let which = self.ints(which.iter().map(|&i| i as i64).collect());
        self.emit("Gather", &[x, which], &[("axis", Attr::Int(1))], None)
    }

    /// `[x = keyₖ]` along a new last axis.
    fn matches(&mut self, x: ValueId, keys: Arc<TensorF>) -> Result<ValueId, Stop> {
        let last = self.ints(vec![-1]);
        let x = self.op("Unsqueeze", &[x, last])?;
        self.b.count(keys.len(), &self.node.name.clone())?;
        let keys = self.constant(keys.as_ref().clone());
        let bits = self.op("Equal", &[x, keys])?;
        self.cast(bits, DType::F32)
    }
}

/// Elements of the last axis; a vector is one row.
fn extract(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let (mut x, index) = (u.operand(0)?, u.operand(1)?);
    if u.dims(x)?.0.len() == 1 {
        let axes = u.ints(vec![0]);
        x = u.op("Unsqueeze", &[x, axes])?;
    }
    let flat = u.ints(vec![-1]);
    let index = u.op("Reshape", &[index, flat])?;
    u.emit("Gather", &[x, index], &[("axis", Attr::Int(-1))], None)
}

fn binarize(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let (x, threshold) = (u.operand(0)?, u.float("threshold", 0.0)?);
    let x = u.cast(x, DType::F32)?;
    let threshold = u.number(threshold)?;
    let bits = u.op("Greater", &[x, threshold])?;
    u.cast(bits, DType::F32)
}

fn vectorize(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let mut parts = Vec::new();
    for i in 0..u.node.inputs.len() {
        parts.push(u.features(i)?.0);
    }
    u.emit("Concat", &parts, &[("axis", Attr::Int(1))], None)
}

fn impute(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let (shape, dtype) = u.dims(x)?;
    let (missing, values) = if dtype.is_float() {
        (u.float("replaced_value_float", 0.0)?, u.numbers("imputed_value_floats")?)
    } else {
        let values = u.integers("imputed_value_int64s")?;
        (u.integer("replaced_value_int64", 0)? as f64, values.map(|v| v.iter().map(|&v| v as f64).collect()))
    };
    let values = values.ok_or_else(|| u.wrong("has no values to impute"))?;
    if missing.is_nan() {
        return Ok(x);
    }
    if values.len() != 1 && shape.last() != Some(&values.len()) {
        return Err(u.wrong(format!("{} values to impute for features of shape {shape:?}", values.len())));
    }
    let tensor = |v: Vec<f64>| {
        let n = v.len();
        if dtype.is_float() {
            TensorF::float(vec![n], dtype, v)
        } else {
            TensorF::int(vec![n], dtype, v.into_iter().map(|v| v as i64).collect())
        }
    };
    let missing = tensor(vec![missing]).map_err(ImportError::from)?;
    let values = tensor(values).map_err(ImportError::from)?;
    let (missing, values) = (u.constant(missing), u.constant(values));
    let gone = u.op("Equal", &[x, missing])?;
    u.op("Where", &[gone, values, x])
}

/// Values by key: a sum over the keys, of which one at most matches.
fn encode(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let (_, from) = u.dims(x)?;
    let texts = "its keys or values are texts";
    let keys = match u.integers("keys_int64s")? {
        Some(k) => Some(k.into_iter().map(|k| k as f64).collect()),
        None => u.numbers("keys_floats")?,
    };
    let mut keys: Vec<f64> = keys.ok_or_else(|| Stop::Refused(texts.into()))?;
    let whole = u.integers("values_int64s")?;
    let (mut values, default) = match &whole {
        Some(v) => (v.iter().map(|&v| v as f64).collect(), u.integer("default_int64", -1)? as f64),
        None => {
            let values: Option<Vec<f64>> = u.numbers("values_floats")?;
            (values.ok_or_else(|| Stop::Refused(texts.into()))?, u.float("default_float", 0.0)?)
        }
    };
    if keys.len() != values.len() {
        return Err(u.wrong(format!("{} keys for {} values", keys.len(), values.len())));
    }
    // Not-a-number is no input, and of equal keys the first counts.
    let mut seen = std::collections::HashSet::new();
    let keep: Vec<bool> = keys.iter().map(|k| !k.is_nan() && seen.insert(k.to_bits())).collect();
    let mut kept = keep.iter();
    keys.retain(|_| kept.next() == Some(&true));
    let mut kept = keep.iter();
    values.retain(|_| kept.next() == Some(&true));
    let n = keys.len();
    let keys = if from.is_float() {
        TensorF::float(vec![n], from, keys)
    } else {
        TensorF::int(vec![n], from, keys.into_iter().map(|k| k as i64).collect())
    };
    let bits = u.matches(x, Arc::new(keys.map_err(ImportError::from)?))?;
    let column = u.floats(&[n, 1], values.into_iter().map(|v| v - default).collect())?;
    let sum = u.op("MatMul", &[bits, column])?;
    let last = u.ints(vec![-1]);
    let sum = u.op("Squeeze", &[sum, last])?;
    let default = u.number(default)?;
    let sum = u.op("Add", &[sum, default])?;
    if whole.is_some() { u.cast(sum, DType::I64) } else { Ok(sum) }
}

fn normalize(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let (x, _) = u.features(0)?;
    let op = match u.text("norm", "MAX")?.as_str() {
        "L1" => "ReduceL1",
        "L2" => "ReduceL2",
        "MAX" => "ReduceMax",
        other => return Err(u.wrong(format!("the norm {other}"))),
    };
    let axes = u.ints(vec![1]);
    let norm = u.emit(op, &[x, axes], &[("keepdims", Attr::Int(1))], None)?;
    u.op("Div", &[x, norm])
}

fn one_hot(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let (_, dtype) = u.dims(x)?;
    let keys = u.integers("cats_int64s")?.ok_or_else(|| Stop::Refused("its categories are texts".into()))?;
    let n = keys.len();
    let keys = if dtype.is_float() {
        TensorF::float(vec![n], dtype, keys.into_iter().map(|k| k as f64).collect())
    } else {
        TensorF::int(vec![n], dtype, keys)
    };
    u.matches(x, Arc::new(keys.map_err(ImportError::from)?))
}

/// (x − offset) · scale
fn scale(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let (x, n) = u.features(0)?;
    let mut y = x;
    for (name, op) in [("offset", "Sub"), ("scale", "Mul")] {
        let Some(v) = u.numbers(name)? else { continue };
        if v.len() != 1 && v.len() != n {
            return Err(u.wrong(format!("`{name}` has {} values for {n} features", v.len())));
        }
        let v = u.floats(&[v.len()], v)?;
        y = u.op(op, &[y, v])?;
    }
    Ok(y)
}

/// Elements of a matrix, checked.
fn matrix_len(u: &Unroll<'_, '_, '_>, rows: usize, columns: usize) -> Result<usize, Stop> {
    checked_len(&[rows, columns]).map_err(|e| u.wrong(e.to_string()))
}
