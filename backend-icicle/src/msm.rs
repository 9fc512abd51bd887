//! Multi-scalar multiplication.
//!
//! Bases are uploaded once per handle and brought to standard form on the device; scalars stay in Montgomery form, which every backend
//! of Icicle undoes itself. Columns of similar length form one batched call, padded with zeros on the device. The window
//! width is always given: what the library would choose depends on the machine, and bases precomputed for one width are wrong for
//! another.
//!
//! Results come back in homogeneous coordinates and standard form. Each is checked to be on the curve before it is believed.

use std::any::Any;
use std::sync::Arc;

use ff::{Field, PrimeField};
use group::prime::PrimeCurveAffine;
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use parhelion_backend_api::hal::{Prepared, Ref, as_bytes};
use parhelion_backend_api::msm::check_batch;
use parhelion_backend_api::{Bases, Error, Msm, MsmShape, Op, Queue, Reuse, ScalarKind, SpaceId, Support};

use crate::buffer::Memory;
use crate::columns::Columns;
use crate::device::Device;
use crate::error::Failure;
use crate::library::CPU;
use crate::session::{MsmParameters, POINT, Projective, SCALAR, Session};

/// Sizes of the C interface are `int`.
const MAX_LEN: usize = i32::MAX as usize;
/// Scalars of one call where the device does not say how much memory it has: 512 MiB.
const CALL_BYTES: u64 = 1 << 29;

/// Multi-scalar multiplication on a device of Icicle.
#[derive(Debug)]
pub(crate) struct IcicleMsm {
    device: Arc<Device>,
    oracle: bool,
    precompute: u64,
}

/// Bases on the device, in standard form.
#[derive(Debug)]
struct DeviceBases {
    device: Arc<Device>,
    plain: Arc<Memory>,
    /// Multiples of the bases, and the only parameters that they are good for.
    multiples: Option<(Arc<Memory>, MsmParameters)>,
}

impl Prepared for DeviceBases {
    fn space(&self) -> SpaceId {
        self.device.space()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Width of the windows: that of Icicle's CUDA backend by default, but never so narrow that its CPU backend divides its buckets into
/// segments of less than one.
fn window(len: usize) -> i32 {
    (len.max(1).ilog2() as i32 - 4).clamp(8, 20)
}

impl IcicleMsm {
    pub(crate) fn new(device: Arc<Device>, kind: &str, precompute: u64) -> Self {
        IcicleMsm { device, oracle: kind == CPU, precompute }
    }

    /// Bytes that one column of `len` scalars takes by Icicle's own estimate for CUDA: itself, indices that are sorted by bucket, and
    /// buckets with what reduces them.
    fn column_bytes(len: usize) -> u64 {
        let windows = 254u64.div_ceil(window(len) as u64);
        let buckets = (384 * windows) << window(len);
        (len as u64).saturating_mul(SCALAR + 28 * windows).saturating_add(buckets)
    }

    /// How many columns of this length go into one call.
    fn columns_per_call(&self, len: usize) -> usize {
        let room = self.device.memory_info().free.map_or(CALL_BYTES, |free| free / 2);
        // CUDA numbers the buckets of a call, of all columns, in 32 bits.
        let window = window(len) as u32;
        let most = 1usize << (31 - window - 254u32.div_ceil(window).next_power_of_two().ilog2()).min(12);
        usize::try_from(room / Self::column_bytes(len).max(1)).unwrap_or(usize::MAX).clamp(1, most)
    }

    fn parameters(&self, len: usize, kind: ScalarKind) -> MsmParameters {
        let window = window(len);
        let bits = match kind {
            // The CPU device's arithmetic for short scalars leaves too few buckets for its segments.
            ScalarKind::Unsigned { bits } if !self.oracle && (1..254).contains(&bits) => {
                i32::from(bits).max(window)
            }
            // A negative scalar is as long as the field.
            _ => 0,
        };
        MsmParameters { window, precompute: 1, bits }
    }
}

impl Msm<G1Affine> for IcicleMsm {
    fn supports(&self, shape: &MsmShape) -> Support {
        if shape.len > MAX_LEN {
            return Support::No(format!("{} scalars exceed the limit of 2^31 - 1", shape.len));
        }
        Support::Yes
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        // A batch that does not fit is split: one column is what is needed.
        if shape.batch == 0 { 0 } else { Self::column_bytes(shape.len) }
    }

    fn prepare(&self, _: &Queue, bases: &[G1Affine], reuse: Reuse) -> Result<Bases<G1Affine>, Error> {
        if bases.len() > MAX_LEN {
            let why = format!("{} bases exceed the limit of 2^31 - 1", bases.len());
            return Err(Error::Unsupported { backend: crate::NAME, op: Op::MSM, why });
        }
        let bytes = bases.len() as u64 * POINT;
        let free = self.device.memory_info().free.map_or(u64::MAX, |free| free / 4);
        let budget = if reuse == Reuse::Often { self.precompute.min(free) } else { 0 };
        let factor =
            [8, 4, 2].into_iter().find(|factor| bytes > 0 && bytes.saturating_mul(*factor) <= budget);
        let multiples = factor.map(|factor| MsmParameters {
            window: window(bases.len()),
            precompute: factor as i32,
            bits: 0,
        });
        let source = as_bytes(bases);
        let mut words = self.device.staging(source.len() / 8)?;
        parhelion_backend_api::hal::as_bytes_mut(&mut words)[..source.len()].copy_from_slice(source);
        let device = self.device.clone();
        let prepared = self.device.run("preparing bases", move |session| {
            let plain = Memory::alloc(session, &device, bytes, "bases")?;
            if bytes > 0 {
                let source = crate::session::bytes_of(&words).get(..bytes as usize).unwrap_or_default();
                session.upload(source, &plain.all())?;
                session.points_to_standard(&plain.all())?;
            }
            let multiples = match multiples {
                None => None,
                Some(parameters) => {
                    let out =
                        Memory::alloc(session, &device, bytes * parameters.precompute as u64, "multiples")?;
                    session.precompute(&plain.all(), &out.all(), parameters)?;
                    Some((Arc::new(out), parameters))
                }
            };
            Ok((DeviceBases { device, plain: Arc::new(plain), multiples }, words))
        });
        let (prepared, words) = prepared.map_err(|failure| failure.untouched(Op::MSM))?;
        self.device.recycle(words);
        Ok(Bases::new(Arc::new(prepared), bases.len()))
    }

    fn msm_batch(
        &self,
        _: &Queue,
        bases: &Bases<G1Affine>,
        scalars: &[Ref<'_, Fr>],
        kind: ScalarKind,
        out: &mut [G1],
    ) -> Result<(), Error> {
        let handle = bases.downcast::<DeviceBases>(self.device.space())?;
        if !Arc::ptr_eq(&handle.device, &self.device) {
            let expected = self.device.space();
            return Err(Error::WrongSpace { name: "bases", expected, found: handle.space() });
        }
        check_batch(bases.len(), scalars, out.len())?;
        let mut results = vec![G1::default(); out.len()];
        // Columns by length, longest first: those of one call are padded to the longest, to less than twice their length.
        let mut order: Vec<usize> = (0..scalars.len()).filter(|i| !scalars[*i].is_empty()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(scalars[*i].len()));
        let mut rest = order.as_slice();
        while let Some(first) = rest.first() {
            let len = scalars[*first].len();
            let similar = rest.iter().take_while(|i| scalars[**i].len() * 2 > len).count();
            let (call, others) = rest.split_at(similar.min(self.columns_per_call(len)));
            rest = others;
            let columns: Vec<Ref<'_, Fr>> = call.iter().map(|i| scalars[*i]).collect();
            let points = self.call(handle, &columns, len, kind)?;
            for (i, point) in call.iter().zip(points) {
                results[*i] = point;
            }
        }
        out.copy_from_slice(&results);
        Ok(())
    }
}

impl IcicleMsm {
    /// One call of the library: columns of at most `len` scalars.
    fn call(
        &self,
        bases: &DeviceBases,
        columns: &[Ref<'_, Fr>],
        len: usize,
        kind: ScalarKind,
    ) -> Result<Vec<G1>, Error> {
        let batch = columns.len();
        let columns = Columns::read(&self.device, columns, len)?;
        let short = self.parameters(len, kind);
        let (points, parameters) = match &bases.multiples {
            // Short scalars have few windows already.
            Some((multiples, parameters)) if short.bits == 0 => (multiples.clone(), *parameters),
            _ => (bases.plain.clone(), short),
        };
        let device = self.device.clone();
        let done = self.device.run("bn254_msm", move |session: &Session| {
            let (scalars, words) = columns.fill(session, &device)?;
            let results = session.msm(&scalars.all(), &points.all(), batch, parameters)?;
            Ok((results, words))
        });
        let (results, words) = done.map_err(|failure| failure.untouched(Op::MSM))?;
        self.device.recycle(words);
        results.iter().map(|point| to_curve(point).map_err(Failure::touched)).collect()
    }
}

/// The point of a result, if it is one.
fn to_curve(point: &Projective) -> Result<G1, Failure> {
    let malformed = |what| Failure::Malformed { call: "bn254_msm", what };
    let coordinate = |limbs: &[u64; 4]| {
        let mut repr = <Fq as PrimeField>::Repr::default();
        for (bytes, limb) in repr.as_mut().chunks_exact_mut(8).zip(limbs) {
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        Option::<Fq>::from(Fq::from_repr(repr)).ok_or(malformed("a coordinate that is not below the modulus"))
    };
    let [x, y, z] = point;
    let (x, y, z) = (coordinate(x)?, coordinate(y)?, coordinate(z)?);
    let Some(inverse) = Option::<Fq>::from(z.invert()) else {
        // (0 : y : 0) is the identity, for any y but 0.
        let identity = x == Fq::ZERO && y != Fq::ZERO;
        return if identity { Ok(G1::default()) } else { Err(malformed("three zeros")) };
    };
    let affine = Option::<G1Affine>::from(G1Affine::from_xy(x * inverse, y * inverse));
    affine.map(|point| point.to_curve()).ok_or(malformed("a point that is not on the curve"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use group::{Curve, Group};
    use halo2curves::CurveExt;

    fn raw(x: Fq, y: Fq, z: Fq) -> Projective {
        [x, y, z].map(|value| {
            let repr = value.to_repr();
            let bytes: &[u8] = repr.as_ref();
            std::array::from_fn(|i| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap()))
        })
    }

    #[test]
    fn results_are_homogeneous() {
        let point = (G1::generator() * Fr::from(77)).to_affine();
        let z = Fq::from(12345);
        // Jacobian coordinates of the same point would be (x·z², y·z³, z).
        assert_eq!(to_curve(&raw(point.x * z, point.y * z, z)), Ok(point.to_curve()));
        assert!(to_curve(&raw(point.x * z.square(), point.y * z.square() * z, z)).is_err());
        assert_eq!(to_curve(&raw(Fq::ZERO, Fq::ONE, Fq::ZERO)), Ok(G1::identity()));
        assert!(G1::new_jacobian(point.x, point.y, Fq::ONE).is_some().unwrap_u8() == 1);
    }

    #[test]
    fn what_is_not_a_point_is_refused() {
        let one = Fq::ONE;
        assert!(to_curve(&raw(one, one, one)).is_err());
        assert!(to_curve(&raw(Fq::ZERO, Fq::ZERO, Fq::ZERO)).is_err());
        assert!(to_curve(&raw(one, one, Fq::ZERO)).is_err());
        assert!(to_curve(&[[u64::MAX; 4]; 3]).is_err(), "what was there before the call");
    }

    #[test]
    fn windows_are_within_what_every_backend_takes() {
        for log in 0..31 {
            assert!((8..=20).contains(&window(1 << log)));
        }
        assert_eq!((window(0), window(1 << 16), window(1 << 24)), (8, 12, 20));
    }
}
