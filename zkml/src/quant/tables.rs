//! Tables for functions of one variable.

use std::sync::Arc;

use crate::qir::OpKind;
use crate::qir::TensorId;

use super::builder::exp2;

/// A function of many points at once.
pub(super) type Sampler<'a> = dyn Fn(&[f64]) -> Vec<f64> + 'a;

/// A table with what it is known to give.
#[derive(Clone)]
pub(super) struct Table {
    pub kind: OpKind,
    pub lo: i128,
    pub hi: i128,
    /// Bound on the deviation from the function over the whole range, in units of the output, roundings included.
    pub error: f64,
    /// Bound on the deviation, and greatest magnitude of the function, of every segment, in units of the output.
    segments: Vec<(f64, f64)>,
}

impl Table {
    /// Greatest deviation as a share of the function's magnitude on the same segment, or of `floor` units where that is more.
    pub(super) fn share(&self, floor: f64) -> f64 {
        self.segments.iter().fold(0.0, |m, &(error, size)| m.max(error / size.max(floor).max(1.0)))
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        match &self.kind {
            OpKind::Lookup { table, .. } => table.len(),
            OpKind::Interpolate { values, .. } => values.len(),
            _ => 0,
        }
    }

    /// The table over another tensor.
    pub(super) fn of(mut self, id: TensorId) -> OpKind {
        if let OpKind::Lookup { x, .. } | OpKind::Interpolate { x, .. } = &mut self.kind {
            *x = id;
        }
        self.kind
    }

    #[cfg(test)]
    /// What the table gives at an element of an operand that starts at `first`.
    pub(super) fn at(&self, v: i64, first: i64) -> Option<i64> {
        match &self.kind {
            OpKind::Lookup { table, .. } => table.get(usize::try_from(v.checked_sub(first)?).ok()?).copied(),
            OpKind::Interpolate { step, guard, first_key, values, slopes, .. } => {
                let key = v >> step;
                let i = usize::try_from(key - first_key).ok()?;
                let (value, slope) = (i128::from(*values.get(i)?), i128::from(*slopes.get(i)?));
                let rem = i128::from(v) - (i128::from(key) << step);
                let sum = (value << step) + slope * rem + (1i128 << (step + guard - 1));
                i64::try_from(sum >> (step + guard)).ok()
            }
            _ => None,
        }
    }
}

/// Sizes of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableLimits {
    /// Entries of a direct table.
    pub lookup: i64,
    /// Knots of a piecewise linear one.
    pub knots: i64,
}

/// How near a table has to come to its function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    /// In units of the output.
    pub units: f64,
    /// As a share of the function's magnitude on the same segment, where that is more.
    pub share: f64,
}

impl Tolerance {
    /// Some units of the output, whatever its magnitude.
    pub(super) fn units(units: f64) -> Self {
        Tolerance { units, share: 0.0 }
    }

    fn of(&self, size: f64) -> f64 {
        self.units.max(self.share * size)
    }

    /// Whether a table is as near as this, with what its roundings add.
    pub(super) fn admits(&self, t: &Table) -> bool {
        t.segments.iter().all(|&(error, size)| error <= self.most(size) + ROUNDINGS)
    }

    /// How far the line of an admitted segment is from the function at most.
    fn most(&self, size: f64) -> f64 {
        2.0 * self.of(size) + 0.07
    }
}

/// Domains of at most so many points are probed at every point.
const EVERY: i64 = 1 << 18;
/// The same where only a straight line is looked for.
const LINE: i64 = 1 << 12;
/// Points at which [`hopeless`] looks at a function, and places where it bends the most.
const COARSE: i64 = 1 << 10;
const PLACES: usize = 16;
/// log₂ of the number of aligned probes of the narrowest segment, where not every point is probed.
const PROBES: i32 = 3;
/// Greatest result, in units of the output.
pub(super) const MAX_VALUE: f64 = (1u64 << 50) as f64;
/// What rounding knots, slopes and the result adds to the error of the lines, in units of the output.
const ROUNDINGS: f64 = 0.63;

/// Whether no table of these limits is as near as a tolerance: known of steep functions from a few points, without a table. That a table is near
/// enough takes [`build`] to say.
pub(super) fn hopeless(
    f: &Sampler<'_>,
    (lo, hi): (i64, i64),
    x_scale: i32,
    out_scale: i32,
    tolerance: Tolerance,
    limits: TableLimits,
) -> bool {
    if hi - lo < limits.lookup.max(4 * COARSE) {
        return false;
    }
    let Some(step) = narrowest((lo, hi), limits.knots) else { return true };
    // Even steps, and powers of two to both sides of zero, which scales leave no room between.
    let mut at: Vec<i64> = (0..=COARSE).map(|i| lo + (hi - lo) / COARSE * i).collect();
    let powers = (0..62).map(|j| 1i64 << j).flat_map(|p| [-p, p]);
    at.extend(powers.chain([0, hi]).filter(|p| (lo..=hi).contains(p)));
    at.sort_unstable();
    at.dedup();
    let sampled = |at: &[i64]| {
        let points: Vec<f64> = at.iter().map(|&v| v as f64 * exp2(-x_scale)).collect();
        scaled(f, &points, out_scale)
    };
    let Some(y) = sampled(&at) else { return true };
    // Where the function bends the most, as far as these points tell.
    let slope = |i: usize| (y[i + 1] - y[i]) / (at[i + 1] - at[i]) as f64;
    let bend = |i: usize| (slope(i) - slope(i - 1)).abs() / (at[i + 1] - at[i - 1]) as f64;
    let mut places: Vec<(f64, i64)> = (1..at.len() - 1).map(|i| (bend(i), at[i])).collect();
    places.sort_by(|a, b| b.0.total_cmp(&a.0));
    let width = 1i64 << step;
    let whole = |from: i64| from >= lo && from + width <= hi;
    let mut segments: Vec<i64> = places
        .iter()
        .take(PLACES)
        .flat_map(|p| [-1, 0, 1].map(|d| ((p.1 >> step) + d) << step))
        .filter(|&from| whole(from))
        .collect();
    segments.sort_unstable();
    segments.dedup();
    let probes: Vec<i64> = segments.iter().flat_map(|&s| (0..=8).map(move |i| s + (width * i) / 8)).collect();
    let Some(y) = sampled(&probes) else { return true };
    // What some points of a segment say of its line, all of them only make worse.
    y.chunks_exact(9).any(|y| {
        let (first, last) = (y[0], y[8]);
        let deviations = (0..=8).map(|i| {
            let share = ((width * i) / 8) as f64 / width as f64;
            y[i as usize] - (first + (last - first) * share)
        });
        let (a, b) = deviations.fold((0f64, 0f64), |(a, b), d| (a.min(d), b.max(d)));
        // A wider segment may hold greater values, and its line is as near as half of the best one's distance here.
        let size = 4.0 * y.iter().fold(0f64, |m, v| m.max(v.abs()));
        (b - a) / 2.0 > 2.0 * tolerance.most(size)
    })
}

/// Least step whose knots are no more than allowed.
fn narrowest((lo, hi): (i64, i64), knots: i64) -> Option<u32> {
    let widest = 63 - (hi - lo).leading_zeros();
    (1..=widest).find(|&step| (hi >> step) - (lo >> step) < knots)
}

/// A table of `f` on `[lo, hi] / 2^x_scale` with results of `out_scale` fraction bits: direct where it is small, else piecewise linear with
/// the widest distance of knots whose error stays within `tolerance`, else the most precise one that the limits allow. `None` where
/// the function is not finite somewhere.
pub(super) fn build(
    f: &Sampler<'_>,
    x: TensorId,
    (lo, hi): (i64, i64),
    x_scale: i32,
    out_scale: i32,
    tolerance: Tolerance,
    limits: TableLimits,
) -> Option<Table> {
    if hi - lo < limits.lookup {
        let points: Vec<f64> = (lo..=hi).map(|v| v as f64 * exp2(-x_scale)).collect();
        let values = scaled(f, &points, out_scale)?;
        let table: Vec<i64> = values.iter().map(|v| v.round() as i64).collect();
        let (lo, hi) = extent(&table);
        let segments = values.iter().map(|v| (0.5, v.abs())).collect();
        return Some(Table { kind: OpKind::Lookup { x, table: table.into() }, lo, hi, error: 0.5, segments });
    }
    let widest = 63 - (hi - lo).leading_zeros();
    let narrowest = narrowest((lo, hi), limits.knots)?;
    let grid = Grid::new(f, (lo, hi), narrowest, EVERY, (x_scale, out_scale))?;
    let mut best: Option<(u32, Fit)> = None;
    for step in (narrowest..=widest).rev() {
        let fit = grid.fit((lo, hi), step);
        let good = fit.segments.iter().all(|&(error, size)| error <= tolerance.of(size));
        if good || best.as_ref().is_none_or(|(_, b)| fit.error < b.error) {
            best = Some((step, fit));
        }
        if good {
            break;
        }
    }
    let (step, fit) = best?;
    let guard = 3u32;
    let g = f64::from(1u32 << guard);
    let values: Arc<[i64]> = fit.values.iter().map(|v| (v * g).round() as i64).collect();
    let slopes: Arc<[i64]> = fit.slopes.iter().map(|v| (v * g).round() as i64).collect();
    // A segment of which the range holds but a part may be too steep to be written down.
    if fit.slopes.iter().any(|v| v.abs() * g >= exp2(62)) {
        return None;
    }
    let half = 1i128 << (step + guard - 1);
    let last = (1i128 << step) - 1;
    let (mut min, mut max) = (i128::MAX, i128::MIN);
    for (&v, &s) in values.iter().zip(slopes.iter()) {
        for rem in [0, last] {
            let y = ((i128::from(v) << step) + i128::from(s) * rem + half) >> (step + guard);
            (min, max) = (min.min(y), max.max(y));
        }
    }
    let kind = OpKind::Interpolate { x, step, guard, first_key: lo >> step, values, slopes };
    let segments = fit.segments.iter().map(|&(error, size)| (error + ROUNDINGS, size)).collect();
    Some(Table { kind, lo: min, hi: max, error: fit.error + ROUNDINGS, segments })
}

/// The line from one end of a range that meets the function at the other, where the function deviates from it by no more than `most` units of the
/// output: its slope, in units of the result over units of the argument. A slope that is nearly a multiple of a sixteenth is one.
pub(super) fn line(
    f: &Sampler<'_>,
    (from, to): (i64, i64),
    x_scale: i32,
    out_scale: i32,
    most: f64,
) -> Option<f64> {
    let (lo, hi) = (from.min(to), from.max(to));
    // Most ranges are not straight, which few points tell: a line within `most` of both ends is within twice as much of their chord.
    let few: Vec<i64> = (0..=16i128).map(|i| lo + (i128::from(hi - lo) * i / 16) as i64).collect();
    let points: Vec<f64> = few.iter().map(|&v| v as f64 * exp2(-x_scale)).collect();
    let y = scaled(f, &points, out_scale)?;
    let chord = (y[16] - y[0]) / (hi - lo) as f64;
    let bent = |(v, y_v): (&i64, &f64)| (y_v - y[0] - chord * (v - lo) as f64).abs() > 2.0 * most;
    if few.iter().zip(&y).any(bent) {
        return None;
    }
    let bits = 64 - (hi - lo).leading_zeros();
    let grid = Grid::new(f, (lo, hi), bits.saturating_sub(11).max(1), LINE, (x_scale, out_scale))?;
    let (first, last) = (*grid.y.first()?, *grid.y.last()?);
    let (start, end) = if from == lo { (first, last) } else { (last, first) };
    let real = exp2(x_scale - out_scale);
    let slope = (end - start) / (to - from) as f64 * real;
    let even = (slope * 16.0).round() / 16.0;
    let deviation = |slope: f64| {
        let d = |(at, y): (&i64, &f64)| (y - start - slope / real * (at - from) as f64).abs();
        grid.at.iter().zip(&grid.y).map(d).fold(0.0, f64::max)
    };
    let bend = grid.bend.iter().copied().fold(0.0, f64::max);
    let (exact, plain) = (deviation(slope), deviation(even));
    let (slope, error) = if plain <= exact.max(0.2) { (even, plain) } else { (slope, exact) };
    (error + bend <= most).then_some(slope)
}

/// A function at the points of a range: at every point where these are few, else at aligned points and at one more between any two of them.
struct Grid {
    at: Vec<i64>,
    y: Vec<f64>,
    /// Greatest deviation from the chord between two aligned points, by the second of them; zero at all other points.
    bend: Vec<f64>,
}

impl Grid {
    fn new(
        f: &Sampler<'_>,
        (lo, hi): (i64, i64),
        narrowest: u32,
        every: i64,
        (x_scale, out_scale): (i32, i32),
    ) -> Option<Grid> {
        let bits = 64 - (hi - lo).leading_zeros() as i32;
        let spacing = (narrowest as i32 - PROBES).min(bits - every.ilog2() as i32).max(0);
        let mut at = Vec::new();
        // A distance of two or four is every point but for a few.
        let every = hi - lo < every || spacing <= 1;
        if every {
            at.extend(lo..=hi);
        } else {
            at.push(lo);
            let mut cell = 0u64;
            let mut from = lo;
            while from < hi {
                let to = (((from >> spacing) + 1) << spacing).min(hi);
                // Off the middle by another amount in every cell, so that no period hides.
                cell += 1;
                let share = 0.3 + 0.4 * (cell as f64 * 0.618_033_988_749_895).fract();
                let between = from + ((to - from) as f64 * share) as i64;
                if between > from && between < to {
                    at.push(between);
                }
                at.push(to);
                from = to;
            }
        }
        let points: Vec<f64> = at.iter().map(|&v| v as f64 * exp2(-x_scale)).collect();
        let y = scaled(f, &points, out_scale)?;
        let mut bend = vec![0.0; if every { 0 } else { at.len() }];
        let aligned = |v: i64| v == lo || v == hi || v & ((1i64 << spacing) - 1) == 0;
        for i in 2..bend.len() {
            if aligned(at[i - 1]) || !aligned(at[i]) {
                continue;
            }
            let (a, b) = ((at[i - 1] - at[i - 2]) as f64, (at[i] - at[i - 1]) as f64);
            let chord = (y[i - 2] * b + y[i] * a) / (a + b);
            // What a parabola through the three reaches between them.
            bend[i] = (y[i - 1] - chord).abs() * (a + b) * (a + b) / (4.0 * a * b);
        }
        Some(Grid { at, y, bend })
    }

    /// The secant of every segment, moved by half of its greatest deviation: the best line for a function that bends one way.
    fn fit(&self, (lo, hi): (i64, i64), step: u32) -> Fit {
        let width = 1i64 << step;
        let count = ((hi >> step) - (lo >> step) + 1) as usize;
        let mut fit = Fit {
            values: Vec::with_capacity(count),
            slopes: Vec::with_capacity(count),
            segments: Vec::with_capacity(count),
            error: 0.0,
        };
        let mut first = 0;
        for k in (lo >> step)..=(hi >> step) {
            let knot = k << step;
            // Only what the input can be: a knot outside may be where the function is not defined.
            let to = (knot + width).min(hi);
            let mut last = first;
            while last + 1 < self.at.len() && self.at[last] < to {
                last += 1;
            }
            let (x0, y0) = (self.at[first], self.y[first]);
            let run = (self.at[last] - x0) as f64;
            let slope = if run == 0.0 { 0.0 } else { (self.y[last] - y0) / run };
            let (mut a, mut b, mut size, mut bend) = (0f64, 0f64, 0f64, 0f64);
            for i in first..=last {
                let d = self.y[i] - (y0 + slope * (self.at[i] - x0) as f64);
                (a, b) = (a.min(d), b.max(d));
                size = size.max(self.y[i].abs());
                if i > first {
                    bend = bend.max(self.bend.get(i).copied().unwrap_or(0.0));
                }
            }
            let error = (b - a) / 2.0 + bend;
            fit.error = fit.error.max(error);
            fit.segments.push((error, size));
            fit.values.push(y0 + (a + b) / 2.0 - slope * (x0 - knot) as f64);
            fit.slopes.push(slope * width as f64);
            first = last;
        }
        fit
    }
}

struct Fit {
    values: Vec<f64>,
    slopes: Vec<f64>,
    /// Deviation and magnitude of every segment.
    segments: Vec<(f64, f64)>,
    error: f64,
}

fn scaled(f: &Sampler<'_>, points: &[f64], out_scale: i32) -> Option<Vec<f64>> {
    let v: Vec<f64> = f(points).into_iter().map(|v| v * exp2(out_scale)).collect();
    (v.len() == points.len() && v.iter().all(|v| v.is_finite() && v.abs() < MAX_VALUE)).then_some(v)
}

fn extent(v: &[i64]) -> (i128, i128) {
    (v.iter().min().map_or(0, |v| (*v).into()), v.iter().max().map_or(0, |v| (*v).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TableLimits = TableLimits { lookup: 1 << 10, knots: 1 << 10 };
    const HALF: Tolerance = Tolerance { units: 0.5, share: 0.0 };

    #[test]
    fn a_sigmoid_is_exact_to_a_unit() {
        let f = |x: &[f64]| x.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect::<Vec<_>>();
        let (lo, hi) = (-(1i64 << 17), (1 << 17) - 1);
        let t = build(&f, TensorId(0), (lo, hi), 14, 14, HALF, LIMITS).unwrap();
        assert!(t.error < 1.2);
        for v in (lo..=hi).step_by(37) {
            let want = f(&[v as f64 / 16384.0])[0] * 16384.0;
            assert!((t.at(v, lo).unwrap() as f64 - want).abs() <= t.error, "at {v}");
        }
        assert!(t.lo >= -1 && t.hi <= 16385);
    }

    #[test]
    fn small_domains_are_looked_up() {
        let f = |x: &[f64]| x.iter().map(|x| x * x).collect::<Vec<_>>();
        let t = build(&f, TensorId(0), (-512, 511), 9, 9, HALF, LIMITS).unwrap();
        assert!(matches!(t.kind, OpKind::Lookup { .. }));
        assert_eq!(t.at(-512, -512), Some(512));
    }

    #[test]
    fn poles_have_no_table() {
        let f = |x: &[f64]| x.iter().map(|x| 1.0 / x).collect::<Vec<_>>();
        assert!(build(&f, TensorId(0), (-(1 << 12), 1 << 12), 12, 12, HALF, LIMITS).is_none());
    }

    /// What is given up after a few points has no table that is near enough; and much is given up.
    #[test]
    fn what_is_hopeless_has_no_table() {
        type Named = (&'static str, fn(f64) -> f64);
        let functions: [Named; 7] = [
            ("sigmoid", |x| 1.0 / (1.0 + (-x).exp())),
            ("exponential", f64::exp),
            ("root", |x| (x + 8.0).sqrt()),
            ("arc cosine", |x| (x / 8.0).acos()),
            ("sine", |x| (40.0 * x).sin()),
            ("steep", |x| (300.0 * (x - 0.7)).tanh()),
            ("edge", |x| (x - 1.3).max(0.0) * 9.0),
        ];
        let (mut given_up, mut rest) = (0, 0);
        for (name, f) in functions {
            let f = |x: &[f64]| x.iter().map(|&x| f(x)).collect::<Vec<_>>();
            for x_scale in [8, 11, 14] {
                let range = (-(8i64 << x_scale), 8i64 << x_scale);
                for (out_scale, knots) in [(6, 1 << 6), (12, 1 << 8), (14, 1 << 10), (18, 1 << 12)] {
                    let limits = TableLimits { lookup: 1 << 10, knots };
                    for tolerance in [HALF, Tolerance { units: 0.5, share: 1e-4 }] {
                        if !hopeless(&f, range, x_scale, out_scale, tolerance, limits) {
                            rest += 1;
                            continue;
                        }
                        let table = build(&f, TensorId(0), range, x_scale, out_scale, tolerance, limits);
                        assert!(table.is_none_or(|t| !tolerance.admits(&t)), "{name} at {x_scale}");
                        given_up += 1;
                    }
                }
            }
        }
        assert!(given_up > 40 && rest > 20, "{given_up} and {rest}");
    }
}
