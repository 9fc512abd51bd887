//! ONNX in, verified zero-knowledge proof out.
#![forbid(unsafe_code)]

pub mod exec;
pub mod float;
pub mod input;
pub mod onnx;
pub mod machine;
pub mod qir;
pub mod quant;
pub mod session;
