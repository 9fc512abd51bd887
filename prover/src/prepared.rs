//! A proving key made ready for an engine.

use std::sync::Arc;

use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::Bn256;

use crate::bases::SrsBases;
use crate::program::Programs;
use crate::srs::Srs;
use crate::{Engine, Error, ProvingKey, Result, VerifyingKey};

/// A proving key with everything that is made once and used by every proof: the bases of its structured reference
/// string as the engine's backends want them, and the circuit's constraints as compiled programs. Cheap to clone;
/// usable from any thread.
///
/// It works with the engine that it was prepared for, and with clones of it.
#[derive(Clone, Debug)]
pub struct PreparedKey {
    pk: Arc<ProvingKey>,
    bases: SrsBases,
    programs: Programs,
    verifier_params: Arc<ParamsKZG<Bn256>>,
}

impl PreparedKey {
    /// Prepares a key. What backends make of bases and programs is made when they first run.
    ///
    /// # Errors
    /// [`Error::WrongSize`] when key and string have different k.
    pub fn new(engine: &Engine, srs: &Srs, pk: impl Into<Arc<ProvingKey>>) -> Result<Self> {
        let pk = pk.into();
        let k = pk.get_vk().get_domain().k();
        if k != srs.k() {
            return Err(Error::WrongSize { key: k, srs: srs.k() });
        }
        Ok(PreparedKey {
            bases: SrsBases::new(engine, srs),
            programs: Programs::new(engine, pk.get_vk().cs(), k)?,
            verifier_params: Arc::new(srs.verifier_params()),
            pk,
        })
    }

    /// The proving key.
    pub fn pk(&self) -> &ProvingKey {
        &self.pk
    }

    /// The verifying key.
    pub fn vk(&self) -> &VerifyingKey {
        self.pk.get_vk()
    }

    /// halo2's parameters for a verifier of this key's proofs.
    pub fn verifier_params(&self) -> &ParamsKZG<Bn256> {
        &self.verifier_params
    }

    pub(crate) fn bases(&self) -> &SrsBases {
        &self.bases
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }
}
