//! halo2's own parameter format: k (u32, little-endian), g, `g_lagrange`, G2, `[τ]G2`, without a header.

use std::io::{self, Read, Write};

use halo2_axiom::SerdeFormat;
use halo2_axiom::poly::commitment::Params;
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::{Bn256, G1Affine};
use halo2curves::group::GroupEncoding;
use parhelion_backend_api::hal::as_bytes;

use super::points::{self, G1_RAW, G2_RAW};
use super::{MAX_K, Origin, Srs, SrsError, refuse_guessable};

/// How points lie in a file of halo2's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointFormat {
    /// Compressed: halo2's `Processed`.
    Compressed,
    /// Uncompressed Montgomery coordinates, checked when read: halo2's `RawBytes`.
    Raw,
    /// The same bytes, not checked when read: halo2's `RawBytesUnchecked`. For files that this machine wrote.
    RawTrusted,
}

impl PointFormat {
    /// Bytes of a point of G1.
    pub(super) fn g1_bytes(self) -> usize {
        match self {
            PointFormat::Compressed => <G1Affine as GroupEncoding>::Repr::default().as_ref().len(),
            _ => G1_RAW,
        }
    }

    /// Bytes of a point of G2.
    pub(super) fn g2_bytes(self) -> usize {
        match self {
            PointFormat::Compressed => 64,
            _ => G2_RAW,
        }
    }
}

impl Srs {
    /// Reads a whole file of halo2's format.
    ///
    /// # Errors
    /// [`SrsError::Malformed`] when the length does not fit the k in the file, [`SrsError::BadPoint`], [`SrsError::Inconsistent`] when anybody
    /// can guess the secret, or the reader's own.
    pub fn read_halo2(mut reader: impl Read, format: PointFormat) -> Result<Self, SrsError> {
        let mut head = [0; 4];
        reader.read_exact(&mut head)?;
        let k = u32::from_le_bytes(head);
        if k > MAX_K {
            return Err(SrsError::Malformed(format!(
                "k = {k} in the first four bytes: not a halo2 parameter file"
            )));
        }
        let list = format.g1_bytes() << k;
        let g = read_list(&mut reader, list)?;
        let g_lagrange = read_list(&mut reader, list)?;
        let tail = read_list(&mut reader, 2 * format.g2_bytes())?;
        if reader.read(&mut [0])? != 0 {
            return Err(SrsError::Malformed("bytes follow the last point".into()));
        }
        let (g2, s_g2) = tail.split_at(format.g2_bytes());
        let s_g2 = points::g2(s_g2, format, "s_g2")?;
        refuse_guessable(&s_g2)?;
        Srs::from_parts(
            k,
            list_of(&g, format, "g")?,
            Some(list_of(&g_lagrange, format, "g_lagrange")?),
            points::g2(g2, format, "g2")?,
            s_g2,
            Origin::Unknown,
        )
    }

    /// Writes halo2's format. Its readers cannot tell an insecure string from a secure one.
    ///
    /// # Errors
    /// The writer's own.
    pub fn write_halo2(&self, mut writer: impl Write, format: PointFormat) -> Result<(), SrsError> {
        writer.write_all(&self.k.to_le_bytes())?;
        for list in [&self.g, &self.g_lagrange] {
            match format {
                PointFormat::Compressed => {
                    for point in list.iter() {
                        writer.write_all(point.to_bytes().as_ref())?;
                    }
                }
                _ => writer.write_all(as_bytes(&list[..]))?,
            }
        }
        for point in [&self.g2, &self.s_g2] {
            match format {
                PointFormat::Compressed => writer.write_all(point.to_bytes().as_ref())?,
                _ => writer.write_all(&points::raw(point))?,
            }
        }
        Ok(())
    }
}

fn list_of(bytes: &[u8], format: PointFormat, what: &'static str) -> Result<Vec<G1Affine>, SrsError> {
    match format {
        PointFormat::Compressed => points::g1_from_compressed(bytes, what),
        PointFormat::Raw => points::g1_from_raw(bytes, what),
        PointFormat::RawTrusted => Ok(points::g1_from_trusted(bytes)),
    }
}

/// Exactly `len` bytes; memory grows with what is really there, not with what is claimed.
pub(super) fn read_list(reader: &mut impl Read, len: usize) -> Result<Vec<u8>, SrsError> {
    let mut bytes = Vec::new();
    reader.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() == len {
        Ok(bytes)
    } else {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file ends {} bytes too early", len - bytes.len()),
        )
        .into())
    }
}

/// The Lagrange basis inside halo2's parameters, which lend only the other one: what they write is caught on its way.
pub(super) fn lagrange_of(params: &ParamsKZG<Bn256>) -> Result<Vec<G1Affine>, SrsError> {
    let n = 1usize << params.k();
    let skip = 4 + n * G1_RAW;
    let mut catch = Catch { skip, want: n * G1_RAW, bytes: Vec::new() };
    catch.bytes.try_reserve_exact(catch.want).map_err(|e| SrsError::Malformed(e.to_string()))?;
    params.write_custom(&mut catch, SerdeFormat::RawBytesUnchecked)?;
    if catch.bytes.len() != catch.want {
        return Err(SrsError::Malformed("the parameters hold fewer points than 2^k".into()));
    }
    Ok(points::g1_from_trusted(&catch.bytes))
}

/// Keeps `want` bytes after the first `skip`.
struct Catch {
    skip: usize,
    want: usize,
    bytes: Vec<u8>,
}

impl Write for Catch {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(buf.len());
        self.skip -= skipped;
        let room = self.want - self.bytes.len();
        let rest = buf.get(skipped..).unwrap_or_default();
        self.bytes.extend_from_slice(rest.get(..room).unwrap_or(rest));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
