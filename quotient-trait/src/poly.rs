//! The fused polynomial operations of a prover: few, and named by meaning.

use std::fmt::Debug;

use ff::PrimeField;
use parhelion_hal::{DeviceRepr, Queue, Ref, RefMut, Result, Support};

/// Polynomial operations on one device. Every one is exact, so results are identical on every backend.
///
/// Errors of all methods: [`parhelion_hal::Error::Length`] for operands of unequal length,
/// [`parhelion_hal::Error::Invalid`] where stated; otherwise the failure rule of `parhelion-hal` holds.
pub trait PolyOps<F: PrimeField + DeviceRepr>: Debug + Send + Sync {
    /// Whether operands of 2^`log_n` elements, `batch` of them, are legal. No device work.
    fn supports(&self, log_n: u32, batch: usize) -> Support;

    /// **Mathematical description.** `out[i] = Σ_t c_t · p_t[i]`; a term shorter than `out` counts as padded with zeros; a
    /// longer one is [`parhelion_hal::Error::Length`]. No terms give zero.
    ///
    /// # Errors
    /// See the trait.
    fn linear_combination(&self, queue: &Queue, terms: &[(F, Ref<'_, F>)], out: RefMut<'_, F>) -> Result<()>;

    /// **Mathematical description.** `out[q] = Σ_j polys[p_q][j] · x_q^j` for `queries[q] = (p_q, x_q)`; an index out of range
    /// is [`parhelion_hal::Error::Invalid`].
    ///
    /// # Errors
    /// See the trait.
    fn evaluate_batch(
        &self,
        queue: &Queue,
        polys: &[Ref<'_, F>],
        queries: &[(usize, F)],
        out: &mut [F],
    ) -> Result<()>;

    /// **Mathematical description.** Replaces `p` by the quotient q of `p(X) = q(X)·(X − root) + p(root)`: the highest
    /// coefficient of the result is zero.
    ///
    /// # Errors
    /// See the trait.
    fn divide_by_linear(&self, queue: &Queue, poly: RefMut<'_, F>, root: F) -> Result<()>;

    /// **Mathematical description.** `values[i] ← values[i]⁻¹`, zero staying zero.
    ///
    /// # Errors
    /// See the trait.
    fn batch_invert(&self, queue: &Queue, values: RefMut<'_, F>) -> Result<()>;

    /// **Mathematical description.** `a[i] ← a[i] · b[i]`.
    ///
    /// # Errors
    /// See the trait.
    fn multiply(&self, queue: &Queue, a: RefMut<'_, F>, b: Ref<'_, F>) -> Result<()>;

    /// **Mathematical description.** The exclusive running product: `values[i] ← first · Π_{j<i} values[j]`. Returns
    /// `first · Π_j values[j]` over all elements.
    ///
    /// # Errors
    /// See the trait.
    fn running_product(&self, queue: &Queue, values: RefMut<'_, F>, first: F) -> Result<F>;
}
