//! Whole proofs and keys under criterion: `cargo bench -p parhelion-benches --bench proof`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

#[path = "../../prover/tests/common/circuits.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the prover's tests")]
mod circuits;
#[path = "../../prover/examples/paired_proof/proofs.rs"]
#[allow(dead_code, reason = "shared with the prover's example")]
mod proofs;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use parhelion_prover::Srs;

fn proof(c: &mut Criterion) {
    let engine = parhelion_backends::default_engine().expect("an engine");
    for name in ["wide-10", "lookups-10", "permutation-10"] {
        let circuit = proofs::shape(name).expect("a shape of the list");
        let srs = Srs::insecure_from_seed(circuit.k, 1).unwrap();
        let key = proofs::our_key(engine, &srs, circuit);
        c.bench_function(&format!("keygen/{name}"), |b| b.iter(|| proofs::our_key(engine, &srs, circuit)));
        c.bench_function(&format!("prove/{name}"), |b| b.iter(|| proofs::our_proof(engine, &key, circuit)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = proof
}
criterion_main!(benches);
