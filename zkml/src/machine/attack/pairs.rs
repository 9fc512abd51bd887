//! For every constraint of an element as it is placed on units: cells that satisfy all others. The circuit must refuse them, and nothing
//! but that constraint stands in their way.

use std::collections::BTreeMap;

use halo2_axiom::halo2curves::bn256::Fr;

use super::super::check::Bench;
use super::super::layout::{Cell, Col, Placed};
use super::super::num::fr;
use super::super::pack::UnitShape;
use super::super::template::{Def, FnUse, Quad, Spec, Template, Var};
use super::Case;
use super::solve::{Part, Problem, parts, small};

/// An element's cells as variables of their own, with the copies between them as equations.
struct Flat {
    template: Template,
    /// Unit and position of each variable.
    places: Vec<(u16, u16)>,
    /// Variables that are copies of cells elsewhere.
    wires: Vec<Var>,
    /// Variables that other elements may read.
    homes: Vec<Var>,
}

fn flatten(placed: &Placed, shape: UnitShape) -> Flat {
    let packed = &placed.packed;
    let (mut places, mut vars) = (Vec::new(), Vec::new());
    for (unit, on_unit) in packed.places.iter().enumerate() {
        for p in on_unit {
            places.push((unit as u16, p.position));
            vars.push(p.var);
        }
    }
    let find =
        |unit: u16, position: u16| places.iter().position(|p| *p == (unit, position)).map(|at| at as Var);
    let (mut wires, mut homes) = (Vec::new(), Vec::new());
    let mut t = Template { defs: vec![Def::Acc; places.len()], ..Template::default() };
    for (at, (&var, &place)) in vars.iter().zip(&places).enumerate() {
        let home = packed.homes[var as usize];
        match (matches!(placed.template.defs[var as usize], Def::Wire(_)), home) {
            (true, _) => wires.push(at as Var),
            (false, home) if home == Some(place) => homes.push(at as Var),
            (false, Some((unit, position))) => {
                t.eqs.extend(find(unit, position).map(|home| Quad::var(at as Var).add(-1, home)));
            }
            (false, None) => {}
        }
    }
    for (unit, code) in packed.codes.iter().enumerate() {
        let unit = unit as u16;
        let var = |position: u16| find(unit, position).unwrap();
        let whole = |q: &Quad| Quad {
            lin: q.lin.iter().map(|&(c, p)| (c, var(p))).collect(),
            quad: q.quad.iter().map(|&(c, p, r)| (c, var(p), var(r))).collect(),
            constant: q.constant,
        };
        t.eqs.extend(code.eqs.iter().map(whole));
        t.port = t.port.or_else(|| code.port.as_ref().map(whole));
        let checked = code.ranges.iter().enumerate().filter_map(|(i, s)| Some((i as u16, (*s)?)));
        t.ranges.extend(checked.map(|(i, section)| (var(shape.range_at() + i), section)));
        if let Some(lane) = code.function.filter(|lane| !lane.provides) {
            let second = find(unit, UnitShape::SECOND).filter(|_| shape.second);
            let (key, value) = (var(UnitShape::KEY), var(UnitShape::VALUE));
            t.fns.push(FnUse { section: lane.section, key, value, second, count: None });
        }
    }
    Flat { template: t, places, wires, homes }
}

/// How many forgeries were tried, and which constraints had none, by strip.
#[derive(Default)]
pub(super) struct Done {
    pub(super) tried: usize,
    pub(super) constraints: usize,
    pub(super) idle: BTreeMap<String, usize>,
    /// Some of the forgeries, for the real verifier.
    pub(super) samples: Vec<Vec<(Cell, Fr)>>,
}

/// What a part of an element is left out of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nothing,
    Part(Part),
    /// The copy that an operand is.
    Wire(Var),
}

fn moves(values: &[Fr], limb: u32) -> Vec<Fr> {
    let mut steps: Vec<i128> = vec![1, 2, 1 << limb, 1 << 4, 1 << 5];
    steps.extend(values.iter().filter_map(|v| small(*v)).filter(|v| (2..1 << 20).contains(&v.abs())));
    steps.sort_unstable();
    steps.dedup();
    steps.iter().flat_map(|&s| [fr(s), fr(-s)]).collect()
}

/// Forgeries of every constraint of some elements of every strip.
pub(super) fn forge(case: &Case, done: &mut Done) -> Result<(), String> {
    let bench: &Bench = &case.bench;
    let l = &bench.layout;
    let shape = l.sized.shape;
    for (at, strip) in l.lowered.strips.iter().enumerate() {
        if matches!(strip.spec, Spec::Import { .. } | Spec::Provide { .. }) {
            continue;
        }
        let flat = flatten(l.placed(at), shape);
        let entries: Vec<(i128, i128)> =
            bench.entries().into_iter().filter_map(|(x, y)| small(x).zip(small(y))).collect();
        let last = strip.elements.saturating_sub(1);
        for element in [0, last].into_iter().take(1 + usize::from(last > 0)) {
            let slot = strip.slots[element as usize];
            let cell = |v: Var| {
                let (unit, position) = flat.places[v as usize];
                l.slot_cell(at, slot, unit, position)
            };
            let honest: Vec<Fr> = (0..flat.places.len() as Var).map(|v| bench.value(cell(v))).collect();
            let value = |q: &Quad| {
                let x = |v: Var| honest[v as usize];
                q.lin.iter().map(|&(c, v)| fr(c) * x(v)).sum::<Fr>()
                    + q.quad.iter().map(|&(c, a, b)| fr(c) * x(a) * x(b)).sum::<Fr>()
                    + fr(q.constant)
            };
            let port = flat.template.port.as_ref().map(value);
            let steps = moves(&honest, bench.limb());
            let all = [Left::Nothing].into_iter();
            let all = all.chain(parts(&flat.template).into_iter().map(Left::Part));
            for left in all.chain(flat.wires.iter().map(|&w| Left::Wire(w))) {
                let problem = Problem {
                    template: &flat.template,
                    tables: &l.sized.tables,
                    entries: &entries,
                    port,
                    without: if let Left::Part(part) = left { Some(part) } else { None },
                    honest: Some(&honest),
                    patience: 60,
                    most: 1,
                };
                done.constraints += 1;
                let mut forged: Vec<Vec<Fr>> = Vec::new();
                'search: for v in 0..flat.places.len() as Var {
                    let wire = flat.wires.contains(&v);
                    if wire && left != Left::Wire(v) {
                        continue;
                    }
                    for &step in &steps {
                        let kept = flat.wires.iter().filter(|w| left != Left::Wire(**w));
                        let mut known: Vec<(Var, Fr)> = kept.map(|&w| (w, honest[w as usize])).collect();
                        known.push((v, honest[v as usize] + step));
                        for solution in problem.solve(&known).0 {
                            if solution != honest && !forged.contains(&solution) {
                                forged.push(solution);
                            }
                        }
                        if forged.len() >= 3 {
                            break 'search;
                        }
                    }
                }
                if forged.is_empty() && left != Left::Nothing {
                    *done.idle.entry(format!("{} {left:?}", strip.name)).or_default() += 1;
                }
                for solution in forged {
                    let own: Vec<Cell> = (0..flat.places.len() as Var).map(cell).collect();
                    let mut changes: Vec<(Cell, Fr)> = Vec::new();
                    for (v, (&new, &old)) in solution.iter().zip(&honest).enumerate() {
                        if new == old {
                            continue;
                        }
                        changes.push((own[v], new));
                        if flat.homes.contains(&(v as Var)) {
                            let others = bench.class(own[v]).into_iter();
                            let others = others.filter(|c| c.col != Col::Const && !own.contains(c));
                            changes.extend(others.map(|c| (c, new)));
                        }
                    }
                    done.tried += 1;
                    if bench.accepts(&changes) {
                        let (name, what) = (&case.name, &strip.name);
                        let same = changes.iter().all(|(c, _)| c.col != Col::Instance);
                        let instance = if same { "the same instance" } else { "another instance" };
                        return Err(format!(
                            "{name}: other cells for {instance}: element {element} of {what}, all but {left:?} hold"
                        ));
                    }
                    if done.samples.is_empty() {
                        done.samples.push(changes);
                    }
                }
            }
        }
    }
    Ok(())
}
