//! Evaluation of straight-line programs over the rows of a domain.

use std::any::Any;
use std::sync::Arc;

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Prepared, Ref, RefMut};
use parhelion_backend_api::quotient::check_operands;
use parhelion_backend_api::{
    Compiled, Domain, Error, Program, Queue, Quotient, QuotientShape, SpaceId, Support,
};

use crate::arch::generic::field::{as_words, as_words_mut};
use crate::arch::{Kernels, generic};
use crate::{Isa, IsaError};

/// Evaluation of programs on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuQuotient {
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only vectors need it"))]
    kernels: Kernels,
}

impl CpuQuotient {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuQuotient { kernels: Kernels::new(isa)? })
    }
}

/// A checked program, with its form for vectors where there are any.
#[derive(Debug)]
struct CpuProgram {
    program: Program<Fr>,
    #[cfg(target_arch = "x86_64")]
    ifma: Option<crate::arch::ifma::quotient::CompiledProgram>,
}

impl Prepared for CpuProgram {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Quotient<Fr> for CpuQuotient {
    fn supports(&self, _: &QuotientShape) -> Support {
        Support::Yes
    }

    fn workspace(&self, shape: &QuotientShape) -> u64 {
        // Registers of one block per thread.
        shape.registers as u64 * 40 * 256 * rayon::current_num_threads() as u64
    }

    fn compile(&self, _: &Queue, program: &Program<Fr>) -> Result<Compiled<Fr>, Error> {
        program.check().map_err(|error| Error::Invalid { what: "program", why: error.to_string() })?;
        Ok(Compiled::new(Arc::new(CpuProgram {
            program: program.clone(),
            #[cfg(target_arch = "x86_64")]
            ifma: match self.kernels {
                Kernels::Scalar => None,
                Kernels::Ifma(token) => {
                    Some(crate::arch::ifma::quotient::CompiledProgram::new(token, program))
                }
            },
        })))
    }

    fn evaluate(
        &self,
        _: &Queue,
        program: &Compiled<Fr>,
        domain: &Domain<Fr>,
        columns: &[Ref<'_, Fr>],
        challenges: &[Fr],
        out: &mut [RefMut<'_, Fr>],
    ) -> Result<(), Error> {
        let compiled = program.downcast::<CpuProgram>(SpaceId::HOST)?;
        let program = &compiled.program;
        check_operands(program, domain, columns, challenges, out)?;
        let columns =
            columns.iter().map(|column| column.as_host().map(as_words)).collect::<Result<Vec<_>, _>>()?;
        let mut out =
            out.iter_mut().map(|out| out.as_host().map(as_words_mut)).collect::<Result<Vec<_>, _>>()?;
        #[cfg(target_arch = "x86_64")]
        if let (Some(ifma), 3..) = (&compiled.ifma, domain.log_n) {
            ifma.evaluate(program, domain, &columns, challenges, &mut out);
            return Ok(());
        }
        generic::quotient::evaluate(program, domain, &columns, challenges, &mut out);
        Ok(())
    }
}
