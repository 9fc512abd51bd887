//! Number-theoretic transforms.
//!
//! Twiddle factors of plain transforms are computed once per size and direction and kept by the provider, the oldest dropped first when
//! they exceed a fixed share of memory. Those of a coset cost little beside the columns that are usually transformed at once: of cosets
//! only the last few small ones are kept, or one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{HostSpace, Ref, RefMut, Space};
use parhelion_backend_api::ntt::{check_columns, check_plan};
use parhelion_backend_api::{Direction, Error, Ntt, NttPlan, NttShape, Queue, Support};
use rayon::prelude::*;

use crate::arch::generic::field::{Words, as_words, as_words_mut};
use crate::arch::{Kernels, generic};
use crate::memory::zeros;
use crate::{Isa, IsaError};

/// Bytes of twiddle factors of plain transforms that are kept.
const BUDGET: usize = 64 << 20;
/// Bytes of twiddle factors of cosets that are kept.
const COSET_BUDGET: usize = 256 << 10;

/// Number-theoretic transforms on the processor.
#[derive(Debug)]
pub struct CpuNtt {
    kernels: Kernels,
    plans: Mutex<VecDeque<(Key, Arc<Plan>)>>,
}

type Key = (u32, bool, Option<Fr>);

/// The twiddle factors of one size, direction and coset, for one instruction set.
#[derive(Debug)]
enum Plan {
    Generic(generic::ntt::Plan),
    #[cfg(target_arch = "x86_64")]
    Ifma(crate::arch::ifma::ntt::Plan),
}

/// Whether transforms of 2^`log_n` points run on 64-bit words.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only vectors need it"))]
fn is_generic(kernels: Kernels, log_n: u32) -> bool {
    match kernels {
        Kernels::Scalar => true,
        #[cfg(target_arch = "x86_64")]
        Kernels::Ifma(_) => log_n < crate::arch::ifma::ntt::MIN_LOG_N,
    }
}

#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only vectors need it"))]
impl Plan {
    fn new(kernels: Kernels, (log_n, inverse, coset): Key) -> Result<Self, Error> {
        Ok(match kernels {
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) if !is_generic(kernels, log_n) => {
                Plan::Ifma(crate::arch::ifma::ntt::Plan::new(token, log_n, inverse, coset))
            }
            _ => Plan::Generic(generic::ntt::Plan::new(log_n, inverse, coset)?),
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Plan::Generic(plan) => plan.bytes(),
            #[cfg(target_arch = "x86_64")]
            Plan::Ifma(plan) => plan.bytes(),
        }
    }

    /// Elements of scratch that a transform of n points needs.
    fn scratch(&self, n: usize) -> usize {
        match self {
            Plan::Generic(_) => 0,
            #[cfg(target_arch = "x86_64")]
            Plan::Ifma(_) => n,
        }
    }

    fn in_place(&self, column: &mut [Words], scratch: &mut [Words]) {
        match self {
            Plan::Generic(plan) => plan.transform(column),
            #[cfg(target_arch = "x86_64")]
            Plan::Ifma(plan) => plan.transform(column, scratch),
        }
    }

    fn out_of_place(&self, from: &[Words], to: &mut [Words], scratch: &mut [Words]) {
        match self {
            Plan::Generic(plan) => plan.transform_into(from, to),
            #[cfg(target_arch = "x86_64")]
            Plan::Ifma(plan) => plan.transform_into(from, to, scratch),
        }
    }
}

impl CpuNtt {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuNtt { kernels: Kernels::new(isa)?, plans: Mutex::default() })
    }

    fn plan(&self, plan: &NttPlan<Fr>) -> Result<Arc<Plan>, Error> {
        let key = (plan.log_n, plan.direction == Direction::Inverse, plan.coset);
        let find = |plans: &mut VecDeque<(Key, Arc<Plan>)>| {
            let at = plans.iter().position(|(k, _)| *k == key)?;
            let entry = plans.remove(at)?;
            plans.push_back(entry.clone());
            Some(entry.1)
        };
        // The cache is consistent between any two statements, so a poisoned one is still good.
        if let Some(found) = find(&mut self.plans.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        // Outside the lock: it takes a while, and its own parallel loops may run other transforms on this thread.
        if let (true, (_, true, Some(shift))) = (is_generic(self.kernels, plan.log_n), key) {
            // The factors are those of the plain inverse, which is kept anyway.
            if let Plan::Generic(plain) = &*self.plan(&NttPlan { coset: None, ..*plan })? {
                return Ok(Arc::new(Plan::Generic(plain.on_coset(shift))));
            }
        }
        let made = Arc::new(Plan::new(self.kernels, key)?);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(&mut plans) {
            return Ok(found);
        }
        plans.push_back((key, made.clone()));
        trim(&mut plans, false, BUDGET);
        trim(&mut plans, true, COSET_BUDGET);
        Ok(made)
    }
}

/// Drops the oldest plans, of cosets or plain ones, beyond a budget; the newest stays.
fn trim(plans: &mut VecDeque<(Key, Arc<Plan>)>, cosets: bool, budget: usize) {
    let is_kind = |(key, _): &(Key, Arc<Plan>)| key.2.is_some() == cosets;
    while plans.iter().filter(|entry| is_kind(entry)).map(|(_, plan)| plan.bytes()).sum::<usize>() > budget
        && plans.iter().filter(|entry| is_kind(entry)).count() > 1
        && let Some(oldest) = plans.iter().position(is_kind)
    {
        plans.remove(oldest);
    }
}

/// Columns from this size on are transformed one after the other, each by all threads: it saves scratch, and each fills them.
const ONE_BY_ONE: u32 = 16;

/// Elements in all up to which one thread does all.
const SERIAL: usize = 1 << 11;

/// Runs `transform` on every item with scratch of its own.
fn for_each<T: Send>(
    log_n: u32,
    plan: &Plan,
    items: &mut [T],
    transform: impl Fn(&mut T, &mut [Words]) + Sync,
) -> Result<(), Error> {
    let len = plan.scratch(1 << log_n);
    if log_n >= ONE_BY_ONE || items.len() == 1 || items.len() << log_n <= SERIAL {
        let mut scratch = zeros(len, "ntt scratch")?;
        items.iter_mut().for_each(|item| transform(item, &mut scratch));
    } else {
        // Small: at most 2 MiB per thread.
        items.par_iter_mut().for_each_init(|| vec![[0; 4]; len], |scratch, item| transform(item, scratch));
    }
    Ok(())
}

impl Ntt<Fr> for CpuNtt {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn supports(&self, shape: &NttShape) -> Support {
        match check_plan(&NttPlan::<Fr>::forward(shape.log_n)) {
            Ok(()) => Support::Yes,
            Err(error) => Support::No(error.to_string()),
        }
    }

    fn workspace(&self, shape: &NttShape) -> u64 {
        let columns =
            if shape.log_n >= ONE_BY_ONE { 1 } else { rayon::current_num_threads().min(shape.batch) };
        (columns as u64) << (shape.log_n + 5)
    }

    fn ntt_batch(&self, _: &Queue, plan: &NttPlan<Fr>, columns: &mut [RefMut<'_, Fr>]) -> Result<(), Error> {
        check_columns(plan, columns)?;
        let mut columns = columns
            .iter_mut()
            .map(|column| column.as_host().map(as_words_mut))
            .collect::<Result<Vec<_>, _>>()?;
        let made = self.plan(plan)?;
        for_each(plan.log_n, &made, &mut columns, |column, scratch| made.in_place(column, scratch))
    }

    fn ntt_batch_into(
        &self,
        _: &Queue,
        plan: &NttPlan<Fr>,
        from: &[Ref<'_, Fr>],
        to: &mut [RefMut<'_, Fr>],
    ) -> Result<(), Error> {
        Error::check_len("ntt output columns", from.len(), to.len())?;
        check_columns(plan, to)?;
        let n = 1usize << plan.log_n;
        if let Some(long) = from.iter().find(|from| from.len() > n) {
            return Err(Error::Length { what: "ntt input column", expected: n, found: long.len() });
        }
        let mut pairs = from
            .iter()
            .zip(to)
            .map(|(from, to)| Ok((as_words(from.as_host()?), as_words_mut(to.as_host()?))))
            .collect::<Result<Vec<_>, Error>>()?;
        let made = self.plan(plan)?;
        for_each(plan.log_n, &made, &mut pairs, |(from, to), scratch| made.out_of_place(from, to, scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twiddle_factors_of_few_cosets_are_kept() {
        let ntt = CpuNtt::new(Isa::Scalar).unwrap();
        for shift in (2..9).map(Fr::from) {
            for plan in [NttPlan::forward(14), NttPlan::inverse(14)] {
                ntt.plan(&plan.on_coset(shift)).unwrap();
            }
            ntt.plan(&NttPlan::forward(14)).unwrap();
        }
        // Forward and inverse, and the last coset.
        let plans = ntt.plans.lock().unwrap();
        let mut held: Vec<_> = plans.iter().map(|(key, plan)| (key.2.is_some(), plan.bytes())).collect();
        held.sort_unstable();
        assert_eq!(held, [(false, 32 << 14), (false, 32 << 14), (true, 32 << 14)]);
    }
}
