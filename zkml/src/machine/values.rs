//! Values of tensors: the trace, and what only the circuit has.

use std::sync::Arc;

use crate::qir::{OpKind, Program, Role, TensorId, Term};

use super::contraction::strides;
use super::layout::Layout;
use super::lower::{broadcast, sum_targets};
use super::lowered::{Operand, Src, Virtual};
use super::plan::ProveError;

/// Values of every tensor, those of the circuit only included.
pub(crate) struct Values {
    tensors: Vec<Option<Arc<[i64]>>>,
}

impl Values {
    pub(crate) fn get(&self, src: Src) -> i64 {
        match src {
            Src::Const(c) => c,
            Src::Cell { tensor, index } => self
                .tensors
                .get(tensor as usize)
                .and_then(|t| t.as_ref())
                .and_then(|t| t.get(index as usize))
                .copied()
                .unwrap_or(0),
        }
    }

    fn tensor(&self, id: TensorId) -> &[i64] {
        self.tensors.get(id.0 as usize).and_then(|t| t.as_deref()).unwrap_or_default()
    }

    /// Completes a trace of the program's tensors.
    pub(crate) fn new(
        p: &Program,
        layout: &Layout,
        trace: &[Option<Arc<[i64]>>],
    ) -> Result<Self, ProveError> {
        let mut values = Values { tensors: Vec::with_capacity(layout.lowered.homes.len()) };
        for (i, t) in p.tensors.iter().enumerate() {
            let found = t.data.clone().or_else(|| trace.get(i).cloned().flatten());
            let found = found.ok_or_else(|| ProveError::MissingTensor { tensor: t.name.clone() })?;
            if found.len() != t.len() {
                return Err(ProveError::WrongLength {
                    tensor: t.name.clone(),
                    got: found.len(),
                    expected: t.len(),
                });
            }
            if t.role == Role::Input
                && let Some(at) = found.iter().position(|v| !(t.lo..=t.hi).contains(v))
            {
                let (layer, value) = (t.name.clone(), found[at].into());
                return Err(ProveError::OutOfRange {
                    layer,
                    element: at,
                    value,
                    lo: t.lo.into(),
                    hi: t.hi.into(),
                });
            }
            values.tensors.push(Some(found));
        }
        for v in &layout.lowered.virtuals {
            let found = values.virtual_tensor(p, v)?;
            values.tensors.push(Some(found.into()));
        }
        Ok(values)
    }

    fn virtual_tensor(&self, p: &Program, v: &Virtual) -> Result<Vec<i64>, ProveError> {
        Ok(match v {
            Virtual::PrefixMax { x, n } => {
                let mut out = Vec::with_capacity(x.len());
                for row in x.chunks(*n as usize) {
                    let mut best = self.get(row[0]);
                    for &src in &row[1..] {
                        best = best.max(self.get(src));
                        out.push(best);
                    }
                }
                out
            }
            Virtual::PrefixArg { x, n, last } => {
                let mut out = Vec::with_capacity(x.len());
                for row in x.chunks(*n as usize) {
                    let (mut best, mut at) = (self.get(row[0]), 0);
                    for (j, &src) in row.iter().enumerate().skip(1) {
                        let v = self.get(src);
                        if v > best || (*last && v == best) {
                            (best, at) = (v, j as i64);
                        }
                        out.push(at);
                    }
                }
                out
            }
            Virtual::SortKey { values, indices, bits, descending } => {
                let (x, i) = (self.tensor(TensorId(*values)), self.tensor(TensorId(*indices)));
                let sign = if *descending { -1 } else { 1 };
                x.iter().zip(i).map(|(x, i)| sign * (x << bits) + i).collect()
            }
            Virtual::Sum { op, parts } => {
                let n = p.ops[*op as usize].outputs.first().map_or(0, |&id| p.tensor(id).len());
                let overflow = || ProveError::Overflow { layer: p.ops[*op as usize].name.clone() };
                let one = |e: u32| {
                    let part = |(c, x): &(i64, Operand)| i128::from(*c) * i128::from(self.get(x.at(e)));
                    i64::try_from(parts.iter().map(part).sum::<i128>()).map_err(|_| overflow())
                };
                (0..n as u32).map(one).collect::<Result<_, _>>()?
            }
            Virtual::Term { op, term } => self
                .accumulators(p, *op, &[*term])?
                .into_iter()
                .map(|v| {
                    i64::try_from(v)
                        .map_err(|_| ProveError::Overflow { layer: p.ops[*op as usize].name.clone() })
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// The sums of some terms of a Linear, by output element.
    pub(crate) fn accumulators(&self, p: &Program, op: u32, chosen: &[u32]) -> Result<Vec<i128>, ProveError> {
        let op = &p.ops[op as usize];
        let OpKind::Linear { terms, .. } = &op.kind else { return Ok(Vec::new()) };
        let shape = &p.tensor(op.outputs[0]).shape;
        let mut out = vec![0i128; shape.iter().product()];
        for &i in chosen {
            match &terms[i as usize] {
                Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } => {
                    self.einsum(p, (*a, a_axes), (*b, b_axes), out_axes, *coeff, &mut out);
                }
                Term::Conv { x, w, window, groups, coeff } => {
                    let (xs, ws) = (&p.tensor(*x).shape, &p.tensor(*w).shape);
                    let taps = taps(&xs[2..], &shape[2..], window);
                    let (area, pixels) =
                        (xs[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
                    let size: usize = ws[2..].iter().product();
                    let per_group = ws[0] / groups;
                    let (x, w) = (self.tensor(*x), self.tensor(*w));
                    for n in 0..xs[0] {
                        for o in 0..ws[0] {
                            let to = &mut out[(n * ws[0] + o) * pixels..][..pixels];
                            for c in 0..ws[1] {
                                let channel = o / per_group * ws[1] + c;
                                let image = &x[(n * xs[1] + channel) * area..][..area];
                                let kernel = &w[(o * ws[1] + c) * size..][..size];
                                for (sum, taps) in to.iter_mut().zip(taps.chunks(size)) {
                                    let dot: i128 = taps
                                        .iter()
                                        .zip(kernel)
                                        .filter(|(t, _)| **t != usize::MAX)
                                        .map(|(&t, &k)| i128::from(image[t]) * i128::from(k))
                                        .sum();
                                    *sum += dot * i128::from(*coeff);
                                }
                            }
                        }
                    }
                }
                Term::SumPool { x, window, coeff } => {
                    let xs = &p.tensor(*x).shape;
                    let taps = taps(&xs[2..], &shape[2..], window);
                    let (area, pixels) =
                        (xs[2..].iter().product::<usize>(), shape[2..].iter().product::<usize>());
                    let size: usize = window.kernel.iter().product();
                    for (image, to) in self.tensor(*x).chunks(area.max(1)).zip(out.chunks_mut(pixels.max(1)))
                    {
                        for (sum, taps) in to.iter_mut().zip(taps.chunks(size)) {
                            let total: i128 = taps
                                .iter()
                                .filter(|t| **t != usize::MAX)
                                .map(|&t| i128::from(image[t]))
                                .sum();
                            *sum += total * i128::from(*coeff);
                        }
                    }
                }
                Term::Sum { x, axes, coeff } => {
                    let targets = sum_targets(&p.tensor(*x).shape, axes);
                    for (&v, &target) in self.tensor(*x).iter().zip(&targets) {
                        out[target as usize] += i128::from(v) * i128::from(*coeff);
                    }
                }
                Term::Scale { x, coeff } => {
                    let map = broadcast(shape, &p.tensor(*x).shape);
                    let x = self.tensor(*x);
                    out.iter_mut()
                        .zip(map)
                        .for_each(|(o, i)| *o += i128::from(x[i as usize]) * i128::from(*coeff));
                }
                Term::Product { a, b, coeff } => {
                    let (ma, mb) =
                        (broadcast(shape, &p.tensor(*a).shape), broadcast(shape, &p.tensor(*b).shape));
                    let (a, b) = (self.tensor(*a), self.tensor(*b));
                    for ((o, i), j) in out.iter_mut().zip(ma).zip(mb) {
                        *o += i128::from(a[i as usize]) * i128::from(b[j as usize]) * i128::from(*coeff);
                    }
                }
            }
        }
        Ok(out)
    }

    fn einsum(
        &self,
        p: &Program,
        (a, a_axes): (TensorId, &[u8]),
        (b, b_axes): (TensorId, &[u8]),
        out_axes: &[u8],
        coeff: i64,
        out: &mut [i128],
    ) {
        let (a_shape, b_shape) = (&p.tensor(a).shape, &p.tensor(b).shape);
        let (a_steps, b_steps) = (strides(a_shape), strides(b_shape));
        let mut labels: Vec<u8> = out_axes.to_vec();
        labels.extend(a_axes.iter().chain(b_axes).filter(|l| !out_axes.contains(l)));
        let mut seen = Vec::new();
        labels.retain(|l| {
            if seen.contains(l) {
                false
            } else {
                seen.push(*l);
                true
            }
        });
        let find = |axes: &[u8], shape: &[usize], steps: &[usize], label: u8| {
            axes.iter().position(|&l| l == label).map(|i| (shape[i], steps[i]))
        };
        let mut shape = Vec::new();
        let mut steps: Vec<[usize; 2]> = Vec::new();
        for &label in &labels {
            let (x, y) = (find(a_axes, a_shape, &a_steps, label), find(b_axes, b_shape, &b_steps, label));
            shape.push(x.or(y).map_or(1, |s| s.0));
            steps.push([x.map_or(0, |s| s.1), y.map_or(0, |s| s.1)]);
        }
        let kept = out_axes.len();
        let outer = super::contraction::offsets(&shape[..kept], &steps[..kept]);
        let inner = super::contraction::offsets(&shape[kept..], &steps[kept..]);
        let (a, b) = (self.tensor(a), self.tensor(b));
        for (sum, [oa, ob]) in out.iter_mut().zip(outer) {
            let dot: i128 =
                inner.iter().map(|&[ia, ib]| i128::from(a[oa + ia]) * i128::from(b[ob + ib])).sum();
            *sum += dot * i128::from(coeff);
        }
    }
}

/// Input element of each kernel element at each output element, `usize::MAX` in the padding.
fn taps(input: &[usize], output: &[usize], window: &crate::qir::Window) -> Vec<usize> {
    let rank = input.len();
    let index = |shape: &[usize], mut flat: usize| -> Vec<usize> {
        let mut out = vec![0; rank];
        for d in (0..rank).rev() {
            out[d] = flat % shape[d];
            flat /= shape[d];
        }
        out
    };
    let (pixels, size) = (output.iter().product::<usize>(), window.kernel.iter().product::<usize>());
    let kernel: Vec<Vec<usize>> = (0..size).map(|k| index(&window.kernel, k)).collect();
    let mut out = Vec::with_capacity(pixels * size);
    for p in 0..pixels {
        let o = index(output, p);
        for k in &kernel {
            let mut flat = Some(0);
            for d in 0..rank {
                let at =
                    (o[d] * window.strides[d] + k[d] * window.dilations[d]).checked_sub(window.pads_begin[d]);
                flat = match (flat, at) {
                    (Some(flat), Some(at)) if at < input[d] => Some(flat * input[d] + at),
                    _ => None,
                };
            }
            out.push(flat.unwrap_or(usize::MAX));
        }
    }
    out
}
