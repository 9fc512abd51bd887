//! Integers of every width: exact in and out, and back into their type as two's complement is. Right values are ONNX Runtime's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64};
use parhelion_zkml::input::parse_inputs;
use parhelion_zkml::machine::{self, PlanOptions, Visibility};
use parhelion_zkml::onnx::{DType, Data, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float};

const TYPES: [(i32, DType); 8] = [
    (3, DType::I8),
    (2, DType::U8),
    (5, DType::I16),
    (4, DType::U16),
    (6, DType::I32),
    (12, DType::U32),
    (7, DType::I64),
    (13, DType::U64),
];

fn bytes(dtype: DType, v: &[i64]) -> Vec<u8> {
    let width = match dtype {
        DType::I8 | DType::U8 => 1,
        DType::I16 | DType::U16 => 2,
        DType::I32 | DType::U32 => 4,
        _ => 8,
    };
    v.iter().flat_map(|v| v.to_le_bytes()[..width].to_vec()).collect()
}

fn tensor(dtype: DType, v: &[i64]) -> TensorF {
    TensorF { shape: vec![v.len()], dtype, data: Data::I(v.to_vec()) }
}

/// The output in integers; the float model must agree. Errors are what the user reads.
fn run(b: &Builder, inputs: &[TensorF]) -> Result<TensorF, String> {
    let m = import(&b.bytes(), &ImportOptions::default()).map_err(|e| e.to_string())?;
    let q = quantise(&m, &[inputs.to_vec()], &QuantOptions::default()).map_err(|e| e.to_string())?;
    let encoded = q.encode_inputs(inputs).map_err(|e| e.to_string())?;
    let trace = exec::run_checked(&q.program, &encoded).map_err(|e| e.to_string())?;
    let out = q.decode_outputs(&trace).swap_remove(0);
    let float = float::run(&m, inputs).map_err(|e| e.to_string())?.swap_remove(0);
    assert_eq!(float.data, out.data, "the float model on the left");
    let plan = machine::plan(&q.program, &Visibility::default(), &PlanOptions::default());
    machine::mock(&plan.map_err(|e| e.to_string())?, &trace.values).unwrap();
    Ok(out)
}

fn whole(b: &Builder, inputs: &[TensorF]) -> Vec<i64> {
    run(b, inputs).unwrap().to_i64()
}

/// Values at the ends of a type, as far as a circuit holds them.
fn ends(dtype: DType) -> Vec<i64> {
    let (lo, hi) = dtype.int_bounds().unwrap();
    let (lo, hi) = (lo.max(-(1 << 55)), hi.min(1 << 55));
    vec![hi, lo, 3, hi - 1, lo + 1, 7]
}

#[test]
fn sums_and_products_wrap() {
    for (code, dtype) in TYPES {
        let x = ends(dtype);
        let signed = dtype.int_bounds().unwrap().0 < 0;
        let lists =
            [vec![1i64; 6], vec![2, if signed { -1 } else { 1 }, 2, 3, if signed { -2 } else { 2 }, 7]];
        for k in &lists {
            for (op, f) in [
                ("Add", i64::wrapping_add as fn(i64, i64) -> i64),
                ("Sub", i64::wrapping_sub),
                ("Mul", i64::wrapping_mul),
            ] {
                let want: Vec<i64> = x.iter().zip(k).map(|(&x, &k)| dtype.wrap(f(x, k))).collect();
                let constant = Builder::new()
                    .input("x", code, &[6])
                    .raw("k", code, &[6], &bytes(dtype, k))
                    .node(op, &["x", "k"], &["y"], &[])
                    .output("y");
                let computed = Builder::new()
                    .input("x", code, &[6])
                    .input("k", code, &[6])
                    .node(op, &["x", "k"], &["y"], &[])
                    .output("y");
                let x = tensor(dtype, &x);
                if dtype == DType::U64 && op == "Sub" {
                    // Below zero is past 2^63: refused, never another number.
                    assert!(run(&constant, std::slice::from_ref(&x)).is_err());
                    continue;
                }
                assert_eq!(whole(&constant, std::slice::from_ref(&x)), want, "{dtype} {op}");
                assert_eq!(whole(&computed, &[x, tensor(dtype, k)]), want, "{dtype} {op}");
            }
        }
    }
}

#[test]
fn uint8_is_uint8() {
    let b = Builder::new()
        .input("x", 2, &[1])
        .input("k", 2, &[1])
        .node("Add", &["x", "k"], &["y"], &[])
        .output("y");
    assert_eq!(whole(&b, &[tensor(DType::U8, &[200]), tensor(DType::U8, &[100])]), [44]);
    // And so through the operators after it.
    let b = Builder::new()
        .input("x", 2, &[1])
        .input("k", 2, &[1])
        .node("Add", &["x", "k"], &["s"], &[])
        .node("Cast", &["s"], &["f"], &[("to", A::Int(1))])
        .output("f");
    let got = run(&b, &[tensor(DType::U8, &[200]), tensor(DType::U8, &[100])]).unwrap();
    assert_eq!(got.to_f64(), [44.0]);
}

#[test]
fn magnitudes_and_signs_of_the_least_integers() {
    for (code, dtype) in TYPES {
        let x = ends(dtype);
        for (op, f) in
            [("Abs", i64::wrapping_abs as fn(i64) -> i64), ("Neg", i64::wrapping_neg), ("Sign", i64::signum)]
        {
            if op == "Neg" && dtype.int_bounds().unwrap().0 == 0 {
                continue;
            }
            let b = Builder::new().input("x", code, &[6]).node(op, &["x"], &["y"], &[]).output("y");
            let want: Vec<i64> = x.iter().map(|&v| dtype.wrap(f(v))).collect();
            assert_eq!(whole(&b, &[tensor(dtype, &x)]), want, "{dtype} {op}");
        }
    }
}

#[test]
fn casts_keep_the_low_bits() {
    for (code, from) in TYPES {
        let x = ends(from);
        for (to_code, to) in TYPES {
            let b = Builder::new()
                .input("x", code, &[6])
                .node("Cast", &["x"], &["y"], &[("to", A::Int(to_code.into()))])
                .output("y");
            let want: Vec<i64> = x.iter().map(|&v| to.wrap(v)).collect();
            if to == DType::U64 && want.iter().any(|v| *v < 0) {
                assert!(run(&b, &[tensor(from, &x)]).is_err());
                continue;
            }
            assert_eq!(whole(&b, &[tensor(from, &x)]), want, "{from} to {to}");
        }
    }
    let f = |v: &[f64]| TensorF::float(vec![v.len()], DType::F32, v.to_vec()).unwrap();
    let cast = |to: i64, n: i64| {
        Builder::new().input("x", FLOAT, &[n]).node("Cast", &["x"], &["y"], &[("to", A::Int(to))]).output("y")
    };
    let x = [300.75, -1.5, -200.25, 127.5, -0.5];
    assert_eq!(whole(&cast(3, 5), &[f(&x)]), [44, -1, 56, 127, 0]);
    assert_eq!(whole(&cast(2, 5), &[f(&x)]), [44, 255, 56, 127, 0]);
    assert_eq!(whole(&cast(6, 5), &[f(&x)]), [300, -1, -200, 127, 0]);
}

#[test]
fn quotients_and_remainders_have_their_signs() {
    let x = [127, -127, 3, -7, 7, 100];
    for k in [[1i64, 2, 3, 4, 5, 7], [-2, -3, 2, 3, -5, 7]] {
        for (op, fmod, f) in [
            ("Div", 0, (|x, k| x / k) as fn(i64, i64) -> i64),
            ("Mod", 1, |x, k| x % k),
            ("Mod", 0, |x: i64, k: i64| x - k * (x as f64 / k as f64).floor() as i64),
        ] {
            let attrs: &[(&str, A<'_>)] = if op == "Mod" { &[("fmod", A::Int(fmod))] } else { &[] };
            for (code, dtype) in [(3, DType::I8), (6, DType::I32), (7, DType::I64)] {
                let b = Builder::new()
                    .input("x", code, &[6])
                    .raw("k", code, &[6], &bytes(dtype, &k))
                    .node(op, &["x", "k"], &["y"], attrs)
                    .output("y");
                let want: Vec<i64> = x.iter().zip(&k).map(|(&x, &k)| f(x, k)).collect();
                assert_eq!(whole(&b, &[tensor(dtype, &x)]), want, "{dtype} {op} {fmod}");
            }
        }
    }
}

#[test]
fn divisors_that_are_inputs_have_any_sign() {
    let (x, d) = ([127, -127, 3, -7, 7, 100], [-2, -3, 2, 3, -5, 7]);
    for (op, fmod, f) in [
        ("Div", 0, (|x, k| x / k) as fn(i64, i64) -> i64),
        ("Mod", 1, |x, k| x % k),
        ("Mod", 0, |x: i64, k: i64| x - k * (x as f64 / k as f64).floor() as i64),
    ] {
        let attrs: &[(&str, A<'_>)] = if op == "Mod" { &[("fmod", A::Int(fmod))] } else { &[] };
        for (code, dtype) in [(3, DType::I8), (6, DType::I32), (7, DType::I64)] {
            let b = Builder::new()
                .input("x", code, &[6])
                .input("k", code, &[6])
                .node(op, &["x", "k"], &["y"], attrs)
                .output("y");
            for d in [d, [-2, -3, -2, -3, -5, -7], [2, 3, 2, 3, 5, 7]] {
                let want: Vec<i64> = x.iter().zip(d).map(|(&x, k)| f(x, k)).collect();
                assert_eq!(whole(&b, &[tensor(dtype, &x), tensor(dtype, &d)]), want, "{dtype} {op} {fmod}");
            }
            // What divides is never zero, whatever the samples were.
            assert!(run(&b, &[tensor(dtype, &x), tensor(dtype, &[1, 0, -1, 2, 3, 4])]).is_err());
        }
    }
}

#[test]
fn integers_clip_with_the_upper_bound_last() {
    for (code, dtype) in TYPES {
        let x = ends(dtype);
        for (lo, hi) in [(5, 2), (2, 5), (3, 3), (100, 50)] {
            let b = Builder::new()
                .input("x", code, &[6])
                .raw("lo", code, &[], &bytes(dtype, &[lo]))
                .raw("hi", code, &[], &bytes(dtype, &[hi]))
                .node("Clip", &["x", "lo", "hi"], &["y"], &[])
                .output("y");
            let want: Vec<i64> = x.iter().map(|&v| v.max(lo).min(hi)).collect();
            assert_eq!(whole(&b, &[tensor(dtype, &x)]), want, "{dtype} [{lo}, {hi}]");
        }
    }
}

#[test]
fn powers_are_cut_off() {
    let x = [1i64, 2, 3, 4, 9, 10];
    for (code, dtype) in [(6, DType::I32), (7, DType::I64)] {
        for (e, want) in [
            (0.5f32, [1, 1, 1, 2, 3, 3]),
            (1.5, [1, 2, 5, 8, 27, 31]),
            (-1.0, [1, 0, 0, 0, 0, 0]),
            (0.0, [1, 1, 1, 1, 1, 1]),
            (2.0, [1, 4, 9, 16, 81, 100]),
            (4.0, [1, 16, 81, 256, 6561, 10000]),
        ] {
            let b = Builder::new()
                .input("x", code, &[6])
                .floats("e", &[], &[e])
                .node("Pow", &["x", "e"], &["y"], &[])
                .output("y");
            assert_eq!(whole(&b, &[tensor(dtype, &x)]), want, "{dtype} to the {e}");
        }
    }
    let power = |code, e: f32| {
        let n = if code == 6 { 2 } else { 1 };
        Builder::new()
            .input("x", code, &[n])
            .floats("e", &[], &[e])
            .node("Pow", &["x", "e"], &["y"], &[])
            .output("y")
    };
    assert_eq!(whole(&power(7, 0.5), &[tensor(DType::I64, &[1000])]), [31]);
    assert_eq!(whole(&power(6, 2.0), &[tensor(DType::I32, &[1 << 28, 3])]), [0, 9]);
    assert_eq!(whole(&power(7, 3.0), &[tensor(DType::I64, &[-10])]), [-1000]);
    assert!(run(&power(7, -1.0), &[tensor(DType::I64, &[0])]).is_err());
    assert!(run(&power(7, 0.5), &[tensor(DType::I64, &[-4])]).is_err());
}

#[test]
fn shifts_lose_the_bits_that_leave() {
    for (code, dtype) in [(2, DType::U8), (4, DType::U16), (12, DType::U32)] {
        let top = dtype.int_bounds().unwrap().1;
        let width = 64 - top.leading_zeros() as i64;
        for (direction, by) in [("LEFT", 1), ("LEFT", 7), ("RIGHT", 3), ("LEFT", width), ("RIGHT", width)] {
            let b = Builder::new()
                .input("x", code, &[3])
                .raw("k", code, &[], &bytes(dtype, &[by]))
                .node("BitShift", &["x", "k"], &["y"], &[("direction", A::Str(direction))])
                .output("y");
            let x = [top, 5, 130];
            let want: Vec<i64> = x
                .iter()
                .map(|&v: &i64| if direction == "LEFT" { dtype.wrap(v << by) } else { v >> by })
                .collect();
            assert_eq!(whole(&b, &[tensor(dtype, &x)]), want, "{dtype} {direction} {by}");
        }
    }
}

#[test]
fn signed_integers_shift_by_any_distance() {
    for (code, dtype) in [(3, DType::I8), (5, DType::I16), (6, DType::I32)] {
        let (low, top) = dtype.int_bounds().unwrap();
        let width = 64 - top.leading_zeros() as i64 + 1;
        let x = [top, low, -1, 5, -8, 4, 1];
        for by in
            [[0, 1, 1, 2, 1, width, width - 1], [-1, -1, -width, 3, -2, -1, -2 * width], [1; 7], [-1; 7]]
        {
            for direction in ["LEFT", "RIGHT"] {
                let b = Builder::new()
                    .input("x", code, &[7])
                    .raw("k", code, &[7], &bytes(dtype, &by))
                    .node("BitShift", &["x", "k"], &["y"], &[("direction", A::Str(direction))])
                    .output("y");
                // Distances past the width, and negative ones, move all of the bits out; signs fill from the left.
                let want = x.iter().zip(by).map(|(&v, by): (&i64, i64)| match direction {
                    "LEFT" if (0..width).contains(&by) => dtype.wrap(v << by),
                    "LEFT" => 0,
                    _ if (0..width).contains(&by) => v >> by,
                    _ => v >> 63,
                });
                let want: Vec<i64> = want.collect();
                assert_eq!(whole(&b, &[tensor(dtype, &x)]), want, "{dtype} {direction} {by:?}");
            }
        }
    }
}

#[test]
fn indices_in_parts_of_an_input_have_bounds_of_their_own() {
    let b = Builder::new()
        .input("i", INT64, &[2, 2])
        .output("y")
        .ints("many", &[10, 11, 12, 13])
        .ints("two", &[20, 21])
        .ints("first", &[0])
        .ints("second", &[1])
        .node("Gather", &["i", "first"], &["a"], &[("axis", A::Int(1))])
        .node("Gather", &["i", "second"], &["b"], &[("axis", A::Int(1))])
        .node("Gather", &["many", "a"], &["p"], &[])
        .node("Gather", &["two", "b"], &["q"], &[])
        .node("Add", &["p", "q"], &["y"], &[]);
    let pairs = |v: [i64; 4]| TensorF { shape: vec![2, 2], dtype: DType::I64, data: Data::I(v.to_vec()) };
    assert_eq!(whole(&b, &[pairs([3, 1, 0, 0])]), [34, 30]);
    assert_eq!(whole(&b, &[pairs([-1, 0, 1, -1])]), [33, 32]);
    assert!(run(&b, &[pairs([0, 3, 0, 0])]).is_err());
}

#[test]
fn identifiers_and_times_are_exact() {
    for k in [1_600_000_000i64, 1_000_000_000, 9_007_199_254_740_993, 1 << 57, -1_700_000_001] {
        let with = |op: &str| {
            Builder::new()
                .input("x", INT64, &[2])
                .raw("k", INT64, &[], &bytes(DType::I64, &[k]))
                .node(op, &["x", "k"], &["y"], &[])
                .output("y")
        };
        let x = tensor(DType::I64, &[1, 2]);
        assert_eq!(whole(&with("Add"), std::slice::from_ref(&x)), [1 + k, 2 + k]);
        assert_eq!(whole(&with("Sub"), &[x]), [1 - k, 2 - k]);
        let near = tensor(DType::I64, &[k, k + 1]);
        assert_eq!(whole(&with("Equal"), std::slice::from_ref(&near)), [1, 0]);
        assert_eq!(whole(&with("Greater"), std::slice::from_ref(&near)), [0, 1]);
        assert_eq!(whole(&with("Less"), &[tensor(DType::I64, &[k, k - 1])]), [0, 1]);
        let list = Builder::new()
            .input("i", INT64, &[2])
            .raw("k", INT64, &[3], &bytes(DType::I64, &[5, k, k + 1]))
            .node("Gather", &["k", "i"], &["y"], &[])
            .output("y");
        assert_eq!(whole(&list, &[tensor(DType::I64, &[2, 1])]), [k + 1, k]);
        let branch = Builder::new()
            .input("x", INT64, &[2])
            .raw("k", INT64, &[], &bytes(DType::I64, &[k]))
            .raw("one", INT64, &[], &bytes(DType::I64, &[1]))
            .node("Equal", &["x", "one"], &["c"], &[])
            .node("Where", &["c", "k", "x"], &["y"], &[])
            .output("y");
        assert_eq!(whole(&branch, &[tensor(DType::I64, &[1, 2])]), [k, 2]);
    }
}

#[test]
fn integers_past_2_53_survive_the_input_file() {
    let b = Builder::new().input("x", INT64, &[3]).node("Identity", &["x"], &["y"], &[]).output("y");
    let m = import(&b.bytes(), &ImportOptions::default()).unwrap();
    let json = "{\"input_data\":[[9007199254740993,-9007199254740993,1152921504606846977]]}";
    let x = parse_inputs(json, &m).unwrap();
    assert_eq!(whole(&b, &x), [9_007_199_254_740_993, -9_007_199_254_740_993, 1_152_921_504_606_846_977]);
}

#[test]
fn unsigned_integers_of_64_bits_are_themselves_or_refused() {
    // The quotient of constants is folded in the whole range.
    let b = Builder::new()
        .input("x", FLOAT, &[1])
        .raw("k", 13, &[1], &(u64::MAX - 1).to_le_bytes())
        .raw("d", 13, &[1], &(1u64 << 62).to_le_bytes())
        .node("Div", &["k", "d"], &["q"], &[])
        .node("Cast", &["q"], &["f"], &[("to", A::Int(1))])
        .node("Mul", &["x", "f"], &["y"], &[])
        .output("y");
    let got = run(&b, &[TensorF::float(vec![1], DType::F32, vec![1.0]).unwrap()]).unwrap();
    assert_eq!(got.to_f64(), [3.0]);
    let b = Builder::new()
        .input("x", 13, &[1])
        .raw("k", 13, &[1], &((1u64 << 63) + 5).to_le_bytes())
        .node("Add", &["x", "k"], &["y"], &[])
        .output("y");
    let refused = run(&b, &[tensor(DType::U64, &[1])]).unwrap_err();
    assert!(refused.contains("`k`") && refused.contains("9223372036854775813"), "{refused}");
}
