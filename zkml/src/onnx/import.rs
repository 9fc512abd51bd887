//! From bytes to a [`Model`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use prost::bytes::Bytes;

use crate::float::{self, OpError};
use crate::input;

use super::arity;
use super::control::{self, Scope};
use super::decode;
use super::error::{ImportError, Unsupported, UnsupportedList};
use super::expand;
use super::external::External;
use super::inline;
use super::ml;
use super::model::{Attrs, Integers, Model, Node, Provenance, Value, ValueId};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::shapes::{self, Binding, Declared, Dim, Given, Outline, TakenList};
use super::support;
use super::tensor::{DType, Data, TensorF, with_room};

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
    /// Shapes of inputs by name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The lists of an input file, from which lengths follow that no option says.
    pub given: Option<Given>,
    /// Length of every other dimension that the file leaves open.
    pub default_dim: usize,
    /// Inputs that are constants of the statement, by name: they are no inputs of the model any more. What a shape depends on has
    /// to be one.
    pub fixed: BTreeMap<String, TensorF>,
    /// The same, as JSON: a number that fills the input's shape, or a list as in an input file.
    pub constants: BTreeMap<String, String>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions {
            dims: BTreeMap::new(),
            shapes: BTreeMap::new(),
            given: None,
            default_dim: 1,
            fixed: BTreeMap::new(),
            constants: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

impl ImportOptions {
    /// Takes over what an earlier import of the same model decided.
    ///
    /// # Errors
    ///
    /// [`ImportError::Input`] where these options say something else.
    pub fn bind(&mut self, binding: &Binding) -> Result<(), ImportError> {
        for (name, shape) in &binding.shapes {
            if let Some(own) = self.shapes.insert(name.clone(), shape.clone())
                && own != *shape
            {
                let reason = format!("the shape is {own:?} by option and {shape:?} in the setup");
                return Err(ImportError::Input { name: name.clone(), reason });
            }
        }
        for (name, text) in &binding.constants {
            if let Some(own) = self.constants.insert(name.clone(), text.clone())
                && own != *text
            {
                let reason = format!("is the constant {own} by option and {text} in the setup");
                return Err(ImportError::Input { name: name.clone(), reason });
            }
        }
        match self.constants.keys().find(|name| !binding.constants.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let reason = "is a constant by option and an input in the setup".to_owned();
                Err(ImportError::Input { name: name.clone(), reason })
            }
        }
    }
}

/// Imports an ONNX file that holds all of its values.
///
/// # Errors
///
/// Every problem of the file is an [`ImportError`] that names the tensor or node. Nodes that are legal but not supported are collected
/// and returned together as [`ImportError::Unsupported`].
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Model, ImportError> {
    check_size(bytes.len(), options)?;
    Ok(import_from(Bytes::copy_from_slice(bytes), None, options)?.model)
}

/// A model with the digest of the values that its file does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// BLAKE2b over the names and values of the tensors that were read from other files, in the order of reading; `None` where
    /// the model is one file.
    pub external: Option<[u8; 32]>,
}

/// [`import`] without a copy of the file, for a model whose tensors may be in other files of a folder.
///
/// # Errors
///
/// As [`import`]; a tensor whose file is missing, too short or outside the folder is [`ImportError::External`].
pub fn import_from(
    bytes: Bytes,
    dir: Option<&Path>,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    check_size(bytes.len(), options)?;
    if bytes.is_empty() {
        return Err(ImportError::Malformed("the file is empty".into()));
    }
    let mut proto = decode::parse(bytes)?;
    inline::inline(&mut proto, options.limits.nodes)?;
    let graph = proto.graph.as_ref().ok_or(ImportError::NoGraph)?;
    if graph.output.is_empty() {
        return Err(ImportError::NoOutputs);
    }
    let mut builder = Builder::new(&proto, options, External::new(dir));
    let mut scope = Scope::default();
    builder.declare(graph, &mut scope)?;
    builder.declare_nodes(graph, &mut scope, "")?;
    let order = builder.sort(0..builder.nodes.len())?;
    builder.settle(order, &scope).map_err(|e| with_lengths(e, &builder.taken))?;
    let external = builder.external.digest();
    Ok(Imported { model: builder.finish(graph, &scope)?, external })
}

/// An error that may be due to the lengths of open axes, with those.
fn with_lengths(e: ImportError, taken: &TakenList) -> ImportError {
    let fits = !matches!(e, ImportError::Node { .. } | ImportError::Shape(_) | ImportError::Branch { .. });
    if fits || taken.0.is_empty() {
        return e;
    }
    ImportError::Lengths { source: Box::new(e), taken: taken.clone() }
}

fn check_size(len: usize, options: &ImportOptions) -> Result<(), ImportError> {
    let limit = options.limits.bytes;
    if len > limit { Err(ImportError::TooManyBytes { len, limit }) } else { Ok(()) }
}

/// What is known of a value while the graph is settled.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Its node has not been visited, or could not be.
    Nothing,
    /// Shape and type.
    Shape(Vec<usize>, DType),
    /// The value.
    Constant(Arc<TensorF>),
}

/// Identity of a message while its file is in memory.
pub(super) fn address<T>(message: &T) -> usize {
    std::ptr::from_ref(message).addr()
}

/// Results of an operator of a body on constants, by the operator and the constants.
type Memo = HashMap<(usize, Vec<usize>), Vec<Option<Arc<TensorF>>>>;

pub(super) struct Builder<'a> {
    pub(super) options: &'a ImportOptions,
    proto: &'a ModelProto,
    external: External,
    pub(super) labels: Vec<String>,
    pub(super) known: Vec<Known>,
    /// Index of the node that defines a value.
    producer: Vec<Option<usize>>,
    inputs: Vec<ValueId>,
    pub(super) nodes: Vec<Node>,
    /// Message of a node that is in the body of another: one for all its copies.
    copies: Vec<Option<&'a NodeProto>>,
    /// Nodes with bodies.
    pub(super) bodies: HashMap<usize, &'a NodeProto>,
    /// Values that the bodies of a node read from around them.
    captured: HashMap<usize, Vec<ValueId>>,
    literals: HashMap<usize, Arc<TensorF>>,
    memo: Memo,
    /// Attributes of operators of bodies.
    decoded: HashMap<usize, Attrs>,
    unsupported: Vec<Unsupported>,
    live: Vec<usize>,
    elements: usize,
    /// All inputs of the file, constants included.
    declared: Vec<ValueId>,
    binding: Binding,
    taken: TakenList,
    /// Constants that come from the architecture, or from integers.
    pub(super) origins: HashMap<ValueId, Provenance>,
}

impl<'a> Builder<'a> {
    fn new(proto: &'a ModelProto, options: &'a ImportOptions, external: External) -> Self {
        Builder {
            options,
            proto,
            external,
            labels: Vec::new(),
            known: Vec::new(),
            producer: Vec::new(),
            inputs: Vec::new(),
            nodes: Vec::new(),
            copies: Vec::new(),
            bodies: HashMap::new(),
            captured: HashMap::new(),
            literals: HashMap::new(),
            memo: HashMap::new(),
            decoded: HashMap::new(),
            unsupported: Vec::new(),
            live: Vec::new(),
            elements: 0,
            declared: Vec::new(),
            binding: Binding::default(),
            taken: TakenList::default(),
            origins: HashMap::new(),
        }
    }

    fn opset(&self, domain: &str) -> i64 {
        let same = |d: &str| d == domain || (matches!(d, "" | "ai.onnx") && matches!(domain, "" | "ai.onnx"));
        self.proto.opset_import.iter().find(|o| same(&o.domain)).map_or(1, |o| o.version)
    }

    pub(super) fn add_value(&mut self, label: String, known: Known, producer: Option<usize>) -> ValueId {
        let id = ValueId(self.labels.len() as u32);
        self.labels.push(label);
        self.known.push(known);
        self.producer.push(producer);
        id
    }

    pub(super) fn count(&mut self, n: usize, at: &str) -> Result<(), ImportError> {
        let limit = self.options.limits.elements;
        self.elements = self.elements.saturating_add(n);
        if self.elements > limit {
            return Err(ImportError::TooManyElements { limit, at: at.to_owned() });
        }
        Ok(())
    }

    /// Registers the initializers and inputs of the model.
    fn declare(&mut self, graph: &'a GraphProto, scope: &mut Scope<'_>) -> Result<(), ImportError> {
        self.declare_literals(graph, scope, "")?;
        let infos: Vec<_> = graph.input.iter().filter(|info| !scope.holds(&info.name)).collect();
        let declared = infos.iter().map(|info| Declared::read(info)).collect::<Result<Vec<_>, _>>()?;
        for (option, name) in (self.options.constants.keys().map(|n| ("--constant", n)))
            .chain(self.options.fixed.keys().map(|n| ("a constant", n)))
        {
            if !declared.iter().any(|d| d.name == *name) {
                let known = declared.iter().map(|d| d.name.clone()).collect();
                return Err(ImportError::UnknownInput { option, name: name.clone(), known });
            }
        }
        let constants =
            declared.iter().map(|d| self.constant_outline(&d.name)).collect::<Result<Vec<_>, _>>()?;
        let lists = shapes::outlines(&declared, &constants, self.options.given.as_ref())?;
        let bound = shapes::bind(&declared, &lists, self.options)?;
        self.taken = TakenList(bound.taken);
        for ((info, d), shape) in infos.into_iter().zip(&declared).zip(bound.shapes) {
            let dtype = decode::input_dtype(info)?;
            let bad = |reason: String| ImportError::Input { name: info.name.clone(), reason };
            let fixed = match (self.options.fixed.get(&info.name), self.options.constants.get(&info.name)) {
                (Some(t), _) if t.dtype != dtype => {
                    return Err(bad(format!("is fixed to values of type {}, not {dtype}", t.dtype)));
                }
                (Some(t), _) => Some(t.clone()),
                (None, Some(text)) => Some(input::constant(text, dtype, &shape).map_err(bad)?),
                (None, None) => None,
            };
            if d.dims.as_ref().is_none_or(|dims| dims.iter().any(|d| !matches!(d, Dim::Fixed(_)))) {
                self.binding.shapes.insert(info.name.clone(), shape.clone());
            }
            let id = match fixed {
                Some(t) => {
                    self.count(t.len(), &info.name)?;
                    self.add_value(info.name.clone(), Known::Constant(Arc::new(t)), None)
                }
                None => {
                    self.count(shape.iter().product(), &info.name)?;
                    let id = self.add_value(info.name.clone(), Known::Shape(shape, dtype), None);
                    self.inputs.push(id);
                    id
                }
            };
            self.declared.push(id);
            scope.define(&info.name, id)?;
        }
        self.binding.constants = self.options.constants.clone();
        Ok(())
    }

    /// How the constant in the place of an input is built, where there is one; within, nothing where one number fills the input.
    fn constant_outline(&self, name: &str) -> Result<Option<Option<Outline>>, ImportError> {
        if let Some(t) = self.options.fixed.get(name) {
            return Ok(Some(Some(Outline { lengths: t.shape.clone(), elements: t.len() })));
        }
        let Some(text) = self.options.constants.get(name) else { return Ok(None) };
        let bad = |reason: String| ImportError::Input { name: name.to_owned(), reason };
        let outline = input::constant_outline(text).map_err(bad)?;
        Ok(Some(Some(outline).filter(|o| !o.lengths.is_empty())))
    }

    /// Registers the initializers of a graph. Those of a body are one constant for all its copies.
    pub(super) fn declare_literals(
        &mut self,
        graph: &'a GraphProto,
        scope: &mut Scope<'_>,
        prefix: &str,
    ) -> Result<(), ImportError> {
        if !graph.sparse_initializer.is_empty() {
            return Err(ImportError::Tensor {
                name: "sparse_initializer".into(),
                reason: "sparse tensors are not supported; store it densely".into(),
            });
        }
        for t in &graph.initializer {
            let value = self.literal(t)?;
            let id = self.add_value(format!("{prefix}{}", t.name), Known::Constant(value), None);
            scope.define(&t.name, id)?;
        }
        Ok(())
    }

    fn literal(&mut self, t: &'a TensorProto) -> Result<Arc<TensorF>, ImportError> {
        if let Some(value) = self.literals.get(&address(t)) {
            return Ok(value.clone());
        }
        let value = Arc::new(decode::tensor(t, "initializer", &self.external)?);
        self.count(value.len(), &t.name)?;
        self.literals.insert(address(t), value.clone());
        Ok(value)
    }

    /// Registers the nodes of a graph and the values that they define.
    pub(super) fn declare_nodes(
        &mut self,
        graph: &'a GraphProto,
        scope: &mut Scope<'_>,
        prefix: &str,
    ) -> Result<(), ImportError> {
        let limit = self.options.limits.nodes;
        let (first, len) = (self.nodes.len(), self.nodes.len() + graph.node.len());
        if len > limit {
            return Err(ImportError::TooManyNodes { len, limit });
        }
        for (i, n) in graph.node.iter().enumerate() {
            for name in n.output.iter().filter(|s| !s.is_empty()) {
                let id = self.add_value(format!("{prefix}{name}"), Known::Nothing, Some(first + i));
                scope.define(name, id)?;
            }
        }
        for n in &graph.node {
            let own = [&n.name].into_iter().chain(&n.output).find(|s| !s.is_empty()).unwrap_or(&n.op_type);
            let name = format!("{prefix}{own}");
            let domain = if n.domain == "ai.onnx" { String::new() } else { n.domain.clone() };
            let known_op = support::lookup(&domain, &n.op_type).is_some();
            let missing =
                |tensor: &str| ImportError::MissingTensor { node: name.clone(), tensor: tensor.to_owned() };
            let mut inputs = Vec::with_capacity(n.input.len());
            for i in &n.input {
                inputs.push(if i.is_empty() { None } else { Some(scope.get(i).ok_or_else(|| missing(i))?) });
            }
            if matches!(domain.as_str(), "" | ml::DOMAIN) {
                let count = |names: &[String]| names.iter().rposition(|s| !s.is_empty()).map_or(0, |i| i + 1);
                if let Some(reason) =
                    arity::complaint(&n.op_type, n.input.len(), count(&n.input), count(&n.output))
                {
                    return Err(ImportError::Node { node: name, op: n.op_type.clone(), reason });
                }
            }
            if known_op && n.attribute.iter().any(|a| a.g.is_some()) {
                let names = control::captured_names(n);
                let ids = names.iter().map(|c| scope.get(c).ok_or_else(|| missing(c)));
                self.captured.insert(self.nodes.len(), ids.collect::<Result<_, _>>()?);
                self.bodies.insert(self.nodes.len(), n);
            }
            let outputs = n.output.iter().map(|o| if o.is_empty() { None } else { scope.get(o) }).collect();
            // Attributes of an operator that is reported anyway need not make sense.
            let attrs = match self.decoded.get(&address(n)) {
                Some(attrs) => attrs.clone(),
                None if known_op => decode::attributes(n, &name, &self.external)?,
                None => Attrs::default(),
            };
            if !prefix.is_empty() {
                self.decoded.entry(address(n)).or_insert_with(|| attrs.clone());
            }
            let version = self.opset(&domain);
            self.copies.push((!prefix.is_empty()).then_some(n));
            self.nodes.push(Node { name, op: n.op_type.clone(), domain, version, inputs, outputs, attrs });
        }
        Ok(())
    }

    /// Adds a node of our own on values that are settled, and settles it.
    pub(super) fn emit(&mut self, node: Node, scope: &Scope<'_>) -> Result<(), ImportError> {
        let limit = self.options.limits.nodes;
        let at = self.nodes.len();
        if at >= limit {
            return Err(ImportError::TooManyNodes { len: at + 1, limit });
        }
        self.copies.push(None);
        self.nodes.push(node);
        self.settle(vec![at], scope)
    }

    /// An order in which every node of a range follows those of it that it reads.
    pub(super) fn sort(&self, range: Range<usize>) -> Result<Vec<usize>, ImportError> {
        let first = range.start;
        let mut waits = vec![0usize; range.len()];
        let mut readers = vec![Vec::new(); range.len()];
        let none = Vec::new();
        for i in range.clone() {
            let captured = self.captured.get(&i).unwrap_or(&none);
            for v in self.nodes[i].inputs.iter().flatten().chain(captured) {
                if let Some(p) = self.producer[v.index()].filter(|p| range.contains(p)) {
                    waits[i - first] += 1;
                    readers[p - first].push(i);
                }
            }
        }
        let mut ready: VecDeque<usize> = range.clone().filter(|&i| waits[i - first] == 0).collect();
        let mut order = Vec::with_capacity(range.len());
        while let Some(i) = ready.pop_front() {
            order.push(i);
            for &r in &readers[i - first] {
                waits[r - first] -= 1;
                if waits[r - first] == 0 {
                    ready.push_back(r);
                }
            }
        }
        match waits.iter().position(|&w| w > 0) {
            Some(i) => Err(ImportError::Cycle(self.nodes[first + i].name.clone())),
            None => Ok(order),
        }
    }

    /// Names of the inputs that a value is computed from, in the file's order.
    pub(super) fn inputs_behind(&self, value: ValueId) -> Vec<String> {
        let mut seen = vec![false; self.labels.len()];
        let mut open = vec![value];
        while let Some(v) = open.pop() {
            if std::mem::replace(&mut seen[v.index()], true) {
                continue;
            }
            if let Some(node) = self.producer[v.index()] {
                let captured = self.captured.get(&node).into_iter().flatten();
                open.extend(self.nodes[node].inputs.iter().flatten().chain(captured).copied());
            }
        }
        let found = self.inputs.iter().filter(|id| seen[id.index()]);
        found.map(|id| self.labels[id.index()].clone()).collect()
    }

    /// The first value with a NaN on the way to a constant that has one, and the flat index of that element.
    fn not_a_number(&self, value: usize) -> Option<(String, usize)> {
        let nan = |v: usize| match &self.known[v] {
            Known::Constant(t) => match &t.data {
                Data::F(d) => d.iter().position(|x| x.is_nan()),
                Data::I(_) => None,
            },
            _ => None,
        };
        let (mut at, mut element) = (value, nan(value)?);
        let mut steps = self.nodes.len();
        while let Some(node) = self.producer[at].filter(|_| steps > 0) {
            steps -= 1;
            let mut operands = self.nodes[node].inputs.iter().flatten();
            match operands.find_map(|v| nan(v.index()).map(|e| (v.index(), e))) {
                Some(found) => (at, element) = found,
                None => break,
            }
        }
        Some((self.labels[at].clone(), element))
    }

    pub(super) fn refuse(&mut self, node: usize, reason: String) {
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
    pub(super) fn settle(&mut self, order: Vec<usize>, scope: &Scope<'_>) -> Result<(), ImportError> {
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
            let version = self.nodes[i].version;
            if version < info.since && info.reformed() {
                let first = info.since;
                self.refuse(
                    i,
                    format!("its form of operator set {version} is not read, those from {first} on are"),
                );
                continue;
            }
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
            match self.bodies.get(&i).copied() {
                Some(n) => self.unroll(i, Some(n), scope)?,
                None if expand::expands(&domain, &op) => self.unroll(i, None, scope)?,
                None => self.evaluate(i)?,
            }
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
        if node.op == "IsInf" && !constant {
            self.refuse(i, "which values are infinite depends on data".into());
            return Ok(());
        }
        // These depend on shapes and types alone, which are known.
        constant |= match node.op.as_str() {
            "Shape" | "Size" | "EyeLike" => true,
            "CastLike" => node.input(0).is_some_and(|v| matches!(self.known[v.index()], Known::Constant(_))),
            _ => false,
        };
        let key = match self.copies[i].filter(|_| constant) {
            Some(n) => {
                let addresses = operands.iter().map(|o| o.as_deref().map_or(0, address)).collect();
                Some((address(n), addresses))
            }
            None => None,
        };
        if let Some(known) = key.as_ref().and_then(|k| self.memo.get(k)) {
            for (out, t) in node.outputs.clone().into_iter().zip(known.clone()) {
                if let (Some(out), Some(t)) = (out, t) {
                    self.known[out.index()] = Known::Constant(t);
                }
            }
            return Ok(());
        }
        let refs: Vec<Option<&TensorF>> = operands.iter().map(|o| o.as_deref()).collect();
        // What operands have is counted already; only what is left of the limit may come to it.
        let given: usize = refs.iter().flatten().map(|t| t.len()).sum();
        let room = self.options.limits.elements.saturating_sub(self.elements).saturating_add(given);
        let results: Vec<Option<Arc<TensorF>>> = match with_room(room, || float::eval(node, &refs)) {
            Ok(r) => r.into_iter().map(|t| t.map(Arc::new)).collect(),
            Err(OpError::Unsupported(reason)) => {
                self.refuse(i, reason);
                return Ok(());
            }
            Err(OpError::Invalid(reason)) => {
                return Err(ImportError::Node { node: node.name.clone(), op: node.op.clone(), reason });
            }
        };
        let origin = if constant { self.origin(node, &operands) } else { Provenance::default() };
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
            self.known[out.index()] =
                if constant { Known::Constant(t.clone()) } else { Known::Shape(t.shape.clone(), t.dtype) };
            if origin != Provenance::default() {
                self.origins.insert(out, origin.clone());
            }
        }
        if let Some(key) = key {
            self.memo.insert(key, results);
        }
        if !constant {
            self.live.push(i);
        }
        Ok(())
    }

    /// Where the result of a node on constants comes from.
    fn origin(&self, node: &Node, operands: &[Option<Arc<TensorF>>]) -> Provenance {
        let of = |v: &ValueId| self.origins.get(v);
        let inputs: Vec<&ValueId> = node.inputs.iter().flatten().collect();
        let generated = ["ConstantOfShape", "EyeLike", "Range", "Shape", "Size"];
        let structural = generated.contains(&node.op.as_str())
            || (!inputs.is_empty() && inputs.iter().all(|v| of(v).is_some_and(|o| o.structural)));
        let operand = |k: usize| operands.get(k).and_then(Option::as_ref);
        let integers = match (node.op.as_str(), operand(0), operand(1)) {
            ("Identity", ..) => node.input(0).and_then(|v| of(&v)?.integers.clone()),
            ("DequantizeLinear", Some(q), Some(scale)) => {
                let axis = node.attrs.int_or("axis", 1).ok();
                let axis = axis.and_then(|a| float::normal_axis(a, q.shape.len()).ok()).unwrap_or(0);
                let (q, scale, zero) = (q.clone(), scale.clone(), operand(2).cloned());
                Some(Arc::new(Integers { q, scale, zero, axis }))
            }
            _ => None,
        };
        Provenance { structural, integers }
    }

    fn finish(mut self, graph: &GraphProto, scope: &Scope<'_>) -> Result<Model, ImportError> {
        let mut outputs = Vec::with_capacity(graph.output.len());
        for o in &graph.output {
            let id = scope.get(&o.name);
            outputs.push(id.ok_or_else(|| ImportError::MissingOutput(o.name.clone()))?);
        }
        if !self.unsupported.is_empty() {
            return Err(ImportError::Unsupported(UnsupportedList(self.unsupported)));
        }
        let mut wanted = vec![false; self.labels.len()];
        // The constants of inputs stay, so that a file that has their lists can be compared.
        outputs.iter().chain(&self.declared).for_each(|o| wanted[o.index()] = true);
        let mut keep = Vec::new();
        for &i in self.live.iter().rev() {
            let n = &self.nodes[i];
            if n.outputs.iter().flatten().any(|o| wanted[o.index()]) {
                n.inputs.iter().flatten().for_each(|v| wanted[v.index()] = true);
                keep.push(i);
            }
        }
        keep.reverse();
        for i in keep.iter().flat_map(|&i| self.nodes[i].inputs.iter().flatten()).map(|v| v.index()) {
            if let Some((name, element)) = self.not_a_number(i) {
                let reason = format!("element {element} is NaN, and no integer stands for that");
                return Err(ImportError::Tensor { name, reason });
            }
        }
        let opset = self.opset("");
        let mut slots: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        let nodes = keep.into_iter().filter_map(|i| slots[i].take()).collect();
        let mut values = Vec::with_capacity(self.labels.len());
        for (i, (name, known)) in self.labels.into_iter().zip(self.known).enumerate() {
            let (shape, dtype, constant) = match known {
                // Constants that nothing reads any more are let go.
                Known::Constant(t) => (t.shape.clone(), t.dtype, wanted[i].then_some(t)),
                Known::Shape(shape, dtype) => (shape, dtype, None),
                Known::Nothing => (vec![], DType::F32, None),
            };
            let origin = self.origins.remove(&ValueId(i as u32)).filter(|_| constant.is_some());
            values.push(Value { name, shape, dtype, constant, origin: origin.unwrap_or_default() });
        }
        Ok(Model {
            name: graph.name.clone(),
            opset,
            inputs: self.inputs,
            declared: self.declared,
            binding: self.binding,
            taken: self.taken,
            outputs,
            nodes,
            values,
        })
    }
}
