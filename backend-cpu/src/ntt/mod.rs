//! Number-theoretic transforms.

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::RefMut;
use parhelion_backend_api::ntt::{check_columns, root_of_unity};
use parhelion_backend_api::{Direction, Error, Ntt, NttPlan, NttShape, Queue, Support};
use rayon::prelude::*;

use crate::{Isa, IsaError};

/// Number-theoretic transforms on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuNtt {
    _isa: Isa,
}

impl CpuNtt {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuNtt { _isa: isa.check()? })
    }
}

fn scale(values: &mut [Fr], first: Fr, ratio: Fr) {
    let mut power = first;
    for v in values {
        *v *= power;
        power *= ratio;
    }
}

fn fft(values: &mut [Fr], log_n: u32, omega: Fr) {
    let n = values.len();
    for i in 0..n {
        let j = if log_n == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - log_n) };
        if i < j {
            values.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        let w = omega.pow_vartime([(n / (2 * half)) as u64]);
        let mut twiddles = vec![Fr::ONE; half];
        scale(&mut twiddles, Fr::ONE, w);
        values.par_chunks_mut(2 * half).for_each(|chunk| {
            let (lo, hi) = chunk.split_at_mut(half);
            for ((a, b), t) in lo.iter_mut().zip(hi).zip(&twiddles) {
                let u = *b * t;
                *b = *a - u;
                *a += u;
            }
        });
        half *= 2;
    }
}

impl Ntt<Fr> for CpuNtt {
    fn supports(&self, shape: &NttShape) -> Support {
        if shape.log_n <= <Fr as ff::PrimeField>::S {
            Support::Yes
        } else {
            Support::No(format!("log_n = {} exceeds the two-adicity", shape.log_n))
        }
    }

    fn workspace(&self, _: &NttShape) -> u64 {
        0
    }

    fn ntt_batch(&self, _: &Queue, plan: &NttPlan<Fr>, columns: &mut [RefMut<'_, Fr>]) -> Result<(), Error> {
        check_columns(plan, columns)?;
        let omega: Fr = root_of_unity(plan.log_n)?;
        let n_inv = Fr::from(1u64 << plan.log_n).invert().unwrap_or(Fr::ONE);
        let mut columns = columns.iter_mut().map(RefMut::as_host).collect::<Result<Vec<_>, _>>()?;
        columns.par_iter_mut().for_each(|column| match plan.direction {
            Direction::Forward => {
                if let Some(g) = plan.coset {
                    scale(column, Fr::ONE, g);
                }
                fft(column, plan.log_n, omega);
            }
            Direction::Inverse => {
                fft(column, plan.log_n, omega.invert().unwrap_or(Fr::ONE));
                let g = plan.coset.and_then(|g| Option::from(g.invert())).unwrap_or(Fr::ONE);
                scale(column, n_inv, g);
            }
        });
        Ok(())
    }
}
