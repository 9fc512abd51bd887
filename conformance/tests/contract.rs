//! The page and the suite say the same: every test belongs to a clause, every clause's tests exist.

use std::collections::BTreeSet;

use parhelion_conformance::CLAUSES;

#[test]
fn the_contract_names_every_test_and_no_other() {
    let page = include_str!("../../docs/trait-contract.md");
    let ops: BTreeSet<&str> = CLAUSES.iter().map(|(op, _)| *op).collect();
    let named: BTreeSet<(&str, &str)> = page
        .split('`')
        .filter_map(|code| code.split_once("::"))
        .filter(|(op, clause)| ops.contains(op) && !clause.contains("::"))
        .collect();
    let tested: BTreeSet<(&str, &str)> = CLAUSES.iter().copied().collect();
    assert_eq!(named, tested, "left: docs/trait-contract.md, right: the suite");
    assert_eq!(tested.len(), CLAUSES.len(), "a clause is listed twice");
}
