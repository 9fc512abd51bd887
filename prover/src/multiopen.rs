//! Opening many polynomials at many points.
//!
//! Both schemes divide linear combinations of the polynomials by polynomials that vanish at the points. What upstream
//! subtracts before a division (evaluations, interpolants of lower degree than the divisor) is exactly the remainder,
//! and a quotient does not depend on the remainder; so no evaluation is needed here at all, and each combination is
//! formed once and used for both of SHPLONK's quotients.

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};

use crate::options::Multiopen;
use crate::session::Session;
use crate::{Error, Result};

/// A polynomial as a weighted sum of coefficient vectors: a column is itself with weight 1, h is Σ x^(in)·h_i.
pub(crate) type Opened<'c> = Vec<(Fr, &'c [Fr])>;

/// Opening of the polynomial with an index at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) poly: usize,
    pub(crate) point: Fr,
}

/// The combinations of the polynomials that a scheme divides. Once they exist, the polynomials are no longer needed.
pub(crate) enum Combined {
    Shplonk {
        points: Vec<Fr>,
        v: Fr,
        /// N_i with the points at which its polynomials are opened, as indices into `points`.
        sets: Vec<(Vec<usize>, Vec<Fr>)>,
    },
    /// One combination per point.
    Gwc(Vec<(Fr, Vec<Fr>)>),
}

/// Combines the polynomials for their openings, in the order of the queries.
pub(crate) fn combine(
    session: &mut Session<'_>,
    scheme: Multiopen,
    polys: &[Opened<'_>],
    queries: &[Query],
) -> Result<Combined> {
    let mut seen = std::collections::HashSet::new();
    if !queries.iter().all(|q| seen.insert((q.poly, ff::PrimeField::to_repr(&q.point)))) {
        return Err(Error::Unsupported("two rotations of a column that coincide at this k".into()));
    }
    match scheme {
        Multiopen::Shplonk => {
            let y = session.channel.squeeze();
            let (points, sets) = rotation_sets(queries);
            let v = session.channel.squeeze();
            // N_i = Σ_j y^j·P_ij.
            let sets = sets.into_iter().map(|set| Ok((set.points, weighted(session, polys, &set.polys, y)?)));
            Ok(Combined::Shplonk { points, v, sets: sets.collect::<Result<_>>()? })
        }
        Multiopen::Gwc => {
            let v = session.channel.squeeze();
            let mut groups: Vec<(Fr, Vec<usize>)> = Vec::new();
            for query in queries {
                match groups.iter_mut().find(|(point, _)| *point == query.point) {
                    Some((_, list)) => list.push(query.poly),
                    None => groups.push((query.point, vec![query.poly])),
                }
            }
            let groups =
                groups.into_iter().map(|(point, list)| Ok((point, weighted(session, polys, &list, v)?)));
            Ok(Combined::Gwc(groups.collect::<Result<_>>()?))
        }
    }
}

impl Combined {
    /// Proves the openings.
    pub(crate) fn prove(self, session: &mut Session<'_>) -> Result<()> {
        match self {
            Combined::Shplonk { points, v, sets } => shplonk(session, &points, v, sets),
            Combined::Gwc(groups) => gwc(session, groups),
        }
    }
}

/// Polynomials that are opened at the same points.
struct Set {
    /// Indices into the distinct points, ascending.
    points: Vec<usize>,
    polys: Vec<usize>,
}

fn rotation_sets(queries: &[Query]) -> (Vec<Fr>, Vec<Set>) {
    let mut points: Vec<Fr> = Vec::new();
    let mut of_poly: Vec<(usize, Vec<usize>)> = Vec::new();
    for query in queries {
        let point = points.iter().position(|p| *p == query.point).unwrap_or_else(|| {
            points.push(query.point);
            points.len() - 1
        });
        match of_poly.iter_mut().find(|(poly, _)| *poly == query.poly) {
            Some((_, list)) => list.push(point),
            None => of_poly.push((query.poly, vec![point])),
        }
    }
    let mut sets: Vec<Set> = Vec::new();
    for (poly, mut list) in of_poly {
        list.sort_unstable();
        match sets.iter_mut().find(|set| set.points == list) {
            Some(set) => set.polys.push(poly),
            None => sets.push(Set { points: list, polys: vec![poly] }),
        }
    }
    (points, sets)
}

fn shplonk(session: &mut Session<'_>, points: &[Fr], v: Fr, sets: Vec<(Vec<usize>, Vec<Fr>)>) -> Result<()> {
    let engine = session.engine;
    // h = Σ_i v^i·N_i / Z_i, one quotient at a time.
    let mut h = vec![Fr::ZERO; session.n()];
    let (mut quotient, mut sum) = (Vec::new(), vec![Fr::ZERO; session.n()]);
    for (weight, (at, combined)) in powers(v).zip(&sets) {
        quotient.clone_from(combined);
        for point in at {
            engine.divide_by_linear(RefMut::host(&mut quotient), points[*point])?;
        }
        let terms = [(Fr::ONE, Ref::host(&h)), (weight, Ref::host(&quotient))];
        engine.linear_combination(&terms, RefMut::host(&mut sum))?;
        std::mem::swap(&mut h, &mut sum);
    }
    drop(quotient);
    session.commit_polys(&[&h])?;

    let u = session.channel.squeeze();
    // L = Σ_i v^i·z_i·N_i − z_T·h, all divided by z_0, with z_i the product of u − p over the points that set i lacks.
    let vanishing = |without: &[usize]| -> Fr {
        points.iter().enumerate().filter(|(i, _)| !without.contains(i)).map(|(_, p)| u - p).product()
    };
    let z0 = sets.first().map_or(Fr::ONE, |(at, _)| vanishing(at));
    let scale: Fr = Option::from(z0.invert())
        .ok_or_else(|| Error::Unsupported("a challenge that hits an opening point".into()))?;
    let mut terms: Vec<_> = powers(v)
        .zip(&sets)
        .map(|(weight, (at, combined))| (weight * vanishing(at) * scale, Ref::host(combined)))
        .collect();
    terms.push((-vanishing(&[]) * scale, Ref::host(&h)));
    let mut l = sum;
    engine.linear_combination(&terms, RefMut::host(&mut l))?;
    drop(terms);
    drop((h, sets));
    engine.divide_by_linear(RefMut::host(&mut l), u)?;
    session.commit_polys(&[&l])
}

fn gwc(session: &mut Session<'_>, mut groups: Vec<(Fr, Vec<Fr>)>) -> Result<()> {
    for (point, combined) in &mut groups {
        session.engine.divide_by_linear(RefMut::host(combined), *point)?;
    }
    let witnesses: Vec<&[Fr]> = groups.iter().map(|(_, witness)| witness.as_slice()).collect();
    session.commit_polys(&witnesses)
}

/// `Σ_j base^j·P_j` over the listed polynomials.
fn weighted(session: &Session<'_>, polys: &[Opened<'_>], list: &[usize], base: Fr) -> Result<Vec<Fr>> {
    let mut out = vec![Fr::ZERO; session.n()];
    let terms: Vec<_> = powers(base)
        .zip(list)
        .flat_map(|(power, index)| polys[*index].iter().map(move |(w, p)| (*w * power, Ref::host(p))))
        .collect();
    session.engine.linear_combination(&terms, RefMut::host(&mut out))?;
    Ok(out)
}

fn powers(base: Fr) -> impl Iterator<Item = Fr> {
    std::iter::successors(Some(Fr::ONE), move |p| Some(*p * base))
}
