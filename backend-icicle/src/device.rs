//! An open device: one thread that owns it, and a guard against calls that never return.
//!
//! Icicle's current device is a property of the thread, and a thread that never set one silently computes on Icicle's slow CPU
//! device. So each device has one thread of its own, which sets it once; callers on any thread hand it closures. A call that does not come back
//! within the time limit makes the device lost: its thread is left behind with everything that it may still touch, which is why
//! closures own their operands and host data passes through staging memory that belongs to the device.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use parhelion_backend_api::hal::MemoryInfo;
use parhelion_backend_api::{Error, SpaceId};

use crate::NAME;
use crate::error::Failure;
use crate::library::Library;
use crate::options::IcicleOptions;
use crate::session::{Address, Session};

type Job = Box<dyn FnOnce(&Session) + Send>;

/// Most words of staging memory that are kept between calls: 1 GiB.
const STAGING_WORDS: usize = 1 << 27;

/// An open device.
#[derive(Debug)]
pub(crate) struct Device {
    space: SpaceId,
    timeout: Duration,
    jobs: mpsc::Sender<Job>,
    /// Held while a job runs, so that time spent waiting for others does not count against the limit.
    gate: Mutex<()>,
    lost: OnceLock<String>,
    memory: Mutex<MemoryInfo>,
    staging: Mutex<Vec<Vec<u64>>>,
}

/// Runs what may hang on a thread of its own and gives up after a time.
pub(crate) fn guarded<R: Send + 'static>(
    timeout: Duration,
    what: &str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, String> {
    let (done, result) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("icicle-probe".into())
        .spawn(move || done.send(f()))
        .map_err(|error| format!("no thread for {what}: {error}"))?;
    result.recv_timeout(timeout).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("{what} did not return within {timeout:?}"),
        RecvTimeoutError::Disconnected => format!("{what} ended the thread that called it"),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// Starts the thread of a device and makes the device its current one.
    pub(crate) fn open(
        library: &'static Library,
        kind: &str,
        id: i32,
        space: SpaceId,
        options: &IcicleOptions,
    ) -> Result<Arc<Self>, Failure> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::sync_channel(1);
        let (owned, ntt_log_n) = (kind.to_owned(), options.ntt_log_n);
        std::thread::Builder::new()
            .name(format!("icicle-{kind}-{id}"))
            .spawn(move || {
                let session = match Session::start(library, &owned, id, ntt_log_n) {
                    Ok(session) => session,
                    Err(failure) => return drop(ready.send(Err(failure))),
                };
                let memory = memory_info(&session);
                if ready.send(Ok(memory)).is_err() {
                    return;
                }
                while let Ok(job) = queue.recv() {
                    job(&session);
                }
            })
            .map_err(|error| Failure::Lost(format!("no thread for {kind}:{id}: {error}")))?;
        let memory = started.recv_timeout(options.timeout).map_err(|_| {
            Failure::Lost(format!("{kind}:{id} did not start within {:?}", options.timeout))
        })??;
        Ok(Arc::new(Device {
            space,
            timeout: options.timeout,
            jobs,
            gate: Mutex::default(),
            lost: OnceLock::new(),
            memory: Mutex::new(memory),
            staging: Mutex::default(),
        }))
    }

    pub(crate) fn space(&self) -> SpaceId {
        self.space
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Why the device is gone, if it is.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    fn lose(&self, why: String) -> Failure {
        // The first reason stays; later ones follow from it.
        let why = self.lost.get_or_init(|| why);
        Failure::Lost(why.clone())
    }

    /// Runs a closure on the device's thread and waits for it.
    pub(crate) fn run<R: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        f: impl FnOnce(&Session) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let gate = lock(&self.gate);
        self.run_gated(&gate, what, f)
    }

    fn run_gated<R: Send + 'static>(
        &self,
        _: &MutexGuard<'_, ()>,
        what: &'static str,
        f: impl FnOnce(&Session) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        if let Some(why) = self.lost() {
            return Err(Failure::Lost(why.to_owned()));
        }
        let (done, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |session| {
            let outcome = f(session).map_err(|failure| session.diagnose(failure));
            // Nobody listens any more when the caller gave up; the result is dropped here.
            let _ = done.send(outcome);
        });
        if self.jobs.send(job).is_err() {
            return Err(self.lose(format!("the thread of {} has ended", self.space)));
        }
        match result.recv_timeout(self.timeout) {
            Ok(Err(Failure::Lost(why))) => Err(self.lose(why)),
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                Err(self.lose(format!("{what} did not return within {:?}", self.timeout)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(self.lose(format!("{what} ended the thread of {}", self.space)))
            }
        }
    }

    /// Frees an allocation after everything that was asked before. Memory of a lost device went with it.
    pub(crate) fn free_later(&self, address: Address) {
        if self.lost().is_some() {
            return;
        }
        // An error means that the thread has ended, and the process's hold on the device with it.
        let _ = self.jobs.send(Box::new(move |session| {
            if let Err(failure) = session.free(address) {
                tracing::warn!("{NAME}: {failure}");
            }
        }));
    }

    /// The device's memory now, or when it was last free to answer.
    pub(crate) fn memory_info(self: &Arc<Self>) -> MemoryInfo {
        let gate = match self.gate.try_lock() {
            Ok(gate) => gate,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return *lock(&self.memory),
        };
        if let Ok(memory) = self.run_gated(&gate, "icicle_get_available_memory", |s| Ok(memory_info(s))) {
            *lock(&self.memory) = memory;
        }
        *lock(&self.memory)
    }

    /// At least `words` words of host memory that the device's thread may hold on to.
    pub(crate) fn staging(&self, words: usize) -> Result<Vec<u64>, Error> {
        let mut pool = lock(&self.staging);
        if let Some(fit) = pool.iter().position(|kept| kept.len() >= words) {
            return Ok(pool.swap_remove(fit));
        }
        drop(pool);
        let mut staging = Vec::new();
        staging.try_reserve_exact(words).map_err(|_| Error::OutOfMemory {
            backend: NAME,
            what: "staging memory on the host",
            requested: words as u64 * 8,
            free: None,
        })?;
        staging.resize(words, 0);
        Ok(staging)
    }

    /// Takes staging memory back.
    pub(crate) fn recycle(&self, words: Vec<u64>) {
        let mut pool = lock(&self.staging);
        let kept: usize = pool.iter().map(Vec::len).sum();
        if kept.saturating_add(words.len()) <= STAGING_WORDS && pool.len() < 8 {
            pool.push(words);
        }
    }
}

fn memory_info(session: &Session) -> MemoryInfo {
    match session.memory() {
        Some((total, free)) => MemoryInfo { total: Some(total), free: Some(free) },
        None => MemoryInfo::default(),
    }
}
