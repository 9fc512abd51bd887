//! A stand-in for Icicle's libraries: the C symbols that `parhelion-backend-icicle` binds, computed by `parhelion-backend-cpu`, with
//! the manners of the real ones and faults on request.
//!
//! One shared library plays all roles: device, field, curve, and the backend of a `CUDA` device. Its device memory is not host
//! memory: addresses are made up, so that whoever reads one without the library crashes. What the real libraries compute
//! wrongly it computes wrongly too (points in Montgomery form where the flag is ignored, bases precomputed for another window,
//! a root of unity of another generator), and where they would throw a C++ exception it writes down a *violation*.
//!
//! [`Loopback`] installs a fresh copy, which is an instance of its own with its own state, and controls it. Faults:
//!
//! | command | effect |
//! |---|---|
//! | `fail CALL NTH CODE` | the NTH call from now (0 is the next) returns CODE |
//! | `corrupt CALL NTH SEED` | the call succeeds with a wrong result; the seed chooses where |
//! | `hang CALL NTH MS` | the call takes MS milliseconds, then fails |
//! | `lose NTH` | from the NTH call of anything on, every call on a device fails |
//! | `memory BYTES` | the device's memory |
//! | `devices N` | number of `CUDA` devices |
//! | `strict 1` | a thread that never set a device is refused, where Icicle would compute on its CPU device; `strict 0` ends it |
//! | `reset` | no faults, nothing lost, counters at zero |
//! | `calls CALL`, `injected`, `live`, `violations` | counters: calls, faults that happened, allocations that live, violations |

mod client;
mod compute;
mod state;
pub mod symbols;

pub use client::{Loopback, LoopbackError};
