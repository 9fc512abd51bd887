//! Matrix products, convolutions and pooling.

use std::borrow::Cow;

use crate::onnx::{DType, Data, Node, TensorF, broadcast, broadcast_map, checked_len, strides, unravel};

use super::{Call, OpError};

/// Numbers that products are summed in: doubles, or integers that wrap.
pub(super) trait Ring: Copy + PartialEq {
    const ZERO: Self;
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

impl Ring for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn plus(self, other: Self) -> Self {
        self + other
    }
    fn times(self, other: Self) -> Self {
        self * other
    }
}

impl Ring for i64 {
    const ZERO: Self = 0;
    const ONE: Self = 1;
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
}

/// `a` (m × k) times `b` (k × n), added to `out`.
fn gemm_into<T: Ring>(out: &mut [T], a: &[T], b: &[T], k: usize, n: usize) {
    if k == 0 || n == 0 {
        return;
    }
    for (row, a) in out.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&v, line) in a.iter().zip(b.chunks_exact(n)) {
            if v != T::ZERO {
                row.iter_mut().zip(line).for_each(|(o, &w)| *o = o.plus(v.times(w)));
            }
        }
    }
}

/// Integer operands give an int32 result; their values are exact in double precision as long as no sum passes 2^53, which no
/// operand width of the integer operators reaches.
fn finish(shape: Vec<usize>, data: Vec<f64>, like: DType) -> Result<TensorF, OpError> {
    Ok(if like.is_float() {
        TensorF::float(shape, like, data.into_iter().map(|v| like.round(v)).collect())?
    } else {
        let dtype = if matches!(like, DType::I8 | DType::U8) { DType::I32 } else { like };
        TensorF::int(shape, dtype, data.into_iter().map(|v| dtype.wrap(v as i64)).collect())?
    })
}

/// An operand less its zero point, which is a scalar or has one value per row (`rows`) or column.
pub(super) fn centred<'a>(
    x: &'a TensorF,
    zero: Option<&TensorF>,
    axis: usize,
) -> Result<Cow<'a, [f64]>, OpError> {
    let mut all = x.as_f64();
    if let Some(z) = zero {
        let v = all.to_mut();
        if z.len() == 1 {
            v.iter_mut().for_each(|v| *v -= z.at(0));
        } else {
            let inner: usize = x.shape.get(axis + 1..).ok_or("zero points of a scalar")?.iter().product();
            if x.shape[axis] != z.len() {
                return Err(format!("{} zero points for {:?}", z.len(), x.shape).into());
            }
            v.iter_mut().enumerate().for_each(|(i, v)| *v -= z.at(i / inner.max(1) % z.len()));
        }
    }
    Ok(all)
}

pub(super) fn matmul(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let integer = c.node.op == "MatMulInteger";
    let (za, zb) = if integer { (c.opt(2), c.opt(3)) } else { (None, None) };
    let row_axis = a.shape.len().saturating_sub(2);
    let x = centred(a, za, row_axis)?;
    let y = centred(b, zb, b.shape.len().saturating_sub(1))?;
    if let (false, Data::I(x), Data::I(y)) = (integer, &a.data, &b.data) {
        let (shape, v) = product(&a.shape, x, &b.shape, y)?;
        return Ok(TensorF::int(shape, a.dtype, v.into_iter().map(|v| a.dtype.wrap(v)).collect())?);
    }
    let like = if integer { DType::I8 } else { a.dtype };
    let (shape, v) = product(&a.shape, &x, &b.shape, &y)?;
    finish(shape, v, like)
}

/// NumPy's matmul.
pub(super) fn product<T: Ring>(
    a_shape: &[usize],
    a: &[T],
    b_shape: &[usize],
    b: &[T],
) -> Result<(Vec<usize>, Vec<T>), OpError> {
    if a_shape.is_empty() || b_shape.is_empty() {
        return Err("product of a scalar".into());
    }
    let sa = if a_shape.len() == 1 { vec![1, a_shape[0]] } else { a_shape.to_vec() };
    let sb = if b_shape.len() == 1 { vec![b_shape[0], 1] } else { b_shape.to_vec() };
    let (ba, [m, k]) = sa.split_last_chunk().ok_or("product of a scalar")?;
    let (bb, [k2, n]) = sb.split_last_chunk().ok_or("product of a scalar")?;
    if k != k2 {
        return Err(format!("shapes {a_shape:?} and {b_shape:?} do not multiply").into());
    }
    let batch = broadcast(ba, bb)?;
    let count = checked_len(&batch)?;
    let (ma, mb) = (broadcast_map(ba, &batch), broadcast_map(bb, &batch));
    let mut shape = batch.clone();
    shape.extend([*m, *n]);
    let total = checked_len(&shape)?;
    let mut out = vec![T::ZERO; total];
    if total > 0 {
        for (i, block) in out.chunks_exact_mut(m * n).enumerate().take(count) {
            let ia = ma.as_ref().map_or(i, |v| v[i]) * m * k;
            let ib = mb.as_ref().map_or(i, |v| v[i]) * k * n;
            gemm_into(block, &a[ia..ia + m * k], &b[ib..ib + k * n], *k, *n);
        }
    }
    if b_shape.len() == 1 {
        shape.pop();
    }
    if a_shape.len() == 1 {
        shape.remove(shape.len() - if b_shape.len() == 1 { 1 } else { 2 });
    }
    Ok((shape, out))
}

/// A row times the transpose of `b` (n × k): a product with a weight as PyTorch's exports hold it, without a copy of the weight.
fn row_by_transpose(a: &[f64], b: &[f64]) -> Vec<f64> {
    let dot = |line: &[f64]| a.iter().zip(line).fold(0.0, |sum, (&v, &w)| sum + v * w);
    b.chunks_exact(a.len().max(1)).map(dot).collect()
}

pub(super) fn gemm(c: &Call<'_>) -> Result<TensorF, OpError> {
    let a = &c.node.attrs;
    let (alpha, beta) = (a.float_or("alpha", 1.0)?, a.float_or("beta", 1.0)?);
    // Shape as it is multiplied, elements as they are stored, and whether those are transposed.
    type Matrix<'a> = ([usize; 2], Cow<'a, [f64]>, bool);
    let operand = |i: usize, attr: &str| -> Result<Matrix<'_>, OpError> {
        let x = c.input(i)?;
        let [r, c] = x.shape[..] else { return Err(format!("{:?} is not a matrix", x.shape).into()) };
        let across = a.int_or(attr, 0)? != 0;
        Ok((if across { [c, r] } else { [r, c] }, x.as_f64(), across))
    };
    let straight = |([r, c], v, across): Matrix<'_>| -> Vec<f64> {
        if across {
            (0..r).flat_map(|i| (0..c).map(move |j| (i, j))).map(|(i, j)| v[j * r + i]).collect()
        } else {
            v.into_owned()
        }
    };
    let (x, y) = (operand(0, "transA")?, operand(1, "transB")?);
    let (sx, sy) = (x.0, y.0);
    let (shape, mut v) = if sx[0] == 1 && y.2 && sx[1] == sy[0] && sy[0] > 0 {
        (vec![1, sy[1]], row_by_transpose(&x.1, &y.1))
    } else if y.2 || x.2 {
        product(&sx, &straight(x), &sy, &straight(y))?
    } else {
        product(&sx, &x.1, &sy, &y.1)?
    };
    v.iter_mut().for_each(|v| *v *= alpha);
    if let Some(bias) = c.opt(2) {
        let bias = bias.broadcast_to(&shape)?;
        v.iter_mut().enumerate().for_each(|(i, v)| *v += beta * bias.at(i));
    }
    finish(shape, v, c.input(0)?.dtype)
}

/// The labels of an einsum equation: one list per operand and that of the result. Ellipses become labels from 128 on.
pub(crate) fn einsum_labels(equation: &str, ranks: &[usize]) -> Result<(Vec<Vec<u8>>, Vec<u8>), String> {
    let eq: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = eq.split_once("->").map_or((eq.as_str(), None), |(l, r)| (l, Some(r)));
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != ranks.len() {
        return Err(format!("equation `{equation}` is for {} operands", parts.len()));
    }
    let expand = |s: &str, rank: Option<usize>, dots: usize| -> Result<Vec<u8>, String> {
        let (head, tail) = match s.split_once("...") {
            Some((h, t)) => (h, Some(t)),
            None => (s, None),
        };
        let letters = |s: &str| -> Result<Vec<u8>, String> {
            s.bytes()
                .map(|b| if b.is_ascii_alphabetic() { Ok(b) } else { Err(format!("equation `{equation}`")) })
                .collect()
        };
        let mut out = letters(head)?;
        if let Some(tail) = tail {
            let tail = letters(tail)?;
            let n = match rank {
                Some(r) => {
                    r.checked_sub(out.len() + tail.len()).ok_or_else(|| format!("equation `{equation}`"))?
                }
                None => dots,
            };
            if n > 64 {
                return Err("too many axes".into());
            }
            // Aligned at the right, as broadcasting is.
            out.extend((0..n).map(|i| 128 + 64 - n as u8 + i as u8));
            out.extend(tail);
        }
        if rank.is_some_and(|r| r != out.len()) {
            return Err(format!("equation `{equation}` for operands of rank {ranks:?}"));
        }
        Ok(out)
    };
    let lists =
        parts.iter().zip(ranks).map(|(s, &r)| expand(s, Some(r), 0)).collect::<Result<Vec<_>, _>>()?;
    let dots = lists.iter().map(|l| l.iter().filter(|&&b| b >= 128).count()).max().unwrap_or(0);
    let out = match right {
        Some(r) => expand(r, None, dots)?,
        None => {
            let mut once: Vec<u8> = lists.concat();
            once.sort_unstable();
            let all = once.clone();
            once.dedup();
            let mut out: Vec<u8> = once.iter().copied().filter(|b| *b >= 128).collect();
            out.extend(
                once.iter().copied().filter(|b| *b < 128 && all.iter().filter(|a| *a == b).count() == 1),
            );
            out
        }
    };
    if let Some(l) =
        out.iter().enumerate().find(|(i, l)| out[..*i].contains(l) || !lists.iter().any(|s| s.contains(l)))
    {
        return Err(format!("output label {:?} of `{equation}`", char::from(*l.1)));
    }
    Ok((lists, out))
}

pub(super) fn einsum(c: &Call<'_>) -> Result<TensorF, OpError> {
    let all = c.all()?;
    let equation = c.node.attrs.str("equation")?.ok_or("`equation` is missing")?;
    let ranks: Vec<usize> = all.iter().map(|t| t.shape.len()).collect();
    let (lists, out) = einsum_labels(equation, &ranks)?;
    let mut lengths = std::collections::BTreeMap::new();
    for (l, t) in lists.iter().zip(&all) {
        for (&label, &d) in l.iter().zip(&t.shape) {
            let e = lengths.entry(label).or_insert(d);
            if *e == 1 {
                *e = d;
            } else if d != 1 && *e != d {
                return Err(format!("a label has lengths {e} and {d}").into());
            }
        }
    }
    let inner: Vec<u8> = lengths.keys().copied().filter(|l| !out.contains(l)).collect();
    let dims = |ls: &[u8]| ls.iter().map(|l| lengths[l]).collect::<Vec<usize>>();
    let (shape, inner_shape) = (dims(&out), dims(&inner));
    let n = checked_len(&shape)?;
    let k = checked_len(&inner_shape)?;
    checked_len(&[n, k])?;
    let offsets = |labels: &[u8], count: usize, dims: &[usize], i: usize| -> Vec<usize> {
        let steps = strides(&all[i].shape);
        (0..count)
            .map(|flat| {
                let at = unravel(flat, dims);
                lists[i]
                    .iter()
                    .enumerate()
                    .filter(|(axis, _)| all[i].shape[*axis] != 1)
                    .filter_map(|(axis, l)| labels.iter().position(|x| x == l).map(|p| at[p] * steps[axis]))
                    .sum()
            })
            .collect()
    };
    let bases: Vec<Vec<usize>> = (0..all.len()).map(|i| offsets(&out, n, &shape, i)).collect();
    let sums: Vec<Vec<usize>> = (0..all.len()).map(|i| offsets(&inner, k, &inner_shape, i)).collect();
    let dtype = all[0].dtype;
    if all.iter().all(|t| matches!(t.data, Data::I(_))) {
        let data: Vec<Vec<i64>> = all.iter().map(|t| t.to_i64()).collect();
        let v = summed(&data, &bases, &sums, n, k);
        return Ok(TensorF::int(shape, dtype, v.into_iter().map(|v| dtype.wrap(v)).collect())?);
    }
    let data: Vec<Vec<f64>> = all.iter().map(|t| t.to_f64()).collect();
    finish(shape, summed(&data, &bases, &sums, n, k), dtype)
}

/// Sums of `k` products of one element of every operand.
fn summed<T: Ring>(data: &[Vec<T>], bases: &[Vec<usize>], sums: &[Vec<usize>], n: usize, k: usize) -> Vec<T> {
    let product =
        |o: usize, s: usize| (0..data.len()).fold(T::ONE, |p, i| p.times(data[i][bases[i][o] + sums[i][s]]));
    (0..n).map(|o| (0..k).fold(T::ZERO, |total, s| total.plus(product(o, s)))).collect()
}

/// Geometry of a window operator after `auto_pad` is resolved.
#[derive(Clone, Debug)]
pub(crate) struct Pooling {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub begin: Vec<usize>,
    pub end: Vec<usize>,
    pub dilations: Vec<usize>,
    pub output: Vec<usize>,
}

fn list(node: &Node, name: &str, n: usize, default: usize) -> Result<Vec<usize>, OpError> {
    match node.attrs.ints(name)? {
        None => Ok(vec![default; n]),
        Some(v) if v.len() == n => v
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| OpError::Invalid(format!("`{name}` is {v:?}"))))
            .collect(),
        Some(v) => Err(format!("`{name}` is {v:?} for {n} axes").into()),
    }
}

/// Resolves strides, dilations, pads, `auto_pad` and `ceil_mode` of a window over `spatial`.
pub(crate) fn auto_pads(node: &Node, spatial: &[usize], kernel: &[usize]) -> Result<Pooling, OpError> {
    let n = spatial.len();
    let steps = list(node, "strides", n, 1)?;
    let dilations = list(node, "dilations", n, 1)?;
    if kernel.len() != n || [kernel, &steps, &dilations].iter().any(|l| l.contains(&0)) {
        return Err(format!("kernel {kernel:?}, strides {steps:?}, dilations {dilations:?}").into());
    }
    let pads = list(node, "pads", 2 * n, 0)?;
    let (mut begin, mut end) = (pads[..n].to_vec(), pads[n..].to_vec());
    let mode = node.attrs.str("auto_pad")?.unwrap_or("NOTSET");
    let ceil = node.attrs.int_or("ceil_mode", 0)? != 0;
    let mut output = Vec::with_capacity(n);
    for d in 0..n {
        let span = dilations[d]
            .checked_mul(kernel[d] - 1)
            .and_then(|s| s.checked_add(1))
            .ok_or("kernel too large")?;
        match mode {
            "SAME_UPPER" | "SAME_LOWER" => {
                let out = spatial[d].div_ceil(steps[d]);
                let total =
                    (out.saturating_sub(1) * steps[d]).saturating_add(span).saturating_sub(spatial[d]);
                let small = total / 2;
                (begin[d], end[d]) =
                    if mode == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
            }
            "VALID" => (begin[d], end[d]) = (0, 0),
            "NOTSET" | "" => {}
            other => return Err(format!("auto_pad `{other}`").into()),
        }
        let padded =
            spatial[d].checked_add(begin[d]).and_then(|v| v.checked_add(end[d])).ok_or("pads too large")?;
        let room =
            padded.checked_sub(span).ok_or_else(|| format!("a window of {span} does not fit {padded}"))?;
        let mut out = room / steps[d] + 1;
        if ceil && room % steps[d] != 0 && (room / steps[d] + 1) * steps[d] < spatial[d] + begin[d] {
            out += 1;
            end[d] += steps[d] - room % steps[d];
        }
        output.push(out);
    }
    Ok(Pooling { kernel: kernel.to_vec(), strides: steps, begin, end, dilations, output })
}

/// Flat spatial index that kernel position `q` reads at output `p`; `None` in the padding.
fn tap(p: &[usize], q: &[usize], g: &Pooling, spatial: &[usize]) -> Option<usize> {
    let mut flat = 0;
    for d in 0..spatial.len() {
        let i = (p[d] * g.strides[d] + q[d] * g.dilations[d]).checked_sub(g.begin[d])?;
        if i >= spatial[d] {
            return None;
        }
        flat = flat * spatial[d] + i;
    }
    Some(flat)
}

fn taps(g: &Pooling, spatial: &[usize]) -> Result<Vec<Option<usize>>, OpError> {
    let positions = checked_len(&g.output)?;
    let kernel = checked_len(&g.kernel)?;
    checked_len(&[positions, kernel])?;
    let offsets: Vec<Vec<usize>> = (0..kernel).map(|q| unravel(q, &g.kernel)).collect();
    Ok((0..positions)
        .flat_map(|p| {
            let at = unravel(p, &g.output);
            offsets.iter().map(move |q| tap(&at, q, g, spatial)).collect::<Vec<_>>()
        })
        .collect())
}

fn groups(node: &Node) -> Result<usize, OpError> {
    let g = node.attrs.int_or("group", 1)?;
    usize::try_from(g).ok().filter(|&g| g > 0).ok_or_else(|| OpError::Invalid(format!("group {g}")))
}

pub(super) fn conv(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let integer = c.node.op == "ConvInteger";
    let (zx, zw, bias) = if integer { (c.opt(2), c.opt(3), None) } else { (None, None, c.opt(2)) };
    let (xv, wv) = (centred(x, zx, 1)?, centred(w, zw, 0)?);
    let (shape, v) = conv_values(c.node, &x.shape, &xv, &w.shape, &wv, bias.map(TensorF::to_f64).as_deref())?;
    finish(shape, v, if integer { DType::I8 } else { x.dtype })
}

pub(super) fn conv_values(
    node: &Node,
    xs: &[usize],
    x: &[f64],
    ws: &[usize],
    w: &[f64],
    bias: Option<&[f64]>,
) -> Result<(Vec<usize>, Vec<f64>), OpError> {
    let g = groups(node)?;
    if xs.len() < 3 || ws.len() != xs.len() || !ws[0].is_multiple_of(g) || ws[1].checked_mul(g) != Some(xs[1])
    {
        return Err(format!("kernel {ws:?} with {g} groups on {xs:?}").into());
    }
    if let Some(k) = node.attrs.ints("kernel_shape")?
        && !k.iter().map(|&d| d as usize).eq(ws[2..].iter().copied())
    {
        return Err(format!("kernel_shape {k:?} for weights {ws:?}").into());
    }
    if bias.is_some_and(|b| b.len() != ws[0]) {
        return Err(format!("bias for {} channels", ws[0]).into());
    }
    let geometry = auto_pads(node, &xs[2..], &ws[2..])?;
    let table = taps(&geometry, &xs[2..])?;
    let kernel: usize = ws[2..].iter().product();
    let area: usize = xs[2..].iter().product();
    let positions: usize = geometry.output.iter().product();
    let (og, cg) = (ws[0] / g, ws[1]);
    let mut shape = vec![xs[0], ws[0]];
    shape.extend(&geometry.output);
    let mut out = vec![0.0; checked_len(&shape)?];
    checked_len(&[cg * kernel, positions])?;
    let mut columns = vec![0.0; cg * kernel * positions];
    for image in 0..xs[0] {
        for group in 0..g {
            for (r, line) in columns.chunks_exact_mut(positions.max(1)).enumerate() {
                let plane = (image * xs[1] + group * cg + r / kernel) * area;
                for (p, v) in line.iter_mut().enumerate() {
                    *v = table[p * kernel + r % kernel].map_or(0.0, |i| x[plane + i]);
                }
            }
            let start = (image * ws[0] + group * og) * positions;
            let weights = &w[group * og * cg * kernel..(group + 1) * og * cg * kernel];
            gemm_into(&mut out[start..start + og * positions], weights, &columns, cg * kernel, positions);
        }
    }
    if let Some(b) = bias {
        out.iter_mut().enumerate().for_each(|(i, v)| *v += b[i / positions % ws[0]]);
    }
    Ok((shape, out))
}

/// Pads before each axis and output lengths of a transposed convolution.
pub(crate) fn conv_transpose_geometry(
    node: &Node,
    spatial: &[usize],
    kernel: &[usize],
) -> Result<Pooling, OpError> {
    let n = spatial.len();
    let steps = list(node, "strides", n, 1)?;
    let dilations = list(node, "dilations", n, 1)?;
    let extra = list(node, "output_padding", n, 0)?;
    let pads = list(node, "pads", 2 * n, 0)?;
    let (mut begin, mut end) = (pads[..n].to_vec(), pads[n..].to_vec());
    let mode = node.attrs.str("auto_pad")?.unwrap_or("NOTSET");
    let wanted = node.attrs.ints("output_shape")?.map(super::movement::dims).transpose()?;
    if kernel.len() != n || [kernel, &steps, &dilations, spatial].iter().any(|l| l.contains(&0)) {
        return Err(format!("kernel {kernel:?}, strides {steps:?}, dilations {dilations:?}").into());
    }
    let mut output = Vec::with_capacity(n);
    for d in 0..n {
        let mut full = (spatial[d] - 1)
            .checked_mul(steps[d])
            .and_then(|v| {
                v.checked_add((kernel[d] - 1).checked_mul(dilations[d])?)?.checked_add(1 + extra[d])
            })
            .ok_or("the result is too large")?;
        let target = match (&wanted, mode) {
            (Some(w), _) => {
                let w = &w[w.len().saturating_sub(n)..];
                Some(*w.get(d).ok_or("`output_shape` is too short")?)
            }
            (None, "SAME_UPPER" | "SAME_LOWER") => {
                Some(spatial[d].checked_mul(steps[d]).ok_or("the result is too large")?)
            }
            _ => None,
        };
        if let Some(t) = target {
            // A result that is wanted larger grows at its end.
            let total = full.saturating_sub(t);
            full = full.max(t);
            let small = total / 2;
            (begin[d], end[d]) =
                if mode == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
        }
        let cut = begin[d].checked_add(end[d]).ok_or("pads too large")?;
        output.push(full.checked_sub(cut).ok_or("the pads are larger than the result")?);
    }
    Ok(Pooling { kernel: kernel.to_vec(), strides: steps, begin, end, dilations, output })
}

pub(super) fn conv_transpose(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let g = groups(c.node)?;
    let (xs, ws) = (&x.shape, &w.shape);
    if xs.len() < 3 || ws.len() != xs.len() || ws[0] != xs[1] || xs[1] % g != 0 {
        return Err(format!("kernel {ws:?} with {g} groups on {xs:?}").into());
    }
    let geometry = conv_transpose_geometry(c.node, &xs[2..], &ws[2..])?;
    let (cg, og) = (xs[1] / g, ws[1]);
    let kernel: usize = ws[2..].iter().product();
    let area: usize = xs[2..].iter().product();
    let positions: usize = checked_len(&geometry.output)?;
    let channels = og.checked_mul(g).ok_or("too many groups")?;
    let mut shape = vec![xs[0], channels];
    shape.extend(&geometry.output);
    let mut out = vec![0.0; checked_len(&shape)?];
    let (xv, wv) = (x.to_f64(), w.to_f64());
    // Input i meets output i·stride + k·dilation − pad.
    let mut pairs = Vec::new();
    for i in 0..area {
        let at = unravel(i, &xs[2..]);
        for q in 0..kernel {
            let k = unravel(q, &ws[2..]);
            let flat = (0..at.len()).try_fold(0usize, |flat, d| {
                let o = (at[d] * geometry.strides[d] + k[d] * geometry.dilations[d])
                    .checked_sub(geometry.begin[d])?;
                (o < geometry.output[d]).then(|| flat * geometry.output[d] + o)
            });
            pairs.extend(flat.map(|o| (i, q, o)));
        }
    }
    for image in 0..xs[0] {
        for channel in 0..xs[1] {
            for o in 0..og {
                let weights = &wv[(channel * og + o) * kernel..][..kernel];
                let source = &xv[(image * xs[1] + channel) * area..][..area];
                let target = &mut out[(image * channels + channel / cg * og + o) * positions..][..positions];
                pairs.iter().for_each(|&(i, q, p)| target[p] += source[i] * weights[q]);
            }
        }
    }
    if let Some(b) = c.opt(2) {
        if b.len() != channels {
            return Err(format!("bias of {} for {channels} channels", b.len()).into());
        }
        out.iter_mut().enumerate().for_each(|(i, v)| *v += b.at(i / positions % channels));
    }
    finish(shape, out, x.dtype)
}

pub(super) fn pool(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    if x.shape.len() < 3 {
        return Err(format!("{:?} has no spatial axes", x.shape).into());
    }
    let is_max = c.node.op == "MaxPool";
    if c.node.outputs.get(1).copied().flatten().is_some() {
        return Err(OpError::Unsupported("the indices of a pooling are wanted".into()));
    }
    let spatial = &x.shape[2..];
    let kernel =
        super::movement::dims(c.node.attrs.ints("kernel_shape")?.ok_or("`kernel_shape` is missing")?)?;
    let g = auto_pads(c.node, spatial, &kernel)?;
    let include = c.node.attrs.int_or("count_include_pad", 0)? != 0;
    // Padding that only ceil_mode adds is never counted.
    let own_pads = list(c.node, "pads", 2 * spatial.len(), 0)?;
    let table = taps(&g, spatial)?;
    let size: usize = kernel.iter().product();
    let area: usize = spatial.iter().product();
    let positions: usize = g.output.iter().product();
    let counts: Vec<f64> = (0..positions)
        .map(|p| {
            let at = unravel(p, &g.output);
            (0..size)
                .filter(|&q| {
                    if !include {
                        return table[p * size + q].is_some();
                    }
                    let k = unravel(q, &kernel);
                    (0..spatial.len()).all(|d| {
                        let end = if g.end[d] > own_pads[spatial.len() + d]
                            && c.node.attrs.str("auto_pad").ok().flatten().unwrap_or("NOTSET") == "NOTSET"
                        {
                            own_pads[spatial.len() + d]
                        } else {
                            g.end[d]
                        };
                        at[d] * g.strides[d] + k[d] * g.dilations[d] < spatial[d] + g.begin[d] + end
                    })
                })
                .count() as f64
        })
        .collect();
    let mut shape = x.shape[..2].to_vec();
    shape.extend(&g.output);
    let n = checked_len(&shape)?;
    let reduce = |plane: usize, p: usize, at: &dyn Fn(usize) -> f64| -> f64 {
        let reads = table[p * size..(p + 1) * size].iter().flatten().map(|&i| at(plane * area + i));
        if is_max { reads.fold(f64::NEG_INFINITY, f64::max) } else { reads.sum::<f64>() / counts[p] }
    };
    let data = match &x.data {
        Data::F(v) => {
            Data::F((0..n).map(|i| x.dtype.round(reduce(i / positions, i % positions, &|j| v[j]))).collect())
        }
        Data::I(v) if is_max => Data::I(
            (0..n)
                .map(|i| {
                    let p = i % positions;
                    let reads = table[p * size..(p + 1) * size].iter().flatten();
                    reads.map(|&j| v[i / positions * area + j]).max().unwrap_or(0)
                })
                .collect(),
        ),
        Data::I(_) => return Err("average of integers".into()),
    };
    Ok(TensorF::new(shape, x.dtype, data)?)
}

pub(super) fn global_pool(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    if x.shape.len() < 3 {
        return Err(format!("{:?} has no spatial axes", x.shape).into());
    }
    let area: usize = x.shape[2..].iter().product();
    let mut shape = x.shape.clone();
    shape[2..].fill(1);
    let v = x.to_f64();
    let out = v
        .chunks_exact(area.max(1))
        .map(|r| {
            if c.node.op == "GlobalMaxPool" {
                r.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            } else {
                r.iter().sum::<f64>() / area as f64
            }
        })
        .collect();
    finish(shape, out, x.dtype)
}
