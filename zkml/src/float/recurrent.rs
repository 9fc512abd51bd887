//! LSTM, GRU and RNN.

use crate::onnx::{Attrs, TensorF, checked_len};

use super::movement::permute;
use super::special::{self, Function};
use super::{Call, OpError, Outputs};

/// One direction's parameters, activations and state.
struct Cell {
    kind: Kind,
    hidden: usize,
    inputs: usize,
    w: Vec<f64>,
    r: Vec<f64>,
    wb: Vec<f64>,
    rb: Vec<f64>,
    peephole: Option<Vec<f64>>,
    f: Vec<Function>,
    linear_before_reset: bool,
    input_forget: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

/// The names of the activations of every direction, defaults filled in.
pub(crate) fn activation_names(op: &str, attrs: &Attrs, directions: usize) -> Result<Vec<String>, String> {
    let default: &[&str] = match op {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    match attrs.strs("activations")? {
        Some(v) if v.len() == default.len() * directions => Ok(v.iter().map(|n| canonical(n)).collect()),
        Some(v) => Err(format!("{} activations for {directions} direction(s)", v.len())),
        None => {
            Ok(default.iter().map(|s| (*s).to_owned()).cycle().take(default.len() * directions).collect())
        }
    }
}

/// The name of an activation as operators spell it: files do in any case.
fn canonical(name: &str) -> String {
    const NAMES: [&str; 11] = [
        "Affine",
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "ScaledTanh",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    ];
    NAMES.iter().find(|n| n.eq_ignore_ascii_case(name)).map_or(name, |n| n).to_owned()
}

pub(super) fn recurrent(c: &Call<'_>) -> Outputs {
    let a = &c.node.attrs;
    let kind = match c.node.op.as_str() {
        "LSTM" => Kind::Lstm,
        "GRU" => Kind::Gru,
        _ => Kind::Rnn,
    };
    let gates = match kind {
        Kind::Lstm => 4,
        Kind::Gru => 3,
        Kind::Rnn => 1,
    };
    let (x, w, r) = (c.input(0)?, c.input(1)?, c.input(2)?);
    if a.int_or("layout", 0)? != 0 {
        return batch_first(c);
    }
    if a.float("clip")?.is_some() {
        return Err(OpError::Unsupported("clipped gates".into()));
    }
    let [t, b, inputs] = x.shape[..] else { return Err(format!("operand of shape {:?}", x.shape).into()) };
    let [d, gh, wi] = w.shape[..] else { return Err(format!("weights of shape {:?}", w.shape).into()) };
    let hidden = gh / gates;
    let direction = a.str("direction")?.unwrap_or("forward").to_owned();
    let wanted = if direction == "bidirectional" { 2 } else { 1 };
    if gh % gates != 0 || wi != inputs || d != wanted || r.shape != [d, gh, hidden] || hidden == 0 {
        return Err(format!("weights {:?} and {:?} for operand {:?}", w.shape, r.shape, x.shape).into());
    }
    if let Some(h) = a.int("hidden_size")?
        && h != hidden as i64
    {
        return Err(format!("hidden_size {h} for weights {:?}", w.shape).into());
    }
    if let Some(lens) = c.opt(4)
        && lens.to_i64().iter().any(|&l| l != t as i64)
    {
        return Err(OpError::Unsupported("sequences shorter than the operand".into()));
    }
    let sized = |i: usize, n: usize| -> Result<Option<Vec<f64>>, OpError> {
        match c.opt(i) {
            Some(t) if t.len() == n => Ok(Some(t.to_f64())),
            Some(t) => Err(format!("operand {i} has {} values instead of {n}", t.len()).into()),
            None => Ok(None),
        }
    };
    // Steps and batch cost nothing where there are no inputs.
    checked_len(&[t, d, b, hidden])?;
    let bias = sized(3, d * 2 * gh)?;
    let h0 = sized(5, d * b * hidden)?.unwrap_or_else(|| vec![0.0; d * b * hidden]);
    let c0 = if kind == Kind::Lstm { sized(6, d * b * hidden)? } else { None };
    let c0 = c0.unwrap_or_else(|| vec![0.0; d * b * hidden]);
    let peephole = if kind == Kind::Lstm { sized(7, d * 3 * hidden)? } else { None };
    let names = activation_names(&c.node.op, a, d)?;
    let per = names.len() / d;
    let alphas = a.floats("activation_alpha")?.unwrap_or(&[]);
    let betas = a.floats("activation_beta")?.unwrap_or(&[]);
    let plain =
        names.iter().all(|n| matches!(n.as_str(), "Sigmoid" | "Tanh" | "Relu" | "Softsign" | "Softplus"));
    if !plain && (!alphas.is_empty() || !betas.is_empty()) {
        return Err(OpError::Unsupported("parameters of activations".into()));
    }
    let xv = x.to_f64();
    let (mut y, mut yh, mut yc) =
        (vec![0.0; t * d * b * hidden], vec![0.0; d * b * hidden], vec![0.0; d * b * hidden]);
    for dir in 0..d {
        let f = names[dir * per..(dir + 1) * per]
            .iter()
            .map(|n| {
                special::unary(n, &Attrs::default())?
                    .ok_or_else(|| OpError::Unsupported(format!("activation {n}")))
            })
            .collect::<Result<Vec<_>, OpError>>()?;
        let part = |v: &[f64], n: usize| v[dir * n..(dir + 1) * n].to_vec();
        let zeros = vec![0.0; 2 * gh];
        let bias = bias.as_ref().map_or(zeros, |v| part(v, 2 * gh));
        let cell = Cell {
            kind,
            hidden,
            inputs,
            w: part(&w.to_f64(), gh * inputs),
            r: part(&r.to_f64(), gh * hidden),
            wb: bias[..gh].to_vec(),
            rb: bias[gh..].to_vec(),
            peephole: peephole.as_ref().map(|p| part(p, 3 * hidden)),
            f,
            linear_before_reset: a.int_or("linear_before_reset", 0)? != 0,
            input_forget: a.int_or("input_forget", 0)? != 0,
        };
        let backwards = direction == "reverse" || dir == 1;
        for k in 0..b {
            let at = (dir * b + k) * hidden;
            let mut h = h0[at..at + hidden].to_vec();
            let mut s = c0[at..at + hidden].to_vec();
            for step in 0..t {
                let step = if backwards { t - 1 - step } else { step };
                (h, s) = cell.step(&xv[(step * b + k) * inputs..][..inputs], &h, &s);
                y[((step * d + dir) * b + k) * hidden..][..hidden].copy_from_slice(&h);
            }
            yh[at..at + hidden].copy_from_slice(&h);
            yc[at..at + hidden].copy_from_slice(&s);
        }
    }
    let make = |shape: Vec<usize>, v: Vec<f64>| -> Result<TensorF, OpError> {
        Ok(TensorF::float(shape, x.dtype, v.into_iter().map(|v| x.dtype.round(v)).collect())?)
    };
    let mut out = vec![Some(make(vec![t, d, b, hidden], y)?), Some(make(vec![d, b, hidden], yh)?)];
    if kind == Kind::Lstm {
        out.push(Some(make(vec![d, b, hidden], yc)?));
    }
    Ok(out)
}

/// Layout 1: operands and results have the batch in front, in place of the steps or the directions.
fn batch_first(c: &Call<'_>) -> Outputs {
    let mut node = c.node.clone();
    node.attrs.set("layout", crate::onnx::Attr::Int(0));
    let swap = |t: &TensorF| permute(t, &[1, 0, 2]);
    let mut own: Vec<Option<TensorF>> = Vec::with_capacity(c.inputs.len());
    for (i, t) in c.inputs.iter().enumerate() {
        own.push(match t {
            Some(t) if matches!(i, 0 | 5 | 6) => Some(swap(t)?),
            t => t.cloned(),
        });
    }
    let inputs: Vec<Option<&TensorF>> = own.iter().map(Option::as_ref).collect();
    let mut out = recurrent(&Call { node: &node, inputs: &inputs })?;
    for (i, t) in out.iter_mut().enumerate() {
        if let Some(v) = t {
            *v = if i == 0 { permute(v, &[2, 0, 1, 3])? } else { swap(v)? };
        }
    }
    Ok(out)
}

impl Cell {
    /// Row `gate · hidden + j` of the weights times the operand.
    fn w_dot(&self, gate: usize, j: usize, x: &[f64]) -> f64 {
        let row = gate * self.hidden + j;
        x.iter().zip(&self.w[row * self.inputs..]).map(|(a, b)| a * b).sum::<f64>() + self.wb[row]
    }

    fn r_dot(&self, gate: usize, j: usize, h: &[f64]) -> f64 {
        let row = gate * self.hidden + j;
        h.iter().zip(&self.r[row * self.hidden..]).map(|(a, b)| a * b).sum::<f64>()
    }

    fn step(&self, x: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = self.hidden;
        let pre = |g: usize, j: usize| self.w_dot(g, j, x) + self.r_dot(g, j, h) + self.rb[g * n + j];
        let peep = |k: usize, j: usize, c: f64| self.peephole.as_ref().map_or(0.0, |p| p[k * n + j] * c);
        let f = &self.f;
        match self.kind {
            Kind::Rnn => ((0..n).map(|j| f[0](pre(0, j))).collect(), c.to_vec()),
            Kind::Gru => {
                let z: Vec<f64> = (0..n).map(|j| f[0](pre(0, j))).collect();
                let r: Vec<f64> = (0..n).map(|j| f[0](pre(1, j))).collect();
                let rh: Vec<f64> = r.iter().zip(h).map(|(a, b)| a * b).collect();
                let out = (0..n).map(|j| {
                    let rb = self.rb[2 * n + j];
                    let hidden = if self.linear_before_reset {
                        r[j] * (self.r_dot(2, j, h) + rb)
                    } else {
                        self.r_dot(2, j, &rh) + rb
                    };
                    let candidate = f[1](self.w_dot(2, j, x) + hidden);
                    (1.0 - z[j]) * candidate + z[j] * h[j]
                });
                (out.collect(), c.to_vec())
            }
            Kind::Lstm => {
                // Gates in the order input, output, forget, cell.
                let (mut next_h, mut next_c) = (Vec::with_capacity(n), Vec::with_capacity(n));
                for (j, &c) in c.iter().enumerate().take(n) {
                    let i = f[0](pre(0, j) + peep(0, j, c));
                    let forget = if self.input_forget { 1.0 - i } else { f[0](pre(2, j) + peep(2, j, c)) };
                    let s = forget * c + i * f[1](pre(3, j));
                    let o = f[0](pre(1, j) + peep(1, j, s));
                    next_c.push(s);
                    next_h.push(o * f[2](s));
                }
                (next_h, next_c)
            }
        }
    }
}
