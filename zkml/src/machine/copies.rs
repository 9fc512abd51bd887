//! The copies of a layout: operands, variables that continue on further units, constants, public values, digests and commitments.

use std::collections::HashMap;

use super::layout::{Cell, Col, Layout};
use super::lowered::{Ref, Src};
use super::plan::PlanError;
use super::poseidon::gadget::Tied;
use super::sites::{Site, on};
use super::template::Def;

/// Finds all copies, the columns that take part in them, and the constants that they name.
pub(super) fn copies(layout: &mut Layout) -> Result<(), PlanError> {
    let mut copies: Vec<(Cell, Cell)> = Vec::new();
    let mut constants: Vec<i64> = Vec::new();
    let mut constant_rows: HashMap<i64, u32> = HashMap::new();
    let mut constant = |c: i64| -> Cell {
        let row = *constant_rows.entry(c).or_insert_with(|| {
            constants.push(c);
            constants.len() as u32 - 1
        });
        Cell { col: Col::Const, row }
    };
    for (strip, s) in layout.lowered.strips.iter().enumerate() {
        let placed = layout.placed(strip);
        type Link = (u16, u16, Option<u16>, Option<(u16, u16)>);
        let mut plan: Vec<Link> = Vec::new();
        for (unit, places) in placed.packed.places.iter().enumerate() {
            for place in places {
                let home = placed.packed.homes[place.var as usize];
                let here = (unit as u16, place.position);
                match placed.template.defs[place.var as usize] {
                    Def::Wire(w) => plan.push((here.0, here.1, Some(w), None)),
                    _ if home != Some(here) => plan.push((here.0, here.1, None, home)),
                    _ => {}
                }
            }
        }
        let source =
            |w: u16, element: u32| s.operands.get(w as usize).map_or(Src::Const(0), |o| o.at(element));
        let mut connect = |slot: u32, element: Option<u32>, idle: bool| -> Result<(), PlanError> {
            for &(unit, position, wire, home) in &plan {
                let cell = layout.slot_cell(strip, slot, unit, position);
                let (other, site) = match (wire, home, element) {
                    (Some(w), _, Some(e)) => match source(w, e) {
                        Src::Const(c) => (constant(c), Site::OperandConstant),
                        Src::Cell { tensor, index } => {
                            let home = layout.home(tensor, index).ok_or_else(|| {
                                PlanError::Internal(format!("no cell for an operand of {}", s.name))
                            })?;
                            (home, Site::OperandCell)
                        }
                    },
                    (None, Some((unit, position)), _) => {
                        (layout.slot_cell(strip, slot, unit, position), Site::SharedVariable)
                    }
                    _ => continue,
                };
                if on(site) && (!idle || on(Site::IdleOperand)) {
                    copies.push((cell, other));
                }
            }
            Ok(())
        };
        for (element, &slot) in s.slots.iter().enumerate() {
            connect(slot, Some(element as u32), false)?;
        }
        for &slot in &layout.idle[strip] {
            // Idle units of a folded strip have an accumulator of zero and no operands; others repeat the first element.
            connect(slot, if s.accumulate.is_some() { None } else { Some(0) }, true)?;
        }
    }
    for (at, row) in layout.lowered.scalars.iter().enumerate() {
        for (r, col, site) in [(row.a, Col::A, Site::ScalarFirst), (row.b, Col::B, Site::ScalarSecond)] {
            let Some(r) = r else { continue };
            let other = match r {
                Ref::Value(Src::Const(c)) => constant(c),
                r => layout
                    .reference(r)
                    .ok_or_else(|| PlanError::Internal("a scalar without a cell".into()))?,
            };
            if on(site) {
                copies.push((Cell { col, row: at as u32 }, other));
            }
        }
    }
    for (at, &src) in layout.lowered.public.iter().enumerate() {
        let cell = match src {
            Src::Const(c) => constant(c),
            Src::Cell { tensor, index } => layout
                .home(tensor, index)
                .ok_or_else(|| PlanError::Internal("a public value without a cell".into()))?,
        };
        if on(Site::PublicTie) {
            copies.push((Cell { col: Col::Instance, row: at as u32 }, cell));
        }
    }
    let home = |src: Src, constant: &mut dyn FnMut(i64) -> Cell| match src {
        Src::Const(c) => Ok(constant(c)),
        Src::Cell { tensor, index } => layout
            .home(tensor, index)
            .or_else(|| {
                let (row, column) = layout.stored(tensor, index)?;
                Some(Cell { col: Col::Store(column), row })
            })
            .ok_or_else(|| PlanError::Internal("an exposed value without a cell".into())),
    };
    for (cell, tied) in layout.hash.copies(&layout.lowered.hashes) {
        let (other, site) = match tied {
            Tied::Zero => (constant(0), Site::DigestZero),
            Tied::Cell(cell) => (cell, Site::DigestMessage),
            Tied::Source(src) => (home(src, &mut constant)?, Site::DigestSource),
        };
        if on(site) {
            copies.push((cell, other));
        }
    }
    for at in 0..layout.lowered.hashes.len() {
        let row = (layout.lowered.public.len() + at) as u32;
        let digest = layout.hash.digest(at);
        let digest = digest.ok_or_else(|| PlanError::Internal("a digest without a cell".into()))?;
        if on(Site::DigestTie) {
            copies.push((Cell { col: Col::Instance, row }, digest));
        }
    }
    for at in 0..layout.lowered.committed.len() {
        for (cell, src) in layout.committed_cells(at) {
            let home = home(src, &mut constant)?;
            if on(Site::CommittedTie) {
                copies.push((cell, home));
            }
        }
    }
    if constants.len() + 1 > layout.sized.usable() {
        return Err(PlanError::TooManyConstants { constants: constants.len(), rows: layout.sized.usable() });
    }
    let mut equal: Vec<Col> = copies.iter().flat_map(|(x, y)| [x.col, y.col]).collect();
    equal.sort_unstable();
    equal.dedup();
    (layout.copies, layout.equal, layout.constants) = (copies, equal, constants);
    Ok(())
}
