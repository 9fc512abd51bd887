//! Reference strings: a given one, or a development one that is generated and kept.
//!
//! The development string is made from a seed that stands in this file. It exists so that everything runs out of the box; proofs under
//! it can be forged by anybody. It is recognised by its `[τ]G2`, so no artefact can pass it off as anything else.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::{Bn256, G1Affine, G2Affine};
use parhelion_prover::srs::{Origin, Srs};

use super::artefact::{Security, SrsMark, g2_to_hex};
use super::cache::Cache;
use super::error::{FileError, SessionError};
use super::seal::{to_hex, write_atomic};

const SEED: u64 = 0x5061_7268_656c_696f;

/// The development reference string: insecure.
///
/// # Errors
/// When k is too large.
pub fn development_srs(k: u32) -> Result<Srs, SessionError> {
    Srs::insecure_from_seed(k, SEED).map_err(|source| SessionError::Srs { path: None, source })
}

/// What a verifier needs of a string: k and `[τ]G2`.
pub(super) fn verifier_params(k: u32, s_g2: G2Affine) -> Result<ParamsKZG<Bn256>, SessionError> {
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
    let file = File::open(path).map_err(FileError::io(path))?;
    Srs::read(BufReader::new(file))
        .map_err(|source| SessionError::Srs { path: Some(path.to_owned()), source })
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
    let path = cache.path("srs", name)?;
    if !path.exists() {
        return None;
    }
    match read_srs(&path) {
        Ok(srs) if wanted(&srs) => Some(srs),
        Ok(_) => {
            tracing::warn!("{}: another reference string than its name says; made again", path.display());
            None
        }
        Err(e) => {
            tracing::warn!("cache entry made again: {e}");
            None
        }
    }
}

fn keep(cache: &Cache, name: &str, srs: &Srs) {
    let Some(path) = cache.path("srs", name) else { return };
    let mut bytes = Vec::new();
    let written = srs.write(&mut bytes).map_err(|e| e.to_string());
    if let Err(e) = written.and_then(|()| write_atomic(&path, &[&bytes]).map_err(|e| e.to_string())) {
        tracing::warn!("not cached: {e}");
    }
}

/// What artefacts say about a string.
///
/// # Errors
/// As [`development_srs`].
pub fn srs_mark(srs: &Srs) -> Result<SrsMark, SessionError> {
    let development = srs.s_g2() == development_s_g2()?;
    let (security, origin) = match srs.origin() {
        _ if development => (Security::Insecure, "development string of this program".to_owned()),
        Origin::Insecure => (Security::Insecure, "generated".to_owned()),
        Origin::Ceremony(name) => (Security::Ceremony, name.clone()),
        _ => (Security::Unrecorded, "not recorded".to_owned()),
    };
    Ok(SrsMark { security, origin, digest: to_hex(&srs.digest()), s_g2: g2_to_hex(&srs.s_g2()) })
}

/// How far a mark is to be believed: the development string is recognised whatever the mark says.
///
/// # Errors
/// As [`development_srs`].
pub fn believed(mark: &SrsMark) -> Result<Security, SessionError> {
    Ok(if mark.s_g2 == g2_to_hex(&development_s_g2()?) { Security::Insecure } else { mark.security })
}
