//! What one backend offers on one device. With the operation traits, all that a backend author depends on.
//!
//! A [`Backend`] finds devices and opens them; a [`Provider`] is an open device with the operations that it offers, keyed by their traits.
//! `None` is a legal, permanent answer, so an accelerator may offer multi-scalar multiplication alone, and a new operation, or a field without
//! a curve, changes no backend. Providers live for the whole process and are usable from any thread.

pub mod knob;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use ff::PrimeField;
use halo2curves::CurveAffine;
use parhelion_hal::{Capability, DeviceRepr, Result, Space};

pub use knob::{Knob, KnobKind, parse_bytes};

pub use parhelion_hal as hal;
pub use parhelion_hal::{DeviceInfo, Error, Op, Queue, SpaceId, Support};
pub use parhelion_msm_trait::{self as msm, Bases, Msm, MsmShape, Reuse, ScalarKind};
pub use parhelion_ntt_trait::{self as ntt, Direction, Ntt, NttPlan, NttShape};
pub use parhelion_quotient_trait::{
    self as quotient, Compiled, Domain, Piece, Pieces, Place, PolyCall, PolyOps, PolyShape, Program,
    ProgramLimits, Quotient, QuotientShape, Recurrence, Source, Step,
};

/// Why a backend has no device here, in words: "libcuda.so.1 not found".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend}: {why}")]
pub struct Unavailable {
    /// Name of the backend.
    pub backend: &'static str,
    /// The reason.
    pub why: String,
}

/// A curve whose points and scalars may cross the operation boundary: shorthand for the bounds that everything above the
/// operation traits repeats.
pub trait Curve: CurveAffine<ScalarExt: DeviceRepr> + DeviceRepr {}

impl<C: CurveAffine<ScalarExt: DeviceRepr> + DeviceRepr> Curve for C {}

/// A way to compute: a library, a language, an instruction set.
pub trait Backend: Debug + Send + Sync {
    /// The name used in knobs, tables and reports: lower case, no spaces.
    fn name(&self) -> &'static str;

    /// The devices here, without opening any.
    ///
    /// # Errors
    /// [`Unavailable`] when there is none, with the reason.
    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable>;

    /// Opens a device that [`Backend::probe`] found.
    ///
    /// # Errors
    /// The device's own.
    fn open(&self, device: &DeviceInfo) -> Result<Provider>;

    /// The environment variables that the backend reads.
    fn knobs(&self) -> &'static [Knob] {
        &[]
    }

    /// What every device of the backend computes at least. The conformance suite holds it to that: an operation that is promised, and that
    /// [`Provider`] does not offer or does not support, is a failure instead of a legal absence.
    fn promises(&self) -> &'static [Promise] {
        &[]
    }
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        (**self).probe()
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider> {
        (**self).open(device)
    }

    fn knobs(&self) -> &'static [Knob] {
        (**self).knobs()
    }

    fn promises(&self) -> &'static [Promise] {
        (**self).promises()
    }
}

/// An operation with the sizes up to which it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The operation.
    pub op: Op,
    /// log₂ of the length up to which every shape is supported.
    pub log_n: u32,
}

impl Promise {
    /// Every operation of a PLONK prover, up to 2^`log_n` elements.
    pub const fn plonk(log_n: u32) -> [Promise; 4] {
        let [msm, ntt, quotient, poly] = Op::PLONK;
        [
            Promise { op: msm, log_n },
            Promise { op: ntt, log_n },
            Promise { op: quotient, log_n },
            Promise { op: poly, log_n },
        ]
    }
}

/// An operation as a provider keeps it.
#[derive(Clone)]
struct Offer {
    op: Op,
    /// An `Arc` of the trait object whose type is the key.
    object: Arc<dyn Any + Send + Sync>,
}

/// What one backend offers on one open device.
#[derive(Clone)]
#[non_exhaustive]
pub struct Provider {
    /// The device.
    pub info: DeviceInfo,
    /// Its memory.
    pub space: Arc<dyn Space>,
    offers: HashMap<TypeId, Offer>,
}

impl Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("info", &self.info)
            .field("space", &self.space)
            .field("ops", &self.ops().collect::<Vec<_>>())
            .finish()
    }
}

impl Provider {
    /// An open device that offers nothing yet.
    pub fn new(info: DeviceInfo, space: Arc<dyn Space>) -> Self {
        Provider { info, space, offers: HashMap::new() }
    }

    /// With an operation, in place of one of the same trait: `offer::<dyn Msm<G1Affine>>(msm)`.
    #[must_use]
    pub fn offer<T: Capability + ?Sized>(mut self, operation: Arc<T>) -> Self {
        self.offers.insert(TypeId::of::<T>(), Offer { op: T::OP, object: Arc::new(operation) });
        self
    }

    /// [`Provider::offer`], where there is one.
    #[must_use]
    pub fn offer_some<T: Capability + ?Sized>(self, operation: Option<Arc<T>>) -> Self {
        match operation {
            Some(operation) => self.offer(operation),
            None => self,
        }
    }

    /// Without an operation.
    #[must_use]
    pub fn without<T: Capability + ?Sized>(mut self) -> Self {
        self.offers.remove(&TypeId::of::<T>());
        self
    }

    /// The operation of a trait, if the device offers it: `get::<dyn Msm<G1Affine>>()`.
    pub fn get<T: Capability + ?Sized>(&self) -> Option<Arc<T>> {
        self.offers.get(&TypeId::of::<T>())?.object.downcast_ref::<Arc<T>>().cloned()
    }

    /// Multi-scalar multiplication over a curve.
    pub fn msm<C: Curve>(&self) -> Option<Arc<dyn Msm<C>>> {
        self.get()
    }

    /// Number-theoretic transforms over a field.
    pub fn ntt<F: PrimeField + DeviceRepr>(&self) -> Option<Arc<dyn Ntt<F>>> {
        self.get()
    }

    /// Program evaluation over a field.
    pub fn quotient<F: PrimeField + DeviceRepr>(&self) -> Option<Arc<dyn Quotient<F>>> {
        self.get()
    }

    /// Polynomial operations over a field.
    pub fn poly<F: PrimeField + DeviceRepr>(&self) -> Option<Arc<dyn PolyOps<F>>> {
        self.get()
    }

    /// The operations that it offers, those of a PLONK prover first.
    pub fn ops(&self) -> impl Iterator<Item = Op> + '_ {
        let place = |op: &Op| (Op::PLONK.iter().position(|known| known == op).unwrap_or(usize::MAX), *op);
        let mut ops: Vec<Op> = self.offers.values().map(|offer| offer.op).collect();
        ops.sort_by_key(place);
        ops.dedup();
        ops.into_iter()
    }
}
