//! Loops that use threads only where that pays.
//!
//! Handing work to the pool costs microseconds, and far more when the machine is busy: small operands stay on the calling thread.

use rayon::prelude::*;

/// `f` of every item, in order; on all threads if `parallel`.
pub(crate) fn map<T: Sync, R: Send>(
    parallel: bool,
    items: &[T],
    f: impl Fn(&T) -> R + Sync + Send,
) -> Vec<R> {
    if parallel && items.len() > 1 {
        items.par_iter().with_max_len(1).map(f).collect()
    } else {
        items.iter().map(f).collect()
    }
}

/// `f` on every chunk of `values` with its number; on all threads if there are several.
pub(crate) fn chunks_mut<T: Send>(values: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    if values.len() > len {
        values.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i, chunk));
    } else {
        f(0, values);
    }
}

/// `f` on every chunk of `values` with its number, like [`chunks_mut`], but on all threads only if `parallel`.
pub(crate) fn chunks_mut_if<T: Send>(
    parallel: bool,
    values: &mut [T],
    len: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if parallel {
        chunks_mut(values, len, f);
    } else {
        values.chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
}
