//! Portable kernels, on 64-bit words.

pub(crate) mod field;
pub(crate) mod ntt;
mod points;

pub(crate) use points::ScalarPoints;
