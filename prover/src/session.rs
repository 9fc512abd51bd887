//! What every stage of one proof shares.

use halo2_axiom::plonk::ConstraintSystem;
use halo2_axiom::poly::EvaluationDomain;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Domain, NttPlan};
use rand_core::RngCore;

use crate::bases::SrsBases;
use crate::channel::Channel;
use crate::memory::Plan;
use crate::options::Choices;
use crate::program::{Key, KeyProgram};
use crate::report::Clock;
use crate::{Engine, ProvingKey, Result};

/// The engine, the key, the transcript, the randomness, the clock and the memory plan of one proof.
pub(crate) struct Session<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) bases: &'a SrsBases,
    pub(crate) pk: &'a ProvingKey,
    pub(crate) channel: &'a mut dyn Channel,
    pub(crate) rng: &'a mut dyn RngCore,
    pub(crate) choices: &'a mut dyn Choices,
    pub(crate) clock: Clock,
    pub(crate) plan: Plan,
}

impl<'a> Session<'a> {
    pub(crate) fn cs(&self) -> &'a ConstraintSystem<Fr> {
        self.pk.get_vk().cs()
    }

    pub(crate) fn domain(&self) -> &'a EvaluationDomain<Fr> {
        self.pk.get_vk().get_domain()
    }

    pub(crate) fn k(&self) -> u32 {
        self.domain().k()
    }

    pub(crate) fn n(&self) -> usize {
        1 << self.k()
    }

    /// Rows that a circuit may assign: the rest is blinding.
    pub(crate) fn usable_rows(&self) -> usize {
        self.n() - (self.cs().blinding_factors() + 1)
    }

    /// One uniform scalar from the caller's generator.
    pub(crate) fn draw(&mut self) -> Fr {
        ff::Field::random(&mut *self.rng)
    }

    /// Commits columns by value and writes the commitments, in order.
    pub(crate) fn commit_columns(&mut self, columns: &[&[Fr]]) -> Result<()> {
        let commitments = self.bases.commit_lagrange(self.engine, columns, self.plan.commit_columns)?;
        self.write_points(&commitments)
    }

    /// Commits polynomials and writes the commitments, in order.
    pub(crate) fn commit_polys(&mut self, polys: &[&[Fr]]) -> Result<()> {
        let commitments = self.bases.commit(self.engine, polys, self.plan.commit_columns)?;
        self.write_points(&commitments)
    }

    pub(crate) fn write_points(&mut self, points: &[G1Affine]) -> Result<()> {
        points.iter().try_for_each(|p| self.channel.write_point(*p))?;
        Ok(())
    }

    /// Values on the domain become coefficients, in place.
    pub(crate) fn interpolate<'c>(&self, columns: impl IntoIterator<Item = &'c mut Vec<Fr>>) -> Result<()> {
        let mut columns: Vec<_> = columns.into_iter().map(|c| RefMut::host(c)).collect();
        if columns.is_empty() {
            return Ok(());
        }
        Ok(self.engine.ntt_batch(&NttPlan::inverse(self.k()), &mut columns)?)
    }

    /// Evaluates a program over the original domain; one new column per result.
    pub(crate) fn evaluate<'c>(
        &self,
        program: &KeyProgram,
        column: impl Fn(Key) -> &'c [Fr],
        challenges: &[Fr],
    ) -> Result<Vec<Vec<Fr>>> {
        let domain = Domain { log_n: self.k(), omega: self.domain().get_omega(), shift: Fr::one() };
        let columns: Vec<_> = program.columns.iter().map(|key| Ref::host(column(*key))).collect();
        let mut results: Vec<Vec<Fr>> =
            program.program.program().results.iter().map(|_| vec![Fr::zero(); self.n()]).collect();
        let mut out: Vec<_> = results.iter_mut().map(|r| RefMut::host(r)).collect();
        self.engine.evaluate(&program.program, &domain, &columns, challenges, &mut out)?;
        drop(out);
        Ok(results)
    }
}
