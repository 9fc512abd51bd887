//! The fused polynomial operations of a prover: few, and named by meaning.
//!
//! A first port is two functions, [`PolyOps::linear_combination`] and [`PolyOps::evaluate_batch`]: the others have bodies that take operands to
//! the host and back, right in any space.

mod host;

use std::fmt::{self, Debug};
use std::sync::Arc;

use ff::PrimeField;
use parhelion_hal::{Capability, DeviceRepr, Op, Queue, Ref, RefMut, Result, Space, Support};

/// The functions of [`PolyOps`], which cost differently and are asked about and measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PolyCall {
    /// [`PolyOps::linear_combination`]
    LinearCombination,
    /// [`PolyOps::evaluate_batch`]
    Evaluate,
    /// [`PolyOps::divide_by_linear`]
    Divide,
    /// [`PolyOps::batch_invert`]
    Invert,
    /// [`PolyOps::multiply`]
    Multiply,
    /// [`PolyOps::running_product`]
    RunningProduct,
    /// [`PolyOps::scan`]
    Scan,
}

impl PolyCall {
    /// All of them.
    pub const ALL: [PolyCall; 7] = [
        PolyCall::LinearCombination,
        PolyCall::Evaluate,
        PolyCall::Divide,
        PolyCall::Invert,
        PolyCall::Multiply,
        PolyCall::RunningProduct,
        PolyCall::Scan,
    ];

    /// The name used in tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            PolyCall::LinearCombination => "linear-combination",
            PolyCall::Evaluate => "evaluate",
            PolyCall::Divide => "divide",
            PolyCall::Invert => "invert",
            PolyCall::Multiply => "multiply",
            PolyCall::RunningProduct => "running-product",
            PolyCall::Scan => "scan",
        }
    }
}

impl fmt::Display for PolyCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The shape of one call, enough to decide on legality and to look up a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolyShape {
    /// Which function.
    pub call: PolyCall,
    /// log₂ of the length of the longest operand, rounded up.
    pub log_n: u32,
    /// Number of operands: terms of a combination, queries of an evaluation, 1 otherwise.
    pub batch: usize,
}

/// The recurrence `u[i + 1] = factors[i]·u[i] + summands[i]` with `u[0] = first`.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a, F> {
    /// `u[0]`.
    pub first: F,
    /// The factors, or `None` for ones: a running sum.
    pub factors: Option<Ref<'a, F>>,
    /// The summands, or `None` for zeros: a running product.
    pub summands: Option<Ref<'a, F>>,
}

/// Polynomial operations on one device. Every one is exact, so results are identical on every backend.
///
/// Errors of all methods: [`parhelion_hal::Error::Length`] for operands of unequal length,
/// [`parhelion_hal::Error::Invalid`] where stated; otherwise the failure rule of `parhelion-hal` holds.
pub trait PolyOps<F: PrimeField + DeviceRepr>: Debug + Send + Sync {
    /// The space that it works in, which the derived methods copy through.
    fn space(&self) -> Arc<dyn Space>;

    /// Whether a call of this shape is legal. No device work. All are unless a backend says otherwise.
    fn supports(&self, shape: &PolyShape) -> Support {
        let _ = shape;
        Support::Yes
    }

    /// Temporary bytes that a call of this shape needs in the backend's space.
    fn workspace(&self, shape: &PolyShape) -> u64 {
        let _ = shape;
        0
    }

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
    fn divide_by_linear(&self, queue: &Queue, poly: RefMut<'_, F>, root: F) -> Result<()> {
        host::in_place(self.space().as_ref(), queue, poly, |poly| host::divide_by_linear(poly, root))
    }

    /// **Mathematical description.** `values[i] ← values[i]⁻¹`, zero staying zero.
    ///
    /// # Errors
    /// See the trait.
    fn batch_invert(&self, queue: &Queue, values: RefMut<'_, F>) -> Result<()> {
        host::in_place(self.space().as_ref(), queue, values, host::batch_invert)
    }

    /// **Mathematical description.** `a[i] ← a[i] · b[i]`.
    ///
    /// # Errors
    /// See the trait.
    fn multiply(&self, queue: &Queue, a: RefMut<'_, F>, b: Ref<'_, F>) -> Result<()> {
        parhelion_hal::Error::check_len("factors", a.len(), b.len())?;
        let b = host::view(self.space().as_ref(), queue, &b)?;
        host::in_place(self.space().as_ref(), queue, a, |a| a.iter_mut().zip(&*b).for_each(|(a, b)| *a *= b))
    }

    /// **Mathematical description.** The exclusive running product: `values[i] ← first · Π_{j<i} values[j]`. Returns
    /// `first · Π_j values[j]` over all elements.
    ///
    /// # Errors
    /// See the trait.
    fn running_product(&self, queue: &Queue, values: RefMut<'_, F>, first: F) -> Result<F> {
        host::in_place(self.space().as_ref(), queue, values, |values| host::running_product(values, first))
    }

    /// **Mathematical description.** The exclusive affine scan: `out[i] ← u[i]` of the recurrence, for every i below the length n of `out`, which
    /// is that of the factors and of the summands. Returns `u[n]`.
    ///
    /// # Errors
    /// See the trait.
    fn scan(&self, queue: &Queue, recurrence: &Recurrence<'_, F>, out: RefMut<'_, F>) -> Result<F> {
        check_recurrence(recurrence, out.len())?;
        let view = |column: &Option<Ref<'_, F>>| {
            column
                .as_ref()
                .map(|column| host::view(self.space().as_ref(), queue, column).map(Vec::from))
                .transpose()
        };
        let (factors, summands) = (view(&recurrence.factors)?, view(&recurrence.summands)?);
        host::fresh(self.space().as_ref(), queue, out, |out| {
            host::scan(factors.as_deref(), summands.as_deref(), recurrence.first, out)
        })
    }
}

impl<F: PrimeField + DeviceRepr> Capability for dyn PolyOps<F> {
    const OP: Op = Op::POLY;
}

/// The argument checks that every implementation of [`PolyOps::scan`] makes before it does anything.
///
/// # Errors
/// [`parhelion_hal::Error::Length`] when factors or summands have another length than the output.
pub fn check_recurrence<F: DeviceRepr>(recurrence: &Recurrence<'_, F>, out: usize) -> Result<()> {
    let check = |what, column: &Option<Ref<'_, F>>| {
        column.as_ref().map_or(Ok(()), |column| parhelion_hal::Error::check_len(what, out, column.len()))
    };
    check("factors of a recurrence", &recurrence.factors)?;
    check("summands of a recurrence", &recurrence.summands)
}
