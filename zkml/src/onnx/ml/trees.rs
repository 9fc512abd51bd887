//! Tree ensembles.
//!
//! Every distinct comparison of a feature with a threshold is one bit for all trees, beside its complement. A leaf is reached where as many of the bits on its
//! path are set as the path is long, which is one decision per leaf whatever the depth. Of each tree one leaf is left, and the scores are one product
//! of these decisions with the matrix of the leaves' values.

use std::collections::HashMap;

use super::super::control::{Stop, Unroll};
use super::super::model::{Attr, ValueId};
use super::super::tensor::{DType, TensorF};
use super::matrix_len;

/// An inner node: its bit, and its children.
#[derive(Clone, Copy)]
struct Inner {
    bit: usize,
    yes: usize,
    no: usize,
}

/// The trees, as lists over all nodes.
struct Forest {
    /// `None` for leaves.
    nodes: Vec<Option<Inner>>,
    roots: Vec<usize>,
    index: HashMap<(i64, i64), usize>,
    /// Bits by comparison: features and thresholds of each.
    bits: Vec<(&'static str, Vec<(usize, f64)>)>,
}

/// The comparisons, in the order in which their bits stand side by side.
const MODES: [(&str, &str); 6] = [
    ("BRANCH_LEQ", "LessOrEqual"),
    ("BRANCH_LT", "Less"),
    ("BRANCH_GTE", "GreaterOrEqual"),
    ("BRANCH_GT", "Greater"),
    ("BRANCH_EQ", "Equal"),
    ("BRANCH_NEQ", "Unequal"),
];

impl Forest {
    /// Number of leaves, and the length of the longest path.
    fn extent(&self) -> (usize, usize) {
        let (mut leaves, mut depth) = (0, 0);
        let mut open: Vec<(usize, usize)> = self.roots.iter().map(|&r| (r, 0)).collect();
        while let Some((at, length)) = open.pop() {
            depth = depth.max(length);
            match self.nodes[at] {
                Some(inner) => open.extend([(inner.no, length + 1), (inner.yes, length + 1)]),
                None => leaves += 1,
            }
        }
        (leaves, depth)
    }

    /// The leaves, each with the columns of [`compare`] that are set on its path.
    fn paths(&self) -> Vec<(usize, Vec<usize>)> {
        let count: usize = self.bits.iter().map(|(_, list)| list.len()).sum();
        let mut open: Vec<(usize, Vec<usize>)> = self.roots.iter().rev().map(|&r| (r, Vec::new())).collect();
        let mut leaves = Vec::new();
        while let Some((at, path)) = open.pop() {
            let Some(inner) = self.nodes[at] else {
                leaves.push((at, path));
                continue;
            };
            for (next, column) in [(inner.no, inner.bit + count), (inner.yes, inner.bit)] {
                open.push((next, path.iter().copied().chain([column]).collect()));
            }
        }
        leaves
    }
}

/// The trees over features of a type, whose precision thresholds are compared in.
fn forest(u: &Unroll<'_, '_, '_>, features: usize, dtype: DType) -> Result<Forest, Stop> {
    let need = |name: &str| u.integers(name)?.ok_or_else(|| u.wrong(format!("has no `{name}`")));
    let trees = need("nodes_treeids")?;
    let ids = need("nodes_nodeids")?;
    let feature = need("nodes_featureids")?;
    let (yes, no) = (need("nodes_truenodeids")?, need("nodes_falsenodeids")?);
    let modes = u.node.attrs.strs("nodes_modes").map_err(|e| u.wrong(e))?.unwrap_or(&[]);
    let values = u.numbers("nodes_values")?.unwrap_or_default();
    let n = ids.len();
    if [trees.len(), feature.len(), yes.len(), no.len(), modes.len(), values.len()].iter().any(|&l| l != n) {
        return Err(u.wrong("lists of its nodes are of different lengths"));
    }
    let mut index = HashMap::with_capacity(n);
    for (i, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
        if index.insert(key, i).is_some() {
            return Err(u.wrong(format!("node {} of tree {} is given twice", key.1, key.0)));
        }
    }
    // Bits are numbered within their comparison first.
    let mut bits: Vec<(&'static str, Vec<(usize, f64)>)> = MODES.map(|(_, op)| (op, Vec::new())).to_vec();
    let mut known: HashMap<(usize, usize, u64), usize> = HashMap::new();
    let mut raw: Vec<Option<(usize, Inner)>> = Vec::with_capacity(n);
    let mut child = vec![false; n];
    for i in 0..n {
        if modes[i] == "LEAF" {
            raw.push(None);
            continue;
        }
        let mode = MODES.iter().position(|(m, _)| *m == modes[i]);
        let mode = mode.ok_or_else(|| u.wrong(format!("a node of the unknown mode `{}`", modes[i])))?;
        let at = usize::try_from(feature[i]).ok().filter(|&f| f < features);
        let at = at.ok_or_else(|| u.wrong(format!("feature {} of {features}", feature[i])))?;
        let threshold = if dtype == DType::F64 { values[i] } else { DType::F32.round(values[i]) };
        let list = &mut bits[mode].1;
        let bit = *known.entry((mode, at, threshold.to_bits())).or_insert_with(|| {
            list.push((at, threshold));
            list.len() - 1
        });
        let mut follow = |id: i64| {
            let c = index.get(&(trees[i], id)).copied().filter(|&c| !std::mem::replace(&mut child[c], true));
            c.ok_or_else(|| {
                u.wrong(format!("node {id} of tree {} does not exist or has two parents", trees[i]))
            })
        };
        raw.push(Some((mode, Inner { bit, yes: follow(yes[i])?, no: follow(no[i])? })));
    }
    let mut first = vec![0; bits.len()];
    for m in 1..bits.len() {
        first[m] = first[m - 1] + bits[m - 1].1.len();
    }
    let nodes: Vec<Option<Inner>> =
        raw.into_iter().map(|r| r.map(|(mode, i)| Inner { bit: first[mode] + i.bit, ..i })).collect();
    let roots: Vec<usize> = (0..n).filter(|&i| !child[i]).collect();
    let mut counted: Vec<i64> = roots.iter().map(|&r| trees[r]).collect();
    counted.sort_unstable();
    if counted.windows(2).any(|w| w[0] == w[1]) {
        return Err(u.wrong("a tree has two roots"));
    }
    // Nodes of a cycle have parents, and no root leads to them.
    let mut reached = roots.clone();
    let mut k = 0;
    while let Some(&i) = reached.get(k) {
        reached.extend(nodes[i].iter().flat_map(|n| [n.yes, n.no]));
        k += 1;
    }
    if reached.len() != n {
        return Err(u.wrong("a tree has a cycle"));
    }
    Ok(Forest { nodes, roots, index, bits })
}

/// One bit per comparison, then their complements, then a one.
fn compare(u: &mut Unroll<'_, '_, '_>, x: ValueId, f: &Forest) -> Result<Option<ValueId>, Stop> {
    let mut parts = Vec::new();
    for (op, list) in f.bits.iter().filter(|(_, list)| !list.is_empty()) {
        let which: Vec<usize> = list.iter().map(|&(feature, _)| feature).collect();
        let chosen = u.columns(x, &which)?;
        let dtype = u.dims(x)?.1;
        let thresholds = u.reals(&[list.len()], dtype, list.iter().map(|&(_, t)| t).collect())?;
        parts.push(match *op {
            "Unequal" => {
                let same = u.op("Equal", &[chosen, thresholds])?;
                u.op("Not", &[same])?
            }
            op => u.op(op, &[chosen, thresholds])?,
        });
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let bits = u.emit("Concat", &parts, &[("axis", Attr::Int(1))], None)?;
    let bits = u.cast(bits, DType::I64)?;
    let one = TensorF::int(vec![], DType::I64, vec![1]).map_err(|e| u.wrong(e.to_string()))?;
    let one = u.structure(one);
    let not = u.op("Sub", &[one, bits])?;
    let rows = u.dims(x)?.0.first().copied().unwrap_or(1);
    u.b.count(rows, &u.node.name.clone())?;
    let ones = TensorF::int(vec![rows, 1], DType::I64, vec![1; rows]).map_err(|e| u.wrong(e.to_string()))?;
    let ones = u.structure(ones);
    u.concat(&[bits, not, ones], 1).map(Some)
}

/// The sums over the trees of what their leaves hold, `width` per sample: `leaf` names node, column and value.
fn sums(
    u: &mut Unroll<'_, '_, '_>,
    x: ValueId,
    f: &Forest,
    leaf: &[(usize, usize, f64)],
    mut base: Vec<f64>,
) -> Result<ValueId, Stop> {
    let width = base.len();
    let mut held: HashMap<usize, Vec<(usize, f64)>> = HashMap::new();
    for &(node, column, value) in leaf {
        held.entry(node).or_default().push((column, value));
    }
    let (leaves, depth) = f.extent();
    u.b.count(matrix_len(u, leaves, depth)?, &u.node.name.clone())?;
    let (bits, paths) = (compare(u, x, f)?, f.paths());
    let mut rows: Vec<usize> = Vec::new();
    let mut chosen: Vec<Vec<usize>> = Vec::new();
    for (node, path) in paths {
        // Leaves without a value do not matter.
        let Some(values) = held.get(&node) else { continue };
        if path.is_empty() {
            // A tree of one leaf.
            values.iter().for_each(|&(column, value)| base[column] += value);
        } else {
            rows.push(node);
            chosen.push(path);
        }
    }
    let base = u.floats(&[width], base)?;
    let (Some(bits), false) = (bits, chosen.is_empty()) else {
        // Every tree is a leaf: the same for all samples.
        let (shape, _) = u.dims(x)?;
        let dims = u.ints(vec![shape.first().copied().unwrap_or(1) as i64, width as i64]);
        return u.op("Expand", &[base, dims]);
    };
    // Shorter paths are filled up with the column of ones.
    let depth = chosen.iter().map(Vec::len).max().unwrap_or(0);
    let ones = f.bits.iter().map(|(_, list)| 2 * list.len()).sum::<usize>();
    let padded = chosen.iter().flat_map(|path| (0..depth).map(|k| path.get(k).copied().unwrap_or(ones)));
    let padded: Vec<usize> = padded.collect();
    let set = u.columns(bits, &padded)?;
    let samples = u.dims(x)?.0.first().copied().unwrap_or(1);
    let set = u.reshape(set, &[samples, rows.len(), depth])?;
    let axes = u.ints(vec![2]);
    let sum = u.emit("ReduceSum", &[set, axes], &[("keepdims", Attr::Int(0))], None)?;
    let all = TensorF::int(vec![], DType::I64, vec![depth as i64]).map_err(|e| u.wrong(e.to_string()))?;
    let all = u.structure(all);
    let reached = u.op("GreaterOrEqual", &[sum, all])?;
    let paths = u.cast(reached, DType::F32)?;
    let mut values = vec![0f64; matrix_len(u, rows.len(), width)?];
    for (row, node) in values.chunks_exact_mut(width.max(1)).zip(&rows) {
        for &(column, value) in held.get(node).into_iter().flatten() {
            row[column] += value;
        }
    }
    let values = u.floats(&[rows.len(), width], values)?;
    let scores = u.op("MatMul", &[paths, values])?;
    u.op("Add", &[scores, base])
}

/// What the leaves hold, by the lists whose names start with `prefix`.
fn leaves(
    u: &Unroll<'_, '_, '_>,
    f: &Forest,
    prefix: &str,
    width: usize,
) -> Result<Vec<(usize, usize, f64)>, Stop> {
    let list = |name: &str| u.integers(&format!("{prefix}_{name}")).map(Option::unwrap_or_default);
    let (trees, nodes, columns) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let weights = u.numbers(&format!("{prefix}_weights"))?.unwrap_or_default();
    let n = weights.len();
    if [trees.len(), nodes.len(), columns.len()].iter().any(|&l| l != n) {
        return Err(u.wrong("lists of its leaves are of different lengths"));
    }
    (0..n)
        .map(|i| {
            let node = f.index.get(&(trees[i], nodes[i])).copied().filter(|&k| f.nodes[k].is_none());
            let node = node.ok_or_else(|| {
                u.wrong(format!("node {} of tree {} is no leaf, but has a value", nodes[i], trees[i]))
            })?;
            let column = usize::try_from(columns[i]).ok().filter(|&c| c < width);
            let column =
                column.ok_or_else(|| u.wrong(format!("a leaf's column {} of {width}", columns[i])))?;
            Ok((node, column, weights[i]))
        })
        .collect()
}

/// The sum or the average of what the trees say, for each target.
pub(super) fn regressor(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let (x, features) = u.compared(0)?;
    let dtype = u.dims(x)?.1;
    let f = forest(u, features, dtype)?;
    let targets = usize::try_from(u.integer("n_targets", 1)?).ok().filter(|&n| n > 0);
    let targets = targets.ok_or_else(|| u.wrong("`n_targets` is not positive"))?;
    let mut leaf = leaves(u, &f, "target", targets)?;
    match u.text("aggregate_function", "SUM")?.as_str() {
        "SUM" => {}
        "AVERAGE" => leaf.iter_mut().for_each(|l| l.2 /= f.roots.len() as f64),
        other => return Err(Stop::Refused(format!("trees are summed or averaged; this is {other}"))),
    }
    matrix_len(u, targets, 1)?;
    u.b.count(targets, &u.node.name.clone())?;
    let base = u.numbers("base_values")?.unwrap_or_else(|| vec![0.0; targets]);
    if base.len() != targets {
        return Err(u.wrong(format!("{} base values for {targets} targets", base.len())));
    }
    let scores = sums(u, x, &f, &leaf, base)?;
    u.transform(scores)
}

/// Labels and scores. One column for two classes is the score of the second; what the first has then follows ONNX Runtime: 1 − s where no weight is
/// negative, else −s. Of two columns the greater one decides, as the standard says (ONNX Runtime takes the second wherever it is positive).
pub(super) fn classifier(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let (x, features) = u.compared(0)?;
    let labels = u.labels("classlabels_int64s")?;
    let dtype = u.dims(x)?.1;
    let f = forest(u, features, dtype)?;
    let mut leaf = leaves(u, &f, "class", labels.len())?;
    let mut base = u.numbers("base_values")?.unwrap_or_default();
    let single = leaf.first().is_some_and(|first| leaf.iter().all(|l| l.1 == first.1));
    let [no, yes] = labels[..] else {
        if base.is_empty() {
            base = vec![0.0; labels.len()];
        }
        return several(u, x, &f, &leaf, base, &labels);
    };
    if !single {
        if base.is_empty() {
            base = vec![0.0; 2];
        }
        return several(u, x, &f, &leaf, base, &labels);
    }
    if base.len() > 1 {
        return Err(Stop::Refused("two base values for one column of scores".into()));
    }
    let positive = leaf.iter().all(|l| l.2 >= 0.0);
    leaf.iter_mut().for_each(|l| l.1 = 0);
    let score = sums(u, x, &f, &leaf, vec![base.first().copied().unwrap_or(0.0)])?;
    let label = u.above(score, if positive { 0.5 } else { 0.0 }, [no, yes])?;
    let scores = if u.text("post_transform", "NONE")? == "NONE" && positive {
        let one = u.number(1.0)?;
        let other = u.op("Sub", &[one, score])?;
        u.beside(other, score)?
    } else {
        two_sided(u, score)?
    };
    Ok(vec![label, scores])
}

/// −s and s, transformed.
pub(super) fn two_sided(u: &mut Unroll<'_, '_, '_>, score: ValueId) -> Result<ValueId, Stop> {
    if u.text("post_transform", "NONE")? == "LOGISTIC" {
        let p = u.op("Sigmoid", &[score])?;
        let one = u.number(1.0)?;
        let q = u.op("Sub", &[one, p])?;
        return u.beside(q, p);
    }
    let other = u.op("Neg", &[score])?;
    let both = u.beside(other, score)?;
    u.transform(both)
}

fn several(
    u: &mut Unroll<'_, '_, '_>,
    x: ValueId,
    f: &Forest,
    leaf: &[(usize, usize, f64)],
    base: Vec<f64>,
    labels: &[i64],
) -> Result<Vec<ValueId>, Stop> {
    if base.len() != labels.len() || labels.is_empty() {
        return Err(u.wrong(format!("{} base values for {} classes", base.len(), labels.len())));
    }
    let scores = sums(u, x, f, leaf, base)?;
    let label = u.best(scores, labels)?;
    Ok(vec![label, u.transform(scores)?])
}
