//! Scatters with a reduction, or at computed places, as operators that lowering knows.

use crate::float;
use crate::onnx::{Attr, DType, Node, TensorF, ValueId};

use super::error::QuantError;
use super::rewrite::Graph;

/// Greatest number of pairs of an element and an update.
const MAX_PAIRS: usize = 1 << 20;

/// A scatter that combines: the elements that are hit are gathered, combined with the updates one after the other, and put back.
pub(super) fn by_constant(
    g: &mut Graph,
    n: &Node,
    data: ValueId,
    index: ValueId,
    updates: ValueId,
    reduction: &str,
) -> Result<ValueId, QuantError> {
    let shape = g.shape(data);
    let len: usize = shape.iter().product();
    // Which flat element every update hits: a plain scatter of numbers, seen through its gather.
    let numbers = TensorF::int(shape.clone(), DType::I64, (0..len as i64).collect())
        .map_err(|e| g.fail(e.to_string()))?;
    let numbers = g.constant(numbers);
    let axis = n.attrs.0.get("axis").cloned();
    let gather = if n.op == "ScatterND" { "GatherND" } else { "GatherElements" };
    let attrs: Vec<(&str, Attr)> = axis.into_iter().map(|a| ("axis", a)).collect();
    let targets = g.one(gather, &[numbers, index], &attrs)?;
    let targets =
        g.model.value(targets).constant.clone().ok_or_else(|| g.fail("the index is not constant"))?.to_i64();
    let op = match reduction {
        "add" => "Add",
        "mul" => "Mul",
        "max" => "Max",
        "min" => "Min",
        other => return Err(g.fail(format!("reduction `{other}`"))),
    };
    let flat_data = g.reshape(data, &[len])?;
    let flat_updates = g.reshape(updates, &[targets.len()])?;
    let mut current = flat_data;
    let mut left: Vec<usize> = (0..targets.len()).collect();
    while !left.is_empty() {
        // As many updates as hit different elements.
        let mut hit = std::collections::HashSet::new();
        let (now, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|&k| hit.insert(targets[k]));
        left = later;
        let where_to: Vec<i64> = now.iter().map(|&k| targets[k]).collect();
        let which: Vec<i64> = now.iter().map(|&k| k as i64).collect();
        let (where_to, which) = (g.ints(&where_to), g.ints(&which));
        let old = g.one("Gather", &[current, where_to], &[])?;
        let new = g.one("Gather", &[flat_updates, which], &[])?;
        let combined = g.one(op, &[old, new], &[])?;
        current = g.one("ScatterElements", &[current, where_to, combined], &[])?;
    }
    g.reshape(current, &shape)
}

/// Which element of an axis every update hits, with what is updated.
struct Hits {
    data: ValueId,
    updates: ValueId,
    /// One where an update hits an element, else zero: of the shape of both side by side.
    which: ValueId,
    /// Axis of the updates; the elements are on the next one.
    axis: usize,
}

/// A scatter at computed places; nothing where lowering has it.
///
/// Every pair of an element and an update is looked at: sums of the updates that hit, the greatest of them, or one after the other.
pub(super) fn by_value(
    g: &mut Graph,
    n: &Node,
    data: ValueId,
    index: ValueId,
    updates: ValueId,
    reduction: &str,
) -> Result<Option<ValueId>, QuantError> {
    let (shape, hits) = (g.shape(data), g.shape(index));
    if hits.contains(&0) {
        return Ok(Some(data));
    }
    if n.op == "ScatterND" {
        let Some((&depth, hits)) = hits.split_last() else { return Ok(None) };
        let (Some(indexed), Some(rest)) = (shape.get(..depth), shape.get(depth..)) else { return Ok(None) };
        let count: usize = hits.iter().product();
        let (rows, width) = (indexed.iter().product::<usize>(), rest.iter().product::<usize>());
        let index = row_of(g, index, indexed, count)?;
        if reduction == "add" {
            let which = matches(g, index, data, rows, 0)?;
            let updates = g.reshape(updates, &[count, width])?;
            let sum = g.one("MatMul", &[which, updates], &[])?;
            let sum = g.reshape(sum, &shape)?;
            return g.one("Add", &[data, sum], &[]).map(Some);
        }
        let d = g.reshape(data, &[1, rows, width])?;
        let u = g.reshape(updates, &[count, 1, width])?;
        let which = matches(g, index, data, rows, 1)?;
        let which = g.reshape(which, &[count, rows, 1])?;
        let y = combined(g, &Hits { data: d, updates: u, which, axis: 0 }, reduction)?;
        return g.reshape(y, &shape).map(Some);
    }
    let axis = n.attrs.int_or("axis", 0).map_err(|e| g.fail(e))?;
    let axis = float::normal_axis(axis, shape.len()).map_err(|e| g.fail(e))?;
    let elsewhere = |s: &[usize]| s.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| *d).collect();
    let (whole, part): (Vec<usize>, Vec<usize>) = (elsewhere(&shape), elsewhere(&hits));
    if reduction == "none" && whole == part {
        return Ok(None);
    }
    // What updates do not reach on the other axes stays as it is.
    let mut reached = hits.clone();
    reached[axis] = shape[axis];
    let region = if whole == part { data } else { region(g, data, &reached)? };
    let index = row_of(g, index, &shape[axis..=axis], hits.iter().product())?;
    let index = g.reshape(index, &hits)?;
    let which = matches(g, index, data, shape[axis], axis + 1)?;
    let (before, after) = (g.ints(&[axis as i64]), g.ints(&[axis as i64 + 1]));
    let d = g.one("Unsqueeze", &[region, before], &[])?;
    let u = g.one("Unsqueeze", &[updates, after], &[])?;
    let y = combined(g, &Hits { data: d, updates: u, which, axis }, reduction)?;
    let y = g.reshape(y, &reached)?;
    if whole == part {
        return Ok(Some(y));
    }
    let places = (0..reached.iter().product()).map(|k| {
        let at = crate::onnx::unravel(k, &reached);
        at.iter().zip(&shape).fold(0, |flat, (i, d)| flat * *d as i64 + *i as i64)
    });
    let places: Vec<i64> = places.collect();
    let places = g.ints(&places);
    let (flat, y) = (g.reshape(data, &[shape.iter().product()])?, g.reshape(y, &[reached.iter().product()])?);
    let y = g.one("ScatterElements", &[flat, places, y], &[])?;
    g.reshape(y, &shape).map(Some)
}

/// The first elements of every axis.
fn region(g: &mut Graph, x: ValueId, lengths: &[usize]) -> Result<ValueId, QuantError> {
    let ends: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
    let (starts, ends) = (g.ints(&vec![0; lengths.len()]), g.ints(&ends));
    g.one("Slice", &[x, starts, ends], &[])
}

/// The number of the row that each index means, among rows of these dimensions. Looking every coordinate up keeps it within its dimension.
fn row_of(g: &mut Graph, index: ValueId, dims: &[usize], count: usize) -> Result<ValueId, QuantError> {
    let index = g.reshape(index, &[count, dims.len()])?;
    let mut row: Option<ValueId> = None;
    for (k, &d) in dims.iter().enumerate() {
        let column = g.ints(&[k as i64]);
        let i = g.one("Gather", &[index, column], &[("axis", Attr::Int(1))])?;
        let i = g.reshape(i, &[count])?;
        let stride: usize = dims[k + 1..].iter().product();
        let numbers: Vec<i64> = (0..d as i64).map(|v| v * stride as i64).collect();
        let numbers = g.ints(&numbers);
        let i = g.one("Gather", &[numbers, i], &[])?;
        row = Some(match row {
            None => i,
            Some(r) => g.one("Add", &[r, i], &[])?,
        });
    }
    row.ok_or_else(|| g.fail("an index without coordinates"))
}

/// One where an index is the number of a row, else zero, with the rows on an axis of their own; of the type of `like`.
fn matches(
    g: &mut Graph,
    index: ValueId,
    like: ValueId,
    rows: usize,
    axis: usize,
) -> Result<ValueId, QuantError> {
    let dtype = g.model.value(like).dtype;
    let values = if dtype.is_float() {
        TensorF::float(vec![2], dtype, vec![0.0, 1.0])
    } else {
        TensorF::int(vec![2], dtype, vec![0, 1])
    };
    let values = values.map_err(|e| g.fail(e.to_string()))?;
    let values = g.constant(values);
    let depth = g.ints(&[rows as i64]);
    g.one("OneHot", &[index, depth, values], &[("axis", Attr::Int(axis as i64))])
}

/// The elements after the updates that hit them.
fn combined(g: &mut Graph, h: &Hits, reduction: &str) -> Result<ValueId, QuantError> {
    let updates = g.shape(h.updates);
    let pairs: usize = updates.iter().product::<usize>().saturating_mul(g.shape(h.which)[h.axis + 1]);
    if pairs > MAX_PAIRS {
        return Err(g.fail(format!(
            "a scatter at computed places looks at {pairs} pairs of an element and an update, more than {MAX_PAIRS}"
        )));
    }
    if reduction == "add" {
        let sum = g.one("Mul", &[h.which, h.updates], &[])?;
        let sum = g.reduce("ReduceSum", sum, &[h.axis], true)?;
        return g.one("Add", &[h.data, sum], &[]);
    }
    // One after the other: y + which·(op(y, update) − y).
    let count = updates[h.axis];
    let sizes = g.ints(&vec![1; count]);
    let by = [("axis", Attr::Int(h.axis as i64))];
    let which = g.node("Split", &[h.which, sizes], &by, count)?;
    let updates = g.node("Split", &[h.updates, sizes], &by, count)?;
    let mut y = h.data;
    for (which, update) in which.into_iter().zip(updates) {
        let hit = g.one("Cast", &[which], &[("to", Attr::Int(9))])?;
        let new = match reduction {
            "none" => update,
            "mul" => g.one("Mul", &[y, update], &[])?,
            "max" => g.one("Max", &[y, update], &[])?,
            "min" => g.one("Min", &[y, update], &[])?,
            other => return Err(g.fail(format!("reduction `{other}`"))),
        };
        y = g.one("Where", &[hit, new, y], &[])?;
    }
    Ok(y)
}
