//! The tree ensembles of version 5, whose lists hold inner nodes and leaves apart, as those of version 3.

use super::super::control::{Stop, Unroll};
use super::super::model::{Attr, Attrs, ValueId};
use super::trees;

/// The comparisons by their codes; the last asks whether a value is a member of a set.
const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
const MEMBER: i64 = 6;

/// The lists of the file.
struct Lists {
    features: Vec<i64>,
    modes: Vec<i64>,
    splits: Vec<f64>,
    yes: Vec<i64>,
    no: Vec<i64>,
    yes_leaf: Vec<i64>,
    no_leaf: Vec<i64>,
    members: Vec<Vec<f64>>,
}

/// The lists that version 3 has.
#[derive(Default)]
struct Written {
    trees: Vec<i64>,
    ids: Vec<i64>,
    features: Vec<i64>,
    yes: Vec<i64>,
    no: Vec<i64>,
    values: Vec<f64>,
    modes: Vec<String>,
    leaf_trees: Vec<i64>,
    leaf_ids: Vec<i64>,
    leaf_targets: Vec<i64>,
    leaf_weights: Vec<f64>,
}

/// A place that a node is written for: the node of the file, or a leaf, and how many members of its set have been asked for.
#[derive(Clone, Copy)]
struct Place {
    at: i64,
    leaf: bool,
    member: usize,
    depth: usize,
}

/// The sum or the average of what the trees say, for each target.
pub(super) fn ensemble(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let ints = |u: &Unroll<'_, '_, '_>, name: &str| -> Result<Vec<i64>, Stop> {
        let tensor = u.node.attrs.tensor(name).ok().flatten().map(|t| t.to_i64());
        Ok(match tensor {
            Some(v) => v,
            None => u.integers(name)?.unwrap_or_default(),
        })
    };
    let numbers = |u: &Unroll<'_, '_, '_>, name: &str| -> Result<Vec<f64>, Stop> {
        let tensor = u.node.attrs.tensor(name).map_err(|e| u.wrong(e))?;
        Ok(tensor.map(|t| t.to_f64()).unwrap_or_default())
    };
    let modes = ints(u, "nodes_modes")?;
    let n = modes.len();
    let members = sets(&numbers(u, "membership_values")?);
    if members.len() < modes.iter().filter(|m| **m == MEMBER).count() {
        return Err(u.wrong("fewer sets of members than nodes that ask for one"));
    }
    let mut next = members.into_iter();
    let members = modes.iter().map(|m| if *m == MEMBER { next.next().unwrap_or_default() } else { vec![] });
    let lists = Lists {
        features: ints(u, "nodes_featureids")?,
        members: members.collect(),
        splits: numbers(u, "nodes_splits")?,
        yes: ints(u, "nodes_truenodeids")?,
        no: ints(u, "nodes_falsenodeids")?,
        yes_leaf: ints(u, "nodes_trueleafs")?,
        no_leaf: ints(u, "nodes_falseleafs")?,
        modes,
    };
    let lengths = [&lists.features, &lists.yes, &lists.no, &lists.yes_leaf, &lists.no_leaf].map(Vec::len);
    if lengths.iter().chain([&lists.splits.len()]).any(|&l| l != n) {
        return Err(u.wrong("lists of its nodes are of different lengths"));
    }
    let (weights, targets) = (numbers(u, "leaf_weights")?, ints(u, "leaf_targetids")?);
    if weights.len() != targets.len() {
        return Err(u.wrong("lists of its leaves are of different lengths"));
    }
    let mut written = Written::default();
    for (tree, &root) in ints(u, "tree_roots")?.iter().enumerate() {
        write(u, &lists, (&weights, &targets), tree as i64, root, &mut written)?;
    }
    let function = match u.integer("aggregate_function", 1)? {
        0 => "AVERAGE",
        1 => "SUM",
        2 => "MIN",
        3 => "MAX",
        other => return Err(u.wrong(format!("the unknown aggregation {other}"))),
    };
    let transform = match u.integer("post_transform", 0)? {
        0 => "NONE",
        1 => "SOFTMAX",
        2 => "LOGISTIC",
        3 => "SOFTMAX_ZERO",
        4 => "PROBIT",
        other => return Err(u.wrong(format!("the unknown transformation {other}"))),
    };
    let mut attrs = Attrs::default();
    for (name, list) in [
        ("nodes_treeids", written.trees),
        ("nodes_nodeids", written.ids),
        ("nodes_featureids", written.features),
        ("nodes_truenodeids", written.yes),
        ("nodes_falsenodeids", written.no),
        ("target_treeids", written.leaf_trees),
        ("target_nodeids", written.leaf_ids),
        ("target_ids", written.leaf_targets),
    ] {
        attrs.set(name, Attr::Ints(list));
    }
    attrs.set("nodes_values", Attr::Floats(written.values));
    attrs.set("nodes_modes", Attr::Strs(written.modes));
    attrs.set("target_weights", Attr::Floats(written.leaf_weights));
    attrs.set("n_targets", Attr::Int(u.integer("n_targets", 1)?));
    attrs.set("aggregate_function", Attr::Str(function.into()));
    attrs.set("post_transform", Attr::Str(transform.into()));
    u.node.attrs = attrs;
    trees::regressor(u)
}

/// Sets that are separated by numbers that are none.
fn sets(values: &[f64]) -> Vec<Vec<f64>> {
    let mut out: Vec<Vec<f64>> = values.split(|v| v.is_nan()).map(<[f64]>::to_vec).collect();
    if out.last().is_some_and(Vec::is_empty) {
        out.pop();
    }
    out
}

/// Writes one tree from its root on. A node whose set has several members is one comparison with each, whose subtree where it holds is
/// written once for each.
fn write(
    u: &mut Unroll<'_, '_, '_>,
    lists: &Lists,
    (weights, targets): (&[f64], &[i64]),
    tree: i64,
    root: i64,
    out: &mut Written,
) -> Result<(), Stop> {
    let n = lists.modes.len();
    let most = n + lists.members.iter().map(Vec::len).sum::<usize>();
    let mut next = 1i64;
    let mut open = vec![(0i64, Place { at: root, leaf: false, member: 0, depth: 0 })];
    while let Some((id, place)) = open.pop() {
        if place.depth > most {
            return Err(u.wrong("a tree has a cycle"));
        }
        u.b.count(1, &u.node.name.clone())?;
        let at = usize::try_from(place.at).ok();
        out.trees.push(tree);
        out.ids.push(id);
        let leaf = |out: &mut Written, k: usize| {
            out.features.push(0);
            out.yes.push(0);
            out.no.push(0);
            out.values.push(0.0);
            out.modes.push("LEAF".into());
            out.leaf_trees.push(tree);
            out.leaf_ids.push(id);
            out.leaf_targets.push(targets[k]);
            out.leaf_weights.push(weights[k]);
        };
        if place.leaf {
            let k = at.filter(|&k| k < weights.len());
            leaf(out, k.ok_or_else(|| u.wrong(format!("leaf {} does not exist", place.at)))?);
            continue;
        }
        let k = at.filter(|&k| k < n).ok_or_else(|| u.wrong(format!("node {} does not exist", place.at)))?;
        let depth = place.depth + 1;
        let yes = Place { at: lists.yes[k], leaf: lists.yes_leaf[k] != 0, member: 0, depth };
        let no = Place { at: lists.no[k], leaf: lists.no_leaf[k] != 0, member: 0, depth };
        if yes.leaf && no.leaf && yes.at == no.at {
            // A tree that is a leaf.
            let k = usize::try_from(yes.at).ok().filter(|&k| k < weights.len());
            leaf(out, k.ok_or_else(|| u.wrong(format!("leaf {} does not exist", yes.at)))?);
            continue;
        }
        let (mode, value, other) = match lists.modes[k] {
            MEMBER => {
                let set = &lists.members[k];
                let Some(&value) = set.get(place.member) else {
                    return Err(u.wrong("a node that asks for a member of an empty set"));
                };
                let more = place.member + 1 < set.len();
                let other = if more { Place { member: place.member + 1, depth, ..place } } else { no };
                ("BRANCH_EQ", value, other)
            }
            code => {
                let mode = usize::try_from(code).ok().and_then(|c| MODES.get(c));
                let mode = mode.ok_or_else(|| u.wrong(format!("a node of the unknown mode {code}")))?;
                (*mode, lists.splits[k], no)
            }
        };
        out.features.push(lists.features[k]);
        out.yes.push(next);
        out.no.push(next + 1);
        out.values.push(value);
        out.modes.push(mode.into());
        open.push((next + 1, other));
        open.push((next, yes));
        next += 2;
    }
    Ok(())
}
