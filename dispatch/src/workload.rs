//! Calls of any shape on made-up operands: what `tune` measures, and what replays a recorded sequence of calls.

use std::time::{Duration, Instant};

use ff::{Field, PrimeField};
use group::{Curve as _, Group};
use parhelion_backend_api::hal::{Buffer, Error, Ref, RefMut, Result};
use parhelion_backend_api::{
    Curve, Domain, MsmShape, NttPlan, NttShape, PolyCall, PolyShape, Program, QuotientShape, Recurrence,
    Reuse, ScalarKind, Source, Step, ntt,
};

use crate::attempt::zeros;
use crate::engine::{Engine, EngineBases, EngineProgram};
use crate::query::Shape;
use crate::slot::Slot;

/// Operands for calls of any shape, made once per size and kept.
///
/// Full scalars are the powers of a random element, which cost one multiplication each and look uniform to every algorithm; narrow
/// ones are random bits.
#[derive(Debug)]
pub struct Workload<C: Curve> {
    ratio: C::ScalarExt,
    bases: Option<EngineBases<C>>,
    program: Option<(QuotientShape, EngineProgram<C::ScalarExt>)>,
}

/// Columns on the host, or in the space of a provider.
enum Columns<F> {
    Host(Vec<Vec<F>>),
    Resident(Vec<Buffer<F>>),
}

impl<F: parhelion_backend_api::hal::DeviceRepr> Columns<F> {
    fn refs(&self) -> Vec<Ref<'_, F>> {
        match self {
            Columns::Host(columns) => columns.iter().map(|column| Ref::host(column)).collect(),
            Columns::Resident(columns) => columns.iter().map(Buffer::as_ref).collect(),
        }
    }

    fn refs_mut(&mut self) -> Vec<RefMut<'_, F>> {
        match self {
            Columns::Host(columns) => columns.iter_mut().map(|column| RefMut::host(column)).collect(),
            Columns::Resident(columns) => columns.iter_mut().map(Buffer::as_mut).collect(),
        }
    }
}

impl<C: Curve> Default for Workload<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Curve> Workload<C> {
    /// Operands that are the same in every run.
    pub fn new() -> Self {
        // Any element that is not of small order.
        let ratio = C::ScalarExt::MULTIPLICATIVE_GENERATOR.pow_vartime([0x9e37_79b9_7f4a_7c15]);
        Workload { ratio, bases: None, program: None }
    }

    /// Makes one call of a shape on host operands and returns its time, without that of making the operands or preparing handles.
    ///
    /// # Errors
    /// The engine's.
    pub fn run(&mut self, engine: &Engine<C>, shape: &Shape) -> Result<Duration> {
        let apart = engine.with_ledger();
        self.call(&apart, shape, None)?;
        // What the call took, which the ledger knows apart from the preparation.
        Ok(apart.ledger().records().iter().map(|record| record.duration).sum())
    }

    /// The times of `repeats` calls after one that warms up, on host operands or on operands in the space of `resident`.
    pub(crate) fn times(
        &mut self,
        engine: &Engine<C>,
        shape: &Shape,
        resident: Option<&Slot<C>>,
        repeats: usize,
        limit: Duration,
    ) -> Result<Vec<Duration>> {
        let start = Instant::now();
        let mut times = vec![self.call(engine, shape, resident)?];
        for _ in 0..repeats {
            // The first call bears the preparation, so it counts only when there is no time for another.
            if start.elapsed() > limit {
                break;
            }
            let time = self.call(engine, shape, resident)?;
            times.push(time);
        }
        if times.len() > 1 {
            times.remove(0);
        }
        times.sort();
        Ok(times)
    }

    /// `count` columns of `len` elements.
    fn columns(
        &self,
        count: usize,
        len: usize,
        kind: ScalarKind,
        resident: Option<&Slot<C>>,
    ) -> Result<Columns<C::ScalarExt>> {
        let mut columns = Vec::new();
        for column in 0..count {
            let mut values = zeros::<C::ScalarExt>(len)?;
            let mut power = self.ratio.pow_vartime([column as u64 + 1]);
            let mut word = 0x2545_f491_4f6c_dd1d_u64.wrapping_mul(column as u64 + 1);
            for (i, value) in values.iter_mut().enumerate() {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                power *= self.ratio;
                *value = match kind {
                    ScalarKind::Unsigned { bits } if bits <= 128 => narrow(word, bits),
                    ScalarKind::Signed { bits } if bits <= 128 && i % 2 == 0 => {
                        -narrow::<C::ScalarExt>(word, bits)
                    }
                    ScalarKind::Signed { bits } if bits <= 128 => narrow(word, bits),
                    _ => power,
                };
            }
            columns.push(values);
        }
        let Some(slot) = resident else { return Ok(Columns::Host(columns)) };
        let (space, queue) = (slot.provider.space.as_ref(), slot.queue()?);
        let upload = |column: &Vec<C::ScalarExt>| Buffer::from_host(space, &queue, column, "workload");
        Ok(Columns::Resident(columns.iter().map(upload).collect::<Result<_>>()?))
    }

    /// Bases of at least `len` points, the same ones for every shorter length.
    fn bases(&mut self, engine: &Engine<C>, len: usize) -> EngineBases<C> {
        match &self.bases {
            Some(bases) if bases.host().len() >= len => bases.clone(),
            _ => {
                let step = C::CurveExt::generator() * self.ratio;
                let points: Vec<C::CurveExt> =
                    std::iter::successors(Some(step.double()), |p| Some(*p + step)).take(len).collect();
                let mut affine = vec![C::identity(); len];
                C::CurveExt::batch_normalize(&points, &mut affine);
                let bases = engine.load_bases(affine, Reuse::Often);
                self.bases = Some(bases.clone());
                bases
            }
        }
    }

    fn program(&mut self, engine: &Engine<C>, shape: QuotientShape) -> EngineProgram<C::ScalarExt> {
        match &self.program {
            Some((of, program)) if *of == shape => program.clone(),
            _ => {
                let program = engine.load_program(sample_program(shape));
                self.program = Some((shape, program.clone()));
                program
            }
        }
    }

    fn call(&mut self, engine: &Engine<C>, shape: &Shape, resident: Option<&Slot<C>>) -> Result<Duration> {
        let timed = |f: &mut dyn FnMut() -> Result<()>| {
            let start = Instant::now();
            f().map(|()| start.elapsed())
        };
        match *shape {
            Shape::Msm(MsmShape { len, batch, scalars }) => {
                let bases = self.bases(engine, len);
                let columns = self.columns(batch, len, scalars, resident)?;
                let mut out = vec![C::CurveExt::identity(); batch];
                timed(&mut || engine.msm_batch(&bases, &columns.refs(), scalars, &mut out))
            }
            Shape::Ntt(NttShape { log_n, batch, direction, coset }) => {
                let coset = coset.then_some(<C::ScalarExt as ff::WithSmallOrderMulGroup<3>>::ZETA);
                let plan = NttPlan { log_n, direction, coset };
                let mut columns = self.columns(batch, elements(log_n)?, ScalarKind::Full, resident)?;
                timed(&mut || engine.ntt_batch(&plan, &mut columns.refs_mut()))
            }
            Shape::Quotient(shape) => {
                let program = self.program(engine, shape);
                let columns =
                    self.columns(shape.columns, elements(shape.log_n)?, ScalarKind::Full, resident)?;
                let mut out = self.columns(1, elements(shape.log_n)?, ScalarKind::Full, resident)?;
                let omega = ntt::root_of_unity(shape.log_n)?;
                let domain = Domain { log_n: shape.log_n, omega, shift: self.ratio };
                let challenges = [self.ratio];
                timed(&mut || {
                    engine.evaluate(&program, &domain, &columns.refs(), &challenges, &mut out.refs_mut())
                })
            }
            Shape::Poly(PolyShape { call, log_n, batch }) => {
                let count = if call == PolyCall::LinearCombination { batch + 1 } else { batch.max(2) };
                let mut columns = self.columns(count, elements(log_n)?, ScalarKind::Full, resident)?;
                let mut first = self.columns(1, elements(log_n)?, ScalarKind::Full, resident)?;
                let first = &mut first.refs_mut();
                let Some(first) = first.first_mut() else {
                    return Err(Error::Invalid { what: "workload", why: "no column".into() });
                };
                timed(&mut || match call {
                    PolyCall::LinearCombination => {
                        let terms: Vec<_> =
                            columns.refs().into_iter().take(batch).map(|p| (self.ratio, p)).collect();
                        engine.linear_combination(&terms, first.reborrow())
                    }
                    PolyCall::Evaluate => {
                        let queries: Vec<_> = (0..batch).map(|p| (p, self.ratio)).collect();
                        engine.evaluate_batch(&columns.refs(), &queries, &mut vec![C::ScalarExt::ZERO; batch])
                    }
                    PolyCall::Divide => engine.divide_by_linear(first.reborrow(), self.ratio),
                    PolyCall::Invert => engine.batch_invert(first.reborrow()),
                    PolyCall::Multiply => {
                        let by = columns.refs_mut();
                        by.first().map_or(Ok(()), |by| engine.multiply(first.reborrow(), by.as_ref()))
                    }
                    PolyCall::RunningProduct => {
                        engine.running_product(first.reborrow(), self.ratio).map(|_| ())
                    }
                    PolyCall::Scan => {
                        let columns = columns.refs();
                        let mut columns = columns.into_iter();
                        let (factors, summands) = (columns.next(), columns.next());
                        let recurrence = Recurrence { first: self.ratio, factors, summands };
                        engine.scan(&recurrence, first.reborrow()).map(|_| ())
                    }
                    call => {
                        let why = format!("no made-up call of {call}");
                        Err(Error::Invalid { what: "workload", why })
                    }
                })
            }
        }
    }
}

fn elements(log_n: u32) -> Result<usize> {
    1usize
        .checked_shl(log_n)
        .ok_or_else(|| Error::Invalid { what: "workload", why: format!("2^{log_n} elements") })
}

/// `bits` random bits, at most 128, as a field element.
fn narrow<F: PrimeField>(word: u64, bits: u16) -> F {
    let wide = u128::from(word) | u128::from(word.rotate_left(31)) << 64;
    let unused = 128 - u32::from(bits.min(128));
    F::from_u128(wide.checked_shr(unused).unwrap_or(0))
}

/// A program of the given shape: a chain of multiply-adds over all columns, with rotations and one result.
fn sample_program<F: PrimeField>(shape: QuotientShape) -> Program<F> {
    let registers = (shape.registers.max(1)) as u32;
    let columns = shape.columns as u32;
    let column = |i: u32| match columns {
        0 => Source::Point,
        n => Source::Column { column: i % n, rotation: i % 3 },
    };
    let step = |i: u32| match i {
        0 => Step::Mul { dst: 0, a: column(0), b: Source::Challenge(0) },
        _ => Step::MulAdd {
            dst: i % registers,
            a: Source::Register((i - 1) % registers),
            b: column(i),
            c: column(i.wrapping_mul(7)),
        },
    };
    let steps: Vec<Step> = (0..shape.steps as u32).map(step).collect();
    let result = steps.last().map_or(Source::Challenge(0), |step| Source::Register(step.dst()));
    Program {
        rotations: vec![0, 1, -1],
        columns,
        challenges: 1,
        steps,
        registers,
        results: vec![result],
        ..Program::default()
    }
}
