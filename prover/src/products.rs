//! The running products of the permutation and lookup arguments.
//!
//! For factors f_i = numerator_i / denominator_i the product z has z_0 = 1 and z_{i+1} = z_i·f_i. The columns under the
//! permutation argument are divided into sets; the product of a set starts where the one before it ended, at the last
//! usable row. The rows after that are blinding.

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::Ref;

use crate::lookup::Permuted;
use crate::program::{Key, Programs};
use crate::resident::{Column, Values};
use crate::session::Session;
use crate::{Error, Result};

/// One running product per set of the permutation argument.
pub(crate) fn permutation<'c>(
    session: &mut Session<'_>,
    programs: &Programs,
    column: impl Fn(&Session<'_>, Key) -> Ref<'c, Fr>,
    challenges: [Fr; 2],
) -> Result<Vec<Values>> {
    let mut products = Vec::with_capacity(programs.permutation.len());
    let mut first = Fr::one();
    for program in &programs.permutation {
        let factors =
            |session: &Session<'_>| session.evaluate(program, |key| column(session, key), &challenges);
        let z = running_product(session, factors, first)?;
        first = z.host[session.usable_rows()];
        products.push(z);
    }
    Ok(products)
}

/// The running product of one lookup. `compress` are the challenges of [`Programs::compress`].
pub(crate) fn lookup<'c>(
    session: &mut Session<'_>,
    programs: &Programs,
    column: impl Fn(&Session<'_>, Key) -> Ref<'c, Fr>,
    (index, lookup): (usize, &Permuted),
    compress: &[Fr],
    challenges: [Fr; 2],
) -> Result<Values> {
    let unknown = || Error::Unsupported("a lookup that its key does not have".into());
    let program = programs.lookup.as_ref().ok_or_else(unknown)?;
    // Evaluated a second time: that is cheaper than to keep two columns per lookup since they were permuted.
    let compression = programs.compress.get(index).ok_or_else(unknown)?;
    let factors = |session: &Session<'_>| {
        let [input, table] = pair(session.evaluate(compression, |key| column(session, key), compress)?)?;
        let column = |key: Key| match key {
            Key::CompressedInput(_) => input.as_ref(),
            Key::CompressedTable(_) => table.as_ref(),
            Key::PermutedInput(_) => lookup.input.at(session),
            _ => lookup.table.at(session),
        };
        session.evaluate(program, column, &challenges)
    };
    running_product(session, factors, Fr::one())
}

/// The two results of a program.
pub(crate) fn pair(results: Vec<Column>) -> Result<[Column; 2]> {
    results.try_into().map_err(|_| Error::Unsupported("a program without two results".into()))
}

/// `factors`: numerator and denominator.
fn running_product(
    session: &mut Session<'_>,
    factors: impl Fn(&Session<'_>) -> Result<Vec<Column>>,
    first: Fr,
) -> Result<Values> {
    let (mut z, made) = session.attempt(&mut (), |session, ()| {
        let [numerator, mut z] = pair(factors(session)?)?;
        let engine = session.engine();
        engine.batch_invert(z.as_mut())?;
        engine.multiply(z.as_mut(), numerator.as_ref())?;
        drop(numerator);
        engine.running_product(z.as_mut(), first)?;
        Ok(match z {
            Column::Host(z) => (z, None),
            Column::Device(buffer) => {
                let mut z = vec![Fr::zero(); buffer.len()];
                engine.read(&buffer.as_ref(), &mut z)?;
                (z, Some(buffer))
            }
        })
    })?;
    let blinding = session.usable_rows() + 1;
    for cell in &mut z[blinding..] {
        *cell = session.draw();
    }
    // The blinding factor of the commitment, which KZG has no use for.
    session.draw();
    session.settle_made(made, z, blinding)
}
