//! Kernels for AVX-512 IFMA: eight field elements at a time.
//!
//! # Representation
//!
//! An element is five limbs of 52 bits, one per vector, so that vector lane j of the five limbs is the j-th element. Products are Montgomery
//! products with R' = 2^260, and since p < 2^254 there are six bits of slack: a·b/R' + p bounds a product, so operands may be
//! sums and differences of many elements before any reduction. Bounds are written as multiples of p: `< 2p`.
//!
//! The canonical layout has R = 2^256 = R'/16. Two ways lead across: *linear* kernels (transforms, linear combinations) leave the data
//! as it is and only hold their constants in the R' form, because (a·R)·(w·R')/R' = (a·w)·R; others read 16·(a·R) = a·R',
//! a shift of the limbs when they are unpacked, and multiply by 2^256 on the way out.
//!
//! # Safety
//!
//! Every function here needs the instructions of [`Isa::Ifma`](crate::Isa). They are reached only through values of types whose constructors check
//! for them ([`Token`]).

mod field;
pub(crate) mod ntt;
mod points;
pub(crate) mod poly;
pub(crate) mod quotient;

pub(crate) use points::IfmaPoints;

use crate::{Isa, IsaError};

/// Proof that the instructions are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(());

impl Token {
    /// The proof.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`].
    pub(crate) fn new() -> Result<Self, IsaError> {
        Isa::Ifma.check().map(|_| Token(()))
    }
}
