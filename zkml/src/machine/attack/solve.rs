//! All values that a template's variables may have, given its operands: a search over the field itself, not over honest witnesses.
//!
//! What has a range or a table is enumerated; what an equation leaves one value for has that value; what nothing determines is tried at a few.

use std::collections::BTreeSet;

use ff::{Field, PrimeField};
use halo2_axiom::halo2curves::bn256::Fr;

use super::super::num::fr;
use super::super::table::{Section, Tables};
use super::super::template::{Def, FnUse, Quad, Template, Var};

/// A constraint of a template, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Equation(usize),
    Range(usize),
    Function(usize),
    Port,
}

/// All constraints of a template.
pub(crate) fn parts(t: &Template) -> Vec<Part> {
    let used = t.fns.iter().enumerate().filter(|(_, f)| f.count.is_none());
    (0..t.eqs.len())
        .map(Part::Equation)
        .chain((0..t.ranges.len()).map(Part::Range))
        .chain(used.map(|(i, _)| Part::Function(i)))
        .chain(t.port.iter().map(|_| Part::Port))
        .collect()
}

/// An integer that a field element stands for, if it is small.
pub(crate) fn small(x: Fr) -> Option<i128> {
    let read = |x: Fr| {
        let bytes = x.to_repr();
        let (low, high) = bytes.as_ref().split_at(15);
        let mut wide = [0; 16];
        wide[..15].copy_from_slice(low);
        high.iter().all(|b| *b == 0).then(|| i128::from_le_bytes(wide))
    };
    read(x).or_else(|| read(-x).map(|x| -x))
}

/// A template with its operands.
pub(crate) struct Problem<'a> {
    pub(crate) template: &'a Template,
    pub(crate) tables: &'a Tables,
    /// Entries of tables of cells: key and value.
    pub(crate) entries: &'a [(i128, i128)],
    /// The value that an identity gives the port.
    pub(crate) port: Option<Fr>,
    /// A constraint that is left out.
    pub(crate) without: Option<Part>,
    /// Values in this order are tried first.
    pub(crate) honest: Option<&'a [Fr]>,
    /// Steps after which the search ends.
    pub(crate) patience: usize,
    pub(crate) most: usize,
}

struct Search<'a> {
    problem: &'a Problem<'a>,
    equations: Vec<Quad>,
    relevant: Vec<Var>,
    steps: usize,
    found: Vec<Vec<Fr>>,
}

impl Problem<'_> {
    fn kept(&self, part: Part) -> bool {
        self.without != Some(part)
    }

    fn functions(&self) -> impl Iterator<Item = &FnUse> {
        let all = self.template.fns.iter().enumerate();
        all.filter(|(i, f)| f.count.is_none() && self.kept(Part::Function(*i))).map(|(_, f)| f)
    }

    fn ranges(&self) -> impl Iterator<Item = (Var, Section)> + '_ {
        let all = self.template.ranges.iter().enumerate();
        all.filter(|(i, _)| self.kept(Part::Range(*i))).map(|(_, r)| *r)
    }

    /// Entries of a section, as inputs and outputs.
    fn domain(&self, section: Section) -> Vec<[Fr; 3]> {
        if matches!(section, Section::Dynamic { .. }) {
            return self.entries.iter().map(|&(x, y)| [fr(x), fr(y), Fr::ZERO]).collect();
        }
        let first = i128::from(self.tables.first(section));
        (0..self.tables.rows(section))
            .map(|at| {
                let (out, second) = self.tables.entry(section, at);
                [fr(first + at as i128), fr(out.into()), fr(second.into())]
            })
            .collect()
    }

    fn entry(&self, section: Section, x: Fr) -> Vec<[Fr; 3]> {
        if matches!(section, Section::Dynamic { .. }) {
            return self.domain(section).into_iter().filter(|e| e[0] == x).collect();
        }
        let at = small(x).and_then(|x| self.tables.position(section, x));
        at.map(|at| {
            let (out, second) = self.tables.entry(section, at);
            [x, fr(out.into()), fr(second.into())]
        })
        .into_iter()
        .collect()
    }

    /// Solutions that differ in an output, each a value per variable (zero for those without a cell); the second result says whether the search
    /// was complete.
    pub(crate) fn solve(&self, known: &[(Var, Fr)]) -> (Vec<Vec<Fr>>, bool) {
        let t = self.template;
        let mut equations: Vec<Quad> = t
            .eqs
            .iter()
            .enumerate()
            .filter(|(i, _)| self.kept(Part::Equation(*i)))
            .map(|(_, q)| q.clone())
            .collect();
        let mut relevant: BTreeSet<Var> = equations.iter().flat_map(Quad::vars).collect();
        relevant.extend(t.eqs.iter().flat_map(Quad::vars));
        relevant.extend(t.ranges.iter().map(|r| r.0));
        relevant.extend(t.fns.iter().flat_map(|f| [Some(f.key), Some(f.value), f.second]).flatten());
        relevant.extend(t.outs.iter());
        let mut start = vec![None; t.defs.len() + 1];
        if let (Some(port), Some(value)) = (&t.port, self.port) {
            relevant.extend(port.vars());
            if self.kept(Part::Port) {
                // The value is a variable of its own, which is known.
                let own = t.defs.len() as Var;
                start[own as usize] = Some(value);
                equations.push(port.clone().add(-1, own));
            }
        }
        for &(v, x) in known {
            start[v as usize] = Some(x);
        }
        let relevant = relevant.into_iter().collect();
        let mut search = Search { problem: self, equations, relevant, steps: 0, found: Vec::new() };
        let complete = search.go(start);
        let found = search.found.into_iter().map(|mut f| {
            f.truncate(t.defs.len());
            f
        });
        (found.collect(), complete)
    }
}

impl Search<'_> {
    /// Coefficients of an equation in its only unknown, `a·v² + b·v + c`.
    fn only(q: &Quad, values: &[Option<Fr>]) -> Option<(Option<Var>, [Fr; 3])> {
        let mut unknown = None;
        let mut sum = [Fr::ZERO, Fr::ZERO, fr(q.constant)];
        let mut meet = |v: Var| match unknown {
            None => {
                unknown = Some(v);
                true
            }
            Some(u) => u == v,
        };
        for &(c, v) in &q.lin {
            match values[v as usize] {
                Some(x) => sum[2] += fr(c) * x,
                None if meet(v) => sum[1] += fr(c),
                None => return None,
            }
        }
        for &(c, a, b) in &q.quad {
            match (values[a as usize], values[b as usize]) {
                (Some(x), Some(y)) => sum[2] += fr(c) * x * y,
                (Some(x), None) if meet(b) => sum[1] += fr(c) * x,
                (None, Some(y)) if meet(a) => sum[1] += fr(c) * y,
                (None, None) if a == b && meet(a) => sum[0] += fr(c),
                _ => return None,
            }
        }
        Some((unknown, sum))
    }

    /// Fills in what follows; `Err` where a constraint fails, else roots of a quadratic equation to choose from.
    fn propagate(&self, values: &mut [Option<Fr>]) -> Result<Option<(Var, Vec<Fr>)>, ()> {
        loop {
            let mut changed = false;
            let mut roots = None;
            for q in &self.equations {
                let Some((unknown, [a, b, c])) = Self::only(q, values) else { continue };
                let zero = |x: Fr| bool::from(x.is_zero());
                let Some(v) = unknown else {
                    if zero(c) {
                        continue;
                    }
                    return Err(());
                };
                if zero(a) && zero(b) {
                    if !zero(c) {
                        return Err(());
                    }
                } else if zero(a) {
                    values[v as usize] = Some(-c * b.invert().unwrap());
                    changed = true;
                } else {
                    let root = (b.square() - a * c * Fr::from(4)).sqrt();
                    let Some(root) = Option::<Fr>::from(root) else { return Err(()) };
                    let half = (a + a).invert().unwrap();
                    let mut both = vec![(root - b) * half, (-root - b) * half];
                    both.dedup();
                    roots = Some((v, both));
                }
            }
            for f in self.problem.functions() {
                let Some(x) = values[f.key as usize] else { continue };
                let entries = self.problem.entry(f.section, x);
                let [entry] = entries.as_slice() else { return Err(()) };
                for (v, y) in [(Some(f.value), entry[1]), (f.second, entry[2])] {
                    let Some(v) = v else { continue };
                    match values[v as usize] {
                        Some(known) if known != y => return Err(()),
                        Some(_) => {}
                        None => {
                            values[v as usize] = Some(y);
                            changed = true;
                        }
                    }
                }
            }
            for (v, section) in self.problem.ranges() {
                if let Some(x) = values[v as usize]
                    && self.problem.entry(section, x).is_empty()
                {
                    return Err(());
                }
            }
            if !changed {
                return Ok(roots);
            }
        }
    }

    /// Whether everything was looked at.
    fn go(&mut self, mut values: Vec<Option<Fr>>) -> bool {
        self.steps += 1;
        if self.steps > self.problem.patience || self.found.len() >= self.problem.most {
            return false;
        }
        let Ok(roots) = self.propagate(&mut values) else { return true };
        let Some(&any) = self.relevant.iter().find(|&&v| values[v as usize].is_none()) else {
            let outs = &self.problem.template.outs;
            let known = |f: &Vec<Fr>| {
                !outs.is_empty() && outs.iter().all(|&v| values[v as usize] == Some(f[v as usize]))
            };
            if !self.found.iter().any(known) {
                self.found.push(values.into_iter().map(|v| v.unwrap_or(Fr::ZERO)).collect());
            }
            return true;
        };
        let unknown = |v: Var| values[v as usize].is_none();
        let ranges = self.problem.ranges().filter(|&(v, _)| unknown(v));
        let keys = self.problem.functions().filter(|f| unknown(f.key)).map(|f| (f.key, f.section));
        let narrow = ranges.chain(keys).min_by_key(|&(_, s)| match s {
            Section::Dynamic { .. } => self.problem.entries.len(),
            s => self.problem.tables.rows(s),
        });
        let mut complete = true;
        let (v, mut domain) = match (roots, narrow) {
            (Some(roots), _) => roots,
            (None, Some((v, section))) => {
                let mut domain: Vec<Fr> = self.problem.domain(section).into_iter().map(|e| e[0]).collect();
                domain.dedup();
                (v, domain)
            }
            (None, None) => {
                complete = false;
                let honest = self.problem.honest.and_then(|h| h.get(any as usize)).copied();
                let near = honest.map_or(vec![], |h| vec![h, h + Fr::ONE, h - Fr::ONE]);
                (any, [near, vec![Fr::ZERO, Fr::ONE, Fr::from(7), Fr::from(977).invert().unwrap()]].concat())
            }
        };
        if let Some(x) = self.problem.honest.and_then(|h| h.get(v as usize)).copied()
            && let Some(x) = small(x)
        {
            domain.sort_by_key(|y| small(*y).map_or(i128::MAX, |y| (y - x).abs()));
        }
        for x in domain {
            let mut next = values.clone();
            next[v as usize] = Some(x);
            complete &= self.go(next);
        }
        complete
    }
}

/// The honest value of every variable.
pub(crate) fn honest(t: &Template, tables: &Tables, operands: &[i128], acc: i128) -> Option<Vec<i128>> {
    let mut values: Vec<i128> = Vec::with_capacity(t.defs.len());
    for def in &t.defs {
        let of = |v: &Var| values[*v as usize];
        let value = match def {
            Def::Wire(w) | Def::Given(w) => *operands.get(*w as usize)?,
            Def::Acc => acc,
            Def::Quad(q) => q.eval(&values)?,
            Def::Shr(x, s) => of(x) >> s,
            Def::Limb(x, shift, 0) => of(x) >> shift,
            Def::Limb(x, shift, bits) => (of(x) >> shift) & ((1 << bits) - 1),
            Def::Positive(x) => (of(x) >= 0).into(),
            Def::Relu(x) => of(x).max(0),
            Def::Table(section, x, out) => {
                let entry = tables.entry(*section, tables.position(*section, of(x))?);
                (if *out == 0 { entry.0 } else { entry.1 }).into()
            }
            Def::DivFloor(x, y) if of(y) >= 1 => of(x).div_euclid(of(y)),
            Def::DivFloor(..) => return None,
            Def::Sqrt(x) if of(x) >= 0 => super::super::num::isqrt(of(x)),
            Def::Sqrt(_) => return None,
            Def::Reads(..) => 0,
        };
        values.push(value);
    }
    Some(values)
}
