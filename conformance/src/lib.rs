//! One suite for every backend, oracles and test doubles.
#![forbid(unsafe_code)]

mod doubles;

pub use doubles::{
    Checked, Fault, FaultKind, Faulty, FaultyControl, Mismatch, Naive, Null, Recording, Remote, horner,
    points,
};
pub use parhelion_backend_api::Curve;
