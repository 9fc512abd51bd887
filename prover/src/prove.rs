//! One proof, stage by stage, in halo2's order of messages and of randomness.

use ff::Field;
use halo2_axiom::plonk::Circuit;
use halo2_axiom::poly::Rotation;
use halo2_axiom::transcript::{EncodedChallenge, TranscriptWrite};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::Ref;
use rand_core::RngCore;

use crate::bases::SrsBases;
use crate::channel::{self, Channel, Message, Recorder};
use crate::lookup::{self, Permuted};
use crate::memory::Plan;
use crate::multiopen::{self, Opened, Query};
use crate::options::{Entropy, ProveOptions};
use crate::prepared::PreparedKey;
use crate::program::{Key, Programs, last_rotation};
use crate::report::{Clock, ProofReport, Stage};
use crate::session::Session;
use crate::witness::{self, Witness};
use crate::{Engine, Error, Multiopen, ProvingKey, Result, products, quotient};

/// Proves that `circuits` are satisfied with `instances`, into `transcript`.
///
/// `instances[c][i]` are the values of instance column i of circuit c, at most as many as there are usable rows. The
/// randomness of `rng` hides the witness and must not be predictable.
///
/// # Errors
/// [`Error::Count`], [`Error::InstanceTooLong`] and [`Error::WrongSize`] for what does not fit the key; what the circuit's
/// synthesis reports; [`Error::NotInTable`] and [`Error::Rejected`] when the witness does not satisfy the circuit;
/// [`Error::Memory`] when the engine's budget is too small; [`Error::Engine`]. What has been written to the transcript by then is no proof.
pub fn prove<E, R, T, ConcreteCircuit>(
    engine: &Engine,
    key: &PreparedKey,
    circuits: &[ConcreteCircuit],
    instances: &[&[&[Fr]]],
    mut rng: R,
    transcript: &mut T,
    options: ProveOptions<'_>,
) -> Result<ProofReport>
where
    E: EncodedChallenge<G1Affine>,
    R: RngCore,
    T: TranscriptWrite<G1Affine, E>,
    ConcreteCircuit: Circuit<Fr>,
{
    let engine = engine.with_ledger();
    let mut recorder = Recorder::<E, T>::new(transcript);
    let job = Job {
        engine: &engine,
        bases: key.bases(),
        programs: key.programs(),
        pk: key.pk(),
        multiopen: options.multiopen,
    };
    let mut entropy = Entropy;
    let choices = options.choices.unwrap_or(&mut entropy);
    let (mut clock, plan) = job.run(circuits, instances, &mut rng, &mut recorder, choices)?;
    if options.verify {
        clock.enter(Stage::Verify);
        let record: Vec<Message> = recorder.into_record();
        channel::verify_record(key.verifier_params(), key.vk(), instances, &record, options.multiopen)?;
    }
    Ok(clock.finish(options.verify, plan.report(), engine.ledger()))
}

/// What a proof needs beside the statement.
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) bases: &'a SrsBases,
    pub(crate) programs: &'a Programs,
    pub(crate) pk: &'a ProvingKey,
    pub(crate) multiopen: Multiopen,
}

impl Job<'_> {
    pub(crate) fn run<C: Circuit<Fr>>(
        &self,
        circuits: &[C],
        instances: &[&[&[Fr]]],
        rng: &mut dyn RngCore,
        channel: &mut dyn Channel,
        choices: &mut dyn crate::Choices,
    ) -> Result<(Clock, Plan)> {
        let vk = self.pk.get_vk();
        let plan = Plan::new(self.engine, self.programs, circuits.len())?;
        let mut session = Session {
            engine: self.engine,
            bases: self.bases,
            pk: self.pk,
            channel,
            rng,
            choices,
            clock: Clock::start(Stage::Synthesis),
            plan,
        };
        if self.bases.k() != session.k() {
            return Err(Error::WrongSize { key: session.k(), srs: self.bases.k() });
        }
        check_instances(&session, circuits.len(), instances)?;
        session.channel.common_scalar(vk.transcript_repr())?;
        let witness = witness::collect(&mut session, circuits, instances)?;
        self.after_witness(&mut session, witness, instances)?;
        Ok((session.clock, plan))
    }

    fn after_witness(
        &self,
        session: &mut Session<'_>,
        witness: Witness,
        instances: &[&[&[Fr]]],
    ) -> Result<()> {
        let (n, pk, programs) = (session.n(), self.pk, self.programs);
        let Witness { advice, challenges } = witness;
        let mut circuits: Vec<CircuitColumns> = advice
            .into_iter()
            .zip(instances)
            .map(|(advice, instances)| CircuitColumns {
                advice,
                instance: instances.iter().map(|values| padded(values, n)).collect(),
                ..CircuitColumns::default()
            })
            .collect();

        session.clock.enter(Stage::Lookups);
        let theta = session.channel.squeeze();
        let with = |more: &[Fr]| [challenges.as_slice(), more].concat();
        for (index, circuit) in circuits.iter_mut().enumerate() {
            let column = |key| value_of(pk, &circuit.advice, &circuit.instance, key);
            circuit.lookups = lookup::permute_all(session, programs, column, &with(&[theta]), index)?;
        }
        let permuted: Vec<&[Fr]> = circuits
            .iter()
            .flat_map(|c| &c.lookups)
            .flat_map(|lookup| [lookup.input.as_slice(), &lookup.table])
            .collect();
        session.commit_columns(&permuted)?;

        session.clock.enter(Stage::Products);
        let (beta, gamma) = (session.channel.squeeze(), session.channel.squeeze());
        for circuit in &mut circuits {
            let column = |key| value_of(pk, &circuit.advice, &circuit.instance, key);
            circuit.permutation = products::permutation(session, programs, column, [beta, gamma])?;
        }
        for circuit in &mut circuits {
            let column = |key| value_of(pk, &circuit.advice, &circuit.instance, key);
            for lookup in circuit.lookups.iter().enumerate() {
                let product =
                    products::lookup(session, programs, column, lookup, &with(&[theta]), [beta, gamma])?;
                circuit.lookup_products.push(product);
            }
        }
        let all = circuits.iter().flat_map(|c| &c.permutation);
        let all: Vec<&[Fr]> =
            all.chain(circuits.iter().flat_map(|c| &c.lookup_products)).map(Vec::as_slice).collect();
        session.commit_columns(&all)?;
        let mask = session.choices.mask(n);
        parhelion_backend_api::Error::check_len("mask", n, mask.len())?;
        // The blinding factor of the mask's commitment, which KZG has no use for.
        session.draw();
        session.commit_polys(&[&mask])?;

        session.clock.enter(Stage::Interpolate);
        let y = session.channel.squeeze();
        session.interpolate(circuits.iter_mut().flat_map(CircuitColumns::all_mut))?;

        session.clock.enter(Stage::Quotient);
        let pieces = quotient::quotient(
            session,
            programs,
            circuits.len(),
            |circuit, key| circuits[circuit].poly(pk, key),
            &with(&[y, beta, gamma, theta]),
        )?;

        session.clock.enter(Stage::CommitQuotient);
        for _ in &pieces {
            session.draw();
        }
        session.commit_polys(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>())?;

        session.clock.enter(Stage::Evaluate);
        let x = session.channel.squeeze();
        let openings = Openings::new(pk, &circuits, &mask, &pieces, x);
        openings.write_evaluations(session)?;

        session.clock.enter(Stage::Open);
        let opening = multiopen::combine(session, self.multiopen, &openings.polys, &openings.opened)?;
        // From here on only the combinations are needed.
        drop(openings);
        drop((circuits, mask, pieces));
        opening.prove(session)
    }
}

fn check_instances(session: &Session<'_>, circuits: usize, instances: &[&[&[Fr]]]) -> Result<()> {
    if circuits != instances.len() {
        return Err(Error::Count { what: "instance lists", expected: circuits, found: instances.len() });
    }
    let expected = session.cs().num_instance_columns();
    for columns in instances {
        if columns.len() != expected {
            return Err(Error::Count { what: "instance columns", expected, found: columns.len() });
        }
        for (column, values) in columns.iter().enumerate() {
            if values.len() > session.usable_rows() {
                let usable = session.usable_rows();
                return Err(Error::InstanceTooLong { column, found: values.len(), usable });
            }
        }
    }
    Ok(())
}

fn padded(values: &[Fr], n: usize) -> Vec<Fr> {
    let mut column = values.to_vec();
    column.resize(n, Fr::ZERO);
    column
}

/// The columns of one circuit: by value at first, coefficients once they are interpolated.
#[derive(Default)]
struct CircuitColumns {
    advice: Vec<Vec<Fr>>,
    instance: Vec<Vec<Fr>>,
    lookups: Vec<Permuted>,
    permutation: Vec<Vec<Fr>>,
    lookup_products: Vec<Vec<Fr>>,
}

impl CircuitColumns {
    fn all_mut(&mut self) -> impl Iterator<Item = &mut Vec<Fr>> {
        self.advice
            .iter_mut()
            .chain(&mut self.instance)
            .chain(&mut self.permutation)
            .chain(&mut self.lookup_products)
            .chain(self.lookups.iter_mut().flat_map(|l| [&mut l.input, &mut l.table]))
    }

    fn poly<'c>(&'c self, pk: &'c ProvingKey, key: Key) -> &'c [Fr] {
        match key {
            Key::Fixed(i) => pk.fixed_polys()[i].values(),
            Key::Sigma(i) => pk.permutation().polys()[i].values(),
            Key::First => pk.l0().values(),
            Key::Last => pk.l_last().values(),
            Key::Active => pk.l_active_row().values(),
            Key::Advice(i) => &self.advice[i],
            Key::Instance(i) => &self.instance[i],
            Key::PermutationProduct(i) => &self.permutation[i],
            Key::LookupProduct(i) => &self.lookup_products[i],
            Key::PermutedInput(i) => &self.lookups[i].input,
            Key::PermutedTable(i) => &self.lookups[i].table,
            // The programs of the numerator are given the sum by the caller, and read no compressed column.
            Key::Sum | Key::CompressedInput(_) | Key::CompressedTable(_) => &[],
        }
    }
}

/// Values on the domain, for the programs that run before anything is interpolated.
fn value_of<'c>(pk: &'c ProvingKey, advice: &'c [Vec<Fr>], instance: &'c [Vec<Fr>], key: Key) -> &'c [Fr] {
    match key {
        Key::Fixed(i) => pk.fixed_values()[i].values(),
        Key::Sigma(i) => pk.permutation().permutations()[i].values(),
        Key::Advice(i) => &advice[i],
        Key::Instance(i) => &instance[i],
        // No program over the original domain reads another column.
        _ => &[],
    }
}

/// All polynomials, what is evaluated in the order in which it is written, and what is opened in the order of the queries.
struct Openings<'c> {
    polys: Vec<Opened<'c>>,
    evaluated: Vec<Query>,
    opened: Vec<Query>,
}

impl<'c> Openings<'c> {
    fn new(
        pk: &'c ProvingKey,
        circuits: &'c [CircuitColumns],
        mask: &'c [Fr],
        pieces: &'c [Vec<Fr>],
        x: Fr,
    ) -> Self {
        let (cs, domain) = (pk.get_vk().cs(), pk.get_vk().get_domain());
        let at = |rotation: i32| domain.rotate_omega(x, Rotation(rotation));
        let mut polys: Vec<Opened<'c>> = Vec::new();
        let mut add = |poly: &'c [Fr]| {
            polys.push(vec![(Fr::ONE, poly)]);
            polys.len() - 1
        };
        let query = |poly: usize, rotation: i32| Query { poly, point: at(rotation) };

        let fixed: Vec<usize> = pk.fixed_polys().iter().map(|p| add(p.values())).collect();
        let sigma: Vec<usize> = pk.permutation().polys().iter().map(|p| add(p.values())).collect();
        let mask = add(mask);
        let own: Vec<CircuitIndices> = circuits
            .iter()
            .map(|c| CircuitIndices {
                advice: c.advice.iter().map(|p| add(p)).collect(),
                permutation: c.permutation.iter().map(|p| add(p)).collect(),
                lookups: c
                    .lookups
                    .iter()
                    .zip(&c.lookup_products)
                    .map(|(l, z)| [add(z), add(&l.input), add(&l.table)])
                    .collect(),
            })
            .collect();
        let xn = x.pow_vartime([1u64 << domain.k()]);
        let powers = std::iter::successors(Some(Fr::ONE), |p| Some(*p * xn));
        polys.push(powers.zip(pieces).map(|(power, piece)| (power, piece.as_slice())).collect());
        let h = polys.len() - 1;

        let last = last_rotation(cs);
        let advice_queries = |c: &CircuitIndices| {
            let queries = cs.advice_queries().iter();
            queries.map(|(column, rotation)| query(c.advice[column.index()], rotation.0)).collect::<Vec<_>>()
        };
        let fixed_queries = || {
            let queries = cs.fixed_queries().iter();
            queries.map(|(column, rotation)| query(fixed[column.index()], rotation.0)).collect::<Vec<_>>()
        };

        let mut evaluated: Vec<Query> = own.iter().flat_map(&advice_queries).collect();
        evaluated.extend(fixed_queries());
        evaluated.push(query(mask, 0));
        evaluated.extend(sigma.iter().map(|p| query(*p, 0)));
        for circuit in &own {
            for (i, z) in circuit.permutation.iter().enumerate() {
                evaluated.extend([query(*z, 0), query(*z, 1)]);
                if i + 1 < circuit.permutation.len() {
                    evaluated.push(query(*z, last));
                }
            }
        }
        for [z, a, s] in own.iter().flat_map(|c| &c.lookups) {
            evaluated.extend([query(*z, 0), query(*z, 1), query(*a, 0), query(*a, -1), query(*s, 0)]);
        }

        let mut opened = Vec::new();
        for circuit in &own {
            opened.extend(advice_queries(circuit));
            opened.extend(circuit.permutation.iter().flat_map(|z| [query(*z, 0), query(*z, 1)]));
            opened.extend(circuit.permutation.iter().rev().skip(1).map(|z| query(*z, last)));
            for [z, a, s] in &circuit.lookups {
                opened.extend([query(*z, 0), query(*a, 0), query(*s, 0), query(*a, -1), query(*z, 1)]);
            }
        }
        opened.extend(fixed_queries());
        opened.extend(sigma.iter().map(|p| query(*p, 0)));
        opened.extend([query(h, 0), query(mask, 0)]);
        Openings { polys, evaluated, opened }
    }

    fn write_evaluations(&self, session: &mut Session<'_>) -> Result<()> {
        // Every polynomial but h, which is not evaluated, is one vector.
        let polys: Vec<_> = self.polys.iter().filter_map(|p| p.first()).map(|(_, p)| Ref::host(p)).collect();
        let queries: Vec<_> = self.evaluated.iter().map(|q| (q.poly, q.point)).collect();
        let mut values = vec![Fr::ZERO; queries.len()];
        session.engine.evaluate_batch(&polys, &queries, &mut values)?;
        values.into_iter().try_for_each(|value| session.channel.write_scalar(value))?;
        Ok(())
    }
}

/// Where the polynomials of one circuit are among all.
struct CircuitIndices {
    advice: Vec<usize>,
    permutation: Vec<usize>,
    /// z, a', s'.
    lookups: Vec<[usize; 3]>,
}
