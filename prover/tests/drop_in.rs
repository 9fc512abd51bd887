//! The drop-in functions: upstream's calls, compiled against this crate's names alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::circuits::{Lookups, Plonk};
use common::other;
use halo2curves::bn256::Fr;
use parhelion_prover::halo2curves::bn256::{Bn256, G1Affine};
use parhelion_prover::plonk::{
    Error, create_proof, keygen_pk, keygen_pk2, keygen_vk, keygen_vk_custom, verify_proof,
};
use parhelion_prover::poly::commitment::ParamsProver;
use parhelion_prover::poly::ipa::commitment::{IPACommitmentScheme, ParamsIPA};
use parhelion_prover::poly::ipa::multiopen::{ProverIPA, VerifierIPA};
use parhelion_prover::poly::kzg::commitment::{KZGCommitmentScheme, ParamsKZG};
use parhelion_prover::poly::kzg::multiopen::{ProverGWC, ProverSHPLONK, VerifierGWC, VerifierSHPLONK};
use parhelion_prover::poly::kzg::strategy::SingleStrategy;
use parhelion_prover::poly::{VerificationStrategy, ipa};
use parhelion_prover::transcript::{
    Blake2bRead, Blake2bWrite, Challenge255, TranscriptReadBuffer, TranscriptWriterBuffer,
};
use parhelion_prover::{Multiopen, SerdeFormat};
use parhelion_second_verifier::Hash;
use rand_core::OsRng;

macro_rules! round_trip {
    ($prover:ident, $verifier:ident, $multiopen:ident) => {{
        let params = ParamsKZG::<Bn256>::setup(6, OsRng);
        let circuit = Plonk { rows: 30, start: 4 };
        let output = [circuit.output()];
        let vk = keygen_vk(&params, &circuit).unwrap();
        let pk = keygen_pk(&params, vk, &circuit).unwrap();
        let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(vec![]);
        create_proof::<KZGCommitmentScheme<Bn256>, $prover<'_, Bn256>, _, _, _, _>(
            &params,
            &pk,
            &[circuit],
            &[&[&output]],
            OsRng,
            &mut transcript,
        )
        .unwrap();
        let proof = transcript.finalize();
        let check = |output: &[Fr]| {
            let mut transcript = Blake2bRead::<_, G1Affine, Challenge255<_>>::init(&proof[..]);
            verify_proof::<KZGCommitmentScheme<Bn256>, $verifier<'_, Bn256>, _, _, _>(
                &params,
                pk.get_vk(),
                SingleStrategy::new(&params),
                &[&[output]],
                &mut transcript,
            )
        };
        check(&output).unwrap();
        let multiopen = Multiopen::$multiopen;
        other(&params, pk.get_vk(), &[&[&output]], &proof, Hash::Blake2b, multiopen).unwrap().unwrap();
        assert!(check(&[output[0] + Fr::one()]).is_err());
    }};
}

#[test]
fn shplonk() {
    round_trip!(ProverSHPLONK, VerifierSHPLONK, Shplonk);
}

#[test]
fn gwc() {
    round_trip!(ProverGWC, VerifierGWC, Gwc);
}

#[test]
fn every_way_of_making_keys_gives_upstreams() {
    let params = ParamsKZG::<Bn256>::setup(6, OsRng);
    let circuit = Lookups { rows: 40, bits: 4 };
    for compress in [false, true] {
        let theirs = halo2_axiom::plonk::keygen_pk2(&params, &circuit, compress).unwrap();
        let expected = theirs.to_bytes(SerdeFormat::RawBytes);
        let both = keygen_pk2(&params, &circuit, compress).unwrap();
        assert!(both.to_bytes(SerdeFormat::RawBytes) == expected);
        let vk = keygen_vk_custom(&params, &circuit, compress).unwrap();
        let pk = keygen_pk(&params, vk, &circuit).unwrap();
        assert!(pk.to_bytes(SerdeFormat::RawBytes) == expected);
    }
}

#[test]
fn errors_are_upstreams() {
    let params = ParamsKZG::<Bn256>::setup(6, OsRng);
    let circuit = Lookups { rows: 40, bits: 4 };
    let pk = keygen_pk2(&params, &circuit, false).unwrap();
    let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(vec![]);
    let mut prove = |circuits: &[Lookups], instances: &[&[&[Fr]]]| {
        create_proof::<KZGCommitmentScheme<Bn256>, ProverSHPLONK<'_, Bn256>, _, _, _, _>(
            &params,
            &pk,
            circuits,
            instances,
            OsRng,
            &mut transcript,
        )
    };
    assert!(matches!(prove(std::slice::from_ref(&circuit), &[]), Err(Error::InvalidInstances)));
    assert!(matches!(prove(&[circuit], &[&[&[]]]), Err(Error::InvalidInstances)));
    let too_large = Lookups { rows: 40, bits: 5 };
    assert!(matches!(prove(&[too_large], &[&[]]), Err(Error::ConstraintSystemFailure)));
    let few_rows = ParamsKZG::<Bn256>::setup(2, OsRng);
    let outcome = keygen_vk(&few_rows, &Lookups { rows: 1, bits: 1 });
    assert!(matches!(outcome, Err(Error::NotEnoughRowsAvailable { current_k: 2 })));
    let outcome = keygen_vk(&params, &Lookups { rows: 90, bits: 4 });
    assert!(matches!(outcome, Err(Error::NotEnoughRowsAvailable { .. } | Error::BoundsFailure)));
}

#[test]
fn other_schemes_are_passed_on() {
    let params = ParamsIPA::<G1Affine>::new(6);
    let circuit = Plonk { rows: 30, start: 4 };
    let output = [circuit.output()];
    let pk = keygen_pk2(&params, &circuit, false).unwrap();
    let mut transcript = Blake2bWrite::<_, G1Affine, Challenge255<_>>::init(vec![]);
    create_proof::<IPACommitmentScheme<G1Affine>, ProverIPA<'_, G1Affine>, _, _, _, _>(
        &params,
        &pk,
        &[circuit],
        &[&[&output]],
        OsRng,
        &mut transcript,
    )
    .unwrap();
    let proof = transcript.finalize();
    let mut transcript = Blake2bRead::<_, G1Affine, Challenge255<_>>::init(&proof[..]);
    verify_proof::<IPACommitmentScheme<G1Affine>, VerifierIPA<'_, G1Affine>, _, _, _>(
        &params,
        pk.get_vk(),
        ipa::strategy::SingleStrategy::new(&params),
        &[&[&output]],
        &mut transcript,
    )
    .unwrap();
}
