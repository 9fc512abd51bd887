//! Columns that stay on a device from the stage that makes them to the opening.
//!
//! At the start of a proof the engine is asked whether one device would run its transforms, programs and polynomial operations. If
//! so, columns are uploaded once, when they are complete, and everything that is computed from them stays there; what is made
//! there and committed (running products, the pieces of h) is downloaded once, so that the host has everything from which the
//! rest can be made again. What fits the device's memory decides how much stays:
//!
//! 1. columns on the coset at hand, always (else the proof is not resident at all);
//! 2. the proof's own columns, by value and then by coefficients;
//! 3. the key's columns, kept from proof to proof, as long as no other proof needs the room.
//!
//! What does not stay is passed from the host at each use.
//!
//! **When the device fails** in the middle of a computation, the proof *retreats*: resident columns are made again from what the
//! host has, and that computation, which has touched neither transcript nor randomness yet, is run again on what is left of the
//! engine. The proof is the same, byte for byte.

use std::collections::HashMap;
use std::sync::Arc;

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Buffer, Op, Ref, RefMut};
use parhelion_backend_api::{MsmShape, NttPlan, QuotientShape, ScalarKind};
use parhelion_dispatch::{Owner, PolyCall, PolyShape, Residence, Shape, Work};

use crate::bases::SrsBases;
use crate::memory::Needs;
use crate::program::{Key, Numerator, Programs};
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
    pub(crate) fn plan(
        engine: &Engine,
        programs: &Programs,
        bases: &SrsBases,
        circuits: usize,
    ) -> Option<Self> {
        let Numerator { parts, needs } = programs.numerator(engine.memory_budget(), circuits);
        let k = needs.k;
        let held = needs.per_circuit * circuits + needs.shared;
        let largest = parts.iter().map(|part| part.program.program.program());
        let shape = largest.max_by_key(|program| program.steps.len())?;
        let poly = |call, batch| Shape::Poly(PolyShape { call, log_n: k, batch });
        let (cosets, products) = (needs.key.1, programs.permutation.len() + programs.compress.len());
        let ntt = |plan: NttPlan<Fr>, batch: usize| Shape::Ntt(plan.shape(batch.max(1)));
        let msm = |batch| Shape::Msm(MsmShape { len: 1 << k, batch, scalars: ScalarKind::Full });
        let deciding = [
            (ntt(NttPlan::inverse(k), held), 1),
            (ntt(NttPlan::forward(k).on_coset(Fr::one()), needs.live), cosets),
            (
                Shape::Quotient(QuotientShape {
                    log_n: k,
                    columns: shape.columns as usize,
                    steps: shape.steps.len(),
                    registers: shape.registers as usize,
                }),
                parts.iter().map(|part| part.cosets).sum::<usize>() * circuits,
            ),
        ];
        let others = [
            (poly(PolyCall::LinearCombination, held), 2),
            (poly(PolyCall::Evaluate, held), 1),
            (poly(PolyCall::Divide, 1), 4),
            (poly(PolyCall::Invert, 1), products * circuits),
            (poly(PolyCall::Multiply, 1), products * circuits),
            (poly(PolyCall::RunningProduct, 1), products * circuits),
        ];
        let anywhere = [(msm(held), 1)];
        let moved = ((held + products * circuits + cosets) as u64 * size_of::<Fr>() as u64) << k;
        let work = Work { deciding: &deciding, others: &others, anywhere: &anywhere, moved };
        let at = engine.residence(&work)?;
        let shapes: Vec<Shape> = deciding.iter().map(|(shape, _)| *shape).chain([msm(1)]).collect();
        let workspace = engine.workspace(&at, &shapes, &bases.both());
        let room =
            engine.free_bytes(&at).map_or(u64::MAX, |free| (free - free / 16).saturating_sub(workspace));
        let Some(stays) = Stays::within(&Stays::bytes(needs, circuits), room) else {
            tracing::debug!(target: "parhelion::resident", device = at.backend(), room, workspace, "too small");
            return None;
        };
        let (columns, key) = (stays >= Stays::Columns, stays >= Stays::Key);
        Some(Resident { engine: engine.at(&at), at, columns, key })
    }
}

/// How much stays on the device from stage to stage, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stays {
    /// The columns on the coset at hand, with what is made of them.
    Coset,
    /// The proof's own columns, too.
    Columns,
    /// The key's columns, too, by value and by coefficients.
    Key,
}

impl Stays {
    const ALL: [Stays; 3] = [Stays::Coset, Stays::Columns, Stays::Key];

    /// Bytes of the device that each takes, beside the workspace of operations.
    fn bytes(needs: &Needs, circuits: usize) -> [u64; 3] {
        let column = (size_of::<Fr>() as u64) << needs.k;
        let held = needs.per_circuit * circuits + needs.shared;
        // Columns of the key that one circuit is done with stay for the next.
        let shared = if circuits > 1 { needs.key.0 } else { 0 };
        // The sums, the result of a program, and what the opening combines.
        let coset = needs.live + shared + needs.classes + 4;
        let columns = coset + held + 2;
        let key = columns + 2 * needs.key.0;
        [coset, columns, key].map(|count| count as u64 * column)
    }

    /// The most that fits.
    fn within(bytes: &[u64; 3], room: u64) -> Option<Self> {
        Stays::ALL.into_iter().zip(bytes).filter(|(_, bytes)| **bytes <= room).map(|(stays, _)| stays).max()
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
        let forced = [Op::NTT, Op::QUOTIENT, Op::POLY].into_iter().any(|op| self.engine.is_forced(op));
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

/// Names a key's columns to the devices that keep them, for all proofs of the key.
pub(crate) type KeyMirror = Owner;

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
        for (name, (form, key)) in
            (0..).zip(wanted.chain(by_value.into_iter().map(|key| (Form::Values, key))))
        {
            let host = columns.host(form, key);
            // What there is no room for is passed from the host.
            let Ok(buffer) = resident.engine.keep(&resident.at, mirror, name, host, "column of a key") else {
                break;
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

#[cfg(test)]
#[path = "../tests/common/circuits.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "the circuits of the integration tests, of which this uses one"
)]
mod circuits;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use halo2_axiom::plonk::{Circuit, ConstraintSystem};

    use super::*;

    /// Bytes per level of a proof of 2^k rows of the circuit that benchmarks use: 12 advice and 6 fixed columns, degree 5.
    fn wide(k: u32, lookups: usize) -> [u64; 3] {
        let shape = circuits::Shape { advice: 12, fixed: 6, degree: 5, lookups, copied: 12 };
        let mut cs = ConstraintSystem::default();
        circuits::Wide::configure_with_params(&mut cs, shape);
        let programs = Programs::new(&Engine::new(Vec::new()), &cs, k).unwrap();
        Stays::bytes(&programs.numerator(None, 1).needs, 1)
    }

    /// A card of 8 GiB, of which the backend takes nine tenths, holds both bases, the workspace of a multiplication, and all columns of the proof.
    #[test]
    fn a_proof_of_four_million_rows_stays_on_a_card_of_8_gib() {
        let k = 22;
        let free = (8u64 << 30) / 10 * 9;
        let bases = 2 * (64u64 << k);
        let workspace = (100u64 << k) + (32 << 20);
        let room = free - free / 16 - bases - workspace;
        for lookups in [0, 1, 2] {
            let bytes = wide(k, lookups);
            let mib = bytes.map(|b| b >> 20);
            let stays = Stays::within(&bytes, room);
            println!("k = {k}, {lookups} lookups: {mib:?} MiB of {} MiB: {stays:?}", room >> 20);
            assert!(stays >= Some(Stays::Coset), "{lookups} lookups: {mib:?} MiB");
        }
        assert!(Stays::within(&wide(k, 0), room) >= Some(Stays::Columns), "{:?}", wide(k, 0));
        assert!(Stays::within(&wide(k + 2, 2), room).is_none(), "four times the rows do not fit");
    }

    #[test]
    fn more_room_keeps_more() {
        let bytes = [10, 20, 30];
        for (room, stays) in
            [(9, None), (10, Some(Stays::Coset)), (29, Some(Stays::Columns)), (30, Some(Stays::Key))]
        {
            assert_eq!(Stays::within(&bytes, room), stays);
        }
    }
}
