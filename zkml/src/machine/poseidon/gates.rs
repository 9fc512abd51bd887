//! The gates of digest lanes; see [`super::gadget`] for the rows.

use ff::Field;
use halo2_axiom::halo2curves::bn256::Fr;
use halo2_axiom::plonk::{ConstraintSystem, Expression, VirtualCells};
use halo2_axiom::poly::Rotation;

use super::super::config::MachineConfig;
use super::super::layout::Layout;
use super::super::sites::{Site, on};
use super::gadget::{COLUMNS, HashSlot, digit_position};
use super::{PER_ROW, WIDTH, constants};

type Ex = Expression<Fr>;

fn square(x: &Ex) -> Ex {
    x.clone() * x.clone()
}

/// `Σ factor·value`.
fn linear<'a>(parts: impl Iterator<Item = (Fr, &'a Ex)>) -> Ex {
    let terms = parts.filter(|(c, _)| !bool::from(c.is_zero()));
    let sum = terms.map(|(c, x)| if c == Fr::ONE { x.clone() } else { x.clone() * c }).reduce(|x, y| x + y);
    sum.unwrap_or(Expression::Constant(Fr::ZERO))
}

impl MachineConfig {
    pub(in super::super) fn hash_gates(&self, meta: &mut ConstraintSystem<Fr>, layout: &Layout) {
        for lane in self.hash.chunks(COLUMNS) {
            meta.create_gate("digest", |meta| {
                let mut cells =
                    |rotation| -> Vec<Ex> { lane.iter().map(|&c| meta.query_advice(c, rotation)).collect() };
                let cur = cells(Rotation::cur());
                let (s, q) = cur.split_at(WIDTH);
                let next: Vec<Ex> =
                    lane.iter().take(WIDTH).map(|&c| meta.query_advice(c, Rotation::next())).collect();
                self.digest_constraints(meta, layout, s, q, &next)
            });
        }
    }

    fn digest_constraints(
        &self,
        meta: &mut VirtualCells<'_, Fr>,
        layout: &Layout,
        s: &[Ex],
        q: &[Ex],
        next: &[Ex],
    ) -> Vec<Ex> {
        let c = constants();
        let mut times = |slot: HashSlot, value: Ex| -> Option<Ex> {
            self.combination(meta, &layout.hash.field, &self.hash_fixed, |_, known| {
                (*known == slot).then(|| value.clone())
            })
        };
        let one = || Expression::Constant(Fr::ONE);
        // Outputs of S-boxes: of a full round, and of three partial rounds.
        let full: Vec<Ex> = q.iter().zip(s).map(|(q, s)| square(q) * s.clone()).collect();
        let inputs = |round: usize| if round == 0 { &s[0] } else { &q[2 * round - 1] };
        let form: Vec<Ex> = (0..PER_ROW)
            .map(|round| square(&q[2 * round]) * inputs(round).clone())
            .chain(s[1..].iter().cloned())
            .collect();
        let partial = |coefficients: &[Fr]| linear(coefficients.iter().copied().zip(&form));
        let mut out: Vec<Ex> = Vec::new();
        for i in 0..WIDTH {
            let (round, even) = (i / 2, i % 2 == 0);
            let mut parts = vec![];
            if on(Site::DigestSquareFull) {
                parts.push(times(HashSlot::Full, q[i].clone() - square(&s[i])));
            }
            if even && on(Site::DigestSquarePartial) {
                parts.push(times(HashSlot::Partial, q[i].clone() - square(inputs(round))));
            } else if let Some(coefficients) = c.partial.inner.get(round)
                && !even
                && on(Site::DigestInner)
            {
                parts.push(times(HashSlot::Partial, q[i].clone() - partial(coefficients)));
                parts.push(times(HashSlot::Inner(round as u8), -one()));
            }
            out.extend(parts.into_iter().flatten().reduce(|x, y| x + y));
        }
        for i in 0..WIDTH {
            let absorbed = if i == 0 { q[0].clone() } else { q[i].clone() + s[i].clone() };
            let mixed = linear(c.mds[i].iter().copied().zip(&full));
            let mut parts = vec![
                times(HashSlot::Absorb, next[i].clone() - absorbed),
                times(HashSlot::Into(i as u8), -one()),
            ];
            if on(Site::DigestNextFull) {
                parts.push(times(HashSlot::Full, next[i].clone() - mixed));
            }
            if on(Site::DigestNextPartial) {
                parts.push(times(HashSlot::Partial, next[i].clone() - partial(&c.partial.next[i])));
            }
            if i == 0 {
                parts.push(times(HashSlot::Pack, next[0].clone()));
                parts.push(times(HashSlot::Again, -s[0].clone()));
                for digit in 0..COLUMNS - 1 {
                    let position = digit_position(digit);
                    let cell = if position < WIDTH { &s[position] } else { &q[position - WIDTH] };
                    parts.push(times(HashSlot::Digit(digit as u8), -cell.clone()));
                }
            }
            out.extend(parts.into_iter().flatten().reduce(|x, y| x + y));
        }
        out
    }
}
