//! Inputs whose shapes a file leaves open, inputs that are constants, and how input files say which list is whose.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use front_common::build::{A, Builder, FLOAT, INT64, value};
use parhelion_zkml::input::{self, InputError, Surplus, parse_inputs, parse_inputs_with};
use parhelion_zkml::onnx::proto::{Dimension, DimensionValue, TensorShapeProto, ValueInfoProto};
use parhelion_zkml::onnx::{Declared, Dim, ImportError, ImportOptions, Model, import, input_shapes};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// A declaration from text: numbers are lengths, `_` is an axis without a name, all else are names.
fn declared(name: &str, dims: &str) -> Declared {
    let one = |d: &str| match (d, d.parse()) {
        (_, Ok(n)) => Dim::Fixed(n),
        ("_", _) => Dim::Open,
        _ => Dim::Named(d.into()),
    };
    Declared { name: name.into(), dims: (dims != "any").then(|| dims.split_whitespace().map(one).collect()) }
}

/// The same declaration in a file.
fn info(name: &str, dtype: i32, dims: &[Option<DimensionValue>]) -> ValueInfoProto {
    let mut v = value(name, dtype, &[]);
    let tensor = v.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()).unwrap();
    let dim = dims.iter().map(|value| Dimension { value: value.clone() }).collect();
    tensor.shape = Some(TensorShapeProto { dim });
    v
}

fn named(name: &str) -> Option<DimensionValue> {
    Some(DimensionValue::DimParam(name.into()))
}

fn options(json: &str) -> ImportOptions {
    ImportOptions { given: Some(input::outline(json).unwrap()), ..ImportOptions::default() }
}

fn shapes(inputs: &[(&str, &str)], lists: &str) -> Result<Vec<Vec<usize>>, ImportError> {
    let declared: Vec<Declared> = inputs.iter().map(|(n, d)| declared(n, d)).collect();
    input_shapes(&declared, &options(&format!("{{\"input_data\": {lists}}}")))
}

fn flat(n: usize) -> String {
    format!("[{}]", vec!["1"; n].join(","))
}

fn nested(shape: &[usize]) -> String {
    match shape.split_first() {
        None => "1".into(),
        Some((n, rest)) => format!("[{}]", vec![nested(rest); *n].join(",")),
    }
}

#[test]
fn nested_lists_bind_every_open_axis() {
    let of = |dims: &str, shape: &[usize]| shapes(&[("x", dims)], &format!("[{}]", nested(shape)));
    for dims in ["n 3 h w", "_ 3 _ _", "_ _ _ _", "n _ _ w", "n 3 4 w", "any"] {
        assert_eq!(of(dims, &[2, 3, 4, 5]), Ok(vec![vec![2, 3, 4, 5]]), "{dims}");
    }
    assert_eq!(of("n n", &[3, 3]), Ok(vec![vec![3, 3]]));
    assert_eq!(of("any", &[]), Ok(vec![vec![]]));
    assert_eq!(of("n", &[7]), Ok(vec![vec![7]]));
    for (dims, shape, says) in [
        ("n n", &[3, 4][..], "`n` is 3"),
        ("n 3", &[2, 4], "[n, 3]"),
        ("n 3 w", &[2, 3], "nested 2 deep"),
        ("n 3", &[2, 3, 1], "nested 3 deep"),
        ("n 3", &[2, 0], "[2, 0]"),
        ("n w", &[2, 0], "empty along axis 1"),
    ] {
        let e = of(dims, shape).unwrap_err();
        assert!(
            matches!(&e, ImportError::List { name, .. } if name == "x") && e.to_string().contains(says),
            "{e}"
        );
    }
}

#[test]
fn flat_lists_are_solved_together() {
    let of = |inputs: &[(&str, &str)], lists: &[String]| shapes(inputs, &format!("[{}]", lists.join(",")));
    for (dims, n, shape) in [
        ("n 3", 12, &[4, 3][..]),
        ("_ 3", 12, &[4, 3]),
        ("n t", 12, &[1, 12]),
        ("n t 4", 12, &[1, 3, 4]),
        ("_ _ 4", 12, &[1, 3, 4]),
        ("n n", 9, &[3, 3]),
        ("n 5 n", 45, &[3, 5, 3]),
        ("n 3 h", 3, &[1, 3, 1]),
    ] {
        assert_eq!(of(&[("x", dims)], &[flat(n)]), Ok(vec![shape.to_vec()]), "{dims}");
    }
    // Another input decides the batch.
    let two = of(&[("x", "n t 4"), ("y", "n 5")], &[flat(24), flat(10)]);
    assert_eq!(two, Ok(vec![vec![2, 3, 4], vec![2, 5]]));
    let two = of(&[("x", "n t 4"), ("y", "n 5")], &[flat(24), nested(&[3, 5])]);
    assert_eq!(two, Ok(vec![vec![3, 2, 4], vec![3, 5]]));
    // Three products of three lengths have one solution.
    let three = of(&[("x", "a b"), ("y", "b c"), ("z", "a c")], &[flat(6), flat(8), flat(12)]);
    assert_eq!(three, Ok(vec![vec![3, 2], vec![2, 4], vec![3, 4]]));
    // Lists that say nothing about one another are decided apart.
    let apart = of(&[("x", "a b"), ("y", "c d 2"), ("z", "d")], &[flat(6), flat(12), flat(3)]);
    assert_eq!(apart, Ok(vec![vec![1, 6], vec![2, 3, 2], vec![3]]));
    for (dims, n, says) in [
        ("n 3 h w", 3 * 48, "`h` and `w`"),
        ("n 3 h w", 3 * 48, "--shape x="),
        ("n 3", 13, "13 elements"),
        ("n n", 8, "8 elements"),
        ("n 3", 0, "0 elements"),
    ] {
        let e = of(&[("x", dims)], &[flat(n)]).unwrap_err();
        assert!(matches!(&e, ImportError::List { .. }) && e.to_string().contains(says), "{e}");
    }
    let e = of(&[("x", "n 4"), ("y", "n 5")], &[flat(8), flat(15)]).unwrap_err();
    assert!(e.to_string().contains("15 elements") && e.to_string().contains("`n` is 2"), "{e}");
    let e = of(&[("x", "n 4"), ("y", "n 5")], &[flat(8)]).unwrap_err();
    assert_eq!(e, ImportError::ListCount { expected: 2, got: 1 });
}

#[test]
fn any_shape_follows_from_its_nested_lists_and_flat_ones_never_contradict() {
    let dims = prop::collection::vec(prop::sample::select(vec!["a", "b", "_", "3"]), 0..4);
    let inputs = prop::collection::vec(dims, 1..4);
    let strategy = (inputs, 1usize..5, 1usize..5, prop::collection::vec(1usize..5, 12));
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |(inputs, a, b, mut rest)| {
        let names = ["x", "y", "z"];
        let mut lengths = |d: &str| match d {
            "a" => a,
            "b" => b,
            "3" => 3,
            _ => rest.pop().unwrap_or(1),
        };
        let truth: Vec<Vec<usize>> =
            inputs.iter().map(|dims| dims.iter().map(|d| lengths(d)).collect()).collect();
        let texts: Vec<String> = inputs.iter().map(|dims| dims.join(" ")).collect();
        let declared: Vec<(&str, &str)> =
            names.iter().copied().zip(texts.iter().map(String::as_str)).collect();
        let lists: Vec<String> = truth.iter().map(|s| nested(s)).collect();
        prop_assert_eq!(shapes(&declared, &format!("[{}]", lists.join(","))), Ok(truth.clone()));
        let lists: Vec<String> = truth.iter().map(|s| flat(s.iter().product())).collect();
        if let Ok(found) = shapes(&declared, &format!("[{}]", lists.join(","))) {
            for (f, t) in found.iter().zip(&truth) {
                prop_assert_eq!(f.iter().product::<usize>(), t.iter().product::<usize>());
            }
            let mut known: std::collections::BTreeMap<&str, usize> = Default::default();
            for (dims, f) in inputs.iter().zip(&found) {
                for (d, n) in dims.iter().zip(f).filter(|(d, _)| **d != "_") {
                    prop_assert_eq!(*known.entry(d).or_insert(*n), *n);
                }
            }
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn options_come_first_and_are_checked() {
    let inputs = [declared("image", "n 3 h w"), declared("mask", "n _")];
    let all = |o: &ImportOptions| input_shapes(&inputs, o);
    let lists = format!("{{\"input_data\": [{}, {}]}}", flat(2 * 3 * 4 * 5), flat(14));
    let mut o = options(&lists);
    o.shapes.insert("image".into(), vec![2, 3, 4, 5]);
    assert_eq!(all(&o), Ok(vec![vec![2, 3, 4, 5], vec![2, 7]]));
    let mut o = options(&lists);
    o.dims = [("h".to_owned(), 4), ("w".to_owned(), 5)].into();
    assert_eq!(all(&o), Ok(vec![vec![2, 3, 4, 5], vec![2, 7]]));
    // Without lists, nothing decides what an option does not.
    let mut o = ImportOptions::default();
    o.dims.insert("h".into(), 4);
    assert_eq!(all(&o), Ok(vec![vec![1, 3, 4, 1], vec![1, 1]]));

    let refused = |edit: &dyn Fn(&mut ImportOptions), says: &[&str]| {
        let mut o = options(&lists);
        edit(&mut o);
        let e = all(&o).unwrap_err().to_string();
        assert!(says.iter().all(|s| e.contains(s)), "{e}");
    };
    refused(&|o| o.dims = [("bacth".to_owned(), 2)].into(), &["`bacth`", "`h`, `n`, `w`"]);
    refused(&|o| drop(o.shapes.insert("imgae".into(), vec![])), &["--shape", "`imgae`", "`image`, `mask`"]);
    refused(&|o| drop(o.shapes.insert("image".into(), vec![2, 3, 4])), &["3 axes", "[n, 3, h, w]"]);
    refused(&|o| drop(o.shapes.insert("image".into(), vec![2, 4, 4, 5])), &["axis 1", "3 long"]);
    let both = |o: &mut ImportOptions| {
        o.shapes.insert("image".into(), vec![2, 3, 4, 5]);
        o.dims.insert("h".into(), 5);
    };
    refused(&both, &["`h`", "4", "5"]);
    let nested = format!("{{\"input_data\": [{}, {}]}}", nested(&[2, 3, 4, 5]), flat(14));
    let mut o = options(&nested);
    o.dims.insert("w".into(), 4);
    let e = all(&o).unwrap_err().to_string();
    assert!(e.contains("option") && e.contains("`w` is 4"), "{e}");
}

/// `y = x · w`, summed with the last axis of `m`, for open axes of every kind.
fn model(dims: &[Option<DimensionValue>]) -> Builder {
    let mut b = Builder::new();
    b.graph.input.push(info("x", FLOAT, dims));
    b.floats("w", &[2, 1], &[1.0, 10.0]).node("MatMul", &["x", "w"], &["y"], &[]).output("y")
}

fn run(b: &Builder, json: &str, o: ImportOptions) -> Result<Vec<f64>, String> {
    let o = ImportOptions { given: Some(input::outline(json).map_err(|e| e.to_string())?), ..o };
    let m = import(&b.bytes(), &o).map_err(|e| e.to_string())?;
    let inputs = parse_inputs(json, &m).map_err(|e| e.to_string())?;
    Ok(float::run(&m, &inputs).map_err(|e| e.to_string())?[0].to_f64())
}

#[test]
fn names_that_say_nothing_are_no_names() {
    let json = r#"{"input_data": [[[[1, 2], [3, 4], [5, 6]]]]}"#;
    let expected = Ok(vec![21.0, 43.0, 65.0]);
    let minus = Some(DimensionValue::DimValue(-1));
    let two = Some(DimensionValue::DimValue(2));
    for open in [named("?"), named("None"), named(""), named("-1"), minus, None] {
        let b = model(&[open.clone(), open.clone(), two.clone()]);
        assert_eq!(run(&b, json, ImportOptions::default()), expected, "{open:?}");
        let flat = r#"{"input_data": [[1, 2, 3, 4, 5, 6]]}"#;
        assert_eq!(run(&b, flat, ImportOptions::default()), expected, "{open:?}");
        let mut o = ImportOptions::default();
        o.shapes.insert("x".into(), vec![1, 3, 2]);
        assert_eq!(run(&b, flat, o), expected, "{open:?}");
    }
    let tied = model(&[named("n"), named("n"), two]);
    assert!(run(&tied, json, ImportOptions::default()).unwrap_err().contains("`n`"));
}

#[test]
fn inputs_without_any_shape_take_that_of_their_list() {
    let mut b = model(&[]);
    b.graph.input[0].r#type.as_mut().and_then(|t| t.tensor_type.as_mut()).unwrap().shape = None;
    let json = r#"{"input_data": [[[1, 2], [3, 4]]]}"#;
    assert_eq!(run(&b, json, ImportOptions::default()), Ok(vec![21.0, 43.0]));
    let e = import(&b.bytes(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(e.contains("`x`") && e.contains("--shape x="), "{e}");
    let mut o = ImportOptions::default();
    o.shapes.insert("x".into(), vec![2, 2]);
    assert_eq!(import(&b.bytes(), &o).unwrap().input_values().next().unwrap().shape, [2, 2]);
}

#[test]
fn errors_say_what_open_axes_were_taken_for() {
    let b = model(&[named("batch"), named("width")]);
    let e = import(&b.bytes(), &ImportOptions::default()).unwrap_err().to_string();
    for says in ["MatMul", "`width`", "`batch`", "taken as 1", "--variable width=N"] {
        assert!(e.contains(says), "{e}");
    }
    let e = run(&b, r#"{"input_data": [[[1, 2, 3]]]}"#, ImportOptions::default()).unwrap_err();
    assert!(e.contains("`width`") && e.contains("taken as 3, from the lists"), "{e}");
    let dims = [("width".to_owned(), 2), ("batch".to_owned(), 1)].into();
    let o = ImportOptions { dims, ..ImportOptions::default() };
    let m = import(&b.bytes(), &o).unwrap();
    let e = parse_inputs(r#"{"input_data": [[1, 2, 3]]}"#, &m).unwrap_err().to_string();
    assert!(e.contains("3") && e.contains("`width`") && e.contains("by option"), "{e}");
    let open = model(&[None, None]);
    let e = import(&open.bytes(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(e.contains("axis 1 of input `x`") && e.contains("--shape x="), "{e}");
}

fn two() -> Builder {
    Builder::new()
        .input("a", FLOAT, &[2])
        .input("b", INT64, &[1])
        .node("Cast", &["b"], &["c"], &[("to", A::Int(1))])
        .node("Mul", &["a", "c"], &["y"], &[])
        .output("y")
}

fn constants(list: &[(&str, &str)]) -> ImportOptions {
    let constants = list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    ImportOptions { constants, ..ImportOptions::default() }
}

#[test]
fn inputs_have_names() {
    let parse = |json: &str| parse_inputs(json, &import(&two().bytes(), &ImportOptions::default()).unwrap());
    let expected = parse(r#"{"input_data": [[0.5, 1], [3]]}"#).unwrap();
    for json in [
        r#"{"input_data": {"a": [0.5, 1], "b": [3]}}"#,
        r#"{"input_data": {"b": 3, "a": [0.5, 1]}, "output_data": []}"#,
        "\u{feff}{\"input_data\": {\"b\": [3], \"a\": [0.5, 1]}}",
    ] {
        assert_eq!(parse(json).unwrap(), expected, "{json}");
    }
    let missing = parse(r#"{"input_data": {"a": [0.5, 1]}}"#);
    assert_eq!(missing, Err(InputError::Missing("b".into())));
    let unknown = r#"{"input_data": {"a": [0.5, 1], "b": [3], "d": [1]}}"#;
    let known = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(parse(unknown), Err(InputError::Unknown { name: "d".into(), known }));
    let m = import(&two().bytes(), &ImportOptions::default()).unwrap();
    assert_eq!(parse_inputs_with(unknown, &m, Surplus::Ignore).unwrap(), expected);
    let twice = r#"{"input_data": {"a": [0.5, 1], "b": [3], "b": [4]}}"#;
    assert_eq!(parse(twice), Err(InputError::Twice("b".into())));
    assert!(matches!(parse(r#"{"input_data": [[1]], "input_data": [[2]]}"#), Err(InputError::Twice(_))));
}

#[test]
fn an_input_may_be_a_constant() {
    let m = import(&two().bytes(), &constants(&[("b", "3")])).unwrap();
    assert_eq!((m.inputs.len(), m.declared.len(), m.nodes.len()), (1, 2, 1));
    assert_eq!(m.binding.constants["b"], "3");
    let expected = [0.5, 1.0];
    for json in [
        r#"{"input_data": [[0.5, 1]]}"#,
        r#"{"input_data": [[0.5, 1], [3]]}"#,
        r#"{"input_data": {"a": [0.5, 1]}}"#,
        r#"{"input_data": {"b": [3], "a": [0.5, 1]}}"#,
    ] {
        let inputs = parse_inputs(json, &m).unwrap();
        assert_eq!(inputs.iter().map(|t| t.to_f64()).collect::<Vec<_>>(), [expected.to_vec()], "{json}");
        assert_eq!(float::run(&m, &inputs).unwrap()[0].to_f64(), [1.5, 3.0]);
    }
    let other = parse_inputs(r#"{"input_data": [[0.5, 1], [4]]}"#, &m);
    assert_eq!(other, Err(InputError::Constant { name: "b".into(), index: 0 }));
    assert!(matches!(
        parse_inputs(r#"{"input_data": [[1, 1], [3], [3]]}"#, &m),
        Err(InputError::Count { .. })
    ));
    for (list, says) in [
        (("d", "3"), "`a`, `b`"),
        (("b", "3.5"), "3.5"),
        (("b", "[1, 2]"), "2 elements"),
        (("b", "three"), "JSON"),
        (("a", "1e999"), "JSON"),
        (("a", "1e200"), "float32"),
    ] {
        let e = import(&two().bytes(), &constants(&[list])).unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
    }
}

#[test]
fn what_was_decided_can_be_decided_again() {
    let mut b = model(&[named("n"), named("t"), Some(DimensionValue::DimValue(2))]);
    b.graph.input.push(info("k", FLOAT, &[named("t"), named("one")]));
    let b = b.node("Mul", &["y", "k"], &["z"], &[]).output("z");
    let json = r#"{"input_data": [[[[1, 2], [3, 4], [5, 6]]]]}"#;
    let given = Some(input::outline(json).unwrap());
    let mut o = ImportOptions { given, ..constants(&[("k", "2")]) };
    o.dims.insert("one".into(), 1);
    let first = import(&b.bytes(), &o).unwrap();
    assert_eq!(first.binding.shapes["x"], [1, 3, 2]);
    assert_eq!(first.binding.shapes["k"], [3, 1]);
    let mut again = ImportOptions::default();
    again.bind(&first.binding).unwrap();
    let again = import(&b.bytes(), &again).unwrap();
    let shapes = |m: &Model| m.input_values().map(|v| v.shape.clone()).collect::<Vec<_>>();
    assert_eq!(
        (shapes(&again), &again.nodes, &again.binding),
        (shapes(&first), &first.nodes, &first.binding)
    );
    // What the caller says must be the same.
    let mut other = constants(&[("k", "3")]);
    assert!(other.bind(&first.binding).unwrap_err().to_string().contains("`k`"));
    let mut other = ImportOptions::default();
    other.shapes.insert("x".into(), vec![2, 3, 2]);
    assert!(other.bind(&first.binding).unwrap_err().to_string().contains("setup"));
    assert!(constants(&[("x", "3")]).bind(&first.binding).unwrap_err().to_string().contains("`x`"));
}

/// `y = sr == 16000 ? x[0..4] : x[0..8]`, for six samples; the second does not fit.
fn chooses() -> Builder {
    let branch = |len: i64| {
        let b = Builder::new().ints("to", &[len]).node("Reshape", &["x", "to"], &["r"], &[]).output("r");
        b.graph
    };
    Builder::new()
        .input("x", FLOAT, &[6])
        .input("sr", INT64, &[])
        .ints("rate", &[16000])
        .node("Equal", &["sr", "rate"], &["is"], &[])
        .node(
            "If",
            &["is"],
            &["y"],
            &[("then_branch", A::Graph(branch(6))), ("else_branch", A::Graph(branch(8)))],
        )
        .output("y")
}

#[test]
fn only_the_branch_that_is_taken_has_to_fit() {
    let e = import(&chooses().bytes(), &ImportOptions::default()).unwrap_err();
    assert!(
        matches!(&e, ImportError::Branch { branch: "else_branch", inputs, .. } if inputs == &["sr"]),
        "{e}"
    );
    assert!(e.to_string().contains("--constant sr="), "{e}");
    let m = import(&chooses().bytes(), &constants(&[("sr", "16000")])).unwrap();
    let inputs = parse_inputs(r#"{"input_data": [[1, 2, 3, 4, 5, 6], 16000]}"#, &m).unwrap();
    assert_eq!(float::run(&m, &inputs).unwrap()[0].to_f64(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let e = import(&chooses().bytes(), &constants(&[("sr", "8000")])).unwrap_err().to_string();
    assert!(e.contains("Reshape"), "{e}");
}

#[test]
fn a_constant_that_is_no_number_is_named() {
    let b = |w: &[f32]| {
        Builder::new()
            .input("x", FLOAT, &[1, 2])
            .floats("weight", &[2, 2], w)
            .node("Transpose", &["weight"], &["t"], &[])
            .node("MatMul", &["x", "t"], &["y"], &[])
            .output("y")
    };
    let e = import(&b(&[1.0, 2.0, f32::NAN, 1.0]).bytes(), &ImportOptions::default()).unwrap_err();
    assert!(matches!(&e, ImportError::Tensor { name, .. } if name == "weight"), "{e}");
    assert!(e.to_string().contains("element 2"), "{e}");
    assert!(import(&b(&[1.0, 2.0, 0.0, 1.0]).bytes(), &ImportOptions::default()).is_ok());
}

/// The elements that a Slice of version 10 on leaves of an axis: counted from the end where negative, clamped to it.
fn sliced(n: i64, start: i64, end: i64, step: i64) -> Vec<f64> {
    let from_end = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    let (start, end) = (from_end(start), from_end(end));
    let (start, end) = match step > 0 {
        true => (start.clamp(0, n), end.clamp(0, n)),
        false => (start.clamp(0, n - 1), end.clamp(-1, n - 1)),
    };
    let mut at = start;
    let mut left = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        left.push(at as f64);
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    left
}

#[test]
fn slices_go_both_ways_and_start_anywhere() {
    const FAR: i64 = i64::MAX;
    let (n, x) = (5, r#"{"input_data": [[[0, 1, 2, 3, 4]]]}"#);
    let model = |start, end, step| {
        Builder::new()
            .input("x", FLOAT, &[1, 5])
            .ints("start", &[start])
            .ints("end", &[end])
            .ints("axis", &[-1])
            .ints("step", &[step])
            .node("Slice", &["x", "start", "end", "axis", "step"], &["y"], &[])
            .output("y")
    };
    for start in [-FAR - 1, -7, -6, -5, -1, 0, 2, 4, 5, 9, FAR] {
        for end in [-FAR - 1, -FAR, -7, -6, -5, -2, 0, 3, 5, 9, FAR] {
            for step in [-FAR, -3, -2, -1, 1, 2, 7, FAR] {
                let want = sliced(n, start, end, step);
                let got = run(&model(start, end, step), x, ImportOptions::default());
                assert_eq!(got.as_ref(), Ok(&want), "[{start}:{end}:{step}]");
            }
        }
    }
    // The same in a circuit, for those that leave something.
    let m = import(&model(-2, -FAR, -2).bytes(), &ImportOptions::default()).unwrap();
    let inputs = parse_inputs(x, &m).unwrap();
    let q = quantise(&m, std::slice::from_ref(&inputs), &QuantOptions::default()).unwrap();
    let trace = exec::run(&q.program, &q.encode_inputs(&inputs).unwrap()).unwrap();
    assert_eq!(q.decode_outputs(&trace)[0].to_f64(), [3.0, 1.0]);
}
