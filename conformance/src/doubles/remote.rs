//! A host backend behind a device's manners: its own space, opaque buffers, its own handles, finite memory.
//!
//! It stages host operands into device buffers and computes there, so memory runs out where a real device's would, and it refuses
//! foreign buffers and handles. What the rest of the project knows about residency is tested with it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ff::PrimeField;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{
    DeviceInfo, DeviceRepr, Error, Limits, MemoryInfo, Op, Place, Prepared, Queue, RawBuffer, Ref, RefMut,
    Result, Space, SpaceId, Support, as_bytes, as_bytes_mut,
};
use parhelion_backend_api::{
    Backend, Bases, Compiled, Curve, Domain, Msm, MsmShape, Ntt, NttPlan, NttShape, PolyOps, PolyShape,
    Program, ProgramLimits, Provider, Quotient, QuotientShape, Recurrence, Reuse, ScalarKind, Unavailable,
    msm, ntt, quotient,
};

const NAME: &str = "remote";

/// A host backend that pretends to be a device with memory of its own.
#[derive(Clone, Debug)]
pub struct Remote<B> {
    inner: B,
    index: u16,
    memory: u64,
    limits: Limits,
    program: ProgramLimits,
    simulated: bool,
}

impl<B> Remote<B> {
    /// The device `remote:0` with 1 GiB of memory.
    pub fn new(inner: B) -> Self {
        Remote {
            inner,
            index: 0,
            memory: 1 << 30,
            limits: Limits::NONE,
            program: ProgramLimits::NONE,
            simulated: false,
        }
    }

    /// The same device with another index.
    pub fn at(self, index: u16) -> Self {
        Remote { index, ..self }
    }

    /// The same device with another amount of memory, in bytes.
    pub fn with_memory(self, memory: u64) -> Self {
        Remote { memory, ..self }
    }

    /// The same device with a largest buffer, in bytes.
    pub fn with_largest_buffer(self, bytes: u64) -> Self {
        Remote { limits: self.limits.with_largest_buffer(bytes), ..self }
    }

    /// The same device with an alignment of slices, in bytes.
    pub fn with_alignment(self, bytes: u64) -> Self {
        Remote { limits: self.limits.with_alignment(bytes), ..self }
    }

    /// The same device, where one call of a program takes no more than this.
    pub fn with_program_limits(self, program: ProgramLimits) -> Self {
        Remote { program, ..self }
    }

    /// The same device, declared as a simulator.
    pub fn simulated(self) -> Self {
        Remote { simulated: true, ..self }
    }

    fn space(&self) -> SpaceId {
        SpaceId { name: NAME, index: self.index }
    }

    fn memory_info(&self) -> MemoryInfo {
        MemoryInfo { total: Some(self.memory), free: Some(self.memory) }
    }
}

impl<B: Backend> Backend for Remote<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        self.inner.probe()?;
        Ok(vec![DeviceInfo {
            backend: NAME,
            space: self.space(),
            name: format!("{} at a distance", self.inner.name()),
            driver: concat!("parhelion-conformance ", env!("CARGO_PKG_VERSION")).into(),
            memory: self.memory_info(),
            simulated: self.simulated,
        }])
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider> {
        let inner = self.inner.probe().ok().and_then(|devices| devices.into_iter().next());
        let inner = inner.ok_or(Error::DeviceLost { backend: NAME, why: "nothing inside".into() })?;
        let inner = self.inner.open(&inner)?;
        let queue = inner.space.queue()?;
        let memory = Arc::new(Memory {
            space: self.space(),
            total: self.memory,
            limits: self.limits,
            program: self.program,
            used: AtomicU64::new(0),
        });
        fn at<T: ?Sized>(op: Option<Arc<T>>, memory: &Arc<Memory>, queue: &Queue) -> Option<Arc<At<T>>> {
            op.map(|op| Arc::new(At { op, memory: memory.clone(), queue: queue.clone() }))
        }
        let msm = at(inner.msm::<G1Affine>(), &memory, &queue).map(|at| at as Arc<dyn Msm<G1Affine>>);
        let ntt = at(inner.ntt::<Fr>(), &memory, &queue).map(|at| at as Arc<dyn Ntt<Fr>>);
        let quotient = at(inner.quotient::<Fr>(), &memory, &queue).map(|at| at as Arc<dyn Quotient<Fr>>);
        let poly = at(inner.poly::<Fr>(), &memory, &queue).map(|at| at as Arc<dyn PolyOps<Fr>>);
        let provider = Provider::new(device.clone(), Arc::new(RemoteSpace(memory)));
        Ok(provider.offer_some(msm).offer_some(ntt).offer_some(quotient).offer_some(poly))
    }
}

#[derive(Debug)]
struct Memory {
    space: SpaceId,
    total: u64,
    limits: Limits,
    program: ProgramLimits,
    used: AtomicU64,
}

/// A share of a device's memory, given back when dropped.
#[derive(Debug)]
struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Memory {
    fn reserve(self: &Arc<Self>, bytes: u64, what: &'static str) -> Result<Share> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.total)
            })
            .map(|_| Share { memory: self.clone(), bytes })
            .map_err(|used| Error::OutOfMemory {
                backend: NAME,
                what,
                requested: bytes,
                free: Some(self.total - used),
            })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[derive(Debug)]
struct RemoteBuffer {
    share: Share,
    name: &'static str,
    data: Vec<u8>,
}

impl RawBuffer for RemoteBuffer {
    fn space(&self) -> SpaceId {
        self.share.memory.space
    }
    fn bytes(&self) -> u64 {
        self.share.bytes
    }
    fn name(&self) -> &'static str {
        self.name
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[derive(Debug)]
struct RemoteSpace(Arc<Memory>);

impl RemoteSpace {
    fn range(what: &'static str, at: u64, len: usize, all: usize) -> Result<std::ops::Range<usize>> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(len);
        if end > all { Err(Error::Length { what, expected: all, found: end }) } else { Ok(at..end) }
    }
}

impl Space for RemoteSpace {
    fn id(&self) -> SpaceId {
        self.0.space
    }

    fn memory(&self) -> MemoryInfo {
        let free = self.0.total.saturating_sub(self.0.used.load(Ordering::Acquire));
        MemoryInfo { total: Some(self.0.total), free: Some(free) }
    }

    fn limits(&self) -> Limits {
        self.0.limits
    }

    fn queue(&self) -> Result<Queue> {
        Ok(Queue::new(self.0.space, Arc::new(())))
    }

    fn alloc(&self, _: &Queue, bytes: u64, name: &'static str) -> Result<Box<dyn RawBuffer>> {
        let share = self.0.reserve(bytes, name)?;
        // Fresh memory of a device holds anything.
        Ok(Box::new(RemoteBuffer { share, name, data: vec![0x5a; bytes as usize] }))
    }

    fn upload(&self, _: &Queue, src: &[u8], dst: &mut dyn RawBuffer, at: u64) -> Result<()> {
        let (found, name) = (dst.space(), dst.name());
        let dst =
            own_mut(dst, self.0.space).ok_or(Error::WrongSpace { name, expected: self.0.space, found })?;
        let range = Self::range("upload", at, src.len(), dst.data.len())?;
        dst.data[range].copy_from_slice(src);
        Ok(())
    }

    fn download(&self, _: &Queue, src: &dyn RawBuffer, at: u64, dst: &mut [u8]) -> Result<()> {
        let src = own(src, self.0.space)?;
        let range = Self::range("download", at, dst.len(), src.data.len())?;
        dst.copy_from_slice(&src.data[range]);
        Ok(())
    }
}

fn own(raw: &dyn RawBuffer, space: SpaceId) -> Result<&RemoteBuffer> {
    let wrong = Error::WrongSpace { name: raw.name(), expected: space, found: raw.space() };
    raw.as_any().downcast_ref::<RemoteBuffer>().filter(|b| b.share.memory.space == space).ok_or(wrong)
}

fn own_mut(raw: &mut dyn RawBuffer, space: SpaceId) -> Option<&mut RemoteBuffer> {
    raw.as_any_mut().downcast_mut::<RemoteBuffer>().filter(|b| b.share.memory.space == space)
}

/// An operation of the backend inside, on this device.
#[derive(Debug)]
struct At<T: ?Sized> {
    memory: Arc<Memory>,
    queue: Queue,
    op: Arc<T>,
}

/// Operands as the backend inside reads them, with the device memory that they take up.
#[derive(Debug)]
struct Local<F> {
    columns: Vec<Vec<F>>,
    _share: Share,
}

impl<F: PrimeField + DeviceRepr> Local<F> {
    fn refs(&self) -> Vec<Ref<'_, F>> {
        self.columns.iter().map(|column| Ref::host(column)).collect()
    }

    fn refs_mut(&mut self) -> Vec<RefMut<'_, F>> {
        self.columns.iter_mut().map(|column| RefMut::host(column)).collect()
    }
}

impl<T: ?Sized> At<T> {
    /// Brings operands here. Nothing is written before this has succeeded.
    fn fetch<F: PrimeField + DeviceRepr>(&self, operands: &[Ref<'_, F>]) -> Result<Local<F>> {
        let host = operands.iter().filter(|r| r.space() == SpaceId::HOST).map(Ref::len).sum::<usize>();
        let share = self.memory.reserve((host * size_of::<F>()) as u64, "staging")?;
        let columns = operands
            .iter()
            .map(|operand| {
                let mut column = vec![F::ZERO; operand.len()];
                match operand.place() {
                    Place::Device { raw, start, .. } if raw.space() != SpaceId::HOST => {
                        let buffer = own(raw, self.memory.space)?;
                        let bytes = as_bytes_mut(&mut column);
                        let at = (start * size_of::<F>()) as u64;
                        let range = RemoteSpace::range("operand", at, bytes.len(), buffer.data.len())?;
                        bytes.copy_from_slice(&buffer.data[range]);
                    }
                    _ => column.copy_from_slice(operand.as_host()?),
                }
                Ok(column)
            })
            .collect::<Result<_>>()?;
        Ok(Local { columns, _share: share })
    }

    fn fetch_mut<F: PrimeField + DeviceRepr>(&self, operands: &[RefMut<'_, F>]) -> Result<Local<F>> {
        self.fetch(&operands.iter().map(RefMut::as_ref).collect::<Vec<_>>())
    }

    /// Writes results to where they belong.
    fn store<F: PrimeField + DeviceRepr>(
        &self,
        local: &Local<F>,
        operands: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        for (column, operand) in local.columns.iter().zip(operands) {
            if operand.space() == SpaceId::HOST {
                operand.as_host()?.copy_from_slice(column);
            } else if let Some((raw, start, _)) = operand.device() {
                let (name, found) = (raw.name(), raw.space());
                let expected = self.memory.space;
                let buffer = own_mut(raw, expected).ok_or(Error::WrongSpace { name, expected, found })?;
                let bytes = as_bytes(column);
                let at = (start * size_of::<F>()) as u64;
                let range = RemoteSpace::range("result", at, bytes.len(), buffer.data.len())?;
                buffer.data[range].copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn on_one<F: PrimeField + DeviceRepr, R>(
        &self,
        column: RefMut<'_, F>,
        f: impl FnOnce(RefMut<'_, F>) -> Result<R>,
    ) -> Result<R> {
        let mut columns = [column];
        let mut local = self.fetch_mut(&columns)?;
        let result = match local.refs_mut().pop() {
            Some(column) => f(column)?,
            None => return Err(Error::Invalid { what: "column", why: "none".into() }),
        };
        self.store(&local, &mut columns)?;
        Ok(result)
    }
}

/// A handle of the backend inside, in this device's space.
#[derive(Debug)]
struct Handle<T> {
    inner: T,
    share: Share,
}

impl<T: std::fmt::Debug + Send + Sync + 'static> Prepared for Handle<T> {
    fn space(&self) -> SpaceId {
        self.share.memory.space
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<T> Handle<T> {
    fn check(&self, name: &'static str, expected: SpaceId) -> Result<&T> {
        let found = self.share.memory.space;
        if found == expected { Ok(&self.inner) } else { Err(Error::WrongSpace { name, expected, found }) }
    }
}

impl<C: Curve> Msm<C> for At<dyn Msm<C>> {
    fn supports(&self, shape: &MsmShape) -> Support {
        self.op.supports(shape)
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        self.op.workspace(shape)
    }

    fn prepare(&self, _: &Queue, bases: &[C], reuse: Reuse) -> Result<Bases<C>> {
        let share = self.memory.reserve(size_of_val(bases) as u64, "bases")?;
        let inner = self.op.prepare(&self.queue, bases, reuse)?;
        Ok(Bases::new(Arc::new(Handle { inner, share }), bases.len()))
    }

    fn msm_batch(
        &self,
        _: &Queue,
        bases: &Bases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        let space = self.memory.space;
        let inner = bases.downcast::<Handle<Bases<C>>>(space)?.check("bases", space)?;
        msm::check_batch(bases.len(), scalars, out.len())?;
        let local = self.fetch(scalars)?;
        self.op.msm_batch(&self.queue, inner, &local.refs(), kind, out)
    }
}

impl<F: PrimeField + DeviceRepr> Ntt<F> for At<dyn Ntt<F>> {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(RemoteSpace(self.memory.clone()))
    }

    fn supports(&self, shape: &NttShape) -> Support {
        self.op.supports(shape)
    }

    fn workspace(&self, shape: &NttShape) -> u64 {
        self.op.workspace(shape)
    }

    fn ntt_batch(&self, _: &Queue, plan: &NttPlan<F>, columns: &mut [RefMut<'_, F>]) -> Result<()> {
        ntt::check_columns(plan, columns)?;
        let mut local = self.fetch_mut(columns)?;
        self.op.ntt_batch(&self.queue, plan, &mut local.refs_mut())?;
        self.store(&local, columns)
    }

    fn ntt_batch_into(
        &self,
        _: &Queue,
        plan: &NttPlan<F>,
        from: &[Ref<'_, F>],
        to: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        let from = self.fetch(from)?;
        let mut local = self.fetch_mut(to)?;
        self.op.ntt_batch_into(&self.queue, plan, &from.refs(), &mut local.refs_mut())?;
        self.store(&local, to)
    }
}

impl<F: PrimeField + DeviceRepr> Quotient<F> for At<dyn Quotient<F>> {
    fn supports(&self, shape: &QuotientShape) -> Support {
        self.op.supports(shape)
    }

    fn workspace(&self, shape: &QuotientShape) -> u64 {
        self.op.workspace(shape)
    }

    fn limits(&self) -> ProgramLimits {
        self.memory.program
    }

    fn compile(&self, _: &Queue, program: &Program<F>) -> Result<Compiled<F>> {
        let share = self.memory.reserve(0, "program")?;
        let handle = Handle { inner: (self.op.compile(&self.queue, program)?, program.clone()), share };
        Ok(Compiled::new(Arc::new(handle)))
    }

    fn evaluate(
        &self,
        _: &Queue,
        program: &Compiled<F>,
        domain: &Domain<F>,
        columns: &[Ref<'_, F>],
        challenges: &[F],
        out: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        let space = self.memory.space;
        let handle = program.downcast::<Handle<(Compiled<F>, Program<F>)>>(space)?;
        let (compiled, program) = handle.check("program", space)?;
        if !self.memory.program.admit(program) {
            let why = format!("beyond {:?}", self.memory.program);
            return Err(Error::Unsupported { backend: NAME, op: Op::QUOTIENT, why });
        }
        quotient::check_operands(program, domain, columns, challenges, out)?;
        let columns = self.fetch(columns)?;
        let mut local = self.fetch_mut(out)?;
        let outs = &mut local.refs_mut();
        self.op.evaluate(&self.queue, compiled, domain, &columns.refs(), challenges, outs)?;
        self.store(&local, out)
    }
}

impl<F: PrimeField + DeviceRepr> PolyOps<F> for At<dyn PolyOps<F>> {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(RemoteSpace(self.memory.clone()))
    }

    fn supports(&self, shape: &PolyShape) -> Support {
        self.op.supports(shape)
    }

    fn workspace(&self, shape: &PolyShape) -> u64 {
        self.op.workspace(shape)
    }

    fn linear_combination(&self, _: &Queue, terms: &[(F, Ref<'_, F>)], out: RefMut<'_, F>) -> Result<()> {
        let polys = self.fetch(&terms.iter().map(|(_, p)| *p).collect::<Vec<_>>())?;
        let terms: Vec<_> = terms.iter().map(|(c, _)| *c).zip(polys.refs()).collect();
        self.on_one(out, |out| self.op.linear_combination(&self.queue, &terms, out))
    }

    fn evaluate_batch(
        &self,
        _: &Queue,
        polys: &[Ref<'_, F>],
        queries: &[(usize, F)],
        out: &mut [F],
    ) -> Result<()> {
        let polys = self.fetch(polys)?;
        self.op.evaluate_batch(&self.queue, &polys.refs(), queries, out)
    }

    fn divide_by_linear(&self, _: &Queue, poly: RefMut<'_, F>, root: F) -> Result<()> {
        self.on_one(poly, |poly| self.op.divide_by_linear(&self.queue, poly, root))
    }

    fn batch_invert(&self, _: &Queue, values: RefMut<'_, F>) -> Result<()> {
        self.on_one(values, |values| self.op.batch_invert(&self.queue, values))
    }

    fn multiply(&self, _: &Queue, a: RefMut<'_, F>, b: Ref<'_, F>) -> Result<()> {
        let b = self.fetch(&[b])?;
        self.on_one(a, |a| {
            b.refs().into_iter().zip([a]).try_for_each(|(b, a)| self.op.multiply(&self.queue, a, b))
        })
    }

    fn running_product(&self, _: &Queue, values: RefMut<'_, F>, first: F) -> Result<F> {
        self.on_one(values, |values| self.op.running_product(&self.queue, values, first))
    }

    fn scan(&self, _: &Queue, recurrence: &Recurrence<'_, F>, out: RefMut<'_, F>) -> Result<F> {
        quotient::check_recurrence(recurrence, out.len())?;
        let columns: Vec<_> = recurrence.factors.iter().chain(&recurrence.summands).copied().collect();
        let columns = self.fetch(&columns)?;
        let mut refs = columns.refs().into_iter();
        let factors = recurrence.factors.and_then(|_| refs.next());
        let recurrence = Recurrence { first: recurrence.first, factors, summands: refs.next() };
        self.on_one(out, |out| self.op.scan(&self.queue, &recurrence, out))
    }
}
