//! The integer executor against the definitions of its operations, written as plainly as they read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use parhelion_zkml::exec::{self, CheckError, ExecError};
use parhelion_zkml::qir::{Activation, Op, OpKind, Pick, Program, Role, Tensor, TensorId, Term, Window};
use proptest::prelude::*;

/// A program of one operation on inputs of the given shapes, with bounds ±2^20.
struct One {
    program: Program,
}

const BOUND: i64 = 1 << 20;

impl One {
    fn new(
        inputs: &[&[usize]],
        out: &[usize],
        kind: impl FnOnce(&[TensorId]) -> OpKind,
        bounds: (i64, i64),
    ) -> One {
        let mut p = Program::default();
        let tensor = |name: &str, shape: &[usize], (lo, hi): (i64, i64), role| Tensor {
            name: name.into(),
            shape: shape.to_vec(),
            lo,
            hi,
            scale: 0,
            role,
            data: None,
        };
        for (i, s) in inputs.iter().enumerate() {
            p.tensors.push(tensor(&format!("x{i}"), s, (-BOUND, BOUND), Role::Input));
            p.inputs.push(TensorId(i as u32));
        }
        let id = TensorId(inputs.len() as u32);
        p.tensors.push(tensor("y", out, bounds, Role::Node));
        p.ops.push(Op { name: "op".into(), kind: kind(&p.inputs.clone()), outputs: vec![id] });
        p.outputs.push(id);
        One { program: p }
    }

    fn run(&self, inputs: &[Vec<i64>]) -> Result<Vec<i64>, ExecError> {
        let trace = exec::run(&self.program, inputs)?;
        Ok(trace.outputs(&self.program).next().unwrap().to_vec())
    }
}

fn linear(terms: Vec<Term>, constant: i64, shift: u32, activation: Activation) -> OpKind {
    OpKind::Linear { terms, constant, shift, pre_lo: -(1 << 60), pre_hi: 1 << 60, activation }
}

const WIDE: (i64, i64) = (-(1 << 60), 1 << 60);

fn values(n: usize) -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-BOUND..=BOUND, n)
}

/// Rounded as the definition says: half up, in exact arithmetic.
fn rounded(acc: i128, shift: u32) -> i64 {
    let half = if shift == 0 { 0 } else { 1i128 << (shift - 1) };
    (acc + half).div_euclid(1i128 << shift) as i64
}

proptest! {
    #[test]
    fn matrix_products(m in 1usize..6, k in 1usize..7, n in 1usize..6, shift in 0u32..9, relu: bool, seed in values(80)) {
        let (a, b) = (seed[..m * k].to_vec(), seed[40..40 + k * n].to_vec());
        let term = |ids: &[TensorId]| Term::Einsum {
            a: ids[0], b: ids[1], a_axes: vec![0, 1], b_axes: vec![1, 2], out_axes: vec![2, 0], coeff: -3,
        };
        let activation = if relu { Activation::Relu } else { Activation::None };
        let one = One::new(&[&[m, k], &[k, n]], &[n, m], |i| linear(vec![term(i)], 5, shift, activation), WIDE);
        let got = one.run(&[a.clone(), b.clone()]).unwrap();
        for j in 0..n {
            for i in 0..m {
                let dot: i128 = (0..k).map(|l| i128::from(a[i * k + l]) * i128::from(b[l * n + j])).sum();
                let v = rounded(5 - 3 * dot, shift);
                prop_assert_eq!(got[j * m + i], if relu { v.max(0) } else { v });
            }
        }
    }

    #[test]
    fn convolutions(
        c in 1usize..3, o in 1usize..3, h in 2usize..6, w in 2usize..6, kh in 1usize..3, kw in 1usize..3,
        stride in 1usize..3, pad in 0usize..2, dilation in 1usize..3, groups in 1usize..3, seed in values(260),
    ) {
        let (cin, cout) = (c * groups, o * groups);
        let len = |d: usize, k: usize| (d + 2 * pad).checked_sub(dilation * (k - 1) + 1).map(|r| r / stride + 1);
        let (Some(oh), Some(ow)) = (len(h, kh), len(w, kw)) else { return Ok(()) };
        let x: Vec<i64> = seed.iter().cycle().take(cin * h * w).copied().collect();
        let k: Vec<i64> = seed.iter().rev().cycle().take(cout * c * kh * kw).copied().collect();
        let window = Window {
            kernel: vec![kh, kw], strides: vec![stride; 2], pads_begin: vec![pad; 2], pads_end: vec![pad; 2],
            dilations: vec![dilation; 2],
        };
        let one = One::new(
            &[&[1, cin, h, w], &[cout, c, kh, kw]],
            &[1, cout, oh, ow],
            |i| linear(vec![Term::Conv { x: i[0], w: i[1], window, groups, coeff: 2 }], 0, 0, Activation::None),
            WIDE,
        );
        let got = one.run(&[x.clone(), k.clone()]).unwrap();
        for oc in 0..cout {
            for y in 0..oh {
                for z in 0..ow {
                    let mut acc = 0i64;
                    for ic in 0..c {
                        for (a, b) in (0..kh).flat_map(|a| (0..kw).map(move |b| (a, b))) {
                            let (r, s) = (y * stride + a * dilation, z * stride + b * dilation);
                            if r < pad || s < pad || r - pad >= h || s - pad >= w {
                                continue;
                            }
                            let channel = oc / o * c + ic;
                            acc += x[(channel * h + r - pad) * w + s - pad] * k[((oc * c + ic) * kh + a) * kw + b];
                        }
                    }
                    prop_assert_eq!(got[(oc * oh + y) * ow + z], 2 * acc);
                }
            }
        }
    }

    #[test]
    fn sums_scales_and_products(x in values(12), y in values(4), shift in 0u32..5) {
        let one = One::new(&[&[3, 4], &[4]], &[3, 4], |i| linear(
            vec![
                Term::Scale { x: i[0], coeff: 7 },
                Term::Product { a: i[0], b: i[1], coeff: -2 },
                Term::Scale { x: i[1], coeff: -1 },
            ], -9, shift, Activation::None), WIDE);
        let got = one.run(&[x.clone(), y.clone()]).unwrap();
        for i in 0..12 {
            let (a, b) = (i128::from(x[i]), i128::from(y[i % 4]));
            prop_assert_eq!(got[i], rounded(7 * a - 2 * a * b - b - 9, shift));
        }
        let sum = One::new(&[&[3, 4]], &[1, 4], |i| linear(
            vec![Term::Sum { x: i[0], axes: vec![0], coeff: 3 }], 0, 0, Activation::None), WIDE);
        let got = sum.run(std::slice::from_ref(&x)).unwrap();
        for j in 0..4 {
            prop_assert_eq!(got[j], 3 * (x[j] + x[4 + j] + x[8 + j]));
        }
    }

    #[test]
    fn orders(x in values(12)) {
        let rows: Vec<&[i64]> = x.chunks(4).collect();
        let max = One::new(&[&[3, 4]], &[3], |i| OpKind::Max { x: i[0] }, (-BOUND, BOUND));
        prop_assert_eq!(max.run(std::slice::from_ref(&x)).unwrap(), rows.iter().map(|r| *r.iter().max().unwrap()).collect::<Vec<_>>());
        let arg = One::new(&[&[3, 4]], &[3], |i| OpKind::ArgMax { x: i[0], last: false }, (0, 3));
        for (got, r) in arg.run(std::slice::from_ref(&x)).unwrap().into_iter().zip(&rows) {
            prop_assert!(r.iter().all(|v| *v <= r[got as usize]));
            prop_assert!(r[..got as usize].iter().all(|v| *v < r[got as usize]));
        }
        let step = One::new(&[&[12]], &[12], |i| OpKind::Step { x: i[0] }, (0, 1));
        prop_assert_eq!(step.run(std::slice::from_ref(&x)).unwrap(), x.iter().map(|v| i64::from(*v >= 0)).collect::<Vec<_>>());
    }
}

#[test]
fn wide_accumulators_do_not_wrap() {
    // Products near 2^61 each, sixteen of them.
    let mut one = One::new(
        &[&[16], &[16]],
        &[],
        |i| {
            linear(
                vec![Term::Einsum {
                    a: i[0],
                    b: i[1],
                    a_axes: vec![0],
                    b_axes: vec![0],
                    out_axes: vec![],
                    coeff: 1,
                }],
                0,
                20,
                Activation::None,
            )
        },
        WIDE,
    );
    for t in &mut one.program.tensors[..2] {
        (t.lo, t.hi) = (-(1 << 31), 1 << 31);
    }
    let big = vec![1i64 << 30; 16];
    assert_eq!(one.run(&[big.clone(), big]).unwrap(), vec![1 << 44]);
}

#[test]
fn views_pick_elements_and_constants() {
    let picks: Arc<[Pick]> =
        vec![Pick::Of { source: 1, index: 2 }, Pick::Const(-4), Pick::Of { source: 0, index: 0 }].into();
    let one = One::new(&[&[1], &[3]], &[3], |i| OpKind::View { sources: i.to_vec(), picks }, (-BOUND, BOUND));
    assert_eq!(one.run(&[vec![9], vec![1, 2, 3]]).unwrap(), vec![3, -4, 9]);
}

#[test]
fn contradictions_are_found_before_running() {
    let op_error = |one: One| matches!(exec::check(&one.program), Err(CheckError::Op { .. }));
    let scale = |i: &[TensorId]| Term::Scale { x: i[0], coeff: 1 };
    // Nothing enforces bounds that are narrower than the operands'.
    let narrow = |i: &[TensorId]| OpKind::Linear {
        terms: vec![scale(i)],
        constant: 0,
        shift: 0,
        pre_lo: -1,
        pre_hi: 1,
        activation: Activation::None,
    };
    assert!(op_error(One::new(&[&[2]], &[2], narrow, (-1, 1))));
    // Products and contractions in one operation.
    let mixed = |i: &[TensorId]| {
        let product = Term::Product { a: i[0], b: i[0], coeff: 1 };
        linear(vec![product, Term::Sum { x: i[0], axes: vec![], coeff: 1 }], 0, 0, Activation::None)
    };
    assert!(op_error(One::new(&[&[2]], &[2], mixed, WIDE)));
    // A repeated label, and one of two lengths.
    let einsum = |a: Vec<u8>, b: Vec<u8>, out: Vec<u8>| {
        move |i: &[TensorId]| {
            let term = Term::Einsum { a: i[0], b: i[1], a_axes: a, b_axes: b, out_axes: out, coeff: 1 };
            linear(vec![term], 0, 0, Activation::None)
        }
    };
    assert!(op_error(One::new(&[&[2, 2], &[2]], &[2], einsum(vec![0, 0], vec![0], vec![0]), WIDE)));
    assert!(op_error(One::new(&[&[2, 3], &[2]], &[2], einsum(vec![0, 1], vec![1], vec![0]), WIDE)));
    // A table of the wrong length, a divisor that may be zero, a root of a negative number.
    let lookup = |i: &[TensorId]| OpKind::Lookup { x: i[0], table: vec![0; 3].into() };
    assert!(op_error(One::new(&[&[2]], &[2], lookup, WIDE)));
    assert!(op_error(One::new(&[&[2], &[2]], &[2], |i| OpKind::Div { num: i[0], den: i[1] }, WIDE)));
    assert!(op_error(One::new(&[&[2]], &[2], |i| OpKind::Sqrt { x: i[0] }, WIDE)));
    assert!(op_error(One::new(&[&[2], &[1]], &[1], |i| OpKind::Gather { data: i[0], index: i[1] }, WIDE)));
    assert!(op_error(One::new(&[&[2]], &[3], |i| OpKind::Step { x: i[0] }, (0, 1))));
    let pick: Arc<[Pick]> = vec![Pick::Of { source: 0, index: 2 }].into();
    assert!(op_error(One::new(&[&[2]], &[1], |i| OpKind::View { sources: i.to_vec(), picks: pick }, WIDE)));
    // Ids, roles and data.
    let mut one = One::new(&[&[2]], &[2], |_| OpKind::Step { x: TensorId(7) }, (0, 1));
    assert!(matches!(exec::check(&one.program), Err(CheckError::Id { id: 7, .. })));
    one.program.ops.clear();
    assert!(matches!(exec::check(&one.program), Err(CheckError::Tensor { .. })));
    let mut one = One::new(&[&[2]], &[2], |i| OpKind::Step { x: i[0] }, (0, 1));
    one.program.tensors[0].role = Role::Param;
    assert!(matches!(exec::check(&one.program), Err(CheckError::Tensor { .. })));
    let mut one = One::new(&[&[2]], &[2], |i| OpKind::Step { x: i[0] }, (0, 1));
    (one.program.tensors[0].lo, one.program.tensors[0].hi) = (1, 0);
    assert!(matches!(exec::check(&one.program), Err(CheckError::Tensor { .. })));
}
