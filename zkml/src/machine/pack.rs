//! Placing a template on work units.
//!
//! A unit is a group of cells in one row: `key`, `value` and `second` for the function lane (only those that some table of the model needs), then
//! cells with a range lane, then plain cells, the last of which counts where the function lane provides an entry. Any cell may be
//! used as a plain one where its lane is off. A unit checks two equations and offers at most one port; a template that needs more continues
//! on further units, whose shared variables are copies.

use super::sites::{Site, on};
use super::table::Section;
use super::template::{FnUse, Quad, Template, Var};

/// The cells of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct UnitShape {
    /// A function lane with key and value.
    pub(crate) function: bool,
    /// A second value.
    pub(crate) second: bool,
    /// Cells with a range lane.
    pub(crate) ranges: u16,
    /// Cells without.
    pub(crate) plain: u16,
}

impl UnitShape {
    pub(crate) const KEY: u16 = 0;
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const SECOND: u16 = 2;

    /// The cell that counts an entry that is provided.
    pub(crate) fn count_at(&self) -> u16 {
        self.cells() - 1
    }

    pub(crate) fn range_at(&self) -> u16 {
        2 * u16::from(self.function) + u16::from(self.second)
    }

    pub(crate) fn plain_at(&self) -> u16 {
        self.range_at() + self.ranges
    }

    /// Number of cells.
    pub(crate) fn cells(&self) -> u16 {
        self.plain_at() + self.plain
    }
}

/// What the function lane of a unit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FnLane {
    pub(crate) section: Section,
    pub(crate) provides: bool,
}

/// What a unit of a row does; expressions are over positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Code {
    pub(crate) eqs: Vec<Quad>,
    pub(crate) port: Option<Quad>,
    pub(crate) ranges: Vec<Option<Section>>,
    pub(crate) function: Option<FnLane>,
}

/// A variable at a position; its home or a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: u16,
    pub(crate) var: Var,
}

/// A template on units.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    pub(crate) codes: Vec<Code>,
    pub(crate) places: Vec<Vec<Place>>,
    /// Unit and position of each variable's home.
    pub(crate) homes: Vec<Option<(u16, u16)>>,
    /// Unit with the port.
    pub(crate) port_unit: Option<u16>,
}

struct Unit {
    used: Vec<Option<Var>>,
    code: Code,
    second_blocked: bool,
}

/// Where cells go that could stand in several places: which is best depends on all templates together, since a position that one of them
/// copies from or to is part of the permutation argument for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Range-checked cells that are no output take the last free lane instead of the first.
    inner_last: bool,
    /// What cells without a lookup take after the plain positions.
    spare: Spare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    RangesLast,
    RangesFirst,
    Function,
}

impl Order {
    pub(crate) const ALL: [Order; 6] = [
        Order { inner_last: false, spare: Spare::RangesLast },
        Order { inner_last: true, spare: Spare::RangesLast },
        Order { inner_last: false, spare: Spare::RangesFirst },
        Order { inner_last: true, spare: Spare::RangesFirst },
        Order { inner_last: false, spare: Spare::Function },
        Order { inner_last: true, spare: Spare::Function },
    ];
}

struct Packer<'a> {
    template: &'a Template,
    shape: UnitShape,
    order: Order,
    done: Vec<(Unit, Vec<Place>)>,
    unit: Unit,
    places: Vec<Place>,
    homes: Vec<Option<(u16, u16)>>,
    port_unit: Option<u16>,
}

impl<'a> Packer<'a> {
    fn fresh(shape: UnitShape) -> Unit {
        Unit {
            used: vec![None; shape.cells() as usize],
            code: Code { ranges: vec![None; shape.ranges as usize], ..Code::default() },
            second_blocked: false,
        }
    }

    fn here(&self, v: Var) -> Option<u16> {
        self.places.iter().find(|p| p.var == v).map(|p| p.position)
    }

    fn free(&self, position: u16) -> bool {
        self.unit.used.get(position as usize).is_some_and(Option::is_none)
            && !(self.unit.second_blocked && self.shape.second && position == UnitShape::SECOND)
    }

    fn any_free(&self) -> Option<u16> {
        let shape = self.shape;
        let mut plain = shape.plain_at()..shape.cells();
        let mut ranges = shape.range_at()..shape.plain_at();
        let mut lane = (0..shape.range_at()).rev();
        let free = |p: &u16| self.free(*p);
        plain.find(free).or_else(|| match self.order.spare {
            Spare::RangesLast => ranges.rev().find(free).or_else(|| lane.find(free)),
            Spare::RangesFirst => ranges.find(free).or_else(|| lane.find(free)),
            Spare::Function => lane.find(free).or_else(|| ranges.rev().find(free)),
        })
    }

    fn put(&mut self, position: u16, var: Var, home: bool) {
        self.unit.used[position as usize] = Some(var);
        self.places.push(Place { position, var });
        if home {
            self.homes[var as usize] = Some((self.done.len() as u16, position));
        }
    }

    fn function_of(&self, v: Var) -> Option<FnUse> {
        self.template
            .fns
            .iter()
            .find(|f| f.key == v || f.value == v || f.second == Some(v) || f.count == Some(v))
            .filter(|f| !self.placed_fn(f))
            .cloned()
    }

    fn placed_fn(&self, f: &FnUse) -> bool {
        let last = f.count.unwrap_or(f.value);
        self.homes[last as usize].is_some()
    }

    /// Places a function lookup with all its cells.
    fn put_function(&mut self, f: &FnUse) -> bool {
        let second_needed = f.second.is_some();
        let busy = self.unit.code.function.is_some()
            || !self.free(UnitShape::KEY)
            || !self.free(UnitShape::VALUE)
            || (self.shape.second && !self.free(UnitShape::SECOND))
            || (f.count.is_some() && !self.free(self.shape.count_at()));
        if busy || !self.shape.function || (second_needed && !self.shape.second) {
            return false;
        }
        self.unit.code.function =
            on(Site::FunctionLane).then_some(FnLane { section: f.section, provides: f.count.is_some() });
        let fresh = self.homes[f.key as usize].is_none();
        self.put(UnitShape::KEY, f.key, fresh);
        let fresh = self.homes[f.value as usize].is_none();
        self.put(UnitShape::VALUE, f.value, fresh);
        match f.second {
            Some(second) => {
                let fresh = self.homes[second as usize].is_none();
                self.put(UnitShape::SECOND, second, fresh);
            }
            None => self.unit.second_blocked = true,
        }
        if let Some(count) = f.count {
            let fresh = self.homes[count as usize].is_none();
            self.put(self.shape.count_at(), count, fresh);
        }
        true
    }

    fn put_var(&mut self, v: Var) -> bool {
        if self.here(v).is_some() {
            return true;
        }
        if let Some(f) = self.function_of(v) {
            // A key that is a copy from elsewhere may be looked up on a later unit.
            if self.put_function(&f) {
                return true;
            }
            if f.key != v || self.homes[v as usize].is_none() {
                return false;
            }
        }
        let home = self.homes[v as usize].is_none();
        let range = self.template.ranges.iter().find(|&&(w, _)| w == v).map(|&(_, s)| s);
        let position = match range {
            Some(_) if home => {
                let mut lanes = self.shape.range_at()..self.shape.plain_at();
                let inner = self.order.inner_last && !self.template.outs.contains(&v);
                let free = |p: &u16| self.free(*p);
                if inner { lanes.rev().find(free) } else { lanes.find(free) }
            }
            _ => self.any_free(),
        };
        let Some(position) = position else { return false };
        if let (Some(section), true, true) = (range, home, on(Site::RangeLane)) {
            self.unit.code.ranges[(position - self.shape.range_at()) as usize] = Some(section);
        }
        self.put(position, v, home);
        true
    }

    fn flush(&mut self) {
        let unit = std::mem::replace(&mut self.unit, Self::fresh(self.shape));
        let places = std::mem::take(&mut self.places);
        self.done.push((unit, places));
    }

    /// Runs `place` on this unit, or else on a fresh one.
    fn attempt(&mut self, place: impl Fn(&mut Self) -> bool) -> bool {
        for _ in 0..2 {
            let saved = (self.unit.used.clone(), self.unit.code.clone(), self.unit.second_blocked);
            let (places, homes) = (self.places.clone(), self.homes.clone());
            if place(self) {
                return true;
            }
            (self.unit.used, self.unit.code, self.unit.second_blocked) = saved;
            (self.places, self.homes) = (places, homes);
            if self.places.is_empty() {
                return false;
            }
            self.flush();
        }
        false
    }

    fn localise(&self, q: &Quad) -> Quad {
        let at = |v: Var| self.here(v).unwrap_or(u16::MAX);
        let mut out = Quad::constant(q.constant);
        for &(c, v) in &q.lin {
            match out.lin.iter_mut().find(|(_, w)| *w == at(v)) {
                Some((sum, _)) => *sum += c,
                None => out.lin.push((c, at(v))),
            }
        }
        for &(c, a, b) in &q.quad {
            let pair = (at(a).min(at(b)), at(a).max(at(b)));
            match out.quad.iter_mut().find(|(_, x, y)| (*x, *y) == pair) {
                Some((sum, ..)) => *sum += c,
                None => out.quad.push((c, pair.0, pair.1)),
            }
        }
        out.lin.retain(|&(c, _)| c != 0);
        out.quad.retain(|&(c, ..)| c != 0);
        out.lin.sort_by_key(|&(_, v)| v);
        out.quad.sort_by_key(|&(_, a, b)| (a, b));
        out
    }
}

/// Places a template; `None` where an equation does not fit on one unit.
pub(crate) fn pack(template: &Template, shape: UnitShape, order: Order) -> Option<Packed> {
    let mut p = Packer {
        template,
        shape,
        order,
        done: Vec::new(),
        unit: Packer::fresh(shape),
        places: Vec::new(),
        homes: vec![None; template.defs.len()],
        port_unit: None,
    };
    if let Some(port) = &template.port {
        let vars = port.vars();
        if !p.attempt(|p| vars.iter().all(|&v| p.put_var(v))) {
            return None;
        }
        p.unit.code.port = Some(p.localise(port));
        p.port_unit = Some(p.done.len() as u16);
    }
    for eq in &template.eqs {
        let vars = eq.vars();
        if !p.attempt(|p| p.unit.code.eqs.len() < 2 && vars.iter().all(|&v| p.put_var(v))) {
            return None;
        }
        let eq = p.localise(eq);
        p.unit.code.eqs.push(eq);
    }
    for f in &template.fns {
        if !p.placed_fn(f) && !p.attempt(|p| p.put_function(f)) {
            return None;
        }
    }
    for &(v, _) in &template.ranges {
        if p.homes[v as usize].is_none() && !p.attempt(|p| p.put_var(v)) {
            return None;
        }
    }
    for &v in &template.outs {
        if p.homes[v as usize].is_none() && !p.attempt(|p| p.put_var(v)) {
            return None;
        }
    }
    if !p.places.is_empty() {
        p.flush();
    }
    let (codes, places) = p.done.into_iter().map(|(u, places)| (u.code, places)).unzip();
    Some(Packed { codes, places, homes: p.homes, port_unit: p.port_unit })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::table::{Function, Tables};
    use super::super::template::{Admitted, Affine, Def, Spec, build};
    use super::*;

    fn specs() -> Vec<Spec> {
        let linear = |swept, shift, relu, reach: i64| Spec::Linear {
            swept,
            scales: vec![3, -1, 7],
            products: vec![2, 5],
            constant: 11,
            shift,
            pre_lo: -reach,
            pre_hi: reach,
            relu,
        };
        let sum = Affine { scales: vec![2, -1, 1], constant: 3 };
        let mut out = Vec::new();
        for reach in [1, 100, 40_000, 1 << 40] {
            for (swept, shift, relu) in
                [(true, 0, false), (false, 0, true), (true, 9, true), (false, 30, false)]
            {
                out.push(linear(swept, shift, relu, reach));
            }
            for admitted in [
                Admitted::Limbs,
                Admitted::Hull,
                Admitted::Bounds { table: 0 },
                Admitted::Bounds { table: 20 },
            ] {
                out.push(Spec::Import { lo: -reach, hi: reach, admitted });
                out.push(Spec::Import { lo: 0, hi: reach, admitted });
            }
            out.push(Spec::Bound { lo: 0, hi: reach });
            out.push(Spec::Step { x: Affine::cell(), lo: -reach, hi: reach });
            out.push(Spec::Step { x: sum.clone(), lo: -reach, hi: reach });
            out.push(Spec::Div { q_lo: -reach, q_hi: reach, den_hi: reach });
            out.push(Spec::Sqrt { hi: reach });
            for (index, last) in [(false, false), (true, false), (true, true)] {
                out.push(Spec::Max { spread: reach, index, last });
            }
            out.push(Spec::Sorted { bits: 5, descending: true, lo: -reach, hi: reach });
        }
        for x in [Affine::cell(), sum] {
            out.push(Spec::Lookup { x: x.clone(), table: 0 });
            out.push(Spec::Interpolate { x, table: 1, step: 9, guard: 3, lo: -900, hi: 900 });
        }
        out.extend([Spec::Copy, Spec::Provide { dynamic: 0 }, Spec::Read { dynamic: 0, width: 4 }]);
        out
    }

    /// An equation over variables again, with equal monomials together.
    fn over_variables(q: &Quad, places: &[Place]) -> BTreeMap<Vec<Var>, i128> {
        let var = |position: Var| places.iter().find(|p| p.position == position).unwrap().var;
        collected(&Quad {
            lin: q.lin.iter().map(|&(c, p)| (c, var(p))).collect(),
            quad: q.quad.iter().map(|&(c, p, r)| (c, var(p), var(r))).collect(),
            constant: q.constant,
        })
    }

    fn collected(q: &Quad) -> BTreeMap<Vec<Var>, i128> {
        let mut out = BTreeMap::from([(vec![], q.constant)]);
        q.lin.iter().for_each(|&(c, v)| *out.entry(vec![v]).or_insert(0) += c);
        q.quad.iter().for_each(|&(c, a, b)| *out.entry(vec![a.min(b), a.max(b)]).or_insert(0) += c);
        out.retain(|_, c| *c != 0);
        out
    }

    fn complete(template: &Template, shape: UnitShape, packed: &Packed) {
        let mut equations: Vec<_> = template.eqs.iter().map(collected).collect();
        let mut port = template.port.as_ref().map(collected);
        let mut functions = template.fns.clone();
        for (unit, (code, places)) in packed.codes.iter().zip(&packed.places).enumerate() {
            let mut positions: Vec<u16> = places.iter().map(|p| p.position).collect();
            positions.sort_unstable();
            positions.dedup();
            assert_eq!(positions.len(), places.len(), "one variable to a cell");
            assert!(positions.iter().all(|p| *p < shape.cells()));
            for eq in &code.eqs {
                let eq = over_variables(eq, places);
                let at = equations.iter().position(|known| *known == eq).unwrap();
                equations.remove(at);
            }
            if let Some(own) = &code.port {
                assert_eq!(Some(over_variables(own, places)), port.take());
                assert_eq!(packed.port_unit, Some(unit as u16));
            }
            let at = |position: u16| places.iter().find(|p| p.position == position).map(|p| p.var);
            for (i, section) in code.ranges.iter().enumerate() {
                let var = at(shape.range_at() + i as u16);
                assert_eq!(
                    section.is_some(),
                    var.is_some_and(|v| template
                        .ranges
                        .contains(&(v, section.unwrap_or(Section::Dynamic { id: 9 }))))
                );
            }
            if let Some(lane) = code.function {
                let found = functions.iter().position(|f| {
                    let count = f.count.is_none() || at(shape.count_at()) == f.count;
                    let keyed = (at(UnitShape::KEY), at(UnitShape::VALUE)) == (Some(f.key), Some(f.value));
                    let second = !shape.second || at(UnitShape::SECOND) == f.second;
                    f.section == lane.section
                        && f.count.is_some() == lane.provides
                        && keyed
                        && second
                        && count
                });
                functions.remove(found.unwrap());
            }
        }
        assert!(equations.is_empty() && port.is_none() && functions.is_empty());
        for &(v, section) in &template.ranges {
            let (unit, position) = packed.homes[v as usize].unwrap();
            let lane = usize::from(position - shape.range_at());
            assert_eq!(
                packed.codes[unit as usize].ranges[lane],
                Some(section),
                "a range that nothing checks"
            );
        }
        for &v in &template.outs {
            assert!(packed.homes[v as usize].is_some());
        }
        for places in &packed.places {
            for p in places {
                assert!(!matches!(template.defs[p.var as usize], Def::Acc), "what is swept has no cell");
            }
        }
    }

    /// Whatever the widths and the shape, all that a template asks for is on its units, and on the cells that are read.
    #[test]
    fn nothing_of_a_template_is_lost() {
        let values: Arc<[i64]> = (0..600).collect();
        let plain = Function { first: 0, values: values.clone(), second: None };
        let pair = Function { first: 0, values: values.clone(), second: Some(values) };
        let functions = Arc::new(vec![plain, pair]);
        let mut packings = 0;
        for spec in specs() {
            for limb in [2, 3, 6, 9, 14, 20] {
                let fresh = || Tables::new(Arc::clone(&functions));
                for (ranges, plain) in (0..5).flat_map(|r| (0..6).map(move |p| (r, p))) {
                    if plain == 0 && matches!(spec, Spec::Provide { .. } | Spec::Read { .. }) {
                        // No cell counts; no circuit is planned so.
                        continue;
                    }
                    let shape = UnitShape { function: true, second: true, ranges, plain };
                    for shape in [shape, UnitShape { second: false, ..shape }] {
                        let template = build(&spec, limb, shape.cells().into(), &mut fresh());
                        for order in Order::ALL {
                            if let Some(packed) = pack(&template, shape, order) {
                                complete(&template, shape, &packed);
                                packings += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(packings > 50_000, "{packings}");
    }
}
