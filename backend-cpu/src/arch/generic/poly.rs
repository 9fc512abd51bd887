//! Polynomial operations, one element at a time.

use ff::Field;
use halo2curves::bn256::Fr;

/// `out[i] = Σ c_t·p_t[i]` over one block; a term may be shorter than the block (padded with zeros).
pub(crate) fn linear_combination(terms: &[(Fr, &[Fr])], out: &mut [Fr]) {
    out.fill(Fr::ZERO);
    for (factor, p) in terms {
        if *factor == Fr::ONE {
            out.iter_mut().zip(*p).for_each(|(o, v)| *o += v);
        } else {
            out.iter_mut().zip(*p).for_each(|(o, v)| *o += *factor * v);
        }
    }
}

/// `a[i] ← a[i]·b[i]`, equal lengths.
pub(crate) fn multiply(a: &mut [Fr], b: &[Fr]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a *= b);
}

/// `Σ_j p[j]·x^j` over one segment.
pub(crate) fn evaluate(p: &[Fr], x: Fr) -> Fr {
    // Two chains, so that the latency of a product hides.
    let square = x.square();
    let (pairs, rest) = p.as_chunks::<2>();
    let (even, odd) = pairs
        .iter()
        .rev()
        .fold((Fr::ZERO, Fr::ZERO), |(even, odd), [a, b]| (even * square + a, odd * square + b));
    let tail = match rest {
        [last] => x.pow_vartime([(p.len() - 1) as u64]) * last,
        _ => Fr::ZERO,
    };
    even + odd * x + tail
}

/// Inverses of one segment, zero staying zero.
pub(crate) fn batch_invert(values: &mut [Fr]) {
    let mut prefix = Vec::with_capacity(values.len());
    let mut product = Fr::ONE;
    for v in values.iter() {
        prefix.push(product);
        if *v != Fr::ZERO {
            product *= v;
        }
    }
    // A product of non-zero elements.
    let mut inverse = product.invert().unwrap_or(Fr::ZERO);
    for (v, before) in values.iter_mut().zip(prefix).rev() {
        if *v != Fr::ZERO {
            let inverted = inverse * before;
            inverse *= *v;
            *v = inverted;
        }
    }
}

/// The exclusive running product of one segment from `start`; returns the product over all of it.
pub(crate) fn scan(values: &mut [Fr], start: Fr) -> Fr {
    values.iter_mut().fold(start, |product, v| product * std::mem::replace(v, product))
}

/// Division by X − root of one segment, given the quotient's coefficient at its upper end: the segment becomes the quotient's,
/// and the coefficient below it is returned.
pub(crate) fn divide(values: &mut [Fr], root: Fr, top: Fr) -> Fr {
    values.iter_mut().rev().fold(top, |q, v| {
        let below = q * root + *v;
        *v = q;
        below
    })
}

/// `out[i] ← u[i]` of `u[i + 1] = factors[i]·u[i] + summands[i]` from `u[0] = first`; returns the value after the last. Columns are as long as `out`.
pub(crate) fn affine_scan(factors: Option<&[Fr]>, summands: Option<&[Fr]>, first: Fr, out: &mut [Fr]) -> Fr {
    let mut u = first;
    match (factors, summands) {
        (Some(factors), Some(summands)) => {
            for ((out, m), s) in out.iter_mut().zip(factors).zip(summands) {
                *out = u;
                u = u * m + s;
            }
        }
        (Some(factors), None) => {
            for (out, m) in out.iter_mut().zip(factors) {
                *out = u;
                u *= m;
            }
        }
        (None, Some(summands)) => {
            for (out, s) in out.iter_mut().zip(summands) {
                *out = u;
                u += s;
            }
        }
        (None, None) => out.fill(u),
    }
    u
}

/// The map u ↦ m·u + s that a segment of a recurrence is, as (m, s).
pub(crate) fn affine_map(factors: Option<&[Fr]>, summands: Option<&[Fr]>) -> (Fr, Fr) {
    match (factors, summands) {
        (Some(factors), Some(summands)) => factors
            .iter()
            .zip(summands)
            .fold((Fr::ONE, Fr::ZERO), |(m, s), (factor, summand)| (m * factor, s * factor + summand)),
        (Some(factors), None) => (factors.iter().product(), Fr::ZERO),
        (None, Some(summands)) => (Fr::ONE, summands.iter().sum()),
        (None, None) => (Fr::ONE, Fr::ZERO),
    }
}
