//! From a program to strips, sweeps and scalar rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::qir::{Activation, OpKind, Pick, Program, Role, TensorId, Term};

use super::commitment::Committed;
use super::contraction::{Axis, strides};
use super::fold::{Exps, Folder};
use super::gather::Rows;
use super::identity::Wanted;
use super::lowered::{Accumulate, Home, Lowered, Operand, Src, Strip, Totals, Virtual};
use super::plan::PlanError;
use super::poseidon::gadget::Hashed;
use super::poseidon::width;
use super::store::Stored;
use super::table::Function;
use super::template::{Admitted, Affine, Spec};
use super::visibility::{Exposure, Vis};

/// A Linear whose accumulators are folded.
pub(super) struct Task {
    pub(super) op: u32,
    pub(super) terms: Vec<u32>,
    pub(super) strip: u32,
    pub(super) out: u32,
}

/// A Sort, whose keys are a permutation of those of its input.
pub(super) struct Sorting {
    pub(super) op: u32,
    pub(super) x: Arc<[Src]>,
    pub(super) keys: u32,
    pub(super) n: usize,
    pub(super) bits: u32,
    pub(super) descending: bool,
}

pub(super) struct Lowerer<'a> {
    pub(super) p: &'a Program,
    pub(super) exposure: &'a Exposure,
    units: u32,
    pub(super) strips: Vec<Strip>,
    pub(super) homes: Vec<Home>,
    virtuals: Vec<Virtual>,
    lens: Vec<usize>,
    functions: Vec<Function>,
    known_functions: HashMap<Function, u32>,
    /// Operation that computes each tensor.
    producers: HashMap<TensorId, u32>,
    pub(super) dynamics: u32,
    pub(super) tasks: Vec<Task>,
    /// Tensors that are weights, or views of weights.
    weighty: Vec<bool>,
    /// Tensors without cells: sums that only one table reads.
    inlined: Vec<bool>,
    pub(super) sorts: Vec<Sorting>,
    /// Tables whose rows are looked up whole.
    pub(super) row_tables: Vec<Rows>,
    /// Bits of the greatest table that is worth its rows for nothing but the range of an input.
    input_table: u32,
}

/// Index into `x` of every element of `out`, by NumPy's broadcasting.
pub(crate) fn broadcast(out: &[usize], x: &[usize]) -> Vec<u32> {
    let steps = strides(x);
    let missing = out.len() - x.len().min(out.len());
    let aligned: Vec<[usize; 1]> = (0..out.len())
        .map(|d| match d.checked_sub(missing) {
            Some(d) if x[d] != 1 => [steps[d]],
            _ => [0],
        })
        .collect();
    super::contraction::offsets(out, &aligned).into_iter().map(|[i]| i as u32).collect()
}

impl<'a> Lowerer<'a> {
    fn len(&self, tensor: u32) -> usize {
        self.lens[tensor as usize]
    }

    pub(super) fn sources(&self, id: TensorId) -> Vec<Src> {
        self.sources_of(id.0)
    }

    fn sources_of(&self, tensor: u32) -> Vec<Src> {
        match &self.homes[tensor as usize] {
            Home::Alias(sources) => sources.to_vec(),
            _ => (0..self.len(tensor) as u32).map(|index| Src::Cell { tensor, index }).collect(),
        }
    }

    fn spread(&self, id: TensorId, shape: &[usize]) -> Operand {
        let all = self.sources(id);
        let map = broadcast(shape, &self.p.tensor(id).shape);
        Operand::Each(map.into_iter().map(|i| all[i as usize]).collect())
    }

    fn virtual_tensor(&mut self, v: Virtual, len: usize) -> u32 {
        self.virtuals.push(v);
        self.homes.push(Home::None);
        self.lens.push(len);
        (self.homes.len() - 1) as u32
    }

    pub(super) fn strip(
        &mut self,
        op: Option<u32>,
        name: &str,
        spec: Spec,
        operands: Vec<Operand>,
        outs: Vec<u32>,
        n: usize,
    ) -> u32 {
        let id = self.strips.len() as u32;
        for (i, &out) in outs.iter().enumerate() {
            self.homes[out as usize] = Home::Strip { strip: id, out: i as u16 };
        }
        self.strips.push(Strip {
            op,
            name: name.into(),
            spec,
            operands,
            outs,
            elements: n as u32,
            slots: (0..n as u32).collect(),
            span: n.next_multiple_of(self.units as usize) as u32,
            accumulate: None,
        });
        id
    }

    pub(super) fn import(&mut self, tensor: u32, vis: Vis) {
        let t = &self.p.tensors[tensor as usize];
        let name = t.name.clone();
        let admitted = match (t.role, vis) {
            // The verifier compares public inputs with their bounds.
            (Role::Input, Vis::Private | Vis::Hashed | Vis::Committed) => {
                Admitted::Bounds { table: self.input_table }
            }
            (_, Vis::Hashed) => Admitted::Hull,
            _ => Admitted::Limbs,
        };
        let spec = Spec::Import { lo: t.lo, hi: t.hi, admitted };
        let n = t.len();
        self.strip(None, &name, spec, vec![Operand::Own(tensor)], vec![tensor], n);
    }

    /// The operand of a table: its cells, or those of the sum that it is.
    fn argument(&self, x: TensorId) -> (Affine, Vec<Operand>) {
        let producer = self.producers.get(&x).and_then(|&at| self.p.ops.get(at as usize));
        match producer.map(|op| &op.kind) {
            Some(OpKind::Linear { terms, constant, .. }) if self.inlined[x.0 as usize] => {
                let shape = &self.p.tensor(x).shape;
                let scaled = terms.iter().filter_map(|t| match t {
                    Term::Scale { x, coeff } => Some((*coeff, self.spread(*x, shape))),
                    _ => None,
                });
                let (scales, operands) = scaled.unzip();
                (Affine { scales, constant: *constant }, operands)
            }
            _ => (Affine::cell(), vec![Operand::Each(self.sources(x).into())]),
        }
    }

    /// Checks that every element of a tensor is within the hull of its bounds, exactly.
    fn bound(&mut self, id: TensorId) {
        let t = self.p.tensor(id);
        let (name, n) = (t.name.clone(), t.len());
        let spec = Spec::Bound { lo: t.lo, hi: t.hi };
        let operands = vec![Operand::Each(self.sources(id).into())];
        self.strip(None, &name, spec, operands, vec![], n);
    }

    fn op(&mut self, at: u32) -> Result<(), PlanError> {
        let op = &self.p.ops[at as usize];
        let out = op.outputs[0].0;
        if self.inlined[out as usize] {
            return Ok(());
        }
        let t = &self.p.tensors[out as usize];
        let (n, shape) = (t.len(), t.shape.clone());
        match &op.kind {
            OpKind::View { sources, picks } => {
                let all: Vec<Vec<Src>> = sources.iter().map(|&s| self.sources(s)).collect();
                let picked = picks.iter().map(|pick| match *pick {
                    Pick::Of { source, index } => all[source as usize][index as usize],
                    Pick::Const(c) => Src::Const(c),
                });
                self.homes[out as usize] = Home::Alias(picked.collect());
            }
            OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, activation } => {
                let folded = |t: &Term| !matches!(t, Term::Scale { .. } | Term::Product { .. });
                let mut big: Vec<u32> =
                    (0..terms.len() as u32).filter(|&i| folded(&terms[i as usize])).collect();
                let moves = |i: &u32| matches!(terms[*i as usize], Term::Conv { .. } | Term::SumPool { .. });
                let mut operands = Vec::new();
                let mut scales = Vec::new();
                if big.len() > 1 && big.iter().any(moves) {
                    // Convolutions have monomials of their own: all but the first term become tensors.
                    for term in big.split_off(1) {
                        let part = self.virtual_tensor(Virtual::Term { op: at, term }, n);
                        let spec = Spec::Linear {
                            swept: true,
                            scales: vec![],
                            products: vec![],
                            constant: 0,
                            shift: 0,
                            pre_lo: 0,
                            pre_hi: 0,
                            relu: false,
                        };
                        let strip = self.strip(Some(at), &op.name, spec, vec![], vec![part], n);
                        self.strips[strip as usize].accumulate =
                            Some(Accumulate { op: at, terms: vec![term] });
                        self.tasks.push(Task { op: at, terms: vec![term], strip, out });
                        operands.push(Operand::Own(part));
                        scales.push(1);
                    }
                }
                let chosen: Vec<&Term> = big.iter().map(|&i| &terms[i as usize]).collect();
                let axes = self.axes(&chosen, &shape);
                for (i, term) in terms.iter().enumerate() {
                    if let Term::Scale { x, coeff } = term {
                        if !big.is_empty() && is_bias(&axes, &shape, &self.p.tensor(*x).shape) {
                            // Constant over a run of slots: folded once, not copied to every element.
                            big.push(i as u32);
                        } else {
                            operands.push(self.spread(*x, &shape));
                            scales.push(*coeff);
                        }
                    }
                }
                let mut products = Vec::new();
                for term in terms {
                    if let Term::Product { a, b, coeff } = term {
                        operands.push(self.spread(*a, &shape));
                        operands.push(self.spread(*b, &shape));
                        products.push(*coeff);
                    }
                }
                // Sums come first among the operands.
                let factors = operands.split_off(scales.len());
                let (mut operands, scales) = self.few(at, n, operands, scales);
                operands.extend(factors);
                let relu = *activation == Activation::Relu;
                // Nothing checks the range of a sum that is not rounded: those of all ranges share their template.
                let (pre_lo, pre_hi) = if *shift > 0 || relu { (*pre_lo, *pre_hi) } else { (0, 0) };
                let spec = Spec::Linear {
                    swept: !big.is_empty(),
                    scales,
                    products,
                    constant: *constant,
                    shift: *shift,
                    pre_lo,
                    pre_hi,
                    relu,
                };
                let strip = self.strip(Some(at), &op.name, spec, operands, vec![out], n);
                if !big.is_empty() {
                    self.strips[strip as usize].accumulate = Some(Accumulate { op: at, terms: big.clone() });
                    self.tasks.push(Task { op: at, terms: big, strip, out });
                }
            }
            OpKind::Lookup { x, table } => {
                let first = self.p.tensor(*x).lo;
                let table = self.function(Function { first, values: table.clone(), second: None });
                let (x, operands) = self.argument(*x);
                self.strip(Some(at), &op.name, Spec::Lookup { x, table }, operands, vec![out], n);
            }
            OpKind::Interpolate { x, step, guard, first_key, values, slopes } => {
                let table = self.function(Function {
                    first: *first_key,
                    values: values.clone(),
                    second: Some(slopes.clone()),
                });
                let (x, operands) = self.argument(*x);
                let spec = Spec::Interpolate { x, table, step: *step, guard: *guard, lo: t.lo, hi: t.hi };
                self.strip(Some(at), &op.name, spec, operands, vec![out], n);
            }
            OpKind::Step { x } => {
                let (lo, hi) = (self.p.tensor(*x).lo, self.p.tensor(*x).hi);
                let (x, operands) = self.argument(*x);
                self.strip(Some(at), &op.name, Spec::Step { x, lo, hi }, operands, vec![out], n);
            }
            OpKind::Div { num, den } => {
                let spec = Spec::Div { q_lo: t.lo, q_hi: t.hi, den_hi: self.p.tensor(*den).hi };
                let operands = vec![self.spread(*num, &shape), self.spread(*den, &shape)];
                self.strip(Some(at), &op.name, spec, operands, vec![out], n);
            }
            OpKind::Sqrt { x } => {
                let operand = Operand::Each(self.sources(*x).into());
                let spec = Spec::Sqrt { hi: self.p.tensor(*x).hi };
                self.strip(Some(at), &op.name, spec, vec![operand], vec![out], n);
            }
            OpKind::Max { x } => self.maximum(at, *x, None),
            OpKind::ArgMax { x, last } => self.maximum(at, *x, Some(*last)),
            OpKind::Sort { x, descending } => self.sort(at, *x, *descending),
            OpKind::Gather { data, index } => self.gather(at, *data, *index),
        }
        Ok(())
    }

    /// A sum of many operands as one of few, the first of which is the sum of those before: the work on a template grows with the square of its
    /// operands.
    fn few(
        &mut self,
        at: u32,
        n: usize,
        mut operands: Vec<Operand>,
        mut scales: Vec<i64>,
    ) -> (Vec<Operand>, Vec<i64>) {
        while operands.len() > MANY {
            let (rest, rest_scales) = (operands.split_off(MANY), scales.split_off(MANY));
            let parts = scales.iter().copied().zip(operands.iter().cloned()).collect();
            let part = self.virtual_tensor(Virtual::Sum { op: at, parts }, n);
            let spec = Spec::Linear {
                swept: false,
                scales,
                products: vec![],
                constant: 0,
                shift: 0,
                pre_lo: 0,
                pre_hi: 0,
                relu: false,
            };
            let name = self.p.ops[at as usize].name.clone();
            self.strip(Some(at), &name, spec, operands, vec![part], n);
            operands = [Operand::Own(part)].into_iter().chain(rest).collect();
            scales = [1].into_iter().chain(rest_scales).collect();
        }
        (operands, scales)
    }

    pub(super) fn function(&mut self, f: Function) -> u32 {
        let next = self.functions.len() as u32;
        let at = *self.known_functions.entry(f.clone()).or_insert(next);
        if at == next {
            self.functions.push(f);
        }
        at
    }

    /// A running maximum along each row; `index` asks for the index of it, and tells whether ties go to the last.
    fn maximum(&mut self, at: u32, x: TensorId, index: Option<bool>) {
        let op = &self.p.ops[at as usize];
        let out = op.outputs[0].0;
        let t = self.p.tensor(x);
        let n = t.shape.last().copied().unwrap_or(1);
        let rows = t.len() / n.max(1);
        let all: Arc<[Src]> = self.sources(x).into();
        if n == 1 {
            self.homes[out as usize] = Home::Alias(match index {
                None => all,
                Some(_) => vec![Src::Const(0); rows].into(),
            });
            return;
        }
        let steps = rows * (n - 1);
        let best = self.virtual_tensor(Virtual::PrefixMax { x: Arc::clone(&all), n: n as u32 }, steps);
        let cell =
            |tensor: u32, row: usize, j: usize| Src::Cell { tensor, index: (row * (n - 1) + j) as u32 };
        let chain = |first: &dyn Fn(usize) -> Src, tensor: u32| -> Operand {
            let each = (0..rows).flat_map(|row| (0..n - 1).map(move |j| (row, j)));
            Operand::Each(
                each.map(|(row, j)| if j == 0 { first(row) } else { cell(tensor, row, j - 1) }).collect(),
            )
        };
        let next: Arc<[Src]> = (0..rows)
            .flat_map(|row| (1..n).map(move |j| (row, j)))
            .map(|(row, j)| all[row * n + j])
            .collect();
        let mut operands = vec![chain(&|row| all[row * n], best), Operand::Each(next)];
        let mut outs = vec![best];
        let result = match index {
            None => best,
            Some(last) => {
                let v = Virtual::PrefixArg { x: Arc::clone(&all), n: n as u32, last };
                let arg = self.virtual_tensor(v, steps);
                operands.push(chain(&|_| Src::Const(0), arg));
                let counted = (0..rows).flat_map(|_| 1..n).map(|j| Src::Const(j as i64));
                operands.push(Operand::Each(counted.collect()));
                outs.push(arg);
                arg
            }
        };
        let spec = Spec::Max {
            spread: t.hi.saturating_sub(t.lo),
            index: index.is_some(),
            last: index.unwrap_or(false),
        };
        let name = op.name.clone();
        self.strip(Some(at), &name, spec, operands, outs, steps);
        self.homes[out as usize] = Home::Alias((0..rows).map(|row| cell(result, row, n - 2)).collect());
    }

    /// Rows in strictly ascending order of `±value·2^bits + index`, which makes the sort stable; that they are a permutation of the
    /// input is an identity of products at a random point.
    fn sort(&mut self, at: u32, x: TensorId, descending: bool) {
        let op = &self.p.ops[at as usize];
        let (values, indices) = (op.outputs[0].0, op.outputs[1].0);
        let t = self.p.tensor(x);
        let n = t.shape.last().copied().unwrap_or(1);
        let rows = t.len() / n.max(1);
        let bits = usize::BITS - (n.max(2) - 1).leading_zeros();
        let keys = self.virtual_tensor(Virtual::SortKey { values, indices, bits, descending }, rows * n);
        let (lo, hi) = (t.lo, t.hi);
        let least = if descending { -(hi << bits) } else { lo << bits };
        let before = (0..rows * n).map(|e| match e % n {
            0 => Src::Const(least - 1),
            _ => Src::Cell { tensor: keys, index: e as u32 - 1 },
        });
        let operands = vec![Operand::Own(values), Operand::Own(indices), Operand::Each(before.collect())];
        let spec = Spec::Sorted { bits, descending, lo, hi };
        let name = op.name.clone();
        let x = self.sources(x).into();
        self.strip(Some(at), &name, spec, operands, vec![values, indices, keys], rows * n);
        self.sorts.push(Sorting { op: at, x, keys, n, bits, descending });
    }

    /// Whether a tensor consists of weights and constants only.
    pub(super) fn weights(&self, id: TensorId) -> bool {
        self.weighty[id.0 as usize]
    }

    pub(super) fn resolve(&self, src: Src) -> Src {
        match src {
            Src::Cell { tensor, index } => match &self.homes[tensor as usize] {
                Home::Alias(sources) => sources[index as usize],
                _ => src,
            },
            constant => constant,
        }
    }

    /// What the elements of a tensor are, where they are others'.
    pub(super) fn alias(&self, id: TensorId) -> Option<&[Src]> {
        match &self.homes[id.0 as usize] {
            Home::Alias(sources) => Some(sources),
            _ => None,
        }
    }

    pub(super) fn resolved(&self, id: TensorId) -> Vec<Src> {
        self.sources(id).into_iter().map(|s| self.resolve(s)).collect()
    }

    /// Public values, digests and committed tensors: inputs, parameters, outputs.
    fn exposed(&self) -> (Vec<Src>, Vec<Hashed>, Vec<Committed>) {
        let (p, exposure) = (self.p, self.exposure);
        let (mut public, mut hashes, mut committed) = (Vec::new(), Vec::new(), Vec::new());
        let params =
            |wanted: Vis| exposure.params.iter().filter(move |(_, v)| *v == wanted).map(|(id, _)| *id);
        let mut one = |vis: Vis, name: &str, ids: &mut dyn Iterator<Item = TensorId>| {
            let mut ids = ids.peekable();
            if ids.peek().is_none() {
                return;
            }
            match vis {
                Vis::Public => ids.for_each(|id| public.extend(self.resolved(id))),
                Vis::Hashed => hashes.push(Hashed {
                    name: name.into(),
                    segments: ids
                        .map(|id| (width(p.tensor(id).lo, p.tensor(id).hi), self.resolved(id).into()))
                        .collect(),
                }),
                Vis::Committed => committed.push(Committed {
                    name: name.into(),
                    sources: ids.flat_map(|id| self.resolved(id)).collect(),
                }),
                Vis::Private | Vis::Fixed => {}
            }
        };
        for (&id, &vis) in p.inputs.iter().zip(&exposure.inputs) {
            one(vis, &p.tensor(id).name, &mut std::iter::once(id));
        }
        for vis in [Vis::Public, Vis::Hashed, Vis::Committed] {
            one(vis, "the parameters", &mut params(vis));
        }
        for (&id, &vis) in p.outputs.iter().zip(&exposure.outputs) {
            one(vis, &p.tensor(id).name, &mut std::iter::once(id));
        }
        (public, hashes, committed)
    }

    /// Orders the slots of strips by what the first sweep over them wants.
    fn order(&mut self) {
        let mut blocks: BTreeMap<u32, Vec<Vec<u32>>> = BTreeMap::new();
        let mut seen: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
        let mut visit = |wanted: &Wanted<'_>| {
            let stored = matches!(self.homes[wanted.tensor as usize], Home::Store);
            if stored || wanted.elements.len() < 2 {
                return;
            }
            // Elements of the same strip, in the wanted order.
            let mut elements: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for src in wanted.sources() {
                if let Src::Cell { tensor, index } = self.resolve(src)
                    && let Home::Strip { strip, .. } = self.homes[tensor as usize]
                {
                    elements.entry(strip).or_default().push(index);
                }
            }
            for (strip, block) in elements {
                let n = self.strips[strip as usize].elements as usize;
                let seen = seen.entry(strip).or_insert_with(|| vec![false; n]);
                // What an earlier polynomial has placed stays there.
                let fresh: Vec<u32> =
                    block.into_iter().filter(|&e| !std::mem::replace(&mut seen[e as usize], true)).collect();
                if !fresh.is_empty() {
                    blocks.entry(strip).or_default().push(fresh);
                }
            }
        };
        // A gathered row is folded as it is; what reads its elements comes later.
        for table in &self.row_tables {
            table.reads.iter().for_each(|(_, _, out)| self.rows_of(*out, table.width, &mut visit));
        }
        for task in &self.tasks {
            self.wanted(task, &mut visit);
        }
        for table in &self.row_tables {
            self.rows_of(table.data, table.width, &mut visit);
        }
        // Rows of several units start where the monomials of the accumulators do not go on.
        let mut monomials: BTreeMap<u32, Vec<(u32, Exps)>> = BTreeMap::new();
        if self.units > 1 {
            for task in &self.tasks {
                monomials.insert(task.strip, self.monomials(task));
                blocks.entry(task.strip).or_default();
            }
        }
        for (strip, mut blocks) in blocks {
            let n = self.strips[strip as usize].elements;
            let rest: Vec<u32> = match seen.get(&strip) {
                Some(seen) => (0..n).filter(|&e| !seen[e as usize]).collect(),
                None => (0..n).collect(),
            };
            if !rest.is_empty() {
                blocks.push(rest);
            }
            let monomials = monomials.get(&strip);
            let goes_on = |before: u32, e: u32| {
                let Some(m) = monomials else { return true };
                let ((i, x), (j, y)) = (m[before as usize], m[e as usize]);
                i == j
                    && matches!(
                        (y.0.checked_sub(x.0), y.1.checked_sub(x.1)),
                        (Some(0), Some(1)) | (Some(1), Some(0))
                    )
            };
            let mut slots = vec![0u32; n as usize];
            let mut at = 0u32;
            for block in blocks {
                for (i, &e) in block.iter().enumerate() {
                    if i > 0 && !goes_on(block[i - 1], e) {
                        at = at.next_multiple_of(self.units);
                    }
                    slots[e as usize] = at;
                    at += 1;
                }
                at = at.next_multiple_of(self.units);
            }
            let strip = &mut self.strips[strip as usize];
            (strip.slots, strip.span) = (slots.into(), at);
        }
    }
}

fn weighty(p: &Program) -> Vec<bool> {
    let mut out: Vec<bool> =
        p.tensors.iter().map(|t| matches!(t.role, Role::Param | Role::Constant)).collect();
    for op in &p.ops {
        if let OpKind::View { sources, .. } = &op.kind {
            let all = !sources.is_empty() && sources.iter().all(|s| out[s.0 as usize]);
            op.outputs.iter().for_each(|o| out[o.0 as usize] = all);
        }
    }
    out
}

/// Sums of few tensors that are nothing but the operand of one table: those have no cells of their own.
fn inlined(p: &Program) -> Vec<bool> {
    let mut readers = vec![0usize; p.tensors.len()];
    let mut tables = vec![0usize; p.tensors.len()];
    for op in &p.ops {
        reads(&op.kind).into_iter().for_each(|id| readers[id.0 as usize] += 1);
        if let OpKind::Lookup { x, .. } | OpKind::Interpolate { x, .. } | OpKind::Step { x } = &op.kind {
            tables[x.0 as usize] += 1;
        }
    }
    p.outputs.iter().for_each(|id| readers[id.0 as usize] += 2);
    let mut out = vec![false; p.tensors.len()];
    for op in &p.ops {
        if let OpKind::Linear { terms, shift: 0, activation: Activation::None, .. } = &op.kind {
            let id = op.outputs[0].0 as usize;
            let few = (1..=INLINED).contains(&terms.len());
            out[id] = few
                && (readers[id], tables[id]) == (1, 1)
                && terms.iter().all(|t| matches!(t, Term::Scale { .. }));
        }
    }
    out
}

/// The tensors that an operation reads.
pub(super) fn reads(kind: &OpKind) -> Vec<TensorId> {
    match kind {
        OpKind::View { sources, .. } => sources.clone(),
        OpKind::Linear { terms, .. } => terms
            .iter()
            .flat_map(|t| match *t {
                Term::Einsum { a, b, .. } | Term::Product { a, b, .. } => vec![a, b],
                Term::Conv { x, w, .. } => vec![x, w],
                Term::SumPool { x, .. } | Term::Sum { x, .. } | Term::Scale { x, .. } => vec![x],
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

/// How many operands a sum without cells may have.
const INLINED: usize = 3;

/// How many operands a sum may have in one template.
const MANY: usize = 48;

/// Whether a broadcast operand varies along axes of τ only.
fn is_bias(axes: &[Axis], shape: &[usize], x: &[usize]) -> bool {
    let missing = shape.len() - x.len().min(shape.len());
    axes.iter().enumerate().all(|(d, axis)| {
        let own = d.checked_sub(missing).map_or(1, |d| x[d]);
        own == 1 || matches!(axis, Axis::Tau(_))
    })
}

/// The output element that each element of `x` is summed into.
pub(crate) fn sum_targets(shape: &[usize], summed: &[usize]) -> Vec<u32> {
    let kept: Vec<usize> =
        shape.iter().enumerate().map(|(d, &len)| if summed.contains(&d) { 1 } else { len }).collect();
    let steps: Vec<[usize; 1]> = strides(&kept)
        .into_iter()
        .enumerate()
        .map(|(d, s)| if summed.contains(&d) { [0] } else { [s] })
        .collect();
    super::contraction::offsets(shape, &steps).into_iter().map(|[i]| i as u32).collect()
}

/// Lowers a checked program for this many units per row.
pub(crate) fn lower(p: &Program, exposure: &Exposure, units: u32) -> Result<Lowered, PlanError> {
    let mut l = Lowerer {
        p,
        exposure,
        units,
        strips: Vec::new(),
        homes: vec![Home::None; p.tensors.len()],
        virtuals: Vec::new(),
        lens: p.tensors.iter().map(crate::qir::Tensor::len).collect(),
        functions: Vec::new(),
        known_functions: HashMap::new(),
        producers: HashMap::new(),
        dynamics: 0,
        tasks: Vec::new(),
        weighty: weighty(p),
        inlined: inlined(p),
        sorts: Vec::new(),
        row_tables: Vec::new(),
        input_table: p.inputs.iter().map(|&id| p.tensor(id).len()).sum::<usize>().max(1).ilog2() + 1,
    };
    for (&input, &vis) in p.inputs.iter().zip(&exposure.inputs) {
        l.import(input.0, vis);
    }
    for (at, op) in (0..).zip(&p.ops) {
        l.producers.extend(op.outputs.iter().map(|&out| (out, at)));
        l.op(at)?;
    }
    for (&output, _) in p.outputs.iter().zip(&exposure.outputs).filter(|(_, v)| **v == Vis::Hashed) {
        l.bound(output);
    }
    let Stored { bulks, bounds: store_bounds, told: store_told } = l.place_weights()?;
    l.order();
    let mut f = Folder::new(units, l.strips.clone(), l.homes.clone(), bulks);
    let mut junks = Vec::new();
    l.identities(&mut f, &mut junks)?;
    let row_tables = l.folded_rows(&mut f)?;
    let totals = Totals::of(&f, &junks);
    f.finish();
    let (public, hashes, committed) = l.exposed();
    Ok(Lowered {
        units,
        strips: f.strips,
        homes: f.homes,
        virtuals: l.virtuals,
        functions: Arc::new(l.functions),
        dynamics: l.dynamics,
        sweeps: f.sweeps,
        bulks: f.bulks,
        junks,
        scalars: f.scalars,
        row_tables,
        totals,
        public,
        hashes,
        committed,
        store_bounds,
        store_fixed: exposure.all_fixed,
        store_told,
    })
}
