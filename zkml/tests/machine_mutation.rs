//! What a cheating prover might write: every cell of every operation changed, and forgeries of the arguments that the circuit rests on.
//!
//! A mutant changes a cell with all its copies; multiplicities are counted again and every later phase is computed from the changed cells, so
//! nothing but the statement's own constraints stands in its way. The fast check is compared with the real prover and verifier.
//!
//! `cargo test --release -p parhelion-zkml --test machine_mutation -- --ignored --nocapture` prints the counts of the long run.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where it cannot go on")]

mod machine_common;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use machine_common::{Build, between, engine, random_inputs, rng, srs};
use parhelion_prover::{PreparedKey, ProofTranscript};
use parhelion_zkml::exec;
use parhelion_zkml::machine::{
    Bench, Cell, Col, Plan, PlanOptions, ProveError, Visibility, keygen, plan, prove_circuit, verify,
};
use parhelion_zkml::qir::{OpKind, Program, TensorId, Term};
use rand_core::RngCore;

/// One program per operation. Inputs are positive and no sum is clipped to zero, because what is multiplied by zero is free.
fn programs() -> Vec<(&'static str, Program)> {
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
    out
}

struct Case {
    plan: Plan,
    bench: Bench,
}

fn case(p: &Program, visibility: Visibility, units: u32) -> Case {
    let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
    let plan = plan(p, &visibility, &options).unwrap();
    let trace = exec::run(p, &random_inputs(p, &mut rng(5))).unwrap();
    let bench = Bench::new(&plan, &trace.values).unwrap();
    assert_eq!(bench.violation(&[]), None);
    Case { plan, bench }
}

/// Values that a cheating prover might try in place of this one.
fn values(bench: &Bench, cell: Cell, random: &mut impl RngCore) -> Vec<Fr> {
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
        -v,
        two.invert().unwrap() * v,
        bench.value(below),
        Fr::random(&mut *random),
        Fr::from(random.next_u64() % 64),
    ];
    out.retain(|x| *x != v);
    out
}

fn change_class(bench: &Bench, cell: Cell, value: Fr) -> Vec<(Cell, Fr)> {
    bench.class(cell).into_iter().filter(|c| c.col != Col::Const).map(|c| (c, value)).collect()
}

/// Runs all mutants of a case; how many were tried, and which survived.
fn mutate(case: &Case, every: usize) -> (usize, Vec<String>) {
    let mut random = rng(77);
    let (mut tried, mut survivors) = (0, Vec::new());
    let mut cells = case.bench.cells();
    cells.extend(case.bench.multiplicities().into_iter().step_by(7));
    cells.extend(case.bench.junk_cells());
    cells.extend(case.bench.scalar_cells());
    for cell in cells.into_iter().step_by(every) {
        for value in values(&case.bench, cell, &mut random) {
            tried += 1;
            let changes = match cell.col {
                Col::Unit(_) | Col::Store(_) => change_class(&case.bench, cell, value),
                _ => vec![(cell, value)],
            };
            if case.bench.accepts(&changes) {
                survivors.push(format!("{cell:?} {:?} := {value:?}", case.bench.describe(cell)));
            }
        }
    }
    (tried, survivors)
}

#[test]
fn no_mutant_of_any_cell_of_any_operation_survives() {
    let mut total = 0;
    for (name, p) in programs() {
        let case = case(&p, Visibility::default(), 1);
        let (tried, survivors) = mutate(&case, 3);
        eprintln!("{name}: {tried} mutants, {} survive", survivors.len());
        assert!(survivors.is_empty(), "{name}: {survivors:#?}");
        total += tried;
    }
    eprintln!("{total} mutants rejected");
}

#[test]
#[ignore = "minutes; cargo test --release -p parhelion-zkml --test machine_mutation -- --ignored --nocapture"]
fn every_mutant_of_every_cell() {
    let mut total = 0;
    for (name, p) in programs() {
        for units in [1, 2] {
            let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
            if plan(&p, &Visibility::default(), &options).is_err() {
                continue;
            }
            let case = case(&p, Visibility::default(), units);
            let (tried, survivors) = mutate(&case, 1);
            eprintln!("{name}, {units} units: {tried} mutants, {} survive", survivors.len());
            assert!(survivors.is_empty(), "{name}: {survivors:#?}");
            total += tried;
        }
    }
    eprintln!("{total} mutants rejected");
}

struct Real {
    case: Case,
    key: PreparedKey,
}

fn real(p: &Program) -> Real {
    let case = case(p, Visibility::default(), 1);
    let key = keygen(engine(), &srs(case.plan.k()), &case.plan).unwrap();
    Real { case, key }
}

impl Real {
    /// Whether the real verifier accepts these changes; the prover proves them whatever they are.
    fn accepts(&self, changes: &[(Cell, Fr)]) -> bool {
        let circuit = self.case.bench.forge(changes);
        match prove_circuit(engine(), &self.key, circuit, ProofTranscript::Blake2b, rng(1)) {
            Ok(_) => true,
            Err(ProveError::Rejected(_)) => false,
            Err(e) => panic!("{e}"),
        }
    }
}

fn end_to_end(per_program: usize) -> usize {
    let mut random = rng(3);
    let mut total = 0;
    for (name, p) in programs() {
        let real = real(&p);
        assert!(real.accepts(&[]), "{name}");
        let cells = real.case.bench.cells();
        for _ in 0..per_program {
            let cell = cells[between(&mut random, 0, cells.len() as i64 - 1) as usize];
            let values = values(&real.case.bench, cell, &mut random);
            let value = values[between(&mut random, 0, values.len() as i64 - 1) as usize];
            let changes = change_class(&real.case.bench, cell, value);
            assert!(!real.case.bench.accepts(&changes), "{name}");
            assert!(!real.accepts(&changes), "{name}: {changes:?}");
            total += 1;
        }
    }
    total
}

#[test]
fn the_real_verifier_agrees() {
    end_to_end(2);
}

#[test]
#[ignore = "minutes; cargo test --release -p parhelion-zkml --test machine_mutation -- --ignored --nocapture"]
fn a_thousand_mutants_through_the_real_verifier() {
    let total = end_to_end(54);
    eprintln!("{total} mutants rejected by the real verifier");
    assert!(total >= 1000);
}

fn product() -> (Program, TensorId) {
    let mut b = Build::default();
    let (x, y) = (b.input(&[2, 2], 1, 100), b.input(&[2, 2], 1, 100));
    let term =
        Term::Einsum { a: x, b: y, a_axes: vec![0, 2], b_axes: vec![2, 1], out_axes: vec![0, 1], coeff: 1 };
    let z = b.linear(vec![term], 0, 0, false, &[2, 2]);
    (b.output(z), z)
}

/// With a constant in place of the challenges, errors that cancel in the folded sum pass. With challenges they do not.
#[test]
fn freivalds_with_a_constant_is_forged_and_with_challenges_is_not() {
    let (p, z) = product();
    let real = real(&p);
    let bench = &real.case.bench;
    let delta = Fr::from(3584);
    let (up, down) = (bench.element(z.0, 1).unwrap(), bench.element(z.0, 2).unwrap());
    let mut changes = change_class(bench, up, bench.value(up) + delta);
    changes.extend(change_class(bench, down, bench.value(down) - delta));
    assert!(!bench.accepts(&changes));
    assert!(!real.accepts(&changes));
    let mut broken = case(&p, Visibility::default(), 1).bench;
    broken.set_points(Fr::from(9), Fr::from(9));
    assert!(broken.accepts(&changes), "the forgery is one that constants would let pass");
}

#[test]
fn forged_multiplicities_are_rejected() {
    let (_, p) = programs().into_iter().find(|(name, _)| *name == "lookup").unwrap();
    let real = real(&p);
    let bench = &real.case.bench;
    let entries = bench.multiplicities();
    // One more use of an entry; one use moved to another entry.
    let used = entries.iter().copied().find(|&c| bench.value(c) != Fr::ZERO).unwrap();
    let unused = entries.iter().copied().find(|&c| bench.value(c) == Fr::ZERO).unwrap();
    for changes in [
        vec![(used, bench.value(used) + Fr::ONE)],
        vec![(used, bench.value(used) - Fr::ONE), (unused, Fr::ONE)],
        vec![(unused, Fr::ONE)],
    ] {
        assert!(!bench.accepts(&changes));
        assert!(!real.accepts(&changes));
    }
}

/// `v − 1` with a remainder of one divisor more satisfies the equation; only the range of the remainder forbids it.
#[test]
fn a_remainder_out_of_range_is_rejected() {
    let mut b = Build::default();
    let x = b.input(&[1], 2, 7);
    let y = b.linear(vec![Term::Scale { x, coeff: 16 }], 0, 4, false, &[1]);
    let p = b.output(y);
    let real = real(&p);
    let bench = &real.case.bench;
    let home = bench.element(y.0, 0).unwrap();
    let v = bench.value(home);
    let mut found = 0;
    for cell in bench.cells().into_iter().filter(|c| c.row == home.row && *c != home) {
        let mut changes = change_class(bench, home, v - Fr::ONE);
        changes.push((cell, bench.value(cell) + Fr::from(16)));
        found += usize::from(bench.violation(&changes).is_some_and(|v| v.constraint.starts_with("lookup")));
        assert!(!bench.accepts(&changes));
        assert!(!real.accepts(&changes));
    }
    assert_eq!(found, 1, "exactly the remainder's cell balances the equation");
}

#[test]
fn a_forged_table_output_is_rejected() {
    let (_, p) = programs().into_iter().find(|(name, _)| *name == "lookup").unwrap();
    let real = real(&p);
    let bench = &real.case.bench;
    let out = bench.element(p.outputs[0].0, 2).unwrap();
    let other = bench.element(p.outputs[0].0, 1).unwrap();
    for value in [bench.value(out) + Fr::ONE, bench.value(other)] {
        let changes = change_class(bench, out, value);
        assert!(bench.violation(&changes).unwrap().constraint.starts_with("lookup"));
        assert!(!real.accepts(&changes));
    }
}

/// A wanted output changed, and every junk coefficient tried as its counterweight.
#[test]
fn junk_cannot_absorb_a_wanted_output() {
    let mut r = rng(2);
    let mut b = Build::default();
    let x = b.input(&[1, 1, 3, 3], 1, 50);
    let y = b.conv(x, 1, 2, 1, 0, 1, 0, false, &mut r);
    let p = b.output(y);
    let real = real(&p);
    let bench = &real.case.bench;
    let out = bench.element(y.0, 0).unwrap();
    let wrong = change_class(bench, out, bench.value(out) + Fr::ONE);
    assert!(!bench.junk_cells().is_empty());
    for (i, junk) in bench.junk_cells().into_iter().enumerate() {
        for delta in [Fr::ONE, -Fr::ONE] {
            let mut changes = wrong.clone();
            changes.push((junk, delta));
            assert!(!bench.accepts(&changes));
            if i == 0 {
                assert!(!real.accepts(&changes));
            }
        }
    }
}

/// A recurrent weight that is folded once and used at two steps: the second use cannot be of another fold.
#[test]
fn two_uses_of_a_weight_cannot_differ() {
    let mut r = rng(5);
    let mut b = Build::default();
    let x = b.input(&[1, 3], 1, 100);
    let w = b.param(&[3, 3], 100, &mut r);
    let step =
        |a| Term::Einsum { a, b: w, a_axes: vec![0, 2], b_axes: vec![1, 2], out_axes: vec![0, 1], coeff: 1 };
    let h = b.linear(vec![step(x)], 0, 0, false, &[1, 3]);
    let y = b.linear(vec![step(h)], 0, 0, false, &[1, 3]);
    let p = b.output(y);
    let real = real(&p);
    let bench = &real.case.bench;
    for cell in bench.scalar_cells() {
        assert!(!bench.accepts(&[(cell, Fr::from(12345))]));
    }
    let last = *bench.scalar_cells().last().unwrap();
    assert!(!real.accepts(&[(last, Fr::from(12345))]));
}

#[test]
fn another_instance_is_rejected() {
    let (p, _) = product();
    let real = real(&p);
    let circuit = real.case.bench.forge(&[]);
    let proof = prove_circuit(engine(), &real.key, circuit, ProofTranscript::Blake2b, rng(1)).unwrap();
    let check = |instances: &[Vec<Fr>], bytes: &[u8]| {
        verify(real.key.verifier_params(), real.key.vk(), bytes, instances, ProofTranscript::Blake2b).is_ok()
    };
    assert!(check(&proof.instances, &proof.bytes));
    for i in 0..4 {
        let mut instances = proof.instances.clone();
        instances[0][i] += Fr::ONE;
        assert!(!check(&instances, &proof.bytes));
    }
    assert!(!check(&[proof.instances[0][..3].to_vec()], &proof.bytes));
    assert!(!check(&[], &proof.bytes));
    let mut random = rng(4);
    for _ in 0..40 {
        let mut bytes = proof.bytes.clone();
        let at = between(&mut random, 0, bytes.len() as i64 - 1) as usize;
        bytes[at] ^= 1 << (random.next_u64() % 8);
        assert!(!check(&proof.instances, &bytes));
        assert!(!check(&proof.instances, &proof.bytes[..at]));
    }
}
