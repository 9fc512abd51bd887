//! Memory of a device: allocations with one owner, slices of them, and the space that hands them out.

use std::any::Any;
use std::sync::Arc;

use parhelion_backend_api::hal::{MemoryInfo, RawBuffer, Space};
use parhelion_backend_api::{Error, Op, Queue, SpaceId};

use crate::NAME;
use crate::device::Device;
use crate::error::Failure;
use crate::session::Session;

/// An allocation on a device, freed after the work that is pending when it is dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    device: Arc<Device>,
    address: u64,
    bytes: u64,
}

impl Memory {
    pub(crate) fn alloc(session: &Session<'_>, device: &Arc<Device>, bytes: u64) -> Result<Self, Failure> {
        device.collect(session);
        Ok(Memory { device: device.clone(), address: session.alloc(bytes)?, bytes })
    }

    /// `bytes` bytes from byte `at` on.
    pub(crate) fn slice(&self, at: u64, bytes: u64) -> Result<Slice<'_>, Failure> {
        match at.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(Slice { memory: Some(self), at, bytes }),
            _ => Err(Failure::Failed { call: "slice", why: "out of bounds".into() }),
        }
    }

    /// All of it.
    pub(crate) fn all(&self) -> Slice<'_> {
        Slice { memory: Some(self), at: 0, bytes: self.bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.device.free_later(self.address);
    }
}

/// A part of an allocation, in bounds by construction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice<'a> {
    memory: Option<&'a Memory>,
    at: u64,
    bytes: u64,
}

impl Slice<'_> {
    /// No bytes of no allocation.
    pub(crate) fn empty() -> Self {
        Slice { memory: None, at: 0, bytes: 0 }
    }

    /// Where it is in the device's memory.
    pub(crate) fn address(&self) -> u64 {
        self.memory.map_or(0, |memory| memory.address + self.at)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its first bytes.
    pub(crate) fn part(&self, bytes: u64) -> Result<Self, Failure> {
        if bytes > self.bytes {
            return Err(Failure::Failed { call: "slice", why: "out of bounds".into() });
        }
        Ok(Slice { bytes, ..*self })
    }

    /// Fails unless it is this long: a mistake of this crate becomes an error rather than memory that is not there.
    pub(crate) fn expect(&self, bytes: u64) -> Result<(), Failure> {
        if self.bytes == bytes {
            return Ok(());
        }
        Err(Failure::Failed { call: "slice", why: format!("{} bytes instead of {bytes}", self.bytes) })
    }
}

/// A buffer in a device's space.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    name: &'static str,
    memory: Memory,
}

impl RawBuffer for DeviceBuffer {
    fn space(&self) -> SpaceId {
        self.memory.device.space()
    }
    fn bytes(&self) -> u64 {
        self.memory.bytes
    }
    fn name(&self) -> &'static str {
        self.name
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The allocation behind a buffer of this device.
///
/// # Errors
/// [`Error::WrongSpace`] for any other buffer.
pub(crate) fn own<'a>(device: &Arc<Device>, raw: &'a dyn RawBuffer) -> Result<&'a Memory, Error> {
    raw.as_any()
        .downcast_ref::<DeviceBuffer>()
        .filter(|buffer| Arc::ptr_eq(&buffer.memory.device, device))
        .map(|buffer| &buffer.memory)
        .ok_or(Error::WrongSpace { name: raw.name(), expected: device.space(), found: raw.space() })
}

/// The memory of one device.
#[derive(Debug)]
pub(crate) struct DeviceSpace(pub(crate) Arc<Device>);

fn range<'a>(what: &'static str, memory: &'a Memory, at: u64, len: usize) -> Result<Slice<'a>, Error> {
    memory.slice(at, len as u64).map_err(|_| Error::Length {
        what,
        expected: usize::try_from(memory.bytes()).unwrap_or(usize::MAX),
        found: usize::try_from(at.saturating_add(len as u64)).unwrap_or(usize::MAX),
    })
}

impl Space for DeviceSpace {
    fn id(&self) -> SpaceId {
        self.0.space()
    }

    fn memory(&self) -> MemoryInfo {
        self.0.memory_info()
    }

    fn queue(&self) -> Result<Queue, Error> {
        // A context works in the order of the calls, whatever streams it has: that is the queue.
        Ok(Queue::new(self.0.space(), Arc::new(())))
    }

    fn alloc(&self, _: &Queue, bytes: u64, name: &'static str) -> Result<Box<dyn RawBuffer>, Error> {
        let memory = self.0.session().and_then(|session| Memory::alloc(&session, &self.0, bytes));
        match memory {
            Ok(memory) => Ok(Box::new(DeviceBuffer { name, memory })),
            Err(Failure::Memory { .. }) => Err(Error::OutOfMemory {
                backend: NAME,
                what: name,
                requested: bytes,
                free: self.memory().free,
            }),
            Err(failure) => Err(failure.untouched(Op::POLY)),
        }
    }

    fn upload(&self, _: &Queue, src: &[u8], dst: &mut dyn RawBuffer, at: u64) -> Result<(), Error> {
        let to = range("upload", own(&self.0, dst)?, at, src.len())?;
        self.0.session().and_then(|session| session.upload(src, &to)).map_err(Failure::touched)
    }

    fn download(&self, _: &Queue, src: &dyn RawBuffer, at: u64, dst: &mut [u8]) -> Result<(), Error> {
        let from = range("download", own(&self.0, src)?, at, dst.len())?;
        self.0.session().and_then(|session| session.download(&from, dst)).map_err(Failure::touched)
    }
}
