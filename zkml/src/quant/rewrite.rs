//! Rewrites on the float graph before anything is rounded.
//!
//! Operators that are compositions become the operators they are made of, so that calibration sees every intermediate value and lowering knows
//! few operators. Recurrent layers unroll over the same weight tensors.

use std::collections::HashMap;
use std::sync::Arc;

use crate::float::{self, OpError};
use crate::onnx::{Attr, Attrs, DType, Model, Node, Provenance, TensorF, Value, ValueId, checked_len};

use super::error::QuantError;
use super::{fold, qdq, recurrent, scatter};

/// A graph that grows.
pub(super) struct Graph {
    pub model: Model,
    nodes: Vec<Node>,
    layer: String,
    /// Constants that have been made before, so that unrolled steps share their weights.
    known_ints: HashMap<Vec<i64>, ValueId>,
    known_nodes: HashMap<(String, Vec<ValueId>, String), Vec<ValueId>>,
}

impl Graph {
    pub(super) fn fail(&self, reason: impl Into<String>) -> QuantError {
        QuantError::Layer { layer: self.layer.clone(), reason: reason.into() }
    }

    pub(super) fn shape(&self, v: ValueId) -> Vec<usize> {
        self.model.value(v).shape.clone()
    }

    /// A constant that the architecture alone says.
    pub(super) fn constant(&mut self, t: TensorF) -> ValueId {
        let id = ValueId(self.model.values.len() as u32);
        let name = format!("{}/const{}", self.layer, id.0);
        self.model.values.push(Value {
            name,
            shape: t.shape.clone(),
            dtype: t.dtype,
            constant: Some(Arc::new(t)),
            origin: Provenance { structural: true, integers: None },
        });
        id
    }

    pub(super) fn scalar(&mut self, like: ValueId, v: f64) -> ValueId {
        let dtype = self.model.value(like).dtype;
        let data = crate::onnx::Data::F(vec![v]);
        self.constant(TensorF { shape: vec![], dtype, data })
    }

    pub(super) fn ints(&mut self, v: &[i64]) -> ValueId {
        if let Some(&id) = self.known_ints.get(v) {
            return id;
        }
        let id = self.constant(TensorF::ints(v.to_vec()));
        self.known_ints.insert(v.to_vec(), id);
        id
    }

    /// Adds a node; the outputs get shapes, and values where all operands are constant.
    pub(super) fn node(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attrs: &[(&str, Attr)],
        outputs: usize,
    ) -> Result<Vec<ValueId>, QuantError> {
        let mut a = Attrs::default();
        attrs.iter().for_each(|(k, v)| a.set(k, v.clone()));
        let constant = inputs.iter().all(|&v| self.model.value(v).constant.is_some());
        let key = (op.to_owned(), inputs.to_vec(), format!("{attrs:?}"));
        if let Some(ids) = self.known_nodes.get(&key).filter(|_| constant) {
            return Ok(ids.clone());
        }
        let base = self.model.values.len() as u32;
        let ids: Vec<ValueId> = (0..outputs as u32).map(|i| ValueId(base + i)).collect();
        let node = Node {
            name: self.layer.clone(),
            op: op.to_owned(),
            domain: String::new(),
            version: 18,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: ids.iter().copied().map(Some).collect(),
            attrs: a,
        };
        let operands = inputs
            .iter()
            .map(|&v| {
                let v = self.model.value(v);
                match &v.constant {
                    Some(c) => Ok(c.clone()),
                    None => TensorF::zeros(v.shape.clone(), v.dtype).map(Arc::new),
                }
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| self.fail(e.to_string()))?;
        let structural = constant && inputs.iter().all(|&v| self.model.value(v).origin.structural);
        let refs: Vec<Option<&TensorF>> = operands.iter().map(|t| Some(t.as_ref())).collect();
        let results = float::eval(&node, &refs).map_err(|e| {
            let (OpError::Invalid(s) | OpError::Unsupported(s)) = e;
            self.fail(format!("{op}: {s}"))
        })?;
        for (k, t) in results.into_iter().take(outputs).enumerate() {
            let t = t.ok_or_else(|| self.fail(format!("{op} has no output {k}")))?;
            self.model.values.push(Value {
                name: format!("{}/{op}{}", self.layer, base + k as u32),
                shape: t.shape.clone(),
                dtype: t.dtype,
                constant: constant.then(|| Arc::new(t)),
                origin: Provenance { structural, integers: None },
            });
        }
        if constant {
            self.known_nodes.insert(key, ids.clone());
        } else {
            self.nodes.push(node);
        }
        Ok(ids)
    }

    /// A node with one output.
    pub(super) fn one(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attrs: &[(&str, Attr)],
    ) -> Result<ValueId, QuantError> {
        Ok(self.node(op, inputs, attrs, 1)?[0])
    }

    /// A reduction that keeps its axes.
    pub(super) fn reduce(
        &mut self,
        op: &str,
        x: ValueId,
        axes: &[usize],
        keep: bool,
    ) -> Result<ValueId, QuantError> {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let axes = self.ints(&axes);
        self.one(op, &[x, axes], &[("keepdims", Attr::Int(keep.into()))])
    }

    pub(super) fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, QuantError> {
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let dims = self.ints(&dims);
        self.one("Reshape", &[x, dims], &[("allowzero", Attr::Int(1))])
    }
}

/// Rewrites a model until only operators that lowering knows are left.
pub(super) fn rewrite(model: &Model) -> Result<Model, QuantError> {
    let mut g = Graph {
        model: model.clone(),
        nodes: Vec::new(),
        layer: String::new(),
        known_ints: HashMap::new(),
        known_nodes: HashMap::new(),
    };
    qdq::simplify(&mut g.model);
    steady(&mut g.model);
    // Values from here on are made by rewrites; those before have the file's names.
    let own = g.model.values.len();
    let mut named = std::collections::HashSet::new();
    let mut alias: HashMap<ValueId, ValueId> = HashMap::new();
    for mut node in std::mem::take(&mut g.model.nodes) {
        for v in node.inputs.iter_mut().flatten() {
            if let Some(&a) = alias.get(v) {
                *v = a;
            }
        }
        g.layer = node.name.clone();
        match expand(&mut g, &node)? {
            None => g.nodes.push(node),
            Some(results) => {
                for (old, new) in node.outputs.iter().zip(results) {
                    let (Some(old), Some(new)) = (old, new) else { continue };
                    // The value keeps the name that the file gives it first.
                    if new.index() >= own && named.insert(new) {
                        g.model.values[new.index()].name = g.model.value(*old).name.clone();
                    }
                    alias.insert(*old, new);
                }
            }
        }
    }
    for o in &mut g.model.outputs {
        if let Some(&a) = alias.get(o) {
            *o = a;
        }
    }
    g.model.nodes = g.nodes;
    fold::backward(&mut g.model);
    fold::forward(&mut g.model);
    Ok(g.model)
}

/// Makes Log(ReduceSum(Exp(x))) the operator that it is, which takes the greatest element off before it exponentiates.
fn steady(model: &mut Model) {
    let mut reads: HashMap<ValueId, usize> = HashMap::new();
    for v in model.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&model.outputs) {
        *reads.entry(*v).or_default() += 1;
    }
    let mut producer: HashMap<ValueId, usize> = HashMap::new();
    for i in 0..model.nodes.len() {
        let before = |n: &Node, op: &str| {
            let v = n.input(0).filter(|v| reads.get(v) == Some(&1))?;
            producer.get(&v).copied().filter(|&p: &usize| model.nodes[p].op == op)
        };
        let n = &model.nodes[i];
        let sum = if n.op == "Log" { before(n, "ReduceSum") } else { None };
        let exp = sum.and_then(|s| before(&model.nodes[s], "Exp"));
        if let (Some(sum), Some(exp)) = (sum, exp) {
            let x = model.nodes[exp].inputs.first().copied().flatten();
            let n = &mut model.nodes[sum];
            n.op = "ReduceLogSumExp".into();
            n.version = n.version.max(18);
            n.inputs[0] = x;
            model.nodes[i].op = "Identity".into();
            model.nodes[exp].op = String::new();
        }
        producer.extend(model.nodes[i].outputs.iter().flatten().map(|&o| (o, i)));
    }
    model.nodes.retain(|n| !n.op.is_empty());
}

/// The results that replace those of a node, or `None` where the node stays.
fn expand(g: &mut Graph, n: &Node) -> Result<Option<Vec<Option<ValueId>>>, QuantError> {
    let need = |i: usize| {
        n.input(i).ok_or_else(|| QuantError::Layer {
            layer: n.name.clone(),
            reason: format!("operand {i} is missing"),
        })
    };
    let wrong = |reason: String| QuantError::Layer { layer: n.name.clone(), reason };
    let a = &n.attrs;
    let r = match n.op.as_str() {
        "Identity" => need(0)?,
        "Dropout" => {
            let x = need(0)?;
            let shape = g.shape(x);
            let ones = vec![1; shape.iter().product()];
            let mask = TensorF::int(shape, DType::Bool, ones).map_err(|e| wrong(e.to_string()))?;
            let mask = g.constant(mask);
            return Ok(Some(vec![Some(x), Some(mask)]));
        }
        // Calibration refuses samples that lead to such values.
        "IsNaN" => {
            let shape = g.shape(need(0)?);
            let none = vec![0; shape.iter().product()];
            let none = TensorF::int(shape, DType::Bool, none).map_err(|e| wrong(e.to_string()))?;
            g.constant(none)
        }
        "LSTM" | "GRU" | "RNN" => return recurrent::unroll(g, n).map(Some),
        "LayerNormalization" | "RMSNormalization" => {
            let x = need(0)?;
            let rank = g.shape(x).len();
            let axis = float::normal_axis(a.int_or("axis", -1).map_err(wrong)?, rank).map_err(wrong)?;
            let axes: Vec<usize> = (axis..rank).collect();
            let eps = a.float_or("epsilon", 1e-5).map_err(wrong)?;
            let s = standardise(g, x, &axes, eps, n.op == "LayerNormalization")?;
            let mut y = g.one("Mul", &[s.result, need(1)?], &[])?;
            if let Some(b) = n.input(2) {
                y = g.one("Add", &[y, b], &[])?;
            }
            let mut results = vec![Some(y), s.mean];
            if n.output(2).is_some() {
                results.push(Some(g.one("Reciprocal", &[s.deviation], &[])?));
            }
            return Ok(Some(results));
        }
        "MeanVarianceNormalization" => {
            let x = need(0)?;
            let axes = a.ints("axes").map_err(wrong)?.unwrap_or(&[0, 2, 3]).to_vec();
            let rank = g.shape(x).len();
            let axes = axes
                .iter()
                .map(|&v| float::normal_axis(v, rank))
                .collect::<Result<Vec<_>, _>>()
                .map_err(wrong)?;
            standardise(g, x, &axes, 1e-9, true)?.result
        }
        "InstanceNormalization" | "GroupNormalization" => {
            let x = need(0)?;
            let shape = g.shape(x);
            let eps = a.float_or("epsilon", 1e-5).map_err(wrong)?;
            let channels = shape[1];
            let groups = if n.op == "InstanceNormalization" {
                channels
            } else {
                a.int_or("num_groups", 1).map_err(wrong)?.max(1) as usize
            };
            let split: Vec<usize> = [shape[0], groups, channels / groups.max(1)]
                .into_iter()
                .chain(shape[2..].iter().copied())
                .collect();
            let axes: Vec<usize> = (2..split.len()).collect();
            let y = g.reshape(x, &split)?;
            let y = standardise(g, y, &axes, eps, true)?.result;
            let y = g.reshape(y, &shape)?;
            let scale = per_channel(g, need(1)?, &shape, groups)?;
            let bias = per_channel(g, need(2)?, &shape, groups)?;
            let y = g.one("Mul", &[y, scale], &[])?;
            g.one("Add", &[y, bias], &[])?
        }
        "BatchNormalization" => {
            let x = need(0)?;
            let shape = g.shape(x);
            let eps = a.float_or("epsilon", 1e-5).map_err(wrong)?;
            let (scale, bias, mean, var) = (need(1)?, need(2)?, need(3)?, need(4)?);
            let e = g.scalar(x, eps);
            let var = g.one("Add", &[var, e], &[])?;
            let std = g.one("Sqrt", &[var], &[])?;
            let factor = g.one("Div", &[scale, std], &[])?;
            let shift = g.one("Mul", &[mean, factor], &[])?;
            let shift = g.one("Sub", &[bias, shift], &[])?;
            let factor = per_channel(g, factor, &shape, shape.get(1).copied().unwrap_or(1))?;
            let shift = per_channel(g, shift, &shape, shape.get(1).copied().unwrap_or(1))?;
            let y = g.one("Mul", &[x, factor], &[])?;
            g.one("Add", &[y, shift], &[])?
        }
        "LogSoftmax" => {
            let x = need(0)?;
            let rank = g.shape(x).len();
            let old = n.version < 13;
            let axis = a.int_or("axis", if old { 1 } else { -1 }).map_err(wrong)?;
            let axis = float::normal_axis(axis, rank).map_err(wrong)?;
            let axes: Vec<usize> = if old { (axis..rank).collect() } else { vec![axis] };
            let m = g.reduce("ReduceMax", x, &axes, true)?;
            let d = g.one("Sub", &[x, m], &[])?;
            let s = log_sum_exp(g, d, &axes)?;
            g.one("Sub", &[d, s], &[])?
        }
        "HardSigmoid" => {
            let x = need(0)?;
            let alpha = g.scalar(x, a.float_or("alpha", 0.2).map_err(wrong)?);
            let beta = g.scalar(x, a.float_or("beta", 0.5).map_err(wrong)?);
            let y = g.one("Mul", &[x, alpha], &[])?;
            let y = g.one("Add", &[y, beta], &[])?;
            let (zero, one) = (g.scalar(x, 0.0), g.scalar(x, 1.0));
            g.one("Clip", &[y, zero, one], &[])?
        }
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let x = need(0)?;
            let axes: Vec<usize> = (2..g.shape(x).len()).collect();
            let op = if n.op == "GlobalMaxPool" { "ReduceMax" } else { "ReduceMean" };
            g.reduce(op, x, &axes, true)?
        }
        "ReduceL1" | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => {
            let x = need(0)?;
            let rank = g.shape(x).len();
            let keep = a.int_or("keepdims", 1).map_err(wrong)? != 0;
            let axes = reduction_axes(g, n, rank)?;
            match n.op.as_str() {
                "ReduceL1" => {
                    let y = g.one("Abs", &[x], &[])?;
                    g.reduce("ReduceSum", y, &axes, keep)?
                }
                "ReduceLogSum" => {
                    let y = g.reduce("ReduceSum", x, &axes, keep)?;
                    g.one("Log", &[y], &[])?
                }
                "ReduceLogSumExp" => {
                    let m = g.reduce("ReduceMax", x, &axes, true)?;
                    let d = g.one("Sub", &[x, m], &[])?;
                    let s = log_sum_exp(g, d, &axes)?;
                    let y = g.one("Add", &[s, m], &[])?;
                    let out = n.output(0).map(|o| g.shape(o)).unwrap_or_default();
                    g.reshape(y, &out)?
                }
                op => {
                    let y = g.one("Mul", &[x, x], &[])?;
                    let y = g.reduce("ReduceSum", y, &axes, keep)?;
                    if op == "ReduceL2" { g.one("Sqrt", &[y], &[])? } else { y }
                }
            }
        }
        "ReduceMean" if n.input(0).is_some_and(|x| !g.model.value(x).dtype.is_float()) => {
            let x = need(0)?;
            let (shape, dtype) = (g.shape(x), g.model.value(x).dtype);
            let axes = reduction_axes(g, n, shape.len())?;
            let keep = a.int_or("keepdims", 1).map_err(wrong)? != 0;
            let count: usize = axes.iter().map(|&a| shape[a]).product();
            let sum = g.reduce("ReduceSum", x, &axes, keep)?;
            let count = TensorF::int(vec![], dtype, vec![count as i64]).map_err(|e| wrong(e.to_string()))?;
            let count = g.constant(count);
            g.one("Div", &[sum, count], &[])?
        }
        "ReduceProd" => {
            let x = need(0)?;
            let shape = g.shape(x);
            let axes = reduction_axes(g, n, shape.len())?;
            let mut y = x;
            if let Some(&axis) = axes.iter().find(|&&axis| shape[axis] == 0) {
                return Err(wrong(format!("axis {axis} has no elements")));
            }
            for &axis in &axes {
                let parts = vec![1i64; shape[axis]];
                let sizes = g.ints(&parts);
                let parts = g.node("Split", &[y, sizes], &[("axis", Attr::Int(axis as i64))], parts.len())?;
                y = parts[0];
                for &p in &parts[1..] {
                    y = g.one("Mul", &[y, p], &[])?;
                }
            }
            let out = n.output(0).map(|o| g.shape(o)).unwrap_or_default();
            g.reshape(y, &out)?
        }
        "Sum" | "Mean" | "Max" | "Min" => {
            let op = if matches!(n.op.as_str(), "Sum" | "Mean") { "Add" } else { n.op.as_str() };
            if n.inputs.len() == 2 && op == n.op {
                return Ok(None);
            }
            let mut y = need(0)?;
            for i in 1..n.inputs.len() {
                y = g.one(op, &[y, need(i)?], &[])?;
            }
            if n.op == "Mean" {
                let c = g.scalar(y, 1.0 / n.inputs.len() as f64);
                y = g.one("Mul", &[y, c], &[])?;
            }
            y
        }
        "Clip" => {
            let dynamic = |i: usize| n.input(i).is_some_and(|v| g.model.value(v).constant.is_none());
            if !dynamic(1) && !dynamic(2) {
                return Ok(None);
            }
            let mut y = need(0)?;
            for (i, op) in [(1, "Max"), (2, "Min")] {
                if let Some(bound) = n.input(i) {
                    y = g.one(op, &[y, bound], &[])?;
                }
            }
            y
        }
        "Pow" => {
            let (x, e) = (need(0)?, need(1)?);
            match g.model.value(e).constant.clone() {
                Some(c) if c.len() > 1 => power_by_element(g, n, x, &c)?,
                None if g.model.value(x).constant.is_none() && g.model.value(x).dtype.is_float() => {
                    // x^e = exp(e·log x), which the calibrated range of x has to allow.
                    let l = g.one("Log", &[x], &[])?;
                    let e = if g.model.value(e).dtype.is_float() {
                        e
                    } else {
                        g.one("Cast", &[e], &[("to", Attr::Int(1))])?
                    };
                    let l = g.one("Mul", &[l, e], &[])?;
                    g.one("Exp", &[l], &[])?
                }
                _ => return Ok(None),
            }
        }
        "ThresholdedRelu" => {
            let x = need(0)?;
            let alpha = g.scalar(x, a.float_or("alpha", 1.0).map_err(wrong)?);
            let zero = g.scalar(x, 0.0);
            let above = g.one("Greater", &[x, alpha], &[])?;
            g.one("Where", &[above, x, zero], &[])?
        }
        "CumSum" => cumulate(g, n, need(0)?)?,
        "ScatterElements" | "ScatterND" => {
            let reduction = a.str("reduction").map_err(wrong)?.unwrap_or("none").to_owned();
            let constant = n.input(1).is_some_and(|v| g.model.value(v).constant.is_some());
            match (constant, reduction.as_str()) {
                (true, "none") => return Ok(None),
                (true, op) => scatter::by_constant(g, n, need(0)?, need(1)?, need(2)?, op)?,
                (false, op) => {
                    let Some(y) = scatter::by_value(g, n, need(0)?, need(1)?, need(2)?, op)? else {
                        return Ok(None);
                    };
                    y
                }
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![Some(r)]))
}

fn reduction_axes(g: &Graph, n: &Node, rank: usize) -> Result<Vec<usize>, QuantError> {
    let operands: Vec<Option<&TensorF>> =
        n.inputs.iter().map(|v| v.and_then(|v| g.model.value(v).constant.as_deref())).collect();
    let call = float::Call { node: n, inputs: &operands };
    float::axes_of(&call, rank).map(Option::unwrap_or_default).map_err(|e| {
        let (OpError::Invalid(s) | OpError::Unsupported(s)) = e;
        g.fail(s)
    })
}

/// A normalised value with its statistics.
struct Standardised {
    result: ValueId,
    mean: Option<ValueId>,
    deviation: ValueId,
}

/// (x − mean) / √(variance + ε) over axes; without `centre`, x / √(mean square + ε).
fn standardise(
    g: &mut Graph,
    x: ValueId,
    axes: &[usize],
    eps: f64,
    centre: bool,
) -> Result<Standardised, QuantError> {
    let mean = if centre { Some(g.reduce("ReduceMean", x, axes, true)?) } else { None };
    let d = match mean {
        Some(m) => g.one("Sub", &[x, m], &[])?,
        None => x,
    };
    let sq = g.one("Mul", &[d, d], &[])?;
    let var = g.reduce("ReduceMean", sq, axes, true)?;
    let e = g.scalar(x, eps);
    let var = g.one("Add", &[var, e], &[])?;
    let deviation = g.one("Sqrt", &[var], &[])?;
    Ok(Standardised { result: g.one("Div", &[d, deviation], &[])?, mean, deviation })
}

fn log_sum_exp(g: &mut Graph, d: ValueId, axes: &[usize]) -> Result<ValueId, QuantError> {
    let e = g.one("Exp", &[d], &[])?;
    let s = g.reduce("ReduceSum", e, axes, true)?;
    g.one("Log", &[s], &[])
}

/// A vector over channels (or groups of them) shaped so that it broadcasts against `shape`.
fn per_channel(g: &mut Graph, v: ValueId, shape: &[usize], groups: usize) -> Result<ValueId, QuantError> {
    let channels = shape.get(1).copied().unwrap_or(1);
    let mut full = vec![1; shape.len().max(2)];
    full[1] = channels;
    full.truncate(shape.len().max(1));
    let len: usize = g.shape(v).iter().product();
    let v = if len == groups && groups != channels {
        let column = g.reshape(v, &[groups, 1])?;
        let dims = g.ints(&[groups as i64, (channels / groups) as i64]);
        g.one("Expand", &[column, dims], &[])?
    } else {
        v
    };
    g.reshape(v, &full)
}

/// Powers with an exponent per element: one power per distinct exponent, and a selection.
fn power_by_element(g: &mut Graph, n: &Node, x: ValueId, e: &TensorF) -> Result<ValueId, QuantError> {
    let shape = n.output(0).map(|o| g.shape(o)).unwrap_or_default();
    let e = e.broadcast_to(&shape).map_err(|e| g.fail(e.to_string()))?;
    let mut distinct = e.to_f64();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    if distinct.len() > 16 {
        return Err(g.fail("more than 16 distinct exponents"));
    }
    let mut result = None;
    for v in distinct {
        let exponent = g.constant(TensorF::scalar(v));
        let y = g.one("Pow", &[x, exponent], &[])?;
        result = Some(match result {
            None => y,
            Some(r) => {
                let mask = e.to_f64().iter().map(|&w| i64::from(w == v)).collect();
                let mask =
                    TensorF::int(shape.clone(), DType::Bool, mask).map_err(|e| g.fail(e.to_string()))?;
                let mask = g.constant(mask);
                g.one("Where", &[mask, y, r], &[])?
            }
        });
    }
    let y = result.ok_or_else(|| g.fail("no exponents"))?;
    if g.shape(y) == shape {
        return Ok(y);
    }
    let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let dims = g.ints(&dims);
    g.one("Expand", &[y, dims], &[])
}

/// CumSum as a product with a triangular matrix of ones.
fn cumulate(g: &mut Graph, n: &Node, x: ValueId) -> Result<ValueId, QuantError> {
    let shape = g.shape(x);
    let rank = shape.len();
    let axis = n.input(1).and_then(|v| g.model.value(v).constant.clone()).map(|t| t.to_i64());
    let axis = axis.and_then(|v| v.first().copied()).ok_or_else(|| g.fail("the axis is not constant"))?;
    let axis = float::normal_axis(axis, rank).map_err(|e| g.fail(e))?;
    let exclusive = n.attrs.int_or("exclusive", 0).map_err(|e| g.fail(e))? != 0;
    let reverse = n.attrs.int_or("reverse", 0).map_err(|e| g.fail(e))? != 0;
    let d = shape[axis];
    let ones: Vec<i64> = (0..checked_len(&[d, d]).map_err(|e| g.fail(e.to_string()))?)
        .map(|i| {
            let (from, to) = (i / d, i % d);
            let (from, to) = if reverse { (to, from) } else { (from, to) };
            i64::from(if exclusive { from < to } else { from <= to })
        })
        .collect();
    let dtype = g.model.value(x).dtype;
    let ones = if dtype.is_float() {
        TensorF::float(vec![d, d], dtype, ones.into_iter().map(|v| v as f64).collect())
    } else {
        TensorF::int(vec![d, d], dtype, ones)
    };
    let ones = ones.map_err(|e| g.fail(e.to_string()))?;
    let ones = g.constant(ones);
    let mut perm: Vec<i64> = (0..rank as i64).filter(|&i| i != axis as i64).collect();
    perm.push(axis as i64);
    let mut back = vec![0i64; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p as usize] = i as i64);
    let y = g.one("Transpose", &[x], &[("perm", Attr::Ints(perm))])?;
    let y = g.one("MatMul", &[y, ones], &[])?;
    g.one("Transpose", &[y], &[("perm", Attr::Ints(back))])
}
