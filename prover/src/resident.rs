//! Columns that stay on a device from the stage that makes them to the opening.
//!
//! At the start of a proof the engine is asked whether one device would run its transforms, programs and polynomial operations. If
//! so, columns are uploaded once, when they are complete, and everything that is computed from them stays there; what is made
//! there and committed (running products, the pieces of h) is downloaded once, so that the host has everything from which the
//! rest can be made again. What fits the device's memory decides how much stays:
//!
//! 1. columns on the coset at hand, always (else the proof is not resident at all);
//! 2. the proof's own columns, by value and then by coefficients;
//! 3. the key's columns, kept from proof to proof.
//!
//! What does not stay is passed from the host at each use.
//!
//! **When the device fails** in the middle of a computation, the proof *retreats*: resident columns are made again from what the
//! host has, and that computation, which has touched neither transcript nor randomness yet, is run again on what is left of the
//! engine. The proof is the same, byte for byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Buffer, Op, Ref, RefMut, SpaceId};
use parhelion_backend_api::{NttPlan, QuotientShape};
use parhelion_dispatch::{PolyCall, Residence, Shape};

use crate::program::{Key, Programs};
use crate::session::Session;
use crate::{Engine, Error, ProvingKey, Result};

/// The device of a proof.
#[derive(Debug)]
pub(crate) struct Resident {
    /// Prefers the device.
    pub(crate) engine: Engine,
    pub(crate) at: Residence,
    /// Whether the proof's columns stay there.
    pub(crate) columns: bool,
    /// Whether the key's columns stay there.
    pub(crate) key: bool,
}

impl Resident {
    /// Where the columns of a proof would stay.
    pub(crate) fn plan(engine: &Engine, programs: &Programs, circuits: usize) -> Option<Self> {
        let needs = &programs.needs;
        let k = needs.k;
        let held = needs.per_circuit * circuits + needs.shared;
        let program = programs.quotient.iter().max_by_key(|p| p.program.program().steps.len())?;
        let shape = program.program.program();
        let poly = |call, batch| Shape::Poly { call, log_n: k, batch };
        let deciding = [
            Shape::Ntt(NttPlan::<Fr>::inverse(k).shape(held)),
            Shape::Ntt(NttPlan::<Fr>::forward(k).on_coset(Fr::one()).shape(needs.live.max(1))),
            Shape::Quotient(QuotientShape {
                log_n: k,
                columns: shape.columns as usize,
                steps: shape.steps.len(),
                registers: shape.registers as usize,
            }),
        ];
        let others = [
            poly(PolyCall::LinearCombination, held),
            poly(PolyCall::Evaluate, held),
            poly(PolyCall::Divide, 1),
            poly(PolyCall::Invert, 1),
            poly(PolyCall::Multiply, 1),
            poly(PolyCall::RunningProduct, 1),
        ];
        let at = engine.residence(&deciding, &others)?;
        // What operations themselves take, bases among it, is left room for.
        let free = engine.free_bytes(&at).map_or(u64::MAX, |free| free / 8 * 7);
        let column = (size_of::<Fr>() as u64) << k;
        let shared = if circuits > 1 { needs.key.0 } else { 0 };
        let mut used = (needs.live + shared + 4) as u64 * column;
        if used > free {
            tracing::debug!(target: "parhelion::resident", device = at.backend(), used, free, "too small");
            return None;
        }
        used += (held + 2) as u64 * column;
        let columns = used <= free;
        used += 2 * needs.key.0 as u64 * column;
        let key = columns && used <= free;
        Some(Resident { engine: engine.at(&at), at, columns, key })
    }
}

/// Scalars on the host or on the proof's device.
#[derive(Debug)]
pub(crate) enum Column {
    Host(Vec<Fr>),
    Device(Buffer<Fr>),
}

impl Column {
    pub(crate) fn as_ref(&self) -> Ref<'_, Fr> {
        match self {
            Column::Host(values) => Ref::host(values),
            Column::Device(buffer) => buffer.as_ref(),
        }
    }

    pub(crate) fn as_mut(&mut self) -> RefMut<'_, Fr> {
        match self {
            Column::Host(values) => RefMut::host(values),
            Column::Device(buffer) => buffer.as_mut(),
        }
    }
}

/// A column of the proof by value: on the host, and on the device too where columns stay there.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) host: Vec<Fr>,
    mirror: Option<Buffer<Fr>>,
}

impl Values {
    /// Where operations find them.
    pub(crate) fn at(&self, session: &Session<'_>) -> Ref<'_, Fr> {
        match &self.mirror {
            Some(buffer) if session.resident.is_some() => buffer.as_ref(),
            _ => Ref::host(&self.host),
        }
    }
}

/// A polynomial by its coefficients; when it is on the device, with what it can be made from.
#[derive(Debug)]
pub(crate) struct Poly {
    column: Column,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The polynomial is on the host.
    None,
    Values(Vec<Fr>),
    Coefficients(Vec<Fr>),
}

impl Poly {
    pub(crate) fn as_ref(&self) -> Ref<'_, Fr> {
        self.column.as_ref()
    }
}

impl From<Vec<Fr>> for Poly {
    fn from(coefficients: Vec<Fr>) -> Self {
        Poly { column: Column::Host(coefficients), source: Source::None }
    }
}

/// What must be made again when the proof retreats.
pub(crate) trait Retreat {
    fn retreat(&mut self, session: &Session<'_>) -> Result<()>;
}

impl Retreat for () {
    fn retreat(&mut self, _: &Session<'_>) -> Result<()> {
        Ok(())
    }
}

/// Brings polynomials back to the host, from what it has.
pub(crate) fn retreat_polys<'p>(
    session: &Session<'_>,
    polys: impl IntoIterator<Item = &'p mut Poly>,
) -> Result<()> {
    let mut by_value = Vec::new();
    for poly in polys {
        match std::mem::replace(&mut poly.source, Source::None) {
            Source::None => {}
            Source::Coefficients(coefficients) => poly.column = Column::Host(coefficients),
            Source::Values(values) => {
                poly.column = Column::Host(values);
                by_value.push(poly.column.as_mut());
            }
        }
    }
    if !by_value.is_empty() {
        session.engine().ntt_batch(&NttPlan::inverse(session.k()), &mut by_value)?;
    }
    Ok(())
}

impl Session<'_> {
    /// The engine of the proof: it prefers the device as long as there is one.
    pub(crate) fn engine(&self) -> &Engine {
        self.resident.as_ref().map_or(self.engine, |resident| &resident.engine)
    }

    /// Runs a computation that touches neither transcript nor randomness; once more, on the host, when the device fails.
    pub(crate) fn attempt<S: Retreat, T>(
        &mut self,
        state: &mut S,
        f: impl Fn(&Session<'_>, &S) -> Result<T>,
    ) -> Result<T> {
        match f(self, state) {
            Err(Error::Engine(error)) if self.may_retreat(&error) => {
                self.retreat(&error);
                state.retreat(self)?;
                f(self, state)
            }
            result => result,
        }
    }

    fn may_retreat(&self, error: &parhelion_backend_api::Error) -> bool {
        let forced = [Op::Ntt, Op::Quotient, Op::Poly].into_iter().any(|op| self.engine.is_forced(op));
        self.resident.is_some() && !forced && !error.is_caller_fault()
    }

    fn retreat(&mut self, error: &parhelion_backend_api::Error) {
        if let Some(resident) = self.resident.take() {
            tracing::warn!("columns no longer stay on {}: {error}", resident.at.backend());
        }
    }

    /// A column of unspecified content, on the device if there is one.
    pub(crate) fn column(&self) -> Result<Column> {
        Ok(match &self.resident {
            Some(resident) => {
                Column::Device(resident.engine.alloc(&resident.at, self.n(), "column of a proof")?)
            }
            None => Column::Host(vec![Fr::zero(); self.n()]),
        })
    }

    /// A column of zeros.
    pub(crate) fn zeros(&self) -> Result<Column> {
        let mut column = self.column()?;
        if let Column::Device(buffer) = &mut column {
            self.engine().linear_combination(&[], buffer.as_mut())?;
        }
        Ok(column)
    }

    /// The scalars on the host.
    pub(crate) fn to_host(&self, column: Column) -> Result<Vec<Fr>> {
        match column {
            Column::Host(values) => Ok(values),
            Column::Device(buffer) => {
                let mut values = vec![Fr::zero(); buffer.len()];
                self.engine().read(&buffer.as_ref(), &mut values)?;
                Ok(values)
            }
        }
    }

    /// A complete column, brought to the device where columns stay there.
    pub(crate) fn settle(&mut self, host: Vec<Fr>) -> Result<Values> {
        let Some(resident) = self.resident.as_ref().filter(|resident| resident.columns) else {
            return Ok(Values { host, mirror: None });
        };
        match resident.engine.upload(&resident.at, &host, "column of a proof") {
            Ok(buffer) => Ok(Values { host, mirror: Some(buffer) }),
            Err(error) if self.may_retreat(&error) => {
                self.retreat(&error);
                Ok(Values { host, mirror: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A column that was made in place, given with its values on the host; the values from row `from` on are new.
    pub(crate) fn settle_made(
        &mut self,
        made: Option<Buffer<Fr>>,
        host: Vec<Fr>,
        from: usize,
    ) -> Result<Values> {
        let Some(mut buffer) = made.filter(|_| self.resident.as_ref().is_some_and(|r| r.columns)) else {
            return self.settle(host);
        };
        match self.engine().write(&mut buffer.as_mut(), from, host.get(from..).unwrap_or_default()) {
            Ok(()) => Ok(Values { host, mirror: Some(buffer) }),
            Err(error) if self.may_retreat(&error) => {
                self.retreat(&error);
                Ok(Values { host, mirror: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A polynomial by its coefficients on the host, brought to the device where columns stay there.
    pub(crate) fn settle_poly(&mut self, coefficients: Vec<Fr>) -> Result<Poly> {
        let Values { host, mirror } = self.settle(coefficients)?;
        Ok(match mirror {
            Some(buffer) => Poly { column: Column::Device(buffer), source: Source::Coefficients(host) },
            None => host.into(),
        })
    }

    /// Polynomials that were made where columns stay, with a copy on the host.
    pub(crate) fn keep_polys(&self, columns: Vec<Column>) -> Result<Vec<Poly>> {
        columns
            .into_iter()
            .map(|column| match column {
                Column::Host(coefficients) => Ok(coefficients.into()),
                Column::Device(buffer) => {
                    let mut copy = vec![Fr::zero(); buffer.len()];
                    self.engine().read(&buffer.as_ref(), &mut copy)?;
                    Ok(Poly { column: Column::Device(buffer), source: Source::Coefficients(copy) })
                }
            })
            .collect()
    }

    /// Values on the domain become coefficients, in place; `state` is what else there is on the device.
    pub(crate) fn interpolate(
        &mut self,
        columns: Vec<Values>,
        state: &mut impl Retreat,
    ) -> Result<Vec<Poly>> {
        let mut polys: Vec<Poly> = columns
            .into_iter()
            .map(|Values { host, mirror }| match mirror.filter(|_| self.resident.is_some()) {
                Some(buffer) => Poly { column: Column::Device(buffer), source: Source::Values(host) },
                None => host.into(),
            })
            .collect();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for poly in &mut polys {
            match &mut poly.column {
                Column::Host(values) => here.push(RefMut::host(values)),
                Column::Device(buffer) => there.push(buffer.as_mut()),
            }
        }
        let plan = NttPlan::inverse(self.k());
        if !here.is_empty() {
            self.engine().ntt_batch(&plan, &mut here)?;
        }
        let done = if there.is_empty() { Ok(()) } else { self.engine().ntt_batch(&plan, &mut there) };
        drop((here, there));
        match done {
            Err(error) if self.may_retreat(&error) => {
                self.retreat(&error);
                state.retreat(self)?;
                retreat_polys(self, &mut polys)?;
            }
            done => done?,
        }
        Ok(polys)
    }
}

/// The two forms of a key's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Values,
    Coefficients,
}

/// By the space that it is in, its form and its name.
type MirroredColumns = HashMap<(SpaceId, Form, Key), Arc<Buffer<Fr>>>;

/// A key's columns that stay on devices, shared by all proofs of the key.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyMirror {
    columns: Arc<Mutex<MirroredColumns>>,
}

/// A key's columns, where operations find them.
#[derive(Debug)]
pub(crate) struct KeyColumns<'k> {
    pk: &'k ProvingKey,
    mirrored: HashMap<(Form, Key), Arc<Buffer<Fr>>>,
}

impl<'k> KeyColumns<'k> {
    /// Brings the columns to the proof's device, if they stay there and as far as it has room.
    pub(crate) fn new(session: &Session<'_>, pk: &'k ProvingKey, mirror: &KeyMirror) -> Self {
        let mut columns = KeyColumns { pk, mirrored: HashMap::new() };
        let Some(resident) = session.resident.as_ref().filter(|resident| resident.key) else {
            return columns;
        };
        let fixed = (0..pk.fixed_polys().len()).map(Key::Fixed);
        let sigma = (0..pk.permutation().polys().len()).map(Key::Sigma);
        let by_value: Vec<Key> = fixed.chain(sigma).collect();
        let by_coefficient: Vec<Key> =
            by_value.iter().copied().chain([Key::First, Key::Last, Key::Active]).collect();
        let wanted = by_coefficient.into_iter().map(|key| (Form::Coefficients, key));
        for (form, key) in wanted.chain(by_value.into_iter().map(|key| (Form::Values, key))) {
            let name = (resident.at.space(), form, key);
            let mut cache = mirror.columns.lock().unwrap_or_else(PoisonError::into_inner);
            let buffer = match cache.get(&name) {
                Some(buffer) => buffer.clone(),
                None => {
                    match resident.engine.upload(&resident.at, columns.host(form, key), "column of a key") {
                        Ok(buffer) => cache.entry(name).or_insert(Arc::new(buffer)).clone(),
                        // The rest is passed from the host.
                        Err(_) => break,
                    }
                }
            };
            columns.mirrored.insert((form, key), buffer);
        }
        columns
    }

    fn host(&self, form: Form, key: Key) -> &'k [Fr] {
        let pk = self.pk;
        match (form, key) {
            (Form::Values, Key::Fixed(i)) => pk.fixed_values()[i].values(),
            (Form::Values, Key::Sigma(i)) => pk.permutation().permutations()[i].values(),
            (Form::Coefficients, Key::Fixed(i)) => pk.fixed_polys()[i].values(),
            (Form::Coefficients, Key::Sigma(i)) => pk.permutation().polys()[i].values(),
            (Form::Coefficients, Key::First) => pk.l0().values(),
            (Form::Coefficients, Key::Last) => pk.l_last().values(),
            (Form::Coefficients, Key::Active) => pk.l_active_row().values(),
            // No other column is the key's.
            _ => &[],
        }
    }

    fn get(&self, session: &Session<'_>, form: Form, key: Key) -> Ref<'_, Fr> {
        match self.mirrored.get(&(form, key)) {
            Some(buffer) if session.resident.is_some() => Buffer::as_ref(buffer),
            _ => Ref::host(self.host(form, key)),
        }
    }

    /// A column by value.
    pub(crate) fn values(&self, session: &Session<'_>, key: Key) -> Ref<'_, Fr> {
        self.get(session, Form::Values, key)
    }

    /// A column by coefficients.
    pub(crate) fn poly(&self, session: &Session<'_>, key: Key) -> Ref<'_, Fr> {
        self.get(session, Form::Coefficients, key)
    }
}
