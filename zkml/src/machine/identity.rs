//! The identities of a program's folded sums, as sweeps and scalar rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::qir::{OpKind, TensorId, Term};

use super::contraction::{Axis, Segments, pick, positions, roles, segments};
use super::fold::{Chain, Exps, Folder, consecutive};
use super::lower::{Lowerer, Task, broadcast, sum_targets};
use super::lowered::{Base, Elements, Junk, Mul, Ref, Src};
use super::plan::PlanError;
use super::sites::Site;

/// A polynomial that a task needs, over elements of an operand.
pub(super) struct Wanted<'w> {
    /// The operand.
    pub(super) tensor: u32,
    /// What its elements are, where they are others'.
    pub(super) alias: Option<&'w [Src]>,
    /// Which of them.
    pub(super) elements: &'w Elements,
    /// Whether the monomials are 1, τ, τ², …
    pub(super) powers: bool,
    /// Whether the next power of τ is an output's as well.
    pub(super) exact: bool,
}

impl Wanted<'_> {
    /// The elements as sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = Src> + '_ {
        self.elements.iter().map(|index| match self.alias {
            Some(sources) => sources[index as usize],
            None => Src::Cell { tensor: self.tensor, index },
        })
    }
}

impl<'a> Lowerer<'a> {
    pub(super) fn frame(&self, task: &Task) -> (Vec<Axis>, Vec<&'a Term>) {
        let OpKind::Linear { terms, .. } = &self.p.ops[task.op as usize].kind else {
            return (vec![], vec![]);
        };
        let chosen: Vec<&Term> = task.terms.iter().map(|&i| &terms[i as usize]).collect();
        let shape = &self.p.tensors[task.out as usize].shape;
        (self.axes(&chosen, shape), chosen)
    }

    /// Batch and monomial of every output element of a folded sum.
    pub(super) fn monomials(&self, task: &Task) -> Vec<(u32, Exps)> {
        let (axes, terms) = self.frame(task);
        let shape = &self.p.tensors[task.out as usize].shape;
        let mut out = vec![(0, (0, 0)); shape.iter().product()];
        let place = match terms.first() {
            Some(Term::Conv { x, window, .. } | Term::SumPool { x, window, .. }) => {
                positions(&self.p.tensor(*x).shape[2..], &shape[2..], window).ok()
            }
            _ => None,
        };
        if let Some(at) = place {
            let (channels, pixels) = (shape[1], at.output.len());
            for (e, m) in out.iter_mut().enumerate() {
                let (image, p) = (e / pixels, e % pixels);
                *m = ((image / channels) as u32, ((image % channels) as u32, at.output[p]));
            }
            return out;
        }
        let labels: Vec<u8> = (0..shape.len() as u8).collect();
        let output = segments(&labels, shape, |label| Some(axes[label as usize]));
        for (batch, elements) in output.elements.iter().enumerate() {
            for (e, &x) in elements.iter().zip(&output.exps) {
                out[e as usize] = (batch as u32, x);
            }
        }
        out
    }

    /// Roles of the output axes of a folded sum.
    pub(super) fn axes(&self, terms: &[&Term], shape: &[usize]) -> Vec<Axis> {
        if !terms.iter().any(|t| matches!(t, Term::Conv { .. } | Term::SumPool { .. })) {
            return roles(terms, shape, |id| self.weights(id));
        }
        (0..shape.len())
            .map(|d| match d {
                0 => Axis::Batch,
                1 => Axis::Tau(1),
                _ => Axis::Rho(1),
            })
            .collect()
    }

    /// `Σ ρ^b` over the outputs of one power of τ.
    fn spread_along_rho(&self, axes: &[Axis], shape: &[usize], unused: bool, op: u32, f: &mut Folder) -> Ref {
        let mut out = Ref::Value(Src::Const(1));
        for (axis, &n) in axes.iter().zip(shape) {
            if let (Axis::Rho(step), false) = (axis, unused) {
                let sum = f.geometric(*step, n as u32, op);
                out = f.product(out, sum, op);
            }
        }
        out
    }

    /// Folds of operands that are constant along ρ: each by its powers of τ, once for all batches.
    fn biases(
        &self,
        terms: &[&Term],
        axes: &[Axis],
        shape: &[usize],
        op: u32,
        f: &mut Folder,
    ) -> Result<Vec<(i128, Ref)>, PlanError> {
        let mut out = Vec::new();
        let along: Vec<usize> =
            axes.iter().zip(shape).map(|(a, &n)| if matches!(a, Axis::Tau(_)) { n } else { 1 }).collect();
        for term in terms {
            let Term::Scale { x, coeff } = term else { continue };
            let all = self.resolved(*x);
            let map = broadcast(&along, &self.p.tensor(*x).shape);
            let sources: Vec<Src> = map.into_iter().map(|i| all[i as usize]).collect();
            let exps: Vec<Exps> = (0..sources.len() as u32).map(|a| (a, 0)).collect();
            out.push(((*coeff).into(), f.poly(&sources, &exps, op)?));
        }
        Ok(out)
    }

    fn einsum_segments(&self, axes: &[Axis], id: TensorId, labels: &[u8], out: &[u8]) -> Segments {
        let role = |label: u8| out.iter().position(|&l| l == label).map(|i| axes[i]);
        segments(labels, &self.p.tensor(id).shape, role)
    }

    /// Visits the polynomials that a task needs.
    pub(super) fn wanted(&self, task: &Task, visit: &mut dyn FnMut(&Wanted<'_>)) {
        let (axes, terms) = self.frame(task);
        let shape = &self.p.tensors[task.out as usize].shape;
        let along = axes.iter().zip(shape).filter(|(axis, _)| matches!(axis, Axis::Tau(_)));
        let outputs: usize = along.map(|(_, n)| n).product();
        let mut all = |id: &TensorId, segments: &[Elements], exps: &[Exps]| {
            let powers = !exps.is_empty() && consecutive(exps);
            let exact = exps.len() < outputs;
            let (tensor, alias) = (id.0, self.alias(*id));
            for elements in segments {
                visit(&Wanted { tensor, alias, elements, powers, exact });
            }
        };
        let planes = |id: &TensorId| {
            let spatial: usize = self.p.tensor(*id).shape[2..].iter().product();
            runs(self.p.tensor(*id).len(), spatial)
        };
        for term in terms {
            match term {
                Term::Einsum { a, b, a_axes, b_axes, out_axes, .. } => {
                    for (id, labels) in [(a, a_axes), (b, b_axes)] {
                        let s = self.einsum_segments(&axes, *id, labels, out_axes);
                        all(id, &s.elements, &s.exps);
                    }
                }
                Term::Conv { x, w, groups, .. } => {
                    all(x, &planes(x), &[]);
                    let kernel = kernel_segments(&self.p.tensor(*w).shape, *groups);
                    let n = kernel.first().map_or(0, Elements::len);
                    all(w, &kernel, &powers(n));
                }
                Term::SumPool { x, .. } => all(x, &planes(x), &[]),
                Term::Scale { x, .. } => {
                    let n = self.p.tensor(*x).len();
                    all(x, &runs(n, n), &powers(n));
                }
                Term::Sum { .. } | Term::Product { .. } => {}
            }
        }
    }

    /// The polynomial over some elements of an operand: `all` are its sources, unless it is in the store.
    fn poly(
        &self,
        f: &mut Folder,
        (id, all): (TensorId, Option<&[Src]>),
        elements: &Elements,
        exps: &[Exps],
        op: u32,
    ) -> Result<Ref, PlanError> {
        match all {
            Some(all) => f.poly(&pick(all, elements), exps, op),
            None => f.stored(id.0, elements, exps),
        }
    }

    /// The sources of an operand, unless it is in the store.
    fn unstored(&self, id: TensorId, f: &Folder) -> Option<Vec<Src>> {
        (!f.in_store(id.0)).then(|| self.resolved(id))
    }

    /// Emits all identities.
    pub(super) fn identities(&self, f: &mut Folder, junks: &mut Vec<Junk>) -> Result<(), PlanError> {
        for task in &self.tasks {
            let (axes, terms) = self.frame(task);
            if let Some((term @ (Term::Conv { .. } | Term::SumPool { .. }), rest)) = terms.split_first() {
                self.convolution(task, term, rest, f, junks)?;
            } else {
                self.einsums(task, &axes, &terms, f)?;
            }
        }
        for sort in &self.sorts {
            let factor = if sort.descending { -1 } else { 1 } << sort.bits;
            for (row, x) in sort.x.chunks(sort.n).enumerate() {
                let mut products = [None, None];
                for (i, &src) in x.iter().enumerate() {
                    let key = Src::Cell { tensor: sort.keys, index: (row * sort.n + i) as u32 };
                    let given = f.shifted(factor, i as i128, Ref::Value(self.resolve(src)), sort.op);
                    let sorted = f.shifted(1, 0, Ref::Value(key), sort.op);
                    for (product, x) in products.iter_mut().zip([given, sorted]) {
                        *product = Some(match *product {
                            None => x,
                            Some(before) => {
                                let mut chain = Chain::default();
                                chain.add_product(1, before, x, sort.op);
                                f.emit(chain)
                            }
                        });
                    }
                }
                let mut chain = Chain::default();
                for (factor, product) in [1, -1].into_iter().zip(products) {
                    if let Some(product) = product {
                        chain.add(Mul::One, factor, product, sort.op);
                    }
                }
                f.emit_zero(Site::SortIdentity, chain);
            }
        }
        Ok(())
    }

    fn einsums(&self, task: &Task, axes: &[Axis], terms: &[&Term], f: &mut Folder) -> Result<(), PlanError> {
        let out_shape = &self.p.tensors[task.out as usize].shape;
        let labels: Vec<u8> = (0..out_shape.len() as u8).collect();
        let output = segments(&labels, out_shape, |label| Some(axes[label as usize]));
        struct Einsum {
            factor: i128,
            a: (Segments, TensorId, Option<Vec<Src>>),
            b: (Segments, TensorId, Option<Vec<Src>>),
            out: Vec<u8>,
            summed: Vec<(u8, usize)>,
        }
        let mut einsums = Vec::new();
        for term in terms {
            let Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } = term else { continue };
            let mut summed: Vec<(u8, usize)> = Vec::new();
            for (axes, id) in [(a_axes, a), (b_axes, b)] {
                for (&label, &len) in axes.iter().zip(&self.p.tensor(*id).shape) {
                    if !out_axes.contains(&label) && summed.iter().all(|s| s.0 != label) {
                        summed.push((label, len));
                    }
                }
            }
            einsums.push(Einsum {
                factor: (*coeff).into(),
                a: (self.einsum_segments(axes, *a, a_axes, out_axes), *a, self.unstored(*a, f)),
                b: (self.einsum_segments(axes, *b, b_axes, out_axes), *b, self.unstored(*b, f)),
                out: out_axes.clone(),
                summed,
            });
        }
        let sums: Vec<(&TensorId, &Vec<usize>, i64)> = terms
            .iter()
            .filter_map(|t| match t {
                Term::Sum { x, axes, coeff } => Some((x, axes, *coeff)),
                _ => None,
            })
            .collect();
        let sum_maps: Vec<Vec<u32>> =
            sums.iter().map(|(x, summed, _)| sum_targets(&self.p.tensor(**x).shape, summed)).collect();
        let mut exps_of = vec![(0u32, 0u32); self.p.tensors[task.out as usize].len()];
        for elements in &output.elements {
            for (e, &x) in elements.iter().zip(&output.exps) {
                exps_of[e as usize] = x;
            }
        }
        let biases = self.biases(terms, axes, out_shape, task.op, f)?;
        let spread = self.spread_along_rho(axes, out_shape, biases.is_empty(), task.op, f);
        for (batch, elements) in output.elements.iter().enumerate() {
            let elements: Vec<u32> = elements.iter().collect();
            let parts = f.port(task.strip, &elements, &output.exps)?;
            // Products first: they may need scalars of their own.
            let mut products = Vec::new();
            for e in &einsums {
                let batch_index = |label: u8| {
                    let axis = e.out.iter().position(|&l| l == label).unwrap_or(0);
                    let mut rest = batch;
                    let mut index = 0;
                    for &(l, len) in output.outer.iter().rev() {
                        if l as usize == axis {
                            index = rest % len;
                        }
                        rest /= len;
                    }
                    index
                };
                let total: usize = e.summed.iter().map(|s| s.1).product();
                for k in 0..total {
                    let index = |label: u8| {
                        let mut rest = k;
                        for &(l, len) in e.summed.iter().rev() {
                            if l == label {
                                return rest % len;
                            }
                            rest /= len;
                        }
                        batch_index(label)
                    };
                    let mut polys = [Ref::Value(Src::Const(0)); 2];
                    for (poly, (s, id, all)) in polys.iter_mut().zip([&e.a, &e.b]) {
                        let elements = &s.elements[s.at(index)];
                        *poly = self.poly(f, (*id, all.as_deref()), elements, &s.exps, task.op)?;
                    }
                    products.push((e.factor, polys[0], polys[1]));
                }
            }
            let mut sum_refs = Vec::new();
            for ((x, _, coeff), map) in sums.iter().zip(&sum_maps) {
                let inside: BTreeSet<u32> = elements.iter().copied().collect();
                let all = self.resolved(**x);
                let mut chosen: Vec<(Exps, Src)> = Vec::new();
                for (i, &target) in map.iter().enumerate() {
                    if inside.contains(&target) {
                        chosen.push((exps_of[target as usize], all[i]));
                    }
                }
                let sources: Vec<Src> = chosen.iter().map(|c| c.1).collect();
                let exps: Vec<Exps> = chosen.iter().map(|c| c.0).collect();
                sum_refs.push((i128::from(*coeff), f.poly(&sources, &exps, task.op)?));
            }
            let mut chain = f.combine(&parts, -1, task.op);
            for (factor, x) in sum_refs {
                chain.add(Mul::One, factor, x, task.op);
            }
            for &(factor, x) in &biases {
                chain.add_product(factor, x, spread, task.op);
            }
            for (factor, x, y) in products {
                chain.add_product(factor, x, y, task.op);
            }
            f.emit_zero(Site::EinsumIdentity, chain);
        }
        Ok(())
    }

    fn convolution(
        &self,
        task: &Task,
        term: &Term,
        rest: &[&Term],
        f: &mut Folder,
        junks: &mut Vec<Junk>,
    ) -> Result<(), PlanError> {
        let (x, window, factor, kernel) = match term {
            Term::Conv { x, w, window, groups, coeff } => (x, window, *coeff, Some((w, *groups))),
            Term::SumPool { x, window, coeff } => (x, window, *coeff, None),
            _ => return Err(PlanError::Unsupported("a convolution of another kind".into())),
        };
        let op = task.op;
        let (xs, ys) = (&self.p.tensor(*x).shape, &self.p.tensors[task.out as usize].shape);
        let at = positions(&xs[2..], &ys[2..], window)?;
        let (n, c, o) = (xs[0], xs[1], ys[1]);
        let least = at.output.iter().copied().min().unwrap_or(0);
        let mut wanted = vec![false; at.total as usize];
        at.output.iter().for_each(|&p| wanted[p as usize] = true);
        let wanted: Arc<[bool]> = wanted.into();
        let pixels = at.output.len();
        let exps: Vec<Exps> =
            (0..o).flat_map(|o| at.output.iter().map(move |&p| (o as u32, p - least))).collect();
        let x_exps: Vec<Exps> = at.input.iter().map(|&p| (0, p)).collect();
        let all = self.resolved(*x);
        let area = at.input.len();
        let biases = self.biases(rest, &self.axes(&[term], ys), ys, op, f)?;
        let mut spread = Ref::Value(Src::Const(1));
        if !biases.is_empty() {
            for d in 0..window.kernel.len() {
                let sum = f.geometric(at.step[d] * window.strides[d] as u32, ys[2 + d] as u32, op);
                spread = f.product(spread, sum, op);
            }
        }
        for batch in 0..n {
            let elements: Vec<u32> =
                (0..(o * pixels) as u32).map(|e| (batch * o * pixels) as u32 + e).collect();
            let parts = f.port(task.strip, &elements, &exps)?;
            let mut images = Vec::with_capacity(c);
            for channel in 0..c {
                let from = (batch * c + channel) * area;
                images.push(f.poly(&all[from..from + area], &x_exps, op)?);
            }
            let mut products: Vec<(Exps, Vec<(Ref, Ref)>)> = Vec::new();
            match kernel {
                Some((w, groups)) => {
                    let weights = self.unstored(*w, f);
                    let per_group = o / groups;
                    let inputs = c / groups;
                    let size = at.kernel.len();
                    let segs = kernel_segments(&self.p.tensor(*w).shape, groups);
                    let tau = powers(per_group);
                    for g in 0..groups {
                        let mut group = Vec::new();
                        for i in 0..inputs {
                            let mut taps = Vec::with_capacity(size);
                            for k in 0..size {
                                let s = &segs[(g * inputs + i) * size + k];
                                let tap = self.poly(f, (*w, weights.as_deref()), s, &tau, op)?;
                                taps.push(((0, at.kernel[k]), tap));
                            }
                            let chain = f.combine(&taps, 1, op);
                            let folded = f.emit(chain);
                            group.push((images[g * inputs + i], folded));
                        }
                        products.push((((g * per_group) as u32, 0), group));
                    }
                }
                None => {
                    let ones: Vec<(Exps, Ref)> =
                        at.kernel.iter().map(|&p| ((0, p), Ref::Value(Src::Const(1)))).collect();
                    let chain = f.combine(&ones, 1, op);
                    let folded = f.emit(chain);
                    let channels: Vec<(Exps, Ref)> =
                        images.iter().enumerate().map(|(i, &x)| ((i as u32, 0), x)).collect();
                    let chain = f.combine(&channels, 1, op);
                    let image = f.emit(chain);
                    products.push(((0, 0), vec![(image, folded)]));
                }
            }
            let flat: Vec<(Ref, Ref)> = if let [(_, only)] = products.as_slice() {
                only.clone()
            } else {
                let mut groups = Vec::new();
                for (exps, pairs) in products {
                    let mut chain = Chain::default();
                    pairs.iter().for_each(|&(x, y)| chain.add_product(1, x, y, op));
                    groups.push((exps, f.emit(chain)));
                }
                let chain = f.combine(&groups, 1, op);
                vec![(f.emit(chain), Ref::Value(Src::Const(1)))]
            };
            let mut chain = if least == 0 {
                let mut chain = f.combine(&parts, -1, op);
                biases.iter().for_each(|&(factor, x)| chain.add_product(factor, x, spread, op));
                chain
            } else {
                let mut chain = f.combine(&parts, 1, op);
                biases.iter().for_each(|&(factor, x)| chain.add_product(-factor, x, spread, op));
                let sum = f.emit(chain);
                let shift = f.power(Base::Rho, least, op);
                let mut chain = Chain::default();
                chain.add_product(-1, sum, shift, op);
                chain
            };
            for (x, y) in flat {
                chain.add_product(factor.into(), x, y, op);
            }
            if wanted.iter().any(|w| !w) {
                let term = task.terms[0];
                junks.push(Junk {
                    op,
                    term,
                    batch: batch as u32,
                    positions: at.total,
                    wanted: Arc::clone(&wanted),
                });
                chain.add(Mul::One, -1, Ref::Junk(junks.len() as u32 - 1), op);
            }
            f.emit_zero(Site::ConvolutionIdentity, chain);
        }
        Ok(())
    }
}

/// The weights of each (group, input channel, kernel element), over the group's output channels.
fn kernel_segments(shape: &[usize], groups: usize) -> Vec<Elements> {
    let size: usize = shape[2..].iter().product();
    let inputs = shape[1];
    let per_group = shape[0] / groups;
    let channels: Arc<[u32]> = (0..per_group).map(|o| (o * inputs * size) as u32).collect();
    let mut out = Vec::with_capacity(groups * inputs * size);
    for g in 0..groups {
        for i in 0..inputs {
            for k in 0..size {
                let base = (g * per_group * inputs + i) * size + k;
                out.push(Elements::at(base as u32, &channels));
            }
        }
    }
    out
}

/// Runs of `n` elements of a tensor of `len`.
pub(super) fn runs(len: usize, n: usize) -> Vec<Elements> {
    let within: Arc<[u32]> = (0..n as u32).collect();
    (0..len).step_by(n.max(1)).map(|base| Elements::at(base as u32, &within)).collect()
}

/// 1, τ, τ², …
fn powers(n: usize) -> Vec<Exps> {
    (0..n as u32).map(|a| (a, 0)).collect()
}
