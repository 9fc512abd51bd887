//! See [`parhelion_fuzz::input`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use parhelion_fuzz::Target;

fuzz_target!(init: Target::Input.prepare(), |data: &[u8]| Target::Input.fuzz(data));
