//! The running products of the permutation and lookup arguments.
//!
//! For factors f_i = numerator_i / denominator_i the product z has z_0 = 1 and z_{i+1} = z_i·f_i. The columns under the
//! permutation argument are divided into sets; the product of a set starts where the one before it ended, at the last
//! usable row. The rows after that are blinding.

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};

use crate::lookup::Permuted;
use crate::program::{Key, Programs};
use crate::session::Session;
use crate::{Error, Result};

/// One running product per set of the permutation argument.
pub(crate) fn permutation<'c>(
    session: &mut Session<'_>,
    programs: &Programs,
    column: impl Fn(Key) -> &'c [Fr],
    challenges: [Fr; 2],
) -> Result<Vec<Vec<Fr>>> {
    let Some(program) = &programs.permutation else { return Ok(Vec::new()) };
    let mut factors = session.evaluate(program, column, &challenges)?.into_iter();
    let mut products = Vec::new();
    let mut first = Fr::one();
    while let (Some(numerator), Some(denominator)) = (factors.next(), factors.next()) {
        let z = running_product(session, numerator, denominator, first)?;
        first = z[session.usable_rows()];
        products.push(z);
    }
    Ok(products)
}

/// The running product of one lookup.
pub(crate) fn lookup(
    session: &mut Session<'_>,
    programs: &Programs,
    lookup: &mut Permuted,
    challenges: [Fr; 2],
) -> Result<Vec<Fr>> {
    let program = programs
        .lookup
        .as_ref()
        .ok_or_else(|| Error::Unsupported("a lookup that its key does not have".into()))?;
    let column = |key: Key| match key {
        Key::CompressedInput(_) => lookup.compressed_input.as_slice(),
        Key::CompressedTable(_) => &lookup.compressed_table,
        Key::PermutedInput(_) => &lookup.input,
        _ => &lookup.table,
    };
    let factors = session.evaluate(program, column, &challenges)?;
    // Only the permuted columns are needed from here on.
    (lookup.compressed_input, lookup.compressed_table) = (Vec::new(), Vec::new());
    let [numerator, denominator] = <[Vec<Fr>; 2]>::try_from(factors)
        .map_err(|_| Error::Unsupported("a lookup program without two results".into()))?;
    running_product(session, numerator, denominator, Fr::one())
}

fn running_product(
    session: &mut Session<'_>,
    numerator: Vec<Fr>,
    mut denominator: Vec<Fr>,
    first: Fr,
) -> Result<Vec<Fr>> {
    let engine = session.engine;
    engine.batch_invert(RefMut::host(&mut denominator))?;
    engine.multiply(RefMut::host(&mut denominator), Ref::host(&numerator))?;
    drop(numerator);
    let mut z = denominator;
    engine.running_product(RefMut::host(&mut z), first)?;
    let usable = session.usable_rows();
    for cell in &mut z[usable + 1..] {
        *cell = session.draw();
    }
    // The blinding factor of the commitment, which KZG has no use for.
    session.draw();
    Ok(z)
}
