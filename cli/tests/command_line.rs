//! The command line in odd surroundings: paths, pipes, devices, full disks, environments, reference strings.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Scratch, errors, fails, parhelion, repo, succeeds};
use halo2curves::bn256::{G1Affine, G2Affine};
use parhelion_prover::Srs;
use parhelion_prover::srs::Origin;
use parhelion_zkml::session;
use serde_json::Value;

fn model() -> PathBuf {
    repo("examples/digits-mlp/model.onnx")
}

fn input() -> PathBuf {
    repo("examples/digits-mlp/input.json")
}

fn command(args: &[&OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parhelion"));
    command
        .args(args)
        .env_remove("PARHELION_BACKEND")
        .env("PARHELION_CACHE", std::env::temp_dir().join("parhelion-test-cache"));
    command
}

fn os<'a>(args: &[&'a str]) -> Vec<&'a OsStr> {
    args.iter().copied().map(OsStr::new).collect()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", errors(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn paths_that_are_no_unicode_are_told_in_json() {
    let s = Scratch::new("bytes");
    let dir = s.path("").join(OsString::from_vec(b"caf\xe9 \xff".to_vec()));
    fs::create_dir(&dir).unwrap();
    let (model_at, input_at) = (dir.join("model.onnx"), dir.join("input.json"));
    fs::copy(model(), &model_at).unwrap();
    fs::copy(input(), &input_at).unwrap();
    let srs = dir.join("dev.srs");
    ok(&command(&[&os(&["srs", "gen", "--k", "4", "--out"])[..], &[srs.as_os_str()]].concat())
        .output()
        .unwrap());
    let (m, i, out) = (model_at.as_os_str(), input_at.as_os_str(), dir.join("out"));
    let option = |name| OsStr::new(name);
    for args in [
        vec![option("prove"), m, option("--input"), i, option("--out"), out.as_os_str()],
        vec![option("setup"), m, option("--input"), i, option("--out"), out.as_os_str()],
        vec![option("inspect"), m, option("--input"), i],
        vec![option("mock"), m, option("--input"), i],
        vec![option("hash"), m, option("--input"), i],
        vec![
            option("calibrate"),
            m,
            option("--data"),
            i,
            option("--trials"),
            option("1"),
            option("--out"),
            out.as_os_str(),
        ],
        vec![option("srs"), option("check"), srs.as_os_str()],
    ] {
        let output = command(&[&args[..], &[option("--json")]].concat()).output().unwrap();
        let said: Value = serde_json::from_str(&ok(&output)).unwrap();
        let path = said["model"].as_str().or(said["file"].as_str()).unwrap();
        assert!(path.contains("caf\u{fffd}"), "{path}");
    }
}

#[test]
fn what_standard_output_does_not_take_is_an_error() {
    let (m, i) = (model(), input());
    let inspect = [OsStr::new("inspect"), m.as_os_str(), OsStr::new("--input"), i.as_os_str()];
    for args in [&inspect[..], &os(&["completions", "bash"]), &os(&["--help"]), &os(&["devices", "--json"])] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(args).stdout(full).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{args:?}");
        assert!(!errors(&output).contains("panicked"), "{}", errors(&output));
        // A reader that goes away at once.
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(errors(&output), "", "{args:?}");
        assert_ne!(output.status.code(), Some(101), "{args:?}");
    }
}

#[test]
fn pipes_are_read_and_devices_are_refused() {
    let s = Scratch::new("pipes");
    let (m, i) = (s.path("model.pipe"), s.path("input.pipe"));
    for pipe in [&m, &i] {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let feed =
        |from: PathBuf, to: PathBuf| std::thread::spawn(move || fs::write(to, fs::read(from).unwrap()));
    let threads = [feed(model(), m.clone()), feed(input(), i.clone())];
    let witness = s.path("witness.json");
    succeeds([
        OsStr::new("witness"),
        m.as_os_str(),
        OsStr::new("--input"),
        i.as_os_str(),
        OsStr::new("--out"),
        witness.as_os_str(),
    ]);
    threads.into_iter().for_each(|t| t.join().unwrap().unwrap());
    let (m, i) = (model(), input());
    for device in ["/dev/zero", "/dev/null"] {
        fails([OsStr::new("inspect"), OsStr::new(device)], &[device, "device"]);
        let args = [OsStr::new("inspect"), m.as_os_str(), OsStr::new("--input"), OsStr::new(device)];
        fails(args, &[device, "device"]);
        fails(["srs", "check", device], &[device]);
        fails(["verify", device], &[]);
    }
    // Neither a device nor a link is replaced by what is written.
    let to = |out: &OsStr| {
        succeeds([
            OsStr::new("witness"),
            m.as_os_str(),
            OsStr::new("--input"),
            i.as_os_str(),
            OsStr::new("--out"),
            out,
        ])
    };
    to(OsStr::new("/dev/null"));
    use std::os::unix::fs::FileTypeExt;
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let link = s.path("link");
    std::os::unix::fs::symlink(&witness, &link).unwrap();
    fs::write(&witness, "old").unwrap();
    to(link.as_os_str());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::metadata(&witness).unwrap().len() > 100);
}

#[test]
fn the_environment_is_tamed() {
    let (m, i) = (model(), input());
    let args =
        [OsStr::new("inspect"), m.as_os_str(), OsStr::new("--input"), i.as_os_str(), OsStr::new("--json")];
    let layers = |output: &Output| serde_json::from_str::<Value>(&ok(output)).unwrap()["layers"].clone();
    let plain = command(&args).output().unwrap();
    for (name, value) in [
        ("MAX_DEGREE", "3"),
        ("MAX_DEGREE", "much"),
        ("PARHELION_BACKEND", ""),
        ("PARHELION_CACHE", ""),
        ("RAYON_NUM_THREADS", "1024"),
    ] {
        let output = command(&args).env(name, value).output().unwrap();
        assert_eq!(layers(&output), layers(&plain), "{name}={value}");
        if name == "RAYON_NUM_THREADS" && std::thread::available_parallelism().unwrap().get() < 64 {
            assert!(errors(&output).contains("RAYON_NUM_THREADS=1024"), "{}", errors(&output));
        }
    }
}

#[test]
fn names_that_lead_nowhere_are_the_ones_that_were_given() {
    fails(["verify", "no-such-proof"], &["no-such-proof", "No such file"]);
    fails(["link", "no-such-proof", "neither"], &["no-such-proof"]);
}

#[test]
fn memory_is_predicted_and_refused() {
    let (m, i) = (model(), input());
    let inspect =
        [OsStr::new("inspect"), m.as_os_str(), OsStr::new("--input"), i.as_os_str(), OsStr::new("--json")];
    let said: Value = serde_json::from_str(&succeeds(inspect)).unwrap();
    let need = &said["predicted_memory_bytes"];
    assert!(
        need["peak"].as_u64() >= need["keys"].as_u64() && need["proof"].as_u64() > Some(1 << 20),
        "{need}"
    );
    assert_eq!(said["outputs"][0]["visibility"], "public");
    assert_eq!(said["inputs"][0]["visibility"], "private");
    let prove = [OsStr::new("prove"), m.as_os_str(), OsStr::new("--input"), i.as_os_str()];
    fails(prove.into_iter().chain([OsStr::new("--memory"), OsStr::new("2M")]), &["MB", "--memory", "2^"]);
    let output = parhelion(prove.into_iter().chain([OsStr::new("--memory"), OsStr::new("lots")]));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn labels_are_classes() {
    let s = Scratch::new("labels");
    // One digit's image and its label, as IDX.
    let image = s.write("image", [&[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 8][..], &[3; 64]].concat());
    let label = |l: u8| s.write("label", [0, 0, 8, 1, 0, 0, 0, 1, l]);
    let m = model();
    let accuracy = |labels: &Path| {
        let mut args = vec![OsStr::new("accuracy"), m.as_os_str(), OsStr::new("--images"), image.as_os_str()];
        args.extend([OsStr::new("--labels"), labels.as_os_str()]);
        args.into_iter().map(OsStr::to_owned).collect::<Vec<_>>()
    };
    succeeds(accuracy(&label(9)));
    fails(accuracy(&label(10)), &["label", "10", "10 classes"]);
    let (i, out) = (input(), s.path("out"));
    for bad in ["99", "-1"] {
        let labels = s.write("labels.txt", bad);
        let args =
            ["calibrate".as_ref(), m.as_os_str(), "--data".as_ref(), i.as_os_str(), "--labels".as_ref()];
        fails(
            args.into_iter().chain([labels.as_os_str(), "--out".as_ref(), out.as_os_str()]),
            &[bad, "labels.txt"],
        );
    }
}

/// The report of a proof that verifies; whether anything pinned it is not the question here.
fn verified(args: &[&str]) -> String {
    let output = parhelion(["verify"].iter().chain(args));
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", errors(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Proves under a string and keeps the files.
fn proven(s: &Scratch, name: &str, srs: &Srs) -> (String, String) {
    let mut bytes = Vec::new();
    srs.write(&mut bytes).unwrap();
    let file = s.write(&format!("{name}.srs"), bytes);
    let out = s.path(name);
    let (m, i) = (model(), input());
    let args = ["prove".as_ref(), m.as_os_str(), "--input".as_ref(), i.as_os_str(), "--srs".as_ref()];
    succeeds(args.into_iter().chain([file.as_os_str(), "--out".as_ref(), out.as_os_str()]));
    (file.to_str().unwrap().to_owned(), out.to_str().unwrap().to_owned())
}

#[test]
fn a_string_is_judged_by_its_point_and_not_by_its_word() {
    let s = Scratch::new("claims");
    let made = Srs::insecure_from_seed(12, 424_242).unwrap();
    let relabelled = Srs::from_parts(
        12,
        made.g().to_vec(),
        Some(made.g_lagrange().to_vec()),
        made.g2(),
        made.s_g2(),
        Origin::Ceremony("powersOfTau28_hez_final_16.ptau".into()),
    );
    let (file, proof) = proven(&s, "relabelled", &relabelled.unwrap());
    fails(["verify", &proof, "--require-secure-srs"], &["not secure", "claimed"]);
    let said: Value = serde_json::from_str(&verified(&[&proof, "--json"])).unwrap();
    assert_eq!((&said["secure_srs"], &said["srs"]), (&Value::from(false), &Value::from("claimed")));
    // The verifier's own file is another matter.
    let own = verified(&[&proof, "--require-secure-srs", "--srs", &file, "--json"]);
    let said: Value = serde_json::from_str(&own).unwrap();
    assert_eq!((&said["secure_srs"], &said["srs"]), (&Value::from(true), &Value::from("own")));
    let check = succeeds(["srs", "check", &file]);
    assert!(
        check.contains("imported from powersOfTau28_hez_final_16.ptau, contributions not checked"),
        "{check}"
    );
    let said: Value = serde_json::from_str(&succeeds(["srs", "check", &file, "--json"])).unwrap();
    assert_eq!(said["secure"], false);
    // What says of itself that it is generated stays so, also as the verifier's own.
    let (file, proof) = proven(&s, "generated", &made);
    fails(["verify", &proof, "--require-secure-srs", "--srs", &file], &["not secure"]);
}

#[test]
fn a_string_whose_secret_anybody_guesses_is_refused() {
    let s = Scratch::new("tau-one");
    let n = 1usize << 6;
    let mut lagrange = vec![G1Affine::default(); n];
    lagrange[0] = G1Affine::generator();
    let one = Srs::from_parts(
        6,
        vec![G1Affine::generator(); n],
        Some(lagrange),
        G2Affine::generator(),
        G2Affine::generator(),
        Origin::Ceremony("x.ptau".into()),
    )
    .unwrap();
    let mut bytes = Vec::new();
    one.write(&mut bytes).unwrap();
    let file = s.write("one.srs", &bytes);
    let (m, i) = (model(), input());
    let prove = ["prove".as_ref(), m.as_os_str(), "--input".as_ref(), i.as_os_str(), "--srs".as_ref()];
    fails(prove.into_iter().chain([file.as_os_str()]), &["one.srs", "secret is 1"]);
    fails(["srs", "check", file.to_str().unwrap()], &["one.srs", "secret is 1"]);
    bytes.clear();
    one.write_halo2(&mut bytes, parhelion_prover::srs::PointFormat::Raw).unwrap();
    let raw = s.write("one.params", &bytes);
    let out = s.path("out.srs");
    fails(
        ["srs", "import", raw.to_str().unwrap(), "--out", out.to_str().unwrap()],
        &["one.params", "secret is 1"],
    );
    if let Some(shared) = std::env::var_os("PARHELION_SHARED").map(PathBuf::from) {
        let ptau = shared.join("faults/srs-tau-one/p0.ptau");
        fails(
            ["srs", "import", ptau.to_str().unwrap(), "--out", out.to_str().unwrap()],
            &["p0.ptau", "secret is 1"],
        );
        let seven = ["srs", "import", ptau.to_str().unwrap(), "--k", "7", "--out", out.to_str().unwrap()];
        fails(seven, &["p0.ptau", "k = 6", "7"]);
    }
    assert!(!out.exists());
}

#[test]
fn directories_are_written_whole() {
    let s = Scratch::new("whole");
    let (m, i, out) = (model(), input(), s.path("out"));
    let run = |command: &str, more: &[&str]| {
        let mut args = vec![OsStr::new(command), m.as_os_str(), OsStr::new("--input"), i.as_os_str()];
        args.extend([OsStr::new("--out"), out.as_os_str()]);
        args.extend(more.iter().map(OsStr::new));
        parhelion(args)
    };
    ok(&run("prove", &[]));
    let verify = || verified(&[out.to_str().unwrap()]);
    verify();
    // The circuit cannot be replaced: the old proof still verifies.
    let circuit = out.join(session::CIRCUIT_BIN);
    let kept = fs::read(&circuit).unwrap();
    fs::remove_file(&circuit).unwrap();
    fs::create_dir(&circuit).unwrap();
    let output = run("prove", &["--weight-bits", "10"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(session::CIRCUIT_BIN), "{}", errors(&output));
    fs::remove_dir(&circuit).unwrap();
    fs::write(&circuit, kept).unwrap();
    verify();
    // Keys of the same circuit leave the proof, keys of another one take it with them.
    ok(&run("setup", &[]));
    verify();
    let output = run("setup", &["--weight-bits", "10"]);
    ok(&output);
    assert!(!out.join(session::PROOF_JSON).exists());
    assert!(errors(&output).contains(session::PROOF_JSON), "{}", errors(&output));
    assert!(fs::read_dir(&out).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().ends_with(".tmp")));
}
