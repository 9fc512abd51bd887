//! Straight-line programs as plain data.

use ff::PrimeField;
use serde::{Deserialize, Serialize};

/// Where a step reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// `constants[i]`.
    Constant(u32),
    /// `challenges[i]` of the call.
    Challenge(u32),
    /// Register i of the uniform part: the same for every row.
    Uniform(u32),
    /// Register i of this row.
    Register(u32),
    /// A column at a rotation of this row.
    Column {
        /// Index into the columns of the call.
        column: u32,
        /// Index into [`Program::rotations`].
        rotation: u32,
    },
    /// The point of this row: `shift · ω^i`.
    Point,
}

impl Source {
    /// Whether the value is the same for every row.
    pub fn is_uniform(self) -> bool {
        matches!(self, Source::Constant(_) | Source::Challenge(_) | Source::Uniform(_))
    }
}

/// One field operation. `dst` is a register: of the row in [`Program::steps`], uniform in [`Program::uniform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// `dst = a + b`
    Add {
        /// Destination register.
        dst: u32,
        /// Left operand.
        a: Source,
        /// Right operand.
        b: Source,
    },
    /// `dst = a − b`
    Sub {
        /// Destination register.
        dst: u32,
        /// Left operand.
        a: Source,
        /// Right operand.
        b: Source,
    },
    /// `dst = a · b`
    Mul {
        /// Destination register.
        dst: u32,
        /// Left operand.
        a: Source,
        /// Right operand.
        b: Source,
    },
    /// `dst = a · b + c`
    MulAdd {
        /// Destination register.
        dst: u32,
        /// Left factor.
        a: Source,
        /// Right factor.
        b: Source,
        /// Addend.
        c: Source,
    },
    /// `dst = a²`
    Square {
        /// Destination register.
        dst: u32,
        /// Operand.
        a: Source,
    },
    /// `dst = 2a`
    Double {
        /// Destination register.
        dst: u32,
        /// Operand.
        a: Source,
    },
    /// `dst = −a`
    Negate {
        /// Destination register.
        dst: u32,
        /// Operand.
        a: Source,
    },
}

impl Step {
    /// The destination register.
    pub fn dst(&self) -> u32 {
        match *self {
            Step::Add { dst, .. }
            | Step::Sub { dst, .. }
            | Step::Mul { dst, .. }
            | Step::MulAdd { dst, .. }
            | Step::Square { dst, .. }
            | Step::Double { dst, .. }
            | Step::Negate { dst, .. } => dst,
        }
    }

    /// The operands, in order.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        let (a, b, c) = match *self {
            Step::Add { a, b, .. } | Step::Sub { a, b, .. } | Step::Mul { a, b, .. } => (a, Some(b), None),
            Step::MulAdd { a, b, c, .. } => (a, Some(b), Some(c)),
            Step::Square { a, .. } | Step::Double { a, .. } | Step::Negate { a, .. } => (a, None, None),
        };
        std::iter::once(a).chain(b).chain(c)
    }

    /// The value of the step, given a reader of sources.
    pub fn value<F: PrimeField>(&self, read: impl Fn(Source) -> F) -> F {
        match *self {
            Step::Add { a, b, .. } => read(a) + read(b),
            Step::Sub { a, b, .. } => read(a) - read(b),
            Step::Mul { a, b, .. } => read(a) * read(b),
            Step::MulAdd { a, b, c, .. } => read(a) * read(b) + read(c),
            Step::Square { a, .. } => read(a).square(),
            Step::Double { a, .. } => read(a).double(),
            Step::Negate { a, .. } => -read(a),
        }
    }
}

/// A straight-line program over columns with rotations: built once per proving key, the same for every row.
///
/// `uniform` runs once per call, on constants, challenges and earlier uniform registers; `steps` run once per row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program<F> {
    /// Field constants.
    pub constants: Vec<F>,
    /// Distinct rotations, in rows.
    pub rotations: Vec<i32>,
    /// Number of columns that a call passes.
    pub columns: u32,
    /// Number of challenges that a call passes.
    pub challenges: u32,
    /// Steps on uniform values.
    pub uniform: Vec<Step>,
    /// Number of uniform registers.
    pub uniform_registers: u32,
    /// Steps on every row.
    pub steps: Vec<Step>,
    /// Number of registers of a row. Registers may be written more than once.
    pub registers: u32,
    /// The results, one output column each.
    pub results: Vec<Source>,
}

/// Why a program is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A source names something that the program does not have.
    #[error("step {step}: {source_:?} is out of range")]
    OutOfRange {
        /// Index of the step; `usize::MAX` for a result.
        step: usize,
        /// The offending source.
        source_: Source,
    },
    /// A register is read before it is written.
    #[error("step {step}: {source_:?} is read before it is written")]
    Unwritten {
        /// Index of the step; `usize::MAX` for a result.
        step: usize,
        /// The offending source.
        source_: Source,
    },
    /// A uniform step reads a value that differs from row to row.
    #[error("uniform step {step}: {source_:?} differs from row to row")]
    NotUniform {
        /// Index of the step.
        step: usize,
        /// The offending source.
        source_: Source,
    },
    /// A step writes a register that the program does not have.
    #[error("step {step}: register {register} is out of range")]
    Register {
        /// Index of the step.
        step: usize,
        /// The offending register.
        register: u32,
    },
}

impl<F: PrimeField> Program<F> {
    /// Checks that every source exists and every register is written before it is read.
    ///
    /// # Errors
    /// The first offence.
    pub fn check(&self) -> Result<(), ProgramError> {
        let mut uniform = vec![false; self.uniform_registers as usize];
        for (step, s) in self.uniform.iter().enumerate() {
            for source_ in s.sources() {
                if !source_.is_uniform() {
                    return Err(ProgramError::NotUniform { step, source_ });
                }
                self.check_source(step, source_, &uniform, &[])?;
            }
            *uniform.get_mut(s.dst() as usize).ok_or(ProgramError::Register { step, register: s.dst() })? =
                true;
        }
        let mut rows = vec![false; self.registers as usize];
        for (step, s) in self.steps.iter().enumerate() {
            for source_ in s.sources() {
                self.check_source(step, source_, &uniform, &rows)?;
            }
            *rows.get_mut(s.dst() as usize).ok_or(ProgramError::Register { step, register: s.dst() })? = true;
        }
        self.results.iter().try_for_each(|r| self.check_source(usize::MAX, *r, &uniform, &rows))
    }

    fn check_source(
        &self,
        step: usize,
        source_: Source,
        uniform: &[bool],
        rows: &[bool],
    ) -> Result<(), ProgramError> {
        let exists = match source_ {
            Source::Constant(i) => (i as usize) < self.constants.len(),
            Source::Challenge(i) => i < self.challenges,
            Source::Uniform(i) => (i as usize) < uniform.len(),
            Source::Register(i) => (i as usize) < rows.len(),
            Source::Column { column, rotation } => {
                column < self.columns && (rotation as usize) < self.rotations.len()
            }
            Source::Point => true,
        };
        if !exists {
            return Err(ProgramError::OutOfRange { step, source_ });
        }
        let written = match source_ {
            Source::Uniform(i) => uniform[i as usize],
            Source::Register(i) => rows[i as usize],
            _ => true,
        };
        if written { Ok(()) } else { Err(ProgramError::Unwritten { step, source_ }) }
    }

    /// The uniform registers for given challenges, whose number must be [`Program::challenges`].
    pub fn uniforms(&self, challenges: &[F]) -> Vec<F> {
        let mut registers = vec![F::ZERO; self.uniform_registers as usize];
        for step in &self.uniform {
            let value = step.value(|source| match source {
                Source::Constant(i) => self.constants[i as usize],
                Source::Challenge(i) => challenges[i as usize],
                Source::Uniform(i) => registers[i as usize],
                // `check` refuses these in the uniform part.
                Source::Register(_) | Source::Column { .. } | Source::Point => F::ZERO,
            });
            registers[step.dst() as usize] = value;
        }
        registers
    }
}
