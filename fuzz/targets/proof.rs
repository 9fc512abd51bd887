//! See [`parhelion_fuzz::proof`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use parhelion_fuzz::Target;

fuzz_target!(init: Target::Proof.prepare(), |data: &[u8]| Target::Proof.fuzz(data));
