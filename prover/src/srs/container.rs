//! This project's own file: a checked header, then both bases uncompressed, so that nothing is recomputed and nothing damaged
//! passes.
//!
//! Layout, little-endian: magic (8 bytes), k (u32), origin (u8: 0 unknown, 1 insecure, 2 ceremony), length of the
//! origin's text (u16), the text, BLAKE2b-256 of everything else (32 bytes), g, `g_lagrange`, G2, `[τ]G2`.

use std::io::{Read, Write};

use blake2b_simd::Params as Blake2b;
use parhelion_backend_api::hal::as_bytes;

use super::halo2_raw::read_list;
use super::points::{self, G1_RAW, G2_RAW};
use super::{MAX_K, Origin, PointFormat, Srs, SrsError, refuse_guessable};

const MAGIC: &[u8; 8] = b"PARHSRS\x01";

impl Srs {
    /// Writes the container format.
    ///
    /// # Errors
    /// The writer's own.
    pub fn write(&self, mut writer: impl Write) -> Result<(), SrsError> {
        let (kind, text) = match &self.origin {
            Origin::Unknown => (0u8, ""),
            Origin::Insecure => (1, "insecure development string: anybody may know its secret"),
            Origin::Ceremony(name) => (2, name.as_str()),
        };
        let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.k.to_le_bytes());
        head.push(kind);
        head.extend_from_slice(&(text.len() as u16).to_le_bytes());
        head.extend_from_slice(text);
        let tail = [points::raw(&self.g2), points::raw(&self.s_g2)].concat();
        let lists = [as_bytes(&self.g[..]), as_bytes(&self.g_lagrange[..]), &tail[..]];
        let digest = digest(&head, &lists);
        writer.write_all(&head)?;
        writer.write_all(&digest)?;
        lists.iter().try_for_each(|list| writer.write_all(list))?;
        Ok(())
    }

    /// Reads the container format. The digest is checked; the points are those that were written, so they are not checked
    /// again (see [`Srs::check`]).
    ///
    /// # Errors
    /// [`SrsError::Malformed`] for another format, a wrong length or a wrong digest, [`SrsError::Inconsistent`] when anybody can guess the
    /// secret, or the reader's own.
    pub fn read(mut reader: impl Read) -> Result<Self, SrsError> {
        let malformed = |why: &str| SrsError::Malformed(why.to_owned());
        let mut head = read_list(&mut reader, 15)?;
        if !head.starts_with(MAGIC) {
            return Err(malformed("not a Parhelion structured reference string (magic bytes differ)"));
        }
        let number = |at: usize, len: usize| {
            head.iter().skip(at).take(len).rev().fold(0u32, |n, b| n << 8 | u32::from(*b))
        };
        let (k, kind, text_len) = (number(8, 4), number(12, 1), number(13, 2) as usize);
        if k > MAX_K {
            return Err(SrsError::Size { have: k, need: MAX_K });
        }
        let text = read_list(&mut reader, text_len)?;
        head.extend_from_slice(&text);
        let expected = read_list(&mut reader, 32)?;
        let g = read_list(&mut reader, G1_RAW << k)?;
        let g_lagrange = read_list(&mut reader, G1_RAW << k)?;
        let tail = read_list(&mut reader, 2 * G2_RAW)?;
        if reader.read(&mut [0])? != 0 {
            return Err(malformed("bytes follow the last point"));
        }
        if digest(&head, &[&g, &g_lagrange, &tail])[..] != expected[..] {
            return Err(malformed("the digest does not match: the file is damaged"));
        }
        let text = String::from_utf8(text).map_err(|_| malformed("the origin is not UTF-8"))?;
        let origin = match kind {
            0 => Origin::Unknown,
            1 => Origin::Insecure,
            2 => Origin::Ceremony(text),
            other => return Err(SrsError::Malformed(format!("unknown origin {other}"))),
        };
        let (g2, s_g2) = tail.split_at(G2_RAW);
        let s_g2 = points::g2(s_g2, PointFormat::Raw, "s_g2")?;
        refuse_guessable(&s_g2)?;
        Srs::from_parts(
            k,
            points::g1_from_trusted(&g),
            Some(points::g1_from_trusted(&g_lagrange)),
            points::g2(g2, PointFormat::Raw, "g2")?,
            s_g2,
            origin,
        )
    }
}

fn digest(head: &[u8], lists: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2b::new().hash_length(32).personal(b"parhelion-srs-f1").to_state();
    state.update(head);
    for list in lists {
        state.update(list);
    }
    let mut out = [0; 32];
    out.copy_from_slice(state.finalize().as_bytes());
    out
}
