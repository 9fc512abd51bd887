//! Where real numbers become decisions: roundings to whole numbers, signs.

use crate::onnx::ValueId;

use super::super::builder::{Acc, Rounding, exp2};
use super::cuts::Turn;
use super::slack::Spread;
use super::{Lower, Outcome};

/// How a real number becomes a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Floor,
    Ceil,
    Truncate,
}

/// Greatest distance from a whole number that is taken for none, as a part of one.
const MAX_NEAR: f64 = 0.25;

impl Lower<'_> {
    /// How far an accumulator may be from what it stands for, by roundings alone.
    pub(super) fn spread(&mut self, x: &Acc) -> Spread {
        self.slack.update(&self.b.program);
        self.slack.spread(&self.b.program, x)
    }

    /// Distance from a whole number, in units of the accumulator, that roundings explain: those of the integers, and the one of single precision.
    pub(super) fn near_whole(&mut self, x: &Acc) -> i64 {
        let s = self.spread(x);
        if x.scale <= 0 || x.as_tensor().is_some() && s.units <= 0.5 {
            return 0;
        }
        if s.units == 0.0 && s.relative == 0.0 {
            return 0;
        }
        // Whole numbers near the accumulator are at most as large as it is.
        let (lo, hi) = self.b.bounds(x);
        let most = lo.unsigned_abs().max(hi.unsigned_abs()) as f64;
        let near = s.units + s.relative * most + exp2(-24) * most / self.options.headroom;
        near.min(MAX_NEAR * exp2(x.scale)).floor() as i64
    }

    /// The accumulator with so few fraction bits that its roundings do not show: ties stay ties.
    pub(super) fn snapped(&mut self, x: Acc) -> Outcome<Acc> {
        let near = self.near_whole(&x);
        if near == 0 {
            return Ok(x);
        }
        let bits = 64 - (2 * near).leading_zeros() as i32;
        let frac = (x.scale - bits).max(2);
        let id = self.b.round(&x, Rounding { frac, relu: false, range: None })?;
        Ok(self.b.acc(id))
    }

    /// −1, 0 or 1; zero is what is within the roundings of it.
    pub(super) fn sign(&mut self, a: ValueId) -> Outcome<Acc> {
        let x = self.acc(a)?;
        let light = x.terms.len() <= 2 && !x.has_contraction() && !x.has_product();
        let x = if light { x } else { self.acc_of(a)? };
        let s = self.spread(&x);
        let plain = x.as_tensor();
        if let Some(id) = plain {
            self.edges.zero(id);
        }
        let tied = if plain.is_some() { s.units - 0.5 } else { s.units }.max(0.0).floor() as i64;
        if tied == 0 {
            let (up, down) = (self.step(&x)?, self.step(&self.b.neg(&x)?)?);
            return Ok(self.b.add(&self.b.acc(up), &self.b.neg(&self.b.acc(down))?)?);
        }
        let positive = self.step(&Acc { constant: x.constant - tied - 1, ..x.clone() })?;
        let opposite = self.b.neg(&x)?;
        let negative = self.step(&Acc { constant: opposite.constant - tied - 1, ..opposite })?;
        Ok(self.b.add(&self.b.acc(positive), &self.b.neg(&self.b.acc(negative))?)?)
    }

    /// Notes that an accumulator, which is value `v`, is made a whole number.
    pub(super) fn whole_edges(&mut self, v: ValueId, x: &Acc, how: Whole) {
        if x.scale <= 0 {
            return;
        }
        if let Some(id) = x.as_tensor() {
            return self.edges.whole(id);
        }
        let near = i128::from(self.near_whole(x));
        let scale = exp2(x.scale);
        // Upwards from zero, truncation is Floor; below, Ceil.
        let turns = self.whole_turns(x, |n| {
            let strict = how == Whole::Ceil || (how == Whole::Truncate && n < 0.0);
            let at = (n * scale) as i128;
            Turn { at: n, strict, element: if strict { at + near + 1 } else { at - near } }
        });
        self.cut(v, x, &[], &[turns]);
    }

    /// The same for numbers that are rounded to the nearest whole ones.
    pub(super) fn half_edges(&mut self, x: &Acc) {
        if let Some(id) = x.as_tensor().filter(|_| x.scale > 0) {
            self.edges.halves(id);
        }
    }
}
