//! Gathers of rows by a computed index: every form of table, and what a cheating prover might write.

mod machine_common;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use machine_common::mutants::{case, case_of, change_class, mutate, mutate_padding, real_of};
use machine_common::{Build, between, check, rng, round_trip, square};
use parhelion_zkml::machine::{Choice, PlanOptions, Vis, Visibility, plan};
use parhelion_zkml::qir::{OpKind, Pick, Program, Role, TensorId, Term};

const BOUND: i64 = 900;

fn units(units: u32) -> PlanOptions {
    PlanOptions { units: Some(units), ..PlanOptions::default() }
}

/// `reads` rows of a table, by an input.
fn gather(b: &mut Build, data: TensorId, reads: usize) -> TensorId {
    let shape = b.shape(data);
    let index = b.input(&[reads], 0, shape[0] as i64 - 1);
    let (lo, hi) = b.bounds(data);
    let wide: Vec<usize> = [reads].into_iter().chain(shape[1..].iter().copied()).collect();
    b.op(OpKind::Gather { data, index }, &wide, lo, hi)
}

fn table(rows: usize, width: usize, reads: usize) -> (Program, TensorId, TensorId) {
    let mut b = Build::default();
    let data = b.param(&[rows, width], BOUND, &mut rng(3));
    let out = gather(&mut b, data, reads);
    (b.output(out), data, out)
}

fn with(params: Vis) -> Visibility {
    Visibility { params, ..Visibility::default() }
}

#[test]
fn rows_of_weights_in_every_visibility() {
    for params in [Vis::Private, Vis::Public, Vis::Fixed, Vis::Hashed, Vis::Committed] {
        for (rows, width, reads) in [(7, 5, 3), (2, 4, 1), (9, 8, 12), (5, 3, 4), (6, 1, 4)] {
            let (p, ..) = table(rows, width, reads);
            check(&p, with(params), &PlanOptions::default(), 5);
            for n in [1, 2, 3, 8] {
                check(&p, with(params), &units(n), 6);
            }
        }
        if matches!(params, Vis::Private | Vis::Public | Vis::Fixed) {
            let (p, ..) = table(7, 5, 3);
            round_trip(&p, with(params), &PlanOptions::default(), 9);
        }
    }
}

/// Columns of a table that is seen through a view, rows that an operation computes, constants, and a table of rows of rows.
#[test]
fn rows_of_other_tensors() {
    let mut r = rng(4);
    let mut b = Build::default();
    let w = b.param(&[5, 6], BOUND, &mut r);
    let picks = (0..30u32).map(|i| Pick::Of { source: 0, index: i % 5 * 6 + i / 5 }).collect();
    let turned = b.op(OpKind::View { sources: vec![w], picks }, &[6, 5], -BOUND, BOUND);
    let x = b.input(&[4, 3], -50, 50);
    let h = b.dense(x, 5, 3, false, &mut r);
    let constants = b.data(&[3, 5], Role::Constant, (0..15).map(|i| i * i - 40).collect());
    let rows: Vec<TensorId> =
        [turned, h, constants].into_iter().map(|data| gather(&mut b, data, 2)).collect();
    let terms = rows.iter().map(|&x| Term::Scale { x, coeff: 1 }).collect();
    let sum = b.linear(terms, 0, 2, false, &[2, 5]);
    let again = gather(&mut b, sum, 3);
    let p = b.output(again);
    for params in [Vis::Private, Vis::Fixed] {
        round_trip(&p, with(params), &PlanOptions::default(), 5);
        for n in [1, 2, 3, 8] {
            check(&p, with(params), &units(n), 6);
        }
    }
}

/// A table that a product reads as well, as the embedding of a language model is.
#[test]
fn rows_of_a_table_that_is_multiplied_by() {
    let mut b = Build::default();
    let data = b.param(&[6, 4], 90, &mut rng(5));
    let rows = gather(&mut b, data, 3);
    let (a_axes, b_axes, out_axes) = (vec![0, 2], vec![1, 2], vec![0, 1]);
    let term = Term::Einsum { a: rows, b: data, a_axes, b_axes, out_axes, coeff: 1 };
    let out = b.linear(vec![term], 0, 3, false, &[3, 6]);
    let p = b.output(out);
    for params in [Vis::Private, Vis::Fixed, Vis::Public] {
        round_trip(&p, with(params), &PlanOptions::default(), 5);
        (1..5).for_each(|n| drop(check(&p, with(params), &units(n), 6)));
    }
}

/// A convolution has a phase of its own, which rows wait for.
#[test]
fn rows_beside_a_convolution() {
    let mut r = rng(6);
    let mut b = Build::default();
    let data = b.param(&[1, 9], 90, &mut r);
    let rows = gather(&mut b, data, 2);
    let image = b.reshape(rows, &[1, 2, 3, 3]);
    let out = b.conv(image, 2, 2, 2, 1, 1, 4, true, &mut r);
    let p = b.output(out);
    let plan = round_trip(&p, Visibility::default(), &PlanOptions::default(), 5);
    assert_eq!(plan.report().phases, 3);
    for n in [1, 2, 4] {
        let options = units(n);
        if machine_common::plans(&p, &options) {
            check(&p, Visibility::default(), &options, 6);
        }
    }
    let case = case(&p, Visibility::default(), 1);
    let done = mutate(&case, 5);
    assert!(done.survivors.is_empty(), "{:#?}", done.survivors);
}

/// Two gathers of one table provide its rows once.
#[test]
fn readers_share_a_table() {
    let scalar_rows = |readers: usize| {
        let mut b = Build::default();
        let data = b.param(&[40, 6], BOUND, &mut rng(3));
        let all: Vec<TensorId> = (0..readers).map(|_| gather(&mut b, data, 2)).collect();
        b.p.outputs.extend(&all[1..]);
        let p = b.output(all[0]);
        round_trip(&p, Visibility::default(), &PlanOptions::default(), 5).report().scalar_rows
    };
    let (one, two) = (scalar_rows(1), scalar_rows(2));
    assert!(two - one < 20, "{one} {two}");
}

/// No cell of a gather may hold anything else, alone or with its copies, nor the multiplicities, nor padding that a gate reads.
#[test]
fn no_mutant_of_a_gathered_row_survives() {
    let mut tried = 0;
    for width in [4, 5] {
        let mut b = Build::default();
        let data = b.input(&[3, width], 1, BOUND);
        let out = gather(&mut b, data, 7);
        let p = b.output(out);
        for n in [1, 2, 3] {
            let case = case(&p, Visibility::default(), n);
            let done = mutate(&case, 1);
            assert!(done.survivors.is_empty(), "{n} units: {:#?}", done.survivors);
            tried += done.tried;
        }
    }
    let (p, ..) = table(3, 5, 8);
    let found = plan(&p, &with(Vis::Hashed), &PlanOptions::default()).unwrap().report().choice;
    for store in [2, 4] {
        let options =
            PlanOptions { choice: Some(Choice { store, store_limb: 11, ..found }), ..PlanOptions::default() };
        let case = case_of(&p, with(Vis::Hashed), &options);
        let padding = mutate_padding(&case);
        assert!(padding.survivors.is_empty(), "{:#?}", padding.survivors);
    }
    assert!(tried > 2000, "{tried}");
}

/// Rows that no table has, and rows of it under another number, are refused by the bench and by the real verifier.
#[test]
fn a_row_is_itself_and_in_its_place() {
    let (p, data, out) = table(6, 5, 2);
    let options = units(1);
    let real = real_of(&p, Visibility { output: Vis::Private, ..Visibility::default() }, &options);
    let bench = &real.case.bench;
    let weights = p.tensor(data).data.clone().unwrap();
    let cells: Vec<_> = (0..5).map(|j| bench.element(out.0, j).unwrap()).collect();
    let row = |r: usize| -> Vec<_> {
        let value = |x: i64| if x < 0 { -Fr::from(x.unsigned_abs()) } else { Fr::from(x as u64) };
        let row = weights[5 * r..][..5].iter().map(|&x| value(x));
        cells.iter().zip(row).flat_map(|(&cell, v)| change_class(bench, cell, v)).collect()
    };
    let honest: Vec<Fr> = cells.iter().map(|&c| bench.value(c)).collect();
    let mut random = rng(8);
    let mut forgeries: Vec<Vec<_>> = (0..6).map(row).collect();
    // The same elements in another order, and sums that agree.
    let mut turned = honest.clone();
    turned.rotate_left(1);
    forgeries.push(cells.iter().zip(turned).flat_map(|(&c, v)| change_class(bench, c, v)).collect());
    let d = Fr::from(between(&mut random, 1, 9) as u64);
    let moved = [(0, honest[0] + d), (1, honest[1] - d)];
    forgeries.push(moved.iter().flat_map(|&(j, v)| change_class(bench, cells[j], v)).collect());
    // The number is that of another row.
    let index = p.inputs[0];
    let number = bench.element(index.0, 0).unwrap();
    forgeries.push(change_class(bench, number, bench.value(number) + Fr::ONE));
    let same = |changes: &Vec<_>| changes.iter().all(|&(cell, v)| bench.value(cell) == v);
    forgeries.retain(|changes| !same(changes));
    assert!(forgeries.len() >= 7);
    for changes in &forgeries {
        assert!(!bench.accepts(changes));
        assert!(!real.accepts(changes));
    }
}

/// With a point that the prover knows, elements may trade places; with a challenge they may not.
#[test]
fn a_fold_at_a_known_point_is_forged_and_at_a_challenge_is_not() {
    let (p, _, out) = table(6, 5, 2);
    let visibility = Visibility { output: Vis::Private, ..Visibility::default() };
    let mut case = case(&p, visibility, 1);
    let cells: Vec<_> = (0..2).map(|j| case.bench.element(out.0, j).unwrap()).collect();
    let d = Fr::from(7);
    let changes = |bench: &parhelion_zkml::machine::Bench| {
        let (x, y) = (bench.value(cells[0]) + d, bench.value(cells[1]) - d);
        let mut all = change_class(bench, cells[0], x);
        all.extend(change_class(bench, cells[1], y));
        all
    };
    assert!(!case.bench.accepts(&changes(&case.bench)));
    case.bench.set_points(Fr::ONE, Fr::from(5));
    assert!(case.bench.accepts(&changes(&case.bench)));
}

/// A table costs by its rows: its elements are weights of the store, without keys and lookups.
#[test]
fn a_table_costs_by_the_row() {
    let (p, ..) = table(300, 64, 4);
    let plan = plan(&p, &Visibility::default(), &PlanOptions::default()).unwrap();
    let report = plan.report();
    assert_eq!(report.stored_weights, 300 * 64);
    assert!(report.scalar_rows <= 3 * 300 + 3 * 4 + 300, "{}", report.scalar_rows);
    let cells: usize = report.layers.iter().map(|l| l.cells).sum();
    let lookups: usize = report.layers.iter().map(|l| l.lookups).sum();
    assert!(cells < 2 * 4 * 64 + 300 && lookups < 2 * 4 * 64 + 2 * 300, "{cells} cells, {lookups} lookups");
}

/// The vocabulary of a language model fits: its rows are sums over weights of the store, and little else.
#[test]
fn a_large_vocabulary_has_a_plan() {
    let (p, ..) = table(30_522, 384, 16);
    let plan = plan(&p, &Visibility::default(), &PlanOptions::default()).unwrap();
    let report = plan.report();
    assert_eq!(report.stored_weights, 30_522 * 384);
    assert!(report.scalar_rows < 3 * 30_522 && plan.k() <= 19, "{} {}", report.scalar_rows, plan.k());
}

/// Constants have a row each: where there are more than anything else, the planner counts them.
#[test]
fn more_constants_than_rows_of_anything_else() {
    let mut b = Build::default();
    let data = b.input(&[6000, 3], -4, 4);
    let out = gather(&mut b, data, 2);
    let p = b.output(out);
    let plan = plan(&p, &Visibility::default(), &units(16)).unwrap();
    assert!(1 << plan.k() >= 18000, "{}", plan.k());
    let mut b = Build::default();
    let x = b.input(&[5000], -4, 4);
    let c = b.data(&[5000], Role::Constant, (0..5000).collect());
    let terms = vec![Term::Scale { x, coeff: 1 }, Term::Scale { x: c, coeff: 1 }];
    let sum = b.linear(terms, 0, 0, false, &[5000]);
    let p = b.output(sum);
    check(&p, Visibility::default(), &units(12), 5);
}

#[test]
fn a_window_over_rows_of_a_table() {
    let mut b = Build::default();
    let data = b.param(&[4, 1, 4, 4], 9, &mut rng(2));
    let rows = gather(&mut b, data, 2);
    let term = Term::SumPool { x: rows, window: square(2, 2, 0), coeff: 1 };
    let out = b.linear(vec![term], 0, 0, false, &[2, 1, 2, 2]);
    round_trip(&b.output(out), Visibility::default(), &PlanOptions::default(), 5);
}
