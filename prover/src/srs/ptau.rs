//! snarkjs `.ptau` files (powers of tau), as the circom ceremonies publish them.
//!
//! A binary file of typed sections: magic `ptau`, version (u32, 1), number of sections (u32), then per section its type
//! (u32), its length (u64) and its bytes; numbers little-endian. Section 1 is the header: size of a coordinate in bytes
//! (u32), the field's modulus, power (u32), power of the ceremony (u32). Section 2 holds 2^(power+1) − 1 points
//! `[τ^i]G1`, section 3 2^power points `[τ^i]G2`, uncompressed, coordinates in Montgomery form, little-endian, the
//! extension field's as (c0, c1). The identity does not occur.
//!
//! Files prepared for phase 2 also hold, in section 12, the Lagrange bases of every size 2^0, 2^1, … one after the
//! other, for the roots of unity of circom's libraries, which are powers of the least non-residue. The same points in
//! another order are the basis for halo2's roots, which saves a group transform; they are taken when they pass
//! [`Srs::check`].

use std::io::{self, Read, Seek, SeekFrom};

use ff::{Field, PrimeField};
use halo2curves::bn256::{Fq, Fr, G1Affine};
use parhelion_backend_api::ntt::root_of_unity;

use super::halo2_raw::read_list;
use super::points::{self, G1_RAW, G2_RAW};
use super::{MAX_K, Origin, PointFormat, Srs, SrsError, refuse_guessable};

/// More sections than any version of the format has.
const MAX_SECTIONS: u32 = 64;

impl Srs {
    /// Imports the first 2^k powers of a `.ptau` file, or all 2^power of them when `k` is `None`.
    ///
    /// The points are checked to be on the curve and, by pairings, to be powers of one secret; the Lagrange basis
    /// is computed. The contributions inside the file are not verified: compare the file's hash with the
    /// ceremony's.
    ///
    /// # Errors
    /// [`SrsError::Malformed`] for another format, field or a damaged file; [`SrsError::Size`] when the file has
    /// fewer than 2^k powers; [`SrsError::BadPoint`]; [`SrsError::Inconsistent`]; or the reader's own.
    pub fn import_ptau(mut reader: impl Read + Seek, k: Option<u32>, name: &str) -> Result<Self, SrsError> {
        let malformed = |why: String| SrsError::Malformed(format!("ptau: {why}"));
        let sections = sections(&mut reader)?;
        let section = |kind: u32, what: &str| {
            let found = sections.iter().find(|s| s.kind == kind);
            found.ok_or_else(|| malformed(format!("section {kind} ({what}) is missing")))
        };

        let header = section(1, "header")?;
        let bytes = header.read(&mut reader, 0, 44)?;
        let word = |at: usize| bytes.iter().skip(at).take(4).rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
        if word(0) != 32 || bytes.get(4..36) != Some(modulus().as_slice()) {
            return Err(malformed("the coordinates are not BN254's".into()));
        }
        let power = word(36);
        if power > MAX_K {
            return Err(malformed(format!("power {power} is above {MAX_K}")));
        }
        let k = k.unwrap_or(power);
        if k > power {
            return Err(SrsError::Size { have: power, need: k });
        }
        let n = 1usize << k;
        let tau_g1 = section(2, "powers in G1")?;
        let tau_g2 = section(3, "powers in G2")?;
        let expected = ((2u64 << power) - 1) * G1_RAW as u64;
        if tau_g1.len != expected {
            return Err(malformed(format!(
                "section 2 has {} bytes, power {power} needs {expected}",
                tau_g1.len
            )));
        }
        let g = points::g1_from_raw(&tau_g1.read(&mut reader, 0, n * G1_RAW)?, "tauG1")?;
        let g2 = points::g2(&tau_g2.read(&mut reader, 0, G2_RAW)?, PointFormat::Raw, "tauG2")?;
        let s_g2 = points::g2(&tau_g2.read(&mut reader, G2_RAW as u64, G2_RAW)?, PointFormat::Raw, "tauG2")?;
        refuse_guessable(&s_g2)?;
        super::pairing::powers(&g, g2, s_g2)?;
        let origin = Origin::Ceremony(name.to_owned());
        if let Some(lagrange) = sections.iter().find(|s| s.kind == 12)
            && let Ok(basis) = prepared_basis(lagrange, &mut reader, k)
        {
            let srs = Srs::from_parts(k, g.clone(), Some(basis), g2, s_g2, origin.clone())?;
            if srs.check().is_ok() {
                return Ok(srs);
            }
        }
        let srs = Srs::from_parts(k, g, None, g2, s_g2, origin)?;
        srs.check()?;
        Ok(srs)
    }
}

/// The basis of size 2^k from section 12, in the order of halo2's roots.
fn prepared_basis(
    section: &Section,
    reader: &mut (impl Read + Seek),
    k: u32,
) -> Result<Vec<G1Affine>, SrsError> {
    let n = 1usize << k;
    let bytes = section.read(reader, (n as u64 - 1) * G1_RAW as u64, n * G1_RAW)?;
    let theirs = points::g1_from_raw(&bytes, "lagrange")?;
    let step = circom_root_exponent(k)?;
    let mut ours = vec![G1Affine::default(); n];
    for (i, point) in theirs.into_iter().enumerate() {
        ours[i.wrapping_mul(step) % n] = point;
    }
    Ok(ours)
}

/// e with w = ω^e, for circom's and halo2's roots of unity of order 2^k; one bit of e at a time.
fn circom_root_exponent(k: u32) -> Result<usize, SrsError> {
    let outside = |e: parhelion_backend_api::Error| SrsError::Malformed(e.to_string());
    let non_residue = (2..).map(Fr::from).find(|x| bool::from(x.sqrt().is_none()));
    // (r − 1) / 2^S: the division is exact, so it is the canonical form of −1 · 2^−S.
    let odd = -Fr::TWO_INV.pow_vartime([u64::from(Fr::S)]);
    let mut limbs = [0u64; 4];
    for (limb, bytes) in limbs.iter_mut().zip(odd.to_repr().as_ref().chunks_exact(8)) {
        *limb = bytes.iter().rev().fold(0, |l, b| l << 8 | u64::from(*b));
    }
    let largest = non_residue.unwrap_or(Fr::ONE).pow_vartime(limbs);
    let theirs = (k..Fr::S).fold(largest, |w, _| w.square());
    let ours: Fr = root_of_unity(k).map_err(outside)?;
    let inverse = ours.invert().unwrap_or(Fr::ONE);
    let mut exponent = 0usize;
    for bit in 0..k {
        let rest = theirs * inverse.pow_vartime([exponent as u64]);
        let sign = (bit + 1..k).fold(rest, |x, _| x.square());
        if sign != Fr::ONE {
            exponent |= 1 << bit;
        }
    }
    Ok(exponent)
}

struct Section {
    kind: u32,
    at: u64,
    len: u64,
}

impl Section {
    fn read(&self, reader: &mut (impl Read + Seek), from: u64, len: usize) -> Result<Vec<u8>, SrsError> {
        if from + len as u64 > self.len {
            return Err(SrsError::Malformed(format!("ptau: section {} is too short", self.kind)));
        }
        reader.seek(SeekFrom::Start(self.at + from))?;
        read_list(reader, len)
    }
}

fn sections(reader: &mut (impl Read + Seek)) -> Result<Vec<Section>, SrsError> {
    let malformed = |why: &str| SrsError::Malformed(format!("ptau: {why}"));
    let end = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(0))?;
    let mut magic = [0; 4];
    reader.read_exact(&mut magic)?;
    if &magic != b"ptau" {
        return Err(malformed("the magic bytes differ"));
    }
    if u32_le(reader)? != 1 {
        return Err(malformed("only version 1 is known"));
    }
    let count = u32_le(reader)?;
    if count > MAX_SECTIONS {
        return Err(malformed("too many sections"));
    }
    let mut all: Vec<Section> = Vec::new();
    for _ in 0..count {
        let kind = u32_le(reader)?;
        let mut len = [0; 8];
        reader.read_exact(&mut len)?;
        let (len, at) = (u64::from_le_bytes(len), reader.stream_position()?);
        let next = at.checked_add(len).filter(|next| *next <= end);
        let next = next.ok_or_else(|| malformed("a section reaches past the end of the file"))?;
        if all.iter().any(|s| s.kind == kind) {
            return Err(malformed("a section occurs twice"));
        }
        all.push(Section { kind, at, len });
        reader.seek(SeekFrom::Start(next))?;
    }
    Ok(all)
}

fn u32_le(reader: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// BN254's base field modulus, little-endian: one more than the canonical form of −1.
fn modulus() -> [u8; 32] {
    let mut bytes: [u8; 32] = (-Fq::one()).to_repr();
    // The modulus is odd, so −1 ends in an even byte and no carry occurs.
    bytes[0] += 1;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circoms_roots_are_powers_of_ours() {
        // circom's root of order 2^28 for this field, as its documentation gives it.
        let theirs = Fr::from_str_vartime(
            "19103219067921713944291392827692070036145651957329286315305642004821462161904",
        );
        let e = circom_root_exponent(28).unwrap() as u64;
        let ours: Fr = root_of_unity(28).unwrap();
        assert_eq!(Some(ours.pow_vartime([e])), theirs);
        assert_eq!(circom_root_exponent(0).unwrap(), 0);
        assert_eq!(circom_root_exponent(1).unwrap(), 1);
    }
}
