//! One engine, opened once, that serves proofs to every kind of thread there is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use halo2_axiom::transcript::{Blake2bWrite, Challenge255, TranscriptWriterBuffer};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_prover::{
    Engine, KeygenOptions, PreparedKey, ProveOptions, Seeded, Srs, keygen, prove_recovering,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;

use super::circuits::Plonk;

/// An engine and a key for the life of the process.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) engine: Engine,
    key: PreparedKey,
    circuit: Plonk,
    expected: Vec<u8>,
    served: AtomicU32,
}

impl Service {
    /// On `engine`, with a key and the right proof from `host`.
    pub(crate) fn new(k: u32, engine: Engine, host: &Engine) -> &'static Self {
        let circuit = Plonk { rows: (1 << k) - 20, start: 4 };
        let srs = Srs::insecure_from_seed(k, 7).unwrap();
        let pk = std::sync::Arc::new(keygen(host, &srs, &circuit, KeygenOptions::default()).unwrap());
        let key = |engine: &Engine| PreparedKey::new(engine, &srs, pk.clone()).unwrap();
        let expected = proof(host, &key(host), &circuit);
        let key = key(&engine);
        Box::leak(Box::new(Service { engine, key, circuit, expected, served: AtomicU32::new(0) }))
    }

    /// One proof, which is the right one.
    pub(crate) fn serve(&self) {
        assert!(proof(&self.engine, &self.key, &self.circuit) == self.expected, "a wrong proof");
        self.served.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn served(&self) -> u32 {
        self.served.load(Ordering::SeqCst)
    }
}

fn proof(engine: &Engine, key: &PreparedKey, circuit: &Plonk) -> Vec<u8> {
    let output = [circuit.output()];
    let instances: &[&[&[Fr]]] = &[&[&output]];
    let mut choices = Seeded([3; 32]);
    let transcript = || Blake2bWrite::<Vec<u8>, G1Affine, Challenge255<G1Affine>>::init(Vec::new());
    let (transcript, report) = prove_recovering(
        engine,
        key,
        std::slice::from_ref(circuit),
        instances,
        ChaCha20Rng::seed_from_u64(11),
        transcript,
        ProveOptions::default().choices(&mut choices),
    )
    .unwrap();
    assert!(report.verified);
    transcript.finalize()
}

/// Fails, instead of hanging, when `f` does not end.
pub(crate) fn within(limit: Duration, f: impl FnOnce() + Send + 'static) {
    let (done, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        f();
        let _ = done.send(());
    });
    match end.recv_timeout(limit) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a deadlock"),
        // What went wrong there goes wrong here.
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Proofs from workers of a pool, inside other parallel work; from threads that come and go; from single-threaded runtimes and their
/// blocking threads, as an actix server has them; and from threads that Rust did not make. All at once. Returns how many.
pub(crate) fn from_everywhere(
    service: &'static Service,
    foreign: fn(fn(&'static Service), &'static Service),
) -> u32 {
    let before = service.served();
    thread::scope(|scope| {
        scope.spawn(|| (0..6).into_par_iter().for_each(|_| service.serve()));
        scope.spawn(|| {
            for _ in 0..3 {
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| service.serve());
                    }
                });
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let aside = tokio::task::spawn_blocking(|| service.serve());
                    service.serve();
                    aside.await.unwrap();
                });
            });
        }
        for _ in 0..3 {
            scope.spawn(|| foreign(|service| service.serve(), service));
        }
    });
    service.served() - before
}

/// What [`from_everywhere`] makes.
pub(crate) const EVERYWHERE: u32 = 6 + 6 + 4 + 3;
