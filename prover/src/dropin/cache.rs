//! What the drop-in functions keep between calls, because upstream's signatures have no place for it: the bases of the
//! few structured reference strings in use, and the programs of the few keys in use. Both are bounded; the least
//! recently used entry goes first.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use halo2_axiom::plonk::Error as PlonkError;
use halo2_axiom::poly::commitment::{Params, ParamsProver};
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::{Bn256, Fr, G1Affine, G2Affine};
use parhelion_dispatch::Once;

use crate::bases::SrsBases;
use crate::program::Programs;
use crate::{Engine, Error, ProvingKey, Result, Srs};

/// Reference strings kept.
const STRINGS: usize = 3;
/// Keys kept.
const KEYS: usize = 16;

/// What tells two strings apart. All powers follow from the first two, so these few points name an honest string; a
/// string that agrees in them and differs elsewhere would give proofs that do not verify.
#[derive(Clone, PartialEq)]
struct Fingerprint {
    k: u32,
    sample: Vec<G1Affine>,
    g2: [G2Affine; 2],
}

impl Fingerprint {
    fn of(params: &ParamsKZG<Bn256>) -> Self {
        let g = params.get_g();
        let at = (0..params.k()).map(|bit| 1usize << bit).chain([0, g.len().saturating_sub(1)]);
        Fingerprint {
            k: params.k(),
            sample: at.filter_map(|i| g.get(i).copied()).collect(),
            g2: [params.g2(), params.s_g2()],
        }
    }
}

/// Most recently used last.
struct Recent<K, V> {
    entries: Vec<(K, V)>,
    bound: usize,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    const fn new(bound: usize) -> Self {
        Recent { entries: Vec::new(), bound }
    }

    fn get_or_insert(&mut self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        let entry = match self.entries.iter().position(|(k, _)| *k == key) {
            Some(at) => self.entries.remove(at),
            None => (key, make()?),
        };
        let value = entry.1.clone();
        if self.entries.len() >= self.bound {
            self.entries.remove(0);
        }
        self.entries.push(entry);
        Ok(value)
    }
}

// Locked to look something up, never while it is made: see `Once`.
static BASES: Mutex<Recent<Fingerprint, Arc<Once<SrsBases>>>> = Mutex::new(Recent::new(STRINGS));
static PROGRAMS: Mutex<Recent<Fr, Arc<Once<Programs>>>> = Mutex::new(Recent::new(KEYS));

/// The process-wide engine.
pub(super) fn engine() -> Result<&'static Engine, PlonkError> {
    parhelion_backends::default_engine().map_err(|e| PlonkError::Transcript(io::Error::other(e)))
}

/// The bases of a caller's parameters.
pub(super) fn bases(engine: &Engine, params: &ParamsKZG<Bn256>) -> Result<SrsBases> {
    let fingerprint = Fingerprint::of(params);
    let once = BASES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(fingerprint, || Ok(Arc::default()))?;
    let made = once.get_or_make(|| -> Result<_> { Ok(SrsBases::new(engine, &Srs::from_params(params)?)) })?;
    Ok(made.0)
}

/// The programs of a caller's key. The transcript's representative of a key is a hash of all that they depend on.
pub(super) fn programs(engine: &Engine, pk: &ProvingKey) -> Result<Programs> {
    let vk = pk.get_vk();
    let name = vk.transcript_repr();
    let once =
        PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(name, || Ok(Arc::default()))?;
    let made = once.get_or_make(|| Programs::new(engine, vk.cs(), vk.get_domain().k()))?;
    Ok(made.0)
}

/// Whether `PARHELION_VERIFY` asks for every proof to be verified.
pub(super) fn verify_wanted() -> Result<bool> {
    match std::env::var("PARHELION_VERIFY") {
        Err(std::env::VarError::NotPresent) => Ok(false),
        Ok(value) if matches!(value.as_str(), "" | "0" | "false" | "off") => Ok(false),
        Ok(value) if matches!(value.as_str(), "1" | "true" | "on") => Ok(true),
        other => Err(Error::Unsupported(format!("PARHELION_VERIFY = {other:?}; 1 or 0 is expected"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_goes_first() {
        let mut recent = Recent::new(2);
        let mut made = Vec::new();
        for key in [1, 2, 1, 3, 1, 2] {
            let value = recent.get_or_insert(key, || {
                made.push(key);
                Ok(key * 10)
            });
            assert_eq!(value.unwrap(), key * 10);
        }
        assert_eq!(made, [1, 2, 3, 2]);
    }
}
