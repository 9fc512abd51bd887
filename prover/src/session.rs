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
use crate::resident::{Column, Resident, Values};
use crate::{Engine, ProvingKey, Result};

/// The engine, the key, the transcript, the randomness, the clock and the memory plan of one proof.
pub(crate) struct Session<'a> {
    /// Without a preference; see [`Session::engine`].
    pub(crate) engine: &'a Engine,
    /// The device on which columns stay, if there is one.
    pub(crate) resident: Option<Resident>,
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
    pub(crate) fn commit_columns(&mut self, columns: &[&Values]) -> Result<()> {
        let commitments = self.attempt(&mut (), |session, ()| {
            let (engine, per_call) = (session.engine(), session.plan.commit_columns);
            let refs: Vec<Ref<'_, Fr>> = columns.iter().map(|c| c.at(session)).collect();
            let mirror: Vec<&[Fr]> = columns.iter().map(|c| c.host.as_slice()).collect();
            session.bases.commit_lagrange(engine, &refs, Some(&mirror), per_call)
        })?;
        self.write_points(&commitments)
    }

    /// Commitments to polynomials, in order.
    pub(crate) fn commitments(&self, polys: &[Ref<'_, Fr>]) -> Result<Vec<G1Affine>> {
        self.bases.commit(self.engine(), polys, self.plan.commit_columns)
    }

    pub(crate) fn write_points(&mut self, points: &[G1Affine]) -> Result<()> {
        points.iter().try_for_each(|p| self.channel.write_point(*p))?;
        Ok(())
    }

    /// Evaluates a program over the original domain; one new column per result. Columns of the key that are held by coefficients
    /// alone are transformed for it.
    pub(crate) fn evaluate<'c>(
        &self,
        program: &KeyProgram,
        column: impl Fn(Key) -> Ref<'c, Fr>,
        challenges: &[Fr],
    ) -> Result<Vec<Column>> {
        let domain = Domain { log_n: self.k(), omega: self.domain().get_omega(), shift: Fr::one() };
        let made = self.values_of_key(&program.columns)?;
        let columns: Vec<_> = program
            .columns
            .iter()
            .map(|key| match made.iter().find(|(made, _)| made == key) {
                Some((_, values)) => Ref::host(values),
                None => column(*key),
            })
            .collect();
        let count = program.program.program().results.len();
        let mut results = (0..count).map(|_| self.column()).collect::<Result<Vec<Column>>>()?;
        let mut out: Vec<_> = results.iter_mut().map(Column::as_mut).collect();
        self.engine().evaluate(&program.program, &domain, &columns, challenges, &mut out)?;
        drop(out);
        Ok(results)
    }

    /// By value, those columns of the key that it holds by coefficients alone.
    fn values_of_key(&self, keys: &[Key]) -> Result<Vec<(Key, Vec<Fr>)>> {
        let poly = |key: &Key| match *key {
            Key::Fixed(i) if self.pk.fixed_values().get(i).is_none() => self.pk.fixed_polys().get(i),
            Key::Sigma(i) if self.pk.permutation().permutations().get(i).is_none() => {
                self.pk.permutation().polys().get(i)
            }
            _ => None,
        };
        let (keys, from): (Vec<Key>, Vec<Ref<'_, Fr>>) =
            keys.iter().filter_map(|key| Some((*key, Ref::host(poly(key)?.values())))).unzip();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = vec![vec![Fr::zero(); self.n()]; keys.len()];
        let mut to: Vec<_> = values.iter_mut().map(|column| RefMut::host(column)).collect();
        self.engine().ntt_batch_into(&NttPlan::forward(self.k()), &from, &mut to)?;
        drop(to);
        Ok(keys.into_iter().zip(values).collect())
    }
}
