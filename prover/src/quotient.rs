//! h(X): the combined constraints divided by X^n − 1.
//!
//! h has degree below D·n, with D = degree of the constraint system − 1, so D cosets of size n determine it: one coset after the
//! other, every column is transformed, the program is run, and the result is transformed back. Memory is that of one coset. (Upstream evaluates on the next
//! power of two of cosets.)
//!
//! On the coset g_p·⟨ω⟩, X^n is the constant c_p = g_p^n. With h = Σ_j X^(jn)·h_j, deg h_j < n, the inverse transform on that
//! coset therefore gives r_p = Σ_j c_p^j·h_j, times c_p − 1 as long as nothing was divided. The h_j, which are the pieces that are
//! committed, are the solution of that D × D system: the same linear combinations for every coefficient.

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Domain, NttPlan};

use crate::program::{Key, Programs};
use crate::session::Session;
use crate::{Error, Result};

/// The pieces h_0 … h_{D−1}, n coefficients each. `poly` gives the coefficients of a circuit's column; `challenges` are those of
/// [`Programs::quotient`]; `y` combines the circuits.
pub(crate) fn quotient<'c>(
    session: &Session<'_>,
    programs: &Programs,
    circuits: usize,
    poly: impl Fn(usize, Key) -> &'c [Fr],
    challenges: &[Fr],
    y: Fr,
) -> Result<Vec<Vec<Fr>>> {
    let (domain, k, n) = (session.domain(), session.k(), session.n());
    let parts = domain.get_quotient_poly_degree();
    let keys = &programs.quotient.columns;
    let shared: Vec<bool> = keys.iter().map(|key| is_shared(*key)).collect();
    let next_circuit = y.pow_vartime([programs.terms as u64]);
    let mut buffers: Vec<Vec<Fr>> = keys.iter().map(|_| vec![Fr::ZERO; n]).collect();
    let mut remainders = Vec::with_capacity(parts);
    let mut shifts = Vec::with_capacity(parts);
    let mut shift = domain.g_coset;
    for _ in 0..parts {
        let row_domain = Domain { log_n: k, omega: domain.get_omega(), shift };
        let mut sum: Option<Vec<Fr>> = None;
        for circuit in 0..circuits {
            let (from, mut to): (Vec<_>, Vec<_>) = keys
                .iter()
                .zip(&shared)
                .zip(buffers.iter_mut())
                .filter(|((_, shared), _)| circuit == 0 || !**shared)
                .map(|((key, _), buffer)| (Ref::host(poly(circuit, *key)), RefMut::host(buffer)))
                .unzip();
            session.engine.ntt_batch_into(&NttPlan::forward(k).on_coset(shift), &from, &mut to)?;
            drop(to);
            let columns: Vec<_> = buffers.iter().map(|b| Ref::host(b)).collect();
            let mut values = vec![Fr::ZERO; n];
            session.engine.evaluate(
                &programs.quotient.program,
                &row_domain,
                &columns,
                challenges,
                &mut [RefMut::host(&mut values)],
            )?;
            sum = Some(match sum {
                None => values,
                Some(before) => {
                    let mut both = vec![Fr::ZERO; n];
                    let terms = [(next_circuit, Ref::host(&before)), (Fr::ONE, Ref::host(&values))];
                    session.engine.linear_combination(&terms, RefMut::host(&mut both))?;
                    both
                }
            });
        }
        let mut remainder = sum.unwrap_or_else(|| vec![Fr::ZERO; n]);
        session
            .engine
            .ntt_batch(&NttPlan::inverse(k).on_coset(shift), &mut [RefMut::host(&mut remainder)])?;
        remainders.push(remainder);
        shifts.push(shift);
        shift *= domain.get_extended_omega();
    }
    drop(buffers);
    let weights = pieces_from_remainders(&shifts, n)
        .ok_or_else(|| Error::Unsupported("cosets that do not determine the quotient".into()))?;
    weights
        .iter()
        .map(|row| {
            let terms: Vec<_> = row.iter().zip(&remainders).map(|(w, r)| (*w, Ref::host(r))).collect();
            let mut piece = vec![Fr::ZERO; n];
            session.engine.linear_combination(&terms, RefMut::host(&mut piece))?;
            Ok(piece)
        })
        .collect()
}

/// Whether a column is the same for every circuit of a proof.
fn is_shared(key: Key) -> bool {
    matches!(key, Key::Fixed(_) | Key::Sigma(_) | Key::First | Key::Last | Key::Active)
}

/// The matrix W with `h_j = Σ_p W[j][p]·r_p`: the inverse of the Vandermonde matrix of the c_p, its columns divided by
/// c_p − 1. `None` when a c_p is 1 or occurs twice.
fn pieces_from_remainders(shifts: &[Fr], n: usize) -> Option<Vec<Vec<Fr>>> {
    let points: Vec<Fr> = shifts.iter().map(|s| s.pow_vartime([n as u64])).collect();
    let mut weights = vec![Vec::with_capacity(points.len()); points.len()];
    for (p, point) in points.iter().enumerate() {
        // Column p holds the coefficients of the Lagrange polynomial of c_p: Π_{q≠p} (X − c_q)/(c_p − c_q).
        let mut basis = vec![Fr::ONE];
        let mut scale = point - Fr::ONE;
        for (_, other) in points.iter().enumerate().filter(|(q, _)| *q != p) {
            basis.insert(0, Fr::ZERO);
            for i in 1..basis.len() {
                let carried = basis[i] * other;
                basis[i - 1] -= carried;
            }
            scale *= point - other;
        }
        let scale: Fr = Option::from(scale.invert())?;
        for (row, coefficient) in weights.iter_mut().zip(basis) {
            row.push(coefficient * scale);
        }
    }
    Some(weights)
}

#[cfg(test)]
mod tests {
    use halo2_axiom::arithmetic::eval_polynomial;

    use super::*;

    #[test]
    fn pieces_are_recovered_from_remainders() {
        let n = 8;
        let shifts: Vec<Fr> = (3..7).map(Fr::from).collect();
        let pieces: Vec<Vec<Fr>> =
            (0..4u64).map(|j| (0..n as u64).map(|i| Fr::from(i * i + 17 * j + 1)).collect()).collect();
        let remainders: Vec<Vec<Fr>> = shifts
            .iter()
            .map(|s| {
                let c = s.pow_vartime([n as u64]);
                (0..n)
                    .map(|i| {
                        let column: Vec<Fr> = pieces.iter().map(|p| p[i]).collect();
                        eval_polynomial(&column, c) * (c - Fr::ONE)
                    })
                    .collect()
            })
            .collect();
        let weights = pieces_from_remainders(&shifts, n).unwrap();
        for (row, piece) in weights.iter().zip(&pieces) {
            let got: Vec<Fr> =
                (0..n).map(|i| row.iter().zip(&remainders).map(|(w, r)| w * r[i]).sum()).collect();
            assert_eq!(&got, piece);
        }
        assert!(pieces_from_remainders(&[Fr::from(3), Fr::from(3)], n).is_none());
        assert!(pieces_from_remainders(&[Fr::ONE], n).is_none());
    }
}
