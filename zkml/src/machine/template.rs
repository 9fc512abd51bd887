//! Element templates: what one element of an operation looks like in cells.
//!
//! A template is a list of *variables* (some are copies of cells elsewhere, the others are computed), of quadratic *equations* that must be
//! zero, of *range* and *function* lookups, and at most one *port*: an expression whose value over the elements of a strip is folded by
//! a random-evaluation sweep instead of being an equation. It knows nothing of columns; [`super::pack`] places it on work units.
//!
//! Integers that are wider than the table are limbs: the low ones unsigned of `limb` bits, the top one signed when the value can be
//! negative. A top limb may admit more than the tensor's bounds: the circuit proves exact integer semantics, for which every range only has
//! to be far smaller than the field. Remainders are exact: `r` in `[0, 2^s)` is checked with a table of just that size.

use super::num::{hull, isqrt};
use super::table::{Section, Tables};

/// A variable of a template.
pub(crate) type Var = u16;

/// A quadratic expression over variables (or, after packing, over positions of a unit).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Quad {
    pub(crate) lin: Vec<(i128, Var)>,
    pub(crate) quad: Vec<(i128, Var, Var)>,
    pub(crate) constant: i128,
}

impl Quad {
    pub(crate) fn var(v: Var) -> Self {
        Quad { lin: vec![(1, v)], ..Quad::default() }
    }

    pub(crate) fn constant(c: i128) -> Self {
        Quad { constant: c, ..Quad::default() }
    }

    pub(crate) fn add(mut self, factor: i128, v: Var) -> Self {
        self.lin.push((factor, v));
        self
    }

    pub(crate) fn mul(mut self, factor: i128, a: Var, b: Var) -> Self {
        self.quad.push((factor, a, b));
        self
    }

    pub(crate) fn offset(mut self, c: i128) -> Self {
        self.constant += c;
        self
    }

    /// `self + factor · other`.
    pub(crate) fn plus(mut self, factor: i128, other: &Quad) -> Self {
        self.lin.extend(other.lin.iter().map(|&(c, v)| (c * factor, v)));
        self.quad.extend(other.quad.iter().map(|&(c, a, b)| (c * factor, a, b)));
        self.constant += other.constant * factor;
        self
    }

    /// `factor · v · self`, for a linear `self` without constant.
    pub(crate) fn times(&self, factor: i128, v: Var) -> Self {
        let mut out =
            Quad { quad: self.lin.iter().map(|&(c, w)| (c * factor, v, w)).collect(), ..Quad::default() };
        if self.constant != 0 {
            out.lin.push((self.constant * factor, v));
        }
        out
    }

    pub(crate) fn vars(&self) -> Vec<Var> {
        let mut vars: Vec<Var> = Vec::new();
        let all = self.lin.iter().map(|&(_, v)| v).chain(self.quad.iter().flat_map(|&(_, a, b)| [a, b]));
        for v in all {
            if !vars.contains(&v) {
                vars.push(v);
            }
        }
        vars
    }

    /// Value under an assignment; `None` where 128 bits do not hold it.
    pub(crate) fn eval(&self, values: &[i128]) -> Option<i128> {
        let mut sum = self.constant;
        for &(c, v) in &self.lin {
            sum = sum.checked_add(c.checked_mul(values[v as usize])?)?;
        }
        for &(c, a, b) in &self.quad {
            sum = sum.checked_add(c.checked_mul(values[a as usize].checked_mul(values[b as usize])?)?)?;
        }
        Some(sum)
    }
}

/// How a variable gets its value.
#[derive(Clone, Debug)]
pub(crate) enum Def {
    /// A copy of the element's operand of this number.
    Wire(u16),
    /// The value of the element's operand of this number, which has its home here.
    Given(u16),
    /// The sum of the swept terms, known to the witness generator; never a cell.
    Acc,
    /// An expression.
    Quad(Quad),
    /// ⌊x / 2^s⌋.
    Shr(Var, u32),
    /// Bits `shift … shift + bits` of x; `bits = 0` means all that are left.
    Limb(Var, u32, u32),
    /// 1 where x ≥ 0.
    Positive(Var),
    /// max(x, 0).
    Relu(Var),
    /// An output of a function table.
    Table(Section, Var, u8),
    /// ⌊a / b⌋.
    DivFloor(Var, Var),
    /// ⌊√x⌋.
    Sqrt(Var),
    /// How often dynamic table `id` is read at this key.
    Reads(u32, Var),
}

/// A function lookup: `(key, value, second)` is an entry of the section.
#[derive(Clone, Debug)]
pub(crate) struct FnUse {
    pub(crate) section: Section,
    pub(crate) key: Var,
    pub(crate) value: Var,
    pub(crate) second: Option<Var>,
    /// The entry is *provided* this many times instead of used.
    pub(crate) count: Option<Var>,
}

/// One element in cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    pub(crate) defs: Vec<Def>,
    pub(crate) eqs: Vec<Quad>,
    pub(crate) ranges: Vec<(Var, Section)>,
    pub(crate) fns: Vec<FnUse>,
    pub(crate) port: Option<Quad>,
    /// Variables that are elements of the operation's outputs.
    pub(crate) outs: Vec<Var>,
    /// Number of operands.
    pub(crate) wires: u16,
}

/// `constant + Σ scale·w`: an operand that is a sum of cells and has none of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Affine {
    pub(crate) scales: Vec<i64>,
    pub(crate) constant: i64,
}

impl Affine {
    /// A cell.
    pub(crate) fn cell() -> Self {
        Affine { scales: vec![1], constant: 0 }
    }
}

/// What an element computes; a template for each limb width follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spec {
    /// A value given by the prover, within a hull of limbs, or within the least hull of `[lo, hi]`.
    Import { lo: i64, hi: i64, exact: bool },
    /// A value from elsewhere, within the least hull of `[lo, hi]`.
    Bound { lo: i64, hi: i64 },
    /// A copy.
    Copy,
    /// `⌊(acc + constant + Σ scale·w + Σ product·w·w' + half) / 2^shift⌋`, then ReLU.
    Linear {
        swept: bool,
        scales: Vec<i64>,
        products: Vec<i64>,
        constant: i64,
        shift: u32,
        pre_lo: i64,
        pre_hi: i64,
        relu: bool,
    },
    /// A table.
    Lookup { x: Affine, table: u32 },
    /// Piecewise linear.
    Interpolate { x: Affine, table: u32, step: u32, guard: u32, lo: i64, hi: i64 },
    /// 1 where x ≥ 0.
    Step { x: Affine, lo: i64, hi: i64 },
    /// ⌊num / den⌋.
    Div { q_lo: i64, q_hi: i64, den_hi: i64 },
    /// ⌊√x⌋.
    Sqrt { hi: i64 },
    /// One step of a running maximum, m and x to max(m, x); with `index`, also of its index.
    Max { spread: i64, index: bool, last: bool },
    /// `w = ±x·2^bits + i`, greater than the one before.
    Sorted { bits: u32, descending: bool, lo: i64, hi: i64 },
    /// A value given by the prover: an element of a row that is looked up whole.
    Gathered,
    /// Entry `(row·width + column, value)` of a dynamic table.
    Provide { dynamic: u32 },
    /// `value` with `(index·width + column, value)` in a dynamic table.
    Read { dynamic: u32, width: i64 },
}

struct Builder<'a> {
    t: Template,
    limb: u32,
    tables: &'a mut Tables,
}

impl Builder<'_> {
    fn def(&mut self, def: Def) -> Var {
        self.t.defs.push(def);
        (self.t.defs.len() - 1) as Var
    }

    fn wire(&mut self) -> Var {
        let index = self.t.wires;
        self.t.wires += 1;
        self.def(Def::Wire(index))
    }

    fn given(&mut self) -> Var {
        let index = self.t.wires;
        self.t.wires += 1;
        self.def(Def::Given(index))
    }

    fn quad(&mut self, q: Quad) -> Var {
        self.def(Def::Quad(q))
    }

    /// The expression of an operand, and a variable with its value, which is a cell only where the operand is one.
    fn affine(&mut self, x: &Affine) -> (Quad, Var) {
        let sum = x.scales.iter().fold(Quad::constant(x.constant.into()), |sum, &c| {
            let w = self.wire();
            sum.add(c.into(), w)
        });
        match (sum.lin.as_slice(), sum.constant) {
            (&[(1, w)], 0) => (sum, w),
            _ => {
                let v = self.quad(sum.clone());
                (sum, v)
            }
        }
    }

    /// A cell with the value of an operand.
    fn cell(&mut self, x: &Affine) -> Var {
        let (sum, v) = self.affine(x);
        if sum != Quad::var(v) {
            self.zero(sum.add(-1, v));
        }
        v
    }

    fn zero(&mut self, q: Quad) {
        self.t.eqs.push(q);
    }

    fn range(&mut self, v: Var, signed: bool, bits: u32) {
        let section = Section::Range { signed, bits };
        self.tables.need(section);
        self.t.ranges.push((v, section));
    }

    fn function(&mut self, section: Section, key: Var, value: Var, second: Option<Var>) {
        self.tables.need(section);
        self.t.fns.push(FnUse { section, key, value, second, count: None });
    }

    /// Limbs of a value that is exactly `bits` wide and not negative.
    fn exact(&mut self, x: Var, bits: u32) -> Quad {
        let mut sum = Quad::default();
        let mut at = 0;
        while at < bits {
            let width = self.limb.min(bits - at);
            let v = self.def(Def::Limb(x, at, if at + width == bits { 0 } else { width }));
            self.range(v, false, width);
            sum = sum.add(1 << at, v);
            at += width;
        }
        sum
    }

    /// Limbs of a value within `[lo, hi]`, with the top limb separate.
    fn split(&mut self, x: Var, lo: i128, hi: i128) -> (Quad, Var, bool) {
        let (signed, bits) = hull(lo, hi);
        let count = bits.div_ceil(self.limb);
        let mut sum = Quad::default();
        for i in 0..count - 1 {
            let v = self.def(Def::Limb(x, i * self.limb, self.limb));
            self.range(v, false, self.limb);
            sum = sum.add(1 << (i * self.limb), v);
        }
        let top = self.def(Def::Limb(x, (count - 1) * self.limb, 0));
        (sum.add(1 << ((count - 1) * self.limb), top), top, signed)
    }

    /// Limbs of a value within a hull of `[lo, hi]`.
    fn ranged(&mut self, x: Var, lo: i128, hi: i128) -> Quad {
        let (sum, top, signed) = self.split(x, lo, hi);
        self.range(top, signed, self.limb);
        sum
    }

    /// Limbs of a value within the least hull of `[lo, hi]`.
    fn hull(&mut self, x: Var, lo: i128, hi: i128) -> Quad {
        let (sum, top, signed) = self.split(x, lo, hi);
        let bits = hull(lo, hi).1;
        self.range(top, signed, bits - (bits.div_ceil(self.limb) - 1) * self.limb);
        sum
    }

    /// The same with the sign bit `1 where x ≥ 0`.
    fn signed(&mut self, x: Var, lo: i128, hi: i128) -> (Quad, Var) {
        let (sum, top, _) = self.split(x, lo.min(-1), hi);
        let bit = self.def(Def::Positive(x));
        self.function(Section::Sign { bits: self.limb }, top, bit, None);
        (sum, bit)
    }

    /// Partial sums, so that no equation touches more than `room` operands.
    fn fold(&mut self, mut q: Quad, room: usize) -> Quad {
        while q.vars().len() > room {
            let mut part = Quad::constant(q.constant);
            q.constant = 0;
            while part.vars().len() + 2 < room.max(4) {
                match (q.quad.pop(), q.lin.len()) {
                    (Some((c, a, b)), _) => part = part.mul(c, a, b),
                    (None, 0) => break,
                    (None, _) => {
                        let (c, v) = q.lin.remove(0);
                        part = part.add(c, v);
                    }
                }
            }
            let t = self.quad(part.clone());
            self.zero(part.add(-1, t));
            q = q.add(1, t);
        }
        q
    }

    fn out(&mut self, v: Var) {
        self.t.outs.push(v);
    }
}

/// Whether a single limb holds `[lo, hi]`.
fn single(lo: i128, hi: i128, limb: u32) -> bool {
    hull(lo, hi).1 <= limb
}

/// The template of a spec for a limb width, on units of `room` cells.
pub(crate) fn build(spec: &Spec, limb: u32, room: usize, tables: &mut Tables) -> Template {
    let mut b = Builder { t: Template::default(), limb, tables };
    match *spec {
        Spec::Import { lo, hi, exact } => {
            let x = b.given();
            import(&mut b, x, lo.into(), hi.into(), exact);
            b.out(x);
        }
        Spec::Bound { lo, hi } => {
            let x = b.wire();
            import(&mut b, x, lo.into(), hi.into(), true);
        }
        Spec::Copy => {
            let x = b.wire();
            b.out(x);
        }
        Spec::Linear { swept, ref scales, ref products, constant, shift, pre_lo, pre_hi, relu } => {
            let mut sum = Quad::constant(constant.into());
            for &c in scales {
                let w = b.wire();
                sum = sum.add(c.into(), w);
            }
            for &c in products {
                let (l, r) = (b.wire(), b.wire());
                sum = sum.mul(c.into(), l, r);
            }
            linear(&mut b, swept, sum, shift, pre_lo.into(), pre_hi.into(), relu, room);
        }
        Spec::Lookup { ref x, table } => {
            let x = b.cell(x);
            let section = Section::Function { table };
            let y = b.def(Def::Table(section, x, 0));
            b.function(section, x, y, None);
            b.out(y);
        }
        Spec::Interpolate { ref x, table, step, guard, lo, hi } => {
            let (sum, x) = b.affine(x);
            let key = b.def(Def::Shr(x, step));
            let section = Section::Function { table };
            let value = b.def(Def::Table(section, key, 0));
            let slope = b.def(Def::Table(section, key, 1));
            b.function(section, key, value, Some(slope));
            let rem = b.quad(Quad::var(x).add(-(1 << step), key));
            let rem_limbs = b.exact(rem, step);
            b.zero(rem_limbs.clone().add(1 << step, key).plus(-1, &sum));
            let blend = Quad::default().add(1 << step, value).plus(1, &rem_limbs.times(1, slope));
            linear(&mut b, false, blend, step + guard, lo.into(), hi.into(), false, room);
        }
        Spec::Step { ref x, lo, hi } => {
            if single(lo.min(-1).into(), hi.into(), limb) {
                let x = b.cell(x);
                let y = b.def(Def::Positive(x));
                b.function(Section::Sign { bits: limb }, x, y, None);
                b.out(y);
            } else {
                let (sum, x) = b.affine(x);
                let (limbs, bit) = b.signed(x, lo.into(), hi.into());
                b.zero(limbs.plus(-1, &sum));
                b.out(bit);
            }
        }
        Spec::Div { q_lo, q_hi, den_hi } => {
            let (num, den) = (b.wire(), b.wire());
            let q = b.def(Def::DivFloor(num, den));
            let limbs = b.ranged(q, q_lo.into(), q_hi.into());
            let rem = b.quad(Quad::var(num).mul(-1, q, den));
            let rem_limbs = b.ranged(rem, 0, i128::from(den_hi) - 1);
            let gap = b.quad(Quad::var(den).add(-1, rem).offset(-1));
            let gap_limbs = b.ranged(gap, 0, i128::from(den_hi) - 1);
            b.zero(limbs.add(-1, q));
            b.zero(rem_limbs.add(-1, rem));
            b.zero(Quad::var(num).mul(-1, q, den).add(-1, rem));
            b.zero(gap_limbs.add(1, rem).add(-1, den).offset(1));
            b.out(q);
        }
        Spec::Sqrt { hi } => {
            let x = b.wire();
            let y = b.def(Def::Sqrt(x));
            let top = isqrt(hi.into());
            let limbs = b.ranged(y, 0, top);
            let rem = b.quad(Quad::var(x).mul(-1, y, y));
            let rem_limbs = b.ranged(rem, 0, 2 * top);
            let gap = b.quad(Quad::default().add(2, y).add(-1, rem));
            let gap_limbs = b.ranged(gap, 0, 2 * top);
            b.zero(limbs.add(-1, y));
            b.zero(rem_limbs.add(-1, rem));
            b.zero(Quad::default().mul(1, y, y).add(1, rem).add(-1, x));
            b.zero(gap_limbs.add(1, rem).add(-2, y));
            b.out(y);
        }
        Spec::Max { spread, index, last } => {
            let (m, x) = (b.wire(), b.wire());
            let strict = i128::from(index && !last);
            let gap = b.quad(Quad::var(x).add(-1, m).offset(-strict));
            let spread = i128::from(spread);
            if !index && single(-spread, spread, limb) {
                let gain = b.def(Def::Relu(gap));
                b.function(Section::Relu { bits: limb }, gap, gain, None);
                b.zero(Quad::var(x).add(-1, m).add(-1, gap));
                let best = b.quad(Quad::var(m).add(1, gain));
                b.zero(Quad::var(m).add(1, gain).add(-1, best));
                b.out(best);
                return b.t;
            }
            let (limbs, bit) = b.signed(gap, -spread - 1, spread);
            b.zero(limbs.plus(-1, &Quad::var(x).add(-1, m).offset(-strict)));
            let best = b.quad(Quad::var(m).mul(1, bit, x).mul(-1, bit, m));
            b.zero(Quad::var(m).mul(1, bit, x).mul(-1, bit, m).add(-1, best));
            b.out(best);
            if index {
                let (i, j) = (b.wire(), b.wire());
                let at = b.quad(Quad::var(i).mul(1, bit, j).mul(-1, bit, i));
                b.zero(Quad::var(i).mul(1, bit, j).mul(-1, bit, i).add(-1, at));
                b.out(at);
            }
        }
        Spec::Sorted { bits, descending, lo, hi } => {
            let (x, i) = (b.given(), b.given());
            sorted(&mut b, x, i, bits, descending, (lo.into(), hi.into()));
        }
        Spec::Gathered => {
            let x = b.given();
            b.out(x);
        }
        Spec::Provide { dynamic } => {
            let (key, value) = (b.wire(), b.wire());
            let count = b.def(Def::Reads(dynamic, key));
            b.t.fns.push(FnUse {
                section: Section::Dynamic { id: dynamic },
                key,
                value,
                second: None,
                count: Some(count),
            });
        }
        Spec::Read { dynamic, width } => {
            let (index, column, value) = (b.wire(), b.wire(), b.given());
            let key = b.quad(Quad::default().add(width.into(), index).add(1, column));
            b.zero(Quad::default().add(width.into(), index).add(1, column).add(-1, key));
            b.t.fns.push(FnUse {
                section: Section::Dynamic { id: dynamic },
                key,
                value,
                second: None,
                count: None,
            });
            b.out(value);
        }
    }
    b.t
}

/// A value that is checked here: its own limbs, or itself where one limb holds it.
fn import(b: &mut Builder<'_>, x: Var, lo: i128, hi: i128, exact: bool) {
    let (signed, bits) = hull(lo, hi);
    if bits <= b.limb {
        b.range(x, signed, if exact { bits } else { b.limb });
    } else {
        let limbs = if exact { b.hull(x, lo, hi) } else { b.ranged(x, lo, hi) };
        b.zero(limbs.add(-1, x));
    }
}

#[expect(clippy::too_many_arguments, reason = "the parameters of one operation")]
fn linear(
    b: &mut Builder<'_>,
    swept: bool,
    sum: Quad,
    shift: u32,
    lo: i128,
    hi: i128,
    relu: bool,
    room: usize,
) {
    let limbs =
        if shift == 0 && !relu { 1 } else { hull(lo, hi).1.div_ceil(b.limb) + shift.div_ceil(b.limb) };
    let constant = sum.constant;
    let sum = b.fold(sum, room.saturating_sub(limbs as usize).max(1));
    let acc = if swept { Some(b.def(Def::Acc)) } else { None };
    let total = match acc {
        Some(acc) => sum.clone().add(1, acc),
        None => sum.clone(),
    };
    if shift == 0 && !relu {
        let y = b.quad(total);
        let rest = Quad::var(y).plus(-1, &sum);
        if swept {
            b.t.port = Some(rest)
        } else {
            b.zero(rest)
        }
        b.out(y);
        return;
    }
    let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
    let total = total.offset(half);
    let before = b.quad(total);
    let v = b.def(Def::Shr(before, shift));
    // A dummy element has an accumulator of zero and must fit.
    let idle = (if swept { constant } else { sum.constant } + half) >> shift;
    let (lo, hi) = (lo.min(idle), hi.max(idle));
    let one_limb = single(lo, hi, b.limb);
    let (limbs, y) = match (relu, one_limb) {
        (false, true) => {
            b.range(v, hull(lo, hi).0, b.limb);
            (Quad::var(v), v)
        }
        (false, false) => {
            let limbs = b.ranged(v, lo, hi);
            b.zero(limbs.clone().add(-1, v));
            (limbs, v)
        }
        (true, true) if single(lo.min(-1), hi, b.limb) => {
            let y = b.def(Def::Relu(v));
            b.function(Section::Relu { bits: b.limb }, v, y, None);
            (Quad::var(v), y)
        }
        (true, _) => {
            let (limbs, bit) = b.signed(v, lo, hi);
            let y = b.def(Def::Relu(v));
            b.zero(limbs.times(1, bit).add(-1, y));
            (limbs, y)
        }
    };
    let mut rest = Quad::default().plus(1 << shift, &limbs);
    if shift > 0 {
        let rem = b.quad(Quad::var(before).add(-(1 << shift), v));
        let rem_limbs = b.exact(rem, shift);
        rest = rest.plus(1, &rem_limbs);
    }
    let rest = rest.plus(-1, &sum).offset(-half);
    if swept {
        b.t.port = Some(rest)
    } else {
        b.zero(rest)
    }
    b.out(y);
}

/// An element of a sorted row: `w = ±x·2^bits + i` is greater than the element before it. With x and i in their ranges, w determines both.
fn sorted(b: &mut Builder<'_>, x: Var, i: Var, bits: u32, descending: bool, (lo, hi): (i128, i128)) {
    let sign = if descending { -1 } else { 1 };
    let key = Quad::default().add(sign << bits, x).add(1, i);
    let w = b.quad(key.clone());
    b.zero(key.add(-1, w));
    let value_limbs = b.ranged(x, lo, hi);
    b.zero(value_limbs.add(-1, x));
    let index_limbs = b.exact(i, bits);
    b.zero(index_limbs.add(-1, i));
    let before = b.wire();
    let gap = b.quad(Quad::var(w).add(-1, before).offset(-1));
    let limbs = b.ranged(gap, 0, (hi - lo + 1) << bits);
    b.zero(limbs.plus(-1, &Quad::var(w).add(-1, before).offset(-1)));
    b.out(x);
    b.out(i);
    b.out(w);
}
