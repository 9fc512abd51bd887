//! `parhelion calibrate`, from samples to a proof under its settings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, errors, fails, parhelion, repo, succeeds};
use parhelion_zkml::quant::calibrate::Calibration;
use parhelion_zkml::session::{self, Kind};
use serde_json::{Value, json};

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

fn digits(file: &str) -> String {
    text(repo(&format!("examples/digits-mlp/{file}")))
}

/// `calibrate` of the digits example on its images.
fn on_images<'a>(model: &'a str, images: &'a str, labels: &'a str, out: &'a str) -> Vec<&'a str> {
    vec![
        "calibrate",
        model,
        "--data",
        images,
        "--labels",
        labels,
        "--divide",
        "16",
        "--metric",
        "top1",
        "--out",
        out,
    ]
}

#[test]
fn settings_keep_the_budget_and_prove() {
    let scratch = Scratch::new("calibrate");
    let (model, images, labels) =
        (digits("model.onnx"), digits("held-out-images.idx.gz"), digits("held-out-labels.idx.gz"));
    let out = text(scratch.path("out"));
    let mut args = on_images(&model, &images, &labels, &out);
    args.extend(["--range", "0..96", "--budget", "1.5", "--trials", "16", "--json"]);
    let report: Value = serde_json::from_str(&succeeds(&args)).unwrap();

    // The report: what was asked for was kept, on the samples of the search.
    let number = |v: &Value| v.as_f64().unwrap();
    assert!(number(&report["loss"]) <= 1.5, "{}", report["loss"]);
    assert_eq!((&report["score"]["samples"], &report["held_out"]["samples"]), (&json!(72), &json!(24)));
    assert_eq!(report["score"]["failed"], 0);
    assert!(number(&report["cost_ratio"]) <= 1.0);
    let trials = report["trials"].as_array().unwrap();
    assert!((2..=16).contains(&trials.len()), "{} trials", trials.len());
    let files = ["calibration.json", "report.html", "report.json"];
    let mut written: Vec<_> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    written.sort();
    assert_eq!(written, files);
    let kept: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&out).join(files[2])).unwrap()).unwrap();
    assert_eq!(kept, report);

    // The page: whole, without anything from elsewhere, and about every layer.
    let page = std::fs::read_to_string(Path::new(&out).join(files[1])).unwrap();
    for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for element in ["html", "head", "body", "main", "svg", "figure", "table", "div"] {
        let opened =
            page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "numbers");
    for layer in report["layers"].as_array().unwrap() {
        assert!(page.contains(layer["name"].as_str().unwrap()), "{}", layer["name"]);
    }

    // The settings: those of the report, and what prove takes.
    let settings = text(Path::new(&out).join(files[0]));
    let calibration: Calibration = session::read_json(Path::new(&settings), Kind::Calibration).unwrap();
    assert_eq!(json!(calibration.activation_bits), report["options"]["activation_bits"]);
    assert_eq!(json!(calibration.model_hash), report["model_hash"]);
    let proof = text(scratch.path("proof"));
    let input = digits("input.json");
    let prove = ["prove", &model, "--input", &input, "--settings", &settings, "--out", &proof, "--json"];
    // A metric of top-1 admits differences, which the settings say that proofs accept.
    let accepted: f64 = calibration.accepted_error.as_deref().unwrap().parse().unwrap();
    assert!((0.01..=1.0).contains(&accepted), "{accepted}");
    fails(prove.into_iter().chain(["--accept-error", "0.0001"]), &["--accept-error"]);
    let proven = succeeds(prove);
    let proven: Value = serde_json::from_str(&proven).unwrap();
    assert_eq!((&proven["verified"], &proven["k"]), (&json!(true), &report["size"]["k"]));
    succeeds(["verify", &proof, "--unpinned"]);

    // And on the same images, by another command.
    let accuracy = succeeds([
        "accuracy",
        &model,
        "--images",
        &images,
        "--labels",
        &labels,
        "--divide",
        "16",
        "--range",
        "0..96",
        "--settings",
        &settings,
        "--json",
    ]);
    let accuracy: Value = serde_json::from_str(&accuracy).unwrap();
    assert_eq!(accuracy["images"], 96);
    let right = |part: &str, key: &str| number(&report[part][key]) * number(&report[part]["samples"]) / 100.0;
    let of_both = |key: &str| right("score", key) + right("held_out", key);
    for (found, key) in [("float_top1", "float_top1"), ("quantised_top1", "top1")] {
        assert!((96.0 * number(&accuracy[found]) - of_both(key)).abs() < 1e-6, "{key}: {accuracy}");
    }

    // They are of this model and whole, or nothing.
    let cnn = text(repo("examples/mnist-cnn/model.onnx"));
    let cnn_input = text(repo("examples/mnist-cnn/input.json"));
    fails(["prove", &cnn, "--input", &cnn_input, "--settings", &settings], &["the calibration is of"]);
    let edited = std::fs::read_to_string(&settings).unwrap().replacen("\"cover\":true", "\"cover\":false", 1);
    let edited = edited.replacen("\"activation_bits\":", "\"activation_bits\":1", 1);
    let edited = text(scratch.write("edited.json", edited));
    fails(["prove", &model, "--input", &input, "--settings", &edited], &["edited.json", "checksum"]);
}

#[test]
fn every_metric_is_kept_by_the_proofs_themselves() {
    let scratch = Scratch::new("calibrate-metrics");
    let (model, data) = (digits("model.onnx"), scratch.path("samples"));
    std::fs::create_dir(&data).unwrap();
    for i in 0..6 {
        let image: Vec<f64> = (0..64).map(|p| f64::from((p * (i + 3) + 5 * i) % 17) / 16.0).collect();
        std::fs::write(data.join(format!("{i}.json")), json!({"input_data": [image]}).to_string()).unwrap();
    }
    for (metric, budget, bound) in [("max-abs", "0.02", 0.02), ("mse", "0.0001", 0.32)] {
        let out = text(scratch.path(metric));
        let data = text(&data);
        let args = [
            "calibrate",
            &model,
            "--data",
            &data,
            "--metric",
            metric,
            "--budget",
            budget,
            "--trials",
            "8",
            "--out",
            &out,
            "--json",
        ];
        let report: Value = serde_json::from_str(&succeeds(args)).unwrap();
        assert!(report["loss"].as_f64().unwrap() <= budget.parse::<f64>().unwrap(), "{metric}");
        let settings = text(Path::new(&out).join("calibration.json"));
        let input = text(Path::new(&data).join("2.json"));
        let proven = succeeds(["prove", &model, "--input", &input, "--settings", &settings, "--json"]);
        let proven: Value = serde_json::from_str(&proven).unwrap();
        // The mean over 6 samples of 10 outputs bounds every one of them.
        assert!(proven["max_abs_error"].as_f64().unwrap() <= bound, "{metric}: {}", proven["max_abs_error"]);
    }
}

/// The trials of a report, as they were tried.
fn tried(out: &str) -> Value {
    let bytes = std::fs::read(Path::new(out).join("report.json")).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["trials"].clone()
}

#[test]
fn a_search_that_was_cut_short_goes_on() {
    let scratch = Scratch::new("calibrate-resume");
    let (model, images, labels) =
        (digits("model.onnx"), digits("held-out-images.idx.gz"), digits("held-out-labels.idx.gz"));
    let search = |out: &str, more: &[&str]| {
        let mut args: Vec<String> =
            on_images(&model, &images, &labels, out).into_iter().map(str::to_owned).collect();
        args.extend(["--range", "0..64", "--budget", "2", "--trials", "24", "-v"].map(str::to_owned));
        args.extend(more.iter().map(|s| (*s).to_owned()));
        args
    };
    let (whole, cut) = (text(scratch.path("whole")), text(scratch.path("cut")));
    succeeds(search(&whole, &[]));

    // Killed as soon as a few trials are kept.
    let trials = PathBuf::from(&cut).join("trials.json");
    let kept = || -> usize {
        let list = std::fs::read(&trials).ok().and_then(|b| serde_json::from_slice::<Value>(&b).ok());
        list.and_then(|v| Some(v["trials"].as_array()?.len())).unwrap_or(0)
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_parhelion"))
        .args(search(&cut, &[]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while kept() < 2 && child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(50) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = kept();
    if before > 0 {
        let output = parhelion(search(&cut, &[]));
        assert!(output.status.success(), "{}", errors(&output));
        let said = errors(&output);
        assert!(said.contains(&format!("going on after {before} trials")), "{said}");
    }
    assert!(!trials.exists());
    assert_eq!(tried(&cut), tried(&whole));
    let settings = |out: &str| std::fs::read(Path::new(out).join("calibration.json")).unwrap();
    assert_eq!(settings(&cut), settings(&whole));

    // Kept trials that are damaged, of another search, or not wanted are not used.
    for (name, contents, more) in [
        ("damaged", "{\"search\":\"".to_owned(), &[][..]),
        ("other", json!({"search": "0".repeat(64), "trials": []}).to_string(), &[]),
        ("fresh", "[]".to_owned(), &["--fresh"]),
    ] {
        std::fs::write(&trials, contents).unwrap();
        let output = parhelion(search(&cut, more));
        assert!(output.status.success(), "{name}: {}", errors(&output));
        assert!(!errors(&output).contains("going on"), "{name}");
        assert_eq!(settings(&cut), settings(&whole), "{name}");
    }
}

#[test]
fn bad_samples_are_named() {
    let s = Scratch::new("calibrate-bad");
    let (model, labels) = (digits("model.onnx"), digits("held-out-labels.idx.gz"));
    let image = vec![0.25; 64];
    let good = text(s.write("good.json", json!({"input_data": [image]}).to_string()));
    let out = text(s.path("out"));
    let refuse = |more: &[&str], words: &[&str]| {
        let args = ["calibrate", &model, "--out", &out].into_iter().chain(more.iter().copied());
        fails(args, words);
        assert!(!Path::new(&out).join("calibration.json").exists(), "{more:?}");
    };
    let file = |name: &str, contents: &[u8]| text(s.write(name, contents));
    refuse(&["--data", "nowhere.json"], &["nowhere.json"]);
    std::fs::create_dir(s.path("empty")).unwrap();
    refuse(&["--data", &text(s.path("empty"))], &["empty", "no samples"]);
    refuse(&["--data", &file("text.json", b"not json")], &["text.json"]);
    refuse(&["--data", &file("bytes.jsonl", b"\xff\xfe")], &["bytes.jsonl", "UTF-16"]);
    let short = json!([{"input_data": [image]}, {"input_data": [[1.0]]}]).to_string();
    refuse(&["--data", &file("short.json", short.as_bytes())], &["short.json", "sample 1"]);
    refuse(&["--data", &file("nan.json", b"{\"input_data\": [[NaN]]}")], &["nan.json"]);
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    let header = format!("{:<117}\n", "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 64), }");
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    refuse(&["--data", &file("cut.npy", &npy)], &["cut.npy", "NPY"]);
    let mut nan = npy.clone();
    nan.extend((0..64).flat_map(|i| if i == 9 { f64::NAN } else { 0.5 }.to_le_bytes()));
    refuse(&["--data", &file("nan.npy", &nan)], &["nan.npy", "not finite"]);
    refuse(&["--data", &good, "--labels", &labels], &["1 samples", "1000 labels"]);
    let word = file("labels.txt", b"seven");
    refuse(&["--data", &good, "--labels", &word], &["labels.txt"]);
    refuse(&["--data", &good, "--range", "3..9"], &["3..9"]);
    let images = digits("held-out-images.idx.gz");
    refuse(&["--data", &images, "--divide", "0"], &["--divide 0"]);
    for budget in ["-1", "nan", "inf"] {
        let budget = format!("--budget={budget}");
        refuse(&["--data", &good, &budget], &["budget"]);
    }
    refuse(&["--data", &good, "--visibility", "input=secret"], &["input=secret"]);
    // A budget that no precision keeps is said, with what the best circuit loses.
    refuse(&["--data", &good, "--budget", "1e-12", "--trials", "3"], &["no circuit keeps max-abs", "loses"]);
    fails(["calibrate", "missing.onnx", "--out", &out], &["missing.onnx"]);
}
