//! Operators to integer operations.
//!
//! Values are lowered on demand, in the order of the graph: an operator asks for its operands as tensors or as unrounded accumulators. A value that
//! one operator reads stays an accumulator until that operator needs a tensor.

mod arith;
mod compare;
mod constants;
mod contract;
mod cuts;
mod decide;
mod function;
mod index;
mod integers;
mod movement;
mod norm;
mod ports;
mod quantized;
mod roles;
mod scaled;
mod slack;
mod softmax;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use crate::onnx::{DType, Data, Model, Node, TensorF, Unsupported, UnsupportedList, ValueId};
use crate::qir::{Program, Role, TensorId, Term};

use super::builder::{Acc, Builder, Rounding, exp2, real_hull};
use super::cluster::Clusters;
use super::edges::{Edges, Found};
use super::error::QuantError;
use super::range::Ranges;
use super::scale::{self, Scales};
use super::tables::{Table, TableLimits};
use super::{PublicNumber, QuantOptions};

use slack::Slack;

/// A program with the tensors that stand for values of the model.
pub(super) struct Lowered {
    pub program: Program,
    pub values: Vec<(ValueId, TensorId)>,
    /// Layers that inputs within their bounds can drive out of range.
    pub restricted: Vec<String>,
    /// What the elements of each input are compared with.
    pub edges: Vec<Edges>,
    /// Bounds on the deviation of tables, by the value that they compute.
    pub table_errors: BTreeMap<ValueId, f64>,
    /// Constants of the file that the program holds in clear.
    pub public: Vec<PublicNumber>,
}

/// Why a node was not lowered.
enum Refusal {
    /// It has no integer form.
    Unsupported(String),
    /// Its numbers do not fit.
    Error(Box<QuantError>),
}

impl From<QuantError> for Refusal {
    fn from(e: QuantError) -> Refusal {
        Refusal::Error(Box::new(e))
    }
}

impl From<String> for Refusal {
    fn from(s: String) -> Refusal {
        Refusal::Unsupported(s)
    }
}

type Outcome<T> = Result<T, Refusal>;

/// Most summands of a sum that has no tensor of its own.
const LONG: usize = 64;

/// A value so far.
#[derive(Clone, Debug)]
enum Val {
    Tensor(TensorId),
    Pending(Acc),
    /// Integers with the factor that they stand for.
    Scaled(Box<scaled::Scaled>),
}

/// How a value is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    /// Nobody needs it.
    Skip,
    /// By its node.
    Node,
    /// As a function of this value.
    Function(ValueId),
}

/// Magnitude up to which whole numbers are held exactly, whatever their type.
const INTEGERS: f64 = 65536.0;
/// Significant bits of single precision.
const SINGLE_BITS: i32 = 24;

/// Greatest number of elements of a weight tensor whose scale is rounded up.
const FEW_WEIGHTS: usize = 64;

struct Lower<'m> {
    model: &'m Model,
    ranges: &'m Ranges,
    scales: Scales<'m>,
    options: &'m QuantOptions,
    clusters: Clusters<'m>,
    b: Builder,
    vals: Vec<Option<Val>>,
    uses: Vec<usize>,
    is_output: Vec<bool>,
    /// Stored constants by their data and scale: equal addresses are one weight, whatever values of the graph stand for it.
    data: HashMap<(usize, i32, Role), TensorId>,
    /// Scaled integers whose real numbers somebody has asked for.
    kept: HashMap<ValueId, Box<scaled::Scaled>>,
    /// Tensors moved by a constant, by both.
    shifted: HashMap<(TensorId, i64), TensorId>,
    /// Constants that only say where elements are.
    structural: Vec<bool>,
    /// Constants that the program holds in clear, and why, by name.
    public: std::collections::BTreeMap<String, &'static str>,
    act: i32,
    limits: TableLimits,
    slack: Slack,
    edges: Found,
    images: Images,
    /// Whether an input is of double precision.
    doubles: bool,
    /// Fraction bits that inputs have at least.
    finer: Vec<i32>,
    /// Tables of functions that were asked for before.
    tables: RefCell<HashMap<TableKey, Option<Table>>>,
    /// Bounds on the deviation of tables, by the value that they compute.
    table_errors: BTreeMap<ValueId, f64>,
}

/// A function, its range with both scales, its tolerance and its limits.
type TableKey = (String, (i64, i64, i32, i32), (u64, u64), TableLimits);

/// Lowers a rewritten model. Where an input is compared with numbers that its scale does not tell apart, once more with a finer one.
///
/// `names` are the outputs' in the file: a rewritten model has one value where several outputs, or an input and an output, are the same.
pub(super) fn lower(
    model: &Model,
    names: &[String],
    ranges: &Ranges,
    options: &QuantOptions,
) -> Result<Lowered, QuantError> {
    let mut finer = vec![i32::MIN; model.inputs.len()];
    let mut lowered = lower_once(model, names, ranges, options, &finer, &Images::new())?;
    for _ in 0..2 {
        let needed: Vec<i32> = lowered
            .edges
            .iter()
            .zip(&lowered.program.inputs)
            .map(|(e, &id)| e.scale(lowered.program.tensor(id).scale))
            .collect();
        let enough = needed.iter().zip(&lowered.program.inputs);
        if enough.into_iter().all(|(n, &id)| *n <= lowered.program.tensor(id).scale) {
            break;
        }
        finer = needed;
        lowered = lower_once(model, names, ranges, options, &finer, &Images::new())?;
    }
    let scales: Vec<i32> =
        lowered.program.inputs.iter().map(|&id| lowered.program.tensor(id).scale).collect();
    let lists: Vec<Vec<(f64, i64)>> = lowered.edges.iter().zip(&scales).map(|(e, &s)| e.images(s)).collect();
    if lists.iter().all(Vec::is_empty) {
        return Ok(lowered);
    }
    let entries = lists.iter().zip(&scales).enumerate();
    let images =
        entries.flat_map(|(k, (l, &s))| l.iter().map(move |&(t, image)| ((k, s, t.to_bits()), image)));
    lowered = lower_once(model, names, ranges, options, &finer, &images.collect())?;
    lowered.edges = lowered.edges.into_iter().zip(lists).map(|(e, l)| e.with_images(l)).collect();
    Ok(lowered)
}

/// Integers that stand for thresholds, by input, scale and threshold.
type Images = HashMap<(usize, i32, u64), i64>;

fn lower_once(
    model: &Model,
    names: &[String],
    ranges: &Ranges,
    options: &QuantOptions,
    finer: &[i32],
    images: &Images,
) -> Result<Lowered, QuantError> {
    let n = model.values.len();
    let mut l = Lower {
        model,
        ranges,
        scales: Scales::new(model, ranges, options),
        options,
        clusters: Clusters::new(model),
        b: Builder::new(options.cover),
        vals: vec![None; n],
        uses: vec![0; n],
        is_output: vec![false; n],
        data: HashMap::new(),
        kept: HashMap::new(),
        shifted: HashMap::new(),
        structural: roles::structural(model),
        public: Default::default(),
        act: options.activation_bits as i32,
        limits: TableLimits { lookup: options.max_lookup.into(), knots: options.max_knots.into() },
        slack: Slack::default(),
        edges: Found::default(),
        images: images.clone(),
        doubles: model.input_values().any(|v| v.dtype == DType::F64),
        finer: finer.to_vec(),
        tables: RefCell::default(),
        table_errors: BTreeMap::new(),
    };
    for &o in &model.outputs {
        l.is_output[o.index()] = true;
    }
    l.refuse_infinite()?;
    let plan = l.plan();
    l.inputs()?;
    let mut refused = Vec::new();
    for node in &model.nodes {
        if node.outputs.iter().flatten().all(|o| plan[o.index()] == Plan::Skip) {
            continue;
        }
        // Readers of a refused node have nothing to say.
        let missing = |v: ValueId| model.value(v).constant.is_none() && l.vals[v.index()].is_none();
        l.b.layer = node.name.clone();
        let function = node.output(0).map(|o| (o, plan[o.index()]));
        let result = match function {
            Some((out, Plan::Function(root))) => {
                if missing(root) {
                    continue;
                }
                match l.function(out, root) {
                    // What has no table near a pole has a quotient.
                    Err(Refusal::Unsupported(_)) if l.is_quotient(node) => l.node(node),
                    done => done,
                }
            }
            _ => {
                if node.inputs.iter().flatten().any(|&v| missing(v)) {
                    continue;
                }
                l.held(node).and_then(|()| l.node(node)).and_then(|()| l.wrap_outputs(node))
            }
        };
        match result {
            Ok(()) => {}
            Err(Refusal::Error(e)) => return Err(*e),
            Err(Refusal::Unsupported(reason)) => refused.push(Unsupported {
                node: node.name.clone(),
                op: node.op.clone(),
                domain: node.domain.clone(),
                reason,
                hint: None,
            }),
        }
    }
    if !refused.is_empty() {
        return Err(QuantError::Unsupported(UnsupportedList(refused)));
    }
    for &o in &model.outputs {
        l.b.layer = model.value(o).name.clone();
        let id = match l.tensor(o) {
            Ok(id) => id,
            Err(Refusal::Error(e)) => return Err(*e),
            Err(Refusal::Unsupported(reason)) => {
                return Err(QuantError::Layer { layer: model.value(o).name.clone(), reason });
            }
        };
        l.b.program.outputs.push(id);
    }
    ports::name_outputs(&mut l.b, names)?;
    let values = (0..n)
        .filter(|&i| model.values[i].constant.is_none())
        .filter_map(|i| match l.vals[i] {
            Some(Val::Tensor(id)) => Some((ValueId(i as u32), id)),
            _ => None,
        })
        .collect();
    let edges = l.edges.of_inputs(&l.b.program);
    let public = l.public.into_iter().map(|(name, reason)| PublicNumber { name, reason: reason.to_owned() });
    Ok(Lowered {
        program: l.b.program,
        values,
        restricted: l.b.restricted.into_iter().collect(),
        edges,
        table_errors: l.table_errors,
        public: public.collect(),
    })
}

impl<'m> Lower<'m> {
    /// Decides, from the outputs backwards, what is computed and how; counts the readers of every value.
    fn plan(&mut self) -> Vec<Plan> {
        let mut plan = vec![Plan::Skip; self.model.values.len()];
        let mut wanted = vec![false; plan.len()];
        self.model.outputs.iter().for_each(|o| wanted[o.index()] = true);
        for node in self.model.nodes.iter().rev() {
            let outs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
            if !outs.iter().any(|o| wanted[o.index()]) {
                continue;
            }
            let root = outs.first().and_then(|&o| self.function_root(o, node));
            for o in &outs {
                plan[o.index()] = root.map_or(Plan::Node, Plan::Function);
            }
            let mut reads: Vec<ValueId> = match root {
                Some(r) => vec![r],
                None => node.inputs.iter().flatten().copied().collect(),
            };
            reads.retain(|v| self.model.value(*v).constant.is_none());
            for v in reads {
                wanted[v.index()] = true;
                self.uses[v.index()] += 1;
            }
        }
        plan
    }

    /// Refuses infinite weights by name. Bounds may be infinite, and masks.
    fn refuse_infinite(&self) -> Result<(), QuantError> {
        let bounded =
            ["Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Where"];
        for n in self.model.nodes.iter().filter(|n| !bounded.contains(&n.op.as_str())) {
            for &v in n.inputs.iter().flatten() {
                let Some(c) = self.constant(v).filter(|c| c.dtype.is_float()) else { continue };
                if !self.ranges.masks().masked(v) && (0..c.len()).any(|i| c.at(i).is_infinite()) {
                    let reason = format!("a weight of {} `{}` is infinite", n.op, n.name);
                    return Err(QuantError::Layer { layer: self.model.value(v).name.clone(), reason });
                }
            }
        }
        Ok(())
    }

    fn inputs(&mut self) -> Result<(), QuantError> {
        for (k, &v) in self.model.inputs.iter().enumerate() {
            let value = self.model.value(v);
            let (bounds, scale) = if value.dtype.is_float() {
                let own = self.scales.bits(v, self.options.input_bits as i32);
                let scale = self.finer.get(k).map_or(own, |&s| s.max(own));
                let (lo, hi) = self.range(v).unwrap_or((-1.0, 1.0));
                (real_hull(lo, hi, scale), scale)
            } else if value.dtype == DType::Bool {
                ((0, 1), 0)
            } else {
                let (lo, hi) = self.ranges.observed(v).unwrap_or((0.0, 1.0));
                let h = self.options.headroom;
                let (mut lo, mut hi) = integer_hull((lo, hi), (lo * h, (hi * h).max(1.0)));
                if let Some((a, b)) = value.dtype.int_bounds() {
                    (lo, hi) = (lo.max(a.into()), hi.min(b.into()));
                }
                ((lo, hi), 0)
            };
            let id = self.b.input(&value.name, &value.shape, bounds, scale)?;
            if !value.dtype.is_float() {
                self.slack.decided(id);
            }
            self.vals[v.index()] = Some(Val::Tensor(id));
        }
        Ok(())
    }

    fn constant(&self, v: ValueId) -> Option<&'m TensorF> {
        self.model.value(v).constant.as_deref()
    }

    /// The value of a constant of one element, which becomes part of the program.
    fn single(&mut self, v: ValueId) -> Option<f64> {
        let c = self.constant(v)?;
        let x = c.single().map(|x| if c.dtype.is_float() { self.number(v, x) } else { x })?;
        self.reveal(v, "a single number, which becomes a factor or an offset of the program");
        Some(x)
    }

    /// The value of an integer constant of one element, which becomes part of the program.
    fn single_int(&mut self, v: ValueId) -> Option<i64> {
        let x = self.constant(v).and_then(TensorF::single_int)?;
        self.reveal(v, "a single number, which becomes a factor or an offset of the program");
        Some(x)
    }

    fn shape(&self, v: ValueId) -> &'m [usize] {
        &self.model.value(v).shape
    }

    fn is_float(&self, v: ValueId) -> bool {
        self.model.value(v).dtype.is_float()
    }

    fn need(&self, n: &Node, i: usize) -> Outcome<ValueId> {
        n.input(i).ok_or_else(|| Refusal::Unsupported(format!("operand {i} is missing")))
    }

    fn out(&self, n: &Node) -> Outcome<ValueId> {
        n.output(0)
            .ok_or_else(|| Refusal::Unsupported("the first output is not wanted, but another is".into()))
    }

    /// A number of a constant: a mask's, or an infinite one, is one that nothing else reaches.
    fn number(&self, v: ValueId, c: f64) -> f64 {
        let masks = self.ranges.masks();
        if masks.masked(v) {
            c.clamp(-masks.fill(), masks.fill())
        } else if c.is_infinite() {
            self.ranges.beyond().copysign(c)
        } else {
            c
        }
    }

    /// Range that is allowed for a value.
    fn range(&self, v: ValueId) -> Option<(f64, f64)> {
        self.scales.range(v)
    }

    /// Greatest magnitude that calibration saw of a value.
    fn magnitude(&self, v: ValueId) -> Option<f64> {
        self.scales.magnitude(v)
    }

    /// Fraction bits of a value, whether it is an output or not.
    fn bits(&self, v: ValueId) -> i32 {
        self.scales.bits(v, self.act)
    }

    /// Fraction bits that a value is rounded to where it has to be.
    fn frac(&self, v: ValueId) -> i32 {
        let output = self.is_output[v.index()];
        self.scales.bits(v, if output { self.act.max(self.options.output_bits as i32) } else { self.act })
    }

    /// Fraction bits of an accumulator that stands for no value of the model, by what it may reach.
    fn fitting(&self, a: &Acc) -> i32 {
        /// How much wider bounds are than what they bound.
        const LOOSE: i32 = 13;
        let width = self.b.width(a);
        if width == 0 {
            return self.act;
        }
        let e = width - a.scale;
        let narrow = scale::fitting(exp2(e), self.act);
        if narrow >= self.act { narrow } else { scale::fitting(exp2(e - LOOSE), self.act) }
    }

    /// Notes how far a table may be from its function, as a number.
    fn note_table(&mut self, v: ValueId, error: f64) {
        let slot = self.table_errors.entry(v).or_default();
        *slot = slot.max(error);
    }

    /// `a` times a real number to some significant bits. What would leave no room for them is rounded first; `v` is what `a` stands for.
    fn scaled_by(&mut self, a: Acc, v: Option<ValueId>, c: f64, bits: i32) -> Outcome<Acc> {
        /// Bits of an accumulator that is rounded but once.
        const ROOM: i32 = 74;
        let wide = Builder::factor(c, bits).is_some_and(|(q, _)| self.b.width(&a) + exponent_of(q) > ROOM);
        if !wide || a.as_tensor().is_some() {
            return Ok(self.b.multiply(&a, c, bits)?);
        }
        let seen = v.and_then(|v| self.magnitude(v).map(|m| self.bits(v).max(bits - scale::exponent(m))));
        let frac = seen.unwrap_or_else(|| self.fitting(&a).max(bits + a.scale - self.b.width(&a)));
        let range = v.and_then(|v| self.range(v));
        let id = self.b.round(&a, Rounding { frac, relu: false, range })?;
        Ok(self.b.multiply(&self.b.acc(id), c, bits)?)
    }

    /// `a` plus a real number, at a scale that has room for it.
    fn offset_by(&mut self, a: &Acc, c: f64, frac: i32) -> Outcome<Acc> {
        const ROOM: i32 = 58;
        let most = ROOM - scale::exponent(c.abs()).max(self.b.width(a) - a.scale);
        if c == 0.0 || a.scale <= most || a.terms.is_empty() {
            return Ok(self.b.offset(a, c, frac.min(most.max(a.scale)))?);
        }
        let id = self.b.coarsen(a, most)?;
        let a = self.b.acc(id);
        Ok(self.b.offset(&a, c, most)?)
    }

    /// How a value is rounded. An output that nothing else reads keeps all its bits: exact, and cheaper than a rounding.
    fn rounding(&self, v: ValueId, acc: &Acc, relu: bool) -> Rounding {
        let mut frac = self.frac(v);
        if self.is_output[v.index()] && self.uses[v.index()] == 0 && !relu {
            let (lo, hi) = self.b.bounds(acc);
            if lo.abs().max(hi.abs()) < 1 << 56 {
                frac = frac.max(acc.scale);
            }
        }
        Rounding { frac, relu, range: self.range(v) }
    }

    fn set(&mut self, v: ValueId, val: Val) {
        self.vals[v.index()] = Some(val);
    }

    fn set_acc(&mut self, v: ValueId, acc: Acc) -> Outcome<()> {
        // Sums of sums would list all summands at every one of them.
        let acc = match acc.terms.len() {
            n if n > LONG => self.exact(&acc).map(|id| self.b.acc(id)).unwrap_or(acc),
            _ => acc,
        };
        self.set(v, Val::Pending(acc));
        Ok(())
    }

    fn set_tensor(&mut self, v: ValueId, id: TensorId) -> Outcome<()> {
        self.set(v, Val::Tensor(id));
        Ok(())
    }

    /// A value as a tensor.
    fn tensor(&mut self, v: ValueId) -> Outcome<TensorId> {
        self.tensor_at(v, None)
    }

    /// Makes a value that is scaled integers the number that they stand for.
    fn settle_scaled(&mut self, v: ValueId) -> Outcome<()> {
        if let Some(Val::Scaled(s)) = self.vals[v.index()].clone() {
            let acc = self.real(v, &s)?;
            self.kept.insert(v, s);
            self.set(v, Val::Pending(acc));
        }
        Ok(())
    }

    /// A value as a tensor of at least so many fraction bits, where it is not rounded yet.
    fn tensor_at(&mut self, v: ValueId, frac: Option<i32>) -> Outcome<TensorId> {
        self.settle_scaled(v)?;
        if let Some(c) = self.constant(v) {
            let scale = if c.dtype.is_float() { self.weight_scale(&self.scaled_numbers(v, c)) } else { 0 };
            return Ok(self.constant_tensor(v, scale.max(frac.unwrap_or(scale).min(scale)))?);
        }
        match self.vals[v.index()].clone() {
            Some(Val::Tensor(id)) => Ok(id),
            Some(Val::Pending(acc)) => {
                let mut r = self.rounding(v, &acc, false);
                r.frac = r.frac.max(frac.unwrap_or(r.frac));
                let id = self.b.round(&acc, r)?;
                self.set(v, Val::Tensor(id));
                Ok(id)
            }
            Some(Val::Scaled(_)) | None => {
                Err(Refusal::Unsupported(format!("`{}` is not computed", self.model.value(v).name)))
            }
        }
    }

    /// A value as an accumulator: unrounded, where this is its only reader.
    fn acc(&mut self, v: ValueId) -> Outcome<Acc> {
        if self.constant(v).is_some() {
            return self.constant_acc(v, self.act);
        }
        self.settle_scaled(v)?;
        if let Some(Val::Pending(acc)) = &self.vals[v.index()] {
            let light = acc.terms.len() <= 2 && !acc.has_contraction() && !acc.has_product();
            if light || (self.uses[v.index()] <= 1 && !self.is_output[v.index()]) {
                return Ok(acc.clone());
            }
        }
        let id = self.tensor(v)?;
        Ok(self.b.acc(id))
    }

    /// Whether an accumulator is a contraction of weights.
    fn weighted(&self, a: &Acc) -> bool {
        let weight = |id: &TensorId| self.b.program.tensor(*id).role == Role::Param;
        a.terms.iter().any(|t| match t {
            Term::Einsum { a, b, .. } => weight(a) || weight(b),
            Term::Conv { w, .. } => weight(w),
            _ => false,
        })
    }

    /// Both operands of a sum, made to fit in one operation.
    fn sum(&mut self, a: Acc, va: Option<ValueId>, b: Acc, vb: Option<ValueId>) -> Outcome<Acc> {
        let shape = crate::onnx::broadcast(&a.shape, &b.shape).map_err(|e| e.to_string())?;
        let (mut a, mut b) = (a, b);
        let spreads = |x: &Acc| x.has_contraction() && x.shape != shape;
        let (round_a, round_b) = (spreads(&a), spreads(&b));
        // Products and contractions do not share an operation.
        let mixed = (a.has_product() && b.has_contraction()) || (a.has_contraction() && b.has_product());
        if round_a || (mixed && a.has_contraction()) {
            a = self.settle(a, va)?;
        }
        if round_b || (mixed && b.has_contraction()) {
            b = self.settle(b, vb)?;
        }
        self.aligned(a, b)
    }

    /// The sum of accumulators, the finer of which is rounded first where the coarser has no room for its scale.
    fn aligned(&mut self, a: Acc, b: Acc) -> Outcome<Acc> {
        /// Bits of a sum, and of the factor that brings the coarser operand to the scale of the finer.
        const ROOM: i32 = 96;
        const FACTOR: i32 = 60;
        /// Bits of a tensor.
        const HELD: i32 = 56;
        /// Fraction bits that the finer operand keeps beyond those of the coarser.
        const MORE: i32 = 10;
        let (fine, coarse) = if a.scale > b.scale { (&a, &b) } else { (&b, &a) };
        let by = fine.scale - coarse.scale;
        let wide = self.b.width(coarse) + by > ROOM || Builder::factors(coarse) + by > FACTOR;
        if by <= 0 || !wide {
            return Ok(self.b.add(&a, &b)?);
        }
        if Builder::factors(coarse) > FACTOR - MORE && !coarse.terms.is_empty() {
            let coarse = self.settle(coarse.clone(), None)?;
            return self.aligned(fine.clone(), coarse);
        }
        if by <= MORE || fine.terms.is_empty() {
            return Ok(self.b.add(&a, &b)?);
        }
        // What the bounds of the finer operand leave room for.
        let most = HELD - (self.b.width(fine) - fine.scale);
        let id = self.b.coarsen(fine, (coarse.scale + MORE).min(most))?;
        Ok(self.b.add(&self.b.acc(id), coarse)?)
    }

    /// An accumulator rounded to a tensor, as an accumulator.
    fn settle(&mut self, a: Acc, v: Option<ValueId>) -> Outcome<Acc> {
        let range = v.and_then(|v| self.range(v));
        let frac =
            v.filter(|v| self.magnitude(*v).is_some()).map_or_else(|| self.fitting(&a), |v| self.bits(v));
        let id = self.b.round(&a, Rounding { frac, relu: false, range })?;
        Ok(self.b.acc(id))
    }

    /// max(a, 0) as a tensor.
    fn relu(&mut self, a: &Acc, frac: i32, range: Option<(f64, f64)>) -> Outcome<TensorId> {
        let (lo, _) = self.b.bounds(a);
        let relu = lo < 0;
        Ok(self.b.round(a, Rounding { frac, relu, range })?)
    }

    /// Any accumulator as an exact tensor.
    fn exact(&mut self, a: &Acc) -> Outcome<TensorId> {
        Ok(self.b.round(a, Rounding { frac: a.scale, relu: false, range: None })?)
    }

    /// 1 where the accumulator is at least 0.
    fn step(&mut self, a: &Acc) -> Outcome<TensorId> {
        let x = self.exact(a)?;
        let shape = self.b.shape(x).to_vec();
        Ok(self.b.op(crate::qir::OpKind::Step { x }, shape, (0, 1), 0)?)
    }

    /// The element-wise product of tensors as an accumulator.
    fn product(&self, a: TensorId, b: TensorId) -> Outcome<Acc> {
        let shape = crate::onnx::broadcast(self.b.shape(a), self.b.shape(b)).map_err(|e| e.to_string())?;
        let scale = self.b.scale(a) + self.b.scale(b);
        Ok(Acc { shape, terms: vec![Term::Product { a, b, coeff: 1 }], constant: 0, scale })
    }

    /// Refuses constants that a circuit has no integers for.
    fn held(&self, n: &Node) -> Outcome<()> {
        for &v in n.inputs.iter().flatten() {
            if let Some(past) = self.constant(v).and_then(TensorF::past_i64) {
                let name = &self.model.value(v).name;
                return Err(
                    format!("`{name}` holds the uint64 {past}: a circuit's integers end below 2^61").into()
                );
            }
        }
        Ok(())
    }

    fn node(&mut self, n: &Node) -> Outcome<()> {
        if self.on_integers(n)? {
            return Ok(());
        }
        match n.op.as_str() {
            "Add" | "Sub" | "Mul" | "Neg" | "Div" | "Mod" | "Pow" | "Sqrt" | "Reciprocal" | "Relu"
            | "LeakyRelu" | "PRelu" | "Clip" | "Abs" | "Max" | "Min" | "Sign" | "Floor" | "Ceil"
            | "Round" | "BitShift" => self.arithmetic(n),
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or"
            | "Xor" | "Where" | "Cast" | "CastLike" => self.comparison(n),
            "MatMul" | "MatMulInteger" | "Gemm" | "Einsum" | "Conv" | "ConvInteger" | "ConvTranspose"
            | "AveragePool" | "ReduceSum" | "ReduceMean" => self.contraction(n),
            "MaxPool" | "ReduceMax" | "ReduceMin" | "ArgMax" | "ArgMin" | "TopK" => self.order(n),
            "Softmax" => self.softmax(n),
            "QuantizeLinear" | "DequantizeLinear" | "QLinearMatMul" | "QLinearConv" => self.quantized(n),
            "Gather" | "GatherElements" | "GatherND" | "ScatterElements" | "ScatterND" | "OneHot" => {
                self.index(n)
            }
            "Resize" | "Upsample" => self.resize(n),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Concat" | "Slice" | "Split"
            | "Pad" | "Expand" | "Tile" | "Trilu" | "DepthToSpace" | "SpaceToDepth" => self.movement(n),
            _ => self.tabled(n),
        }
    }
}

/// The hull of what integers are allowed to be; of what was seen alone, where the headroom would not fit a circuit's integers.
fn integer_hull(seen: (f64, f64), allowed: (f64, f64)) -> (i128, i128) {
    let fits = |(lo, hi): (i128, i128)| lo > -(1 << 61) && hi < 1 << 61;
    // The least of them has no opposite there.
    let of = |(lo, hi): (f64, f64)| {
        let (least, most) = real_hull(lo, hi, 0);
        (if lo > -exp2(61) { least.max(1 - (1 << 61)) } else { least }, most)
    };
    let wide = of(allowed);
    if fits(wide) { wide } else { of(seen) }
}

/// An infinite number as one that no ordinary number reaches.
fn finite(v: f64) -> f64 {
    if v.is_infinite() { exp2(40).copysign(v) } else { v }
}

/// Bits of a factor.
fn exponent_of(q: i64) -> i32 {
    64 - q.unsigned_abs().leading_zeros() as i32
}

/// The integers of a constant.
fn quantise(c: &TensorF, scale: i32, round: impl Fn(f64) -> f64) -> Vec<i64> {
    match &c.data {
        Data::I(v) => v.iter().map(|&v| shifted(v, scale)).collect(),
        Data::F(v) => v.iter().map(|&v| round(finite(v) * exp2(scale)) as i64).collect(),
    }
}

/// An integer at a scale; past what any tensor may hold where that does not fit.
fn shifted(v: i64, scale: i32) -> i64 {
    match scale {
        0 => v,
        1..63 => v.saturating_mul(1 << scale),
        _ => {
            if v == 0 {
                0
            } else {
                i64::MAX
            }
        }
    }
}
