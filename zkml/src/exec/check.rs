//! The static side of a program: everything that holds or fails without values.

use std::collections::HashMap;

use crate::onnx::{broadcast, checked_len};
use crate::qir::{Activation, Op, OpKind, Pick, Program, Role, TensorId, Term, Window};

use super::MAX_MAGNITUDE;
use super::bounds::accumulator_bounds;
use super::linear::window_length;

/// What is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A tensor that contradicts itself.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An operation that contradicts its operands.
    #[error("operation `{op}`: {reason}")]
    Op {
        /// Name of the operation.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// An id that no tensor has.
    #[error("`{at}` names tensor {id}, of {count}")]
    Id {
        /// Where.
        at: String,
        /// Id.
        id: u32,
        /// Number of tensors.
        count: usize,
    },
}

/// Verifies shapes, labels, roles, tables and bounds of a whole program.
///
/// # Errors
///
/// The first contradiction, with the name of its tensor or operation.
pub fn check(program: &Program) -> Result<(), CheckError> {
    check_with(program, false)
}

/// [`check`] of a program whose parameters may be somebody else's: those have bounds and no data.
///
/// # Errors
///
/// As [`check`].
pub fn check_open(program: &Program) -> Result<(), CheckError> {
    check_with(program, true)
}

fn check_with(program: &Program, open: bool) -> Result<(), CheckError> {
    let count = program.tensors.len();
    let known = |id: TensorId, at: &str| {
        if (id.0 as usize) < count {
            Ok(())
        } else {
            Err(CheckError::Id { at: at.to_owned(), id: id.0, count })
        }
    };
    let mut defined = vec![false; count];
    for (i, t) in program.tensors.iter().enumerate() {
        let bad = |reason: String| CheckError::Tensor { name: t.name.clone(), reason };
        let len = checked_len(&t.shape).map_err(|e| bad(e.to_string()))?;
        if t.lo > t.hi || t.lo <= -MAX_MAGNITUDE || t.hi >= MAX_MAGNITUDE {
            return Err(bad(format!("bounds [{}, {}] are empty or too wide", t.lo, t.hi)));
        }
        match (t.role, &t.data) {
            (Role::Param | Role::Constant, Some(d)) => {
                if d.len() != len {
                    return Err(bad(format!("{} values for shape {:?}", d.len(), t.shape)));
                }
                if let Some(v) = d.iter().find(|v| !(t.lo..=t.hi).contains(*v)) {
                    return Err(bad(format!("value {v} is outside [{}, {}]", t.lo, t.hi)));
                }
                defined[i] = true;
            }
            (Role::Input | Role::Node, None) => {}
            (Role::Param, None) if open => defined[i] = true,
            (Role::Param | Role::Constant, None) => return Err(bad("has no data".into())),
            (Role::Input | Role::Node, Some(_)) => {
                return Err(bad("has data but is computed or given".into()));
            }
        }
    }
    for &id in &program.inputs {
        known(id, "inputs")?;
        let t = program.tensor(id);
        if t.role != Role::Input || std::mem::replace(&mut defined[id.0 as usize], true) {
            let reason = "is listed as an input but is not one, or twice".into();
            return Err(CheckError::Tensor { name: t.name.clone(), reason });
        }
    }
    for op in &program.ops {
        let bad = |reason: String| CheckError::Op { op: op.name.clone(), reason };
        for id in operands(&op.kind) {
            known(id, &op.name)?;
            if !defined[id.0 as usize] {
                return Err(bad(format!("reads `{}` before it is defined", program.tensor(id).name)));
            }
        }
        for &id in &op.outputs {
            known(id, &op.name)?;
            if program.tensor(id).role != Role::Node || std::mem::replace(&mut defined[id.0 as usize], true) {
                return Err(bad(format!("redefines `{}`", program.tensor(id).name)));
            }
        }
        let outputs = if matches!(op.kind, OpKind::Sort { .. }) { 2 } else { 1 };
        if op.outputs.len() != outputs {
            return Err(bad(format!("has {} outputs instead of {outputs}", op.outputs.len())));
        }
        check_op(program, op).map_err(bad)?;
    }
    for &id in &program.outputs {
        known(id, "outputs")?;
        if !defined[id.0 as usize] {
            let reason = "is an output that nothing defines".into();
            return Err(CheckError::Tensor { name: program.tensor(id).name.clone(), reason });
        }
    }
    Ok(())
}

/// The tensors that an operation reads.
fn operands(kind: &OpKind) -> Vec<TensorId> {
    match kind {
        OpKind::View { sources, .. } => sources.clone(),
        OpKind::Linear { terms, .. } => terms
            .iter()
            .flat_map(|t| match t {
                Term::Einsum { a, b, .. } | Term::Product { a, b, .. } => vec![*a, *b],
                Term::Conv { x, w, .. } => vec![*x, *w],
                Term::SumPool { x, .. } | Term::Sum { x, .. } | Term::Scale { x, .. } => vec![*x],
            })
            .collect(),
        OpKind::Div { num, den } => vec![*num, *den],
        OpKind::Gather { data, index } => vec![*data, *index],
        OpKind::Lookup { x, .. }
        | OpKind::Interpolate { x, .. }
        | OpKind::Step { x }
        | OpKind::Sqrt { x }
        | OpKind::Max { x }
        | OpKind::ArgMax { x, .. }
        | OpKind::Sort { x, .. } => vec![*x],
    }
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check_op(p: &Program, op: &Op) -> Result<(), String> {
    let out = p.tensor(op.outputs[0]);
    let same = |x: TensorId| {
        let t = p.tensor(x);
        require(t.shape == out.shape, || format!("shape {:?} became {:?}", t.shape, out.shape))
    };
    let bounds = |lo: i128, hi: i128| {
        require(lo >= out.lo.into() && hi <= out.hi.into(), || {
            format!("results in [{lo}, {hi}] leave the bounds [{}, {}] of `{}`", out.lo, out.hi, out.name)
        })
    };
    let table = |v: &[i64]| {
        let (lo, hi) = (v.iter().min().copied().unwrap_or(0), v.iter().max().copied().unwrap_or(0));
        bounds(lo.into(), hi.into())
    };
    match &op.kind {
        OpKind::View { sources, picks } => check_view(p, op, sources, picks),
        OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, activation } => {
            check_linear(p, op, terms, *constant, *shift, *pre_lo, *pre_hi, *activation)
        }
        OpKind::Lookup { x, table: t } => {
            same(*x)?;
            let x = p.tensor(*x);
            let len = i128::from(x.hi) - i128::from(x.lo) + 1;
            require(t.len() as i128 == len, || {
                format!("the table has {} entries instead of {len}", t.len())
            })?;
            table(t)
        }
        OpKind::Interpolate { x, step, guard, first_key, values, slopes } => {
            same(*x)?;
            require(*step >= 1 && *step < 62 && *guard < 62 && step + guard <= 62, || {
                format!("step 2^{step} with {guard} guard bits")
            })?;
            let x = p.tensor(*x);
            let (first, last) = (x.lo >> step, x.hi >> step);
            require(first == *first_key, || format!("first key {first_key} instead of {first}"))?;
            let n = (last - first + 1) as usize;
            require(values.len() == n && slopes.len() == n, || {
                format!("{} values and {} slopes for {n} knots", values.len(), slopes.len())
            })?;
            let rem_hi = (1i128 << step) - 1;
            let half = 1i128 << (step + guard - 1);
            for (v, s) in values.iter().zip(slopes.iter()) {
                let base = (i128::from(*v) << step) + half;
                let end = base + i128::from(*s) * rem_hi;
                bounds(base.min(end) >> (step + guard), base.max(end) >> (step + guard))?;
            }
            Ok(())
        }
        OpKind::Step { x } => {
            same(*x)?;
            bounds(0, 1)
        }
        OpKind::Div { num, den } => {
            same(*num)?;
            let (n, d) = (p.tensor(*num), p.tensor(*den));
            require(broadcast(&d.shape, &n.shape).is_ok_and(|s| s == n.shape), || {
                format!("denominator {:?} does not broadcast to {:?}", d.shape, n.shape)
            })?;
            require(d.lo >= 1, || format!("denominator `{}` may be {}", d.name, d.lo))?;
            let q = |a: i64, b: i64| i128::from(a.div_euclid(b));
            let all = [q(n.lo, d.lo), q(n.lo, d.hi), q(n.hi, d.lo), q(n.hi, d.hi)];
            bounds(all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0))
        }
        OpKind::Sqrt { x } => {
            same(*x)?;
            let x = p.tensor(*x);
            require(x.lo >= 0, || format!("`{}` may be {}", x.name, x.lo))?;
            bounds(x.lo.isqrt().into(), x.hi.isqrt().into())
        }
        OpKind::Max { x } | OpKind::ArgMax { x, .. } => {
            let x = p.tensor(*x);
            let Some((&last, rest)) = x.shape.split_last() else { return Err("of a scalar".into()) };
            require(last > 0 && rest == out.shape, || format!("shape {:?} became {:?}", x.shape, out.shape))?;
            if matches!(op.kind, OpKind::Max { .. }) {
                bounds(x.lo.into(), x.hi.into())
            } else {
                bounds(0, last as i128 - 1)
            }
        }
        OpKind::Sort { x, .. } => {
            same(*x)?;
            let (x, index) = (p.tensor(*x), p.tensor(op.outputs[1]));
            let Some(&last) = x.shape.last() else { return Err("of a scalar".into()) };
            require(index.shape == x.shape && index.lo <= 0 && index.hi >= last as i64 - 1, || {
                "the indices do not fit their tensor".into()
            })?;
            bounds(x.lo.into(), x.hi.into())
        }
        OpKind::Gather { data, index } => {
            let (d, i) = (p.tensor(*data), p.tensor(*index));
            let Some((&rows, width)) = d.shape.split_first() else { return Err("from a scalar".into()) };
            let shape: Vec<usize> = i.shape.iter().chain(width).copied().collect();
            require(shape == out.shape, || format!("shape {shape:?} is not {:?}", out.shape))?;
            require(i.lo >= 0 && i.hi < rows as i64, || {
                format!("index in [{}, {}] of {rows} rows", i.lo, i.hi)
            })?;
            bounds(d.lo.into(), d.hi.into())
        }
    }
}

fn check_view(p: &Program, op: &Op, sources: &[TensorId], picks: &[Pick]) -> Result<(), String> {
    let out = p.tensor(op.outputs[0]);
    require(picks.len() == out.len(), || format!("{} picks for shape {:?}", picks.len(), out.shape))?;
    for (k, pick) in picks.iter().enumerate() {
        match *pick {
            Pick::Const(v) => require((out.lo..=out.hi).contains(&v), || format!("constant {v} at {k}"))?,
            Pick::Of { source, index } => {
                let t = sources.get(source as usize).map(|&s| p.tensor(s));
                let t = t.ok_or_else(|| format!("pick {k} is from source {source} of {}", sources.len()))?;
                require((index as usize) < t.len(), || {
                    format!("pick {k} is element {index} of {}", t.len())
                })?;
                require(t.lo >= out.lo && t.hi <= out.hi, || {
                    format!("bounds [{}, {}] do not hold those of `{}`", out.lo, out.hi, t.name)
                })?;
            }
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the fields of one operation, taken apart by its match arm")]
fn check_linear(
    p: &Program,
    op: &Op,
    terms: &[Term],
    constant: i64,
    shift: u32,
    pre_lo: i64,
    pre_hi: i64,
    activation: Activation,
) -> Result<(), String> {
    let out = p.tensor(op.outputs[0]);
    require(shift < 62, || format!("shift {shift}"))?;
    require(pre_lo <= pre_hi && pre_lo > -MAX_MAGNITUDE && pre_hi < MAX_MAGNITUDE, || {
        format!("bounds [{pre_lo}, {pre_hi}] are empty or too wide")
    })?;
    let products = terms.iter().filter(|t| matches!(t, Term::Product { .. })).count();
    let contractions =
        terms.iter().filter(|t| !matches!(t, Term::Product { .. } | Term::Scale { .. })).count();
    require(products == 0 || contractions == 0, || "mixes products with contractions".into())?;
    for t in terms {
        check_term(p, t, &out.shape)?;
    }
    let (lo, hi) = accumulator_bounds(p, terms, constant);
    // A field element stands for one integer only while accumulators are far below the modulus.
    require(lo > -(1 << 120) && hi < 1 << 120, || "the accumulator may exceed 120 bits".into())?;
    if shift == 0 && activation == Activation::None {
        require(lo >= pre_lo.into() && hi <= pre_hi.into(), || {
            format!("nothing enforces [{pre_lo}, {pre_hi}]: the terms reach [{lo}, {hi}]")
        })?;
    }
    let (lo, hi) = match activation {
        Activation::None => (pre_lo, pre_hi),
        Activation::Relu => (pre_lo.max(0), pre_hi.max(0)),
    };
    require(lo >= out.lo && hi <= out.hi, || {
        format!("results in [{lo}, {hi}] leave the bounds [{}, {}]", out.lo, out.hi)
    })
}

fn check_term(p: &Program, term: &Term, out: &[usize]) -> Result<(), String> {
    let shape = |id: &TensorId| p.tensor(*id).shape.as_slice();
    let broadcasts = |id: &TensorId| {
        require(broadcast(shape(id), out).is_ok_and(|s| s == out), || {
            format!("{:?} does not broadcast to {out:?}", shape(id))
        })
    };
    match term {
        Term::Scale { x, .. } => broadcasts(x),
        Term::Product { a, b, .. } => broadcasts(a).and(broadcasts(b)),
        Term::Einsum { a, b, a_axes, b_axes, out_axes, .. } => {
            let mut lengths: HashMap<u8, usize> = HashMap::new();
            for (axes, dims) in [(a_axes, shape(a)), (b_axes, shape(b))] {
                require(axes.len() == dims.len(), || format!("{} labels for shape {dims:?}", axes.len()))?;
                for (i, (&l, &d)) in axes.iter().zip(dims).enumerate() {
                    require(!axes[..i].contains(&l), || format!("label {l} twice in one operand"))?;
                    let first = *lengths.entry(l).or_insert(d);
                    require(first == d, || format!("label {l} has lengths {first} and {d}"))?;
                }
            }
            require(out_axes.len() == out.len(), || format!("{} labels for shape {out:?}", out_axes.len()))?;
            for (i, (l, &d)) in out_axes.iter().zip(out).enumerate() {
                require(!out_axes[..i].contains(l), || format!("label {l} twice in the output"))?;
                require(lengths.get(l) == Some(&d), || format!("output label {l} is not of length {d}"))?;
            }
            Ok(())
        }
        Term::Conv { x, w, window, groups, .. } => {
            let (x, w) = (shape(x), shape(w));
            require(x.len() >= 2 && x.len() == w.len(), || format!("ranks of {x:?} and {w:?}"))?;
            let fits = *groups > 0
                && w[0] % groups == 0
                && w[1].checked_mul(*groups) == Some(x[1])
                && w[2..] == window.kernel[..];
            require(fits, || format!("kernel {w:?} with {groups} groups on {x:?}"))?;
            check_window(&x[2..], window, &[x[0], w[0]], out)
        }
        Term::SumPool { x, window, .. } => {
            let x = shape(x);
            require(x.len() >= 2, || format!("pooling of {x:?}"))?;
            check_window(&x[2..], window, &x[..2], out)
        }
        Term::Sum { x, axes, .. } => {
            let x = shape(x);
            let distinct = axes.iter().enumerate().all(|(i, a)| *a < x.len() && !axes[..i].contains(a));
            require(distinct, || format!("axes {axes:?} of {x:?}"))?;
            let kept = |s: &mut dyn Iterator<Item = usize>| s.filter(|&d| d != 1).collect::<Vec<_>>();
            let left = kept(&mut (0..x.len()).filter(|d| !axes.contains(d)).map(|d| x[d]));
            require(left == kept(&mut out.iter().copied()), || format!("{x:?} over {axes:?} is not {out:?}"))
        }
    }
}

fn check_window(spatial: &[usize], w: &Window, lead: &[usize], out: &[usize]) -> Result<(), String> {
    let n = spatial.len();
    let lists = [&w.kernel, &w.strides, &w.pads_begin, &w.pads_end, &w.dilations];
    require(lists.iter().all(|l| l.len() == n), || format!("window of the wrong rank for {spatial:?}"))?;
    let positive = [&w.kernel, &w.strides, &w.dilations].iter().all(|l| l.iter().all(|&v| v > 0));
    require(positive, || "kernel, stride and dilation must be positive".into())?;
    let mut shape = lead.to_vec();
    for (d, &len) in spatial.iter().enumerate() {
        shape.push(window_length(len, w, d).ok_or_else(|| format!("the window does not fit {spatial:?}"))?);
    }
    require(shape == out, || format!("the window gives {shape:?}, not {out:?}"))
}
