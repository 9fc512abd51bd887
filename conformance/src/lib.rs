//! One suite for every backend, its oracles and adversarial inputs, and test doubles.
//!
//! A backend's whole test file:
//!
//! ```
//! # mod test {
//! use parhelion_conformance::{Naive, Sizes};
//!
//! parhelion_conformance::suite!(naive, Naive, Sizes::SMALL);
//! # }
//! ```
//!
//! The macro makes one test per clause of `docs/trait-contract.md`, so a failure names what was broken. A backend whose constructor can
//! fail is written `try MyBackend::new()`; where it fails, or finds no device, the tests say that they skipped, unless the
//! environment variable `PARHELION_REQUIRE_BACKENDS` is set.
//!
//! To add a clause: a sentence in the contract, a function in [`mod@suite`], a word in the list in `lib.rs`. Every backend then has it.
//!
//! The doubles are ordinary backends: [`Naive`] computes by definition, [`Checked`] compares two, [`Null`] refuses, [`Faulty`] fails
//! on schedule, [`Recording`] writes down what it was asked, [`Remote`] pretends to have memory of its own.
#![forbid(unsafe_code)]
// Tests are what this crate is: a broken clause panics.
#![expect(clippy::panic, clippy::missing_panics_doc, reason = "clauses fail by panicking")]

mod doubles;
pub mod inputs;
pub mod suite;

pub use doubles::{
    Checked, Fault, FaultKind, Faulty, FaultyControl, Mismatch, Naive, Null, Recording, Remote, horner,
    points,
};
pub use parhelion_backend_api::Curve;
pub use suite::Sizes;

#[doc(no_inline)]
pub use halo2curves::bn256::G1Affine;

/// Every clause of the suite: the operation and the name of its function in [`mod@suite`].
pub const CLAUSES: &[(&str, &str)] = clauses!(__clause_names());

/// The functions behind [`CLAUSES`], in the same order.
pub const FUNCTIONS: &[fn(&suite::Subject<G1Affine>)] = clauses!(__clause_functions());

/// All conformance tests of one backend, as the module `$name`: see the crate docs.
#[macro_export]
macro_rules! suite {
    ($name:ident, try $backend:expr, $sizes:expr $(,)?) => {
        $crate::clauses!(__clause_tests($name, $backend, $sizes));
    };
    ($name:ident, $backend:expr, $sizes:expr $(,)?) => {
        $crate::suite!($name, try Ok::<_, std::convert::Infallible>($backend), $sizes);
    };
}

/// The list of clauses, given to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! clauses {
    ($then:ident $args:tt) => {
        $crate::$then! { $args
            space: round_trips_values, refuses_bad_copies, copies_and_fills, runs_out_of_memory_politely,
                leaves_operands_alone_without_memory, answers_about_any_shape, keeps_its_word, keeps_promises;
            msm: matches_the_definition, matches_known_multiples, takes_any_bases, takes_unequal_columns,
                takes_nothing, keeps_to_promises, batches_like_single_calls, keeps_handles_alive,
                refuses_wrong_lengths, refuses_foreign_operands, reads_resident_scalars, reads_slices,
                completes_and_repeats, works_from_many_threads;
            ntt: matches_the_definition, uses_the_root_of_the_field, matches_closed_forms,
                batches_like_single_calls, works_out_of_place, refuses_wrong_lengths,
                refuses_impossible_plans, refuses_foreign_operands, works_on_resident_columns, works_on_slices,
                completes_and_repeats, works_from_many_threads;
            quotient: matches_the_definition, evaluates_large_programs, wraps_rotations, returns_sources,
                refuses_bad_programs, refuses_wrong_lengths, refuses_foreign_operands,
                works_on_resident_columns, works_on_slices, works_from_many_threads;
            poly: divides, inverts, accumulates_products, scans, multiplies, combines, evaluates,
                refuses_foreign_operands, works_on_resident_columns, works_on_slices, works_from_many_threads;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_names {
    (() $($op:ident: $($clause:ident),+;)+) => {
        &[$($((stringify!($op), stringify!($clause))),+),+]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_functions {
    (() $($op:ident: $($clause:ident),+;)+) => {
        &[$($($crate::suite::$op::$clause),+),+]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_tests {
    (($name:ident, $backend:expr, $sizes:expr) $($op:ident: $($clause:ident),+;)+) => {
        mod $name {
            #[allow(unused_imports, reason = "whatever the expression for the backend needs")]
            use super::*;

            $(mod $op {
                #[allow(unused_imports, reason = "whatever the expression for the backend needs")]
                use super::*;

                $(#[test]
                fn $clause() {
                    if let Some(subject) = $crate::suite::subject::<$crate::G1Affine, _>($backend, $sizes) {
                        $crate::suite::$op::$clause(&subject);
                    }
                })+
            })+
        }
    };
}
