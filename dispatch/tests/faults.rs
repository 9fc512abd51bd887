//! Ten thousand injected faults, none of which reaches a caller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Call, call, expected, faulty};
use parhelion_conformance::inputs::rng;
use parhelion_conformance::{Fault, FaultKind};
use parhelion_dispatch::{Checks, Policy, Reason};
use rand_core::RngCore;

/// Faults per thread and number of threads: ten thousand in all.
const FAULTS: u64 = 5_000;
const THREADS: u64 = 2;

fn kind(random: u64) -> FaultKind {
    match random % 8 {
        0 => FaultKind::OutOfMemory,
        1 => FaultKind::DeviceLost,
        2 => FaultKind::Crash,
        3 => FaultKind::Zero,
        4 => FaultKind::Blame,
        // Most faults are single bits, anywhere in the result.
        _ => FaultKind::Flip(random.rotate_left(17)),
    }
}

fn inject(policy: &Policy, calls: &[Call]) {
    let (injected, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (injected, wrong) = (&injected, &wrong);
            scope.spawn(move || {
                let mut rng = rng(1000 + thread);
                // A few operands with known answers, asked again and again of freshly broken devices.
                let answers: Vec<_> =
                    calls.iter().map(|c| [0, 1, 2].map(|seed| expected(*c, seed))).collect();
                for i in 0..FAULTS {
                    // Multiplications come first in the list, and take as long as all other calls together.
                    let pick = if i % 8 == 0 { 0 } else { 1 + rng.next_u64() as usize % (calls.len() - 1) };
                    let (which, seed) = (calls[pick], rng.next_u64() % 3);
                    let fault = kind(rng.next_u64());
                    let (engine, control) = faulty(vec![Fault::nth(fault, 0)]);
                    let engine = engine.with_policy(policy.clone()).unwrap();
                    let found = call(&engine, which, seed).unwrap();
                    if found != answers[pick][seed as usize] {
                        eprintln!("wrong: {fault:?} in {which:?}");
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                    injected.fetch_add(control.injected(), Ordering::Relaxed);
                    let ledger = engine.ledger();
                    let record = ledger.records().first().expect("a record");
                    assert!(matches!(record.reason, Reason::Fallback { from: "faulty", .. }), "{fault:?}");
                    assert_eq!(record.backend, "naive", "the ledger names who computed");
                }
            });
        }
    });
    let (injected, wrong) = (injected.into_inner(), wrong.into_inner());
    println!("{injected} faults injected, {wrong} wrong results");
    assert_eq!((injected, wrong), (FAULTS * THREADS, 0));
}

#[test]
fn ten_thousand_faults_in_all_operations_under_full_checks() {
    inject(&Policy { checks: Checks::FULL, ..Policy::default() }, &Call::ALL);
}

#[test]
fn ten_thousand_faults_in_multiplications_and_transforms_under_cheap_checks() {
    inject(&Policy::default(), &[Call::Msm, Call::Ntt, Call::NttInto]);
}
