//! Attention and rotary embeddings as the operators that they consist of.

use super::control::{Stop, Unroll};
use super::model::{Attr, ValueId};
use super::tensor::{DType, TensorF};

/// `[batch, heads, length, size]` of an operand that may have its heads side by side, and whether it had.
fn heads(u: &mut Unroll<'_, '_, '_>, x: ValueId, count: &str) -> Result<(ValueId, bool), Stop> {
    let (shape, _) = u.dims(x)?;
    match shape[..] {
        [_, _, _, _] => Ok((x, false)),
        [batch, length, width] => {
            let n = u.integer(count, 0)?;
            let n = usize::try_from(n).ok().filter(|&n| n > 0 && width % n == 0);
            let n = n.ok_or_else(|| u.wrong(format!("`{count}` does not divide the width {width}")))?;
            let x = u.reshape(x, &[batch, length, n, width / n])?;
            Ok((u.transpose(x, &[0, 2, 1, 3])?, true))
        }
        _ => Err(u.wrong(format!("an operand of shape {shape:?}, not of three or four dimensions"))),
    }
}

/// Softmax(q·kᵀ·scale + mask)·v, with the keys and values that come to be cached.
pub(super) fn attention(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let lengths = lengths(u)?;
    let told = u.integer("qk_matmul_output_mode", 0)?;
    let (q, k, v) = (u.operand(0)?, u.operand(1)?, u.operand(2)?);
    let (q, flat) = heads(u, q, "q_num_heads")?;
    let (mut k, _) = heads(u, k, "kv_num_heads")?;
    let (mut v, _) = heads(u, v, "kv_num_heads")?;
    let mut past = 0;
    if let (Some(pk), Some(pv)) = (u.node.input(4), u.node.input(5)) {
        past = u.dims(pk)?.0.get(2).copied().unwrap_or(0);
        k = u.concat(&[pk, k], 2)?;
        v = u.concat(&[pv, v], 2)?;
    }
    let present = (k, v);
    let ([batch, n, rows, size], [_, groups, columns, _]) = (four(u, q)?, four(u, k)?);
    if groups != n {
        if groups == 0 || n % groups != 0 {
            return Err(u.wrong(format!("{n} heads over {groups} heads of keys")));
        }
        let which: Vec<i64> = (0..n).map(|h| (h / (n / groups)) as i64).collect();
        let which = u.ints(which);
        k = u.emit("Gather", &[k, which], &[("axis", Attr::Int(1))], None)?;
        v = u.emit("Gather", &[v, which], &[("axis", Attr::Int(1))], None)?;
    }
    let scale = u.float("scale", 1.0 / (size.max(1) as f64).sqrt())?;
    let scale = u.number(scale)?;
    let q = u.op("Mul", &[q, scale])?;
    let k = u.transpose(k, &[0, 1, 3, 2])?;
    let mut scores = u.op("MatMul", &[q, k])?;
    // What the fourth output is: the products, after the cap, after the masks, after the softmax.
    let mut shown = scores;
    let cap = u.float("softcap", 0.0)?;
    if cap > 0.0 {
        let cap = u.number(cap)?;
        scores = u.op("Div", &[scores, cap])?;
        scores = u.op("Tanh", &[scores])?;
        scores = u.op("Mul", &[scores, cap])?;
    }
    if told == 1 {
        shown = scores;
    }
    let rule = Rule::new(u, lengths, past, rows, columns)?;
    let (visible, live) = seen(u, rule.as_ref(), columns)?;
    scores = visible.apply(u, scores)?;
    if told == 2 {
        shown = scores;
    }
    let mut weights = u.emit("Softmax", &[scores], &[("axis", Attr::Int(-1))], None)?;
    if let Some(live) = live {
        let nothing = u.number(0.0)?;
        weights = u.op("Where", &[live, weights, nothing])?;
    }
    if told == 3 {
        shown = weights;
    }
    let mut y = u.op("MatMul", &[weights, v])?;
    if flat {
        let width = four(u, y)?[3];
        y = u.transpose(y, &[0, 2, 1, 3])?;
        let width = n.checked_mul(width).ok_or_else(|| u.wrong("is too wide"))?;
        y = u.reshape(y, &[batch, rows, width])?;
    }
    Ok(vec![y, present.0, present.1, shown])
}

/// How many keys of each sample count, where the node says so.
fn lengths(u: &Unroll<'_, '_, '_>) -> Result<Option<Vec<i64>>, Stop> {
    let Some(v) = u.node.input(6) else { return Ok(None) };
    match u.known(v) {
        Some(t) => Ok(Some(t.to_i64())),
        None => Err(Stop::Refused("lengths of its keys depend on the inputs; give a mask".into())),
    }
}

/// Which keys a query sees by its position: causality, a window, the length of the sample.
struct Rule {
    /// Position of the first query among the keys, of each sample.
    offsets: Vec<i64>,
    lengths: Option<Vec<i64>>,
    causal: bool,
    window: (i64, i64),
    rows: usize,
    columns: usize,
}

impl Rule {
    /// The rule of a node; nothing where every query sees every key.
    fn new(
        u: &Unroll<'_, '_, '_>,
        lengths: Option<Vec<i64>>,
        past: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Option<Rule>, Stop> {
        let causal = u.integer("is_causal", 0)? != 0;
        let window = (u.integer("left_window_size", -1)?, u.integer("right_window_size", -1)?);
        if window.0 < -1 || window.1 < -1 {
            return Err(u.wrong("a window of negative size"));
        }
        if !causal && window == (-1, -1) && lengths.is_none() {
            return Ok(None);
        }
        // The queries are the last of the keys.
        let offsets = match &lengths {
            Some(list) => list.iter().map(|n| n.saturating_sub(rows as i64)).collect(),
            None => vec![past as i64],
        };
        Ok(Some(Rule { offsets, lengths, causal, window, rows, columns }))
    }

    fn holds(&self, sample: usize, i: i64, j: i64) -> bool {
        let at = self.offsets[sample].saturating_add(i);
        (!self.causal || j <= at)
            && (self.window.0 < 0 || at.saturating_sub(self.window.0) <= j)
            && (self.window.1 < 0 || j <= at.saturating_add(self.window.1))
            && self.lengths.as_ref().is_none_or(|n| j < n[sample])
    }

    /// The rule as booleans of shape `[samples, 1, rows, columns]`.
    fn table(&self, u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
        let samples = self.offsets.len();
        let n = samples.saturating_mul(self.rows).saturating_mul(self.columns);
        u.b.count(n, &u.node.name.clone())?;
        let mut keep = Vec::with_capacity(n);
        for sample in 0..samples {
            for i in 0..self.rows as i64 {
                keep.extend((0..self.columns as i64).map(|j| i64::from(self.holds(sample, i, j))));
            }
        }
        let keep = TensorF::int(vec![samples, 1, self.rows, self.columns], DType::Bool, keep);
        let keep = keep.map_err(|e| u.wrong(e.to_string()))?;
        Ok(u.structure(keep))
    }
}

/// What of the scores a query sees: a mask of booleans, and numbers that are added before it.
struct Visible {
    added: Option<ValueId>,
    kept: Option<ValueId>,
}

impl Visible {
    /// Scores with the mask added, and −∞ where it does not hold.
    fn apply(&self, u: &mut Unroll<'_, '_, '_>, mut scores: ValueId) -> Result<ValueId, Stop> {
        if let Some(mask) = self.added {
            scores = u.op("Add", &[scores, mask])?;
        }
        let Some(kept) = self.kept else { return Ok(scores) };
        let nothing = u.number(f64::NEG_INFINITY)?;
        u.op("Where", &[kept, scores, nothing])
    }
}

/// The masks of a node, and which queries see a key at all where some may not: their weights are zero.
fn seen(
    u: &mut Unroll<'_, '_, '_>,
    rule: Option<&Rule>,
    columns: usize,
) -> Result<(Visible, Option<ValueId>), Stop> {
    let table = match rule {
        Some(rule) => Some(rule.table(u)?),
        None => None,
    };
    let mask = match u.node.input(3) {
        Some(mask) => Some(widened(u, mask, columns)?),
        None => None,
    };
    let boolean = match mask {
        Some(m) => u.dims(m)?.1 == DType::Bool,
        None => false,
    };
    let mut visible = match (mask, table) {
        (Some(m), Some(t)) if boolean => Visible { added: None, kept: Some(u.op("And", &[m, t])?) },
        (Some(m), None) if boolean => Visible { added: None, kept: Some(m) },
        (m, t) => Visible { added: m, kept: t },
    };
    // No number of a circuit is −∞, so that of masks of numbers only constants hide keys.
    let hides = match visible.added.filter(|&m| u.known(m).is_some()) {
        Some(m) => {
            let nothing = u.number(f64::NEG_INFINITY)?;
            Some(u.op("Greater", &[m, nothing])?)
        }
        None => None,
    };
    let all = match (hides, visible.kept) {
        (Some(a), Some(b)) => u.op("And", &[a, b])?,
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return Ok((visible, None)),
    };
    let number = u.emit("Cast", &[all], &[("to", Attr::Int(1))], None)?;
    let last = u.ints(vec![-1]);
    let any = u.emit("ReduceMax", &[number, last], &[("keepdims", Attr::Int(1))], None)?;
    let live = u.emit("Cast", &[any], &[("to", Attr::Int(9))], None)?;
    if u.known(live).is_some_and(|t| (0..t.len()).all(|i| t.at(i) != 0.0)) {
        return Ok((visible, None));
    }
    // A query that sees nothing is given everything, and its weights are taken away after the softmax.
    let blind = u.op("Not", &[live])?;
    if let Some(m) = visible.added {
        let nothing = u.number(0.0)?;
        visible.added = Some(u.op("Where", &[live, m, nothing])?);
    }
    if let Some(kept) = visible.kept {
        visible.kept = Some(u.op("Or", &[kept, blind])?);
    }
    Ok((visible, Some(live)))
}

fn four(u: &Unroll<'_, '_, '_>, v: ValueId) -> Result<[usize; 4], Stop> {
    let (shape, _) = u.dims(v)?;
    shape[..].try_into().map_err(|_| u.wrong(format!("an operand of shape {shape:?}")))
}

/// A mask with a column for every key: those past its end are masked.
fn widened(u: &mut Unroll<'_, '_, '_>, mask: ValueId, columns: usize) -> Result<ValueId, Stop> {
    let (mut shape, dtype) = u.dims(mask)?;
    let Some(last) = shape.last_mut().filter(|n| **n != 1 && **n < columns) else { return Ok(mask) };
    *last = columns - *last;
    let n = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
    u.b.count(n, &u.node.name.clone())?;
    let rest = if dtype.is_float() {
        TensorF::float(shape, dtype, vec![f64::NEG_INFINITY; n])
    } else {
        TensorF::int(shape, dtype, vec![0; n])
    };
    let rest = rest.map_err(|e| u.wrong(e.to_string()))?;
    let rest = u.structure(rest);
    u.concat(&[mask, rest], -1)
}

/// Pairs of elements turned by an angle per position.
pub(super) fn rotary(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let x = u.operand(0)?;
    let (original, _) = u.dims(x)?;
    let (x, flat) = heads(u, x, "num_heads")?;
    let [_, _, _, size] = four(u, x)?;
    let turned = usize::try_from(u.integer("rotary_embedding_dim", 0)?).ok();
    let turned = turned.map(|d| if d == 0 { size } else { d }).filter(|&d| d <= size && d % 2 == 0);
    let turned = turned.ok_or_else(|| u.wrong(format!("turns an odd number of the {size} elements")))?;
    let mut angles = Vec::new();
    for i in [1, 2] {
        let mut c = u.operand(i)?;
        if let Some(positions) = u.node.input(3) {
            c = u.emit("Gather", &[c, positions], &[("axis", Attr::Int(0))], None)?;
        }
        // The same for every head.
        let axes = u.ints(vec![1]);
        angles.push(u.op("Unsqueeze", &[c, axes])?);
    }
    let interleaved = u.integer("interleaved", 0)? != 0;
    let half = turned / 2;
    let at = |k: usize, second: usize| if interleaved { 2 * k + second } else { k + second * half };
    let pick = |second: usize| (0..half).map(|k| at(k, second) as i64).collect::<Vec<_>>();
    let (first, second) = (u.ints(pick(0)), u.ints(pick(1)));
    let last = [("axis", Attr::Int(-1))];
    let a = u.emit("Gather", &[x, first], &last, None)?;
    let b = u.emit("Gather", &[x, second], &last, None)?;
    let mut products = Vec::new();
    for (v, c) in [(a, angles[0]), (b, angles[1]), (a, angles[1]), (b, angles[0])] {
        products.push(u.op("Mul", &[v, c])?);
    }
    let real = u.op("Sub", &[products[0], products[1]])?;
    let imaginary = u.op("Add", &[products[2], products[3]])?;
    let mut parts = vec![real, imaginary];
    if turned < size {
        let rest = u.ints((turned..size).map(|k| k as i64).collect());
        parts.push(u.emit("Gather", &[x, rest], &last, None)?);
    }
    let mut y = u.concat(&parts, -1)?;
    if interleaved {
        let back = (0..turned).map(|i| (i / 2 + i % 2 * half) as i64).chain((turned..size).map(|i| i as i64));
        let back = u.ints(back.collect());
        y = u.emit("Gather", &[y, back], &last, None)?;
    }
    if flat {
        y = u.transpose(y, &[0, 2, 1, 3])?;
        y = u.reshape(y, &original)?;
    }
    Ok(y)
}
