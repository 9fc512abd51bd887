//! [`Linear`](crate::qir::OpKind::Linear) operations: sums of contractions, convolutions and element-wise terms.
//!
//! Every contraction becomes products of matrices: operands are gathered into contiguous `[batch, row, inner]` and `[batch, inner, column]`
//! blocks, which are multiplied row by row in parallel. The accumulator's type is chosen once per operation by its bound.

use std::ops::{AddAssign, Mul};

use rayon::prelude::*;

use crate::onnx::{broadcast_map, strides};
use crate::qir::{Activation, Program, Tensor, TensorId, Term, Window};

use super::bounds::accumulator_bounds;
use super::error::ExecError;

/// What happens to an accumulator.
pub(super) struct Rounding {
    pub constant: i64,
    pub shift: u32,
    pub pre_lo: i64,
    pub pre_hi: i64,
    pub activation: Activation,
}

/// Work below which a second thread does not pay.
const PARALLEL: usize = 1 << 15;

/// An integer wide enough for an accumulator.
trait Wide: Copy + Default + AddAssign + Mul<Output = Self> + Send + Sync + From<i64> + Into<i128> {}
impl Wide for i64 {}
impl Wide for i128 {}

pub(super) fn evaluate<'a>(
    program: &Program,
    name: &str,
    out: &Tensor,
    terms: &[Term],
    rule: &Rounding,
    get: &impl Fn(TensorId) -> &'a [i64],
) -> Result<Vec<i64>, ExecError> {
    let (lo, hi) = accumulator_bounds(program, terms, rule.constant);
    let narrow = magnitude(program, terms, rule).is_some_and(|m| m < 1 << 62)
        && lo > -(1i128 << 62)
        && hi < 1i128 << 62;
    if narrow {
        finish(name, out, sum::<i64>(program, out, terms, get), rule)
    } else {
        finish(name, out, sum::<i128>(program, out, terms, get), rule)
    }
}

/// Bound on every partial sum: the sum of the magnitudes of the terms.
fn magnitude(program: &Program, terms: &[Term], rule: &Rounding) -> Option<i128> {
    terms.iter().try_fold(i128::from(rule.constant).abs() + (1i128 << rule.shift), |m, t| {
        let (lo, hi) = accumulator_bounds(program, std::slice::from_ref(t), 0);
        // Partial sums of a term are bounded by the sum over magnitudes, not by the interval of the total.
        let spread = super::bounds::term_magnitude(program, t)?;
        m.checked_add(spread.max(lo.checked_abs()?).max(hi.checked_abs()?))
    })
}

fn finish<T: Wide>(name: &str, out: &Tensor, acc: Vec<T>, rule: &Rounding) -> Result<Vec<i64>, ExecError> {
    let half = if rule.shift == 0 { 0 } else { 1i128 << (rule.shift - 1) };
    let offset = i128::from(rule.constant) + half;
    let (lo, hi) = (i128::from(rule.pre_lo), i128::from(rule.pre_hi));
    let mut values = Vec::with_capacity(acc.len());
    for (i, a) in acc.into_iter().enumerate() {
        let a: i128 = a.into();
        let v = (a + offset) >> rule.shift;
        if v < lo || v > hi {
            return Err(ExecError::out_of_range(name, out, i, v, rule.pre_lo, rule.pre_hi));
        }
        // Within [pre_lo, pre_hi], so it fits.
        values.push(match rule.activation {
            Activation::None => v as i64,
            Activation::Relu => v.max(0) as i64,
        });
    }
    Ok(values)
}

fn sum<'a, T: Wide>(
    program: &Program,
    out: &Tensor,
    terms: &[Term],
    get: &impl Fn(TensorId) -> &'a [i64],
) -> Vec<T> {
    let mut acc = vec![T::default(); out.len()];
    let shape = |id: TensorId| program.tensor(id).shape.as_slice();
    for term in terms {
        match term {
            Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } => {
                let a = Operand { data: get(*a), shape: shape(*a), axes: a_axes };
                let b = Operand { data: get(*b), shape: shape(*b), axes: b_axes };
                einsum(&mut acc, &a, &b, out_axes, *coeff);
            }
            Term::Conv { x, w, window, groups, coeff } => {
                conv(&mut acc, get(*x), shape(*x), get(*w), shape(*w), window, *groups, *coeff);
            }
            Term::SumPool { x, window, coeff } => sum_pool(&mut acc, get(*x), shape(*x), window, *coeff),
            Term::Sum { x, axes, coeff } => sum_axes(&mut acc, get(*x), shape(*x), axes, *coeff),
            Term::Scale { x, coeff } => {
                let (x, c) = (get(*x), T::from(*coeff));
                match broadcast_map(shape_of(term, program), &out.shape) {
                    None => acc.iter_mut().zip(x).for_each(|(o, &v)| *o += T::from(v) * c),
                    Some(map) => acc.iter_mut().zip(map).for_each(|(o, i)| *o += T::from(x[i]) * c),
                }
            }
            Term::Product { a, b, coeff } => {
                let c = T::from(*coeff);
                let (ma, mb) = (broadcast_map(shape(*a), &out.shape), broadcast_map(shape(*b), &out.shape));
                let (a, b) = (get(*a), get(*b));
                for (i, o) in acc.iter_mut().enumerate() {
                    let x = a[ma.as_ref().map_or(i, |m| m[i])];
                    let y = b[mb.as_ref().map_or(i, |m| m[i])];
                    *o += T::from(x) * T::from(y) * c;
                }
            }
        }
    }
    acc
}

fn shape_of<'a>(term: &Term, program: &'a Program) -> &'a [usize] {
    match term {
        Term::Scale { x, .. } | Term::Sum { x, .. } | Term::SumPool { x, .. } | Term::Conv { x, .. } => {
            &program.tensor(*x).shape
        }
        Term::Einsum { a, .. } | Term::Product { a, .. } => &program.tensor(*a).shape,
    }
}

struct Operand<'a> {
    data: &'a [i64],
    shape: &'a [usize],
    axes: &'a [u8],
}

impl Operand<'_> {
    /// Length and stride of a label; stride 0 where the operand lacks it.
    fn stride(&self, label: u8) -> usize {
        self.axes.iter().position(|&l| l == label).map_or(0, |i| strides(self.shape)[i])
    }

    fn length(&self, label: u8) -> Option<usize> {
        self.axes.iter().position(|&l| l == label).map(|i| self.shape[i])
    }
}

/// Flat indices of all combinations of axes given as (length, stride), last fastest.
fn grid(axes: &[(usize, usize)]) -> Vec<usize> {
    let mut out = vec![0usize];
    for &(len, stride) in axes {
        let mut next = Vec::with_capacity(out.len() * len);
        for &base in &out {
            next.extend((0..len).map(|i| base + i * stride));
        }
        out = next;
    }
    out
}

fn einsum<T: Wide>(acc: &mut [T], a: &Operand<'_>, b: &Operand<'_>, out_axes: &[u8], coeff: i64) {
    let len = |l: u8| a.length(l).or_else(|| b.length(l)).unwrap_or(1);
    let out_shape: Vec<usize> = out_axes.iter().map(|&l| len(l)).collect();
    let out_strides = strides(&out_shape);
    let (mut batch, mut rows, mut cols) = (vec![], vec![], vec![]);
    for (i, &l) in out_axes.iter().enumerate() {
        let group = match (a.length(l).is_some(), b.length(l).is_some()) {
            (true, true) => &mut batch,
            (true, false) => &mut rows,
            _ => &mut cols,
        };
        group.push((l, out_strides[i]));
    }
    let mut inner: Vec<u8> = a.axes.iter().copied().filter(|l| !out_axes.contains(l)).collect();
    inner.extend(b.axes.iter().copied().filter(|l| !out_axes.contains(l) && !a.axes.contains(l)));

    let of = |labels: &[(u8, usize)], o: &Operand<'_>| -> Vec<usize> {
        grid(&labels.iter().map(|&(l, _)| (len(l), o.stride(l))).collect::<Vec<_>>())
    };
    let out_of = |labels: &[(u8, usize)]| -> Vec<usize> {
        grid(&labels.iter().map(|&(l, s)| (len(l), s)).collect::<Vec<_>>())
    };
    let inner_of = |o: &Operand<'_>| -> Vec<usize> {
        grid(&inner.iter().map(|&l| (len(l), o.stride(l))).collect::<Vec<_>>())
    };
    let (ak, bk) = (inner_of(a), inner_of(b));
    let (am, bn) = (of(&rows, a), of(&cols, b));
    let (om, on) = (out_of(&rows), out_of(&cols));
    let (ab, bb, ob) = (of(&batch, a), of(&batch, b), out_of(&batch));
    for ((a0, b0), o0) in ab.into_iter().zip(bb).zip(ob) {
        let left = |m: usize, k: usize| a.data[a0 + am[m] + ak[k]];
        let right = |k: usize, n: usize| b.data[b0 + bk[k] + bn[n]];
        let product = matmul::<T>(am.len(), ak.len(), bn.len(), &left, &right);
        let c = T::from(coeff);
        for (m, row) in product.chunks_exact(bn.len().max(1)).enumerate() {
            for (n, &v) in row.iter().enumerate() {
                acc[o0 + om[m] + on[n]] += v * c;
            }
        }
    }
}

/// `left` (m × k) times `right` (k × n), row-major.
fn matmul<T: Wide>(
    m: usize,
    k: usize,
    n: usize,
    left: &(impl Fn(usize, usize) -> i64 + Sync),
    right: &(impl Fn(usize, usize) -> i64 + Sync),
) -> Vec<T> {
    let mut out = vec![T::default(); m * n];
    if m == 0 || n == 0 {
        return out;
    }
    // A vector times a matrix splits over columns, anything else over rows. A few columns at once read whole cache lines, whichever way
    // the matrix lies.
    if m == 1 {
        const COLUMNS: usize = 16;
        let fill = |(chunk, out): (usize, &mut [T])| {
            for i in 0..k {
                let v = T::from(left(0, i));
                for (j, o) in out.iter_mut().enumerate() {
                    *o += v * T::from(right(i, chunk * COLUMNS + j));
                }
            }
        };
        if k * n >= PARALLEL {
            out.par_chunks_mut(COLUMNS).enumerate().for_each(fill);
        } else {
            out.chunks_mut(COLUMNS).enumerate().for_each(fill);
        }
        return out;
    }
    let dense: Vec<i64> =
        (0..k).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| right(i, j)).collect();
    let fill = |(i, row): (usize, &mut [T])| {
        for (j, line) in dense.chunks_exact(n).enumerate() {
            let v = left(i, j);
            if v != 0 {
                let v = T::from(v);
                for (o, &w) in row.iter_mut().zip(line) {
                    *o += v * T::from(w);
                }
            }
        }
    };
    if m * k * n >= PARALLEL {
        out.par_chunks_mut(n).enumerate().for_each(fill);
    } else {
        out.chunks_mut(n).enumerate().for_each(fill);
    }
    out
}

/// For every output position of a window (row-major) and every kernel position: the flat spatial index that is read, or `None` in the padding.
pub(super) fn taps(spatial: &[usize], window: &Window) -> (Vec<usize>, Vec<Option<usize>>) {
    let out: Vec<usize> =
        (0..spatial.len()).map(|d| window_length(spatial[d], window, d).unwrap_or(0)).collect();
    let positions: usize = out.iter().product();
    let kernel: usize = window.kernel.iter().product();
    let steps = strides(spatial);
    let mut table = Vec::with_capacity(positions * kernel);
    for p in 0..positions {
        let at = crate::onnx::unravel(p, &out);
        for q in 0..kernel {
            let k = crate::onnx::unravel(q, &window.kernel);
            table.push((0..spatial.len()).try_fold(0usize, |flat, d| {
                let i = (at[d] * window.strides[d] + k[d] * window.dilations[d])
                    .checked_sub(window.pads_begin[d])?;
                (i < spatial[d]).then(|| flat + i * steps[d])
            }));
        }
    }
    (out, table)
}

/// Output length of axis `d`; `None` where the kernel does not fit.
pub(super) fn window_length(input: usize, w: &Window, d: usize) -> Option<usize> {
    let span = w.dilations[d].checked_mul(w.kernel[d].checked_sub(1)?)?.checked_add(1)?;
    let padded = input.checked_add(w.pads_begin[d])?.checked_add(w.pads_end[d])?;
    padded.checked_sub(span)?.checked_div(w.strides[d])?.checked_add(1)
}

#[expect(clippy::too_many_arguments, reason = "the fields of one operation, taken apart by its match arm")]
fn conv<T: Wide>(
    acc: &mut [T],
    x: &[i64],
    x_shape: &[usize],
    w: &[i64],
    w_shape: &[usize],
    window: &Window,
    groups: usize,
    coeff: i64,
) {
    let (n, c, spatial) = (x_shape[0], x_shape[1], &x_shape[2..]);
    let (o, cg) = (w_shape[0], w_shape[1]);
    let og = o / groups;
    let kernel: usize = window.kernel.iter().product();
    let area: usize = spatial.iter().product();
    let (out, table) = taps(spatial, window);
    let positions: usize = out.iter().product();
    let factor = T::from(coeff);
    for image in 0..n {
        for g in 0..groups {
            let left = |m: usize, k: usize| w[(g * og + m) * cg * kernel + k];
            let right = |k: usize, p: usize| {
                let channel = image * c + g * cg + k / kernel;
                table[p * kernel + k % kernel].map_or(0, |i| x[channel * area + i])
            };
            let product = matmul::<T>(og, cg * kernel, positions, &left, &right);
            let start = (image * o + g * og) * positions;
            for (a, v) in acc[start..start + og * positions].iter_mut().zip(product) {
                *a += v * factor;
            }
        }
    }
}

fn sum_pool<T: Wide>(acc: &mut [T], x: &[i64], shape: &[usize], window: &Window, coeff: i64) {
    let spatial = &shape[2..];
    let area: usize = spatial.iter().product();
    let kernel: usize = window.kernel.iter().product();
    let (out, table) = taps(spatial, window);
    let positions: usize = out.iter().product();
    let factor = T::from(coeff);
    for plane in 0..shape[0] * shape[1] {
        let x = &x[plane * area..(plane + 1) * area];
        for (p, taps) in table.chunks_exact(kernel.max(1)).enumerate() {
            for i in taps.iter().flatten() {
                acc[plane * positions + p] += T::from(x[*i]) * factor;
            }
        }
    }
}

fn sum_axes<T: Wide>(acc: &mut [T], x: &[i64], shape: &[usize], axes: &[usize], coeff: i64) {
    let steps = strides(shape);
    let part = |inside: bool| -> Vec<usize> {
        let kept: Vec<_> =
            (0..shape.len()).filter(|d| axes.contains(d) == inside).map(|d| (shape[d], steps[d])).collect();
        grid(&kept)
    };
    let (outer, inner) = (part(false), part(true));
    let factor = T::from(coeff);
    for (o, base) in acc.iter_mut().zip(outer) {
        for i in &inner {
            *o += T::from(x[base + i]) * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_skip_the_padding() {
        let w = Window {
            kernel: vec![2],
            strides: vec![2],
            pads_begin: vec![1],
            pads_end: vec![0],
            dilations: vec![1],
        };
        let (out, table) = taps(&[3], &w);
        assert_eq!(out, vec![2]);
        assert_eq!(table, vec![None, Some(0), Some(1), Some(2)]);
        assert_eq!(window_length(1, &Window { kernel: vec![5], ..w }, 0), None);
    }
}
