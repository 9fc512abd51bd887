//! An open device: its context behind a lock, and what is left of memory whose owner is gone.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use parhelion_backend_api::SpaceId;
use parhelion_backend_api::hal::MemoryInfo;

use crate::error::Failure;
use crate::ffi::{Api, MESSAGE, code};
use crate::options::SpparkOptions;
use crate::session::{Session, text};

/// A context of the library, closed when dropped.
#[derive(Debug)]
struct Context {
    api: &'static Api,
    handle: *mut c_void,
}

// SAFETY: the library keeps nothing about a context in a thread: every call makes the context's device current first. Calls are never
// concurrent, since the context is only reached through its lock.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the handle came from `open`, and nothing else has it.
        unsafe { (self.api.close)(self.handle) };
    }
}

/// The lock on a context.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    context: MutexGuard<'a, Context>,
    lost: &'a OnceLock<String>,
}

impl Held<'_> {
    /// The context, for calls while it is held.
    pub(crate) fn context(&self) -> *mut c_void {
        self.context.handle
    }

    /// Notes that the device is gone. The first reason stays.
    pub(crate) fn lose(&self, why: &str) {
        self.lost.get_or_init(|| why.to_owned());
    }
}

/// Bytes that were copied.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) to_device: AtomicU64,
    pub(crate) to_host: AtomicU64,
}

/// An open device.
#[derive(Debug)]
pub(crate) struct Device {
    api: &'static Api,
    space: SpaceId,
    processors: u32,
    context: Mutex<Context>,
    lost: OnceLock<String>,
    /// Addresses whose owners are gone. Owners are dropped while the context is held, too, so they cannot free by themselves.
    freed: Mutex<Vec<u64>>,
    memory: Mutex<MemoryInfo>,
    counters: Counters,
    precompute: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// Opens device number `id` of a library.
    pub(crate) fn open(
        api: &'static Api,
        id: i32,
        space: SpaceId,
        processors: u32,
        options: &SpparkOptions,
    ) -> Result<Arc<Self>, Failure> {
        // The library takes no more than nine tenths of what is free.
        let budget = options.memory.unwrap_or(u64::MAX);
        let limit = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX >> 1).min(u64::MAX >> 1);
        let mut handle = std::ptr::null_mut();
        let mut message = [0; MESSAGE];
        // SAFETY: the pointer is writable, and the buffer has the length that is given.
        let returned =
            unsafe { (api.open)(id, budget, limit, &raw mut handle, message.as_mut_ptr(), MESSAGE) };
        if returned != code::OK {
            return Err(Failure::from_code("open", returned, text(&message)));
        }
        if handle.is_null() {
            return Err(Failure::Malformed { call: "open", what: "no context" });
        }
        let device = Device {
            api,
            space,
            processors,
            context: Mutex::new(Context { api, handle }),
            lost: OnceLock::new(),
            freed: Mutex::default(),
            memory: Mutex::default(),
            counters: Counters::default(),
            precompute: options.precompute,
        };
        if let Some(radix) = options.radix {
            device.session()?.tune(radix)?;
        }
        device.memory_info();
        Ok(Arc::new(device))
    }

    pub(crate) fn space(&self) -> SpaceId {
        self.space
    }

    /// Multiprocessors.
    pub(crate) fn processors(&self) -> u32 {
        self.processors
    }

    /// Bytes for multiples of bases.
    pub(crate) fn precompute(&self) -> u64 {
        self.precompute
    }

    /// Why the device is gone, if it is.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// (to the device, to the host) bytes copied so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let Counters { to_device, to_host } = &self.counters;
        (to_device.load(Ordering::Relaxed), to_host.load(Ordering::Relaxed))
    }

    /// Waits for the context and holds it.
    ///
    /// # Errors
    /// [`Failure::Lost`], for ever, once the device is gone.
    pub(crate) fn session(&self) -> Result<Session<'_>, Failure> {
        let session = self.hold(lock(&self.context));
        match self.lost() {
            Some(why) => Err(Failure::Lost(why.to_owned())),
            None => Ok(session),
        }
    }

    fn hold<'a>(&'a self, context: MutexGuard<'a, Context>) -> Session<'a> {
        let session = Session::new(self.api, Held { context, lost: &self.lost }, &self.counters);
        self.collect(&session);
        session
    }

    /// Frees what nobody owns any more.
    pub(crate) fn collect(&self, session: &Session<'_>) {
        let freed = std::mem::take(&mut *lock(&self.freed));
        if self.lost().is_some() {
            return;
        }
        for address in freed {
            if let Err(failure) = session.release(address) {
                tracing::warn!("{}: {failure}", crate::NAME);
            }
        }
    }

    /// Takes an address whose owner is gone.
    pub(crate) fn free_later(&self, address: u64) {
        lock(&self.freed).push(address);
    }

    /// The budget and what is left of it; what was left lately, while somebody else computes.
    pub(crate) fn memory_info(&self) -> MemoryInfo {
        if let Ok(context) = self.context.try_lock() {
            let session = self.hold(context);
            if let Ok((total, free)) = session.memory() {
                *lock(&self.memory) = MemoryInfo { total: Some(total), free: Some(free) };
            }
        }
        *lock(&self.memory)
    }
}
