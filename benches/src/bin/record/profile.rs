//! The magnitudes of the scalars that real zkML proofs commit to, as recorded by the binary `column-profile`.

use halo2curves::bn256::Fr;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use serde::Deserialize;

/// How many scalars s of all committed columns have min(s, r − s) of each number of bits, and how many of those are r − s.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Profile {
    /// `positive[b]`: scalars of b bits; 0 bits is zero.
    positive: Vec<u64>,
    /// `negative[b]`: scalars whose negative has b bits.
    negative: Vec<u64>,
}

impl Profile {
    /// The profile that is shipped with this package.
    pub(crate) fn shipped() -> Self {
        serde_json::from_str(include_str!("../../../data/zkml-columns.json")).expect("shipped data")
    }

    /// A scalar of the recorded distribution: of a recorded width and sign, otherwise uniform.
    pub(crate) fn draw(&self, rng: &mut ChaCha20Rng) -> Fr {
        let total: u64 = self.positive.iter().chain(&self.negative).sum();
        let mut at = rng.next_u64() % total.max(1);
        for (counts, negative) in [(&self.positive, false), (&self.negative, true)] {
            for (bits, count) in counts.iter().enumerate() {
                if at < *count {
                    let value = of_width(bits, rng);
                    return if negative { -value } else { value };
                }
                at -= count;
            }
        }
        Fr::zero()
    }
}

fn of_width(bits: usize, rng: &mut ChaCha20Rng) -> Fr {
    let mut words = [0u64; 4];
    for (i, word) in words.iter_mut().enumerate() {
        let here = bits.saturating_sub(64 * i).min(64);
        if here > 0 {
            *word = rng.next_u64() >> (64 - here);
            if bits <= 64 * (i + 1) {
                *word |= 1 << (here - 1);
            }
        }
    }
    Fr::from_raw(words)
}
