//! A proving key without what follows from the rest of it.
//!
//! Upstream's key holds every column twice, by value and by coefficients, and its domain holds the twiddle factors of all sizes up to
//! the extended domain's: of wide circuits about half of the key. A proof reads columns by value in two stages alone, before anything
//! is interpolated, and the engine has twiddle factors of its own. So a prepared key keeps coefficients only; the few columns
//! that a program reads by value are transformed when it runs ([`Session::evaluate`](crate::session::Session::evaluate)), which
//! costs about a fiftieth of the proof.

use std::collections::HashMap;

use halo2_axiom::SerdeFormat;
use halo2_axiom::plonk::{self, permutation};
use halo2_axiom::poly::{Coeff, EvaluationDomain, LagrangeCoeff, Polynomial};
use halo2curves::bn256::{Fr, G1Affine};

use crate::{ProvingKey, VerifyingKey};

/// Bytes of a verifying key before its points: version, k, selector flag, number of fixed columns.
const VK_HEADER: usize = 10;

/// Whether columns by value are left out.
pub(crate) fn is_lean(pk: &ProvingKey) -> bool {
    pk.fixed_values().len() < pk.fixed_polys().len()
        || pk.permutation().permutations().len() < pk.permutation().polys().len()
}

/// The key without columns by value and without twiddle factors; `None` if it has no values to leave out, or cannot be put together
/// from its parts.
pub(crate) fn lean(pk: &ProvingKey) -> Option<ProvingKey> {
    let polys = pk.fixed_polys().len() + pk.permutation().polys().len();
    if is_lean(pk) || polys == 0 {
        return None;
    }
    let from = pk.get_vk().get_domain();
    let domain =
        EvaluationDomain { t_evaluations: from.t_evaluations.clone(), fft_data: HashMap::new(), ..*from };
    let vk = verifying_key(pk.get_vk(), domain)?;
    Some(proving_key(pk, vk, Vec::new(), Vec::new()))
}

/// The key with all that [`lean`] leaves out. A key that is complete is copied.
pub(crate) fn complete(pk: &ProvingKey) -> ProvingKey {
    let from = pk.get_vk().get_domain();
    let domain = EvaluationDomain::new(from.get_quotient_poly_degree() as u32 + 1, from.k());
    let Some(vk) = verifying_key(pk.get_vk(), domain).filter(|_| is_lean(pk)) else { return pk.clone() };
    let values = |polys: &[Polynomial<Fr, Coeff>]| -> Vec<Polynomial<Fr, LagrangeCoeff>> {
        let domain = vk.get_domain();
        let values = polys.iter().map(|poly| {
            let mut values = poly.values().to_vec();
            let data = domain.get_fft_data(values.len());
            halo2_axiom::arithmetic::best_fft(&mut values, domain.get_omega(), domain.k(), data, false);
            Polynomial::new(values)
        });
        values.collect()
    };
    let (fixed, sigma) = (values(pk.fixed_polys()), values(pk.permutation().polys()));
    proving_key(pk, vk, fixed, sigma)
}

fn proving_key(
    pk: &ProvingKey,
    vk: VerifyingKey,
    fixed: Vec<Polynomial<Fr, LagrangeCoeff>>,
    sigma: Vec<Polynomial<Fr, LagrangeCoeff>>,
) -> ProvingKey {
    plonk::ProvingKey::from_parts(
        vk,
        pk.l0().clone(),
        pk.l_last().clone(),
        pk.l_active_row().clone(),
        fixed,
        pk.fixed_polys().to_vec(),
        permutation::ProvingKey::<G1Affine>::from_parts(sigma, pk.permutation().polys().to_vec()),
    )
}

/// The same key with another form of its domain.
fn verifying_key(vk: &VerifyingKey, domain: EvaluationDomain<Fr>) -> Option<VerifyingKey> {
    let made = plonk::VerifyingKey::from_parts(
        domain,
        vk.fixed_commitments().clone(),
        permutation::VerifyingKey::from_commitments(vk.permutation().commitments().clone()),
        vk.cs().clone(),
        selectors(vk)?,
        vk.compress_selectors(),
    );
    (made.transcript_repr() == vk.transcript_repr()).then_some(made)
}

/// The selectors that a key with compressed ones holds. It has no getter for them, but writes them last.
fn selectors(vk: &VerifyingKey) -> Option<Vec<Vec<bool>>> {
    if !vk.compress_selectors() {
        return Some(Vec::new());
    }
    let rows = 1usize << vk.get_domain().k();
    let mut bytes = Vec::new();
    vk.write(&mut bytes, SerdeFormat::RawBytesUnchecked).ok()?;
    let points = vk.fixed_commitments().len() + vk.permutation().commitments().len();
    let packed = bytes.get(VK_HEADER + points * 64..)?.chunks(rows.div_ceil(8));
    Some(packed.map(|bits| (0..rows).map(|row| bits[row / 8] >> (row % 8) & 1 == 1).collect()).collect())
}
