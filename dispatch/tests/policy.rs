//! Who is picked, and what is said about it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::{Call, call, expected, open};
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::{Error, Op};
use parhelion_backend_api::{Direction, ScalarKind};
use parhelion_conformance::{Naive, Remote};
use parhelion_dispatch::{
    Choice, CostTable, Engine, Knobs, Point, Policy, PolyCall, Provenance, Query, Reason, Rejection, Series,
    Settings, Shape, Thresholds,
};

/// The host, and two accelerators.
fn engine() -> Engine<G1Affine> {
    Engine::new(vec![Naive::provider(), open(&Remote::new(Naive)), open(&Remote::new(Naive).at(1))])
}

fn with(policy: Policy) -> Engine<G1Affine> {
    engine().with_policy(policy).unwrap()
}

fn order(engine: &Engine<G1Affine>, query: &Query) -> Vec<String> {
    engine.explain(query).legal().map(|c| c.space.to_string()).collect()
}

fn ntt(log_n: u32) -> Query {
    Query::ntt(log_n, 1, Direction::Forward, false)
}

fn choice(text: &str) -> Policy {
    Policy { choice: text.parse().unwrap(), ..Policy::default() }
}

#[test]
fn without_measurements_the_order_of_the_engine_holds() {
    let decision = engine().explain(&ntt(10));
    assert_eq!(order(&engine(), &ntt(10)), ["host:0", "remote:0", "remote:1"]);
    assert!(decision.legal().all(|c| c.verdict == Ok(Reason::Order)));
    let only = Engine::new(vec![Naive::provider::<G1Affine>()]);
    assert_eq!(only.pick(&ntt(3)).unwrap().verdict, Ok(Reason::Only));
}

#[test]
fn a_list_prefers_and_excludes_and_a_name_forces() {
    assert_eq!(order(&with(choice("remote,naive")), &ntt(10)), ["remote:0", "remote:1", "host:0"]);
    assert_eq!(order(&with(choice("remote:1,auto")), &ntt(10)), ["remote:1", "host:0", "remote:0"]);
    assert_eq!(order(&with(choice("remote:1,remote:0")), &ntt(10)), ["remote:1", "remote:0"]);
    assert_eq!(order(&with(choice("remote:1")), &ntt(10)), ["remote:1"]);
    let forced = with(choice("remote:1")).explain(&ntt(10));
    assert_eq!(forced.chosen().unwrap().verdict, Ok(Reason::Forced));
    assert!(forced.rejected().all(|(_, r)| *r == Rejection::NotNamed));
    let mut per_op = choice("naive");
    per_op.per_op.insert(Op::Ntt, Choice::Force("remote".parse().unwrap()));
    let engine = with(per_op);
    assert_eq!(order(&engine, &ntt(4)), ["remote:0", "remote:1"]);
    assert_eq!(order(&engine, &Query::msm(16, 1, ScalarKind::Full)), ["host:0"]);
}

#[test]
fn simulated_devices_compute_only_when_named() {
    let simulator = Remote::new(Naive).simulated();
    let engine = Engine::new(vec![open(&simulator), Naive::provider()]);
    let decision = engine.explain(&ntt(4));
    assert_eq!(decision.chosen().unwrap().backend, "naive");
    assert!(decision.rejected().any(|(_, r)| *r == Rejection::Simulated));
    for named in ["remote", "remote,naive", "remote,auto"] {
        let engine = engine.with_policy(choice(named)).unwrap();
        assert_eq!(engine.pick(&ntt(4)).unwrap().backend, "remote", "{named}");
    }
    let others = engine.with_policy(choice("naive,auto")).unwrap();
    assert_eq!(order(&others, &ntt(4)), ["host:0"], "`auto` in a list does not name it");
    let alone = Engine::new(vec![open(&simulator)]);
    assert!(call(&alone, Call::Msm, 1).is_err());
}

#[test]
fn thresholds_keep_small_calls_on_the_host_and_force_wins_over_them() {
    let mut thresholds = Thresholds { min_k: Some(10), min_batch: Some(2), ..Thresholds::default() };
    thresholds.set_op(Op::Poly, 4);
    let policy = Policy { thresholds, ..choice("remote,naive") };
    let engine = with(policy.clone());
    let msm = |len, batch| engine.pick(&Query::msm(len, batch, ScalarKind::Full)).unwrap();
    assert_eq!(msm(1 << 10, 2).backend, "remote");
    assert_eq!(msm((1 << 9) + 1, 2).backend, "remote", "lengths are rounded up");
    let small = msm(1 << 9, 2);
    assert_eq!(small.backend, "naive");
    assert!(
        matches!(small.verdict, Ok(Reason::Threshold(why)) if why.contains("2^9") && why.contains("2^10"))
    );
    assert_eq!(msm(1 << 12, 1).backend, "naive");
    let poly = |log_n| Query::host(Shape::Poly { call: PolyCall::Evaluate, log_n, batch: 2 });
    assert_eq!(engine.pick(&poly(4)).unwrap().backend, "remote");
    assert_eq!(engine.pick(&poly(3)).unwrap().backend, "naive");
    let forced = with(Policy { choice: "remote:0".parse().unwrap(), ..policy });
    assert_eq!(forced.pick(&ntt(1)).unwrap().backend, "remote");
    // And the call really goes there.
    assert_eq!(call(&engine, Call::Ntt, 1).unwrap(), expected(Call::Ntt, 1));
    assert_eq!(engine.ledger().backends(Op::Ntt), ["naive"]);
}

#[test]
fn ezkls_switch_prefers_an_accelerator_above_its_small_k() {
    // The same rule as for `icicle`, with a name that exists here.
    let knobs = |set: &'static [(&str, &str)]| {
        Knobs::from_source(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into())).unwrap()
    };
    let mut policy = knobs(&[("ENABLE_ICICLE_GPU", "1")]).policy();
    let Choice::Prefer(preference) = &mut policy.choice else { panic!("a preference") };
    preference.names = vec!["remote".parse().unwrap()];
    let engine = with(policy);
    let backend = |len| engine.pick(&Query::msm(len, 1, ScalarKind::Full)).unwrap().backend;
    assert_eq!((backend(256), backend(257)), ("naive", "remote"));

    let engine = with(knobs(&[("HALO2_USE_GPU_NTT", "1")]).policy());
    assert_eq!(engine.pick(&ntt(15)).unwrap().backend, "naive");
    assert_eq!(engine.pick(&ntt(16)).unwrap().backend, "remote");
    assert_eq!(engine.pick(&Query::msm(1 << 16, 1, ScalarKind::Full)).unwrap().backend, "naive");
}

#[test]
fn memory_is_part_of_legality() {
    let small = Remote::new(Naive).with_memory(1 << 16);
    let engine = Engine::new(vec![open(&small), Naive::provider()]);
    assert_eq!(engine.pick(&ntt(10)).unwrap().backend, "remote");
    let decision = engine.explain(&ntt(12));
    assert_eq!(decision.chosen().unwrap().backend, "naive");
    assert!(
        decision
            .rejected()
            .any(|(_, r)| matches!(r, Rejection::Memory { needed, free: 65536 } if *needed == 32 << 12))
    );
    let alone = Engine::new(vec![open(&small)]);
    let error = alone.pick(&ntt(12)).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { backend: "remote", .. }), "{error}");
}

#[test]
fn explain_prints_candidates_times_and_reasons() {
    let text = engine().explain(&Query::msm(1 << 14, 12, ScalarKind::Unsigned { bits: 16 })).to_string();
    assert!(text.starts_with("msm u16 2^14 × 12 on host:0"), "{text}");
    assert!(text.contains("1. naive (host:0)") && text.contains("by order, not measured"), "{text}");
    let text = with(choice("remote:0")).explain(&ntt(3)).to_string();
    assert!(text.contains("forced") && text.contains("is not named by the policy"), "{text}");
    let nobody = Engine::<G1Affine>::new(vec![]).explain(&ntt(3)).to_string();
    assert!(nobody.contains("no backend"), "{nobody}");
}

/// A table in which the accelerator wins from 2^12 on.
fn table() -> CostTable {
    let series = |info: &parhelion_backend_api::DeviceInfo, resident, points: &[(u32, f64)]| Series {
        backend: info.backend.into(),
        device: info.name.clone(),
        driver: info.driver.clone(),
        op: "ntt".into(),
        variant: "forward".into(),
        resident,
        points: points.iter().map(|&(log_n, ns)| Point { log_n, width: 1, ns }).collect(),
    };
    let host = Naive::device();
    let remote = open(&Remote::new(Naive)).info;
    CostTable::new(
        Provenance::default(),
        vec![series(&host, true, &[(8, 1e4), (16, 1e7)]), series(&remote, false, &[(8, 1e5), (16, 1e6)])],
    )
}

#[test]
fn a_table_decides_where_it_knows_and_thresholds_still_win() {
    let table = Arc::new(table());
    let engine = engine();
    let measured = engine.configure(Settings { table: Some(table.clone()), ..Settings::default() }).unwrap();
    assert_eq!(measured.pick(&ntt(8)).unwrap().backend, "naive");
    let large = measured.pick(&ntt(16)).unwrap();
    assert_eq!((large.backend, large.verdict), ("remote", Ok(Reason::Measured)));
    assert_eq!(large.predicted.unwrap().as_micros(), 1000);
    // Another variant was not measured, so the order holds.
    let inverse = Query::ntt(16, 1, Direction::Inverse, false);
    assert_eq!(measured.pick(&inverse).unwrap().verdict, Ok(Reason::Order));
    let thresholds = Thresholds { min_k: Some(20), ..Thresholds::default() };
    let policy = Policy { thresholds, ..Policy::default() };
    let cautious = engine.configure(Settings { policy, table: Some(table), ..Settings::default() }).unwrap();
    assert_eq!(cautious.pick(&ntt(16)).unwrap().backend, "naive");
}

#[test]
fn settings_name_only_backends_that_exist() {
    for text in ["cuda", "naive,cuda", "remote:7"] {
        let error = engine().with_policy(choice(text)).unwrap_err();
        assert!(matches!(error, Error::Invalid { what: "backend", .. }), "{error}");
    }
}
