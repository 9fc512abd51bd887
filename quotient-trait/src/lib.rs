//! Straight-line programs over columns, and the fused polynomial operations of a PLONK prover.
//!
//! A [`Program`] is plain data: every gate, lookup and permutation term of a circuit as one sequence of field operations over
//! columns with rotations, built once per proving key. A backend compiles it (code generation, a JIT, an interpreter's upload)
//! and evaluates it over the rows of a domain: one part of the extended domain at a time, so that peak memory is a choice. The same
//! machinery compresses lookups and builds the factors of grand products over the original domain.

mod poly;
mod program;
mod split;

use std::fmt::Debug;
use std::sync::Arc;

use ff::PrimeField;
use parhelion_hal::{
    Capability, DeviceRepr, Error, Op, Prepared, Queue, Ref, RefMut, Result, SpaceId, Support,
};

pub use poly::{PolyCall, PolyOps, PolyShape, Recurrence, check_recurrence};
pub use program::{Program, ProgramError, Source, Step};
pub use split::{Piece, Pieces, Place, ProgramLimits, TooNarrow};

/// The shape of one evaluation, enough to decide on legality and to look up a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotientShape {
    /// log₂ of the number of rows.
    pub log_n: u32,
    /// Number of columns.
    pub columns: usize,
    /// Number of steps per row.
    pub steps: usize,
    /// Number of registers.
    pub registers: usize,
}

/// The domain whose rows a program is evaluated over: row i is the point `shift · ω^i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain<F> {
    /// log₂ of the number of rows.
    pub log_n: u32,
    /// ω, of order 2^`log_n`.
    pub omega: F,
    /// 1 for the original domain; ζ·ω_ext^part for a part of the extended one.
    pub shift: F,
}

/// A program in the form that one backend wants it in. Opaque to callers.
#[derive(Clone, Debug)]
pub struct Compiled<F> {
    inner: Arc<dyn Prepared>,
    _field: std::marker::PhantomData<F>,
}

impl<F> Compiled<F> {
    /// Wraps what a backend compiled.
    pub fn new(inner: Arc<dyn Prepared>) -> Self {
        Compiled { inner, _field: std::marker::PhantomData }
    }

    /// The space that it lives in.
    pub fn space(&self) -> SpaceId {
        self.inner.space()
    }

    /// The backend's own object.
    ///
    /// # Errors
    /// [`Error::WrongSpace`] when another backend compiled it.
    pub fn downcast<T: 'static>(&self, expected: SpaceId) -> Result<&T> {
        self.inner.as_any().downcast_ref().ok_or(Error::WrongSpace {
            name: "program",
            expected,
            found: self.inner.space(),
        })
    }
}

/// Evaluation of programs on one device.
pub trait Quotient<F: PrimeField + DeviceRepr>: Debug + Send + Sync {
    /// Whether a call of this shape is legal. No device work.
    fn supports(&self, shape: &QuotientShape) -> Support;

    /// Temporary bytes that a call of this shape needs in the backend's space.
    fn workspace(&self, shape: &QuotientShape) -> u64;

    /// What one call can take. The engine runs a program beyond it in pieces ([`Program::split`]).
    fn limits(&self) -> ProgramLimits {
        ProgramLimits::NONE
    }

    /// Compiles a program.
    ///
    /// # Errors
    /// [`Error::Invalid`] when [`Program::check`] refuses it; otherwise the device's own.
    fn compile(&self, queue: &Queue, program: &Program<F>) -> Result<Compiled<F>>;

    /// **Mathematical description.** For every row i of `domain`, `out[o][i]` = the value of the program's o-th result, where a
    /// [`Source::Column`] with rotation r reads `columns[c][(i + r) mod n]`, a [`Source::Challenge`] reads `challenges`, and
    /// [`Source::Point`] is `shift · ω^i`.
    ///
    /// # Errors
    /// [`Error::Length`] when a column or an output is not of length n, or when their numbers differ from the program's;
    /// [`Error::Invalid`] when `log_n` exceeds the field's two-adicity; otherwise the failure rule of `parhelion-hal` holds.
    fn evaluate(
        &self,
        queue: &Queue,
        program: &Compiled<F>,
        domain: &Domain<F>,
        columns: &[Ref<'_, F>],
        challenges: &[F],
        out: &mut [RefMut<'_, F>],
    ) -> Result<()>;
}

impl<F: PrimeField + DeviceRepr> Capability for dyn Quotient<F> {
    const OP: Op = Op::QUOTIENT;
}

/// The argument checks that every implementation of [`Quotient::evaluate`] makes before it does anything.
///
/// # Errors
/// [`Error::Length`], or [`Error::Invalid`] when `log_n` exceeds the field's two-adicity.
pub fn check_operands<F: PrimeField + DeviceRepr>(
    program: &Program<F>,
    domain: &Domain<F>,
    columns: &[Ref<'_, F>],
    challenges: &[F],
    out: &[RefMut<'_, F>],
) -> Result<()> {
    if domain.log_n > F::S {
        return Err(Error::Invalid {
            what: "domain",
            why: format!("log_n = {} exceeds the field's two-adicity {}", domain.log_n, F::S),
        });
    }
    let n = 1usize << domain.log_n;
    Error::check_len("program columns", program.columns as usize, columns.len())?;
    Error::check_len("program challenges", program.challenges as usize, challenges.len())?;
    Error::check_len("program results", program.results.len(), out.len())?;
    columns.iter().try_for_each(|column| Error::check_len("program column", n, column.len()))?;
    out.iter().try_for_each(|column| Error::check_len("program output", n, column.len()))
}
