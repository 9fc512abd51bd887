//! Inputs outside their bounds, with everything that follows from them as a prover would write it.

use halo2_axiom::halo2curves::bn256::Fr;
use parhelion_prover::ProofTranscript;

use super::super::circuit::ModelCircuit;
use super::super::layout::{Cell, Choice, Col};
use super::super::lowered::Src;
use super::super::num::fr;
use super::super::plan::{ProveError, plan};
use super::super::prove::{keygen, prove_circuit};
use super::super::template::Spec;
use super::super::witness;
use super::machine_common::{engine, srs};
use super::solve::{honest, small};
use super::{Build, Case, seeded};
use crate::exec;
use crate::machine::{PlanOptions, Vis, Visibility};
use crate::qir::{OpKind, Pick, Program, Role, TensorId, Term};

/// Types of inputs, and what their elements may be.
const TYPES: &[(&str, i64, i64)] = &[
    ("bool", 0, 1),
    ("int8", -128, 127),
    ("uint8", 0, 255),
    ("int16", -32_768, 32_767),
    ("uint16", 0, 65_535),
    ("int32", i32::MIN as i64, i32::MAX as i64),
    ("uint32", 0, u32::MAX as i64),
    ("int64", -(1 << 61), (1 << 61) - 1),
    ("float", -(1 << 18), (1 << 18) - 1),
    ("positive float", 0, (1 << 17) - 1),
    ("ten classes", 0, 9),
    ("years", 1900, 2100),
    ("an odd range", -5, 1000),
    ("negative", -9, -3),
    ("minus one or zero", -1, 0),
    ("one value", 7, 7),
];

fn program(lo: i64, hi: i64) -> (Program, TensorId) {
    let mut b = Build::default();
    let x = b.input(&[3], lo, hi);
    let picks = (0..3).map(|index| Pick::Of { source: 0, index }).collect();
    let y = b.op(OpKind::View { sources: vec![x], picks }, &[3], lo, hi);
    (b.output(y), x)
}

/// All cells of a witness whose element 1 of the input is `value`.
fn forged(case: &Case, x: TensorId, value: i128) -> Option<Vec<(Cell, Fr)>> {
    let (bench, l) = (&case.bench, &case.bench.layout);
    let at = l.lowered.strips.iter().position(|s| matches!(s.spec, Spec::Import { .. }))?;
    let placed = l.placed(at);
    let values = honest(&placed.template, &l.sized.tables, &[value], 0)?;
    let slot = l.lowered.strips[at].slots[1];
    let mut changes: Vec<(Cell, Fr)> = Vec::new();
    for (unit, places) in placed.packed.places.iter().enumerate() {
        let own = places
            .iter()
            .map(|p| (l.slot_cell(at, slot, unit as u16, p.position), fr(values[p.var as usize])));
        changes.extend(own);
    }
    let home = bench.element(x.0, 1)?;
    changes.extend(bench.class(home).into_iter().filter(|c| c.col != Col::Const).map(|c| (c, fr(value))));
    for hash in 0..l.lowered.hashes.len() {
        let of = |src: Src| match src {
            Src::Cell { index: 1, .. } => i64::try_from(value).unwrap_or(i64::MAX),
            Src::Cell { tensor, index } => {
                let cell = l.home(tensor, index);
                cell.and_then(|c| small(bench.value(c))).map_or(0, |x| x as i64)
            }
            Src::Const(c) => c,
        };
        let (cells, digest) = l.hash.forged(&l.lowered.hashes, (hash, 0), of, |_, _, x| x);
        changes.extend(cells);
        let row = (l.lowered.public.len() + hash) as u32;
        changes.push((Cell { col: Col::Instance, row }, digest));
    }
    Some(changes)
}

/// The nearest values outside, and some further away, for every type, limb and visibility.
pub(super) fn inputs_outside() -> Result<usize, String> {
    let mut tried = 0;
    for &(name, lo, hi) in TYPES {
        let (p, x) = program(lo, hi);
        for vis in [Vis::Private, Vis::Hashed, Vis::Committed] {
            let visibility = Visibility::new(vis, Vis::Private, Vis::Private);
            let found = plan(&p, &visibility, &PlanOptions::default()).map_err(|e| e.to_string())?;
            let found = found.layout().sized.choice;
            for limb in [2, 3, 5, 8] {
                let choice = Choice { limb, units: 1, ranges: 16, plain: 12, k: 6, ..found };
                let options = PlanOptions { choice: Some(choice), ..PlanOptions::default() };
                if plan(&p, &visibility, &options).is_err() {
                    continue;
                }
                let case = seeded(name, &p, &visibility, &options, 5);
                let (lo, hi) = (i128::from(lo), i128::from(hi));
                let wide = 1i128 << limb;
                for inside in [lo, hi, lo + (hi - lo) / 2] {
                    let changes = forged(&case, x, inside).ok_or("no forgery")?;
                    if let Some(v) = case.bench.violation(&changes) {
                        return Err(format!(
                            "{name}, {vis}, limb {limb}: {inside} is refused: {}",
                            v.constraint
                        ));
                    }
                }
                for outside in [
                    lo - 1,
                    hi + 1,
                    lo - 2,
                    hi + 2,
                    hi + wide,
                    lo - wide,
                    lo - (hi - lo) - 1,
                    2 * hi + 1 - lo,
                ] {
                    if (lo..=hi).contains(&outside) {
                        continue;
                    }
                    let changes = forged(&case, x, outside).ok_or("no forgery")?;
                    tried += 1;
                    if case.bench.accepts(&changes) {
                        return Err(format!("{name}, {vis}, limb {limb}: {outside} is admitted"));
                    }
                }
            }
        }
    }
    Ok(tried)
}

/// A flag that is not 0 or 1, and the score that follows from it, through the real prover and verifier.
#[test]
fn a_flag_of_three_is_no_input() {
    let mut b = Build::default();
    let c = b.input(&[1, 8], 0, 1);
    let w = b.data(&[1, 8], Role::Param, vec![128, 64, -32, 192, 256, -128, 77, 51]);
    let (a_axes, b_axes, out_axes) = (vec![0, 2], vec![1, 2], vec![0, 1]);
    let term = Term::Einsum { a: c, b: w, a_axes, b_axes, out_axes, coeff: 1 };
    let y = b.linear(vec![term], 0, 0, false, &[1, 1]);
    let p = b.output(y);
    let visibility: Visibility = "params=fixed,input=private,output=public".parse().unwrap();
    let plan = plan(&p, &visibility, &PlanOptions::default()).unwrap();
    let key = keygen(engine(), &srs(plan.k()), &plan).unwrap();
    let mut admitted = Vec::new();
    for flag in [0, 1, 2, 3, 7, 15, -1] {
        // A program that believes the flag makes the witness.
        let mut wide = p.clone();
        (wide.tensors[c.0 as usize].lo, wide.tensors[c.0 as usize].hi) = (-20, 20);
        let out = &mut wide.tensors[y.0 as usize];
        (out.lo, out.hi) = (-1 << 20, 1 << 20);
        let OpKind::Linear { pre_lo, pre_hi, .. } = &mut wide.ops[0].kind else { panic!("a sum") };
        (*pre_lo, *pre_hi) = (-1 << 20, 1 << 20);
        let trace = exec::run(&wide, &[vec![flag, 0, 1, 1, 0, 0, 1, 0]]).unwrap();
        let Ok(first) = witness::first(&wide, plan.layout(), &trace.values) else { continue };
        let circuit = ModelCircuit::new(&plan).with_first(first);
        match prove_circuit(engine(), &key, circuit, ProofTranscript::Blake2b, super::rng(1)) {
            Ok(_) => admitted.push(flag),
            Err(ProveError::Rejected(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(admitted, [0, 1]);
}
