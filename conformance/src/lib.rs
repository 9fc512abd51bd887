//! One suite for every backend, oracles and test doubles.
#![forbid(unsafe_code)]

mod naive;

pub use naive::{Naive, horner, points};
pub use parhelion_backend_api::Curve;
