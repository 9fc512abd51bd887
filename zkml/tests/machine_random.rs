//! Random programs: the circuit's instance is the executor's output, always.

mod machine_common;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use machine_common::mutants::programs;
use machine_common::{Build, between, check, random_inputs, rng, round_trip};
use parhelion_zkml::exec;
use parhelion_zkml::machine::{
    Bench, Choice, MockError, PlanOptions, ProveError, Vis, Visibility, mock, plan,
};
use parhelion_zkml::qir::{OpKind, Pick, Program, TensorId, Term};
use proptest::prelude::*;
use rand_core::RngCore;

/// A chain of random operations on matrices `[rows, columns]`, with a second operand from anywhere before.
fn random_program(seed: u64) -> Program {
    let mut r = rng(seed);
    let mut b = Build::default();
    let rows = between(&mut r, 1, 4) as usize;
    let columns = between(&mut r, 1, 6) as usize;
    let mut x = b.input(&[rows, columns], -between(&mut r, 1, 5000), between(&mut r, 1, 5000));
    let mut seen = vec![x];
    for _ in 0..between(&mut r, 1, 5) {
        let shape = b.shape(x);
        let (lo, hi) = b.bounds(x);
        let width = (hi - lo) as u64;
        let same: Vec<TensorId> = seen.iter().copied().filter(|&t| b.shape(t) == shape).collect();
        let other = same[between(&mut r, 0, same.len() as i64 - 1) as usize];
        let bits = 64 - width.leading_zeros();
        let shift = bits.saturating_sub(between(&mut r, 4, 9) as u32);
        let relu = r.next_u64().is_multiple_of(2);
        x = match r.next_u64() % 11 {
            0 => {
                let out = between(&mut r, 1, 5) as usize;
                b.dense(x, out, shift.clamp(1, 12), relu, &mut r)
            }
            1 => {
                let terms = vec![Term::Scale { x, coeff: 3 }, Term::Scale { x: other, coeff: -2 }];
                b.linear(terms, 5, shift, relu, &shape)
            }
            2 => {
                let (a, c) = b.bounds(other);
                let wide = (a.abs().max(c)).max(1) as u64 * (lo.abs().max(hi)).max(1) as u64;
                let shift = (64 - wide.leading_zeros()).saturating_sub(10);
                b.linear(vec![Term::Product { a: x, b: other, coeff: 1 }], -1, shift, relu, &shape)
            }
            3 if width < 2000 => b.lookup(x, |v| (v * v) % 97 - 40),
            4 if width < 1 << 20 => b.interpolate(x, bits.saturating_sub(5).max(1), 4),
            5 => b.op(OpKind::Step { x }, &shape, 0, 1),
            6 => {
                let y = b.op(OpKind::Max { x }, &shape[..1], lo, hi);
                b.reshape(y, &[shape[0], 1])
            }
            7 => {
                let y = b.op(OpKind::ArgMax { x, last: relu }, &shape[..1], 0, shape[1] as i64 - 1);
                b.reshape(y, &[shape[0], 1])
            }
            8 => b.linear(vec![Term::Sum { x, axes: vec![1], coeff: 2 }], 1, shift, relu, &[shape[0], 1]),
            9 => {
                let term = Term::Einsum {
                    a: x,
                    b: other,
                    a_axes: vec![0, 2],
                    b_axes: vec![1, 2],
                    out_axes: vec![0, 1],
                    coeff: 1,
                };
                let (a, c) = b.bounds(other);
                let wide =
                    (a.abs().max(c)).max(1) as u64 * (lo.abs().max(hi)).max(1) as u64 * shape[1] as u64;
                let shift = (64 - wide.leading_zeros()).saturating_sub(10);
                b.linear(vec![term], 0, shift, relu, &[shape[0], shape[0]])
            }
            _ => {
                let n = shape[0] * shape[1];
                let picks = (0..n as u32).rev().map(|index| Pick::Of { source: 0, index }).collect();
                b.op(OpKind::View { sources: vec![x], picks }, &[shape[1], shape[0]], lo, hi)
            }
        };
        seen.push(x);
    }
    b.output(x)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn constraints_hold(seed in any::<u64>(), units in prop::sample::select(vec![None, Some(1), Some(2)])) {
        let p = random_program(seed);
        let visibility = match seed % 3 {
            0 => Visibility::default(),
            1 => Visibility { params: Vis::Fixed, ..Visibility::default() },
            _ => Visibility { input: Vis::Public, ..Visibility::default() },
        };
        let options = PlanOptions { units, ..PlanOptions::default() };
        if plan(&p, &visibility, &options).is_ok() || units == Some(1) {
            check(&p, visibility, &options, seed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn proofs_verify(seed in any::<u64>()) {
        round_trip(&random_program(seed), Visibility::default(), &PlanOptions::default(), seed);
    }
}

/// A trace that is not the program's names the layer and the element.
#[test]
fn a_wrong_trace_names_its_layer() {
    let mut b = Build::default();
    let x = b.input(&[6], -100, 100);
    let y = b.linear(vec![Term::Scale { x, coeff: 7 }], 0, 3, true, &[6]);
    let z = b.lookup(y, |v| v / 2);
    let p = b.output(z);
    let plan = plan(&p, &Visibility::default(), &PlanOptions::default()).unwrap();
    let trace = exec::run(&p, &random_inputs(&p, &mut rng(1))).unwrap();
    mock(&plan, &trace.values).unwrap();
    let mut wrong = trace.values.clone();
    let mut values = wrong[z.0 as usize].as_ref().unwrap().to_vec();
    values[4] += 1;
    wrong[z.0 as usize] = Some(values.into());
    match mock(&plan, &wrong) {
        Err(MockError::Witness(ProveError::Mismatch { layer, element: 4, got, computed })) => {
            assert_eq!((layer.as_str(), got), ("node1", computed + 1));
        }
        other => panic!("{other:?}"),
    }
    // A violated constraint is named the same way.
    let bench = Bench::new(&plan, &trace.values).unwrap();
    let cell = bench.element(z.0, 4).unwrap();
    let violation = bench.violation(&[(cell, bench.value(cell) + Fr::ONE)]).unwrap();
    assert_eq!(bench.describe(violation.cell), ("node1".into(), 4));
    let mut wrong = trace.values.clone();
    let mut values = wrong[x.0 as usize].as_ref().unwrap().to_vec();
    values[3] = 101;
    wrong[x.0 as usize] = Some(values.into());
    match mock(&plan, &wrong) {
        Err(MockError::Witness(ProveError::OutOfRange {
            layer,
            element: 3,
            value: 101,
            lo: -100,
            hi: 100,
        })) => {
            assert_eq!(layer, "input0");
        }
        other => panic!("{other:?}"),
    }
    let mut wrong = trace.values.clone();
    wrong[y.0 as usize] = None;
    assert!(matches!(mock(&plan, &wrong), Err(MockError::Witness(ProveError::MissingTensor { .. }))));
    wrong[y.0 as usize] = Some(vec![1].into());
    assert!(matches!(mock(&plan, &wrong), Err(MockError::Witness(ProveError::WrongLength { .. }))));
}

/// `SEED=n cargo test … -- --ignored one_seed --nocapture` looks at one program.
#[test]
#[ignore = "for a seed that failed: SEED=n cargo test --release -p parhelion-zkml --test machine_random -- --ignored one_seed --nocapture"]
fn one_seed() {
    let Some(seed) = std::env::var("SEED").ok().and_then(|s| s.parse().ok()) else { return };
    let p = random_program(seed);
    for t in &p.tensors {
        println!("{} {:?} [{}, {}]", t.name, t.shape, t.lo, t.hi);
    }
    for op in &p.ops {
        println!("{op:?}");
    }
    for units in [None, Some(1), Some(2)] {
        let options = PlanOptions { units, ..PlanOptions::default() };
        let Ok(plan) = plan(&p, &Visibility::default(), &options) else { continue };
        let trace = exec::run(&p, &random_inputs(&p, &mut rng(seed))).unwrap();
        println!("{:?} {:?}", plan.report(), mock(&plan, &trace.values));
    }
}

/// Every input at the least of its range, at the greatest, and by turns.
#[test]
fn values_at_the_ends_of_their_ranges_have_witnesses() {
    for (name, p) in programs() {
        for units in [1, 2] {
            let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
            let Ok(plan) = plan(&p, &Visibility::default(), &options) else { continue };
            for ends in 0..4 {
                let end = |id: &TensorId| {
                    let t = p.tensor(*id);
                    let one = |i: usize| if (ends >> (i % 2)) & 1 == 0 { t.lo } else { t.hi };
                    (0..t.len()).map(one).collect()
                };
                let inputs: Vec<Vec<i64>> = p.inputs.iter().map(end).collect();
                let trace = exec::run(&p, &inputs).unwrap();
                mock(&plan, &trace.values).unwrap_or_else(|e| panic!("{name}, {units} units: {e}"));
            }
        }
    }
}

/// A unit without an element has the sum's constant, however many operands are added in parts.
#[test]
fn idle_units_of_long_sums_are_in_range() {
    let mut r = rng(11);
    let mut b = Build::default();
    let x = b.input(&[2, 2], 1, 9);
    let w = b.param(&[3, 2], 3, &mut r);
    let mut terms = vec![Term::Einsum {
        a: x,
        b: w,
        a_axes: vec![0, 2],
        b_axes: vec![1, 2],
        out_axes: vec![0, 1],
        coeff: 1,
    }];
    terms.extend((0..14).map(|_| Term::Scale { x: b.input(&[2, 3], 100_000, 110_000), coeff: 1 }));
    let y = b.linear(terms, -1_000_000, 4, false, &[2, 3]);
    let p = b.output(y);
    let choice = Choice { k: 7, limb: 10, units: 2, ranges: 3, plain: 4, store: 2, store_limb: 8, lanes: 3 };
    check(&p, Visibility::default(), &PlanOptions { choice: Some(choice), ..PlanOptions::default() }, 1);
}
