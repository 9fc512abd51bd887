//! A halo2 prover for BN254 and KZG on unmodified `halo2-axiom`, whose heavy work goes through pluggable backends.
//!
//! # Two ways in
//!
//! **Drop-in.** A halo2 project changes one line of its manifest and nothing else:
//!
//! ```toml
//! halo2_proofs = { package = "parhelion-prover", version = "0.1" }   # or halo2-axiom = { package = "parhelion-prover", … }
//! ```
//!
//! All of halo2-axiom is re-exported under its own paths, types included, so circuits written against it or against
//! `halo2-base` work as they are. [`plonk::create_proof`], [`plonk::keygen_vk`], [`plonk::keygen_pk`] and their
//! variants are this crate's, on the process-wide default engine: same signatures, same keys, same proofs, same
//! verifier. See [`plonk`] for what the drop-in functions differ in.
//!
//! **Explicit.** [`keygen()`], [`PreparedKey`] and [`prove()`] take an engine and give back a [`ProofReport`]; errors
//! are values, and every proof is verified before it is returned.
//!
//! # Byte identity
//!
//! With the same generator of randomness the proof is halo2-axiom's, byte for byte, on every backend, up to two choices
//! that upstream does not take from that generator and that differ between two of its own runs: see [`Choices`]. The
//! test `byte_identity` records upstream's choices and replays them.
//!
//! # What it leaves to the engine
//!
//! Multi-scalar multiplications over resident bases, transforms, and every row-by-row evaluation (constraints, lookups,
//! factors of running products) as straight-line programs built once per key, which is [`PreparedKey`]. The transcript,
//! the challenges and the blinding stay here.
#![deny(unsafe_code)]

mod bases;
mod channel;
mod columns;
#[cfg(feature = "default-engine")]
mod dropin;
mod error;
mod field;
mod keygen;
pub mod keys;
mod lean;
mod lookup;
mod memory;
mod multiopen;
mod options;
pub mod plonk;
mod prepared;
mod products;
mod program;
mod prove;
mod quotient;
mod redo;
mod report;
mod resident;
mod session;
pub mod srs;
mod verify;
mod witness;

pub use halo2_axiom::{
    CurveRead, SerdeCurveAffine, SerdeFormat, SerdePrimeField, arithmetic, circuit, dev, fft, halo2curves,
    poly, transcript,
};

pub use error::{Error, Result};
pub use keygen::{KeygenOptions, keygen, keygen_vk};
pub use memory::MemoryReport;
pub use options::{Choices, Entropy, Multiopen, ProveOptions, Seeded};
#[cfg(feature = "default-engine")]
pub use parhelion_backends::{default_engine, set_default_engine};
pub use parhelion_dispatch as dispatch;
pub use prepared::PreparedKey;
pub use prove::prove;
pub use redo::prove_recovering;
pub use report::{ProofReport, Stage};
pub use srs::Srs;
pub use verify::{ProofTranscript, VerifyOptions, verify, verify_with};

use halo2_axiom::halo2curves::bn256::G1Affine;

/// The engine of this prover's curve.
pub type Engine = parhelion_dispatch::Engine<G1Affine>;
/// halo2's proving key of this prover's curve.
pub type ProvingKey = halo2_axiom::plonk::ProvingKey<G1Affine>;
/// halo2's verifying key of this prover's curve.
pub type VerifyingKey = halo2_axiom::plonk::VerifyingKey<G1Affine>;
