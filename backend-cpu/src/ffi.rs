//! What is asked of the operating system and its allocator: huge pages, and that freed memory goes back.
//!
//! A sum over buckets gathers points from all over a table. With pages of 4 KiB a table of 2^20 points (64 MiB) misses the translation
//! buffer at every step, which costs a sixth of a whole multi-scalar multiplication; with pages of 2 MiB it fits. Linux gives them to
//! memory that asks (`/sys/kernel/mm/transparent_hugepage/enabled` is `madvise` or `always`); elsewhere nothing is asked.

/// Asks that the memory of `values`, spare capacity included, be backed by huge pages. A hint that changes no contents; it works best
/// before the memory is written for the first time.
pub(crate) fn prefer_huge_pages<T>(values: &mut Vec<T>) {
    #[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
    {
        use std::ffi::{c_int, c_void};

        unsafe extern "C" {
            fn madvise(start: *mut c_void, len: usize, advice: c_int) -> c_int;
        }
        const MADV_HUGEPAGE: c_int = 14;
        const HUGE: usize = 2 << 20;

        let base = values.as_mut_ptr().cast::<u8>();
        let bytes = values.capacity().saturating_mul(size_of::<T>());
        let skip = base.align_offset(HUGE);
        let len = bytes.saturating_sub(skip) / HUGE * HUGE;
        if len > 0 {
            // SAFETY: the range lies in an allocation of the vector's own, in whole pages; the advice leaves contents alone. Where it is
            // not understood the call fails, and nothing has changed.
            unsafe { madvise(base.wrapping_add(skip).cast(), len, MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(miri))))]
    let _ = values;
}

/// Gives memory that was freed, and that the C library's allocator keeps for later, back to the system. What is taken again costs page
/// faults: for the ends of phases, not for loops. Nothing happens where the allocator has no such call, or is not the one in use.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it may be called at any time from any thread, and touches free memory alone.
        unsafe { malloc_trim(0) };
    }
}
