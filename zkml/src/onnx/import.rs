//! From bytes to a [`Model`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tract_onnx::pb::{GraphProto, ModelProto};

use crate::float::{self, OpError};

use super::decode;
use super::error::{ImportError, Unsupported, UnsupportedList};
use super::model::{Attrs, Model, Node, Value, ValueId};
use super::support;
use super::tensor::{DType, TensorF};

/// Bounds on what a file may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Elements of all tensors together.
    pub elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 2 << 30, nodes: 1 << 18, elements: 1 << 30 }
    }
}

/// How a file is imported.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportOptions {
    /// Lengths of symbolic dimensions by name.
    pub dims: BTreeMap<String, usize>,
    /// Length of every other dimension that the file leaves open.
    pub default_dim: usize,
    /// Inputs that are constants of the statement, by name: they are no inputs of the model any more. What a shape depends on has
    /// to be one.
    pub fixed: BTreeMap<String, TensorF>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions {
            dims: BTreeMap::new(),
            default_dim: 1,
            fixed: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// Imports an ONNX file.
///
/// # Errors
///
/// Every problem of the file is an [`ImportError`] that names the tensor or node. Nodes that are legal but not supported are collected
/// and returned together as [`ImportError::Unsupported`].
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Model, ImportError> {
    if bytes.len() > options.limits.bytes {
        return Err(ImportError::TooManyBytes { len: bytes.len(), limit: options.limits.bytes });
    }
    if bytes.is_empty() {
        return Err(ImportError::Malformed("the file is empty".into()));
    }
    let proto = decode::parse(bytes)?;
    let graph = proto.graph.as_ref().ok_or(ImportError::NoGraph)?;
    if graph.node.len() > options.limits.nodes {
        return Err(ImportError::TooManyNodes { len: graph.node.len(), limit: options.limits.nodes });
    }
    if graph.output.is_empty() {
        return Err(ImportError::NoOutputs);
    }
    let mut builder = Builder::new(&proto, options);
    builder.declare(graph)?;
    let order = builder.sort()?;
    builder.settle(order)?;
    builder.finish(graph)
}

/// What is known of a value while the graph is settled.
#[derive(Clone, Debug)]
enum Known {
    /// Its node has not been visited, or could not be.
    Nothing,
    /// Shape and type.
    Shape(Vec<usize>, DType),
    /// The value.
    Constant(Arc<TensorF>),
}

struct Builder<'a> {
    options: &'a ImportOptions,
    proto: &'a ModelProto,
    names: HashMap<String, ValueId>,
    labels: Vec<String>,
    known: Vec<Known>,
    /// Index of the node that defines a value.
    producer: Vec<Option<usize>>,
    inputs: Vec<ValueId>,
    nodes: Vec<Node>,
    unsupported: Vec<Unsupported>,
    live: Vec<usize>,
    elements: usize,
}

impl<'a> Builder<'a> {
    fn new(proto: &'a ModelProto, options: &'a ImportOptions) -> Self {
        Builder {
            options,
            proto,
            names: HashMap::new(),
            labels: Vec::new(),
            known: Vec::new(),
            producer: Vec::new(),
            inputs: Vec::new(),
            nodes: Vec::new(),
            unsupported: Vec::new(),
            live: Vec::new(),
            elements: 0,
        }
    }

    fn opset(&self, domain: &str) -> i64 {
        let same = |d: &str| d == domain || (matches!(d, "" | "ai.onnx") && matches!(domain, "" | "ai.onnx"));
        self.proto.opset_import.iter().find(|o| same(&o.domain)).map_or(1, |o| o.version)
    }

    fn add_value(
        &mut self,
        name: &str,
        known: Known,
        producer: Option<usize>,
    ) -> Result<ValueId, ImportError> {
        let id = ValueId(self.labels.len() as u32);
        if self.names.insert(name.to_owned(), id).is_some() {
            return Err(ImportError::Redefined(name.to_owned()));
        }
        self.labels.push(name.to_owned());
        self.known.push(known);
        self.producer.push(producer);
        Ok(id)
    }

    fn count(&mut self, n: usize, at: &str) -> Result<(), ImportError> {
        let limit = self.options.limits.elements;
        self.elements = self.elements.saturating_add(n);
        if self.elements > limit {
            return Err(ImportError::TooManyElements { limit, at: at.to_owned() });
        }
        Ok(())
    }

    /// Registers initializers, inputs, nodes and the values that nodes define.
    fn declare(&mut self, graph: &GraphProto) -> Result<(), ImportError> {
        if !graph.sparse_initializer.is_empty() {
            return Err(ImportError::Tensor {
                name: "sparse_initializer".into(),
                reason: "sparse tensors are not supported; store it densely".into(),
            });
        }
        for t in &graph.initializer {
            let value = decode::tensor(t, "initializer")?;
            self.count(value.len(), &t.name)?;
            self.add_value(&t.name, Known::Constant(Arc::new(value)), None)?;
        }
        for (i, info) in graph.input.iter().enumerate() {
            if self.names.contains_key(&info.name) {
                continue;
            }
            let (dtype, shape) = decode::input_type(graph, i, self.options)?;
            if let Some(t) = self.options.fixed.get(&info.name) {
                if t.dtype != dtype {
                    return Err(ImportError::Input {
                        name: info.name.clone(),
                        reason: format!("is fixed to values of type {}, not {dtype}", t.dtype),
                    });
                }
                self.count(t.len(), &info.name)?;
                self.add_value(&info.name, Known::Constant(Arc::new(t.clone())), None)?;
                continue;
            }
            self.count(shape.iter().product(), &info.name)?;
            let id = self.add_value(&info.name, Known::Shape(shape, dtype), None)?;
            self.inputs.push(id);
        }
        for (i, n) in graph.node.iter().enumerate() {
            for name in n.output.iter().filter(|s| !s.is_empty()) {
                self.add_value(name, Known::Nothing, Some(i))?;
            }
        }
        for n in &graph.node {
            let name =
                [&n.name].into_iter().chain(&n.output).find(|s| !s.is_empty()).unwrap_or(&n.op_type).clone();
            let domain = if n.domain == "ai.onnx" { String::new() } else { n.domain.clone() };
            let known_op = support::lookup(&domain, &n.op_type).is_some();
            let mut inputs = Vec::with_capacity(n.input.len());
            for i in &n.input {
                inputs.push(if i.is_empty() {
                    None
                } else {
                    Some(self.names.get(i).copied().ok_or_else(|| ImportError::MissingTensor {
                        node: name.clone(),
                        tensor: i.clone(),
                    })?)
                });
            }
            let outputs = n.output.iter().map(|o| self.names.get(o).copied()).collect();
            // Attributes of an operator that is reported anyway need not make sense.
            let attrs = if known_op { decode::attributes(n, &name)? } else { Attrs::default() };
            let version = self.opset(&domain);
            self.nodes.push(Node { name, op: n.op_type.clone(), domain, version, inputs, outputs, attrs });
        }
        Ok(())
    }

    /// An order in which every node follows those that it reads.
    fn sort(&self) -> Result<Vec<usize>, ImportError> {
        let mut waits = vec![0usize; self.nodes.len()];
        let mut readers = vec![Vec::new(); self.nodes.len()];
        for (i, n) in self.nodes.iter().enumerate() {
            for p in n.inputs.iter().flatten().filter_map(|v| self.producer[v.index()]) {
                waits[i] += 1;
                readers[p].push(i);
            }
        }
        let mut ready: VecDeque<usize> = (0..self.nodes.len()).filter(|&i| waits[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(i) = ready.pop_front() {
            order.push(i);
            for &r in &readers[i] {
                waits[r] -= 1;
                if waits[r] == 0 {
                    ready.push_back(r);
                }
            }
        }
        match waits.iter().position(|&w| w > 0) {
            Some(i) => Err(ImportError::Cycle(self.nodes[i].name.clone())),
            None => Ok(order),
        }
    }

    fn refuse(&mut self, node: usize, reason: String) {
        let n = &self.nodes[node];
        self.unsupported.push(Unsupported {
            node: n.name.clone(),
            op: n.op.clone(),
            domain: n.domain.clone(),
            reason,
            hint: support::hint(&n.domain, &n.op).map(str::to_owned),
        });
    }

    /// Evaluates what is constant and finds the shape of what is not.
    fn settle(&mut self, order: Vec<usize>) -> Result<(), ImportError> {
        for i in order {
            let (domain, op) = (self.nodes[i].domain.clone(), self.nodes[i].op.clone());
            let Some(info) = support::lookup(&domain, &op) else {
                let reason = if matches!(domain.as_str(), "") {
                    "the operator is not supported".to_owned()
                } else {
                    format!("operators of the domain {domain} are not supported")
                };
                self.refuse(i, reason);
                continue;
            };
            // The node that could not be settled has been reported; its readers say nothing new.
            if self.nodes[i].inputs.iter().flatten().any(|v| matches!(self.known[v.index()], Known::Nothing))
            {
                continue;
            }
            let dynamic = |k: usize| {
                self.nodes[i].input(k).is_some_and(|v| matches!(self.known[v.index()], Known::Shape(..)))
            };
            if let Some(&k) = info.structural.iter().find(|&&k| dynamic(k)) {
                let v = self.nodes[i].inputs[k].map_or("", |v| &self.labels[v.index()]).to_owned();
                self.refuse(
                    i,
                    format!("operand {k} (`{v}`) depends on the inputs, so the shape is not static"),
                );
                continue;
            }
            self.evaluate(i)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, i: usize) -> Result<(), ImportError> {
        let node = &self.nodes[i];
        let mut constant = !matches!(node.op.as_str(), "Shape" | "Size" | "EyeLike");
        let mut operands: Vec<Option<Arc<TensorF>>> = Vec::with_capacity(node.inputs.len());
        for v in &node.inputs {
            operands.push(match v.map(|v| &self.known[v.index()]) {
                None | Some(Known::Nothing) => None,
                Some(Known::Constant(t)) => Some(t.clone()),
                Some(Known::Shape(shape, dtype)) => {
                    constant = false;
                    Some(Arc::new(TensorF::zeros(shape.clone(), *dtype)?))
                }
            });
        }
        if node.op == "NonZero" && !constant {
            self.refuse(i, "the shape of the result depends on data".into());
            return Ok(());
        }
        // These depend on shapes and types alone, which are known.
        constant |= match node.op.as_str() {
            "Shape" | "Size" | "EyeLike" => true,
            "CastLike" => node.input(0).is_some_and(|v| matches!(self.known[v.index()], Known::Constant(_))),
            _ => false,
        };
        let refs: Vec<Option<&TensorF>> = operands.iter().map(|o| o.as_deref()).collect();
        let results = match float::eval(node, &refs) {
            Ok(r) => r,
            Err(OpError::Unsupported(reason)) => {
                self.refuse(i, reason);
                return Ok(());
            }
            Err(OpError::Invalid(reason)) => {
                return Err(ImportError::Node { node: node.name.clone(), op: node.op.clone(), reason });
            }
        };
        let outputs = node.outputs.clone();
        let name = node.name.clone();
        for (k, out) in outputs.into_iter().enumerate() {
            let Some(out) = out else { continue };
            let Some(Some(t)) = results.get(k) else {
                let node = &self.nodes[i];
                return Err(ImportError::Node {
                    node: name,
                    op: node.op.clone(),
                    reason: format!("there is no output {k}"),
                });
            };
            self.count(t.len(), &name)?;
            self.known[out.index()] = if constant {
                Known::Constant(Arc::new(t.clone()))
            } else {
                Known::Shape(t.shape.clone(), t.dtype)
            };
        }
        if !constant {
            self.live.push(i);
        }
        Ok(())
    }

    fn finish(self, graph: &GraphProto) -> Result<Model, ImportError> {
        let mut outputs = Vec::with_capacity(graph.output.len());
        for o in &graph.output {
            let id = self.names.get(&o.name).copied();
            outputs.push(id.ok_or_else(|| ImportError::MissingOutput(o.name.clone()))?);
        }
        if !self.unsupported.is_empty() {
            return Err(ImportError::Unsupported(UnsupportedList(self.unsupported)));
        }
        let mut wanted = vec![false; self.labels.len()];
        outputs.iter().for_each(|o| wanted[o.index()] = true);
        let mut keep = Vec::new();
        for &i in self.live.iter().rev() {
            let n = &self.nodes[i];
            if n.outputs.iter().flatten().any(|o| wanted[o.index()]) {
                n.inputs.iter().flatten().for_each(|v| wanted[v.index()] = true);
                keep.push(i);
            }
        }
        keep.reverse();
        let opset = self.opset("");
        let mut slots: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        let nodes = keep.into_iter().filter_map(|i| slots[i].take()).collect();
        let mut values = Vec::with_capacity(self.labels.len());
        for (i, (name, known)) in self.labels.into_iter().zip(self.known).enumerate() {
            values.push(match known {
                // Constants that nothing reads any more are let go.
                Known::Constant(t) => {
                    Value { name, shape: t.shape.clone(), dtype: t.dtype, constant: wanted[i].then_some(t) }
                }
                Known::Shape(shape, dtype) => Value { name, shape, dtype, constant: None },
                Known::Nothing => Value { name, shape: vec![], dtype: DType::F32, constant: None },
            });
        }
        Ok(Model { name: graph.name.clone(), opset, inputs: self.inputs, outputs, nodes, values })
    }
}
