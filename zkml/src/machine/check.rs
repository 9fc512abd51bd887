//! Checking a witness without a proof.

use std::sync::Arc;

use halo2_axiom::dev::MockProver;

use super::circuit::ModelCircuit;
use super::plan::{Plan, ProveError};

/// What a mock run finds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MockError {
    /// No witness.
    #[error(transparent)]
    Witness(#[from] ProveError),
    /// Constraints that do not hold.
    #[error("{0}")]
    Failed(String),
}

/// Checks all constraints of a trace's witness.
///
/// # Errors
///
/// [`MockError`] with the layer and element, in the model's names.
pub fn mock(plan: &Plan, trace: &[Option<Arc<[i64]>>]) -> Result<(), MockError> {
    let circuit = ModelCircuit::with_trace(plan, trace)?;
    let instances = circuit.instances();
    let prover = MockProver::run(plan.k(), &circuit, instances).map_err(|e| MockError::Failed(format!("{e:?}")))?;
    prover.verify().map_err(|e| MockError::Failed(format!("{:?}", e.first())))
}
