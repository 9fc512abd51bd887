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
