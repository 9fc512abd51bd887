//! Recurrent layers as their steps, over one set of weights.

use crate::float;
use crate::onnx::{Attr, Attrs, Node, ValueId};

use super::error::QuantError;
use super::rewrite::Graph;

/// Values of one direction.
struct Direction {
    /// Kernel of the input, `[inputs, gates · hidden]`.
    w: ValueId,
    /// Kernel of the state, `[hidden, gates · hidden]`.
    r: ValueId,
    /// Biases beside the input's and the state's kernel.
    wb: Option<ValueId>,
    rb: Option<ValueId>,
    peephole: Option<[ValueId; 3]>,
    activations: Vec<String>,
}

/// The results of an LSTM, GRU or RNN node: all states, the last state and (LSTM) the last cell.
pub(super) fn unroll(g: &mut Graph, n: &Node) -> Result<Vec<Option<ValueId>>, QuantError> {
    let gates = match n.op.as_str() {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let missing =
        |i: usize| QuantError::Layer { layer: n.name.clone(), reason: format!("operand {i} is missing") };
    let wrong = |reason: String| QuantError::Layer { layer: n.name.clone(), reason };
    let mut x = n.input(0).ok_or_else(|| missing(0))?;
    let swap = Attr::Ints(vec![1, 0, 2]);
    let batch_first = n.attrs.int_or("layout", 0).map_err(wrong)? != 0;
    if batch_first {
        x = g.one("Transpose", &[x], &[("perm", swap.clone())])?;
    }
    let (w, r) = (n.input(1).ok_or_else(|| missing(1))?, n.input(2).ok_or_else(|| missing(2))?);
    let [steps, batch, inputs] = g.shape(x)[..] else { return Err(g.fail("operand is not of rank 3")) };
    let [directions, gh, _] = g.shape(w)[..] else { return Err(g.fail("weights are not of rank 3")) };
    let hidden = gh / gates;
    if steps == 0 {
        return Err(g.fail("the sequence has no steps"));
    }
    let names = float::activation_names(&n.op, &n.attrs, directions).map_err(wrong)?;
    let per = names.len() / directions;
    let direction = n.attrs.str("direction").map_err(wrong)?.unwrap_or("forward").to_owned();

    let sizes = g.ints(&vec![1; steps]);
    let parts = g.node("Split", &[x, sizes], &[("axis", Attr::Int(0))], steps)?;
    let mut xs = Vec::with_capacity(steps);
    for p in parts {
        xs.push(g.reshape(p, &[batch, inputs])?);
    }
    let (mut all, mut last_h, mut last_c) = (vec![Vec::new(); directions], Vec::new(), Vec::new());
    for d in 0..directions {
        let slice = |g: &mut Graph, v: ValueId, from: usize, to: usize, axis: i64| {
            let (s, e, a) = (g.ints(&[from as i64]), g.ints(&[to as i64]), g.ints(&[axis]));
            g.one("Slice", &[v, s, e, a], &[])
        };
        let kernel = |g: &mut Graph, v: ValueId, rows: usize| -> Result<ValueId, QuantError> {
            let v = slice(g, v, d, d + 1, 0)?;
            let v = g.reshape(v, &[gh, rows])?;
            g.one("Transpose", &[v], &[("perm", Attr::Ints(vec![1, 0]))])
        };
        let (w, r) = (kernel(g, w, inputs)?, kernel(g, r, hidden)?);
        let (wb, rb) = match n.input(3) {
            Some(b) => {
                let b = slice(g, b, d, d + 1, 0)?;
                let b = g.reshape(b, &[2 * gh])?;
                (Some(slice(g, b, 0, gh, 0)?), Some(slice(g, b, gh, 2 * gh, 0)?))
            }
            None => (None, None),
        };
        let peephole = match n.input(7).filter(|_| n.op == "LSTM") {
            Some(p) => {
                let p = slice(g, p, d, d + 1, 0)?;
                let p = g.reshape(p, &[3 * hidden])?;
                let mut part = |k: usize| slice(g, p, k * hidden, (k + 1) * hidden, 0);
                Some([part(0)?, part(1)?, part(2)?])
            }
            None => None,
        };
        let cell = Direction { w, r, wb, rb, peephole, activations: names[d * per..(d + 1) * per].to_vec() };
        let state = |g: &mut Graph, i: usize| -> Result<Option<ValueId>, QuantError> {
            n.input(i)
                .map(|v| {
                    let v =
                        if batch_first { g.one("Transpose", &[v], &[("perm", swap.clone())])? } else { v };
                    let v = slice(g, v, d, d + 1, 0)?;
                    g.reshape(v, &[batch, hidden])
                })
                .transpose()
        };
        let mut h = state(g, 5)?;
        let mut c = if n.op == "LSTM" { state(g, 6)? } else { None };
        // A state of zeros is no state: its products need not be computed.
        let zero = |g: &Graph, v: &ValueId| {
            g.model.value(*v).constant.as_ref().is_none_or(|t| t.to_f64().iter().any(|v| *v != 0.0))
        };
        h = h.filter(|v| zero(g, v));
        c = c.filter(|v| zero(g, v));
        let backwards = direction == "reverse" || d == 1;
        let mut outputs = vec![None; steps];
        for k in 0..steps {
            let t = if backwards { steps - 1 - k } else { k };
            let (next_h, next_c) = match n.op.as_str() {
                "LSTM" => cell.lstm(g, &n.attrs, xs[t], h, c, hidden)?,
                "GRU" => (cell.gru(g, &n.attrs, xs[t], h, hidden)?, None),
                _ => {
                    let y = cell.gate(g, xs[t], h, 0..1, hidden)?;
                    (g.one(&cell.activations[0], &[y], &[])?, None)
                }
            };
            (h, c) = (Some(next_h), next_c);
            outputs[t] = Some(next_h);
        }
        all[d] = outputs.into_iter().flatten().collect();
        last_h.extend(h);
        last_c.extend(c);
    }
    let stack = |g: &mut Graph, parts: &[ValueId], shape: &[usize]| -> Result<ValueId, QuantError> {
        let whole =
            if parts.len() == 1 { parts[0] } else { g.one("Concat", parts, &[("axis", Attr::Int(0))])? };
        g.reshape(whole, shape)
    };
    let mut results = vec![None; 3];
    if n.output(0).is_some() {
        let mut order = Vec::with_capacity(steps * directions);
        for t in 0..steps {
            order.extend(all.iter().map(|d| d[t]));
        }
        results[0] = Some(stack(g, &order, &[steps, directions, batch, hidden])?);
    }
    if n.output(1).is_some() {
        results[1] = Some(stack(g, &last_h, &[directions, batch, hidden])?);
    }
    if n.output(2).is_some() {
        results[2] = Some(stack(g, &last_c, &[directions, batch, hidden])?);
    }
    if batch_first {
        for (i, r) in results.iter_mut().enumerate() {
            if let Some(v) = r {
                let perm = if i == 0 { Attr::Ints(vec![2, 0, 1, 3]) } else { swap.clone() };
                *v = g.one("Transpose", &[*v], &[("perm", perm)])?;
            }
        }
    }
    Ok(results)
}

impl Direction {
    fn part(g: &mut Graph, v: ValueId, from: usize, to: usize) -> Result<ValueId, QuantError> {
        let (s, e, a) = (g.ints(&[from as i64]), g.ints(&[to as i64]), g.ints(&[-1]));
        g.one("Slice", &[v, s, e, a], &[])
    }

    /// `x·W + h·R + biases` of some gates.
    fn gate(
        &self,
        g: &mut Graph,
        x: ValueId,
        h: Option<ValueId>,
        gates: std::ops::Range<usize>,
        hidden: usize,
    ) -> Result<ValueId, QuantError> {
        let (from, to) = (gates.start * hidden, gates.end * hidden);
        let w = Self::part(g, self.w, from, to)?;
        let mut y = g.one("MatMul", &[x, w], &[])?;
        if let Some(h) = h {
            let r = Self::part(g, self.r, from, to)?;
            let z = g.one("MatMul", &[h, r], &[])?;
            y = g.one("Add", &[y, z], &[])?;
        }
        let (Some(wb), Some(rb)) = (self.wb, self.rb) else { return Ok(y) };
        let (wb, rb) = (Self::part(g, wb, from, to)?, Self::part(g, rb, from, to)?);
        let b = g.one("Add", &[wb, rb], &[])?;
        g.one("Add", &[y, b], &[])
    }

    fn input(&self, g: &mut Graph, x: ValueId, from: usize, to: usize) -> Result<ValueId, QuantError> {
        let w = Self::part(g, self.w, from, to)?;
        let y = g.one("MatMul", &[x, w], &[])?;
        match self.wb {
            Some(b) => {
                let b = Self::part(g, b, from, to)?;
                g.one("Add", &[y, b], &[])
            }
            None => Ok(y),
        }
    }

    fn state_bias(&self, g: &mut Graph, y: ValueId, from: usize, to: usize) -> Result<ValueId, QuantError> {
        match self.rb {
            Some(b) => {
                let b = Self::part(g, b, from, to)?;
                g.one("Add", &[y, b], &[])
            }
            None => Ok(y),
        }
    }

    fn lstm(
        &self,
        g: &mut Graph,
        attrs: &Attrs,
        x: ValueId,
        h: Option<ValueId>,
        c: Option<ValueId>,
        hidden: usize,
    ) -> Result<(ValueId, Option<ValueId>), QuantError> {
        let coupled = attrs.int_or("input_forget", 0).map_err(|e| g.fail(e))? != 0;
        let f = &self.activations;
        // Order of the gates: input, output, forget, cell.
        let peep = |g: &mut Graph, y: ValueId, k: usize, c: Option<ValueId>| match (self.peephole, c) {
            (Some(p), Some(c)) => {
                let z = g.one("Mul", &[p[k], c], &[])?;
                g.one("Add", &[y, z], &[])
            }
            _ => Ok(y),
        };
        let pre = self.gate(g, x, h, 0..4, hidden)?;
        let gate = |g: &mut Graph, k: usize| Self::part(g, pre, k * hidden, (k + 1) * hidden);
        let i = gate(g, 0)?;
        let i = peep(g, i, 0, c)?;
        let i = g.one(&f[0], &[i], &[])?;
        let candidate = gate(g, 3)?;
        let candidate = g.one(&f[1], &[candidate], &[])?;
        let mut s = g.one("Mul", &[i, candidate], &[])?;
        if let Some(c) = c {
            let forget = if coupled {
                let one = g.scalar(i, 1.0);
                g.one("Sub", &[one, i], &[])?
            } else {
                let y = gate(g, 2)?;
                let y = peep(g, y, 2, Some(c))?;
                g.one(&f[0], &[y], &[])?
            };
            let kept = g.one("Mul", &[forget, c], &[])?;
            s = g.one("Add", &[s, kept], &[])?;
        }
        let o = gate(g, 1)?;
        let o = peep(g, o, 1, Some(s))?;
        let o = g.one(&f[0], &[o], &[])?;
        let y = g.one(&f[2], &[s], &[])?;
        let h = g.one("Mul", &[o, y], &[])?;
        Ok((h, Some(s)))
    }

    fn gru(
        &self,
        g: &mut Graph,
        attrs: &Attrs,
        x: ValueId,
        h: Option<ValueId>,
        hidden: usize,
    ) -> Result<ValueId, QuantError> {
        let before = attrs.int_or("linear_before_reset", 0).map_err(|e| g.fail(e))? != 0;
        let f = &self.activations;
        let pre = self.gate(g, x, h, 0..2, hidden)?;
        let z = Self::part(g, pre, 0, hidden)?;
        let z = g.one(&f[0], &[z], &[])?;
        let r = Self::part(g, pre, hidden, 2 * hidden)?;
        let r = g.one(&f[0], &[r], &[])?;
        let (from, to) = (2 * hidden, 3 * hidden);
        let y = self.input(g, x, from, to)?;
        let kernel = Self::part(g, self.r, from, to)?;
        let bias = match self.rb {
            Some(b) => Some(Self::part(g, b, from, to)?),
            None => None,
        };
        let y = if before {
            let state = match h {
                Some(h) => {
                    let s = g.one("MatMul", &[h, kernel], &[])?;
                    Some(match bias {
                        Some(b) => g.one("Add", &[s, b], &[])?,
                        None => s,
                    })
                }
                None => bias,
            };
            match state {
                Some(s) => {
                    let s = g.one("Mul", &[r, s], &[])?;
                    g.one("Add", &[y, s], &[])?
                }
                None => y,
            }
        } else {
            let y = match h {
                Some(h) => {
                    let rh = g.one("Mul", &[r, h], &[])?;
                    let s = g.one("MatMul", &[rh, kernel], &[])?;
                    g.one("Add", &[y, s], &[])?
                }
                None => y,
            };
            self.state_bias(g, y, from, to)?
        };
        let candidate = g.one(&f[1], &[y], &[])?;
        // (1 − z)·candidate + z·h = candidate + z·(h − candidate)
        let difference = match h {
            Some(h) => g.one("Sub", &[h, candidate], &[])?,
            None => g.one("Neg", &[candidate], &[])?,
        };
        let moved = g.one("Mul", &[z, difference], &[])?;
        g.one("Add", &[candidate, moved], &[])
    }
}
