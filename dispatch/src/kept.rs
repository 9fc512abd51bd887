//! Copies of host columns that a device keeps for whoever asks again, until somebody needs the room.
//!
//! A proving key's columns are worth keeping from proof to proof, but not worth a failure: a process that serves many keys has more of them than the
//! device has memory. So copies belong to an [`Owner`], and give way, least recently used first, when an allocation or an operation would not fit.
//! What somebody holds at the moment stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use parhelion_backend_api::hal::{Buffer, DeviceRepr};

/// Whose copies they are: equal only to itself and its clones. They go when the last clone does.
#[derive(Clone, Debug, Default)]
pub struct Owner(Arc<()>);

#[derive(Debug)]
struct Entry<F> {
    owner: Weak<()>,
    name: u64,
    buffer: Arc<Buffer<F>>,
}

/// The copies on one device, most recently used last.
#[derive(Debug)]
pub(crate) struct Kept<F>(Mutex<Vec<Entry<F>>>);

impl<F> Default for Kept<F> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

fn bytes<F: DeviceRepr>(buffer: &Buffer<F>) -> u64 {
    (buffer.len() as u64).saturating_mul(size_of::<F>() as u64)
}

impl<F: DeviceRepr> Kept<F> {
    /// Buffers are dropped by callers, outside of the lock: dropping one may wait for the device.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry<F>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, owner: &Owner, name: u64) -> Option<Arc<Buffer<F>>> {
        let mut entries = self.lock();
        let at = entries.iter().position(|e| e.name == name && e.owner.as_ptr() == Arc::as_ptr(&owner.0))?;
        let entry = entries.remove(at);
        let buffer = entry.buffer.clone();
        entries.push(entry);
        Some(buffer)
    }

    /// Keeps a buffer, unless somebody was faster.
    pub(crate) fn put(&self, owner: &Owner, name: u64, buffer: Buffer<F>) -> Arc<Buffer<F>> {
        if let Some(first) = self.get(owner, name) {
            return first;
        }
        let buffer = Arc::new(buffer);
        self.lock().push(Entry { owner: Arc::downgrade(&owner.0), name, buffer: buffer.clone() });
        buffer
    }

    /// Drops what has no owner any more, and then, least recently used first, what nobody holds, until `least` bytes are free. Returns how many are.
    pub(crate) fn evict(&self, least: u64) -> u64 {
        let mut gone = Vec::new();
        let mut freed = 0;
        let mut entries = self.lock();
        for orphans in [true, false] {
            let mut at = 0;
            while at < entries.len() && (orphans || freed < least) {
                let entry = &entries[at];
                let orphan = entry.owner.strong_count() == 0;
                if Arc::strong_count(&entry.buffer) == 1 && (orphan || !orphans) {
                    freed += bytes(&entry.buffer);
                    gone.push(entries.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        drop(entries);
        drop(gone);
        freed
    }

    /// Bytes that [`Kept::evict`] could free.
    pub(crate) fn evictable(&self) -> u64 {
        let entries = self.lock();
        let idle = entries.iter().filter(|entry| Arc::strong_count(&entry.buffer) == 1);
        idle.map(|entry| bytes(&entry.buffer)).sum()
    }

    /// Bytes of everything.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().iter().map(|entry| bytes(&entry.buffer)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parhelion_backend_api::hal::{HostSpace, Queue};

    fn buffer(len: usize) -> Buffer<u64> {
        Buffer::alloc(&HostSpace, &Queue::host(), len, "kept").unwrap()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_held_stays() {
        let kept = Kept::default();
        let (a, b) = (Owner::default(), Owner::default());
        for name in 0..3 {
            kept.put(&a, name, buffer(10));
        }
        let held = kept.put(&b, 0, buffer(10));
        assert!(kept.get(&b, 1).is_none() && kept.get(&a, 0).is_some(), "0 of a is now the last used");
        assert_eq!((kept.bytes(), kept.evictable()), (320, 240));
        assert_eq!(kept.evict(1), 80);
        assert!(kept.get(&a, 1).is_none() && kept.get(&a, 0).is_some() && kept.get(&a, 2).is_some());
        assert_eq!(kept.evict(u64::MAX), 160, "all but what is held");
        assert_eq!(kept.bytes(), 80);
        drop(held);
        assert_eq!((kept.evict(0), kept.bytes()), (0, 80));
        drop(b);
        assert_eq!((kept.evict(0), kept.bytes()), (80, 0), "what nobody owns goes first and always");
    }

    #[test]
    fn the_first_copy_of_a_column_is_the_only_one() {
        let (kept, owner) = (Kept::default(), Owner::default());
        let first = kept.put(&owner, 7, buffer(3));
        let second = kept.put(&owner, 7, buffer(3));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(kept.bytes(), 24);
    }
}
