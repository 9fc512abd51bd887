//! A provider whose every call passes a hook before and after.

use std::fmt::Debug;
use std::sync::Arc;

use ff::PrimeField;
use parhelion_backend_api::hal::{
    DeviceRepr, Limits, Part, Queue, RawBuffer, Ref, RefMut, Result, Space, SpaceId, Support,
};
use parhelion_backend_api::{
    Bases, Compiled, Curve, Domain, Msm, MsmShape, Ntt, NttPlan, NttShape, PolyCall, PolyOps, PolyShape,
    Program, ProgramLimits, Provider, Quotient, QuotientShape, Recurrence, Reuse, ScalarKind,
};
use parhelion_dispatch::Shape;

/// A call that is about to be made, or has just been.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Memory is asked for.
    Alloc,
    /// A handle is prepared.
    Prepare(parhelion_backend_api::Op),
    /// An operation runs.
    Run(Shape),
}

/// What to do around calls.
pub(super) trait Hook<C: Curve>: Debug + Send + Sync {
    /// Before a call; an error is returned in its place. `columns` is what the call would write.
    fn before(&self, event: Event, columns: &mut [RefMut<'_, C::ScalarExt>]) -> Result<()>;
    /// After a call that wrote columns.
    fn columns(&self, _: Event, _: &mut [RefMut<'_, C::ScalarExt>]) -> Result<()> {
        Ok(())
    }
    /// After a call that returned points.
    fn points(&self, _: Event, _: &mut [C::CurveExt]) {}
    /// After a call that returned scalars.
    fn scalars(&self, _: Event, _: &mut [C::ScalarExt]) {}
}

/// Wraps every operation of a provider, and its space.
pub(super) fn intercept<C: Curve, H: Hook<C> + 'static>(
    inner: Provider,
    name: &'static str,
    hook: &Arc<H>,
) -> Provider {
    fn wrap<T: ?Sized, H>(inner: Option<Arc<T>>, hook: &Arc<H>) -> Option<Arc<Tap<T, H>>> {
        inner.map(|inner| Arc::new(Tap { inner, hook: hook.clone() }))
    }
    let mut info = inner.info.clone();
    info.backend = name;
    let msm = wrap(inner.msm::<C>(), hook).map(|tap| tap as Arc<dyn Msm<C>>);
    let ntt = wrap(inner.ntt::<C::ScalarExt>(), hook)
        .map(|tap| Arc::new(ForField::<C, _>::new(tap)) as Arc<dyn Ntt<C::ScalarExt>>);
    let quotient = wrap(inner.quotient::<C::ScalarExt>(), hook)
        .map(|tap| Arc::new(ForField::<C, _>::new(tap)) as Arc<dyn Quotient<C::ScalarExt>>);
    let poly = wrap(inner.poly::<C::ScalarExt>(), hook)
        .map(|tap| Arc::new(ForField::<C, _>::new(tap)) as Arc<dyn PolyOps<C::ScalarExt>>);
    let space = TapSpace::<C, H> { inner: inner.space, hook: hook.clone(), _curve: std::marker::PhantomData };
    let provider = Provider::new(info, Arc::new(space));
    provider.offer_some(msm).offer_some(ntt).offer_some(quotient).offer_some(poly)
}

#[derive(Debug)]
struct Tap<T: ?Sized, H> {
    inner: Arc<T>,
    hook: Arc<H>,
}

/// A tap on an operation over the scalar field of a curve: the field alone does not name the curve that the hook is for.
#[derive(Debug)]
struct ForField<C, T>(Arc<T>, std::marker::PhantomData<C>);

impl<C, T> ForField<C, T> {
    fn new(tap: Arc<T>) -> Self {
        ForField(tap, std::marker::PhantomData)
    }
}

#[derive(Debug)]
struct TapSpace<C, H> {
    inner: Arc<dyn Space>,
    hook: Arc<H>,
    _curve: std::marker::PhantomData<C>,
}

impl<C: Curve, H: Hook<C>> Space for TapSpace<C, H> {
    fn id(&self) -> SpaceId {
        self.inner.id()
    }
    fn memory(&self) -> parhelion_backend_api::hal::MemoryInfo {
        self.inner.memory()
    }
    fn queue(&self) -> Result<Queue> {
        self.inner.queue()
    }
    fn alloc(&self, queue: &Queue, bytes: u64, name: &'static str) -> Result<Box<dyn RawBuffer>> {
        self.hook.before(Event::Alloc, &mut [])?;
        self.inner.alloc(queue, bytes, name)
    }
    fn upload(&self, queue: &Queue, src: &[u8], dst: &mut dyn RawBuffer, at: u64) -> Result<()> {
        self.inner.upload(queue, src, dst, at)
    }
    fn download(&self, queue: &Queue, src: &dyn RawBuffer, at: u64, dst: &mut [u8]) -> Result<()> {
        self.inner.download(queue, src, at, dst)
    }
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn copy(&self, queue: &Queue, src: Part<'_>, dst: &mut dyn RawBuffer, at: u64) -> Result<()> {
        self.inner.copy(queue, src, dst, at)
    }
    fn fill(
        &self,
        queue: &Queue,
        dst: &mut dyn RawBuffer,
        at: u64,
        bytes: u64,
        pattern: [u64; 4],
    ) -> Result<()> {
        self.inner.fill(queue, dst, at, bytes, pattern)
    }
}

impl<C: Curve, H: Hook<C>> Msm<C> for Tap<dyn Msm<C>, H> {
    fn supports(&self, shape: &MsmShape) -> Support {
        self.inner.supports(shape)
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        self.inner.workspace(shape)
    }

    fn prepare(&self, queue: &Queue, bases: &[C], reuse: Reuse) -> Result<Bases<C>> {
        self.hook.before(Event::Prepare(parhelion_backend_api::Op::MSM), &mut [])?;
        self.inner.prepare(queue, bases, reuse)
    }

    fn msm_batch(
        &self,
        queue: &Queue,
        bases: &Bases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        let len = scalars.iter().map(Ref::len).max().unwrap_or(0);
        let event = Event::Run(Shape::Msm(MsmShape { len, batch: scalars.len(), scalars: kind }));
        self.hook.before(event, &mut [])?;
        self.inner.msm_batch(queue, bases, scalars, kind, out)?;
        self.hook.points(event, out);
        Ok(())
    }
}

type NttTap<H, F> = Tap<dyn Ntt<F>, H>;

impl<C: Curve, H: Hook<C>> Ntt<C::ScalarExt> for ForField<C, NttTap<H, C::ScalarExt>> {
    fn space(&self) -> Arc<dyn Space> {
        self.0.inner.space()
    }

    fn supports(&self, shape: &NttShape) -> Support {
        self.0.inner.supports(shape)
    }

    fn workspace(&self, shape: &NttShape) -> u64 {
        self.0.inner.workspace(shape)
    }

    fn ntt_batch(
        &self,
        queue: &Queue,
        plan: &NttPlan<C::ScalarExt>,
        columns: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        let event = Event::Run(Shape::Ntt(plan.shape(columns.len())));
        self.0.hook.before(event, columns)?;
        self.0.inner.ntt_batch(queue, plan, columns)?;
        self.0.hook.columns(event, columns)
    }

    fn ntt_batch_into(
        &self,
        queue: &Queue,
        plan: &NttPlan<C::ScalarExt>,
        from: &[Ref<'_, C::ScalarExt>],
        to: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        let event = Event::Run(Shape::Ntt(plan.shape(to.len())));
        self.0.hook.before(event, to)?;
        self.0.inner.ntt_batch_into(queue, plan, from, to)?;
        self.0.hook.columns(event, to)
    }
}

type QuotientTap<H, F> = Tap<dyn Quotient<F>, H>;

impl<C: Curve, H: Hook<C>> Quotient<C::ScalarExt> for ForField<C, QuotientTap<H, C::ScalarExt>> {
    fn supports(&self, shape: &QuotientShape) -> Support {
        self.0.inner.supports(shape)
    }

    fn workspace(&self, shape: &QuotientShape) -> u64 {
        self.0.inner.workspace(shape)
    }

    fn limits(&self) -> ProgramLimits {
        self.0.inner.limits()
    }

    fn compile(&self, queue: &Queue, program: &Program<C::ScalarExt>) -> Result<Compiled<C::ScalarExt>> {
        self.0.hook.before(Event::Prepare(parhelion_backend_api::Op::QUOTIENT), &mut [])?;
        self.0.inner.compile(queue, program)
    }

    fn evaluate(
        &self,
        queue: &Queue,
        program: &Compiled<C::ScalarExt>,
        domain: &Domain<C::ScalarExt>,
        columns: &[Ref<'_, C::ScalarExt>],
        challenges: &[C::ScalarExt],
        out: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        // A compiled program is opaque, so its steps are not known here.
        let shape = QuotientShape { log_n: domain.log_n, columns: columns.len(), steps: 0, registers: 0 };
        let event = Event::Run(Shape::Quotient(shape));
        self.0.hook.before(event, out)?;
        self.0.inner.evaluate(queue, program, domain, columns, challenges, out)?;
        self.0.hook.columns(event, out)
    }
}

type PolyTap<H, F> = Tap<dyn PolyOps<F>, H>;

fn poly(call: PolyCall, len: usize, batch: usize) -> Event {
    let log_n = len.next_power_of_two().trailing_zeros();
    Event::Run(Shape::Poly(PolyShape { call, log_n, batch }))
}

impl<C: Curve, H: Hook<C>> ForField<C, PolyTap<H, C::ScalarExt>> {
    fn in_place<R>(
        &self,
        call: PolyCall,
        mut column: RefMut<'_, C::ScalarExt>,
        f: impl FnOnce(RefMut<'_, C::ScalarExt>) -> Result<R>,
    ) -> Result<R> {
        let event = poly(call, column.len(), 1);
        self.0.hook.before(event, &mut [column.reborrow()])?;
        let result = f(column.reborrow())?;
        self.0.hook.columns(event, &mut [column])?;
        Ok(result)
    }
}

impl<C: Curve, H: Hook<C>> PolyOps<C::ScalarExt> for ForField<C, PolyTap<H, C::ScalarExt>>
where
    C::ScalarExt: PrimeField + DeviceRepr,
{
    fn space(&self) -> Arc<dyn Space> {
        self.0.inner.space()
    }

    fn supports(&self, shape: &PolyShape) -> Support {
        self.0.inner.supports(shape)
    }

    fn workspace(&self, shape: &PolyShape) -> u64 {
        self.0.inner.workspace(shape)
    }

    fn linear_combination(
        &self,
        queue: &Queue,
        terms: &[(C::ScalarExt, Ref<'_, C::ScalarExt>)],
        mut out: RefMut<'_, C::ScalarExt>,
    ) -> Result<()> {
        let event = poly(PolyCall::LinearCombination, out.len(), terms.len());
        self.0.hook.before(event, &mut [out.reborrow()])?;
        self.0.inner.linear_combination(queue, terms, out.reborrow())?;
        self.0.hook.columns(event, &mut [out])
    }

    fn evaluate_batch(
        &self,
        queue: &Queue,
        polys: &[Ref<'_, C::ScalarExt>],
        queries: &[(usize, C::ScalarExt)],
        out: &mut [C::ScalarExt],
    ) -> Result<()> {
        let len = polys.iter().map(Ref::len).max().unwrap_or(0);
        let event = poly(PolyCall::Evaluate, len, queries.len());
        self.0.hook.before(event, &mut [])?;
        self.0.inner.evaluate_batch(queue, polys, queries, out)?;
        self.0.hook.scalars(event, out);
        Ok(())
    }

    fn divide_by_linear(
        &self,
        queue: &Queue,
        poly: RefMut<'_, C::ScalarExt>,
        root: C::ScalarExt,
    ) -> Result<()> {
        self.in_place(PolyCall::Divide, poly, |poly| self.0.inner.divide_by_linear(queue, poly, root))
    }

    fn batch_invert(&self, queue: &Queue, values: RefMut<'_, C::ScalarExt>) -> Result<()> {
        self.in_place(PolyCall::Invert, values, |values| self.0.inner.batch_invert(queue, values))
    }

    fn multiply(&self, queue: &Queue, a: RefMut<'_, C::ScalarExt>, b: Ref<'_, C::ScalarExt>) -> Result<()> {
        self.in_place(PolyCall::Multiply, a, |a| self.0.inner.multiply(queue, a, b))
    }

    fn running_product(
        &self,
        queue: &Queue,
        values: RefMut<'_, C::ScalarExt>,
        first: C::ScalarExt,
    ) -> Result<C::ScalarExt> {
        let event = poly(PolyCall::RunningProduct, values.len(), 1);
        let mut product = [self.in_place(PolyCall::RunningProduct, values, |values| {
            self.0.inner.running_product(queue, values, first)
        })?];
        self.0.hook.scalars(event, &mut product);
        Ok(product[0])
    }

    fn scan(
        &self,
        queue: &Queue,
        recurrence: &Recurrence<'_, C::ScalarExt>,
        out: RefMut<'_, C::ScalarExt>,
    ) -> Result<C::ScalarExt> {
        let event = poly(PolyCall::Scan, out.len(), 1);
        let mut last = [self.in_place(PolyCall::Scan, out, |out| self.0.inner.scan(queue, recurrence, out))?];
        self.0.hook.scalars(event, &mut last);
        Ok(last[0])
    }
}
