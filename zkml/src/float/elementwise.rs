//! Element-wise operators with broadcasting.

use crate::onnx::{DType, Data, TensorF, broadcast, broadcast_map, checked_len};

use super::special;
use super::{Call, OpError};

pub(super) fn elementwise(c: &Call<'_>) -> Result<TensorF, OpError> {
    let op = c.node.op.as_str();
    if let Some(f) = special::unary(op, &c.node.attrs)? {
        return unary(op, c.input(0)?, f);
    }
    match op {
        "Not" => map_int(c.input(0)?, DType::Bool, |v| i64::from(v == 0)),
        "Cast" => {
            let code = c.node.attrs.int("to")?.ok_or("attribute `to` is missing")?;
            let to = i32::try_from(code).ok().and_then(DType::from_onnx);
            cast(c.input(0)?, to.ok_or_else(|| OpError::Unsupported(format!("cast to type {code}")))?)
        }
        "CastLike" => cast(c.input(0)?, c.input(1)?.dtype),
        "Clip" => clip(c),
        "PRelu" => {
            // The standard broadcasts the slope alone; runtimes broadcast both.
            binary(
                c.input(0)?,
                c.input(1)?,
                None,
                |x, s| if x < 0.0 { s * x } else { x },
                |x, s| {
                    if x < 0 { s.wrapping_mul(x) } else { x }
                },
            )
        }
        "Where" => select(c),
        "Sum" | "Mean" | "Max" | "Min" => variadic(c),
        "IsNaN" => test(c.input(0)?, f64::is_nan),
        "IsInf" => {
            let down = c.node.attrs.int_or("detect_negative", 1)? != 0;
            let up = c.node.attrs.int_or("detect_positive", 1)? != 0;
            test(c.input(0)?, |v| v.is_infinite() && if v > 0.0 { up } else { down })
        }
        "Equal" => compare(c, |a, b| a == b, |a, b| a == b),
        "Less" => compare(c, |a, b| a < b, |a, b| a < b),
        "LessOrEqual" => compare(c, |a, b| a <= b, |a, b| a <= b),
        "Greater" => compare(c, |a, b| a > b, |a, b| a > b),
        "GreaterOrEqual" => compare(c, |a, b| a >= b, |a, b| a >= b),
        "And" => logical(c, |a, b| a & b),
        "Or" => logical(c, |a, b| a | b),
        "Xor" => logical(c, |a, b| a ^ b),
        "BitShift" => {
            let left = match c.node.attrs.str("direction")? {
                Some("LEFT") => true,
                Some("RIGHT") => false,
                other => return Err(format!("direction {other:?}").into()),
            };
            let x = c.input(0)?;
            let unsigned = x.dtype == DType::U64;
            binary(
                x,
                c.input(1)?,
                None,
                |a, _| a,
                |a, b| {
                    // Past the width: all of the bits leave. The standard shifts unsigned integers only; signs fill from the left.
                    let by = u32::try_from(b).unwrap_or(64);
                    if left {
                        a.checked_shl(by).unwrap_or(0)
                    } else if unsigned {
                        (a as u64).checked_shr(by).unwrap_or(0) as i64
                    } else {
                        a >> by.min(63)
                    }
                },
            )
        }
        _ => {
            let (a, b) = (c.input(0)?, c.input(1)?);
            let unsigned = a.dtype == DType::U64;
            match op {
                "Div" if unsigned => binary(a, b, None, |x, _| x, whole(|x, y| x.checked_div(y))),
                "Mod" if unsigned => binary(a, b, None, |x, _| x, whole(|x, y| x.checked_rem(y))),
                "Add" => binary(a, b, None, |x, y| x + y, i64::wrapping_add),
                "Sub" => binary(a, b, None, |x, y| x - y, i64::wrapping_sub),
                "Mul" => binary(a, b, None, |x, y| x * y, i64::wrapping_mul),
                "Div" => binary(a, b, None, |x, y| x / y, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) }),
                "Pow" => pow(a, b),
                "Mod" => {
                    let c_style = c.node.attrs.int_or("fmod", 0)? != 0;
                    let euclid = |x: i64, y: i64| {
                        if y == 0 { 0 } else { x.wrapping_sub(y.wrapping_mul(x.div_floor_(y))) }
                    };
                    binary(
                        a,
                        b,
                        None,
                        |x, y| if c_style { x % y } else { x - y * (x / y).floor() },
                        |x, y| {
                            if y == 0 {
                                0
                            } else if c_style {
                                x.wrapping_rem(y)
                            } else {
                                euclid(x, y)
                            }
                        },
                    )
                }
                other => Err(OpError::Unsupported(format!("there is no rule for {other}"))),
            }
        }
    }
}

/// A function of unsigned integers on bit patterns; zero where it has no result.
fn whole(f: impl Fn(u64, u64) -> Option<u64>) -> impl Fn(i64, i64) -> i64 {
    move |x, y| f(x as u64, y as u64).unwrap_or(0) as i64
}

/// Floored division, which the standard library keeps unstable.
trait DivFloor {
    fn div_floor_(self, other: Self) -> Self;
}

impl DivFloor for i64 {
    fn div_floor_(self, y: i64) -> i64 {
        let q = self.wrapping_div(y);
        if self.wrapping_rem(y) != 0 && ((self < 0) != (y < 0)) { q - 1 } else { q }
    }
}

fn map_int(x: &TensorF, dtype: DType, f: impl Fn(i64) -> i64) -> Result<TensorF, OpError> {
    Ok(TensorF::int(x.shape.clone(), dtype, x.to_i64().into_iter().map(f).collect())?)
}

fn unary(op: &str, x: &TensorF, f: special::Function) -> Result<TensorF, OpError> {
    let data = match &x.data {
        Data::F(v) => Data::F(v.iter().map(|&v| x.dtype.round(f(v))).collect()),
        Data::I(v) => Data::I(match op {
            "Abs" | "Relu" if x.dtype == DType::U64 => v.clone(),
            "Sign" if x.dtype == DType::U64 => v.iter().map(|v| i64::from(*v != 0)).collect(),
            "Abs" => v.iter().map(|v| x.dtype.wrap(v.wrapping_abs())).collect(),
            "Neg" => v.iter().map(|&v| x.dtype.wrap(v.wrapping_neg())).collect(),
            "Sign" => v.iter().map(|v| v.signum()).collect(),
            "Relu" => v.iter().map(|v| *v.max(&0)).collect(),
            "Ceil" | "Floor" | "Round" => v.clone(),
            _ => return Err(format!("{op} of integers").into()),
        }),
    };
    Ok(TensorF::new(x.shape.clone(), x.dtype, data)?)
}

/// Applies a function to broadcast operands; the result has the type of the first unless one is given.
pub(super) fn binary(
    a: &TensorF,
    b: &TensorF,
    dtype: Option<DType>,
    f: impl Fn(f64, f64) -> f64,
    g: impl Fn(i64, i64) -> i64,
) -> Result<TensorF, OpError> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let n = checked_len(&shape)?;
    let (ma, mb) = (broadcast_map(&a.shape, &shape), broadcast_map(&b.shape, &shape));
    let at = |m: &Option<Vec<usize>>, i: usize| m.as_ref().map_or(i, |m| m[i]);
    let dtype = dtype.unwrap_or(a.dtype);
    let data = match (&a.data, &b.data) {
        (Data::I(x), Data::I(y)) => {
            Data::I((0..n).map(|i| dtype.wrap(g(x[at(&ma, i)], y[at(&mb, i)]))).collect())
        }
        (Data::F(x), Data::F(y)) => {
            Data::F((0..n).map(|i| dtype.round(f(x[at(&ma, i)], y[at(&mb, i)]))).collect())
        }
        _ => return Err(format!("operands of types {} and {}", a.dtype, b.dtype).into()),
    };
    Ok(TensorF::new(shape, dtype, data)?)
}

/// ONNX allows base and exponent of different types; the result has the base's. Squares and cubes of integers are exact and wrap, other powers of
/// them are real ones with the fraction cut off.
fn pow(a: &TensorF, b: &TensorF) -> Result<TensorF, OpError> {
    let dtype = a.dtype;
    if let (Data::I(_), Some(e)) = (&a.data, b.single()) {
        let power = |n: u32| binary(a, a, None, |x, _| x, move |x, _| x.wrapping_pow(n));
        let shape = broadcast(&a.shape, &b.shape)?;
        if e == 2.0 || e == 3.0 {
            return Ok(power(e as u32)?.broadcast_to(&shape)?);
        }
    }
    let float = |t: &TensorF| TensorF::float(t.shape.clone(), DType::F64, t.to_f64());
    let r = binary(&float(a)?, &float(b)?, None, f64::powf, |x, _| x)?;
    cast(&r, dtype)
}

fn compare(
    c: &Call<'_>,
    f: impl Fn(f64, f64) -> bool,
    g: impl Fn(i64, i64) -> bool,
) -> Result<TensorF, OpError> {
    let (a, b) = (c.input(0)?, c.input(1)?);
    let key = |v: i64| a.dtype.order_key(v);
    let r = binary(a, b, None, |a, b| f64::from(u8::from(f(a, b))), |a, b| g(key(a), key(b)).into())?;
    cast(&r, DType::Bool)
}

fn test(x: &TensorF, f: impl Fn(f64) -> bool) -> Result<TensorF, OpError> {
    let data = x.to_f64().into_iter().map(|v| f(v).into()).collect();
    Ok(TensorF::int(x.shape.clone(), DType::Bool, data)?)
}

fn logical(c: &Call<'_>, f: impl Fn(i64, i64) -> i64) -> Result<TensorF, OpError> {
    let bool_of = |i: usize| cast(c.input(i)?, DType::Bool);
    binary(&bool_of(0)?, &bool_of(1)?, Some(DType::Bool), |a, _| a, f)
}

pub(super) fn cast(x: &TensorF, to: DType) -> Result<TensorF, OpError> {
    let data = match (&x.data, to.is_float()) {
        (Data::F(v), true) => Data::F(v.iter().map(|&v| to.nearest(v)).collect()),
        (Data::F(v), false) if to == DType::Bool => Data::I(v.iter().map(|&v| i64::from(v != 0.0)).collect()),
        (Data::F(v), false) => Data::I(v.iter().map(|&v| to.truncate(v)).collect()),
        (Data::I(v), true) => Data::F(v.iter().map(|&v| to.nearest(x.dtype.real(v))).collect()),
        (Data::I(v), false) => Data::I(v.iter().map(|&v| to.wrap(v)).collect()),
    };
    Ok(TensorF::new(x.shape.clone(), to, data)?)
}

/// The lower bound first: where it is past the upper one, every element is the upper one.
fn clip(c: &Call<'_>) -> Result<TensorF, OpError> {
    let x = c.input(0)?;
    let key = |v: i64| x.dtype.order_key(v);
    let data = match &x.data {
        Data::F(v) => {
            let bound = |i: usize, name: &str| -> Result<Option<f64>, OpError> {
                match c.opt(i) {
                    Some(t) => Ok(Some(t.single().ok_or_else(|| format!("`{name}` is not a scalar"))?)),
                    None => Ok(c.node.attrs.float(name)?),
                }
            };
            let (lo, hi) = (bound(1, "min")?, bound(2, "max")?);
            let (lo, hi) = (lo.unwrap_or(f64::NEG_INFINITY), hi.unwrap_or(f64::INFINITY));
            Data::F(v.iter().map(|v| v.max(lo).min(hi)).collect())
        }
        Data::I(v) => {
            let bound = |i: usize, name: &str| -> Result<Option<i64>, OpError> {
                let wrong = || OpError::Invalid(format!("`{name}` is not an integer scalar"));
                c.opt(i).map(|t| t.single_int().ok_or_else(wrong)).transpose()
            };
            let (lo, hi) = (bound(1, "min")?, bound(2, "max")?);
            let clipped = |v: i64| {
                let v = lo.filter(|&lo| key(v) < key(lo)).unwrap_or(v);
                hi.filter(|&hi| key(v) > key(hi)).unwrap_or(v)
            };
            Data::I(v.iter().map(|&v| clipped(v)).collect())
        }
    };
    Ok(TensorF::new(x.shape.clone(), x.dtype, data)?)
}

fn select(c: &Call<'_>) -> Result<TensorF, OpError> {
    let (cond, a, b) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let shape = broadcast(&broadcast(&a.shape, &b.shape)?, &cond.shape)?;
    let (cond, a, b) = (cond.broadcast_to(&shape)?, a.broadcast_to(&shape)?, b.broadcast_to(&shape)?);
    let pick = cond.to_i64();
    let data = match (&a.data, &b.data) {
        (Data::F(x), Data::F(y)) => {
            Data::F(pick.iter().enumerate().map(|(i, &p)| if p != 0 { x[i] } else { y[i] }).collect())
        }
        (Data::I(x), Data::I(y)) => {
            Data::I(pick.iter().enumerate().map(|(i, &p)| if p != 0 { x[i] } else { y[i] }).collect())
        }
        _ => return Err(format!("operands of types {} and {}", a.dtype, b.dtype).into()),
    };
    Ok(TensorF::new(shape, a.dtype, data)?)
}

fn variadic(c: &Call<'_>) -> Result<TensorF, OpError> {
    let all = c.all()?;
    let mut acc = all[0].clone();
    let dtype = acc.dtype;
    let key = |v: i64| dtype.order_key(v);
    for t in &all[1..] {
        acc = match c.node.op.as_str() {
            "Max" => binary(&acc, t, None, f64::max, |a, b| if key(a) < key(b) { b } else { a })?,
            "Min" => binary(&acc, t, None, f64::min, |a, b| if key(b) < key(a) { b } else { a })?,
            _ => binary(&acc, t, None, |a, b| a + b, i64::wrapping_add)?,
        };
    }
    if c.node.op == "Mean" {
        let n = all.len() as f64;
        if let Data::F(v) = &mut acc.data {
            v.iter_mut().for_each(|v| *v = acc.dtype.round(*v / n));
        }
    }
    Ok(acc)
}
