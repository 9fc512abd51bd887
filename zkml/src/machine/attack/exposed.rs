//! Forgeries of digests, stores, entries of tables and running sums: a fault in one place, and everything after it as the gates ask for.

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;

use super::super::check::Bench;
use super::super::layout::{Cell, Col};
use super::super::lowered::Src;
use super::super::poseidon::gadget::COLUMNS;
use super::super::template::Spec;
use super::machine_common::mutants::{change_class, stores};
use super::{Case, case_of, small};
use crate::machine::PlanOptions;
use crate::qir::{Role, TensorId, Term};

/// Digests that come out after one cell was changed, at every position of every row of every block.
pub(super) fn steer_digests(case: &Case, every: usize) -> Result<usize, String> {
    let bench = &case.bench;
    let l = &bench.layout;
    let mut tried = 0;
    let value = |src: Src| match src {
        Src::Const(c) => c,
        Src::Cell { tensor, index } => {
            let cell = l.home(tensor, index).or_else(|| {
                let (row, column) = l.stored(tensor, index)?;
                Some(Cell { col: Col::Store(column), row })
            });
            cell.and_then(|c| small(bench.value(c))).map_or(0, |x| x as i64)
        }
    };
    for hash in 0..l.lowered.hashes.len() {
        let row = (l.lowered.public.len() + hash) as u32;
        let instance = Cell { col: Col::Instance, row };
        let (blocks, rows) = l.hash.shape(hash);
        let (same, honest) = l.hash.forged(&l.lowered.hashes, (hash, 0), value, |_, _, x| x);
        if honest != bench.value(instance) || same.iter().any(|&(c, x)| bench.value(c) != x) {
            return Err(format!("{}: the forger's digest {hash} is not the circuit's", case.name));
        }
        let places =
            (0..blocks).flat_map(|n| (0..rows).flat_map(move |r| (0..COLUMNS).map(move |p| (n, r, p))));
        for (n, r, p) in places.step_by(every) {
            let change = |row, position, x: Fr| if (row, position) == (r, p) { x + Fr::ONE } else { x };
            let (mut changes, digest) = l.hash.forged(&l.lowered.hashes, (hash, n), value, change);
            if digest == honest {
                continue;
            }
            changes.retain(|&(c, x)| bench.value(c) != x);
            changes.push((instance, digest));
            tried += 1;
            if bench.accepts(&changes) {
                return Err(format!(
                    "{}: digest {hash} with row {r}, position {p} of block {n} changed",
                    case.name
                ));
            }
        }
    }
    Ok(tried)
}

/// Multiplicities that do not fit, with running sums that begin elsewhere so that they end at zero.
pub(super) fn shift_sums(case: &Case) -> Result<usize, String> {
    let bench = &case.bench;
    let l = &bench.layout;
    let mut tried = 0;
    for cell in bench.multiplicities().into_iter().step_by(5) {
        let wrong = (cell, bench.value(cell) + Fr::ONE);
        let columns = bench.late(&[wrong]);
        let last = l.usable() - 1;
        let end: Fr = columns.phi.iter().map(|c| c[last]).sum();
        let mut shifted = vec![wrong];
        shifted.extend((0..l.usable()).map(|row| {
            let cell = Cell { col: Col::Phi(0), row: row as u32 };
            (cell, columns.get(cell) - end)
        }));
        tried += 2;
        for changes in [&shifted[..1], &shifted] {
            if bench.accepts(changes) {
                return Err(format!("{}: multiplicity {cell:?} one more", case.name));
            }
        }
    }
    Ok(tried)
}

/// Entries of units that pad a row: another key or value, which an element then reads.
pub(super) fn spare_entries(case: &Case) -> Result<usize, String> {
    let bench = &case.bench;
    let l = &bench.layout;
    let mut tried = 0;
    for (at, strip) in l.lowered.strips.iter().enumerate() {
        let Spec::Provide { .. } = strip.spec else { continue };
        let read = l.lowered.strips.iter().position(|s| matches!(s.spec, Spec::Read { .. }));
        let Some(read) = read else { continue };
        let out = l.lowered.strips[read].outs[0];
        let places = |at: usize, slot: u32, position: u16| {
            let units = l.placed(at).packed.places.iter().enumerate();
            let units = units.filter(move |(_, p)| p.iter().any(|p| p.position == position));
            units.map(move |(unit, _)| l.slot_cell(at, slot, unit as u16, position)).collect::<Vec<_>>()
        };
        for &slot in &l.idle[at] {
            let home = l.home(out, 0).ok_or("no cell")?;
            let forged = bench.value(home) + Fr::from(1000);
            let read_slot = l.lowered.strips[read].slots[0];
            let key = places(read, read_slot, 0).first().map(|&c| bench.value(c)).ok_or("no key")?;
            let mut changes: Vec<(Cell, Fr)> = change_class(bench, home, forged);
            changes.extend(places(at, slot, 0).into_iter().map(|c| (c, key)));
            changes.extend(places(at, slot, 1).into_iter().map(|c| (c, forged)));
            tried += 1;
            if bench.accepts(&changes) {
                return Err(format!("{}: an entry of a spare unit is read", case.name));
            }
        }
    }
    Ok(tried)
}

/// Junk where an output stands, as the counterweight of a wrong output.
pub(super) fn junk_for_outputs(case: &Case, y: TensorId) -> Result<usize, String> {
    let bench = &case.bench;
    let l = &bench.layout;
    let mut tried = 0;
    for (at, junk) in l.lowered.junks.iter().enumerate() {
        for position in 0..junk.positions {
            let cell = Cell { col: Col::Junk, row: l.junk_row(at, position) };
            for element in 0..4 {
                let Some(out) = bench.element(y.0, element) else { continue };
                for delta in [Fr::ONE, -Fr::ONE] {
                    let mut changes = change_class(bench, out, bench.value(out) + Fr::ONE);
                    changes.push((cell, bench.value(cell) + delta));
                    tried += 1;
                    if bench.accepts(&changes) {
                        return Err(format!("{}: junk {position} for output {element}", case.name));
                    }
                }
            }
        }
    }
    Ok(tried)
}

/// Padding of the store as a weight of another group.
pub(super) fn padding_as_weights() -> Result<usize, String> {
    let mut tried = 0;
    for (name, p, visibility, choice) in stores() {
        let options = PlanOptions { choice: Some(choice), ..PlanOptions::default() };
        let case = case_of(name, &p, visibility, &options);
        let bench = &case.bench;
        for (cell, read) in bench.store_padding() {
            if read {
                tried += 1;
                if bench.accepts(&[(cell, Fr::ONE)]) {
                    return Err(format!("{name}: padding that a gate reads"));
                }
            }
            let Some(Term::Conv { x, .. }) = p.ops.first().and_then(|op| match &op.kind {
                crate::qir::OpKind::Linear { terms, .. } => terms.first(),
                _ => None,
            }) else {
                continue;
            };
            let pixels = p.tensor(*x).len() as u32 / 2;
            let y = p.outputs[0];
            for (from, to) in [(0, pixels), (pixels, 0)] {
                let mut changes = vec![(cell, Fr::from(2))];
                for pixel in 0..pixels {
                    let (image, out) = (bench.element(x.0, from + pixel), bench.element(y.0, to + pixel));
                    let (Some(image), Some(out)) = (image, out) else { continue };
                    let forged = bench.value(out) + bench.value(image).double();
                    changes.extend(change_class(bench, out, forged));
                }
                tried += 1;
                if bench.accepts(&changes) {
                    return Err(format!("{name}: padding of the store is a weight"));
                }
            }
        }
    }
    Ok(tried)
}

/// A weight outside the hull that is said, with the output that follows from it; one inside is another model, and fine.
pub(super) fn weights_outside() -> Result<usize, String> {
    use crate::machine::{Vis, Visibility};
    let mut tried = 0;
    for vis in [Vis::Private, Vis::Hashed, Vis::Committed] {
        // In the store, and as a factor that has a cell.
        for stored in [true, false] {
            let mut b = super::machine_common::Build::default();
            let x = b.input(&[1, 1], 1, 100);
            let w = b.data(&[1, 1], Role::Param, vec![5]);
            (b.p.tensors[w.0 as usize].lo, b.p.tensors[w.0 as usize].hi) = (-100, 100);
            let (a_axes, b_axes, out_axes) = (vec![0, 2], vec![1, 2], vec![0, 1]);
            let term = if stored {
                Term::Einsum { a: x, b: w, a_axes, b_axes, out_axes, coeff: 1 }
            } else {
                Term::Product { a: x, b: w, coeff: 1 }
            };
            let y = b.linear(vec![term], 0, 0, false, &[1, 1]);
            let p = b.output(y);
            let visibility = Visibility::new(Vis::Private, Vis::Public, vis);
            let options = PlanOptions { units: Some(1), ..PlanOptions::default() };
            let case = case_of("one weight", &p, visibility, &options);
            let (bench, l) = (&case.bench, &case.bench.layout);
            let width = if stored && l.sized.store_limbs > 1 { continue } else { 1i128 << 20 };
            let cell = match l.home(w.0, 0) {
                Some(cell) => cell,
                None => l.lowered.bulks.first().map(|_| l.bulk_cell(0, 0)).map_or(
                    Cell { col: Col::Store(0), row: 0 },
                    |(row, column)| Cell { col: Col::Store(column), row },
                ),
            };
            let out = bench.element(y.0, 0).ok_or("no output")?;
            let input = bench.value(bench.element(x.0, 0).ok_or("no input")?);
            let half = Option::<Fr>::from(Fr::from(2).invert()).unwrap_or(Fr::ONE);
            for (forged, fine) in [
                (Fr::from(6), vis != Vis::Hashed),
                (Fr::from(width as u64), false),
                (-Fr::from(width as u64), false),
                (half, false),
            ] {
                let mut changes = change_class(bench, cell, forged);
                // A weight of several limbs has them all wrong here, which is refused as well.
                changes.extend(change_class(bench, out, forged * input));
                tried += 1;
                if bench.accepts(&changes) && !fine {
                    return Err(format!("a {vis} weight {forged:?} is outside its range; stored: {stored}"));
                }
            }
        }
    }
    Ok(tried)
}

/// Copies: every cell that stands for another is tied to it.
pub(super) fn copies_are_complete(bench: &Bench, name: &str) -> Result<usize, String> {
    let l = &bench.layout;
    let mut tried = 0;
    for (at, strip) in l.lowered.strips.iter().enumerate() {
        let packed = &l.placed(at).packed;
        for &slot in strip.slots.iter().chain(&l.idle[at]) {
            for (unit, places) in packed.places.iter().enumerate() {
                for place in places {
                    let Some((u, p)) = packed.homes[place.var as usize] else { continue };
                    if (u, p) == (unit as u16, place.position)
                        || matches!(
                            l.placed(at).template.defs[place.var as usize],
                            super::super::template::Def::Wire(_)
                        )
                    {
                        continue;
                    }
                    let (cell, home) =
                        (l.slot_cell(at, slot, unit as u16, place.position), l.slot_cell(at, slot, u, p));
                    tried += 1;
                    if !bench.class(cell).contains(&home) {
                        return Err(format!(
                            "{name}: a variable of {} on two units has two values",
                            strip.name
                        ));
                    }
                }
            }
        }
    }
    Ok(tried)
}
