//! Ledger, trace, devices, handles: what the engine says it did is what it did.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Call, call, expected, faulty, open};
use ff::Field;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Buffer, Op, Queue, Ref, RefMut, Space as _};
use parhelion_backend_api::{NttPlan, Reuse, ScalarKind};
use parhelion_conformance::inputs::{known_points, random, rng};
use parhelion_conformance::{Fault, FaultKind, Faulty, Naive, Recording, Remote};
use parhelion_dispatch::{
    Checks, Engine, Policy, Reason, Settings, Trace, TunePlan, Workload, tune, tune_check,
};

#[test]
fn ledgers_of_handles_are_apart_and_totals_add_up() {
    let engine = Engine::<G1Affine>::new(vec![Naive::provider()]);
    let (a, b) = (engine.with_ledger(), engine.with_ledger());
    for which in Call::ALL {
        call(&a, which, 1).unwrap();
    }
    call(&b.clone(), Call::Msm, 1).unwrap();
    assert_eq!((engine.ledger().calls(), a.ledger().calls(), b.ledger().calls()), (0, 10, 1));
    let ledger = a.ledger();
    assert_eq!(ledger.backends(Op::MSM), ["naive"]);
    let time: Duration = ledger.records().iter().map(|r| r.duration).sum();
    assert_eq!(time, Op::PLONK.into_iter().map(|op| ledger.time(op)).sum());
    let calls: u64 = ledger.totals().map(|(_, _, total)| total.calls).sum();
    assert_eq!(calls, 10);
    assert_eq!(ledger.moved(), 0, "nothing moves on the host");
    let text = ledger.to_string();
    assert!(text.contains("quotient") && text.contains("the only candidate (2)"), "{text}");
}

#[test]
fn moved_bytes_are_counted() {
    let engine = Engine::<G1Affine>::new(vec![open(&Remote::new(Naive))]);
    call(&engine, Call::Ntt, 1).unwrap();
    assert_eq!(engine.ledger().moved(), 8 * 8 * 32);
}

#[test]
fn the_trace_holds_stages_operations_and_reasons() {
    let path = std::env::temp_dir().join(format!("parhelion-engine-trace-{}.json", std::process::id()));
    let trace = Some(Arc::new(Trace::create(&path).unwrap()));
    let (engine, _) = faulty(vec![Fault::nth(FaultKind::OutOfMemory, 1)]);
    let engine = engine.configure(Settings { trace, ..Settings::default() }).unwrap();
    {
        let _stage = engine.stage("commit");
        call(&engine, Call::Ntt, 1).unwrap();
        call(&engine, Call::Msm, 1).unwrap();
    }
    let events: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let names: Vec<&str> = events.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"ntt forward-coset 2^3 × 8") && names.contains(&"commit"), "{names:?}");
    let msm = events.iter().find(|e| e["name"] == "msm full 2^3 × 8").unwrap();
    assert_eq!(msm["args"]["backend"], "naive");
    assert!(msm["args"]["reason"].as_str().unwrap().contains("fallback from faulty"));
    let commit = events.iter().find(|e| e["cat"] == "stage").unwrap();
    let end = |e: &serde_json::Value| e["ts"].as_f64().unwrap() + e["dur"].as_f64().unwrap();
    assert!(commit["ts"].as_f64() <= msm["ts"].as_f64() && end(commit) >= end(msm));
}

#[test]
fn handles_are_prepared_once_per_device_and_shared_by_derived_engines() {
    let device = Faulty::new(Remote::new(Naive), "counted");
    let engine = Engine::<G1Affine>::new(vec![open(&device), Naive::provider()]);
    let points = known_points::<G1Affine>(8, &mut rng(1)).0;
    let bases = engine.load_bases(points, Reuse::Often);
    let scalars: Vec<Fr> = random(8, &mut rng(2));
    let run = |engine: &Engine<G1Affine>| {
        let mut out = [G1::default()];
        engine.msm_batch(&bases, &[Ref::host(&scalars)], ScalarKind::Full, &mut out).unwrap();
        out[0]
    };
    let first = run(&engine);
    assert_eq!(device.control().prepared(), 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(run(&engine.with_ledger()), first));
        }
    });
    assert_eq!(run(&engine.with_policy(Policy::default()).unwrap()), first);
    assert_eq!(device.control().prepared(), 1);
    // Another engine, which has other devices, takes the same bases and prepares its own.
    assert_eq!(run(&Engine::<G1Affine>::new(vec![Naive::provider()])), first);
    assert!(bases.host().len() == 8 && device.control().calls(Op::MSM) == 6);
}

#[test]
fn many_threads_share_an_engine_while_its_device_dies() {
    let (engine, control) = faulty(vec![Fault::nth(FaultKind::DeviceLost, 57)]);
    let policy = Policy { checks: Checks::FULL, ..Policy::default() };
    let engine = engine.with_policy(policy).unwrap();
    let answers: Vec<_> = Call::ALL.iter().map(|which| expected(*which, 5)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (engine, answers) = (engine.clone(), &answers);
            scope.spawn(move || {
                for i in 0..20 {
                    let at = (thread + i) % Call::ALL.len();
                    assert_eq!(call(&engine, Call::ALL[at], 5).unwrap(), answers[at]);
                }
            });
        }
    });
    let ledger = engine.ledger();
    assert_eq!(ledger.calls(), 160);
    assert!(control.injected() >= 1 && engine.devices()[0].quarantined.is_some());
    let by = |name| ledger.records().iter().filter(|r| r.backend == name).count();
    assert!(by("faulty") >= 50 && by("naive") >= 90, "{} + {}", by("faulty"), by("naive"));
    assert!(ledger.records().iter().any(|r| matches!(r.reason, Reason::Fallback { .. })));
}

#[test]
fn device_operands_are_brought_to_where_the_call_runs() {
    let remote = open(&Remote::new(Naive));
    let (space, queue) = (remote.space.clone(), remote.space.queue().unwrap());
    let engine = Engine::<G1Affine>::new(vec![remote, Naive::provider()]);
    let upload = |values: &[Fr]| Buffer::from_host(space.as_ref(), &queue, values, "test").unwrap();
    let values: Vec<Fr> = random(8, &mut rng(3));
    let plan = NttPlan::forward(3);
    let mut expected = values.clone();
    engine.ntt_batch(&plan, &mut [RefMut::host(&mut expected)]).unwrap();

    for policy in [Policy::force("remote"), Policy::force("naive")] {
        let engine = engine.with_policy(policy).unwrap();
        let mut buffer = upload(&values);
        engine.ntt_batch(&plan, &mut [buffer.as_mut()]).unwrap();
        assert_eq!(buffer.to_host(space.as_ref(), &queue).unwrap(), expected);
        let mut out = vec![Fr::ZERO; 8];
        engine.ntt_batch_into(&plan, &[upload(&values).as_ref()], &mut [RefMut::host(&mut out)]).unwrap();
        assert_eq!(out, expected);
        let mut product = upload(&values);
        engine.multiply(product.as_mut(), upload(&expected).as_ref()).unwrap();
        let product = product.to_host(space.as_ref(), &queue).unwrap();
        assert!(product.iter().zip(&values).zip(&expected).all(|((p, a), b)| *p == *a * b));
        let moved = engine.ledger().records()[0].moved;
        let on_device = engine.ledger().records()[0].backend == "remote";
        assert_eq!(moved, if on_device { 0 } else { 2 * 8 * 32 }, "down and up again");
    }
    // A buffer of a device that the engine does not have is the caller's mistake.
    let elsewhere = Engine::<G1Affine>::new(vec![Naive::provider()]);
    let error = elsewhere.ntt_batch(&plan, &mut [upload(&values).as_mut()]).unwrap_err();
    assert!(error.is_caller_fault(), "{error}");
    assert!(elsewhere.devices()[0].quarantined.is_none());
    let host =
        Buffer::from_host(&parhelion_backend_api::hal::HostSpace, &Queue::host(), &values, "host").unwrap();
    let mut out = [Fr::ZERO];
    engine.evaluate_batch(&[host.as_ref()], &[(0, Fr::ONE)], &mut out).unwrap();
    assert_eq!(out[0], values.iter().sum::<Fr>());
    assert_eq!(parhelion_backend_api::hal::HostSpace.id(), host.space());
}

#[test]
fn an_in_place_call_on_a_lost_device_is_an_error_since_nothing_is_left_to_restore() {
    let device = Faulty::with(Remote::new(Naive), "dying", vec![Fault::nth(FaultKind::DeviceLost, 0)]);
    let remote = open(&device);
    let (space, queue) = (remote.space.clone(), remote.space.queue().unwrap());
    let engine = Engine::<G1Affine>::new(vec![remote, Naive::provider()]);
    let mut buffer = Buffer::from_host(space.as_ref(), &queue, &[Fr::ONE; 8], "test").unwrap();
    let error = engine.batch_invert(buffer.as_mut()).unwrap_err();
    assert!(error.to_string().contains("dying"), "{error}");
    // From host data, the stage can be done again.
    let mut column = vec![Fr::from(2); 8];
    engine.batch_invert(RefMut::host(&mut column)).unwrap();
    assert_eq!(column[7], Fr::from(2).invert().unwrap());
}

fn small_plan() -> TunePlan {
    TunePlan { log_n: 1..=4, step: 3, batches: vec![1, 2], steps: vec![4], repeats: 1, ..TunePlan::default() }
}

#[test]
fn tune_measures_every_provider_and_its_table_is_used() {
    let engine = Engine::<G1Affine>::new(vec![Naive::provider(), open(&Remote::new(Naive))]);
    let mut points = 0;
    let table = tune(&engine, &small_plan(), |_| points += 1).unwrap();
    assert_eq!(table.series.iter().map(|s| s.points.len()).sum::<usize>(), points);
    table.check().unwrap();
    assert!(!table.provenance.machine.is_empty() && table.provenance.created.starts_with("20"));
    for op in Op::PLONK {
        for (backend, resident) in [("naive", true), ("remote", false), ("remote", true)] {
            let mut series = table.series.iter();
            assert!(
                series.any(|s| s.op == op.name() && s.backend == backend && s.resident == resident),
                "{op} on {backend}, resident {resident}"
            );
        }
    }
    assert_eq!(engine.ledger().calls(), 0, "measuring leaves no trace in the ledger");
    let engine = engine.configure(Settings { table: Some(Arc::new(table)), ..Settings::default() }).unwrap();
    let query = parhelion_dispatch::Query::msm(8, 2, ScalarKind::Full);
    assert!(engine.explain(&query).legal().all(|c| c.predicted.is_some_and(|t| !t.is_zero())));
    let mut seen = 0;
    let regret = tune_check(&engine, &small_plan(), 6, 1, |_| seen += 1).unwrap();
    assert_eq!((regret.samples.len(), seen), (6, 6));
    assert!(regret.mean() >= 1.0 && regret.worst() >= regret.mean());
}

#[test]
fn checking_without_a_table_is_an_error() {
    let engine = Engine::<G1Affine>::new(vec![Naive::provider()]);
    assert!(tune_check(&engine, &small_plan(), 1, 1, |_| {}).is_err());
}

#[test]
fn a_recorded_sequence_plays_again_elsewhere() {
    let recording = Recording::new(Naive);
    let engine = Engine::<G1Affine>::new(vec![open(&recording)]);
    for which in Call::ALL {
        call(&engine, which, 1).unwrap();
    }
    let tape = recording.tape();
    assert_eq!(tape.len(), 10);
    let other = Recording::new(Naive);
    let elsewhere = Engine::<G1Affine>::new(vec![open(&other)]);
    let mut workload = Workload::new();
    for shape in &tape {
        assert!(!workload.run(&elsewhere, shape).unwrap().is_zero());
    }
    assert_eq!(other.tape(), tape);
}
