//! Where bytes live, and the devices that own the places.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use crate::{Error, RawBuffer, Result};

/// Where bytes live: `host:0`, `cuda:0`, `webgpu:0`, `fpga-sim:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId {
    /// Family of the space.
    pub name: &'static str,
    /// Index of the device in its family.
    pub index: u16,
}

impl SpaceId {
    /// The host's own memory.
    pub const HOST: SpaceId = SpaceId { name: "host", index: 0 };
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.index)
    }
}

/// Whether an operation is legal for a shape. Deciding costs no device work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is.
    Yes,
    /// It is not, and why.
    No(String),
}

impl Support {
    /// `true` for [`Support::Yes`].
    pub fn is_yes(&self) -> bool {
        matches!(self, Support::Yes)
    }
}

/// Memory of a space, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryInfo {
    /// All of it, where known.
    pub total: Option<u64>,
    /// What is free now, where known.
    pub free: Option<u64>,
}

/// What a space asks of its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest single buffer, in bytes, where limited. OpenCL devices often allow a quarter of their memory.
    pub largest_buffer: Option<u64>,
    /// Bytes that the start of a [`crate::Ref::slice`] must be a multiple of. WebGPU binds at multiples of 256.
    pub alignment: u64,
}

impl Limits {
    /// Buffers of any size, slices from any element on.
    pub const NONE: Limits = Limits { largest_buffer: None, alignment: 1 };

    /// With a largest buffer, in bytes.
    pub const fn with_largest_buffer(self, bytes: u64) -> Self {
        Limits { largest_buffer: Some(bytes), ..self }
    }

    /// With an alignment of slices, in bytes.
    pub const fn with_alignment(self, bytes: u64) -> Self {
        Limits { alignment: bytes, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::NONE
    }
}

/// One device that a backend found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the backend that found it.
    pub backend: &'static str,
    /// The space of its memory.
    pub space: SpaceId,
    /// The device's own name, as its driver gives it.
    pub name: String,
    /// Driver or library, with its version.
    pub driver: String,
    /// Its memory.
    pub memory: MemoryInfo,
    /// `true` for simulators and software rasterisers: never picked by `auto`.
    pub simulated: bool,
}

/// An in-order queue of a device. The host's does nothing: every host operation is complete when it returns.
#[derive(Clone, Debug)]
pub struct Queue {
    space: SpaceId,
    inner: Option<Arc<dyn Any + Send + Sync>>,
}

impl Queue {
    /// The host's queue.
    pub fn host() -> Self {
        Queue { space: SpaceId::HOST, inner: None }
    }

    /// A queue of a device; `inner` is the backend's own object.
    pub fn new(space: SpaceId, inner: Arc<dyn Any + Send + Sync>) -> Self {
        Queue { space, inner: Some(inner) }
    }

    /// The space that the queue works in.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The backend's own object, if it is a `T`.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.inner.as_deref().and_then(|q| q.downcast_ref())
    }
}

/// A place to put buffers.
pub trait Space: Debug + Send + Sync {
    /// Which one.
    fn id(&self) -> SpaceId;
    /// How much room there is.
    fn memory(&self) -> MemoryInfo;
    /// A new in-order queue.
    ///
    /// # Errors
    /// When the device cannot give one.
    fn queue(&self) -> Result<Queue>;
    /// `bytes` bytes of unspecified content. `name` appears in errors and traces.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; never a panic.
    fn alloc(&self, queue: &Queue, bytes: u64, name: &'static str) -> Result<Box<dyn RawBuffer>>;
    /// Copies host bytes into `dst` at byte offset `at`. Complete on return.
    ///
    /// # Errors
    /// [`Error::WrongSpace`], [`Error::Length`], or the device's own.
    fn upload(&self, queue: &Queue, src: &[u8], dst: &mut dyn RawBuffer, at: u64) -> Result<()>;
    /// Copies device bytes at byte offset `at` into `dst`. Complete on return.
    ///
    /// # Errors
    /// [`Error::WrongSpace`], [`Error::Length`], or the device's own.
    fn download(&self, queue: &Queue, src: &dyn RawBuffer, at: u64, dst: &mut [u8]) -> Result<()>;

    /// What the space asks of its buffers.
    fn limits(&self) -> Limits {
        Limits::NONE
    }

    /// Copies whole words of 8 bytes, at multiples of 8, of one buffer of this space into another one. The default takes them through the host.
    ///
    /// # Errors
    /// [`Error::WrongSpace`], [`Error::Length`], or the device's own; the first two before anything is written.
    fn copy(&self, queue: &Queue, src: Part<'_>, dst: &mut dyn RawBuffer, at: u64) -> Result<()> {
        let end = at.saturating_add(src.bytes);
        check_end("copy", end, dst.bytes())?;
        let mut staged = host_bytes(src.bytes.min(STAGING), "staging of a copy")?;
        let mut done = 0;
        // An empty copy still looks at both buffers.
        loop {
            let len = (src.bytes - done).min(STAGING) as usize;
            let part = &mut staged[..len];
            self.download(queue, src.raw, src.at.saturating_add(done), part)?;
            self.upload(queue, part, dst, at + done)?;
            done += len as u64;
            if done == src.bytes {
                return Ok(());
            }
        }
    }

    /// Writes a pattern again and again into `bytes` bytes from byte `at` on, multiples of 8; the last one may be cut off. The default uploads it.
    ///
    /// # Errors
    /// [`Error::WrongSpace`], [`Error::Length`], or the device's own; the first two before anything is written.
    fn fill(
        &self,
        queue: &Queue,
        dst: &mut dyn RawBuffer,
        at: u64,
        bytes: u64,
        pattern: [u64; 4],
    ) -> Result<()> {
        check_end("fill", at.saturating_add(bytes), dst.bytes())?;
        let words = pattern.map(u64::to_le_bytes);
        let mut staged = host_bytes(bytes.min(STAGING), "staging of a fill")?;
        for (byte, word) in staged.iter_mut().zip(words.iter().flatten().cycle()) {
            *byte = *word;
        }
        let mut done = 0;
        loop {
            let len = (bytes - done).min(STAGING) as usize;
            self.upload(queue, &staged[..len], dst, at + done)?;
            done += len as u64;
            if done == bytes {
                return Ok(());
            }
        }
    }
}

/// Bytes that a default body moves at a time; a multiple of the pattern of [`Space::fill`].
const STAGING: u64 = 1 << 22;

fn check_end(what: &'static str, end: u64, bytes: u64) -> Result<()> {
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    if end > bytes { Err(Error::Length { what, expected: size(bytes), found: size(end) }) } else { Ok(()) }
}

fn host_bytes(bytes: u64, what: &'static str) -> Result<Vec<u8>> {
    let mut staged = Vec::new();
    let room = staged.try_reserve_exact(bytes as usize);
    room.map_err(|_| Error::OutOfMemory { backend: "host", what, requested: bytes, free: None })?;
    staged.resize(bytes as usize, 0);
    Ok(staged)
}

/// A part of a buffer, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The buffer.
    pub raw: &'a dyn RawBuffer,
    /// Its first byte.
    pub at: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Something prepared once and used often (bases, compiled programs), opaque to callers.
pub trait Prepared: Debug + Send + Sync {
    /// The space that it lives in.
    fn space(&self) -> SpaceId;
    /// For the owner's downcast.
    fn as_any(&self) -> &dyn Any;
}

/// The host's memory as a [`Space`].
#[derive(Clone, Copy, Debug, Default)]
pub struct HostSpace;

#[derive(Debug)]
struct HostBuffer {
    name: &'static str,
    // `u64` so that any `DeviceRepr` type is aligned.
    words: Vec<u64>,
    bytes: u64,
}

impl RawBuffer for HostBuffer {
    fn space(&self) -> SpaceId {
        SpaceId::HOST
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
    fn host_words(&self) -> Option<&[u64]> {
        Some(&self.words)
    }
    fn host_words_mut(&mut self) -> Option<&mut [u64]> {
        Some(&mut self.words)
    }
}

impl Space for HostSpace {
    fn id(&self) -> SpaceId {
        SpaceId::HOST
    }

    fn memory(&self) -> MemoryInfo {
        MemoryInfo::default()
    }

    fn queue(&self) -> Result<Queue> {
        Ok(Queue::host())
    }

    fn alloc(&self, _: &Queue, bytes: u64, name: &'static str) -> Result<Box<dyn RawBuffer>> {
        let oom = || Error::OutOfMemory { backend: "host", what: name, requested: bytes, free: None };
        let words = usize::try_from(bytes.div_ceil(8)).map_err(|_| oom())?;
        let mut v = Vec::new();
        v.try_reserve_exact(words).map_err(|_| oom())?;
        v.resize(words, 0);
        Ok(Box::new(HostBuffer { name, words: v, bytes }))
    }

    fn upload(&self, _: &Queue, src: &[u8], dst: &mut dyn RawBuffer, at: u64) -> Result<()> {
        let (found, name) = (dst.space(), dst.name());
        let all = dst.host_words_mut().ok_or(Error::WrongSpace { name, expected: SpaceId::HOST, found })?;
        let all = crate::as_bytes_mut(all);
        let len = all.len();
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(src.len());
        let slot = all.get_mut(at..end).ok_or(Error::Length { what: "upload", expected: len, found: end })?;
        slot.copy_from_slice(src);
        Ok(())
    }

    fn download(&self, _: &Queue, src: &dyn RawBuffer, at: u64, dst: &mut [u8]) -> Result<()> {
        let (found, name) = (src.space(), src.name());
        let all = src.host_words().ok_or(Error::WrongSpace { name, expected: SpaceId::HOST, found })?;
        let all = crate::as_bytes(all);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(dst.len());
        let slot =
            all.get(at..end).ok_or(Error::Length { what: "download", expected: all.len(), found: end })?;
        dst.copy_from_slice(slot);
        Ok(())
    }
}
