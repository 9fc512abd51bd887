//! The Lagrange basis from the monomial one: an inverse transform over the group.

use group::prime::PrimeCurveAffine;
use halo2_axiom::arithmetic::g_to_lagrange;
use halo2curves::bn256::G1Affine;

/// `[L_i(τ)]G1` from `[τ^i]G1`; the lengths are 2^k.
pub(super) fn to_lagrange(g: &[G1Affine], k: u32) -> Vec<G1Affine> {
    g_to_lagrange(g.iter().map(PrimeCurveAffine::to_curve).collect(), k)
}
