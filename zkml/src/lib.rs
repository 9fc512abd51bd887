//! ONNX in, verified zero-knowledge proof out.
#![forbid(unsafe_code)]

pub mod exec;
pub mod float;
pub mod input;
pub mod machine;
pub mod onnx;
pub mod qir;
pub mod quant;
pub mod session;
