//! Integers, magnitudes and field elements.

use halo2_axiom::halo2curves::bn256::Fr;

/// The field element of a signed integer.
pub(crate) fn fr(x: i128) -> Fr {
    let magnitude = Fr::from_u128(x.unsigned_abs());
    if x < 0 { -magnitude } else { magnitude }
}

/// Field elements from 128-bit integers without a detour through bytes.
trait FromU128 {
    fn from_u128(x: u128) -> Self;
}

impl FromU128 for Fr {
    fn from_u128(x: u128) -> Self {
        let low = Fr::from(x as u64);
        let high = (x >> 64) as u64;
        if high == 0 { low } else { low + Fr::from(high) * Fr::from(1 << 32) * Fr::from(1 << 32) }
    }
}

/// Number of bits of the smallest unsigned or two's-complement range that holds `[lo, hi]`, and whether it is signed.
pub(crate) fn hull(lo: i128, hi: i128) -> (bool, u32) {
    let bits = |x: i128| 128 - x.leading_zeros();
    if lo >= 0 { (false, bits(hi).max(1)) } else { (true, bits(hi.max(0)).max(bits(-1 - lo)) + 1) }
}

/// Floor of the square root.
pub(crate) fn isqrt(x: i128) -> i128 {
    if x <= 0 {
        return 0;
    }
    let mut root = (x as f64).sqrt() as i128;
    while root * root > x {
        root -= 1;
    }
    while (root + 1) * (root + 1) <= x {
        root += 1;
    }
    root
}

#[cfg(test)]
mod tests {
    use ff::Field;

    use super::*;

    #[test]
    fn hulls() {
        assert_eq!(hull(0, 0), (false, 1));
        assert_eq!(hull(0, 255), (false, 8));
        assert_eq!(hull(-1, 0), (true, 1));
        assert_eq!(hull(-128, 127), (true, 8));
        assert_eq!(hull(-129, 0), (true, 9));
        assert_eq!(hull(-129, -120), (true, 9));
    }

    #[test]
    fn field_elements_of_integers() {
        assert_eq!(fr(-1) + fr(1), Fr::ZERO);
        assert_eq!(fr(1 << 100), fr(1 << 50) * fr(1 << 50));
        assert_eq!(isqrt(99), 9);
        assert_eq!(isqrt(100), 10);
        assert_eq!(isqrt((1 << 62) - 1), 2_147_483_647);
    }
}
