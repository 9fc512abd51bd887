//! Tensors in columns of their own, whose KZG commitments other proofs can have too.
//!
//! # The column
//!
//! For a circuit of n = 2^k rows a committed tensor of N elements takes `⌈N / (n − 70)⌉` advice columns, the first of the constraint system; all
//! committed parameters together count as one tensor, in the program's order. A column is
//!
//! - rows `0 …`: elements, row-major, as field elements; every one is copied to the element's own cell, which is range-checked there;
//! - zeros up to row `n − 70`;
//! - rows `n − 70 … n − 6`: 64 blinding elements, free cells that no constraint reads;
//! - rows `n − 6 … n`: halo2's own blinding rows, which no constraint can reach.
//!
//! The layout depends on k and N only. The commitment of column c is the c-th point of the proof.
//!
//! # What equality of commitments says
//!
//! Under one reference string and one k, a commitment binds its polynomial of degree below n (under the assumption that KZG rests on), so equal commitments in two
//! valid proofs mean equal elements. Blinding rows take part in the polynomial but cannot stand for elements: the circuits read rows below N only, and N is
//! in the settings. Equal integers mean equal real numbers only where the scales are equal: whoever links two proofs compares k, reference string, length
//! and scale as well, as `parhelion link` does.
//!
//! # Hiding
//!
//! All 70 blinding elements come from the *opening secret* and the tensor: `BLAKE2b(secret; k, length, elements, column, row)`. So one secret and one
//! tensor give one commitment, in any circuit of that k, and another tensor has unrelated blinding, though the secret is the same. (Blinding from the secret alone would cancel
//! in the difference of two commitments.)
//!
//! Every proof opens the column's polynomial at one random point, so each reveals one linear equation about it. With 70 blinding elements the first 69 proofs
//! of one tensor under one secret say nothing about the elements; [`MAX_PROOFS`] leaves a margin. That two proofs are about the same tensor is not hidden: it is the purpose.
//! Take a new secret where that must not be seen.

use std::sync::Arc;

use blake2b_simd::Params;
use ff::{Field, FromUniformBytes, PrimeField};
use group::{Curve, GroupEncoding};
use halo2_axiom::arithmetic::best_multiexp;
use halo2_axiom::halo2curves::bn256::{Fr, G1Affine};
use parhelion_prover::Srs;
use rand_core::RngCore;

use super::layout::BLINDED;
use super::lowered::Src;
use super::num::fr;

/// Blinding elements that the circuit itself places.
pub(crate) const SEALED: usize = 64;
/// Proofs of one tensor under one secret that are safe.
pub const MAX_PROOFS: usize = 64;
const LABEL: &[u8; 16] = b"parhelion-commit";

/// A tensor with columns of its own.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    /// In the model's names.
    pub(crate) name: String,
    pub(crate) sources: Arc<[Src]>,
}

/// Elements that one column of 2^k rows holds.
pub fn column_capacity(k: u32) -> usize {
    (1usize << k).saturating_sub(SEALED + BLINDED)
}

/// Columns that a tensor takes.
pub(crate) fn columns(len: usize, k: u32) -> usize {
    len.div_ceil(column_capacity(k).max(1)).max(1)
}

/// What opens commitments: 32 bytes that the prover keeps. Whoever has it can check guesses of the committed tensors.
#[derive(Clone, PartialEq, Eq)]
pub struct OpeningSecret([u8; 32]);

impl std::fmt::Debug for OpeningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpeningSecret(…)")
    }
}

impl OpeningSecret {
    /// From 32 bytes of a good generator.
    pub fn new(bytes: [u8; 32]) -> Self {
        OpeningSecret(bytes)
    }

    /// A new one.
    pub fn random(mut rng: impl RngCore) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        OpeningSecret(bytes)
    }

    /// The bytes, to be kept secret.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// A key for the blinding of one tensor.
    fn key(&self, k: u32, elements: &[Fr]) -> [u8; 32] {
        let mut state = Params::new().hash_length(32).key(&self.0).personal(LABEL).to_state();
        state.update(&u64::from(k).to_le_bytes()).update(&(elements.len() as u64).to_le_bytes());
        elements.iter().for_each(|x| {
            state.update(x.to_repr().as_ref());
        });
        let mut key = [0; 32];
        key.copy_from_slice(state.finalize().as_bytes());
        key
    }
}

/// The 64 uniform bytes of a blinding element.
fn blinding(key: &[u8; 32], column: usize, row: usize) -> [u8; 64] {
    let mut state = Params::new().hash_length(64).key(key).personal(LABEL).to_state();
    state.update(&(column as u64).to_le_bytes()).update(&(row as u64).to_le_bytes());
    *state.finalize().as_array()
}

/// The uniform bytes of halo2's blinding rows of a column.
pub(crate) type Tail = [[u8; 64]; BLINDED];

/// The columns of a tensor up to halo2's blinding rows, and the bytes of those.
pub(crate) fn seal(elements: &[Fr], k: u32, secret: &OpeningSecret) -> Vec<(Vec<Fr>, Tail)> {
    let (n, capacity) = (1usize << k, column_capacity(k));
    let key = secret.key(k, elements);
    (0..columns(elements.len(), k))
        .map(|column| {
            let mut usable: Vec<Fr> =
                elements.iter().skip(column * capacity).take(capacity).copied().collect();
            usable.resize(capacity, Fr::ZERO);
            let element = |row| Fr::from_uniform_bytes(&blinding(&key, column, row));
            usable.extend((capacity..n.saturating_sub(BLINDED)).map(element));
            let tail = std::array::from_fn(|i| blinding(&key, column, n.saturating_sub(BLINDED) + i));
            (usable, tail)
        })
        .collect()
}

/// The commitments of a tensor under a reference string of exactly 2^k points, encoded as in proofs of circuits with that k: 32 bytes for each column.
pub fn commit(srs: &Srs, values: &[i64], secret: &OpeningSecret) -> Vec<u8> {
    let elements: Vec<Fr> = values.iter().map(|&v| fr(v.into())).collect();
    seal(&elements, srs.k(), secret)
        .into_iter()
        .flat_map(|(mut column, tail)| {
            column.extend(tail.iter().map(Fr::from_uniform_bytes));
            let point: G1Affine = best_multiexp(&column, srs.g_lagrange()).to_affine();
            point.to_bytes().as_ref().to_vec()
        })
        .collect()
}

/// The commitments in a proof of a circuit with 2^k rows, for the lengths of its committed tensors in order; `None` for a proof that is too short.
pub fn of_proof(proof: &[u8], k: u32, lengths: impl IntoIterator<Item = usize>) -> Option<Vec<&[u8]>> {
    let mut rest = proof;
    let one = |len| {
        let own;
        (own, rest) = rest.split_at_checked(32 * columns(len, k))?;
        Some(own)
    };
    lengths.into_iter().map(one).collect()
}

/// A generator that gives the bytes of blinding rows where halo2's prover draws those of the committed columns, and another's bytes everywhere else.
///
/// The prover's first draws are the blinding rows of the first phase's columns, column by column, 64 bytes to an element, and committed columns are the first
/// of all.
#[derive(Clone)]
pub(crate) struct SealedRng<R> {
    inner: R,
    tail: Vec<u8>,
    at: usize,
}

impl<R: RngCore> SealedRng<R> {
    pub(crate) fn new(inner: R, tails: impl IntoIterator<Item = [u8; 64]>) -> Self {
        SealedRng { inner, tail: tails.into_iter().flatten().collect(), at: 0 }
    }
}

impl<R: RngCore> RngCore for SealedRng<R> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        let rest = self.tail.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(to.len());
        let (own, other) = to.split_at_mut(taken);
        own.copy_from_slice(&rest[..taken]);
        self.at += taken;
        if !other.is_empty() {
            self.inner.fill_bytes(other);
        }
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(to);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn blinding_follows_from_secret_and_tensor() {
        let secret = OpeningSecret::new([7; 32]);
        let seal = |values: &[i64], k, secret: &OpeningSecret| {
            let elements: Vec<Fr> = values.iter().map(|&v| fr(v.into())).collect();
            seal(&elements, k, secret)
        };
        let one = seal(&[1, 2, 3], 8, &secret);
        assert_eq!(one, seal(&[1, 2, 3], 8, &secret));
        assert_eq!(one[0].0.len() + one[0].1.len(), 256);
        assert!(one[0].0[3..column_capacity(8)].iter().all(|x| bool::from(x.is_zero())));
        for (values, k, secret) in [
            (&[1, 2, 4][..], 8, secret.clone()),
            (&[1, 2, 3, 0], 8, secret.clone()),
            (&[1, 2, 3], 9, secret.clone()),
            (&[1, 2, 3], 8, OpeningSecret::new([8; 32])),
        ] {
            let other = seal(values, k, &secret);
            assert!(other[0].1.iter().zip(&one[0].1).all(|(a, b)| a != b));
        }
        // A long tensor goes on in the next column.
        let long: Vec<i64> = (0..187).collect();
        let columns = seal(&long, 8, &secret);
        assert_eq!((columns.len(), columns[1].0[0]), (2, Fr::from(186)));
    }

    #[test]
    fn the_generator_gives_the_given_elements_first() {
        let elements: Vec<[u8; 64]> = (0..5).map(|i| blinding(&[1; 32], 0, i)).collect();
        let mut rng = SealedRng::new(ChaCha20Rng::seed_from_u64(1), elements.clone());
        for bytes in &elements {
            assert_eq!(Fr::random(&mut rng), Fr::from_uniform_bytes(bytes));
        }
        assert_eq!(Fr::random(&mut rng), Fr::random(ChaCha20Rng::seed_from_u64(1)));
    }
}
