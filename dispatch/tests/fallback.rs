//! What happens when a backend fails: the next candidate, quarantine, or an error, and never a wrong result.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Call, call, expected, faulty, open, untouched};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{Error, Ref, RefMut};
use parhelion_backend_api::{Direction, Domain, Msm, NttPlan, Op, Program, ProgramLimits, Source, Step, ntt};
use parhelion_conformance::{Fault, FaultKind, Faulty, Naive, Null, Remote};
use parhelion_dispatch::{Checks, Engine, Policy, Query, Reason, Rejection, Shape, Trust, Work};

#[test]
fn without_faults_the_first_backend_computes() {
    let (engine, control) = faulty(vec![]);
    for which in Call::ALL {
        assert_eq!(call(&engine, which, 1).unwrap(), expected(which, 1), "{which:?}");
    }
    let ledger = engine.ledger();
    assert!(ledger.records().iter().all(|r| r.backend == "faulty" && r.reason == Reason::Order));
    assert_eq!(ledger.calls(), 10);
    assert_eq!(control.injected(), 0);
}

#[test]
fn what_leaves_operands_alone_moves_the_call_on_and_nothing_else() {
    for kind in [FaultKind::OutOfMemory, FaultKind::Unsupported] {
        for which in Call::ALL {
            let (engine, _) = faulty(vec![Fault::nth(kind, 0)]);
            assert_eq!(call(&engine, which, 2).unwrap(), expected(which, 2), "{kind:?} in {which:?}");
            let ledger = engine.ledger();
            let [record] = ledger.records() else { panic!("one call, one record") };
            assert_eq!(record.backend, "naive");
            assert!(
                matches!(&record.reason, Reason::Fallback { from: "faulty", why } if why.contains("injected"))
            );
            assert_eq!(engine.devices()[0].quarantined, None);
            // The next call finds the backend in service.
            call(&engine, which, 3).unwrap();
            assert_eq!(engine.ledger().records()[1].backend, "faulty");
        }
    }
}

#[test]
fn a_lost_device_and_a_crash_quarantine_and_the_operands_are_restored() {
    for kind in [FaultKind::DeviceLost, FaultKind::Crash, FaultKind::Blame] {
        for which in Call::ALL {
            let (engine, control) = faulty(vec![Fault::nth(kind, 0)]);
            assert_eq!(call(&engine, which, 4).unwrap(), expected(which, 4), "{kind:?} in {which:?}");
            let why = engine.devices()[0].quarantined.clone().expect("quarantined");
            assert!(why.contains("injected"), "{why}");
            let before = control.calls(which.op());
            assert_eq!(call(&engine.with_ledger(), which, 5).unwrap(), expected(which, 5));
            assert_eq!(control.calls(which.op()), before, "a quarantined backend is not asked");
            // Derived engines share the device, so they share its quarantine.
            let derived = engine.with_policy(Policy::default()).unwrap();
            assert!(derived.devices()[0].quarantined.is_some());
        }
    }
}

#[test]
fn force_means_error() {
    for (kind, untouched_after) in [
        (FaultKind::OutOfMemory, true),
        (FaultKind::Unsupported, true),
        (FaultKind::DeviceLost, false),
        (FaultKind::Crash, false),
        (FaultKind::Blame, false),
    ] {
        for which in Call::ALL {
            let (engine, _) = faulty(vec![Fault::always(kind)]);
            let engine = engine.with_policy(Policy::force("faulty")).unwrap();
            let (error, left) = call(&engine, which, 6).unwrap_err();
            assert!(
                error.to_string().contains("faulty") && error.to_string().contains("injected"),
                "{error}"
            );
            // In place, the operands were restored; out of place, only outputs may have been written.
            if untouched_after || which.is_in_place() {
                assert_eq!(left, untouched(which, 6), "{kind:?} in {which:?}");
            }
            assert_eq!(engine.ledger().calls(), 0);
        }
    }
}

#[test]
fn a_forced_backend_says_why_it_cannot() {
    let engine = Engine::<G1Affine>::new(vec![Naive::provider(), Null::default().provider()]);
    let forced = engine.with_policy(Policy::force("null")).unwrap();
    for which in Call::ALL {
        let (error, left) = call(&forced, which, 7).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported { backend: "null", why, .. } if why.contains("does nothing")),
            "{error}"
        );
        assert_eq!(left, untouched(which, 7));
    }
    let partial = Naive::provider().without::<dyn Msm<G1Affine>>();
    let engine = Engine::<G1Affine>::new(vec![partial]).with_policy(Policy::force("naive")).unwrap();
    let (error, _) = call(&engine, Call::Msm, 7).unwrap_err();
    assert!(error.to_string().contains("does not offer"), "{error}");

    let unknown = engine.with_policy(Policy::force("cuda")).unwrap_err();
    assert!(unknown.to_string().contains("`cuda`") && unknown.to_string().contains("naive"), "{unknown}");
}

#[test]
fn a_forced_backend_in_quarantine_stays_an_error() {
    let (engine, _) = faulty(vec![Fault::nth(FaultKind::Crash, 0)]);
    let forced = engine.with_policy(Policy::force("faulty")).unwrap();
    call(&forced, Call::Ntt, 8).unwrap_err();
    let (error, left) = call(&forced, Call::Ntt, 8).unwrap_err();
    assert!(error.to_string().contains("quarantined"), "{error}");
    assert_eq!(left, untouched(Call::Ntt, 8));
    let decision = forced.explain(&parhelion_dispatch::Query::ntt(
        3,
        1,
        parhelion_backend_api::Direction::Forward,
        false,
    ));
    assert!(
        decision.rejected().any(|(c, r)| c.backend == "faulty" && matches!(r, Rejection::Quarantined(_)))
    );
}

#[test]
fn a_backend_that_claims_support_and_refuses_is_passed_over() {
    let engine = Engine::<G1Affine>::new(vec![Null::surprising().provider(), Naive::provider()]);
    for which in Call::ALL {
        assert_eq!(call(&engine, which, 9).unwrap(), expected(which, 9), "{which:?}");
    }
    assert!(engine.ledger().records().iter().all(|r| r.backend == "naive"));
}

#[test]
fn when_everybody_fails_the_error_names_everybody() {
    let a = Faulty::with(Remote::new(Naive), "first", vec![Fault::always(FaultKind::OutOfMemory)]);
    let b = Faulty::with(Remote::new(Naive).at(1), "second", vec![Fault::always(FaultKind::Crash)]);
    let engine = Engine::<G1Affine>::new(vec![open(&a), open(&b)]);
    for which in Call::ALL {
        let (error, left) = call(&engine, which, 10).unwrap_err();
        if which == Call::ALL[0] {
            let text = error.to_string();
            assert!(text.contains("first") && text.contains("second"), "{text}");
        }
        if which.is_in_place() {
            assert_eq!(left, untouched(which, 10));
        }
    }
    let nobody = Engine::<G1Affine>::new(vec![]);
    let (error, _) = call(&nobody, Call::Msm, 10).unwrap_err();
    assert!(error.to_string().contains("no backend"), "{error}");
}

#[test]
fn a_trusted_backend_that_crashes_is_not_papered_over() {
    // Its operands were not copied, so an in-place call cannot be made again.
    let policy = Policy { trust: Trust::Named(vec!["crashing".into()]), ..Policy::default() };
    let crash = Faulty::with(Naive, "crashing", vec![Fault::nth(FaultKind::Crash, 0)]);
    let engine = Engine::<G1Affine>::new(vec![open(&crash), Naive::provider()]);
    let engine = engine.with_policy(policy.clone()).unwrap();
    let (error, _) = call(&engine, Call::Invert, 11).unwrap_err();
    assert!(error.to_string().contains("crashing"), "{error}");
    assert!(engine.devices()[0].quarantined.is_some());
    // Out of place, it can.
    let crash = Faulty::with(Naive, "crashing", vec![Fault::nth(FaultKind::Crash, 0)]);
    let engine = Engine::<G1Affine>::new(vec![open(&crash), Naive::provider()]);
    let engine = engine.with_policy(policy).unwrap();
    assert_eq!(call(&engine, Call::Msm, 11).unwrap(), expected(Call::Msm, 11));
}

#[test]
fn a_liar_is_quarantined_and_its_work_done_again() {
    for kind in [FaultKind::Flip(0), FaultKind::Flip(0x8000_0103_0205_0301), FaultKind::Zero] {
        for which in Call::ALL {
            let (engine, _) = faulty(vec![Fault::nth(kind, 0)]);
            let policy = Policy { checks: Checks::FULL, ..Policy::default() };
            let engine = engine.with_policy(policy).unwrap();
            assert_eq!(call(&engine, which, 12).unwrap(), expected(which, 12), "{kind:?} in {which:?}");
            assert_eq!(engine.ledger().records()[0].backend, "naive");
            let why = engine.devices()[0].quarantined.clone().expect("a liar is quarantined");
            assert!(why.contains("did not pass its check"), "{why}");
        }
    }
}

#[test]
fn without_checks_a_lie_passes_so_the_test_above_can_fail() {
    for which in Call::ALL {
        let (engine, _) = faulty(vec![Fault::nth(FaultKind::Zero, 0)]);
        let engine = engine.with_policy(Policy { checks: Checks::OFF, ..Policy::default() }).unwrap();
        assert_ne!(call(&engine, which, 13).unwrap(), expected(which, 13), "{which:?}");
    }
}

#[test]
fn checks_need_no_trusted_backend_where_the_host_can_tell() {
    // Nobody is trusted: transforms and multiplications are still verified, the rest cannot be, and says so.
    let policy = Policy { checks: Checks::FULL, trust: Trust::Nobody, ..Policy::default() };
    let honest = Engine::<G1Affine>::new(vec![Naive::provider()]).with_policy(policy.clone()).unwrap();
    for which in [Call::Msm, Call::Ntt, Call::NttInto] {
        assert_eq!(call(&honest, which, 14).unwrap(), expected(which, 14));
    }
    let (error, _) = call(&honest, Call::Divide, 14).unwrap_err();
    assert!(error.to_string().contains("trusted"), "{error}");
    let (liar, _) = faulty(vec![Fault::always(FaultKind::Zero)]);
    let liar = liar.with_policy(policy).unwrap();
    for which in [Call::Msm, Call::Ntt] {
        assert_eq!(call(&liar, which, 14).unwrap(), expected(which, 14));
    }
}

#[test]
fn a_callers_mistake_is_the_same_error_everywhere_and_nobody_is_blamed() {
    use ff::Field;
    use halo2curves::bn256::Fr;
    use parhelion_backend_api::hal::RefMut;
    let (engine, control) = faulty(vec![]);
    for engine in [&engine, &engine.with_policy(Policy::force("naive")).unwrap()] {
        let mut column = vec![Fr::ONE; 7];
        let plan = parhelion_backend_api::NttPlan::forward(3);
        let error = engine.ntt_batch(&plan, &mut [RefMut::host(&mut column)]).unwrap_err();
        assert!(matches!(error, Error::Length { expected: 8, found: 7, .. }), "{error}");
        assert_eq!(column, vec![Fr::ONE; 7]);
    }
    assert_eq!(control.calls(Op::NTT), 0);
    assert!(engine.devices().iter().all(|device| device.quarantined.is_none()));
}

/// Collects the warnings of one test.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) as u64 + 1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn one_warning_per_cause() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let (engine, _) = faulty(vec![
            Fault { times: 5, ..Fault::nth(FaultKind::OutOfMemory, 0) }.of(Op::NTT),
            Fault::always(FaultKind::Unsupported).of(Op::POLY),
        ]);
        for seed in 0..5 {
            call(&engine, Call::Ntt, seed).unwrap();
            call(&engine, Call::Divide, seed).unwrap();
        }
    });
    let warnings = warnings.0.lock().unwrap().clone();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("ntt falls back from faulty") && warnings[0].contains("out of memory"));
    assert!(warnings[1].contains("poly falls back from faulty"), "{warnings:?}");
}

/// Nobody is trusted for where it computes: a backend of others in host memory is checked like any device.
#[test]
fn a_backend_of_others_in_host_memory_is_not_trusted() {
    let liar = Faulty::with(Naive, "others", vec![Fault::always(FaultKind::Flip(3))]);
    let engine = Engine::<G1Affine>::new(vec![open(&liar), Naive::provider()]);
    assert!(!engine.devices()[0].trusted && engine.devices()[1].trusted);
    let checked = Policy { checks: Checks::FULL, ..Policy::default() };
    let engine = engine.with_policy(checked).unwrap();
    assert_eq!(call(&engine, Call::Ntt, 9).unwrap(), expected(Call::Ntt, 9));
    assert!(engine.devices()[0].quarantined.is_some());
}

/// A device comes back when it answers as it should, and stays out while it does not.
#[test]
fn quarantine_ends_with_an_examination() {
    let device = Faulty::with(Remote::new(Naive), "hiccup", vec![Fault::nth(FaultKind::Crash, 0)]);
    let policy = Policy { readmit: Some(Duration::ZERO), ..Policy::prefer(["hiccup", "naive"]) };
    let engine = Engine::<G1Affine>::new(vec![open(&device), Naive::provider()]);
    let engine = engine.with_policy(policy.clone()).unwrap();
    assert_eq!(call(&engine, Call::Ntt, 9).unwrap(), expected(Call::Ntt, 9));
    assert!(engine.devices()[0].quarantined.is_some());
    assert_eq!(call(&engine, Call::Ntt, 9).unwrap(), expected(Call::Ntt, 9));
    assert_eq!(engine.devices()[0].quarantined, None, "it has passed");
    assert_eq!(engine.ledger().records().last().unwrap().backend, "hiccup");

    let liar = Faulty::with(Remote::new(Naive), "liar", vec![Fault::always(FaultKind::Flip(3 << 32))]);
    let engine = Engine::<G1Affine>::new(vec![open(&liar), Naive::provider()]);
    let policy = Policy { checks: Checks::FULL, ..Policy::prefer(["liar", "naive"]) };
    let engine = engine.with_policy(Policy { readmit: Some(Duration::ZERO), ..policy }).unwrap();
    for _ in 0..3 {
        assert_eq!(call(&engine, Call::Ntt, 9).unwrap(), expected(Call::Ntt, 9));
        assert!(engine.devices()[0].quarantined.is_some(), "a liar stays out");
    }
    let forever = engine.with_policy(Policy { readmit: None, ..Policy::default() }).unwrap();
    assert!(forever.devices()[0].quarantined.is_some());
}

/// A device whose largest buffer is below a column is no candidate, and an engine of it alone says so.
#[test]
fn a_column_above_the_largest_buffer_is_legal_elsewhere() {
    let small = Remote::new(Naive).with_largest_buffer(1 << 12);
    let engine = Engine::<G1Affine>::new(vec![open(&small), Naive::provider()]);
    let engine = engine.with_policy(Policy::prefer(["remote", "naive"])).unwrap();
    let backend = |log_n| engine.pick(&Query::ntt(log_n, 2, Direction::Forward, false)).unwrap().backend;
    assert_eq!((backend(7), backend(8)), ("remote", "naive"));
    let decision = engine.explain(&Query::ntt(8, 2, Direction::Forward, false));
    assert!(
        decision.rejected().any(|(_, why)| matches!(why, Rejection::Buffer { needed: 8192, largest: 4096 }))
    );
    let alone = Engine::<G1Affine>::new(vec![open(&small)]);
    let error = alone.pick(&Query::ntt(8, 2, Direction::Forward, false)).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

/// Two equal devices share what runs at the same time, and columns that stay.
#[test]
fn equal_devices_share_the_work() {
    let two = [open(&Remote::new(Naive)), open(&Remote::new(Naive).at(1))];
    let engine = Engine::<G1Affine>::new(two.into_iter().chain([Naive::provider()]).collect());
    let engine = engine.with_policy(Policy::prefer(["remote", "naive"])).unwrap();
    let shape = Shape::Ntt(NttPlan::<Fr>::forward(6).shape(1));
    let work = Work { deciding: &[(shape, 1)], ..Work::default() };
    let first = engine.residence(&work).unwrap();
    let second = engine.residence(&work).unwrap();
    assert_ne!(first.space(), second.space(), "the second proof takes the other device");
    let (space, query) = (second.space(), Query::ntt(6, 1, Direction::Forward, false));
    drop(second);
    assert_eq!(engine.pick(&query).unwrap().space, space, "the idle one computes");
    let there = Query { space: first.space(), ..query };
    assert_eq!(engine.pick(&there).unwrap().space, first.space(), "operands stay where they are");
}

/// A program that reads more columns than a device takes at a time runs there in pieces, with the same values.
#[test]
fn a_program_beyond_the_limits_of_a_device_runs_in_pieces() {
    let column = |column, rotation| Source::Column { column, rotation };
    let mut steps = vec![Step::Mul { dst: 0, a: column(0, 0), b: column(1, 1) }];
    steps.extend((1..12).map(|i| Step::MulAdd {
        dst: i % 5,
        a: Source::Register((i - 1) % 5),
        b: column(i, i % 2),
        c: if i > 5 { Source::Register(i % 5) } else { column(i / 2, 1) },
    }));
    let program = Program {
        rotations: vec![0, 1],
        columns: 12,
        steps,
        registers: 5,
        results: vec![Source::Register(1), Source::Register(3), column(4, 1)],
        ..Program::default()
    };
    let narrow = Remote::new(Naive).with_program_limits(ProgramLimits::NONE.with_columns(4, 2));
    let evaluate = |providers, backend: &str| {
        let engine = Engine::<G1Affine>::new(providers).with_policy(Policy::force(backend)).unwrap();
        let columns: Vec<Vec<Fr>> =
            (0..12u64).map(|c| (0..16u64).map(|r| Fr::from(c * 31 + r * 7 + 1)).collect()).collect();
        let columns: Vec<_> = columns.iter().map(|column| Ref::host(column)).collect();
        let domain = Domain { log_n: 4, omega: ntt::root_of_unity(4).unwrap(), shift: Fr::from(3) };
        let mut out = vec![vec![Fr::from(9); 16]; 3];
        let mut outs: Vec<_> = out.iter_mut().map(|column| RefMut::host(column)).collect();
        let program = engine.load_program(program.clone());
        engine.evaluate(&program, &domain, &columns, &[], &mut outs).unwrap();
        assert!(engine.ledger().records().iter().all(|record| record.backend == backend));
        out
    };
    let expected = evaluate(vec![Naive::provider()], "naive");
    assert_eq!(evaluate(vec![open(&narrow), Naive::provider()], "remote"), expected);
}
