//! The oracle as an ordinary backend: every operation by its definition.
//!
//! A transform is n evaluations by Horner's rule, a multi-scalar multiplication is double-and-add, a program is interpreted row by
//! row, an inverse is a power. Nothing is shared with any fast backend, so that agreement means something. Quadratic in the length: for
//! tests and for circuits of a few hundred rows.

use std::any::Any;
use std::sync::Arc;

use ff::{Field, PrimeField};
use group::Group;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{
    DeviceInfo, DeviceRepr, Error, HostSpace, MemoryInfo, Prepared, Queue, Ref, RefMut, Result, Space,
    SpaceId, Support,
};
use parhelion_backend_api::{
    Backend, Bases, Compiled, Direction, Domain, Msm, MsmShape, Ntt, NttPlan, NttShape, PolyOps, PolyShape,
    Program, Provider, Quotient, QuotientShape, Recurrence, Reuse, ScalarKind, Source, Unavailable, msm, ntt,
    quotient,
};

use parhelion_backend_api::Curve;

/// The definition of every operation, computed literally.
#[derive(Clone, Copy, Debug, Default)]
pub struct Naive;

impl Naive {
    /// The one device: the host, unsupported by anything clever.
    pub fn device() -> DeviceInfo {
        DeviceInfo {
            backend: "naive",
            space: SpaceId::HOST,
            name: "definitions, computed literally".into(),
            driver: concat!("parhelion-conformance ", env!("CARGO_PKG_VERSION")).into(),
            memory: MemoryInfo::default(),
            simulated: false,
        }
    }

    /// The open device, without the detour over [`Backend::probe`].
    pub fn provider() -> Provider {
        Provider::new(Naive::device(), Arc::new(HostSpace))
            .offer::<dyn Msm<G1Affine>>(Arc::new(Naive))
            .offer::<dyn Ntt<Fr>>(Arc::new(Naive))
            .offer::<dyn Quotient<Fr>>(Arc::new(Naive))
            .offer::<dyn PolyOps<Fr>>(Arc::new(Naive))
    }
}

impl Backend for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        Ok(vec![Naive::device()])
    }

    fn open(&self, _: &DeviceInfo) -> Result<Provider> {
        Ok(Naive::provider())
    }
}

#[derive(Debug)]
struct NaiveBases<C>(Vec<C>);

impl<C: Curve> Prepared for NaiveBases<C> {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<C: Curve> Msm<C> for Naive {
    fn supports(&self, _: &MsmShape) -> Support {
        Support::Yes
    }

    fn workspace(&self, _: &MsmShape) -> u64 {
        0
    }

    fn prepare(&self, _: &Queue, bases: &[C], _: Reuse) -> Result<Bases<C>> {
        Ok(Bases::new(Arc::new(NaiveBases(bases.to_vec())), bases.len()))
    }

    fn msm_batch(
        &self,
        _: &Queue,
        bases: &Bases<C>,
        scalars: &[Ref<'_, C::ScalarExt>],
        _: ScalarKind,
        out: &mut [C::CurveExt],
    ) -> Result<()> {
        let points = &bases.downcast::<NaiveBases<C>>(SpaceId::HOST)?.0;
        msm::check_batch(points.len(), scalars, out.len())?;
        let columns = scalars.iter().map(Ref::as_host).collect::<Result<Vec<_>>>()?;
        for (column, out) in columns.into_iter().zip(out) {
            *out = double_and_add(points, column);
        }
        Ok(())
    }
}

/// `Σ_j scalars[j] · points[j]`, one doubling of the whole sum per bit of the scalars.
fn double_and_add<C: Curve>(points: &[C], scalars: &[C::ScalarExt]) -> C::CurveExt {
    let terms: Vec<_> = scalars.iter().zip(points).map(|(s, p)| (s.to_repr(), *p)).collect();
    let mut sum = C::CurveExt::identity();
    for bit in (0..C::ScalarExt::NUM_BITS as usize).rev() {
        sum = sum.double();
        for (scalar, point) in &terms {
            if scalar.as_ref().get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1) {
                sum += *point;
            }
        }
    }
    sum
}

/// `Σ_j coefficients[j] · x^j`.
pub fn horner<F: Field>(coefficients: &[F], x: F) -> F {
    coefficients.iter().rev().fold(F::ZERO, |sum, c| sum * x + c)
}

/// The points g·ω^i of the domain of size 2^`log_n`.
///
/// # Errors
/// [`Error::Invalid`] when `log_n` exceeds the field's two-adicity.
pub fn points<F: PrimeField>(log_n: u32, shift: F) -> Result<Vec<F>> {
    let omega = ntt::root_of_unity::<F>(log_n)?;
    Ok(std::iter::successors(Some(shift), |x| Some(*x * omega)).take(1 << log_n).collect())
}

impl<F: PrimeField + DeviceRepr> Ntt<F> for Naive {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn supports(&self, _: &NttShape) -> Support {
        Support::Yes
    }

    fn workspace(&self, _: &NttShape) -> u64 {
        0
    }

    fn ntt_batch(&self, _: &Queue, plan: &NttPlan<F>, columns: &mut [RefMut<'_, F>]) -> Result<()> {
        ntt::check_columns(plan, columns)?;
        let shift = plan.coset.unwrap_or(F::ONE);
        let points = points(plan.log_n, shift)?;
        let results = columns
            .iter()
            .map(|column| {
                let a = column.as_ref();
                let a = a.as_host()?;
                Ok(match plan.direction {
                    Direction::Forward => points.iter().map(|x| horner(a, *x)).collect(),
                    Direction::Inverse => interpolate(a, &points, shift),
                })
            })
            .collect::<Result<Vec<Vec<F>>>>()?;
        for (column, result) in columns.iter_mut().zip(results) {
            column.as_host()?.copy_from_slice(&result);
        }
        Ok(())
    }
}

/// The coefficients of the polynomial with the given values at `points[i] = g·ω^i`: `a[j] = n⁻¹ · Σ_i v[i] · g^−j · ω^−ij`.
fn interpolate<F: PrimeField>(values: &[F], points: &[F], shift: F) -> Vec<F> {
    // Neither n nor g is zero: a power of two is invertible in an odd field, and the plan has been checked.
    let inverse = |x: F| x.invert().unwrap_or(F::ZERO);
    let n = inverse(F::from(points.len() as u64));
    let shift = inverse(shift);
    points
        .iter()
        .map(|x| horner(values, inverse(*x * shift)))
        .zip(std::iter::successors(Some(n), |s| Some(*s * shift)))
        .map(|(sum, scale)| sum * scale)
        .collect()
}

#[derive(Debug)]
struct NaiveProgram<F>(Program<F>);

impl<F: PrimeField + DeviceRepr> Prepared for NaiveProgram<F> {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<F: PrimeField + DeviceRepr> Quotient<F> for Naive {
    fn supports(&self, _: &QuotientShape) -> Support {
        Support::Yes
    }

    fn workspace(&self, _: &QuotientShape) -> u64 {
        0
    }

    fn compile(&self, _: &Queue, program: &Program<F>) -> Result<Compiled<F>> {
        program.check().map_err(|e| Error::Invalid { what: "program", why: e.to_string() })?;
        Ok(Compiled::new(Arc::new(NaiveProgram(program.clone()))))
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
        let program = &program.downcast::<NaiveProgram<F>>(SpaceId::HOST)?.0;
        quotient::check_operands(program, domain, columns, challenges, out)?;
        let columns = columns.iter().map(Ref::as_host).collect::<Result<Vec<_>>>()?;
        let mut out = out.iter_mut().map(RefMut::as_host).collect::<Result<Vec<_>>>()?;
        let uniforms = program.uniforms(challenges);
        let n = 1i64 << domain.log_n;
        let mut registers = vec![F::ZERO; program.registers as usize];
        let mut x = domain.shift;
        for row in 0..n {
            let read = |source: Source, registers: &[F]| match source {
                Source::Constant(i) => program.constants[i as usize],
                Source::Challenge(i) => challenges[i as usize],
                Source::Uniform(i) => uniforms[i as usize],
                Source::Register(i) => registers[i as usize],
                Source::Point => x,
                Source::Column { column, rotation } => {
                    let rotated = row + i64::from(program.rotations[rotation as usize]);
                    columns[column as usize][rotated.rem_euclid(n) as usize]
                }
            };
            for step in &program.steps {
                registers[step.dst() as usize] = step.value(|source| read(source, &registers));
            }
            for (out, source) in out.iter_mut().zip(&program.results) {
                out[row as usize] = read(*source, &registers);
            }
            x *= domain.omega;
        }
        Ok(())
    }
}

impl<F: PrimeField + DeviceRepr> PolyOps<F> for Naive {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn supports(&self, _: &PolyShape) -> Support {
        Support::Yes
    }

    fn linear_combination(&self, _: &Queue, terms: &[(F, Ref<'_, F>)], mut out: RefMut<'_, F>) -> Result<()> {
        let out = out.as_host()?;
        let terms = terms
            .iter()
            .map(|(c, p)| {
                if p.len() > out.len() {
                    return Err(Error::Length { what: "term", expected: out.len(), found: p.len() });
                }
                Ok((*c, p.as_host()?))
            })
            .collect::<Result<Vec<_>>>()?;
        for (i, out) in out.iter_mut().enumerate() {
            *out = terms.iter().map(|(c, p)| p.get(i).map_or(F::ZERO, |value| *c * value)).sum();
        }
        Ok(())
    }

    fn evaluate_batch(
        &self,
        _: &Queue,
        polys: &[Ref<'_, F>],
        queries: &[(usize, F)],
        out: &mut [F],
    ) -> Result<()> {
        Error::check_len("evaluations", queries.len(), out.len())?;
        let values = queries
            .iter()
            .map(|(p, x)| {
                let poly = polys.get(*p).ok_or_else(|| Error::Invalid {
                    what: "evaluation query",
                    why: format!("polynomial {p} of {}", polys.len()),
                })?;
                Ok(horner(poly.as_host()?, *x))
            })
            .collect::<Result<Vec<F>>>()?;
        out.copy_from_slice(&values);
        Ok(())
    }

    fn divide_by_linear(&self, _: &Queue, mut poly: RefMut<'_, F>, root: F) -> Result<()> {
        let poly = poly.as_host()?;
        let mut carry = F::ZERO;
        for coefficient in poly.iter_mut().rev() {
            let quotient = carry;
            carry = *coefficient + root * carry;
            *coefficient = quotient;
        }
        Ok(())
    }

    fn batch_invert(&self, _: &Queue, mut values: RefMut<'_, F>) -> Result<()> {
        for value in values.as_host()? {
            *value = value.invert().unwrap_or(F::ZERO);
        }
        Ok(())
    }

    fn multiply(&self, _: &Queue, mut a: RefMut<'_, F>, b: Ref<'_, F>) -> Result<()> {
        Error::check_len("factors", a.len(), b.len())?;
        let b = b.as_host()?;
        for (a, b) in a.as_host()?.iter_mut().zip(b) {
            *a *= b;
        }
        Ok(())
    }

    fn running_product(&self, _: &Queue, mut values: RefMut<'_, F>, first: F) -> Result<F> {
        let mut product = first;
        for value in values.as_host()? {
            let factor = *value;
            *value = product;
            product *= factor;
        }
        Ok(product)
    }

    fn scan(&self, _: &Queue, recurrence: &Recurrence<'_, F>, mut out: RefMut<'_, F>) -> Result<F> {
        quotient::check_recurrence(recurrence, out.len())?;
        let factors = recurrence.factors.map(|column| column.as_host()).transpose()?;
        let summands = recurrence.summands.map(|column| column.as_host()).transpose()?;
        let mut u = recurrence.first;
        for (i, out) in out.as_host()?.iter_mut().enumerate() {
            *out = u;
            u = factors.map_or(F::ONE, |m| m[i]) * u + summands.map_or(F::ZERO, |s| s[i]);
        }
        Ok(u)
    }
}
