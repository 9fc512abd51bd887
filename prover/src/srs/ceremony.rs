//! Which strings are known to be a public ceremony's, and which secrets anybody can guess.
//!
//! `[τ]G2` identifies a string: two secrets with the same point are equal. So a string is recognised by it alone, whatever a file says about its
//! own origin. The points in the table are those that verifiers deployed by others hold.

use std::sync::OnceLock;

use ff::PrimeField;
use group::Curve;
use group::prime::PrimeCurveAffine;
use halo2_axiom::halo2curves::CurveAffineExt;
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fq, Fq2, G2, G2Affine};

use super::{Srs, SrsError};

/// Secrets up to this magnitude are guessed by trying.
const GUESSABLE: u32 = 256;

/// A public ceremony of powers of tau over BN254.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceremony {
    /// What people call it.
    pub name: &'static str,
    /// `[τ]G2` affine: x.c0, x.c1, y.c0, y.c1, canonical, most significant digit first.
    s_g2: [&'static str; 4],
}

/// Each point is in public verifiers: `X_2` of snarkjs PLONK keys made with `powersOfTau28_hez_final_*.ptau`; `neg_s_g2` of the Solidity
/// verifiers of ezkl and Scroll, made with `perpetual-powers-of-tau-raw-*`; `g2_x` of Aztec's and zkSync's verification keys.
const CEREMONIES: [Ceremony; 3] = [
    Ceremony {
        name: "perpetual powers of tau, Hermez (powersOfTau28_hez_final)",
        s_g2: [
            "30441fd1b5d3370482c42152a8899027716989a6996c2535bc9f7fee8aaef79e",
            "26186a2d65ee4d2f9c9a5b91f86597d35f192cd120caf7e935d8443d1938e23d",
            "054793348f12c0cf5622c340573cb277586319de359ab9389778f689786b1e48",
            "1970ea81dd6992adfbc571effb03503adbbb6a857f578403c6c40e22d65b3c02",
        ],
    },
    Ceremony {
        name: "perpetual powers of tau, PSE (perpetual-powers-of-tau-raw)",
        s_g2: [
            "17944351223333f260ddc3b4af45191b856689eda9eab5cbcddbbe570ce860d2",
            "186282957db913abd99f91db59fe69922e95040603ef44c0bd7aa3adeef8f5ac",
            "297772d34bc9aa8ae56162486363ffe417b02dc7e8c207fc2cc20203e67a02ad",
            "298adc7396bd3865cbf6d6df91bae406694e6d2215baa893bdeadb63052895f4",
        ],
    },
    Ceremony {
        name: "Aztec Ignition",
        s_g2: [
            "0118c4d5b837bcc2bc89b5b398b5974e9f5944073b32078b7e231fec938883b0",
            "260e01b251f6f1c7e7ff4e580791dee8ea51d87a358e038b4efe30fac09383c1",
            "22febda3c0c0632a56475b4214e5615e11e6dd3f96e6cea2854a87d4dacc5e55",
            "04fc6369f7110fe3d25156c1bb9a72859cf2a04641f99ba4ee413c80da6a5fe4",
        ],
    },
];

impl Ceremony {
    /// All ceremonies that are known.
    pub fn all() -> &'static [Ceremony] {
        &CEREMONIES
    }

    /// The ceremony whose `[τ]G2` this is.
    pub fn of(s_g2: &G2Affine) -> Option<&'static Ceremony> {
        static POINTS: OnceLock<Vec<Option<G2Affine>>> = OnceLock::new();
        let points = POINTS.get_or_init(|| CEREMONIES.iter().map(Ceremony::s_g2).collect());
        CEREMONIES.iter().zip(points).find(|(_, point)| point.as_ref() == Some(s_g2)).map(|(c, _)| c)
    }

    /// Its `[τ]G2`; `None` if the table holds anything but a point of the curve.
    pub fn s_g2(&self) -> Option<G2Affine> {
        let [x0, x1, y0, y1] = self.s_g2.map(coordinate);
        G2Affine::from_xy(Fq2::new(x0?, x1?), Fq2::new(y0?, y1?)).into()
    }
}

fn coordinate(hex: &str) -> Option<Fq> {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().rev().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Fq::from_repr(bytes).into()
}

/// Refuses a `[τ]G2` whose secret anybody finds: zero, and magnitudes of at most 256. A string to which nobody has
/// contributed has τ = 1.
///
/// # Errors
/// [`SrsError::Inconsistent`].
pub fn refuse_guessable(s_g2: &G2Affine) -> Result<(), SrsError> {
    if bool::from(s_g2.is_identity()) {
        return Err(SrsError::Inconsistent("the secret is zero"));
    }
    let generator = G2Affine::generator();
    if *s_g2 == generator {
        return Err(SrsError::Inconsistent("the secret is 1: nobody has contributed to this string"));
    }
    let (x, _) = s_g2.into_coordinates();
    let multiples: Vec<G2> = std::iter::successors(Some(generator.to_curve()), |p| Some(p + generator))
        .take(GUESSABLE as usize)
        .collect();
    let mut affine = vec![G2Affine::default(); multiples.len()];
    G2::batch_normalize(&multiples, &mut affine);
    // A point and its negative have the same abscissa.
    if affine.into_iter().any(|p| p.into_coordinates().0 == x) {
        return Err(SrsError::Inconsistent("the secret is a small number that anybody can guess"));
    }
    Ok(())
}

impl Srs {
    /// The public ceremony that this string is from, recognised by its `[τ]G2`.
    pub fn ceremony(&self) -> Option<&'static Ceremony> {
        Ceremony::of(&self.s_g2)
    }
}

#[cfg(test)]
mod tests {
    use group::Group;
    use halo2curves::bn256::Fr;

    use super::*;

    #[test]
    fn every_point_is_in_the_group_and_found() {
        for ceremony in Ceremony::all() {
            let point = ceremony.s_g2().unwrap_or_else(|| panic!("{}: not on the curve", ceremony.name));
            assert_eq!(point * -Fr::one() + point, G2::identity(), "{}: not in the subgroup", ceremony.name);
            assert_eq!(Ceremony::of(&point), Some(ceremony));
            // The other root has the same abscissa and is nobody's.
            assert_eq!(Ceremony::of(&-point), None);
            refuse_guessable(&point).unwrap();
        }
        assert_eq!(Ceremony::of(&G2Affine::generator()), None);
    }

    #[test]
    fn secrets_that_anybody_guesses_are_refused() {
        let times = |s: Fr| (G2Affine::generator() * s).to_affine();
        for small in [0u64, 1, 2, 3, 17, 255, 256] {
            for secret in [Fr::from(small), -Fr::from(small)] {
                assert!(refuse_guessable(&times(secret)).is_err(), "{small}");
            }
        }
        refuse_guessable(&times(Fr::from(0x1234_5678_9abc))).unwrap();
    }
}
