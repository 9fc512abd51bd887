//! Opening many polynomials at many points.
//!
//! Both schemes divide linear combinations of the polynomials by polynomials that vanish at the points. What upstream
//! subtracts before a division (evaluations, interpolants of lower degree than the divisor) is exactly the remainder,
//! and a quotient does not depend on the remainder; so no evaluation is needed here at all, and each combination is
//! formed once and used for both of SHPLONK's quotients.

use ff::Field;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::hal::Ref;

use crate::options::Multiopen;
use crate::resident::{Column, Retreat};
use crate::session::Session;
use crate::{Error, Result};

/// A polynomial as a weighted sum of coefficient vectors: a column is itself with weight 1, h is Σ x^(in)·h_i.
pub(crate) type Opened<'c> = Vec<(Fr, Ref<'c, Fr>)>;

/// Opening of the polynomial with an index at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) poly: usize,
    pub(crate) point: Fr,
}

/// The polynomials of a proof, as long as they are needed.
pub(crate) trait Polys: Retreat {
    /// All of them, in the order of the queries' indices.
    fn opened(&self, session: &Session<'_>) -> Vec<Opened<'_>>;
}

/// Proves the openings of the queries, in their order. The polynomials are given up as early as may be.
pub(crate) fn open<P: Polys>(
    session: &mut Session<'_>,
    scheme: Multiopen,
    polys: P,
    queries: &[Query],
) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    if !queries.iter().all(|q| seen.insert((q.poly, ff::PrimeField::to_repr(&q.point)))) {
        return Err(Error::Unsupported("two rotations of a column that coincide at this k".into()));
    }
    match scheme {
        Multiopen::Shplonk => shplonk(session, polys, queries),
        Multiopen::Gwc => gwc(session, polys, queries),
    }
}

/// Linear combinations of the polynomials. On the host they replace them; on a device they can be lost, so the polynomials stay.
struct Combined<P> {
    polys: Option<P>,
    lists: Vec<Vec<usize>>,
    base: Fr,
    sums: Vec<Column>,
}

impl<P: Polys> Combined<P> {
    /// `Σ_j base^j·P_j` over each list.
    fn new(session: &mut Session<'_>, mut polys: P, lists: Vec<Vec<usize>>, base: Fr) -> Result<Self> {
        let sums = session.attempt(&mut polys, |session, polys| weighted(session, polys, &lists, base))?;
        let polys = session.resident.is_some().then_some(polys);
        Ok(Combined { polys, lists, base, sums })
    }
}

impl<P: Polys> Retreat for Combined<P> {
    fn retreat(&mut self, session: &Session<'_>) -> Result<()> {
        if let Some(mut polys) = self.polys.take() {
            polys.retreat(session)?;
            self.sums = weighted(session, &polys, &self.lists, self.base)?;
        }
        Ok(())
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

fn shplonk<P: Polys>(session: &mut Session<'_>, polys: P, queries: &[Query]) -> Result<()> {
    let y = session.channel.squeeze();
    let (points, sets) = rotation_sets(queries);
    let v = session.channel.squeeze();
    // N_i = Σ_j y^j·P_ij.
    let (at, lists): (Vec<Vec<usize>>, Vec<Vec<usize>>) =
        sets.into_iter().map(|set| (set.points, set.polys)).unzip();
    let mut combined = Combined::new(session, polys, lists, y)?;

    let (commitment, h) = session.attempt(&mut combined, |session, combined| {
        let h = quotient_sum(session, &combined.sums, &at, &points, v)?;
        Ok((session.commitments(&[h.as_ref()])?, h))
    })?;
    session.write_points(&commitment)?;
    let mut divided = Divided { combined, h, at, points, v };

    let u = session.channel.squeeze();
    let commitment = session.attempt(&mut divided, |session, divided| divided.witness(session, u))?;
    session.write_points(&commitment)
}

/// The first quotient beside what it was made from.
struct Divided<P> {
    combined: Combined<P>,
    h: Column,
    /// For each combination, the points at which its polynomials are opened, as indices into `points`.
    at: Vec<Vec<usize>>,
    points: Vec<Fr>,
    v: Fr,
}

impl<P: Polys> Retreat for Divided<P> {
    fn retreat(&mut self, session: &Session<'_>) -> Result<()> {
        self.combined.retreat(session)?;
        self.h = quotient_sum(session, &self.combined.sums, &self.at, &self.points, self.v)?;
        Ok(())
    }
}

impl<P: Polys> Divided<P> {
    /// The commitment to L / (X − u), where L = Σ_i v^i·z_i·N_i − z_T·h, all divided by z_0, and z_i is the product of u − p over the
    /// points that set i lacks.
    fn witness(&self, session: &Session<'_>, u: Fr) -> Result<Vec<G1Affine>> {
        let vanishing = |without: &[usize]| -> Fr {
            let lacking = self.points.iter().enumerate().filter(|(i, _)| !without.contains(i));
            lacking.map(|(_, p)| u - p).product()
        };
        let z0 = self.at.first().map_or(Fr::ONE, |at| vanishing(at));
        let scale: Fr = Option::from(z0.invert())
            .ok_or_else(|| Error::Unsupported("a challenge that hits an opening point".into()))?;
        let mut terms: Vec<_> = powers(self.v)
            .zip(self.at.iter().zip(&self.combined.sums))
            .map(|(weight, (at, sum))| (weight * vanishing(at) * scale, sum.as_ref()))
            .collect();
        terms.push((-vanishing(&[]) * scale, self.h.as_ref()));
        let mut l = session.column()?;
        session.engine().linear_combination(&terms, l.as_mut())?;
        session.engine().divide_by_linear(l.as_mut(), u)?;
        session.commitments(&[l.as_ref()])
    }
}

/// `Σ_i v^i·N_i / Z_i`, one quotient at a time.
fn quotient_sum(
    session: &Session<'_>,
    sums: &[Column],
    at: &[Vec<usize>],
    points: &[Fr],
    v: Fr,
) -> Result<Column> {
    let engine = session.engine();
    let mut h = session.zeros()?;
    let (mut quotient, mut next) = (session.column()?, session.column()?);
    for (weight, (at, sum)) in powers(v).zip(at.iter().zip(sums)) {
        engine.linear_combination(&[(Fr::ONE, sum.as_ref())], quotient.as_mut())?;
        for point in at {
            engine.divide_by_linear(quotient.as_mut(), points[*point])?;
        }
        let terms = [(Fr::ONE, h.as_ref()), (weight, quotient.as_ref())];
        engine.linear_combination(&terms, next.as_mut())?;
        std::mem::swap(&mut h, &mut next);
    }
    Ok(h)
}

fn gwc<P: Polys>(session: &mut Session<'_>, polys: P, queries: &[Query]) -> Result<()> {
    let v = session.channel.squeeze();
    let mut groups: Vec<(Fr, Vec<usize>)> = Vec::new();
    for query in queries {
        match groups.iter_mut().find(|(point, _)| *point == query.point) {
            Some((_, list)) => list.push(query.poly),
            None => groups.push((query.point, vec![query.poly])),
        }
    }
    let (points, lists): (Vec<Fr>, Vec<Vec<usize>>) = groups.into_iter().unzip();
    let mut polys = polys;
    // The division is in place, so the combinations are made anew when it fails.
    let commitments = session.attempt(&mut polys, |session, polys| {
        let mut sums = weighted(session, polys, &lists, v)?;
        for (point, sum) in points.iter().zip(&mut sums) {
            session.engine().divide_by_linear(sum.as_mut(), *point)?;
        }
        session.commitments(&sums.iter().map(Column::as_ref).collect::<Vec<_>>())
    })?;
    session.write_points(&commitments)
}

/// `Σ_j base^j·P_j` over each list of polynomials.
fn weighted<P: Polys>(
    session: &Session<'_>,
    polys: &P,
    lists: &[Vec<usize>],
    base: Fr,
) -> Result<Vec<Column>> {
    let opened = polys.opened(session);
    let sums = lists.iter().map(|list| {
        let mut out = session.column()?;
        let terms: Vec<_> = powers(base)
            .zip(list)
            .flat_map(|(power, index)| opened[*index].iter().map(move |(w, p)| (*w * power, *p)))
            .collect();
        session.engine().linear_combination(&terms, out.as_mut())?;
        Ok(out)
    });
    sums.collect()
}

fn powers(base: Fr) -> impl Iterator<Item = Fr> {
    std::iter::successors(Some(Fr::ONE), move |p| Some(*p * base))
}
