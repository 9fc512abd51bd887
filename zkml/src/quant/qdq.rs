//! Quantisation moved to where the integers are.
//!
//! Between DequantizeLinear and QuantizeLinear stand operators that only move elements or choose the greatest. Quantisation is monotone and works on
//! each element alone, so it may as well come before them: then they move integers, and what is left beside each other is a pair that changes
//! nothing, or a table of 256 entries.

use std::collections::HashMap;

use crate::onnx::{Attrs, Model, Node, Provenance, Value, ValueId};

/// The operands of an operator that moves them or chooses among them; `None` for others.
fn moved(n: &Node) -> Option<Vec<usize>> {
    match n.op.as_str() {
        "Concat" => Some((0..n.inputs.len()).collect()),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Slice" | "Expand" | "Tile"
        | "DepthToSpace" | "SpaceToDepth" | "Identity" | "Gather" => Some(vec![0]),
        "MaxPool" | "Split" if n.outputs.iter().flatten().count() == 1 => Some(vec![0]),
        _ => None,
    }
}

/// Whether a quantiser or dequantiser has one constant scale and one constant zero point.
fn is_plain(model: &Model, n: &Node) -> bool {
    let single =
        |k: usize| n.input(k).is_none_or(|v| model.value(v).constant.as_ref().is_some_and(|c| c.len() == 1));
    n.input(1).is_some() && single(1) && single(2)
}

/// Whether two of them use the same scale and zero point.
fn agree(model: &Model, a: &Node, b: &Node) -> bool {
    let number =
        |n: &Node, k: usize| n.input(k).and_then(|v| model.value(v).constant.as_ref()).map(|c| c.at(0));
    number(a, 1) == number(b, 1) && number(a, 2).unwrap_or(0.0) == number(b, 2).unwrap_or(0.0)
}

/// Moves quantisers before what only moves elements, and drops pairs that change nothing.
pub(super) fn simplify(model: &mut Model) {
    let mut reads: HashMap<ValueId, usize> = HashMap::new();
    for v in model.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&model.outputs) {
        *reads.entry(*v).or_default() += 1;
    }
    let mut producer: HashMap<ValueId, usize> = HashMap::new();
    for (i, n) in model.nodes.iter().enumerate() {
        producer.extend(n.outputs.iter().flatten().map(|&o| (o, i)));
    }
    // Quantisers that come before each node.
    let mut settled: Vec<Vec<Node>> = vec![Vec::new(); model.nodes.len()];
    for i in (0..model.nodes.len()).rev() {
        if model.nodes[i].op != "QuantizeLinear" || !is_plain(model, &model.nodes[i]) {
            continue;
        }
        let quantiser = model.nodes[i].clone();
        let (Some(x), Some(out)) = (quantiser.input(0), quantiser.output(0)) else { continue };
        if !from_integers(model, &producer, &reads, x) {
            continue;
        }
        let Some(&p) = producer.get(&x).filter(|&&p| moved(&model.nodes[p]).is_some()) else { continue };
        push_up(model, &producer, &mut settled, &quantiser, p, out);
        model.nodes[i].op = String::new();
    }
    let nodes = std::mem::take(&mut model.nodes);
    for (node, before) in nodes.into_iter().zip(settled) {
        model.nodes.extend(before);
        if !node.op.is_empty() {
            model.nodes.push(node);
        }
    }
    drop_pairs(model);
}

/// Whether a value is a dequantised tensor, or a movement of such that has one reader.
fn from_integers(
    model: &Model,
    producer: &HashMap<ValueId, usize>,
    reads: &HashMap<ValueId, usize>,
    x: ValueId,
) -> bool {
    let mut open = vec![x];
    while let Some(v) = open.pop() {
        let Some(&p) = producer.get(&v) else { return false };
        let n = &model.nodes[p];
        if n.op == "DequantizeLinear" {
            continue;
        }
        let (Some(list), Some(1)) = (moved(n), reads.get(&v)) else { return false };
        for k in list {
            let Some(v) = n.input(k) else { return false };
            open.push(v);
        }
    }
    true
}

/// Makes node `p` give `out`, the quantised form of its result, by quantising its operands.
fn push_up(
    model: &mut Model,
    producer: &HashMap<ValueId, usize>,
    settled: &mut [Vec<Node>],
    quantiser: &Node,
    p: usize,
    out: ValueId,
) {
    let mut open = vec![(p, out)];
    while let Some((p, out)) = open.pop() {
        let list = moved(&model.nodes[p]).unwrap_or_default();
        let dtype = model.value(out).dtype;
        for slot in &mut model.nodes[p].outputs {
            if slot.is_some() {
                *slot = Some(out);
            }
        }
        for k in list {
            let Some(x) = model.nodes[p].input(k) else { continue };
            let id = ValueId(model.values.len() as u32);
            let (name, shape) = (format!("{}/quantised", model.value(x).name), model.value(x).shape.clone());
            model.values.push(Value { name, shape, dtype, constant: None, origin: Provenance::default() });
            model.nodes[p].inputs[k] = Some(id);
            match producer.get(&x).copied().filter(|&q| moved(&model.nodes[q]).is_some()) {
                Some(q) => open.push((q, id)),
                None => {
                    let mut node = quantiser.clone();
                    node.inputs[0] = Some(x);
                    node.outputs = vec![Some(id)];
                    node.attrs = Attrs(node.attrs.0.into_iter().filter(|(k, _)| k != "axis").collect());
                    settled[p].push(node);
                }
            }
        }
    }
}

/// Replaces what is quantised as it was before by the integers that it was.
fn drop_pairs(model: &mut Model) {
    let mut producer: HashMap<ValueId, usize> = HashMap::new();
    let mut alias: HashMap<ValueId, ValueId> = HashMap::new();
    let mut gone = vec![false; model.nodes.len()];
    for (i, gone) in gone.iter_mut().enumerate() {
        for v in model.nodes[i].inputs.iter_mut().flatten() {
            if let Some(&a) = alias.get(v) {
                *v = a;
            }
        }
        let n = &model.nodes[i];
        let before = n.input(0).and_then(|x| producer.get(&x)).map(|&p| &model.nodes[p]);
        if let (Some(d), Some(out)) = (before, n.output(0))
            && n.op == "QuantizeLinear"
            && d.op == "DequantizeLinear"
            && is_plain(model, n)
            && is_plain(model, d)
            && agree(model, n, d)
            && let Some(q) = d.input(0)
            && model.value(q).dtype == model.value(out).dtype
            && !model.outputs.contains(&out)
        {
            alias.insert(out, q);
            *gone = true;
            continue;
        }
        producer.extend(model.nodes[i].outputs.iter().flatten().map(|&o| (o, i)));
    }
    let mut keep = gone.into_iter().map(|g| !g);
    model.nodes.retain(|_| keep.next().unwrap_or(true));
}
