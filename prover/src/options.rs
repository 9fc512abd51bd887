//! How a proof is made.

use halo2curves::bn256::Fr;

use crate::field;

/// How the openings of all polynomials are proved together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Multiopen {
    /// Two group elements, whatever the number of points (Boneh, Drake, Fisch, Gabizon, eprint 2020/081).
    #[default]
    Shplonk,
    /// One group element per point (Gabizon, Williamson, Ciobotaru, eprint 2019/953).
    Gwc,
}

/// Options of [`prove`](crate::prove()).
#[derive(Debug)]
#[non_exhaustive]
pub struct ProveOptions<'a> {
    /// The opening proof; [`Multiopen::Shplonk`] unless told.
    pub multiopen: Multiopen,
    /// Whether the proof is verified before it is returned (a few milliseconds); on unless told.
    pub verify: bool,
    /// Whether a proof in which an untrusted device took part is verified anyway; on in [`prove_recovering`](crate::prove_recovering), which needs to
    /// know, off elsewhere unless told.
    pub verify_devices: bool,
    /// What decides where the protocol leaves a choice; [`Entropy`] unless told.
    pub choices: Option<&'a mut dyn Choices>,
}

impl Default for ProveOptions<'_> {
    fn default() -> Self {
        ProveOptions { multiopen: Multiopen::Shplonk, verify: true, verify_devices: false, choices: None }
    }
}

impl<'a> ProveOptions<'a> {
    /// With the given opening proof.
    pub fn multiopen(self, multiopen: Multiopen) -> Self {
        ProveOptions { multiopen, ..self }
    }

    /// With or without verification.
    pub fn verify(self, verify: bool) -> Self {
        ProveOptions { verify, ..self }
    }

    /// With other choices.
    pub fn choices(self, choices: &'a mut dyn Choices) -> Self {
        ProveOptions { choices: Some(choices), ..self }
    }
}

/// The two things that halo2's protocol leaves to the prover and that upstream does not take from the caller's generator of
/// randomness:
///
/// - the **mask**, a random polynomial that hides h(X): upstream draws it from each thread's own generator;
/// - the **order of the distinct inputs of a lookup** in its permuted column: upstream takes the order of a hash map
///   with random keys.
///
/// So upstream's own proofs differ from run to run with one seed. Everything else is drawn from the caller's generator, in
/// upstream's order; with these two choices equal, the proofs are equal byte for byte.
pub trait Choices: std::fmt::Debug {
    /// n uniformly random coefficients. **They must be secret and fresh for every proof**, or the proof does not
    /// hide the witness.
    fn mask(&mut self, n: usize) -> Vec<Fr>;

    /// Puts the distinct inputs of a lookup, given in ascending order of their canonical value, in the order in
    /// which the permuted column shall have them. `lookup` counts over all circuits of the proof.
    fn order(&mut self, lookup: usize, distinct: &mut [Fr]) {
        let _ = (lookup, distinct);
    }
}

/// The operating system's randomness, as upstream; inputs in ascending order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entropy;

impl Choices for Entropy {
    fn mask(&mut self, n: usize) -> Vec<Fr> {
        field::random_from_seed(field::os_seed(), n)
    }
}

/// A mask from a seed, so that the same seeds give the same bytes on every backend and machine. Whoever knows the seed
/// and the caller's generator can learn the witness from the proof.
#[derive(Clone)]
pub struct Seeded(pub [u8; 32]);

impl std::fmt::Debug for Seeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seeded(…)")
    }
}

impl Choices for Seeded {
    fn mask(&mut self, n: usize) -> Vec<Fr> {
        field::random_from_seed(self.0, n)
    }
}
