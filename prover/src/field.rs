//! Small parallel helpers on scalars that are no work for a backend: powers, inversions of short lists, random columns.

use ff::Field;
use halo2curves::bn256::Fr;
use rand_chacha::ChaCha20Rng;
use rand_core::{OsRng, RngCore, SeedableRng};
use rayon::prelude::*;

/// Elements per parallel task.
const CHUNK: usize = 1 << 12;

/// `first·base^i` for i < n.
pub(crate) fn powers(base: Fr, first: Fr, n: usize) -> Vec<Fr> {
    let mut out = vec![Fr::ZERO; n];
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| {
        let mut power = first * base.pow_vartime([(c * CHUNK) as u64]);
        for value in chunk {
            *value = power;
            power *= base;
        }
    });
    out
}

/// Inverts every non-zero element; zero stays zero.
pub(crate) fn batch_invert(values: &mut [Fr]) {
    values.par_chunks_mut(CHUNK).for_each(|chunk| {
        let mut product = Fr::ONE;
        let mut prefix = Vec::with_capacity(chunk.len());
        for value in chunk.iter() {
            prefix.push(product);
            if !bool::from(value.is_zero()) {
                product *= value;
            }
        }
        // A product of non-zero elements of a field is not zero; the default is never used.
        let mut inverse = product.invert().unwrap_or(Fr::ZERO);
        for (value, before) in chunk.iter_mut().zip(prefix).rev() {
            if !bool::from(value.is_zero()) {
                let here = inverse * before;
                inverse *= *value;
                *value = here;
            }
        }
    });
}

/// A seed from the operating system.
pub(crate) fn os_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    seed
}

/// n uniform elements, the same for the same seed on every machine and number of threads.
pub(crate) fn random_from_seed(seed: [u8; 32], n: usize) -> Vec<Fr> {
    let mut out = vec![Fr::ZERO; n];
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| {
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(c as u64);
        for value in chunk {
            *value = Fr::random(&mut rng);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_cross_chunk_borders() {
        let base = Fr::from(3);
        let all = powers(base, Fr::from(5), CHUNK + 3);
        assert_eq!(all[0], Fr::from(5));
        assert!(all.windows(2).all(|w| w[1] == w[0] * base));
    }

    #[test]
    fn inversion_keeps_zero() {
        let mut values: Vec<Fr> = (0..CHUNK as u64 + 5).map(|i| Fr::from(i % 7)).collect();
        let before = values.clone();
        batch_invert(&mut values);
        for (a, b) in before.iter().zip(&values) {
            assert_eq!(a * b, if *a == Fr::ZERO { Fr::ZERO } else { Fr::ONE });
        }
    }

    #[test]
    fn random_columns_depend_on_the_seed_alone() {
        let a = random_from_seed([7; 32], CHUNK + 1);
        assert_eq!(a, random_from_seed([7; 32], CHUNK + 1));
        assert_ne!(a, random_from_seed([8; 32], CHUNK + 1));
        assert_ne!(a[0], a[CHUNK]);
    }
}
