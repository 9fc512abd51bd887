//! CUDA as a backend: everything that a proof offloads, on columns that stay in the card's memory.
//!
//! The kernels are in `kernels/`, ours, over the field arithmetic of the crate [`sppark`](https://crates.io/crates/sppark). They are compiled
//! with the feature `cuda`, which needs nvcc; without it the crate builds anywhere and says that it has no kernels. The runtime of CUDA is
//! linked statically, so that a program that was built elsewhere runs where there is a driver.
//!
//! # How it is kept correct
//!
//! The same sources compile as plain C++ (feature `host-emulation`), as a simulated device that runs a kernel's threads one after the other. The
//! conformance suite, whole proofs and injected failures run against it in continuous integration; what differs on a card is the arithmetic
//! of one field element, which is sppark's, and the driver.
//!
//! # How it deals with the card
//!
//! - **Threads.** One context per device, for as long as anybody holds it, behind a lock; every call makes its device current, so that
//!   it does not matter who calls.
//! - **Memory.** All memory is taken through the context, which keeps to a budget ([`SpparkOptions::memory`]), forgets what it only
//!   remembers (roots of unity, powers of shifts) before it refuses, and refuses before anything is written.
//! - **Copies** of host columns go through page-locked memory in pieces that are filled on several cores while the piece before is on its
//!   way, on streams of their own beside the kernels; [`SpparkBackend::traffic`] counts them.
//! - **Failures.** No exception leaves the C interface. After a failure that is not about memory the card is asked whether it is still there; if
//!   not, the device is lost for good, and the engine goes on elsewhere. So it does when the card does not finish its work within a limit
//!   ([`SpparkOptions::timeout`]): the host never blocks in the driver, and leaves to a lost card what that may still use.
//! - **Lies.** A result of a multiplication must be a point of the curve; whether it is the right one is for the engine to check.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod buffer;
mod device;
mod error;
mod ffi;
mod msm;
mod ntt;
mod operands;
mod options;
mod poly;
mod quotient;
mod session;

pub use backend::{SpparkBackend, Traffic};
pub use error::Failure;
pub use options::SpparkOptions;

/// The name of this backend in knobs, tables and reports.
pub const NAME: &str = "sppark";
