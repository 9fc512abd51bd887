//! Inputs in ezkl's JSON format: `{"input_data": [[…], …]}`, one list per input of the model.
//!
//! Each list is flat or nested as the shape says; elements are numbers or booleans. A file with other keys beside `input_data` is accepted, since ezkl
//! writes some. Everything else that is wrong is an [`InputError`] that names the input.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::onnx::{DType, Data, Dim, Model, TensorF, Value};

/// Deepest nesting of a list.
const MAX_DEPTH: usize = 64;

/// What is wrong with an input file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Not JSON.
    #[error("the input is not JSON: {0}")]
    Json(String),
    /// No list of inputs.
    #[error("the input has no list `input_data`")]
    NoData,
    /// Wrong number of inputs.
    #[error("the model has {expected} input(s), the file has {got}")]
    Count {
        /// Inputs of the model.
        expected: usize,
        /// Lists in the file.
        got: usize,
    },
    /// Wrong number of elements.
    #[error("input `{name}` of shape {shape:?} has {expected} elements, the file has {got}")]
    Length {
        /// Name of the input.
        name: String,
        /// Shape of the input.
        shape: Vec<usize>,
        /// Elements of the shape.
        expected: usize,
        /// Elements in the file.
        got: usize,
    },
    /// Nesting that is not the shape.
    #[error("input `{name}`: the nesting is {got:?}, not the shape {shape:?}")]
    Shape {
        /// Name of the input.
        name: String,
        /// Shape of the input.
        shape: Vec<usize>,
        /// Lengths of the nested lists.
        got: Vec<usize>,
    },
    /// An element that the input's type does not hold.
    #[error("input `{name}`, element {index}: {reason}")]
    Element {
        /// Name of the input.
        name: String,
        /// Flat index.
        index: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What happens to lists after those that the model's inputs take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Surplus {
    /// They are an error.
    #[default]
    Refuse,
    /// They are left aside. Exporters drop inputs that a model does not use, while the data written beside it still has them.
    Ignore,
}

/// Reads the inputs of a model.
///
/// # Errors
///
/// See [`InputError`]; more lists than inputs are an error here.
pub fn parse_inputs(json: &str, model: &Model) -> Result<Vec<TensorF>, InputError> {
    parse_inputs_with(json, model, Surplus::Refuse)
}

/// [`parse_inputs`] with a choice about surplus lists.
///
/// # Errors
///
/// See [`InputError`].
pub fn parse_inputs_with(json: &str, model: &Model, surplus: Surplus) -> Result<Vec<TensorF>, InputError> {
    let json: Json = serde_json::from_str(json).map_err(|e| InputError::Json(e.to_string()))?;
    let lists = json.get("input_data").and_then(Json::as_array).ok_or(InputError::NoData)?;
    let expected = model.inputs.len();
    // A model without inputs comes with one empty list.
    let empty = |l: &Json| l.as_array().is_some_and(Vec::is_empty);
    let given = if expected == 0 && lists.iter().all(empty) { 0 } else { lists.len() };
    if given < expected || (given > expected && surplus == Surplus::Refuse) {
        return Err(InputError::Count { expected, got: given });
    }
    model.input_values().zip(lists).map(|(v, l)| tensor(v, l)).collect()
}

/// Lengths of symbolic dimensions, as the lists of an input file have them: where a list is nested as deep as the shape, or flat with one symbol
/// in the shape. Says nothing of a file that is wrong; [`parse_inputs_with`] does.
pub fn symbolic_lengths(json: &str, shapes: &[Vec<Dim>]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let Ok(json) = serde_json::from_str::<Json>(json) else { return found };
    let lists = json.get("input_data").and_then(Json::as_array).map_or(&[][..], |l| &l[..]);
    for (list, shape) in lists.iter().zip(shapes) {
        let (mut nesting, mut flat) = (Vec::new(), Vec::new());
        if flatten(list, 0, &mut nesting, &mut flat).is_err() {
            continue;
        }
        if nesting.len() == shape.len() {
            for (dim, length) in shape.iter().zip(nesting) {
                if let Dim::Named(name) = dim {
                    found.entry(name.clone()).or_insert(length);
                }
            }
        } else if nesting.len() == 1 {
            let fixed = shape.iter().try_fold(1usize, |n, d| match d {
                Dim::Fixed(v) => n.checked_mul(*v),
                _ => Some(n),
            });
            let mut open = shape.iter().filter(|d| !matches!(d, Dim::Fixed(_)));
            if let (Some(Dim::Named(name)), None, Some(fixed)) = (open.next(), open.next(), fixed)
                && fixed > 0
                && flat.len() % fixed == 0
            {
                found.entry(name.clone()).or_insert(flat.len() / fixed);
            }
        }
    }
    found.retain(|_, length| *length > 0);
    found
}

fn tensor(v: &Value, json: &Json) -> Result<TensorF, InputError> {
    let mut flat = Vec::new();
    let mut nesting = Vec::new();
    flatten(json, 0, &mut nesting, &mut flat).map_err(|reason| InputError::Element {
        name: v.name.clone(),
        index: flat.len(),
        reason,
    })?;
    let expected: usize = v.shape.iter().product();
    if flat.len() != expected {
        return Err(InputError::Length {
            name: v.name.clone(),
            shape: v.shape.clone(),
            expected,
            got: flat.len(),
        });
    }
    if nesting.len() > 1 && nesting != v.shape {
        return Err(InputError::Shape { name: v.name.clone(), shape: v.shape.clone(), got: nesting });
    }
    let element = |(index, e): (usize, &&Json)| {
        number(e, v.dtype).map_err(|reason| InputError::Element { name: v.name.clone(), index, reason })
    };
    let data = if v.dtype.is_float() {
        let values = flat.iter().enumerate().map(element).collect::<Result<Vec<_>, _>>()?;
        Data::F(values.into_iter().map(|n| v.dtype.round(n.as_f64())).collect())
    } else {
        let values = flat.iter().enumerate().map(element).collect::<Result<Vec<_>, _>>()?;
        Data::I(values.into_iter().map(Number::as_i64).collect())
    };
    Ok(TensorF { shape: v.shape.clone(), dtype: v.dtype, data })
}

/// Collects the elements; `nesting` gets the lengths of the first list at every depth.
fn flatten<'a>(
    j: &'a Json,
    depth: usize,
    nesting: &mut Vec<usize>,
    out: &mut Vec<&'a Json>,
) -> Result<(), String> {
    let Json::Array(items) = j else {
        out.push(j);
        return Ok(());
    };
    if depth >= MAX_DEPTH {
        return Err("lists are nested too deeply".into());
    }
    if nesting.len() == depth {
        nesting.push(items.len());
    } else if nesting[depth] != items.len() {
        return Err("lists of different lengths at one depth".into());
    }
    items.iter().try_for_each(|i| flatten(i, depth + 1, nesting, out))
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Real(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Number::Int(v) => v as f64,
            Number::Real(v) => v,
        }
    }

    fn as_i64(self) -> i64 {
        match self {
            Number::Int(v) => v,
            Number::Real(v) => v as i64,
        }
    }
}

fn number(j: &Json, dtype: DType) -> Result<Number, String> {
    let n = match j {
        Json::Bool(b) => Number::Int((*b).into()),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(v), _) => Number::Int(v),
            (None, Some(v)) if v.is_finite() => Number::Real(v),
            _ => return Err(format!("{n} is not finite")),
        },
        // The usual spellings of non-finite numbers deserve their own message.
        Json::String(s) if s.parse::<f64>().is_ok_and(|v| !v.is_finite()) => {
            return Err(format!("{s} is not finite"));
        }
        Json::Null => return Err("null (a NaN or infinity, as many writers put it) is not a number".into()),
        other => return Err(format!("{other} is not a number")),
    };
    let Some((lo, hi)) = dtype.int_bounds() else {
        let v = dtype.round(n.as_f64());
        return if v.is_finite() { Ok(n) } else { Err(format!("{v} is past {dtype}")) };
    };
    match n {
        Number::Real(v) if v.fract() != 0.0 => Err(format!("{v} is not an integer, the input is {dtype}")),
        Number::Real(v) if v < lo as f64 || v > hi as f64 => Err(format!("{v} is past {dtype}")),
        Number::Int(v) if v < lo || v > hi => Err(format!("{v} is past {dtype}")),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_from_the_lists() {
        let batch = || Dim::Named("batch".into());
        let lengths = |json: &str, shapes: &[Vec<Dim>]| symbolic_lengths(json, shapes).into_iter().collect();
        let none: Vec<(String, usize)> = Vec::new();
        let three = vec![("batch".to_owned(), 3)];
        let shape = [vec![batch(), Dim::Fixed(2)]];
        let of =
            |data: &str| -> Vec<(String, usize)> { lengths(&format!("{{\"input_data\":[{data}]}}"), &shape) };
        assert_eq!(of("[[1,2],[3,4],[5,6]]"), three);
        assert_eq!(of("[1,2,3,4,5,6]"), three);
        for wrong in ["[1,2,3]", "[]", "[[1,2],[3]]", "[[[1,2]]]", "7"] {
            assert_eq!(of(wrong), none, "{wrong}");
        }
        let two = [vec![batch(), Dim::Named("length".into())]];
        let flat: Vec<(String, usize)> = lengths("{\"input_data\":[[1,2,3]]}", &two);
        assert_eq!(flat, none);
        let open: Vec<(String, usize)> =
            lengths("{\"input_data\":[[1,2,3]]}", &[vec![Dim::Open, Dim::Fixed(1)]]);
        assert_eq!(open, none);
        assert_eq!(symbolic_lengths("not JSON", &shape).len(), 0);
    }
}
