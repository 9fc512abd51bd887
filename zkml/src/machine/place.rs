//! Templates on units of a shape, and the size of the circuit that they make.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::commitment::column_capacity;
use super::layout::{BLINDED, Choice, Mono, Placed, Sized, terms};
use super::lowered::{Lowered, Operand, Ref, Src};
use super::num::hull;
use super::pack::{Code, Order, Packed, UnitShape, pack};
use super::poseidon::gadget::HashCount;
use super::table::{Section, Tables};
use super::template::{Def, Spec, Template, build};

/// Values of the instance past the layout's: what binds a proof to its statement and context.
const BINDING: usize = 1;

/// What the cost of templates on units is estimated from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Different instructions.
    pub(crate) codes: usize,
    /// Different monomials of their equations, and those of degree two.
    pub(crate) monomials: (usize, usize),
    /// The same of their ports.
    pub(crate) ports: (usize, usize),
}

/// All templates of a program on units of a shape, for a limb width: the same for any number of units.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    equal: usize,
    shape: UnitShape,
    placed: Arc<Vec<Placed>>,
    tables: Tables,
    figures: Figures,
}

/// The different specs of a program, and which one each strip has.
#[derive(Clone, Debug)]
pub(crate) struct Specs {
    pub(crate) all: Vec<Spec>,
    of: Arc<Vec<u32>>,
    /// Slots of each.
    spans: Vec<usize>,
    /// Distinct constants that cells copy, each of which takes a row of the column of constants.
    constants: usize,
}

impl Specs {
    pub(crate) fn new(l: &Lowered) -> Self {
        let mut all: Vec<Spec> = Vec::new();
        let mut index: HashMap<&Spec, u32> = HashMap::new();
        let mut of = Vec::with_capacity(l.strips.len());
        let mut spans: Vec<usize> = Vec::new();
        for strip in &l.strips {
            let at = *index.entry(&strip.spec).or_insert_with(|| {
                all.push(strip.spec.clone());
                spans.push(0);
                all.len() as u32 - 1
            });
            spans[at as usize] += strip.span as usize;
            of.push(at);
        }
        Specs { all, of: Arc::new(of), spans, constants: constants(l) }
    }
}

/// Number of distinct constants that copies may name.
fn constants(l: &Lowered) -> usize {
    // What lacks an operand, and what pads a digest, is zero.
    let mut found: HashSet<i64> = HashSet::from([0]);
    let mut last = 0;
    let mut add = |src: &Src| {
        if let Src::Const(c) = *src
            && c != last
        {
            found.insert(c);
            last = c;
        }
    };
    for operand in l.strips.iter().flat_map(|strip| &strip.operands) {
        if let Operand::Each(sources) = operand {
            sources.iter().for_each(&mut add);
        }
    }
    for r in l.scalars.iter().flat_map(|row| [row.a, row.b]).flatten() {
        if let Ref::Value(src) = r {
            add(&src);
        }
    }
    l.public.iter().for_each(&mut add);
    l.hashes.iter().flat_map(|h| &h.segments).for_each(|(_, s)| s.iter().for_each(&mut add));
    l.committed.iter().for_each(|c| c.sources.iter().for_each(&mut add));
    found.len()
}

fn figures(placed: &[Placed]) -> Figures {
    let codes: HashSet<&Code> = placed.iter().flat_map(|p| &p.packed.codes).collect();
    let (mut equations, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for code in &codes {
        for (i, eq) in code.eqs.iter().enumerate() {
            equations.extend(terms(eq).into_iter().map(|(m, _)| (i, m)));
        }
        ports.extend(code.port.iter().flat_map(terms).map(|(m, _)| m));
    }
    let quadratic = |m: &Mono| matches!(m, Mono::Quad(..));
    Figures {
        codes: codes.len(),
        monomials: (equations.len(), equations.iter().filter(|(_, m)| quadratic(m)).count()),
        ports: (ports.len(), ports.iter().filter(|m| quadratic(m)).count()),
    }
}

/// Builds and packs all templates; `None` where one does not fit on units of this shape.
pub(crate) fn place(l: &Lowered, specs: &[Spec], limb: u32, ranges: u16, plain: u16) -> Option<Templates> {
    let mut tables = Tables::new(Arc::clone(&l.functions));
    for spec in specs {
        build(spec, limb, 64, &mut tables);
    }
    (0..l.dynamics).for_each(|id| tables.need(Section::Dynamic { id }));
    (0..l.row_tables.len() as u32).for_each(|id| tables.need(Section::Folded { id }));
    if tables.has_dynamic() && plain == 0 {
        return None;
    }
    let shape = UnitShape { function: tables.has_output(), second: tables.has_second(), ranges, plain };
    let built: Vec<Template> =
        specs.iter().map(|spec| build(spec, limb, shape.cells().into(), &mut tables)).collect();
    let mut best: Option<((usize, usize), Vec<Placed>)> = None;
    for order in Order::ALL {
        let packed: Option<Vec<Packed>> = built.iter().map(|t| pack(t, shape, order)).collect();
        let Some(packed) = packed else { continue };
        let placed: Vec<Placed> = built
            .iter()
            .zip(packed)
            .map(|(template, packed)| Placed { template: template.clone(), packed })
            .collect();
        let key = (placed.iter().map(|p| p.packed.codes.len()).sum(), copied(&placed));
        if best.as_ref().is_none_or(|(least, _)| key < *least) {
            best = Some((key, placed));
        }
    }
    let ((_, equal), placed) = best?;
    Some(Templates { equal, shape, figures: figures(&placed), placed: Arc::new(placed), tables })
}

/// Number of positions that copies touch: operands, outputs, and what continues on another unit.
fn copied(placed: &[Placed]) -> usize {
    let mut equal = BTreeSet::new();
    for Placed { template, packed } in placed {
        for (unit, places) in packed.places.iter().enumerate() {
            for place in places {
                let home = packed.homes[place.var as usize] == Some((unit as u16, place.position));
                let wire = matches!(template.defs[place.var as usize], Def::Wire(_));
                if wire || !home || template.outs.contains(&place.var) {
                    equal.insert(place.position);
                    equal.extend(packed.homes[place.var as usize].map(|h| h.1).filter(|_| !wire && !home));
                }
            }
        }
    }
    equal.len()
}

/// Sizes a candidate, at the least k that fits (never below `choice.k`); `None` where none does.
pub(crate) fn size(
    l: &Lowered,
    specs: &Specs,
    t: &Templates,
    mut choice: Choice,
    max_k: u32,
) -> Option<Sized> {
    let mut tables = t.tables.clone();
    let mut store_section = None;
    let mut store_limbs = 1;
    if l.bulks.is_empty() {
        choice.store = 0;
    } else if !l.store_fixed {
        let (signed, bits) = hull(l.store_bounds.0.into(), l.store_bounds.1.into());
        store_limbs = bits.div_ceil(choice.store_limb);
        if l.store_told && store_limbs > 1 {
            return None;
        }
        let low = Section::Range { signed: false, bits: choice.store_limb };
        let top = if store_limbs == 1 { bits } else { choice.store_limb };
        let top = Section::Range { signed, bits: top };
        tables.need(top);
        if store_limbs > 1 {
            tables.need(low);
        }
        store_section = Some((low, top));
        if !choice.store.is_multiple_of(store_limbs) {
            return None;
        }
    }
    let placed = || t.placed.iter().zip(&specs.spans);
    let unit_rows = placed().map(|(p, span)| span / l.units as usize * p.packed.codes.len()).sum();
    let cells = placed().map(|(p, span)| span * p.packed.places.iter().map(Vec::len).sum::<usize>()).sum();
    let per_row = (choice.store / store_limbs).max(1) as usize;
    let bulk_rows = l.totals.bulk_rows(per_row) + l.totals.junk;
    let table_entries: usize = tables.sections().map(|s| tables.rows(s)).sum();
    let instance = l.public.len() + l.hashes.len() + BINDING;
    let needed = 1 + usize::max(unit_rows, bulk_rows).max(l.scalars.len()).max(instance);
    let needed = needed.max(1 + specs.constants);
    let mut k = choice.k.max(4);
    while (1usize << k) < needed + BLINDED {
        k += 1;
    }
    let count = HashCount::new(&l.hashes);
    let hash = loop {
        let space = l.committed.is_empty() || column_capacity(k) >= 1 << (k - 1);
        match count.fit((1usize << k) - BLINDED - 1) {
            _ if k > max_k => return None,
            Some(size) if space => break size,
            _ => k += 1,
        }
    };
    choice.k = k;
    let per_set = (1usize << k) - BLINDED - 1;
    let (table_sets, table_columns) = tables.columns(per_set);
    Some(Sized {
        choice,
        equal: t.equal,
        shape: t.shape,
        placed: Arc::clone(&t.placed),
        spec_of: Arc::clone(&specs.of),
        tables: Arc::new(tables),
        store_section,
        store_limbs,
        figures: t.figures,
        cells,
        unit_rows,
        bulk_rows,
        table_entries,
        table_sets,
        table_columns,
        hash,
    })
}
