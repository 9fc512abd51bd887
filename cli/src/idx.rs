//! IDX, the file format of MNIST: `00 00 type rank`, one big-endian length per axis, then the elements. Bytes only; gzip is undone.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use parhelion_zkml::session::read_limited;

/// An array of bytes, row-major.
#[derive(Debug)]
pub(crate) struct Idx {
    /// Length of each axis.
    pub(crate) shape: Vec<usize>,
    /// The elements.
    pub(crate) data: Vec<u8>,
}

const LIMIT: u64 = 4 << 30;

impl Idx {
    /// Reads a file, compressed or not.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut raw = read_limited(path, LIMIT)?;
        if raw.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            GzDecoder::new(&raw[..])
                .take(LIMIT + 1)
                .read_to_end(&mut plain)
                .with_context(|| format!("{name}: damaged gzip data"))?;
            ensure!(plain.len() as u64 <= LIMIT, "{name}: more than {LIMIT} bytes of data");
            raw = plain;
        }
        Self::parse(&raw).with_context(|| format!("{name}: not an IDX file of bytes"))
    }

    fn parse(raw: &[u8]) -> Result<Self> {
        let Some((&[0, 0, 8, rank], mut rest)) = raw.split_first_chunk::<4>() else {
            bail!("no header");
        };
        let mut shape = Vec::new();
        for axis in 0..rank {
            let Some((length, tail)) = rest.split_first_chunk::<4>() else {
                bail!("the length of axis {axis} is missing");
            };
            shape.push(usize::try_from(u32::from_be_bytes(*length))?);
            rest = tail;
        }
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).context("too many elements")?;
        ensure!(
            !shape.is_empty() && rest.len() == len,
            "{} elements where {shape:?} needs {len}",
            rest.len()
        );
        Ok(Idx { shape, data: rest.to_vec() })
    }

    /// Number of items along the first axis.
    pub(crate) fn items(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// One item along the first axis.
    pub(crate) fn item(&self, i: usize) -> &[u8] {
        let n = self.shape.iter().skip(1).product::<usize>();
        self.data.get(i * n..(i + 1) * n).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_items_and_refuses_damage() {
        let raw = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        let idx = Idx::parse(&raw).unwrap();
        assert_eq!((idx.items(), idx.item(1)), (2, &[4, 5, 6][..]));
        for cut in 0..raw.len() {
            assert!(Idx::parse(&raw[..cut]).is_err(), "cut at {cut}");
        }
        let mut huge = raw;
        huge[4..12].fill(0xff);
        assert!(Idx::parse(&huge).is_err());
    }
}
