//! The places where the circuit's code lays a constraint down, by name.
//!
//! Every call that adds a constraint names its [`Site`]. In tests one site can be switched off, and some test has to notice; elsewhere [`on`] is
//! `true` and costs nothing.

macro_rules! sites {
    ($($name:ident: $what:literal,)*) => {
        /// A place where a constraint is laid down.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Site {
            $(#[doc = $what] $name,)*
        }

        #[cfg(test)]
        impl Site {
            /// All of them.
            pub(crate) const ALL: &[Site] = &[$(Site::$name,)*];

            /// What is missing without it.
            pub(crate) fn what(self) -> &'static str {
                match self {
                    $(Site::$name => $what,)*
                }
            }
        }
    };
}

sites! {
    // Values that the prover gives.
    InputBit: "a bit is 0 or 1",
    InputConstant: "an input of one possible value has it",
    InputWhole: "a value that is one limb is in its range",
    InputLow: "the low limbs of a given value",
    InputTop: "the top limb of a given value",
    InputSum: "a given value is the sum of its limbs",
    InputShifted: "a top limb times a power of two is one limb",
    InputShift: "what is checked there is the top limb times that power",
    InputAboveLow: "the low limbs of x − lo",
    InputAboveTop: "the top limb of x − lo",
    InputAboveSum: "x − lo is the sum of its limbs",
    InputBelowLow: "the low limbs of hi − x",
    InputBelowTop: "the top limb of hi − x",
    InputBelowSum: "hi − x is the sum of its limbs",
    BoundWhole: "an element that is hashed is in its range, in one limb",
    BoundLow: "the low limbs of an element that is hashed",
    BoundTop: "the top limb of an element that is hashed",
    BoundSum: "an element that is hashed is the sum of its limbs",
    // Sums.
    PartialSum: "a partial sum of many operands",
    OperandSum: "a cell that is the sum of operands",
    LinearSum: "a sum without a shift",
    LinearWhole: "a shifted sum in one limb is in its range",
    LinearLow: "the low limbs of a shifted sum",
    LinearTop: "the top limb of a shifted sum",
    LinearLimbs: "a shifted sum is the sum of its limbs",
    LinearRelu: "max(v, 0) from a table",
    LinearSign: "the sign of a shifted sum",
    LinearSignLow: "the low limbs beside a sign",
    LinearPositive: "max(v, 0) from a sign",
    LinearRemainder: "the bits that a shift drops",
    LinearShift: "a sum is its shifted value and what the shift drops",
    // Functions.
    TableUse: "a function from its table",
    PieceUse: "value and slope of a piece from their table",
    PieceRemainder: "the distance from a knot",
    PieceSplit: "an operand is a knot and a distance",
    StepWhole: "a sign from the table of one limb",
    StepLow: "the low limbs beside a step's sign",
    StepSign: "a step's sign from its top limb",
    StepSum: "a step's operand is the sum of its limbs",
    // Quotients.
    DivQuotientLow: "the low limbs of a quotient",
    DivQuotientTop: "the top limb of a quotient",
    DivQuotientSum: "a quotient is the sum of its limbs",
    DivRemainderLow: "the low limbs of a remainder",
    DivRemainderTop: "the top limb of a remainder",
    DivRemainderSum: "a remainder is the sum of its limbs",
    DivGapLow: "the low limbs of divisor − remainder − 1",
    DivGapTop: "the top limb of divisor − remainder − 1",
    DivStrict: "a remainder is less than the divisor",
    DivEquation: "numerator = quotient · divisor + remainder",
    // Roots.
    RootLow: "the low limbs of a root",
    RootTop: "the top limb of a root",
    RootSum: "a root is the sum of its limbs",
    RootRemainderLow: "the low limbs of x − y²",
    RootRemainderTop: "the top limb of x − y²",
    RootRemainderSum: "x − y² is the sum of its limbs",
    RootGapLow: "the low limbs of 2y − (x − y²)",
    RootGapTop: "the top limb of 2y − (x − y²)",
    RootGap: "x < (y + 1)²",
    RootEquation: "x = y² + remainder",
    // Maxima.
    MaxGain: "max(x − m, 0) from a table",
    MaxDifference: "the key of that table is x − m",
    MaxAdd: "the new maximum is m + max(x − m, 0)",
    MaxLow: "the low limbs of x − m",
    MaxSign: "the sign of x − m",
    MaxSum: "x − m is the sum of its limbs",
    MaxChoice: "the new maximum is the greater of two",
    MaxIndex: "the new index is that of the greater",
    // Sorted rows.
    SortKey: "a key is ±x·2^bits + i",
    SortValueLow: "the low limbs of a sorted value",
    SortValueTop: "the top limb of a sorted value",
    SortValueSum: "a sorted value is the sum of its limbs",
    SortIndexLimbs: "the limbs of a sorted index",
    SortIndexSum: "a sorted index is the sum of its limbs",
    SortGapLow: "the low limbs of the distance of two keys",
    SortGapTop: "the top limb of the distance of two keys",
    SortOrder: "a key is greater than the one before",
    // Tables of cells.
    GatherKey: "the key of a gathered element is index·width + column",
    GatherUse: "a gathered element is an entry",
    RowUse: "a row that is read is a row of the table",
    // Cells on units.
    RangeLane: "range lookups of units",
    FunctionLane: "function lookups of units",
    UnitEquation: "the gate of unit equations",
    // Copies.
    OperandCell: "operands of units are copies of the cells that they read",
    OperandConstant: "constant operands of units",
    SharedVariable: "a variable on several units has one value",
    IdleOperand: "operands of units that pad a row",
    ScalarFirst: "first operands of scalar rows are copies",
    ScalarSecond: "second operands of scalar rows are copies",
    PublicTie: "public values are copies of the instance",
    DigestZero: "what no element fills in a digest is zero",
    DigestMessage: "messages are results of packing, states those of the block before",
    DigestSource: "digits of a digest are copies of elements",
    DigestTie: "a digest is a copy of the instance",
    CommittedTie: "committed elements are copies of elements",
    // Folds.
    EinsumIdentity: "the identity of sums of products",
    ConvolutionIdentity: "the identity of a convolution",
    SortIdentity: "a sorted row is a permutation",
    SweepGate: "running sums over units",
    StoreGate: "running sums over weights and junk",
    StorePart: "padding of the store that stands at an output's power is not read",
    JunkPlaces: "junk stands at positions that no output has",
    ScalarGate: "scalar rows",
    ScalarZero: "identities are zero",
    // Lookups.
    StoreLane: "weights are in the range of the store",
    LookupGate: "running sums of lookups",
    LookupTag: "a value of one table is none of another",
    LookupFirst: "running sums of lookups begin at zero",
    LookupLast: "running sums of lookups end at zero",
    // Digests.
    DigestSquareFull: "squares of full rounds",
    DigestSquarePartial: "squares of partial rounds",
    DigestInner: "inputs of the inner S-boxes of partial rounds",
    DigestNextFull: "states after full rounds",
    DigestNextPartial: "states after partial rounds",
    DigestAbsorb: "states after an absorption",
    DigestPack: "packing of digits",
}

/// Whether a site lays its constraints down.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: Site) -> bool {
    true
}

#[cfg(test)]
pub(crate) use switch::{on, without};

/// One site of one thread, switched off.
#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Site;

    thread_local! {
        static OFF: Cell<Option<Site>> = const { Cell::new(None) };
    }

    pub(crate) fn on(site: Site) -> bool {
        OFF.get() != Some(site)
    }

    /// Runs `f` without a site, on one thread, so that all of `f` sees the same circuit.
    pub(crate) fn without<T: Send>(site: Site, f: impl FnOnce() -> T + Send) -> T {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| {
            OFF.set(Some(site));
            let out = f();
            OFF.set(None);
            out
        })
    }
}
