//! `halo2_axiom::plonk` with the prover and the key generation of this crate.
//!
//! Everything is upstream's but [`create_proof`] and the functions that make keys, which run on the process-wide
//! default engine (feature `default-engine`, on by default; without it they are upstream's too): the one that the environment describes, or, with
//! [`set_default_engine`](crate::set_default_engine), one over backends of the caller's own. They take the same
//! parameters in the same order. The bounds name two traits of this crate, [`ProveWith`] and [`KeygenWith`], which
//! stand for "a scheme that is known here": KZG on BN254 with SHPLONK or GWC, which runs here, and IPA on any curve,
//! which is passed on to upstream. Code that is itself generic over the scheme adds that bound.
//!
//! What differs from upstream:
//!
//! - What upstream panics on (an unknown witness, a lookup input that is not in its table, too many rows) is an [`Error`].
//! - A cell that is assigned in a blinding row is [`Error::BoundsFailure`] when a proof is made. Upstream's
//!   release builds put a random value over it.
//! - Several circuits with instances in one proof: upstream absorbs instances in another order than its verifier, so
//!   such proofs never verify; here they do.
//! - Circuits with three phases, on which upstream's prover panics, work.
//! - With `PARHELION_VERIFY=1`, and whenever an accelerator had a part in it, a proof is verified before `create_proof` returns, whatever the
//!   transcript; a failure is [`Error::ConstraintSystemFailure`]. If it was the accelerator's, that is quarantined, the error
//!   ([`Error::Transcript`]) says so, and the proof can be made again.
//! - `default-features = false` without `circuit-params` is not supported: this crate always enables it.

pub use halo2_axiom::plonk::*;

#[cfg(feature = "default-engine")]
pub use crate::dropin::{
    KeygenWith, ProveWith, create_proof, keygen_pk, keygen_pk_impl, keygen_pk2, keygen_vk, keygen_vk_custom,
};
