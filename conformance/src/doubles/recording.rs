//! A backend that writes down what it is asked, so that a proof's calls can be run again without the proof.

use std::sync::{Arc, Mutex, PoisonError};

use halo2curves::bn256::G1Affine;
use parhelion_backend_api::hal::{DeviceInfo, RefMut, Result};
use parhelion_backend_api::{Backend, Curve, Provider, Unavailable};
use parhelion_dispatch::Shape;

use super::intercept::{Event, Hook, intercept};

#[derive(Debug, Default)]
struct Tape(Mutex<Vec<Shape>>);

impl<C: Curve> Hook<C> for Tape {
    fn before(&self, event: Event, _: &mut [RefMut<'_, C::ScalarExt>]) -> Result<()> {
        if let Event::Run(shape) = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(shape);
        }
        Ok(())
    }
}

/// A backend that keeps the shape of every call, in order, under the name of the backend inside.
///
/// The tape is played again by `parhelion_dispatch::Workload`, on any engine: that is how choices are compared on a real
/// sequence of calls.
#[derive(Clone, Debug)]
pub struct Recording<B> {
    inner: B,
    tape: Arc<Tape>,
}

impl<B> Recording<B> {
    /// A recorder around a backend.
    pub fn new(inner: B) -> Self {
        Recording { inner, tape: Arc::default() }
    }

    /// What was asked so far.
    pub fn tape(&self) -> Vec<Shape> {
        self.tape.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<B: Backend> Backend for Recording<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn probe(&self) -> std::result::Result<Vec<DeviceInfo>, Unavailable> {
        self.inner.probe()
    }

    fn open(&self, device: &DeviceInfo) -> Result<Provider> {
        Ok(intercept::<G1Affine, _>(self.inner.open(device)?, self.inner.name(), &self.tape))
    }
}
