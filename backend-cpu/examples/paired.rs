//! Paired timings against halo2-axiom: every line of output is one JSON object with the medians of interleaved runs.
//!
//! ```text
//! cargo run --release -p parhelion-backend-cpu --example paired -- [msm|ntt|quotient|poly|all] [MIN_LOG_N] [MAX_LOG_N] [RUNS]
//! ```
//!
//! `PARHELION_CPU_ISA` chooses the instruction set, `RAYON_NUM_THREADS` the threads of both sides. `ratio` is theirs / ours.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reports to standard output and may stop"
)]

use std::time::Instant;

use ff::{Field, PrimeField, WithSmallOrderMulGroup};
use group::Curve;
use halo2_axiom::arithmetic::{best_fft, best_multiexp, eval_polynomial, kate_division};
use halo2_axiom::poly::EvaluationDomain;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{
    Backend, Domain, Program, Provider, Queue, Reuse, ScalarKind, Source, Step, ntt::root_of_unity,
};
use parhelion_backend_api::{NttPlan, quotient::PolyOps};
use parhelion_backend_cpu::CpuBackend;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

struct Bench {
    provider: Provider<G1Affine>,
    queue: Queue,
    runs: usize,
}

impl Bench {
    fn report(&self, op: &str, log_n: u32, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
        let time = |f: &mut dyn FnMut()| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e3
        };
        ours();
        theirs();
        let (mut a, mut b): (Vec<f64>, Vec<f64>) =
            (0..self.runs).map(|_| (time(&mut ours), time(&mut theirs))).unzip();
        let median = |v: &mut Vec<f64>| {
            v.sort_by(f64::total_cmp);
            v[v.len() / 2]
        };
        let (ours_ms, theirs_ms) = (median(&mut a), median(&mut b));
        println!(
            "{}",
            serde_json::json!({
                "op": op, "log_n": log_n, "isa": self.provider.info.driver,
                "threads": rayon::current_num_threads(),
                "ours_ms": ours_ms, "theirs_ms": theirs_ms, "ratio": theirs_ms / ours_ms,
            })
        );
    }

    fn msm(&self, log_n: u32) {
        let n = 1usize << log_n;
        let msm = self.provider.msm.as_deref().expect("the CPU offers every operation");
        let bases = points(n);
        let prepared = msm.prepare(&self.queue, &bases, Reuse::Often).expect("bases fit");
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut words = || [rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64() >> 3];
        let uniform: Vec<Fr> = (0..n).map(|_| Fr::from_raw(words())).collect();
        let small: Vec<Fr> = (0..n).map(|_| Fr::from(words()[0] & 0xffff)).collect();
        let bit: Vec<Fr> = (0..n).map(|_| Fr::from(words()[0] & 1)).collect();
        let mix: Vec<Fr> = (0..n)
            .map(|_| {
                let w = words();
                match w[1] % 10 {
                    0..=5 => Fr::from(w[0] & 1),
                    6..=8 => Fr::from(w[0] & 0xffff),
                    _ => Fr::from_raw(w),
                }
            })
            .collect();
        let run = |op: &str, columns: &[&Vec<Fr>]| {
            let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
            let mut got = vec![G1::default(); columns.len()];
            let mut expected = got.clone();
            self.report(
                op,
                log_n,
                || msm.msm_batch(&self.queue, &prepared, &refs, ScalarKind::Full, &mut got).expect("legal"),
                || expected.iter_mut().zip(columns).for_each(|(e, c)| *e = best_multiexp(c, &bases)),
            );
            assert!(got.iter().zip(&expected).all(|(a, b)| a.to_affine() == b.to_affine()), "{op} differs");
        };
        run("msm", &[&uniform]);
        run("msm-mix", &[&mix]);
        run("msm-16bit", &[&small]);
        run("msm-bit", &[&bit]);
        if log_n <= 15 {
            run("msm-batch-16", &[&uniform; 16]);
        }
    }

    fn ntt(&self, log_n: u32) {
        let n = 1usize << log_n;
        let ntt = self.provider.ntt.as_deref().expect("the CPU offers every operation");
        let domain = EvaluationDomain::<Fr>::new(5, log_n);
        let values = elements(n);
        let mut a = values.clone();
        let data = domain.get_fft_data(n);
        self.report(
            "ntt",
            log_n,
            || {
                ntt.ntt_batch(&self.queue, &NttPlan::forward(log_n), &mut [RefMut::host(&mut a)])
                    .expect("legal")
            },
            {
                let mut b = values.clone();
                let omega = domain.get_omega();
                move || best_fft(&mut b, omega, log_n, data, false)
            },
        );
        let mut b = Some(domain.lagrange_from_vec(values.clone()));
        self.report(
            "intt",
            log_n,
            || {
                ntt.ntt_batch(&self.queue, &NttPlan::inverse(log_n), &mut [RefMut::host(&mut a)])
                    .expect("legal")
            },
            || {
                let coefficients = domain.lagrange_to_coeff(b.take().expect("put back below"));
                b = Some(domain.lagrange_from_vec(coefficients.to_vec()));
            },
        );
        let poly = domain.coeff_from_vec(values.clone());
        let parts = 1usize << (domain.extended_k() - domain.k());
        let shifts: Vec<Fr> =
            (0..parts).map(|i| Fr::ZETA * domain.get_extended_omega().pow([i as u64])).collect();
        let mut out = vec![vec![Fr::ZERO; n]; parts];
        self.report(
            "coset-x4",
            log_n,
            || {
                for (shift, out) in shifts.iter().zip(&mut out) {
                    let plan = NttPlan::forward(log_n).on_coset(*shift);
                    ntt.ntt_batch_into(&self.queue, &plan, &[Ref::host(&values)], &mut [RefMut::host(out)])
                        .expect("legal");
                }
            },
            || {
                std::hint::black_box(domain.coeff_to_extended_parts(&poly));
            },
        );
        if log_n <= 16 {
            let mut batch = vec![values.clone(); 16];
            let mut theirs = batch.clone();
            self.report(
                "ntt-batch-16",
                log_n,
                || {
                    let mut refs: Vec<_> = batch.iter_mut().map(|c| RefMut::host(c)).collect();
                    ntt.ntt_batch(&self.queue, &NttPlan::forward(log_n), &mut refs).expect("legal");
                },
                || {
                    theirs
                        .iter_mut()
                        .for_each(|c| best_fft(c, domain.get_omega(), log_n, data_of(&domain, n), false))
                },
            );
        }
    }

    /// A program shaped like the gates of a circuit, against the same operations in a parallel loop over rows, which is what
    /// halo2's own evaluator costs at least.
    fn quotient(&self, log_n: u32) {
        let n = 1usize << log_n;
        let quotient = self.provider.quotient.as_deref().expect("the CPU offers every operation");
        let columns: Vec<Vec<Fr>> = (0..18).map(|_| elements(n)).collect();
        let mut p = Program {
            columns: 18,
            challenges: 1,
            rotations: vec![0, 1, -1],
            registers: 4,
            results: vec![Source::Register(3)],
            constants: vec![Fr::ZERO],
            ..Program::default()
        };
        p.steps.push(Step::Add { dst: 3, a: Source::Constant(0), b: Source::Constant(0) });
        for gate in 0..24u32 {
            let col = |i: u32, rotation| Source::Column { column: (gate * 5 + i) % 18, rotation };
            p.steps.extend([
                Step::Mul { dst: 0, a: col(0, 0), b: col(1, 1) },
                Step::MulAdd { dst: 0, a: Source::Register(0), b: col(2, 2), c: col(3, 0) },
                Step::Sub { dst: 1, a: col(4, 0), b: col(5, 1) },
                Step::Square { dst: 1, a: Source::Register(1) },
                Step::Mul { dst: 2, a: Source::Register(0), b: Source::Register(1) },
                Step::Mul { dst: 2, a: Source::Register(2), b: col(6, 0) },
                Step::MulAdd {
                    dst: 3,
                    a: Source::Register(3),
                    b: Source::Challenge(0),
                    c: Source::Register(2),
                },
            ]);
        }
        let compiled = quotient.compile(&self.queue, &p).expect("a legal program");
        let domain = Domain { log_n, omega: root_of_unity(log_n).expect("small"), shift: Fr::ZETA };
        let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
        let y = Fr::from(12345);
        let mut got = vec![Fr::ZERO; n];
        let mut expected = got.clone();
        self.report(
            "quotient",
            log_n,
            || {
                quotient
                    .evaluate(&self.queue, &compiled, &domain, &refs, &[y], &mut [RefMut::host(&mut got)])
                    .expect("legal");
            },
            || {
                expected.par_iter_mut().enumerate().with_min_len(256).for_each(|(i, out)| {
                    let mut registers = [Fr::ZERO; 4];
                    for step in &p.steps {
                        let value = step.value(|source| match source {
                            Source::Register(r) => registers[r as usize],
                            Source::Column { column, rotation } => {
                                let r = p.rotations[rotation as usize] as isize;
                                columns[column as usize][(i as isize + r).rem_euclid(n as isize) as usize]
                            }
                            Source::Challenge(_) => y,
                            _ => Fr::ZERO,
                        });
                        registers[step.dst() as usize] = value;
                    }
                    *out = registers[3];
                });
            },
        );
        assert!(got == expected, "quotient differs");
    }

    fn poly(&self, log_n: u32) {
        let n = 1usize << log_n;
        let poly: &dyn PolyOps<Fr> = self.provider.poly.as_deref().expect("the CPU offers every operation");
        let values = elements(n);
        let x = Fr::from(0x1234_5678_9abc_def1) * Fr::MULTIPLICATIVE_GENERATOR;
        let mut out = [Fr::ZERO];
        self.report(
            "evaluate",
            log_n,
            || poly.evaluate_batch(&self.queue, &[Ref::host(&values)], &[(0, x)], &mut out).expect("legal"),
            || {
                std::hint::black_box(eval_polynomial(&values, x));
            },
        );
        let mut a = values.clone();
        self.report(
            "divide-by-linear",
            log_n,
            || poly.divide_by_linear(&self.queue, RefMut::host(&mut a), x).expect("legal"),
            || {
                std::hint::black_box(kate_division(&values, x));
            },
        );
        let mut a = values.clone();
        let mut b = values.clone();
        self.report(
            "batch-invert",
            log_n,
            || poly.batch_invert(&self.queue, RefMut::host(&mut a)).expect("legal"),
            || {
                let chunk = n.div_ceil(rayon::current_num_threads());
                b.par_chunks_mut(chunk).for_each(|c| {
                    ff::BatchInvert::batch_invert(c.iter_mut());
                });
            },
        );
        let mut a = values.clone();
        let mut b = values.clone();
        self.report(
            "running-product",
            log_n,
            || {
                poly.running_product(&self.queue, RefMut::host(&mut a), Fr::ONE).expect("legal");
            },
            || {
                let mut acc = Fr::ONE;
                b.iter_mut().for_each(|v| acc *= std::mem::replace(v, acc));
                std::hint::black_box(acc);
            },
        );
        let polys: Vec<Vec<Fr>> = (0..8).map(|_| elements(n)).collect();
        let terms: Vec<_> = polys.iter().map(|p| (x, Ref::host(p))).collect();
        let mut a = vec![Fr::ZERO; n];
        let mut b = vec![Fr::ZERO; n];
        self.report(
            "linear-combination-8",
            log_n,
            || poly.linear_combination(&self.queue, &terms, RefMut::host(&mut a)).expect("legal"),
            || {
                b.par_chunks_mut(1024).enumerate().for_each(|(i, b)| {
                    for (j, b) in b.iter_mut().enumerate() {
                        *b = polys.iter().map(|p| p[i * 1024 + j] * x).sum();
                    }
                });
            },
        );
    }
}

fn data_of(domain: &EvaluationDomain<Fr>, n: usize) -> &halo2_axiom::fft::recursive::FFTData<Fr> {
    domain.get_fft_data(n)
}

fn elements(n: usize) -> Vec<Fr> {
    let mut rng = ChaCha20Rng::seed_from_u64(n as u64);
    (0..n).map(|_| Fr::random(&mut rng)).collect()
}

/// Points with random discrete logarithms, so that sums of some of them do not meet others.
fn points(n: usize) -> Vec<G1Affine> {
    // d·2^(8w)·G for every digit d of 8 bits and eight windows w.
    let mut table = Vec::new();
    let mut base = G1::generator();
    for _ in 0..8 {
        let row: Vec<G1> = std::iter::successors(Some(G1::default()), |p| Some(p + base)).take(257).collect();
        base = row[256];
        table.extend_from_slice(&row[..256]);
    }
    let mut affine = vec![G1Affine::default(); table.len()];
    G1::batch_normalize(&table, &mut affine);
    let starts: Vec<u64> = (0..n as u64).step_by(256).collect();
    starts
        .par_iter()
        .flat_map_iter(|start| {
            let mut rng = ChaCha20Rng::seed_from_u64(*start);
            let run: Vec<G1> = (0..256.min(n))
                .map(|_| {
                    let digits = rng.next_u64().to_le_bytes();
                    let digits = digits.iter().enumerate();
                    digits.fold(G1::default(), |sum, (w, d)| sum + affine[w * 256 + usize::from(*d)])
                })
                .collect();
            let mut out = vec![G1Affine::default(); run.len()];
            G1::batch_normalize(&run, &mut out);
            out
        })
        .collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let op = args.first().map_or("all", String::as_str);
    let number = |i: usize, default: u32| args.get(i).map_or(Ok(default), |a| a.parse());
    let (min, max, runs) = (number(1, 14)?, number(2, 18)?, number(3, 5)?);
    let backend = CpuBackend::new();
    let device = backend.probe()?.remove(0);
    let provider = backend.open(&device)?;
    let queue = provider.space.queue()?;
    let bench = Bench { provider, queue, runs: runs.max(1) as usize };
    for (name, run) in [
        ("msm", Bench::msm as fn(&Bench, u32)),
        ("ntt", Bench::ntt),
        ("quotient", Bench::quotient),
        ("poly", Bench::poly),
    ] {
        if op == name || op == "all" {
            (min..=max).step_by(2).for_each(|log_n| run(&bench, log_n));
        }
    }
    Ok(())
}
