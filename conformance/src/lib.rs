//! One suite for every backend, oracles and test doubles.
#![forbid(unsafe_code)]

mod naive;

use halo2curves::CurveAffine;
use parhelion_backend_api::hal::DeviceRepr;

pub use naive::{Naive, horner, points};

/// A curve whose points and scalars may cross the operation boundary: shorthand for the bounds of
/// [`parhelion_backend_api::Backend`].
pub trait Curve: CurveAffine<ScalarExt: DeviceRepr> + DeviceRepr {}

impl<C: CurveAffine<ScalarExt: DeviceRepr> + DeviceRepr> Curve for C {}
