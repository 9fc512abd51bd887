//! ONNX in, verified zero-knowledge proof out.
#![forbid(unsafe_code)]

// Tests of the circuit's insides share their programs with those of its outside.
#[cfg(test)]
extern crate self as parhelion_zkml;

pub mod exec;
pub mod float;
pub mod input;
pub mod machine;
pub mod onnx;
pub mod qir;
pub mod quant;
pub mod session;
