//! See [`parhelion_fuzz::settings`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use parhelion_fuzz::Target;

fuzz_target!(init: Target::Settings.prepare(), |data: &[u8]| Target::Settings.fuzz(data));
