//! Chains of many operators: what they cost to quantise and plan grows with their length, not with its square.
//!
//! Processor time is compared between lengths, never with the clock.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its figures"
)]

mod front_common;

use std::sync::{Mutex, PoisonError};

use front_common::build::{Builder, FLOAT};
use parhelion_zkml::machine::{PlanError, PlanOptions, Vis, Visibility, plan};
use parhelion_zkml::onnx::{Data, ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};

/// Processor time of this process so far, in hundredths of a second.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Extends a model by one link from `x` to `y`.
type Link = fn(Builder, usize, &str, &str) -> Builder;

fn links() -> Vec<(&'static str, Link)> {
    vec![
        ("functions", |b, _, x, y| b.node("Tanh", &[x], &[y], &[])),
        ("functions beside the input", |b, i, x, y| {
            let z = format!("z{i}");
            b.node("Sin", &[x], &[&z], &[]).node("Add", &[&z, "x"], &[y], &[])
        }),
        ("sums", |b, i, x, y| {
            let c = format!("c{i}");
            let b = b.floats(&c, &[1, 4], &[0.1, -0.2, 0.3, 0.001 * i as f32]);
            b.node("Add", &[x, &c], &[y], &[])
        }),
        ("products", |b, i, x, y| {
            let (w, z) = (format!("w{i}"), format!("z{i}"));
            let one = |k: usize| if k.is_multiple_of(5) { 0.9 } else { 0.01 * ((i + k) % 7) as f32 };
            let b = b.floats(&w, &[4, 4], &(0..16).map(one).collect::<Vec<_>>());
            b.node("MatMul", &[x, &w], &[&z], &[]).node("Relu", &[&z], &[y], &[])
        }),
        ("normalisations", |b, _, x, y| b.node("Softmax", &[x], &[y], &[])),
        ("movements", |b, i, x, y| {
            let s = format!("s{i}");
            let shape = if i % 2 == 0 { [2, 2] } else { [1, 4] };
            b.ints(&s, &shape).node("Reshape", &[x, &s], &[y], &[])
        }),
    ]
}

/// Functions of one element each, all different: a table of its own for every link.
fn scaled(b: Builder, i: usize, x: &str, y: &str) -> Builder {
    let (c, z) = (format!("c{i}"), format!("z{i}"));
    let b = b.floats(&c, &[1], &[1.0 + 0.001 * i as f32]);
    b.node("Mul", &[x, &c], &[&z], &[]).node("Tanh", &[&z], &[y], &[])
}

fn build(link: Link, n: usize) -> Vec<u8> {
    let mut b = Builder::new().input("x", FLOAT, &[1, 4]);
    let mut x = "x".to_owned();
    for i in 0..n {
        let y = format!("y{i}");
        b = link(b, i, &x, &y);
        x = y;
    }
    b.output(&x).bytes()
}

/// Ticks that a chain takes from its file to its plan.
fn cost(link: Link, n: usize) -> u64 {
    let bytes = build(link, n);
    let before = ticks();
    let model = import(&bytes, &ImportOptions::default()).unwrap();
    let inputs = model.input_values();
    let sample: Vec<TensorF> = inputs
        .map(|v| TensorF { shape: v.shape.clone(), dtype: v.dtype, data: Data::F(vec![5.0, 0.5, -5.0, 0.3]) })
        .collect();
    let quantised = quantise(&model, &[sample], &QuantOptions::default()).unwrap();
    plan(&quantised.program, &Visibility::default(), &PlanOptions::default()).unwrap();
    ticks() - before
}

#[test]
fn time_is_linear_in_the_length() {
    linear(&links());
}

#[test]
#[ignore = "fails: 1,000 different functions take 10 times as long as 250; half a minute: --test long_chains -- --ignored"]
fn time_is_linear_in_the_number_of_tables() {
    linear(&[("functions of scaled values", scaled)]);
}

/// Processor time is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn linear(links: &[(&str, Link)]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for &(name, link) in links {
        let short = cost(link, 250);
        let long = cost(link, 1000);
        println!("{name}: {short} and {long} hundredths of a second");
        // Four times as much for four times the length; sixteen would be the square.
        assert!(long <= 8 * short.max(5), "{name}: {short} and {long}");
    }
}

fn private() -> Visibility {
    Visibility::new(Vis::Private, Vis::Public, Vis::Private)
}

/// A program that no rows hold is refused by its counts, with the layers, the rows and what would do.
#[test]
fn what_does_not_fit_is_said_with_figures() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let model = |n: i64| {
        let b = Builder::new().input("x", FLOAT, &[1, n]).node("Sigmoid", &["x"], &["wide"], &[]);
        let bytes = b.node("ReduceMax", &["wide"], &["y"], &[]).output("y").bytes();
        let model = import(&bytes, &ImportOptions::default()).unwrap();
        quantise(&model, &[], &QuantOptions::default()).unwrap()
    };
    let small = model(2000);
    let shortage = |max_k| {
        let options = PlanOptions { max_k, ..PlanOptions::default() };
        match plan(&small.program, &private(), &options) {
            Err(PlanError::TooLarge(shortage)) => Some(shortage),
            other => other.map(|_| None).unwrap(),
        }
    };
    let short = shortage(7).unwrap();
    let text = short.to_string();
    assert_eq!(short.max_k, 7);
    assert!(text.contains("2^7 rows") && text.contains("Sigmoid") && short.rows > 128, "{text}");
    // What it says fits, does; what is less does not.
    let k = (8..20).find(|&k| shortage(k).is_none()).unwrap();
    let nearly = shortage(k - 1).unwrap();
    let enough = nearly.k.unwrap();
    assert!(enough >= k && shortage(enough).is_none(), "{nearly}");
    assert!(nearly.to_string().contains(&format!("--max-k {enough}")), "{nearly}");
    assert!(nearly.columns > 0 && nearly.bytes >= (nearly.columns as u64 * 32) << enough);
    // The same for a hundred times as many elements.
    let bound = model(200_000);
    let options = PlanOptions { max_k: 10, ..PlanOptions::default() };
    let before = ticks();
    let error = plan(&bound.program, &private(), &options).unwrap_err();
    let counted = ticks() - before;
    assert!(
        matches!(&error, PlanError::TooLarge(s) if s.rows > 1024 && s.layers.iter().any(|l| l.0.contains("Sigmoid"))),
        "{error}"
    );
    println!("{error}; {counted} hundredths of a second");
}
