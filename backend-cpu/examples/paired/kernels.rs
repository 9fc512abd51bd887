//! Every kernel against halo2-axiom's own, interleaved, on the same inputs; results are compared where both sides give one.

use std::sync::Arc;
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

/// Times of one operation on both sides, in milliseconds, run by run.
pub(crate) struct Row {
    pub(crate) op: &'static str,
    pub(crate) log_n: u32,
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
}

impl Row {
    /// Medians of both sides, and theirs / ours.
    pub(crate) fn medians(&self) -> (f64, f64, f64) {
        let median = |times: &[f64]| {
            let mut times = times.to_vec();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        (ours, theirs, theirs / ours)
    }
}

/// The CPU backend, and what is done with every row.
pub(crate) struct Bench<'a> {
    provider: Provider,
    queue: Queue,
    runs: usize,
    emit: &'a dyn Fn(&str, Row),
}

impl<'a> Bench<'a> {
    /// `runs` counted runs of each side; `emit` is given the instruction set and the times.
    pub(crate) fn new(runs: usize, emit: &'a dyn Fn(&str, Row)) -> Result<Self, Box<dyn std::error::Error>> {
        let backend = CpuBackend::new();
        let device = backend.probe()?.remove(0);
        let provider = backend.open(&device)?;
        let queue = provider.space.queue()?;
        Ok(Bench { provider, queue, runs: runs.max(1), emit })
    }

    fn report(&self, op: &'static str, log_n: u32, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
        let time = |f: &mut dyn FnMut()| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e3
        };
        ours();
        theirs();
        let (ours, theirs) = (0..self.runs).map(|_| (time(&mut ours), time(&mut theirs))).unzip();
        (self.emit)(&self.provider.info.driver, Row { op, log_n, ours, theirs });
    }

    /// Multi-scalar multiplications over the same bases: the mixes of `kinds`, and, up to 2^15, a batch of 16.
    pub(crate) fn msm(&self, log_n: u32, kinds: &[Mix<'_>]) {
        let n = 1usize << log_n;
        let msm = self.provider.msm::<G1Affine>().expect("the CPU offers every operation");
        let bases = points(n);
        let prepared = msm.prepare(&self.queue, &bases, Reuse::Often).expect("bases fit");
        for Mix { op, count, scalar } in kinds {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let column: Vec<Fr> = (0..n).map(|_| scalar(&mut rng)).collect();
            let columns = vec![&column; *count];
            let refs: Vec<_> = columns.iter().map(|c| Ref::host(c)).collect();
            let mut got = vec![G1::default(); columns.len()];
            let mut expected = got.clone();
            self.report(
                op,
                log_n,
                || msm.msm_batch(&self.queue, &prepared, &refs, ScalarKind::Full, &mut got).expect("legal"),
                || expected.iter_mut().zip(&columns).for_each(|(e, c)| *e = best_multiexp(c, &bases)),
            );
            assert!(got.iter().zip(&expected).all(|(a, b)| a.to_affine() == b.to_affine()), "{op} differs");
        }
    }

    pub(crate) fn ntt(&self, log_n: u32) {
        let n = 1usize << log_n;
        let ntt = self.provider.ntt::<Fr>().expect("the CPU offers every operation");
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
    pub(crate) fn quotient(&self, log_n: u32) {
        let n = 1usize << log_n;
        let quotient = self.provider.quotient::<Fr>().expect("the CPU offers every operation");
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

    pub(crate) fn poly(&self, log_n: u32) {
        let n = 1usize << log_n;
        let poly: Arc<dyn PolyOps<Fr>> = self.provider.poly::<Fr>().expect("the CPU offers every operation");
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

/// One distribution of scalars, in a batch of `count` equal columns.
pub(crate) struct Mix<'a> {
    pub(crate) op: &'static str,
    pub(crate) count: usize,
    pub(crate) scalar: &'a dyn Fn(&mut ChaCha20Rng) -> Fr,
}

/// Uniform.
pub(crate) fn uniform(rng: &mut ChaCha20Rng) -> Fr {
    Fr::from_raw([rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64() >> 3])
}

/// As in many halo2 columns: 60 % zero or one, 30 % of 16 bits, 10 % full.
pub(crate) fn mixed(rng: &mut ChaCha20Rng) -> Fr {
    match rng.next_u64() % 10 {
        0..=5 => Fr::from(rng.next_u64() & 1),
        6..=8 => small(rng),
        _ => uniform(rng),
    }
}

/// 16 bits.
pub(crate) fn small(rng: &mut ChaCha20Rng) -> Fr {
    Fr::from(rng.next_u64() & 0xffff)
}

/// Zero or one.
pub(crate) fn bit(rng: &mut ChaCha20Rng) -> Fr {
    Fr::from(rng.next_u64() & 1)
}

/// Points with random discrete logarithms, so that sums of some of them do not meet others.
pub(crate) fn points(n: usize) -> Vec<G1Affine> {
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
