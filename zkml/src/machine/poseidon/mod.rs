//! The Poseidon permutation of width 5 over the scalar field of BN254: `x5_254_5`.
//!
//! Parameters and constants are those of Grassi, Khovratovich, Rechberger, Roy and Schofnegger (eprint 2019/458) for 128 bits of security:
//! x⁵, width 5, 8 full and 60 partial rounds, round constants and the Cauchy matrix from the Grain LFSR that the paper's appendix
//! specifies (field 1, S-box 0, 254 bits). The reference implementation publishes a test vector for this instance, and circomlib's hash
//! of four elements is the same permutation.
//!
//! The width is a decision about cells: a permutation of width t costs `8t + 60…68` S-boxes for `t − 1` absorbed elements, so wider is cheaper per
//! element, while a small digest pays for the columns of the whole state. Width 5 takes 25 S-boxes per element, against 40 at width 3, with ten columns.

mod digest;
pub(crate) mod gadget;
mod gates;

use std::sync::OnceLock;

use ff::{Field, PrimeField};
use halo2_axiom::halo2curves::bn256::Fr;

pub use digest::{DigestError, MAX_BITS, Segment, digest, pack, packed_len, per_element, width};
pub(crate) use digest::{absorbed, initial};

/// Elements of the state.
pub const WIDTH: usize = 5;
/// Elements absorbed by one permutation.
pub const RATE: usize = WIDTH - 1;
const FULL: usize = 8;
const PARTIAL: usize = 60;
/// Partial rounds that one row of the circuit takes.
const PER_ROW: usize = 3;
const FIELD_BITS: usize = 254;

/// A state.
pub(crate) type State = [Fr; WIDTH];
type Matrix = [State; WIDTH];

/// The generator of the paper's appendix: an 80-bit LFSR, every second bit of which says whether the next one counts.
struct Grain {
    state: u128,
}

impl Grain {
    fn new() -> Self {
        let mut grain = Grain { state: 0 };
        let mut at = 0;
        let mut push = |value: usize, bits: u32| {
            for i in (0..bits).rev() {
                grain.state |= ((value >> i & 1) as u128) << at;
                at += 1;
            }
        };
        push(1, 2);
        push(0, 4);
        push(FIELD_BITS, 12);
        push(WIDTH, 12);
        push(FULL, 10);
        push(PARTIAL, 10);
        push((1 << 30) - 1, 30);
        for _ in 0..160 {
            grain.step();
        }
        grain
    }

    /// Bit i of the state is the i-th oldest.
    fn step(&mut self) -> bool {
        let bit = [62, 51, 38, 23, 13, 0].iter().fold(0, |x, &i| x ^ (self.state >> i & 1));
        self.state = self.state >> 1 | bit << 79;
        bit == 1
    }

    fn bit(&mut self) -> bool {
        while !self.step() {
            self.step();
        }
        self.step()
    }

    /// 254 bits, most significant first, little-endian bytes.
    fn integer(&mut self) -> [u8; 32] {
        let mut bytes = [0u8; 32];
        for i in (0..FIELD_BITS).rev() {
            bytes[i / 8] |= u8::from(self.bit()) << (i % 8);
        }
        bytes
    }

    /// The next integer below the modulus.
    fn element(&mut self) -> Fr {
        loop {
            if let Some(x) = Fr::from_repr(self.integer()).into_option() {
                return x;
            }
        }
    }

    /// The next integer modulo the modulus.
    fn reduced(&mut self) -> Fr {
        let mut wide = [0u8; 64];
        wide[..32].copy_from_slice(&self.integer());
        <Fr as ff::FromUniformBytes<64>>::from_uniform_bytes(&wide)
    }
}

fn times(m: &Matrix, x: &State) -> State {
    m.each_ref().map(|row| row.iter().zip(x).map(|(a, b)| *a * b).sum())
}

fn add(x: &State, y: &State) -> State {
    std::array::from_fn(|i| x[i] + y[i])
}

fn pow5(x: Fr) -> Fr {
    x.square().square() * x
}

/// Constants of the instance, and of the rows that compute it.
#[derive(Debug)]
pub(crate) struct Constants {
    rounds: Vec<State>,
    pub(crate) mds: Matrix,
    /// Added on the way into a row: the absorbing one, then the next row of every full or partial one.
    pub(crate) into: Vec<State>,
    /// Added to the inputs of the second and third S-box of each partial row.
    pub(crate) inner: Vec<[Fr; PER_ROW - 1]>,
    /// The inputs of the second and third S-box and the next state after three partial rounds, each linear in the outputs of the three
    /// S-boxes and in the elements 1 to 4 of the state.
    pub(crate) partial: Partial,
}

/// Three partial rounds without constants: coefficients of y₁, y₂, y₃, s₁ … s₄.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) inner: [[Fr; PER_ROW + RATE]; PER_ROW - 1],
    pub(crate) next: [[Fr; PER_ROW + RATE]; WIDTH],
}

/// The instance's constants.
pub(crate) fn constants() -> &'static Constants {
    static CONSTANTS: OnceLock<Constants> = OnceLock::new();
    CONSTANTS.get_or_init(|| {
        let mut grain = Grain::new();
        let rounds: Vec<State> =
            (0..FULL + PARTIAL).map(|_| std::array::from_fn(|_| grain.element())).collect();
        let mds = loop {
            let list: [Fr; 2 * WIDTH] = std::array::from_fn(|_| grain.reduced());
            let distinct = (0..list.len()).all(|i| !list[..i].contains(&list[i]));
            let mut sound = distinct;
            let matrix: Matrix = std::array::from_fn(|i| {
                std::array::from_fn(|j| {
                    let inverse = (list[i] + list[WIDTH + j]).invert();
                    sound &= bool::from(inverse.is_some());
                    inverse.unwrap_or(Fr::ZERO)
                })
            });
            if sound {
                break matrix;
            }
        };
        rows(rounds, mds)
    })
}

/// What the rows add. In partial rounds only the first element meets an S-box, so what is added to the others moves through the
/// matrix into the next round.
fn rows(rounds: Vec<State>, mds: Matrix) -> Constants {
    let (half, zero) = (FULL / 2, [Fr::ZERO; WIDTH]);
    let mut carry = zero;
    let firsts: Vec<Fr> = rounds[half..half + PARTIAL]
        .iter()
        .map(|round| {
            let all = add(round, &carry);
            carry = times(&mds, &[&[Fr::ZERO], &all[1..]].concat().try_into().unwrap_or(zero));
            all[0]
        })
        .collect();
    let first = |x: Fr| [x, Fr::ZERO, Fr::ZERO, Fr::ZERO, Fr::ZERO];
    let mut into = rounds[..half].to_vec();
    into.extend(firsts.iter().step_by(PER_ROW).map(|&x| first(x)));
    into.push(add(&rounds[half + PARTIAL], &carry));
    into.extend(&rounds[half + PARTIAL + 1..]);
    into.push(zero);
    let inner = firsts.chunks_exact(PER_ROW).map(|c| [c[1], c[2]]).collect();
    // A state as linear forms in y₁, y₂, y₃, s₁ … s₄.
    type Form = [Fr; PER_ROW + RATE];
    let unit = |at: usize| -> Form { std::array::from_fn(|i| if i == at { Fr::ONE } else { Fr::ZERO }) };
    let mut forms: [Form; WIDTH] = std::array::from_fn(|i| unit(PER_ROW + i.saturating_sub(1)));
    let mut sboxes = [unit(0); PER_ROW - 1];
    for round in 0..PER_ROW {
        forms[0] = unit(round);
        forms = std::array::from_fn(|i| {
            std::array::from_fn(|at| (0..WIDTH).map(|j| mds[i][j] * forms[j][at]).sum())
        });
        if let Some(slot) = sboxes.get_mut(round) {
            *slot = forms[0];
        }
    }
    Constants { rounds, mds, into, inner, partial: Partial { inner: sboxes, next: forms } }
}

/// The permutation.
pub fn permute(state: &mut [Fr; WIDTH]) {
    let c = constants();
    for (r, round) in c.rounds.iter().enumerate() {
        *state = add(state, round);
        state[0] = pow5(state[0]);
        if !(FULL / 2..FULL / 2 + PARTIAL).contains(&r) {
            state[1..].iter_mut().for_each(|x| *x = pow5(*x));
        }
        *state = times(&c.mds, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(x: Fr) -> String {
        x.to_repr().as_ref().iter().rev().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_permutation_is_the_reference_implementations() {
        // `poseidonperm_x5_254_5` of the reference implementation's test vectors.
        let mut state = std::array::from_fn(|i| Fr::from(i as u64));
        permute(&mut state);
        assert_eq!(
            state.map(hex),
            [
                "299c867db6c1fdd79dcefa40e4510b9837e60ebb1ce0663dbaa525df65250465",
                "1148aaef609aa338b27dafd89bb98862d8bb2b429aceac47d86206154ffe053d",
                "24febb87fed7462e23f6665ff9a0111f4044c38ee1672c1ac6b0637d34f24907",
                "0eb08f6d809668a981c186beaf6110060707059576406b248e5d9cf6e78b3d3e",
                "07748bc6877c9b82c8b98666ee9d0626ec7f5be4205f79ee8528ef1c4a376fc7",
            ]
        );
    }

    #[test]
    fn the_hash_of_four_is_circomlibs() {
        let mut state = std::array::from_fn(|i| Fr::from(i as u64));
        permute(&mut state);
        let expected = "18821383157269793795438455681495246036402687001665670618754263018637548127333";
        assert_eq!(Fr::from_str_vartime(expected), Some(state[0]));
    }

    #[test]
    fn constants_are_the_published_ones() {
        let c = constants();
        assert_eq!(hex(c.rounds[0][0]), "0eb544fee2815dda7f53e29ccac98ed7d889bb4ebd47c3864f3c2bd81a6da891");
        assert_eq!(c.into.len(), FULL + PARTIAL / PER_ROW + 1);
    }
}
