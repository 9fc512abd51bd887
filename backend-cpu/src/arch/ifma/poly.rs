//! Polynomial operations, eight elements at a time.
//!
//! Recurrences (running products, division, evaluation) are cut into segments: each lane walks a segment of its own, then the segments
//! are joined by a short scan on the host's scalars.

use halo2curves::bn256::Fr;
use halo2curves::ff::Field;
use parhelion_backend_api::hal::as_bytes_mut;

use super::field::{FrModulus, V8, split};
use super::ntt::sixteen;
use crate::arch::generic::field::{Words, words};

type V = V8<FrModulus>;

fn from_words(w: &Words) -> Fr {
    let mut out = [Fr::ZERO];
    for (bytes, word) in as_bytes_mut(&mut out).chunks_exact_mut(8).zip(w) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    out[0]
}

macro_rules! simd {
    ($(#[$attr:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$attr])*
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
        $vis fn $($rest)*
    };
}

simd! {
/// `out[i] = Σ c_t·p_t[i]` over one block; a term may be shorter than the block (padded with zeros).
pub(crate) fn linear_combination(terms: &[(Fr, &[Words])], out: &mut [Words]) {
    let factors: Vec<[u64; 5]> = terms.iter().map(|(c, _)| split(words(*c * sixteen()))).collect();
    let mut at = 0;
    for rows in out.chunks_mut(8) {
        let mut acc = V::zero();
        let mut pending = 0;
        for ((_, p), c) in terms.iter().zip(&factors) {
            let x = match p.get(at..at + 8).and_then(|x| x.first_chunk::<8>()) {
                Some(x) => V::load(x),
                None if at >= p.len() => continue,
                None => {
                    let mut padded = [[0; 4]; 8];
                    padded[..p.len() - at].copy_from_slice(&p[at..]);
                    V::load(&padded)
                }
            };
            acc = acc.add_lazy(x.mul(V::splat(*c)));
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
/// `a[i] ← a[i]·b[i]`, equal lengths.
pub(crate) fn multiply(a: &mut [Words], b: &[Words]) {
    let (a8, a_rest) = a.as_chunks_mut::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter_mut().zip(b8) {
        V::load(a).mul(V::load_shifted(b)).canonical().store(a);
    }
    for (a, b) in a_rest.iter_mut().zip(b_rest) {
        *a = words(from_words(a) * from_words(b));
    }
}}

simd! {
/// `Σ_j p[j]·x^j` over one segment.
pub(crate) fn evaluate(p: &[Words], x: Fr) -> Fr {
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
        heads = lanes.iter().rev().fold(heads, |t, w| t * x + from_words(w));
    }
    let tail = rest.iter().rev().fold(Fr::ZERO, |t, w| t * x + from_words(w));
    heads + tail * x.pow_vartime([(blocks.len() * 32) as u64])
}}

simd! {
/// Inverses of one segment, zero staying zero. `scratch` is reused between calls.
pub(crate) fn batch_invert(values: &mut [Words], scratch: &mut Vec<V>) {
    let (eights, rest) = values.as_chunks_mut::<8>();
    scratch.clear();
    let one = V::splat(split(words(Fr::ONE * sixteen())));
    let mut acc = one;
    // In 2^260 form; zero lanes count as one.
    for eight in eights.iter() {
        scratch.push(acc);
        let x = V::load_shifted(eight).nonzero_or(eight, one);
        acc = acc.mul(x);
    }
    let mut lanes = [[0; 4]; 8];
    acc.canonical().store(&mut lanes);
    for lane in &mut lanes {
        // The lane holds 16·(boundary form of y) = boundary form of 16y; its inverse times 16² is the 2^260 form of y⁻¹.
        let y = from_words(lane).invert().unwrap_or(Fr::ZERO) * Fr::from(256);
        *lane = words(y);
    }
    let mut inverse = V::load(&lanes);
    let out_of = V::splat(split(words(Fr::ONE)));
    for (eight, prefix) in eights.iter_mut().zip(scratch.iter()).rev() {
        let zero = eight.map(|w| w == [0; 4]);
        let x = V::load_shifted(eight).nonzero_or(eight, one);
        let value = inverse.mul(*prefix).mul(out_of).canonical();
        inverse = inverse.mul(x);
        value.store(eight);
        for (slot, zero) in eight.iter_mut().zip(zero) {
            if zero {
                *slot = [0; 4];
            }
        }
    }
    for w in rest {
        *w = words(from_words(w).invert().unwrap_or(Fr::ZERO));
    }
}}

/// Lanes of a recurrence: eight segments of equal length, side by side.
fn segment(values: &[Words], len: usize, t: usize) -> [Words; 8] {
    std::array::from_fn(|lane| values[lane * len + t])
}

simd! {
/// Products of eight consecutive segments of `len` elements each.
pub(crate) fn segment_products(values: &[Words], len: usize) -> [Fr; 8] {
    let mut acc = V::splat(split(words(Fr::ONE * sixteen())));
    for t in 0..len {
        acc = V::load(&segment(values, len, t)).mul(acc);
        // `acc` is in boundary form after the first product; times 16 it is in 2^260 form again.
        acc = acc.add_lazy(acc).add_lazy(acc.add_lazy(acc));
        acc = acc.add_lazy(acc).add_lazy(acc.add_lazy(acc)).carry();
    }
    let mut lanes = [[0; 4]; 8];
    acc.mul(V::splat(split(words(Fr::ONE)))).canonical().store(&mut lanes);
    std::array::from_fn(|i| from_words(&lanes[i]))
}}

simd! {
/// Exclusive running products of eight consecutive segments, each from its own start.
pub(crate) fn segment_scan(values: &mut [Words], len: usize, starts: [Fr; 8]) {
    let starts: [Words; 8] = std::array::from_fn(|i| words(starts[i]));
    // Boundary form throughout: the running value is stored, and times 16 it is the second operand.
    let mut acc = V::load(&starts);
    for t in 0..len {
        let x = V::load_shifted(&segment(values, len, t));
        let mut lanes = [[0; 4]; 8];
        acc.canonical().store(&mut lanes);
        for (lane, w) in lanes.iter().enumerate() {
            values[lane * len + t] = *w;
        }
        acc = acc.mul(x);
    }
}}

simd! {
/// `q[i] = p[i+1] + root·q[i+1]` over eight consecutive segments, from the top of each; `tops[s]` is q at the segment's end. Replaces p by
/// the values *below* each index, that is segment element i becomes q[i] as defined with q[len−1] = `tops`.
pub(crate) fn segment_divide(values: &mut [Words], len: usize, root: Fr, tops: [Fr; 8]) {
    let tops: [Words; 8] = std::array::from_fn(|i| words(tops[i]));
    let factor = V::splat(split(words(root * sixteen())));
    let mut q = V::load(&tops);
    for t in (0..len).rev() {
        let p = V::load(&segment(values, len, t));
        let mut lanes = [[0; 4]; 8];
        q.canonical().store(&mut lanes);
        for (lane, w) in lanes.iter().enumerate() {
            values[lane * len + t] = *w;
        }
        // Below 2p + p.
        q = q.mul(factor).add_lazy(p).carry().reduce();
    }
}}
