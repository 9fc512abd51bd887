//! Number-theoretic transforms over the scalar field, eight columns of a matrix at a time.
//!
//! # Method
//!
//! Bailey's four-step transform of n = n₁·n₂ points. The input is a matrix of n₁ rows; lanes are eight adjacent columns, so that
//! every load is 256 contiguous bytes and every twiddle factor is one broadcast. Each group of eight columns is transformed in a buffer
//! that stays in the second-level cache (decimation in time, two levels a pass), multiplied by ω^(k₁·j) and stored transposed, element by
//! element; the second step does the same with the other factor and stores eight adjacent results at once. So data crosses memory twice.
//!
//! - Data stay in boundary form (`field` module): twiddles are in 2^260 form.
//! - Twiddles are canonical, so the other operand of a product may be anything below 2^260: no reduction is needed inside a
//!   transform of up to 2^14 points. Sums are carried only before they are multiplied.
//! - A coset shift c costs nothing forward: f(x) = f₀(x²) + x·f₁(x²), so the level that combines two transforms uses x = c·ω^k and the
//!   levels below use c². Shifts by the column number and the factor 1/n of the inverse join the twiddles between the steps.

use halo2curves::bn256::Fr;
use halo2curves::ff::{Field, PrimeField};
use rayon::prelude::*;

use super::Token;
use super::field::{FrModulus, V8, split};

type V = V8<FrModulus>;
pub(crate) use crate::arch::generic::field::Words;
use crate::arch::generic::field::words;

/// Shortest transform that this file does: both factors are at least 8.
pub(crate) const MIN_LOG_N: u32 = 6;

/// A twiddle in 2^260 form, in limbs.
type Twiddle = [u64; 5];

pub(super) fn sixteen() -> Fr {
    Fr::from(16)
}

/// Twiddles of a transform of 2^l points on the coset c·⟨ω⟩, level by level: the level that combines transforms of h points has its h
/// factors at h.., so index 0 is unused.
#[derive(Debug)]
struct Levels {
    log: u32,
    factors: Vec<Twiddle>,
    shifted: bool,
}

impl Levels {
    fn new(log: u32, omega: Fr, shift: Option<Fr>) -> Self {
        let n = 1usize << log;
        let mut factors = vec![[0; 5]; n];
        let (mut w, mut c) = (omega, shift.unwrap_or(Fr::ONE) * sixteen());
        let mut c_plain = shift.unwrap_or(Fr::ONE);
        for level in (0..log).rev() {
            let h = 1usize << level;
            let mut x = c;
            for slot in &mut factors[h..2 * h] {
                *slot = split(words(x));
                x *= w;
            }
            w = w.square();
            c_plain = c_plain.square();
            c = c_plain * sixteen();
        }
        Levels { log, factors, shifted: shift.is_some() }
    }
}

/// What a transform of one size and one coset needs; cheap next to the transform, worth caching for the plain ones.
#[derive(Debug)]
pub(crate) struct Plan {
    log_n: u32,
    log_rows: u32,
    /// Step 1: over the rows.
    first: Levels,
    /// Step 2: over the columns.
    second: Levels,
    /// Factors between the steps, for each group of eight columns, in 2^260 form: those of rows 0 to 3, then the quotient of two rows
    /// that are 4 apart. Column j's factor at row k is `s·c^j·(ω^j·d)^k`, with s = 1/n in an inverse, c the shift of a forward coset and d
    /// the inverse shift of an inverse one.
    between: Vec<[[Words; 8]; 5]>,
    /// Inverse on a coset: g^(−n₁·k₂) at output block k₂.
    output: Option<Vec<Twiddle>>,
}

impl Plan {
    /// A plan for 2^`log_n` points, `log_n` ≥ [`MIN_LOG_N`].
    pub(crate) fn new(_: Token, log_n: u32, inverse: bool, coset: Option<Fr>) -> Self {
        let root = (log_n..Fr::S).fold(Fr::ROOT_OF_UNITY, |w, _| w.square());
        let omega = if inverse { root.pow_vartime([(1u64 << log_n) - 1]) } else { root };
        let log_rows = log_n / 2;
        let log_columns = log_n - log_rows;
        let power = |x: Fr, log: u32| (0..log).fold(x, |x, _| x.square());
        let forward_shift = if inverse { None } else { coset };
        let first =
            Levels::new(log_rows, power(omega, log_columns), forward_shift.map(|g| power(g, log_columns)));
        let second = Levels::new(log_columns, power(omega, log_rows), None);
        let (mut start, mut base, mut output) = (sixteen(), Fr::ONE, None);
        if inverse {
            // 2⁻¹ = (r + 1) / 2, squared and multiplied up to n⁻¹.
            start *= Fr::TWO_INV.pow_vartime([u64::from(log_n)]);
            // A zero shift is refused at the trait boundary.
            if let Some(g) = coset {
                let inv = g.invert().unwrap_or(Fr::ONE);
                base = inv;
                let step = power(inv, log_rows);
                let mut x = sixteen();
                output = Some(
                    (0..1usize << log_columns)
                        .map(|_| {
                            let t = split(words(x));
                            x *= step;
                            t
                        })
                        .collect(),
                );
            }
        }
        let column_shift = forward_shift.unwrap_or(Fr::ONE);
        let mut between = vec![[[[0; 4]; 8]; 5]; 1 << (log_columns - 3)];
        for (column, group) in (0..1usize << log_columns).map(|column| (column % 8, column / 8)) {
            let slots = &mut between[group];
            let mut x = start;
            for slot in &mut slots[..4] {
                slot[column] = words(x);
                x *= base;
            }
            slots[4][column] = words(base.square().square() * sixteen());
            start *= column_shift;
            base *= omega;
        }
        Plan { log_n, log_rows, first, second, between, output }
    }
}

impl Plan {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let twiddles =
            self.first.factors.len() + self.second.factors.len() + self.output.iter().flatten().count();
        twiddles * size_of::<Twiddle>() + size_of_val(&self.between[..])
    }

    /// In place; `scratch` has at least n elements.
    pub(crate) fn transform(&self, column: &mut [Words], scratch: &mut [Words]) {
        assert!(
            column.len() == 1 << self.log_n && scratch.len() >= column.len(),
            "lengths are checked by the caller"
        );
        let (len, to) = (column.len(), column.as_mut_ptr());
        // SAFETY: a plan proves that the instructions are there; `column` is n readable and writable elements, apart from `scratch`.
        unsafe { transform(self, to, len, to, scratch) };
    }

    /// Out of place; `from` may be shorter: it is padded with zeros.
    pub(crate) fn transform_into(&self, from: &[Words], to: &mut [Words], scratch: &mut [Words]) {
        assert!(to.len() == 1 << self.log_n && from.len() <= to.len(), "lengths are checked by the caller");
        assert!(scratch.len() >= to.len(), "scratch is as long as a column");
        // SAFETY: a plan proves that the instructions are there; the borrows are disjoint and of these lengths.
        unsafe { transform(self, from.as_ptr(), from.len(), to.as_mut_ptr(), scratch) };
    }
}

/// A pointer that threads may write disjoint elements through.
#[derive(Clone, Copy)]
pub(super) struct Target(pub(super) *mut Words);
// SAFETY: only used to write disjoint elements from several threads, inside one call that owns the unique borrow.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// `to ← transform(from)`, both in natural order; `from` may be shorter: it is padded with zeros. `between` is scratch of at least n
/// elements.
///
/// # Safety
/// The CPU has the instruction set of [`super::field`]; `from` points to `len` readable elements and `to` to n writable ones; they are
/// disjoint from `between`, and either equal or disjoint from each other.
unsafe fn transform(plan: &Plan, from: *const Words, len: usize, to: *mut Words, between: &mut [Words]) {
    let (n1, n2) = (1usize << plan.log_rows, 1usize << (plan.log_n - plan.log_rows));
    debug_assert!(between.len() >= n1 * n2 && len <= n1 * n2);
    struct Source(*const Words);
    // SAFETY: read-only while the call lasts.
    unsafe impl Sync for Source {}
    let source = &Source(from);
    let middle = Target(between.as_mut_ptr());
    let step = |groups: usize, f: &(dyn Fn(usize, &mut Vec<V>) + Sync)| {
        if plan.log_n < 12 {
            let mut buffer = Vec::new();
            (0..groups).for_each(|g| f(g, &mut buffer));
        } else {
            (0..groups).into_par_iter().with_min_len(4).for_each_init(Vec::new, |buffer, g| f(g, buffer));
        }
    };
    step(n2 / 8, &|g, buffer| {
        let middle = &middle;
        // SAFETY: the caller vouches for the instruction set and the pointers; group g writes rows 8g..8g+8 of the n2 × n1 matrix.
        unsafe { first_step(plan, source.0, len, middle.0, g * 8, buffer) }
    });
    let target = Target(to);
    step(n1 / 8, &|g, buffer| {
        let (middle, target) = (&middle, &target);
        // SAFETY: as above; group g writes elements congruent to 8g..8g+8 modulo n1. Step 1 is complete.
        unsafe { second_step(plan, middle.0, target.0, g * 8, buffer) }
    });
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn first_step(
    plan: &Plan,
    from: *const Words,
    len: usize,
    middle: *mut Words,
    j: usize,
    buffer: &mut Vec<V>,
) {
    let (n1, n2) = (1usize << plan.log_rows, 1usize << (plan.log_n - plan.log_rows));
    buffer.clear();
    buffer.reserve(n1);
    // Rows from some power of two on are padding. In bit-reversed order that leaves every 2^skip-th row, and the first levels
    // only copy it.
    let log_rows = plan.log_rows;
    let used = len.div_ceil(n2).next_power_of_two().trailing_zeros();
    let most = log_rows - used;
    // What is left must be pairs of levels, unless nothing is skipped.
    let skip = if (log_rows - most).is_multiple_of(2) { most } else { most.saturating_sub(1) };
    for row in (0..n1).step_by(1 << skip) {
        let at = reverse(row, plan.log_rows) * n2 + j;
        let v = if at + 8 <= len {
            // SAFETY: at + 8 ≤ len elements are readable.
            V::load(unsafe { &*from.add(at).cast::<[Words; 8]>() })
        } else {
            let mut padded = [[0; 4]; 8];
            for (i, slot) in padded.iter_mut().enumerate().take(len.saturating_sub(at)) {
                // SAFETY: at + i < len.
                *slot = unsafe { *from.add(at + i) };
            }
            V::load(&padded)
        };
        buffer.extend(std::iter::repeat_n(v, 1 << skip));
    }
    local(&plan.first, buffer, 1 << skip);

    // Four chains of powers, so that their latency hides.
    let between = &plan.between[j / 8];
    let mut chain: [V; 4] = std::array::from_fn(|k| V::load(&between[k]));
    let jump = V::load(&between[4]);
    for (quad, values) in buffer.chunks_exact(4).enumerate() {
        for (k, value) in values.iter().enumerate() {
            let out = value.carry().mul(chain[k]).to_words();
            let mut lanes = [[0; 4]; 8];
            super::field::store_transposed(out, &mut lanes);
            for (i, lane) in lanes.iter().enumerate() {
                // SAFETY: row j + i < n2 of the middle matrix, column 4·quad + k < n1.
                unsafe { *middle.add((j + i) * n1 + quad * 4 + k) = *lane };
            }
            chain[k] = chain[k].mul(jump);
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn second_step(plan: &Plan, middle: *const Words, to: *mut Words, k: usize, buffer: &mut Vec<V>) {
    let log = plan.log_n - plan.log_rows;
    let (n1, n2) = (1usize << plan.log_rows, 1usize << log);
    buffer.clear();
    buffer.reserve(n2);
    for row in 0..n2 {
        // SAFETY: reverse(row) < n2 and k + 8 ≤ n1.
        buffer.push(V::load(unsafe { &*middle.add(reverse(row, log) * n1 + k).cast::<[Words; 8]>() }));
    }
    local(&plan.second, buffer, 1);
    for (row, value) in buffer.iter().enumerate() {
        let mut value = value.carry();
        value = match &plan.output {
            Some(scale) => value.mul(V::splat(scale[row])),
            None => value.reduce(),
        };
        // SAFETY: row < n2 and k + 8 ≤ n1; no other group writes these elements.
        value.canonical().store(unsafe { &mut *to.add(row * n1 + k).cast::<[Words; 8]>() });
    }
}

fn reverse(i: usize, bits: u32) -> usize {
    if bits == 0 { i } else { i.reverse_bits() >> (usize::BITS - bits) }
}

/// Decimation in time, in place: bit-reversed input, natural output. Transforms of `done` points are already there: 1, or a power of
/// two after which the number of levels left is even.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn local(levels: &Levels, a: &mut [V], done: usize) {
    let mut h = done;
    let f = &levels.factors;
    // An odd level first, so that the rest pair up.
    if h == 1 && levels.log % 2 == 1 {
        for pair in a.chunks_exact_mut(2) {
            let b = if levels.shifted { pair[1].mul(V::splat(f[1])) } else { pair[1] };
            let a = pair[0];
            pair[0] = a.add_lazy(b);
            pair[1] = a.sub_lazy::<4>(b);
        }
        h = 2;
    }
    while h < a.len() {
        for block in a.chunks_exact_mut(4 * h) {
            let (x0, rest) = block.split_at_mut(h);
            let (x1, rest) = rest.split_at_mut(h);
            let (x2, x3) = rest.split_at_mut(h);
            for k in 0..h {
                let (b1, b3) = if h == 1 && !levels.shifted {
                    (x1[k], x3[k])
                } else {
                    let t = V::splat(f[h + k]);
                    (x1[k].carry().mul(t), x3[k].carry().mul(t))
                };
                let (a0, a2) = (x0[k], x2[k]);
                let y0 = a0.add_lazy(b1);
                let y1 = a0.sub_lazy::<4>(b1);
                let y2 = a2.add_lazy(b3).carry();
                let y3 = a2.sub_lazy::<4>(b3).carry();
                let z2 = if h == 1 && !levels.shifted { y2.reduce() } else { y2.mul(V::splat(f[2 * h + k])) };
                let z3 = y3.mul(V::splat(f[3 * h + k]));
                x0[k] = y0.add_lazy(z2);
                x2[k] = y0.sub_lazy::<4>(z2);
                x1[k] = y1.add_lazy(z3);
                x3[k] = y1.sub_lazy::<4>(z3);
            }
        }
        h *= 4;
    }
}
