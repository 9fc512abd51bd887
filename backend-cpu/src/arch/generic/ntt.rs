//! Transforms on 64-bit words: decimation in time, depth first, four transforms combined at a time.
//!
//! Values stay below 4p between levels (Harvey, "Faster arithmetic for number-theoretic transforms"). A coset shift c costs nothing
//! forward: f(x) = f₀(x²) + x·f₁(x²), so the level that combines two transforms uses x = c·ω^k and the levels below use c².

use std::sync::Arc;

use ff::{Field, PrimeField};
use halo2curves::bn256::Fr;
use parhelion_backend_api::Error;
use rayon::prelude::*;

use super::field::{Words, add, canonical, mul, reduce, sub, words};
use crate::memory::zeros;

/// Transforms up to this size run level by level in the first-level cache.
const LEAF: usize = 1 << 10;
/// Transforms from this size on are split over threads.
const PARALLEL: usize = 1 << 12;

/// Twiddles of one size, direction and coset: the level that combines transforms of h points has its h factors at h.., index 0 is
/// unused.
#[derive(Debug)]
pub(crate) struct Plan {
    log_n: u32,
    factors: Arc<Vec<Words>>,
    shifted: bool,
    /// What results are multiplied by: the i-th by first·ratio^i.
    output: Option<(Fr, Fr)>,
}

impl Plan {
    /// A plan for 2^`log_n` points: forward, on the coset with a shift if there is one, or inverse.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn new(log_n: u32, inverse: bool, shift: Option<Fr>) -> Result<Self, Error> {
        let root = (log_n..Fr::S).fold(Fr::ROOT_OF_UNITY, |w, _| w.square());
        let omega = if inverse { root.pow_vartime([(1u64 << log_n) - 1]) } else { root };
        let mut factors = zeros(1 << log_n, "ntt twiddles")?;
        let (mut w, mut c) = (omega, shift.unwrap_or(Fr::ONE));
        for level in (0..log_n).rev() {
            let h = 1usize << level;
            let strip = h.div_ceil(rayon::current_num_threads()).max(1 << 10);
            factors[h..2 * h].par_chunks_mut(strip).enumerate().for_each(|(i, slots)| {
                let mut x = c * w.pow_vartime([(i * strip) as u64]);
                for slot in slots {
                    *slot = words(x);
                    x *= w;
                }
            });
            w = w.square();
            c = c.square();
        }
        let output = inverse.then(|| (Fr::TWO_INV.pow_vartime([u64::from(log_n)]), Fr::ONE));
        Ok(Plan { log_n, factors: Arc::new(factors), shifted: shift.is_some(), output })
    }

    /// This inverse plan on the coset with a shift, which changes nothing but what results are multiplied by.
    pub(crate) fn on_coset(&self, shift: Fr) -> Self {
        // A zero shift is refused at the trait boundary.
        let ratio = Option::from(shift.invert()).unwrap_or(Fr::ONE);
        let output = self.output.map(|(first, _)| (first, ratio));
        Plan { log_n: self.log_n, factors: self.factors.clone(), shifted: self.shifted, output }
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.factors.len() * size_of::<Words>()
    }

    /// In place, natural order on both sides.
    pub(crate) fn transform(&self, a: &mut [Words]) {
        reverse_in_place(a, self.log_n);
        self.levels(a);
        self.finish(a);
    }

    /// Out of place; `from` may be shorter: it is padded with zeros.
    pub(crate) fn transform_into(&self, from: &[Words], to: &mut [Words]) {
        let shift = usize::BITS - self.log_n;
        let fill = |start: usize, to: &mut [Words]| {
            for (i, slot) in to.iter_mut().enumerate() {
                let at = if self.log_n == 0 { 0 } else { (start + i).reverse_bits() >> shift };
                *slot = from.get(at).copied().unwrap_or([0; 4]);
            }
        };
        if to.len() < PARALLEL {
            fill(0, to);
        } else {
            to.par_chunks_mut(LEAF).enumerate().for_each(|(i, to)| fill(i * LEAF, to));
        }
        self.levels(to);
        self.finish(to);
    }

    /// Bit-reversed input, natural output below 4p.
    fn levels(&self, a: &mut [Words]) {
        let n = a.len();
        if n <= LEAF {
            self.leaf(a);
            return;
        }
        let quarter = n / 4;
        if n < PARALLEL {
            a.chunks_exact_mut(quarter).for_each(|a| self.levels(a));
        } else {
            a.par_chunks_exact_mut(quarter).for_each(|a| self.levels(a));
        }
        let (x0, rest) = a.split_at_mut(quarter);
        let (x1, rest) = rest.split_at_mut(quarter);
        let (x2, x3) = rest.split_at_mut(quarter);
        let (f1, f2) = (&self.factors[quarter..2 * quarter], &self.factors[2 * quarter..]);
        let (f2, f3) = (&f2[..quarter], &f2[quarter..2 * quarter]);
        if n < PARALLEL {
            combine(x0, x1, x2, x3, f1, f2, f3);
        } else {
            let strip = (quarter / 16).clamp(LEAF / 4, 1 << 13);
            let left = x0.par_chunks_mut(strip).zip(x1.par_chunks_mut(strip));
            let right = x2.par_chunks_mut(strip).zip(x3.par_chunks_mut(strip));
            let factors = f1.par_chunks(strip).zip(f2.par_chunks(strip)).zip(f3.par_chunks(strip));
            left.zip(right).zip(factors).for_each(|(((x0, x1), (x2, x3)), ((f1, f2), f3))| {
                combine(x0, x1, x2, x3, f1, f2, f3);
            });
        }
    }

    fn leaf(&self, a: &mut [Words]) {
        let n = a.len();
        let mut h = 1;
        // An odd level first, so that the rest pair up.
        if n.trailing_zeros() % 2 == 1 {
            for [x, y] in a.as_chunks_mut::<2>().0 {
                let b = if self.shifted { mul(y, &self.factors[1]) } else { *y };
                (*x, *y) = (add(x, &b), sub(x, &b));
            }
            h = 2;
        } else if n >= 4 && !self.shifted {
            // The first two levels have one factor other than 1.
            let quarter_turn = &self.factors[3];
            for [x0, x1, x2, x3] in a.as_chunks_mut::<4>().0 {
                let (y0, y1) = (reduce(&add(x0, x1)), reduce(&sub(x0, x1)));
                let (y2, y3) = (reduce(&add(x2, x3)), mul(&sub(x2, x3), quarter_turn));
                (*x0, *x2) = (add(&y0, &y2), sub(&y0, &y2));
                (*x1, *x3) = (add(&y1, &y3), sub(&y1, &y3));
            }
            h = 4;
        }
        while h < n {
            let (f1, rest) = self.factors[h..4 * h].split_at(h);
            let (f2, f3) = rest.split_at(h);
            for block in a.chunks_exact_mut(4 * h) {
                let (x0, rest) = block.split_at_mut(h);
                let (x1, rest) = rest.split_at_mut(h);
                let (x2, x3) = rest.split_at_mut(h);
                combine(x0, x1, x2, x3, f1, f2, f3);
            }
            h *= 4;
        }
    }

    /// Scales and makes canonical.
    fn finish(&self, a: &mut [Words]) {
        let finish = |start: usize, a: &mut [Words]| match self.output {
            None => a.iter_mut().for_each(|x| *x = canonical(x)),
            Some((first, ratio)) if ratio == Fr::ONE => {
                let first = words(first);
                a.iter_mut().for_each(|x| *x = canonical(&mul(x, &first)));
            }
            Some((first, ratio)) => {
                let mut power = first * ratio.pow_vartime([start as u64]);
                for x in a {
                    *x = canonical(&mul(x, &words(power)));
                    power *= ratio;
                }
            }
        };
        if a.len() < PARALLEL {
            finish(0, a);
        } else {
            a.par_chunks_mut(LEAF).enumerate().for_each(|(i, a)| finish(i * LEAF, a));
        }
    }
}

/// Two levels at once over equal slices: values below 4p in and out.
fn combine(
    x0: &mut [Words],
    x1: &mut [Words],
    x2: &mut [Words],
    x3: &mut [Words],
    f1: &[Words],
    f2: &[Words],
    f3: &[Words],
) {
    let left = x0.iter_mut().zip(x1);
    let right = x2.iter_mut().zip(x3);
    for (((x0, x1), (x2, x3)), ((f1, f2), f3)) in left.zip(right).zip(f1.iter().zip(f2).zip(f3)) {
        let (a0, a2) = (reduce(x0), reduce(x2));
        let (b1, b3) = (mul(x1, f1), mul(x3, f1));
        let (y0, y1) = (reduce(&add(&a0, &b1)), reduce(&sub(&a0, &b1)));
        let (y2, y3) = (add(&a2, &b3), sub(&a2, &b3));
        let (z2, z3) = (mul(&y2, f2), mul(&y3, f3));
        (*x0, *x2) = (add(&y0, &z2), sub(&y0, &z2));
        (*x1, *x3) = (add(&y1, &z3), sub(&y1, &z3));
    }
}

/// A pointer through which threads write disjoint elements.
#[derive(Clone, Copy)]
struct Shared(*mut Words);
// SAFETY: used only inside `reverse_in_place`, which holds the unique borrow; see there.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, i: usize) -> *mut Words {
        self.0.wrapping_add(i)
    }
}

fn reverse_in_place(a: &mut [Words], log_n: u32) {
    if log_n < 2 {
        return;
    }
    let n = a.len();
    assert_eq!(n, 1 << log_n, "a power of two, by the checks of the trait");
    let shared = Shared(a.as_mut_ptr());
    let run = |start: usize, end: usize| {
        for i in start..end {
            let j = i.reverse_bits() >> (usize::BITS - log_n);
            if i < j {
                // SAFETY: i and j are below n. Each unordered pair {i, j} is visited for i < j alone, hence by one thread.
                unsafe { std::ptr::swap(shared.at(i), shared.at(j)) };
            }
        }
    };
    if n < PARALLEL {
        run(0, n);
    } else {
        (0..n / LEAF).into_par_iter().for_each(|i| run(i * LEAF, (i + 1) * LEAF));
    }
}
