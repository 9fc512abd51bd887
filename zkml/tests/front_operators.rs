//! `docs/operators.md` says what the code does. `PARHELION_UPDATE=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod front_common;

use std::collections::BTreeMap;
use std::fmt::Write;

use front_common::build::{Builder, FLOAT};
use parhelion_zkml::onnx::{Form, ImportError, ImportOptions, import, operators, operators_of};

/// Counts of ONNX's node tests by operator, as `front_onnx_node` wrote them.
const COUNTS: &str = include_str!("data/onnx_node_tests.csv");

const HEAD: &str = "# Operators

What Parhelion reads of ONNX, and what becomes of it in a circuit. This page is written from the tables in the code
(`zkml/src/onnx/operators.rs`, `ml/mod.rs`, `fused.rs`); a test fails where it is stale. A model with anything else is refused with all of its unsupported nodes at once,
each with a reason and a rewrite where one is known.

Shapes are static: open axes are as long as the lists of the input, or bound by `--variable NAME=N` and `--shape` ([input](artefacts.md#input)), and whatever a shape depends on is a constant. Real numbers are
fixed-point integers; integers and booleans are exact, and integers do not wrap around.

## Forms
";

const TABLE: &str = "
## Table

*Since* is the first version of ONNX's operator set whose form of the operator is read; later ones, up to 28, are read too. What an older set defines
otherwise is refused by name. *Tests* are the cases of
ONNX's node tests with this one operator: those that the integer executor passes, of those there are. An operator that ONNX tests by a function
written out in other operators is counted below.

| operator | since | form | limits | tests |
|---|---|---|---|---|
";

const DOMAINS: &str = "
## Other domains

`ai.onnx.ml` is what skl2onnx and onnxmltools write for scikit-learn, LightGBM and XGBoost. Thresholds, values of leaves and coefficients
are parameters, private by default; the shape of a tree and the features that it reads are structure, and public. Where a class label is a text, train with
integers. A classifier's second output is a tensor, with `zipmap` or without. `front_ml` tests them on random models against ONNX Runtime.

| operator of `ai.onnx.ml` | form | limits |
|---|---|---|
";

/// The cases that do not pass, with their reasons.
const REST: &str = include_str!("data/onnx_node_rest.csv");

const FUSED: &str = "
`com.microsoft` is what ONNX Runtime's optimiser and its quantiser write. Of its fusions, these are taken apart again; a model with others has to be
exported without optimisations, or with the level `basic`.

| operator of `com.microsoft` | form | limits |
|---|---|---|
";

fn counts() -> BTreeMap<&'static str, [usize; 4]> {
    let row = |line: &'static str| {
        let mut fields = line.split(',');
        let name = fields.next().unwrap();
        (name, std::array::from_fn(|_| fields.next().unwrap().parse().unwrap()))
    };
    COUNTS.lines().skip(1).map(row).collect()
}

fn page() -> String {
    let counts = counts();
    let mut out = HEAD.to_owned();
    out += "\n| form | in the circuit |\n|---|---|\n";
    for form in Form::ALL {
        writeln!(out, "| {} | {} |", form.name(), form.meaning()).unwrap();
    }
    out += TABLE;
    for o in operators() {
        let tests =
            counts.get(o.name).map_or(String::new(), |[all, _, passed, _]| format!("{passed} of {all}"));
        let form = o.form.name();
        writeln!(out, "| {} | {} | {form} | {} | {tests} |", o.name, o.since, o.limits).unwrap();
    }
    for (text, domain) in [(DOMAINS, "ai.onnx.ml"), (FUSED, "com.microsoft")] {
        out += text;
        for o in operators_of(domain) {
            writeln!(out, "| {} | {} | {} |", o.name, o.form.name(), o.limits).unwrap();
        }
    }
    let sum = |at: usize| counts.values().map(|c| c[at]).sum::<usize>();
    let [all, float, integer, circuit] = counts["several operators"];
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    REST.lines().skip(1).for_each(|row| *reasons.entry(row.split_once(',').unwrap().1).or_default() += 1);
    let rest: String = reasons.iter().map(|(why, n)| format!("| {n} | {why} |\n")).collect();
    write!(
        out,
        "
## Node tests

Of {} cases, the float executor passes {}, the integer executor {} within 10^-3, and every constraint of the circuit holds for the {} of
those that are small and have no empty input. Functions written out in several operators are {integer} of {all} of them ({float} in floats,
{circuit} as circuits). Cases do not count whose operator is not in the table, and those of strings, sequences and optional values. Those that do not
pass in integers (`zkml/tests/data/onnx_node_rest.csv` has their names):

| cases | why not |
|---|---|
{rest}
```sh
python zkml/tests/front_onnx_node.py cases   # needs the Python package onnx
PARHELION_ONNX_NODE_TESTS=$PWD/cases cargo test --release -p parhelion-zkml --test front_onnx_node -- --nocapture
```

The quantised operators (`QuantizeLinear`, `DequantizeLinear`, `QLinearMatMul`, `QLinearConv`, `MatMulInteger`, `ConvInteger`) give ONNX Runtime's
integers bit by bit: zero points, scales per tensor and per axis, saturation, rounding half to even. ONNX Runtime scales sums in single precision;
where the exact product is within 2^-15 of a tie, it may round to the other neighbour. `front_quantized` tests them on random models, `front_qdq`
every layer of networks that ONNX Runtime has quantised, in both of its forms. There averages and residual sums meet ties often, for their
scales are alike: the circuit rounds the exact number half to even, and the runtime's own kernels differ from each other by one step.

## Models

`scripts/export-torch-models.py` exports over 200 small models with random weights as their users do: with torch's two exporters at several operator
sets, from transformers, scikit-learn, LightGBM and XGBoost, through ONNX Runtime's optimiser and quantisers. `model-suite` proves each and gives
its greatest error against ONNX Runtime.

```sh
python scripts/export-torch-models.py models   # needs torch, onnx, onnxruntime and onnxscript; uses what else there is
cargo run --release -p parhelion-benches --bin model-suite -- models
```
",
        sum(0),
        sum(1),
        sum(2),
        sum(3),
    )
    .unwrap();
    out
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operators.md");
    if std::env::var_os("PARHELION_UPDATE").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert_eq!(found, page(), "stale: run this test with PARHELION_UPDATE=1");
}

#[test]
fn the_counts_are_of_supported_operators() {
    let others = ["ai.onnx.ml", "com.microsoft"].into_iter().flat_map(operators_of);
    let known: Vec<&str> = operators().chain(others).map(|o| o.name).chain(["several operators"]).collect();
    for (name, [all, float, integer, circuit]) in counts() {
        assert!(known.contains(&name), "{name}");
        assert!(all >= float && float >= integer && integer >= circuit && all > 0, "{name}");
    }
}

#[test]
fn older_forms_are_refused() {
    let model = |opset: i64| {
        let mut b = Builder::new().input("x", FLOAT, &[2, 3]).floats("y", &[3], &[1.0; 3]);
        b.opset = opset;
        import(&b.node("Add", &["x", "y"], &["z"], &[]).output("z").bytes(), &ImportOptions::default())
    };
    assert!(model(7).is_ok());
    // Broadcasting was something else.
    let Err(ImportError::Unsupported(list)) = model(6) else { panic!("Add of operator set 6 was read") };
    assert!(list.0[0].reason.contains("operator set 6"), "{}", list.0[0].reason);
}
