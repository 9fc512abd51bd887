//! Structured reference strings: the powers of a secret τ in both bases, where they come from, and how far they are trusted.
//!
//! An [`Srs`] holds `[τ^i]G1` (`g`), the same points in the Lagrange basis of the domain of size 2^k (`g_lagrange`), `G2` and
//! `[τ]G2`. halo2's [`ParamsKZG`] holds the same four things but lends only the first, so everything that proves keeps
//! an [`Srs`]; [`Srs::to_params`] and [`Srs::from_params`] convert.
//!
//! # Trust
//!
//! Whoever knows τ can forge any proof. A string that this crate generates itself ([`Srs::insecure`]) comes from a
//! secret that existed in this process, so it is for development only, and says so in every file that [`Srs::write`]
//! makes. [`Srs::check`] proves by pairings that a string is *some* τ's powers; it cannot tell who knows τ. [`Srs::ceremony`] recognises the
//! strings of public ceremonies by `[τ]G2`; where a file says that it comes from is a claim. Secrets that anybody can guess (a string without
//! contributions has τ = 1) are refused by every reader: [`refuse_guessable`].
//!
//! # Files
//!
//! | format | read | write | what is checked on reading |
//! |---|---|---|---|
//! | Parhelion container (`.srs`) | [`Srs::read`] | [`Srs::write`] | magic, version, length, BLAKE2b digest |
//! | halo2 raw parameters | [`Srs::read_halo2`] | [`Srs::write_halo2`] | length, coordinates below the modulus, points on the curve |
//! | snarkjs `.ptau` | [`Srs::import_ptau`] | | sections, field, power, coordinates, points on the curve |
//!
//! No length in a file is believed before the file is known to be that long.

mod ceremony;
mod container;
mod halo2_raw;
mod insecure;
mod lagrange;
mod pairing;
mod points;
mod ptau;

use std::io;
use std::sync::Arc;

use blake2b_simd::Params as Blake2b;
use halo2_axiom::SerdeFormat;
use halo2_axiom::poly::commitment::{Params, ParamsProver};
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::{Bn256, G1Affine, G2Affine};
use parhelion_backend_api::hal::as_bytes;

pub use ceremony::{Ceremony, refuse_guessable};
pub use halo2_raw::PointFormat;

/// Largest k that a string may have: 2^28 is the two-adicity of BN254's scalar field.
pub const MAX_K: u32 = 28;

/// Where a string comes from, as far as its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Made in some process from a secret that existed there: for development only.
    Insecure,
    /// Imported from a file that the text names; whether it is a ceremony's, [`Srs::ceremony`] tells.
    Ceremony(String),
    /// Not recorded: halo2's own format has no place for it.
    Unknown,
}

/// Why a structured reference string is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SrsError {
    /// Reading or writing failed.
    #[error("structured reference string: {0}")]
    Io(#[from] io::Error),
    /// The file is not of the expected format, or is damaged.
    #[error("structured reference string: {0}")]
    Malformed(String),
    /// A point is not canonical or not on the curve.
    #[error("structured reference string: {what} {index} is not a valid point")]
    BadPoint {
        /// Which list.
        what: &'static str,
        /// Index in the list.
        index: usize,
    },
    /// The points are not the powers of one secret.
    #[error("structured reference string: {0}")]
    Inconsistent(&'static str),
    /// The string is too small or too large.
    #[error("structured reference string has k = {have}, but {need} is needed")]
    Size {
        /// What there is.
        have: u32,
        /// What is needed.
        need: u32,
    },
}

/// A structured reference string in both bases. Cheap to clone.
#[derive(Clone)]
pub struct Srs {
    k: u32,
    g: Arc<[G1Affine]>,
    g_lagrange: Arc<[G1Affine]>,
    g2: G2Affine,
    s_g2: G2Affine,
    origin: Origin,
}

impl std::fmt::Debug for Srs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srs").field("k", &self.k).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Srs {
    /// A string from its parts; the Lagrange basis is computed when it is not given (slow: a group transform of size 2^k).
    ///
    /// # Errors
    /// [`SrsError::Malformed`] when a list is not of length 2^k, [`SrsError::Size`] when k is above [`MAX_K`]. The points
    /// themselves are not checked: see [`Srs::check`].
    pub fn from_parts(
        k: u32,
        g: Vec<G1Affine>,
        g_lagrange: Option<Vec<G1Affine>>,
        g2: G2Affine,
        s_g2: G2Affine,
        origin: Origin,
    ) -> Result<Self, SrsError> {
        if k > MAX_K {
            return Err(SrsError::Size { have: k, need: MAX_K });
        }
        let n = 1usize << k;
        for (what, len) in [("g", g.len()), ("g_lagrange", g_lagrange.as_ref().map_or(n, Vec::len))] {
            if len != n {
                return Err(SrsError::Malformed(format!("{what} has {len} points, but 2^{k} are needed")));
            }
        }
        let g_lagrange = g_lagrange.unwrap_or_else(|| lagrange::to_lagrange(&g, k));
        Ok(Srs { k, g: g.into(), g_lagrange: g_lagrange.into(), g2, s_g2, origin })
    }

    /// The string inside halo2's parameters. Costs a copy of both lists.
    ///
    /// # Errors
    /// [`SrsError::Malformed`] when the parameters are not of size 2^k.
    pub fn from_params(params: &ParamsKZG<Bn256>) -> Result<Self, SrsError> {
        let k = params.k();
        let g_lagrange = halo2_raw::lagrange_of(params)?;
        Self::from_parts(
            k,
            params.get_g().to_vec(),
            Some(g_lagrange),
            params.g2(),
            params.s_g2(),
            Origin::Unknown,
        )
    }

    /// halo2's parameters of the same string. Costs a copy of both lists.
    pub fn to_params(&self) -> ParamsKZG<Bn256> {
        points::seed_params().from_parts(
            self.k,
            self.g.to_vec(),
            Some(self.g_lagrange.to_vec()),
            self.g2,
            self.s_g2,
        )
    }

    /// halo2's parameters with all that a KZG verifier reads (k, the first power, `G2`, `[τ]G2`) and no more: a few hundred
    /// bytes. They cannot commit.
    pub fn verifier_params(&self) -> ParamsKZG<Bn256> {
        points::verifier_params(self.k, self.g.first().copied().unwrap_or_default(), self.g2, self.s_g2)
    }

    /// log₂ of the number of powers.
    pub fn k(&self) -> u32 {
        self.k
    }

    /// `[τ^i]G1` for i < 2^k.
    pub fn g(&self) -> &Arc<[G1Affine]> {
        &self.g
    }

    /// `[L_i(τ)]G1` for i < 2^k, with `L_i` the Lagrange basis of the domain of size 2^k.
    pub fn g_lagrange(&self) -> &Arc<[G1Affine]> {
        &self.g_lagrange
    }

    /// The generator of G2.
    pub fn g2(&self) -> G2Affine {
        self.g2
    }

    /// `[τ]G2`.
    pub fn s_g2(&self) -> G2Affine {
        self.s_g2
    }

    /// Where the string comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether the string is known to be for development only.
    pub fn is_insecure(&self) -> bool {
        self.origin == Origin::Insecure
    }

    /// The same string for a smaller k: fewer powers, another Lagrange basis (a group transform of size 2^k).
    ///
    /// # Errors
    /// [`SrsError::Size`] when `k` is larger than the string's.
    pub fn downsize(&self, k: u32) -> Result<Self, SrsError> {
        if k == self.k {
            return Ok(self.clone());
        }
        let g = self.g.get(..1usize.checked_shl(k).unwrap_or(usize::MAX)).filter(|_| k < self.k);
        let g = g.ok_or(SrsError::Size { have: self.k, need: k })?;
        Self::from_parts(k, g.to_vec(), None, self.g2, self.s_g2, self.origin.clone())
    }

    /// BLAKE2b-256 over k, both G2 points and every power, for caches and artefacts: equal digests mean equal strings.
    pub fn digest(&self) -> [u8; 32] {
        let mut state = Blake2b::new().hash_length(32).personal(b"parhelion-srs-1").to_state();
        state.update(&self.k.to_le_bytes());
        for point in [&self.g2, &self.s_g2] {
            state.update(&points::raw(point));
        }
        state.update(as_bytes(&self.g[..]));
        let mut digest = [0; 32];
        digest.copy_from_slice(state.finalize().as_bytes());
        digest
    }

    /// Checks by pairings that both bases are the powers of the τ behind [`Srs::s_g2`].
    ///
    /// With random ρ: `e(Σ ρ_i·g[i+1], G2) = e(Σ ρ_i·g[i], [τ]G2)`, `g[0]` is the generator, and the Lagrange basis
    /// commits to a random polynomial as the monomial one does. A wrong string passes with probability below
    /// 2^-120.
    ///
    /// # Errors
    /// [`SrsError::Inconsistent`] with the relation that fails or when anybody can guess the secret, or [`SrsError::BadPoint`].
    pub fn check(&self) -> Result<(), SrsError> {
        pairing::check(self)
    }
}

/// halo2's on-disk formats under this crate's names.
impl From<PointFormat> for SerdeFormat {
    fn from(format: PointFormat) -> Self {
        match format {
            PointFormat::Compressed => SerdeFormat::Processed,
            PointFormat::Raw => SerdeFormat::RawBytes,
            PointFormat::RawTrusted => SerdeFormat::RawBytesUnchecked,
        }
    }
}
