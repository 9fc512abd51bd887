//! The bases of a structured reference string as the engine holds them, and commitments over them.

use group::Curve;
use halo2curves::bn256::{Fr, G1, G1Affine};
use parhelion_backend_api::hal::Ref;
use parhelion_backend_api::{Reuse, ScalarKind};
use parhelion_dispatch::EngineBases;

use crate::srs::Srs;
use crate::{Engine, Result};

/// Both bases, prepared by each backend when it first uses them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SrsBases {
    k: u32,
    monomial: EngineBases<G1Affine>,
    lagrange: EngineBases<G1Affine>,
}

impl SrsBases {
    pub(crate) fn new(engine: &Engine, srs: &Srs) -> Self {
        SrsBases {
            k: srs.k(),
            monomial: engine.load_bases(srs.g().clone(), Reuse::Often),
            lagrange: engine.load_bases(srs.g_lagrange().clone(), Reuse::Often),
        }
    }

    pub(crate) fn both(&self) -> [&EngineBases<G1Affine>; 2] {
        [&self.monomial, &self.lagrange]
    }

    pub(crate) fn k(&self) -> u32 {
        self.k
    }

    /// Commitments to columns given by their values on the domain, `per_call` at a time. `mirror` has the columns on the host where
    /// they are on a device.
    pub(crate) fn commit_lagrange(
        &self,
        engine: &Engine,
        columns: &[Ref<'_, Fr>],
        mirror: Option<&[&[Fr]]>,
        per_call: usize,
    ) -> Result<Vec<G1Affine>> {
        commit(engine, &self.lagrange, columns, mirror, per_call)
    }

    /// Commitments to polynomials given by their coefficients, `per_call` at a time.
    pub(crate) fn commit(
        &self,
        engine: &Engine,
        polys: &[Ref<'_, Fr>],
        per_call: usize,
    ) -> Result<Vec<G1Affine>> {
        commit(engine, &self.monomial, polys, None, per_call)
    }
}

fn commit(
    engine: &Engine,
    bases: &EngineBases<G1Affine>,
    columns: &[Ref<'_, Fr>],
    mirror: Option<&[&[Fr]]>,
    per_call: usize,
) -> Result<Vec<G1Affine>> {
    let mut affine = vec![G1Affine::default(); columns.len()];
    if columns.is_empty() {
        return Ok(affine);
    }
    let mut points = vec![G1::default(); columns.len()];
    let per_call = per_call.max(1);
    for (call, points) in points.chunks_mut(per_call).enumerate() {
        let range = call * per_call..call * per_call + points.len();
        // The backend sees each scalar anyway, so it finds the small ones itself: nothing is promised about blinded columns.
        let mirror = mirror.map(|mirror| &mirror[range.clone()]);
        engine.msm_mirrored(bases, &columns[range], mirror, ScalarKind::Full, points)?;
    }
    G1::batch_normalize(&points, &mut affine);
    Ok(affine)
}
