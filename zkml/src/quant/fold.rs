//! Scales and offsets moved into the weights beside them, in float.
//!
//! What follows a convolution or a matrix product and has one value per channel changes its weights and bias; what stands before a matrix product and
//! has one value per column changes its rows. Neither costs a cell.

use std::collections::HashMap;
use std::sync::Arc;

use crate::onnx::{Attrs, Model, Node, Provenance, TensorF, Value, ValueId};

/// Moves constant factors and offsets per channel into the weights before them, in float.
pub(super) fn backward(model: &mut Model) {
    let mut reads: HashMap<ValueId, usize> = HashMap::new();
    for v in model.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&model.outputs) {
        *reads.entry(*v).or_default() += 1;
    }
    let mut producer: HashMap<ValueId, usize> = HashMap::new();
    let mut gone = vec![false; model.nodes.len()];
    for (i, gone) in gone.iter_mut().enumerate() {
        let n = &model.nodes[i];
        if let Some((p, constant)) = foldable(model, n, &producer, &reads)
            && apply(model, p, i, &constant).is_some()
        {
            *gone = true;
            let out = model.nodes[i].output(0);
            model.nodes[p].outputs[0] = out;
            if let Some(out) = out {
                producer.insert(out, p);
            }
            continue;
        }
        for o in model.nodes[i].outputs.iter().flatten() {
            producer.insert(*o, i);
        }
    }
    let mut keep = gone.iter().map(|g| !g);
    model.nodes.retain(|_| keep.next().unwrap_or(true));
}

/// The linear node before `n` and the constant operand of `n`, where `n` may move into it.
fn foldable(
    model: &Model,
    n: &Node,
    producer: &HashMap<ValueId, usize>,
    reads: &HashMap<ValueId, usize>,
) -> Option<(usize, Arc<TensorF>)> {
    if !matches!(n.op.as_str(), "Mul" | "Add") {
        return None;
    }
    let (a, b) = (n.input(0)?, n.input(1)?);
    let (x, c) = match (&model.value(a).constant, &model.value(b).constant) {
        (None, Some(c)) => (a, c.clone()),
        (Some(c), None) => (b, c.clone()),
        _ => return None,
    };
    let p = *producer.get(&x)?;
    let node = &model.nodes[p];
    let alone = reads.get(&x) == Some(&1);
    let weights = node.input(1).is_some_and(|w| model.value(w).constant.is_some());
    let bias = node.input(2).is_none_or(|b| model.value(b).constant.is_some());
    let bias_fits = |b: ValueId| {
        let c = model.value(b);
        node.op != "Gemm" || c.shape.last() == c.constant.as_ref().map(|t| t.len()).as_ref()
    };
    let kind = match node.op.as_str() {
        "Conv" | "ConvTranspose" => true,
        "Gemm" => node.attrs.float_or("beta", 1.0) == Ok(1.0) && node.input(2).is_none_or(bias_fits),
        _ => false,
    };
    (alone && weights && bias && kind && model.value(x).shape == model.value(n.output(0)?).shape)
        .then_some((p, c))
}

/// Applies `·c` or `+c` of node `i` to the weights and bias of node `p`; `None` where `c` is not one value per channel.
fn apply(model: &mut Model, p: usize, i: usize, c: &TensorF) -> Option<()> {
    let out = model.value(model.nodes[p].output(0)?).shape.clone();
    let channels = *out.get(1)?;
    let mut per = vec![1; out.len()];
    per[1] = channels;
    let c = c.broadcast_to(&per).ok()?;
    let weights = model.value(model.nodes[p].input(1)?).constant.clone()?;
    if weights.is_empty() {
        return None;
    }
    let bias = match model.nodes[p].input(2) {
        Some(b) => model.value(b).constant.clone()?.to_f64(),
        None => vec![0.0; channels],
    };
    if bias.len() != channels {
        return None;
    }
    let is_mul = model.nodes[i].op == "Mul";
    let add = |model: &mut Model, t: TensorF| {
        let id = ValueId(model.values.len() as u32);
        let name = format!("{}/folded{}", model.nodes[p].name, id.0);
        model.values.push(Value {
            name,
            shape: t.shape.clone(),
            dtype: t.dtype,
            constant: Some(Arc::new(t)),
            origin: Provenance::default(),
        });
        id
    };
    if is_mul {
        // Output channels are the first axis of a kernel, the second (per group) of a transposed one.
        let transposed = model.nodes[p].op == "ConvTranspose";
        let columns = model.nodes[p].op == "Gemm" && model.nodes[p].attrs.int_or("transB", 0) == Ok(0);
        let inner: usize = weights.shape[2..].iter().product();
        let groups = if transposed { channels / weights.shape[1] } else { 1 };
        let per_group_in = weights.shape[0] / groups.max(1);
        let w: Vec<f64> = weights
            .to_f64()
            .into_iter()
            .enumerate()
            .map(|(k, v)| {
                let o = if columns {
                    k % channels
                } else if transposed {
                    let (row, col) = (k / inner / weights.shape[1], k / inner % weights.shape[1]);
                    row / per_group_in * weights.shape[1] + col
                } else {
                    k / (inner * weights.shape[1])
                };
                v * c.at(o)
            })
            .collect();
        let w = TensorF::float(weights.shape.clone(), weights.dtype, w).ok()?;
        let w = add(model, w);
        model.nodes[p].inputs[1] = Some(w);
    }
    let b = bias.iter().enumerate().map(|(o, &b)| if is_mul { b * c.at(o) } else { b + c.at(o) }).collect();
    let b = TensorF::float(vec![channels], weights.dtype, b).ok()?;
    let b = add(model, b);
    model.nodes[p].inputs.resize(2, None);
    model.nodes[p].inputs.push(Some(b));
    Some(())
}

/// Moves constant factors and offsets along the last axis into the matrix products after them, in float: (x·c + d)·W = x·(diag(c)·W) + d·W.
pub(super) fn forward(model: &mut Model) {
    let mut i = 0;
    while i < model.nodes.len() {
        if forward_one(model, i).is_some() {
            model.nodes.remove(i);
        } else {
            i += 1;
        }
    }
}

/// Applies node `i`, if it is a factor or an offset that only matrix products read, to their weights.
fn forward_one(model: &mut Model, i: usize) -> Option<()> {
    let n = &model.nodes[i];
    if !matches!(n.op.as_str(), "Mul" | "Add") {
        return None;
    }
    let is_mul = n.op == "Mul";
    let (a, b) = (n.input(0)?, n.input(1)?);
    let (x, c) = match (&model.value(a).constant, &model.value(b).constant) {
        (None, Some(c)) => (a, c.clone()),
        (Some(c), None) => (b, c.clone()),
        _ => return None,
    };
    let out = n.output(0)?;
    let shape = model.value(out).shape.clone();
    let width = *shape.last()?;
    let float = model.value(out).dtype.is_float();
    if !float
        || c.len() != width
        || c.shape.last() != Some(&width)
        || model.value(x).shape != shape
        || width == 1
    {
        return None;
    }
    if model.outputs.contains(&out) {
        return None;
    }
    let readers: Vec<usize> = (0..model.nodes.len())
        .filter(|&k| model.nodes[k].inputs.iter().flatten().any(|v| *v == out))
        .collect();
    // An offset before several products would be several offsets after them; a factor costs nothing in any number.
    let fits = |k: usize| {
        let m = &model.nodes[k];
        let weights = m.input(1).map(|w| model.value(w));
        m.op == "MatMul"
            && m.input(0) == Some(out)
            && weights.is_some_and(|w| w.constant.is_some() && w.shape.len() == 2)
    };
    if readers.is_empty() || !readers.iter().all(|&k| fits(k)) {
        return None;
    }
    let add = |model: &mut Model, name: &str, t: TensorF, constant: bool| {
        let id = ValueId(model.values.len() as u32);
        let name = format!("{name}/folded{}", id.0);
        let (shape, dtype) = (t.shape.clone(), t.dtype);
        let constant = constant.then(|| Arc::new(t));
        model.values.push(Value { name, shape, dtype, constant, origin: Provenance::default() });
        id
    };
    // From the last: an offset adds a node after its product.
    for &k in readers.iter().rev() {
        let w = model.nodes[k].input(1).and_then(|w| model.value(w).constant.clone())?;
        let cols = w.shape[1];
        let name = model.nodes[k].name.clone();
        model.nodes[k].inputs[0] = Some(x);
        if is_mul {
            let scaled = (0..w.len()).map(|e| w.at(e) * c.at(e / cols)).collect();
            let scaled = TensorF::float(w.shape.clone(), w.dtype, scaled).ok()?;
            let id = add(model, &name, scaled, true);
            model.nodes[k].inputs[1] = Some(id);
        } else {
            let bias = (0..cols).map(|j| (0..width).map(|r| c.at(r) * w.at(r * cols + j)).sum()).collect();
            let bias = TensorF::float(vec![cols], w.dtype, bias).ok()?;
            let bias = add(model, &name, bias, true);
            let old = model.nodes[k].output(0)?;
            let like = model.value(old).clone();
            let zeros = TensorF::zeros(like.shape, like.dtype).ok()?;
            let product = add(model, &name, zeros, false);
            model.nodes[k].outputs[0] = Some(product);
            let mut sum = model.nodes[k].clone();
            sum.op = "Add".into();
            sum.attrs = Attrs::default();
            sum.inputs = vec![Some(product), Some(bias)];
            sum.outputs = vec![Some(old)];
            model.nodes.insert(k + 1, sum);
        }
    }
    Some(())
}
