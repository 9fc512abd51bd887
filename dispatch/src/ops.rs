//! The operations of the engine: arguments are checked, the shape is asked about, the call is run.

use std::borrow::Cow;
use std::sync::Arc;

use ff::PrimeField;
use group::Group;
use parhelion_backend_api::hal::{Buffer, DeviceRepr, Error, Op, Queue, Ref, RefMut, Result, SpaceId};
use parhelion_backend_api::{
    Bases, Curve, Domain, Msm, MsmShape, NttPlan, Place, PolyCall, PolyOps, PolyShape, Program, Quotient,
    QuotientShape, Recurrence, ScalarKind, msm, ntt, quotient,
};

use crate::attempt::{Call, Extra, Fault, Operand, Outs};
use crate::check;
use crate::engine::{CompiledPieces, Engine, EngineBases, EngineProgram};
use crate::query::{Query, Shape, log2_ceil};
use crate::slot::Slot;

fn refs<'a, F: DeviceRepr>(operands: &'a [Operand<'_, F>]) -> Vec<Ref<'a, F>> {
    operands.iter().map(Operand::as_ref).collect()
}

/// The space of the operands if they share one that is not the host's; the host's otherwise.
fn common_space(mut spaces: impl Iterator<Item = SpaceId>) -> SpaceId {
    let first = spaces.next().unwrap_or(SpaceId::HOST);
    if spaces.all(|space| space == first) { first } else { SpaceId::HOST }
}

fn bytes<F>(elements: usize) -> u64 {
    (elements as u64).saturating_mul(size_of::<F>() as u64)
}

/// The shape of a program's evaluation.
fn quotient_shape<F: PrimeField>(program: &Program<F>, log_n: u32) -> QuotientShape {
    QuotientShape {
        log_n,
        columns: program.columns as usize,
        steps: program.steps.len(),
        registers: program.registers as usize,
    }
}

/// Compiles a program, in as many pieces as a backend needs.
fn compile<F: PrimeField + DeviceRepr>(
    quotient: &dyn Quotient<F>,
    queue: &Queue,
    program: &Program<F>,
) -> Result<Arc<CompiledPieces<F>>> {
    program.check().map_err(|error| Error::Invalid { what: "program", why: error.to_string() })?;
    let pieces = program.split(&quotient.limits()).map_err(|error| Error::Unsupported {
        backend: "engine",
        op: Op::QUOTIENT,
        why: error.to_string(),
    })?;
    let compiled = pieces.pieces.iter().map(|piece| quotient.compile(queue, &piece.program));
    Ok(Arc::new(CompiledPieces { programs: compiled.collect::<Result<_>>()?, pieces }))
}

/// Runs the pieces of a program one after another.
fn run_pieces<C: Curve>(
    slot: &Slot<C>,
    queue: &Queue,
    compiled: &CompiledPieces<C::ScalarExt>,
    domain: &Domain<C::ScalarExt>,
    columns: &[Ref<'_, C::ScalarExt>],
    challenges: &[C::ScalarExt],
    out: &mut [RefMut<'_, C::ScalarExt>],
) -> Result<()> {
    let quotient = slot.quotient()?;
    if let ([whole], [piece]) = (compiled.programs.as_slice(), compiled.pieces.pieces.as_slice())
        && piece.is_whole(columns.len(), out.len())
    {
        return quotient.evaluate(queue, whole, domain, columns, challenges, out);
    }
    let space = slot.provider.space.as_ref();
    let spill = |_| Buffer::alloc(space, queue, 1 << domain.log_n, "spill of a program");
    let mut spills = (0..compiled.pieces.spills).map(spill).collect::<Result<Vec<_>>>()?;
    let malformed = || Error::Invalid { what: "program", why: "its pieces do not fit together".into() };
    for (piece, program) in compiled.pieces.pieces.iter().zip(&compiled.programs) {
        let (mut writes, mut reads): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        // A column that a piece writes is none that it reads.
        for (o, column) in out.iter_mut().enumerate() {
            let place = Place::Result(o as u32);
            match piece.writes.iter().position(|write| *write == place) {
                Some(at) => writes.push((at, column.reborrow())),
                None => reads.push((place, column.as_ref())),
            }
        }
        for (s, buffer) in spills.iter_mut().enumerate() {
            let place = Place::Spill(s as u32);
            match piece.writes.iter().position(|write| *write == place) {
                Some(at) => writes.push((at, buffer.as_mut())),
                None => reads.push((place, buffer.as_ref())),
            }
        }
        writes.sort_by_key(|(at, _)| *at);
        let mut writes: Vec<_> = writes.into_iter().map(|(_, column)| column).collect();
        let read = |place: &Place| match *place {
            Place::Column(c) => columns.get(c as usize).copied(),
            place => reads.iter().find(|(known, _)| *known == place).map(|(_, column)| *column),
        };
        let reads = piece.reads.iter().map(|place| read(place).ok_or_else(malformed));
        let reads = reads.collect::<Result<Vec<_>>>()?;
        quotient.evaluate(queue, program, domain, &reads, challenges, &mut writes)?;
    }
    Ok(())
}

impl<C: Curve> Engine<C> {
    fn prepared(
        &self,
        slot: &Slot<C>,
        queue: &Queue,
        msm: &dyn Msm<C>,
        bases: &EngineBases<C>,
        extra: &Extra,
    ) -> Result<Bases<C>> {
        let made = bases.prepared.get(slot, || msm.prepare(queue, &bases.host, bases.reuse));
        made.map(|made| extra.prepared(made))
    }

    /// `out[i] = Σ_j scalars[i][j] · bases[j]`, see `Msm::msm_batch`.
    ///
    /// # Errors
    /// As there, when no candidate is left. `out` is written only on success.
    pub fn msm_batch(
        &self,
        bases: &EngineBases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        self.msm_mirrored(bases, scalars, None, kind, out)
    }

    /// [`Engine::msm_batch`] where the caller also has the scalars on the host, so that results over columns that stay on a device can
    /// be verified.
    ///
    /// # Errors
    /// As there; [`Error::Length`] for a mirror of another shape.
    pub fn msm_mirrored(
        &self,
        bases: &EngineBases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        mirror: Option<&[&[C::ScalarExt]]>,
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        msm::check_batch(bases.host.len(), scalars, out.len())?;
        if let Some(mirror) = mirror {
            Error::check_len("mirrored columns", scalars.len(), mirror.len())?;
            let mut pairs = scalars.iter().zip(mirror);
            pairs.try_for_each(|(s, m)| Error::check_len("mirrored scalars", s.len(), m.len()))?;
        }
        if scalars.is_empty() {
            return Ok(());
        }
        let len = scalars.iter().map(Ref::len).max().unwrap_or(0);
        let shape = Shape::Msm(MsmShape { len, batch: scalars.len(), scalars: kind });
        let query = Query {
            shape,
            space: common_space(scalars.iter().map(Ref::space)),
            bytes: bytes::<C::ScalarExt>(scalars.iter().map(Ref::len).sum()),
        };
        let checks = self.settings().policy.checks;
        let check = |_: &[Vec<C::ScalarExt>], _: &[Cow<'_, [C::ScalarExt]>], out: &Vec<C::CurveExt>| {
            let extra = Extra::default();
            let scalars = match mirror {
                Some(mirror) => mirror.iter().map(|m| Cow::Borrowed(*m)).collect(),
                None => scalars.iter().map(|s| self.view(s, &extra)).collect::<Result<Vec<_>>>()?,
            };
            check::msm_holds::<C>(&scalars, out, |combined| self.trusted_msm(bases, combined))
        };
        let call = Call {
            query,
            outs: Outs::Fresh,
            checked: checks.msm_from_batch.is_some_and(|least| scalars.len() >= least)
                && (checks.recompute
                    || mirror.is_some()
                    || scalars.iter().all(|s| s.space() == SpaceId::HOST)),
            check: Some(&check),
        };
        let handle = |slot: &Slot<C>| {
            let ready = slot.is_host() || bases.prepared.ready(slot);
            if ready { 0 } else { bytes::<C>(bases.host.len()) }
        };
        let result = self.run(&call, handle, &mut [], |slot, queue, _, extra| {
            let msm = slot.msm()?;
            let prepared = self.prepared(slot, queue, msm.as_ref(), bases, extra)?;
            // What the host has is not fetched from a device, which may be lost.
            let elsewhere = scalars.iter().any(|s| s.space() != slot.space());
            let mirrored: Option<Vec<Ref<'_, C::ScalarExt>>> =
                mirror.filter(|_| elsewhere).map(|columns| columns.iter().map(|c| Ref::host(c)).collect());
            let brought = self.bring(slot, mirrored.as_deref().unwrap_or(scalars), extra)?;
            let mut result = vec![C::CurveExt::identity(); scalars.len()];
            msm.msm_batch(queue, &prepared, &refs(&brought), kind, &mut result)?;
            Ok(result)
        })?;
        out.copy_from_slice(&result);
        Ok(())
    }

    /// One multiplication on the host: by a trusted provider, or without any by the curve library's own.
    fn trusted_msm(&self, bases: &EngineBases<C>, scalars: &[C::ScalarExt]) -> Result<C::CurveExt> {
        let query = Query::msm(scalars.len(), 1, ScalarKind::Full);
        let Some(slot) = self.trusted(&query) else {
            let points = bases.host.get(..scalars.len()).unwrap_or_default();
            return Ok(halo2curves::msm::msm_parallel(scalars, points));
        };
        let (queue, msm) = (slot.queue()?, slot.msm()?);
        let prepared = self.prepared(slot, &queue, msm.as_ref(), bases, &Extra::default())?;
        msm.msm(&queue, &prepared, Ref::host(scalars), ScalarKind::Full)
    }

    /// In-place transforms, see `Ntt::ntt_batch`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn ntt_batch(
        &self,
        plan: &NttPlan<C::ScalarExt>,
        columns: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        ntt::check_columns(plan, columns)?;
        if columns.is_empty() {
            return Ok(());
        }
        let query = Query {
            shape: Shape::Ntt(plan.shape(columns.len())),
            space: common_space(columns.iter().map(RefMut::space)),
            bytes: bytes::<C::ScalarExt>(columns.len() << plan.log_n),
        };
        let check = |kept: &[Vec<C::ScalarExt>], outs: &[Cow<'_, [C::ScalarExt]>], (): &()| {
            let kept: Vec<Cow<'_, [C::ScalarExt]>> =
                kept.iter().map(|c| Cow::Borrowed(c.as_slice())).collect();
            check::ntt_holds(plan, &kept, outs)
        };
        let checked = self.settings().policy.checks.ntt;
        let call = Call { query, outs: Outs::InPlace, checked, check: Some(&check) };
        self.run(
            &call,
            |_| 0,
            columns,
            |slot, queue, columns, _| Ok(slot.ntt()?.ntt_batch(queue, plan, columns)?),
        )
    }

    /// Out-of-place transforms, see `Ntt::ntt_batch_into`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn ntt_batch_into(
        &self,
        plan: &NttPlan<C::ScalarExt>,
        from: &[Ref<'_, C::ScalarExt>],
        to: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        Error::check_len("ntt output columns", from.len(), to.len())?;
        ntt::check_columns(plan, to)?;
        let n = 1usize << plan.log_n;
        if let Some(long) = from.iter().find(|column| column.len() > n) {
            return Err(Error::Length { what: "ntt input column", expected: n, found: long.len() });
        }
        if from.is_empty() {
            return Ok(());
        }
        let query = Query {
            shape: Shape::Ntt(plan.shape(from.len())),
            space: common_space(from.iter().map(Ref::space).chain(to.iter().map(RefMut::space))),
            bytes: bytes::<C::ScalarExt>(to.len() << plan.log_n),
        };
        let checks = self.settings().policy.checks;
        let check = |_: &[Vec<C::ScalarExt>], outs: &[Cow<'_, [C::ScalarExt]>], (): &()| {
            let extra = Extra::default();
            let from = from.iter().map(|s| self.view(s, &extra)).collect::<Result<Vec<_>>>()?;
            check::ntt_holds(plan, &from, outs)
        };
        let on_host = from.iter().all(|s| s.space() == SpaceId::HOST);
        let call = Call {
            query,
            outs: Outs::Fresh,
            checked: checks.ntt && (checks.recompute || on_host),
            check: Some(&check),
        };
        self.run(
            &call,
            |_| 0,
            to,
            |slot, queue, to, extra| {
                let brought = self.bring(slot, from, extra)?;
                Ok(slot.ntt()?.ntt_batch_into(queue, plan, &refs(&brought), to)?)
            },
        )
    }

    /// Evaluates a program over the rows of a domain, see `Quotient::evaluate`.
    ///
    /// # Errors
    /// As there and as `Quotient::compile`, when no candidate is left.
    pub fn evaluate(
        &self,
        program: &EngineProgram<C::ScalarExt>,
        domain: &Domain<C::ScalarExt>,
        columns: &[Ref<'_, C::ScalarExt>],
        challenges: &[C::ScalarExt],
        out: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        quotient::check_operands(program.program(), domain, columns, challenges, out)?;
        let query = Query {
            shape: Shape::Quotient(quotient_shape(program.program(), domain.log_n)),
            space: common_space(columns.iter().map(Ref::space)),
            bytes: bytes::<C::ScalarExt>((columns.len() + out.len()) << domain.log_n),
        };
        let call = Call { query, outs: Outs::Fresh, checked: false, check: None };
        self.run(
            &call,
            |_| 0,
            out,
            |slot, queue, out, extra| {
                let quotient = slot.quotient()?;
                let made =
                    program.compiled.get(slot, || compile(quotient.as_ref(), queue, program.program()))?;
                let compiled = extra.prepared(made);
                let brought = self.bring(slot, columns, extra)?;
                Ok(run_pieces(slot, queue, &compiled, domain, &refs(&brought), challenges, out)?)
            },
        )
    }

    /// Runs a polynomial operation that has no cheap check.
    fn run_poly<R: PartialEq>(
        &self,
        call: PolyCall,
        (len, batch): (usize, usize),
        space: SpaceId,
        (outs, columns): (Outs, &mut [RefMut<'_, C::ScalarExt>]),
        mut f: impl FnMut(
            &dyn PolyOps<C::ScalarExt>,
            &Slot<C>,
            &Queue,
            &mut [RefMut<'_, C::ScalarExt>],
            &Extra,
        ) -> std::result::Result<R, Fault>,
    ) -> Result<R> {
        let shape = Shape::Poly(PolyShape { call, log_n: log2_ceil(len), batch });
        let query = Query { shape, space, bytes: bytes::<C::ScalarExt>(len.saturating_mul(batch)) };
        let call = Call { query, outs, checked: false, check: None };
        self.run(
            &call,
            |_| 0,
            columns,
            |slot, queue, columns, extra| f(slot.poly()?.as_ref(), slot, queue, columns, extra),
        )
    }

    /// `out[i] = Σ_t c_t · p_t[i]`, see `PolyOps::linear_combination`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn linear_combination(
        &self,
        terms: &[(C::ScalarExt, Ref<'_, C::ScalarExt>)],
        out: RefMut<'_, C::ScalarExt>,
    ) -> Result<()> {
        if let Some((_, long)) = terms.iter().find(|(_, p)| p.len() > out.len()) {
            return Err(Error::Length { what: "term", expected: out.len(), found: long.len() });
        }
        let size = (out.len(), terms.len().max(1));
        let space = common_space(terms.iter().map(|(_, p)| p.space()).chain([out.space()]));
        let (weights, polys): (Vec<_>, Vec<_>) = terms.iter().copied().unzip();
        let outs = (Outs::Fresh, &mut [out][..]);
        self.run_poly(PolyCall::LinearCombination, size, space, outs, |poly, slot, queue, outs, extra| {
            let brought = self.bring(slot, &polys, extra)?;
            let terms: Vec<_> = weights.iter().copied().zip(refs(&brought)).collect();
            Ok(outs.iter_mut().try_for_each(|out| poly.linear_combination(queue, &terms, out.reborrow()))?)
        })
    }

    /// `out[q] = p_q(x_q)`, see `PolyOps::evaluate_batch`.
    ///
    /// # Errors
    /// As there, when no candidate is left. `out` is written only on success.
    pub fn evaluate_batch(
        &self,
        polys: &[Ref<'_, C::ScalarExt>],
        queries: &[(usize, C::ScalarExt)],
        out: &mut [C::ScalarExt],
    ) -> Result<()> {
        Error::check_len("evaluations", queries.len(), out.len())?;
        if let Some((p, _)) = queries.iter().find(|(p, _)| *p >= polys.len()) {
            let why = format!("polynomial {p} of {}", polys.len());
            return Err(Error::Invalid { what: "evaluation query", why });
        }
        if queries.is_empty() {
            return Ok(());
        }
        let size = (polys.iter().map(Ref::len).max().unwrap_or(0), queries.len());
        let space = common_space(polys.iter().map(Ref::space));
        let outs = (Outs::Fresh, &mut [][..]);
        let values =
            self.run_poly(PolyCall::Evaluate, size, space, outs, |poly, slot, queue, _, extra| {
                let brought = self.bring(slot, polys, extra)?;
                let mut values = vec![C::ScalarExt::default(); queries.len()];
                poly.evaluate_batch(queue, &refs(&brought), queries, &mut values)?;
                Ok(values)
            })?;
        out.copy_from_slice(&values);
        Ok(())
    }

    /// Division by X − root, see `PolyOps::divide_by_linear`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn divide_by_linear(&self, poly: RefMut<'_, C::ScalarExt>, root: C::ScalarExt) -> Result<()> {
        self.in_place(PolyCall::Divide, poly, |ops, queue, poly| ops.divide_by_linear(queue, poly, root))
    }

    /// `values[i] ← values[i]⁻¹`, zero staying zero, see `PolyOps::batch_invert`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn batch_invert(&self, values: RefMut<'_, C::ScalarExt>) -> Result<()> {
        self.in_place(PolyCall::Invert, values, |ops, queue, values| ops.batch_invert(queue, values))
    }

    /// `a[i] ← a[i] · b[i]`, see `PolyOps::multiply`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn multiply(&self, a: RefMut<'_, C::ScalarExt>, b: Ref<'_, C::ScalarExt>) -> Result<()> {
        Error::check_len("factors", a.len(), b.len())?;
        let (size, space) = ((a.len(), 1), common_space([a.space(), b.space()].into_iter()));
        let outs = (Outs::InPlace, &mut [a][..]);
        self.run_poly(PolyCall::Multiply, size, space, outs, |poly, slot, queue, outs, extra| {
            let brought = self.bring(slot, &[b], extra)?;
            let brought = refs(&brought);
            let pairs = outs.iter_mut().zip(brought);
            Ok(pairs.into_iter().try_for_each(|(a, b)| poly.multiply(queue, a.reborrow(), b))?)
        })
    }

    /// The exclusive running product, see `PolyOps::running_product`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn running_product(
        &self,
        values: RefMut<'_, C::ScalarExt>,
        first: C::ScalarExt,
    ) -> Result<C::ScalarExt> {
        self.in_place(PolyCall::RunningProduct, values, |ops, queue, values| {
            ops.running_product(queue, values, first)
        })
    }

    /// The exclusive affine scan, see `PolyOps::scan`.
    ///
    /// # Errors
    /// As there, when no candidate is left.
    pub fn scan(
        &self,
        recurrence: &Recurrence<'_, C::ScalarExt>,
        out: RefMut<'_, C::ScalarExt>,
    ) -> Result<C::ScalarExt> {
        quotient::check_recurrence(recurrence, out.len())?;
        let columns: Vec<_> = recurrence.factors.iter().chain(&recurrence.summands).copied().collect();
        let size = (out.len(), 1);
        let space = common_space(columns.iter().map(Ref::space).chain([out.space()]));
        let outs = (Outs::Fresh, &mut [out][..]);
        self.run_poly(PolyCall::Scan, size, space, outs, |poly, slot, queue, outs, extra| {
            let brought = self.bring(slot, &columns, extra)?;
            let mut brought = refs(&brought).into_iter();
            let factors = recurrence.factors.and_then(|_| brought.next());
            let recurrence = Recurrence { first: recurrence.first, factors, summands: brought.next() };
            let mut last = recurrence.first;
            for out in outs {
                last = poly.scan(queue, &recurrence, out.reborrow())?;
            }
            Ok(last)
        })
    }

    /// A polynomial operation on one column in place.
    fn in_place<R: PartialEq + Default>(
        &self,
        call: PolyCall,
        column: RefMut<'_, C::ScalarExt>,
        f: impl Fn(&dyn PolyOps<C::ScalarExt>, &Queue, RefMut<'_, C::ScalarExt>) -> Result<R>,
    ) -> Result<R> {
        let (size, space) = ((column.len(), 1), column.space());
        let outs = (Outs::InPlace, &mut [column][..]);
        self.run_poly(call, size, space, outs, |poly, _, queue, outs, _| {
            let mut result = R::default();
            for column in outs {
                result = f(poly, queue, column.reborrow())?;
            }
            Ok(result)
        })
    }
}
