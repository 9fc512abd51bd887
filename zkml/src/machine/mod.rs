//! From an integer program to a halo2 circuit, its keys, proofs and their verification.
//!
//! One machine runs every model: rows of work units (small groups of cells that check quadratic equations and look values up), store columns
//! with the weights, running sums that fold both into polynomials at random points, and rows of scalar arithmetic that relate those. A
//! model is a program of rows for it; what no row needs does not exist. See `template.rs` for elements, `contraction.rs` for the
//! identities, `config.rs` for the gates, `table.rs` for lookups.
//!
//! # What a proof says
//!
//! For the program in exact integers (each operation as [`crate::qir`] defines it), there are values of the private tensors such that the
//! public ones are those of the instance. Inputs are within their bounds, private weights within a hull of theirs (the next whole number of
//! limbs); all other values follow.
//!
//! # Soundness
//!
//! Identities are checked at τ and ρ, challenges that the verifier's transcript draws after every cell that they fold is committed; lookups at α, β and γ
//! likewise. An identity of degree d over the field of 2²⁵⁴ elements holds for a wrong witness with probability d/2²⁵⁴. `docs/soundness.md` has the whole argument.
//!
//! Cells that may hold anything, because nothing depends on them:
//!
//! - cells of columns that a row does not use, and the first row of every running sum, which is multiplied by zero;
//! - units that pad a row: those of a folded strip stand for powers that no output has, and no element reads them; others repeat an
//!   element;
//! - padding of the store: its powers of τ are no output's, or else the gate of its row does not read it;
//! - junk coefficients: each is what its position of the product is, and no output is at that position.

#[cfg(test)]
mod attack;
mod check;
mod circuit;
pub mod commitment;
mod config;
mod contraction;
mod copies;
mod cost;
mod digest;
mod factor;
mod fold;
mod gather;
mod identity;
mod late;
mod layout;
mod lower;
mod lowered;
mod num;
mod pack;
mod place;
mod plan;
pub mod poseidon;
mod prove;
mod search;
mod shortage;
mod sites;
mod store;
mod table;
mod template;
mod validate;
mod values;
mod visibility;
mod witness;

pub use check::{Bench, MockError, Violation, mock};
pub use circuit::{MachineParams, ModelCircuit, Overrides};
pub use commitment::OpeningSecret;
pub use config::MachineConfig;
pub use cost::{Counts, Prediction, Rates};
pub(crate) use digest::layout_digest;
pub use layout::{Cell, Choice, Col};
pub use plan::{LayerReport, Plan, PlanError, PlanOptions, PlanReport, ProveError, plan, plan_shared};
pub(crate) use prove::seal;
pub use prove::{ModelProof, keygen, prove, prove_circuit, prove_with, verify};
pub use shortage::Shortage;
pub use visibility::{Exposure, Part, Rule, Vis, Visibility};
