//! Dense tensors of ONNX values, and the shape arithmetic that every later stage uses.
//!
//! Integers and booleans are held exactly, as `i64`; floats are held as `f64` and rounded to their declared type where ONNX rounds.
//! Tensors are row-major. Lengths are checked products, bounded by [`MAX_ELEMENTS`], so that a hostile shape is an error and never
//! an allocation.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Greatest number of elements of one tensor.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Element type of an ONNX tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// Boolean, held as 0 or 1.
    Bool,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer, held as its two's complement bit pattern: see [`TensorF::at`].
    U64,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DType {
    /// The type of a `TensorProto.DataType` code, where it is one that a circuit can hold.
    pub fn from_onnx(code: i32) -> Option<DType> {
        Some(match code {
            1 => DType::F32,
            2 => DType::U8,
            3 => DType::I8,
            4 => DType::U16,
            5 => DType::I16,
            6 => DType::I32,
            7 => DType::I64,
            9 => DType::Bool,
            10 => DType::F16,
            11 => DType::F64,
            12 => DType::U32,
            13 => DType::U64,
            16 => DType::Bf16,
            _ => return None,
        })
    }

    /// Name as ONNX Runtime and NumPy write it.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::U8 => "uint8",
            DType::U16 => "uint16",
            DType::U32 => "uint32",
            DType::U64 => "uint64",
            DType::F16 => "float16",
            DType::Bf16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
        }
    }

    /// Bytes of an element in a file.
    pub(crate) fn file_bytes(self) -> usize {
        match self {
            DType::Bool | DType::I8 | DType::U8 => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::Bf16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            DType::I64 | DType::U64 | DType::F64 => 8,
        }
    }

    /// Whether values are real numbers, which quantisation rounds.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::Bf16 | DType::F32 | DType::F64)
    }

    /// Least and greatest value of an integer type that a circuit holds: of uint64, the half that fits 63 bits; `None` for floats.
    pub fn int_bounds(self) -> Option<(i64, i64)> {
        Some(match self {
            DType::Bool => (0, 1),
            DType::I8 => (i8::MIN.into(), i8::MAX.into()),
            DType::I16 => (i16::MIN.into(), i16::MAX.into()),
            DType::I32 => (i32::MIN.into(), i32::MAX.into()),
            DType::I64 => (i64::MIN, i64::MAX),
            DType::U8 => (0, u8::MAX.into()),
            DType::U16 => (0, u16::MAX.into()),
            DType::U32 => (0, u32::MAX.into()),
            DType::U64 => (0, i64::MAX),
            _ => return None,
        })
    }

    /// `v` as a value of this float type is held: rounded for single precision, unchanged for the others.
    pub fn round(self, v: f64) -> f64 {
        if self == DType::F32 { f64::from(v as f32) } else { v }
    }

    /// The number of this float type that is nearest to `v`, ties to even: what a file or a cast gives it. Results of operators of half precision keep
    /// more than it, as runtimes compute them in single precision; see [`DType::round`].
    pub fn nearest(self, v: f64) -> f64 {
        let (bits, least, most) = match self {
            DType::F16 => (10, -14, 65504.0),
            DType::Bf16 => (7, -126, f64::from(f32::from_bits(0x7f7f_0000))),
            _ => return self.round(v),
        };
        if v == 0.0 || !v.is_finite() {
            return v;
        }
        let exponent = (v.abs().log2().floor() as i32).max(least);
        let unit = f64::from(exponent - bits).exp2();
        let nearest = (v / unit).round_ties_even() * unit;
        if nearest.abs() > most { f64::INFINITY.copysign(v) } else { nearest }
    }

    /// Number of bits of a mantissa, the leading one included; 64 for integers.
    pub fn mantissa_bits(self) -> i32 {
        match self {
            DType::F16 => 11,
            DType::Bf16 => 8,
            DType::F32 => 24,
            DType::F64 => 53,
            _ => 64,
        }
    }

    /// A key by which integers of this type are ordered, whose bit patterns are held in `i64`.
    pub(crate) fn order_key(self, v: i64) -> i64 {
        if self == DType::U64 { v ^ i64::MIN } else { v }
    }

    /// An integer of this type as a real number, rounded to double precision.
    pub(crate) fn real(self, v: i64) -> f64 {
        if self == DType::U64 { v as u64 as f64 } else { v as f64 }
    }

    /// A real number as an integer of this type, the fraction cut off. Numbers that the type does not hold, for which ONNX defines no result, become
    /// what ONNX Runtime makes of them on x86: the least integer, or its low bits.
    pub(crate) fn truncate(self, v: f64) -> i64 {
        let v = v.trunc();
        let wide = |v: f64| if (-exp63()..exp63()).contains(&v) { v as i64 } else { i64::MIN };
        let narrow = |v: f64| {
            if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&v) {
                i64::from(v as i32)
            } else {
                i32::MIN.into()
            }
        };
        match self {
            DType::Bool => i64::from(v != 0.0),
            DType::I64 => wide(v),
            DType::U64 if v >= exp63() && v < 2.0 * exp63() => v as u64 as i64,
            DType::U64 => wide(v),
            DType::U32 => self.wrap(wide(v)),
            _ => self.wrap(narrow(v)),
        }
    }

    /// `v` as two's complement arithmetic of this integer type leaves it.
    pub fn wrap(self, v: i64) -> i64 {
        match self {
            DType::Bool => i64::from(v != 0),
            DType::I8 => (v as i8).into(),
            DType::I16 => (v as i16).into(),
            DType::I32 => (v as i32).into(),
            DType::U8 => (v as u8).into(),
            DType::U16 => (v as u16).into(),
            DType::U32 => (v as u32).into(),
            _ => v,
        }
    }
}

/// 2^63.
fn exp63() -> f64 {
    63f64.exp2()
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Of a float type.
    F(Vec<f64>),
    /// Of an integer or boolean type.
    I(Vec<i64>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F(v) => v.len(),
            Data::I(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor of the float model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorF {
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// Row-major elements; [`Data::F`] exactly when the type is a float.
    pub data: Data,
}

/// A shape or a type that does not fit its data, or a shape that is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The product of the dimensions is past [`MAX_ELEMENTS`], or past what an import has left of its limit.
    #[error("shape {0:?} has more elements than are allowed")]
    TooLarge(Vec<usize>),
    /// The number of elements differs from the shape's.
    #[error("shape {shape:?} does not hold {len} elements")]
    Length {
        /// Shape.
        shape: Vec<usize>,
        /// Number of elements.
        len: usize,
    },
    /// Real numbers as elements of an integer type, or the other way round.
    #[error("elements of another kind than {0}")]
    Kind(DType),
    /// Shapes that do not broadcast.
    #[error("shapes {0:?} and {1:?} do not broadcast")]
    Broadcast(Vec<usize>, Vec<usize>),
}

thread_local! {
    /// Greatest number of elements on this thread.
    static ROOM: Cell<usize> = const { Cell::new(MAX_ELEMENTS) };
}

/// Runs `f` on this thread with tensors of at most `most` elements, so that what a file asks for is refused before it is made.
pub(crate) fn with_room<R>(most: usize, f: impl FnOnce() -> R) -> R {
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            ROOM.set(self.0);
        }
    }
    let _before = Before(ROOM.replace(most.min(MAX_ELEMENTS)));
    f()
}

/// Checked number of elements of a shape.
pub fn checked_len(shape: &[usize]) -> Result<usize, ShapeError> {
    // Lengths beside a zero count too: products of some of them, such as strides, must not overflow either.
    let product = shape
        .iter()
        .filter(|d| **d != 0)
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= ROOM.get())
        .ok_or_else(|| ShapeError::TooLarge(shape.to_vec()))?;
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// Row-major strides.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// Multi-index of a flat index.
pub fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut out = vec![0; shape.len()];
    for (o, &d) in out.iter_mut().zip(shape).rev() {
        if d > 0 {
            *o = flat % d;
            flat /= d;
        }
    }
    out
}

/// Common shape of NumPy broadcasting.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, ShapeError> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(ShapeError::Broadcast(a.to_vec(), b.to_vec())),
        })
        .collect()
}

/// For every element of `out`, the flat index of the element of `from` that broadcasting reads; `None` where the shapes have the same
/// elements in the same order. `from` must broadcast to `out`.
pub fn broadcast_map(from: &[usize], out: &[usize]) -> Option<Vec<usize>> {
    let trimmed = |s: &[usize]| s.iter().copied().skip_while(|&d| d == 1).collect::<Vec<_>>();
    if trimmed(from) == trimmed(out) {
        return None;
    }
    let pad = out.len() - from.len().min(out.len());
    let steps: Vec<usize> =
        strides(from).into_iter().zip(from).map(|(s, &d)| if d == 1 { 0 } else { s }).collect();
    let total: usize = out.iter().product();
    let mut map = Vec::with_capacity(total);
    if total == 0 {
        return Some(map);
    }
    let mut index = vec![0usize; out.len()];
    let mut at = 0usize;
    loop {
        map.push(at);
        let mut axis = out.len();
        loop {
            if axis == 0 {
                return Some(map);
            }
            axis -= 1;
            let step = if axis >= pad { steps[axis - pad] } else { 0 };
            index[axis] += 1;
            at += step;
            if index[axis] < out[axis] {
                break;
            }
            at -= step * out[axis];
            index[axis] = 0;
        }
    }
}

impl TensorF {
    /// A tensor of float type `dtype`; the values are taken as they are.
    pub fn float(shape: Vec<usize>, dtype: DType, data: Vec<f64>) -> Result<TensorF, ShapeError> {
        Self::new(shape, dtype, Data::F(data))
    }

    /// A tensor of an integer or boolean type; the values are taken as they are.
    pub fn int(shape: Vec<usize>, dtype: DType, data: Vec<i64>) -> Result<TensorF, ShapeError> {
        Self::new(shape, dtype, Data::I(data))
    }

    /// A tensor of any type.
    pub fn new(shape: Vec<usize>, dtype: DType, data: Data) -> Result<TensorF, ShapeError> {
        if checked_len(&shape)? != data.len() {
            return Err(ShapeError::Length { len: data.len(), shape });
        }
        if dtype.is_float() != matches!(data, Data::F(_)) {
            return Err(ShapeError::Kind(dtype));
        }
        Ok(TensorF { shape, dtype, data })
    }

    /// All zero.
    pub fn zeros(shape: Vec<usize>, dtype: DType) -> Result<TensorF, ShapeError> {
        let n = checked_len(&shape)?;
        let data = if dtype.is_float() { Data::F(vec![0.0; n]) } else { Data::I(vec![0; n]) };
        Ok(TensorF { shape, dtype, data })
    }

    /// A one-dimensional `int64` tensor.
    pub fn ints(data: Vec<i64>) -> TensorF {
        TensorF { shape: vec![data.len()], dtype: DType::I64, data: Data::I(data) }
    }

    /// A single-precision scalar.
    pub fn scalar(v: f64) -> TensorF {
        TensorF { shape: vec![], dtype: DType::F32, data: Data::F(vec![v]) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every element as a real number.
    pub fn to_f64(&self) -> Vec<f64> {
        self.as_f64().into_owned()
    }

    /// [`TensorF::to_f64`] without a copy of what is real anyway.
    pub(crate) fn as_f64(&self) -> Cow<'_, [f64]> {
        match &self.data {
            Data::F(v) => Cow::Borrowed(v),
            Data::I(v) => Cow::Owned(v.iter().map(|&x| self.dtype.real(x)).collect()),
        }
    }

    /// Element `i` as a real number; zero past the end.
    pub fn at(&self, i: usize) -> f64 {
        match &self.data {
            Data::F(v) => v.get(i).copied().unwrap_or(0.0),
            Data::I(v) => v.get(i).map_or(0.0, |&x| self.dtype.real(x)),
        }
    }

    /// Every element as an integer: floats are truncated, uint64 are bit patterns.
    pub fn to_i64(&self) -> Vec<i64> {
        match &self.data {
            Data::F(v) => v.iter().map(|&x| x as i64).collect(),
            Data::I(v) => v.clone(),
        }
    }

    /// The single value of a one-element tensor.
    pub fn single(&self) -> Option<f64> {
        (self.len() == 1).then(|| self.at(0))
    }

    /// The single value of a one-element tensor of integers.
    pub fn single_int(&self) -> Option<i64> {
        match &self.data {
            Data::I(v) if v.len() == 1 => v.first().copied(),
            _ => None,
        }
    }

    /// The first element that a circuit has no integer for: a uint64 from 2^63 on.
    pub fn past_i64(&self) -> Option<u64> {
        match &self.data {
            Data::I(v) if self.dtype == DType::U64 => v.iter().find(|v| **v < 0).map(|&v| v as u64),
            _ => None,
        }
    }

    /// The same elements with another shape of the same length.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<TensorF, ShapeError> {
        Self::new(shape, self.dtype, self.data.clone())
    }

    /// Elements picked by flat index, all of which must be within the tensor.
    pub(crate) fn pick(
        &self,
        shape: Vec<usize>,
        picks: impl Iterator<Item = usize>,
    ) -> Result<TensorF, ShapeError> {
        checked_len(&shape)?;
        let data = match &self.data {
            Data::F(v) => Data::F(picks.map(|i| v[i]).collect()),
            Data::I(v) => Data::I(picks.map(|i| v[i]).collect()),
        };
        Self::new(shape, self.dtype, data)
    }

    /// The tensor broadcast to a shape that it broadcasts to.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<TensorF, ShapeError> {
        if broadcast(&self.shape, shape)? != shape {
            return Err(ShapeError::Broadcast(self.shape.clone(), shape.to_vec()));
        }
        checked_len(shape)?;
        match broadcast_map(&self.shape, shape) {
            None => self.reshaped(shape.to_vec()),
            Some(map) => self.pick(shape.to_vec(), map.into_iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]).unwrap(), vec![2, 4, 3]);
        assert_eq!(broadcast(&[], &[5]).unwrap(), vec![5]);
        assert!(broadcast(&[2], &[3]).is_err());
        let t = TensorF::int(vec![2, 1], DType::I64, vec![7, 9]).unwrap();
        assert_eq!(t.broadcast_to(&[2, 3]).unwrap().to_i64(), vec![7, 7, 7, 9, 9, 9]);
        assert_eq!(broadcast_map(&[3], &[1, 3]), None);
        assert_eq!(broadcast_map(&[3], &[2, 3]), Some(vec![0, 1, 2, 0, 1, 2]));
    }

    #[test]
    fn hostile_shapes_are_errors() {
        assert!(matches!(checked_len(&[usize::MAX, 2]), Err(ShapeError::TooLarge(_))));
        assert!(matches!(checked_len(&[usize::MAX, 2, 0]), Err(ShapeError::TooLarge(_))));
        assert_eq!(checked_len(&[7, 2, 0]).unwrap(), 0);
        assert!(matches!(TensorF::zeros(vec![1 << 20, 1 << 20], DType::F32), Err(ShapeError::TooLarge(_))));
        assert!(matches!(TensorF::ints(vec![1, 2]).reshaped(vec![3]), Err(ShapeError::Length { .. })));
        assert_eq!(TensorF::float(vec![1], DType::I8, vec![1.0]), Err(ShapeError::Kind(DType::I8)));
    }

    #[test]
    fn integer_types_wrap() {
        assert_eq!(DType::I8.wrap(130), -126);
        assert_eq!(DType::U8.wrap(-1), 255);
        assert_eq!(DType::Bool.wrap(7), 1);
    }

    #[test]
    fn reals_become_integers_as_in_the_runtime() {
        assert_eq!([300.7, -1.5, -200.3].map(|v| DType::I8.truncate(v)), [44, -1, 56]);
        assert_eq!([300.7, -1.5, 3e9].map(|v| DType::U8.truncate(v)), [44, 255, 0]);
        assert_eq!([3e9, -1.5].map(|v| DType::I32.truncate(v)), [i32::MIN.into(), -1]);
        assert_eq!([3e9, -1.5].map(|v| DType::U32.truncate(v)), [3_000_000_000, 4_294_967_295]);
        assert_eq!(DType::I64.truncate(f64::INFINITY), i64::MIN);
        assert_eq!(DType::U64.truncate(1.5e19) as u64, 15_000_000_000_000_000_000);
    }

    #[test]
    fn half_precision_is_nearest() {
        assert_eq!(DType::F16.nearest(0.1), 0.099_975_585_937_5);
        assert_eq!(DType::F16.nearest(65_519.0), 65_504.0);
        assert_eq!(DType::F16.nearest(-65_520.0), f64::NEG_INFINITY);
        assert_eq!(DType::F16.nearest(2f64.powi(-25) * 1.5), 2f64.powi(-24));
        assert_eq!(DType::Bf16.nearest(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(DType::F32.nearest(0.1), f64::from(0.1f32));
    }

    #[test]
    fn unsigned_integers_of_64_bits_are_whole() {
        let t = TensorF::int(vec![2], DType::U64, vec![-2, 7]).unwrap();
        assert_eq!(t.to_f64(), vec![18_446_744_073_709_551_614.0, 7.0]);
        assert_eq!(t.past_i64(), Some(u64::MAX - 1));
        assert!(DType::U64.order_key(-2) > DType::U64.order_key(7));
    }
}
