//! Chooses, per operation, which backend computes.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, OnceLock};

use ff::PrimeField;
use halo2curves::CurveAffine;
use parhelion_backend_api::hal::{DeviceRepr, Error, Op, Queue, Ref, RefMut};
use parhelion_backend_api::{
    Bases, Compiled, Domain, NttPlan, Program, Provider, Reuse, ScalarKind,
};

/// Result of an operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Bases on the host, prepared lazily per provider, once.
#[derive(Clone, Debug)]
pub struct EngineBases<C> {
    host: Arc<[C]>,
    reuse: Reuse,
    prepared: Arc<Vec<OnceLock<Bases<C>>>>,
}

impl<C> EngineBases<C> {
    /// The points.
    pub fn host(&self) -> &Arc<[C]> {
        &self.host
    }
}

/// A program, compiled lazily per provider, once.
#[derive(Clone, Debug)]
pub struct EngineProgram<F> {
    program: Arc<Program<F>>,
    compiled: Arc<Vec<OnceLock<Compiled<F>>>>,
}

impl<F> EngineProgram<F> {
    /// The program as plain data.
    pub fn program(&self) -> &Program<F> {
        &self.program
    }
}

/// What ran, in order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {}

/// The only thing that a prover sees. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct Engine<C: CurveAffine>
where
    C: DeviceRepr,
    C::ScalarExt: DeviceRepr + PrimeField,
{
    providers: Arc<Vec<Provider<C>>>,
    ledger: Arc<Mutex<Ledger>>,
}

impl<C: CurveAffine> Engine<C>
where
    C: DeviceRepr,
    C::ScalarExt: DeviceRepr + PrimeField,
{
    /// An engine over open providers, in order of preference.
    pub fn new(providers: Vec<Provider<C>>) -> Self {
        Engine { providers: Arc::new(providers), ledger: Arc::default() }
    }

    /// The same engine with a ledger of its own: what this handle runs is recorded apart.
    pub fn with_ledger(&self) -> Self {
        Engine { providers: self.providers.clone(), ledger: Arc::default() }
    }

    /// What this handle ran so far.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().map(|l| l.clone()).unwrap_or_default()
    }

    fn first<T>(&self, op: Op, get: impl Fn(&Provider<C>) -> Option<T>) -> Result<(usize, T)> {
        self.providers.iter().enumerate().find_map(|(i, p)| Some((i, get(p)?))).ok_or_else(|| {
            Error::Unsupported { backend: "engine", op, why: "no backend offers it".into() }
        })
    }

    /// Takes bases; nothing is uploaded until they are used.
    pub fn load_bases(&self, host: impl Into<Arc<[C]>>, reuse: Reuse) -> EngineBases<C> {
        let prepared = self.providers.iter().map(|_| OnceLock::new()).collect();
        EngineBases { host: host.into(), reuse, prepared: Arc::new(prepared) }
    }

    /// `out[i] = Σ_j scalars[i][j] · bases[j]`.
    ///
    /// # Errors
    /// As `Msm::msm_batch`, when no candidate is left.
    pub fn msm_batch(
        &self,
        bases: &EngineBases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        kind: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        let (i, msm) = self.first(Op::Msm, |p| p.msm.clone())?;
        let q = Queue::host();
        let prepared = match bases.prepared[i].get() {
            Some(p) => p,
            None => {
                let p = msm.prepare(&q, &bases.host, bases.reuse)?;
                bases.prepared[i].get_or_init(|| p)
            }
        };
        msm.msm_batch(&q, prepared, scalars, kind, out)
    }

    /// In-place transforms, see `Ntt::ntt_batch`.
    ///
    /// # Errors
    /// As there.
    pub fn ntt_batch(
        &self,
        plan: &NttPlan<C::ScalarExt>,
        columns: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        self.first(Op::Ntt, |p| p.ntt.clone())?.1.ntt_batch(&Queue::host(), plan, columns)
    }

    /// Out-of-place transforms, see `Ntt::ntt_batch_into`.
    ///
    /// # Errors
    /// As there.
    pub fn ntt_batch_into(
        &self,
        plan: &NttPlan<C::ScalarExt>,
        from: &[Ref<'_, C::ScalarExt>],
        to: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        self.first(Op::Ntt, |p| p.ntt.clone())?.1.ntt_batch_into(&Queue::host(), plan, from, to)
    }

    /// Takes a program; nothing is compiled until it is used.
    pub fn load_program(&self, program: Program<C::ScalarExt>) -> EngineProgram<C::ScalarExt> {
        let compiled = self.providers.iter().map(|_| OnceLock::new()).collect();
        EngineProgram { program: Arc::new(program), compiled: Arc::new(compiled) }
    }

    /// Evaluates a program over the rows of a domain, see `Quotient::evaluate`.
    ///
    /// # Errors
    /// As there.
    pub fn evaluate(
        &self,
        program: &EngineProgram<C::ScalarExt>,
        domain: &Domain<C::ScalarExt>,
        columns: &[Ref<'_, C::ScalarExt>],
        challenges: &[C::ScalarExt],
        out: &mut [RefMut<'_, C::ScalarExt>],
    ) -> Result<()> {
        let (i, quotient) = self.first(Op::Quotient, |p| p.quotient.clone())?;
        let q = Queue::host();
        let compiled = match program.compiled[i].get() {
            Some(p) => p,
            None => {
                let p = quotient.compile(&q, &program.program)?;
                program.compiled[i].get_or_init(|| p)
            }
        };
        quotient.evaluate(&q, compiled, domain, columns, challenges, out)
    }

    /// See `PolyOps::linear_combination`.
    ///
    /// # Errors
    /// As there.
    pub fn linear_combination(
        &self,
        terms: &[(C::ScalarExt, Ref<'_, C::ScalarExt>)],
        out: RefMut<'_, C::ScalarExt>,
    ) -> Result<()> {
        self.first(Op::Poly, |p| p.poly.clone())?.1.linear_combination(&Queue::host(), terms, out)
    }

    /// See `PolyOps::evaluate_batch`.
    ///
    /// # Errors
    /// As there.
    pub fn evaluate_batch(
        &self,
        polys: &[Ref<'_, C::ScalarExt>],
        queries: &[(usize, C::ScalarExt)],
        out: &mut [C::ScalarExt],
    ) -> Result<()> {
        self.first(Op::Poly, |p| p.poly.clone())?.1.evaluate_batch(&Queue::host(), polys, queries, out)
    }

    /// See `PolyOps::divide_by_linear`.
    ///
    /// # Errors
    /// As there.
    pub fn divide_by_linear(&self, poly: RefMut<'_, C::ScalarExt>, root: C::ScalarExt) -> Result<()> {
        self.first(Op::Poly, |p| p.poly.clone())?.1.divide_by_linear(&Queue::host(), poly, root)
    }

    /// See `PolyOps::batch_invert`.
    ///
    /// # Errors
    /// As there.
    pub fn batch_invert(&self, values: RefMut<'_, C::ScalarExt>) -> Result<()> {
        self.first(Op::Poly, |p| p.poly.clone())?.1.batch_invert(&Queue::host(), values)
    }

    /// See `PolyOps::multiply`.
    ///
    /// # Errors
    /// As there.
    pub fn multiply(&self, a: RefMut<'_, C::ScalarExt>, b: Ref<'_, C::ScalarExt>) -> Result<()> {
        self.first(Op::Poly, |p| p.poly.clone())?.1.multiply(&Queue::host(), a, b)
    }

    /// See `PolyOps::running_product`.
    ///
    /// # Errors
    /// As there.
    pub fn running_product(
        &self,
        values: RefMut<'_, C::ScalarExt>,
        first: C::ScalarExt,
    ) -> Result<C::ScalarExt> {
        self.first(Op::Poly, |p| p.poly.clone())?.1.running_product(&Queue::host(), values, first)
    }
}
