//! A transcript that notes when things happen, so that one stage of a prover can be timed from outside, the same way for any prover.

use std::io;
use std::time::{Duration, Instant};

use halo2_axiom::transcript::{
    Blake2bWrite, Challenge255, Transcript, TranscriptWrite, TranscriptWriterBuffer,
};
use halo2curves::bn256::{Fr, G1Affine};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Squeeze,
    Point,
    Scalar,
}

/// Blake2b with a log of its events.
#[derive(Debug)]
pub(super) struct Stopwatch {
    inner: Blake2bWrite<Vec<u8>, G1Affine, Challenge255<G1Affine>>,
    events: Vec<(Event, Instant)>,
}

impl Stopwatch {
    pub(super) fn new() -> Self {
        Stopwatch { inner: Blake2bWrite::init(Vec::new()), events: Vec::new() }
    }

    /// The proof, and the time from the challenge y to the first commitment to the quotient: the evaluation points x and y are
    /// the last two challenges before the first scalar of a proof.
    pub(super) fn finish(self) -> (Vec<u8>, Option<Duration>) {
        let evaluations = self.events.iter().position(|(e, _)| *e == Event::Scalar);
        let before = self.events.get(..evaluations.unwrap_or(0)).unwrap_or_default();
        let mut squeezes = before.iter().enumerate().rev().filter(|(_, (e, _))| *e == Event::Squeeze);
        let quotient = squeezes.nth(1).and_then(|(at, (_, y))| {
            let (_, first) = before.get(at..)?.iter().find(|(e, _)| *e == Event::Point)?;
            Some(first.duration_since(*y))
        });
        (self.inner.finalize(), quotient)
    }

    fn note(&mut self, event: Event) {
        self.events.push((event, Instant::now()));
    }
}

impl Transcript<G1Affine, Challenge255<G1Affine>> for Stopwatch {
    fn squeeze_challenge(&mut self) -> Challenge255<G1Affine> {
        self.note(Event::Squeeze);
        self.inner.squeeze_challenge()
    }

    fn common_point(&mut self, point: G1Affine) -> io::Result<()> {
        self.inner.common_point(point)
    }

    fn common_scalar(&mut self, scalar: Fr) -> io::Result<()> {
        self.inner.common_scalar(scalar)
    }
}

impl TranscriptWrite<G1Affine, Challenge255<G1Affine>> for Stopwatch {
    fn write_point(&mut self, point: G1Affine) -> io::Result<()> {
        self.note(Event::Point);
        self.inner.write_point(point)
    }

    fn write_scalar(&mut self, scalar: Fr) -> io::Result<()> {
        self.note(Event::Scalar);
        self.inner.write_scalar(scalar)
    }
}
