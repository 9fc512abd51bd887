//! Samples and labels from files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use parhelion_zkml::input::{self, Surplus, parse_inputs_with};
use parhelion_zkml::onnx::{Data, Given, Model, TensorF};
use parhelion_zkml::quant::calibrate::Samples;
use parhelion_zkml::session::read_limited;
use serde_json::Value;

use super::npy::Npy;
use crate::args::Calibrate;
use crate::idx::Idx;

const LIMIT: u64 = 4 << 30;

/// Samples with labels, and the files they are from.
pub(super) fn load(args: &Calibrate, model: &Model) -> Result<Samples> {
    let Some(path) = &args.data else { return Ok(Samples::default()) };
    let mut inputs = if path.is_dir() { directory(path, model)? } else { file(path, model, args.divide)? };
    ensure!(!inputs.is_empty(), "{}: no samples", path.display());
    let mut labels = args.labels.as_deref().map(labels).transpose()?;
    if let Some(l) = &labels {
        let (s, n) = (inputs.len(), l.len());
        ensure!(
            n == s,
            "{} has {s} samples, {} has {n} labels",
            path.display(),
            name(args.labels.as_deref())
        );
    }
    if let Some(l) = &labels {
        let scores = super::super::accuracy::scores(model)?;
        if let Some((at, label)) =
            l.iter().enumerate().find(|(_, l)| !usize::try_from(**l).is_ok_and(|l| l < scores))
        {
            bail!("{}, label {at}: {label} is not one of {scores} classes", name(args.labels.as_deref()));
        }
    }
    if let Some(text) = &args.range {
        let range = super::super::accuracy::parse_range(text, inputs.len())?;
        labels = labels.map(|l| l[range.clone()].to_vec());
        inputs = inputs.drain(range).collect();
    }
    Ok(Samples { inputs, labels })
}

/// How the lists of the first sample are built, where samples are JSON.
pub(super) fn outline(args: &Calibrate) -> Result<Option<Given>> {
    let Some(path) = &args.data else { return Ok(None) };
    let first = match path.is_dir() {
        true => json_files(path)?.into_iter().next(),
        false => Some(path.clone()).filter(|p| matches!(extension(p).as_str(), "json" | "jsonl")),
    };
    let Some(file) = first else { return Ok(None) };
    let Some(item) = items(&file)?.into_iter().next() else { return Ok(None) };
    Ok(Some(input::outline(&item).with_context(|| format!("{}, sample 0", file.display()))?))
}

fn name(path: Option<&Path>) -> String {
    path.map(|p| p.display().to_string()).unwrap_or_default()
}

fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// Every `.json` file of a directory, in order of name.
fn directory(dir: &Path, model: &Model) -> Result<Vec<Vec<TensorF>>> {
    let lists = json_files(dir)?.iter().map(|p| json(p, model)).collect::<Result<Vec<_>>>()?;
    Ok(lists.into_iter().flatten().collect())
}

fn json_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .map(|e| Ok(e?.path()))
        .collect::<Result<_>>()?;
    files.retain(|p| p.is_file() && extension(p) == "json");
    files.sort();
    Ok(files)
}

fn file(path: &Path, model: &Model, divide: f64) -> Result<Vec<Vec<TensorF>>> {
    match extension(path).as_str() {
        "json" | "jsonl" => json(path, model),
        "npy" => {
            let array = Npy::read(path)?;
            let n = array.shape.first().copied().unwrap_or(0);
            ensure!(n > 0, "{}: no samples along the first axis", path.display());
            let size = array.data.len() / n;
            array.data.chunks(size.max(1)).map(|row| single(model, row, path)).collect()
        }
        _ => {
            ensure!(divide.is_finite() && divide != 0.0, "--divide {divide}: not a divisor");
            let images = Idx::read(path)?;
            let pixels = |i: usize| images.item(i).iter().map(|&b| f64::from(b) / divide).collect::<Vec<_>>();
            (0..images.items()).map(|i| single(model, &pixels(i), path)).collect()
        }
    }
}

/// One sample of a model with one input.
fn single(model: &Model, values: &[f64], path: &Path) -> Result<Vec<TensorF>> {
    let value = model.input_values().next().context("the model has no input")?;
    ensure!(
        model.inputs.len() == 1,
        "{}: the model has {} inputs; give samples as JSON",
        path.display(),
        model.inputs.len()
    );
    let expected: usize = value.shape.iter().product();
    ensure!(
        values.len() == expected,
        "{}: a sample has {} elements, input `{}` has shape {:?}",
        path.display(),
        values.len(),
        value.name,
        value.shape
    );
    let data = match value.dtype.is_float() {
        true => Data::F(values.iter().map(|&v| value.dtype.round(v)).collect()),
        false => {
            if let Some(v) = values.iter().find(|v| v.fract() != 0.0) {
                let (path, name, dtype) = (path.display(), &value.name, value.dtype);
                bail!("{path}: {v} is no whole number, input `{name}` is of type {dtype}");
            }
            Data::I(values.iter().map(|&v| v as i64).collect())
        }
    };
    Ok(vec![TensorF { shape: value.shape.clone(), dtype: value.dtype, data }])
}

/// The texts of one input, a list of inputs, or one input per line.
fn items(path: &Path) -> Result<Vec<String>> {
    let bytes = read_limited(path, LIMIT)?;
    let text = input::text(&bytes).with_context(|| path.display().to_string())?;
    Ok(match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(list)) => list.iter().map(Value::to_string).collect(),
        Ok(_) => vec![text.to_owned()],
        Err(_) if extension(path) == "jsonl" => {
            text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect()
        }
        Err(e) => bail!("{}: {e}", path.display()),
    })
}

fn json(path: &Path, model: &Model) -> Result<Vec<Vec<TensorF>>> {
    items(path)?
        .iter()
        .enumerate()
        .map(|(i, item)| {
            parse_inputs_with(item, model, Surplus::Ignore)
                .with_context(|| format!("{}, sample {i}", path.display()))
        })
        .collect()
}

/// Numbers from an IDX file, an array, or a text: separated by anything that is no part of a number.
fn labels(path: &Path) -> Result<Vec<i64>> {
    let whole = |v: f64| {
        ensure!(v.fract() == 0.0, "{}: {v} is no label", path.display());
        Ok(v as i64)
    };
    match extension(path).as_str() {
        "npy" => Npy::read(path)?.data.into_iter().map(whole).collect(),
        "json" | "txt" | "csv" => {
            let bytes = read_limited(path, LIMIT)?;
            let text =
                std::str::from_utf8(&bytes).with_context(|| format!("{}: not text", path.display()))?;
            text.split(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)))
                .filter(|w| !w.is_empty())
                .map(|w| {
                    let v = w.parse().with_context(|| format!("{}: `{w}` is no label", path.display()))?;
                    whole(v)
                })
                .collect()
        }
        _ => {
            let idx = Idx::read(path)?;
            Ok((0..idx.items()).filter_map(|i| idx.item(i).first().map(|&b| b.into())).collect())
        }
    }
}
