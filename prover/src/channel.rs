//! The transcript as the prover sees it, and the record of the conversation that lets a finished proof be verified
//! whatever the transcript is.
//!
//! A caller's transcript can be written, not read back. So every message is recorded on its way; [`verify_record`] then
//! plays the record to halo2's own verifier: it reads the recorded points and scalars and is given the recorded
//! challenges, and the record must have the very order in which the verifier would absorb and squeeze. That is what the
//! verifier would see in the bytes.

use std::io;
use std::marker::PhantomData;

use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2_axiom::poly::kzg::multiopen::{VerifierGWC, VerifierSHPLONK};
use halo2_axiom::transcript::{EncodedChallenge, Transcript, TranscriptRead, TranscriptWrite};
use halo2curves::bn256::{Bn256, Fr, G1Affine};

use crate::verify::with_scheme;
use crate::{Error, Multiopen, Result, VerifyingKey};

/// A transcript without its type parameters.
pub(crate) trait Channel {
    fn common_scalar(&mut self, scalar: Fr) -> io::Result<()>;
    fn write_point(&mut self, point: G1Affine) -> io::Result<()>;
    fn write_scalar(&mut self, scalar: Fr) -> io::Result<()>;
    fn squeeze(&mut self) -> Fr;
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Message {
    CommonScalar(Fr),
    Point(G1Affine),
    Scalar(Fr),
    Challenge(Fr),
}

/// Passes everything to the caller's transcript and keeps a record.
pub(crate) struct Recorder<'t, E, T> {
    transcript: &'t mut T,
    record: Vec<Message>,
    _challenge: PhantomData<E>,
}

impl<'t, E, T> Recorder<'t, E, T> {
    pub(crate) fn new(transcript: &'t mut T) -> Self {
        Recorder { transcript, record: Vec::new(), _challenge: PhantomData }
    }

    pub(crate) fn into_record(self) -> Vec<Message> {
        self.record
    }
}

impl<E: EncodedChallenge<G1Affine>, T: TranscriptWrite<G1Affine, E>> Channel for Recorder<'_, E, T> {
    fn common_scalar(&mut self, scalar: Fr) -> io::Result<()> {
        self.record.push(Message::CommonScalar(scalar));
        self.transcript.common_scalar(scalar)
    }

    fn write_point(&mut self, point: G1Affine) -> io::Result<()> {
        self.record.push(Message::Point(point));
        self.transcript.write_point(point)
    }

    fn write_scalar(&mut self, scalar: Fr) -> io::Result<()> {
        self.record.push(Message::Scalar(scalar));
        self.transcript.write_scalar(scalar)
    }

    fn squeeze(&mut self) -> Fr {
        let challenge = *self.transcript.squeeze_challenge_scalar::<()>();
        self.record.push(Message::Challenge(challenge));
        challenge
    }
}

/// A recorded challenge under halo2's trait.
struct Recorded(Fr);

impl EncodedChallenge<G1Affine> for Recorded {
    type Input = Fr;

    fn new(input: &Fr) -> Self {
        Recorded(*input)
    }

    fn get_scalar(&self) -> Fr {
        self.0
    }
}

/// Plays a record to the verifier.
struct Replay<'r> {
    left: std::slice::Iter<'r, Message>,
    out_of_step: bool,
}

impl Replay<'_> {
    fn next(&mut self) -> io::Result<Message> {
        self.left.next().copied().ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "prover and verifier disagree on the order of messages")
    }
}

impl Transcript<G1Affine, Recorded> for Replay<'_> {
    fn squeeze_challenge(&mut self) -> Recorded {
        match self.left.next() {
            Some(Message::Challenge(challenge)) => Recorded(*challenge),
            // After the last message a verifier may still squeeze randomness of its own (GWC batches its checks with it):
            // any challenge that was unknown when the proof was made will do.
            None => Recorded(ff::Field::random(rand_core::OsRng)),
            Some(_) => {
                self.out_of_step = true;
                Recorded(Fr::zero())
            }
        }
    }

    fn common_point(&mut self, _: G1Affine) -> io::Result<()> {
        Err(self.wrong())
    }

    fn common_scalar(&mut self, scalar: Fr) -> io::Result<()> {
        if self.next()? == Message::CommonScalar(scalar) { Ok(()) } else { Err(self.wrong()) }
    }
}

impl TranscriptRead<G1Affine, Recorded> for Replay<'_> {
    fn read_point(&mut self) -> io::Result<G1Affine> {
        match self.next()? {
            Message::Point(point) => Ok(point),
            _ => Err(self.wrong()),
        }
    }

    fn read_scalar(&mut self) -> io::Result<Fr> {
        match self.next()? {
            Message::Scalar(scalar) => Ok(scalar),
            _ => Err(self.wrong()),
        }
    }
}

/// Verifies a recorded proof with halo2's verifier.
pub(crate) fn verify_record(
    params: &ParamsKZG<Bn256>,
    vk: &VerifyingKey,
    instances: &[&[&[Fr]]],
    record: &[Message],
    multiopen: Multiopen,
) -> Result<()> {
    let mut replay = Replay { left: record.iter(), out_of_step: false };
    let verdict = match multiopen {
        Multiopen::Shplonk => {
            with_scheme::<VerifierSHPLONK<'_, Bn256>, Recorded>(params, vk, instances, &mut replay)
        }
        Multiopen::Gwc => with_scheme::<VerifierGWC<'_, Bn256>, Recorded>(params, vk, instances, &mut replay),
    };
    if replay.out_of_step || (verdict.is_ok() && replay.left.next().is_some()) {
        return Err(Error::Rejected(replay.wrong().to_string()));
    }
    verdict
}
