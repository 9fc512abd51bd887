//! A session's files against somebody who can recompute checksums: what the seals do not stop, the verifier must.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "machine_common/second.rs"]
mod second;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use halo2curves::bn256::Fr;
use parhelion_zkml::input::Surplus;
use parhelion_zkml::session::{
    self, Cache, Files, Kind, Options, Phase, ProofFile, Session, SessionError, Settings, Strength,
    scalar_from_hex, scalar_to_hex, to_hex,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits-mlp").join(name)
}

/// A proof of the digits example, made once.
fn proven() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("parhelion-session-{}", std::process::id()));
        let engine = parhelion_backends::default_engine().unwrap().clone();
        let mut session = Session::new(engine, Cache::none());
        let options = Options::default();
        let imported = session.import(&example("model.onnx"), &options.import).unwrap();
        let input = session.input(&imported, &example("input.json"), Surplus::Refuse).unwrap();
        let prepared = session.prepare(imported, std::slice::from_ref(&input), &options).unwrap();
        let srs = session.srs(None, prepared.k()).unwrap();
        let keys = session.keys(&prepared, &srs).unwrap();
        let witness = session.witness(&prepared.quantised, &input).unwrap();
        let proof = session.prove(&prepared, &keys, &witness).unwrap();
        session.verify(&keys, &proof).unwrap();
        second::accepts(&keys, &proof);
        for phase in Phase::ALL {
            assert!(!session.timings().get(phase).is_zero(), "{}", phase.name());
        }
        session.write_proof(&dir, &prepared, &keys, &proof).unwrap();
        dir
    })
}

fn files(proof: PathBuf) -> Files {
    let dir = proven();
    Files {
        settings: dir.join(session::SETTINGS_JSON),
        circuit: dir.join(session::CIRCUIT_BIN),
        vk: dir.join(session::VK_BIN),
        proof,
        srs: None,
    }
}

fn good() -> ProofFile {
    session::read_json(&proven().join(session::PROOF_JSON), Kind::Proof).unwrap()
}

/// Verifies a proof file whose seal is sound.
fn judge(name: &str, file: &ProofFile) -> Result<(), SessionError> {
    let path = proven().join(format!("{name}.json"));
    session::write_json(&path, Kind::Proof, file).unwrap();
    session::verify(&files(path), false).map(|_| ())
}

#[test]
fn an_honest_proof_verifies_and_says_what_it_proves() {
    let verdict = session::verify(&files(proven().join(session::PROOF_JSON)), false).unwrap();
    assert_eq!(verdict.outputs, good().outputs);
    assert_eq!(verdict.outputs[0].len(), 10);
    assert_eq!(verdict.security, session::Security::Insecure);
    assert_eq!((verdict.strength, verdict.model_bound), (Strength::Unpinned, false));
    // Its weights are private, and so is a digest of them.
    assert_eq!(verdict.model_hash, None);
    assert!(
        verdict.sentence.contains("some weights of this architecture and some input"),
        "{}",
        verdict.sentence
    );
    assert!(
        verdict.remarks.iter().any(|r| r.contains("which weights is not proven")),
        "{:?}",
        verdict.remarks
    );
    judge("honest", &good()).unwrap();
}

#[test]
fn another_public_value_is_rejected() {
    for i in 0..10 {
        let mut file = good();
        let value = scalar_from_hex(&file.instances[0][i]).unwrap() + Fr::from(1);
        file.instances[0][i] = scalar_to_hex(&value);
        assert!(matches!(judge("value", &file), Err(SessionError::Rejected(_))), "{i}");
    }
    let mut file = good();
    file.instances[0].pop();
    assert!(judge("fewer", &file).is_err());
    let mut file = good();
    file.instances[0].push(scalar_to_hex(&Fr::from(0)));
    assert!(judge("more", &file).is_err());
    let mut file = good();
    file.instances.push(vec![]);
    assert!(judge("columns", &file).is_err());
    let mut file = good();
    file.instances[0][0].replace_range(..2, "ff");
    assert!(judge("canonical", &file).is_err());
}

#[test]
fn outputs_are_those_of_the_public_values() {
    let mut file = good();
    file.outputs[0][3] = "0.5".into();
    assert!(matches!(judge("outputs", &file), Err(SessionError::Mismatch { .. })));
    let mut file = good();
    file.outputs.clear();
    assert!(judge("no-outputs", &file).is_err());
}

#[test]
fn another_proof_is_rejected() {
    let file = good();
    let bytes = session::from_hex(&file.proof).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for _ in 0..100 {
        let mut bad = bytes.clone();
        bad[rng.next_u32() as usize % bytes.len()] ^= 1 << (rng.next_u32() % 8);
        let bad = ProofFile { proof: to_hex(&bad), ..file.clone() };
        assert!(matches!(judge("flipped", &bad), Err(SessionError::Rejected(_))));
    }
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        let bad = ProofFile { proof: to_hex(&bytes[..length]), ..file.clone() };
        assert!(matches!(judge("short", &bad), Err(SessionError::Rejected(_))), "{length}");
    }
    let bad = ProofFile { proof: to_hex(&[&bytes[..], &[0]].concat()), ..file.clone() };
    assert!(matches!(judge("long", &bad), Err(SessionError::Rejected(_))));
    let bad = ProofFile { proof: file.proof.to_uppercase(), ..file };
    assert!(judge("spelling", &bad).is_err());
}

#[test]
fn other_settings_are_refused() {
    type Change = fn(&mut Settings);
    let changes: [(&str, Change); 8] = [
        ("statement", |s| s.statement = "0".repeat(64)),
        ("key", |s| s.vk_hash = "0".repeat(64)),
        ("circuit", |s| s.circuit_hash = "0".repeat(64)),
        ("trust", |s| s.srs.security = session::Security::Ceremony),
        ("weights", |s| s.params_digest = Some("0".repeat(64))),
        ("line", |s| s.model_hash = Some("0\nreference string: perpetual powers of tau, checked".into())),
        ("long", |s| s.srs.digest.push('0')),
        ("point", |s| {
            let other = parhelion_prover::Srs::insecure_from_seed(4, 9).unwrap();
            s.srs.s_g2 = session::srs_mark(&other).unwrap().s_g2;
        }),
    ];
    let honest: Settings =
        session::read_json(&proven().join(session::SETTINGS_JSON), Kind::Settings).unwrap();
    for (name, change) in changes {
        let mut settings = honest.clone();
        change(&mut settings);
        let path = proven().join(format!("settings-{name}.json"));
        session::write_json(&path, Kind::Settings, &settings).unwrap();
        let files = Files { settings: path, ..files(proven().join(session::PROOF_JSON)) };
        assert!(session::verify(&files, false).is_err(), "{name}");
    }
}

#[test]
fn settings_say_nothing_of_ports() {
    let path = proven().join(session::SETTINGS_JSON);
    let honest: serde_json::Value = session::read_json(&path, Kind::Settings).unwrap();
    for member in ["inputs", "outputs", "params", "visibility", "k", "program_hash"] {
        assert!(honest.get(member).is_none(), "{member}");
        let mut settings = honest.clone();
        settings[member] = serde_json::json!([]);
        let path = proven().join("settings-more.json");
        session::write_json(&path, Kind::Settings, &settings).unwrap();
        let files = Files { settings: path, ..files(proven().join(session::PROOF_JSON)) };
        assert!(session::verify(&files, false).is_err(), "{member}");
    }
}

#[test]
fn files_of_the_format_before_are_refused_by_number() {
    for (name, kind) in [(session::PROOF_JSON, Kind::Proof), (session::SETTINGS_JSON, Kind::Settings)] {
        let text = std::fs::read_to_string(proven().join(name)).unwrap();
        let old = text.replace(&format!("\"format\":{}", session::FORMAT), "\"format\":2");
        assert_ne!(text, old);
        let path = proven().join("old.json");
        std::fs::write(&path, old).unwrap();
        let said = session::read_json::<serde_json::Value>(&path, kind).unwrap_err().to_string();
        assert!(said.contains("format 2") && said.contains("old.json"), "{said}");
    }
}

#[test]
fn the_development_string_is_recognised_whatever_a_file_claims() {
    let mut settings: Settings =
        session::read_json(&proven().join(session::SETTINGS_JSON), Kind::Settings).unwrap();
    settings.srs.security = session::Security::Ceremony;
    settings.srs.origin = "a ceremony".into();
    let path = proven().join("settings-lie.json");
    session::write_json(&path, Kind::Settings, &settings).unwrap();
    let mut file = good();
    file.srs = session::Security::Ceremony;
    let proof = proven().join("lie.json");
    session::write_json(&proof, Kind::Proof, &file).unwrap();
    let files = Files { settings: path, ..files(proof) };
    assert!(matches!(session::verify(&files, true), Err(SessionError::InsecureSrs(..))));
    assert_eq!(session::verify(&files, false).unwrap().security, session::Security::Insecure);
}

#[test]
fn a_circuit_holds_no_weights() {
    let bytes = session::read_binary(&proven().join(session::CIRCUIT_BIN), Kind::Circuit).unwrap();
    let weights = std::fs::metadata(example("model.onnx")).unwrap().len();
    assert!((bytes.len() as u64) < weights, "{} bytes", bytes.len());
}

#[test]
fn a_wanted_length_of_the_proof_is_kept() {
    let engine = parhelion_backends::default_engine().unwrap().clone();
    let mut session = Session::new(engine, Cache::none());
    let mut plan = |proof_bytes| {
        let options = Options { proof_bytes, ..Options::default() };
        let imported = session.import(&example("model.onnx"), &options.import).unwrap();
        let input = session.input(&imported, &example("input.json"), Surplus::Refuse).unwrap();
        session.prepare(imported, std::slice::from_ref(&input), &options).unwrap()
    };
    let figures = |plan: &session::Prepared| {
        let report = plan.plan.report();
        (report.counts.proof_bytes(), report.predicted.total())
    };
    let (default, fastest) = (figures(&plan(None)), figures(&plan(Some(0))));
    assert!(fastest.1 <= default.1 && default.0 <= 6 << 10, "{fastest:?} {default:?}");
    // As short as can be, which is within what can be asked for again.
    let shortest = plan(Some(1));
    let (bytes, time) = figures(&shortest);
    assert!(bytes < fastest.0 && time > fastest.1, "{bytes} {time} {fastest:?}");
    let again = figures(&plan(Some(bytes)));
    assert!(again.0 <= bytes && again.1 <= time, "{again:?}");
    // The prediction is what the proof is.
    let srs = session.srs(None, shortest.k()).unwrap();
    let keys = session.keys(&shortest, &srs).unwrap();
    let input = session.input(&shortest.quantised.imported, &example("input.json"), Surplus::Refuse).unwrap();
    let witness = session.witness(&shortest.quantised, &input).unwrap();
    let proof = session.prove(&shortest, &keys, &witness).unwrap();
    session.verify(&keys, &proof).unwrap();
    second::accepts(&keys, &proof);
    assert_eq!(proof.bytes.len(), bytes);
}
