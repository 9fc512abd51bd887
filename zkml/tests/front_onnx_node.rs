//! ONNX's own node tests, on the float and the integer executor.
//!
//! The `onnx` Python package ships them as `onnx/backend/test/data/node`; `PARHELION_ONNX_NODE_TESTS` names that folder, and without it the
//! test is skipped. Cases of operators that are not supported, of strings, sequences and random numbers do not count.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it is skipped"
)]

use std::path::{Path, PathBuf};

use parhelion_zkml::onnx::proto::{ModelProto, TensorProto};
use parhelion_zkml::onnx::{DType, Data, ImportError, ImportOptions, Model, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float, onnx};
use prost::Message;

fn cases() -> Option<Vec<PathBuf>> {
    let Some(dir) = std::env::var_os("PARHELION_ONNX_NODE_TESTS").map(PathBuf::from) else {
        println!("skipped: PARHELION_ONNX_NODE_TESTS is not set");
        return None;
    };
    let mut list: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    list.sort();
    Some(list)
}

/// A tensor file of a case; `None` for what is not a dense numeric tensor.
fn tensor(path: &Path) -> Option<TensorF> {
    let p = TensorProto::decode(std::fs::read(path).ok()?.as_slice()).ok()?;
    let dtype = DType::from_onnx(p.data_type)?;
    let shape: Vec<usize> = p.dims.iter().map(|&d| d as usize).collect();
    let n: usize = shape.iter().product();
    let width = p.raw_data.len().checked_div(n).unwrap_or(0);
    let raw = |i: usize| {
        let mut b = [0u8; 8];
        b[..width].copy_from_slice(&p.raw_data[i * width..(i + 1) * width]);
        u64::from_le_bytes(b)
    };
    if n > 0 && p.raw_data.is_empty() {
        return None;
    }
    let data = match dtype {
        DType::F32 => Data::F((0..n).map(|i| f32::from_bits(raw(i) as u32).into()).collect()),
        DType::F64 => Data::F((0..n).map(|i| f64::from_bits(raw(i))).collect()),
        d if d.is_float() => return None,
        DType::U64 => Data::I((0..n).map(|i| raw(i) as i64).collect()),
        d => Data::I(
            (0..n)
                .map(|i| {
                    // Sign-extend from the file's width.
                    let (lo, _) = d.int_bounds().unwrap();
                    let bits = 8 * width as u32;
                    if lo < 0 { (raw(i) as i64) << (64 - bits) >> (64 - bits) } else { raw(i) as i64 }
                })
                .collect(),
        ),
    };
    TensorF::new(shape, dtype, data).ok()
}

fn files(dir: &Path, kind: &str) -> Vec<Option<TensorF>> {
    (0..)
        .map(|i| dir.join(format!("{kind}_{i}.pb")))
        .take_while(|p| p.is_file())
        .map(|p| tensor(&p))
        .collect()
}

fn worst(got: &TensorF, want: &TensorF) -> f64 {
    if got.shape != want.shape {
        return f64::INFINITY;
    }
    let pairs = got.to_f64().into_iter().zip(want.to_f64());
    pairs
        .map(
            |(g, w)| {
                if g == w || (g.is_nan() && w.is_nan()) { 0.0 } else { (g - w).abs() / w.abs().max(1.0) }
            },
        )
        .fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

/// The model with all inputs but the first fixed to their values; with all of them, where the first decides a shape.
fn bind(bytes: &[u8], inputs: &[TensorF]) -> Option<(Model, Vec<TensorF>)> {
    let names: Vec<String> =
        ModelProto::decode(bytes).ok()?.graph?.input.into_iter().map(|i| i.name).collect();
    [1, 0].into_iter().find_map(|from| {
        let fixed = names.iter().cloned().zip(inputs.iter().cloned()).skip(from).collect();
        let model = import(bytes, &ImportOptions { fixed, ..ImportOptions::default() }).ok()?;
        Some((model, inputs[..from.min(inputs.len())].to_vec()))
    })
}

#[test]
fn node_tests() {
    let Some(cases) = cases() else { return };
    let (mut float_ok, mut float_all, mut int_ok, mut int_all) = (0, 0, 0, 0);
    for dir in cases {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(bytes) = std::fs::read(dir.join("model.onnx")) else { continue };
        let data = dir.join("test_data_set_0");
        let (inputs, outputs) = (files(&data, "input"), files(&data, "output"));
        let mut model = import(&bytes, &ImportOptions::default());
        if let Err(ImportError::Unsupported(list)) = &model
            && list.0.iter().any(|u| !onnx::is_supported(&u.domain, &u.op))
        {
            continue;
        }
        let complete = |v: &[Option<TensorF>]| v.iter().cloned().collect::<Option<Vec<_>>>();
        let (Some(mut inputs), Some(outputs)) = (complete(&inputs), complete(&outputs)) else { continue };
        float_all += 1;
        // Where a shape or a table needs the operands after the first, they are constants of the statement.
        let needed = match &model {
            Err(ImportError::Unsupported(_)) => true,
            Ok(m) => quantise(m, std::slice::from_ref(&inputs), &QuantOptions::default()).is_err(),
            Err(_) => false,
        };
        if needed && let Some((bound, rest)) = bind(&bytes, &inputs) {
            (model, inputs) = (Ok(bound), rest);
        }
        let model = match model {
            Ok(m) => m,
            Err(e) => {
                println!("import  {name}: {}", e.to_string().replace('\n', " "));
                continue;
            }
        };
        match float::run(&model, &inputs) {
            Err(e) => {
                println!("float   {name}: {e}");
                continue;
            }
            Ok(got) => {
                let d = got.iter().zip(&outputs).map(|(g, w)| worst(g, w)).fold(0.0, f64::max);
                if d > 2e-5 {
                    println!("float   {name}: differs by {d:e}");
                    continue;
                }
            }
        }
        float_ok += 1;
        int_all += 1;
        let result = quantise(&model, std::slice::from_ref(&inputs), &QuantOptions::default())
            .map_err(|e| e.to_string())
            .and_then(|q| {
                let encoded = q.encode_inputs(&inputs).map_err(|e| e.to_string())?;
                let trace = exec::run(&q.program, &encoded).map_err(|e| e.to_string())?;
                Ok(q.decode_outputs(&trace))
            });
        match result {
            Err(e) => println!("integer {name}: {}", e.replace('\n', " ")),
            Ok(got) => {
                let d = got.iter().zip(&outputs).map(|(g, w)| worst(g, w)).fold(0.0, f64::max);
                if d > 1e-3 { println!("integer {name}: differs by {d:e}") } else { int_ok += 1 }
            }
        }
    }
    println!("float {float_ok} of {float_all}, integer {int_ok} of {int_all}");
    assert!(float_ok * 10 >= float_all * 9, "float {float_ok} of {float_all}");
    assert!(int_ok * 10 >= float_all * 9, "integer {int_ok} of {float_all}");
}
