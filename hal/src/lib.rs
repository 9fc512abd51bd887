//! What every Parhelion backend shares, below the operation traits: memory spaces, buffers, borrows, queues and errors.
//!
//! # Design choices
//!
//! - **A space is a name, not an enum.** `host`, `cuda:0`, `webgpu:0`, `fpga-sim:0`: the set is open, so a backend written
//!   elsewhere needs no change here. A space is where bytes live; who computes on them is another question (two
//!   libraries may share one device).
//! - **One canonical layout at every trait boundary**: Montgomery limbs, little-endian, natural order,
//!   column-contiguous; affine points as `x ‖ y` with the identity as `(0, 0)`. A backend that prefers another layout
//!   converts inside, and the conversion counts in its measured time.
//! - **Host data is legal everywhere.** [`Ref::host`] can be passed to any operation of any backend, which stages the
//!   copy itself. A device reference must be of the backend's own space, else [`Error::WrongSpace`].
//! - **Failure rule.** On [`Error::Unsupported`] and [`Error::OutOfMemory`] no operand has been written, so the same call may
//!   be retried elsewhere. After any other error the operands are unspecified and the stage restarts from host data.
//! - **Completion rule.** Anything that touches host memory is complete when the call returns. Work between device buffers
//!   may still be pending on its [`Queue`]; frees are ordered after pending work.
//! - **No process globals.** Device state hangs from a `Provider`; the one static of the project is in the facade crate.
//!
//! `docs/trait-contract.md` in the repository states the same as a contract with the test that checks each clause.

mod buffer;
mod error;
mod repr;
mod space;

pub use buffer::{Buffer, Place, RawBuffer, Ref, RefMut};
pub use error::{Error, Result};
pub use repr::{DeviceRepr, as_bytes, as_bytes_mut};
pub use space::{DeviceInfo, HostSpace, Limits, MemoryInfo, Part, Prepared, Queue, Space, SpaceId, Support};

/// The name of an operation that a backend may offer; used in errors, reports, knobs and cost tables.
///
/// The set is open: a trait crate of a further operation names it by [`Op::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Op(&'static str);

impl Op {
    /// Multi-scalar multiplication over prepared bases.
    pub const MSM: Op = Op("msm");
    /// Number-theoretic transform, forward or inverse, on a coset or not.
    pub const NTT: Op = Op("ntt");
    /// Evaluation of a straight-line program over the rows of a set of columns.
    pub const QUOTIENT: Op = Op("quotient");
    /// Any of the fused polynomial operations (`PolyOps`).
    pub const POLY: Op = Op("poly");

    /// The operations of a PLONK prover, in the order in which tables and reports list them.
    pub const PLONK: [Op; 4] = [Op::MSM, Op::NTT, Op::QUOTIENT, Op::POLY];

    /// An operation by its lower-case name, which no other has.
    pub const fn new(name: &'static str) -> Self {
        Op(name)
    }

    /// The lower-case name used in knobs, tables and reports: `msm`, `ntt`, `quotient`, `poly`.
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An operation trait, as the key under which a provider offers it: `dyn Msm<C>`, `dyn Ntt<F>`.
///
/// The crate of an operation implements this for its own trait objects, so that nothing here and in no backend changes for a new one.
pub trait Capability: Send + Sync + 'static {
    /// The operation.
    const OP: Op;
}
