//! Control flow: If, Loop and Scan become the nodes that they run.
//!
//! A circuit has one shape, so a loop is as many copies of its body as it has steps, and that number must not depend on the inputs. A condition may: both
//! branches are computed and one is selected, and a loop that stops early keeps its state from the step on where its
//! condition fails. Copies share their constants, so weights of a recurrent body are stored once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::error::ImportError;
use super::expand;
use super::import::{Builder, Known};
use super::model::{Attr, Attrs, Node, Provenance, ValueId};
use super::proto::{GraphProto, NodeProto};
use super::tensor::{DType, TensorF};

/// Operator-set version that added nodes are written in.
const VERSION: i64 = 18;

/// The names that a graph's nodes can refer to: its own, and those around it.
#[derive(Debug, Default)]
pub(super) struct Scope<'s> {
    names: HashMap<String, ValueId>,
    outer: Option<&'s Scope<'s>>,
}

impl<'s> Scope<'s> {
    fn within(outer: &'s Scope<'s>) -> Self {
        Scope { names: HashMap::new(), outer: Some(outer) }
    }

    pub(super) fn get(&self, name: &str) -> Option<ValueId> {
        let mut scope = Some(self);
        while let Some(s) = scope {
            if let Some(&id) = s.names.get(name) {
                return Some(id);
            }
            scope = s.outer;
        }
        None
    }

    /// Whether a name is of this graph's own.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn define(&mut self, name: &str, id: ValueId) -> Result<(), ImportError> {
        match self.names.insert(name.to_owned(), id) {
            None => Ok(()),
            Some(_) => Err(ImportError::Redefined(name.to_owned())),
        }
    }
}

/// Names that the bodies of a node read and do not define.
pub(super) fn captured_names(n: &NodeProto) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for g in n.attribute.iter().filter_map(|a| a.g.as_ref()) {
        free_names(g, &mut |name| {
            if seen.insert(name.to_owned()) {
                found.push(name.to_owned());
            }
        });
    }
    found
}

fn free_names(g: &GraphProto, found: &mut dyn FnMut(&str)) {
    let own: HashSet<&str> = (g.input.iter().map(|i| i.name.as_str()))
        .chain(g.initializer.iter().map(|t| t.name.as_str()))
        .chain(g.node.iter().flat_map(|n| n.output.iter().map(String::as_str)))
        .collect();
    let mut report = |name: &str| {
        if !name.is_empty() && !own.contains(name) {
            found(name);
        }
    };
    for n in &g.node {
        n.input.iter().for_each(|i| report(i));
        for body in n.attribute.iter().filter_map(|a| a.g.as_ref()) {
            free_names(body, &mut report);
        }
    }
    g.output.iter().for_each(|o| report(&o.name));
}

/// Why a node is not unrolled.
pub(super) enum Stop {
    /// It is legal, but not static.
    Refused(String),
    /// The file is wrong.
    Error(ImportError),
}

impl From<ImportError> for Stop {
    fn from(e: ImportError) -> Stop {
        Stop::Error(e)
    }
}

/// One node while others take its place.
pub(super) struct Unroll<'b, 'a, 's> {
    pub(super) b: &'b mut Builder<'a>,
    scope: &'s Scope<'s>,
    /// Its message, where it has graphs.
    proto: Option<&'a NodeProto>,
    pub(super) node: Node,
}

impl<'a> Builder<'a> {
    /// Replaces a node by the nodes that it runs or consists of.
    pub(super) fn unroll(
        &mut self,
        i: usize,
        proto: Option<&'a NodeProto>,
        scope: &Scope<'_>,
    ) -> Result<(), ImportError> {
        let node = self.nodes[i].clone();
        let mut u = Unroll { b: self, scope, proto, node };
        let results = match u.node.op.as_str() {
            op if expand::expands(&u.node.domain, op) => expand::expand(&mut u),
            "If" => u.branch(),
            "Loop" => u.repeat(),
            "Scan" => u.scan(),
            op => Err(Stop::Refused(format!("{op} does not take a graph"))),
        };
        match results.and_then(|r| u.bind(&r)) {
            Ok(()) => Ok(()),
            Err(Stop::Error(e)) => Err(e),
            Err(Stop::Refused(reason)) => {
                self.refuse(i, reason);
                Ok(())
            }
        }
    }
}

impl<'a> Unroll<'_, 'a, '_> {
    pub(super) fn wrong(&self, reason: impl Into<String>) -> Stop {
        Stop::Error(ImportError::Node {
            node: self.node.name.clone(),
            op: self.node.op.clone(),
            reason: reason.into(),
        })
    }

    fn body(&self, attribute: &str) -> Result<&'a GraphProto, Stop> {
        let found = self.proto.and_then(|p| p.attribute.iter().find(|a| a.name == attribute));
        found.and_then(|a| a.g.as_ref()).ok_or_else(|| self.wrong(format!("has no graph `{attribute}`")))
    }

    /// One copy of a body with its inputs bound; its outputs.
    fn copy(&mut self, body: &'a GraphProto, label: &str, bound: &[ValueId]) -> Result<Vec<ValueId>, Stop> {
        if body.input.len() != bound.len() {
            return Err(self.wrong(format!(
                "the body has {} inputs, {} values are given",
                body.input.len(),
                bound.len()
            )));
        }
        let prefix = format!("{}/{label}/", self.node.name);
        let mut scope = Scope::within(self.scope);
        for (info, &id) in body.input.iter().zip(bound) {
            scope.define(&info.name, id)?;
        }
        self.b.declare_literals(body, &mut scope, &prefix)?;
        let first = self.b.nodes.len();
        self.b.declare_nodes(body, &mut scope, &prefix)?;
        let order = self.b.sort(first..self.b.nodes.len())?;
        self.b.settle(order, &scope)?;
        let output = |o: &str| scope.get(o).ok_or_else(|| ImportError::MissingOutput(o.to_owned()));
        Ok(body.output.iter().map(|o| output(&o.name)).collect::<Result<_, _>>()?)
    }

    pub(super) fn constant(&mut self, t: TensorF) -> ValueId {
        let label = format!("{}/constant{}", self.node.name, self.b.labels.len());
        self.b.add_value(label, Known::Constant(Arc::new(t)), None)
    }

    /// A constant that the architecture alone says.
    pub(super) fn structure(&mut self, t: TensorF) -> ValueId {
        let id = self.constant(t);
        self.b.origins.insert(id, Provenance { structural: true, integers: None });
        id
    }

    pub(super) fn known(&self, v: ValueId) -> Option<&TensorF> {
        match &self.b.known[v.index()] {
            Known::Constant(t) => Some(t),
            _ => None,
        }
    }

    /// The value of a constant condition.
    fn condition(&self, v: ValueId) -> Option<bool> {
        self.known(v).filter(|t| t.len() == 1).map(|t| t.at(0) != 0.0)
    }

    pub(super) fn shape(&self, v: ValueId) -> Option<(Vec<usize>, DType)> {
        match &self.b.known[v.index()] {
            Known::Constant(t) => Some((t.shape.clone(), t.dtype)),
            Known::Shape(shape, dtype) => Some((shape.clone(), *dtype)),
            Known::Nothing => None,
        }
    }

    pub(super) fn emit(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attrs: &[(&str, Attr)],
        out: Option<ValueId>,
    ) -> Result<ValueId, Stop> {
        let out = out.unwrap_or_else(|| {
            let label = format!("{}/{op}{}", self.node.name, self.b.labels.len());
            self.b.add_value(label, Known::Nothing, None)
        });
        let mut a = Attrs::default();
        attrs.iter().for_each(|(k, v)| a.set(k, v.clone()));
        self.push(op, inputs.iter().copied().map(Some).collect(), a, out)
    }

    /// An operator some of whose operands may be left out.
    pub(super) fn emit_with(
        &mut self,
        op: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
    ) -> Result<ValueId, Stop> {
        let label = format!("{}/{op}{}", self.node.name, self.b.labels.len());
        let out = self.b.add_value(label, Known::Nothing, None);
        self.push(op, inputs, attrs, out)
    }

    /// An operator with several results.
    pub(super) fn emit_all(
        &mut self,
        op: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        count: usize,
    ) -> Result<Vec<ValueId>, Stop> {
        let label = |u: &Self| format!("{}/{op}{}", u.node.name, u.b.labels.len());
        let mut outputs = Vec::with_capacity(count);
        for _ in 0..count {
            let label = label(self);
            outputs.push(self.b.add_value(label, Known::Nothing, None));
        }
        let node = Node {
            name: self.node.name.clone(),
            op: op.to_owned(),
            domain: String::new(),
            version: VERSION,
            inputs,
            outputs: outputs.iter().copied().map(Some).collect(),
            attrs,
        };
        self.b.emit(node, self.scope)?;
        Ok(outputs)
    }

    fn push(
        &mut self,
        op: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        out: ValueId,
    ) -> Result<ValueId, Stop> {
        let node = Node {
            name: self.node.name.clone(),
            op: op.to_owned(),
            domain: String::new(),
            version: VERSION,
            inputs,
            outputs: vec![Some(out)],
            attrs,
        };
        self.b.emit(node, self.scope)?;
        Ok(out)
    }

    /// The node's own outputs.
    fn bind(&mut self, results: &[ValueId]) -> Result<(), Stop> {
        for (k, out) in self.node.outputs.clone().into_iter().enumerate() {
            let Some(out) = out else { continue };
            let &from = results.get(k).ok_or_else(|| self.wrong(format!("there is no output {k}")))?;
            self.emit("Identity", &[from], &[], Some(out))?;
        }
        Ok(())
    }

    /// `condition ? a : b`.
    fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Result<ValueId, Stop> {
        match (self.shape(a), self.shape(b)) {
            // What could not be settled has been reported.
            (None, _) => Ok(a),
            (_, None) => Ok(b),
            (Some(x), Some(y)) if x != y => Err(Stop::Refused(format!(
                "a condition that depends on the inputs selects between shapes {:?} and {:?}",
                x.0, y.0
            ))),
            _ => self.emit("Where", &[condition, a, b], &[], None),
        }
    }

    fn scalar(&mut self, condition: ValueId) -> Result<ValueId, Stop> {
        match self.shape(condition) {
            Some((shape, DType::Bool)) if shape.iter().product::<usize>() == 1 => {
                let dims = self.constant(TensorF::ints(vec![]));
                self.emit("Reshape", &[condition, dims], &[], None)
            }
            Some((shape, dtype)) => {
                Err(self.wrong(format!("a condition of shape {shape:?} and type {dtype}")))
            }
            None => Ok(condition),
        }
    }

    fn branch(&mut self) -> Result<Vec<ValueId>, Stop> {
        let condition = self.node.input(0).ok_or_else(|| self.wrong("has no condition"))?;
        let (yes, no) = (self.body("then_branch")?, self.body("else_branch")?);
        match self.condition(condition) {
            Some(true) => self.copy(yes, "then", &[]),
            Some(false) => self.copy(no, "else", &[]),
            None => {
                let (inputs, node) = (self.b.inputs_behind(condition), self.node.name.clone());
                let fits = |branch, e| match e {
                    Stop::Error(e) if !inputs.is_empty() => Stop::Error(ImportError::Branch {
                        node: node.clone(),
                        branch,
                        inputs: inputs.clone(),
                        source: Box::new(e),
                    }),
                    other => other,
                };
                let condition = self.scalar(condition)?;
                let a = self.copy(yes, "then", &[]).map_err(|e| fits("then_branch", e))?;
                let b = self.copy(no, "else", &[]).map_err(|e| fits("else_branch", e))?;
                if a.len() != b.len() {
                    return Err(self.wrong(format!("branches with {} and {} outputs", a.len(), b.len())));
                }
                a.into_iter().zip(b).map(|(a, b)| self.select(condition, a, b)).collect()
            }
        }
    }

    fn repeat(&mut self) -> Result<Vec<ValueId>, Stop> {
        let body = self.body("body")?;
        let steps = match self.node.input(0) {
            None => None,
            Some(v) => match self.known(v) {
                Some(t) if t.len() == 1 => t.to_i64().first().map(|&n| n.max(0)),
                Some(_) => return Err(self.wrong("a trip count that is no scalar")),
                None => return Err(Stop::Refused("the trip count depends on the inputs".into())),
            },
        };
        let mut state: Vec<ValueId> = self.node.inputs.iter().skip(2).flatten().copied().collect();
        let carried = state.len();
        // Whether the loop still runs, where that depends on the inputs.
        let mut alive: Option<ValueId> = None;
        let mut runs = true;
        if let Some(v) = self.node.input(1) {
            match self.condition(v) {
                Some(c) => runs = c,
                None => alive = Some(self.scalar(v)?),
            }
        }
        let wanted = self.node.outputs.len().saturating_sub(carried);
        let mut stacked: Vec<Vec<ValueId>> = vec![Vec::new(); wanted];
        let rank = body.input.first().and_then(|i| i.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref());
        let counter_shape = vec![1; rank.map_or(0, |s| s.dim.len()).min(1)];
        let mut step = 0i64;
        while runs && steps.is_none_or(|n| step < n) {
            // A body without nodes would run for ever.
            let limit = self.b.options.limits.nodes;
            if step as usize >= limit {
                return Err(Stop::Error(ImportError::TooManyNodes { len: limit + 1, limit }));
            }
            if steps.is_none() && alive.is_some() {
                return Err(Stop::Refused("how often the loop runs depends on the inputs".into()));
            }
            if wanted > 0 && alive.is_some() {
                return Err(Stop::Refused(
                    "the loop stacks values, and how many depends on the inputs".into(),
                ));
            }
            let counter = TensorF::int(counter_shape.clone(), DType::I64, vec![step]);
            let counter = self.constant(counter.map_err(ImportError::from)?);
            let running = TensorF::int(vec![], DType::Bool, vec![1]).map_err(ImportError::from)?;
            let running = self.constant(running);
            let mut bound = vec![counter, running];
            bound.extend(&state);
            let results = self.copy(body, &step.to_string(), &bound)?;
            if results.len() < 1 + carried + wanted {
                return Err(self.wrong(format!("the body has {} outputs", results.len())));
            }
            for (k, new) in results[1..=carried].iter().enumerate() {
                state[k] = match alive {
                    None => *new,
                    Some(alive) => self.select(alive, *new, state[k])?,
                };
            }
            for (list, v) in stacked.iter_mut().zip(&results[1 + carried..]) {
                list.push(*v);
            }
            match self.condition(results[0]) {
                Some(c) => runs = c,
                None => {
                    let c = self.scalar(results[0])?;
                    alive = Some(match alive {
                        None => c,
                        Some(a) => self.emit("And", &[a, c], &[], None)?,
                    });
                }
            }
            step += 1;
        }
        for list in stacked {
            let v = self.stack(&list, 0)?;
            state.push(v);
        }
        Ok(state)
    }

    /// Values beside one another along a new axis.
    fn stack(&mut self, list: &[ValueId], axis: i64) -> Result<ValueId, Stop> {
        if list.is_empty() {
            return Err(Stop::Refused("values of a loop without steps are stacked".into()));
        }
        let axes = self.constant(TensorF::ints(vec![axis]));
        let parts = list
            .iter()
            .map(|&v| self.emit("Unsqueeze", &[v, axes], &[], None))
            .collect::<Result<Vec<_>, _>>()?;
        self.emit("Concat", &parts, &[("axis", Attr::Int(axis))], None)
    }

    fn scan(&mut self) -> Result<Vec<ValueId>, Stop> {
        if self.node.version < 9 {
            return Err(Stop::Refused("Scan of operator set 8 (with a batch axis)".into()));
        }
        let body = self.body("body")?;
        let attr = |u: &Self, name: &str| -> Result<Vec<i64>, Stop> {
            Ok(u.node.attrs.ints(name).map_err(|e| u.wrong(e))?.unwrap_or(&[]).to_vec())
        };
        let scanned = self.node.attrs.int_or("num_scan_inputs", 0).map_err(|e| self.wrong(e))?;
        let inputs: Vec<ValueId> = self.node.inputs.iter().flatten().copied().collect();
        let scanned = usize::try_from(scanned).ok().filter(|&n| n > 0 && n <= inputs.len());
        let scanned = scanned.ok_or_else(|| self.wrong("num_scan_inputs does not fit the operands"))?;
        let carried = inputs.len() - scanned;
        let (in_axes, in_back) = (attr(self, "scan_input_axes")?, attr(self, "scan_input_directions")?);
        let (out_axes, out_back) = (attr(self, "scan_output_axes")?, attr(self, "scan_output_directions")?);
        let mut axes = Vec::with_capacity(scanned);
        let mut length: Option<usize> = None;
        for (k, &v) in inputs[carried..].iter().enumerate() {
            // An operand that could not be settled has been reported, and then nobody comes here.
            let Some((shape, _)) = self.shape(v) else { return Err(Stop::Refused("unknown shape".into())) };
            let axis = crate::float::normal_axis(in_axes.get(k).copied().unwrap_or(0), shape.len())
                .map_err(|e| self.wrong(e))?;
            if *length.get_or_insert(shape[axis]) != shape[axis] {
                return Err(self.wrong("operands of different lengths"));
            }
            axes.push(axis);
        }
        let length = length.unwrap_or(0);
        let mut state = inputs[..carried].to_vec();
        let wanted = self.node.outputs.len().saturating_sub(carried);
        let mut stacked: Vec<Vec<ValueId>> = vec![Vec::new(); wanted];
        for step in 0..length {
            let mut bound = state.clone();
            for (k, &v) in inputs[carried..].iter().enumerate() {
                let at = if in_back.get(k) == Some(&1) { length - 1 - step } else { step };
                let index = TensorF::int(vec![], DType::I64, vec![at as i64]).map_err(ImportError::from)?;
                let index = self.constant(index);
                bound.push(self.emit("Gather", &[v, index], &[("axis", Attr::Int(axes[k] as i64))], None)?);
            }
            let results = self.copy(body, &step.to_string(), &bound)?;
            if results.len() < carried + wanted {
                return Err(self.wrong(format!("the body has {} outputs", results.len())));
            }
            state.copy_from_slice(&results[..carried]);
            for (list, v) in stacked.iter_mut().zip(&results[carried..]) {
                list.push(*v);
            }
        }
        for (k, mut list) in stacked.into_iter().enumerate() {
            if out_back.get(k) == Some(&1) {
                list.reverse();
            }
            let v = self.stack(&list, out_axes.get(k).copied().unwrap_or(0))?;
            state.push(v);
        }
        Ok(state)
    }
}
