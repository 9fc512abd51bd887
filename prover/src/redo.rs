//! A proof that does not verify, and who is to blame.
//!
//! Either the witness breaks a constraint, or a device computed wrongly and no check noticed: results that stay on a device are not checked one
//! by one, since the verification of the finished proof, a few milliseconds, catches every wrong one. Only a second proof tells the two cases
//! apart. It is made by trusted backends alone, and if it verifies, the devices that took part in the first are quarantined.
//!
//! [`prove_recovering`] returns the second proof. [`prove`](crate::prove()) cannot: what it has written to the caller's transcript stays there. It makes the
//! second proof for a transcript of its own, to name the culprit, and returns [`Error::Faulty`], after which the caller may try again.

use halo2_axiom::plonk::Circuit;
use halo2_axiom::transcript::{
    Blake2bWrite, Challenge255, EncodedChallenge, TranscriptWrite, TranscriptWriterBuffer,
};
use halo2curves::bn256::{Fr, G1Affine};
use rand_core::RngCore;

use crate::options::{Choices, Entropy, ProveOptions};
use crate::prepared::PreparedKey;
use crate::prove::run;
use crate::report::ProofReport;
use crate::{Engine, Error, Result};

/// Whether the error may come from a wrong result.
pub(crate) fn is_suspicious(error: &Error) -> bool {
    matches!(error, Error::Rejected(_) | Error::NotInTable { .. })
}

/// Quarantines who took part in a wrong proof.
fn convict(engine: &Engine, error: &Error) -> String {
    let why = format!("a proof of which it computed a part was wrong: {error}");
    engine.quarantine_untrusted(&engine.ledger(), &why).join(", ")
}

/// A transcript for a proof that goes nowhere.
pub(crate) fn nowhere() -> Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>> {
    Blake2bWrite::init(Vec::new())
}

/// Finds out whether devices are to blame for an error of a proof on an engine with a ledger of its own, and quarantines them if so. `again` makes
/// and verifies another proof, with other randomness and for [`nowhere`].
pub(crate) fn blame(engine: &Engine, error: Error, again: impl FnOnce(&Engine) -> Result<()>) -> Error {
    if !is_suspicious(&error) || !engine.has_untrusted(&engine.ledger()) {
        return error;
    }
    match engine.without_untrusted().map(|trusted| again(&trusted)) {
        Some(Ok(())) => Error::Faulty { backends: convict(engine, &error), why: error.to_string() },
        _ => error,
    }
}

/// Proves into a fresh transcript; when the proof does not verify, and devices took part in it, once more on trusted backends alone.
///
/// Both attempts begin with the same randomness, so the proof is the one that a faultless device would have given. Nothing of the first one leaves. If
/// untrusted devices computed any part of it, the proof is verified whatever the options say. The report is that of the proof that is
/// returned.
///
/// # Errors
/// As [`prove`](crate::prove()), [`Error::Faulty`] left out: where a backend is forced, or no trusted one is there, the first error is returned.
pub fn prove_recovering<E, R, T, ConcreteCircuit>(
    engine: &Engine,
    key: &PreparedKey,
    circuits: &[ConcreteCircuit],
    instances: &[&[&[Fr]]],
    rng: R,
    mut transcript: impl FnMut() -> T,
    options: ProveOptions<'_>,
) -> Result<(T, ProofReport)>
where
    E: EncodedChallenge<G1Affine>,
    R: RngCore + Clone,
    T: TranscriptWrite<G1Affine, E>,
    ConcreteCircuit: Circuit<Fr>,
{
    let ProveOptions { multiopen, verify, choices, .. } = options;
    let mut entropy = Entropy;
    let choices: &mut dyn Choices = choices.unwrap_or(&mut entropy);
    let mut attempt = |engine: &Engine, verify: bool| {
        let mut written = transcript();
        let choices: Option<&mut dyn Choices> = Some(&mut *choices);
        let options = ProveOptions { multiopen, verify, verify_devices: true, choices };
        let report = run(engine, key, circuits, instances, &mut rng.clone(), &mut written, options)?;
        Ok((written, report))
    };
    let engine = engine.with_ledger();
    let error = match attempt(&engine, verify) {
        Err(error) if is_suspicious(&error) && engine.has_untrusted(&engine.ledger()) => error,
        result => return result,
    };
    let Some(trusted) = engine.without_untrusted() else { return Err(error) };
    tracing::warn!("a proof was wrong ({error}); it is made again without accelerators");
    let again = attempt(&trusted, true)?;
    convict(&engine, &error);
    Ok(again)
}
