//! Chains of element-wise operators that are functions of one tensor.
//!
//! `0.5·x·(1 + tanh(0.8·(x + 0.04·x³)))` is eight nodes in a file and one table in a circuit. A value whose operators all lead back to one tensor of the same
//! shape, with scalar constants beside it, is a function of that tensor; where the chain contains a function that needs a
//! table anyway, the whole chain becomes one.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::float;
use crate::onnx::{DType, Data, Model, Node, TensorF, ValueId};

/// Functions that have no exact integer form.
const TABLED: &[&str] = &[
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSwish",
    "Log",
    "Mish",
    "Selu",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Tan",
    "Tanh",
];

/// Element-wise operators that a chain may pass through.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Div",
    "LeakyRelu",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
    "Relu",
    "Sign",
    "Sqrt",
    "Sub",
];

/// Most operators of a chain: a longer one is several, so that what tables cost to make grows with the model and not with its square.
const LONGEST: u32 = 48;

/// Points at once, whose values stay in the processor's cache from one operator to the next.
const BLOCK: usize = 1 << 12;
/// Points from which on values are kept, and how many lists of them.
const MANY: usize = 1 << 11;
const KEPT: usize = 6;

/// The values of the end of a chain at many points of its root.
struct Dense {
    root: ValueId,
    points: Vec<f64>,
    value: ValueId,
    values: Arc<[f64]>,
}

/// The chains of a model.
pub(super) struct Clusters<'m> {
    model: &'m Model,
    producer: HashMap<ValueId, usize>,
    root: Vec<Option<ValueId>>,
    /// Whether the chain from the root needs a table.
    tabled: Vec<bool>,
    /// Operators on the longest way from the root.
    length: Vec<u32>,
    dense: RefCell<Vec<Dense>>,
}

impl<'m> Clusters<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let mut c = Clusters {
            model,
            producer: HashMap::new(),
            root: vec![None; model.values.len()],
            tabled: vec![false; model.values.len()],
            length: vec![0; model.values.len()],
            dense: RefCell::default(),
        };
        for (i, n) in model.nodes.iter().enumerate() {
            c.producer.extend(n.outputs.iter().flatten().map(|&o| (o, i)));
            if let (Some(out), Some((root, tabled))) = (n.output(0), c.chain(n)) {
                let before = n.inputs.iter().flatten().map(|v| c.reach(*v).1).max();
                c.length[out.index()] = 1 + before.unwrap_or(0);
                c.root[out.index()] = Some(root);
                c.tabled[out.index()] = tabled;
            }
        }
        c
    }

    /// Where a chain through a value starts, the operators since, and whether they need a table.
    fn reach(&self, v: ValueId) -> (ValueId, u32, bool) {
        let at = v.index();
        match self.root[at] {
            Some(root) if self.length[at] < LONGEST => (root, self.length[at], self.tabled[at]),
            _ => (v, 0, false),
        }
    }

    /// Whether a node adds a number of the file to a contraction of weights: a parameter, and no part of a table.
    fn is_bias(&self, n: &Node) -> bool {
        let constant = |v: &ValueId| self.model.value(*v).constant.is_some();
        let weighted = |v: &ValueId| {
            let made = self.producer.get(v).map(|&i| &self.model.nodes[i]);
            made.is_some_and(|m| {
                matches!(m.op.as_str(), "MatMul" | "Gemm" | "Conv" | "ConvTranspose" | "Einsum")
                    && m.inputs.iter().flatten().any(constant)
            })
        };
        let number = |v: &ValueId| constant(v) && !self.model.value(*v).origin.structural;
        matches!(n.op.as_str(), "Add" | "Sub")
            && n.inputs.iter().flatten().any(number)
            && n.inputs.iter().flatten().any(weighted)
    }

    /// Chains that start at integers of eight bits, or lead back to them: a table holds all of those. The outer option says whether the node is
    /// of this kind.
    #[expect(clippy::option_option, reason = "no chain is an answer too")]
    fn quantised(&self, n: &Node) -> Option<Option<(ValueId, bool)>> {
        let into = match n.op.as_str() {
            "DequantizeLinear" => false,
            "QuantizeLinear" => true,
            _ => return None,
        };
        let single = |k: usize| {
            n.input(k).is_none_or(|v| self.model.value(v).constant.as_ref().is_some_and(|c| c.len() == 1))
        };
        let Some(x) = n.input(0).filter(|_| single(1) && single(2)) else { return Some(None) };
        let byte = |v: ValueId| {
            let v = self.model.value(v);
            matches!(v.dtype, DType::I8 | DType::U8) && v.constant.is_none()
        };
        Some(if into {
            self.root[x.index()].filter(|&r| byte(r)).map(|r| (r, true))
        } else {
            byte(x).then_some((x, false))
        })
    }

    /// Root of the chain that a node continues, and whether the chain needs a table.
    fn chain(&self, n: &Node) -> Option<(ValueId, bool)> {
        let own = TABLED.contains(&n.op.as_str());
        let known = own || ELEMENTWISE.contains(&n.op.as_str());
        if !known && !matches!(n.op.as_str(), "DequantizeLinear" | "QuantizeLinear") {
            return None;
        }
        let out = self.model.value(n.output(0)?);
        let float = |d: DType| d.is_float();
        if let Some(found) = self.quantised(n) {
            return found;
        }
        if !float(out.dtype) {
            return None;
        }
        if self.is_bias(n) {
            return None;
        }
        let (mut root, mut tabled, mut dynamic) = (None, own, 0);
        for v in n.inputs.iter().flatten() {
            let value = self.model.value(*v);
            if let Some(c) = &value.constant {
                if c.len() != 1 {
                    return None;
                }
                continue;
            }
            if value.shape != out.shape || !float(value.dtype) {
                return None;
            }
            dynamic += 1;
            let (r, _, t) = self.reach(*v);
            if *root.get_or_insert(r) != r {
                return None;
            }
            tabled |= t;
        }
        tabled |= match n.op.as_str() {
            // A quotient of two functions of one tensor is a function; a constant over a tensor is a division.
            "Div" => dynamic == 2,
            "Pow" => {
                let exponent = self.model.value(n.input(1)?).constant.as_ref().and_then(|c| c.single());
                exponent.is_none_or(|e| {
                    let polynomial = e.fract() == 0.0 && (0.0..=4.0).contains(&e);
                    !polynomial && ![0.5, -0.5, -1.0].contains(&e)
                })
            }
            _ => false,
        };
        Some((root?, tabled))
    }

    /// The tensor that a value is a tabled function of.
    pub(super) fn root(&self, v: ValueId) -> Option<ValueId> {
        self.root[v.index()].filter(|_| self.tabled[v.index()])
    }

    /// Whether a node is a function that needs a table whatever it is applied to.
    pub(super) fn is_tabled(&self, n: &Node) -> bool {
        TABLED.contains(&n.op.as_str()) || n.op == "Pow"
    }

    /// The first value of the chain that a value ends, whether it needs a table or not; the value itself where it ends none.
    pub(super) fn start(&self, v: ValueId) -> ValueId {
        self.root[v.index()].unwrap_or(v)
    }

    /// The operator of a value that it computes from its root alone, in one step.
    pub(super) fn function_of(&self, v: ValueId, root: ValueId) -> Option<&str> {
        let n = &self.model.nodes[*self.producer.get(&v)?];
        let own = n.inputs.iter().flatten().copied().eq([root]);
        own.then_some(n.op.as_str())
    }

    /// What decides the function of a value over its root: equal for equal chains.
    pub(super) fn signature(&self, root: ValueId, v: ValueId) -> String {
        use std::fmt::Write;
        let mut number: HashMap<ValueId, usize> = HashMap::from([(root, 0)]);
        let mut text = String::new();
        let mut stack = vec![v];
        while let Some(&at) = stack.last() {
            if number.contains_key(&at) {
                stack.pop();
                continue;
            }
            if let Some(c) = &self.model.value(at).constant {
                let bits: Vec<u64> = c.to_f64().into_iter().map(f64::to_bits).collect();
                let _ = write!(text, "{bits:x?};");
            } else {
                let Some(node) = self.producer.get(&at).map(|&i| &self.model.nodes[i]) else { break };
                let waiting: Vec<ValueId> =
                    node.inputs.iter().flatten().copied().filter(|i| !number.contains_key(i)).collect();
                if !waiting.is_empty() {
                    stack.extend(waiting);
                    continue;
                }
                let operands: Vec<Option<usize>> =
                    node.inputs.iter().map(|i| i.and_then(|i| number.get(&i).copied())).collect();
                let _ = write!(text, "{}.{} {operands:?} {:?};", node.op, node.version, node.attrs);
            }
            number.insert(at, number.len());
            stack.pop();
        }
        let _ = write!(text, "{:?}", number.get(&v));
        text
    }

    /// The zero point of a value that a quantiser gives.
    pub(super) fn zero(&self, v: ValueId) -> i64 {
        let node = self.producer.get(&v).map(|&i| &self.model.nodes[i]).filter(|n| n.op == "QuantizeLinear");
        let zero = node.and_then(|n| self.model.value(n.input(2)?).constant.as_ref()?.single());
        zero.map_or(0, |z| z as i64)
    }

    /// The constants of the chain from a root to a value.
    pub(super) fn constants(&self, root: ValueId, v: ValueId) -> Vec<ValueId> {
        let (mut found, mut seen, mut open) = (Vec::new(), HashSet::from([root]), vec![v]);
        while let Some(at) = open.pop() {
            if !seen.insert(at) {
                continue;
            }
            if self.model.value(at).constant.is_some() {
                found.push(at);
            } else if let Some(&node) = self.producer.get(&at) {
                open.extend(self.model.nodes[node].inputs.iter().flatten());
            }
        }
        found
    }

    /// The function of a value at points of its root. What the value before it in the chain is at the same points is not computed again.
    pub(super) fn sample(&self, root: ValueId, v: ValueId, points: &[f64]) -> Vec<f64> {
        if points.len() < MANY || !self.model.value(root).dtype.is_float() {
            return self.sample_as(DType::F64, root, v, points);
        }
        let same = |d: &&Dense| d.root == root && d.points == points;
        let known = self.dense.borrow().iter().find(same).map(|d| (d.value, Arc::clone(&d.values)));
        let before = known.as_ref().map(|(value, values)| (*value, &values[..]));
        let values = self.sample_blocks(DType::F64, root, v, points, before);
        if values.len() == points.len() {
            let mut dense = self.dense.borrow_mut();
            dense.retain(|d| !same(&d));
            dense.insert(0, Dense { root, points: points.into(), value: v, values: values[..].into() });
            dense.truncate(KEPT);
        }
        values
    }

    /// [`Clusters::sample`], rounded to a type after every operator.
    pub(super) fn sample_as(&self, dtype: DType, root: ValueId, v: ValueId, points: &[f64]) -> Vec<f64> {
        self.sample_blocks(dtype, root, v, points, None)
    }

    fn sample_blocks(
        &self,
        dtype: DType,
        root: ValueId,
        v: ValueId,
        points: &[f64],
        before: Option<(ValueId, &[f64])>,
    ) -> Vec<f64> {
        let mut values = Vec::with_capacity(points.len());
        for (i, block) in points.chunks(BLOCK).enumerate() {
            let before = before.map(|(v, all)| (v, &all[i * BLOCK..i * BLOCK + block.len()]));
            let found = self.sample_block(dtype, root, v, block, before);
            if found.len() != block.len() {
                return vec![];
            }
            values.extend(found);
        }
        values
    }

    fn sample_block(
        &self,
        dtype: DType,
        root: ValueId,
        v: ValueId,
        points: &[f64],
        before: Option<(ValueId, &[f64])>,
    ) -> Vec<f64> {
        let mut known: HashMap<ValueId, TensorF> = HashMap::new();
        let make = |data: Vec<f64>, shape: Vec<usize>| TensorF { shape, dtype, data: Data::F(data) };
        // What starts at integers is computed in the precision of the file, so that it is rounded where it would be.
        let start = self.model.value(root).dtype;
        let integers = !start.is_float();
        if integers {
            let data = Data::I(points.iter().map(|&p| p as i64).collect());
            known.insert(root, TensorF { shape: vec![points.len()], dtype: start, data });
        } else {
            known.insert(root, make(points.to_vec(), vec![points.len()]));
            known.extend(before.map(|(at, values)| (at, make(values.to_vec(), vec![points.len()]))));
        }
        // Depth first, without recursion: a chain may be long.
        let mut stack = vec![v];
        while let Some(&at) = stack.last() {
            if known.contains_key(&at) {
                stack.pop();
                continue;
            }
            if let Some(c) = &self.model.value(at).constant {
                let number = if integers { c.as_ref().clone() } else { make(c.to_f64(), vec![]) };
                known.insert(at, TensorF { shape: vec![], ..number });
                continue;
            }
            let Some(node) = self.producer.get(&at).map(|&i| &self.model.nodes[i]) else { return vec![] };
            let waiting: Vec<ValueId> =
                node.inputs.iter().flatten().copied().filter(|i| !known.contains_key(i)).collect();
            if !waiting.is_empty() {
                stack.extend(waiting);
                continue;
            }
            let operands: Vec<Option<&TensorF>> =
                node.inputs.iter().map(|i| i.and_then(|i| known.get(&i))).collect();
            let result = if node.op == "Cast" {
                operands.first().copied().flatten().cloned()
            } else {
                float::eval(node, &operands)
                    .ok()
                    .and_then(|mut r| if r.is_empty() { None } else { r.swap_remove(0) })
            };
            let Some(result) = result else { return vec![] };
            known.insert(at, result);
        }
        known.get(&v).map(TensorF::to_f64).unwrap_or_default()
    }
}
