//! Buffer, Ref, RefMut: an owner, a borrow, a unique borrow. Three words, three meanings, everywhere.

use std::any::Any;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::ops::Range;

use crate::repr::{cast, cast_mut};
use crate::{DeviceRepr, Error, Queue, Result, Space, SpaceId, as_bytes, as_bytes_mut};

/// Bytes in some space. Backends downcast this to their own type; a foreign buffer is [`Error::WrongSpace`].
pub trait RawBuffer: Debug + Send + Sync {
    /// The space that it is in.
    fn space(&self) -> SpaceId;
    /// Its size in bytes.
    fn bytes(&self) -> u64;
    /// The name that it was allocated under.
    fn name(&self) -> &'static str;
    /// For the owner's downcast.
    fn as_any(&self) -> &dyn Any;
    /// For the owner's downcast.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// The words, if they are in host memory.
    fn host_words(&self) -> Option<&[u64]> {
        None
    }
    /// The words, if they are in host memory.
    fn host_words_mut(&mut self) -> Option<&mut [u64]> {
        None
    }
}

/// Sole owner of `len` values in some space. Not `Clone`: share with `Arc`.
pub struct Buffer<T> {
    raw: Box<dyn RawBuffer>,
    len: usize,
    _type: PhantomData<T>,
}

impl<T> Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the contents: they may be a witness.
        write!(f, "Buffer({} × {} in {})", self.raw.name(), self.len, self.raw.space())
    }
}

impl<T: DeviceRepr> Buffer<T> {
    /// `len` values of unspecified content in `space`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn alloc(space: &dyn Space, queue: &Queue, len: usize, name: &'static str) -> Result<Self> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let most = space.limits().largest_buffer.unwrap_or(u64::MAX - 1);
        if bytes > most {
            let free = space.memory().free;
            let backend = space.id().name;
            return Err(Error::OutOfMemory { backend, what: name, requested: bytes, free });
        }
        Ok(Buffer { raw: space.alloc(queue, bytes, name)?, len, _type: PhantomData })
    }

    /// A copy of host values in `space`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or the device's own.
    pub fn from_host(space: &dyn Space, queue: &Queue, values: &[T], name: &'static str) -> Result<Self> {
        let mut buffer = Self::alloc(space, queue, values.len(), name)?;
        space.upload(queue, as_bytes(values), buffer.raw.as_mut(), 0)?;
        Ok(buffer)
    }

    /// A copy of the values on the host. Explicit, because it costs a transfer.
    ///
    /// # Errors
    /// [`Error::WrongSpace`] when `space` does not own the buffer, or the device's own.
    pub fn to_host(&self, space: &dyn Space, queue: &Queue) -> Result<Vec<T>>
    where
        T: Default,
    {
        let mut out = Vec::new();
        out.try_reserve_exact(self.len).map_err(|_| Error::OutOfMemory {
            backend: "host",
            what: self.raw.name(),
            requested: self.raw.bytes(),
            free: None,
        })?;
        out.resize(self.len, T::default());
        space.download(queue, self.raw.as_ref(), 0, as_bytes_mut(&mut out))?;
        Ok(out)
    }

    /// A borrow of all values.
    pub fn as_ref(&self) -> Ref<'_, T> {
        Ref(Place::Device { raw: self.raw.as_ref(), start: 0, len: self.len })
    }

    /// A unique borrow of all values.
    pub fn as_mut(&mut self) -> RefMut<'_, T> {
        RefMut(PlaceMut::Device { raw: self.raw.as_mut(), start: 0, len: self.len })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The space that they are in.
    pub fn space(&self) -> SpaceId {
        self.raw.space()
    }
}

/// A borrow of values on the host or on a device. Callers build it and pass it on; backends look inside through
/// [`Ref::place`].
#[derive(Clone, Copy, Debug)]
pub struct Ref<'a, T>(Place<'a, T>);

/// Where a [`Ref`] points.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Place<'a, T> {
    /// Host memory: legal for every backend.
    Host(&'a [T]),
    /// A device buffer: legal for the backends of its space.
    Device {
        /// The buffer.
        raw: &'a dyn RawBuffer,
        /// First value.
        start: usize,
        /// Number of values.
        len: usize,
    },
}

impl<T> Debug for Place<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Host(values) => write!(f, "{} values on the host", values.len()),
            Place::Device { raw, start, len } => {
                write!(f, "{}[{start}..{}] in {}", raw.name(), start + len, raw.space())
            }
        }
    }
}

impl<'a, T: DeviceRepr> Ref<'a, T> {
    /// A borrow of host values.
    pub fn host(values: &'a [T]) -> Self {
        Ref(Place::Host(values))
    }

    /// Where the values are.
    pub fn place(&self) -> Place<'a, T> {
        self.0
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self.0 {
            Place::Host(values) => values.len(),
            Place::Device { len, .. } => len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of a range, in the same place.
    ///
    /// A backend may ask that the range starts at a multiple of [`crate::Limits::alignment`].
    ///
    /// # Errors
    /// [`Error::Length`] when it is not within the values.
    pub fn slice(&self, range: Range<usize>) -> Result<Self> {
        check_range(&range, self.len())?;
        Ok(match self.0 {
            Place::Host(values) => Ref(Place::Host(&values[range])),
            Place::Device { raw, start, .. } => {
                Ref(Place::Device { raw, start: start + range.start, len: range.len() })
            }
        })
    }

    /// The space that they are in.
    pub fn space(&self) -> SpaceId {
        match self.0 {
            Place::Host(_) => SpaceId::HOST,
            Place::Device { raw, .. } => raw.space(),
        }
    }

    /// The values as a slice, if they are in host memory.
    ///
    /// # Errors
    /// [`Error::WrongSpace`] when they are on a device.
    pub fn as_host(&self) -> Result<&'a [T]> {
        match self.0 {
            Place::Host(values) => Ok(values),
            Place::Device { raw, start, len } => raw
                .host_words()
                .and_then(|words| cast(words, start, len))
                .ok_or(Error::WrongSpace { name: raw.name(), expected: SpaceId::HOST, found: raw.space() }),
        }
    }
}

/// A unique borrow of values on the host or on a device.
#[derive(Debug)]
pub struct RefMut<'a, T>(PlaceMut<'a, T>);

enum PlaceMut<'a, T> {
    Host(&'a mut [T]),
    Device { raw: &'a mut dyn RawBuffer, start: usize, len: usize },
}

impl<T> Debug for PlaceMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceMut::Host(values) => write!(f, "{} values on the host", values.len()),
            PlaceMut::Device { raw, start, len } => {
                write!(f, "{}[{start}..{}] in {}", raw.name(), start + len, raw.space())
            }
        }
    }
}

impl<'a, T: DeviceRepr> RefMut<'a, T> {
    /// A unique borrow of host values.
    pub fn host(values: &'a mut [T]) -> Self {
        RefMut(PlaceMut::Host(values))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.0 {
            PlaceMut::Host(values) => values.len(),
            PlaceMut::Device { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The space that they are in.
    pub fn space(&self) -> SpaceId {
        match &self.0 {
            PlaceMut::Host(_) => SpaceId::HOST,
            PlaceMut::Device { raw, .. } => raw.space(),
        }
    }

    /// A shared borrow of the same values.
    pub fn as_ref(&self) -> Ref<'_, T> {
        match &self.0 {
            PlaceMut::Host(values) => Ref(Place::Host(values)),
            PlaceMut::Device { raw, start, len } => {
                Ref(Place::Device { raw: &**raw, start: *start, len: *len })
            }
        }
    }

    /// A shorter unique borrow of the same values.
    pub fn reborrow(&mut self) -> RefMut<'_, T> {
        match &mut self.0 {
            PlaceMut::Host(values) => RefMut(PlaceMut::Host(values)),
            PlaceMut::Device { raw, start, len } => {
                RefMut(PlaceMut::Device { raw: &mut **raw, start: *start, len: *len })
            }
        }
    }

    /// A unique borrow of the values of a range, see [`Ref::slice`].
    ///
    /// # Errors
    /// [`Error::Length`] when it is not within the values.
    pub fn slice(&mut self, range: Range<usize>) -> Result<RefMut<'_, T>> {
        check_range(&range, self.len())?;
        Ok(match &mut self.0 {
            PlaceMut::Host(values) => RefMut(PlaceMut::Host(&mut values[range])),
            PlaceMut::Device { raw, start, .. } => {
                RefMut(PlaceMut::Device { raw: &mut **raw, start: *start + range.start, len: range.len() })
            }
        })
    }

    /// The values as a slice, if they are in host memory.
    ///
    /// # Errors
    /// [`Error::WrongSpace`] when they are on a device.
    pub fn as_host(&mut self) -> Result<&mut [T]> {
        match &mut self.0 {
            PlaceMut::Host(values) => Ok(values),
            PlaceMut::Device { raw, start, len } => {
                let (name, found) = (raw.name(), raw.space());
                raw.host_words_mut()
                    .and_then(|words| cast_mut(words, *start, *len))
                    .ok_or(Error::WrongSpace { name, expected: SpaceId::HOST, found })
            }
        }
    }

    /// The raw device buffer with the first value and the number of values, or `None` for host values.
    pub fn device(&mut self) -> Option<(&mut dyn RawBuffer, usize, usize)> {
        match &mut self.0 {
            PlaceMut::Host(_) => None,
            PlaceMut::Device { raw, start, len } => Some((&mut **raw, *start, *len)),
        }
    }
}

fn check_range(range: &Range<usize>, len: usize) -> Result<()> {
    if range.start > range.end || range.end > len {
        return Err(Error::Length { what: "slice", expected: len, found: range.end.max(range.start) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostSpace;

    #[test]
    fn a_host_buffer_round_trips_and_lends_slices() {
        let queue = Queue::host();
        let values: Vec<u64> = (0..10).collect();
        let mut buffer = Buffer::from_host(&HostSpace, &queue, &values, "test").unwrap();
        assert_eq!(buffer.to_host(&HostSpace, &queue).unwrap(), values);
        assert_eq!(buffer.as_ref().as_host().unwrap(), &values[..]);
        buffer.as_mut().as_host().unwrap()[3] = 99;
        assert_eq!(buffer.as_ref().as_host().unwrap()[3], 99);
        assert!(format!("{buffer:?}").contains("test × 10"));
    }

    #[test]
    fn an_absurd_allocation_is_a_typed_error() {
        let err = Buffer::<u64>::alloc(&HostSpace, &Queue::host(), usize::MAX / 16, "absurd").unwrap_err();
        assert!(err.try_elsewhere(), "{err}");
    }
}
