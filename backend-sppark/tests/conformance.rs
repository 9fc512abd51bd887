//! The suite on the kernels as plain C++, in every radix, and on a card where there is one.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use parhelion_backend_sppark::{SpparkBackend, SpparkOptions};
use parhelion_conformance::Sizes;

fn emulated(radix: u32) -> SpparkBackend {
    SpparkBackend::emulated(SpparkOptions { radix: Some(radix), ..SpparkOptions::default() })
}

parhelion_conformance::suite!(cuda, SpparkBackend::new(), Sizes::STANDARD);
parhelion_conformance::suite!(kernels, SpparkBackend::emulated(SpparkOptions::default()), Sizes::STANDARD);
parhelion_conformance::suite!(radix_2, emulated(1), Sizes::SMALL);
parhelion_conformance::suite!(radix_4, emulated(2), Sizes::SMALL);
parhelion_conformance::suite!(radix_16, emulated(4), Sizes::SMALL);
parhelion_conformance::suite!(
    multiples,
    SpparkBackend::emulated(SpparkOptions { precompute: 64 << 20, ..SpparkOptions::default() }),
    Sizes::SMALL,
);
parhelion_conformance::suite!(
    short_of_memory,
    SpparkBackend::emulated(SpparkOptions { memory: Some(3 << 20), ..SpparkOptions::default() }),
    // More windows, and more columns, than there is room for at a time.
    Sizes { msm_known: 5000, ntt_linear: 13, ..Sizes::SMALL },
);
