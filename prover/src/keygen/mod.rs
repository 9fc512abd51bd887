//! Verifying and proving keys, equal to upstream's byte for byte.
//!
//! One synthesis gives both keys. All fixed and σ columns are committed in one batch and transformed in one batch.

mod assembly;
mod cycles;

use ff::Field;
use halo2_axiom::plonk::{self, Circuit, ConstraintSystem, FloorPlanner, permutation};
use halo2_axiom::poly::{EvaluationDomain, Polynomial};
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::NttPlan;
use parhelion_backend_api::hal::{Ref, RefMut};

use self::assembly::{Assembled, Assembly};
use crate::bases::SrsBases;
use crate::memory::Plan;
use crate::srs::Srs;
use crate::{Engine, Error, ProvingKey, Result, VerifyingKey};

/// How keys are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeygenOptions {
    /// Combine selectors into fewer fixed columns (halo2's `compress_selectors`); off by default, as upstream.
    pub compress_selectors: bool,
}

impl KeygenOptions {
    /// With selector compression.
    pub fn compressed() -> Self {
        KeygenOptions { compress_selectors: true }
    }
}

/// Makes both keys of a circuit. The verifying key is inside: [`ProvingKey::get_vk`](plonk::ProvingKey::get_vk).
///
/// # Errors
/// [`Error::TooFewRows`] when 2^k rows do not hold the circuit, [`Error::OutOfBounds`] and [`Error::Circuit`] for what its
/// synthesis does wrong, [`Error::Engine`].
pub fn keygen<ConcreteCircuit: Circuit<Fr>>(
    engine: &Engine,
    srs: &Srs,
    circuit: &ConcreteCircuit,
    options: KeygenOptions,
) -> Result<ProvingKey> {
    let bases = SrsBases::new(engine, srs);
    keygen_pk_with(engine, &bases, None, circuit, options.compress_selectors)
}

/// Makes the verifying key of a circuit alone.
///
/// # Errors
/// As [`keygen`].
pub fn keygen_vk<ConcreteCircuit: Circuit<Fr>>(
    engine: &Engine,
    srs: &Srs,
    circuit: &ConcreteCircuit,
    options: KeygenOptions,
) -> Result<VerifyingKey> {
    keygen_vk_with(engine, &SrsBases::new(engine, srs), circuit, options.compress_selectors)
}

pub(crate) fn keygen_vk_with<ConcreteCircuit: Circuit<Fr>>(
    engine: &Engine,
    bases: &SrsBases,
    circuit: &ConcreteCircuit,
    compress: bool,
) -> Result<VerifyingKey> {
    let columns = Columns::synthesize(bases.k(), circuit, compress)?;
    columns.verifying_key(engine, bases).map(|(vk, _)| vk)
}

/// With `vk` the given key is used and nothing is committed.
pub(crate) fn keygen_pk_with<ConcreteCircuit: Circuit<Fr>>(
    engine: &Engine,
    bases: &SrsBases,
    vk: Option<VerifyingKey>,
    circuit: &ConcreteCircuit,
    compress: bool,
) -> Result<ProvingKey> {
    let columns = Columns::synthesize(bases.k(), circuit, compress)?;
    let (vk, parts) = match vk {
        Some(vk) => (vk, Parts { fixed: columns.fixed, sigma: columns.sigma }),
        None => columns.verifying_key(engine, bases)?,
    };
    proving_key(engine, bases.k(), vk, parts)
}

/// Everything that the keys are made from.
struct Columns {
    domain: EvaluationDomain<Fr>,
    cs: ConstraintSystem<Fr>,
    selectors: Vec<Vec<bool>>,
    compress: bool,
    fixed: Vec<Vec<Fr>>,
    sigma: Vec<Vec<Fr>>,
}

/// The columns of a proving key in the Lagrange basis.
struct Parts {
    fixed: Vec<Vec<Fr>>,
    sigma: Vec<Vec<Fr>>,
}

impl Columns {
    fn synthesize<C: Circuit<Fr>>(k: u32, circuit: &C, compress: bool) -> Result<Self> {
        let mut cs = ConstraintSystem::default();
        let config = C::configure_with_params(&mut cs, circuit.params());
        if (1usize << k) < cs.minimum_rows() {
            return Err(Error::TooFewRows { needed: cs.minimum_rows(), k });
        }
        let degree = cs.degree();
        if (degree as u64 - 1).next_power_of_two().ilog2() + k > <Fr as ff::PrimeField>::S {
            return Err(Error::Unsupported(format!(
                "degree {degree} at k = {k}: the extended domain is too large"
            )));
        }
        let mut assembly = Assembly::new(k, &cs)?;
        C::FloorPlanner::synthesize(&mut assembly, circuit, config, cs.constants().clone())?;
        let Assembled { mut fixed, selectors, cycles } = assembly.finish()?;
        let (cs, selectors, selector_columns) = if compress {
            let (cs, columns) = cs.compress_selectors(selectors.clone());
            (cs, selectors, columns)
        } else {
            let (cs, columns) = cs.directly_convert_selectors_to_fixed(selectors);
            (cs, Vec::new(), columns)
        };
        fixed.extend(selector_columns);
        let domain = EvaluationDomain::new(degree as u32, k);
        let sigma = cycles.sigma(domain.get_omega());
        Ok(Columns { domain, cs, selectors, compress, fixed, sigma })
    }

    fn verifying_key(self, engine: &Engine, bases: &SrsBases) -> Result<(VerifyingKey, Parts)> {
        let all: Vec<Ref<'_, Fr>> = self.fixed.iter().chain(&self.sigma).map(|c| Ref::host(c)).collect();
        let mut fixed_commitments =
            bases.commit_lagrange(engine, &all, None, Plan::commit_columns(engine, bases.k()))?;
        let sigma_commitments = fixed_commitments.split_off(self.fixed.len());
        let vk = plonk::VerifyingKey::from_parts(
            self.domain,
            fixed_commitments,
            permutation::VerifyingKey::from_commitments(sigma_commitments),
            self.cs,
            self.selectors,
            self.compress,
        );
        Ok((vk, Parts { fixed: self.fixed, sigma: self.sigma }))
    }
}

fn proving_key(engine: &Engine, k: u32, vk: VerifyingKey, parts: Parts) -> Result<ProvingKey> {
    let n = 1usize << k;
    let blinding = vk.cs().blinding_factors();
    let last = n - blinding - 1;
    let indicator = |rows: std::ops::Range<usize>| {
        let mut column = vec![Fr::ZERO; n];
        column[rows].fill(Fr::ONE);
        column
    };
    let mut polys: Vec<Vec<Fr>> = parts.fixed.iter().chain(&parts.sigma).cloned().collect();
    polys.extend([indicator(0..1), indicator(last..last + 1), indicator(0..last)]);
    let mut columns: Vec<_> = polys.iter_mut().map(|p| RefMut::host(p)).collect();
    engine.ntt_batch(&NttPlan::inverse(k), &mut columns)?;
    drop(columns);

    let mut polys = polys.into_iter();
    let mut take = |count: usize| polys.by_ref().take(count).map(Polynomial::new).collect::<Vec<_>>();
    let fixed_polys = take(parts.fixed.len());
    let sigma_polys = take(parts.sigma.len());
    let [l0, l_last, l_active] = <[_; 3]>::try_from(take(3))
        .map_err(|_| Error::Unsupported("a proving key without Lagrange polynomials".into()))?;
    let lagrange = |columns: Vec<Vec<Fr>>| columns.into_iter().map(Polynomial::new).collect::<Vec<_>>();
    Ok(plonk::ProvingKey::from_parts(
        vk,
        l0,
        l_last,
        l_active,
        lagrange(parts.fixed),
        fixed_polys,
        permutation::ProvingKey::<G1Affine>::from_parts(lagrange(parts.sigma), sigma_polys),
    ))
}
