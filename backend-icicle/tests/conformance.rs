//! The suite on the loopback library, as both kinds of device, and with precomputed bases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use common::Fixture;
use parhelion_conformance::Sizes;

parhelion_conformance::suite!(cuda, try Fixture::cuda(), Sizes::STANDARD);
parhelion_conformance::suite!(cpu, try Fixture::cpu(), Sizes::SMALL);
parhelion_conformance::suite!(
    short_of_memory,
    try Fixture::cuda().inspect(|fixture| assert_eq!(fixture.library.control("memory 2000000"), 0)),
    Sizes::SMALL,
);
