//! Portable kernels, on 64-bit words.

mod points;

pub(crate) use points::ScalarPoints;
