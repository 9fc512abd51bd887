//! Functions of a model: each call becomes the nodes of the function's body, before anything else looks at the file.

use std::collections::HashMap;

use super::error::ImportError;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Greatest depth of functions that call functions: more is a function that calls itself.
const DEPTH: usize = 64;

type Functions = HashMap<(String, String), FunctionProto>;

/// Replaces calls of the model's own functions by what they call.
pub(super) fn inline(model: &mut ModelProto, limit: usize) -> Result<(), ImportError> {
    let functions: Functions = std::mem::take(&mut model.functions)
        .into_iter()
        .map(|f| ((f.domain.clone(), f.name.clone()), f))
        .collect();
    if functions.is_empty() {
        return Ok(());
    }
    for f in functions.values() {
        for o in &f.opset_import {
            match model.opset_import.iter().find(|m| plain(&m.domain) == plain(&o.domain)) {
                Some(m) if m.version != o.version => {
                    return Err(ImportError::Node {
                        node: f.name.clone(),
                        op: f.name.clone(),
                        reason: format!(
                            "the function is written in version {} of the operator set `{}`, the model in {}",
                            o.version, o.domain, m.version
                        ),
                    });
                }
                Some(_) => {}
                None => model.opset_import.push(o.clone()),
            }
        }
    }
    let mut inliner = Inliner { functions, count: 0, limit };
    match &mut model.graph {
        Some(graph) => inliner.graph(graph, 0),
        None => Ok(()),
    }
}

/// Both names of ONNX's own domain are one.
fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

struct Inliner {
    functions: Functions,
    /// Calls so far, and nodes that they have become.
    count: usize,
    limit: usize,
}

impl Inliner {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), ImportError> {
        graph.node = self.nodes(std::mem::take(&mut graph.node), depth)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Result<Vec<NodeProto>, ImportError> {
        let mut out = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            self.count += 1;
            if self.count > self.limit {
                return Err(ImportError::TooManyNodes { len: self.count, limit: self.limit });
            }
            for g in node.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
                self.graph(g, depth)?;
            }
            let Some(function) = self.functions.get(&(node.domain.clone(), node.op_type.clone())).cloned()
            else {
                out.push(node);
                continue;
            };
            if depth >= DEPTH {
                return Err(ImportError::Node {
                    node: node.name.clone(),
                    op: node.op_type.clone(),
                    reason: "the function calls itself".into(),
                });
            }
            let body = self.call(&node, function)?;
            out.extend(self.nodes(body, depth + 1)?);
        }
        Ok(out)
    }

    /// The nodes of a function with the operands, results and attributes of a call.
    fn call(&mut self, node: &NodeProto, function: FunctionProto) -> Result<Vec<NodeProto>, ImportError> {
        let own = [&node.name].into_iter().chain(&node.output).find(|s| !s.is_empty());
        let prefix = format!("{}/{}", own.unwrap_or(&node.op_type), self.count);
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(ImportError::Node {
                node: node.name.clone(),
                op: node.op_type.clone(),
                reason: "more operands or results than the function has".into(),
            });
        }
        let mut names: HashMap<String, String> = HashMap::new();
        for (k, name) in function.input.iter().enumerate() {
            names.insert(name.clone(), node.input.get(k).cloned().unwrap_or_default());
        }
        for name in function.node.iter().flat_map(|n| &n.output).filter(|n| !n.is_empty()) {
            names.insert(name.clone(), format!("{prefix}/{name}"));
        }
        let mut passed = Vec::new();
        for (k, name) in function.output.iter().enumerate() {
            let Some(target) = node.output.get(k).filter(|t| !t.is_empty()) else { continue };
            if function.input.contains(name) || passed.iter().any(|(n, _)| n == name) {
                // A result that is an operand, or that is there already, is copied.
                passed.push((name.clone(), Some(target.clone())));
                continue;
            }
            names.insert(name.clone(), target.clone());
            passed.push((name.clone(), None));
        }
        let mut given: HashMap<String, AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name.clone(), a.clone())).collect();
        given.extend(node.attribute.iter().map(|a| (a.name.clone(), a.clone())));
        let mut body = function.node;
        for n in &mut body {
            let label = [&n.name].into_iter().chain(&n.output).find(|s| !s.is_empty());
            n.name = format!("{prefix}/{}", label.unwrap_or(&n.op_type));
            bind(n, &names, &given);
        }
        let copies = passed.into_iter().filter_map(|(name, target)| Some((name, target?)));
        body.extend(copies.map(|(name, target)| NodeProto {
            input: vec![names.get(&name).cloned().unwrap_or_default()],
            name: format!("{target}/copy"),
            output: vec![target],
            op_type: "Identity".into(),
            ..NodeProto::default()
        }));
        Ok(body)
    }
}

/// Gives a node of a body the names and attributes of a call.
fn bind(n: &mut NodeProto, names: &HashMap<String, String>, given: &HashMap<String, AttributeProto>) {
    for name in n.input.iter_mut().chain(&mut n.output) {
        if let Some(new) = names.get(name.as_str()) {
            name.clone_from(new);
        }
    }
    n.attribute = std::mem::take(&mut n.attribute)
        .into_iter()
        .filter_map(|a| {
            if a.ref_attr_name.is_empty() {
                return Some(a);
            }
            // An attribute that the call leaves out has the operator's own default.
            let value = given.get(&a.ref_attr_name)?.clone();
            Some(AttributeProto { name: a.name, ..value })
        })
        .collect();
    for g in n.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
        let mut inner = names.clone();
        let own = g.input.iter().map(|i| &i.name).chain(g.initializer.iter().map(|t| &t.name));
        let own: Vec<String> = own.chain(g.node.iter().flat_map(|n| &n.output)).cloned().collect();
        own.iter().for_each(|name| {
            inner.remove(name);
        });
        for o in &mut g.output {
            if let Some(new) = inner.get(&o.name) {
                o.name.clone_from(new);
            }
        }
        g.node.iter_mut().for_each(|n| bind(n, &inner, given));
    }
}
