//! Whole proofs, ours and halo2-axiom's: same parameters, same keys, same seed. The last proof of each must verify with halo2-axiom's verifier. (Their
//! bytes differ in what upstream draws from the system's randomness; that everything else is equal is what the prover's own tests show.)

use anyhow::{Context, Result};
use halo2_axiom::plonk as stock;
use halo2_axiom::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom::poly::kzg::multiopen::{ProverSHPLONK, VerifierSHPLONK};
use halo2_axiom::poly::kzg::strategy::SingleStrategy;
use halo2_axiom::transcript::{Blake2bRead, Challenge255, TranscriptReadBuffer};
use halo2curves::bn256::{Bn256, G1Affine};
use parhelion_dispatch::Engine;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::circuit::Mixed;
use super::stopwatch::Stopwatch;
use super::{Samples, timed};
use crate::args::{Bench, BenchOp};
use crate::ui;

type Scheme = KZGCommitmentScheme<Bn256>;

pub(super) fn run(args: &Bench, _engine: &Engine<G1Affine>) -> Result<Samples> {
    ui::phase("parameters");
    let params = ParamsKZG::<Bn256>::setup(args.log_n, ChaCha20Rng::seed_from_u64(1));
    let circuit = Mixed::new(args.log_n);
    ui::phase("keys");
    let vk = stock::keygen_vk(&params, &circuit)?;
    let pk = stock::keygen_pk(&params, vk, &circuit)?;
    let rng = || ChaCha20Rng::seed_from_u64(2);
    let stage = |total: f64, watch: Stopwatch| -> Result<(f64, Vec<u8>)> {
        let (proof, quotient) = watch.finish();
        let time = match args.op {
            BenchOp::Quotient => quotient.context("no quotient in the transcript")?.as_secs_f64() * 1e3,
            _ => total,
        };
        Ok((time, proof))
    };
    let mut found = Vec::new();
    let mut expected = Vec::new();
    let ours = || {
        let mut watch = Stopwatch::new();
        let circuits = [circuit.clone()];
        let (total, result) = timed(|| {
            parhelion_prover::plonk::create_proof::<Scheme, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
                &params,
                &pk,
                &circuits,
                &[&[]],
                rng(),
                &mut watch,
            )
        });
        result?;
        let (time, proof) = stage(total, watch)?;
        found = proof;
        Ok(time)
    };
    let theirs = args.against.map(|_| {
        || {
            let mut watch = Stopwatch::new();
            let circuits = [circuit.clone()];
            let (total, result) = timed(|| {
                stock::create_proof::<Scheme, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
                    &params,
                    &pk,
                    &circuits,
                    &[&[]],
                    rng(),
                    &mut watch,
                )
            });
            result?;
            let (time, proof) = stage(total, watch)?;
            expected = proof;
            Ok(time)
        }
    });
    let samples = Samples::interleave(args.runs, ours, theirs)?;
    for (whose, proof) in [("our", &found), ("halo2-axiom's", &expected)] {
        if proof.is_empty() {
            continue;
        }
        let mut transcript = Blake2bRead::<_, _, Challenge255<G1Affine>>::init(proof.as_slice());
        stock::verify_proof::<Scheme, VerifierSHPLONK<'_, Bn256>, _, _, _>(
            &params,
            pk.get_vk(),
            SingleStrategy::new(&params),
            &[&[]],
            &mut transcript,
        )
        .with_context(|| format!("{whose} proof does not verify"))?;
    }
    Ok(samples)
}
