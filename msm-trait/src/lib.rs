//! The multi-scalar multiplication trait.
//!
//! One required computation, on the batch: several scalar columns over one set of prepared bases. Everything else is derived
//! from it. Bases are prepared once per structured reference string and live as long as their handle.

use std::fmt::Debug;
use std::sync::Arc;

use halo2curves::CurveAffine;
use parhelion_hal::{Capability, DeviceRepr, Error, Op, Prepared, Queue, Ref, Result, SpaceId, Support};

/// A promise by the caller about the magnitude of scalars. zkML witnesses are mostly small.
///
/// A backend may use the promise or ignore it; a scalar that breaks it gives an unspecified result (never an unsafe one), so
/// callers that did not look promise [`ScalarKind::Full`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScalarKind {
    /// Any field element.
    Full,
    /// Canonical value below 2^`bits`.
    Unsigned {
        /// Number of bits.
        bits: u16,
    },
    /// Canonical value below 2^`bits`, or above r − 2^`bits`.
    Signed {
        /// Number of bits of the magnitude.
        bits: u16,
    },
}

/// The shape of one call, enough to decide on legality and to look up a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MsmShape {
    /// Length of the longest column.
    pub len: usize,
    /// Number of columns.
    pub batch: usize,
    /// Promise about the scalars.
    pub scalars: ScalarKind,
}

/// How often a set of bases will be used; a backend decides by it how much to precompute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// A few times.
    Once,
    /// For the life of the process.
    Often,
}

/// Bases in the form that one backend wants them in. Opaque to callers.
#[derive(Clone, Debug)]
pub struct Bases<C> {
    inner: Arc<dyn Prepared>,
    len: usize,
    _curve: std::marker::PhantomData<C>,
}

impl<C: CurveAffine> Bases<C> {
    /// Wraps what a backend prepared from `len` points.
    pub fn new(inner: Arc<dyn Prepared>, len: usize) -> Self {
        Bases { inner, len, _curve: std::marker::PhantomData }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The space that they live in.
    pub fn space(&self) -> SpaceId {
        self.inner.space()
    }

    /// The backend's own object.
    ///
    /// # Errors
    /// [`Error::WrongSpace`] when another backend prepared it.
    pub fn downcast<T: 'static>(&self, expected: SpaceId) -> Result<&T> {
        self.inner.as_any().downcast_ref().ok_or(Error::WrongSpace {
            name: "bases",
            expected,
            found: self.inner.space(),
        })
    }
}

/// Multi-scalar multiplication on one device.
pub trait Msm<C: CurveAffine>: Debug + Send + Sync
where
    C::ScalarExt: DeviceRepr,
{
    /// Whether a call of this shape is legal. No device work.
    fn supports(&self, shape: &MsmShape) -> Support;

    /// Temporary bytes that a call of this shape needs in the backend's space.
    fn workspace(&self, shape: &MsmShape) -> u64;

    /// Uploads, converts and precomputes. `bases` may hold the identity, encoded as `(0, 0)`, and duplicates.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or the device's own.
    fn prepare(&self, queue: &Queue, bases: &[C], reuse: Reuse) -> Result<Bases<C>>;

    /// **Mathematical description.** `out[i] = Σ_j scalars[i][j] · bases[j]`, for `j < scalars[i].len() ≤ bases.len()`. An
    /// empty column gives the identity.
    ///
    /// The result is an element of the group; its projective representative is unspecified, so callers normalise before
    /// they compare or hash.
    ///
    /// # Errors
    /// [`Error::Length`] when a column is longer than the bases or `out.len() != scalars.len()`; otherwise the failure rule
    /// of `parhelion-hal` holds.
    fn msm_batch(
        &self,
        queue: &Queue,
        bases: &Bases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()>;

    /// A batch of one.
    ///
    /// # Errors
    /// As [`Msm::msm_batch`].
    fn msm(
        &self,
        queue: &Queue,
        bases: &Bases<C>,
        scalars: Ref<'_, C::ScalarExt>,
        kind: ScalarKind,
    ) -> Result<C::CurveExt> {
        let mut out = [C::CurveExt::default()];
        self.msm_batch(queue, bases, &[scalars], kind, &mut out)?;
        Ok(out[0])
    }
}

impl<C: CurveAffine> Capability for dyn Msm<C>
where
    C::ScalarExt: DeviceRepr,
{
    const OP: Op = Op::MSM;
}

/// The argument checks that every implementation of [`Msm::msm_batch`] makes before it does anything.
///
/// # Errors
/// [`Error::Length`] when a column is longer than the bases or the output has another length than the batch.
pub fn check_batch<F: DeviceRepr>(bases: usize, scalars: &[Ref<'_, F>], out: usize) -> Result<()> {
    Error::check_len("msm output", scalars.len(), out)?;
    match scalars.iter().find(|column| column.len() > bases) {
        Some(column) => Err(Error::Length { what: "msm scalars", expected: bases, found: column.len() }),
        None => Ok(()),
    }
}
