//! Witness collection: the circuit assigns its advice columns, phase by phase, and each phase is committed before its
//! challenges exist.
//!
//! A circuit may advance the phase itself, inside one synthesis; one that does not is synthesized once per phase. Both
//! happen here as in halo2-axiom, with two differences where upstream panics or cannot verify its own proofs: all
//! errors are values, and the instances of every circuit are absorbed before the first commitment, in the order in
//! which the verifier absorbs them.

mod lend;

use halo2_axiom::circuit::Value;
use halo2_axiom::plonk::{
    Advice, Any, Assigned, Assignment, Challenge, Circuit, Column, ConstraintSystem, Error as PlonkError,
    Fixed, FloorPlanner, Instance, Selector,
};
use halo2curves::bn256::Fr;

use self::lend::{Cells, Lender};
use crate::report::Stage;
use crate::resident::Values;
use crate::session::Session;
use crate::{Error, Result};

/// Phases that halo2 has.
const MAX_PHASES: u8 = 3;

/// The committed witness.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Values of every advice column, blinding rows included, of every circuit.
    pub(crate) advice: Vec<Vec<Values>>,
    /// The circuit's own challenges.
    pub(crate) challenges: Vec<Fr>,
}

/// Number of phases of a constraint system: at least one.
pub(crate) fn phases(cs: &ConstraintSystem<Fr>) -> u8 {
    cs.advice_column_phase().into_iter().max().unwrap_or(0) + 1
}

/// Synthesizes and commits all circuits.
pub(crate) fn collect<C: Circuit<Fr>>(
    session: &mut Session<'_>,
    circuits: &[C],
    instances: &[&[&[Fr]]],
) -> Result<Witness> {
    let cs = session.cs();
    if phases(cs) > 1 && circuits.len() > 1 {
        return Err(Error::Unsupported("several circuits with several phases in one proof".into()));
    }
    let Some(first) = circuits.first() else {
        return Err(Error::Count { what: "circuits", expected: 1, found: 0 });
    };
    for value in instances.iter().flat_map(|circuit| circuit.iter()).flat_map(|column| column.iter()) {
        session.channel.common_scalar(*value)?;
    }
    let config = C::configure_with_params(&mut ConstraintSystem::default(), first.params());
    let mut challenges = vec![None; cs.num_challenges()];
    let mut advice = Vec::with_capacity(circuits.len());
    for (index, (circuit, instances)) in circuits.iter().zip(instances).enumerate() {
        let mut collector = Collector::new(session, instances, &mut challenges, index + 1 == circuits.len());
        while collector.phase < collector.phases {
            let phase = collector.phase;
            collector.session.clock.enter(Stage::Synthesis);
            collector.synthesizing = true;
            let done =
                C::FloorPlanner::synthesize(&mut collector, circuit, config.clone(), cs.constants().clone());
            collector.synthesizing = false;
            // What went wrong first says more than what the circuit made of it.
            if let Some(error) = collector.error.take() {
                return Err(error);
            }
            done?;
            // The circuit has returned, so nothing that it was lent is read again.
            collector.lent.clear();
            collector.again = Lender::new(collector.session.n());
            if collector.phase < collector.phases {
                collector.commit_phase()?;
            }
            tracing::trace!(target: "parhelion::witness", circuit = index, from_phase = phase, to_phase = collector.phase);
        }
        advice.push(collector.finish());
    }
    let challenges = challenges.into_iter().enumerate().map(|(i, challenge)| {
        challenge
            .ok_or_else(|| Error::Unsupported(format!("challenge {i} belongs to a phase without columns")))
    });
    Ok(Witness { advice, challenges: challenges.collect::<Result<_>>()? })
}

/// One circuit under synthesis.
struct Collector<'s, 'a> {
    session: &'s mut Session<'a>,
    k: u32,
    usable: usize,
    phase: u8,
    phases: u8,
    column_phase: Vec<u8>,
    challenge_phase: Vec<u8>,
    instances: &'s [&'s [Fr]],
    challenges: &'s mut [Option<Fr>],
    /// Only after the last circuit of a phase are its challenges squeezed.
    last_circuit: bool,
    synthesizing: bool,
    open: Vec<Option<Cells>>,
    committed: Vec<Values>,
    /// What the circuit was lent and may still read, of columns that are no longer open.
    lent: Vec<Lender>,
    /// What is assigned to columns that are no longer open.
    again: Lender,
    error: Option<Error>,
}

impl<'s, 'a> Collector<'s, 'a> {
    fn new(
        session: &'s mut Session<'a>,
        instances: &'s [&'s [Fr]],
        challenges: &'s mut [Option<Fr>],
        last_circuit: bool,
    ) -> Self {
        let (cs, n) = (session.cs(), session.n());
        Collector {
            k: session.k(),
            usable: session.usable_rows(),
            session,
            phase: 0,
            phases: phases(cs),
            column_phase: cs.advice_column_phase(),
            challenge_phase: cs.challenge_phase(),
            instances,
            challenges,
            last_circuit,
            open: (0..cs.num_advice_columns()).map(|_| Some(Cells::new(n))).collect(),
            committed: (0..cs.num_advice_columns()).map(|_| Values::default()).collect(),
            synthesizing: false,
            lent: Vec::new(),
            again: Lender::new(n),
            error: None,
        }
    }

    fn finish(self) -> Vec<Values> {
        self.committed
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Blinds and commits the columns of the present phase, squeezes its challenges, and enters the next phase.
    fn commit_phase(&mut self) -> Result<()> {
        self.session.clock.enter(Stage::CommitAdvice);
        if self.phase >= MAX_PHASES {
            return Err(Error::Unsupported(format!("more than {MAX_PHASES} phases")));
        }
        let members: Vec<usize> =
            (0..self.open.len()).filter(|i| self.column_phase.get(*i) == Some(&self.phase)).collect();
        for index in &members {
            let Some(column) = self.open[*index].take() else { continue };
            let (mut values, lent) = column.resolve();
            if self.synthesizing {
                self.lent.push(lent);
            }
            for cell in &mut values[self.usable..] {
                *cell = self.session.draw();
            }
            // A device that columns stay on takes this one in while the next is made ready.
            self.committed[*index] = self.session.settle(values)?;
        }
        // One blinding factor per column, as the protocol draws them; KZG commitments have no use for it.
        for _ in &members {
            self.session.draw();
        }
        let columns: Vec<&Values> = members.iter().map(|i| &self.committed[*i]).collect();
        self.session.commit_columns(&columns)?;
        if self.last_circuit {
            for (challenge, phase) in self.challenges.iter_mut().zip(&self.challenge_phase) {
                if *phase == self.phase {
                    *challenge = Some(self.session.channel.squeeze());
                }
            }
        }
        self.phase += 1;
        self.session.clock.enter(Stage::Synthesis);
        Ok(())
    }
}

impl Assignment<Fr> for Collector<'_, '_> {
    fn enter_region<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn annotate_column<A, AR>(&mut self, _: A, _: Column<Any>)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
    }

    fn exit_region(&mut self) {}

    fn enable_selector<A, AR>(&mut self, _: A, _: &Selector, _: usize) -> Result<(), PlonkError>
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        Ok(())
    }

    fn query_instance(&self, column: Column<Instance>, row: usize) -> Result<Value<Fr>, PlonkError> {
        if row >= self.usable {
            return Err(PlonkError::NotEnoughRowsAvailable { current_k: self.k });
        }
        let value = self.instances.get(column.index()).and_then(|values| values.get(row));
        value.map(|v| Value::known(*v)).ok_or(PlonkError::BoundsFailure)
    }

    fn assign_advice<'v>(
        &mut self,
        column: Column<Advice>,
        row: usize,
        to: Value<Assigned<Fr>>,
    ) -> Value<&'v Assigned<Fr>> {
        let index = column.index();
        let mut known = None;
        to.map(|value| known = Some(value));
        let Some(value) = known else {
            // A column of a later phase is assigned again once its challenges are known.
            if self.column_phase.get(index).is_none_or(|phase| *phase <= self.phase) {
                self.fail(Error::MissingWitness { column: index, row });
            }
            return Value::unknown();
        };
        let column = self.open.get_mut(index).filter(|_| row < self.usable);
        let Some(column) = column else {
            self.fail(Error::OutOfBounds { column: "advice", index, row, usable: self.usable });
            return Value::unknown();
        };
        let lent = match column {
            Some(column) => column.set(row, &value),
            // Already committed: a later synthesis assigns it again.
            None => self.again.lend(&value),
        };
        match lent {
            Some(lent) => Value::known(lent),
            None => {
                self.fail(Error::Unsupported("more assignments to a column than 2^32 words hold".into()));
                Value::unknown()
            }
        }
    }

    fn assign_fixed(&mut self, _: Column<Fixed>, _: usize, _: Assigned<Fr>) {}

    fn copy(&mut self, _: Column<Any>, _: usize, _: Column<Any>, _: usize) {}

    fn fill_from_row(
        &mut self,
        _: Column<Fixed>,
        _: usize,
        _: Value<Assigned<Fr>>,
    ) -> Result<(), PlonkError> {
        Ok(())
    }

    fn get_challenge(&self, challenge: Challenge) -> Value<Fr> {
        match self.challenges.get(challenge.index()) {
            Some(Some(value)) => Value::known(*value),
            _ => Value::unknown(),
        }
    }

    fn push_namespace<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn pop_namespace(&mut self, _: Option<String>) {}

    fn next_phase(&mut self) {
        if self.error.is_none()
            && let Err(error) = self.commit_phase()
        {
            self.error = Some(error);
        }
    }
}
