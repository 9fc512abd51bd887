//! The CPU backend's kernels under criterion: `cargo bench -p parhelion-benches --bench kernels`.
//!
//! Sizes are small, so that a run takes about a minute. Ratios against other libraries are the business of the binary `record`.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

#[path = "../../backend-cpu/examples/paired/kernels.rs"]
#[allow(dead_code, reason = "shared with the backend's example")]
mod kernels;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ff::WithSmallOrderMulGroup;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::ntt::root_of_unity;
use parhelion_backend_api::{
    Backend, Domain, NttPlan, Program, Provider, Queue, Reuse, ScalarKind, Source, Step,
};
use parhelion_backend_cpu::CpuBackend;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn cpu() -> (Provider, Queue) {
    let backend = CpuBackend::new();
    let provider = backend.open(&backend.probe().expect("a processor").remove(0)).expect("a processor");
    let queue = provider.space.queue().expect("host memory");
    (provider, queue)
}

fn scalars(n: usize) -> Vec<Fr> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    (0..n).map(|_| kernels::uniform(&mut rng)).collect()
}

fn msm(c: &mut Criterion) {
    let (provider, queue) = cpu();
    let msm = provider.msm::<G1Affine>().expect("the CPU offers every operation");
    let mut group = c.benchmark_group("msm");
    for log_n in [12, 14, 16] {
        let n = 1usize << log_n;
        let bases = msm.prepare(&queue, &kernels::points(n), Reuse::Often).expect("bases fit");
        group.throughput(Throughput::Elements(n as u64));
        for (name, scalar) in
            [("uniform", kernels::uniform as fn(&mut ChaCha20Rng) -> Fr), ("mix", kernels::mixed)]
        {
            let mut rng = ChaCha20Rng::seed_from_u64(2);
            let column: Vec<Fr> = (0..n).map(|_| scalar(&mut rng)).collect();
            group.bench_with_input(BenchmarkId::new(name, log_n), &column, |b, column| {
                b.iter(|| msm.msm(&queue, &bases, Ref::host(column), ScalarKind::Full).expect("legal"));
            });
        }
    }
}

fn ntt(c: &mut Criterion) {
    let (provider, queue) = cpu();
    let ntt = provider.ntt::<Fr>().expect("the CPU offers every operation");
    let mut group = c.benchmark_group("ntt");
    for log_n in [12, 14, 16, 18] {
        let mut column = scalars(1 << log_n);
        group.throughput(Throughput::Elements(1 << log_n));
        for (name, plan) in [
            ("forward", NttPlan::forward(log_n)),
            ("inverse", NttPlan::inverse(log_n)),
            ("coset", NttPlan::forward(log_n).on_coset(Fr::ZETA)),
        ] {
            group.bench_function(BenchmarkId::new(name, log_n), |b| {
                b.iter(|| ntt.ntt_batch(&queue, &plan, &mut [RefMut::host(&mut column)]).expect("legal"));
            });
        }
    }
}

fn quotient(c: &mut Criterion) {
    let (provider, queue) = cpu();
    let quotient = provider.quotient::<Fr>().expect("the CPU offers every operation");
    // Products of neighbours, summed.
    let column = |column: u32| Source::Column { column, rotation: 0 };
    let mut steps = vec![Step::Mul { dst: 0, a: column(0), b: column(1) }];
    steps.extend((1..16).map(|i| Step::MulAdd {
        dst: 0,
        a: column(i % 8),
        b: column((i + 1) % 8),
        c: Source::Register(0),
    }));
    let program = Program {
        columns: 8,
        challenges: 0,
        rotations: vec![0],
        registers: 1,
        results: vec![Source::Register(0)],
        steps,
        ..Program::default()
    };
    let compiled = quotient.compile(&queue, &program).expect("a legal program");
    let mut group = c.benchmark_group("quotient");
    for log_n in [12, 15] {
        let columns = vec![scalars(1 << log_n); 8];
        let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
        let domain = Domain { log_n, omega: root_of_unity(log_n).expect("small"), shift: Fr::ZETA };
        let mut out = columns[0].clone();
        group.throughput(Throughput::Elements(16 << log_n));
        group.bench_function(BenchmarkId::new("16 products", log_n), |b| {
            b.iter(|| {
                quotient
                    .evaluate(&queue, &compiled, &domain, &refs, &[], &mut [RefMut::host(&mut out)])
                    .expect("legal");
            });
        });
    }
}

fn poly(c: &mut Criterion) {
    let (provider, queue) = cpu();
    let poly = provider.poly::<Fr>().expect("the CPU offers every operation");
    let n = 1usize << 16;
    let (mut a, b_values, x) = (scalars(n), scalars(n), Fr::from(0x1234_5678_9abc_def1));
    let mut group = c.benchmark_group("poly");
    group.throughput(Throughput::Elements(n as u64));
    let mut out = [x];
    group.bench_function("evaluate", |b| {
        b.iter(|| poly.evaluate_batch(&queue, &[Ref::host(&b_values)], &[(0, x)], &mut out).expect("legal"));
    });
    group.bench_function("divide by linear", |b| {
        b.iter(|| poly.divide_by_linear(&queue, RefMut::host(&mut a), x).expect("legal"));
    });
    group.bench_function("multiply", |b| {
        b.iter(|| poly.multiply(&queue, RefMut::host(&mut a), Ref::host(&b_values)).expect("legal"));
    });
    group.bench_function("batch invert", |b| {
        b.iter(|| poly.batch_invert(&queue, RefMut::host(&mut a)).expect("legal"));
    });
    group.bench_function("running product", |b| {
        b.iter(|| poly.running_product(&queue, RefMut::host(&mut a), x).expect("legal"));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = msm, ntt, quotient, poly
}
criterion_main!(benches);
