//! Who is picked, and what is said about it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::{Call, call, expected, open};
use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::{Error, Op};
use parhelion_backend_api::{Direction, MsmShape, NttShape, QuotientShape, ScalarKind};
use parhelion_conformance::{Naive, Remote};
use parhelion_dispatch::{
    Choice, CostTable, Engine, Knobs, Point, Policy, PolyCall, PolyShape, Provenance, Query, Reason,
    Rejection, Series, Settings, Shape, Thresholds, TunePlan, Work,
};

/// The host, and two accelerators.
fn engine() -> Engine<G1Affine> {
    Engine::<G1Affine>::new(vec![
        Naive::provider(),
        open(&Remote::new(Naive)),
        open(&Remote::new(Naive).at(1)),
    ])
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
    let only = Engine::<G1Affine>::new(vec![Naive::provider()]);
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
    per_op.per_op.insert(Op::NTT, Choice::Force("remote".parse().unwrap()));
    let engine = with(per_op);
    assert_eq!(order(&engine, &ntt(4)), ["remote:0", "remote:1"]);
    assert_eq!(order(&engine, &Query::msm(16, 1, ScalarKind::Full)), ["host:0"]);
}

#[test]
fn simulated_devices_compute_only_when_named() {
    let simulator = Remote::new(Naive).simulated();
    let engine = Engine::<G1Affine>::new(vec![open(&simulator), Naive::provider()]);
    let decision = engine.explain(&ntt(4));
    assert_eq!(decision.chosen().unwrap().backend, "naive");
    assert!(decision.rejected().any(|(_, r)| *r == Rejection::Simulated));
    for named in ["remote", "remote,naive", "remote,auto"] {
        let engine = engine.with_policy(choice(named)).unwrap();
        assert_eq!(engine.pick(&ntt(4)).unwrap().backend, "remote", "{named}");
    }
    let others = engine.with_policy(choice("naive,auto")).unwrap();
    assert_eq!(order(&others, &ntt(4)), ["host:0"], "`auto` in a list does not name it");
    let alone = Engine::<G1Affine>::new(vec![open(&simulator)]);
    assert!(call(&alone, Call::Msm, 1).is_err());
}

#[test]
fn thresholds_keep_small_calls_on_the_host_and_force_wins_over_them() {
    let mut thresholds = Thresholds { min_k: Some(10), min_batch: Some(2), ..Thresholds::default() };
    thresholds.set_op(Op::POLY, 4);
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
    let poly = |log_n| Query::host(Shape::Poly(PolyShape { call: PolyCall::Evaluate, log_n, batch: 2 }));
    assert_eq!(engine.pick(&poly(4)).unwrap().backend, "remote");
    assert_eq!(engine.pick(&poly(3)).unwrap().backend, "naive");
    let forced = with(Policy { choice: "remote:0".parse().unwrap(), ..policy });
    assert_eq!(forced.pick(&ntt(1)).unwrap().backend, "remote");
    // And the call really goes there.
    assert_eq!(call(&engine, Call::Ntt, 1).unwrap(), expected(Call::Ntt, 1));
    assert_eq!(engine.ledger().backends(Op::NTT), ["naive"]);
}

#[test]
fn ezkls_switch_prefers_an_accelerator_above_its_small_k() {
    // The same rule as for `icicle`, with a name that exists here.
    let knobs = |set: &'static [(&str, &str)]| {
        Knobs::from_source(&[], move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
            .unwrap()
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
    let engine = Engine::<G1Affine>::new(vec![open(&small), Naive::provider()]);
    assert_eq!(engine.pick(&ntt(10)).unwrap().backend, "remote");
    let decision = engine.explain(&ntt(12));
    assert_eq!(decision.chosen().unwrap().backend, "naive");
    assert!(
        decision
            .rejected()
            .any(|(_, r)| matches!(r, Rejection::Memory { needed, free: 65536 } if *needed == 32 << 12))
    );
    let alone = Engine::<G1Affine>::new(vec![open(&small)]);
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

/// What a machine would really take for a call, in seconds: a host of 2·10⁷ elements a second, and an accelerator that is thirty times as fast after 3 ms
/// of its own for each call and the copies.
fn truth(accelerator: bool, shape: &Shape, resident: bool) -> f64 {
    let n = match shape {
        Shape::Msm(shape) => shape.len as f64,
        shape => f64::from(shape.log_n()).exp2(),
    };
    let weight = match shape {
        Shape::Msm(_) => 20.0,
        Shape::Ntt(_) => 1.0 + f64::from(shape.log_n()) / 4.0,
        _ => 1.0,
    };
    let work = n * shape.width().max(1) as f64;
    let host = weight * work / 2e7;
    let copies = if resident { 0.0 } else { work * 64.0 / 10e9 };
    if accelerator { 3e-3 + host / 30.0 + copies } else { host }
}

/// A table measured on that machine, by the plan that `tune` has.
fn measured_table(plan: &TunePlan) -> CostTable {
    let (host, remote) = (Naive::device(), open(&Remote::new(Naive)).info);
    let quotient = |log_n, steps| Shape::Quotient(QuotientShape { log_n, columns: 12, steps, registers: 16 });
    let ntt = |direction, coset| move |log_n, batch| Shape::Ntt(NttShape { log_n, batch, direction, coset });
    let msm = |scalars| move |log_n: u32, batch| Shape::Msm(MsmShape { len: 1 << log_n, batch, scalars });
    let mut kinds: Vec<Box<dyn Fn(u32, usize) -> Shape>> = vec![
        Box::new(ntt(Direction::Forward, false)),
        Box::new(ntt(Direction::Inverse, false)),
        Box::new(ntt(Direction::Forward, true)),
        Box::new(ntt(Direction::Inverse, true)),
        Box::new(quotient),
    ];
    for scalars in &plan.scalars {
        kinds.push(Box::new(msm(*scalars)));
    }
    for call in PolyCall::ALL {
        kinds.push(Box::new(move |log_n, batch| Shape::Poly(PolyShape { call, log_n, batch })));
    }
    let mut series = Vec::new();
    for (info, accelerator) in [(&host, false), (&remote, true)] {
        for kind in &kinds {
            for resident in if accelerator { vec![false, true] } else { vec![true] } {
                let widths =
                    if matches!(kind(4, 1), Shape::Quotient(_)) { &plan.steps } else { &plan.batches };
                let points = widths.iter().flat_map(|&width| {
                    let log_n = plan.log_n.clone().step_by(plan.step as usize);
                    log_n.map(move |log_n| (log_n, width))
                });
                let points = points.map(|(log_n, width)| {
                    let ns = truth(accelerator, &kind(log_n, width), resident) * 1e9;
                    Point { log_n, width, ns }
                });
                series.push(Series {
                    backend: info.backend.into(),
                    device: info.name.clone(),
                    driver: info.driver.clone(),
                    op: kind(4, 1).op().name().into(),
                    variant: kind(4, 1).variant(),
                    resident,
                    points: points.collect(),
                });
            }
        }
    }
    CostTable::new(Provenance::default(), series)
}

/// With the table of a machine with an accelerator, no call of any size and width takes noticeably longer than on the host alone, and large ones use
/// the accelerator.
#[test]
fn small_and_wide_calls_are_never_slower_than_on_the_host_alone() {
    let table = Some(Arc::new(measured_table(&TunePlan::default())));
    let engine = engine().configure(Settings { table, ..Settings::default() }).unwrap();
    let (mut accelerated, mut worst) = (0, 1.0f64);
    for log_n in 1..=22 {
        for width in [1, 2, 3, 5, 8, 12, 16, 33, 64, 200, 1000] {
            let msm = Shape::Msm(MsmShape { len: 1 << log_n, batch: width, scalars: ScalarKind::Full });
            let ntt =
                Shape::Ntt(NttShape { log_n, batch: width, direction: Direction::Forward, coset: true });
            let quotient = Shape::Quotient(QuotientShape { log_n, columns: 30, steps: width, registers: 20 });
            let poly = Shape::Poly(PolyShape { call: PolyCall::LinearCombination, log_n, batch: width });
            for shape in [msm, ntt, quotient, poly] {
                let on_device = engine.pick(&Query::host(shape)).unwrap().backend == "remote";
                let took = truth(on_device, &shape, false) / truth(false, &shape, true);
                worst = worst.max(took);
                assert!(took < 1.15, "{shape} takes {took:.2} times as long as on the host");
                accelerated += u32::from(on_device);
            }
        }
    }
    assert!(accelerated > 200, "{accelerated} calls on the accelerator");
    println!("{accelerated} of 968 calls on the accelerator; the worst takes {worst:.3} of the host's time");
}

/// Columns stay on a device only where the whole proof is faster there: not those of short proofs, however wide.
#[test]
fn columns_stay_on_a_device_only_where_that_pays() {
    let table = Some(Arc::new(measured_table(&TunePlan::default())));
    let measured = engine().configure(Settings { table, ..Settings::default() }).unwrap();
    let mut stayed = Vec::new();
    for (log_n, columns) in (4..=22).flat_map(|k| [(k, 4), (k, 40), (k, 200)]) {
        let ntt = |batch, coset| Shape::Ntt(NttShape { log_n, batch, direction: Direction::Forward, coset });
        let steps = 20 * columns;
        let quotient = Shape::Quotient(QuotientShape { log_n, columns, steps, registers: 20 });
        let poly = |call, batch| (Shape::Poly(PolyShape { call, log_n, batch }), 4);
        let deciding = [(ntt(columns, false), 1), (ntt(columns, true), 4), (quotient, 8)];
        let others = [
            poly(PolyCall::Evaluate, columns),
            poly(PolyCall::Divide, 1),
            poly(PolyCall::Invert, 1),
            poly(PolyCall::RunningProduct, 1),
        ];
        let msm = MsmShape { len: 1 << log_n, batch: columns, scalars: ScalarKind::Full };
        let anywhere = [(Shape::Msm(msm), 1)];
        let moved = (columns as u64 * 32) << log_n;
        let work = Work { deciding: &deciding, others: &others, anywhere: &anywhere, moved };
        let all = || deciding.iter().chain(&others).chain(&anywhere);
        let total = |on| all().map(|(shape, n)| truth(on, shape, true) * *n as f64).sum::<f64>();
        let stays = measured.residence(&work).is_some();
        let ratio = (total(true) + moved as f64 / 10e9) / total(false);
        assert!(!stays || ratio < 1.15, "k = {log_n}, {columns} columns: {ratio:.2} of the host's time");
        // Beyond the batches that are measured, an accelerator's own time per call counts too often: never in its favour.
        let known = columns <= 16 || log_n >= 14;
        assert!(stays || ratio > 0.85 || !known, "k = {log_n}, {columns} columns: {ratio:.2}, and not used");
        stayed.push(stays);
        // Whoever names the device gets it.
        let named = measured.with_policy(choice("remote,naive")).unwrap();
        assert!(named.residence(&work).is_some());
    }
    assert!(stayed.contains(&true) && stayed.contains(&false));
}
