//! Emission of sweeps and scalar rows: how a polynomial over tensor elements becomes one scalar.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::lowered::{Base, Bulk, Elements, Folded, Home, Mul, Operand, Ref, ScalarRow, Src, Strip, Sweep};
use super::plan::PlanError;
use super::sites::{Site, on};
use super::template::Spec;

/// Exponents of τ and ρ.
pub(crate) type Exps = (u32, u32);

/// Steps of one uninterrupted chain of scalar rows.
#[derive(Default)]
pub(crate) struct Chain(Vec<ScalarRow>);

fn row(mul: Mul, op: u32) -> ScalarRow {
    ScalarRow {
        mul,
        product: 0,
        linear: 0,
        constant: 0,
        rho: 0,
        tau: 0,
        a: None,
        b: None,
        zero: false,
        folded: None,
        op,
    }
}

impl Chain {
    fn mul(&self, then: Mul) -> Mul {
        if self.0.is_empty() { Mul::Zero } else { then }
    }

    /// `mul·acc + factor·x`.
    pub(crate) fn add(&mut self, mul: Mul, factor: i128, x: Ref, op: u32) {
        let mut r = row(self.mul(mul), op);
        match x {
            Ref::Value(Src::Const(c)) => r.constant = factor * i128::from(c),
            x => (r.linear, r.a) = (factor, Some(x)),
        }
        self.0.push(r);
    }

    /// `acc + factor·x·y`.
    pub(crate) fn add_product(&mut self, factor: i128, x: Ref, y: Ref, op: u32) {
        match (x, y) {
            (Ref::Value(Src::Const(0)), _) | (_, Ref::Value(Src::Const(0))) => {}
            (Ref::Value(Src::Const(c)), other) | (other, Ref::Value(Src::Const(c)))
                if fits(factor, c, other) =>
            {
                self.add(Mul::One, factor * i128::from(c), other, op);
            }
            (x, y) => {
                let mut r = row(self.mul(Mul::One), op);
                (r.product, r.a, r.b) = (factor, Some(x), Some(y));
                self.0.push(r);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The parts of a lowering that folding extends.
pub(crate) struct Folder {
    pub(crate) units: u32,
    pub(crate) strips: Vec<Strip>,
    pub(crate) homes: Vec<Home>,
    pub(crate) sweeps: Vec<Sweep>,
    pub(crate) bulks: Vec<Bulk>,
    pub(crate) scalars: Vec<ScalarRow>,
    powers: BTreeMap<(Base, u32), u32>,
    sums: BTreeMap<(u32, u32), Ref>,
    /// Sweeps over each strip and lane: sorted disjoint intervals.
    taken: HashMap<(u32, u8), BTreeMap<u32, u32>>,
    known: HashMap<(Vec<Src>, Vec<Exps>), Ref>,
    /// Sweeps over runs of an output's slots from one slot, by their exponents less the first one.
    runs: HashMap<(u32, u16, u32), Vec<Run>>,
    bulk_at: HashMap<(u32, u32), u32>,
    jumps: BTreeMap<(Base, u32), usize>,
    copies: Option<u32>,
    copy_sources: Vec<Src>,
    copy_slots: Vec<u32>,
    /// Slots of strips of gathered elements that an element has.
    gathered_slots: HashMap<u32, HashSet<u32>>,
}

/// How many distinct multipliers sweeps may use before they are cut instead.
const MULTIPLIERS: usize = 8;

/// Whether `factor·c`, and that times another constant, is within 128 bits.
fn fits(factor: i128, c: i64, other: Ref) -> bool {
    let all = factor.checked_mul(c.into());
    match other {
        Ref::Value(Src::Const(d)) => all.and_then(|x| x.checked_mul(d.into())).is_some(),
        _ => all.is_some(),
    }
}

fn misfolded() -> PlanError {
    PlanError::Internal("a fold over stored weights that are not stored so".into())
}

/// Whether monomials are 1, τ, τ², …
pub(crate) fn consecutive(exps: &[Exps]) -> bool {
    exps.iter().enumerate().all(|(j, &e)| e == (j as u32, 0))
}

#[derive(Clone, Copy)]
struct Piece {
    from: usize,
    what: Ref,
}

/// A run of slots that is swept already.
struct Run {
    exps: Vec<Exps>,
    pieces: Vec<Piece>,
}

impl Folder {
    pub(crate) fn new(units: u32, strips: Vec<Strip>, homes: Vec<Home>, bulks: Vec<Bulk>) -> Self {
        let bulk_at =
            bulks.iter().enumerate().map(|(i, b)| ((b.tensor, b.elements.first()), i as u32)).collect();
        Folder {
            units,
            strips,
            homes,
            sweeps: Vec::new(),
            bulks,
            scalars: Vec::new(),
            powers: BTreeMap::new(),
            sums: BTreeMap::new(),
            taken: HashMap::new(),
            known: HashMap::new(),
            runs: HashMap::new(),
            bulk_at,
            jumps: BTreeMap::new(),
            copies: None,
            copy_sources: Vec::new(),
            copy_slots: Vec::new(),
            gathered_slots: HashMap::new(),
        }
    }

    /// Ends a chain; its result.
    pub(crate) fn emit(&mut self, chain: Chain) -> Ref {
        if chain.is_empty() {
            return Ref::Value(Src::Const(0));
        }
        if let [only] = chain.0.as_slice()
            && let (1, 0, 0, 0, 0, Some(a)) =
                (only.linear, only.product, only.constant, only.rho, only.tau, only.a)
        {
            return a;
        }
        self.scalars.extend(chain.0);
        Ref::Row(self.scalars.len() as u32 - 1)
    }

    /// Ends a chain whose result is zero: an identity of the statement.
    pub(crate) fn emit_zero(&mut self, at: Site, mut chain: Chain) {
        if let Some(last) = chain.0.last_mut() {
            last.zero = on(at);
            self.scalars.extend(chain.0);
        }
    }

    /// Ends a chain whose result is an entry or a use of a table of rows; its scalar row.
    pub(crate) fn emit_folded(&mut self, mut chain: Chain, folded: Folded) -> u32 {
        if let Some(last) = chain.0.last_mut() {
            last.folded = (folded.entry || on(Site::RowUse)).then_some(folded);
        }
        self.scalars.extend(chain.0);
        self.scalars.len() as u32 - 1
    }

    /// `Σ_{j < n} ρ^(step·j)`.
    pub(crate) fn geometric(&mut self, step: u32, n: u32, op: u32) -> Ref {
        if n <= 1 {
            return Ref::Value(Src::Const(1));
        }
        if let Some(&at) = self.sums.get(&(step, n)) {
            return at;
        }
        let mut chain = Chain::default();
        if n.is_multiple_of(2) {
            let half = self.geometric(step, n / 2, op);
            let power = self.power(Base::Rho, step * (n / 2), op);
            chain.add(Mul::One, 1, half, op);
            chain.add_product(1, half, power, op);
        } else {
            let less = self.geometric(step, n - 1, op);
            let power = self.power(Base::Rho, step * (n - 1), op);
            chain.add(Mul::One, 1, less, op);
            chain.add(Mul::One, 1, power, op);
        }
        let at = self.emit(chain);
        self.sums.insert((step, n), at);
        at
    }

    /// `x·y`.
    pub(crate) fn product(&mut self, x: Ref, y: Ref, op: u32) -> Ref {
        let mut chain = Chain::default();
        chain.add_product(1, x, y, op);
        self.emit(chain)
    }

    /// `ρ + constant + factor·x`.
    pub(crate) fn shifted(&mut self, factor: i128, constant: i128, x: Ref, op: u32) -> Ref {
        let mut r = row(Mul::Zero, op);
        (r.rho, r.constant) = (1, constant);
        match x {
            Ref::Value(Src::Const(c)) => r.constant += factor * i128::from(c),
            x => (r.linear, r.a) = (factor, Some(x)),
        }
        self.scalars.push(r);
        Ref::Row(self.scalars.len() as u32 - 1)
    }

    /// A power of a challenge.
    pub(crate) fn power(&mut self, base: Base, exponent: u32, op: u32) -> Ref {
        if exponent == 0 || base == Base::One {
            return Ref::Value(Src::Const(1));
        }
        if let Some(&at) = self.powers.get(&(base, exponent)) {
            return Ref::Row(at);
        }
        let mut r = row(Mul::Zero, op);
        if exponent == 1 {
            if base == Base::Rho { r.rho = 1 } else { r.tau = 1 }
        } else {
            let near = self.powers.range((base, 1)..(base, exponent)).next_back().map(|(&(_, e), _)| e);
            let split = match near {
                Some(e) if self.powers.contains_key(&(base, exponent - e)) => e,
                _ if exponent.is_multiple_of(2) => exponent / 2,
                _ => exponent - 1,
            };
            let a = self.power(base, split, op);
            let b = self.power(base, exponent - split, op);
            (r.product, r.a, r.b) = (1, Some(a), Some(b));
        }
        self.scalars.push(r);
        let at = self.scalars.len() as u32 - 1;
        self.powers.insert((base, exponent), at);
        Ref::Row(at)
    }

    /// `Σ base^exponent · x` over parts of one base, as a chain.
    fn horner(&mut self, base: Base, parts: &[(u32, Ref)], factor: i128, op: u32) -> Chain {
        let mul = if base == Base::Rho { Mul::Rho } else { Mul::Tau };
        let mut parts = parts.to_vec();
        parts.sort_by_key(|&(e, _)| e);
        let mut chain = Chain::default();
        let dense =
            parts.first().is_some_and(|&(e, _)| e == 0) && parts.windows(2).all(|w| w[1].0 - w[0].0 <= 1);
        if dense {
            for i in (0..parts.len()).rev() {
                let same = i + 1 < parts.len() && parts[i + 1].0 == parts[i].0;
                chain.add(if same { Mul::One } else { mul }, factor, parts[i].1, op);
            }
            return chain;
        }
        let powers: Vec<Ref> = parts.iter().map(|&(e, _)| self.power(base, e, op)).collect();
        for (&(_, x), p) in parts.iter().zip(powers) {
            chain.add_product(factor, p, x, op);
        }
        chain
    }

    /// `factor · Σ τ^a ρ^b · x` over parts, as a chain.
    pub(crate) fn combine(&mut self, parts: &[(Exps, Ref)], factor: i128, op: u32) -> Chain {
        let mut groups: BTreeMap<u32, Vec<(u32, Ref)>> = BTreeMap::new();
        for &((a, b), x) in parts {
            groups.entry(a).or_default().push((b, x));
        }
        if groups.len() == 1
            && let Some(group) = groups.get(&0)
        {
            let group = group.clone();
            return self.horner(Base::Rho, &group, factor, op);
        }
        let mut outer = Vec::new();
        for (a, group) in groups {
            let inner = match group.as_slice() {
                [(0, x)] => *x,
                group => {
                    let chain = self.horner(Base::Rho, group, 1, op);
                    self.emit(chain)
                }
            };
            outer.push((a, inner));
        }
        self.horner(Base::Tau, &outer, factor, op)
    }

    fn place(&self, src: Src) -> Option<(u32, u16, u32)> {
        let Src::Cell { tensor, index } = src else { return None };
        match self.homes.get(tensor as usize)? {
            Home::Strip { strip, out } => {
                let slot = *self.strips.get(*strip as usize)?.slots.get(index as usize)?;
                Some((*strip, *out, slot))
            }
            _ => None,
        }
    }

    fn multiplier(&mut self, base: Base, step: u32) -> bool {
        let known = self.jumps.contains_key(&(base, step));
        if !known && self.jumps.len() >= MULTIPLIERS && step > self.units {
            return false;
        }
        *self.jumps.entry((base, step)).or_default() += 1;
        true
    }

    fn step(x: Exps, y: Exps) -> Option<(Base, u32)> {
        match (y.0.checked_sub(x.0)?, y.1.checked_sub(x.1)?) {
            (0, 0) => Some((Base::One, 0)),
            (a, 0) => Some((Base::Tau, a)),
            (0, b) => Some((Base::Rho, b)),
            _ => None,
        }
    }

    /// Whether a sweep may cover these slots of a strip, and on which lane.
    fn lane(&self, strip: u32, from: u32, to: u32, port: bool) -> Option<u8> {
        let clear = |lane: u8| {
            let Some(taken) = self.taken.get(&(strip, lane)) else { return true };
            taken.range(..=to).next_back().is_none_or(|(_, &end)| end < from)
        };
        if port {
            return clear(0).then_some(0);
        }
        if clear(1) {
            return Some(1);
        }
        let swept = self.strips.get(strip as usize).is_some_and(|s| s.accumulate.is_some());
        (!swept && clear(0)).then_some(0)
    }

    /// Sweeps over as long intervals as fit, of consecutive slots `slots` (ascending by one) with exponents `exps`.
    fn sweep_run(
        &mut self,
        strip: u32,
        out: Option<u16>,
        slots: &[u32],
        exps: &[Exps],
        greatest: Option<Exps>,
    ) -> Result<Option<Vec<Piece>>, PlanError> {
        let units = self.units as usize;
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < slots.len() {
            if !(slots[at] as usize).is_multiple_of(units) {
                return Err(PlanError::Misaligned);
            }
            let row = |r: usize| at + r * units..(at + (r + 1) * units).min(slots.len());
            let mut inner: Option<(Base, u32)> = None;
            let mut base: Option<Base> = None;
            let mut jumps = Vec::new();
            let mut rows = 0;
            'rows: loop {
                let cells = row(rows);
                if cells.start >= slots.len() {
                    break;
                }
                for i in cells.start + 1..cells.end {
                    let step = Self::step(exps[i - 1], exps[i]);
                    match (step, inner) {
                        (None, _) => break 'rows,
                        (Some(s), None) => inner = Some(s),
                        (Some(s), Some(t)) if s == t => {}
                        _ => break 'rows,
                    }
                }
                if let Some((b, _)) = inner {
                    if base.is_some_and(|base| base != b && base != Base::One) {
                        break;
                    }
                    base = Some(b);
                }
                if rows > 0 {
                    let Some((b, jump)) = Self::step(exps[cells.start - units], exps[cells.start]) else {
                        break;
                    };
                    if base.is_some_and(|base| base != b) || !self.multiplier(b, jump) {
                        break;
                    }
                    base = Some(b);
                    jumps.push(jump);
                }
                rows += 1;
            }
            if rows == 0 {
                return Err(PlanError::Misaligned);
            }
            let to = row(rows - 1).end - 1;
            let last = row(rows - 1);
            if let (Some(greatest), true) = (greatest, last.len() < units) {
                // Idle units of the last row carry higher powers; those must belong to no output.
                let (b, _) = *inner.get_or_insert((base.unwrap_or(Base::Tau), 1));
                let beyond = match b {
                    Base::One => false,
                    Base::Tau => exps[to].0 >= greatest.0,
                    Base::Rho => exps[to].1 >= greatest.1,
                };
                if !beyond || base.is_some_and(|base| base != b) {
                    return Err(PlanError::Misaligned);
                }
                base = Some(b);
            }
            let (base, step) = (base.unwrap_or(Base::One), inner.map_or(0, |(_, s)| s));
            let Some(lane) = self.lane(strip, slots[at], slots[to], out.is_none()) else { return Ok(None) };
            self.taken.entry((strip, lane)).or_default().insert(slots[at], slots[to]);
            self.sweeps.push(Sweep {
                strip,
                lane,
                from: slots[at],
                to: slots[to],
                out,
                base,
                step,
                jumps: jumps.into(),
            });
            pieces.push(Piece { from: at, what: Ref::Sweep(self.sweeps.len() as u32 - 1) });
            at = to + 1;
        }
        Ok(Some(pieces))
    }

    /// The parts of the polynomial of a strip's ports over some of its elements.
    pub(crate) fn port(
        &mut self,
        strip: u32,
        elements: &[u32],
        exps: &[Exps],
    ) -> Result<Vec<(Exps, Ref)>, PlanError> {
        let slots = Arc::clone(&self.strips[strip as usize].slots);
        let greatest =
            (exps.iter().map(|e| e.0).max().unwrap_or(0), exps.iter().map(|e| e.1).max().unwrap_or(0));
        let mut order: Vec<usize> = (0..elements.len()).collect();
        order.sort_by_key(|&i| slots[elements[i] as usize]);
        let mut parts = Vec::new();
        let mut start = 0;
        while start < order.len() {
            let mut end = start + 1;
            let slot = |i: usize| slots[elements[order[i]] as usize];
            while end < order.len() && slot(end) == slot(end - 1) + 1 {
                end += 1;
            }
            let run: Vec<u32> = (start..end).map(slot).collect();
            let run_exps: Vec<Exps> = (start..end).map(|i| exps[order[i]]).collect();
            let pieces =
                self.sweep_run(strip, None, &run, &run_exps, Some(greatest))?.ok_or(PlanError::Misaligned)?;
            parts.extend(pieces.into_iter().map(|p| (run_exps[p.from], p.what)));
            start = end;
        }
        Ok(parts)
    }

    /// `Σ τ^a ρ^b · x` over sources.
    pub(crate) fn poly(&mut self, sources: &[Src], exps: &[Exps], op: u32) -> Result<Ref, PlanError> {
        if let ([only], [(0, 0)]) = (sources, exps)
            && !self.is_stored(*only)
        {
            return Ok(Ref::Value(*only));
        }
        let key = (sources.to_vec(), exps.to_vec());
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let result = self.poly_fresh(sources, exps, op)?;
        self.known.insert(key, result);
        Ok(result)
    }

    /// `Σ τ^j · x_j` and, times higher powers, whatever idle units hold: what no row of a table has beyond its length, no row that equals it
    /// has either. The result must not be part of anything else.
    pub(crate) fn gathered(&mut self, sources: &[Src], op: u32) -> Result<Ref, PlanError> {
        let exps: Vec<Exps> = (0..sources.len() as u32).map(|j| (j, 0)).collect();
        if let Some((strip, out, slots)) = self.alone(sources)
            && let Some(pieces) = self.sweep_run(strip, Some(out), &slots, &exps, None)?
        {
            let parts: Vec<(Exps, Ref)> = pieces.into_iter().map(|p| (exps[p.from], p.what)).collect();
            let chain = self.combine(&parts, 1, op);
            return Ok(self.emit(chain));
        }
        self.poly(sources, &exps, op)
    }

    /// The slots of sources that follow one another from the first unit of a row of gathered elements, with nothing after them on their last row.
    fn alone(&mut self, sources: &[Src]) -> Option<(u32, u16, Vec<u32>)> {
        let (strip, out, first) = self.place(*sources.first()?)?;
        let slots: Vec<u32> = (0..sources.len() as u32).map(|i| first + i).collect();
        let follow = sources.iter().zip(&slots).all(|(&s, &slot)| self.place(s) == Some((strip, out, slot)));
        let gathered = self.strips[strip as usize].spec == Spec::Gathered;
        if !gathered || !follow || !first.is_multiple_of(self.units) {
            return None;
        }
        let strip_slots = &self.strips[strip as usize].slots;
        let taken = self.gathered_slots.entry(strip).or_insert_with(|| strip_slots.iter().copied().collect());
        let end = first + sources.len() as u32;
        let idle = (end..end.next_multiple_of(self.units)).all(|slot| !taken.contains(&slot));
        idle.then_some((strip, out, slots))
    }

    /// `Σ τ^j · w_j` over weights of the store.
    pub(crate) fn stored(&self, tensor: u32, elements: &Elements, exps: &[Exps]) -> Result<Ref, PlanError> {
        let bulk = self.bulk_at.get(&(tensor, elements.first())).copied().ok_or_else(misfolded)?;
        let same = self.bulks[bulk as usize].elements.same(elements) && consecutive(exps);
        if same && exps.len() == elements.len() { Ok(Ref::Bulk(bulk)) } else { Err(misfolded()) }
    }

    /// Whether a tensor's elements are in the store and nowhere else.
    pub(crate) fn in_store(&self, tensor: u32) -> bool {
        matches!(self.homes.get(tensor as usize), Some(Home::Store))
    }

    fn is_stored(&self, src: Src) -> bool {
        matches!(src, Src::Cell { tensor, .. } if self.in_store(tensor))
    }

    fn poly_fresh(&mut self, sources: &[Src], exps: &[Exps], op: u32) -> Result<Ref, PlanError> {
        if let Some(&Src::Cell { tensor, index }) = sources.first()
            && self.is_stored(sources[0])
        {
            let bulk = self.bulk_at.get(&(tensor, index)).copied().ok_or_else(misfolded)?;
            let elements = &self.bulks[bulk as usize].elements;
            let same = elements.len() == sources.len()
                && consecutive(exps)
                && elements.iter().zip(sources).all(|(index, &src)| src == Src::Cell { tensor, index });
            return if same { Ok(Ref::Bulk(bulk)) } else { Err(misfolded()) };
        }
        let mut parts: Vec<(Exps, Ref)> = Vec::new();
        let mut order: Vec<usize> = Vec::new();
        for (i, &src) in sources.iter().enumerate() {
            match src {
                Src::Const(0) => {}
                Src::Const(_) => parts.push((exps[i], Ref::Value(src))),
                Src::Cell { .. } => order.push(i),
            }
        }
        // Few cells are cheaper as operands of scalar rows than as a sweep of their own.
        let mut left = Vec::new();
        let mut start = 0;
        while start < order.len() {
            let Some((strip, out, slot)) = self.place(sources[order[start]]) else {
                return Err(PlanError::Misaligned);
            };
            let mut end = start + 1;
            while end < order.len()
                && self.place(sources[order[end]]) == Some((strip, out, slot + (end - start) as u32))
            {
                end += 1;
            }
            let run = &order[start..end];
            if run.len() == 1 {
                left.push(run[0]);
            } else if !self.try_in_place(strip, out, slot, run, exps, &mut parts)? {
                left.extend_from_slice(run);
            }
            start = end;
        }
        if left.len() <= 4 {
            parts.extend(left.iter().map(|&i| (exps[i], Ref::Value(sources[i]))));
        } else {
            let chosen: Vec<Src> = left.iter().map(|&i| sources[i]).collect();
            let chosen_exps: Vec<Exps> = left.iter().map(|&i| exps[i]).collect();
            let (strip, from) = self.copy(&chosen);
            let slots: Vec<u32> = (0..chosen.len() as u32).map(|i| from + i).collect();
            let pieces =
                self.sweep_run(strip, Some(0), &slots, &chosen_exps, None)?.ok_or(PlanError::Misaligned)?;
            parts.extend(pieces.into_iter().map(|p| (chosen_exps[p.from], p.what)));
        }
        let chain = self.combine(&parts, 1, op);
        Ok(self.emit(chain))
    }

    fn try_in_place(
        &mut self,
        strip: u32,
        out: u16,
        slot: u32,
        run: &[usize],
        exps: &[Exps],
        parts: &mut Vec<(Exps, Ref)>,
    ) -> Result<bool, PlanError> {
        let units = self.units;
        // A sweep reads whole rows: what lies beyond the run in its last row would be part of it.
        if !slot.is_multiple_of(units) || !(run.len() as u32).is_multiple_of(units) {
            return Ok(false);
        }
        let slots: Vec<u32> = (0..run.len() as u32).map(|i| slot + i).collect();
        let run_exps: Vec<Exps> = run.iter().map(|&i| exps[i]).collect();
        // Another polynomial may have this run as a part of it, times a monomial.
        let least =
            run_exps.iter().fold((u32::MAX, u32::MAX), |least, e| (least.0.min(e.0), least.1.min(e.1)));
        let relative: Vec<Exps> = run_exps.iter().map(|e| (e.0 - least.0, e.1 - least.1)).collect();
        let known = self.runs.get(&(strip, out, slot));
        if let Some(same) = known.and_then(|runs| runs.iter().find(|r| r.exps == relative)) {
            parts.extend(same.pieces.iter().map(|p| (run_exps[p.from], p.what)));
            return Ok(true);
        }
        if self.lane(strip, slots[0], slots[slots.len() - 1], false).is_none() {
            return Ok(false);
        }
        let before = self.sweeps.len();
        match self.sweep_run(strip, Some(out), &slots, &run_exps, None) {
            Ok(Some(pieces)) => {
                parts.extend(pieces.iter().map(|p| (run_exps[p.from], p.what)));
                self.runs.entry((strip, out, slot)).or_default().push(Run { exps: relative, pieces });
                Ok(true)
            }
            _ => {
                // The lane was clear over the whole run, so every interval that starts in it is of this attempt.
                for sweep in self.sweeps.split_off(before) {
                    if let Some(taken) = self.taken.get_mut(&(strip, sweep.lane)) {
                        taken.remove(&sweep.from);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Appends copies to the strip of copies; the strip and the first slot.
    fn copy(&mut self, sources: &[Src]) -> (u32, u32) {
        let strip = *self.copies.get_or_insert_with(|| {
            self.strips.push(Strip {
                op: None,
                name: "copies".into(),
                spec: Spec::Copy,
                operands: Vec::new(),
                outs: Vec::new(),
                elements: 0,
                slots: Arc::from([]),
                span: 0,
                accumulate: None,
            });
            self.strips.len() as u32 - 1
        });
        let from = self.copy_slots.len() as u32;
        let padded = sources.len().next_multiple_of(self.units as usize);
        self.copy_sources.extend_from_slice(sources);
        self.copy_sources.resize(from as usize + padded, Src::Const(0));
        self.copy_slots.extend((0..padded as u32).map(|i| from + i));
        (strip, from)
    }

    /// Closes the strip of copies.
    pub(crate) fn finish(&mut self) {
        if let Some(strip) = self.copies {
            let strip = &mut self.strips[strip as usize];
            strip.elements = self.copy_slots.len() as u32;
            strip.span = strip.elements;
            strip.slots = std::mem::take(&mut self.copy_slots).into();
            strip.operands = vec![Operand::Each(std::mem::take(&mut self.copy_sources).into())];
        }
    }
}
