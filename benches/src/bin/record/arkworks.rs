//! arkworks 0.5 on the same points and scalars.

use std::time::Instant;

use ark_bn254::{Fq as ArkFq, Fr as ArkFr, G1Affine as ArkAffine, G1Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::PrimeField as _;
use ff::PrimeField;
use group::Curve;
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::Ref;
use parhelion_backend_api::{Backend, Reuse, ScalarKind};
use parhelion_backend_cpu::CpuBackend;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::kernels::{points, uniform};

/// Milliseconds of ours and theirs, run by run, interleaved, after one run of each that is not counted.
pub(crate) fn msm(log_n: u32, runs: usize) -> (Vec<f64>, Vec<f64>) {
    let backend = CpuBackend::new();
    let provider = backend.open(&backend.probe().expect("a processor").remove(0)).expect("a processor");
    let queue = provider.space.queue().expect("host memory");
    let msm = provider.msm::<G1Affine>().expect("the CPU offers every operation");
    let bases = points(1 << log_n);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let scalars: Vec<Fr> = bases.iter().map(|_| uniform(&mut rng)).collect();
    let fq = |x: halo2curves::bn256::Fq| ArkFq::from_le_bytes_mod_order(x.to_repr().as_ref());
    let point = |p: &G1Affine| {
        let c = p.coordinates().expect("no identity among the bases");
        ArkAffine::new_unchecked(fq(*c.x()), fq(*c.y()))
    };
    let their_bases: Vec<ArkAffine> = bases.iter().map(point).collect();
    let their_scalars: Vec<ArkFr> =
        scalars.iter().map(|s| ArkFr::from_le_bytes_mod_order(s.to_repr().as_ref())).collect();
    let prepared = msm.prepare(&queue, &bases, Reuse::Often).expect("bases fit");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let start = Instant::now();
        let got: G1 = msm.msm(&queue, &prepared, Ref::host(&scalars), ScalarKind::Full).expect("legal");
        let between = Instant::now();
        let expected = G1Projective::msm_unchecked(&their_bases, &their_scalars);
        let end = Instant::now();
        assert!(point(&got.to_affine()) == expected.into_affine(), "arkworks gives another sum");
        if run > 0 {
            ours.push((between - start).as_secs_f64() * 1e3);
            theirs.push((end - between).as_secs_f64() * 1e3);
        }
    }
    (ours, theirs)
}
