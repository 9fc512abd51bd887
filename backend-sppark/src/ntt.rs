//! Transforms: halo2's root, any shift, natural order on both sides.
//!
//! sppark's own tables are of generator 5 and its coset is fixed to it, so the kernels are given the root and the shift of every call; they keep
//! the powers that they need of both.

use std::sync::Arc;

use ff::{Field, PrimeField};
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut, Space, as_bytes};
use parhelion_backend_api::ntt::{check_columns, check_plan};
use parhelion_backend_api::{Direction, Error, Ntt, NttPlan, NttShape, Op, Queue, Support};

use crate::NAME;
use crate::buffer::DeviceSpace;
use crate::device::Device;
use crate::error::Failure;
use crate::ffi::Transform;
use crate::operands::{Brought, Source, Target};
use crate::session::{SCALAR, limbs};

/// Longest transform: the field has no longer ones.
const MAX_LOG_N: u32 = 28;

/// Transforms on a device.
#[derive(Debug)]
pub(crate) struct SpparkNtt(pub(crate) Arc<Device>);

fn transform(plan: &NttPlan<Fr>) -> Transform {
    let shift = plan.coset.unwrap_or(Fr::ONE);
    // The shift is not zero and the length is a power of two, so that both have inverses.
    let inverse = |value: Fr| value.invert().unwrap_or(Fr::ZERO);
    Transform {
        root: limbs(&Fr::ROOT_OF_UNITY),
        shift: limbs(&shift),
        shift_inverse: limbs(&inverse(shift)),
        size_inverse: limbs(&Fr::TWO_INV.pow_vartime([u64::from(plan.log_n)])),
        log_n: plan.log_n,
        inverse: u32::from(plan.direction == Direction::Inverse),
        coset: u32::from(plan.coset.is_some()),
        root_log: Fr::S,
    }
}

impl SpparkNtt {
    /// Transforms sources into targets, or targets in place where there are no sources, in groups for which there is room. Where columns come from the
    /// host or go there, one group is on its way to the device while the one before is transformed and comes back.
    fn run(
        &self,
        plan: &NttPlan<Fr>,
        sources: Option<&[Source<'_>]>,
        mut targets: Vec<Target<'_>>,
    ) -> Result<(), Error> {
        let device = &self.0;
        let bytes = SCALAR << plan.log_n;
        // Two groups are there at a time, and the workspace of one.
        let room = device.memory_info().free.unwrap_or(0) / 5;
        let per_group = usize::try_from(room / bytes).unwrap_or(usize::MAX).clamp(1, 1 << 12);
        let moves = targets.iter().any(|target| matches!(target, Target::Host(_)))
            || sources.is_some_and(|sources| sources.iter().any(|source| matches!(source, Source::Host(_))));
        let overlapped =
            if moves && plan.log_n >= OVERLAP_FROM { targets.len().div_ceil(GROUPS) } else { per_group };
        let per_group = per_group.min(overlapped.max(1));
        let plan = transform(plan);
        let mut written = false;
        let mut first = 0;
        let mut before: Option<(Begun<'_>, &mut [Target<'_>])> = None;
        let failed = |written: bool| {
            move |(failure, touched): (Failure, bool)| {
                if written || touched { failure.touched() } else { failure.untouched(Op::NTT) }
            }
        };
        for targets in targets.chunks_mut(per_group) {
            let sources = sources.and_then(|sources| sources.get(first..first + targets.len()));
            first += targets.len();
            let begun = self.begin(&plan, sources, targets).map_err(failed(written))?;
            // What is resident may be written by now, and what is not will be by the next line.
            written = true;
            if let Some((begun, targets)) = before.replace((begun, targets)) {
                self.finish(&begun, targets).map_err(Failure::touched)?;
            }
        }
        match before {
            Some((begun, targets)) => self.finish(&begun, targets).map_err(Failure::touched),
            None => Ok(()),
        }
    }

    /// Brings one group and lets it be transformed. A failure comes with whether something may have been written.
    fn begin<'a>(
        &self,
        plan: &Transform,
        sources: Option<&[Source<'a>]>,
        targets: &[Target<'a>],
    ) -> Result<Begun<'a>, (Failure, bool)> {
        let device = &self.0;
        let untouched = |failure| (failure, false);
        let session = device.session().map_err(untouched)?;
        let bytes = SCALAR << plan.log_n;
        // Where results go: to the targets, or to room for those that are on the host.
        let places = targets.iter().map(|target| match target {
            Target::Resident(slice) => Ok(*slice),
            Target::Host(_) => Err(bytes),
        });
        let results = Brought::room(device, &session, places).map_err(untouched)?;
        // Where values come from: a host column goes to the room of its result if there is one, for it is not to be written before success.
        let staged =
            (0..targets.len()).map(|i| match (sources.and_then(|sources| sources.get(i)), &targets[i]) {
                (Some(Source::Resident(slice)), _) => Ok(*slice),
                (Some(Source::Host(values)), Target::Resident(_)) => Err(values.len() as u64 * SCALAR),
                (Some(Source::Host(_)) | None, Target::Host(_)) => Err(0),
                (None, Target::Resident(slice)) => Ok(*slice),
            });
        let staged = Brought::room(device, &session, staged).map_err(untouched)?;
        let to = results.slices().map_err(untouched)?;
        let mut from = staged.slices().map_err(untouched)?;
        for (i, (target, place)) in targets.iter().zip(from.iter_mut()).enumerate() {
            let values: &[Fr] = match (sources.and_then(|sources| sources.get(i)), target) {
                (Some(Source::Host(values)), _) => values,
                (None, Target::Host(values)) => values,
                _ => continue,
            };
            if matches!(target, Target::Host(_)) {
                *place = to[i].part(values.len() as u64 * SCALAR).map_err(untouched)?;
            }
            session.upload(as_bytes(values), place).map_err(untouched)?;
        }
        let resident = targets.iter().any(|target| matches!(target, Target::Resident(_)));
        // Workspace is taken before the first kernel is launched, so that a lack of it leaves everything as it was.
        session.ntt(plan, &from, &to).map_err(|failure| {
            let touched = resident && !matches!(failure, Failure::Memory { .. });
            (failure, touched)
        })?;
        drop((to, from));
        Ok(Begun { results, _staged: staged })
    }

    /// Takes the results of one group to where they belong.
    fn finish(&self, begun: &Begun<'_>, targets: &mut [Target<'_>]) -> Result<(), Failure> {
        if targets.iter().all(|target| matches!(target, Target::Resident(_))) {
            return Ok(());
        }
        begun.results.deliver(&self.0.session()?, targets)
    }
}

/// Columns from this length on, as log₂, are brought in several groups, so that copies and transforms overlap.
const OVERLAP_FROM: u32 = 15;
/// How many.
const GROUPS: usize = 8;

/// A group on the device.
#[derive(Debug)]
struct Begun<'a> {
    results: Brought<'a>,
    _staged: Brought<'a>,
}

impl Ntt<Fr> for SpparkNtt {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(DeviceSpace(self.0.clone()))
    }

    fn supports(&self, shape: &NttShape) -> Support {
        if shape.log_n > MAX_LOG_N {
            return Support::No(format!("a transform of length 2^{} exceeds 2^{MAX_LOG_N}", shape.log_n));
        }
        Support::Yes
    }

    fn workspace(&self, shape: &NttShape) -> u64 {
        if shape.log_n > MAX_LOG_N || shape.batch == 0 {
            return 0;
        }
        // A batch that does not fit is split: one column, one more to work in, half of one for the roots.
        3 * (SCALAR << shape.log_n)
    }

    fn ntt_batch(&self, _: &Queue, plan: &NttPlan<Fr>, columns: &mut [RefMut<'_, Fr>]) -> Result<(), Error> {
        check_columns(plan, columns)?;
        self.check_length(plan)?;
        self.run(plan, None, Target::all(&self.0, columns)?)
    }

    fn ntt_batch_into(
        &self,
        _: &Queue,
        plan: &NttPlan<Fr>,
        from: &[Ref<'_, Fr>],
        to: &mut [RefMut<'_, Fr>],
    ) -> Result<(), Error> {
        Error::check_len("ntt output columns", from.len(), to.len())?;
        check_plan(plan)?;
        let n = 1usize << plan.log_n;
        for (from, to) in from.iter().zip(to.iter()) {
            Error::check_len("ntt output column", n, to.len())?;
            if from.len() > n {
                return Err(Error::Length { what: "ntt input column", expected: n, found: from.len() });
            }
        }
        self.check_length(plan)?;
        let sources = Source::all(&self.0, from)?;
        self.run(plan, Some(&sources), Target::all(&self.0, to)?)
    }
}

impl SpparkNtt {
    fn check_length(&self, plan: &NttPlan<Fr>) -> Result<(), Error> {
        match self.supports(&plan.shape(1)) {
            Support::Yes => Ok(()),
            Support::No(why) => Err(Error::Unsupported { backend: NAME, op: Op::NTT, why }),
        }
    }
}
