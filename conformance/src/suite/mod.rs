//! The suite: one function per clause of `docs/trait-contract.md`, generic over the backend.
//!
//! A function takes a [`Subject`], an open provider with the sizes to test it at, and panics where the provider breaks the clause. What a
//! provider does not offer, or does not support, is skipped: absence is a legal answer, a wrong answer is not.

pub mod msm;
pub mod ntt;
pub mod poly;
pub mod quotient;
pub mod space;

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::sync::Arc;

use parhelion_backend_api::hal::{
    Buffer, DeviceRepr, Error, Prepared, Queue, RawBuffer, Ref, RefMut, SpaceId,
};
use parhelion_backend_api::{Backend, Curve, Promise, Provider};

/// How large the suite's cases are. A software rasteriser or a simulator runs the same clauses on less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Largest log₂ of a transform that is compared with its definition, in quadratic time.
    pub ntt_quadratic: u32,
    /// Largest log₂ of a transform that is compared with a closed form.
    pub ntt_linear: u32,
    /// Largest length of a multiplication that is compared with double-and-add.
    pub msm_definition: usize,
    /// Largest length of a multiplication over known multiples of the generator.
    pub msm_known: usize,
    /// Largest log₂ of the rows of a program.
    pub program: u32,
    /// Largest length of the operands of a polynomial operation.
    pub poly: usize,
    /// Random cases per property.
    pub cases: u32,
    /// Threads that call at once.
    pub threads: usize,
}

impl Sizes {
    /// For backends at their own speed: some seconds.
    pub const STANDARD: Sizes = Sizes {
        ntt_quadratic: 8,
        ntt_linear: 15,
        msm_definition: 120,
        msm_known: 5000,
        program: 11,
        poly: 5000,
        cases: 48,
        threads: 4,
    };

    /// For backends that are slow on purpose: oracles, simulators, software rasterisers.
    ///
    /// `ntt_linear` is above 5 with reason: the roots that derive from the generators 5 and 7 of BN254's scalar field are the same up to
    /// order 2^5.
    pub const SMALL: Sizes = Sizes {
        ntt_quadratic: 5,
        ntt_linear: 7,
        msm_definition: 20,
        msm_known: 70,
        program: 5,
        poly: 70,
        cases: 12,
        threads: 2,
    };
}

/// An open provider under test.
#[derive(Debug)]
pub struct Subject<C: Curve> {
    /// The provider.
    pub provider: Provider,
    /// Its queue.
    pub queue: Queue,
    /// How large the cases are.
    pub sizes: Sizes,
    /// What the backend promises to compute.
    pub promises: Vec<Promise>,
    _curve: PhantomData<C>,
}

/// Opens the first device of a backend. `None`, with a line on standard error, when there is none; with the environment variable
/// `PARHELION_REQUIRE_BACKENDS` set, that is a failure instead, so that a machine meant to have the device cannot pass without.
///
/// # Panics
/// When a device that was found cannot be opened, or one is required and there is none.
pub fn subject<C: Curve, B: Backend>(backend: Result<B, impl Display>, sizes: Sizes) -> Option<Subject<C>> {
    let skip = |why: &dyn Display| {
        assert!(std::env::var_os("PARHELION_REQUIRE_BACKENDS").is_none(), "required, but {why}");
        eprintln!("skipped: {why}");
    };
    let backend = backend.map_err(|why| skip(&why)).ok()?;
    let devices = backend.probe().map_err(|why| skip(&why)).ok()?;
    let Some(device) = devices.first() else {
        skip(&format_args!("{} found no device", backend.name()));
        return None;
    };
    assert_eq!(device.backend, backend.name(), "a device carries the name of its backend");
    let provider = match backend.open(device) {
        Ok(provider) => provider,
        Err(error) => panic!("{device:?} was found, but does not open: {error}"),
    };
    assert_eq!(provider.info.space, provider.space.id(), "the device names the space of its memory");
    let queue = match provider.space.queue() {
        Ok(queue) => queue,
        Err(error) => panic!("{device:?} opens, but gives no queue: {error}"),
    };
    assert_eq!(queue.space(), provider.space.id(), "a queue works in the space that gave it");
    let promises = backend.promises().to_vec();
    Some(Subject { provider, queue, sizes, promises, _curve: PhantomData })
}

impl<C: Curve> Subject<C> {
    /// The space that the provider computes in.
    pub fn space(&self) -> SpaceId {
        self.provider.space.id()
    }

    /// Whether buffers of the provider are host memory.
    pub fn is_host(&self) -> bool {
        self.space() == SpaceId::HOST
    }

    /// A device copy of host values.
    fn upload<T: DeviceRepr>(&self, values: &[T]) -> Buffer<T> {
        ok("upload", Buffer::from_host(self.provider.space.as_ref(), &self.queue, values, "conformance"))
    }

    /// A device buffer that holds `values` behind others, from the first element on that a slice may start at, with some after them.
    fn upload_within(&self, values: &[C::ScalarExt]) -> Within<C::ScalarExt> {
        let alignment = self.provider.space.limits().alignment;
        let start = alignment.div_ceil(size_of::<C::ScalarExt>() as u64).max(1) as usize;
        let around = C::ScalarExt::from(0x5a5a);
        let mut all = vec![around; start + values.len() + 3];
        all[start..start + values.len()].copy_from_slice(values);
        Within { buffer: self.upload(&all), start, len: values.len(), around }
    }

    /// The values of a slice, when nothing around it has changed.
    #[track_caller]
    fn download_within(&self, within: &Within<C::ScalarExt>) -> Vec<C::ScalarExt> {
        let all = self.download(&within.buffer);
        let range = within.start..within.start + within.len;
        let outside = all[..range.start].iter().chain(&all[range.end..]);
        assert!(
            outside.into_iter().all(|value| *value == within.around),
            "something around a slice was written"
        );
        all[range].to_vec()
    }

    /// A host copy of device values.
    fn download<T: DeviceRepr + Default>(&self, buffer: &Buffer<T>) -> Vec<T> {
        ok("download", buffer.to_host(self.provider.space.as_ref(), &self.queue))
    }
}

/// Values in the middle of a buffer.
#[derive(Debug)]
struct Within<F> {
    buffer: Buffer<F>,
    start: usize,
    len: usize,
    around: F,
}

impl<F: DeviceRepr> Within<F> {
    fn as_ref(&self) -> Ref<'_, F> {
        ok("slice", self.buffer.as_ref().slice(self.start..self.start + self.len))
    }

    fn with<R>(&mut self, f: impl FnOnce(RefMut<'_, F>) -> R) -> R {
        let range = self.start..self.start + self.len;
        let mut all = self.buffer.as_mut();
        f(ok("slice", all.slice(range)))
    }
}

/// The value, or a failure that names what was tried.
#[track_caller]
fn ok<T>(what: impl Display, result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Which error a clause asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Length,
    Invalid,
    WrongSpace,
}

/// Fails unless the result is the expected kind of error.
#[track_caller]
fn refused<T: fmt::Debug>(what: impl Display, result: Result<T, Error>, expected: Expect) {
    let found = match &result {
        Err(Error::Length { .. }) => Some(Expect::Length),
        Err(Error::Invalid { .. }) => Some(Expect::Invalid),
        Err(Error::WrongSpace { .. }) => Some(Expect::WrongSpace),
        _ => None,
    };
    assert_eq!(found, Some(expected), "{what}: got {result:?}");
}

/// Memory that belongs to nobody: a buffer, and a handle, that every backend must refuse.
#[derive(Debug)]
struct Alien(u64);

const NOWHERE: SpaceId = SpaceId { name: "nowhere", index: 9 };

impl RawBuffer for Alien {
    fn space(&self) -> SpaceId {
        NOWHERE
    }
    fn bytes(&self) -> u64 {
        self.0
    }
    fn name(&self) -> &'static str {
        "alien"
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

impl Prepared for Alien {
    fn space(&self) -> SpaceId {
        NOWHERE
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// The space of [`Alien`] buffers.
#[derive(Debug)]
struct AlienSpace;

impl parhelion_backend_api::hal::Space for AlienSpace {
    fn id(&self) -> SpaceId {
        NOWHERE
    }
    fn memory(&self) -> parhelion_backend_api::hal::MemoryInfo {
        parhelion_backend_api::hal::MemoryInfo::default()
    }
    fn queue(&self) -> Result<Queue, Error> {
        Ok(Queue::new(NOWHERE, Arc::new(())))
    }
    fn alloc(&self, _: &Queue, bytes: u64, _: &'static str) -> Result<Box<dyn RawBuffer>, Error> {
        Ok(Box::new(Alien(bytes)))
    }
    fn upload(&self, _: &Queue, _: &[u8], _: &mut dyn RawBuffer, _: u64) -> Result<(), Error> {
        Ok(())
    }
    fn download(&self, _: &Queue, _: &dyn RawBuffer, _: u64, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// `len` values that live nowhere.
fn alien<T: DeviceRepr>(len: usize) -> Buffer<T> {
    let queue = Queue::new(NOWHERE, Arc::new(()));
    ok("alien", Buffer::alloc(&AlienSpace, &queue, len, "alien"))
}

fn refs<F: DeviceRepr>(columns: &[Vec<F>]) -> Vec<Ref<'_, F>> {
    columns.iter().map(|column| Ref::host(column)).collect()
}

/// Lengths up to `max` that are empty, single, powers of two, and next to them.
fn lengths(max: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> =
        [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 64, 100, 255, 1000, 1024, 1025].into();
    lengths.push(max);
    lengths.retain(|len| *len <= max);
    lengths.dedup();
    lengths
}

/// Fails with the first differing row.
#[track_caller]
fn same<F: PartialEq + fmt::Debug>(what: impl Display, found: &[F], expected: &[F]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if let Some(row) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("{what}: row {row} is {:?} instead of {:?}", found[row], expected[row]);
    }
}
