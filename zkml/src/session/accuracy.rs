//! How far a run in integers is from the model.
//!
//! The truth is the float model as the file says it, evaluated in the precision that ONNX Runtime uses: it shares no rounding, no clamp and no table with
//! the quantised model. A run is **refused** where an output says something else than the model:
//!
//! - an element differs by more than [`LIMIT`] of the output's largest absolute value; infinity and NaN are that far from everything else;
//! - an integer output of more than 8 bits differs at all;
//! - in an output that looks like scores (real numbers, at most two axes longer than one, the last of them longer than one), the greatest element of a row
//!   is another one, and the model's own leads it by more than [`LEAD`] of the output's largest absolute value. Rounding decides between
//!   scores that are closer, as it does between equal ones.
//!
//! The error names the first layer that is off by more than [`LIMIT`] of its own largest value. A caller may accept more, see [`Accuracy::check`].

use serde::Serialize;

use crate::float;
use crate::onnx::{DType, Model, TensorF, ValueId};
use crate::qir::Role;

use super::error::SessionError;
use super::stages::{Quantised, Witness};

/// Greatest difference that is accepted without being asked for, as a part of an output's largest absolute value.
pub const LIMIT: f64 = 0.01;

/// Lead of the model's greatest score over the one that integers choose, as a part of the output's largest absolute value, up to which rounding may decide.
pub const LEAD: f64 = 0.001;

/// Units of an output's scale that it may be off where the model says zero everywhere.
const ZERO_UNITS: f64 = 2.0;

/// Another greatest element than the model's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Top1 {
    /// The row, counting those of the last axis.
    pub row: usize,
    /// Where the model's greatest element is.
    pub expected: usize,
    /// Where the integers' greatest element is.
    pub found: usize,
    /// The model's lead of the one over the other, as a part of the largest absolute value.
    pub lead: f64,
}

/// How far an output, or what a layer computes, is from the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Largest absolute difference; infinite where only one side is finite.
    #[serde(serialize_with = "finite_or_text")]
    pub max_abs_error: f64,
    /// Largest absolute value of the float model.
    #[serde(serialize_with = "finite_or_text")]
    pub largest: f64,
    /// The difference as a part of the largest value.
    #[serde(serialize_with = "finite_or_text")]
    pub share: f64,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputError {
    /// Its name.
    pub name: String,
    /// The difference.
    #[serde(flatten)]
    pub difference: Difference,
    /// Whether it holds integers, which are equal or not.
    pub integers: bool,
    /// The row whose greatest element is another one by the largest lead, if there is one.
    pub other_top1: Option<Top1>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerError {
    /// Name of the layer in the program.
    pub layer: String,
    /// Name of the value in the file.
    pub value: String,
    /// Fraction bits.
    pub scale: i32,
    /// Greatest error of one rounding to the scale; zero for whole numbers.
    pub rounding: f64,
    /// Elements at the end of the range that the layer admits.
    pub saturated: usize,
    /// The difference from the float model: of this layer and of all before it.
    #[serde(flatten)]
    pub difference: Difference,
}

/// How far runs are from the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Of every output, in order.
    pub outputs: Vec<OutputError>,
    /// Of every layer that computes a value of the file, in order of computation.
    pub layers: Vec<LayerError>,
    /// The first layer that is off by more than [`LIMIT`].
    #[serde(skip)]
    layer_of_loss: Option<usize>,
}

/// What a run is refused for.
#[derive(Clone, Debug, PartialEq)]
pub struct Inaccurate {
    /// The output.
    pub output: OutputError,
    /// The first layer that is off by more than what is accepted, with the one before it.
    pub layer: Option<(LayerError, Option<LayerError>)>,
}

impl std::fmt::Display for Inaccurate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let o = &self.output;
        let d = &o.difference;
        write!(f, "output `{}` is not what the model computes: ", o.name.escape_debug())?;
        if d.max_abs_error.is_infinite() {
            f.write_str("one of them is not finite, the other is")?;
        } else {
            write!(
                f,
                "it differs by {:.3e}, {:.2} % of its largest value {:.3e}",
                d.max_abs_error,
                100.0 * d.share,
                d.largest
            )?;
        }
        if let Some(t) = o.other_top1 {
            write!(
                f,
                "; row {} has its greatest element at {} instead of {}, which leads by {:.2} %",
                t.row,
                t.found,
                t.expected,
                100.0 * t.lead
            )?;
        }
        if let Some((l, before)) = &self.layer {
            let name = l.layer.escape_debug();
            write!(f, ". Layer `{name}` loses it: {:.2} % of its largest value", 100.0 * l.difference.share)?;
            if let Some(b) = before {
                write!(f, ", {:.2} % before it in `{}`", 100.0 * b.difference.share, b.layer.escape_debug())?;
            }
            if l.saturated > 0 {
                write!(f, "; {} of its elements are at the end of their range", l.saturated)?;
            }
        }
        f.write_str(
            ". Finer numbers may keep it (--activation-bits 18 --weight-bits 24 --input-bits 18, or what `parhelion calibrate` finds); \
             --accept-error X accepts differences of up to X of the largest value",
        )
    }
}

impl std::error::Error for Inaccurate {}

impl Accuracy {
    /// Compares a run with the float model.
    ///
    /// # Errors
    /// [`SessionError::Float`] when the float model fails on the input.
    pub fn measure(q: &Quantised, witness: &Witness, input: &[TensorF]) -> Result<Self, SessionError> {
        let model: &Model = &q.imported.model;
        let values = float::run_all(model, input)?;
        let found = q.model.decode_outputs(&witness.trace);
        let names = q.model.output_names.iter().map(String::as_str).chain(std::iter::repeat("output"));
        let units = q.program().outputs.iter().map(|&id| f64::from(-q.program().tensor(id).scale).exp2());
        let outputs = model
            .outputs
            .iter()
            .zip(&found)
            .zip(names)
            .zip(units)
            .filter_map(|(((&id, found), name), unit)| {
                let expected = values.get(id)?;
                Some(output(name, expected, found, unit))
            })
            .collect();
        let known: std::collections::HashMap<&str, ValueId> = model
            .values
            .iter()
            .enumerate()
            .filter(|(_, v)| v.constant.is_none())
            .map(|(i, v)| (v.name.as_str(), ValueId(i as u32)))
            .collect();
        let mut layers: Vec<(u32, LayerError)> = q
            .model
            .report
            .iter()
            .filter_map(|r| {
                let expected = values.get(*known.get(r.name.as_str())?)?;
                let t = q.program().tensor(r.tensor);
                let elements = witness.trace.get(r.tensor);
                if elements.len() != expected.len() {
                    return None;
                }
                let unit = f64::from(-t.scale).exp2();
                // Masks stand for infinity, and only inside.
                let pairs = (0..elements.len()).map(|i| (expected.at(i), elements[i] as f64 * unit));
                let difference = difference(pairs.filter(|(e, _)| e.is_finite()), unit);
                let ends = |v: &&i64| **v == t.lo || **v == t.hi;
                let ranged = matches!(t.role, Role::Node | Role::Input) && t.hi > t.lo.saturating_add(1);
                let layer = LayerError {
                    layer: t.name.clone(),
                    value: r.name.clone(),
                    scale: t.scale,
                    rounding: if t.scale > 0 { unit / 2.0 } else { 0.0 },
                    saturated: if ranged && t.scale > 0 { elements.iter().filter(ends).count() } else { 0 },
                    difference,
                };
                Some((r.tensor.0, layer))
            })
            .collect();
        layers.sort_by_key(|l| l.0);
        let layers: Vec<LayerError> = layers.into_iter().map(|l| l.1).collect();
        Ok(Accuracy { outputs, layers, layer_of_loss: None }.located())
    }

    fn located(mut self) -> Self {
        self.layer_of_loss = self.layers.iter().position(|l| l.difference.share > LIMIT);
        self
    }

    /// The greater of both differences, everywhere.
    pub fn worst(mut self, other: Accuracy) -> Accuracy {
        if self.outputs.is_empty() {
            return other;
        }
        let greater = |a: &mut Difference, b: Difference| {
            if b.share > a.share {
                *a = b;
            }
        };
        for (a, b) in self.outputs.iter_mut().zip(other.outputs) {
            greater(&mut a.difference, b.difference);
            if b.other_top1.map_or(0.0, |t| t.lead) > a.other_top1.map_or(0.0, |t| t.lead) {
                a.other_top1 = b.other_top1;
            }
        }
        for (a, b) in self.layers.iter_mut().zip(other.layers) {
            greater(&mut a.difference, b.difference);
            a.saturated = a.saturated.max(b.saturated);
        }
        self.located()
    }

    /// The largest difference of an output from the float model's.
    pub fn max_abs_error(&self) -> f64 {
        self.outputs.iter().map(|o| o.difference.max_abs_error).fold(0.0, f64::max)
    }

    /// The largest difference as a part of the output's largest absolute value.
    pub fn share(&self) -> f64 {
        self.outputs.iter().map(|o| o.difference.share).fold(0.0, f64::max)
    }

    /// Refuses a run whose outputs are not the model's; with `accepted`, only one that is further off than that part of the largest value.
    ///
    /// # Errors
    /// [`SessionError::Inaccurate`].
    pub fn check(&self, accepted: Option<f64>) -> Result<(), SessionError> {
        let wrong = |o: &&OutputError| match accepted {
            Some(most) => o.difference.share > most,
            None => {
                o.difference.share > LIMIT
                    || (o.integers && o.difference.max_abs_error > 0.0)
                    || o.other_top1.is_some_and(|t| t.lead > LEAD)
            }
        };
        let Some(output) = self.outputs.iter().find(wrong) else { return Ok(()) };
        let layer = self.layer_of_loss.and_then(|at| {
            let before = at.checked_sub(1).and_then(|b| self.layers.get(b)).cloned();
            self.layers.get(at).cloned().map(|l| (l, before))
        });
        Err(SessionError::Inaccurate(Box::new(Inaccurate { output: output.clone(), layer })))
    }
}

/// The difference of pairs of an expected and a found value.
fn difference(pairs: impl Iterator<Item = (f64, f64)>, unit: f64) -> Difference {
    let (mut error, mut largest) = (0f64, 0f64);
    for (expected, found) in pairs {
        // Equal infinities are equal; NaN is equal to nothing.
        let d = if expected == found { 0.0 } else { (expected - found).abs() };
        error = error.max(if d.is_nan() { f64::INFINITY } else { d });
        if expected.is_finite() {
            largest = largest.max(expected.abs());
        }
    }
    let share = if error == 0.0 || (largest == 0.0 && error <= ZERO_UNITS * unit) {
        0.0
    } else if largest == 0.0 {
        f64::INFINITY
    } else {
        error / largest
    };
    Difference { max_abs_error: error, largest, share }
}

fn output(name: &str, expected: &TensorF, found: &TensorF, unit: f64) -> OutputError {
    let difference = difference((0..expected.len()).map(|i| (expected.at(i), found.at(i))), unit);
    let eight = matches!(expected.dtype, DType::I8 | DType::U8);
    let other_top1 = scores(expected).then(|| top1(expected, found, difference.largest)).flatten();
    let integers = !expected.dtype.is_float() && !eight;
    // Past 2^53, two integers may be one real number.
    let unequal = integers && expected.data != found.data && difference.max_abs_error == 0.0;
    let difference = if unequal { Difference { max_abs_error: 1.0, ..difference } } else { difference };
    OutputError { name: name.to_owned(), difference, integers, other_top1 }
}

/// Whether rows of a tensor look like scores, of which the greatest counts.
fn scores(t: &TensorF) -> bool {
    let long = t.shape.iter().filter(|d| **d > 1).count();
    t.dtype.is_float() && long <= 2 && t.shape.last().is_some_and(|d| *d > 1)
}

/// Of the rows with another greatest element, the one with the largest lead.
fn top1(expected: &TensorF, found: &TensorF, largest: f64) -> Option<Top1> {
    let width = expected.shape.last().copied().filter(|w| *w > 0)?;
    let best = |t: &TensorF, row: usize| {
        (1..width).fold(0, |best, k| if t.at(row * width + k) > t.at(row * width + best) { k } else { best })
    };
    let rows = (0..expected.len() / width).filter_map(|row| {
        let (a, b) = (best(expected, row), best(found, row));
        let lead = (expected.at(row * width + a) - expected.at(row * width + b)) / largest;
        (a != b && lead > 0.0).then_some(Top1 { row, expected: a, found: b, lead })
    });
    rows.max_by(|a, b| a.lead.total_cmp(&b.lead))
}

/// JSON has no infinity: it is a word.
fn finite_or_text<S: serde::Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    if v.is_finite() { s.serialize_f64(*v) } else { s.serialize_str("infinite") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[usize], v: &[f64]) -> TensorF {
        TensorF { shape: shape.to_vec(), dtype: DType::F32, data: crate::onnx::Data::F(v.to_vec()) }
    }

    fn of(expected: &TensorF, found: &TensorF) -> Accuracy {
        Accuracy { outputs: vec![output("y", expected, found, 1e-5)], ..Accuracy::default() }
    }

    #[test]
    fn what_is_infinite_on_one_side_is_refused() {
        let a = of(&floats(&[2], &[f64::INFINITY, 1.0]), &floats(&[2], &[65536.0, 1.0]));
        assert_eq!(a.max_abs_error(), f64::INFINITY);
        assert!(a.check(None).is_err() && a.check(Some(10.0)).is_err());
        assert!(a.check(None).unwrap_err().to_string().contains("not finite"));
        let nan = of(&floats(&[1], &[f64::NAN]), &floats(&[1], &[0.0]));
        assert!(nan.check(None).is_err());
        assert!(serde_json::to_string(&a).unwrap().contains("\"max_abs_error\":\"infinite\""));
    }

    #[test]
    fn one_part_in_a_hundred_is_the_limit() {
        let expected = floats(&[1, 3], &[10.0, 1.0, 2.0]);
        assert!(of(&expected, &floats(&[1, 3], &[10.09, 1.0, 2.0])).check(None).is_ok());
        let off = of(&expected, &floats(&[1, 3], &[10.2, 1.0, 2.0]));
        assert!(off.check(None).is_err());
        assert!(off.check(Some(0.05)).is_ok() && off.check(Some(0.015)).is_err());
        assert!(of(&floats(&[2], &[0.0, 0.0]), &floats(&[2], &[1e-5, 0.0])).check(None).is_ok());
        assert!(of(&floats(&[2], &[0.0, 0.0]), &floats(&[2], &[0.5, 0.0])).check(None).is_err());
    }

    #[test]
    fn another_greatest_score_is_refused_but_not_between_near_ones() {
        let expected = floats(&[1, 3], &[1.0, 0.995, 0.2]);
        let flipped = of(&expected, &floats(&[1, 3], &[0.994, 0.996, 0.2]));
        assert!(flipped.check(None).unwrap_err().to_string().contains("at 1 instead of 0"));
        assert!(flipped.check(Some(0.02)).is_ok());
        let near = floats(&[1, 3], &[1.0, 0.9995, 0.2]);
        assert!(of(&near, &floats(&[1, 3], &[0.9996, 0.9997, 0.2])).check(None).is_ok());
        // An image has no greatest element that counts.
        let image = |v: f64| floats(&[1, 2, 2, 2], &[1.0, v, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(of(&image(0.995), &image(1.004)).check(None).is_ok());
    }

    #[test]
    fn integers_are_equal_or_not() {
        let ids = |v: i64| TensorF::int(vec![1], DType::I64, vec![v]).unwrap();
        assert!(of(&ids(1_600_000_001), &ids(1_600_000_001)).check(None).is_ok());
        assert!(of(&ids(1_600_000_001), &ids(1_600_000_002)).check(None).is_err());
        assert!(of(&ids(9_007_199_254_740_993), &ids(9_007_199_254_740_992)).check(None).is_err());
    }
}
