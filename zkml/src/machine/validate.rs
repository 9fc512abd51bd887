//! What a program must satisfy before it is lowered, so that nothing after it has to check.

use crate::qir::{Op, OpKind, Pick, Program, Role, Tensor, TensorId, Term, Window};

use super::lower::reads;
use super::plan::PlanError;

/// Magnitudes that identities over the field may reach: log₂, far below the field's 254 bits.
const MAX_BITS: f64 = 240.0;

/// Terms of one sum: an element's variables, three of a term at most, are numbered by 16 bits.
const MAX_TERMS: usize = 1 << 14;

struct Checker<'a> {
    p: &'a Program,
    known: Vec<bool>,
    /// log₂ of a bound of each tensor's magnitude in the circuit, whose ranges may be wider than the tensor's.
    bits: Vec<f64>,
}

fn invalid<T>(op: &str, reason: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::Invalid { op: op.into(), reason: reason.into() })
}

fn log(x: i64) -> f64 {
    (x.unsigned_abs() as f64).max(1.0).log2()
}

/// What a range check of `[lo, hi]` admits: at most one limb more.
fn hull(lo: i64, hi: i64) -> f64 {
    log(lo).max(log(hi)) + 21.0
}

fn within(op: &str, bits: f64) -> Result<(), PlanError> {
    if bits <= MAX_BITS {
        Ok(())
    } else {
        Err(PlanError::Unsupported(format!("{op}: sums of {bits:.0} bits")))
    }
}

/// log₂ of the sum of two magnitudes, and a little more than rounding takes away.
fn add(x: f64, y: f64) -> f64 {
    let (less, more) = if x < y { (x, y) } else { (y, x) };
    more + (1.0 + (less - more).exp2()).log2() + 1e-9
}

impl Checker<'_> {
    fn shape(&self, id: TensorId) -> &[usize] {
        &self.p.tensors[id.0 as usize].shape
    }

    fn ready(&self, op: &str, id: TensorId) -> Result<(), PlanError> {
        match self.known.get(id.0 as usize) {
            Some(true) => Ok(()),
            Some(false) => invalid(op, format!("operand {} is not computed yet", id.0)),
            None => invalid(op, format!("operand {} does not exist", id.0)),
        }
    }

    fn broadcasts(&self, op: &str, id: TensorId, out: &[usize]) -> Result<(), PlanError> {
        let x = self.shape(id);
        let fits =
            x.len() <= out.len() && x.iter().rev().zip(out.iter().rev()).all(|(&x, &o)| x == o || x == 1);
        if fits { Ok(()) } else { invalid(op, format!("shape {x:?} does not broadcast to {out:?}")) }
    }

    fn same_len(&self, op: &str, id: TensorId, out: &[usize]) -> Result<(), PlanError> {
        let (x, o): (usize, usize) = (self.shape(id).iter().product(), out.iter().product());
        if x == o { Ok(()) } else { invalid(op, format!("{x} elements instead of {o}")) }
    }

    fn window(&self, op: &str, input: &[usize], output: &[usize], w: &Window) -> Result<(), PlanError> {
        let rank = input.len();
        let lists = [&w.kernel, &w.strides, &w.pads_begin, &w.pads_end, &w.dilations];
        if rank == 0 || output.len() != rank || lists.iter().any(|l| l.len() != rank) {
            return invalid(op, "window of another rank");
        }
        for d in 0..rank {
            if w.kernel[d] == 0 || w.strides[d] == 0 || w.dilations[d] == 0 || input[d] == 0 {
                return invalid(op, "window with a zero");
            }
            let total = input[d].checked_add(w.pads_begin[d]).and_then(|x| x.checked_add(w.pads_end[d]));
            let reach = (w.kernel[d] - 1).checked_mul(w.dilations[d]).and_then(|x| x.checked_add(1));
            let expected = match (total, reach) {
                (Some(total), Some(reach)) if reach <= total => (total - reach) / w.strides[d] + 1,
                _ => return invalid(op, "window larger than its input"),
            };
            if expected != output[d] {
                return invalid(op, format!("output length {} instead of {expected}", output[d]));
            }
        }
        Ok(())
    }

    fn term(&self, op: &str, term: &Term, out: &[usize]) -> Result<f64, PlanError> {
        let bits = |id: TensorId| self.bits[id.0 as usize];
        match term {
            Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } => {
                self.ready(op, *a)?;
                self.ready(op, *b)?;
                let mut lens = [0usize; 256];
                let mut summed = 1f64;
                for (axes, shape) in [(a_axes, self.shape(*a)), (b_axes, self.shape(*b)), (out_axes, out)] {
                    if axes.len() != shape.len() {
                        return invalid(op, "labels of another rank");
                    }
                    for (i, (&label, &len)) in axes.iter().zip(shape).enumerate() {
                        if axes[..i].contains(&label) {
                            return invalid(op, format!("label {label} twice"));
                        }
                        let known = &mut lens[label as usize];
                        if *known != 0 && *known != len {
                            return invalid(op, format!("label {label} is {known} and {len}"));
                        }
                        if *known == 0 && !out_axes.contains(&label) {
                            summed *= len.max(1) as f64;
                        }
                        *known = len;
                    }
                }
                if out_axes.iter().any(|l| !a_axes.contains(l) && !b_axes.contains(l)) {
                    return invalid(op, "an output label that no operand has");
                }
                Ok(bits(*a) + bits(*b) + log(*coeff) + summed.log2())
            }
            Term::Conv { x, w, window, groups, coeff } => {
                self.ready(op, *x)?;
                self.ready(op, *w)?;
                let (xs, ws) = (self.shape(*x), self.shape(*w));
                if xs.len() < 3
                    || ws.len() != xs.len()
                    || out.len() != xs.len()
                    || ws[2..] != window.kernel[..]
                {
                    return invalid(op, format!("kernel {ws:?} for an input {xs:?}"));
                }
                let fits = *groups > 0
                    && ws[1].checked_mul(*groups) == Some(xs[1])
                    && ws[0] % groups == 0
                    && out[0] == xs[0]
                    && out[1] == ws[0];
                if !fits {
                    return invalid(op, format!("{groups} groups of kernel {ws:?} for {xs:?} to {out:?}"));
                }
                self.window(op, &xs[2..], &out[2..], window)?;
                let taps: usize = ws[1..].iter().product();
                Ok(bits(*x) + bits(*w) + log(*coeff) + (taps.max(1) as f64).log2())
            }
            Term::SumPool { x, window, coeff } => {
                self.ready(op, *x)?;
                let xs = self.shape(*x);
                if xs.len() < 3 || out.len() != xs.len() || out[..2] != xs[..2] {
                    return invalid(op, format!("pooling of {xs:?} to {out:?}"));
                }
                self.window(op, &xs[2..], &out[2..], window)?;
                let taps: usize = window.kernel.iter().product();
                Ok(bits(*x) + log(*coeff) + (taps.max(1) as f64).log2())
            }
            Term::Sum { x, axes, coeff } => {
                self.ready(op, *x)?;
                let xs = self.shape(*x);
                if axes.iter().enumerate().any(|(i, a)| *a >= xs.len() || axes[..i].contains(a)) {
                    return invalid(op, "axes of another rank");
                }
                let kept: usize =
                    xs.iter().enumerate().filter(|(d, _)| !axes.contains(d)).map(|(_, l)| l).product();
                let total: usize = xs.iter().product();
                if kept != out.iter().product::<usize>() {
                    return invalid(op, format!("sum of {xs:?} over {axes:?} to {out:?}"));
                }
                Ok(bits(*x) + log(*coeff) + ((total / kept.max(1)).max(1) as f64).log2())
            }
            Term::Scale { x, coeff } => {
                self.ready(op, *x)?;
                self.broadcasts(op, *x, out)?;
                Ok(bits(*x) + log(*coeff))
            }
            Term::Product { a, b, coeff } => {
                self.ready(op, *a)?;
                self.ready(op, *b)?;
                self.broadcasts(op, *a, out)?;
                self.broadcasts(op, *b, out)?;
                Ok(bits(*a) + bits(*b) + log(*coeff))
            }
        }
    }

    /// Checks an operation; the magnitude of what its outputs may be in the circuit.
    fn op(&self, op: &Op) -> Result<f64, PlanError> {
        let name = op.name.as_str();
        let outputs = if matches!(op.kind, OpKind::Sort { .. }) { 2 } else { 1 };
        if op.outputs.len() != outputs {
            return invalid(name, format!("{} outputs instead of {outputs}", op.outputs.len()));
        }
        for out in &op.outputs {
            match (self.p.tensors.get(out.0 as usize), self.known.get(out.0 as usize)) {
                (Some(t), Some(false)) if t.role == Role::Node => {}
                _ => return invalid(name, format!("output {} is not a fresh node", out.0)),
            }
        }
        let out = &self.p.tensors[op.outputs[0].0 as usize];
        Ok(match &op.kind {
            OpKind::View { sources, picks } => {
                let mut widest = 0f64;
                for &s in sources {
                    self.ready(name, s)?;
                    widest = widest.max(self.bits[s.0 as usize]);
                }
                if picks.len() != out.len() {
                    return invalid(name, format!("{} picks for {} elements", picks.len(), out.len()));
                }
                for pick in picks.iter() {
                    match *pick {
                        Pick::Const(c) => widest = widest.max(log(c)),
                        Pick::Of { source, index } => {
                            let len = sources.get(source as usize).map(|&s| self.p.tensor(s).len());
                            if len.is_none_or(|len| index as usize >= len) {
                                return invalid(name, format!("picks element {index} of source {source}"));
                            }
                        }
                    }
                }
                widest
            }
            OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, activation } => {
                let mut total = log(*constant);
                for term in terms {
                    total = add(total, self.term(name, term, &out.shape)?);
                }
                if terms.len() > MAX_TERMS {
                    return invalid(name, format!("a sum of {} terms; at most {MAX_TERMS}", terms.len()));
                }
                if *shift > 62 || pre_lo > pre_hi {
                    return invalid(name, "shift or bounds out of range");
                }
                within(name, total)?;
                if *shift == 0 && *activation == crate::qir::Activation::None {
                    total
                } else {
                    // The range holds what a unit computes that has no element, as well.
                    let half = if *shift == 0 { 0 } else { 1i128 << (shift - 1) };
                    let idle = (i128::from(*constant) + half) >> shift;
                    hull(*pre_lo, *pre_hi).max(log(idle as i64) + 21.0)
                }
            }
            OpKind::Lookup { x, table } => {
                self.ready(name, *x)?;
                self.same_len(name, *x, &out.shape)?;
                let t = self.p.tensor(*x);
                if i128::from(t.hi) - i128::from(t.lo) + 1 != table.len() as i128 || table.len() > 1 << 24 {
                    return invalid(
                        name,
                        format!("a table of {} entries for [{}, {}]", table.len(), t.lo, t.hi),
                    );
                }
                table.iter().map(|&v| log(v)).fold(0.0, f64::max)
            }
            OpKind::Interpolate { x, step, guard, first_key, values, slopes } => {
                self.ready(name, *x)?;
                self.same_len(name, *x, &out.shape)?;
                let t = self.p.tensor(*x);
                if !(1..=40).contains(step)
                    || *guard > 40
                    || step + guard > 62
                    || values.len() != slopes.len()
                    || values.len() > 1 << 24
                {
                    return invalid(name, "steps or tables out of range");
                }
                let last = i128::from(*first_key) + values.len() as i128 - 1;
                if t.lo >> step < *first_key || i128::from(t.hi >> step) > last {
                    return invalid(name, "a table that does not cover its input");
                }
                hull(out.lo, out.hi)
            }
            OpKind::Step { x } | OpKind::Sqrt { x } => {
                self.ready(name, *x)?;
                self.same_len(name, *x, &out.shape)?;
                if matches!(op.kind, OpKind::Sqrt { .. }) && self.p.tensor(*x).lo < 0 {
                    return invalid(name, "a root of negative numbers");
                }
                hull(0, self.p.tensor(*x).hi)
            }
            OpKind::Div { num, den } => {
                self.ready(name, *num)?;
                self.ready(name, *den)?;
                self.broadcasts(name, *num, &out.shape)?;
                self.broadcasts(name, *den, &out.shape)?;
                if self.p.tensor(*den).lo < 1 {
                    return invalid(name, "a divisor that may be zero or negative");
                }
                hull(out.lo, out.hi)
            }
            OpKind::Max { x } | OpKind::ArgMax { x, .. } => {
                self.ready(name, *x)?;
                let xs = self.shape(*x);
                let Some((&n, rows)) = xs.split_last() else { return invalid(name, "maximum of a scalar") };
                if n == 0 || rows.iter().product::<usize>() != out.len() {
                    return invalid(name, format!("maximum of {xs:?} to {:?}", out.shape));
                }
                // An element of x, or the index of one.
                self.bits[x.0 as usize].max((n as f64).log2())
            }
            OpKind::Sort { x, .. } => {
                self.ready(name, *x)?;
                for &o in &op.outputs {
                    self.same_len(name, o, self.shape(*x))?;
                }
                let n = self.shape(*x).last().copied().unwrap_or(0);
                if n == 0
                    || log(self.p.tensor(*x).lo).max(log(self.p.tensor(*x).hi)) + (n as f64).log2() > 60.0
                {
                    return invalid(name, "rows or values too wide to sort");
                }
                within(name, self.bits[x.0 as usize] + (n as f64).log2() + 2.0)?;
                hull(self.p.tensor(*x).lo, self.p.tensor(*x).hi).max((n as f64).log2() + 1.0)
            }
            OpKind::Gather { data, index } => {
                self.ready(name, *data)?;
                self.ready(name, *index)?;
                let (ds, t) = (self.shape(*data), self.p.tensor(*index));
                let Some((&rows, rest)) = ds.split_first() else {
                    return invalid(name, "gather from a scalar");
                };
                let width: usize = rest.iter().product();
                if t.lo < 0 || t.hi >= rows as i64 || t.len() * width != out.len() {
                    return invalid(name, format!("gather from {ds:?} by [{}, {}]", t.lo, t.hi));
                }
                within(name, self.bits[index.0 as usize] + (width.max(1) as f64).log2() + 1.0)?;
                self.bits[data.0 as usize]
            }
        })
    }
}

/// Which tensors products and windows contract or gathers read, as they are or through views: of the weights only those may be in the store, for what any
/// other term reads is wired.
fn folded(p: &Program) -> Vec<bool> {
    let mut folded = vec![false; p.tensors.len()];
    let mut mark = |id: &TensorId| folded.get_mut(id.0 as usize).map_or((), |folded| *folded = true);
    for op in &p.ops {
        let terms = match &op.kind {
            OpKind::Linear { terms, .. } => terms,
            OpKind::Gather { data, .. } => {
                mark(data);
                continue;
            }
            _ => continue,
        };
        for term in terms {
            match term {
                Term::Einsum { a, b, .. } => [a, b].into_iter().for_each(&mut mark),
                Term::Conv { x, w, .. } => [x, w].into_iter().for_each(&mut mark),
                Term::SumPool { x, .. } => mark(x),
                Term::Scale { .. } | Term::Sum { .. } | Term::Product { .. } => {}
            }
        }
    }
    for op in p.ops.iter().rev() {
        if let (OpKind::View { sources, .. }, [out]) = (&op.kind, &op.outputs[..])
            && folded.get(out.0 as usize).is_some_and(|folded| *folded)
        {
            for id in sources {
                if let Some(folded) = folded.get_mut(id.0 as usize) {
                    *folded = true;
                }
            }
        }
    }
    folded
}

/// Checks a program.
pub(crate) fn validate(p: &Program) -> Result<(), PlanError> {
    if p.tensors.len() > 1 << 24 || p.ops.len() > 1 << 24 {
        return invalid("program", "too many tensors or operations");
    }
    // The store's columns admit what its widest weight needs.
    let folded = folded(p);
    let stored = |(t, folded): (&Tensor, bool)| t.role == Role::Param && folded;
    let all = || p.tensors.iter().zip(folded.iter().copied());
    let (lo, hi) = all().filter(|t| stored(*t)).fold((0, 0), |(lo, hi), (t, _)| (t.lo.min(lo), t.hi.max(hi)));
    let own = |t| if stored(t) { hull(lo, hi) } else { hull(t.0.lo, t.0.hi) };
    let mut c = Checker { p, known: vec![false; p.tensors.len()], bits: all().map(own).collect() };
    // A constant of no elements has no cells, and nothing may read it.
    let mut read = vec![false; p.tensors.len()];
    for id in p.ops.iter().flat_map(|op| reads(&op.kind)) {
        if let Some(read) = read.get_mut(id.0 as usize) {
            *read = true;
        }
    }
    for (i, t) in p.tensors.iter().enumerate() {
        let nothing = t.role == Role::Constant && t.shape.contains(&0) && !read[i];
        let len = t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if (!nothing && len.is_none_or(|n| n == 0 || n > 1 << 30)) || t.lo > t.hi {
            return invalid(&t.name, "shape or bounds out of range");
        }
        c.known[i] = t.role != Role::Node;
        match (&t.data, t.role) {
            // A verifier's circuit has no parameters: the layout looks at their bounds alone.
            (None, Role::Input | Role::Node | Role::Param) => {}
            (Some(data), Role::Param | Role::Constant) => {
                if data.len() != t.len() || data.iter().any(|v| !(t.lo..=t.hi).contains(v)) {
                    return invalid(&t.name, "data of another length or outside its bounds");
                }
            }
            _ => return invalid(&t.name, "data that its role does not have"),
        }
    }
    for (i, &id) in p.inputs.iter().enumerate() {
        if p.inputs[..i].contains(&id) {
            return invalid("program", format!("input {} twice", id.0));
        }
        if p.tensors.get(id.0 as usize).is_none_or(|t| t.role != Role::Input) {
            return invalid("program", format!("input {} is not an input", id.0));
        }
    }
    for (i, t) in p.tensors.iter().enumerate() {
        if t.role == Role::Input && !p.inputs.contains(&TensorId(i as u32)) {
            return invalid(&t.name, "an input that the program does not list");
        }
    }
    for op in &p.ops {
        let bits = c.op(op)?;
        for out in &op.outputs {
            c.known[out.0 as usize] = true;
            c.bits[out.0 as usize] = bits;
        }
    }
    if p.outputs.is_empty() {
        return invalid("program", "no outputs");
    }
    for &id in &p.outputs {
        c.ready("program", id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qir::Activation;

    fn tensor(name: &str, (lo, hi): (i64, i64), role: Role, data: Option<Vec<i64>>) -> Tensor {
        Tensor { name: name.into(), shape: vec![1, 1], lo, hi, scale: 0, role, data: data.map(Into::into) }
    }

    fn linear(term: Term, bound: i64) -> OpKind {
        let (constant, shift, activation) = (0, 0, Activation::None);
        OpKind::Linear { terms: vec![term], constant, shift, pre_lo: -bound, pre_hi: bound, activation }
    }

    /// A program of one input, some weights, and operations that each make one tensor of their last.
    fn chain(bounds: (i64, i64), weights: &[i64], kinds: impl IntoIterator<Item = Box<Make>>) -> Program {
        let mut p = Program { tensors: vec![tensor("x", bounds, Role::Input, None)], ..Program::default() };
        p.inputs.push(TensorId(0));
        p.tensors.extend(weights.iter().map(|&w| tensor("w", (-w, w), Role::Param, Some(vec![w]))));
        let mut last = TensorId(0);
        for make in kinds {
            let (kind, shape, bound) = make(last);
            let mut out = tensor("y", (-bound, bound), Role::Node, None);
            out.shape = shape;
            p.tensors.push(out);
            last = TensorId(p.tensors.len() as u32 - 1);
            p.ops.push(Op { name: format!("op{}", last.0), kind, outputs: vec![last] });
        }
        p.outputs.push(last);
        p
    }

    type Make = dyn Fn(TensorId) -> (OpKind, Vec<usize>, i64);

    fn square() -> Box<Make> {
        Box::new(|x| (linear(Term::Product { a: x, b: x, coeff: 1 }, 1), vec![1, 1], 1))
    }

    fn times(w: u32, bound: i64) -> Box<Make> {
        let term = move |a| Term::Einsum {
            a,
            b: TensorId(w),
            a_axes: vec![0, 2],
            b_axes: vec![2, 1],
            out_axes: vec![0, 1],
            coeff: 1,
        };
        Box::new(move |x| (linear(term(x), bound), vec![1, 1], bound))
    }

    fn with(w: u32) -> Box<Make> {
        let terms = move |x| {
            vec![Term::Product { a: x, b: TensorId(w), coeff: 1 }, Term::Scale { x: TensorId(w), coeff: 1 }]
        };
        let (constant, shift, activation, pre_lo, pre_hi) = (0, 0, Activation::None, -1, 1);
        Box::new(move |x| {
            let terms = terms(x);
            (OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, activation }, vec![1, 1], 1)
        })
    }

    fn maximum() -> [Box<Make>; 2] {
        let kind = |x| OpKind::Max { x };
        let picks = || vec![Pick::Of { source: 0, index: 0 }].into();
        [
            Box::new(move |x| (kind(x), vec![1], 1)),
            Box::new(move |x| (OpKind::View { sources: vec![x], picks: picks() }, vec![1, 1], 1)),
        ]
    }

    /// An input of one bit may be one limb in the circuit, and its powers are as great as they are, whatever the bounds of the tensors that hold them.
    #[test]
    fn a_maximum_is_as_great_as_what_it_is_of() {
        let squares = |n: usize| (0..n).map(|_| square());
        validate(&chain((0, 1), &[], squares(3))).unwrap();
        assert!(validate(&chain((0, 1), &[], squares(4))).is_err());
        let split = squares(2).chain(maximum()).chain(squares(1));
        validate(&chain((0, 1), &[], split)).unwrap();
        let split = squares(2).chain(maximum()).chain(squares(2));
        assert!(validate(&chain((0, 1), &[], split)).is_err());
    }

    /// A small weight beside a great one has the great one's range in the store.
    #[test]
    fn a_weight_may_be_as_great_as_the_greatest() {
        let uses = |n: usize| (0..n).map(|_| times(1, 1));
        validate(&chain((-1, 1), &[1, 1], uses(4))).unwrap();
        let beside = |n| uses(n).chain([times(2, 1 << 60)]);
        validate(&chain((-1, 1), &[1, 1 << 60], beside(1))).unwrap();
        assert!(validate(&chain((-1, 1), &[1, 1 << 60], beside(3))).is_err());
        // A factor or an addend is no weight of the store, and as great as its own range.
        let beside = |n: usize| (0..n).map(|_| times(1, 1)).chain([with(2)]);
        validate(&chain((-1, 1), &[1, 1 << 60], beside(4))).unwrap();
    }

    /// A range is that of the sum before the activation, and of a unit that has none.
    #[test]
    fn a_sum_is_as_great_as_its_range() {
        let sum = |constant, pre: i64| -> Box<Make> {
            Box::new(move |x| {
                let terms = vec![Term::Scale { x, coeff: 1 }];
                let activation = Activation::Relu;
                let kind =
                    OpKind::Linear { terms, constant, shift: 0, pre_lo: -pre, pre_hi: pre, activation };
                (kind, vec![1, 1], 1)
            })
        };
        for (constant, pre, fits) in [(0, 1, true), (0, 1 << 60, false), (1 << 60, 1, false)] {
            let p = chain((0, 1), &[], [sum(constant, pre), square(), square()]);
            assert_eq!(validate(&p).is_ok(), fits, "{constant} {pre}");
        }
    }
}
