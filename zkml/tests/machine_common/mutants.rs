//! One program per operation, and what a cheating prover might write into its cells.

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use parhelion_prover::{PreparedKey, ProofTranscript};
use parhelion_zkml::exec;
use parhelion_zkml::machine::{
    Bench, Cell, Choice, Col, Plan, PlanOptions, ProveError, Vis, Visibility, keygen, plan, prove_circuit,
};
use parhelion_zkml::qir::{OpKind, Program, Role, TensorId, Term};
use rand_core::RngCore;

use super::{Build, between, engine, random_inputs, rng, square, srs};

/// One program per operation. Inputs are positive and no sum is clipped to zero, because what is multiplied by zero is free.
pub(crate) fn programs() -> Vec<(&'static str, Program)> {
    let mut r = rng(21);
    let mut out = Vec::new();
    let mut one = |name, make: &mut dyn FnMut(&mut Build) -> TensorId| {
        let mut b = Build::default();
        let y = make(&mut b);
        out.push((name, b.output(y)));
    };
    one("linear", &mut |b| {
        let (x, y) = (b.input(&[4], 1, 300), b.input(&[4], 1, 300));
        let terms = vec![Term::Scale { x, coeff: 5 }, Term::Product { a: x, b: y, coeff: 2 }];
        b.linear(terms, 7, 5, false, &[4])
    });
    one("linear with relu", &mut |b| {
        let x = b.input(&[4], 1, 3000);
        b.linear(vec![Term::Scale { x, coeff: 5 }], -20, 5, true, &[4])
    });
    one("einsum", &mut |b| {
        let x = b.input(&[2, 4], 1, 100);
        b.dense(x, 3, 4, false, &mut r)
    });
    one("einsum of two inputs", &mut |b| {
        let (x, y) = (b.input(&[2, 3], 1, 100), b.input(&[3, 2], 1, 100));
        let term = Term::Einsum {
            a: x,
            b: y,
            a_axes: vec![0, 2],
            b_axes: vec![2, 1],
            out_axes: vec![0, 1],
            coeff: 1,
        };
        b.linear(vec![term], 0, 0, false, &[2, 2])
    });
    one("convolution", &mut |b| {
        let x = b.input(&[1, 2, 4, 4], 1, 100);
        b.conv(x, 2, 3, 1, 1, 1, 4, false, &mut r)
    });
    one("sum of windows", &mut |b| {
        let x = b.input(&[1, 2, 4, 4], 1, 100);
        b.pool(x, 2, 2)
    });
    one("sum", &mut |b| {
        let x = b.input(&[3, 4], 1, 100);
        b.linear(vec![Term::Sum { x, axes: vec![1], coeff: 1 }], 0, 2, false, &[3])
    });
    one("lookup", &mut |b| {
        let x = b.input(&[4], -20, 40);
        b.lookup(x, |x| x * x * x)
    });
    one("interpolate", &mut |b| {
        let x = b.input(&[4], 0, 1000);
        b.interpolate(x, 4, 3)
    });
    one("step", &mut |b| {
        let x = b.input(&[4], -3000, 3000);
        b.op(OpKind::Step { x }, &[4], 0, 1)
    });
    one("table of a sum", &mut |b| {
        let (x, y) = (b.input(&[4], 1, 20), b.input(&[4], 1, 20));
        let sum =
            b.linear(vec![Term::Scale { x, coeff: 2 }, Term::Scale { x: y, coeff: -1 }], 3, 0, false, &[4]);
        b.lookup(sum, |x| x * x + x)
    });
    one("interpolation of a sum", &mut |b| {
        let (x, y) = (b.input(&[4], 500, 1000), b.input(&[4], 0, 400));
        let sum =
            b.linear(vec![Term::Scale { x, coeff: 1 }, Term::Scale { x: y, coeff: -1 }], 0, 0, false, &[4]);
        b.interpolate(sum, 4, 3)
    });
    one("step of a sum", &mut |b| {
        let (x, y) = (b.input(&[4], -3000, 3000), b.input(&[4], -9, 9));
        let sum =
            b.linear(vec![Term::Scale { x, coeff: 1 }, Term::Scale { x: y, coeff: 100 }], 0, 0, false, &[4]);
        b.op(OpKind::Step { x: sum }, &[4], 0, 1)
    });
    one("division", &mut |b| {
        let (num, den) = (b.input(&[4], -3000, 3000), b.input(&[4], 1, 90));
        b.op(OpKind::Div { num, den }, &[4], -3000, 3000)
    });
    one("root", &mut |b| {
        let x = b.input(&[4], 1, 100_000);
        b.op(OpKind::Sqrt { x }, &[4], 0, 317)
    });
    one("maximum", &mut |b| {
        let x = b.input(&[2, 4], -3000, 3000);
        b.op(OpKind::Max { x }, &[2], -3000, 3000)
    });
    one("index of the maximum", &mut |b| {
        let x = b.input(&[2, 4], -9, 9);
        b.op(OpKind::ArgMax { x, last: false }, &[2], 0, 3)
    });
    one("sort", &mut |b| {
        let x = b.input(&[1, 4], -9, 9);
        let values = b.op(OpKind::Sort { x, descending: true }, &[1, 4], -9, 9);
        let mut t = b.p.tensors[values.0 as usize].clone();
        (t.name, t.lo, t.hi) = ("indices".into(), 0, 3);
        b.p.tensors.push(t);
        let indices = TensorId(b.p.tensors.len() as u32 - 1);
        b.p.ops.last_mut().unwrap().outputs.push(indices);
        b.p.outputs.push(indices);
        values
    });
    one("gather", &mut |b| {
        let (index, data) = (b.input(&[3], 0, 3), b.input(&[4, 2], 1, 900));
        b.op(OpKind::Gather { data, index }, &[3, 2], 1, 900)
    });
    one("gather of whole rows", &mut |b| {
        let (index, data) = (b.input(&[7], 0, 2), b.input(&[3, 5], 1, 900));
        b.op(OpKind::Gather { data, index }, &[7, 5], 1, 900)
    });
    out
}

pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) bench: Bench,
}

pub(crate) fn case(p: &Program, visibility: Visibility, units: u32) -> Case {
    case_of(p, visibility, &PlanOptions { units: Some(units), ..PlanOptions::default() })
}

pub(crate) fn case_of(p: &Program, visibility: Visibility, options: &PlanOptions) -> Case {
    let plan = plan(p, &visibility, options).unwrap();
    let trace = exec::run(p, &random_inputs(p, &mut rng(5))).unwrap();
    let bench = Bench::new(&plan, &trace.values).unwrap();
    assert_eq!(bench.violation(&[]), None);
    Case { plan, bench }
}

/// Values that a cheating prover might try in place of this one.
pub(crate) fn values(bench: &Bench, cell: Cell, random: &mut impl RngCore) -> Vec<Fr> {
    let v = bench.value(cell);
    let two = Fr::from(2);
    let below = Cell { row: cell.row.saturating_sub(1), ..cell };
    let mut out = vec![
        Fr::ZERO,
        Fr::ONE,
        v + Fr::ONE,
        v - Fr::ONE,
        v + two.pow([u64::from(bench.limb())]),
        v - two.pow([u64::from(bench.limb())]),
        v + two,
        v + Fr::from(3),
        v - Fr::from(1 << 20),
        -v,
        two.invert().unwrap() * v,
        bench.value(below),
        Fr::random(&mut *random),
        Fr::from(random.next_u64() % 64),
    ];
    out.retain(|x| *x != v);
    let mut seen = Vec::new();
    out.retain(|x| {
        let fresh = !seen.contains(x);
        seen.push(*x);
        fresh
    });
    out
}

pub(crate) fn change_class(bench: &Bench, cell: Cell, value: Fr) -> Vec<(Cell, Fr)> {
    bench.class(cell).into_iter().filter(|c| c.col != Col::Const).map(|c| (c, value)).collect()
}

/// What became of the mutants of a case.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) cells: usize,
    pub(crate) tried: usize,
    /// Fewest values that a cell was given.
    pub(crate) least: usize,
    pub(crate) survivors: Vec<String>,
}

/// Runs all mutants of every `every`-th cell of a case.
pub(crate) fn mutate(case: &Case, every: usize) -> Outcome {
    mutants_of(&case.bench, every)
}

/// The same of a bench: cells with all their copies, and alone.
pub(crate) fn mutants_of(bench: &Bench, every: usize) -> Outcome {
    let mut random = rng(77);
    let mut out = Outcome { least: usize::MAX, ..Outcome::default() };
    let mut cells = bench.cells();
    cells.extend(bench.exposed_cells());
    cells.extend(bench.multiplicities().into_iter().step_by(7));
    cells.extend(bench.junk_cells());
    cells.extend(bench.scalar_cells());
    cells.extend(bench.sum_cells());
    for cell in cells.into_iter().step_by(every) {
        let values = values(bench, cell, &mut random);
        out.cells += 1;
        out.least = out.least.min(values.len());
        for value in values {
            let mut mutants = vec![vec![(cell, value)]];
            if cell.col.is_first() {
                mutants.push(change_class(bench, cell, value));
                mutants.dedup();
            }
            for changes in mutants {
                out.tried += 1;
                if bench.accepts(&changes) {
                    out.survivors.push(format!("{cell:?} {:?} := {value:?}", bench.describe(cell)));
                }
            }
        }
    }
    out
}

/// Runs all mutants of the store's padding that a gate reads. What no gate reads is free, and says nothing.
pub(crate) fn mutate_padding(case: &Case) -> Outcome {
    let mut random = rng(79);
    let mut out = Outcome { least: usize::MAX, ..Outcome::default() };
    for (cell, read) in case.bench.store_padding() {
        for value in values(&case.bench, cell, &mut random) {
            let accepted = case.bench.accepts(&[(cell, value)]);
            if read {
                out.tried += 1;
                if accepted {
                    out.survivors.push(format!("{cell:?} := {value:?}"));
                }
            }
        }
        out.cells += usize::from(read);
    }
    out
}

/// Programs whose weights are hashed and share the rows of a store with padding, and the layouts that make them so.
pub(crate) fn stores() -> Vec<(&'static str, Program, Visibility, Choice)> {
    let mut r = rng(22);
    let mut out = Vec::new();
    let mut one = |name, make: &mut dyn FnMut(&mut Build) -> TensorId| {
        let mut b = Build::default();
        let y = make(&mut b);
        let p = b.output(y);
        let visibility = Visibility { params: Vis::Hashed, ..Visibility::default() };
        let found = plan(&p, &visibility, &PlanOptions::default()).unwrap().report().choice;
        for store in [2, 4] {
            out.push((name, p.clone(), visibility.clone(), Choice { store, store_limb: 8, ..found }));
        }
    };
    one("einsum", &mut |b| {
        let x = b.input(&[2, 4], 1, 100);
        b.dense(x, 3, 4, false, &mut r)
    });
    one("convolution in two groups", &mut |b| {
        let x = b.input(&[1, 2, 3, 3], 1, 100);
        let w = b.data(&[2, 1, 1, 1], Role::Param, vec![3, 5]);
        let term = Term::Conv { x, w, window: square(1, 1, 0), groups: 2, coeff: 1 };
        b.linear(vec![term], 0, 0, false, &[1, 2, 3, 3])
    });
    out
}

/// Runs mutants of every `every`-th cell of digests and committed tensors, alone and with all its copies.
pub(crate) fn mutate_exposed(case: &Case, every: usize) -> Outcome {
    let mut random = rng(78);
    let mut out = Outcome { least: usize::MAX, ..Outcome::default() };
    for cell in case.bench.exposed_cells().into_iter().step_by(every) {
        let values = values(&case.bench, cell, &mut random);
        out.cells += 1;
        out.least = out.least.min(values.len());
        for value in values {
            let class = change_class(&case.bench, cell, value);
            let both = [vec![(cell, value)], class];
            for changes in both.iter().take(1 + usize::from(both[1].len() > 1)) {
                out.tried += 1;
                if case.bench.accepts(changes) {
                    out.survivors.push(format!("{cell:?} {:?} := {value:?}", case.bench.describe(cell)));
                }
            }
        }
    }
    out
}

pub(crate) struct Real {
    pub(crate) case: Case,
    pub(crate) key: PreparedKey,
}

pub(crate) fn real(p: &Program) -> Real {
    real_with(p, Visibility::default())
}

pub(crate) fn real_with(p: &Program, visibility: Visibility) -> Real {
    real_of(p, visibility, &PlanOptions { units: Some(1), ..PlanOptions::default() })
}

pub(crate) fn real_of(p: &Program, visibility: Visibility, options: &PlanOptions) -> Real {
    let case = case_of(p, visibility, options);
    let key = keygen(engine(), &srs(case.plan.k()), &case.plan).unwrap();
    Real { case, key }
}

impl Real {
    /// Whether the real verifier accepts these changes; the prover proves them whatever they are.
    pub(crate) fn accepts(&self, changes: &[(Cell, Fr)]) -> bool {
        let circuit = self.case.bench.forge(changes);
        match prove_circuit(engine(), &self.key, circuit, ProofTranscript::Blake2b, rng(1)) {
            Ok(proof) => super::second::both(&self.key, &proof.bytes, &proof.instances),
            Err(ProveError::Rejected(_)) => false,
            Err(e) => panic!("{e}"),
        }
    }
}

/// Random mutants of a program through the real prover and verifier; how many were rejected, which must be all.
pub(crate) fn end_to_end(name: &str, p: &Program, mutants: usize) -> usize {
    let real = real(p);
    let cells = real.case.bench.cells();
    reject(name, &real, &cells, mutants)
}

/// The same for cells of digests and committed tensors.
pub(crate) fn end_to_end_exposed(name: &str, p: &Program, visibility: Visibility, mutants: usize) -> usize {
    let real = real_with(p, visibility);
    let cells = real.case.bench.exposed_cells();
    reject(name, &real, &cells, mutants)
}

fn reject(name: &str, real: &Real, cells: &[Cell], mutants: usize) -> usize {
    let mut random = rng(3);
    assert!(real.accepts(&[]), "{name}");
    for _ in 0..mutants {
        let cell = cells[between(&mut random, 0, cells.len() as i64 - 1) as usize];
        let values = values(&real.case.bench, cell, &mut random);
        let value = values[between(&mut random, 0, values.len() as i64 - 1) as usize];
        let changes = change_class(&real.case.bench, cell, value);
        assert!(!real.case.bench.accepts(&changes), "{name}");
        assert!(!real.accepts(&changes), "{name}: {changes:?}");
    }
    mutants
}
