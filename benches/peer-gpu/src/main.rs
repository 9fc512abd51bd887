//! Proofs of [halo2-axiom-gpu](https://docs.rs/halo2-axiom-gpu) on request, for `gpu-record --peer`.
//!
//! `peer-gpu K` makes parameters and keys for the circuit of `parhelion bench proof` with 2^K rows and prints `ready`. Then every line on
//! standard input asks for one proof, answered by its time in milliseconds and its length in bytes. The first proof brings bases and key to the card. Every proof is
//! verified, outside the time. The program ends with its input, so that a measurement can alternate between it and another prover.
#![forbid(unsafe_code)]

#[path = "../../../cli/src/bench/circuit.rs"]
mod circuit;

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use circuit::Mixed;
use halo2_axiom_gpu::plonk::{create_proof, keygen_pk, keygen_vk, verify_proof};
use halo2_axiom_gpu::poly::VerificationStrategy;
use halo2_axiom_gpu::poly::commitment::ParamsProver;
use halo2_axiom_gpu::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_axiom_gpu::poly::kzg::multiopen::{ProverSHPLONK, VerifierSHPLONK};
use halo2_axiom_gpu::poly::kzg::strategy::AccumulatorStrategy;
use halo2_axiom_gpu::transcript::{
    Blake2bRead, Blake2bWrite, Challenge255, TranscriptReadBuffer, TranscriptWriterBuffer,
};
use halo2curves::bn256::{Bn256, G1Affine};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

type Scheme = KZGCommitmentScheme<Bn256>;
type Shplonk<'a> = ProverSHPLONK<'a, Bn256>;
type Challenges = Challenge255<G1Affine>;

fn main() -> Result<(), Box<dyn Error>> {
    let k: u32 = std::env::args().nth(1).ok_or("usage: peer-gpu K")?.parse()?;
    let params = ParamsKZG::<Bn256>::setup(k, ChaCha20Rng::seed_from_u64(7));
    let circuit = Mixed::new(k);
    let pk = keygen_pk(&params, keygen_vk(&params, &circuit)?, &circuit)?;
    println!("ready");
    stdout().flush()?;
    for line in stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let mut transcript = Blake2bWrite::<Vec<u8>, G1Affine, Challenges>::init(Vec::new());
        let rng = ChaCha20Rng::seed_from_u64(11);
        let circuits = std::slice::from_ref(&circuit);
        create_proof::<Scheme, Shplonk<'_>, _, _, _, _>(
            &params,
            &pk,
            circuits,
            &[&[]],
            rng,
            &mut transcript,
        )?;
        let proof = transcript.finalize();
        let time = start.elapsed().as_secs_f64() * 1e3;
        let verifier = params.verifier_params();
        let mut transcript = Blake2bRead::<_, G1Affine, Challenges>::init(proof.as_slice());
        let strategy = AccumulatorStrategy::new(verifier);
        let strategy = verify_proof::<Scheme, VerifierSHPLONK<'_, Bn256>, _, _, _>(
            verifier,
            pk.get_vk(),
            strategy,
            &[&[]],
            &mut transcript,
        )?;
        if !VerificationStrategy::<Scheme, VerifierSHPLONK<'_, Bn256>>::finalize(strategy) {
            return Err("the proof does not verify".into());
        }
        println!("{time} {}", proof.len());
        stdout().flush()?;
    }
    Ok(())
}
