//! Columns on their way to the device: host data in staging memory, resident data where it is.

use std::sync::Arc;

use halo2curves::bn256::Fr;
use parhelion_backend_api::Error;
use parhelion_backend_api::hal::{Place, Ref, SpaceId, as_bytes, as_bytes_mut};
use rayon::prelude::*;

use crate::buffer::{Memory, own};
use crate::device::Device;
use crate::error::Failure;
use crate::session::{SCALAR, Session, bytes_of};

/// Bytes that one task copies.
const CHUNK: usize = 1 << 20;

/// Where one column comes from.
#[derive(Debug)]
enum Source {
    /// Bytes of the staging memory.
    Staged { at: usize },
    /// Device memory, from a byte on.
    Resident { memory: Arc<Memory>, at: u64 },
}

/// Columns that the device's thread can read without the caller.
#[derive(Debug)]
pub(crate) struct Columns {
    sources: Vec<(Source, u64)>,
    words: Vec<u64>,
    /// Bytes of a column on the device.
    stride: u64,
}

/// Copies, on several threads where it is worth it: one does not saturate memory.
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from));
}

impl Columns {
    /// Takes columns of at most `len` scalars, to be padded to that length.
    pub(crate) fn read(device: &Arc<Device>, columns: &[Ref<'_, Fr>], len: usize) -> Result<Self, Error> {
        let mut resident = Vec::with_capacity(columns.len());
        for column in columns {
            resident.push(match column.place() {
                Place::Device { raw, start, .. } if raw.space() != SpaceId::HOST => {
                    Some((own(device, raw)?, start as u64 * SCALAR))
                }
                _ => None,
            });
        }
        let staged = columns.iter().zip(&resident).filter(|(_, r)| r.is_none());
        let words = staged.map(|(column, _)| column.len() * 4).sum();
        let mut words = device.staging(words)?;
        let mut at = 0;
        let mut sources = Vec::with_capacity(columns.len());
        for (column, resident) in columns.iter().zip(resident) {
            let bytes = column.len() as u64 * SCALAR;
            let source = match resident {
                Some((memory, at)) => Source::Resident { memory, at },
                None => {
                    let from = as_bytes(column.as_host()?);
                    if let Some(to) = as_bytes_mut(&mut words).get_mut(at..at + from.len()) {
                        copy(from, to);
                    }
                    let source = Source::Staged { at };
                    at += from.len();
                    source
                }
            };
            sources.push((source, bytes));
        }
        Ok(Columns { sources, words, stride: len as u64 * SCALAR })
    }

    /// The columns one after another in fresh device memory, and the staging memory.
    pub(crate) fn fill(self, session: &Session, device: &Arc<Device>) -> Result<(Memory, Vec<u64>), Failure> {
        let total = self.stride.checked_mul(self.sources.len() as u64);
        let total = total.ok_or(Failure::TooLarge { what: "the batch" })?;
        let memory = Memory::alloc(session, device, total, "columns")?;
        for (i, (source, bytes)) in self.sources.iter().enumerate() {
            let start = i as u64 * self.stride;
            let to = memory.slice(start, *bytes)?;
            match source {
                Source::Staged { at } => {
                    let from = bytes_of(&self.words).get(*at..*at + *bytes as usize).unwrap_or_default();
                    session.upload(from, &to)?;
                }
                Source::Resident { memory, at } => session.copy(&memory.slice(*at, *bytes)?, &to)?,
            }
            session.zero(&memory.slice(start + bytes, self.stride - bytes)?)?;
        }
        Ok((memory, self.words))
    }
}
