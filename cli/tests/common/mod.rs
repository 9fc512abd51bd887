//! The command under test, and a place of its own for every test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Runs it and expects success; standard output.
pub(crate) fn succeeds<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let output = parhelion(args);
    assert!(output.status.success(), "{}", errors(&output));
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
