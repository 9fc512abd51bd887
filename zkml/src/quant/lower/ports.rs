//! The names of a program's inputs and outputs are the graph's own.

use std::collections::{HashMap, HashSet};

use crate::qir::{Pick, Role, TensorId};

use super::super::builder::Builder;
use super::super::error::QuantError;

/// Gives every output the name that it has in the file.
///
/// A tensor has one name, so an output that shares its tensor with an input or with another output gets a view of it, which costs nothing.
/// Tensors inside the program give way to outputs of their name.
pub(super) fn name_outputs(b: &mut Builder, names: &[String]) -> Result<(), QuantError> {
    let mut taken: HashSet<TensorId> = b.program.inputs.iter().copied().collect();
    let mut known: HashMap<(TensorId, &str), TensorId> = HashMap::new();
    for at in 0..b.program.outputs.len() {
        let (Some(&id), Some(name)) = (b.program.outputs.get(at), names.get(at)) else { continue };
        if b.program.tensor(id).name == *name {
            taken.insert(id);
            continue;
        }
        let own = match b.program.tensor(id).role {
            _ if known.contains_key(&(id, name.as_str())) => known[&(id, name.as_str())],
            Role::Node if !taken.contains(&id) => id,
            _ => {
                let t = b.program.tensor(id).clone();
                b.layer.clone_from(name);
                match (t.role, t.data) {
                    (Role::Constant, Some(data)) => b.data(t.shape, data.to_vec(), t.scale, t.role)?,
                    _ => {
                        let picks = (0..t.shape.iter().product::<usize>() as u32)
                            .map(|index| Pick::Of { source: 0, index })
                            .collect();
                        b.view(vec![id], picks, t.shape, t.scale)?
                    }
                }
            }
        };
        taken.insert(own);
        known.insert((id, name), own);
        if let Some(slot) = b.program.outputs.get_mut(at) {
            *slot = own;
        }
        if let Some(t) = b.program.tensors.get_mut(own.0 as usize) {
            t.name.clone_from(name);
        }
    }
    // Names are told apart where tensors inside have the name of an output.
    let ports: HashSet<TensorId> = b.program.inputs.iter().chain(&b.program.outputs).copied().collect();
    let mut used: HashSet<String> = ports.iter().map(|&id| b.program.tensor(id).name.clone()).collect();
    for (i, t) in b.program.tensors.iter_mut().enumerate() {
        if ports.contains(&TensorId(i as u32)) || used.insert(t.name.clone()) {
            continue;
        }
        let mut n = 2;
        while !used.insert(format!("{}#{n}", t.name)) {
            n += 1;
        }
        t.name = format!("{}#{n}", t.name);
    }
    Ok(())
}
