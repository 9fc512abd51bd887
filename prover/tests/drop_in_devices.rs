//! The drop-in `create_proof` on an engine of the caller's own, whose devices lie: no wrong proof leaves, the liar is named and left out, and the
//! next call succeeds. One test, because the engine is the process's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::circuits::Plonk;
use common::other;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::Op;
use parhelion_backend_api::{Backend, Provider};
use parhelion_conformance::{Fault, FaultKind, Faulty, FaultyControl, Naive, Remote};
use parhelion_prover::dispatch::{Checks, Policy, Settings};
use parhelion_prover::halo2curves::bn256::Bn256;
use parhelion_prover::plonk::{Error, ProvingKey, create_proof, keygen_pk2};
use parhelion_prover::poly::commitment::ParamsProver;
use parhelion_prover::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use parhelion_prover::poly::kzg::multiopen::{ProverSHPLONK, VerifierSHPLONK};
use parhelion_prover::poly::kzg::strategy::SingleStrategy;
use parhelion_prover::transcript::{
    Blake2bRead, Blake2bWrite, Challenge255, TranscriptReadBuffer, TranscriptWriterBuffer,
};
use parhelion_prover::{Engine, Multiopen, SerdeFormat, default_engine, set_default_engine};
use parhelion_second_verifier::Hash;
use rand_core::OsRng;

fn open(backend: &impl Backend) -> Provider {
    backend.open(&backend.probe().unwrap()[0]).unwrap()
}

struct Job {
    params: ParamsKZG<Bn256>,
    pk: ProvingKey<G1Affine>,
    circuit: Plonk,
}

impl Job {
    fn prove(&self) -> Result<Vec<u8>, Error> {
        let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(vec![]);
        create_proof::<KZGCommitmentScheme<Bn256>, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
            &self.params,
            &self.pk,
            std::slice::from_ref(&self.circuit),
            &[&[&[self.circuit.output()]]],
            OsRng,
            &mut transcript,
        )?;
        Ok(transcript.finalize())
    }

    /// Upstream's verifier.
    fn accepts(&self, proof: &[u8]) -> bool {
        let instances: &[&[&[Fr]]] = &[&[&[self.circuit.output()]]];
        let vk = self.pk.get_vk();
        let second =
            other(&self.params, vk, instances, proof, Hash::Blake2b, Multiopen::Shplonk).unwrap().is_ok();
        let mut transcript = Blake2bRead::<_, G1Affine, Challenge255<_>>::init(proof);
        let ours = halo2_axiom::plonk::verify_proof::<
            KZGCommitmentScheme<Bn256>,
            VerifierSHPLONK<'_, Bn256>,
            _,
            _,
            _,
        >(
            self.params.verifier_params(),
            vk,
            SingleStrategy::new(&self.params),
            instances,
            &mut transcript,
        )
        .is_ok();
        assert_eq!(ours, second, "the verifiers disagree");
        ours
    }
}

#[test]
fn lies_of_devices_end_as_errors_and_the_next_proof_is_right() {
    const PLACES: u64 = 60;
    let circuit = Plonk { rows: 20, start: 4 };
    let params = ParamsKZG::<Bn256>::setup(6, OsRng);
    let pk = halo2_axiom::plonk::keygen_pk2(&params, &circuit, false).unwrap();

    // A fresh device for every lie that is found; the host last.
    let (mut providers, mut controls): (Vec<_>, Vec<Arc<FaultyControl>>) = (Vec::new(), Vec::new());
    for index in 0..=PLACES as u16 {
        let device = Faulty::new(Remote::new(Naive).at(index), "liar");
        controls.push(device.control());
        providers.push(open(&device));
    }
    providers.push(open(&Naive));
    let policy = Policy { checks: Checks::OFF, ..Policy::default() };
    let engine = Engine::new(providers).configure(Settings { policy, ..Settings::default() }).unwrap();
    set_default_engine(engine.clone()).unwrap();
    assert!(set_default_engine(engine).is_err(), "set twice");
    let engine = default_engine().unwrap();
    let convicted = || engine.devices().iter().filter(|d| d.quarantined.is_some()).count();

    let job = Job { params, pk, circuit };
    assert!(job.accepts(&job.prove().unwrap()));
    assert!(controls[0].calls(Op::QUOTIENT) > 0, "the device took no part");
    let keys = |pk: &ProvingKey<G1Affine>| pk.to_bytes(SerdeFormat::RawBytes);
    let made_on_the_device = keygen_pk2(&job.params, &job.circuit, false).unwrap();
    assert!(keys(&made_on_the_device) == keys(&job.pk), "keys differ");

    for place in 0..PLACES {
        let before = convicted();
        controls[before].schedule(vec![Fault::nth(FaultKind::Flip(place * 7), place)]);
        match job.prove() {
            Ok(proof) => assert!(job.accepts(&proof), "a wrong proof at {place}"),
            Err(Error::Transcript(why)) => {
                assert!(why.to_string().contains("liar"), "{place}: {why}");
                assert_eq!(convicted(), before + 1, "{place}: {why}");
                assert!(job.accepts(&job.prove().unwrap()), "the proof after {place}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
        controls[before].schedule(Vec::new());
    }
    let injected: u64 = controls.iter().map(|control| control.injected()).sum();
    assert!(convicted() > 12, "{} of {injected} lies were found out", convicted());
}
