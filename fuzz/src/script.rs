//! Scripts of edits of a file of bytes.
//!
//! A script is read byte by byte: an operation, then its operands. A script that ends early stops there, so every string of bytes is a script, and a
//! mutation of a script is a small change of the file that it makes.

use halo2curves::bn256::{Fq, Fr};
use halo2curves::ff::PrimeField;

/// Most edits of one script.
const MAX_EDITS: usize = 64;
/// Most bytes that a file may grow by.
const MAX_GROWTH: usize = 1 << 16;

/// Numbers at which something changes.
pub(crate) const NUMBERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    28,
    29,
    31,
    32,
    63,
    64,
    65,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// A script that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The script in some bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Script(bytes)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next eight bytes, or as many as there are, as a number.
    pub fn number(&mut self) -> Option<u64> {
        let (own, rest) = self.0.split_at(self.0.len().min(8));
        self.0 = rest;
        (!own.is_empty()).then(|| own.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// One of `n` things.
    pub fn choose(&mut self, n: usize) -> Option<usize> {
        Some(usize::from(self.byte()?) % n.max(1))
    }

    /// A position below `n`, from three bytes.
    pub fn position(&mut self, n: usize) -> Option<usize> {
        let (own, rest) = self.0.split_first_chunk::<3>()?;
        self.0 = rest;
        let at = own.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
        Some(at % n.max(1))
    }

    /// As many bytes as the next one says, at most.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?).min(self.0.len());
        let (own, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(own)
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Applies the edits.
    pub fn edit(mut self, base: &[u8]) -> Vec<u8> {
        let mut file = base.to_vec();
        let limit = base.len() + MAX_GROWTH;
        for _ in 0..MAX_EDITS {
            if self.step(&mut file).is_none() {
                break;
            }
            file.truncate(limit);
        }
        file
    }

    fn step(&mut self, file: &mut Vec<u8>) -> Option<()> {
        let operation = self.choose(14)?;
        let len = file.len();
        match operation {
            0 => {
                let (at, mask) = (self.position(len)?, self.byte()?);
                *file.get_mut(at)? ^= mask;
            }
            1 => {
                let (at, value) = (self.position(len)?, self.byte()?);
                *file.get_mut(at)? = value;
            }
            2 => {
                let (at, value) = (self.position(len.div_ceil(32))?, special(self.choose(12)?));
                put(file, 32 * at, &value);
            }
            3 => {
                let (a, b) = (32 * self.position(len / 32)?, 32 * self.position(len / 32)?);
                let (x, y) = (file.get(a..a + 32)?.to_vec(), file.get(b..b + 32)?.to_vec());
                put(file, a, &y);
                put(file, b, &x);
            }
            4 => {
                let (from, to) = (32 * self.position(len / 32)?, 32 * self.position(len / 32)?);
                let chunk = file.get(from..from + 32)?.to_vec();
                put(file, to, &chunk);
            }
            5 => {
                let at = self.position(len + 1)?;
                file.truncate(at);
            }
            6 => file.extend_from_slice(self.bytes()?),
            7 => {
                let (at, count) = (self.position(len)?, usize::from(self.byte()?));
                file.drain(at.min(len)..len.min(at + count));
            }
            8 => {
                let (at, bytes) = (self.position(len + 1)?, self.bytes()?);
                file.splice(at..at, bytes.iter().copied());
            }
            9 => {
                let (at, value) = (self.position(len)?, NUMBERS[self.choose(NUMBERS.len())?]);
                put(file, at, &(value as u32).to_le_bytes());
            }
            10 => {
                let (at, value) = (self.position(len)?, NUMBERS[self.choose(NUMBERS.len())?]);
                put(file, at, &value.to_le_bytes());
            }
            11 => {
                let (at, value) = (self.position(len)?, NUMBERS[self.choose(NUMBERS.len())?]);
                put(file, at, &(value as u32).to_be_bytes());
            }
            12 => {
                // A number of variable length in place of a byte, as in postcard.
                let (at, mut value) = (self.position(len)?, NUMBERS[self.choose(NUMBERS.len())?]);
                let mut code = Vec::new();
                while value > 0x7f {
                    code.push(value as u8 | 0x80);
                    value >>= 7;
                }
                code.push(value as u8);
                file.splice(at..len.min(at + 1), code);
            }
            _ => {
                let (at, count) = (self.position(len)?, usize::from(self.byte()?));
                let chunk = file.get(at..len.min(at + count))?.to_vec();
                file.splice(at..at, chunk);
            }
        }
        Some(())
    }
}

/// Overwrites what is there and adds nothing.
fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(own) = file.get_mut(at..) {
        own.iter_mut().zip(bytes).for_each(|(o, b)| *o = *b);
    }
}

/// Encodings of field elements and points that decoders must think about.
fn special(which: usize) -> [u8; 32] {
    fn above(mut bytes: [u8; 32], by: u8) -> [u8; 32] {
        // Neither −1 nor −2 modulo a prime that ends in 0x47 or 0x01 has a last byte that overflows here.
        bytes[0] = bytes[0].wrapping_add(by);
        bytes
    }
    let mut out = [0; 32];
    match which {
        0 => {}
        1 => out[0] = 1,
        2 => out = (-Fr::one()).to_repr(),
        3 => out = above((-Fr::one()).to_repr(), 1),
        4 => out = above((-Fr::one()).to_repr(), 2),
        5 => out = (-Fq::one()).to_repr(),
        6 => out = above((-Fq::one()).to_repr(), 1),
        // The identity and the generator in the compressed form, then forms with the wrong flags.
        7 => out[31] = 0x80,
        8 => (out[0], out[31]) = (1, 0x40),
        9 => (out[0], out[31]) = (1, 0xc0),
        10 => out[31] = 0xc0,
        _ => out = [0xff; 32],
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_script_changes_nothing() {
        assert_eq!(Script::new(&[]).edit(b"abc"), b"abc");
    }

    #[test]
    fn edits_do_what_they_say() {
        assert_eq!(Script::new(&[0, 1, 0, 0, 0xff]).edit(&[0, 0, 0]), [0, 0xff, 0]);
        assert_eq!(Script::new(&[5, 2, 0, 0]).edit(b"abc"), b"ab");
        assert_eq!(Script::new(&[6, 2, b'd', b'e']).edit(b"abc"), b"abcde");
        assert_eq!(Script::new(&[7, 0, 0, 0, 2]).edit(b"abc"), b"c");
        assert_eq!(Script::new(&[12, 1, 0, 0, 15]).edit(&[9, 9, 9]), [9, 0xff, 1, 9]);
        let mut modulus = [0; 32];
        modulus[..4].copy_from_slice(&[0x01, 0x00, 0x00, 0xf0]);
        assert_eq!(Script::new(&[2, 0, 0, 0, 3]).edit(&[0; 32])[..4], modulus[..4]);
    }

    #[test]
    fn no_script_panics() {
        let script: Vec<u8> = (0..=255).cycle().map(|b: u8| b.wrapping_mul(37)).take(4000).collect();
        for base in [0, 1, 31, 32, 100] {
            for start in 0..script.len() {
                Script::new(&script[start..]).edit(&vec![7; base]);
            }
        }
    }
}
