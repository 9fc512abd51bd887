//! See [`parhelion_fuzz::onnx`].
#![no_main]

use libfuzzer_sys::{fuzz_crossover, fuzz_mutator, fuzz_target, fuzzer_mutate};
use parhelion_fuzz::{Target, mutate};

fuzz_target!(init: Target::Onnx.prepare(), |data: &[u8]| Target::Onnx.fuzz(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Some changes are left to libFuzzer, which knows nothing of messages.
    let made = if seed % 16 == 0 { None } else { mutate::mutate(&data[..size], max_size, seed) };
    match made {
        Some(file) => {
            data[..file.len()].copy_from_slice(&file);
            file.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

fuzz_crossover!(|a: &[u8], b: &[u8], out: &mut [u8], seed: u32| {
    let file = mutate::cross(a, b, out.len(), seed).unwrap_or_default();
    out[..file.len()].copy_from_slice(&file);
    file.len()
});
