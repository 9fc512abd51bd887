//! The input target: `input.json` for models with inputs of every type.
//!
//! The first byte says whether the rest is the text itself or a script of edits of a good one; the second which model.

use std::sync::OnceLock;

use parhelion_zkml::exec;
use parhelion_zkml::input::{Surplus, outline, parse_inputs_with};
use parhelion_zkml::onnx::{Data, Declared, Dim, ImportOptions, Model, input_shapes};
use parhelion_zkml::quant::{QuantOptions, Quantised, quantise};
use serde_json::{Value, json};

use crate::fixture;
use crate::json;
use crate::script::Script;

/// Strings that occur in input files.
pub const WORDS: [&str; 20] = [
    "input_data",
    "output_data",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "false",
    "1e400",
    "-1e400",
    "1e-400",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "[[",
    "]]",
    "-0.0",
    "\\u0000",
    "\"inf\"",
];

/// Runs one input.
///
/// # Panics
/// On a finding: see the crate's documentation.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (Some(mode), Some(which)) = (script.byte(), script.byte()) else { return };
    let models = fixture::models();
    let at = usize::from(which) % models.len();
    let (model, surplus) = (&models[at], if mode & 2 == 0 { Surplus::Refuse } else { Surplus::Ignore });
    let text = if mode & 1 == 0 {
        json::edit(&good(model), &mut script).to_string()
    } else {
        match String::from_utf8(script.rest().to_vec()) {
            Ok(text) => text,
            Err(_) => return,
        }
    };
    // The model's shapes with a symbol in the place of some lengths.
    let symbol = |i: usize, length: &usize| match usize::from(mode >> 2) >> (i % 4) & 1 {
        1 => Dim::Named(format!("d{}", i % 3)),
        _ => Dim::Fixed(*length),
    };
    let shapes: Vec<Vec<Dim>> = model
        .input_values()
        .map(|v| v.shape.iter().enumerate().map(|(i, n)| symbol(i, n)).collect())
        .collect();
    if let Ok(given) = outline(&text) {
        let declared: Vec<Declared> = shapes
            .into_iter()
            .enumerate()
            .map(|(i, dims)| Declared { name: format!("x{i}"), dims: (mode & 128 == 0).then_some(dims) })
            .collect();
        let options = ImportOptions { given: Some(given), ..ImportOptions::default() };
        if let Ok(found) = input_shapes(&declared, &options) {
            assert_eq!(found.len(), declared.len(), "another number of shapes");
            for (shape, d) in found.iter().zip(&declared) {
                let Some(dims) = &d.dims else { continue };
                let kept = |(n, dim): (&usize, &Dim)| match dim {
                    Dim::Fixed(m) => n == m,
                    _ => (1..=text.len()).contains(n),
                };
                assert!(shape.len() == dims.len() && shape.iter().zip(dims).all(kept), "another shape");
            }
        }
    }
    let Ok(tensors) = parse_inputs_with(&text, model, surplus) else { return };
    assert_eq!(tensors.len(), model.inputs.len(), "another number of inputs");
    for (t, v) in tensors.iter().zip(model.input_values()) {
        assert_eq!(
            (&t.shape, t.dtype, t.len()),
            (&v.shape, v.dtype, v.shape.iter().product()),
            "another tensor"
        );
        let fits = match (&t.data, v.dtype.int_bounds()) {
            (Data::F(d), None) => d.iter().all(|x| x.is_finite()),
            (Data::I(d), Some((lo, hi))) => d.iter().all(|x| (lo..=hi).contains(x)),
            _ => false,
        };
        assert!(fits, "elements that are not of type {}", v.dtype);
    }
    let Some(quantised) = quantised(at) else { return };
    let _ = quantised.saturated(&tensors);
    if let Ok(inputs) = quantised.encode_inputs(&tensors)
        && let Ok(trace) = exec::run_checked(&quantised.program, &inputs)
    {
        let _ = quantised.decode_outputs(&trace);
    }
}

/// The model in integers; every other one moves inputs that are too large.
fn quantised(at: usize) -> Option<&'static Quantised> {
    static ALL: OnceLock<Vec<Option<Quantised>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let one = |(i, model): (usize, &std::sync::Arc<Model>)| {
            quantise(model, &[], &QuantOptions { saturate: i % 2 == 0, ..QuantOptions::default() }).ok()
        };
        fixture::models().iter().enumerate().map(one).collect()
    });
    all.get(at)?.as_ref()
}

/// An input as it should be.
fn good(model: &Model) -> Value {
    fn nested(shape: &[usize]) -> Value {
        match shape.split_first() {
            None => 1.into(),
            Some((n, rest)) => (0..*n).map(|_| nested(rest)).collect(),
        }
    }
    let lists: Vec<Value> = model.input_values().map(|v| nested(&v.shape)).collect();
    json!({ "input_data": lists })
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let models = fixture::models();
    let mut all = Vec::new();
    for (i, model) in models.iter().enumerate() {
        all.push(vec![0, i as u8]);
        all.push([&[1, i as u8][..], good(model).to_string().as_bytes()].concat());
        all.push(
            [&[3, i as u8][..], br#"{"input_data": [[0.5, -1e3], [true], [null]], "more": 1}"#].concat(),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_inputs_are_read() {
        for model in fixture::models() {
            let read = parse_inputs_with(&good(model).to_string(), model, Surplus::Refuse);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}
