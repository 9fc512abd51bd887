//! The proof target: files and bytes that claim to be proofs, and the verifier behind them.
//!
//! The first byte is the mode, the second the statement; the rest is a script. Whatever is not the proof that was made, to the byte, must be refused.

use std::sync::OnceLock;

use halo2curves::bn256::Fr;
use parhelion_prover::{Multiopen, ProofTranscript, VerifyOptions, verify_with};
use parhelion_zkml::machine;
use parhelion_zkml::session::{Kind, PROOF_JSON, ProofFile, from_hex, read_json, to_hex, verify, write_json};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

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
        0 => file(fixture, script),
        1 => hexadecimal(fixture, script),
        2 => unsealed(fixture, script),
        mode => bare(mode, which, script),
    };
}

/// A proof's file with other contents and a new seal.
fn file(fixture: &Fixture, mut script: Script<'_>) -> Option<()> {
    let edited = json::edit(&serde_json::to_value(&fixture.proof).ok()?, &mut script);
    let mut files = fixture.files();
    files.proof = fixture.dir.join("edited-proof.json");
    write_json(&files.proof, Kind::Proof, &edited).ok()?;
    if verify(&files, false).is_ok() {
        let found: ProofFile = read_json(&files.proof, Kind::Proof).ok()?;
        // Who wrote it is a remark.
        let found = ProofFile { version: fixture.proof.version.clone(), ..found };
        assert_eq!(found, fixture.proof, "a changed proof verifies");
    }
    Some(())
}

/// A proof's file with other bytes in it.
fn hexadecimal(fixture: &Fixture, script: Script<'_>) -> Option<()> {
    let good = from_hex(&fixture.proof.proof)?;
    let edited = script.edit(&good);
    let mut files = fixture.files();
    files.proof = fixture.dir.join("edited-proof.json");
    let proof = ProofFile { proof: to_hex(&edited), ..fixture.proof.clone() };
    write_json(&files.proof, Kind::Proof, &proof).ok()?;
    assert_eq!(
        verify(&files, false).is_ok(),
        edited == good,
        "a changed proof verifies, or the whole one does not"
    );
    Some(())
}

/// A damaged file.
fn unsealed(fixture: &Fixture, script: Script<'_>) -> Option<()> {
    let good = std::fs::read(fixture.dir.join(PROOF_JSON)).ok()?;
    let mut files = fixture.files();
    files.proof = fixture.dir.join("damaged-proof.json");
    std::fs::write(&files.proof, script.edit(&good)).ok()?;
    if verify(&files, false).is_ok() {
        let found: ProofFile = read_json(&files.proof, Kind::Proof).ok()?;
        assert_eq!(found, fixture.proof, "a damaged proof verifies");
    }
    Some(())
}

/// Proof bytes for halo2's verifier, in every transcript and opening.
fn bare(mode: u8, which: u8, mut script: Script<'_>) -> Option<()> {
    let transcript = if mode & 1 == 0 { ProofTranscript::Blake2b } else { ProofTranscript::Keccak256 };
    let made = proven(which, transcript)?;
    let (mut instances, mut changed) = (made.instances.clone(), false);
    if mode == 7 {
        let column = instances.first_mut()?;
        let at = script.position(column.len())?;
        match script.choose(4)? {
            0 => {
                let old = column.get(at).copied()?;
                column[at] = Fr::from(script.number()?);
                changed = column[at] != old;
            }
            1 => changed = column.pop().is_some(),
            2 => {
                // Trailing zeros are what the rest of the column holds anyway.
                column.extend((0..script.choose(256)?).map(|_| Fr::from(1)));
                changed = column.len() > made.instances.first()?.len();
            }
            _ => {
                instances.push(Vec::new());
                changed = true;
            }
        }
    }
    let edited = script.edit(&made.bytes);
    let columns: Vec<&[Fr]> = instances.iter().map(Vec::as_slice).collect();
    let fixture = fixture::get(which);
    let multiopen = if mode == 6 { Multiopen::Gwc } else { Multiopen::Shplonk };
    let options = VerifyOptions::default().transcript(transcript).multiopen(multiopen);
    let verdict = verify_with(&fixture.srs.verifier_params(), &made.vk, &[&columns], &edited, options);
    let good = edited == made.bytes && !changed && multiopen == Multiopen::Shplonk;
    assert_eq!(verdict.is_ok(), good, "a changed proof verifies, or the whole one does not");
    Some(())
}

/// A proof by the machine's own function.
struct Made {
    bytes: Vec<u8>,
    instances: Vec<Vec<Fr>>,
    vk: parhelion_prover::VerifyingKey,
}

fn proven(which: u8, transcript: ProofTranscript) -> Option<&'static Made> {
    static ALL: [OnceLock<Option<Made>>; 6] = [const { OnceLock::new() }; 6];
    let index = 2 * (usize::from(which) % 3) + usize::from(transcript == ProofTranscript::Keccak256);
    let make = || {
        let fixture = fixture::get(which);
        let engine = parhelion_backends::default_engine().ok()?;
        let plan = &fixture.prepared.plan;
        let key = machine::keygen(engine, &fixture.srs, plan).ok()?;
        let witness = fixture::session().witness(&fixture.prepared.quantised, &fixture.input).ok()?;
        let rng = ChaCha20Rng::seed_from_u64(7);
        let proof = machine::prove(engine, &key, plan, &witness.trace.values, transcript, rng).ok()?;
        Some(Made { bytes: proof.bytes, instances: proof.instances, vk: key.vk().clone() })
    };
    ALL[index].get_or_init(make).as_ref()
}

/// Inputs to begin with: no edit, and one of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let heads = (0..MODES).flat_map(|mode| (0..3).map(move |which| [mode, which]));
    heads
        .flat_map(|head| {
            let edits: [&[u8]; 4] = [&[], &[0, 0, 0, 0, 1], &[3, 1, 0, 0, 2, 0, 0], &[2, 3, 0, 0, 7]];
            edits.map(|e| [&head[..], e].concat())
        })
        .collect()
}
