//! The CPU backend: BN254 on whatever instructions the machine has.
//!
//! Every operation has a portable path; machines with AVX-512 IFMA get a second one, chosen at run time, never at build time:
//! see [`Isa`]. Both compute the same field elements, so results do not depend on the choice. Work is spread over the current
//! `rayon` pool.

mod arch;
mod device;
mod error;
mod ffi;
mod memory;
mod msm;
mod ntt;
mod parallel;
mod poly;
mod quotient;

pub use arch::Isa;
pub use device::CpuBackend;
pub use error::{IsaError, PrecomputeError};
pub use ffi::release_memory;
pub use msm::CpuMsm;
pub use ntt::CpuNtt;
pub use poly::CpuPoly;
pub use quotient::CpuQuotient;

/// The name of this backend in knobs, tables and reports.
pub const NAME: &str = "cpu";
