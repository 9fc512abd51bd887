//! Functions by tables.
//!
//! One table where it comes near enough; else the argument is split: what lies on straight tails is clamped away, periods are taken off, the
//! exponential becomes a product of two, the logarithm goes through square roots, and what is left is cut into pieces where the
//! error is. A function that none of these brings near enough is refused.

use crate::onnx::{Node, ValueId};
use crate::qir::{OpKind, TensorId};

use super::super::builder::{Acc, Rounding, exp2, real_hull};
use super::super::tables::{self, MAX_VALUE, Table, TableLimits, Tolerance};
use super::{Lower, Outcome, SINGLE_BITS};

/// Greatest number of pieces of a function.
const MAX_PIECES: usize = 24;
/// Extra fraction bits of the parts of a function.
const PART_BITS: i32 = 3;
/// Units that the straight ends of a function may be off.
const STRAIGHT: f64 = 0.25;
/// How many times the usual knots a table has before its argument is split.
const WIDE: i64 = 8;
/// The same, where few elements would pay for the rows.
const FEW_ELEMENTS: usize = 512;
/// Share of a function's magnitude that its table may be off.
const SHARE: f64 = 1.0 / (1u64 << 19) as f64;
/// The same for the result that is refused beyond, and the units that are always allowed for.
const REFUSED_SHARE: f64 = 1.0 / 512.0;
const ALLOWED_UNITS: f64 = 8.0;

/// A range of integers with the scale of their units.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Domain {
    lo: i64,
    hi: i64,
    scale: i32,
}

impl Domain {
    fn real(&self, v: i64) -> f64 {
        v as f64 * exp2(-self.scale)
    }
}

/// A straight end of a function: where it begins, and its slope from there on.
#[derive(Clone, Copy, Debug)]
struct Tail {
    at: i64,
    slope: f64,
}

/// How straight the ends of a function have to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// To a quarter of a unit.
    Exact,
    /// As far as single precision shows, with a table of more knots between them.
    Single,
}

/// A function with straight ends: a table between them, downwards from the upper one, or upwards from the lower where that is the only one.
struct Tails {
    low: Option<Tail>,
    high: Option<Tail>,
    table: Table,
    /// Greatest deviation from the straight ends, in units of the result.
    bend: f64,
}

impl Lower<'_> {
    /// The tensor that a value is lowered as a function of, if it is: the start of its chain where one table serves, else the node's own operand.
    pub(super) fn function_root(&self, v: ValueId, node: &Node) -> Option<ValueId> {
        let root = self.clusters.root(v)?;
        if !self.is_float(root) {
            // All integers of eight bits are in one table.
            return Some(root);
        }
        let dynamic: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|&i| self.constant(i).is_none()).collect();
        let own = match dynamic[..] {
            [one] => Some(one),
            [a, b] if a == b => Some(a),
            _ => None,
        };
        if own == Some(root) || self.one_table_serves(v, root) {
            return Some(root);
        }
        own.filter(|_| self.clusters.is_tabled(node))
    }

    /// Whether a node is a quotient of real numbers whose operands are lowered.
    pub(super) fn is_quotient(&self, n: &Node) -> bool {
        let known = |v: &ValueId| self.constant(*v).is_some() || self.vals[v.index()].is_some();
        matches!(n.op.as_str(), "Div" | "Reciprocal")
            && n.inputs.iter().flatten().all(known)
            && n.output(0).is_some_and(|o| self.is_float(o))
    }

    /// Whether a single table, or one with straight tails beside it, approximates a chain well over the range that is allowed for its start.
    fn one_table_serves(&self, v: ValueId, root: ValueId) -> bool {
        let Some((lo, hi)) = self.range(root) else { return false };
        let scale = self.bits(root);
        let (lo, hi) = real_hull(lo, hi, scale);
        let (Ok(lo), Ok(hi)) = (i64::try_from(lo), i64::try_from(hi)) else { return false };
        let (d, frac) = (Domain { lo, hi, scale }, self.bits(v));
        let tolerance = Tolerance { units: 0.5, share: SHARE };
        let serves = |limits| self.admitted(v, root, d, frac, tolerance, limits).is_some();
        serves(self.limits) || self.tails(v, root, d, frac, Ends::Exact).is_some() || serves(self.wide())
    }

    fn wide(&self) -> TableLimits {
        TableLimits { knots: self.limits.knots.saturating_mul(WIDE), ..self.limits }
    }

    /// The table of a value as a function of its root, built once for every range and precision.
    fn fitted(
        &self,
        v: ValueId,
        root: ValueId,
        d: Domain,
        frac: i32,
        tolerance: Tolerance,
        limits: TableLimits,
    ) -> Option<Table> {
        let bits = (tolerance.units.to_bits(), tolerance.share.to_bits());
        let key = (self.clusters.signature(root, v), (d.lo, d.hi, d.scale, frac), bits, limits);
        if let Some(known) = self.tables.borrow().get(&key) {
            return known.clone();
        }
        let f = |p: &[f64]| self.clusters.sample(root, v, p);
        let table = tables::build(&f, TensorId(0), (d.lo, d.hi), d.scale, frac, tolerance, limits);
        self.tables.borrow_mut().insert(key, table.clone());
        table
    }

    /// The table of a value as a function of its root, where it is as near as a tolerance.
    fn admitted(
        &self,
        v: ValueId,
        root: ValueId,
        d: Domain,
        frac: i32,
        tolerance: Tolerance,
        limits: TableLimits,
    ) -> Option<Table> {
        let f = |p: &[f64]| self.clusters.sample(root, v, p);
        if tables::hopeless(&f, (d.lo, d.hi), d.scale, frac, tolerance, limits) {
            return None;
        }
        self.fitted(v, root, d, frac, tolerance, limits).filter(|t| tolerance.admits(t))
    }

    /// A node that needs a table although its chain is not one: reported as such.
    pub(super) fn tabled(&mut self, n: &Node) -> Outcome<()> {
        let out = self.out(n)?;
        let x = self.need(n, 0)?;
        if n.inputs.len() > 1 || !self.is_float(x) || !self.is_float(out) {
            return Err("the operator has no integer form for these operands".to_owned().into());
        }
        self.function(out, x)
    }

    /// Integers as a function of integers of eight bits: what is above the zero point, which is what readers want.
    fn function_of_integers(&mut self, v: ValueId, root: ValueId, x: TensorId) -> Outcome<()> {
        let t = self.b.program.tensor(x);
        let (lo, hi, shape) = (t.lo, t.hi, t.shape.clone());
        let points: Vec<f64> = (lo..=hi).map(|p| p as f64).collect();
        let zero = self.clusters.zero(v);
        let values = self.clusters.sample(root, v, &points);
        if values.len() != points.len() || values.iter().any(|y| y.fract() != 0.0 || y.abs() > exp2(40)) {
            return Err("the function is not finite over its range".to_owned().into());
        }
        let table: Vec<i64> = values.iter().map(|y| *y as i64 - zero).collect();
        let bounds = (table.iter().min(), table.iter().max());
        let bounds = (bounds.0.map_or(0, |v| (*v).into()), bounds.1.map_or(0, |v| (*v).into()));
        let id = self.b.op(OpKind::Lookup { x, table: table.into() }, shape, bounds, 0)?;
        let acc = self.b.offset(&self.b.acc(id), zero as f64, 0)?;
        self.set_acc(v, acc)
    }

    /// A value as a function of another.
    pub(super) fn function(&mut self, v: ValueId, root: ValueId) -> Outcome<()> {
        for c in self.clusters.constants(root, v) {
            self.reveal(c, "part of a function, whose table is part of the program");
        }
        let x = self.tensor(root)?;
        if !self.is_float(v) {
            return self.function_of_integers(v, root, x);
        }
        let frac = self.frac(v);
        let units = if self.is_output[v.index()] { (0.25 * exp2(frac - self.act)).max(0.25) } else { 0.5 };
        let tolerance = Tolerance { units, share: SHARE };
        let t = self.b.program.tensor(x);
        let whole = Domain { lo: t.lo, hi: t.hi, scale: t.scale };
        if let Some(t) = self.admitted(v, root, whole, frac, tolerance, self.limits) {
            return self.use_table(v, x, t, frac);
        }
        // Where the function ends inside the range, the range ends too: with less room where that spares the function its pieces.
        let domains = self.domains(v, root, whole, frac)?;
        let mut tables: Vec<(Domain, Table)> = domains
            .iter()
            .filter_map(|&d| Some((d, self.admitted(v, root, d, frac, tolerance, self.limits)?)))
            .collect();
        // Room that takes more than twice the rows is not worth them.
        let least = tables.iter().map(|(_, t)| t.rows()).min().unwrap_or(0);
        let wanted = tables.iter().position(|(_, t)| t.rows() <= 2 * least);
        let single = wanted.map(|at| tables.swap_remove(at));
        let d = single.as_ref().map_or(domains[0], |s| s.0);
        let x = if d == whole { x } else { self.b.demand(&self.b.acc(x), (d.lo.into(), d.hi.into()))? };
        if let Some((_, t)) = single {
            return self.use_table(v, x, t, frac);
        }
        let few = self.b.program.tensor(x).len() < FEW_ELEMENTS;
        for wider in [!few, few] {
            if wider {
                if let Some(t) = self.admitted(v, root, d, frac, tolerance, self.wide()) {
                    return self.use_table(v, x, t, frac);
                }
            } else if let Some(tails) = self.tails(v, root, d, frac, Ends::Exact) {
                return self.with_tails(v, x, frac, tails);
            }
        }
        if let Some(acc) = self.by_identity(v, root, x, d, frac)? {
            return self.set_acc(v, acc);
        }
        let size = self.magnitude(v).unwrap_or(0.0) * exp2(frac);
        let refused = |error: f64| error > ALLOWED_UNITS && error > REFUSED_SHARE * size;
        let cut = self.divided(v, root, d, frac + PART_BITS, tolerance)?;
        let error = cut.iter().map(|(_, _, t)| t.error).sum::<f64>() * exp2(-PART_BITS);
        if refused(error) {
            if let Some(tails) = self.tails(v, root, d, frac, Ends::Single) {
                return self.with_tails(v, x, frac, tails);
            }
            // Far from what calibration saw, a share of the function's own magnitude is as good as any.
            let wide = self.fitted(v, root, d, frac, tolerance, self.wide());
            if let Some(t) = wide.filter(|t| t.share(size) <= REFUSED_SHARE) {
                return self.use_table(v, x, t, frac);
            }
            let share = if size > 0.0 { 100.0 * error / size } else { 100.0 };
            return Err(self
                .b
                .fail(format!(
                    "the best table of the function over [{}, {}] is off by {:.3}, {share:.2} % of its greatest value",
                    d.real(d.lo),
                    d.real(d.hi),
                    error * exp2(-frac)
                ))
                .into());
        }
        self.note_table(v, error * exp2(-frac));
        let acc = self.pieces(cut, x, d, frac + PART_BITS)?;
        self.set_acc(v, acc)
    }

    fn use_table(&mut self, v: ValueId, x: TensorId, t: Table, frac: i32) -> Outcome<()> {
        self.note_table(v, t.error * exp2(-frac));
        let shape = self.b.shape(x).to_vec();
        let bounds = (t.lo, t.hi);
        let id = self.b.op(t.of(x), shape, bounds, frac)?;
        self.set_tensor(v, id)
    }

    /// The parts of a range on which a function is finite and not beyond all that calibration saw, around that: the one with the most room first.
    fn domains(&self, v: ValueId, root: ValueId, d: Domain, frac: i32) -> Outcome<Vec<Domain>> {
        let fits = |y: f64| y.is_finite() && y.abs() * exp2(frac) < MAX_VALUE / exp2(PART_BITS);
        let at = |points: &[i64]| {
            let points: Vec<f64> = points.iter().map(|&p| d.real(p)).collect();
            let values = self.clusters.sample(root, v, &points);
            if values.len() == points.len() { values } else { vec![f64::NAN; points.len()] }
        };
        let grid = |lo: i64, hi: i64| -> Vec<i64> {
            let n = 256;
            (0..=n).map(|i| lo + ((hi - lo) as f64 * f64::from(i) / f64::from(n)).floor() as i64).collect()
        };
        let finite = |lo: i64, hi: i64| {
            let mut points = grid(lo, hi);
            points.extend(lo.max(-4)..=hi.min(4));
            at(&points).into_iter().all(fits)
        };
        if finite(d.lo, d.hi) {
            return Ok(vec![d]);
        }
        let (a, b) = self
            .ranges
            .observed(root)
            .ok_or_else(|| "the function is not finite over its range".to_owned())?;
        // What was seen has been moved outwards to powers of two, which is half of the headroom.
        let h = (self.options.headroom * std::f64::consts::FRAC_1_SQRT_2).max(1.0);
        let mut found: Vec<Domain> = Vec::new();
        for m in [h, 1.0 + (h - 1.0) / 2.0, 1.1, 1.02, 1.0] {
            let low = if a > 0.0 { a / m } else { a * m };
            let high = if b > 0.0 { b * m } else { b / m };
            let from = ((low * exp2(d.scale)).floor() as i64).max(d.lo);
            let to = ((high * exp2(d.scale)).ceil() as i64).min(d.hi);
            // Rounding outwards may step over the edge of the domain.
            let steps = [(from, to), (from + 1, to), (from, to - 1), (from + 1, to - 1)];
            let plain = steps.into_iter().find(|&(from, to)| from < to && finite(from, to));
            let within = || {
                let points = if from < to { grid(from, to) } else { return None };
                let (from, to) = self.clipped(v, m, &at, &points)?;
                finite(from, to).then_some((from, to))
            };
            let next = plain.or_else(within).map(|(lo, hi)| Domain { lo, hi, ..d });
            // The last ones are for want of any other.
            found.extend(next.filter(|next| !found.contains(next) && (m >= 1.1 || found.is_empty())));
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let unit = exp2(-d.scale);
        let least = self.ranges.least(root).unwrap_or(unit);
        if least < unit {
            return Err(self
                .b
                .fail(format!(
                    "values down to {least:e} round to 0 at {} fraction bits, where the function has no value: more \
                     --activation-bits keep them apart",
                    d.scale
                ))
                .into());
        }
        Err("the function is not finite over the calibrated range".to_owned().into())
    }

    /// The one part of a range over which a function is within what calibration saw of its values, times `m`. An arc cosine that was never below a
    /// half has an argument that stays away from 1.
    fn clipped(
        &self,
        v: ValueId,
        m: f64,
        at: &dyn Fn(&[i64]) -> Vec<f64>,
        grid: &[i64],
    ) -> Option<(i64, i64)> {
        let (a, b) = self.ranges.observed(v)?;
        let low = if a > 0.0 { a / m } else { a * m };
        let high = if b > 0.0 { b * m } else { b / m };
        let seen = |y: &f64| (low..=high).contains(y);
        let inside: Vec<bool> = at(grid).iter().map(seen).collect();
        let first = inside.iter().position(|&i| i)?;
        let last = inside.iter().rposition(|&i| i)?;
        if inside[first..=last].contains(&false) {
            return None;
        }
        // The end lies between a point inside and the next one.
        let end = |mut inner: i64, mut outer: i64| {
            while (outer - inner).abs() > 1 {
                let middle = inner + (outer - inner) / 2;
                if at(&[middle]).first().is_some_and(seen) {
                    inner = middle;
                } else {
                    outer = middle;
                }
            }
            inner
        };
        let before = first.checked_sub(1).and_then(|i| grid.get(i));
        let from = before.map_or(grid[first], |&outer| end(grid[first], outer));
        let to = grid.get(last + 1).map_or(grid[last], |&outer| end(grid[last], outer));
        (from < to).then_some((from, to))
    }

    /// Where the ends of a function are straight: below the first point and above the second.
    fn tails(&self, v: ValueId, root: ValueId, d: Domain, frac: i32, ends: Ends) -> Option<Tails> {
        let f = |p: &[f64]| self.clusters.sample(root, v, p);
        let most = match ends {
            Ends::Exact => 0.0,
            Ends::Single => f(&[d.real(d.lo), d.real(d.hi)]).iter().fold(0.0, |m: f64, y| m.max(y.abs())),
        };
        let bend = (most * exp2(frac - SINGLE_BITS + 1)).max(STRAIGHT);
        let straight = |from: i64, to: i64| tables::line(&f, (from, to), d.scale, frac, bend);
        let sizes = (0..12).map(|j| exp2(j + d.scale)).filter(|s| *s >= 16.0 && *s < exp2(60));
        let (mut low, mut high) = (None, None);
        for size in sizes {
            let at = size as i64;
            if high.is_none() && at > d.lo.max(0) && at < d.hi {
                high = straight(at, d.hi).map(|slope| Tail { at, slope });
            }
            if low.is_none() && -at < d.hi.min(0) && -at > d.lo {
                low = straight(-at, d.lo).map(|slope| Tail { at: -at, slope });
            }
        }
        if low.is_none() && high.is_none() {
            return None;
        }
        let (from, to) = (low.map_or(d.lo, |t| t.at), high.map_or(d.hi, |t| t.at));
        let plain = [low, high].iter().flatten().all(|t| t.slope == 0.0);
        let (frac, tolerance) = if plain {
            (frac, Tolerance { units: 0.5, share: SHARE })
        } else {
            (frac + PART_BITS, Tolerance { units: 0.5 * exp2(PART_BITS), share: SHARE })
        };
        // The argument runs from the upper end downwards, or from the lower end where that is the only one.
        let g = |p: &[f64]| {
            let points: Vec<f64> = match high {
                Some(_) => p.iter().map(|w| d.real(to) - w).collect(),
                None => p.iter().map(|w| d.real(from) + w).collect(),
            };
            self.clusters.sample(root, v, &points)
        };
        let limits = match ends {
            Ends::Exact => TableLimits { knots: self.limits.knots.max(1 << 10), ..self.limits },
            Ends::Single => self.wide(),
        };
        if tables::hopeless(&g, (0, to - from), d.scale, frac, tolerance, limits) {
            return None;
        }
        let table = tables::build(&g, TensorId(0), (0, to - from), d.scale, frac, tolerance, limits)?;
        tolerance.admits(&table).then_some(Tails { low, high, table, bend })
    }

    /// A table between straight tails: f(x) = T(clamped x) + the tails' slopes times what lies beyond.
    fn with_tails(
        &mut self,
        v: ValueId,
        x: TensorId,
        frac: i32,
        Tails { low, high, table, bend }: Tails,
    ) -> Outcome<()> {
        let xa = self.b.acc(x);
        let shape = xa.shape.clone();
        let at = |a: &Acc, c: i64| -> Outcome<Acc> {
            let constant = a.constant.checked_add(c).ok_or_else(|| "a constant is too large".to_owned())?;
            Ok(Acc { constant, ..a.clone() })
        };
        // What lies above the lower end, and the distance of that from the upper end.
        let above = match low {
            Some(t) => {
                let a = at(&xa, -t.at)?;
                let id = self.rectified(&a)?;
                Some(self.b.acc(id))
            }
            None => None,
        };
        let argument = match high {
            Some(t) => {
                let a = match (&above, low) {
                    (Some(above), Some(low)) => at(&self.b.neg(above)?, t.at - low.at)?,
                    _ => at(&self.b.neg(&xa)?, t.at)?,
                };
                let id = self.rectified(&a)?;
                self.b.acc(id)
            }
            None => above.clone().ok_or_else(|| "the function has no tails".to_owned())?,
        };
        let plain = [low, high].iter().flatten().all(|t| t.slope == 0.0);
        let bend = bend * exp2(-frac);
        let frac = if plain { frac } else { frac + PART_BITS };
        self.note_table(v, table.error * exp2(-frac) + bend);
        let id = argument.as_tensor().ok_or_else(|| "the argument is no tensor".to_owned())?;
        let bounds = (table.lo, table.hi);
        let y = self.b.op(table.of(id), shape, bounds, frac)?;
        if plain {
            return self.set_tensor(v, y);
        }
        let mut total = self.b.acc(y);
        if let (Some(above), Some(t)) = (&above, low) {
            // max(x − a, 0) − (x − a) = max(a − x, 0)
            let below = self.b.add(above, &self.b.neg(&at(&xa, -t.at)?)?)?;
            total = self.along(total, &below, -t.slope)?;
        }
        if let Some(t) = high {
            // What is above the upper end.
            let beyond = match (&above, low) {
                (Some(above), Some(low)) => at(&self.b.add(above, &argument)?, low.at - t.at)?,
                _ => at(&self.b.add(&xa, &argument)?, -t.at)?,
            };
            total = self.along(total, &beyond, t.slope)?;
        }
        self.set_acc(v, total)
    }

    /// `total` plus a real multiple of an accumulator.
    fn along(&mut self, total: Acc, a: &Acc, slope: f64) -> Outcome<Acc> {
        if slope == 0.0 {
            return Ok(total);
        }
        let part = self.b.multiply(a, slope, 24)?;
        Ok(self.b.add(&total, &part)?)
    }

    /// max(a, 0) over all that a can be.
    fn rectified(&mut self, a: &Acc) -> Outcome<TensorId> {
        let bounds = self.b.bounds(a);
        if bounds.0 >= 0 {
            return self.exact(a);
        }
        Ok(self.b.round_within(a, a.scale, true, (bounds.0, bounds.1.max(0)))?)
    }

    /// Functions with an identity that shortens their argument.
    fn by_identity(
        &mut self,
        v: ValueId,
        root: ValueId,
        x: TensorId,
        d: Domain,
        frac: i32,
    ) -> Outcome<Option<Acc>> {
        match self.clusters.function_of(v, root) {
            Some("Sin") => self.periodic(v, x, d, frac, f64::sin).map(Some),
            Some("Cos") => self.periodic(v, x, d, frac, f64::cos).map(Some),
            Some("Exp") => self.split_exponential(v, x, d),
            Some("Log") => self.rooted_logarithm(v, x, d, frac),
            _ => Ok(None),
        }
    }

    /// A function of period 2π: w = x − 2π·⌊x / 2π⌋ by exact integers, and a table over one period and an eighth.
    fn periodic(&mut self, v: ValueId, x: TensorId, d: Domain, frac: i32, f: fn(f64) -> f64) -> Outcome<Acc> {
        use std::f64::consts::TAU;
        let most = d.real(d.lo).abs().max(d.real(d.hi).abs());
        let turns = (most / TAU).max(1.0).log2().ceil() as i32;
        // The quotient is off by less than a sixty-fourth, so that the remainder is within an eighth of its period.
        let turn = self.b.multiply(&self.b.acc(x), 1.0 / TAU, turns + 9)?;
        let whole = self.floor(&turn)?;
        let scale = d.scale.max(frac + 2 + turns).min(50);
        let period = (TAU * exp2(scale)).round() as i64;
        let back = Acc { scale, ..self.b.times(&whole, -period)? };
        let rest = self.b.rescale(&self.b.acc(x), scale)?;
        let rest = self.b.add(&rest, &back)?;
        const MARGIN: f64 = 0.125;
        let rest = self.b.offset(&rest, MARGIN, scale)?;
        let w_frac = (frac + 1).clamp(8, scale);
        // The remainder is within one period and the margins, which interval arithmetic cannot see; the range check says so.
        let w = self.b.round_within(&rest, w_frac, false, (0, (1i128 << (w_frac + 3)) - 1))?;
        let g = |p: &[f64]| p.iter().map(|w| f(w - MARGIN)).collect::<Vec<_>>();
        let t = self.b.program.tensor(w);
        let (bounds, shape) = ((t.lo, t.hi), t.shape.clone());
        let tolerance = Tolerance::units(0.5);
        let t = tables::build(&g, w, bounds, w_frac, frac, tolerance, self.wide())
            .ok_or_else(|| "the function is not finite over one period".to_owned())?;
        self.note_table(v, t.error * exp2(-frac) + exp2(-w_frac));
        let bounds = (t.lo, t.hi);
        let id = self.b.op(t.kind, shape, bounds, frac)?;
        Ok(self.b.acc(id))
    }

    /// exp(x) = exp(⌊x⌋)·exp(x − ⌊x⌋).
    fn split_exponential(&mut self, v: ValueId, x: TensorId, d: Domain) -> Outcome<Option<Acc>> {
        /// Bits of the greatest power of e, and fraction bits of the rest.
        const WHOLE_BITS: i32 = 38;
        const REST_BITS: i32 = 20;
        if d.scale < 1 || d.scale > 40 || (d.hi >> d.scale) - (d.lo >> d.scale) >= self.wide().knots {
            return Ok(None);
        }
        let xa = self.b.acc(x);
        let half = 1i64 << (d.scale - 1);
        let down = Acc { constant: -half, ..xa.clone() };
        let (first, last) = (d.lo >> d.scale, d.hi >> d.scale);
        let q = self.b.round_within(&down, 0, false, (first.into(), last.into()))?;
        let back = Acc { scale: d.scale, ..self.b.times(&self.b.acc(q), -(1i64 << d.scale))? };
        let rest = self.b.add(&xa, &back)?;
        let r = self.b.enforce(&rest, (0, (1i128 << d.scale) - 1))?;
        let shape = self.b.shape(x).to_vec();
        let scale = WHOLE_BITS - (last as f64 * std::f64::consts::LOG2_E).ceil() as i32;
        let powers: Vec<i64> =
            (first..=last).map(|k| ((k as f64).exp() * exp2(scale)).round() as i64).collect();
        let most = powers.iter().copied().max().unwrap_or(0);
        let whole = self.b.op(
            OpKind::Lookup { x: q, table: powers.into() },
            shape.clone(),
            (0, most.into()),
            scale,
        )?;
        let g = |p: &[f64]| p.iter().map(|w| w.exp()).collect::<Vec<_>>();
        let limits = self.limits;
        let tolerance = Tolerance::units(2.0);
        let t = tables::build(&g, r, (0, (1i64 << d.scale) - 1), d.scale, REST_BITS, tolerance, limits)
            .ok_or_else(|| "the exponential has no table".to_owned())?;
        let largest = self.magnitude(v).unwrap_or(1.0);
        self.note_table(v, largest * t.error * exp2(-REST_BITS) + exp2(-scale));
        let bounds = (t.lo, t.hi);
        let part = self.b.op(t.kind, shape, bounds, REST_BITS)?;
        self.product(whole, part).map(Some)
    }

    /// ln x = 2^j·ln of the 2^j-th root of x, which spans few powers of two.
    fn rooted_logarithm(&mut self, v: ValueId, x: TensorId, d: Domain, frac: i32) -> Outcome<Option<Acc>> {
        /// Bits of a radicand: its root has half of them.
        const RADICAND: i32 = 58;
        if d.lo < 1 {
            return Ok(None);
        }
        let mut spans = (d.hi as f64 / d.lo as f64).log2();
        let (mut id, mut roots) = (x, 0);
        while spans > 4.5 {
            let t = self.b.program.tensor(id);
            let room = RADICAND - (64 - t.hi.leading_zeros() as i32);
            let scale = t.scale + room - (t.scale + room).rem_euclid(2);
            let (lo, shape) = (t.lo, t.shape.clone());
            if scale < t.scale || lo < 1 {
                return Ok(None);
            }
            let radicand = self.b.rescale(&self.b.acc(id), scale)?;
            let radicand = self.exact(&radicand)?;
            let t = self.b.program.tensor(radicand);
            let bounds = (t.lo.isqrt().into(), t.hi.isqrt().into());
            id = self.b.op(OpKind::Sqrt { x: radicand }, shape, bounds, scale / 2)?;
            (spans, roots) = (spans / 2.0, roots + 1);
        }
        if roots == 0 {
            return Ok(None);
        }
        let t = self.b.program.tensor(id);
        let (bounds, scale, shape) = ((t.lo, t.hi), t.scale, t.shape.clone());
        let factor = exp2(roots);
        let g = |p: &[f64]| p.iter().map(|w| factor * w.ln()).collect::<Vec<_>>();
        let tolerance = Tolerance { units: 0.5, share: SHARE };
        let Some(t) = tables::build(&g, id, bounds, scale, frac, tolerance, self.wide()) else {
            return Ok(None);
        };
        // A root is off by less than one unit of itself.
        let roots_off = factor * f64::from(roots) / (bounds.0 as f64);
        self.note_table(v, t.error * exp2(-frac) + roots_off);
        let bounds = (t.lo, t.hi);
        let id = self.b.op(t.kind, shape, bounds, frac)?;
        Ok(Some(self.b.acc(id)))
    }

    /// A range cut into pieces, each with a table of what the function changes on it, as a function of the distance from the piece's end: the
    /// worst is halved until all are near enough, or there are too many.
    fn divided(
        &self,
        v: ValueId,
        root: ValueId,
        d: Domain,
        frac: i32,
        tolerance: Tolerance,
    ) -> Outcome<Vec<(i64, i64, Table)>> {
        let tolerance = Tolerance { units: tolerance.units * exp2(PART_BITS), ..tolerance };
        let value = |p: i64| self.clusters.sample(root, v, &[d.real(p)]).first().copied().unwrap_or(f64::NAN);
        let piece = |from: i64, to: i64| -> Outcome<(i64, i64, Table)> {
            let base = if from == d.lo { 0.0 } else { value(from) };
            let g = |w: &[f64]| -> Vec<f64> {
                let points: Vec<f64> = w.iter().map(|w| d.real(to) - w).collect();
                self.clusters.sample(root, v, &points).into_iter().map(|y| y - base).collect()
            };
            let t = tables::build(&g, TensorId(0), (0, to - from), d.scale, frac, tolerance, self.limits)
                .ok_or_else(|| "the function is not finite over its range".to_owned())?;
            Ok((from, to, t))
        };
        let mut done = vec![piece(d.lo, d.hi)?];
        while done.len() < MAX_PIECES {
            let bad = |(from, to, t): &(i64, i64, Table)| !tolerance.admits(t) && to - from >= 8;
            let worst = (0..done.len())
                .filter(|&i| bad(&done[i]))
                .max_by(|&a, &b| done[a].2.error.total_cmp(&done[b].2.error));
            let Some(worst) = worst else { break };
            let (from, to, _) = done[worst];
            let middle = from + (to - from) / 2;
            done[worst] = piece(from, middle)?;
            done.insert(worst + 1, piece(middle, to)?);
        }
        Ok(done)
    }

    /// A function over pieces of its range, each with a table of its own: Σ over pieces of f's change on the piece, where the argument is clamped to
    /// the piece. With u the distance from the start of a piece of length L, w = max(L − u, 0) is what is left of the piece, and the
    /// next piece starts at u − (L − w).
    fn pieces(&mut self, pieces: Vec<(i64, i64, Table)>, x: TensorId, d: Domain, frac: i32) -> Outcome<Acc> {
        let mut u = self.b.offset(&self.b.acc(x), -d.real(d.lo), d.scale)?;
        let shape = u.shape.clone();
        let mut total: Option<Acc> = None;
        let count = pieces.len();
        for (i, (from, to, table)) in pieces.into_iter().enumerate() {
            let length = d.real(to - from);
            let left = self.b.offset(&self.b.neg(&u)?, length, d.scale)?;
            let id = if i + 1 == count && i == 0 {
                self.exact(&left)?
            } else {
                self.piece_rest(&left, to - from)?
            };
            let bounds = (table.lo, table.hi);
            let part = self.b.op(table.of(id), shape.clone(), bounds, frac)?;
            let part = self.b.acc(part);
            total = Some(match total {
                None => part,
                Some(t) => self.b.add(&t, &part)?,
            });
            let next = self.b.add(&u, &self.b.acc(id))?;
            u = self.b.offset(&next, -length, d.scale)?;
            // Interval arithmetic forgets that what is left is never negative; a cell of its own does not.
            let (low, high) = self.b.bounds(&u);
            if i + 1 < count && (low < 0 || u.terms.len() > 2) {
                let id = self.b.enforce(&u, (0, high.min(i128::from(d.hi - to))))?;
                u = self.b.acc(id);
            }
        }
        total.ok_or_else(|| "the function has an empty range".to_owned().into())
    }

    /// max(left, 0), which is at most the length of the piece.
    fn piece_rest(&mut self, left: &Acc, length: i64) -> Outcome<TensorId> {
        let (low, _) = self.b.bounds(left);
        let range = (low as f64 * exp2(-left.scale), length as f64 * exp2(-left.scale));
        let id = self.b.round(left, Rounding { frac: left.scale, relu: low < 0, range: Some(range) })?;
        let t = self.b.program.tensor(id);
        if t.lo == 0 && t.hi == length {
            return Ok(id);
        }
        Ok(self.b.enforce(&self.b.acc(id), (0, length.into()))?)
    }
}
