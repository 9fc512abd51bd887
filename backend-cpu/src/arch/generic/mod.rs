//! Portable kernels, on 64-bit words.

pub(crate) mod field;
pub(crate) mod ntt;
mod points;
pub(crate) mod poly;
pub(crate) mod quotient;

pub(crate) use points::ScalarPoints;
