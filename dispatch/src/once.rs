//! A value that is made once, by whoever asks first, wherever they ask from.
//!
//! Preparing bases or compiling programs is long, works in parallel, and is wanted by many threads at once, some of which may be workers of rayon's
//! pool: somebody proves many statements in a parallel iterator. With a lock around the work, or a wait for it, that ends in a deadlock. A worker
//! that waits for a part of parallel work takes up another task meanwhile; if that task waits for the value, and the part beneath it on the
//! same stack belongs to the making of the value, neither ever ends.
//!
//! So the value is made by a pool of its own, on a thread apart: its making depends on no worker that anybody may wait on, and whoever waits may simply
//! wait.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
enum State<T> {
    Empty,
    Making,
    Ready(T),
}

/// A value that is made once. A failure leaves it unmade, for the next to try.
pub struct Once<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once { state: Mutex::new(State::Empty), changed: Condvar::new() }
    }
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.lock() {
            State::Empty => "not made",
            State::Making => "being made",
            State::Ready(_) => "made",
        };
        write!(f, "Once({state})")
    }
}

/// Ends [`State::Making`] when the maker fails or panics.
struct Undo<'a, T>(&'a Once<T>);

impl<T> Drop for Undo<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Making) {
            *state = State::Empty;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl<T> Once<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is made, or being made.
    pub fn is_underway(&self) -> bool {
        !matches!(*self.lock(), State::Empty)
    }
}

impl<T: Clone + Send> Once<T> {
    /// The value, and how long it took to get it; zero when it was there.
    ///
    /// # Errors
    /// That of `make`.
    pub fn get_or_make<E: Send>(
        &self,
        make: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<(T, Duration), E> {
        let start = Instant::now();
        let mut waited = false;
        let mut state = self.lock();
        loop {
            match &*state {
                State::Ready(value) => {
                    let took = if waited { start.elapsed() } else { Duration::ZERO };
                    return Ok((value.clone(), took));
                }
                State::Empty => break,
                State::Making => {
                    waited = true;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        *state = State::Making;
        drop(state);
        let undo = Undo(self);
        let made = apart(make)?;
        *self.lock() = State::Ready(made.clone());
        drop(undo);
        Ok((made, start.elapsed()))
    }
}

/// Runs a closure on a thread and a pool of its own. The caller takes up nothing else meanwhile.
fn apart<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let threads = rayon::current_num_threads();
    thread::scope(|scope| {
        let thread = scope.spawn(|| match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => pool.install(f),
            // Without threads to be had, alone.
            Err(_) => f(),
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    /// Fails, instead of hanging, when `f` does not end.
    fn within(limit: Duration, f: impl FnOnce() + Send + 'static) {
        let (done, end) = mpsc::channel();
        thread::spawn(move || {
            f();
            let _ = done.send(());
        });
        end.recv_timeout(limit).expect("a deadlock, or a panic");
    }

    /// Long, and parallel.
    fn make(count: &AtomicU32) -> Result<u64, ()> {
        count.fetch_add(1, Ordering::SeqCst);
        let sum = (0..64u64).into_par_iter().map(|i| {
            thread::sleep(Duration::from_millis(1));
            i
        });
        Ok(sum.sum())
    }

    #[test]
    fn workers_of_any_pool_and_other_threads_get_one_value() {
        for threads in [1, 2, 4] {
            within(Duration::from_secs(60), move || {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (once, count) = (Arc::new(Once::<u64>::default()), Arc::new(AtomicU32::new(0)));
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| assert_eq!(once.get_or_make(|| make(&count)).unwrap().0, 2016));
                    }
                    pool.install(|| {
                        (0..16).into_par_iter().for_each(|_| {
                            // Tasks that ask for the value while others wait for parallel work of their own.
                            let mine: u64 = (0..8u64).into_par_iter().sum();
                            assert_eq!(mine, 28);
                            assert_eq!(once.get_or_make(|| make(&count)).unwrap().0, 2016);
                        });
                    });
                });
                assert_eq!(count.load(Ordering::SeqCst), 1, "made more than once");
            });
        }
    }

    #[test]
    fn a_failure_and_a_panic_leave_it_to_the_next() {
        let once = Once::<u32>::default();
        assert_eq!(once.get_or_make(|| Err::<u32, _>("no")).map(|(v, _)| v), Err("no"));
        assert!(!once.is_underway());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            once.get_or_make(|| -> Result<u32, ()> { panic!("broken") })
        }));
        assert!(panicked.is_err());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.install(|| once.get_or_make(|| -> Result<u32, ()> { panic!("broken") }))
        }));
        assert!(panicked.is_err() && !once.is_underway());
        assert_eq!(once.get_or_make(|| Ok::<_, ()>(7)).unwrap().0, 7);
        assert_eq!(once.get_or_make(|| Ok::<_, ()>(8)), Ok((7, Duration::ZERO)));
    }
}
