//! Test doubles: ordinary backends that are slow, empty, broken, doubtful or talkative on purpose.

mod checked;
mod faulty;
mod intercept;
mod naive;
mod null;
mod recording;
mod remote;

pub use checked::{Checked, Mismatch};
pub use faulty::{Fault, FaultKind, Faulty, FaultyControl};
pub use naive::{Naive, horner, points};
pub use null::Null;
pub use recording::Recording;
pub use remote::Remote;
