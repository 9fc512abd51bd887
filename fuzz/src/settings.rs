//! The settings target: everything that verifier and prover read beside keys and proofs.
//!
//! The first byte says which file is edited and how it is sealed again, the second which statement it is about; the rest is a script.

use parhelion_zkml::quant::calibrate::Calibration;
use parhelion_zkml::session::{
    CIRCUIT_BIN, Kind, PK_BIN, PROOF_JSON, Place, SETTINGS_JSON, Settings, Setup, Shape, Terms, digest_hex,
    link, read_binary, read_json, verify, write_binary, write_json,
};
use serde_json::Value;

use crate::fixture::{self, Fixture};
use crate::json;
use crate::script::Script;

const MODES: u8 = 8;

/// Runs one input.
///
/// # Panics
/// On a finding: see the crate's documentation.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (Some(mode), Some(which)) = (script.byte(), script.byte()) else { return };
    let fixture = fixture::get(which);
    // An error of the disk is no finding.
    let _ = match mode % MODES {
        0 | 1 => settings(fixture, script),
        2 => circuit(fixture, script),
        3 => model(fixture, script),
        4 => resume(fixture, script),
        5 => calibration(script),
        6 => unsealed_json(fixture, script),
        _ => unsealed_binary(fixture, script),
    };
}

/// Settings that somebody made, with a proof that names them.
fn settings(fixture: &Fixture, mut script: Script<'_>) -> Option<()> {
    let edited = json::edit(&serde_json::to_value(&fixture.settings).ok()?, &mut script);
    let mut files = fixture.files();
    files.settings = fixture.dir.join("edited-settings.json");
    write_json(&files.settings, Kind::Settings, &edited).ok()?;
    if let Ok(settings) = read_json::<Settings>(&files.settings, Kind::Settings) {
        let mut proof = fixture.proof.clone();
        proof.statement = settings.statement.clone();
        proof.srs = settings.srs.security;
        files.proof = fixture.dir.join("renamed-proof.json");
        write_json(&files.proof, Kind::Proof, &proof).ok()?;
    }
    if let Ok(verdict) = verify(&files, false) {
        let all = verdict.instances.iter().map(Vec::len).sum::<usize>();
        assert!(verdict.outputs.iter().map(Vec::len).sum::<usize>() <= all, "outputs from nowhere");
        let (terms, honest) = (Terms::default(), fixture.files());
        let _ = link((&files, &terms), (&files, &terms), &[]);
        let place = Place { output: "#0".into(), input: "x".into() };
        let _ = link((&files, &terms), (&honest, &terms), &[place]);
    }
    Some(())
}

/// A circuit that somebody made, with settings that name it.
fn circuit(fixture: &Fixture, script: Script<'_>) -> Option<()> {
    let payload = script.edit(&fixture.circuit);
    let mut files = fixture.files();
    files.circuit = fixture.dir.join("edited-circuit.bin");
    write_binary(&files.circuit, Kind::Circuit, &payload).ok()?;
    files.settings = fixture.dir.join("settings-of-circuit.json");
    let settings = Settings { circuit_hash: digest_hex(&[&payload]), ..fixture.settings.clone() };
    write_json(&files.settings, Kind::Settings, &settings).ok()?;
    let _ = verify(&files, false);
    Some(())
}

/// A calibration that somebody put into a setup, from which a prover goes on: another program than the setup's is refused.
fn model(fixture: &Fixture, mut script: Script<'_>) -> Option<()> {
    let edited = json::edit(&serde_json::to_value(&fixture.calibration).ok()?, &mut script);
    let calibration = serde_json::from_value::<Calibration>(edited).ok()?;
    let shape: Shape = postcard::from_bytes(&fixture.circuit).ok()?;
    let (settings, notes) = (fixture.settings.clone(), fixture.notes.clone());
    let setup = Setup { settings, calibration, shape, notes, pk: fixture.dir.join(PK_BIN) };
    let mut session = fixture::session();
    if let Ok((quantised, _)) = session.quantised(fixture.imported.clone(), &setup) {
        assert_eq!(quantised.program_hash, fixture.notes.program_hash, "another program is resumed");
        if let Ok(witness) = session.witness(&quantised, &fixture.input) {
            let _ = quantised.outputs(&witness);
            let _ = quantised.max_abs_error(&witness, &fixture.input);
        }
    }
    let _ = session.resume(fixture.imported.clone(), setup, None);
    Some(())
}

/// Settings that somebody made, from which a prover goes on.
fn resume(fixture: &Fixture, mut script: Script<'_>) -> Option<()> {
    let edited = json::edit(&serde_json::to_value(&fixture.settings).ok()?, &mut script);
    let settings = serde_json::from_value::<Settings>(edited).ok()?;
    let shape: Shape = postcard::from_bytes(&fixture.circuit).ok()?;
    let (calibration, notes) = (fixture.calibration.clone(), fixture.notes.clone());
    let setup = Setup { settings, calibration, shape, notes, pk: fixture.dir.join(PK_BIN) };
    if let Ok((prepared, keys)) = fixture::session().resume(fixture.imported.clone(), setup, None) {
        assert_eq!(prepared.k(), keys.vk().get_domain().k());
    }
    Some(())
}

/// A calibration that somebody made.
fn calibration(mut script: Script<'_>) -> Option<()> {
    let edited = json::edit(&serde_json::to_value(fixture::calibration()).ok()?, &mut script);
    let path = fixture::scratch().join("edited-calibration.json");
    write_json(&path, Kind::Calibration, &edited).ok()?;
    let calibration: Calibration = read_json(&path, Kind::Calibration).ok()?;
    if let Ok(quantised) = calibration.quantise(&fixture::get(0).imported.model)
        && let Ok(inputs) = quantised.encode_inputs(&fixture::get(0).input)
        && let Ok(trace) = parhelion_zkml::exec::run_checked(&quantised.program, &inputs)
    {
        let _ = quantised.decode_outputs(&trace);
    }
    Some(())
}

/// A damaged file is not read as another value than the whole one's.
fn unsealed_json(fixture: &Fixture, script: Script<'_>) -> Option<()> {
    for (name, kind) in [(SETTINGS_JSON, Kind::Settings), (PROOF_JSON, Kind::Proof)] {
        let good = std::fs::read(fixture.dir.join(name)).ok()?;
        let path = fixture.dir.join("damaged.json");
        std::fs::write(&path, script.edit(&good)).ok()?;
        let found: Result<Value, _> = read_json(&path, kind);
        if let Ok(found) = found {
            let whole: Value = read_json(&fixture.dir.join(name), kind).ok()?;
            assert_eq!(found, whole, "a damaged {kind} is read");
        }
    }
    Some(())
}

/// The same for binary files, where every byte counts.
fn unsealed_binary(fixture: &Fixture, script: Script<'_>) -> Option<()> {
    let kind = Kind::Circuit;
    let good = std::fs::read(fixture.dir.join(CIRCUIT_BIN)).ok()?;
    let edited = script.edit(&good);
    let path = fixture.dir.join("damaged.bin");
    std::fs::write(&path, &edited).ok()?;
    assert!(read_binary(&path, kind).is_err() || edited == good, "a damaged {kind} is read");
    Some(())
}

/// Inputs to begin with: no edit, and one of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let heads = (0..MODES).flat_map(|mode| (0..3).map(move |which| [mode, which]));
    heads.flat_map(|head| [head.to_vec(), [&head[..], &[1, 9, 0, 0, 3]].concat()]).collect()
}
