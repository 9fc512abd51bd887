//! Bad input is an error that names the thing: no panic, no success, nothing half-written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{Scratch, fails, parhelion, repo, succeeds};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::session::{self, Cache, Files, Session, Setup};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

const TIMES: usize = 100;

fn model() -> PathBuf {
    repo("examples/digits-mlp/model.onnx")
}

fn input() -> PathBuf {
    repo("examples/digits-mlp/input.json")
}

/// A setup and a proof of the digits model, made once.
fn artefacts() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    made(&DIR, "plain", "input=private,output=public,params=private")
}

/// The same with digests and a commitment.
fn disclosing() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    made(&DIR, "disclosing", "input=hashed,output=committed,params=hashed")
}

fn made(dir: &'static OnceLock<PathBuf>, name: &str, visibility: &str) -> &'static Path {
    dir.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("parhelion-bad-input-{}-{name}", std::process::id()));
        let (model, input) = (model(), input());
        let setup = ["setup".as_ref(), model.as_os_str(), "--input".as_ref(), input.as_os_str()];
        let more = ["--visibility".as_ref(), visibility.as_ref(), "--out".as_ref(), dir.as_os_str()];
        succeeds(setup.into_iter().chain(more));
        let prove = ["prove".as_ref(), model.as_os_str(), "--input".as_ref(), input.as_os_str()];
        succeeds(prove.into_iter().chain([
            "--setup".as_ref(),
            dir.as_os_str(),
            "--out".as_ref(),
            dir.as_os_str(),
        ]));
        dir
    })
}

/// A copy of artefacts that a test may damage.
fn copies(name: &str, artefacts: &Path) -> Scratch {
    let scratch = Scratch::new(name);
    for entry in std::fs::read_dir(artefacts).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, scratch.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    scratch
}

/// Truncates a file at random places and flips random bytes in it; each time `read` must refuse without a panic.
fn damage(path: &Path, mut read: impl FnMut() -> Result<(), String>) {
    let good = std::fs::read(path).unwrap();
    assert_eq!(read(), Ok(()), "{}: undamaged", path.display());
    let mut rng = ChaCha20Rng::seed_from_u64(good.len() as u64);
    let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
    for round in 0..2 * TIMES {
        let at = below(good.len());
        let mut bad = good.clone();
        let what = if round < TIMES {
            bad.truncate(at);
            format!("truncated at {at}")
        } else {
            bad[at] ^= 1 + below(255) as u8;
            format!("byte {at} is {} instead of {}", bad[at], good[at])
        };
        std::fs::write(path, &bad).unwrap();
        match catch_unwind(AssertUnwindSafe(&mut read)) {
            Ok(Err(_)) => {}
            Ok(Ok(())) => panic!("{}: accepted, {what}", path.display()),
            Err(_) => panic!("{}: panic, {what}", path.display()),
        }
    }
    std::fs::write(path, &good).unwrap();
}

#[test]
fn every_damage_to_what_a_verifier_reads_is_refused() {
    for (name, artefacts) in [("verifier", artefacts()), ("verifier-disclosing", disclosing())] {
        let dir = copies(name, artefacts);
        let files = Files {
            settings: dir.path(session::SETTINGS_JSON),
            circuit: dir.path(session::CIRCUIT_BIN),
            vk: dir.path(session::VK_BIN),
            proof: dir.path(session::PROOF_JSON),
            srs: None,
        };
        for path in [&files.proof, &files.settings, &files.circuit, &files.vk] {
            damage(path, || session::verify(&files, false).map(|_| ()).map_err(|e| e.to_string()));
        }
    }
}

#[test]
fn every_damage_to_what_a_prover_resumes_from_is_refused() {
    let dir = copies("prover", artefacts());
    let model_path = dir.path("model.onnx");
    std::fs::copy(model(), &model_path).unwrap();
    let engine = parhelion_backends::default_engine().unwrap();
    let resume = || {
        let mut session = Session::new(engine.clone(), Cache::none());
        let imported = session.import(&model_path, &Default::default()).map_err(|e| e.to_string())?;
        let setup = Setup::read(&dir.path("")).map_err(|e| e.to_string())?;
        session.resume(imported, setup, None).map(|_| ()).map_err(|e| e.to_string())
    };
    for name in [
        session::CALIBRATION_JSON,
        session::PROVER_JSON,
        session::CIRCUIT_BIN,
        session::PK_BIN,
        session::SETTINGS_JSON,
        "model.onnx",
    ] {
        damage(&dir.path(name), resume);
    }
}

#[test]
fn every_damage_to_a_reference_string_is_refused() {
    let dir = Scratch::new("srs");
    let path = dir.path("dev.srs");
    succeeds([
        "srs".as_ref(),
        "gen".as_ref(),
        "--k".as_ref(),
        "6".as_ref(),
        "--out".as_ref(),
        path.as_os_str(),
    ]);
    damage(&path, || session::read_srs(&path).map(|_| ()).map_err(|e| e.to_string()));
    // halo2's own format has no checksum: what keeps its curve points is caught by the pairing check.
    let raw = dir.path("raw.params");
    let mut bytes = Vec::new();
    let srs = session::read_srs(&path).unwrap();
    srs.write_halo2(&mut bytes, parhelion_prover::srs::PointFormat::Raw).unwrap();
    std::fs::write(&raw, bytes).unwrap();
    damage(&raw, || {
        let file = std::fs::File::open(&raw).map_err(|e| e.to_string())?;
        let srs = parhelion_prover::Srs::read_halo2(file, parhelion_prover::srs::PointFormat::Raw)
            .map_err(|e| e.to_string())?;
        srs.check().map_err(|e| e.to_string())
    });
}

#[test]
fn a_damaged_input_is_refused_or_is_another_input() {
    let dir = Scratch::new("input");
    let path = dir.path("input.json");
    let session = Session::new(parhelion_backends::default_engine().unwrap().clone(), Cache::none());
    let imported = Session::new(parhelion_backends::default_engine().unwrap().clone(), Cache::none())
        .import(&model(), &Default::default())
        .unwrap();
    let good = std::fs::read(input()).unwrap();
    let original = session.input(&imported, &input(), Surplus::Refuse).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
    let end = good.iter().rposition(|b| *b == b'}').unwrap();
    for round in 0..2 * TIMES {
        let mut bad = good.clone();
        let at = below(end);
        if round < TIMES {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 + below(255) as u8;
        }
        std::fs::write(&path, &bad).unwrap();
        let read = catch_unwind(AssertUnwindSafe(|| session.input(&imported, &path, Surplus::Refuse)));
        let Ok(accepted) = read.expect("no panic") else { continue };
        assert!(round >= TIMES, "a truncated input was accepted");
        assert!(accepted.iter().flat_map(|t| t.to_f64()).all(f64::is_finite));
        let same_shape = accepted.iter().zip(&original).all(|(a, b)| a.shape == b.shape);
        assert!(same_shape && accepted.len() == original.len());
    }
}

#[test]
fn the_command_names_the_damaged_file() {
    let dir = copies("command", artefacts());
    for name in [session::PROOF_JSON, session::SETTINGS_JSON, session::CIRCUIT_BIN, session::VK_BIN] {
        let path = dir.path(name);
        let good = std::fs::read(&path).unwrap();
        for bad in [&good[..good.len() / 2], b"", b"{}", b"\0\xff garbage"] {
            std::fs::write(&path, bad).unwrap();
            fails(["verify".as_ref(), dir.path("").as_os_str()], &[name]);
        }
        std::fs::remove_file(&path).unwrap();
        fails(["verify".as_ref(), dir.path("").as_os_str()], &[name, "No such file"]);
        std::fs::write(&path, good).unwrap();
    }
    succeeds(["verify".as_ref(), dir.path("").as_os_str(), "--unpinned".as_ref()]);
}

#[test]
fn a_development_reference_string_is_refused_where_a_secure_one_is_required() {
    let dir = artefacts();
    fails(["verify".as_ref(), dir.as_os_str(), "--require-secure-srs".as_ref()], &["not secure"]);
}

#[test]
fn a_proof_of_one_setup_is_no_proof_of_another() {
    let dir = copies("swap", artefacts());
    let other = Scratch::new("other");
    let (model, input) = (model(), input());
    let args = ["prove".as_ref(), model.as_os_str(), "--input".as_ref(), input.as_os_str()];
    succeeds(args.into_iter().chain([
        "--weight-bits".as_ref(),
        "10".as_ref(),
        "--out".as_ref(),
        other.path("").as_os_str(),
    ]));
    for name in [session::PROOF_JSON, session::SETTINGS_JSON, session::CIRCUIT_BIN, session::VK_BIN] {
        let good = std::fs::read(dir.path(name)).unwrap();
        std::fs::copy(other.path(name), dir.path(name)).unwrap();
        fails(["verify".as_ref(), dir.path("").as_os_str()], &["does not belong"]);
        std::fs::write(dir.path(name), good).unwrap();
    }
}

/// `prove` of a model and an input, into a directory that must stay empty.
fn prove_fails(name: &str, model: &Path, input: &Path, more: &[&str], words: &[&str]) {
    let scratch = Scratch::new(name);
    let out = scratch.path("out");
    let mut args = vec!["prove".as_ref(), model.as_os_str(), "--input".as_ref(), input.as_os_str()];
    args.extend(["--out".as_ref(), out.as_os_str()]);
    args.extend(more.iter().map(std::ffi::OsStr::new));
    fails(args, words);
    assert_eq!(scratch.names(), Vec::<String>::new(), "something was written");
}

#[test]
fn models() {
    let s = Scratch::new("models");
    let whole = std::fs::read(model()).unwrap();
    prove_fails("m1", &s.path("absent.onnx"), &input(), &[], &["absent.onnx", "No such file"]);
    let text = s.write("text.onnx", "not a protobuf at all, but a sentence");
    prove_fails("m2", &text, &input(), &[], &["text.onnx"]);
    let empty = s.write("empty.onnx", "");
    prove_fails("m3", &empty, &input(), &[], &["empty.onnx"]);
    let half = s.write("half.onnx", &whole[..whole.len() / 2]);
    prove_fails("m4", &half, &input(), &[], &["half.onnx"]);
    prove_fails("m5", &std::env::temp_dir(), &input(), &[], &["error: "]);
    // An operator of the same length that nobody has defined.
    let unknown = String::from_utf8_lossy(b"Gemm").into_owned();
    let at: Vec<usize> =
        whole.windows(4).enumerate().filter(|(_, w)| *w == unknown.as_bytes()).map(|(i, _)| i).collect();
    let mut strange = whole.clone();
    at.iter().for_each(|&i| strange[i..i + 4].copy_from_slice(b"Frob"));
    let strange = s.write("strange.onnx", strange);
    prove_fails("m6", &strange, &input(), &[], &["strange.onnx", "unsupported nodes", "Frob", "fc1", "fc2"]);
}

#[test]
fn inputs() {
    let s = Scratch::new("inputs");
    let numbers = |n: usize| vec!["0.5"; n].join(",");
    let cases = [
        ("absent", None, "No such file"),
        ("empty", Some(String::new()), "JSON"),
        ("text", Some("hello".into()), "JSON"),
        ("no-data", Some("{\"data\": []}".into()), "input_data"),
        ("no-list", Some("{\"input_data\": []}".into()), "1 input(s), the file has 0"),
        ("two", Some(format!("{{\"input_data\": [[{}], [1]]}}", numbers(64))), "1 input(s), the file has 2"),
        ("short", Some(format!("{{\"input_data\": [[{}]]}}", numbers(63))), "64 elements, the file has 63"),
        ("nested", Some(format!("{{\"input_data\": [[[{}],[{}]]]}}", numbers(32), numbers(32))), "[1, 64]"),
        ("nan", Some(format!("{{\"input_data\": [[{}, NaN]]}}", numbers(63))), "JSON"),
        ("nan-text", Some(format!("{{\"input_data\": [[{}, \"NaN\"]]}}", numbers(63))), "not finite"),
        ("null", Some(format!("{{\"input_data\": [[{}, null]]}}", numbers(63))), "element 63"),
        ("inf", Some(format!("{{\"input_data\": [[{}, 1e999]]}}", numbers(63))), "input"),
        ("past-f32", Some(format!("{{\"input_data\": [[{}, 1e200]]}}", numbers(63))), "element 63"),
        ("words", Some(format!("{{\"input_data\": [[{}, \"a\"]]}}", numbers(63))), "element 63"),
    ];
    for (name, text, word) in cases {
        let file = format!("{name}.json");
        let path = s.path(&file);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        prove_fails(&format!("i-{name}"), &model(), &path, &[], &[&file, word]);
    }
}

#[test]
fn options() {
    let (model, input) = (model(), input());
    prove_fails("o1", &model, &input, &["--max-k", "4"], &["2^4 rows"]);
    prove_fails("o2", &model, &input, &["--backend", "abacus"], &["abacus"]);
    prove_fails("o3", &model, &input, &["--visibility", "input=secret"], &["input=secret"]);
    prove_fails("o4", &model, &input, &["--visibility", "input=fixed"], &["input", "fixed"]);
    prove_fails("o5", &model, &input, &["--srs", "absent.srs"], &["absent.srs"]);
    prove_fails("o6", &model, &input, &["--setup", "absent"], &["absent"]);
    prove_fails("o7", &model, &input, &["--weight-bits", "99"], &["weight_bits"]);
    prove_fails("o8", &model, &input, &["--variable", "batch"], &["NAME=N"]);
    let s = Scratch::new("small-srs");
    let path = s.path("small.srs");
    succeeds([
        "srs".as_ref(),
        "gen".as_ref(),
        "--k".as_ref(),
        "3".as_ref(),
        "--out".as_ref(),
        path.as_os_str(),
    ]);
    prove_fails("o9", &model, &input, &["--srs", path.to_str().unwrap()], &["small.srs", "k = 3"]);
    // clap's own refusals.
    for args in [
        &["prove"][..],
        &["prove", "m", "--input", "i", "--max-k", "99"],
        &["frobnicate"],
        &["srs", "gen", "--k", "40"],
    ] {
        assert_eq!(parhelion(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn an_input_outside_the_calibrated_range_is_named() {
    let s = Scratch::new("range");
    let mut values = vec!["0.5"; 64];
    values[17] = "1000.0";
    let path = s.write("loud.json", format!("{{\"input_data\": [[{}]]}}", values.join(",")));
    let setup = artefacts().to_str().unwrap().to_owned();
    prove_fails("r1", &model(), &path, &["--setup", &setup], &["image", "17", "1000", "calibrat"]);
}

#[test]
fn an_output_directory_that_cannot_be_made_is_named() {
    let s = Scratch::new("blocked");
    let file = s.write("blocked", "a file, not a directory");
    let (model, input) = (model(), input());
    let out = file.join("out");
    let args = [
        "prove".as_ref(),
        model.as_os_str(),
        "--input".as_ref(),
        input.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
    ];
    fails(args, &["blocked"]);
    assert_eq!(s.names(), ["blocked"]);
}
