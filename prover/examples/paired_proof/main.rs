//! Whole proofs and key generation against halo2-axiom's own, interleaved, as JSON lines of medians.
//!
//! ```text
//! cargo run --release -p parhelion-prover --example paired_proof -- [ROUNDS] [SHAPE…]
//! ```
//!
//! Shapes: `wide-K` (12 advice and 6 fixed columns, degree 5), `lookups-K`, `permutation-K`, with K = log₂ of the rows;
//! without any, a selection. `ratio` is theirs / ours. Peak memory is not measured here: run `--ours` or `--theirs`
//! alone, each in a process of its own, under `/usr/bin/time -v`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement, not a library"
)]

#[path = "../../tests/common/circuits.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
mod circuits;
mod peak;

use std::time::Instant;

use circuits::{Shape, Wide};
use halo2_axiom::plonk;
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::multiopen::ProverSHPLONK;
use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Bn256, G1Affine};
use parhelion_prover::{
    Engine, KeygenOptions, PreparedKey, ProofReport, ProveOptions, ProvingKey, Srs, keygen, prove,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

type Blake2b = Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let stages = args.iter().any(|a| a == "--stages");
    if let [flag, side, name, dir, ..] = args.as_slice()
        && flag == "--child"
    {
        return peak::child(
            side,
            shape(name).unwrap(),
            dir.as_ref(),
            std::env::var_os("PEAK_STAGES").is_some(),
        );
    }
    let peaks = args.iter().any(|a| a == "--peak");
    let rounds = args.iter().find_map(|a| a.parse().ok()).unwrap_or(5);
    let mut shapes: Vec<&str> =
        args.iter().map(String::as_str).filter(|a| a.contains('-') && !a.starts_with('-')).collect();
    if shapes.is_empty() {
        shapes = vec!["wide-12", "wide-15", "lookups-14", "permutation-14"];
    }
    let engine = parhelion_backends::default_engine().expect("an engine");
    for name in shapes {
        let Some(circuit) = shape(name) else {
            println!("{{\"error\": \"unknown shape {name}\"}}");
            continue;
        };
        if peaks {
            peak::compare(name, circuit);
        } else {
            paired(engine, name, circuit, rounds, stages);
        }
    }
}

fn shape(name: &str) -> Option<Wide> {
    let (kind, k) = name.rsplit_once('-')?;
    let shape = match kind {
        "wide" => Shape { advice: 12, fixed: 6, degree: 5, lookups: 0, copied: 12 },
        "lookups" => Shape { advice: 12, fixed: 2, degree: 4, lookups: 8, copied: 4 },
        "permutation" => Shape { advice: 20, fixed: 2, degree: 4, lookups: 0, copied: 20 },
        _ => return None,
    };
    Some(Wide { k: k.parse().ok()?, shape })
}

fn our_key(engine: &Engine, srs: &Srs, circuit: Wide) -> PreparedKey {
    let pk = keygen(engine, srs, &circuit, KeygenOptions::default()).unwrap();
    PreparedKey::new(engine, srs, pk).unwrap()
}

fn our_proof(engine: &Engine, key: &PreparedKey, circuit: Wide) -> ProofReport {
    let mut transcript = Blake2b::init(Vec::new());
    let rng = ChaCha20Rng::seed_from_u64(1);
    prove(engine, key, &[circuit], &[&[]], rng, &mut transcript, ProveOptions::default()).unwrap()
}

fn their_key(params: &ParamsKZG<Bn256>, circuit: Wide) -> ProvingKey {
    let vk = plonk::keygen_vk(params, &circuit).unwrap();
    plonk::keygen_pk(params, vk, &circuit).unwrap()
}

fn their_proof(params: &ParamsKZG<Bn256>, pk: &ProvingKey, circuit: Wide) {
    let mut transcript = Blake2b::init(Vec::new());
    let rng = ChaCha20Rng::seed_from_u64(1);
    plonk::create_proof::<KZGCommitmentScheme<Bn256>, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
        params,
        pk,
        &[circuit],
        &[&[]],
        rng,
        &mut transcript,
    )
    .unwrap();
}

fn timed<T>(times: &mut Vec<f64>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    times.push(start.elapsed().as_secs_f64() * 1e3);
    value
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn paired(engine: &Engine, name: &str, circuit: Wide, rounds: usize, stages: bool) {
    let srs = Srs::insecure_from_seed(circuit.k, 1).unwrap();
    let params = srs.to_params();
    let [mut ours, mut theirs, mut our_keys, mut their_keys] = [(); 4].map(|()| Vec::new());
    let mut reports = Vec::new();
    // The first round of each warms caches and is not counted.
    for round in 0..=rounds {
        let key = timed(&mut our_keys, || our_key(engine, &srs, circuit));
        let pk = timed(&mut their_keys, || their_key(&params, circuit));
        reports.push(timed(&mut ours, || our_proof(engine, &key, circuit)));
        timed(&mut theirs, || their_proof(&params, &pk, circuit));
        if round == 0 {
            for times in [&mut ours, &mut theirs, &mut our_keys, &mut their_keys] {
                times.clear();
            }
            reports.clear();
        }
    }
    for (what, ours, theirs) in
        [("prove", &mut ours, &mut theirs), ("keygen", &mut our_keys, &mut their_keys)]
    {
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{}",
            serde_json::json!({
                "op": what, "shape": name, "log_n": circuit.k, "rounds": rounds,
                "ours_ms": round2(ours), "theirs_ms": round2(theirs), "ratio": round2(theirs / ours),
            })
        );
    }
    if stages && let Some(report) = reports.last() {
        println!("{report}");
    }
}

fn round2(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
