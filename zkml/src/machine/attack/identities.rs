//! The polynomial that an identity emits is that of the contraction: on random cells that satisfy nothing, at random points, the rows of the
//! circuit give Σ m_e·(sum_e − y_e), with the sums by their definition and a monomial m_e of its own for every output element e.

use std::collections::{BTreeMap, HashMap};

use ff::{Field, PrimeField};
use halo2_axiom::halo2curves::bn256::Fr;
use rand_core::RngCore;

use super::super::check::Bench;
use super::super::layout::{Cell, Col};
use super::super::num::fr;
use super::machine_common::mutants::change_class;
use super::{Build, between, case_of, rng};
use crate::machine::{PlanError, PlanOptions, Visibility, plan};
use crate::qir::{OpKind, Program, TensorId, Term, Window};

/// Row-major positions of a shape.
fn positions(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut out = vec![vec![]];
    for &n in shape {
        out = out.iter().flat_map(|at| (0..n).map(move |i| [&at[..], &[i]].concat())).collect();
    }
    out
}

fn flat(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |sum, (i, n)| sum * n + i)
}

fn broadcast(at: &[usize], shape: &[usize]) -> usize {
    let missing = at.len() - shape.len();
    shape.iter().enumerate().fold(0, |sum, (d, &n)| sum * n + if n == 1 { 0 } else { at[d + missing] })
}

/// Elements of a window's input for an output position, with the element of the kernel.
fn taps(at: &[usize], input: &[usize], w: &Window) -> Vec<(usize, usize)> {
    let inside = |k: &Vec<usize>| {
        let place: Option<Vec<usize>> = (0..at.len())
            .map(|d| {
                (at[d] * w.strides[d] + k[d] * w.dilations[d])
                    .checked_sub(w.pads_begin[d])
                    .filter(|i| *i < input[d])
            })
            .collect();
        Some((flat(&place?, input), flat(k, &w.kernel)))
    };
    positions(&w.kernel).iter().filter_map(inside).collect()
}

/// The sum that an operation defines, over any values of its operands.
fn sums(p: &Program, values: &HashMap<u32, Vec<Fr>>) -> Vec<Fr> {
    let op = &p.ops[0];
    let OpKind::Linear { terms, constant, .. } = &op.kind else { panic!("a sum") };
    let shape = &p.tensor(op.outputs[0]).shape;
    let of = |id: TensorId, i: usize| values[&id.0][i];
    let mut out = vec![fr((*constant).into()); shape.iter().product()];
    for term in terms {
        match term {
            Term::Einsum { a, b, a_axes, b_axes, out_axes, coeff } => {
                let mut lens: BTreeMap<u8, usize> = BTreeMap::new();
                for (axes, id) in [(a_axes, a), (b_axes, b)] {
                    lens.extend(axes.iter().copied().zip(p.tensor(*id).shape.iter().copied()));
                }
                let all: Vec<usize> = lens.values().copied().collect();
                for at in positions(&all) {
                    let index: BTreeMap<u8, usize> = lens.keys().copied().zip(at).collect();
                    let place = |axes: &[u8], shape: &[usize]| {
                        flat(&axes.iter().map(|l| index[l]).collect::<Vec<_>>(), shape)
                    };
                    let (x, y) = (place(a_axes, &p.tensor(*a).shape), place(b_axes, &p.tensor(*b).shape));
                    out[place(out_axes, shape)] += fr((*coeff).into()) * of(*a, x) * of(*b, y);
                }
            }
            Term::Conv { x, w, window, groups, coeff } => {
                let (xs, ws) = (&p.tensor(*x).shape, &p.tensor(*w).shape);
                let (area, size): (usize, usize) = (xs[2..].iter().product(), ws[2..].iter().product());
                for at in positions(shape) {
                    for i in 0..ws[1] {
                        let channel = at[1] / (ws[0] / groups) * ws[1] + i;
                        for (tap, k) in taps(&at[2..], &xs[2..], window) {
                            let image = of(*x, (at[0] * xs[1] + channel) * area + tap);
                            let weight = of(*w, (at[1] * ws[1] + i) * size + k);
                            out[flat(&at, shape)] += fr((*coeff).into()) * image * weight;
                        }
                    }
                }
            }
            Term::SumPool { x, window, coeff } => {
                let xs = &p.tensor(*x).shape;
                let area: usize = xs[2..].iter().product();
                for at in positions(shape) {
                    for (tap, _) in taps(&at[2..], &xs[2..], window) {
                        out[flat(&at, shape)] +=
                            fr((*coeff).into()) * of(*x, (at[0] * xs[1] + at[1]) * area + tap);
                    }
                }
            }
            Term::Sum { x, axes, coeff } => {
                let xs = &p.tensor(*x).shape;
                let kept: Vec<usize> = (0..xs.len()).filter(|d| !axes.contains(d)).collect();
                let lens: Vec<usize> = kept.iter().map(|&d| xs[d]).collect();
                for (i, at) in positions(xs).iter().enumerate() {
                    let to: Vec<usize> = kept.iter().map(|&d| at[d]).collect();
                    out[flat(&to, &lens)] += fr((*coeff).into()) * of(*x, i);
                }
            }
            Term::Scale { x, coeff } => {
                for (e, at) in positions(shape).iter().enumerate() {
                    out[e] += fr((*coeff).into()) * of(*x, broadcast(at, &p.tensor(*x).shape));
                }
            }
            Term::Product { a, b, coeff } => {
                for (e, at) in positions(shape).iter().enumerate() {
                    let (x, y) = (broadcast(at, &p.tensor(*a).shape), broadcast(at, &p.tensor(*b).shape));
                    out[e] += fr((*coeff).into()) * of(*a, x) * of(*b, y);
                }
            }
        }
    }
    out
}

/// Where an element lives.
fn cell(bench: &Bench, tensor: u32, index: usize) -> Option<Cell> {
    let l = &bench.layout;
    bench.element(tensor, index as u32).or_else(|| {
        let bulks = l.lowered.bulks.iter().enumerate().filter(|(_, b)| b.tensor == tensor);
        let mut places =
            bulks.flat_map(|(at, b)| b.elements.iter().enumerate().map(move |(j, i)| (at, j, i)));
        let (at, j, _) = places.find(|(.., i)| *i as usize == index)?;
        let (row, column) = l.bulk_cell(at, j);
        Some(Cell { col: Col::Store(column), row })
    })
}

/// One program: its identities on random cells. `None` where its layout does not suit.
fn judge(p: &Program, units: u32, random: &mut impl RngCore) -> Result<Option<usize>, String> {
    let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
    match plan(p, &Visibility::default(), &options) {
        Err(PlanError::Misaligned) => return Ok(None),
        Err(e) => return Err(e.to_string()),
        Ok(_) => {}
    }
    let case = case_of("a sum", p, Visibility::default(), &options);
    let (bench, l) = (&case.bench, &case.bench.layout);
    if l.sized.store_limbs > 1 {
        return Ok(None);
    }
    let y = p.ops[0].outputs[0];
    let mut values: HashMap<u32, Vec<Fr>> = HashMap::new();
    let mut changes: Vec<(Cell, Fr)> = Vec::new();
    for (t, tensor) in p.tensors.iter().enumerate() {
        let list: Vec<Fr> = (0..tensor.len()).map(|_| Fr::random(&mut *random)).collect();
        for (i, &x) in list.iter().enumerate() {
            if let Some(cell) = cell(bench, t as u32, i) {
                changes.extend(change_class(bench, cell, x));
            }
        }
        values.insert(t as u32, list);
    }
    let zeros: Vec<u32> =
        l.lowered.scalars.iter().enumerate().filter(|(_, r)| r.zero).map(|(row, _)| row as u32 + 1).collect();
    let rows = |changes: &[(Cell, Fr)]| -> Vec<Fr> {
        let columns = bench.late(changes);
        zeros.iter().map(|&row| columns.get(Cell { col: Col::Acc, row })).collect()
    };
    let got = rows(&changes);
    let wanted = sums(p, &values);
    // The monomial of every element, from what one more of it changes.
    let points = [bench.challenges.tau, bench.challenges.rho];
    let mut powers: HashMap<[u8; 32], (u32, u32)> = HashMap::new();
    let mut left = Fr::ONE;
    for a in 0..64 {
        let mut both = left;
        for b in 0..200 {
            powers.insert(both.to_repr(), (a, b));
            both *= points[1];
        }
        left *= points[0];
    }
    let mut expected = vec![Fr::ZERO; zeros.len()];
    let mut seen: Vec<(usize, (u32, u32))> = Vec::new();
    for e in 0..wanted.len() {
        let home = bench.element(y.0, e as u32).ok_or("an output without a cell")?;
        let mut more = changes.clone();
        more.extend(change_class(bench, home, values[&y.0][e] + Fr::ONE));
        let moved: Vec<(usize, Fr)> = rows(&more)
            .iter()
            .zip(&got)
            .map(|(x, y)| *y - *x)
            .enumerate()
            .filter(|(_, d)| *d != Fr::ZERO)
            .collect();
        let [(at, monomial)] = moved.as_slice() else {
            return Err(format!("element {e} is in {} identities: {p:?}", moved.len()));
        };
        let Some(&exponents) = powers.get(&monomial.to_repr()) else {
            return Err(format!("element {e} has no monomial: {p:?}"));
        };
        if seen.contains(&(*at, exponents)) {
            return Err(format!("element {e} shares τ^{} ρ^{}: {p:?}", exponents.0, exponents.1));
        }
        seen.push((*at, exponents));
        expected[*at] += *monomial * (wanted[e] - values[&y.0][e]);
    }
    if got != expected {
        return Err(format!("the polynomial of {:?} is another: {p:?}", p.ops[0].name));
    }
    // Junk counts at positions without an output only, and there at no output's monomial.
    let mut junks = 0;
    for (at, junk) in l.lowered.junks.iter().enumerate() {
        for position in 0..junk.positions {
            let cell = Cell { col: Col::Junk, row: l.junk_row(at, position) };
            let columns = bench.late(&changes);
            let mut more = changes.clone();
            more.push((cell, columns.get(cell) + Fr::ONE));
            let moved: Vec<(usize, Fr)> = rows(&more)
                .iter()
                .zip(&got)
                .map(|(x, y)| *y - *x)
                .enumerate()
                .filter(|(_, d)| *d != Fr::ZERO)
                .collect();
            let wanted = junk.wanted[position as usize];
            let right = match moved.as_slice() {
                [] => wanted,
                [(row, d)] => {
                    !wanted
                        && powers.get(&d.to_repr()).is_some_and(|e| e.0 == 0 && !seen.contains(&(*row, *e)))
                }
                _ => false,
            };
            if !right {
                return Err(format!("junk at position {position}: {p:?}"));
            }
            junks += 1;
        }
    }
    Ok(Some(wanted.len() + junks))
}

fn shuffled<T: Copy>(list: &[T], random: &mut impl RngCore) -> Vec<T> {
    let mut out = list.to_vec();
    for i in (1..out.len()).rev() {
        out.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    out
}

fn einsum(random: &mut impl RngCore) -> Program {
    let mut b = Build::default();
    // Each label in the left operand, the right one, the output.
    let kinds = [[true, true, true], [true, false, true], [false, true, true], [true, true, false]];
    let mut labels: Vec<(u8, usize, [bool; 3])> = Vec::new();
    for (i, kind) in kinds.into_iter().enumerate() {
        if i > 0 || random.next_u64().is_multiple_of(2) {
            labels.push((i as u8, between(random, 1, 3) as usize, kind));
        }
    }
    let extra = random.next_u64() as usize % 4;
    labels.push((7, between(random, 1, 2) as usize, kinds[extra]));
    let axes = |which: usize, random: &mut _| {
        let own: Vec<(u8, usize)> = labels.iter().filter(|l| l.2[which]).map(|l| (l.0, l.1)).collect();
        shuffled(&own, random)
    };
    let (left, right, out) = (axes(0, random), axes(1, random), axes(2, random));
    let split = |x: &[(u8, usize)]| -> (Vec<u8>, Vec<usize>) { x.iter().copied().unzip() };
    let ((a_axes, a_shape), (b_axes, b_shape), (out_axes, shape)) =
        (split(&left), split(&right), split(&out));
    let (ours, theirs) = (random.next_u64() % 3, random.next_u64().is_multiple_of(2));
    let one = |b: &mut Build, weights: bool, shape: &[usize], random: &mut _| {
        if weights { b.param(shape, 100, random) } else { b.input(shape, -50, 50) }
    };
    let x = one(&mut b, ours == 0, &a_shape, random);
    let y = one(&mut b, ours == 1, &b_shape, random);
    let mut terms = vec![Term::Einsum { a: x, b: y, a_axes, b_axes, out_axes, coeff: between(random, 1, 3) }];
    if theirs {
        let bias: Vec<usize> =
            shape.iter().map(|&n| if random.next_u64().is_multiple_of(2) { n } else { 1 }).collect();
        let bias = one(&mut b, random.next_u64().is_multiple_of(2), &bias, random);
        terms.push(Term::Scale { x: bias, coeff: 2 });
    }
    let y = b.linear(terms, between(random, -9, 9), 0, false, &shape);
    b.output(y)
}

fn reduction(random: &mut impl RngCore) -> Program {
    let mut b = Build::default();
    let shape: Vec<usize> = (0..3).map(|_| between(random, 1, 3) as usize).collect();
    let x = b.input(&shape, -50, 50);
    let axes: Vec<usize> = (0..3).filter(|_| random.next_u64().is_multiple_of(2)).collect();
    let kept: Vec<usize> = (0..3).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
    let mut terms = vec![Term::Sum { x, axes, coeff: between(random, -3, 3).max(1) }];
    if random.next_u64().is_multiple_of(2) {
        let u = b.input(&kept, -9, 9);
        terms.push(Term::Scale { x: u, coeff: 3 });
    }
    let y = b.linear(terms, 5, 0, false, &kept);
    b.output(y)
}

fn window(random: &mut impl RngCore, convolution: bool) -> Option<Program> {
    let mut b = Build::default();
    let rank = between(random, 1, 2) as usize;
    let mut draw =
        |lo, hi| -> Vec<usize> { (0..rank).map(|_| between(&mut *random, lo, hi) as usize).collect() };
    let w = Window {
        kernel: draw(1, 3),
        strides: draw(1, 2),
        pads_begin: draw(0, 2),
        pads_end: draw(0, 2),
        dilations: draw(1, 2),
    };
    let area = draw(2, 5);
    let out: Option<Vec<usize>> = (0..rank)
        .map(|d| {
            let reach = (w.kernel[d] - 1) * w.dilations[d] + 1;
            (area[d] + w.pads_begin[d] + w.pads_end[d]).checked_sub(reach).map(|x| x / w.strides[d] + 1)
        })
        .collect();
    let out = out?;
    let (batch, groups) = (between(random, 1, 2) as usize, between(random, 1, 2) as usize);
    let (inputs, outputs) =
        (groups * between(random, 1, 2) as usize, groups * between(random, 1, 2) as usize);
    let x = b.input(&[&[batch, inputs][..], &area].concat(), -50, 50);
    let (terms, channels) = if convolution {
        let shape = [&[outputs, inputs / groups][..], &w.kernel].concat();
        let k = if random.next_u64().is_multiple_of(4) {
            b.input(&shape, -9, 9)
        } else {
            b.param(&shape, 100, random)
        };
        let bias = b.param(&[&[outputs][..], &vec![1; rank]].concat(), 1000, random);
        let conv = Term::Conv { x, w: k, window: w, groups, coeff: between(random, 1, 3) };
        (vec![conv, Term::Scale { x: bias, coeff: 1 }], outputs)
    } else {
        (vec![Term::SumPool { x, window: w, coeff: 2 }], inputs)
    };
    let y = b.linear(terms, 0, 0, false, &[&[batch, channels][..], &out].concat());
    Some(b.output(y))
}

/// Random shapes of every kind of contraction.
pub(super) fn polynomials_are_those_of_the_contraction() -> Result<usize, String> {
    let mut random = rng(11);
    let mut tried = 0;
    for seed in 0..36u32 {
        let p = match seed % 4 {
            0 | 1 => Some(einsum(&mut random)),
            2 if seed % 8 == 2 => Some(reduction(&mut random)),
            2 => window(&mut random, false),
            _ => window(&mut random, true),
        };
        if let Some(p) = p {
            tried += judge(&p, 1 + seed % 3, &mut random)?.unwrap_or(0);
        }
    }
    Ok(tried)
}
