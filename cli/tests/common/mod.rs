//! The command under test, and a place of its own for every test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use halo2_axiom::plonk::Circuit;
use halo2_axiom::{SerdeCurveAffine, SerdeFormat};
use halo2curves::bn256::{Fr, G2Affine};
use parhelion_prover::keys;
use parhelion_second_verifier::{Hash, Opening, verify};
use parhelion_zkml::machine::ModelCircuit;
use parhelion_zkml::session::{self, Kind, ProofFile, Settings, Shape};

/// A directory that is removed at the end of a test.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

#[allow(dead_code, reason = "not every test file uses every helper")]
impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("parhelion-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// The names in it, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of the repository.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs the command without a cache of the user's.
pub(crate) fn parhelion<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parhelion"))
        .args(args)
        .env_remove("PARHELION_BACKEND")
        .env("PARHELION_CACHE", std::env::temp_dir().join("parhelion-test-cache"))
        .output()
        .unwrap()
}

/// What it wrote to standard error.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Makes sure that a verifier of another code base accepts a proof's directory, and no other public value.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub(crate) fn second(dir: &Path) {
    let settings: Settings = session::read_json(&dir.join(session::SETTINGS_JSON), Kind::Settings).unwrap();
    let file: ProofFile = session::read_json(&dir.join(session::PROOF_JSON), Kind::Proof).unwrap();
    let circuit = session::read_binary(&dir.join(session::CIRCUIT_BIN), Kind::Circuit).unwrap();
    let plan = postcard::from_bytes::<Shape>(&circuit).unwrap().plan().unwrap();
    let vk = std::fs::read(dir.join(session::VK_BIN)).unwrap();
    let params = ModelCircuit::new(&plan).params();
    let vk = keys::read_vk::<ModelCircuit>(vk.as_slice(), params, plan.k()).unwrap();
    let point = session::from_hex(&settings.srs.s_g2).unwrap();
    let s_g2 = G2Affine::read(&mut point.as_slice(), SerdeFormat::RawBytes).unwrap();
    let instances: Vec<Vec<_>> = file
        .instances
        .iter()
        .map(|column| column.iter().map(|v| session::scalar_from_hex(v).unwrap()).collect())
        .collect();
    let proof = session::from_hex(&file.proof).unwrap();
    let how = (Hash::Blake2b, Opening::Shplonk);
    verify(s_g2, &vk, std::slice::from_ref(&instances), &proof, how).unwrap();
    let mut other = instances;
    other[0][0] += Fr::one();
    assert!(verify(s_g2, &vk, &[other], &proof, how).is_err());
}

/// Runs it and expects success; standard output. What it proves and writes, the second verifier accepts too.
pub(crate) fn succeeds<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let args: Vec<OsString> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
    let output = parhelion(&args);
    assert!(output.status.success(), "{}", errors(&output));
    let out = args.iter().position(|a| a == "--out").and_then(|at| args.get(at + 1));
    if let (Some(out), true) = (out, args.iter().any(|a| a == "prove")) {
        second(Path::new(out));
    }
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it and expects failure with exit code 1, an error that has all of `words`, and no panic.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub(crate) fn fails<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>, words: &[&str]) {
    let output = parhelion(args);
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}
