//! Key files: what was written is read, and nothing else is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::circuits::*;
use common::{engine, srs};
use halo2_axiom::SerdeFormat;
use parhelion_prover::keys::{KeyError, pk_len, read_pk, read_vk, write_pk, write_vk};
use parhelion_prover::{KeygenOptions, PreparedKey, ProvingKey, keygen};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

fn pk(compress: bool) -> ProvingKey {
    let options = if compress { KeygenOptions::compressed() } else { KeygenOptions::default() };
    keygen(engine(), &srs(6), &Lookups { rows: 40, bits: 4 }, options).unwrap()
}

#[test]
fn keys_come_back_equal() {
    for compress in [false, true] {
        let pk = pk(compress);
        let mut bytes = Vec::new();
        write_pk(&pk, &mut bytes).unwrap();
        let back = read_pk::<Lookups>(&bytes[..], (), 20).unwrap();
        assert!(back.to_bytes(SerdeFormat::RawBytes) == pk.to_bytes(SerdeFormat::RawBytes));
        assert_eq!(back.get_vk().transcript_repr(), pk.get_vk().transcript_repr());
        bytes.clear();
        write_vk(pk.get_vk(), &mut bytes).unwrap();
        let back = read_vk::<Lookups>(&bytes[..], (), 20).unwrap();
        assert_eq!(back.to_bytes(SerdeFormat::RawBytes), pk.get_vk().to_bytes(SerdeFormat::RawBytes));
        assert_eq!(back.transcript_repr(), pk.get_vk().transcript_repr());
    }
}

#[test]
fn damaged_files_are_errors() {
    let pk = pk(true);
    let (mut of_pk, mut of_vk) = (Vec::new(), Vec::new());
    write_pk(&pk, &mut of_pk).unwrap();
    write_vk(pk.get_vk(), &mut of_vk).unwrap();
    let mut random = ChaCha20Rng::seed_from_u64(6);
    for _ in 0..100 {
        for (bytes, proving) in [(&of_pk, true), (&of_vk, false)] {
            let read = |bytes: &[u8]| {
                if proving {
                    read_pk::<Lookups>(bytes, (), 20).map(drop)
                } else {
                    read_vk::<Lookups>(bytes, (), 20).map(drop)
                }
            };
            let cut = random.next_u32() as usize % bytes.len();
            assert!(read(&bytes[..cut]).is_err(), "accepted {cut} bytes of {}", bytes.len());
            let mut flipped = bytes.clone();
            let at = random.next_u32() as usize % bytes.len();
            flipped[at] ^= 1 << (random.next_u32() % 8);
            assert!(read(&flipped).is_err(), "accepted a flip at {at}");
        }
    }
    // The first bytes decide how much is read: every flip in them is tried.
    for at in 0..40 {
        for bit in 0..8 {
            let mut flipped = of_vk.clone();
            flipped[at] ^= 1 << bit;
            assert!(
                read_vk::<Lookups>(&flipped[..], (), 20).is_err(),
                "accepted a flip of bit {bit} at {at}"
            );
        }
    }
}

#[test]
fn files_of_another_kind_or_circuit_are_named() {
    let pk = pk(false);
    let (mut of_pk, mut of_vk) = (Vec::new(), Vec::new());
    write_pk(&pk, &mut of_pk).unwrap();
    write_vk(pk.get_vk(), &mut of_vk).unwrap();
    let text = |outcome: Result<(), KeyError>| outcome.unwrap_err().to_string();
    let swapped = text(read_pk::<Lookups>(&of_vk[..], (), 20).map(drop));
    assert!(swapped.contains("verifying key where a proving key"), "{swapped}");
    let other = text(read_vk::<Selectors>(&of_vk[..], (), 20).map(drop));
    assert!(other.contains("another circuit"), "{other}");
    let large = text(read_vk::<Lookups>(&of_vk[..], (), 5).map(drop));
    assert!(large.contains("k = 6 is above 5"), "{large}");
    let trailing = text(read_vk::<Lookups>(&[of_vk.as_slice(), &[0]].concat()[..], (), 20).map(drop));
    assert!(trailing.contains("follow"), "{trailing}");
}

#[test]
fn a_writer_that_fails_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.0.min(bytes.len());
            self.0 -= room;
            if room == 0 { Err(std::io::Error::other("disk full")) } else { Ok(room) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let pk = pk(false);
    for room in [0, 5, 1000, 20_000] {
        assert!(matches!(write_pk(&pk, Full(room)), Err(KeyError::Io(_))));
    }
}

#[test]
fn a_prepared_key_writes_the_same_bytes_and_their_number_is_known() {
    for compressed in [false, true] {
        let pk = pk(compressed);
        let mut bytes = Vec::new();
        write_pk(&pk, &mut bytes).unwrap();
        assert_eq!(pk_len(pk.get_vk()), bytes.len() as u64);
        assert!(bytes[9..bytes.len() - 40] == pk.to_bytes(SerdeFormat::RawBytes));
        // A key that somebody else holds too stays whole; given by value it is cut down.
        let shared = std::sync::Arc::new(pk.clone());
        let whole = PreparedKey::new(engine(), &srs(6), std::sync::Arc::clone(&shared)).unwrap();
        let lean = PreparedKey::new(engine(), &srs(6), pk).unwrap();
        for key in [whole, lean] {
            let mut again = Vec::new();
            key.write_pk(engine(), &mut again).unwrap();
            assert!(again == bytes, "compressed: {compressed}");
        }
    }
}
