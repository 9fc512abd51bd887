//! The ONNX target: import, quantise, plan, run, and check the circuit of what gets that far.
//!
//! Limits are tight, so that one input takes milliseconds: what is past them must be an error and no work.

use std::collections::BTreeMap;

use parhelion_zkml::machine::{PlanOptions, Vis, Visibility};
use parhelion_zkml::onnx::{ImportError, ImportOptions, Limits, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float, machine};

/// Most bytes of a model.
pub const MAX_BYTES: usize = 1 << 16;
/// Models of at most this many rows get their circuit checked.
const CHECKED_K: u32 = 9;

/// How far an input got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Not a model, or one that is not supported.
    Refused,
    /// Imported.
    Imported,
    /// Quantised, and run in integers on samples.
    Quantised,
    /// Placed in cells.
    Planned,
    /// The circuit admits the witness.
    Checked,
}

fn limits() -> ImportOptions {
    ImportOptions {
        dims: BTreeMap::from([("N".to_owned(), 2), ("batch".to_owned(), 3)]),
        limits: Limits { bytes: MAX_BYTES, nodes: 256, elements: 1 << 15 },
        ..ImportOptions::default()
    }
}

fn options() -> QuantOptions {
    QuantOptions {
        activation_bits: 8,
        input_bits: 8,
        output_bits: 8,
        weight_bits: 8,
        max_lookup: 1 << 7,
        max_knots: 1 << 5,
        ..QuantOptions::default()
    }
}

/// Runs one input.
///
/// # Panics
/// On a finding: see the crate's documentation.
pub fn run(bytes: &[u8]) -> Reached {
    let mut limits = limits();
    let model = loop {
        match import(bytes, &limits) {
            Ok(model) => break model,
            // A length for a dimension that the model does not have is an error.
            Err(ImportError::UnknownDim { name, .. }) if limits.dims.remove(&name).is_some() => {}
            Err(_) => return Reached::Refused,
        }
    };
    // The choices that a user makes beside the file come from the file here.
    let dice =
        bytes.iter().fold(0u32, |h, b| h.rotate_left(5) ^ u32::from(*b)).wrapping_mul(0x9e37_79b9) >> 24;
    let options = QuantOptions { cover: dice & 1 == 1, saturate: dice & 2 == 2, ..options() };
    let Ok(quantised) = quantise(&model, &[], &options) else { return Reached::Imported };
    let vis = |bits: u32| [Vis::Private, Vis::Public, Vis::Hashed, Vis::Committed][bits as usize & 3];
    let visibility = match dice >> 6 & 3 {
        0 | 1 => Visibility::default(),
        2 => Visibility { params: Vis::Fixed, ..Visibility::default() },
        _ => Visibility {
            input: vis(dice >> 2),
            output: vis(dice >> 4),
            params: vis(dice >> 3),
            tensors: Vec::new(),
        },
    };
    // The search over all layouts takes longer than the rest together, so most inputs have a part of it.
    let units = (dice & 7 != 0).then_some(1 + (dice >> 3 & 3));
    let options = PlanOptions { max_k: 10, units, ..PlanOptions::default() };
    let Ok(plan) = machine::plan(&quantised.program, &visibility, &options) else {
        return Reached::Quantised;
    };
    if plan.k() > CHECKED_K {
        return Reached::Planned;
    }
    let zeros: Result<Vec<TensorF>, _> =
        model.input_values().map(|v| TensorF::zeros(v.shape.clone(), v.dtype)).collect();
    let Ok(zeros) = zeros else { return Reached::Planned };
    let Ok(inputs) = quantised.encode_inputs(&zeros) else { return Reached::Planned };
    let Ok(trace) = exec::run_checked(&quantised.program, &inputs) else { return Reached::Planned };
    let _ = float::run(&model, &zeros);
    let _ = quantised.decode_outputs(&trace);
    match machine::mock(&plan, &trace.values) {
        Ok(()) => Reached::Checked,
        Err(e) => finding(&e),
    }
}

#[expect(clippy::panic, reason = "a finding stops the run")]
fn finding(e: &machine::MockError) -> ! {
    panic!("the circuit refuses the witness of an execution that passes every check: {e}")
}
