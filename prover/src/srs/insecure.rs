//! A string from a secret of this process: for development only.
//!
//! Both bases are fixed-base multiples of the generator: one table of 8-bit windows, 32 mixed additions per point.

use ff::{Field, PrimeField};
use group::{Curve, Group};
use halo2curves::bn256::{Fr, G1, G1Affine, G2Affine};
use parhelion_backend_api::ntt::root_of_unity;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use super::{MAX_K, Origin, Srs, SrsError};
use crate::field;

const WINDOW: usize = 8;
const PER_CHUNK: usize = 512;

impl Srs {
    /// A string of 2^k powers of a secret drawn from `rng` and forgotten. **Whoever knows the state of `rng` can forge
    /// proofs**: for development and tests only.
    ///
    /// # Errors
    /// [`SrsError::Size`] when k is above [`MAX_K`].
    pub fn insecure(k: u32, mut rng: impl RngCore) -> Result<Self, SrsError> {
        if k > MAX_K {
            return Err(SrsError::Size { have: k, need: MAX_K });
        }
        let n = 1usize << k;
        let tau = Fr::random(&mut rng);
        let table = Table::new(G1::generator());
        let powers = field::powers(tau, Fr::ONE, n);
        let g = table.multiples(&powers);
        // L_i(τ) = ω^i·(τ^n − 1) / (n·(τ − ω^i)).
        let omega = root_of_unity::<Fr>(k).map_err(|e| SrsError::Malformed(e.to_string()))?;
        let roots = field::powers(omega, Fr::ONE, n);
        let mut lagrange: Vec<Fr> = roots.par_iter().map(|root| tau - root).collect();
        field::batch_invert(&mut lagrange);
        let scale = (tau.pow_vartime([n as u64]) - Fr::ONE) * Fr::TWO_INV.pow_vartime([u64::from(k)]);
        lagrange.par_iter_mut().zip(&roots).for_each(|(l, root)| *l *= scale * root);
        let g_lagrange = table.multiples(&lagrange);
        let g2 = G2Affine::generator();
        Srs::from_parts(k, g, Some(g_lagrange), g2, (g2 * tau).to_affine(), Origin::Insecure)
    }

    /// [`Srs::insecure`] from a seed: the same string on every machine, known to everybody who knows the seed.
    ///
    /// # Errors
    /// As there.
    pub fn insecure_from_seed(k: u32, seed: u64) -> Result<Self, SrsError> {
        Self::insecure(k, ChaCha20Rng::seed_from_u64(seed))
    }
}

/// Multiples `d·2^(8w)·base` for d in 1..256, w in 0..32.
struct Table(Vec<Vec<G1Affine>>);

impl Table {
    fn new(base: G1) -> Self {
        let windows = Fr::NUM_BITS.div_ceil(WINDOW as u32) as usize;
        let starts: Vec<G1> =
            std::iter::successors(Some(base), |p| Some((0..WINDOW).fold(*p, |p, _| p.double())))
                .take(windows)
                .collect();
        let rows = starts.par_iter().map(|start| {
            let row: Vec<G1> =
                std::iter::successors(Some(*start), |p| Some(p + start)).take((1 << WINDOW) - 1).collect();
            normalize(&row)
        });
        Table(rows.collect())
    }

    fn multiples(&self, scalars: &[Fr]) -> Vec<G1Affine> {
        scalars
            .par_chunks(PER_CHUNK)
            .flat_map_iter(|chunk| {
                let points: Vec<G1> = chunk.iter().map(|s| self.multiple(s)).collect();
                normalize(&points)
            })
            .collect()
    }

    fn multiple(&self, scalar: &Fr) -> G1 {
        let digits = scalar.to_repr();
        self.0.iter().zip(digits.as_ref()).fold(G1::identity(), |sum, (row, digit)| {
            match usize::from(*digit).checked_sub(1).and_then(|d| row.get(d)) {
                Some(point) => sum + point,
                None => sum,
            }
        })
    }
}

fn normalize(points: &[G1]) -> Vec<G1Affine> {
    let mut out = vec![G1Affine::default(); points.len()];
    G1::batch_normalize(points, &mut out);
    out
}
