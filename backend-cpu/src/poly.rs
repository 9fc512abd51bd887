//! The fused polynomial operations.
//!
//! Recurrences (running products, division, evaluation) are cut into segments that are walked side by side, by threads and, on vector
//! instructions, by lanes; the segments' ends are joined by a short serial pass.

use std::sync::Arc;

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{HostSpace, Ref, RefMut, Space};
use parhelion_backend_api::quotient::check_recurrence;
use parhelion_backend_api::{Error, PolyOps, Queue, Recurrence};

#[cfg(target_arch = "x86_64")]
use crate::arch::ifma;
use crate::arch::{Kernels, generic};
use crate::{Isa, IsaError, parallel};

/// Polynomial operations on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuPoly {
    kernels: Kernels,
}

impl CpuPoly {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuPoly { kernels: Kernels::new(isa)? })
    }

    fn linear_combination_block(self, terms: &[(Fr, &[Fr])], out: &mut [Fr]) {
        match self.kernels {
            Kernels::Scalar => generic::poly::linear_combination(terms, out),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => ifma::poly::linear_combination(token, terms, out),
        }
    }

    fn multiply_block(self, a: &mut [Fr], b: &[Fr]) {
        match self.kernels {
            Kernels::Scalar => generic::poly::multiply(a, b),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => ifma::poly::multiply(token, a, b),
        }
    }

    fn evaluate_segment(self, p: &[Fr], x: Fr) -> Fr {
        match self.kernels {
            Kernels::Scalar => generic::poly::evaluate(p, x),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => ifma::poly::evaluate(token, p, x),
        }
    }

    fn invert_segment(self, values: &mut [Fr]) {
        match self.kernels {
            Kernels::Scalar => generic::poly::batch_invert(values),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => ifma::poly::batch_invert(token, values),
        }
    }

    /// Segments that one task walks side by side.
    fn lanes(self) -> usize {
        match self.kernels {
            Kernels::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(_) => ifma::poly::LANES,
        }
    }

    /// The length of the segments that `n` elements of a recurrence are cut into; what is left over is less than a task of
    /// [`CpuPoly::lanes`] segments. `None` when one plain walk is as good.
    fn segment(self, n: usize) -> Option<usize> {
        match self.lanes() {
            // Two walks per element against one.
            1 => (rayon::current_num_threads() > 2 && n >= 1 << 12).then_some(1 << 10),
            // Lengths that put the lanes on different cache sets.
            _ if n >= 1 << 14 => Some(252),
            _ if n >= 1 << 10 => Some(60),
            _ => None,
        }
    }
}

/// Elements of a recurrence from which on it is spread over threads.
const PARALLEL: usize = 1 << 13;

/// Elements per task of elementwise work.
fn block_len(n: usize) -> usize {
    n.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(32).max(1 << 10)
}

impl PolyOps<Fr> for CpuPoly {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn linear_combination(
        &self,
        _: &Queue,
        terms: &[(Fr, Ref<'_, Fr>)],
        mut out: RefMut<'_, Fr>,
    ) -> Result<(), Error> {
        if let Some((_, long)) = terms.iter().find(|(_, p)| p.len() > out.len()) {
            return Err(Error::Length {
                what: "linear combination term",
                expected: out.len(),
                found: long.len(),
            });
        }
        let terms = terms.iter().map(|(c, p)| Ok((*c, p.as_host()?))).collect::<Result<Vec<_>, Error>>()?;
        let out = out.as_host()?;
        let block = block_len(out.len());
        parallel::chunks_mut(out, block, |i, out| {
            let (start, end) = (i * block, i * block + out.len());
            let terms: Vec<(Fr, &[Fr])> = terms
                .iter()
                .filter(|(_, p)| p.len() > start)
                .map(|(c, p)| (*c, &p[start..end.min(p.len())]))
                .collect();
            self.linear_combination_block(&terms, out);
        });
        Ok(())
    }

    fn evaluate_batch(
        &self,
        _: &Queue,
        polys: &[Ref<'_, Fr>],
        queries: &[(usize, Fr)],
        out: &mut [Fr],
    ) -> Result<(), Error> {
        Error::check_len("evaluations", queries.len(), out.len())?;
        let polys = polys.iter().map(Ref::as_host).collect::<Result<Vec<_>, _>>()?;
        if let Some((index, _)) = queries.iter().find(|(index, _)| *index >= polys.len()) {
            return Err(Error::Invalid {
                what: "query",
                why: format!("polynomial {index} of {} is asked for", polys.len()),
            });
        }
        let total: usize = queries.iter().map(|(index, _)| polys[*index].len()).sum();
        // Enough segments to fill the threads whatever the number of queries.
        let len = block_len(total);
        let segments: Vec<(usize, &[Fr], Fr)> = queries
            .iter()
            .enumerate()
            .flat_map(|(q, (index, x))| polys[*index].chunks(len).map(move |part| (q, part, *x)))
            .collect();
        let parts = parallel::map(total > len, &segments, |(_, part, x)| self.evaluate_segment(part, *x));
        out.fill(Fr::ZERO);
        let mut last = None;
        for ((q, _, x), part) in segments.iter().zip(parts).rev() {
            let step = match last {
                // Segments but the last of each polynomial are `len` long.
                Some((query, step)) if query == *q => step,
                _ => x.pow_vartime([len as u64]),
            };
            last = Some((*q, step));
            out[*q] = out[*q] * step + part;
        }
        Ok(())
    }

    fn divide_by_linear(&self, _: &Queue, mut poly: RefMut<'_, Fr>, root: Fr) -> Result<(), Error> {
        let poly = poly.as_host()?;
        let Some(len) = self.segment(poly.len()) else {
            generic::poly::divide(poly, root, Fr::ZERO);
            return Ok(());
        };
        let task = len * self.lanes();
        let (body, rest) = poly.split_at_mut(poly.len() / task * task);
        let mut top = generic::poly::divide(rest, root, Fr::ZERO);
        let parallel = body.len() >= PARALLEL;
        let segments: Vec<&[Fr]> = body.chunks(task).collect();
        let values = parallel::map(parallel, &segments, |part| match self.kernels {
            Kernels::Scalar => {
                part.chunks(len).map(|part| generic::poly::evaluate(part, root)).collect::<Vec<Fr>>()
            }
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => ifma::poly::values(token, part, root).to_vec(),
        })
        .concat();
        let step = root.pow_vartime([len as u64]);
        // The quotient's coefficient above each segment.
        let mut tops = vec![Fr::ZERO; values.len()];
        for (slot, value) in tops.iter_mut().zip(&values).rev() {
            *slot = top;
            top = top * step + value;
        }
        let lanes = self.lanes();
        parallel::chunks_mut_if(parallel, body, task, |i, part| {
            let tops = &tops[i * lanes..][..lanes];
            match self.kernels {
                Kernels::Scalar => {
                    for (part, top) in part.chunks_mut(len).zip(tops) {
                        generic::poly::divide(part, root, *top);
                    }
                }
                #[cfg(target_arch = "x86_64")]
                Kernels::Ifma(token) => ifma::poly::divide(token, part, root, tops),
            }
        });
        Ok(())
    }

    fn batch_invert(&self, _: &Queue, mut values: RefMut<'_, Fr>) -> Result<(), Error> {
        let values = values.as_host()?;
        let block = block_len(values.len());
        parallel::chunks_mut(values, block, |_, values| self.invert_segment(values));
        Ok(())
    }

    fn multiply(&self, _: &Queue, mut a: RefMut<'_, Fr>, b: Ref<'_, Fr>) -> Result<(), Error> {
        Error::check_len("product", a.len(), b.len())?;
        let (a, b) = (a.as_host()?, b.as_host()?);
        let block = block_len(a.len());
        parallel::chunks_mut(a, block, |i, a| self.multiply_block(a, &b[i * block..][..a.len()]));
        Ok(())
    }

    fn running_product(&self, _: &Queue, mut values: RefMut<'_, Fr>, first: Fr) -> Result<Fr, Error> {
        let values = values.as_host()?;
        let Some(len) = self.segment(values.len()) else {
            return Ok(generic::poly::scan(values, first));
        };
        let lanes = self.lanes();
        let task = len * lanes;
        let (body, rest) = values.split_at_mut(values.len() / task * task);
        let parallel = body.len() >= PARALLEL;
        let tasks: Vec<&[Fr]> = body.chunks(task).collect();
        let products = parallel::map(parallel, &tasks, |part| match self.kernels {
            Kernels::Scalar => part.chunks(len).map(|part| part.iter().product()).collect::<Vec<Fr>>(),
            #[cfg(target_arch = "x86_64")]
            Kernels::Ifma(token) => ifma::poly::products(token, part).to_vec(),
        })
        .concat();
        let mut product = first;
        let starts: Vec<Fr> = products
            .iter()
            .map(|p| {
                let next = product * p;
                std::mem::replace(&mut product, next)
            })
            .collect();
        parallel::chunks_mut_if(parallel, body, task, |i, part| {
            let starts = &starts[i * lanes..][..lanes];
            match self.kernels {
                Kernels::Scalar => {
                    for (part, start) in part.chunks_mut(len).zip(starts) {
                        generic::poly::scan(part, *start);
                    }
                }
                #[cfg(target_arch = "x86_64")]
                Kernels::Ifma(token) => ifma::poly::scan(token, part, starts),
            }
        });
        Ok(generic::poly::scan(rest, product))
    }

    fn scan(&self, _: &Queue, recurrence: &Recurrence<'_, Fr>, mut out: RefMut<'_, Fr>) -> Result<Fr, Error> {
        check_recurrence(recurrence, out.len())?;
        let factors = recurrence.factors.map(|column| column.as_host()).transpose()?;
        let summands = recurrence.summands.map(|column| column.as_host()).transpose()?;
        let out = out.as_host()?;
        let threads = rayon::current_num_threads();
        // A second walk for the segments' maps pays from three threads on, and always for sums, whose maps are cheap.
        if out.len() < PARALLEL || threads == 1 || (threads == 2 && factors.is_some()) {
            return Ok(generic::poly::affine_scan(factors, summands, recurrence.first, out));
        }
        let len = out.len().div_ceil(4 * threads);
        fn cut(column: Option<&[Fr]>, i: usize, len: usize) -> Option<&[Fr]> {
            column.and_then(|column| column.chunks(len).nth(i))
        }
        let maps = parallel::map(true, &(0..out.len().div_ceil(len)).collect::<Vec<_>>(), |i| {
            let factors = cut(factors, *i, len);
            let summands = cut(summands, *i, len);
            generic::poly::affine_map(factors, summands)
        });
        let mut u = recurrence.first;
        let starts: Vec<Fr> = maps
            .iter()
            .map(|(factor, summand)| {
                let next = u * factor + summand;
                std::mem::replace(&mut u, next)
            })
            .collect();
        parallel::chunks_mut(out, len, |i, out| {
            let factors = cut(factors, i, len);
            let summands = cut(summands, i, len);
            generic::poly::affine_scan(factors, summands, starts[i], out);
        });
        Ok(u)
    }
}
