//! Shared helpers of the front end's tests.
#![allow(dead_code, reason = "every test file uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it is skipped"
)]

pub(crate) mod build;

use std::path::PathBuf;

use parhelion_zkml::input::{InputError, Surplus, parse_inputs_with};
use parhelion_zkml::onnx::{DType, Data, ImportError, ImportOptions, Model, TensorF, import};

/// One output of a reference run.
pub(crate) struct ReferenceOutput {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

/// A model with its input and ONNX Runtime's outputs.
pub(crate) struct ReferenceModel {
    pub(crate) name: String,
    pub(crate) model: Result<Model, ImportError>,
    pub(crate) inputs: Option<Result<Vec<TensorF>, InputError>>,
    pub(crate) outputs: Vec<ReferenceOutput>,
}

/// A tensor as the scripts of the tests write it.
pub(crate) fn tensor(v: &serde_json::Value) -> TensorF {
    let shape = v["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let data = v["data"].as_array().unwrap();
    let dtype = match v["dtype"].as_str().unwrap() {
        "bool" => DType::Bool,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "int32" => DType::I32,
        "int64" => DType::I64,
        other => Some(DType::F32).filter(|_| other == "float32").unwrap(),
    };
    let whole = |x: &serde_json::Value| x.as_i64().or_else(|| x.as_bool().map(i64::from)).unwrap();
    let data = if dtype.is_float() {
        Data::F(data.iter().map(|x| x.as_f64().unwrap()).collect())
    } else {
        Data::I(data.iter().map(whole).collect())
    };
    TensorF::new(shape, dtype, data).unwrap()
}

/// The folder of shared data, where it is there.
pub(crate) fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("PARHELION_SHARED")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").into(), PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {} is not there (set PARHELION_SHARED)", dir.display());
    None
}

/// All shared example models, in order of name; only those that `PARHELION_MODEL` names, where it is set.
pub(crate) fn reference_models() -> Option<impl Iterator<Item = ReferenceModel>> {
    let root = shared()?.join("models/ezkl-examples");
    let only = std::env::var("PARHELION_MODEL").ok();
    let mut names: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| root.join(n).join("network.onnx").is_file())
        .filter(|n| only.as_ref().is_none_or(|o| o.split(',').any(|o| o == n)))
        .collect();
    names.sort();
    Some(names.into_iter().map(move |name| {
        let dir = root.join(&name);
        let model = import(&std::fs::read(dir.join("network.onnx")).unwrap(), &ImportOptions::default());
        let json = std::fs::read_to_string(dir.join("input.json")).unwrap();
        let inputs = model.as_ref().ok().map(|m| parse_inputs_with(&json, m, Surplus::Ignore));
        let reference: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("reference.json")).unwrap()).unwrap();
        let outputs = reference["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| ReferenceOutput {
                shape: o["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect(),
                data: o["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect(),
            })
            .collect();
        ReferenceModel { name, model, inputs, outputs }
    }))
}
