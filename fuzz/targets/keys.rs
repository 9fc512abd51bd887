//! See [`parhelion_fuzz::keys`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use parhelion_fuzz::Target;

fuzz_target!(init: Target::Keys.prepare(), |data: &[u8]| Target::Keys.fuzz(data));
