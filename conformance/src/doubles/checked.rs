//! Two backends as one: every call runs on both, and the first difference is an error that says where.

use std::any::Any;
use std::sync::Arc;

use ff::PrimeField;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{
    DeviceInfo, DeviceRepr, Error, Op, Place, Prepared, Queue, Ref, RefMut, Result, Space, SpaceId, Support,
    as_bytes_mut,
};
use parhelion_backend_api::{
    Backend, Bases, Compiled, Curve, Domain, Msm, MsmShape, Ntt, NttPlan, NttShape, PolyOps, PolyShape,
    Program, ProgramLimits, Provider, Quotient, QuotientShape, Recurrence, Reuse, ScalarKind, Unavailable,
};

/// Where two backends differ first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} and {right} differ in the {call} at column {column}, row {row}: {why}")]
pub struct Mismatch {
    /// The backend under test.
    pub left: &'static str,
    /// The backend that it is compared with.
    pub right: &'static str,
    /// The function of the trait.
    pub call: &'static str,
    /// The column, or the index of the point or value.
    pub column: usize,
    /// The row in the column.
    pub row: usize,
    /// What differs.
    pub why: String,
}

/// A backend that runs every call on `A` and on `B` and returns `A`'s result when they agree.
///
/// Handles and buffers are `A`'s: to the outside it is `A` under the name `checked`. `B` computes on host copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked<A, B> {
    left: A,
    right: B,
}

impl<A, B> Checked<A, B> {
    /// `left` under test, `right` as the oracle.
    pub fn new(left: A, right: B) -> Self {
        Checked { left, right }
    }
}

const NAME: &str = "checked";

impl<A: Backend, B: Backend> Backend for Checked<A, B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        self.right.probe()?;
        let rename = |info: DeviceInfo| DeviceInfo { backend: NAME, ..info };
        Ok(self.left.probe()?.into_iter().map(rename).collect())
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider> {
        let left = self.left.open(&DeviceInfo { backend: self.left.name(), ..device.clone() })?;
        let right = self.right.probe().ok().and_then(|devices| devices.into_iter().next());
        let right = right.ok_or(Error::DeviceLost { backend: NAME, why: "no oracle".into() })?;
        let right = self.right.open(&right)?;
        let pair = Arc::new(Pair {
            left: self.left.name(),
            right: self.right.name(),
            space: left.space.clone(),
            queue: right.space.queue()?,
        });
        let mut provider = Provider::new(device.clone(), left.space.clone());
        if let Some((left, right)) = both(left.msm::<G1Affine>(), right.msm(), Op::MSM)? {
            let pair = pair.clone();
            provider = provider.offer::<dyn Msm<G1Affine>>(Arc::new(Both { pair, left, right }));
        }
        if let Some((left, right)) = both(left.ntt::<Fr>(), right.ntt(), Op::NTT)? {
            let pair = pair.clone();
            provider = provider.offer::<dyn Ntt<Fr>>(Arc::new(Both { pair, left, right }));
        }
        if let Some((left, right)) = both(left.quotient::<Fr>(), right.quotient(), Op::QUOTIENT)? {
            let pair = pair.clone();
            provider = provider.offer::<dyn Quotient<Fr>>(Arc::new(Both { pair, left, right }));
        }
        if let Some((left, right)) = both(left.poly::<Fr>(), right.poly(), Op::POLY)? {
            provider = provider.offer::<dyn PolyOps<Fr>>(Arc::new(Both { pair, left, right }));
        }
        Ok(provider)
    }
}

/// An operation of both, where the backend under test offers it.
fn both<T: ?Sized>(left: Option<Arc<T>>, right: Option<Arc<T>>, op: Op) -> Result<Option<(Arc<T>, Arc<T>)>> {
    match (left, right) {
        (Some(left), Some(right)) => Ok(Some((left, right))),
        (None, _) => Ok(None),
        (Some(_), None) => Err(Error::Unsupported { backend: NAME, op, why: "the oracle lacks it".into() }),
    }
}

#[derive(Debug)]
struct Pair {
    left: &'static str,
    right: &'static str,
    space: Arc<dyn Space>,
    queue: Queue,
}

#[derive(Debug)]
struct Both<T: ?Sized> {
    pair: Arc<Pair>,
    left: Arc<T>,
    right: Arc<T>,
}

impl Pair {
    fn error(&self, call: &'static str, column: usize, row: usize, why: String) -> Error {
        let mismatch = Mismatch { left: self.left, right: self.right, call, column, row, why };
        Error::Backend { backend: NAME, source: Box::new(mismatch) }
    }

    /// A host copy of an operand.
    fn read<F: PrimeField + DeviceRepr>(&self, queue: &Queue, operand: &Ref<'_, F>) -> Result<Vec<F>> {
        let mut copy = vec![F::ZERO; operand.len()];
        match operand.place() {
            Place::Device { raw, start, .. } if raw.space() != SpaceId::HOST => {
                let at = (start * size_of::<F>()) as u64;
                self.space.download(queue, raw, at, as_bytes_mut(&mut copy))?;
            }
            _ => copy.copy_from_slice(operand.as_host()?),
        }
        Ok(copy)
    }

    /// Copies, where reading is possible: an operand that the backend under test must refuse cannot be copied.
    fn read_all<F: PrimeField + DeviceRepr>(
        &self,
        queue: &Queue,
        operands: &[Ref<'_, F>],
    ) -> Option<Vec<Vec<F>>> {
        operands.iter().map(|operand| self.read(queue, operand).ok()).collect()
    }

    fn read_all_mut<F: PrimeField + DeviceRepr>(
        &self,
        queue: &Queue,
        operands: &[RefMut<'_, F>],
    ) -> Option<Vec<Vec<F>>> {
        operands.iter().map(|operand| self.read(queue, &operand.as_ref()).ok()).collect()
    }

    /// The result of the backend under test if the oracle agrees about success.
    fn agree<R, S>(&self, call: &'static str, left: Result<R>, right: Option<Result<S>>) -> Result<(R, S)> {
        match (left, right) {
            (Ok(left), Some(Ok(right))) => Ok((left, right)),
            (Err(error), None | Some(Err(_))) => Err(error),
            // These say that the device cannot, not that the call is wrong.
            (Err(error), _) if error.try_elsewhere() => Err(error),
            (Err(error), Some(Ok(_))) => {
                Err(self.error(call, 0, 0, format!("only the first fails: {error}")))
            }
            (Ok(_), Some(Err(error))) => {
                Err(self.error(call, 0, 0, format!("only the second fails: {error}")))
            }
            (Ok(_), None) => Err(self.error(call, 0, 0, "an unreadable operand was accepted".into())),
        }
    }

    fn compare<F: PrimeField + DeviceRepr>(
        &self,
        call: &'static str,
        queue: &Queue,
        left: &[RefMut<'_, F>],
        right: &[Vec<F>],
    ) -> Result<()> {
        for (column, (left, right)) in left.iter().zip(right).enumerate() {
            let left = self.read(queue, &left.as_ref())?;
            if let Some(row) = left.iter().zip(right).position(|(a, b)| a != b) {
                return Err(self.error(call, column, row, format!("{:?} and {:?}", left[row], right[row])));
            }
        }
        Ok(())
    }
}

fn refs<F: DeviceRepr>(columns: &[Vec<F>]) -> Vec<Ref<'_, F>> {
    columns.iter().map(|column| Ref::host(column)).collect()
}

fn refs_mut<F: DeviceRepr>(columns: &mut [Vec<F>]) -> Vec<RefMut<'_, F>> {
    columns.iter_mut().map(|column| RefMut::host(column)).collect()
}

#[derive(Debug)]
struct Handles<T> {
    left: T,
    right: T,
    space: SpaceId,
}

impl<T: std::fmt::Debug + Send + Sync + 'static> Prepared for Handles<T> {
    fn space(&self) -> SpaceId {
        self.space
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<C: Curve> Msm<C> for Both<dyn Msm<C>> {
    fn supports(&self, shape: &MsmShape) -> Support {
        self.left.supports(shape)
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        self.left.workspace(shape)
    }

    fn prepare(&self, queue: &Queue, bases: &[C], reuse: Reuse) -> Result<Bases<C>> {
        let left = self.left.prepare(queue, bases, reuse);
        let right = self.right.prepare(&self.pair.queue, bases, reuse);
        let (left, right) = self.pair.agree("prepare", left, Some(right))?;
        let space = left.space();
        Ok(Bases::new(Arc::new(Handles { left, right, space }), bases.len()))
    }

    fn msm_batch(
        &self,
        queue: &Queue,
        bases: &Bases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        let handles = bases.downcast::<Handles<Bases<C>>>(self.pair.space.id())?;
        let mut again = out.to_vec();
        let copies = self.pair.read_all(queue, scalars);
        let left = self.left.msm_batch(queue, &handles.left, scalars, kind, out);
        let right = copies.map(|copies| {
            self.right.msm_batch(&self.pair.queue, &handles.right, &refs(&copies), kind, &mut again)
        });
        self.pair.agree("msm_batch", left, right)?;
        match out.iter().zip(&again).position(|(a, b)| a != b) {
            Some(column) => Err(self.pair.error("msm_batch", column, 0, "another point".into())),
            None => Ok(()),
        }
    }
}

impl<F: PrimeField + DeviceRepr> Ntt<F> for Both<dyn Ntt<F>> {
    fn space(&self) -> Arc<dyn Space> {
        self.left.space()
    }

    fn supports(&self, shape: &NttShape) -> Support {
        self.left.supports(shape)
    }

    fn workspace(&self, shape: &NttShape) -> u64 {
        self.left.workspace(shape)
    }

    fn ntt_batch(&self, queue: &Queue, plan: &NttPlan<F>, columns: &mut [RefMut<'_, F>]) -> Result<()> {
        let copies = self.pair.read_all_mut(queue, columns);
        let left = self.left.ntt_batch(queue, plan, columns);
        let right = copies.map(|mut copies| {
            self.right.ntt_batch(&self.pair.queue, plan, &mut refs_mut(&mut copies)).map(|()| copies)
        });
        let ((), right) = self.pair.agree("ntt_batch", left, right)?;
        self.pair.compare("ntt_batch", queue, columns, &right)
    }

    fn ntt_batch_into(
        &self,
        queue: &Queue,
        plan: &NttPlan<F>,
        from: &[Ref<'_, F>],
        to: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        let copies = self.pair.read_all(queue, from).zip(self.pair.read_all_mut(queue, to));
        let left = self.left.ntt_batch_into(queue, plan, from, to);
        let right = copies.map(|(from, mut to)| {
            let done =
                self.right.ntt_batch_into(&self.pair.queue, plan, &refs(&from), &mut refs_mut(&mut to));
            done.map(|()| to)
        });
        let ((), right) = self.pair.agree("ntt_batch_into", left, right)?;
        self.pair.compare("ntt_batch_into", queue, to, &right)
    }
}

impl<F: PrimeField + DeviceRepr> Quotient<F> for Both<dyn Quotient<F>> {
    fn supports(&self, shape: &QuotientShape) -> Support {
        self.left.supports(shape)
    }

    fn workspace(&self, shape: &QuotientShape) -> u64 {
        self.left.workspace(shape)
    }

    fn limits(&self) -> ProgramLimits {
        self.left.limits()
    }

    fn compile(&self, queue: &Queue, program: &Program<F>) -> Result<Compiled<F>> {
        let left = self.left.compile(queue, program);
        let right = self.right.compile(&self.pair.queue, program);
        let (left, right) = self.pair.agree("compile", left, Some(right))?;
        let space = left.space();
        Ok(Compiled::new(Arc::new(Handles { left, right, space })))
    }

    fn evaluate(
        &self,
        queue: &Queue,
        program: &Compiled<F>,
        domain: &Domain<F>,
        columns: &[Ref<'_, F>],
        challenges: &[F],
        out: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        let handles = program.downcast::<Handles<Compiled<F>>>(self.pair.space.id())?;
        let copies = self.pair.read_all(queue, columns).zip(self.pair.read_all_mut(queue, out));
        let left = self.left.evaluate(queue, &handles.left, domain, columns, challenges, out);
        let right = copies.map(|(columns, mut out)| {
            let (columns, outs) = (refs(&columns), &mut refs_mut(&mut out));
            let queue = &self.pair.queue;
            self.right.evaluate(queue, &handles.right, domain, &columns, challenges, outs).map(|()| out)
        });
        let ((), right) = self.pair.agree("evaluate", left, right)?;
        self.pair.compare("evaluate", queue, out, &right)
    }
}

/// One of the two backends, in a polynomial operation.
struct Side<'a, F: PrimeField + DeviceRepr> {
    ops: &'a dyn PolyOps<F>,
    queue: &'a Queue,
    is_left: bool,
}

impl<F: PrimeField + DeviceRepr> Both<dyn PolyOps<F>> {
    fn on_one<R: PartialEq + std::fmt::Debug>(
        &self,
        call: &'static str,
        queue: &Queue,
        column: RefMut<'_, F>,
        f: impl Fn(Side<'_, F>, RefMut<'_, F>) -> Result<R>,
    ) -> Result<R> {
        let mut columns = [column];
        let copies = self.pair.read_all_mut(queue, &columns);
        let [column] = &mut columns;
        let left = f(Side { ops: self.left.as_ref(), queue, is_left: true }, column.reborrow());
        let right = copies.map(|mut copies| {
            let side = Side { ops: self.right.as_ref(), queue: &self.pair.queue, is_left: false };
            let copy = copies.first_mut().map_or(&mut [][..], Vec::as_mut_slice);
            f(side, RefMut::host(copy)).map(|value| (value, copies))
        });
        let (left, (value, copies)) = self.pair.agree(call, left, right)?;
        self.pair.compare(call, queue, &columns, &copies)?;
        if left != value {
            return Err(self.pair.error(call, 0, 0, format!("returns {left:?} and {value:?}")));
        }
        Ok(left)
    }
}

impl<F: PrimeField + DeviceRepr> PolyOps<F> for Both<dyn PolyOps<F>> {
    fn space(&self) -> Arc<dyn Space> {
        self.left.space()
    }

    fn supports(&self, shape: &PolyShape) -> Support {
        self.left.supports(shape)
    }

    fn workspace(&self, shape: &PolyShape) -> u64 {
        self.left.workspace(shape)
    }

    fn linear_combination(&self, queue: &Queue, terms: &[(F, Ref<'_, F>)], out: RefMut<'_, F>) -> Result<()> {
        let polys: Vec<Ref<'_, F>> = terms.iter().map(|(_, p)| *p).collect();
        let Some(copies) = self.pair.read_all(queue, &polys) else {
            return self.left.linear_combination(queue, terms, out);
        };
        let again: Vec<_> = terms.iter().map(|(c, _)| *c).zip(refs(&copies)).collect();
        self.on_one("linear_combination", queue, out, |side, out| {
            side.ops.linear_combination(side.queue, if side.is_left { terms } else { &again }, out)
        })
    }

    fn evaluate_batch(
        &self,
        queue: &Queue,
        polys: &[Ref<'_, F>],
        queries: &[(usize, F)],
        out: &mut [F],
    ) -> Result<()> {
        let mut again = out.to_vec();
        let copies = self.pair.read_all(queue, polys);
        let left = self.left.evaluate_batch(queue, polys, queries, out);
        let right = copies
            .map(|copies| self.right.evaluate_batch(&self.pair.queue, &refs(&copies), queries, &mut again));
        self.pair.agree("evaluate_batch", left, right)?;
        match out.iter().zip(&again).position(|(a, b)| a != b) {
            Some(at) => {
                let why = format!("{:?} and {:?}", out[at], again[at]);
                Err(self.pair.error("evaluate_batch", at, 0, why))
            }
            None => Ok(()),
        }
    }

    fn divide_by_linear(&self, queue: &Queue, poly: RefMut<'_, F>, root: F) -> Result<()> {
        self.on_one("divide_by_linear", queue, poly, |side, poly| {
            side.ops.divide_by_linear(side.queue, poly, root)
        })
    }

    fn batch_invert(&self, queue: &Queue, values: RefMut<'_, F>) -> Result<()> {
        self.on_one("batch_invert", queue, values, |side, values| side.ops.batch_invert(side.queue, values))
    }

    fn multiply(&self, queue: &Queue, a: RefMut<'_, F>, b: Ref<'_, F>) -> Result<()> {
        let Ok(copy) = self.pair.read(queue, &b) else { return self.left.multiply(queue, a, b) };
        self.on_one("multiply", queue, a, |side, a| {
            side.ops.multiply(side.queue, a, if side.is_left { b } else { Ref::host(&copy) })
        })
    }

    fn running_product(&self, queue: &Queue, values: RefMut<'_, F>, first: F) -> Result<F> {
        self.on_one("running_product", queue, values, |side, values| {
            side.ops.running_product(side.queue, values, first)
        })
    }

    fn scan(&self, queue: &Queue, recurrence: &Recurrence<'_, F>, out: RefMut<'_, F>) -> Result<F> {
        let columns: Vec<_> = recurrence.factors.iter().chain(&recurrence.summands).copied().collect();
        let Some(copies) = self.pair.read_all(queue, &columns) else {
            return self.left.scan(queue, recurrence, out);
        };
        let mut copies = copies.iter().map(|copy| Ref::host(copy));
        let factors = recurrence.factors.and_then(|_| copies.next());
        let again = Recurrence { first: recurrence.first, factors, summands: copies.next() };
        self.on_one("scan", queue, out, |side, out| {
            side.ops.scan(side.queue, if side.is_left { recurrence } else { &again }, out)
        })
    }
}
