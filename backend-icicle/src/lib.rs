//! Icicle v3 and v4 as a backend: whatever devices an installed Icicle has, found and bound at run time.
//!
//! Nothing of Icicle, CUDA or C++ is needed to build. At run time three libraries of Icicle's front end are opened with `dlopen`,
//! then the device backends that are installed beside them; see [`IcicleOptions`] for where they are looked for. Where something is
//! missing, [`IcicleBackend::probe`](parhelion_backend_api::Backend::probe) says what, in words.
//!
//! # How it deals with the library
//!
//! - **Threads.** Icicle's device is a property of the calling thread, and a thread that never chose one gets the slow CPU device
//!   without notice. Every device has one thread here, which is the only one that calls the library.
//! - **Exceptions.** Unknown devices, operations that a backend did not register and transforms beyond the domain throw C++ exceptions
//!   through the C interface, which ends the process. Each is ruled out before the call.
//! - **Hangs.** A call that does not return in time makes the device lost; the caller gets
//!   [`DeviceLost`](parhelion_backend_api::Error::DeviceLost) and its memory back, since the library only ever sees memory that
//!   belongs to the device.
//! - **Forms.** Scalars and columns cross in Montgomery form, bases are converted to standard form on the device, once per handle.
//!   Bases in Montgomery form are never passed to a multiplication: some versions ignore the flag.
//! - **Lies.** A result must be a point of the curve; whether it is the right one is for the engine to check.
//!
//! Operations: multi-scalar multiplication and transforms.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod buffer;
mod columns;
mod device;
mod error;
mod ffi;
mod library;
mod msm;
mod ntt;
mod options;
mod session;

pub use backend::IcicleBackend;
pub use error::{Failure, IcicleError};
pub use options::IcicleOptions;

/// The name of this backend in knobs, tables and reports.
pub const NAME: &str = "icicle";
