//! Every template at small limbs: all operands, all values in range, and the output is the one that the operation defines.

use std::sync::Arc;

use halo2_axiom::halo2curves::bn256::Fr;

use super::super::num::{fr, isqrt};
use super::super::table::{Function, Section, Tables};
use super::super::template::{Admitted, Affine, Def, Spec, Template, build};
use super::solve::{Problem, honest, small};

/// Outputs from operands and the folded sum; none outside the bounds.
type Compute = Box<dyn Fn(&[i128], i128) -> Option<Vec<i128>>>;

/// A spec with the ranges of its operands, and what it is to compute: outputs from operands and the folded sum.
struct Small {
    name: &'static str,
    spec: Spec,
    operands: Vec<(i128, i128)>,
    /// Range of the folded sum.
    acc: Option<(i128, i128)>,
    computes: Compute,
}

fn floor(x: i128, shift: u32) -> i128 {
    (x + if shift == 0 { 0 } else { 1 << (shift - 1) }) >> shift
}

const SQUARES: (i64, i64) = (-5, 6);

fn functions() -> Arc<Vec<Function>> {
    let (lo, hi) = SQUARES;
    let squares = (lo..=hi).map(|x| x * x - 3).collect();
    let (values, slopes) = ((0..5).map(|k| 9 * k * k).collect(), (0..5).map(|k| 18 * k + 9).collect());
    Arc::new(vec![
        Function { first: lo, values: squares, second: None },
        Function { first: -2, values, second: Some(slopes) },
    ])
}

fn all() -> Vec<Small> {
    let mut out = Vec::new();
    let mut one = |name, spec, operands: &[(i128, i128)], acc, computes: Compute| {
        out.push(Small { name, spec, operands: operands.to_vec(), acc, computes });
    };
    for (shift, relu, reach) in
        [(0, false, 40), (0, true, 40), (3, false, 3), (3, true, 3), (2, true, 1), (1, false, 20)]
    {
        for swept in [false, true] {
            let spec = Spec::Linear {
                swept,
                scales: vec![3],
                products: vec![2],
                constant: 1,
                shift,
                pre_lo: -reach,
                pre_hi: reach,
                relu,
            };
            let compute = move |x: &[i128], acc: i128| {
                let v = floor(acc + 1 + 3 * x[0] + 2 * x[1] * x[2], shift);
                let fits = (shift == 0 && !relu) || (-i128::from(reach)..=i128::from(reach)).contains(&v);
                fits.then(|| vec![if relu { v.max(0) } else { v }])
            };
            let acc = swept.then_some((-3, 3));
            one("linear", spec, &[(-2, 2), (-2, 1), (0, 2)], acc, Box::new(compute));
        }
    }
    // More operands than a unit has room for.
    let spec = Spec::Linear {
        swept: false,
        scales: vec![1, 2, -3, 4, 5, -6, 7, 8, 9, 10, 11, 12],
        products: vec![],
        constant: 0,
        shift: 0,
        pre_lo: 0,
        pre_hi: 0,
        relu: false,
    };
    let weights = [1, 2, -3, 4, 5, -6, 7, 8, 9, 10, 11, 12i128];
    let wide = move |x: &[i128], _| Some(vec![x.iter().zip(weights).map(|(x, w)| x * w).sum()]);
    one("sum of many", spec, &[(0, 1); 12], None, Box::new(wide));
    let square =
        |x: i128| (i128::from(SQUARES.0)..=i128::from(SQUARES.1)).contains(&x).then(|| vec![x * x - 3]);
    let table = |x| Spec::Lookup { x, table: 0 };
    one("lookup", table(Affine::cell()), &[(-5, 6)], None, Box::new(move |x, _| square(x[0])));
    let sum = || Affine { scales: vec![2, -1], constant: 1 };
    let of = |x: &[i128]| 2 * x[0] - x[1] + 1;
    one("lookup of a sum", table(sum()), &[(-2, 2), (0, 2)], None, Box::new(move |x, _| square(of(x))));
    for guard in [0, 1] {
        let piece = move |x: i128| {
            let (key, rem) = (x >> 2, x - ((x >> 2) << 2));
            let i = key + 2;
            (0..5).contains(&i).then(|| vec![floor(9 * i * i * 4 + (18 * i + 9) * rem, 2 + guard)])
        };
        let spec = |x| Spec::Interpolate { x, table: 1, step: 2, guard, lo: 0, hi: 230 };
        one("interpolate", spec(Affine::cell()), &[(-8, 11)], None, Box::new(move |x, _| piece(x[0])));
        let operands = [(-2, 2), (0, 2)];
        one("interpolate a sum", spec(sum()), &operands, None, Box::new(move |x, _| piece(of(x))));
    }
    for reach in [1, 40] {
        let spec = |x| Spec::Step { x, lo: -reach, hi: reach };
        let range = (-i128::from(reach), i128::from(reach));
        one("step", spec(Affine::cell()), &[range], None, Box::new(|x, _| Some(vec![(x[0] >= 0).into()])));
    }
    let spec = Spec::Step { x: sum(), lo: -5, hi: 5 };
    one(
        "step of a sum",
        spec,
        &[(-2, 2), (0, 2)],
        None,
        Box::new(move |x, _| Some(vec![(of(x) >= 0).into()])),
    );
    let div = |x: &[i128], _| (x[1] > 0).then(|| vec![x[0].div_euclid(x[1])]);
    let spec = Spec::Div { q_lo: -20, q_hi: 20, den_hi: 7 };
    one("division", spec, &[(-20, 20), (0, 7)], None, Box::new(div));
    let spec = Spec::Div { q_lo: -3, q_hi: 3, den_hi: 3 };
    one("small division", spec, &[(-3, 3), (1, 3)], None, Box::new(div));
    let root = |x: &[i128], _| (x[0] >= 0).then(|| vec![isqrt(x[0])]);
    one("root", Spec::Sqrt { hi: 50 }, &[(-2, 50)], None, Box::new(root));
    one("small root", Spec::Sqrt { hi: 8 }, &[(0, 8)], None, Box::new(root));
    for reach in [1, 9] {
        let range = (-reach, reach);
        let spread = 2 * reach as i64;
        let max = |x: &[i128], _| Some(vec![x[0].max(x[1])]);
        one("maximum", Spec::Max { spread, index: false, last: false }, &[range; 2], None, Box::new(max));
        for last in [false, true] {
            let arg = move |x: &[i128], _| {
                let later = x[1] > x[0] || (last && x[1] == x[0]);
                Some(vec![x[0].max(x[1]), if later { x[3] } else { x[2] }])
            };
            let spec = Spec::Max { spread, index: true, last };
            one("index of a maximum", spec, &[range, range, (0, 1), (2, 2)], None, Box::new(arg));
        }
    }
    out
}

/// What an operation gets wrong, if anything: operands with another output, with two, or with none.
fn judge(s: &Small, limb: u32, room: usize) -> Result<usize, String> {
    let mut tables = Tables::new(functions());
    let template = build(&s.spec, limb, room, &mut tables);
    let mut operands: Vec<Vec<i128>> = vec![vec![]];
    for &(lo, hi) in &s.operands {
        operands = operands.iter().flat_map(|x| (lo..=hi).map(move |y| [&x[..], &[y]].concat())).collect();
    }
    let (first, last) = s.acc.unwrap_or((0, 0));
    let wires: Vec<_> = template
        .defs
        .iter()
        .enumerate()
        .filter_map(|(v, d)| match d {
            Def::Wire(w) => Some((v as u16, *w as usize)),
            _ => None,
        })
        .collect();
    let mut tried = 0;
    for x in &operands {
        for acc in first..=last {
            let known: Vec<_> = wires.iter().map(|&(v, w)| (v, fr(x[w]))).collect();
            let expected = (s.computes)(x, acc);
            let values = honest(&template, &tables, x, acc);
            let values: Option<Vec<Fr>> = values.map(|v| v.into_iter().map(fr).collect());
            let problem = Problem {
                template: &template,
                tables: &tables,
                entries: &[],
                // The identity is between the port and the folded sum.
                port: template.port.as_ref().map(|_| fr(acc)),
                without: None,
                honest: values.as_deref(),
                patience: 40_000,
                most: 40,
            };
            let (found, complete) = problem.solve(&known);
            tried += 1;
            let mut outs: Vec<Vec<Option<i128>>> =
                found.iter().map(|f| template.outs.iter().map(|&v| small(f[v as usize])).collect()).collect();
            outs.sort();
            outs.dedup();
            let wanted: Vec<Vec<Option<i128>>> =
                expected.iter().map(|e| e.iter().map(|v| Some(*v)).collect()).collect();
            // Outside the bounds there may be no witness, but never a wrong one.
            let beyond = expected.is_none() && outs.iter().all(|o| unbounded(s, x, acc, o));
            let name = s.name;
            if outs == wanted && !complete {
                return Err(format!("{name}, limb {limb}: a variable that nothing determines"));
            }
            if outs != wanted && !beyond {
                return Err(format!(
                    "{name}, limb {limb}: operands {x:?}, sum {acc}: outputs {outs:?}, not {wanted:?}"
                ));
            }
        }
    }
    Ok(tried)
}

/// Whether an output beyond the bounds is what the operation defines there: a hull admits more than the bounds.
fn unbounded(s: &Small, x: &[i128], acc: i128, out: &[Option<i128>]) -> bool {
    let Spec::Linear { shift, relu, .. } = s.spec else { return false };
    let v = floor(acc + 1 + 3 * x[0] + 2 * x[1] * x[2], shift);
    out == [Some(if relu { v.max(0) } else { v })]
}

/// Every operation, every operand.
pub(super) fn functions_of_their_operands() -> Result<usize, String> {
    let mut tried = 0;
    for s in all() {
        for limb in [2, 3] {
            tried += judge(&s, limb, 12)?;
        }
    }
    Ok(tried)
}

/// What a template that has one given value admits of it.
fn admitted(spec: &Spec, limb: u32, candidates: &[Fr]) -> Vec<Fr> {
    let mut tables = Tables::new(functions());
    let template: Template = build(spec, limb, 12, &mut tables);
    let problem = Problem {
        template: &template,
        tables: &tables,
        entries: &[],
        port: None,
        without: None,
        honest: None,
        patience: 100_000,
        most: 1,
    };
    candidates.iter().copied().filter(|&x| !problem.solve(&[(0, x)]).0.is_empty()).collect()
}

/// Given values: inputs are within their bounds and nothing else, others within the hull that is said.
pub(super) fn given_values_are_within() -> Result<usize, String> {
    let mut tried = 0;
    let wide: Vec<i128> = (-140..=140).collect();
    let half = fr(2).invert_or_zero();
    for limb in [2, 3, 5] {
        for (lo, hi) in [
            (0, 0),
            (3, 3),
            (0, 1),
            (-1, 0),
            (-1, 1),
            (0, 2),
            (0, 3),
            (0, 9),
            (2, 9),
            (-4, 3),
            (-5, 3),
            (-3, 20),
            (0, 31),
            (0, 32),
            (-64, 63),
            (-9, -2),
            (0, 127),
            (-128, 127),
            (0, 100),
        ] {
            let least = |bits: u32| {
                if lo < 0 { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
            };
            let bits = super::super::num::hull(lo, hi).1;
            for (admits, range) in [
                (Admitted::Bounds { table: 0 }, (lo, hi)),
                (Admitted::Bounds { table: 9 }, (lo, hi)),
                (Admitted::Hull, least(bits)),
                (Admitted::Limbs, least(bits.next_multiple_of(limb))),
            ] {
                let specs = [
                    Some(Spec::Import { lo: lo as i64, hi: hi as i64, admitted: admits }),
                    (admits == Admitted::Hull).then_some(Spec::Bound { lo: lo as i64, hi: hi as i64 }),
                ];
                for spec in specs.into_iter().flatten() {
                    let candidates: Vec<Fr> =
                        wide.iter().map(|&x| fr(x)).chain([half, -half, fr(hi) + half]).collect();
                    let got: Vec<Option<i128>> =
                        admitted(&spec, limb, &candidates).into_iter().map(small).collect();
                    let wanted: Vec<Option<i128>> =
                        wide.iter().filter(|x| (range.0..=range.1).contains(*x)).map(|x| Some(*x)).collect();
                    tried += candidates.len();
                    if got != wanted {
                        return Err(format!("{spec:?}, limb {limb}: admits {got:?}"));
                    }
                }
            }
        }
    }
    Ok(tried)
}

/// Elements of sorted rows: all triples of value, index and key that may follow a key.
pub(super) fn sorted_rows_ascend() -> Result<usize, String> {
    let mut tried = 0;
    for descending in [false, true] {
        for (lo, hi, bits) in [(-2i128, 1i128, 1u32), (0, 3, 2), (-4, 3, 3)] {
            let limb = 2;
            let mut tables = Tables::new(functions());
            let spec = Spec::Sorted { bits, descending, lo: lo as i64, hi: hi as i64 };
            let template = build(&spec, limb, 12, &mut tables);
            let sign = if descending { -1 } else { 1 };
            let n = 1i128 << bits;
            let hull = super::super::num::hull(lo, hi).1.next_multiple_of(limb);
            let (least, most) =
                if lo < 0 { (-(1 << (hull - 1)), (1 << (hull - 1)) - 1) } else { (0, (1 << hull) - 1) };
            let before = template.defs.iter().position(|d| matches!(d, Def::Wire(2))).unwrap_or(0) as u16;
            let gap = (hi - lo + 1) << bits;
            for previous in [sign * (lo + hi) / 2 * n, -n, 0, 1, 3] {
                let problem = Problem {
                    template: &template,
                    tables: &tables,
                    entries: &[],
                    port: None,
                    without: None,
                    honest: None,
                    patience: 400_000,
                    most: 5_000,
                };
                let (found, complete) = problem.solve(&[(before, fr(previous))]);
                let mut got: Vec<Vec<Option<i128>>> = found
                    .iter()
                    .map(|f| template.outs.iter().map(|&v| small(f[v as usize])).collect())
                    .collect();
                got.sort();
                got.dedup();
                tried += got.len();
                let right = |o: &Vec<Option<i128>>| {
                    let [Some(x), Some(i), Some(w)] = o.as_slice() else { return false };
                    (least..=most).contains(x)
                        && (0..n).contains(i)
                        && *w == sign * x * n + i
                        && *w > previous
                };
                let needed = (lo..=hi).flat_map(|x| (0..n).map(move |i| (x, i, sign * x * n + i)));
                let needed = needed.filter(|(.., w)| (1..=gap).contains(&(w - previous)));
                let missing =
                    needed.map(|(x, i, w)| vec![Some(x), Some(i), Some(w)]).find(|o| !got.contains(o));
                if !complete || missing.is_some() || !got.iter().all(right) {
                    let bad = got.iter().find(|o| !right(o));
                    return Err(format!(
                        "sorted rows after {previous}: {bad:?} is admitted, {missing:?} is not; complete: {complete}"
                    ));
                }
            }
        }
    }
    Ok(tried)
}

/// A gathered element is the entry at its key.
pub(super) fn gathered_elements_are_entries() -> Result<usize, String> {
    let mut tables = Tables::new(functions());
    tables.need(Section::Dynamic { id: 0 });
    let template = build(&Spec::Read { dynamic: 0, width: 2 }, 2, 12, &mut tables);
    let entries: Vec<(i128, i128)> = (0..6).map(|key| (key, 40 + key * key)).collect();
    let mut tried = 0;
    for index in -1..=3i128 {
        for column in 0..2i128 {
            let problem = Problem {
                template: &template,
                tables: &tables,
                entries: &entries,
                port: None,
                without: None,
                honest: None,
                patience: 10_000,
                most: 40,
            };
            let (found, complete) = problem.solve(&[(0, fr(index)), (1, fr(column))]);
            let got: Vec<Option<i128>> = found.iter().map(|f| small(f[template.outs[0] as usize])).collect();
            let wanted: Vec<Option<i128>> =
                entries.iter().filter(|(key, _)| *key == 2 * index + column).map(|e| Some(e.1)).collect();
            tried += 1;
            if got != wanted || !complete {
                return Err(format!("gather of {index}, {column}: {got:?}, not {wanted:?}"));
            }
        }
    }
    Ok(tried)
}

trait InvertOrZero {
    fn invert_or_zero(self) -> Self;
}

impl InvertOrZero for Fr {
    fn invert_or_zero(self) -> Self {
        use ff::Field;
        Option::from(self.invert()).unwrap_or(Fr::ZERO)
    }
}
