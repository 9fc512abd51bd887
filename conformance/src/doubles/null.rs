//! Everything offered, nothing supported.

use std::sync::Arc;

use ff::PrimeField;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{
    DeviceInfo, DeviceRepr, Error, HostSpace, MemoryInfo, Op, Queue, Ref, RefMut, Result, Space, SpaceId,
    Support,
};
use parhelion_backend_api::{
    Backend, Bases, Compiled, Curve, Domain, Msm, MsmShape, Ntt, NttPlan, NttShape, PolyOps, PolyShape,
    Program, Provider, Quotient, QuotientShape, Recurrence, Reuse, ScalarKind, Unavailable,
};

/// A backend whose every operation is `Unsupported`; with [`Null::surprising`] it claims support and refuses when called.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null {
    claims: bool,
}

impl Null {
    /// The backend that says yes to every shape and no to every call.
    pub fn surprising() -> Self {
        Null { claims: true }
    }

    /// The open device.
    pub fn provider(self) -> Provider {
        Provider::new(self.device(), Arc::new(HostSpace))
            .offer::<dyn Msm<G1Affine>>(Arc::new(self))
            .offer::<dyn Ntt<Fr>>(Arc::new(self))
            .offer::<dyn Quotient<Fr>>(Arc::new(self))
            .offer::<dyn PolyOps<Fr>>(Arc::new(self))
    }

    fn device(self) -> DeviceInfo {
        DeviceInfo {
            backend: "null",
            space: SpaceId::HOST,
            name: "nothing".into(),
            driver: "none".into(),
            memory: MemoryInfo::default(),
            simulated: false,
        }
    }

    fn support(self) -> Support {
        if self.claims { Support::Yes } else { Support::No("it does nothing".into()) }
    }

    fn refuse<T>(self, op: Op) -> Result<T> {
        Err(Error::Unsupported { backend: "null", op, why: "it does nothing".into() })
    }
}

impl Backend for Null {
    fn name(&self) -> &'static str {
        "null"
    }
    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        Ok(vec![self.device()])
    }
    fn open(&self, _: &DeviceInfo) -> Result<Provider> {
        Ok(self.provider())
    }
}

impl<C: Curve> Msm<C> for Null {
    fn supports(&self, _: &MsmShape) -> Support {
        self.support()
    }
    fn workspace(&self, _: &MsmShape) -> u64 {
        0
    }
    fn prepare(&self, _: &Queue, _: &[C], _: Reuse) -> Result<Bases<C>> {
        self.refuse(Op::MSM)
    }
    fn msm_batch(
        &self,
        _: &Queue,
        _: &Bases<C>,
        _: &[Ref<'_, C::ScalarExt>],
        _: ScalarKind,
        _: &mut [C::CurveExt],
    ) -> Result<()> {
        self.refuse(Op::MSM)
    }
}

impl<F: PrimeField + DeviceRepr> Ntt<F> for Null {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn supports(&self, _: &NttShape) -> Support {
        self.support()
    }
    fn workspace(&self, _: &NttShape) -> u64 {
        0
    }
    fn ntt_batch(&self, _: &Queue, _: &NttPlan<F>, _: &mut [RefMut<'_, F>]) -> Result<()> {
        self.refuse(Op::NTT)
    }
    fn ntt_batch_into(
        &self,
        _: &Queue,
        _: &NttPlan<F>,
        _: &[Ref<'_, F>],
        _: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        self.refuse(Op::NTT)
    }
}

impl<F: PrimeField + DeviceRepr> Quotient<F> for Null {
    fn supports(&self, _: &QuotientShape) -> Support {
        self.support()
    }
    fn workspace(&self, _: &QuotientShape) -> u64 {
        0
    }
    fn compile(&self, _: &Queue, _: &Program<F>) -> Result<Compiled<F>> {
        self.refuse(Op::QUOTIENT)
    }
    fn evaluate(
        &self,
        _: &Queue,
        _: &Compiled<F>,
        _: &Domain<F>,
        _: &[Ref<'_, F>],
        _: &[F],
        _: &mut [RefMut<'_, F>],
    ) -> Result<()> {
        self.refuse(Op::QUOTIENT)
    }
}

impl<F: PrimeField + DeviceRepr> PolyOps<F> for Null {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn supports(&self, _: &PolyShape) -> Support {
        self.support()
    }
    fn linear_combination(&self, _: &Queue, _: &[(F, Ref<'_, F>)], _: RefMut<'_, F>) -> Result<()> {
        self.refuse(Op::POLY)
    }
    fn evaluate_batch(&self, _: &Queue, _: &[Ref<'_, F>], _: &[(usize, F)], _: &mut [F]) -> Result<()> {
        self.refuse(Op::POLY)
    }
    fn divide_by_linear(&self, _: &Queue, _: RefMut<'_, F>, _: F) -> Result<()> {
        self.refuse(Op::POLY)
    }
    fn batch_invert(&self, _: &Queue, _: RefMut<'_, F>) -> Result<()> {
        self.refuse(Op::POLY)
    }
    fn multiply(&self, _: &Queue, _: RefMut<'_, F>, _: Ref<'_, F>) -> Result<()> {
        self.refuse(Op::POLY)
    }
    fn running_product(&self, _: &Queue, _: RefMut<'_, F>, _: F) -> Result<F> {
        self.refuse(Op::POLY)
    }
    fn scan(&self, _: &Queue, _: &Recurrence<'_, F>, _: RefMut<'_, F>) -> Result<F> {
        self.refuse(Op::POLY)
    }
}
