//! Numbers that decisions compare inputs with.
//!
//! An input is rounded to a scale, and a threshold with it: what is equal stays equal. A number within half a unit of a threshold would become equal to
//! it as well, and so take the other side. Where an element of an input is compared with constants, or rounded to whole numbers, it is
//! therefore encoded as the nearest integer **on its own side** of each of them, at most one unit away.
//!
//! The same is done for decisions on a multiple of an input, or on its sum with a constant: a [`Cut`] is where the decision changes in single precision,
//! with the integer at which it changes in the circuit.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::onnx::{TensorF, broadcast, broadcast_map};
use crate::qir::{OpKind, Pick, Program, Role, TensorId};

use super::builder::exp2;

/// Greatest scale that thresholds close to each other ask for.
const MAX_SCALE: i32 = 30;

/// Units that an element is moved at most for the side of a cut.
const MAX_MOVE: f64 = 4.0;

/// Values from `at` on are encoded as `element` or more, those below as less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// The least value of the upper side.
    pub at: f64,
    /// The least integer of the upper side.
    pub element: i64,
}

/// What the elements of an input are compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Edges {
    /// Thresholds by flat index, in order.
    thresholds: BTreeMap<u32, Vec<f64>>,
    /// Thresholds of all elements, in order.
    all: Vec<f64>,
    /// Whether elements are rounded to whole numbers.
    whole: bool,
    /// Whether elements are rounded to the nearest whole number.
    halves: bool,
    /// Cuts by flat index, in order.
    cuts: BTreeMap<u32, Vec<Cut>>,
    /// Cuts of all elements, in order.
    all_cuts: Vec<Cut>,
    /// Thresholds that the scale does not tell apart, in order, with the integers that stand for them.
    #[serde(default)]
    images: Vec<(f64, i64)>,
    /// Whether elements are compared after they are rounded to single precision.
    #[serde(default)]
    single: bool,
}

impl Edges {
    /// The integer at `2^scale` that stands for element `i` of value `x`, as a real number.
    pub fn encode(&self, i: usize, x: f64, scale: i32) -> f64 {
        let x = if self.single { f64::from(x as f32) } else { x };
        let unit = |v: f64| (v * exp2(scale)).round();
        let nearest = unit(x);
        let own = u32::try_from(i).ok().and_then(|i| self.thresholds.get(&i));
        let mut near: Vec<f64> = own.into_iter().chain([&self.all]).flatten().copied().collect();
        if self.whole {
            near.push(x.round());
        }
        if self.halves {
            near.push(x.floor() + 0.5);
        }
        near.retain(|t| unit(*t) == nearest);
        let (below, above) = (near.iter().any(|t| *t < x), near.iter().any(|t| *t > x));
        let moved = match (near.contains(&x), below, above) {
            (false, true, false) => nearest + 1.0,
            (false, false, true) => nearest - 1.0,
            _ => nearest,
        };
        let moved = self.between(own.map_or(&[], Vec::as_slice), x, scale).map_or(moved, |side| side(moved));
        let own = u32::try_from(i).ok().and_then(|i| self.cuts.get(&i));
        own.into_iter().chain([&self.all_cuts]).fold(moved, |v, cuts| beside(cuts, x, v))
    }

    /// How a number next to a threshold with an image of its own moves to its side; nothing where there is none.
    fn between(&self, own: &[f64], x: f64, scale: i32) -> Option<impl Fn(f64) -> f64> {
        let image = |t: f64| {
            let at = self.images.binary_search_by(|(v, _)| v.total_cmp(&t)).ok()?;
            self.images.get(at).map(|(_, image)| *image as f64)
        };
        let unit = |t: f64| image(t).unwrap_or((t * exp2(scale)).round());
        let near = |list: &[f64]| {
            let at = list.partition_point(|t| *t <= x);
            (at.checked_sub(1).and_then(|k| list.get(k)).copied(), list.get(at).copied())
        };
        if self.images.is_empty() {
            return None;
        }
        let (own, all) = (near(own), near(&self.all));
        let lower = own.0.into_iter().chain(all.0).reduce(f64::max);
        let upper = own.1.into_iter().chain(all.1).reduce(f64::min);
        [lower, upper].into_iter().flatten().find_map(image)?;
        let least = lower.map_or(f64::NEG_INFINITY, |t| unit(t) + f64::from(u8::from(t < x)));
        let most = match lower {
            Some(t) if t == x => least,
            _ => upper.map_or(f64::INFINITY, |t| unit(t) - 1.0),
        };
        Some(move |v: f64| if least > most { v } else { v.clamp(least, most) })
    }

    /// Integers for the thresholds of elements that compare with two numbers which a scale does not tell apart: in the same order, with one between
    /// any two.
    pub(super) fn images(&self, scale: i32) -> Vec<(f64, i64)> {
        /// Units that a threshold is moved at most.
        const MOST: f64 = 64.0;
        let unit = |v: f64| (v * exp2(scale)).round();
        let meet = |l: &&Vec<f64>| l.windows(2).any(|w| w[0] != w[1] && unit(w[1]) - unit(w[0]) < 2.0);
        let lists = self.lists();
        let mut all: Vec<f64> = lists.iter().filter(meet).flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        let mut images: Vec<(f64, i64)> = Vec::with_capacity(all.len());
        let mut last = f64::NEG_INFINITY;
        for (k, &v) in all.iter().enumerate() {
            let next = all.get(k + 1).map_or(f64::INFINITY, |n| unit(*n));
            // One unit down makes room for the next.
            let wanted = if next - unit(v) < 2.0 { unit(v) - 1.0 } else { unit(v) };
            last = wanted.max(last + 2.0);
            if (last - unit(v)).abs() > MOST {
                return Vec::new();
            }
            images.push((v, last as i64));
        }
        images
    }

    /// Says which integers stand for thresholds.
    pub(super) fn with_images(self, images: Vec<(f64, i64)>) -> Edges {
        Edges { images, ..self }
    }

    /// What each element is compared with, in order.
    fn lists(&self) -> Vec<Vec<f64>> {
        let lists = self.thresholds.values().map(|own| {
            let mut both: Vec<f64> = own.iter().chain(&self.all).copied().collect();
            both.sort_by(f64::total_cmp);
            both
        });
        lists.chain([self.all.clone()]).collect()
    }

    /// The least scale, from a given one on, at which there is an integer between every two thresholds of an element that any scale tells apart.
    pub(super) fn scale(&self, from: i32) -> i32 {
        let lists = self.lists();
        let apart = |scale: i32| {
            let unit = |v: f64| (v * exp2(scale)).round();
            let one = |w: &[f64]| (w[1] - w[0]) * exp2(MAX_SCALE) < 2.0 || unit(w[1]) - unit(w[0]) >= 2.0;
            lists.iter().all(|l| l.windows(2).all(one))
        };
        (from..=MAX_SCALE.max(from)).find(|&s| apart(s)).unwrap_or(MAX_SCALE.max(from))
    }
}

/// `v`, or the nearest integer on the side of `x` where that is not far.
fn beside(cuts: &[Cut], x: f64, v: f64) -> f64 {
    let next = cuts.partition_point(|c| c.at <= x);
    let least = next.checked_sub(1).and_then(|k| cuts.get(k)).map_or(f64::NEG_INFINITY, |c| c.element as f64);
    let most = cuts.get(next).map_or(f64::INFINITY, |c| c.element as f64 - 1.0);
    if least > most {
        return v;
    }
    let moved = v.clamp(least, most);
    if (moved - v).abs() <= MAX_MOVE { moved } else { v }
}

/// Cuts of a tensor: for all elements alike, or for the elements of a constant that it is broadcast with, of this shape.
#[derive(Debug)]
pub(super) struct CutsOf {
    pub tensor: TensorId,
    pub shape: Vec<usize>,
    pub by: Vec<usize>,
    pub cuts: Vec<Vec<Cut>>,
}

/// Comparisons of tensors of a program with constants.
#[derive(Debug, Default)]
pub(super) struct Found {
    thresholds: Vec<(TensorId, Vec<usize>, TensorF)>,
    /// Tensors that are compared in single precision, whatever that of the input is.
    single: Vec<TensorId>,
    whole: Vec<TensorId>,
    halves: Vec<TensorId>,
    cuts: Vec<CutsOf>,
}

impl Found {
    /// Notes where decisions on what is computed from a tensor change.
    pub(super) fn cuts(&mut self, cuts: CutsOf) {
        self.cuts.push(cuts);
    }

    /// Notes that a tensor of shape `shape` is compared with a constant.
    pub(super) fn thresholds(&mut self, id: TensorId, shape: &[usize], c: &TensorF) {
        self.thresholds.push((id, shape.to_vec(), c.clone()));
    }

    /// Notes that a tensor is compared in single precision.
    pub(super) fn single(&mut self, id: TensorId) {
        self.single.push(id);
    }

    /// Notes that a tensor is compared with zero.
    pub(super) fn zero(&mut self, id: TensorId) {
        self.thresholds.push((id, vec![], TensorF::scalar(0.0)));
    }

    /// Notes that a tensor is rounded to whole numbers.
    pub(super) fn whole(&mut self, id: TensorId) {
        self.whole.push(id);
    }

    /// Notes that a tensor is rounded to the nearest whole numbers.
    pub(super) fn halves(&mut self, id: TensorId) {
        self.halves.push(id);
    }

    /// The edges of each input: of tensors that are inputs, or elements of inputs in another order.
    pub(super) fn of_inputs(&self, p: &Program) -> Vec<Edges> {
        let mut edges = vec![Edges::default(); p.inputs.len()];
        let asked = self.thresholds.len() + self.whole.len() + self.halves.len() + self.cuts.len();
        if asked == 0 {
            return edges;
        }
        let sources = Sources::new(p);
        for (id, shape, c) in &self.thresholds {
            let Some(elements) = sources.of(p, *id) else { continue };
            if let ([one], Some(input)) = (&c.to_f64()[..], whole_input(p, *id)) {
                edges[input].all.push(*one);
                continue;
            }
            let Ok(out) = broadcast(shape, &c.shape) else { continue };
            let (mx, mc) = (broadcast_map(shape, &out), broadcast_map(&c.shape, &out));
            let at = |m: &Option<Vec<usize>>, i: usize| m.as_ref().map_or(i, |m| m[i]);
            for i in 0..out.iter().product() {
                let Some(Some((input, element))) = elements.get(at(&mx, i)).copied() else { continue };
                edges[input].thresholds.entry(element).or_default().push(c.at(at(&mc, i)));
            }
        }
        for c in &self.cuts {
            let Some(elements) = sources.of(p, c.tensor) else { continue };
            if let ([one], Some(input)) = (&c.cuts[..], whole_input(p, c.tensor)) {
                edges[input].all_cuts.extend(one);
                continue;
            }
            let Ok(out) = broadcast(&c.shape, &c.by) else { continue };
            let (mx, mc) = (broadcast_map(&c.shape, &out), broadcast_map(&c.by, &out));
            let at = |m: &Option<Vec<usize>>, i: usize| m.as_ref().map_or(i, |m| m[i]);
            for i in 0..out.iter().product() {
                let Some(Some((input, element))) = elements.get(at(&mx, i)).copied() else { continue };
                let Some(list) = c.cuts.get(at(&mc, i)) else { continue };
                edges[input].cuts.entry(element).or_default().extend(list);
            }
        }
        for id in &self.single {
            for (input, _) in sources.of(p, *id).into_iter().flatten().flatten() {
                edges[input].single = true;
            }
        }
        for (list, halves) in [(&self.whole, false), (&self.halves, true)] {
            for id in list {
                for (input, _) in sources.of(p, *id).into_iter().flatten().flatten() {
                    if halves {
                        edges[input].halves = true;
                    } else {
                        edges[input].whole = true;
                    }
                }
            }
        }
        for e in &mut edges {
            for list in e.thresholds.values_mut().chain([&mut e.all]) {
                list.retain(|v| v.is_finite());
                list.sort_by(f64::total_cmp);
                list.dedup();
            }
            for list in e.cuts.values_mut().chain([&mut e.all_cuts]) {
                list.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.element.cmp(&b.element)));
                list.dedup();
            }
        }
        edges
    }
}

/// The input whose elements a tensor holds, and nothing else.
pub(super) fn input_of(p: &Program, id: TensorId) -> Option<usize> {
    let elements = Sources::new(p).of(p, id)?;
    let (first, _) = (*elements.first()?)?;
    elements.iter().all(|e| e.is_some_and(|(input, _)| input == first)).then_some(first)
}

fn whole_input(p: &Program, id: TensorId) -> Option<usize> {
    p.inputs.iter().position(|&i| i == id)
}

/// Which operation is a view that computes a tensor.
struct Sources(HashMap<TensorId, usize>);

impl Sources {
    fn new(p: &Program) -> Sources {
        let views = p.ops.iter().enumerate().filter(|(_, op)| matches!(op.kind, OpKind::View { .. }));
        Sources(views.flat_map(|(k, op)| op.outputs.iter().map(move |&o| (o, k))).collect())
    }

    /// Input and flat index that each element of a tensor is; `None` for tensors none of whose elements is an input's.
    fn of(&self, p: &Program, id: TensorId) -> Option<Vec<Option<(usize, u32)>>> {
        if p.tensor(id).role == Role::Input {
            let input = whole_input(p, id)?;
            return Some((0..p.tensor(id).len() as u32).map(|i| Some((input, i))).collect());
        }
        // Views of views, from the last: each element is followed on its own.
        let mut at: Vec<Option<(TensorId, u32)>> =
            (0..p.tensor(id).len() as u32).map(|i| Some((id, i))).collect();
        let mut found = false;
        for slot in &mut at {
            while let Some((t, i)) = *slot {
                if p.tensor(t).role == Role::Input {
                    found = true;
                    break;
                }
                let view = self.0.get(&t).map(|&k| &p.ops[k].kind);
                *slot = match view {
                    Some(OpKind::View { sources, picks }) => match picks.get(i as usize) {
                        Some(&Pick::Of { source, index }) => {
                            sources.get(source as usize).map(|&s| (s, index))
                        }
                        _ => None,
                    },
                    _ => None,
                };
            }
        }
        let element = |(t, i): (TensorId, u32)| Some((whole_input(p, t)?, i));
        found.then(|| at.into_iter().map(|s| s.and_then(element)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_on_their_side() {
        let f = |v: f32| f64::from(v);
        let e = Edges { all: vec![f(0.1), f(0.7)], ..Edges::default() };
        let at = |x: f32| e.encode(0, f(x), 16);
        assert_eq!(at(0.1), 6554.0);
        assert_eq!(at(0.1f32.next_up()), 6555.0);
        assert_eq!(at(0.1f32.next_down()), 6553.0);
        assert_eq!(at(0.7), 45875.0);
        assert_eq!(at(0.7f32.next_down()), 45874.0);
        assert_eq!(at(0.3), 19661.0);
    }

    #[test]
    fn whole_numbers_are_edges_of_roundings() {
        let floor = Edges { whole: true, ..Edges::default() };
        assert_eq!(floor.encode(0, f64::from(3f32.next_down()), 16), 3.0 * 65536.0 - 1.0);
        assert_eq!(floor.encode(0, 3.0, 16), 3.0 * 65536.0);
        let round = Edges { halves: true, ..Edges::default() };
        assert_eq!(round.encode(0, f64::from(1.5f32.next_down()), 16), 1.5 * 65536.0 - 1.0);
        assert_eq!(round.encode(0, 1.5, 16), 1.5 * 65536.0);
    }

    #[test]
    fn cuts_move_an_element_to_its_side() {
        let cut = |at, element| Cut { at, element };
        let same = Edges { all_cuts: vec![cut(1.0, 65537), cut(2.0, 131_070)], ..Edges::default() };
        assert_eq!(same.encode(0, 1.0, 16), 65537.0);
        assert_eq!(same.encode(0, 1.0 - 1e-9, 16), 65536.0);
        assert_eq!(same.encode(0, 2.0 - 1e-9, 16), 131_069.0);
        // What is far from its side stays: other numbers are another question.
        let far = Edges { all_cuts: vec![cut(1.0, 70_000)], ..Edges::default() };
        assert_eq!(far.encode(0, 1.0, 16), 65536.0);
    }

    #[test]
    fn thresholds_that_no_scale_tells_apart_have_images() {
        let e = Edges { all: vec![-1e-35, 1e-35, 0.5], ..Edges::default() };
        assert_eq!(e.scale(16), 16);
        let e = e.clone().with_images(e.images(16));
        let at = |x: f64| e.encode(0, x, 16);
        assert_eq!([-1e-35, 0.0, 1e-35].map(at), [-1.0, 0.0, 1.0]);
        assert_eq!([-1e-30, 1e-30, 1.0 / 65536.0].map(at), [-2.0, 2.0, 2.0]);
        assert_eq!([0.5, 0.25, -3.0].map(at), [32768.0, 16384.0, -3.0 * 65536.0]);
        let many = Edges { all: (0..5).map(|k| 1.0 + f64::from(k) * 1e-12).collect(), ..Edges::default() };
        let many = many.clone().with_images(many.images(16));
        let images: Vec<f64> = many.all.iter().map(|&t| many.encode(0, t, 16)).collect();
        assert!(images.windows(2).all(|w| w[1] - w[0] >= 2.0), "{images:?}");
        assert_eq!(many.encode(0, 1.0 + 1.5e-12, 16), images[1] + 1.0);
    }

    #[test]
    fn close_thresholds_ask_for_a_finer_scale() {
        let e = Edges { all: vec![0.25, 0.25 + 1e-6], ..Edges::default() };
        let scale = e.scale(16);
        assert!((17..=24).contains(&scale), "{scale}");
        assert_eq!(e.encode(0, 0.25 + 5e-7, scale) - e.encode(0, 0.25, scale), 1.0);
        let far = Edges { all: vec![0.25, 0.5], ..Edges::default() };
        assert_eq!(far.scale(16), 16);
    }
}
