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
    let mut products = Vec::with_capacity(programs.permutation.len());
    let mut first = Fr::one();
    for program in &programs.permutation {
        let factors = session.evaluate(program, &column, &challenges)?;
        let z = running_product(session, factors, first)?;
        first = z[session.usable_rows()];
        products.push(z);
    }
    Ok(products)
}

/// The running product of one lookup. `compress` are the challenges of [`Programs::compress`].
pub(crate) fn lookup<'c>(
    session: &mut Session<'_>,
    programs: &Programs,
    column: impl Fn(Key) -> &'c [Fr],
    (index, lookup): (usize, &Permuted),
    compress: &[Fr],
    challenges: [Fr; 2],
) -> Result<Vec<Fr>> {
    let unknown = || Error::Unsupported("a lookup that its key does not have".into());
    let program = programs.lookup.as_ref().ok_or_else(unknown)?;
    // Evaluated a second time: that is cheaper than to keep two columns per lookup since they were permuted.
    let compression = programs.compress.get(index).ok_or_else(unknown)?;
    let [input, table] = pair(session.evaluate(compression, column, compress)?)?;
    let column = |key: Key| match key {
        Key::CompressedInput(_) => input.as_slice(),
        Key::CompressedTable(_) => &table,
        Key::PermutedInput(_) => &lookup.input,
        _ => &lookup.table,
    };
    let factors = session.evaluate(program, column, &challenges)?;
    drop((input, table));
    running_product(session, factors, Fr::one())
}

/// The two results of a program.
pub(crate) fn pair(results: Vec<Vec<Fr>>) -> Result<[Vec<Fr>; 2]> {
    results.try_into().map_err(|_| Error::Unsupported("a program without two results".into()))
}

/// `factors`: numerator and denominator.
fn running_product(session: &mut Session<'_>, factors: Vec<Vec<Fr>>, first: Fr) -> Result<Vec<Fr>> {
    let [numerator, mut denominator] = pair(factors)?;
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
