//! Structured reference strings: formats, conversions, checks, and files that are not what they should be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::io::Cursor;

use common::srs;
use halo2_axiom::SerdeFormat;
use halo2_axiom::halo2curves::serde::SerdeObject;
use halo2_axiom::poly::commitment::{Params, ParamsProver};
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::{Bn256, Fq, Fr, G1, G1Affine, G2Affine};
use halo2curves::ff::{Field, PrimeField};
use halo2curves::group::Curve;
use parhelion_prover::Srs;
use parhelion_prover::srs::{Origin, PointFormat, SrsError};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

fn same(a: &Srs, b: &Srs) -> bool {
    a.k() == b.k()
        && a.g() == b.g()
        && a.g_lagrange() == b.g_lagrange()
        && a.g2() == b.g2()
        && a.s_g2() == b.s_g2()
}

#[test]
fn an_insecure_string_is_upstreams_and_says_what_it_is() {
    let ours = Srs::insecure(5, ChaCha20Rng::seed_from_u64(1)).unwrap();
    let theirs = ParamsKZG::<Bn256>::setup(5, ChaCha20Rng::seed_from_u64(1));
    assert!(same(&ours, &Srs::from_params(&theirs).unwrap()));
    ours.check().unwrap();
    assert!(ours.is_insecure());
    assert_eq!(Srs::from_params(&theirs).unwrap().origin(), &Origin::Unknown);
    assert!(matches!(Srs::insecure(29, rand_core::OsRng), Err(SrsError::Size { .. })));
}

#[test]
fn halo2_files_go_both_ways() {
    let srs = srs(5);
    let params = srs.to_params();
    for (format, upstream) in [
        (PointFormat::Compressed, SerdeFormat::Processed),
        (PointFormat::Raw, SerdeFormat::RawBytes),
        (PointFormat::RawTrusted, SerdeFormat::RawBytesUnchecked),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        srs.write_halo2(&mut ours, format).unwrap();
        params.write_custom(&mut theirs, upstream).unwrap();
        assert!(ours == theirs, "{format:?}");
        assert!(same(&Srs::read_halo2(&theirs[..], format).unwrap(), &srs));
        let mut random = ChaCha20Rng::seed_from_u64(2);
        for _ in 0..100 {
            let cut = random.next_u32() as usize % ours.len();
            assert!(Srs::read_halo2(&ours[..cut], format).is_err(), "accepted {cut} bytes");
            let mut flipped = ours.clone();
            flipped[random.next_u32() as usize % ours.len()] ^= 1 << (random.next_u32() % 8);
            // The format has no checksum: a point may be replaced by another one, which the pairings notice.
            if format != PointFormat::RawTrusted {
                assert!(Srs::read_halo2(&flipped[..], format).and_then(|s| s.check()).is_err());
            }
        }
        ours.push(0);
        assert!(Srs::read_halo2(&ours[..], format).is_err());
    }
    assert!(matches!(Srs::read_halo2(&[0xff; 64][..], PointFormat::Raw), Err(SrsError::Malformed(_))));
}

#[test]
fn our_own_files_carry_their_origin_and_a_digest() {
    let insecure = srs(4);
    let mut bytes = Vec::new();
    insecure.write(&mut bytes).unwrap();
    let back = Srs::read(&bytes[..]).unwrap();
    assert!(same(&back, &insecure) && back.is_insecure());
    assert_eq!(back.digest(), insecure.digest());
    assert_ne!(back.digest(), srs(5).digest());
    let mut random = ChaCha20Rng::seed_from_u64(3);
    for _ in 0..100 {
        let cut = random.next_u32() as usize % bytes.len();
        assert!(Srs::read(&bytes[..cut]).is_err());
        let mut flipped = bytes.clone();
        flipped[random.next_u32() as usize % bytes.len()] ^= 1 << (random.next_u32() % 8);
        assert!(Srs::read(&flipped[..]).is_err());
    }
    for at in 0..60 {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        assert!(Srs::read(&flipped[..]).is_err(), "accepted a flip at {at}");
    }
    let named = Srs::from_parts(
        4,
        insecure.g().to_vec(),
        None,
        insecure.g2(),
        insecure.s_g2(),
        Origin::Ceremony("a ceremony".into()),
    );
    let named = named.unwrap();
    assert!(same(&named, &insecure), "the computed Lagrange basis differs");
    bytes.clear();
    named.write(&mut bytes).unwrap();
    assert_eq!(Srs::read(&bytes[..]).unwrap().origin(), named.origin());
}

#[test]
fn downsizing_is_upstreams() {
    let large = srs(6);
    let mut params = large.to_params();
    params.downsize(4);
    let small = large.downsize(4).unwrap();
    assert!(same(&small, &Srs::from_params(&params).unwrap()));
    small.check().unwrap();
    assert!(small.is_insecure());
    assert!(same(&large.downsize(6).unwrap(), &large));
    assert!(matches!(small.downsize(5), Err(SrsError::Size { have: 4, need: 5 })));
}

#[test]
fn verifier_parameters_hold_what_a_verifier_reads() {
    let srs = srs(4);
    let params = srs.verifier_params();
    assert_eq!((params.k(), params.g2(), params.s_g2()), (4, srs.g2(), srs.s_g2()));
    assert_eq!(params.get_g(), &srs.g()[..1]);
}

#[test]
fn the_pairing_check_finds_every_single_wrong_part() {
    let good = srs(4);
    good.check().unwrap();
    let rebuilt = |g: Vec<G1Affine>, lagrange: Vec<G1Affine>, g2, s_g2| {
        Srs::from_parts(4, g, Some(lagrange), g2, s_g2, Origin::Unknown).unwrap()
    };
    let (g, l, g2, s_g2) = (good.g().to_vec(), good.g_lagrange().to_vec(), good.g2(), good.s_g2());
    for i in 0..16 {
        let mut wrong = g.clone();
        wrong[i] = (wrong[i] + G1::generator()).to_affine();
        assert!(rebuilt(wrong, l.clone(), g2, s_g2).check().is_err(), "g[{i}]");
        let mut wrong = l.clone();
        wrong[i] = (wrong[i] + G1::generator()).to_affine();
        assert!(rebuilt(g.clone(), wrong, g2, s_g2).check().is_err(), "g_lagrange[{i}]");
    }
    assert!(rebuilt(g.clone(), l.clone(), g2, g2).check().is_err());
    assert!(rebuilt(g.clone(), l.clone(), s_g2, s_g2).check().is_err());
    let off_curve = G1Affine { x: Fq::from(1), y: Fq::from(1) };
    let mut wrong = g.clone();
    wrong[3] = off_curve;
    assert!(matches!(rebuilt(wrong, l.clone(), g2, s_g2).check(), Err(SrsError::BadPoint { index: 3, .. })));
    assert!(Srs::from_parts(4, g[..15].to_vec(), Some(l), g2, s_g2, Origin::Unknown).is_err());
}

/// The Lagrange bases of every size up to 2^power at τ, for the roots of unity that are powers of 5, as snarkjs
/// prepares them.
fn prepared(power: u32, tau: Fr) -> Vec<Fr> {
    let largest = {
        let mut odd = -Fr::ONE;
        for _ in 0..Fr::S {
            odd *= Fr::TWO_INV;
        }
        let limbs: Vec<u64> =
            odd.to_repr().as_ref().chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
        Fr::from(5).pow(limbs)
    };
    (0..=power)
        .flat_map(|k| {
            let n = 1u64 << k;
            let w = (k..Fr::S).fold(largest, |w, _| w.square());
            let scale = (tau.pow([n]) - Fr::ONE) * Fr::from(n).invert().unwrap();
            (0..n).map(move |i| w.pow([i]) * scale * (tau - w.pow([i])).invert().unwrap())
        })
        .collect()
}

/// A `.ptau` file as snarkjs lays it out.
fn ptau(power: u32, tau: Fr) -> Vec<u8> {
    ptau_with(power, tau, None)
}

fn ptau_with(power: u32, tau: Fr, lagrange: Option<Vec<Fr>>) -> Vec<u8> {
    let n = 1usize << power;
    let powers: Vec<Fr> = std::iter::successors(Some(Fr::ONE), |p| Some(*p * tau)).take(2 * n - 1).collect();
    let mut modulus = (-Fq::ONE).to_repr().to_vec();
    modulus[0] += 1;
    let header = [&32u32.to_le_bytes()[..], &modulus, &power.to_le_bytes(), &power.to_le_bytes()].concat();
    let g1 = |s: &Fr| (G1Affine::generator() * s).to_affine().to_raw_bytes();
    let g2 = |s: &Fr| (G2Affine::generator() * s).to_affine().to_raw_bytes();
    let mut sections: Vec<(u32, Vec<u8>)> = vec![
        (1, header),
        (2, powers.iter().flat_map(g1).collect()),
        (3, powers[..n].iter().flat_map(g2).collect()),
        (4, powers[..n].iter().flat_map(g1).collect()),
        (7, vec![0; 4]),
    ];
    sections.extend(lagrange.map(|l| (12, l.iter().flat_map(g1).collect())));
    let mut file = b"ptau".to_vec();
    file.extend(1u32.to_le_bytes());
    file.extend((sections.len() as u32).to_le_bytes());
    for (kind, bytes) in sections {
        file.extend(kind.to_le_bytes());
        file.extend((bytes.len() as u64).to_le_bytes());
        file.extend(bytes);
    }
    file
}

#[test]
fn ptau_files_are_imported() {
    let tau = Fr::from(0x1234_5678_9abc);
    let file = ptau(4, tau);
    let srs = Srs::import_ptau(Cursor::new(&file), None, "test ceremony").unwrap();
    assert_eq!(srs.k(), 4);
    assert_eq!(srs.origin(), &Origin::Ceremony("test ceremony".into()));
    assert_eq!(srs.g()[3], (G1Affine::generator() * tau.pow([3])).to_affine());
    srs.check().unwrap();
    let small = Srs::import_ptau(Cursor::new(&file), Some(2), "test ceremony").unwrap();
    assert!(same(&small, &srs.downsize(2).unwrap()));
    let outcome = Srs::import_ptau(Cursor::new(&file), Some(5), "");
    assert!(matches!(outcome, Err(SrsError::Size { have: 4, need: 5 })), "{outcome:?}");
}

#[test]
fn prepared_ptau_files_give_the_same_string() {
    let tau = Fr::from(0xdead_beef);
    let plain = Srs::import_ptau(Cursor::new(ptau(4, tau)), Some(3), "").unwrap();
    let basis = prepared(4, tau);
    let file = ptau_with(4, tau, Some(basis.clone()));
    assert!(same(&Srs::import_ptau(Cursor::new(&file), Some(3), "").unwrap(), &plain));
    // A wrong or short basis is not taken.
    let wrong = ptau_with(4, tau, Some(basis.iter().rev().copied().collect()));
    assert!(same(&Srs::import_ptau(Cursor::new(&wrong), Some(3), "").unwrap(), &plain));
    let short = ptau_with(4, tau, Some(basis[..5].to_vec()));
    assert!(same(&Srs::import_ptau(Cursor::new(&short), Some(3), "").unwrap(), &plain));
}

#[test]
fn damaged_ptau_files_are_errors() {
    let file = ptau(3, Fr::from(77));
    let import = |bytes: &[u8]| Srs::import_ptau(Cursor::new(bytes), None, "");
    let mut random = ChaCha20Rng::seed_from_u64(4);
    for _ in 0..100 {
        let cut = random.next_u32() as usize % file.len();
        assert!(import(&file[..cut]).is_err(), "accepted {cut} bytes");
    }
    // What is used: the header, the powers up to n in G1, the first two in G2.
    let used = 12 + 12 + 44 + 12 + 8 * 64;
    for at in 0..used {
        let mut flipped = file.clone();
        flipped[at] ^= 0x21;
        // The ceremony's own power and the number of further sections are not used.
        if (64..68).contains(&at) || (8..12).contains(&at) {
            continue;
        }
        assert!(import(&flipped).is_err(), "accepted a flip at {at}");
    }
    assert!(import(b"").is_err());
    assert!(import(b"ptau").is_err());
}

#[test]
fn compressed_points_past_the_modulus_are_errors() {
    let mut good = Vec::new();
    srs(2).write_halo2(&mut good, PointFormat::Compressed).unwrap();
    // Each half of each abscissa in G2, above the modulus but for the flags.
    for half in 1..=4 {
        let mut bad = good.clone();
        let end = bad.len() - 32 * (half - 1);
        bad[end - 32..end].fill(0xff);
        let outcome = Srs::read_halo2(&bad[..], PointFormat::Compressed);
        assert!(matches!(outcome, Err(SrsError::BadPoint { .. })), "{half}");
    }
}
