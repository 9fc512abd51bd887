//! Models that were answered wrongly, refused without need, or badly said: each is right, or refused by a sentence that names the cause.
//!
//! The folder holds, for each case, `network.onnx`, `input.json` (and `flat.json`, `nested.json`: other forms of the same input) and
//! `expected.json`, ONNX Runtime's outputs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod front_common;

use std::path::Path;

use front_common::shared;
use parhelion_zkml::exec;
use parhelion_zkml::float;
use parhelion_zkml::input::{self, Surplus, parse_inputs_with};
use parhelion_zkml::machine::{self, PlanOptions, Visibility};
use parhelion_zkml::onnx::{ImportOptions, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};

/// Cases that are refused, rightly, and what the refusal says.
const REFUSED: &[(&str, &str)] = &[];

/// Greatest difference, as a part of the largest value.
const TOLERANCE: f64 = 0.01;

/// What the command does with a model and an input, up to a proof.
fn run(dir: &Path, file: &str) -> Result<(Vec<TensorF>, Vec<TensorF>), String> {
    let say = |e: &dyn std::fmt::Display| e.to_string();
    let json = std::fs::read(dir.join(file)).unwrap();
    let text = input::text(&json).map_err(|e| say(&e))?;
    let mut options =
        ImportOptions { given: Some(input::outline(text).map_err(|e| say(&e))?), ..ImportOptions::default() };
    if dir.ends_with("if-other-branch-does-not-fit") {
        options.constants.insert("sr".into(), "16000".into());
    }
    let model = import(&std::fs::read(dir.join("network.onnx")).unwrap(), &options).map_err(|e| say(&e))?;
    let inputs = parse_inputs_with(text, &model, Surplus::Refuse).map_err(|e| say(&e))?;
    let q = quantise(&model, std::slice::from_ref(&inputs), &QuantOptions::default()).map_err(|e| say(&e))?;
    let encoded = q.encode_inputs(&inputs).map_err(|e| say(&e))?;
    let trace = exec::run_checked(&q.program, &encoded).map_err(|e| say(&e))?;
    let plan =
        machine::plan(&q.program, &Visibility::default(), &PlanOptions::default()).map_err(|e| say(&e))?;
    machine::mock(&plan, &trace.values).map_err(|e| say(&e))?;
    let names: Vec<String> = q.program.outputs.iter().map(|&id| q.program.tensor(id).name.clone()).collect();
    let wanted: Vec<String> = model.output_values().map(|v| v.name.clone()).collect();
    assert_eq!(names, wanted, "{}: outputs have other names", dir.display());
    let names: Vec<String> = q.program.inputs.iter().map(|&id| q.program.tensor(id).name.clone()).collect();
    let wanted: Vec<String> = model.input_values().map(|v| v.name.clone()).collect();
    assert_eq!(names, wanted, "{}: inputs have other names", dir.display());
    Ok((q.decode_outputs(&trace), float::run(&model, &inputs).map_err(|e| say(&e))?))
}

fn top(v: &[f64]) -> usize {
    v.iter().enumerate().fold(0, |best, (i, x)| if *x > v[best] { i } else { best })
}

/// What is wrong with an answer.
fn fault(found: &[TensorF], expected: &[Vec<serde_json::Value>]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{} outputs instead of {}", found.len(), expected.len()));
    }
    for (f, e) in found.iter().zip(expected) {
        if f.len() != e.len() {
            return Some(format!("{} elements instead of {}", f.len(), e.len()));
        }
        if !f.dtype.is_float() {
            // Text, so that no number is rounded on the way.
            let number = |v: &serde_json::Value| match v {
                serde_json::Value::Bool(b) => i64::from(*b).to_string(),
                other => other.to_string().trim_end_matches(".0").to_owned(),
            };
            let exact: Vec<String> = f.to_i64().iter().map(i64::to_string).collect();
            let wanted: Vec<String> = e.iter().map(number).collect();
            if exact != wanted {
                return Some(format!("{exact:?} instead of {wanted:?}"));
            }
            continue;
        }
        let e: Vec<f64> = e.iter().map(|v| v.as_f64().unwrap()).collect();
        let f = f.to_f64();
        let largest = e.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let error = e.iter().zip(&f).fold(0.0f64, |m, (e, f)| m.max((e - f).abs()));
        if !(f.iter().all(|v| v.is_finite()) && error <= TOLERANCE * largest) {
            return Some(format!("off by {error:.3e}, the largest value is {largest:.3e}"));
        }
        if top(&e) != top(&f) && e[top(&e)] - e[top(&f)] > 2.0 * error {
            return Some(format!("element {} is the greatest instead of {}", top(&f), top(&e)));
        }
    }
    None
}

#[test]
fn every_fault_is_right_or_rightly_refused() {
    let Some(root) = shared().map(|s| s.join("faults")).filter(|d| d.is_dir()) else { return };
    let mut dirs: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("network.onnx").is_file());
    dirs.sort();
    let only = std::env::var("PARHELION_MODEL").ok();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for dir in dirs {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| o == name)) {
            continue;
        }
        seen += 1;
        for file in ["input.json", "flat.json", "nested.json"] {
            if !dir.join(file).is_file() {
                continue;
            }
            let refusal = REFUSED.iter().find(|(n, _)| *n == name).map(|(_, says)| *says);
            let problem = match (run(&dir, file), refusal) {
                (Err(e), Some(says)) if e.contains(says) => None,
                (Err(e), _) => Some(format!("refused: {e}")),
                (Ok(_), Some(_)) => Some("is not refused".to_owned()),
                (Ok((found, float)), None) => {
                    let expected: Vec<Vec<serde_json::Value>> = match std::fs::read(dir.join("expected.json"))
                    {
                        Ok(json) => {
                            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
                            let lists = json["output_data"].as_array().unwrap();
                            lists.iter().map(|l| l.as_array().unwrap().clone()).collect()
                        }
                        Err(_) => {
                            float.iter().map(|t| t.to_f64().into_iter().map(Into::into).collect()).collect()
                        }
                    };
                    fault(&found, &expected)
                }
            };
            if let Some(why) = problem {
                wrong.push(format!("{name} ({file}): {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {seen} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(only.is_some() || seen > 30, "only {seen} cases");
}

#[test]
fn differences_are_seen() {
    let t = |v: &[f64]| {
        vec![TensorF::float(vec![v.len()], parhelion_zkml::onnx::DType::F32, v.to_vec()).unwrap()]
    };
    let list = |v: &[f64]| vec![v.iter().map(|&x| x.into()).collect::<Vec<serde_json::Value>>()];
    assert_eq!(fault(&t(&[1.0, 100.0]), &list(&[1.5, 100.0])), None);
    assert!(fault(&t(&[1.0, 100.0]), &list(&[2.5, 100.0])).is_some());
    assert!(fault(&t(&[f64::NAN]), &list(&[1.0])).is_some());
    assert!(fault(&t(&[1.0]), &list(&[1.0, 1.0])).is_some());
    assert!(fault(&[TensorF::ints(vec![3])], &list(&[4.0])).is_some());
    assert_eq!(fault(&[TensorF::ints(vec![3])], &list(&[3.0])), None);
    if fault(&[], &list(&[1.0])).is_none() {
        panic!("a missing output is not seen");
    }
}
