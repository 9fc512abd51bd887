//! Columns of callers: where they are, and how those on the host get to the device and back.

use std::sync::Arc;

use halo2curves::bn256::Fr;
use parhelion_backend_api::Error;
use parhelion_backend_api::hal::{Place, Ref, RefMut, SpaceId, as_bytes, as_bytes_mut};

use crate::buffer::{Memory, Slice, own};
use crate::device::Device;
use crate::error::Failure;
use crate::session::{SCALAR, Session};

/// A column to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Host(&'a [Fr]),
    Resident(Slice<'a>),
}

/// A column to write.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    Host(&'a mut [Fr]),
    Resident(Slice<'a>),
}

/// Whose memory it is, and which part.
fn part<'a>(memory: &'a Memory, start: usize, len: usize) -> Result<Slice<'a>, Error> {
    memory.slice(start as u64 * SCALAR, len as u64 * SCALAR).map_err(|_| Error::Length {
        what: "buffer",
        expected: (memory.bytes() / SCALAR) as usize,
        found: start.saturating_add(len),
    })
}

impl<'a> Source<'a> {
    /// # Errors
    /// [`Error::WrongSpace`] for a column of another device.
    pub(crate) fn of(device: &Arc<Device>, column: &Ref<'a, Fr>) -> Result<Self, Error> {
        match column.place() {
            Place::Device { raw, start, len } if raw.space() != SpaceId::HOST => {
                Ok(Source::Resident(part(own(device, raw)?, start, len)?))
            }
            _ => Ok(Source::Host(column.as_host()?)),
        }
    }

    pub(crate) fn all(device: &Arc<Device>, columns: &[Ref<'a, Fr>]) -> Result<Vec<Self>, Error> {
        columns.iter().map(|column| Source::of(device, column)).collect()
    }

    /// Bytes that have to be brought.
    pub(crate) fn arriving(&self) -> u64 {
        match self {
            Source::Host(values) => values.len() as u64 * SCALAR,
            Source::Resident(_) => 0,
        }
    }
}

impl<'a> Target<'a> {
    /// # Errors
    /// [`Error::WrongSpace`] for a column of another device.
    pub(crate) fn of(device: &Arc<Device>, column: &'a mut RefMut<'_, Fr>) -> Result<Self, Error> {
        if column.space() == SpaceId::HOST {
            return Ok(Target::Host(column.as_host()?));
        }
        match column.device() {
            Some((raw, start, len)) => Ok(Target::Resident(part(own(device, raw)?, start, len)?)),
            None => Err(Error::Invalid { what: "column", why: "it is in no space".into() }),
        }
    }

    pub(crate) fn all(device: &Arc<Device>, columns: &'a mut [RefMut<'_, Fr>]) -> Result<Vec<Self>, Error> {
        columns.iter_mut().map(|column| Target::of(device, column)).collect()
    }
}

/// Columns on the device: residents where they are, the host's in one allocation.
#[derive(Debug)]
pub(crate) struct Brought<'a> {
    memory: Option<Memory>,
    places: Vec<Result<Slice<'a>, (u64, u64)>>,
}

impl<'a> Brought<'a> {
    /// Allocates room for columns: residents as they are, `Err(bytes)` for the others.
    pub(crate) fn room(
        device: &Arc<Device>,
        session: &Session<'_>,
        columns: impl Iterator<Item = Result<Slice<'a>, u64>>,
    ) -> Result<Self, Failure> {
        let mut total = 0;
        let places: Vec<_> = columns
            .map(|column| {
                column.map_err(|bytes| {
                    let at = total;
                    total += bytes;
                    (at, bytes)
                })
            })
            .collect();
        let memory = if total > 0 { Some(Memory::alloc(session, device, total)?) } else { None };
        Ok(Brought { memory, places })
    }

    /// Brings columns.
    pub(crate) fn columns(
        device: &Arc<Device>,
        session: &Session<'_>,
        sources: &[Source<'a>],
    ) -> Result<Self, Failure> {
        let places = sources.iter().map(|source| match source {
            Source::Resident(slice) => Ok(*slice),
            Source::Host(values) => Err(values.len() as u64 * SCALAR),
        });
        let brought = Self::room(device, session, places)?;
        for (source, place) in sources.iter().zip(brought.slices()?) {
            if let Source::Host(values) = source {
                session.upload(as_bytes(values), &place)?;
            }
        }
        Ok(brought)
    }

    /// Where the columns are.
    pub(crate) fn slices(&self) -> Result<Vec<Slice<'_>>, Failure> {
        let place = |place: &Result<Slice<'a>, (u64, u64)>| match (place, &self.memory) {
            (Ok(slice), _) => Ok(*slice),
            (Err((at, bytes)), Some(memory)) => memory.slice(*at, *bytes),
            // Only columns without elements take no memory.
            (Err(_), None) => Ok(Slice::empty()),
        };
        self.places.iter().map(place).collect()
    }

    /// Takes results to those targets that are on the host.
    pub(crate) fn deliver(&self, session: &Session<'_>, targets: &mut [Target<'_>]) -> Result<(), Failure> {
        for (target, place) in targets.iter_mut().zip(self.slices()?) {
            if let Target::Host(values) = target {
                session.download(&place, as_bytes_mut(values))?;
            }
        }
        Ok(())
    }
}
