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

/// Bases on the device.
#[derive(Debug)]
struct DeviceBases {
    space: SpaceId,
    points: Memory,
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
        (shape.len as u64) * (SCALAR + 4 + 64) + (32 << 20)
    }

    fn prepare(&self, _: &Queue, bases: &[G1Affine], _: Reuse) -> Result<Bases<G1Affine>, Error> {
        if bases.len() > MAX_LEN {
            let why = format!("{} bases exceed the limit of 2^27", bases.len());
            return Err(Error::Unsupported { backend: NAME, op: Op::Msm, why });
        }
        let upload = || {
            let session = self.0.session()?;
            let points = Memory::alloc(&session, &self.0, bases.len() as u64 * POINT)?;
            session.upload(as_bytes(bases), &points.all())?;
            Ok(points)
        };
        let points = upload().map_err(|failure: Failure| failure.untouched(Op::Msm))?;
        Ok(Bases::new(Arc::new(DeviceBases { space: self.0.space(), points }), bases.len()))
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
            let sums = self.sums(&prepared.points, group).map_err(|failure| failure.untouched(Op::Msm))?;
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
    fn sums(&self, points: &Memory, columns: &[Source<'_>]) -> Result<Vec<[Limbs; SUM]>, Failure> {
        let session = self.0.session()?;
        let columns = Brought::columns(&self.0, &session, columns)?;
        session.msm(&points.all(), &columns.slices()?)
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
