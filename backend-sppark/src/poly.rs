//! Polynomial operations.

use std::sync::Arc;

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut, Space, as_bytes};
use parhelion_backend_api::{Error, Op, PolyOps, PolyShape, Queue, Support};

use crate::buffer::{DeviceSpace, Slice};
use crate::device::Device;
use crate::error::Failure;
use crate::operands::{Brought, Source, Target};
use crate::session::{SCALAR, Session, limbs};

const MAX_LOG_N: u32 = 28;

/// Polynomial operations on a device.
#[derive(Debug)]
pub(crate) struct SpparkPoly(pub(crate) Arc<Device>);

impl SpparkPoly {
    /// Runs an operation that reads `sources` and writes, or changes, one column. With `fresh` its old values are not needed.
    fn change<R>(
        &self,
        sources: &[Source<'_>],
        mut target: Target<'_>,
        fresh: bool,
        run: impl FnOnce(&Session<'_>, &[Slice<'_>], &Slice<'_>) -> Result<R, Failure>,
    ) -> Result<R, Error> {
        let attempt = || -> Result<R, (Failure, bool)> {
            let untouched = |failure| (failure, false);
            let session = self.0.session().map_err(untouched)?;
            let sources = Brought::columns(&self.0, &session, sources).map_err(untouched)?;
            let resident = matches!(target, Target::Resident(_));
            let place = match &target {
                Target::Resident(slice) => Ok(*slice),
                Target::Host(values) => Err(values.len() as u64 * SCALAR),
            };
            let brought = Brought::room(&self.0, &session, std::iter::once(place)).map_err(untouched)?;
            let slices = brought.slices().map_err(untouched)?;
            let slice = slices.first().copied().unwrap_or_else(Slice::empty);
            if let Target::Host(values) = &target
                && !fresh
            {
                session.upload(as_bytes(values), &slice).map_err(untouched)?;
            }
            // Workspace is taken before the first kernel is launched.
            let result = run(&session, &sources.slices().map_err(untouched)?, &slice).map_err(|failure| {
                let touched = resident && !matches!(failure, Failure::Memory { .. });
                (failure, touched)
            })?;
            brought
                .deliver(&session, std::slice::from_mut(&mut target))
                .map_err(|failure| (failure, true))?;
            Ok(result)
        };
        attempt().map_err(
            |(failure, touched)| if touched { failure.touched() } else { failure.untouched(Op::POLY) },
        )
    }
}

impl PolyOps<Fr> for SpparkPoly {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(DeviceSpace(self.0.clone()))
    }

    fn supports(&self, shape: &PolyShape) -> Support {
        let log_n = shape.log_n;
        if log_n > MAX_LOG_N {
            return Support::No(format!("2^{log_n} elements exceed 2^{MAX_LOG_N}"));
        }
        Support::Yes
    }

    fn linear_combination(
        &self,
        _: &Queue,
        terms: &[(Fr, Ref<'_, Fr>)],
        mut out: RefMut<'_, Fr>,
    ) -> Result<(), Error> {
        if let Some((_, long)) = terms.iter().find(|(_, term)| term.len() > out.len()) {
            return Err(Error::Length { what: "linear combination", expected: out.len(), found: long.len() });
        }
        let (factors, columns): (Vec<_>, Vec<_>) =
            terms.iter().map(|(factor, term)| (limbs(factor), *term)).unzip();
        let sources = Source::all(&self.0, &columns)?;
        let target = Target::of(&self.0, &mut out)?;
        self.change(&sources, target, true, |session, columns, out| {
            let terms: Vec<_> = factors.into_iter().zip(columns.iter().copied()).collect();
            session.combine(&terms, out)
        })
    }

    fn evaluate_batch(
        &self,
        _: &Queue,
        polys: &[Ref<'_, Fr>],
        queries: &[(usize, Fr)],
        out: &mut [Fr],
    ) -> Result<(), Error> {
        Error::check_len("evaluations", queries.len(), out.len())?;
        if let Some((index, _)) = queries.iter().find(|(index, _)| *index >= polys.len()) {
            let why = format!("polynomial {index} of {}", polys.len());
            return Err(Error::Invalid { what: "evaluation", why });
        }
        let sources = Source::all(&self.0, polys)?;
        if queries.is_empty() {
            return Ok(());
        }
        let evaluate = || {
            let session = self.0.session()?;
            let brought = Brought::columns(&self.0, &session, &sources)?;
            let polys = brought.slices()?;
            let queries: Vec<_> = queries
                .iter()
                .map(|(index, x)| (polys.get(*index).copied().unwrap_or_else(Slice::empty), limbs(x)))
                .collect();
            session.horner(&queries)
        };
        let values = evaluate().map_err(|failure: Failure| failure.untouched(Op::POLY))?;
        out.copy_from_slice(&values);
        Ok(())
    }

    fn divide_by_linear(&self, _: &Queue, mut poly: RefMut<'_, Fr>, root: Fr) -> Result<(), Error> {
        let target = Target::of(&self.0, &mut poly)?;
        self.change(&[], target, false, |session, _, poly| session.divide(poly, limbs(&root)))
    }

    fn batch_invert(&self, _: &Queue, mut values: RefMut<'_, Fr>) -> Result<(), Error> {
        let target = Target::of(&self.0, &mut values)?;
        self.change(&[], target, false, |session, _, values| session.invert(values))
    }

    fn multiply(&self, _: &Queue, mut a: RefMut<'_, Fr>, b: Ref<'_, Fr>) -> Result<(), Error> {
        Error::check_len("product", a.len(), b.len())?;
        let source = [Source::of(&self.0, &b)?];
        let target = Target::of(&self.0, &mut a)?;
        self.change(&source, target, false, |session, b, a| match b.first() {
            Some(b) => session.multiply(a, b),
            None => Ok(()),
        })
    }

    fn running_product(&self, _: &Queue, mut values: RefMut<'_, Fr>, first: Fr) -> Result<Fr, Error> {
        let target = Target::of(&self.0, &mut values)?;
        self.change(&[], target, false, |session, _, values| {
            if values.bytes() == 0 { Ok(first) } else { session.accumulate(values, limbs(&first)) }
        })
    }
}
