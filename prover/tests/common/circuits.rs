//! Circuits that between them use every feature of the constraint system.

use halo2_axiom::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_axiom::plonk::{
    Advice, Assigned, Challenge, Circuit, Column, ConstraintSystem, Constraints, Error, Expression,
    FirstPhase, Fixed, Instance, SecondPhase, Selector, TableColumn, ThirdPhase,
};
use halo2_axiom::poly::Rotation;
use halo2curves::bn256::Fr;
use halo2curves::ff::Field;

macro_rules! plain_circuit {
    () => {
        type FloorPlanner = SimpleFloorPlanner;
        type Params = ();

        fn without_witnesses(&self) -> Self {
            self.clone()
        }
    };
}

/// Standard PLONK: q_a·a + q_b·b + q_m·a·b + q_c·c + q_0 = 0 over three columns with copies, a public output, deferred
/// inversions.
#[derive(Clone, Debug)]
pub struct Plonk {
    pub rows: usize,
    pub start: u64,
}

impl Plonk {
    pub fn output(&self) -> Fr {
        let start = Fr::from(self.start);
        (0..self.rows).fold(start, |x, i| x * Fr::from(i as u64 + 2) + start)
    }
}

#[derive(Clone, Debug)]
pub struct PlonkConfig {
    abc: [Column<Advice>; 3],
    q: [Column<Fixed>; 5],
    instance: Column<Instance>,
}

impl Circuit<Fr> for Plonk {
    type Config = PlonkConfig;
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> PlonkConfig {
        let abc = [(); 3].map(|_| meta.advice_column());
        let q = [(); 5].map(|_| meta.fixed_column());
        let instance = meta.instance_column();
        meta.enable_equality(instance);
        for column in abc {
            meta.enable_equality(column);
        }
        meta.create_gate("plonk", |meta| {
            let [a, b, c] = abc.map(|column| meta.query_advice(column, Rotation::cur()));
            let [qa, qb, qm, qc, q0] = q.map(|column| meta.query_fixed(column, Rotation::cur()));
            vec![qa * a.clone() + qb * b.clone() + qm * a * b + qc * c + q0]
        });
        PlonkConfig { abc, q, instance }
    }

    fn synthesize(&self, config: PlonkConfig, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        let output = layouter.assign_region(
            || "chain",
            |mut region| {
                let start = Value::known(Assigned::from(Fr::from(self.start)));
                let mut x = start;
                let mut last = None;
                for row in 0..self.rows {
                    let factor = Assigned::from(Fr::from(row as u64 + 2));
                    // b is written as 1/(1/factor), so that columns hold fractions.
                    let b = Value::known(factor.invert().invert());
                    let a_cell = region.assign_advice(config.abc[0], row, x);
                    region.assign_advice(config.abc[1], row, b);
                    let c = x.map(|x| (x * factor).evaluate() + Fr::from(self.start)).map(Assigned::from);
                    let c_cell = region.assign_advice(config.abc[2], row, c);
                    region.assign_fixed(config.q[2], row, Fr::ONE);
                    region.assign_fixed(config.q[3], row, -Fr::ONE);
                    region.assign_fixed(config.q[4], row, Fr::from(self.start));
                    if let Some(previous) = last {
                        region.constrain_equal(a_cell.cell(), previous);
                    }
                    last = Some(c_cell.cell());
                    x = c_cell.value().map(|v| **v);
                }
                Ok(last)
            },
        )?;
        if let Some(output) = output {
            layouter.constrain_instance(output, config.instance, 0);
        }
        Ok(())
    }
}

/// Several lookups: a range table with a complex selector, a two-column table, an unconditional lookup with a rotation, and a
/// dynamic lookup of advice in advice.
#[derive(Clone, Debug)]
pub struct Lookups {
    pub rows: usize,
    pub bits: u32,
}

#[derive(Clone, Debug)]
pub struct LookupsConfig {
    a: Column<Advice>,
    b: Column<Advice>,
    c: Column<Advice>,
    range: TableColumn,
    square: TableColumn,
    on: Selector,
    fixed: Column<Fixed>,
}

impl Circuit<Fr> for Lookups {
    type Config = LookupsConfig;
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> LookupsConfig {
        let [a, b, c] = [(); 3].map(|_| meta.advice_column());
        let (range, square) = (meta.lookup_table_column(), meta.lookup_table_column());
        let on = meta.complex_selector();
        let fixed = meta.fixed_column();
        // The last lookup has degree 6, and upstream caps degrees at 5 unless a circuit asks for more.
        meta.set_minimum_degree(6);
        meta.lookup("range", |meta| {
            let on = meta.query_selector(on);
            vec![(on * meta.query_advice(a, Rotation::cur()), range)]
        });
        meta.lookup("square", |meta| {
            let on = meta.query_selector(on);
            let a = meta.query_advice(a, Rotation::cur());
            let b = meta.query_advice(b, Rotation::cur());
            vec![(on.clone() * a, range), (on * b, square)]
        });
        meta.lookup("next", |meta| {
            let on = meta.query_selector(on);
            vec![(on * meta.query_advice(c, Rotation::next()), range)]
        });
        meta.lookup_any("among advice", |meta| {
            let f = meta.query_fixed(fixed, Rotation::cur());
            let a = meta.query_advice(a, Rotation::cur());
            let b = meta.query_advice(b, Rotation::cur());
            vec![(f.clone() * a.clone(), f * a.clone()), (b.clone(), b)]
        });
        LookupsConfig { a, b, c, range, square, on, fixed }
    }

    fn synthesize(&self, config: LookupsConfig, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        layouter.assign_table(
            || "squares",
            |mut table| {
                for i in 0..1u64 << self.bits {
                    let row = i as usize;
                    table.assign_cell(|| "i", config.range, row, || Value::known(Fr::from(i)))?;
                    table.assign_cell(|| "i²", config.square, row, || Value::known(Fr::from(i * i)))?;
                }
                Ok(())
            },
        )?;
        layouter.assign_region(
            || "values",
            |mut region| {
                for row in 0..self.rows {
                    let v = (row as u64 * 7 + 3) % (1 << self.bits);
                    region.assign_advice(config.a, row, Value::known(Assigned::from(Fr::from(v))));
                    region.assign_advice(config.b, row, Value::known(Assigned::from(Fr::from(v * v))));
                    region.assign_advice(config.c, row, Value::known(Assigned::from(Fr::from(v / 2))));
                    region.assign_fixed(config.fixed, row, Fr::from(row as u64 % 3));
                    if row % 4 != 1 {
                        config.on.enable(&mut region, row)?;
                    }
                }
                Ok(())
            },
        )
    }
}

/// Phases with challenges; `inside` advances the phase within one synthesis, as upstream requires; `THREE` adds a third
/// phase.
#[derive(Clone, Debug)]
pub struct Phases<const THREE: bool> {
    pub rows: usize,
    pub inside: bool,
}

#[derive(Clone, Debug)]
pub struct PhasesConfig {
    first: Column<Advice>,
    second: Column<Advice>,
    third: Option<Column<Advice>>,
    alpha: Challenge,
    beta: Option<Challenge>,
    on: Selector,
}

impl<const THREE: bool> Circuit<Fr> for Phases<THREE> {
    type Config = PhasesConfig;
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> PhasesConfig {
        let first = meta.advice_column_in(FirstPhase);
        let second = meta.advice_column_in(SecondPhase);
        let alpha = meta.challenge_usable_after(FirstPhase);
        let third = THREE.then(|| meta.advice_column_in(ThirdPhase));
        let beta = THREE.then(|| meta.challenge_usable_after(SecondPhase));
        let on = meta.selector();
        meta.enable_equality(first);
        meta.enable_equality(second);
        meta.create_gate("running sum", |meta| {
            let on = meta.query_selector(on);
            let alpha = meta.query_challenge(alpha);
            let a = meta.query_advice(first, Rotation::cur());
            let sum = meta.query_advice(second, Rotation::cur());
            let next = meta.query_advice(second, Rotation::next());
            let mut constraints = vec![next.clone() - (sum * alpha.clone() + a.clone() * alpha.square())];
            if let (Some(third), Some(beta)) = (third, beta) {
                let c = meta.query_advice(third, Rotation::cur());
                constraints.push(c - next * (a + meta.query_challenge(beta)));
            }
            Constraints::with_selector(on, constraints)
        });
        PhasesConfig { first, second, third, alpha, beta, on }
    }

    fn synthesize(&self, config: PhasesConfig, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        let value = |row: usize| Fr::from(row as u64 * row as u64 + 1);
        layouter.assign_region(
            || "phases",
            |mut region| {
                for row in 0..self.rows {
                    region.assign_advice(config.first, row, Value::known(Assigned::from(value(row))));
                    config.on.enable(&mut region, row)?;
                }
                if self.inside {
                    region.next_phase();
                }
                let alpha = region.get_challenge(config.alpha);
                let mut sum = alpha.map(|_| Fr::ZERO);
                let mut sums = Vec::new();
                region.assign_advice(config.second, 0, sum.map(Assigned::from));
                for row in 0..self.rows {
                    sum = sum.zip(alpha).map(|(s, x)| s * x + value(row) * x.square());
                    region.assign_advice(config.second, row + 1, sum.map(Assigned::from));
                    sums.push(sum);
                }
                let (Some(third), Some(beta)) = (config.third, config.beta) else { return Ok(()) };
                if self.inside {
                    region.next_phase();
                }
                let beta = region.get_challenge(beta);
                for (row, sum) in sums.into_iter().enumerate() {
                    let c = sum.zip(beta).map(|(s, b)| s * (value(row) + b));
                    region.assign_advice(third, row, c.map(Assigned::from));
                }
                Ok(())
            },
        )
    }
}

/// Several instance columns, queried by a gate with rotations and by copies.
#[derive(Clone, Debug)]
pub struct Instances {
    pub values: Vec<Vec<Fr>>,
}

#[derive(Clone, Debug)]
pub struct InstancesConfig {
    advice: Column<Advice>,
    instances: [Column<Instance>; 3],
    on: Selector,
}

impl Circuit<Fr> for Instances {
    type Config = InstancesConfig;
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> InstancesConfig {
        let advice = meta.advice_column();
        let instances = [(); 3].map(|_| meta.instance_column());
        let on = meta.selector();
        meta.enable_equality(advice);
        meta.enable_equality(instances[2]);
        meta.create_gate("sum of instances", |meta| {
            let on = meta.query_selector(on);
            let a = meta.query_advice(advice, Rotation::cur());
            let x = meta.query_instance(instances[0], Rotation::cur());
            let y = meta.query_instance(instances[1], Rotation::next());
            vec![on * (a - x - y)]
        });
        InstancesConfig { advice, instances, on }
    }

    fn synthesize(&self, config: InstancesConfig, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        let cell = layouter.assign_region(
            || "sums",
            |mut region| {
                let mut cell = None;
                for row in 0..self.values[0].len() {
                    let next = self.values[1].get(row + 1).copied().unwrap_or_default();
                    let sum = self.values[0][row] + next;
                    let assigned =
                        region.assign_advice(config.advice, row, Value::known(Assigned::from(sum)));
                    cell.get_or_insert(assigned.cell());
                    config.on.enable(&mut region, row)?;
                }
                Ok(cell)
            },
        )?;
        if let Some(cell) = cell {
            layouter.constrain_instance(cell, config.instances[2], 0);
        }
        Ok(())
    }
}

/// Nothing at all.
#[derive(Clone, Debug)]
pub struct Empty;

impl Circuit<Fr> for Empty {
    type Config = ();
    plain_circuit!();

    fn configure(_: &mut ConstraintSystem<Fr>) {}

    fn synthesize(&self, (): (), _: impl Layouter<Fr>) -> Result<(), Error> {
        Ok(())
    }
}

/// No advice, but fixed columns, an instance, a gate and copies between them.
#[derive(Clone, Debug)]
pub struct NoAdvice;

impl Circuit<Fr> for NoAdvice {
    type Config = (Column<Fixed>, Column<Instance>);
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Self::Config {
        let fixed = meta.fixed_column();
        let instance = meta.instance_column();
        meta.enable_equality(fixed);
        meta.enable_equality(instance);
        meta.create_gate("boolean", |meta| {
            let f = meta.query_fixed(fixed, Rotation::cur());
            vec![f.clone() * (f - Expression::Constant(Fr::ONE))]
        });
        (fixed, instance)
    }

    fn synthesize(
        &self,
        (fixed, instance): Self::Config,
        mut layouter: impl Layouter<Fr>,
    ) -> Result<(), Error> {
        let cell =
            layouter.assign_region(|| "one", |mut region| Ok(region.assign_fixed(fixed, 0, Fr::ONE)))?;
        layouter.constrain_instance(cell, instance, 1);
        Ok(())
    }
}

/// Rotations other than ±1, with a selector that is itself queried at a rotation.
#[derive(Clone, Debug)]
pub struct Rotations {
    pub rows: usize,
}

impl Circuit<Fr> for Rotations {
    type Config = (Column<Advice>, Column<Advice>, Column<Fixed>);
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Self::Config {
        let (a, b) = (meta.advice_column(), meta.advice_column());
        let f = meta.fixed_column();
        meta.create_gate("far", |meta| {
            let f = meta.query_fixed(f, Rotation(-2));
            let sum = meta.query_advice(a, Rotation(-3)) + meta.query_advice(a, Rotation(5));
            vec![f * (meta.query_advice(b, Rotation(2)) - sum)]
        });
        (a, b, f)
    }

    fn synthesize(&self, (a, b, f): Self::Config, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        let value = |row: usize| Fr::from(3 * row as u64 + 1);
        layouter.assign_region(
            || "far",
            |mut region| {
                for row in 0..self.rows {
                    region.assign_advice(a, row, Value::known(Assigned::from(value(row))));
                }
                for row in 3..self.rows - 5 {
                    let sum = value(row - 3) + value(row + 5);
                    region.assign_advice(b, row + 2, Value::known(Assigned::from(sum)));
                    region.assign_fixed(f, row - 2, Fr::from(row as u64));
                }
                Ok(())
            },
        )
    }
}

/// One gate of a given degree, with constants, scaling and negation in its expression.
#[derive(Clone, Debug)]
pub struct Degree<const D: usize>;

impl<const D: usize> Circuit<Fr> for Degree<D> {
    type Config = (Column<Advice>, Column<Advice>, Selector);
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Self::Config {
        let (a, b) = (meta.advice_column(), meta.advice_column());
        let on = meta.selector();
        // Upstream caps degrees at 5 unless a circuit asks for more.
        meta.set_minimum_degree(D);
        meta.enable_equality(a);
        meta.enable_equality(b);
        meta.create_gate("power", |meta| {
            let on = meta.query_selector(on);
            let (a, b) = (meta.query_advice(a, Rotation::cur()), meta.query_advice(b, Rotation::cur()));
            let power = (1..D - 1).fold(a.clone(), |p, _| p * a.clone());
            let two = Expression::Constant(Fr::from(2));
            vec![on * (b * Fr::from(2) - two * power), Expression::Constant(Fr::ZERO) * -a]
        });
        (a, b, on)
    }

    fn synthesize(&self, (a, b, on): Self::Config, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        layouter.assign_region(
            || "powers",
            |mut region| {
                let mut first = None;
                for row in 0..9 {
                    let x = Fr::from(row as u64 + 2);
                    let power = (1..D - 1).fold(x, |p, _| p * x);
                    let cell = region.assign_advice(a, row, Value::known(Assigned::from(x)));
                    region.assign_advice(b, row, Value::known(Assigned::from(power)));
                    on.enable(&mut region, row)?;
                    first.get_or_insert(cell.cell());
                }
                let copy = region.assign_advice(b, 9, Value::known(Assigned::from(Fr::from(2))));
                region.constrain_equal(copy.cell(), first.expect("nine rows"));
                Ok(())
            },
        )
    }
}

/// Gates of every degree from 2 to 7, the lower ones over many columns: column i + 1 is a power of column i.
#[derive(Clone, Copy, Debug)]
pub struct Mixed {
    pub rows: usize,
    pub start: u64,
}

/// Exponents of the gates of a [`Mixed`] circuit.
const EXPONENTS: [usize; 24] = [1, 2, 1, 3, 1, 2, 1, 1, 6, 1, 2, 1, 2, 1, 2, 1, 4, 1, 2, 1, 2, 5, 1, 2];

impl Circuit<Fr> for Mixed {
    type Config = (Vec<Column<Advice>>, Column<Fixed>);
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Self::Config {
        let columns: Vec<_> = (0..=EXPONENTS.len()).map(|_| meta.advice_column()).collect();
        let on = meta.fixed_column();
        meta.set_minimum_degree(7);
        columns[..4].iter().for_each(|column| meta.enable_equality(*column));
        for (pair, exponent) in columns.windows(2).zip(EXPONENTS) {
            meta.create_gate("power", |meta| {
                let on = meta.query_fixed(on, Rotation::cur());
                let [x, y] = [pair[0], pair[1]].map(|column| meta.query_advice(column, Rotation::cur()));
                let power = (1..exponent).fold(x.clone(), |p, _| p * x.clone());
                vec![on * (y - power)]
            });
        }
        (columns, on)
    }

    fn synthesize(&self, (columns, on): Self::Config, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        layouter.assign_region(
            || "powers",
            |mut region| {
                for row in 0..self.rows {
                    region.assign_fixed(on, row, Fr::ONE);
                    let mut x = Fr::from(self.start + row as u64);
                    let mut before = None;
                    for (i, column) in columns.iter().enumerate() {
                        let cell = region.assign_advice(*column, row, Value::known(Assigned::from(x)));
                        // The first gate says that the second column is the first one; so does a copy.
                        if i == 1 {
                            region.constrain_equal(cell.cell(), before.expect("the first column"));
                        }
                        before = Some(cell.cell());
                        x = EXPONENTS.get(i).map_or(x, |e| (1..*e).fold(x, |p, _| p * x));
                    }
                }
                Ok(())
            },
        )
    }
}

/// Many simple selectors, for selector compression; two gates share some.
#[derive(Clone, Debug)]
pub struct Selectors;

impl Circuit<Fr> for Selectors {
    type Config = (Column<Advice>, Vec<Selector>);
    plain_circuit!();

    fn configure(meta: &mut ConstraintSystem<Fr>) -> Self::Config {
        let a = meta.advice_column();
        let selectors: Vec<Selector> = (0..7).map(|_| meta.selector()).collect();
        for (i, selector) in selectors.iter().enumerate() {
            meta.create_gate("constant", |meta| {
                let on = meta.query_selector(*selector);
                vec![on * (meta.query_advice(a, Rotation::cur()) - Expression::Constant(Fr::from(i as u64)))]
            });
        }
        (a, selectors)
    }

    fn synthesize(&self, (a, selectors): Self::Config, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        layouter.assign_region(
            || "constants",
            |mut region| {
                for row in 0..14 {
                    let which = row % 7;
                    region.assign_advice(a, row, Value::known(Assigned::from(Fr::from(which as u64))));
                    selectors[which].enable(&mut region, row)?;
                }
                Ok(())
            },
        )
    }
}

/// A wide circuit for measurements: `advice` columns with a gate of a degree over each pair, `fixed` selectors, copies,
/// lookups of small values.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    pub k: u32,
    pub shape: Shape,
}

/// Shape of a [`Wide`] circuit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    pub advice: usize,
    pub fixed: usize,
    pub degree: usize,
    pub lookups: usize,
    /// Number of columns under equality constraints.
    pub copied: usize,
}

#[derive(Clone, Debug)]
pub struct WideConfig {
    advice: Vec<Column<Advice>>,
    fixed: Vec<Column<Fixed>>,
    table: Option<TableColumn>,
}

/// Bits of the lookup table of a [`Wide`] circuit.
const TABLE_BITS: u32 = 8;

impl Circuit<Fr> for Wide {
    type Config = WideConfig;
    type FloorPlanner = SimpleFloorPlanner;
    type Params = Shape;

    fn without_witnesses(&self) -> Self {
        *self
    }

    fn params(&self) -> Shape {
        self.shape
    }

    fn configure_with_params(meta: &mut ConstraintSystem<Fr>, shape: Shape) -> WideConfig {
        let advice: Vec<_> = (0..shape.advice).map(|_| meta.advice_column()).collect();
        let fixed: Vec<_> = (0..shape.fixed).map(|_| meta.fixed_column()).collect();
        for column in advice.iter().take(shape.copied) {
            meta.enable_equality(*column);
        }
        meta.set_minimum_degree(shape.degree);
        for (i, selector) in fixed.iter().enumerate() {
            let (a, b, c) = (
                advice[2 * i % shape.advice],
                advice[(2 * i + 1) % shape.advice],
                advice[(2 * i + 2) % shape.advice],
            );
            meta.create_gate("power", |meta| {
                let on = meta.query_fixed(*selector, Rotation::cur());
                let a = meta.query_advice(a, Rotation::cur());
                let b = meta.query_advice(b, Rotation::cur());
                let next = meta.query_advice(c, Rotation::next());
                let power = (1..shape.degree - 1).fold(a.clone(), |p, _| p * b.clone());
                vec![on * (next - power)]
            });
        }
        let table = (shape.lookups > 0).then(|| meta.lookup_table_column());
        for column in advice.iter().take(shape.lookups) {
            let column = *column;
            meta.lookup("small", |meta| {
                vec![(meta.query_advice(column, Rotation::cur()), table.expect("there are lookups"))]
            });
        }
        WideConfig { advice, fixed, table }
    }

    fn configure(meta: &mut ConstraintSystem<Fr>) -> WideConfig {
        Self::configure_with_params(meta, Shape::default())
    }

    fn synthesize(&self, config: WideConfig, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        if let Some(table) = config.table {
            layouter.assign_table(
                || "small",
                |mut t| {
                    (0..1u64 << TABLE_BITS).try_for_each(|i| {
                        t.assign_cell(|| "i", table, i as usize, || Value::known(Fr::from(i)))
                    })
                },
            )?;
        }
        let rows = (1usize << self.k) - 20;
        let shape = self.shape;
        layouter.assign_region(
            || "wide",
            |mut region| {
                // Columns under lookups are small; the others are full-width. Row 0 is left to the copies.
                let mut state = Fr::from(0x9e37_79b9);
                let mut values = vec![Fr::ZERO; shape.advice];
                let mut gate_row: Option<Vec<(usize, Fr)>> = None;
                for row in 0..rows {
                    for (i, value) in values.iter_mut().enumerate() {
                        state = state * state + Fr::from(i as u64);
                        *value = if i < shape.lookups {
                            Fr::from((row * 31 + i * 7) as u64 % (1 << TABLE_BITS))
                        } else {
                            state
                        };
                    }
                    for (column, value) in gate_row.take().into_iter().flatten() {
                        values[column] = value;
                    }
                    for (column, value) in config.advice.iter().zip(&values) {
                        region.assign_advice(*column, row, Value::known(Assigned::from(*value)));
                    }
                    // A gate constrains the next row of a column that no lookup and no other gate determines.
                    let mut next = Vec::new();
                    for (g, selector) in config.fixed.iter().enumerate() {
                        let [a, b, c] = [2 * g, 2 * g + 1, 2 * g + 2].map(|i| i % shape.advice);
                        let free = c >= shape.lookups && next.iter().all(|(taken, _)| *taken != c);
                        if free && row > 0 && row % 2 == 0 && row + 1 < rows {
                            let power = (1..shape.degree - 1).fold(values[a], |p, _| p * values[b]);
                            next.push((c, power));
                            region.assign_fixed(*selector, row, Fr::ONE);
                        }
                    }
                    gate_row = Some(next);
                }
                Ok(())
            },
        )?;
        if shape.copied > 1 {
            layouter.assign_region(
                || "copies",
                |mut region| {
                    let cells: Vec<_> = (0..shape.copied)
                        .map(|i| {
                            let value = Value::known(Assigned::from(Fr::from(1)));
                            region.assign_advice(config.advice[i], 0, value).cell()
                        })
                        .collect();
                    for pair in cells.windows(2) {
                        region.constrain_equal(pair[0], pair[1]);
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}
