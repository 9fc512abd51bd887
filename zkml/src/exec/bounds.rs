//! Interval arithmetic on accumulators.
//!
//! The operands' bounds are those of their tensors. The data of a [`Role::Constant`] is part of the statement and sharpens the bound; the data
//! of a [`Role::Param`] is the prover's, so only its tensor's bounds count.

use crate::qir::{Program, Role, TensorId, Term};

/// Least and greatest possible accumulator, saturated far outside `i64`.
pub fn accumulator_bounds(program: &Program, terms: &[Term], constant: i64) -> (i128, i128) {
    terms.iter().fold((constant.into(), constant.into()), |(lo, hi), t| {
        let (a, b) = term_bounds(program, t);
        (i128::saturating_add(lo, a), i128::saturating_add(hi, b))
    })
}

/// Least and greatest accumulator for the parameters that the program carries: what an honest prover's values can reach, whatever the inputs are
/// within their bounds. Never wider than [`accumulator_bounds`], and often much narrower, since weights of both signs cancel.
pub fn reachable_bounds(program: &Program, terms: &[Term], constant: i64) -> (i128, i128) {
    terms.iter().fold((constant.into(), constant.into()), |(lo, hi), t| {
        let (a, b) = term_bounds(program, t);
        let (c, d) = weighted_bounds(program, t).unwrap_or((a, b));
        (i128::saturating_add(lo, a.max(c)), i128::saturating_add(hi, b.min(d)))
    })
}

/// Bounds of a contraction with stored weights: Σ over the contracted positions of the products' own bounds, per output.
fn weighted_bounds(program: &Program, term: &Term) -> Option<(i128, i128)> {
    let data = |id: &TensorId| program.tensor(*id).data.as_deref();
    let extend = |a: (i128, i128), b: (i128, i128)| (a.0.min(b.0), a.1.max(b.1));
    let bounds = |(pos, neg): (i128, i128), (lo, hi): (i128, i128), n: i128, coeff: i64| {
        let low = pos.saturating_mul(lo).saturating_add(neg.saturating_mul(hi)).saturating_mul(n);
        let high = pos.saturating_mul(hi).saturating_add(neg.saturating_mul(lo)).saturating_mul(n);
        product((low, high), (coeff.into(), coeff.into()))
    };
    let add = |(pos, neg): &mut (i128, i128), w: i64| match w {
        w if w > 0 => *pos += i128::from(w),
        w => *neg += i128::from(w),
    };
    match term {
        Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } => {
            let (x, xa, w, wa, d) = match (data(a), data(b)) {
                (None, Some(d)) => (a, a_axes, b, b_axes, d),
                (Some(d), None) => (b, b_axes, a, a_axes, d),
                _ => return None,
            };
            let shape = &program.tensor(*w).shape;
            // Sums of the weights' positive and negative parts, by the position of their axes that the output keeps.
            let kept: Vec<bool> = wa.iter().map(|l| out_axes.contains(l)).collect();
            let mut strides = vec![0usize; shape.len()];
            let mut len = 1usize;
            for i in (0..shape.len()).rev().filter(|&i| kept[i]) {
                strides[i] = len;
                len *= shape[i];
            }
            let mut sums = vec![(0i128, 0i128); len];
            let mut index = vec![0usize; shape.len()];
            let mut at = 0;
            for &v in d {
                add(sums.get_mut(at)?, v);
                for i in (0..shape.len()).rev() {
                    index[i] += 1;
                    at += strides[i];
                    if index[i] < shape[i] {
                        break;
                    }
                    at -= strides[i] * shape[i];
                    index[i] = 0;
                }
            }
            let alone = xa.iter().zip(&program.tensor(*x).shape);
            let n: usize =
                alone.filter(|(l, _)| !out_axes.contains(l) && !wa.contains(l)).map(|(_, &d)| d).product();
            let x = interval(program, *x);
            sums.into_iter().map(|s| bounds(s, x, n as i128, *coeff)).reduce(extend)
        }
        Term::Conv { x, w, coeff, .. } => {
            let d = data(w)?;
            let per: usize = program.tensor(*w).shape.iter().skip(1).product();
            // The window may reach into the padding, wherever it is.
            let x = with_zero(interval(program, *x));
            d.chunks(per.max(1))
                .map(|kernel| {
                    let mut sum = (0, 0);
                    kernel.iter().for_each(|&v| add(&mut sum, v));
                    bounds(sum, x, 1, *coeff)
                })
                .reduce(extend)
        }
        Term::Scale { x, coeff } => {
            let d = data(x)?;
            let (lo, hi) = (*d.iter().min()?, *d.iter().max()?);
            Some(product((lo.into(), hi.into()), ((*coeff).into(), (*coeff).into())))
        }
        _ => None,
    }
}

fn interval(program: &Program, id: TensorId) -> (i128, i128) {
    let t = program.tensor(id);
    if let (Role::Constant, Some(d)) = (t.role, &t.data)
        && let (Some(lo), Some(hi)) = (d.iter().min(), d.iter().max())
    {
        return ((*lo).into(), (*hi).into());
    }
    (t.lo.into(), t.hi.into())
}

fn product((a, b): (i128, i128), (c, d): (i128, i128)) -> (i128, i128) {
    let p = [a.saturating_mul(c), a.saturating_mul(d), b.saturating_mul(c), b.saturating_mul(d)];
    (p.into_iter().min().unwrap_or(0), p.into_iter().max().unwrap_or(0))
}

fn times(x: (i128, i128), n: usize) -> (i128, i128) {
    (x.0.saturating_mul(n as i128), x.1.saturating_mul(n as i128))
}

fn with_zero((lo, hi): (i128, i128)) -> (i128, i128) {
    (lo.min(0), hi.max(0))
}

/// Number of products or elements that one element of the output adds up.
fn fan_in(program: &Program, term: &Term) -> usize {
    let shape = |id: &TensorId| program.tensor(*id).shape.as_slice();
    match term {
        Term::Einsum { a, b, a_axes, b_axes, out_axes, .. } => {
            let own = a_axes.iter().zip(shape(a)).filter(|(l, _)| !out_axes.contains(l));
            let other =
                b_axes.iter().zip(shape(b)).filter(|(l, _)| !out_axes.contains(l) && !a_axes.contains(l));
            own.chain(other).map(|(_, &d)| d).fold(1, usize::saturating_mul)
        }
        Term::Conv { w, .. } => shape(w).iter().skip(1).copied().fold(1, usize::saturating_mul),
        Term::SumPool { window, .. } => window.kernel.iter().copied().fold(1, usize::saturating_mul),
        Term::Sum { x, axes, .. } => {
            axes.iter().filter_map(|&d| shape(x).get(d)).copied().fold(1, usize::saturating_mul)
        }
        Term::Scale { .. } | Term::Product { .. } => 1,
    }
}

fn term_bounds(program: &Program, term: &Term) -> (i128, i128) {
    let of = |id: &TensorId| interval(program, *id);
    let n = fan_in(program, term);
    let (sum, coeff) = match term {
        Term::Einsum { a, b, a_axes, b_axes, coeff, .. } => {
            let p = product(of(a), of(b));
            let squares = a == b && a_axes == b_axes;
            (times(if squares { (p.0.max(0), p.1) } else { p }, n), coeff)
        }
        Term::Conv { x, w, coeff, window, .. } => {
            let p = product(of(x), of(w));
            let padded = window.pads_begin.iter().chain(&window.pads_end).any(|&p| p > 0);
            (times(if padded { with_zero(p) } else { p }, n), coeff)
        }
        Term::SumPool { x, coeff, window } => {
            let padded = window.pads_begin.iter().chain(&window.pads_end).any(|&p| p > 0);
            (times(if padded { with_zero(of(x)) } else { of(x) }, n), coeff)
        }
        Term::Sum { x, coeff, .. } => (times(of(x), n), coeff),
        Term::Scale { x, coeff } => (of(x), coeff),
        Term::Product { a, b, coeff } => {
            let square = a == b;
            let p = product(of(a), of(b));
            (if square { (p.0.max(0), p.1) } else { p }, coeff)
        }
    };
    product(sum, ((*coeff).into(), (*coeff).into()))
}

/// Bound on the magnitude of every partial sum of a term before and after its factor.
pub(super) fn term_magnitude(program: &Program, term: &Term) -> Option<i128> {
    let of = |id: &TensorId| {
        let t = program.tensor(*id);
        i128::from(t.lo).abs().max(i128::from(t.hi).abs())
    };
    let n = fan_in(program, term) as i128;
    let (m, coeff) = match term {
        Term::Einsum { a, b, coeff, .. } => (of(a).checked_mul(of(b))?, coeff),
        Term::Conv { x, w, coeff, .. } => (of(x).checked_mul(of(w))?, coeff),
        Term::Product { a, b, coeff } => (of(a).checked_mul(of(b))?, coeff),
        Term::SumPool { x, coeff, .. } | Term::Sum { x, coeff, .. } | Term::Scale { x, coeff } => {
            (of(x), coeff)
        }
    };
    m.checked_mul(n)?.checked_mul(i128::from(*coeff).abs().max(1))
}
