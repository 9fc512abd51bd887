//! NPY, NumPy's file format: `\x93NUMPY`, a version, the length of a header that is a Python dictionary, then the elements.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use parhelion_zkml::session::read_limited;

const LIMIT: u64 = 4 << 30;

/// An array of numbers, row-major.
#[derive(Debug)]
pub(super) struct Npy {
    /// Length of each axis.
    pub(super) shape: Vec<usize>,
    /// The elements.
    pub(super) data: Vec<f64>,
}

impl Npy {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let raw = read_limited(path, LIMIT)?;
        Self::parse(&raw).with_context(|| format!("{}: not a NPY file of numbers", path.display()))
    }

    fn parse(raw: &[u8]) -> Result<Self> {
        let rest = raw.strip_prefix(b"\x93NUMPY").context("no header")?;
        let (version, rest) = rest.split_first_chunk::<2>().context("no version")?;
        let (len, rest) = if version[0] == 1 {
            let (l, rest) = rest.split_first_chunk::<2>().context("no header length")?;
            (usize::from(u16::from_le_bytes(*l)), rest)
        } else {
            let (l, rest) = rest.split_first_chunk::<4>().context("no header length")?;
            (usize::try_from(u32::from_le_bytes(*l))?, rest)
        };
        let (header, body) = rest.split_at_checked(len).context("the header is cut off")?;
        let header = std::str::from_utf8(header)?;
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
        let field = |key: &str| {
            let rest = after(key).with_context(|| format!("no field {key}"))?;
            Ok::<_, anyhow::Error>(rest.trim_start_matches([':', ' ']))
        };
        ensure!(field("'fortran_order'")?.starts_with("False"), "the array is stored column by column");
        let shape = field("'shape'")?.strip_prefix('(').context("no shape")?;
        let shape = shape.split_once(')').context("no shape")?.0;
        let shape = shape
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(|s| s.parse::<usize>().with_context(|| format!("length `{s}`")))
            .collect::<Result<Vec<_>>>()?;
        let kind = field("'descr'")?.trim_start_matches('\'');
        let kind = kind.split('\'').next().unwrap_or_default();
        fn each<const N: usize>(body: &[u8], f: impl Fn([u8; N]) -> f64) -> (Vec<f64>, usize) {
            let (chunks, rest) = body.as_chunks::<N>();
            (chunks.iter().map(|c| f(*c)).collect(), rest.len())
        }
        let (data, left) = match kind {
            "<f4" => each(body, |b| f32::from_le_bytes(b).into()),
            "<f8" => each(body, f64::from_le_bytes),
            "|u1" | "|b1" => each(body, |b: [u8; 1]| b[0].into()),
            "|i1" => each(body, |b| i8::from_le_bytes(b).into()),
            "<i2" => each(body, |b| i16::from_le_bytes(b).into()),
            "<i4" => each(body, |b| i32::from_le_bytes(b).into()),
            "<i8" => each(body, |b| i64::from_le_bytes(b) as f64),
            other => bail!("elements of type `{other}`"),
        };
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).context("too many elements")?;
        ensure!(data.len() == len && left == 0, "{} elements where {shape:?} needs {len}", data.len());
        ensure!(data.iter().all(|v| v.is_finite()), "an element is not finite");
        Ok(Npy { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, body: &[u8]) -> Vec<u8> {
        let mut raw = b"\x93NUMPY\x01\x00".to_vec();
        raw.extend((header.len() as u16).to_le_bytes());
        raw.extend(header.as_bytes());
        raw.extend(body);
        raw
    }

    #[test]
    fn reads_arrays_and_refuses_damage() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n";
        let body: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let good = file(header, &body);
        let a = Npy::parse(&good).unwrap();
        assert_eq!((a.shape, a.data), (vec![2, 1], vec![1.5, -2.0]));
        for cut in 0..good.len() {
            assert!(Npy::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        let bad = [
            header.replace("False", "True"),
            header.replace("<f4", "<c8"),
            header.replace("(2, 1)", "(18446744073709551615, 2)"),
            header.replace("'shape'", "'form'"),
        ];
        for header in bad {
            assert!(Npy::parse(&file(&header, &body)).is_err(), "{header}");
        }
    }
}
