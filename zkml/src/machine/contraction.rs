//! Contractions as identities between polynomials in τ and ρ.
//!
//! An output element of an einsum has the monomial τ^a ρ^b, with a and b its row-major indices over the axes that go to τ and to ρ; all monomials
//! of one identity are distinct. Then Σ τ^a ρ^b acc = Σ_k u_k(τ, ρ)·v_k(τ, ρ), where u_k and v_k fold the two operands at the contracted index
//! k. Axes that both operands and the output share have one identity per index.
//!
//! A convolution is a product of polynomials in ρ: with the strides S_d of a padded image, x\[i\] stands at Σ i_d·S_d, the flipped kernel at
//! Σ (K_d − 1 − k_d·dilation_d)·S_d, and the output o at Σ (o_d·stride_d − pad_d + K_d − 1)·S_d (K_d the dilated length). S_d leaves room for the greater
//! of the paddings of the next axis, so that what wraps around the border meets zeros. Positions that no output has are *junk*: their
//! coefficients, already folded over the output channels by τ, are cells that are committed before ρ is drawn. Where they are is fixed by
//! the shape of the operation, so they cannot stand in for an output.

use std::sync::Arc;

use crate::qir::{Term, Window};

use super::fold::Exps;
use super::lowered::{Elements, Src};
use super::plan::PlanError;

/// What an axis of the output contributes to the monomial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Batch,
    Tau(u32),
    Rho(u32),
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

/// All indices of a shape, as offsets by the given strides (several at once), in row-major order.
pub(crate) fn offsets<const N: usize>(shape: &[usize], steps: &[[usize; N]]) -> Vec<[usize; N]> {
    let total: usize = shape.iter().product();
    let mut out = Vec::with_capacity(total);
    let mut index = vec![0usize; shape.len()];
    let mut at = [0usize; N];
    for _ in 0..total {
        out.push(at);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            for (a, s) in at.iter_mut().zip(&steps[d]) {
                *a += s;
            }
            if index[d] < shape[d] {
                break;
            }
            for (a, s) in at.iter_mut().zip(&steps[d]) {
                *a -= s * shape[d];
            }
            index[d] = 0;
        }
    }
    out
}

/// One operand of an einsum, as polynomials over its output axes.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    /// Labels that tell the polynomials apart, with their lengths.
    pub(crate) outer: Vec<(u8, usize)>,
    /// Each polynomial's elements, by outer index.
    pub(crate) elements: Vec<Elements>,
    /// Monomials of the elements, ascending.
    pub(crate) exps: Vec<Exps>,
}

impl Segments {
    /// The polynomial at an assignment of labels.
    pub(crate) fn at(&self, index: impl Fn(u8) -> usize) -> usize {
        self.outer.iter().fold(0, |at, &(label, len)| at * len + index(label))
    }
}

/// Splits an operand.
pub(crate) fn segments(labels: &[u8], shape: &[usize], role: impl Fn(u8) -> Option<Axis>) -> Segments {
    let steps = strides(shape);
    let (mut outer, mut outer_steps, mut outer_shape) = (Vec::new(), Vec::new(), Vec::new());
    let (mut inner_steps, mut inner_shape) = (Vec::new(), Vec::new());
    for ((&label, &len), &step) in labels.iter().zip(shape).zip(&steps) {
        match role(label) {
            None | Some(Axis::Batch) => {
                outer.push((label, len));
                outer_shape.push(len);
                outer_steps.push([step]);
            }
            Some(Axis::Tau(s)) => {
                inner_shape.push(len);
                inner_steps.push([step, s as usize, 0]);
            }
            Some(Axis::Rho(s)) => {
                inner_shape.push(len);
                inner_steps.push([step, 0, s as usize]);
            }
        }
    }
    let mut inner = offsets(&inner_shape, &inner_steps);
    inner.sort_by_key(|&[_, a, b]| (a, b));
    let exps = inner.iter().map(|&[_, a, b]| (a as u32, b as u32)).collect();
    let within: Arc<[u32]> = inner.iter().map(|&[at, ..]| at as u32).collect();
    let elements = offsets(&outer_shape, &outer_steps)
        .into_iter()
        .map(|[base]| Elements::at(base as u32, &within))
        .collect();
    Segments { outer, elements, exps }
}

/// Roles of the output axes of a sum of einsums and plain sums; `param` tells which operands are weights.
pub(crate) fn roles(
    terms: &[&Term],
    shape: &[usize],
    param: impl Fn(crate::qir::TensorId) -> bool,
) -> Vec<Axis> {
    let rank = shape.len();
    let mut batch = vec![false; rank];
    let mut tau = vec![false; rank];
    let mut decided = false;
    for term in terms {
        let Term::Einsum { a, b, a_axes, b_axes, out_axes, .. } = term else { continue };
        for (i, label) in out_axes.iter().enumerate() {
            batch[i] |= a_axes.contains(label) && b_axes.contains(label);
        }
        let weights = match (param(*a), param(*b)) {
            (true, false) => Some(a_axes),
            (false, true) => Some(b_axes),
            _ if !decided => Some(b_axes),
            _ => None,
        };
        if let (Some(axes), true) = (weights, !decided || param(*a) != param(*b)) {
            tau = out_axes.iter().map(|label| axes.contains(label)).collect();
            decided = true;
        }
    }
    let (mut tau_stride, mut rho_stride) = (1u32, 1u32);
    let mut out = vec![Axis::Batch; rank];
    for i in (0..rank).rev() {
        if batch[i] {
            continue;
        }
        let stride = if tau[i] { &mut tau_stride } else { &mut rho_stride };
        out[i] = if tau[i] { Axis::Tau(*stride) } else { Axis::Rho(*stride) };
        *stride *= shape[i].max(1) as u32;
    }
    out
}

/// The polynomial positions of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    /// Position of each input element of one channel.
    pub(crate) input: Vec<u32>,
    /// Position of each kernel element.
    pub(crate) kernel: Vec<u32>,
    /// Position of each output element of one channel.
    pub(crate) output: Vec<u32>,
    /// Number of positions.
    pub(crate) total: u32,
    /// Distance of two neighbours along each axis.
    pub(crate) step: Vec<u32>,
}

/// Positions for an input of these spatial lengths.
pub(crate) fn positions(input: &[usize], output: &[usize], window: &Window) -> Result<Positions, PlanError> {
    let rank = input.len();
    let reach: Vec<usize> = (0..rank).map(|d| (window.kernel[d] - 1) * window.dilations[d]).collect();
    // Padding beyond the kernel's reach: the image moves up, so that no output has a negative position.
    let lift: Vec<usize> = (0..rank).map(|d| window.pads_begin[d].saturating_sub(reach[d])).collect();
    let first: Vec<usize> = (0..rank).map(|d| reach[d] + lift[d] - window.pads_begin[d]).collect();
    let mut step = vec![1usize; rank];
    for d in (0..rank.saturating_sub(1)).rev() {
        let next = d + 1;
        let wide = lift[next] > 0 || window.pads_end[next] > reach[next];
        let width = if wide {
            let last = first[next] + (output[next] - 1) * window.strides[next];
            (lift[next] + input[next] + reach[next]).max(last + 1)
        } else {
            input[next] + window.pads_begin[next].max(window.pads_end[next])
        };
        step[d] = step[next].saturating_mul(width);
    }
    let top: usize = (0..rank).map(|d| reach[d].saturating_mul(step[d])).fold(0, usize::saturating_add);
    let image: usize =
        (0..rank).map(|d| (lift[d] + input[d] - 1).saturating_mul(step[d])).fold(0, usize::saturating_add);
    let last: usize = (0..rank)
        .map(|d| (first[d] + (output[d] - 1) * window.strides[d]).saturating_mul(step[d]))
        .fold(0, usize::saturating_add);
    let total = top.saturating_add(image).max(last).saturating_add(1);
    if total > 1 << 28 {
        return Err(PlanError::Unsupported(format!("a convolution over {total} positions")));
    }
    let single = |s: Vec<usize>| s.into_iter().map(|x| [x]).collect::<Vec<_>>();
    let at = |shape: &[usize], steps: Vec<usize>, start: &[usize]| -> Vec<u32> {
        let start: usize = start.iter().zip(&step).map(|(x, s)| x * s).sum();
        offsets(shape, &single(steps)).into_iter().map(|[x]| (x + start) as u32).collect()
    };
    let back = offsets(&window.kernel, &single((0..rank).map(|d| window.dilations[d] * step[d]).collect()));
    Ok(Positions {
        input: at(input, step.clone(), &lift),
        kernel: back.into_iter().map(|[x]| (top - x) as u32).collect(),
        output: at(output, (0..rank).map(|d| window.strides[d] * step[d]).collect(), &first),
        total: total as u32,
        step: step.iter().map(|&s| s as u32).collect(),
    })
}

/// Elements of a tensor as sources.
pub(crate) fn pick(all: &[Src], elements: &Elements) -> Vec<Src> {
    elements.iter().map(|e| all[e as usize]).collect()
}
