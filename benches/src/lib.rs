//! Benchmarks of Parhelion: the comparison harness for zkML models lives in the binary `model-suite`.
#![forbid(unsafe_code)]
