//! Polynomial operations, eight elements at a time.
//!
//! In a recurrence each lane walks a segment of its own.

use halo2curves::bn256::Fr;
use halo2curves::ff::Field;

use super::Token;
use super::field::{FrModulus, V8, split};
use super::ntt::sixteen;
use crate::arch::generic;
use crate::arch::generic::field::{Words, as_words, as_words_mut, element, words};

type V = V8<FrModulus>;

/// Segments that a recurrence walks side by side.
pub(crate) const LANES: usize = 8;

macro_rules! simd {
    ($(#[$attr:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$attr])*
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
        $vis fn $($rest)*
    };
}

/// As [`generic::poly::linear_combination`].
pub(crate) fn linear_combination(_: Token, terms: &[(Fr, &[Fr])], out: &mut [Fr]) {
    // SAFETY: a token proves that the instructions are there.
    unsafe { linear_combination_inner(terms, out) }
}

/// As [`generic::poly::multiply`].
pub(crate) fn multiply(_: Token, a: &mut [Fr], b: &[Fr]) {
    // SAFETY: as above.
    unsafe { multiply_inner(a, b) }
}

/// As [`generic::poly::evaluate`].
pub(crate) fn evaluate(_: Token, p: &[Fr], x: Fr) -> Fr {
    // SAFETY: as above.
    unsafe { evaluate_inner(as_words(p), x) }
}

/// As [`generic::poly::batch_invert`].
pub(crate) fn batch_invert(_: Token, values: &mut [Fr]) {
    // SAFETY: as above.
    unsafe { batch_invert_inner(values) }
}

/// Products of eight consecutive segments of equal length.
pub(crate) fn products(_: Token, values: &[Fr]) -> [Fr; LANES] {
    // SAFETY: as above.
    unsafe { products_inner(as_words(values)) }
}

/// Values at `x` of eight consecutive segments of equal length.
pub(crate) fn values(_: Token, segments: &[Fr], x: Fr) -> [Fr; LANES] {
    // SAFETY: as above.
    unsafe { values_inner(as_words(segments), x) }
}

/// Exclusive running products of eight consecutive segments of equal length, each from its own start.
pub(crate) fn scan(_: Token, values: &mut [Fr], starts: &[Fr]) {
    // SAFETY: as above.
    unsafe { scan_inner(as_words_mut(values), starts) }
}

/// [`generic::poly::divide`] of eight consecutive segments of equal length.
pub(crate) fn divide(_: Token, values: &mut [Fr], root: Fr, tops: &[Fr]) {
    // SAFETY: as above.
    unsafe { divide_inner(as_words_mut(values), root, tops) }
}

simd! {
fn linear_combination_inner(terms: &[(Fr, &[Fr])], out: &mut [Fr]) {
    let factors: Vec<[u64; 5]> = terms.iter().map(|(c, _)| split(words(*c * sixteen()))).collect();
    let mut at = 0;
    for rows in as_words_mut(out).chunks_mut(8) {
        let mut acc = V::zero();
        let mut pending = 0;
        for ((c, p), factor) in terms.iter().zip(&factors) {
            let p = as_words(p);
            let x = match p.get(at..).unwrap_or(&[]) {
                [] => continue,
                p => match p.first_chunk::<8>() {
                    Some(x) => V::load(x),
                    None => {
                        let mut padded = [[0; 4]; 8];
                        padded[..p.len()].copy_from_slice(p);
                        V::load(&padded)
                    }
                },
            };
            acc = acc.add_lazy(if *c == Fr::ONE { x } else { x.mul(V::splat(*factor)) });
            pending += 1;
            // Each product is below 2p, the sum must stay below 84p.
            if pending == 40 {
                acc = acc.carry().reduce();
                pending = 1;
            }
        }
        let sum = acc.carry().reduce().canonical();
        match rows.first_chunk_mut::<8>() {
            Some(rows) => sum.store(rows),
            None => {
                let mut padded = [[0; 4]; 8];
                sum.store(&mut padded);
                let len = rows.len();
                rows.copy_from_slice(&padded[..len]);
            }
        }
        at += 8;
    }
}}

simd! {
fn multiply_inner(a: &mut [Fr], b: &[Fr]) {
    let whole = a.len() / 8 * 8;
    let (a8, _) = as_words_mut(a).as_chunks_mut::<8>();
    let (b8, _) = as_words(b).as_chunks::<8>();
    for (a, b) in a8.iter_mut().zip(b8) {
        V::load(a).mul(V::load_shifted(b)).canonical().store(a);
    }
    generic::poly::multiply(&mut a[whole..], &b[whole..]);
}}

simd! {
fn evaluate_inner(p: &[Words], x: Fr) -> Fr {
    // Four chains of eight lanes, so that the latency of a product hides.
    let (blocks, rest) = p.as_chunks::<32>();
    let x8 = x.square().square().square();
    let x32 = x8.square().square();
    let step = V::splat(split(words(x32 * sixteen())));
    let mut acc = [V::zero(); 4];
    for block in blocks.iter().rev() {
        let (eights, _) = block.as_chunks::<8>();
        for (acc, eight) in acc.iter_mut().zip(eights) {
            *acc = acc.mul(step).add_lazy(V::load(eight)).carry();
        }
    }
    let mut heads = Fr::ZERO;
    for acc in acc.iter().rev() {
        let mut lanes = [[0; 4]; 8];
        acc.reduce().canonical().store(&mut lanes);
        heads = lanes.iter().rev().fold(heads, |t, w| t * x + element(w));
    }
    let tail = rest.iter().rev().fold(Fr::ZERO, |t, w| t * x + element(w));
    if rest.is_empty() { heads } else { heads + tail * x.pow_vartime([(blocks.len() * 32) as u64]) }
}}

simd! {
fn batch_invert_inner(values: &mut [Fr]) {
    let whole = values.len() / 8 * 8;
    let (eights, _) = as_words_mut(&mut values[..whole]).as_chunks_mut::<8>();
    let one = V::splat(split(words(sixteen())));
    let mut prefix = Vec::with_capacity(eights.len());
    let mut product = one;
    // In 2^260 form; zero lanes count as one.
    for eight in eights.iter() {
        prefix.push(product);
        product = product.mul(V::load_shifted(eight).nonzero_or(eight, one));
    }
    let mut lanes = [[0; 4]; 8];
    product.canonical().store(&mut lanes);
    // Lanes are 16·(boundary form of y), which reads as 16y; its inverse times 16² is the 2^260 form of y⁻¹.
    let mut ends = lanes.map(|lane| element(&lane));
    generic::poly::batch_invert(&mut ends);
    let lanes = ends.map(|end| words(end * Fr::from(256)));
    let mut inverse = V::load(&lanes);
    let out_of = V::splat(split(words(Fr::ONE)));
    for (eight, prefix) in eights.iter_mut().zip(&prefix).rev() {
        let x = V::load_shifted(eight).nonzero_or(eight, one);
        let inverted = inverse.mul(*prefix).mul(out_of).canonical().nonzero_or(eight, V::zero());
        inverse = inverse.mul(x);
        inverted.store(eight);
    }
    generic::poly::batch_invert(&mut values[whole..]);
}}

simd! {
fn products_inner(values: &[Words]) -> [Fr; LANES] {
    let len = values.len() / LANES;
    // In 2^260 form, like the shifted loads.
    let mut product = V::splat(split(words(sixteen())));
    for t in 0..len {
        product = product.mul(V::load_strided_shifted(&values[t..], len));
    }
    let mut lanes = [[0; 4]; 8];
    product.mul(V::splat(split(words(Fr::ONE)))).canonical().store(&mut lanes);
    lanes.map(|lane| element(&lane))
}}

simd! {
fn values_inner(segments: &[Words], x: Fr) -> [Fr; LANES] {
    let len = segments.len() / LANES;
    let factor = V::splat(split(words(x * sixteen())));
    let mut value = V::zero();
    for t in (0..len).rev() {
        value = value.mul(factor).add_lazy(V::load_strided(&segments[t..], len)).carry();
    }
    let mut lanes = [[0; 4]; 8];
    value.reduce().canonical().store(&mut lanes);
    lanes.map(|lane| element(&lane))
}}

simd! {
fn scan_inner(values: &mut [Words], starts: &[Fr]) {
    let len = values.len() / LANES;
    let starts: [Words; 8] = std::array::from_fn(|i| words(starts[i]));
    // The running product stays in boundary form: its factors are in 2^260 form.
    let mut product = V::load(&starts);
    for t in 0..len {
        let values = &mut values[t..];
        let x = V::load_strided_shifted(values, len);
        product.canonical().store_strided(values, len);
        product = product.mul(x);
    }
}}

simd! {
fn divide_inner(values: &mut [Words], root: Fr, tops: &[Fr]) {
    let len = values.len() / LANES;
    let tops: [Words; 8] = std::array::from_fn(|i| words(tops[i]));
    let factor = V::splat(split(words(root * sixteen())));
    let mut q = V::load(&tops);
    for t in (0..len).rev() {
        let values = &mut values[t..];
        let p = V::load_strided(values, len);
        q.canonical().store_strided(values, len);
        // Below 2p + p before the reduction.
        q = q.mul(factor).add_lazy(p).carry().reduce();
    }
}}
