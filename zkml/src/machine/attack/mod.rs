//! What a prover might forge, tried on the circuit as it is, and on circuits that lack one constraint.
//!
//! An attack passes where every forgery that it knows is refused. [`deletions`] switches every [`Site`] off in turn, and some attack has to
//! fail: a constraint whose absence nothing notices is either tested by nothing or needed by nothing. The record of a run is in
//! `benches/record`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails where it cannot go on")]

mod bounds;
mod exposed;
mod identities;
#[path = "../../../tests/machine_common/mod.rs"]
mod machine_common;
mod pairs;
mod solve;
mod templates;
mod transplant;

use std::fmt::Write as _;
use std::time::Instant;

use machine_common::mutants::{mutants_of, programs};
use machine_common::{Build, between, random_inputs, rng};
use solve::small;

use super::check::Bench;
use super::layout::Choice;
use super::plan::{PlanOptions, plan};
use super::sites::{Site, without};
use super::visibility::{Vis, Visibility};
use crate::exec;
use crate::qir::{OpKind, Program, Role};

/// An honest witness that forgeries start from.
pub(super) struct Case {
    name: String,
    bench: Bench,
}

fn case_of(name: &str, p: &Program, visibility: Visibility, options: &PlanOptions) -> Case {
    seeded(name, p, &visibility, options, 5)
}

fn seeded(name: &str, p: &Program, visibility: &Visibility, options: &PlanOptions, seed: u64) -> Case {
    let plan = plan(p, visibility, options).unwrap();
    let trace = exec::run(p, &random_inputs(p, &mut rng(seed))).unwrap();
    let bench = Bench::new(&plan, &trace.values).unwrap();
    Case { name: format!("{name}, {visibility}"), bench }
}

/// The same program with other inputs, and other weights where the key has none.
fn other(p: &Program, visibility: &Visibility, options: &PlanOptions, choice: Choice, seed: u64) -> Case {
    let mut p = p.clone();
    let mut random = rng(seed);
    for t in p.tensors.iter_mut().filter(|t| t.role == Role::Param && visibility.params != Vis::Fixed) {
        let n = t.len();
        t.data = Some((0..n).map(|_| between(&mut random, t.lo, t.hi)).collect());
    }
    let options = PlanOptions { choice: Some(choice), ..options.clone() };
    seeded("another", &p, visibility, &options, seed)
}

fn one_unit() -> PlanOptions {
    PlanOptions { units: Some(1), ..PlanOptions::default() }
}

/// Who sees what, in the combinations that differ in the circuit.
fn visibilities() -> Vec<Visibility> {
    let all = |vis| Visibility::new(vis, vis, vis);
    vec![
        Visibility::default(),
        all(Vis::Hashed),
        all(Vis::Committed),
        Visibility::new(Vis::Private, Vis::Public, Vis::Fixed),
        Visibility::new(Vis::Public, Vis::Public, Vis::Private),
    ]
}

fn chosen(names: &[&str]) -> Vec<(&'static str, Program)> {
    programs().into_iter().filter(|(name, _)| names.contains(name)).collect()
}

type Attack = fn() -> Result<usize, String>;

/// All attacks, by name.
const ATTACKS: &[(&str, Attack)] = &[
    ("honest witnesses are accepted", honest),
    ("copies are complete", copies),
    ("transplants", transplants),
    ("digests", digests),
    ("sums of lookups", sums),
    ("entries of spare units", entries),
    ("junk", junk),
    ("padding of the store", exposed::padding_as_weights),
    ("weights outside their range", exposed::weights_outside),
    ("inputs outside their bounds", bounds::inputs_outside),
    ("pairs", pairs),
    ("mutants", mutants),
    ("given values", templates::given_values_are_within),
    ("sorted rows", templates::sorted_rows_ascend),
    ("gathered elements", templates::gathered_elements_are_entries),
    ("functions of operands", templates::functions_of_their_operands),
    ("identities", identities::polynomials_are_those_of_the_contraction),
];

fn honest() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p) in programs() {
        for visibility in visibilities() {
            let case = case_of(name, &p, visibility, &one_unit());
            tried += 1;
            if let Some(v) = case.bench.violation(&[]) {
                return Err(format!("{}: {} does not hold", case.name, v.constraint));
            }
        }
    }
    Ok(tried)
}

fn copies() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p) in programs() {
        let case = case_of(name, &p, Visibility::default(), &one_unit());
        tried += exposed::copies_are_complete(&case.bench, name)?;
    }
    Ok(tried)
}

fn transplants() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p) in programs() {
        for visibility in visibilities() {
            let options = one_unit();
            let a = case_of(name, &p, visibility.clone(), &options);
            let choice = a.bench.layout.sized.choice;
            for seed in [6, 7] {
                tried += transplant::transplant(&a, &other(&p, &visibility, &options, choice, seed))?;
            }
        }
    }
    Ok(tried)
}

fn mutants() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p) in programs() {
        for visibility in visibilities() {
            let case = case_of(name, &p, visibility, &one_unit());
            let done = mutants_of(&case.bench, 41);
            if let Some(survivor) = done.survivors.first() {
                return Err(format!("{}: {survivor}", case.name));
            }
            tried += done.tried;
        }
    }
    Ok(tried)
}

fn digests() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p) in chosen(&["einsum", "gather"]) {
        let case = case_of(name, &p, Visibility::new(Vis::Hashed, Vis::Hashed, Vis::Hashed), &one_unit());
        tried += exposed::steer_digests(&case, 7)?;
    }
    Ok(tried)
}

fn sums() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p) in chosen(&["lookup", "division", "einsum"]) {
        tried += exposed::shift_sums(&case_of(name, &p, Visibility::default(), &one_unit()))?;
    }
    Ok(tried)
}

fn entries() -> Result<usize, String> {
    let mut b = Build::default();
    let (index, data) = (b.input(&[3], 0, 2), b.input(&[3, 1], 1, 900));
    let y = b.op(OpKind::Gather { data, index }, &[3, 1], 1, 900);
    let p = b.output(y);
    let options = PlanOptions { units: Some(2), ..PlanOptions::default() };
    exposed::spare_entries(&case_of("gather", &p, Visibility::default(), &options))
}

fn junk() -> Result<usize, String> {
    let mut b = Build::default();
    let x = b.input(&[1, 1, 3, 3], 1, 50);
    let y = b.conv(x, 1, 2, 1, 0, 1, 0, false, &mut rng(2));
    let p = b.output(y);
    exposed::junk_for_outputs(&case_of("convolution", &p, Visibility::default(), &one_unit()), y)
}

fn pairs() -> Result<usize, String> {
    let mut done = pairs::Done::default();
    for (name, p) in programs() {
        pairs::forge(&case_of(name, &p, Visibility::default(), &one_unit()), &mut done)?;
    }
    Ok(done.tried)
}

fn must(name: &str) {
    let (_, attack) = ATTACKS.iter().find(|(known, _)| *known == name).unwrap();
    let start = Instant::now();
    match attack() {
        Ok(tried) => {
            eprintln!("{name}: {tried} forgeries refused, {:.1?}", start.elapsed());
            assert!(tried > 0, "{name}: nothing was tried");
        }
        Err(found) => panic!("{name}: accepted: {found}"),
    }
}

macro_rules! refused {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { must($name); })*

        /// Every attack is a test of its own.
        #[test]
        fn all_attacks_are_tests() {
            let tests = [$($name),*];
            assert!(ATTACKS.iter().all(|(name, _)| tests.contains(name)));
        }
    };
}

refused! {
    honest_witnesses: "honest witnesses are accepted",
    complete_copies: "copies are complete",
    no_part_of_another_witness: "transplants",
    no_mutant_of_any_visibility: "mutants",
    digests_cannot_be_steered: "digests",
    sums_of_lookups_begin_and_end_at_zero: "sums of lookups",
    spare_units_provide_nothing: "entries of spare units",
    junk_is_no_output: "junk",
    padding_is_no_weight: "padding of the store",
    weights_are_in_their_range: "weights outside their range",
    inputs_are_within_their_bounds: "inputs outside their bounds",
    nothing_but_one_constraint_missing: "pairs",
    given_values_are_within: "given values",
    sorted_rows_ascend: "sorted rows",
    gathered_elements_are_entries: "gathered elements",
    outputs_are_functions_of_operands: "functions of operands",
    polynomials_are_those_of_contractions: "identities",
}

/// The attacks that most likely notice a site's absence, so that a run takes minutes and not hours.
fn suspects(site: Site) -> &'static [&'static str] {
    let name = format!("{site:?}");
    match site {
        site if site <= Site::GatherUse => {
            &["given values", "sorted rows", "gathered elements", "functions of operands", "pairs"]
        }
        Site::RangeLane | Site::FunctionLane | Site::UnitEquation => &["pairs"],
        Site::SharedVariable => &["copies are complete"],
        Site::IdleOperand => &["entries of spare units"],
        Site::JunkPlaces => &["junk"],
        Site::StorePart => &["padding of the store"],
        Site::StoreLane => &["weights outside their range"],
        Site::LookupFirst | Site::LookupLast => &["sums of lookups"],
        Site::LookupTag => &["inputs outside their bounds", "pairs"],
        Site::DigestSource | Site::DigestTie => &["transplants"],
        _ if name.starts_with("Digest") => &["digests"],
        _ if name.ends_with("Gate") => &["mutants"],
        _ => &["transplants"],
    }
}

/// The attack that fails where a site is off, and what it says.
fn killed(site: Site) -> Option<(&'static str, String)> {
    let suspects = suspects(site);
    let mut order: Vec<(&'static str, Attack)> = ATTACKS.to_vec();
    order.sort_by_key(|(name, _)| suspects.iter().position(|s| s == name).unwrap_or(suspects.len()));
    without(site, || {
        order.into_iter().find_map(|(name, attack)| match std::panic::catch_unwind(attack) {
            Ok(Ok(_)) => None,
            Ok(Err(found)) => Some((name, found)),
            Err(_) => Some((name, "no circuit".to_owned())),
        })
    })
}

/// Constraints that one attack alone sees.
const PLANTED: &[(Site, &str)] = &[
    (Site::PublicTie, "transplants"),
    (Site::DigestTie, "transplants"),
    (Site::DigestSource, "transplants"),
    (Site::SortIdentity, "transplants"),
    (Site::DivStrict, "functions of operands"),
    (Site::ScalarFirst, "transplants"),
    (Site::ScalarSecond, "transplants"),
    (Site::RootGap, "functions of operands"),
    (Site::SortOrder, "sorted rows"),
    (Site::CommittedTie, "transplants"),
    (Site::OperandCell, "transplants"),
    (Site::InputBit, "given values"),
    (Site::InputBelowTop, "given values"),
    (Site::IdleOperand, "entries of spare units"),
    (Site::DigestZero, "digests"),
];

#[test]
fn planted_bugs_are_found() {
    for &(site, name) in PLANTED {
        let (_, attack) = ATTACKS.iter().find(|(known, _)| *known == name).unwrap();
        let found = without(site, attack);
        assert!(found.is_err(), "{site:?} may be left out: {}", site.what());
    }
}

/// Every site in turn. `RECORD=PATH` writes `PATH.md` and `PATH.json`.
#[test]
#[ignore = "some minutes: cargo test --release -p parhelion-zkml --lib attack::deletions -- --ignored --nocapture"]
fn deletions() {
    let only = std::env::var("SITES").unwrap_or_default();
    let mut table = String::from("| site | without it | attack that fails | with |\n|---|---|---|---|\n");
    let (mut rows, mut survivors) = (Vec::new(), Vec::new());
    for &site in Site::ALL.iter().filter(|s| only.is_empty() || only.contains(&format!("{s:?}"))) {
        let start = Instant::now();
        let found = killed(site);
        let (attack, with) = found.clone().unwrap_or(("none", String::new()));
        let with: String = with.chars().take(110).collect();
        eprintln!("{site:?}: {attack}: {with} ({:.1?})", start.elapsed());
        let _ = writeln!(table, "| {site:?} | {} | {attack} | {} |", site.what(), with.replace('|', "/"));
        rows.push(serde_json::json!({
            "site": format!("{site:?}"), "constraint": site.what(), "attack": attack, "with": with,
        }));
        if found.is_none() {
            survivors.push(site);
        }
    }
    let (all, killed) = (rows.len(), rows.len() - survivors.len());
    let command = "cargo test --release -p parhelion-zkml --lib attack::deletions -- --ignored --nocapture";
    if let Ok(path) = std::env::var("RECORD") {
        let about = "Every place of the circuit's code that lays a constraint down is switched off in turn \
            (`zkml/src/machine/sites.rs`), and the attacks of `zkml/src/machine/attack` run on the circuit without it. \
            The table says which attack fails first.";
        let text = format!(
            "# Deletion of every constraint\n\n`RECORD=PATH {command}`\n\n{about} {killed} of {all} are noticed.\n\n{table}"
        );
        let record =
            serde_json::json!({"command": command, "sites": all, "killed": killed, "deletions": rows});
        std::fs::write(format!("{path}.md"), text).unwrap();
        std::fs::write(format!("{path}.json"), format!("{record:#}\n")).unwrap();
    }
    eprintln!("{killed} of {all} deletions are noticed");
    assert!(survivors.is_empty(), "may be left out: {survivors:?}");
}
