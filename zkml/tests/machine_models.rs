//! Whole models through the real prover and verifier.

mod machine_common;

use machine_common::{Build, rng, round_trip};
use parhelion_zkml::machine::{PlanOptions, Visibility};

#[test]
fn mlp() {
    let mut r = rng(1);
    let mut b = Build::default();
    let x = b.input(&[1, 16], -128, 127);
    let h = b.dense(x, 12, 8, true, &mut r);
    let y = b.dense(h, 4, 8, false, &mut r);
    let p = b.output(y);
    let plan = round_trip(&p, Visibility::default(), &PlanOptions::default(), 3);
    assert!(plan.k() <= 10);
}

#[test]
fn cnn() {
    let mut r = rng(2);
    let mut b = Build::default();
    let x = b.input(&[1, 1, 10, 10], -128, 127);
    let c = b.conv(x, 3, 3, 1, 1, 1, 8, true, &mut r);
    let c = b.pool(c, 2, 2);
    let c = b.conv(c, 4, 3, 2, 0, 1, 8, true, &mut r);
    let s = b.shape(c);
    let n = s.iter().product();
    let c = b.reshape(c, &[1, n]);
    let y = b.dense(c, 4, 8, false, &mut r);
    let p = b.output(y);
    round_trip(&p, Visibility::default(), &PlanOptions::default(), 3);
}
