//! Calls of every operation on the same made-up operands, and engines to make them on.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests; every test file uses another part")]

use std::sync::Arc;

use ff::{Field, WithSmallOrderMulGroup};
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Error, Ref, RefMut};
use parhelion_backend_api::ntt::root_of_unity;
use parhelion_backend_api::{
    Backend, Domain, NttPlan, Op, Program, Provider, Reuse, ScalarKind, Source, Step,
};
use parhelion_conformance::inputs::{known_points, random, rng};
use parhelion_conformance::{Fault, Faulty, FaultyControl, Naive, Remote};
use parhelion_dispatch::Engine;

/// Every function of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Msm,
    Ntt,
    NttInto,
    Evaluate,
    Combine,
    EvaluateBatch,
    Divide,
    Invert,
    Multiply,
    RunningProduct,
}

impl Call {
    pub(crate) const ALL: [Call; 10] = [
        Call::Msm,
        Call::Ntt,
        Call::NttInto,
        Call::Evaluate,
        Call::Combine,
        Call::EvaluateBatch,
        Call::Divide,
        Call::Invert,
        Call::Multiply,
        Call::RunningProduct,
    ];

    pub(crate) fn op(self) -> Op {
        match self {
            Call::Msm => Op::MSM,
            Call::Ntt | Call::NttInto => Op::NTT,
            Call::Evaluate => Op::QUOTIENT,
            _ => Op::POLY,
        }
    }

    /// Whether operands are overwritten by results.
    pub(crate) fn is_in_place(self) -> bool {
        use Call::{Divide, Invert, Multiply, Ntt, RunningProduct};
        matches!(self, Ntt | Divide | Invert | Multiply | RunningProduct)
    }
}

/// What a call wrote and returned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) columns: Vec<Vec<Fr>>,
    pub(crate) points: Vec<G1>,
}

/// Makes a call on operands that depend on the seed alone. On an error, the operands as the call left them.
pub(crate) fn call(engine: &Engine<G1Affine>, call: Call, seed: u64) -> Result<Output, (Error, Output)> {
    let mut rng = rng(seed);
    let n = 8;
    let mut columns: Vec<Vec<Fr>> = (0..8).map(|_| random(n, &mut rng)).collect();
    let x = Fr::random(&mut rng);
    let mut points = vec![];
    let result = match call {
        Call::Msm => {
            let bases = engine.load_bases(known_points::<G1Affine>(n, &mut rng).0, Reuse::Once);
            points = vec![G1::generator(); columns.len()];
            let scalars: Vec<Ref<'_, Fr>> = columns.iter().map(|c| Ref::host(c)).collect();
            engine.msm_batch(&bases, &scalars, ScalarKind::Full, &mut points)
        }
        Call::Ntt => {
            let plan = NttPlan::forward(3).on_coset(Fr::ZETA);
            let mut refs: Vec<RefMut<'_, Fr>> = columns.iter_mut().map(|c| RefMut::host(c)).collect();
            engine.ntt_batch(&plan, &mut refs)
        }
        Call::NttInto => {
            let (from, to) = columns.split_at_mut(4);
            let from: Vec<Ref<'_, Fr>> = from.iter().map(|c| Ref::host(&c[..5])).collect();
            let mut to: Vec<RefMut<'_, Fr>> = to.iter_mut().map(|c| RefMut::host(c)).collect();
            engine.ntt_batch_into(&NttPlan::forward(3).on_coset(x), &from, &mut to)
        }
        Call::Evaluate => {
            let program = engine.load_program(sample_program());
            let (from, to) = columns.split_at_mut(2);
            let from: Vec<Ref<'_, Fr>> = from.iter().map(|c| Ref::host(c)).collect();
            let domain = Domain { log_n: 3, omega: root_of_unity(3).unwrap(), shift: Fr::ZETA };
            let mut out: Vec<RefMut<'_, Fr>> = to[..2].iter_mut().map(|c| RefMut::host(c)).collect();
            engine.evaluate(&program, &domain, &from, &[x], &mut out)
        }
        Call::Combine => {
            let (from, to) = columns.split_at_mut(3);
            let terms: Vec<_> = from.iter().map(|c| (x, Ref::host(&c[..]))).collect();
            engine.linear_combination(&terms, RefMut::host(&mut to[0]))
        }
        Call::EvaluateBatch => {
            let (polys, out) = columns.split_at_mut(3);
            let polys: Vec<Ref<'_, Fr>> = polys.iter().map(|c| Ref::host(c)).collect();
            engine.evaluate_batch(&polys, &[(2, x), (0, x), (0, Fr::ONE)], &mut out[0][..3])
        }
        Call::Divide => engine.divide_by_linear(RefMut::host(&mut columns[0]), x),
        Call::Invert => {
            columns[0][3] = Fr::ZERO;
            engine.batch_invert(RefMut::host(&mut columns[0]))
        }
        Call::Multiply => {
            let (a, b) = columns.split_at_mut(1);
            engine.multiply(RefMut::host(&mut a[0]), Ref::host(&b[0]))
        }
        Call::RunningProduct => engine
            .running_product(RefMut::host(&mut columns[0]), x)
            .map(|product| columns.push(vec![product])),
    };
    let output = Output { columns, points };
    match result {
        Ok(()) => Ok(output),
        Err(error) => Err((error, output)),
    }
}

fn sample_program() -> Program<Fr> {
    let column = |column| Source::Column { column, rotation: column };
    Program {
        constants: vec![Fr::from(11)],
        rotations: vec![0, -1],
        columns: 2,
        challenges: 1,
        steps: vec![
            Step::MulAdd { dst: 0, a: column(0), b: column(1), c: Source::Challenge(0) },
            Step::Mul { dst: 0, a: Source::Register(0), b: Source::Point },
        ],
        registers: 1,
        results: vec![Source::Register(0), column(1)],
        ..Program::default()
    }
}

/// The answer.
pub(crate) fn expected(which: Call, seed: u64) -> Output {
    call(&Engine::<G1Affine>::new(vec![Naive::provider()]), which, seed).unwrap()
}

/// The operands before the call.
pub(crate) fn untouched(which: Call, seed: u64) -> Output {
    call(&Engine::<G1Affine>::new(vec![]), which, seed).unwrap_err().1
}

pub(crate) fn open<B: Backend>(backend: &B) -> Provider {
    let device = backend.probe().unwrap().remove(0);
    backend.open(&device).unwrap()
}

/// A device that fails on schedule, with the oracle behind it.
pub(crate) fn faulty(faults: Vec<Fault>) -> (Engine<G1Affine>, Arc<FaultyControl>) {
    let device = Faulty::with(Remote::new(Naive), "faulty", faults);
    (Engine::<G1Affine>::new(vec![open(&device), Naive::provider()]), device.control())
}
