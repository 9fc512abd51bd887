//! The integer reference executor: what a [`Program`] means, computed without any circuit.
//!
//! [`run`] evaluates every operation exactly as [`crate::qir`] defines it and returns the values of all tensors. It is the oracle of the
//! circuit's tests and the witness generator of its proofs. Nothing wraps: accumulators are `i64` only where the operands' bounds
//! prove that to be enough, `i128` elsewhere, and every value is checked against the bounds that the circuit enforces. A value outside is
//! an error that names the operation, the element, the value and the bound.
//!
//! [`check`] verifies the static side: shapes, labels, roles, tables, and that every bound is either implied by interval
//! arithmetic or enforced by a range check. A program that passes it cannot make [`run`] fail for any reason but a value.

mod bounds;
mod check;
mod error;
mod linear;
mod pointwise;

use std::sync::Arc;

pub use bounds::{accumulator_bounds, reachable_bounds};
pub use check::{CheckError, check, check_open};
pub use error::{ExecError, OutOfRange};

use crate::qir::{OpKind, Pick, Program, TensorId};

/// Greatest magnitude of any element, exclusive.
pub const MAX_MAGNITUDE: i64 = 1 << 62;

/// The values of all tensors of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// By tensor id; every tensor of the program has its values.
    pub values: Vec<Option<Arc<[i64]>>>,
}

impl Trace {
    /// The values of a tensor, empty where the run did not reach it.
    pub fn get(&self, id: TensorId) -> &[i64] {
        self.values.get(id.0 as usize).and_then(|v| v.as_deref()).unwrap_or(&[])
    }

    /// The values of the program's outputs, in order.
    pub fn outputs<'a>(&'a self, program: &'a Program) -> impl Iterator<Item = &'a [i64]> {
        program.outputs.iter().map(|&id| self.get(id))
    }
}

/// Evaluates a program.
///
/// `inputs[i]` are the elements of `program.inputs[i]`.
///
/// # Errors
///
/// The program is not consistent, the inputs do not fit it, or a value leaves its bounds.
pub fn run(program: &Program, inputs: &[Vec<i64>]) -> Result<Trace, ExecError> {
    check(program)?;
    run_checked(program, inputs)
}

/// [`run`] of a program that has passed [`check`]; for many runs of one program.
pub fn run_checked(program: &Program, inputs: &[Vec<i64>]) -> Result<Trace, ExecError> {
    if inputs.len() != program.inputs.len() {
        return Err(ExecError::InputCount { expected: program.inputs.len(), got: inputs.len() });
    }
    let mut values: Vec<Option<Arc<[i64]>>> = program.tensors.iter().map(|t| t.data.clone()).collect();
    for (&id, given) in program.inputs.iter().zip(inputs) {
        let t = program.tensor(id);
        if given.len() != t.len() {
            return Err(ExecError::InputLength { name: t.name.clone(), expected: t.len(), got: given.len() });
        }
        within("input", program, id, given)?;
        values[id.0 as usize] = Some(given.as_slice().into());
    }
    for op in &program.ops {
        let results = {
            let get = |id: TensorId| values[id.0 as usize].as_deref().unwrap_or(&[]);
            evaluate(program, &op.name, &op.kind, &op.outputs, &get)?
        };
        for (&id, v) in op.outputs.iter().zip(results) {
            within(&op.name, program, id, &v)?;
            values[id.0 as usize] = Some(v.into());
        }
    }
    Ok(Trace { values })
}

/// Reports the first element outside the bounds of its tensor.
fn within(layer: &str, program: &Program, id: TensorId, values: &[i64]) -> Result<(), ExecError> {
    let t = program.tensor(id);
    match values.iter().position(|&v| v < t.lo || v > t.hi) {
        None => Ok(()),
        Some(i) => Err(ExecError::out_of_range(layer, t, i, values[i].into(), t.lo, t.hi)),
    }
}

fn evaluate<'a>(
    program: &Program,
    name: &str,
    kind: &OpKind,
    outputs: &[TensorId],
    get: &impl Fn(TensorId) -> &'a [i64],
) -> Result<Vec<Vec<i64>>, ExecError> {
    let Some(&first) = outputs.first() else { return Ok(vec![]) };
    let out = program.tensor(first);
    let shape = |id: TensorId| program.tensor(id).shape.as_slice();
    Ok(match kind {
        OpKind::View { sources, picks } => {
            let data: Vec<&[i64]> = sources.iter().map(|&s| get(s)).collect();
            vec![
                picks
                    .iter()
                    .map(|p| match *p {
                        Pick::Of { source, index } => data[source as usize][index as usize],
                        Pick::Const(v) => v,
                    })
                    .collect(),
            ]
        }
        OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, activation } => {
            let rule = linear::Rounding {
                constant: *constant,
                shift: *shift,
                pre_lo: *pre_lo,
                pre_hi: *pre_hi,
                activation: *activation,
            };
            vec![linear::evaluate(program, name, out, terms, &rule, get)?]
        }
        OpKind::Lookup { x, table } => {
            let lo = program.tensor(*x).lo;
            // The input has been checked to be within [lo, hi], and the table to have hi − lo + 1 entries.
            vec![get(*x).iter().map(|&v| table[(v - lo) as usize]).collect()]
        }
        OpKind::Interpolate { x, step, guard, first_key, values, slopes } => {
            vec![pointwise::interpolate(get(*x), *step, *guard, *first_key, values, slopes)]
        }
        OpKind::Step { x } => vec![get(*x).iter().map(|&v| i64::from(v >= 0)).collect()],
        OpKind::Div { num, den } => vec![pointwise::divide(get(*num), shape(*num), get(*den), shape(*den))],
        OpKind::Sqrt { x } => vec![get(*x).iter().map(|&v| pointwise::isqrt(v)).collect()],
        OpKind::Max { x } => vec![pointwise::rows(get(*x), shape(*x)).map(pointwise::max).collect()],
        OpKind::ArgMax { x, last } => {
            vec![pointwise::rows(get(*x), shape(*x)).map(|r| pointwise::argmax(r, *last)).collect()]
        }
        OpKind::Sort { x, descending } => pointwise::sort(get(*x), shape(*x), *descending),
        OpKind::Gather { data, index } => {
            let width: usize = shape(*data)[1..].iter().product();
            let rows = get(*data);
            let mut v = Vec::with_capacity(out.len());
            for &i in get(*index) {
                // Bounds of the index tensor are within the rows.
                v.extend_from_slice(&rows[i as usize * width..(i as usize + 1) * width]);
            }
            vec![v]
        }
    })
}
