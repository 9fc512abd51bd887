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

/// Finds the best layout.
pub(super) fn search(
    program: &Program,
    exposure: &Exposure,
    options: &PlanOptions,
) -> Result<(Lowered, Sized), PlanError> {
    let counts: Vec<u32> =
        options.units.map_or_else(|| vec![1, 2, 3, 4, 6, 8, 12, 16], |u| vec![u.clamp(1, 64)]);
    // Estimates of a proof's length are a little off.
    let target = options.target_proof_bytes.map_or(0, |t| t + t / 16);
    let patience = Patience::of(options);
    let mut shortlist =
        Shortlist { fast: Vec::new(), short: Vec::new(), between: Vec::new(), target, patience };
    let mut all: Vec<(Arc<Lowered>, Specs)> = Vec::new();
    for units in counts {
        match lower(program, exposure, units) {
            Ok(lowered) => {
                let specs = Specs::new(&lowered);
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
    let found = shortlist.decide(options).ok_or(PlanError::TooLarge { max_k: options.max_k })?;
    Ok((Arc::unwrap_or_clone(found.lowered), found.sized))
}

fn candidates(group: &[(Arc<Lowered>, Specs)], options: &PlanOptions, shortlist: &mut Shortlist) {
    let Some((first, specs)) = group.first() else { return };
    // Wide values need units with many limbs; those are tried only where no small unit does.
    let shapes = |wide: bool| {
        let sizes: &[(&[u16], &[u16])] =
            if wide { &[(&[6, 9, 12, 16], &[2, 4, 8, 12])] } else { &[(&[1, 2, 3, 4], &[1, 2, 3, 4, 5])] };
        sizes
            .iter()
            .flat_map(|(r, p)| r.iter().flat_map(|&r| p.iter().map(move |&p| (r, p))))
            .collect::<Vec<_>>()
    };
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
    let weight_bits = hull(lowered.store_bounds.0.into(), lowered.store_bounds.1.into()).1;
    let mut found = false;
    for store in [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64] {
        for store_limb in [weight_bits.clamp(2, 18), limb] {
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
