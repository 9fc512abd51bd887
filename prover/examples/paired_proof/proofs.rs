//! The circuits that are measured, and proofs and keys of both sides.

use std::cell::RefCell;
use std::time::Instant;

use halo2_axiom::plonk;
use halo2_axiom::poly::EvaluationDomain;
use halo2_axiom::poly::commitment::{Blind, ParamsProver};
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::multiopen::ProverSHPLONK;
use halo2_axiom::transcript::{
    Blake2bWrite, Challenge255, Transcript, TranscriptWrite, TranscriptWriterBuffer,
};
use halo2curves::bn256::{Bn256, Fr, G1Affine};
use parhelion_prover::{
    Engine, KeygenOptions, PreparedKey, ProofReport, ProveOptions, ProvingKey, Srs, Stage, keygen, prove,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::circuits::{Shape, Wide};

type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;

/// `wide-K`, `lookups-K` or `permutation-K`.
pub(crate) fn shape(name: &str) -> Option<Wide> {
    let (kind, k) = name.rsplit_once('-')?;
    let shape = match kind {
        "wide" => Shape { advice: 12, fixed: 6, degree: 5, lookups: 0, copied: 12 },
        "lookups" => Shape { advice: 12, fixed: 2, degree: 4, lookups: 8, copied: 4 },
        "permutation" => Shape { advice: 20, fixed: 2, degree: 4, lookups: 0, copied: 20 },
        _ => return None,
    };
    Some(Wide { k: k.parse().ok()?, shape })
}

pub(crate) fn our_key(engine: &Engine, srs: &Srs, circuit: Wide) -> PreparedKey {
    let pk = keygen(engine, srs, &circuit, KeygenOptions::default()).unwrap();
    PreparedKey::new(engine, srs, pk).unwrap()
}

pub(crate) fn our_proof(engine: &Engine, key: &PreparedKey, circuit: Wide) -> ProofReport {
    let mut transcript = Blake2b::init(Vec::new());
    let rng = ChaCha20Rng::seed_from_u64(1);
    prove(engine, key, &[circuit], &[&[]], rng, &mut transcript, ProveOptions::default()).unwrap()
}

pub(crate) fn their_key(params: &ParamsKZG<Bn256>, circuit: Wide) -> ProvingKey {
    let vk = plonk::keygen_vk(params, &circuit).unwrap();
    plonk::keygen_pk(params, vk, &circuit).unwrap()
}

pub(crate) fn their_proof(params: &ParamsKZG<Bn256>, pk: &ProvingKey, circuit: Wide) {
    their_proof_into(params, pk, circuit, &mut Blake2b::init(Vec::new()));
}

fn their_proof_into(
    params: &ParamsKZG<Bn256>,
    pk: &ProvingKey,
    circuit: Wide,
    transcript: &mut impl TranscriptWrite<G1Affine, Challenge255<G1Affine>>,
) {
    let rng = ChaCha20Rng::seed_from_u64(1);
    plonk::create_proof::<KZGCommitmentScheme<Bn256>, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
        params,
        pk,
        &[circuit],
        &[&[]],
        rng,
        transcript,
    )
    .unwrap();
}

fn timed<T>(times: &mut Vec<f64>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    times.push(start.elapsed().as_secs_f64() * 1e3);
    value
}

/// Times of one stage on both sides, in milliseconds, run by run.
pub(crate) struct ProofRow {
    pub(crate) op: &'static str,
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
}

/// `rounds` proofs and keys of each side, interleaved, with one round before them that is not counted if `warm`; and the last report.
///
/// Rows: `prove`, `keygen` (both keys), and `h(X)`. The last is the time from the challenge y to the first commitment to a
/// piece of h, less the interpolation of the advice columns and the commitments that lie between: upstream's code runs in a
/// transcript that keeps the time, and its share of those two is measured apart, with upstream's functions on the same
/// sizes, in the same round.
pub(crate) fn paired(
    engine: &Engine,
    circuit: Wide,
    rounds: usize,
    warm: bool,
) -> (Vec<ProofRow>, Option<ProofReport>) {
    let srs = Srs::insecure_from_seed(circuit.k, 1).unwrap();
    let params = srs.to_params();
    let mut rows: Vec<ProofRow> = ["prove", "keygen", "h(X)"]
        .map(|op| ProofRow { op, ours: Vec::new(), theirs: Vec::new() })
        .into_iter()
        .collect();
    let mut last = None;
    for round in 0..rounds + usize::from(warm) {
        let [mut ours, mut theirs] = [(); 2].map(|()| Vec::new());
        let [mut our_keys, mut their_keys] = [(); 2].map(|()| Vec::new());
        let key = timed(&mut our_keys, || our_key(engine, &srs, circuit));
        let pk = timed(&mut their_keys, || their_key(&params, circuit));
        let report = timed(&mut ours, || our_proof(engine, &key, circuit));
        let mut transcript = Stopwatch { inner: Blake2b::init(Vec::new()), events: RefCell::default() };
        timed(&mut theirs, || their_proof_into(&params, &pk, circuit, &mut transcript));
        let their_h = transcript.time_after_y() - beside_h(&params, &pk, circuit);
        if round > 0 || !warm {
            for (row, (ours, theirs)) in rows.iter_mut().zip([
                (ours[0], theirs[0]),
                (our_keys[0], their_keys[0]),
                (report.stage(Stage::Quotient).as_secs_f64() * 1e3, their_h),
            ]) {
                row.ours.push(ours);
                row.theirs.push(theirs);
            }
            last = Some(report);
        }
    }
    (rows, last)
}

/// What upstream does between y and its first piece beside h(X): advice columns become polynomials, pieces are committed.
fn beside_h(params: &ParamsKZG<Bn256>, pk: &ProvingKey, circuit: Wide) -> f64 {
    let domain: &EvaluationDomain<Fr> = pk.get_vk().get_domain();
    // σ columns and their polynomials are as random as the prover's own.
    let values = &pk.permutation().permutations()[0];
    let polys = pk.permutation().polys();
    let pieces = domain.get_quotient_poly_degree();
    let mut times = Vec::new();
    timed(&mut times, || {
        for _ in 0..circuit.shape.advice {
            std::hint::black_box(domain.lagrange_to_coeff(values.clone()));
        }
        for poly in polys.iter().cycle().take(pieces) {
            std::hint::black_box(params.commit(poly, Blind::default()));
        }
    });
    times[0]
}

#[derive(Clone, Copy, PartialEq)]
enum Event {
    Challenge,
    Point,
}

/// A transcript that keeps the time of its events.
struct Stopwatch {
    inner: Blake2b,
    events: RefCell<Vec<(Event, Instant)>>,
}

impl Stopwatch {
    fn note(&self, event: Event) {
        self.events.borrow_mut().push((event, Instant::now()));
    }

    /// The challenges of a circuit without challenges of its own are θ, β, γ, y, …
    fn time_after_y(&self) -> f64 {
        let events = self.events.borrow();
        let y =
            events.iter().enumerate().filter(|(_, (event, _))| *event == Event::Challenge).nth(3).unwrap().0;
        let (_, first) = events[y..].iter().find(|(event, _)| *event == Event::Point).unwrap();
        (*first - events[y].1).as_secs_f64() * 1e3
    }
}

impl Transcript<G1Affine, Challenge255<G1Affine>> for Stopwatch {
    fn squeeze_challenge(&mut self) -> Challenge255<G1Affine> {
        let challenge = self.inner.squeeze_challenge();
        self.note(Event::Challenge);
        challenge
    }
    fn common_point(&mut self, point: G1Affine) -> std::io::Result<()> {
        self.inner.common_point(point)
    }
    fn common_scalar(&mut self, scalar: Fr) -> std::io::Result<()> {
        self.inner.common_scalar(scalar)
    }
}

impl TranscriptWrite<G1Affine, Challenge255<G1Affine>> for Stopwatch {
    fn write_point(&mut self, point: G1Affine) -> std::io::Result<()> {
        self.note(Event::Point);
        self.inner.write_point(point)
    }
    fn write_scalar(&mut self, scalar: Fr) -> std::io::Result<()> {
        self.inner.write_scalar(scalar)
    }
}

/// To two decimals.
pub(crate) fn round2(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
