//! The search for a layout: limb widths, shapes and numbers of units, store columns, and lookups per running sum, by predicted proving time
//! and length of proof.

use std::sync::Arc;

use crate::qir::Program;

use super::cost::Counts;
use super::layout::{Choice, Sized, outline};
use super::lower::lower;
use super::lowered::Lowered;
use super::num::hull;
use super::place::{Specs, Templates, place, size};
use super::plan::{PlanError, PlanOptions};
use super::shortage::{Bound, Shortage};
use super::visibility::Exposure;

/// A layout that the search considers.
struct Candidate {
    /// Predicted milliseconds.
    cost: f64,
    bytes: usize,
    lowered: Arc<Lowered>,
    sized: Sized,
}

/// The best candidates: the fastest ones, the fastest of those whose proof is short enough, and the best compromises.
struct Shortlist {
    fast: Vec<Candidate>,
    short: Vec<Candidate>,
    between: Vec<Candidate>,
    target: usize,
    patience: Patience,
}

/// What a shorter proof may cost.
#[derive(Clone, Copy)]
struct Patience {
    /// As a part of the time.
    part: f64,
    /// In milliseconds.
    most: f64,
}

impl Patience {
    fn of(options: &PlanOptions) -> Self {
        Patience { part: f64::from(options.proof_patience) / 100.0, most: options.proof_patience_ms.into() }
    }

    fn at(self, cost: f64) -> f64 {
        (cost * self.part).min(self.most)
    }
}

/// Time, and for proofs beyond the target what every doubling may cost.
fn score(cost: f64, bytes: usize, target: usize, patience: Patience) -> f64 {
    let excess = bytes as f64 / target.max(1) as f64;
    if target == 0 { cost } else { cost + patience.at(cost) * excess.log2().max(0.0) }
}

/// Candidates of each kind that are laid out, for exact figures in place of estimates.
const FINALISTS: usize = 8;

/// Programs of more rows than this are not laid out several times.
const LARGE: usize = 1 << 15;

impl Shortlist {
    fn offer(&mut self, candidate: impl Fn() -> Candidate, cost: f64, bytes: usize) {
        let insert = |list: &mut Vec<Candidate>, rank: &dyn Fn(f64, usize) -> f64| {
            let own = rank(cost, bytes);
            let at = list.partition_point(|c| rank(c.cost, c.bytes) <= own);
            if at < FINALISTS {
                list.insert(at, candidate());
                list.truncate(FINALISTS);
            }
        };
        let (target, patience) = (self.target, self.patience);
        insert(&mut self.fast, &|cost, _| cost);
        insert(&mut self.between, &|cost, bytes| score(cost, bytes, target, patience));
        if bytes <= target {
            insert(&mut self.short, &|cost, _| cost);
        }
    }

    /// The candidate that the options want.
    fn decide(self, options: &PlanOptions) -> Option<Candidate> {
        // Exact figures, for every number of lanes: they weigh running sums against pieces of the quotient.
        let exact = |c: Candidate| -> Vec<Candidate> {
            if c.sized.unit_rows > LARGE {
                return vec![c];
            }
            let mut layout = outline((*c.lowered).clone(), c.sized);
            let with = |lanes: u16| {
                layout.sized.choice.lanes = lanes;
                let counts = Counts::of(&layout);
                let (cost, bytes) = (options.rates.predict(&counts).total(), counts.proof_bytes());
                Candidate { cost, bytes, lowered: Arc::clone(&c.lowered), sized: layout.sized.clone() }
            };
            LANES.into_iter().map(with).collect()
        };
        let all = self.fast.into_iter().chain(self.short).chain(self.between);
        let mut all: Vec<Candidate> = all.flat_map(exact).collect();
        all.sort_by(|x, y| x.cost.total_cmp(&y.cost));
        let patience = Patience::of(options);
        let fastest = all.first()?.cost;
        let limit = fastest + patience.at(fastest);
        let Some(target) = options.target_proof_bytes else { return Some(all.swap_remove(0)) };
        if let Some(short) = all.iter().position(|c| c.cost <= limit && c.bytes <= target) {
            return Some(all.swap_remove(short));
        }
        let score = |c: &Candidate| score(c.cost, c.bytes, target, patience);
        all.into_iter().min_by(|x, y| score(x).total_cmp(&score(y)))
    }
}

/// Lookup lanes per running sum that are tried: more make fewer columns of full width, and a quotient of more pieces.
const LANES: [u16; 6] = [2, 3, 4, 5, 6, 7];

/// Numbers of units per row that are tried, most first: what fits with none of them is not looked for with fewer.
const UNITS: [u32; 8] = [16, 12, 8, 6, 4, 3, 2, 1];

/// Rows up to which a layout is looked for to say what a program needs that fits no rows that are allowed.
const GREATEST_K: u32 = 28;

/// Sources of operands beyond which only one lowering keeps them.
const HEAVY: usize = 1 << 21;

/// Finds the best layout.
pub(super) fn search(
    program: &Program,
    exposure: &Exposure,
    options: &PlanOptions,
) -> Result<(Lowered, Sized), PlanError> {
    let counts: Vec<u32> = options.units.map_or_else(|| UNITS.to_vec(), |u| vec![u.clamp(1, 64)]);
    if let (Some(bound), Some(&most)) = (Bound::of(program, options.max_k), counts.first()) {
        bound.check(most)?;
    }
    // Estimates of a proof's length are a little off.
    let target = options.target_proof_bytes.map_or(0, |t| t + t / 16);
    let patience = Patience::of(options);
    let mut shortlist =
        Shortlist { fast: Vec::new(), short: Vec::new(), between: Vec::new(), target, patience };
    let mut all: Vec<(Arc<Lowered>, Specs)> = Vec::new();
    let mut heavy = false;
    for units in counts {
        match lower(program, exposure, units) {
            Ok(mut lowered) => {
                let specs = Specs::new(&lowered);
                if all.is_empty() {
                    enough_rows(&lowered, &specs, options)?;
                    heavy = lowered.sources() > HEAVY;
                }
                if heavy {
                    lowered.forget_sources();
                }
                all.push((Arc::new(lowered), specs));
            }
            Err(PlanError::Misaligned) if options.units.is_none() && units > 1 => {}
            Err(e) => return Err(e),
        }
    }
    // Numbers of units that lead to the same specs share their templates.
    all.sort_by_key(|(l, s)| (s.all.len(), l.units));
    for group in all.chunk_by(|x, y| x.1.all == y.1.all) {
        candidates(group, options, &mut shortlist);
    }
    let Some(found) = shortlist.decide(options) else {
        let Some((l, specs)) = all.iter().max_by_key(|(l, _)| l.units) else {
            return Err(Shortage::unknown(options.max_k).into());
        };
        return Err(match least(l, specs) {
            Some(sized) => Shortage::of(l, &sized, options.max_k).into(),
            None => Shortage::beyond(l, options.max_k).into(),
        });
    };
    if heavy {
        let units = found.lowered.units;
        drop((all, found.lowered));
        return Ok((lower(program, exposure, units)?, found.sized));
    }
    drop(all);
    Ok((Arc::unwrap_or_clone(found.lowered), found.sized))
}

/// Refuses a program that needs more rows than are allowed, before other numbers of units are looked at.
fn enough_rows(l: &Lowered, specs: &Specs, options: &PlanOptions) -> Result<(), PlanError> {
    // Whatever the templates, a slot is a unit of a row.
    if l.strips.iter().map(|s| s.span as usize / l.units as usize).sum::<usize>() < (1 << options.max_k) / 16
    {
        return Ok(());
    }
    match least(l, specs) {
        Some(sized) if sized.choice.k > options.max_k => Err(Shortage::of(l, &sized, options.max_k).into()),
        Some(_) => Ok(()),
        None => Err(Shortage::beyond(l, options.max_k).into()),
    }
}

/// The layout of the fewest rows for a number of units.
fn least(l: &Lowered, specs: &Specs) -> Option<Sized> {
    let mut best: Option<Sized> = None;
    let mut wide = false;
    while best.is_none() {
        for limb in [16, 12, 10, 8, 6, 4] {
            for (ranges, plain) in shapes(wide) {
                let Some(templates) = place(l, &specs.all, limb, ranges, plain) else { continue };
                for store in [64, 16, 4, 1] {
                    for store_limb in store_limbs(l, limb) {
                        let choice =
                            Choice { k: 1, limb, units: l.units, ranges, plain, store, store_limb, lanes: 3 };
                        let at = |k| size(l, specs, &templates, Choice { k, ..choice }, GREATEST_K);
                        let mut found = at(1);
                        while let Some(more) = found.as_ref().filter(|s| s.table_sets > 8) {
                            found = at(more.choice.k + 1);
                        }
                        let Some(sized) = found else { continue };
                        let rank = |s: &Sized| (s.choice.k, s.unit_rows.max(s.bulk_rows), s.shape.cells());
                        if best.as_ref().is_none_or(|b| rank(&sized) < rank(b)) {
                            best = Some(sized);
                        }
                    }
                    if l.bulks.is_empty() {
                        break;
                    }
                }
            }
        }
        if wide {
            break;
        }
        wide = true;
    }
    best
}

/// Range-checked and plain cells of units; wide values need units with many limbs.
fn shapes(wide: bool) -> Vec<(u16, u16)> {
    let (ranges, plain): (&[u16], &[u16]) =
        if wide { (&[6, 9, 12, 16], &[2, 4, 8, 12]) } else { (&[1, 2, 3, 4], &[1, 2, 3, 4, 5]) };
    ranges.iter().flat_map(|&r| plain.iter().map(move |&p| (r, p))).collect()
}

/// Widths of the limbs of stored weights: one whole, or that of other limbs.
fn store_limbs(l: &Lowered, limb: u32) -> [u32; 2] {
    let bits = hull(l.store_bounds.0.into(), l.store_bounds.1.into()).1;
    [bits.clamp(2, 18), limb]
}

fn candidates(group: &[(Arc<Lowered>, Specs)], options: &PlanOptions, shortlist: &mut Shortlist) {
    let Some((first, specs)) = group.first() else { return };
    // Units of many limbs are tried only where no small unit does.
    let mut found = false;
    for wide in [false, true] {
        if wide && found {
            break;
        }
        for limb in 4..=16 {
            for (ranges, plain) in shapes(wide) {
                let Some(templates) = place(first, &specs.all, limb, ranges, plain) else { continue };
                for (lowered, specs) in group {
                    found |= stores(lowered, specs, &templates, (limb, ranges, plain), options, shortlist);
                }
            }
        }
    }
}

/// Offers templates with every number of store columns; whether any layout fits.
fn stores(
    lowered: &Arc<Lowered>,
    specs: &Specs,
    templates: &Templates,
    (limb, ranges, plain): (u32, u16, u16),
    options: &PlanOptions,
    shortlist: &mut Shortlist,
) -> bool {
    let mut found = false;
    for store in [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64] {
        for store_limb in store_limbs(lowered, limb) {
            let units = lowered.units;
            let mut k = options.min_k;
            for _ in 0..6 {
                // More rows mean fewer sets of tables.
                let choice = Choice { k, limb, units, ranges, plain, store, store_limb, lanes: 3 };
                let Some(mut sized) = size(lowered, specs, templates, choice, options.max_k) else { break };
                k = sized.choice.k + 1;
                let sets = sized.table_sets;
                let lanes = sized.hash.lanes;
                if sets <= 8 {
                    found = true;
                    for lanes in LANES {
                        sized.choice.lanes = lanes;
                        let counts = Counts::estimate(lowered, &sized);
                        let (cost, bytes) = (options.rates.predict(&counts).total(), counts.proof_bytes());
                        let candidate =
                            || Candidate { cost, bytes, lowered: Arc::clone(lowered), sized: sized.clone() };
                        shortlist.offer(candidate, cost, bytes);
                    }
                }
                if sets <= 1 && lanes <= 1 {
                    break;
                }
                if sets > 64 {
                    k += 2;
                }
            }
        }
        if lowered.bulks.is_empty() {
            break;
        }
    }
    found
}
