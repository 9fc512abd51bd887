//! The suite fails where it must: backends with one known defect each, and the clauses that find it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ff::{Field, PrimeField};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::{HostSpace, Queue, RefMut, Result, Space};
use parhelion_backend_api::{
    Backend, DeviceInfo, Direction, Ntt, NttPlan, NttShape, Provider, Unavailable, hal,
};
use parhelion_conformance::suite::subject;
use parhelion_conformance::{CLAUSES, FUNCTIONS, Fault, FaultKind, Faulty, Naive, Remote, Sizes};

/// The clauses that a backend breaks, as `op::clause`.
fn broken<B: Backend>(backend: B) -> BTreeSet<String> {
    let subject = subject::<G1Affine, B>(Ok::<_, Infallible>(backend), Sizes::SMALL).unwrap();
    let fails = |clause: &fn(&_)| catch_unwind(AssertUnwindSafe(|| clause(&subject))).is_err();
    CLAUSES
        .iter()
        .zip(FUNCTIONS)
        .filter(|(_, function)| fails(function))
        .map(|((op, clause), _)| format!("{op}::{clause}"))
        .collect()
}

/// The clauses about results: they must notice a backend whose every result is wrong.
fn about_results() -> BTreeSet<String> {
    let other = [
        "refuses",
        "round_trips",
        "runs_out",
        "leaves_operands",
        "answers",
        "keeps_its_word",
        "keeps_promises",
        "copies_and_fills",
        "takes_nothing",
    ];
    CLAUSES
        .iter()
        .filter(|(_, clause)| !other.iter().any(|prefix| clause.starts_with(prefix)))
        .map(|(op, clause)| format!("{op}::{clause}"))
        .collect()
}

#[test]
fn one_wrong_bit_in_every_result_breaks_every_clause_about_results() {
    let liar = Faulty::with(Naive, "liar", vec![Fault::always(FaultKind::Flip(5 << 32))]);
    let missed: Vec<_> = about_results().difference(&broken(liar)).cloned().collect();
    assert!(missed.is_empty(), "{missed:?} did not notice");
}

#[test]
fn zeros_as_results_break_every_clause_about_results() {
    let liar = Faulty::with(Remote::new(Naive), "liar", vec![Fault::always(FaultKind::Zero)]);
    let missed: Vec<_> = about_results().difference(&broken(liar)).cloned().collect();
    // Resident results are spoilt only where the double can reach them.
    let out_of_reach = |clause: &String| clause.contains("resident") || clause.contains("slices");
    assert!(missed.iter().all(out_of_reach), "{missed:?} did not notice");
}

#[test]
fn an_honest_backend_breaks_nothing() {
    assert_eq!(broken(Naive), BTreeSet::new());
}

/// Transforms with one defect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    /// The domain comes from the generator 5, as in the tables of some libraries.
    GeneratorFive,
    /// Cosets are ignored.
    NoCosets,
    /// The inverse does not divide by n.
    NoDivision,
    /// Operands are written before they are checked.
    Hasty,
    /// The last column of a batch is forgotten.
    LastColumn,
    /// Columns of 2^4 and more come out in bit-reversed order.
    BitReversed,
}

/// 5 = 7^E on the roots of unity: ω₅ = ω₇^E for the roots of order 2^28.
const E: usize = 0x2dd_9d21;

impl Ntt<Fr> for Defect {
    fn space(&self) -> Arc<dyn Space> {
        Arc::new(HostSpace)
    }

    fn supports(&self, _: &NttShape) -> hal::Support {
        hal::Support::Yes
    }

    fn workspace(&self, _: &NttShape) -> u64 {
        0
    }

    fn ntt_batch(&self, queue: &Queue, plan: &NttPlan<Fr>, columns: &mut [RefMut<'_, Fr>]) -> Result<()> {
        let n = 1usize.checked_shl(plan.log_n).unwrap_or(1);
        let mut plan = *plan;
        let mut last = columns.len();
        match self {
            Defect::Hasty => {
                for column in columns.iter_mut() {
                    column.as_host()?.fill(Fr::ZERO);
                }
            }
            Defect::NoCosets => plan.coset = plan.coset.filter(|g| bool::from(g.is_zero())),
            Defect::LastColumn if last > 1 => last -= 1,
            Defect::GeneratorFive if plan.direction == Direction::Inverse && plan.log_n <= 28 => {
                permute(columns, n, |i| (i * E) % n, true)?;
            }
            _ => {}
        }
        Naive.ntt_batch(queue, &plan, &mut columns[..last])?;
        match self {
            Defect::GeneratorFive if plan.direction == Direction::Forward => {
                permute(columns, n, |i| (i * E) % n, false)
            }
            Defect::BitReversed if plan.log_n >= 4 => {
                permute(columns, n, |i| i.reverse_bits() >> (usize::BITS - plan.log_n), false)
            }
            Defect::NoDivision if plan.direction == Direction::Inverse => {
                for column in columns {
                    column.as_host()?.iter_mut().for_each(|value| *value *= Fr::from(n as u64));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// `a'[i] = a[p(i)]`, or its inverse.
fn permute(columns: &mut [RefMut<'_, Fr>], n: usize, p: impl Fn(usize) -> usize, back: bool) -> Result<()> {
    for column in columns {
        let values = column.as_host()?;
        if values.len() == n {
            let before = values.to_vec();
            for i in 0..n {
                let (to, from) = if back { (p(i), i) } else { (i, p(i)) };
                values[to] = before[from];
            }
        }
    }
    Ok(())
}

impl Backend for Defect {
    fn name(&self) -> &'static str {
        "defect"
    }
    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        Ok(vec![DeviceInfo { backend: "defect", ..Naive::device() }])
    }
    fn open(&self, info: &DeviceInfo) -> Result<Provider> {
        let mut provider = Naive::provider().offer::<dyn Ntt<Fr>>(Arc::new(*self));
        provider.info = info.clone();
        Ok(provider)
    }
}

#[test]
fn five_and_seven_generate_the_same_group_in_another_order() {
    let root_of_five = {
        // (r − 1) / 2^28, by long division of the bytes of −1.
        let minus_one = (-Fr::ONE).to_repr();
        let bytes: Vec<u8> = minus_one.as_ref().to_vec();
        let limbs: Vec<u64> = bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
        let shifted: Vec<u64> =
            (0..4).map(|i| limbs[i] >> 28 | limbs.get(i + 1).map_or(0, |high| high << 36)).collect();
        Fr::from(5).pow_vartime(shifted)
    };
    assert_eq!(root_of_five, Fr::ROOT_OF_UNITY.pow_vartime([E as u64]));
    assert_ne!(root_of_five, Fr::ROOT_OF_UNITY);
}

#[test]
fn every_defect_is_found_by_the_clause_that_is_about_it() {
    for (defect, clauses) in [
        (Defect::GeneratorFive, vec!["ntt::uses_the_root_of_the_field", "ntt::matches_closed_forms"]),
        (
            Defect::NoCosets,
            vec!["ntt::matches_the_definition", "ntt::matches_closed_forms", "ntt::works_out_of_place"],
        ),
        (Defect::NoDivision, vec!["ntt::matches_the_definition", "space::keeps_its_word"]),
        (Defect::Hasty, vec!["ntt::refuses_wrong_lengths", "ntt::refuses_impossible_plans"]),
        (Defect::LastColumn, vec!["ntt::batches_like_single_calls", "ntt::matches_the_definition"]),
        (Defect::BitReversed, vec!["ntt::uses_the_root_of_the_field", "ntt::matches_the_definition"]),
    ] {
        let broken = broken(defect);
        for clause in clauses {
            assert!(broken.contains(clause), "{clause} does not find {defect:?}; found by {broken:?}");
        }
        assert!(broken.iter().all(|c| c.starts_with("ntt::") || c.starts_with("space::")), "{broken:?}");
    }
}
