//! What the multi-scalar multiplication asks of an instruction set: affine additions, many at a time.

use halo2curves::bn256::G1Affine;

/// The bit of an operand in a [`Pair`] that asks for its negation.
pub(crate) const NEGATE: u32 = 1 << 31;

/// One addition: `dst[to] = src[a] + src[b]`, where [`NEGATE`] in `a` or `b` negates that operand.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(crate) struct Pair {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) to: u32,
}

/// Affine points of G1 in the layout that one instruction set computes on.
pub(crate) trait Points: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// A point, the identity included.
    type Point: Copy + Send + Sync + std::fmt::Debug + 'static;
    /// Reusable memory of [`Points::add_pairs`].
    type Workspace: Default;
    /// The identity.
    const IDENTITY: Self::Point;
    /// Additions per vector: the granularity below which work is wasted.
    const LANES: usize;

    /// From the canonical layout.
    fn from_affine(self, point: &G1Affine) -> Self::Point;
    /// To the canonical layout.
    fn to_affine(self, point: &Self::Point) -> G1Affine;
    /// Whether it is the identity.
    fn is_identity(point: &Self::Point) -> bool;
    /// The inverse in the group.
    fn negate(point: &Self::Point) -> Self::Point;

    /// All additions of `pairs`, which share their inversions. Every case is handled: identities, doublings, inverses.
    ///
    /// # Safety
    /// For every pair, `a` and `b` without their [`NEGATE`] bit are in bounds of `src` and `to` is in bounds of `dst`. If `src` and
    /// `dst` overlap, no pair's `to` is an operand of another pair.
    unsafe fn add_pairs(
        self,
        src: *const Self::Point,
        dst: *mut Self::Point,
        pairs: &[Pair],
        workspace: &mut Self::Workspace,
    );

    /// Canonical values of scalars in Montgomery form.
    fn canonical(self, scalars: &[halo2curves::bn256::Fr], out: &mut [[u64; 4]]);
}
