//! Allocations that fail politely.

use parhelion_backend_api::Error;

use crate::NAME;

/// `len` zeros.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn zeros<T: Default + Clone>(len: usize, what: &'static str) -> Result<Vec<T>, Error> {
    let mut values = room(len, what)?;
    values.resize(len, T::default());
    Ok(values)
}

/// An empty vector with room for `len` values.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn room<T>(len: usize, what: &'static str) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        backend: NAME,
        what,
        requested: (len as u64).saturating_mul(size_of::<T>() as u64),
        free: None,
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_a_typed_error() {
        let error = zeros::<[u64; 4]>(usize::MAX / 64, "test").unwrap_err();
        assert!(error.try_elsewhere(), "{error}");
        assert_eq!(zeros::<u32>(3, "test").unwrap(), [0; 3]);
    }
}
