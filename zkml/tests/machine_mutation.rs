//! What a cheating prover might write: every cell of every operation changed, and forgeries of the arguments that the circuit rests on.
//!
//! A mutant changes a cell with all its copies; multiplicities are counted again and every later phase is computed from the changed cells, so
//! nothing but the statement's own constraints stands in its way. The fast check is compared with the real prover and verifier.
//!
//! `cargo test --release -p parhelion-zkml --test machine_mutation -- --ignored --nocapture` prints the counts of the long run, and `cargo run
//! --release -p parhelion-zkml --example mutations` makes a record of them.

mod machine_common;

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use machine_common::mutants::{
    case, case_of, change_class, end_to_end, mutate, mutate_padding, programs, real, real_of, stores,
};
use machine_common::{Build, between, engine, rng, square};
use parhelion_prover::ProofTranscript;
use parhelion_zkml::machine::{Choice, PlanOptions, Vis, Visibility, plan, prove_circuit, verify};
use parhelion_zkml::qir::{Program, Role, TensorId, Term};
use rand_core::RngCore;

#[test]
fn no_mutant_of_any_cell_of_any_operation_survives() {
    let mut total = 0;
    for (name, p) in programs() {
        let case = case(&p, Visibility::default(), 1);
        let done = mutate(&case, 3);
        eprintln!("{name}: {} mutants, {} survive", done.tried, done.survivors.len());
        assert!(done.survivors.is_empty(), "{name}: {:#?}", done.survivors);
        total += done.tried;
    }
    eprintln!("{total} mutants rejected");
}

#[test]
#[ignore = "a minute on two cores: cargo test --release -p parhelion-zkml --test machine_mutation -- --ignored --nocapture"]
fn every_mutant_of_every_cell() {
    let mut total = 0;
    for (name, p) in programs() {
        for units in [1, 2] {
            let options = PlanOptions { units: Some(units), ..PlanOptions::default() };
            if plan(&p, &Visibility::default(), &options).is_err() {
                continue;
            }
            let case = case(&p, Visibility::default(), units);
            let done = mutate(&case, 1);
            eprintln!("{name}, {units} units: {} mutants, {} survive", done.tried, done.survivors.len());
            assert!(done.survivors.is_empty(), "{name}: {:#?}", done.survivors);
            total += done.tried;
        }
    }
    eprintln!("{total} mutants rejected");
}

#[test]
fn the_real_verifier_agrees() {
    for (name, p) in programs() {
        end_to_end(name, &p, 2);
    }
}

#[test]
#[ignore = "a minute on two cores: cargo test --release -p parhelion-zkml --test machine_mutation -- --ignored --nocapture"]
fn a_thousand_mutants_through_the_real_verifier() {
    let total: usize = programs().iter().map(|(name, p)| end_to_end(name, p, 54)).sum();
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

/// Rows of the store hold several weights, so the last of a polynomial may have cells that are no weight. Where the next power of τ is
/// another group's output, such a cell would be a weight of that group that no digest knows of.
#[test]
fn padding_of_the_store_is_no_weight_of_another_group() {
    let mut b = Build::default();
    let x = b.input(&[1, 2, 2, 2], 1, 50);
    let w = b.data(&[2, 1, 1, 1], Role::Param, vec![3, 5]);
    let term = Term::Conv { x, w, window: square(1, 1, 0), groups: 2, coeff: 1 };
    let y = b.linear(vec![term], 0, 0, false, &[1, 2, 2, 2]);
    let p = b.output(y);
    let visibility = Visibility { params: Vis::Hashed, ..Visibility::default() };
    let found = plan(&p, &visibility, &PlanOptions::default()).unwrap().report().choice;
    let options =
        PlanOptions { choice: Some(Choice { store: 2, store_limb: 8, ..found }), ..PlanOptions::default() };
    let real = real_of(&p, visibility, &options);
    let bench = &real.case.bench;
    assert!(real.accepts(&[]));
    let padding: Vec<_> = bench.store_padding().into_iter().map(|(cell, _)| cell).collect();
    assert_eq!(padding.len(), 2);
    for cell in padding {
        // Group 0's image, twice, on top of group 1's output, or the other way round.
        for (from, to) in [(0, 4), (4, 0)] {
            let mut changes = vec![(cell, Fr::from(2))];
            for pixel in 0..4 {
                let (image, out) = (bench.element(x.0, from + pixel), bench.element(y.0, to + pixel));
                let (image, out) = (image.unwrap(), out.unwrap());
                let forged = bench.value(out) + bench.value(image).double();
                changes.extend(change_class(bench, out, forged));
            }
            assert!(!bench.accepts(&changes));
            assert!(!real.accepts(&changes));
        }
    }
}

/// Where the next power of τ is nobody's, the row's gate reads the padding, and nothing but the honest value satisfies it.
#[test]
fn padding_of_the_store_that_is_read_is_constrained() {
    for (op, p, visibility, choice) in stores() {
        let case = case_of(&p, visibility, &PlanOptions { choice: Some(choice), ..PlanOptions::default() });
        let padding = case.bench.store_padding();
        assert!(!padding.is_empty(), "{op}");
        let done = mutate_padding(&case);
        assert_eq!(done.cells, padding.iter().filter(|(_, read)| *read).count());
        assert!(done.survivors.is_empty(), "{op}: {:?}", done.survivors);
        assert_eq!(done.cells == 0, op.contains("group"), "{op}");
    }
}

/// The same where two products are added, and the weights of one of them run over one of two axes only.
#[test]
fn padding_of_the_store_is_no_weight_of_another_column() {
    let mut b = Build::default();
    let (x, u) = (b.input(&[2], 1, 9), b.input(&[2, 2], 1, 9));
    let w = b.data(&[2, 2, 3], Role::Param, (1..=12).collect());
    let v = b.data(&[2, 3], Role::Param, vec![3, -1, 4, 1, -9, 5]);
    let terms = vec![
        Term::Einsum { a: u, b: v, a_axes: vec![0, 2], b_axes: vec![2, 1], out_axes: vec![0, 1], coeff: 1 },
        Term::Einsum { a: x, b: w, a_axes: vec![2], b_axes: vec![2, 0, 1], out_axes: vec![0, 1], coeff: 1 },
    ];
    let y = b.linear(terms, 0, 0, false, &[2, 3]);
    let p = b.output(y);
    let visibility = Visibility { params: Vis::Hashed, ..Visibility::default() };
    let found = plan(&p, &visibility, &PlanOptions::default()).unwrap().report().choice;
    let options =
        PlanOptions { choice: Some(Choice { store: 2, store_limb: 8, ..found }), ..PlanOptions::default() };
    let real = real_of(&p, visibility, &options);
    let bench = &real.case.bench;
    assert!(real.accepts(&[]));
    let u = |i: u32| bench.value(bench.element(u.0, i).unwrap());
    let padding: Vec<_> = bench.store_padding().into_iter().map(|(cell, _)| cell).collect();
    assert_eq!(padding.len(), 2);
    // Nothing on top of the row after the last, something on top of the first element of the second.
    let out = bench.element(y.0, 3).unwrap();
    for [first, second] in [[0, 1], [1, 0]] {
        let mut changes = vec![(padding[first], u(3)), (padding[second], -u(2))];
        changes.extend(change_class(bench, out, bench.value(out) + u(3) * u(0) - u(2) * u(1)));
        assert!(!bench.accepts(&changes));
        assert!(!real.accepts(&changes));
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
