//! Multi-scalar multiplication over bases that stay on the device.
//!
//! Bases and scalars cross as they are, in Montgomery form; magnitudes are measured on the device, so that a promise is not needed and a broken
//! one does no harm. Sums come back in XYZZ coordinates, and are checked to be on the curve before they are believed.

use std::any::Any;
use std::sync::Arc;

use ff::{BatchInvert, Field};
use group::prime::PrimeCurveAffine;
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use halo2curves::serde::SerdeObject;
use parhelion_backend_api::hal::{Prepared, Ref, as_bytes};
use parhelion_backend_api::msm::check_batch;
use parhelion_backend_api::{Bases, Error, Msm, MsmShape, Op, Queue, Reuse, ScalarKind, SpaceId, Support};

use crate::NAME;
use crate::buffer::Memory;
use crate::device::Device;
use crate::error::Failure;
use crate::ffi::Limbs;
use crate::operands::{Brought, Source};
use crate::session::{POINT, SCALAR, SUM};

/// Longest column: an entry is an index and a sign in 32 bits.
const MAX_LEN: usize = 1 << 27;

/// Multi-scalar multiplication on a device.
#[derive(Debug)]
pub(crate) struct SpparkMsm(pub(crate) Arc<Device>);

/// Bases on the device, and the number of tables of their multiples with the distance between them in bits.
#[derive(Debug)]
struct DeviceBases {
    space: SpaceId,
    points: Memory,
    cut: (u32, u32),
}

/// Points of all tables at most: an entry names one in 31 bits, and the entries of a window are numbered in 28.
const MAX_POINTS: u64 = 1 << 28;
/// Bits of a scalar's magnitude: the lesser of s and r − s.
const SCALAR_BITS: u32 = 253;

/// How many tables of multiples of `len` bases a budget has room for, and the distance between them: that with the least additions for scalars of
/// full width. `(1, 0)` is the bases alone.
fn tables(len: usize, budget: u64) -> (u32, u32) {
    let len = len as u64;
    let fits = |tables: &u32| len > 0 && u64::from(*tables) * len <= (budget / POINT).min(MAX_POINTS);
    let Some(tables) = [8, 4, 2].into_iter().find(fits) else { return (1, 0) };
    let cost = |width: &u32| {
        let windows = SCALAR_BITS / width + 1;
        let closed = u64::from(windows.div_ceil(tables)) << (width - 1);
        (u64::from(windows) * len + 5 * closed, *width)
    };
    let width = (4..=20).min_by_key(cost).unwrap_or(16);
    let windows = SCALAR_BITS / width + 1;
    let dealt = windows.div_ceil(tables);
    // A table that no window of that width reads is not made.
    (windows.div_ceil(dealt), dealt * width)
}

impl Prepared for DeviceBases {
    fn space(&self) -> SpaceId {
        self.space
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Msm<G1Affine> for SpparkMsm {
    fn supports(&self, shape: &MsmShape) -> Support {
        if shape.len > MAX_LEN {
            return Support::No(format!("{} scalars exceed the limit of 2^27", shape.len));
        }
        Support::Yes
    }

    fn workspace(&self, shape: &MsmShape) -> u64 {
        if shape.batch == 0 || shape.len > MAX_LEN {
            return 0;
        }
        // A batch that does not fit is split, down to one window of one column: its scalars, its entries with what is made of them, and buckets.
        let len = shape.len as u64;
        len * (SCALAR + 4 + 64) + (64 * len + (64 << 10)).min(32 << 20)
    }

    fn prepare(&self, _: &Queue, bases: &[G1Affine], reuse: Reuse) -> Result<Bases<G1Affine>, Error> {
        if bases.len() > MAX_LEN {
            let why = format!("{} bases exceed the limit of 2^27", bases.len());
            return Err(Error::Unsupported { backend: NAME, op: Op::MSM, why });
        }
        let bytes = bases.len() as u64 * POINT;
        let upload = |cut: (u32, u32)| {
            let session = self.0.session()?;
            let points = Memory::alloc(&session, &self.0, bytes * u64::from(cut.0))?;
            session.upload(as_bytes(bases), &points.slice(0, bytes)?)?;
            if cut.0 > 1 {
                session.multiples(&points.all(), cut)?;
            }
            Ok(points)
        };
        let budget = if reuse == Reuse::Often { self.0.precompute() } else { 0 };
        let mut cut = tables(bases.len(), budget);
        let points = match upload(cut) {
            // Multiples are worth having only where there is room.
            Err(Failure::Memory { .. }) if cut.0 > 1 => {
                cut = (1, 0);
                upload(cut)
            }
            made => made,
        };
        let points = points.map_err(|failure: Failure| failure.untouched(Op::MSM))?;
        Ok(Bases::new(Arc::new(DeviceBases { space: self.0.space(), points, cut }), bases.len()))
    }

    fn msm_batch(
        &self,
        _: &Queue,
        bases: &Bases<G1Affine>,
        scalars: &[Ref<'_, Fr>],
        _: ScalarKind,
        out: &mut [G1],
    ) -> Result<(), Error> {
        check_batch(bases.len(), scalars, out.len())?;
        let prepared = bases.downcast::<DeviceBases>(self.0.space())?;
        if !Arc::ptr_eq(prepared.points.device(), &self.0) {
            return Err(Error::WrongSpace { name: "bases", expected: self.0.space(), found: prepared.space });
        }
        let sources = Source::all(&self.0, scalars)?;
        let mut results = Vec::with_capacity(sources.len());
        for group in groups(&sources, self.0.memory_info().free.unwrap_or(0) / 3) {
            let sums = self.sums(prepared, group).map_err(|failure| failure.untouched(Op::MSM))?;
            results.extend(to_curve(&sums).map_err(Failure::touched)?);
        }
        out.copy_from_slice(&results);
        Ok(())
    }
}

/// Cuts a batch where the columns that have to be brought exceed `room`.
fn groups<'s, 'a>(mut sources: &'s [Source<'a>], room: u64) -> Vec<&'s [Source<'a>]> {
    let mut groups = Vec::new();
    while !sources.is_empty() {
        let mut total = 0u64;
        let fits = |source: &Source<'_>| {
            total = total.saturating_add(source.arriving());
            total <= room
        };
        let count = sources.iter().map(fits).take_while(|fits| *fits).count().clamp(1, 1 << 12);
        let (group, rest) = sources.split_at(count.min(sources.len()));
        groups.push(group);
        sources = rest;
    }
    groups
}

impl SpparkMsm {
    fn sums(&self, bases: &DeviceBases, columns: &[Source<'_>]) -> Result<Vec<[Limbs; SUM]>, Failure> {
        let session = self.0.session()?;
        let columns = Brought::columns(&self.0, &session, columns)?;
        session.msm(&bases.points.all(), bases.cut, &columns.slices()?)
    }
}

/// The points of sums, if they are points.
fn to_curve(sums: &[[Limbs; SUM]]) -> Result<Vec<G1>, Failure> {
    let malformed = |what| Failure::Malformed { call: "msm", what };
    let coordinate = |limbs: &Limbs| {
        Fq::from_raw_bytes(as_bytes(&limbs.limb))
            .ok_or(malformed("a coordinate that is not below the modulus"))
    };
    let sums: Vec<[Fq; SUM]> = sums
        .iter()
        .map(|[x, y, zz, zzz]| Ok([coordinate(x)?, coordinate(y)?, coordinate(zz)?, coordinate(zzz)?]))
        .collect::<Result<_, Failure>>()?;
    let mut inverses: Vec<Fq> = sums.iter().map(|[.., zz, zzz]| zz * zzz).collect();
    inverses.iter_mut().batch_invert();
    sums.iter()
        .zip(inverses)
        .map(|([x, y, zz, zzz], inverse)| {
            if bool::from(zz.is_zero()) {
                return Ok(G1::default());
            }
            if bool::from(zzz.is_zero()) {
                return Err(malformed("a point with one denominator"));
            }
            let affine = G1Affine::from_xy(x * zzz * inverse, y * zz * inverse);
            let affine =
                Option::<G1Affine>::from(affine).ok_or(malformed("a point that is not on the curve"))?;
            Ok(affine.to_curve())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use group::{Curve, Group};

    fn raw(values: [Fq; SUM]) -> [Limbs; SUM] {
        values.map(|value| {
            let mut limb = [0; 4];
            parhelion_backend_api::hal::as_bytes_mut(&mut limb).copy_from_slice(as_bytes(&[value]));
            Limbs { limb }
        })
    }

    #[test]
    fn sums_are_points() {
        let point = (G1::generator() * Fr::from(77)).to_affine();
        let z = Fq::from(12345);
        let (zz, zzz) = (z.square(), z.square() * z);
        let sum = raw([point.x * zz, point.y * zzz, zz, zzz]);
        let nothing = raw([Fq::ZERO; SUM]);
        assert_eq!(to_curve(&[sum, nothing]), Ok(vec![point.to_curve(), G1::identity()]));
    }

    #[test]
    fn what_is_not_a_point_is_refused() {
        let one = Fq::ONE;
        assert!(to_curve(&[raw([one, one, one, one])]).is_err());
        assert!(to_curve(&[raw([one, one, one, Fq::ZERO])]).is_err());
        assert!(to_curve(&[[Limbs { limb: [u64::MAX; 4] }; SUM]]).is_err(), "what was there before the call");
    }

    #[test]
    fn tables_keep_to_their_budget_and_cover_every_scalar() {
        for log in [0, 4, 10, 16, 20, 24] {
            let len = 1usize << log;
            let plain = POINT << log;
            for (budget, most) in [(0, 1), (plain, 1), (2 * plain, 2), (7 * plain, 4), (99 * plain, 8)] {
                let (tables, shift) = tables(len, budget);
                assert!(
                    tables <= most && (tables > 1) == (most > 1),
                    "2^{log} bases in {budget} bytes: {tables}"
                );
                let reads_all = tables * shift > SCALAR_BITS && (tables - 1) * shift <= SCALAR_BITS;
                assert!(
                    tables == 1 || reads_all,
                    "2^{log} bases in {budget} bytes: {tables} by {shift} bits"
                );
            }
        }
        assert_eq!(tables(0, 1 << 30), (1, 0));
        assert_eq!(tables(1 << 27, u64::MAX).0, 2, "entries are numbered in 32 bits");
    }

    #[test]
    fn a_batch_is_cut_where_room_ends() {
        let column = vec![Fr::ZERO; 10];
        let sources: Vec<Source<'_>> = (0..5).map(|_| Source::Host(&column)).collect();
        let lengths = |room| groups(&sources, room).iter().map(|group| group.len()).collect::<Vec<_>>();
        assert_eq!(lengths(640), [2, 2, 1]);
        assert_eq!(lengths(1), [1; 5]);
        assert_eq!(lengths(u64::MAX), [5]);
        assert!(groups(&[], 1).is_empty());
    }
}
