//! The key target: verifying keys, proving keys, and reference strings in every format.
//!
//! The first byte is the mode, the second the statement or the size; the rest is a script. Containers are sealed again after the edits, but for the modes
//! that say otherwise, where only the whole file may be read.

use std::io::Cursor;
use std::sync::OnceLock;

use blake2b_simd::Params as Blake2b;
use halo2curves::bn256::Fq;
use halo2curves::ff::PrimeField;
use parhelion_prover::keys::{read_pk, read_vk, write_pk, write_vk};
use parhelion_prover::plonk::Circuit;
use parhelion_prover::srs::{PointFormat, Srs, SrsError};
use parhelion_prover::{PreparedKey, ProvingKey};
use parhelion_zkml::machine::ModelCircuit;

use crate::fixture::{self, Fixture};
use crate::script::Script;

const MODES: u8 = 16;
/// Bytes of a digest, at the end of a key.
const DIGEST: usize = 32;
/// Powers of the reference strings: 2^K.
const K: u32 = 3;
const N: usize = 1 << K;
const G1: usize = 64;
const G2: usize = 128;

/// Runs one input.
///
/// # Panics
/// On a finding: see the crate's documentation.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (Some(mode), Some(which)) = (script.byte(), script.byte()) else { return };
    let fixture = fixture::get(which);
    match mode % MODES {
        0..=2 => verifying(fixture, script, true),
        3 => verifying(fixture, script, false),
        4..=6 => proving(fixture, script, true),
        7 => proving(fixture, script, false),
        8 | 9 => container(script, true),
        10 => container(script, false),
        11 => parameters(script, PointFormat::Compressed),
        12 => parameters(script, PointFormat::Raw),
        13 => parameters(script, PointFormat::RawTrusted),
        _ => powers_of_tau(which, script),
    }
}

/// Puts the digest that belongs to a key at its end.
fn seal_key(file: &mut [u8]) {
    let end = file.len().saturating_sub(DIGEST);
    let (body, digest) = file.split_at_mut(end);
    let sum = Blake2b::new().hash_length(DIGEST).personal(b"parhelion-key-f1").hash(body);
    digest.iter_mut().zip(sum.as_bytes()).for_each(|(d, s)| *d = *s);
}

fn verifying(fixture: &Fixture, script: Script<'_>, seal: bool) {
    let mut file = script.edit(&fixture.vk);
    if seal {
        seal_key(&mut file);
    }
    let plan = &fixture.prepared.plan;
    let read = read_vk::<ModelCircuit>(&file[..], ModelCircuit::new(plan).params(), plan.k());
    let Ok(vk) = read else { return };
    assert!(seal || file == fixture.vk, "a damaged key is read");
    let mut again = Vec::new();
    if write_vk(&vk, &mut again).is_ok() {
        assert!(again == file, "a key is not written as it was read");
    }
}

fn proving(fixture: &Fixture, script: Script<'_>, seal: bool) {
    let mut file = script.edit(&fixture.pk);
    if seal {
        seal_key(&mut file);
    }
    let plan = &fixture.prepared.plan;
    let read = read_pk::<ModelCircuit>(&file[..], ModelCircuit::new(plan).params(), plan.k());
    let Ok(pk) = read else { return };
    assert!(seal || file == fixture.pk, "a damaged key is read");
    let mut again = Vec::new();
    if write_pk(&pk, &mut again).is_ok() {
        assert!(again == file, "a key is not written as it was read");
    }
    prove(fixture, pk);
}

/// A key that is no key of the circuit makes an error, or a proof that its verifying key admits.
fn prove(fixture: &Fixture, pk: ProvingKey) {
    let Ok(engine) = parhelion_backends::default_engine() else { return };
    let Ok(key) = PreparedKey::new(engine, &fixture.srs, pk) else { return };
    let plan = &fixture.prepared.plan;
    let Ok(witness) = fixture::session().witness(&fixture.prepared.quantised, &fixture.input) else { return };
    let transcript = parhelion_prover::ProofTranscript::Blake2b;
    let _ = parhelion_zkml::machine::prove(
        engine,
        &key,
        plan,
        &witness.trace.values,
        transcript,
        rand_core::OsRng,
    );
}

/// What is done with a string that was read.
fn used(srs: Result<Srs, SrsError>) {
    let Ok(srs) = srs else { return };
    let checked = srs.check();
    let _ = srs.digest();
    if checked.is_ok() {
        assert!(srs.k() == 0 || srs.downsize(srs.k() - 1).is_ok());
        let mut file = Vec::new();
        if srs.write(&mut file).is_ok() {
            assert!(
                Srs::read(&file[..]).is_ok_and(|s| s.digest() == srs.digest()),
                "a string is not read as written"
            );
        }
    }
}

fn container(script: Script<'_>, seal: bool) {
    let good = &strings().container;
    let mut file = script.edit(good);
    if seal {
        // The digest follows the text, and is over all that is not it.
        let text = usize::from(u16::from_le_bytes([byte(&file, 13), byte(&file, 14)]));
        let at = 15 + text;
        if file.len() >= at + DIGEST {
            let mut state = Blake2b::new().hash_length(DIGEST).personal(b"parhelion-srs-f1").to_state();
            state.update(&file[..at]).update(&file[at + DIGEST..]);
            file[at..at + DIGEST].copy_from_slice(state.finalize().as_bytes());
        }
    }
    let read = Srs::read(&file[..]);
    assert!(seal || read.is_err() || file == *good, "a damaged string is read");
    used(read);
}

fn byte(file: &[u8], at: usize) -> u8 {
    file.get(at).copied().unwrap_or(0)
}

fn parameters(script: Script<'_>, format: PointFormat) {
    let good = match format {
        PointFormat::Compressed => &strings().compressed,
        _ => &strings().raw,
    };
    used(Srs::read_halo2(&script.edit(good)[..], format));
}

fn powers_of_tau(which: u8, script: Script<'_>) {
    let k = [None, Some(0), Some(1), Some(K), Some(K + 1), Some(u32::MAX)][usize::from(which) % 6];
    let read = Srs::import_ptau(Cursor::new(script.edit(&strings().ptau)), k, "a ceremony");
    assert!(read.as_ref().map_or(true, |srs| srs.check().is_ok()), "a string is imported that is none");
    used(read);
}

/// One string in every format.
struct Strings {
    container: Vec<u8>,
    compressed: Vec<u8>,
    raw: Vec<u8>,
    ptau: Vec<u8>,
}

#[expect(clippy::expect_used, reason = "nothing works without the fixtures")]
fn strings() -> &'static Strings {
    static ONE: OnceLock<Strings> = OnceLock::new();
    ONE.get_or_init(|| {
        let srs = fixture::srs(K);
        let (mut container, mut compressed) = (Vec::new(), Vec::new());
        srs.write(&mut container).expect("memory takes everything");
        srs.write_halo2(&mut compressed, PointFormat::Compressed).expect("memory takes everything");
        Strings { container, compressed, raw: raw(&srs), ptau: ptau() }
    })
}

#[expect(clippy::expect_used, reason = "nothing works without the fixtures")]
fn raw(srs: &Srs) -> Vec<u8> {
    let mut raw = Vec::new();
    srs.write_halo2(&mut raw, PointFormat::RawTrusted).expect("memory takes everything");
    raw
}

/// A file of powers of tau, as snarkjs lays it out.
fn ptau() -> Vec<u8> {
    // Twice as many powers, less one.
    let large = raw(&fixture::srs(K + 1));
    let powers = &large[4..4 + (2 * N - 1) * G1];
    let tail = &large[large.len() - 2 * G2..];
    let mut modulus: [u8; 32] = (-Fq::one()).to_repr();
    modulus[0] += 1;
    let header = [&32u32.to_le_bytes()[..], &modulus, &K.to_le_bytes(), &K.to_le_bytes()].concat();
    let lagrange = (0..=K).flat_map(|k| {
        let file = raw(&fixture::srs(k));
        file[4 + (G1 << k)..4 + 2 * (G1 << k)].to_vec()
    });
    let sections: [(u32, Vec<u8>); 4] =
        [(1, header), (2, powers.to_vec()), (3, tail.to_vec()), (12, lagrange.collect())];
    let mut file = [&b"ptau"[..], &1u32.to_le_bytes(), &(sections.len() as u32).to_le_bytes()].concat();
    for (kind, bytes) in sections {
        file.extend(kind.to_le_bytes());
        file.extend((bytes.len() as u64).to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// Inputs to begin with: no edit, and one of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let heads = (0..MODES).flat_map(|mode| (0..6).map(move |which| [mode, which]));
    heads
        .flat_map(|head| {
            let edits: [&[u8]; 3] = [&[], &[2, 3, 0, 0, 7], &[9, 9, 0, 0, 8]];
            edits.map(|e| [&head[..], e].concat())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_files_are_read() {
        let strings = strings();
        assert!(Srs::read(&strings.container[..]).is_ok_and(|s| s.check().is_ok()));
        assert!(Srs::read_halo2(&strings.compressed[..], PointFormat::Compressed).is_ok());
        assert!(Srs::read_halo2(&strings.raw[..], PointFormat::Raw).is_ok());
        assert!(Srs::import_ptau(Cursor::new(&strings.ptau), None, "").is_ok());
    }
}
