//! Transforms.
//!
//! The transform is linear, and Icicle's twiddle factors are in standard form, so columns in Montgomery form pass through as they
//! are. The domain is made from halo2's root, of generator 7; Icicle's own tables are of generator 5.
//!
//! A coset shift is applied by a resident vector of its powers, in standard form. Icicle's own `coset_gen` is for powers of the
//! root: any other shift, and every one of halo2's is another, makes it compute as many powers as the column is long, serially, in
//! every call.

use std::sync::{Arc, Mutex, PoisonError};

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut, Space, SpaceId, as_bytes_mut};
use parhelion_backend_api::ntt::{check_columns, check_plan};
use parhelion_backend_api::{Direction, Error, Ntt, NttPlan, NttShape, Op, Queue, Support};
use rayon::prelude::*;

use crate::NAME;
use crate::buffer::{DeviceSpace, Memory, own};
use crate::columns::{Columns, copy};
use crate::device::Device;
use crate::error::Failure;
use crate::session::{SCALAR, Session, bytes_of};

/// Longest transform: twiddle factors of 2^28 elements are 8 GiB, and the field has no longer ones.
const MAX_LOG_N: u32 = 28;
/// Columns of one call where the device does not say how much memory it has: 512 MiB.
const CALL_BYTES: u64 = 1 << 29;
/// Vectors of powers that stay on the device.
const SHIFTS: usize = 16;

/// The powers of a shift on the device.
#[derive(Clone, Debug)]
struct Shift {
    g: Fr,
    log_n: u32,
    powers: Arc<Memory>,
}

/// Transforms on a device of Icicle.
#[derive(Debug)]
pub(crate) struct IcicleNtt {
    device: Arc<Device>,
    /// Most recently used last.
    shifts: Mutex<Vec<Shift>>,
}

impl IcicleNtt {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        IcicleNtt { device, shifts: Mutex::default() }
    }

    /// How many columns go into one call: half of what is free, in and out of place.
    fn columns_per_call(&self, log_n: u32) -> usize {
        let room = self.device.memory_info().free.map_or(CALL_BYTES, |free| free / 4);
        usize::try_from(room / (SCALAR << log_n)).unwrap_or(usize::MAX).clamp(1, 1 << 12)
    }

    /// The powers g^0 … g^(n−1) in standard form.
    fn powers(&self, g: Fr, log_n: u32) -> Result<Arc<Memory>, Error> {
        let mut shifts = self.shifts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = shifts.iter().position(|shift| shift.g == g && shift.log_n == log_n) {
            let shift = shifts.remove(found);
            let powers = shift.powers.clone();
            shifts.push(shift);
            return Ok(powers);
        }
        drop(shifts);
        let n = 1usize << log_n;
        let mut powers = vec![Fr::ONE; n];
        let chunk = n.div_ceil(4 * rayon::current_num_threads()).max(1 << 10);
        powers.par_chunks_mut(chunk).enumerate().for_each(|(i, powers)| {
            let mut power = g.pow_vartime([(i * chunk) as u64]);
            for slot in powers {
                *slot = power;
                power *= g;
            }
        });
        let columns = Columns::read(&self.device, &[Ref::host(&powers)], n)?;
        let device = self.device.clone();
        let made = self.device.run("coset powers", move |session| {
            let (memory, words) = columns.fill(session, &device)?;
            session.scalars_to_standard(&memory.all())?;
            Ok((Arc::new(memory), words))
        });
        let (powers, words) = made.map_err(|failure| failure.untouched(Op::NTT))?;
        self.device.recycle(words);
        let mut shifts = self.shifts.lock().unwrap_or_else(PoisonError::into_inner);
        if shifts.len() >= SHIFTS {
            shifts.remove(0);
        }
        shifts.push(Shift { g, log_n, powers: powers.clone() });
        Ok(powers)
    }

    /// Transforms of some columns into others.
    fn transform(
        &self,
        plan: &NttPlan<Fr>,
        from: &[Ref<'_, Fr>],
        targets: &[Option<(Arc<Memory>, u64)>],
    ) -> Result<Vec<u64>, Failed> {
        let inverse = plan.direction == Direction::Inverse;
        let factors = match plan.coset {
            None => None,
            Some(g) if inverse => Some(g.invert().unwrap_or(Fr::ZERO)),
            Some(g) => Some(g),
        };
        let powers = match factors {
            None => None,
            Some(g) => Some(self.powers(g, plan.log_n).map_err(Failed::Typed)?),
        };
        let (log_n, batch) = (plan.log_n, from.len());
        let stride = SCALAR << log_n;
        let columns = Columns::read(&self.device, from, 1 << log_n).map_err(Failed::Typed)?;
        let staged = targets.iter().filter(|target| target.is_none()).count();
        let mut back = self.device.staging(staged << (log_n + 2)).map_err(Failed::Typed)?;
        let targets = targets.to_vec();
        let device = self.device.clone();
        let done = self.device.run("bn254_ntt", move |session| {
            let (data, words) = columns.fill(session, &device)?;
            let scale = |session: &Session| match &powers {
                None => Ok(()),
                Some(powers) => (0..batch as u64)
                    .try_for_each(|i| session.scale(&data.slice(i * stride, stride)?, &powers.all())),
            };
            if !inverse {
                scale(session)?;
            }
            session.ntt(&data.all(), log_n, batch, inverse)?;
            if inverse {
                scale(session)?;
            }
            // Host columns first: once a resident one is written, the call cannot be taken back.
            let mut at = 0;
            for (i, _) in targets.iter().enumerate().filter(|(_, target)| target.is_none()) {
                let to = as_bytes_mut(&mut back).get_mut(at..at + stride as usize).unwrap_or_default();
                session.download(&data.slice(i as u64 * stride, stride)?, to)?;
                at += stride as usize;
            }
            let mut touched = false;
            for (i, target) in targets.iter().enumerate() {
                if let Some((memory, at)) = target {
                    let from = data.slice(i as u64 * stride, stride)?;
                    let to = memory.slice(*at, stride)?;
                    if let Err(failure) = session.copy(&from, &to) {
                        return Ok(Err((failure, touched)));
                    }
                    touched = true;
                }
            }
            Ok(Ok((back, words)))
        });
        match done {
            Err(failure) => Err(Failed::Library(failure, false)),
            Ok(Err((failure, touched))) => Err(Failed::Library(failure, touched)),
            Ok(Ok((back, words))) => {
                self.device.recycle(words);
                Ok(back)
            }
        }
    }

    /// Transforms columns, in calls of as many as fit.
    fn batched(
        &self,
        plan: &NttPlan<Fr>,
        from: Option<&[Ref<'_, Fr>]>,
        to: &mut [RefMut<'_, Fr>],
    ) -> Result<(), Error> {
        // Before anything is computed: whose buffers they are.
        let mut targets = Vec::with_capacity(to.len());
        for column in to.iter_mut() {
            targets.push(match column.device() {
                Some((raw, start, _)) if raw.space() != SpaceId::HOST => {
                    Some((own(&self.device, raw)?, start as u64 * SCALAR))
                }
                _ => None,
            });
        }
        let per_call = self.columns_per_call(plan.log_n);
        let mut written = false;
        let mut first = 0;
        while first < to.len() {
            let count = per_call.min(to.len() - first);
            let part = first..first + count;
            let sources: Vec<Ref<'_, Fr>> = match from {
                Some(from) => from[part.clone()].to_vec(),
                None => to[part.clone()].iter().map(RefMut::as_ref).collect(),
            };
            let back = self.transform(plan, &sources, &targets[part.clone()]);
            drop(sources);
            let back = back.map_err(|failed| failed.into_error(written))?;
            let mut at = 0;
            for (column, target) in to[part.clone()].iter_mut().zip(&targets[part]) {
                if target.is_none() {
                    let column = as_bytes_mut(column.as_host()?);
                    if let Some(from) = bytes_of(&back).get(at..at + column.len()) {
                        copy(from, column);
                    }
                    at += column.len();
                }
            }
            self.device.recycle(back);
            written = true;
            first += count;
        }
        Ok(())
    }
}

/// Why some columns were not transformed.
enum Failed {
    /// The caller's fault, or the host's memory.
    Typed(Error),
    /// The library's, and whether a resident operand had been written.
    Library(Failure, bool),
}

impl Failed {
    /// The error of the whole call, given whether earlier columns of it have been written.
    fn into_error(self, written: bool) -> Error {
        match self {
            Failed::Typed(error) if written && error.try_elsewhere() => {
                Error::Backend { backend: NAME, source: Box::new(error) }
            }
            Failed::Typed(error) => error,
            Failed::Library(failure, touched) if written || touched => failure.touched(),
            Failed::Library(failure, _) => failure.untouched(Op::NTT),
        }
    }
}

impl Ntt<Fr> for IcicleNtt {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(DeviceSpace(self.device.clone()))
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
        // A batch that does not fit is split: one column in and out, the domain's twiddle factors and the shift's powers.
        4 * (SCALAR << shape.log_n)
    }

    fn ntt_batch(&self, _: &Queue, plan: &NttPlan<Fr>, columns: &mut [RefMut<'_, Fr>]) -> Result<(), Error> {
        check_columns(plan, columns)?;
        self.batched(plan, None, columns)
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
        self.batched(plan, Some(from), to)
    }
}
