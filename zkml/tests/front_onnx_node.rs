//! ONNX's own node tests: in floats, in integers, and as circuits where they are small.
//!
//! The `onnx` Python package ships them as `onnx/backend/test/data/node`; `PARHELION_ONNX_NODE_TESTS` names that folder, and without it the
//! test is skipped; `front_onnx_node.py` writes them where the package has none. Cases of operators that are not supported, of strings, sequences
//! and random numbers do not count. `data/onnx_node_rest.csv` lists those that do not pass in integers, each with its reason.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it is skipped"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parhelion_zkml::machine::{PlanOptions, Visibility, mock, plan};
use parhelion_zkml::onnx::proto::{ModelProto, TensorProto};
use parhelion_zkml::onnx::{DType, Data, ImportError, ImportOptions, Model, TensorF, import};
use parhelion_zkml::quant::{QuantOptions, quantise};
use parhelion_zkml::{exec, float, onnx};
use prost::Message;
use rayon::prelude::*;

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
fn bind(bytes: &[u8], inputs: &[TensorF]) -> Option<Result<(Model, Vec<TensorF>), ImportError>> {
    let names: Vec<String> =
        ModelProto::decode(bytes).ok()?.graph?.input.into_iter().map(|i| i.name).collect();
    let bound = |from: usize| {
        let fixed = names.iter().cloned().zip(inputs.iter().cloned()).skip(from).collect();
        let model = import(bytes, &ImportOptions { fixed, ..ImportOptions::default() })?;
        Ok((model, inputs[..from.min(inputs.len())].to_vec()))
    };
    Some(bound(1).or_else(|first| bound(0).map_err(|_| first)))
}

/// Programs with fewer elements than this are planned, and their circuits checked.
const SMALL: usize = 1 << 12;

/// How far a case came: read and computed in floats, in integers, as a circuit.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Passed {
    Nothing,
    Float,
    Integer,
    Circuit,
}

/// One case: what it counts for and how far it came, with a line that says why not further.
fn case(dir: &Path) -> Option<(String, Passed, String)> {
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = std::fs::read(dir.join("model.onnx")).ok()?;
    let data = dir.join("test_data_set_0");
    let (inputs, outputs) = (files(&data, "input"), files(&data, "output"));
    let mut model = import(&bytes, &ImportOptions::default());
    if let Err(ImportError::Unsupported(list)) = &model
        && list.0.iter().any(|u| !onnx::is_supported(&u.domain, &u.op))
    {
        return None;
    }
    let complete = |v: &[Option<TensorF>]| v.iter().cloned().collect::<Option<Vec<_>>>();
    let (mut inputs, outputs) = (complete(&inputs)?, complete(&outputs)?);
    let nodes = ModelProto::decode(bytes.as_slice()).ok()?.graph?.node;
    let op = match nodes.as_slice() {
        [one] => one.op_type.clone(),
        _ => "several operators".to_owned(),
    };
    // Where a shape or a table needs the operands after the first, they are constants of the statement.
    let needed = match &model {
        Err(ImportError::Unsupported(_)) => true,
        Ok(m) => quantise(m, std::slice::from_ref(&inputs), &QuantOptions::default()).is_err(),
        Err(_) => false,
    };
    if needed {
        match bind(&bytes, &inputs)? {
            Ok((bound, rest)) => (model, inputs) = (Ok(bound), rest),
            Err(e) if model.is_err() => model = Err(e),
            Err(_) => {}
        }
    }
    let model = match model {
        Ok(m) => m,
        // An operand that is no tensor: the case is not one of the operator's.
        Err(ImportError::Input { .. }) => return None,
        Err(e) => return Some((op, Passed::Nothing, format!("import  {name}: {e}"))),
    };
    let differs = |got: &[TensorF]| got.iter().zip(&outputs).map(|(g, w)| worst(g, w)).fold(0.0, f64::max);
    match float::run(&model, &inputs) {
        Err(e) => return Some((op, Passed::Nothing, format!("float   {name}: {e}"))),
        Ok(got) if differs(&got) > 2e-5 => {
            return Some((op, Passed::Nothing, format!("float   {name}: differs by {:e}", differs(&got))));
        }
        Ok(_) => {}
    }
    let ran = quantise(&model, std::slice::from_ref(&inputs), &QuantOptions::default())
        .map_err(|e| e.to_string())
        .and_then(|q| {
            let encoded = q.encode_inputs(&inputs).map_err(|e| e.to_string())?;
            let trace = exec::run(&q.program, &encoded).map_err(|e| e.to_string())?;
            Ok((q, trace))
        });
    let (q, trace) = match ran {
        Err(e) => return Some((op, Passed::Float, format!("integer {name}: {e}"))),
        Ok(ran) => ran,
    };
    let d = differs(&q.decode_outputs(&trace));
    if d > 1e-3 {
        return Some((op, Passed::Float, format!("integer {name}: differs by {d:e}")));
    }
    if q.program.tensors.iter().map(|t| t.len()).sum::<usize>() > SMALL {
        return Some((op, Passed::Integer, String::new()));
    }
    // The layout is not what is tested: one number of units is enough.
    let options = PlanOptions { units: Some(1), ..PlanOptions::default() };
    match plan(&q.program, &Visibility::default(), &options).map(|plan| mock(&plan, &trace.values)) {
        Err(e) => Some((op, Passed::Integer, format!("plan    {name}: {e}"))),
        Ok(Err(e)) => Some((op, Passed::Integer, format!("circuit {name}: {e}"))),
        Ok(Ok(())) => Some((op, Passed::Circuit, String::new())),
    }
}

#[test]
fn node_tests() {
    let Some(cases) = cases() else { return };
    let results: Vec<_> = cases.par_iter().filter_map(|dir| case(dir)).collect();
    let mut counts: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut broken = 0;
    for (op, passed, why) in &results {
        let row = counts.entry(op).or_default();
        let levels = [Passed::Nothing, Passed::Float, Passed::Integer, Passed::Circuit];
        row.iter_mut().zip(levels).for_each(|(n, level)| *n += usize::from(*passed >= level));
        if !why.is_empty() {
            println!("{}", why.replace('\n', " "));
        }
        broken += usize::from(why.starts_with("circuit"));
    }
    let sum = |at: usize| counts.values().map(|c| c[at]).sum::<usize>();
    let (all, float, integer, circuit) = (sum(0), sum(1), sum(2), sum(3));
    println!("{all} cases: float {float}, integer {integer}, circuit {circuit}");
    let row = |(op, [a, b, c, d]): (&&str, &[usize; 4])| format!("{op},{a},{b},{c},{d}\n");
    let table =
        "operator,cases,float,integer,circuit\n".to_owned() + &counts.iter().map(row).collect::<String>();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/onnx_node_tests.csv");
    if std::env::var_os("PARHELION_UPDATE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(broken, 0, "circuits that do not hold for their own witness");
    assert!(float * 100 >= all * 95 && integer * 100 >= all * 95, "fewer than 95 of 100 pass");
    let rest: Vec<&str> = include_str!("data/onnx_node_rest.csv").lines().skip(1).collect();
    let listed = |why: &str| {
        rest.iter().any(|row| row.split(',').next().is_some_and(|case| why.contains(&format!(" {case}:"))))
    };
    let new: Vec<&str> = results
        .iter()
        .filter(|(_, passed, why)| *passed < Passed::Integer && !listed(why))
        .map(|(_, _, why)| why.as_str())
        .collect();
    assert!(new.is_empty(), "not in data/onnx_node_rest.csv:\n{}", new.join("\n"));
    // Another version of the onnx package has other cases.
    let known = std::fs::read_to_string(path).unwrap();
    if known != table {
        println!("the counts are not those of {path}: PARHELION_UPDATE=1 writes them anew");
    }
}
