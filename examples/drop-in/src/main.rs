//! A halo2 project as its author wrote it: it proves knowledge of a number whose Collatz sequence reaches 1 in a public
//! number of steps. Nothing in this file names Parhelion; `halo2_proofs` in `Cargo.toml` does.
//!
//! Column `x` holds the sequence. Each step has two selectors, `even` and `odd`, which are witnesses here: exactly one
//! of them is set while the sequence runs, and the parity is proved by a lookup of x / 2 in a range table.

use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::halo2curves::bn256::{Bn256, Fr, G1Affine};
use halo2_proofs::plonk::{
    Advice, Assigned, Circuit, Column, ConstraintSystem, Error, Expression, Instance, Selector, TableColumn,
    create_proof, keygen_pk, keygen_vk, verify_proof,
};
use halo2_proofs::poly::Rotation;
use halo2_proofs::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use halo2_proofs::poly::kzg::multiopen::{ProverSHPLONK, VerifierSHPLONK};
use halo2_proofs::poly::kzg::strategy::SingleStrategy;
use halo2_proofs::transcript::{
    Blake2bRead, Blake2bWrite, Challenge255, TranscriptReadBuffer, TranscriptWriterBuffer,
};
use rand_core::OsRng;

/// log₂ of the rows.
const K: u32 = 14;
/// Every half fits into this many bits.
const BITS: u32 = 13;
/// Rows that the circuit pads its sequence to.
const ROWS: usize = 200;

#[derive(Clone)]
struct Collatz {
    start: u64,
}

#[derive(Clone)]
struct Config {
    x: Column<Advice>,
    half: Column<Advice>,
    odd: Column<Advice>,
    steps: Column<Advice>,
    range: TableColumn,
    on: Selector,
    instance: Column<Instance>,
}

impl Circuit<Fr> for Collatz {
    type Config = Config;
    type FloorPlanner = SimpleFloorPlanner;
    type Params = ();

    fn without_witnesses(&self) -> Self {
        self.clone()
    }

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Config {
        let [x, half, odd, steps] = [(); 4].map(|()| meta.advice_column());
        let range = meta.lookup_table_column();
        let on = meta.complex_selector();
        let instance = meta.instance_column();
        meta.enable_equality(steps);
        meta.enable_equality(instance);
        meta.create_gate("collatz", |meta| {
            let on = meta.query_selector(on);
            let one = Expression::Constant(Fr::from(1));
            let [x, next] = [Rotation::cur(), Rotation::next()].map(|r| meta.query_advice(x, r));
            let half = meta.query_advice(half, Rotation::cur());
            let odd = meta.query_advice(odd, Rotation::cur());
            let [n, n_next] = [Rotation::cur(), Rotation::next()].map(|r| meta.query_advice(steps, r));
            // The step counter decides whether the sequence still runs: it grows until x is 1, then stays.
            let running = n_next - n;
            let tripled = x.clone() * Fr::from(3) + one.clone();
            let step = odd.clone() * tripled + (one.clone() - odd.clone()) * half.clone();
            vec![
                on.clone() * odd.clone() * (one.clone() - odd.clone()),
                on.clone() * running.clone() * (one.clone() - running.clone()),
                on.clone() * (half * Fr::from(2) + odd - x.clone()),
                on.clone() * (running.clone() * (step - x.clone()) + x.clone() - next),
                on * (one.clone() - running) * (x - one),
            ]
        });
        meta.lookup("half", |meta| {
            let on = meta.query_selector(on);
            vec![(on * meta.query_advice(half, Rotation::cur()), range)]
        });
        Config { x, half, odd, steps, range, on, instance }
    }

    fn synthesize(&self, config: Config, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        layouter.assign_table(
            || "range",
            |mut table| {
                (0..1u64 << BITS).try_for_each(|i| {
                    table.assign_cell(|| "i", config.range, i as usize, || Value::known(Fr::from(i)))
                })
            },
        )?;
        let counted = layouter.assign_region(
            || "sequence",
            |mut region| {
                let value = |v: u64| Value::known(Assigned::from(Fr::from(v)));
                let (mut x, mut steps) = (self.start, 0);
                for row in 0..ROWS {
                    region.assign_advice(config.x, row, value(x));
                    region.assign_advice(config.half, row, value(x / 2));
                    region.assign_advice(config.odd, row, value(x % 2));
                    region.assign_advice(config.steps, row, value(steps));
                    config.on.enable(&mut region, row)?;
                    if x != 1 {
                        x = if x % 2 == 1 { 3 * x + 1 } else { x / 2 };
                        steps += 1;
                    }
                }
                region.assign_advice(config.x, ROWS, value(x));
                Ok(region.assign_advice(config.steps, ROWS, value(steps)).cell())
            },
        )?;
        layouter.constrain_instance(counted, config.instance, 0);
        Ok(())
    }
}

fn prove(params: &ParamsKZG<Bn256>, start: u64, steps: u64) -> Result<Vec<u8>, Error> {
    let circuit = Collatz { start };
    let vk = keygen_vk(params, &circuit)?;
    let pk = keygen_pk(params, vk, &circuit)?;
    let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(vec![]);
    create_proof::<KZGCommitmentScheme<Bn256>, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
        params,
        &pk,
        &[circuit],
        &[&[&[Fr::from(steps)]]],
        OsRng,
        &mut transcript,
    )?;
    Ok(transcript.finalize())
}

fn verify(params: &ParamsKZG<Bn256>, steps: u64, proof: &[u8]) -> Result<(), Error> {
    // A verifier needs the circuit's shape, not its witness.
    let vk = keygen_vk(params, &Collatz { start: 1 })?;
    let mut transcript = Blake2bRead::<_, G1Affine, Challenge255<_>>::init(proof);
    verify_proof::<KZGCommitmentScheme<Bn256>, VerifierSHPLONK<'_, Bn256>, _, _, SingleStrategy<'_, Bn256>>(
        params,
        &vk,
        SingleStrategy::new(params),
        &[&[&[Fr::from(steps)]]],
        &mut transcript,
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let params = ParamsKZG::<Bn256>::setup(K, OsRng);
    let proof = prove(&params, 97, 118)?;
    verify(&params, 118, &proof)?;
    use std::io::Write;
    writeln!(std::io::stdout(), "97 reaches 1 in 118 steps: proved in {} bytes and verified", proof.len())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use halo2_proofs::dev::MockProver;

    use super::*;

    #[test]
    fn the_circuit_is_satisfied() {
        MockProver::run(K, &Collatz { start: 97 }, vec![vec![Fr::from(118)]]).unwrap().assert_satisfied();
    }

    #[test]
    fn a_true_statement_verifies_and_a_false_one_does_not() {
        let params = ParamsKZG::<Bn256>::setup(K, OsRng);
        let proof = prove(&params, 97, 118).unwrap();
        verify(&params, 118, &proof).unwrap();
        assert!(verify(&params, 117, &proof).is_err());
        // As in halo2, proving a false statement gives bytes; they do not verify.
        let lie = prove(&params, 97, 117).unwrap();
        assert!(verify(&params, 117, &lie).is_err());
    }
}
