//! Fuzzing of everything that reads a file: the entry points, the oracles, and mutators that know the formats.
//!
//! A [`Target`] takes bytes and hands them to the code that users hand files to. Whatever comes back as an error is fine. A
//! finding is
//!
//! - a panic, an abort, a stack overflow, or memory out of proportion to the input;
//! - more than [`watch::LIMIT`] of processor time for one input;
//! - a changed proof that verifies, or a damaged file that is read as if it were whole;
//! - a model that imports, quantises and runs, and whose own circuit then refuses its witness.
//!
//! # Behind the checksums
//!
//! Most files carry a digest, which no mutation would get past. Somebody who makes a file by hand computes the digest too, so the
//! targets do the same: the input of a target is a *script* of edits ([`script`], [`json`]) of a good file, and the file is sealed again
//! after them. What is found then is a property of the contents, and an input keeps its meaning when formats change. Every target also has modes without a
//! new seal, where nothing but the unchanged file may be accepted.
//!
//! ONNX files have no seal; there the mutator decodes the message, changes nodes, attributes, shapes and values, and encodes it again ([`mutate`]).
//!
//! # Running
//!
//! `fuzz/run.sh TARGET SECONDS` drives a target by libFuzzer; see `fuzz/README.md`. The test `replay` runs the inputs under
//! `fuzz/regressions`, all of which were findings once, through the same entry points.
#![forbid(unsafe_code)]

pub mod fixture;
pub mod input;
pub mod json;
pub mod keys;
pub mod mutate;
pub mod onnx;
pub mod proof;
pub mod script;
pub mod seeds;
pub mod settings;
mod survey;
pub mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The ONNX importer, quantisation, planning, and the circuit of what gets that far.
    Onnx,
    /// Settings, circuits, quantised models, calibrations: what a verifier or a prover reads beside the key.
    Settings,
    /// Input files.
    Input,
    /// Proof files and proof bytes, with the verifier behind them.
    Proof,
    /// Verifying keys, proving keys, reference strings.
    Keys,
}

impl Target {
    /// All targets.
    pub const ALL: [Target; 5] = [Target::Onnx, Target::Settings, Target::Input, Target::Proof, Target::Keys];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::Onnx => "onnx",
            Target::Settings => "settings",
            Target::Input => "input",
            Target::Proof => "proof",
            Target::Keys => "keys",
        }
    }

    /// The target of a name.
    pub fn of(name: &str) -> Option<Self> {
        Target::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Runs one input.
    ///
    /// # Panics
    /// On a finding.
    pub fn run(self, bytes: &[u8]) {
        let watch = watch::begin();
        match self {
            Target::Onnx => drop(onnx::run(bytes)),
            Target::Settings => settings::run(bytes),
            Target::Input => input::run(bytes),
            Target::Proof => proof::run(bytes),
            Target::Keys => keys::run(bytes),
        }
        watch.end();
    }

    /// Inputs to begin with.
    pub fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Target::Onnx => seeds::models(),
            Target::Settings => settings::seeds(),
            Target::Input => input::seeds(),
            Target::Proof => proof::seeds(),
            Target::Keys => keys::seeds(),
        }
    }

    /// Strings that occur in files of the format.
    fn dictionary(self) -> Vec<&'static str> {
        match self {
            Target::Onnx => {
                parhelion_zkml::onnx::supported_ops().chain(mutate::NAMES.iter().copied()).collect()
            }
            Target::Settings | Target::Proof => json::WORDS.to_vec(),
            Target::Input => input::WORDS.to_vec(),
            Target::Keys => Vec::new(),
        }
    }

    /// [`Target::run`] for libFuzzer: with `PARHELION_FUZZ_SURVEY` in the environment, a finding does not end the run. The first input that panics at a
    /// line of the source goes to that directory, under the line's name.
    pub fn fuzz(self, bytes: &[u8]) {
        let Some(dir) = survey::directory() else { return self.run(bytes) };
        if catch_unwind(AssertUnwindSafe(|| self.run(bytes))).is_err() {
            survey::keep(&dir.join(self.name()), bytes);
        }
    }

    /// Writes seeds and a dictionary for libFuzzer where the environment says so: the binaries call it before libFuzzer reads its corpus.
    ///
    /// # Panics
    /// When they cannot be written.
    #[expect(clippy::expect_used, reason = "a run without a corpus is none")]
    pub fn prepare(self) {
        survey::begin();
        let Some(home) = std::env::var_os("PARHELION_FUZZ_SEEDS").map(PathBuf::from) else { return };
        let corpus = home.join("corpus").join(self.name());
        std::fs::create_dir_all(&corpus).expect("the corpus is a directory");
        for (i, seed) in self.seeds().into_iter().enumerate() {
            std::fs::write(corpus.join(format!("seed-{i:03}")), seed).expect("a seed is written");
        }
        let escape = |word: &str| word.bytes().map(|b| format!("\\x{b:02x}")).collect::<String>();
        let words = self.dictionary().into_iter().filter(|w| !w.is_empty());
        let lines: Vec<String> = words.map(|w| format!("\"{}\"\n", escape(w))).collect();
        std::fs::write(home.join(format!("{}.dict", self.name())), lines.concat())
            .expect("the dictionary is written");
    }
}
