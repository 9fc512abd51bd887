//! Small programs for the tests of the machine.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails where it cannot go on")]

pub(crate) mod mutants;
pub(crate) mod second;

use std::sync::Arc;

use halo2_axiom::halo2curves::bn256::Fr;
use parhelion_prover::{Engine, ProofTranscript, Srs};
use parhelion_zkml::exec::{self, accumulator_bounds};
use parhelion_zkml::machine::{Plan, PlanOptions, Vis, Visibility, keygen, mock, plan, prove};
use parhelion_zkml::qir::{Activation, Op, OpKind, Pick, Program, Role, Tensor, TensorId, Term, Window};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// Builds programs, with bounds by interval arithmetic.
#[derive(Default)]
pub(crate) struct Build {
    pub(crate) p: Program,
}

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub(crate) fn between(rng: &mut impl RngCore, lo: i64, hi: i64) -> i64 {
    lo + (rng.next_u64() % (hi - lo + 1) as u64) as i64
}

impl Build {
    fn tensor(
        &mut self,
        name: String,
        shape: &[usize],
        lo: i64,
        hi: i64,
        role: Role,
        data: Option<Vec<i64>>,
    ) -> TensorId {
        let data = data.map(Arc::from);
        self.p.tensors.push(Tensor { name, shape: shape.to_vec(), lo, hi, scale: 0, role, data });
        TensorId(self.p.tensors.len() as u32 - 1)
    }

    pub(crate) fn input(&mut self, shape: &[usize], lo: i64, hi: i64) -> TensorId {
        let id = self.tensor(format!("input{}", self.p.tensors.len()), shape, lo, hi, Role::Input, None);
        self.p.inputs.push(id);
        id
    }

    pub(crate) fn data(&mut self, shape: &[usize], role: Role, data: Vec<i64>) -> TensorId {
        let (lo, hi) = (data.iter().min().copied().unwrap_or(0), data.iter().max().copied().unwrap_or(0));
        self.tensor(format!("weight{}", self.p.tensors.len()), shape, lo, hi, role, Some(data))
    }

    pub(crate) fn param(&mut self, shape: &[usize], bound: i64, rng: &mut impl RngCore) -> TensorId {
        let n: usize = shape.iter().product();
        let data = (0..n).map(|_| between(rng, -bound, bound)).collect();
        let id = self.data(shape, Role::Param, data);
        let t = &mut self.p.tensors[id.0 as usize];
        (t.lo, t.hi) = (-bound, bound);
        id
    }

    pub(crate) fn op(&mut self, kind: OpKind, shape: &[usize], lo: i64, hi: i64) -> TensorId {
        let name = format!("node{}", self.p.ops.len());
        let out = self.tensor(format!("{name}_out"), shape, lo, hi, Role::Node, None);
        self.p.ops.push(Op { name, kind, outputs: vec![out] });
        out
    }

    pub(crate) fn shape(&self, id: TensorId) -> Vec<usize> {
        self.p.tensor(id).shape.clone()
    }

    pub(crate) fn bounds(&self, id: TensorId) -> (i64, i64) {
        (self.p.tensor(id).lo, self.p.tensor(id).hi)
    }

    pub(crate) fn linear(
        &mut self,
        terms: Vec<Term>,
        constant: i64,
        shift: u32,
        relu: bool,
        shape: &[usize],
    ) -> TensorId {
        let (lo, hi) = accumulator_bounds(&self.p, &terms, constant);
        let half = if shift == 0 { 0 } else { 1i128 << (shift - 1) };
        let (pre_lo, pre_hi) = (((lo + half) >> shift) as i64, ((hi + half) >> shift) as i64);
        let (out_lo, out_hi) = if relu { (pre_lo.max(0), pre_hi.max(0)) } else { (pre_lo, pre_hi) };
        let activation = if relu { Activation::Relu } else { Activation::None };
        self.op(OpKind::Linear { terms, constant, shift, pre_lo, pre_hi, activation }, shape, out_lo, out_hi)
    }

    /// `x[b, k] · w[o, k] + bias[o]`.
    pub(crate) fn dense(
        &mut self,
        x: TensorId,
        out: usize,
        shift: u32,
        relu: bool,
        rng: &mut impl RngCore,
    ) -> TensorId {
        let shape = self.shape(x);
        let w = self.param(&[out, shape[1]], 100, rng);
        let bias = self.param(&[out], 1000, rng);
        let terms = vec![
            Term::Einsum {
                a: x,
                b: w,
                a_axes: vec![0, 2],
                b_axes: vec![1, 2],
                out_axes: vec![0, 1],
                coeff: 1,
            },
            Term::Scale { x: bias, coeff: 1 },
        ];
        self.linear(terms, 0, shift, relu, &[shape[0], out])
    }

    #[expect(clippy::too_many_arguments, reason = "the parameters of a convolution")]
    pub(crate) fn conv(
        &mut self,
        x: TensorId,
        out: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        groups: usize,
        shift: u32,
        relu: bool,
        rng: &mut impl RngCore,
    ) -> TensorId {
        let s = self.shape(x);
        let w = self.param(&[out, s[1] / groups, kernel, kernel], 100, rng);
        let bias = self.param(&[out, 1, 1], 1000, rng);
        let len = |n: usize| (n + 2 * pad - kernel) / stride + 1;
        let window = square(kernel, stride, pad);
        let terms = vec![Term::Conv { x, w, window, groups, coeff: 1 }, Term::Scale { x: bias, coeff: 1 }];
        self.linear(terms, 0, shift, relu, &[s[0], out, len(s[2]), len(s[3])])
    }

    pub(crate) fn pool(&mut self, x: TensorId, kernel: usize, shift: u32) -> TensorId {
        let s = self.shape(x);
        let window = square(kernel, kernel, 0);
        self.linear(
            vec![Term::SumPool { x, window, coeff: 1 }],
            0,
            shift,
            false,
            &[s[0], s[1], s[2] / kernel, s[3] / kernel],
        )
    }

    pub(crate) fn reshape(&mut self, x: TensorId, shape: &[usize]) -> TensorId {
        let (lo, hi) = self.bounds(x);
        let n: usize = shape.iter().product();
        let picks = (0..n as u32).map(|index| Pick::Of { source: 0, index }).collect();
        self.op(OpKind::View { sources: vec![x], picks }, shape, lo, hi)
    }

    pub(crate) fn lookup(&mut self, x: TensorId, f: impl Fn(i64) -> i64) -> TensorId {
        let (lo, hi) = self.bounds(x);
        let table: Vec<i64> = (lo..=hi).map(f).collect();
        let (min, max) = (table.iter().min().copied().unwrap_or(0), table.iter().max().copied().unwrap_or(0));
        let shape = self.shape(x);
        self.op(OpKind::Lookup { x, table: table.into() }, &shape, min, max)
    }

    /// A piecewise linear square root of sorts.
    pub(crate) fn interpolate(&mut self, x: TensorId, step: u32, guard: u32) -> TensorId {
        let (lo, hi) = self.bounds(x);
        let (first_key, last) = (lo >> step, hi >> step);
        let f =
            |key: i64| (f64::from((key - first_key) as u32).sqrt() * f64::from(1u32 << guard) * 16.0) as i64;
        let values: Vec<i64> = (first_key..=last).map(f).collect();
        let slopes: Vec<i64> = (first_key..=last).map(|k| f(k + 1) - f(k)).collect();
        let top = (f(last + 1) >> guard) + 1;
        let kind =
            OpKind::Interpolate { x, step, guard, first_key, values: values.into(), slopes: slopes.into() };
        let shape = self.shape(x);
        self.op(kind, &shape, 0, top)
    }

    pub(crate) fn output(mut self, id: TensorId) -> Program {
        self.p.outputs.push(id);
        self.p
    }
}

pub(crate) fn square(kernel: usize, stride: usize, pad: usize) -> Window {
    Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
        dilations: vec![1; 2],
    }
}

pub(crate) fn random_inputs(p: &Program, rng: &mut impl RngCore) -> Vec<Vec<i64>> {
    p.inputs
        .iter()
        .map(|&id| {
            let t = p.tensor(id);
            (0..t.len()).map(|_| between(rng, t.lo, t.hi)).collect()
        })
        .collect()
}

pub(crate) fn srs(k: u32) -> Srs {
    Srs::insecure_from_seed(k, 7).unwrap()
}

pub(crate) fn engine() -> &'static Engine {
    parhelion_backends::default_engine().unwrap()
}

/// Whether a program divides into rows of the units that the options name.
pub(crate) fn plans(p: &Program, options: &PlanOptions) -> bool {
    plan(p, &Visibility::default(), options).is_ok()
}

/// Plans, proves and verifies, and checks that the instance is the executor's output.
pub(crate) fn round_trip(p: &Program, visibility: Visibility, options: &PlanOptions, seed: u64) -> Plan {
    let plan = plan(p, &visibility, options).unwrap();
    let mut random = rng(seed);
    let inputs = random_inputs(p, &mut random);
    let trace = exec::run(p, &inputs).unwrap();
    mock(&plan, &trace.values).unwrap();
    let srs = srs(plan.k());
    let key = keygen(engine(), &srs, &plan).unwrap();
    let proof = prove(engine(), &key, &plan, &trace.values, ProofTranscript::Blake2b, rng(seed + 1)).unwrap();
    assert!(second::both(&key, &proof.bytes, &proof.instances));
    let mut expected: Vec<i64> = Vec::new();
    if visibility.input == Vis::Public {
        inputs.iter().for_each(|x| expected.extend(x));
    }
    if visibility.params == Vis::Public {
        let params = p.tensors.iter().filter(|t| t.role == Role::Param);
        params.for_each(|t| expected.extend(t.data.iter().flat_map(|d| d.iter())));
    }
    if visibility.output == Vis::Public {
        trace.outputs(p).for_each(|x| expected.extend(x));
    }
    let field = |x: &i64| if *x < 0 { -Fr::from(x.unsigned_abs()) } else { Fr::from(*x as u64) };
    let expected: Vec<Fr> = expected.iter().map(field).collect();
    assert_eq!(proof.instances.concat(), expected);
    if plan.k() > 12 {
        eprintln!("{}", proof.report);
    }
    let report = plan.report();
    eprintln!(
        "k={} advice={} late={} fixed={} equality={} proof={}B rows={}/{}/{} of {} witness={:?} total={:?} {:?}",
        report.k,
        report.advice,
        report.late,
        report.fixed,
        report.equality,
        proof.bytes.len(),
        report.unit_rows,
        report.bulk_rows,
        report.scalar_rows,
        report.usable_rows,
        proof.witness,
        proof.report.total,
        report.choice,
    );
    plan
}

/// Plans and checks all constraints, without a proof.
pub(crate) fn check(p: &Program, visibility: Visibility, options: &PlanOptions, seed: u64) -> Plan {
    let plan = plan(p, &visibility, options).unwrap();
    let inputs = random_inputs(p, &mut rng(seed));
    let trace = exec::run(p, &inputs).unwrap();
    mock(&plan, &trace.values).unwrap();
    plan
}
