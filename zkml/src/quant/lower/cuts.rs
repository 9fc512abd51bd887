//! Where decisions on a multiple of an input, or on its sum with a constant, change in single precision.

use crate::onnx::{DType, ValueId};
use crate::qir::{TensorId, Term};

use super::super::builder::{Acc, exp2};
use super::super::edges::{Cut, CutsOf};
use super::{Lower, Val};

/// Greatest number of cuts of one decision.
const MAX_CUTS: usize = 4096;

/// A decision: whether a real number is at least `at` (or greater, where `strict`), which integers decide by being at least `element`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub at: f64,
    pub strict: bool,
    pub element: i128,
}

impl Lower<'_> {
    /// Notes the cuts of decisions on a value that is `x`, for the elements of a constant of shape `by` (empty for all alike).
    pub(super) fn cut(&mut self, v: ValueId, x: &Acc, by: &[usize], turns: &[Vec<Turn>]) {
        let single = self.model.value(v).dtype == DType::F32;
        let [Term::Scale { x: id, coeff }] = x.terms[..] else { return };
        let start = self.clusters.start(v);
        let plain = start == v || x.as_tensor().is_some() || !self.is_float(start);
        let same = matches!(self.vals[start.index()], Some(Val::Tensor(t)) if t == id);
        if !single || plain || !same || coeff == 0 || turns.iter().map(Vec::len).sum::<usize>() > MAX_CUTS {
            return;
        }
        let cuts = turns.iter().map(|list| self.cuts_of(start, v, id, coeff, x.constant, list)).collect();
        let shape = self.b.shape(id).to_vec();
        self.edges.cuts(CutsOf { tensor: id, shape, by: by.to_vec(), cuts });
    }

    /// Turns at all whole numbers that an accumulator may be.
    pub(super) fn whole_turns(&self, x: &Acc, turn: impl Fn(f64) -> Turn) -> Vec<Turn> {
        let (lo, hi) = self.b.bounds(x);
        let unit = exp2(-x.scale);
        let (lo, hi) = ((lo as f64 * unit).floor(), (hi as f64 * unit).ceil());
        if hi - lo > MAX_CUTS as f64 {
            return Vec::new();
        }
        (lo as i64..=hi as i64).map(|n| turn(n as f64)).collect()
    }

    fn cuts_of(
        &self,
        start: ValueId,
        v: ValueId,
        id: TensorId,
        coeff: i64,
        constant: i64,
        turns: &[Turn],
    ) -> Vec<Cut> {
        let t = self.b.program.tensor(id);
        let unit = exp2(-t.scale);
        let (lo, hi) = (ordinal((t.lo as f64 * unit) as f32), ordinal((t.hi as f64 * unit) as f32));
        let values = |points: &[i64]| -> Vec<f64> {
            let points: Vec<f64> = points.iter().map(|&p| f64::from(single(p))).collect();
            self.clusters.sample_as(DType::F32, start, v, &points)
        };
        // Rising with the input, or falling: of either kind, the first input of the upper side.
        let rises = coeff > 0;
        let upper = |turn: &Turn, y: f64| (if turn.strict { y > turn.at } else { y >= turn.at }) == rises;
        let (mut low, mut high) = (vec![lo; turns.len()], vec![hi; turns.len()]);
        for _ in 0..33 {
            let middle: Vec<i64> = low.iter().zip(&high).map(|(a, b)| a + (b - a) / 2).collect();
            let y = values(&middle);
            if y.len() != turns.len() {
                return Vec::new();
            }
            for (k, turn) in turns.iter().enumerate() {
                if low[k] >= high[k] {
                    continue;
                }
                if upper(turn, y[k]) {
                    high[k] = middle[k];
                } else {
                    low[k] = middle[k] + 1;
                }
            }
        }
        let coeff = i128::from(coeff);
        let mut cuts = Vec::new();
        for (k, turn) in turns.iter().enumerate() {
            // A side that no input of the range is on has no cut.
            let inside = |p: i64| (lo + 1..hi).contains(&p);
            if !inside(low[k]) {
                continue;
            }
            let needed = turn.element - i128::from(constant);
            // coeff·X + constant ≥ element from X = ⌈needed / coeff⌉ on; where it falls, up to ⌊−needed / |coeff|⌋.
            let down = (-needed).div_euclid(coeff.abs());
            let element = if rises { -down } else { down + 1 };
            if let Ok(element) = i64::try_from(element) {
                cuts.push(Cut { at: f64::from(single(low[k])), element });
            }
        }
        cuts
    }
}

/// The place of a number among all of single precision.
fn ordinal(v: f32) -> i64 {
    let bits = i64::from(v.to_bits());
    if bits >> 31 == 0 { bits } else { -(bits & 0x7fff_ffff) }
}

/// The number at a place.
fn single(p: i64) -> f32 {
    let bits = u32::try_from(p.unsigned_abs()).unwrap_or(0);
    let v = f32::from_bits(bits);
    if p < 0 { -v } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order() {
        for v in [0.0f32, 1.0, -1.0, 0.1, -0.1, 3e38, f32::MIN_POSITIVE] {
            assert_eq!(single(ordinal(v)), v);
            assert_eq!(ordinal(v.next_up()) - ordinal(v), 1);
        }
    }
}
