//! Kernels for AVX-512 IFMA: eight field elements at a time.
//!
//! The representation is described in [`field`]. Two ways lead across the trait boundary: *linear* kernels (transforms, linear
//! combinations, recurrences) leave data in boundary form and hold only their constants in 2^260 form; the others (points, programs)
//! read boundary form times 16, which is 2^260 form, and multiply by 2^256 on the way out.
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
