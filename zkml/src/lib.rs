//! ONNX in, verified zero-knowledge proof out.
#![forbid(unsafe_code)]

pub mod qir;
