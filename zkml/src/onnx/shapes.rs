//! Lengths of the axes that a file leaves open.
//!
//! An axis is open where the file gives it a name or nothing in place of a length. Axes of one name have one length; an axis without a
//! name stands for itself. Names that say nothing (`?`, as Paddle writes them, `None`, `-1`, the empty one) are no names.
//!
//! Options come first: whole shapes, then lengths by name. A list of the input that is nested as deep as the input has axes gives every
//! length. A flat list gives the product of its lengths; the flat lists are solved together, and where they have several solutions the
//! first open axis of a list is taken as 1. What is still undecided is an error that names the axes, and never a guess. Axes that no
//! list speaks of are [`ImportOptions::default_dim`] long.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::ImportError;
use super::import::ImportOptions;
use super::proto::{DimensionValue, ValueInfoProto};
use super::tensor::checked_len;

/// Names of dimensions that tell nothing apart.
const NAMELESS: [&str; 3] = ["None", "none", "unknown"];

/// Most steps of a search for the solutions of flat lists.
const STEPS: usize = 200_000;

/// A dimension of an input, as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Fixed(usize),
    /// A symbol.
    Named(String),
    /// Nothing.
    Open,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Named(name) => f.write_str(name),
            Dim::Open => f.write_str("?"),
        }
    }
}

/// An input of a file, before its open axes have lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Name.
    pub name: String,
    /// Dimensions; `None` where the file does not even say how many there are.
    pub dims: Option<Vec<Dim>>,
}

impl Declared {
    /// Reads a declaration.
    pub(super) fn read(info: &ValueInfoProto) -> Result<Self, ImportError> {
        let bad = |reason: String| ImportError::Input { name: info.name.clone(), reason };
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let one = |value: &Option<DimensionValue>| match value {
            Some(DimensionValue::DimValue(v)) if *v >= 0 => {
                usize::try_from(*v).map(Dim::Fixed).map_err(|_| bad(format!("dimension {v} is too large")))
            }
            Some(DimensionValue::DimValue(v)) if *v < -1 => Err(bad(format!("dimension {v} is negative"))),
            Some(DimensionValue::DimParam(p)) if says_something(p) => Ok(Dim::Named(p.clone())),
            _ => Ok(Dim::Open),
        };
        let dims = match tensor.and_then(|t| t.shape.as_ref()) {
            Some(shape) => Some(shape.dim.iter().map(|d| one(&d.value)).collect::<Result<_, _>>()?),
            None => None,
        };
        Ok(Declared { name: info.name.clone(), dims })
    }
}

fn says_something(name: &str) -> bool {
    name.chars().any(char::is_alphanumeric) && name.parse::<i64>().is_err() && !NAMELESS.contains(&name)
}

/// How a list of an input file is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Lengths at every depth of nesting; none for a bare number.
    pub lengths: Vec<usize>,
    /// Number of elements.
    pub elements: usize,
}

/// The lists of an input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// In the order of the model's inputs.
    Ordered(Vec<Outline>),
    /// By the names of the inputs.
    Named(BTreeMap<String, Outline>),
}

/// Where the length of an axis comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file has it.
    File,
    /// An option says it.
    Option,
    /// It follows from a list of the input.
    List,
    /// Nothing says it.
    Assumed,
}

/// The length that an open axis got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The input.
    pub input: String,
    /// The axis.
    pub axis: usize,
    /// The axis' name, where it has one.
    pub symbol: Option<String>,
    /// Its length.
    pub length: usize,
    /// Why.
    pub origin: Origin,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Taken { input, axis, length, .. } = self;
        match &self.symbol {
            Some(symbol) => write!(f, "`{symbol}` (axis {axis} of input `{input}`) was taken as {length}")?,
            None => write!(f, "axis {axis} of input `{input}`, which has no name, was taken as {length}")?,
        }
        match (self.origin, &self.symbol) {
            (Origin::Option, _) => f.write_str(" by option or setup"),
            (Origin::List, _) => f.write_str(", from the lists of the input"),
            (Origin::Assumed, Some(symbol)) => {
                write!(f, ", which nothing says: nest the list, or --variable {symbol}=N")
            }
            (Origin::Assumed, None) => {
                write!(f, ", which nothing says: nest the list as the tensor is, or --shape {input}=N,N,…")
            }
            (Origin::File, _) => Ok(()),
        }
    }
}

/// Open axes with their lengths, one for each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenList(pub Vec<Taken>);

impl fmt::Display for TakenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, t)| write!(f, "{}{t}", if i == 0 { "" } else { "; " }))
    }
}

/// The shapes that inputs get from options and lists.
///
/// # Errors
///
/// [`ImportError::Input`], [`ImportError::UnknownInput`] and [`ImportError::UnknownDim`] for the options, [`ImportError::List`] and
/// [`ImportError::ListCount`] for the lists.
pub fn input_shapes(declared: &[Declared], options: &ImportOptions) -> Result<Vec<Vec<usize>>, ImportError> {
    let lists = outlines(declared, &vec![None; declared.len()], options.given.as_ref())?;
    Ok(bind(declared, &lists, options)?.shapes)
}

/// What a caller has decided about a model's inputs: enough to import it again in the same form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Shapes of the inputs whose shape the file leaves open, by name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are constants, as JSON, by name.
    pub constants: BTreeMap<String, String>,
}

impl Binding {
    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty() && self.constants.is_empty()
    }
}

/// An input whose open axes get lengths.
struct Row<'a> {
    name: &'a str,
    axes: Vec<Axis>,
    outline: Option<Outline>,
}

#[derive(Clone, Copy)]
enum Axis {
    Fixed(usize),
    Open(usize),
}

/// An unknown length.
struct Unknown {
    symbol: Option<String>,
    value: Option<(usize, Origin)>,
}

/// A flat list: a product of unknowns, each with how often it occurs, that is `product`.
struct Equation {
    row: usize,
    unknowns: Vec<(usize, u32)>,
    product: usize,
}

/// The shape of every input, with an entry for each axis that was open.
pub(super) struct Bound {
    pub shapes: Vec<Vec<usize>>,
    pub taken: Vec<Taken>,
}

/// Gives every axis a length; `lists` holds what is known of each input's values.
pub(super) fn bind(
    declared: &[Declared],
    lists: &[Option<Outline>],
    options: &ImportOptions,
) -> Result<Bound, ImportError> {
    let mut solver = Solver::new(declared, lists, options)?;
    solver.shapes(&options.shapes)?;
    solver.names(&options.dims)?;
    solver.nested()?;
    solver.flat(options.default_dim)?;
    solver.finish(options.default_dim)
}

struct Solver<'a> {
    rows: Vec<Row<'a>>,
    unknowns: Vec<Unknown>,
    declared: &'a [Declared],
}

impl<'a> Solver<'a> {
    fn new(
        declared: &'a [Declared],
        lists: &[Option<Outline>],
        options: &ImportOptions,
    ) -> Result<Self, ImportError> {
        let mut unknowns: Vec<Unknown> = Vec::new();
        let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
        let mut rows = Vec::with_capacity(declared.len());
        for (i, d) in declared.iter().enumerate() {
            let outline = lists.get(i).cloned().flatten();
            let open;
            let dims = match &d.dims {
                Some(dims) => dims,
                None => {
                    let said = options.shapes.get(&d.name).map(Vec::len);
                    let rank = said.or_else(|| outline.as_ref().map(|o| o.lengths.len()));
                    let Some(rank) = rank else {
                        let reason = format!(
                            "the file gives it no shape; nest its list as the tensor is, or --shape {}=N,N,…",
                            d.name
                        );
                        return Err(ImportError::Input { name: d.name.clone(), reason });
                    };
                    open = vec![Dim::Open; rank];
                    &open
                }
            };
            let mut fresh = |symbol: Option<String>| {
                unknowns.push(Unknown { symbol, value: None });
                unknowns.len() - 1
            };
            let axes = dims
                .iter()
                .map(|dim| match dim {
                    Dim::Fixed(n) => Axis::Fixed(*n),
                    Dim::Named(name) => {
                        let slot = by_name.entry(name.clone());
                        Axis::Open(*slot.or_insert_with(|| fresh(Some(name.clone()))))
                    }
                    Dim::Open => Axis::Open(fresh(None)),
                })
                .collect();
            rows.push(Row { name: &d.name, axes, outline });
        }
        Ok(Solver { rows, unknowns, declared })
    }

    fn text(&self, row: usize) -> String {
        match self.declared.get(row).and_then(|d| d.dims.as_ref()) {
            Some(dims) => format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")),
            None => "of any shape".to_owned(),
        }
    }

    /// What people call an unknown.
    fn called(&self, unknown: usize) -> String {
        if let Some(symbol) = &self.unknowns[unknown].symbol {
            return format!("`{symbol}`");
        }
        for row in &self.rows {
            for (axis, a) in row.axes.iter().enumerate() {
                if matches!(a, Axis::Open(u) if *u == unknown) {
                    return format!("axis {axis} of `{}`", row.name);
                }
            }
        }
        "an axis".to_owned()
    }

    fn list_error(&self, row: usize, reason: String) -> ImportError {
        ImportError::List { name: self.rows[row].name.to_owned(), reason }
    }

    /// Whole shapes by option.
    fn shapes(&mut self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), ImportError> {
        for (name, shape) in shapes {
            let bad = |reason: String| ImportError::Input { name: name.clone(), reason };
            let Some(at) = self.rows.iter().position(|r| r.name == name) else {
                let known = self.rows.iter().map(|r| r.name.to_owned()).collect();
                return Err(ImportError::UnknownInput { option: "--shape", name: name.clone(), known });
            };
            let axes = self.rows[at].axes.clone();
            if axes.len() != shape.len() {
                return Err(bad(format!(
                    "the shape {shape:?} of the option has {} axes, the file declares {}",
                    shape.len(),
                    self.text(at)
                )));
            }
            for (axis, (a, &length)) in axes.iter().zip(shape).enumerate() {
                match a {
                    Axis::Fixed(n) if *n == length => {}
                    Axis::Fixed(n) => {
                        return Err(bad(format!(
                            "axis {axis} is {n} long in the file, {length} in the shape {shape:?} of the option"
                        )));
                    }
                    Axis::Open(u) => match self.unknowns[*u].value {
                        Some((known, _)) if known != length => {
                            let called = self.called(*u);
                            return Err(bad(format!("{called} is {known} and {length} by options")));
                        }
                        _ => self.unknowns[*u].value = Some((length, Origin::Option)),
                    },
                }
            }
        }
        Ok(())
    }

    /// Lengths by name.
    fn names(&mut self, dims: &BTreeMap<String, usize>) -> Result<(), ImportError> {
        for (name, &length) in dims {
            let found = self.unknowns.iter_mut().find(|u| u.symbol.as_deref() == Some(name));
            let Some(unknown) = found else {
                let known: BTreeSet<String> = self.unknowns.iter().filter_map(|u| u.symbol.clone()).collect();
                return Err(ImportError::UnknownDim {
                    name: name.clone(),
                    known: known.into_iter().collect(),
                });
            };
            if let Some((known, _)) = unknown.value.replace((length, Origin::Option))
                && known != length
            {
                let reason = format!("`{name}` is {known} by --shape and {length} by --variable");
                return Err(ImportError::Input { name: self.first_with(name), reason });
            }
        }
        Ok(())
    }

    fn first_with(&self, symbol: &str) -> String {
        let has = |r: &&Row<'_>| {
            let own =
                |a: &Axis| matches!(a, Axis::Open(u) if self.unknowns[*u].symbol.as_deref() == Some(symbol));
            r.axes.iter().any(own)
        };
        self.rows.iter().find(has).map_or_else(String::new, |r| r.name.to_owned())
    }

    /// Lists that are nested as their tensors are.
    fn nested(&mut self) -> Result<(), ImportError> {
        for at in 0..self.rows.len() {
            let row = &self.rows[at];
            let open = row.axes.iter().any(|a| matches!(a, Axis::Open(_)));
            let Some(lengths) = row.outline.as_ref().map(|o| o.lengths.clone()) else { continue };
            if !open || (lengths.len() <= 1 && lengths.len() != row.axes.len()) {
                continue;
            }
            if lengths.len() != row.axes.len() {
                let (depth, text) = (lengths.len(), self.text(at));
                return Err(
                    self.list_error(at, format!("the list is nested {depth} deep, the input is {text}"))
                );
            }
            for (axis, (a, &length)) in row.axes.clone().iter().zip(&lengths).enumerate() {
                match a {
                    Axis::Fixed(n) if *n == length => {}
                    Axis::Fixed(_) => {
                        let text = self.text(at);
                        let reason = format!("the nesting is {lengths:?}, the input is {text}");
                        return Err(self.list_error(at, reason));
                    }
                    Axis::Open(_) if length == 0 => {
                        return Err(self.list_error(at, format!("the list is empty along axis {axis}")));
                    }
                    Axis::Open(u) => match self.unknowns[*u].value {
                        Some((known, origin)) if known != length => {
                            let why = if origin == Origin::Option {
                                "options or the setup say"
                            } else {
                                "other lists say"
                            };
                            let called = self.called(*u);
                            let reason = format!(
                                "axis {axis} is {length} long in the list, {why} {called} is {known}"
                            );
                            return Err(self.list_error(at, reason));
                        }
                        Some(_) => {}
                        None => self.unknowns[*u].value = Some((length, Origin::List)),
                    },
                }
            }
        }
        Ok(())
    }

    /// The flat list of an input as an equation of what is still unknown; an error where it has no solution by itself.
    fn equation(&self, at: usize) -> Result<Option<Equation>, ImportError> {
        let row = &self.rows[at];
        let Some(outline) = row.outline.as_ref().filter(|o| o.lengths.len() <= 1) else { return Ok(None) };
        if !row.axes.iter().any(|a| matches!(a, Axis::Open(_))) {
            return Ok(None);
        }
        let mut known = 1usize;
        let mut unknowns: Vec<(usize, u32)> = Vec::new();
        for a in &row.axes {
            let length = match a {
                Axis::Fixed(n) => *n,
                Axis::Open(u) => match (self.unknowns[*u].value, unknowns.iter_mut().find(|(v, _)| v == u)) {
                    (Some((n, _)), _) => n,
                    (None, Some((_, times))) => {
                        *times += 1;
                        1
                    }
                    (None, None) => {
                        unknowns.push((*u, 1));
                        1
                    }
                },
            };
            known = known.checked_mul(length).unwrap_or(0);
        }
        let n = outline.elements;
        if known == 0 || n == 0 || n % known != 0 || (unknowns.is_empty() && n != known) {
            return Err(self.unsolved(at));
        }
        Ok((!unknowns.is_empty()).then_some(Equation { row: at, unknowns, product: n / known }))
    }

    fn unsolved(&self, at: usize) -> ImportError {
        let elements = self.rows[at].outline.as_ref().map_or(0, |o| o.elements);
        let mut facts = Vec::new();
        let mut seen = BTreeSet::new();
        for a in &self.rows[at].axes {
            let Axis::Open(u) = a else { continue };
            if let Some((length, origin)) = self.unknowns[*u].value.filter(|_| seen.insert(*u)) {
                let why = match origin {
                    Origin::Option => " by option or setup",
                    Origin::Assumed => ", which is assumed",
                    _ => " by other lists",
                };
                facts.push(format!("{} is {length}{why}", self.called(*u)));
            }
        }
        let because = if facts.is_empty() { String::new() } else { format!(" where {}", facts.join(", ")) };
        let reason = format!("a flat list of {elements} elements does not fit {}{because}", self.text(at));
        self.list_error(at, reason)
    }

    /// Flat lists, together.
    fn flat(&mut self, assumed: usize) -> Result<(), ImportError> {
        let mut tried = vec![false; self.rows.len()];
        loop {
            let mut equations = Vec::new();
            for at in 0..self.rows.len() {
                equations.extend(self.equation(at)?);
            }
            // A list with one unknown length decides it, so that an error is about the list that contradicts.
            if let Some(e) = equations.iter().find(|e| e.unknowns.len() == 1) {
                let Some((u, length)) = e.alone() else { return Err(self.unsolved(e.row)) };
                self.unknowns[u].value = Some((length, Origin::List));
                continue;
            }
            let Some(first) = equations.first() else { return Ok(()) };
            let row = first.row;
            let part = component(equations);
            match search(&part).as_slice() {
                [] => return Err(self.unsolved(row)),
                [only] => {
                    for (u, length) in only {
                        self.unknowns[*u].value = Some((*length, Origin::List));
                    }
                }
                _ => self.assume(&part, assumed, &mut tried)?,
            }
        }
    }

    /// Takes the first open axis of a list as 1, where the lists have a solution then.
    fn assume(&mut self, part: &[Equation], length: usize, tried: &mut [bool]) -> Result<(), ImportError> {
        for e in part {
            if std::mem::replace(&mut tried[e.row], true) {
                continue;
            }
            let first = self.rows[e.row].axes.iter().find_map(|a| match a {
                Axis::Open(u) => Some(*u),
                Axis::Fixed(_) => None,
            });
            let Some(u) = first.filter(|u| self.unknowns[*u].value.is_none()) else { continue };
            let given: Vec<Equation> = part.iter().filter_map(|e| e.with(u, length)).collect();
            if given.len() == part.len() && !search(&given).is_empty() {
                self.unknowns[u].value = Some((length, Origin::Assumed));
                return Ok(());
            }
        }
        let row = part.first().map_or(0, |e| e.row);
        let open: Vec<String> =
            part.first().map_or_else(Vec::new, |e| e.unknowns.iter().map(|(u, _)| self.called(*u)).collect());
        let reason = format!(
            "a flat list of {} elements leaves {} of {} open; nest the list as the tensor is, or --shape {}=N,N,…",
            self.rows[row].outline.as_ref().map_or(0, |o| o.elements),
            open.join(" and "),
            self.text(row),
            self.rows[row].name
        );
        Err(self.list_error(row, reason))
    }

    fn finish(self, assumed: usize) -> Result<Bound, ImportError> {
        let mut shapes = Vec::with_capacity(self.rows.len());
        let mut taken = Vec::new();
        let mut told = BTreeSet::new();
        for row in &self.rows {
            let mut shape = Vec::with_capacity(row.axes.len());
            for (axis, a) in row.axes.iter().enumerate() {
                let length = match a {
                    Axis::Fixed(n) => *n,
                    Axis::Open(u) => {
                        let unknown = &self.unknowns[*u];
                        let (length, origin) = unknown.value.unwrap_or((assumed, Origin::Assumed));
                        if told.insert(*u) {
                            let (input, symbol) = (row.name.to_owned(), unknown.symbol.clone());
                            taken.push(Taken { input, axis, symbol, length, origin });
                        }
                        length
                    }
                };
                shape.push(length);
            }
            checked_len(&shape)
                .map_err(|e| ImportError::Input { name: row.name.to_owned(), reason: e.to_string() })?;
            shapes.push(shape);
        }
        Ok(Bound { shapes, taken })
    }
}

impl Equation {
    /// The only unknown with its length, where a whole number is one.
    fn alone(&self) -> Option<(usize, usize)> {
        let [(u, times)] = self.unknowns[..] else { return None };
        let near = (self.product as f64).powf(1.0 / f64::from(times)).round() as usize;
        let root = |n: &usize| n.checked_pow(times) == Some(self.product);
        (near.saturating_sub(1)..=near.saturating_add(1)).find(root).map(|n| (u, n))
    }

    /// The equation where an unknown has a length; `None` where it has no solution then.
    fn with(&self, unknown: usize, length: usize) -> Option<Equation> {
        let mut product = self.product;
        let mut unknowns = Vec::with_capacity(self.unknowns.len());
        for &(u, times) in &self.unknowns {
            if u != unknown {
                unknowns.push((u, times));
                continue;
            }
            let power = length.checked_pow(times).filter(|p| *p > 0 && product.is_multiple_of(*p))?;
            product /= power;
        }
        (!unknowns.is_empty() || product == 1).then_some(Equation { row: self.row, unknowns, product })
    }
}

/// The equations that share unknowns, directly or not, with the first one.
fn component(equations: Vec<Equation>) -> Vec<Equation> {
    let mut rest: Vec<Option<Equation>> = equations.into_iter().map(Some).collect();
    let mut part: Vec<Equation> = rest.first_mut().and_then(Option::take).into_iter().collect();
    let mut reach: BTreeSet<usize> = part.iter().flat_map(|e| e.unknowns.iter().map(|(u, _)| *u)).collect();
    loop {
        let next = rest
            .iter_mut()
            .find(|e| e.as_ref().is_some_and(|e| e.unknowns.iter().any(|(u, _)| reach.contains(u))));
        let Some(e) = next.and_then(Option::take) else { return part };
        reach.extend(e.unknowns.iter().map(|(u, _)| *u));
        part.push(e);
    }
}

/// Up to two solutions in positive numbers; two where there may be more than were looked for.
fn search(equations: &[Equation]) -> Vec<BTreeMap<usize, usize>> {
    let mut found = Vec::new();
    let mut steps = STEPS;
    let owned =
        equations.iter().map(|e| Equation { row: e.row, unknowns: e.unknowns.clone(), product: e.product });
    descend(owned.collect(), &mut BTreeMap::new(), &mut found, &mut steps);
    if steps == 0 {
        // The search was cut short, so that nothing is known to be the only solution.
        found.resize(2, BTreeMap::new());
    }
    found
}

fn descend(
    equations: Vec<Equation>,
    fixed: &mut BTreeMap<usize, usize>,
    found: &mut Vec<BTreeMap<usize, usize>>,
    steps: &mut usize,
) {
    let Some(e) = equations.iter().filter(|e| !e.unknowns.is_empty()).min_by_key(|e| e.unknowns.len()) else {
        found.push(fixed.clone());
        return;
    };
    let Some(&(u, times)) = e.unknowns.first() else { return };
    let product = e.product;
    let alone = e.unknowns.len() == 1;
    for length in divisors(product) {
        if found.len() > 1 || *steps == 0 {
            return;
        }
        *steps -= 1;
        let Some(power) = length.checked_pow(times) else { break };
        if (alone && power != product) || product % power != 0 {
            continue;
        }
        let next: Vec<Equation> = equations.iter().filter_map(|e| e.with(u, length)).collect();
        if next.len() == equations.len() {
            fixed.insert(u, length);
            descend(next, fixed, found, steps);
            fixed.remove(&u);
        }
    }
}

fn divisors(n: usize) -> Vec<usize> {
    let mut low = Vec::new();
    let mut high = Vec::new();
    let mut d = 1;
    while d <= n / d {
        if n.is_multiple_of(d) {
            low.push(d);
            if d != n / d {
                high.push(n / d);
            }
        }
        d += 1;
    }
    low.extend(high.into_iter().rev());
    low
}

/// The outline of each input's values: of the file's lists, and of constants in their place.
///
/// `constants` holds, for each input, what stands in its place: nothing, or a constant's outline (`None` where one number fills it).
pub(super) fn outlines(
    declared: &[Declared],
    constants: &[Option<Option<Outline>>],
    given: Option<&Given>,
) -> Result<Vec<Option<Outline>>, ImportError> {
    let free = constants.iter().filter(|c| c.is_none()).count();
    let wanted =
        |d: &Declared| d.dims.as_ref().is_none_or(|dims| dims.iter().any(|d| !matches!(d, Dim::Fixed(_))));
    let open = declared.iter().zip(constants).any(|(d, c)| c.is_none() && wanted(d));
    let mut ordered = match given {
        Some(Given::Ordered(lists)) if lists.len() < free && open => {
            return Err(ImportError::ListCount { expected: free, got: lists.len() });
        }
        Some(Given::Ordered(lists)) => Some((lists.iter(), lists.len() >= declared.len())),
        _ => None,
    };
    let mut out = Vec::with_capacity(declared.len());
    for (d, constant) in declared.iter().zip(constants) {
        // A file may have the list of an input that is a constant here, or not.
        let listed = match &mut ordered {
            Some((lists, all)) if *all || constant.is_none() => lists.next().cloned(),
            _ => None,
        };
        let named = match given {
            Some(Given::Named(lists)) => match lists.get(&d.name) {
                None if constant.is_none() && wanted(d) => {
                    let names: Vec<String> = lists.keys().map(|n| format!("`{n}`")).collect();
                    let reason = format!("the file has no list of that name; it has {}", names.join(", "));
                    return Err(ImportError::List { name: d.name.clone(), reason });
                }
                found => found.cloned(),
            },
            _ => None,
        };
        out.push(match constant {
            Some(outline) => outline.clone(),
            None => listed.or(named),
        });
    }
    Ok(out)
}
