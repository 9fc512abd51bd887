//! The fused polynomial operations.

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Error, PolyOps, Queue, Support};
use rayon::prelude::*;

use crate::{Isa, IsaError};

/// Polynomial operations on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuPoly {
    _isa: Isa,
}

impl CpuPoly {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuPoly { _isa: isa.check()? })
    }
}

/// Elements per parallel task.
fn chunk_len(n: usize) -> usize {
    n.div_ceil(4 * rayon::current_num_threads()).max(256)
}

impl PolyOps<Fr> for CpuPoly {
    fn supports(&self, _: u32, _: usize) -> Support {
        Support::Yes
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
        let terms =
            terms.iter().map(|(c, p)| Ok((*c, p.as_host()?))).collect::<Result<Vec<_>, Error>>()?;
        let out = out.as_host()?;
        let chunk = chunk_len(out.len());
        out.par_chunks_mut(chunk).enumerate().for_each(|(i, out)| {
            out.fill(Fr::ZERO);
            for (c, p) in &terms {
                let from = p.get(i * chunk..).unwrap_or(&[]);
                for (o, v) in out.iter_mut().zip(from) {
                    *o += *c * v;
                }
            }
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
        out.par_iter_mut().zip(queries).for_each(|(out, (index, x))| {
            let poly = polys[*index];
            let chunk = chunk_len(poly.len());
            let step = x.pow_vartime([chunk as u64]);
            let parts: Vec<Fr> = poly
                .par_chunks(chunk)
                .map(|part| part.iter().rev().fold(Fr::ZERO, |acc, c| acc * x + c))
                .collect();
            *out = parts.iter().rev().fold(Fr::ZERO, |acc, part| acc * step + part);
        });
        Ok(())
    }

    fn divide_by_linear(&self, _: &Queue, mut poly: RefMut<'_, Fr>, root: Fr) -> Result<(), Error> {
        let poly = poly.as_host()?;
        let mut carry = Fr::ZERO;
        for value in poly.iter_mut().rev() {
            let next = carry * root + *value;
            *value = carry;
            carry = next;
        }
        Ok(())
    }

    fn batch_invert(&self, _: &Queue, mut values: RefMut<'_, Fr>) -> Result<(), Error> {
        let values = values.as_host()?;
        let chunk = chunk_len(values.len());
        values.par_chunks_mut(chunk).for_each(|values| {
            let mut prefix = Vec::with_capacity(values.len());
            let mut acc = Fr::ONE;
            for v in values.iter() {
                prefix.push(acc);
                if !bool::from(v.is_zero()) {
                    acc *= v;
                }
            }
            // The accumulator is a product of non-zero elements.
            let mut acc = acc.invert().unwrap_or(Fr::ZERO);
            for (v, p) in values.iter_mut().zip(prefix).rev() {
                if !bool::from(v.is_zero()) {
                    let inverse = acc * p;
                    acc *= *v;
                    *v = inverse;
                }
            }
        });
        Ok(())
    }

    fn multiply(&self, _: &Queue, mut a: RefMut<'_, Fr>, b: Ref<'_, Fr>) -> Result<(), Error> {
        Error::check_len("product", a.len(), b.len())?;
        let (a, b) = (a.as_host()?, b.as_host()?);
        let chunk = chunk_len(a.len());
        a.par_chunks_mut(chunk)
            .zip(b.par_chunks(chunk))
            .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a *= b));
        Ok(())
    }

    fn running_product(&self, _: &Queue, mut values: RefMut<'_, Fr>, first: Fr) -> Result<Fr, Error> {
        let values = values.as_host()?;
        let mut acc = first;
        for v in values.iter_mut() {
            let next = acc * *v;
            *v = acc;
            acc = next;
        }
        Ok(acc)
    }
}
