//! Numbers that are as fine as a model needs, by its samples.

use crate::exec;
use crate::onnx::TensorF;
use crate::quant::calibrate::Calibration;
use crate::quant::{QuantOptions, quantise_with_ranges};

use super::accuracy::Accuracy;
use super::artefact::RangeSource;
use super::error::SessionError;
use super::stages::{Imported, Options, Quantised, Witness};

/// Bits of activations, inputs, weights and outputs that are tried, in order, where fewer lose what the model says.
const FINER: [[u32; 4]; 2] = [[18, 18, 20, 20], [22, 20, 24, 22]];

/// The model in integers. Where [`Options::refine`] allows it and the samples are not what the model says, finer numbers are tried; the
/// first result stands where none of them is better.
///
/// # Errors
/// [`SessionError::Quant`]; [`SessionError::Float`] where the float model fails on a sample.
pub(super) fn quantise(
    imported: Imported,
    samples: &[Vec<TensorF>],
    options: &Options,
) -> Result<Quantised, SessionError> {
    let first = once(&imported, samples, &options.quant, options)?;
    if samples.is_empty() || !options.refine || agrees(&first, samples, options)? {
        return Ok(first);
    }
    for bits in FINER {
        let quant = finer(&options.quant, bits);
        // Numbers that do not fit a circuit at this precision are no reason to refuse the first.
        let Ok(next) = once(&imported, samples, &quant, options) else { continue };
        if agrees(&next, samples, options)? {
            tracing::warn!(
                "{} fraction bits lose what the model says on these inputs; numbers have {} instead",
                options.quant.activation_bits,
                quant.activation_bits
            );
            return Ok(next);
        }
    }
    Ok(first)
}

/// Options with at least so many bits.
fn finer(of: &QuantOptions, [activation, input, weight, output]: [u32; 4]) -> QuantOptions {
    QuantOptions {
        activation_bits: of.activation_bits.max(activation),
        input_bits: of.input_bits.max(input),
        weight_bits: of.weight_bits.max(weight),
        output_bits: of.output_bits.max(output),
        ..of.clone()
    }
}

fn once(
    imported: &Imported,
    samples: &[Vec<TensorF>],
    quant: &QuantOptions,
    options: &Options,
) -> Result<Quantised, SessionError> {
    let (model, ranges) = quantise_with_ranges(&imported.model, samples, quant)?;
    let source = match (samples.is_empty(), options.own_input) {
        (true, _) => RangeSource::Default,
        (false, true) => RangeSource::PrivateInput,
        (false, false) => RangeSource::Samples,
    };
    Quantised::new(imported.clone(), model, Calibration::public(quant, ranges), source)
}

/// Whether no sample is refused.
fn agrees(q: &Quantised, samples: &[Vec<TensorF>], options: &Options) -> Result<bool, SessionError> {
    for input in samples {
        let inputs = q.model.encode_inputs(input)?;
        let trace = exec::run_checked(q.program(), &inputs)?;
        let witness = Witness { inputs, trace: std::sync::Arc::new(trace) };
        if Accuracy::measure(q, &witness, input)?.check(options.accept_error).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
