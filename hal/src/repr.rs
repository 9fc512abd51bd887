//! The only unsafe code of this crate: types as bytes, and bytes as types.

use halo2curves::bn256::{Fq, Fr, G1Affine};

/// A type whose bytes may be copied to a device and back.
///
/// # Safety
///
/// The type has a fixed size, no padding, no pointers, an alignment of at most 8, and every byte pattern that a device
/// returns after a correct computation is a valid value. Field elements are Montgomery limbs, little-endian; affine points
/// are `x ‖ y`, the identity being all zero.
pub unsafe trait DeviceRepr: Copy + Send + Sync + 'static {}

// SAFETY: plain integers.
unsafe impl DeviceRepr for u8 {}
// SAFETY: plain integers.
unsafe impl DeviceRepr for u32 {}
// SAFETY: plain integers.
unsafe impl DeviceRepr for u64 {}
// SAFETY: `Fr` is one `[u64; 4]`; size and alignment are asserted below.
unsafe impl DeviceRepr for Fr {}
// SAFETY: `Fq` is one `[u64; 4]`; size and alignment are asserted below.
unsafe impl DeviceRepr for Fq {}
// SAFETY: two `Fq`; size and alignment are asserted below, field order by the unit test.
unsafe impl DeviceRepr for G1Affine {}

const _: () = {
    assert!(size_of::<Fr>() == 32 && align_of::<Fr>() <= 8);
    assert!(size_of::<Fq>() == 32 && align_of::<Fq>() <= 8);
    assert!(size_of::<G1Affine>() == 64 && align_of::<G1Affine>() <= 8);
};

/// The bytes of a slice.
pub fn as_bytes<T: DeviceRepr>(values: &[T]) -> &[u8] {
    // SAFETY: `DeviceRepr` has no padding, so every byte is initialised; the length is exact; the borrow is kept.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of a slice, writable: what is written must be valid values of `T` (see [`DeviceRepr`]).
pub fn as_bytes_mut<T: DeviceRepr>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `as_bytes`; the borrow is unique. Any byte pattern is a memory-safe value of a `DeviceRepr` type, all of
    // which are arrays of integers.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// `len` values from the start of a word-aligned store.
pub(crate) fn cast<T: DeviceRepr>(words: &[u64], start: usize, len: usize) -> Option<&[T]> {
    let bytes = start.checked_add(len)?.checked_mul(size_of::<T>())?;
    if bytes > size_of_val(words) || align_of::<T>() > align_of::<u64>() {
        return None;
    }
    // SAFETY: in bounds and aligned, both checked above; `T` is plain data.
    Some(unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<T>().add(start), len) })
}

/// `len` values from the start of a word-aligned store, writable.
pub(crate) fn cast_mut<T: DeviceRepr>(words: &mut [u64], start: usize, len: usize) -> Option<&mut [T]> {
    let bytes = start.checked_add(len)?.checked_mul(size_of::<T>())?;
    if bytes > size_of_val(words) || align_of::<T>() > align_of::<u64>() {
        return None;
    }
    // SAFETY: in bounds and aligned, both checked above; `T` is plain data; the borrow is unique.
    Some(unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<T>().add(start), len) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use halo2curves::group::prime::PrimeCurveAffine;

    #[test]
    fn points_are_x_then_y_and_the_identity_is_zero() {
        let g = G1Affine::generator();
        let bytes = as_bytes(std::slice::from_ref(&g));
        assert_eq!(&bytes[..32], as_bytes(&[g.x]));
        assert_eq!(&bytes[32..], as_bytes(&[g.y]));
        assert!(as_bytes(&[G1Affine::identity()]).iter().all(|b| *b == 0));
    }
}
