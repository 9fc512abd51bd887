//! Evaluation of straight-line programs over the rows of a domain.

use std::any::Any;
use std::sync::Arc;

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Prepared, Ref, RefMut};
use parhelion_backend_api::quotient::check_operands;
use parhelion_backend_api::{
    Compiled, Domain, Error, Program, Queue, Quotient, QuotientShape, Source, SpaceId, Support,
};
use rayon::prelude::*;

use crate::{Isa, IsaError};

/// Evaluation of programs on the processor.
#[derive(Clone, Copy, Debug)]
pub struct CpuQuotient {
    _isa: Isa,
}

impl CpuQuotient {
    /// With a given instruction set.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] when this machine cannot run it.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        Ok(CpuQuotient { _isa: isa.check()? })
    }
}

#[derive(Debug)]
struct CpuProgram(Program<Fr>);

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

    fn workspace(&self, _: &QuotientShape) -> u64 {
        0
    }

    fn compile(&self, _: &Queue, program: &Program<Fr>) -> Result<Compiled<Fr>, Error> {
        program.check().map_err(|error| Error::Invalid { what: "program", why: error.to_string() })?;
        Ok(Compiled::new(Arc::new(CpuProgram(program.clone()))))
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
        let CpuProgram(program) = program.downcast::<CpuProgram>(SpaceId::HOST)?;
        check_operands(program, domain, columns, challenges, out)?;
        let columns = columns.iter().map(Ref::as_host).collect::<Result<Vec<_>, _>>()?;
        let mut out = out.iter_mut().map(RefMut::as_host).collect::<Result<Vec<_>, _>>()?;
        let uniforms = program.uniforms(challenges);
        let n = 1usize << domain.log_n;
        let rows: Vec<Vec<Fr>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let point = domain.shift * domain.omega.pow_vartime([i as u64]);
                let mut registers = vec![Fr::ZERO; program.registers as usize];
                let read = |registers: &[Fr], source: Source| match source {
                    Source::Constant(c) => program.constants[c as usize],
                    Source::Challenge(c) => challenges[c as usize],
                    Source::Uniform(u) => uniforms[u as usize],
                    Source::Register(r) => registers[r as usize],
                    Source::Column { column, rotation } => {
                        let r = i64::from(program.rotations[rotation as usize]);
                        columns[column as usize][(i as i64 + r).rem_euclid(n as i64) as usize]
                    }
                    Source::Point => point,
                };
                for step in &program.steps {
                    let v = step.value(|s| read(&registers, s));
                    registers[step.dst() as usize] = v;
                }
                program.results.iter().map(|r| read(&registers, *r)).collect()
            })
            .collect();
        for (o, out) in out.iter_mut().enumerate() {
            for (v, row) in out.iter_mut().zip(&rows) {
                *v = row[o];
            }
        }
        Ok(())
    }
}
