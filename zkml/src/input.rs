//! Inputs in JSON: `{"input_data": [[…], …]}`, ezkl's format, one list per input of the model in its order; or
//! `{"input_data": {"NAME": […], …}}`, by name.
//!
//! Each list is flat or nested as the shape says; elements are numbers or booleans. A file with other members beside `input_data` is accepted, since
//! ezkl writes some; a member that is there twice is not. Everything else that is wrong is an [`InputError`] that names the input.
//!
//! The lists also say how long the axes are that a model leaves open: [`outline`] is what import needs of them. Inputs that import has
//! made constants may have a list, which must say the same, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use crate::onnx::{DType, Data, Given, Model, Outline, TakenList, TensorF, Value};

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
    /// A member that is there twice.
    #[error("the input has the member `{0}` twice")]
    Twice(String),
    /// Wrong number of inputs.
    #[error("the model has {expected} input(s), the file has {got}")]
    Count {
        /// Inputs of the model.
        expected: usize,
        /// Lists in the file.
        got: usize,
    },
    /// A list by a name that no input has.
    #[error("the model has no input `{name}`; its inputs are {}", quoted(known))]
    Unknown {
        /// The name in the file.
        name: String,
        /// The model's inputs.
        known: Vec<String>,
    },
    /// No list for an input, where lists have names.
    #[error("the file has no list for input `{0}`")]
    Missing(String),
    /// A list from which the lengths of open axes do not follow.
    #[error("input `{name}`: {reason}")]
    Axes {
        /// Name of the input.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A list of an input that is a constant of the statement, with another value.
    #[error(
        "input `{name}` is a constant of the statement, the file has another value for it at element {index}"
    )]
    Constant {
        /// Name of the input.
        name: String,
        /// Flat index of the first difference.
        index: usize,
    },
    /// Wrong number of elements.
    #[error(
        "input `{name}` of shape {shape:?} has {expected} elements, the file has {got}{}",
        because(taken)
    )]
    Length {
        /// Name of the input.
        name: String,
        /// Shape of the input.
        shape: Vec<usize>,
        /// Elements of the shape.
        expected: usize,
        /// Elements in the file.
        got: usize,
        /// Why open axes of the input are as long as they are.
        taken: TakenList,
    },
    /// Nesting that is not the shape.
    #[error("input `{name}`: the nesting is {got:?}, not the shape {shape:?}{}", because(taken))]
    Shape {
        /// Name of the input.
        name: String,
        /// Shape of the input.
        shape: Vec<usize>,
        /// Lengths of the nested lists.
        got: Vec<usize>,
        /// Why open axes of the input are as long as they are.
        taken: TakenList,
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

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn because(taken: &TakenList) -> String {
    if taken.0.is_empty() { String::new() } else { format!("; {taken}") }
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
    let lists = read(json)?;
    let declared: Vec<&Value> = model.declared.iter().map(|&id| model.value(id)).collect();
    let constants = declared.iter().any(|v| v.constant.is_some());
    let paired: Vec<(&Value, &Json)> = match &lists {
        Lists::Ordered(lists) => {
            let expected = model.inputs.len();
            // A model without inputs comes with one empty list.
            let empty = |l: &Json| l.as_array().is_some_and(Vec::is_empty);
            let given = if expected == 0 && lists.iter().all(empty) { 0 } else { lists.len() };
            let all = constants && given >= declared.len();
            let wanted = if all { declared.len() } else { expected };
            if given < wanted || (given > wanted && surplus == Surplus::Refuse) {
                return Err(InputError::Count { expected, got: given });
            }
            declared.into_iter().filter(|v| all || v.constant.is_none()).zip(lists).collect()
        }
        Lists::Named(lists) => {
            let known = |name: &str| declared.iter().any(|v| v.name == name);
            if let Some((name, _)) = lists.iter().find(|(n, _)| surplus == Surplus::Refuse && !known(n)) {
                let known = declared.iter().map(|v| v.name.clone()).collect();
                return Err(InputError::Unknown { name: name.clone(), known });
            }
            let list = |v: &&Value| lists.iter().find(|(n, _)| *n == v.name).map(|(_, l)| l);
            if let Some(v) = declared.iter().find(|v| v.constant.is_none() && list(v).is_none()) {
                return Err(InputError::Missing(v.name.clone()));
            }
            declared.iter().filter_map(|v| Some((*v, list(v)?))).collect()
        }
    };
    let mut out = Vec::with_capacity(model.inputs.len());
    for (v, list) in paired {
        let t = tensor(v, list, &model.taken)?;
        match v.constant.as_deref() {
            None => out.push(t),
            Some(c) => same(&v.name, &t, c)?,
        }
    }
    Ok(out)
}

/// Whether the file has the value that the statement fixes.
fn same(name: &str, given: &TensorF, constant: &TensorF) -> Result<(), InputError> {
    let differs = |i: &usize| match (&given.data, &constant.data) {
        (Data::I(a), Data::I(b)) => a.get(*i) != b.get(*i),
        _ => given.at(*i) != constant.at(*i),
    };
    match (0..constant.len()).find(differs) {
        None => Ok(()),
        Some(index) => Err(InputError::Constant { name: name.to_owned(), index }),
    }
}

/// How the lists of a file are built: what the lengths of open axes follow from.
///
/// # Errors
///
/// [`InputError::Json`], [`InputError::NoData`], and [`InputError::Axes`] for lists of different lengths at one depth.
pub fn outline(json: &str) -> Result<Given, InputError> {
    let one = |name: String, list: &Json| match shape_of(list) {
        Ok((outline, _)) => Ok((name, outline)),
        Err((_, reason)) => Err(InputError::Axes { name, reason }),
    };
    Ok(match read(json)? {
        Lists::Ordered(lists) => {
            let each = lists.iter().enumerate().map(|(i, l)| Ok(one(format!("#{i}"), l)?.1));
            Given::Ordered(each.collect::<Result<_, InputError>>()?)
        }
        Lists::Named(lists) => Given::Named(
            lists.iter().map(|(n, l)| one(n.clone(), l)).collect::<Result<BTreeMap<_, _>, InputError>>()?,
        ),
    })
}

/// The text of an input file, without the mark that some editors put before UTF-8.
///
/// # Errors
///
/// [`InputError::Json`] where it is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, InputError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(InputError::Json("the file is UTF-16; JSON is UTF-8".into()));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| InputError::Json(e.to_string()))?;
    Ok(text.trim_start_matches('\u{feff}'))
}

/// How the JSON text of a constant is built.
pub(crate) fn constant_outline(text: &str) -> Result<Outline, String> {
    let json: Json =
        serde_json::from_str(text).map_err(|e| format!("the constant `{text}` is not JSON: {e}"))?;
    shape_of(&json).map(|(outline, _)| outline).map_err(|(_, reason)| reason)
}

/// A constant from JSON text: a bare number fills the shape, a list is as in an input file.
pub(crate) fn constant(text: &str, dtype: DType, shape: &[usize]) -> Result<TensorF, String> {
    let json: Json =
        serde_json::from_str(text).map_err(|e| format!("the constant `{text}` is not JSON: {e}"))?;
    let (outline, flat) = shape_of(&json).map_err(|(_, reason)| reason)?;
    let n: usize = shape.iter().product();
    if outline.lengths.len() > 1 && outline.lengths != shape {
        return Err(format!("the constant is nested {:?}, the input has shape {shape:?}", outline.lengths));
    }
    let flat = match (outline.lengths.as_slice(), flat.as_slice()) {
        ([], [one]) => vec![*one; n],
        (_, flat) if flat.len() == n => flat.to_vec(),
        (_, flat) => {
            return Err(format!("the constant has {} elements, the input has shape {shape:?}", flat.len()));
        }
    };
    elements(&flat, dtype, shape).map_err(|(i, reason)| format!("element {i} of the constant: {reason}"))
}

/// The lists of a file.
enum Lists {
    Ordered(Vec<Json>),
    Named(Vec<(String, Json)>),
}

/// A file: the member `input_data`, and a name that two members have.
#[derive(Default)]
struct File {
    lists: Option<Lists>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Lists;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lists of inputs")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lists, A::Error> {
                let mut lists = Vec::new();
                while let Some(list) = seq.next_element()? {
                    lists.push(list);
                }
                Ok(Lists::Ordered(lists))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lists, A::Error> {
                let mut lists = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    lists.push(entry);
                }
                Ok(Lists::Named(lists))
            }
        }
        d.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = File;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the member `input_data`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
                let mut seen = BTreeSet::new();
                let mut file = File::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "input_data" {
                        file.lists = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                    if !seen.insert(name.clone()) {
                        file.twice = Some(name);
                    }
                }
                Ok(file)
            }
        }
        d.deserialize_map(Reader)
    }
}

fn read(json: &str) -> Result<Lists, InputError> {
    let file = match serde_json::from_str::<File>(json.trim_start_matches('\u{feff}')) {
        Ok(file) => file,
        // JSON of another form is told apart from what is no JSON at all.
        Err(e) if e.is_data() => return Err(InputError::NoData),
        Err(e) => return Err(InputError::Json(e.to_string())),
    };
    if let Some(name) = file.twice {
        return Err(InputError::Twice(name));
    }
    let lists = file.lists.ok_or(InputError::NoData)?;
    if let Lists::Named(lists) = &lists {
        let mut seen = BTreeSet::new();
        if let Some((name, _)) = lists.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(InputError::Twice(name.clone()));
        }
    }
    Ok(lists)
}

/// A list's nesting and its elements; where it is ragged or too deep, how many elements come before that, and what is wrong.
fn shape_of(list: &Json) -> Result<(Outline, Vec<&Json>), (usize, String)> {
    let (mut lengths, mut flat) = (Vec::new(), Vec::new());
    match flatten(list, 0, &mut lengths, &mut flat) {
        Ok(()) => Ok((Outline { lengths, elements: flat.len() }, flat)),
        Err(reason) => Err((flat.len(), reason)),
    }
}

fn tensor(v: &Value, json: &Json, taken: &TakenList) -> Result<TensorF, InputError> {
    let element = |(index, reason)| InputError::Element { name: v.name.clone(), index, reason };
    let taken = || TakenList(taken.0.iter().filter(|t| t.input == v.name).cloned().collect());
    let (outline, flat) = shape_of(json).map_err(element)?;
    let expected: usize = v.shape.iter().product();
    if flat.len() != expected {
        return Err(InputError::Length {
            name: v.name.clone(),
            shape: v.shape.clone(),
            expected,
            got: flat.len(),
            taken: taken(),
        });
    }
    if outline.lengths.len() > 1 && outline.lengths != v.shape {
        return Err(InputError::Shape {
            name: v.name.clone(),
            shape: v.shape.clone(),
            got: outline.lengths,
            taken: taken(),
        });
    }
    elements(&flat, v.dtype, &v.shape).map_err(element)
}

/// Elements as numbers of a type; where one is not, its index and why.
fn elements(flat: &[&Json], dtype: DType, shape: &[usize]) -> Result<TensorF, (usize, String)> {
    let element = |(index, e): (usize, &&Json)| number(e, dtype).map_err(|reason| (index, reason));
    let values = flat.iter().enumerate().map(element).collect::<Result<Vec<_>, _>>()?;
    let data = if dtype.is_float() {
        Data::F(values.into_iter().map(|n| dtype.nearest(n.as_f64())).collect())
    } else {
        Data::I(values.into_iter().map(Number::as_i64).collect())
    };
    Ok(TensorF { shape: shape.to_vec(), dtype, data })
}

/// Collects the elements; `nesting` gets the lengths of the first list at every depth.
fn flatten<'a>(
    j: &'a Json,
    depth: usize,
    nesting: &mut Vec<usize>,
    out: &mut Vec<&'a Json>,
) -> Result<(), String> {
    let Json::Array(items) = j else {
        if depth < nesting.len() {
            return Err("a number beside lists".into());
        }
        out.push(j);
        return Ok(());
    };
    if depth >= MAX_DEPTH {
        return Err("lists are nested too deeply".into());
    }
    if nesting.len() == depth {
        if !out.is_empty() {
            return Err("a list beside numbers".into());
        }
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
        let v = dtype.nearest(n.as_f64());
        return if v.is_finite() { Ok(n) } else { Err(format!("{v} is past {dtype}")) };
    };
    match n {
        // The parser has made a real number of an integer that it does not hold.
        Number::Real(_) if j.as_u64().is_some() && dtype == DType::U64 => {
            Err(format!("{j} is past {hi}, the greatest {dtype} that fits 63 bits"))
        }
        Number::Real(v) if v.fract() != 0.0 => Err(format!("{v} is not an integer, the input is {dtype}")),
        Number::Real(v) if v < lo as f64 || v > hi as f64 => Err(format!("{v} is past {dtype}")),
        Number::Int(v) if v < lo || v > hi => Err(format!("{v} is past {dtype}")),
        Number::Real(v) if v.abs() > 9_007_199_254_740_992.0 => Err(format!(
            "{v:?} is written as a real number, of which not every integer past 2^53 is one: write it without a point or exponent"
        )),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_outlined() {
        let lengths = |json: &str| match outline(json) {
            Ok(Given::Ordered(lists)) => {
                lists.iter().map(|o| (o.lengths.clone(), o.elements)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let bom = "\u{feff}{\"input_data\": [[[1, 2], [3, 4], [5, 6]], 7, [1], [[]]], \"more\": {}}";
        let expected = [(vec![3, 2], 6), (vec![], 1), (vec![1], 1), (vec![1, 0], 0)];
        assert_eq!(lengths(bom), expected);
        let named = outline("{\"input_data\": {\"a\": [[1]], \"b\": 2}}").unwrap();
        let Given::Named(named) = named else { panic!("{named:?}") };
        assert_eq!(named.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(named["a"], Outline { lengths: vec![1, 1], elements: 1 });
        for bad in [
            "{\"input_data\": [[1]], \"input_data\": [[2]]}",
            "{\"input_data\": {\"x\": [1], \"x\": [2]}}",
            "{\"a\": 1, \"a\": 1, \"input_data\": [[1]]}",
        ] {
            let e = outline(bad).unwrap_err();
            assert!(matches!(&e, InputError::Twice(_)), "{bad}: {e:?}");
        }
        for none in ["{}", "[[1]]", "{\"input_data\": 3}", "{\"input_data\": null}", "7"] {
            assert_eq!(outline(none), Err(InputError::NoData), "{none}");
        }
        for ragged in ["[[2], 3]", "[2, [3]]", "[[2], [3, 4]]", "[[[2]], [3]]"] {
            let e = outline(&format!("{{\"input_data\": [[1], {ragged}]}}"));
            assert!(matches!(&e, Err(InputError::Axes { name, .. }) if name == "#1"), "{ragged}: {e:?}");
        }
        assert!(matches!(outline("{"), Err(InputError::Json(_))));
        assert!(matches!(text(&[0xff, 0xfe, b'{', 0]), Err(InputError::Json(why)) if why.contains("UTF-16")));
    }

    #[test]
    fn constants_fill_or_fit() {
        let ints = |text: &str, shape: &[usize]| constant(text, DType::I64, shape).map(|t| t.to_i64());
        assert_eq!(ints("16000", &[]), Ok(vec![16000]));
        assert_eq!(ints("9007199254740993", &[2]), Ok(vec![9007199254740993; 2]));
        assert_eq!(ints("[1, 2]", &[1, 2]), Ok(vec![1, 2]));
        assert_eq!(ints("[[1, 2]]", &[1, 2]), Ok(vec![1, 2]));
        for (bad, says) in
            [("[[1], [2]]", "[2, 1]"), ("[1, 2, 3]", "3 elements"), ("1.5", "1.5"), ("x", "JSON")]
        {
            let e = ints(bad, &[1, 2]).unwrap_err();
            assert!(e.contains(says), "{e}");
        }
    }
}
