//! Reference strings: a given one, or a development one that is generated and kept.
//!
//! The development string is made from a seed that stands in this file. It exists so that everything runs out of the box; proofs under
//! it can be forged by anybody. It is recognised by its `[τ]G2`, so no artefact can pass it off as anything else.

use std::io::BufReader;
use std::path::Path;

use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::{Bn256, G1Affine, G2Affine};
use parhelion_prover::srs::{Ceremony, Origin, Srs, refuse_guessable};

use super::artefact::{Security, SrsMark, g2_from_hex, g2_to_hex};
use super::cache::Cache;
use super::disk::open_limited;
use super::error::SessionError;
use super::seal::to_hex;

const SEED: u64 = 0x5061_7268_656c_696f;
/// Two bases of 2^28 points, and what stands around them.
const SRS_LIMIT: u64 = (2 << 28) * 64 + (1 << 20);

/// The development reference string: insecure.
///
/// # Errors
/// When k is too large.
pub fn development_srs(k: u32) -> Result<Srs, SessionError> {
    Srs::insecure_from_seed(k, SEED).map_err(|source| SessionError::Srs { path: None, source })
}

/// What a verifier needs of a string: k and `[τ]G2`.
pub(super) fn verifier_params(k: u32, s_g2: G2Affine) -> Result<ParamsKZG<Bn256>, SessionError> {
    refuse_guessable(&s_g2).map_err(|source| SessionError::Srs { path: None, source })?;
    let any = development_srs(1)?.to_params();
    Ok(any.from_parts(k, vec![G1Affine::generator()], Some(Vec::new()), G2Affine::generator(), s_g2))
}

/// `[τ]G2` of the development string.
fn development_s_g2() -> Result<G2Affine, SessionError> {
    Ok(development_srs(1)?.s_g2())
}

/// The string in a file, cut to k; without a file the development string, from the cache if it is there.
///
/// # Errors
/// [`SessionError::File`], [`SessionError::Srs`].
pub fn load_srs(path: Option<&Path>, k: u32, cache: &Cache) -> Result<Srs, SessionError> {
    match path {
        Some(path) => from_file(path, k, cache),
        None => development(k, cache),
    }
}

/// Reads a reference string's file.
///
/// # Errors
/// [`SessionError::File`], [`SessionError::Srs`].
pub fn read_srs(path: &Path) -> Result<Srs, SessionError> {
    let (file, _) = open_limited(path, SRS_LIMIT)?;
    Srs::read(file).map_err(|source| SessionError::Srs { path: Some(path.to_owned()), source })
}

fn from_file(path: &Path, k: u32, cache: &Cache) -> Result<Srs, SessionError> {
    let whole = read_srs(path)?;
    if whole.k() == k {
        return Ok(whole);
    }
    // A smaller string needs another Lagrange basis, which is worth keeping.
    let name = format!("{}-k{k}.srs", to_hex(&whole.digest()));
    if let Some(small) = cached(cache, &name, |srs| srs.k() == k && srs.s_g2() == whole.s_g2()) {
        return Ok(small);
    }
    let small =
        whole.downsize(k).map_err(|source| SessionError::Srs { path: Some(path.to_owned()), source })?;
    keep(cache, &name, &small);
    Ok(small)
}

fn development(k: u32, cache: &Cache) -> Result<Srs, SessionError> {
    let name = format!("development-k{k}.srs");
    let s_g2 = development_s_g2()?;
    if let Some(srs) = cached(cache, &name, |srs| srs.k() == k && srs.s_g2() == s_g2 && srs.is_insecure()) {
        return Ok(srs);
    }
    let srs = development_srs(k)?;
    keep(cache, &name, &srs);
    Ok(srs)
}

fn cached(cache: &Cache, name: &str, wanted: impl Fn(&Srs) -> bool) -> Option<Srs> {
    let file = cache.open("srs", name)?;
    match Srs::read(BufReader::new(file)) {
        Ok(srs) if wanted(&srs) => Some(srs),
        Ok(_) => {
            tracing::warn!("cached {name}: another reference string than its name says; made again");
            None
        }
        Err(e) => {
            tracing::warn!("cached {name} made again: {e}");
            None
        }
    }
}

fn keep(cache: &Cache, name: &str, srs: &Srs) {
    cache.put("srs", name, |file| srs.write(file).map_err(|source| SessionError::Srs { path: None, source }));
}

/// What artefacts say about a string.
///
/// # Errors
/// As [`development_srs`].
pub fn srs_mark(srs: &Srs) -> Result<SrsMark, SessionError> {
    let security = security_of(&srs.s_g2())?;
    let (security, origin) = match (security, srs.origin()) {
        (Security::Insecure, _) => (Security::Insecure, "development string of this program".to_owned()),
        (_, Origin::Insecure) => (Security::Insecure, "generated".to_owned()),
        (Security::Ceremony, _) => (Security::Ceremony, name_of(srs.ceremony())),
        (other, Origin::Ceremony(name)) => {
            (other, format!("imported from {name}, contributions not checked"))
        }
        (other, _) => (other, "not recorded".to_owned()),
    };
    Ok(SrsMark { security, origin, digest: to_hex(&srs.digest()), s_g2: g2_to_hex(&srs.s_g2()) })
}

fn name_of(ceremony: Option<&Ceremony>) -> String {
    ceremony.map_or_else(String::new, |c| c.name.to_owned())
}

/// How far a string is to be trusted, by its `[τ]G2` alone: nothing that a file says about itself counts.
///
/// # Errors
/// [`SessionError::Srs`] when anybody can guess the secret.
pub fn security_of(s_g2: &G2Affine) -> Result<Security, SessionError> {
    refuse_guessable(s_g2).map_err(|source| SessionError::Srs { path: None, source })?;
    Ok(if *s_g2 == development_s_g2()? {
        Security::Insecure
    } else if Ceremony::of(s_g2).is_some() {
        Security::Ceremony
    } else {
        Security::Claimed
    })
}

/// How far a mark is to be believed, by a verifier that may have a string of its own.
///
/// # Errors
/// [`SessionError::Mismatch`] when the mark's point is not valid or not that of the verifier's string; [`SessionError::Srs`] when anybody can
/// guess its secret.
pub fn believed(mark: &SrsMark, own: Option<&Srs>) -> Result<Security, SessionError> {
    let mismatch = |what, why: &str| SessionError::Mismatch { what, why: why.to_owned() };
    let s_g2 = g2_from_hex(&mark.s_g2)
        .ok_or_else(|| mismatch("settings", "the reference string's point is not valid"))?;
    let security = security_of(&s_g2)?;
    // A generated string says so of itself; who relabels it gets no further than a claim.
    let security = match security {
        Security::Claimed if mark.security == Security::Insecure => Security::Insecure,
        other => other,
    };
    match own {
        None => Ok(security),
        Some(own) if own.s_g2() != s_g2 => {
            Err(mismatch("reference string", "it is another one than the verifier's own"))
        }
        Some(own) if own.is_insecure() => Ok(Security::Insecure),
        Some(_) if security == Security::Claimed => Ok(Security::Own),
        Some(_) => Ok(security),
    }
}
