//! From a float model to an integer program.
//!
//! Every tensor gets a power-of-two scale, so that rescaling is a shift. A sum of products is rounded once, at its end. Values whose
//! magnitude arithmetic does not bound are enforced to stay within the range that calibration saw, times a headroom; an
//! input that leaves it is an error of the executor and never a wrapped number. Integers and booleans keep scale 0 and are exact.
//!
//! Functions become tables: direct where the domain is small, piecewise linear elsewhere, over whole chains of element-wise
//! operators. Division, square roots, comparisons, maxima and roundings are exact integer operations.
//!
//! Constants that arithmetic reads are parameters of the model, whatever their type. Numbers that become coefficients of the program (factors,
//! thresholds, what a table is made from) are public, and listed by name; so is what says where elements are.

mod builder;
pub mod calibrate;
mod cluster;
mod demand;
mod edges;
mod error;
mod fold;
mod lower;
mod mask;
mod qdq;
mod range;
mod recurrent;
mod rewrite;
mod scale;
mod scatter;
mod tables;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::exec;
use crate::onnx::{DType, Data, Model, TensorF, ValueId, unravel};
use crate::qir::{OpKind, Program, TensorId};

pub use edges::Edges;
pub use error::{EncodeError, QuantError};
pub use range::ValueRange;

use builder::exp2;

/// How precise and how wide the integers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantOptions {
    /// Fraction bits of activations.
    pub activation_bits: u32,
    /// Fraction bits of inputs.
    pub input_bits: u32,
    /// Fraction bits of outputs that have to be rounded.
    pub output_bits: u32,
    /// Bits of a weight, sign included.
    pub weight_bits: u32,
    /// Allowed magnitude over the calibrated one.
    pub headroom: f64,
    /// Least magnitude that is allowed for, whatever calibration saw.
    pub min_range: f64,
    /// Greatest number of entries of a direct table.
    pub max_lookup: u32,
    /// Greatest number of knots of a piecewise linear table.
    pub max_knots: u32,
    /// Fraction bits of single values, by name, in place of `activation_bits` and `output_bits`.
    pub scales: BTreeMap<String, u32>,
    /// Whether range checks admit everything that inputs within their bounds can lead to, by interval arithmetic over the model's
    /// weights, instead of the calibrated range with its headroom.
    pub cover: bool,
    /// Whether inputs past their range are moved to its end, instead of being an error.
    pub saturate: bool,
}

impl Default for QuantOptions {
    fn default() -> Self {
        QuantOptions {
            activation_bits: 14,
            input_bits: 16,
            output_bits: 17,
            weight_bits: 16,
            headroom: 2.0,
            min_range: 1.0,
            max_lookup: 1 << 10,
            max_knots: 1 << 10,
            scales: BTreeMap::new(),
            cover: false,
            saturate: false,
        }
    }
}

impl QuantOptions {
    fn validate(&self) -> Result<(), QuantError> {
        let bad = |name, reason: &str| Err(QuantError::Option { name, reason: reason.into() });
        for (name, bits, lo) in [
            ("activation_bits", self.activation_bits, 2),
            ("input_bits", self.input_bits, 2),
            ("output_bits", self.output_bits, 2),
            ("weight_bits", self.weight_bits, 4),
        ] {
            if !(lo..=24).contains(&bits) {
                return bad(name, "is not between 2 (4 for weights) and 24");
            }
        }
        if let Some((name, bits)) = self.scales.iter().find(|(_, b)| **b > 24) {
            return bad("scales", &format!("gives `{name}` {bits} fraction bits, more than 24"));
        }
        if !(self.headroom.is_finite() && self.headroom >= 1.0) {
            return bad("headroom", "is below 1");
        }
        if !(self.min_range.is_finite() && self.min_range >= 0.0) {
            return bad("min_range", "is negative");
        }
        if self.max_knots < 4 || self.max_lookup < 2 || self.max_knots > 1 << 20 || self.max_lookup > 1 << 20
        {
            return bad(
                "max_knots",
                "tables need between 4 and 2^20 knots, direct ones between 2 and 2^20 entries",
            );
        }
        Ok(())
    }
}

/// One tensor of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
    /// Name in the file.
    pub name: String,
    /// Tensor of the program.
    pub tensor: TensorId,
    /// Fraction bits.
    pub scale: i32,
    /// Bits of the magnitude, sign included.
    pub bits: u32,
    /// Observed range of the float value.
    pub observed: Option<(f64, f64)>,
    /// Greatest deviation from the float model over the calibration data.
    pub max_abs_error: f64,
    /// What the table that computes it may be off by over the whole range that it admits; 0 where there is none.
    pub table_error: f64,
    /// What its rounding may be off by: half a unit, or 0 for what is exact.
    pub rounding: f64,
}

/// A quantised model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantised {
    /// The statement.
    pub program: Program,
    /// Element types of the inputs, in order.
    pub input_types: Vec<DType>,
    /// Element types of the outputs, in order.
    pub output_types: Vec<DType>,
    /// Names of the inputs in the file.
    pub input_names: Vec<String>,
    /// Names of the outputs in the file.
    pub output_names: Vec<String>,
    /// Tensors that stand for values of the file.
    pub report: Vec<TensorReport>,
    /// Whether inputs past their range are moved to its end when they are encoded.
    pub saturate: bool,
    /// Layers whose range check an input within its bounds may fail. Where there are none, every input that can be encoded can be proven.
    pub restricted: Vec<String>,
    /// What the elements of each input are compared with, in order.
    pub edges: Vec<Edges>,
    /// Constants of the file that the program holds in clear, whatever the visibility of parameters.
    #[serde(default)]
    pub public_numbers: Vec<PublicNumber>,
}

/// A constant of the file that everybody who has the program can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicNumber {
    /// Name in the file.
    pub name: String,
    /// What it has become.
    pub reason: String,
}

/// Quantises a model.
///
/// `calibration` holds samples, each one tensor per input; without any, evenly spread values in [−1, 1] stand in. The program is checked and
/// run on every sample before it is returned, so what was calibrated does not fail at proving.
///
/// # Errors
///
/// See [`QuantError`]; nodes without an integer form are listed all at once.
pub fn quantise(
    model: &Model,
    calibration: &[Vec<TensorF>],
    options: &QuantOptions,
) -> Result<Quantised, QuantError> {
    Ok(quantise_with_ranges(model, calibration, options)?.0)
}

/// [`quantise`], with the ranges that [`Quantiser::with_ranges`] makes the same program of.
///
/// # Errors
///
/// See [`QuantError`].
pub fn quantise_with_ranges(
    model: &Model,
    calibration: &[Vec<TensorF>],
    options: &QuantOptions,
) -> Result<(Quantised, Vec<ValueRange>), QuantError> {
    options.validate()?;
    let defaults;
    let samples = if calibration.is_empty() {
        defaults = range::default_samples(model);
        &defaults[..]
    } else {
        calibration
    };
    let quantiser = Quantiser::new(model, samples)?;
    let mut draft = quantiser.draft(options)?;
    quantiser.fill_report(&mut draft, samples)?;
    Ok((draft.quantised, quantiser.ranges()))
}

/// A model with the ranges of its values, ready to be quantised any number of times.
pub struct Quantiser {
    interface: Model,
    rewritten: Model,
    ranges: range::Ranges,
    /// The ranges to the last digit, where they were measured here.
    exact: Option<range::Ranges>,
}

/// A quantised model with the values that its tensors stand for.
pub(crate) struct Draft {
    pub(crate) quantised: Quantised,
    values: Vec<(ValueId, TensorId)>,
}

impl Quantiser {
    /// Measures the ranges over samples.
    ///
    /// # Errors
    ///
    /// See [`QuantError`].
    pub fn new(model: &Model, samples: &[Vec<TensorF>]) -> Result<Self, QuantError> {
        let rewritten = rewrite::rewrite(model)?;
        let exact = range::Ranges::measure(&rewritten, samples)?;
        // Whoever has only the list makes the same program.
        let ranges = range::Ranges::restore(&rewritten, &exact.list(&rewritten))?;
        Ok(Quantiser { interface: interface(model), rewritten, ranges, exact: Some(exact) })
    }

    /// Takes ranges that [`Quantiser::ranges`] gave for the same model.
    ///
    /// # Errors
    ///
    /// [`QuantError::Ranges`] where they are of another model.
    pub fn with_ranges(model: &Model, ranges: &[ValueRange]) -> Result<Self, QuantError> {
        let rewritten = rewrite::rewrite(model)?;
        let ranges = range::Ranges::restore(&rewritten, ranges)?;
        Ok(Quantiser { interface: interface(model), rewritten, ranges, exact: None })
    }

    /// The range of every value that depends on an input.
    pub fn ranges(&self) -> Vec<ValueRange> {
        self.ranges.list(&self.rewritten)
    }

    /// The model in integers, with a report that says nothing about errors yet.
    ///
    /// # Errors
    ///
    /// See [`QuantError`].
    pub fn quantise(&self, options: &QuantOptions) -> Result<Quantised, QuantError> {
        options.validate()?;
        Ok(self.draft(options)?.quantised)
    }

    pub(crate) fn draft(&self, options: &QuantOptions) -> Result<Draft, QuantError> {
        let names: Vec<String> = self.interface.output_values().map(|v| v.name.clone()).collect();
        let lowered = lower::lower(&self.rewritten, &names, &self.ranges, options)?;
        exec::check(&lowered.program)?;
        let rounds = |o: &&crate::qir::Op| match o.kind {
            OpKind::Linear { shift, .. } => shift > 0,
            OpKind::View { .. } | OpKind::Max { .. } | OpKind::Sort { .. } | OpKind::Gather { .. } => false,
            _ => true,
        };
        let rounded: std::collections::HashSet<TensorId> =
            lowered.program.ops.iter().filter(rounds).flat_map(|o| o.outputs.iter().copied()).collect();
        let report = lowered.values.iter().map(|&(value, tensor)| {
            let t = lowered.program.tensor(tensor);
            let m = t.lo.unsigned_abs().max(t.hi.unsigned_abs());
            TensorReport {
                name: self.rewritten.value(value).name.clone(),
                tensor,
                scale: t.scale,
                bits: 64 - m.leading_zeros() + u32::from(t.lo < 0),
                observed: self.exact.as_ref().unwrap_or(&self.ranges).exact(value),
                max_abs_error: 0.0,
                table_error: lowered.table_errors.get(&value).copied().unwrap_or(0.0),
                rounding: if rounded.contains(&tensor) { 0.5 * exp2(-t.scale) } else { 0.0 },
            }
        });
        let quantised = Quantised {
            input_types: self.interface.input_values().map(|v| v.dtype).collect(),
            output_types: self.interface.output_values().map(|v| v.dtype).collect(),
            input_names: self.interface.input_values().map(|v| v.name.clone()).collect(),
            output_names: self.interface.output_values().map(|v| v.name.clone()).collect(),
            report: report.collect(),
            program: lowered.program,
            saturate: options.saturate,
            restricted: lowered.restricted,
            edges: lowered.edges,
            public_numbers: lowered.public,
        };
        Ok(Draft { quantised, values: lowered.values })
    }

    /// Runs both models on samples and notes how far they are apart.
    pub(crate) fn fill_report(&self, draft: &mut Draft, samples: &[Vec<TensorF>]) -> Result<(), QuantError> {
        let q = &draft.quantised;
        let errors = samples.par_iter().enumerate().map(|(sample, inputs)| {
            let float = crate::float::run_all(&self.rewritten, inputs)
                .map_err(|source| QuantError::Calibration { sample, source })?;
            let encoded = q.encode_inputs(inputs).map_err(|e| QuantError::Layer {
                layer: format!("calibration sample {sample}"),
                reason: e.to_string(),
            })?;
            let trace = exec::run_checked(&q.program, &encoded)
                .map_err(|source| QuantError::Run { sample, source })?;
            let mut errors = vec![0f64; draft.values.len()];
            for (e, (value, tensor)) in errors.iter_mut().zip(&draft.values) {
                let Some(f) = float.get(*value) else { continue };
                let unit = exp2(-q.program.tensor(*tensor).scale);
                for (i, v) in trace.get(*tensor).iter().enumerate() {
                    let d = (f.at(i) - *v as f64 * unit).abs();
                    let mask = f.at(i).abs() >= mask::LARGE && self.ranges.masks().masked(*value);
                    if d.is_finite() && !mask {
                        *e = e.max(d);
                    }
                }
            }
            Ok(errors)
        });
        let none = || Ok(vec![0f64; draft.values.len()]);
        let errors = errors.reduce(none, |a: Result<Vec<f64>, QuantError>, b| {
            let (a, b) = (a?, b?);
            Ok(a.iter().zip(&b).map(|(a, b)| a.max(*b)).collect::<Vec<f64>>())
        })?;
        draft.quantised.report.iter_mut().zip(errors).for_each(|(r, e)| r.max_abs_error = e);
        Ok(())
    }
}

/// A model without nodes and constants: the types and names of its inputs and outputs.
fn interface(model: &Model) -> Model {
    let mut values = model.values.clone();
    values.iter_mut().for_each(|v| v.constant = None);
    Model {
        name: model.name.clone(),
        opset: model.opset,
        inputs: model.inputs.clone(),
        declared: model.declared.clone(),
        binding: model.binding.clone(),
        taken: model.taken.clone(),
        outputs: model.outputs.clone(),
        nodes: Vec::new(),
        values,
    }
}

impl Quantised {
    /// The inputs as integers.
    ///
    /// # Errors
    ///
    /// Wrong number or shape, or a value outside the calibrated range.
    pub fn encode_inputs(&self, inputs: &[TensorF]) -> Result<Vec<Vec<i64>>, EncodeError> {
        if inputs.len() != self.program.inputs.len() {
            return Err(EncodeError::Count { expected: self.program.inputs.len(), got: inputs.len() });
        }
        let none = Edges::default();
        let edges = self.edges.iter().chain(std::iter::repeat(&none));
        inputs
            .iter()
            .zip(&self.program.inputs)
            .zip(edges)
            .map(|((x, &id), e)| self.encode(x, id, e))
            .collect()
    }

    /// One input as integers: whole numbers as they are, real ones to the nearest unit, or to the next one where the nearest is on the other side of
    /// a number that the model compares them with.
    fn encode(&self, x: &TensorF, id: TensorId, edges: &Edges) -> Result<Vec<i64>, EncodeError> {
        let t = self.program.tensor(id);
        if x.shape != t.shape {
            return Err(EncodeError::Shape {
                name: t.name.clone(),
                expected: t.shape.clone(),
                got: x.shape.clone(),
            });
        }
        let (lo, hi) = (t.lo as f64, t.hi as f64);
        let element = |i: usize| match &x.data {
            Data::I(d) if t.scale == 0 => {
                let v = d.get(i).copied().unwrap_or(0);
                // A bit pattern that is negative is a uint64 past everything.
                if x.dtype == DType::U64 && v < 0 { (x.at(i), None) } else { (v as f64, Some(v)) }
            }
            _ => {
                let v = edges.encode(i, x.at(i), t.scale);
                (v, (v >= lo && v <= hi).then_some(v as i64))
            }
        };
        (0..x.len())
            .map(|i| {
                let (v, whole) = element(i);
                if let Some(whole) = whole.filter(|w| (t.lo..=t.hi).contains(w)) {
                    return Ok(whole);
                }
                // The statement is then about the number at the end of the range.
                if self.saturate && !v.is_nan() {
                    return Ok(if v < lo { t.lo } else { t.hi });
                }
                let unit = exp2(-t.scale);
                Err(EncodeError::Range {
                    name: t.name.clone(),
                    index: unravel(i, &t.shape),
                    value: x.at(i),
                    lo: lo * unit,
                    hi: hi * unit,
                })
            })
            .collect()
    }

    /// Number of elements that encoding moves to the end of their range, where the model saturates.
    pub fn saturated(&self, inputs: &[TensorF]) -> usize {
        let pairs = inputs.iter().zip(&self.program.inputs).filter(|_| self.saturate);
        pairs
            .map(|(x, &id)| {
                let t = self.program.tensor(id);
                let outside = |v: f64| !(v >= t.lo as f64 && v <= t.hi as f64);
                (0..x.len()).filter(|&i| outside((x.at(i) * exp2(t.scale)).round())).count()
            })
            .sum()
    }

    /// The outputs of a run as numbers of the model's types.
    pub fn decode_outputs(&self, trace: &exec::Trace) -> Vec<TensorF> {
        self.program
            .outputs
            .iter()
            .zip(&self.output_types)
            .map(|(&id, &dtype)| self.decode(id, dtype, trace.get(id)))
            .collect()
    }

    /// Elements of a tensor as numbers.
    pub fn decode(&self, id: TensorId, dtype: DType, values: &[i64]) -> TensorF {
        let t = self.program.tensor(id);
        let unit = exp2(-t.scale);
        let data = if dtype.is_float() {
            Data::F(values.iter().map(|&v| v as f64 * unit).collect())
        } else {
            let whole = |v: i64| if t.scale == 0 { v } else { (v as f64 * unit).round() as i64 };
            Data::I(values.iter().map(|&v| whole(v)).collect())
        };
        TensorF { shape: t.shape.clone(), dtype, data }
    }
}
