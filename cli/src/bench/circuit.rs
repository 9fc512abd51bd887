//! The circuit that whole proofs are timed on: the shape of a zkML circuit, without its meaning.
//!
//! Twelve phase-1 columns hold 16-bit values. Six phase-2 columns hold full-width running sums over pairs of them, under a real challenge
//! ρ: `u' = u·ρ + a²·b² + a`, gated by a fixed selector, so degree 5. Four narrow columns take part in a permutation.

use ff::Field;
use halo2_axiom::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_axiom::plonk::{
    Advice, Challenge, Circuit, Column, ConstraintSystem, Error, FirstPhase, Fixed, SecondPhase,
};
use halo2_axiom::poly::Rotation;
use halo2curves::bn256::Fr;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

const NARROW: usize = 12;
const WIDE: usize = 6;
const COPIED: usize = 4;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Mixed {
    k: u32,
    values: Option<Vec<[u16; NARROW]>>,
}

impl Mixed {
    /// 2^`k` rows of values from a fixed seed.
    pub(super) fn new(k: u32) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(u64::from(k));
        let values = (0..rows(k))
            .map(|_| {
                let mut row = [0; NARROW];
                row.fill_with(|| (rng.next_u32() & 0xffff) as u16);
                row
            })
            .collect();
        Mixed { k, values: Some(values) }
    }
}

/// Usable rows, with room for the blinding.
fn rows(k: u32) -> usize {
    (1usize << k).saturating_sub(16)
}

/// Columns of [`Mixed`].
#[derive(Clone, Debug)]
pub(super) struct Config {
    narrow: Vec<Column<Advice>>,
    wide: Vec<Column<Advice>>,
    on: Column<Fixed>,
    rho: Challenge,
}

impl Circuit<Fr> for Mixed {
    type Config = Config;
    type FloorPlanner = SimpleFloorPlanner;
    type Params = ();

    fn without_witnesses(&self) -> Self {
        Mixed { k: self.k, values: None }
    }

    fn configure(cs: &mut ConstraintSystem<Fr>) -> Config {
        let narrow: Vec<_> = (0..NARROW).map(|_| cs.advice_column_in(FirstPhase)).collect();
        for &column in narrow.iter().take(COPIED) {
            cs.enable_equality(column);
        }
        let rho = cs.challenge_usable_after(FirstPhase);
        let wide: Vec<_> = (0..WIDE).map(|_| cs.advice_column_in(SecondPhase)).collect();
        let on = cs.fixed_column();
        for (&u, pair) in wide.iter().zip(narrow.chunks(2)) {
            let (Some(&a), Some(&b)) = (pair.first(), pair.last()) else { continue };
            cs.create_gate("running sum", |cs| {
                let on = cs.query_fixed(on, Rotation::cur());
                let a = cs.query_advice(a, Rotation::cur());
                let b = cs.query_advice(b, Rotation::cur());
                let next = cs.query_advice(u, Rotation::next());
                let u = cs.query_advice(u, Rotation::cur());
                let rho = cs.query_challenge(rho);
                let term = a.clone() * a.clone() * b.clone() * b + a;
                vec![on * (next - u * rho - term)]
            });
        }
        Config { narrow, wide, on, rho }
    }

    fn synthesize(&self, config: Config, mut layouter: impl Layouter<Fr>) -> Result<(), Error> {
        let n = rows(self.k);
        layouter.assign_region(
            || "rows",
            |mut region| {
                let mut first = Vec::with_capacity(COPIED);
                for (c, &column) in config.narrow.iter().enumerate() {
                    for row in 0..n {
                        let value = match &self.values {
                            Some(v) => v
                                .get(row)
                                .and_then(|r| r.get(c))
                                .map_or(Value::unknown(), |&x| Value::known(Fr::from(u64::from(x)))),
                            None => Value::unknown(),
                        };
                        let cell = region.assign_advice(column, row, value);
                        if row == 0 && c < COPIED {
                            first.push(cell.cell());
                        }
                        // Each copied column repeats its first value in its last row but one.
                        if c < COPIED && row + 2 == n {
                            let again = self.values.as_ref().and_then(|v| v.first()).and_then(|r| r.get(c));
                            let value =
                                again.map_or(Value::unknown(), |&x| Value::known(Fr::from(u64::from(x))));
                            let cell = region.assign_advice(column, n, value);
                            if let Some(&first) = first.get(c) {
                                region.constrain_equal(first, cell.cell());
                            }
                        }
                    }
                }
                for row in 0..n {
                    region.assign_fixed(config.on, row, Fr::ONE);
                }
                region.next_phase();
                let rho = region.get_challenge(config.rho);
                for (w, &column) in config.wide.iter().enumerate() {
                    let mut u = Value::known(Fr::ZERO);
                    for row in 0..=n {
                        region.assign_advice(column, row, u);
                        let pair =
                            self.values.as_ref().and_then(|v| v.get(row)).map(|r| (r[2 * w], r[2 * w + 1]));
                        u = match pair {
                            Some((a, b)) => {
                                let (a, b) = (Fr::from(u64::from(a)), Fr::from(u64::from(b)));
                                u.zip(rho).map(|(u, rho)| u * rho + a * a * b * b + a)
                            }
                            None => Value::unknown(),
                        };
                    }
                }
                Ok(())
            },
        )
    }
}
