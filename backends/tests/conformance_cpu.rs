//! The conformance suite on every instruction set of the CPU backend, with and without multiples of the bases, and on the one
//! that `PARHELION_CPU_ISA` asks for.

use parhelion_backend_cpu::{CpuBackend, Isa};
use parhelion_conformance::{Checked, Naive, Remote, Sizes};

parhelion_conformance::suite!(chosen, CpuBackend::new(), Sizes::STANDARD);
parhelion_conformance::suite!(scalar, try CpuBackend::with_isa(Isa::Scalar), Sizes::STANDARD);
parhelion_conformance::suite!(ifma, try CpuBackend::with_isa(Isa::Ifma), Sizes::STANDARD);
parhelion_conformance::suite!(
    scalar_precomputed,
    try CpuBackend::with_isa(Isa::Scalar).map(|backend| backend.with_precompute(64 << 20)),
    Sizes::STANDARD
);
parhelion_conformance::suite!(
    ifma_precomputed,
    try CpuBackend::with_isa(Isa::Ifma).map(|backend| backend.with_precompute(64 << 20)),
    Sizes::STANDARD
);
parhelion_conformance::suite!(remote, Remote::new(CpuBackend::new()), Sizes::STANDARD);
parhelion_conformance::suite!(checked, Checked::new(CpuBackend::new(), Naive), Sizes::SMALL);
