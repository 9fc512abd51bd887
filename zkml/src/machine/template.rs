//! Element templates: what one element of an operation looks like in cells.
//!
//! A template is a list of *variables* (some are copies of cells elsewhere, the others are computed), of quadratic *equations* that must be
//! zero, of *range* and *function* lookups, and at most one *port*: an expression whose value over the elements of a strip is folded by
//! a random-evaluation sweep instead of being an equation. It knows nothing of columns; [`super::pack`] places it on work units.
//!
//! Integers that are wider than the table are limbs: the low ones unsigned of `limb` bits, the top one signed when the value can be
//! negative. A top limb may admit more than the tensor's bounds: the circuit proves exact integer semantics, for which every range only has
//! to be far smaller than the field. Remainders are exact: `r` in `[0, 2^s)` is checked with a table of just that size. So are the model's
//! inputs, which no equation holds to their type.

use super::num::{hull, isqrt};
use super::sites::{Site, on};
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

/// What a range check of `[lo, hi]` lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Admitted {
    /// A whole number of limbs.
    Limbs,
    /// The least power of two, signed where `lo < 0`.
    Hull,
    /// Nothing else, whatever the limb; with tables of so many bits at most for the purpose.
    Bounds { table: u32 },
}

/// What an element computes; a template for each limb width follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Spec {
    /// A value given by the prover, within what `admitted` says of `[lo, hi]`.
    Import { lo: i64, hi: i64, admitted: Admitted },
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
    /// A value given by the prover: an element of a row that is looked up whole, or of an output that nothing else reads.
    Gathered,
    /// Entry `(row·width + column, value)` of a dynamic table.
    Provide { dynamic: u32 },
    /// `value` with `(index·width + column, value)` in a dynamic table.
    Read { dynamic: u32, width: i64 },
}

/// Sites of the limbs of a value.
#[derive(Clone, Copy)]
struct Limbs {
    low: Site,
    top: Site,
}

/// Sites of a value that is checked where it stands.
#[derive(Clone, Copy)]
struct Checked {
    whole: Site,
    limbs: Limbs,
    sum: Site,
}

const INPUT: Checked = Checked {
    whole: Site::InputWhole,
    limbs: Limbs { low: Site::InputLow, top: Site::InputTop },
    sum: Site::InputSum,
};

const BOUND: Checked = Checked {
    whole: Site::BoundWhole,
    limbs: Limbs { low: Site::BoundLow, top: Site::BoundTop },
    sum: Site::BoundSum,
};

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
            self.zero(Site::OperandSum, sum.add(-1, v));
        }
        v
    }

    fn zero(&mut self, at: Site, q: Quad) {
        if on(at) {
            self.t.eqs.push(q);
        }
    }

    fn range(&mut self, at: Site, v: Var, signed: bool, bits: u32) {
        let section = Section::Range { signed, bits };
        self.tables.need(section);
        if on(at) {
            self.t.ranges.push((v, section));
        }
    }

    fn function(&mut self, at: Site, section: Section, key: Var, value: Var, second: Option<Var>) {
        self.tables.need(section);
        if on(at) {
            self.t.fns.push(FnUse { section, key, value, second, count: None });
        }
    }

    /// Limbs of a value that is exactly `bits` wide and not negative.
    fn exact(&mut self, site: Site, x: Var, bits: u32) -> Quad {
        let mut sum = Quad::default();
        let mut at = 0;
        while at < bits {
            let width = self.limb.min(bits - at);
            let v = self.def(Def::Limb(x, at, if at + width == bits { 0 } else { width }));
            self.range(site, v, false, width);
            sum = sum.add(1 << at, v);
            at += width;
        }
        sum
    }

    /// Limbs of a value within `[lo, hi]`, with the top limb separate.
    fn split(&mut self, low: Site, x: Var, lo: i128, hi: i128) -> (Quad, Var, bool) {
        let (signed, bits) = hull(lo, hi);
        let count = bits.div_ceil(self.limb);
        let mut sum = Quad::default();
        for i in 0..count - 1 {
            let v = self.def(Def::Limb(x, i * self.limb, self.limb));
            self.range(low, v, false, self.limb);
            sum = sum.add(1 << (i * self.limb), v);
        }
        let top = self.def(Def::Limb(x, (count - 1) * self.limb, 0));
        (sum.add(1 << ((count - 1) * self.limb), top), top, signed)
    }

    /// Limbs of a value within a hull of `[lo, hi]`.
    fn ranged(&mut self, at: Limbs, x: Var, lo: i128, hi: i128) -> Quad {
        let (sum, top, signed) = self.split(at.low, x, lo, hi);
        self.range(at.top, top, signed, self.limb);
        sum
    }

    /// The same with the sign bit `1 where x ≥ 0`.
    fn signed(&mut self, at: Limbs, x: Var, lo: i128, hi: i128) -> (Quad, Var) {
        let (sum, top, _) = self.split(at.low, x, lo.min(-1), hi);
        let bit = self.def(Def::Positive(x));
        self.function(at.top, Section::Sign { bits: self.limb }, top, bit, None);
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
            self.zero(Site::PartialSum, part.add(-1, t));
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
        Spec::Import { lo, hi, admitted } => {
            let x = b.given();
            match admitted {
                Admitted::Limbs => import(&mut b, INPUT, x, lo.into(), hi.into(), None),
                Admitted::Hull => import(&mut b, INPUT, x, lo.into(), hi.into(), Some(limb)),
                Admitted::Bounds { table } => within(&mut b, x, lo.into(), hi.into(), table),
            }
            b.out(x);
        }
        Spec::Bound { lo, hi } => {
            let x = b.wire();
            import(&mut b, BOUND, x, lo.into(), hi.into(), Some(limb));
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
            b.function(Site::TableUse, section, x, y, None);
            b.out(y);
        }
        Spec::Interpolate { ref x, table, step, guard, lo, hi } => {
            let (sum, x) = b.affine(x);
            let key = b.def(Def::Shr(x, step));
            let section = Section::Function { table };
            let value = b.def(Def::Table(section, key, 0));
            let slope = b.def(Def::Table(section, key, 1));
            b.function(Site::PieceUse, section, key, value, Some(slope));
            let rem = b.quad(Quad::var(x).add(-(1 << step), key));
            let rem_limbs = b.exact(Site::PieceRemainder, rem, step);
            b.zero(Site::PieceSplit, rem_limbs.clone().add(1 << step, key).plus(-1, &sum));
            let blend = Quad::default().add(1 << step, value).plus(1, &rem_limbs.times(1, slope));
            linear(&mut b, false, blend, step + guard, lo.into(), hi.into(), false, room);
        }
        Spec::Step { ref x, lo, hi } => {
            if single(lo.min(-1).into(), hi.into(), limb) {
                let x = b.cell(x);
                let y = b.def(Def::Positive(x));
                b.function(Site::StepWhole, Section::Sign { bits: limb }, x, y, None);
                b.out(y);
            } else {
                let (sum, x) = b.affine(x);
                let at = Limbs { low: Site::StepLow, top: Site::StepSign };
                let (limbs, bit) = b.signed(at, x, lo.into(), hi.into());
                b.zero(Site::StepSum, limbs.plus(-1, &sum));
                b.out(bit);
            }
        }
        Spec::Div { q_lo, q_hi, den_hi } => {
            let (num, den) = (b.wire(), b.wire());
            let q = b.def(Def::DivFloor(num, den));
            let at = Limbs { low: Site::DivQuotientLow, top: Site::DivQuotientTop };
            let limbs = b.ranged(at, q, q_lo.into(), q_hi.into());
            let rem = b.quad(Quad::var(num).mul(-1, q, den));
            let at = Limbs { low: Site::DivRemainderLow, top: Site::DivRemainderTop };
            let rem_limbs = b.ranged(at, rem, 0, i128::from(den_hi) - 1);
            let gap = b.quad(Quad::var(den).add(-1, rem).offset(-1));
            let at = Limbs { low: Site::DivGapLow, top: Site::DivGapTop };
            let gap_limbs = b.ranged(at, gap, 0, i128::from(den_hi) - 1);
            b.zero(Site::DivQuotientSum, limbs.add(-1, q));
            b.zero(Site::DivRemainderSum, rem_limbs.add(-1, rem));
            b.zero(Site::DivEquation, Quad::var(num).mul(-1, q, den).add(-1, rem));
            b.zero(Site::DivStrict, gap_limbs.add(1, rem).add(-1, den).offset(1));
            b.out(q);
        }
        Spec::Sqrt { hi } => {
            let x = b.wire();
            let y = b.def(Def::Sqrt(x));
            let top = isqrt(hi.into());
            let at = Limbs { low: Site::RootLow, top: Site::RootTop };
            let limbs = b.ranged(at, y, 0, top);
            let rem = b.quad(Quad::var(x).mul(-1, y, y));
            let at = Limbs { low: Site::RootRemainderLow, top: Site::RootRemainderTop };
            let rem_limbs = b.ranged(at, rem, 0, 2 * top);
            let gap = b.quad(Quad::default().add(2, y).add(-1, rem));
            let at = Limbs { low: Site::RootGapLow, top: Site::RootGapTop };
            let gap_limbs = b.ranged(at, gap, 0, 2 * top);
            b.zero(Site::RootSum, limbs.add(-1, y));
            b.zero(Site::RootRemainderSum, rem_limbs.add(-1, rem));
            b.zero(Site::RootEquation, Quad::default().mul(1, y, y).add(1, rem).add(-1, x));
            b.zero(Site::RootGap, gap_limbs.add(1, rem).add(-2, y));
            b.out(y);
        }
        Spec::Max { spread, index, last } => {
            let (m, x) = (b.wire(), b.wire());
            let strict = i128::from(index && !last);
            let gap = b.quad(Quad::var(x).add(-1, m).offset(-strict));
            let spread = i128::from(spread);
            if !index && single(-spread, spread, limb) {
                let gain = b.def(Def::Relu(gap));
                b.function(Site::MaxGain, Section::Relu { bits: limb }, gap, gain, None);
                b.zero(Site::MaxDifference, Quad::var(x).add(-1, m).add(-1, gap));
                let best = b.quad(Quad::var(m).add(1, gain));
                b.zero(Site::MaxAdd, Quad::var(m).add(1, gain).add(-1, best));
                b.out(best);
                return b.t;
            }
            let sites = Limbs { low: Site::MaxLow, top: Site::MaxSign };
            let (limbs, bit) = b.signed(sites, gap, -spread - 1, spread);
            b.zero(Site::MaxSum, limbs.plus(-1, &Quad::var(x).add(-1, m).offset(-strict)));
            let best = b.quad(Quad::var(m).mul(1, bit, x).mul(-1, bit, m));
            b.zero(Site::MaxChoice, Quad::var(m).mul(1, bit, x).mul(-1, bit, m).add(-1, best));
            b.out(best);
            if index {
                let (i, j) = (b.wire(), b.wire());
                let at = b.quad(Quad::var(i).mul(1, bit, j).mul(-1, bit, i));
                b.zero(Site::MaxIndex, Quad::var(i).mul(1, bit, j).mul(-1, bit, i).add(-1, at));
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
            b.zero(Site::GatherKey, Quad::default().add(width.into(), index).add(1, column).add(-1, key));
            b.function(Site::GatherUse, Section::Dynamic { id: dynamic }, key, value, None);
            b.out(value);
        }
    }
    b.t
}

/// A value that is checked here: its own limbs, or itself where one limb holds it. An exact range has a table of the size of its top limb, if that is
/// of `exact` bits at most; else the top limb and the same shifted to the width of a limb are both checked to be limbs.
fn import(b: &mut Builder<'_>, at: Checked, x: Var, lo: i128, hi: i128, exact: Option<u32>) {
    let (signed, bits) = hull(lo, hi);
    let (top, site) = if bits <= b.limb {
        (x, at.whole)
    } else {
        let (limbs, top, _) = b.split(at.limbs.low, x, lo, hi);
        b.zero(at.sum, limbs.add(-1, x));
        (top, at.limbs.top)
    };
    let width = bits - (bits.div_ceil(b.limb) - 1) * b.limb;
    match exact {
        Some(table) if width <= table => b.range(site, top, signed, width),
        Some(_) if width < b.limb => {
            b.range(site, top, signed, b.limb);
            let factor = 1 << (b.limb - width);
            let shifted = b.quad(Quad::default().add(factor, top));
            b.range(Site::InputShifted, shifted, signed, b.limb);
            b.zero(Site::InputShift, Quad::default().add(factor, top).add(-1, shifted));
        }
        _ => b.range(site, top, signed, b.limb),
    }
}

/// A value that is within `[lo, hi]` exactly. A range that is no power of two is two differences that are not negative, whose sum is its width.
fn within(b: &mut Builder<'_>, x: Var, lo: i128, hi: i128, table: u32) {
    let (signed, bits) = hull(lo, hi);
    let least = if signed { -(1 << (bits - 1)) } else { 0 };
    if lo == hi {
        b.zero(Site::InputConstant, Quad::var(x).offset(-lo));
    } else if (lo, hi) == (0, 1) {
        b.zero(Site::InputBit, Quad::default().mul(1, x, x).add(-1, x));
    } else if (lo, hi) == (least, least + (1 << bits) - 1) {
        import(b, INPUT, x, lo, hi, Some(table));
    } else {
        if lo == 0 && single(lo, hi, b.limb) {
            b.range(Site::InputAboveTop, x, false, b.limb);
        } else {
            let above = b.quad(Quad::var(x).offset(-lo));
            let at = Limbs { low: Site::InputAboveLow, top: Site::InputAboveTop };
            let limbs = b.ranged(at, above, 0, hi - lo);
            b.zero(Site::InputAboveSum, limbs.add(-1, x).offset(lo));
        }
        let below = b.quad(Quad::constant(hi).add(-1, x));
        let at = Limbs { low: Site::InputBelowLow, top: Site::InputBelowTop };
        let limbs = b.ranged(at, below, 0, hi - lo);
        b.zero(Site::InputBelowSum, limbs.add(1, x).offset(-hi));
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
            b.zero(Site::LinearSum, rest)
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
            b.range(Site::LinearWhole, v, hull(lo, hi).0, b.limb);
            (Quad::var(v), v)
        }
        (false, false) => {
            let at = Limbs { low: Site::LinearLow, top: Site::LinearTop };
            let limbs = b.ranged(at, v, lo, hi);
            b.zero(Site::LinearLimbs, limbs.clone().add(-1, v));
            (limbs, v)
        }
        (true, true) if single(lo.min(-1), hi, b.limb) => {
            let y = b.def(Def::Relu(v));
            b.function(Site::LinearRelu, Section::Relu { bits: b.limb }, v, y, None);
            (Quad::var(v), y)
        }
        (true, _) => {
            let at = Limbs { low: Site::LinearSignLow, top: Site::LinearSign };
            let (limbs, bit) = b.signed(at, v, lo, hi);
            let y = b.def(Def::Relu(v));
            b.zero(Site::LinearPositive, limbs.times(1, bit).add(-1, y));
            (limbs, y)
        }
    };
    let mut rest = Quad::default().plus(1 << shift, &limbs);
    if shift > 0 {
        let rem = b.quad(Quad::var(before).add(-(1 << shift), v));
        let rem_limbs = b.exact(Site::LinearRemainder, rem, shift);
        rest = rest.plus(1, &rem_limbs);
    }
    let rest = rest.plus(-1, &sum).offset(-half);
    if swept {
        b.t.port = Some(rest)
    } else {
        b.zero(Site::LinearShift, rest)
    }
    b.out(y);
}

/// An element of a sorted row: `w = ±x·2^bits + i` is greater than the element before it. With x and i in their ranges, w determines both.
fn sorted(b: &mut Builder<'_>, x: Var, i: Var, bits: u32, descending: bool, (lo, hi): (i128, i128)) {
    let sign = if descending { -1 } else { 1 };
    let key = Quad::default().add(sign << bits, x).add(1, i);
    let w = b.quad(key.clone());
    b.zero(Site::SortKey, key.add(-1, w));
    let at = Limbs { low: Site::SortValueLow, top: Site::SortValueTop };
    let value_limbs = b.ranged(at, x, lo, hi);
    b.zero(Site::SortValueSum, value_limbs.add(-1, x));
    let index_limbs = b.exact(Site::SortIndexLimbs, i, bits);
    b.zero(Site::SortIndexSum, index_limbs.add(-1, i));
    let before = b.wire();
    let gap = b.quad(Quad::var(w).add(-1, before).offset(-1));
    let at = Limbs { low: Site::SortGapLow, top: Site::SortGapTop };
    let limbs = b.ranged(at, gap, 0, (hi - lo + 1) << bits);
    b.zero(Site::SortOrder, limbs.plus(-1, &Quad::var(w).add(-1, before).offset(-1)));
    b.out(x);
    b.out(i);
    b.out(w);
}
