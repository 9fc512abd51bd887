//! A proving key made ready for an engine.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::Bn256;
use parhelion_backend_api::SpaceId;

use crate::bases::SrsBases;
use crate::program::Programs;
use crate::srs::Srs;
use crate::{Engine, Error, ProvingKey, Result, VerifyingKey, keys, lean, memory};

/// A proving key with everything that is made once and used by every proof: the bases of its structured reference
/// string as the engine's backends want them, and the circuit's constraints as compiled programs. Cheap to clone;
/// usable from any thread.
///
/// It works with the engine that it was prepared for, and with clones of it.
///
/// # Memory
///
/// A key that is given by value (or as the only [`Arc`] of it) is cut down to what proofs on the host read: columns by
/// coefficients. That is about half of it; see [`PreparedKey::pk`] for the whole. A key that others hold too is
/// shared with them, and a key for an engine with devices stays whole: they may keep its columns in both forms.
#[derive(Clone, Debug)]
pub struct PreparedKey {
    pk: Arc<ProvingKey>,
    /// The whole key, once somebody asked for it and if `pk` is not it.
    complete: Arc<OnceLock<ProvingKey>>,
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
        let bases = SrsBases::new(engine, srs);
        let programs = Programs::new(engine, pk.get_vk().cs(), k)?;
        let pk = match Arc::try_unwrap(pk) {
            Ok(pk) if !has_device(engine) => match lean::lean(&pk) {
                Some(lean) => {
                    drop(pk);
                    memory::release();
                    lean.into()
                }
                None => pk.into(),
            },
            Ok(pk) => pk.into(),
            Err(shared) => shared,
        };
        let verifier_params = Arc::new(srs.verifier_params());
        Ok(PreparedKey { pk, complete: Arc::default(), bases, programs, verifier_params })
    }

    /// The proving key as it was given. Where it was cut down, it is put together at the first call and kept from then on, beside
    /// what proofs use: to write a key, use [`PreparedKey::write_pk`].
    pub fn pk(&self) -> &ProvingKey {
        if lean::is_lean(&self.pk) {
            self.complete.get_or_init(|| lean::complete(&self.pk))
        } else {
            &self.pk
        }
    }

    /// Writes the whole proving key as [`keys::write_pk`] does; where it was cut down, one column at a time is put together.
    ///
    /// # Errors
    /// The writer's own; [`KeyError::Engine`](keys::KeyError::Engine).
    pub fn write_pk(&self, engine: &Engine, writer: impl Write) -> Result<(), keys::KeyError> {
        keys::write_held(engine, self.complete.get().unwrap_or(&self.pk), writer)
    }

    /// The verifying key, for verification and for writing. Where the proving key was cut down, its domain is without twiddle
    /// factors: whoever wants transforms of it, or to make keys from it, takes that of [`PreparedKey::pk`].
    pub fn vk(&self) -> &VerifyingKey {
        self.pk.get_vk()
    }

    /// halo2's parameters for a verifier of this key's proofs.
    pub fn verifier_params(&self) -> &ParamsKZG<Bn256> {
        &self.verifier_params
    }

    /// The key as proofs read it.
    pub(crate) fn held(&self) -> &ProvingKey {
        &self.pk
    }

    pub(crate) fn bases(&self) -> &SrsBases {
        &self.bases
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }
}

/// Whether there is a device that columns might stay on.
fn has_device(engine: &Engine) -> bool {
    engine.devices().iter().any(|device| device.info.space != SpaceId::HOST)
}
