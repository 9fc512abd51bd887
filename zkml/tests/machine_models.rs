//! Every operation, and whole models, through the real prover and verifier.

mod machine_common;

use machine_common::{Build, check, rng, round_trip, square};
use parhelion_zkml::machine::{PlanError, PlanOptions, Vis, Visibility, plan};
use parhelion_zkml::qir::{OpKind, Pick, Role, TensorId, Term, Window};

fn options(units: u32) -> PlanOptions {
    PlanOptions { units: Some(units), ..PlanOptions::default() }
}

fn prove_output(b: Build, out: TensorId) {
    let p = b.output(out);
    round_trip(&p, Visibility::default(), &PlanOptions::default(), 5);
    for units in [2, 4] {
        // Images whose width is not a multiple do not divide into such rows.
        match plan(&p, &Visibility::default(), &options(units)) {
            Err(PlanError::Misaligned) => {}
            _ => drop(check(&p, Visibility::default(), &options(units), 6)),
        }
    }
}

#[test]
fn mlp() {
    let mut r = rng(1);
    let mut b = Build::default();
    let x = b.input(&[1, 16], -128, 127);
    let h = b.dense(x, 12, 8, true, &mut r);
    let y = b.dense(h, 4, 8, false, &mut r);
    let p = b.output(y);
    let plan = round_trip(&p, Visibility::default(), &PlanOptions::default(), 3);
    assert!(plan.k() <= 9);
}

#[test]
fn batch_of_three() {
    let mut r = rng(1);
    let mut b = Build::default();
    let x = b.input(&[3, 7], -128, 127);
    let h = b.dense(x, 5, 8, true, &mut r);
    let y = b.dense(h, 4, 3, false, &mut r);
    prove_output(b, y);
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
    prove_output(b, y);
}

#[test]
fn convolutions_of_all_kinds() {
    for (stride, pad, groups, kernel) in
        [(1, 0, 1, 3), (2, 1, 2, 3), (1, 2, 4, 5), (3, 1, 1, 4), (1, 0, 1, 1)]
    {
        let mut r = rng(9);
        let mut b = Build::default();
        let x = b.input(&[2, 4, 7, 6], -128, 127);
        let y = b.conv(x, 8, kernel, stride, pad, groups, 6, stride == 1, &mut r);
        let p = b.output(y);
        round_trip(&p, Visibility::default(), &PlanOptions::default(), 5);
        check(&p, Visibility { params: Vis::Fixed, ..Visibility::default() }, &options(1), 5);
    }
}

#[test]
fn padding_beyond_the_kernel() {
    let mut r = rng(9);
    for (begin, end) in [([1, 0], [0, 3]), ([2, 3], [2, 1])] {
        let mut b = Build::default();
        let x = b.input(&[1, 2, 3, 4], -128, 127);
        let w = b.param(&[3, 2, 1, 2], 50, &mut r);
        let bias = b.param(&[3, 1, 1], 50, &mut r);
        let window = Window {
            kernel: vec![1, 2],
            strides: vec![1, 2],
            pads_begin: begin.to_vec(),
            pads_end: end.to_vec(),
            dilations: vec![1; 2],
        };
        let out = [1, 3, 3 + begin[0] + end[0], (4 + begin[1] + end[1] - 2) / 2 + 1];
        let terms = vec![Term::Conv { x, w, window, groups: 1, coeff: 1 }, Term::Scale { x: bias, coeff: 1 }];
        let y = b.linear(terms, 0, 3, true, &out);
        prove_output(b, y);
    }
}

#[test]
fn convolutions_in_one_and_three_dimensions() {
    let mut r = rng(3);
    for shape in [vec![1, 2, 9], vec![1, 2, 3, 4, 5]] {
        let mut b = Build::default();
        let x = b.input(&shape, -20, 20);
        let rank = shape.len() - 2;
        let mut kernel = vec![3, 2];
        kernel.extend(vec![2; rank]);
        let w = b.param(&kernel, 50, &mut r);
        let window = Window {
            kernel: vec![2; rank],
            strides: vec![1; rank],
            pads_begin: vec![1; rank],
            pads_end: vec![0; rank],
            dilations: vec![if rank == 1 { 3 } else { 1 }; rank],
        };
        let reach = if rank == 1 { 3 } else { 1 };
        let mut out = vec![1, 3];
        out.extend(shape[2..].iter().map(|n| n + 1 - reach));
        let other = b.param(&out, 9, &mut r);
        let terms =
            vec![Term::Conv { x, w, window, groups: 1, coeff: 3 }, Term::Scale { x: other, coeff: -2 }];
        let y = b.linear(terms, 7, 4, false, &out);
        prove_output(b, y);
    }
}

#[test]
fn two_convolutions_and_an_einsum_in_one_sum() {
    let mut r = rng(3);
    let mut b = Build::default();
    let x = b.input(&[1, 2, 4, 4], -20, 20);
    let w1 = b.param(&[3, 2, 3, 3], 50, &mut r);
    let w2 = b.param(&[3, 2, 1, 1], 50, &mut r);
    let w3 = b.param(&[3, 2], 50, &mut r);
    let einsum = Term::Einsum {
        a: x,
        b: w3,
        a_axes: vec![0, 1, 2, 3],
        b_axes: vec![4, 1],
        out_axes: vec![0, 4, 2, 3],
        coeff: 2,
    };
    let terms = vec![
        Term::Conv { x, w: w1, window: square(3, 1, 1), groups: 1, coeff: 1 },
        Term::Conv { x, w: w2, window: square(1, 1, 0), groups: 1, coeff: -1 },
        einsum,
        Term::SumPool { x: w_image(&mut b, x), window: square(1, 1, 0), coeff: 5 },
    ];
    let y = b.linear(terms, 0, 5, true, &[1, 3, 4, 4]);
    prove_output(b, y);
}

/// Three channels made from two.
fn w_image(b: &mut Build, x: TensorId) -> TensorId {
    let (lo, hi) = b.bounds(x);
    let picks = (0..48u32).map(|i| if i < 32 { Pick::Of { source: 0, index: i } } else { Pick::Const(1) });
    let picks = picks.collect();
    b.op(OpKind::View { sources: vec![x], picks }, &[1, 3, 4, 4], lo.min(1), hi.max(1))
}

#[test]
fn attention() {
    let mut r = rng(4);
    let (t, d, h) = (6, 8, 2);
    let mut b = Build::default();
    let x = b.input(&[t, d], -100, 100);
    let mut project = |b: &mut Build| {
        let w = b.param(&[h, d / h, d], 100, &mut r);
        let term = Term::Einsum {
            a: x,
            b: w,
            a_axes: vec![0, 3],
            b_axes: vec![1, 2, 3],
            out_axes: vec![1, 0, 2],
            coeff: 1,
        };
        b.linear(vec![term], 0, 9, false, &[h, t, d / h])
    };
    let (q, k, v) = (project(&mut b), project(&mut b), project(&mut b));
    let scores = Term::Einsum {
        a: q,
        b: k,
        a_axes: vec![0, 1, 3],
        b_axes: vec![0, 2, 3],
        out_axes: vec![0, 1, 2],
        coeff: 1,
    };
    let scores = b.linear(vec![scores], 0, 8, false, &[h, t, t]);
    let (lo, hi) = b.bounds(scores);
    let max = b.op(OpKind::Max { x: scores }, &[h, t], lo, hi);
    let max = b.reshape(max, &[h, t, 1]);
    let shifted = vec![Term::Scale { x: scores, coeff: 1 }, Term::Scale { x: max, coeff: -1 }];
    let shifted = b.linear(shifted, 0, 0, false, &[h, t, t]);
    let e = b.lookup(shifted, |x| (f64::exp(x.min(0) as f64 / 64.0) * 255.0).round() as i64);
    let sum = b.linear(vec![Term::Sum { x: e, axes: vec![2], coeff: 1 }], 1, 0, false, &[h, t, 1]);
    let num = b.linear(vec![Term::Scale { x: e, coeff: 256 }], 0, 0, false, &[h, t, t]);
    let att = b.op(OpKind::Div { num, den: sum }, &[h, t, t], 0, 65280);
    let out = Term::Einsum {
        a: att,
        b: v,
        a_axes: vec![0, 1, 2],
        b_axes: vec![0, 2, 3],
        out_axes: vec![1, 0, 3],
        coeff: 1,
    };
    let out = b.linear(vec![out], 0, 8, false, &[t, h, d / h]);
    let flat = b.reshape(out, &[t, d]);
    let y = b.dense(flat, 5, 6, true, &mut r);
    prove_output(b, y);
}

#[test]
fn element_wise_sums_and_products() {
    let mut b = Build::default();
    let x = b.input(&[3, 4], -300, 300);
    let y = b.input(&[4], -300, 300);
    let terms = vec![
        Term::Scale { x, coeff: 5 },
        Term::Scale { x: y, coeff: -3 },
        Term::Product { a: x, b: y, coeff: 2 },
        Term::Product { a: y, b: y, coeff: -1 },
        Term::Product { a: x, b: x, coeff: 1 },
    ];
    let z = b.linear(terms, 77, 6, true, &[3, 4]);
    let w = b.linear(
        vec![Term::Scale { x: z, coeff: 1 }, Term::Product { a: x, b: x, coeff: 1 }],
        -5,
        0,
        false,
        &[3, 4],
    );
    let v = b.linear(vec![Term::Scale { x: w, coeff: 1 }], -900, 0, true, &[3, 4]);
    prove_output(b, v);
}

#[test]
fn tables() {
    let mut b = Build::default();
    let x = b.input(&[9], -100, 155);
    let y = b.lookup(x, |x| x * x / 3 - 7);
    let z = b.interpolate(y, 4, 5);
    prove_output(b, z);
}

#[test]
fn steps_and_wide_values() {
    let mut b = Build::default();
    let x = b.input(&[9], -70_000, 70_000);
    let small = b.linear(vec![Term::Scale { x, coeff: 1 }], 0, 14, false, &[9]);
    let s = b.op(OpKind::Step { x }, &[9], 0, 1);
    let t = b.op(OpKind::Step { x: small }, &[9], 0, 1);
    let y = b.linear(
        vec![Term::Product { a: s, b: x, coeff: 1 }, Term::Scale { x: t, coeff: 3 }],
        0,
        0,
        false,
        &[9],
    );
    prove_output(b, y);
}

#[test]
fn divisions_and_roots() {
    let mut b = Build::default();
    let num = b.input(&[3, 5], -50_000, 50_000);
    let den = b.input(&[3, 1], 1, 777);
    let q = b.op(OpKind::Div { num, den }, &[3, 5], -50_000, 50_000);
    let squares = b.linear(vec![Term::Product { a: q, b: q, coeff: 1 }], 3, 0, false, &[3, 5]);
    let hi = 50_000i64 * 50_000 + 3;
    b.p.tensors[squares.0 as usize].lo = 3;
    b.p.tensors[squares.0 as usize].hi = hi;
    let root = b.op(OpKind::Sqrt { x: squares }, &[3, 5], 0, 50_001);
    prove_output(b, root);
}

#[test]
fn maxima() {
    for spread in [20, 40_000] {
        for last in [false, true] {
            let mut b = Build::default();
            let x = b.input(&[3, 5], -spread, spread);
            let max = b.op(OpKind::Max { x }, &[3], -spread, spread);
            let arg = b.op(OpKind::ArgMax { x, last }, &[3], 0, 4);
            let y = b.linear(
                vec![Term::Scale { x: max, coeff: 10 }, Term::Scale { x: arg, coeff: 1 }],
                0,
                0,
                false,
                &[3],
            );
            prove_output(b, y);
        }
    }
}

#[test]
fn sorts() {
    for descending in [false, true] {
        let mut b = Build::default();
        let x = b.input(&[2, 6], -4, 4);
        let values = b.op(OpKind::Sort { x, descending }, &[2, 6], -4, 4);
        let mut t = b.p.tensors[values.0 as usize].clone();
        (t.name, t.lo, t.hi) = ("indices".into(), 0, 5);
        b.p.tensors.push(t);
        let indices = TensorId(b.p.tensors.len() as u32 - 1);
        b.p.ops.last_mut().unwrap().outputs.push(indices);
        let terms = vec![Term::Scale { x: values, coeff: 10 }, Term::Scale { x: indices, coeff: 1 }];
        let y = b.linear(terms, 0, 0, false, &[2, 6]);
        prove_output(b, y);
    }
}

#[test]
fn gathers() {
    let mut r = rng(3);
    let mut b = Build::default();
    let index = b.input(&[5], 0, 3);
    let data = b.param(&[4, 3], 1000, &mut r);
    let rows = b.op(OpKind::Gather { data, index }, &[5, 3], -1000, 1000);
    let computed = b.linear(vec![Term::Scale { x: index, coeff: 2 }], 0, 1, false, &[5]);
    (b.p.tensors[computed.0 as usize].lo, b.p.tensors[computed.0 as usize].hi) = (0, 3);
    let again = b.op(OpKind::Gather { data: rows, index: computed }, &[5, 3], -1000, 1000);
    prove_output(b, again);
}

#[test]
fn every_visibility() {
    let mut r = rng(8);
    let mut b = Build::default();
    let x = b.input(&[2, 6], -128, 127);
    let h = b.dense(x, 5, 7, true, &mut r);
    let y = b.dense(h, 3, 7, false, &mut r);
    let p = b.output(y);
    for input in [Vis::Public, Vis::Private] {
        for output in [Vis::Public, Vis::Private] {
            for params in [Vis::Public, Vis::Private, Vis::Fixed] {
                round_trip(&p, Visibility::new(input, output, params), &PlanOptions::default(), 11);
            }
        }
    }
}

#[test]
fn outputs_may_be_inputs_views_and_constants() {
    let mut b = Build::default();
    let x = b.input(&[4], -128, 127);
    let c = b.data(&[2], Role::Constant, vec![5, -6]);
    let w = b.data(&[2], Role::Param, vec![7, -8]);
    let picks = vec![
        Pick::Of { source: 0, index: 3 },
        Pick::Const(-9),
        Pick::Of { source: 1, index: 1 },
        Pick::Of { source: 2, index: 0 },
        Pick::Of { source: 0, index: 3 },
    ];
    let v = b.op(OpKind::View { sources: vec![x, c, w], picks: picks.into() }, &[5], -128, 127);
    b.p.outputs.extend([x, c]);
    prove_output(b, v);
}

#[test]
fn a_weight_used_by_two_steps_and_in_two_orders() {
    let mut r = rng(5);
    let mut b = Build::default();
    let x = b.input(&[1, 6], -128, 127);
    let w = b.param(&[6, 6], 100, &mut r);
    let forward =
        |a| Term::Einsum { a, b: w, a_axes: vec![0, 2], b_axes: vec![1, 2], out_axes: vec![0, 1], coeff: 1 };
    let back =
        |a| Term::Einsum { a, b: w, a_axes: vec![0, 2], b_axes: vec![2, 1], out_axes: vec![0, 1], coeff: 1 };
    let h = b.linear(vec![forward(x)], 0, 8, true, &[1, 6]);
    let h2 = b.linear(vec![forward(h), Term::Scale { x, coeff: 3 }], 0, 8, true, &[1, 6]);
    let p = Build { p: b.p.clone() }.output(h2);
    let plan = round_trip(&p, Visibility::default(), &PlanOptions::default(), 4);
    assert_eq!(plan.report().stored_weights, 36);
    let y = b.linear(vec![back(h2)], 0, 8, false, &[1, 6]);
    let p = b.output(y);
    let plan = round_trip(&p, Visibility::default(), &PlanOptions::default(), 4);
    assert_eq!(plan.report().stored_weights, 0);
}

#[test]
fn plans_survive_serialisation() {
    let mut r = rng(1);
    let mut b = Build::default();
    let x = b.input(&[1, 16], -128, 127);
    let y = b.dense(x, 4, 8, true, &mut r);
    let p = b.output(y);
    let plan = check(&p, Visibility::default(), &PlanOptions::default(), 3);
    let text = serde_json::to_string(&plan).unwrap();
    let again: parhelion_zkml::machine::Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(plan.report(), again.report());
    let broken = text.replacen("\"version\":1", "\"version\":2", 1);
    assert!(serde_json::from_str::<parhelion_zkml::machine::Plan>(&broken).is_err());
}

/// LeNet-5's shape: 61,706 weights of 14 bits, activations of 16.
#[test]
fn lenet_fits_two_to_the_fourteen() {
    let mut r = rng(12);
    let mut b = Build::default();
    let x = b.input(&[1, 1, 32, 32], -8192, 8191);
    let c = b.conv(x, 6, 5, 1, 0, 1, 13, true, &mut r);
    let c = b.pool(c, 2, 2);
    let c = b.conv(c, 16, 5, 1, 0, 1, 13, true, &mut r);
    let c = b.pool(c, 2, 2);
    let c = b.reshape(c, &[1, 400]);
    let c = b.dense(c, 120, 13, true, &mut r);
    let c = b.dense(c, 84, 13, true, &mut r);
    let y = b.dense(c, 10, 13, false, &mut r);
    for t in b.p.tensors.iter_mut().filter(|t| t.role == Role::Param) {
        (t.lo, t.hi) = (t.lo.min(-8192), t.hi.max(8191));
    }
    let p = b.output(y);
    let start = std::time::Instant::now();
    let plan = plan(&p, &Visibility::default(), &PlanOptions::default()).unwrap();
    eprintln!("plan {:?} {:?}", start.elapsed(), plan.report());
    assert!(plan.k() <= 14);
    round_trip(&p, Visibility::default(), &PlanOptions::default(), 3);
}

/// A transposed convolution: a convolution of an image with zeros between its pixels.
#[test]
fn convolutions_of_spread_images() {
    let mut r = rng(9);
    let mut b = Build::default();
    let x = b.input(&[1, 2, 3, 3], 1, 100);
    let side = 9;
    let picks = (0..2 * side * side).map(|i| {
        let (c, h, w) = (i / (side * side), i / side % side, i % side);
        let inside = |v: u32| (2..=6).contains(&v) && v.is_multiple_of(2);
        if inside(h) && inside(w) {
            Pick::Of { source: 0, index: c * 9 + (h / 2 - 1) * 3 + w / 2 - 1 }
        } else {
            Pick::Const(0)
        }
    });
    let picks = picks.collect();
    let spread = b.op(OpKind::View { sources: vec![x], picks }, &[1, 2, 9, 9], 0, 100);
    // The kernel is a flipped view of the weight, as importers make it.
    let w = b.param(&[3, 2, 5, 5], 100, &mut r);
    let flipped = (0..150u32).map(|i| Pick::Of { source: 0, index: i / 25 * 25 + 24 - i % 25 }).collect();
    let w = b.op(OpKind::View { sources: vec![w], picks: flipped }, &[3, 2, 5, 5], -100, 100);
    let window = square(5, 1, 0);
    let y =
        b.linear(vec![Term::Conv { x: spread, w, window, groups: 1, coeff: 1 }], 0, 6, true, &[1, 3, 5, 5]);
    prove_output(b, y);
}
