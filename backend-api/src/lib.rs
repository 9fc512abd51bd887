//! What one backend offers on one device. With the operation traits, all that a backend author depends on.
//!
//! A [`Backend`] finds devices and opens them; a [`Provider`] is an open device, each operation an `Option`: `None` is a legal,
//! permanent answer, so an accelerator may offer multi-scalar multiplication alone. Providers live for the whole process and
//! are usable from any thread.

use std::fmt::Debug;
use std::sync::Arc;

use ff::PrimeField;
use halo2curves::CurveAffine;
use parhelion_hal::{DeviceRepr, Result, Space};

pub use parhelion_hal as hal;
pub use parhelion_hal::{DeviceInfo, Error, Op, Queue, SpaceId, Support};
pub use parhelion_msm_trait::{self as msm, Bases, Msm, MsmShape, Reuse, ScalarKind};
pub use parhelion_ntt_trait::{self as ntt, Direction, Ntt, NttPlan, NttShape};
pub use parhelion_quotient_trait::{
    self as quotient, Compiled, Domain, PolyOps, Program, Quotient, QuotientShape, Source, Step,
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
pub trait Backend<C: CurveAffine>: Debug + Send + Sync
where
    C: DeviceRepr,
    C::ScalarExt: DeviceRepr + PrimeField,
{
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
    fn open(&self, device: &DeviceInfo) -> Result<Provider<C>>;
}

impl<C: CurveAffine, B: Backend<C> + ?Sized> Backend<C> for Box<B>
where
    C: DeviceRepr,
    C::ScalarExt: DeviceRepr + PrimeField,
{
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        (**self).probe()
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider<C>> {
        (**self).open(device)
    }
}

/// What one backend offers on one open device.
#[derive(Clone, Debug)]
pub struct Provider<C: CurveAffine>
where
    C: DeviceRepr,
    C::ScalarExt: DeviceRepr + PrimeField,
{
    /// The device.
    pub info: DeviceInfo,
    /// Its memory.
    pub space: Arc<dyn Space>,
    /// Multi-scalar multiplication.
    pub msm: Option<Arc<dyn Msm<C>>>,
    /// Number-theoretic transforms.
    pub ntt: Option<Arc<dyn Ntt<C::ScalarExt>>>,
    /// Program evaluation.
    pub quotient: Option<Arc<dyn Quotient<C::ScalarExt>>>,
    /// Polynomial operations.
    pub poly: Option<Arc<dyn PolyOps<C::ScalarExt>>>,
}

impl<C: CurveAffine> Provider<C>
where
    C: DeviceRepr,
    C::ScalarExt: DeviceRepr + PrimeField,
{
    /// The operations that it offers.
    pub fn ops(&self) -> impl Iterator<Item = Op> + '_ {
        Op::ALL.into_iter().filter(|op| match op {
            Op::Msm => self.msm.is_some(),
            Op::Ntt => self.ntt.is_some(),
            Op::Quotient => self.quotient.is_some(),
            Op::Poly => self.poly.is_some(),
            _ => false,
        })
    }
}
