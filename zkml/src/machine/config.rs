//! Columns and gates.
//!
//! All gates look at a row and the next one, so every column is opened at no more than two points. With `q` = 1 on every usable row but the
//! last:
//!
//! - units: each equation, a combination of fixed columns and monomials of the unit's cells, is zero;
//! - sweeps: `q·(u' − multiplier·u − Σ_unit base^(step·unit)·port)`;
//! - store and junk: `q·(s' − multiplier·s − [store]·Σ_j τ^j·weight_j − [junk]·J)`, on some first rows over fewer weights;
//! - scalar rows: `q·(acc' − multiplier·acc − product·a·b − linear·a − constant)` and `zero·acc'`;
//! - lookups: for each three lanes `q·((φ' − φ)·d₁d₂d₃ − n₁d₂d₃ − n₂d₁d₃ − n₃d₁d₂)` with `d = α + γ·tag + in + β·out + β²·second`,
//!   `n` = 1 on a use, −m on an entry; the φ sum to zero on the first and the last usable row.

use std::collections::BTreeMap;

use halo2_axiom::halo2curves::bn256::Fr;
use halo2_axiom::plonk::{
    Advice, Challenge, Column, ConstraintSystem, Expression, FirstPhase, Fixed, Instance, SecondPhase,
    ThirdPhase, VirtualCells,
};
use halo2_axiom::poly::Rotation;

use super::factor::Factored;
use super::layout::{BulkSlot, Col, Layout, LookupLane, Mono, ScalarSlot, UnitSlot};
use super::lowered::Base;
use super::num::fr;
use super::pack::UnitShape;
use super::poseidon::gadget::COLUMNS as HASH_COLUMNS;
use super::sites::{Site, on};

/// Challenges, in the order in which they are declared.
#[derive(Clone, Debug)]
pub(crate) struct Challenges {
    pub(crate) alpha: Challenge,
    pub(crate) beta: Challenge,
    pub(crate) gamma: Challenge,
    pub(crate) tau: Challenge,
    pub(crate) rho: Challenge,
}

/// Tags and inputs of a set of table entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TableKey {
    Columns {
        tag: Column<Fixed>,
        input: Column<Fixed>,
    },
    /// One section fills the set: all rows have its tag, and inputs that follow the rows' numbers.
    Whole {
        tag: u64,
        first: i64,
    },
}

/// Columns of a set of table entries.
#[derive(Clone, Debug)]
pub(crate) struct TableColumns {
    pub(crate) key: TableKey,
    pub(crate) output: Option<Column<Fixed>>,
    pub(crate) second: Option<Column<Fixed>>,
    pub(crate) multiplicity: Column<Advice>,
}

/// A store column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreColumn {
    Private(Column<Advice>),
    Fixed(Column<Fixed>),
}

/// Columns of a circuit.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    pub(crate) committed: Vec<Column<Advice>>,
    pub(crate) hash: Vec<Column<Advice>>,
    pub(crate) hash_fixed: Vec<Column<Fixed>>,
    pub(crate) unit: Vec<Column<Advice>>,
    pub(crate) store: Vec<StoreColumn>,
    pub(crate) tables: Vec<TableColumns>,
    /// Numbers of the rows, where sections fill sets.
    pub(crate) row_numbers: Option<Column<Fixed>>,
    /// Multiplicities of rows that are looked up whole.
    pub(crate) folded: Option<Column<Advice>>,
    pub(crate) junk: Option<Column<Advice>>,
    pub(crate) bulk: Option<Column<Advice>>,
    pub(crate) lanes: [Option<Column<Advice>>; 2],
    pub(crate) a: Option<Column<Advice>>,
    pub(crate) b: Option<Column<Advice>>,
    pub(crate) acc: Option<Column<Advice>>,
    pub(crate) phi: Vec<Column<Advice>>,
    pub(crate) constants: Option<Column<Fixed>>,
    pub(crate) instance: Column<Instance>,
    pub(crate) unit_fixed: Vec<Column<Fixed>>,
    pub(crate) bulk_fixed: Vec<Column<Fixed>>,
    pub(crate) scalar_fixed: Vec<Column<Fixed>>,
    pub(crate) active: Column<Fixed>,
    pub(crate) edge: Column<Fixed>,
    pub(crate) challenges: Option<Challenges>,
}

type Ex = Expression<Fr>;

fn constant(x: Fr) -> Ex {
    Expression::Constant(x)
}

fn scaled(e: Ex, x: Fr) -> Ex {
    if x == Fr::one() {
        e
    } else if x == -Fr::one() {
        -e
    } else {
        e * x
    }
}

fn sum(parts: impl IntoIterator<Item = Ex>) -> Option<Ex> {
    parts.into_iter().reduce(|x, y| x + y)
}

fn power(base: &Ex, exponent: u32) -> Ex {
    match exponent {
        0 => constant(Fr::one()),
        1 => base.clone(),
        e if e % 2 == 0 => {
            let half = power(base, e / 2);
            half.clone() * half
        }
        e => power(base, e - 1) * base.clone(),
    }
}

impl MachineConfig {
    /// Declares the columns and gates of a layout.
    pub(crate) fn new(meta: &mut ConstraintSystem<Fr>, layout: &Layout) -> Self {
        let third = layout.three_phases();
        let cells = layout.sized.shape.cells() * layout.units() as u16;
        // The first columns of all: their commitments have known places in a proof.
        let committed: Vec<_> = (0..layout.sized.committed_columns(&layout.lowered))
            .map(|_| meta.advice_column_in(FirstPhase))
            .collect();
        let unit: Vec<_> = (0..cells).map(|_| meta.advice_column_in(FirstPhase)).collect();
        let store = (0..layout.sized.choice.store)
            .map(|_| {
                if layout.lowered.store_fixed {
                    StoreColumn::Fixed(meta.fixed_column())
                } else {
                    StoreColumn::Private(meta.advice_column_in(FirstPhase))
                }
            })
            .collect();
        let sections = &layout.sized.tables;
        let sets = sections.sets(&layout.table_runs, layout.usable() - 1);
        let row_numbers = sets.iter().any(|set| set.whole.is_some()).then(|| meta.fixed_column());
        let tables = sets
            .iter()
            .map(|set| TableColumns {
                key: match set.whole {
                    Some((section, from)) => TableKey::Whole {
                        tag: sections.tag(section),
                        first: sections.first(section) + from as i64,
                    },
                    None => TableKey::Columns { tag: meta.fixed_column(), input: meta.fixed_column() },
                },
                output: set.output.then(|| meta.fixed_column()),
                second: set.second.then(|| meta.fixed_column()),
                multiplicity: meta.advice_column_in(FirstPhase),
            })
            .collect();
        let folded = layout.folded_multiplicity().map(|_| meta.advice_column_in(FirstPhase));
        let hash: Vec<_> =
            (0..layout.sized.hash.lanes * HASH_COLUMNS).map(|_| meta.advice_column_in(FirstPhase)).collect();
        let late_phi = layout.late_phi();
        let early = late_phi.unwrap_or(layout.phis());
        let mut phi: Vec<_> = (0..early).map(|_| meta.advice_column_in(SecondPhase)).collect();
        let junk = third.then(|| meta.advice_column_in(SecondPhase));
        phi.extend(late_phi.map(|_| meta.advice_column_in(ThirdPhase)));
        let mut late = |needed: bool| {
            needed.then(|| {
                if third { meta.advice_column_in(ThirdPhase) } else { meta.advice_column_in(SecondPhase) }
            })
        };
        let bulk = late(layout.bulking());
        let lanes = [late(layout.sweeping(0)), late(layout.sweeping(1))];
        let scalars = !layout.lowered.scalars.is_empty();
        let (a, b, acc) = (late(scalars), late(layout.has_b), late(scalars));
        let challenges =
            (!phi.is_empty() || bulk.is_some() || scalars || lanes[0].is_some()).then(|| Challenges {
                alpha: meta.challenge_usable_after(FirstPhase),
                beta: meta.challenge_usable_after(FirstPhase),
                gamma: meta.challenge_usable_after(FirstPhase),
                tau: meta.challenge_usable_after(FirstPhase),
                rho: if third {
                    meta.challenge_usable_after(SecondPhase)
                } else {
                    meta.challenge_usable_after(FirstPhase)
                },
            });
        let mut fixed = |n: usize| (0..n).map(|_| meta.fixed_column()).collect::<Vec<_>>();
        let unit_fixed = fixed(layout.unit_field.columns);
        let bulk_fixed = fixed(layout.bulk_field.columns);
        let scalar_fixed = fixed(layout.scalar_field.columns);
        let hash_fixed = fixed(layout.hash.field.columns);
        let constants = (!layout.constants.is_empty()).then(|| meta.fixed_column());
        let (active, edge) = (meta.fixed_column(), meta.fixed_column());
        // Always there: a proof without public values is bound to its statement too.
        let instance = meta.instance_column();
        let config = MachineConfig {
            committed,
            hash,
            hash_fixed,
            unit,
            store,
            tables,
            row_numbers,
            folded,
            junk,
            bulk,
            lanes,
            a,
            b,
            acc,
            phi,
            constants,
            instance,
            unit_fixed,
            bulk_fixed,
            scalar_fixed,
            active,
            edge,
            challenges,
        };
        for &col in &layout.equal {
            match col {
                Col::Const => config.constants.into_iter().for_each(|c| meta.enable_equality(c)),
                Col::Instance => meta.enable_equality(config.instance),
                col => config.advice(col).into_iter().for_each(|c| meta.enable_equality(c)),
            }
        }
        config.unit_gates(meta, layout);
        config.sweep_gates(meta, layout);
        config.bulk_gate(meta, layout);
        config.scalar_gates(meta, layout);
        config.lookup_gates(meta, layout);
        config.hash_gates(meta, layout);
        // halo2 caps degrees at 5 unless a circuit asks for more.
        if layout.lanes.len().min(layout.group()) > 3 {
            meta.set_minimum_degree(layout.lanes.len().min(layout.group()) + 2);
        }
        config
    }

    /// The advice column of a machine column.
    pub(crate) fn advice(&self, col: Col) -> Option<Column<Advice>> {
        match col {
            Col::Unit(i) => self.unit.get(i as usize).copied(),
            Col::Store(i) => match self.store.get(i as usize) {
                Some(StoreColumn::Private(c)) => Some(*c),
                _ => None,
            },
            Col::Hash(i) => self.hash.get(i as usize).copied(),
            Col::Committed(i) => self.committed.get(i as usize).copied(),
            Col::Multiplicity(i) if i as usize == self.tables.len() => self.folded,
            Col::Multiplicity(i) => self.tables.get(i as usize).map(|t| t.multiplicity),
            Col::Junk => self.junk,
            Col::Bulk => self.bulk,
            Col::Lane(i) => self.lanes.get(i as usize).copied().flatten(),
            Col::A => self.a,
            Col::B => self.b,
            Col::Acc => self.acc,
            Col::Phi(i) => self.phi.get(i as usize).copied(),
            Col::Const | Col::Instance => None,
        }
    }

    fn unit_gates(&self, meta: &mut ConstraintSystem<Fr>, layout: &Layout) {
        let cells = layout.sized.shape.cells();
        for unit in 0..layout.units() as u16 {
            for eq in 0..2u8 {
                let chosen = |slot: &UnitSlot| match slot {
                    UnitSlot::Eq(e, mono) if *e == eq => Some(*mono),
                    _ => None,
                };
                let none = !layout.unit_field.slots.keys().any(|slot| chosen(slot).is_some());
                if none || !on(Site::UnitEquation) {
                    continue;
                }
                let slots: Vec<(&UnitSlot, Mono)> =
                    layout.unit_field.slots.keys().filter_map(|s| Some((s, chosen(s)?))).collect();
                let terms: usize = slots.iter().map(|(s, _)| layout.unit_field.slots[s].len()).sum();
                // Units share the coefficients of monomials; one unit alone has fewer products by column.
                let units = layout.units() as usize;
                let by_monomial = terms + slots.len() * units < units * (terms + layout.unit_field.columns);
                meta.create_gate("unit equation", |meta| {
                    let total = if by_monomial {
                        sum(slots.iter().filter_map(|&(slot, mono)| {
                            let coefficient = self.coefficient(meta, layout, *slot)?;
                            let value = self.mono(meta, unit * cells, mono);
                            Some(if mono == Mono::One { coefficient } else { coefficient * value })
                        }))
                    } else {
                        self.combination(meta, &layout.unit_field, &self.unit_fixed, |meta, slot| {
                            chosen(slot).map(|mono| self.mono(meta, unit * cells, mono))
                        })
                    };
                    total.into_iter().collect::<Vec<_>>()
                });
            }
        }
    }

    /// The value of a slot: a combination of fixed columns.
    fn coefficient(&self, meta: &mut VirtualCells<'_, Fr>, layout: &Layout, wanted: UnitSlot) -> Option<Ex> {
        let combo = layout.unit_field.slots.get(&wanted)?;
        sum(combo.iter().map(|&(c, x)| scaled(meta.query_fixed(self.unit_fixed[c], Rotation::cur()), x)))
    }

    fn mono(&self, meta: &mut VirtualCells<'_, Fr>, first: u16, mono: Mono) -> Ex {
        let mut cell = |p: u16| meta.query_advice(self.unit[(first + p) as usize], Rotation::cur());
        match mono {
            Mono::One => constant(Fr::one()),
            Mono::Lin(p) => cell(p),
            Mono::Quad(p, r) => cell(p) * cell(r),
        }
    }

    /// `Σ_slot coefficient(slot) · value(slot)` over the slots that have a value, grouped by fixed column.
    pub(super) fn combination<K: Ord>(
        &self,
        meta: &mut VirtualCells<'_, Fr>,
        field: &Factored<K>,
        columns: &[Column<Fixed>],
        value: impl Fn(&mut VirtualCells<'_, Fr>, &K) -> Option<Ex>,
    ) -> Option<Ex> {
        let mut groups: Vec<Vec<Ex>> = vec![Vec::new(); columns.len()];
        for (slot, combo) in &field.slots {
            let Some(v) = value(meta, slot) else { continue };
            for &(column, factor) in combo {
                groups[column].push(scaled(v.clone(), factor));
            }
        }
        sum(groups.into_iter().enumerate().filter_map(|(i, parts)| {
            let total = sum(parts)?;
            Some(meta.query_fixed(columns[i], Rotation::cur()) * total)
        }))
    }

    fn base(&self, meta: &mut VirtualCells<'_, Fr>, base: Base) -> Ex {
        match (&self.challenges, base) {
            (Some(c), Base::Rho) => meta.query_challenge(c.rho),
            (Some(c), Base::Tau) => meta.query_challenge(c.tau),
            _ => constant(Fr::one()),
        }
    }

    fn sweep_gates(&self, meta: &mut ConstraintSystem<Fr>, layout: &Layout) {
        let cells = layout.sized.shape.cells();
        for lane in 0..2u8 {
            let Some(column) = self.lanes[lane as usize].filter(|_| on(Site::SweepGate)) else { continue };
            meta.create_gate("sweep", |meta| {
                let q = meta.query_fixed(self.active, Rotation::cur());
                let (cur, next) =
                    (meta.query_advice(column, Rotation::cur()), meta.query_advice(column, Rotation::next()));
                let step =
                    self.combination(meta, &layout.unit_field, &self.unit_fixed, |meta, slot| match *slot {
                        UnitSlot::Mul(l, base, jump) if l == lane => {
                            let base = self.base(meta, base);
                            Some(power(&base, jump) * cur.clone())
                        }
                        UnitSlot::Port(l, base, step, mono) if l == lane => {
                            let weight = power(&self.base(meta, base), step);
                            let mut total = self.mono(meta, (layout.units() as u16 - 1) * cells, mono);
                            for unit in (0..layout.units() as u16 - 1).rev() {
                                total = total * weight.clone() + self.mono(meta, unit * cells, mono);
                            }
                            Some(total)
                        }
                        _ => None,
                    });
                vec![q * (next - step.unwrap_or(constant(Fr::zero())))]
            });
        }
    }

    fn bulk_gate(&self, meta: &mut ConstraintSystem<Fr>, layout: &Layout) {
        let Some(column) = self.bulk.filter(|_| on(Site::StoreGate)) else { return };
        meta.create_gate("store sweep", |meta| {
            let q = meta.query_fixed(self.active, Rotation::cur());
            let (cur, next) =
                (meta.query_advice(column, Rotation::cur()), meta.query_advice(column, Rotation::next()));
            let tau = self.base(meta, Base::Tau);
            let rho = self.base(meta, Base::Rho);
            let per_row = layout.sized.per_row();
            let limbs = layout.sized.store_limbs as usize;
            let shift = Fr::from(1u64 << layout.sized.choice.store_limb.min(63));
            // Σ_j τ^j·weight_j over the first weights of a row.
            let mut weights = |count: usize| -> Option<Ex> {
                let mut weights: Option<Ex> = None;
                for j in (0..if self.store.is_empty() { 0 } else { count }).rev() {
                    let mut weight: Option<Ex> = None;
                    for i in (0..limbs).rev() {
                        let cell = match self.store[j * limbs + i] {
                            StoreColumn::Private(c) => meta.query_advice(c, Rotation::cur()),
                            StoreColumn::Fixed(c) => meta.query_fixed(c, Rotation::cur()),
                        };
                        weight = Some(weight.map_or(cell.clone(), |w| w * shift + cell));
                    }
                    let weight = weight.unwrap_or(constant(Fr::zero()));
                    weights = Some(weights.map_or(weight.clone(), |w| w * tau.clone() + weight));
                }
                weights
            };
            let parts: BTreeMap<u16, Option<Ex>> = layout
                .bulk_field
                .slots
                .keys()
                .filter_map(|slot| match slot {
                    BulkSlot::Part(count) => Some((*count, weights(usize::from(*count)))),
                    _ => None,
                })
                .collect();
            let whole = weights(per_row);
            let step =
                self.combination(meta, &layout.bulk_field, &self.bulk_fixed, |meta, slot| match slot {
                    BulkSlot::Store => whole.clone(),
                    BulkSlot::Part(count) => parts.get(count).cloned().flatten(),
                    BulkSlot::Junk => self.junk.map(|j| meta.query_advice(j, Rotation::cur())),
                    BulkSlot::Tau => Some(power(&tau, per_row as u32) * cur.clone()),
                    BulkSlot::Rho => Some(rho.clone() * cur.clone()),
                });
            vec![q * (next - step.unwrap_or(constant(Fr::zero())))]
        });
    }

    fn scalar_gates(&self, meta: &mut ConstraintSystem<Fr>, layout: &Layout) {
        let (Some(a), Some(acc)) = (self.a, self.acc) else { return };
        meta.create_gate("scalar", |meta| {
            let q = meta.query_fixed(self.active, Rotation::cur());
            let (cur, next) =
                (meta.query_advice(acc, Rotation::cur()), meta.query_advice(acc, Rotation::next()));
            let x = meta.query_advice(a, Rotation::cur());
            let y = self.b.map(|b| meta.query_advice(b, Rotation::cur()));
            let (rho, tau) = (self.base(meta, Base::Rho), self.base(meta, Base::Tau));
            let step =
                self.combination(meta, &layout.scalar_field, &self.scalar_fixed, |_, slot| match slot {
                    ScalarSlot::One => Some(cur.clone()),
                    ScalarSlot::Rho => Some(rho.clone() * cur.clone()),
                    ScalarSlot::Tau => Some(tau.clone() * cur.clone()),
                    ScalarSlot::Product => y.clone().map(|y| x.clone() * y),
                    ScalarSlot::Linear => Some(x.clone()),
                    ScalarSlot::Constant => Some(constant(Fr::one())),
                    ScalarSlot::ConstantRho => Some(rho.clone()),
                    ScalarSlot::ConstantTau => Some(tau.clone()),
                    ScalarSlot::Zero | ScalarSlot::Entry | ScalarSlot::Use | ScalarSlot::Tag => None,
                });
            let zero =
                self.combination(meta, &layout.scalar_field, &self.scalar_fixed, |_, slot| match slot {
                    ScalarSlot::Zero => Some(next.clone()),
                    _ => None,
                });
            let step = q * (next - step.unwrap_or(constant(Fr::zero())));
            let parts = [(Site::ScalarGate, Some(step)), (Site::ScalarZero, zero)];
            parts.into_iter().filter(|(site, _)| on(*site)).filter_map(|(_, part)| part).collect::<Vec<_>>()
        });
    }

    fn lookup_gates(&self, meta: &mut ConstraintSystem<Fr>, layout: &Layout) {
        let Some(challenges) = &self.challenges else { return };
        let cells = layout.sized.shape.cells();
        let shape = layout.sized.shape;
        for (group, lanes) in layout.lanes.chunks(layout.group()).enumerate().filter(|_| on(Site::LookupGate))
        {
            meta.create_gate("lookup", |meta| {
                let q = meta.query_fixed(self.active, Rotation::cur());
                let (cur, next) = (
                    meta.query_advice(self.phi[group], Rotation::cur()),
                    meta.query_advice(self.phi[group], Rotation::next()),
                );
                let [alpha, beta, gamma] =
                    [challenges.alpha, challenges.beta, challenges.gamma].map(|c| meta.query_challenge(c));
                let coefficient =
                    |meta: &mut VirtualCells<'_, Fr>, wanted| self.coefficient(meta, layout, wanted);
                let mut parts: Vec<(Option<Ex>, Ex)> = Vec::new();
                for lane in lanes {
                    parts.push(match *lane {
                        LookupLane::Range { unit, index } => {
                            let on = coefficient(meta, UnitSlot::RangeOn(index));
                            let tag = coefficient(meta, UnitSlot::RangeTag(index));
                            let cell = self.mono(meta, unit * cells, Mono::Lin(shape.range_at() + index));
                            let d = alpha.clone() + cell;
                            (on, tag.map_or(d.clone(), |tag| d + gamma.clone() * tag))
                        }
                        LookupLane::Function { unit } => {
                            let mut on = coefficient(meta, UnitSlot::FnOn);
                            if let Some(provides) = coefficient(meta, UnitSlot::FnProvides) {
                                let count = self.mono(meta, unit * cells, Mono::Lin(shape.count_at()));
                                let given = -(provides * count);
                                on = Some(on.map_or(given.clone(), |on| on + given));
                            }
                            let tag = coefficient(meta, UnitSlot::FnTag);
                            let key = self.mono(meta, unit * cells, Mono::Lin(UnitShape::KEY));
                            let value = self.mono(meta, unit * cells, Mono::Lin(UnitShape::VALUE));
                            let mut d = alpha.clone() + key + beta.clone() * value;
                            if shape.second {
                                let second = self.mono(meta, unit * cells, Mono::Lin(UnitShape::SECOND));
                                d = d + beta.clone() * beta.clone() * second;
                            }
                            (on, tag.map_or(d.clone(), |tag| d + gamma.clone() * tag))
                        }
                        LookupLane::Store { column } => {
                            let limbs = layout.sized.store_limbs as u16;
                            let top = column % limbs == limbs - 1;
                            let tag = layout.sized.store_section.map_or(0, |(low, high)| {
                                layout.sized.tables.tag(if top { high } else { low })
                            });
                            let cell = match self.store[column as usize] {
                                StoreColumn::Private(c) => meta.query_advice(c, Rotation::cur()),
                                StoreColumn::Fixed(c) => meta.query_fixed(c, Rotation::cur()),
                            };
                            let d = alpha.clone() + cell + scaled(gamma.clone(), Fr::from(tag));
                            (Some(constant(Fr::one())), d)
                        }
                        LookupLane::Table { set } => {
                            let t = &self.tables[set as usize];
                            let mut fixed = |c: Column<Fixed>| meta.query_fixed(c, Rotation::cur());
                            let mut d = alpha.clone();
                            match (t.key, self.row_numbers) {
                                (TableKey::Columns { tag, input }, _) => {
                                    d = d + gamma.clone() * fixed(tag) + fixed(input);
                                }
                                (TableKey::Whole { tag, first }, numbers) => {
                                    d = d + scaled(gamma.clone(), Fr::from(tag)) + constant(fr(first.into()));
                                    d = numbers.into_iter().fold(d, |d, column| d + fixed(column));
                                }
                            }
                            if let Some(output) = t.output {
                                d = d + beta.clone() * fixed(output);
                            }
                            if let Some(second) = t.second {
                                d = d + beta.clone() * beta.clone() * fixed(second);
                            }
                            (Some(-meta.query_advice(t.multiplicity, Rotation::cur())), d)
                        }
                        LookupLane::Folded => {
                            let coefficient = |meta: &mut VirtualCells<'_, Fr>, wanted| {
                                self.combination(meta, &layout.scalar_field, &self.scalar_fixed, |_, slot| {
                                    (*slot == wanted).then(|| constant(Fr::one()))
                                })
                            };
                            let mut n = coefficient(meta, ScalarSlot::Use);
                            let entry = coefficient(meta, ScalarSlot::Entry);
                            if let (Some(entry), Some(count)) = (entry, self.folded) {
                                let given = -(entry * meta.query_advice(count, Rotation::cur()));
                                n = Some(n.map_or(given.clone(), |n| n + given));
                            }
                            let mut d = alpha.clone();
                            if let Some(tag) = coefficient(meta, ScalarSlot::Tag) {
                                d = d + gamma.clone() * tag;
                            }
                            if let Some(acc) = self.acc {
                                d = d + meta.query_advice(acc, Rotation::next());
                            }
                            (n, d)
                        }
                    });
                }
                // Σ n/d as one fraction: three products for each lane but the first.
                let total = parts.into_iter().reduce(|(n, d), (m, e)| {
                    let top = match (n, m) {
                        (Some(n), Some(m)) => Some(n * e.clone() + m * d.clone()),
                        (Some(n), None) => Some(n * e.clone()),
                        (None, Some(m)) => Some(m * d.clone()),
                        (None, None) => None,
                    };
                    (top, d * e)
                });
                let (top, bottom) = total.unwrap_or((None, constant(Fr::one())));
                let step = (next - cur) * bottom;
                let total = match top {
                    Some(top) => step - top,
                    None => step,
                };
                vec![q * total]
            });
        }
        if !self.phi.is_empty() {
            meta.create_gate("lookup sum", |meta| {
                let edge = meta.query_fixed(self.edge, Rotation::cur());
                let total = sum(self.phi.iter().map(|&c| meta.query_advice(c, Rotation::cur())));
                vec![edge * total.unwrap_or(constant(Fr::zero()))]
            });
        }
    }
}
