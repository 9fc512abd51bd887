//! Memory of a device: allocations with one owner, slices of them, and the space that hands them out.

use std::any::Any;
use std::sync::Arc;

use parhelion_backend_api::hal::{MemoryInfo, RawBuffer, Space, as_bytes_mut};
use parhelion_backend_api::{Error, Op, Queue, SpaceId};

use crate::NAME;
use crate::device::Device;
use crate::error::Failure;
use crate::session::{Address, Session};

/// An allocation on a device, freed after the work that is pending when it is dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    device: Arc<Device>,
    address: Address,
    bytes: u64,
}

impl Memory {
    /// Allocates, on the device's thread.
    pub(crate) fn alloc(
        session: &Session,
        device: &Arc<Device>,
        bytes: u64,
        what: &'static str,
    ) -> Result<Self, Failure> {
        Ok(Memory { device: device.clone(), address: session.alloc(bytes, what)?, bytes })
    }

    /// `bytes` bytes from byte `at` on.
    pub(crate) fn slice(&self, at: u64, bytes: u64) -> Result<Slice<'_>, Failure> {
        match at.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(Slice { memory: self, at, bytes }),
            _ => Err(Failure::TooLarge { what: "a slice of device memory" }),
        }
    }

    /// All of it.
    pub(crate) fn all(&self) -> Slice<'_> {
        Slice { memory: self, at: 0, bytes: self.bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
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
    memory: &'a Memory,
    at: u64,
    bytes: u64,
}

impl Slice<'_> {
    pub(crate) fn base(&self) -> Address {
        self.memory.address
    }
    pub(crate) fn at(&self) -> u64 {
        self.at
    }
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A buffer in a device's space. The allocation is shared with the operations that use it, so that a call which never returns keeps it.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    name: &'static str,
    bytes: u64,
    pub(crate) memory: Arc<Memory>,
}

impl RawBuffer for DeviceBuffer {
    fn space(&self) -> SpaceId {
        self.memory.device.space()
    }
    fn bytes(&self) -> u64 {
        self.bytes
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
pub(crate) fn own(device: &Arc<Device>, raw: &dyn RawBuffer) -> Result<Arc<Memory>, Error> {
    raw.as_any()
        .downcast_ref::<DeviceBuffer>()
        .filter(|buffer| Arc::ptr_eq(&buffer.memory.device, device))
        .map(|buffer| buffer.memory.clone())
        .ok_or(Error::WrongSpace { name: raw.name(), expected: device.space(), found: raw.space() })
}

/// The memory of one device.
#[derive(Debug)]
pub(crate) struct DeviceSpace(pub(crate) Arc<Device>);

fn range(what: &'static str, memory: &Memory, at: u64, len: usize) -> Result<(u64, u64), Error> {
    let end = at.saturating_add(len as u64);
    if end > memory.bytes() {
        let (expected, found) = (memory.bytes() as usize, usize::try_from(end).unwrap_or(usize::MAX));
        return Err(Error::Length { what, expected, found });
    }
    Ok((at, len as u64))
}

impl Space for DeviceSpace {
    fn id(&self) -> SpaceId {
        self.0.space()
    }

    fn memory(&self) -> MemoryInfo {
        self.0.memory_info()
    }

    fn queue(&self) -> Result<Queue, Error> {
        // Every call runs to its end on the device's one thread, in the order of the calls: that is the queue.
        Ok(Queue::new(self.0.space(), Arc::new(())))
    }

    fn alloc(&self, _: &Queue, bytes: u64, name: &'static str) -> Result<Box<dyn RawBuffer>, Error> {
        let device = self.0.clone();
        let memory = self
            .0
            .run("alloc", move |session| Memory::alloc(session, &device, bytes, name))
            .map_err(|failure| match failure {
                Failure::Memory { what, bytes } => {
                    let free = self.memory().free;
                    Error::OutOfMemory { backend: NAME, what, requested: bytes, free }
                }
                other => other.untouched(Op::POLY),
            })?;
        Ok(Box::new(DeviceBuffer { name, bytes, memory: Arc::new(memory) }))
    }

    fn upload(&self, _: &Queue, src: &[u8], dst: &mut dyn RawBuffer, at: u64) -> Result<(), Error> {
        let memory = own(&self.0, dst)?;
        let (at, len) = range("upload", &memory, at, src.len())?;
        let mut words = self.0.staging(src.len().div_ceil(8))?;
        if let Some(bytes) = as_bytes_mut(&mut words).get_mut(..src.len()) {
            bytes.copy_from_slice(src);
        }
        let done = self.0.run("upload", move |session| {
            let bytes = crate::session::bytes_of(&words).get(..len as usize).unwrap_or_default();
            session.upload(bytes, &memory.slice(at, len)?).map(|()| words)
        });
        self.0.recycle(done.map_err(Failure::touched)?);
        Ok(())
    }

    fn download(&self, _: &Queue, src: &dyn RawBuffer, at: u64, dst: &mut [u8]) -> Result<(), Error> {
        let memory = own(&self.0, src)?;
        let (at, len) = range("download", &memory, at, dst.len())?;
        let mut words = self.0.staging(dst.len().div_ceil(8))?;
        let done = self.0.run("download", move |session| {
            let bytes = as_bytes_mut(&mut words).get_mut(..len as usize).unwrap_or_default();
            session.download(&memory.slice(at, len)?, bytes).map(|()| words)
        });
        let words = done.map_err(|failure| failure.untouched(Op::POLY))?;
        if let Some(bytes) = crate::session::bytes_of(&words).get(..dst.len()) {
            dst.copy_from_slice(bytes);
        }
        self.0.recycle(words);
        Ok(())
    }
}
