//! One proof, stage by stage, in halo2's order of messages and of randomness.

use std::ops::Range;

use ff::Field;
use halo2_axiom::plonk::Circuit;
use halo2_axiom::poly::Rotation;
use halo2_axiom::transcript::{EncodedChallenge, TranscriptWrite};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::Ref;
use rand_core::{OsRng, RngCore};

use crate::bases::SrsBases;
use crate::channel::{self, Channel, Message, Recorder};
use crate::lookup::{self, Permuted};
use crate::memory::Plan;
use crate::multiopen::{self, Opened, Polys, Query};
use crate::options::{Entropy, ProveOptions};
use crate::prepared::PreparedKey;
use crate::program::{Key, Programs, last_rotation};
use crate::report::{Clock, ProofReport, Stage};
use crate::resident::{KeyColumns, Poly, Resident, Retreat, Values, retreat_polys};
use crate::session::Session;
use crate::witness::{self, Witness};
use crate::{Engine, Error, Multiopen, ProvingKey, Result, lean, memory, products, quotient, redo};

/// Proves that `circuits` are satisfied with `instances`, into `transcript`.
///
/// `instances[c][i]` are the values of instance column i of circuit c, at most as many as there are usable rows. The
/// randomness of `rng` hides the witness and must not be predictable.
///
/// # Errors
/// [`Error::Count`], [`Error::InstanceTooLong`] and [`Error::WrongSize`] for what does not fit the key; what the circuit's
/// synthesis reports; [`Error::NotInTable`] and [`Error::Rejected`] when the witness does not satisfy the circuit;
/// [`Error::Memory`] when the engine's budget is too small; [`Error::Faulty`] when a device computed wrongly, after which the proof may be made
/// again without it (see [`prove_recovering`](crate::prove_recovering)); [`Error::Engine`]. What has been written to the transcript by then is no proof.
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
    let multiopen = options.multiopen;
    let proved = run(&engine, key, circuits, instances, &mut rng, transcript, options);
    proved.map_err(|error| {
        redo::blame(&engine, error, |trusted| {
            let options = ProveOptions::default().multiopen(multiopen);
            run(trusted, key, circuits, instances, &mut OsRng, &mut redo::nowhere(), options).map(drop)
        })
    })
}

/// One attempt, recorded in the engine's ledger. It is verified if the options say so, or if an untrusted device took part and
/// they say so for that case.
pub(crate) fn run<E, T, ConcreteCircuit>(
    engine: &Engine,
    key: &PreparedKey,
    circuits: &[ConcreteCircuit],
    instances: &[&[&[Fr]]],
    rng: &mut dyn RngCore,
    transcript: &mut T,
    options: ProveOptions<'_>,
) -> Result<ProofReport>
where
    E: EncodedChallenge<G1Affine>,
    T: TranscriptWrite<G1Affine, E>,
    ConcreteCircuit: Circuit<Fr>,
{
    let mut recorder = Recorder::<E, T>::new(transcript);
    let job = Job {
        engine,
        bases: key.bases(),
        programs: key.programs(),
        pk: key.held(),
        multiopen: options.multiopen,
    };
    let mut entropy = Entropy;
    let choices = options.choices.unwrap_or(&mut entropy);
    let (mut clock, plan) = job.run(circuits, instances, rng, &mut recorder, choices)?;
    let verify = options.verify || (options.verify_devices && engine.has_untrusted(&engine.ledger()));
    if verify {
        clock.enter(Stage::Verify);
        let record: Vec<Message> = recorder.into_record();
        channel::verify_record(key.verifier_params(), key.vk(), instances, &record, options.multiopen)?;
    }
    Ok(clock.finish(verify, plan.report(), engine.ledger()))
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
            resident: Resident::plan(self.engine, self.programs, self.bases, circuits.len()),
            bases: self.bases,
            pk: self.pk,
            channel,
            rng,
            choices,
            clock: Clock::start(Stage::Synthesis),
            plan,
        };
        if lean::is_lean(self.pk) {
            // Prepared for the host: it has no columns by value to bring to a device.
            session.resident = None;
        }
        if self.bases.k() != session.k() {
            return Err(Error::WrongSize { key: session.k(), srs: self.bases.k() });
        }
        check_instances(&session, circuits.len(), instances)?;
        session.channel.common_scalar(vk.transcript_repr())?;
        let key = KeyColumns::new(&session, self.pk, &self.programs.mirror);
        let witness = witness::collect(&mut session, circuits, instances)?;
        self.after_witness(&mut session, &key, witness, instances)?;
        Ok((session.clock, plan))
    }

    fn after_witness(
        &self,
        session: &mut Session<'_>,
        key: &KeyColumns<'_>,
        witness: Witness,
        instances: &[&[&[Fr]]],
    ) -> Result<()> {
        let (n, programs) = (session.n(), self.programs);
        let Witness { advice, challenges } = witness;
        let mut circuits = Vec::with_capacity(advice.len());
        for (advice, instances) in advice.into_iter().zip(instances) {
            let settled = instances.iter().map(|values| session.settle(padded(values, n)));
            let instance = settled.collect::<Result<_>>()?;
            circuits.push(CircuitColumns { advice, instance, ..CircuitColumns::default() });
        }

        memory::release();
        session.clock.enter(Stage::Lookups);
        let theta = session.channel.squeeze();
        let with = |more: &[Fr]| [challenges.as_slice(), more].concat();
        for (index, circuit) in circuits.iter_mut().enumerate() {
            let lookups =
                lookup::permute_all(session, programs, circuit.columns(key), &with(&[theta]), index)?;
            circuit.lookups = lookups;
        }
        let permuted: Vec<&Values> = circuits
            .iter()
            .flat_map(|c| &c.lookups)
            .flat_map(|lookup| [&lookup.input, &lookup.table])
            .collect();
        session.commit_columns(&permuted)?;

        session.clock.enter(Stage::Products);
        let (beta, gamma) = (session.channel.squeeze(), session.channel.squeeze());
        for circuit in &mut circuits {
            circuit.permutation =
                products::permutation(session, programs, circuit.columns(key), [beta, gamma])?;
        }
        for circuit in &mut circuits {
            for lookup in circuit.lookups.iter().enumerate() {
                let column = circuit.columns(key);
                let product =
                    products::lookup(session, programs, column, lookup, &with(&[theta]), [beta, gamma])?;
                circuit.lookup_products.push(product);
            }
        }
        let all = circuits.iter().flat_map(|c| &c.permutation);
        let all: Vec<&Values> = all.chain(circuits.iter().flat_map(|c| &c.lookup_products)).collect();
        session.commit_columns(&all)?;
        let mask = session.choices.mask(n);
        parhelion_backend_api::Error::check_len("mask", n, mask.len())?;
        // The blinding factor of the mask's commitment, which KZG has no use for.
        session.draw();
        let mut mask = Polynomials { mask: session.settle_poly(mask)?, ..Polynomials::new(self.pk, key) };
        let commitment =
            session.attempt(&mut mask, |session, state| session.commitments(&[state.mask.as_ref()]))?;
        session.write_points(&commitment)?;

        memory::release();
        session.clock.enter(Stage::Interpolate);
        let y = session.channel.squeeze();
        let mut state = mask;
        for circuit in circuits {
            let circuit = circuit.interpolate(session, &mut state)?;
            state.circuits.push(circuit);
        }

        memory::release();
        session.clock.enter(Stage::Quotient);
        let challenges = with(&[y, beta, gamma, theta]);
        let count = state.circuits.len();
        state.pieces = session.attempt(&mut state, |session, state| {
            let poly = |circuit: usize, key: Key| state.poly(session, circuit, key);
            let pieces = quotient::quotient(session, programs, count, poly, &challenges)?;
            session.keep_polys(pieces)
        })?;

        memory::release();
        session.clock.enter(Stage::CommitQuotient);
        for _ in &state.pieces {
            session.draw();
        }
        let commitments = session.attempt(&mut state, |session, state| {
            session.commitments(&state.pieces.iter().map(Poly::as_ref).collect::<Vec<_>>())
        })?;
        session.write_points(&commitments)?;

        memory::release();
        session.clock.enter(Stage::Evaluate);
        state.x = session.channel.squeeze();
        let Queries { evaluated, opened } = Queries::new(&state);
        let values = session.attempt(&mut state, |session, state| {
            // Every polynomial but h, which is not evaluated, is one vector.
            let polys = state.opened(session);
            let polys: Vec<_> = polys.iter().filter_map(|p| p.first()).map(|(_, p)| *p).collect();
            let queries: Vec<_> = evaluated.iter().map(|q| (q.poly, q.point)).collect();
            let mut values = vec![Fr::ZERO; queries.len()];
            session.engine().evaluate_batch(&polys, &queries, &mut values)?;
            Ok(values)
        })?;
        values.into_iter().try_for_each(|value| session.channel.write_scalar(value))?;

        session.clock.enter(Stage::Open);
        multiopen::open(session, self.multiopen, state, &opened)
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

/// The columns of one circuit, by value.
#[derive(Default)]
struct CircuitColumns {
    advice: Vec<Values>,
    instance: Vec<Values>,
    lookups: Vec<Permuted>,
    permutation: Vec<Values>,
    lookup_products: Vec<Values>,
}

impl CircuitColumns {
    /// For the programs that run before anything is interpolated.
    fn columns<'c>(&'c self, own: &'c KeyColumns<'_>) -> impl Fn(&Session<'_>, Key) -> Ref<'c, Fr> {
        move |session, key| match key {
            Key::Advice(i) => self.advice[i].at(session),
            Key::Instance(i) => self.instance[i].at(session),
            // No program over the original domain reads another column.
            key => own.values(session, key),
        }
    }

    fn interpolate(self, session: &mut Session<'_>, state: &mut impl Retreat) -> Result<CircuitPolys> {
        let CircuitColumns { advice, instance, lookups, permutation, lookup_products } = self;
        let [advice_at, instance_at] = [0, advice.len()];
        let permutation_at = instance_at + instance.len();
        let products_at = permutation_at + permutation.len();
        let lookups_at = products_at + lookup_products.len();
        let lookups = lookups.into_iter().flat_map(|l| [l.input, l.table]);
        let all = advice.into_iter().chain(instance).chain(permutation).chain(lookup_products);
        let polys = session.interpolate(all.chain(lookups).collect(), state)?;
        Ok(CircuitPolys { polys, advice_at, instance_at, permutation_at, products_at, lookups_at })
    }
}

/// The columns of one circuit, by coefficients: advice, instance, permutation products, lookup products, and pairs of permuted
/// inputs and tables.
struct CircuitPolys {
    polys: Vec<Poly>,
    advice_at: usize,
    instance_at: usize,
    permutation_at: usize,
    products_at: usize,
    lookups_at: usize,
}

impl CircuitPolys {
    fn get(&self, key: Key) -> Option<Ref<'_, Fr>> {
        let at = match key {
            Key::Advice(i) => self.advice_at + i,
            Key::Instance(i) => self.instance_at + i,
            Key::PermutationProduct(i) => self.permutation_at + i,
            Key::LookupProduct(i) => self.products_at + i,
            Key::PermutedInput(i) => self.lookups_at + 2 * i,
            Key::PermutedTable(i) => self.lookups_at + 2 * i + 1,
            _ => return None,
        };
        self.polys.get(at).map(Poly::as_ref)
    }
}

/// Every polynomial of a proof.
struct Polynomials<'k> {
    pk: &'k ProvingKey,
    key: &'k KeyColumns<'k>,
    circuits: Vec<CircuitPolys>,
    mask: Poly,
    pieces: Vec<Poly>,
    /// Where they are evaluated, once that is known.
    x: Fr,
}

impl<'k> Polynomials<'k> {
    fn new(pk: &'k ProvingKey, key: &'k KeyColumns<'k>) -> Self {
        Polynomials {
            pk,
            key,
            circuits: Vec::new(),
            mask: Vec::new().into(),
            pieces: Vec::new(),
            x: Fr::ZERO,
        }
    }

    fn poly(&self, session: &Session<'_>, circuit: usize, key: Key) -> Ref<'_, Fr> {
        // The programs of the numerator are given the sum by the caller, and read no compressed column.
        self.circuits[circuit].get(key).unwrap_or_else(|| self.key.poly(session, key))
    }
}

impl Retreat for Polynomials<'_> {
    fn retreat(&mut self, session: &Session<'_>) -> Result<()> {
        let circuits = self.circuits.iter_mut().flat_map(|c| &mut c.polys);
        retreat_polys(session, circuits.chain([&mut self.mask]).chain(&mut self.pieces))
    }
}

impl multiopen::Polys for Polynomials<'_> {
    /// Fixed, σ, the mask, then for each circuit advice, permutation products, and z, a', s' of each lookup; h.
    fn opened(&self, session: &Session<'_>) -> Vec<Opened<'_>> {
        let (cs, domain) = (self.pk.get_vk().cs(), self.pk.get_vk().get_domain());
        let fixed = (0..self.pk.fixed_polys().len()).map(|i| self.key.poly(session, Key::Fixed(i)));
        let sigma = (0..self.pk.permutation().polys().len()).map(|i| self.key.poly(session, Key::Sigma(i)));
        let circuits = self.circuits.iter().flat_map(|c| {
            let advice = (0..cs.num_advice_columns()).map(Key::Advice);
            let products = (0..c.products_at - c.permutation_at).map(Key::PermutationProduct);
            let lookups = (0..cs.lookups().len())
                .flat_map(|i| [Key::LookupProduct(i), Key::PermutedInput(i), Key::PermutedTable(i)]);
            advice.chain(products).chain(lookups).filter_map(|key| c.get(key))
        });
        let columns = fixed.chain(sigma).chain([self.mask.as_ref()]).chain(circuits);
        let mut all: Vec<Opened<'_>> = columns.map(|column| vec![(Fr::ONE, column)]).collect();
        let xn = self.x.pow_vartime([1u64 << domain.k()]);
        let powers = std::iter::successors(Some(Fr::ONE), |p| Some(*p * xn));
        all.push(powers.zip(&self.pieces).map(|(power, piece)| (power, piece.as_ref())).collect());
        all
    }
}

/// What is evaluated in the order in which it is written, and what is opened in the order of the queries, by index into
/// [`multiopen::Polys::opened`].
struct Queries {
    evaluated: Vec<Query>,
    opened: Vec<Query>,
}

impl Queries {
    fn new(state: &Polynomials<'_>) -> Self {
        let pk = state.pk;
        let (cs, domain) = (pk.get_vk().cs(), pk.get_vk().get_domain());
        let x = state.x;
        let at = |rotation: i32| domain.rotate_omega(x, Rotation(rotation));
        let query = |poly: usize, rotation: i32| Query { poly, point: at(rotation) };

        let mut next = 0;
        let mut take = |count: usize| {
            next += count;
            next - count..next
        };
        let fixed = take(pk.fixed_polys().len());
        let sigma = take(pk.permutation().polys().len());
        let mask = take(1).start;
        let own: Vec<CircuitIndices> = state
            .circuits
            .iter()
            .map(|c| CircuitIndices {
                advice: take(cs.num_advice_columns()),
                permutation: take(c.products_at - c.permutation_at),
                lookups: (0..cs.lookups().len()).map(|_| take(3).start).collect(),
            })
            .collect();
        let h = take(1).start;

        let last = last_rotation(cs);
        let advice_queries = |c: &CircuitIndices| {
            let queries = cs.advice_queries().iter();
            let start = c.advice.start;
            queries.map(|(column, rotation)| query(start + column.index(), rotation.0)).collect::<Vec<_>>()
        };
        let fixed_queries = || {
            let queries = cs.fixed_queries().iter();
            let start = fixed.start;
            queries.map(|(column, rotation)| query(start + column.index(), rotation.0)).collect::<Vec<_>>()
        };

        let mut evaluated: Vec<Query> = own.iter().flat_map(&advice_queries).collect();
        evaluated.extend(fixed_queries());
        evaluated.push(query(mask, 0));
        evaluated.extend(sigma.clone().map(|p| query(p, 0)));
        for circuit in &own {
            for z in circuit.permutation.clone() {
                evaluated.extend([query(z, 0), query(z, 1)]);
                if z + 1 < circuit.permutation.end {
                    evaluated.push(query(z, last));
                }
            }
        }
        for z in own.iter().flat_map(|c| &c.lookups) {
            let [z, a, s] = [*z, z + 1, z + 2];
            evaluated.extend([query(z, 0), query(z, 1), query(a, 0), query(a, -1), query(s, 0)]);
        }

        let mut opened = Vec::new();
        for circuit in &own {
            opened.extend(advice_queries(circuit));
            opened.extend(circuit.permutation.clone().flat_map(|z| [query(z, 0), query(z, 1)]));
            opened.extend(circuit.permutation.clone().rev().skip(1).map(|z| query(z, last)));
            for z in &circuit.lookups {
                let [z, a, s] = [*z, z + 1, z + 2];
                opened.extend([query(z, 0), query(a, 0), query(s, 0), query(a, -1), query(z, 1)]);
            }
        }
        opened.extend(fixed_queries());
        opened.extend(sigma.map(|p| query(p, 0)));
        opened.extend([query(h, 0), query(mask, 0)]);
        Queries { evaluated, opened }
    }
}

/// Where the polynomials of one circuit are among all.
struct CircuitIndices {
    advice: Range<usize>,
    permutation: Range<usize>,
    /// Index of z; a' and s' follow.
    lookups: Vec<usize>,
}
