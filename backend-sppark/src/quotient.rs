//! Evaluation of programs: compiled to words that a kernel interprets, one row per thread, on columns that are on the device.

use std::any::Any;
use std::sync::Arc;

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Prepared, Ref, RefMut, as_bytes};
use parhelion_backend_api::quotient::check_operands;
use parhelion_backend_api::{
    Compiled, Domain, Error, Op, Program, Queue, Quotient, QuotientShape, Source as Operand, SpaceId, Step,
    Support,
};

use crate::NAME;
use crate::buffer::Memory;
use crate::device::Device;
use crate::error::Failure;
use crate::ffi::ProgramCode;
use crate::operands::{Brought, Source, Target};
use crate::session::{SCALAR, limbs};

const MAX_LOG_N: u32 = 28;
/// Registers beyond this are in a workspace.
const OWN_REGISTERS: u64 = 64;
/// Rows whose registers are in the workspace at a time, per multiprocessor.
const ROWS: u64 = 1024;
/// An operand is a kind in two bits and an index in the others.
const MAX_INDEX: usize = 1 << 30;
/// Words of a step: operation, destination, three operands.
const STEP_WORDS: usize = 5;

const UNIFORM: u32 = 0;
const REGISTER: u32 = 1 << 30;
const COLUMN: u32 = 2 << 30;
const POINT: u32 = 3 << 30;

/// Evaluation of programs on a device.
#[derive(Debug)]
pub(crate) struct SpparkQuotient(pub(crate) Arc<Device>);

/// A program on the device.
#[derive(Debug)]
struct DeviceProgram {
    space: SpaceId,
    /// Columns and uniform part, without the steps of rows.
    program: Program<Fr>,
    /// (column, rotation) of every operand that is a column.
    accesses: Vec<(u32, i32)>,
    steps: usize,
    uses_point: bool,
    code: Memory,
}

impl Prepared for DeviceProgram {
    fn space(&self) -> SpaceId {
        self.space
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A program in words.
#[derive(Debug, Default)]
struct Encoder {
    words: Vec<u32>,
    accesses: Vec<(u32, i32)>,
    known: std::collections::HashMap<(u32, i32), u32>,
    uses_point: bool,
}

impl Encoder {
    fn operand(&mut self, program: &Program<Fr>, source: Operand) -> u32 {
        match source {
            Operand::Constant(i) => UNIFORM | i,
            Operand::Challenge(i) => UNIFORM | (program.constants.len() as u32 + i),
            Operand::Uniform(i) => UNIFORM | (program.constants.len() as u32 + program.challenges + i),
            Operand::Register(i) => REGISTER | i,
            Operand::Column { column, rotation } => {
                let rotation = program.rotations.get(rotation as usize).copied().unwrap_or(0);
                let accesses = &mut self.accesses;
                let index = *self.known.entry((column, rotation)).or_insert_with(|| {
                    accesses.push((column, rotation));
                    accesses.len() as u32 - 1
                });
                COLUMN | index
            }
            Operand::Point => {
                self.uses_point = true;
                POINT
            }
        }
    }

    fn step(&mut self, program: &Program<Fr>, step: &Step) {
        let operation = match step {
            Step::Add { .. } => 0,
            Step::Sub { .. } => 1,
            Step::Mul { .. } => 2,
            Step::MulAdd { .. } => 3,
            Step::Square { .. } => 4,
            Step::Double { .. } => 5,
            Step::Negate { .. } => 6,
        };
        let mut words = [operation, step.dst(), 0, 0, 0];
        for (word, source) in words.iter_mut().skip(2).zip(step.sources()) {
            *word = self.operand(program, source);
        }
        self.words.extend(words);
    }
}

impl SpparkQuotient {
    fn workspace_of(&self, log_n: u32, registers: u64) -> u64 {
        if registers <= OWN_REGISTERS {
            return 0;
        }
        let rows = (u64::from(self.0.processors()) * ROWS).min(1 << log_n.min(MAX_LOG_N));
        registers.saturating_mul(rows).saturating_mul(SCALAR)
    }
}

impl Quotient<Fr> for SpparkQuotient {
    fn supports(&self, shape: &QuotientShape) -> Support {
        if shape.log_n > MAX_LOG_N {
            return Support::No(format!("2^{} rows exceed 2^{MAX_LOG_N}", shape.log_n));
        }
        if shape.registers >= MAX_INDEX || shape.columns >= MAX_INDEX || shape.steps >= MAX_INDEX {
            return Support::No("the program has more than 2^30 parts of a kind".into());
        }
        Support::Yes
    }

    fn workspace(&self, shape: &QuotientShape) -> u64 {
        self.workspace_of(shape.log_n, shape.registers as u64)
            .saturating_add((shape.steps as u64).saturating_mul(20))
    }

    fn compile(&self, _: &Queue, program: &Program<Fr>) -> Result<Compiled<Fr>, Error> {
        program.check().map_err(|error| Error::Invalid { what: "program", why: error.to_string() })?;
        let uniforms =
            program.constants.len() + program.challenges as usize + program.uniform_registers as usize;
        let parts = [uniforms, program.registers as usize, program.steps.len(), program.results.len()];
        if parts.iter().any(|part| *part >= MAX_INDEX) {
            let why = "the program has more than 2^30 parts of a kind".into();
            return Err(Error::Unsupported { backend: NAME, op: Op::QUOTIENT, why });
        }
        let mut encoder = Encoder::default();
        for step in &program.steps {
            encoder.step(program, step);
        }
        for result in &program.results {
            let word = encoder.operand(program, *result);
            encoder.words.push(word);
        }
        let upload = || {
            let session = self.0.session()?;
            let code = Memory::alloc(&session, &self.0, encoder.words.len() as u64 * 4)?;
            session.upload(as_bytes(&encoder.words), &code.all())?;
            Ok(code)
        };
        let code = upload().map_err(|failure: Failure| failure.untouched(Op::QUOTIENT))?;
        let steps = program.steps.len();
        Ok(Compiled::new(Arc::new(DeviceProgram {
            space: self.0.space(),
            program: Program { steps: Vec::new(), ..program.clone() },
            accesses: encoder.accesses,
            steps,
            uses_point: encoder.uses_point,
            code,
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
        let compiled = program.downcast::<DeviceProgram>(self.0.space())?;
        if !Arc::ptr_eq(compiled.code.device(), &self.0) {
            return Err(Error::WrongSpace {
                name: "program",
                expected: self.0.space(),
                found: compiled.space,
            });
        }
        check_operands(&compiled.program, domain, columns, challenges, out)?;
        let sources = Source::all(&self.0, columns)?;
        let mut targets = Target::all(&self.0, out)?;
        if targets.is_empty() {
            return Ok(());
        }
        self.run(compiled, domain, &sources, challenges, &mut targets).map_err(|(failure, touched)| {
            if touched { failure.touched() } else { failure.untouched(Op::QUOTIENT) }
        })
    }
}

impl SpparkQuotient {
    /// A failure comes with whether something may have been written.
    fn run(
        &self,
        compiled: &DeviceProgram,
        domain: &Domain<Fr>,
        sources: &[Source<'_>],
        challenges: &[Fr],
        targets: &mut [Target<'_>],
    ) -> Result<(), (Failure, bool)> {
        let untouched = |failure| (failure, false);
        let program = &compiled.program;
        let n = 1u64 << domain.log_n;
        let uniforms = program.uniforms(challenges);
        let uniforms: Vec<_> =
            program.constants.iter().chain(challenges).chain(&uniforms).map(limbs).collect();
        let accesses: Vec<u32> = compiled
            .accesses
            .iter()
            // Below 2^28.
            .flat_map(|(column, rotation)| [*column, i64::from(*rotation).rem_euclid(n as i64) as u32])
            .collect();

        let session = self.0.session().map_err(untouched)?;
        let columns = Brought::columns(&self.0, &session, sources).map_err(untouched)?;
        let places = targets.iter().map(|target| match target {
            Target::Resident(slice) => Ok(*slice),
            Target::Host(_) => Err(n * SCALAR),
        });
        let results = Brought::room(&self.0, &session, places).map_err(untouched)?;
        let table = Memory::alloc(&session, &self.0, accesses.len() as u64 * 4).map_err(untouched)?;
        session.upload(as_bytes(&accesses), &table.all()).map_err(untouched)?;
        let steps = (compiled.steps * STEP_WORDS * 4) as u64;
        let code = ProgramCode {
            code: compiled.code.all().address(),
            steps: compiled.steps as u64,
            accesses: table.all().address(),
            access_count: compiled.accesses.len() as u32,
            registers: program.registers,
            uses_point: u32::from(compiled.uses_point),
            result_count: program.results.len() as u32,
            results: compiled.code.all().address() + steps,
        };
        let resident = targets.iter().any(|target| matches!(target, Target::Resident(_)));
        let (columns, out) = (columns.slices().map_err(untouched)?, results.slices().map_err(untouched)?);
        let point = (limbs(&domain.omega), limbs(&domain.shift));
        // Workspace is taken before the kernel is launched.
        session.evaluate(&code, &uniforms, &columns, &out, domain.log_n, point).map_err(|failure| {
            let touched = resident && !matches!(failure, Failure::Memory { .. });
            (failure, touched)
        })?;
        results.deliver(&session, targets).map_err(|failure| (failure, true))
    }
}
