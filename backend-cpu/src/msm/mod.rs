//! Multi-scalar multiplication.

use std::any::Any;
use std::sync::Arc;

use halo2curves::bn256::{Fr, G1, G1Affine};
use halo2curves::group::prime::PrimeCurveAffine;
use parhelion_backend_api::hal::{Prepared, Ref};
use parhelion_backend_api::msm::check_batch;
use parhelion_backend_api::{Bases, Error, Msm, MsmShape, Queue, Reuse, ScalarKind, SpaceId, Support};

use crate::{Isa, IsaError};

/// Multi-scalar multiplication on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuMsm {
    _isa: Isa,
}

impl CpuMsm {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuMsm { _isa: isa.check()? })
    }
}

#[derive(Debug)]
struct CpuBases {
    points: Vec<G1Affine>,
}

impl Prepared for CpuBases {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Msm<G1Affine> for CpuMsm {
    fn supports(&self, _: &MsmShape) -> Support {
        Support::Yes
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        shape.len as u64 * 96
    }

    fn prepare(&self, _: &Queue, bases: &[G1Affine], _: Reuse) -> Result<Bases<G1Affine>, Error> {
        Ok(Bases::new(Arc::new(CpuBases { points: bases.to_vec() }), bases.len()))
    }

    fn msm_batch(
        &self,
        _: &Queue,
        bases: &Bases<G1Affine>,
        scalars: &[Ref<'_, Fr>],
        _: ScalarKind,
        out: &mut [G1],
    ) -> Result<(), Error> {
        check_batch(bases.len(), scalars, out.len())?;
        let bases = bases.downcast::<CpuBases>(SpaceId::HOST)?;
        let columns = scalars.iter().map(Ref::as_host).collect::<Result<Vec<_>, _>>()?;
        for (column, out) in columns.into_iter().zip(out) {
            let (s, b): (Vec<Fr>, Vec<G1Affine>) = column
                .iter()
                .zip(&bases.points)
                .filter(|(_, b)| !bool::from(b.is_identity()))
                .map(|(s, b)| (*s, *b))
                .unzip();
            *out = if s.is_empty() { G1::default() } else { halo2curves::msm::msm_best(&s, &b) };
        }
        Ok(())
    }
}
