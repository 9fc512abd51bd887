//! The digest of tensors, with or without a circuit.
//!
//! **Packing.** A tensor's *width* is the least of 8, 16, 32 and 64 bits whose signed range holds its bounds. Elements in row-major order,
//! `⌊253 / width⌋` to a field element, are `Σ_i (v_i + 2^(width−1))·2^(width·i)`; the last field element is filled up with `v = 0`. With
//! every v within the signed range, which a circuit checks exactly, different tensors of one length pack differently, and no integer
//! reaches the modulus.
//!
//! **Sponge.** A digest is over a list of tensors, the *segments*. The permutation's state begins with a domain separator in element 0, the
//! capacity, and zeros: the lowest 248 bits of `BLAKE2b-256("parhelion poseidon x5_254_5 v1" · number of segments · width and length of each)`, numbers
//! as 64-bit little-endian integers. Packed segments follow each other, four field elements to a permutation, zeros at the end. The digest is
//! element 1 of the last state. The separator fixes how many field elements are absorbed and what each stands for, so no list of tensors is
//! the extension of another, and trailing zeros count.
//!
//! The digest does not depend on names, shapes or scales: an output of one model and the input of another have the same digest when their
//! elements and widths are the same. Settings say shape and scale.
//!
//! A digest does not hide: whoever can guess a tensor can check the guess.

use blake2b_simd::Params;
use ff::{Field, PrimeField};
use halo2_axiom::halo2curves::bn256::Fr;

use super::super::num::fr;
use super::{RATE, State, WIDTH, permute};

/// The widest width of an element, in bits.
pub const MAX_BITS: u32 = 64;
const PACKED_BITS: u32 = 253;
const DOMAIN: &[u8] = b"parhelion poseidon x5_254_5 v1";

/// What cannot be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// An element outside the signed range of its width.
    #[error("element {index} of segment {segment} is {value}, which {bits} bits do not hold")]
    Element {
        /// Which segment.
        segment: usize,
        /// Which element.
        index: usize,
        /// The element.
        value: i64,
        /// The width.
        bits: u32,
    },
    /// A width that no tensor has.
    #[error("segment {segment} has a width of {bits} bits, not 8, 16, 32 or 64")]
    Width {
        /// Which segment.
        segment: usize,
        /// The width.
        bits: u32,
    },
}

/// A tensor in a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Elements, row-major.
    pub values: &'a [i64],
    /// Width of an element.
    pub bits: u32,
}

impl<'a> Segment<'a> {
    /// A tensor with bounds.
    pub fn new(values: &'a [i64], lo: i64, hi: i64) -> Self {
        Segment { values, bits: width(lo, hi) }
    }
}

/// The width of elements within `[lo, hi]`: 8, 16, 32 or 64.
pub fn width(lo: i64, hi: i64) -> u32 {
    let holds = |bits: &u32| lo >> (bits - 1) >= -1 && hi >> (bits - 1) <= 0;
    [8, 16, 32].into_iter().find(holds).unwrap_or(MAX_BITS)
}

/// Elements of this width in one field element.
pub fn per_element(bits: u32) -> usize {
    (PACKED_BITS / bits.clamp(1, PACKED_BITS)) as usize
}

/// Field elements that `len` elements of this width fill.
pub fn packed_len(len: usize, bits: u32) -> usize {
    len.div_ceil(per_element(bits))
}

/// What packing adds to every field element: half of the range, at every place.
pub(crate) fn offset(bits: u32) -> Fr {
    let base = fr(1 << bits);
    (0..per_element(bits)).fold(Fr::ZERO, |sum, _| sum * base + fr(1 << (bits - 1)))
}

/// The field elements that a tensor fills.
///
/// # Errors
///
/// [`DigestError`] for an element that the width does not hold.
pub fn pack(segment: usize, s: Segment<'_>) -> Result<Vec<Fr>, DigestError> {
    let Segment { values, bits } = s;
    if ![8, 16, 32, MAX_BITS].contains(&bits) {
        return Err(DigestError::Width { segment, bits });
    }
    if let Some(index) = values.iter().position(|&v| width(v.min(0), v.max(0)) > bits) {
        return Err(DigestError::Element { segment, index, value: values[index], bits });
    }
    let (base, offset) = (fr(1 << bits), offset(bits));
    let sum = |chunk: &[i64]| chunk.iter().rev().fold(Fr::ZERO, |sum, &v| sum * base + fr(v.into()));
    Ok(values.chunks(per_element(bits)).map(|chunk| sum(chunk) + offset).collect())
}

/// Number of permutations that absorb `elements` field elements.
pub(crate) fn absorbed(elements: usize) -> usize {
    elements.div_ceil(RATE).max(1)
}

/// The state before anything is absorbed, from the width and length of every segment.
pub(crate) fn initial(segments: impl ExactSizeIterator<Item = (u32, usize)>) -> State {
    let mut hash = Params::new().hash_length(32).to_state();
    hash.update(DOMAIN).update(&(segments.len() as u64).to_le_bytes());
    for (bits, len) in segments {
        hash.update(&u64::from(bits).to_le_bytes()).update(&(len as u64).to_le_bytes());
    }
    let mut bytes = [0u8; 32];
    bytes[..31].copy_from_slice(&hash.finalize().as_bytes()[..31]);
    let mut state = [Fr::ZERO; WIDTH];
    // 248 bits are below the modulus.
    state[0] = Fr::from_repr(bytes).unwrap_or(Fr::ZERO);
    state
}

/// The digest of a list of tensors.
///
/// # Errors
///
/// [`DigestError`] for an element that its width does not hold.
pub fn digest(segments: &[Segment<'_>]) -> Result<Fr, DigestError> {
    let mut packed = Vec::new();
    for (i, s) in segments.iter().enumerate() {
        packed.extend(pack(i, *s)?);
    }
    let mut state = initial(segments.iter().map(|s| (s.bits, s.values.len())));
    for block in 0..absorbed(packed.len()) {
        for (i, x) in packed.iter().skip(block * RATE).take(RATE).enumerate() {
            state[i + 1] += x;
        }
        permute(&mut state);
    }
    Ok(state[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[i64], bits: u32) -> Fr {
        digest(&[Segment { values, bits }]).unwrap()
    }

    #[test]
    fn widths() {
        for (lo, hi, bits) in [
            (0, 0, 8),
            (-128, 127, 8),
            (0, 128, 16),
            (-129, 0, 16),
            (-32768, 32767, 16),
            (0, 32768, 32),
            (0, i64::from(i32::MAX) + 1, 64),
            (i64::MIN, i64::MAX, 64),
        ] {
            assert_eq!(width(lo, hi), bits, "[{lo}, {hi}]");
        }
        assert_eq!([8, 16, 32, 64].map(per_element), [31, 15, 7, 3]);
    }

    #[test]
    fn known_answers() {
        // From an implementation of this file's first paragraphs in another language.
        let hex = |x: Fr| x.to_repr().as_ref().iter().rev().map(|b| format!("{b:02x}")).collect::<String>();
        let long: Vec<i64> = (0..200).map(|i| i * 151 - 15_000).collect();
        assert_eq!(hex(of(&[], 8)), "07de71339a9f465c46ad450d82c2b3e985b34eb145b080271c09a7be67fa7147");
        assert_eq!(
            hex(of(&[1, -2, 3], 8)),
            "2f2cce0ce904ab99a7dec4ccff60a3d8d347facb0b441940c9b56920ed142306"
        );
        let three = [(&[5; 40][..], 8), (&[-7; 9], 32), (&[1 << 40], 64)]
            .map(|(values, bits)| Segment { values, bits });
        let expected = "0224d831f1fb082ce933d1fb8953a5a42b88bebdb1da074adf2812b06b9094e1";
        assert_eq!(hex(digest(&three).unwrap()), expected);
        assert_eq!(hex(of(&long, 16)), "06d7ecc1a37cbef2798d3d7a8b1aac15a7fce19da7238e69534b5a4d609496c5");
    }

    #[test]
    fn every_element_the_order_the_length_and_the_width_count() {
        let values: Vec<i64> = (0..100).map(|i| i * 37 % 101 - 50).collect();
        let honest = of(&values, 8);
        for i in 0..values.len() {
            let mut changed = values.clone();
            changed[i] += 1;
            assert_ne!(of(&changed, 8), honest, "{i}");
        }
        let mut swapped = values.clone();
        swapped.swap(0, 1);
        assert_ne!(of(&swapped, 8), honest);
        assert_ne!(of(&values, 16), honest);
        let longer = [&values[..], &[0]].concat();
        assert_ne!(of(&longer, 8), honest);
        assert_ne!(of(&values[..99], 8), honest);
        let parts = values.split_at(62);
        let split = [parts.0, parts.1].map(|values| Segment { values, bits: 8 });
        assert_ne!(digest(&split).unwrap(), honest);
        // Two whole field elements each way: the same elements are absorbed.
        let two = [&values[..31], &values[31..62]].map(|values| Segment { values, bits: 8 });
        assert_ne!(digest(&two).unwrap(), of(&values[..62], 8));
    }

    #[test]
    fn what_the_width_does_not_hold_is_refused() {
        let error = digest(&[Segment { values: &[0, 128], bits: 8 }]).unwrap_err();
        assert_eq!(error, DigestError::Element { segment: 0, index: 1, value: 128, bits: 8 });
        assert!(digest(&[Segment { values: &[], bits: 7 }]).is_err());
    }

    proptest! {
        #[test]
        fn packing_is_positional(values in prop::collection::vec(-128i64..128, 1..70)) {
            let packed = pack(0, Segment { values: &values, bits: 8 }).unwrap();
            prop_assert_eq!(packed.len(), packed_len(values.len(), 8));
            let bytes: Vec<u8> = packed.iter().flat_map(|x| x.to_repr().as_ref()[..31].to_vec()).collect();
            for (byte, v) in bytes.iter().zip(values.iter().chain(std::iter::repeat(&0))) {
                prop_assert_eq!(i64::from(*byte), v + 128);
            }
        }
    }
}
