//! Threads as a foreign program makes them.

use std::ffi::c_void;

/// What the thread runs, and on what.
struct Job<T: 'static>(fn(&'static T), &'static T, bool);

extern "C" fn run<T: 'static>(job: *mut c_void) -> *mut c_void {
    // SAFETY: `on_pthread` passes its own job and waits for this thread, so the job lives and nobody else has it.
    let job = unsafe { &mut *job.cast::<Job<T>>() };
    // A panic must not leave through C.
    job.2 = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (job.0)(job.1))).is_ok();
    std::ptr::null_mut()
}

/// Runs a function on a thread that the C library made, and waits for it.
pub(crate) fn on_pthread<T: Sync + 'static>(f: fn(&'static T), on: &'static T) {
    let mut job = Job(f, on, false);
    // SAFETY: a thread identifier is plain data, and is written before it is read.
    let mut thread: libc::pthread_t = unsafe { std::mem::zeroed() };
    // SAFETY: the job outlives the thread, which is joined below.
    let made =
        unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), run::<T>, (&raw mut job).cast()) };
    assert_eq!(made, 0, "no thread");
    // SAFETY: the thread was made above and is joined once.
    let joined = unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    assert_eq!(joined, 0);
    assert!(job.2, "the thread panicked");
}
